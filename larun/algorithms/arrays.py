"""Arrays in the one form kernels are compiled for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["middle", "read_only", "walk"]

#: Values of which a sample tells where their median lies.
_MANY = 20_000

#: Rows that are walked along together.
_ROWS = 32


def read_only(values: ArrayLike, dtype: type) -> NDArray[Any]:
    """The values contiguous, native and read-only; copied only if they have another type or layout.

    A kernel is compiled anew for every combination of types, and whether an array may be written to is part of its
    type.

    Examples
    --------
    >>> read_only([1, 2], np.float32).flags.writeable
    False
    """
    view: NDArray[Any] = np.ascontiguousarray(values, dtype).view()
    view.flags.writeable = False
    return view


def walk(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int64]:
    """An order of positions in which neighbours come soon after one another, so that their pixels are still at hand.

    The image is walked along in bands of rows. Positions that are not finite come last.

    Examples
    --------
    >>> walk(np.array([5.0, 900.0, 3.0]), np.array([0.0, 2.0, 900.0])).tolist()
    [0, 1, 2]
    """
    with np.errstate(invalid="ignore"):
        return np.lexsort((x, np.floor_divide(y, _ROWS)))


def middle(values: NDArray[Any]) -> Any:
    """The median of values (n,) of which none is NaN, as ``np.median`` has it to the last bit, but faster.

    A sample says between which two values it lies, and only what lies between them is sorted.

    Examples
    --------
    >>> float(middle(np.arange(100_000.0) % 1000))
    499.5
    """
    if values.size < _MANY:
        return np.median(values)
    sample = np.sort(values[:: values.size // 2000])
    half, wide = len(sample) // 2, 3 * int(np.sqrt(len(sample)))
    low, high = sample[half - wide], sample[half + wide]
    below = int(np.count_nonzero(values < low))
    first, second = (values.size - 1) // 2 - below, values.size // 2 - below
    inside = values[(values >= low) & (values <= high)]
    if first < 0 or second >= inside.size:  # values that repeat with the step of the sample, say
        return np.median(values)
    inside.partition((first, second))
    return np.mean(inside[first : second + 1])
