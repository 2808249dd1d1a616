"""A stack against one of its frames: whether it is as deep as its errors say, and stars are as bright as they were."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.model.frame import Frame
from larun.model.stack import Stack
from larun.report.verdict import Check

__all__ = ["compare_stack"]

_SNR = 30.0


def compare_stack(path: Path, frames: Path) -> tuple[Check, ...]:
    """Checks of a stack.

    Parameters
    ----------
    path : Path
        The product.
    frames : Path
        Folder of the frames it was made of.
    """
    stack = Stack.read(path)
    step = stack.provenance.step
    assert step is not None
    notes = {item["frame"]: item for item in step.fitted["frames"]}
    where = stack.filter or ""
    whole = stack.contributors == stack.contributors.max()
    good = whole & ((stack.flags & fl.UNUSABLE) == 0) & ~_starlight(stack)
    level = stack.background().level
    error = stack.uncertainty
    assert error is not None
    rest = ((stack.data - level) / error)[good]
    noise = 1.4826 * float(np.median(np.abs(rest - np.median(rest)))) if rest.size else math.nan
    checks = [Check("noise of the stack in its own errors", where, noise, 1.0, 0.9, 1.1, int(rest.size))]
    reference = notes.get(step.fitted["reference"])
    single = frames / reference["name"] if reference is not None else None
    if single is not None and single.exists():
        checks.append(_light(stack, Frame.read(single), step.fitted["origin"], where))
    return tuple(checks)


def _starlight(stack: Stack) -> NDArray[np.bool_]:
    """Where sources are, faint ones too: what they add is no noise."""
    table = stack.detect(3.0)._table
    reach = round(3 * float(table.meta["fwhm"]))
    made = np.zeros(stack.shape, bool)
    for x, y in zip(np.asarray(table["x"].value), np.asarray(table["y"].value), strict=True):
        row, column = round(float(y)), round(float(x))
        made[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = True
    return made


def _light(stack: Stack, frame: Frame, origin: list[int], where: str) -> Check:
    """Magnitudes of the same stars in the same aperture."""
    sources = frame.detect()._table
    x, y, snr = (np.asarray(getattr(sources[n], "value", sources[n]), float) for n in ("x", "y", "snr"))
    bright = (snr > _SNR) & (np.asarray(sources["flags"]) == 0)
    places = np.column_stack([x, y])[bright]
    if not len(places):
        return Check("light of stars in the stack", where, math.nan, 0.0, -0.01, 0.01, 0)
    fwhm = max(float(sources.meta["fwhm"]), stack.star_size().fwhm)
    radius = 3.0 * fwhm
    one = frame.photometer(places, (radius,), unit="pixel")._table
    two = stack.photometer(places - np.array(origin, float), (radius,), unit="pixel")._table
    away = np.asarray(two["mag_1"].value) - np.asarray(one["mag_1"].value)
    known = away[np.isfinite(away)]
    return Check("light of stars in the stack", where, float(np.median(known)), 0.0, -0.01, 0.01, len(known))
