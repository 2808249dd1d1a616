"""Options of zero points."""

from __future__ import annotations

import math
from typing import Any

import attrs

from larun.errors import OptionError

__all__ = ["ZeroPointOptions"]


@attrs.frozen(kw_only=True)
class ZeroPointOptions:
    """Which stars a zero point rests on, and what it depends on.

    Parameters
    ----------
    snr : float
        Least signal to noise of a star.
    brightest, faintest : float, optional
        Limits of the reference magnitude.
    contamination : float
        A neighbour that sends more than this share of the star's light into its aperture makes it blended; neighbours
        are counted in full within the aperture's radius and half a FWHM.
    degree : int
        Degree of a polynomial over the frame; 0 for none.
    pivot : float, optional
        Colour at which the zero point holds; by default the median of the stars, rounded to 0.1 mag.
    total_radius : float, optional
        Pixels of the aperture that counts as all the light, where it is to be the same in all frames: a catalogue whose
        ``mag_total`` goes to another is refused.
    extinction : float, optional
        Of the atmosphere, mag per airmass: the zero point is then that outside it.

    Raises
    ------
    OptionError
        If a value makes no sense.
    """

    snr: float = 20.0
    brightest: float | None = None
    faintest: float | None = None
    contamination: float = 0.02
    degree: int = 0
    pivot: float | None = None
    extinction: float | None = None
    total_radius: float | None = None

    def __attrs_post_init__(self) -> None:
        self._number("snr", 0, math.inf)
        self._number("contamination", 0, math.inf)
        for name in ("brightest", "faintest", "pivot"):
            self._number(name, -math.inf, math.inf)
        self._number("total_radius", 0, math.inf)
        self._number("extinction", -1e-9, math.inf)
        if isinstance(self.degree, bool) or self.degree not in range(6):
            raise OptionError(f"degree={self.degree!r}: must be a whole number from 0 to 5")
        if self.brightest is not None and self.faintest is not None and not self.brightest < self.faintest:
            raise OptionError(f"brightest={self.brightest}, faintest={self.faintest}: the first must be smaller")

    def _number(self, name: str, low: float, high: float) -> None:
        value: Any = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
            raise OptionError(f"{name}={value!r}: must be a number" + (" above 0" if low == 0 else ""))
