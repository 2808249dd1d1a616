"""From an image and a reference to a projection: stars found, a field searched for, the fit, and what is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.skymatch import FieldSolution, find_field, refine_field, started
from larun.algorithms.skyplane import sip_cards
from larun.errors import NotSolved, OptionError
from larun.model.astrometry.common import Sources, Stars, around, half_diagonal, places, sources_of
from larun.model.astrometry.hints import Hints, hints_of, year_of
from larun.model.astrometry.options import SolveOptions
from larun.model.reference.opening import reference_stars
from larun.model.reference.stars import ReferenceCatalog, ReferenceStars

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.model.sky import SkyImage

__all__ = ["ENGINES", "Solved", "options_from", "solve"]

ENGINES = ("larun", "astrometry.net")

_AROUND = 0.5  # degrees by which a pointing may be off where nobody says more
_FREE = 6.0  # factor by which a scale may be off that is not right
_WIDEST = 60.0  # degrees of a reference that is searched as a whole
_FEWEST = 8  # stars of the reference that must be in the frame at the finest scale
_BLIND = (0.05, 120.0)  # arcseconds a pixel


class Solved(NamedTuple):
    """The WCS cards of a solution, the parameters that decide it, and what was fitted."""

    cards: Header
    parameters: dict[str, Any]
    fitted: dict[str, Any]


def options_from(given: Any) -> SolveOptions:
    """Options as they are, from a mapping, or the defaults.

    Raises
    ------
    OptionError
        If there is no such option.
    """
    if isinstance(given, SolveOptions):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise OptionError(f"options={given!r}: must be SolveOptions or a mapping of its options")
    try:
        return SolveOptions(**(given or {}))
    except TypeError as error:
        raise OptionError(f"options={given!r}: {error}") from error


def solve(
    image: SkyImage,
    reference: Any,
    hints: tuple[Any, Any, Any],
    order: int | None,
    engine: str,
    options: SolveOptions,
) -> Solved:
    """See :meth:`larun.SkyImage.solve`; ``hints`` are pointing, radius and scale."""
    if engine not in ENGINES:
        raise OptionError(f"engine={engine!r}: use {' or '.join(ENGINES)}")
    if order is not None and (isinstance(order, bool) or order not in range(1, 9)):
        raise OptionError(f"order={order!r}: must be a whole number from 1 to 8, or None")
    recorded = isinstance(reference, Mapping) and "start" in reference
    known = None if recorded else hints_of(image, hints[0], hints[2])
    radius = _radius(hints[1])
    sources = sources_of(image, options)
    if recorded:
        found = Stars.from_record(reference)
    elif engine == "larun":
        assert known is not None
        found = _searched(image, sources, reference, known, radius, options)
    else:
        from larun.model.astrometry.program import solve_field

        assert known is not None
        found = solve_field(image, sources, reference, known, radius, options)
    ra, dec = places(found.stars)
    made = refine_field(
        sources.xy,
        ra,
        dec,
        found.start,
        shape=image.shape,
        order=order,
        weight=sources.weight,
        options=options.field(),
    )
    if made is None:
        raise NotSolved(
            f"{image!r}: a field was found at {found.start.centre[0]:.4f} {found.start.centre[1]:+.4f}, but too few of "
            f"{len(sources.xy)} sources and {len(found.stars)} stars of {found.stars.name} agree with any projection"
        )
    return _recorded(image, sources, found, made, options)


def _recorded(image: SkyImage, sources: Sources, found: Stars, made: FieldSolution, options: SolveOptions) -> Solved:
    from astropy.io import fits

    xy, residual = sources.xy[made.first], made.residual
    fitted = {
        "rms": [float(value) for value in made.rms],
        "log_odds": found.log_odds,
        "tried": found.tried,
        "scale": made.scale,
        "parity": made.parity,
        "rotation": made.rotation,
        "order": made.plane.degree,
        "center": list(made.centre),
        "x": xy[:, 0],
        "y": xy[:, 1],
        "dx": residual[:, 0],
        "dy": residual[:, 1],
        "star": made.second,
        "used": made.kept.astype(np.uint8),
    }
    cards = fits.Header()
    for keyword, value in sip_cards(made.plane, made.centre, made.about, image.shape).items():
        # as a file will hold it: a card has room for some 15 digits
        cards[keyword] = fits.Card.fromstring(fits.Card(keyword, value).image).value
    return Solved(cards, {"reference": found.to_record(), "options": options}, fitted)


def _radius(radius: Any) -> float | None:
    if radius is None:
        return None
    value = radius.to_value("deg") if hasattr(radius, "to_value") else radius
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating) or not 0 < value <= 180:
        raise OptionError(f"radius={radius!r}: must be degrees above 0")
    return float(value)


def _searched(
    image: SkyImage, sources: Sources, reference: Any, known: Hints, radius: float | None, options: SolveOptions
) -> Stars:
    catalog = ReferenceCatalog.open(reference)
    pointing, reach = known.pointing, radius
    if pointing is None:
        pointing, reach = _whole(catalog, known)
    elif reach is None:
        reach = _AROUND + half_diagonal(image, known.scales[0][1] if known.scales else 1.0)
    assert reach is not None
    stars = reference_stars(catalog, *pointing, reach, year_of(image))
    bright = _brightest(stars, image, options.band)
    ra, dec = (values[bright] for values in places(stars))
    tried, best, ranges = 0, -math.inf, _ranges(image, known, reach, len(stars))
    field = options.field()
    for scale in ranges:
        if len(ra) < 5:
            break
        found = find_field(sources.xy, ra, dec, shape=image.shape, centre=pointing, scale=scale, options=field)
        tried, best = tried + found.tried, max(best, found.best)
        begun = started(sources.xy, ra, dec, found, shape=image.shape, options=field)
        if begun is not None:
            kept = around(stars, begun, image)
            return Stars(kept, begun, found.best, tried)
    said = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in ranges)
    raise NotSolved(
        f"{image!r}: no solution: {len(sources.xy)} sources in the image, {len(stars)} stars of {catalog.name} within "
        f"{reach:.3g}° of {pointing[0]:.4f} {pointing[1]:+.4f} ({known.said}); scales of {said or 'any'} arcsec a "
        f"pixel; {tried} guesses, log-odds {_told(best)} at best, {options.log_odds:g} are needed. A right pointing=…, "
        "a larger radius=…, another scale=… or a reference that covers the field may help"
    )


def _told(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "none"


def _whole(catalog: ReferenceCatalog, known: Hints) -> tuple[tuple[float, float], float]:
    """Middle and radius of all of a reference that is in memory."""
    from larun.algorithms.sphere import enclosing_circle

    if not isinstance(catalog, ReferenceStars):
        raise NotSolved(f"{catalog.name}: {known.said}: give pointing=(ra, dec) in degrees")
    if not len(catalog):
        raise NotSolved(f"{catalog.name} has no stars")
    circle = enclosing_circle(*places(catalog))
    if circle.radius > _WIDEST:
        raise NotSolved(f"{known.said}; {catalog.name} spans more than {_WIDEST:g}°: give pointing=(ra, dec)")
    return (circle.ra, circle.dec), circle.radius


def _ranges(image: SkyImage, known: Hints, reach: float, stars: int) -> list[tuple[float, float]]:
    """Ranges of scale to try: what is said, then wider around it; or all that the reference can tell."""
    made = list(known.scales)
    if made and not known.scale_given:
        middle = math.sqrt(made[0][0] * made[0][1])
        made.append((middle / _FREE, middle * _FREE))
    if not made:
        pixels = image.shape[0] * image.shape[1]
        density = stars / (math.pi * (reach * 3600) ** 2)
        finest = math.sqrt(_FEWEST / max(density * pixels, 1e-300))
        coarsest = 4 * reach * 3600 / math.hypot(*image.shape)
        low, high = max(finest, _BLIND[0]), min(coarsest, _BLIND[1])
        made = [(low, high)] if low < high else []
    return made


def _brightest(stars: ReferenceStars, image: SkyImage, band: str | None) -> NDArray[np.int64]:
    """Rows by rising magnitude."""
    bands = stars.bands
    if band is not None and band not in bands:
        raise OptionError(f"band={band!r}: {stars.name} has {', '.join(bands) or 'none'}")
    if not bands or not len(stars):
        return np.arange(len(stars))
    magnitudes = {name: np.asarray(stars[f"mag_{name}"].value, np.float64) for name in bands}
    if band is None:
        mine = str(getattr(image, "filter", None) or "").strip()
        same = [name for name in bands if mine and name.lower() == mine.lower()]
        known = {name: int(np.isfinite(values).sum()) for name, values in magnitudes.items()}
        band = same[0] if same else max(bands, key=lambda name: known[name])
    return np.argsort(magnitudes[band], kind="stable")  # NaN last
