"""The matched filter in true S/N, its maxima, and which of them stand on their own.

The filter is separable: rows are summed along y into a line, the line along x, for the signal and for its variance at
the same time. Pixels that are not usable, and those beyond the edge, drop out of both sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel, over_rows
from larun.errors import OptionError

__all__ = [
    "FWHM_OF_SIGMA",
    "PIXEL_VARIANCE",
    "Planes",
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
    data = planes[0]
    snr = np.empty(data.shape, np.float32)
    bits = np.uint32(mask)

    def work(start: int, stop: int) -> None:
        _filter_rows(planes, bits, profile, float(factor), snr, start, stop)

    over_rows(len(data), work, band=_BAND)
    return snr


def local_maxima(snr: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Flat indices, ascending, of the pixels of at least ``threshold`` that no neighbour of eight exceeds.

    Of equal neighbours the first in reading order is the maximum.
    """
    marks = np.zeros(snr.shape, np.bool_)

    def work(start: int, stop: int) -> None:
        _maxima_rows(snr, float(threshold), marks, start, stop)

    over_rows(snr.shape[0], work, band=_BAND)
    return np.flatnonzero(marks)


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

    def work(start: int, stop: int) -> None:
        _prominent_range(snr, peaks, required, reach, kept, start, stop)

    over_rows(peaks.size, work, band=256)
    return kept


@kernel
def _filter_rows(planes: Any, bits: Any, profile: Any, factor: float, snr: Any, start: int, stop: int) -> None:
    data, level, noise, flags = planes
    ny, nx = data.shape
    taps = profile.size
    radius = taps // 2
    first, last = max(0, start - radius), min(ny, stop + radius)
    signal = np.zeros((last - first, nx), np.float32)
    variance = np.zeros((last - first, nx), np.float32)
    for i in range(last - first):
        for x in range(nx):
            value, spread = data[first + i, x] - level[first + i, x], noise[first + i, x]
            if flags[first + i, x] & bits == 0 and np.isfinite(value) and spread > 0 and np.isfinite(spread):
                signal[i, x], variance[i, x] = value, spread
    total = 0.0
    for t in range(taps):
        total += profile[t] ** 2
    least = _MIN_WEIGHT * total * total
    line_signal, line_variance = np.zeros(nx + 2 * radius), np.zeros(nx + 2 * radius)
    top, bottom = np.empty(nx), np.empty(nx)
    for y in range(start, stop):
        inner_signal, inner_variance = line_signal[radius : radius + nx], line_variance[radius : radius + nx]
        inner_signal[:] = 0.0
        inner_variance[:] = 0.0
        for t in range(taps):
            row = y + t - radius
            if row < 0 or row >= ny:
                continue
            weight, source, spread_row = profile[t], signal[row - first], variance[row - first]
            square = weight * weight
            for x in range(nx):
                inner_signal[x] += weight * source[x]
                inner_variance[x] += square * spread_row[x]
        top[:] = 0.0
        bottom[:] = 0.0
        for t in range(taps):
            weight, source, spread_line = profile[t], line_signal[t : t + nx], line_variance[t : t + nx]
            square = weight * weight
            for x in range(nx):
                top[x] += weight * source[x]
                bottom[x] += square * spread_line[x]
        for x in range(nx):
            # the smooth noise is known under masked pixels too: the ratio is the share of weight that is left
            usable = bottom[x] > least * noise[y, x] and bottom[x] > 0
            snr[y, x] = top[x] / (np.sqrt(bottom[x]) * factor) if usable else 0.0


@kernel
def _maxima_rows(snr: Any, threshold: float, marks: Any, start: int, stop: int) -> None:
    ny, nx = snr.shape
    for y in range(start, stop):
        for x in range(nx):
            value = snr[y, x]
            if value < threshold:
                continue
            highest = True
            for j in range(max(0, y - 1), min(ny, y + 2)):
                for i in range(max(0, x - 1), min(nx, x + 2)):
                    before = j < y or (j == y and i < x)
                    if snr[j, i] > value or (before and snr[j, i] == value):
                        highest = False
            marks[y, x] = highest


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
