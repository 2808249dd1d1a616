"""The error and flag planes that some observatories put beside the image, brought into larun's own meaning."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.errors import FileError

if TYPE_CHECKING:
    from larun.model.raw.opening import Opened

__all__ = ["Companions", "read"]


def _bits(value: Mapping[int, Any]) -> Mapping[int, np.uint32]:
    return MappingProxyType({int(bit): np.uint32(flag) for bit, flag in value.items()})


@attrs.frozen(kw_only=True)
class Companions:
    """Names of the images that belong to a science image, by the same version number.

    Parameters
    ----------
    error : str
        1 σ of every pixel, in the unit of the image; squared once, here.
    flags : str
        Whole numbers whose bits mean something.
    bits : mapping of int to uint32
        What each of these bits is in larun (:mod:`larun.flags`); bits that are not listed are dropped.

    Examples
    --------
    >>> Companions(error="ERR", flags="DQ", bits={4096: fl.COSMIC}).bits[4096] == fl.COSMIC
    np.True_
    """

    error: str
    flags: str
    bits: Mapping[int, np.uint32] = attrs.field(converter=_bits)


def read(found: Opened, shape: tuple[int, ...]) -> tuple[NDArray[np.float32] | None, NDArray[np.uint32] | None]:
    """Variance and flags from the planes beside an image; None for what the file or the camera does not have.

    Raises
    ------
    FileError
        If a plane has another size than the image.
    """
    from larun.io.raw import RowReader, list_images

    wanted: Companions | None = found.camera.companions if found.part.channel is None else None
    if wanted is None:
        return None, None
    images = list_images(found.part.path)
    version = next((image.version for image in images if str(image.hdu) == found.reader.place), 1)
    planes: dict[str, NDArray[np.float32]] = {}
    for name in (wanted.error, wanted.flags):
        if not any((image.name, image.version) == (name, version) and image.plane for image in images):
            continue
        with RowReader(found.part.path, (name, version)) as reader:
            plane, blank = reader.all()
        if plane.shape != shape:
            raise FileError(f"{found.part}: {name} has {plane.shape} pixels, the image {shape}: copy the file again")
        planes[name] = plane if blank is None else np.where(blank, np.nan, plane)
    variance, flags = None, None
    if wanted.flags in planes:
        said = np.nan_to_num(planes[wanted.flags]).astype(np.int64)
        flags = np.zeros(shape, np.uint32)
        for bit, flag in wanted.bits.items():
            flags[(said & bit) != 0] |= flag
    if wanted.error in planes:
        error = planes[wanted.error]
        bad = ~(error >= 0)
        variance = np.square(np.where(bad, np.float32(0), error), dtype=np.float32)
        if bad.any():  # an error that is no number means that the value is none
            flags = np.zeros(shape, np.uint32) if flags is None else flags
            flags[bad] |= fl.BAD
    return variance, flags
