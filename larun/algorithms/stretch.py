"""From pixel values to grey levels: limits and stretches that follow the values' own noise, and thumbnails."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.robust import mad_sigma
from larun.errors import OptionError
from larun.flags import UNUSABLE

__all__ = ["STRETCHES", "Stretch", "stretch_of", "thumbnail", "thumbnail_steps"]

#: asinh is linear within the noise and logarithmic in stars; zscale is linear between the limits of IRAF's zscale.
STRETCHES = ("asinh", "linear", "log", "zscale")

_SAMPLES = 4  # rows and columns of each thumbnail pixel's block that are looked at, at most about so many


class Stretch(NamedTuple):
    """How values become grey levels between ``low`` (black) and ``high`` (white).

    Attributes
    ----------
    low, high : float
        Limits, in the unit of the values.
    middle, width : float
        Median and robust scatter of the values.
    kind : str
        ``asinh((v - middle) / width)``, ``log(1 + (v - low) / width)``, or ``v`` itself for linear and zscale.
    """

    low: float
    high: float
    middle: float
    width: float
    kind: str = "asinh"

    def forward(self, values: ArrayLike) -> NDArray[np.float64]:
        """The stretched values, rising with the values; not yet between 0 and 1."""
        array = np.asarray(values, dtype=np.float64)
        if self.kind == "asinh":
            return np.asarray(np.arcsinh((array - self.middle) / self.width))
        if self.kind == "log":
            return np.asarray(np.log1p(np.maximum(array - self.low, 0.0) / self.width))
        return array

    def inverse(self, values: ArrayLike) -> NDArray[np.float64]:
        """The values that :meth:`forward` takes to these."""
        array = np.asarray(values, dtype=np.float64)
        if self.kind == "asinh":
            return np.asarray(self.middle + self.width * np.sinh(array))
        if self.kind == "log":
            return np.asarray(self.low + self.width * np.expm1(array))
        return array

    def scaled(self, values: ArrayLike) -> NDArray[np.float64]:
        """Grey levels from 0 at ``low`` to 1 at ``high``; NaN stays.

        Examples
        --------
        >>> Stretch(0.0, 10.0, 5.0, 1.0, "linear").scaled([-1, 5, 20]).tolist()
        [0.0, 0.5, 1.0]
        """
        first, last = self.forward([self.low, self.high])
        grey = (self.forward(np.clip(values, self.low, self.high)) - first) / (last - first)
        return np.asarray(np.clip(grey, 0.0, 1.0))


def stretch_of(values: ArrayLike, kind: str = "asinh") -> Stretch:
    """A stretch from the values' own median and scatter (median absolute deviation), stars and defects apart.

    Parameters
    ----------
    values : array_like
        Any shape; values that are not finite do not count.
    kind : {"asinh", "linear", "log", "zscale"}
        The form of the stretch, see :class:`Stretch`.

    Returns
    -------
    Stretch
        From 3 σ (log: 1 σ) below the median to the 99.8 per cent quantile, at least 10 σ above it, in the unit of the
        values; zscale has the limits of IRAF's ``zscale`` (:class:`astropy.visualization.ZScaleInterval`).

    Raises
    ------
    OptionError
        If there is no such stretch.

    Examples
    --------
    >>> made = stretch_of(np.random.default_rng(1).normal(100, 2, 10_000))
    >>> round(made.middle), round(made.width), round(made.low), round(made.high)
    (100, 2, 94, 120)
    """
    if kind not in STRETCHES:
        raise OptionError(f"stretch {kind!r}: must be one of {', '.join(STRETCHES)}")
    array = np.asarray(values)
    good = array[np.isfinite(array)].astype(np.float64)
    if good.size == 0:
        return Stretch(0.0, 1.0, 0.0, 1.0, kind)
    middle = float(np.median(good))
    width = mad_sigma(good, middle)
    if not width > 0:  # most values are equal: the flags of a simulation, a constant
        width = float(good.std()) or max(abs(middle), 1.0) * 1e-3
    if kind == "zscale":
        low, high = _zscale(good)
        if high > low:
            return Stretch(low, high, middle, width, kind)
    high = max(float(np.quantile(good, 0.998)), middle + 10 * width)
    return Stretch(middle - (1 if kind == "log" else 3) * width, high, middle, width, kind)


def _zscale(good: NDArray[np.float64]) -> tuple[float, float]:
    from astropy.visualization import ZScaleInterval

    low, high = ZScaleInterval().get_limits(good)
    return float(low), float(high)


def thumbnail_steps(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Distance of the samples in pixels, and the number of samples along each side of a block.

    Examples
    --------
    >>> thumbnail_steps((4096, 4096), 240), thumbnail_steps((100, 200), 240)
    ((5, 4), (1, 1))
    """
    longest = max(shape)
    step = max(1, math.ceil(longest / (_SAMPLES * size)))
    return step, math.ceil(math.ceil(longest / step) / size)


def thumbnail(data: NDArray[Any], flags: NDArray[np.uint32] | None = None, *, size: int = 240) -> NDArray[np.float64]:
    """A small image whose longer side has at most ``size`` pixels: means over blocks of samples.

    Of a large image every few rows and columns are looked at, so that the time does not depend on its size.

    Parameters
    ----------
    data : array (ny, nx)
        Values; those that are not finite do not count.
    flags : array (ny, nx), uint32, optional
        Pixel flags: unusable pixels (:data:`larun.flags.UNUSABLE`) do not count.
    size : int
        Longest side.

    Returns
    -------
    ndarray of float64
        Mean of what counts in each block; NaN where nothing does.

    Examples
    --------
    >>> thumbnail(np.arange(16.0).reshape(4, 4), size=2).tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    step, block = thumbnail_steps(data.shape, size)
    sample = data[::step, ::step].astype(np.float64)
    if flags is not None:
        sample[(flags[::step, ::step] & UNUSABLE) != 0] = np.nan
    ny, nx = (math.ceil(length / block) for length in sample.shape)
    full = np.full((ny * block, nx * block), np.nan)
    full[: sample.shape[0], : sample.shape[1]] = sample
    blocks = full.reshape(ny, block, nx, block)
    counts = np.isfinite(blocks)
    number = counts.sum(axis=(1, 3))
    total = np.where(counts, blocks, 0.0).sum(axis=(1, 3))
    made: NDArray[np.float64] = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return made
