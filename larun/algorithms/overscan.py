"""The electronic offset of each row, measured on overscan pixels.

Overscan pixels see no light: their mean is the offset, their scatter the read noise. Cosmic rays, hot columns and
charge that trails out of the last data columns are outliers and are left out; counts are whole numbers, so levels are
clipped means (a median of counts moves in steps of half a count).
"""

from __future__ import annotations

from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import middle
from larun.algorithms.robust import ERROR_OF_MEDIAN
from larun.errors import OptionError

__all__ = ["Overscan", "OverscanOptions", "overscan_level"]

METHODS = ("median", "polynomial", "spline", "none")

_CLIP = 4.0  # σ, beyond which an overscan pixel or row does not count
_COLUMN_CLIP = 6.0  # σ of a column's mean, beyond which the column does not count
_ROUNDING = 0.3  # rms of the rounding to whole counts: no scatter is smaller


@attrs.frozen(kw_only=True)
class OverscanOptions:
    """How the level is found.

    Parameters
    ----------
    method : {"median", "polynomial", "spline", "none"}
        One level for all rows (the clipped mean about the median); a polynomial or a cubic spline along the rows; or
        nothing is subtracted (the noise is measured all the same).
    degree : int
        Of the polynomial, 0 to 10.
    pieces : int
        Of the spline, 1 to 100.
    skip : int
        Overscan columns next to the data to leave out: charge trails into the first few.

    Raises
    ------
    OptionError
        If a value is not one of these.

    Examples
    --------
    >>> OverscanOptions(method="polynomial", degree=2).skip
    4
    """

    method: str = attrs.field(default="median")
    degree: int = attrs.field(default=1)
    pieces: int = attrs.field(default=8)
    skip: int = attrs.field(default=4)

    @method.validator
    def _method_is_known(self, attribute: object, value: str) -> None:
        if value not in METHODS:
            raise OptionError(f"overscan method = {value!r}: use one of {', '.join(METHODS)}")

    @degree.validator
    @pieces.validator
    @skip.validator
    def _in_range(self, attribute: attrs.Attribute[int], value: int) -> None:
        low, high = {"degree": (0, 10), "pieces": (1, 100), "skip": (0, 10_000)}[attribute.name]
        if not (isinstance(value, int) and low <= value <= high):
            raise OptionError(f"overscan {attribute.name} = {value!r}: must be a whole number from {low} to {high}")


class Overscan(NamedTuple):
    """What the overscan of one amplifier says.

    Attributes
    ----------
    level : ndarray of float64, (rows,)
        What to subtract from each row.
    noise : float
        Read noise: rms of the overscan pixels about their row and column, without outliers, in the unit of the pixels;
        NaN if too few pixels are left to tell.
    level_error : float
        Standard error of the level, rms over the rows.
    rejected : int
        Pixels left out as outliers (those given as unusable, and skipped columns, do not count).
    """

    level: NDArray[np.float64]
    noise: float
    level_error: float
    rejected: int


def overscan_level(pixels: ArrayLike, unusable: ArrayLike, *, options: OverscanOptions) -> Overscan:
    """Measure the level to subtract from each row.

    Parameters
    ----------
    pixels : array_like, (rows, k)
        Overscan pixels of one amplifier: rows along the axis the level may change on, column 0 next to the data
        (transpose an overscan that lies above or below the data).
    unusable : array_like of bool, (rows, k)
        Pixels that mean nothing.
    options : OverscanOptions
        The method.

    Returns
    -------
    Overscan
        Level, read noise, error and number of rejected pixels.

    Raises
    ------
    OptionError
        If ``skip`` leaves no column, no pixel is usable, or a fit has fewer usable rows than twice its coefficients.

    Examples
    --------
    >>> pixels = np.full((100, 8), 1000.0)
    >>> pixels[50, 5] = 60000.0
    >>> found = overscan_level(pixels, np.zeros((100, 8), bool), options=OverscanOptions())
    >>> float(found.level[0]), found.rejected
    (1000.0, 1)
    """
    values = np.asarray(pixels, np.float64)
    if values.ndim != 2 or np.shape(unusable) != values.shape:
        raise OptionError(f"overscan has shape {values.shape}, its mask {np.shape(unusable)}: must be equal, (rows, k)")
    if values.shape[1] <= options.skip:
        raise OptionError(f"the overscan has {values.shape[1]} columns, skip = {options.skip} leaves none: lower skip")
    values = values[:, options.skip :]
    given = ~np.asarray(unusable, bool)[:, options.skip :] & np.isfinite(values)
    if not given.any():
        raise OptionError("no overscan pixel is usable: use method 'none', or another section")
    values = np.where(given, values, 0.0)
    level = np.zeros(len(values))
    kept = _without_outliers(values, given, level if options.method == "median" else _drift(values, given))
    if options.method in ("polynomial", "spline"):
        for _ in range(3):  # the drift is the fit itself, once there is one
            level = _fit(values, kept, options)
            kept = _without_outliers(values, given, level)
        level = _fit(values, kept, options)
    elif options.method == "median":
        level += values[kept].mean()
    noise = _noise(values, kept)
    free = {"none": 0, "median": 1, "polynomial": options.degree + 1, "spline": options.pieces + 3}[options.method]
    error = noise * np.sqrt(free / kept.sum()) if np.isfinite(noise) else 0.0
    return Overscan(level, noise, float(error), int(given.sum() - kept.sum()))


def _drift(values: NDArray[np.float64], given: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Running median of the rows' medians: follows the level, and not a cosmic ray that runs along a few rows."""
    from scipy import ndimage

    medians = np.full(len(values), np.median(values[given]))
    used = given.any(axis=1)
    medians[used] = np.nanmedian(np.where(given, values, np.nan)[used], axis=1)
    return np.asarray(ndimage.median_filter(medians, size=31, mode="nearest"))


def _without_outliers(
    values: NDArray[np.float64], given: NDArray[np.bool_], drift: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The given pixels without those that stand out from the level of their row, or whose column stands out."""
    residual = values - drift[:, None]
    residual -= middle(residual[given])
    scale = max(float(middle(np.abs(residual[given]))) / 0.6745, _ROUNDING)
    allowed = given & _ordinary_columns(residual, given, scale)
    kept, centre = allowed, 0.0
    for _ in range(10):
        previous, kept = kept, allowed & (np.abs(residual - centre) <= _CLIP * scale)
        if not kept.any():
            return allowed
        if np.array_equal(previous, kept):
            break
        centre = float(residual[kept].mean())
        scale = max(float(residual[kept].std()), _ROUNDING)
    return kept


def _ordinary_columns(residual: NDArray[np.float64], given: NDArray[np.bool_], scale: float) -> NDArray[np.bool_]:
    """Which columns do not stand out as a whole; with fewer than four nobody can say."""
    ordinary = np.ones(residual.shape[1], bool)
    used = given.any(axis=0)
    if used.sum() < 4:
        return ordinary
    levels = np.nanmedian(np.where(given, residual, np.nan)[:, used], axis=0)
    distance = np.abs(levels - np.median(levels))
    expected = ERROR_OF_MEDIAN * scale / np.sqrt(given[:, used].sum(axis=0))  # error of a column's median
    ordinary[used] = distance <= np.maximum(_COLUMN_CLIP * np.maximum(expected, np.median(distance) / 0.6745), 0.5)
    return ordinary


def _noise(values: NDArray[np.float64], kept: NDArray[np.bool_]) -> float:
    """Rms of the kept pixels about their row's and column's mean; NaN where there are too few."""
    inside = np.where(kept, values - values[kept].mean(), 0.0)
    in_row, in_column = kept.sum(axis=1), kept.sum(axis=0)
    free = kept.sum() - np.count_nonzero(in_row) - np.count_nonzero(in_column) + 1
    if free < 2:
        return float("nan")
    for _ in range(2):  # twice: rows and columns are not independent where pixels are missing
        inside -= np.where(kept, inside.sum(axis=1, keepdims=True) / np.maximum(in_row, 1)[:, None], 0.0)
        inside -= np.where(kept, inside.sum(axis=0, keepdims=True) / np.maximum(in_column, 1), 0.0)
    return float(np.sqrt(np.sum(inside**2) / free))


def _fit(values: NDArray[np.float64], kept: NDArray[np.bool_], options: OverscanOptions) -> NDArray[np.float64]:
    """The smooth level at every row, through the means of the kept pixels."""
    weight = kept.sum(axis=1).astype(np.float64)
    free = options.degree + 1 if options.method == "polynomial" else options.pieces + 3
    used = weight > 0
    if used.sum() < 2 * free:
        raise OptionError(
            f"overscan: {used.sum()} usable rows are too few for the {free} coefficients of a {options.method}: "
            "use method 'median'"
        )
    means = np.where(kept, values, 0.0).sum(axis=1) / np.maximum(weight, 1.0)
    if options.method == "polynomial":
        return _polynomial(means, weight, options.degree)
    from scipy.interpolate import LSQUnivariateSpline

    rows = np.arange(len(means), dtype=np.float64)
    knots = np.quantile(rows[used], np.arange(1, options.pieces) / options.pieces)
    spline = LSQUnivariateSpline(rows[used], means[used], knots, w=np.sqrt(weight[used]), k=3, ext=3)
    return np.asarray(spline(rows), np.float64)


def _polynomial(means: NDArray[np.float64], weight: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Weighted least squares by polynomials that are orthogonal on the rows.

    Forsythe 1957, J. SIAM 5, 74: needs no matrix, so its bits do not depend on the number of threads of a BLAS.
    """
    x = np.linspace(-1.0, 1.0, len(means))
    level, before, current, last = np.zeros(len(means)), np.zeros(len(means)), np.ones(len(means)), 1.0
    for order in range(degree + 1):
        norm = float(np.sum(weight * current**2))
        level += float(np.sum(weight * current * means)) / norm * current
        shift = float(np.sum(weight * x * current**2)) / norm
        before, current = current, (x - shift) * current - (norm / last if order else 0.0) * before
        last = norm
    return level
