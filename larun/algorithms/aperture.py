"""Aperture photometry: exact circular sums, their noise, and fluxes above the sky.

A circular aperture gives each pixel the weight w = the area the circle and the pixel share. A sum is then Σ w d, its
variance Σ w² v (weights *squared*: a pixel's noise does not know that only half of it was asked for), or
Σ w_i w_j cov_ij where resampling has correlated the pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import walk
from larun.algorithms.jit import kernel, over_rows
from larun.errors import OptionError
from larun.flags import BAD, COSMIC, EDGE, FLAT_INVALID, INTERPOLATED, NO_DATA

if TYPE_CHECKING:
    from larun.algorithms.annulus import AnnulusSky

__all__ = ["ApertureSums", "Photometry", "above_sky", "aperture_sums", "photometry"]

#: A pixel with one of these and without INTERPOLATED has no value to add.
_LEFT_OUT = np.uint32(BAD | COSMIC | FLAT_INVALID | NO_DATA)

_STARS_PER_BAND = 256


class ApertureSums(NamedTuple):
    """Sums over circular apertures; every field has shape (stars, radii).

    Attributes
    ----------
    sum : ndarray of float64
        Σ w d over the usable pixels; NaN where there is none.
    variance : ndarray of float64 or None
        Variance of ``sum``, in the square of its unit; None where no variance was given.
    area : ndarray of float64
        Σ w over the usable pixels, in pixels.
    fraction : ndarray of float64
        ``area`` over π r²: 1 for a full aperture, less over the edge and over pixels without a value.
    flags : ndarray of uint32
        OR over all pixels with w > 0; EDGE where the circle leaves the image, NO_DATA where a pixel is not finite or
        nothing usable is left.
    """

    sum: NDArray[np.float64]
    variance: NDArray[np.float64] | None
    area: NDArray[np.float64]
    fraction: NDArray[np.float64]
    flags: NDArray[np.uint32]


class Photometry(NamedTuple):
    """Fluxes above the sky; every field has shape (stars, radii).

    Attributes
    ----------
    flux : ndarray of float64
        Σ w d − level Σ w, in the unit of the image; NaN where sum or level is.
    flux_error : ndarray of float64 or None
        One σ: the noise of the pixels and of the sky level.
    magnitude : ndarray of float64
        Instrumental: −2.5 log10(flux); NaN where the flux is not positive.
    magnitude_error : ndarray of float64 or None
        2.5 / ln 10 σ / flux; NaN where the flux is not positive.
    snr : ndarray of float64 or None
        flux over σ.
    area, fraction, flags : ndarray
        As in :class:`ApertureSums`; a flux that is NaN has NO_DATA.
    """

    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64] | None
    magnitude: NDArray[np.float64]
    magnitude_error: NDArray[np.float64] | None
    snr: NDArray[np.float64] | None
    area: NDArray[np.float64]
    fraction: NDArray[np.float64]
    flags: NDArray[np.uint32]


def aperture_sums(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    x: ArrayLike,
    y: ArrayLike,
    radii: ArrayLike,
    *,
    acf: NDArray[Any] | None = None,
) -> ApertureSums:
    """Sum the pixels in circles around each position, by the exact area circle and pixel share.

    Pixels flagged BAD, COSMIC, FLAT_INVALID or NO_DATA, and pixels whose value or variance is not finite, are left
    out and lower ``area`` and ``fraction``; one that was INTERPOLATED holds an estimate and counts. A SATURATED pixel
    counts, because a sum without the peak of a star means less than one that is too low: its flag says so.

    ``variance`` is taken as it is. Made as max(signal, 0) + read noise² from the pixel itself it is high by up to some
    per cent where the sky is fainter than the read noise, and so is the variance of the sum.

    Parameters
    ----------
    data : ndarray of float32, shape (ny, nx)
        The image; (0, 0) is the centre of the first pixel.
    variance : ndarray of float32, shape (ny, nx), or None
        Variance of each pixel.
    flags : ndarray of uint32, shape (ny, nx)
        Pixel flags.
    x, y : array_like, shape (n,)
        Centres in pixels.
    radii : array_like, shape (r,)
        Radii in pixels, in any order.
    acf : ndarray, shape (2k + 1, 2k + 1), (n, 2k + 1, 2k + 1) or (n, r, 2k + 1, 2k + 1), optional
        Autocorrelation of the noise, 1 at its centre, for all stars, one for each, or one for each and every radius;
        None for white noise. The covariance of two pixels is ``acf[dy, dx] sqrt(v_i v_j)``.

    Returns
    -------
    ApertureSums
        A circle wholly outside the image, or around a position that is not finite, sums to NaN with area 0 and
        EDGE | NO_DATA.

    Raises
    ------
    OptionError
        If shapes disagree, a radius is not positive and finite, or ``acf`` is no autocorrelation.

    Examples
    --------
    >>> flat = np.ones((9, 9), np.float32)
    >>> sums = aperture_sums(flat, flat, np.zeros((9, 9), np.uint32), [4.2, 0], [4, 4], [3])
    >>> sums.sum.round(3).tolist(), sums.fraction.round(3).tolist()
    ([[28.274], [17.123]], [[1.0], [0.606]])
    """
    image = plane(data, np.float32, "data")
    noise = None if variance is None else plane(variance, np.float32, "variance", image.shape)
    bits = plane(flags, np.uint32, "flags", image.shape)
    xs, ys = positions(x, y)
    circles = _radii(radii)
    correlation = autocorrelation(acf, len(xs), len(circles))
    if noise is None:  # nothing to correlate
        correlation = np.ones((1, 1, 1, 1))
    shape = (len(xs), len(circles))
    total, noise2, area = np.empty(shape), np.empty(shape), np.empty(shape)
    seen = np.empty(shape, np.uint32)
    planes = (image, image if noise is None else noise, bits)
    order = walk(xs, ys)
    xs, ys = xs[order], ys[order]
    correlation = correlation if len(correlation) == 1 else correlation[order]

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        own = correlation if len(correlation) == 1 else correlation[part]
        _sum_stars(planes, own, xs[part], ys[part], circles, (total[part], noise2[part], area[part], seen[part]))

    over_rows(len(xs), work, band=_STARS_PER_BAND)
    back = np.argsort(order)
    total, noise2, area, seen = total[back], noise2[back], area[back], seen[back]
    # rounding of a few 1e-16 must not make a full aperture look partial
    fraction = area / (np.pi * circles**2)
    fraction[np.abs(fraction - 1) < 1e-12] = 1.0
    return ApertureSums(total, None if noise is None else noise2, area, fraction, seen)


def photometry(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    x: ArrayLike,
    y: ArrayLike,
    radii: ArrayLike,
    *,
    sky: AnnulusSky | NDArray[np.float32] | None = None,
    acf: NDArray[Any] | None = None,
) -> Photometry:
    """Fluxes of stars in circular apertures above a local sky, a background map, or an image without sky.

    With a local sky the flux is Σ w d − level Σ w and its variance Σ w² v + (Σ w)² σ_level² (Howell 2006, section
    5.4, with the error of the measured sky in place of n_pix / n_sky): the level is one number for the whole aperture,
    so its error grows with the area and not with its root. A map is subtracted pixel by pixel and taken to be exact.

    The flux is not scaled up where ``fraction`` is below 1: what is missing depends on where the star lies in it.

    Parameters
    ----------
    data, variance, flags, x, y, radii, acf
        As for :func:`aperture_sums`.
    sky : AnnulusSky or ndarray of float32, shape (ny, nx), optional
        The local sky from :func:`larun.algorithms.annulus.annulus_sky` (its ``filled`` takes another level where the
        annulus held too few pixels), or a map to subtract; None where the sky is already gone.

    Returns
    -------
    Photometry

    Raises
    ------
    OptionError
        As :func:`aperture_sums`, or if the sky does not fit the image or the positions.
    """
    if isinstance(sky, np.ndarray):
        image = plane(data, np.float32, "data")
        with np.errstate(invalid="ignore"):  # inf − inf is left out like any pixel that is not finite
            image = image - plane(sky, np.float32, "sky", image.shape)
        return above_sky(aperture_sums(image, variance, flags, x, y, radii, acf=acf), None)
    return above_sky(aperture_sums(data, variance, flags, x, y, radii, acf=acf), sky)


def above_sky(sums: ApertureSums, sky: AnnulusSky | None) -> Photometry:
    """Fluxes and magnitudes of sums, above a local sky or one that is subtracted already.

    Raises
    ------
    OptionError
        If the sky has another number of positions.
    """
    level, level_error = (np.zeros(1), np.zeros(1)) if sky is None else (sky.level, sky.error)
    if sky is not None and len(level) != len(sums.sum):
        raise OptionError(f"sky has {len(level)} levels for {len(sums.sum)} positions: measure it at the same ones")
    flux = sums.sum - level[:, None] * sums.area
    bits = np.where(np.isfinite(flux), sums.flags, sums.flags | NO_DATA)
    positive = np.where(flux > 0, flux, np.nan)
    magnitude = -2.5 * np.log10(positive)
    if sums.variance is None:
        return Photometry(flux, None, magnitude, None, None, sums.area, sums.fraction, bits)
    total = sums.variance + (sums.area * level_error[:, None]) ** 2
    error = np.sqrt(np.where(total > 0, total, np.nan))
    return Photometry(
        flux=flux,
        flux_error=error,
        magnitude=magnitude,
        magnitude_error=2.5 / np.log(10) * error / positive,
        snr=flux / error,
        area=sums.area,
        fraction=sums.fraction,
        flags=bits,
    )


def plane(array: ArrayLike, dtype: Any, name: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """A contiguous read-only view of an image plane: always the same numba type, so kernels compile once."""
    view = np.require(array, dtype, ["C", "A"]).view()
    if view.ndim != 2 or (shape is not None and view.shape != shape):
        raise OptionError(f"{name} has shape {view.shape}: must be {'(ny, nx)' if shape is None else shape}")
    view.flags.writeable = False
    return view


def positions(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both coordinates as fresh float64 arrays of one dimension and one length."""
    xs, ys = np.array(x, np.float64), np.array(y, np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise OptionError(f"x and y have shapes {xs.shape} and {ys.shape}: must be (n,) both")
    return xs, ys


def _radii(radii: ArrayLike) -> NDArray[np.float64]:
    circles = np.array(radii, np.float64)
    if circles.ndim != 1 or not circles.size or not np.all((circles > 0) & (circles < np.inf)):
        raise OptionError(f"radii = {radii!r}: must be a list of positive numbers, in pixels")
    return circles


def autocorrelation(acf: NDArray[Any] | None, stars: int, radii: int = 1) -> NDArray[np.float64]:
    """The autocorrelation as (1 or n, 1 or r, 2k + 1, 2k + 1)."""
    if acf is None:
        return np.ones((1, 1, 1, 1))
    kernels = np.array(acf, np.float64, order="C")
    kernels = kernels[None, None] if kernels.ndim == 2 else kernels
    kernels = kernels[:, None] if kernels.ndim == 3 else kernels
    rows = kernels.shape[-1]
    fits = kernels.ndim == 4 and len(kernels) in (1, stars) and kernels.shape[1] in (1, radii)
    if not fits or kernels.shape[2] != rows or rows % 2 == 0:
        raise OptionError(f"acf has shape {np.shape(acf)}: must be (2k + 1, 2k + 1), or one such kernel for each star")
    centre = kernels[..., rows // 2, rows // 2]
    if not np.isfinite(kernels).all() or np.any(np.abs(centre - 1) > 1e-6):
        raise OptionError("acf must be finite and 1 at its centre: divide the covariance by its central value")
    if np.any(np.abs(kernels - kernels[..., ::-1, ::-1]) > 1e-6):
        raise OptionError("acf must be the same for opposite lags: noise correlates a with b as b with a")
    return kernels


@kernel
def _edges(table: Any, count: int, first: float, r: float) -> None:
    """Distances from the centre of the edges ``first + n`` of a line of pixels, and what the circle is there.

    That is half its chord, and the area between the axis and the arc up to there, in one quadrant.
    """
    for n in range(count):
        distance = abs(first + n)
        chord = math.sqrt(max((r - distance) * (r + distance), 0.0))
        table[0, n], table[1, n] = distance, chord
        # an error of the chord does not enter the area: its two terms change by opposite amounts
        table[2, n] = (
            0.5 * (distance * chord + r * r * math.atan2(distance, chord)) if chord > 0 else 0.25 * np.pi * r * r
        )


@kernel
def _strip(rows: Any, near: int, far: int, r: float) -> tuple[float, float, float, float, float, float]:
    """The strip between two edges on one side of the centre; from the axis itself for ``near`` below 0.

    Returns its two heights, how far from the centre the circle fills and touches it, and the quadrant's area up to
    there.
    """
    quarter = 0.25 * np.pi * r * r
    high, filled = rows[0, far], rows[1, far]
    filled_area = high * filled + quarter - rows[2, far]
    if near < 0:
        return 0.0, high, filled, r, filled_area, quarter
    low, touched = rows[0, near], rows[1, near]
    return low, high, filled, touched, filled_area, low * touched + quarter - rows[2, near]


@kernel
def _held(distance: float, area: float, strip: tuple[float, float, float, float, float, float]) -> float:
    """Area of the circle within a strip, from the axis to a distance."""
    low, high, filled, touched, filled_area, touched_area = strip
    if distance <= filled:
        return (high - low) * distance
    if distance <= touched:
        return (high - low) * filled + (area - filled_area) - low * (distance - filled)
    return (high - low) * filled + (touched_area - filled_area) - low * (touched - filled)


@kernel
def _weigh(columns: Any, left: float, strips: Any, sides: int, line: Any) -> None:
    """The area each pixel of a row shares with the circle; ``left`` is the first edge, from the centre."""
    before = 0.0
    for n in range(line.size + 1):
        value = _held(columns[0, n], columns[2, n], strips[0])
        if sides == 2:
            value += _held(columns[0, n], columns[2, n], strips[1])
        value = value if left + n > 0 else -value
        if n > 0:
            line[n - 1] = value - before
        before = value


@kernel
def correlated(noise: Any, acf: Any) -> float:
    """Σ_ij n_i n_j acf(j − i) over a small plane of w sqrt(v): each pair of lags is met once and counted twice."""
    ny, nx = noise.shape
    k = acf.shape[0] // 2
    total = 0.0
    for y in range(ny):
        for x in range(nx):
            own = noise[y, x]
            if own == 0.0:
                continue
            total += own * own
            for dy in range(min(k + 1, ny - y)):
                first = 1 if dy == 0 else max(-k, -x)
                for dx in range(first, min(k + 1, nx - x)):
                    total += 2.0 * own * noise[y + dy, x + dx] * acf[k + dy, k + dx]
    return total


@kernel
def _sum_stars(planes: Any, acf: Any, x: Any, y: Any, radii: Any, out: Any) -> None:
    """All apertures of some stars; the pixels around each are read once."""
    total, noise2, area, seen = out
    ny, nx = planes[0].shape
    largest = np.max(radii)
    side = 2 * int(np.ceil(largest)) + 3
    white = acf.shape[2] == 1
    noise = np.zeros((1, 1) if white else (side, side))
    box = np.empty((side, side)), np.empty((side, side)), np.empty((side, side)), np.empty((side, side), np.uint32)
    tables = np.empty((3, side + 1)), np.empty((3, side + 1)), np.empty(side)
    for i in range(len(x)):
        # compared as floats first: NaN and 1e300 have no integer
        near = x[i] + largest > -0.5 and x[i] - largest < nx - 0.5
        near = near and y[i] + largest > -0.5 and y[i] - largest < ny - 0.5
        left, low = 0, 0
        if near:
            left, low = int(np.floor(x[i] - largest + 0.5)), int(np.floor(y[i] - largest + 0.5))
            _read_box(planes, left, low, box)
        for k in range(len(radii)):
            r = radii[k]
            sums = (0.0, 0.0, 0.0, np.uint32(0))
            if near:
                noise[:] = 0.0
                limits = (max(0, -low), min(side, ny - low), max(0, -left), min(side, nx - left))
                sums = _sum_circle(box, tables, (x[i] - left, y[i] - low), r, limits, noise)
            total[i, k], noise2[i, k], area[i, k], seen[i, k] = sums
            if near and not white:
                noise2[i, k] = correlated(noise, acf[i if len(acf) > 1 else 0, k if acf.shape[1] > 1 else 0])
            if not (x[i] - r >= -0.5 and x[i] + r <= nx - 0.5 and y[i] - r >= -0.5 and y[i] + r <= ny - 0.5):
                seen[i, k] |= EDGE
            if area[i, k] == 0.0:
                seen[i, k] |= NO_DATA
                total[i, k], noise2[i, k] = np.nan, np.nan


@kernel
def _read_box(planes: Any, left: int, low: int, box: Any) -> None:
    """Values and variances around a star, 0 where they are left out; whether they count; flags."""
    data, variance, flags = planes
    values, variances, counts, bits = box
    ny, nx = data.shape
    side = len(values)
    for row in range(max(low, 0), min(low + side, ny)):
        for column in range(max(left, 0), min(left + side, nx)):
            value, own, found = data[row, column], variance[row, column], flags[row, column]
            finite = np.isfinite(value) and np.isfinite(own)
            usable = finite and ((found & _LEFT_OUT) == 0 or (found & INTERPOLATED) != 0)
            j, i = row - low, column - left
            bits[j, i] = found if finite else found | NO_DATA
            if usable:
                values[j, i], variances[j, i], counts[j, i] = value, own, 1.0
            else:
                values[j, i], variances[j, i], counts[j, i] = 0.0, 0.0, 0.0


@kernel
def _sum_circle(
    box: Any, tables: Any, centre: Any, r: float, limits: Any, noise: Any
) -> tuple[float, float, float, np.uint32]:
    """Sum, variance, area and flags of one aperture; w sqrt(v) into ``noise``, if it is a plane."""
    values, variances, counts, bits = box
    columns, rows, line = tables
    cx, cy = centre
    first_row, last_row, first_column, last_column = limits
    # whole pixels that the circle may touch, and their edges from the centre
    bottom, left = int(np.floor(cy - r + 0.5)), int(np.floor(cx - r + 0.5))
    height, width = int(np.floor(cy + r + 0.5)) - bottom + 1, int(np.floor(cx + r + 0.5)) - left + 1
    _edges(columns, width + 1, left - 0.5 - cx, r)
    _edges(rows, height + 1, bottom - 0.5 - cy, r)
    white = noise.size == 1
    total, noise2, area, seen = 0.0, 0.0, 0.0, np.uint32(0)
    for j in range(max(bottom, first_row), min(bottom + height, last_row)):
        n = j - bottom
        if j - 0.5 >= cy:
            strips, sides = (_strip(rows, n, n + 1, r), _strip(rows, n, n + 1, r)), 1
        elif j + 0.5 <= cy:
            strips, sides = (_strip(rows, n + 1, n, r), _strip(rows, n + 1, n, r)), 1
        else:
            strips, sides = (_strip(rows, -1, n + 1, r), _strip(rows, -1, n, r)), 2
        _weigh(columns, left - 0.5 - cx, strips, sides, line[:width])
        nearest, farthest = max(abs(j - cy) - 0.5, 0.0) ** 2, (abs(j - cy) + 0.5) ** 2
        for i in range(max(left, first_column), min(left + width, last_column)):
            distance = abs(i - cx)
            if nearest + max(distance - 0.5, 0.0) ** 2 >= r * r:
                continue
            weight = 1.0 if farthest + (distance + 0.5) ** 2 <= r * r else max(line[i - left], 0.0)
            seen |= bits[j, i]
            area += weight * counts[j, i]
            total += weight * values[j, i]
            noise2 += weight * weight * variances[j, i]
            if not white:
                noise[j, i] = weight * math.sqrt(max(variances[j, i], 0.0))
    return total, noise2, area, seen
