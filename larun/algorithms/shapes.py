"""Position, flux and shape of sources, measured in the image around given pixels.

*Position*: the maximum of the image filtered with the Gaussian of the given FWHM, found to a fraction of a pixel by the
windowed centroid of SExtractor (XWIN_IMAGE), which is the least-squares position of a Gaussian star in white noise.
*Shape*: adaptive moments (Bernstein & Jarvis 2002, AJ 123, 583, section 3): the elliptical Gaussian weight is matched
to the source and deconvolved from the result, then the pixel (1/12 px^2 on each axis) is taken off. Where a neighbour
draws the weight away, the round weight of a star is used instead.

A pixel without a usable value is filled with the model that the usable ones give, again in every iteration: that is
the least-squares fit that ignores it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only, walk
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.moments import moments
from larun.algorithms.peaks import FWHM_OF_SIGMA, PIXEL_VARIANCE, Planes
from larun.algorithms.stamps import load, position_sums, read_stamp, round_sums, square, stamp

__all__ = ["Measured", "full_width", "measure", "place", "place_errors", "position_angle"]

_ITERATIONS = 60
#: Share of the squared weight that must be usable.
_LEAST = 1e-9
#: Variance of the narrowest window, px^2: a narrower one times a sharp star is not sampled by the pixels.
_NARROWEST_WINDOW = 1.3
#: How much more than its moments the pixel widens a peaked profile, and the scale of ``1 - profile`` to be peaked.
_PEAKED = (0.45, 0.03)


class Measured(NamedTuple):
    """What :func:`measure` returns, one element a source (float64).

    Attributes
    ----------
    x, y : (n,)
        Position, pixels.
    x_error, y_error : (n,)
        Its standard error: background noise and photon noise of the source; at least half the FWHM of a star where
        no centroid was found and the position is the starting pixel.
    flux, flux_error : (n,)
        Flux of the pixel-integrated Gaussian that fits best at this position, and its standard error.
    xx, xy, yy : (n,)
        Second moments of the profile before the pixel blurred it, px^2; NaN where they cannot be measured.
    profile : (n,)
        FWHM over that of the Gaussian with these moments: 1 for a Gaussian, smaller for extended wings; NaN where
        the weight could not be matched to the source.
    flags : (n,) uint32
        OR of the flags within one FWHM of the position.
    inside : (n,) bool
        Whether that circle lies inside the image.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    xx: NDArray[np.float64]
    xy: NDArray[np.float64]
    yy: NDArray[np.float64]
    profile: NDArray[np.float64]
    flags: NDArray[np.uint32]
    inside: NDArray[np.bool_]


def measure(
    planes: Planes,
    peaks: NDArray[np.int64],
    *,
    mask: int,
    fwhm: float,
    gain: float,
    growth: float = 3.0,
) -> Measured:
    """Measure the sources at the given pixels.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance (float32) and flags (uint32).
    peaks : (n,) int64
        Flat indices of the pixels to start from; the position stays within max(1.5 px, fwhm / 2) of them and inside
        the image (-0.5 to nx - 0.5), else it is that pixel's centre, with an error of at least fwhm / 2.
    mask : int
        Bits that make a pixel unusable.
    fwhm : float
        FWHM of a star, pixels.
    gain : float
        Electrons per unit of the data, for the photon noise of the source.
    growth : float
        Shapes are measured up to ``growth`` times ``fwhm``.

    Returns
    -------
    Measured
    """
    out = np.empty((peaks.size, 10))
    found = np.zeros(peaks.size, np.uint32)
    inside = np.zeros(peaks.size, np.bool_)
    rows, columns = np.divmod(peaks, planes[0].shape[1])
    order = walk(columns, rows)
    walked = peaks[order]
    rules = (np.uint32(mask), float(fwhm), float(gain), float(growth))
    fixed = (*(read_only(plane, np.float32) for plane in planes[:3]), read_only(planes[3], np.uint32))

    def work(start: int, stop: int) -> None:
        _measure_range(fixed, walked, rules, out, found, inside, start, stop)

    over_rows(peaks.size, work, band=256)
    back = np.argsort(order)
    x, y, x_error, y_error, flux, flux_error, xx, xy, yy, profile = np.ascontiguousarray(out[back].T)
    return Measured(x, y, x_error, y_error, flux, flux_error, xx, xy, yy, profile, found[back], inside[back])


def position_angle(
    xx: NDArray[np.float64], xy: NDArray[np.float64], yy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Size, ellipticity and angle of second moments.

    Returns
    -------
    sigma, ellipticity, theta : (n,) float64
        The geometric mean of the axes' standard deviations, ``1 - b / a``, and the direction of the major axis in
        degrees from +x towards +y, in (-90, 90].

    Examples
    --------
    >>> position_angle(np.array([1.0]), np.array([0.0]), np.array([4.0]))
    (array([1.41421356]), array([0.5]), array([90.]))
    """
    mean, difference = (xx + yy) / 2, (xx - yy) / 2
    half = np.hypot(difference, xy)
    minor, major = np.sqrt(mean - half), np.sqrt(mean + half)
    return np.sqrt(minor * major), 1 - minor / major, np.degrees(0.5 * np.arctan2(xy, difference))


def full_width(sigma: NDArray[np.float64], profile: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """FWHM of a profile from the size of its moments and the ``profile`` factor of :class:`Measured`.

    The pixel blurs the sharp core of a Moffat profile more than the Gaussian with its moments: by simulation 0.45 of
    the pixel's own term more for beta 2.5 to 5 at any FWHM from 1.5 to 8 px, which is taken off in the same way.

    Examples
    --------
    >>> full_width(np.array([2.0]), 1.0).round(2)
    array([4.71])
    """
    width = FWHM_OF_SIGMA * sigma * profile
    wings = 1 - np.exp(np.minimum(np.asarray(profile) - 1, 0) / _PEAKED[1])
    squared = width**2 - _PEAKED[0] * PIXEL_VARIANCE * FWHM_OF_SIGMA**2 * wings
    return np.asarray(np.sqrt(np.maximum(squared, width**2 / 4)), np.float64)


@kernel
def _measure_range(
    planes: Any, peaks: Any, rules: Any, out: Any, found: Any, inside: Any, start: int, stop: int
) -> None:
    data, level, noise, flags = planes
    bits, fwhm, gain, growth = rules
    ny, nx = data.shape
    sigma = math.sqrt(max((fwhm / FWHM_OF_SIGMA) ** 2 + PIXEL_VARIANCE, _NARROWEST_WINDOW))
    made = stamp((data, level, noise, flags, bits), int(np.ceil(3.5 * sigma * growth)) + 1)
    footprint, first = int(np.ceil(fwhm + 0.5)), int(np.ceil(3.5 * sigma + max(1.5, fwhm / 2)))
    for n in range(start, stop):
        py, px = peaks[n] // nx, peaks[n] % nx
        read_stamp(made, py, px, first)
        room = (-0.5 - px, nx - 0.5 - px, -0.5 - py, ny - 0.5 - py)
        cx, cy, certain = place(made, sigma, max(1.5, fwhm / 2), room)
        out[n, 0], out[n, 1] = px + cx, py + cy
        out[n, 2], out[n, 3] = place_errors(made, cx, cy, sigma, gain)
        if not certain:
            for axis in (2, 3):
                out[n, axis] = out[n, axis] if out[n, axis] > fwhm / 2 else fwhm / 2
        out[n, 4], out[n, 5] = _fitted_flux(made, cx, cy, fwhm / FWHM_OF_SIGMA, gain)
        out[n, 6], out[n, 7], out[n, 8], out[n, 9] = moments(made, cx, cy, sigma, growth)
        inside[n] = True
        for j in range(round(cy) - footprint, round(cy) + footprint + 1):
            for i in range(round(cx) - footprint, round(cx) + footprint + 1):
                if (j - cy) ** 2 + (i - cx) ** 2 <= fwhm * fwhm:
                    if 0 <= py + j < ny and 0 <= px + i < nx:
                        found[n] |= flags[py + j, px + i]
                    else:
                        inside[n] = False


@kernel
def place(made: Any, sigma: float, limit: float, room: Any) -> tuple[float, float, bool]:
    """Centroid within ``limit`` and the image, whose borders are ``room``; else (0, 0) and False."""
    # 2 is Newton's step for a Gaussian star in a matched window; among neighbours it overshoots, 1 always climbs
    for gain in (2.0, 1.0):
        cx, cy, settled = _centroid(made, sigma, limit, gain)
        if settled and room[0] <= cx <= room[1] and room[2] <= cy <= room[3]:
            return cx, cy, True
    return 0.0, 0.0, False


@kernel
def _centroid(made: Any, sigma: float, limit: float, gain: float) -> tuple[float, float, bool]:
    """Windowed centroid from the middle of the stamp, and whether it settled within ``limit``."""
    load(made, int(np.ceil(3.5 * sigma + limit)))
    cx, cy, step = 0.0, 0.0, np.inf
    for _ in range(_ITERATIONS):
        total, first_x, first_y = round_sums(made, cx, cy, sigma)
        if total <= 0:
            return 0.0, 0.0, False
        step_x, step_y = gain * first_x / total, gain * first_y / total
        cx, cy, step = cx + step_x, cy + step_y, math.hypot(step_x, step_y)
        if not (math.hypot(cx, cy) <= limit):
            return 0.0, 0.0, False
        if step < 1e-4:
            return cx, cy, True
    return cx, cy, step < 0.01


@kernel
def place_errors(made: Any, cx: float, cy: float, sigma: float, gain: float) -> tuple[float, float]:
    """Errors of the root of S = sum w I d: sqrt(var S) / |dS / dc|, for each axis."""
    load(made, int(np.ceil(3.5 * sigma + 1.5)))
    light, sky, photon, usable, every = position_sums(made, cx, cy, sigma)
    share_x, share_y = usable[1] / every[1], usable[2] / every[2]
    if not (share_x > _LEAST and share_y > _LEAST):
        return np.nan, np.nan
    # what is missing counts with the window's own model, of the amplitude that fits the rest
    amplitude = max(light[0] / usable[0], 0.0)
    total = light[0] + amplitude * (every[0] - usable[0])
    second = light[1] + light[2] + amplitude * (every[1] - usable[1] + every[2] - usable[2])
    if not total > 0:
        return np.nan, np.nan
    # both axes share the curvature of the profile: half the noise. The matched value is total / 2.
    curve = min(max(total - 0.5 * second / sigma**2, 0.25 * total), total)
    return (
        math.sqrt(sky[0] + max(photon[0] / gain, 0.0)) / (curve * share_x),
        math.sqrt(sky[1] + max(photon[1] / gain, 0.0)) / (curve * share_y),
    )


@kernel
def _fitted_flux(made: Any, cx: float, cy: float, sigma: float, gain: float) -> tuple[float, float]:
    """Flux of the pixel-integrated Gaussian at (cx, cy), equal weights, usable pixels only, and its error."""
    load(made, int(np.ceil(4 * sigma)) + 1)
    bad, along_x, along_y, (signal, variance) = made[2], made[4][0], made[4][1], square(made)
    reach, holes = made[3][2], made[3][3]
    low, high = 0, 2 * reach + 1
    _pixel_shares(along_x, low, high, reach + cx, sigma)
    _pixel_shares(along_y, low, high, reach + cy, sigma)
    top, sky, photon, squares_x, squares_y = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(low, high):
        row, row_sky, row_photon = 0.0, 0.0, 0.0
        for i in range(low, high):
            weight = along_x[i]
            value = weight * signal[j, i]
            row += value
            row_photon += weight * value
            row_sky += weight * weight * variance[j, i]
        top += along_y[j] * row
        sky += along_y[j] * along_y[j] * row_sky
        photon += along_y[j] * along_y[j] * row_photon
        squares_x += along_x[j] * along_x[j]
        squares_y += along_y[j] * along_y[j]
    bottom = squares_x * squares_y
    every = bottom
    for n in range(holes):
        j, i = divmod(bad[n], high)
        bottom -= (along_x[i] * along_y[j]) ** 2
    if not bottom > _LEAST * every:
        return np.nan, np.nan
    return top / bottom, math.sqrt(sky + max(photon / gain, 0.0)) / bottom


@kernel
def _pixel_shares(line: Any, low: int, high: int, centre: float, sigma: float) -> None:
    """The share of a Gaussian that falls on each pixel of a line: one error function an edge."""
    scale = 1.0 / (sigma * math.sqrt(2.0))
    before = math.erf((low - 0.5 - centre) * scale)
    for i in range(low, high):
        after = math.erf((i + 0.5 - centre) * scale)
        line[i] = 0.5 * (after - before)
        before = after
