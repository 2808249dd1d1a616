"""How the flux of a star grows with the aperture, and what a small aperture misses.

Both come from the ratio of each bright star's fluxes to its own flux in the largest aperture. An aperture correction
is the same for every star it is applied to, so its error is common to them all and stays a number of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.aperture import positions
from larun.algorithms.robust import SIGMA_PER_MAD
from larun.errors import CatalogError, OptionError
from larun.markup import Markup, joined, table

__all__ = ["ApertureCorrection", "CurveOfGrowth", "aperture_correction", "curve_of_growth", "growth_stars"]

_FEWEST = 3
_CLIP = 4.0


class CurveOfGrowth(NamedTuple):
    """The share of the light inside each radius; every array has shape (radii,).

    Attributes
    ----------
    radii : ndarray of float64
        Pixels, as given.
    fraction : ndarray of float64
        Median over the stars of flux over flux at the largest radius.
    scatter : ndarray of float64
        Robust standard deviation of that ratio from star to star.
    stars : int
        How many stars it rests on.
    """

    radii: NDArray[np.float64]
    fraction: NDArray[np.float64]
    scatter: NDArray[np.float64]
    stars: int

    def _repr_html_(self) -> str:
        rows = ((f"{r:.2f}", f"{f:.4f}", f"{s:.4f}") for r, f, s in zip(*self[:3], strict=True))
        head = ("radius (pixel)", "share of the light", "scatter from star to star")
        return joined([Markup("<p>"), f"Curve of growth of {self.stars} stars", Markup("</p>"), table(head, rows)])


class ApertureCorrection(NamedTuple):
    """What to add to the magnitude at each radius to get that at the largest; arrays have shape (radii,).

    Attributes
    ----------
    radii : ndarray of float64
        Pixels, as given.
    correction : ndarray of float64
        Magnitudes, at most 0 where the light still grows; 0 at the largest radius.
    error : ndarray of float64
        One σ in magnitudes, common to all stars that are corrected with it: never add it to each star's own error as
        if it averaged down.
    stars : int
        How many stars it rests on.
    """

    radii: NDArray[np.float64]
    correction: NDArray[np.float64]
    error: NDArray[np.float64]
    stars: int


def growth_stars(
    fluxes: ArrayLike,
    flux_errors: ArrayLike,
    flags: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    separation: float,
    snr: float = 50.0,
    contamination: float = 0.01,
) -> NDArray[np.bool_]:
    """Which stars a curve of growth can rest on: bright, without any flag, and alone.

    Parameters
    ----------
    fluxes, flux_errors : array_like, shape (n, r)
        From :func:`larun.algorithms.aperture.photometry`.
    flags : array_like of uint32, shape (n, r)
        Flags of the apertures; any bit at any radius excludes the star.
    x, y : array_like, shape (n,)
        Positions in pixels of all stars, the faint ones included: they are the neighbours.
    separation : float
        Pixels within which a neighbour counts: the largest aperture and the reach of the neighbour's own light.
    snr : float
        Least flux over error, at every radius.
    contamination : float
        A neighbour brighter than this fraction of the star (at the smallest radius) excludes it.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    OptionError
        If shapes disagree or ``separation`` is not positive and finite.
    """
    values, errors = _fluxes(fluxes, flux_errors)
    bits = np.asarray(flags, np.uint32)
    xs, ys = positions(x, y)
    if bits.shape != values.shape or len(xs) != len(values):
        raise OptionError(f"flags of shape {bits.shape} and {len(xs)} positions for fluxes of shape {values.shape}")
    if not 0 < separation < np.inf:
        raise OptionError(f"separation = {separation}: must be a positive number of pixels")
    good = np.asarray((bits == 0).all(axis=1) & _positive(values, errors))
    good[good] &= (values[good] >= snr * errors[good]).all(axis=1)
    first, second = _pairs(xs, ys, separation)
    brightness = np.where(np.isfinite(values[:, 0]), values[:, 0], -np.inf)
    good[first[brightness[second] > contamination * brightness[first]]] = False
    good[second[brightness[first] > contamination * brightness[second]]] = False
    return good


def curve_of_growth(
    fluxes: ArrayLike, flux_errors: ArrayLike, radii: ArrayLike, *, usable: ArrayLike | None = None
) -> CurveOfGrowth:
    """The median curve of growth of bright stars, normalised at the largest radius.

    A star is dropped when its ratio is off the median by more than 4 σ at any radius, σ the larger of what its noise
    predicts and what the stars show: a companion, or a ray that nobody flagged.

    Parameters
    ----------
    fluxes, flux_errors : array_like, shape (n, r)
        Fluxes above the sky and their errors.
    radii : array_like, shape (r,)
        Radii in pixels, in any order.
    usable : array_like of bool, shape (n,), optional
        Stars to use, from :func:`growth_stars`; all by default. Stars whose fluxes are not finite and positive are
        never used.

    Returns
    -------
    CurveOfGrowth

    Raises
    ------
    OptionError
        If shapes disagree.
    CatalogError
        If fewer than 3 stars are left.

    Examples
    --------
    >>> flux = np.outer([1e4, 2e4, 3e4], [0.5, 0.9, 1.0])
    >>> curve_of_growth(flux, np.full((3, 3), 10.0), [2, 5, 10]).fraction.tolist()
    [0.5, 0.9, 1.0]
    """
    circles, ratio, _ = _ratios(fluxes, flux_errors, radii, usable)
    centre = np.median(ratio, axis=0)
    return CurveOfGrowth(circles, centre, SIGMA_PER_MAD * np.median(np.abs(ratio - centre), axis=0), len(ratio))


def aperture_correction(
    fluxes: ArrayLike, flux_errors: ArrayLike, radii: ArrayLike, *, usable: ArrayLike | None = None
) -> ApertureCorrection:
    """The magnitude that each aperture misses against the largest, with its own, common error.

    The weighted mean over the stars of f = F_r / F_total. Apertures are nested, so the light and the noise inside r
    are part of the total: var f = ((1 − 2 f) σ_r² + f² σ_total²) / F_total². A weight is the inverse of that, but the
    brightest quarter weighs the same: there it matters where a star lies on its pixels, not its photons. The error is
    the scatter the stars show, Σ w² (f − mean)² / (1 − w) with weights that sum to 1, so it does not rest on the
    noise model.

    Parameters
    ----------
    fluxes, flux_errors, radii, usable
        As for :func:`curve_of_growth`; the same stars are clipped.

    Returns
    -------
    ApertureCorrection

    Raises
    ------
    OptionError, CatalogError
        As :func:`curve_of_growth`.
    """
    circles, ratio, predicted = _ratios(fluxes, flux_errors, radii, usable)
    weight = 1 / np.maximum(predicted, np.quantile(predicted, 0.25, axis=0))
    weight /= weight.sum(axis=0)
    centre = np.median(ratio, axis=0)  # summing around it keeps the largest radius at exactly 1
    mean = centre + np.sum(weight * (ratio - centre), axis=0)
    # dividing by 1 − w makes the sum unbiased for independent stars, as n − 1 does for equal weights
    error = np.sqrt(np.sum(weight**2 * (ratio - mean) ** 2 / (1 - weight), axis=0))
    positive = np.where(mean > 0, mean, np.nan)
    return ApertureCorrection(circles, 2.5 * np.log10(positive), 2.5 / np.log(10) * error / positive, len(ratio))


def _fluxes(fluxes: ArrayLike, flux_errors: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, errors = np.asarray(fluxes, np.float64), np.asarray(flux_errors, np.float64)
    if values.ndim != 2 or values.shape != errors.shape:
        raise OptionError(
            f"fluxes and errors have shapes {values.shape} and {errors.shape}: must be (stars, radii) both"
        )
    return values, errors


def _positive(values: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Stars with a positive finite flux and error at every radius."""
    return np.asarray(((values > 0) & (values < np.inf) & (errors > 0) & (errors < np.inf)).all(axis=1))


def _pairs(x: NDArray[np.float64], y: NDArray[np.float64], reach: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Indices of all pairs of stars nearer than ``reach``."""
    from scipy.spatial import cKDTree

    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    pairs = cKDTree(np.column_stack([x, y])[finite]).query_pairs(reach, output_type="ndarray")
    return finite[pairs[:, 0]], finite[pairs[:, 1]]


def _ratios(
    fluxes: ArrayLike, flux_errors: ArrayLike, radii: ArrayLike, usable: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Radii, flux ratios of the stars that survive the clip, and the variance the noise predicts for them."""
    values, errors = _fluxes(fluxes, flux_errors)
    circles = np.array(radii, np.float64)
    chosen = np.ones(len(values), bool) if usable is None else np.array(usable, bool)
    if circles.shape != values.shape[1:] or not np.all((circles > 0) & (circles < np.inf)):
        raise OptionError(
            f"radii = {radii!r}: must be {values.shape[1]} positive numbers, one for each column of fluxes"
        )
    if chosen.shape != values.shape[:1]:
        raise OptionError(f"usable has shape {chosen.shape}: must be ({len(values)},)")
    chosen &= _positive(values, errors)
    asked = int(chosen.sum())
    total = np.argmax(circles)
    flux, noise = values[chosen], errors[chosen]
    ratio = flux / flux[:, [total]]
    variance = (1 - 2 * ratio) * noise**2 + ratio**2 * noise[:, [total]] ** 2
    # sky errors and unequal errors can bring the difference of two nested variances near or below zero
    predicted = np.maximum(variance, 1e-3 * noise**2) / flux[:, [total]] ** 2
    if asked >= _FEWEST:
        # one pass: repeated on a handful of stars, a clip by their own scatter eats them all
        pull = (ratio - np.median(ratio, axis=0)) / np.sqrt(np.maximum(predicted, np.median(predicted, axis=0)))
        scale = np.maximum(SIGMA_PER_MAD * np.median(np.abs(pull), axis=0), 1.0)
        kept = (np.abs(pull) <= _CLIP * scale).all(axis=1)
        ratio, predicted = ratio[kept], predicted[kept]
    if len(ratio) < _FEWEST:
        raise CatalogError(
            f"{len(ratio)} of {asked} stars are left for the curve of growth: it needs {_FEWEST}; "
            "use fainter stars (a lower snr) or a smaller separation"
        )
    return circles, ratio, predicted
