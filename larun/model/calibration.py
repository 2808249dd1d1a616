"""What ``Frame.calibrate`` computes: every amplifier's block through the fused pass, and the masters' own noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.calibrate import Planes, calibrate_block, shared_variance
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import HeaderError
from larun.model.planes import Shared
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
    shared: dict[str, NDArray[np.float32]] = {}
    for block in levelled.blocks(0, shape[0]):
        at = block.place.slices
        values = amplifier_values(levelled, block.amplifier)
        serving = in_roles(masters)
        planes = master_planes(serving, at)
        flags = block.flags | master_flags(masters, at)
        for whole, part in zip(
            made,
            calibrate_block(block.data, flags, block.level, amplifier=values, exposure=seconds, **planes),
            strict=True,
        ):
            whole[at] = part
        bias, dark, flat = serving
        found = shared_variance(
            made.data[at],
            planes["flat"],
            gain=values.gain,
            exposure=seconds,
            bias_variance=_variance(bias, at),
            bias_in_dark=_common(bias, dark, at),
            dark_variance=_variance(dark, at),
            flat_variance=_variance(flat, at),
        )
        for master, plane in zip(serving, found, strict=True):
            if master is not None and plane is not None:
                shared.setdefault(master.provenance.id, np.zeros(shape, np.float32))[at] = plane
        for item in _brought_along(bias, dark):
            plane = shared_variance(
                made.data[at], planes["flat"], gain=values.gain, exposure=seconds, dark_variance=item.variance[at]
            ).dark
            shared.setdefault(item.master, np.zeros(shape, np.float32))[at] = plane
    return Calibrated(*made, tuple(Shared(master, plane) for master, plane in sorted(shared.items())))


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


def _variance(master: Master | None, at: tuple[slice, slice]) -> NDArray[np.float32] | None:
    return None if master is None or master.variance is None else master.variance[at]


def _brought_along(bias: Master | None, dark: MasterDark | None) -> tuple[Shared, ...]:
    """Noise in the dark of another bias than the frame's own."""
    if dark is None:
        return ()
    return tuple(item for item in dark.shared if bias is None or item.master != bias.provenance.id)


def _common(bias: Master | None, dark: MasterDark | None, at: tuple[slice, slice]) -> NDArray[np.float32] | None:
    """The variance of this bias inside the dark, where it has the opposite sign; None when the dark used another."""
    if bias is None or dark is None:
        return None
    return next((item.variance[at] for item in dark.shared if item.master == bias.provenance.id), None)
