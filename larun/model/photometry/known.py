"""Stars of known magnitude around a catalogue's sources: from a reference catalogue, a table, or a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError, OptionError
from larun.model.measure.positions import column_in

__all__ = ["KnownStars", "known_stars", "split_color"]

_MARGIN = 1.02  # of the radius that holds all sources


class KnownStars(NamedTuple):
    """Stars of a reference; arrays (n,).

    Attributes
    ----------
    ra, dec : ndarray of float64
        Degrees, at the time of the exposure.
    magnitudes, errors : dict of ndarray
        By band; errors are 0 where the reference gives none.
    variable, extended : ndarray of bool
        What the reference says of them.
    about : dict
        ``name``, ``digest`` and ``systems`` of the reference, as plain values.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    magnitudes: dict[str, NDArray[np.float64]]
    errors: dict[str, NDArray[np.float64]]
    variable: NDArray[np.bool_]
    extended: NDArray[np.bool_]
    about: dict[str, Any]

    def select(self, chosen: NDArray[Any]) -> KnownStars:
        """Some of them."""
        return KnownStars(
            self.ra[chosen],
            self.dec[chosen],
            {band: values[chosen] for band, values in self.magnitudes.items()},
            {band: values[chosen] for band, values in self.errors.items()},
            self.variable[chosen],
            self.extended[chosen],
            self.about,
        )

    def to_record(self) -> dict[str, Any]:
        """Plain containers and arrays; :func:`known_stars` takes them back."""
        return self._asdict()


def split_color(color: str | None) -> tuple[str, str] | None:
    """The two bands of a colour.

    Raises
    ------
    OptionError
        If it is not two names with a minus between them.

    Examples
    --------
    >>> split_color("g-r")
    ('g', 'r')
    """
    if color is None:
        return None
    parts = [part.strip() for part in color.split("-")] if isinstance(color, str) else []
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise OptionError(f"color={color!r}: must be two bands of the reference, such as 'g-r'")
    return parts[0], parts[1]


def known_stars(
    reference: Any, bands: tuple[str, ...], ra: NDArray[np.float64], dec: NDArray[np.float64], year: float | None
) -> KnownStars:
    """The stars of a reference around some positions.

    Parameters
    ----------
    reference : object
        Stars from a record; a table with ``ra``, ``dec`` (degrees) and ``mag_<band>``; or anything whose
        ``cone(ra, dec, radius)`` gives such a table (or an object with one as ``table``).
    bands : tuple of str
        Those that are needed.
    ra, dec : ndarray of float64
        Sources in degrees.
    year : float or None
        Julian year of the exposure: stars move.

    Raises
    ------
    OptionError
        If it is none of these, or lacks a band.
    """
    if isinstance(reference, Mapping) and "about" in reference:
        return KnownStars(**reference)
    moved = reference
    if year is not None and hasattr(moved, "at"):
        moved = moved.at(year)
    if hasattr(moved, "cone"):
        moved = moved.cone(*_around(ra, dec))
    table = moved.table if hasattr(moved, "table") else moved
    names = getattr(table, "colnames", None)
    if names is None:
        raise OptionError(
            f"reference: a {type(reference).__name__} is no reference catalogue; give one, or a table with ra, dec "
            f"and {', '.join(f'mag_{band}' for band in bands)}"
        )
    made = _from_table(table, list(names), bands, getattr(reference, "name", None))
    lon, lat, radius = _around(ra, dec)
    return made.select(np.flatnonzero(_separation(made.ra, made.dec, lon, lat) <= radius))


def _from_table(table: Any, names: list[str], bands: tuple[str, ...], name: str | None) -> KnownStars:
    missing = [item for item in ("ra", "dec", *(f"mag_{band}" for band in bands)) if item not in names]
    if missing:
        raise OptionError(f"reference: no column {', '.join(missing)} among {', '.join(names)}")
    magnitudes = {band: column_in(table, f"mag_{band}", "mag") for band in bands}
    errors = {
        band: column_in(table, f"mag_{band}_error", "mag") if f"mag_{band}_error" in names else np.zeros(len(table))
        for band in bands
    }
    for band in bands:  # an error that nobody knows says that the star is worth nothing
        magnitudes[band] = np.where(np.isfinite(errors[band]), magnitudes[band], np.nan)
    flags = {
        flag: np.asarray(table[flag], bool) if flag in names else np.zeros(len(table), bool)
        for flag in ("variable", "extended")
    }
    meta = table.meta
    systems = meta.get("systems") or {}
    about = {
        "name": str(name or meta.get("name") or "table"),
        "digest": meta.get("digest"),
        "systems": {band: systems.get(band) for band in bands},
    }
    ra, dec = (column_in(table, item, "deg") for item in ("ra", "dec"))
    return KnownStars(ra % 360.0, dec, magnitudes, errors, flags["variable"], flags["extended"], about)


def _around(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> tuple[float, float, float]:
    """Centre and radius in degrees of a circle that holds all positions."""
    good = np.isfinite(ra) & np.isfinite(dec)
    if not good.any():
        raise CatalogError("no source has sky coordinates: the image needs a WCS")
    lon, lat = np.radians(ra[good]), np.radians(dec[good])
    x, y, z = (float(np.mean(item)) for item in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    centre = math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))
    return *centre, float(np.max(_separation(ra[good], dec[good], *centre))) * _MARGIN + 1 / 3600


def _separation(ra: NDArray[np.float64], dec: NDArray[np.float64], lon: float, lat: float) -> NDArray[np.float64]:
    """Degrees."""
    one, two = np.radians(dec), math.radians(lat)
    half = np.sin((one - two) / 2) ** 2 + np.cos(one) * math.cos(two) * np.sin(np.radians(ra - lon) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))), np.float64)
