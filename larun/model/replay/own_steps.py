"""Steps that a record alone cannot carry out: functions of the user's own, pixels that were handed over in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from larun.errors import NotReplayable
from larun.model.replay.calls import Functions
from larun.provenance import OPERATIONS, Provenance

__all__ = ["changes", "obstacle", "obstacle_of", "own_function"]


def own_function(node: Provenance) -> str:
    """The name of the function of a ``pipe`` step, with the digest of its source."""
    described = next(_functions(node), {})
    source = described.get("source")
    digest = f"source {source[:12]}" if isinstance(source, str) else "source unknown"
    return f"{described.get('function', 'a function')} ({digest})"


def changes(node: Provenance, functions: Functions) -> list[str]:
    """How the functions of a step are not what they were, in words."""
    return [text for described in _functions(node) if (text := functions.changed(described))]


def obstacle_of(node: Provenance, functions: Functions) -> str:
    """Why a step cannot be carried out again here; empty where it can."""
    if node.root is not None:
        return "it began as arrays in memory" if node.root.kind == "memory" else ""
    operation = node.step.operation if node.step is not None else ""
    if operation not in OPERATIONS:
        return f"this larun knows no operation {operation!r}"
    if operation == "with_planes":
        return "its pixels were handed over in memory, and the record has only their digest"
    try:
        for described in _functions(node):
            functions.find(described)
    except NotReplayable as error:
        return str(error)
    return ""


def obstacle(record: Provenance, functions: Functions) -> str:
    """Why the object of a record cannot be made here, its raw files aside; empty where it can."""
    return next((text for node in record.walk() if (text := obstacle_of(node, functions))), "")


def _functions(node: Provenance) -> Iterator[Mapping[str, Any]]:
    waiting: list[Any] = [node.step.parameters] if node.step is not None else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if "function" in value and "source" in value:
                yield value
            else:
                waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
