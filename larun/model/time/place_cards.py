"""Where an exposure was taken and where to, from the cards of its header.

As in :mod:`larun.model.time.time_cards` nothing fails: what is impossible is left out with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from larun.algorithms.ephemeris import geodetic, to_icrs
from larun.errors import HeaderError
from larun.io.dates import parse_angle
from larun.io.headers import get_number, get_text
from larun.model.time.card_notes import Keywords, Notes, comment_of, is_given

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["find_pointing", "find_site"]


def find_pointing(header: Header, keywords: Keywords, notes: Notes) -> tuple[float, float] | None:
    """Right ascension and declination in ICRS degrees, from the first pair of cards that holds both."""
    for ra_keyword, dec_keyword in zip(keywords["ra"], keywords["dec"], strict=False):
        ra = _right_ascension(header, ra_keyword, notes)
        dec = _angle(header, dec_keyword, "pointing", notes)
        if ra is None or dec is None:
            continue
        if not -90 <= dec[0] <= 90:
            notes.problem("pointing", f"{dec_keyword} = {header[dec_keyword]!r}: a declination lies within ±90°")
            continue
        notes.sources["pointing"] = f"{ra_keyword} = {header[ra_keyword]!r}, {dec_keyword} = {header[dec_keyword]!r}"
        return _in_icrs(header, (ra, dec[0]), keywords, notes)
    notes.missing("pointing", keywords["ra"])
    return None


def _right_ascension(header: Header, keyword: str, notes: Notes) -> float | None:
    """Degrees: with minutes it is hours, a plain number is degrees, unless size or comment say otherwise."""
    found = _angle(header, keyword, "pointing", notes)
    if found is None:
        return None
    value, sexagesimal, _ = found
    comment = comment_of(header, keyword).lower()
    hours = sexagesimal and abs(value) < 24 and not re.search(r"\bdeg(rees?)?\b", comment)
    hours = hours or (not sexagesimal and bool(re.search(r"\b(hours?|hrs?)\b|\[h\]", comment)))
    if abs(value) > (24 if hours else 360):
        notes.problem("pointing", f"{keyword} = {header[keyword]!r}: no right ascension")
        return None
    return value * (15.0 if hours else 1.0) % 360.0


def _angle(header: Header, keyword: str, quantity: str, notes: Notes) -> tuple[float, bool, str] | None:
    text = get_text(header, (keyword,)).value
    if text is None or text.upper() in ("NAN", "UNSPECIFIED"):
        return None
    number = get_number(header, (keyword,)).value
    if number is not None:
        return number, False, ""
    try:
        return parse_angle(text)
    except HeaderError as error:
        notes.problem(quantity, f"{keyword} = {text!r} {error}")
        return None


def _in_icrs(header: Header, place: tuple[float, float], keywords: Keywords, notes: Notes) -> tuple[float, float]:
    frame = str(get_text(header, keywords["sky_frame"]).value or "").upper()
    if frame.startswith("ICRS"):
        return to_icrs(*place, 2000.0)
    text, keyword = get_text(header, keywords["equinox"])
    match = re.fullmatch(r"([JB])?\s*(\d{4}(?:\.\d*)?)", (text or "").strip(), re.I)
    year = float(match[2]) if match else 2000.0
    if text is not None and (match is None or not 1800 < year < 2200):
        notes.doubts.append(f"{keyword} = {text!r} is no equinox: J2000 is assumed")
        year = 2000.0
    fk4 = frame.startswith("FK4") or (not frame and year < 1984.0)
    if fk4 and year not in (1950.0, 2000.0):
        notes.doubts.append(f"{keyword} = {text!r}: FK4 is taken at B1950")
    if frame == "GAPPT":
        notes.doubts.append("the pointing is an apparent place, taken for a mean one: 20 arcsec")
    return to_icrs(*place, year, fk4=fk4 and year != 2000.0)


def find_site(header: Header, keywords: Keywords, notes: Notes) -> tuple[float, float, float] | None:
    """Longitude (east) and latitude in degrees and height in metres, from geocentric or geographic cards."""
    if not any(is_given(header, key) for name in ("longitude", "latitude") for key in keywords[name]):
        axes = [get_number(header, (keyword,)).value for keyword in keywords["geocentric"]]
        if len(axes) == 3 and None not in axes:
            x, y, z = (float(value) for value in axes)
            if 6.3e6 < (x * x + y * y + z * z) ** 0.5 < 6.4e6:
                notes.sources["site"] = ", ".join(keywords["geocentric"])
                return geodetic(x, y, z)
            notes.problem("site", f"{', '.join(keywords['geocentric'])} = {axes}: not on the Earth")
    longitude = _geographic(header, keywords["longitude"], 360.0, notes)
    latitude = _geographic(header, keywords["latitude"], 90.0, notes)
    if longitude is None or latitude is None:
        notes.missing("site", (*keywords["longitude"], *keywords["latitude"]))
        return None
    height, height_keyword = get_number(header, keywords["height"])
    known = height is not None and -500 < height < 9000
    notes.sources["site"] = f"{longitude[1]}, {latitude[1]}, " + (
        f"{height_keyword} = {header[height_keyword]!r}" if known else "height not known: sea level"
    )
    east = longitude[0] - 360.0 if longitude[0] > 180.0 else longitude[0]
    east = east + 360.0 if east < -180.0 else east  # counted towards the west all around
    return east, latitude[0], float(height) if known else 0.0


def _geographic(header: Header, row: Iterable[str], most: float, notes: Notes) -> tuple[float, str] | None:
    for keyword in row:
        found = _angle(header, keyword, "site", notes)
        if found is None:
            continue
        value, _, letter = found
        said = f"{keyword} = {header[keyword]!r}"
        if abs(value) > most:
            notes.problem("site", f"{said}: beyond {most:g}°")
            continue
        if not letter and value > 0 and _counts_west(comment_of(header, keyword)):
            return -value, f"{said} (west)"
        return value, said
    return None


def _counts_west(comment: str) -> bool:
    text = comment.lower()
    other = re.search(r"\beast|neg\w*|minus|-ve|west\s*[=:]?\s*-|-\s*[=:]?\s*west", text)
    return bool(re.search(r"\bwest|\bdeg\.? w\b", text)) and not other
