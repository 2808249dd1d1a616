"""What ``Frame.calibrate`` computes: every amplifier's block through the fused pass, and the masters' own noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.calibrate import MasterPlanes, Planes, calibrate_into, master_bits, shared_variance
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import HeaderError
from larun.model.planes import Later, Shared
from larun.model.raw.reduction import amplifier_values, measure, of_image
from larun.provenance import recording

if TYPE_CHECKING:
    from larun.model.frame import Frame
    from larun.model.masters import Master, MasterDark, Selection

__all__ = ["Calibrated", "Roles", "calibrate", "corner", "in_roles", "master_flags", "master_planes"]


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
    where = repr(frame)
    seconds = 0.0
    if masters.dark is not None:
        if frame.exposure is None:
            raise HeaderError(
                f"{where}: exposure time is missing; give it with Frame.read(path, exposure=…) or --keyword exposure=…"
            )
        seconds = masters.dark.scaled(frame.exposure)
    shape = levelled.shape
    made = Planes(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint32))
    serving, known = in_roles(masters), _known(masters, shape)
    gains = []
    for block in levelled.blocks(0, shape[0]):
        at = block.place.slices
        values = amplifier_values(levelled, block.amplifier)
        gains.append((at, values.gain))
        calibrate_into(
            Planes(made.data[at], made.variance[at], made.flags[at]),
            block.data,
            block.flags,
            block.level,
            MasterPlanes(**master_planes(serving, at), known=None if known is None else known[at]),
            amplifier=values,
            exposure=seconds,
        )
    added = _Added(made.data, serving, tuple(gains), seconds)
    return Calibrated(*made, tuple(Shared(master, later) for master, later in sorted(added.planes().items())))


class _Added(NamedTuple):
    """What the noise of the masters adds to a calibrated frame: planes that few look at, so they are put off."""

    data: NDArray[np.float32]
    masters: Roles
    gains: tuple[tuple[tuple[slice, slice], float], ...]
    seconds: float

    def planes(self) -> dict[str, Later]:
        """A plane for each master with noise of its own, by the master's id."""
        found = {}
        for role, master in zip(self.masters._fields, self.masters, strict=True):
            if master is not None and master.variance is not None:
                back = _common(self.masters.bias, self.masters.dark) if role == "bias" else None
                found[master.provenance.id] = self._later(role, master.variance, back)
        for item in _brought_along(self.masters.bias, self.masters.dark):
            found[item.master] = self._later("dark", item, None)
        return found

    def _later(self, role: str, variance: NDArray[np.float32] | Shared, back: Shared | None) -> Later:
        def make() -> NDArray[np.float32]:
            flat = None if self.masters.flat is None else self.masters.flat.data
            noise = variance.variance if isinstance(variance, Shared) else variance
            made = np.zeros(self.data.shape, np.float32)
            for at, gain in self.gains:
                given = {f"{role}_variance": noise[at]}
                if back is not None:
                    given["bias_in_dark"] = back.variance[at]
                found = shared_variance(
                    self.data[at], None if flat is None else flat[at], gain=gain, exposure=self.seconds, **given
                )
                made[at] = getattr(found, role)
            return made

        return Later(self.data.shape, make)


#: What the masters' flags mean for a frame, kept with the masters: (weak references to them, plane or None).
_KNOWN: WeakKeyDictionary[Master, tuple[tuple[Any, ...], NDArray[np.uint8] | None]] = WeakKeyDictionary()


def _known(masters: Selection, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """The flags that the masters add, for the whole frame; worked out once for a night's frames."""
    last = next((master for master in reversed(masters) if master is not None), None)
    if last is None:
        return None
    kept = _KNOWN.get(last)
    if kept is not None and all((None if r is None else r()) is m for r, m in zip(kept[0], masters, strict=True)):
        return kept[1]
    found = master_bits(shape, *(None if master is None else master.flags for master in masters))
    _KNOWN[last] = tuple(None if master is None else ref(master) for master in masters), found
    return found


class Roles(NamedTuple):
    """The masters in the roles they play in the arithmetic."""

    bias: Master | None
    dark: MasterDark | None
    flat: Master | None


def in_roles(masters: Selection) -> Roles:
    """Who plays which role.

    A dark that still holds its bias takes the bias's place: what it removes is mostly no charge, so it must be gone
    before the Poisson noise of the signal is judged.
    """
    bias, dark, flat = masters
    if dark is not None and not dark.bias_removed:
        return Roles(dark, None, flat)
    return Roles(bias, dark, flat)


def master_planes(masters: Roles, at: tuple[slice, slice]) -> dict[str, Any]:
    """The masters' pixels for one block, by role."""
    return {role: None if m is None else m.data[at] for role, m in zip(masters._fields, masters, strict=True)}


def master_flags(masters: Selection, at: tuple[slice, slice]) -> Any:
    """What the masters say of the pixels of one block: BAD, FLAT_INVALID."""
    made: Any = np.uint32(0)
    for master in (masters.bias, masters.dark):
        if master is not None:
            made = made | np.where(master.flags[at] & fl.UNUSABLE, fl.BAD, np.uint32(0))
    if masters.flat is not None:
        flags = masters.flat.flags[at]
        made = made | np.where(flags & fl.UNUSABLE, fl.FLAT_INVALID, np.uint32(0)) | (flags & fl.BAD)
    return made


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
