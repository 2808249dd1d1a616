"""Why a master flags a pixel, and what each of its frames holds there: its tests, told with their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from larun import flags as fl
from larun.algorithms.badpixels import BIAS_MINIMUM, FLAT_RANGE, SIGMA, local_median
from larun.detector import Section
from larun.model.raw.reduction import Leveled
from larun.model.replay.story import Reason, reason_of
from larun.model.replay.window_rules import Stack, WholeImage, fitted, name_of, no_levels, one_of, stacked
from larun.model.replay.windows import Windows
from larun.provenance import Provenance

__all__ = ["contributions", "defects", "inherited"]


def defects(windows: Windows, node: Provenance, at: Section, flag: Any) -> list[Reason]:
    """Why a master flags a pixel.

    Parameters
    ----------
    windows : Windows
        Computes what its frames hold there.
    node : Provenance
        The record of the master.
    at : Section
        The pixel.
    flag : uint32
        ``BAD`` or ``FLAT_INVALID``.
    """
    operation = name_of(node)
    try:
        stack = stacked(windows, node, at)
    except WholeImage as why:
        return [reason_of(flag, operation, "step", f"set by this master; the test cannot be told: {why}")]
    inner = (at.y0 - stack.outer.y0, at.x0 - stack.outer.x0)
    made = stack.combine()
    found = []
    given = bool(windows.mask(node, at).any())
    if given and flag == fl.BAD:
        found.append(reason_of(flag, operation, "given mask", "the mask of bad pixels that was given has it"))
    lost = bool(int(made.flags[inner]) & int(fl.NO_DATA))
    known = [
        role
        for master, role in zip(stack.masters, ("bias", "dark"), strict=False)
        if master is not None and int(master.flags[inner]) & int(fl.BAD)
    ]
    if lost and known:
        for role in known:
            found += defects(windows, one_of(node, role), at, fl.BAD)
        if flag == fl.FLAT_INVALID:
            text = f"its pixels are BAD in the {' and the '.join(known)}: no sensitivity was measured"
            found.append(reason_of(flag, operation, "bad in a master", text))
    elif lost and _flagged_by_camera(windows, stack, at):
        found.append(reason_of(flag, operation, "camera", "the class of the camera flags it in what it reads"))
    elif lost:
        saturated = operation == "master_bias" and int(made.flags[inner]) & int(fl.BAD)
        text = "every frame is at full scale here" if saturated else "no frame has a usable value here"
        found.append(reason_of(flag, operation, "raw counts" if saturated else "no value", text))
    elif flag == fl.FLAT_INVALID:
        found.append(_insensitive(operation, made.data, inner))
    elif not given:
        found.append(_offset(node, made.data, made.variance, inner))
    return found


def _flagged_by_camera(windows: Windows, stack: Stack, at: Section) -> bool:
    """Whether a pixel is BAD in the raw frames already."""
    source = windows.source(stack.frames[0])
    plain = Leveled(source=source, levels=no_levels(source), noise=(None,) * len(source.detector.amplifiers))
    return any(int(block.flags[0, 0]) & int(fl.BAD) for block in plain.window(at).blocks(0, 1))


def inherited(windows: Windows, node: Provenance, at: Section, bits: int, extra: tuple[fl.Flag, ...]) -> list[Reason]:
    """Why a master has flags that are its frames': what these hold in the pixel.

    Parameters
    ----------
    windows, node, at
        As for :func:`defects`.
    bits : int
        The flags.
    extra : tuple of Flag
        Flags of the camera.
    """
    operation = name_of(node)
    try:
        stack = stacked(windows, node, at) if bits else None
    except WholeImage:
        stack = None
    found = []
    for name in fl.names_of(bits, extra):
        flag = fl.bits_of(name) if name in _CAUSES else np.uint32(0)
        text, cause = "the frames that contribute have it", _CAUSES.get(name, "step")
        if stack is not None and flag:
            here = stack.planes.flags[:, at.y0 - stack.outer.y0, at.x0 - stack.outer.x0]
            have = int(np.count_nonzero(here & flag))
            text = f"{have} of {len(here)} frames have it there"
            if name == "NO_DATA" and not have:
                text = "no frame has a usable value here"
        found.append(Reason(flag=name, step=operation, cause=cause, text=text))
    return found


#: Flags of frames that a master takes over, and their cause.
_CAUSES = {"NO_DATA": "no value", "SATURATED": "raw counts", "NONLINEAR": "raw counts"}


def _insensitive(operation: str, data: Any, inner: tuple[int, int]) -> Reason:
    value = float(data[inner])
    around = float(local_median(np.where(data > 0, data, np.float32(np.nan)))[inner])
    relative = value / around if around else 0.0
    low, high = FLAT_RANGE
    text = f"its sensitivity is {relative:.3g} of its neighbourhood's, outside {low:g} … {high:g}"
    if not value > 0:
        text = f"the flat is {value:.3g} here, its neighbourhood {around:.3g}: there is no sensitivity"
    return reason_of(fl.FLAT_INVALID, operation, "sensitivity", text, relative=relative)


def _offset(node: Provenance, data: Any, variance: Any, inner: tuple[int, int]) -> Reason:
    known, operation = fitted(node), name_of(node)
    offset = float(data[inner]) - float(local_median(data)[inner])
    sigma = max(float(known.get("scatter") or 0.0), float(np.sqrt(max(float(variance[inner]), 0.0))))
    many = offset / sigma if sigma > 0 else float("inf")
    limit = f"more than {SIGMA:g} σ" + (f" and {BIAS_MINIMUM:g} adu" if operation == "master_bias" else "")
    cause = "offset" if operation == "master_bias" else "excess"
    text = f"{offset:+.5g} adu beside its neighbourhood, {many:+.1f} σ: {limit}"
    return reason_of(fl.BAD, operation, cause, text, offset=offset, sigma=many)


def contributions(stack: Stack, at: Section) -> list[dict[str, Any]]:
    """What each frame of a master holds in a pixel, and whether it counts."""
    y, x = at.y0 - stack.outer.y0, at.x0 - stack.outer.x0
    data, variance, flags = stack.planes.data[:, y, x], stack.planes.variance[:, y, x], stack.planes.flags[:, y, x]
    usable = ((flags & fl.UNUSABLE) == 0) & np.isfinite(data) & np.isfinite(variance)
    rejected = int(stack.combine().rejected[y, x])
    away = np.full(len(data), np.nan)
    if usable.any():
        ordered = np.sort(data[usable])
        middle = float(ordered[(len(ordered) - 1) // 2])
        relative, ratio = np.ones(len(data)), 1.0
        if not isinstance(stack.inflation, float):
            relative = stack.inflation.frames
            ratio = float(np.interp(middle, stack.inflation.signal, stack.inflation.clip_ratio))
        model = float(np.median((variance / relative)[usable])) * relative * ratio
        away[usable] = ((data - middle) / np.sqrt(np.maximum(model, 1e-30)))[usable]
    out = {int(n) for n in np.argsort(-np.abs(np.nan_to_num(away)), kind="stable")[:rejected]}
    return [
        {
            "name": record.root.name if record.root is not None else record.id[:12],
            "value": float(data[n]) if np.isfinite(data[n]) else None,
            "sigma": float(away[n]) if usable[n] else None,
            "used": bool(usable[n]) and n not in out,
        }
        for n, record in enumerate(stack.frames)
    ]
