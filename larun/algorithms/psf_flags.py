"""What flags say of the pixels around stars."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import kernel, over_rows
from larun.flags import EDGE

__all__ = ["flags_around", "flags_within"]


def flags_around(flags: NDArray[np.uint32], places: NDArray[np.float64], radius: float) -> NDArray[np.uint32]:
    """OR of the flags in circles around places (n, 2: x, y), and EDGE where one leaves the image.

    Examples
    --------
    >>> flags = np.zeros((9, 9), np.uint32)
    >>> flags[4, 6] = 1
    >>> flags_around(flags, np.array([[4.0, 4.0], [3.0, 4.0]]), 2.0).tolist()
    [1, 0]
    """
    made = np.zeros(len(places), np.uint32)
    fixed, at = read_only(flags, np.uint32), read_only(places, np.float64)

    def work(start: int, stop: int) -> None:
        _around_range(fixed, at, float(radius), made, start, stop)

    over_rows(len(places), work, band=1024)
    return made


@kernel
def _around_range(flags: Any, places: Any, radius: float, made: Any, start: int, stop: int) -> None:
    for n in range(start, stop):
        made[n] = flags_within(flags, places[n, 0], places[n, 1], radius)


@kernel
def flags_within(flags: Any, x: float, y: float, radius: float) -> Any:
    """OR of the flags of pixels whose centres lie in a circle, and EDGE where it leaves the image."""
    found, (ny, nx) = np.uint32(0), flags.shape
    reach = int(np.ceil(radius + 0.5))
    px, py = round(x), round(y)
    for j in range(py - reach, py + reach + 1):
        for i in range(px - reach, px + reach + 1):
            if (j - y) ** 2 + (i - x) ** 2 <= radius * radius:
                found |= flags[j, i] if 0 <= j < ny and 0 <= i < nx else EDGE
    return found
