"""``larun lightcurve``: from a folder of frames to the light curve of a star."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from larun.cli.arguments import Instrument, Json, Keyword
from larun.cli.folders import calibrated_frames, of_one_field
from larun.cli.running import FAILED, OK, command
from larun.errors import OptionError

if TYPE_CHECKING:
    from larun.model.curves.transit import TransitFit
    from larun.model.lightcurve import LightCurve

__all__ = ["app", "parse_target"]

app = typer.Typer()


@attrs.frozen(kw_only=True)
class _Wishes:
    """What is measured, and what is written."""

    target: str
    out: Path
    reference: str | None
    coordinates: str | None
    method: str
    options: dict[str, Any]
    formats: tuple[str, ...]
    about: dict[str, str]
    transit: dict[str, Any] | None


@app.command("lightcurve")
@command
def lightcurve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Raw night, its reduction, or a folder of frames.")],
    target: Annotated[
        str,
        typer.Option("--target", "-t", metavar="X,Y|RA,DEC", help="Pixels, or on the sky: 19:04:09,+36:38."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Where it all goes.")] = Path("lightcurve"),
    reference: Annotated[
        str | None, typer.Option(metavar="NAME", help="Frame whose pixels are meant (default: the first in time).")
    ] = None,
    coordinates: Annotated[
        str | None, typer.Option(metavar="RA,DEC", help="Of the target, for times at the barycentre.")
    ] = None,
    filter_: Annotated[str | None, typer.Option("--filter", metavar="NAME", help="Frames in this filter only.")] = None,
    object_: Annotated[str | None, typer.Option("--object", metavar="NAME", help="Frames of this object only.")] = None,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="aperture, or psf: of each frame, for blends.")
    ] = "aperture",
    radius: Annotated[float | None, typer.Option(help="Of the aperture (default: what scatters least).")] = None,
    radius_unit: Annotated[str, typer.Option(metavar="UNIT", help="pixel, or fwhm of each frame.")] = "pixel",
    detrend: Annotated[
        str, typer.Option(metavar="NAME", help="none, or airmass: a line taken out of the target's light.")
    ] = "none",
    diameter: Annotated[float | None, typer.Option(help="Of the telescope, metres: errors with scintillation.")] = None,
    transit: Annotated[
        str | None, typer.Option(metavar="P,A,B[,K]", help="Fit a transit: days, a/R*, impact, Rp/R* to begin with.")
    ] = None,
    trend: Annotated[str, typer.Option(metavar="NAMES", help="Of the fit: time,time2,airmass,x,y,fwhm,sky.")] = "time",
    limb_darkening: Annotated[str, typer.Option(metavar="U1,U2", help="Quadratic, of the fit.")] = "0.4,0.25",
    formats: Annotated[str, typer.Option("--format", metavar="NAMES", help="Also aavso, exoclock, aij.")] = "",
    name: Annotated[str, typer.Option(help="Of the star, for the AAVSO.")] = "target",
    observer: Annotated[str, typer.Option(help="Code of the observer, for the AAVSO.")] = "NONE",
    without: Annotated[str, typer.Option(metavar="KINDS", help="Do without these masters: bias,dark,flat.")] = "",
    keyword: Keyword = None,
    instrument: Instrument = None,
    as_json: Json = False,
) -> int:
    """The light curve of a star from a folder: frames reduced if they are raw, table, picture and report."""
    from larun.cli import options

    options.load_instruments(instrument)
    wishes = _Wishes(
        target=target,
        out=out,
        reference=reference,
        coordinates=coordinates,
        method=method,
        options={"radius": radius, "unit": radius_unit, "diameter": diameter, "detrend": detrend},
        formats=tuple(part.strip() for part in formats.split(",") if part.strip()),
        about={"name": name, "observer": observer},
        transit=_transit(transit, trend, limb_darkening),
    )
    _checked(wishes)
    out.mkdir(parents=True, exist_ok=True)
    frames = calibrated_frames(folder, out, (keyword, without), flag_only=True)
    return _run(of_one_field(frames, object_, filter_), wishes, as_json)


def parse_target(text: str) -> Any:
    """Pixels as ``[[x, y]]``, or a ``SkyCoord`` where the text is sexagesimal or names units.

    Raises
    ------
    OptionError
        If it is neither.
    """
    first, comma, second = (part.strip() for part in text.partition(","))
    if not comma:
        raise OptionError(f"{text!r}: give X,Y in pixels or RA,DEC as 19:04:09.8,+36:37:57")
    try:
        place = [float(first), float(second)]
        if all(map(math.isfinite, place)):
            return [place]
    except ValueError:
        pass
    return _sky(text)


def _sky(text: str) -> Any:
    """Sky coordinates of text: sexagesimal hours and degrees, or degrees as plain numbers."""
    from astropy.coordinates import SkyCoord

    first, _, second = (part.strip() for part in text.partition(","))
    plain = first.replace(".", "", 1).lstrip("+-").isdigit()
    try:
        return SkyCoord([first], [second], unit=("deg" if plain else "hourangle", "deg"), frame="icrs")
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"{text!r}: is no place on the sky: 19:04:09.8,+36:37:57 or 286.04,36.63 ({error})"
        ) from error


def _transit(text: str | None, trend: str, limb: str) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
        law = [float(part) for part in limb.split(",")]
    except ValueError as error:
        raise OptionError(f"--transit {text} --limb-darkening {limb}: must be numbers with commas") from error
    if len(numbers) not in (3, 4) or len(law) != 2:
        raise OptionError(f"--transit {text}: period, a/R*, impact, and Rp/R* if you like; --limb-darkening U1,U2")
    made = dict(zip(("period", "semi_major_axis", "impact", "radius_ratio"), numbers, strict=False))
    return made | {"limb_darkening": law, "trend": tuple(part.strip() for part in trend.split(",") if part.strip())}


def _checked(wishes: _Wishes) -> None:
    """Refuse what makes no sense before anything is reduced."""
    from larun.model.curves.formats import FORMATS
    from larun.model.curves.options import METHODS, LightCurveOptions
    from larun.model.curves.transit import TransitOptions

    parse_target(wishes.target)
    if wishes.coordinates is not None:
        _sky(wishes.coordinates)
    LightCurveOptions(**wishes.options)
    if wishes.method not in METHODS:
        raise OptionError(f"--method {wishes.method}: must be one of {', '.join(METHODS)}")
    if wishes.method == "psf" and wishes.options["radius"] is not None:
        raise OptionError("--radius: belongs to apertures; --method psf has none")
    if wishes.transit is not None:
        TransitOptions(**wishes.transit)
    unknown = [name for name in wishes.formats if name not in FORMATS]
    if unknown:
        raise OptionError(f"--format {','.join(unknown)}: must be of {', '.join(FORMATS)}")


def _reference(frames: list[Path], name: str | None) -> Path | None:
    if name is None:
        return None
    fitting = [path for path in frames if name in (str(path), path.name) or path.name.startswith(f"{name}.")]
    if len(fitting) != 1:
        raise OptionError(f"--reference {name}: must name one of the frames, {frames[0].name} … {frames[-1].name}")
    return fitting[0]


def _run(frames: list[Path], wishes: _Wishes, as_json: bool) -> int:
    from larun.model.curves.formats import FORMATS, write_as
    from larun.model.curves.options import LightCurveOptions
    from larun.model.curves.transit import TransitOptions
    from larun.model.image import Image
    from larun.model.lightcurve import LightCurve
    from larun.report import lightcurve as report

    curve = LightCurve.extract(
        frames,
        parse_target(wishes.target),
        method=wishes.method,
        reference=_reference(frames, wishes.reference),
        coordinates=None if wishes.coordinates is None else _sky(wishes.coordinates),
        options=LightCurveOptions(**wishes.options),
    )
    fit = None if wishes.transit is None else curve.fit_transit(TransitOptions(**wishes.transit))
    made = [curve.write(wishes.out / "lightcurve.ecsv", overwrite=True)]
    band = getattr(Image.read(frames[0], verify=False), "filter", None) or "CV"
    for kind in wishes.formats:
        path = wishes.out / f"lightcurve{FORMATS[kind]}"
        made.append(write_as(curve, kind, path, {**wishes.about, "band": band}, overwrite=True))
    made += _pictures(curve, fit, wishes.out)
    made.append(report.write(curve, fit, wishes.out / "lightcurve.txt"))
    if as_json:
        from larun.report.terminal import write_json

        write_json({**report.facts(curve, fit), "files": [str(path) for path in made]})
    else:
        from larun.report.terminal import cell, console

        for line in report.lines(curve, fit):
            console().print(cell(line), soft_wrap=True)
        console().print(cell("files: " + ", ".join(str(path) for path in made)), soft_wrap=True)
    return OK if curve.good().any() else FAILED


def _pictures(curve: LightCurve, fit: TransitFit | None, out: Path) -> list[Path]:
    from larun.report import figure

    if not figure.can_draw():
        return []
    from matplotlib.figure import Figure

    from larun import plots

    made = []
    for name, draw in (
        ("lightcurve.png", lambda sheet: plots.show_light_curve(curve, sheet, fit=fit)),
        ("scatter.png", lambda sheet: plots.show_scatter(curve, sheet)),
    ):
        height = 9.0 if name == "lightcurve.png" else 4.5
        sheet = Figure(figsize=(7.5, height), layout="constrained")
        draw(sheet)
        made.append(plots.save(sheet, out / name, overwrite=True))
    return made
