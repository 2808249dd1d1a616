"""What ``Frame.calibrate`` computes: every amplifier's block through the fused pass, and the masters' own noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.calibrate import MasterPlanes, Planes, calibrate_into, master_bits, shared_variance, total_sigma
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import HeaderError
from larun.model.planes import Later, Shared
from larun.model.raw.reduction import amplifier_values, measure, of_image
from larun.provenance import recording

if TYPE_CHECKING:
    from larun.model.frame import Frame
    from larun.model.masters import Master, MasterDark, Selection

__all__ = ["Calibrated", "Roles", "calibrate", "corner", "in_roles", "known_flags", "master_planes"]


_Value = TypeVar("_Value")


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
    serving, known = in_roles(masters), known_flags(masters, shape)
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

        def together(variance: NDArray[np.float32]) -> NDArray[np.float32] | None:
            return self._sigma(variance)

        shape, flat = self.data.shape, self.masters.flat
        found = {master: Later(shape, self._where_known(master), together) for master in self._steady()}
        if flat is not None and flat.variance is not None:
            found[flat.provenance.id] = Later(shape, partial(self._made, "flat", flat.variance, self.data), together)
        return found

    def _steady(self) -> dict[str, Callable[[], NDArray[np.float32]]]:
        """How to make what bias and dark add, by the master's id: it does not depend on the light."""
        bias, dark, _ = self.masters
        anything = np.broadcast_to(np.float32(0), self.data.shape)
        found: dict[str, Callable[[], NDArray[np.float32]]] = {}
        if bias is not None and bias.variance is not None:
            back = _common(bias, dark)
            found[bias.provenance.id] = partial(self._made, "bias", bias.variance, anything, back)
        if dark is not None and dark.variance is not None:
            found[dark.provenance.id] = partial(self._made, "dark", dark.variance, anything)
        for item in _brought_along(bias, dark):
            found[item.master] = partial(self._made, "dark", item.variance, anything)
        return found

    def _kept(self, master: str) -> NDArray[np.float32]:
        """What bias or dark add, made once for all frames of a night that use them alike."""
        return _once(
            _STEADY, self.masters, (self.seconds, repr(self.gains), self.data.shape, master), self._steady()[master]
        )

    def _where_known(self, master: str) -> Callable[[], NDArray[np.float32]]:
        def make() -> NDArray[np.float32]:
            made, known = self._kept(master), np.isfinite(self.data)
            return made if known.all() else np.where(known, made, np.float32(0))

        return make

    def _made(
        self, role: str, noise: NDArray[np.float32], data: NDArray[np.float32], back: Shared | None = None
    ) -> NDArray[np.float32]:
        flat = None if self.masters.flat is None else self.masters.flat.data
        made = np.zeros(data.shape, np.float32)
        for at, gain in self.gains:
            given = {f"{role}_variance": noise[at]}
            if back is not None:
                given["bias_in_dark"] = back.variance[at]
            divisor = None if flat is None else flat[at]
            made[at] = getattr(shared_variance(data[at], divisor, gain=gain, exposure=self.seconds, **given), role)
        return made

    def _sigma(self, variance: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The root of a variance and of what all masters add, in one pass; None for more than two besides the flat."""
        steady, flat = sorted(self._steady()), self.masters.flat
        if len(steady) > 2:
            return None
        place = 0 if flat is None else sum(master < flat.provenance.id for master in steady)
        values, noise = (None, None) if flat is None else (flat.data, flat.variance)
        return total_sigma(self.data, variance, values, noise, [self._kept(master) for master in steady], place)


#: What was worked out for masters, kept with the last of them: (weak references to all, values by key).
_Memory = WeakKeyDictionary["Master", tuple[tuple[Any, ...], dict[Any, Any]]]
_KNOWN: _Memory = WeakKeyDictionary()
_STEADY: _Memory = WeakKeyDictionary()


def _once(memory: _Memory, masters: Selection | Roles, key: Any, make: Callable[[], _Value]) -> _Value:
    """What ``make`` gives, kept for the next frame with the same masters; at least one is there."""
    last = next(master for master in reversed(masters) if master is not None)
    refs, values = memory.get(last, ((), {}))
    if len(refs) != len(masters) or any(
        (None if r is None else r()) is not m for r, m in zip(refs, masters, strict=True)
    ):
        values = {}
        memory[last] = tuple(None if master is None else ref(master) for master in masters), values
    if key not in values:
        values[key] = make()
    found: _Value = values[key]
    return found


def known_flags(masters: Selection, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """The flags that the masters add, for the whole frame; worked out once for a night's frames."""
    flags = [None if master is None else master.flags for master in masters]
    if all(plane is None for plane in flags):
        return None
    return _once(_KNOWN, masters, shape, lambda: master_bits(shape, *flags))


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
