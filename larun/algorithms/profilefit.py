"""Widths and shapes of stars by fits of elliptical Gaussian and Moffat profiles, integrated over pixels.

A fitted FWHM is that of the profile before the pixel blurred it. The steps are those of Levenberg and Marquardt, and
the weights are of the model: sky variance plus the photon noise of the fitted star.
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
from larun.algorithms.psf_fit import checked_planes_and_positions, fit_reach, read_square
from larun.errors import OptionError
from larun.flags import UNUSABLE

__all__ = ["ProfileFits", "ProfileOptions", "fit_profiles"]

_ITERATIONS = 60
_SETTLED = 0.01  # standard errors
_UNKNOWNS = 8  # flux, x, y, sky, three of the quadratic form, ln(beta - 1)
#: Between these the exponent of a Moffat profile is sought; above it is a Gaussian in all but name.
_BETAS = (1.2, 30.0)
_BAND = 32
#: Gauss-Legendre points of a pixel in the core, and elsewhere.
_FINE, _COARSE = (np.polynomial.legendre.leggauss(n) for n in (3, 2))
_POINTS = (_FINE[0] / 2, _FINE[1] / 2, _COARSE[0] / 2, _COARSE[1] / 2)
#: From this FWHM on the coarse ones are right to 3e-4 of the peak.
_WIDE = 2.5


@attrs.frozen(kw_only=True)
class ProfileOptions:
    """How profiles are fitted.

    Parameters
    ----------
    profile : str
        ``"moffat"`` or ``"gaussian"``.
    beta : float, optional
        Exponent of the Moffat profile, 1.2 to 30; by default each star has its own.
    reach : int, optional
        The fit uses so many pixels to each side; by default two FWHM, at least 4.
    free_sky : bool
        Fit a constant beside the star.
    gain : float
        Electrons per unit of the data.
    mask : int
        Bits of flags that make a pixel unusable.
    """

    profile: str = "moffat"
    beta: float | None = None
    reach: int | None = None
    free_sky: bool = False
    gain: float = 1.0
    mask: int = int(UNUSABLE)


class ProfileFits(NamedTuple):
    """What :func:`fit_profiles` returns, one element a star (float64); NaN where no fit converged.

    Attributes
    ----------
    x, y : (n,)
        Position, pixels.
    flux : (n,)
        All the light of the profile, in the unit of the image.
    sky : (n,)
        The fitted constant; 0 where it is not free.
    fwhm, fwhm_error : (n,)
        Geometric mean of the axes, pixels, before the pixel blurred it, and its standard error.
    e1, e2 : (n,)
        Components of the ellipticity, (a - b) / (a + b) times cos 2 theta and sin 2 theta, theta from +x towards +y.
    beta : (n,)
        Exponent of the Moffat profile; infinite for a Gaussian.
    chi2 : (n,)
        By the degrees of freedom.
    converged : (n,) bool
        Whether it settled.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    sky: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    fwhm_error: NDArray[np.float64]
    e1: NDArray[np.float64]
    e2: NDArray[np.float64]
    beta: NDArray[np.float64]
    chi2: NDArray[np.float64]
    converged: NDArray[np.bool_]


def fit_profiles(
    planes: Planes, x: ArrayLike, y: ArrayLike, *, fwhm: float, options: ProfileOptions | None = None
) -> ProfileFits:
    """Fit an elliptical profile to each star.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance of the sky (float32) and flags (uint32).
    x, y : array_like, shape (n,)
        Where stars are, pixels, to within half a FWHM.
    fwhm : float
        About how wide they are, pixels, to within a factor of two.
    options : ProfileOptions, optional
        How.

    Returns
    -------
    ProfileFits

    Raises
    ------
    OptionError
        If planes or positions differ in shape or an option is out of range.

    Examples
    --------
    >>> from larun.algorithms.psf import moffat_psf
    >>> star = moffat_psf(3.0, 3.0, ratio=0.8).draw((31, 31), [15.2], [14.9], [5000.0]).astype(np.float32)
    >>> flat, none = np.full(star.shape, 100, np.float32), np.zeros(star.shape, np.uint32)
    >>> found = fit_profiles((star + flat, flat, flat, none), [15.0], [15.0], fwhm=4.0)
    >>> found.fwhm.round(2).tolist(), found.e1.round(2).tolist(), found.beta.round(1).tolist()
    ([3.0], [0.11], [3.0])
    """
    chosen = ProfileOptions() if options is None else options
    fixed, xs, ys = checked_planes_and_positions(planes, x, y)
    moffat = chosen.profile == "moffat"
    if chosen.profile not in ("moffat", "gaussian"):
        raise OptionError(f"profile = {chosen.profile!r}: must be 'moffat' or 'gaussian'")
    if not 0.5 <= fwhm <= 100:
        raise OptionError(f"fwhm = {fwhm}: must be 0.5 to 100 pixels")
    if chosen.beta is not None and not _BETAS[0] <= chosen.beta <= _BETAS[1]:
        raise OptionError(f"beta = {chosen.beta}: must be {_BETAS[0]} to {_BETAS[1]}")
    reach = fit_reach(fwhm) if chosen.reach is None else int(chosen.reach)
    if reach < 2 or not 0 < chosen.gain < np.inf:
        raise OptionError(f"reach = {reach}, gain = {chosen.gain}: must be at least 2, and positive")
    beta = 3.0 if chosen.beta is None else chosen.beta
    order = walk(xs, ys)
    begin = read_only(np.column_stack([xs, ys])[order], np.float64)
    out = np.full((xs.size, _UNKNOWNS + 2), np.nan)
    covariance = np.full((xs.size, _UNKNOWNS, _UNKNOWNS), np.nan)
    free = (True, True, True, bool(chosen.free_sky), True, True, True, moffat and chosen.beta is None)
    rows = read_only([n for n in range(_UNKNOWNS) if free[n]], np.int64)
    rules = (reach, float(fwhm), beta, np.uint32(chosen.mask), float(chosen.gain))
    points = tuple(read_only(part, np.float64) for part in (_POINTS if fwhm < _WIDE else 2 * _POINTS[2:]))

    def work(start: int, stop: int) -> None:
        _fit_range(fixed, begin, (rules, rows, moffat, points), (out, covariance), start, stop)

    over_rows(xs.size, work, band=_BAND)
    back = np.argsort(order)
    return _described(out[back], covariance[back], moffat)


def _described(out: NDArray[np.float64], covariance: NDArray[np.float64], moffat: bool) -> ProfileFits:
    """From the quadratic form to width and ellipticity."""
    flux, _, _, _, a, b, c, eta, _, settled = np.ascontiguousarray(out.T)
    good = settled == 1
    beta = 1 + np.exp(eta) if moffat else np.full(flux.size, np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        half = 2 ** (1 / beta) - 1 if moffat else np.full(flux.size, 2 * math.log(2))
        determinant = a * c - b * b
        fwhm = 2 * np.sqrt(half) * determinant**-0.25
        # the form is largest along the minor axis
        mean, gap = (a + c) / 2, np.hypot((a - c) / 2, b)
        low, high = np.sqrt(mean - gap), np.sqrt(mean + gap)
        size = np.where(gap > 0, (high - low) / (high + low) / np.where(gap > 0, gap, 1), 0.0)
        e1, e2 = size * (c - a) / 2, -size * b
        slope = np.zeros((flux.size, _UNKNOWNS))
        slope[:, 4], slope[:, 5], slope[:, 6] = -c / 4 / determinant, b / 2 / determinant, -a / 4 / determinant
        if moffat:
            slope[:, 7] = -0.5 * (half + 1) * math.log(2) / beta**2 * (beta - 1) / half
        error = fwhm * np.sqrt(np.sum(slope[:, :, None] * covariance * slope[:, None, :], axis=(1, 2)))
    out[~good], fwhm[~good], error[~good], e1[~good], e2[~good], beta[~good] = (np.nan,) * 6
    flux, x, y, sky, _, _, _, _, chi2, _ = np.ascontiguousarray(out.T)
    return ProfileFits(x, y, flux, sky, fwhm, error, e1, e2, beta, chi2, good)


@kernel
def _fit_range(planes: Any, stars: Any, how: Any, results: Any, start: int, stop: int) -> None:
    (reach, fwhm, beta, bits, gain), rows, moffat, points = how
    out, covariance = results
    ny, nx = planes[0].shape
    width = 2 * reach + 1
    signal, variance, weight = np.empty((width, width)), np.empty((width, width)), np.empty((width, width))
    light = np.empty((width, width))
    at, trial, step = np.empty(_UNKNOWNS), np.empty(_UNKNOWNS), np.empty(_UNKNOWNS)
    sums, trials = (
        (np.empty((_UNKNOWNS, _UNKNOWNS)), np.empty(_UNKNOWNS)),
        (
            np.empty((_UNKNOWNS, _UNKNOWNS)),
            np.empty(_UNKNOWNS),
        ),
    )
    inverse, factor = np.empty((_UNKNOWNS, _UNKNOWNS)), np.empty((_UNKNOWNS, _UNKNOWNS))
    half = 2 ** (1 / beta) - 1 if moffat else 2 * math.log(2)
    for n in range(start, stop):
        x, y = stars[n, 0], stars[n, 1]
        if not (-0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5):
            continue
        px, py = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        read_square(planes, py, px, reach, bits, signal, variance)
        pixels = 0
        for j in range(width):
            for i in range(width):
                weight[j, i] = 1.0 / variance[j, i]
                pixels += weight[j, i] > 0
        if pixels <= rows.size:
            continue
        at[0], at[1], at[2], at[3] = 0.0, x - px, y - py, 0.0
        at[4] = at[6] = 4 * half / fwhm**2
        at[5], at[7] = 0.0, math.log(beta - 1)
        stamp = (signal, weight, light, moffat, points, fwhm)
        at[0] = 1.0
        _sums(stamp, at, sums[0], sums[1])
        # with a flux of 1 the right side is the sum over data minus the profile
        at[0] = (sums[1][0] + sums[0][0, 0]) / sums[0][0, 0] if sums[0][0, 0] > 0 else 0.0
        if not at[0] > 0:
            continue
        _weigh(variance, light, at[0], gain, weight)
        cost = _sums(stamp, at, sums[0], sums[1])
        damping, settled, accepted = 1e-3, False, 0
        for _ in range(_ITERATIONS):
            if not _invert(sums[0], rows, damping, inverse, factor):
                break
            small = True
            for k in range(_UNKNOWNS):
                step[k] = 0.0
            for k in rows:
                for m in rows:
                    step[k] += inverse[k, m] * sums[1][m]
                small = small and step[k] * step[k] <= _SETTLED * _SETTLED * inverse[k, k]
            for k in range(_UNKNOWNS):
                trial[k] = at[k] + step[k]
            trial[7] = min(max(trial[7], math.log(_BETAS[0] - 1)), math.log(_BETAS[1] - 1))
            known = trial[0] > 0 and trial[4] > 0 and trial[4] * trial[6] > trial[5] * trial[5]
            known = known and math.hypot(trial[1] - (x - px), trial[2] - (y - py)) < max(1.5, fwhm)
            new_cost = _sums(stamp, trial, trials[0], trials[1]) if known else np.inf
            if new_cost <= cost:
                for k in range(_UNKNOWNS):
                    at[k] = trial[k]
                accepted += 1
                damping = max(damping * 0.1, 1e-9)
                if small and damping < 1e-4:
                    settled = True
                    break
                if accepted <= 4:
                    _weigh(variance, light, 1.0, gain, weight)
                    cost = _sums(stamp, at, sums[0], sums[1])
                else:
                    cost = new_cost
                    sums, trials = trials, sums
            else:
                if small and known:
                    settled = True
                    break
                damping = damping * 10 if damping > 1e-6 else 1e-4
                if damping > 1e8:
                    break
        if settled and _invert(sums[0], rows, 0.0, inverse, factor):
            for k in range(_UNKNOWNS):
                out[n, k] = at[k]
                for m in range(_UNKNOWNS):
                    covariance[n, k, m] = inverse[k, m]
            out[n, 1] += px
            out[n, 2] += py
            out[n, 8] = cost / (pixels - rows.size)
            out[n, 9] = 1.0


@kernel
def _weigh(variance: Any, light: Any, scale: float, gain: float, weight: Any) -> None:
    for j in range(variance.shape[0]):
        for i in range(variance.shape[1]):
            weight[j, i] = 1.0 / (variance[j, i] + max(light[j, i], 0.0) * scale / gain)


@kernel
def _sums(stamp: Any, at: Any, matrix: Any, right: Any) -> float:
    """Normal equations and chi^2; what the star gives each pixel goes to ``light``."""
    signal, weight, light, moffat, points, fwhm = stamp
    width, reach = signal.shape[0], signal.shape[0] // 2
    flux, cx, cy, sky, a, b, c = at[0], at[1], at[2], at[3], at[4], at[5], at[6]
    beta = 1 + math.exp(at[7])
    determinant = a * c - b * b
    norm = math.sqrt(determinant) * ((beta - 1) / math.pi if moffat else 0.5 / math.pi)
    matrix[:] = 0.0
    right[:] = 0.0
    cost = 0.0
    slope = np.empty(_UNKNOWNS)
    near = (1.2 * fwhm + 1) ** 2
    for j in range(width):
        for i in range(width):
            dx, dy = i - reach - cx, j - reach - cy
            fine = dx * dx + dy * dy < near
            nodes, shares = (points[0], points[1]) if fine else (points[2], points[3])
            s0 = s1 = s2 = s3 = s4 = s5 = s6 = 0.0
            for m in range(nodes.size):
                v = dy + nodes[m]
                for k in range(nodes.size):
                    u = dx + nodes[k]
                    part = shares[m] * shares[k]
                    q = a * u * u + 2 * b * u * v + c * v * v
                    if moffat:
                        logarithm = math.log(1 + q)
                        value = part * math.exp(-beta * logarithm)
                        fall = -beta * value / (1 + q)
                        s6 += value * logarithm
                    else:
                        value = part * math.exp(-0.5 * q)
                        fall = -0.5 * value
                    s0 += value
                    s1 += fall * (a * u + b * v)
                    s2 += fall * (b * u + c * v)
                    s3 += fall * u * u
                    s4 += fall * u * v
                    s5 += fall * v * v
            f = flux * norm
            star = f * s0
            light[j, i] = star
            slope[0], slope[1], slope[2], slope[3] = norm * s0, -2 * f * s1, -2 * f * s2, 1.0
            slope[4] = f * s3 + star * c / (2 * determinant)
            slope[5] = 2 * f * s4 - star * b / determinant
            slope[6] = f * s5 + star * a / (2 * determinant)
            slope[7] = star - f * (beta - 1) * s6
            w, r = weight[j, i], signal[j, i] - star - sky
            cost += w * r * r
            for k in range(_UNKNOWNS):
                part = w * slope[k]
                right[k] += part * r
                for m in range(k + 1):
                    matrix[k, m] += part * slope[m]
    return cost


@kernel
def _invert(matrix: Any, rows: Any, damping: float, inverse: Any, factor: Any) -> bool:
    """The inverse of the rows that are free, 0 elsewhere, by Cholesky; the diagonal is raised by ``damping``."""
    count = rows.size
    inverse[:] = 0.0
    for a in range(count):
        for b in range(a + 1):
            total = matrix[rows[a], rows[b]] * (1.0 + damping if a == b else 1.0)
            for k in range(b):
                total -= factor[a, k] * factor[b, k]
            if a == b:
                if not total > 1e-13 * matrix[rows[a], rows[a]]:
                    return False
                factor[a, a] = math.sqrt(total)
            else:
                factor[a, b] = total / factor[b, b]
    inverse_of_factor(factor, rows, count, inverse)
    return True
