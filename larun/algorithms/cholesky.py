"""Small symmetric systems by Cholesky's factors, in an order that no number of threads changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel
from larun.errors import OptionError

__all__ = ["inverse_of_factor", "inverse_of_positive"]

_SINGULAR = 1e-12  # of a pivot, against the diagonal it began as


def inverse_of_positive(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a symmetric positive matrix of a few to a few hundred rows.

    Columns are worked on one after the other with element-wise operations alone: a library for linear algebra sums in
    an order that depends on its threads.

    Raises
    ------
    OptionError
        If the matrix is not positive: unknowns that depend on each other.

    Examples
    --------
    >>> inverse_of_positive(np.array([[4.0, 0.0], [0.0, 0.25]])).tolist()
    [[0.25, 0.0], [0.0, 4.0]]
    """
    size = len(matrix)
    scale = np.sqrt(np.diag(matrix))
    if not np.all(np.isfinite(matrix)) or not np.all(scale > 0):
        raise OptionError("a matrix of normal equations is not positive: some unknowns rest on no measurement")
    left = matrix / scale[:, None] / scale[None, :]
    factor = np.zeros((size, size))
    for column in range(size):
        pivot = left[column, column]
        if not pivot > _SINGULAR:
            raise OptionError(f"unknown {column} of {size} depends on the others: too few different measurements")
        factor[column:, column] = left[column:, column] / np.sqrt(pivot)
        left[column:, column:] -= factor[column:, None, column] * factor[None, column:, column]
    # the inverse of the factor, row by row from above
    made = np.zeros((size, size))
    for row in range(size):
        made[row, row] = 1.0
        for column in range(row):
            made[row] -= factor[row, column] * made[column]
        made[row] /= factor[row, row]
    inverse = np.zeros((size, size))
    for row in range(size):
        inverse += made[row, :, None] * made[row, None, :]
    return np.asarray(inverse / scale[:, None] / scale[None, :], np.float64)


@kernel
def inverse_of_factor(factor: Any, rows: Any, count: int, inverse: Any) -> None:
    """For kernels: the inverse of the matrix whose lower Cholesky factor this is; the factor becomes its own inverse.

    Parameters
    ----------
    factor : ndarray of float64
        Its first ``count`` rows and columns are used.
    rows : ndarray of int64
        Where each of them goes in ``inverse``.
    count : int
        How many there are.
    inverse : ndarray of float64
        Filled at these rows and columns.
    """
    for a in range(count):
        factor[a, a] = 1.0 / factor[a, a]
        for b in range(a):
            total = 0.0
            for k in range(b, a):
                total -= factor[a, k] * factor[k, b]
            factor[a, b] = total * factor[a, a]
    for a in range(count):
        for b in range(a + 1):
            total = 0.0
            for k in range(a, count):
                total += factor[k, a] * factor[k, b]
            inverse[rows[a], rows[b]] = inverse[rows[b], rows[a]] = total
