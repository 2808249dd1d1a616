"""To and from astropy's own data classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from larun import flags as fl
from larun import units
from larun.errors import OptionError

if TYPE_CHECKING:
    from astropy.nddata import CCDData

    from larun.model.image import Image

__all__ = ["from_ccddata", "to_ccddata"]

_I = TypeVar("_I", bound="Image")


def to_ccddata(image: Image) -> CCDData:
    """See :meth:`larun.model.image.Image.to_ccddata`."""
    from astropy.nddata import CCDData, StdDevUncertainty

    noise = image.uncertainty
    return CCDData(
        image.data.copy(),
        unit=image.unit or "",
        uncertainty=None if noise is None else StdDevUncertainty(noise),
        mask=image.unusable,
        meta=image.header,
        wcs=image.wcs,
    )


def from_ccddata(cls: type[_I], ccd: Any, detector_values: Mapping[str, Any]) -> _I:
    """See :meth:`larun.model.image.Image.from_ccddata`."""
    from astropy.io import fits
    from astropy.nddata import VarianceUncertainty

    if not hasattr(ccd, "data") or getattr(ccd, "unit", None) is None:
        raise OptionError(f"a {type(ccd).__name__} is not a CCDData or an NDData with a unit")
    variance = None
    if ccd.uncertainty is not None:
        variance = ccd.uncertainty.represent_as(VarianceUncertainty).array
    flags = None
    if ccd.mask is not None:
        flags = np.where(np.broadcast_to(ccd.mask, ccd.data.shape), fl.BAD, np.uint32(0))
    header = fits.Header(ccd.meta) if ccd.meta else fits.Header()
    if ccd.wcs is not None:
        from larun.io.headers import wcs_to_header

        header.update(wcs_to_header(ccd.wcs))
    return cls.from_arrays(
        ccd.data, variance=variance, flags=flags, unit=units.canonical(ccd.unit), header=header, **detector_values
    )
