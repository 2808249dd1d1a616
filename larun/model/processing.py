"""What is done to the rows of a raw exposure before they are combined: levelled, calibrated, normalised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import middle
from larun.algorithms.calibrate import Planes, calibrate_block, calibrate_into
from larun.algorithms.jit import over_rows
from larun.algorithms.pedestal import Pedestal, pedestal
from larun.detector import Section
from larun.errors import OptionError
from larun.model.calibration import known_flags, parts_of_block
from larun.model.raw.reduction import Block, Leveled, amplifier_values, sample_rows
from larun.provenance import recording

if TYPE_CHECKING:
    from larun.model.masters import Selection

__all__ = ["DarkRows", "FlatRows", "Process", "bias_rows", "empty_planes"]

_SAMPLE = 64  # rows on which the level of darks is judged

#: Fills planes (rows, nx) with the rows from y0 to y1 of an exposure; several threads may call it.
Process = Callable[[Leveled, int, int, Planes], None]


def empty_planes(shape: tuple[int, ...]) -> Planes:
    """Planes that are yet to be filled."""
    return Planes(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint32))


def bias_rows(leveled: Leveled, y0: int, y1: int, made: Planes) -> None:
    """Bias rows: overscan removed, ADU, read noise only (a bias has no Poisson term)."""
    for block in leveled.blocks(y0, y1):
        values = amplifier_values(leveled, block.amplifier)
        at = _rows(block.place, y0)
        made.data[at] = block.data - block.level[:, None]
        made.variance[at] = (values.read_noise / values.gain) ** 2
        # Full scale in a bias is a defect, not light.
        made.flags[at] = np.where(block.data >= values.saturation, block.flags | fl.BAD, block.flags)


class _Electrons:
    """Rows in electrons with bias and dark removed, over a number.

    A pedestal for each amplifier, where there is any, stays in the rows without its drift, and has no Poisson noise.
    """

    def __init__(
        self, masters: Selection, sources: Sequence[Leveled], pedestals: Sequence[Pedestal | None] | None = None
    ) -> None:
        self.masters = masters
        self.known = known_flags(masters, sources[0].shape)
        self.pedestals = pedestals
        self.numbers = {id(leveled): number for number, leveled in enumerate(sources)}

    def fill(self, leveled: Leveled, y0: int, y1: int, made: Planes, exposure: float, level: Any = None) -> None:
        """Fill the planes; over the gain of each amplifier where no level is given, and that is adu."""
        for block in leveled.blocks(y0, y1):
            values = amplifier_values(leveled, block.amplifier)
            at, place = _rows(block.place, y0), block.place.slices
            part = Planes(made.data[at], made.variance[at], made.flags[at])
            removed, planes = parts_of_block(self.masters, place, block.number, block.level)
            base = None if self.pedestals is None else self.pedestals[block.number]
            if base is not None:
                removed = removed + base.level + base.drift[self.numbers[id(leveled)]]
                values = attrs.evolve(values, read_noise=base.read_noise)
            calibrate_into(
                part,
                block.data,
                block.flags if self.known is None else block.flags | self.known[place],
                removed,
                planes,
                amplifier=values,
                exposure=exposure,
            )
            divisor = np.float32(values.gain) if level is None else level
            if divisor != 1:
                np.divide(part.data, divisor, out=part.data)
                np.divide(part.variance, divisor * divisor if level is None else divisor**2, out=part.variance)
            if base is not None:
                np.add(part.data, np.float32(base.level), out=part.data)


class DarkRows:
    """Dark rows in ADU: overscan and bias removed, Poisson noise of the dark current included.

    Where there is no bias, and no overscan was subtracted, the level that is no charge is found from the scatter of the
    darks (:func:`larun.algorithms.pedestal.pedestal`) and recorded; of a window of the darks it must be known. The
    drift of the level is taken out.
    """

    def __init__(
        self,
        sources: Sequence[Leveled],
        masters: Selection,
        *,
        levelled: bool,
        known: Sequence[Pedestal | None] | None = None,
    ) -> None:
        self._pedestals: list[Pedestal | None] | None = None if known is None else list(known)
        if masters.bias is None and known is None:
            overscans = [amplifier.overscan is not None for amplifier in sources[0].source.detector.amplifiers]
            self._pedestals = [
                None if levelled and has else _pedestal_of(sources, number) for number, has in enumerate(overscans)
            ]
            recording().fit(pedestal=[None if base is None else base._asdict() for base in self._pedestals])
        self._electrons = _Electrons(masters, sources, self._pedestals)

    @property
    def bias_level(self) -> tuple[float, ...]:
        """ADU of the rows that are no charge, for each amplifier; empty where the bias is gone."""
        return tuple(0.0 if base is None else base.level for base in self._pedestals or ())

    def __call__(self, leveled: Leveled, y0: int, y1: int, made: Planes) -> None:
        """Fill the planes with rows."""
        self._electrons.fill(leveled, y0, y1, made, 0.0)


def _pedestal_of(sources: Sequence[Leveled], number: int) -> Pedestal:
    """What the level of the darks is made of in one amplifier, from sample rows."""
    frames = []
    for leveled in sources:
        blocks = [
            block
            for y in sample_rows(leveled.shape[0], _SAMPLE)
            for block in leveled.blocks(int(y), int(y) + 1)
            if block.number == number
        ]
        values = np.concatenate([block.data - block.level[:, None] for block in blocks])
        bad = np.concatenate([(block.flags & fl.UNUSABLE) != 0 for block in blocks])
        frames.append(np.where(bad, np.nan, values))
    amplifier = amplifier_values(sources[0], sources[0].source.detector.amplifiers[number])
    return pedestal(frames, gain=amplifier.gain, read_noise=amplifier.read_noise)


class FlatRows:
    """Flat rows: electrons, each exposure divided by its own level, which of a window of the flats must be known."""

    def __init__(
        self,
        sources: Sequence[Leveled],
        masters: Selection,
        *,
        concurrent: bool,
        known: NDArray[np.float64] | None = None,
    ) -> None:
        self.masters = masters
        self._electrons = _Electrons(masters, sources)
        filters = {str(s.source.quantity("filter") or "") for s in sources}
        if len(filters) > 1:
            raise OptionError(f"flats of different filters cannot be combined: {', '.join(sorted(filters))}")
        levels = np.empty(len(sources)) if known is None else known

        def work(start: int, stop: int) -> None:
            for number in range(start, stop):
                levels[number] = self._level(sources[number])

        if known is None:
            over_rows(len(sources), work, band=1 if concurrent else len(sources))
        self._levels = {id(source): level for source, level in zip(sources, levels.tolist(), strict=True)}
        recording().fit(levels=levels)
        #: Photon noise rules a flat: its weight is its level.
        self.weights = levels / levels.sum()

    def _level(self, leveled: Leveled) -> float:
        pixels = _sampled_electrons(leveled, self.masters, self._exposure(leveled))
        level = float(middle(pixels)) if pixels.size else 0.0
        if not level > 0:
            raise OptionError(
                f"{leveled.source.name}: this flat has no light (median {level:.3g} electrons above bias)"
            )
        return level

    def _exposure(self, leveled: Leveled) -> float:
        dark, exposure = self.masters.dark, leveled.source.quantity("exposure") or 0.0
        return 0.0 if dark is None else dark.scaled(exposure)

    def __call__(self, leveled: Leveled, y0: int, y1: int, made: Planes) -> None:
        """Fill the planes with rows over the level of their exposure."""
        level = np.float32(self._levels[id(leveled)])
        self._electrons.fill(leveled, y0, y1, made, self._exposure(leveled), level)


def _sampled_electrons(leveled: Leveled, masters: Selection, exposure: float) -> NDArray[np.float32]:
    """The usable pixels of the sample rows, as :func:`_electrons` has them; each amplifier's rows in one go."""
    found: dict[int, list[Block]] = {}
    known = known_flags(masters, leveled.shape)
    for y in sample_rows(leveled.shape[0]):
        for block in leveled.blocks(int(y), int(y) + 1):
            found.setdefault(block.number, []).append(block)
    pixels = []
    for blocks in found.values():
        first = blocks[0]
        at: Any = (np.array([block.place.y0 for block in blocks]), slice(first.place.x0, first.place.x1))
        flags = np.concatenate([block.flags for block in blocks])
        level, of_masters = parts_of_block(masters, at, first.number, np.concatenate([block.level for block in blocks]))
        planes = calibrate_block(
            np.concatenate([block.data for block in blocks]),
            flags if known is None else flags | known[at],
            level,
            amplifier=amplifier_values(leveled, first.amplifier),
            exposure=exposure,
            bias=of_masters.bias,
            dark=of_masters.dark,
            flat=of_masters.flat,
        )
        pixels.append(planes.data[(planes.flags & fl.UNUSABLE) == 0])
    return np.concatenate(pixels)


def _rows(place: Section, y0: int) -> tuple[slice, slice]:
    """A place in the trimmed image as an index of a band that begins at row ``y0``."""
    return slice(place.y0 - y0, place.y1 - y0), slice(place.x0, place.x1)
