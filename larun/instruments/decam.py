"""Cerro Tololo, Blanco 4 m telescope, Dark Energy Camera: 62 detectors a file, two amplifiers each.

Everything of an amplifier stands under its letter (GAINA, DATASECB …). Images that the observatory has calibrated are
trimmed, normalised to one gain, and carry the sections of the untrimmed detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Decam"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Decam(Frame):
    """A frame of one detector of the Dark Energy Camera."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "gain": ("GAIN", "ARAWGAIN"),
        "read_noise": ("RDNOISE", "RDNOISEA"),
        "chip": ("CCDNUM",),
    }
    #: The header's longitude is west of Greenwich, whatever its comment says.
    site: ClassVar[tuple[float, float, float]] = (-70.81489, -30.16606, 2215.0)
    required: ClassVar[frozenset[str]] = frozenset({"bias", "flat"})

    @classmethod
    def matches(cls, header: Header) -> bool:
        """INSTRUME says so."""
        return str(header.get("INSTRUME", "")).strip() == "DECam"
