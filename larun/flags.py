"""The pixel flags: one table of bits that travels with every image and file.

Bits 0-23 belong to larun and mean the same for every camera; bits 24-31 belong to instruments. The constants are
``numpy.uint32`` because ``uint32 | IntFlag`` becomes int64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAD",
    "COSMIC",
    "EDGE",
    "FLAT_INVALID",
    "INTERPOLATED",
    "NONLINEAR",
    "NO_DATA",
    "SATURATED",
    "TABLE",
    "UNUSABLE",
    "Flag",
    "bits_of",
    "counts_of",
    "names_of",
    "resolve_bad",
]


class Flag(NamedTuple):
    """One row of the flag table."""

    name: str
    bit: int
    meaning: str

    @property
    def value(self) -> np.uint32:
        """The bit as a number to OR with a flag plane."""
        return np.uint32(1 << self.bit)


TABLE: tuple[Flag, ...] = (
    Flag("BAD", 0, "a defect of the detector: dead, hot or unstable; its value means nothing"),
    Flag("SATURATED", 1, "at or above the saturation level, judged on raw counts"),
    Flag("NONLINEAR", 2, "above the detector's linear range; corrected where a correction is known"),
    Flag("COSMIC", 3, "hit by a cosmic ray"),
    Flag("FLAT_INVALID", 4, "the flat is zero, negative, not finite or masked here: no sensitivity is known"),
    Flag("EDGE", 5, "too near the edge of the data for a step that looks at neighbours"),
    Flag("NO_DATA", 6, "no value was recorded: blank, not finite, or outside the footprint"),
    Flag("INTERPOLATED", 7, "the value was replaced by one estimated from its neighbours"),
)

BAD, SATURATED, NONLINEAR, COSMIC, FLAT_INVALID, EDGE, NO_DATA, INTERPOLATED = (flag.value for flag in TABLE)

#: Pixels whose value must not enter a measurement.
UNUSABLE: np.uint32 = np.uint32(BAD | SATURATED | COSMIC | FLAT_INVALID | NO_DATA)

_BY_NAME = {flag.name: flag for flag in TABLE}
_CHUNK = 1 << 17


def bits_of(*names: str) -> np.uint32:
    """The OR of the named flags.

    Raises
    ------
    KeyError
        If a name is not in the table.

    Examples
    --------
    >>> int(bits_of("BAD", "COSMIC"))
    9
    """
    value = 0
    for name in names:
        value |= int(_BY_NAME[name].value)
    return np.uint32(value)


def names_of(value: int, extra: tuple[Flag, ...] = ()) -> tuple[str, ...]:
    """The names of the bits set in ``value``; unknown bits are named ``bit24`` and so on.

    Examples
    --------
    >>> names_of(9)
    ('BAD', 'COSMIC')
    """
    known = {flag.bit: flag.name for flag in (*TABLE, *extra)}
    return tuple(known.get(bit, f"bit{bit}") for bit in range(32) if int(value) >> bit & 1)


def counts_of(flags: NDArray[np.uint32], extra: tuple[Flag, ...] = ()) -> dict[str, int]:
    """How many pixels carry each flag that occurs, by name, in order of the bits.

    Examples
    --------
    >>> counts_of(np.array([[0, 1], [9, 8]], np.uint32))
    {'BAD': 2, 'COSMIC': 2}
    """
    found = [0] * 32
    flat = flags.reshape(-1)
    for start in range(0, flat.size, _CHUNK):  # pieces that stay in the cache: few pixels have a flag
        chunk = flat[start : start + _CHUNK]
        hit = chunk[chunk != 0]
        present = int(np.bitwise_or.reduce(hit)) if hit.size else 0
        for bit in range(32):
            if present >> bit & 1:
                found[bit] += int(np.count_nonzero(hit & np.uint32(1 << bit)))
    return {names_of(1 << bit, extra)[0]: count for bit, count in enumerate(found) if count}


def resolve_bad(flags: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """BAD wins over SATURATED: a dead column that reads full scale is not a saturated star."""
    bits = np.bitwise_or.reduce(flags, axis=None)
    if not (bits & BAD and bits & SATURATED):
        return flags
    return np.where(flags & BAD, flags & ~SATURATED, flags).astype(np.uint32, copy=False)
