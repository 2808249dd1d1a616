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
from larun.algorithms.stored_kernels import Stored
from larun.model.raw.reduction import Leveled, amplifier_values

__all__ = ["Buffers", "StoredBias"]

_READ = 4e6  # bytes of stored rows, of all frames, that are read at a time
_WORK = 2e6  # bytes of the values in rows that are combined by one call


class Buffers:
    """The array of one thread, used again for each of its bands."""

    def __init__(self, frames: int, raw_columns: int, columns: int, memory: float) -> None:
        self.sub = int(np.clip(min(_WORK, memory / 4) / (frames * columns * 4), 1, 16))
        self.rows = self.sub * int(max(min(_READ, memory / 4) / (frames * raw_columns * 2) // self.sub, 1))
        self.stored = np.empty((frames, self.rows, raw_columns), ">i2")


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
        placed = zip(first.detector.amplifiers, first.detector.trimmed().amplifiers, strict=True)
        shifts: dict[tuple[int, int], set[int]] = {}
        for amplifier, at in placed:
            shifts.setdefault((at.data.y0, at.data.y1), set()).add(amplifier.data.y0 - at.data.y0)
        if any(len(found) > 1 for found in shifts.values()):
            return None  # a row of the image lies in several rows of the file
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
        """Variance of each frame in row ``y`` and all others of its amplifiers, (n, nx)."""
        made = np.empty((len(self.sources), self.sources[0].shape[1]), np.float32)
        for row, leveled in zip(made, self.sources, strict=True):
            placed = leveled.source.detector.trimmed().amplifiers
            for amplifier, at in zip(leveled.source.detector.amplifiers, placed, strict=True):
                if at.data.y0 <= y < at.data.y1:
                    values = amplifier_values(leveled, amplifier)
                    row[at.data.x0 : at.data.x1] = (values.read_noise / values.gain) ** 2
        return read_only(made, np.float32)

    def fetch(self, y0: int, y1: int, weights: NDArray[np.float64], buffers: Buffers) -> Stored:
        """Read the rows of a stretch, with all that turns them into levels above the overscan."""
        detector = self.sources[0].source.detector
        zeros = [leveled.source.stored_zero for leveled in self.sources]
        parts, levels, full, raw = [], [], [], 0
        for index, (amplifier, at) in enumerate(zip(detector.amplifiers, detector.trimmed().amplifiers, strict=True)):
            if not at.data.y0 <= y0 < at.data.y1:
                continue
            raw, first = amplifier.data.y0 + y0 - at.data.y0, y0 - at.data.y0
            parts.append((amplifier.data.x0, at.data.x0, at.data.shape[1]))
            levels.append([leveled.levels[index][first : first + y1 - y0] for leveled in self.sources])
            full.append(min(leveled.source.detector.amplifiers[index].saturation for leveled in self.sources))
        for leveled, rows in zip(self.sources, buffers.stored, strict=True):
            assert leveled.source.stored is not None
            leveled.source.stored.read_stored(raw, rows[: y1 - y0])
        return Stored(
            read_only(buffers.stored.view(np.uint16), np.uint16),
            read_only(parts, np.int64),
            read_only(levels, np.float64),
            read_only(zeros, np.float32),
            read_only(full, np.float64),
            weights,
        )
