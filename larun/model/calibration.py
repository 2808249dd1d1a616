"""What ``Frame.calibrate`` computes: every amplifier's block through the fused pass, and the masters' own noise."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.calibrate import MasterPlanes, Planes, calibrate_into, master_bits
from larun.algorithms.masternoise import (
    MOST_TERMS,
    NoiseTerm,
    bias_noise,
    dark_noise,
    flat_noise,
    shared_variance,
    total_variance,
)
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import HeaderError
from larun.model.planes import Later, Shared
from larun.model.raw.reduction import Leveled, amplifier_values, measure, of_image
from larun.provenance import recording

if TYPE_CHECKING:
    from larun.model.frame import Frame
    from larun.model.masters import Master, MasterDark, Selection

__all__ = ["Calibrated", "calibrate", "calibrated", "corner", "known_flags", "parts_of_block"]


class Calibrated(NamedTuple):
    """Planes of a calibrated frame."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    shared: tuple[Shared, ...]


def corner(detector: Detector) -> tuple[int, int]:
    """Row and column of the raw array that become (0, 0) of the trimmed one."""
    return min(a.data.y0 for a in detector.amplifiers), min(a.data.x0 for a in detector.amplifiers)


def calibrate(frame: Frame, masters: Selection, overscan: OverscanOptions) -> Calibrated:
    """Overscan, trim, bias, linearity, gain, dark and flat for every amplifier; flags and variance.

    Raises
    ------
    HeaderError
        If the gain, the read noise, or with a dark the exposure time, is missing.
    """
    levelled = measure(of_image(frame), overscan)
    recording().fit(**levelled.fitted())
    if masters.dark is not None and frame.exposure is None:
        raise HeaderError(
            f"{frame!r}: exposure time is missing; give it with Frame.read(path, exposure=…) or --keyword exposure=…"
        )
    return calibrated(levelled, masters)


def calibrated(levelled: Leveled, masters: Selection) -> Calibrated:
    """An exposure whose overscan is known, or a window of it with the same window of its masters."""
    seconds = 0.0
    if masters.dark is not None:
        seconds = masters.dark.scaled(float(levelled.source.quantity("exposure")))
    shape = levelled.shape
    made = Planes(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint32))
    known = known_flags(masters, shape)
    gains = []
    for block in levelled.blocks(0, shape[0]):
        at = block.place.slices
        values = amplifier_values(levelled, block.amplifier)
        gains.append((at, values.gain))
        level, planes = parts_of_block(masters, at, block.number, block.level)
        calibrate_into(
            Planes(made.data[at], made.variance[at], made.flags[at]),
            block.data,
            block.flags,
            level,
            planes._replace(known=None if known is None else known[at]),
            amplifier=values,
            exposure=seconds,
        )
    added = _Added(made.data, masters, tuple(gains), seconds)
    return Calibrated(*made, tuple(Shared(master, later) for master, later in sorted(added.planes().items())))


class _Added(NamedTuple):
    """What the noise of the masters adds to a calibrated frame: planes that few look at, so they are put off."""

    data: NDArray[np.float32]
    masters: Selection
    gains: tuple[tuple[tuple[slice, slice], float], ...]
    seconds: float

    def planes(self) -> dict[str, Later]:
        """A plane for each master with noise of its own, by the master's id."""
        together = self._total  # one bound method for all: who finds the same in all planes asks it for them together
        return {
            master: Later(self.data.shape, partial(self._plane, master), together)
            for master in self._terms(np.s_[:, :], 1.0)
        }

    def _terms(self, at: tuple[slice, slice], gain: float) -> dict[str, NoiseTerm]:
        """The terms of one block, by the master's id."""
        bias, dark, flat = self.masters
        bias = None if dark is not None and not dark.bias_removed else bias
        found: dict[str, NoiseTerm] = {}
        if bias is not None and bias.variance is not None:
            back = _common(bias, dark)
            in_dark = None if back is None else back.variance[at]
            found[bias.provenance.id] = bias_noise(bias.variance[at], gain=gain, exposure=self.seconds, in_dark=in_dark)
        if dark is not None and dark.variance is not None:
            found[dark.provenance.id] = dark_noise(dark.variance[at], gain=gain, exposure=self.seconds)
        for item in _brought_along(bias, dark):
            found[item.master] = dark_noise(item.variance[at], gain=gain, exposure=self.seconds)
        if flat is not None and flat.variance is not None:
            found[flat.provenance.id] = flat_noise(flat.variance[at])
        return found

    def _blocks(self) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32] | None, dict[str, NoiseTerm]]]:
        """Every block's place, flat and terms."""
        flat = self.masters.flat
        for at, gain in self.gains:
            yield at, None if flat is None else flat.data[at], self._terms(at, gain)

    def _plane(self, master: str) -> NDArray[np.float32]:
        made = np.zeros(self.data.shape, np.float32)
        for at, flat, terms in self._blocks():
            made[at] = shared_variance(self.data[at], flat, terms[master])
        return made

    def _total(self, variance: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """A variance and what all masters add, in one pass; None for too many."""
        made = np.empty(variance.shape, np.float32) if len(self.gains) > 1 else None
        for at, flat, terms in self._blocks():
            if len(terms) > MOST_TERMS:
                return None
            part = total_variance(self.data[at], variance[at], flat, [terms[master] for master in sorted(terms)])
            if made is None:  # the only block is all there is
                return part
            made[at] = part
        return made


#: Flags that masters add, kept with the last of them: the flags of all, and what they make.
_KNOWN: WeakKeyDictionary[Master, tuple[list[Any], NDArray[np.uint8] | None]] = WeakKeyDictionary()


def known_flags(masters: Selection, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """The flags that the masters add, for the whole frame; worked out once for the frames of a night."""
    flags = [None if master is None else master.flags for master in masters]
    if all(plane is None for plane in flags):
        return None
    last = next(master for master in reversed(masters) if master is not None)
    found = _KNOWN.get(last)
    if found is None or any(one is not two for one, two in zip(found[0], flags, strict=True)):
        _KNOWN[last] = found = flags, master_bits(shape, *flags)
    return found[1]


def parts_of_block(
    masters: Selection, at: Any, number: int, level: NDArray[np.float64]
) -> tuple[NDArray[np.float64], MasterPlanes]:
    """What is to be subtracted from each row of an amplifier's block, and the masters' pixels there.

    A dark that still holds its bias brings the bias along: its level goes first, so that the Poisson noise of the rest
    is that of charge, the dark's own included.

    Parameters
    ----------
    masters : Selection
        Those of the frame.
    at : index
        Of the block in the trimmed image.
    number : int
        Of the amplifier.
    level : ndarray of float64, (rows,)
        Of the overscan.
    """
    bias, dark, flat = (None if master is None else master.data[at] for master in masters)
    if masters.dark is None or masters.dark.bias_removed:
        return level, MasterPlanes(bias, dark, flat)
    base = masters.dark.bias_level[number]
    return level + base, MasterPlanes(None, masters.dark.data[at] - np.float32(base), flat)


def _brought_along(bias: Master | None, dark: MasterDark | None) -> tuple[Shared, ...]:
    """Noise in the dark of another bias than the frame's own."""
    if dark is None:
        return ()
    return tuple(item for item in dark.shared if bias is None or item.master != bias.provenance.id)


def _common(bias: Master | None, dark: MasterDark | None) -> Shared | None:
    """The variance of this bias inside the dark, where it has the opposite sign; None when the dark used another."""
    if bias is None or dark is None:
        return None
    return next((item for item in dark.shared if item.master == bias.provenance.id), None)
