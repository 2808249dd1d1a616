"""A check in words and as pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from larun.errors import FileError
from larun.provenance.show import printable
from larun.report.terminal import cell

if TYPE_CHECKING:
    from larun.model.checks.verdict import Report, Verdict

__all__ = ["draw", "outcome", "told"]

_STYLES = {"good": "green", "untested": "dim", "doubtful": "yellow", "bad": "bold red"}


def told(verdicts: Iterable[Verdict]) -> Iterator[RenderableType]:
    """Each verdict as a headed paragraph: what is found, what it means, what to do."""
    for item in verdicts:
        head = Text(f"{item.status}  ", style=_STYLES[item.status])
        head.append(printable(item.test), style="bold")
        if item.where:
            head.append(f"  {printable(item.where)}")
        yield head
        yield Padding(cell(item.meaning), (0, 0, 0, 4))
        if item.fix:
            yield Padding(Text("→ ").append_text(cell(item.fix)), (0, 0, 0, 4))


def outcome(report: Report) -> str:
    """How many verdicts there are of each kind."""
    found = Counter(verdict.status for verdict in report.verdicts)
    counts = ", ".join(f"{found[status]} {status}" for status in ("bad", "doubtful", "good", "untested"))
    return f"{len(report)} verdicts in {report.seconds:.0f} s: {counts}"


def draw(report: Report, folder: Path) -> dict[str, Path]:
    """A picture for every verdict that has evidence; by test and place, and a number where two have both alike.

    Raises
    ------
    FileError
        If the folder cannot be made.
    MissingExtra
        If matplotlib is not installed.
    """
    from larun.model.raw.exposures import slug
    from larun.plots.canvas import require, save
    from larun.plots.evidence import show_evidence

    require()
    from matplotlib import pyplot as plt

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error}") from error
    made: dict[str, Path] = {}
    names: Counter[str] = Counter()
    for verdict in report.verdicts:
        if verdict.evidence is None:
            continue
        about, name = f"{verdict.test} {verdict.where}".rstrip(), slug(f"{verdict.test}-{verdict.where}".rstrip("-"))
        names[name] += 1
        if names[name] > 1:
            about, name = f"{about} #{names[name]}", f"{name}-{names[name]}"
        axes = show_evidence(verdict)
        made[about] = save(axes, folder / f"{name}.png", overwrite=True)
        plt.close(axes.figure)
    return made
