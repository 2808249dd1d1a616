"""What larun understands of a file, and the cameras it knows, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from larun.report.terminal import Column, cell, heading, pairs, table

if TYPE_CHECKING:
    from larun.instruments import KnownCamera
    from larun.model.understood.derived import Explanation
    from larun.model.understood.known import Finding

__all__ = ["camera_table", "explanation", "finding_lines", "quantity_table", "verdict"]

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def explanation(found: Explanation) -> Iterator[RenderableType]:
    """The whole report, part by part."""
    module, _, name = found.camera.partition(":")
    head: list[tuple[str, Any]] = [("file", found.path), ("class", f"{name} ({module})"), ("why", found.why)]
    if found.header_only:
        head.append(("pixels", "not there: only the header was checked"))
    yield pairs(head)
    yield Text()
    yield quantity_table(found)
    if found.findings:
        yield Text()
        yield from finding_lines(found.findings)
    yield Text()
    yield heading(verdict(found))


def quantity_table(found: Explanation) -> Table:
    """Name, value and source; what is missing has a row only where it matters."""
    matters = {finding.quantity for finding in found.findings}
    several = len({q.amplifier for q in found.quantities if q.amplifier}) > 1
    columns = (Column("quantity", whole=True), Column("value"), Column("unit", whole=True), Column("from"))
    rows = (
        (
            f"{_word(q.name)} {q.amplifier}" if q.amplifier and several else _word(q.name),
            _value(q.value),
            q.unit,
            q.source,
        )
        for q in found.quantities
        if q.value is not None or q.name in matters or q.raw is not None
    )
    return table(columns, rows)


def finding_lines(findings: Iterable[Finding]) -> Iterator[Text]:
    """One paragraph a finding: level, problem, and what to do."""
    for finding in findings:
        line = Text.assemble((f"{finding.level}: ", _STYLES[finding.level]), cell(finding.problem))
        if finding.advice:
            line.append("\n  → ").append_text(cell(finding.advice))
        yield line


def verdict(found: Explanation) -> str:
    """One line: whether the reduction can work."""
    counts = {level: sum(f.level == level for f in found.findings) for level in _STYLES}
    told = ", ".join(f"{n} {level}{'s' if n != 1 else ''}" for level, n in counts.items() if n)
    if not found.ok:
        return f"not ready: {told}"
    return f"ready{f'; {told}' if told else ''}"


def camera_table(cameras: Iterable[KnownCamera]) -> Table:
    """Class, module, and what brought it."""
    columns = (Column("camera", whole=True), Column("module"), Column("from"), Column("what it is"))
    return table(columns, ((camera.name, camera.module, camera.origin, camera.about) for camera in cameras))


def _word(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        joint = " × " if all(isinstance(item, int) for item in value) else ", "
        return joint.join(str(item) for item in value)
    return value
