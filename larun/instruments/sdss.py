"""Sloan Digital Sky Survey: corrected frames (``fpC``), bias-subtracted and flat-fielded, with a soft bias added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from larun.detector import Detector
from larun.io.headers import get_number
from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.model.time.timing import ExposureTime

__all__ = ["SdssFpc"]

#: Electrons per DN and variance without light in DN², by filter, for camera columns 1 to 6: SDSS DR8 data model,
#: "frame". Two filters of column 2 and some dark variances changed at run 1100; these are the later values.
_GAIN = {
    "u": (1.62, 1.825, 1.59, 1.6, 1.47, 2.17),
    "g": (3.32, 3.855, 3.845, 3.995, 4.05, 4.035),
    "r": (4.71, 4.6, 4.72, 4.76, 4.725, 4.895),
    "i": (5.165, 6.565, 4.86, 4.885, 4.64, 4.76),
    "z": (4.745, 5.155, 4.885, 4.775, 3.48, 4.69),
}
_DARK_VARIANCE = {
    "u": (9.61, 12.6025, 8.7025, 12.6025, 9.3025, 7.0225),
    "g": (15.6025, 1.44, 1.3225, 1.96, 1.1025, 1.8225),
    "r": (1.8225, 1.0, 1.3225, 1.3225, 0.81, 0.9025),
    "i": (7.84, 6.25, 4.6225, 7.5625, 7.84, 5.0625),
    "z": (0.81, 1.0, 1.0, 12.6025, 2.1025, 1.21),
}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SdssFpc(Frame):
    """A corrected frame of the imaging survey: no masters are needed."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {"kind": (), "chip": ("CAMCOL",), "instrument": ("ORIGIN",)}
    site: ClassVar[tuple[float, float, float]] = (-105.8204, 32.7803, 2788.0)
    required: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def matches(cls, header: Header) -> bool:
        """ORIGIN is SDSS and there is a soft bias."""
        return str(header.get("ORIGIN", "")).strip() == "SDSS" and "SOFTBIAS" in header

    #: Rows of a frame.
    rows: ClassVar[int] = 1489

    @classmethod
    def time_for(cls, header: Header) -> ExposureTime:
        """Of the middle row: the header tells when row 0 was read, in TAI, and its exposure ended then.

        One row is read every C_OBS microseconds, and each row was exposed for EXPTIME before.
        """
        time = super().time_for(header)
        row = get_number(header, ("C_OBS",)).value
        if time.exposure is None or row is None:
            return time
        later = (cls.rows - 1) / 2 * row * 1e-6
        return time.shifted(later - time.exposure, "middle row, read at the end of its exposure")

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """The soft bias as pedestal; gain and noise of the camera column; a converter of 16 bits."""
        band, column = str(header.get("FILTER", "")).strip(), int(header.get("CAMCOL", 0))
        said = dict.fromkeys(("gain", "read_noise"), f"survey table, FILTER {band!r}, CAMCOL {column}")
        values = {}
        if band in _GAIN and 1 <= column <= 6:
            gain = _GAIN[band][column - 1]
            values = {"gain": gain, "read_noise": gain * _DARK_VARIANCE[band][column - 1] ** 0.5}
        pedestal = float(header["SOFTBIAS"])
        return Detector.single(shape, saturation=65535.0, pedestal=pedestal, sources=said, **values)
