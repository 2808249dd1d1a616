"""Frames unlike the rest of their field and filter: which, and in what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import mad_sigma
from larun.model.checks.facts import FrameFacts
from larun.model.checks.fields import Band, Field
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.checks.words import counted, percent

__all__ = ["odd_frame"]

_FEWEST = 5
_SIGMAS = 6.0
_EVEN = "part without such a sky"
_ALIKE = 0.5  # of the level, within which a cell is like the rest of its frame
#: Scatter that every night has: of ln FWHM, ln sky, ln sources, ln light of the stars, ellipticity, the part.
_FLOORS = {
    "star size": 0.1,
    "sky": 0.25,
    "number of stars": 0.25,
    "light of the stars": 0.1,
    "ellipticity": 0.04,
    _EVEN: 0.03,
}


def odd_frame(material: Material) -> Iterator[Verdict]:
    """Each frame against the rest in size of the stars, sky, number and light of the stars, ellipticity."""
    tested, found = 0, []
    for field in material.fields:
        for band in field.bands:
            if len(band.members) < _FEWEST:
                continue
            tested += len(band.members)
            found += list(_odd(field, band))
    if not tested:
        yield untested("odd frame", f"no field has {_FEWEST} frames in one filter to compare")
    elif not found:
        meaning = f"none of {counted(tested, 'frame')} differs from the rest of its field and filter"
        yield Verdict(test="odd frame", status="good", meaning=meaning)
    yield from found


def _odd(field: Field, band: Band) -> Iterator[Verdict]:
    frames = [field.frames[n] for n in band.members]
    values = _quantities(frames, band)
    away = {name: _deviations(value, _FLOORS[name]) for name, value in values.items()}
    evidence = _evidence(frames, away)
    for n, one in enumerate(frames):
        odd = {name: float(far[n]) for name, far in away.items() if abs(far[n]) > _SIGMAS}
        if not odd:
            continue
        reasons = [
            _said(name, float(values[name][n]), float(np.nanmedian(values[name])))
            for name in sorted(odd, key=lambda key: -abs(odd[key]))
        ]
        worst = max(odd.values(), key=abs)
        yield Verdict(
            test="odd frame",
            status="bad" if len(odd) > 1 else "doubtful",
            where=one.name,
            meaning=f"unlike the other {len(frames) - 1} frames of {field.name}: {'; '.join(reasons)}",
            value=worst,
            unit="sigma",
            fix="look at it, or leave it out",
            evidence=evidence,
        )


def _quantities(frames: list[FrameFacts], band: Band) -> dict[str, NDArray[np.float64]]:
    """What is compared, in units in which frames scatter evenly; NaN where not known."""
    nothing = math.nan
    return {
        "star size": np.array([math.log(f.fwhm) if f.fwhm > 0 else nothing for f in frames]),
        "sky": np.array(
            [math.log(f.sky.level / f.exposure) if f.exposure and f.sky.level > 0 else nothing for f in frames]
        ),
        "number of stars": np.array([math.log(max(f.sources, 1)) for f in frames]),
        "light of the stars": np.asarray(band.zero),
        "ellipticity": np.array([f.ellipticity for f in frames]),
        _EVEN: np.array([_uneven(f) for f in frames]),
    }


def _uneven(one: FrameFacts) -> float:
    """Part of the frame whose sky is unlike the rest, or that has none: the readout stopped, or something hides it."""
    known = one.sky.cells[np.isfinite(one.sky.cells)]
    level = float(np.quantile(known, 0.75)) if known.size else 0.0
    if not level > 0:
        return math.nan
    return float(np.mean(~(np.abs(one.sky.cells / level - 1) < _ALIKE)))


def _deviations(values: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """From the median, in units of the robust scatter, which is no less than the floor; 0 where not known."""
    known = values[np.isfinite(values)]
    if known.size < _FEWEST:
        return np.zeros(len(values))
    scale = max(mad_sigma(known), floor)
    return np.where(np.isfinite(values), (values - np.median(known)) / scale, 0.0)


def _said(name: str, value: float, usual: float) -> str:
    if name == _EVEN:
        return f"{percent(value)} of the frame have no sky like the rest, usually {percent(usual)}"
    if name == "ellipticity":
        return f"ellipticity {value:.2f} against {usual:.2f}"
    return f"{name} {math.exp(value - usual):.2g} times the usual"


def _evidence(frames: list[FrameFacts], away: Mapping[str, NDArray[np.float64]]) -> Evidence:
    names = [one.name for one in frames] if len(frames) <= 60 else []
    series = [Series(name, range(len(frames)), far) for name, far in away.items()]
    return Evidence(x_label="frame", y_label="away from the median (robust σ)", series=series, names=names)
