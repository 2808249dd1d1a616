"""Sheets of candidates: a picture and a JSON file for each, and a page that lists them all.

What headers say is written by strangers: it is escaped in the page, and no file is named after it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from larun.errors import CatalogError, FileError, OptionError
from larun.io.atomic import atomic_path
from larun.markup import Markup, cell, joined, pairs, printable, table
from larun.model.curves.differential import reference_of, time_of
from larun.model.raw.exposures import slug
from larun.report.terminal import plain_values

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.difference import DifferenceImage
    from larun.model.differencecurve import DifferenceCurve
    from larun.model.sky import SkyImage

__all__ = ["REASONS", "Images", "Sheet", "facts", "write_index", "write_sheet", "write_sheets"]

#: Reasons to doubt a candidate, in words.
REASONS: dict[str, str] = {
    "dipole": "lobes of opposite sign",
    "near_bright": "on the light of a bright star",
    "near_saturated": "a saturated pixel is near",
    "near_edge": "pixels without data are near",
    "one_pixel": "sharper than a star",
    "misshapen": "the PSF does not fit",
    "streak": "on a line of the same sign",
    "restless": "the score scatters as much all around",
    "hidden": "many pixels around are not usable",
    "second_image": "at the same shift from a bright star as many others",
}
_MEASURES = ("chi2", "dipole_ratio", "dipole_moment", "sharpness", "light", "scatter", "line", "masked")
_VERSION = 1
Images = tuple["SkyImage", "SkyImage"]
#: Pixels, in FWHM, at which a place of a light curve belongs to a candidate.
_OF_CURVE = 0.5


@attrs.frozen(kw_only=True)
class Sheet:
    """One candidate as it was written.

    Parameters
    ----------
    facts : dict
        What the JSON file holds.
    picture, data : Path
        The PNG and the JSON file.
    """

    facts: dict[str, Any]
    picture: Path
    data: Path


def write_sheets(
    difference: DifferenceImage,
    directory: str | Path,
    *,
    candidates: SourceCatalog | None = None,
    curve: DifferenceCurve | None = None,
    name: str = "candidate",
    images: Images | None = None,
    index: bool = True,
    overwrite: bool = False,
) -> list[Sheet]:
    """Write a sheet for each candidate of a difference: a PNG, a JSON file, and a page that lists them.

    The files are ``NAME-0001.png`` and ``NAME-0001.json`` by the ``id`` of the candidate, and ``index.html``. Each
    appears whole or not at all.

    Parameters
    ----------
    difference : DifferenceImage
        With its images still at hand, or they are not in the pictures.
    directory : path
        Made if it is not there.
    candidates : SourceCatalog, optional
        Some of what :meth:`larun.DifferenceImage.detect` found on it; default: all without doubt.
    curve : DifferenceCurve, optional
        Light of the candidates over time: the place within half a FWHM of a candidate is its own.
    name : str
        What file names begin with.
    images : (SkyImage, SkyImage), optional
        The new image and the reference on the pixels of the difference, of one that was read from a file.
    index : bool
        Write the page, too.
    overwrite : bool
        Replace sheets of larun; other files are never replaced.

    Returns
    -------
    list of Sheet
        In the order of the candidates.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    CatalogError
        If the candidates are none of a difference.
    OptionError
        If the name is no plain word.
    FileError
        If a file cannot be written, or is there and ``overwrite`` is not set.

    Notes
    -----
    The JSON file has the keys ``made_by``, ``version``, ``id``, ``kind`` ("new" or "gone"), ``x``, ``y`` and their
    errors (pixels, from 0), ``ra``, ``dec`` (degrees) where there is a WCS, ``flux``, ``flux_error``, ``unit``,
    ``snr``, ``probability``, ``doubt``, ``reasons`` (names of columns), ``measures`` (the columns they rest on),
    ``science``, ``reference`` and ``difference`` (what they are, with the ``provenance`` id of each), ``catalog`` (the
    id of the candidates), ``light_curve`` (points in order of time, or null) and ``files``. Numbers are finite or null.
    """
    from larun.plots.canvas import require

    require()
    if slug(name) != name:
        raise OptionError(f"name={name!r}: must be letters, digits, dots, dashes and underscores")
    found = difference.detect().select("not doubt") if candidates is None else candidates
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be made: {error.strerror or error}") from error
    made = [
        write_sheet(difference, row, folder / f"{name}-{row['id']:04d}", curve, images=images, overwrite=overwrite)
        for row in facts(difference, found, curve)
    ]
    if index:
        title = f"Candidates of {difference.provenance.name or difference.provenance.id[:12]}"
        write_index(made, folder / "index.html", title=title, overwrite=overwrite)
    return made


def write_sheet(
    difference: DifferenceImage,
    known: dict[str, Any],
    stem: Path,
    curve: DifferenceCurve | None = None,
    *,
    images: Images | None = None,
    overwrite: bool = False,
) -> Sheet:
    """Write the picture and the JSON file of one candidate.

    Parameters
    ----------
    difference : DifferenceImage
        On which it was found.
    known : dict
        One of :func:`facts`, or more than that.
    stem : Path
        Of the files, without suffix; their folder must be there.
    curve : DifferenceCurve, optional
        With which the facts were made.
    images : (SkyImage, SkyImage), optional
        As for :func:`write_sheets`.
    overwrite : bool
        Replace a sheet of larun.

    Raises
    ------
    FileError
        If a file cannot be written, or is there and ``overwrite`` is not set.
    """
    picture, data = (stem.with_name(f"{stem.name}.{end}") for end in ("png", "json"))
    if not overwrite and (picture.exists() or data.exists()):
        raise FileError(f"{picture if picture.exists() else data} exists: say overwrite=True, or another name")
    _draw(difference, known, curve, picture, images)
    shown = {key: value for key, value in known.items() if key != "star"}
    shown["files"] = {"picture": picture.name, "data": data.name}
    with atomic_path(data, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(shown, indent=1, allow_nan=False) + "\n", encoding="ascii")
    return Sheet(facts=shown, picture=picture, data=data)


def facts(
    difference: DifferenceImage, candidates: SourceCatalog, curve: DifferenceCurve | None = None
) -> list[dict[str, Any]]:
    """What is known of each candidate, as plain values that JSON takes.

    Parameters
    ----------
    difference, candidates, curve
        As for :func:`write_sheets`.

    Returns
    -------
    list of dict
        With the keys that are listed there, and ``star``, the number of its place in the light curve.

    Raises
    ------
    CatalogError
        If the candidates are none of a difference.
    """
    from larun import __version__

    needed = {"id", "x", "y", "flux", "flux_error", "snr", "doubt", "probability"}
    if missing := needed - set(candidates.columns):
        raise CatalogError(f"{candidates!r}: has no {', '.join(sorted(missing))}: give what difference.detect() found")
    rows = candidates.table
    places = _places_of(curve)
    near = _OF_CURVE * float(difference.point_spread.fwhm)
    about = _about(difference) | {"catalog": candidates.provenance.id}
    made = []
    for row in rows:
        number = {key: _number(row, key) for key in ("x", "y", "x_error", "y_error", "ra", "dec", "flux", "flux_error")}
        away = np.hypot(places[:, 0] - number["x"], places[:, 1] - number["y"])
        star = int(np.argmin(away)) + 1 if away.size and away.min() < near else None
        known = {
            "made_by": f"larun {__version__}",
            "version": _VERSION,
            "id": int(row["id"]),
            "kind": "gone" if (number["flux"] or 0.0) < 0 else "new",
            **number,
            "unit": str(difference.unit or ""),
            "snr": _number(row, "snr"),
            "probability": _number(row, "probability"),
            "doubt": bool(row["doubt"]),
            "reasons": [reason for reason in REASONS if reason in rows.colnames and row[reason]],
            "measures": {key: _number(row, key) for key in _MEASURES if key in rows.colnames},
            **about,
            "light_curve": None if curve is None or star is None else _points(curve, star),
            "star": star,
        }
        made.append(plain_values(known))
    return made


def write_index(
    sheets: Iterable[Sheet],
    path: str | Path,
    *,
    title: str = "Candidates",
    notes: Sequence[tuple[str, Any]] = (),
    parts: Sequence[Markup] = (),
    overwrite: bool = False,
) -> Path:
    """Write a page with a line for each candidate.

    Parameters
    ----------
    sheets : iterable of Sheet
        What :func:`write_sheets` made; the page links to their files, which must lie beside it or below.
    path : path
        The page.
    title : str
        Shown above.
    notes : sequence of (str, value)
        Names and values, shown below the title.
    parts : sequence of Markup
        More of the page, shown after the notes.
    overwrite : bool
        Replace a page of larun.

    Raises
    ------
    FileError
        If the page cannot be written, or is there and ``overwrite`` is not set.
    """
    from larun import __version__

    path = Path(path)
    listed = list(sheets)
    head = ("picture", "frame", "kind", "place", "flux", "S/N", "probability", "reasons to doubt", "files")
    lines = [_line(sheet, path.parent) for sheet in listed]
    body = joined(
        [
            Markup(f"<h1>{cell(title)}</h1>"),
            pairs([*notes, ("candidates", str(len(listed)))]),
            *parts,
            table(head, lines) if lines else Markup("<p>There are no candidates.</p>"),
        ]
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="larun {__version__}">\n<title>{cell(title)}</title>\n'
        "<style>body{font-family:sans-serif;margin:1.5em}img{width:340px;height:auto;display:block}"
        "td{border-top:1px solid #ddd}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _line(sheet: Sheet, folder: Path) -> list[Any]:
    known = sheet.facts
    picture, data = (Markup(cell(file.relative_to(folder).as_posix())) for file in (sheet.picture, sheet.data))
    place = f"{_digits(known['x'], 2)}, {_digits(known['y'], 2)}"
    sky = [] if known["ra"] is None else [Markup("<br>"), f"{known['ra']:.5f} {known['dec']:+.5f}"]
    points = known["light_curve"]
    return [
        Markup(f'<a href="{picture}"><img src="{picture}" alt="new, reference, difference, score" loading="lazy"></a>'),
        joined([cell(known["science"]["name"]), Markup("<br>"), *_more(known)]),
        known["kind"],
        joined([place, *sky]),
        f"{_digits(known['flux'], 0)} ± {_digits(known['flux_error'], 0)} {known['unit']}",
        _digits(known["snr"], 1),
        _digits(known["probability"], 3),
        "; ".join(REASONS[reason] for reason in known["reasons"]) or "none",
        joined([Markup(f'<a href="{data}">JSON</a>'), *_counted(points)]),
    ]


def _more(known: dict[str, Any]) -> list[str]:
    """Which candidate it is; of a series how often it was seen, and whether it moves."""
    said = [f"number {known['id']}"]
    if "detections" in known:
        said.append(Markup("<br>"))
        said.append(f"seen on {len(known['detections'])} differences")
    if known.get("tracklet"):
        said.append(Markup("<br>"))
        said.append(f"moving object {known['tracklet']}")
    return said


def _counted(points: list[Any] | None) -> list[str]:
    return [] if points is None else [Markup("<br>"), f"light curve of {len(points)} points"]


def _digits(value: float | None, count: int) -> str:
    return "–" if value is None else f"{value:.{count}f}"


def _number(row: Any, name: str) -> float | None:
    """A number of a row without its unit; None where there is none."""
    if name not in row.colnames:
        return None
    value = float(getattr(row[name], "value", row[name]))
    return value if np.isfinite(value) else None


def _about(difference: DifferenceImage) -> dict[str, Any]:
    """What the images are, with the ids of their records."""
    time, header, reference = time_of(difference), difference.header, reference_of(difference)
    found = difference.provenance
    while found.step is None or found.step.operation != "subtract":
        found = found.parents[0].provenance
    science = next(parent.provenance for parent in found.parents if parent.role == "self")
    return {
        "science": {
            "name": difference.provenance.name or difference.provenance.id[:12],
            "object": str(header.get("OBJECT", "")).strip() or None,
            "jd_utc": None if time.mid is None else time.jd_utc,
            "provenance": science.id,
        },
        "reference": {"name": reference.name, "provenance": reference.id},
        "difference": {
            "provenance": difference.provenance.id,
            "convolved": difference.convolved,
            "scale": difference.scale,
            "fwhm": float(difference.point_spread.fwhm),
        },
    }


def _places_of(curve: DifferenceCurve | None) -> Any:
    """Where the places of a light curve are, (n, 2)."""
    if curve is None:
        return np.zeros((0, 2))
    return np.array([[float(curve.curve(n)[axis][0].value) for axis in "xy"] for n in range(1, curve.stars + 1)])


def _points(curve: DifferenceCurve, star: int) -> list[dict[str, Any]]:
    rows, good = curve.curve(star), curve.good(star)
    names = ("jd_utc", "bjd_tdb", "flux", "flux_error", "flux_limit")
    return [
        {"frame": str(row["frame"]), **{name: _number(row, name) for name in names}, "good": bool(trusted)}
        for row, trusted in zip(rows, good, strict=True)
    ]


def _draw(
    difference: DifferenceImage, known: dict[str, Any], curve: DifferenceCurve | None, path: Path, images: Images | None
) -> None:
    from matplotlib.figure import Figure

    from larun.plots import save, show_candidate

    own = curve if known["star"] is not None else None
    figure = Figure(figsize=(11.0, 5.8 if own is not None else 4.6), layout="constrained")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a name in a script the font lacks
        x, y = (
            float(np.clip(known[axis], 0, size - 1)) for axis, size in zip("xy", difference.shape[::-1], strict=True)
        )
        show_candidate(difference, x, y, figure, says=_says(known), curve=own, star=known["star"] or 1, images=images)
        title = f"{known['science']['name']}, candidate {known['id']}"
        figure.suptitle(printable(title), fontsize="medium", parse_math=False)
        save(figure, path, dpi=90)  # a picture of larun is replaced, nothing else


def _says(known: dict[str, Any]) -> list[str]:
    measures = known["measures"]
    sky = "" if known["ra"] is None else f"   RA {known['ra']:.6f}  Dec {known['dec']:+.6f}"
    time = known["science"]["jd_utc"]
    reasons = [REASONS[reason] for reason in known["reasons"]]
    return [
        f"{known['kind']}: flux {_digits(known['flux'], 0)} ± {_digits(known['flux_error'], 0)} {known['unit']}, "
        f"S/N {_digits(known['snr'], 1)}, probability {_digits(known['probability'], 3)}",
        f"x {_digits(known['x'], 2)} ± {_digits(known['x_error'], 2)}, "
        f"y {_digits(known['y'], 2)} ± {_digits(known['y_error'], 2)}{sky}",
        *([] if time is None else [f"JD (UTC) {time:.5f}"]),
        *([f"seen on {len(known['detections'])} differences"] if "detections" in known else []),
        *([f"moves: number {known['tracklet']} of the moving objects"] if known.get("tracklet") else []),
        f"object: {known['science']['object'] or '–'}",
        "reasons to doubt: " + (", ".join(reasons) or "none"),
        "  ".join(f"{name.replace('_', ' ')} {_digits(value, 2)}" for name, value in list(measures.items())[:4]),
        "  ".join(f"{name.replace('_', ' ')} {_digits(value, 2)}" for name, value in list(measures.items())[4:]),
        f"difference {known['difference']['provenance'][:16]}, reference {known['reference']['provenance'][:16]}",
    ]
