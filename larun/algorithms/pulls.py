"""Whether differences over what their noise model says scatter by one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import middle
from larun.algorithms.robust import SIGMA_PER_MAD

__all__ = ["Pulls", "pulls_of"]

_CLIP = 4.0
_KEPT = 1 - 2 * _CLIP * math.exp(-(_CLIP**2) / 2) / math.sqrt(2 * math.pi) / math.erf(_CLIP / math.sqrt(2))
_EDGES = np.linspace(-5, 5, 41)


class Pulls(NamedTuple):
    """How pulls are distributed.

    Attributes
    ----------
    mean, mean_error : float
        1 σ.
    width, width_error : float
        Standard deviation of those within 4 σ, corrected for the cut, and its 1 σ; 1 for a right model.
    outside : float
        Part of them beyond 4 σ: 6e-5 for Gaussian noise.
    centres, density : ndarray of float64, (bins,)
        Histogram, in units of one per unit of pull.
    """

    mean: float
    mean_error: float
    width: float
    width_error: float
    outside: float
    centres: NDArray[np.float64]
    density: NDArray[np.float64]


def pulls_of(pulls: NDArray[np.floating]) -> Pulls:
    """Mean, width and tails of pulls of any shape; what is not finite does not count. NaN for fewer than 30.

    Examples
    --------
    >>> found = pulls_of(np.random.default_rng(1).normal(0, 1.1, 100_000))
    >>> round(found.width, 1), bool(abs(found.width - 1.1) < 5 * found.width_error)
    (1.1, True)
    """
    values = np.asarray(pulls, np.float64)[np.isfinite(pulls)]
    centres = (_EDGES[1:] + _EDGES[:-1]) / 2
    if values.size < 30:
        return Pulls(*(math.nan,) * 5, centres, np.zeros(centres.size))
    centre = float(middle(values))
    width = max(SIGMA_PER_MAD * float(middle(np.abs(values - centre))), 1e-12)
    kept = values
    for _ in range(6):
        kept = values[np.abs(values - centre) <= _CLIP * width]
        centre = float(kept.mean())
        width = max(math.sqrt(float(np.mean((kept - centre) ** 2)) / _KEPT), 1e-12)
    counts, _ = np.histogram(values, _EDGES)
    return Pulls(
        centre,
        width / math.sqrt(kept.size),
        width,
        width / math.sqrt(2 * kept.size),
        1 - kept.size / values.size,
        centres,
        counts / values.size / (_EDGES[1] - _EDGES[0]),
    )
