"""``larun plot``: which picture a file becomes, and where it goes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from larun.cli.options import Picture, Stretch
from larun.cli.running import OK
from larun.errors import CatalogError, FileError, LarunWarning, OptionError
from larun.io.tables import is_table_suffix
from larun.markup import printable
from larun.model.catalog import SourceCatalog
from larun.model.cutouts import Cutouts
from larun.model.differencecurve import DifferenceCurve
from larun.model.image import Image
from larun.model.lightcurve import LightCurve, read_tabular
from larun.model.masters import Master
from larun.model.psf import PSF
from larun.model.raw.exposures import slug, stem_of
from larun.model.tabular import Tabular
from larun.model.tracklets import Tracklets
from larun.plots import (
    draw_catalog,
    save,
    show,
    show_catalog,
    show_difference_curve,
    show_growth,
    show_light_curve,
    show_master,
    show_psf,
)
from larun.plots.canvas import SUFFIXES, require
from larun.report.inspect import is_catalog, open_file
from larun.report.terminal import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PlotOptions", "draw"]

_Ends = tuple[int | None, int | None]
#: Options that only the picture of an image has, with their names on the command line.
_OF_IMAGES = {"catalog": "--catalog", "apertures": "--apertures", "labels": "--labels", "region": "--region"}
_OF_IMAGES |= {"world": "--wcs, --pixel"}
_OF_PIXELS = {"flags": "--flags", "stretch": "--stretch"}


@attrs.frozen(kw_only=True)
class PlotOptions:
    """The words of ``larun plot``; see its help."""

    out: Path | None = None
    kind: Picture = Picture.auto
    catalog: Path | None = None
    image: Path | None = None
    flags: bool = False
    apertures: bool = False
    labels: str | None = None
    region: tuple[_Ends, _Ends] | None = None
    world: bool | None = None
    stretch: Stretch | None = None
    ext: str | None = None
    overwrite: bool = False

    def given(self, names: dict[str, str]) -> list[str]:
        """Which of these options were given, as they are written."""
        return [text for name, text in names.items() if getattr(self, name) not in (None, False)]


@attrs.frozen(kw_only=True)
class _Subject:
    """What is drawn: an image, a catalogue, or both; or a light curve, or a point-spread function."""

    image: Image | None
    catalog: SourceCatalog | None
    kind: Picture
    curve: LightCurve | DifferenceCurve | None = None
    psf: PSF | None = None


def draw(file: Path, wishes: PlotOptions, as_json: bool) -> int:
    """Draw and say where the picture is."""
    require()
    if wishes.out is not None and not wishes.out.is_dir() and wishes.out.suffix.lower() not in SUFFIXES:
        raise OptionError(f"--out {wishes.out}: the name must end with {', '.join(SUFFIXES)}")
    subject = _subject(file, wishes)
    out = _target(file, wishes.out, subject.kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a name in a script the font lacks
        warnings.filterwarnings(
            "ignore", ".*failed to converge", UserWarning
        )  # a graticule beyond the distortion's reach
        save(_picture(file, subject, wishes), out, overwrite=wishes.overwrite)
    if as_json:
        write_json({"path": str(out), "kind": str(subject.kind)})
    else:
        sys.stdout.write(f"{printable(str(out))}\n")
    return OK


def _subject(file: Path, wishes: PlotOptions) -> _Subject:
    if is_catalog(file) if file.is_file() else False:
        return _of_catalog(file, wishes)
    if wishes.image is not None:
        raise OptionError(f"--image is for catalogues, {file} is an image: give --catalog to draw one over it")
    image = open_file(file, int(wishes.ext) if wishes.ext is not None and wishes.ext.isdigit() else wishes.ext)
    assert isinstance(image, Image)
    catalog = None if wishes.catalog is None else SourceCatalog.read(wishes.catalog)
    kind = wishes.kind
    if kind is Picture.auto:
        page = isinstance(image, Master) and not wishes.given(_OF_IMAGES)
        kind = Picture.master if page else Picture.image
    if kind is Picture.curve:
        raise OptionError(f"--kind curve: {file} is no light curve")
    if kind is Picture.master and not isinstance(image, Master):
        raise OptionError(f"--kind master: {file} is a {type(image).__name__}")
    if kind in (Picture.sources, Picture.growth):
        if catalog is None:
            raise OptionError(f"--kind {kind}: {file} is an image; give a catalogue, or --catalog")
        catalog = catalog.attach(image) if kind is Picture.growth else catalog  # type: ignore[arg-type]  # it checks
    if catalog is None and (unused := wishes.given({n: _OF_IMAGES[n] for n in ("apertures", "labels")})):
        raise OptionError(f"{', '.join(unused)}: needs a catalogue; give --catalog")
    return _checked(_Subject(image=image, catalog=catalog, kind=kind), wishes, {"catalog"})


def _of_catalog(file: Path, wishes: PlotOptions) -> _Subject:
    if wishes.catalog is not None:
        raise OptionError(f"--catalog: {file} is a catalogue itself; give its image with --image")
    if wishes.ext is not None:
        raise OptionError(f"--ext: {file} is a catalogue")
    if wishes.kind is Picture.master:
        raise OptionError(f"--kind master: {file} is a catalogue")
    catalog = read_tabular(file)
    if isinstance(catalog, LightCurve | DifferenceCurve):
        if wishes.kind not in (Picture.auto, Picture.curve) or wishes.given(
            _OF_IMAGES | _OF_PIXELS | {"image": "--image"}
        ):
            raise OptionError(f"{file}: is a light curve, of which there is one picture without options")
        return _Subject(image=None, catalog=None, kind=Picture.curve, curve=catalog)
    if isinstance(catalog, Cutouts | Tracklets):
        raise OptionError(f"{file}: holds {type(catalog).__name__}, of which there is no picture")
    if isinstance(catalog, PSF):
        if wishes.kind is not Picture.auto or wishes.given(_OF_IMAGES | _OF_PIXELS | {"image": "--image"}):
            raise OptionError(f"{file}: is a point-spread function, of which there is one picture without options")
        return _Subject(image=None, catalog=None, kind=Picture.auto, psf=catalog)
    if wishes.kind is Picture.curve:
        raise OptionError(f"--kind curve: {file} is no light curve")
    place = wishes.image or _beside(file)
    image = None if place is None else open_file(place)
    if isinstance(image, Tabular):
        raise OptionError(f"--image {place}: is a catalogue")
    if image is not None:
        try:
            catalog = catalog.attach(image)  # type: ignore[arg-type]  # it checks
        except CatalogError as error:
            warnings.warn(f"{file}: {place}: {error}", LarunWarning, stacklevel=2)
            image = image if wishes.image is not None else None
    kind = wishes.kind
    if kind is Picture.auto:
        kind = Picture.sources if image is None else Picture.image
    if image is None and (kind is Picture.image or wishes.given(_OF_IMAGES | _OF_PIXELS)):
        raise OptionError(f"{file}: its image is not beside it; give --image FRAME")
    return _checked(_Subject(image=image, catalog=catalog, kind=kind), wishes, set())


def _checked(subject: _Subject, wishes: PlotOptions, allowed: set[str]) -> _Subject:
    """No option is left that would do nothing."""
    wrong: dict[str, str] = {}
    if subject.kind is not Picture.image:
        wrong |= {name: text for name, text in _OF_IMAGES.items() if name not in allowed or subject.kind == "master"}
    if subject.kind in (Picture.sources, Picture.growth):
        wrong |= _OF_PIXELS
    if unused := wishes.given(wrong):
        raise OptionError(f"{', '.join(unused)}: only for pictures of images, not for --kind {subject.kind}")
    return subject


def _beside(file: Path) -> Path | None:
    """The frame of a catalogue in the folders of a reduction, or with the same name in its own."""
    name = f"{file.stem}.fits"
    places = [file.parent / name]
    if file.absolute().parent.name == "catalogs":
        places.insert(0, file.absolute().parent.parent / "frames" / name)
    return next((place for place in places if place.is_file() and not place.samefile(file)), None)


def _target(file: Path, out: Path | None, kind: Picture) -> Path:
    if out is None or out.is_dir():
        stem = slug(file.stem) if is_table_suffix(file) else stem_of(file)
        added = f"-{kind}" if kind in (Picture.sources, Picture.growth) else ""
        out = (out or Path()) / f"{stem}{added}.png"
    if out.exists() and out.samefile(file):
        raise FileError(f"{out}: the picture would replace what it shows; choose another name")
    return out


def _picture(file: Path, subject: _Subject, wishes: PlotOptions) -> Figure:
    from matplotlib.figure import Figure

    stretch = str(wishes.stretch or Stretch.asinh)
    if subject.kind is Picture.image:
        assert subject.image is not None
        return _image(file, subject.image, subject.catalog, wishes, stretch)
    sizes = {Picture.master: (11.0, 7.5), Picture.sources: (9.0, 6.8), Picture.growth: (6.0, 4.5)}
    sizes |= {
        Picture.curve: (7.5, 4.5 if isinstance(subject.curve, DifferenceCurve) else 7.0),
        Picture.auto: (11.0, 4.0),
    }
    figure = Figure(figsize=sizes[subject.kind], layout="constrained")
    if subject.kind is Picture.master:
        assert isinstance(subject.image, Master)
        show_master(subject.image, figure, stretch=stretch, flags=wishes.flags)
    elif isinstance(subject.curve, DifferenceCurve):
        show_difference_curve(subject.curve, figure)
    elif subject.curve is not None:
        show_light_curve(subject.curve, figure)
    elif subject.psf is not None:
        show_psf(subject.psf, figure)
    else:
        assert subject.catalog is not None
        _ = show_catalog(subject.catalog, figure) if subject.kind == "sources" else show_growth(subject.catalog, figure)
    figure.suptitle(printable(file.name), fontsize="medium", parse_math=False)
    return figure


def _image(file: Path, image: Image, catalog: SourceCatalog | None, wishes: PlotOptions, stretch: str) -> Figure:
    from matplotlib.figure import Figure

    window = _window(wishes, image.shape)
    width, height = (end - start for start, end in window)
    figure = Figure(figsize=(7.5, min(max(7.5 * height / width, 2.5), 10.0)), layout="constrained")
    axes = show(
        image,
        figure,
        flags=wishes.flags,
        stretch=stretch,
        window=window,
        coordinates=_coordinates(image, wishes.world),
        colorbar=True,
    )
    if catalog is not None:
        draw_catalog(catalog, axes, labels=wishes.labels, apertures=wishes.apertures)
    axes.set_title(_title(file, image), fontsize="medium", parse_math=False)
    return figure


def _coordinates(image: Any, world: bool | None) -> str:
    """A bias, dark or flat is not of the sky, whatever its header carries along."""
    if world is not None:
        return "world" if world else "pixel"
    sky = not hasattr(image, "classify") or type(image).classify(image.header).kind == "science"
    return "auto" if sky else "pixel"


def _window(wishes: PlotOptions, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    ny, nx = shape
    (x0, x1), (y0, y1) = wishes.region or ((None, None), (None, None))
    window = (x0 or 0, nx if x1 is None else x1), (y0 or 0, ny if y1 is None else y1)
    if not all(0 <= low < high <= size for (low, high), size in zip(window, (nx, ny), strict=True)):
        raise OptionError(f"--region: must lie within the image, 0:{nx},0:{ny}")
    return window


def _title(file: Path, image: Any) -> str:
    """File name, object, filter and exposure, as far as they are known."""
    parts = [file.name]
    if hasattr(image, "quantity_of"):
        header = image.header
        name, band, seconds = (image.quantity_of(header, name) for name in ("object", "filter", "exposure"))
        parts += [str(text)[:40] for text in (name, band) if text]
        parts += [] if seconds is None else [f"{seconds:g} s"]
    return printable(", ".join(parts))
