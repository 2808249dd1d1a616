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


@kernel
def level_rows(given: Any, scale: Any, plane: Any, first: Any, out_flags: Any, start: Any, stop: Any, out: Any) -> None:
    """Bring rows of a frame to the light and the sky of the reference; NaN where a flag keeps a pixel out.

    Parameters
    ----------
    given : tuple of ndarray, (rows, nx)
        Data and variance float32, flags uint32.
    scale : float
        On the data.
    plane : tuple of float
        ``a + b x + c y`` that is taken off.
    first : tuple of int
        y and x of the first pixel.
    out_flags : int
        Flags of pixels that do not count.
    start, stop : int
        Rows to fill.
    out : tuple of ndarray of float32, (rows, nx)
        Values and variance.
    """
    data, variance, flags = given
    values, noise = out
    a, b, c = plane
    for row in range(start, stop):
        level = a + c * (first[0] + row)
        for column in range(data.shape[1]):
            value = data[row, column] * scale - (level + b * (first[1] + column))
            values[row, column] = math.nan if flags[row, column] & out_flags else value
            noise[row, column] = variance[row, column] * (scale * scale)


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
    values, variance = frame
    sigma, light, slope, sky, by_value, least = limits
    own, other = lines
    width = values.shape[1]
    spread = 0.0
    for k in range(len(own)):
        spread += own[k] * own[k]
    spread *= spread
    for row in range(start, stop):
        for column in range(width):
            out[row, column] = 0
            value, centre = values[row, column], middle[0, row, column]
            if not (value == value and centre == centre) or middle[1, row, column] < 2.0:
                continue
            # the variance of what should be here, not of what was hit
            noise = variance[row, column] + (centre - value) * by_value
            noise = max(noise, least) * (1.0 + 1.6 / middle[1, row, column])
            away = value - centre
            if away * away < 4.0 * noise:
                continue
            if away * away < sigma * sigma * noise:
                out[row, column] = 2
                continue
            seen = _blurred(values, row, column, own) if len(own) > 1 else value
            wanted = _blurred(middle[0], row, column, other) if len(other) > 1 else centre
            rest = abs(seen - wanted)
            allowed = light * abs(wanted - sky) + slope * _gradient(middle[0], row, column)
            limit = max(rest - allowed, 0.0)
            out[row, column] = 1 if limit * limit > sigma * sigma * noise * spread else 2


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
    for row in range(start, stop):
        for column in range(width):
            taken[row, column] = 0
            hit, seen = 0, 0
            for k in range(count):
                seen += 1 if values[k, row, column] == values[k, row, column] else 0
                hit += 1 if marks[k, row, column] == 1 else 0
            if hit > 1 and hit > most * seen:
                continue
            for k in range(count):
                mark = marks[k, row, column]
                if mark == 2:
                    for y in range(max(row - 1, 0), min(row + 2, rows)):
                        for x in range(max(column - 1, 0), min(column + 2, width)):
                            if marks[k, y, x] == 1:
                                mark = 1
                if mark == 1 and values[k, row, column] == values[k, row, column]:
                    values[k, row, column] = math.nan
                    taken[row, column] += 1


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
    for row in range(start, stop):
        for column in range(width):
            total, square, weight, n = 0.0, 0.0, 0.0, 0
            found, every = _CLEAN, _CLEAN
            for k in range(count):
                value = values[k, first + row, column]
                every |= flags[k, first + row, column]
                if value == value:
                    total += weights[k] * value
                    square += weights[k] * weights[k] * variance[k, first + row, column]
                    weight += weights[k]
                    n += 1
                    found |= flags[k, first + row, column]
            number[row, column] = n
            share[row, column] = weight / whole
            if n > 0:
                mean[row, column] = total / weight
                noise[row, column] = square / (weight * weight)
                bits[row, column] = found
            else:
                mean[row, column] = math.nan
                noise[row, column] = math.nan
                bits[row, column] = every | _NO_DATA
