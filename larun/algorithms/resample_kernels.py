"""Kernels of :mod:`larun.algorithms.resample`: pixels of the output by interpolation in the input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun import flags as fl
from larun.algorithms.jit import kernel
from larun.algorithms.taps import LANES, tap_sum

__all__ = ["count_rows", "fill_masked", "interpolate_rows", "list_rows", "mark_near"]

# Module constants, so that they are compiled in.
_PHASES = 2048
_REACH = 2
_TAPS = 6
_FEWEST = 16  # pixels that are worth being summed together
_CLEAN, _EDGE, _NO_DATA = np.uint32(0), fl.EDGE, fl.NO_DATA


@kernel
def _row(nodes: Any, step: Any, row: Any, at: Any) -> None:
    """Positions of a row's nodes, one coordinate."""
    j = min((row + 1) // step, nodes.shape[0] - 2)
    v = (row + 1 - j * step) / step
    for i in range(nodes.shape[1]):
        at[i] = nodes[j, i] * (1.0 - v) + nodes[j + 1, i] * v


@kernel
def interpolate_rows(planes: Any, tables: Any, flags: Any, nodes: Any, step: Any, area: Any, out: Any) -> None:
    """Rows of the output from one or two planes: values and, with squared weights, their variance.

    Parameters
    ----------
    planes : tuple of two ndarray of float32, (ny, nx)
        Values, all finite, and the variance, where n is 2.
    tables : ndarray of float32, (n, PHASES + 1, LANES)
        Weights, and their squares where there is a variance.
    flags : tuple of (ndarray of uint32, ndarray of uint8, float)
        Of the input, (ny, nx); where a flag is near, (ny, nx), see :func:`mark_near`, or empty where there is none;
        and the absolute weight above which a flag counts.
    nodes : tuple of ndarray of float64
        x and y, and the first row of the output that is wanted.
    step : int
        Between nodes.
    area : ndarray of float32, (rows of nodes - 1, columns of nodes - 1)
        Factor on the values of each cell; its square is on the variance.
    out : tuple of (ndarray of float32, ndarray of float32, ndarray of uint32), (rows, nx)
        Values, variance and flags.
    """
    node_x, node_y, first = nodes
    bits, near, least = flags
    values, noises, found = out
    data, variance = planes
    noisy, marked, width = len(tables) > 1, near.size > 0, values.shape[1]
    ny, nx = data.shape
    patch, line = np.empty((_TAPS, LANES), np.float32), np.empty(step + _TAPS, np.float32)
    wholes, phases = np.empty((2, step), np.int64), np.empty((2, step), np.int64)
    at_x, at_y = np.empty(node_x.shape[1]), np.empty(node_x.shape[1])
    for row in range(values.shape[0]):
        _row(node_x, step, first + row, at_x)
        _row(node_y, step, first + row, at_y)
        cell = min((first + row + 1) // step, node_x.shape[0] - 2)
        for i in range(node_x.shape[1] - 1):
            begin, end = max(i * step - 1, 0), min((i + 1) * step - 1, width)
            dx, dy = (at_x[i + 1] - at_x[i]) / step, (at_y[i + 1] - at_y[i]) / step
            factor = area[cell, i]
            alike = max(abs(dx - 1.0), abs(dy)) * (_PHASES * _FEWEST) < 1.0
            column = begin
            if not alike and _all_inside((at_x[i], at_y[i]), (dx, dy), (begin, end), i * step, (ny, nx)):
                _phases(at_x[i], dx, begin + 1 - i * step, end - begin, wholes[0], phases[0])
                _phases(at_y[i], dy, begin + 1 - i * step, end - begin, wholes[1], phases[1])
                _within(planes, tables, flags, (wholes, phases), factor, (row, begin, end), out)
                column = end
            while column < end:
                away = column + 1 - i * step
                x, y = at_x[i] + dx * away, at_y[i] + dy * away
                if not (x >= -0.5 and x <= nx - 0.5 and y >= -0.5 and y <= ny - 0.5):
                    found[row, column] = _NO_DATA
                    values[row, column] = math.nan
                    if noisy:
                        noises[row, column] = math.nan
                    column += 1
                    continue
                ix, phase_x = _phase(x)
                iy, phase_y = _phase(y)
                u, v = iy - _REACH, ix - _REACH
                inside = u >= 0 and u + _TAPS <= ny and v >= 0 and v + _TAPS <= nx
                count = 1
                if alike and inside:
                    most = min(end - column, nx - v - _TAPS + 1)
                    count = min(_until(x - ix, phase_x, dx - 1.0, most), _until(y - iy, phase_y, dy, most))
                    while count > 1 and not (
                        _phase(at_x[i] + dx * (away + count - 1)) == (ix + count - 1, phase_x)
                        and _phase(at_y[i] + dy * (away + count - 1)) == (iy, phase_y)
                    ):
                        count -= 1  # rounding errors
                if count >= _FEWEST:
                    x_weights, y_weights = tables[0, phase_x], tables[0, phase_y]
                    _sum_run(data, u, v, x_weights, y_weights, factor, line, values[row, column : column + count])
                    if noisy:
                        x_weights, y_weights = tables[1, phase_x], tables[1, phase_y]
                        into = noises[row, column : column + count]
                        _sum_run(variance, u, v, x_weights, y_weights, factor * factor, line, into)
                elif inside and v + LANES <= nx:
                    count = 1
                    values[row, column] = tap_sum(data, u, v, tables[0], phase_x, phase_y) * factor
                    if noisy:
                        noise = tap_sum(variance, u, v, tables[1], phase_x, phase_y)
                        noises[row, column] = noise * (factor * factor)
                else:
                    count = 1
                    _cut(data, u, v, patch)
                    values[row, column] = tap_sum(patch, 0, 0, tables[0], phase_x, phase_y) * factor
                    if noisy:
                        _cut(variance, u, v, patch)
                        noise = tap_sum(patch, 0, 0, tables[1], phase_x, phase_y)
                        noises[row, column] = noise * (factor * factor)
                found[row, column : column + count] = _CLEAN if inside else _EDGE
                if marked:
                    for k in range(count):
                        if near[min(max(iy, 0), ny - 1), min(max(ix + k, 0), nx - 1)] != 0:
                            state = _flags(bits, tables[0], ix + k, iy, phase_x, phase_y, least)
                            found[row, column + k] |= state
                            if state & _NO_DATA:
                                values[row, column + k] = math.nan
                                if noisy:
                                    noises[row, column + k] = math.nan
                column += count


@kernel
def _phase(x: Any) -> Any:
    """The pixel at or below a position, and how far beyond it the position is, in steps of the table."""
    whole = math.floor(x)
    return int(whole), int((x - whole) * _PHASES + 0.5)


@kernel
def _within(planes: Any, tables: Any, flags: Any, places: Any, factor: Any, part: Any, out: Any) -> None:
    """Pixels of a row whose neighbours all lie within the input, at places from :func:`_phases`."""
    values, noises, found = out
    bits, near, least = flags
    data, variance = planes
    (row, begin, end), (wholes, phases) = part, places
    table, squares = tables[0], tables[len(tables) - 1]
    noisy, marked = len(tables) > 1, near.size > 0
    for k in range(end - begin):
        u, v, at = wholes[1, k] - _REACH, wholes[0, k] - _REACH, begin + k
        values[row, at] = tap_sum(data, u, v, table, phases[0, k], phases[1, k]) * factor
        found[row, at] = _CLEAN
        if noisy:
            noise = tap_sum(variance, u, v, squares, phases[0, k], phases[1, k])
            noises[row, at] = noise * (factor * factor)
        if marked and near[u + _REACH, v + _REACH] != 0:
            state = _flags(bits, table, v + _REACH, u + _REACH, phases[0, k], phases[1, k], least)
            found[row, at] = state
            if state & _NO_DATA:
                values[row, at] = math.nan
                if noisy:
                    noises[row, at] = math.nan


@kernel
def _all_inside(start: Any, drift: Any, part: Any, node: Any, shape: Any) -> Any:
    """Whether all neighbours of some pixels of a row lie within the input: those of the first and the last do."""
    (begin, end), (ny, nx) = part, shape
    if end <= begin:
        return False
    for column in (begin, end - 1):
        x, y = start[0] + drift[0] * (column + 1 - node), start[1] + drift[1] * (column + 1 - node)
        if not (x >= _REACH and x < nx - LANES + _REACH + 1 and y >= _REACH and y < ny - _TAPS + _REACH + 1):
            return False
    return True


@kernel
def _phases(at: Any, drift: Any, before: Any, count: Any, whole: Any, phase: Any) -> None:
    """As :func:`_phase`, of pixels beside one another."""
    for k in range(count):
        x = at + drift * (before + k)
        low = math.floor(x)
        whole[k] = int(low)
        phase[k] = int((x - low) * _PHASES + 0.5)


@kernel
def _until(part: Any, phase: Any, drift: Any, most: Any) -> Any:
    """How many pixels there are until the rounded part changes, from the first on."""
    if drift == 0.0:
        return most
    room = min((phase + 0.5) / _PHASES, 1.0) - part if drift > 0.0 else part - max((phase - 0.5) / _PHASES, 0.0)
    return int(min(room / abs(drift) + 1.0, float(most)))


@kernel
def _sum_run(
    plane: Any, row: Any, column: Any, x_weights: Any, y_weights: Any, factor: Any, line: Any, out: Any
) -> None:
    """As :func:`tap_sum`, to the last bit, for pixels beside one another that have the same weights."""
    size = out.size + _TAPS - 1
    end = column + size
    a, b, c = plane[row, column:end], plane[row + 1, column:end], plane[row + 2, column:end]
    d, e, f = plane[row + 3, column:end], plane[row + 4, column:end], plane[row + 5, column:end]
    p, q, r, s, t, w = y_weights[0], y_weights[1], y_weights[2], y_weights[3], y_weights[4], y_weights[5]
    for k in range(size):
        line[k] = a[k] * p + b[k] * q + c[k] * r + d[k] * s + e[k] * t + f[k] * w
    p, q, r, s, t, w = x_weights[0], x_weights[1], x_weights[2], x_weights[3], x_weights[4], x_weights[5]
    for k in range(out.size):
        even = (line[k] * p + line[k + 4] * t) + line[k + 2] * r
        odd = (line[k + 1] * q + line[k + 5] * w) + line[k + 3] * s
        out[k] = (even + odd) * factor


@kernel
def _flags(bits: Any, table: Any, ix: Any, iy: Any, phase_x: Any, phase_y: Any, least: Any) -> Any:
    """OR of the flags of all neighbours that count; beyond the edge stands the outermost pixel."""
    ny, nx = bits.shape
    found = _CLEAN
    for b in range(_TAPS):
        v = min(max(iy - _REACH + b, 0), ny - 1)
        for a in range(_TAPS):
            if abs(table[phase_x, a] * table[phase_y, b]) > least:
                found |= bits[v, min(max(ix - _REACH + a, 0), nx - 1)]
    return found


@kernel
def mark_near(places: Any, out: Any) -> None:
    """Mark every pixel within three rows and columns of one of the given ones, as far as six neighbours reach."""
    ny, nx = out.shape
    for k in range(len(places)):
        row, column = places[k, 0], places[k, 1]
        for y in range(max(row - 3, 0), min(row + 4, ny)):
            for x in range(max(column - 3, 0), min(column + 4, nx)):
                out[y, x] = 1


@kernel
def _cut(plane: Any, row: Any, column: Any, out: Any) -> None:
    """A piece that may leave the plane: beyond the edge stands the outermost pixel."""
    ny, nx = plane.shape
    for b in range(out.shape[0]):
        y = min(max(row + b, 0), ny - 1)
        for a in range(out.shape[1]):
            out[b, a] = plane[y, min(max(column + a, 0), nx - 1)]


@kernel
def count_rows(planes: Any, flags: Any, bits: Any, out: Any, start: Any, stop: Any) -> None:
    """How many pixels of each row have a flag, and how many are worthless, into ``out`` (ny, 2).

    Parameters
    ----------
    planes : tuple of two ndarray of float32, (ny, nx)
        Both must be finite.
    flags : ndarray of uint32, (ny, nx)
        Of the input.
    bits : tuple of (uint32, uint32)
        One of the first makes a pixel worthless, unless it has one of the second.
    out : ndarray of int64, (ny, 2)
        Counts.
    start, stop : int
        Rows.
    """
    one, two = planes
    bad, mended = bits
    infinite = np.float32(np.inf)
    for row in range(start, stop):
        some, lost = np.int32(0), np.int32(0)
        for column in range(flags.shape[1]):
            word = flags[row, column]
            finite = (abs(one[row, column]) < infinite) & (abs(two[row, column]) < infinite)
            useless = ((word & bad) != 0) & ((word & mended) == 0)
            some = np.int32(some + np.int32(word != 0))
            lost = np.int32(lost + np.int32(useless | (not finite)))
        out[row, 0], out[row, 1] = some, lost


@kernel
def list_rows(planes: Any, flags: Any, bits: Any, counts: Any, out: Any, start: Any, stop: Any) -> None:
    """The pixels that :func:`count_rows` counted, row by row.

    Parameters
    ----------
    planes, flags, bits, start, stop
        As for :func:`count_rows`.
    counts : ndarray of int64, (ny, 2, 2)
        Where those of a row begin and end in each list.
    out : tuple of two ndarray of int64, (n, 2)
        Rows and columns of pixels with a flag, and of worthless ones.
    """
    one, two = planes
    bad, mended = bits
    for row in range(start, stop):
        k, m = counts[row, 0, 0], counts[row, 1, 0]
        if k == counts[row, 0, 1] and m == counts[row, 1, 1]:
            continue
        for column in range(flags.shape[1]):
            word = flags[row, column]
            if word != 0:
                out[0][k, 0], out[0][k, 1] = row, column
                k += 1
            finite = math.isfinite(one[row, column]) and math.isfinite(two[row, column])
            if ((word & bad) != 0 and (word & mended) == 0) or not finite:
                out[1][m, 0], out[1][m, 1] = row, column
                m += 1


@kernel
def fill_masked(plane: Any, masked: Any, places: Any, out: Any) -> None:
    """A value for each masked pixel: the mean of the good ones nearest to it, by inverse squared distance.

    Three of them must lie within the smallest square around it, up to four pixels away; 0 where there are none.
    """
    ny, nx = plane.shape
    for k in range(len(places)):
        y, x = places[k, 0], places[k, 1]
        total, weight = 0.0, 0.0
        for reach in range(1, 5):
            total, weight, count = 0.0, 0.0, 0
            for v in range(max(y - reach, 0), min(y + reach + 1, ny)):
                for u in range(max(x - reach, 0), min(x + reach + 1, nx)):
                    if masked[v, u] == 0:
                        share = 1.0 / ((v - y) * (v - y) + (u - x) * (u - x))
                        total += share * plane[v, u]
                        weight += share
                        count += 1
            if count >= 3:
                break
        out[k] = total / weight if weight > 0.0 else 0.0
