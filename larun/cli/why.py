"""``larun why``: the story of a pixel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.padding import Padding
from rich.text import Text

from larun.cli.running import OK
from larun.model.replay.telling import why
from larun.provenance.show import printable
from larun.report.terminal import cell, console, heading, write_json

__all__ = ["show"]


def show(path: Path, x: int, y: int, raw: Iterable[Path], as_json: bool) -> int:
    """Tell why a pixel has its value and its flags."""
    story = why(path, x, y, raw=raw)
    if as_json:
        write_json(story.to_dict())
        return OK
    screen, lines = console(), str(story).splitlines()
    screen.print(heading(lines[0]))
    for part in story.parts:
        screen.print(Text(f"{part.step}  ", style="bold").append(printable(part.text)))
    for reason in story.flags:
        screen.print(Text(f"{printable(reason.flag)}  ", style="bold yellow").append(printable(reason.step)))
        screen.print(Padding(cell(reason.text), (0, 0, 0, 4), expand=False))
    for note in story.notes:
        screen.print(Padding(cell(f"note: {note}"), (0, 0, 0, 4), expand=False))
    return OK
