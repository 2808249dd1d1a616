"""Order statistics inside kernels: quickselect and the median, without a sort and without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = ["median_of", "select"]


@kernel
def select(values: Any, k: int, count: int) -> float:
    """The k-th smallest of the first ``count`` values, smaller ones moved before it (Hoare 1961, CACM 4, 321)."""
    left, right = 0, count - 1
    while left < right:
        pivot = values[k]
        i, j = left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < k:
            left = i
        if k < i:
            right = j
    return float(values[k])


@kernel
def median_of(values: Any, count: int) -> float:
    """Median of the first ``count`` values, with the smaller half moved before the rest."""
    upper = select(values, count // 2, count)
    lower = upper if count % 2 else np.max(values[: count // 2])
    return 0.5 * float(lower + upper)
