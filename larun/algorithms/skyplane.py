"""The sky around a point as a plane, and a polynomial to that plane as the cards of a FITS header.

The stereographic projection keeps every figure its shape, however far from the point, so that figures of stars can be
compared over a large piece of sky. The gnomonic one (TAN) is that of lenses and of FITS (Calabretta & Greisen 2002, A&A
395, 1077, sections 5.1.3 and 5.1.4). Distortion is written as SIP (Shupe et al. 2005, ASP Conf. 347, 491).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.planefit import PlanePolynomial, fit_plane
from larun.algorithms.sphere import coordinates, directions

__all__ = ["from_stereographic", "from_tangent", "sip_cards", "to_stereographic", "to_tangent"]

_DEGREE = 180.0 / math.pi
_GRID = 25  # points along an axis by which the inverse is fitted
_HIGHEST = 9  # order of SIP


def _axes(ra: float, dec: float) -> NDArray[np.float64]:
    """Unit vectors to the east, to the north and to the point itself, as rows."""
    a, d = math.radians(ra), math.radians(dec)
    ca, sa, cd, sd = math.cos(a), math.sin(a), math.cos(d), math.sin(d)
    return np.array([[-sa, ca, 0.0], [-sd * ca, -sd * sa, cd], [cd * ca, cd * sa, sd]])


def _seen(ra: ArrayLike, dec: ArrayLike, centre: tuple[float, float]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("...k,ak->...a", directions(ra, dec), _axes(*centre)), np.float64)


def to_stereographic(ra: ArrayLike, dec: ArrayLike, centre: tuple[float, float]) -> NDArray[np.float64]:
    """Positions (n, 2) in degrees to the east and the north of a point; what is opposite to it is not finite.

    Examples
    --------
    >>> to_stereographic([10.0], [1.0], (10.0, 0.0)).round(4).tolist()
    [[0.0, 1.0]]
    """
    seen = _seen(ra, dec, centre)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(seen[..., :2] * (2 * _DEGREE / (1 + seen[..., 2:])), np.float64)


def from_stereographic(
    xy: NDArray[np.float64], centre: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right ascensions and declinations in degrees of positions in the plane of :func:`to_stereographic`."""
    flat = np.asarray(xy, np.float64) / (2 * _DEGREE)
    r2 = np.sum(flat**2, axis=-1, keepdims=True)
    return _back(np.concatenate([2 * flat, 1 - r2], axis=-1), centre)


def to_tangent(ra: ArrayLike, dec: ArrayLike, centre: tuple[float, float]) -> NDArray[np.float64]:
    """Positions (n, 2) in degrees to the east and the north in the tangent plane; NaN for the other half of the sky.

    Examples
    --------
    >>> to_tangent([0.5], [0.0], (359.5, 0.0)).round(4).tolist()
    [[1.0001, 0.0]]
    """
    seen = _seen(ra, dec, centre)
    front = np.where(seen[..., 2:] > 0, seen[..., 2:], np.nan)
    return np.asarray(seen[..., :2] * (_DEGREE / front), np.float64)


def from_tangent(
    xy: NDArray[np.float64], centre: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right ascensions and declinations in degrees of positions in the tangent plane."""
    flat = np.asarray(xy, np.float64) / _DEGREE
    return _back(np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1), centre)


def _back(seen: NDArray[np.float64], centre: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    place = coordinates(np.einsum("...a,ak->...k", seen, _axes(*centre)))
    return place.ra, place.dec


def sip_cards(
    plane: PlanePolynomial, centre: tuple[float, float], about: tuple[float, float], shape: tuple[int, int]
) -> dict[str, str | float | int]:
    """The cards of a TAN or TAN-SIP header.

    Parameters
    ----------
    plane : PlanePolynomial
        From pixels (0-based) to the tangent plane in degrees; at ``about`` it is 0.
    centre : (float, float)
        Right ascension and declination of the point of contact.
    about : (float, float)
        The pixel that is there.
    shape : (int, int)
        Rows and columns of the image, over which the inverse is fitted.

    Returns
    -------
    dict
        Keywords and values, in the order of a header.
    """
    terms = plane.monomials(np.asarray(about, np.float64))
    cd = np.array([[terms[0, 1, 0], terms[0, 0, 1]], [terms[1, 1, 0], terms[1, 0, 1]]])
    cards: dict[str, str | float | int] = {"WCSAXES": 2}
    suffix = "-SIP" if plane.degree > 1 else ""
    cards |= {"CTYPE1": f"RA---TAN{suffix}", "CTYPE2": f"DEC--TAN{suffix}", "CUNIT1": "deg", "CUNIT2": "deg"}
    cards |= {"CRVAL1": float(centre[0]), "CRVAL2": float(centre[1])}
    cards |= {"CRPIX1": float(about[0]) + 1, "CRPIX2": float(about[1]) + 1}
    cards |= {f"CD{i + 1}_{j + 1}": float(cd[i, j]) for i in (0, 1) for j in (0, 1)}
    cards |= {"LONPOLE": 180.0, "LATPOLE": float(centre[1]), "RADESYS": "ICRS"}
    if plane.degree == 1:
        return cards
    back = np.array([[cd[1, 1], -cd[0, 1]], [-cd[1, 0], cd[0, 0]]]) / (cd[0, 0] * cd[1, 1] - cd[0, 1] * cd[1, 0])
    forward = np.einsum("ab,bij->aij", back, terms)
    for axis, letter in enumerate("AB"):
        cards[f"{letter}_ORDER"] = plane.degree
        cards |= _named(letter, forward[axis], 2, plane.degree)
    return cards | _inverse_cards(forward, about, shape, plane.degree)


def _named(letter: str, table: NDArray[np.float64], lowest: int, degree: int) -> dict[str, float]:
    every = [(i, total - i) for total in range(lowest, degree + 1) for i in range(total, -1, -1)]
    return {f"{letter}_{i}_{j}": float(table[i, j]) for i, j in every}


def _inverse_cards(
    forward: NDArray[np.float64], about: tuple[float, float], shape: tuple[int, int], degree: int
) -> dict[str, str | float | int]:
    """The polynomial from undistorted pixels back, fitted on a grid; a degree higher, since it has no last term."""
    x, y = (np.linspace(-0.5, size - 0.5, _GRID) - middle for size, middle in zip(shape[::-1], about, strict=True))
    real = np.stack([part.ravel() for part in np.meshgrid(x, y)], axis=1)
    ideal = real.copy()
    for i in range(degree + 1):
        for j in range(degree + 1 - i):
            if i + j >= 2:
                ideal += forward[:, i, j] * (real[:, :1] ** i * real[:, 1:] ** j)
    order = min(degree + 1, _HIGHEST)
    fit = fit_plane(ideal, real - ideal, order, clip=math.inf)
    table = fit.transform.monomials(np.zeros(2))
    cards: dict[str, str | float | int] = {}
    for axis, letter in enumerate(("AP", "BP")):
        cards[f"{letter}_ORDER"] = order
        cards |= _named(letter, table[axis], 0, order)
    return cards
