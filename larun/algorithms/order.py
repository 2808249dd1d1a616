"""Order statistics inside kernels: quickselect and the median, without a sort; and many medians at a time."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import kernel

__all__ = ["median_network", "median_of", "select", "sort_lanes"]


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
    lower = upper
    if count % 2 == 0:
        lower = values[0]
        for i in range(1, count // 2):
            lower = max(lower, values[i])
    return 0.5 * float(lower + upper)


@functools.lru_cache(maxsize=16)
def median_network(count: int) -> NDArray[np.int64]:
    """The comparators, (n, 2), that put the two middle values of ``count`` in their places.

    Batcher's odd-even merge sort (1968, AFIPS 32, 307), without the comparators that cannot reach the middle.
    """
    pairs = []
    size = 1 << max(count - 1, 0).bit_length()
    p = 1
    while p < size:
        k = p
        while k >= 1:
            for j in range(k % p, size - k, 2 * k):
                for i in range(min(k, size - j - k)):
                    low, high = i + j, i + j + k
                    if low // (2 * p) == high // (2 * p) and high < count:
                        pairs.append((low, high))
            k //= 2
        p *= 2
    needed = {count // 2 - 1, count // 2}
    kept = []
    for pair in reversed(pairs):
        if not needed.isdisjoint(pair):
            needed.update(pair)
            kept.append(pair)
    return read_only(np.array(kept[::-1], np.int64).reshape(-1, 2), np.int64)


@kernel
def sort_lanes(width: int, network: NDArray[np.int64], order: NDArray[np.float32]) -> None:
    """Sort each of the first ``width`` lanes of ``order`` (n, lanes) as far as the network does."""
    for pair in range(network.shape[0]):
        first, second = order[network[pair, 0]], order[network[pair, 1]]
        for j in range(width):
            a, b = first[j], second[j]
            first[j] = a if a < b else b
            second[j] = b if a < b else a
