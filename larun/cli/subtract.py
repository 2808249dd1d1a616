"""``larun subtract``: frames less a reference, one line each, and what is new on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from larun.cli.align import ended, one_by_one, sky_image, targets
from larun.cli.arguments import Instrument, Json
from larun.cli.running import command
from larun.errors import FileError, LarunError

if TYPE_CHECKING:
    from larun.algorithms.subtraction import SubtractOptions
    from larun.algorithms.zogy import ProperOptions
    from larun.model.sky import SkyImage

__all__ = ["app"]

app = typer.Typer()


@attrs.frozen(kw_only=True)
class _Wishes:
    """How frames are subtracted, and where they go."""

    out: Path
    overwrite: bool
    method: str
    align: str
    threshold: float
    options: SubtractOptions | ProperOptions


@app.command("subtract")
@command
def subtract(
    frames: Annotated[
        list[Path], typer.Argument(metavar="FRAME…", help="Calibrated frames, or folders of them.", show_default=False)
    ],
    reference: Annotated[Path, typer.Option("--reference", "-r", metavar="REFERENCE", help="Frame or stack before.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUTDIR", help="Folder of differences and candidates.")],
    method: Annotated[
        str, typer.Option(help="alard-lupton: a kernel between both; zogy: by the PSFs of both.")
    ] = "alard-lupton",
    align: Annotated[str, typer.Option(help="By stars, phase or wcs; none where both have the same pixels.")] = "stars",
    direction: Annotated[str, typer.Option(help="What is convolved: auto (the sharper), reference, science.")] = "auto",
    basis: Annotated[str, typer.Option(help="Parts of the kernel: gauss or delta.")] = "gauss",
    order: Annotated[int, typer.Option(help="Of the polynomials by which the kernel changes, 0 to 3.")] = 2,
    background: Annotated[int, typer.Option(help="Of the polynomial of the sky between both, 0 to 3.")] = 2,
    threshold: Annotated[float, typer.Option(help="Least score of what is listed.")] = 5.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace products of larun.")] = False,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Subtract a reference from frames of the same field, and list what is new and what is gone."""
    from larun.algorithms.subtraction import SubtractOptions
    from larun.algorithms.zogy import ProperOptions
    from larun.cli import options

    options.load_instruments(instrument)
    how: SubtractOptions | ProperOptions
    if method == "zogy":
        how = ProperOptions(background=background)
    else:
        how = SubtractOptions(direction=direction, basis=basis, order=order, background=background)
    wishes = _Wishes(out=out, overwrite=overwrite, method=method, align=align, threshold=threshold, options=how)
    pairs, before = targets(frames, reference, out), sky_image(reference)
    rows = one_by_one(
        pairs, lambda path, target: _subtracted(path, target, before, wishes), _told, done="subtracted", quiet=as_json
    )
    about = {"reference": str(reference), "out": str(out)}
    return ended(rows, about, f"less {reference}, in {out}", done="subtracted", as_json=as_json)


def _subtracted(path: Path, target: Path, reference: SkyImage, wishes: _Wishes) -> dict[str, Any]:
    """Subtract from one frame, write the difference and its candidates; what is told of it, or why it could not be."""
    from larun.model.frame import Frame

    table = target.with_suffix(".ecsv")
    try:
        for taken in (target, table):
            if taken.exists() and not wishes.overwrite:
                raise FileError(f"{taken} exists: --overwrite replaces it")
        frame = sky_image(path)
        if not isinstance(frame, Frame):
            raise FileError(f"{path} is a {type(frame).__name__}: give a frame")
        made = frame.subtract(reference, method=wishes.method, align=wishes.align, options=wishes.options)
        found = made.detect(wishes.threshold)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.write(target, overwrite=wishes.overwrite)
        found.write(table, overwrite=wishes.overwrite)
    except (LarunError, OSError) as error:
        return {"subtracted": False, "reason": " ".join(str(error).split())}
    assert made.provenance.step is not None
    fitted = made.provenance.step.fitted
    rows = found.table
    return {
        "subtracted": True,
        "file": str(target),
        "candidates": str(table),
        **{name: fitted[name] for name in ("convolved", "aligned", "scale", "stamps", "chi2")},
        "matched": "both filtered" if wishes.method == "zogy" else f"{fitted['convolved']} convolved",
        "found": len(rows),
        "without_doubt": int((~rows["doubt"]).sum()),
    }


def _told(row: dict[str, Any]) -> str:
    if not row["subtracted"]:
        return f"not subtracted: {row['reason']}"
    aligned = f"  {row['aligned']} aligned" if row["aligned"] else ""
    return (
        f"{row['matched']}{aligned}  scale {row['scale']:.4f}  {row['stamps']} stars  "
        f"χ² {row['chi2']:.2f}  {row['found']} found, {row['without_doubt']} without doubt"
    )
