"""What every search has in common: the sources of an image, the stars around it, and a start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.planefit import PlanePolynomial
from larun.algorithms.skymatch import FieldStart
from larun.model.reference.stars import ReferenceStars

if TYPE_CHECKING:
    from larun.model.astrometry.options import SolveOptions
    from larun.model.sky import SkyImage

__all__ = ["Sources", "Stars", "around", "half_diagonal", "places", "sources_of"]

_FLOOR = 0.03  # pixels: errors of positions are never smaller
_SATURATED = 0.5  # pixels
_MARGIN = 1.15  # of the half diagonal of the image, within which reference stars are kept


class Sources(NamedTuple):
    """Stars of an image, the brightest first: positions (n, 2), and inverse variances (n,) of these."""

    xy: NDArray[np.float64]
    weight: NDArray[np.float64]
    flux: NDArray[np.float64]


class Stars(NamedTuple):
    """The stars that a solution rests on, and where it begins.

    Attributes
    ----------
    stars : ReferenceStars
        Those around the image.
    start : FieldStart
        A rough projection.
    log_odds, tried : float, int
        What the search says.
    """

    stars: ReferenceStars
    start: FieldStart
    log_odds: float
    tried: int

    def to_record(self) -> dict[str, Any]:
        """Plain containers and arrays."""
        plane = self.start.plane
        begin = {
            "degree": plane.degree,
            "plane": np.stack([plane.centre, plane.half]),
            "coefficients": plane.coefficients,
            "at": np.array([*self.start.centre, self.start.reach]),
        }
        return {
            "stars": self.stars.to_record(),
            "start": begin,
            "log_odds": float(self.log_odds),
            "tried": int(self.tried),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Stars:
        """The inverse of :meth:`to_record`."""
        begin = record["start"]
        ends, at = np.asarray(begin["plane"], np.float64), np.asarray(begin["at"], np.float64)
        plane = PlanePolynomial(
            degree=int(begin["degree"]),
            centre=ends[0],
            half=ends[1],
            coefficients=np.asarray(begin["coefficients"], np.float64),
        )
        start = FieldStart(plane, (float(at[0]), float(at[1])), float(at[2]))
        stars = ReferenceStars.from_record(record["stars"])
        return cls(stars, start, float(record["log_odds"]), int(record["tried"]))


def sources_of(image: SkyImage, options: SolveOptions) -> Sources:
    """The sources that count, the brightest first."""
    table = image.detect(options.threshold)._table
    x, y, dx, dy, flux = (
        np.asarray(table[name].value, np.float64) for name in ("x", "y", "x_error", "y_error", "flux")
    )
    flags = np.asarray(table["flags"], np.int64)
    error = np.sqrt(np.where(np.isfinite(dx * dy), (dx**2 + dy**2) / 2, 1.0) + _FLOOR**2)
    error = np.where(flags & int(fl.SATURATED), np.maximum(error, _SATURATED), error)
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & np.isfinite(flux) & (flags & int(fl.BAD) == 0))
    order = good[np.argsort(-flux[good], kind="stable")][: options.stars]
    return Sources(np.stack([x, y], axis=1)[order], 1 / error[order] ** 2, flux[order])


def places(stars: ReferenceStars) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right ascensions and declinations in degrees."""
    return np.asarray(stars["ra"].value, np.float64), np.asarray(stars["dec"].value, np.float64)


def around(stars: ReferenceStars, start: FieldStart, image: SkyImage) -> ReferenceStars:
    """The stars that may be in the image."""
    corners = np.array([(x, y) for x in (0.0, image.shape[1] - 1.0) for y in (0.0, image.shape[0] - 1.0)])
    reach = float(np.max(np.hypot(*start.plane(corners).T)))
    return stars.cone(*start.centre, _MARGIN * reach)


def half_diagonal(image: SkyImage, scale: float) -> float:
    """Of the image, in degrees, at a scale in arcseconds a pixel."""
    return math.hypot(*image.shape) / 2 * scale / 3600
