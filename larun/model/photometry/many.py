"""Zero points of the frames of a night, or of many nights, found together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.zeropoint import Observations, fit_zero_points
from larun.errors import CatalogError, OptionError
from larun.model.photometry.choosing import measured
from larun.model.photometry.fitting import Wanted, fitted, near, paired, wanted, year_of
from larun.model.photometry.known import KnownStars, known_stars
from larun.model.photometry.zero_point import ZeroPoint
from larun.provenance import operation

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog
    from larun.model.photometry.options import ZeroPointOptions

__all__ = ["Extinction", "ZeroPoints", "zero_points"]

_BETWEEN_NIGHTS = 0.3  # days without a frame
_LEAST_FRAMES = 4
_LEAST_RANGE = 0.1  # of airmass


class Extinction(NamedTuple):
    """What the atmosphere took in a night.

    Attributes
    ----------
    night : int
        Number of the night, from 0, in the order of time.
    coefficient, error : float
        Magnitudes per airmass, and 1 sigma by the scatter of the frames.
    zero_point, zero_point_error : float
        Outside the atmosphere; without the error that all frames have in common.
    scatter : float
        Of the frames around the line: clouds, changes of the air.
    frames : int
        How many frames it rests on.
    """

    night: int
    coefficient: float
    error: float
    zero_point: float
    zero_point_error: float
    scatter: float
    frames: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ZeroPoints:
    """Zero points of many frames, with one colour term an instrument.

    Parameters
    ----------
    frames : tuple of ZeroPoint
        One for each catalogue, in the order given.
    nights : tuple of int
        The night of each frame, from 0; -1 where its time is not known.
    extinctions : tuple of Extinction
        Of the nights with at least 4 frames over at least 0.1 airmasses.
    """

    frames: tuple[ZeroPoint, ...]
    nights: tuple[int, ...]
    extinctions: tuple[Extinction, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} frames, {len(set(self.nights))} nights>"

    @property
    def table(self) -> QTable:
        """One row a frame: time, airmass, zero point with its 1 sigma, number of stars."""
        from astropy.table import QTable
        from astropy.units import Quantity

        metas = [frame.catalog.meta for frame in self.frames]
        made = QTable()
        made["jd_utc"] = Quantity([meta.get("jd_utc") or math.nan for meta in metas], "d")
        made["night"] = list(self.nights)
        made["airmass"] = [math.nan if frame.airmass is None else frame.airmass for frame in self.frames]
        made["zero_point"] = Quantity([frame.value for frame in self.frames], "mag")
        made["zero_point_error"] = Quantity([frame.error for frame in self.frames], "mag")
        made["stars"] = [int(np.count_nonzero(frame.stars["used"])) for frame in self.frames]
        return made


def zero_points(
    catalogs: Sequence[SourceCatalog],
    reference: Any,
    *,
    band: str,
    color: str | None = None,
    instruments: Sequence[str] | None = None,
    magnitude: str = "mag_total",
    options: ZeroPointOptions | Mapping[str, Any] | None = None,
) -> ZeroPoints:
    """Zero points of many frames, each its own, with one colour term an instrument and extinction by night.

    The error of a star in the reference is the same in every frame: zero points against each other are known better
    than their common level, and neither the level nor the colour term gets better with more frames of the same stars.

    Parameters
    ----------
    catalogs : sequence of SourceCatalog
        Photometry of the frames in one band, with sky coordinates.
    reference, band, color, magnitude, options
        As for :meth:`larun.SourceCatalog.zero_point`.
    instruments : sequence of str, optional
        Name of the instrument of each catalogue; by default all are of one.

    Returns
    -------
    ZeroPoints
        ``frames``, with the calibrated catalogues; ``extinctions``; and all as a ``table``.

    Raises
    ------
    CatalogError, OptionError
        As :meth:`larun.SourceCatalog.zero_point`; or if a catalogue is given twice.
    """
    chosen = wanted(band, color, magnitude, None, options)
    names = ["" for _ in catalogs] if instruments is None else [str(name) for name in instruments]
    if not catalogs or len(names) != len(catalogs):
        raise OptionError(f"{len(catalogs)} catalogues and {len(names)} instruments: give one for each, at least one")
    ids = [catalog.provenance.id for catalog in catalogs]
    if len(set(ids)) < len(ids):
        raise OptionError("a catalogue is given twice: its stars would count twice")
    order = sorted(range(len(ids)), key=lambda number: ids[number])  # frames in any order give the same bits
    known = _all_known([catalogs[number] for number in order], reference, chosen)
    numbers = _numbered([names[number] for number in order])
    together = fitted([paired(catalogs[number], known, chosen) for number in order], chosen, numbers)
    made: list[ZeroPoint | None] = [None] * len(ids)
    for place, number in enumerate(order):
        others = [catalogs[other] for other in order if other != number]
        made[number] = _one_of_many(
            catalogs[number],
            others,
            known=known.to_record(),
            asked=chosen._asdict(),
            instruments=[names[number], *(names[other] for other in order if other != number)],
            made=together[place],
        )
    frames = tuple(item for item in made if item is not None)
    nights = _nights(frames)
    return ZeroPoints(frames=frames, nights=nights, extinctions=_extinctions(frames, nights))


@operation("zero_points", reach="global", leave_out=("made",))
def _one_of_many(
    catalog: SourceCatalog,
    others: Sequence[SourceCatalog],
    *,
    known: Mapping[str, Any],
    asked: Mapping[str, Any],
    instruments: Sequence[str],
    made: ZeroPoint | None = None,
) -> ZeroPoint:
    """The zero point of a frame beside others; ``made`` where all were fitted already."""
    if made is not None:
        return made
    frames = list(zip([catalog, *others], instruments, strict=True))
    frames.sort(key=lambda item: item[0].provenance.id)
    chosen, stars = Wanted(**asked), KnownStars(**known)
    found = fitted([paired(one, stars, chosen) for one, _ in frames], chosen, _numbered([name for _, name in frames]))
    return found[[one.provenance.id for one, _ in frames].index(catalog.provenance.id)]


def _numbered(names: Sequence[str]) -> list[int]:
    listed = sorted(set(names))
    return [listed.index(name) for name in names]


def _all_known(catalogs: Sequence[SourceCatalog], reference: Any, chosen: Wanted) -> KnownStars:
    """The stars near a source of any catalogue, at the mean time."""
    here = [measured(catalog.table, chosen.magnitude) for catalog in catalogs]
    years = [year for year in map(year_of, catalogs) if year is not None]
    ra, dec = (np.concatenate([getattr(item, name) for item in here]) for name in ("ra", "dec"))
    known = known_stars(reference, chosen.bands, ra, dec, sum(years) / len(years) if years else None)
    rows: NDArray[np.int64] = np.unique(
        np.concatenate([near(item, known, max(2 * item.fwhm, 3.0) * item.scale) for item in here])
    )
    if not len(rows):
        raise CatalogError(
            f"no source lies near one of the {len(known.ra)} stars of {known.about['name']} in the field"
        )
    return known.select(rows)


def _nights(frames: Sequence[ZeroPoint]) -> tuple[int, ...]:
    times = [frame.catalog.meta.get("jd_utc") for frame in frames]
    known = sorted(float(time) for time in times if time is not None)
    starts = [time for before, time in zip([-math.inf, *known], known, strict=False) if time - before > _BETWEEN_NIGHTS]
    return tuple(-1 if time is None else int(np.searchsorted(starts, float(time), "right")) - 1 for time in times)


def _extinctions(frames: Sequence[ZeroPoint], nights: Sequence[int]) -> tuple[Extinction, ...]:
    """Lines through the zero points of each night; their own scatter makes the errors."""
    made = []
    for night in sorted(set(nights) - {-1}):
        mine = [frame for frame, its in zip(frames, nights, strict=True) if its == night and frame.airmass is not None]
        mine.sort(key=lambda frame: frame.catalog.provenance.id)
        airmass = np.array([frame.airmass for frame in mine], np.float64)
        if len(mine) < _LEAST_FRAMES or np.ptp(airmass) < _LEAST_RANGE:
            continue
        n, none = len(mine), np.zeros(len(mine))
        fit = fit_zero_points(
            Observations(
                difference=np.array([frame.value for frame in mine]),
                variance=none,
                star_variance=none,
                star=np.arange(n),
                frame=np.zeros(n, np.int64),
                instrument=np.zeros(n, np.int64),
                terms=airmass[:, None],
            )
        )
        errors = np.sqrt(np.diag(fit.covariance))
        slope = -float(fit.coefficients[0, 0])
        made.append(
            Extinction(night, slope, float(errors[1]), float(fit.zero_point[0]), float(errors[0]), fit.scatter, n)
        )
    return tuple(made)
