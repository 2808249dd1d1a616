"""How well frames of the same stars repeat each other: the metrics of LSST's requirements, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.sphere import directions
from larun.errors import CatalogError, OptionError
from larun.model.measure.matching import nearest_pairs
from larun.model.photometry.choosing import error_of

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog

__all__ = ["Metric", "Repeatability", "repeatability"]

#: Arcminutes between the stars of a pair, and the specifications (design) of LPM-17, tables 18 and 19: D1 and A1 in
#: milliarcseconds.
_SEPARATIONS = {1: (4.0, 6.0, 20.0), 2: (19.0, 21.0, 20.0), 3: (199.0, 201.0, 30.0)}
_BEYOND = 15.0  # mmag: PA2
_SHARE = 10.0  # per cent: PF1, AF1
_MOST = 1500  # stars, the brightest, whose pairs are looked at


class Metric(NamedTuple):
    """A number by its name in LPM-17.

    Attributes
    ----------
    name, unit : str
        Such as ``"PA1"`` and ``"mmag"``.
    value : float
        NaN where nothing tells it.
    number : int
        Of stars, or of pairs of stars, that it rests on.
    meaning : str
        In words.
    """

    name: str
    value: float
    unit: str
    number: int
    meaning: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Repeatability(Mapping[str, Metric]):
    """Metrics of repeat frames by name: ``found["PA1"].value``.

    Parameters
    ----------
    metrics : mapping
        ``PA1``, ``PA2``, ``PF1`` of magnitudes; ``AM1``, ``AD1``, ``AF1`` … of separations between stars 5, 20 and 200
        arcminutes apart.
    normalized : float
        Robust scatter of magnitudes about the mean of their star, in units of their reported errors.
    frames : int
        How many catalogues there were.
    """

    metrics: Mapping[str, Metric]
    normalized: float
    frames: int

    def __getitem__(self, name: str) -> Metric:
        return self.metrics[name]

    def __iter__(self) -> Any:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.frames} frames, {len(self)} metrics>"

    def __str__(self) -> str:
        lines = [f"{m.name} {m.value:.2f} {m.unit} ({m.number}): {m.meaning}" for m in self.values()]
        return "\n".join([*lines, f"scatter {self.normalized:.2f} of the reported errors"])


class _Together(NamedTuple):
    """Stars in rows, frames in columns; NaN where a star was not measured."""

    magnitude: NDArray[np.float64]
    error: NDArray[np.float64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]


def repeatability(
    catalogs: Sequence[SourceCatalog],
    *,
    magnitude: str | None = None,
    radius: float = 1.0,
    snr: float = 100.0,
    frames: int = 2,
) -> Repeatability:
    """The repeatability metrics of the LSST Science Requirements (LPM-17, sections 3.3.4 and 3.3.5), as faro has them.

    Parameters
    ----------
    catalogs : sequence of SourceCatalog
        Of the same field in one band, calibrated, with sky coordinates.
    magnitude : str, optional
        Column of magnitudes; by default the calibrated one, which must be the only one, else ``mag_total``.
    radius : float
        Arcseconds within which sources of two catalogues are one star.
    snr : float
        Least signal to noise of a star in the median of its frames: LPM-17 speaks of bright stars.
    frames : int
        Least number of frames of a star.

    Returns
    -------
    Repeatability

    Raises
    ------
    OptionError
        If there are fewer than two catalogues, or an option makes no sense.
    CatalogError
        If a catalogue lacks the columns, or no star is in enough frames.

    Notes
    -----
    PA1 is the median over stars of the scatter (n - 1) of their magnitudes; PA2 the deviation from the star's mean that
    10 % of the measurements exceed; PF1 the share that exceeds 15 mmag. AM1 is the median over pairs of stars 4 to 6
    arcminutes apart of the scatter of their separation; AD1 the deviation from its mean that 10 % exceed; AF1 the share
    above 20 mas. AM2 …, AM3 … are those of 20 and 200 arcminutes (AF3: 30 mas).
    """
    if len(catalogs) < 2 or frames < 2:
        raise OptionError(f"{len(catalogs)} catalogues, frames={frames}: repeats need two or more")
    if not 0 < radius < 60 or not snr > 0:
        raise OptionError(f"radius={radius}, snr={snr}: both must be above 0, the radius below 60 arcsec")
    column = magnitude or _calibrated(catalogs)
    there = _together(catalogs, column, radius)
    seen = np.isfinite(there.magnitude).sum(axis=1) >= frames
    if not seen.any():
        raise CatalogError(
            f"no star without flags is in {frames} of {len(catalogs)} catalogues within {radius:g} arcsec"
        )
    with np.errstate(all="ignore"):
        bright = seen & (_median(there.error) < 2.5 / math.log(10) / snr)
    chosen = _Together(*(plane[bright] for plane in there))
    away, count = _about_mean(chosen.magnitude)
    factor = np.sqrt(count / (count - 1))[:, None]
    pull = away * factor / chosen.error
    good = np.isfinite(pull)
    made = _photometric(away, count) + _astrometric(chosen)
    scatter = 1.4826 * float(np.median(np.abs(pull[good]))) if good.any() else math.nan
    return Repeatability(metrics={item.name: item for item in made}, normalized=scatter, frames=len(catalogs))


def _calibrated(catalogs: Sequence[SourceCatalog]) -> str:
    bands = {band for catalog in catalogs for band in catalog.meta.get("zero_points", ())}
    if len(bands) > 1:
        raise OptionError(f"the catalogues have magnitudes in {', '.join(sorted(bands))}: say magnitude='mag_<band>'")
    return f"mag_{bands.pop()}" if bands else "mag_total"


def _together(catalogs: Sequence[SourceCatalog], column: str, radius: float) -> _Together:
    """Every catalogue matched with the one that has most sources."""
    tables = [catalog.table for catalog in catalogs]
    for catalog in catalogs:
        missing = [name for name in (column, error_of(column), "ra", "dec") if name not in catalog.columns]
        if missing:
            raise CatalogError(f"{catalog!r}: no column {', '.join(missing)}")
    base = max(tables, key=len)
    places = directions(base["ra"].value, base["dec"].value)
    planes = np.full((4, len(base), len(tables)), np.nan)
    for number, table in enumerate(tables):
        here = directions(table["ra"].value, table["dec"].value)
        pairs = nearest_pairs(places, here, math.radians(radius / 3600))
        if "flags" in table.colnames:
            bits = np.asarray(table["flags"], np.uint32)[pairs.second]
            clean = (bits & (fl.UNUSABLE | fl.EDGE | fl.NONLINEAR)) == 0
        else:
            clean = np.ones(len(pairs.first), bool)
        for plane, name in zip(planes, (column, error_of(column), "ra", "dec"), strict=True):
            plane[pairs.first[clean], number] = np.asarray(table[name].value, np.float64)[pairs.second[clean]]
    planes[:, ~np.isfinite(planes).all(axis=0)] = np.nan
    return _Together(*planes)


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of stars in no frame
        return np.asarray(np.nanmedian(values, axis=1), np.float64)


def _about_mean(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    there = np.isfinite(values)
    count = there.sum(axis=1)
    mean = np.where(there, values, 0).sum(axis=1) / np.maximum(count, 1)
    return values - mean[:, None], count


def _typical(away: NDArray[np.float64], count: NDArray[np.int64]) -> float:
    """Median over rows of the scatter about their mean.

    The scatter of few values is small more often than not: the square is divided by the median of chi squared.
    """
    from scipy.special import chdtri

    if not len(away):
        return math.nan
    free = count - 1
    squares = np.where(np.isfinite(away), away, 0.0) ** 2
    return float(np.sqrt(np.median(squares.sum(axis=1) / chdtri(free, 0.5))))


def _photometric(away: NDArray[np.float64], count: NDArray[np.int64]) -> list[Metric]:
    free = np.abs(away * np.sqrt(count / (count - 1))[:, None])
    flat = 1000 * free[np.isfinite(free)]
    n = len(away)
    tenth = float(np.percentile(flat, 100 - _SHARE)) if flat.size else math.nan
    beyond = 100 * float(np.mean(flat > _BEYOND)) if flat.size else math.nan
    return [
        Metric("PA1", 1000 * _typical(away, count), "mmag", n, "scatter of a star's magnitudes, median of the stars"),
        Metric("PA2", tenth, "mmag", n, f"what {_SHARE:.0f} % of the magnitudes are off by, or more"),
        Metric("PF1", beyond, "%", n, f"magnitudes that are off by more than {_BEYOND:.0f} mmag"),
    ]


def _astrometric(stars: _Together) -> list[Metric]:
    order = np.argsort(_median(stars.magnitude), kind="stable")[:_MOST]
    ra, dec = stars.ra[order], stars.dec[order]
    frames = ra.shape[1]
    vectors = [directions(ra[:, frame], dec[:, frame]) for frame in range(frames)]
    one, two = np.triu_indices(len(order), 1)
    apart = np.stack(
        [2 * np.arcsin(np.sqrt(((v[one] - v[two]) ** 2).sum(axis=1)) / 2) for v in vectors], axis=1
    ).reshape(len(one), frames)
    away, count = _about_mean(np.degrees(apart) * 3600e3)
    enough = count >= 2
    mean = _median(np.degrees(apart) * 60) if len(one) else np.empty(0)
    made = []
    for number, (low, high, limit) in _SEPARATIONS.items():
        mine = enough & (mean >= low) & (mean < high)
        part, many = away[mine], count[mine]
        free = np.abs(part * np.sqrt(many / np.maximum(many - 1, 1))[:, None])
        flat, n = free[np.isfinite(free)], len(part)
        where = f"of stars {low:.0f} to {high:.0f} arcmin apart"
        tenth = float(np.percentile(flat, 100 - _SHARE)) if n else math.nan
        share = 100 * float(np.mean(flat > limit)) if n else math.nan
        made += [
            Metric(f"AM{number}", _typical(part, many), "mas", n, f"scatter of the separation {where}"),
            Metric(f"AD{number}", tenth, "mas", n, f"what {_SHARE:.0f} % of separations are off by, or more, {where}"),
            Metric(f"AF{number}", share, "%", n, f"separations that are off by more than {limit:.0f} mas {where}"),
        ]
    return made
