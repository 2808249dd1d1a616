"""``ExposureTime``: when and where an exposure was taken."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms import ephemeris
from larun.algorithms.ephemeris import LIGHT_ACROSS_EARTH, Instant
from larun.errors import HeaderError, OptionError
from larun.io.headers import get_number
from larun.model import registry
from larun.model.time.card_notes import Keywords, Notes, is_given
from larun.model.time.place_cards import find_pointing, find_site
from larun.model.time.site import Site
from larun.model.time.time_cards import find_instants

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from astropy.io.fits import Header
    from astropy.time import Time

    from larun.model.frame import Frame

__all__ = ["ExposureTime", "LightTravel", "from_header", "of_frame"]

#: Of the Earth's place, in seconds, where the site is known.
_EPHEMERIS_ERROR = 1e-4
#: Degrees that the telescope may point away from the centre of the image: the widest mosaics reach 1.5.
_FAR = 3.0


class LightTravel(NamedTuple):
    """Seconds to add to a time on Earth, and the largest error of them."""

    seconds: Any
    error: float


def _read_only(value: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(value))


@attrs.frozen(kw_only=True, repr=False)
class ExposureTime:
    """When and where an exposure was taken, and how well that is known: an immutable value.

    A camera makes it from a header (:meth:`larun.Frame.time_for`); ``frame.time`` is how to get one. What a header does
    not say is None, with the reason in ``sources``; it is an error only for what needs it.

    Parameters
    ----------
    start, mid, end : Instant or None
        In UTC; the properties of these names give them as astropy ``Time``.
    exposure : float or None
        Length in seconds.
    pointing : (float, float) or None
        ICRS right ascension and declination in degrees: the centre of the image by its WCS, else the telescope's.
    site : Site or None
        Where the telescope stands.
    header_airmass : float or None
        The air mass that the header states.
    sources : mapping
        Where each quantity came from, keyword and value, or why it is missing.
    doubts : tuple of str
        What contradicts itself, or had to be guessed.
    file : str
        Of what, for messages.

    Examples
    --------
    >>> import numpy as np, larun
    >>> cards = {"DATE-OBS": "2013-02-02T22:59:30", "EXPTIME": 60.0, "RA": "08:08:08", "DEC": "+32:00:00"}
    >>> time = larun.Frame.from_arrays(np.ones((8, 8)), header=cards).time
    >>> time.mid.isot, round(time.bjd_tdb(site=(342.12, 28.758333, 2327)), 6)
    ('2013-02-02T23:00:00.000', 2456326.464442)
    """

    _start: Instant | None = None
    _mid: Instant | None = None
    _end: Instant | None = None
    exposure: float | None = None
    pointing: tuple[float, float] | None = None
    site: Site | None = None
    header_airmass: float | None = None
    sources: Mapping[str, str] = attrs.field(factory=dict, converter=_read_only, hash=False)
    doubts: tuple[str, ...] = ()
    file: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), attrs.asdict(self, recurse=False) | {"sources": dict(self.sources)})

    def __repr__(self) -> str:
        mid = self.mid_text
        return f"<{type(self).__name__} {'of unknown time' if mid is None else f'mid {mid} UTC'}>"

    # -- instants --------------------------------------------------------------------------------------------------

    @property
    def start(self) -> Time | None:
        """When it began, UTC."""
        return _time(self._start)

    @property
    def mid(self) -> Time | None:
        """Its middle, UTC."""
        return _time(self._mid)

    @property
    def end(self) -> Time | None:
        """When it ended, UTC."""
        return _time(self._end)

    @property
    def mid_text(self) -> str | None:
        """Its middle in UTC as ISO 8601 text, to the millisecond."""
        return None if self._mid is None else ephemeris.iso_text(self._mid)

    @property
    def jd_utc(self) -> float:
        """Julian date of the middle, UTC.

        Raises
        ------
        HeaderError
            If the middle is not known.
        """
        middle = self._middle()
        return middle.jd1 + middle.jd2

    def light_travel(self, position: Any = None, *, site: Any = None, to: str = "barycentre") -> LightTravel:
        """The light travel time from the Earth at mid-exposure, for a source at infinity.

        Parameters
        ----------
        position : SkyCoord, (ra, dec) in ICRS degrees, or arrays of them, optional
            Of the source; default the pointing. A source 1° from there differs by up to 8.7 s.
        site : Site, EarthLocation or (longitude, latitude, height), optional
            Default the frame's own; without any the centre of the Earth, at most 21.3 ms off.
        to : {"barycentre", "sun"}
            The barycentre of the solar system, or the centre of the Sun.

        Returns
        -------
        LightTravel
            ``seconds``, positive where the Earth is farther from the source, and the largest ``error``.

        Raises
        ------
        HeaderError
            If the middle of the exposure or the position is not known.
        """
        if to not in ("barycentre", "sun"):
            raise OptionError(f"to={to!r}: must be 'barycentre' or 'sun'")
        ra, dec = self._position(position)
        place = self._site(site)
        found = ephemeris.light_travel(self._middle(), ra, dec, None if place is None else attrs.astuple(place))
        return LightTravel(
            _scalar(found.barycentric if to == "barycentre" else found.heliocentric),
            _EPHEMERIS_ERROR if place is not None else _EPHEMERIS_ERROR + LIGHT_ACROSS_EARTH,
        )

    def bjd_tdb(self, position: Any = None, *, site: Any = None) -> Any:
        """Barycentric Julian date of the middle, in TDB (Eastman, Siverd & Gaudi 2010, PASP 122, 935).

        Parameters are those of :meth:`light_travel`. A float resolves 40 µs; an array of positions gives an array.

        Raises
        ------
        HeaderError
            If the middle of the exposure or the position is not known.
        """
        jd1, jd2 = ephemeris.tdb(self._middle())
        return jd1 + (jd2 + self.light_travel(position, site=site).seconds / 86400.0)

    def hjd_utc(self, position: Any = None, *, site: Any = None) -> Any:
        """Heliocentric Julian date of the middle, in UTC: for comparison with old data, up to 4 s off a BJD in UTC.

        Parameters are those of :meth:`light_travel`.

        Raises
        ------
        HeaderError
            If the middle of the exposure or the position is not known.
        """
        middle = self._middle()
        return middle.jd1 + (middle.jd2 + self.light_travel(position, site=site, to="sun").seconds / 86400.0)

    # -- place -----------------------------------------------------------------------------------------------------

    @property
    def altitude(self) -> float | None:
        """True altitude of the pointing at mid-exposure in degrees; None where time, pointing or site is not known."""
        if self._mid is None or self.pointing is None or self.site is None:
            return None
        return float(ephemeris.altitude(self._mid, *self.pointing, attrs.astuple(self.site)))

    @property
    def computed_airmass(self) -> float | None:
        """Air mass of the pointing at mid-exposure (Young 1994, Applied Optics 33, 1108); None where not known."""
        altitude = self.altitude
        return None if altitude is None or altitude < 0 else float(ephemeris.airmass(altitude))

    @property
    def airmass(self) -> float | None:
        """What the header states, else what is computed, else None."""
        return self.computed_airmass if self.header_airmass is None else self.header_airmass

    @property
    def local_sidereal_time(self) -> float | None:
        """Apparent, at mid-exposure, in hours, within 1 s; None where time or site is not known."""
        if self._mid is None or self.site is None:
            return None
        return ephemeris.sidereal_time(self._mid, self.site.longitude)

    @property
    def coordinates(self) -> SkyCoord | None:
        """The pointing as an astropy ``SkyCoord``; None where it is not known."""
        if self.pointing is None:
            return None
        from astropy.coordinates import SkyCoord

        return SkyCoord(*self.pointing, unit="deg", frame="icrs")

    # -- the next value --------------------------------------------------------------------------------------------

    def shifted(self, seconds: float, why: str) -> Self:
        """The same exposure some seconds later: for a camera whose clock is off, or counts something else.

        Examples
        --------
        >>> import numpy as np, larun
        >>> cards = {"DATE-OBS": "2013-02-02T23:00:00", "EXPTIME": 60.0}
        >>> time = larun.Frame.from_arrays(np.ones((8, 8)), header=cards).time.shifted(-2.5, "the clock was fast")
        >>> time.mid.isot
        '2013-02-02T23:00:27.500'
        """
        moved = [None if one is None else ephemeris.add_seconds(one, seconds) for one in self._instants()]
        told = {
            name: f"{self.sources[name]}, {seconds:+g} s: {why}"
            for name in ("start", "mid", "end")
            if name in self.sources
        }
        return attrs.evolve(self, start=moved[0], mid=moved[1], end=moved[2], sources={**self.sources, **told})

    def pointed(self, ra: float, dec: float, source: str) -> Self:
        """The same with another pointing, in ICRS degrees."""
        place = (float(ra) % 360.0, float(dec))
        return attrs.evolve(self, pointing=place, sources={**self.sources, "pointing": source})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a table's metadata or JSON: what is known of middle, BJD, air mass, pointing, exposure."""
        known = self._mid is not None and self.pointing is not None
        return {
            "mid_time": self.mid_text,
            "jd_utc": None if self._mid is None else self.jd_utc,
            "bjd_tdb": self.bjd_tdb() if known else None,
            "bjd_tdb_error": self.light_travel().error if known else None,
            "airmass": self.airmass,
            "pointing": None if self.pointing is None else list(self.pointing),
            "exposure": self.exposure,
        }

    def _instants(self) -> tuple[Instant | None, Instant | None, Instant | None]:
        return self._start, self._mid, self._end

    def _missing(self, what: str, quantity: str, remedy: str) -> HeaderError:
        why = self.sources.get(quantity, "no card says so")
        return HeaderError(f"{self.file or 'this header'}: {what} is not known: {why}; {remedy}")

    def _middle(self) -> Instant:
        if self._mid is None:
            remedy = "give date='2024-05-13T05:34:13' and exposure=… when reading it"
            raise self._missing("the time of exposure", "mid", remedy)
        return self._mid

    def _position(self, position: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if position is None:
            if self.pointing is None:
                raise self._missing("where the telescope pointed", "pointing", "give a position")
            position = self.pointing
        if hasattr(position, "icrs"):
            position = (position.icrs.ra.deg, position.icrs.dec.deg)
        try:
            ra, dec = (np.asarray(part, dtype=float) for part in position)
        except (TypeError, ValueError) as error:
            raise OptionError(f"position={position!r}: give a SkyCoord, or (ra, dec) in degrees") from error
        if not (np.abs(dec[np.isfinite(dec)]) <= 90).all():
            raise OptionError(f"position={position!r}: a declination lies within ±90°")
        return ra, dec

    def _site(self, site: Any) -> Site | None:
        return self.site if site is None else Site.of(site)


def _restored(cls: type[ExposureTime], fields: dict[str, Any]) -> ExposureTime:
    return cls(**{name.lstrip("_"): value for name, value in fields.items()})


def _time(instant: Instant | None) -> Time | None:
    if instant is None:
        return None
    from astropy.time import Time

    return Time(instant.jd1, instant.jd2, format="jd", scale="utc")


def _scalar(values: NDArray[np.float64]) -> Any:
    return float(values) if values.ndim == 0 else values


def from_header(header: Header, keywords: Keywords, site: Any = None, file: str = "") -> ExposureTime:
    """What the cards of a header say of time and place.

    Parameters
    ----------
    header : Header
        Of the exposure.
    keywords : mapping
        The camera's table of keywords.
    site : Site or (longitude, latitude, height), optional
        The camera's own; it wins over what the camera wrote into the header, not over what the caller gave.
    file : str
        For messages.
    """
    notes = Notes()
    site = None if site is None else Site.of(site)
    instants = find_instants(header, keywords, notes)
    pointing = find_pointing(header, keywords, notes)
    given = any(is_given(header, key) for name in ("longitude", "latitude", "geocentric") for key in keywords[name])
    if site is None or given:
        found = find_site(header, keywords, notes)
        place = site if found is None else Site(*found)
    else:
        place = site
        notes.sources["site"] = "constant of the camera"
    airmass, keyword = get_number(header, keywords["airmass"])
    if airmass is not None and not 0.99 <= airmass < 50:
        notes.sources["airmass"] = f"{keyword} = {header[keyword]!r}: no air mass"
        airmass = None
    elif keyword is not None:
        notes.sources["airmass"] = f"{keyword} = {header[keyword]!r}"
    made = ExposureTime(
        start=instants.start,
        mid=instants.mid,
        end=instants.end,
        exposure=instants.exposure,
        pointing=pointing,
        site=place,
        header_airmass=airmass,
        sources=notes.sources,
        doubts=tuple(notes.doubts),
        file=file,
    )
    return attrs.evolve(made, doubts=(*made.doubts, *_contradictions(made)))


def of_frame(frame: Frame) -> ExposureTime:
    """What a frame's camera makes of its header; the pointing is the centre of the array where a WCS tells it.

    A WCS that contradicts the telescope by degrees is left aside: calibration frames carry that of some other field.
    """
    name = frame.provenance.name
    found = registry.ask(type(frame), "time_for", name or repr(frame), frame._header)
    if not isinstance(found, ExposureTime):
        raise HeaderError(f"{type(frame).__name__}.time_for returned {found!r}: it must be an ExposureTime")
    found = attrs.evolve(found, file=name)
    wcs = frame.wcs
    if wcs is None:
        return found
    from astropy.wcs.utils import wcs_to_celestial_frame

    ny, nx = frame.shape
    ra, dec = (float(value) for value in wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
    if not np.isfinite([ra, dec]).all():
        return found
    there = wcs_to_celestial_frame(wcs)
    if there.name != "icrs":
        from astropy.coordinates import SkyCoord

        icrs = SkyCoord(ra, dec, unit="deg", frame=there).icrs
        ra, dec = float(icrs.ra.deg), float(icrs.dec.deg)
    if found.pointing is not None and (apart := _degrees_between(found.pointing, (ra, dec))) > _FAR:
        doubt = f"{found.sources['pointing']} is used; the WCS puts the image {apart:.1f}° from there"
        return attrs.evolve(found, doubts=(*found.doubts, doubt))
    return found.pointed(ra, dec, "centre of the image by its WCS")


def _degrees_between(one: tuple[float, float], two: tuple[float, float]) -> float:
    (ra1, dec1), (ra2, dec2) = np.radians(one), np.radians(two)
    half = np.sin((dec1 - dec2) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra1 - ra2) / 2) ** 2
    return float(np.degrees(2 * np.arcsin(min(1.0, float(np.sqrt(half))))))


def _contradictions(time: ExposureTime) -> tuple[str, ...]:
    """Place, time and pointing give an air mass: where the header's is another, one of them is wrong."""
    altitude = time.altitude
    if altitude is None or time.header_airmass is None:
        return ()
    computed = float(ephemeris.airmass(altitude))
    if altitude > 0 and abs(computed - time.header_airmass) <= 0.1 * max(computed, time.header_airmass):
        return ()
    there = (
        f"{computed:.2f} is computed"
        if altitude > 0
        else f"the pointing is computed {-altitude:.0f}° below the horizon"
    )
    return (f"{time.sources['airmass']}, but {there} from time, pointing and site ({time.sources['site']})",)
