"""What the stars of a frame look like."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.emptystars import moffat_stamp, star_stamp
from larun.model.measure.ellipses import values_of

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["star_shape"]

_TEMPLATES = 30
_REACH = 3.5  # times the FWHM


def star_shape(frame: Frame, catalog: SourceCatalog, level: NDArray[np.float32]) -> tuple[NDArray[np.float64], bool]:
    """What the bright, lonely stars of a frame look like: a stamp of sum 1, and whether it is theirs.

    Where there are too few it is a Moffat profile of their size.
    """
    from scipy.spatial import cKDTree

    table = catalog.table
    fwhm = float(table.meta["fwhm"])
    half = max(4, math.ceil(_REACH * fwhm))
    x, y, flux = (values_of(table, name) for name in ("x", "y", "flux"))
    ours = np.isfinite(x) & np.isfinite(y) & (flux > 0)
    spoilt = (np.asarray(table["flags"]) & (fl.UNUSABLE | fl.SATURATED)) != 0
    points = np.column_stack([x, y])[ours]
    fluxes = flux[ours]
    lonely = ~spoilt[ours]
    for one, two in cKDTree(points).query_pairs(1.4 * half) if len(points) else ():
        lonely[one] &= fluxes[two] < 0.02 * fluxes[one]
        lonely[two] &= fluxes[one] < 0.02 * fluxes[two]
    chosen = np.flatnonzero(lonely)
    chosen = chosen[np.argsort(-fluxes[chosen], kind="stable")][:_TEMPLATES]
    usable = (frame.flags & fl.UNUSABLE) == 0
    stamp = star_stamp(frame.data - level, usable, points[chosen, 0], points[chosen, 1], half)
    return (moffat_stamp(fwhm, half), False) if stamp is None else (stamp, True)
