"""Kernels of :mod:`larun.algorithms.psf_field`: one step for the stars of a group, together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.cholesky import inverse_of_factor
from larun.algorithms.jit import kernel
from larun.algorithms.psf_kernels import combine_nodes, first_node, terms_at

__all__ = ["row_of_values", "step_range"]

_1, _2, _3 = np.uintp(1), np.uintp(2), np.uintp(3)
_TINY = 1e-10  # of a pivot, against the diagonal


@kernel
def step_range(planes: Any, model: Any, stars: Any, groups: Any, rules: Any, out: Any, start: int, stop: int) -> None:
    """A Gauss-Newton step for the groups ``start`` to ``stop`` of those in ``todo``.

    ``planes`` are data, level, noise, flags, and the model of all stars as they are; ``stars`` (n, 3) flux, x, y, their
    groups' skies (g), and whether positions are free (n); ``groups`` which to do, where each begins, members;
    ``rules`` reach, 1 / gain, bits of unusable pixels, whether a constant is free, whether this is the last time, and
    the correlation of the noise, (1 or n, l, l), or empty. ``out`` has steps (n, 3), their variances (n, 3), steps of
    the skies (g), covariances (n, 3, 3), and chi^2, its pixels and the usable share of light (n, 3).
    """
    (todo, first, members), (nodes, phases, domain) = groups, model
    reach, constant = rules[0], rules[3]
    width, size = 2 * reach + 1, nodes.shape[1]
    terms, made = np.ones(nodes.shape[0]), np.zeros((size, size))
    combine_nodes(nodes, terms[:1], size, made)
    for number in range(start, stop):
        group = todo[number]
        own = members[first[group] : first[group + 1]]
        count = own.size
        stamps, corner = np.empty((count, 5, width, width)), np.empty((count, 2), np.int64)
        for a in range(count):
            star = own[a]
            x, y = stars[0][star, 1], stars[0][star, 2]
            if nodes.shape[0] > 1:
                terms_at(x, y, domain, terms)
                combine_nodes(nodes, terms, phases * (reach + 3), made)
            corner[a, 0], corner[a, 1] = int(np.floor(y + 0.5)) - reach, int(np.floor(x + 0.5)) - reach
            _stamp(planes, (made, phases), (x, y), (corner[a, 0], corner[a, 1], stars[1][group]), rules, stamps[a])
        columns = np.empty(3 * count, np.int64)  # three times the star, and which of its three
        used = 0
        for a in range(count):
            for part in range(3):
                if part == 0 or stars[2][own[a]]:
                    columns[used] = 3 * a + part
                    used += 1
        unknowns = used + (1 if constant else 0)
        matrix, right = np.zeros((unknowns, unknowns)), np.zeros(unknowns)
        _fill(stamps, corner, columns[:used], constant, matrix, right)
        inverse, factor = np.zeros((unknowns, unknowns)), np.zeros((unknowns, unknowns))
        known = _invert(matrix, factor, inverse)
        _write(own, columns[:used], known, inverse, right, (stars, out, group))
        if rules[4]:
            if known and rules[5].shape[0] > 0:
                lags = rules[5][own[0] if rules[5].shape[0] > 1 else 0]
                _correlated(stamps, corner, columns[:used], lags, matrix, inverse, constant)
            _finish(own, columns[:used], known, inverse, stamps, (stars, out))


@kernel
def _stamp(planes: Any, psf: Any, at: Any, where: Any, rules: Any, stamp: Any) -> None:
    """Value, derivatives, residual and weight of the pixels around a star; the weight is 0 where one is not usable."""
    (data, level, noise, flags, model), (made, phases), (x, y), (top, left, sky) = planes, psf, at, where
    photons, bits = rules[1], rules[2]
    ny, nx = data.shape
    width, infinity = stamp.shape[1], np.float32(np.inf)
    first_i, along = first_node(left - x, phases, made.shape[1])
    first_j, aside = first_node(top - y, phases, made.shape[1])
    columns = np.empty((2, (width - 1) * phases + 4))
    for j in range(width):
        row_of_values(made, (first_j + j * phases, first_i, phases), along, aside, columns, stamp, j)
        for i in range(width):
            stamp[3, j, i] = stamp[4, j, i] = 0.0
            row, column = top + j, left + i
            if not (0 <= row < ny and 0 <= column < nx) or (flags[row, column] & bits) != 0:
                continue
            light, spread = data[row, column] - level[row, column], noise[row, column]
            if not (abs(light) < infinity and np.float32(0) < spread < infinity):
                continue
            light64 = np.float64(data[row, column]) - np.float64(level[row, column])
            stamp[3, j, i] = light64 - model[row, column] - sky
            stamp[4, j, i] = 1.0 / (np.float64(spread) + max(model[row, column], 0.0) * photons)


@kernel
def row_of_values(made: Any, at: Any, along: Any, aside: Any, columns: Any, stamp: Any, j: int) -> None:
    """Values and derivatives along a row, as ``pixel`` has them; columns of nodes that pixels share are summed once."""
    (a0, a1, a2, a3), (d0, d1, d2, d3) = along
    (b0, b1, b2, b3), (e0, e1, e2, e3) = aside
    j0, i0, phases = np.uintp(at[0]), np.uintp(at[1]), np.uintp(at[2])  # unsigned: none is below 0
    j1, j2, j3 = j0 + _1, j0 + _2, j0 + _3
    for k in range(columns.shape[1]):
        c = np.uintp(k)
        n0, n1, n2, n3 = made[j0, i0 + c], made[j1, i0 + c], made[j2, i0 + c], made[j3, i0 + c]
        columns[0, c] = b0 * n0 + b1 * n1 + b2 * n2 + b3 * n3
        columns[1, c] = e0 * n0 + e1 * n1 + e2 * n2 + e3 * n3
    for i in range(stamp.shape[2]):
        c = np.uintp(i) * phases
        v0, v1, v2, v3 = columns[0, c], columns[0, c + _1], columns[0, c + _2], columns[0, c + _3]
        stamp[0, j, i] = a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3
        stamp[1, j, i] = d0 * v0 + d1 * v1 + d2 * v2 + d3 * v3
        v0, v1, v2, v3 = columns[1, c], columns[1, c + _1], columns[1, c + _2], columns[1, c + _3]
        stamp[2, j, i] = a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3


@kernel
def _overlap(one: Any, two: Any, width: int) -> Any:
    """Rows and columns of one stamp that another shares, and how far its own are from them."""
    dy, dx = one[0] - two[0], one[1] - two[1]
    return max(0, -dy), min(width, width - dy), max(0, -dx), min(width, width - dx), dy, dx


@kernel
def _fill(stamps: Any, corner: Any, columns: Any, constant: Any, matrix: Any, right: Any) -> None:
    """The normal equations; each star's are over its own pixels."""
    width, last = stamps.shape[2], columns.size
    sums, light, block = np.empty(3), np.empty(3), np.empty((3, 3))
    m = 0
    while m < last:  # star by star: one of those that are held has its flux alone
        a, free = columns[m] // 3, 3 if m + 1 < last and columns[m + 1] // 3 == columns[m] // 3 else 1
        _own(stamps[a], sums, light)
        for part in range(free):
            right[m + part] = sums[part]
            if constant:
                matrix[last, m + part] = light[part]
        k = 0
        while k <= m:
            b, others = columns[k] // 3, 3 if k + 1 < last and columns[k + 1] // 3 == columns[k] // 3 else 1
            _block(stamps[a], stamps[b], _overlap(corner[a], corner[b], width), block)
            for part in range(free):
                for other in range(others):
                    matrix[m + part, k + other] = block[part, other]
            k += others
        m += free
    if not constant:
        return
    for a in range(stamps.shape[0]):  # every pixel of the group once: with the first star whose it is
        for j in range(width):
            for i in range(width):
                seen = False
                for b in range(a):
                    row, column = j + corner[a, 0] - corner[b, 0], i + corner[a, 1] - corner[b, 1]
                    seen = seen or (0 <= row < width and 0 <= column < width)
                if not seen:
                    matrix[last, last] += stamps[a, 4, j, i]
                    right[last] += stamps[a, 4, j, i] * stamps[a, 3, j, i]


@kernel
def _own(stamp: Any, right: Any, light: Any) -> None:
    """What the residuals of a star say of its three unknowns, and what a constant would."""
    total0 = total1 = total2 = light0 = light1 = light2 = 0.0
    for j in range(stamp.shape[1]):
        for i in range(stamp.shape[2]):
            weight, rest = stamp[4, j, i], stamp[3, j, i]
            share0, share1, share2 = weight * stamp[0, j, i], weight * stamp[1, j, i], weight * stamp[2, j, i]
            total0 += share0 * rest
            total1 += share1 * rest
            total2 += share2 * rest
            light0 += share0
            light1 += share1
            light2 += share2
    right[0], right[1], right[2], light[0], light[1], light[2] = total0, total1, total2, light0, light1, light2


@kernel
def _block(one: Any, two: Any, where: Any, made: Any) -> None:
    """Products of the three unknowns of a star with those of another, or its own: nine sums side by side."""
    j0, j1, i0, i1, dy, dx = where
    s00 = s01 = s02 = s10 = s11 = s12 = s20 = s21 = s22 = 0.0
    for j in range(j0, j1):
        for i in range(i0, i1):
            weight = one[4, j, i]
            a0, a1, a2 = weight * one[0, j, i], weight * one[1, j, i], weight * one[2, j, i]
            b0, b1, b2 = two[0, j + dy, i + dx], two[1, j + dy, i + dx], two[2, j + dy, i + dx]
            s00 += a0 * b0
            s01 += a0 * b1
            s02 += a0 * b2
            s10 += a1 * b0
            s11 += a1 * b1
            s12 += a1 * b2
            s20 += a2 * b0
            s21 += a2 * b1
            s22 += a2 * b2
    made[0, 0], made[0, 1], made[0, 2] = s00, s01, s02
    made[1, 0], made[1, 1], made[1, 2] = s10, s11, s12
    made[2, 0], made[2, 1], made[2, 2] = s20, s21, s22


@kernel
def _invert(matrix: Any, factor: Any, inverse: Any) -> bool:
    """The inverse by Cholesky of a matrix of which the lower half is given; False if it is not positive."""
    count = matrix.shape[0]
    for a in range(count):
        for b in range(a + 1):
            total = matrix[a, b]
            for k in range(b):
                total -= factor[a, k] * factor[b, k]
            if a == b:
                if not total > _TINY * matrix[a, a]:
                    return False
                factor[a, a] = math.sqrt(total)
            else:
                factor[a, b] = total / factor[b, b]
    rows = np.arange(count)
    inverse_of_factor(factor, rows, count, inverse)
    return True


@kernel
def _write(own: Any, columns: Any, known: bool, inverse: Any, right: Any, where: Any) -> None:
    """The steps of a group; NaN where its equations have no solution."""
    stars, (steps, variances, skies, _, _), group = where
    for a in range(own.size):
        for part in range(3):
            steps[own[a], part] = 0.0 if known else np.nan
            variances[own[a], part] = 0.0
    if not known:
        return
    for m in range(right.size):
        total = 0.0
        for k in range(right.size):
            total += inverse[m, k] * right[k]
        if m == columns.size:
            skies[group] = total
            continue
        star, part = own[columns[m] // 3], columns[m] % 3
        flux = stars[0][star, 0]
        # columns of x and y are derivatives of a star of flux 1: what comes out is a shift times the flux
        scale = 1.0 if part == 0 else flux
        steps[star, part] = total / scale if scale != 0 else 0.0
        variances[star, part] = inverse[m, m] / scale**2 if scale != 0 else 0.0


@kernel
def _correlated(stamps: Any, corner: Any, columns: Any, lags: Any, matrix: Any, inverse: Any, constant: Any) -> None:
    """From the inverse for white noise to the covariance for correlated noise; in place."""
    width, reach, used = stamps.shape[2], lags.shape[0] // 2, columns.size
    unknowns = matrix.shape[0]
    spread, total_lags = np.zeros((used, width, width)), 0.0
    for b in range(lags.shape[0]):
        for a in range(lags.shape[0]):
            total_lags += lags[b, a]
    middle = np.zeros((unknowns, unknowns))
    for m in range(used):
        mine, weight = stamps[columns[m] // 3, columns[m] % 3], stamps[columns[m] // 3, 4]
        for j in range(width):
            for i in range(width):
                total = 0.0
                for b in range(max(0, j - reach), min(width, j + reach + 1)):
                    for a in range(max(0, i - reach), min(width, i + reach + 1)):
                        total += lags[b - j + reach, a - i + reach] * mine[b, a] * math.sqrt(weight[b, a])
                spread[m, j, i] = total
    for m in range(used):
        a = columns[m] // 3
        mine, weight = stamps[a, columns[m] % 3], stamps[a, 4]
        for k in range(m + 1):
            j0, j1, i0, i1, dy, dx = _overlap(corner[a], corner[columns[k] // 3], width)
            total = 0.0
            for j in range(j0, j1):
                for i in range(i0, i1):
                    total += math.sqrt(weight[j, i]) * mine[j, i] * spread[k, j + dy, i + dx]
            middle[m, k] = middle[k, m] = total
    if constant:  # it is smooth, and so what correlates with it
        for k in range(unknowns):
            middle[used, k] = middle[k, used] = matrix[used, k] * total_lags
    half = np.zeros((unknowns, unknowns))
    for m in range(unknowns):
        for k in range(unknowns):
            for n in range(unknowns):
                half[m, k] += inverse[m, n] * middle[n, k]
    made = np.zeros((unknowns, unknowns))
    for m in range(unknowns):
        for k in range(unknowns):
            for n in range(unknowns):
                made[m, k] += half[m, n] * inverse[n, k]
    inverse[:] = made


@kernel
def _finish(own: Any, columns: Any, known: bool, inverse: Any, stamps: Any, where: Any) -> None:
    """Covariances, chi^2 with its pixels, and the share of light on usable pixels."""
    stars, (_, _, _, covariance, quality) = where
    width = stamps.shape[2]
    for m in range(columns.size):
        for k in range(columns.size):
            if known and columns[m] // 3 == columns[k] // 3:
                star, one, two = own[columns[m] // 3], columns[m] % 3, columns[k] % 3
                scale = (stars[0][star, 0] if one else 1.0) * (stars[0][star, 0] if two else 1.0)
                covariance[star, one, two] = inverse[m, k] / scale if scale != 0 else 0.0
    for a in range(own.size):
        squares = usable = light = 0.0
        pixels = 0
        for j in range(width):
            for i in range(width):
                weight = stamps[a, 4, j, i]
                squares += weight * stamps[a, 3, j, i] ** 2
                light += stamps[a, 0, j, i]
                if weight > 0:
                    usable += stamps[a, 0, j, i]
                    pixels += 1
        quality[own[a], 0], quality[own[a], 1] = squares, pixels
        quality[own[a], 2] = usable / light if known and light > 0 else 0.0
