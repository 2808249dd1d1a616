"""A record as boxes in columns: what a drawing of it needs, without any drawing.

Inputs that do the same work are one box, so a master of a hundred frames is two: the frames and the master. Columns go
from the raw files to the object. Within its column a box lies near the mean place of its neighbours, and a link that
passes a column has a place in it, so that it runs through no box (Sugiyama, Tagawa & Toda 1981, IEEE Trans. Syst. Man
Cybern. 11, 109).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import attrs

from larun.provenance.canonical import text_of

if TYPE_CHECKING:
    from larun.provenance.record import Provenance

__all__ = ["MOST", "Box", "Graph", "Link", "Slot", "columns_of", "grouped", "heights_of", "history", "origin"]

#: Boxes of a drawing; of a larger record what is nearest to the object is drawn.
MOST = 150

_SWEEPS = 8


@attrs.frozen(eq=False, kw_only=True)
class Box:
    """One node, or several that do the same work.

    Parameters
    ----------
    nodes : tuple of Provenance
        Empty where the box stands for what is not drawn.
    column : int
        0 for raw files.
    own : bool
        Whether it is a step of the object's own history.
    left_out : int
        How many nodes a box without nodes stands for.
    """

    nodes: tuple[Provenance, ...]
    column: int
    own: bool = False
    left_out: int = 0


class Link(NamedTuple):
    """From an input to what used it, as numbers of boxes."""

    source: int
    target: int
    role: str


class Graph(NamedTuple):
    """Boxes, the object's own first, and the links between them."""

    boxes: tuple[Box, ...]
    links: tuple[Link, ...]


class Slot(NamedTuple):
    """A place in a column: of a box, or of a link that passes."""

    column: int
    box: int = -1
    link: int = -1


def grouped(record: Provenance, most: int = MOST) -> Graph:
    """The boxes of a record and their links.

    Nodes are one box if they were made in the same way from inputs of the same kinds, and the same boxes used them in
    the same roles. Steps of the object's own history stand alone.
    """
    nodes = list(_users_first(record))
    own = {node.id for node in history(record)}
    kinds = _kinds(nodes[::-1], own)
    users: dict[str, set[tuple[int, str]]] = {}
    numbers: dict[tuple[int, frozenset[tuple[int, str]]], int] = {}
    members: list[list[Provenance]] = []
    links: dict[Link, None] = {}
    for node in nodes:
        used_by = frozenset(users.get(node.id, ()))
        number = numbers.setdefault((kinds[node.id], used_by), len(numbers))
        if number == len(members):
            members.append([])
        members[number].append(node)
        links.update({Link(number, target, role): None for target, role in sorted(used_by)})
        for parent in node.parents:
            users.setdefault(parent.provenance.id, set()).add((number, parent.role))
    return _cut(members, list(links), own, most)


def origin(node: Provenance) -> Provenance | None:
    """What the object was before this step: its ``self`` parent, or the only operand of a product with a number."""
    operands = {parent.provenance.id: parent.provenance for parent in node.parents}
    alone = next(iter(operands.values())) if len(operands) == 1 and node.parents[0].role == "operand" else None
    return next((parent.provenance for parent in node.parents if parent.role == "self"), alone)


def history(record: Provenance) -> Iterator[Provenance]:
    """What the object itself has been through, last step first."""
    node: Provenance | None = record
    while node is not None:
        yield node
        node = origin(node)


def _users_first(record: Provenance) -> Iterator[Provenance]:
    """Every node once, after all that used it."""
    waiting_for: dict[str, int] = {}
    for node in record.walk():
        for identity in {parent.provenance.id for parent in node.parents}:
            waiting_for[identity] = waiting_for.get(identity, 0) + 1
    ready = [record]
    while ready:
        node = ready.pop(0)
        yield node
        for parent in {parent.provenance.id: parent.provenance for parent in node.parents}.values():
            waiting_for[parent.id] -= 1
            if not waiting_for[parent.id]:
                ready.append(parent)


def _kinds(nodes: Sequence[Provenance], own: set[str]) -> dict[str, int]:
    """A number for each way of being made, whatever the raw files; nodes come inputs first."""
    known: dict[tuple[object, ...], int] = {}
    kinds: dict[str, int] = {}
    for node in nodes:
        key: tuple[object, ...]
        if node.id in own:
            key = ("own", node.id)
        elif node.step is not None:
            made_from = frozenset((parent.role, kinds[parent.provenance.id]) for parent in node.parents)
            key = (text_of(node.step.identity()), made_from)
        else:
            key = ("raw", node.root.kind if node.root else "")
        kinds[node.id] = known.setdefault(key, len(known))
    return kinds


def _cut(members: list[list[Provenance]], links: list[Link], own: set[str], most: int) -> Graph:
    """The graph of at most so many boxes, in their columns."""
    total = len(members)
    if total > most:  # numbers grow with the distance from the object
        rest = sum(map(len, members[most:]))
        members = [*members[:most], []]
        links = list(dict.fromkeys(Link(min(a, most), b, role if a < most else "") for a, b, role in links if b < most))
    columns = [0] * len(members)
    by_source: dict[int, list[int]] = {}
    for link in links:
        by_source.setdefault(link.source, []).append(link.target)
    for source in range(len(members) - 1, -1, -1):  # what uses a box has a smaller number
        for target in by_source.get(source, ()):
            columns[target] = max(columns[target], columns[source] + 1)
    boxes = tuple(
        Box(
            nodes=tuple(sorted(nodes, key=lambda node: (node.name, node.id))),
            column=column,
            own=any(node.id in own for node in nodes),
            left_out=0 if nodes else rest,
        )
        for nodes, column in zip(members, columns, strict=True)
    )
    return Graph(boxes, tuple(links))


def columns_of(graph: Graph) -> list[list[Slot]]:
    """The slots of each column from top to bottom: the object's own history first, few crossings below."""
    made: list[list[Slot]] = [[] for _ in range(max(box.column for box in graph.boxes) + 1)]
    for number, box in enumerate(graph.boxes):
        made[box.column].append(Slot(box.column, box=number))
    for number, link in enumerate(graph.links):
        for column in range(graph.boxes[link.source].column + 1, graph.boxes[link.target].column):
            made[column].append(Slot(column, link=number))
    near = neighbours(graph)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 1
        for column in range(len(made)) if forward else range(len(made) - 1, -1, -1):
            other = column - 1 if forward else column + 1
            if 0 <= other < len(made):
                place = {slot: float(n) for n, slot in enumerate(made[other])}
                made[column] = _by_mean(made[column], near, place, lambda slot: is_own(graph, slot))
    return made


def _by_mean(
    slots: list[Slot], near: dict[Slot, list[Slot]], place: dict[Slot, float], first: Callable[[Slot], bool]
) -> list[Slot]:
    def key(item: tuple[int, Slot]) -> tuple[bool, float]:
        number, slot = item
        there = [place[one] for one in near[slot] if one in place]
        return not first(slot), sum(there) / len(there) if there else float(number)

    return [slot for _, slot in sorted(enumerate(slots), key=key)]


def is_own(graph: Graph, slot: Slot) -> bool:
    """Whether a slot belongs to the object's own history."""
    if slot.box >= 0:
        return graph.boxes[slot.box].own
    link = graph.links[slot.link]
    return link.role in ("self", "operand") and graph.boxes[link.source].own and graph.boxes[link.target].own


def way_of(graph: Graph, number: int) -> list[Slot]:
    """The slots a link runs through, both boxes included."""
    link = graph.links[number]
    start, end = graph.boxes[link.source].column, graph.boxes[link.target].column
    passed = [Slot(column, link=number) for column in range(start + 1, end)]
    return [Slot(start, box=link.source), *passed, Slot(end, box=link.target)]


def neighbours(graph: Graph) -> dict[Slot, list[Slot]]:
    """The slots beside each slot along the links."""
    near: dict[Slot, list[Slot]] = {Slot(box.column, box=n): [] for n, box in enumerate(graph.boxes)}
    for number in range(len(graph.links)):
        way = way_of(graph, number)
        for a, b in itertools.pairwise(way):
            near.setdefault(a, []).append(b)
            near.setdefault(b, []).append(a)
    return near


def heights_of(
    graph: Graph, columns: list[list[Slot]], height: Callable[[Slot], float], gap: float
) -> dict[Slot, float]:
    """The middle of each slot, downwards from the object's own history at 0, without overlap.

    Parameters
    ----------
    height : callable
        Of a slot.
    gap : float
        Between two slots.
    """
    near = neighbours(graph)
    middle: dict[Slot, float] = {}
    for slots in columns:
        _stack(slots, middle, [0.0] * len(slots), height, gap)
    for sweep in range(_SWEEPS):
        order = columns if sweep % 2 == 0 else columns[::-1]
        for slots in order:
            wanted = []
            for slot in slots:
                there = [middle[one] for one in near[slot]]
                wanted.append(0.0 if is_own(graph, slot) or not there else sum(there) / len(there))
            _stack(slots, middle, wanted, height, gap)
    _raise(graph, columns, middle, height, gap)
    return middle


def _raise(
    graph: Graph,
    columns: list[list[Slot]],
    middle: dict[Slot, float],
    height: Callable[[Slot], float],
    gap: float,
) -> None:
    """Bring all inputs as near to the object's own history as they come without touching it."""
    room = []
    for slots in columns:
        if len(slots) > 1 and is_own(graph, slots[0]) and not is_own(graph, slots[1]):
            between = middle[slots[1]] - middle[slots[0]]
            room.append(between - (height(slots[0]) + height(slots[1])) / 2 - gap)
    below = [
        middle[way[-2]] - middle[way[-1]]
        for way in (way_of(graph, number) for number in range(len(graph.links)))
        if is_own(graph, way[-1]) and not is_own(graph, way[-2])
    ]
    shift = min([*room, *([sum(below) / len(below)] if below else []), *([] if below else [0.0])])
    for slot in middle:
        if not is_own(graph, slot):
            middle[slot] -= max(shift, 0.0)


def _stack(
    slots: list[Slot], middle: dict[Slot, float], wanted: list[float], height: Callable[[Slot], float], gap: float
) -> None:
    """Put slots where they are wanted, or below the one before."""
    end = -float("inf")
    for slot, want in zip(slots, wanted, strict=True):
        half = height(slot) / 2
        middle[slot] = max(want, end + gap + half)
        end = middle[slot] + half
