"""Stacks by point-spread functions: those of the frames on the pixels of the stack, and the fields that result."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from larun.algorithms.homogenised import homogenised, matching, star_noise
from larun.algorithms.mapping import affine
from larun.algorithms.proper import proper_coadd, proper_psf
from larun.algorithms.psf import PSF, moffat_psf
from larun.algorithms.resampled_noise import Term, mean_acf, packed
from larun.algorithms.stacking import Layer, MeanOptions, Stacked, stack
from larun.errors import CatalogError, LarunWarning, OptionError
from larun.model import store
from larun.model.planes import shifted_wcs
from larun.model.pointspread.stored import facts_of
from larun.model.stacking.heading import heading
from larun.model.stacking.laying import Grid, Laid, noise_term
from larun.model.stacking.members import Member
from larun.model.stacking.options import StackOptions
from larun.provenance import unrecorded

__all__ = ["matched"]

#: Exponent of the Moffat profile of a target that is named by its FWHM, or of a frame without stars for more.
_BETA = 3.5
#: Largest difference of a PSF from the target, of its highest pixel, that is not told.
_LIKE = 0.02


def matched(
    layers: Sequence[Laid], reference: Member, grid: Grid, how: tuple[str, str, StackOptions]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fields of a stack that was made by the PSFs of its frames, and what the record keeps of each frame.

    Parameters
    ----------
    layers : sequence of Laid
        With weights of the sky.
    reference : Member
        Whose light and pixels the stack has.
    grid : Grid
        The pixels.
    how : tuple
        Method, weights and options.

    Raises
    ------
    OptionError
        If the target is sharper than a frame, or a frame has pixels of another scale.
    """
    method, weights, options = how
    if any(one.weight <= 0 or not math.isfinite(one.weight) for one in layers):
        raise OptionError("no noise is known of a frame: it cannot be weighed against the others")
    mean = options.mean("artefacts")
    plain = [_whole(one, reference.sky) for one in layers]
    psfs = _psfs(layers, plain, reference, grid, mean)
    notes = [one.note() | {"psf_fwhm": psf.fwhm, "psf_order": psf.order} for one, psf in zip(layers, psfs, strict=True)]
    white = packed((Term(affine(np.eye(2), [0.0, 0.0], grid.shape), "nearest"),))
    acf: Any = None
    made: Stacked
    if method == "proper":
        made = proper_coadd(plain, psfs, grid.shape, options=mean, level=reference.sky)
        own = proper_psf(plain, psfs, grid.shape, options=mean)
    else:
        own = _target(layers, psfs, options)
        kernels = [matching(a, psf, own, grid.shape, kernel=options.kernel) for a, psf in zip(plain, psfs, strict=True)]
        shares = []
        for one, kernel, note in zip(layers, kernels, notes, strict=True):
            note["psf_residual"] = kernel.residual
            if kernel.residual > _LIKE:
                warnings.warn(
                    f"{one.member.name}: its stars differ from the target by {100 * kernel.residual:.1f} % of the "
                    "highest pixel: leave it out, or give a larger target_fwhm",
                    LarunWarning,
                    stacklevel=5,
                )
            share = 1.0 if weights == "equal" else one.weight
            shares.append(share / star_noise(kernel, own, grid.shape) if weights == "point" else share)
        made, acf = homogenised(plain, kernels, shares, grid.shape, options=mean, level=reference.sky)
        layers = [one._replace(weight=share) for one, share in zip(layers, shares, strict=True)]
        notes = [note | {"weight": share} for note, share in zip(notes, shares, strict=True)]
    image = reference.image()
    fields = {
        "data": made.data,
        "variance": made.variance,
        "flags": made.flags,
        "shared": (),
        "noise_acf": acf,
        "resampling": white,  # its pixels are not those of a camera any more
        "unit": image.unit,
        "header": heading(store.without_sections(image._header).copy(), image, layers),
        "wcs_header": shifted_wcs(image._wcs_header, grid.origin[0], grid.origin[1]),
        "detector": image.detector.resampled(grid.shape),
        "provenance": image.provenance,  # the operation puts its own in its place
        "coverage": made.coverage,
        "contributors": made.contributors,
        "rejected": made.rejected,
        "psf_nodes": _of_light_one(own),
        "domain": own.domain,
        "psf_facts": facts_of(own),
    }
    return fields, notes


def _of_light_one(psf: PSF) -> Any:
    """Nodes of a function all of whose light is 1 in the middle of its domain."""
    at = np.arange(-psf.radius, psf.radius + 1.0)
    return np.array(psf.nodes) / psf.values(at[None, :], at[:, None], psf.domain[0], psf.domain[2])[0].sum()


def _whole(one: Laid, sky: float) -> Layer:
    return one.layer(sky)


def _target(layers: Sequence[Laid], psfs: Sequence[PSF], options: StackOptions) -> PSF:
    """What all frames are made as blurred as: the worst of them, or a profile of the wanted width."""
    worst = max(range(len(psfs)), key=lambda k: (psfs[k].fwhm, layers[k].member.provenance.id))
    if options.target_fwhm is None:
        return psfs[worst]
    if options.target_fwhm < psfs[worst].fwhm:
        raise OptionError(
            f"target_fwhm={options.target_fwhm:g}: {layers[worst].member.name} has stars of {psfs[worst].fwhm:.2f} "
            "pixels, and none are made sharper: give a larger one, or reject such frames"
        )
    return moffat_psf(options.target_fwhm, _BETA, oversampling=psfs[worst].oversampling)


def _psfs(layers: Sequence[Laid], plain: Sequence[Layer], reference: Member, grid: Grid, how: MeanOptions) -> list[PSF]:
    """The PSF of each frame, as resampling has left it, on one grid of nodes."""
    step = min(max(2, math.ceil(6 / min(one.fwhm for one in layers))), 8)
    image, found = reference.image(), []
    for one, layer in zip(layers, plain, strict=True):
        alone = stack([layer], grid.shape, options=attrs.evolve(how, method="mean"))
        term = noise_term(one.mapping, how.resample.kernel, one.note())
        shown = image._replace(
            data=alone.data,
            variance=alone.variance,
            flags=alone.flags,
            shared=(),
            noise_acf=mean_acf((term,), grid.shape),
            resampling=packed((term,)),
            detector=image.detector.resampled(grid.shape),
            wcs_header=shifted_wcs(image._wcs_header, grid.origin[0], grid.origin[1]),
        )
        with unrecorded():
            try:
                found.append(shown.psf(options={"oversampling": step}).function)
            except CatalogError as error:
                warnings.warn(
                    f"{one.member.name}: a Moffat profile of {one.fwhm:.2f} pixels stands for its stars: {error}",
                    LarunWarning,
                    stacklevel=6,
                )
                found.append(moffat_psf(one.fwhm, _BETA, oversampling=step))
    return found
