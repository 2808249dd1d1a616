"""The loops of the background mesh: means of bins, their mode, and the noise of the pixels that are left.

Each is without branches over contiguous rows, in one order whatever the threads. Medians need no sort of the pixels: a
bracket about the middle is halved by counting, until few values are left in it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = ["LANES", "bin_means", "cell_statistics", "interpolate_rows"]

#: Sums are kept in so many parts, so that they need not be made one after the other.
LANES = 64
#: A bracket with so few values is sorted.
_FEW = 24
#: Values that are looked at together, and one by one only if one of them is wanted.
_SOME = 16
#: Largest (mean - median) / sigma that Pearson's relation is trusted with (Bertin & Arnouts 1996).
_MAX_SKEW = 0.3


@kernel
def bin_means(data: Any, flags: Any, mask: int, size: int, means: Any) -> None:
    """Mean of the usable pixels of each bin of a row of cells where they are at least half; NaN elsewhere."""
    height, nx = data.shape
    columns, unusable, none, infinity = means.shape[0], np.uint32(mask), np.uint32(0), np.float32(np.inf)
    bins_y = max(1, height // size)
    totals, counts = np.empty(nx), np.empty(nx, np.float32)
    means[:, :] = np.nan
    for by in range(bins_y):
        totals[:] = 0.0
        counts[:] = np.float32(0)
        y0, y1 = by * height // bins_y, (by + 1) * height // bins_y
        for y in range(y0, y1):
            row, bits = data[y], flags[y]
            for x in range(nx):
                value = row[x]
                good = ((bits[x] & unusable) == none) & (abs(value) < infinity)
                totals[x] += np.float64(value if good else np.float32(0))
                counts[x] += np.float32(1) if good else np.float32(0)
        for column in range(columns):
            x0, width = column * nx // columns, (column + 1) * nx // columns - column * nx // columns
            bins_x = max(1, width // size)
            for bx in range(bins_x):
                left, right = bx * width // bins_x, (bx + 1) * width // bins_x
                total, good = 0.0, 0.0
                for x in range(x0 + left, x0 + right):
                    total += totals[x]
                    good += counts[x]
                if good > 0 and 2 * good >= (y1 - y0) * (right - left):
                    means[column, by * bins_x + bx] = total / good


@kernel
def _spread(ordered: Any, low: int, high: int, middle: float) -> float:
    """Median of the distances from ``middle`` of sorted values ``low … high - 1``."""
    count, total = high - low, 0.0
    for k in (count // 2, (count - 1) // 2):
        # The k + 1 nearest values stand in a row: the first row that ends farther above than it begins below.
        first, last = low, high - 1 - k
        while first < last:
            at = (first + last) // 2
            if ordered[at + k] - middle >= middle - ordered[at]:
                last = at
            else:
                first = at + 1
        distance = max(abs(ordered[first + k] - middle), abs(ordered[first] - middle))
        if first > low:
            distance = min(distance, max(abs(ordered[first + k - 1] - middle), abs(ordered[first - 1] - middle)))
        total += distance
    return 0.5 * total


@kernel
def _clipped_mode(ordered: Any, count: int, sigma: float) -> tuple[float, float, float, float]:
    """Pearson's mode of sorted values clipped about their median, the limits of the clip and the robust scale."""
    low, high, median, scale = 0, count, 0.0, 0.0
    for _ in range(50):
        middle = low + (high - low) // 2
        median = 0.5 * (ordered[middle] + ordered[middle if (high - low) % 2 else middle - 1])
        scale = 1.482602 * _spread(ordered, low, high, median)
        before = high - low
        while abs(ordered[low] - median) > sigma * scale:
            low += 1
        while abs(ordered[high - 1] - median) > sigma * scale:
            high -= 1
        if high - low == before:
            break
    total = 0.0
    for n in range(low, high):
        total += ordered[n]
    skew = min(max(total / (high - low) - median, -_MAX_SKEW * scale), _MAX_SKEW * scale)
    return median - 1.5 * skew, median - sigma * scale, median + sigma * scale, scale


@kernel
def _at_most(values: Any, limit: np.float32) -> int:
    count = np.int32(0)  # as wide as the values, and kept so: twice as many are compared at once
    for n in range(values.size):
        count = np.int32(count + np.int32(values[n] <= limit))
    return int(count)


@kernel
def _sorted_into(few: Any, kept: int, value: Any) -> int:
    """Put a value into its place among the ``kept`` sorted ones, and return how many there are then."""
    at = kept
    while at > 0 and few[at - 1] > value:
        few[at] = few[at - 1]
        at -= 1
    few[at] = value
    return kept + 1


@kernel
def _bracket(values: Any, count: int, few: Any) -> tuple[Any, Any, int, int]:
    """``low`` and ``high``, from a few of the values, with the median above the one and not above the other.

    And how many values are not above each of them.
    """
    sampled = 0
    for n in range(0, values.size, max(1, values.size // _FEW)):
        if values[n] == values[n] and sampled < _FEW:
            sampled = _sorted_into(few, sampled, values[n])
    low, high, below, upto = np.float32(-np.inf), np.float32(np.inf), 0, count
    for k in (sampled // 4, sampled - 1 - sampled // 4, sampled // 2):
        if sampled and low < few[k] < high:
            found = _at_most(values, few[k])
            if found <= (count - 1) // 2:
                low, below = few[k], found
            elif found > count // 2:
                high, upto = few[k], found
        if np.isfinite(low) and np.isfinite(high):
            break
    if not (np.isfinite(low) and np.isfinite(high)):
        smallest, largest = np.float32(np.inf), np.float32(-np.inf)
        for n in range(values.size):
            value = values[n]
            smallest = value if value < smallest else smallest
            largest = value if value > largest else largest
        high = min(high, largest)
        if not np.isfinite(low):
            low = smallest - np.float32(1e-3) * abs(smallest) - np.float32(1e-30)
    return low, high, below, upto


@kernel
def _median(values: Any, count: int, few: Any) -> float:
    """Median of the ``count`` values that are not NaN; ``few`` is room for as many as a bracket may keep.

    The next limit is where the values, spread evenly over the bracket, would put one just below the median, then one
    just above it; every third is the middle, which ends it whatever the values are.
    """
    low, high, below, upto = _bracket(values, count, few)
    first, second = (count - 1) // 2, count // 2
    middle, turn = high, 0
    while upto - below > _FEW:
        inside, margin = float(upto - below), 4.0 + 0.5 * math.sqrt(upto - below)
        share = (first - below - margin) / inside if turn == 0 else (second - below + margin) / inside
        share = share if turn < 2 and 0.0 < share < 1.0 else 0.5
        middle = np.float32(np.float64(low) + share * (np.float64(high) - np.float64(low)))
        if not low < middle < high:
            middle = np.float32(0.5 * (np.float64(low) + np.float64(high)))
            if not low < middle < high:
                return float(high)  # neighbouring numbers: all that is left is one value
        found = _at_most(values, middle)
        if found <= first:
            low, below = middle, found
        elif found > second:
            high, upto = middle, found
        else:  # the two middle values lie on either side
            break
        turn = (turn + 1) % 3
    if upto - below > _FEW:
        one, two = np.float32(-np.inf), np.float32(np.inf)
        for n in range(values.size):
            value = values[n]
            one = value if one < value <= middle else one
            two = value if middle < value < two else two
        return 0.5 * (np.float64(one) + np.float64(two))
    kept = 0
    for start in range(0, values.size, _SOME):
        part, some = values[start : min(start + _SOME, values.size)], np.int32(0)
        for n in range(part.size):
            some = np.int32(some + np.int32((low < part[n]) & (part[n] <= high)))
        if some > 0:
            for n in range(part.size):
                if (low < part[n]) & (part[n] <= high):
                    kept = _sorted_into(few, kept, part[n])
    return 0.5 * (np.float64(few[first - below]) + np.float64(few[second - below]))


@kernel
def _clipped_rms(values: Any, level: float, scale: float, sums: Any) -> float:
    """Scatter about the level within 3 sigma, with the loss of a cut Gaussian (variance × 0.97334) made up."""
    limit = 3.0 * scale if scale > 0.0 else np.inf
    rms = scale
    for _ in range(20):
        sums[:] = 0.0
        count = 0
        for start in range(0, values.size, LANES):
            part = values[start : start + LANES]
            for k in range(LANES):
                step = np.float64(part[k]) - level
                inside = abs(step) <= limit
                sums[k] += step * step if inside else 0.0
                count += 1 if inside else 0
        if count == 0:
            break
        total = 0.0
        for k in range(LANES):
            total += sums[k]
        previous, rms = rms, math.sqrt(total / count / (0.97334 if limit < np.inf else 1.0))
        if abs(rms - previous) <= 1e-4 * rms:
            break
        limit = 3.0 * rms
    return rms


@kernel
def cell_statistics(
    planes: Any, mask: int, rules: Any, means: Any, ordered: Any, has_variance: bool, cells: Any
) -> None:
    """Level, rms, median variance and share of pixels used of a row of cells; ``ordered`` are the means, sorted."""
    data, variance, flags = planes
    size, sigma, fewest = rules
    height, nx = data.shape
    columns, unusable, none = means.shape[0], np.uint32(mask), np.uint32(0)
    infinity, missing = np.float32(np.inf), np.float32(np.nan)
    bins_y = max(1, height // size)
    room = (height * (nx // columns + 1) + LANES - 1) // LANES * LANES
    pixels, noises = np.empty(room, np.float32), np.empty(room, np.float32)
    sums, few = np.empty(LANES), np.empty(_FEW, np.float32)
    clipped = np.empty(nx // columns + 1, np.uint32)
    cells[:3] = np.nan
    cells[3] = 0.0
    for column in range(columns):
        x0, x1 = column * nx // columns, (column + 1) * nx // columns
        width = x1 - x0
        bins_x = max(1, width // size)
        count = 0
        while count < bins_x * bins_y and ordered[column, count] == ordered[column, count]:
            count += 1
        if count < 1 or count < fewest * bins_x * bins_y:
            continue
        level, low, high, scale = _clipped_mode(ordered[column], count, sigma)
        last = -1
        for y in range(height):
            by = ((y + 1) * bins_y - 1) // height
            if by != last:
                last = by
                for bx in range(bins_x):
                    mean = means[column, by * bins_x + bx]
                    left, right = bx * width // bins_x, (bx + 1) * width // bins_x
                    clipped[left:right] = none if low <= mean <= high else unusable
            row, bits = data[y, x0:x1], flags[y, x0:x1]
            to = pixels[y * width : (y + 1) * width]
            for x in range(width):
                value = row[x]
                good = (((bits[x] & unusable) | clipped[x]) == none) & (abs(value) < infinity)
                to[x] = value if good else missing
            if has_variance:
                noise, into = variance[y, x0:x1], noises[y * width : (y + 1) * width]
                for x in range(width):  # NaN where the noise is not finite, or the pixel is not used
                    into[x] = noise[x] + (noise[x] - noise[x]) + (to[x] - to[x])
        end = (height * width + LANES - 1) // LANES * LANES
        for n in range(height * width, end):
            pixels[n] = missing
        cells[0, column] = level
        cells[1, column] = _clipped_rms(pixels[:end], level, scale * size, sums)
        used = _at_most(pixels[: height * width], infinity)
        noisy = _at_most(noises[: height * width], infinity) if has_variance else 0
        if noisy > 0:
            cells[2, column] = _median(noises[: height * width], noisy, few)
        cells[3, column] = used / (height * width)


@kernel
def interpolate_rows(mesh: Any, along_y: Any, along_x: Any, floor: float, out: Any, start: int) -> None:
    """Cubic convolution of a padded mesh to some rows of pixels, from row ``start`` on."""
    taps_y, weights_y = along_y
    firsts, weights_x = along_x
    columns = mesh.shape[1]
    line = np.empty(columns)
    for y in range(out.shape[0]):
        tap = taps_y[start + y]
        for c in range(columns):
            total = 0.0
            for j in range(4):
                total += weights_y[j, start + y] * mesh[tap + j, c]
            line[c] = total
        for c in range(firsts.size - 1):
            one, two, three, four = line[c], line[c + 1], line[c + 2], line[c + 3]
            row = out[y, firsts[c] : firsts[c + 1]]
            a, b = weights_x[0, firsts[c] : firsts[c + 1]], weights_x[1, firsts[c] : firsts[c + 1]]
            d, e = weights_x[2, firsts[c] : firsts[c + 1]], weights_x[3, firsts[c] : firsts[c + 1]]
            for x in range(row.size):
                value = 0.0 + a[x] * one
                value += b[x] * two
                value += d[x] * three
                value += e[x] * four
                row[x] = value if value > floor else floor
