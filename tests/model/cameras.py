"""Cameras that only the tests know: subclasses as a user writes them, with and without the attrs decorator."""

import attrs

import larun
from larun.detector import Amplifier, Detector, Section


class Plain(larun.Frame):
    """A camera written as an ordinary subclass."""

    required = frozenset({"bias"})

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "plain test camera"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Decorated(larun.Frame):
    """The same with the decorator (slotted: the class is made twice)."""

    required = frozenset()

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "decorated test camera"


class TwoAmplifiers(larun.Frame):
    """Left and right half read out by different amplifiers, each with its own overscan at the outer edge.

    Columns: overscan A, data A, data B, overscan B.
    """

    overscan_columns = 20
    gains = (1.5, 1.65)
    required = frozenset({"bias", "flat"})

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "two amplifiers"

    @classmethod
    def detector_for(cls, header, shape):
        ny, nx = shape
        wide, middle = cls.overscan_columns, nx // 2
        left = Amplifier(
            name="A",
            data=Section(0, ny, wide, middle),
            overscan=Section(0, ny, 0, wide),
            gain=cls.gains[0],
            read_noise=5.0,
            saturation=60000.0,
        )
        right = Amplifier(
            name="B",
            data=Section(0, ny, middle, nx - wide),
            overscan=Section(0, ny, nx - wide, nx),
            gain=cls.gains[1],
            read_noise=6.0,
            saturation=60000.0,
        )
        return Detector(amplifiers=(left, right))
