"""What is known before of where an image is and of its scale: from the caller, or from the header, which may lie."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from larun.errors import HeaderError, OptionError
from larun.io.dates import parse_angle
from larun.io.headers import get_number
from larun.model.planes import pixel_scale

if TYPE_CHECKING:
    from larun.model.image import Image

__all__ = ["Hints", "hints_of", "pointing_from", "year_of"]

_SCALE_CARDS = ("PIXSCALE", "SECPIX", "SECPIX1", "PIXSCAL1", "SCALE")
_NEAR = 1.1  # factor by which a stated scale may be off
_LARGEST = 600.0  # arcseconds a pixel
_SMALLEST = 0.005


class Hints(NamedTuple):
    """What is known.

    Attributes
    ----------
    pointing : (float, float) or None
        ICRS degrees.
    scales : tuple of (float, float)
        Ranges in arcseconds a pixel, in the order in which they are tried; empty where nothing is known.
    said : str
        Where this is from, for messages.
    scale_given : bool
        Whether the caller says the scale: then no other is tried.
    """

    pointing: tuple[float, float] | None
    scales: tuple[tuple[float, float], ...]
    said: str
    scale_given: bool = False


def hints_of(image: Image, pointing: Any, scale: Any) -> Hints:
    """What the caller says, else what the header says.

    Raises
    ------
    OptionError
        If the pointing or the scale makes no sense.
    """
    notes = []
    place = pointing_from(pointing)
    if place is not None:
        notes.append(f"pointing {place[0]:.4f} {place[1]:+.4f} as given")
    else:
        place, source = _header_pointing(image)
        notes.append(f"pointing {source}" if place is None else f"pointing {place[0]:.4f} {place[1]:+.4f}, {source}")
    if scale is not None:
        given = _given_scale(scale)
        return Hints(place, (given,), "; ".join([*notes, "scale as given"]), True)
    known, source = _header_scale(image)
    if known is None:
        return Hints(place, (), "; ".join([*notes, "scale not known"]))
    notes.append(f"scale {known:.4g} arcsec a pixel, {source}")
    return Hints(place, ((known / _NEAR, known * _NEAR),), "; ".join(notes))


def pointing_from(pointing: Any) -> tuple[float, float] | None:
    """Degrees from (ra, dec) in degrees or as text, from ``"RA,DEC"``, or from a SkyCoord.

    Raises
    ------
    OptionError
        If it is nothing of the kind.

    Examples
    --------
    >>> pointing_from("13:25:20, -08:49:00")
    (201.33333333333334, -8.816666666666666)
    >>> pointing_from((-9.5, 0.2))
    (350.5, 0.2)
    """
    if pointing is None:
        return None
    says = f"pointing={pointing!r}: must be (ra, dec) in degrees, 'RA,DEC' (hours with colons), or a SkyCoord"
    if hasattr(pointing, "icrs"):
        icrs = pointing.icrs
        if not icrs.isscalar:
            raise OptionError(says)
        return float(icrs.ra.deg), float(icrs.dec.deg)
    parts: Any = re.split(r"\s*,\s*", pointing.strip()) if isinstance(pointing, str) else pointing
    try:
        first, second = parts
        ra, dec = _angle(first, True), _angle(second, False)
    except (TypeError, ValueError, HeaderError) as error:
        raise OptionError(says) from error
    if not -360 <= ra <= 360 or not -90 <= dec <= 90:
        raise OptionError(says)
    return ra % 360.0, dec


def _angle(value: Any, hours: bool) -> float:
    if hasattr(value, "to_value"):
        return float(value.to_value("deg"))
    if not isinstance(value, str):
        return float(value)
    try:
        return float(value)
    except ValueError:
        found = parse_angle(value)
        return found[0] * (15.0 if hours and found[1] else 1.0)


def _given_scale(scale: Any) -> tuple[float, float]:
    says = f"scale={scale!r}: must be arcseconds a pixel, or (least, largest)"
    try:
        low, high = (scale / _NEAR, scale * _NEAR) if isinstance(scale, int | float) else map(float, scale)
    except (TypeError, ValueError) as error:
        raise OptionError(says) from error
    if isinstance(scale, bool) or not 0 < low < high < math.inf:
        raise OptionError(says)
    return float(low), float(high)


def _header_pointing(image: Image) -> tuple[tuple[float, float] | None, str]:
    time = getattr(image, "time", None)
    if time is None or time.pointing is None:
        return None, "not known"
    return time.pointing, time.sources.get("pointing", "header")


def _header_scale(image: Image) -> tuple[float | None, str]:
    made = pixel_scale(image)
    if made is not None and _SMALLEST < made < _LARGEST:
        return made, "WCS of the header"
    header = image._header
    found, keyword = get_number(header, _SCALE_CARDS)
    if found is not None and keyword and _SMALLEST < found < _LARGEST:
        return float(found), keyword
    pixel, focal = (get_number(header, (name,)).value for name in ("XPIXSZ", "FOCALLEN"))
    if pixel and focal and pixel > 0 and focal > 0:
        made = 206.264806 * pixel / focal
        if _SMALLEST < made < _LARGEST:
            return made, "XPIXSZ and FOCALLEN"
    return None, ""


def year_of(image: Image) -> float | None:
    """Julian year of the middle of the exposure; None where it is not known."""
    time = getattr(image, "time", None)
    return None if time is None or time.mid_text is None else 2000.0 + (time.jd_utc - 2451545.0) / 365.25
