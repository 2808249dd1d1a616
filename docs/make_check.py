"""What ``larun check`` prints of the Nickel night, and two of its pictures: ``python docs/make_check.py``.

They stand on the page ``docs/howto/check-a-night.md``. The night is that of ``LARUN_DATA``; nothing is told to larun.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from make_pictures import save
from matplotlib import pyplot as plt
from rich.console import Console

import larun
from larun import plots
from larun.model.checks.verdict import Report
from larun.report import check

HERE = Path(__file__).parent
DATA = Path(os.environ.get("LARUN_DATA", HERE.parents[1] / "shared" / "data"))

PICTURES = ("gain", "overscan drift")


def printed(report: Report) -> str:
    """As the command prints it, 100 columns wide."""
    screen = Console(file=io.StringIO(), width=100, highlight=False, markup=False, emoji=False)
    for part in check.told(report.faults):
        screen.print(part)
    screen.print()
    screen.print(check.outcome(report))
    assert isinstance(screen.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in screen.file.getvalue().splitlines())


def main() -> None:
    """Write the text and the pictures."""
    report = larun.Night(DATA / "nickel").check(processes=None)
    (HERE / "howto" / "check-a-night.txt").write_text(printed(report), encoding="utf-8")
    for name in PICTURES:
        (verdict,) = report.of(name)
        figure = plt.figure(figsize=(6.4, 3.9), layout="constrained")
        plots.show_evidence(verdict, ax=figure)
        save(figure, HERE / "images" / f"check-{name.replace(' ', '-')}.png", dpi=80)


if __name__ == "__main__":
    main()
