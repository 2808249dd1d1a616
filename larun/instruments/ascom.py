"""CMOS and CCD cameras under N.I.N.A., SharpCap, the ASIAIR and other ASCOM programs: ZWO, QHY, and others.

GAIN is a setting of the camera, in its own units; EGAIN is electrons per ADU. Frames of another gain, offset or mode
have another bias. Cameras of 12 or 14 bits are stretched to 16 by most programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from larun.detector import Detector
from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Ascom"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Ascom(Frame):
    """A frame of an amateur's camera; colour sensors are read channel by channel."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "gain": ("EGAIN",),
        "temperature": ("CCD-TEMP", "SET-TEMP"),
        "exposure": ("EXPTIME", "EXPOSURE"),
    }
    required: ClassVar[frozenset[str]] = frozenset({"dark"})

    @classmethod
    def matches(cls, header: Header) -> bool:
        """The program or the maker of the camera is one of these."""
        program, camera = (str(header.get(key, "")).strip() for key in ("SWCREATE", "INSTRUME"))
        makers = r"(ZWO|ASI|QHY|Player One|ToupTek|Altair|Moravian|Atik)"
        return bool(re.match(r"N\.I\.N\.A|SharpCap|ASIAIR|Sequence Generator", program) or re.match(makers, camera))

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """One amplifier; full scale is 16 bits where the header does not say."""
        found = super().detector_for(header, shape)
        missing = not found.amplifiers[0].saturation < float("inf")
        return found.with_values("16 bits", saturation=65535.0) if missing else found

    @classmethod
    def criteria_from(cls, header: Header, detector: Detector) -> dict[str, Any]:
        """Setting, offset and mode of the camera decide the bias: masters must have the same."""
        said = [f"{key} {header[key]}" for key in ("GAIN", "OFFSET", "READOUTM", "USBLIMIT") if key in header]
        return {**super().criteria_from(header, detector), "mode": ", ".join(said) or None}
