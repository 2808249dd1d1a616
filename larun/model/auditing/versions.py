"""What has changed in larun, and around it, since a product was made: no fault of the product, and worth knowing."""

from __future__ import annotations

from collections.abc import Iterator

from larun.model import catalog, frame, masters, registry  # whose operations these are
from larun.model.auditing.looking import Finding, Looked
from larun.provenance import OPERATIONS, Provenance, Step, environment

__all__ = ["versions"]

_OWNERS = (catalog, frame, masters)


def versions(item: Looked) -> Iterator[Finding]:
    """Operations of another version or that are not known, another environment, a class that is not known."""
    if item.provenance is None:
        return
    if item.kind == "image" and registry.by_name(item.class_name) is None:
        yield Finding("note", f"class {item.class_name!r} is not known here: name its file with --instrument")
    for name, version in sorted(_used(item.provenance)):
        known = OPERATIONS.get(name)
        if known is None:
            yield Finding("note", f"operation {name!r} is not known here: it cannot be repeated")
        elif known.version != version:
            yield Finding(
                "note", f"made by version {version} of {name}, here is {known.version}: made again, it would differ"
            )
    here = environment()
    then: dict[str, set[str]] = {}
    for node in item.provenance.walk():
        for key, value in node.environment.items():
            if here.get(key) != value:
                then.setdefault(key, set()).add(value)
    if then:
        told = (f"{key} {', '.join(sorted(then[key]))} (here {here.get(key, 'none')})" for key in sorted(then))
        yield Finding("note", f"made with {'; '.join(told)}")


def _used(provenance: Provenance) -> set[tuple[str, int]]:
    """Every operation of a record with its version, those inside others too."""
    waiting: list[Step] = [node.step for node in provenance.walk() if node.step is not None]
    found = set()
    while waiting:
        step = waiting.pop()
        found.add((step.operation, step.version))
        waiting += step.substeps
    return found
