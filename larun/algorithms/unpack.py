"""Stored integers become levels above the overscan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel

__all__ = ["level_rows"]


@kernel
def level_rows(
    values: NDArray[np.float32], first: int, rows: int, columns: tuple[int, int], zeros: Any, levels: Any, full: Any
) -> int:
    """Add the zero of each frame and subtract the level of each row, in place.

    Parameters
    ----------
    values : ndarray of float32, (n, at least rows, nx)
        Integers of every frame.
    first, rows : int
        Which of the levels belongs to the first row, and how many rows there are.
    columns : (int, int)
        First column, and how many.
    zeros : ndarray of float32, (n,)
        What each frame's integers begin at (BZERO).
    levels : ndarray of float64, (n, more rows)
        Level of each row.
    full : ndarray of float64, (n,)
        Saturation of each frame.

    Returns
    -------
    int
        How many rows of frames hold a saturated value.
    """
    place, width = columns
    saturated = 0
    for k in range(values.shape[0]):
        zero, limit = zeros[k], full[k]
        for y in range(rows):
            level = levels[k, first + y]
            row = values[k, y, place : place + width]
            greatest = np.float32(-np.inf)
            for x in range(width):
                value = row[x] + zero
                greatest = value if value > greatest else greatest
                row[x] = np.float32(np.float64(value) - level)
            saturated += 1 if greatest >= limit else 0
    return saturated
