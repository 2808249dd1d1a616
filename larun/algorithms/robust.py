"""A number with its error, and a scatter that outliers do not move."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ERROR_OF_MEDIAN",
    "SIGMA_PER_MAD",
    "Estimate",
    "clipped_scatter",
    "excess_scatter",
    "mad_sigma",
    "median_error",
]

#: σ of a normal distribution over its median absolute deviation.
SIGMA_PER_MAD = 1.4826
#: Error of the median of normal values over that of their mean, √(π/2).
ERROR_OF_MEDIAN = 1.2533
_KEEP = 3.5  # σ
_KEPT_DEVIATION = 0.99627  # of a normal distribution cut there


class Estimate(NamedTuple):
    """A number and its 1 σ."""

    value: float
    error: float


def mad_sigma(values: NDArray[Any], centre: float | np.floating[Any] | None = None) -> float:
    """Robust standard deviation: 1.4826 times the median absolute deviation (Hampel 1974, JASA 69, 383).

    Parameters
    ----------
    values : ndarray
        Real numbers of any shape, all of them finite: a NaN makes the result NaN.
    centre : float, optional
        What deviations are measured from; by default the median of the values.

    Returns
    -------
    float
        NaN of no values, 0 of one.

    Examples
    --------
    >>> values = np.append(np.random.default_rng(1).normal(0, 2.0, 10_000), [1e6] * 100)
    >>> round(mad_sigma(values), 1)
    2.0
    """
    if not values.size:
        return math.nan
    middle = np.median(values) if centre is None else centre
    return SIGMA_PER_MAD * float(np.median(np.abs(values - middle)))


def median_error(values: NDArray[Any]) -> float:
    """1 σ of the median of normal values, by their robust scatter; NaN of fewer than two.

    Examples
    --------
    >>> round(median_error(np.random.default_rng(1).normal(0, 2.0, 10_000)), 3)
    0.025
    """
    if values.size < 2:
        return math.nan
    return ERROR_OF_MEDIAN * mad_sigma(values) / math.sqrt(values.size)


def clipped_scatter(pulls: NDArray[Any]) -> Estimate:
    """Standard deviation of pulls about 0, of those within 3.5 σ, corrected for the cut; and its 1 σ.

    The error is that of a scatter of 1 where it is smaller: one that is small by chance is no surer for it.

    Parameters
    ----------
    pulls : ndarray
        Three or more finite numbers, about their centre, in units of what they should scatter by.

    Examples
    --------
    >>> pulls = np.append(np.random.default_rng(1).normal(0, 1.3, 10_000), [1e3] * 10)
    >>> found = clipped_scatter(pulls)
    >>> round(found.value, 1), round(found.error, 3)
    (1.3, 0.009)
    """
    scatter = mad_sigma(pulls, 0.0)
    kept = np.abs(pulls) <= _KEEP * scatter
    for _ in range(20):
        before, scatter = scatter, float(np.std(pulls[kept], ddof=1)) / _KEPT_DEVIATION
        if abs(scatter - before) < 1e-6 * scatter:
            break
        kept = np.abs(pulls) <= _KEEP * scatter
    return Estimate(scatter, max(scatter, 1.0) / math.sqrt(2 * (int(kept.sum()) - 1)))


def excess_scatter(
    residual: NDArray[np.float64], variance: NDArray[np.float64], weight: NDArray[np.float64], free: NDArray[np.float64]
) -> float:
    """The scatter s of greatest likelihood: where sum w ((r^2 / f) / (v + s^2)^2 - 1 / (v + s^2)) is 0, or 0.

    Parameters
    ----------
    residual, variance : ndarray of float64
        Deviations about their mean, and the variance that their errors explain.
    weight : ndarray of float64
        How much each counts.
    free : ndarray of float64
        The share of its variance that is left in a deviation, since the mean was made of it too.

    Examples
    --------
    >>> rng, one = np.random.default_rng(1), np.ones(10_000)
    >>> round(excess_scatter(rng.normal(0, np.hypot(0.03, 0.04), 10_000), 0.03**2 * one, one, one), 3)
    0.04
    """
    squares = residual**2 / free

    def score(square: float) -> float:
        total = variance + square
        return float(np.sum(weight * (squares / total - 1) / total))

    low, high = 0.0, float(np.max(squares, initial=0.0)) + 1e-12
    if not np.any(variance <= 0) and score(0.0) <= 0:
        return 0.0
    low = 1e-12 if np.any(variance <= 0) else 0.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if score(middle) > 0:
            low = middle
        else:
            high = middle
    return math.sqrt(0.5 * (low + high))
