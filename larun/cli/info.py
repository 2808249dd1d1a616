"""``larun info``."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

from rich.console import Console

from larun.cli.running import OK
from larun.io.toml import shown
from larun.report.inspect import describe
from larun.report.terminal import Column, console, decimals, heading, pairs, table, write_json

__all__ = ["show"]

#: Raw files whose names are listed; of more only the number is.
_FEW = 6

#: Columns of a table that stand beside each other.
_ACROSS = 6
_WIDE = 24


def show(path: Path, ext: str | None, channel: str | None, as_json: bool) -> int:
    """Print what a file holds."""
    about = describe(path, int(ext) if ext is not None and ext.isdigit() else ext, channel)
    if as_json:
        write_json(about)
        return OK
    screen = console()
    if about["class"] == "table":
        _plain_table(screen, about)
        return OK
    screen.print(pairs(_head(about)))
    if "columns" in about:
        _columns(screen, about)
    else:
        _detector(screen, about["detector"])
    if about["hdus"]:
        screen.print()
        screen.print(table(_HDU_COLUMNS, (_hdu(row) for row in about["hdus"])))
    return OK


def _head(about: dict[str, Any]) -> list[tuple[str, Any]]:
    module, _, name = about["class"].partition(":")
    record = about["provenance"]
    rows: list[tuple[str, Any]] = [("file", about["path"]), ("class", f"{name} ({module})")]
    if "size" in about:
        rows += _image_rows(about)
    else:
        rows += [("sources", about["sources"])]
        rows += [(key.replace("_", " "), _short(value)) for key, value in about["meta"].items() if value is not None]
    raws = record["raw_files"]
    rows += [
        ("provenance", record["id"]),
        ("steps", " → ".join(record["steps"])),
        ("recipe", _recipe(about["recipe"])),
        ("raw files", ", ".join(raws) if len(raws) <= _FEW else f"{len(raws)} (larun provenance lists them)"),
    ]
    return rows


def _recipe(note: dict[str, Any] | None) -> str | None:
    if note is None:
        return None
    changed = (f"{option} = {shown(value, 30, quoted=True)}" for option, value in note["changed"].items())
    return f"{note['digest']} ({', '.join(changed) or 'defaults'})"


def _image_rows(about: dict[str, Any]) -> list[tuple[str, Any]]:
    nx, ny = about["size"]
    exposure, pixels = about.get("exposure"), about["pixels"]
    kind = about.get("kind")
    if kind and "evidence" in about:
        kind = f"{kind} ({about['evidence']})"
    flags = ", ".join(f"{name} {count}" for name, count in about["flags"].items())
    return [
        ("size", f"{nx} × {ny} {about['unit']}"),
        ("kind", kind),
        ("frames", about.get("frames")),
        ("object", about.get("object")),
        ("filter", about.get("filter") or about.get("criteria", {}).get("filter")),
        ("exposure", None if exposure is None else f"{exposure:g} s"),
        *_time_rows(about),
        ("instrument", about.get("instrument") or about.get("criteria", {}).get("instrument")),
        ("celestial WCS", "yes" if about["wcs"] else "no"),
        ("median", decimals(pixels["median"], 4)),
        ("scatter", decimals(pixels["scatter"], 4)),
        ("median 1 σ error", decimals(pixels["uncertainty"], 4)),
        ("flagged pixels", flags or "none"),
    ]


def _time_rows(about: dict[str, Any]) -> list[tuple[str, Any]]:
    """When, how high and where to, and what contradicts itself."""
    time = about.get("time")
    if time is None:
        return []
    jd, bjd, place, airmass = (time[name] for name in ("jd_utc", "bjd_tdb", "pointing", "airmass"))
    return [
        ("date", about.get("date")),
        ("middle", None if time["mid_time"] is None else f"{time['mid_time']} UTC"),
        ("JD UTC", None if jd is None else f"{jd:.6f}"),
        ("BJD TDB", None if bjd is None else f"{bjd:.6f}" + ("" if time["site"] else " (site not known: ± 21 ms)")),
        ("airmass", None if airmass is None else f"{airmass:.3f}"),
        ("pointing", None if place is None else f"{place[0]:.5f} {place[1]:+.5f}"),
        *(("doubt", doubt) for doubt in time["doubts"]),
    ]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}" if value > 2e6 else f"{value:.4g}"  # of a Julian date the fraction counts
    if isinstance(value, list | tuple):
        return ", ".join(_short(item) for item in value)
    return str(value)


def _detector(screen: Console, detector: dict[str, Any]) -> None:
    columns = (
        Column("amplifier", whole=True),
        Column("gain", right=True),
        Column("read noise e⁻", right=True),
        Column("saturation", right=True),
        Column("data x, y"),
        Column("overscan x, y"),
    )
    levels = operator.itemgetter("gain", "read_noise", "saturation")
    rows = (
        (row["name"], *map(_number, levels(row)), _section(row["data"]), _section(row["overscan"]))
        for row in detector["amplifiers"]
    )
    screen.print()
    screen.print(table(columns, rows))
    if detector["sources"]:
        screen.print()
        screen.print(pairs((f"{name.replace('_', ' ')} from", text) for name, text in detector["sources"].items()))


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _section(value: Any) -> str | None:
    """0-based and half open, as the library counts."""
    if value is None:
        return None
    y0, y1, x0, x1 = value
    return f"{x0}:{x1}, {y0}:{y1}"


def _plain_table(screen: Console, about: dict[str, Any]) -> None:
    """A table without a record: what it says of itself, its columns where they say more than a name, its first rows."""
    rows = about["first_rows"]
    head = [("file", about["path"]), ("class", "table without a record"), ("rows", about["rows"])]
    plain = {key: value for key, value in about["meta"].items() if not isinstance(value, dict | list)}
    screen.print(pairs([*head, *((key.replace("_", " "), _short(value)) for key, value in plain.items())]))
    if any(row["unit"] or row["description"] for row in about["columns"]):
        _columns(screen, about)
    filled = [row["name"] for row in about["columns"] if any(line[row["name"]] not in (None, "") for line in rows)]
    screen.print()
    first, others = filled[:1], filled[1:]  # the first column names the row
    for start in range(0, max(1, len(others)), _ACROSS):
        names = [*first, *others[start : start + _ACROSS]]
        screen.print(table([Column(name) for name in names], ([_text(line[name]) for name in names] for line in rows)))
    if about["rows"] > len(rows):
        screen.print(f"… and {about['rows'] - len(rows)} more rows")


def _text(value: Any) -> str | None:
    """A cell; of a long text the end, where paths differ."""
    text = None if value is None else _short(value)
    return text if text is None or len(text) <= _WIDE else f"…{text[1 - _WIDE :]}"


def _columns(screen: Console, about: dict[str, Any]) -> None:
    names = (Column("column", whole=True), Column("unit", whole=True), Column("type", whole=True), Column("meaning"))
    screen.print()
    screen.print(heading(f"{len(about['columns'])} columns"))
    rows = ((row["name"], row["unit"], row["dtype"], row["description"]) for row in about["columns"])
    screen.print(table(names, rows))


_HDU_COLUMNS = (
    Column("HDU", right=True),
    Column("name", whole=True),
    Column("type", whole=True),
    Column("shape", whole=True),
    Column("bits", right=True),
    Column("unit"),
)


def _hdu(row: dict[str, Any]) -> tuple[Any, ...]:
    shape = " × ".join(str(length) for length in row["shape"][::-1])
    return row["index"], row["name"], row["type"], shape, row["bitpix"], row["unit"]
