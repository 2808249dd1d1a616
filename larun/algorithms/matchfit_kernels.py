"""The kernels of the fit: stamps convolved with the parts of a kernel, and their normal equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = ["add_up", "light_range", "reduce_range"]


@kernel
def _usable(images: Any, bits: Any, place: Any, half: int, reach: int, mask: Any, good: Any) -> int:
    """Which pixels of a stamp can be used: their own value, and all that the kernel sees."""
    science, reference = images
    y0, x0 = place[0] - half, place[1] - half
    ny, nx = science.shape
    side = 2 * half + 1
    if y0 - reach < 0 or x0 - reach < 0 or y0 + side + reach > ny or x0 + side + reach > nx:
        good[:] = False
        return 0
    for j in range(side):
        for i in range(side):
            value = science[y0 + j, x0 + i]
            good[j, i] = (bits[0][y0 + j, x0 + i] & mask == 0) & (abs(value) < np.inf)
    for j in range(-reach, side + reach):
        for i in range(-reach, side + reach):
            value = reference[y0 + j, x0 + i]
            if (bits[1][y0 + j, x0 + i] & mask == 0) & (abs(value) < np.inf):
                continue
            for v in range(max(0, j - reach), min(side, j + reach + 1)):
                for u in range(max(0, i - reach), min(side, i + reach + 1)):
                    good[v, u] = False
    count = 0
    for j in range(side):
        for i in range(side):
            count += good[j, i]
    return count


@kernel
def light_range(planes: Any, stamps: Any, how: Any, out: Any, start: int, stop: int) -> None:
    """Light of stamps in both images, and their usable pixels."""
    images, bits = planes
    half, mask, _, _, levels, _ = how
    places = stamps[0]
    good = np.empty((2 * half + 1, 2 * half + 1), np.bool_)
    for n in range(start, stop):
        out[n, 2] = _usable(images, bits, places[n], half, 0, mask, good)
        for j in range(2 * half + 1):
            for i in range(2 * half + 1):
                if good[j, i]:
                    y, x = places[n, 0] - half + j, places[n, 1] - half + i
                    out[n, 0] += images[0][y, x] - levels[0]
                    out[n, 1] += images[1][y, x] - levels[1]


@kernel
def reduce_range(planes: Any, basis: Any, stamps: Any, how: Any, model: Any, out: Any, start: int, stop: int) -> None:
    """Normal equations of some stamps."""
    images, bits = planes
    lines, pairs, less = basis
    half, mask, background, domain, levels, gains = how
    own, power = model
    products, more = out
    places, noise = stamps
    reach, side, count = lines.shape[1] // 2, 2 * half + 1, pairs.shape[0]
    wide = side + 2 * reach
    columns = products.shape[1]
    good = np.empty((side, side), np.bool_)
    along = np.empty((lines.shape[0], side, wide))
    made = np.empty((columns, side, side))
    row = np.empty(columns)
    for n in range(start, stop):
        if _usable(images, bits, places[n], half, reach, mask, good) == 0:
            continue
        y0, x0 = places[n, 0] - half, places[n, 1] - half
        _convolve_stamp(images[1], levels[1], (y0, x0), (lines, pairs, less), along, made)
        both = noise[n, 0] + power[n] * noise[n, 1]
        scale = max(own[n, 0], 1e-6)
        photons = 1.0 / gains[0] + power[n] / (scale * gains[1])
        for j in range(side):
            v = (y0 + j - domain[2]) / domain[3]
            for i in range(side):
                if not good[j, i]:
                    continue
                light = 0.0
                for k in range(count):
                    row[k] = made[k, j, i]
                    light += own[n, k] * row[k]
                light = max(light, 0.0)
                u, at = (x0 + i - domain[0]) / domain[1], count
                for d in range(background + 1):
                    for k in range(d + 1):
                        row[at] = u ** (d - k) * v**k
                        at += 1
                row[at] = images[0][y0 + j, x0 + i] - levels[0]
                weight = 1.0 / (both + photons * light + (gains[2] * light) ** 2)
                for a in range(columns):
                    factor, into = weight * row[a], products[n, a]
                    for b in range(columns):
                        into[b] += factor * row[b]
                more[n, 0] += weight * noise[n, 1]
                more[n, 1] += 1.0


@kernel
def _convolve_stamp(image: Any, level: float, place: Any, basis: Any, along: Any, made: Any) -> None:
    """A stamp convolved with every image of the basis: along columns, then along rows."""
    lines, pairs, less = basis
    y0, x0 = place
    reach, side, wide = lines.shape[1] // 2, along.shape[1], along.shape[2]
    taps = lines.shape[1]
    along[:] = 0.0
    for k in range(lines.shape[0]):
        for j in range(side):
            into = along[k, j]
            for t in range(taps):
                factor = lines[k, t]
                if factor == 0.0:
                    continue
                source = image[y0 + j + reach - t]
                for i in range(wide):
                    into[i] += factor * (source[x0 - reach + i] - level)
    for n in range(pairs.shape[0]):
        for j in range(side):
            into, source = made[n, j], along[pairs[n, 0], j]
            for i in range(side):
                into[i] = 0.0
            for t in range(taps):
                factor = lines[pairs[n, 1], t]
                if factor == 0.0:
                    continue
                first = 2 * reach - t
                for i in range(side):
                    into[i] += factor * source[first + i]
            if n:
                for i in range(side):
                    into[i] -= less[n] * made[0, j, i]


@kernel
def add_up(products: Any, where: Any, chosen: Any, full: Any, right: Any) -> None:
    """Add the stamps' equations, each unknown times its term at the stamp; lower half."""
    first, count, terms = where
    columns = first.shape[0]
    for m in chosen:
        for a in range(columns):
            for t in range(count[a]):
                p, one = first[a] + t, terms[m, t]
                right[p, 0] += one * products[m, a, columns]
                for b in range(a + 1):
                    value = one * products[m, a, b]
                    for s in range(count[b]):
                        full[p, first[b] + s] += value * terms[m, s]
