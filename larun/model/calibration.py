"""What ``Frame.calibrate`` computes: every amplifier's block through the fused pass, and the masters' own noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.calibrate import AmplifierValues, calibrate_block, shared_variance
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import HeaderError
from larun.model.planes import Shared
from larun.model.reduction import measure, of_image
from larun.provenance import recording

if TYPE_CHECKING:
    from larun.model.frame import Frame
    from larun.model.masters import Selection

__all__ = ["Calibrated", "calibrate", "corner"]


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
    gains = frame.detector.require("gain", where)
    noises = frame.detector.require("read_noise", where)
    seconds = 0.0
    if masters.dark is not None:
        if frame.exposure is None:
            raise HeaderError(f"{where}: exposure time is missing; give it with Frame.read(path, exposure=…) or --keyword EXPTIME=…")
        seconds = masters.dark.scaled(frame.exposure)
    shape = levelled.shape
    made = Calibrated(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint32), ())
    shared: dict[str, NDArray[np.float32]] = {}
    for block, gain, noise in zip(levelled.blocks(0, shape[0]), gains, noises, strict=True):
        at = block.place.slices
        parts = {role: None if m is None else m.data[at] for role, m in zip(masters._fields, masters, strict=True)}
        planes = calibrate_block(
            block.data,
            block.flags,
            block.level,
            amplifier=AmplifierValues(
                gain=gain,
                read_noise=noise,
                saturation=block.amplifier.saturation,
                linear_limit=block.amplifier.linear_limit,
                linearity=block.amplifier.linearity,
            ),
            exposure=seconds,
            **parts,
        )
        flags = planes.flags
        for master in (masters.bias, masters.dark):
            if master is not None:
                flags = np.where(master.flags[at] & fl.UNUSABLE, flags | fl.BAD, flags)
        if masters.flat is not None:
            flags = np.where(masters.flat.flags[at] & fl.UNUSABLE, flags | fl.FLAT_INVALID, flags)
            flags = np.where(masters.flat.flags[at] & fl.BAD, flags | fl.BAD, flags)
        made.data[at], made.variance[at] = planes.data, planes.variance
        made.flags[at] = fl.resolve_bad(flags.astype(np.uint32))
        for master_id, plane in _shared(masters, planes.data, parts["flat"], gain, seconds, at).items():
            shared.setdefault(master_id, np.zeros(shape, np.float32))[at] = plane
    return made._replace(shared=tuple(Shared(master, plane) for master, plane in sorted(shared.items())))


def _shared(
    masters: Selection, data: NDArray[np.float32], flat: Any, gain: float, seconds: float, at: tuple[slice, slice]
) -> dict[str, NDArray[np.float32]]:
    """What the noise of each master adds to the variance of this block, by the master's id.

    A dark that had the same bias removed carries its noise with the opposite sign: at the dark's own exposure the
    bias cancels altogether.
    """
    bias, dark, master_flat = masters
    found = shared_variance(
        data,
        flat,
        gain=gain,
        exposure=seconds,
        bias_variance=None if bias is None or bias.variance is None else bias.variance[at],
        bias_in_dark=_common(bias, dark, at),
        dark_variance=None if dark is None or dark.variance is None else dark.variance[at],
        flat_variance=None if master_flat is None or master_flat.variance is None else master_flat.variance[at],
    )
    pairs = ((bias, found.bias), (dark, found.dark), (master_flat, found.flat))
    return {m.provenance.id: plane for m, plane in pairs if m is not None and plane is not None}


def _common(bias: Any, dark: Any, at: tuple[slice, slice]) -> NDArray[np.float32] | None:
    """The variance of this bias inside the dark; None when the dark used another bias or none."""
    if bias is None or dark is None:
        return None
    name = bias.provenance.id
    return next((item.variance[at] for item in dark.shared if item.master == name), None)
