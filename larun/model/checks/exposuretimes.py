"""Exposure times in headers against the light and the dark charge that the frames hold."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import mad_sigma, median_error
from larun.model.checks.facts import FrameFacts
from larun.model.checks.fields import Field
from larun.model.checks.material import Material
from larun.model.checks.rawfacts import RawFacts, above_overscan
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.checks.words import counted, listed

__all__ = ["exposure_time", "wrong_exposures"]

_TEST = "exposure time"
_FEWEST = 3  # frames of a filter: of two nobody knows which is wrong
_LIGHT = 0.25  # ln: by so much the light of a science frame is off, sky and stars alike
_AIR = 0.03  # ln: what the air takes from one frame and not from another
_ALIKE = 0.25  # of it, that sky and stars may differ
_CHARGE = 0.2  # by so much the charge of hot pixels is off
_SIGMAS = 5.0
_HOT = 20.0  # times the noise, of a hot pixel
_PIXELS = 2000  # hot pixels, at most
_FEW_PIXELS = 20
_SWAPPED = 1.5  # times more charge in shorter darks


class WrongExposure(NamedTuple):
    """A science frame whose light is off as its exposure time is.

    Attributes
    ----------
    field : Field
        Where it is.
    member : int
        Of the frame in it.
    seconds, error : float
        The exposure time that its stars tell, and its 1 σ.
    stars, sky : float
        Its flux per second over that of the others: of stars, and of the sky.
    """

    field: Field
    member: int
    seconds: float
    error: float
    stars: float
    sky: float


def wrong_exposures(fields: Sequence[Field]) -> tuple[WrongExposure, ...]:
    """Science frames with more or less light than their exposure time says, sky and stars by the same factor.

    Clouds dim stars and not the sky, the Moon brightens the sky and not the stars.
    """
    found = []
    for field in fields:
        for band in field.bands:
            frames = [field.frames[n] for n in band.members]
            known = np.array([bool(f.exposure) and f.sky.level > 0 for f in frames]) & np.isfinite(band.zero)
            if known.sum() < _FEWEST:
                continue
            sky = np.array([_sky_rate(f) if k else np.nan for f, k in zip(frames, known, strict=True)])
            sky -= np.median(sky[known])
            zero = band.zero - np.median(band.zero[known])
            for n in np.flatnonzero(known):
                limit = max(_LIGHT, _SIGMAS * float(band.error[n]))
                if abs(zero[n]) > limit and abs(zero[n] - sky[n]) < _ALIKE * abs(zero[n]):
                    ratio, seconds = math.exp(zero[n]), frames[n].exposure or math.nan
                    error = seconds * ratio * max(float(band.error[n]), mad_sigma(zero[known]), _AIR)
                    found.append(
                        WrongExposure(field, int(band.members[n]), seconds * ratio, error, ratio, math.exp(sky[n]))
                    )
    return tuple(found)


def _sky_rate(frame: FrameFacts) -> float:
    """Ln of the sky per second."""
    return math.log(frame.sky.level / (frame.exposure or math.nan))


def exposure_time(material: Material) -> Iterator[Verdict]:
    """Exposure times of science frames against sky and stars, of darks against the charge of hot pixels."""
    science = [_science(wrong) for wrong in wrong_exposures(material.fields)]
    groups = _dark_groups(material.raw)
    darks = [verdict for group in groups for verdict in _darks(material, group)]
    lost = [one for one in material.raw if one.item.exposure is None and one.item.kind in ("science", "dark")]
    if lost:
        names = listed([one.name for one in lost])
        yield Verdict(
            test=_TEST,
            status="doubtful",
            where=lost[0].name,
            meaning=f"{counted(len(lost), 'file')} without an exposure time: {names}",
            fix="--keyword EXPTIME=…",
        )
    yield from science
    yield from darks
    if science or darks or lost:
        return
    compared = sum(
        len(band.members)
        for field in material.fields
        for band in field.bands
        if np.isfinite(band.zero).sum() >= _FEWEST
    )
    parts = []
    if compared:
        parts.append(f"sky and stars of {counted(compared, 'science frame')}")
    if groups:
        parts.append(f"the charge in {counted(sum(map(len, groups)), 'dark')}")
    if not parts:
        yield untested(_TEST, "neither three frames of one field in one filter nor two darks: nothing to compare with")
        return
    yield Verdict(test=_TEST, status="good", meaning=f"{' and '.join(parts)} go with the times in the headers")


def _science(wrong: WrongExposure) -> Verdict:
    frame = wrong.field.frames[wrong.member]
    said = frame.exposure or math.nan
    return Verdict(
        test=_TEST,
        status="bad",
        where=frame.name,
        meaning=(
            f"the header says {said:g} s, but stars ({wrong.stars:.2f} times) and sky ({wrong.sky:.2f} times) have the "
            f"light of {wrong.seconds:.3g} s: magnitudes are {abs(2.5 * math.log10(wrong.stars)):.2f} mag off"
        ),
        value=wrong.seconds,
        error=wrong.error,
        expected=said,
        unit="s",
        fix=f"correct EXPTIME of {frame.name}",
        evidence=_light_evidence(wrong.field),
    )


def _light_evidence(field: Field) -> Evidence:
    stars: list[float] = [math.nan] * len(field.frames)
    for band in field.bands:
        for n, zero in zip(band.members, band.zero, strict=True):
            stars[n] = math.exp(zero)
    sky = np.array([f.sky.level / f.exposure if f.exposure else np.nan for f in field.frames])
    for band in field.bands:
        known = sky[band.members][np.isfinite(sky[band.members])]
        sky[band.members] /= float(np.median(known)) if known.size else math.nan
    order = np.arange(len(stars))
    return Evidence(
        x_label="",
        y_label="light per second of exposure, over the median of the filter",
        series=[Series("stars", order, stars), Series("sky", order, sky)],
        names=[frame.name for frame in field.frames],
    )


def _dark_groups(raw: Sequence[RawFacts]) -> list[list[RawFacts]]:
    """Darks of one format that can be compared."""
    made: dict[tuple[str, ...], list[RawFacts]] = defaultdict(list)
    for one in raw:
        if one.item.kind == "dark" and one.item.exposure:
            made[one.format].append(one)
    return [group for group in made.values() if len(group) >= _FEWEST]


def _darks(material: Material, group: Sequence[RawFacts]) -> Iterator[Verdict]:
    """Darks whose hot pixels hold another charge than their exposure time gives them."""
    seconds = np.array([one.item.exposure or math.nan for one in group])
    charge = _hot_charge(material, group, seconds)
    if charge is None:
        return
    evidence = Evidence(
        x_label="exposure time by the header (s)",
        y_label="median charge of hot pixels (ADU)",
        series=[Series("darks", seconds, np.median(charge, axis=1))],
        log="xy" if (np.median(charge, axis=1) > 0).all() else "x",
    )
    swapped = _swapped(seconds, np.median(charge, axis=1))
    if swapped:
        short, long, ratio = swapped
        yield Verdict(
            test=_TEST,
            status="bad",
            where=f"darks of {short:g} and {long:g} s",
            meaning=f"the darks of {short:g} s hold {ratio:.1f} times the charge of those of {long:g} s: swapped",
            value=ratio,
            fix="correct EXPTIME of the darks; until then --without dark",
            evidence=evidence,
        )
        return
    rate = np.median(charge / seconds[:, None], axis=0)
    good = rate > 0
    for n, one in enumerate(group):
        warm = _warm(one, group)
        told = charge[n, good] / rate[good]
        value = max(float(np.median(told)), 0.0)
        error = median_error(told)
        said = float(seconds[n])
        if abs(value - said) > max(_CHARGE * said, _SIGMAS * error):
            yield Verdict(
                test=_TEST,
                status="bad",
                where=one.name,
                meaning=f"the header says {said:g} s, but hot pixels hold the charge of {value:.3g} s{warm}",
                value=value,
                error=error,
                expected=said,
                unit="s",
                fix=f"correct EXPTIME of {one.item.path.name}, or leave it out",
                evidence=evidence,
            )


def _warm(one: RawFacts, group: Sequence[RawFacts]) -> str:
    """A detector of another temperature makes another charge, too."""
    known = [other.item.temperature for other in group if other.item.temperature is not None]
    if one.item.temperature is None or not known:
        return ""
    away = one.item.temperature - float(np.median(known))
    return f" (the detector was {away:+.1f} °C against the others)" if abs(away) > 1.0 else ""


def _hot_charge(
    material: Material, group: Sequence[RawFacts], seconds: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """(frames, pixels): ADU above the level of each frame in pixels that are hot in the longest ones."""
    longest = [one for one, t in zip(group, seconds, strict=True) if t == seconds.max()][:3]
    typical = np.median([above_overscan(material.leveled(one.item)) - one.level for one in longest], axis=0)
    noise = float(np.median([one.noise for one in longest]))
    typical = np.where(np.isfinite(typical), typical, 0.0).ravel()
    top = np.argsort(-typical, kind="stable")[:_PIXELS]
    top = top[typical[top] > _HOT * noise]
    if len(top) < _FEW_PIXELS:
        return None
    made = [above_overscan(material.leveled(one.item)).ravel()[top] - one.level for one in group]
    charge = np.asarray(made, np.float64)
    return charge[:, np.isfinite(charge).all(axis=0)]


def _swapped(seconds: NDArray[np.float64], charge: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Two exposure times of which the shorter one has more charge."""
    times = np.unique(seconds)
    levels = [float(np.median(charge[seconds == t])) for t in times]
    for a in range(len(times)):
        for b in range(a + 1, len(times)):
            if times[b] > _SWAPPED * times[a] and levels[a] > _SWAPPED * max(levels[b], 1e-3):
                return float(times[a]), float(times[b]), levels[a] / max(levels[b], 1e-3)
    return None
