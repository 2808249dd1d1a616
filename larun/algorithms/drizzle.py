"""Drizzle (Fruchter & Hook 2002, PASP 114, 144): undersampled, dithered frames on finer pixels.

Every pixel of a frame is shrunk to a drop in its middle, and the drops fall on the pixels of the output: by exact
areas, with the weight of the frame. What the pixels of one frame alone cannot tell, the dither does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = ["ARTEFACT", "MISSING", "USED", "drizzle_rows", "drop_area"]

#: What is to be done with a pixel: nothing, it counts, it saw something that the other frames did not.
MISSING, USED, ARTEFACT = 0, 1, 2


@kernel
def _under(x0: Any, y0: Any, x1: Any, y1: Any) -> Any:
    """Integral over x from 0 to 1 of what lies under a piece of a line, y held between 0 and 1; signed by its way."""
    sign = 1.0
    if x1 < x0:
        x0, y0, x1, y1 = x1, y1, x0, y0
        sign = -1.0
    if x1 <= 0.0 or x0 >= 1.0 or x1 == x0:
        return 0.0
    slope = (y1 - y0) / (x1 - x0)
    if x1 > 1.0:
        x1, y1 = 1.0, y0 + slope * (1.0 - x0)
    if x0 < 0.0:
        x0, y0 = 0.0, y0 - slope * x0
    low, high = min(y0, y1), max(y0, y1)
    width = sign * (x1 - x0)
    if high <= 0.0:
        return 0.0
    if low >= 1.0:
        return width
    climb = high - low
    if climb < 1e-12:
        return width * min(max(low, 0.0), 1.0)
    inner_low, inner_high = max(low, 0.0), min(high, 1.0)
    return width * ((inner_high - inner_low) * (inner_low + inner_high) / 2.0 + max(high - 1.0, 0.0)) / climb


@kernel
def drop_area(x: Any, y: Any, u: Any, v: Any, size: Any) -> Any:
    """What a drop and an outline have in common, in parts of a pixel.

    Parameters
    ----------
    x, y : tuple of four floats
        Corners in turn, pixel (0, 0) reaching from 0 to 1.
    u, v : int
        Column and row of the pixel.
    size : float
        Side of the drop in its middle.
    """
    left, low = u + 0.5 * (1.0 - size), v + 0.5 * (1.0 - size)
    total = 0.0
    for k in range(4):
        n = (k + 1) % 4
        total += _under((x[k] - left) / size, (y[k] - low) / size, (x[n] - left) / size, (y[n] - low) / size)
    return abs(total) * size * size


@kernel
def drizzle_rows(planes: Any, flags: Any, use: Any, nodes: Any, step: Any, how: Any, out: Any) -> None:
    """Add a frame to rows of the output.

    Parameters
    ----------
    planes : tuple of ndarray of float32, (ny, nx)
        Data and variance.
    flags : ndarray of uint32, (ny, nx)
    use : ndarray of uint8, (ny, nx)
        :data:`USED`, :data:`ARTEFACT` or :data:`MISSING`.
    nodes : tuple of ndarray of float64
        x and y of the nodes of the mapping, and the first row of the output that is wanted.
    step : int
        Between nodes.
    how : tuple of float
        Side of a drop; factor of the light; weight; a, b, c of the plane that is taken off, by row and column of these
        rows.
    out : tuple of ndarray, (rows, nx)
        Sums of light, of weights and of variance float64; flags of pixels that count, and of those that do not,
        uint32; frames that count, and frames with an artefact, uint16.
    """
    node_x, node_y, first = nodes
    data, variance = planes
    size, factor, weight, level, level_x, level_y = how
    sums, weights, noises, found, lost, counts, artefacts = out
    ny, nx = data.shape
    width, columns = sums.shape[1], node_x.shape[1]
    corner_x, corner_y = np.empty((2, width + 1)), np.empty((2, width + 1))
    for row in range(sums.shape[0]):
        for edge in range(2):
            y = first + row - 0.5 + edge
            j = min(max(int((y + 1.0) / step), 0), node_x.shape[0] - 2)
            t = (y + 1.0 - j * step) / step
            for column in range(width + 1):
                x = column - 0.5
                i = min(int((x + 1.0) / step), columns - 2)
                s = (x + 1.0 - i * step) / step
                low_x, low_y = (
                    node_x[j, i] * (1 - t) + node_x[j + 1, i] * t,
                    node_y[j, i] * (1 - t) + node_y[j + 1, i] * t,
                )
                end_x = node_x[j, i + 1] * (1 - t) + node_x[j + 1, i + 1] * t
                end_y = node_y[j, i + 1] * (1 - t) + node_y[j + 1, i + 1] * t
                corner_x[edge, column] = low_x + (end_x - low_x) * s + 0.5  # pixel (0, 0) reaches from 0 to 1
                corner_y[edge, column] = low_y + (end_y - low_y) * s + 0.5
        for column in range(width):
            x4 = (corner_x[0, column], corner_x[0, column + 1], corner_x[1, column + 1], corner_x[1, column])
            y4 = (corner_y[0, column], corner_y[0, column + 1], corner_y[1, column + 1], corner_y[1, column])
            left, right = min(x4[0], x4[1], x4[2], x4[3]), max(x4[0], x4[1], x4[2], x4[3])
            low, high = min(y4[0], y4[1], y4[2], y4[3]), max(y4[0], y4[1], y4[2], y4[3])
            if not (right > 0.0 and left < nx and high > 0.0 and low < ny):  # NaN too
                continue
            whole = abs((x4[2] - x4[0]) * (y4[3] - y4[1]) - (y4[2] - y4[0]) * (x4[3] - x4[1])) / 2.0
            light, area, noise, hit = 0.0, 0.0, 0.0, False
            for v in range(max(int(low), 0), min(int(high), ny - 1) + 1):
                for u in range(max(int(left), 0), min(int(right), nx - 1) + 1):
                    part = drop_area(x4, y4, u, v, size)
                    if part <= 1e-12:
                        continue
                    if use[v, u] == USED:
                        light += part * data[v, u]
                        area += part
                        noise += part * part * variance[v, u]
                        found[row, column] |= flags[v, u]
                    else:
                        lost[row, column] |= flags[v, u]
                        hit = hit or use[v, u] == ARTEFACT
            if hit:
                artefacts[row, column] += 1
            if area > 1e-9 * whole:
                plane = level + level_x * column + level_y * row
                sums[row, column] += weight * (factor * light - plane * area / whole)
                weights[row, column] += weight * area / whole
                noises[row, column] += (weight * factor) ** 2 * noise
                counts[row, column] += 1
