"""Fits of a known point-spread function to stars that stand alone: position, flux and sky, with their covariance.

Each star is a weighted least-squares problem of up to four unknowns, solved by Fisher's scoring: Gauss-Newton steps
whose weights are those of the model, sky variance plus the photon noise of the fitted star. A weight never comes from
the pixel's own value, which would favour pixels that noise made faint: fluxes would be some per cent too low. At the
solution the equations are those of maximum likelihood to first order, and the inverse of their matrix is the
Cramér-Rao bound.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import read_only, walk
from larun.algorithms.cholesky import inverse_of_factor
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_field_kernels import row_of_values
from larun.algorithms.psf_flags import flags_within
from larun.algorithms.psf_kernels import combine_nodes, first_node, pixel, terms_at
from larun.errors import OptionError
from larun.flags import EDGE, NO_DATA, UNUSABLE

__all__ = ["FitOptions", "PsfFits", "checked_planes_and_positions", "fit_reach", "fit_stars", "read_square"]

_ITERATIONS = 30
#: A step smaller than this, in standard errors, is the last one.
_SETTLED = 0.01
#: Longest step, in FWHM.
_STRIDE = 0.4
#: Share of the light of the model that must fall on usable pixels.
_LEAST = 0.05
_TINY = 1e-10  # of a pivot, against the diagonal
_BAND = 128


@attrs.frozen(kw_only=True)
class FitOptions:
    """How stars are fitted.

    Parameters
    ----------
    reach : int, optional
        The fit uses the pixels within so many rows and columns of the star's; by default two FWHM, at least 4 (a
        square of 9 x 9), which holds all but 2 % of what there is to know of a star.
    free_position : bool
        Fit the position; else it stays, which is forced photometry.
    free_sky : bool
        Fit a constant beside the star, on top of the given level.
    gain : float
        Electrons per unit of the data, for the photon noise of the star.
    limit : float, optional
        How far a position may go from where it starts, pixels; by default half the FWHM, at least 1.5.
    mask : int
        Bits of flags that make a pixel unusable; by default with SATURATED: the wings of a saturated star are fitted.
    """

    reach: int | None = None
    free_position: bool = True
    free_sky: bool = False
    gain: float = 1.0
    limit: float | None = None
    mask: int = int(UNUSABLE)


class PsfFits(NamedTuple):
    """What :func:`fit_stars` returns, one element a star (float64 where nothing else is said).

    Attributes
    ----------
    x, y : (n,)
        Position, pixels.
    flux : (n,)
        Flux in the unit of the image, in what the PSF is normalised to; NaN where too few pixels are usable.
    sky : (n,)
        The fitted constant; 0 where it is not free.
    covariance : (n, 4, 4)
        Of x, y, flux and sky, in this order; rows and columns of what is not free are 0.
    chi2 : (n,)
        Sum of squared residuals over their variance, by the degrees of freedom: 1 where the model is right.
    share : (n,)
        Share of the light of the PSF in the stamp that fell on usable pixels.
    flags : (n,) uint32
        OR within one FWHM; EDGE where that circle leaves the image, NO_DATA where there is no flux.
    iterations : (n,) int64
        Steps that were made.
    converged : (n,) bool
        Whether the last step was below a hundredth of a standard error. Where not, the position is the one that was
        given, and the flux is the one there.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    sky: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi2: NDArray[np.float64]
    share: NDArray[np.float64]
    flags: NDArray[np.uint32]
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]

    @property
    def flux_error(self) -> NDArray[np.float64]:
        """Standard error of the flux."""
        return np.sqrt(self.covariance[:, 2, 2])

    @property
    def x_error(self) -> NDArray[np.float64]:
        """Standard error of x, pixels; 0 where it is not free."""
        return np.sqrt(self.covariance[:, 0, 0])

    @property
    def y_error(self) -> NDArray[np.float64]:
        """Standard error of y, pixels; 0 where it is not free."""
        return np.sqrt(self.covariance[:, 1, 1])


def fit_reach(fwhm: float) -> int:
    """The reach of a fit that is used where none is asked for, pixels.

    Examples
    --------
    >>> fit_reach(1.8), fit_reach(4.0)
    (4, 8)
    """
    return max(4, math.ceil(2 * fwhm))


def fit_stars(
    planes: Planes,
    psf: PSF,
    x: ArrayLike,
    y: ArrayLike,
    *,
    flux: ArrayLike | None = None,
    options: FitOptions | None = None,
) -> PsfFits:
    """Fit a PSF to each star by itself.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance of the sky (float32) and flags (uint32). The variance holds read
        noise and the photon noise of the sky, not that of stars.
    psf : PSF
        The function; its value at a star is taken where the fit starts.
    x, y : array_like, shape (n,)
        Where to start, pixels. Half a pixel off is near enough.
    flux : array_like, shape (n,), optional
        Fluxes to start from; by default 0, from which the first step finds them.
    options : FitOptions, optional
        How.

    Returns
    -------
    PsfFits
        Of a star outside the image, or at a position that is not finite, the flux is NaN.

    Raises
    ------
    OptionError
        If planes or positions differ in shape, an option is out of range, or the PSF is not known as far as the fit
        reaches.

    Notes
    -----
    The flux of a faint star is high by its value over S/N^2 on average: of all positions nearby the fit takes the one
    where noise adds most. A position that is not free has no such bias.

    Examples
    --------
    >>> from larun.algorithms.psf import gaussian_psf
    >>> psf = gaussian_psf(3.0)
    >>> star = psf.draw((31, 31), [15.2], [14.9], [5000.0]).astype(np.float32)
    >>> flat, none = np.full(star.shape, 100, np.float32), np.zeros(star.shape, np.uint32)
    >>> found = fit_stars((star + flat, flat, flat, none), psf, [15.0], [15.0])
    >>> found.flux.round(1).tolist(), found.x.round(3).tolist()
    ([5000.0], [15.2])
    """
    chosen = FitOptions() if options is None else options
    fixed, xs, ys = checked_planes_and_positions(planes, x, y)
    reach, limit = _extent(psf, chosen)
    count = xs.size
    out, covariance = np.full((count, 6), np.nan), np.full((count, 4, 4), np.nan)
    seen, steps = np.zeros(count, np.uint32), np.zeros((count, 2), np.int64)
    order = walk(xs, ys)
    light = np.zeros(count) if flux is None else np.broadcast_to(np.asarray(flux, np.float64), count)
    start_at = read_only(np.column_stack([xs, ys, light])[order], np.float64)
    free = (bool(chosen.free_position), bool(chosen.free_sky))
    rules = (reach, limit, _STRIDE * psf.fwhm, float(chosen.gain), np.uint32(chosen.mask), max(1.0, psf.fwhm))
    model = psf.model

    def work(start: int, stop: int) -> None:
        _fit_range(fixed, model, start_at, (rules, free), (out, covariance, seen, steps), start, stop)

    over_rows(count, work, band=_BAND)
    back = np.argsort(order)
    x_, y_, fitted, sky, chi2, share = np.ascontiguousarray(out[back].T)
    bits = seen[back]
    bits[np.isnan(fitted)] |= NO_DATA
    made, settled = steps[back].T
    return PsfFits(x_, y_, fitted, sky, covariance[back], chi2, share, bits, made.copy(), settled.astype(bool))


def checked_planes_and_positions(
    planes: Planes, x: ArrayLike, y: ArrayLike
) -> tuple[Planes, NDArray[np.float64], NDArray[np.float64]]:
    """Planes in the form kernels take, and positions as (n,) float64; OptionError where shapes differ."""
    shapes = {np.shape(plane) for plane in planes}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise OptionError(f"planes have shapes {', '.join(map(str, sorted(shapes)))}: must be one, (ny, nx)")
    xs, ys = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise OptionError(f"x and y have shapes {xs.shape} and {ys.shape}: must be (n,) both")
    data, level, noise = (read_only(plane, np.float32) for plane in planes[:3])
    return (data, level, noise, read_only(planes[3], np.uint32)), xs, ys


def _extent(psf: PSF, options: FitOptions) -> tuple[int, float]:
    """Reach and limit, checked against how far the PSF is known."""
    reach = min(fit_reach(psf.fwhm), psf.radius - 2) if options.reach is None else int(options.reach)
    if reach < 2:
        raise OptionError(f"reach = {reach}: must be at least 2 pixels")
    if reach > psf.radius - 1:
        raise OptionError(f"reach = {reach}: the PSF is known to {psf.radius} pixels, and so are fits of {reach + 1}")
    limit = max(1.5, psf.fwhm / 2) if options.limit is None else float(options.limit)
    if not 0 < limit < np.inf:
        raise OptionError(f"limit = {limit}: must be a positive number of pixels")
    if not 0 < options.gain < np.inf:
        raise OptionError(f"gain = {options.gain}: must be positive")
    return reach, min(limit, psf.radius - reach + 0.4)


@kernel
def _fit_range(planes: Any, model: Any, stars: Any, how: Any, results: Any, start: int, stop: int) -> None:
    (nodes, phases, domain), (out, covariance, seen, steps) = model, results
    rules, free = how
    reach, limit, gain = rules[0], rules[1], rules[3]
    ny, nx = planes[0].shape
    width, size = 2 * reach + 1, nodes.shape[1]
    terms, made = np.ones(nodes.shape[0]), np.zeros((size, size))
    reached = phases * (reach + int(np.ceil(limit)) + 2)
    combine_nodes(nodes, terms[:1], reached, made)
    signal, variance = np.empty((width, width)), np.empty((width, width))
    rows = np.empty((2, (width - 1) * phases + 4)), np.empty((5, 1, width))
    work = (np.empty(_SUMS), np.empty((4, 4)), *rows)
    inverse, at = np.empty((4, 4)), np.empty(4)
    for n in range(start, stop):
        x, y, light = stars[n, 0], stars[n, 1], max(stars[n, 2], 0.0)
        out[n, 0], out[n, 1] = x, y
        if not (-0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5):
            seen[n] = EDGE
            continue
        if nodes.shape[0] > 1:
            terms_at(x, y, domain, terms)
            combine_nodes(nodes, terms, reached, made)
        px, py = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        read_square(planes, py, px, reach, rules[4], signal, variance)
        stamp = (signal, variance, made, phases, 1.0 / gain)
        at[0], at[1], at[2], at[3] = light, x - px, y - py, 0.0
        settled, made_steps = _fit(stamp, at, free, rules, work, inverse)
        if not settled and free[0]:
            at[0], at[1], at[2], at[3] = 0.0, x - px, y - py, 0.0
            _, more = _fit(stamp, at, (False, free[1]), rules, work, inverse)
            made_steps += more
        sums = work[0]
        steps[n, 0], steps[n, 1] = made_steps, settled
        out[n, 0], out[n, 1] = px + at[1], py + at[2]
        seen[n] = flags_within(planes[3], px + at[1], py + at[2], rules[5])
        out[n, 5], pixels = _usable(stamp, at)
        if np.isnan(at[0]) or not out[n, 5] > _LEAST:
            continue
        out[n, 2], out[n, 3] = at[0], at[3]
        unknowns = 1 + (2 if free[0] and settled else 0) + (1 if free[1] else 0)
        out[n, 4] = sums[14] / (pixels - unknowns) if pixels > unknowns else np.nan
        for a in range(4):
            for b in range(4):
                covariance[n, a, b] = inverse[_PLACE[a], _PLACE[b]]


#: Unknowns of the kernel are flux, x, y, sky; results are x, y, flux, sky.
_PLACE = (1, 2, 0, 3)
#: Ten of the matrix, four of the right side, chi^2.
_SUMS = 15


@kernel
def read_square(planes: Any, py: int, px: int, reach: int, bits: Any, signal: Any, variance: Any) -> None:
    """Data above the level, and variance: infinite where a pixel is not usable."""
    data, level, noise, flags = planes
    (ny, nx), infinity = data.shape, np.float32(np.inf)
    for j in range(2 * reach + 1):
        y = py - reach + j
        for i in range(2 * reach + 1):
            signal[j, i], variance[j, i] = 0.0, np.inf
            x = px - reach + i
            if 0 <= y < ny and 0 <= x < nx:
                value, spread = data[y, x] - level[y, x], noise[y, x]
                good = (flags[y, x] & bits) == 0
                if good and abs(value) < infinity and np.float32(0) < spread < infinity:
                    signal[j, i] = np.float64(data[y, x]) - np.float64(level[y, x])
                    variance[j, i] = spread


@kernel
def _fit(stamp: Any, at: Any, free: Any, rules: Any, work: Any, inverse: Any) -> Any:
    """Improve ``at`` (flux, x, y, sky) until it settles; whether it did, and the steps. NaN where there is no fit."""
    start_x, start_y, limit, stride = at[1], at[2], rules[1], rules[2]
    sums, matrix, before = work[0], work[1], np.inf
    for step in range(_ITERATIONS):
        _sums(stamp, at, sums, (work[2], work[3]))
        if free[1]:
            _sky_sums(stamp, at, sums)
        _fill(sums, matrix)
        if not _invert(matrix, free, inverse):
            at[0] = np.nan
            return False, step
        flux_step = inverse[0, 0] * sums[10] + inverse[0, 1] * sums[11] + inverse[0, 2] * sums[12]
        x_step = inverse[1, 0] * sums[10] + inverse[1, 1] * sums[11] + inverse[1, 2] * sums[12]
        y_step = inverse[2, 0] * sums[10] + inverse[2, 1] * sums[11] + inverse[2, 2] * sums[12]
        sky_step = inverse[3, 0] * sums[10] + inverse[3, 1] * sums[11] + inverse[3, 2] * sums[12]
        flux_step += inverse[0, 3] * sums[13]
        x_step += inverse[1, 3] * sums[13]
        y_step += inverse[2, 3] * sums[13]
        sky_step += inverse[3, 3] * sums[13]
        # columns of x and y are derivatives of a star of flux 1: what comes out is a shift times the flux
        begun = step > 0 or at[0] > 0
        settled = begun and _small(flux_step, inverse[0, 0]) and _small(sky_step, inverse[3, 3])
        settled = settled and _small(x_step, inverse[1, 1]) and _small(y_step, inverse[2, 2])
        flux = at[0] if begun else flux_step
        at[0] += flux_step
        at[3] += sky_step
        if free[0]:
            if not (flux > 0 and at[0] > 0):
                return False, step + 1
            x_step, y_step = x_step / flux, y_step / flux
            length = math.hypot(x_step, y_step)
            # where steps do not get shorter the path turns to and fro, and half a step meets the middle
            share = 0.5 if step > 3 and length > 0.7 * before else 1.0
            share = min(share, stride / length) if length > 0 else share
            before = length
            at[1] += share * x_step
            at[2] += share * y_step
            if not math.hypot(at[1] - start_x, at[2] - start_y) <= limit:
                return False, step + 1
        if settled:
            if free[0]:
                for a in range(4):  # from shifts times flux to shifts
                    for b in range(4):
                        scale = (at[0] if 1 <= a <= 2 else 1.0) * (at[0] if 1 <= b <= 2 else 1.0)
                        inverse[a, b] /= scale
            return True, step + 1
    return not free[0], _ITERATIONS


@kernel
def _small(step: float, variance: float) -> bool:
    return step * step <= _SETTLED * _SETTLED * variance


@kernel
def _sums(stamp: Any, at: Any, sums: Any, rows: Any) -> None:
    """Sums of the normal equations of flux and position over the pixels, row by row."""
    (signal, variance, nodes, phases, photons), (columns, row) = stamp, rows
    width, size, reach = signal.shape[0], nodes.shape[0], signal.shape[0] // 2
    first_i, along = first_node(-reach - at[1], phases, size)
    first_j, aside = first_node(-reach - at[2], phases, size)
    flux, sky = at[0], at[3]
    pp = px = py = xx = xy = yy = rp = rx = ry = rr = 0.0
    for j in range(width):
        row_of_values(nodes, (first_j + j * phases, first_i, phases), along, aside, columns, row, 0)
        for i in range(width):
            star = flux * row[0, 0, i]
            row[3, 0, i] = 1.0 / (variance[j, i] + max(star, 0.0) * photons)
            row[4, 0, i] = signal[j, i] - star - sky
        for i in range(width):
            p, dx, dy, w, r = row[0, 0, i], row[1, 0, i], row[2, 0, i], row[3, 0, i], row[4, 0, i]
            wp, wx, wr = w * p, w * dx, w * r
            pp += wp * p
            px += wp * dx
            py += wp * dy
            xx += wx * dx
            xy += wx * dy
            yy += w * dy * dy
            rp += wr * p
            rx += wr * dx
            ry += wr * dy
            rr += wr * r
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = pp, px, py, xx, xy, yy
    sums[10], sums[11], sums[12], sums[14] = rp, rx, ry, rr
    sums[6] = sums[7] = sums[8] = sums[9] = sums[13] = 0.0


@kernel
def _sky_sums(stamp: Any, at: Any, sums: Any) -> None:
    """The sums that the constant adds."""
    signal, variance, nodes, phases, photons = stamp
    width, size, reach = signal.shape[0], nodes.shape[0], signal.shape[0] // 2
    first_i, along = first_node(-reach - at[1], phases, size)
    first_j, aside = first_node(-reach - at[2], phases, size)
    flux, sky = at[0], at[3]
    sp = sx = sy = ss = rs = 0.0
    for j in range(width):
        for i in range(width):
            p, dx, dy = pixel(nodes, first_j + j * phases, first_i + i * phases, along, aside)
            star = flux * p
            w = 1.0 / (variance[j, i] + max(star, 0.0) * photons)
            sp += w * p
            sx += w * dx
            sy += w * dy
            ss += w
            rs += w * (signal[j, i] - star - sky)
    sums[6], sums[7], sums[8], sums[9], sums[13] = sp, sx, sy, ss, rs


@kernel
def _usable(stamp: Any, at: Any) -> Any:
    """Share of the model's light that falls on usable pixels, and their number."""
    variance, nodes, phases = stamp[1], stamp[2], stamp[3]
    width, size, reach = variance.shape[0], nodes.shape[0], variance.shape[0] // 2
    pixels = 0
    for j in range(width):
        for i in range(width):
            pixels += variance[j, i] < np.inf
    if pixels == width * width:
        return 1.0, pixels
    first_i, along = first_node(-reach - at[1], phases, size)
    first_j, aside = first_node(-reach - at[2], phases, size)
    usable = light = 0.0
    for j in range(width):
        for i in range(width):
            p, _, _ = pixel(nodes, first_j + j * phases, first_i + i * phases, along, aside)
            light += p
            usable += p if variance[j, i] < np.inf else 0.0
    return usable / light if light > 0 else 0.0, pixels


@kernel
def _fill(sums: Any, matrix: Any) -> None:
    matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[0, 3] = sums[0], sums[1], sums[2], sums[6]
    matrix[1, 1], matrix[1, 2], matrix[1, 3] = sums[3], sums[4], sums[7]
    matrix[2, 2], matrix[2, 3], matrix[3, 3] = sums[5], sums[8], sums[9]


@kernel
def _invert(matrix: Any, free: Any, inverse: Any) -> bool:
    """The inverse of the rows that are free, 0 elsewhere, by Cholesky; False if not positive."""
    inverse[:] = 0.0
    rows = np.empty(4, np.int64)
    count = 0
    for a in range(4):
        if a == 0 or (a == 3 and free[1]) or (1 <= a <= 2 and free[0]):
            rows[count] = a
            count += 1
    factor = np.empty((4, 4))
    for a in range(count):
        for b in range(a + 1):
            total = matrix[rows[b], rows[a]]
            for k in range(b):
                total -= factor[a, k] * factor[b, k]
            if a == b:
                if not total > _TINY * matrix[rows[a], rows[a]]:
                    return False
                factor[a, a] = math.sqrt(total)
            else:
                factor[a, b] = total / factor[b, b]
    inverse_of_factor(factor, rows, count, inverse)
    return True
