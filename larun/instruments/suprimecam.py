"""Subaru telescope: Suprime-Cam.

Each detector is a file. The effective pixels and the overscan of every channel stand in pairs of first and last pixel
(``S_EFMN11`` … since 2008); before, a detector had one channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from larun.detector import Amplifier, Detector, Section
from larun.io.headers import get_number
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
        "gain": ("GAIN", "GAINEFF", "S_GAIN1", "T_GAIN1"),
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
        """One amplifier for each channel the header describes; sections beyond the array mean it is trimmed."""

        def span(key: str) -> list[int]:
            found = [int(header.get(f"{cls.letter}_{key.format(end)}", 0)) for end in ("MN", "MX")]
            return [found[0] - 1, found[1]]

        found = []
        for n in range(1, 5):
            data, strip = Section(*span(f"EF{{}}{n}2"), *span(f"EF{{}}{n}1")), span(f"OS{{}}{n}1")
            gain = get_number(header, (f"{cls.letter}_GAIN{n}",)).value
            values = {"gain": gain, "read_noise": cls.read_noise, "saturation": 65535.0, "name": str(n)}
            if data.within(shape):
                found.append(Amplifier(data=data, overscan=Section(data.y0, data.y1, *strip), **values))
        if not found:
            return cls._one_channel(header, shape)
        said = {"gain": f"{cls.letter}_GAIN1 …", "read_noise": "instrument handbook", "saturation": "16 bits"}
        return Detector(amplifiers=found, sources={**said, "sections": f"{cls.letter}_EFMN11, {cls.letter}_OSMN11 …"})

    @classmethod
    def _one_channel(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """Effective pixels by first and number; what lies left or right of them is overscan."""
        x0, nx, y0, ny = (int(header.get(f"EFP-{key}{axis}", 0)) for axis in "12" for key in ("MIN", "RNG"))
        header, right = header.copy(), x0 + nx
        header["TRIMSEC"] = f"[{x0}:{right - 1},{y0}:{y0 + ny - 1}]"
        header["BIASSEC"] = f"[1:{x0 - 1},1:{ny}]" if x0 > 1 else f"[{right}:{shape[1]},1:{ny}]"
        if not nx or right - 1 > shape[1] or (x0 == 1 and right > shape[1]):
            del header["TRIMSEC"], header["BIASSEC"]
        return super().detector_for(header, shape).with_values("instrument handbook", read_noise=cls.read_noise)
