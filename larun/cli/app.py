"""The commands and their options.

A command's parameters are its options, so these functions may have many; each turns them at once into frozen options
and hands over to a function that does the work, imported only then: ``larun --help`` loads nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from larun.cli import align, instrument, lightcurve, quality, refcat, sky, stack, subtract, transients, zeropoint
from larun.cli.arguments import Instrument, Json, Keyword, Setting
from larun.cli.options import Picture, Stretch
from larun.cli.recipe import recipe_app
from larun.cli.running import command
from larun.errors import OptionError

__all__ = ["app"]

_HELP = """Astronomical CCD/CMOS images from raw files to catalogues.

\b
[bold]Examples[/bold]
  larun demo
  larun ls raw/
  larun reduce raw/ out/ --jobs 2 --keyword GAIN=1.8
  larun recipe init night.toml && larun reduce raw/ out/ --recipe night.toml
  larun provenance out/catalogs/d1059.ecsv
  larun audit out/ --raw raw/
  larun plot out/catalogs/d1059.ecsv --region 300:700,300:700
"""

_CODES = (
    "[bold]Exit codes[/bold]  0 all is well; 1 some frames or masters failed, the rest is done, or a check or an "
    "audit found a fault; 2 wrong usage or option; 3 an input cannot be read or an output not written; 4 another "
    "error; 130 interrupted; "
    "141 the reader of the output went away."
    "\n\n[bold]Environment[/bold]  LARUN_THREADS=N limits threads; LARUN_DEBUG=1 shows tracebacks."
)

app = typer.Typer(
    name="larun",
    help=_HELP,
    epilog=_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(recipe_app)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of raw files; subfolders count.")]
Without = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="KINDS", help="Do without these masters: bias, dark, flat, with commas."),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", help="Frames reduced at the same time (default: as cores and free memory allow)."),
]
Memory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Memory for combining frames: 500MB, 2GB … (default 1GB)."),
]
OverscanOption = Annotated[
    str | None,
    typer.Option(
        "--overscan", metavar="METHOD", help="How its level is found: median (default), polynomial, spline, none."
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", "-r", metavar="FILE", help="Recipe (see larun recipe), or a product made by one."),
]
BadPixels = Annotated[
    Path | None,
    typer.Option("--bad-pixels", metavar="FILE", help="FITS mask of the trimmed image: not zero is bad."),
]


def _version(wanted: bool) -> None:
    if wanted:
        from larun import __version__

        typer.echo(f"larun {__version__}")
        raise typer.Exit


app.add_typer(instrument.app)
app.add_typer(refcat.app)
app.add_typer(zeropoint.app)
app.add_typer(align.app)
app.add_typer(subtract.app)
app.add_typer(sky.app)
app.add_typer(stack.app)
app.add_typer(quality.app)
app.add_typer(lightcurve.app)
app.add_typer(transients.app)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("ls")
@command
def ls(folder: Folder, keyword: Keyword = None, instrument: Instrument = None, as_json: Json = False) -> int:
    """What every raw file of a folder is, and why."""
    from larun.cli import night, options

    options.load_instruments(instrument)
    return night.list_files(folder, dict(options.recipe_from(keywords=keyword).keywords), as_json)


@app.command("info")
@command
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Raw file, product or catalogue.")],
    ext: Annotated[
        str | None, typer.Option("--ext", help="HDU of a raw file with several images: its number or name.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="Colour channel of a raw file from a Bayer sensor: R, G1, G2, B.")
    ] = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """What a file holds: raw frame, product or catalogue."""
    from larun.cli import info, options

    options.load_instruments(instrument)
    return info.show(file, ext, channel, as_json)


@app.command("masters")
@command
def masters(
    folder: Folder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the masters.")],
    recipe: RecipeFile = None,
    setting: Setting = None,
    keyword: Keyword = None,
    without: Without = None,
    overscan: OverscanOption = None,
    bad_pixels: BadPixels = None,
    max_memory: Memory = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Combine bias, dark and flat frames into masters."""
    from larun.cli import night, options

    options.load_instruments(instrument)
    chosen = options.recipe_from(
        recipe, setting, keyword, without=without, overscan=overscan, bad_pixels=bad_pixels, max_memory=max_memory
    )
    return night.make_masters(folder, out, chosen, as_json)


@app.command("reduce")
@command
def reduce(
    folder: Folder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for masters, frames, catalogues, summary.")],
    jobs: Jobs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be made.")] = False,
    recipe: RecipeFile = None,
    setting: Setting = None,
    keyword: Keyword = None,
    without: Without = None,
    more_masters: Annotated[
        list[Path] | None,
        typer.Option("--masters", metavar="DIR", help="Raw files, and masters of other nights; repeat for more."),
    ] = None,
    overscan: OverscanOption = None,
    bad_pixels: BadPixels = None,
    max_memory: Memory = None,
    clean: Annotated[bool | None, typer.Option("--clean/--no-clean", help="Look for cosmic rays (default).")] = None,
    clean_engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="What finds them: larun (default), astroscrappy, median.")
    ] = None,
    flag_only: Annotated[
        bool | None,
        typer.Option("--flag-only/--no-flag-only", help="Flag them, keep their values: for time series."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="FILE", help="Stars of known position: frames are solved against them."),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            "--template", metavar="FILE", help="Frame or stack before: subtract it from each frame of its field."
        ),
    ] = None,
    detect_method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What finds sources: matched (default), peaks, dao, sep, segmentation."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Least S/N of a source (default 5).")] = None,
    radii: Annotated[str | None, typer.Option(metavar="R,R,…", help="Aperture radii (default 1,1.5,2.5,4).")] = None,
    radius_unit: Annotated[str | None, typer.Option(metavar="UNIT", help="fwhm (default) or pixel.")] = None,
    annulus: Annotated[
        str | None, typer.Option(metavar="IN,OUT", help="Sky annulus, same unit (default beyond 5 FWHM).")
    ] = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Reduce a night: masters, calibrated frames, catalogues.

    What is there already and still right is left alone, so an interrupted reduction goes on where it stopped.
    Options that are said twice: --set goes over --recipe, and an option with a name of its own over both.
    """
    from larun.model import workers

    if jobs != 1 and not dry_run:
        workers.prepare()  # it imports while this process does
    from larun.cli import night, options

    options.load_instruments(instrument)
    chosen = options.recipe_from(
        recipe,
        setting,
        keyword,
        without=without,
        overscan=overscan,
        bad_pixels=bad_pixels,
        max_memory=max_memory,
        clean=clean,
        clean_engine=clean_engine,
        flag_only=flag_only,
        reference=reference,
        detect_method=detect_method,
        threshold=threshold,
        radii=radii,
        radius_unit=radius_unit,
        annulus=annulus,
    )
    if dry_run and template is not None:
        raise OptionError("--template: with --dry-run nothing is subtracted; leave one of them out")
    if dry_run:
        return night.plan(folder, out, chosen, more_masters or (), as_json)
    return night.reduce(folder, out, chosen, more_masters or (), jobs, as_json, template)


@app.command("check")
@command
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Raw frames, or what a reduction made of them.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Reduction of the raw frames to use and complete.")
    ] = None,
    jobs: Jobs = None,
    pictures: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Draw what the verdicts rest on, here.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show what is good or untested, too.")] = False,
    recipe: RecipeFile = None,
    setting: Setting = None,
    keyword: Keyword = None,
    without: Without = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Let a night prove its own errors: gain, read noise, flats, pixels, apertures, stars, times, headers.

    Ends with code 1 if anything is bad.
    """
    from larun.model import workers

    if jobs != 1:
        workers.prepare()
    from larun.cli import check, options

    options.load_instruments(instrument)
    said = any((recipe, setting, keyword, without))
    chosen = options.recipe_from(recipe, setting, keyword, without=without) if said else None
    return check.show(folder, out, chosen, jobs, pictures, everything, as_json)


@app.command("audit")
@command
def audit(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Product, or the folder of a reduction.")],
    raw: Annotated[
        list[Path] | None,
        typer.Option("--raw", metavar="DIR", help="Raw files, and masters of other nights; repeat for more."),
    ] = None,
    seal: Annotated[
        Path | None, typer.Option("--seal", metavar="FILE.json", help="Write one head hash of all files of the folder.")
    ] = None,
    sealed: Annotated[
        Path | None, typer.Option("--sealed", metavar="FILE.json", help="Compare the folder with such a seal.")
    ] = None,
    spot: Annotated[
        int, typer.Option("--spot", metavar="N", min=0, help="Compute N windows again from the raw files, anywhere.")
    ] = 0,
    everything: Annotated[bool, typer.Option("--all", help="List what is intact, too.")] = False,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Verify products: every byte, every record, and that what they were made from is there.

    Ends with code 0 if all are intact, 1 if one was changed or something it was made from is missing or was made
    again, 3 if one cannot be verified.
    """
    from larun.cli import audit, options

    options.load_instruments(instrument)
    return audit.show(path, audit.AuditOptions(tuple(raw or ()), seal, sealed, everything, spot), as_json)


@app.command("replay")
@command
def replay(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Product, or the folder of a reduction.")],
    raw: Annotated[
        list[Path] | None,
        typer.Option("--raw", metavar="DIR", help="Where raw files are (default: where they were); repeat for more."),
    ] = None,
    setting: Setting = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --set: only say what changes and how long it takes.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT", help="With --set: a new folder for the other reduction."),
    ] = None,
    more_masters: Annotated[
        list[Path] | None,
        typer.Option("--masters", metavar="DIR", help="With --set: masters of other nights that it used."),
    ] = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Make products again from the raw files, by their own record, and compare every bit; or with other options.

    With --set, a folder is made with other options and what differs is told; only what depends on them is made.

    Ends with code 0 if all are the same, 1 if one differs or cannot be made again, 3 if one cannot be read; with
    --set 1 only if something cannot be made.
    """
    from larun.cli import options, replay, whatif

    options.load_instruments(instrument)
    if not setting:
        replay.refuse_without_setting(dry_run, out, more_masters)
        return replay.show(path, raw or (), as_json)
    changes = [options.parse_setting(text) for text in setting]
    wish = whatif.WhatIfOptions(tuple(raw or ()), tuple(more_masters or ()), out, dry_run)
    return whatif.show(path, changes, wish, as_json)


@app.command("why")
@command
def why(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Frame or master.")],
    x: Annotated[int, typer.Argument(metavar="X", help="Column, from 0.")],
    y: Annotated[int, typer.Argument(metavar="Y", help="Row, from 0.")],
    raw: Annotated[
        list[Path] | None,
        typer.Option("--raw", metavar="DIR", help="Where raw files are (default: where they were); repeat for more."),
    ] = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Why a pixel has its value and its flags: every step from the raw counts, and who set each flag."""
    from larun.cli import options
    from larun.cli import why as work

    options.load_instruments(instrument)
    return work.show(file, x, y, raw or (), as_json)


@app.command("provenance")
@command
def provenance(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Product, catalogue or raw file; a folder of products for --uses.")
    ],
    other: Annotated[Path | None, typer.Argument(metavar="[OTHER]", help="Second file, for --diff.")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="How the records of two files differ, in words.")] = False,
    uses: Annotated[
        str | None, typer.Option(metavar="RAW", help="Which products of a folder used this raw file or master.")
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="OUT", help="Draw the record as SVG, here.")] = None,
    prov: Annotated[
        Path | None, typer.Option("--prov", metavar="OUT", help="Write it as W3C PROV-JSON, here (extra: prov).")
    ] = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """How a file was made: every step back to the raw files."""
    from larun.cli import options
    from larun.cli import provenance as work

    options.load_instruments(instrument)
    return work.show(file, work.ProvenanceOptions(other=other, diff=diff, uses=uses, svg=svg, prov=prov), as_json)


@app.command("plot")
@command
def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Raw frame, product, master or catalogue.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="png, pdf or svg (default NAME.png, here).")
    ] = None,
    kind: Annotated[
        Picture, typer.Option(help="What to draw: a master's statistics, a catalogue's sources, its curve of growth …")
    ] = Picture.auto,
    catalog: Annotated[Path | None, typer.Option(metavar="CAT", help="Catalogue to draw over the image.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FRAME", help="Image of a catalogue (default frames/ beside catalogs/).")
    ] = None,
    flags: Annotated[bool, typer.Option("--flags", help="Paint flagged pixels.")] = False,
    apertures: Annotated[bool, typer.Option("--apertures", help="Draw apertures and sky annulus of sources.")] = False,
    labels: Annotated[str | None, typer.Option(metavar="COLUMN", help="Write its values beside the sources.")] = None,
    region: Annotated[
        str | None, typer.Option(metavar="X0:X1,Y0:Y1", help="Columns and rows, from 0, the last not included.")
    ] = None,
    world: Annotated[
        bool | None, typer.Option("--wcs/--pixel", help="Sky or pixel coordinates (default sky where known).")
    ] = None,
    stretch: Annotated[Stretch | None, typer.Option(help="How values become grey (default asinh).")] = None,
    ext: Annotated[str | None, typer.Option("--ext", help="HDU of a raw file with several images.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that larun did not draw.")] = False,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """Draw a picture of a file: an image, a master, a catalogue."""
    from larun.cli import options, plot

    options.load_instruments(instrument)
    wishes = plot.PlotOptions(
        out=out,
        kind=kind,
        catalog=catalog,
        image=image,
        flags=flags,
        apertures=apertures,
        labels=labels,
        region=None if region is None else options.parse_region(region),
        world=world,
        stretch=stretch,
        ext=ext,
        overwrite=overwrite,
    )
    return plot.draw(file, wishes, as_json)


@app.command("warmup")
@command
def warmup(as_json: Json = False) -> int:
    """Compile all kernels now and keep them."""
    from larun.cli import warmup

    return warmup.show(as_json)


@app.command("demo")
@command
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="New folder, or one of an earlier demo.")] = Path(
        "larun-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the simulated night.")] = 1,
    jobs: Jobs = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the files, or delete them at the end.")] = True,
    as_json: Json = False,
) -> int:
    """Simulate a night, reduce it, compare with the truth. Offline.

    Ends with code 1 if a value lies outside its limit.
    """
    from larun.cli import demo

    return demo.run(demo.DemoOptions(folder=folder, seed=seed, jobs=jobs, keep=keep), as_json)
