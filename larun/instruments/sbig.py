"""SBIG cameras under MaxIm DL and CCDOPS: no overscan, darks that hold the bias, flats where the observer took them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from larun.detector import Detector
from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Sbig"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Sbig(Frame):
    """A frame of an SBIG camera."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {"gain": ("EGAIN",), "date": ("DATE-OBS",)}
    required: ClassVar[frozenset[str]] = frozenset({"dark"})

    #: Electrons, rms, by model: the maker's data sheets. The header says nothing.
    read_noises: ClassVar[Mapping[str, float]] = {
        "ST-7": 15.0,
        "ST-8": 15.0,
        "ST-9": 13.0,
        "ST-10": 8.8,
        "STL": 11.0,
    }

    @classmethod
    def matches(cls, header: Header) -> bool:
        """INSTRUME begins with the maker's name."""
        return str(header.get("INSTRUME", "")).strip().upper().startswith("SBIG")

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """One amplifier; the converter ends at 65535; a pedestal, where one was added, is named by the header."""
        found = super().detector_for(header, shape)
        model = str(header.get("INSTRUME", ""))
        name = next((name for name in sorted(cls.read_noises, reverse=True) if name in model), None)
        amplifier = attrs.evolve(
            found.amplifiers[0],
            read_noise=found.amplifiers[0].read_noise if name is None else cls.read_noises[name],
            saturation=65535.0,
            pedestal=0.0 - float(header.get("PEDESTAL", 0)),  # MaxIm DL writes what must be added to reach zero
        )
        said = "no keyword; unknown model" if name is None else f"the data sheet of the {name}"
        return Detector(amplifiers=(amplifier,), sources={**found.sources, "read_noise": said, "saturation": "16 bits"})
