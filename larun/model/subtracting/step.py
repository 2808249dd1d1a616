"""``Frame.subtract``: the step, with its record."""

from __future__ import annotations

import warnings
from pathlib import Path

from larun.algorithms.subtraction import SubtractOptions
from larun.errors import LarunWarning, OptionError
from larun.model import store
from larun.model.difference import DifferenceImage, Pair
from larun.model.planes import freeze
from larun.model.sky import SkyImage
from larun.model.subtracting.making import difference, laid_together
from larun.provenance import operation, recording

__all__ = ["subtract"]


@operation("subtract", version=3, reach="global", leave_out=("reference",))
def subtract(
    self: SkyImage,
    reference: SkyImage | str | Path,
    *,
    method: str = "alard-lupton",
    align: str = "stars",
    options: SubtractOptions | None = None,
) -> DifferenceImage:
    """What is new in this image, and what is gone, since a reference was taken.

    The sharper of the two is made as blurred as the other by a kernel that changes over the image, fitted to stars
    (Alard & Lupton 1998, ApJ 503, 325), and the noise of the difference is made white (DMTN-021).

    Parameters
    ----------
    reference : SkyImage or path
        The same field: a frame or a stack.
    method : {"alard-lupton"}
        How they are matched.
    align : {"stars", "phase", "wcs", "none"}
        How it is found out whether both lie on the same pixels. Where they do not, the reference is put on those
        of this image; one that was resampled before, a stack, keeps its own, and this image is put on them.
    options : SubtractOptions, optional
        Which image is convolved, the parts and orders of the kernel; see
        :class:`larun.algorithms.subtraction.SubtractOptions`.

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
    OptionError
        If an option makes no sense.

    Warns
    -----
    LarunWarning
        If both were taken in different filters.
    """
    if method != "alard-lupton":
        raise OptionError(f"method={method!r}: must be 'alard-lupton'")
    how = SubtractOptions() if options is None else options
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
    fields, facts = difference(laid.science, laid.reference, how)
    recording().fit(aligned=laid.aligned, **facts)
    fields["data"] = freeze(fields["data"])
    fields["pair"] = Pair(laid.science, laid.reference, fields["data"])
    return DifferenceImage(header=store.without_sections(self._header), provenance=self.provenance, **fields)
