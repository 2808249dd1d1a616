"""How likely a pixel of a difference is new: its matched filter in units of its noise.

The filter is the PSF that the difference has after its noise was made white. The noise is that of both images as it
went through all kernels, from the smooth sky and from the light of the stars: beside a bright star there is more of it.
Where stars are not quite where they were, the slopes of their images are noise too (Zackay, Ofek & Gal-Yam 2016, ApJ
830, 27, eq. 31).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.detect import DetectOptions, detect_matched
from larun.algorithms.kernelfield import KernelField, convolve, convolve_variance
from larun.algorithms.psf import PSF, moffat_psf, psf_from_nodes
from larun.algorithms.psf_build import BuildPsfOptions, build_psf
from larun.algorithms.psf_stars import ChooseOptions, choose_stars
from larun.algorithms.subtraction import Difference, Taken
from larun.algorithms.whitening import cut, field_through, grid_of
from larun.errors import CatalogError, OptionError

__all__ = ["Score", "difference_psf", "score", "star_psf"]

#: Light counts as that of a star where it is so many times its noise.
_LIGHT = 4.0
#: A pixel has a score where so much of its filter's weight lies on good pixels.
_LEAST = 0.3
#: Exponent of the profile that stands in where stars cannot tell the PSF.
_BETA = 3.5
#: Stars that the PSF is made of, at most: the filter is right to a per cent with far fewer.
_PSF_STARS = 50


class Score(NamedTuple):
    """What :func:`score` returns.

    Attributes
    ----------
    data : ndarray of float32, (ny, nx)
        On noise alone a unit Gaussian; 0 where too few pixels are good.
    astrometric : float
        Error of a star's place in the difference along an axis, pixels, as the bright ones show it.
    """

    data: NDArray[np.float32]
    astrometric: float


def star_psf(image: Taken) -> PSF:
    """The PSF of an image, from its stars; a Moffat profile as wide as they are where they are too few."""
    planes = image.data, image.sky.level, image.sky.variance, image.flags
    fwhm = image.stars.fwhm
    try:
        found = detect_matched(*planes, options=DetectOptions(fwhm=fwhm, threshold=8.0, gain=image.gain))
        chosen = choose_stars(
            image.flags,
            found.x,
            found.y,
            found.flux,
            found.flux_error,
            fwhm=fwhm,
            options=ChooseOptions(most=_PSF_STARS),
        ).chosen
        return build_psf(
            planes, found.x[chosen], found.y[chosen], fwhm=fwhm, options=BuildPsfOptions(gain=image.gain)
        ).psf
    except (CatalogError, OptionError):
        return moffat_psf(fwhm, _BETA)


def difference_psf(psf: PSF, made: Difference, x: float, y: float) -> PSF:
    """The PSF that a difference has at a place: that of the image that was not convolved, after whitening."""
    if made.white is None:
        return psf
    kernel = made.white.field.at(x, y)
    half, step = kernel.shape[0] // 2, psf.oversampling
    own = _nodes_at(psf, x, y)
    wide = half * step
    grid = np.zeros((own.shape[0] + 2 * wide,) * 2)
    for j in range(-half, half + 1):
        for i in range(-half, half + 1):
            rows = slice(wide + j * step, wide + j * step + own.shape[0])
            columns = slice(wide + i * step, wide + i * step + own.shape[1])
            grid[rows, columns] += kernel[j + half, i + half] * own
    return psf_from_nodes(grid[None], step, fwhm=psf.fwhm, kind=psf.kind)


def _nodes_at(psf: PSF, x: float, y: float) -> NDArray[np.float64]:
    middle_x, wide_x, middle_y, wide_y = psf.domain
    u, v = (float(np.clip(value, -1, 1)) for value in ((x - middle_x) / wide_x, (y - middle_y) / wide_y))
    terms = (1.0, u, v, u * u, u * v, v * v)[: len(psf.nodes)]
    return np.asarray(sum(term * nodes for term, nodes in zip(terms, psf.nodes, strict=True)))


class _Filters(NamedTuple):
    """Kernels that polynomials over the image go through."""

    matched: KernelField
    kept: KernelField
    convolved: KernelField
    corrections: tuple[float, float]


def score(made: Difference, kept: Taken, convolved: Taken, psf: PSF, *, astrometric: float | None = None) -> Score:
    """The score image of a difference.

    Parameters
    ----------
    made : Difference
        Of the images.
    kept, convolved : Taken
        The image that was convolved, and the one that was not.
    psf : PSF
        Of the one that was not (:func:`star_psf`).
    astrometric : float, optional
        Error of the place of stars, pixels along an axis; by default what the bright stars show.

    Returns
    -------
    Score
    """
    shape = made.data.shape[0], made.data.shape[1]
    filters = _filters(made, kept, convolved, psf, shape)
    good = ((made.flags & fl.UNUSABLE) == 0) & np.isfinite(made.data)
    values = np.where(good, made.data, np.float32(0))
    none = np.zeros(shape, np.uint32)
    signal = convolve(filters.matched, values, None, none).data
    bright = _is_light(made, kept, convolved, shape)
    noise = np.zeros(shape, np.float32)
    full = np.zeros(shape, np.float32)
    factor = made.fit.scale if made.convolved == "science" else 1.0
    for image, light, field, correction in (
        (kept, made.light, filters.kept, filters.corrections[0]),
        (convolved, convolved.data - np.float32(convolved.level), filters.convolved, filters.corrections[1]),
    ):
        smooth = image.sky.variance + np.where(bright, np.maximum(np.nan_to_num(light), 0), 0) / np.float32(image.gain)
        weight = np.float32(correction / factor**2)
        full += weight * np.float32(_sum_of_squares(field, shape)) * smooth
        usable = (image.flags & fl.UNUSABLE) == 0
        noise += weight * convolve_variance(field, np.where(usable, smooth, np.float32(0)).astype(np.float32))
    slopes = _slopes(made, filters, bright, factor)
    if astrometric is None:
        astrometric = _misplaced(made, slopes, noise, signal, bright)
    if astrometric > 0:
        noise += np.float32(astrometric**2) * (slopes[0] ** 2 + slopes[1] ** 2)
    known = good & (noise > _LEAST * full)
    out = np.zeros(shape, np.float32)
    np.divide(signal, np.sqrt(noise, where=known, out=np.ones_like(noise)), out=out, where=known)
    return Score(out, float(astrometric))


def _filters(made: Difference, kept: Taken, convolved: Taken, psf: PSF, shape: tuple[int, int]) -> _Filters:
    x, y = grid_of(shape)
    size = 128
    parts = np.zeros((3, len(x), size, size))
    sums = np.zeros((2, 2))
    for n, place in enumerate(zip(x, y, strict=True)):
        own = difference_psf(psf, made, *place)
        reach = min(own.radius, size // 2 - 2)
        at = np.arange(-reach, reach + 1.0)
        turned = own.values(-at[None, :], -at[:, None])[0]
        turned /= np.sum(turned**2)  # the filtered image is the flux of a star in each pixel
        white = np.ones((1, 1)) if made.white is None else made.white.field.at(*place)
        through = made.fit.field.at(*place) if made.white is None else made.white.through.at(*place)
        matched = _spectrum(turned, size)
        for k, kernel in enumerate((np.ones((1, 1)), white, through)):
            answer = matched * _spectrum(kernel, size)
            parts[k, n] = np.roll(np.fft.ifft2(answer).real, (size // 2, size // 2), axis=(0, 1))
            if k:
                acf = (kept, convolved)[k - 1].acf
                power = 1.0 if acf is None else np.maximum(_spectrum(np.asarray(acf, np.float64), size).real, 0)
                sums[k - 1] += np.mean(np.abs(answer) ** 2 * power), np.mean(np.abs(answer) ** 2)
    fields = [field_through(cut(part, keep_sums=False), x, y, 2, made.fit.field.domain) for part in parts]
    ratios = float(sums[0, 0] / sums[0, 1]), float(sums[1, 0] / sums[1, 1])
    return _Filters(fields[0], fields[1], fields[2], ratios)


def _spectrum(kernel: NDArray[np.float64], size: int) -> NDArray[np.complex128]:
    half = kernel.shape[0] // 2
    grid = np.zeros((size, size))
    grid[: 2 * half + 1, : 2 * half + 1] = kernel
    return np.fft.fft2(np.roll(grid, (-half, -half), axis=(0, 1)))


def _sum_of_squares(field: KernelField, shape: tuple[int, int]) -> float:
    return float(np.sum(field.at((shape[1] - 1) / 2, (shape[0] - 1) / 2) ** 2))


def _is_light(made: Difference, kept: Taken, convolved: Taken, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Where stars add to the noise: their light, smoothed, is well above its own noise."""
    own = made.fit.field.at((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    from scipy.ndimage import binary_dilation

    noise = np.sqrt(np.sum(own**2) * convolved.sky.variance)
    seen = np.nan_to_num(made.light) > _LIGHT * noise
    return np.asarray(binary_dilation(seen, iterations=max(1, round(kept.stars.fwhm))))


def _slopes(
    made: Difference, filters: _Filters, bright: NDArray[np.bool_], factor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How the filtered stars change where they are moved by a pixel, along x and y."""
    light = np.asarray(np.where(bright, np.nan_to_num(made.light), 0) / factor, np.float32)
    filtered = convolve(filters.kept, light, None, np.zeros(light.shape, np.uint32)).data
    along, aside = np.zeros_like(filtered), np.zeros_like(filtered)
    along[:, 1:-1] = 0.5 * (filtered[:, 2:] - filtered[:, :-2])
    aside[1:-1] = 0.5 * (filtered[2:] - filtered[:-2])
    return along, aside


def _misplaced(
    made: Difference,
    slopes: tuple[NDArray[np.float32], NDArray[np.float32]],
    noise: NDArray[np.float32],
    signal: NDArray[np.float32],
    bright: NDArray[np.bool_],
) -> float:
    """Error of the places of stars along an axis: what the slopes of the bright ones explain beyond their noise."""
    along, aside = slopes
    reach, found = 4, []
    for x, y in zip(made.fit.x[made.fit.used], made.fit.y[made.fit.used], strict=True):
        window = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
        if np.any(made.flags[window] & fl.UNUSABLE) or not bright[y, x]:
            continue
        weight = 1 / noise[window]
        for slope in (along[window], aside[window]):
            norm = float(np.sum(slope**2 * weight))
            if norm > 0:
                # neighbours in a filtered image are one and the same noise: as many as the filter covers count as one
                found.append((float(np.sum(slope * signal[window] * weight)) / norm, norm))
    if len(found) < 20:
        return 0.0
    shift, norm = np.array(found).T
    sharp = norm >= np.quantile(norm, 0.5)
    # the brightest half tells, with the scatter of what is expected of noise taken off by the fainter half's trend
    scatter = 1.4826 * float(np.median(np.abs(shift[sharp] - np.median(shift[sharp]))))
    expected = float(np.sqrt(np.median(4 * math.pi / norm[sharp])))
    return math.sqrt(max(scatter**2 - expected**2, 0.0))
