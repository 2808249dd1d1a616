"""``larun ls``, ``larun masters`` and ``larun reduce``."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from larun.cli.progress import progress_bar
from larun.cli.running import FAILED, OK, say
from larun.cli.warmup import compile_first
from larun.errors import LarunWarning, OptionError
from larun.model.checks.verdict import Verdict
from larun.model.jobs import Row
from larun.model.night import Night
from larun.model.recipe import Recipe
from larun.report import night as tables
from larun.report.terminal import cell, console, heading, write_json

__all__ = ["list_files", "make_masters", "plan", "reduce"]


def list_files(folder: Path, given: dict[str, Any], as_json: bool) -> int:
    """What every file of a folder is."""
    files = Night(folder, given=given).files
    if as_json:
        write_json([item.to_dict() for item in files])
    else:
        screen = console()
        screen.print(tables.exposure_table(files, folder))
        screen.print()
        named = tables.instruments(files)
        lead = f"{named[0]}: " if len(named) == 1 else ""
        screen.print(heading(lead + tables.counts(files)))
    return FAILED if any(item.kind == "unreadable" for item in files) else OK


def make_masters(folder: Path, out: Path, recipe: Recipe, as_json: bool) -> int:
    """Build the masters of a night."""
    night = Night(folder, given=recipe.keywords)
    rows = [
        Row(name=item.path.name, kind=item.kind, status="failed", message=item.evidence)
        for item in night.of("unreadable")
    ]
    if not any(night.of(kind) for kind in {"bias", "dark", "flat"} - set(recipe.calibrate["without"])):
        raise OptionError(f"{folder}: holds no calibration frames to use ({tables.counts(night.files)}; see larun ls)")
    compile_first("night")
    with progress_bar() as progress:
        night.masters(out, recipe=recipe, progress=progress, report=rows.append)
    return _report(rows, out, as_json)


def plan(folder: Path, out: Path, recipe: Recipe, masters: Iterable[Path], as_json: bool) -> int:
    """What :func:`reduce` would make, from the headers alone."""
    rows = Night(folder).plan(out, recipe=recipe, masters=list(masters))
    if as_json:
        write_json(rows)
    else:
        screen = console()
        screen.print(tables.plan_table(rows))
        screen.print()
        screen.print(heading(f"{len(rows)} products; nothing was written"))
    return OK


def reduce(
    folder: Path,
    out: Path,
    recipe: Recipe,
    masters: Iterable[Path],
    jobs: int | None,
    as_json: bool,
    template: Path | None = None,
) -> int:
    """The whole chain for every science frame of a night, and a template subtracted from each."""
    from larun.cli import template as templates

    before = None if template is None else templates.opened(template)
    night = Night(folder)
    compile_first("night" if before is None else "differences")
    with progress_bar() as progress:
        summary = night.reduce(out, recipe=recipe, masters=list(masters), processes=jobs, progress=progress)
    if not as_json:
        _tell_verdicts(summary.verdicts)
    if before is None:
        return _report(summary.rows, out, as_json)
    changed = templates.subtract_template(summary.rows, out, before)
    if as_json:
        write_json({"rows": [attrs.asdict(row) for row in summary.rows], "differences": changed})
        code = FAILED if summary.failed else OK
    else:
        code = _report(summary.rows, out, as_json)
        for line in templates.told(changed):
            console().print(cell(line), soft_wrap=True)
    return FAILED if any(row["status"] == "failed" for row in changed) else code


def _tell_verdicts(verdicts: Iterable[Verdict]) -> None:
    """What is wrong with the night itself, before what came of it."""
    wrong = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in wrong:
        say("warning", str(verdict))
    if wrong:
        say("note", "`larun check` tells more, and draws what it rests on")


def _report(rows: Iterable[Row], out: Path, as_json: bool) -> int:
    rows = tuple(rows)
    _tell_warnings(rows)
    if as_json:
        write_json([attrs.asdict(row) for row in rows])
    else:
        _print(rows, out)
    failed = [row for row in rows if row.status == "failed"]
    for row in failed:
        say("error", row.message if row.name in row.message else f"{row.name}: {row.message}")
    return FAILED if failed else OK


def _print(rows: tuple[Row, ...], out: Path) -> None:
    screen = console()
    masters = [row for row in rows if row.kind in ("bias", "dark", "flat")]
    science = [row for row in rows if row.kind == "science"]
    for found, made in ((masters, tables.master_table), (science, tables.science_table)):
        if found:
            screen.print(made(found))
            screen.print()
    screen.print(tables.outcome(rows))
    screen.print(cell(f"in {out}"), soft_wrap=True)


def _tell_warnings(rows: tuple[Row, ...]) -> None:
    """Every warning once, with the frames it concerns."""
    names: dict[str, list[str]] = {}
    for row in rows:
        for message in row.warnings:
            names.setdefault(message, []).append(row.name)
    for message, concerned in names.items():
        others = f" and {len(concerned) - 1} more" if len(concerned) > 1 else ""
        warnings.warn(f"{concerned[0]}{others}: {message}", LarunWarning, stacklevel=2)
