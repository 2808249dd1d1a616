"""The record: an immutable graph of steps that ends in the raw files."""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import CorruptProduct
from larun.provenance.canonical import canonical, digest_of

if TYPE_CHECKING:
    from prov.model import ProvDocument

    from larun.provenance.lineage import RecordDiff

__all__ = ["Parent", "Provenance", "Root", "Step", "environment", "pixel_digest"]

FORMAT = 1


def pixel_digest(*planes: NDArray[Any] | None) -> str:
    """SHA-256 (hex) over shape, dtype and little-endian bytes of the planes; a missing plane counts as missing."""
    total = hashlib.sha256()
    for plane in planes:
        if plane is None:
            total.update(b"none;")
            continue
        little = np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder("<"), copy=False)
        total.update(f"{little.dtype.str}{little.shape};".encode())
        total.update(little.data)
    return total.hexdigest()


@functools.cache
def environment() -> Mapping[str, str]:
    """Versions and CPU under which this process computes: listed beside a record, never part of an id."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "byteorder": sys.byteorder}
    for package in ("larun", "numpy", "numba", "scipy", "astropy", "photutils", "astroscrappy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # an engine that is not installed computed nothing
            continue
    return found


@attrs.frozen(kw_only=True, eq=False)
class Root:
    """Where a line of the record begins: a file that was read, or arrays that were handed over.

    Parameters
    ----------
    kind : str
        ``"file"`` or ``"memory"``.
    pixels : str or callable
        Digest of the pixels, or a function that computes it when it is first needed.
    header : str
        Digest of the canonical header.
    name : str
        File name: a locator for people, not part of the id.
    location : str
        Where the file was (path and HDU): a locator, not part of the id.
    given : mapping
        What the caller said that the header does not: it decides pixels, so it is part of the id.
    instrument : str
        Name of the class that read the file.
    detector : str
        Digest of what that class made of the detector: gain, noise, levels and sections decide pixels.
    """

    kind: str
    pixels: str | Callable[[], str]
    header: str = ""
    name: str = ""
    location: str = ""
    given: Mapping[str, Any] = attrs.field(factory=dict, converter=canonical)
    instrument: str = ""
    detector: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain containers; computes a lazy digest."""
        pixels = self.pixels if isinstance(self.pixels, str) else self.pixels()
        return {**{f.name: getattr(self, f.name) for f in attrs.fields(type(self))}, "pixels": pixels}


@attrs.frozen(kw_only=True, eq=False)
class Step:
    """One operation: its name, its own version number, all its parameters, and what it called.

    Parameters
    ----------
    operation : str
        Registered name.
    version : int
        Raised whenever the operation's results change.
    parameters : mapping
        Canonical, with defaults resolved.
    reach : str
        How far a pixel sees: ``"pixel"``, ``"halo"`` or ``"global"``.
    substeps : tuple of Step
        Operations called inside this one.
    fitted : mapping
        Small state fitted from the data (levels, kernels): follows from the inputs, so it is not part of the id.
    """

    operation: str
    version: int = 1
    parameters: Mapping[str, Any] = attrs.field(factory=dict, converter=canonical)
    reach: str = "pixel"
    substeps: tuple[Step, ...] = ()
    fitted: Mapping[str, Any] = attrs.field(factory=dict, converter=canonical)

    def identity(self) -> dict[str, Any]:
        """What decides the pixels: operation, version, parameters and substeps."""
        return {
            "operation": self.operation,
            "version": self.version,
            "parameters": self.parameters,
            "substeps": [step.identity() for step in self.substeps],
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, complete."""
        whole = {**self.identity(), "reach": self.reach, "fitted": self.fitted}
        return {**whole, "substeps": [step.to_dict() for step in self.substeps]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "substeps": tuple(cls.from_dict(step) for step in values["substeps"])})


@attrs.frozen(eq=False)
class Parent:
    """What a step worked on, and in which role (``self``, ``bias``, ``flat``, ``frame`` …)."""

    role: str
    provenance: Provenance


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Provenance:
    """Who made this, from what, with which parameters: a node of the graph, with all its ancestors.

    Exactly one of ``root`` and ``step`` is set.
    """

    root: Root | None = None
    step: Step | None = None
    parents: tuple[Parent, ...] = ()
    environment: Mapping[str, str] = attrs.field(factory=environment)
    _id: str | None = attrs.field(default=None, init=False, repr=False)

    @property
    def id(self) -> str:
        """SHA-256 over everything that decides the pixels: steps, parameters, versions, digests of the raws."""
        if self._id is None:
            for node in self._unnamed():
                object.__setattr__(node, "_id", node._digest())
        assert self._id is not None
        return self._id

    def _unnamed(self) -> Iterator[Provenance]:
        """The nodes whose id is not known, parents first; not by recursion, since a line may be thousands of steps."""
        waiting = [(self, False)]
        while waiting:
            node, parents_done = waiting.pop()
            if node._id is not None:
                continue
            if parents_done:
                yield node
            else:
                waiting.append((node, True))
                waiting.extend((parent.provenance, False) for parent in node.parents)

    def _digest(self) -> str:
        if self.root is not None:
            root = self.root.to_dict()
            decides = {key: root[key] for key in ("kind", "pixels", "header", "given", "instrument")}
            if root["detector"]:  # arrays in memory name theirs among what was given
                decides["detector"] = root["detector"]
            return digest_of({"root": decides})
        assert self.step is not None
        parents = [[parent.role, parent.provenance.id] for parent in self.parents]
        return digest_of({"step": self.step.identity(), "parents": parents})

    def walk(self) -> Iterator[Provenance]:
        """Every node once, ancestors after their descendants' first mention; this node first."""
        seen: set[str] = set()
        waiting = [self]
        while waiting:
            node = waiting.pop(0)
            if node.id in seen:
                continue
            seen.add(node.id)
            yield node
            waiting.extend(parent.provenance for parent in node.parents)

    def roots(self) -> tuple[Root, ...]:
        """The raw inputs, each once."""
        return tuple(node.root for node in self.walk() if node.root is not None)

    def line(self) -> Iterator[Provenance]:
        """This node, its ``self`` parent, that one's, … back to the root: the object's own history."""
        node: Provenance | None = self
        while node is not None:
            yield node
            node = next((parent.provenance for parent in node.parents if parent.role == "self"), None)

    @property
    def name(self) -> str:
        """Name of the file that the object itself came from; empty where it came from none."""
        return next((node.root.name for node in self.line() if node.root is not None and node.root.name), "")

    def has(self, operation: str) -> bool:
        """Whether the object itself (not a master it used) has been through an operation, also as a substep.

        A sum or product has been through what any of its operands has.
        """
        waiting, seen = [self], set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.step is not None and _contains(node.step, operation):
                return True
            waiting += [parent.provenance for parent in node.parents if parent.role in ("self", "operand")]
        return False

    def parent(self, role: str) -> Provenance | None:
        """The parent in a role, searched along the object's own history; None when there is none."""
        for node in self.line():
            for parent in node.parents:
                if parent.role == role:
                    return parent.provenance
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON: every node once, referred to by id."""
        nodes = []
        for node in self.walk():
            row: dict[str, Any] = {"id": node.id, "parents": [[p.role, p.provenance.id] for p in node.parents]}
            row |= {"root": node.root.to_dict()} if node.root else {"step": node.step.to_dict() if node.step else None}
            row["environment"] = dict(node.environment)
            nodes.append(row)
        return {"format": FORMAT, "head": self.id, "nodes": nodes}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "record") -> Provenance:
        """The inverse of :meth:`to_dict`; every id is computed again and compared.

        Raises
        ------
        CorruptProduct
            If a node is missing, refers to itself, or its id does not follow from its content.
        """
        rows: dict[str, Any] = {}
        made: dict[str, Provenance] = {}

        def build(identity: str) -> Provenance:
            row = rows[identity]
            parents = tuple(Parent(role, made[parent]) for role, parent in row["parents"])
            root = Root(**row["root"]) if row.get("root") else None
            step = Step.from_dict(row["step"]) if row.get("step") else None
            node = cls(root=root, step=step, parents=parents, environment=row["environment"])
            if node.id != identity:
                raise CorruptProduct(f"{where}: provenance step {identity[:12]} does not follow from its own content")
            return node

        begun: set[str] = set()
        try:
            rows = {row["id"]: row for row in values["nodes"]}
            waiting = [(values["head"], False)]
            while waiting:
                identity, parents_done = waiting.pop()
                if identity in made:
                    continue
                if parents_done:
                    made[identity] = build(identity)
                    continue
                if identity not in rows or identity in begun:
                    raise CorruptProduct(f"{where}: provenance step {identity[:12]} is missing or its own ancestor")
                begun.add(identity)
                waiting.append((identity, True))
                waiting.extend((parent, False) for _, parent in rows[identity]["parents"])
            return made[values["head"]]
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError, RecursionError) as error:
            raise CorruptProduct(f"{where}: the provenance record cannot be understood ({error!r})") from error

    def diff(self, other: Provenance) -> RecordDiff:
        """How this record (A) and another (B) differ, in words.

        Returns
        -------
        RecordDiff
            Causes, what follows from them, and versions of packages; ``print`` it, or ask ``.causes``.

        Examples
        --------
        >>> one, two = (Provenance(root=Root(kind="file", pixels="00", given={"gain": g})) for g in (1, 1.8))
        >>> print(one.diff(two))
        given gain 1 → 1.8
        """
        from larun.provenance.lineage import differences

        return differences(self, other)

    def to_svg(self) -> str:
        """A drawing of the record as an SVG document, from the raw files at the left to the object at the right.

        Frames that do the same work are one box. It holds names of files but no paths; equal records give equal text.
        """
        from larun.provenance.drawing import svg

        return svg(self)

    def to_prov(self) -> ProvDocument:
        """The record as a document of the package ``prov``: W3C PROV, in the terms of the IVOA data model.

        It holds names of files but no paths. :func:`larun.provenance.prov_export.from_prov` is the inverse.

        Raises
        ------
        MissingExtra
            If ``prov`` is not installed.
        """
        from larun.provenance.prov_export import to_prov

        return to_prov(self)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Provenance.from_dict, (self.to_dict(),)

    def __repr__(self) -> str:  # of the node alone: there may be more ways through the graph than can be written down
        about = f"{self.step.operation} v{self.step.version}" if self.step is not None else self.name or "in memory"
        return f"<Provenance {about!r}{'' if self._id is None else f' {self._id[:8]}'}>"

    def __str__(self) -> str:
        from larun.provenance.show import tree  # the tree is a face of the record, not part of it

        return tree(self)

    def _repr_html_(self) -> str:
        from larun.provenance.show import tree_html

        return tree_html(self)


def _contains(step: Step, operation: str) -> bool:
    return step.operation == operation or any(_contains(sub, operation) for sub in step.substeps)
