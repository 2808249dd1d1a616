"""The demo's comparison as tables and as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from larun.report.recovery import FrameScore
from larun.report.terminal import NONE, Column, decimals, table
from larun.report.verdict import Check

__all__ = ["check_table", "frame_dict", "frame_table"]


def frame_dict(score: FrameScore) -> dict[str, Any]:
    """One frame's comparison as numbers."""
    stars, cosmics = score.stars, score.cosmics
    return {
        "name": score.name,
        "filter": score.band,
        "stars": int(stars.expected.sum()),
        "found": int((stars.expected & stars.found).sum()),
        "false": score.false,
        "seeing": score.seeing,
        "fwhm": score.fwhm,
        "cosmic_pixels": cosmics.strong,
        "cosmic_recall": cosmics.recall,
        "cosmic_precision": cosmics.precision,
        "saturated_flagged": score.saturated,
        "new_source_there": score.new_source_there,
        "new_source_snr": score.new_source,
    }


def frame_table(scores: Iterable[FrameScore]) -> Table:
    """One row per frame: stars above 5 σ, sizes in pixels, pixels hit by cosmic rays."""
    columns = (
        Column("frame", whole=True),
        Column("stars", right=True),
        Column("found", right=True),
        Column("false", right=True),
        Column("seeing", right=True),
        Column("FWHM", right=True),
        Column("cosmic", right=True),
        Column("recall", right=True),
        Column("precision", right=True),
        Column("new source", whole=True),
    )
    rows = (
        (
            row["name"],
            row["stars"],
            row["found"],
            row["false"],
            decimals(row["seeing"], 3),
            decimals(row["fwhm"], 3),
            row["cosmic_pixels"],
            decimals(row["cosmic_recall"], 3),
            decimals(row["cosmic_precision"], 3),
            _source(row["new_source_there"], row["new_source_snr"]),
        )
        for row in map(frame_dict, scores)
    )
    return table(columns, rows)


def _source(there: bool | None, snr: float) -> str | None:
    if there is None:
        return None
    return f"S/N {snr:.0f}" if math.isfinite(snr) else "MISSED" if there else "absent"


def check_table(checks: Iterable[Check]) -> Table:
    """One row per comparison."""
    columns = (
        Column("quantity"),
        Column("filter", whole=True),
        Column("recovered", right=True),
        Column("true", right=True),
        Column("limits", right=True),
        Column("from", right=True),
        Column("", whole=True),
    )
    rows = (
        (
            check.name,
            check.where or "all",
            Text(_digits(check.found), style="" if check.passed else "bold red"),
            f"{check.expected:.3g}",
            f"{check.low:.3g} … {check.high:.3g}" if check.low < check.high else f"{check.low:.3g}",
            check.samples,
            "ok" if check.passed else "MISSED",
        )
        for check in checks
    )
    return table(columns, rows)


def _digits(value: float) -> str:
    """Three decimals; one more for small numbers."""
    if not math.isfinite(value):
        return NONE
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.4f}"
