"""The light that all comparison stars of a series lose and gain together: a level, or a plane, for each frame.

Magnitudes of comparison stars are a mean for each star plus a zero point for each frame (Honeycutt 1992, PASP 104,
435), which may be a plane over the image. Weights are those of the noise and of the scatter that each star shows
beyond it, so that a star that varies counts for little, and one that stands out is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import SIGMA_PER_MAD
from larun.errors import CatalogError, OptionError

__all__ = ["Ensemble", "EnsembleOptions", "calibrated", "fit_ensemble", "inverses"]

_ROUNDS = 6  # of the scatter of each star
_SWEEPS = 200  # of means and zero points against each other
_SETTLED = 1e-9  # magnitudes
_LEAST_POINTS = 3
_OUTLIER = 5.0  # sigma of a single point that does not count
_TO_MAGNITUDE = 2.5 / np.log(10)

Floats = NDArray[np.float64]


@attrs.frozen(kw_only=True)
class EnsembleOptions:
    """How comparison stars are weighed.

    Parameters
    ----------
    reject : float
        A star is left out whose scatter is that many times what its noise and the scatter common to the others explain.
    fewest : int
        Comparison stars that stay whatever they do.
    """

    reject: float = 2.5
    fewest: int = 3

    def __attrs_post_init__(self) -> None:
        if not self.reject > 1 or not self.fewest >= 1:
            raise OptionError(f"reject={self.reject}, fewest={self.fewest}: must be above 1 and at least 1")


class Ensemble(NamedTuple):
    """What :func:`fit_ensemble` found, of T frames, N comparison stars and K terms of the plane.

    Attributes
    ----------
    zero : (T,)
        Zero point of each frame, magnitudes, at the origin of the terms; its mean over frames is 0.
    slope : (T, K)
        Of the plane, magnitudes per unit of the terms.
    covariance : (T, K + 1, K + 1)
        Of both; NaN where a frame has too few stars.
    mean : (N,)
        Mean magnitude of each star.
    used : (N,) bool
        Whether a star counts.
    excess : (N,)
        Scatter of each star beyond its noise, magnitudes.
    residual : (T, N)
        Each star against all others (itself left out), magnitudes about its mean; NaN where it was not measured.
    residual_error : (T, N)
        Its error by the noise alone: of the star, and of the others' zero point.
    """

    zero: Floats
    slope: Floats
    covariance: Floats
    mean: Floats
    used: NDArray[np.bool_]
    excess: Floats
    residual: Floats
    residual_error: Floats

    def at(self, terms: Floats) -> tuple[Floats, Floats]:
        """Zero point of each frame and its error where the terms have given values, (K,)."""
        design = np.concatenate([[1.0], terms])
        value = self.zero + np.sum(self.slope * terms, axis=1)
        variance = np.sum(self.covariance * design[:, None] * design[None, :], axis=(1, 2))
        return value, np.sqrt(variance)


def fit_ensemble(
    magnitude: Floats, error: Floats, terms: Floats | None = None, options: EnsembleOptions = EnsembleOptions()
) -> Ensemble:
    """Zero points of frames by their comparison stars.

    Parameters
    ----------
    magnitude, error : ndarray of float64, (T, N)
        Of each comparison star in each frame; NaN where it was not measured.
    terms : ndarray of float64, (N, K), optional
        What the zero point may depend on linearly: positions, colours; best about 0 and of order 1.
    options : EnsembleOptions

    Returns
    -------
    Ensemble

    Raises
    ------
    CatalogError
        If no frame has enough comparison stars.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> clouds, stars = rng.normal(0, 0.1, 50), rng.uniform(10, 14, 8)
    >>> noise = np.full((50, 8), 0.003)
    >>> found = fit_ensemble(clouds[:, None] + stars + rng.normal(0, noise), noise)
    >>> bool(np.std(found.zero - clouds) < 0.0015), int(found.used.sum())
    (True, 8)
    """
    frames, stars = magnitude.shape
    plane = np.zeros((stars, 0)) if terms is None else np.asarray(terms, np.float64)
    design = np.column_stack([np.ones(stars), plane])
    measured = np.isfinite(magnitude) & np.isfinite(error) & (error > 0)
    used = np.sum(measured, axis=0) >= max(_LEAST_POINTS, frames // 2)
    excess, trusted = np.zeros(stars), measured
    while True:
        for _ in range(_ROUNDS):
            found = _solved(magnitude, error, design, (measured, trusted), used, excess)
            before, excess = (excess, trusted), _excess(found, used)
            with np.errstate(invalid="ignore"):
                trusted = measured & ~(np.abs(found.residual) > _OUTLIER * np.hypot(found.residual_error, excess))
            if np.max(np.abs(excess - before[0]), initial=0.0) < 1e-5 and np.array_equal(trusted, before[1]):
                break
        worst = _worst(found, used, excess, options)
        if worst is None:
            return found._replace(excess=excess)
        used = used.copy()
        used[worst] = False
        excess[worst] = 0.0


def _solved(
    magnitude: Floats,
    error: Floats,
    design: Floats,
    points: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    used: NDArray[np.bool_],
    excess: Floats,
) -> Ensemble:
    frames, size = len(magnitude), design.shape[1]
    measured, trusted = points
    good = trusted & used
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.where(good, 1.0 / (error**2 + excess**2), 0.0)
    known = np.sum(good, axis=1) >= size
    if not known.any() or np.sum(used) < size:
        raise CatalogError(
            f"{int(np.sum(used))} comparison stars are measured in half of the frames or more: {size} are needed"
        )
    weight = np.where(known[:, None], weight, 0.0)
    values = np.where(good, magnitude, 0.0)
    normal = np.sum(weight[:, :, None, None] * (design[:, :, None] * design[:, None, :]), axis=1)
    inverse = inverses(normal)
    known &= np.all(np.isfinite(inverse), axis=(1, 2))
    weight = np.where(known[:, None], weight, 0.0)
    inverse[~known] = np.nan
    solving = np.where(known[:, None, None], inverse, 0.0)
    total = np.sum(weight, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(total > 0, np.sum(weight * values, axis=0) / total, 0.0)
    fitted = np.zeros((frames, size))
    for _ in range(_SWEEPS):
        right = np.sum((weight * (values - mean))[:, :, None] * design, axis=1)
        fitted = np.sum(solving * right[:, None, :], axis=2)
        fitted -= np.sum(fitted[known], axis=0) / np.sum(known)  # what is common to all frames is the stars' own
        there = values - np.sum(fitted[:, None, :] * design, axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            new = np.where(total > 0, np.sum(weight * there, axis=0) / total, 0.0)
        moved = np.max(np.abs(new - mean))
        mean = new
        if moved < _SETTLED:
            break
    zero = np.where(known, fitted[:, 0], np.nan)
    slope = np.where(known[:, None], fitted[:, 1:], np.nan)
    residual, spread, mean = _left_out(magnitude, error, design, measured, weight, (fitted, inverse), mean)
    return Ensemble(zero, slope, inverse, mean, used.copy(), excess.copy(), residual, spread)


def _left_out(
    magnitude: Floats,
    error: Floats,
    design: Floats,
    measured: NDArray[np.bool_],
    weight: Floats,
    solved: tuple[Floats, Floats],
    mean: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Each star against the others: what it adds to the zero point is taken out again, exactly."""
    fitted, inverse = solved
    rest = magnitude - np.sum(fitted[:, None, :] * design, axis=2)
    about = np.array([np.mean(column[np.isfinite(column)]) if np.isfinite(column).any() else 0.0 for column in rest.T])
    middle = np.where(np.sum(weight, axis=0) > 0, mean, about)
    level = np.sum(np.sum(design[None, :, :, None] * inverse[:, None, :, :], axis=2) * design, axis=2)  # d C d
    share = weight * level
    with np.errstate(invalid="ignore", divide="ignore"):
        alone = np.where(share < 1 - 1e-9, (rest - middle) / (1 - share), np.nan)
        others = np.where(share < 1 - 1e-9, level / (1 - share), np.nan)
        spread = np.sqrt(error**2 + others)
        alone = np.where(measured & np.isfinite(spread), alone, np.nan)
        own = np.where(np.isfinite(alone), 1.0 / spread**2, 0.0)
        shift = np.sum(own * np.where(np.isfinite(alone), alone, 0.0), axis=0) / np.sum(own, axis=0)
    shift = np.where(np.isfinite(shift), shift, 0.0)
    return alone - shift, np.where(np.isfinite(alone), spread, np.nan), np.where(np.isfinite(middle), middle, np.nan)


def _excess(found: Ensemble, used: NDArray[np.bool_]) -> Floats:
    """Scatter beyond the noise, where it is more than chance would make it."""
    made = np.zeros(len(used))
    for n in np.flatnonzero(used):
        values, noise = _of_star(found, int(n))
        if len(values) < _LEAST_POINTS:
            continue
        variance = _scatter(values) ** 2
        if variance > noise * (1 + np.sqrt(2 / len(values))):  # less than that may be chance
            made[n] = np.sqrt(variance - noise)
    return made


def _of_star(found: Ensemble, star: int) -> tuple[Floats, float]:
    """Residuals of a star where it was measured, and the median variance of their noise."""
    good = np.isfinite(found.residual[:, star])
    noise = found.residual_error[good, star] ** 2
    return found.residual[good, star], float(np.median(noise)) if len(noise) else float("nan")


def _scatter(values: Floats) -> float:
    """Standard deviation without single points that lie far off: slow changes count."""
    middle = float(np.median(values))
    robust = SIGMA_PER_MAD * float(np.median(np.abs(values - middle)))
    kept = values[np.abs(values - middle) <= 5 * robust] if robust > 0 else values
    return float(np.sqrt(np.sum((kept - np.mean(kept)) ** 2) / max(len(kept) - 1, 1)))


def _worst(found: Ensemble, used: NDArray[np.bool_], excess: Floats, options: EnsembleOptions) -> int | None:
    """The star that stands out most, if any does and enough are left."""
    members = np.flatnonzero(used)
    if len(members) <= options.fewest:
        return None
    common = float(np.median(excess[members]))
    ratio = np.zeros(len(used))
    for n in members:
        values, noise = _of_star(found, int(n))
        if len(values) < _LEAST_POINTS:
            return int(n)
        ratio[n] = _scatter(values) / np.sqrt(noise + common**2)
    # chance scatters that are measured on few points
    limit = options.reject * (1 + 1.5 / np.sqrt(max(len(found.zero) - 1, 1)))
    worst = int(np.argmax(ratio))
    return worst if ratio[worst] > limit else None


def inverses(normal: Floats) -> Floats:
    """Inverses of many small positive matrices at once, by Cholesky's factors; NaN where one is not positive."""
    count, size = len(normal), normal.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt(np.stack([normal[:, k, k] for k in range(size)], axis=1))
        left = normal / scale[:, :, None] / scale[:, None, :]
        factor = np.zeros_like(normal)
        for k in range(size):
            pivot = left[:, k, k]
            pivot = np.where(pivot > 1e-10, pivot, np.nan)
            factor[:, k:, k] = left[:, k:, k] / np.sqrt(pivot)[:, None]
            left[:, k:, k:] = left[:, k:, k:] - factor[:, k:, None, k] * factor[:, None, k:, k]
        made = np.zeros((count, size, size))
        for row in range(size):
            made[:, row, row] = 1.0
            for column in range(row):
                made[:, row] -= factor[:, row, column, None] * made[:, column]
            made[:, row] /= factor[:, row, row, None]
        inverse = np.sum(made[:, :, :, None] * made[:, :, None, :], axis=1)
        return np.asarray(inverse / scale[:, :, None] / scale[:, None, :])


def calibrated(flux: Floats, error: Floats, zero: Floats, zero_error: Floats) -> tuple[Floats, Floats, float]:
    """Fluxes of a star as the zero points have them, over their weighted mean.

    Parameters
    ----------
    flux, error : (T,)
        As measured, and their errors; NaN where it was not.
    zero, zero_error : (T,)
        Magnitudes.

    Returns
    -------
    tuple
        Relative flux, its error, and the mean that was divided by: the median of the calibrated fluxes.
    """
    factor = 10 ** (0.4 * zero)
    light = flux * factor
    known = light[np.isfinite(light)]
    middle = float(np.median(known)) if len(known) else float("nan")
    spread = np.sqrt((error * factor) ** 2 + (light * zero_error / _TO_MAGNITUDE) ** 2)
    return light / middle, spread / abs(middle), middle
