"""Subaru telescope: Suprime-Cam.

Each detector is a file. The effective pixels and the overscan of every channel stand in pairs of first and last pixel
(``S_EFMN11`` … since 2008); before, a detector had one channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from larun.detector import Detector
from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["SuprimeCam"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SuprimeCam(Frame):
    """A frame of one detector of Suprime-Cam."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": ("DATA-TYP",),
        "filter": ("FILTER01",),
        "temperature": ("DET-TMP", "T_CCDTV"),
        "binning_x": ("BIN-FCT1",),
        "binning_y": ("BIN-FCT2",),
        "gain": ("GAIN", "GAINEFF"),
        "trim": ("TRIMSEC",),
        "chip": ("DET-ID",),
    }
    site: ClassVar[tuple[float, float, float]] = (-155.4761, 19.8255, 4139.0)
    required: ClassVar[frozenset[str]] = frozenset({"bias", "flat"})

    #: First letter of the keywords of the channels; electrons, rms, typical of the camera (instrument handbooks).
    letter: ClassVar[str] = "S"
    read_noise: ClassVar[float] = 10.0

    @classmethod
    def matches(cls, header: Header) -> bool:
        """INSTRUME says so."""
        return str(header.get("INSTRUME", "")).strip() == "SuprimeCam"

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """One amplifier for each channel the header describes, under the names of sections that are understood."""
        header, x = header.copy(), cls.letter
        for n in range(1, 5):
            if f"{x}_EFMN{n}1" in header:
                ends = [[header[f"{x}_{key}{n}{axis}"] for key in ("EFMN", "EFMX")] for axis in "12"]
                strip = [header[f"{x}_{key}{n}1"] for key in ("OSMN", "OSMX")]
                header[f"TRIMSEC{n}"] = "[{}:{},{}:{}]".format(*ends[0], *ends[1])
                header[f"BIASSEC{n}"] = "[{}:{},{}:{}]".format(*strip, *ends[1])
                header[f"GAIN{n}"] = header.get(f"{x}_GAIN{n}")
        x0, nx, y0, ny = (int(header.get(f"EFP-{key}{axis}", 0)) for axis in "12" for key in ("MIN", "RNG"))
        if "TRIMSEC1" not in header and x0 > 1:  # one channel: what lies left of its pixels is overscan
            header["TRIMSEC"] = f"[{x0}:{x0 + nx - 1},{y0}:{y0 + ny - 1}]"
            header["BIASSEC"] = f"[1:{x0 - 1},{y0}:{y0 + ny - 1}]"
        found = super().detector_for(header, shape).with_values("instrument handbook", read_noise=cls.read_noise)
        return found.with_values("16 bits", saturation=65535.0) if found.needs_trim else found
