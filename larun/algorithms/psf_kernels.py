"""Values and derivatives of a point-spread function on the pixels around a star.

The function is a sum of cubic B-splines on a grid with a whole number of nodes a pixel. All pixels of a stamp then have
the same place between nodes, so a stamp needs eight weights, and what belongs to one place lies together in memory:
``nodes[term, phase y, phase x, j, i]`` is node ``(j * oversampling + phase y, i * oversampling + phase x)``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = ["combine_nodes", "draw_range", "point_range", "spline_weights", "stamp_row", "start_stamp", "terms_at"]


@kernel
def spline_weights(t: float, weights: Any, slopes: Any) -> None:
    """The four cubic B-splines at ``t`` in [0, 1) behind a node, and their derivatives."""
    s = 1.0 - t
    weights[0], weights[3] = s * s * s / 6, t * t * t / 6
    weights[1] = (3 * t * t * t - 6 * t * t + 4) / 6
    weights[2] = (3 * s * s * s - 6 * s * s + 4) / 6
    slopes[0], slopes[3] = -s * s / 2, t * t / 2
    slopes[1] = (3 * t * t - 4 * t) / 2
    slopes[2] = -(3 * s * s - 4 * s) / 2


@kernel
def terms_at(x: float, y: float, domain: Any, terms: Any) -> None:
    """The polynomial's terms 1, u, v, u^2, uv, v^2 at a pixel; u and v go from -1 to 1 over the domain, and end there."""
    u = min(max((x - domain[0]) / domain[1], -1.0), 1.0)
    v = min(max((y - domain[2]) / domain[3], -1.0), 1.0)
    terms[0] = 1.0
    if terms.size > 1:
        terms[1], terms[2] = u, v
    if terms.size > 3:
        terms[3], terms[4], terms[5] = u * u, u * v, v * v


@kernel
def combine_nodes(nodes: Any, terms: Any, low: int, high: int, made: Any) -> None:
    """The nodes at one place of the image, between ``low`` and ``high`` of each phase."""
    phases = nodes.shape[1]
    for a in range(phases):
        for b in range(phases):
            for j in range(low, high):
                for i in range(low, high):
                    made[a, b, j, i] = nodes[0, a, b, j, i]
                for n in range(1, terms.size):
                    factor = terms[n]
                    for i in range(low, high):
                        made[a, b, j, i] += factor * nodes[n, a, b, j, i]


@kernel
def start_stamp(offset: float, phases: int, middle: int, weights: Any, taps: Any) -> None:
    """Weights of one axis, and of each of their four nodes the phase and its number in that phase.

    ``offset`` is where the first pixel lies from the star, ``middle`` the node in the middle of the grid. ``weights``
    is (2, 4): values and derivatives by the star's place; ``taps`` is (2, 4).
    """
    at = offset * phases + middle
    node = math.floor(at)
    spline_weights(at - node, weights[0], weights[1])
    for k in range(4):
        weights[1, k] *= -phases  # the star moves, the pixel stays
        taps[0, k] = (node + k - 1) % phases
        taps[1, k] = (node + k - 1) // phases


@kernel
def stamp_row(nodes: Any, row: int, width: int, axes: Any, out: Any) -> None:
    """Value and derivatives by x and y of one row of a stamp into ``out`` (3, width); ``nodes`` of one place."""
    (wy, ty), (wx, tx) = axes
    for i in range(width):
        out[0, i] = out[1, i] = out[2, i] = 0.0
    for k in range(4):
        b, j = ty[0, k], ty[1, k] + row
        value, slope = wy[0, k], wy[1, k]
        n0, n1 = nodes[b, tx[0, 0], j], nodes[b, tx[0, 1], j]
        n2, n3 = nodes[b, tx[0, 2], j], nodes[b, tx[0, 3], j]
        i0, i1, i2, i3 = tx[1, 0], tx[1, 1], tx[1, 2], tx[1, 3]
        a0, a1, a2, a3 = wx[0, 0], wx[0, 1], wx[0, 2], wx[0, 3]
        d0, d1, d2, d3 = wx[1, 0], wx[1, 1], wx[1, 2], wx[1, 3]
        for i in range(width):
            along = a0 * n0[i0 + i] + a1 * n1[i1 + i] + a2 * n2[i2 + i] + a3 * n3[i3 + i]
            aside = d0 * n0[i0 + i] + d1 * n1[i1 + i] + d2 * n2[i2 + i] + d3 * n3[i3 + i]
            out[0, i] += value * along
            out[1, i] += value * aside
            out[2, i] += slope * along


@kernel
def point_range(nodes: Any, places: Any, domain: Any, radius: float, out: Any, start: int, stop: int) -> None:
    """Value and derivatives at single points: ``places`` (n, 4) has their distance from the star, and the star."""
    phases, count = nodes.shape[1], nodes.shape[0]
    middle = phases * (nodes.shape[3] // 2)
    weights, taps, terms = np.empty((2, 2, 4)), np.empty((2, 2, 4), np.int64), np.empty(count)
    for n in range(start, stop):
        dx, dy = places[n, 0], places[n, 1]
        out[n, 0] = out[n, 1] = out[n, 2] = 0.0
        if not (abs(dx) <= radius and abs(dy) <= radius):
            continue
        start_stamp(dx, phases, middle, weights[0], taps[0])
        start_stamp(dy, phases, middle, weights[1], taps[1])
        terms_at(places[n, 2], places[n, 3], domain, terms)
        for k in range(4):
            along = aside = 0.0
            for m in range(4):
                node = 0.0
                for t in range(count):
                    node += terms[t] * nodes[t, taps[1, 0, k], taps[0, 0, m], taps[1, 1, k], taps[0, 1, m]]
                along += weights[0, 0, m] * node
                aside += weights[0, 1, m] * node
            out[n, 0] += weights[1, 0, k] * along
            out[n, 1] += weights[1, 0, k] * aside
            out[n, 2] += weights[1, 1, k] * along


@kernel
def draw_range(nodes: Any, stars: Any, domain: Any, reach: int, image: Any, start: int, stop: int) -> None:
    """Add stars (n, 3: x, y, flux) to rows ``start`` to ``stop`` of an image, one after the other."""
    phases, count, size = nodes.shape[1], nodes.shape[0], nodes.shape[3]
    middle, width = phases * (size // 2), 2 * reach + 1
    weights, taps, terms = np.empty((2, 2, 4)), np.empty((2, 2, 4), np.int64), np.empty(count)
    made, row = np.empty((phases, phases, size, size)), np.empty((3, width))
    for n in range(stars.shape[0]):
        x, y, flux = stars[n, 0], stars[n, 1], stars[n, 2]
        px, py = round(x), round(y)
        if py + reach < start or py - reach >= stop:
            continue
        terms_at(x, y, domain, terms)
        combine_nodes(nodes, terms, 0, size, made)
        start_stamp(px - reach - x, phases, middle, weights[0], taps[0])
        start_stamp(py - reach - y, phases, middle, weights[1], taps[1])
        axes = ((weights[1], taps[1]), (weights[0], taps[0]))
        for j in range(max(start, py - reach), min(stop, py + reach + 1)):
            stamp_row(made, j - py + reach, width, axes, row)
            for i in range(max(0, px - reach), min(image.shape[1], px + reach + 1)):
                image[j, i] += flux * row[0, i - px + reach]
