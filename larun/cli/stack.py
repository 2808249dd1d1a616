"""``larun stack``: frames of a field on one another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from larun.cli.arguments import Json
from larun.cli.running import FAILED, OK, command

if TYPE_CHECKING:
    from larun.model.stacking.series import StackRow

__all__ = ["app"]

app = typer.Typer()


@app.command("stack")
@command
def stack(
    files: Annotated[list[Path], typer.Argument(metavar="FILE|DIR …", help="Calibrated frames, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the stacks go.")] = Path("stacks"),
    by: Annotated[
        str, typer.Option(metavar="NAMES", help="What frames are sorted by: object, filter, exposure.")
    ] = "object,filter",
    align: Annotated[str, typer.Option(help="stars, phase or wcs.")] = "stars",
    reject: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Frames to leave out: 'fwhm > 5 or stars < 50'.")
    ] = None,
    weights: Annotated[str, typer.Option(help="point, sky or equal.")] = "point",
    method: Annotated[str, typer.Option(help="artefacts, mean, median, proper or homogenised.")] = "artefacts",
    footprint: Annotated[str, typer.Option(help="union or reference.")] = "union",
    target_fwhm: Annotated[
        float | None, typer.Option(metavar="PIXELS", help="homogenised: width of all stars; that of the worst frame.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Put calibrated frames of a field on one another: one stack for each object and filter."""
    from larun.cli.warmup import compile_first
    from larun.model.stacking.options import StackOptions
    from larun.model.stacking.series import groups_of, stack_groups

    groups = groups_of(files, [part.strip() for part in by.split(",")])
    options = StackOptions(footprint=footprint, target_fwhm=target_fwhm)
    compile_first("stacks")
    rows = stack_groups(groups, out, options=options, align=align, reject=reject, weights=weights, method=method)
    if as_json:
        from larun.report.terminal import write_json

        write_json([attrs.asdict(row) for row in rows])
    else:
        _show(rows)
    return FAILED if any(row.status == "failed" for row in rows) else OK


def _show(rows: tuple[StackRow, ...]) -> None:
    from larun.report.terminal import cell, console, heading

    for row in rows:
        console().print(cell(f"{row.name}: {_said(row)}"), soft_wrap=True)
        for reason in row.rejected:
            console().print(cell(f"  left out: {reason}"), soft_wrap=True)
    count = {status: sum(row.status == status for row in rows) for status in ("done", "skipped")}
    there = f", {count['skipped']} there already" if count["skipped"] else ""
    console().print(heading(f"{count['done']} of {len(rows)} stacks made{there}"))


def _said(row: StackRow) -> str:
    if row.status == "failed":
        return f"failed: {row.message}"
    seconds = "" if row.exposure is None else f", {row.exposure:g} s"
    there = " (there already)" if row.status == "skipped" else ""
    return f"{row.used} of {row.frames} frames{seconds} → {row.path}{there}"
