"""What a stack's header says of time, exposure and noise: that of all of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from larun.algorithms.ephemeris import Instant, add_seconds, iso_text, seconds_between
from larun.model.headers import KEYWORDS
from larun.model.time import timing
from larun.model.time.site import Site

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.model.sky import SkyImage
    from larun.model.stacking.laying import Laid
    from larun.model.time.timing import ExposureTime

__all__ = ["heading", "time_of"]

#: Rows of keywords whose cards tell of one exposure alone.
_OF_ONE = ("date", "clock", "julian_date", "mid_time", "end_time", "time_scale", "exposure", "airmass", "gain")
_PLACE = ("longitude", "latitude", "height", "geocentric")


def heading(header: Header, reference: SkyImage, layers: Sequence[Laid]) -> Header:
    """The header of a stack.

    Parameters
    ----------
    header : Header
        Of the reference; it is changed.
    reference : SkyImage
        Whose light, filter and place the stack has.
    layers : sequence of Laid
        The frames in it.

    Returns
    -------
    Header
        ``EXPTIME`` is the exposure whose light the pixels have, that of the reference; ``TEXPTIME`` is the sum over
        all frames. ``DATE-AVG`` is the mean of the middles of the frames with the weights of the stack, ``AIRMASS``
        too; ``DATE-BEG`` and ``DATE-END`` are the first begin and the last end. ``GAIN`` is what makes Poisson noise
        of the stack: electrons that were counted for each of its units. What is not known of all frames is left out.
    """
    table = {name: {*KEYWORDS[name], *_rows(reference).get(name, ())} for name in (*_OF_ONE, *_PLACE)}
    time: ExposureTime | None = getattr(reference, "time", None)
    for name in _OF_ONE if time is None or time.site is None else table:
        for keyword in table[name]:
            header.remove(keyword, ignore_missing=True, remove_all=True)
    cards: list[tuple[str, Any, str]] = [("NCOMBINE", len(layers), "frames in this stack")]
    exposure = getattr(reference, "exposure", None)
    if exposure is not None:
        cards.append(("EXPTIME", exposure, "[s] whose light pixels have: the reference's"))
    times = [one.member.exposure for one in layers]
    if all(value is not None for value in times):
        cards.append(("TEXPTIME", sum(value for value in times if value is not None), "[s] sum over all frames"))
    cards += _times(layers) + _means(layers)
    if time is not None:
        cards += _place(time, header, reference)
    band = getattr(reference, "filter", None)
    if band is not None and not any(str(header.get(name, "")).strip() == band for name in KEYWORDS["filter"][:1]):
        cards.append(("FILTER", band, "of the reference"))
    for keyword, value, comment in cards:
        header[keyword] = (value, comment)
    return header


def _rows(image: SkyImage) -> Mapping[str, tuple[str, ...]]:
    rows = getattr(type(image), "all_keywords", None)
    return {} if rows is None else rows()


def _times(layers: Sequence[Laid]) -> list[tuple[str, Any, str]]:
    """First begin, weighted middle, last end."""
    times = [one.member.time for one in layers]
    middles = [None if time is None else time._mid for time in times]
    first = middles[0]
    if first is None or any(middle is None for middle in middles):
        return []
    away = [seconds_between(first, middle) for middle in middles if middle is not None]
    total = sum(one.weight for one in layers)
    mean = add_seconds(first, sum(one.weight * value for one, value in zip(layers, away, strict=True)) / total)
    cards = [("TIMESYS", "UTC", "time scale")]
    starts = [time._start for time in times if time is not None]
    ends = [time._end for time in times if time is not None]
    if all(start is not None for start in starts):
        begin = iso_text(_extreme(starts, first, latest=False))
        cards += [("DATE-OBS", begin, "begin of the first frame"), ("DATE-BEG", begin, "begin of the first frame")]
    cards.append(("DATE-AVG", iso_text(mean), "mean of the middles, by weight"))
    if all(end is not None for end in ends):
        cards.append(("DATE-END", iso_text(_extreme(ends, first, latest=True)), "end of the last frame"))
    return cards


def _extreme(instants: Sequence[Instant | None], zero: Instant, *, latest: bool) -> Instant:
    known = [instant for instant in instants if instant is not None]
    return (max if latest else min)(known, key=lambda instant: seconds_between(zero, instant))


def _means(layers: Sequence[Laid]) -> list[tuple[str, Any, str]]:
    """Air mass, and electrons that were counted for a unit of the stack."""
    total = sum(one.weight for one in layers)
    counted = 1 / sum((one.weight / total) ** 2 * one.scale for one in layers)
    cards = [("GAIN", counted, "electrons counted for each unit of the stack")]
    masses = [None if one.member.time is None else one.member.time.airmass for one in layers]
    if all(mass is not None for mass in masses):
        mean = sum(one.weight * mass for one, mass in zip(layers, masses, strict=True) if mass is not None) / total
        cards.append(("AIRMASS", round(mean, 6), "mean over the frames, by weight"))
    return cards


def _place(time: ExposureTime, header: Header, reference: SkyImage) -> list[tuple[str, Any, str]]:
    """Where the telescope stands and points, which only the class of the camera may know."""
    cards: list[tuple[str, Any, str]] = []
    if time.site is not None:
        longitude, latitude, height = attrs.astuple(time.site)
        cards += [
            ("OBSGEO-L", longitude, "[deg] longitude, to the east"),
            ("OBSGEO-B", latitude, "[deg] latitude"),
            ("OBSGEO-H", height, "[m] height"),
        ]
    if time.pointing is not None and reference.wcs is None and timing.from_header(header, KEYWORDS).pointing is None:
        cards += [("RA_DEG", time.pointing[0], "[deg] ICRS"), ("DEC_DEG", time.pointing[1], "[deg] ICRS")]
    return cards


def time_of(header: Header, keywords: Mapping[str, tuple[str, ...]], site: Any = None) -> ExposureTime:
    """When the frames of a stack were exposed: begin of the first, weighted middle, end of the last.

    Parameters
    ----------
    header : Header
        From :func:`heading`.
    keywords : mapping
        Of the class.
    site : Site, optional
        Its constant.
    """
    plain = header.copy()
    found = timing.from_header(plain, keywords, None if site is None else Site.of(site))
    for keyword in keywords["exposure"]:  # that of one frame: the stack's middle is not half of it after its begin
        plain.remove(keyword, ignore_missing=True, remove_all=True)
    whole = timing.from_header(plain, keywords, None if site is None else Site.of(site))
    sources = {**whole.sources, "exposure": found.sources.get("exposure", "no card says so")}
    return attrs.evolve(whole, exposure=found.exposure, sources=sources)
