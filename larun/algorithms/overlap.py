"""Resampling by exact areas: each input pixel gives to an output pixel what part of it lies inside.

The outline of an output pixel, a quadrilateral on the input, is walked along; what lies to the right of each piece of
it within a pixel, and how far it climbs, add up to the part of every pixel that is inside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun import flags as fl
from larun.algorithms.jit import kernel, optimized_kernel

__all__ = ["outline", "overlap_rows"]

_CLEAN, _EDGE, _NO_DATA = np.uint32(0), fl.EDGE, fl.NO_DATA


@optimized_kernel
def _edge(x0: Any, y0: Any, x1: Any, y1: Any, cover: Any, area: Any) -> None:
    """Add a side of an outline: in every cell it passes, how far it climbs, and the area to the right of it."""
    if y0 == y1:
        return
    dx, dy = x1 - x0, y1 - y0
    cell_x, cell_y = math.floor(x0), math.floor(y0)
    last_x, last_y = math.floor(x1), math.floor(y1)
    step_x, step_y = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    t, x, y = 0.0, x0, y0
    while True:
        # where the side leaves this cell: across a vertical or a horizontal line
        leave_x = ((cell_x + (step_x > 0)) - x0) / dx if cell_x != last_x else 2.0
        leave_y = ((cell_y + (step_y > 0)) - y0) / dy if cell_y != last_y else 2.0
        end = min(leave_x, leave_y, 1.0)
        end = max(end, t)
        next_x, next_y = (x0 + end * dx, y0 + end * dy) if end < 1.0 else (x1, y1)
        climb = next_y - y
        cover[cell_y, cell_x] += climb
        area[cell_y, cell_x] += climb * (1.0 - ((x - cell_x) + (next_x - cell_x)) / 2)
        if end >= 1.0:
            return
        if leave_x <= leave_y:
            cell_x += step_x
        else:
            cell_y += step_y
        t, x, y = end, next_x, next_y


@optimized_kernel
def outline(x: Any, y: Any, left: Any, bottom: Any, cover: Any, area: Any) -> Any:
    """The part of each input pixel that lies inside an outline.

    Parameters
    ----------
    x, y : tuple of four floats
        Corners in turn, pixel (0, 0) reaching from 0 to 1.
    left, bottom : int
        Column and row of the first pixel of the planes, which hold the outline.
    cover, area : ndarray of float64
        Work space, and the parts.

    Returns
    -------
    float
        Area of the outline.
    """
    for b in range(cover.shape[0]):
        for a in range(cover.shape[1]):
            cover[b, a], area[b, a] = 0.0, 0.0
    for k in range(4):
        n = (k + 1) % 4
        _edge(x[k] - left, y[k] - bottom, x[n] - left, y[n] - bottom, cover, area)
    whole = ((x[2] - x[0]) * (y[3] - y[1]) - (y[2] - y[0]) * (x[3] - x[1])) / 2
    sign = -1.0 if whole > 0 else 1.0  # inside lies left of sides that climb, where the outline turns left
    for b in range(cover.shape[0]):
        climbed = 0.0
        for a in range(cover.shape[1]):
            area[b, a] = sign * (climbed + area[b, a])
            climbed += cover[b, a]
    return abs(whole)


@kernel
def overlap_rows(planes: Any, flags: Any, nodes: Any, step: Any, least: Any, out: Any, how: Any) -> None:
    """Rows of the output by exact areas: the flux of one or two planes, the second with squared parts.

    Parameters
    ----------
    planes : tuple of two ndarray of float32, (ny, nx)
        Values, all finite, and the variance.
    flags : ndarray of uint32, (ny, nx)
        Of the input.
    nodes : tuple of ndarray of float64
        x and y of the nodes, and the first row of the output that is wanted.
    step : int
        Between nodes.
    least : float
        Part of an output pixel above which the flags of an input pixel count.
    out : tuple
        Sums and sums of the variance float32, flags uint32, (rows, nx).
    how : tuple of bool
        Whether there is a variance; whether to divide by the area that lies inside.
    """
    node_x, node_y, first = nodes
    sums, noises, found = out
    data, variance = planes
    noisy, brightness = how
    ny, nx = data.shape
    columns = node_x.shape[1]
    width = sums.shape[1]
    corner_x, corner_y = np.empty((2, width + 1)), np.empty((2, width + 1))
    at_x, at_y = np.empty(columns), np.empty(columns)
    side = 4
    cover, area = np.zeros((side, side)), np.zeros((side, side))
    for row in range(sums.shape[0]):
        for edge in range(2):  # corners of pixels lie half a pixel below and above: one array coordinate, by nodes
            y = first + row - 0.5 + edge
            j = min(max(int((y + 1.0) / step), 0), node_x.shape[0] - 2)
            v = (y + 1.0 - j * step) / step
            for i in range(columns):
                at_x[i] = node_x[j, i] * (1.0 - v) + node_x[j + 1, i] * v
                at_y[i] = node_y[j, i] * (1.0 - v) + node_y[j + 1, i] * v
            for column in range(width + 1):
                x = column - 0.5
                i = min(int((x + 1.0) / step), columns - 2)
                u = (x + 1.0 - i * step) / step
                # pixel (0, 0) of the input reaches from 0 to 1 in what follows
                corner_x[edge, column] = at_x[i] * (1.0 - u) + at_x[i + 1] * u + 0.5
                corner_y[edge, column] = at_y[i] * (1.0 - u) + at_y[i + 1] * u + 0.5
        for column in range(width):
            ax, ay = corner_x[0, column], corner_y[0, column]
            bx, by = corner_x[0, column + 1], corner_y[0, column + 1]
            cx, cy = corner_x[1, column + 1], corner_y[1, column + 1]
            dx, dy = corner_x[1, column], corner_y[1, column]
            low_x, high_x = min(ax, bx, cx, dx), max(ax, bx, cx, dx)
            low_y, high_y = min(ay, by, cy, dy), max(ay, by, cy, dy)
            found[row, column] = _NO_DATA
            sums[row, column] = math.nan
            if noisy:
                noises[row, column] = math.nan
            placed = math.isfinite(ax + bx + cx + dx + ay + by + cy + dy)
            if not (placed and high_x > 0.0 and low_x < nx and high_y > 0.0 and low_y < ny):
                continue
            left, bottom = math.floor(low_x), math.floor(low_y)
            wide, tall = math.floor(high_x) - left + 1, math.floor(high_y) - bottom + 1
            if max(wide, tall) > side:
                side = max(wide, tall)
                cover, area = np.zeros((side, side)), np.zeros((side, side))
            whole = outline((ax, bx, cx, dx), (ay, by, cy, dy), left, bottom, cover[:tall, :wide], area[:tall, :wide])
            flux, noise, used = 0.0, 0.0, 0.0
            bits = _CLEAN
            for b in range(tall):
                v = bottom + b
                for a in range(wide):
                    part = area[b, a]
                    u = left + a
                    if part > 0.0 and v >= 0 and v < ny and u >= 0 and u < nx:
                        used += part
                        flux += part * data[v, u]
                        if noisy:
                            noise += part * part * variance[v, u]
                        if part > least * whole:
                            bits |= flags[v, u]
            if used <= 1e-9 * whole:
                continue
            if used < (1.0 - 1e-6) * whole:
                bits |= _EDGE
            found[row, column] = bits
            if bits & _NO_DATA:
                continue
            share = used if brightness else 1.0
            sums[row, column] = flux / share
            if noisy:
                noises[row, column] = noise / (share * share)
