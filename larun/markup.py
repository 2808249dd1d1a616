"""A little HTML for notebooks and reports: every text is escaped unless it says that it is markup.

Headers, file names and records are written by strangers: what comes from them never becomes an element, an attribute
or a control character.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Markup", "cell", "joined", "pairs", "printable", "table"]

_LONGEST = 200
_CELL = "text-align:left;vertical-align:top;padding:1px 8px 1px 0"


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def printable(text: str) -> str:
    """Text from a header or a file name without control characters: it must not steer a terminal or a page."""
    return "".join(character if character.isprintable() else "�" for character in text)


def cell(value: Any) -> Markup:
    """A value as escaped text; markup stays as it is, None becomes a dash, long text is cut.

    Examples
    --------
    >>> cell("<script>"), cell(Markup("<b>bold</b>")), cell(None)
    ('&lt;script&gt;', '<b>bold</b>', '–')
    """
    if isinstance(value, Markup):
        return value
    text = "–" if value is None or value == "" else printable(str(value))
    return Markup(html.escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"))


def joined(parts: Iterable[str]) -> Markup:
    """Pieces one after the other; those that are not markup are escaped."""
    return Markup("".join(cell(part) for part in parts))


def pairs(rows: Iterable[tuple[str, Any]]) -> Markup:
    """Names and values in two columns; rows without a value are left out."""
    made = (
        f'<tr><th style="{_CELL}">{cell(name)}</th><td style="{_CELL}">{cell(value)}</td></tr>'
        for name, value in rows
        if value is not None and value != ""
    )
    return Markup(f"<table>{''.join(made)}</table>")


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table with a line of names above; a wide one scrolls."""
    names = "".join(f'<th style="{_CELL}">{cell(name)}</th>' for name in head)
    lines = ("".join(f'<td style="{_CELL}">{cell(value)}</td>' for value in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return Markup(
        f'<div style="overflow-x:auto"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'
    )
