"""Candidates of several differences on the same pixels, and the table of what moves among them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.tracks import Detections, LinkOptions, Track, link
from larun.errors import CatalogError, OptionError
from larun.model.curves.differential import on_reference, reference_of, time_of
from larun.model.measure import schema
from larun.model.measure.schema import Column

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog
    from larun.provenance import Provenance

__all__ = ["COLUMNS", "Shot", "linked", "looked_at"]

#: The columns of moving objects.
COLUMNS: tuple[Column, ...] = (
    Column("tracklet", np.int32, "", "number of the object, from 1"),
    Column("detections", np.int32, "", "how many it has"),
    Column("jd_utc", np.float64, "d", "Julian date, UTC, at which place and rate are independent of each other"),
    Column("x", np.float64, "pix", "column at that time"),
    Column("y", np.float64, "pix", "row at that time"),
    Column("position_error", np.float64, "pix", "1 sigma of the place along an axis"),
    Column("rate", np.float64, "pix / h", "how fast it moves"),
    Column("rate_error", np.float64, "pix / h", "1 sigma of the rate"),
    Column("angle", np.float64, "deg", "where to, from the columns' direction to the rows'"),
    Column("ra", np.float64, "deg", "right ascension at that time, where there is a WCS"),
    Column("dec", np.float64, "deg", "declination at that time, where there is a WCS"),
    Column("sky_rate", np.float64, "arcsec / min", "how fast it moves on the sky, where there is a WCS"),
    Column("position_angle", np.float64, "deg", "where to on the sky, from north to east, where there is a WCS"),
    Column("flux", np.float64, "image", "mean by weight, on the scale of the reference"),
    Column("chi2", np.float64, "", "chi^2 of the line, by its degrees of freedom"),
    Column("expected", np.float64, "", "lines by chance as good as this that are expected in the whole series"),
    Column("members", np.int32, "", "id of its candidate on each difference, in order of time; 0 for none"),
)

_NEEDED = ("id", "x", "y", "x_error", "y_error", "flux", "flux_error", "doubt")
#: A detection within so many FWHM of another is at the same place.
_STILL = 0.5


class Shot(NamedTuple):
    """What a difference adds: its candidates without its pixels."""

    jd: float
    label: str
    columns: dict[str, NDArray[Any]]
    fwhm: float
    shape: tuple[int, int]
    wcs: Any
    on_reference: bool
    reference: str
    difference: str
    unit: Any
    record: Provenance


def looked_at(candidates: Iterable[SourceCatalog]) -> list[Shot]:
    """Candidates of differences, in order of time.

    Raises
    ------
    CatalogError
        If one is no catalogue of a difference with its image.
    OptionError
        If there are none, one has no time or is there twice, or they have several references.
    """
    shots = sorted((_shot(catalog) for catalog in candidates), key=lambda shot: (shot.jd, shot.difference))
    if not shots:
        raise OptionError("candidates: there are none to link")
    if len({shot.difference for shot in shots}) < len(shots):
        raise OptionError("candidates: a difference is there twice")
    if (count := len({shot.reference for shot in shots})) > 1:
        raise OptionError(f"the differences have {count} references: subtract one reference from all frames")
    return shots


def _shot(catalog: SourceCatalog) -> Shot:
    from larun.model.difference import DifferenceImage

    image = getattr(catalog, "image", None)
    if not isinstance(image, DifferenceImage):
        raise CatalogError(f"{catalog!r}: its difference is not at hand: attach it, catalog.attach(difference)")
    if missing := set(_NEEDED) - set(catalog.columns):
        raise CatalogError(f"{catalog!r}: has no {', '.join(sorted(missing))}: give what difference.detect() found")
    label = image.provenance.name or image.provenance.id[:12]
    time = time_of(image)
    if time.mid is None:
        raise OptionError(f"{label}: {time.sources.get('mid', 'no card says when it was taken')}")
    columns = {name: np.asarray(getattr(catalog[name], "value", catalog[name])) for name in _NEEDED}
    columns["flux"], columns["flux_error"] = columns["flux"] / image.scale, columns["flux_error"] / image.scale
    return Shot(
        jd=float(time.jd_utc),
        label=label,
        columns=columns,
        fwhm=float(image.point_spread.fwhm),
        shape=image.shape,
        wcs=image.wcs,
        on_reference=on_reference(image),
        reference=reference_of(image).id,
        difference=image.provenance.id,
        unit=image.unit,
        record=catalog.provenance,
    )


def linked(shots: list[Shot], options: LinkOptions, doubted: bool) -> QTable:
    """The table of moving objects.

    Raises
    ------
    OptionError
        If differences lie on pixels of their own and have no WCS.
    """
    places = _together(shots)
    start = shots[0].jd
    count = [len(shot.columns["id"]) for shot in shots]
    epoch = np.repeat(np.arange(len(shots)), count)
    joined = {name: np.concatenate([shot.columns[name] for shot in shots]) for name in _NEEDED}
    hours = np.array([24.0 * (shot.jd - start) for shot in shots])
    error = np.hypot(joined["x_error"], joined["y_error"]) / math.sqrt(2)
    trusted = (joined["flux"] > 0) & np.isfinite(error) & (doubted | ~joined["doubt"].astype(bool))
    x, y = (np.concatenate([place[axis] for place in places]) for axis in (0, 1))
    ny, nx = shots[0].shape
    still = _STILL * float(np.median([shot.fwhm for shot in shots]))
    seen = Detections(epoch, hours[epoch], x, y, np.where(np.isfinite(error), error, 1.0), trusted)
    tracks = link(seen, area=float(nx * ny), still=still, options=options)
    values = [_row(n, track, joined, epoch, len(shots)) for n, track in enumerate(tracks, 1)]
    for value, track in zip(values, tracks, strict=True):
        value["jd_utc"] = start + track.time / 24.0
        value |= _on_sky(shots[0].wcs, track)
    # of no object there are no members: ECSV holds no column of arrays without a row
    named = [column for column in COLUMNS if tracks or column.name != "members"]
    table = schema.table(COLUMNS, {column.name: _column(column, values) for column in named}, shots[0].unit)
    table.meta = {
        "schema": 1,
        "frames": [shot.label for shot in shots],
        "jd_utc": [shot.jd for shot in shots],
        "still": still,
    }
    return table


def _together(shots: list[Shot]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Places in pixels of the first difference."""
    own = [(shot.columns["x"].astype(float), shot.columns["y"].astype(float)) for shot in shots]
    first = shots[0]
    if all(shot.on_reference and shot.shape == first.shape for shot in shots):
        return own
    if any(shot.wcs is None for shot in shots):
        raise OptionError(
            "the differences lie on pixels of their own and have no WCS: align the frames to the reference before "
            "(frame.align_to), or solve them"
        )
    made = [own[0]]
    for shot, (x, y) in zip(shots[1:], own[1:], strict=True):
        if len(x):
            x, y = (np.atleast_1d(p) for p in first.wcs.world_to_pixel(shot.wcs.pixel_to_world(x, y)))
        made.append((x, y))
    return made


def _row(number: int, track: Track, joined: dict[str, Any], epoch: NDArray[np.int64], epochs: int) -> dict[str, Any]:
    members = np.zeros(epochs, np.int32)
    members[epoch[track.members]] = joined["id"][track.members]
    weight = 1 / joined["flux_error"][track.members] ** 2
    return {
        "tracklet": number,
        "detections": len(track.members),
        "x": track.x,
        "y": track.y,
        "position_error": track.position_error,
        "rate": math.hypot(track.vx, track.vy),
        "rate_error": track.rate_error,
        "angle": math.degrees(math.atan2(track.vy, track.vx)) % 360.0,
        "flux": float(np.sum(weight * joined["flux"][track.members]) / np.sum(weight)),
        "chi2": track.chi2 / (2 * len(track.members) - 4),
        "expected": track.expected,
        "members": members,
    }


def _on_sky(wcs: Any, track: Track) -> dict[str, float]:
    """Place, rate and direction on the sky, from a minute before to a minute after."""
    if wcs is None:
        return dict.fromkeys(("ra", "dec", "sky_rate", "position_angle"), math.nan)
    x, y = (np.array([p - v / 60, p, p + v / 60]) for p, v in ((track.x, track.vx), (track.y, track.vy)))
    there = wcs.pixel_to_world(x, y).icrs
    return {
        "ra": float(there.ra.deg[1]),
        "dec": float(there.dec.deg[1]),
        "sky_rate": float(there[0].separation(there[2]).arcsec) / 2,
        "position_angle": float(there[0].position_angle(there[2]).deg),
    }


def _column(column: Column, rows: list[dict[str, Any]]) -> NDArray[Any]:
    return np.array([row[column.name] for row in rows], column.dtype)
