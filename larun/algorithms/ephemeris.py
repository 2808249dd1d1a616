"""Time scales, light travel times, altitudes: thin functions over ERFA, the routines astropy itself uses.

An instant is a Julian date in UTC in two parts, as ERFA and astropy count it: the day of a leap second is stretched.
Nothing here needs a file or the network. Leap seconds are those ERFA and astropy were built with; UT1 is taken for UTC
and the pole for fixed, which moves a site by at most 420 m: 1.4 µs of light travel time, 14" of altitude.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = [
    "LIGHT_ACROSS_EARTH",
    "SCALES",
    "Instant",
    "LightTravel",
    "add_seconds",
    "airmass",
    "altitude",
    "earth",
    "from_calendar",
    "from_julian_date",
    "geodetic",
    "iso_text",
    "light_travel",
    "seconds_between",
    "sidereal_time",
    "sun",
    "tdb",
    "to_icrs",
]

_ASTRONOMICAL_UNIT = 149597870700.0
_LIGHT_SPEED = 299792458.0
_DAY = 86400.0
#: Most that the place on Earth changes a light travel time: its equatorial radius over the speed of light, in seconds.
LIGHT_ACROSS_EARTH = 6378136.6 / _LIGHT_SPEED
#: Time scales a header may be in.
SCALES = ("utc", "tai", "tt", "tdb", "gps")


class Instant(NamedTuple):
    """A Julian date in UTC, in two parts that add up."""

    jd1: float
    jd2: float


class LightTravel(NamedTuple):
    """What to add to a time on Earth, in seconds, for a source at infinity.

    ``barycentric`` for the barycentre of the solar system, ``heliocentric`` for the centre of the Sun.
    """

    barycentric: NDArray[np.float64]
    heliocentric: NDArray[np.float64]


def _erfa(name: str, *arguments: Any) -> Any:
    """One ERFA routine, without its complaint about years that no leap second table reaches."""
    import erfa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        return getattr(erfa, name)(*arguments)


def _plain(parts: Any) -> Instant:
    return Instant(float(parts[0]), float(parts[1]))


def from_calendar(date: tuple[int, int, int], seconds: float, scale: str = "utc") -> Instant:
    """The instant of a calendar date and the seconds since its midnight.

    Seconds may be negative or lie beyond the day; 86400 to 86401 are the leap second of a day that has one.

    Examples
    --------
    >>> from_calendar((2013, 2, 13), 43200.0)
    Instant(jd1=2456336.5, jd2=0.5)
    >>> leap, next_day = from_calendar((2016, 12, 31), 86400.5), from_calendar((2017, 1, 1), 0.5)
    >>> round(seconds_between(leap, next_day), 6)
    1.0
    """
    year, month, day = date
    start = _plain(_erfa("dtf2d", scale.upper() if scale == "utc" else "TAI", year, month, day, 0, 0, 0.0))
    if scale != "utc":
        return from_julian_date(start.jd1, start.jd2 + seconds / _DAY, scale)
    whole, rest = divmod(seconds, _DAY)
    if whole == 1 and rest < 1 and _day_length(start) > _DAY:
        whole, rest = 0.0, seconds  # within the leap second
    midnight = Instant(start.jd1 + whole, start.jd2)
    return Instant(midnight.jd1, midnight.jd2 + rest / _day_length(midnight))


def _day_length(midnight: Instant) -> float:
    """Of a day of UTC, in seconds; the milliseconds that days had before 1972 are left out."""
    return float(round(seconds_between(midnight, Instant(midnight.jd1 + 1.0, midnight.jd2))))


def from_julian_date(jd1: float, jd2: float, scale: str = "utc") -> Instant:
    """The instant of a Julian date in one of :data:`SCALES`.

    Raises
    ------
    OptionError
        If the scale is unknown.
    """
    if scale not in SCALES:
        raise OptionError(f"time scale {scale!r}: must be one of {', '.join(SCALES)}")
    if scale == "utc":
        return Instant(float(jd1), float(jd2))
    pair = (jd1, jd2)
    if scale == "tdb":
        pair = _erfa("tdbtt", *pair, _erfa("dtdb", *pair, 0.0, 0.0, 0.0, 0.0))
    if scale in ("tdb", "tt"):
        pair = _erfa("tttai", *pair)
    if scale == "gps":
        pair = (jd1, jd2 + 19.0 / _DAY)
    return _plain(_erfa("taiutc", *pair))


def add_seconds(instant: Instant, seconds: float) -> Instant:
    """The instant some SI seconds later, leap seconds counted."""
    jd1, jd2 = _erfa("utctai", *instant)
    return _plain(_erfa("taiutc", jd1, jd2 + seconds / _DAY))


def seconds_between(first: Instant, second: Instant) -> float:
    """SI seconds from the first instant to the second, leap seconds counted."""
    one, two = _erfa("utctai", *first), _erfa("utctai", *second)
    return float(((two[0] - one[0]) + (two[1] - one[1])) * _DAY)


def iso_text(instant: Instant) -> str:
    """The instant in UTC as text, to the millisecond.

    Examples
    --------
    >>> iso_text(from_calendar((2016, 12, 31), 86400.5))
    '2016-12-31T23:59:60.500'
    """
    year, month, day, clock = _erfa("d2dtf", "UTC", 3, *instant)
    return f"{year:04d}-{month:02d}-{day:02d}T{clock['h']:02d}:{clock['m']:02d}:{clock['s']:02d}.{clock['f']:03d}"


def tdb(instant: Instant) -> tuple[float, float]:
    """Barycentric dynamical time (TDB) at the geocentre, as a Julian date in two parts."""
    tt = _erfa("taitt", *_erfa("utctai", *instant))
    fraction = (instant.jd1 - 0.5 + instant.jd2) % 1.0
    found = _erfa("tttdb", *tt, _erfa("dtdb", *tt, fraction, 0.0, 0.0, 0.0))
    return float(found[0]), float(found[1])


def light_travel(
    instant: Instant, ra: ArrayLike, dec: ArrayLike, site: tuple[float, float, float] | None = None
) -> LightTravel:
    """Light travel times between the Earth and the barycentre or the Sun, for sources at infinity.

    Parameters
    ----------
    instant : Instant
        When the light arrived.
    ra, dec : array_like
        ICRS, degrees.
    site : (longitude, latitude, height), optional
        Degrees east and north, metres above the WGS84 ellipsoid; the centre of the Earth when not given, which is
        wrong by at most :data:`LIGHT_ACROSS_EARTH`.

    Returns
    -------
    LightTravel
        Seconds, of the shape of ``ra``.

    Notes
    -----
    The Earth is that of ERFA's ``epv00``, within 15 km of JPL's DE405 from 1900 to 2100 (50 µs). The term in the
    inverse distance of the source is left out: below 1 ms beyond 1 pc (Eastman, Siverd & Gaudi 2010, PASP 122, 935,
    eq. 5 to 10).
    """
    helio, bary = _erfa("epv00", *tdb(instant))
    offset = np.zeros(3) if site is None else _site_vector(instant, site) / _ASTRONOMICAL_UNIT
    lon, lat = np.radians(np.asarray(ra, dtype=float)), np.radians(np.asarray(dec, dtype=float))
    towards = (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))

    def travel(earth: Any) -> NDArray[np.float64]:
        place = np.asarray(earth) + offset
        projected = towards[0] * place[0] + towards[1] * place[1] + towards[2] * place[2]
        return np.asarray(projected * (_ASTRONOMICAL_UNIT / _LIGHT_SPEED))

    return LightTravel(travel(bary["p"]), travel(helio["p"]))


def earth(instant: Instant) -> NDArray[np.float64]:
    """The centre of the Earth from the barycentre of the solar system, in au, in the axes of the ICRS."""
    return np.array(_erfa("epv00", *tdb(instant))[1]["p"], dtype=float)


def _site_vector(instant: Instant, site: tuple[float, float, float]) -> NDArray[np.float64]:
    """From the geocentre to the site, in metres, in the axes of the ICRS."""
    longitude, latitude, height = site
    tt = _erfa("taitt", *_erfa("utctai", *instant))
    matrix = _erfa("c2t06a", *tt, *instant, 0.0, 0.0)
    fixed = _erfa("gd2gc", 1, np.radians(longitude), np.radians(latitude), height)
    # nine products in a fixed order: a library's matrix product may differ in the last bit
    return np.array([sum(float(matrix[i, j]) * float(fixed[i]) for i in range(3)) for j in range(3)])


def altitude(instant: Instant, ra: ArrayLike, dec: ArrayLike, site: tuple[float, float, float]) -> NDArray[np.float64]:
    """True altitude above the horizon in degrees, without refraction; parameters as for :func:`light_travel`."""
    longitude, latitude, height = site
    lon, lat = np.radians(np.asarray(ra, dtype=float)), np.radians(np.asarray(dec, dtype=float))
    where = (np.radians(longitude), np.radians(latitude), height)
    found = _erfa(
        "atco13", lon, lat, 0.0, 0.0, 0.0, 0.0, *instant, 0.0, *where, 0.0, 0.0, 0.0, 0.0, 0.0, 0.55
    )  # no pressure: no refraction
    return np.asarray(90.0 - np.degrees(found[1]))


def airmass(altitude: ArrayLike) -> NDArray[np.float64]:
    """Relative air mass at a true altitude in degrees; NaN below the horizon.

    The formula of Young (1994, Applied Optics 33, 1108), which takes the true altitude, so that no pressure need be
    known; it stays within 0.004 of the air mass of a standard atmosphere down to the horizon, where it is 31.7.

    Examples
    --------
    >>> [round(float(value), 3) for value in airmass([90.0, 30.0, 0.0])]
    [1.0, 1.992, 31.735]
    """
    angle = np.asarray(altitude, dtype=float)
    c = np.sin(np.radians(angle))
    above = (1.002432 * c + 0.148386) * c + 0.0096467
    below = ((c + 0.149864) * c + 0.0102963) * c + 0.000303978
    return np.where(angle >= 0.0, above / np.where(angle >= 0.0, below, 1.0), np.nan)


def sidereal_time(instant: Instant, longitude: float) -> float:
    """Apparent local sidereal time in hours, within 0.9 s (UT1 is taken for UTC); longitude in degrees east."""
    tt = _erfa("taitt", *_erfa("utctai", *instant))
    return float((np.degrees(_erfa("gst06a", *instant, *tt)) + longitude) / 15.0 % 24.0)


def sun(instant: Instant) -> tuple[float, float]:
    """ICRS right ascension and declination of the Sun from the centre of the Earth, degrees.

    From ERFA's ``epv00``, without the 20" of aberration.

    Examples
    --------
    >>> ra, dec = sun(from_calendar((2024, 6, 20), 75060.0))  # the solstice
    >>> round(ra, 1), round(dec, 1)
    (89.6, 23.4)
    """
    towards = [-float(value) for value in _erfa("epv00", *tdb(instant))[0]["p"]]
    lon, lat = _erfa("c2s", np.array(towards))
    return float(np.degrees(lon) % 360.0), float(np.degrees(lat))


def geodetic(x: float, y: float, z: float) -> tuple[float, float, float]:
    """Longitude and latitude in degrees and height in metres (WGS84) of geocentric coordinates in metres."""
    longitude, latitude, height = _erfa("gc2gd", 1, np.array([x, y, z]))
    return float(np.degrees(longitude)), float(np.degrees(latitude)), float(height)


def to_icrs(ra: float, dec: float, equinox: float, *, fk4: bool = False) -> tuple[float, float]:
    """ICRS degrees of a mean place of an equinox in years.

    ``fk4`` takes the place for one of the FK4 at B1950, without proper motion (ERFA's ``fk45z``); otherwise precession
    and frame bias are those of the IAU 2006 model, and J2000 is the ICRS to 25 mas.
    """
    lon, lat = np.radians(ra), np.radians(dec)
    if fk4:
        lon, lat = _erfa("fk45z", lon, lat, 1950.0)
    elif equinox != 2000.0:
        matrix = _erfa("pmat06", 2451545.0, (equinox - 2000.0) * 365.25)
        vector = _erfa("s2c", lon, lat)
        lon, lat = _erfa("c2s", _erfa("trxp", matrix, vector))
    return float(np.degrees(lon) % 360.0), float(np.degrees(lat))
