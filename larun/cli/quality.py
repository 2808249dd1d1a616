"""``larun quality``: how sharp, round and deep frames are, and which of them are worth less."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from larun.cli.arguments import Instrument, Json
from larun.cli.running import OK, command
from larun.errors import OptionError

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.quality.measured import Quality

__all__ = ["app"]

app = typer.Typer()

_SHOWN = (("stars", 0), ("fwhm", 2), ("ellipticity", 2), ("sky", 1), ("noise", 2), ("light", 3), ("worth", 2))


@app.command("quality")
@command
def quality(
    files: Annotated[list[Path], typer.Argument(metavar="FILE|DIR …", help="Calibrated frames, or folders of them.")],
    select: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Name the frames it holds for: 'fwhm < 3 and worth > 0.5'.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="TABLE", help="Write all numbers.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Draw the stars of one frame.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of larun.")] = False,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """FWHM, shape, sky and depth of frames of a field, what each is worth, and why it is worth less."""
    from larun.cli import options
    from larun.expression import parse
    from larun.model.quality.grading import grade

    options.load_instruments(instrument)
    wanted = None if select is None else parse(select)
    found, groups = zip(*(_measured(path) for path in _listed(files)), strict=True)
    if plot is not None and len(found) != 1:
        raise OptionError(f"--plot: draws the stars of one frame, {len(found)} are given")
    table = grade(found, groups=groups)
    if wanted is not None:
        table["selected"] = wanted.of(table)
    written = _write(table, found, out, plot, overwrite)
    if as_json:
        from larun.report.terminal import write_json

        write_json([{name: _plain(row[name]) for name in table.colnames} for row in table])
    else:
        _show(table, found, written)
    return OK


def _listed(files: list[Path]) -> list[Path]:
    listed: list[Path] = []
    for path in files:
        listed += sorted(path.glob("*.fits")) if path.is_dir() else [path]
    if not listed:
        raise OptionError(f"{', '.join(map(str, files))}: there is no FITS file")
    return listed


def _measured(path: Path) -> tuple[Quality, tuple[str, str]]:
    """A frame, and the object and filter that it is compared within."""
    from larun.model.sky import SkyImage
    from larun.report.inspect import open_file

    image = open_file(path)
    if not isinstance(image, SkyImage):
        raise OptionError(f"{path} is a {type(image).__name__}: give frames of the sky")
    return image.quality(), (str(image.header.get("OBJECT", "")).strip(), str(getattr(image, "filter", "") or ""))


def _write(table: QTable, found: Sequence[Quality], out: Path | None, plot: Path | None, overwrite: bool) -> list[str]:
    if out is not None:
        from larun.io.tables import write_table

        write_table(out, table, {"class": "Table", "of": "quality"}, overwrite=overwrite)
    if plot is not None:
        from matplotlib.figure import Figure

        from larun import plots

        figure = plots.show_quality(found[0])
        assert isinstance(figure, Figure)
        plots.save(figure, plot, overwrite=overwrite)
    return [str(path) for path in (out, plot) if path is not None]


def _plain(value: Any) -> Any:
    import numpy as np

    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain


def _show(table: QTable, found: Sequence[Quality], written: list[str]) -> None:
    import numpy as np
    from rich.text import Text

    from larun.markup import printable
    from larun.report.terminal import cell, console, heading

    screen = console()
    if len(found) == 1:
        for line in str(found[0]).splitlines():
            screen.print(Text(printable(line)), soft_wrap=True)
    else:
        _show_rows(table)
        for row in table:
            if row["reason"]:
                screen.print(cell(f"{row['name']}: {row['reason']}"), soft_wrap=True)
    if "selected" in table.colnames:
        screen.print(heading(f"{int(np.sum(table['selected']))} of {len(table)} frames satisfy the condition"))
        for row in table[np.asarray(table["selected"])]:
            screen.print(cell(str(row["name"])))
    for name in written:
        screen.print(Text(f"wrote {printable(name)}"))


def _show_rows(table: QTable) -> None:
    from larun.report.terminal import Column, console, decimals
    from larun.report.terminal import table as terminal_table

    columns = [Column("frame"), *(Column(name, right=True) for name, _ in _SHOWN)]
    rows = [[str(row["name"]), *(decimals(_plain(row[name]), digits) for name, digits in _SHOWN)] for row in table]
    console().print(terminal_table(columns, rows))
