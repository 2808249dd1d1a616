"""Stars beneath stars: what remains when all known ones are subtracted is searched, and all are fitted again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.detect import DetectOptions, detect_matched
from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_field import FieldFits, FieldOptions, Sky, solve_field
from larun.errors import OptionError
from larun.flags import BAD, SATURATED

__all__ = ["CrowdFits", "SearchOptions", "solve_crowd"]

#: In one pass nothing is found nearer to what is found than this, in FWHM.
_APART = 2.2
#: What was refused is looked at again when another star is found so near to it, in FWHM.
_ASIDE = 2.0
#: While stars are still found, a change so small in standard errors is none, and there are no more rounds.
_UNNOTICED, _ROUNDS = 0.2, 25


@attrs.frozen(kw_only=True)
class SearchOptions:
    """How remains are searched.

    Parameters
    ----------
    passes : int
        How often.
    threshold : float
        Least signal to noise, over the noise of sky and stars, and over what the PSF may be wrong.
    distrust : float
        The PSF may be wrong by this share of what it says: ripples of bright stars are no stars.
    nearest : float
        Nothing is found nearer to a star than this, in FWHM.
    stray : float
        How far what is found may go from where the remains show it, in FWHM: it lies beyond the star, where its light
        is not fitted. Of two stars as bright as each other that were taken for one, remains are far outside: 2 divides
        such a pair from a separation of 1.2 FWHM on.
    """

    passes: int = 5
    threshold: float = 5.0
    distrust: float = 0.03
    nearest: float = 0.5
    stray: float = 1.2


class CrowdFits(NamedTuple):
    """What :func:`solve_crowd` returns.

    Attributes
    ----------
    fits : FieldFits
        Of the stars that were given, in their order, and of those that were found.
    given : int
        How many were given.
    passes : int
        How often the remains were searched.
    """

    fits: FieldFits
    given: int
    passes: int


def solve_crowd(
    planes: Planes,
    psf: PSF,
    stars: ArrayLike,
    *,
    options: FieldOptions,
    search: SearchOptions,
    acf: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[Any] | None] | None = None,
    sky: Sky | None = None,
) -> CrowdFits:
    """Fit all stars of an image, and find those that hide beneath them.

    Parameters
    ----------
    planes, psf, options, sky
        As for :func:`larun.algorithms.psf_field.solve_field`.
    stars : array_like, shape (n, 2) or (n, 3)
        x, y and, where it is known, a flux to start from.
    search : SearchOptions
        How remains are searched.
    acf : callable, optional
        Correlation of the noise around positions; None for white noise.

    Returns
    -------
    CrowdFits

    Raises
    ------
    OptionError
        As :func:`larun.algorithms.psf_field.solve_field`, and if an option of the search is out of range.

    Examples
    --------
    >>> from larun.algorithms.psf import gaussian_psf
    >>> psf = gaussian_psf(4.0)
    >>> pair = psf.draw((61, 61), [30.0, 33.4], [30.0, 30.5], [50000.0, 20000.0]).astype(np.float32)
    >>> flat, none = np.full(pair.shape, 100, np.float32), np.zeros(pair.shape, np.uint32)
    >>> planes = pair + flat, flat, flat, none
    >>> found = solve_crowd(planes, psf, [[30.5, 30.0]], options=FieldOptions(), search=SearchOptions())
    >>> found.given, found.fits.flux.round(-1).tolist(), found.fits.x.round(1).tolist()
    (1, [50000.0, 20000.0], [30.0, 33.4])
    """
    fine = search.passes >= 1 and 1 <= search.threshold < np.inf and 0 <= search.distrust < 1
    if not (fine and search.nearest >= 0 and search.stray >= 0):
        raise OptionError(
            f"{search}: passes and threshold must be at least 1, distrust below 1, nearest and stray not negative"
        )

    begin = np.asarray(stars, np.float64)
    given, made = len(begin), 0
    if begin.shape == (given, 2):
        begin = np.column_stack([begin, np.full(given, np.nan)])

    def solved(stars: NDArray[np.float64], known: FieldFits | None, follow: bool, **how: Any) -> FieldFits:
        xs, ys, light = np.ascontiguousarray(stars.T)
        free = np.ones(xs.size, bool)  # what is found in the remains is free
        free[:given] = options.free_position
        limit = np.full(xs.size, search.stray * psf.fwhm)
        limit[:given] = max(1.0, psf.fwhm / 2) if options.limit is None else options.limit
        wanted = attrs.evolve(options, free_position=free, limit=limit, **how)
        fixed = planes if known is None else (planes[0], known.level, known.noise, planes[3])
        lags = None if acf is None else acf(xs, ys)
        return solve_field(fixed, psf, xs, ys, flux=light, options=wanted, acf=lags, sky=sky if follow else None)

    quickly = {"unnoticed": max(options.unnoticed, _UNNOTICED), "iterations": min(options.iterations, _ROUNDS)}
    fits = solved(begin, None, True, **quickly)
    quiet, refused = _quiet(planes[3], psf.fwhm), np.empty((0, 2))
    while made < search.passes:
        made += 1
        found = _beneath(planes, psf, fits, quiet, options.gain, search)
        found = found[~_near(found[:, :2], refused, search.nearest * psf.fwhm)]
        if not len(found):
            break
        stars = np.concatenate([_stars(fits), found])
        own = len(stars) - len(found)
        fits = solved(stars, fits, False, changed=np.arange(len(stars)) >= own, **quickly)
        kept, stars = _real(fits, given, psf.fwhm, search), _stars(fits)
        # what was refused is so until another star is found beside it
        refused = np.concatenate([refused, found[~kept[own:], :2]])
        refused = refused[~_near(refused, stars[own:][kept[own:], :2], _ASIDE * psf.fwhm)]
        if sky is not None or not kept.all():  # without what was found the sky is lower, and more is seen
            beside = _near(stars[kept, :2], stars[~kept, :2], psf.radius)
            fits = solved(stars[kept], fits, True, changed=beside, **quickly)
    if sky is None or quickly != {name: getattr(options, name) for name in quickly}:
        fits = solved(_stars(fits), fits, True)
    return CrowdFits(fits, given, made)


def _stars(fits: FieldFits) -> NDArray[np.float64]:
    """Places and fluxes (n, 3)."""
    return np.column_stack([fits.x, fits.y, fits.flux])


def _near(places: NDArray[np.float64], others: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """Which places (n, 2) have another (m, 2) within the radius."""
    from scipy.spatial import cKDTree

    if not len(places) or not len(others):
        return np.zeros(len(places), bool)
    distance, _ = cKDTree(others).query(places)
    return np.asarray(distance <= radius)


def _quiet(flags: NDArray[np.uint32], fwhm: float) -> NDArray[np.bool_]:
    """Pixels that are not near saturated ones, whose wings no PSF describes."""
    saturated = (flags & SATURATED) != 0
    if not saturated.any():
        return np.ones(flags.shape, bool)
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~saturated) > 3 * fwhm)


def _beneath(
    planes: Planes, psf: PSF, fits: FieldFits, quiet: NDArray[np.bool_], gain: float, search: SearchOptions
) -> NDArray[np.float64]:
    """Positions and fluxes (m, 3) of what the remains show."""
    from scipy.ndimage import maximum_filter
    from scipy.spatial import cKDTree

    light = np.maximum(fits.model, 0.0)
    wrong = search.distrust * maximum_filter(light, size=3)
    noise = read_only(fits.noise + light / gain + wrong**2, np.float32)
    rest = read_only(planes[0] - fits.model, np.float32)
    mask = int(FieldOptions().mask)
    bits = read_only(np.where((planes[3] & np.uint32(mask)) != 0, BAD, 0), np.uint32)
    wanted = DetectOptions(fwhm=psf.fwhm, threshold=search.threshold, gain=gain)
    found = detect_matched(rest, fits.level, noise, bits, options=wanted)
    ny, nx = quiet.shape
    row, column = (np.clip(np.rint(part).astype(int), 0, size - 1) for part, size in ((found.y, ny), (found.x, nx)))
    good = quiet[row, column] & (found.flux > 0)
    places = np.column_stack([found.x, found.y])
    known = np.isfinite(fits.flux)
    if known.any() and len(places):
        distance, _ = cKDTree(np.column_stack([fits.x, fits.y])[known]).query(places)
        good &= distance > search.nearest * psf.fwhm
    stars = np.column_stack([places, found.flux])[good]
    # a star hidden beside another leaves something on both sides: the fainter waits until the next pass
    alone = np.ones(len(stars), bool)
    pairs = cKDTree(stars[:, :2]).query_pairs(_APART * psf.fwhm, output_type="ndarray").reshape(-1, 2)
    for one, other in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:  # in falling order of S/N
        if alone[one]:
            alone[other] = False
    return np.ascontiguousarray(stars[alone], np.float64)


def _real(fits: FieldFits, given: int, fwhm: float, search: SearchOptions) -> NDArray[np.bool_]:
    """Which stars stay: all that were given, and those found that a fit with all others still sees."""
    from scipy.spatial import cKDTree

    kept = np.ones(fits.x.size, bool)
    with np.errstate(invalid="ignore"):
        kept[given:] = (fits.flux >= search.threshold * fits.flux_error)[given:] & ~fits.held[given:]
    places = np.column_stack([fits.x, fits.y])
    near = cKDTree(places).query_pairs(search.nearest * fwhm, output_type="ndarray").reshape(-1, 2)
    for one, other in near:
        if other >= given:  # of two found ones the fainter goes, of a given and a found one the found
            kept[one if one >= given and not fits.flux[one] > fits.flux[other] else other] = False
    return kept
