"""Places to measure at, in whatever form a user has them, as pixel positions of an image.

Arrays, tables with pixel or sky coordinates, ``SkyCoord``, DS9 region files, and the objects of the ``regions`` package
(told by what they offer, so that it need not be installed).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError, OptionError

if TYPE_CHECKING:
    from larun.model.image import Image

__all__ = [
    "DEC",
    "RA",
    "Name",
    "X",
    "Y",
    "catalogue_frame",
    "column_in",
    "find",
    "positions_of",
    "sky_column",
    "sky_positions",
    "to_pixels",
]


class Name(NamedTuple):
    """A name under which other programs keep a quantity, and the place of their first pixel's centre."""

    name: str
    first: float = 0.0


X = (
    *map(Name, ("x", "xcentroid", "x_centroid")),
    Name("XCENTER", 1.0),
)  # DAOPHOT; photutils: small letters
X += (*map(Name, ("xcenter", "x_center", "x_fit", "x_peak")),)
X += (Name("x_image", 1.0), Name("xwin_image", 1.0), Name("x(fits)_t1", 1.0))
Y = tuple(Name({"x": "y", "X": "Y"}[name[0]] + name[1:], first) for name, first in X)
RA = (*map(Name, ("ra", "raj2000", "ra_j2000", "ra_icrs", "alpha_j2000", "ra_deg", "ramean", "right_ascension")),)
DEC = (*map(Name, ("dec", "de", "dej2000", "decj2000", "dec_j2000", "de_icrs", "dec_icrs", "delta_j2000")),)
DEC += (*map(Name, ("dec_deg", "decmean", "declination")),)

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]

_WAYS = "(n, 2) pixels, a table with x and y or ra and dec, a SkyCoord, a .reg file, or regions"


def positions_of(image: Image, positions: Any) -> Pair:
    """Pixel positions on an image.

    Parameters
    ----------
    image : Image
        Whose pixels are meant; its WCS turns sky coordinates into pixels.
    positions : array, table, SourceCatalog, SkyCoord, path or regions
        An (n, 2) array of x and y; a table or catalogue with x and y, or else with ra and dec (ICRS); sky coordinates;
        a DS9 region file; objects of the ``regions`` package.

    Returns
    -------
    x, y : array (n,)
        The first pixel's centre is (0, 0).

    Raises
    ------
    OptionError
        If they are none of these, or a unit is missing or wrong.
    CatalogError
        If sky coordinates are given and the image has no WCS.
    """
    if isinstance(positions, str | Path):
        return _from_file(image, Path(positions))
    if hasattr(positions, "ra") and hasattr(positions, "dec") and hasattr(positions, "transform_to"):
        return to_pixels(image, positions)
    if hasattr(positions, "transform_to") and hasattr(positions, "icrs"):  # sky coordinates of another frame
        return to_pixels(image, positions)
    names = getattr(positions, "colnames", None)
    if names is None and hasattr(positions, "columns") and hasattr(positions, "__getitem__"):
        names = list(positions.columns)
    if names is not None:
        return _from_table(image, positions, [str(name) for name in names])
    listed = _regions_in(positions)
    if listed is not None:
        return _from_regions(image, listed)
    return _from_array(positions)


def to_pixels(image: Image, sky: Any) -> Pair:
    """Pixel positions of a ``SkyCoord``.

    Raises
    ------
    CatalogError
        If the image has no WCS.
    """
    wcs = image.wcs
    if wcs is None:
        raise CatalogError(f"{image!r} has no WCS: give positions in pixels")
    from astropy.wcs.utils import wcs_to_celestial_frame

    there = sky.transform_to(wcs_to_celestial_frame(wcs)).spherical
    lon, lat = (np.atleast_1d(np.asarray(angle.deg, dtype=float)).reshape(-1) for angle in (there.lon, there.lat))
    if not len(lon):
        return np.zeros(0), np.zeros(0)
    # SIP is inverted by iteration: the default tolerance leaves 1e-5 pixels
    x, y = wcs.all_world2pix(lon, lat, 0, tolerance=1e-9)
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


def catalogue_frame(wcs: Any) -> Any:
    """The frame of ``ra`` and ``dec`` in a catalogue: that of the WCS where it is ICRS or FK5 of J2000, else ICRS.

    Raises
    ------
    ValueError
        If astropy knows no frame for the WCS.
    """
    from astropy.coordinates import FK5, ICRS
    from astropy.wcs.utils import wcs_to_celestial_frame

    own = wcs_to_celestial_frame(wcs)
    return own if any(own.is_equivalent_frame(frame) for frame in (ICRS(), FK5())) else ICRS()


def sky_positions(image: Image, x: NDArray[np.float64], y: NDArray[np.float64], frame: str) -> Pair:
    """Longitude and latitude in degrees of pixel positions, in ``icrs``, ``galactic``, ``fk5`` (J2000) or ``fk4``.

    Raises
    ------
    CatalogError
        If the image has no WCS.
    """
    wcs = image.wcs
    if wcs is None:
        raise CatalogError(f"{image!r} has no WCS: sky coordinates cannot be written; use coordinates='image'")
    if not len(x):
        return np.zeros(0), np.zeros(0)
    from astropy.coordinates import SkyCoord, frame_transform_graph
    from astropy.wcs.utils import wcs_to_celestial_frame

    own, wanted = wcs_to_celestial_frame(wcs), frame_transform_graph.lookup_name(frame)()
    lon, lat = wcs.all_pix2world(x, y, 0)
    if not own.is_equivalent_frame(wanted):  # of one name they may have different equinoxes
        # as coordinates of the frame, not by its name: that would keep the equinox of the WCS
        there = SkyCoord(lon, lat, unit="deg", frame=own).frame.transform_to(wanted).spherical
        lon, lat = there.lon.deg, there.lat.deg
    return np.asarray(lon, dtype=float), np.asarray(lat, dtype=float)


# -- tables ------------------------------------------------------------------------------------------------------------


def find(names: Sequence[str], known: tuple[Name, ...]) -> tuple[str, float] | None:
    """The column that holds a quantity, the first of ``known`` that is there, and where its first pixel is."""
    lower: dict[str, str] = {}
    for name in names:
        lower.setdefault(name.lower(), name)
    for candidate, first in known:
        if candidate in names:
            return candidate, first
        if candidate in lower:
            return lower[candidate], first
    return None


def column_in(table: Any, name: str, unit: str, *, needs_unit: bool = False) -> NDArray[np.float64]:
    """A column as numbers in a unit; masked values are NaN.

    Parameters
    ----------
    table : table or catalogue
        Anything that gives columns by name.
    name : str
        The column.
    unit : str
        The unit wanted.
    needs_unit : bool
        Refuse a column that states no unit, because it might be in another one.

    Raises
    ------
    OptionError
        If the unit does not convert or is missing, or the column holds no numbers.
    """
    column = table[name]
    own = getattr(column, "unit", None)
    if own is None and needs_unit:
        raise OptionError(
            f"column {name!r} has no unit, and degrees or hours cannot be told apart: say table[{name!r}].unit = 'deg' "
            "(or 'hourangle')"
        )
    mask = getattr(column, "mask", None)
    values = np.asarray(getattr(column, "unmasked", column))
    values = np.asarray(getattr(values, "value", values))
    if values.dtype.kind not in "biuf" or values.ndim != 1:
        raise OptionError(f"column {name!r} holds {values.dtype} of shape {values.shape}: give numbers, or a SkyCoord")
    plain = np.array(values, dtype=float)
    if mask is not None and not callable(mask):  # pandas has a method of that name
        plain[np.broadcast_to(np.asarray(mask), plain.shape)] = np.nan
    return plain if own is None else _converted(plain, own, unit, name)


def _converted(plain: NDArray[np.float64], own: Any, unit: str, name: str) -> NDArray[np.float64]:
    from astropy.units import Quantity, UnitConversionError, UnitTypeError

    if unit == "pix" and str(own) in ("", "pixels"):
        return plain
    try:
        return np.asarray(Quantity(plain, own).to_value(unit), dtype=float)
    except (UnitConversionError, UnitTypeError, TypeError, ValueError) as error:
        raise OptionError(f"column {name!r} is in {own}: must be a unit that converts to {unit}") from error


def sky_column(table: Any, names: Sequence[str]) -> str | None:
    """The first column of sky coordinates (photutils has ``sky_centroid``)."""
    return next((name for name in names if hasattr(table[name], "transform_to")), None)


def _from_table(image: Image, table: Any, names: list[str]) -> Pair:
    x, y = find(names, X), find(names, Y)
    if x is not None and y is not None:
        first, second = (column_in(table, name, "pix") - start for name, start in (x, y))
        return first, second
    ra, dec = find(names, RA), find(names, DEC)
    if ra is not None and dec is not None:
        from astropy.coordinates import SkyCoord

        lon, lat = (column_in(table, name, "deg", needs_unit=True) for name, _ in (ra, dec))
        there = SkyCoord(lon, lat, unit="deg", frame="icrs")
        return to_pixels(image, there)
    where = sky_column(table, names)
    if where is not None:
        return to_pixels(image, table[where])
    raise OptionError(f"positions: no columns x and y, nor ra and dec, among {', '.join(names[:30])}")


# -- regions -----------------------------------------------------------------------------------------------------------


def _from_file(image: Image, path: Path) -> Pair:
    if path.suffix.lower() != ".reg":
        raise OptionError(
            f"positions={str(path)!r}: a file of positions is a DS9 region file, .reg; read tables first, with "
            "larun.SourceCatalog.read or astropy.table"
        )
    from larun.io.regions import read_regions

    found = read_regions(path)
    if not found:
        raise OptionError(f"{path}: holds no regions")
    x, y = np.full(len(found), np.nan), np.full(len(found), np.nan)
    for frame in dict.fromkeys(region.frame for region in found):
        of_frame = [number for number, region in enumerate(found) if region.frame == frame]
        places = np.array([(found[number].x, found[number].y) for number in of_frame], dtype=float)
        if frame == "image":
            x[of_frame], y[of_frame] = places.T
            continue
        from astropy.coordinates import SkyCoord

        x[of_frame], y[of_frame] = to_pixels(image, SkyCoord(places[:, 0], places[:, 1], unit="deg", frame=frame))
    return x, y


def _is_region(value: Any) -> bool:
    return hasattr(value, "visual") and (hasattr(value, "to_sky") or hasattr(value, "to_pixel"))


def _regions_in(positions: Any) -> list[Any] | None:
    """The regions in a region, a ``Regions`` or a sequence of them; None where it is something else."""
    if _is_region(positions):
        return [positions]
    held = getattr(positions, "regions", positions)
    if not isinstance(held, list | tuple):
        return None
    listed = list(held)
    return listed if listed and all(map(_is_region, listed)) else None


def _from_regions(image: Image, listed: list[Any]) -> Pair:
    pairs = list(_centres(image, listed))
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def _centres(image: Image, listed: list[Any]) -> Iterator[Pair]:
    for number, region in enumerate(listed):
        centre = getattr(region, "center", None)
        if centre is None:
            raise OptionError(
                f"region {number}, a {type(region).__name__}, is no place to measure at: use circles or points"
            )
        if hasattr(centre, "transform_to"):
            yield to_pixels(image, centre)
        else:
            yield np.array([float(centre.x)]), np.array([float(centre.y)])


# -- arrays ------------------------------------------------------------------------------------------------------------


def _from_array(positions: Any) -> Pair:
    if hasattr(positions, "to_value"):
        try:
            positions = positions.to_value("pix")
        except Exception as error:  # astropy raises several kinds
            raise OptionError(f"positions in {positions.unit}: give pixels, or a SkyCoord") from error
    try:
        array = np.atleast_2d(np.asarray(positions, dtype=float))
    except (TypeError, ValueError) as error:
        raise OptionError(f"positions: a {type(positions).__name__} is none of {_WAYS}") from error
    if array.size == 0:
        array = array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise OptionError(f"positions of shape {array.shape}: must be {_WAYS}")
    return array[:, 0].copy(), array[:, 1].copy()
