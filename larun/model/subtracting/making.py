"""The fields of a difference: both images on the same pixels, subtracted, with the noise of each apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun import units
from larun.algorithms.psf import PSF
from larun.algorithms.score import difference_psf, score, star_psf
from larun.algorithms.subtraction import Difference, SubtractOptions, subtract
from larun.algorithms.taken import Taken, look_at
from larun.algorithms.whitening import grid_of, terms_through
from larun.errors import AlreadyApplied, NotAligned, OptionError, UnitMismatch
from larun.model.aligning.transforms import METHODS, align_by
from larun.model.planes import Shared, total_variance
from larun.model.pointspread.stored import facts_of
from larun.model.subtracting.common import part_of
from larun.provenance import unrecorded

if TYPE_CHECKING:
    from larun.algorithms.zogy import ProperDifference
    from larun.model.sky import SkyImage

__all__ = ["ALIGN", "Laid", "difference", "laid_together", "planes_of", "taken"]

ALIGN = (*METHODS, "none")
#: Pixels by which images may be apart anywhere before one of them is resampled: the kernel takes up so much.
_NEAR = 0.1


class Laid(NamedTuple):
    """Two images on the same pixels.

    Attributes
    ----------
    science, reference : SkyImage
        The images.
    aligned : str or None
        Which of them was resampled.
    """

    science: SkyImage
    reference: SkyImage
    aligned: str | None


def laid_together(science: SkyImage, reference: SkyImage, align: str) -> Laid:
    """Put two images on the same pixels, where they are not.

    The reference goes on the pixels of the science image; if it was resampled before (a stack), the science image
    goes on those of the reference.

    Raises
    ------
    NotAligned
        If they do not show the same field.
    OptionError
        If there is no such way, or they differ in shape and none was wanted.
    AlreadyApplied
        If both were resampled before, and are not on the same pixels.
    """
    if align not in ALIGN:
        raise OptionError(f"align={align!r}: must be one of {', '.join(ALIGN)}")
    if align == "none":
        if science.shape != reference.shape:
            raise OptionError(f"align='none': {science!r} and {reference!r} do not have the same pixels")
        return Laid(science, reference, None)
    if science.shape == reference.shape:
        with unrecorded():
            mapping = align_by(align, reference, science, "affine").mapping
        y, x = (np.array(part, float) for part in ((0, 0, 1, 1), (0, 1, 0, 1)))
        x, y = x * (science.shape[1] - 1), y * (science.shape[0] - 1)
        there = mapping.at(x, y)
        if max(np.abs(there[0] - x).max(), np.abs(there[1] - y).max()) < _NEAR:
            return Laid(science, reference, None)
    if reference._resampling is None:
        return Laid(science, reference.align_to(science, method=align), "reference")
    if science._resampling is None:
        return Laid(science.align_to(reference, method=align), reference, "science")
    raise AlreadyApplied(
        f"{science!r} and {reference!r} were both resampled before and lie on different pixels: align the frame that "
        "one of them was made of to the other"
    )


def difference(
    science: SkyImage, reference: SkyImage, options: SubtractOptions
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
    try:
        made = subtract(one, two, options=options, part=part_of(science.provenance, reference.provenance))
    except NotAligned as error:
        raise NotAligned(f"{science!r} less {reference!r}: {error}") from error
    one, two = (image._replace(sky=image.sky.anew()) for image in (one, two))  # whose maps are no longer needed
    kept, convolved = (two, one) if made.convolved == "science" else (one, two)
    psf = star_psf(kept)
    found = score(made, kept, convolved, psf)
    own = _psf(made, psf)
    fields = {
        **planes_of(science, reference, made),
        "noise_acf": made.acf,
        "score": found.data,
        "kernel": _cube(made),
        "psf_nodes": np.array(own.nodes),
        "domain": tuple(float(value) for value in made.fit.field.domain),
        "psf_facts": facts_of(own),
    }
    return fields, _facts(made, one, two, found.astrometric, psf)


def planes_of(science: SkyImage, reference: SkyImage, made: Difference | ProperDifference) -> dict[str, Any]:
    """The fields that a difference has by whatever method: its planes, the noise of each image apart."""
    shared, rest = _apart(science, made.science_variance)
    return {
        "data": made.data,
        "variance": rest,
        "flags": made.flags,
        # the reference is subtracted: its noise enters with the opposite sign, into every difference made with it
        "shared": (*shared, Shared(reference.provenance.id, -np.nan_to_num(made.reference_variance))),
        "resampling": None,
        "unit": science.unit,
        "wcs_header": science._wcs_header,
        "detector": science.detector,
    }


def taken(image: SkyImage) -> Taken:
    """What a subtraction has to know of an image."""
    gain = 1.0 if image.unit == units.ELECTRON else (image.detector.amplifiers[0].gain or 1.0)
    return look_at(image.data, total_variance(image), image.flags, gain=gain, acf=image.noise_acf)


def _apart(science: SkyImage, variance: NDArray[np.float32]) -> tuple[tuple[Shared, ...], NDArray[np.float32]]:
    """What the science image adds to the noise, by where it came from: as the parts of its own pixels are."""
    total = total_variance(science)
    if not science.shared or total is None:
        return (), variance
    made, rest = [], variance.copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        for item in science.shared:
            part = np.nan_to_num(variance * (item.variance / total), nan=0.0, posinf=0.0, neginf=0.0)
            made.append(Shared(item.master, np.asarray(part, np.float32)))
            rest -= np.abs(part)
    return tuple(made), np.maximum(rest, np.float32(0))


def _cube(made: Difference) -> NDArray[np.float64]:
    """The kernel as polynomials of its pixels, (terms, k, k)."""
    field = made.fit.field
    cube = np.zeros((field.coefficients.shape[1], *field.images.shape[1:]))
    for image, row in zip(field.images, field.coefficients, strict=True):
        cube += row[:, None, None] * image
    return cube


def _psf(made: Difference, psf: PSF) -> PSF:
    """The PSF of the difference, all over the image."""
    x, y = grid_of((made.data.shape[0], made.data.shape[1]))
    parts = [difference_psf(psf, made, *place) for place in zip(x, y, strict=True)]
    nodes = terms_through(np.stack([part.nodes[0] for part in parts]), x, y, 2, made.fit.field.domain)
    return PSF(
        nodes=nodes,
        oversampling=psf.oversampling,
        radius=parts[0].radius,
        fwhm=psf.fwhm,
        kind=psf.kind,
        domain=made.fit.field.domain,
    )


def _facts(made: Difference, science: Taken, reference: Taken, astrometric: float, psf: PSF) -> dict[str, Any]:
    fit = made.fit
    return {
        "convolved": made.convolved,
        "scale": float(made.scale),
        "scale_error": float(fit.scale_error / fit.scale * made.scale),
        "fwhm": [float(science.stars.fwhm), float(reference.stars.fwhm)],
        "kernel_half": int(fit.field.half),
        "stamps": int(fit.used.sum()),
        "stamps_tried": len(fit.used),
        "chi2": float(fit.median_chi2),
        "background": [float(value) for value in fit.background],
        "astrometric_error": float(astrometric),
        "blur": float(made.blur),
        "psf": psf.kind,
        "bad_pixels": int(np.count_nonzero(made.flags & fl.UNUSABLE)),
    }
