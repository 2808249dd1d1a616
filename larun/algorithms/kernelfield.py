"""A convolution kernel that changes over an image, and images convolved with it: values, variances and flags.

The kernel is a sum of small images whose coefficients are polynomials of the position. It is made anew for every tile
of some pixels, in which it is constant: so small a step of the polynomials is far below the noise of any star.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import read_only
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.resample_kernels import fill_masked
from larun.errors import OptionError

__all__ = [
    "LOST",
    "Convolved",
    "KernelField",
    "convolve",
    "convolve_variance",
    "polynomial_terms",
    "stood_in",
    "terms_at",
    "tile_size",
]

#: Taps that are summed together: the width of a kernel is filled up to a multiple.
_STEP = 5
#: Widest image whose tiles are 16 pixels; those of wider ones are 32.
_SMALL = 1024
#: Part of a kernel's weight that may fall on pixels without a value, on the light of stars, before the result counts as
#: without one too.
LOST = 3e-3
#: By such a part of the light there may what stands in for a pixel be wrong, times so many of its sigma that matter.
_WRONG = 3.0
_MOST = 10.0  # times its weight that a saturated pixel counts
#: Pixels whose value says nothing: their neighbours stand in for them. What is saturated stays as it is.
_WORTHLESS = fl.BAD | fl.COSMIC | fl.FLAT_INVALID | fl.NO_DATA


def polynomial_terms(order: int) -> int:
    """How many terms a polynomial of two variables has.

    Examples
    --------
    >>> [polynomial_terms(order) for order in range(4)]
    [1, 3, 6, 10]
    """
    return (order + 1) * (order + 2) // 2


def terms_at(
    x: NDArray[np.float64], y: NDArray[np.float64], order: int, domain: tuple[float, float, float, float]
) -> NDArray[np.float64]:
    """The terms ``u**i v**j`` at positions (n,), as rows (n, terms); u and v are -1 and 1 at the ends of the domain."""
    u, v = (np.asarray(x) - domain[0]) / domain[1], (np.asarray(y) - domain[2]) / domain[3]
    return np.stack([u ** (d - j) * v**j for d in range(order + 1) for j in range(d + 1)], axis=-1)


def tile_size(shape: tuple[int, int]) -> int:
    """Pixels along the side of a tile in which a kernel is constant."""
    return 16 if max(shape) <= _SMALL else 32


@attrs.frozen(kw_only=True, eq=False)
class KernelField:
    """A convolution kernel at every place of an image.

    Parameters
    ----------
    images : ndarray of float64, shape (n, k, k)
        What it is a sum of; k is odd.
    coefficients : ndarray of float64, shape (n, terms)
        The polynomials over the image by which they are multiplied.
    domain : tuple of float
        Middle and half width of the image along x, and along y, pixels.
    """

    images: NDArray[np.float64] = attrs.field(repr=False)
    coefficients: NDArray[np.float64] = attrs.field(repr=False)
    domain: tuple[float, float, float, float]

    @property
    def half(self) -> int:
        """Pixels to each side of the middle."""
        return int(self.images.shape[1] // 2)

    @property
    def order(self) -> int:
        """Of the polynomials over the image."""
        terms = self.coefficients.shape[1]
        return next(order for order in range(12) if polynomial_terms(order) >= terms)

    def at(self, x: float, y: float) -> NDArray[np.float64]:
        """The kernel (k, k) at a place, in pixels.

        Examples
        --------
        >>> one = KernelField(images=np.ones((1, 1, 1)), coefficients=np.array([[2.0]]), domain=(8, 8, 8, 8))
        >>> one.at(3.0, 4.0).tolist()
        [[2.0]]
        """
        terms = terms_at(np.array([x]), np.array([y]), self.order, self.domain)[0]
        made = np.zeros(self.images.shape[1:])
        for image, row in zip(self.images, self.coefficients, strict=True):
            made += float(np.sum(row * terms)) * image
        return made

    def sums(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """The kernel's sum at places (n,): the flux of the result over that of what is convolved."""
        own = self.images.sum(axis=(1, 2))
        terms = terms_at(x, y, self.order, self.domain)
        return np.asarray(np.sum(terms * np.sum(own[:, None] * self.coefficients, axis=0), axis=-1))


class Convolved(NamedTuple):
    """An image after convolution.

    Attributes
    ----------
    data : ndarray of float32, (ny, nx)
        Its values.
    variance : ndarray of float32, (ny, nx), or None
        ``Σ K² v``; neighbours are correlated.
    flags : ndarray of uint32, (ny, nx)
        Those of the pixels without a value that count in a pixel; EDGE and NO_DATA where the kernel reaches beyond the
        image.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    flags: NDArray[np.uint32]


def convolve(
    field: KernelField,
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    *,
    level: float = 0.0,
    mask: int = int(fl.UNUSABLE),
    spared: float = 0.05,
    squares: bool = True,
) -> Convolved:
    """Convolve an image with a kernel that changes over it.

    Parameters
    ----------
    field : KernelField
        The kernel.
    data, variance, flags : ndarray, (ny, nx)
        The image; ``variance`` may be None.
    level : float
        Of the sky, taken off before: what stands in for the surroundings of the image.
    mask : int
        Bits of flags of pixels without a value. Their neighbours stand in for them, but for saturated ones; where much
        of the kernel's weight falls on such pixels, the result has their flags.
    spared : float
        How much of the weight that is on the sky, where neighbours stand in for a pixel within its noise. On the light
        of stars less is enough, down to 0.3 per cent; and where there is no ``variance`` to tell which is which.
    squares : bool
        Whether the variance of the result is made too, where there is one to make it of.

    Returns
    -------
    Convolved

    Raises
    ------
    OptionError
        If shapes disagree.
    """
    for name, plane in (("variance", variance), ("flags", flags)):
        if plane is not None and plane.shape != data.shape:
            raise OptionError(f"{name} has shape {plane.shape}, data {data.shape}")
    bits = read_only(flags, np.uint32)
    lost = _without_value(data, bits, np.uint32(mask))
    planes = [_filled(plane, bits, lost) for plane in ([data] if variance is None else [data, variance])]
    if variance is not None:
        _judge(lost, bits, (planes[0], level), planes[1], spared)
    given = _given(field)
    squares = squares and variance is not None
    spread = np.empty(data.shape if squares else (0, 0), np.float32)
    out = np.empty(data.shape, np.float32), spread, np.zeros(data.shape, np.uint32)
    size = tile_size((data.shape[0], data.shape[1]))
    pair, state = (planes[0], planes[-1]), (bits, read_only(lost, np.uint8), np.float32(LOST))

    def work(start: int, stop: int) -> None:
        _convolve_rows(pair, state, given, (size, np.float32(level)), out, start, stop)

    over_rows(-(-data.shape[0] // size), work, band=1)
    return Convolved(out[0], spread if squares else None, out[2])


def convolve_variance(
    field: KernelField, variance: NDArray[np.float32], flags: NDArray[np.uint32] | None = None
) -> NDArray[np.float32]:
    """``Σ K² v`` of a plane of variances; what lies beyond the image counts as 0.

    Where it changes by less than a hundredth within the kernel's reach, its own value stands for all of it.

    Parameters
    ----------
    field : KernelField
        The kernel.
    variance : ndarray of float32, (ny, nx)
        Finite, but for pixels without a value.
    flags : ndarray of uint32, (ny, nx), optional
        Neighbours stand in for pixels without a value, as in :func:`convolve`.

    Returns
    -------
    ndarray of float32, (ny, nx)
    """
    plane = read_only(variance, np.float32)
    if flags is not None:
        bits = read_only(flags, np.uint32)
        plane = _filled(plane, bits, _without_value(plane, bits, fl.UNUSABLE))
    nothing = read_only(np.zeros((0, 0)), np.uint8)
    out = np.empty((0, 0), np.float32), np.empty(plane.shape, np.float32), np.empty((0, 0), np.uint32)
    size = tile_size((plane.shape[0], plane.shape[1]))
    state = read_only(np.zeros((0, 0)), np.uint32), nothing, np.float32(LOST)

    def work(start: int, stop: int) -> None:
        _convolve_rows((plane, plane), state, _given(field), (size, np.float32(0.0)), out, start, stop)

    over_rows(-(-plane.shape[0] // size), work, band=1)
    return out[1]


def stood_in(
    data: NDArray[np.float32], variance: NDArray[np.float32], flags: NDArray[np.uint32], level: float, spared: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """An image whose pixels without a value have that of their neighbours, but for saturated ones.

    Parameters
    ----------
    data, variance, flags : ndarray, (ny, nx)
        The image.
    level : float
        Of the sky.
    spared : float
        How much of a filter's weight may fall on such pixels of the sky, as in :func:`convolve`.

    Returns
    -------
    data, variance : ndarray of float32, (ny, nx)
        Finite.
    lost : ndarray of float32, (ny, nx)
        How much a pixel without a value counts in what sees it, in parts of its weight: a result counts as without a
        value from 0.3 per cent on. More than 1 where a saturated pixel is far above the sky: filters have wide wings.
    """
    bits = read_only(flags, np.uint32)
    lost = _without_value(data, bits, fl.UNUSABLE)
    planes = _filled(data, bits, lost), _filled(variance, bits, lost)
    _judge(lost, bits, (planes[0], level), planes[1], spared)
    risk = np.zeros(lost.shape, np.float32)
    rows, columns = np.nonzero(lost)
    risk[rows, columns] = lost[rows, columns] / np.float32(255)
    with np.errstate(divide="ignore", invalid="ignore"):
        brightness = np.abs(planes[0][rows, columns] - np.float32(level)) / np.sqrt(planes[1][rows, columns])
    bright = np.nan_to_num(np.float32(LOST * _WRONG) * brightness, nan=0.0, posinf=_MOST)
    risk[rows, columns] = np.maximum(risk[rows, columns], np.clip(bright, 0, _MOST))
    return planes[0], planes[1], risk


def _given(field: KernelField) -> tuple[Any, ...]:
    """A field as kernels take it."""
    side = field.images.shape[1]
    images = np.zeros((len(field.images), side, -(-side // _STEP) * _STEP))
    images[:, :, :side] = field.images[:, ::-1, ::-1]  # a sum over neighbours is a convolution with the turned kernel
    return read_only(images, np.float64), read_only(field.coefficients, np.float64), field.order, field.domain


def _without_value(data: NDArray[np.float32], flags: NDArray[np.uint32], mask: np.uint32) -> NDArray[np.uint8]:
    lost = np.empty(data.shape, np.uint8)
    image = read_only(data, np.float32)
    over_rows(len(lost), lambda start, stop: _mark_rows(image, flags, mask, lost, start, stop))
    return lost


def _judge(
    lost: NDArray[np.uint8],
    flags: NDArray[np.uint32],
    seen: tuple[NDArray[np.float32], float],
    variance: NDArray[np.float32],
    spared: float,
) -> None:
    """How much each pixel without a value counts, in 255ths of its weight, in place of 1 for all.

    What stands in for one on the sky is wrong by its noise. On a star it is wrong by a part of its light, what is
    ``seen`` over a level.
    """
    rows, columns = np.nonzero(lost)
    state = flags[rows, columns]
    stood_in = ((state & (_WORTHLESS | fl.INTERPOLATED)) != 0) & ((state & fl.SATURATED) == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        brightness = np.abs(seen[0][rows, columns] - np.float32(seen[1])) / np.sqrt(variance[rows, columns])
        part = LOST * np.maximum(1 / spared, _WRONG * brightness)
    known = stood_in & (part < 1)
    lost[rows, columns] = np.where(known, np.ceil(255 * np.where(known, part, 1.0)), 255).astype(np.uint8)


def _filled(plane: NDArray[np.float32], flags: NDArray[np.uint32], lost: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The plane with neighbours in place of pixels that say nothing; finite everywhere."""
    image = read_only(plane, np.float32)
    if not lost.any():
        return image
    rows, columns = np.nonzero(lost)
    state = flags[rows, columns]
    # what a step has replaced already is as good as what would replace it here
    say_nothing = ((state & _WORTHLESS) != 0) & ((state & fl.INTERPOLATED) == 0) | ~np.isfinite(image[rows, columns])
    places = read_only(np.column_stack([rows[say_nothing], columns[say_nothing]]), np.int64)
    if not len(places):
        return image
    hidden = np.zeros(plane.shape, np.uint8)
    hidden[places[:, 0], places[:, 1]] = 1
    values, seen = np.empty(len(places), np.float32), read_only(hidden, np.uint8)
    over_rows(len(places), lambda start, stop: fill_masked(image, seen, places[start:stop], values[start:stop]), 1024)
    made = plane.copy()
    made[places[:, 0], places[:, 1]] = values
    return read_only(np.nan_to_num(made, copy=False, nan=0.0), np.float32)


@kernel
def _mark_rows(data: Any, flags: Any, mask: Any, lost: Any, start: int, stop: int) -> None:
    infinite = np.float32(np.inf)
    for y in range(start, stop):
        for x in range(data.shape[1]):
            lost[y, x] = np.uint8(0) if (flags[y, x] & mask == 0) & (abs(data[y, x]) < infinite) else np.uint8(255)


@kernel
def _convolve_rows(planes: Any, state: Any, field: Any, tiling: Any, out: Any, start: int, stop: int) -> None:
    """Rows ``start`` to ``stop`` of tiles."""
    images, coefficients, order, domain = field
    size, level = tiling
    ny, nx = planes[0].shape
    side, wide = images.shape[1], images.shape[2]
    half = side // 2
    plain, squared = out[0].shape[0] > 0, out[1].shape[0] > 0
    weights, squares = np.empty((side, wide), np.float32), np.empty((side, wide), np.float32)
    exact = np.empty((side, wide))
    source = np.zeros((size + side - 1, size + wide - 1), np.float32)
    line = np.empty((size - 1) * source.shape[1] + size, np.float32)
    share, seen = np.empty((size, size), np.float32), np.empty((size, size), np.uint32)
    for tile in range(start, stop):
        y0 = tile * size
        y1 = min(y0 + size, ny)
        for x0 in range(0, nx, size):
            x1 = min(x0 + size, nx)
            _weights_at(images, coefficients, order, domain, (x0 + 0.5 * (size - 1), y0 + 0.5 * (size - 1)), exact)
            for j in range(side):
                for i in range(wide):
                    weights[j, i] = np.float32(exact[j, i])
                    squares[j, i] = np.float32(exact[j, i] * exact[j, i])
            place = (y0, y1, x0, x1)
            if plain:
                _load(planes[0], place, half, level, source)
                _sum_tile(source, weights, place, line, out[0])
                _flag_tile(state, weights, place, half, (share, seen), out[2])
            if squared:
                _load(planes[1], place, half, np.float32(0.0), source)
                if plain or not _is_flat(source, side, place):
                    _sum_tile(source, squares, place, line, out[1])
                else:
                    _scale_tile(planes[1], squares, place, out[1])


@kernel
def _weights_at(images: Any, coefficients: Any, order: int, domain: Any, at: Any, out: Any) -> None:
    u, v = (at[0] - domain[0]) / domain[1], (at[1] - domain[2]) / domain[3]
    out[:] = 0.0
    for n in range(images.shape[0]):
        factor, t = 0.0, 0
        for d in range(order + 1):
            for j in range(d + 1):
                factor += coefficients[n, t] * u ** (d - j) * v**j
                t += 1
        for j in range(out.shape[0]):
            for i in range(out.shape[1]):
                out[j, i] += factor * images[n, j, i]


@kernel
def _load(plane: Any, place: Any, half: int, level: Any, source: Any) -> None:
    """A tile with its surroundings, less a level; 0 outside of the image."""
    y0, _, x0, _ = place
    ny, nx = plane.shape
    for j in range(source.shape[0]):
        y = y0 - half + j
        if y < 0 or y >= ny:
            source[j] = np.float32(0.0)
            continue
        before = max(0, half - x0)
        after = min(source.shape[1], nx - x0 + half)
        for i in range(before):
            source[j, i] = np.float32(0.0)
        for i in range(before, after):
            source[j, i] = plane[y, x0 - half + i] - level
        for i in range(max(after, 0), source.shape[1]):
            source[j, i] = np.float32(0.0)


@kernel
def _sum_tile(source: Any, weights: Any, place: Any, line: Any, out: Any) -> None:
    """Single precision: some hundred terms lose a few 1e-7 of the largest, far below the noise of any pixel.

    All rows of a tile are one long line, with what lies between them: loops over 32 pixels would mostly begin and end.
    """
    y0, y1, x0, x1 = place
    pitch = source.shape[1]
    flat, size = source.reshape(source.size), line.size
    line[:] = np.float32(0.0)
    for j in range(weights.shape[0]):
        for i in range(0, weights.shape[1], 5):
            a, b, c = weights[j, i], weights[j, i + 1], weights[j, i + 2]
            d, e = weights[j, i + 3], weights[j, i + 4]
            at = j * pitch + i
            first, second, third = flat[at : at + size], flat[at + 1 : at + 1 + size], flat[at + 2 : at + 2 + size]
            fourth, fifth = flat[at + 3 : at + 3 + size], flat[at + 4 : at + 4 + size]
            for x in range(size):
                line[x] += a * first[x] + b * second[x] + c * third[x] + d * fourth[x] + e * fifth[x]
    for y in range(y1 - y0):
        for x in range(x1 - x0):
            out[y0 + y, x0 + x] = line[y * pitch + x]


@kernel
def _is_flat(source: Any, side: int, place: Any) -> bool:
    """Whether a tile and all that the kernel sees around it are nearly of one value."""
    y0, y1, x0, x1 = place
    low = high = source[0, 0]
    for j in range(y1 - y0 + side - 1):
        for i in range(x1 - x0 + side - 1):
            low, high = min(low, source[j, i]), max(high, source[j, i])
    return bool(high <= np.float32(1.01) * low)


@kernel
def _scale_tile(plane: Any, weights: Any, place: Any, out: Any) -> None:
    y0, y1, x0, x1 = place
    total = 0.0
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            total += weights[j, i]
    factor = np.float32(total)
    for y in range(y0, y1):
        for x in range(x0, x1):
            out[y, x] = factor * plane[y, x]


@kernel
def _flag_tile(state: Any, weights: Any, place: Any, half: int, room: Any, out: Any) -> None:
    """Flags of the pixels without a value that a kernel's weight falls on, where that is more than a little."""
    flags, lost, least = state
    share, seen = room
    y0, y1, x0, x1 = place
    ny, nx = lost.shape
    side = 2 * half + 1
    total, some = np.float32(0.0), False
    for j in range(max(0, y0 - half), min(ny, y1 + half)):
        for i in range(max(0, x0 - half), min(nx, x1 + half)):
            some |= lost[j, i] != 0
    for j in range(side):
        for i in range(side):
            total += abs(weights[j, i])
    if some:
        share[:], seen[:] = np.float32(0.0), np.uint32(0)
        for j in range(max(0, y0 - half), min(ny, y1 + half)):
            for i in range(max(0, x0 - half), min(nx, x1 + half)):
                if lost[j, i] == 0:
                    continue
                word = flags[j, i] if flags[j, i] != 0 else fl.NO_DATA
                risk = np.float32(lost[j, i]) / np.float32(255.0)
                for y in range(max(y0, j - half), min(y1, j + half + 1)):
                    for x in range(max(x0, i - half), min(x1, i + half + 1)):
                        share[y - y0, x - x0] += risk * abs(weights[j - y + half, i - x + half])
                        seen[y - y0, x - x0] |= word
        for y in range(y0, y1):
            for x in range(x0, x1):
                if share[y - y0, x - x0] > least * total:
                    out[y, x] |= seen[y - y0, x - x0]
    for y in range(y0, y1):
        for x in range(x0, x1):
            if y < half or x < half or y >= ny - half or x >= nx - half:
                out[y, x] |= fl.EDGE | fl.NO_DATA
