"""Fluxes at given places of differences, with the noise that epochs have in common.

The flux is the PSF-weighted sum of pixels, ``Σ p d / Σ p²``: weights that no noise has touched, so that it is linear in
the pixels and unbiased, and nearly the best there is where the noise is white.

The noise of a difference is white, but that of its two images alone is not: what was convolved has low frequencies, the
other has the rest. Its share at each frequency follows from the kernel and from the two variances (the spectra of
DMTN-021), and with it the covariance of two epochs, which have the noise of the reference in common. Where an epoch is
itself among the frames of the reference, a part of its own noise is taken away again: it is in the covariance too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.matched import matched_psf_spectrum
from larun.algorithms.psf import PSF

__all__ = ["Forced", "Noise", "covariance", "forced_flux", "noise_of"]

_SIZE = 128
#: Share of the squares of the PSF that must fall on usable pixels.
_LEAST = 0.5
#: Squares of the PSF that are left out beyond the pixels that are summed.
_CUT = 1e-3


class Forced(NamedTuple):
    """The flux at a place.

    Attributes
    ----------
    flux : float
        NaN where less than half of the PSF's squares fall on usable pixels.
    weight : float
        Sum of the squares of the PSF on usable pixels: where noise is white, the flux has a pixel's variance over it.
    variance, reference : float
        Mean noise variance of a pixel, weighted by the squares of the PSF; what the reference gives to it.
    chi2 : float
        Of what the PSF leaves, by its degrees of freedom.
    share : float
        Share of the squares of the PSF on usable pixels.
    flags : int
        OR within one FWHM.
    """

    flux: float
    weight: float
    variance: float
    reference: float
    chi2: float
    share: float
    flags: int


class Noise(NamedTuple):
    """The noise of a flux as amplitudes at each frequency, (128, 65): of the science image, and of the reference.

    Their squares are variances; the phases are those of the kernels.
    """

    science: NDArray[np.complex128]
    reference: NDArray[np.complex128]


def forced_flux(
    planes: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]],
    psf: PSF,
    x: float,
    y: float,
) -> Forced:
    """The flux of a star at a place.

    Parameters
    ----------
    planes : tuple of ndarray, (ny, nx)
        The difference, all of its noise variance, what the reference gives to that, and the flags.
    psf : PSF
        Of the difference.
    x, y : float
        Pixels.
    """
    data, variance, reference, flags = planes
    nothing = Forced(math.nan, 0.0, math.nan, math.nan, math.nan, 0.0, int(fl.NO_DATA))
    ny, nx = data.shape
    if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        return nothing
    column, row, reach = round(x), round(y), _reach(psf, x, y)
    at = np.arange(-reach, reach + 1)
    whole = psf.values((at + column - x)[None, :], (at + row - y)[:, None], x, y)[0]
    rows, columns = at + row, at + column
    seen = ((rows >= 0) & (rows < ny))[:, None] & ((columns >= 0) & (columns < nx))[None, :]
    window = np.ix_(np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1))
    values, noise = data[window].astype(np.float64), variance[window].astype(np.float64)
    good = seen & ((flags[window] & fl.UNUSABLE) == 0) & np.isfinite(values) & np.isfinite(noise) & (noise > 0)
    near = np.hypot((at + column - x)[None, :], (at + row - y)[:, None]) <= max(psf.fwhm, 1.0)
    bits = int(np.bitwise_or.reduce(flags[window][near & seen], axis=None)) if (near & seen).any() else 0
    bits |= 0 if seen[near].all() else int(fl.EDGE)
    squares = np.where(good, whole**2, 0.0)
    weight, full = float(squares.sum()), float(np.sum(whole**2))
    if not weight > _LEAST * full:
        return nothing._replace(flags=bits | int(fl.NO_DATA), share=weight / full)
    flux = float(np.sum(np.where(good, values * whole, 0.0))) / weight
    left = np.where(good, (values - flux * whole) ** 2 / np.where(good, noise, 1.0), 0.0)
    mean = float(np.sum(squares * np.where(good, noise, 0.0))) / weight
    part = float(np.sum(squares * np.where(good, np.abs(reference[window]), 0.0))) / weight
    free = max(int(good.sum()) - 1, 1)
    return Forced(flux, weight, mean, min(part, mean), float(left.sum()) / free, weight / full, bits)


def _reach(psf: PSF, x: float, y: float) -> int:
    """Pixels to each side that hold all but a thousandth of the squares of a PSF."""
    most = min(psf.radius, _SIZE // 2 - 1)
    at = np.arange(-most, most + 1.0)
    squares = psf.values(at[None, :], at[:, None], x, y)[0] ** 2
    for reach in range(3, most):
        part = slice(most - reach, most + reach + 1)
        if squares[part, part].sum() > (1 - _CUT) * squares.sum():
            return reach
    return most


def noise_of(
    one: Forced, psf: PSF, kernel: NDArray[np.float64], place: tuple[float, float], how: tuple[str, bool]
) -> Noise:
    """The noise of a flux, frequency by frequency.

    Parameters
    ----------
    one : Forced
        The flux.
    psf : PSF
        Of the difference.
    kernel : ndarray of float64, (k, k)
        By which one of the images was convolved, there.
    place : tuple of float
        x and y, pixels.
    how : tuple
        Which image that was, ``"science"`` or ``"reference"``; and whether the noise was made white.

    Returns
    -------
    Noise
    """
    convolved, white = how
    reach = min(psf.radius, _SIZE // 2 - 1)
    at = np.arange(-reach, reach + 1.0)
    star = matched_psf_spectrum(psf.values(at[None, :], at[:, None], *place)[0], _SIZE)
    through = matched_psf_spectrum(kernel / kernel.sum(), _SIZE)
    power = through.real**2 + through.imag**2
    own = one.variance - one.reference if convolved == "science" else one.reference
    if white:
        ratio = _ratio(power, own / one.variance)
        share = ratio * power / (1 + ratio * power)
        parts = one.variance * (1 - share), one.variance * share
    else:
        parts = np.full(power.shape, one.variance - own), own * power / _mean(power)
    size = np.abs(through)
    phase = np.where(size > 0, through / np.where(size > 0, size, 1.0), 1.0)
    # of a flux whose noise is white: the variance of a pixel over the squares that were summed
    scale = 1 / math.sqrt(_mean(np.abs(star) ** 2) * one.weight) if one.weight > 0 else math.nan
    kept, blurred = np.sqrt(parts[0]) * star * scale, np.sqrt(parts[1]) * star * phase * scale
    return Noise(blurred, kept) if convolved == "science" else Noise(kept, blurred)


def _ratio(power: NDArray[np.float64], share: float) -> float:
    """How much noisier the convolved image was, so that this share of the white noise is its own."""
    low, high = -30.0, 30.0
    for _ in range(60):  # of a function that rises
        middle = 0.5 * (low + high)
        ratio = math.exp(middle) * power
        low, high = (middle, high) if _mean(ratio / (1 + ratio)) < share else (low, middle)
    return math.exp(0.5 * (low + high))


def _mean(power: NDArray[np.float64]) -> float:
    """Mean of half a spectrum over the whole of it."""
    twice = np.full(power.shape[1], 2.0)
    twice[0] = twice[-1] = 1.0
    return float(np.sum(power * twice) / _SIZE**2)


def covariance(noise: Sequence[Noise], parts: Sequence[float]) -> NDArray[np.float64]:
    """The covariance of the fluxes of one star in differences with one reference.

    Parameters
    ----------
    noise : sequence of Noise
        Of each epoch.
    parts : sequence of float
        Which part of the noise variance of the reference each epoch's own frame has; 0 where it is not in it.

    Returns
    -------
    ndarray of float64, (n, n)
        NaN in rows and columns of epochs without a flux.
    """
    count = len(noise)
    made = np.zeros((count, count))
    roots = np.sqrt(np.asarray(parts, np.float64))
    for i, one in enumerate(noise):
        for j in range(i + 1):
            two = noise[j]
            value = _common(one.reference, two.reference)
            # the reference is taken off: what an epoch has in it has the other sign
            value -= roots[i] * _common(one.science, two.reference) if roots[i] > 0 else 0.0
            value -= roots[j] * _common(one.reference, two.science) if roots[j] > 0 else 0.0
            made[i, j] = made[j, i] = value + (_common(one.science, one.science) if i == j else 0.0)
    return made


def _common(one: NDArray[np.complex128], two: NDArray[np.complex128]) -> float:
    return _mean(one.real * two.real + one.imag * two.imag)
