"""``larun transients``: from a folder of frames to what changed, what moves, and a page of sheets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from larun.cli.align import one_by_one
from larun.cli.arguments import Instrument, Json, Keyword
from larun.cli.folders import calibrated_frames, of_one_field
from larun.cli.running import FAILED, OK, command
from larun.errors import FileError, LarunError, OptionError

if TYPE_CHECKING:
    from larun.algorithms.subtraction import SubtractOptions
    from larun.algorithms.tracks import LinkOptions
    from larun.model.sky import SkyImage
    from larun.report.transients import Series

__all__ = ["app"]

app = typer.Typer()

_STACK = "stack"


@attrs.frozen(kw_only=True)
class _Wishes:
    """What is subtracted, what counts, and where it goes."""

    out: Path
    overwrite: bool
    threshold: float
    probability: float
    most: int
    options: SubtractOptions
    links: LinkOptions


@app.command("transients")
@command
def transients(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Raw night, its reduction, or a folder of frames.")],
    reference: Annotated[
        str, typer.Option("--reference", "-r", metavar="FILE|stack", help="Before; or a stack of the sharpest frames.")
    ] = _STACK,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Where it all goes.")] = Path("transients"),
    object_: Annotated[str | None, typer.Option("--object", metavar="NAME", help="Frames of this object only.")] = None,
    filter_: Annotated[str | None, typer.Option("--filter", metavar="NAME", help="Frames in this filter only.")] = None,
    order: Annotated[int, typer.Option(help="Of the polynomials by which the kernel changes, 0 to 3.")] = 1,
    background: Annotated[int, typer.Option(help="Of the polynomial of the sky between both, 0 to 3.")] = 2,
    threshold: Annotated[float, typer.Option(help="Least score of a candidate.")] = 5.0,
    probability: Annotated[float, typer.Option(help="Least probability of what has a sheet, 0 to 1.")] = 0.5,
    most: Annotated[int, typer.Option(help="Sheets at most, by S/N.")] = 100,
    max_rate: Annotated[
        float | None, typer.Option("--max-rate", metavar="RATE", help="Of moving objects, pixels an hour.")
    ] = None,
    without: Annotated[str, typer.Option(metavar="KINDS", help="Do without these masters: bias,dark,flat.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace products of larun.")] = False,
    keyword: Keyword = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """What changed and what moves in a folder of frames: differences, light curves, tracklets, a page of sheets.

    Open OUT/index.html. A sheet is made of each place where a candidate without doubt was seen. Code 1: some frames
    could not be subtracted, the rest is done.
    """
    from larun.algorithms.subtraction import SubtractOptions
    from larun.algorithms.tracks import LinkOptions
    from larun.cli import options
    from larun.cli.warmup import compile_first
    from larun.plots.canvas import require

    options.load_instruments(instrument)
    require()
    if not 0 <= probability <= 1 or most < 1:
        raise OptionError(f"--probability {probability:g} --most {most}: must be 0 to 1, and 1 or more")
    if not threshold > 0:
        raise OptionError(f"--threshold {threshold:g}: must be a positive number")
    wishes = _Wishes(
        out=out,
        overwrite=overwrite,
        threshold=threshold,
        probability=probability,
        most=most,
        options=SubtractOptions(order=order, background=background),
        links=LinkOptions(max_rate=max_rate),
    )
    if reference != _STACK and not Path(reference).is_file():
        raise FileError(f"--reference {reference}: no such file; `--reference stack` makes one of the sharpest frames")
    if (out / "index.html").exists() and not overwrite:
        raise FileError(f"{out / 'index.html'} exists: --overwrite replaces it")
    out.mkdir(parents=True, exist_ok=True)
    compile_first("differences")
    frames = of_one_field(calibrated_frames(folder, out, (keyword, without), flag_only=False), object_, filter_)
    return _run(folder, frames, reference, wishes, as_json)


def _run(folder: Path, frames: list[Path], reference: str, wishes: _Wishes, as_json: bool) -> int:
    from larun.report import transients as report

    before, where = _reference(frames, reference, wishes)
    (wishes.out / "differences").mkdir(exist_ok=True)
    pairs = [(path, wishes.out / "differences" / path.name) for path in frames]
    rows = one_by_one(
        pairs, lambda path, target: _subtracted(path, target, before, wishes), _told, done="done", quiet=as_json
    )
    made = [row for row in rows if row["done"] and "file" in row]
    if not made:
        raise FileError(f"{folder}: no frame could be subtracted: {rows[0]['reason']}")
    series = report.Series(
        folder=str(folder),
        reference=where,
        image=before,
        rows=rows,
        out=wishes.out,
        overwrite=wishes.overwrite,
    )
    found = _looked_into(series, wishes)
    code = OK if all(row["done"] for row in rows) else FAILED
    if as_json:
        from larun.report.terminal import write_json

        write_json({**found, "code": code})
    else:
        from larun.report.terminal import cell, console, heading

        for line in report.lines(found):
            console().print(cell(line), soft_wrap=True)
        console().print(heading(f"{len(made)} of {len(rows)} frames subtracted; open {wishes.out / 'index.html'}"))
    return code


def _looked_into(series: Series, wishes: _Wishes) -> dict[str, Any]:
    from larun.cli.progress import progress_bar
    from larun.report import transients as report

    with progress_bar() as progress:
        return report.write(
            series,
            links=wishes.links,
            probability=wishes.probability,
            most=wishes.most,
            progress=progress,
        )


def _reference(frames: list[Path], given: str, wishes: _Wishes) -> tuple[SkyImage, str]:
    """The reference, and what it is called; a stack is written beside the differences."""
    from larun.cli.align import sky_image
    from larun.cli.progress import progress_bar
    from larun.model.subtracting.series import stacked_reference

    if given != _STACK:
        return sky_image(Path(given)), given
    path = wishes.out / "reference.fits"
    if path.exists() and not wishes.overwrite:
        raise FileError(f"{path} exists: --overwrite replaces it, --reference {path} takes it")
    with progress_bar() as progress:
        made = stacked_reference(frames, progress=progress)
    made.write(path, overwrite=wishes.overwrite)
    return made, str(path)


def _subtracted(path: Path, target: Path, reference: SkyImage, wishes: _Wishes) -> dict[str, Any]:
    """Subtract from one frame, write the difference and its candidates; what is told of it, or why it could not be."""
    from larun.cli.align import sky_image
    from larun.model.frame import Frame
    from larun.model.subtracting.series import subtracted

    table = target.with_suffix(".ecsv")
    try:
        frame = sky_image(path)
        if not isinstance(frame, Frame):
            raise FileError(f"{path} is a {type(frame).__name__}: give a frame")
        if frame.provenance.id == reference.provenance.id:
            return {"done": True, "is_reference": True}
        for taken in (target, table):
            if taken.exists() and not wishes.overwrite:
                raise FileError(f"{taken} exists: --overwrite replaces it")
        made = subtracted(frame, reference, wishes.options)
        found = made.detect(wishes.threshold)
        made.write(target, overwrite=wishes.overwrite)
        found.write(table, overwrite=wishes.overwrite)
    except (LarunError, OSError) as error:
        return {"done": False, "reason": " ".join(str(error).split())}
    rows = found.table
    return {
        "done": True,
        "is_reference": False,
        "file": str(target),
        "label": made.provenance.name or made.provenance.id[:12],
        "candidates": str(table),
        "scale": made.scale,
        "found": len(rows),
        "without_doubt": int((~rows["doubt"]).sum()),
    }


def _told(row: dict[str, Any]) -> str:
    if not row["done"]:
        return f"not subtracted: {row['reason']}"
    if row["is_reference"]:
        return "is the reference"
    return f"scale {row['scale']:.4f}  {row['found']} found, {row['without_doubt']} without doubt"
