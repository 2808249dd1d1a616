"""Columns that tell stars from galaxies, and the windowed centroid they are measured at."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from larun import flags as fl
from larun.algorithms.detect import checked_planes
from larun.algorithms.morphology import size_excess, star_locus, windowed
from larun.errors import LarunWarning
from larun.model.measure import schema
from larun.model.measure.ellipses import values_of

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.sky import SkyImage

__all__ = ["morphology"]


def morphology(table: QTable, image: SkyImage) -> QTable:
    """The table with the columns :data:`larun.model.measure.schema.MORPHOLOGY` added or renewed."""
    from scipy.special import erfc

    sky = image.background()
    fwhm = float(table.meta["fwhm"])
    x, y = (values_of(table, name) for name in ("x", "y"))
    size = values_of(table, "fwhm")
    flags = np.asarray(table["flags"], np.uint32) if "flags" in table.colnames else np.zeros(len(x), np.uint32)
    planes = checked_planes(image.data, sky.level, sky.variance, image.flags)
    found = windowed(
        planes,
        x,
        y,
        size=np.where(np.isfinite(size), size, fwhm),
        fwhm=fwhm,
        mask=int(fl.UNUSABLE & ~fl.SATURATED),
        gain=image.detector.amplifiers[0].gain or 1.0,
        acf=None if image.noise_acf is None else image.noise_acf.astype(np.float64),
    )
    usable = flags & np.uint32(fl.UNUSABLE | fl.EDGE) == 0
    locus = star_locus(found, usable)
    if locus.stars == 0 and len(table):
        warnings.warn(
            f"{image!r}: too few bright sources agree on the size of a star: size_excess is not known",
            LarunWarning,
            stacklevel=5,
        )
    excess = np.where(flags & np.uint32(fl.SATURATED) == 0, size_excess(found, locus), np.nan)
    values: dict[str, Any] = {
        "x_win": found.x,
        "y_win": found.y,
        "x_win_error": found.x_error,
        "y_win_error": found.y_error,
        "size_excess": excess,
        "star_p_value": 0.5 * erfc(excess / np.sqrt(2)),
    }
    made = table.copy()
    fresh = schema.table(schema.MORPHOLOGY, values, image.unit)
    for name in fresh.colnames:
        made[name] = fresh[name]
    known = locus.stars > 0
    made.meta |= {
        "star_locus": float(locus.value) if known else None,
        "star_locus_scatter": float(locus.scatter) if known else None,
        "star_locus_stars": locus.stars,
    }
    return made
