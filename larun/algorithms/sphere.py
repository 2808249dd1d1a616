"""Positions on the sky: unit vectors, separations, motion of stars, and HEALPix cells.

Vectors are right at right ascension 0 and at the poles, where differences of coordinates are not. The cells are those
of HEALPix (Górski et al. 2005, ApJ 622, 759) in the nested scheme: level 0 has 12 cells, each level four times as many
as the one before, and the cells within cell p are 4 p to 4 p + 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = [
    "Circle",
    "Motion",
    "Place",
    "cell_centres",
    "cell_radius",
    "cells",
    "cells_in_circle",
    "coordinates",
    "directions",
    "enclosing_circle",
    "moved",
    "separation",
]

MAX_LEVEL = 24
_MAS = math.radians(1 / 3_600_000)
_FACE_ROW = np.array(
    [2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
)  # of the southern corner of each base cell, in units of nside
#: Of their centres, in units of 45 degrees.
_FACE_LONGITUDE = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


class Place(NamedTuple):
    """Right ascension (0 to 360) and declination in degrees."""

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]


class Circle(NamedTuple):
    """A circle on the sky, in degrees."""

    ra: float
    dec: float
    radius: float


class Motion(NamedTuple):
    """Where stars are after some years, and how they move there.

    Attributes
    ----------
    ra, dec : ndarray of float64, (n,)
        Degrees.
    pmra, pmdec : ndarray of float64, (n,)
        mas a year; the first times the cosine of the declination.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    pmra: NDArray[np.float64]
    pmdec: NDArray[np.float64]


def directions(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors of right ascensions and declinations in degrees, (n, 3).

    Examples
    --------
    >>> directions([0.0, 90.0], [0.0, 0.0]).round(6).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    lon, lat = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def coordinates(vectors: NDArray[np.float64]) -> Place:
    """Right ascensions and declinations in degrees of vectors (n, 3) of any length."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return Place(_turn(np.degrees(np.arctan2(y, x))), np.degrees(np.arctan2(z, np.hypot(x, y))))


def _turn(ra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Within 0 <= ra < 360; the remainder of a tiny negative number would be 360."""
    made = np.mod(ra, 360.0)
    return np.asarray(np.where(made >= 360.0, 0.0, made), np.float64)


def separation(ra: ArrayLike, dec: ArrayLike, ra2: ArrayLike, dec2: ArrayLike) -> NDArray[np.float64]:
    """Degrees between positions in degrees, to rounding at all distances (Vincenty's formula).

    Examples
    --------
    >>> float(separation(359.5, 0.0, 0.5, 0.0).round(9)), float(separation(0, 89, 180, 89).round(9))
    (1.0, 2.0)
    """
    away = np.radians(np.asarray(ra2, np.float64) - np.asarray(ra, np.float64))
    one, two = np.radians(np.asarray(dec, np.float64)), np.radians(np.asarray(dec2, np.float64))
    across = np.cos(two) * np.sin(away)
    up = np.cos(one) * np.sin(two) - np.sin(one) * np.cos(two) * np.cos(away)
    along = np.sin(one) * np.sin(two) + np.cos(one) * np.cos(two) * np.cos(away)
    return np.asarray(np.degrees(np.arctan2(np.hypot(across, up), along)), np.float64)


def enclosing_circle(ra: ArrayLike, dec: ArrayLike) -> Circle:
    """A circle around the mean direction that holds all finite positions.

    Raises
    ------
    OptionError
        If no position is finite.
    """
    lon, lat = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    good = np.isfinite(lon) & np.isfinite(lat)
    if not good.any():
        raise OptionError("no position is finite: there is no circle around them")
    mean = directions(lon[good], lat[good]).mean(axis=0)
    centre = coordinates(mean)
    reach = separation(lon[good], lat[good], centre.ra, centre.dec)
    return Circle(float(centre.ra), float(centre.dec), float(reach.max()))


def moved(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    pmra: NDArray[np.float64],
    pmdec: NDArray[np.float64],
    years: ArrayLike,
    *,
    parallax: NDArray[np.float64] | None = None,
    observer: NDArray[np.float64] | None = None,
) -> Motion:
    """Move stars along straight lines in space, seen from the barycentre or from an observer.

    Parameters
    ----------
    ra, dec : ndarray of float64, (n,)
        Degrees.
    pmra, pmdec : ndarray of float64, (n,)
        mas a year, the first times the cosine of the declination; NaN counts as 0.
    years : array_like, (n,) or a number
        Julian years to move by.
    parallax : ndarray of float64, (n,), optional
        mas; NaN and negative ones count as 0.
    observer : ndarray of float64, (3,), optional
        From the barycentre, in au. Without it no parallax is applied.

    Notes
    -----
    The vector of a star grows by its tangential motion: right at the poles, and for fast stars (Lindegren et al. 2012,
    A&A 538, A78, eq. 4), without radial velocities, whose effect is below 1 mas in 50 years for all but a few stars.

    Examples
    --------
    >>> across = moved(np.array([10.0]), np.array([89.9999]), np.zeros(1), np.array([1000.0]), 1.0)
    >>> float(across.ra[0].round(3)), float(across.dec[0].round(7))  # 1 arcsec, over the pole
    (190.0, 89.9998222)
    """
    lon, lat = np.radians(ra), np.radians(dec)
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=-1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1)
    speed = _MAS * (np.nan_to_num(pmra)[:, None] * east + np.nan_to_num(pmdec)[:, None] * north)
    vector = directions(ra, dec) + np.broadcast_to(np.asarray(years, np.float64), lon.shape)[:, None] * speed
    length = np.sqrt((vector**2).sum(axis=-1))[:, None]
    if parallax is not None and observer is not None:
        vector = vector - _MAS * np.maximum(np.nan_to_num(parallax), 0.0)[:, None] * observer
    place = coordinates(vector)
    still = np.all(speed == 0, axis=-1) & (parallax is None or observer is None)
    new_ra, new_dec = np.where(still, _turn(ra), place.ra), np.where(still, dec, place.dec)
    lon, lat = np.radians(new_ra), np.radians(new_dec)
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=-1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1)
    seen = speed / length
    known = np.isfinite(pmra) & np.isfinite(pmdec)
    return Motion(
        new_ra,
        new_dec,
        np.where(known, (seen * east).sum(axis=-1) / _MAS, np.nan),
        np.where(known, (seen * north).sum(axis=-1) / _MAS, np.nan),
    )


def _checked(level: int) -> int:
    if isinstance(level, bool) or not isinstance(level, int | np.integer) or not 0 <= level <= MAX_LEVEL:
        raise OptionError(f"level={level!r}: must be a whole number from 0 to {MAX_LEVEL}")
    return int(level)


def cells(level: int, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.int64]:
    """The cell of each position.

    Parameters
    ----------
    level : int
        0 to 24; there are 12 · 4^level cells.
    ra, dec : array_like, (n,)
        Degrees, finite.

    Raises
    ------
    OptionError
        If the level is none, or a position is not finite or beyond a pole.

    Examples
    --------
    >>> cells(0, [45.0, 45.0, 0.0], [60.0, -60.0, 0.0]).tolist()
    [0, 8, 4]
    """
    side = 1 << _checked(level)
    lon, lat = np.atleast_1d(np.asarray(ra, np.float64)), np.atleast_1d(np.asarray(dec, np.float64))
    if not (np.isfinite(lon).all() and (np.abs(lat) <= 90).all()):
        raise OptionError("positions must be finite, with declinations from -90 to 90 degrees")
    z = np.sin(np.radians(lat))
    quarter = _turn(lon) / 90.0  # 0 to 4
    equator = np.abs(z) <= 2 / 3
    face, x, y = np.zeros(len(z), np.int64), np.zeros(len(z), np.int64), np.zeros(len(z), np.int64)
    for mask, rule in ((equator, _equatorial), (~equator, _polar)):
        if mask.any():
            face[mask], x[mask], y[mask] = rule(side, z[mask], lat[mask], quarter[mask])
    return (face << (2 * int(level))) + _interleaved(x) + 2 * _interleaved(y)


def _equatorial(
    side: int, z: NDArray[np.float64], lat: NDArray[np.float64], quarter: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    one, two = side * (0.5 + quarter), side * z * 0.75
    rising = np.floor(one - two).astype(np.int64)  # lines that ascend, and that descend
    falling = np.floor(one + two).astype(np.int64)
    first, second = rising // side, falling // side
    face = np.where(first == second, (first & 3) + 4, np.where(first < second, first & 3, (second & 3) + 8))
    return face, falling % side, side - rising % side - 1


def _polar(
    side: int, z: NDArray[np.float64], lat: NDArray[np.float64], quarter: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    whole = np.minimum(quarter.astype(np.int64), 3)
    part = quarter - whole
    # sqrt(3 (1 - |z|)) without the loss of digits near the poles
    reach = side * math.sqrt(6) * np.sin(np.radians(90 - np.abs(lat)) / 2)
    rising = np.minimum((part * reach).astype(np.int64), side - 1)
    falling = np.minimum(((1 - part) * reach).astype(np.int64), side - 1)
    north = z >= 0
    x = np.where(north, side - falling - 1, rising)
    y = np.where(north, side - rising - 1, falling)
    return np.where(north, whole, whole + 8), x, y


def _interleaved(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits with a zero between each."""
    made = values & 0xFFFFFFFF
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        made = (made | (made << shift)) & mask
    return made


def _every_second(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The inverse of :func:`_interleaved`; other bits do not count."""
    made = values & 0x5555555555555555
    for shift, mask in (
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    ):
        made = (made | (made >> shift)) & mask
    return made


def cell_centres(level: int, numbers: ArrayLike) -> Place:
    """Centres of cells, in degrees.

    Raises
    ------
    OptionError
        If the level is none, or there is no such cell.

    Examples
    --------
    >>> place = cell_centres(0, [4])
    >>> float(place.ra[0]), float(place.dec[0])
    (0.0, 0.0)
    """
    side = 1 << _checked(level)
    cell = np.atleast_1d(np.asarray(numbers, np.int64))
    if len(cell) and (cell.min() < 0 or cell.max() >= 12 * side * side):
        raise OptionError(f"cells of level {level} are 0 to {12 * side * side - 1}")
    face, inside = cell >> (2 * int(level)), cell & (side * side - 1)
    x, y = _every_second(inside), _every_second(inside >> 1)
    ring = _FACE_ROW[face] * side - x - y - 1
    polar_north, polar_south = ring < side, ring > 3 * side
    width = np.where(polar_north, ring, np.where(polar_south, 4 * side - ring, side)).astype(np.float64)
    cap = width**2 / (3.0 * side * side)  # 1 - |z| in the caps
    middle = (2 * side - ring) * (2.0 / (3.0 * side))
    polar = polar_north | polar_south
    z = np.where(polar, np.where(polar_north, 1 - cap, cap - 1), middle)
    cos = np.sqrt(np.where(polar, cap * (2 - cap), (1 - z) * (1 + z)))
    place = _FACE_LONGITUDE[face] * width + (x - y)
    return Place(_turn(45.0 * place / width), np.degrees(np.arctan2(z, cos)))


def cell_radius(level: int) -> float:
    """Degrees from the centre of a cell to its farthest corner, at most."""
    side = 1 << _checked(level)
    high = 1 - (1 - 1 / side) ** 2 / 3
    one = (math.degrees(math.pi / (4 * side)), math.degrees(math.asin(2 / 3)))
    return float(separation(*one, 0.0, math.degrees(math.asin(high))))


def cells_in_circle(level: int, ra: float, dec: float, radius: float) -> NDArray[np.int64]:
    """The cells that a circle may touch, in order: none that it touches is left out, few others are in.

    Parameters
    ----------
    level : int
        Of the cells.
    ra, dec, radius : float
        Degrees.

    Raises
    ------
    OptionError
        If the level is none, or the radius is negative.

    Examples
    --------
    >>> cells_in_circle(3, 10.0, 41.0, 0.1).tolist()
    [40, 41, 42]
    """
    if not radius >= 0:
        raise OptionError(f"radius={radius!r}: must not be negative")
    found = np.arange(12, dtype=np.int64)
    for depth in range(_checked(level) + 1):
        if depth:
            found = (4 * found[:, None] + np.arange(4)).ravel()
        centres = cell_centres(depth, found)
        near = separation(centres.ra, centres.dec, ra, dec) <= radius + cell_radius(depth) * (1 + 1e-9) + 1e-9
        found = found[near]
    return found
