"""An audit in words: the files with their verdicts, what is worth knowing, what differs from a seal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from larun.model.audit import STATUSES
from larun.provenance.show import printable
from larun.report.terminal import cell

if TYPE_CHECKING:
    from larun.io.seal import Sealing
    from larun.model.audit import Audit

__all__ = ["listed", "noted", "unsealed"]

_STYLES = {"intact": "green", "padding only": "yellow", "unverifiable": "yellow", "stale": "yellow", "added": "yellow"}


def listed(audit: Audit, *, everything: bool = False) -> Iterator[RenderableType]:
    """What is not just intact, the worst first, and what that rests on; or every file, in order of name."""
    told = [file for status in STATUSES[:-1] for file in audit if file.status == status]
    for file in audit if everything else told:
        yield _head(file.status, file.name)
        for reason in file.reasons:
            yield Padding(cell(reason), (0, 0, 0, 4), expand=False)


def noted(audit: Audit) -> Iterator[RenderableType]:
    """Every note once, with the number of files it concerns."""
    for note, count in audit.notes.items():
        yield cell(f"note: {note} ({count} {'file' if count == 1 else 'files'})")


def unsealed(sealing: Sealing) -> Iterator[RenderableType]:
    """What differs from a seal, file by file."""
    for word, names in (("changed", sealing.changed), ("removed", sealing.removed), ("added", sealing.added)):
        for name in names:
            yield _head(f"{word} since it was sealed", name, _STYLES.get(word, "bold red"))


def _head(verdict: str, name: str, style: str | None = None) -> Text:
    head = Text(f"{verdict}  ", style=style or _STYLES.get(verdict, "bold red"))
    return head.append(printable(name), style="bold")
