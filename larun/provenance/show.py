"""The record as a tree for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from larun.markup import Markup, cell, joined, printable

if TYPE_CHECKING:
    from larun.provenance.record import Provenance, Step

__all__ = ["describe", "printable", "short", "tree", "tree_html"]

_LONGEST = 60
#: Nodes of the record that a page shows: a master of a thousand frames, each with its own history, is not read there.
_MOST = 400


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
            lines.extend(f"{inner}= {printable(key)}: {short(value)}" for key, value in node.step.fitted.items())
        branches = []
        for index, parent in enumerate(node.parents):
            last = index == len(node.parents) - 1
            mark, under = ("└─ ", "   ") if last else ("├─ ", "│  ")
            branches.append((parent.provenance, hang + mark, hang + under, parent.role))
        waiting += reversed(branches)
    return "\n".join(lines)


def tree_html(provenance: Provenance) -> str:
    """The whole record as an HTML tree whose branches fold; of very large records the beginning.

    Every text in it is escaped.

    Examples
    --------
    >>> from larun.provenance import Provenance, Root
    >>> "arrays in memory" in tree_html(Provenance(root=Root(kind="memory", pixels="00")))
    True
    """
    pieces: list[Markup] = []
    shown: set[str] = set()
    # What is left to write, last first: nodes with their role and level, and the ends of what has begun.
    waiting: list[Markup | tuple[Provenance, str, int]] = [(provenance, "", 0)]
    count = 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, Markup):
            pieces.append(item)
            continue
        node, role, level = item
        count += 1
        if count > _MOST:
            if count == _MOST + 1:
                pieces.append(Markup("<li>… (print the record for the rest)</li>"))
            continue
        again = bool(node.id in shown and node.parents)
        head = _head(node, role, again)
        more = [] if again else _more(node)
        if again or not (more or node.parents):
            pieces.append(Markup(f"<li>{head}</li>"))
            continue
        shown.add(node.id)
        opened = " open" if level < 2 else ""
        pieces.append(Markup(f"<li><details{opened}><summary>{head}</summary><ul>{joined(more)}"))
        waiting.append(Markup("</ul></details></li>"))
        waiting += [(parent.provenance, parent.role, level + 1) for parent in reversed(node.parents)]
    return Markup(f'<ul style="list-style:none;padding-left:0">{joined(pieces)}</ul>')


def _head(node: Provenance, role: str, again: bool) -> Markup:
    label = f"{role}: " if role not in ("", "self") else ""
    number = Markup(f" <small><code>{node.id[:8]}</code>{' (shown above)' if again else ''}</small>")
    return joined([cell(label) if label else Markup(), cell(_title(node)), number])


def _more(node: Provenance) -> list[Markup]:
    """What a step called and fitted, as items."""
    if node.step is None:
        return []
    texts = [f"· {describe(step)}" for step in node.step.substeps]
    texts += [f"= {key}: {short(value)}" for key, value in node.step.fitted.items()]
    return [Markup(f"<li>{cell(text)}</li>") for text in texts]


def _title(node: Provenance) -> str:
    if node.root is not None:
        name = "arrays in memory" if node.root.kind == "memory" else f"file {printable(node.root.name)}"
        return name + (f" (given: {_listed(node.root.given)})" if node.root.given else "")
    return describe(node.step) if node.step is not None else ""


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{printable(key)}={short(value)}" for key, value in values.items())


def short(value: Any) -> str:
    """A canonical value in few characters, none of which can steer a terminal."""
    if isinstance(value, dict) and "base64" in value:
        return f"<array {'×'.join(str(n) for n in value['shape'])}>"
    if isinstance(value, dict) and set(value) == {"value", "unit"}:
        return printable(f"{value['value']} {value['unit']}")
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{printable(key)}: {short(item)}" for key, item in value.items() if key != "type") + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(short(item) for item in value) + "]"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = printable(repr(value) if isinstance(value, str) else str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
