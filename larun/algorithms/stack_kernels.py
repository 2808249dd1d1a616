"""Kernels of :mod:`larun.algorithms.stacking`: what most frames see, what only one sees, and the mean of the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun import flags as fl
from larun.algorithms.jit import kernel
from larun.algorithms.order import sort_lanes

__all__ = ["mark_rows", "mean_rows", "middle_rows", "spread_rows"]

_CLEAN, _NO_DATA = np.uint32(0), fl.NO_DATA
_LANES = 512
_CHUNK = 64


@kernel
def level_rows(scale: Any, plane: Any, first: Any, out_flags: Any, start: Any, stop: Any, planes: Any) -> None:
    """Bring rows of a frame to the light and the sky of the reference; NaN where a flag keeps a pixel out.

    Parameters
    ----------
    scale : float
        On the data.
    plane : tuple of float
        ``a + b x + c y`` that is taken off.
    first : tuple of int
        y and x of the first pixel.
    out_flags : uint32
        Flags of pixels that do not count.
    start, stop : int
        Rows to change.
    planes : tuple of ndarray, (rows, nx)
        Data and variance float32, changed in place; flags uint32.
    """
    values, noise, flags = planes
    a, b, c = plane
    square = scale * scale
    for row in range(start, stop):
        level = a + c * (first[0] + row)
        data, spread, bits = values[row], noise[row], flags[row]
        for column in range(data.size):
            value = data[column] * scale - (level + b * (first[1] + column))
            data[column] = math.nan if bits[column] & out_flags != 0 else value
            spread[column] *= square


@kernel
def middle_rows(values: Any, network: Any, start: Any, stop: Any, out: Any) -> None:
    """What most frames see: the median over frames of each pixel; of two the lower one; NaN where there is none.

    Many pixels are sorted together. Missing values are infinite, as many above as below, so that the middle stays.

    Parameters
    ----------
    values : ndarray of float32, (n, rows, nx)
        NaN where a frame has nothing.
    network : ndarray of int64, (m, 2)
        Of :func:`larun.algorithms.order.median_network`, for n.
    start, stop : int
        Rows to fill.
    out : ndarray of float32, (2, rows, nx)
        The median, and how many frames it is of.
    """
    count, width = values.shape[0], values.shape[2]
    order = np.empty((count, _LANES), np.float32)
    number = np.empty(_LANES, np.int64)
    up, down = np.float32(np.inf), np.float32(-np.inf)
    odd = count % 2 == 1
    for row in range(start, stop):
        for first in range(0, width, _LANES):
            size = min(_LANES, width - first)
            number[:size] = 0
            for k in range(count):
                for j in range(size):
                    value = values[k, row, first + j]
                    known = value == value
                    lost = k - number[j]  # missing so far
                    order[k, j] = value if known else (up if lost % 2 == 0 else down)
                    number[j] += 1 if known else 0
            sort_lanes(size, network, order)
            below, above = order[max(count // 2 - 1, 0)], order[count // 2]
            for j in range(size):
                n = number[j]
                even = n % 2 == 0
                low = above[j] if odd and not even else below[j]
                high = above[j] if odd or even else below[j]
                out[1, row, first + j] = n
                if n == 0:
                    out[0, row, first + j] = math.nan
                elif n == 2:  # of two that differ, light that only one has seen is what is too much
                    out[0, row, first + j] = low
                else:
                    out[0, row, first + j] = 0.5 * (float(low) + float(high))


@kernel
def _blurred(plane: Any, row: Any, column: Any, line: Any) -> Any:
    """Mean around a pixel with the weights of ``line`` along both axes; what is NaN is left out."""
    reach = len(line) // 2
    rows, width = plane.shape
    total, weight = 0.0, 0.0
    for b in range(-reach, reach + 1):
        y = row + b
        if y < 0 or y >= rows:
            continue
        for a in range(-reach, reach + 1):
            x = column + a
            if x < 0 or x >= width:
                continue
            value = plane[y, x]
            if value == value:
                share = line[b + reach] * line[a + reach]
                total += share * value
                weight += share
    return total / weight if weight > 0.0 else math.nan


@kernel
def _gradient(plane: Any, row: Any, column: Any) -> Any:
    """The largest difference from a pixel to one of its four neighbours."""
    rows, width = plane.shape
    here, found = plane[row, column], 0.0
    for b, a in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        y, x = row + b, column + a
        if y >= 0 and y < rows and x >= 0 and x < width:
            step = abs(plane[y, x] - here)
            if step > found:  # never for NaN
                found = step
    return found


@kernel
def mark_rows(frame: Any, middle: Any, limits: Any, lines: Any, start: Any, stop: Any, out: Any) -> None:
    """Mark pixels that no change of seeing or position explains.

    Parameters
    ----------
    frame : tuple of (ndarray of float32, ndarray of float32), (rows, nx)
        Values of one frame and their variance.
    middle : ndarray of float32, (2, rows, nx)
        From :func:`middle_rows`.
    limits : tuple of float
        Limit in σ; share of a star's light and of the gradient that are allowed; level of the sky; change of the
        variance with the value; the least variance.
    lines : tuple of ndarray of float64
        Weights along one axis that make the frame, and the median, as blurred as the blurrier of the two.
    start, stop : int
        Rows to mark.
    out : ndarray of uint8, (rows, nx)
        1 for what is marked, 2 for what may be if a neighbour is.
    """
    sigma, light, slope, sky, by_value, least = limits
    own, other = lines
    values, variance = frame
    spread = 0.0
    for k in range(len(own)):
        spread += own[k] * own[k]
    spread *= spread
    for row in range(start, stop):
        data, noises, centres, numbers, marks = values[row], variance[row], middle[0, row], middle[1, row], out[row]
        for column in range(data.size):
            value, centre, number = data[column], centres[column], numbers[column]
            known = (value == value) & (centre == centre) & (number >= 2.0)
            # the variance of what should be here, not of what was hit
            noise = noises[column] + (centre - value) * by_value
            noise = (noise if noise > least else least) * (1.0 + 1.6 / number)
            square = (value - centre) * (value - centre)
            some, much = not square < 4.0 * noise, not square < sigma * sigma * noise
            marks[column] = ((2 if some else 0) | (1 if much else 0)) if known else 0
        for first in range(0, data.size, _CHUNK):
            last = min(first + _CHUNK, data.size)
            if not _any_odd(marks[first:last]):
                continue
            for column in range(first, last):
                if marks[column] & 1:
                    value, centre, number = data[column], centres[column], numbers[column]
                    noise = max(noises[column] + (centre - value) * by_value, least) * (1.0 + 1.6 / number)
                    seen = _blurred(values, row, column, own) if len(own) > 1 else value
                    wanted = _blurred(middle[0], row, column, other) if len(other) > 1 else centre
                    allowed = light * abs(wanted - sky) + slope * _gradient(middle[0], row, column)
                    limit = max(abs(seen - wanted) - allowed, 0.0)
                    marks[column] = 1 if limit * limit > sigma * sigma * noise * spread else 2


@kernel
def _any_odd(marks: Any) -> Any:
    """Whether one of some marks is odd."""
    found = np.uint8(0)
    for k in range(marks.size):
        found |= marks[k]
    return found & 1 != 0


@kernel
def spread_rows(marks: Any, most: Any, start: Any, stop: Any, values: Any, taken: Any) -> None:
    """Take out what is marked, and what may be beside it: NaN in ``values``.

    Parameters
    ----------
    marks : ndarray of uint8, (n, rows, nx)
        From :func:`mark_rows`, of every frame.
    most : float
        Part of the frames above which a pixel is nobody's artefact but a star that the frames show differently.
    start, stop : int
        Rows to treat.
    values : ndarray of float32, (n, rows, nx)
        Of the frames.
    taken : ndarray of uint16, (rows, nx)
        How many frames were taken out.
    """
    count, rows, width = marks.shape
    hits, seen = np.empty(width, np.uint16), np.empty(width, np.uint16)
    near = np.empty(width + 2, np.uint8)
    for row in range(start, stop):
        taken[row] = 0
        hits[:] = 0
        for k in range(count):
            _count_odd(marks[k, row], hits)
        seen[:] = count
        for column in range(width):
            if hits[column] > 1:
                seen[column] = 0
                for k in range(count):
                    seen[column] += 1 if values[k, row, column] == values[k, row, column] else 0
        for k in range(count):
            near[:] = 0
            for y in range(max(row - 1, 0), min(row + 2, rows)):
                _gather_odd(marks[k, y], near[1 : width + 1])
            if _any_odd(near):
                _take(marks[k, row], near, (hits, seen, most), values[k, row], taken[row])


@kernel
def _count_odd(marks: Any, hits: Any) -> None:
    """Count what is marked."""
    for k in range(marks.size):
        hits[k] += np.uint16(marks[k] & 1)


@kernel
def _gather_odd(marks: Any, near: Any) -> None:
    """Mark what is marked in one of several rows."""
    for k in range(marks.size):
        near[k] |= marks[k] & 1


@kernel
def _take(marks: Any, near: Any, common: Any, values: Any, taken: Any) -> None:
    """Take out of one row what is marked, and what may be beside it; ``near`` begins one pixel before the row."""
    hits, seen, most = common
    for first in range(0, marks.size, _CHUNK):
        last = min(first + _CHUNK, marks.size)
        if not _any_odd(near[first : last + 2]):
            continue
        for x in range(first, last):
            hit = marks[x] == 1 or (marks[x] == 2 and (near[x] | near[x + 1] | near[x + 2]) != 0)
            if hit and not (hits[x] > 1 and hits[x] > most * seen[x]) and values[x] == values[x]:
                values[x] = math.nan
                taken[x] += 1


@kernel
def mean_rows(stack: Any, weights: Any, first: Any, start: Any, stop: Any, out: Any) -> None:
    """The weighted mean of what is left.

    Parameters
    ----------
    stack : tuple of ndarray, (n, rows, nx)
        Values float32, NaN where rejected; variance float32; flags uint32.
    weights : ndarray of float64, (n,)
        One number a frame.
    first : int
        Row of the stack that is row 0 of the output.
    start, stop : int
        Rows of the output.
    out : tuple of ndarray
        Mean, variance and share of the weight float32, number of frames uint16, flags uint32; (rows, nx).
    """
    values, variance, flags = stack
    mean, noise, share, number, bits = out
    count, width = values.shape[0], values.shape[2]
    whole = 0.0
    for k in range(count):
        whole += weights[k]
    sums = np.empty((3, _LANES))
    seen = np.empty((2, _LANES), np.uint32)
    for row in range(start, stop):
        for begin in range(0, width, _LANES):
            end = min(begin + _LANES, width)
            sums[:], seen[:] = 0.0, _CLEAN
            number[row, begin:end] = 0
            for k in range(count):
                given = (values[k, first + row, begin:end], variance[k, first + row, begin:end])
                _add(given, flags[k, first + row, begin:end], weights[k], sums, seen, number[row, begin:end])
            total, square, weight = sums
            for j in range(end - begin):
                known = weight[j] > 0.0
                share[row, begin + j] = weight[j] / whole
                mean[row, begin + j] = total[j] / weight[j] if known else math.nan
                noise[row, begin + j] = square[j] / (weight[j] * weight[j]) if known else math.nan
                bits[row, begin + j] = seen[0, j] if known else seen[1, j] | _NO_DATA


@kernel
def _add(given: Any, flags: Any, weight: Any, sums: Any, seen: Any, number: Any) -> None:
    """Add pixels of one frame to the sums, where they have a value, and their flags."""
    values, variance = given
    total, square, weights = sums
    found, every = seen
    for j in range(values.size):
        value = values[j]
        known = value == value
        total[j] += weight * value if known else 0.0
        square[j] += weight * weight * variance[j] if known else 0.0
        weights[j] += weight if known else 0.0
        number[j] += np.uint16(known)
        found[j] |= flags[j] if known else _CLEAN
        every[j] |= flags[j]
