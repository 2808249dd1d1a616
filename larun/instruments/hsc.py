"""Subaru telescope: Hyper Suprime-Cam, four channels a detector, each detector a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import attrs

from larun.instruments.suprimecam import SuprimeCam

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["HyperSuprimeCam"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class HyperSuprimeCam(SuprimeCam):
    """A frame of one detector of Hyper Suprime-Cam: four channels."""

    letter: ClassVar[str] = "T"
    read_noise: ClassVar[float] = 4.5

    @classmethod
    def matches(cls, header: Header) -> bool:
        """INSTRUME says so, or the channels are described as only this camera does."""
        name = str(header.get("INSTRUME", "")).strip()
        return name == "Hyper Suprime-Cam" or (not name and "T_EFMN41" in header)
