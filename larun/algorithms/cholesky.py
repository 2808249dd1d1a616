"""Small symmetric systems by Cholesky's factors, in an order that no number of threads changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel
from larun.errors import OptionError

__all__ = ["inverse_of_factor", "inverse_of_positive", "solve_positive"]

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


def solve_positive(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The solution of a symmetric positive system of up to some thousand rows.

    Parameters
    ----------
    matrix : ndarray of float64, shape (n, n)
        Its lower half is used.
    right : ndarray of float64, shape (n, m)
        Right-hand sides.

    Returns
    -------
    ndarray of float64, shape (n, m), or None
        None where the matrix is not positive.

    Examples
    --------
    >>> solve_positive(np.array([[4.0, 2.0], [2.0, 3.0]]), np.array([[2.0], [1.0]])).tolist()
    [[0.5], [0.0]]
    """
    scale = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    if not np.all(scale > 0) or not np.all(np.isfinite(matrix)):
        return None
    factor = matrix / scale[:, None] / scale[None, :]
    made = right / scale[:, None]
    return made / scale[:, None] if _solve(factor, made, _SINGULAR) else None


@kernel
def _solve(factor: Any, made: Any, least: float) -> bool:
    """Both in place; False where a pivot is below the least."""
    size = factor.shape[0]
    for j in range(size):
        pivot = factor[j, j]
        if not pivot > least:
            return False
        root = np.sqrt(pivot)
        for i in range(j, size):
            factor[i, j] /= root
        for i in range(j + 1, size):  # rows of the rest, each walked along
            value = factor[i, j]
            for k in range(j + 1, i + 1):
                factor[i, k] -= value * factor[k, j]
    for j in range(size):
        made[j] /= factor[j, j]
        for i in range(j + 1, size):
            made[i] -= factor[i, j] * made[j]
    for j in range(size - 1, -1, -1):
        made[j] /= factor[j, j]
        for i in range(j):
            made[i] -= factor[j, i] * made[j]
    return True
