"""What the sky of one calibrated frame looks like: level, gradients, structure along rows and columns, trails."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from larun.model.frame import Frame

__all__ = ["SkyFacts", "sky_facts"]

_MESH = 64


class SkyFacts(NamedTuple):
    """The sky of a frame.

    Attributes
    ----------
    level, rms : float
        Medians of the background and of its pixel-to-pixel noise, electrons.
    cells : ndarray of float64, (rows, columns)
        Background in cells of the mesh, electrons.
    """

    level: float
    rms: float
    cells: NDArray[np.float64]


def sky_facts(frame: Frame) -> SkyFacts:
    """Measure them."""
    sky = frame.background(mesh=_MESH)
    half = _MESH // 2
    cells = np.asarray(sky.level[half::_MESH, half::_MESH], np.float64)
    return SkyFacts(float(np.median(cells)), float(np.median(sky.rms[half::_MESH, half::_MESH])), cells)
