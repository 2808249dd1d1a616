"""The median of each pixel's neighbourhood, where it is asked for.

Along the row and then along the column, over windows of an odd number of pixels; values that are not finite do not
count, and at the edge a window is what is left of it. The image is cut into blocks: whoever asks a yes-or-no question
about the medians needs them only in the blocks for which :func:`undecided` finds no proof.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import kernel, over_rows

__all__ = ["BLOCK", "block_medians", "spread_blocks", "undecided"]

#: Rows and columns of a block.
BLOCK = 32

Blocks = NDArray[np.int64]


def block_medians(plane: NDArray[np.float32], blocks: Blocks, window: int = 31) -> NDArray[np.float32]:
    """The medians of the pixels of some blocks.

    Parameters
    ----------
    plane : ndarray of float32, (rows, nx)
        Any image.
    blocks : ndarray of int64, (n, 2)
        Row and column of each block in the grid of blocks.
    window : int
        Pixels in a window, odd.

    Returns
    -------
    ndarray of float32, (n, BLOCK, BLOCK)
        NaN where a window holds no finite value, and beyond the edge of the image.

    Examples
    --------
    >>> plane = np.arange(9, dtype=np.float32).reshape(3, 3)
    >>> block_medians(plane, np.zeros((1, 2), np.int64), 3)[0, :3, :3].tolist()
    [[2.0, 2.5, 3.0], [3.5, 4.0, 4.5], [5.0, 5.5, 6.0]]
    """
    values = read_only(plane, np.float32)
    places = read_only(blocks, np.int64)
    out = np.full((len(places), BLOCK, BLOCK), np.nan, np.float32)
    over_rows(len(places), lambda start, stop: _medians(start, stop, values, places, window // 2, out), band=16)
    return out


def undecided(plane: NDArray[np.float32], near: float, far: float, relative: bool, window: int = 31) -> Blocks:
    """The blocks in which some pixel may lie further than ``near + far`` from the median of its neighbourhood.

    Around the centre c of each other block it is certain that every median lies within ``near`` of c (so few values of
    the neighbourhood lie further away that no window can have its middle there), and every pixel within ``far``.

    Parameters
    ----------
    plane : ndarray of float32, (rows, nx)
        Any image.
    near, far : float
        The distances; times c where ``relative``.
    relative : bool
        Whether they are parts of c.
    window : int
        Pixels in a window, odd.

    Returns
    -------
    ndarray of int64, (n, 2)
        Row and column of each in the grid of blocks.
    """
    values = read_only(plane, np.float32)
    ny, nx = values.shape
    grid = (-(-ny // BLOCK), -(-nx // BLOCK))
    open_ = np.empty(grid, np.bool_)
    half = window // 2
    over_rows(grid[0], lambda start, stop: _undecided(start, stop, values, near, far, relative, half, open_), band=2)
    return np.argwhere(open_)


def spread_blocks(shape: tuple[int, int], most: int = 128) -> Blocks:
    """A fixed sample of blocks, spread evenly over an image: every block of a small one.

    Rows rise evenly and columns by the golden section, so that no row or column of the grid is preferred.
    """
    rows, columns = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
    if rows * columns <= most:
        return np.argwhere(np.ones((rows, columns), np.bool_))
    number = np.arange(most)
    golden = (number * 0.6180339887498949) % 1.0
    return np.unique(np.stack([number * rows // most, (golden * columns).astype(np.int64)], axis=1), axis=0)


@kernel
def _medians(
    start: int, stop: int, plane: NDArray[np.float32], blocks: Blocks, half: int, out: NDArray[np.float32]
) -> None:
    """The medians of some blocks."""
    ny, nx = plane.shape
    along = np.empty((BLOCK, BLOCK + 2 * half), np.float32)  # medians along the rows, a column of them in a row
    column = np.empty(BLOCK, np.float32)
    ordered = np.empty(2 * half + 1, np.float32)
    for block in range(start, stop):
        y0, x0 = blocks[block, 0] * BLOCK, blocks[block, 1] * BLOCK
        y1, x1 = min(y0 + BLOCK, ny), min(x0 + BLOCK, nx)
        top, bottom = max(y0 - half, 0), min(y1 + half, ny)
        for y in range(top, bottom):
            _slide(plane[y], nx, x0, x1, half, ordered, column)
            for x in range(x1 - x0):
                along[x, y - top] = column[x]
        for x in range(x1 - x0):
            _slide(along[x], bottom - top, y0 - top, y1 - top, half, ordered, column)
            for y in range(y1 - y0):
                out[block, y, x] = column[y]


@kernel
def _slide(
    values: NDArray[np.float32],
    size: int,
    start: int,
    stop: int,
    half: int,
    ordered: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Medians of the windows around ``start`` to ``stop`` of the first ``size`` values, kept in order as they slide."""
    count = 0
    for i in range(max(start - half, 0), min(start + half, size)):
        count = _insert(ordered, count, values[i])
    for centre in range(start, stop):
        if centre + half < size:
            count = _insert(ordered, count, values[centre + half])
        if count == 0:
            out[centre - start] = np.nan
        else:
            out[centre - start] = (np.float64(ordered[(count - 1) // 2]) + ordered[count // 2]) / 2.0
        if centre - half >= 0:
            count = _remove(ordered, count, values[centre - half])


@kernel
def _insert(ordered: NDArray[np.float32], count: int, value: float) -> int:
    """Put a finite value in its place; the new number of values."""
    if not abs(value) < np.inf:
        return count
    i = count
    while i > 0 and ordered[i - 1] > value:
        ordered[i] = ordered[i - 1]
        i -= 1
    ordered[i] = value
    return count + 1


@kernel
def _remove(ordered: NDArray[np.float32], count: int, value: float) -> int:
    """Take a finite value out; the new number of values."""
    if not abs(value) < np.inf:
        return count
    i = 0
    while ordered[i] != value:
        i += 1
    for j in range(i, count - 1):
        ordered[j] = ordered[j + 1]
    return count - 1


@kernel
def _undecided(
    start: int,
    stop: int,
    plane: NDArray[np.float32],
    near: float,
    far: float,
    relative: bool,
    half: int,
    out: NDArray[np.bool_],
) -> None:
    """See :func:`undecided`; for some rows of the grid."""
    ny, nx = plane.shape
    sample = np.empty(25, np.float32)
    for by in range(start, stop):
        y0, y1 = by * BLOCK, min(by * BLOCK + BLOCK, ny)
        for bx in range(out.shape[1]):
            x0, x1 = bx * BLOCK, min(bx * BLOCK + BLOCK, nx)
            count = 0
            for i in range(5):
                for j in range(5):
                    count = _insert(sample, count, plane[y0 + i * (y1 - 1 - y0) // 4, x0 + j * (x1 - 1 - x0) // 4])
            centre = sample[count // 2] if count else np.float32(np.nan)
            close = np.float32(near * centre if relative else near)
            wide = np.float32(far * centre if relative else far)
            outside = 0  # a value that is not finite lies outside
            for y in range(y0, y1):
                for x in range(x0, x1):
                    outside += 0 if abs(plane[y, x] - centre) <= wide else 1
            left, right = max(x0 - half, 0), min(x1 + half, nx)
            top, bottom = max(y0 - half, 0), min(y1 + half, ny)
            # at the edge a window has as few as half of its pixels: fewer outside leave its middle in doubt
            few = half if left == x0 - half and right == x1 + half else max(min(half + 1, nx) - 2, 0) // 2
            lines = half if top == y0 - half and bottom == y1 + half else max(min(half + 1, ny) - 2, 0) // 2
            unsure = 0
            for y in range(top, bottom):
                distant = 0
                for x in range(left, right):
                    distant += 0 if abs(plane[y, x] - centre) <= close else 1
                unsure += 1 if distant > few else 0
            out[by, bx] = outside > 0 or unsure > lines
