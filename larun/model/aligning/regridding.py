"""An image on the pixels of another: all of its planes, its header and its detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from larun.algorithms.resample import ResampleOptions, chosen_kernel, resample, resample_variance
from larun.algorithms.resampled_noise import mean_acf, packed, term_of
from larun.errors import AlreadyApplied, OptionError
from larun.model import store
from larun.model.aligning.transforms import Alignment
from larun.model.planes import Shared

if TYPE_CHECKING:
    from larun.model.image import Image

__all__ = ["regridded", "shared_on"]


def regridded(image: Image, reference: Image, alignment: Alignment, options: ResampleOptions) -> dict[str, Any]:
    """The fields of an image on the pixels of a reference.

    Raises
    ------
    OptionError
        If the image still has its overscan.
    AlreadyApplied
        If it was resampled before.
    """
    if image.detector.needs_trim:
        raise OptionError(f"{image!r} still has its overscan: calibrate it (or crop it to the data section) first")
    if image._resampling is not None:
        raise AlreadyApplied(
            f"{image!r} was resampled before: align the frame it was made of, so that its noise is correlated only once"
        )
    mapping = alignment.mapping
    kernel = chosen_kernel(mapping, options.kernel)
    made = resample(image.data, image.variance, image.flags, mapping, options=options)
    terms = (term_of(mapping, kernel),)
    return {
        "data": made.data,
        "variance": made.variance,
        "flags": made.flags,
        "shared": tuple(
            Shared(shared_on(item.master, alignment), resample_variance(item.variance, mapping, options=options))
            for item in image.shared
        ),
        "noise_acf": mean_acf(terms, mapping.shape),
        "resampling": packed(terms),
        "header": store.without_sections(image._header),
        "wcs_header": reference._wcs_header,
        "detector": image.detector.resampled(mapping.shape),
    }


def shared_on(master: str, alignment: Alignment) -> str:
    """What a master's noise is called on other pixels.

    Frames that were moved alike share it as before; those that were moved by other whole pixels do not: the same noise
    lies elsewhere in them.
    """
    dx, dy = alignment.shift
    return master if dx == dy == 0 else f"{master}@{dx:+d}{dy:+d}"
