"""Arrays in the one form kernels are compiled for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["read_only"]


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
