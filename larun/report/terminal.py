"""What every face prints with: tables, JSON, and text that cannot steer a terminal.

Cells are :class:`rich.text.Text`, never markup: a header that says ``[red]`` is shown as it is.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from larun.provenance.show import printable

__all__ = ["NONE", "Column", "cell", "console", "decimals", "heading", "pairs", "plain_values", "table", "write_json"]

#: Shown where there is no value.
NONE = "–"

#: Columns of text where the output is not a terminal.
_WIDTH = 100

_STYLES = {"done": "green", "ok": "green", "skipped": "dim", "failed": "bold red", "MISSED": "bold red"}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever runs the command decides what a reader that went away means."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """A console on the present standard output or standard error; 100 columns wide where that is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show σ must not stop a reduction
    narrow = not stream.isatty() and "COLUMNS" not in os.environ
    return _Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=_WIDTH if narrow else None)


class Column(NamedTuple):
    """One column of a table."""

    name: str
    right: bool = False
    #: Whether the column is kept on one line; others fold.
    whole: bool = False


def cell(value: Any) -> Text:
    """A value as text without control characters; a status gets its colour."""
    if isinstance(value, Text):
        return value
    text = NONE if value is None or value == "" else printable(str(value))
    return Text(text, style=_STYLES.get(text, "dim" if text == NONE else ""))


def decimals(value: float | None, digits: int) -> str | None:
    """A number with so many digits after the point; None where it is missing or not finite."""
    return None if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def heading(text: str) -> Text:
    """A line above a table."""
    return Text(printable(text), style="bold")


def table(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without vertical lines."""
    made = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        made.add_column(
            column.name,
            justify="right" if column.right else "left",
            no_wrap=column.whole or column.right,
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def pairs(rows: Iterable[tuple[str, Any]]) -> Table:
    """Names and values in two columns; rows without a value are left out."""
    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value != "":
            made.add_row(Text(name), cell(value))
    return made


def plain_values(value: Any) -> Any:
    """Values that JSON knows: numpy numbers become numbers, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if hasattr(value, "tolist"):
        return plain_values(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def write_json(value: Any) -> None:
    """One JSON document, and nothing else, on standard output; ASCII, so that any terminal and pipe can take it."""
    sys.stdout.write(json.dumps(plain_values(value), indent=2, allow_nan=False) + "\n")
