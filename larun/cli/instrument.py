"""``larun instrument``: a new camera, from a file in hand to a class that reads it."""

from __future__ import annotations

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


@app.command("check")
@command
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Raw FITS file, or the text of a header: cards, YAML.")],
    ext: Annotated[
        str | None, typer.Option("--ext", help="HDU of a raw file with several images: its number or name.")
    ] = None,
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
    given = options.check_given(options.parse_keywords(keyword or ()))
    found = examine(file, ext=int(ext) if ext is not None and ext.isdigit() else ext, **given)
    if as_json:
        write_json(found.to_dict())
    else:
        screen = console()
        for part in explanation(found):
            screen.print(part)
    return OK if found.ok else FAILED
