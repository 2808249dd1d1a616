"""Structure of the sky in coarse cells: planes, smooth parts, and what several frames have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.robust import mad_sigma
from larun.errors import OptionError

__all__ = ["Common", "Fit", "cell_means", "common", "fit_patterns", "smoothed"]

Array = NDArray[np.float64]

_FEWEST = 0.25  # of the pixels of a cell
_SIGMA = 4.0
_ROUNDS = 4


class Common(NamedTuple):
    """What maps have in common.

    Attributes
    ----------
    map : ndarray of float64, (my, mx)
        Their mean; NaN where fewer than two have a value.
    variance, error : float
        Of the structure they share, without the noise of each, and its 1 σ; in the square of their unit.
    """

    map: Array
    variance: float
    error: float

    @property
    def rms(self) -> float:
        """Root of the variance; 0 where it is negative."""
        return math.sqrt(max(self.variance, 0.0))

    @property
    def sigma(self) -> float:
        """The variance over its error."""
        return self.variance / self.error if self.error > 0 else 0.0


class Fit(NamedTuple):
    """Patterns fitted to a map.

    Attributes
    ----------
    values, errors : ndarray of float64, (patterns,)
        Coefficient of each, and its 1 σ from the scatter of the cells about the fit.
    residual : ndarray of float64, (my, mx)
        What is left.
    """

    values: Array
    errors: Array
    residual: Array


def cell_means(image: NDArray[np.float32], usable: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """Means of the usable pixels of square cells; NaN where fewer than a quarter are.

    Pixels beyond the last whole cell are left out.

    Examples
    --------
    >>> cell_means(np.arange(16, dtype=np.float32).reshape(4, 4), np.ones((4, 4), bool), 2).tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    if size < 1 or min(image.shape) < size:
        raise OptionError(f"size = {size}: give cells of at least a pixel, and no larger than {image.shape}")
    my, mx = (length // size for length in image.shape)
    cut = (slice(0, my * size), slice(0, mx * size))
    good = usable[cut]
    count = good.reshape(my, size, mx, size).sum(axis=(1, 3), dtype=np.int32)
    # the sums of differences from one value: float32 has digits to spare
    zero = np.float32(np.median(image[:: max(1, my), :: max(1, mx)]))
    zero = zero if np.isfinite(zero) else np.float32(0)
    total = np.where(good, image[cut] - zero, np.float32(0)).reshape(my, size, mx, size).sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = total / count + zero
    return np.asarray(np.where(count >= _FEWEST * size * size, means, np.nan), np.float32)


def smoothed(values: ArrayLike, size: int) -> Array:
    """Running means over ``size`` cells along each axis, of the cells that have a value; NaN where none has."""
    from scipy.ndimage import uniform_filter

    cells = np.asarray(values, np.float64)
    known = np.isfinite(cells)
    total = uniform_filter(np.where(known, cells, 0.0), size, mode="reflect")
    weight = uniform_filter(known.astype(np.float64), size, mode="reflect")
    return np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), np.nan)


def common(maps: Sequence[ArrayLike]) -> Common:
    """The structure that maps of independent noise share.

    The mean product of two different maps, over all pairs and cells: noise that is independent from map to map has no
    part in it, so that structure far below the noise of a cell is measured. The maps must have mean zero; cells that
    are neighbours must be independent, or the error is too small.

    Raises
    ------
    OptionError
        If there are fewer than two maps.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> shared = 0.1 * np.sin(np.arange(64.0))[:, None] * np.ones(64)
    >>> found = common([shared + rng.normal(0, 0.3, (64, 64)) for _ in range(4)])
    >>> bool(abs(found.rms - 0.07) < 0.01), found.sigma > 5
    (True, True)
    """
    if len(maps) < 2:
        raise OptionError(f"{len(maps)} map: structure is shared by two at least")
    stack = np.array([np.asarray(one, np.float64) for one in maps])
    known = np.isfinite(stack)
    filled = np.where(known, stack, 0.0)
    count = known.sum(axis=0)
    total, squares = filled.sum(axis=0), (filled**2).sum(axis=0)
    pairs = count * (count - 1.0)
    good = pairs > 0
    mean = np.where(good, total / np.maximum(count, 1), np.nan)
    product = (total[good] ** 2 - squares[good]) / pairs[good]
    if product.size < 2:
        return Common(mean, math.nan, math.nan)
    limit = np.median(product) + 30 * mad_sigma(product)
    product = product[product <= max(float(limit), 0.0)]  # one cell with a star in it tells of no structure
    return Common(mean, float(product.mean()), float(product.std(ddof=1) / math.sqrt(product.size)))


def fit_patterns(values: ArrayLike, patterns: Sequence[ArrayLike]) -> Fit:
    """Least squares of patterns to the cells that have a value, without the cells that lie far off.

    Raises
    ------
    OptionError
        If there are fewer cells than twice the patterns.

    Examples
    --------
    >>> y, x = np.mgrid[:8, :8] / 7.0
    >>> fit = fit_patterns(2 + 3 * x - y, [np.ones((8, 8)), x, y])
    >>> fit.values.round(6).tolist()
    [2.0, 3.0, -1.0]
    """
    cells = np.asarray(values, np.float64)
    columns = np.stack([np.asarray(pattern, np.float64).ravel() for pattern in patterns], axis=1)
    flat = cells.ravel()
    good = np.isfinite(flat) & np.isfinite(columns).all(axis=1)
    if good.sum() < 2 * len(patterns):
        raise OptionError(f"{int(good.sum())} cells for {len(patterns)} patterns: too few to fit")
    for _ in range(_ROUNDS):
        matrix = columns[good].T @ columns[good]
        inverse = np.linalg.pinv(matrix)
        fitted = inverse @ (columns[good].T @ flat[good])
        left = flat - columns @ fitted
        scatter = mad_sigma(left[good], 0.0)
        kept = good & (np.abs(left) <= max(_SIGMA * scatter, 1e-12))
        if kept.sum() == good.sum() or kept.sum() < 2 * len(patterns):
            break
        good = kept
    degrees = max(int(good.sum()) - len(patterns), 1)
    variance = float(np.sum(left[good] ** 2)) / degrees
    return Fit(fitted, np.sqrt(np.maximum(np.diag(inverse), 0) * variance), left.reshape(cells.shape))
