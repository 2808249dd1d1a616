"""``Frame.subtract``: the step, with its record."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from larun.algorithms.subtraction import SubtractOptions
from larun.algorithms.zogy import ProperOptions
from larun.errors import LarunWarning, OptionError
from larun.model import store
from larun.model.difference import DifferenceImage, Pair
from larun.model.planes import freeze
from larun.model.sky import SkyImage
from larun.model.subtracting.making import Laid, difference, laid_together
from larun.model.subtracting.proper import proper_fields
from larun.provenance import operation, recording, unrecorded

if TYPE_CHECKING:
    from larun.algorithms import psf as functions
    from larun.model.psf import PSF

__all__ = ["METHODS", "subtract"]

#: Ways to subtract, and the options of each.
METHODS = {"alard-lupton": SubtractOptions, "zogy": ProperOptions}


@operation("subtract", version=4, reach="global", leave_out=("reference",))
def subtract(
    self: SkyImage,
    reference: SkyImage | str | Path,
    *,
    method: str = "alard-lupton",
    align: str = "stars",
    psfs: Sequence[PSF] | None = None,
    options: SubtractOptions | ProperOptions | None = None,
) -> DifferenceImage:
    """What is new in this image, and what is gone, since a reference was taken.

    The sharper of the two is made as blurred as the other by a kernel that changes over the image, fitted to stars
    (Alard & Lupton 1998, ApJ 503, 325), and the noise of the difference is made white (DMTN-021). Or both are filtered
    by the point-spread functions of each other (``method="zogy"``: Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27).

    Parameters
    ----------
    reference : SkyImage or path
        The same field: a frame or a stack.
    method : {"alard-lupton", "zogy"}
        How they are matched.
    align : {"stars", "phase", "wcs", "none"}
        How it is found out whether both lie on the same pixels. Where they do not, the reference is put on those
        of this image; one that was resampled before, a stack, keeps its own, and this image is put on them.
    psfs : two PSF, optional
        For ``"zogy"``: of this image and of the reference, where both lie on the same pixels. By default what
        :meth:`psf` makes of both.
    options : SubtractOptions or ProperOptions, optional
        Which image is convolved, the parts and orders of the kernel; see
        :class:`larun.algorithms.subtraction.SubtractOptions`. For ``"zogy"``
        :class:`larun.algorithms.zogy.ProperOptions`.

    Returns
    -------
    DifferenceImage
        In the unit and on the flux scale of this image.

    Raises
    ------
    NotAligned
        If both do not show the same field, or stars are too few.
    UnitMismatch
        If they are in different units.
    CatalogError
        If the stars of an image cannot give its point-spread function (``"zogy"``).
    OptionError
        If an option makes no sense.

    Warns
    -----
    LarunWarning
        If both were taken in different filters.
    """
    how = _checked(method, psfs, options)
    recording().resolve(options=how)
    target = reference if isinstance(reference, SkyImage) else SkyImage.read(reference)
    recording().parent("reference", target.provenance)
    self._refuse_mosaic()
    ours, theirs = (getattr(one, "filter", None) for one in (self, target))
    if ours and theirs and ours != theirs:
        warnings.warn(
            f"{self!r} was taken in {ours}, the reference in {theirs}: colours of stars look like changes",
            LarunWarning,
            stacklevel=4,
        )
    laid = laid_together(self, target, align)
    if isinstance(how, ProperOptions):
        fields, facts = proper_fields(laid.science, laid.reference, _functions(laid, psfs), how)
    else:
        fields, facts = difference(laid.science, laid.reference, how)
    recording().fit(aligned=laid.aligned, **facts)
    fields["data"] = freeze(fields["data"])
    fields["pair"] = Pair(laid.science, laid.reference, fields["data"])
    return DifferenceImage(header=store.without_sections(self._header), provenance=self.provenance, **fields)


def _checked(
    method: str, psfs: Sequence[PSF] | None, options: SubtractOptions | ProperOptions | None
) -> SubtractOptions | ProperOptions:
    if method not in METHODS:
        raise OptionError(f"method={method!r}: must be one of {', '.join(METHODS)}")
    wanted = METHODS[method]
    if options is not None and not isinstance(options, wanted):
        raise OptionError(f"method={method!r} takes {wanted.__name__}, not {type(options).__name__}")
    if psfs is not None and method != "zogy":
        raise OptionError(f"psfs: method={method!r} takes none; method='zogy' does")
    if psfs is not None and len(psfs) != 2:
        raise OptionError(f"psfs has {len(psfs)}: give that of the image and that of the reference")
    made = wanted() if options is None else options
    assert isinstance(made, SubtractOptions | ProperOptions)
    return made


def _functions(laid: Laid, psfs: Sequence[PSF] | None) -> tuple[functions.PSF, functions.PSF]:
    """The point-spread functions of both, where they lie now."""
    if psfs is None:
        with unrecorded():
            return laid.science.psf().function, laid.reference.psf().function
    if laid.aligned is not None:
        raise OptionError(
            f"psfs: the {laid.aligned} had to be put on other pixels, where its stars are others: align it yourself, "
            "give the PSFs of what comes of it and align='none', or leave them out"
        )
    return psfs[0].function, psfs[1].function
