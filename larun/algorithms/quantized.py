"""Surroundings of sources as stamps of 8-bit numbers, for small classifiers; what was taken away is kept beside them.

A stamp is cut from an image as it is, or resampled by exact areas onto coarser or finer pixels around the source. Its
median is subtracted, its robust scatter divides, the inverse hyperbolic sine brings bright pixels close, and the result
becomes an integer q of -128 … 127 by one affine rule for all stamps, ``real = scale (q - zero_point)``, as LiteRT
(TensorFlow Lite) reads it. With median and scatter of each stamp the values follow again, within half a step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import SIGMA_PER_MAD
from larun.errors import OptionError

__all__ = ["Levels", "Quantizer", "cut", "levels", "resampled"]

#: Stamps that are resampled at a time: their surroundings fit into the cache.
_TOGETHER = 64
#: Part of a stamp's pixel that must be known, else it has no value.
_COVERED = 0.5


class Quantizer:
    """Real numbers between two limits as integers of 8 bits with a sign.

    Parameters
    ----------
    low, high : float
        Limits; 0 must lie between them, and becomes :attr:`zero_point` exactly.

    Raises
    ------
    OptionError
        If 0 does not lie between the limits.

    Examples
    --------
    >>> made = Quantizer(-8.0, 8.0)
    >>> made.zero_point, made.forward(np.array([-9.0, 0.0, 0.1, 9.0])).tolist()
    (0, [-128, 0, 2, 127])
    """

    def __init__(self, low: float, high: float) -> None:
        if not (-np.inf < low < 0 < high < np.inf):
            raise OptionError(f"clip = ({low}, {high}): 0 must lie between the two")
        #: A step of the integers.
        self.scale = (high - low) / 255
        #: The integer that means 0.
        self.zero_point = int(np.rint(-128 - low / self.scale))

    def forward(self, real: NDArray[np.float64]) -> NDArray[np.int8]:
        """The nearest integers; what lies beyond the limits becomes the limit, what is not finite 0.

        Parameters
        ----------
        real : array, float64
            Any shape.
        """
        steps = np.rint(np.nan_to_num(real, nan=0.0, posinf=np.inf, neginf=-np.inf) / self.scale) + self.zero_point
        return np.asarray(np.clip(steps, -128, 127), np.int8)

    def inverse(self, integers: NDArray[np.int8]) -> NDArray[np.float64]:
        """The real numbers that the integers mean.

        Parameters
        ----------
        integers : array, int8
            Any shape.
        """
        return (integers.astype(np.float64) - self.zero_point) * self.scale


class Levels(NamedTuple):
    """What stamps are divided by, and what is subtracted before.

    Attributes
    ----------
    median, sigma : array (n,), float64
        Of each stamp: median, and scatter by the median absolute deviation; 0 and 1 where nothing is known.
    known : array (n,), float64
        Part of its pixels that have a value.
    """

    median: NDArray[np.float64]
    sigma: NDArray[np.float64]
    known: NDArray[np.float64]

    def forward(self, stamps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse hyperbolic sines of the stamps (n, size, size), in units of their scatter; NaN stays."""
        return np.arcsinh((stamps - self.median[:, None, None]) / self.sigma[:, None, None])

    def inverse(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        """The stamps that :meth:`forward` takes to these."""
        return self.median[:, None, None] + self.sigma[:, None, None] * np.sinh(real)


def cut(
    data: NDArray[np.float32], unusable: NDArray[np.bool_], x: NDArray[np.int64], y: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    """Squares of pixels as they are; NaN beyond the image and where a pixel is unusable.

    Parameters
    ----------
    data, unusable : array (ny, nx)
        Image and mask.
    x, y : array (n,), int64
        Pixel in the middle: of an even ``size``, the one to the upper right of it.
    size : int
        Pixels along each side.

    Returns
    -------
    ndarray of float64, (n, size, size)
    """
    ny, nx = data.shape
    columns = (x[:, None] + np.arange(size) - size // 2)[:, None, :]
    rows = (y[:, None] + np.arange(size) - size // 2)[:, :, None]
    inside = (columns >= 0) & (columns < nx) & (rows >= 0) & (rows < ny)
    at = np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)
    made = np.where(inside & ~unusable[at], data[at], np.nan).astype(np.float64)
    made[~np.isfinite(made)] = np.nan
    return made


def resampled(
    data: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    shape: tuple[int, float],
) -> NDArray[np.float64]:
    """Squares around places, resampled by exact areas: each new pixel is the mean of what it covers.

    Parameters
    ----------
    data, unusable : array (ny, nx)
        Image and mask.
    x, y : array (n,), float64
        Middle of the squares, pixels.
    shape : (int, float)
        New pixels along each side, and how many pixels of the image a side covers.

    Returns
    -------
    ndarray of float64, (n, size, size)
        Means in the unit of the image, so that the light is their sum times the area of a new pixel; NaN where less
        than half of a new pixel is known.
    """
    size, extent = shape
    made = np.empty((len(x), size, size))
    for start in range(0, len(x), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        made[part] = _means(data, unusable, x[part], y[part], size, extent)
    return made


def _means(
    data: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    size: int,
    extent: float,
) -> NDArray[np.float64]:
    box = int(np.ceil(extent)) + 2
    # a pixel reaches from its number to the next one: its middle is half a pixel further
    first_x, first_y = x + 0.5 - extent / 2, y + 0.5 - extent / 2
    left, bottom = np.floor(first_x).astype(np.int64), np.floor(first_y).astype(np.int64)
    values = cut(data, unusable, left + box // 2, bottom + box // 2, box)
    known = np.isfinite(values).astype(np.float64)
    steps = np.arange(size + 1) * (extent / size)
    edges_x, edges_y = (first_x - left)[:, None] + steps, (first_y - bottom)[:, None] + steps
    light, area = (_sums(plane, edges_x, edges_y) for plane in (np.nan_to_num(values), known))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(area >= _COVERED * (extent / size) ** 2, light / area, np.nan)


def _sums(
    plane: NDArray[np.float64], edges_x: NDArray[np.float64], edges_y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integrals between the edges, of (n, box, box): differences of the integral from the beginning."""
    along_x = np.diff(_integral(plane, edges_x), axis=2)
    along_y = np.diff(_integral(np.swapaxes(along_x, 1, 2), edges_y), axis=2)
    return np.swapaxes(along_y, 1, 2)


def _integral(plane: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the beginning of each line to the edges, (n, lines, edges)."""
    total = np.concatenate([np.zeros((*plane.shape[:2], 1)), np.cumsum(plane, axis=2)], axis=2)
    whole = np.minimum(edges.astype(np.int64), plane.shape[2] - 1)
    places = np.broadcast_to(whole[:, None, :], (*plane.shape[:2], edges.shape[1]))
    rest = (edges - whole)[:, None, :]
    return np.asarray(np.take_along_axis(total, places, 2) + rest * np.take_along_axis(plane, places, 2))


def levels(stamps: NDArray[np.float64]) -> Levels:
    """Median and robust scatter of each stamp: a hot pixel or a bright star changes neither much.

    Parameters
    ----------
    stamps : array (n, size, size), float64
        NaN is not known.

    Returns
    -------
    Levels
        Where more than half of the pixels are equal, the plain standard deviation stands for the scatter; a stamp
        without any pixel, or of one value, has a scatter of 1.
    """
    flat = stamps.reshape(len(stamps), stamps[:1].size or 1) if len(stamps) else np.empty((0, 1))
    known = np.isfinite(flat)
    some = known.any(axis=1)
    median, sigma = np.zeros(len(flat)), np.ones(len(flat))
    if some.any():
        chosen = flat[some]
        median[some] = np.nanmedian(chosen, axis=1)
        spread = SIGMA_PER_MAD * np.nanmedian(np.abs(chosen - median[some][:, None]), axis=1)
        spread = np.where(spread > 0, spread, np.nanstd(chosen, axis=1))
        sigma[some] = np.where(spread > 0, spread, 1.0)
    return Levels(median, sigma, known.mean(axis=1))
