"""One file by itself: its bytes against its digests, its record against itself and against what it stands beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from larun.detector import Detector
from larun.errors import CorruptProduct
from larun.io.examined import Examined, examine, examine_bytes
from larun.model import registry
from larun.provenance import Provenance
from larun.provenance.record import FORMAT

__all__ = ["MASTER", "Finding", "Looked", "look", "look_at_bytes"]

#: Names of the operations that make masters begin with this, and go on with their kind.
MASTER = "master_"
#: Operations of a frame's line after which the unit is still that of ``calibrate``.
_KEEP_UNIT = frozenset({"calibrate", "clean", "crop", "bin", "with_planes"})


class Finding(NamedTuple):
    """One thing that an audit has found out about a file."""

    status: str
    """a verdict, or ``note``: worth knowing, and no fault of the file"""
    what: str


class Looked(NamedTuple):
    """A file that was looked at by itself."""

    path: Path
    name: str
    """within the folder, with forward slashes"""
    kind: str
    """as :class:`larun.io.examined.Examined` has it"""
    class_name: str
    provenance: Provenance | None
    """None where there is none, or it cannot be believed"""
    findings: tuple[Finding, ...]


def look(path: Path, name: str) -> Looked:
    """What a file on disk tells by itself."""
    return _looked(path, name, examine(path))


def look_at_bytes(name: str, content: bytes) -> Looked:
    """What the bytes of a file tell by themselves; its name tells the format."""
    return _looked(Path(name), name, examine_bytes(name, content))


def _looked(path: Path, name: str, examined: Examined) -> Looked:
    findings = [
        Finding("padding only" if problem.kind == "padding" else "changed", str(problem))
        for problem in examined.problems
    ]
    findings += [Finding("note", note) for note in examined.notes]
    if examined.why:
        findings.append(Finding("unverifiable", examined.why))
    provenance = None
    if examined.record is not None:
        try:
            provenance = _believed(examined, findings)
        except Exception as error:  # its digests are right, so somebody made it so: there is no end of ways
            told = str(error) if isinstance(error, CorruptProduct) else f"cannot be understood ({error!r})"
            findings.append(Finding("changed", told if told.startswith("record") else f"record: {told}"))
    return Looked(path, name, examined.kind, examined.class_name, provenance, tuple(findings))


def _believed(examined: Examined, findings: list[Finding]) -> Provenance | None:
    """The provenance of a record, every id computed again; where it does not fit becomes a finding."""
    assert examined.record is not None
    graph = examined.record["provenance"]
    if graph["format"] > FORMAT:
        newer = f"its record has format {graph['format']:d}, this larun reads up to {FORMAT}: install a newer larun"
        findings.append(Finding("unverifiable", newer))
        return None
    provenance = Provenance.from_dict(graph)
    if odd := next((f"step {node.id[:12]}: {what}" for node in provenance.walk() for what in _odd(node)), ""):
        raise CorruptProduct(f"record: {odd}")
    findings += [Finding("changed", f"record: {text}") for text in _misfits(examined, provenance)]
    return provenance


def _odd(node: Provenance) -> Iterator[str]:
    """What in a node of a record is of another type than larun writes, so that nothing else need ask."""
    if not _is_text_by_name(node.environment):
        yield "its environment is no list of versions"
    if node.root is not None:
        root = node.root
        words = (root.kind, root.pixels, root.header, root.name, root.location, root.instrument, root.detector)
        if not all(isinstance(word, str) for word in words) or not isinstance(root.given, Mapping):
            yield "its raw file is described by something else than text"
    waiting: list[Any] = [] if node.step is None else [node.step]  # nothing in it is sure to be of its type
    while waiting:
        step = waiting.pop()
        if not isinstance(step.operation, str) or type(step.version) is not int:
            yield "its operation has no name and version"
        if not isinstance(step.parameters, Mapping) or not isinstance(step.fitted, Mapping):
            yield "its parameters have no names"
        waiting += step.substeps
    if not all(isinstance(parent.role, str) for parent in node.parents):
        yield "its parents have no roles"


def _is_text_by_name(values: object) -> bool:
    return isinstance(values, Mapping) and all(isinstance(text, str) for pair in values.items() for text in pair)


def _misfits(examined: Examined, provenance: Provenance) -> Iterator[str]:
    """Where a record does not fit what it stands beside."""
    record = examined.record
    assert record is not None
    if examined.kind == "table":
        if record.get("class", examined.class_name) != examined.class_name:
            yield f"tells of a {record['class']!r}, the first header of a {examined.class_name!r}"
        return
    ancestors = {node.id for node in provenance.walk()}
    for master in examined.masters:
        if master.partition("@")[0] not in ancestors:  # after it: by how much the frame was moved
            yield f"names no master {master[:12]}, whose noise stands in a SHARED plane"
    ny, nx = examined.shape
    amplifiers = Detector.from_dict(record["detector"]).amplifiers
    if not all(amplifier.data.within((ny, nx)) for amplifier in amplifiers):
        yield f"describes a detector that does not fit into {nx} × {ny} pixels"
    steps = {node.step.operation for node in provenance.line() if node.step is not None}
    if "calibrate" in steps and steps <= _KEEP_UNIT and examined.unit != "electron":
        yield f"tells of calibrated pixels, which are electrons, the image of {examined.unit!r}"
    kind = getattr(registry.by_name(examined.class_name), "kind", "")
    if isinstance(kind, str) and kind and not any(step.startswith(f"{MASTER}{kind}") for step in steps):
        yield f"tells of no {MASTER}{kind} step, the first header of a {examined.class_name!r}"
