"""From the stars of an image to its point-spread function."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.peaks import Planes
from larun.algorithms.profilefit import ProfileOptions, fit_profiles
from larun.algorithms.psf import PSF, gaussian_psf, moffat_psf, psf_from_nodes, terms_of
from larun.algorithms.psf_build import BuildPsfOptions, build_psf
from larun.algorithms.psf_crowd import SearchOptions, solve_crowd
from larun.algorithms.psf_field import FieldFits, FieldOptions
from larun.algorithms.psf_fit import FitOptions, PsfFits, fit_reach, fit_stars
from larun.algorithms.psf_residuals import Remains, remains_of
from larun.algorithms.psf_stars import ChooseOptions, ChosenStars, choose_stars
from larun.errors import CatalogError
from larun.model.planes import total_variance
from larun.model.pointspread.options import PsfOptions

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.sky import SkyImage

__all__ = ["Made", "make", "photon_gain", "sky_planes"]

#: Separation in FWHM and contrast of neighbours, from a star alone to one in a crowd.
_CROWDS = ((4.0, 0.01), (3.0, 0.03), (2.5, 0.1), (2.0, 0.3), (1.5, 0.6))
#: Stars below which a crowd is made do with, and rounds of neighbours subtracted there.
_FEW, _ROUNDS = 40, 4
#: More stars than this are not taken from a crowd: the brightest are least disturbed.
_MOST = 150
#: A median chi^2 above this lets neighbours be subtracted that were not seen before.
_BAD = 1.3
#: Neighbours are fitted to this share of their errors: what is left of them is far below the noise.
_NEIGHBOURS = 0.2
#: And the function is fitted in so many turns while its neighbours are yet to be subtracted better.
_TURNS = 7
#: A star found beneath others stays with the next function if its flux is so many errors.
_SURE = 4.0
#: Stars for an order, and the chance that noise alone makes shapes vary as they do.
_STARS = (0, 30, 60)
_CHANCE = 1e-4


class Made(NamedTuple):
    """A point-spread function with what it rests on; columns in the order of the sources."""

    function: PSF
    columns: dict[str, NDArray[Any]]
    remains: Remains
    facts: dict[str, Any]


class _Turn(NamedTuple):
    """What one choice of stars gave."""

    function: PSF
    stars: PsfFits
    used: NDArray[np.bool_]
    facts: dict[str, Any]


def sky_planes(image: SkyImage, model: NDArray[np.float64] | None = None) -> Planes:
    """Data, sky level, smooth variance and flags; sky and variance as they are without a model of the stars."""
    if model is None:
        sky = image.background()
    else:
        from larun.algorithms.background import background

        variance = total_variance(image)
        light = model.astype(np.float32)
        data, rest = read_only(image.data - light, np.float32), None
        if variance is not None:
            np.maximum(light, 0, out=light)
            light /= -photon_gain(image)
            light += variance
            rest = read_only(light, np.float32)
        sky = background(data, rest, image.flags)
    return image.data, sky.level, sky.variance, image.flags


def photon_gain(image: SkyImage) -> float:
    """Electrons per unit of the data for the photon noise of a star.

    That of the detector; of an image whose pixels were made of others, by how much the variance rises where stars are.
    """
    own = float(image.detector.amplifiers[0].gain or 1.0)
    variance = total_variance(image)
    if image._resampling is None or variance is None:
        return own
    sky = image.background()
    light = image.data - sky.level
    bright = (light > 5 * np.sqrt(sky.variance)) & ~image.unusable & np.isfinite(light) & np.isfinite(variance)
    signal = float(np.sum(light[bright], dtype=np.float64))
    noise = float(np.sum((variance - sky.variance)[bright], dtype=np.float64))
    return signal / noise if signal > 0 and noise > 0.01 * signal / own else own


def make(
    image: SkyImage, sources: QTable, model: str, order: int | None, aperture: float | None, options: PsfOptions
) -> Made:
    """Choose stars, and make the function from them.

    Raises
    ------
    CatalogError
        If the stars cannot give it.
    OptionError
        If an option is out of range, or the image is undersampled.
    """
    fwhm = float(sources.meta["fwhm"])
    names = ("x", "y", "flux", "flux_error")
    lacking = [name for name in names if name not in sources.colnames]
    if lacking:
        raise CatalogError(f"no column {', '.join(lacking)}: image.detect() has all that a PSF needs")
    x, y, flux, error = (np.asarray(getattr(sources[n], "value", sources[n]), np.float64) for n in names)
    planes = sky_planes(image)
    gain = photon_gain(image)
    chosen, crowded = _chosen(image.flags, (x, y, flux, error), fwhm, options, 6 * terms_of(order or 0))
    radius = max(8, math.ceil(4 * fwhm)) if options.radius is None else options.radius
    reach = radius if aperture is None else aperture
    wanted = BuildPsfOptions(oversampling=options.oversampling, radius=radius, aperture=reach, gain=gain)
    rough = attrs.evolve(wanted, turns=_TURNS)
    turn = _made(planes, x[chosen.chosen], y[chosen.chosen], fwhm, model, order, rough if crowded else wanted)
    crowded = crowded or bool(turn.facts["chi2"] > _BAD and chosen.refused["with a neighbour"] > 0)
    known: FieldFits | None = None
    for left in reversed(range(_ROUNDS if crowded else 0)):
        planes, known = _without_neighbours(image, turn.function, (x, y), known, chosen, gain)
        width = turn.function.fwhm
        turn = _made(planes, x[chosen.chosen], y[chosen.chosen], width, model, order, rough if left else wanted)
    reason = chosen.reason.copy()
    reason[chosen.chosen[~turn.used]] = "not like the others"
    stars = _spread_out(turn.stars, turn.used, chosen, (x, y, flux, error))
    stars["reason"] = reason
    remains = remains_of(planes, turn.function, turn.stars, turn.used, gain)
    says = f"{turn.facts.pop('says')}; {chosen.says}"
    if crowded:
        says += "; neighbours were subtracted"
    facts = {**turn.facts, "crowded": crowded, "says": f"{says}; {remains.says}"}
    return Made(turn.function, stars, remains, facts)


def _chosen(
    flags: NDArray[np.uint32], sources: tuple[NDArray[np.float64], ...], fwhm: float, options: PsfOptions, least: int
) -> tuple[ChosenStars, bool]:
    """Stars, the more alone the better; and whether they have neighbours."""
    found = None
    for number, (separation, contrast) in enumerate(_CROWDS):
        near = (separation if options.separation is None else options.separation) * fwhm
        share = contrast if options.contrast is None else options.contrast
        most = options.most if number == 0 else min(options.most, max(_MOST, least))
        choice = ChooseOptions(snr=options.snr, separation=near, contrast=share, most=most)
        found = choose_stars(flags, *sources, fwhm=fwhm, options=choice)
        if found.chosen.size >= max(_FEW, least) or (options.separation is not None and options.contrast is not None):
            return found, number > 0
        if found.refused["with a neighbour"] == 0:
            return found, number > 0
    assert found is not None
    return found, True


def _without_neighbours(
    image: SkyImage,
    function: PSF,
    sources: tuple[NDArray[np.float64], ...],
    known: FieldFits | None,
    chosen: ChosenStars,
    gain: float,
) -> tuple[Planes, FieldFits]:
    """The planes without all sources but the chosen ones, and all stars: each time more of those beneath others."""
    stars, count = np.column_stack(sources), sources[0].size
    planes = sky_planes(image)
    if known is not None:
        kept = np.arange(known.x.size) < count
        with np.errstate(invalid="ignore"):
            kept |= ~known.held & (known.flux > _SURE * known.flux_error)
        planes = image.data, known.level, known.noise, image.flags
        stars = np.column_stack([known.x, known.y, known.flux])[kept]
    found = solve_crowd(
        planes,
        function,
        stars,
        options=FieldOptions(gain=gain, unnoticed=_NEIGHBOURS, iterations=25),
        search=SearchOptions(passes=1),
        sky=lambda model: sky_planes(image, model)[1:3],
    ).fits
    others = found.flux.copy()
    others[chosen.chosen] = np.nan
    light = function.draw(image.shape, found.x, found.y, others)
    return (read_only(image.data - light, np.float32), found.level, found.noise, image.flags), found


def _made(
    planes: Planes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    fwhm: float,
    model: str,
    order: int | None,
    wanted: BuildPsfOptions,
) -> _Turn:
    if model != "empirical":
        return _analytic(planes, x, y, fwhm, model, wanted)
    if order is not None:
        return _empirical(planes, x, y, fwhm, attrs.evolve(wanted, order=order))
    for degree in range(_order(planes, x, y, fwhm, wanted), 0, -1):
        with contextlib.suppress(CatalogError):  # too few stars for it after all, or not where they would be needed
            return _empirical(planes, x, y, fwhm, attrs.evolve(wanted, order=degree))
    return _empirical(planes, x, y, fwhm, wanted)


def _empirical(
    planes: Planes, x: NDArray[np.float64], y: NDArray[np.float64], fwhm: float, wanted: BuildPsfOptions
) -> _Turn:
    built = build_psf(planes, x, y, fwhm=fwhm, options=wanted)
    facts = {
        "iterations": built.iterations,
        "converged": built.converged,
        "change": built.change,
        "chi2": built.chi2,
        "says": built.says,
    }
    return _Turn(built.psf, built.stars, built.used, facts)


def _analytic(
    planes: Planes, x: NDArray[np.float64], y: NDArray[np.float64], fwhm: float, model: str, wanted: BuildPsfOptions
) -> _Turn:
    """The profile with the median width, shape and exponent of the stars."""
    options = ProfileOptions(profile=model, gain=wanted.gain)
    found = fit_profiles(planes, x, y, fwhm=fwhm, options=options)
    good = found.converged & (found.flux > 0)
    if not good.any():
        raise CatalogError(
            f"no {model} profile fits any of {x.size} stars: choose fainter ones (options={{'snr': …}}), or look at "
            "the image: catalog.table says what was found"
        )
    width, e1, e2 = (float(np.median(part[good])) for part in (found.fwhm, found.e1, found.e2))
    size = min(math.hypot(e1, e2), 0.9)
    ratio, theta = (1 - size) / (1 + size), math.degrees(math.atan2(e2, e1)) / 2
    oversampling = max(4, math.ceil(6 / fwhm)) if wanted.oversampling is None else wanted.oversampling
    shape: dict[str, Any] = {"ratio": ratio, "theta": theta, "oversampling": oversampling, "radius": wanted.radius}
    beta = float(np.median(found.beta[good]))
    made = gaussian_psf(width, **shape) if model == "gaussian" else moffat_psf(width, beta, **shape)
    assert wanted.aperture is not None
    function = psf_from_nodes(
        np.array(made.nodes), oversampling, fwhm=width, kind=model, radius=made.radius, aperture=wanted.aperture
    )
    reach = min(fit_reach(fwhm), function.radius - 2)
    stars = fit_stars(planes, function, x, y, options=FitOptions(reach=reach, gain=wanted.gain))
    used = stars.converged & (stars.flux > 0) & good
    if not used.any():
        raise CatalogError(f"a {model} profile of FWHM {width:.2f} fits none of {x.size} stars")
    says = f"{model} profile of FWHM {width:.2f} pixels"
    says += "" if model == "gaussian" else f" and exponent {beta:.2f}"
    says += f", minor over major axis {ratio:.2f}, from {int(used.sum())} of {x.size} stars"
    chi2 = float(np.median(stars.chi2[used]))
    facts = {
        "iterations": 1,
        "converged": True,
        "change": 0.0,
        "chi2": chi2,
        "says": f"{says}; median chi^2 {chi2:.2f}",
    }
    return _Turn(function, stars, used, facts)


def _order(planes: Planes, x: NDArray[np.float64], y: NDArray[np.float64], fwhm: float, wanted: BuildPsfOptions) -> int:
    """The order that shapes of stars ask for, and their number bears: by an F test of widths and ellipticities."""
    if x.size < _STARS[1]:
        return 0
    from scipy.special import fdtrc

    found = fit_profiles(planes, x, y, fwhm=fwhm, options=ProfileOptions(beta=3.0, gain=wanted.gain))
    good = found.converged & (found.flux > 0)
    shapes = [np.log(np.where(good, found.fwhm, 1.0)), found.e1, found.e2]
    for values in shapes:
        middle = np.median(values[good])
        good &= np.abs(values - middle) < 6 * np.median(np.abs(values[good] - middle)) + 1e-9
    ny, nx = planes[0].shape
    u, v = (x - nx / 2) / (nx / 2), (y - ny / 2) / (ny / 2)
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)[good]
    best, count = 0, int(good.sum())
    for degree in (1, 2):
        if count < _STARS[degree]:
            break
        for values in shapes:
            less, more = (_squares(terms[:, : terms_of(k)], values[good]) for k in (best, degree))
            added, free = terms_of(degree) - terms_of(best), count - terms_of(degree)
            if more > 0 and fdtrc(added, free, (less - more) / added / (more / free)) < _CHANCE:
                best = degree
                break
    return best


def _squares(terms: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """What a linear fit leaves; orthogonal columns by Gram and Schmidt, in a fixed order."""
    rest = values.copy()
    basis: list[NDArray[np.float64]] = []
    for column in terms.T:
        own = column.copy()
        for other in basis:
            own -= np.sum(own * other) * other
        own /= math.sqrt(float(np.sum(own * own))) or 1.0
        basis.append(own)
        rest -= np.sum(rest * own) * own
    return float(np.sum(rest * rest))


def _spread_out(
    stars: PsfFits, used: NDArray[np.bool_], chosen: ChosenStars, sources: tuple[NDArray[np.float64], ...]
) -> dict[str, NDArray[Any]]:
    """Columns of all sources: those of the fits where there is one."""
    x, y, _, _ = sources
    made: dict[str, NDArray[Any]] = {"x": x.copy(), "y": y.copy()}
    for name in ("flux_psf", "flux_psf_error", "psf_chi2"):
        made[name] = np.full(x.size, np.nan)
    index = chosen.chosen
    made["x"][index], made["y"][index] = stars.x, stars.y
    made["flux_psf"][index], made["flux_psf_error"][index] = stars.flux, stars.flux_error
    made["psf_chi2"][index] = stars.chi2
    made["used"] = np.zeros(x.size, bool)
    made["used"][index] = used
    return made
