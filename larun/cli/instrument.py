"""``larun instrument``: a new camera, from a file in hand to a class that reads it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from larun.cli.arguments import Instrument, Json, Keyword
from larun.cli.running import FAILED, OK, command

__all__ = ["app"]

_HELP = """Cameras: write a class for a new one, check what is understood of a file, list those that are known.

\b
[bold]Examples[/bold]
  larun instrument new MyCamera --from raw/d1059.fits
  larun instrument check raw/d1059.fits --instrument mycamera.py
  larun instrument list
"""

app = typer.Typer(name="instrument", help=_HELP, no_args_is_help=True, rich_markup_mode="rich")

Ext = Annotated[str | None, typer.Option("--ext", help="HDU of a file with several images: its number or name.")]


def parse_ext(text: str | None) -> int | str | None:
    """An HDU by number or name."""
    return int(text) if text is not None and text.isdigit() else text


@app.command("new")
@command
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the class, as RoofCamera.")],
    from_file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Raw FITS file, or the text of a header, to take what it says."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PATH", help="File or folder (default: name in lower case).")
    ] = None,
    ext: Ext = None,
) -> int:
    """Write a Python file with a camera's class, commented, that works as it is."""
    from larun.instruments import new as write

    path = write(name, from_file=from_file, out=out, ext=parse_ext(ext))
    shown = shlex.quote(str(path))
    file = shlex.quote(str(from_file)) if from_file is not None else "FILE"
    sys.stdout.write(f"wrote {path}\nnext: edit it, then\n  larun instrument check {file} --instrument {shown}\n")
    return OK


@app.command("list")
@command
def list_known(instrument: Instrument = None, as_json: Json = False) -> int:
    """The cameras that are known, and what brought them."""
    from larun.cli import options
    from larun.instruments import known
    from larun.report.instrument import camera_table
    from larun.report.terminal import console, write_json

    options.load_instruments(instrument)
    cameras = known()
    if as_json:
        write_json([{key: value for key, value in camera._asdict().items() if key != "cls"} for camera in cameras])
    else:
        console().print(camera_table(cameras))
    return OK


@app.command("check")
@command
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Raw FITS file, or the text of a header: cards, YAML.")],
    ext: Ext = None,
    instrument: Instrument = None,
    keyword: Keyword = None,
    as_json: Json = False,
) -> int:
    """Every quantity larun derives from a file, where it comes from, and whether it can be true.

    Ends with code 1 if something that is required is missing or impossible.
    """
    from larun.cli import options
    from larun.instruments import check as examine
    from larun.report.instrument import explanation
    from larun.report.terminal import console, write_json

    options.load_instruments(instrument)
    given = dict(options.recipe_from(keywords=keyword).keywords)
    found = examine(file, ext=parse_ext(ext), **given)
    if as_json:
        write_json(found.to_dict())
    else:
        screen = console()
        for part in explanation(found):
            screen.print(part)
    return OK if found.ok else FAILED
