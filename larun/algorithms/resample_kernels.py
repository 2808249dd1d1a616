"""Kernels of :mod:`larun.algorithms.resample`: pixels of the output by interpolation in the input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun import flags as fl
from larun.algorithms.jit import kernel
from larun.algorithms.taps import tap_sum

__all__ = ["fill_masked", "interpolate_rows", "mark_near", "padded_rows"]

# Module constants, so that they are compiled in.
_PHASES = 2048
_REACH = 2
_TAPS = 6
_CLEAN, _EDGE, _NO_DATA = np.uint32(0), fl.EDGE, fl.NO_DATA


@kernel
def _row(nodes: Any, step: Any, row: Any, at: Any) -> None:
    """Positions of a row's nodes, one coordinate."""
    j = min((row + 1) // step, nodes.shape[0] - 2)
    v = (row + 1 - j * step) / step
    for i in range(nodes.shape[1]):
        at[i] = nodes[j, i] * (1.0 - v) + nodes[j + 1, i] * v


@kernel
def interpolate_rows(
    planes: Any, pad: Any, tables: Any, flags: Any, nodes: Any, step: Any, area: Any, out: Any
) -> None:
    """Rows of the output from one or two padded planes: values and, with squared weights, their variance.

    Parameters
    ----------
    planes : ndarray of float32, (n, ny + 2 pad, nx + 2 pad)
        Values, and the variance where n is 2.
    pad : int
        Rows and columns before the first pixel and after the last.
    tables : ndarray of float32, (n, PHASES + 1, LANES)
        Weights, and their squares.
    flags : tuple of (ndarray of uint32, ndarray of uint8, float)
        Of the input, (ny, nx); where a flag is near, (ny, nx), see :func:`mark_near`; and the absolute weight above
        which a flag counts.
    nodes : tuple of ndarray of float64
        x and y, and the first row of the output that is wanted.
    step : int
        Between nodes.
    area : ndarray of float32, (rows of nodes - 1, columns of nodes - 1)
        Factor on the values of each cell; its square is on the variance.
    out : tuple of (ndarray of float32, (n, rows, nx), ndarray of uint32, (rows, nx))
        Values and flags.
    """
    node_x, node_y, first = nodes
    bits, near, least = flags
    values, found = out
    count, width = planes.shape[0], values.shape[2]
    ny, nx = planes.shape[1] - 2 * pad, planes.shape[2] - 2 * pad
    at_x = np.empty(node_x.shape[1])
    at_y = np.empty(node_x.shape[1])
    for row in range(values.shape[1]):
        _row(node_x, step, first + row, at_x)
        _row(node_y, step, first + row, at_y)
        cell = min((first + row + 1) // step, node_x.shape[0] - 2)
        for i in range(node_x.shape[1] - 1):
            begin, end = max(i * step - 1, 0), min((i + 1) * step - 1, width)
            dx, dy = (at_x[i + 1] - at_x[i]) / step, (at_y[i + 1] - at_y[i]) / step
            factor = area[cell, i]
            for column in range(begin, end):
                away = column + 1 - i * step
                x, y = at_x[i] + dx * away, at_y[i] + dy * away
                if not (x >= -0.5 and x <= nx - 0.5 and y >= -0.5 and y <= ny - 0.5):
                    found[row, column] = _NO_DATA
                    for k in range(count):
                        values[k, row, column] = math.nan
                    continue
                left, low = math.floor(x), math.floor(y)
                phase_x = int((x - left) * _PHASES + 0.5)
                phase_y = int((y - low) * _PHASES + 0.5)
                ix, iy = int(left), int(low)
                u, v = iy - _REACH + pad, ix - _REACH + pad
                values[0, row, column] = tap_sum(planes[0], u, v, tables[0], phase_x, phase_y) * factor
                if count > 1:
                    noise = tap_sum(planes[1], u, v, tables[1], phase_x, phase_y)
                    values[1, row, column] = noise * (factor * factor)
                inside = ix >= _REACH and ix < nx - _REACH - 1 and iy >= _REACH and iy < ny - _REACH - 1
                state = _CLEAN if inside else _EDGE
                if near[min(max(iy, 0), ny - 1), min(max(ix, 0), nx - 1)] != 0:
                    state |= _flags(bits, tables[0], ix, iy, phase_x, phase_y, least)
                    if state & _NO_DATA:
                        for k in range(count):
                            values[k, row, column] = math.nan
                found[row, column] = state


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
def mark_near(rows: Any, columns: Any, out: Any) -> None:
    """Mark every pixel within three rows and columns of one of the given ones, as far as six neighbours reach."""
    ny, nx = out.shape
    for k in range(len(rows)):
        for y in range(max(rows[k] - 3, 0), min(rows[k] + 4, ny)):
            for x in range(max(columns[k] - 3, 0), min(columns[k] + 4, nx)):
                out[y, x] = 1


@kernel
def padded_rows(plane: Any, pad: Any, start: Any, stop: Any, out: Any) -> None:
    """Rows ``start`` to ``stop`` of the padded plane: beyond the edge stands the outermost pixel."""
    ny, nx = plane.shape
    for row in range(start, stop):
        y = min(max(row - pad, 0), ny - 1)
        for column in range(pad):
            out[row, column] = plane[y, 0]
        for column in range(nx):
            out[row, column + pad] = plane[y, column]
        for column in range(nx + pad, nx + 2 * pad):
            out[row, column] = plane[y, nx - 1]


@kernel
def fill_masked(plane: Any, masked: Any, rows: Any, columns: Any, out: Any) -> None:
    """A value for each masked pixel: the mean of the good ones nearest to it, by inverse squared distance.

    Three of them must lie within the smallest square around it, up to four pixels away; 0 where there are none.
    """
    ny, nx = plane.shape
    for k in range(len(rows)):
        y, x = rows[k], columns[k]
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
