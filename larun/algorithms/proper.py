"""The proper coadd: the sum of frames that loses nothing of a star, with white noise (Zackay & Ofek 2017).

Frames ``D_j`` in the light of a reference, with the variance ``1 / w_j`` of their sky and the point-spread functions
``P_j``, become ``Σ w_j conj(P_j) D_j / sqrt(Σ w_j · Σ w_j |P_j|²)`` in the Fourier domain (ApJ 836, 188, eq. 7, here in
units of the reference). Filtered with its own PSF it has the S/N of the best filter of all frames together, the root of
the sum of their squares (ApJ 836, 187), where a weighted mean loses light of the sharp frames.

Two things are added. Resampling has coloured the noise of each frame: its spectrum ``S_j`` divides. And the PSF that
filters is a little flatter than the measured one, so that frequencies at which only noise is known of it stay calm; the
PSF of the sum follows from the measured ones exactly, whatever filters.

All is done in square tiles, in each of which PSFs and spectra are constant. Where frames end within a tile, every
group of frames that lie together on some of its pixels is a sum of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.jit import over_rows
from larun.algorithms.matched import (
    Complete,
    complete,
    empty_stack,
    matched_psf_spectrum,
    near_lost,
    take_counts,
    tap_covariance,
)
from larun.algorithms.psf import PSF, psf_from_nodes, terms_of
from larun.algorithms.resample import chosen_kernel
from larun.algorithms.stacking import Layer, MeanOptions, Stacked
from larun.algorithms.whitening import grid_of, terms_through
from larun.detector import Section
from larun.errors import OptionError

__all__ = ["blurred_psf", "proper_coadd", "proper_psf", "width_of"]

_CORE, _MARGIN = 224, 48
_SIZE = _CORE + 2 * _MARGIN
#: Added to the spectrum of a PSF that filters.
_CALM = 2e-3
#: Part of the noise power below which none is believed: frequencies that resampling has emptied.
_EMPTY = 1e-3
#: Bytes a pixel and frame that a band needs.
_BYTES = 48
_HALO = 32  # pixels around a tile from which holes at its rim are filled


#: Frames, their PSFs, and the kernels of their resampling.
_Frames = tuple[Sequence[Layer], Sequence[PSF], Sequence[str]]


class _Filters(NamedTuple):
    """What frames are filtered by in a tile; (n, size, size // 2 + 1)."""

    psf: NDArray[np.complex128]
    calm: NDArray[np.complex128]
    noise: NDArray[np.float64]
    weights: NDArray[np.float64]
    power: NDArray[np.float64]  # of one pixel's resampled noise, (n,)

    def answers(self, chosen: NDArray[np.bool_]) -> NDArray[np.complex128]:
        """By what some frames are multiplied, so that their sum is the coadd of them."""
        weights = self.weights[chosen]
        believed = np.maximum(self.noise[chosen], _EMPTY)
        square, out = np.zeros(self.noise.shape[1:]), np.empty(self.calm[chosen].shape, np.complex128)
        for k, (weight, calm) in enumerate(zip(weights, self.calm[chosen], strict=True)):
            square += weight * (calm.real**2 + calm.imag**2) / believed[k]
            out[k] = weight * np.conj(calm) / believed[k]
        return np.asarray(out / np.sqrt(weights.sum() * square))


def proper_coadd(
    layers: Sequence[Layer],
    psfs: Sequence[PSF],
    shape: tuple[int, int],
    *,
    options: MeanOptions = MeanOptions(),
    level: float = 0.0,
) -> Stacked:
    """The proper coadd of frames on one grid.

    Parameters
    ----------
    layers : sequence of Layer
        Their weights are one over the variance of their sky, after scaling.
    psfs : sequence of PSF
        Of each frame on the pixels of the stack, of one oversampling.
    shape : tuple of int
        Of the stack.
    options : MeanOptions
        Rejection, kernel, memory.
    level : float
        Of the sky of the reference: what stands in for what lies beyond all frames.

    Returns
    -------
    Stacked
        Noise is white; the variance is that of the sky and of the photons of the stars. ``EDGE`` where a filter
        reaches beyond all frames; near pixels that no frame knows, their flags. The same bits whatever the memory and
        the threads.

    Raises
    ------
    OptionError
        If there are not as many PSFs as frames, or a frame has pixels of another scale.
    """
    if len(psfs) != len(layers) or not layers:
        raise OptionError(f"{len(layers)} frames, {len(psfs)} point-spread functions: must be as many, at least 1")
    kernels = [chosen_kernel(layer.mapping, options.resample.kernel) for layer in layers]
    ny, nx = shape
    made = empty_stack(shape)
    across, down = -(-nx // _CORE), -(-ny // _CORE)
    rim = _MARGIN + _HALO
    row = len(layers) * (nx + 2 * rim) * _BYTES
    at_once = int(max(1, (options.max_memory / 2 / row - 2 * rim) // _CORE))
    reach = math.ceil(max(layer.fwhm for layer in layers))
    for first in range(0, down, at_once):
        last = min(first + at_once, down)
        outer = Section(first * _CORE - rim, last * _CORE + rim, -rim, across * _CORE + rim)
        band = complete(layers, shape, outer, options, level)
        near = near_lost(band, reach)
        given = layers, psfs, kernels
        over_rows((last - first) * across, functools.partial(_tiles, given, (band, near), first, made, level), band=1)
    return made


def _tiles(
    frames: _Frames,
    given: tuple[Complete, NDArray[np.uint32]],
    first: int,
    made: Stacked,
    level: float,
    start: int,
    stop: int,
) -> None:
    across = -(-made.data.shape[1] // _CORE)
    for tile in range(start, stop):
        j, i = divmod(tile, across)
        _tile(frames, given, (first, j, i), made, level)


def _tile(
    frames: _Frames,
    given: tuple[Complete, NDArray[np.uint32]],
    place: tuple[int, int, int],
    made: Stacked,
    level: float,
) -> None:
    from scipy.fft import irfft2, rfft2

    band, near = given
    first, j, i = place
    ny, nx = made.data.shape
    y0, x0 = (first + j) * _CORE, i * _CORE
    y1, x1 = min(y0 + _CORE, ny), min(x0 + _CORE, nx)
    whole = slice(j * _CORE + _HALO, j * _CORE + _HALO + _SIZE), slice(x0 + _HALO, x0 + _HALO + _SIZE)
    core = slice(_MARGIN, _MARGIN + y1 - y0), slice(_MARGIN, _MARGIN + x1 - x0)
    out = slice(y0, y1), slice(x0, x1)
    rim = _MARGIN + _HALO
    inner = slice(j * _CORE + rim, j * _CORE + rim + y1 - y0), slice(x0 + rim, x0 + rim + x1 - x0)
    take_counts(made, out, band.stacked, inner)
    made.flags[out] |= near[inner]
    filters = _filters(frames, Section(y0, y1, x0, x1), _SIZE)
    spectra = [rfft2(plane[whole].astype(np.float64), workers=1) for plane in band.values]
    noise = [_spectrum_of_noise(plane[whole], power) for plane, power in zip(band.variance, filters.power, strict=True)]
    for chosen, where in _groups(band.inside[:, *inner]):
        answers = filters.answers(chosen)
        total, spread, flat = np.zeros(spectra[0].shape, np.complex128), np.zeros(spectra[0].shape, np.complex128), 0.0
        for answer, k in zip(answers, np.flatnonzero(chosen), strict=True):
            total += answer * spectra[k]
            own = irfft2(np.abs(answer) * np.sqrt(filters.noise[k]), (_SIZE, _SIZE), workers=1) ** 2
            if isinstance(noise[k], float):
                flat += noise[k] * own.sum()
            else:
                spread += rfft2(own, workers=1) * noise[k]
        data = irfft2(total, (_SIZE, _SIZE), workers=1)[core] + level
        variance = np.maximum(irfft2(spread, (_SIZE, _SIZE), workers=1)[core], 0.0) + flat
        made.data[out][where] = data[where]
        made.variance[out][where] = variance[where]
    nothing = (made.flags[out] & fl.NO_DATA) != 0
    made.data[out][nothing] = np.nan
    made.variance[out][nothing] = np.nan


def _spectrum_of_noise(plane: NDArray[np.float32], power: float) -> NDArray[np.complex128] | float:
    """Of the variance of a frame before it was resampled; its value where it is the same everywhere."""
    from scipy.fft import rfft2

    low, high = float(plane.min()), float(plane.max())
    if low > 0 and high <= 1.001 * low:
        return float(plane.mean(dtype=np.float64)) / power
    return np.asarray(rfft2(plane.astype(np.float64) / power, workers=1))


def _groups(inside: NDArray[np.bool_]) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Which frames lie together on which pixels."""
    count = len(inside)
    if all(plane.all() or not plane.any() for plane in inside):
        chosen = inside[:, 0, 0]
        return [(chosen, np.ones(inside.shape[1:], bool))] if chosen.any() else []
    rows = np.packbits(inside.reshape(count, -1), axis=0).T
    found, index = np.unique(rows, axis=0, return_inverse=True)
    index = index.reshape(inside.shape[1:])
    groups = []
    for number, row in enumerate(found):
        chosen = np.unpackbits(row, count=count).astype(bool)
        if chosen.any():
            groups.append((chosen, index == number))
    return groups


def _filters(frames: _Frames, section: Section, size: int) -> _Filters:
    layers, psfs, kernels = frames
    y, x = (section.y0 + section.y1 - 1) / 2, (section.x0 + section.x1 - 1) / 2
    spectra, noise, power = [], [], []
    for layer, psf, kernel in zip(layers, psfs, kernels, strict=True):
        spectra.append(matched_psf_spectrum(_normal(psf, x, y, size), size))
        covariance = tap_covariance(layer.mapping, kernel, section)
        power.append(float(covariance[len(covariance) // 2, len(covariance) // 2]))
        noise.append(np.maximum(matched_psf_spectrum(covariance, size).real, 0.0))
    colour = np.stack(noise)
    own = np.stack(spectra)
    calm = (own + _CALM * colour) / (1 + _CALM)
    return _Filters(own, calm, colour, np.array([layer.weight for layer in layers]), np.array(power))


def _normal(psf: PSF, x: float, y: float, size: int) -> NDArray[np.float64]:
    """The pixels of a star in the middle of one, all of whose light is 1."""
    reach = min(psf.radius, size // 2 - 1)
    at = np.arange(-reach, reach + 1.0)
    values = psf.values(at[None, :], at[:, None], x, y)[0]
    return np.asarray(values / values.sum())


def proper_psf(
    layers: Sequence[Layer], psfs: Sequence[PSF], shape: tuple[int, int], *, options: MeanOptions = MeanOptions()
) -> PSF:
    """The PSF of the proper coadd where all frames lie; all its light is 1.

    Parameters
    ----------
    layers, psfs, shape, options
        As for :func:`proper_coadd`.
    """
    kernels = [chosen_kernel(layer.mapping, options.resample.kernel) for layer in layers]
    step, size = psfs[0].oversampling, 128
    order = max(psf.order for psf in psfs)
    x, y = grid_of(shape) if order else (np.array([(shape[1] - 1) / 2]), np.array([(shape[0] - 1) / 2]))
    radius = min(max(psf.radius for psf in psfs) + 8, size // 2 - 4)
    everyone = np.ones(len(layers), bool)
    samples = []
    for place in zip(x, y, strict=True):
        part = Section(*_around(place[1], shape[0]), *_around(place[0], shape[1]))
        filters = _filters((layers, psfs, kernels), part, size)
        answers = filters.answers(everyone)
        total = None
        for answer, psf in zip(answers, psfs, strict=True):
            own = blurred_psf(psf, answer, place, radius)
            total = own if total is None else total + own
        samples.append(total)
    domain = ((shape[1] - 1) / 2, shape[1] / 2, (shape[0] - 1) / 2, shape[0] / 2)
    cube = np.stack([part for part in samples if part is not None])
    nodes = terms_through(cube, x, y, order, domain) if order else cube
    assert len(nodes) == terms_of(order)
    made = psf_from_nodes(np.array(nodes), step, fwhm=psfs[0].fwhm, kind="proper", radius=radius, domain=domain)
    return attrs.evolve(made, fwhm=width_of(made))


def _around(place: float, size: int) -> tuple[int, int]:
    start = max(0, min(round(place) - _CORE // 2, size - _CORE))
    return start, min(start + _CORE, size)


def blurred_psf(
    psf: PSF, answer: NDArray[np.complex128], place: tuple[float, float], radius: int
) -> NDArray[np.float64]:
    """Coefficients of the splines of a PSF, all of whose light is 1, after a filter of whole pixels.

    Parameters
    ----------
    psf : PSF
        The function.
    answer : ndarray of complex128, (size, size // 2 + 1)
        Spectrum of the filter.
    place : tuple of float
        x and y, where the PSF varies.
    radius : int
        Pixels that are kept.

    Returns
    -------
    ndarray of float64, (m, m)
        ``m = 2 (radius + 2) oversampling + 1``.
    """
    from scipy.fft import fft2, ifft2, irfft2

    size, step = answer.shape[0], psf.oversampling
    own = _nodes_at(psf, *place) / _normal_sum(psf, place, size)
    wide = size * step
    keep = min(own.shape[0] // 2, wide // 2 - 1)
    middle = own.shape[0] // 2
    grid = np.zeros((wide, wide))
    grid[: 2 * keep + 1, : 2 * keep + 1] = own[middle - keep : middle + keep + 1, middle - keep : middle + keep + 1]
    grid = np.roll(grid, (-keep, -keep), axis=(0, 1))
    kernel = np.zeros((wide, wide))
    kernel[::step, ::step] = irfft2(answer, (size, size), workers=1)
    made = ifft2(fft2(grid, workers=1) * fft2(kernel, workers=1), workers=1).real
    half = step * (radius + 2)
    return np.asarray(np.roll(made, (half, half), axis=(0, 1))[: 2 * half + 1, : 2 * half + 1])


def _normal_sum(psf: PSF, place: tuple[float, float], size: int) -> float:
    reach = min(psf.radius, size // 2 - 1)
    at = np.arange(-reach, reach + 1.0)
    return float(psf.values(at[None, :], at[:, None], *place)[0].sum())


def _nodes_at(psf: PSF, x: float, y: float) -> NDArray[np.float64]:
    middle_x, wide_x, middle_y, wide_y = psf.domain
    u, v = (x - middle_x) / wide_x, (y - middle_y) / wide_y
    terms = (1.0, u, v, u * u, u * v, v * v)[: len(psf.nodes)]
    made = np.zeros(psf.nodes.shape[1:])
    for term, nodes in zip(terms, psf.nodes, strict=True):
        made += term * nodes
    return made


def width_of(psf: PSF) -> float:
    """FWHM before the pixel blurred it: that of a circle as large as what is above half of the highest value."""
    fine = 20
    at = np.arange(-4 * fine * 3, 4 * fine * 3 + 1) / fine
    values = psf.values(at[None, :], at[:, None], psf.domain[0], psf.domain[2])[0]
    area = float(np.count_nonzero(values > 0.5 * values.max())) / fine**2
    return math.sqrt(max(4 * area / math.pi - 8 * math.log(2) / 12, 0.25))
