"""16-bit integers as FITS stores them become levels above the overscan."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel

__all__ = ["unpack_rows"]

_LITTLE = sys.byteorder == "little"


@kernel
def unpack_rows(
    words: NDArray[np.uint16],
    first: int,
    rows: int,
    columns: tuple[int, int, int],
    zeros: Any,
    levels: Any,
    full: Any,
    out: NDArray[np.float32],
) -> int:
    """Take the bytes of big-endian integers apart, add the zero of each frame, and subtract the level of each row.

    Parameters
    ----------
    words : ndarray of uint16, (n, fetched, raw columns)
        Rows of every frame, the bytes as they lie in the file.
    first, rows : int
        Which of the fetched rows.
    columns : (int, int, int)
        First column there, first column of the output, and how many.
    zeros : ndarray of float32, (n,)
        What each frame's integers begin at (BZERO).
    levels : ndarray of float64, (n, fetched)
        Level of each row.
    full : ndarray of float64, (n,)
        Saturation of each frame.
    out : ndarray of float32, (n, at least rows, nx)
        Where the values go.

    Returns
    -------
    int
        How many values are saturated.
    """
    start, place, width = columns
    saturated = 0
    for k in range(words.shape[0]):
        zero, limit = zeros[k], full[k]
        for y in range(rows):
            level = levels[k, first + y]
            row = words[k, first + y, start : start + width]
            made = out[k, y, place : place + width]
            greatest = np.float32(-np.inf)
            for x in range(width):
                word = row[x]
                if _LITTLE:
                    word = np.uint16((word << 8) | (word >> 8))
                value = np.float32(np.int16(word)) + zero
                greatest = value if value > greatest else greatest
                made[x] = np.float64(value) - level
            saturated += 1 if greatest >= limit else 0
    return saturated
