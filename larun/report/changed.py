"""The demo's new source on a difference: found, alone, as bright as it is, with its sheet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from larun.algorithms.subtraction import SubtractOptions
from larun.model.frame import Frame
from larun.report import figure
from larun.report.recovery import FrameScore
from larun.report.sheets import write_sheets
from larun.report.verdict import Check

if TYPE_CHECKING:
    from larun.simulate import NightTruth

__all__ = ["compare_difference"]

#: Pixels within which a candidate is the new source.
_NEAR = 1.5
#: What flux may be off by, beside five of its errors: the PSF and the kernel are known to some per cent.
_OFF = 0.06


def compare_difference(truth: NightTruth, scores: Sequence[FrameScore], out: Path) -> tuple[Check, ...]:
    """Subtract the first frame from one with the new source, and hold what is found against the truth.

    Parameters
    ----------
    truth : NightTruth
        With a new source; without any there is nothing to do.
    scores : sequence of FrameScore
        What was recovered of each frame.
    out : Path
        Folder of the reduction; the difference goes to ``differences`` and the sheet to ``sheets``.
    """
    new = truth.new_source
    if new is None:
        return ()
    known = {score.name for score in scores}
    frames = [about for about in truth.select("object", new.band) if about.path.stem in known]
    before, after = ([about for about in frames if about.new_source is there] for there in (False, True))
    if not before or not after:
        return ()
    science, reference = (
        Frame.read(out / "frames" / f"{about.path.stem}.fits", verify=False) for about in (after[-1], before[0])
    )
    difference = science.subtract(reference, options=SubtractOptions(order=1))
    found = difference.detect()
    (out / "differences").mkdir(exist_ok=True)
    name = after[-1].path.stem
    difference.write(out / "differences" / f"{name}.fits", overwrite=True)
    found.write(out / "differences" / f"{name}.ecsv", overwrite=True)
    good = found.select("not doubt")
    if figure.can_draw():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a font cache that is built for the first time, say
            write_sheets(difference, out / "sheets", candidates=good, overwrite=True)
    x, y = (float(value) for value in truth.place(after[-1], new.x, new.y))
    rows = good.table
    away = np.hypot(np.asarray(rows["x"].value) - x, np.asarray(rows["y"].value) - y)
    own = int(np.argmin(away)) if len(rows) and away.min() < _NEAR else None
    checks = [
        Check("new source is a candidate", new.band, float(own is not None), 1.0, 1.0, 1.0, 1),
        Check(
            "other candidates without doubt", new.band, float(len(rows) - (own is not None)), 0.0, 0.0, 3.0, len(found)
        ),
    ]
    if own is not None:
        expected = new.rate * after[-1].transparency * after[-1].exposure
        wide = _OFF + 5 * float(rows["flux_error"].value[own]) / expected
        ratio = float(rows["flux"].value[own]) / expected
        checks.append(Check("its light on the difference", new.band, ratio, 1.0, 1.0 - wide, 1.0 + wide, 1))
    return tuple(checks)
