"""Bias frames straight from the 16-bit integers that lie in their files.

Most raw files hold nothing else, their noise is one number for each amplifier, and no pixel is flagged: so all that a
combination needs of many frames are the numbers themselves, a few rows at a time. Whatever is different (a saturated
pixel, a camera that flags pixels, another way of storage) goes the general way, with the same result.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.unpack import level_rows
from larun.model.raw.reduction import Leveled, amplifier_values

__all__ = ["Buffers", "StoredBias"]

_READ = 4e6  # bytes of stored rows, of all frames, that are read at a time
_WORK = 2e6  # bytes of their values that are worked on at a time: about what a core's cache holds


class Buffers:
    """The arrays of one thread, used again for each of its bands."""

    def __init__(self, frames: int, raw_columns: int, columns: int, memory: float) -> None:
        self.sub = int(np.clip(min(_WORK, memory / 4) / (frames * columns * 4), 1, 16))
        self.rows = self.sub * int(max(min(_READ, memory / 4) / (frames * raw_columns * 2) // self.sub, 1))
        self.stored = np.empty((frames, self.rows, raw_columns), ">i2")
        self.values = np.empty((frames, self.sub, columns), np.float32)


@attrs.frozen(eq=False)
class StoredBias:
    """Bias frames of one detector that are stored as 16-bit integers.

    Parameters
    ----------
    sources : tuple of Leveled
        The exposures, in the order of the summation.
    """

    sources: tuple[Leveled, ...]

    @classmethod
    def of(cls, sources: Sequence[Leveled]) -> Self | None:
        """The frames, if all of them are stored like this and cut alike."""
        first = sources[0].source
        places = [(a.data, a.overscan) for a in first.detector.amplifiers]
        for leveled in sources:
            source = leveled.source
            if source.stored is None or source.shape != first.shape:
                return None
            if [(a.data, a.overscan) for a in source.detector.amplifiers] != places:
                return None
        return cls(tuple(sources))

    def buffers(self, memory: float) -> Buffers:
        """What a thread needs, within so many bytes (or one row of every frame)."""
        return Buffers(len(self.sources), self.sources[0].source.shape[1], self.sources[0].shape[1], memory)

    def stretches(self, rows: int) -> list[tuple[int, int]]:
        """Bands of so many rows, none of which lies in two rows of amplifiers."""
        placed = self.sources[0].source.detector.trimmed().amplifiers
        edges = sorted({edge for a in placed for edge in (a.data.y0, a.data.y1)})
        return [
            (y0, min(y0 + rows, bottom)) for top, bottom in itertools.pairwise(edges) for y0 in range(top, bottom, rows)
        ]

    def variance(self, y: int) -> NDArray[Any]:
        """Variance of each frame in row ``y`` and all others of its amplifiers, (n, 1, nx)."""
        made = np.empty((len(self.sources), 1, self.sources[0].shape[1]), np.float32)
        for row, leveled in zip(made, self.sources, strict=True):
            placed = leveled.source.detector.trimmed().amplifiers
            for amplifier, at in zip(leveled.source.detector.amplifiers, placed, strict=True):
                if at.data.y0 <= y < at.data.y1:
                    values = amplifier_values(leveled, amplifier)
                    row[0, at.data.x0 : at.data.x1] = (values.read_noise / values.gain) ** 2
        return read_only(made, np.float32)

    def fetch(self, y0: int, y1: int, buffers: Buffers) -> list[_Part]:
        """Read the stored rows of a stretch; what :meth:`fill` needs of each amplifier in it."""
        detector = self.sources[0].source.detector
        parts: list[_Part] = []
        placed = detector.trimmed().amplifiers
        for index, (amplifier, at) in enumerate(zip(detector.amplifiers, placed, strict=True)):
            if not at.data.y0 <= y0 < at.data.y1:
                continue
            raw = amplifier.data.y0 + y0 - at.data.y0
            stored = parts[0].stored if parts and parts[0].raw == raw else None
            if stored is None:
                stored = buffers.stored if not parts else np.empty_like(buffers.stored)
                for leveled, rows in zip(self.sources, stored, strict=True):
                    assert leveled.source.stored is not None
                    leveled.source.stored.read_stored(raw, rows[: y1 - y0])
            first = y0 - at.data.y0
            levels = np.stack([leveled.levels[index][first : first + y1 - y0] for leveled in self.sources])
            full = [leveled.source.detector.amplifiers[index].saturation for leveled in self.sources]
            columns = (amplifier.data.x0, at.data.x0, at.data.shape[1])
            parts.append(_Part(raw, stored, columns, read_only(levels, np.float64), read_only(full, np.float64)))
        return parts

    def fill(self, parts: list[_Part], first: int, rows: int, buffers: Buffers) -> bool:
        """Put the values of some rows of what was fetched into the buffer; false where one of them is saturated."""
        zeros = read_only([leveled.source.stored_zero for leveled in self.sources], np.float32)
        full = 0
        for part in parts:
            start, place, width = part.columns
            values = buffers.values[:, :rows]
            values[:, :, place : place + width] = part.stored[:, first : first + rows, start : start + width]
            full += level_rows(buffers.values, first, rows, (place, width), zeros, part.levels, part.full)
        return full == 0


@attrs.frozen(eq=False)
class _Part:
    """One amplifier of a stretch: its raw row and rows, its columns there and in the image, levels and full scale."""

    raw: int
    stored: NDArray[Any]
    columns: tuple[int, int, int]
    levels: NDArray[Any]
    full: NDArray[Any]
