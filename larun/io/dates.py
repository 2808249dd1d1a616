"""Dates, times of day and angles as headers write them.

The standard is FITS 4.0 (Pence et al. 2010, A&A 524, A42; Rots et al. 2015, A&A 574, A36); what is read beyond it are
habits of cameras: a date alone, a time alone, a zone at the end, sixty seconds, hours and degrees in words.
"""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from larun.errors import HeaderError

__all__ = ["Stamp", "parse_angle", "parse_stamp", "why_no_time"]

_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})")
_OLD = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})")
_CLOCK = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?\s*(Z|UTC?|[+-]\d{2}:?\d{2})?", re.I)
# No CCD saw the sky before 1976: an old date with a smaller year is of this century, whatever the standard says.
_FIRST_YEAR = 76
_YEARS = (1800, 2200)  # plates are scanned into FITS, too


class Stamp(NamedTuple):
    """A date, a time of day, or both.

    ``date`` is (year, month, day) and ``seconds`` counts from its midnight; either is None where the text has none.
    ``utc`` says that the text itself claims UTC (a Z, or an offset that was taken off); ``doubt`` is what had to be
    guessed.
    """

    date: tuple[int, int, int] | None = None
    seconds: float | None = None
    utc: bool = False
    doubt: str = ""


def parse_stamp(text: str) -> Stamp:
    """A date and time as FITS writes them, or one of the two alone.

    Seconds of 60 stay what they are (a leap second, or the next minute); 24:00:00 is the end of the day.

    Raises
    ------
    HeaderError
        If the text is neither, or names a day or time that does not exist; the message is about the text alone.

    Examples
    --------
    >>> parse_stamp("2013-02-13T09:01:40.5")
    Stamp(date=(2013, 2, 13), seconds=32500.5, utc=False, doubt='')
    >>> parse_stamp("13/02/99").date, parse_stamp("23:13:12").seconds
    ((1999, 2, 13), 83592.0)
    """
    plain = text.strip()
    day, rest, doubt = None, plain, ""
    if match := _DATE.match(plain):
        day, rest = (int(match[1]), int(match[2]), int(match[3])), plain[match.end() :]
    elif match := _OLD.match(plain):
        day, doubt = _old_date(match)
        rest = plain[match.end() :]
    if day is not None:
        _check_day(day)
        if not rest:
            return Stamp(day, None, False, doubt)
        rest = rest[1:] if rest[0] in "Tt " else f"?{rest}"
    clock = _CLOCK.fullmatch(rest.strip())
    if clock is None:
        raise HeaderError("is no date or time (2013-02-13T09:01:40.9, 2013-02-13 or 09:01:40.9)")
    hours, minutes, seconds = int(clock[1]), int(clock[2]), float(clock[3] or 0.0)
    whole_day = hours == 24 and minutes == 0 and seconds == 0
    if not (hours < 24 or whole_day) or minutes > 59 or not seconds < 61:
        raise HeaderError("is no time of day")
    offset = _offset(clock[4])
    return Stamp(day, hours * 3600.0 + minutes * 60.0 + seconds - (offset or 0.0), offset is not None, doubt)


def why_no_time(value: object) -> str:
    """What is wrong with a date or time that somebody gave; nothing where it can be read, or is a Julian date.

    Examples
    --------
    >>> why_no_time("2013-02-13T09:01:40"), why_no_time(56336.376), why_no_time("2013-13-13")
    ('', '', 'names a day that does not exist (month must be in 1..12)')
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "" if 1.0e4 < value < 2.0e5 or 2.4e6 < value < 2.6e6 else "is no Julian date, modified or not"
    try:
        parse_stamp(value if isinstance(value, str) else "")
    except HeaderError as error:
        return str(error)
    return ""


def _old_date(match: re.Match[str]) -> tuple[tuple[int, int, int], str]:
    day, month, year = int(match[1]), int(match[2]), int(match[3])
    if year > 99:
        doubt = f"{match[0]} is read as day/month/year" if day <= 12 and day != month else ""
    elif year < _FIRST_YEAR:
        year, doubt = (
            2000 + year,
            f"the year of {match[0]} is taken for {2000 + year}: there were no CCDs in 19{year:02d}",
        )
    else:
        year, doubt = 1900 + year, ""
    return (year, month, day), doubt


def _check_day(day: tuple[int, int, int]) -> None:
    if not _YEARS[0] <= day[0] <= _YEARS[1]:
        raise HeaderError(f"names the year {day[0]}, when no exposure was taken")
    try:
        datetime.date(*day)
    except ValueError as error:
        raise HeaderError(f"names a day that does not exist ({error})") from error


def _offset(zone: str | None) -> float | None:
    """Seconds east of UTC of ``Z``, ``UT``, ``+02:00``; None where nothing is said."""
    if zone is None:
        return None
    if zone[0] not in "+-":
        return 0.0
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    return (3600.0 * hours + 60.0 * minutes) * (1 if zone[0] == "+" else -1)


# A capital S is the south, a small one the seconds.
_PARTS = re.compile(
    r"(?P<ahead>[NSEWnew])?\s*(?P<sign>[+-])?\s*(?P<whole>\d+(?:\.\d*)?)"
    r"(?:\s*(?P<unit>[hHdD:°]|\s)\s*(?P<minutes>\d{1,2}(?:\.\d*)?)"
    r"(?:\s*(?:[mM:'′]|\s)\s*(?P<seconds>\d{1,2}(?:\.\d*)?)\s*(?:[s\"″]|'')?)?)?\s*(?:[mM'′]|deg|[hHdD°](?=\s|$))?"
    r"\s*(?P<behind>[NSEWnew])?"
)


def parse_angle(text: str) -> tuple[float, bool, str]:
    """An angle in sexagesimal or decimal form.

    Returns
    -------
    value : float
        In the unit it is written in, hours or degrees, negative for S and W.
    sexagesimal : bool
        Whether it has minutes.
    letter : str
        The N, S, E or W it carries, or nothing.

    Raises
    ------
    HeaderError
        If the text is no angle; the message is about the text alone.

    Examples
    --------
    >>> parse_angle("-00:30:00"), parse_angle("155 28 12 W"), parse_angle("12.5")
    ((-0.5, True, ''), (-155.47, True, 'W'), (12.5, False, ''))
    """
    match = _PARTS.fullmatch(text.strip())
    if match is None:
        raise HeaderError("is no angle (12:34:56.7, 12 34 56.7 or degrees)")
    minutes, seconds = float(match["minutes"] or 0.0), float(match["seconds"] or 0.0)
    if not (minutes < 60 and seconds <= 60) or (match["minutes"] and "." in match["whole"]):
        raise HeaderError("is no angle: minutes and seconds go to 60")
    value = float(match["whole"]) + minutes / 60.0 + seconds / 3600.0
    letter = (match["ahead"] or match["behind"] or "").upper()
    negative = (match["sign"] == "-") != (letter in ("S", "W"))
    return (-value if negative else value), match["minutes"] is not None, letter
