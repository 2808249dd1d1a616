"""How two records differ, in words, and what became of an input.

:func:`differences` compares two records as a person would: the objects' own histories step by step, then the masters
and other inputs by their roles, then raw files by name and digest. Each difference is told once, however many frames
share the master it lies in. What follows from others (levels and sizes that were fitted) and what is not part of an id
(versions of packages, the processor) stands apart.
"""

from __future__ import annotations

import difflib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from larun.provenance.layers import history, origin
from larun.provenance.leaves import ABSENT, Leaf, changed, told
from larun.provenance.show import describe, printable

if TYPE_CHECKING:
    from larun.provenance.record import Provenance, Root, Step

__all__ = ["Change", "RecordDiff", "Use", "differences", "uses"]

#: Order in which causes are told.
_KINDS = ("raw", "input", "step", "version", "parameter", "order")

#: Values below one key of what was fitted that are told one by one.
_MOST_FITTED = 3

#: Names that a line lists.
_MOST_NAMES = 3


@attrs.frozen(kw_only=True)
class Change:
    """One difference of two records.

    Parameters
    ----------
    kind : str
        ``"raw"`` (a raw file, or what was given with it), ``"input"`` (a master or another image), ``"step"``,
        ``"version"``, ``"parameter"``, ``"order"``; ``"fitted"`` of consequences, ``"environment"`` of what is beside
        the record.
    where : str
        Its place: ``clean.sigma``, ``bias › master_bias.method``.
    text : str
        What differs there, in words, from A to B.
    one, other : object
        The values, as plain containers; None where there is none.
    names : tuple of str
        Files for which the same is true.
    """

    kind: str
    where: str
    text: str
    one: Any = None
    other: Any = None
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = len(self.names) - _MOST_NAMES
        listed = ", ".join(map(printable, self.names[:_MOST_NAMES])) + (f" and {more} more" if more > 0 else "")
        return f"{self.where} {self.text}".strip() + (f" ({listed})" if listed else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return {**attrs.asdict(self), "names": list(self.names), "line": str(self)}


@attrs.frozen(kw_only=True)
class RecordDiff:
    """How the records of two objects, A and B, differ.

    Parameters
    ----------
    one, other : str
        Their ids.
    causes : tuple of Change
        What decides pixels.
    consequences : tuple of Change
        What was fitted, and so follows.
    environment : tuple of Change
        Versions and processor, which are not part of an id.
    """

    one: str
    other: str
    causes: tuple[Change, ...] = ()
    consequences: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Whether all that decides pixels is the same."""
        return self.one == self.other

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        groups = {name: getattr(self, name) for name in ("causes", "consequences", "environment")}
        plain = {name: [change.to_dict() for change in changes] for name, changes in groups.items()}
        return {"a": self.one, "b": self.other, "same": self.same, **plain}

    def __str__(self) -> str:
        lines = ["all that decides pixels is the same"] if self.same else [str(change) for change in self.causes]
        for title, changes in (("and so", self.consequences), ("beside the record", self.environment)):
            if changes:
                lines += [f"{title}:", *(f"  {change}" for change in changes)]
        return "\n".join(lines)


def differences(one: Provenance, other: Provenance) -> RecordDiff:
    """How two records differ.

    Parameters
    ----------
    one, other : Provenance
        A and B.

    Examples
    --------
    >>> from larun.provenance import Parent, Provenance, Root, Step
    >>> raw = Parent("self", Provenance(root=Root(kind="file", pixels="00", name="d1.fits")))
    >>> a, b = (Provenance(step=Step(operation="clean", parameters={"sigma": s}), parents=(raw,)) for s in (4.5, 5))
    >>> print(differences(a, b))
    clean.sigma 4.5 → 5
    """
    return _Comparison(one, other).result()


class _Comparison:
    """The state of a comparison: pairs of nodes that wait, and what was found."""

    def __init__(self, one: Provenance, other: Provenance) -> None:
        self.heads = one, other
        self.nodes = tuple({node.id: node for node in head.walk()} for head in self.heads)
        self.waiting: deque[tuple[Provenance, Provenance, str]] = deque([(one, other, "")])
        self.seen: set[tuple[str, str]] = set()
        self.compared: set[tuple[str, str]] = set()
        self.found: dict[tuple[str, ...], list[Any]] = {}

    def result(self) -> RecordDiff:
        while self.waiting:
            a, b, place = self.waiting.popleft()
            if (a.id, b.id) not in self.seen:
                self.seen.add((a.id, b.id))
                self.histories(a, b, place)
        for identity in sorted(self.nodes[0].keys() & self.nodes[1].keys()):  # fitted under other versions
            x, y = (nodes[identity] for nodes in self.nodes)
            if x is not y and x.step is not None and y.step is not None:
                self.fitted(x.step, y.step, x.step.operation, x.name)
        changes = [Change(**values, names=tuple(sorted(names))) for values, names in self.found.values()]
        ids = self.heads[0].id, self.heads[1].id
        causes = sorted((c for c in changes if c.kind != "fitted"), key=lambda c: _KINDS.index(c.kind))
        if not causes and ids[0] != ids[1]:
            causes = [Change(kind="order", where="", text="the same steps and inputs, in another order")]
        fitted = sorted((c for c in changes if c.kind == "fitted"), key=lambda c: c.where)
        return RecordDiff(
            one=ids[0],
            other=ids[1],
            causes=tuple(causes),
            consequences=tuple(fitted),
            environment=_environments(*(nodes.values() for nodes in self.nodes)),
        )

    def add(self, kind: str, where: str, text: str, one: Any, other: Any, name: str = "") -> None:
        """Keep a change; the same one of several files is one."""
        values = {"kind": kind, "where": where, "text": text, "one": one, "other": other}
        _, names = self.found.setdefault((kind, where, text), [values, set()])
        if name:
            names.add(name)

    def histories(self, a: Provenance, b: Provenance, place: str) -> None:
        """Two objects by their own histories, oldest first."""
        lines = [list(history(head))[::-1] for head in (a, b)]
        shared = 0
        for x, y in zip(*lines, strict=False):
            if x.id != y.id:
                break
            shared += 1
        left, right = (line[shared:] for line in lines)
        keys = [[node.step.operation if node.step else "" for node in line] for line in (left, right)]
        matcher = difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=False)
        name = a.name if place and a.name == b.name else ""
        for tag, i0, i1, j0, j1 in matcher.get_opcodes():
            if tag == "equal":
                for x, y in zip(left[i0:i1], right[j0:j1], strict=True):
                    self.pair(x, y, place, name)
                continue
            for side, nodes in (("A", left[i0:i1]), ("B", right[j0:j1])):
                for node in nodes:
                    self.only(node, side, place, name, own=True)

    def pair(self, x: Provenance, y: Provenance, place: str, name: str) -> None:
        """Two nodes that stand for each other; wherever they meet again, all has been said."""
        if x.id == y.id or (x.id, y.id) in self.compared:
            return
        self.compared.add((x.id, y.id))
        if x.root is not None and y.root is not None:
            self.roots(x.root, y.root, place)
        elif x.step is not None and y.step is not None:
            self.steps(x.step, y.step, _joined(place, x.step.operation), name)
            self.inputs(x, y, place)

    def roots(self, x: Root, y: Root, place: str) -> None:
        a, b = x.to_dict(), y.to_dict()
        lead = f"{place} › " if place else ""
        differ = {key for key in ("pixels", "header", "kind", "instrument", "detector") if a[key] != b[key]}
        if "pixels" in differ and x.name != y.name:
            self.add("raw", f"{lead}raw file", f"{_raw(a)} → {_raw(b)}", _facts(a), _facts(b))
            differ -= {"pixels", "header"}
        where = f"{lead}{printable(x.name or y.name) or 'arrays in memory'}"
        for key in ("pixels", "header"):
            if key in differ:
                text = f"has another {key}" if key == "header" else "has other pixels"
                self.add("raw", where, f"{text}: {told(a[key], b[key])}", a[key], b[key])
        for key in ("kind", "instrument"):
            if key in differ:
                self.add("raw", key, told(a[key], b[key]), a[key], b[key], x.name)
        given = list(changed(x.given, y.given))
        for leaf in given:
            self.leaf("raw", f"given {leaf.path}", leaf, x.name)
        if differ == {"detector"} and not given:  # else it follows from what was told
            text = "gain, noise, levels or sections of the detector are described otherwise"
            self.add("raw", where, text, a["detector"], b["detector"])

    def steps(self, x: Step, y: Step, where: str, name: str) -> None:
        if x.version != y.version:
            self.add("version", where, f"version {x.version} → {y.version}", x.version, y.version, name)
        for leaf in changed(x.parameters, y.parameters):
            if not self.is_input(leaf.one) and not self.is_input(leaf.other):
                self.leaf("parameter", f"{where}.{leaf.path}", leaf, name)
        matcher = difflib.SequenceMatcher(
            None, [s.operation for s in x.substeps], [s.operation for s in y.substeps], autojunk=False
        )
        for tag, i0, i1, j0, j1 in matcher.get_opcodes():
            if tag == "equal":
                for p, q in zip(x.substeps[i0:i1], y.substeps[j0:j1], strict=True):
                    self.steps(p, q, _joined(where, p.operation), name)
                continue
            for side, steps in (("A", x.substeps[i0:i1]), ("B", y.substeps[j0:j1])):
                for step in steps:
                    self.one_side("step", _joined(where, describe(step)), side, step.identity(), name)
        self.fitted(x, y, where, name)

    def fitted(self, x: Step, y: Step, where: str, name: str) -> None:
        """What follows; of many values below one key only that they differ."""
        for key in sorted(x.fitted.keys() & y.fitted.keys()):
            leaves = [
                leaf
                for leaf in changed(x.fitted[key], y.fitted[key], printable(key))
                if ABSENT not in (leaf.one, leaf.other) or not leaf.path.endswith("]")  # a file that only one used
            ]
            if len(leaves) > _MOST_FITTED:
                self.add("fitted", f"{where}.{printable(key)}", f"differs in {len(leaves)} values", None, None, name)
                continue
            for leaf in leaves:
                self.leaf("fitted", f"{where}.{leaf.path}", leaf, name)
        for key in sorted(x.fitted.keys() ^ y.fitted.keys()):
            side = "A" if key in x.fitted else "B"
            self.one_side("fitted", f"{where}.{printable(key)}", side, (x if side == "A" else y).fitted[key], name)

    def inputs(self, x: Provenance, y: Provenance, place: str) -> None:
        """What two steps worked on besides the object itself, role by role."""
        both = [[p for p in node.parents if p.role != "self" and p.provenance is not origin(node)] for node in (x, y)]
        for role in dict.fromkeys(parent.role for parents in both for parent in parents):
            sides = [[p.provenance for p in parents if p.role == role] for parents in both]
            left, right = _without_common(*sides)
            there = _joined(place, role)
            for p, q in _paired(left, right):
                if p.root is not None and q.root is not None:
                    self.pair(p, q, there, "")
                else:
                    self.waiting.append((p, q, there))
            for side, nodes in (("A", left), ("B", right)):
                for node in nodes:
                    self.only(node, side, there, "", own=False)

    def only(self, node: Provenance, side: str, place: str, name: str, *, own: bool) -> None:
        """A node that stands for nothing in the other record."""
        if node.root is not None:
            facts = node.root.to_dict()
            self.one_side("raw", _joined(place, _raw(facts)), side, _facts(facts), "")
            return
        assert node.step is not None
        if own:
            self.one_side("step", _joined(place, describe(node.step)), side, node.step.identity(), name)
            return
        raws = sorted(root.name or "arrays in memory" for root in node.roots())
        files = f"{len(raws)} raw file{'s' * (len(raws) != 1)}"
        what = f"{node.step.operation} v{node.step.version} of {files} [{node.id[:8]}]"
        facts = {"id": node.id, "operation": node.step.operation, "raw_files": raws}
        self.one_side("input", _joined(place, what), side, facts, node.name)

    def one_side(self, kind: str, where: str, side: str, value: Any, name: str) -> None:
        one, other = (value, None) if side == "A" else (None, value)
        self.add(kind, where, f"only in {side}", one, other, name)

    def leaf(self, kind: str, where: str, leaf: Leaf, name: str) -> None:
        one, other = (None if value is ABSENT else value for value in (leaf.one, leaf.other))
        self.add(kind, where, told(leaf.one, leaf.other), one, other, name)

    def is_input(self, value: Any) -> bool:
        """Whether a parameter only names an image whose own record is compared."""
        known = isinstance(value, Mapping) and set(value) == {"provenance"}
        return known and any(value["provenance"] in nodes for nodes in self.nodes)


def _joined(place: str, name: str) -> str:
    """``place › name``; a role that repeats itself is said once."""
    name = printable(name)
    return name if not place else place if place.rsplit(" › ", 1)[-1] == name else f"{place} › {name}"


def _raw(facts: Mapping[str, Any]) -> str:
    return f"{printable(facts['name']) or 'arrays in memory'} [pixels {facts['pixels'][:8]}]"


def _facts(root: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of a raw file: not where it lay."""
    return {key: root[key] for key in ("name", "pixels", "header", "given", "instrument", "detector")}


def _without_common(one: Sequence[Provenance], two: Sequence[Provenance]) -> tuple[list[Provenance], list[Provenance]]:
    common = Counter(node.id for node in one) & Counter(node.id for node in two)
    rest = []
    for nodes in (one, two):
        left, kept = common.copy(), []
        for node in nodes:
            if left[node.id]:
                left[node.id] -= 1
            else:
                kept.append(node)
        rest.append(kept)
    return rest[0], rest[1]


def _paired(one: list[Provenance], two: list[Provenance]) -> Iterator[tuple[Provenance, Provenance]]:
    """Take from two lists what stands for each other: the same pixels, the same file name, the same operation."""

    def pixels(node: Provenance) -> Any:
        return None if node.root is None else (node.root.to_dict()["pixels"], node.root.header)

    def name(node: Provenance) -> Any:
        return (node.root is None, node.name) if node.name else None

    def work(node: Provenance) -> Any:
        return None if node.step is None else node.step.operation

    for key in (pixels, name, work):
        known: dict[Any, list[Provenance]] = {}
        for node in two:
            if (value := key(node)) is not None:
                known.setdefault(value, []).append(node)
        for node in tuple(one):
            if partners := known.get(key(node)):
                partner = partners.pop(0)
                one.remove(node)
                two.remove(partner)
                yield node, partner


def _environments(one: Iterable[Provenance], two: Iterable[Provenance]) -> tuple[Change, ...]:
    """Versions and processors of all steps of two records."""
    sides: list[dict[str, set[str]]] = []
    for nodes in (one, two):
        found: dict[str, set[str]] = {}
        for node in nodes:
            for key, value in node.environment.items():
                found.setdefault(key, set()).add(str(value))
        sides.append(found)
    made = []
    for key in sorted(sides[0].keys() | sides[1].keys()):
        a, b = (sorted(side.get(key, ())) for side in sides)
        if a != b:
            text = " → ".join(", ".join(map(printable, values)) or "none" for values in (a, b))
            made.append(Change(kind="environment", where=printable(key), text=text, one=a, other=b))
    return tuple(made)


class Use(NamedTuple):
    """One way in which an object used an input."""

    role: str
    """Role of the line that leads to it (``bias``, ``flat``, ``self`` …); ``itself`` where it is the object."""
    step: str
    """The step of the object's own history that took it in."""
    through: tuple[tuple[str, str], ...] = ()
    """The way from there: (operation, role) of each step, as ``("master_flat", "bias")``."""


def uses(record: Provenance, wanted: Callable[[Provenance], bool]) -> tuple[Use, ...]:
    """How an object used what is wanted, the last step first; of several ways through a master the shortest.

    Parameters
    ----------
    record : Provenance
        Of the object.
    wanted : callable
        Whether a node of the record is the input in question.

    Examples
    --------
    >>> from larun.provenance import Parent, Provenance, Root, Step
    >>> raw = Provenance(root=Root(kind="file", pixels="00", name="b1.fits"))
    >>> bias = Provenance(step=Step(operation="master_bias"), parents=(Parent("frame", raw),))
    >>> frame = Provenance(step=Step(operation="calibrate"), parents=(Parent("bias", bias),))
    >>> uses(frame, lambda node: node.root is not None)
    (Use(role='bias', step='calibrate', through=(('master_bias', 'frame'),)),)
    """
    users: dict[str, list[str]] = {}
    goals = []
    for node in record.walk():
        if wanted(node):
            goals.append(node.id)
        for parent in node.parents:
            users.setdefault(parent.provenance.id, []).append(node.id)
    leads, waiting = set(goals), list(goals)
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user not in leads:
                leads.add(user)
                waiting.append(user)
    own = {node.id for node in history(record)}
    found: dict[Use, None] = {Use("itself", ""): None} if record.id in goals else {}
    for node in history(record):
        for parent in node.parents:
            at = parent.provenance.id
            if at in leads and node.step is not None and (at not in own or at in goals):
                way = () if at in goals else _way(parent.provenance, leads, goals)
                found[Use(parent.role, node.step.operation, way)] = None
    return tuple(found)


def _way(start: Provenance, leads: set[str], goals: list[str]) -> tuple[tuple[str, str], ...]:
    """The shortest way to a goal."""
    waiting: deque[tuple[Provenance, tuple[tuple[str, str], ...]]] = deque([(start, ())])
    seen = {start.id}
    while waiting:
        node, way = waiting.popleft()
        for parent in node.parents:
            at = parent.provenance
            if at.id not in leads or at.id in seen:
                continue
            seen.add(at.id)
            here = (*way, (node.step.operation if node.step else "", parent.role))
            if at.id in goals:
                return here
            waiting.append((at, here))
    return ()
