"""FITS section text, 1-based and inclusive, and :class:`larun.detector.Section`, 0-based and half open."""

from __future__ import annotations

import re

from larun.detector import Section
from larun.errors import HeaderError

__all__ = ["format_section", "parse_section"]

_RANGE = r"\s*(\*|[+-]?\d+\s*:\s*[+-]?\d+)\s*"
_SECTION = re.compile(rf"\[?{_RANGE},{_RANGE}\]?")
_WORDS = {"", "UNKNOWN", "N/A", "NA", "NONE", "NULL", "UNDEFINED", "INDEF", "[]"}


def parse_section(value: object, keyword: str = "section", *, shape: tuple[int, int] | None = None) -> Section | None:
    """The section a header value names; None for words that mean "not known" and for ``[0:0,0:0]``.

    Parameters
    ----------
    value : object
        Such as ``'[1:1024,1:1056]'`` (columns first); blanks are allowed, a reversed range means the same pixels.
    keyword : str
        Where it was found, for the error.
    shape : (int, int) or None
        Rows and columns, needed to resolve ``*``.

    Raises
    ------
    HeaderError
        If the text is no section, names the keyword and the value.

    Examples
    --------
    >>> parse_section("[   4:  13,   1: 520]")
    Section(y0=0, y1=520, x0=3, x1=13)
    >>> parse_section("UNKNOWN") is None
    True
    """
    text = "" if value is None else str(value).strip()
    if text.upper() in _WORDS:
        return None
    match = _SECTION.fullmatch(text)
    if match is None:
        raise HeaderError(f"{keyword} = {text!r} is not a section: write it as '[x1:x2,y1:y2]', pixels counted from 1")
    edges = []
    for axis, span in enumerate(match.groups()):
        if span == "*":
            if shape is None:
                raise HeaderError(f"{keyword} = {text!r}: '*' needs the size of the array; write the numbers instead")
            edges.append((1, shape[1 - axis]))
        else:
            low, high = sorted(int(part) for part in span.split(":"))
            edges.append((low, high))
    (x1, x2), (y1, y2) = edges
    if x1 == x2 == y1 == y2 == 0:
        return None
    if x1 < 1 or y1 < 1:
        raise HeaderError(f"{keyword} = {text!r} begins before pixel 1: FITS sections are counted from 1")
    return Section(y1 - 1, y2, x1 - 1, x2)


def format_section(section: Section) -> str:
    """The FITS text of a section.

    Examples
    --------
    >>> format_section(Section(0, 520, 3, 13))
    '[4:13,1:520]'
    """
    return f"[{section.x0 + 1}:{section.x1},{section.y0 + 1}:{section.y1}]"
