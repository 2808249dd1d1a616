"""Numbers and lists of names in the sentences of verdicts."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["alternatives", "counted", "listed", "percent"]

_MOST = 4


def listed(names: Sequence[str], most: int = _MOST) -> str:
    """Names in a row; of many the first few, and how many more.

    Examples
    --------
    >>> listed(["a", "b"]), listed(list("abcdef"), 3)
    ('a, b', 'a, b, c and 3 more')
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def alternatives(words: Sequence[str]) -> str:
    """``a, b or c``.

    Examples
    --------
    >>> alternatives(["gain", "read noise", "flat"])
    'gain, read noise or flat'
    """
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1, "frame"), counted(3, "frame"), counted(2, "bias", "biases")
    ('1 frame', '3 frames', '2 biases')
    """
    return f"{count} {one if count == 1 else many or one + 's'}"


def percent(fraction: float) -> str:
    """A fraction as a percentage with two digits, as a person writes it.

    Examples
    --------
    >>> percent(0.0234), percent(0.5), percent(1.27)
    ('2.3 %', '50 %', '127 %')
    """
    value = 100 * fraction
    return f"{value:.0f} %" if abs(value) >= 9.95 else f"{value:.1f} %"
