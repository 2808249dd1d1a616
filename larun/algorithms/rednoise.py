"""Noise of a series that is not in its pixels: scintillation, and noise that does not average down as white does."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = ["RedNoise", "point_to_point", "scintillation", "time_averaging"]

_SCALE_HEIGHT = 8000.0  # metres
_MEDIAN_SITE = 1.5  # of Osborn's coefficient over the sites he lists
_MINUTES = (10.0, 30.0)  # over which binned scatters are compared: how long an ingress lasts
_FEWEST_BINS = 4
_LIFE = 1 / math.sqrt(2)


class RedNoise(NamedTuple):
    """How much larger the scatter of binned points is than that of white noise.

    Attributes
    ----------
    beta : float
        The factor by which errors grow; at least 1. 1 where the series is too short to tell.
    sizes : ndarray of int64, (b,)
        Points in a bin.
    scatter, expected : ndarray of float64, (b,)
        Scatter of the binned residuals, and that of white noise.
    """

    beta: float
    sizes: NDArray[np.int64]
    scatter: NDArray[np.float64]
    expected: NDArray[np.float64]


def scintillation(
    exposure: float, diameter: float, airmass: float, height: float = 0.0, coefficient: float = _MEDIAN_SITE
) -> float:
    """Relative scatter of a star's light by the air, of one exposure.

    Parameters
    ----------
    exposure : float
        Seconds.
    diameter : float
        Of the telescope, metres.
    airmass : float
    height : float
        Of the telescope above sea level, metres.
    coefficient : float
        1.5 for the median site of Osborn et al. (2015, MNRAS 452, 1707, table 1); Young (1967, AJ 72, 747) has 1.

    Returns
    -------
    float
        Osborn's equation 7: √(10⁻⁵ C² D^(−4/3) t⁻¹ X³ exp(−2 h / 8000 m)).

    Raises
    ------
    OptionError
        If a value is not positive.

    Examples
    --------
    >>> round(scintillation(60.0, 0.25, 1.2) * 1e3, 2)  # parts in a thousand
    2.03
    """
    if not (exposure > 0 and diameter > 0 and airmass >= 0.99 and coefficient > 0 and math.isfinite(height)):
        raise OptionError(
            f"exposure={exposure} s, diameter={diameter} m, airmass={airmass}, C={coefficient}: must be positive"
        )
    variance = 1e-5 * coefficient**2 * diameter ** (-4 / 3) / exposure * airmass**3
    return math.sqrt(variance * math.exp(-2 * height / _SCALE_HEIGHT))


def point_to_point(values: ArrayLike) -> float:
    """Scatter from each point to the next, over √2: what slow changes do not move. NaN of fewer than three points.

    Examples
    --------
    >>> slope = np.linspace(0, 100, 2001)
    >>> round(point_to_point(slope + np.random.default_rng(1).normal(0, 2.0, 2001)), 1)
    2.0
    """
    steps = np.diff(np.asarray(values, np.float64)[np.isfinite(values)])
    if len(steps) < 2:
        return math.nan
    limit = 5 * 1.4826 * float(np.median(np.abs(steps)))
    kept = steps[np.abs(steps) <= limit] if limit > 0 else steps
    return float(np.sqrt(np.mean(kept**2))) * _LIFE


def time_averaging(time: ArrayLike, residual: ArrayLike, error: ArrayLike | None = None) -> RedNoise:
    """Red noise by binning (Pont et al. 2006, MNRAS 373, 231; Winn et al. 2008, ApJ 683, 1076, section 3).

    Bins hold a whole number of points that follow each other; all ways to begin count. Beta is the mean of the ratio
    of the scatter of bins to σ₁ / √n √(m / (m − 1)), for m bins of n points that last 10 to 30 minutes.

    Parameters
    ----------
    time : array_like, (n,)
        Days, rising.
    residual : array_like, (n,)
        What is left of a model; points that are not finite are left out.
    error : array_like, (n,), optional
        Their relative errors: weights of the bins.

    Returns
    -------
    RedNoise

    Examples
    --------
    >>> time, rng = np.arange(400) / 1440, np.random.default_rng(1)
    >>> white = rng.normal(0, 1, 400)
    >>> slow = np.repeat(rng.normal(0, 1, 20), 20)
    >>> round(time_averaging(time, white).beta, 1), round(time_averaging(time, white + slow).beta, 1)
    (1.0, 2.7)
    """
    moments, rest = (np.asarray(item, np.float64) for item in (time, residual))
    weight = np.ones(len(rest)) if error is None else 1.0 / np.asarray(error, np.float64) ** 2
    good = np.isfinite(moments) & np.isfinite(rest) & np.isfinite(weight)
    moments, rest, weight = moments[good], rest[good], weight[good]
    empty = np.zeros(0)
    if len(rest) < 2 * _FEWEST_BINS:
        return RedNoise(1.0, empty.astype(np.int64), empty, empty)
    rest = rest - np.sum(weight * rest) / np.sum(weight)
    cadence = float(np.median(np.diff(moments))) * 1440
    longest = len(rest) // _FEWEST_BINS
    sizes = np.arange(1, longest + 1)
    scatter, expected = (np.zeros(len(sizes)) for _ in range(2))
    single = float(np.sqrt(np.sum(weight * rest**2) / np.sum(weight) * len(rest) / (len(rest) - 1)))
    for index, size in enumerate(sizes.tolist()):
        squares, count = 0.0, 0
        bins = len(rest) // size
        for first in range(min(size, len(rest) - bins * size + 1)):
            part = slice(first, first + bins * size)
            own = weight[part].reshape(bins, size)
            means = np.sum(own * rest[part].reshape(bins, size), axis=1) / np.sum(own, axis=1)
            squares, count = squares + float(np.sum(means**2)), count + bins
        scatter[index] = math.sqrt(squares / count)
        expected[index] = single / math.sqrt(size) * math.sqrt(1 - 1 / len(rest))
    lasting = sizes * cadence
    chosen = (lasting >= _MINUTES[0]) & (lasting <= _MINUTES[1]) & (sizes > 1)
    if not chosen.any():  # sparse, or short: the longest bins there are
        chosen = sizes == sizes[-1] if longest > 1 else chosen
    beta = float(np.mean(scatter[chosen] / expected[chosen])) if chosen.any() else 1.0
    return RedNoise(max(beta, 1.0), sizes.astype(np.int64), scatter, expected)
