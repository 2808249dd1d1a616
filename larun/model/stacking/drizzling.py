"""Frames drizzled: the grid of finer pixels, and the fields of the stack that results."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.drizzled import DrizzleOptions, drizzle
from larun.algorithms.mapping import Mapping, affine, mapped
from larun.algorithms.resampled_noise import mean_acf, packed, term_of
from larun.errors import LarunWarning
from larun.model import store
from larun.model.planes import scaled_wcs, shifted_wcs
from larun.model.stacking.heading import heading
from larun.model.stacking.laying import Grid, Laid
from larun.model.stacking.members import Member

__all__ = ["drizzled", "finer"]

_HOLES = 0.001  # of the pixels that all frames together cover


def finer(mapping: Mapping, scale: float) -> Mapping:
    """The mapping from finer pixels, the first of which begins where the first of the grid does.

    Parameters
    ----------
    mapping : Mapping
        From pixels of the grid.
    scale : float
        Finer pixel in pixels of the grid.
    """
    ny, nx = mapping.shape
    shape = math.ceil(ny / scale - 1e-9), math.ceil(nx / scale - 1e-9)
    first = 0.5 * scale - 0.5

    def function(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return mapping.at(x * scale + first, y * scale + first)

    x0, y0 = (float(value) for value in function(np.float64(0), np.float64(0)))  # type: ignore[arg-type]
    far = np.array([[0.0, nx], [ny, 0.0]]) / scale
    ends = [function(np.float64(x), np.float64(y)) for y, x in far]  # type: ignore[arg-type]
    matrix = [
        [(float(ends[0][k]) - o) / (nx / scale), (float(ends[1][k]) - o) / (ny / scale)] for k, o in ((0, x0), (1, y0))
    ]
    if np.isfinite(matrix).all():
        made = affine(matrix, [x0, y0], shape)
        y, x = np.mgrid[0 : shape[0] : 64, 0 : shape[1] : 64].astype(np.float64)
        away = [np.max(np.abs(one - two)) for one, two in zip(made.at(x, y), function(x, y), strict=True)]
        if max(away) < 1e-4:
            return made
    return mapped(function, shape)


def drizzled(layers: Sequence[Laid], reference: Member, grid: Grid, options: DrizzleOptions) -> dict[str, Any]:
    """The fields of a stack."""
    image = reference.image()
    fine = [finer(one.mapping, options.scale) for one in layers]
    made = drizzle([one.layer(reference.sky) for one in layers], fine, grid.shape, options=options)
    shape = made.data.shape
    _tell_holes(made.contributors, options)
    weights = [(one.weight * one.scale * one.member.noise) ** 2 for one in layers]
    most = max(weights) or 1.0
    terms = tuple(
        term_of(mapping, "drizzle", weight / most)._replace(drop=options.pixfrac)
        for mapping, weight in zip(fine, weights, strict=True)
    )
    return {
        "data": made.data,
        "variance": made.variance,
        "flags": made.flags,
        "shared": (),
        "noise_acf": mean_acf(terms, shape),
        "resampling": packed(terms),
        "unit": image.unit,
        "header": heading(store.without_sections(image._header).copy(), image, layers),
        "wcs_header": scaled_wcs(shifted_wcs(image._wcs_header, *grid.origin), options.scale),
        "detector": image.detector.resampled(shape),
        "provenance": image.provenance,  # the operation puts its own in its place
        "coverage": made.coverage,
        "contributors": made.contributors,
        "rejected": made.rejected,
    }


def _tell_holes(counts: NDArray[np.uint16], options: DrizzleOptions) -> None:
    """Warn where drops leave pixels empty between others."""
    from scipy.ndimage import binary_closing

    some = counts > 0
    holes = binary_closing(some, np.ones((3, 3), bool)) & ~some
    share = float(holes.sum()) / max(int(some.sum()), 1)
    if share > _HOLES:
        warnings.warn(
            f"no drop has fallen on {100 * share:.1f} % of the pixels: use a larger pixfrac than {options.pixfrac:g}, "
            f"a larger scale than {options.scale:g}, or more dithered frames",
            LarunWarning,
            stacklevel=5,
        )
