"""What the sky of one calibrated frame looks like: level, gradient, structure in cells, streaks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.streaks import Streak, find_streaks
from larun.algorithms.structure import cell_means, fit_patterns, smoothed
from larun.errors import OptionError
from larun.model.measure.ellipses import values_of

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["SkyFacts", "cell_size", "plane", "sky_facts"]

_MESH = 64
_CELLS = 128  # along the longer axis, at most
_SMALLEST = 8  # pixels of a cell
_LIMIT = 3.5  # times the noise of 3 × 3 pixels: what lies farther from the sky on either side is not sky
_GROWTH = 3  # pixels around it
_WIDE = 2.5  # times the FWHM, of a masked star; of a bright one more
_ROUND = 0.4  # ellipticity of what may be a star, and not a piece of a streak
_BRIGHT = 10.0  # of a streak that is looked for among the stars
_NEAR, _ALONG = 40.0, 8.0  # pixels and degrees within which a second streak is the first
_COARSE = 8  # cells in a piece of the map that a plane is fitted to


class SkyFacts(NamedTuple):
    """The sky of a frame.

    Attributes
    ----------
    level, rms : float
        Medians of the background and of its pixel-to-pixel noise, electrons.
    cells : ndarray of float32, (rows, columns)
        Mean of the pixels without sources in square cells, electrons; NaN where there are too few.
    size : int
        Pixels of a cell.
    gradient : (float, float)
        Change from edge to edge along x and y over the level, from a plane; NaN where none can be fitted.
    streaks : tuple of Streak
        What crosses the frame on straight lines.
    """

    level: float
    rms: float
    cells: NDArray[np.float32]
    size: int
    gradient: tuple[float, float]
    streaks: tuple[Streak, ...]


def sky_facts(frame: Frame, catalog: SourceCatalog) -> SkyFacts:
    """Measure them; the catalogue tells which places are stars."""
    sky = frame.background(mesh=_MESH)
    level, rms = float(np.median(sky.mesh_level)), float(np.median(sky.mesh_rms))
    residual = frame.data - sky.level
    usable = ((frame.flags & fl.UNUSABLE) == 0) & np.isfinite(residual)
    size = cell_size(frame.shape)
    cells = cell_means(frame.data, usable & ~_sources(residual, usable, rms), size)
    return SkyFacts(level, rms, cells, size, _gradient(cells, level), _streaks(residual, usable, catalog))


def cell_size(shape: tuple[int, int]) -> int:
    """Pixels of a cell: so many that a map has at most 128 × 128."""
    return max(_SMALLEST, -(-max(shape) // _CELLS))


def plane(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The patterns of a plane: 1, and x and y from -1/2 to 1/2 from edge to edge."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return np.ones(shape), (x + 0.5) / shape[1] - 0.5, (y + 0.5) / shape[0] - 0.5


def _sources(residual: NDArray[np.float32], usable: NDArray[np.bool_], rms: float) -> NDArray[np.bool_]:
    """Pixels near anything brighter or darker than the noise: both, so that the mean of what is left is the sky's."""
    from scipy.ndimage import maximum_filter, uniform_filter

    soft = uniform_filter(np.where(usable, residual, np.float32(0)), 3, mode="nearest")
    far = np.abs(soft) > np.float32(_LIMIT / 3 * rms)
    return np.asarray(maximum_filter(far.view(np.uint8), 2 * _GROWTH + 1, mode="nearest").view(bool))


def _gradient(cells: NDArray[np.float32], level: float) -> tuple[float, float]:
    patterns = plane(cells.shape)
    try:
        fit = fit_patterns(smoothed(cells, _COARSE), patterns)
    except OptionError:
        return (math.nan, math.nan)
    return (float(fit.values[1] / level), float(fit.values[2] / level)) if level > 0 else (math.nan, math.nan)


def _streaks(residual: NDArray[np.float32], usable: NDArray[np.bool_], catalog: SourceCatalog) -> tuple[Streak, ...]:
    """Streaks outside of stars; a piece of a streak that was taken for a source is as long as no star."""
    table = catalog.table
    x, y, fwhm, ellipticity, snr = (values_of(table, name) for name in ("x", "y", "fwhm", "ellipticity", "snr"))
    usual = float(np.nanmedian(fwhm)) if np.isfinite(fwhm).any() else 3.0
    star = np.isfinite(x) & np.isfinite(y) & ~(ellipticity > _ROUND)
    radius = _WIDE * usual * (1 + 0.4 * np.log10(np.maximum(snr[star] / 10, 1)))
    bright = find_streaks(residual, usable, threshold=_BRIGHT)  # one whose pieces were taken for stars
    mask = ~usable
    ny, nx = residual.shape
    for column, row, reach in zip(x[star], y[star], radius, strict=True):
        x0, x1 = max(0, round(column - reach)), min(nx, round(column + reach) + 1)
        y0, y1 = max(0, round(row - reach)), min(ny, round(row + reach) + 1)
        mask[y0:y1, x0:x1] = True
    faint = [one for one in find_streaks(residual, ~mask) if not any(_same(one, other) for other in bright)]
    return (*bright, *faint)


def _same(one: Streak, other: Streak) -> bool:
    """Whether two streaks lie on nearly the same line: the ends of one are near the other."""
    angle = math.radians(other.angle)
    away = [
        abs((y - other.y1) * math.cos(angle) - (x - other.x1) * math.sin(angle))
        for x, y in ((one.x1, one.y1), (one.x2, one.y2))
    ]
    return min(away) < _NEAR and abs((one.angle - other.angle + 90) % 180 - 90) < _ALONG
