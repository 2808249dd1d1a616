"""Frames combined straight from the 16-bit integers of their files: whole rows, as nothing in them is masked.

What each pixel needs of all frames is found for a stretch of lanes by loops that do one thing each, which is what
compilers turn into SIMD. A clip then looks at those few pixels alone whose least or greatest value is too far away.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.combine_kernels import (
    MAD,
    MAD_TO_SIGMA,
    MEAN,
    MEDIAN,
    NOISE,
    ROUNDING,
    Plan,
    mad_limit,
    reject_mad,
    reject_noise,
)
from larun.algorithms.jit import kernel
from larun.algorithms.order import median_of, select, sort_lanes

__all__ = ["Complete", "Stored", "complete_row", "stored_rows"]

_GROUP = 64  # pixels that are asked together whether one of them is far
_WHOLE = 2.0**22  # levels below this that are whole numbers leave float32 exact


class Stored(NamedTuple):
    """Rows of every frame as they lie in the files."""

    counts: NDArray[np.uint16]  # (n, rows, raw columns), the bytes of big-endian int16
    parts: NDArray[np.int64]  # (p, 3) of each amplifier: first raw column, first column in the image, columns
    levels: NDArray[np.float64]  # (p, n, rows)
    zeros: NDArray[np.float32]  # (n,) what is added to the integers
    full: NDArray[np.float64]  # (p,) no frame is saturated below
    weights: NDArray[np.float64]  # (n,)


class Complete(NamedTuple):
    """Pixels to which every frame contributes, in a row that stands for all of its amplifiers."""

    variance: NDArray[np.float32]  # (n, nx) of each frame
    result: NDArray[np.float32]  # (nx,) of the combination
    floor: NDArray[np.float64]  # (nx,) the least variance, each relative to what its frame has


class _Row(NamedTuple):
    """Scratch: what is known of each pixel of a row, (nx,)."""

    low: NDArray[np.float32]  # the lower and the upper median
    high: NDArray[np.float32]
    least: NDArray[np.float32]
    greatest: NDArray[np.float32]
    total: NDArray[np.float64]  # Σ w x
    spread: NDArray[np.float64]  # what clip="mad" measures by
    ranks: NDArray[np.float64]
    far: NDArray[np.uint8]  # whether a clip has to look at it
    column: NDArray[np.float32]  # (n,) one pixel
    sorted: NDArray[np.float64]  # (n,)


@kernel
def complete_row(variance: NDArray[np.float32], weights: NDArray[np.float64], plan: Plan, out: Any) -> None:
    """Fill ``result`` and ``floor`` of a :class:`Complete`, given its ``variance``."""
    result, floor = out
    frames, nx = variance.shape
    for x in range(nx):
        weight, noise, least = 0.0, 0.0, np.inf
        for k in range(frames):
            least = min(least, variance[k, x] * (1.0 / plan.relative[k]))
            if plan.method == MEDIAN and frames > 2:
                noise += 1.0 / np.sqrt(np.float64(variance[k, x]))
            else:
                weight += weights[k]
                noise += weights[k] ** 2 * variance[k, x]
        if plan.method == MEDIAN and frames > 2:
            result[x] = plan.factor[frames] * frames / noise**2
        else:
            result[x] = noise / weight**2
        floor[x] = least


@kernel
def stored_rows(rows: int, first: int, stored: Stored, complete: Complete, plan: Plan, out: Any) -> int:
    """Combine some rows into data and variance; returns how many stretches are saturated, which are not to be used."""
    data, variance = out
    frames, nx = complete.variance.shape
    row = _Row(
        np.empty(nx, np.float32),
        np.empty(nx, np.float32),
        np.empty(nx, np.float32),
        np.empty(nx, np.float32),
        np.empty(nx, np.float64),
        np.empty(nx, np.float64),
        np.empty(nx, np.float64),
        np.empty(nx, np.uint8),
        np.empty(frames, np.float32),
        np.empty(frames, np.float64),
    )
    order = np.empty((frames, plan.lanes), np.float32)
    weight, saturated, typical = 0.0, 0, 0.0
    for k in range(frames):
        weight += stored.weights[k]
    for y in range(rows):
        for part in range(len(stored.parts)):
            raw, place, columns = stored.parts[part]
            for x0 in range(0, columns, plan.lanes):
                width = min(plan.lanes, columns - x0)
                top = _load(first + y, part, raw + x0, width, stored, order)
                saturated += 1 if top >= stored.full[part] else 0
                _look(place + x0, width, stored.weights, plan, order, row)
        if plan.method == MEDIAN and frames > 2:
            for x in range(nx):
                data[y, x] = (np.float64(row.low[x]) + row.high[x]) / 2.0
        else:
            for x in range(nx):
                data[y, x] = row.total[x] / weight
        for x in range(nx):
            variance[y, x] = complete.result[x]
        if plan.method == MAD and frames > 2:
            typical = _middle_of(row.spread, typical, row.ranks)
        if plan.method == NOISE or (plan.method == MAD and frames > 2):
            _clip(first + y, typical, stored, complete, plan, row, data[y], variance[y])
    return saturated


@kernel
def _load(y: int, part: int, x0: int, width: int, stored: Stored, order: NDArray[np.float32]) -> float:
    """Fill ``order`` with the levelled values of a stretch; the greatest of them before that."""
    most = np.float32(-np.inf)
    for k in range(order.shape[0]):
        values, counts, top = order[k], stored.counts[k, y, x0 : x0 + width], np.uint16(0)
        for j in range(width):  # the bytes exchanged; less 32768 they are the integer
            count = counts[j]
            turned = np.uint16((np.uint16(count >> 8) | np.uint16(count << 8)) ^ np.uint16(0x8000))
            top = turned if turned > top else top
        zero, level = stored.zeros[k] - np.float32(32768), stored.levels[part, k, y]
        most = max(most, np.float32(top) + zero)
        if level == np.rint(level) and abs(level) < _WHOLE:
            base = np.float32(zero - level)
            for j in range(width):
                count = counts[j]
                turned = np.uint16((np.uint16(count >> 8) | np.uint16(count << 8)) ^ np.uint16(0x8000))
                values[j] = np.float32(turned) + base
        else:
            for j in range(width):
                count = counts[j]
                turned = np.uint16((np.uint16(count >> 8) | np.uint16(count << 8)) ^ np.uint16(0x8000))
                values[j] = np.float32(np.float64(np.float32(turned) + zero) - level)
    return most  # type: ignore[return-value]


@kernel
def _look(x0: int, width: int, weights: NDArray[np.float64], plan: Plan, order: NDArray[np.float32], row: _Row) -> None:
    """What a combination needs to know of the pixels of a stretch."""
    frames = order.shape[0]
    low, high = row.low[x0 : x0 + width], row.high[x0 : x0 + width]
    if plan.method != MEDIAN or frames <= 2:
        total, equal = row.total[x0 : x0 + width], True
        for j in range(width):
            total[j] = 0.0
        for k in range(frames):
            equal = equal and weights[k] == 1.0
        for k in range(frames):
            values, w = order[k], weights[k]
            if equal:
                for j in range(width):
                    total[j] += values[j]
            else:
                for j in range(width):
                    total[j] += w * values[j]
    if plan.method == NOISE or plan.method == MAD:
        least, greatest = row.least[x0 : x0 + width], row.greatest[x0 : x0 + width]
        for j in range(width):
            least[j] = order[0, j]
            greatest[j] = order[0, j]
        for k in range(1, frames):
            values = order[k]
            for j in range(width):
                value = values[j]
                least[j] = value if value < least[j] else least[j]
                greatest[j] = value if value > greatest[j] else greatest[j]
    if plan.method != MEAN:
        sort_lanes(width, plan.network, order)
        below, above = order[max((frames - 1) // 2, 0)], order[frames // 2]
        for j in range(width):
            low[j] = below[j]
            high[j] = above[j]
    if plan.method == MAD and frames > 2:
        for k in range(frames):
            values = order[k]
            for j in range(width):
                values[j] = abs(values[j] - low[j])
        sort_lanes(width, plan.network, order)
        spread = row.spread[x0 : x0 + width]
        scale = MAD_TO_SIGMA * plan.factor[frames]
        for j in range(width):
            spread[j] = scale * ((np.float64(below[j]) + above[j]) / 2.0)


@kernel
def _middle_of(values: NDArray[np.float64], near: float, ranks: NDArray[np.float64]) -> float:
    """The median of positive values; quick where it lies near what is given (that of the row before)."""
    size, smaller, inside = len(values), 0, 0
    lower, upper = 0.97 * near, 1.03 * near
    for x in range(size):
        smaller += 1 if values[x] < lower else 0
    for x in range(size):
        value = values[x]
        ranks[inside] = value
        inside += 1 if (value >= lower) & (value <= upper) else 0
        inside = min(inside, size - 1)
    first, second = (size - 1) // 2 - smaller, size // 2 - smaller
    if first >= 0 and second < inside:
        one = select(ranks, second, inside)
        other = one if first == second else np.max(ranks[:second])
        return 0.5 * (one + other)
    for x in range(size):
        ranks[x] = values[x]
    return median_of(ranks, size)


@kernel
def _clip(
    y: int, typical: float, stored: Stored, complete: Complete, plan: Plan, row: _Row, data: Any, variance: Any
) -> None:
    """Find the pixels with a value too far away, and combine what they have besides."""
    frames = len(stored.weights)
    for part in range(len(stored.parts)):
        raw, place, columns = stored.parts[part]
        for x0 in range(place, place + columns, _GROUP):
            x1 = min(x0 + _GROUP, place + columns)
            if not _mark(x0, x1, typical, complete, plan, row):
                continue
            for x in range(x0, x1):
                if row.far[x]:
                    for k in range(frames):
                        count = stored.counts[k, y, raw + x - place]
                        turned = np.uint16((np.uint16(count >> 8) | np.uint16(count << 8)) ^ np.uint16(0x8000))
                        value = np.float32(turned) + (stored.zeros[k] - np.float32(32768))
                        row.column[k] = np.float32(np.float64(value) - stored.levels[part, k, y])
                    _combine_one(x, typical, stored.weights, complete, plan, row, data, variance)


@kernel
def _mark(x0: int, x1: int, typical: float, complete: Complete, plan: Plan, row: _Row) -> bool:
    """Mark the pixels of a group that a clip has to look at; whether there is one."""
    low, least, greatest, far = row.low[x0:x1], row.least[x0:x1], row.greatest[x0:x1], row.far[x0:x1]
    found = 0
    if plan.method == NOISE:
        floor, easiest = complete.floor[x0:x1], plan.easiest
        for j in range(x1 - x0):
            middle = np.float64(low[j])
            below, above = middle - np.float64(least[j]), np.float64(greatest[j]) - middle
            distance = above if above > below else below
            mark = np.uint8(1) if distance * distance > easiest * floor[j] else np.uint8(0)
            far[j] = mark
            found += int(mark)
    else:
        spread, factor, sigma = row.spread[x0:x1], plan.factor[complete.variance.shape[0]], plan.sigma
        for j in range(x1 - x0):
            middle = np.float64(low[j])
            below, above = middle - np.float64(least[j]), np.float64(greatest[j]) - middle
            distance = above if above > below else below
            own = spread[j] / factor
            limit = sigma * (own if own > typical else typical)
            rounding = ROUNDING * abs(middle)
            mark = np.uint8(1) if distance > (limit if limit > rounding else rounding) else np.uint8(0)
            far[j] = mark
            found += int(mark)
    return found > 0


@kernel
def _combine_one(
    x: int,
    typical: float,
    weights: NDArray[np.float64],
    complete: Complete,
    plan: Plan,
    row: _Row,
    data: Any,
    variance: Any,
) -> None:
    """Clip the values of one pixel and average the rest."""
    values = row.column
    if plan.method == NOISE:
        reject_noise(values, complete.variance[:, x], np.float64(row.low[x]), plan, row.sorted)
    else:
        reference, own = np.float64(row.low[x]), row.spread[x] / plan.factor[len(values)]
        reject_mad(values, reference, mad_limit(reference, own, plan, typical))
    weight, total, noise = 0.0, 0.0, 0.0
    for k in range(len(values)):
        if values[k] == values[k]:
            weight += weights[k]
            total += weights[k] * values[k]
            noise += weights[k] ** 2 * complete.variance[k, x]
    data[x] = total / weight
    variance[x] = noise / weight**2
