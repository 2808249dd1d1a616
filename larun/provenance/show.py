"""The record as a tree for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from larun.provenance.record import Provenance, Step

__all__ = ["describe", "tree"]

_LONGEST = 60


def describe(step: Step) -> str:
    """One step in one line: name, version, parameters."""
    shown = ", ".join(f"{key}={_short(value)}" for key, value in step.parameters.items())
    return f"{step.operation} v{step.version}({shown})"


def tree(provenance: Provenance) -> str:
    """The whole record as indented text; a branch that was shown before is only named.

    Examples
    --------
    >>> from larun.provenance import Provenance, Root
    >>> print(tree(Provenance(root=Root(kind="memory", pixels="00"))))
    arrays in memory  [9b3adf34]
    """
    lines: list[str] = []
    shown: set[str] = set()

    def add(node: Provenance, lead: str, hang: str, role: str) -> None:
        label = f"{role}: " if role not in ("", "self") else ""
        again = node.id in shown and node.parents
        lines.append(f"{lead}{label}{_title(node)}  [{node.id[:8]}]{' (shown above)' if again else ''}")
        if again:
            return
        shown.add(node.id)
        if node.step is not None:
            inner = hang + ("│    " if node.parents else "     ")
            lines.extend(f"{inner}· {describe(step)}" for step in node.step.substeps)
            lines.extend(f"{inner}= {key}: {_short(value)}" for key, value in node.step.fitted.items())
        for index, parent in enumerate(node.parents):
            last = index == len(node.parents) - 1
            add(parent.provenance, hang + ("└─ " if last else "├─ "), hang + ("   " if last else "│  "), parent.role)

    add(provenance, "", "", "")
    return "\n".join(lines)


def _title(node: Provenance) -> str:
    if node.root is not None:
        name = "arrays in memory" if node.root.kind == "memory" else f"file {printable(node.root.name)}"
        given = ", ".join(f"{key}={_short(value)}" for key, value in node.root.given.items())
        return name + (f" (given: {given})" if given else "")
    return describe(node.step) if node.step is not None else ""


def _short(value: Any) -> str:
    if isinstance(value, dict) and "base64" in value:
        return f"<array {'×'.join(str(n) for n in value['shape'])}>"
    if isinstance(value, dict) and set(value) == {"value", "unit"}:
        return f"{value['value']} {value['unit']}"
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {_short(item)}" for key, item in value.items() if key != "type") + "}"
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
