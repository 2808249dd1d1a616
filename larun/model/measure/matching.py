"""Which sources of a catalogue are which of another list: mutual nearest neighbours, in pixels or on the sky."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError, OptionError
from larun.model.measure.positions import catalogue_frame
from larun.provenance import Provenance

if TYPE_CHECKING:
    from astropy.table import QTable
    from astropy.units import Quantity

    from larun.model.catalog import SourceCatalog

__all__ = ["Match", "Pairs", "match", "nearest_pairs", "positions"]

#: Distances that differ by less than this share are a tie: the rounding of a distance computed from either end.
_TIE = 1e-12


class Pairs(NamedTuple):
    """Pairs of two lists: an index into each, rising in the first, and their distance."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Match:
    """The pairs that :meth:`larun.SourceCatalog.match` has found, one row each, in the order of the catalogue.

    Parameters
    ----------
    catalog : SourceCatalog
        The matched sources, with the record of the match.
    other : astropy.table.QTable
        The matched rows of the other list, in the same order.
    index, other_index : (n,) int64
        Rows of the pairs in the catalogue and in the other list.
    separation : Quantity (n,)
        In pixels or arcseconds.
    """

    catalog: SourceCatalog
    other: QTable
    index: NDArray[np.int64]
    other_index: NDArray[np.int64]
    separation: Quantity

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} pairs>"

    @property
    def provenance(self) -> Provenance:
        """The record of the matched sources."""
        return self.catalog.provenance

    def _replace(self, *, provenance: Provenance) -> Self:
        return attrs.evolve(self, catalog=self.catalog._replace(provenance=provenance))


def match(catalog: SourceCatalog, other: Any, radius: Any) -> tuple[Match, NDArray[np.float64]]:
    """Match a catalogue with another list; also the positions (n, 2) of that list, for the record.

    Raises
    ------
    OptionError
        If the radius or the list makes no sense.
    CatalogError
        If a table lacks the coordinates.
    """
    from astropy.units import Quantity, arcsec, pix

    limit, on_sky = _limit(radius)
    frame = _frame_of(catalog) if on_sky else None
    here, there = positions(catalog, on_sky, frame), positions(other, on_sky, frame)
    if on_sky:
        chord = 2 * math.sin(limit / 2)
        pairs = nearest_pairs(_directions(here), _directions(there), chord)
        separation = Quantity(2 * np.arcsin(np.clip(pairs.distance / 2, 0, 1)), "rad").to(arcsec)
    else:
        pairs = nearest_pairs(here, there, limit)
        separation = Quantity(pairs.distance, pix)
    for plane in (pairs.first, pairs.second):
        plane.flags.writeable = False
    made = Match(
        catalog=catalog._replace(table=catalog.table[pairs.first]),
        other=_rows(other, there, on_sky)[pairs.second],
        index=pairs.first,
        other_index=pairs.second,
        separation=separation,
    )
    return made, there


def _limit(radius: Any) -> tuple[float, bool]:
    """The radius as pixels or radians, and whether it is an angle."""
    from astropy.units import Quantity, UnitConversionError, pix, rad

    says = "give pixels as a number, or an angle such as 1 * astropy.units.arcsec"
    if isinstance(radius, Quantity):
        if radius.ndim:
            raise OptionError(f"radius={radius}: must be one number; {says}")
        if radius.unit == pix:
            value, on_sky = float(radius.value), False
        else:
            try:
                value, on_sky = float(radius.to_value(rad)), True
            except UnitConversionError as error:
                raise OptionError(f"radius={radius}: {says}") from error
    else:
        if isinstance(radius, bool) or not isinstance(radius, int | float | np.integer | np.floating):
            raise OptionError(f"radius={radius!r}: {says}")
        value, on_sky = float(radius), False
    if not 0 < value < math.inf or (on_sky and value > math.pi):
        raise OptionError(f"radius={radius}: must be above 0" + (" and at most 180 degrees" if on_sky else ""))
    return value, on_sky


def nearest_pairs(here: NDArray[np.float64], there: NDArray[np.float64], radius: float) -> Pairs:
    """Pairs of points that are each other's nearest, not farther apart than ``radius``.

    Of points at the same distance the first in its list counts, so the result depends on nothing but the lists.
    Points that are not finite have no neighbour.

    Parameters
    ----------
    here, there : (n, d) and (m, d) float64
        Points.
    radius : float
        Largest distance.

    Examples
    --------
    >>> nearest_pairs(np.array([[0.0], [5.0], [9.0]]), np.array([[5.4], [4.9], [0.2]]), 1.0)
    Pairs(first=array([0, 1]), second=array([2, 1]), distance=array([0.2, 0.1]))
    """
    one, two = (np.flatnonzero(np.isfinite(points).all(axis=1)) for points in (here, there))
    if not (one.size and two.size):
        none = np.empty(0, np.int64)
        return Pairs(none, none.copy(), np.empty(0))
    ours, theirs = here[one], there[two]
    forward, backward = _nearest(ours, theirs, radius), _nearest(theirs, ours, radius)
    rows = np.flatnonzero(forward >= 0)
    rows = rows[backward[forward[rows]] == rows]
    columns = forward[rows]
    distance = np.sqrt(((ours[rows] - theirs[columns]) ** 2).sum(axis=1))
    return Pairs(one[rows].astype(np.int64), two[columns].astype(np.int64), distance)


def _nearest(points: NDArray[np.float64], among: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """Index of the nearest of ``among`` within ``radius``, the lowest of those at one distance; -1 for none."""
    from scipy.spatial import KDTree

    tree = KDTree(among)
    bound = radius * (1 + _TIE)
    distance, index = tree.query(points, k=2, distance_upper_bound=np.nextafter(bound, np.inf))
    made = np.where(np.isfinite(distance[:, 0]), index[:, 0], -1).astype(np.int64)
    tied = np.flatnonzero(np.isfinite(distance[:, 1]) & (distance[:, 1] <= distance[:, 0] * (1 + _TIE)))
    if tied.size:
        for row, near in zip(tied, tree.query_ball_point(points[tied], distance[tied, 0] * (1 + _TIE)), strict=True):
            made[row] = min(near)
    return made


def _directions(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors of angles in degrees: right over 360 degrees, at the poles, and for negative angles."""
    lon, lat = np.radians(lonlat.T)
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _frame_of(catalog: SourceCatalog) -> Any:
    """The celestial frame of a catalogue's coordinates, ICRS where there is no image."""
    wcs = None if catalog.image is None else catalog.image.wcs
    if wcs is None:
        return "icrs"
    return catalogue_frame(wcs)


def positions(thing: Any, on_sky: bool, frame: Any = "icrs") -> NDArray[np.float64]:
    """Positions (n, 2) of a catalogue, table, sky coordinates or array: x and y in pixels, or degrees on the sky.

    Raises
    ------
    CatalogError
        If a table lacks the columns.
    OptionError
        If it is nothing of the kind.
    """
    if hasattr(thing, "transform_to"):
        if not on_sky:
            raise OptionError("sky coordinates: give the radius as an angle, for example 1 * astropy.units.arcsec")
        there = thing.transform_to(frame).spherical
        return np.column_stack([np.atleast_1d(there.lon.deg), np.atleast_1d(there.lat.deg)])
    columns = getattr(thing, "colnames", None) or getattr(thing, "columns", None)
    if columns is not None:
        wanted, unit = (("ra", "dec"), "deg") if on_sky else (("x", "y"), "pix")
        known = {str(name).lower(): str(name) for name in columns}
        missing = [name for name in wanted if name not in known]
        if missing:
            hint = "match in pixels, with radius a number" if on_sky else "match on the sky, with radius an angle"
            raise CatalogError(f"no column {' or '.join(missing)} among {', '.join(map(str, columns))}: {hint}")
        return np.column_stack([_numbers(thing[known[name]], unit, name) for name in wanted])
    try:
        array = np.asarray(thing, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{type(thing).__name__}: {_KINDS}") from error
    array = array.reshape(0, 2) if array.size == 0 else np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != 2:
        raise OptionError(f"positions of shape {array.shape}: {_KINDS}")
    return array.copy()


_KINDS = "must be a catalogue, a table with x and y or ra and dec, sky coordinates, or an (n, 2) array"


def _numbers(column: Any, unit: str, name: str) -> NDArray[np.float64]:
    from astropy.units import Quantity, UnitConversionError

    given, mask = getattr(column, "unit", None), getattr(column, "mask", None)
    values = column
    if mask is not None and not callable(mask):  # pandas has a method of that name
        plain = getattr(column, "unmasked", column)  # of a masked quantity; the data of a masked column
        values = np.array(getattr(plain, "value", np.ma.getdata(plain)), np.float64)
        values[np.broadcast_to(np.asarray(mask), values.shape)] = np.nan
    try:
        return np.asarray(values if given is None else Quantity(values, given).to_value(unit), dtype=np.float64)
    except UnitConversionError as error:
        raise CatalogError(f"column {name} is in {given}: must be in {unit}") from error


def _rows(other: Any, there: NDArray[np.float64], on_sky: bool) -> QTable:
    """The other list as a table."""
    from astropy.table import QTable, Table

    if hasattr(other, "provenance") and hasattr(other, "table"):
        return other.table
    if isinstance(other, Table):
        return QTable(other)
    names, unit = (("ra", "dec"), "deg") if on_sky else (("x", "y"), "pix")
    return QTable(there, names=names, units=(unit, unit))
