"""The sources of a catalogue as DS9 regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError, OptionError
from larun.io.regions import Region
from larun.model.measure.positions import sky_positions

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog

__all__ = ["regions_of"]

_SHAPES = ("circle", "ellipse")
_COORDINATES = ("image", "icrs", "fk5", "galactic")


def regions_of(
    catalog: SourceCatalog, *, radius: float | str, shape: str, coordinates: str, label: str | None
) -> list[Region]:
    """See :meth:`larun.model.catalog.SourceCatalog.write_regions`."""
    if shape not in _SHAPES:
        raise OptionError(f"shape={shape!r}: must be one of {', '.join(map(repr, _SHAPES))}")
    if coordinates not in _COORDINATES:
        raise OptionError(f"coordinates={coordinates!r}: must be one of {', '.join(map(repr, _COORDINATES))}")
    x, y = _numbers(catalog, "x"), _numbers(catalog, "y")
    major = _numbers(catalog, radius) if isinstance(radius, str) else np.full(len(x), _positive(radius))
    minor, angle = np.full(len(x), np.nan), np.zeros(len(x))
    if shape == "ellipse":
        minor, angle = major * (1 - _numbers(catalog, "ellipticity")), _numbers(catalog, "theta")
        shapeless = ~(np.isfinite(minor) & np.isfinite(angle) & (minor > 0))
        minor[shapeless], angle[shapeless] = np.nan, 0.0
    labels = [""] * len(x) if label is None else [str(value) for value in np.asarray(catalog[label]).tolist()]
    if coordinates != "image":
        x, y, scale, angle = _on_sky(catalog, x, y, angle, coordinates)
        major, minor = major * scale, minor * scale
    columns = (values.tolist() for values in (x, y, major, minor, angle))
    return [
        Region(a, b, r, None if np.isnan(m) else m, t, text, coordinates)
        for a, b, r, m, t, text in zip(*columns, labels, strict=True)
    ]


def _positive(radius: Any) -> float:
    number = float(getattr(radius, "value", radius))
    if not 0 < number < np.inf:
        raise OptionError(f"radius={radius}: must be a positive number of pixels, or the name of a column")
    return number


def _numbers(catalog: SourceCatalog, name: str) -> NDArray[np.float64]:
    values = np.asarray(getattr(catalog[name], "value", catalog[name]))
    if values.dtype.kind not in "biuf":
        raise OptionError(f"column {name!r} holds {values.dtype}: must be numbers")
    return np.array(values, dtype=float)


def _on_sky(
    catalog: SourceCatalog, x: NDArray[np.float64], y: NDArray[np.float64], angle: NDArray[np.float64], frame: str
) -> tuple[NDArray[np.float64], ...]:
    """Longitude, latitude, degrees a pixel and the angle from west towards north, each at the source's own place."""
    image = catalog.image
    if image is None:
        raise CatalogError(
            "the catalogue has no image (it was read or pickled), so no WCS: catalog.attach(frame) brings it back, "
            "or use coordinates='image'"
        )
    lon, lat = sky_positions(image, x, y, frame)
    step = 0.5
    turn = np.radians(angle)
    along, across = (np.cos(turn) * step, np.sin(turn) * step), (-np.sin(turn) * step, np.cos(turn) * step)
    east, north = _offset(image, x, y, along, frame)
    east_2, north_2 = _offset(image, x, y, across, frame)
    scale = np.sqrt(np.abs(east * north_2 - north * east_2)) / (2 * step)
    return lon, lat, scale, np.degrees(np.arctan2(north, -east))


def _offset(image: Any, x: Any, y: Any, by: tuple[Any, Any], frame: str) -> tuple[NDArray[np.float64], ...]:
    """Degrees towards east and north from one side of a place to the other."""
    (lon_1, lat_1), (lon_2, lat_2) = (
        sky_positions(image, x + sign * by[0], y + sign * by[1], frame) for sign in (-1, 1)
    )
    east = ((lon_2 - lon_1 + 180) % 360 - 180) * np.cos(np.radians((lat_1 + lat_2) / 2))
    return east, lat_2 - lat_1
