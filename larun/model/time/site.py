"""``Site``: a place on Earth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import attrs

from larun.errors import OptionError

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

__all__ = ["Site"]


def _degrees(low: float, high: float) -> Any:
    def check(_: Any, attribute: attrs.Attribute[float], value: float) -> None:
        if not low <= value <= high:
            raise OptionError(f"{attribute.name}={value!r}: must lie between {low:g} and {high:g}")

    return check


@attrs.frozen
class Site:
    """A place on Earth, for the time and altitude of an exposure.

    Parameters
    ----------
    longitude, latitude : float
        Degrees, east and north positive (WGS84).
    height : float
        Metres above the ellipsoid.

    Examples
    --------
    >>> Site(20.8108, -32.3808, 1760.0)
    Site(longitude=20.8108, latitude=-32.3808, height=1760.0)
    """

    longitude: float = attrs.field(converter=float, validator=_degrees(-180.0, 360.0))
    latitude: float = attrs.field(converter=float, validator=_degrees(-90.0, 90.0))
    height: float = attrs.field(default=0.0, converter=float, validator=_degrees(-1e3, 1e4))

    @classmethod
    def of(cls, value: Any) -> Self:
        """A site from one, an astropy ``EarthLocation``, or (longitude, latitude[, height]).

        Raises
        ------
        OptionError
            If the value is none of these.
        """
        if isinstance(value, cls):
            return value
        if hasattr(value, "to_geodetic"):
            lon, lat, height = value.to_geodetic()
            return cls(lon.to_value("deg"), lat.to_value("deg"), height.to_value("m"))
        try:
            return cls(*value)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"site={value!r}: give larun.Site(longitude, latitude, height), degrees east and north, metres"
            ) from error

    @property
    def location(self) -> EarthLocation:
        """As an astropy ``EarthLocation``."""
        from astropy.coordinates import EarthLocation

        return EarthLocation.from_geodetic(self.longitude, self.latitude, self.height)
