"""Stars that are rings: the image of a telescope's pupil, out of focus, with the shadow of the secondary mirror.

A detection takes the brightest part of a ring for a star. Here the size of the rings is found, their mean shape, and
where the image is like it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl

__all__ = ["Rings", "ring_stars"]

_SIZES = (8.0, 11.0, 16.0, 22.0, 31.0, 44.0)  # diameters that are tried, pixels
_ALIKE = 0.3  # in the logarithm: a size that is tried, and the one it shows
_SHAPES = 20  # stars whose mean shape is taken
_FEWEST = 4
_HOLLOW = 0.8  # of the brightest ring: the middle of a ring is darker
_SNR = 8.0
_SIDE = 0.5  # of a star, what lies beside it and is fainter may be part of its ring
_MOST = 300


class Rings(NamedTuple):
    """Stars out of focus.

    Attributes
    ----------
    xy : ndarray of float64, (n, 2)
        Their middles, the brightest first.
    diameter : float
        Of the rings where they have half of their light, pixels.
    """

    xy: NDArray[np.float64]
    diameter: float


def ring_stars(data: NDArray[np.float32], flags: NDArray[np.uint32]) -> Rings | None:
    """The middles of stars that are rings.

    Parameters
    ----------
    data : ndarray of float32, (ny, nx)
    flags : ndarray of uint32, (ny, nx)

    Returns
    -------
    Rings or None
        None where stars are no rings, or too few: four at least.
    """
    plane = _plane(data, flags)
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for size in _SIZES:
        if min(plane.shape) < 6 * size:
            break
        seen = _shape(plane, _blobs(plane, size), size)
        if seen is None:
            continue
        away = abs(np.log(seen[0] / size))
        if away < _ALIKE and (best is None or away < best[0]):
            best = (float(away), *seen)
    if best is None:
        return None
    _, diameter, shape = best
    xy = _like(plane, shape, diameter)
    return Rings(xy, diameter) if len(xy) >= _FEWEST else None


def _plane(data: NDArray[np.float32], flags: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The image without its sky; 0 where a pixel says nothing."""
    from larun.algorithms.background import background

    bad = ((flags & (fl.UNUSABLE & ~fl.SATURATED)) != 0) | ~np.isfinite(data)
    level = background(np.where(bad, np.float32(0), data), None, bad).level
    return np.where(bad, 0.0, data.astype(np.float64) - level)


def _noise(plane: NDArray[np.float64]) -> float:
    return max(1.4826 * float(np.median(np.abs(plane - np.median(plane)))), 1e-30)


def _peaks(plane: NDArray[np.float64], reach: float) -> NDArray[np.intp]:
    """Maxima (row, column) that stand out, the highest first."""
    from scipy.ndimage import maximum_filter

    side = max(3, 2 * int(reach / 2) + 1)
    high = (plane >= maximum_filter(plane, side)) & (plane > np.median(plane) + _SNR * _noise(plane))
    rows, columns = np.nonzero(high)
    order = np.argsort(-plane[rows, columns], kind="stable")
    return np.column_stack([rows[order], columns[order]])


def _blobs(plane: NDArray[np.float64], size: float) -> NDArray[np.intp]:
    from scipy.ndimage import gaussian_filter

    return _peaks(gaussian_filter(plane, size / 2.3548), size)


def _shape(plane: NDArray[np.float64], at: NDArray[np.intp], size: float) -> tuple[float, NDArray[np.float64]] | None:
    """Diameter and mean shape of the brightest stars, if they are rings."""
    from scipy.ndimage import shift

    reach = int(np.ceil(1.2 * size))
    away = np.arange(-reach, reach + 1)
    distance = np.hypot(away[:, None], away[None, :])
    stamps: list[Any] = []
    for row, column in at[: 4 * _SHAPES]:
        if len(stamps) == _SHAPES:
            break
        y, x = float(row), float(column)
        for _ in range(4):  # to the middle of the light
            j, i = round(y), round(x)
            if not (reach <= j < plane.shape[0] - reach and reach <= i < plane.shape[1] - reach):
                break
            stamp = plane[j - reach : j + reach + 1, i - reach : i + reach + 1]
            light = np.where(np.hypot(away[:, None] + j - y, away[None, :] + i - x) < 0.75 * size, stamp, 0.0)
            total = float(light.sum())
            if not total > 0:
                break
            y, x = (
                j + float((light.sum(axis=1) * away).sum()) / total,
                i + float((light.sum(axis=0) * away).sum()) / total,
            )
            if np.hypot(y - row, x - column) > size / 2:
                break
        else:
            stamps.append(shift(stamp, (j - y, i - x), order=1, mode="nearest") / total)
    if len(stamps) < _FEWEST:
        return None
    shape = np.median(stamps, axis=0)
    profile = np.array([shape[(distance >= n - 0.5) & (distance < n + 0.5)].mean() for n in range(reach + 1)])
    top = int(profile.argmax())
    middle = float(shape[distance < max(1.0, 0.1 * size)].mean())
    if top < 2 or middle > _HOLLOW * profile[top]:
        return None
    below = np.flatnonzero(profile[top:] < 0.5 * profile[top])
    if not len(below):
        return None
    edge = top + int(below[0])
    step = (profile[edge - 1] - 0.5 * profile[top]) / (profile[edge - 1] - profile[edge])
    return 2 * (edge - 1 + float(step)), np.asarray(shape)


def _like(plane: NDArray[np.float64], shape: NDArray[np.float64], diameter: float) -> NDArray[np.float64]:
    """Where the image is like a shape: maxima of the correlation, to parts of a pixel."""
    from scipy.signal import fftconvolve

    reach = shape.shape[0] // 2
    alike = fftconvolve(plane, (shape - shape.mean())[::-1, ::-1], mode="same")
    found: list[tuple[float, float, float]] = []
    for row, column in _peaks(alike, 0.6 * diameter):
        if not (reach <= row < plane.shape[0] - reach and reach <= column < plane.shape[1] - reach):
            continue
        value = float(alike[row, column])
        beside = (high for x, y, high in found if np.hypot(x - column, y - row) < 1.2 * diameter)
        if any(value < _SIDE * high for high in beside):
            continue
        x, y = (
            place + 0.5 * float(low - high) / float(low - 2 * value + high)
            for place, low, high in (
                (column, alike[row, column - 1], alike[row, column + 1]),
                (row, alike[row - 1, column], alike[row + 1, column]),
            )
        )
        found.append((x, y, value))
        if len(found) == _MOST:
            break
    return np.array([item[:2] for item in found], np.float64).reshape(-1, 2)
