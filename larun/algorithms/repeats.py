"""Stars that were measured in many frames, and whether they scatter as their errors say.

Each flux is f = a F, the throughput of its frame times that of its star. Both are fitted, the residuals are compared
with the errors, and the variance of the residuals is taken apart: ``K σ² + q f²``, K what the errors must be multiplied
with, squared, and q a multiplicative term that bright stars need (a wrong flat, scintillation, a point spread that
changes over the chip). For normal residuals the maximum of the likelihood is found by Fisher scoring, which is
iterated least squares of the squared residuals on (σ², f²) with weights of the inverse square of the variance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

__all__ = ["Repeats", "circles_overlap", "repeated_fluxes"]

_CLIP = 4.0  # σ
_KEPT_VARIANCE = 0.998930
_LEAST_FRAMES = 2
_LEAST_STARS = 3
_LEAST_MEASURED = 8
_DISTINCT = 1e-3  # share of the determinant below which the two terms are one


class Repeats(NamedTuple):
    """What repeated measurements tell.

    Attributes
    ----------
    scale, scale_error : float
        √K: residuals over reported errors, the multiplicative term apart; 1 for right errors.
    term, term_error : float
        q, relative variance that is added; may come out negative. Its root is a relative error.
    throughput : ndarray of float64, (frames,)
        a; the mean of its logarithm is 0.
    flux : ndarray of float64, (stars,)
        F; NaN where a star does not enter.
    relative : ndarray of float64, (stars, frames)
        Residuals over a F; NaN where nothing was measured.
    error : ndarray of float64, (stars, frames)
        Reported errors over a F, freed of what the error has in common with the flux.
    pulls : ndarray of float64, (stars, frames)
        Residuals over reported errors, the fitted degrees of freedom given back.
    used : ndarray of bool, (stars, frames)
        What K and q were fitted to: not stars that vary, not outliers.
    """

    scale: float
    scale_error: float
    term: float
    term_error: float
    throughput: NDArray[np.float64]
    flux: NDArray[np.float64]
    relative: NDArray[np.float64]
    error: NDArray[np.float64]
    pulls: NDArray[np.float64]
    used: NDArray[np.bool_]


def circles_overlap(distance: float, radius: float) -> float:
    """The share of its area that a circle has in common with another of the same radius.

    Examples
    --------
    >>> circles_overlap(0.0, 2.0), round(circles_overlap(2.0, 2.0), 3), circles_overlap(4.0, 2.0)
    (1.0, 0.391, 0.0)
    """
    half = distance / (2 * radius)
    return 2 / math.pi * (math.acos(half) - half * math.sqrt(1 - half**2)) if half < 1 else 0.0


class _Fit(NamedTuple):
    throughput: NDArray[np.float64]
    flux: NDArray[np.float64]
    leverage: NDArray[np.float64]


def repeated_fluxes(
    flux: NDArray[np.float64],
    error: NDArray[np.float64],
    *,
    poisson: bool = True,
    known_scale: tuple[float, float] | None = None,
) -> Repeats:
    """Throughputs of frames, fluxes of stars, and how large residuals are against reported errors.

    Parameters
    ----------
    flux, error : ndarray, (stars, frames)
        Fluxes and their reported 1 σ; NaN where a star was not measured. Stars with one measurement do not enter.
    poisson : bool
        Fluxes are electrons, and errors hold the Poisson noise of the flux itself: then it is that of the mean flux
        which counts, or faint values would weigh more than bright ones.
    known_scale : (float, float), optional
        √K and its 1 σ from elsewhere: scatter over reported errors where there is no star. The term is found with it,
        if it agrees with the scale that the stars have; the scale itself is that of the stars alone.

    Raises
    ------
    OptionError
        If shapes differ, or too few stars were measured twice.
    """
    if flux.ndim != 2 or flux.shape != error.shape:
        raise OptionError(f"flux and error have shapes {flux.shape} and {error.shape}: must be (stars, frames) both")
    good = np.isfinite(flux) & (flux > 0) & np.isfinite(error) & (error > 0)
    good &= (good.sum(axis=1) >= _LEAST_FRAMES)[:, None]
    stars = np.flatnonzero(good.any(axis=1))
    if len(stars) < _LEAST_STARS or good.sum() < _LEAST_MEASURED:
        raise OptionError(f"{len(stars)} stars were measured more than once: at least {_LEAST_STARS} are needed")
    throughput, mean = _polished(flux, good)
    used = good.copy()
    scale, term = 1.0, 0.0
    variance = _relative_variance(flux, error, good, np.outer(mean, throughput), poisson)
    fit = _Fit(throughput, mean, np.zeros(flux.shape))
    residual = np.zeros(flux.shape)
    covariance = np.full((2, 2), np.nan)
    for _ in range(6):
        total = np.maximum(scale * variance + max(term, 0.0), 1e-14)
        fit = _fitted(flux, total, used, fit)
        expected = np.outer(fit.flux, fit.throughput)
        variance = _relative_variance(flux, error, good, expected, poisson)
        residual = np.where(good, flux / np.where(good, expected, 1.0) - 1, np.nan)
        own = np.where(good, residual, 0.0) ** 2 / (1 - fit.leverage)
        total = np.maximum(scale * variance + max(term, 0.0), 1e-14)
        used = _usable(own, total, good)
        scale, term, covariance = _split(own[used], variance[used], scale, term)
        # residuals from which means were taken know of each other: there are fewer than they seem
        covariance = covariance * _fewer(used, fit)
    with np.errstate(invalid="ignore"):
        pulls = residual / np.sqrt((1 - fit.leverage) * variance)
    root = math.sqrt(max(scale, 1e-12))
    if known_scale is not None and abs(known_scale[0] - root) < 3 * math.hypot(
        known_scale[1], math.sqrt(covariance[0, 0]) / (2 * root)
    ):
        prior = known_scale[0] ** 2, 2 * known_scale[0] * known_scale[1]
        term, both = _split(own[used], variance[used], scale, term, prior)[1:]
        covariance[1, 1] = both[1, 1] * _fewer(used, fit)
    return Repeats(
        scale=root,
        scale_error=float(np.sqrt(covariance[0, 0])) / (2 * root),
        term=term,
        term_error=float(np.sqrt(covariance[1, 1])),
        throughput=fit.throughput,
        flux=np.where(good.any(axis=1), fit.flux, np.nan),
        relative=residual,
        error=np.where(good, np.sqrt(variance), np.nan),
        pulls=np.where(good, pulls, np.nan),
        used=used,
    )


def _polished(flux: NDArray[np.float64], good: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First throughputs and fluxes: medians of logarithms, frames and stars by turns."""
    logs = np.where(good, np.log(np.where(good, flux, 1.0)), np.nan)
    frames, stars = np.zeros(flux.shape[1]), np.zeros(flux.shape[0])
    rows, columns = good.any(axis=1), good.any(axis=0)
    for _ in range(8):
        stars[rows] = np.nanmedian(logs[rows] - frames, axis=1)
        frames[columns] = np.nanmedian(logs[:, columns] - stars[:, None], axis=0)
        frames -= frames[columns].mean()
    return np.exp(frames), np.exp(stars)


def _relative_variance(
    flux: NDArray[np.float64],
    error: NDArray[np.float64],
    good: NDArray[np.bool_],
    expected: NDArray[np.float64],
    poisson: bool,
) -> NDArray[np.float64]:
    """Reported variance over the expected flux squared, for the expected flux instead of the measured one."""
    own = np.where(good, error, 1.0) ** 2
    values = np.where(good, flux, 1.0)
    if poisson:
        own = np.maximum(own + expected - values, 0.5 * own)
    return np.where(good, own / np.where(good, expected, 1.0) ** 2, 1.0)


def _fitted(flux: NDArray[np.float64], variance: NDArray[np.float64], used: NDArray[np.bool_], start: _Fit) -> _Fit:
    """Weighted least squares for throughputs and fluxes by turns, and the leverage of each measurement."""
    # what is not used has a mean all the same, with no weight to speak of
    weight = np.where(np.isfinite(flux), np.where(used, 1.0, 1e-9), 0.0) / variance
    values = np.where(weight > 0, flux, 0.0)
    throughput, mean = start.throughput, start.flux
    for _ in range(40):
        # residuals relative to a F: the weight of f / a for F is w, that of f / F for a is w, too
        stars = (weight * values / throughput).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300)
        stars = np.where(stars > 0, stars, mean)
        frames = (weight * values / stars[:, None]).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-300)
        frames = np.where(frames > 0, frames, throughput)
        frames = frames / np.exp(np.mean(np.log(frames)))
        done = bool(np.max(np.abs(frames / throughput - 1)) < 1e-10)
        throughput, mean = frames, stars
        if done:
            break
    by_star, by_frame = weight.sum(axis=1, keepdims=True), weight.sum(axis=0, keepdims=True)
    leverage = weight / np.maximum(by_star, 1e-300) + weight / np.maximum(by_frame, 1e-300)
    leverage -= weight / max(float(weight.sum()), 1e-300)
    return _Fit(throughput, mean, np.clip(leverage, 0.0, 0.95))


def _usable(own: NDArray[np.float64], total: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Measurements within 4 σ of stars that do not scatter far more than others of their brightness."""
    scaled = np.where(good, own / total, np.nan)
    typical = float(np.nanmedian(scaled)) / 0.4549364231195728  # the median of χ² of one degree of freedom
    scaled /= max(typical, 1e-12)
    count = good.sum(axis=1)
    by_star = np.nansum(np.minimum(scaled, 100.0), axis=1) / np.maximum(count, 1)
    limit = 1 + 15 / np.maximum(count - 1, 1) ** 0.7  # χ² over n - 1 is above that by chance once in 10⁴ stars
    quiet = by_star <= limit
    if quiet.mean() < 0.7:  # most stars vary: then it is no property of stars
        quiet[:] = True
    with np.errstate(invalid="ignore"):
        kept: NDArray[np.bool_] = good & quiet[:, None] & (scaled <= _CLIP**2)
    return kept


def _fewer(used: NDArray[np.bool_], fit: _Fit) -> float:
    """Measurements over degrees of freedom."""
    return float(used.sum()) / max(float((1 - fit.leverage)[used].sum()), 1.0)


def _split(
    own: NDArray[np.float64],
    variance: NDArray[np.float64],
    scale: float,
    term: float,
    prior: tuple[float, float] = (1.0, math.inf),
) -> tuple[float, float, NDArray[np.float64]]:
    """K and q by Fisher scoring, and their covariance; what else is known of K counts as one more measurement."""
    least = 1 / prior[1] ** 2
    covariance = np.full((2, 2), np.nan)
    for _ in range(60):
        total = np.maximum(scale * variance + term, 0.05 * scale * variance)
        weight = 1 / (2 * total**2)
        a, b, c = (float(np.sum(weight * part)) for part in (variance**2, variance, np.ones_like(variance)))
        y = own / _KEPT_VARIANCE
        r, s = float(np.sum(weight * variance * y)), float(np.sum(weight * y))
        a, r = a + least, r + least * prior[0]
        determinant = a * c - b * b
        if not determinant > _DISTINCT * a * c:  # all stars equally bright: the terms cannot be told apart
            return r / a, 0.0, np.array([[1 / a, 0.0], [0.0, np.nan]])
        new = max((c * r - b * s) / determinant, 1e-3), (a * s - b * r) / determinant
        covariance = np.array([[c, -b], [-b, a]]) / determinant
        done = abs(new[0] - scale) < 1e-7 * scale and abs(new[1] - term) < 1e-6 * math.sqrt(covariance[1, 1])
        scale, term = new
        if done:
            break
    return scale, term, covariance
