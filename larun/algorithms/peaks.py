"""The matched filter in true S/N, its maxima, and which of them stand on their own.

The filter is separable: rows are summed along y into a line, the line along x, for the signal and for its variance at
the same time, in single precision, the two pixels of one weight together. Pixels that are not usable, and those beyond
the edge, drop out of both sums. The rows that one line needs are kept, prepared, in a ring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import kernel, over_rows
from larun.errors import OptionError

__all__ = [
    "FWHM_OF_SIGMA",
    "PIXEL_VARIANCE",
    "Planes",
    "flagged",
    "gaussian_profile",
    "local_maxima",
    "noise_factor",
    "prominent",
    "signal_to_noise",
]

#: Data, background level, smooth noise variance and flags.
Planes = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]

#: Variance of a square pixel along one axis, px^2: it blurs a profile by this much.
PIXEL_VARIANCE = 1.0 / 12.0
#: FWHM of a Gaussian of unit standard deviation.
FWHM_OF_SIGMA = math.sqrt(8.0 * math.log(2.0))
#: Share of the filter's squared weight that must fall on usable pixels.
_MIN_WEIGHT = 0.3
_BAND = 128
#: Pixels that are looked at together, and one by one only if one of them is wanted.
_CHUNK = 32


def gaussian_profile(fwhm: float) -> NDArray[np.float64]:
    """A Gaussian integrated over pixels, along one axis, centred, to 4 sigma, of unit sum; [1] for ``fwhm`` 0.

    Examples
    --------
    >>> profile = gaussian_profile(2.5)
    >>> profile.size, round(float(profile.sum()), 12)
    (9, 1.0)
    """
    if fwhm == 0:
        return np.ones(1)
    sigma = fwhm / FWHM_OF_SIGMA
    radius = max(1, math.ceil(4.0 * sigma - 0.5))
    edges = (np.arange(2 * radius + 2) - radius - 0.5) / (sigma * math.sqrt(2.0))
    profile = np.diff([math.erf(edge) for edge in edges])
    return np.ascontiguousarray(profile / profile.sum())


def noise_factor(row: NDArray[np.float64], column: NDArray[np.float64], acf: NDArray[np.float64] | None) -> float:
    """How much correlated noise raises the noise of a separable weighted sum over that of white noise.

    The variance of ``sum k n`` is ``v sum_lag acf(lag) (k * k)(lag)``, where ``k * k`` is the autocorrelation of the
    weights.

    Parameters
    ----------
    row, column : (n,) float64
        Weights along x and y; the filter is their outer product.
    acf : (2 m + 1, 2 m + 1) float64 or None
        Autocorrelation of the noise, centre 1; None for white noise.

    Returns
    -------
    float
        Factor on the standard deviation.

    Raises
    ------
    OptionError
        If ``acf`` is not square with odd sides and 1 in its centre, or gives no positive variance.
    """
    if acf is None:
        return 1.0
    acf = np.asarray(acf, np.float64)
    if acf.ndim != 2 or acf.shape[0] != acf.shape[1] or acf.shape[0] % 2 == 0 or not np.isfinite(acf).all():
        raise OptionError(f"acf of shape {acf.shape}: must be a finite square kernel with odd sides")
    reach = acf.shape[0] // 2
    centre = float(acf[reach, reach])
    if abs(centre - 1.0) > 1e-3:
        raise OptionError(f"acf has {centre:g} in its centre: must be normalised to 1")
    along_x, along_y = _autocorrelation(row, reach), _autocorrelation(column, reach)
    squared = float((acf * along_y[:, None] * along_x[None, :]).sum())
    if squared <= 0:
        raise OptionError("acf: the filtered noise would have no positive variance; it is not an autocorrelation")
    return math.sqrt(squared / (along_x[reach] * along_y[reach]))


def _autocorrelation(weights: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    padded = np.pad(weights, reach)
    return np.array(
        [(padded[reach + lag : reach + lag + weights.size] * weights).sum() for lag in range(-reach, reach + 1)]
    )


def signal_to_noise(planes: Planes, mask: int, profile: NDArray[np.float64], factor: float) -> NDArray[np.float32]:
    """The image of ``sum k (d - b) w / sqrt(sum k^2 v w)``: on noise alone every pixel is a unit Gaussian.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data d, background level b, smooth noise variance v (float32) and flags (uint32).
    mask : int
        Flag bits that make a pixel unusable (w = 0); so does a value that is not finite, or no positive variance.
    profile : (n,) float64
        The filter k along one axis (n odd).
    factor : float
        Of :func:`noise_factor`.

    Returns
    -------
    (ny, nx) float32
        S/N; 0 where less than 30 per cent of the filter's squared weight falls on usable pixels.
    """
    data, level, noise = (read_only(plane, np.float32) for plane in planes[:3])
    flags = read_only(planes[3], np.uint32)
    snr = np.empty(data.shape, np.float32)
    bits, weights = np.uint32(mask), profile.astype(np.float32)
    # summed here, and in double: the share of the weight is compared with it
    least = np.float32(_MIN_WEIGHT * float((profile**2).sum()) ** 2)

    def work(start: int, stop: int) -> None:
        _filter_rows((data, level, noise, flags), (bits, least, np.float32(factor)), weights, snr, start, stop)

    over_rows(len(data), work, band=_BAND)
    return snr


def local_maxima(snr: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Flat indices, ascending, of the pixels of at least ``threshold`` that no neighbour of eight exceeds.

    Of equal neighbours the first in reading order is the maximum.
    """
    image = read_only(snr, np.float32)
    limit = np.float32(threshold)
    if limit < threshold:  # of single precision, the first that is not below it
        limit = np.nextafter(limit, np.float32(np.inf))

    def work(start: int, stop: int, found: NDArray[np.int64]) -> int:
        return int(_maxima_rows(image, limit, found, start, stop))

    return _collected(snr.shape, work, side=2)


def flagged(flags: NDArray[np.uint32], bits: int, without: int) -> NDArray[np.int64]:
    """Flat indices, ascending, of the pixels with one of ``bits`` and none of ``without``.

    Examples
    --------
    >>> flagged(np.array([[1, 2, 3, 0]], np.uint32), 1, 2)
    array([0])
    """
    plane, wanted, unwanted = read_only(flags, np.uint32), np.uint32(bits), np.uint32(without)

    def work(start: int, stop: int, found: NDArray[np.int64]) -> int:
        return int(_flagged_rows(plane, wanted, unwanted, found, start, stop))

    return _collected(flags.shape, work, side=1)


def _collected(
    shape: tuple[int, ...], search: Callable[[int, int, NDArray[np.int64]], int], side: int
) -> NDArray[np.int64]:
    """What a search finds in each band, in order; at most one find in a square of ``side`` pixels."""
    parts: dict[int, NDArray[np.int64]] = {}

    def work(start: int, stop: int) -> None:
        room = np.empty(-(-(stop - start) // side) * -(-shape[1] // side), np.int64)
        parts[start] = room[: search(start, stop, room)].copy()

    over_rows(shape[0], work, band=_BAND)
    return np.concatenate([np.empty(0, np.int64), *(parts[start] for start in sorted(parts))])


def prominent(
    snr: NDArray[np.float32],
    peaks: NDArray[np.int64],
    required: NDArray[np.float64],
    reach: int,
) -> NDArray[np.bool_]:
    """Which maxima rise by more than ``required`` above the pass to any higher pixel within ``reach`` pixels.

    From each maximum the surface is flooded down to ``peak - required``. A flood that meets a higher pixel belongs to
    it: the maximum was a ripple on its slope. (The topological prominence, without building the whole tree.)
    """
    kept = np.empty(peaks.size, np.bool_)
    snr = read_only(snr, np.float32)

    def work(start: int, stop: int) -> None:
        _prominent_range(snr, peaks, required, reach, kept, start, stop)

    over_rows(peaks.size, work, band=256)
    return kept


@kernel
def _filter_rows(planes: Any, rules: Any, profile: Any, snr: Any, start: int, stop: int) -> None:
    noise = planes[2]
    bits, least, factor = rules
    ny, nx = noise.shape
    taps = profile.size
    radius = taps // 2
    squares = profile * profile
    # the last row of the rings stands for those beyond the edge
    signal, variance = np.zeros((taps + 1, nx), np.float32), np.zeros((taps + 1, nx), np.float32)
    line_signal, line_variance = np.zeros(nx + 2 * radius, np.float32), np.zeros(nx + 2 * radius, np.float32)
    top, bottom = np.empty(nx, np.float32), np.empty(nx, np.float32)
    places = np.empty(taps, np.int64)
    for y in range(max(0, start - radius), min(ny, start + radius)):
        _prepare(planes, bits, y, signal[y % taps], variance[y % taps])
    for y in range(start, stop):
        if y + radius < ny:
            _prepare(planes, bits, y + radius, signal[(y + radius) % taps], variance[(y + radius) % taps])
        for t in range(taps):
            row = y + t - radius
            places[t] = row % taps if 0 <= row < ny else taps
        _sum_rows(signal, places, profile, line_signal[radius : radius + nx])
        _sum_rows(variance, places, squares, line_variance[radius : radius + nx])
        _sum_along(line_signal, profile, top)
        _sum_along(line_variance, squares, bottom)
        for x in range(nx):
            # the smooth noise is known under masked pixels too: the ratio is the share of weight that is left
            usable = (bottom[x] > least * noise[y, x]) & (bottom[x] > 0)
            snr[y, x] = top[x] / (np.sqrt(bottom[x]) * factor) if usable else np.float32(0.0)


@kernel
def _prepare(planes: Any, bits: Any, y: int, signal: Any, variance: Any) -> None:
    """Signal and variance of one row, 0 where a pixel is not usable."""
    data, level, noise, flags = planes
    zero, infinite = np.float32(0.0), np.float32(np.inf)
    for x in range(signal.size):
        value, spread = data[y, x] - level[y, x], noise[y, x]
        usable = (flags[y, x] & bits == 0) & (abs(value) < infinite) & (spread > zero) & (spread < infinite)
        signal[x] = value if usable else zero
        variance[x] = spread if usable else zero


@kernel
def _sum_rows(rows: Any, places: Any, profile: Any, out: Any) -> None:
    """Weighted sum of the rows at ``places``."""
    taps = profile.size
    middle = taps // 2
    _begin(out, rows[places[middle]], profile[middle])
    for t in range(middle % 2, middle, 2):
        first, second = (rows[places[t]], rows[places[taps - 1 - t]]), (rows[places[t + 1]], rows[places[taps - 2 - t]])
        _add_pairs(out, first, second, profile[t], profile[t + 1])
    if middle % 2:
        _add_pair(out, rows[places[0]], rows[places[taps - 1]], profile[0])


@kernel
def _sum_along(line: Any, profile: Any, out: Any) -> None:
    """Weighted sum along a line that reaches beyond the result by half the filter to both sides."""
    taps, nx = profile.size, out.size
    middle = taps // 2
    _begin(out, line[middle : middle + nx], profile[middle])
    for t in range(middle % 2, middle, 2):
        u, v = taps - 1 - t, taps - 2 - t
        first, second = (line[t : t + nx], line[u : u + nx]), (line[t + 1 : t + 1 + nx], line[v : v + nx])
        _add_pairs(out, first, second, profile[t], profile[t + 1])
    if middle % 2:
        _add_pair(out, line[:nx], line[taps - 1 : taps - 1 + nx], profile[0])


@kernel
def _begin(out: Any, row: Any, weight: Any) -> None:
    for x in range(out.size):
        out[x] = weight * row[x]


@kernel
def _add_pair(out: Any, before: Any, after: Any, weight: Any) -> None:
    for x in range(out.size):
        out[x] += weight * (before[x] + after[x])


@kernel
def _add_pairs(out: Any, first: Any, second: Any, one: Any, other: Any) -> None:
    before, after = first
    nearer, farther = second
    for x in range(out.size):
        out[x] += one * (before[x] + after[x]) + other * (nearer[x] + farther[x])


@kernel
def _maxima_rows(snr: Any, threshold: Any, found: Any, start: int, stop: int) -> int:
    ny, nx = snr.shape
    count = 0
    highest = np.empty(_CHUNK, np.uint8)
    for y in range(start, stop):
        for x0 in range(0, nx, _CHUNK):
            chunk, above = snr[y, x0 : min(x0 + _CHUNK, nx)], np.int32(0)
            for x in range(chunk.size):
                above = np.int32(above + np.int32(chunk[x] >= threshold))
            if above == 0:
                continue
            if 0 < y < ny - 1 and 0 < x0 < nx - _CHUNK:
                _compare(snr, threshold, y, x0, highest)
                some = np.int32(0)
                for k in range(_CHUNK):
                    some = np.int32(some + np.int32(highest[k]))
                if some == 0:
                    continue
                for k in range(_CHUNK):
                    if highest[k]:
                        found[count] = y * nx + x0 + k
                        count += 1
                continue
            for x in range(x0, min(x0 + _CHUNK, nx)):
                if snr[y, x] >= threshold and _is_highest(snr, y, x):
                    found[count] = y * nx + x
                    count += 1
    return count


@kernel
def _compare(snr: Any, threshold: Any, y: int, x0: int, highest: Any) -> None:
    """Which pixels of a chunk are maxima above the threshold: all of them at once, away from the edges."""
    x1 = x0 + _CHUNK
    here, left, right = snr[y, x0:x1], snr[y, x0 - 1 : x1 - 1], snr[y, x0 + 1 : x1 + 1]
    over, over_left, over_right = snr[y - 1, x0:x1], snr[y - 1, x0 - 1 : x1 - 1], snr[y - 1, x0 + 1 : x1 + 1]
    under, under_left, under_right = snr[y + 1, x0:x1], snr[y + 1, x0 - 1 : x1 - 1], snr[y + 1, x0 + 1 : x1 + 1]
    for k in range(_CHUNK):
        value = here[k]
        before = (over_left[k] >= value) | (over[k] >= value) | (over_right[k] >= value) | (left[k] >= value)
        after = (under_left[k] > value) | (under[k] > value) | (under_right[k] > value) | (right[k] > value)
        highest[k] = np.uint8(0) if before | after | (not value >= threshold) else np.uint8(1)


@kernel
def _is_highest(snr: Any, y: int, x: int) -> bool:
    ny, nx = snr.shape
    value = snr[y, x]
    for j in range(max(0, y - 1), min(ny, y + 2)):
        for i in range(max(0, x - 1), min(nx, x + 2)):
            before = j < y or (j == y and i < x)
            if snr[j, i] > value or (before and snr[j, i] == value):
                return False
    return True


@kernel
def _flagged_rows(flags: Any, bits: Any, without: Any, found: Any, start: int, stop: int) -> int:
    nx = flags.shape[1]
    count = 0
    for y in range(start, stop):
        for x0 in range(0, nx, _CHUNK):
            chunk, some = flags[y, x0 : min(x0 + _CHUNK, nx)], np.uint32(0)
            for x in range(chunk.size):
                some |= chunk[x]
            if some & bits == 0:
                continue
            for x in range(x0, min(x0 + _CHUNK, nx)):
                if flags[y, x] & bits != 0 and flags[y, x] & without == 0:
                    found[count] = y * nx + x
                    count += 1
    return count


@kernel
def _prominent_range(snr: Any, peaks: Any, required: Any, reach: int, kept: Any, start: int, stop: int) -> None:
    ny, nx = snr.shape
    side = 2 * reach + 1
    seen = np.empty((side, side), np.bool_)
    queue = np.empty((side * side, 2), np.int64)
    for n in range(start, stop):
        py, px = peaks[n] // nx, peaks[n] % nx
        value = snr[py, px]
        level = value - required[n]
        seen[:] = False
        seen[reach, reach] = True
        queue[0, 0], queue[0, 1] = py, px
        done, count, kept[n] = 0, 1, True
        while done < count and kept[n]:
            y, x = queue[done, 0], queue[done, 1]
            done += 1
            for j in range(max(0, y - 1, py - reach), min(ny, y + 2, py + reach + 1)):
                for i in range(max(0, x - 1, px - reach), min(nx, x + 2, px + reach + 1)):
                    if seen[j - py + reach, i - px + reach] or not snr[j, i] > level:
                        continue
                    seen[j - py + reach, i - px + reach] = True
                    before = j < py or (j == py and i < px)
                    if snr[j, i] > value or (before and snr[j, i] == value):
                        kept[n] = False
                    queue[count, 0], queue[count, 1] = j, i
                    count += 1
