"""The fields of a proper difference: of two images whose point-spread functions are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from larun import flags as fl
from larun.algorithms.fluxratio import flux_ratio
from larun.algorithms.psf import PSF
from larun.algorithms.taken import Taken, bright_stars, polynomial_through
from larun.algorithms.zogy import ProperDifference, ProperOptions, Refined, proper_difference, refined_ratio
from larun.algorithms.zogy_filters import ProperPair, matching_kernel, proper_psf_of
from larun.errors import NotAligned, UnitMismatch
from larun.model.pointspread.stored import facts_of
from larun.model.subtracting.making import planes_of, taken

if TYPE_CHECKING:
    from larun.model.sky import SkyImage

__all__ = ["proper_fields"]

_APART = 3.5  # FWHM between stars by which fluxes are compared
_STAMP = 5  # pixels to each side of a star, of whose chi^2 is told


def proper_fields(
    science: SkyImage, reference: SkyImage, psfs: tuple[PSF, PSF], options: ProperOptions
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that a difference has besides those of the science image, and what its record keeps.

    Raises
    ------
    UnitMismatch
        If the images are in different units.
    NotAligned
        If there are too few stars.
    """
    if science.unit != reference.unit:
        raise UnitMismatch(f"{science!r} and {reference!r} are in {science.unit} and {reference.unit}")
    one, two = taken(science), taken(reference)
    convolved = "science" if psfs[0].fwhm < psfs[1].fwhm else "reference"
    try:
        pair, stars, refined = _pair(one, two, psfs, convolved, options)
    except NotAligned as error:
        raise NotAligned(f"{science!r} less {reference!r}: {error}") from error
    made = proper_difference(pair, (stars[0][refined.used], stars[1][refined.used]))
    own, kernel = proper_psf_of(pair), matching_kernel(pair, convolved)
    fields = {
        **planes_of(science, reference, made),
        "noise_acf": None,
        "score": made.score,
        "kernel": np.array(kernel.images),
        "psf_nodes": np.array(own.nodes),
        "domain": tuple(float(value) for value in pair.domain),
        "psf_facts": facts_of(own),
    }
    facts = {
        "convolved": convolved,
        "scale": float(pair.ratio),
        "scale_error": float(refined.error),
        "fwhm": [float(psf.fwhm) for psf in psfs],
        "kernel_half": int(kernel.half),
        "stamps": int(refined.used.sum()),
        "stamps_tried": len(refined.used),
        "chi2": _chi2(made, (stars[0][refined.used], stars[1][refined.used])),
        "background": [float(a - pair.ratio * b) for a, b in zip(*pair.skies, strict=True)],
        "astrometric_error": float(made.astrometric),
        "psf": [psf.kind for psf in psfs],
        "bad_pixels": int(np.count_nonzero(made.flags & fl.UNUSABLE)),
    }
    return fields, facts


def _pair(
    one: Taken, two: Taken, psfs: tuple[PSF, PSF], convolved: str, options: ProperOptions
) -> tuple[ProperPair, tuple[Any, Any], Refined]:
    """The images with the ratio of their fluxes and the sky between them; the stars it rests on."""
    wide = max(psf.fwhm for psf in psfs)
    reach = math.ceil(_APART * wide)
    # of the sharper image: which of the two comes first must not matter
    x, y = bright_stars(one if convolved == "science" else two, reach + 1, reach, options.stars)
    planes = []
    for image in (one, two):
        sky = image.sky.anew()
        planes.append((image.data, sky.level, sky.variance, image.flags))
    ratio = flux_ratio((planes[0], planes[1]), psfs, (one.gain, two.gain), x, y).ratio
    del planes
    stars = x.astype(np.int64), y.astype(np.int64)
    shape = one.data.shape[0], one.data.shape[1]
    domain = (shape[1] - 1) / 2, shape[1] / 2, (shape[0] - 1) / 2, shape[0] / 2
    first, second = (
        polynomial_through(image.sky.mesh_level - np.float32(image.level), shape, options.background, domain)
        for image in (one, two)
    )
    pair = ProperPair(science=one, reference=two, psfs=psfs, ratio=ratio, skies=(first, second))
    refined = refined_ratio(pair, *stars)
    return attrs.evolve(pair, ratio=refined.ratio), stars, refined


def _chi2(made: ProperDifference, stars: tuple[Any, Any]) -> float:
    """Median over the stars, of their pixels."""
    found = []
    with np.errstate(invalid="ignore"):
        for x, y in zip(*stars, strict=True):
            window = slice(max(y - _STAMP, 0), y + _STAMP + 1), slice(max(x - _STAMP, 0), x + _STAMP + 1)
            square = made.data[window] ** 2 / (made.science_variance[window] + made.reference_variance[window])
            if np.isfinite(square).any():
                found.append(float(np.nanmean(square)))
    return float(np.median(found)) if found else float("nan")
