"""The record as a tree for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from larun.provenance.record import Provenance, Step

__all__ = ["describe", "tree"]

_LONGEST = 60


def describe(step: Step) -> str:
    """One step in one line: name, version, parameters."""
    return f"{printable(step.operation)} v{step.version}({_listed(step.parameters)})"


def tree(provenance: Provenance) -> str:
    """The whole record as indented text; a branch that was shown before is only named.

    Examples
    --------
    >>> from larun.provenance import Provenance, Root
    >>> print(tree(Provenance(root=Root(kind="memory", pixels="00"))))
    arrays in memory  [51bfe4a2]
    """
    lines: list[str] = []
    shown: set[str] = set()
    waiting = [(provenance, "", "", "")]
    while waiting:
        node, lead, hang, role = waiting.pop()
        label = f"{printable(role)}: " if role not in ("", "self") else ""
        again = node.id in shown and node.parents
        lines.append(f"{lead}{label}{_title(node)}  [{node.id[:8]}]{' (shown above)' if again else ''}")
        if again:
            continue
        shown.add(node.id)
        if node.step is not None:
            inner = hang + ("│    " if node.parents else "     ")
            lines.extend(f"{inner}· {describe(step)}" for step in node.step.substeps)
            lines.extend(f"{inner}= {printable(key)}: {_short(value)}" for key, value in node.step.fitted.items())
        branches = []
        for index, parent in enumerate(node.parents):
            last = index == len(node.parents) - 1
            mark, under = ("└─ ", "   ") if last else ("├─ ", "│  ")
            branches.append((parent.provenance, hang + mark, hang + under, parent.role))
        waiting += reversed(branches)
    return "\n".join(lines)


def _title(node: Provenance) -> str:
    if node.root is not None:
        name = "arrays in memory" if node.root.kind == "memory" else f"file {printable(node.root.name)}"
        return name + (f" (given: {_listed(node.root.given)})" if node.root.given else "")
    return describe(node.step) if node.step is not None else ""


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{printable(key)}={_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    if isinstance(value, dict) and "base64" in value:
        return f"<array {'×'.join(str(n) for n in value['shape'])}>"
    if isinstance(value, dict) and set(value) == {"value", "unit"}:
        return printable(f"{value['value']} {value['unit']}")
    if isinstance(value, dict):
        text = (
            "{" + ", ".join(f"{printable(key)}: {_short(item)}" for key, item in value.items() if key != "type") + "}"
        )
    elif isinstance(value, list):
        text = "[" + ", ".join(_short(item) for item in value) + "]"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = printable(repr(value) if isinstance(value, str) else str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def printable(text: str) -> str:
    """Text from a header or a file name without control characters: it must not steer a terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)
