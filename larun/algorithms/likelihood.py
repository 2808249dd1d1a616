"""How likely a candidate on a difference is real: a logistic regression on what is measured of it.

The coefficients were fitted to candidates of real frames of the same night, on which nothing changed but stars that
were injected (``tests/model/subtracting/training.py``, with its table). Both kinds weigh the same there: the
probability is that of a candidate before which as many real ones as false ones are expected; :func:`with_prior` takes
it to any other share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = ["COEFFICIENTS", "COLUMNS", "features", "probability", "with_prior"]

#: Of the constant and of each of the features, in their order.
COEFFICIENTS: Mapping[str, float] = {
    "constant": 0.6084,
    "stands_out": 0.6217,
    "misfit": -1.4079,
    "large_misfit": 0.2453,
    "dipole": -1.8867,
    "sharp": -2.7612,
    "blunt": -0.5331,
    "light": -0.2987,
    "scatter": -2.0045,
    "line": -1.9652,
    "masked": -1.9056,
    "near_saturated": -1.2463,
    "near_edge": 0.2622,
}

#: What must be known of a candidate.
COLUMNS = (
    "snr",
    "chi2",
    "dipole_ratio",
    "sharpness",
    "light",
    "scatter",
    "line",
    "masked",
    "near_saturated",
    "near_edge",
)


def features(columns: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """What the regression sees of each candidate.

    Parameters
    ----------
    columns : mapping of (n,) array
        ``snr``, ``chi2``, ``dipole_ratio``, ``sharpness``, ``light``, ``scatter``, ``line``, ``masked``,
        ``near_saturated`` and ``near_edge``, as :meth:`larun.DifferenceImage.detect` gives them.

    Returns
    -------
    dict of (n,) float64
        By name; finite.
    """
    given = {name: np.asarray(columns[name], np.float64) for name in COLUMNS}
    given = {name: np.where(np.isfinite(values), values, _UNKNOWN.get(name, 0.0)) for name, values in given.items()}
    snr, scatter = np.maximum(given["snr"], 1.0), np.maximum(given["scatter"], 1.0)
    # a PSF that is a little wrong adds to chi^2 by the square of the S/N
    misfit = np.log(np.clip(given["chi2"], 0.3, 1e3) / (1 + (0.05 * snr) ** 2))
    sharpness = np.log(np.clip(given["sharpness"], 0.1, 10.0))
    return {
        "stands_out": np.log(np.minimum(snr / scatter, 30.0)),
        "misfit": misfit,
        "large_misfit": np.maximum(misfit, 0.0),
        "dipole": np.clip(given["dipole_ratio"], 0.0, 2.0),
        "sharp": np.maximum(sharpness, 0.0),
        "blunt": np.maximum(-sharpness, 0.0),
        "light": np.log(np.clip(given["light"], 0.3, 1e3)),
        "scatter": np.log(np.clip(given["scatter"], 0.5, 100.0)),
        "line": np.clip(given["line"] / snr, 0.0, 2.0),
        "masked": np.clip(given["masked"], 0.0, 1.0),
        "near_saturated": np.clip(given["near_saturated"], 0.0, 1.0),
        "near_edge": np.clip(given["near_edge"], 0.0, 1.0),
    }


#: What stands for what could not be measured: what speaks against a source.
_UNKNOWN = {"chi2": 1e3, "sharpness": 10.0, "scatter": 1.0}


def probability(columns: Mapping[str, Any]) -> NDArray[np.float64]:
    """The probability that each candidate is a source that changed, where half of all are.

    Parameters
    ----------
    columns : mapping of (n,) array
        As for :func:`features`.

    Returns
    -------
    ndarray of float64, (n,)
    """
    seen = features(columns)
    total = np.full(len(seen["misfit"]), COEFFICIENTS["constant"])
    for name, values in seen.items():
        total += COEFFICIENTS[name] * values
    return np.asarray(1 / (1 + np.exp(-total)))


def with_prior(probability: ArrayLike, share: float) -> NDArray[np.float64]:
    """The same probabilities where another share of the candidates is real.

    Parameters
    ----------
    probability : array_like (n,)
        Where half of them are.
    share : float
        Of the candidates, between 0 and 1.

    Returns
    -------
    ndarray of float64, (n,)

    Raises
    ------
    OptionError
        If the share is not between 0 and 1.

    Examples
    --------
    >>> with_prior([0.5, 0.9], 0.1).round(3).tolist()
    [0.1, 0.5]
    """
    if not 0 < share < 1:
        raise OptionError(f"share = {share}: must lie between 0 and 1")
    given = np.asarray(probability, np.float64)
    real, false = given * share, (1 - given) * (1 - share)
    return np.asarray(real / (real + false))
