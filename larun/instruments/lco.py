"""Las Cumbres Observatory, Sinistro cameras: four amplifiers, as images of a file, planes of a cube, or one alone.

Older headers hold one list of four gains, sections that are words or of another binning, and SATURATE = 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from larun.detector import Detector
from larun.io.headers import get_numbers
from larun.io.mosaic import Readout
from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Sinistro"]

#: Unbinned, of the four amplifiers in their order; those at the right and at the top are mirrored.
_PLACES = ("[1:2048,1:2048]", "[4096:2049,1:2048]", "[4096:2049,4096:2049]", "[1:2048,4096:2049]")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Sinistro(Frame):
    """A frame of a Sinistro camera."""

    @classmethod
    def matches(cls, header: Header) -> bool:
        """INSTRUME is fa01, fl08 …, in a header of the observatory's own kind."""
        name = str(header.get("INSTRUME", "")).strip()
        return "LCO" in str(header.get("ORIGIN", "")).upper() and re.fullmatch(r"f[al]\d\d", name) is not None

    @classmethod
    def amplifier_readouts(cls, headers: Sequence[Header], shape: tuple[int, int]) -> Sequence[Readout] | None:
        """Four images are the four amplifiers; what their headers do not say is the camera's layout."""
        if len(headers) != len(_PLACES):
            return None
        told = [[str(header.get(key, "")) for key in ("DETSEC", "DATASEC", "BIASSEC")] for header in headers]
        if all(":" in section for three in told for section in three) and len({three[0] for three in told}) == 4:
            return [Readout(*three) for three in told]
        return [Readout(place, *cls.strips(headers[0], shape)) for place in _PLACES]

    @staticmethod
    def strips(header: Header, shape: tuple[int, int]) -> tuple[str, str]:
        """Data and overscan of one amplifier: the overscan lies right of 2048 unbinned columns."""
        ny, nx = shape
        columns = min(2048 // int(str(header.get("CCDSUM", "1")).split()[0]), nx)
        return f"[1:{columns},1:{ny}]", f"[{columns + 1}:{nx},1:{ny}]" if nx > columns else "UNKNOWN"

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """As the header says; one plane alone is the first amplifier."""
        if "DATASECA" not in header:
            header, gains = header.copy(), get_numbers(header, ("GAIN",)).value
            header["TRIMSEC"], header["BIASSEC"] = cls.strips(header, shape)
            header["GAIN"] = gains[0] if gains else None
        return super().detector_for(header, shape)
