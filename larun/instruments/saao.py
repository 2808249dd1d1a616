"""South African Astronomical Observatory, 1.0 m telescope, STE3 CCD.

Raw frames and trimmed ones carry the same INSTRUME and the same section keywords: those of a trimmed frame reach beyond
its array and are ignored. CCD-TEMP is in kelvin, and MJD-OBS of some frames has the day only. Trimmed frames were
reduced and end at 65300: all pixels in the cores of their brightest stars have this value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from larun.detector import Detector
from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Ste3"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Ste3(Frame):
    """A frame of the STE3 CCD."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "filter": ("FILTERS",),
        "julian_date": (),  # of some frames it has the day only; date and UT are right
    }
    site: ClassVar[tuple[float, float, float]] = (20.8107, -32.3783, 1798.0)
    required: ClassVar[frozenset[str]] = frozenset({"bias", "flat"})

    @classmethod
    def matches(cls, header: Header) -> bool:
        """INSTRUME says so."""
        return str(header.get("INSTRUME", "")).strip() == "STE3 CCD"

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """As the header says; the converter ends at 16 bits, which a reduced frame has less its bias."""
        found = super().detector_for(header, shape)
        if found.needs_trim:
            return found.with_values("16 bits", saturation=65535.0)
        return found.with_values("where reduced frames end", saturation=65300.0)
