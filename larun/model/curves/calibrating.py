"""From forced photometry to light curves: the best aperture, the comparison stars, errors, and the table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.colourterm import ColourTerm, fit_colour_term
from larun.algorithms.ensemble import Ensemble, calibrated, fit_ensemble
from larun.algorithms.rednoise import point_to_point, scintillation, time_averaging
from larun.errors import CatalogError
from larun.model.curves.epochs import Epoch
from larun.model.curves.extinction import Line, check_airmass, told, without_line
from larun.model.curves.measuring import Series, Stars
from larun.model.curves.options import LightCurveOptions
from larun.model.measure.schema import Column, table

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["COLUMNS", "Calibration", "Moments", "calibrate", "light_curve_table"]

Floats = NDArray[np.float64]

_TO_MAGNITUDE = 2.5 / math.log(10)
_ALIKE = 1.5  # magnitudes between a target and stars whose scatter chooses its aperture
_FEWEST_ALIKE = 5
_PLANE = 8  # comparison stars that a plane needs
_BETTER = 0.98  # of the scatter, before a plane is worth it
_TURNS = 3  # of the colour term and the comparison stars that count
_CHOSEN = "least scatter from point to point of comparison stars as bright as the target"

#: One row for each star in each frame, the targets first, frames in order of time.
COLUMNS: tuple[Column, ...] = (
    Column("star", np.int32, "", "number of the star, from 1; the targets come first"),
    Column("role", np.str_, "", "target, comparison, or rejected (measured, but no comparison star)"),
    Column("frame", np.str_, "", "name of the raw file"),
    Column("jd_utc", np.float64, "d", "Julian date of mid-exposure, UTC"),
    Column("bjd_tdb", np.float64, "d", "barycentric Julian date of mid-exposure, TDB; NaN without coordinates"),
    Column("flux", np.float64, "", "relative flux, calibrated, over its median"),
    Column("flux_error", np.float64, "", "1 sigma: pixels, sky, comparison stars, and scintillation where known"),
    Column("source_flux", np.float64, "image", "flux above the sky, as measured in the aperture or by the PSF"),
    Column("source_flux_error", np.float64, "image", "1 sigma of source_flux, from pixels and sky"),
    Column("zero_point", np.float64, "mag", "what the comparison stars lost in this frame, at this star"),
    Column("zero_point_error", np.float64, "mag", "1 sigma of zero_point, common to all stars of a frame"),
    Column("airmass", np.float64, "", "of mid-exposure; NaN where not known"),
    Column("x", np.float64, "pix", "column in the frame; the centre of the first pixel is 0"),
    Column("y", np.float64, "pix", "row in the frame"),
    Column("fwhm", np.float64, "pix", "of the stars of the frame"),
    Column("sky", np.float64, "image", "sky per pixel around the star"),
    Column("radius", np.float64, "pix", "of the aperture; NaN for a PSF"),
    Column("exposure", np.float64, "s", "exposure time; NaN where not known"),
    Column(
        "flags",
        np.uint32,
        "",
        "OR of the pixel flags in the aperture, for a PSF within a FWHM: COSMIC, SATURATED ...",
    ),
)


class Moments(NamedTuple):
    """When frames were taken, and through how much air.

    Attributes
    ----------
    jd_utc, airmass, exposure : (T,)
    bjd_tdb : (T, targets)
        NaN where no coordinates are known.
    note : str
        What the times are.
    """

    jd_utc: Floats
    bjd_tdb: Floats
    airmass: Floats
    exposure: Floats
    note: str

    @classmethod
    def of(cls, epochs: list[Epoch], coordinates: list[tuple[float, float]] | None, targets: int) -> Moments:
        """Of frames; without coordinates of the targets, those that each frame points at."""
        made = np.full((len(epochs), targets), np.nan)
        pointed = all(epoch.time.pointing is not None for epoch in epochs)
        sites = all(epoch.time.site is not None for epoch in epochs)
        if coordinates is not None:
            for k, place in enumerate(coordinates):
                made[:, k] = [float(epoch.time.bjd_tdb(place)) for epoch in epochs]
            note = "BJD_TDB of mid-exposure, for the coordinates of the target"
        elif pointed:
            made[:] = np.array([float(epoch.time.bjd_tdb()) for epoch in epochs])[:, None]
            note = "BJD_TDB of mid-exposure, for where the telescope pointed"
        else:
            note = "JD in UTC of mid-exposure: no coordinates are known, so none at the barycentre (give coordinates=)"
        if not sites and not np.isnan(made).any():
            note += "; from the centre of the Earth, at most 21 ms off, as no site is known"
        air = [_airmass(epoch, coordinates) for epoch in epochs]
        exposure = [math.nan if epoch.time.exposure is None else epoch.time.exposure for epoch in epochs]
        return cls(np.array([e.time.jd_utc for e in epochs]), made, np.array(air), np.array(exposure), note)


def _airmass(epoch: Epoch, coordinates: list[tuple[float, float]] | None) -> float:
    time = epoch.time
    if time.airmass is None and coordinates is not None and time.site is not None:
        time = time.pointed(*coordinates[0], "given")
    return math.nan if time.airmass is None else float(time.airmass)


class Calibration(NamedTuple):
    """Light curves of all stars in the chosen aperture.

    Attributes
    ----------
    aperture : int
        Which.
    field : str
        ``"constant"`` or ``"plane"``.
    flux, error : (T, n)
        Relative; NaN where not measured.
    zero, zero_error : (T, n)
        Magnitudes.
    used : (n,) bool
        Comparison stars.
    scintillation : (T,)
        Relative; 0 where not known.
    ensemble : Ensemble
        Of the stars after the targets.
    scatters : (a,)
        By which the aperture was chosen, magnitudes.
    colour : ColourTerm, optional
        Extinction by colour, where colours are known.
    lines : tuple of Line
        In air mass, that were taken out of the targets' light; empty where none was asked for.
    """

    aperture: int
    field: str
    flux: Floats
    error: Floats
    zero: Floats
    zero_error: Floats
    used: NDArray[np.bool_]
    scintillation: Floats
    ensemble: Ensemble
    scatters: Floats
    colour: ColourTerm | None = None
    lines: tuple[Line, ...] = ()


def calibrate(series: Series, stars: Stars, moments: Moments, options: LightCurveOptions) -> Calibration:
    """Choose the aperture, fit the comparison stars, and calibrate every star by the others.

    Raises
    ------
    CatalogError
        If there are too few comparison stars, or they do not tell what colour does to extinction.
    OptionError
        If air mass is needed and not known.
    """
    count = len(stars.x) - stars.targets
    if count < 1:
        raise CatalogError(
            "no star of the reference can serve for comparison (bright, not saturated, alone, on nine frames of ten): "
            "name some with comparison="
        )
    flicker = _scintillation(moments, options)
    fits = [_ensemble(series, stars, k, flicker, None, options) for k in range(len(series.apertures))]
    alike = _alike(series, stars)
    scatters = np.array([_score(fit, alike) for fit in fits])
    if not np.isfinite(scatters).any():
        raise CatalogError("no comparison star is measured in enough frames: name some with comparison=")
    chosen = int(np.nanargmin(scatters))
    if stars.colour is None:
        field, fit = _field(series, stars, chosen, flicker, fits[chosen], options)
        made = _applied(series, stars, (chosen, field, fit), flicker)
    else:
        check_airmass(moments.airmass, "colours are given")
        field, fit, term = _coloured(series, stars, chosen, flicker, moments.airmass, options)
        made = _applied(series, stars, (chosen, field, fit), flicker, (term, moments.airmass))
    if options.detrend == "airmass":
        check_airmass(moments.airmass, "detrend='airmass'")
        good = series.good(chosen)
        made = made._replace(lines=without_line(made.flux, made.error, good, moments.airmass, stars.targets))
    return made._replace(scatters=scatters)


def _scintillation(moments: Moments, options: LightCurveOptions) -> Floats:
    """Relative scatter of each exposure by the air; 0 without a diameter, of air mass 1 where that is not known."""
    made = np.zeros(len(moments.jd_utc))
    if options.diameter is None:
        return made
    for t, (air, exposure) in enumerate(zip(moments.airmass, moments.exposure, strict=True)):
        if exposure > 0:
            made[t] = scintillation(exposure, options.diameter, air if air >= 1 else 1.0, options.height)
    return made


def _terms(stars: Stars, shape: tuple[int, int]) -> Floats:
    """Places of all stars about the middle of the reference, of order 1."""
    ny, nx = shape
    return np.column_stack([(stars.x - (nx - 1) / 2) / (nx / 2), (stars.y - (ny - 1) / 2) / (ny / 2)])


def _magnitudes(series: Series, stars: Stars, aperture: int, flicker: Floats) -> tuple[Floats, Floats]:
    """Of the comparison stars, and their errors; NaN where not measured."""
    first = stars.targets
    good = series.good(aperture)[:, first:]
    flux, error = series.flux[:, first:, aperture], series.error[:, first:, aperture]
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = np.where(good, -2.5 * np.log10(flux), np.nan)
        return magnitude, np.where(good, _TO_MAGNITUDE * np.hypot(error / flux, flicker[:, None]), np.nan)


def _ensemble(
    series: Series,
    stars: Stars,
    aperture: int,
    flicker: Floats,
    terms: Floats | None,
    options: LightCurveOptions,
    lost: Floats | None = None,
) -> Ensemble | None:
    """Of magnitudes less what stars have ``lost`` by their colour, where that is known."""
    magnitude, spread = _magnitudes(series, stars, aperture, flicker)
    magnitude = magnitude if lost is None else magnitude - lost
    try:
        return fit_ensemble(magnitude, spread, None if terms is None else terms[stars.targets :], options.ensemble())
    except CatalogError:
        return None


def _coloured(
    series: Series, stars: Stars, aperture: int, flicker: Floats, airmass: Floats, options: LightCurveOptions
) -> tuple[str, Ensemble, ColourTerm]:
    """The level or the plane, its ensemble, and the colour term, each with the others taken out."""
    assert stars.colour is not None
    first = stars.targets
    colour = stars.colour[first:]
    magnitude, spread = _magnitudes(series, stars, aperture, flicker)

    def lost(term: ColourTerm) -> Floats:
        return np.column_stack([term.at(float(one), airmass)[0] for one in colour])

    # all stars at first: those of another colour seem to vary
    term = fit_colour_term(magnitude, spread, colour, airmass)
    level = _ensemble(series, stars, aperture, flicker, None, options, lost(term))
    field, fit = _field(series, stars, aperture, flicker, level, options, lost(term))
    terms = _terms(stars, series.epochs[0].shape) if field == "plane" else None
    design = None if terms is None else np.column_stack([np.ones(len(colour)), terms[first:]])
    for _ in range(_TURNS):
        wide = np.where(fit.used, np.hypot(spread, fit.excess), np.nan)
        term = fit_colour_term(magnitude, wide, colour, airmass, design)
        fit = _ensemble(series, stars, aperture, flicker, terms, options, lost(term)) or fit
    return field, fit, term


def _alike(series: Series, stars: Stars) -> NDArray[np.intp]:
    """Comparison stars as bright as the first target, or the nearest to it: whose scatter is like its own."""
    middle = series.flux.shape[2] // 4
    with np.errstate(invalid="ignore", divide="ignore"):
        light = np.where(series.good(middle), np.log10(series.flux[:, :, middle]), np.nan)
    columns = [column[np.isfinite(column)] for column in light.T]
    mean = np.array([np.median(column) if len(column) else np.nan for column in columns])
    away = np.abs(mean[stars.targets :] - (mean[0] if np.isfinite(mean[0]) else np.nanmax(mean))) * 2.5
    away = np.where(np.isfinite(away), away, np.inf)
    order = np.argsort(away, kind="stable")
    return order[: max(int(np.sum(away <= _ALIKE)), min(_FEWEST_ALIKE, len(order)))]


def _score(fit: Ensemble | None, alike: NDArray[np.intp]) -> float:
    if fit is None:
        return math.nan
    values = np.array([point_to_point(fit.residual[:, n]) for n in alike if fit.used[n]])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else math.nan


def _field(
    series: Series,
    stars: Stars,
    aperture: int,
    flicker: Floats,
    constant: Ensemble | None,
    options: LightCurveOptions,
    lost: Floats | None = None,
) -> tuple[str, Ensemble]:
    """The level or the plane: each star against the others has the say."""
    assert constant is not None
    if options.field == "constant" or (options.field == "auto" and int(constant.used.sum()) < _PLANE):
        return "constant", constant
    shape = series.epochs[0].shape
    plane = _ensemble(series, stars, aperture, flicker, _terms(stars, shape), options, lost)
    if options.field == "plane":
        if plane is None:
            raise CatalogError("too few comparison stars for a plane: use field='constant'")
        return "plane", plane
    both = constant.used & plane.used if plane is not None else constant.used
    if plane is None or _spread(plane, both) >= _BETTER * _spread(constant, both):
        return "constant", constant
    return "plane", plane


def _spread(fit: Ensemble, used: NDArray[np.bool_]) -> float:
    values = [float(np.nanstd(fit.residual[:, n])) for n in np.flatnonzero(used)]
    return float(np.median(values)) if values else math.inf


def _applied(
    series: Series,
    stars: Stars,
    chosen: tuple[int, str, Ensemble],
    flicker: Floats,
    coloured: tuple[ColourTerm, Floats] | None = None,
) -> Calibration:
    aperture, field, fit = chosen
    frames, count = series.x.shape
    terms = _terms(stars, series.epochs[0].shape) if field == "plane" else np.zeros((count, 0))
    flux, error, zero, zero_error = (np.full((frames, count), np.nan) for _ in range(4))
    measured = np.isfinite(series.flux[:, :, aperture])
    for n in range(count):
        zero[:, n], zero_error[:, n] = fit.at(terms[n])
        if coloured is not None and stars.colour is not None:
            own_loss, unsure = coloured[0].at(float(stars.colour[n]), coloured[1])
            zero[:, n], zero_error[:, n] = zero[:, n] + own_loss, np.hypot(zero_error[:, n], unsure)
        own = n - stars.targets
        light, noise = series.flux[:, n, aperture], series.error[:, n, aperture]
        if own >= 0 and fit.used[own]:  # a comparison star is calibrated by the others
            residual, spread = fit.residual[:, own], fit.residual_error[:, own]
            flux[:, n] = 10 ** (-0.4 * residual)
            flux[:, n] /= np.nanmedian(flux[:, n])
            error[:, n] = flux[:, n] * spread / _TO_MAGNITUDE
            continue
        with np.errstate(invalid="ignore"):
            total = np.hypot(noise, light * flicker)
        good = series.good(aperture)[:, n]
        reference = np.where(good, light, np.nan) if good.any() else light
        _, _, middle = calibrated(reference, total, zero[:, n], zero_error[:, n])
        made = calibrated(light, total, zero[:, n], zero_error[:, n])
        flux[:, n], error[:, n] = made[0] * made[2] / middle, made[1] * abs(made[2] / middle)
    used = np.concatenate([np.zeros(stars.targets, bool), fit.used])
    flux[~measured], error[~measured] = np.nan, np.nan
    term = None if coloured is None else coloured[0]
    return Calibration(aperture, field, flux, error, zero, zero_error, used, flicker, fit, np.zeros(0), term)


def light_curve_table(
    series: Series, stars: Stars, moments: Moments, made: Calibration, options: LightCurveOptions, unit: str
) -> QTable:
    """The table of all stars, with what holds for the whole series in its metadata."""
    frames, count = series.x.shape
    k = made.aperture
    roles = ["target"] * stars.targets + ["comparison" if used else "rejected" for used in made.used[stars.targets :]]
    aperture = series.apertures[k]
    widths = np.array([epoch.fwhm for epoch in series.epochs])
    radius = np.array([aperture.pixels(width) for width in widths])
    bjd = moments.bjd_tdb[:, [min(n, stars.targets - 1) for n in range(count)]]

    def of_frames(values: Any) -> NDArray[Any]:
        return np.tile(np.asarray(values), count)

    values: dict[str, Any] = {
        "star": np.repeat(np.arange(1, count + 1), frames),
        "role": np.repeat(np.array(roles), frames),
        "frame": of_frames([epoch.label for epoch in series.epochs]),
        "jd_utc": of_frames(moments.jd_utc),
        "bjd_tdb": bjd.T.ravel(),
        "flux": made.flux.T.ravel(),
        "flux_error": made.error.T.ravel(),
        "source_flux": series.flux[:, :, k].T.ravel(),
        "source_flux_error": series.error[:, :, k].T.ravel(),
        "zero_point": made.zero.T.ravel(),
        "zero_point_error": made.zero_error.T.ravel(),
        "airmass": of_frames(moments.airmass),
        "x": series.x.T.ravel(),
        "y": series.y.T.ravel(),
        "fwhm": of_frames(widths),
        "sky": series.sky.T.ravel(),
        "radius": of_frames(radius),
        "exposure": of_frames(moments.exposure),
        "flags": series.flags[:, :, k].T.ravel(),
    }
    table_ = table(COLUMNS, values, unit)
    table_.meta = _meta(series, stars, moments, made, options)
    return table_


def _meta(
    series: Series, stars: Stars, moments: Moments, made: Calibration, options: LightCurveOptions
) -> dict[str, Any]:
    fit, first = made.ensemble, stars.targets
    listed = [_about(series, stars, moments, made, n) for n in range(len(stars.x))]
    betas = [item["beta"] for item in listed[first:] if item["used"] and item["beta"] is not None]
    excess = fit.excess[fit.used]
    return {
        "schema": 1,
        "targets": first,
        "time": moments.note,
        **_light(series, made, options),
        "field": made.field,
        **told(made.colour, made.lines),
        "scintillation": [float(value) for value in (made.scintillation.min(), made.scintillation.max())],
        "scintillation_note": _scintillation_note(moments, options),
        "excess": float(np.median(excess)) if len(excess) else 0.0,
        "beta": float(np.median(betas)) if betas else 1.0,
        "cosmic_rays": "flagged, not replaced" if options.clean == "flag" else "as the frames have them",
        "stars": listed,
    }


def _light(series: Series, made: Calibration, options: LightCurveOptions) -> dict[str, Any]:
    """In what the light was measured."""
    best = series.apertures[made.aperture]
    if best.unit == "psf":
        facts = [told["psf"] for told in series.told]
        widths = [one["fwhm"] for one in facts]
        return {
            "psf": {
                "models": sorted({one["model"] for one in facts}),
                "orders": sorted({one["order"] for one in facts}),
                "fwhm": [min(widths), max(widths)],
                "chi2": float(np.median([one["chi2"] for one in facts])),
                "neighbours": series.told[0]["psf"]["neighbours"],
            }
        }
    return {
        "aperture": {"radius": float(best.radius), "unit": best.unit},
        "aperture_chosen": "given" if options.radius is not None else _CHOSEN,
        "apertures": [
            {"radius": float(one.radius), "unit": one.unit, "scatter": _plain(scatter)}
            for one, scatter in zip(series.apertures, made.scatters, strict=True)
        ],
    }


def _scintillation_note(moments: Moments, options: LightCurveOptions) -> str:
    if options.diameter is None:
        return "not in the errors: the diameter of the telescope is not known (give diameter=)"
    if not np.isfinite(moments.airmass).all():
        return "air mass is not known in all frames: 1 is assumed there, so it is a lower limit"
    return "Osborn et al. (2015), of each star by itself"


def _about(series: Series, stars: Stars, moments: Moments, made: Calibration, n: int) -> dict[str, Any]:
    """What is known of a star over the series, in plain numbers."""
    flux, error = made.flux[:, n], made.error[:, n]
    good = series.good(made.aperture)[:, n] & np.isfinite(flux) & np.isfinite(error)
    own = n - stars.targets
    known = bool(good.any())
    red = time_averaging(moments.jd_utc[good], flux[good], error[good]) if good.sum() >= 8 else None
    source = series.flux[:, n, made.aperture]
    return {
        "star": n + 1,
        "x": float(stars.x[n]),
        "y": float(stars.y[n]),
        "magnitude": float(-2.5 * np.log10(np.median(source[good]))) if known else None,
        "scatter": float(np.std(flux[good])) if known else None,
        "point_to_point": _plain(point_to_point(flux[good])),
        "predicted": float(np.median(error[good])) if known else None,
        "beta": float(red.beta) if red is not None else None,
        "excess": float(made.ensemble.excess[own]) if own >= 0 else None,
        "used": bool(made.used[n]),
        "frames": int(good.sum()),
    }


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
