"""Places of an image where nothing is: for apertures without a source, and for stars that are put there."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["empty_places", "open_pixels"]

_SIDE = 1024  # cells along the longer side in which distances are measured
_TRIES = 12  # for every place


def open_pixels(
    usable: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The usable pixels that no circle holds.

    Parameters
    ----------
    usable : ndarray of bool, (ny, nx)
        Pixels with a value.
    x, y, radius : ndarray of float64, (n,)
        Circles around sources, pixels.
    """
    made = usable.copy()
    ny, nx = made.shape
    for cx, cy, r in zip(x, y, radius, strict=True):
        if not (math.isfinite(cx) and math.isfinite(cy) and r > 0):
            continue
        y0, y1 = max(math.ceil(cy - r), 0), min(math.floor(cy + r) + 1, ny)
        x0, x1 = max(math.ceil(cx - r), 0), min(math.floor(cx + r) + 1, nx)
        if y0 < y1 and x0 < x1:
            rows, columns = np.arange(y0, y1)[:, None] - cy, np.arange(x0, x1) - cx
            made[y0:y1, x0:x1] &= rows**2 + columns**2 >= r * r
    return made


def empty_places(
    free: NDArray[np.bool_], radius: float, most: int, rng: np.random.Generator, *, apart: float | None = None
) -> NDArray[np.float64]:
    """Random places around which a circle holds nothing but free pixels; circles do not overlap.

    Parameters
    ----------
    free : ndarray of bool, (ny, nx)
        Pixels without sources and flags.
    radius : float
        Of the circles, pixels.
    most : int
        So many places at most.
    rng : numpy.random.Generator
        Decides them.
    apart : float, optional
        Least distance of two places; by default twice the radius.

    Returns
    -------
    ndarray of float64, (n, 2)
        x and y. Fewer than ``most`` where there is no room.
    """
    from scipy.ndimage import distance_transform_edt

    step = max(1, math.ceil(max(free.shape) / _SIDE))
    rows, columns = free.shape[0] // step, free.shape[1] // step
    cells = free[: rows * step, : columns * step].reshape(rows, step, columns, step).all(axis=(1, 3))
    room = distance_transform_edt(np.pad(cells, 1))[1:-1, 1:-1] * step
    # from any point of a cell to the nearest edge of a cell that is not free
    y, x = np.nonzero(room > radius + 1.5 * step)
    if not len(x):
        return np.empty((0, 2))
    chosen = rng.permutation(len(x))[: most * _TRIES]
    jitter = rng.uniform(-0.5, 0.5, (len(chosen), 2)) * step
    middle = (step - 1) / 2
    candidates = np.column_stack([x[chosen], y[chosen]]) * step + middle + jitter
    least = (2 * radius if apart is None else apart) ** 2
    kept = np.empty((most, 2))
    count = 0
    for place in candidates:
        if count and np.min(np.sum((kept[:count] - place) ** 2, axis=1)) < least:
            continue
        kept[count] = place
        count += 1
        if count == most:
            break
    return kept[:count].copy()
