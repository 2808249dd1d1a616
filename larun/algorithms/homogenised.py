"""A stack of frames that were all made as blurred as one: stars have the same shape in every pixel, whoever lies there.

The kernel that takes the point-spread function of a frame to that of the target is a sum of Gaussians times polynomials
(:mod:`larun.algorithms.matchbasis`, Alard & Lupton 1998), fitted to the functions themselves: all light of a star is
kept exactly. Then the frames are averaged with one weight each. The noise of the mean is correlated over the width of
the kernels, and its autocorrelation follows from them and from the resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import read_only
from larun.algorithms.cholesky import solve_positive
from larun.algorithms.kernelfield import KernelField, convolve
from larun.algorithms.matchbasis import gauss_basis
from larun.algorithms.matched import (
    Complete,
    complete,
    empty_stack,
    matched_psf_spectrum,
    near_lost,
    take_counts,
    tap_covariance,
)
from larun.algorithms.peaks import FWHM_OF_SIGMA
from larun.algorithms.psf import PSF
from larun.algorithms.resample import chosen_kernel
from larun.algorithms.stacking import Layer, MeanOptions, Stacked
from larun.algorithms.whitening import field_through, grid_of
from larun.detector import Section
from larun.errors import OptionError

__all__ = ["Homogenised", "Matching", "homogenised", "matching", "star_noise"]

#: Widths of the Gaussians in units of the one that is missing, and the degrees of their polynomials.
_WIDTHS, _DEGREES = (0.5, 1.0, 2.0), (4, 4, 2)
_NARROWEST = 0.7  # pixels
_REACH = 5.0
_HALVES = (6, 24)
#: How firmly coefficients are held, in units of what they change of a star: PSFs are known to 1e-4 of their light.
_HELD = 1e-9
#: Steps of bands: tiles of convolutions lie at multiples of 32.
_STEP, _MARGIN, _TALLEST = 64, 64, 1024 - 2 * 64
_BYTES = 48
#: Correlation below which it counts as none.
_NOTHING = 1e-3
_SIZE = 128


class Matching(NamedTuple):
    """What makes a frame as blurred as the target.

    Attributes
    ----------
    field : KernelField
        The kernel.
    power : ndarray of float64, (128, 65)
        Spectrum of the noise of the frame, 1 for a pixel of white noise, after resampling and convolution.
    before : float
        Variance of that noise after the resampling alone.
    residual : float
        The largest difference of the PSF from the target, in units of the target's highest pixel.
    """

    field: KernelField
    power: NDArray[np.float64]
    before: float
    residual: float


class Homogenised(NamedTuple):
    """What :func:`homogenised` returns: the stack, and the autocorrelation of its noise (2 k + 1, 2 k + 1)."""

    stacked: Stacked
    acf: NDArray[np.float32]


def matching(layer: Layer, psf: PSF, target: PSF, shape: tuple[int, int], *, kernel: str = "auto") -> Matching:
    """The kernel that makes the stars of a frame those of a target.

    Parameters
    ----------
    layer : Layer
        The frame.
    psf, target : PSF
        Of the frame on the pixels of the stack, and the one that is wanted.
    shape : tuple of int
        Of the stack.
    kernel : str
        Of the resampling.

    Returns
    -------
    Matching
    """
    sigma = math.sqrt(max(target.fwhm**2 - psf.fwhm**2, 0.0)) / FWHM_OF_SIGMA
    missing = max(_NARROWEST, sigma)
    half = min(max(_HALVES[0], math.ceil(_REACH * missing)), _HALVES[1])
    images = gauss_basis([missing * width for width in _WIDTHS], _DEGREES, half).images()
    order = max(psf.order, target.order)
    domain = ((shape[1] - 1) / 2, shape[1] / 2, (shape[0] - 1) / 2, shape[0] / 2)
    x, y = grid_of(shape) if order else (np.array([domain[0]]), np.array([domain[2]]))
    reach = min(max(psf.radius, target.radius) + half, _SIZE // 2 - 1)
    spectra = np.stack([matched_psf_spectrum(image, _SIZE) for image in images])
    made, worst = [], 0.0
    for place in zip(x, y, strict=True):
        coefficients, residual = _fitted(spectra, _stamp(psf, place), _stamp(target, place), reach)
        made.append(np.sum(coefficients[:, None, None] * images, axis=0))
        worst = max(worst, residual)
    cube = np.stack(made)
    field = (
        field_through(cube, x, y, 2, domain)
        if order
        else KernelField(images=read_only(cube, np.float64), coefficients=np.ones((1, 1)), domain=domain)
    )
    whole = Section(0, shape[0], 0, shape[1])
    covariance = tap_covariance(layer.mapping, chosen_kernel(layer.mapping, kernel), whole)
    answer = matched_psf_spectrum(field.at(domain[0], domain[2]), _SIZE)
    power = (answer.real**2 + answer.imag**2) * np.maximum(matched_psf_spectrum(covariance, _SIZE).real, 0.0)
    return Matching(field, power, float(covariance[len(covariance) // 2, len(covariance) // 2]), worst)


def _stamp(psf: PSF, place: tuple[float, float]) -> NDArray[np.float64]:
    """A star all of whose light is 1, its middle at the origin, (size, size)."""
    reach = min(psf.radius, _SIZE // 2 - 1)
    at = np.arange(-reach, reach + 1.0)
    grid = np.zeros((_SIZE, _SIZE))
    grid[: 2 * reach + 1, : 2 * reach + 1] = psf.values(at[None, :], at[:, None], *place)[0]
    return np.roll(grid / grid.sum(), (-reach, -reach), axis=(0, 1))


def _fitted(
    spectra: NDArray[np.complex128], own: NDArray[np.float64], target: NDArray[np.float64], reach: int
) -> tuple[NDArray[np.float64], float]:
    """Coefficients of the basis, the first 1; and what the target's pixels differ by from those of the star."""
    from scipy.fft import irfft2, rfft2

    near = np.minimum(np.arange(_SIZE), _SIZE - np.arange(_SIZE)) <= reach
    star = rfft2(own, workers=1)
    blurred = np.stack([irfft2(star * one, (_SIZE, _SIZE), workers=1)[near][:, near].ravel() for one in spectra])
    rest = target[near][:, near].ravel() - blurred[0]
    others = blurred[1:]
    matrix = np.zeros((len(others), len(others)))
    right = np.zeros((len(others), 1))
    for n, one in enumerate(others):  # in one order: no library's product
        matrix[n, : n + 1] = np.sum(others[: n + 1] * one, axis=1)
        right[n, 0] = np.sum(one * rest)
    matrix = np.tril(matrix) + np.tril(matrix, -1).T
    matrix[np.diag_indices(len(matrix))] += _HELD * np.sum(target**2)
    solved = solve_positive(matrix, right)
    found = np.zeros(len(others)) if solved is None else solved[:, 0]
    left = rest - np.sum(found[:, None] * others, axis=0)
    return np.concatenate([[1.0], found]), float(np.max(np.abs(left)) / target.max())


def homogenised(
    layers: Sequence[Layer],
    matchings: Sequence[Matching],
    weights: Sequence[float],
    shape: tuple[int, int],
    *,
    options: MeanOptions = MeanOptions(),
    level: float = 0.0,
) -> Homogenised:
    """The mean of frames that were all made as blurred as a target.

    Parameters
    ----------
    layers : sequence of Layer
        Their weights are one over the variance of their sky, after scaling: holes are filled with them.
    matchings : sequence of Matching
        Of each frame.
    weights : sequence of float
        Of each frame in the mean.
    shape : tuple of int
        Of the stack.
    options : MeanOptions
        Rejection, kernel, memory.
    level : float
        Of the sky of the reference: what stands in for what lies beyond all frames.

    Returns
    -------
    Homogenised
        The same bits whatever the memory and the threads.

    Raises
    ------
    OptionError
        If there are not as many matchings and weights as frames.
    """
    if not len(layers) == len(matchings) == len(weights) or not layers:
        raise OptionError(
            f"{len(layers)} frames, {len(matchings)} kernels, {len(weights)} weights: must be as many, at least 1"
        )
    ny, nx = shape
    made = empty_stack(shape)
    row = len(layers) * (nx + 2 * _MARGIN) * _BYTES
    band = int(np.clip((options.max_memory / 2 / row - 2 * _MARGIN) // _STEP * _STEP, _STEP, _TALLEST // _STEP * _STEP))
    reach = math.ceil(max(layer.fwhm for layer in layers))
    for start in range(0, ny, band):
        stop = min(start + band, ny)
        outer = Section(start - _MARGIN, -(-stop // _STEP) * _STEP + _MARGIN, 0, nx)
        given = complete(layers, shape, outer, options, level)
        out, inner = (slice(start, stop), slice(None)), (slice(_MARGIN, _MARGIN + stop - start), slice(None))
        take_counts(made, out, given.stacked, inner)
        made.flags[out] |= near_lost(given, reach)[inner]
        total, square, weight = _sums(given, matchings, weights, outer.y0, inner[0])
        known = (weight > 0) & ((made.flags[out] & fl.NO_DATA) == 0)
        made.data[out][known] = total[known] / weight[known] + level
        made.variance[out][known] = square[known] / weight[known] ** 2
    return Homogenised(made, _acf(layers, matchings, weights))


def _sums(
    given: Complete, matchings: Sequence[Matching], weights: Sequence[float], y0: int, rows: slice
) -> NDArray[np.float64]:
    """Weighted sums of the convolved frames, of their variances, and of the weights, of some rows."""
    made = np.zeros((3, rows.stop - rows.start, given.lost.shape[1]))
    none = np.zeros(given.lost.shape, np.uint32)
    for k, (own, share) in enumerate(zip(matchings, weights, strict=True)):  # each by all threads, in one order
        middle_x, wide_x, middle_y, wide_y = own.field.domain
        field = KernelField(
            images=own.field.images,
            coefficients=own.field.coefficients,
            domain=(middle_x, wide_x, middle_y - y0, wide_y),
        )
        blurred = convolve(field, given.values[k], given.variance[k], none)
        assert blurred.variance is not None
        here = given.inside[k, rows]
        made[0][here] += share * blurred.data[rows][here].astype(np.float64)
        made[1][here] += share * share * _correction(own) * blurred.variance[rows][here].astype(np.float64)
        made[2][here] += share
    return made


def _correction(own: Matching) -> float:
    """By which ``Σ K² v`` of the resampled variance differs from the noise of a convolved pixel."""
    kernel = own.field.at(own.field.domain[0], own.field.domain[2])
    whole = _mean_over_plane(own.power)
    return float(whole / (own.before * np.sum(kernel**2)))


def _mean_over_plane(power: NDArray[np.float64]) -> float:
    """Mean of half a spectrum over the whole of it."""
    twice = np.full(power.shape[1], 2.0)
    twice[0] = twice[-1] = 1.0
    return float(np.sum(power * twice) / _SIZE**2)


def star_noise(own: Matching, target: PSF, shape: tuple[int, int]) -> float:
    """What a frame's noise of variance 1 a pixel is worth after it was matched, where the target itself filters.

    Parameters
    ----------
    own : Matching
        Of the frame.
    target : PSF
        What it was matched to.
    shape : tuple of int
        Of the stack.
    """
    from scipy.fft import rfft2

    spectrum = rfft2(_stamp(target, ((shape[1] - 1) / 2, (shape[0] - 1) / 2)), workers=1)
    return _mean_over_plane(own.power * np.abs(spectrum) ** 2)


def _acf(layers: Sequence[Layer], matchings: Sequence[Matching], weights: Sequence[float]) -> NDArray[np.float32]:
    from scipy.fft import irfft2

    total = np.zeros(matchings[0].power.shape)
    for layer, own, share in zip(layers, matchings, weights, strict=True):
        total += share * share / layer.weight * own.power
    made = np.fft.fftshift(irfft2(total, (_SIZE, _SIZE), workers=1))
    made /= made[_SIZE // 2, _SIZE // 2]
    rows, columns = np.nonzero(np.abs(made) > _NOTHING)
    half = int(max(np.abs(rows - _SIZE // 2).max(), np.abs(columns - _SIZE // 2).max(), 4))
    half = min(half, _SIZE // 2 - 1)
    part = slice(_SIZE // 2 - half, _SIZE // 2 + half + 1)
    found = made[part, part]
    return np.asarray(0.5 * (found + found[::-1, ::-1]), np.float32)
