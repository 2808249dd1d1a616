"""``larun refcat``: stores of reference stars."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from larun.cli.arguments import Columns, Epoch, Json, Systems
from larun.cli.running import OK, command
from larun.errors import OptionError

__all__ = ["app", "mapping_from"]

_HELP = """Stores of reference stars: Gaia, RefCat2, 2MASS … in parts of the sky, read in part.

\b
[bold]Examples[/bold]
  larun refcat build gaia/*.csv.gz refcat/ --name "Gaia DR3"
  larun refcat build stars.csv refcat/ --column ra=RAJ2000 --column mag_g=gmag --system g=AB
  larun refcat info refcat/
"""

app = typer.Typer(name="refcat", help=_HELP, no_args_is_help=True, rich_markup_mode="rich")


def mapping_from(columns: Iterable[str] | None, systems: Iterable[str] | None, **more: Any) -> dict[str, Any]:
    """What options say of the columns of a catalogue, as :meth:`larun.ReferenceCatalog.open` takes it.

    Raises
    ------
    OptionError
        If a word has no ``=``, or a name is given twice.
    """
    given: dict[str, Any] = {name: value for name, value in more.items() if value is not None}
    chosen = _pairs("--column", columns, "mag_g=gmag")
    said = list(systems or ())
    if chosen:
        given["columns"] = chosen
    if len(said) == 1 and "=" not in said[0]:
        given["systems"] = said[0]
    elif said:
        given["systems"] = _pairs("--system", said, "g=AB")
    return given


def _pairs(option: str, texts: Iterable[str] | None, example: str) -> dict[str, str]:
    made: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise OptionError(f"{option} {text!r}: give it as NAME=VALUE, for example {example}")
        if name in made:
            raise OptionError(f"{option} {name} is given twice: {made[name]!r} and {value!r}")
        made[name] = value
    return made


@app.command("build")
@command
def build(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC…", help="Catalogues: FITS, CSV, ECSV, Parquet, VOTable; compressed too."),
    ],
    store: Annotated[Path, typer.Argument(metavar="STORE", help="New folder.")],
    level: Annotated[
        int | None,
        typer.Option(help="HEALPix level of the parts, 2 to 9 (default: at most 50 000 stars in each)."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it (default: name of the folder).")] = None,
    columns: Columns = None,
    systems: Systems = None,
    epoch: Epoch = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store that is there.")] = False,
    as_json: Json = False,
) -> int:
    """Make a store of catalogues, however large; the columns of the usual ones are known (extra: tables)."""
    from larun.model.reference.store import ReferenceStore

    given = mapping_from(columns, systems, name=name, epoch=epoch)
    made = ReferenceStore.build(sources, store, level=level, overwrite=overwrite, **given)
    _tell(made, as_json)
    return OK


@app.command("info")
@command
def info(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a store, or a catalogue.")],
    columns: Columns = None,
    systems: Systems = None,
    epoch: Epoch = None,
    as_json: Json = False,
) -> int:
    """What a store or a catalogue holds: stars, bands, columns, the part of the sky."""
    from larun.model.reference.stars import ReferenceCatalog

    _tell(ReferenceCatalog.open(store, **mapping_from(columns, systems, epoch=epoch)), as_json)
    return OK


def _tell(catalog: Any, as_json: bool) -> None:
    from larun.report.terminal import console, heading, pairs, write_json

    about = catalog.to_dict()
    if as_json:
        write_json(about)
        return
    systems = ", ".join(f"{band} ({system or 'system unknown'})" for band, system in about["systems"].items())
    rows: list[tuple[str, Any]] = [("stars", about["rows"]), ("bands", systems or "none")]
    rows.append(("columns", ", ".join(about["columns"])))
    if "level" in about:
        share = f"{about['cells']} of level {about['level']}, {100 * about['sky_share']:.3g} % of the sky"
        rows += [("parts", share), ("fullest part", f"{about['fullest_cell']} stars")]
        rows.append(("made from", ", ".join(about["sources"])))
    elif about["circle"] is not None:
        ra, dec, radius = about["circle"]
        rows.append(("within", f"{radius:.4g} degrees of RA {ra:.5f}, Dec {dec:.5f}"))
    rows.append(("digest", about["digest"]))
    screen = console()
    screen.print(heading(about["name"]))
    screen.print(pairs(rows))
    sys.stdout.flush()
