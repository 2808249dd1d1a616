"""What changed in a series of frames: sheets of places, moving objects, and one page of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from larun.io.atomic import atomic_path
from larun.markup import Markup, cell, joined, table
from larun.model.catalog import SourceCatalog
from larun.model.difference import DifferenceImage
from larun.model.differencecurve import DifferenceCurve
from larun.model.frame import Frame
from larun.model.subtracting.series import Place, places_of
from larun.model.tracklets import Tracklets
from larun.report.sheets import Sheet, facts, write_index, write_sheet
from larun.report.terminal import plain_values

if TYPE_CHECKING:
    from larun.algorithms.tracks import LinkOptions
    from larun.model.sky import SkyImage

__all__ = ["Series", "lines", "write"]

#: FWHM within which candidates of several differences are at one place.
_SAME = 0.5


@attrs.frozen(kw_only=True)
class Series:
    """Frames that were subtracted.

    Parameters
    ----------
    folder, reference : str
        What was given.
    image : SkyImage
        The reference.
    rows : list of dict
        What is told of each frame; ``file`` and ``candidates`` of those that were subtracted.
    out : Path
        Folder of all files.
    overwrite : bool
        Replace products of larun.
    """

    folder: str
    reference: str
    image: SkyImage
    rows: list[dict[str, Any]]
    out: Path
    overwrite: bool

    @property
    def made(self) -> list[dict[str, Any]]:
        """The frames that were subtracted."""
        return [row for row in self.rows if "file" in row]


def write(
    series: Series,
    *,
    links: LinkOptions,
    probability: float,
    most: int,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Make light curves, tracklets, sheets, the page and ``transients.json``.

    Parameters
    ----------
    series : Series
        Differences with their candidates, as files.
    links : LinkOptions
        What moves.
    probability : float
        Least probability of a candidate that has a place.
    most : int
        Sheets at most.
    progress : callable
        Called with a name, a number and a total.

    Returns
    -------
    dict
        What ``transients.json`` holds.
    """
    tables = [SourceCatalog.read(row["candidates"]) for row in series.made]
    kept = [catalog.table[_counts(catalog, probability)] for catalog in tables]
    progress("looking for what moves", 0, len(series.made))
    moving = Tracklets.link(_with_images(series), options=links)
    moving.write(series.out / "tracklets.ecsv", overwrite=series.overwrite)
    within = max(1.5, _SAME * _fwhm(tables))
    places = places_of(kept, within=within)
    curve = _curve(series, places[:most], progress)
    sheets = _sheets(series, (tables, kept, moving), places[:most], curve, progress)
    known = {
        "made_by": _made_by(),
        "folder": series.folder,
        "reference": {"file": series.reference, "provenance": series.image.provenance.id},
        "frames": series.rows,
        "places": len(places),
        "sheets": [sheet.facts for sheet in sheets],
        "tracklets": _moving_facts(moving),
    }
    known = dict(plain_values(known))
    with atomic_path(series.out / "transients.json", overwrite=series.overwrite) as temporary:
        temporary.write_text(json.dumps(known, indent=1, allow_nan=False) + "\n", encoding="ascii")
    _page(series, known, sheets)
    return known


def lines(known: dict[str, Any]) -> list[str]:
    """What is told at the end, a line each."""
    told = [
        f"{row['kind']} at {row['x']:.1f}, {row['y']:.1f}: S/N {row['snr']:.1f}, probability {row['probability']:.2f}, "
        f"seen on {len(row['detections'])} differences" + (f", moves ({row['tracklet']})" if row["tracklet"] else "")
        for row in known["sheets"][:20]
    ]
    more = known["places"] - len(told)
    told += [f"… and {more} more places"] if more > 0 else []
    return told + [
        f"moving object {row['tracklet']}: {row['detections']} detections, {row['rate']:.2f} pix/h" + _on_sky(row)
        for row in known["tracklets"]
    ]


def _on_sky(row: dict[str, Any]) -> str:
    if row["sky_rate"] is None:
        return f" towards {row['angle']:.0f}° from +x to +y"
    return f", {row['sky_rate']:.3f} arcsec/min at position angle {row['position_angle']:.0f}°"


def _made_by() -> str:
    from larun import __version__

    return f"larun {__version__}"


def _counts(catalog: SourceCatalog, probability: float) -> Any:
    return ~np.asarray(catalog["doubt"]) & (np.asarray(catalog["probability"]) >= probability)


def _fwhm(tables: list[SourceCatalog]) -> float:
    return float(np.median([catalog.meta["fwhm"] for catalog in tables]))


def _with_images(series: Series) -> Iterator[SourceCatalog]:
    """Candidates with their difference, one at a time."""
    for row in series.made:
        yield SourceCatalog.read(row["candidates"]).attach(DifferenceImage.read(row["file"], verify=False))


def _curve(series: Series, places: list[Place], progress: Callable[[str, int, int], None]) -> DifferenceCurve | None:
    if not places:
        return None
    progress("measuring light curves", 0, len(series.made))
    files = [row["file"] for row in series.made]
    curve = DifferenceCurve.extract(files, [[place.x, place.y] for place in places])
    curve.write(series.out / "lightcurves.ecsv", overwrite=series.overwrite)
    return curve


def _sheets(
    series: Series,
    found: tuple[list[SourceCatalog], list[Any], Tracklets],
    places: list[Place],
    curve: DifferenceCurve | None,
    progress: Callable[[str, int, int], None],
) -> list[Sheet]:
    """A sheet of each place: of its best detection, with all others in it. Differences are opened once each."""
    tables, kept, moving = found
    folder = series.out / "sheets"
    if places:
        folder.mkdir(exist_ok=True)
    members = {
        (str(member["frame"]), int(member["id"])): number
        for number in range(1, len(moving) + 1)
        for member in moving.members(number)
    }
    sheets: dict[int, Sheet] = {}
    for n, row in enumerate(series.made):
        best = [k for k, place in enumerate(places) if place.seen[0][0] == n]
        if not best:
            continue
        progress(f"sheets of {Path(row['path']).name}", len(sheets), len(places))
        difference = DifferenceImage.read(row["file"], verify=False)
        images = _pair(Path(row["path"]), difference, series.image)
        for k in best:
            here = places[k].seen[0][1]
            chosen = np.asarray(tables[n]["id"]) == int(kept[n]["id"][here])
            [known] = facts(difference, tables[n].select(chosen), curve)
            detections = [_detection(series, kept, seen, members) for seen in places[k].seen]
            known |= {
                "place": k + 1,
                "detections": detections,
                "tracklet": next((one["tracklet"] for one in detections if one["tracklet"]), None),
            }
            stem = folder / f"candidate-{k + 1:04d}"
            sheets[k] = write_sheet(difference, known, stem, curve, images=images, overwrite=series.overwrite)
    return [sheets[k] for k in sorted(sheets)]


def _detection(series: Series, kept: list[Any], seen: tuple[int, int], members: dict[Any, int]) -> dict[str, Any]:
    n, k = seen
    row = kept[n][k]
    name = Path(series.made[n]["path"]).name
    return {
        "frame": name,
        "id": int(row["id"]),
        "snr": float(row["snr"]),
        "flux": float(row["flux"].value),
        "tracklet": members.get((str(series.made[n]["label"]), int(row["id"]))),
    }


def _pair(path: Path, difference: DifferenceImage, reference: SkyImage) -> tuple[SkyImage, SkyImage] | None:
    """The new image and the reference on the pixels of a difference."""
    frame = Frame.read(path, verify=False)
    if frame.shape != difference.shape or reference.shape != difference.shape:
        return None
    science = frame if frame._resampling is not None else frame.align_to(reference)
    return science, reference


def _moving_facts(moving: Tracklets) -> list[dict[str, Any]]:
    made = []
    for row in moving.table:
        known = {name: getattr(row[name], "value", row[name]) for name in moving.columns if name != "members"}
        rows = moving.members(int(row["tracklet"]))
        made.append(known | {"members": [{"frame": str(m["frame"]), "id": int(m["id"])} for m in rows]})
    return [dict(plain_values(row)) for row in made]


def _page(series: Series, known: dict[str, Any], sheets: list[Sheet]) -> None:
    parts = []
    if known["tracklets"]:
        head = ("moving object", "detections", "place", "rate", "χ²", "by chance", "members")
        rows = (
            (
                row["tracklet"],
                row["detections"],
                f"{row['x']:.1f}, {row['y']:.1f}",
                f"{row['rate']:.2f} pix/h" + _on_sky(row),
                f"{row['chi2']:.2f}",
                f"{row['expected']:.2g}",
                "; ".join(f"{member['frame']} {member['id']}" for member in row["members"]),
            )
            for row in known["tracklets"]
        )
        parts.append(joined([Markup("<h2>What moves</h2>"), table(head, rows)]))
    states = table(("frame", "outcome"), ((Path(row["path"]).name, _state(row)) for row in known["frames"]))
    parts.append(joined([Markup("<details><summary>Frames</summary>"), states, Markup("</details>")]))
    parts.append(Markup("<h2>What changed</h2>"))
    notes = [
        ("folder", series.folder),
        ("reference", series.reference),
        ("frames", f"{len(series.made)} subtracted of {len(series.rows)}"),
        ("places", f"{known['places']}, {len(sheets)} with a sheet"),
    ]
    write_index(
        sheets,
        series.out / "index.html",
        title=f"What changed in {Path(series.folder).name or series.folder}",
        notes=notes,
        parts=parts,
        overwrite=series.overwrite,
    )


def _state(row: dict[str, Any]) -> Markup:
    if not row["done"]:
        return cell(f"not subtracted: {row['reason']}")
    if row["is_reference"]:
        return cell("is the reference")
    return cell(f"{row['found']} found, {row['without_doubt']} without doubt")
