"""Windowed centroids, and how much more extended than a star a source is.

*Centroid*: the root of ``Σ w I (x − x_win)`` with a Gaussian window w that moves along (XWIN_IMAGE of SExtractor;
Bertin, SExtractor's documentation, "Windowed positional parameters"), close to the best that is possible for a star
when the window is as wide as the star.

*Size excess*: ``c = ln(Σ w2 I / Σ w1 I)`` compares the light seen through a window as wide as a star and through one
twice as wide. For given pixels it is nearly the statistic that tells a star from a slightly broadened one best: at
least 0.95 of the S/N of the difference of the two profiles, for Gaussian and Moffat stars of FWHM 2 to 5 and
exponential galaxies. It is compared with the stars of the same image, in units of its error; SExtractor's SPREAD_MODEL
(Desai et al. 2012, ApJ 757, 83) does the same with a model of the PSF.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.aperture import positions
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.peaks import FWHM_OF_SIGMA, PIXEL_VARIANCE, Planes, noise_factor
from larun.algorithms.shapes import place, place_errors
from larun.algorithms.stamps import gaussian_line, load, read_stamp, square, stamp

__all__ = ["Locus", "Windowed", "size_excess", "star_locus", "windowed"]

#: Of the wide window over the narrow one.
_WIDER = 2.0
#: Standard deviation of the narrowest window of a centroid: a narrower one is not sampled by the pixels.
_NARROWEST = 1.14
#: Share of a window's squared weight that may lie on unusable pixels.
_MOST_MISSING = 0.1
_SOURCES_PER_BAND = 128
#: The concentration of a source that defines the locus of stars is known this well (S/N 30), and there must be so many.
_WELL_KNOWN, _FEWEST = 0.03, 5
#: With so many, the locus may change over the field.
_MANY = 40
#: Scatter of the stars' own that is assumed at least, and at least when the locus is fitted.
_LEAST_SCATTER, _FITTED_SCATTER = 0.001, 0.01


class Windowed(NamedTuple):
    """What :func:`windowed` measures, one element a source (float64); NaN where it cannot.

    Attributes
    ----------
    x, y : (n,)
        Windowed centroid, pixels.
    x_error, y_error : (n,)
        Its standard error: noise of the sky and photon noise of the source.
    concentration, concentration_error : (n,)
        ln of the light in the wide window over that in the narrow one, and its standard error.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]
    concentration: NDArray[np.float64]
    concentration_error: NDArray[np.float64]


class Locus(NamedTuple):
    """The concentration of stars, a plane over the image, with their own scatter and their number (0: unknown).

    ``value + slope_x (x − x0) / scale + slope_y (y − y0) / scale``.
    """

    value: float
    slope_x: float
    slope_y: float
    x0: float
    y0: float
    scale: float
    scatter: float
    stars: int

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """The concentration of a star at these places."""
        dx, dy = (x - self.x0) / self.scale, (y - self.y0) / self.scale
        return np.asarray(self.value + self.slope_x * dx + self.slope_y * dy)


def windowed(
    planes: Planes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    size: ArrayLike,
    fwhm: float,
    mask: int,
    gain: float = 1.0,
    acf: NDArray[np.float64] | None = None,
) -> Windowed:
    """Windowed centroids and concentrations of sources near given positions.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance (float32) and flags (uint32).
    x, y : (n,)
        Where to start; the centroid stays within half a FWHM of the source, at least 1.5 pixels, and in the image.
    size : (n,)
        FWHM of each source in pixels, before the pixel blurs it: the width of its window for the centroid.
    fwhm : float
        FWHM of a star: the width of the narrow window for the concentration.
    mask : int
        Bits that make a pixel unusable. It is filled with the window's own model; where more than a tenth of the
        window's squared weight is unusable, or outside the image, there is no concentration.
    gain : float
        Electrons per unit of the data, for photon noise.
    acf : array, optional
        Autocorrelation of the noise, 1 at its centre.

    Returns
    -------
    Windowed

    Examples
    --------
    >>> y, x = np.mgrid[:40, :40]
    >>> star = 500 * np.exp(-((x - 20.3) ** 2 + (y - 18.8) ** 2) / 4).astype(np.float32)
    >>> flat = np.zeros_like(star)
    >>> planes = (star, flat, flat + 1, flat.astype(np.uint32))
    >>> found = windowed(planes, [20.0], [19.0], size=[3.3], fwhm=3.3, mask=0)
    >>> found.x.round(3), found.y.round(3)
    (array([20.3]), array([18.8]))
    """
    xs, ys = positions(x, y)
    widths = np.sqrt((np.broadcast_to(np.asarray(size, np.float64), xs.shape) / FWHM_OF_SIGMA) ** 2 + PIXEL_VARIANCE)
    star = math.sqrt(max((fwhm / FWHM_OF_SIGMA) ** 2 + PIXEL_VARIANCE, 1.0))
    out = np.full((len(xs), 6), np.nan)
    rules = (np.uint32(mask), float(star), float(gain), _WIDER, _MOST_MISSING, _NARROWEST)

    def work(start: int, stop: int) -> None:
        _measure_sources(planes, (xs, ys, widths), rules, out, start, stop)

    over_rows(len(xs), work, band=_SOURCES_PER_BAND)
    if acf is not None:
        _correlate(out, widths, star, np.asarray(acf, np.float64))
    return Windowed(*np.ascontiguousarray(out.T))


def _correlate(out: NDArray[np.float64], widths: NDArray[np.float64], star: float, acf: NDArray[np.float64]) -> None:
    """Raise the errors by what correlated noise adds to sums with these weights."""
    offsets = np.arange(-math.ceil(4 * _WIDER * star), math.ceil(4 * _WIDER * star) + 1, dtype=np.float64)
    steps = np.round(widths, 1)
    for width in np.unique(steps[np.isfinite(steps)]):
        window = np.exp(-0.5 * (offsets / max(width, 0.5)) ** 2)
        rows = steps == width
        out[rows, 2] *= noise_factor(offsets * window, window, acf)
        out[rows, 3] *= noise_factor(window, offsets * window, acf)
    # of a difference of two windows: between those of either, and of the wider one at most
    window = np.exp(-0.5 * (offsets / star) ** 2)
    out[:, 5] *= noise_factor(window, window, acf)


def star_locus(found: Windowed, usable: NDArray[np.bool_]) -> Locus:
    """Where the stars of an image lie in concentration: the sharpest thing that many sources agree on.

    The mode of the bright sources is found, and those that agree with it within 3 standard deviations define the level,
    from 40 on also its slope over the image. The stars' own scatter, besides the noise, is taken from the sharper
    side, which galaxies do not reach.

    Parameters
    ----------
    found : Windowed
        Of all sources.
    usable : (n,) bool
        Which may be asked: not flagged, say.

    Returns
    -------
    Locus
        With ``stars`` 0 and NaN where fewer than five bright sources (S/N 30 or so) agree.
    """
    nothing = Locus(math.nan, 0.0, 0.0, 0.0, 0.0, 1.0, math.nan, 0)
    value, error = found.concentration, found.concentration_error
    with np.errstate(invalid="ignore"):
        chosen = np.flatnonzero(usable & np.isfinite(value) & (error > 0) & (error < _WELL_KNOWN))
    if chosen.size < _FEWEST:
        return nothing
    c, e, x, y = value[chosen], error[chosen], found.x[chosen], found.y[chosen]
    x0, y0 = float(np.mean(x)), float(np.mean(y))
    scale = max(float(np.ptp(x)), float(np.ptp(y)), 1.0)
    plane = (_mode(c, e), 0.0, 0.0)
    dx, dy = (x - x0) / scale, (y - y0) / scale
    scatter = 0.02
    members = np.ones(c.size, np.bool_)
    for _ in range(20):
        off = c - (plane[0] + plane[1] * dx + plane[2] * dy)
        # a scatter that is found small must neither shut bright stars out nor leave the plane to two or three of them
        generous = np.hypot(e, max(scatter, _FITTED_SCATTER))
        before, members = members, np.abs(off) < 3 * generous
        if members.sum() < _FEWEST:
            return nothing
        weight = np.where(members, 1 / generous**2, 0.0)
        plane = _fitted(c, dx, dy, weight, many=bool(members.sum() >= _MANY))
        off = c - (plane[0] + plane[1] * dx + plane[2] * dy)
        scatter = _own_scatter(off, e, members)
        if np.array_equal(before, members):
            break
    return Locus(plane[0], plane[1], plane[2], x0, y0, scale, scatter, int(members.sum()))


def size_excess(found: Windowed, locus: Locus) -> NDArray[np.float64]:
    """How much more extended than a star each source is, in units of its error; negative for what is sharper.

    The error is the noise of the concentration and the stars' own scatter, added in quadrature.
    """
    spread = np.hypot(found.concentration_error, locus.scatter)
    return np.asarray((found.concentration - locus.at(found.x, found.y)) / spread)


def _mode(c: NDArray[np.float64], e: NDArray[np.float64]) -> float:
    """The peak of the density, each value a Gaussian of its error and 0.02; of equal peaks the sharpest source."""
    width = np.hypot(e, 0.02)
    grid = np.sort(c)[:: max(1, c.size // 400)]
    height = [float(np.sum(np.exp(-0.5 * ((place - c) / width) ** 2) / width)) for place in grid]
    return float(grid[int(np.argmax(height))])


def _fitted(
    c: NDArray[np.float64],
    dx: NDArray[np.float64],
    dy: NDArray[np.float64],
    weight: NDArray[np.float64],
    *,
    many: bool,
) -> tuple[float, float, float]:
    """Weighted mean, or the plane that fits best; sums in fixed order, so that threads change no bit."""
    if not many:
        return float(np.sum(weight * c) / np.sum(weight)), 0.0, 0.0
    terms = (np.ones_like(c), dx, dy)
    matrix = np.array([[float(np.sum(weight * a * b)) for b in terms] for a in terms])
    right = np.array([float(np.sum(weight * a * c)) for a in terms])
    if np.linalg.cond(matrix) > 1e8:  # all in a line
        return float(np.sum(weight * c) / np.sum(weight)), 0.0, 0.0
    level, across, up = np.linalg.solve(matrix, right)
    return float(level), float(across), float(up)


def _own_scatter(off: NDArray[np.float64], e: NDArray[np.float64], members: NDArray[np.bool_]) -> float:
    """The most likely scatter besides the noise, from the sharper half of the members."""
    sharp = members & (off < 0)
    tried = np.geomspace(_LEAST_SCATTER, 0.2, 60)
    unlikely = []
    for scatter in tried:
        variance = e[sharp] ** 2 + scatter**2
        unlikely.append(float(np.sum(np.log(variance) + off[sharp] ** 2 / variance)))
    return float(tried[int(np.argmin(unlikely))])


@kernel
def _measure_sources(planes: Any, sources: Any, rules: Any, out: Any, start: int, stop: int) -> None:
    data, level, noise, flags = planes
    xs, ys, widths = sources
    bits, star, gain, wider, most_missing, narrowest = rules
    ny, nx = data.shape
    for n in range(start, stop):
        # compared as floats first: NaN has no integer
        if not (xs[n] >= -0.5 and xs[n] <= nx - 0.5 and ys[n] >= -0.5 and ys[n] <= ny - 0.5 and np.isfinite(widths[n])):
            continue
        sigma = max(widths[n], star, narrowest)
        limit = max(1.5, 0.5 * 2.3548 * sigma)
        px, py = int(np.floor(xs[n] + 0.5)), int(np.floor(ys[n] + 0.5))
        px, py = min(max(px, 0), nx - 1), min(max(py, 0), ny - 1)
        reach = int(np.ceil(max(4.0 * sigma + limit, 4.0 * wider * star + limit))) + 1
        made = stamp((data, level, noise, flags, bits), reach)
        read_stamp(made, py, px, int(np.ceil(3.5 * sigma + limit)))
        room = (-0.5 - px, nx - 0.5 - px, -0.5 - py, ny - 0.5 - py)
        cx, cy, certain = place(made, sigma, limit, room)
        if not certain:
            continue
        out[n, 0], out[n, 1] = px + cx, py + cy
        out[n, 2], out[n, 3] = place_errors(made, cx, cy, sigma, gain)
        load(made, reach)
        out[n, 4], out[n, 5] = _concentration(made, (cx, cy), (star, wider * star), gain, most_missing)


@kernel
def _concentration(made: Any, centre: Any, sigmas: Any, gain: float, most_missing: float) -> tuple[float, float]:
    """Ln of the sums through both windows, and its error; their noise is common in part."""
    bad, state, (signal, variance) = made[2], made[3], square(made)
    (cx, cy), (narrow, wide) = centre, sigmas
    reach = signal.shape[0] // 2
    side = 2 * reach + 1
    x1, y1, x2, y2 = np.empty(side), np.empty(side), np.empty(side), np.empty(side)
    gaussian_line(x1, 0, side, reach + cx, 1 / narrow**2)
    gaussian_line(y1, 0, side, reach + cy, 1 / narrow**2)
    gaussian_line(x2, 0, side, reach + cx, 1 / wide**2)
    gaussian_line(y2, 0, side, reach + cy, 1 / wide**2)
    first, second, v11, v12, v22, p11, p12, p22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(side):
        for i in range(side):
            w1, w2, value, spread = x1[i] * y1[j], x2[i] * y2[j], signal[j, i], variance[j, i]
            first += w1 * value
            second += w2 * value
            v11 += w1 * w1 * spread
            v12 += w1 * w2 * spread
            v22 += w2 * w2 * spread
            # photon noise: rectified as a sum, not pixel by pixel, or noise would count as light
            p11 += w1 * w1 * value / gain
            p12 += w1 * w2 * value / gain
            p22 += w2 * w2 * value / gain
    if state[3] > 0:
        missing, left, model = 0.0, np.sum(x1**2) * np.sum(y1**2), 0.0
        for n in range(state[3]):
            j, i = divmod(bad[n], side)
            missing += (x2[i] * y2[j]) ** 2
            left -= (x1[i] * y1[j]) ** 2
            model += x1[i] * y1[j] * x2[i] * y2[j]
        if missing > most_missing * np.sum(x2**2) * np.sum(y2**2):
            return np.nan, np.nan
        # what is missing counts with the narrow window as the model, of the amplitude that fits the rest
        amplitude = max(first / left, 0.0)
        first += amplitude * (np.sum(x1**2) * np.sum(y1**2) - left)
        second += amplitude * model
    if not (first > 0.0 and second > 0.0):
        return np.nan, np.nan
    v11, v12, v22 = v11 + max(p11, 0.0), v12 + max(p12, 0.0), v22 + max(p22, 0.0)
    relative = v11 / first**2 - 2 * v12 / (first * second) + v22 / second**2
    return math.log(second / first), math.sqrt(max(relative, 0.0))
