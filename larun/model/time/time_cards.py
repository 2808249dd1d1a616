"""When an exposure was taken, from the cards of its header.

Nothing here fails: what is missing or impossible is left out with the reason, and what contradicts itself is doubted.
Which keywords are looked at is data, the rows of :data:`larun.model.headers.KEYWORDS` and of a camera.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from larun.algorithms.ephemeris import (
    Instant,
    add_seconds,
    from_calendar,
    from_julian_date,
    seconds_between,
)
from larun.errors import HeaderError
from larun.io.dates import Stamp, parse_stamp
from larun.io.headers import get_number, get_text
from larun.model.time.card_notes import Keywords, Notes, comment_of, is_given

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Instants", "find_instants"]

#: Seconds by which two cards may disagree: many headers round a Julian date to its fifth digit.
_AGREE = 2.0
_DAY = 86400.0
#: No exposure takes a year.
_LONGEST = 365.25 * _DAY
_SCALES = {
    "": "utc",
    "UTC": "utc",
    "UT": "utc",
    "UT1": "utc",
    "GMT": "utc",
    "TAI": "tai",
    "IAT": "tai",
    "TT": "tt",
    "TDT": "tt",
    "ET": "tt",
    "TDB": "tdb",
    "GPS": "gps",
}


class Instants(NamedTuple):
    """Begin, middle and end of an exposure, and its length in seconds; None where not known."""

    start: Instant | None
    mid: Instant | None
    end: Instant | None
    exposure: float | None


class _Found(NamedTuple):
    instant: Instant
    source: str
    given: bool
    is_mid: bool = False
    combined: bool = False


def find_instants(header: Header, keywords: Keywords, notes: Notes) -> Instants:
    """Begin, middle and end.

    A card for the middle goes first where there is one, then the begin and half the exposure; the end is begin and
    exposure, since cards for the end often count the readout. What the caller gave goes before all.
    """
    scale = _time_scale(header, keywords, notes)
    exposure = _exposure(header, keywords, notes)
    begin = _begin(header, keywords, scale, notes)
    if begin is not None and begin.is_mid:
        middle: _Found | None = begin
        begin = None
    else:
        middle = _one_of(header, "mid_time", keywords, scale, begin, notes)
    finish = _one_of(header, "end_time", keywords, scale, begin, notes)
    if middle is None:
        notes.doubts += notes.problems.get("mid", ())
    if middle is not None and begin is not None and begin.given and not middle.given:
        middle = None
    start = None if begin is None else begin.instant
    end = None if finish is None else finish.instant
    if start is not None and begin is not None:
        notes.sources["start"] = begin.source
    else:
        notes.missing("start", (*keywords["date"], *keywords["julian_date"]))
    if end is not None and finish is not None:
        notes.sources["end"] = finish.source
    else:
        notes.missing("end", keywords["end_time"])
    if middle is not None:
        notes.sources["mid"] = middle.source
        return _around(middle, start, end, exposure, notes)
    return _from_begin(start, end, exposure, keywords, notes)


def _around(
    middle: _Found, start: Instant | None, end: Instant | None, exposure: float | None, notes: Notes
) -> Instants:
    """A card tells the middle: it decides, and begin and end follow where they contradict it."""
    mid, source = middle.instant, middle.source
    if exposure is None:
        return Instants(start, mid, end, None)
    if start is not None:
        off = seconds_between(mid, add_seconds(start, exposure / 2))
        if abs(off) > _AGREE:
            notes.doubts.append(
                f"{source} is used; {notes.sources['start']} and half the exposure are {off:+.1f} s off"
            )
            start = None
    if start is None:
        start = add_seconds(mid, -exposure / 2)
        notes.sources["start"] = f"half the exposure before {source}"
    _compare_end(start, end, exposure, notes)
    notes.sources["end"] = "start and exposure"
    return Instants(start, mid, add_seconds(start, exposure), exposure)


def _from_begin(
    start: Instant | None, end: Instant | None, exposure: float | None, keywords: Keywords, notes: Notes
) -> Instants:
    if start is None and end is not None and exposure is not None:
        start = add_seconds(end, -exposure)
        notes.sources["start"] = f"the exposure before {notes.sources['end']}"
    if start is None:
        notes.sources["mid"] = notes.sources["start"]
        return Instants(None, None, end, exposure)
    if exposure is not None:
        _compare_end(start, end, exposure, notes)
        notes.sources["mid"] = f"{notes.sources['start']} and half of {notes.sources['exposure']}"
        notes.sources["end"] = "start and exposure"
        return Instants(start, add_seconds(start, exposure / 2), add_seconds(start, exposure), exposure)
    if end is not None and seconds_between(start, end) >= 0:
        notes.sources["mid"] = f"halfway between {notes.sources['start']} and {notes.sources['end']}"
        return Instants(start, add_seconds(start, seconds_between(start, end) / 2), end, None)
    notes.sources["mid"] = f"{notes.sources['start']}, but the exposure time is missing: {notes.sources['exposure']}"
    return Instants(start, None, None, None)


def _compare_end(start: Instant, end: Instant | None, exposure: float, notes: Notes) -> None:
    if end is None:
        return
    off = seconds_between(start, end) - exposure
    if abs(off) > _AGREE + 0.02 * exposure:
        notes.doubts.append(
            f"{notes.sources['end']} is {off:+.1f} s off begin and exposure: the end is not taken from it"
        )


def _time_scale(header: Header, keywords: Keywords, notes: Notes) -> str:
    text, keyword = get_text(header, keywords["time_scale"])
    name = re.sub(r"\(.*", "", text or "").strip().upper()
    if name not in _SCALES:
        notes.doubts.append(f"{keyword} = {text!r} is no time scale that is known: UTC is assumed")
        return "utc"
    if name == "UT1":
        notes.doubts.append(f"{keyword} = {text!r} is taken for UTC, within 0.9 s")
    notes.sources["scale"] = f"{keyword} = {text!r}" if keyword else "UTC, as nothing is said"
    return _SCALES[name]


def _scale_of(keyword: str, scale: str) -> str:
    """Keywords that name a scale mean it, whatever TIMESYS says of the others."""
    if keyword.startswith("UT") or keyword.endswith(("-UTC", "_UTC")):
        return "utc"
    if keyword.startswith("TAI") or keyword.endswith(("-TAI", "_TAI")):
        return "tai"
    return scale


def _exposure(header: Header, keywords: Keywords, notes: Notes) -> float | None:
    from larun.model.headers import exposure_seconds

    value, keyword = exposure_seconds(header, keywords["exposure"])
    if value is not None and 0 <= value < _LONGEST:
        notes.sources["exposure"] = f"{keyword} = {header[keyword]!r}"
        return float(value)
    if keyword is not None:
        notes.problem("exposure", f"{keyword} = {header[keyword]!r}: is no time of exposure in seconds")
    notes.missing("exposure", keywords["exposure"])
    return None


def _begin(header: Header, keywords: Keywords, scale: str, notes: Notes) -> _Found | None:
    """The begin by date and time of day or by a Julian date, and whether they agree."""
    civil = _civil(header, keywords, scale, notes)
    julian = _julian_row(header, "julian_date", keywords, scale, notes)
    used = civil or julian
    if used is not None:
        notes.doubts += [f"{used.source} is used; {problem}" for problem in notes.problems.get("start", ())]
    if civil is None or julian is None or civil.is_mid != julian.is_mid:
        return civil or julian
    off = seconds_between(civil.instant, julian.instant)
    if abs(off) <= _AGREE:
        return civil
    days = round(off / _DAY)
    night = civil.combined and days != 0 and abs(off - days * _DAY) <= _AGREE
    first, second = (julian, civil) if (julian.given and not civil.given) or night else (civil, julian)
    why = ": the date is that of the night" if night else ""
    notes.doubts.append(
        f"{first.source} is used; {second.source} is {off * (1 if first is civil else -1):+.1f} s off{why}"
    )
    return first


def _civil(header: Header, keywords: Keywords, scale: str, notes: Notes) -> _Found | None:
    """A card with date and time, else a date and the time of day of another card."""
    day, day_keyword = None, ""
    for keyword, text, stamp in _stamps(header, keywords["date"], "start", notes):
        if stamp.date is not None and stamp.seconds is not None:
            return _whole(header, keyword, text, stamp, scale, notes)
        if stamp.date is not None and day is None:
            day, day_keyword = stamp, keyword
    if day is None or day.date is None:
        return None
    said = f"{day_keyword} = {header[day_keyword]!r}"
    for keyword, text, stamp in _stamps(header, keywords["clock"], "start", notes):
        if stamp.date is not None and stamp.seconds is not None:
            return _whole(header, keyword, text, stamp, scale, notes)
        if stamp.seconds is not None:
            if day.doubt:
                notes.doubts.append(day.doubt)
            instant = from_calendar(day.date, stamp.seconds, "utc" if stamp.utc else _scale_of(keyword, scale))
            return _Found(instant, f"{said}, {keyword} = {text!r}", is_given(header, day_keyword), combined=True)
    notes.problem("start", f"{said} has a date only, and none of {', '.join(keywords['clock'])} says the time")
    return None


def _whole(header: Header, keyword: str, text: str, stamp: Stamp, scale: str, notes: Notes) -> _Found:
    assert stamp.date is not None
    assert stamp.seconds is not None
    if stamp.doubt:
        notes.doubts.append(stamp.doubt)
    instant = from_calendar(stamp.date, stamp.seconds, "utc" if stamp.utc else _scale_of(keyword, scale))
    return _Found(instant, f"{keyword} = {text!r}", is_given(header, keyword), _says_middle(header, keyword))


def _stamps(header: Header, row: Iterable[str], quantity: str, notes: Notes) -> Iterable[tuple[str, str, Stamp]]:
    """The cards of a row that can be read as a date or a time."""
    for keyword in row:
        text = get_text(header, (keyword,)).value
        if text is None:
            continue
        try:
            yield keyword, text, parse_stamp(text)
        except HeaderError as error:
            notes.problem(quantity, f"{keyword} = {text!r} {error}")


def _says_middle(header: Header, keyword: str) -> bool:
    comment = comment_of(header, keyword).lower()
    return bool(re.search(r"\bmid(dle|point|-|\b)", comment)) and "night" not in comment


def _julian(header: Header, keyword: str, scale: str, quantity: str, notes: Notes) -> _Found | None:
    """A Julian date, or a modified one: their sizes tell them apart."""
    number = get_number(header, (keyword,)).value
    if number is None:
        return None
    said = f"{keyword} = {header[keyword]!r}"
    if 2.4e6 < number < 2.6e6:
        whole = float(int(number))
        pair = (whole, number - whole)
    elif 1.0e4 < number < 2.0e5:
        if number == int(number):
            notes.problem(quantity, f"{said} has no time of day")
            return None
        pair = (2400000.5, number)
    else:
        notes.problem(quantity, f"{said} is no Julian date, modified or not")
        return None
    instant = from_julian_date(*pair, _scale_of(keyword, scale))
    return _Found(instant, said, is_given(header, keyword), _says_middle(header, keyword))


def _julian_row(header: Header, row: str, keywords: Keywords, scale: str, notes: Notes) -> _Found | None:
    for keyword in keywords[row]:
        found = _julian(header, keyword, scale, "start", notes)
        if found is not None:
            return found
    return None


def _one_of(
    header: Header, row: str, keywords: Keywords, scale: str, begin: _Found | None, notes: Notes
) -> _Found | None:
    """The first card of a row that tells an instant: date and time, a Julian date, or a time after the begin's."""
    quantity = row.removesuffix("_time")
    for keyword in keywords[row]:
        if not isinstance(header.get(keyword), str) or get_number(header, (keyword,)).value is not None:
            found = _julian(header, keyword, scale, quantity, notes)
            if found is not None:
                return found
            continue
        for _, text, stamp in _stamps(header, (keyword,), quantity, notes):
            if stamp.date is not None and stamp.seconds is not None:
                return _whole(header, keyword, text, stamp, scale, notes)._replace(is_mid=False)
            if stamp.seconds is not None and begin is not None:
                return _later(header, keyword, text, stamp.seconds, begin)
    return None


def _later(header: Header, keyword: str, text: str, seconds: float, begin: _Found) -> _Found:
    """A time of day alone: the first such time at or after the begin."""
    midnight = (begin.instant.jd2 + (begin.instant.jd1 - 0.5) % 1.0) % 1.0 * _DAY
    wait = (seconds - midnight) % _DAY
    wait = wait - _DAY if wait > _DAY - _AGREE else wait  # rounded to whole seconds it may lie before the begin
    return _Found(add_seconds(begin.instant, wait), f"{keyword} = {text!r}", is_given(header, keyword))
