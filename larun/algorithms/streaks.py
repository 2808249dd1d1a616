"""Straight streaks across an image, by sums along all lines: satellites, meteors, aircraft."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import mad_sigma
from larun.errors import OptionError

__all__ = ["Streak", "find_streaks", "line_sums"]

Array = NDArray[np.float32]

_SIDE = 256  # bins along the longer axis, at most
_CELL = 16  # bins: the level is a median in each
_PIECE = 50  # bins of a column or row, from which its median is taken
_CLIP = (-3.0, 4.0)  # in units of the noise of a bin: no star or cosmic ray counts for more
_LEAST = 0.4  # of the shorter axis in bins: a line is at least so long, without what is masked
_PARTS = 8
_FILLED = 6  # of the parts of a streak that are bright, at least
_SHARE = 0.35  # of the mean of the whole line, in a bright part
_BESIDE = 6  # bins: the lines beside a streak
_DARKER = 0.5  # of the streak, that is left beside it at most
_WIDTH = 4  # bins on either side that are taken out with a streak
_FAINTEST = 0.25  # of the brightest streak: what is left beside a bright one is no other
_AXIS = 2.5  # bins of slope across the image: what runs along rows or columns is a defect of the chip


class Streak(NamedTuple):
    """A streak from edge to edge.

    Attributes
    ----------
    x1, y1, x2, y2 : float
        Where it enters and leaves, pixels.
    angle : float
        Degrees from +x towards +y, 0 to 180.
    sigma : float
        Its sum in units of the scatter of the sums along all lines.
    brightness : float
        Its excess per pixel of length, in the unit of the image.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    angle: float
    sigma: float
    brightness: float


class _Line(NamedTuple):
    """The best line in one orientation: rows are walked, ``start`` is the column in the first, ``shift`` its change."""

    sigma: float
    start: int
    shift: int
    length: int


def find_streaks(
    image: Array, usable: NDArray[np.bool_], *, threshold: float = 8.0, most: int = 5
) -> tuple[Streak, ...]:
    """Find straight streaks that cross an image.

    The image is binned, levelled in cells and clipped; the sums along all lines come from the fast Radon transform
    (Götz & Druckmüller 1996, Pattern Recognition 29, 711; Brady 1998, SIAM J. Comput. 27, 107; for streaks Nir, Zackay
    & Ofek 2018, AJ 156, 229), each over the root of the number of its bins, and are counted in units of their own
    scatter, which holds whatever stars are left. A streak is bright in most of its parts and dark beside it. Rows
    and columns are levelled first, because the chip has its defects along them: with
    them go streaks within 2° of an axis.

    Parameters
    ----------
    image : ndarray of float32, (ny, nx)
        Without the sky.
    usable : ndarray of bool, (ny, nx)
        What may be summed: neither bad pixels nor stars.
    threshold : float
        Least ``sigma``. There are about 10⁵ independent lines; 8 is beyond what stars below the detection limit do.
    most : int
        Streaks, at most.

    Raises
    ------
    OptionError
        If the threshold is not positive, or the shapes differ.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> image = rng.normal(0, 10, (200, 300)).astype(np.float32)
    >>> y, x = np.mgrid[:200, :300]
    >>> image += (np.abs(y - 0.5 * x - 20) < 1.2) * np.float32(9)
    >>> found = find_streaks(image, np.ones(image.shape, bool))
    >>> len(found), bool(abs(found[0].angle - 26.6) < 1)
    (1, True)
    """
    if not threshold > 0 or image.shape != usable.shape:
        raise OptionError(f"threshold = {threshold}, shapes {image.shape} and {usable.shape}: positive, and the same")
    size = max(1, -(-max(image.shape) // _SIDE))
    level, weight = _binned(image, usable, size)
    if min(level.shape) < 2 * _CELL or not weight.any():
        return ()
    high, values = _flattened(level, weight)
    found: list[Streak] = []
    while len(found) < most:
        orientation, line = _best(values, weight)
        if line is None or line.sigma < threshold:
            break
        x, y = _places(line, orientation, values.shape)
        good = weight[y, x] > 0
        if _is_streak(values, weight, (x, y), orientation):
            made = _streak(line, (x[good], y[good]), size)
            found.append(made._replace(brightness=_brightness(high, weight, (x, y), orientation) * made.brightness))
        weight = weight.copy()  # whatever it is, the next one lies elsewhere
        for away in range(-_WIDTH, _WIDTH + 1):
            there = _beside(x, y, orientation, away, values.shape)
            weight[there[1], there[0]] = 0
    brightest = max((streak.brightness for streak in found), default=0.0)
    kept = [streak for streak in found if streak.brightness > _FAINTEST * brightest]
    return tuple(sorted(kept, key=lambda streak: -streak.sigma))


def line_sums(values: Array) -> Array:
    """Sums along lines that go up through all rows and to the right by 0 to n - 1 columns.

    Parameters
    ----------
    values : ndarray of float32, (n, m)
        n must be a power of two.

    Returns
    -------
    ndarray of float32, (n, m + n)
        ``[s, c + n]`` for shift s over all rows and column c in the first row, -n … m - 1: the sum of one pixel a row.

    Examples
    --------
    >>> sums = line_sums(np.eye(4, dtype=np.float32))
    >>> sums[3, 4], sums[0, 4]
    (np.float32(4.0), np.float32(1.0))
    """
    rows, columns = values.shape
    if rows & (rows - 1):
        raise OptionError(f"{rows} rows: give a power of two")
    width = columns + rows
    sums = np.zeros((rows, 1, width), np.float32)  # (blocks of rows, shift within a block, column in its first row)
    sums[:, 0, rows:] = values
    while sums.shape[0] > 1:
        blocks, shifts, _ = sums.shape
        lower, upper = sums[0::2], sums[1::2]
        made = np.zeros((blocks // 2, 2 * shifts, width), np.float32)
        for shift in range(shifts):
            for more in (0, 1):
                step = shift + more
                made[:, 2 * shift + more] = lower[:, shift]
                made[:, 2 * shift + more, : width - step] += upper[:, shift, step:]
        sums = made
    return np.asarray(sums[0])


def _binned(image: Array, usable: NDArray[np.bool_], size: int) -> tuple[Array, Array]:
    """Means of the usable pixels in bins, and 1 where at least half of a bin is usable."""
    ny, nx = (length // size for length in image.shape)
    cut = (slice(0, ny * size), slice(0, nx * size))
    good = usable[cut] & np.isfinite(image[cut])
    count = good.reshape(ny, size, nx, size).sum(axis=(1, 3), dtype=np.float32)
    total = np.where(good, image[cut], np.float32(0)).reshape(ny, size, nx, size).sum(axis=(1, 3), dtype=np.float32)
    weight = (count >= 0.5 * size * size).astype(np.float32)
    return total / np.maximum(count, 1), weight


def _flattened(level: Array, weight: Array) -> tuple[Array, Array]:
    """The bins less the median around them; and over their noise, clipped, 0 where they mean nothing."""
    ny, nx = (-(-length // _CELL) * _CELL for length in level.shape)
    pad = ((0, ny - level.shape[0]), (0, nx - level.shape[1]))
    known = np.where(weight > 0, level, np.float32(np.median(level[weight > 0])))
    cells = np.pad(known, pad, mode="reflect").reshape(ny // _CELL, _CELL, nx // _CELL, _CELL)
    medians = np.median(cells.transpose(0, 2, 1, 3).reshape(ny // _CELL, nx // _CELL, -1), axis=2)
    high = (cells - medians[:, None, :, None]).reshape(ny, nx)[: level.shape[0], : level.shape[1]]
    even = _without_columns(_without_columns(high).T).T
    noise = mad_sigma(even[weight > 0], 0.0)
    if not noise > 0:
        return high, np.zeros_like(level)
    return high, np.asarray(np.where(weight > 0, np.clip(even / noise, *_CLIP), 0), np.float32)


def _without_columns(high: Array) -> Array:
    """Less the median of each piece of a column: defects of columns begin somewhere and go on for long."""
    pieces = np.array_split(high, max(1, round(high.shape[0] / _PIECE)), axis=0)
    return np.concatenate([piece - np.median(piece, axis=0) for piece in pieces], axis=0)


def _turned(plane: Array, orientation: int) -> Array:
    """Flat or steep lines, going right or left, as lines that go up and to the right."""
    plane = plane if orientation < 2 else plane.T
    return plane if orientation % 2 == 0 else plane[:, ::-1]


def _best(values: Array, weight: Array) -> tuple[int, _Line | None]:
    """The orientation and the line whose sum stands out most."""
    best: tuple[int, _Line | None] = (0, None)
    least = _LEAST * min(values.shape)
    for orientation in range(4):
        sums = line_sums(_rows_of_two(_turned(values, orientation)))
        counts = line_sums(_rows_of_two(_turned(weight, orientation)))
        rows = _turned(values, orientation).shape[0]
        scores = np.where(counts >= least, sums / np.sqrt(np.maximum(counts, 1)), np.float32(np.nan))
        scores[: math.ceil(_AXIS * len(scores) / rows)] = np.nan
        known = scores[np.isfinite(scores)]
        if known.size < 100:
            continue
        middle = float(np.median(known))
        spread = max(mad_sigma(known, middle), 1.0)
        top = int(np.nanargmax(scores))
        shift, start = divmod(top, scores.shape[1])
        line = _Line(float((scores.flat[top] - middle) / spread), start - len(scores), shift, len(scores))
        if best[1] is None or line.sigma > best[1].sigma:
            best = (orientation, line)
    return best


def _rows_of_two(plane: Array) -> Array:
    rows = 1 << (plane.shape[0] - 1).bit_length()
    return np.asarray(np.pad(plane, ((0, rows - plane.shape[0]), (0, 0))), np.float32)


def _places(line: _Line, orientation: int, shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The bins (x, y) of a line that lie in the image."""
    rows, columns = shape if orientation < 2 else shape[::-1]
    row = np.arange(rows)
    column = np.rint(line.start + row * line.shift / max(line.length - 1, 1)).astype(np.intp)
    inside = (column >= 0) & (column < columns)
    row, column = row[inside], column[inside]
    if orientation % 2:
        column = columns - 1 - column
    return (column, row) if orientation < 2 else (row, column)


def _beside(
    x: NDArray[np.intp], y: NDArray[np.intp], orientation: int, away: int, shape: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The bins of a parallel line."""
    x, y = (x + away, y) if orientation < 2 else (x, y + away)
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    return x[inside], y[inside]


def _is_streak(
    values: Array, weight: Array, places: tuple[NDArray[np.intp], NDArray[np.intp]], orientation: int
) -> bool:
    """Bright in most of its parts, and dark beside it."""
    x, y = places
    good = weight[y, x] > 0
    along = values[y, x][good]
    if along.size < 2 * _PARTS:
        return False
    mean = float(along.mean())
    parts = [float(part.mean()) for part in np.array_split(along, _PARTS)]
    sides = []
    for away in (-_BESIDE, _BESIDE):
        bx, by = _beside(x, y, orientation, away, values.shape)
        there = values[by, bx][weight[by, bx] > 0]
        sides.append(float(there.mean()) if there.size else 0.0)
    return sum(part > _SHARE * mean for part in parts) >= _FILLED and max(sides) < _DARKER * mean


def _brightness(
    high: Array, weight: Array, places: tuple[NDArray[np.intp], NDArray[np.intp]], orientation: int
) -> float:
    """Sum across a streak of the means along it and along the lines beside it."""
    total = 0.0
    for away in range(-_WIDTH, _WIDTH + 1):
        x, y = _beside(*places, orientation, away, high.shape)
        there = high[y, x][weight[y, x] > 0]
        total += float(there.mean()) if there.size else 0.0
    return total


def _streak(line: _Line, places: tuple[NDArray[np.intp], NDArray[np.intp]], size: int) -> Streak:
    """Its geometry; ``brightness`` is the width of a bin across it, pixels."""
    x, y = ((place + 0.5) * size - 0.5 for place in places)
    first, last = (float(x[0]), float(y[0])), (float(x[-1]), float(y[-1]))
    angle = math.degrees(math.atan2(last[1] - first[1], last[0] - first[0])) % 180.0
    across = size * max(abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle))))
    return Streak(*first, *last, angle, line.sigma, across)
