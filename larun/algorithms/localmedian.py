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
from larun.algorithms.order import median_network, sort_lanes

__all__ = ["BLOCK", "block_medians", "pixel_medians", "spread_blocks", "undecided"]

#: Rows and columns of a block.
BLOCK = 32

_FEW = 12  # pixels of a block that are looked at one by one
_TOGETHER = 8  # rows of a block whose medians are found together

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
    network = median_network(window)
    over_rows(
        len(places), lambda start, stop: _medians(start, stop, values, places, window // 2, network, out), band=16
    )
    return out


def pixel_medians(plane: NDArray[np.float32], pixels: Blocks, window: int = 31) -> NDArray[np.float32]:
    """The medians of some pixels, (n,); as :func:`block_medians`, with row and column of each pixel.

    Examples
    --------
    >>> pixel_medians(np.arange(9, dtype=np.float32).reshape(3, 3), np.array([[0, 1], [2, 2]]), 3).tolist()
    [2.5, 6.0]
    """
    values = read_only(plane, np.float32)
    places = read_only(pixels, np.int64)
    out = np.empty(len(places), np.float32)
    network = median_network(window)
    over_rows(
        len(places), lambda start, stop: _around(start, stop, values, places, window // 2, network, out), band=256
    )
    return out


def undecided(
    plane: NDArray[np.float32], near: float, far: float, relative: bool, window: int = 31
) -> tuple[Blocks, Blocks]:
    """Where some pixel may lie further than ``near + far`` from the median of its neighbourhood: blocks, and pixels.

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
    blocks : ndarray of int64, (n, 2)
        Row and column in the grid of blocks, of those of which nothing is certain.
    pixels : ndarray of int64, (n, 2)
        Row and column of the few that stand out in other blocks.
    """
    values = read_only(plane, np.float32)
    ny, nx = values.shape
    grid = (-(-ny // BLOCK), -(-nx // BLOCK))
    outside = np.empty(grid, np.int64)
    found: dict[int, NDArray[np.int64]] = {}
    half = window // 2

    def work(start: int, stop: int) -> None:
        pixels = np.empty((grid[1] * (stop - start) * _FEW, 2), np.int64)
        count = _undecided(start, stop, values, (near, far), relative, half, outside, pixels)
        found[start] = pixels[:count].copy()

    over_rows(grid[0], work, band=2)
    return np.argwhere(outside > _FEW), np.concatenate([found[start] for start in sorted(found)])


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
    start: int,
    stop: int,
    plane: NDArray[np.float32],
    blocks: Blocks,
    half: int,
    network: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """The medians of some blocks."""
    ny, nx = plane.shape
    along = np.empty((BLOCK, BLOCK + 2 * half), np.float32)  # medians along the rows, a column of them in a row
    column = np.empty(BLOCK, np.float32)
    ordered = np.empty(2 * half + 1, np.float32)
    order = np.empty((2 * half + 1, _TOGETHER * BLOCK), np.float32)
    lines = np.empty((BLOCK + 2 * half + _TOGETHER, BLOCK), np.float32)
    for block in range(start, stop):
        y0, x0 = blocks[block, 0] * BLOCK, blocks[block, 1] * BLOCK
        if _whole(plane, y0 - half, y0 + BLOCK + half, x0 - half, x0 + BLOCK + half):
            _whole_block(plane, y0, x0, half, network, order, lines, out[block])
            continue
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
def _whole(plane: NDArray[np.float32], top: int, bottom: int, left: int, right: int) -> bool:
    """Whether a part of the image lies inside it and has a finite value everywhere."""
    if top < 0 or left < 0 or bottom > plane.shape[0] or right > plane.shape[1]:
        return False
    faults = 0
    for y in range(top, bottom):
        for x in range(left, right):
            faults += 0 if abs(plane[y, x]) < np.float32(np.inf) else 1
    return faults == 0


@kernel
def _whole_block(
    plane: NDArray[np.float32],
    y0: int,
    x0: int,
    half: int,
    network: NDArray[np.int64],
    order: NDArray[np.float32],
    lines: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """The medians of a block with all its neighbourhood, many windows at a time."""
    rows = BLOCK + 2 * half
    for first in range(0, rows, _TOGETHER):
        count = min(_TOGETHER, rows - first)
        for k in range(2 * half + 1):
            for y in range(count):
                for x in range(BLOCK):
                    order[k, y * BLOCK + x] = plane[y0 - half + first + y, x0 - half + k + x]
        sort_lanes(count * BLOCK, network, order)
        for y in range(count):
            for x in range(BLOCK):
                lines[first + y, x] = order[half, y * BLOCK + x]
    for first in range(0, BLOCK, _TOGETHER):
        for k in range(2 * half + 1):
            for y in range(_TOGETHER):
                for x in range(BLOCK):
                    order[k, y * BLOCK + x] = lines[first + k + y, x]
        sort_lanes(_TOGETHER * BLOCK, network, order)
        for y in range(_TOGETHER):
            for x in range(BLOCK):
                out[first + y, x] = order[half, y * BLOCK + x]


@kernel
def _around(
    start: int,
    stop: int,
    plane: NDArray[np.float32],
    pixels: Blocks,
    half: int,
    network: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    """The medians of some pixels."""
    ny, nx = plane.shape
    line, one = np.empty(2 * half + 1, np.float32), np.empty(1, np.float32)
    ordered = np.empty(2 * half + 1, np.float32)
    order = np.empty((2 * half + 1, 2 * half + 1), np.float32)
    for pixel in range(start, stop):
        y0, x0 = pixels[pixel, 0], pixels[pixel, 1]
        top, bottom = max(y0 - half, 0), min(y0 + half + 1, ny)
        if _whole(plane, y0 - half, y0 + half + 1, x0 - half, x0 + half + 1):
            for y in range(2 * half + 1):
                for k in range(2 * half + 1):
                    order[k, y] = plane[top + y, x0 - half + k]
            sort_lanes(2 * half + 1, network, order)
            for y in range(2 * half + 1):
                line[y] = order[half, y]
        else:
            for y in range(top, bottom):
                _slide(plane[y], nx, x0, x0 + 1, half, ordered, one)
                line[y - top] = one[0]
        _slide(line, bottom - top, y0 - top, y0 - top + 1, half, ordered, one)
        out[pixel] = one[0]


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
    limits: tuple[float, float],
    relative: bool,
    half: int,
    out: NDArray[np.int64],
    pixels: Blocks,
) -> int:
    """See :func:`undecided`; for some rows of the grid. How many pixels were found."""
    near, far = limits
    ny, nx = plane.shape
    known = 0
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
            out[by, bx] = outside if unsure <= lines else _FEW + 1
            if 0 < out[by, bx] <= _FEW:
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        if not abs(plane[y, x] - centre) <= wide:
                            pixels[known, 0], pixels[known, 1] = y, x
                            known += 1
    return known
