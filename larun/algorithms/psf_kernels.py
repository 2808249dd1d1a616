"""Values and derivatives of a point-spread function on the pixels around a star.

The function is a sum of cubic B-splines on a grid with a whole number of nodes a pixel, and the star lies upon the node
in the middle. All pixels of a stamp have the same place between nodes, so a stamp needs sixteen weights in all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = [
    "combine_nodes",
    "combine_within",
    "draw_range",
    "first_node",
    "pixel",
    "point_range",
    "spline_weights",
    "terms_at",
]

_1, _2, _3 = np.uintp(1), np.uintp(2), np.uintp(3)


@kernel
def spline_weights(t: float, scale: float) -> Any:
    """The four cubic B-splines at ``t`` in [0, 1) behind a node, and their derivatives times ``scale``."""
    s = 1.0 - t
    weights = (s * s * s / 6, (3 * t * t * t - 6 * t * t + 4) / 6, (3 * s * s * s - 6 * s * s + 4) / 6, t * t * t / 6)
    half = 0.5 * scale
    slopes = (-half * s * s, half * (3 * t * t - 4 * t), half * (4 * s - 3 * s * s), half * t * t)
    return weights, slopes


@kernel
def first_node(offset: float, phases: int, size: int) -> Any:
    """Number of the first of the four nodes around a place, and their weights along this axis.

    ``offset`` is pixel minus star; ``size`` the number of nodes along the axis. Derivatives are by the star's place.
    """
    at = offset * phases + size // 2
    node = math.floor(at)
    return int(node) - 1, spline_weights(at - node, -float(phases))


@kernel
def pixel(nodes: Any, j: int, i: int, along: Any, aside: Any) -> Any:
    """Value and derivatives by x and y from the sixteen nodes from (j, i) on; weights along x, and along y."""
    (a0, a1, a2, a3), (d0, d1, d2, d3) = along
    (b0, b1, b2, b3), (e0, e1, e2, e3) = aside
    # unsigned: a number that may be below 0 would be looked at each time
    j0, i0 = np.uintp(j), np.uintp(i)
    j1, j2, j3, i1, i2, i3 = j0 + _1, j0 + _2, j0 + _3, i0 + _1, i0 + _2, i0 + _3
    n0, n1, n2, n3 = nodes[j0, i0], nodes[j1, i0], nodes[j2, i0], nodes[j3, i0]
    v0, s0 = b0 * n0 + b1 * n1 + b2 * n2 + b3 * n3, e0 * n0 + e1 * n1 + e2 * n2 + e3 * n3
    n0, n1, n2, n3 = nodes[j0, i1], nodes[j1, i1], nodes[j2, i1], nodes[j3, i1]
    v1, s1 = b0 * n0 + b1 * n1 + b2 * n2 + b3 * n3, e0 * n0 + e1 * n1 + e2 * n2 + e3 * n3
    n0, n1, n2, n3 = nodes[j0, i2], nodes[j1, i2], nodes[j2, i2], nodes[j3, i2]
    v2, s2 = b0 * n0 + b1 * n1 + b2 * n2 + b3 * n3, e0 * n0 + e1 * n1 + e2 * n2 + e3 * n3
    n0, n1, n2, n3 = nodes[j0, i3], nodes[j1, i3], nodes[j2, i3], nodes[j3, i3]
    v3, s3 = b0 * n0 + b1 * n1 + b2 * n2 + b3 * n3, e0 * n0 + e1 * n1 + e2 * n2 + e3 * n3
    value = a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3
    return value, d0 * v0 + d1 * v1 + d2 * v2 + d3 * v3, a0 * s0 + a1 * s1 + a2 * s2 + a3 * s3


@kernel
def terms_at(x: float, y: float, domain: Any, terms: Any) -> None:
    """The polynomial's terms 1, u, v, u^2, uv, v^2 at a pixel; u and v are held within -1 and 1."""
    u = min(max((x - domain[0]) / domain[1], -1.0), 1.0)
    v = min(max((y - domain[2]) / domain[3], -1.0), 1.0)
    terms[0] = 1.0
    if terms.size > 1:
        terms[1], terms[2] = u, v
    if terms.size > 3:
        terms[3], terms[4], terms[5] = u * u, u * v, v * v


@kernel
def combine_nodes(nodes: Any, terms: Any, reach: int, made: Any) -> None:
    """The nodes at one place of the image, up to ``reach`` from the middle."""
    middle = nodes.shape[1] // 2
    low, high = max(0, middle - reach), min(nodes.shape[1], middle + reach + 1)
    combine_within(nodes, terms, (low, high, low, high), made)


@kernel
def combine_within(nodes: Any, terms: Any, box: Any, made: Any) -> None:
    """The nodes at one place of the image, in the rows and columns of a box (from, to, from, to)."""
    top, bottom, left, right = box
    for j in range(top, bottom):
        row, plane = made[j, left:right], nodes[0, j, left:right]
        for i in range(row.size):
            row[i] = plane[i]
        for n in range(1, terms.size):
            factor, plane = terms[n], nodes[n, j, left:right]  # of views the compiler makes vectors
            for i in range(row.size):
                row[i] += factor * plane[i]


@kernel
def point_range(model: Any, places: Any, radius: float, out: Any, start: int, stop: int) -> None:
    """Value and derivatives at single points: ``places`` (n, 4) has their distance from the star, and the star."""
    nodes, phases, domain = model
    count, size = nodes.shape[0], nodes.shape[1]
    terms = np.empty(count)
    for n in range(start, stop):
        dx, dy = places[n, 0], places[n, 1]
        out[n, 0] = out[n, 1] = out[n, 2] = 0.0
        if not (abs(dx) <= radius and abs(dy) <= radius):
            continue
        i, along = first_node(dx, phases, size)
        j, aside = first_node(dy, phases, size)
        terms_at(places[n, 2], places[n, 3], domain, terms)
        for t in range(count):
            value, by_x, by_y = pixel(nodes[t], j, i, along, aside)
            out[n, 0] += terms[t] * value
            out[n, 1] += terms[t] * by_x
            out[n, 2] += terms[t] * by_y


@kernel
def draw_range(model: Any, stars: Any, reach: int, image: Any, start: int, stop: int) -> None:
    """Add stars (n, 4: x, y, flux, and a reach below ``reach``) to rows of an image, one after the other."""
    nodes, phases, domain = model
    size, varies = nodes.shape[1], nodes.shape[0] > 1
    terms, made, columns = np.ones(nodes.shape[0]), np.empty((size, size)), np.empty(size)
    combine_nodes(nodes, terms[:1], size, made)
    for n in range(stars.shape[0]):
        x, y, flux, own = stars[n, 0], stars[n, 1], stars[n, 2], min(int(stars[n, 3]), reach)
        px, py = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        top, bottom = max(start, py - own), min(stop, py + own + 1)
        left, right = max(0, px - own), min(image.shape[1], px + own + 1)
        if top >= bottom or left >= right:
            continue
        i0, (along, _) = first_node(left - x, phases, size)
        j0, (aside, _) = first_node(top - y, phases, size)
        if varies:
            terms_at(x, y, domain, terms)
            last_j, last_i = j0 + (bottom - 1 - top) * phases + 4, i0 + (right - 1 - left) * phases + 4
            combine_within(nodes, terms, (j0, last_j, i0, last_i), made)
        for j in range(top, bottom):
            _draw_row(made, (j0 + (j - top) * phases, i0, phases), along, aside, columns, flux, image[j, left:right])


@kernel
def _draw_row(nodes: Any, at: Any, along: Any, aside: Any, columns: Any, flux: float, row: Any) -> None:
    """Add a star to a row, as :func:`pixel` has its values; columns of nodes that pixels share are summed once."""
    (a0, a1, a2, a3), (b0, b1, b2, b3) = along, aside
    j0, i0, phases = np.uintp(at[0]), np.uintp(at[1]), np.uintp(at[2])  # unsigned: none is below 0
    j1, j2, j3 = j0 + _1, j0 + _2, j0 + _3
    for k in range((row.size - 1) * at[2] + 4):
        c = i0 + np.uintp(k)
        columns[k] = b0 * nodes[j0, c] + b1 * nodes[j1, c] + b2 * nodes[j2, c] + b3 * nodes[j3, c]
    for k in range(row.size):
        c = np.uintp(k) * phases
        row[k] += flux * (a0 * columns[c] + a1 * columns[c + _1] + a2 * columns[c + _2] + a3 * columns[c + _3])
