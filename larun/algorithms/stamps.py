"""The surroundings of a source as a stamp that is read as far as it is needed, and sums through Gaussian windows.

A stamp is ``(source, signal, variance, bad, state, scratch)``, made by :func:`larun.algorithms.stamps.stamp` inside
kernels: ``source`` are the planes and the mask, ``signal`` (sky subtracted) and ``variance`` squares of odd side, 0
where there is no usable pixel, ``bad`` the places of those, ``state`` the pixel in the middle, how far the square is
filled and how many places are bad. ``scratch`` has the lines of the windows.

The Gaussian is not computed pixel by pixel: from one pixel to the next its logarithm changes linearly, so the value
follows from its neighbour's by two products. The products start at the centre, where the window is high.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = ["gaussian_line", "load", "read_stamp", "round_sums", "stamp", "window_sums"]

#: Share of the squared weight that must be usable, else there is nothing to fit a model to.
_LEAST = 1e-9


@kernel
def stamp(source: Any, reach: int) -> Any:
    """An empty stamp that reaches so many pixels to each side."""
    side = 2 * reach + 1
    return (
        source,
        np.empty((side, side)),
        np.empty((side, side)),
        np.empty((side * side, 2), np.int64),
        np.zeros(4, np.int64),
        np.empty((4, side)),
    )


@kernel
def read_stamp(made: Any, py: int, px: int, reach: int) -> None:
    """Begin anew around another pixel."""
    state = made[4]
    state[0], state[1], state[2], state[3] = py, px, -1, 0
    load(made, reach)


@kernel
def load(made: Any, wanted: int) -> None:
    """Fill the stamp up to ``wanted`` pixels from its middle, or to its own size, if it is not that large yet."""
    (data, level, noise, flags, bits), signal, variance, bad, state, _ = made
    middle = signal.shape[0] // 2
    wanted = min(wanted, middle)
    py, px, have, count = state[0], state[1], state[2], state[3]
    if wanted <= have:
        return
    ny, nx = data.shape
    for j in range(-wanted, wanted + 1):
        inner = abs(j) <= have
        y = py + j
        i = -wanted
        while i <= wanted:
            if inner and i == -have:
                i = have + 1
            x = px + i
            value, spread, usable = np.float32(0.0), np.float32(0.0), False
            if 0 <= y < ny and 0 <= x < nx:
                value, spread = data[y, x] - level[y, x], noise[y, x]
                usable = flags[y, x] & bits == 0 and np.isfinite(value) and spread > 0 and np.isfinite(spread)
            if usable:
                signal[middle + j, middle + i], variance[middle + j, middle + i] = value, spread
            else:
                signal[middle + j, middle + i], variance[middle + j, middle + i] = 0.0, 0.0
                bad[count, 0], bad[count, 1] = j, i
                count += 1
            i += 1
    state[2], state[3] = wanted, count


@kernel
def gaussian_line(line: Any, low: int, high: int, centre: float, inverse: float) -> None:
    """Put exp(-inverse (i - centre)^2 / 2) into ``line[low:high]``, by products from the middle outwards."""
    middle = min(max(round(centre), low), high - 1)
    step, shrink = middle - centre, math.exp(-inverse)
    for direction in (1, -1):
        value = math.exp(-0.5 * inverse * step * step)
        ratio = math.exp(-inverse * (0.5 + direction * step))
        i = middle
        while low <= i < high:
            line[i] = value
            value *= ratio
            ratio *= shrink
            i += direction


@kernel
def round_sums(made: Any, cx: float, cy: float, sigma: float, near: int) -> tuple[float, float, float]:
    """Sums of ``w I``, ``w I dx`` and ``w I dy`` through a round window; ``w`` falls off with ``sigma``.

    Places without a usable pixel count with the window's own model, the amplitude the others fit best.
    """
    _, signal, _, bad, state, scratch = made
    along_x, along_y = scratch[0], scratch[1]
    reach = signal.shape[0] // 2
    low, high = reach - near, reach + near + 1
    inverse = 1 / sigma**2
    gaussian_line(along_x, low, high, reach + cx, inverse)
    gaussian_line(along_y, low, high, reach + cy, inverse)
    total, first_x, first_y, squares_x, squares_y = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(low, high):
        row, moment = 0.0, 0.0
        for i in range(low, high):
            value = along_x[i] * signal[j, i]
            row += value
            moment += value * (i - reach - cx)
        total += along_y[j] * row
        first_x += along_y[j] * moment
        first_y += along_y[j] * row * (j - reach - cy)
        squares_x += along_x[j] * along_x[j]
        squares_y += along_y[j] * along_y[j]
    if state[3] > 0:
        every = squares_x * squares_y
        left = every
        for n in range(state[3]):
            j, i = bad[n, 0], bad[n, 1]
            if abs(j) <= near and abs(i) <= near:
                left -= (along_x[reach + i] * along_y[reach + j]) ** 2
        if left < every and left > _LEAST * every:
            amplitude = max(total / left, 0.0)
            for n in range(state[3]):
                j, i = bad[n, 0], bad[n, 1]
                if abs(j) <= near and abs(i) <= near:
                    value = amplitude * (along_x[reach + i] * along_y[reach + j]) ** 2
                    total += value
                    first_x += value * (i - cx)
                    first_y += value * (j - cy)
    return total, first_x, first_y


@kernel
def window_sums(made: Any, centre: Any, inverse: Any, box: Any) -> tuple[float, float, float, float, float, float]:
    """Sums of ``w I`` times 1, dx, dy, dx^2, dx dy and dy^2, with w = exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2).

    Places without a usable pixel count as in :func:`round_sums`.
    """
    _, signal, _, bad, state, scratch = made
    (cx, cy), (a, b, c), (low_y, high_y, low_x, high_x) = centre, inverse, box
    line, ratio, first, across = scratch[0], scratch[1], scratch[2], scratch[3]
    reach = signal.shape[0] // 2
    middle_y = min(max(reach + round(cy), low_y), high_y - 1)
    middle_x = min(max(reach + round(cx), low_x), high_x - 1)
    dx, dy = middle_x - reach - cx, middle_y - reach - cy
    steep = b * b > 0.9 * a * c  # far from the centre such a window rises again: products would come from nothing
    peak, shrink = math.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy)), math.exp(-a)
    for direction in (1, -1):
        value, change = peak, math.exp(-0.5 * a - direction * (a * dx + b * dy))
        i = middle_x
        while low_x <= i < high_x:
            first[i], across[i] = value, i - reach - cx
            value *= change
            change *= shrink
            i += direction
    shrink, tilt = math.exp(-c), math.exp(-b)
    total, sx, sy, sxx, sxy, syy, squares = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for direction in (1, -1):
        change = math.exp(-0.5 * c - direction * (c * dy + b * (low_x - reach - cx)))
        growth = tilt if direction == 1 else 1 / tilt
        for i in range(low_x, high_x):
            line[i], ratio[i] = first[i], change
            change *= growth
        j = middle_y
        while low_y <= j < high_y:
            up = j - reach - cy
            if steep:
                for i in range(low_x, high_x):
                    line[i] = math.exp(-0.5 * (a * across[i] * across[i] + 2 * b * across[i] * up + c * up * up))
            if direction == 1 or j < middle_y:
                row, moment, second, square = 0.0, 0.0, 0.0, 0.0
                for i in range(low_x, high_x):
                    weight = line[i]
                    value = weight * signal[j, i]
                    row += value
                    value *= across[i]
                    moment += value
                    second += value * across[i]
                    square += weight * weight
                    line[i] = weight * ratio[i]
                    ratio[i] *= shrink
                total += row
                sx += moment
                sxx += second
                sy += up * row
                sxy += up * moment
                syy += up * up * row
                squares += square
            else:
                for i in range(low_x, high_x):
                    line[i] *= ratio[i]
                    ratio[i] *= shrink
            j += direction
    if state[3] > 0:
        left, inside = squares, False
        for n in range(state[3]):
            j, i = reach + bad[n, 0], reach + bad[n, 1]
            if low_y <= j < high_y and low_x <= i < high_x:
                inside = True
                left -= _weight(i - reach - cx, j - reach - cy, inverse) ** 2
        if inside and left > _LEAST * squares:
            amplitude = max(total / left, 0.0)
            for n in range(state[3]):
                j, i = reach + bad[n, 0], reach + bad[n, 1]
                if low_y <= j < high_y and low_x <= i < high_x:
                    right, up = i - reach - cx, j - reach - cy
                    value = amplitude * _weight(right, up, inverse) ** 2
                    total += value
                    sx += value * right
                    sy += value * up
                    sxx += value * right * right
                    sxy += value * right * up
                    syy += value * up * up
    return total, sx, sy, sxx, sxy, syy


@kernel
def _weight(dx: float, dy: float, inverse: Any) -> float:
    a, b, c = inverse
    return math.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
