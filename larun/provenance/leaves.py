"""Where two nested values differ, leaf by leaf, and how that is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from larun.provenance.canonical import text_of
from larun.provenance.show import printable, short

__all__ = ["ABSENT", "Leaf", "changed", "told"]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


#: Stands where one of two values has no such entry.
ABSENT: Any = _Absent()

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ARRAY = {"base64", "dtype", "shape"}


class Leaf(NamedTuple):
    """A place in which two values differ."""

    path: str
    """``overscan.method``, ``frames[d1.fits].level``"""
    one: Any
    other: Any


def changed(one: Any, other: Any, path: str = "") -> Iterator[Leaf]:
    """The places in which two canonical values differ.

    Mappings are compared by key; lists of mappings that have a ``name`` by that name, lists of mappings or lists of
    one length item by item; anything else as a whole.

    Examples
    --------
    >>> [tuple(leaf) for leaf in changed({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})]
    [('a.c', 2, 3)]
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping) and not _whole(one) and not _whole(other):
        for key in sorted(one.keys() | other.keys()):
            name = printable(str(key))
            yield from changed(one.get(key, ABSENT), other.get(key, ABSENT), f"{path}.{name}" if path else name)
        return
    if isinstance(one, list) and isinstance(other, list) and _nested(one) and _nested(other):
        names = [_names(items) for items in (one, other)]
        if names[0] is not None and names[1] is not None:
            for name in dict.fromkeys((*names[0], *names[1])):
                label = f"{path}[{printable(name)}]"
                yield from changed(names[0].get(name, ABSENT), names[1].get(name, ABSENT), label)
            return
        if len(one) == len(other):
            for number, (a, b) in enumerate(zip(one, other, strict=True)):
                yield from changed(a, b, f"{path}[{number}]")
            return
    if one is ABSENT or other is ABSENT or text_of(one) != text_of(other):
        yield Leaf(path, one, other)


def _whole(value: Mapping[str, Any]) -> bool:
    """Whether a mapping stands for one value: an array, a quantity, another object."""
    keys = set(value)
    return keys == _ARRAY or keys == {"value", "unit"} or keys == {"provenance"}


def _nested(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, Mapping | list) for item in items)


def _names(items: list[Any]) -> dict[str, Any] | None:
    """Items by name; None where they have none, or not each its own."""
    if not all(isinstance(item, Mapping) and isinstance(item.get("name"), str) for item in items):
        return None
    made = {item["name"]: item for item in items}
    return made if len(made) == len(items) else None


def told(one: Any, other: Any) -> str:
    """Two values that differ, as text that differs."""
    a, b = _said(one), _said(other)
    if a == b and isinstance(one, float | int) and isinstance(other, float | int):
        a, b = repr(one), repr(other)
    return f"{a} → {b}" if a != b else f"differs ({a})"


def _said(value: Any) -> str:
    if value is ABSENT:
        return "not given"
    if value is None:
        return "none"
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value[:8]
    return short(value)
