"""A night and its reduction as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from larun.report.terminal import Column, cell, decimals, table

if TYPE_CHECKING:
    from larun.model.jobs import Row
    from larun.model.raw.exposures import Exposure

__all__ = ["counts", "exposure_table", "instruments", "master_table", "outcome", "plan_table", "science_table"]

_ORDER = ("bias", "dark", "flat", "science", "other", "unreadable")


def exposure_table(files: Sequence[Exposure], folder: Path) -> Table:
    """One row per raw file; the instrument has a column only where there are several."""
    several = len(instruments(files)) > 1
    columns = [Column("file"), Column("kind", whole=True), Column("filter"), Column("exp s", right=True)]
    columns += [Column("instrument")] * several
    columns += [Column("object"), Column("evidence")]
    rows = (
        (
            f"{item.path.relative_to(folder)}" + (f" [{item.part.label}]" if item.part.label else ""),
            item.kind if item.kind != "unreadable" else Text(item.kind, style="bold red"),
            item.filter,
            None if item.exposure is None else f"{item.exposure:g}",
            *([item.instrument] if several else []),
            item.object,
            item.evidence,
        )
        for item in files
    )
    return table(columns, rows)


def instruments(files: Iterable[Exposure]) -> tuple[str, ...]:
    """The instruments that headers name, each once."""
    return tuple(dict.fromkeys(item.instrument for item in files if item.instrument))


def counts(files: Iterable[Exposure]) -> str:
    """How many there are of each kind, flats by filter and darks by exposure time.

    Examples
    --------
    >>> from larun.model.raw.exposures import Exposure
    >>> from larun.model.raw.opening import RawPart
    >>> flat = Exposure(part=RawPart("f.fits"), kind="flat", evidence="", filter="V")
    >>> bias = Exposure(part=RawPart("b.fits"), kind="bias", evidence="")
    >>> counts([flat, bias, flat])
    '1 bias, 2 flat (V)'
    """

    def key(item: Exposure) -> tuple[int, float, str]:
        time = (item.exposure or 0.0) if item.kind == "dark" else 0.0
        return _ORDER.index(item.kind), time, (item.filter or "no filter") if item.kind == "flat" else ""

    found = Counter(key(item) for item in files)
    parts = []
    for (order, time, band), count in sorted(found.items()):
        about = f" ({band})" if band else f" ({time:g} s)" if _ORDER[order] == "dark" else ""
        parts.append(f"{count} {_ORDER[order]}{about}")
    return ", ".join(parts)


def plan_table(rows: Iterable[dict[str, str]]) -> Table:
    """What a reduction would make."""
    return table((Column("product"), Column("made from")), ((row["product"], row["from"]) for row in rows))


def master_table(rows: Iterable[Row]) -> Table:
    """One row per master."""
    columns = (Column("master"), Column("kind"), Column("frames", right=True), Column("status", whole=True))
    return table(columns, ((row.name, row.kind, row.frames, row.status) for row in rows))


def science_table(rows: Iterable[Row]) -> Table:
    """One row per science frame: its middle, FWHM in pixels, sky in electrons, number of sources, cosmic pixels."""
    columns = (
        Column("frame"),
        Column("object"),
        Column("filter"),
        Column("mid UTC", whole=True),
        Column("exp s", right=True),
        Column("FWHM", right=True),
        Column("sky e⁻", right=True),
        Column("sources", right=True),
        Column("sat.", right=True),
        Column("cosmic", right=True),
        Column("status", whole=True),
    )
    made = (
        (
            row.name,
            row.object,
            row.filter,
            row.mid_time and row.mid_time[11:19],
            None if row.exposure is None else f"{row.exposure:g}",
            decimals(row.fwhm, 2),
            decimals(row.sky, 1),
            row.sources,
            row.saturated,
            row.cosmic_pixels,
            row.status,
        )
        for row in rows
    )
    return table(columns, made)


def outcome(rows: Iterable[Row]) -> Text:
    """The last line of a reduction: what was done, skipped and failed, in products."""
    products: Counter[str] = Counter()
    for row in rows:
        count = 2 if row.kind == "science" else 1  # a frame and its catalogue
        products["failed" if row.status == "failed" else "skipped"] += count - row.written
        products["done"] += row.written
    done, skipped, failed = (products[status] for status in ("done", "skipped", "failed"))
    if not done and not failed:
        return Text(f"nothing to do: {skipped} products are up to date", style="green")
    parts = [f"{done} product{'s' * (done != 1)} written"]
    if skipped:
        parts.append(f"{skipped} up to date")
    text = cell(", ".join(parts))
    bad = sum(row.status == "failed" for row in rows)
    return text if not bad else Text.assemble(text, ", ", (f"{bad} failed", "bold red"))
