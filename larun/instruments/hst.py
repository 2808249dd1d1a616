"""Hubble Space Telescope, Wide Field Camera 3: calibrated images with their errors and flags (``_flt``, ``_flc``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from larun import flags as fl
from larun.detector import Detector
from larun.flags import Flag
from larun.model.frame import Frame
from larun.model.raw.companions import Companions

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Wfc3"]

_UNSTABLE = Flag("UNSTABLE", 24, "unstable or in the trail of lost charge (DQ 32)")
_WARM = Flag("WARM", 25, "warm pixel (DQ 64)")
_TRAP = Flag("TRAP", 26, "charge trap or sink (DQ 1024)")
_GHOST = Flag("GHOST", 27, "ghost or crosstalk (DQ 16384)")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Wfc3(Frame):
    """A calibrated image of WFC3: electrons, with ERR and DQ (WFC3 Data Handbook, table of DQ flags)."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {"kind": (), "object": ("TARGNAME",), "chip": ("CCDCHIP",)}
    required: ClassVar[frozenset[str]] = frozenset()
    instrument_flags: ClassVar[tuple[Flag, ...]] = (_UNSTABLE, _WARM, _TRAP, _GHOST)
    companions: ClassVar[Companions | None] = Companions(
        error="ERR",
        flags="DQ",
        bits={
            **dict.fromkeys((1, 2, 4, 8, 16, 128), fl.BAD),
            **dict.fromkeys((256, 2048), fl.SATURATED),
            512: fl.FLAT_INVALID,
            **dict.fromkeys((4096, 8192), fl.COSMIC),
            **{32: _UNSTABLE.value, 64: _WARM.value, 1024: _TRAP.value, 16384: _GHOST.value},
        },
    )

    @classmethod
    def matches(cls, header: Header) -> bool:
        """WFC3 on HST, in electrons: its raw files are in counts."""
        said = [str(header.get(key, "")).strip() for key in ("TELESCOP", "INSTRUME", "BUNIT")]
        return said == ["HST", "WFC3", "ELECTRONS"]

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """Electrons already: gain 1, and the read noise of the amplifier that was used."""
        used = str(header.get("CCDAMP", "")).strip()
        noises = [float(header.get(f"READNSE{name}", 0)) for name in used]
        said = {"gain": "the image is in electrons", "read_noise": f"READNSE{used[:1]}", "saturation": "the DQ plane"}
        return Detector.single(shape, gain=1.0, read_noise=max(noises, default=None), sources=said)
