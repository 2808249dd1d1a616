"""Commands that find places on the sky, with their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from larun.cli.arguments import Instrument, Json
from larun.cli.running import command

__all__ = ["app"]

app = typer.Typer()


@app.command("solve")
@command
def solve(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Frames: products of larun or raw files.")],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="FILE", help="Stars of known position: a catalogue file or a store."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for the solved frames.")] = Path(
        "solved"
    ),
    pointing: Annotated[
        str | None, typer.Option(metavar="RA,DEC", help="Rough middle: degrees, or hours with colons.")
    ] = None,
    radius: Annotated[float | None, typer.Option(help="Degrees around it in which the frame lies.")] = None,
    scale: Annotated[
        str | None, typer.Option(metavar="S[,S]", help="Arcseconds a pixel, or the least and the largest.")
    ] = None,
    order: Annotated[int | None, typer.Option(help="1 without distortion; default by cross-validation.")] = None,
    engine: Annotated[str, typer.Option(metavar="NAME", help="larun, or astrometry.net: solve-field.")] = "larun",
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Find where on the sky frames are, by their stars, and write them with their WCS.

    Ends with code 1 if a frame is not solved.
    """
    from larun.cli import options
    from larun.cli import solve as work

    options.load_instruments(instrument)
    wishes = work.SolveWishes(
        reference=reference,
        out=out,
        pointing=pointing,
        radius=radius,
        scale=None if scale is None else options.parse_radii(scale, "--scale"),
        order=order,
        engine=engine,
    )
    return work.solve(files, wishes, as_json)
