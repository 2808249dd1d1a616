"""The surroundings of a source as a stamp that is read as far as it is needed, and sums through Gaussian windows.

A stamp is ``(source, pixels, bad, state, lines)``, made by :func:`larun.algorithms.stamps.stamp` inside kernels.
``source`` are the planes and the mask. ``pixels`` has four rows: signal (sky subtracted) and variance, 0 where there is
no usable pixel, and the offsets from the middle along x and y; the square that is read lies at their beginning, line
after line, and zeros up to a whole number of lanes. ``bad`` are the places in it without a usable pixel.
``state`` is the pixel in the middle, how far the square reaches, how many places are bad, and for which reach the
offsets are. ``lines`` is room for two lines, ``terms`` for what is added up in several sums.

Few arrays, and few views of them: each that is passed on or cut out is counted, which takes as long as ten pixels.

Sums run along the whole square as one array, in single precision, many pixels at a time: the exponential is a
polynomial of a 64th of the exponent, squared six times. First all terms are worked out, then they are added up in the
order of :mod:`larun.algorithms.lanes`, which no compiler chooses.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.jit import kernel
from larun.algorithms.lanes import LANES, lane_sum

__all__ = ["gaussian_line", "load", "position_sums", "read_stamp", "round_sums", "square", "stamp", "window_sums"]

#: Share of the squared weight that must be usable, else there is nothing to fit a model to.
_LEAST = 1e-9
#: exp(x) for x from -0.45 to 0 and its 64th power: within 1e-7 of exp(64 x) where that is above 0.002.
_0, _1, _2, _3, _4, _5 = (np.float32(1 / math.factorial(n)) if n else np.float32(0) for n in range(6))
#: Sums that are made at the same time.
_SUMS = 10
#: Exponents below 64 times this give a weight of 3e-13.
_FARTHEST = np.float32(-0.45)


@kernel
def stamp(source: Any, reach: int) -> Any:
    """An empty stamp that reaches so many pixels to each side."""
    side = 2 * reach + 1
    return (
        source,
        np.zeros((4, _whole(side * side)), np.float32),
        np.zeros(side * side, np.int64),
        np.full(5, -1),
        np.zeros((2, side)),
        np.empty((_SUMS, _whole(side * side)), np.float32),
    )


@kernel
def _whole(size: int) -> int:
    """So many pixels as a whole number of lanes."""
    return -(-size // LANES) * LANES


@kernel
def _pixels(made: Any) -> int:
    """Pixels of the square that is read, with the zeros after it."""
    return _whole((2 * made[3][2] + 1) ** 2)


@kernel
def read_stamp(made: Any, py: int, px: int, reach: int) -> None:
    """Begin anew around another pixel."""
    state = made[3]
    state[0], state[1], state[2], state[3] = py, px, -1, 0
    load(made, reach)


@kernel
def load(made: Any, wanted: int) -> None:
    """Read the square up to ``wanted`` pixels from its middle, or to the stamp's own size, if it is not that large."""
    state = made[3]
    wanted = min(wanted, made[4].shape[1] // 2)
    if wanted <= state[2]:
        return
    if state[4] != wanted:
        state[4] = wanted
        _set_offsets(made[1], wanted)
    state[2] = wanted
    (data, level, noise, flags, bits), pixels, bad = made[0], made[1], made[2]
    ny, nx = data.shape
    y0, x0, width = state[0] - wanted, state[1] - wanted, 2 * wanted + 1
    zero, none, infinity, usable_pixels = np.float32(0), np.uint32(0), np.float32(np.inf), 0
    first, last = max(0, -y0), min(width, ny - y0)
    left, right = max(0, -x0), min(width, nx - x0)
    if right - left < width or last - first < width:
        pixels[:2, : width * width] = zero
    for at in range(width * width, _whole(width * width)):
        pixels[0, at] = pixels[1, at] = zero
    if left < right and first < last:
        box_y, box_x = slice(y0 + first, y0 + last), slice(x0 + left, x0 + right)
        values, skies = data[box_y, box_x], level[box_y, box_x]
        spreads, masks = noise[box_y, box_x], flags[box_y, box_x]
        made[4][0, 0] = _touched(values, right - left) + _touched(skies, right - left)
        made[4][0, 0] += _touched(spreads, right - left) + _touched(masks, right - left)
        for j in range(last - first):
            at = (first + j) * width + left
            for i in range(right - left):
                value, spread = values[j, i] - skies[j, i], spreads[j, i]
                usable = (masks[j, i] & bits == none) & (abs(value) < infinity) & (spread > zero) & (spread < infinity)
                pixels[0, at + i] = value if usable else zero
                pixels[1, at + i] = spread if usable else zero
                usable_pixels += 1 if usable else 0
    state[3] = 0
    if usable_pixels < width * width:
        for at in range(width * width):
            if pixels[1, at] == 0:
                bad[state[3]] = at
                state[3] += 1


@kernel
def _touched(plane: Any, width: int) -> int:
    """A pixel of every line of memory that is needed is read, so that all are on their way before the first is used."""
    total = 0
    for j in range(plane.shape[0]):
        for i in range(0, width, 16):
            total += plane[j, i] != 0
        total += plane[j, width - 1] != 0
    return total


@kernel
def _set_offsets(pixels: Any, reach: int) -> None:
    width = 2 * reach + 1
    for j in range(width):
        for i in range(width):
            pixels[2, j * width + i], pixels[3, j * width + i] = i - reach, j - reach


@kernel
def square(made: Any) -> Any:
    """Signal and variance of what was read, as planes."""
    width = 2 * made[3][2] + 1
    signal, variance = made[1][0, : width * width], made[1][1, : width * width]
    return signal.reshape((width, width)), variance.reshape((width, width))


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
def _exponential(part: Any) -> Any:
    """exp(64 part) of a number of single precision that is not above 0 (much)."""
    part = part if part > _FARTHEST else _FARTHEST
    value = _1 + part * (_1 + part * (_2 + part * (_3 + part * (_4 + part * _5))))
    value *= value
    value *= value
    value *= value
    value *= value
    value *= value
    return value * value


@kernel
def _added(terms: Any, number: int, size: int) -> float:
    """One row of terms added up."""
    return np.float64(lane_sum(terms, number, size))


@kernel
def _window(pixels: Any, terms: Any, size: int, centre: Any, factors: Any) -> Any:
    (cx, cy), (a, b, c) = centre, factors
    for k in range(size):
        dx, dy = pixels[2, k] - cx, pixels[3, k] - cy
        value = pixels[0, k] * _exponential(dx * (a * dx + b * dy) + c * dy * dy)
        along, aside = value * dx, value * dy
        terms[0, k], terms[1, k], terms[2, k] = value, along, aside
        terms[3, k], terms[4, k], terms[5, k] = along * dx, along * dy, aside * dy
    light, x, y = _added(terms, 0, size), _added(terms, 1, size), _added(terms, 2, size)
    return light, x, y, _added(terms, 3, size), _added(terms, 4, size), _added(terms, 5, size)


@kernel
def _round(pixels: Any, terms: Any, size: int, centre: Any, factor: Any) -> Any:
    cx, cy = centre
    for k in range(size):
        dx, dy = pixels[2, k] - cx, pixels[3, k] - cy
        value = pixels[0, k] * _exponential(factor * (dx * dx + dy * dy))
        terms[0, k], terms[1, k], terms[2, k] = value, value * dx, value * dy
    return _added(terms, 0, size), _added(terms, 1, size), _added(terms, 2, size)


@kernel
def _usable_squares(pixels: Any, terms: Any, size: int, centre: Any, factors: Any) -> Any:
    """Sum of the squared weight of the usable pixels."""
    (cx, cy), (a, b, c) = centre, factors
    for k in range(size):
        dx, dy = pixels[2, k] - cx, pixels[3, k] - cy
        weight = _exponential(dx * (a * dx + b * dy) + c * dy * dy)
        terms[0, k] = weight * weight if pixels[1, k] > _0 else _0
    return _added(terms, 0, size)


@kernel
def _positions(pixels: Any, terms: Any, size: int, centre: Any, factor: Any) -> Any:
    cx, cy = centre
    for k in range(size):
        dx, dy = pixels[2, k] - cx, pixels[3, k] - cy
        dx2, dy2 = dx * dx, dy * dy
        weight = _exponential(factor * (dx2 + dy2))
        value, square = weight * pixels[0, k], weight * weight
        sky, photon = square * pixels[1, k], weight * value
        good = square if pixels[1, k] > _0 else _0
        terms[0, k], terms[1, k], terms[2, k] = value, value * dx2, value * dy2
        terms[3, k], terms[4, k] = sky * dx2, sky * dy2
        terms[5, k], terms[6, k] = photon * dx2, photon * dy2
        terms[7, k], terms[8, k], terms[9, k] = good, good * dx2, good * dy2
    return (
        (_added(terms, 0, size), _added(terms, 1, size), _added(terms, 2, size)),
        (_added(terms, 3, size), _added(terms, 4, size)),
        (_added(terms, 5, size), _added(terms, 6, size)),
        (_added(terms, 7, size), _added(terms, 8, size), _added(terms, 9, size)),
    )


@kernel
def round_sums(made: Any, cx: float, cy: float, sigma: float) -> tuple[float, float, float]:
    """Sums of ``w I``, ``w I dx`` and ``w I dy`` through a round window; ``w`` falls off with ``sigma``.

    Places without a usable pixel count with the window's own model, the amplitude the others fit best.
    """
    size, holes, inverse = _pixels(made), made[3][3], 1 / sigma**2
    total, sx, sy = _round(made[1], made[5], size, _single((cx, cy)), np.float32(-inverse / 128))
    sums = (total, sx, sy, 0.0, 0.0, 0.0)
    if holes > 0:
        sums = _filled(made, (cx, cy), (inverse, 0.0, inverse), sums)
    return sums[0], sums[1], sums[2]


@kernel
def window_sums(made: Any, centre: Any, inverse: Any) -> tuple[float, float, float, float, float, float]:
    """Sums of ``w I`` times 1, dx, dy, dx^2, dx dy and dy^2, with w = exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2).

    Places without a usable pixel count as in :func:`round_sums`.
    """
    size, holes = _pixels(made), made[3][3]
    total, sx, sy, sxx, sxy, syy = _window(made[1], made[5], size, _single(centre), _factors(inverse))
    sums = (total, sx, sy, sxx, sxy, syy)
    return _filled(made, centre, inverse, sums) if holes > 0 else sums


@kernel
def position_sums(made: Any, cx: float, cy: float, sigma: float) -> Any:
    """Sums through a round window, and those of its square over the usable and over all places.

    Returns
    -------
    signal, sky, photon, usable, every : tuple of float
        ``w I`` times 1, dx^2 and dy^2; ``w^2 v`` and ``w^2 I`` times dx^2 and dy^2; ``w^2`` times 1, dx^2 and dy^2.
    """
    pixels, bad = made[1], made[2]
    size, holes, inverse = _pixels(made), made[3][3], 1 / sigma**2
    light, sky, photon, usable = _positions(pixels, made[5], size, _single((cx, cy)), np.float32(-inverse / 128))
    squares, all_x, all_y = usable
    for n in range(holes):
        dx, dy = pixels[2, bad[n]] - cx, pixels[3, bad[n]] - cy
        square = math.exp(-inverse * (dx * dx + dy * dy))
        squares += square
        all_x += square * dx * dx
        all_y += square * dy * dy
    return light, sky, photon, usable, (squares, all_x, all_y)


@kernel
def _single(centre: Any) -> Any:
    return np.float32(centre[0]), np.float32(centre[1])


@kernel
def _factors(inverse: Any) -> Any:
    """Of dx^2, dx dy and dy^2 in a 64th of the exponent."""
    return np.float32(-inverse[0] / 128), np.float32(-inverse[1] / 64), np.float32(-inverse[2] / 128)


@kernel
def _filled(made: Any, centre: Any, inverse: Any, sums: Any) -> Any:
    """The sums with the window's own model where there is no usable pixel."""
    pixels, bad = made[1], made[2]
    size, holes = _pixels(made), made[3][3]
    left = _usable_squares(pixels, made[5], size, _single(centre), _factors(inverse))
    total, sx, sy, sxx, sxy, syy = sums
    (cx, cy), (a, b, c) = centre, inverse
    missing = 0.0
    for n in range(holes):
        dx, dy = pixels[2, bad[n]] - cx, pixels[3, bad[n]] - cy
        missing += math.exp(-(a * dx * dx + 2 * b * dx * dy + c * dy * dy))
    if left > _LEAST * (left + missing):
        amplitude = max(total / left, 0.0)
        for n in range(holes):
            dx, dy = pixels[2, bad[n]] - cx, pixels[3, bad[n]] - cy
            value = amplitude * math.exp(-(a * dx * dx + 2 * b * dx * dy + c * dy * dy))
            total += value
            sx += value * dx
            sy += value * dy
            sxx += value * dx * dx
            sxy += value * dx * dy
            syy += value * dy * dy
    return total, sx, sy, sxx, sxy, syy
