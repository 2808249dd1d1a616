"""Where a pixel of an aligned image comes from, and which pixels there gave it their flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from larun import flags as fl
from larun.algorithms.resample import chosen_kernel
from larun.algorithms.resampled_noise import unpacked
from larun.detector import Section
from larun.model.replay.resampled_rules import alignment_of
from larun.model.replay.story import Part, Reason, reason_of
from larun.model.replay.window_rules import WholeImage, grown, one_of, parameters_of
from larun.provenance import Provenance

if TYPE_CHECKING:
    from larun.model.replay.windows import Windows

__all__ = ["Origin", "origin_of"]

_NEAR = 3  # pixels to each side that a kernel sees


class Origin(NamedTuple):
    """What is told of a pixel of an aligned image.

    Attributes
    ----------
    part : Part
        What the step did.
    reasons : list of Reason
        Flags that it set itself.
    came : list of Reason
        Flags that came with pixels of the image it worked on.
    places : list of (int, int)
        Columns and rows of that image where the story goes on: the nearest pixel, and for each flag that this one
        lacks the nearest that has it.
    """

    part: Part
    reasons: list[Reason]
    came: list[Reason]
    places: list[tuple[int, int]]


def origin_of(windows: Windows, node: Provenance, x: int, y: int, extra: tuple[fl.Flag, ...]) -> Origin:
    """Where a pixel of an aligned image comes from.

    Parameters
    ----------
    windows : Windows
        Of the raw files.
    node : Provenance
        Of the step.
    x, y : int
        Column and row of the aligned image.
    extra : tuple of Flag
        Flags of the camera.
    """
    source = one_of(node, "self")
    after = windows.pixels(node, Section(y, y + 1, x, x + 1))
    bits = int(after.flags[0, 0])
    at_x, at_y, kernel = _position(windows, node, x, y)
    method = parameters_of(node)["method"]
    values: dict[str, Any] = {"value": float(after.data[0, 0])}
    ny, nx = windows.shape(source)
    u, v = (int(np.rint(value)) if np.isfinite(value) else -1 for value in (at_x, at_y))
    if not (0 <= u < nx and 0 <= v < ny):
        text = "it lies outside of the frame that was aligned"
        return Origin(Part(step="align", text=text), [reason_of(fl.NO_DATA, "align", "no value", text)], [], [])
    values |= {"x": at_x, "y": at_y, "kernel": kernel}
    how = "areas of overlap" if kernel == "area" else f"{kernel} kernel"
    text = f"{after.data[0, 0]:.6g} from around x = {at_x:.3f}, y = {at_y:.3f} of the frame ({how}, by {method})"
    near = grown(Section(v, v + 1, u, u + 1), _NEAR, (ny, nx))
    before = windows.pixels(source, near).flags
    reasons, came, places = [], [], [(u, v)]
    missing = bits & ~int(before[v - near.y0, u - near.x0])
    for flag in (1 << k for k in range(32) if bits >> k & 1):
        (name,) = fl.names_of(flag, extra)
        rows, columns = np.nonzero((before & np.uint32(flag)) != 0)
        if not len(rows):
            what = "neighbours are missing: the edge of the frame" if flag == int(fl.EDGE) else "set by this step"
            reasons.append(Reason(flag=name, step="align", cause="step", text=what))
            continue
        nearest = np.argmin((rows + near.y0 - at_y) ** 2 + (columns + near.x0 - at_x) ** 2)
        place = int(columns[nearest]) + near.x0, int(rows[nearest]) + near.y0
        said = f"came with x = {place[0]}, y = {place[1]} of the frame"
        came.append(Reason(flag=name, step="align", cause="step", text=said))
        if flag & missing and place not in places:
            places.append(place)
    return Origin(Part(step="align", text=text, values=values), reasons, came, places)


def _position(windows: Windows, node: Provenance, x: int, y: int) -> tuple[float, float, str]:
    """Where a pixel was, and the kernel."""
    try:
        mapping = alignment_of(windows, node).mapping
        kernel = chosen_kernel(mapping, parameters_of(node)["kernel"])
    except WholeImage:
        row = windows.image(node)._resampling
        if row is None:
            return float("nan"), float("nan"), ""
        (mapping, kernel, *_), *_ = unpacked(row)
    at_x, at_y = mapping.at(x, y)
    return float(at_x), float(at_y), kernel
