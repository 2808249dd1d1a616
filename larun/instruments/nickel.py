"""Lick Observatory, 1 m Nickel telescope, direct CCD camera.

The headers lie: GAIN is an index of the read-out mode, not electrons per ADU; bias frames call themselves darks and
sky flats objects; DATASEC names the imaging columns alone, the overscan follows them to the edge of the array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs
import numpy as np

from larun import flags as fl
from larun.detector import Amplifier, Detector, Section
from larun.model.frame import Frame

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from numpy.typing import NDArray

__all__ = ["Nickel"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Nickel(Frame):
    """A frame of the Nickel direct CCD camera."""

    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "filter": ("FILTNAM",),
        "date": ("DATE-BEG",),
        "temperature": ("TEMPDET",),
        "binning_x": ("CDELT1U",),
        "binning_y": ("CDELT2U",),
    }
    site: ClassVar[tuple[float, float, float]] = (-121.6429, 37.3414, 1283.0)
    required: ClassVar[frozenset[str]] = frozenset({"bias", "flat"})

    #: Measured on flat and bias pairs of 2024-05-13 (photon transfer); electrons per ADU, and electrons.
    gain: ClassVar[float] = 1.79
    read_noise: ClassVar[float] = 10.4
    #: Of the 2 × 2 binned array: dead (256) and what leaks from it (255), moving charge into its neighbour (783, 784),
    #: and the edges, which are off by up to a third of the sky.
    bad_columns: ClassVar[tuple[int, ...]] = (0, 255, 256, 783, 784)
    bad_rows: ClassVar[tuple[int, ...]] = (0, 1023)

    @classmethod
    def matches(cls, header: Header) -> bool:
        """INSTRUME says so."""
        return str(header.get("INSTRUME", "")).strip() == "Nickel Direct Camera"

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """One amplifier; the overscan is the COVER columns at the right."""
        ny, nx = shape
        overscan = int(header.get("COVER", 0))
        amplifier = Amplifier(
            data=Section(0, ny, 0, nx - overscan),
            overscan=Section(0, ny, nx - overscan, nx) if overscan else None,
            gain=cls.gain,
            read_noise=cls.read_noise,
            saturation=65535.0,
        )
        said = f"measured; the header's GAIN = {header.get('GAIN')!r} is a mode"
        return Detector(amplifiers=(amplifier,), sources={"gain": said, "read_noise": "measured"})

    @classmethod
    def flag_raw(cls, data: NDArray[np.float32], header: Header, first_row: int) -> NDArray[np.uint32]:
        """Bad columns and rows, where the array is the 2 × 2 binned full frame."""
        flags = np.zeros(data.shape, np.uint32)
        if header.get("CDELT1U") == -2:
            flags[:, list(cls.bad_columns)] = fl.BAD
            flags[[row - first_row for row in cls.bad_rows if 0 <= row - first_row < len(flags)]] = fl.BAD
        return flags
