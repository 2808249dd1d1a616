"""How far stars of a difference are from where they were, as the bright ones among them show it.

A star that is moved by a part of a pixel leaves the slope of its image, times that part. On the bright stars it is seen
beyond the noise; on all others it is noise of the same kind (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, eq. 31).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["WINDOW", "error_of_places", "shifts_of", "slopes_of"]

#: Pixels to each side of a star by which its place is judged.
WINDOW = 4


def slopes_of(filtered: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How filtered light changes where it is moved by a pixel, along x and along y."""
    along, aside = np.zeros_like(filtered), np.zeros_like(filtered)
    along[:, 1:-1] = np.float32(0.5) * (filtered[:, 2:] - filtered[:, :-2])
    aside[1:-1] = np.float32(0.5) * (filtered[2:] - filtered[:-2])
    return along, aside


def shifts_of(
    signal: NDArray[np.float32], noise: NDArray[np.float32], slopes: Sequence[NDArray[np.float32]]
) -> list[tuple[float, float]]:
    """By how much a star seems moved along each axis, and how well that is known.

    Parameters
    ----------
    signal, noise : ndarray of float32, (n, n)
        The filtered difference around it, and its noise variance.
    slopes : sequence of ndarray of float32, (n, n)
        Of the filtered star, along each axis.
    """
    weight, found = 1 / noise, []
    for slope in slopes:
        norm = float(np.sum(slope**2 * weight))
        if norm > 0:
            # neighbours in a filtered image are one and the same noise: as many as the filter covers count as one
            found.append((float(np.sum(slope * signal * weight)) / norm, norm))
    return found


def error_of_places(found: Sequence[tuple[float, float]]) -> float:
    """Error of the places of stars along an axis: what the slopes of the bright ones explain beyond their noise."""
    if len(found) < 20:
        return 0.0
    shift, norm = np.array(found).T
    sharp = norm >= np.quantile(norm, 0.5)
    # the brightest half tells, with the scatter of what is expected of noise taken off by the fainter half's trend
    scatter = 1.4826 * float(np.median(np.abs(shift[sharp] - np.median(shift[sharp]))))
    expected = float(np.sqrt(np.median(4 * math.pi / norm[sharp])))
    return math.sqrt(max(scatter**2 - expected**2, 0.0))
