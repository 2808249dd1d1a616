"""What each frame of a stack gave to a pixel, and why those were left out that did not count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from larun import flags as fl
from larun.detector import Section
from larun.model.replay.resampled_rules import seen_by_frames, told_frames
from larun.model.replay.story import Part, Reason, reason_of
from larun.provenance import Provenance

if TYPE_CHECKING:
    from larun.model.replay.windows import Windows

__all__ = ["Contributed", "contributed"]

_FOLLOWED = 3  # frames whose own pixels are told
_NAMED = 6  # frames that are named in the text


class Contributed(NamedTuple):
    """What is told of a pixel of a stack.

    Attributes
    ----------
    part : Part
        What every frame saw there: ``values["frames"]`` has one row for each.
    reasons, came : list of Reason
        Flags that the stack set itself; flags that came with frames.
    places : list of (Provenance, int, int)
        Frames whose story goes on, with column and row there: those that were rejected first, and the one that counts
        most.
    """

    part: Part
    reasons: list[Reason]
    came: list[Reason]
    places: list[tuple[Provenance, int, int]]


def contributed(windows: Windows, node: Provenance, x: int, y: int, extra: tuple[fl.Flag, ...]) -> Contributed:
    """What the frames of a stack gave to one pixel.

    Parameters
    ----------
    windows : Windows
        Of the raw files.
    node : Provenance
        Of the stack.
    x, y : int
        Column and row of the stack.
    extra : tuple of Flag
        Flags of the camera.

    Raises
    ------
    WholeImage
        If the record does not hold all of it.
    """
    section = Section(y, y + 1, x, x + 1)
    made = windows.pixels(node, section)
    told, seen = told_frames(windows, node), seen_by_frames(windows, node, section)
    middle = float(seen.middle[0, 0])
    rows: list[dict[str, Any]] = []
    for k, one in enumerate(told):
        value, variance = float(seen.values[k, 0, 0]), float(seen.variance[k, 0, 0])
        at_x, at_y = (float(at) for at in one.mapping.at(x, y))
        flags = fl.names_of(int(seen.flags[k, 0, 0]), extra)
        used = bool(seen.used[k, 0, 0])
        away = (value - middle) / np.sqrt(variance) if variance > 0 and np.isfinite(value + middle) else None
        why = "" if used else "rejected" if np.isfinite(value) else "outside" if "NO_DATA" in flags else "flagged"
        rows.append(
            {
                "name": one.note["name"],
                "used": used,
                "why": why,
                "value": value if np.isfinite(value) else None,
                "sigma": None if away is None else float(away),
                "weight": one.note["weight"],
                "x": at_x,
                "y": at_y,
                "flags": list(flags),
            }
        )
    value = float(made.data[0, 0])
    part = Part(step="stack", text=_text(value, rows), values={"value": value, "median": middle, "frames": rows})
    reasons, came = _flags(int(made.flags[0, 0]), rows, extra)
    return Contributed(part, reasons, came, _places(windows, told, rows))


def _text(value: float, rows: list[dict[str, Any]]) -> str:
    used = sum(row["used"] for row in rows)
    text = f"{value:.6g} from {used} of {len(rows)} frames" if used else f"none of {len(rows)} frames has a value"
    out = [row for row in rows if row["why"] == "rejected"]
    for row in out[:_NAMED]:
        away = "" if row["sigma"] is None else f", {row['sigma']:+.1f} σ from the median"
        text += f"; {row['name']} was left out ({row['value']:.6g}{away}: the others did not see it)"
    if len(out) > _NAMED:
        text += f"; and {len(out) - _NAMED} more"
    flagged = [row for row in rows if row["why"] == "flagged"]
    for row in flagged[:_NAMED]:
        text += f"; {row['name']} has {', '.join(row['flags'])} there"
    outside = sum(row["why"] == "outside" for row in rows)
    return text + (f"; {outside} do not reach it" if outside else "")


def _flags(bits: int, rows: list[dict[str, Any]], extra: tuple[fl.Flag, ...]) -> tuple[list[Reason], list[Reason]]:
    reasons, came = [], []
    for name in fl.names_of(bits, extra):
        having = [row["name"] for row in rows if name in row["flags"]]
        if having:
            some = ", ".join(having[:_NAMED]) + (" …" if len(having) > _NAMED else "")
            came.append(Reason(flag=name, step="stack", cause="step", text=f"came with {some}"))
        elif name == "NO_DATA":
            reasons.append(reason_of(fl.NO_DATA, "stack", "no value", "no frame that counts has a value here"))
    return reasons, came


def _places(windows: Windows, told: Any, rows: list[dict[str, Any]]) -> list[tuple[Provenance, int, int]]:
    """Where the story goes on."""
    order = sorted(
        range(len(rows)), key=lambda k: (rows[k]["why"] != "rejected", not rows[k]["used"], -rows[k]["weight"])
    )
    rejected = [k for k in order if rows[k]["why"] == "rejected"][: _FOLLOWED - 1]
    best = [k for k in order if k not in rejected][:1]
    found = []
    for k in (*rejected, *best):
        ny, nx = windows.shape(told[k].node)
        u, v = (int(np.rint(at)) if np.isfinite(at) else -1 for at in (rows[k]["x"], rows[k]["y"]))
        if 0 <= u < nx and 0 <= v < ny:
            found.append((told[k].node, u, v))
    return found
