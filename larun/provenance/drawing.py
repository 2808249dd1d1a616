"""The record as a drawing (SVG): raw files at the left, the object at the right.

Equal records give equal bytes. Every text in it is escaped, and there are no paths in it, only names of files.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from larun.markup import Markup, printable
from larun.provenance.layers import Box, Graph, Slot, columns_of, grouped, heights_of, is_own, way_of
from larun.provenance.show import describe, short

if TYPE_CHECKING:
    from larun.provenance.record import Provenance, Step

__all__ = ["DRAWN_BY", "svg"]

#: What a drawing of larun says of itself, near its beginning.
DRAWN_BY = "record of provenance, drawn by larun"

_LINE = 15.0  # pixels from one line of text to the next
_PAD = 9.0
_GAP = 16.0  # between boxes of a column
_BETWEEN = 96.0  # between columns
_STRAIGHT = 38.0  # last part of a link, with its role above
_PASSING = 12.0  # height of a link that passes a column
_PORT = 17.0  # between links that end at one box
_MARGIN = 14.0
_NARROWEST = 96.0
_LONGEST = 32  # characters of a line
_MOST_PARAMETERS = 6
_MOST_FITTED = 3

#: Outline and filling: raw files, masters and other inputs, the object's own steps.
_COLOURS = {"raw": ("#767676", "#f4f4f4"), "input": ("#b87700", "#fdf5e2"), "own": ("#0072b2", "#e9f3fa")}

_STYLE = (
    "text{font:12px Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#1a1a1a}"
    ".name{font-weight:bold}.value{font-size:11px}.fit{font-size:11px;font-style:italic;fill:#444}"
    ".id{font:10px 'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#666}"
    ".role{font-size:11px;fill:#444;text-anchor:end;paint-order:stroke;stroke:#fff;stroke-width:3px}"
    "path{fill:none;stroke:#8a8a8a;stroke-width:1.2}.own{stroke:#0072b2;stroke-width:2}"
)


@attrs.frozen
class _Text:
    """A line in a box, and how it is set."""

    text: str
    kind: str

    @property
    def width(self) -> float:
        """Rather too much than too little: fonts differ from machine to machine."""
        em = {"name": 13.0, "id": 10.5}.get(self.kind, 11.5)
        return em * sum(map(_em, self.text)) * 1.1


def _em(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    if letter in "iljtfr.,:;'|![]() ":
        return 0.36
    return 0.85 if letter in "mwMW@%…→" else 0.68 if letter.isupper() else 0.56


def svg(record: Provenance) -> str:
    """A record as an SVG document.

    Frames that do the same work are one box, with their names in its ``<title>``; so are all parameters of a step. Of
    a record with more than 150 boxes the part nearest to the object is drawn.

    Examples
    --------
    >>> from larun.provenance import Provenance, Root
    >>> "d1059.fits" in svg(Provenance(root=Root(kind="file", pixels="00", name="d1059.fits")))
    True
    """
    graph = grouped(record)
    columns = columns_of(graph)
    texts = [_texts(graph, number) for number in range(len(graph.boxes))]
    arriving = [0] * len(graph.boxes)
    for link in graph.links:
        arriving[link.target] += 1
    tall = [max(len(t) * _LINE, n * _PORT) + 2 * _PAD for t, n in zip(texts, arriving, strict=True)]
    middle = heights_of(graph, columns, lambda slot: tall[slot.box] if slot.box >= 0 else _PASSING, _GAP)
    wide = [
        max([_NARROWEST, *(line.width + 2 * _PAD for slot in slots if slot.box >= 0 for line in texts[slot.box])])
        for slots in columns
    ]
    left = [_MARGIN + sum(wide[:n]) + n * _BETWEEN for n in range(len(columns))]
    top = min(middle[slot] - (tall[slot.box] if slot.box >= 0 else _PASSING) / 2 for slots in columns for slot in slots)
    middle = {slot: y - top + _MARGIN for slot, y in middle.items()}
    edges = [(left[n], left[n] + wide[n]) for n in range(len(columns))]
    pieces = [*_links(graph, middle, edges, tall)]
    for number, box in enumerate(graph.boxes):
        y = middle[Slot(box.column, box=number)] - tall[number] / 2
        pieces.append(_box(box, texts[number], (left[box.column], y, wide[box.column], tall[number]), head=number == 0))
    bottom = max(middle[Slot(box.column, box=n)] + tall[n] / 2 for n, box in enumerate(graph.boxes))
    return _document(record, pieces, edges[-1][1] + _MARGIN, max(bottom, *middle.values()) + _MARGIN)


def _document(record: Provenance, pieces: Iterable[str], width: float, height: float) -> str:
    raws = len(record.roots())
    about = f"{_title(record)} from {raws} raw input{'s' * (raws != 1)}"
    identity = f"id {record.id}"
    total = max(width, _Text(identity, "id").width + 2 * _MARGIN)
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f"<!-- {DRAWN_BY} -->",
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(total)}" height="{_n(height + 18)}" '
            f'viewBox="0 0 {_n(total)} {_n(height + 18)}" role="img">',
            f"<title>{_safe(about)}</title>",
            f"<desc>{_safe(identity)}</desc>",
            f"<style>{_STYLE}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *pieces,
            f'<text class="id" x="{_n(_MARGIN)}" y="{_n(height + 8)}">{_safe(identity)}</text>',
            "</svg>\n",
        ]
    )


def _links(
    graph: Graph, middle: dict[Slot, float], edges: list[tuple[float, float]], tall: list[float]
) -> Iterable[str]:
    ways = [way_of(graph, number) for number in range(len(graph.links))]
    ports = _ports(graph, ways, middle, tall)
    roles = []
    for number, (link, way) in enumerate(zip(graph.links, ways, strict=True)):
        x, y = edges[way[0].column][1], middle[way[0]]
        path = [f"M{_n(x)} {_n(y)}"]
        for slot in way[1:]:
            to_x = edges[slot.column][0]
            to_y = ports[number] if slot.box >= 0 else middle[slot]
            bend = to_x - _STRAIGHT
            half = (bend - x) / 2
            path.append(f"C{_n(x + half)} {_n(y)} {_n(bend - half)} {_n(to_y)} {_n(bend)} {_n(to_y)}")
            x, y = to_x if slot.box >= 0 else edges[slot.column][1], to_y
            path.append(f"H{_n(x)}")
        own = ' class="own"' if is_own(graph, Slot(-1, link=number)) else ""
        yield f'<path{own} d="{"".join(path)}"/>'
        if link.role not in ("", "self", "frame", "operand"):
            role = _safe(_cut(printable(link.role), 16))
            roles.append(f'<text class="role" x="{_n(x - 4)}" y="{_n(y - 3)}">{role}</text>')
    yield from roles  # over all lines


def _ports(graph: Graph, ways: list[list[Slot]], middle: dict[Slot, float], tall: list[float]) -> dict[int, float]:
    """Where at the left side of its box each link ends: in the order in which they come."""
    arriving: dict[int, list[int]] = {}
    for number, link in enumerate(graph.links):
        arriving.setdefault(link.target, []).append(number)
    made = {}
    for target, numbers in arriving.items():
        numbers.sort(key=lambda n: (middle[ways[n][-2]], n))
        centre = middle[Slot(graph.boxes[target].column, box=target)]
        own = next((n for n in numbers if is_own(graph, Slot(-1, link=n))), None)
        for place, number in enumerate(numbers):
            # the object's own history runs straight on, through the middle
            shift = place - (numbers.index(own) if own is not None else (len(numbers) - 1) / 2)
            room = min(_PORT, (tall[target] / 2 - 4) / max(1, len(numbers) - 1) * (1 if own is not None else 2))
            made[number] = centre + shift * room
    return made


def _box(box: Box, texts: list[_Text], place: tuple[float, float, float, float], *, head: bool) -> str:
    x, y, width, height = place
    kind = "own" if box.own else "raw" if not box.nodes or box.nodes[0].root is not None else "input"
    stroke, fill = _COLOURS[kind]
    lines = [f"<title>{_safe(_about(box))}</title>"]
    if len(box.nodes) > 1:
        lines.append(_rectangle(x + 4, y - 4, width, height, f'fill="{fill}" stroke="{stroke}"'))
    line = 2.4 if head else 1.2
    lines.append(_rectangle(x, y, width, height, f'fill="{fill}" stroke="{stroke}" stroke-width="{line}"'))
    first = y + height / 2 - len(texts) * _LINE / 2 + 11.5
    for number, text in enumerate(texts):
        at = f'x="{_n(x + _PAD)}" y="{_n(first + number * _LINE)}"'
        lines.append(f'<text class="{text.kind}" {at}>{_safe(text.text)}</text>')
    return "<g>" + "".join(lines) + "</g>"


def _rectangle(x: float, y: float, width: float, height: float, rest: str) -> str:
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="4" {rest}/>'


def _texts(graph: Graph, number: int) -> list[_Text]:
    """What is written in a box."""
    box = graph.boxes[number]
    if not box.nodes:
        return [_Text(f"… {box.left_out} more", "name")]
    node, count = box.nodes[0], len(box.nodes)
    if node.root is not None:
        return _raw_texts(box, {link.target for link in graph.links if link.source == number}, graph)
    assert node.step is not None
    times = f"{count} × " if count > 1 else ""
    lines = [_Text(_cut(f"{times}{printable(node.step.operation)} v{node.step.version}", _LONGEST), "name")]
    given = [f"{printable(key)} = {_brief(value)}" for key, value in node.step.parameters.items() if _tells(value)]
    lines += [_Text(_cut(text, _LONGEST), "value") for text in given[:_MOST_PARAMETERS]]
    if len(given) > _MOST_PARAMETERS:
        lines.append(_Text(f"and {len(given) - _MOST_PARAMETERS} more", "value"))
    if count > 1:
        return lines
    fits = [f"{printable(k)} {short(v)}" for k, v in node.step.fitted.items() if isinstance(v, int | float | str)]
    lines += [_Text(_cut(text, _LONGEST), "fit") for text in fits[:_MOST_FITTED]]
    return [*lines, _Text(node.id[:8], "id")]


def _raw_texts(box: Box, targets: set[int], graph: Graph) -> list[_Text]:
    node, count = box.nodes[0], len(box.nodes)
    names = [printable(one.name) or "arrays in memory" for one in box.nodes]
    if count == 1:
        kind = "raw file" if node.root is not None and node.root.kind == "file" else "in memory"
        named = [_Text(_middle(names[0], _LONGEST), "name")]
        return [*named, *([_Text(kind, "value")] if names[0] != "arrays in memory" else []), _Text(node.id[:8], "id")]
    makers = {_maker(graph.boxes[target]) for target in targets}
    kind = f"{makers.pop().removeprefix('master_')} frames" if _all_masters(makers) else "raw files"
    if node.root is not None and node.root.kind != "file":
        kind = "arrays in memory"
    lines = [_Text(_cut(f"{count} {printable(kind)}", _LONGEST), "name")]
    if any(one.name for one in box.nodes):
        lines += [_Text(_middle(names[0], 26), "value"), _Text("… " + _middle(names[-1], 26), "value")]
    return lines


def _maker(box: Box) -> str:
    step: Step | None = box.nodes[0].step if box.nodes else None
    return step.operation if step is not None else ""


def _all_masters(makers: set[str]) -> bool:
    return len(makers) == 1 and next(iter(makers)).startswith("master_")


def _tells(value: object) -> bool:
    return value is not None and value != [] and value != {}


def _brief(value: object) -> str:
    """A parameter as it stands in a box; what is made of several values is in the title."""
    if isinstance(value, str):
        return printable(value)
    return "{…}" if isinstance(value, dict) and short(value).startswith("{") else short(value)


def _about(box: Box) -> str:
    """All that is known of a box, for whoever points at it."""
    if not box.nodes:
        return f"{box.left_out} further nodes of the record are not drawn"
    if box.nodes[0].root is not None:
        return "\n".join(_raw_line(node) for node in box.nodes)
    lines = []
    for node in box.nodes:
        assert node.step is not None
        own = f" of {printable(node.name)}" if node.name and not box.own else ""
        lines.append(f"{node.step.operation} v{node.step.version}{own} [{node.id}]")
    step = box.nodes[0].step
    assert step is not None
    lines += [f"{key} = {short(value)}" for key, value in step.parameters.items()]
    lines += [f"calls {describe(inner)}" for inner in step.substeps]
    if len(box.nodes) == 1:
        lines += [f"found {key} = {short(value)}" for key, value in step.fitted.items()]
    return "\n".join(map(printable, lines))


def _raw_line(node: Provenance) -> str:
    assert node.root is not None
    given = ", ".join(f"{printable(key)}={short(value)}" for key, value in node.root.given.items())
    return f"{printable(node.name) or 'arrays in memory'} [{node.id}]" + (f" given {given}" if given else "")


def _title(record: Provenance) -> str:
    name = record.name or "an object"
    return f"{name}: {record.step.operation} v{record.step.version}" if record.step is not None else name


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _middle(text: str, longest: int) -> str:
    """A long name without its middle: its beginning and its end tell it from others."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"


def _safe(text: str) -> Markup:
    return Markup(html.escape("\n".join(printable(line) for line in text.split("\n"))))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
