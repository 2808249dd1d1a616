"""Frames of a stack, complete: what is masked or rejected in one of them comes from the others, as blurred as it is.

A filter as wide as a star would smear a hole, or a cosmic ray, over all of its neighbours. So, before frames are
filtered (:mod:`larun.algorithms.proper`, :mod:`larun.algorithms.homogenised`), holes are filled by the weighted mean
of the other frames, blurred to the width of the frame's own stars, and get a variance with which the noise of the sum
comes out as that of the frames which did see the place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms import taps
from larun.algorithms.mapping import Mapping
from larun.algorithms.peaks import FWHM_OF_SIGMA
from larun.algorithms.stacking import Layer, MeanOptions, Seen, Stacked, seen_in
from larun.detector import Section
from larun.errors import OptionError

__all__ = ["Complete", "complete", "empty_stack", "matched_psf_spectrum", "near_lost", "take_counts", "tap_covariance"]

_LAGS = taps.TAPS - 1
#: Places along each axis of a tile at which the covariance of resampled noise is taken.
_PLACES = 8
_WIDEST = 6  # pixels: half the width of what fills are blurred by, at most
_SMOOTH = 2.0  # FWHM: what no frame has seen comes from so far around
_FARTHEST = 24  # pixels, at most
#: Part of the weight from which on a pixel says that it was filled.
_MUCH = 1 / 3


class Complete(NamedTuple):
    """Frames in a part of a stack, without holes; the first three are (n, ny, nx).

    Attributes
    ----------
    values, variance : ndarray of float32
        Less ``level``; finite everywhere, 0 where no frame has anything near.
    inside : ndarray of bool
        Where the frame lies, whether it has a value there or not.
    stacked : Stacked
        Coverage, contributors, rejected and flags; its data and variance are to be filled in.
    lost : ndarray of bool, (ny, nx)
        Pixels of which no frame that lies there has a value.
    """

    values: NDArray[np.float32]
    variance: NDArray[np.float32]
    inside: NDArray[np.bool_]
    stacked: Stacked
    lost: NDArray[np.bool_]


def empty_stack(shape: tuple[int, int]) -> Stacked:
    """Planes of a stack, to be filled."""
    return Stacked(
        np.full(shape, np.nan, np.float32),
        np.full(shape, np.nan, np.float32),
        np.zeros(shape, np.uint32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.uint16),
        np.zeros(shape, np.uint16),
        {},
    )


def take_counts(made: Stacked, out: tuple[slice, slice], given: Stacked, part: tuple[slice, slice]) -> None:
    """Put coverage, contributors, rejected and flags of a part of one stack into a part of another."""
    made.flags[out] = given.flags[part]
    made.coverage[out] = given.coverage[part]
    made.contributors[out] = given.contributors[part]
    made.rejected[out] = given.rejected[part]


def complete(
    layers: Sequence[Layer], shape: tuple[int, int], section: Section, options: MeanOptions, level: float
) -> Complete:
    """What frames see in a part of a stack, their holes filled by each other.

    Parameters
    ----------
    layers : sequence of Layer
        Their weights are one over the variance of the sky.
    shape : tuple of int
        Of the stack.
    section : Section
        The part; it may reach beyond the stack, where nothing is.
    options : MeanOptions
        Rejection, and the kernel of the resampling.
    level : float
        Of the sky, which is taken off.

    Returns
    -------
    Complete
    """
    within = Section(max(section.y0, 0), min(section.y1, shape[0]), max(section.x0, 0), min(section.x1, shape[1]))
    seen = seen_in(layers, shape, within, options)
    inside = np.stack([_footprint(layer, within) for layer in layers])
    weights = np.array([layer.weight for layer in layers])
    used = seen.used & np.isfinite(seen.values) & inside
    total, mean = _mean(seen, used, weights)
    lost = inside.any(axis=0) & (total == 0)
    known = _known_everywhere(mean, total > 0, max(layer.fwhm for layer in layers))
    width = float(sum(layer.fwhm * layer.weight for layer in layers) / weights.sum())
    values, variance = seen.values, seen.variance
    for k, layer in enumerate(layers):
        holes = ~used[k]
        if holes.any():
            blurred = _blurred(known, holes, width, layer.fwhm)
            values[k][holes] = blurred
            with np.errstate(divide="ignore"):
                others = np.where(total > 0, 1 / total, 0.0)
            own = np.where(inside[k] & (total > 0), 2 / layer.weight + others, 0.0)
            variance[k][holes] = own[holes]
        known_here = used[k] | (total > 0) | (known != 0)
        values[k] = np.where(known_here, values[k] - np.float32(level), np.float32(0))
    np.nan_to_num(variance, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    stacked = _counted(seen, used, inside, weights, (total, lost))
    planes = [_placed(plane, section, within) for plane in (values, variance, inside)]
    before = empty_stack(section.shape)
    here = slice(within.y0 - section.y0, within.y1 - section.y0), slice(within.x0 - section.x0, within.x1 - section.x0)
    take_counts(before, here, stacked, (slice(None), slice(None)))
    return Complete(planes[0], planes[1], planes[2], before, _placed(lost, section, within))


def _placed(plane: NDArray[Any], section: Section, within: Section) -> NDArray[Any]:
    """A part of the stack in a section that may reach beyond it; 0 there."""
    if section == within:
        return plane
    made = np.zeros((*plane.shape[:-2], *section.shape), plane.dtype)
    y, x = within.y0 - section.y0, within.x0 - section.x0
    made[..., y : y + within.shape[0], x : x + within.shape[1]] = plane
    return made


def _footprint(layer: Layer, section: Section) -> NDArray[np.bool_]:
    """Where a frame lies."""
    ny, nx = layer.shape
    y, x = np.arange(section.y0, section.y1), np.arange(section.x0, section.x1)
    made = np.empty(section.shape, bool)
    for row, place in enumerate(y):
        at_x, at_y = layer.mapping.at(x, np.full(len(x), place))
        made[row] = (at_x >= -0.5) & (at_x <= nx - 0.5) & (at_y >= -0.5) & (at_y <= ny - 0.5)
    return made


def _mean(
    seen: Seen, used: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total, mean = np.zeros(used.shape[1:]), np.zeros(used.shape[1:])
    for k, weight in enumerate(weights):  # in one order
        total += np.where(used[k], weight, 0.0)
        mean += np.where(used[k], weight * seen.values[k].astype(np.float64), 0.0)
    return total, np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)


def _known_everywhere(mean: NDArray[np.float64], known: NDArray[np.bool_], fwhm: float) -> NDArray[np.float64]:
    """The mean, and around it what is near; 0 far from all."""
    from scipy.ndimage import gaussian_filter

    if known.all():
        return mean
    sigma = _SMOOTH * fwhm / FWHM_OF_SIGMA
    radius = min(math.ceil(3 * sigma), _FARTHEST)
    share = gaussian_filter(known.astype(np.float64), sigma, mode="constant", radius=radius)
    near = gaussian_filter(np.where(known, mean, 0.0), sigma, mode="constant", radius=radius)
    return np.where(known, mean, np.divide(near, share, out=np.zeros_like(near), where=share > 1e-3))


def _blurred(plane: NDArray[np.float64], holes: NDArray[np.bool_], sharp: float, wide: float) -> NDArray[np.float64]:
    """The plane at some pixels, its stars made as wide as others."""
    square = (wide**2 - sharp**2) / FWHM_OF_SIGMA**2
    if not square > 0.01:
        return plane[holes]
    from scipy.ndimage import gaussian_filter

    sigma = math.sqrt(square)
    return np.asarray(gaussian_filter(plane, sigma, mode="nearest", radius=min(_WIDEST, math.ceil(3 * sigma)))[holes])


def _counted(
    seen: Seen,
    used: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    weights: NDArray[np.float64],
    found: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> Stacked:
    """What counts in each pixel, and the flags of that."""
    total, lost = found
    made = empty_stack((used.shape[1], used.shape[2]))
    every = np.zeros(lost.shape, np.uint32)
    there = np.zeros(lost.shape)
    for k, weight in enumerate(weights):
        made.flags[:] |= np.where(used[k], seen.flags[k], np.uint32(0))
        every |= seen.flags[k]
        there += np.where(inside[k], weight, 0.0)
    nothing = total == 0
    made.flags[nothing] = every[nothing] | fl.NO_DATA
    made.flags[~nothing & (total < (1 - _MUCH) * there)] |= fl.INTERPOLATED
    made.coverage[:] = total / weights.sum()
    made.contributors[:] = used.sum(axis=0)
    made.rejected[:] = (np.isfinite(seen.values) & inside & ~used).sum(axis=0)
    return made


def near_lost(given: Complete, reach: int) -> NDArray[np.uint32]:
    """Flags that spread in a part of a stack: of pixels that no frame knows, and EDGE beside what is beyond all frames.

    Parameters
    ----------
    given : Complete
        The part.
    reach : int
        Pixels by which they spread.
    """
    from scipy.ndimage import binary_dilation

    made = np.zeros(given.lost.shape, np.uint32)
    beyond = ~given.inside.any(axis=0)
    for bit, where in [(fl.EDGE, beyond | given.lost)] + [
        (flag.value, given.lost & ((given.stacked.flags & flag.value) != 0))
        for flag in fl.TABLE
        if flag.value & fl.UNUSABLE & ~fl.NO_DATA
    ]:
        if where.any():
            made[binary_dilation(where, iterations=reach)] |= bit
    return made


def tap_covariance(mapping: Mapping, kernel: str, section: Section) -> NDArray[np.float64]:
    """Covariance of the resampled noise of white pixels of variance 1 with that of their neighbours, in a part.

    Parameters
    ----------
    mapping : Mapping
        From the new pixels to the old ones.
    kernel : str
        ``"lanczos3"``, ``"bilinear"`` or ``"nearest"``.
    section : Section
        Of the new pixels: the mean over it.

    Returns
    -------
    ndarray of float64, (11, 11)
        The variance is in the middle; the sum is 1 where pixels stay as large as they were.

    Raises
    ------
    OptionError
        If the kernel is none of these: pixels that become larger or smaller have no spectrum of their own.
    """
    if kernel not in taps.KERNELS:
        raise OptionError(
            f"kernel={kernel!r}: frames are filtered by their point-spread functions only where pixels stay as large "
            "as they are, within 2 %: use method='artefacts' for frames of other scales"
        )
    table = taps.weights(kernel).astype(np.float64)[:, : taps.TAPS]
    share = (np.arange(_PLACES) + 0.5) / _PLACES
    ys = np.floor(section.y0 + share * section.shape[0])
    xs = np.floor(section.x0 + share * section.shape[1])
    places = [item.ravel() for item in np.meshgrid(xs, ys)]
    lags = np.arange(-_LAGS, _LAGS + 1)
    lag_x, lag_y = (item.ravel() for item in np.meshgrid(lags, lags))
    at = mapping.at(places[0][:, None] + lag_x, places[1][:, None] + lag_y)
    good = np.isfinite(at[0] + at[1]).all(axis=1)
    if not good.any():
        return np.where(np.hypot(lag_x, lag_y) == 0, 1.0, 0.0).reshape(len(lags), len(lags))
    products = np.ones((int(good.sum()), len(lag_x)))
    middle = len(lag_x) // 2
    for along in at:
        whole = np.floor(along[good])
        phase = np.floor((along[good] - whole) * taps.PHASES + 0.5).astype(np.int64)
        away = (whole - whole[:, middle : middle + 1]).astype(np.int64)
        own = table[phase[:, middle]]
        part = np.zeros_like(products)
        for i in range(taps.TAPS):
            for j in range(taps.TAPS):
                part += np.where(i == j + away, own[:, i : i + 1] * table[phase, j], 0.0)
        products *= part
    found = products.mean(axis=0).reshape(len(lags), len(lags))
    return np.asarray(0.5 * (found + found[::-1, ::-1]))


def matched_psf_spectrum(image: NDArray[np.float64], size: int) -> NDArray[np.complex128]:
    """Spectrum (size, size // 2 + 1) of a small image of odd sides, its middle at the origin."""
    from scipy.fft import rfft2

    half = image.shape[0] // 2
    grid = np.zeros((size, size))
    grid[: image.shape[0], : image.shape[1]] = image
    return np.asarray(rfft2(np.roll(grid, (-half, -half), axis=(0, 1)), workers=1), np.complex128)
