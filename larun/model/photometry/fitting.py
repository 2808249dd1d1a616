"""From catalogues and stars of known magnitude to zero points: one frame, or many together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.sphere import directions
from larun.algorithms.zeropoint import Observations, ZeroPointFit, fit_zero_points, legendre
from larun.errors import CatalogError, OptionError
from larun.model.photometry.choosing import Candidates, Measured, candidates, checked_radius, measured
from larun.model.photometry.known import KnownStars, known_stars, split_color
from larun.model.photometry.options import ZeroPointOptions
from larun.model.photometry.zero_point import ZeroPoint, calibrated, flux_unit, unit_square

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog

__all__ = ["Matched", "Wanted", "fitted", "matched", "near", "paired", "wanted", "year_of"]

_LIKELY = 0.5  # of being right: below, a star is told as an outlier


class Wanted(NamedTuple):
    """What is asked for."""

    band: str
    color: str | None
    magnitude: str
    radius: float | None
    options: ZeroPointOptions

    @property
    def bands(self) -> tuple[str, ...]:
        """All that the reference must have."""
        return tuple(dict.fromkeys((self.band, *(split_color(self.color) or ()))))


class Matched(NamedTuple):
    """A catalogue with its known stars."""

    catalog: SourceCatalog
    here: Measured
    known: KnownStars
    found: Candidates
    added: float  # to the instrumental magnitudes, before the fit
    exposure: float | None
    airmass: float | None


def wanted(band: str, color: str | None, magnitude: str, radius: Any, options: Any) -> Wanted:
    """What is asked for, checked.

    Raises
    ------
    OptionError
        If something makes no sense.
    """
    if not isinstance(band, str) or not band:
        raise OptionError(f"band={band!r}: name a band of the reference")
    split_color(color)
    if options is None:
        chosen = ZeroPointOptions()
    elif isinstance(options, ZeroPointOptions):
        chosen = options
    else:
        try:
            chosen = ZeroPointOptions(**options)
        except TypeError as error:
            raise OptionError(f"options={options!r}: {error}") from error
    return Wanted(band, color, magnitude, checked_radius(radius), chosen)


def matched(catalog: SourceCatalog, reference: Any, wanted: Wanted) -> Matched:
    """Find the known stars of a catalogue.

    Raises
    ------
    CatalogError, OptionError
        As :meth:`larun.SourceCatalog.zero_point`.
    """
    here = measured(catalog.table, wanted.magnitude)
    known = known_stars(reference, wanted.bands, here.ra, here.dec, year_of(catalog))
    radius = candidates(here, known, wanted.band, wanted.radius, wanted.options).radius
    # what the record keeps is what decides: the stars near a source
    return paired(catalog, known.select(near(here, known, radius)), wanted._replace(radius=radius))


def year_of(catalog: SourceCatalog) -> float | None:
    """Julian year of the exposure, where it is known."""
    jd = catalog.meta.get("jd_utc")
    return None if jd is None else 2000.0 + (float(jd) - 2451545.0) / 365.25


def paired(catalog: SourceCatalog, known: KnownStars, wanted: Wanted) -> Matched:
    """A catalogue with stars of which it is known that they are in its field.

    Raises
    ------
    CatalogError
        If it has no magnitudes, or its sources are none of the stars.
    """
    table = catalog.table
    here = measured(table, wanted.magnitude)
    found = candidates(here, known, wanted.band, wanted.radius, wanted.options)
    exposure, airmass = table.meta.get("exposure"), table.meta.get("airmass")
    if wanted.options.extinction is not None and airmass is None:
        raise CatalogError(f"{catalog!r} has no airmass in its meta, so that no extinction can be taken off")
    _require_total(catalog, wanted)
    added = 2.5 * math.log10(exposure) if exposure else 0.0
    added -= (wanted.options.extinction or 0.0) * float(airmass or 0.0)
    return Matched(catalog, here, known, found, added, exposure or None, airmass)


def _require_total(catalog: SourceCatalog, wanted: Wanted) -> None:
    """Refuse a catalogue that counts another aperture as all the light than the one that was asked for."""
    asked = wanted.options.total_radius
    if asked is None:
        return
    if wanted.magnitude != "mag_total":
        raise OptionError(
            f"total_radius={asked:g}: {wanted.magnitude} is of its own aperture, only mag_total is of this"
        )
    radius = catalog.meta.get("aperture_correction_radius")
    if radius is None or not math.isclose(radius, asked, rel_tol=1e-3):
        raise CatalogError(
            f"{catalog!r}: mag_total counts {radius or 0:.2f} pixels as all the light, not total_radius={asked:g}: "
            f"photometer(radii=(…, {asked:g}), unit='pixel') measures so, where three bright stars are alone within it"
        )


def near(here: Measured, known: KnownStars, radius: float) -> NDArray[np.int64]:
    """Rows of the known stars that are within a radius (arcsec) of a source, or beside one."""
    from scipy.spatial import cKDTree

    reach = math.radians((radius + (here.radius + 0.5 * here.fwhm) * here.scale) / 3600)
    sources = directions(here.ra, here.dec)
    tree = cKDTree(sources[np.isfinite(sources).all(axis=1)])
    stars = directions(known.ra, known.dec)
    good = np.flatnonzero(np.isfinite(stars).all(axis=1))
    distance, _ = tree.query(stars[good], distance_upper_bound=2 * math.sin(reach / 2))
    return np.asarray(good[np.isfinite(distance)], np.int64)


class _Rows(NamedTuple):
    """All pairs of all frames, in order, and which of them the fit may use."""

    frame: NDArray[np.int64]
    source: NDArray[np.int64]
    star: NDArray[np.int64]  # the same number for the same star in any frame
    reason: NDArray[np.str_]
    difference: NDArray[np.float64]
    own: NDArray[np.float64]
    known: NDArray[np.float64]
    color: NDArray[np.float64]
    color_variance: NDArray[np.float64]
    color_covariance: NDArray[np.float64]
    terms: NDArray[np.float64]


def fitted(frames: Sequence[Matched], wanted: Wanted, instruments: Sequence[int]) -> list[ZeroPoint]:
    """Zero points of frames, fitted together.

    Parameters
    ----------
    frames : sequence of Matched
        In an order that does not depend on how they were given.
    wanted : Wanted
        What is asked for.
    instruments : sequence of int
        Number of the instrument of each frame, from 0.

    Raises
    ------
    CatalogError
        If too few stars are fit for use.
    """
    extents = [_extent(frame.here) for frame in frames]
    rows = _rows(frames, wanted, extents)
    pivot = _pivot(rows, wanted)
    used = rows.reason == ""
    for number, frame in enumerate(frames):
        _require(frame, rows.reason[rows.frame == number], wanted)
    try:
        fit = fit_zero_points(
            Observations(
                difference=rows.difference[used],
                variance=rows.own[used],
                star_variance=rows.known[used],
                star=rows.star[used],
                frame=rows.frame[used],
                instrument=np.asarray(instruments, np.int64)[rows.frame[used]],
                color=None if pivot is None else rows.color[used] - pivot,
                color_variance=rows.color_variance[used],
                color_covariance=rows.color_covariance[used],
                terms=rows.terms[used],
            )
        )
    except OptionError as error:
        raise CatalogError(f"{wanted.band}: {error}") from error
    sigma, weight = np.full(len(used), np.nan), np.zeros(len(used))
    sigma[used], weight[used] = fit.sigma, fit.weight
    rows.reason[used & (weight < _LIKELY)] = "outlier"
    made = []
    for number, frame in enumerate(frames):
        about = _numbers(fit, number, instruments[number], len(frames), pivot)
        mine = np.flatnonzero(rows.frame == number)
        model = np.full(len(mine), about["value"])
        for column, value in zip(rows.terms[mine].T, about["terms"], strict=True):
            model = model + column * value
        if pivot is not None:
            model = model + about["color_term"] * (rows.color[mine] - pivot)
        stars = _stars(frame, rows, mine, (rows.difference[mine] - model, sigma[mine], weight[mine]), wanted)
        made.append(_zero_point(frame, wanted, about, stars, extents[number]))
    return made


def _extent(here: Measured) -> tuple[float, float, float, float]:
    x, y = here.x[np.isfinite(here.x)], here.y[np.isfinite(here.y)]
    return float(x.min()), float(max(x.max(), x.min() + 1)), float(y.min()), float(max(y.max(), y.min() + 1))


def _rows(frames: Sequence[Matched], wanted: Wanted, extents: Sequence[Any]) -> _Rows:
    color = split_color(wanted.color)
    parts: list[list[NDArray[Any]]] = []
    for number, (frame, extent) in enumerate(zip(frames, extents, strict=True)):
        mine, its = frame.found.pairs.first, frame.found.pairs.second
        known, reason = frame.known, frame.found.reason.copy()
        none = np.zeros(len(mine))
        tint, variance, covariance = none, none, none
        if color is not None:
            one, two = color
            tint = known.magnitudes[one][its] - known.magnitudes[two][its]
            first, second = known.errors[one][its] ** 2, known.errors[two][its] ** 2
            variance = first + second
            covariance = first if one == wanted.band else -second if two == wanted.band else none
            reason[(reason == "") & ~np.isfinite(tint)] = "no colour"
        places = unit_square(frame.catalog.table[mine], extent)
        parts.append(
            [
                np.full(len(mine), number),
                mine,
                np.stack([known.ra[its], known.dec[its]], axis=1),
                reason,
                known.magnitudes[wanted.band][its] - frame.here.magnitude[mine] - frame.added,
                frame.here.error[mine] ** 2,
                known.errors[wanted.band][its] ** 2,
                tint,
                variance,
                covariance,
                legendre(*places, wanted.options.degree),
            ]
        )
    joined = [np.concatenate([part[index] for part in parts]) for index in range(len(parts[0]))]
    # the same star in frames of different years has moved: as one is taken what lies within half an arcsecond
    joined[2] = _same_stars(joined[2], len(frames))
    return _Rows(*joined)


def _same_stars(places: NDArray[np.float64], frames: int) -> NDArray[np.int64]:
    if frames == 1:
        return np.arange(len(places))
    from scipy.spatial import cKDTree

    points = directions(places[:, 0], places[:, 1])
    near = cKDTree(points).query_ball_point(points, math.radians(0.5 / 3600))
    return np.array([min(group) for group in near], np.int64)


def _pivot(rows: _Rows, wanted: Wanted) -> float | None:
    if wanted.color is None:
        return None
    colors = rows.color[rows.reason == ""]
    if wanted.options.pivot is not None or not len(colors):
        return wanted.options.pivot or 0.0
    return round(float(np.median(colors)), 1)


def _require(frame: Matched, reason: NDArray[np.str_], wanted: Wanted) -> None:
    good = int(np.count_nonzero(reason == ""))
    least = 2 if wanted.color is None and not wanted.options.degree else 5
    if good >= least:
        return
    refused = [str(item) for item in reason if item]
    counts = ", ".join(f"{name} {refused.count(name)}" for name in dict.fromkeys(refused)) or "none refused"
    raise CatalogError(
        f"{frame.catalog!r}: {good} of {len(reason)} matched stars of {frame.known.about['name']} are fit for a zero "
        f"point in {wanted.band}, at least {least} are needed ({counts})"
    )


def _numbers(fit: ZeroPointFit, frame: int, instrument: int, frames: int, pivot: float | None) -> dict[str, Any]:
    coefficients = fit.coefficients[instrument] if fit.coefficients.size else np.zeros(0)
    first = frames + instrument * len(coefficients)
    made: dict[str, Any] = {
        "value": float(fit.zero_point[frame]),
        "error": math.sqrt(fit.covariance[frame, frame]),
        "scatter": fit.scatter,
        "scatter_error": fit.scatter_error,
        "terms": tuple(float(value) for value in coefficients[0 if pivot is None else 1 :]),
    }
    if pivot is not None:
        made |= {
            "pivot": pivot,
            "color_term": float(coefficients[0]),
            "color_term_error": math.sqrt(fit.covariance[first, first]),
            "covariance": float(fit.covariance[frame, first]),
        }
    return made


def _stars(
    frame: Matched, rows: _Rows, mine: NDArray[np.int64], judged: tuple[NDArray[np.float64], ...], wanted: Wanted
) -> QTable:
    from astropy.table import QTable
    from astropy.units import Quantity

    source, its = rows.source[mine], frame.found.pairs.second
    table = frame.catalog.table
    residual, sigma, weight = judged
    made = QTable()
    if "id" in table.colnames:
        made["id"] = np.asarray(table["id"])[source]
    for name in ("x", "y", "ra", "dec"):
        made[name] = table[name][source]
    reference = frame.known
    made["reference"] = Quantity(reference.magnitudes[wanted.band][its], "mag")
    made["reference_error"] = Quantity(reference.errors[wanted.band][its], "mag")
    made["instrumental"] = Quantity(frame.here.magnitude[source], "mag")
    made["instrumental_error"] = Quantity(frame.here.error[source], "mag")
    if wanted.color is not None:
        made["color"] = Quantity(rows.color[mine], "mag")
    made["separation"] = Quantity(2 * np.degrees(np.arcsin(frame.found.pairs.distance / 2)) * 3600, "arcsec")
    made["residual"] = Quantity(residual, "mag")
    made["sigma"] = Quantity(sigma, "mag")
    made["weight"] = weight
    made["used"] = rows.reason[mine] == ""
    made["reason"] = rows.reason[mine]
    return made


def _zero_point(
    frame: Matched, wanted: Wanted, about: dict[str, Any], stars: QTable, extent: tuple[float, float, float, float]
) -> ZeroPoint:
    meta = frame.catalog.meta
    total = wanted.magnitude == "mag_total"
    unit = flux_unit(frame.catalog.table)
    correction = meta.get("aperture_correction_error")
    made = ZeroPoint(
        band=wanted.band,
        system=frame.known.about["systems"].get(wanted.band),
        unit=f"{unit} / s" if frame.exposure else unit,
        color=wanted.color,
        exposure=frame.exposure,
        airmass=frame.airmass,
        extinction=wanted.options.extinction,
        aperture_correction_error=correction[0] if total and correction else None,
        basis={
            "magnitude": wanted.magnitude,
            "aperture_radius": meta.get("aperture_correction_radius") if total else None,
            "extent": extent if about["terms"] else None,
            "reference": str(frame.known.about["name"]),
            "radius": frame.found.radius,
        },
        stars=stars,
        catalog=frame.catalog,
        **about,
    )
    table = calibrated(frame.catalog.table, made.to_dict(), None)
    return made._calibrated(frame.catalog._replace(table=table))
