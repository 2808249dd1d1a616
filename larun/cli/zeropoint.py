"""``larun zeropoint``: magnitudes of a catalogue on a system, by stars of known magnitude."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from larun.cli.arguments import Columns, Epoch, Instrument, Json, Systems
from larun.cli.refcat import mapping_from
from larun.cli.running import OK, command
from larun.errors import CatalogError, OptionError

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.photometry.zero_point import ZeroPoint

__all__ = ["app"]

app = typer.Typer()


@attrs.frozen(kw_only=True)
class _Targets:
    """Files to write."""

    out: Path | None
    stars: Path | None
    plot: Path | None
    overwrite: bool

    def write(self, found: ZeroPoint) -> list[str]:
        """What was asked for; the names of the files."""
        if self.out is not None:
            found.catalog.write(self.out, overwrite=self.overwrite)
        if self.stars is not None:
            from larun.io.tables import write_table

            write_table(self.stars, found.stars, {"class": "Table", "of": "zero point"}, overwrite=self.overwrite)
        if self.plot is not None:
            from matplotlib.figure import Figure

            from larun import plots

            figure = plots.show_zero_point(found)
            assert isinstance(figure, Figure)
            plots.save(figure, self.plot, overwrite=self.overwrite)
        return [str(path) for path in (self.out, self.stars, self.plot) if path is not None]


@app.command("zeropoint")
@command
def zeropoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Catalogue with photometry, or a calibrated frame.")],
    reference: Annotated[
        str, typer.Option("--reference", "-R", metavar="REF", help="File, store, or service such as gaia.")
    ],
    band: Annotated[str, typer.Option("--band", "-b", help="As the reference calls it.")],
    color: Annotated[str | None, typer.Option(metavar="A-B", help="Fit a colour term in these bands: g-r.")] = None,
    radius: Annotated[
        float | None, typer.Option(help="Arcseconds within which a source is a star (default: from the pairs).")
    ] = None,
    magnitude: Annotated[str, typer.Option(metavar="COLUMN", help="What is calibrated.")] = "mag_total",
    total_radius: Annotated[
        float | None, typer.Option(help="Pixels: the aperture that must count as all the light.")
    ] = None,
    degree: Annotated[int, typer.Option(help="Of a polynomial over the frame.")] = 0,
    extinction: Annotated[
        float | None, typer.Option(help="mag per airmass: the zero point is that outside the atmosphere.")
    ] = None,
    snr: Annotated[float | None, typer.Option(help="Least S/N of a star (default 20).")] = None,
    columns: Columns = None,
    systems: Systems = None,
    epoch: Epoch = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="CAT", help="Write the calibrated catalogue.")
    ] = None,
    stars: Annotated[
        Path | None, typer.Option("--stars", metavar="TABLE", help="Write the stars: used or not, why, residuals.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Draw the residuals.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of larun.")] = False,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """The zero point of a frame by stars of known magnitude, with its error, colour term and refused stars."""
    from larun.cli import options
    from larun.model.reference.stars import ReferenceCatalog

    options.load_instruments(instrument)
    known = ReferenceCatalog.open(reference, **mapping_from(columns, systems, epoch=epoch))
    wishes: dict[str, Any] = {"degree": degree, "extinction": extinction, "total_radius": total_radius}
    wishes |= {} if snr is None else {"snr": snr}
    found = _catalog(file).zero_point(known, band=band, color=color, radius=radius, magnitude=magnitude, options=wishes)
    written = _Targets(out=out, stars=stars, plot=plot, overwrite=overwrite).write(found)
    _tell(file, found, written, as_json)
    return OK


def _catalog(file: Path) -> SourceCatalog:
    from larun.model.catalog import SourceCatalog
    from larun.model.sky import SkyImage
    from larun.report.inspect import is_catalog, open_file

    if file.is_file() and is_catalog(file):
        return SourceCatalog.read(file)
    image = open_file(file)
    if not isinstance(image, SkyImage):
        raise OptionError(f"{file} is a {type(image).__name__}: give a catalogue, or a calibrated frame")
    if image.variance is None:
        raise CatalogError(f"{file} has no errors: give a catalogue, or a calibrated frame (larun reduce)")
    return image.detect().photometer()


def _tell(file: Path, found: ZeroPoint, written: list[str], as_json: bool) -> None:
    from rich.text import Text

    from larun.markup import printable
    from larun.report.terminal import console, heading, pairs, write_json

    about = found.to_dict()
    reasons = [str(reason) for reason in found.stars["reason"] if reason]
    refused = {name: reasons.count(name) for name in dict.fromkeys(reasons)}
    if as_json:
        write_json({"path": str(file), **about, "refused": refused, "written": written})
        return
    rows: list[tuple[str, Any]] = [
        ("zero point", f"{found.value:.4f} ± {found.error:.4f} mag for 1 {found.unit}"),
        ("system", found.system or "unknown: --system says it"),
    ]
    if found.color is not None:
        rows.append(("colour term", f"{found.color_term:+.4f} ± {found.color_term_error:.4f} at {found.pivot:.2f}"))
    known = f" ± {found.scatter_error:.4f}" if math.isfinite(found.scatter_error) else ""
    rows.append(("scatter", f"{found.scatter:.4f}{known} mag beyond the errors, of {about['stars']} stars"))
    if found.aperture_correction_error is not None:
        total = (
            f"{found.basis['aperture_radius']:.2f} px, correction known to {found.aperture_correction_error:.4f} mag"
        )
        rows.append(("all the light", total))
    if found.airmass is not None:
        air = f"{found.airmass:.3f}"
        rows.append(("airmass", air if found.extinction is None else f"{air}, taken off at {found.extinction:g} mag"))
    rows.append(("match", f"within {found.basis['radius']:.2f} arcsec of {found.basis['reference']}"))
    rows.append(("refused", ", ".join(f"{name} {count}" for name, count in refused.items()) or "none"))
    screen = console()
    screen.print(heading(f"{file}: {found.band}"))
    screen.print(pairs(rows))
    for name in written:
        screen.print(Text(f"wrote {printable(name)}"))
