"""Which sources are stars of known magnitude, and which of these a zero point may rest on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.sphere import directions
from larun.errors import CatalogError, OptionError
from larun.model.measure.matching import Pairs, nearest_pairs
from larun.model.photometry.known import KnownStars
from larun.model.photometry.options import ZeroPointOptions

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["Candidates", "Measured", "candidates", "checked_radius", "error_of", "measured"]

_NEAR_LIMIT = 0.9  # of the highest peak of a saturated source: trails and neighbours of such are flagged too, and lower
_ARCSEC = math.radians(1 / 3600)


class Measured(NamedTuple):
    """What a catalogue says of its sources, as plain arrays, and of itself."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    error: NDArray[np.float64]
    flags: NDArray[np.uint32]
    inside: NDArray[np.bool_]
    peak: NDArray[np.float64]
    radius: float  # px of the aperture
    fwhm: float
    scale: float  # arcsec per px


class Candidates(NamedTuple):
    """Pairs of a source and a known star, and why one may not be used ("" where it may)."""

    pairs: Pairs
    reason: NDArray[np.str_]
    radius: float


def measured(table: QTable, magnitude: str) -> Measured:
    """The columns that a zero point needs.

    Raises
    ------
    CatalogError
        If there is no photometry or no sky coordinates.
    """
    error = error_of(magnitude)
    missing = [name for name in (magnitude, error) if name not in table.colnames]
    if missing:
        raise CatalogError(f"no column {' or '.join(missing)}: catalog.photometer() measures magnitudes first")
    if "ra" not in table.colnames:
        raise CatalogError("the sources have no ra and dec: the image needs a WCS that can be trusted")

    def plain(name: str, otherwise: float = math.nan) -> NDArray[np.float64]:
        if name not in table.colnames:
            return np.full(len(table), otherwise)
        return np.asarray(getattr(table[name], "value", table[name]), np.float64)

    number = "1" if magnitude == "mag_total" else magnitude.rpartition("_")[2]
    bits = np.asarray(table["flags"], np.uint32) if "flags" in table.colnames else np.zeros(len(table), np.uint32)
    if f"aperture_flags_{number}" in table.colnames:
        bits = bits | np.asarray(table[f"aperture_flags_{number}"], np.uint32)
    radii, fwhm = table.meta.get("aperture_radii", []), float(table.meta.get("fwhm", 0.0))
    radius = float(radii[int(number) - 1]) if number.isdigit() and int(number) <= len(radii) else 2 * fwhm
    x, y, ra, dec = (plain(name) for name in ("x", "y", "ra", "dec"))
    inside = plain(f"area_fraction_{number}", 1.0) > 0.9999
    peak = plain("peak")
    scale = _scale(x, y, ra, dec)
    return Measured(x, y, ra, dec, plain(magnitude), plain(error), bits, inside, peak, radius, fwhm, scale)


def error_of(magnitude: str) -> str:
    """The column of the errors of a column of magnitudes."""
    head, _, tail = magnitude.rpartition("_")
    return f"{head}_error_{tail}" if tail.isdigit() else f"{magnitude}_error"


def _scale(x: NDArray[np.float64], y: NDArray[np.float64], ra: NDArray[np.float64], dec: NDArray[np.float64]) -> float:
    """Arcseconds per pixel, from the distances of sources on the sky and in the image."""
    good = np.isfinite(x + y + ra + dec)
    if np.count_nonzero(good) < 2:
        raise CatalogError(f"{np.count_nonzero(good)} sources with sky coordinates: no zero point without stars")
    pixels = np.hypot(np.diff(x[good]), np.diff(y[good]))
    chord = np.sqrt((np.diff(directions(ra[good], dec[good]), axis=0) ** 2).sum(axis=1))
    far = pixels > 0
    return float(np.median(chord[far] / pixels[far])) / _ARCSEC


def candidates(
    here: Measured, known: KnownStars, band: str, radius: float | None, options: ZeroPointOptions
) -> Candidates:
    """Match sources with known stars, and judge them.

    Parameters
    ----------
    here : Measured
        The sources.
    known : KnownStars
        The stars.
    band : str
        Whose magnitudes count.
    radius : float or None
        Arcseconds within which a source is a star; None to find it from the pairs: six times the scatter of one
        coordinate, at least a quarter of the FWHM.
    options : ZeroPointOptions
        What makes a star unfit.

    Raises
    ------
    CatalogError
        If fewer than two sources are known stars.
    """
    ours, theirs = directions(here.ra, here.dec), directions(known.ra, known.dec)
    widest = max(2 * here.fwhm, 3.0) * here.scale
    pairs = nearest_pairs(ours, theirs, (widest if radius is None else radius) * _ARCSEC)
    if radius is None and len(pairs.first) >= 3:
        bright = pairs.first[np.argsort(here.magnitude[pairs.first], kind="stable")][: max(len(pairs.first) // 2, 3)]
        spread = float(np.median(pairs.distance[np.isin(pairs.first, bright)])) / _ARCSEC / 1.1774
        radius = min(max(6 * spread, 0.25 * here.fwhm * here.scale), widest)
        near = pairs.distance <= radius * _ARCSEC
        pairs = Pairs(pairs.first[near], pairs.second[near], pairs.distance[near])
    radius = widest if radius is None else radius
    if len(pairs.first) < 2:
        raise CatalogError(
            f"{len(pairs.first)} of {len(here.x)} sources lie within {radius:.2f} arcsec of one of the {len(known.ra)} "
            f"stars of {known.about['name']} in the field: see whether the WCS is right (frame.solve), or give radius"
        )
    reason = np.full(len(pairs.first), "", dtype="U16")
    for name, mask in _faults(here, known, pairs, band, options):
        reason[(reason == "") & mask] = name
    return Candidates(pairs, reason, radius)


def _faults(
    here: Measured, known: KnownStars, pairs: Pairs, band: str, options: ZeroPointOptions
) -> list[tuple[str, NDArray[np.bool_]]]:
    """What may be wrong with a pair; the first that applies is told."""
    mine, its = pairs.first, pairs.second
    bits, magnitude = here.flags[mine], known.magnitudes[band][its]
    full = (here.flags & (fl.SATURATED | fl.NONLINEAR)) != 0
    limit = _NEAR_LIMIT * float(np.nanmax(here.peak[full])) if np.isfinite(here.peak[full]).any() else math.inf
    with np.errstate(invalid="ignore"):
        low = np.zeros(len(mine), bool) if options.faintest is None else magnitude > options.faintest
        high = np.zeros(len(mine), bool) if options.brightest is None else magnitude < options.brightest
        weak = ~(here.error[mine] * options.snr < 2.5 / math.log(10))
        near = here.peak[mine] > limit
    return [
        ("saturated", (bits & fl.SATURATED) != 0),
        ("nonlinear", (bits & fl.NONLINEAR) != 0),
        ("edge", ((bits & (fl.EDGE | fl.NO_DATA)) != 0) | ~here.inside[mine]),
        ("bad pixels", (bits & fl.UNUSABLE) != 0),
        ("near saturation", near),
        ("no magnitude", ~np.isfinite(here.magnitude[mine] + here.error[mine]) | ~np.isfinite(magnitude)),
        ("variable", known.variable[its]),
        ("extended", known.extended[its]),
        ("too bright", high),
        ("too faint", low | weak),
        ("blended", _blended(here, options.contamination)[mine] | _blended_there(here, known, band, options)[its]),
    ]


def _blended(here: Measured, contamination: float) -> NDArray[np.bool_]:
    """Sources with a neighbour in the image whose light their aperture takes in."""
    places = np.column_stack([here.x, here.y])
    return _crowded(places, here.magnitude, here.radius + 0.5 * here.fwhm, contamination)


def _blended_there(here: Measured, known: KnownStars, band: str, options: ZeroPointOptions) -> NDArray[np.bool_]:
    """Known stars with a known neighbour that the image may not tell from them."""
    reach = (here.radius + 0.5 * here.fwhm) * here.scale * _ARCSEC
    return _crowded(directions(known.ra, known.dec), known.magnitudes[band], reach, options.contamination)


def _crowded(
    places: NDArray[np.float64], magnitude: NDArray[np.float64], reach: float, contamination: float
) -> NDArray[np.bool_]:
    from scipy.spatial import cKDTree

    made = np.zeros(len(places), bool)
    good = np.flatnonzero(np.isfinite(places).all(axis=1) & np.isfinite(magnitude))
    if len(good) < 2 or not reach > 0:
        return made
    pairs = cKDTree(places[good]).query_pairs(reach, output_type="ndarray")
    one, two = good[pairs[:, 0]], good[pairs[:, 1]]
    fainter = -2.5 * math.log10(contamination)
    made[one[magnitude[two] < magnitude[one] + fainter]] = True
    made[two[magnitude[one] < magnitude[two] + fainter]] = True
    return made


def checked_radius(radius: Any) -> float | None:
    """Arcseconds from a number or an angle.

    Raises
    ------
    OptionError
        If it is neither, or not above 0.
    """
    if radius is None:
        return None
    try:
        value = float(radius.to_value("arcsec")) if hasattr(radius, "to_value") else float(radius)
    except Exception as error:  # astropy raises several kinds
        raise OptionError(f"radius={radius!r}: give arcseconds, or an angle") from error
    if not 0 < value < 3600:
        raise OptionError(f"radius={radius!r}: must be above 0 and below a degree")
    return value
