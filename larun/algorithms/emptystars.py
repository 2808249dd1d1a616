"""What the stars of an image look like, from the stars themselves; and stars put where none is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_stars", "moffat_stamp", "star_stamp"]

_FEWEST = 5
_RING = 2  # px beyond the stamp, whose median is what is left of the sky


def star_stamp(
    data: NDArray[np.float32], usable: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64], half: int
) -> NDArray[np.float64] | None:
    """The median of stars, each shifted to the middle of a pixel and normalised; its sum is 1.

    Parameters
    ----------
    data : ndarray of float32, (ny, nx)
        The image above its background.
    usable : ndarray of bool, (ny, nx)
        Pixels with a value; a star with another in its stamp is left out.
    x, y : ndarray of float64, (n,)
        Centres of bright stars that are alone.
    half : int
        The stamp has 2 half + 1 pixels along a side.

    Returns
    -------
    ndarray of float64 or None
        None where fewer than five stars are whole.
    """
    from scipy.ndimage import shift

    width = half + _RING
    stack = []
    for cx, cy in zip(x, y, strict=True):
        column, row = round(float(cx)), round(float(cy))
        if not (width <= column < data.shape[1] - width and width <= row < data.shape[0] - width):
            continue
        at = slice(row - width, row + width + 1), slice(column - width, column + width + 1)
        if not usable[at].all():
            continue
        stamp = shift(data[at].astype(np.float64), (row - cy, column - cx), order=3, mode="nearest")
        edge = np.ones(stamp.shape, bool)
        edge[_RING:-_RING, _RING:-_RING] = False
        stamp = (stamp - np.median(stamp[edge]))[_RING:-_RING, _RING:-_RING]
        total = stamp.sum()
        if total > 0:
            stack.append(stamp / total)
    if len(stack) < _FEWEST:
        return None
    made: NDArray[np.float64] = np.median(stack, axis=0)
    # far out there is nothing but noise: no star has less than no light
    made = np.where(_distance(half) > half, 0.0, np.maximum(made, 0.0))
    whole: NDArray[np.float64] = made / made.sum()
    return whole


def moffat_stamp(fwhm: float, half: int, beta: float = 3.0) -> NDArray[np.float64]:
    """A Moffat star on pixels, in the middle of the stamp, of sum 1 (Moffat 1969, A&A 3, 455)."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    made = (1 + (_distance(half) / alpha) ** 2) ** -beta
    whole: NDArray[np.float64] = made / made.sum()
    return whole


def _distance(half: int) -> NDArray[np.float64]:
    line = np.arange(-half, half + 1, dtype=np.float64)
    return np.hypot(line[:, None], line)


def add_stars(
    light: NDArray[np.float64],
    stamp: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    flux: NDArray[np.float64],
) -> None:
    """Add the expected light of stars to a plane, in place.

    Parameters
    ----------
    light : ndarray of float64, (ny, nx)
        Is added to; what falls outside is lost.
    stamp : ndarray of float64, (n, n)
        A star in the middle of its central pixel, of sum 1.
    x, y, flux : ndarray of float64, (stars,)
        Centres and total fluxes.
    """
    from scipy.ndimage import shift

    half = len(stamp) // 2
    padded = np.pad(stamp, 1)
    for cx, cy, total in zip(x, y, flux, strict=True):
        column, row = round(float(cx)), round(float(cy))
        star = np.maximum(shift(padded, (cy - row, cx - column), order=3, mode="constant"), 0.0)
        star *= total / star.sum()
        y0, x0 = row - half - 1, column - half - 1
        rows = slice(max(y0, 0), min(y0 + len(star), light.shape[0]))
        columns = slice(max(x0, 0), min(x0 + len(star), light.shape[1]))
        if rows.start < rows.stop and columns.start < columns.stop:
            light[rows, columns] += star[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
