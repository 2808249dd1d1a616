"""The light of the same stars from frame to frame: clouds, wrong filters, wrong fields."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.offsets import vote_offset
from larun.algorithms.robust import mad_sigma
from larun.model.checks.exposuretimes import wrong_exposures
from larun.model.checks.facts import FrameFacts
from larun.model.checks.fields import Band, Field
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.checks.words import counted, listed, percent

__all__ = ["clouds", "filters", "pointing"]

_MAG = 2.5 / math.log(10)
_FEWEST = 3  # frames
_EXTINCTION = 0.15  # magnitudes per air mass, taken off before clouds are looked for
_HAZE, _CLOUD = 0.3, 0.75  # magnitudes lost
_SIGMAS = 5.0
_STARS = 8  # that tell a filter by their colours
_COLOURS = 0.06  # ln: stars scatter by more in another filter
_CLEARER = 0.5  # of the scatter, that is left against the right filter at most
_ODDER = 4.0  # times the scatter of the other frames
_WIDER = 0.25  # of the FWHM, by which it may differ where colours are compared
_APART = 60.0  # arcseconds by which the pointing may be off
_PART = 0.05  # of the field, by which it may be off


def clouds(material: Material) -> Iterator[Verdict]:
    """The light of matched stars against the best frames of the night, extinction taken off."""
    wrong = {w.field.frames[w.member].name for w in wrong_exposures(material.fields)}
    tested = 0
    worst = 0.0
    found: list[Verdict] = []
    for field in material.fields:
        for band in field.bands:
            loss = _losses(field, band, wrong)
            known = np.flatnonzero(np.isfinite(loss))
            if len(known) < _FEWEST:
                continue
            tested += len(known)
            for n in known:
                frame = field.frames[band.members[n]]
                error = _MAG * float(band.error[n])
                worst = max(worst, float(loss[n]))
                if loss[n] > max(_HAZE, _SIGMAS * error):
                    found.append(_cloudy(frame, float(loss[n]), error, field, band))
    if not tested:
        yield untested("clouds", "no three frames show the same stars in one filter")
    elif not found:
        meaning = f"stars of {counted(tested, 'frame')} lose at most {worst:.2f} mag against the best of the night"
        yield Verdict(
            test="clouds", status="good", meaning=meaning, value=worst, unit="mag", evidence=_light(material.fields)
        )
    yield from found


def _losses(field: Field, band: Band, wrong: Collection[str] = ()) -> NDArray[np.float64]:
    """Magnitudes that the stars lose against the best frames, beyond usual extinction; NaN where not matched.

    Frames whose exposure time is wrong are left out.
    """
    airmass = np.array([field.frames[n].airmass or np.nan for n in band.members])
    extra = np.where(np.isfinite(airmass), airmass, np.nanmin(airmass) if np.isfinite(airmass).any() else 1.0)
    light = _MAG * band.zero + _EXTINCTION * (extra - extra.min())
    light[[field.frames[n].name in wrong for n in band.members]] = np.nan
    known = light[np.isfinite(light)]
    if known.size == 0:
        return np.asarray(light)
    best = float(np.quantile(known, 0.9)) if known.size >= 10 else float(known.max())
    return np.asarray(best - light)


def _cloudy(frame: FrameFacts, loss: float, error: float, field: Field, band: Band) -> Verdict:
    lost = 1 - 10 ** (-0.4 * loss)
    return Verdict(
        test="clouds",
        status="bad" if loss > _CLOUD else "doubtful",
        where=frame.name,
        meaning=f"its stars are {loss:.2f} mag fainter than in the best frames: {percent(lost)} of the light is lost",
        value=loss,
        error=error,
        expected=0.0,
        unit="mag",
        fix="compare stars within the frame only, or leave it out",
        evidence=_light([field]),
    )


def _light(fields: Sequence[Field]) -> Evidence:
    """Magnitudes lost against the order of the frames, each filter with its own marks."""
    series: list[Series] = []
    names: list[str] = []
    for field in fields:
        for band in field.bands:
            loss = _losses(field, band)
            good = np.isfinite(loss)
            if good.sum() < _FEWEST:
                continue
            places = len(names) + np.flatnonzero(good)
            series.append(Series(f"{field.name} {band.filter or ''}", places, -loss[good], _MAG * band.error[good]))
            names += [field.frames[n].name for n in band.members]
    shown = names if len(names) <= 60 else []
    return Evidence(x_label="frame", y_label="light of the stars (mag, 0 is the best)", series=series, names=shown)


def filters(material: Material) -> Iterator[Verdict]:
    """Whether the colours of the stars are those of the filter that the header names."""
    found: list[Verdict] = []
    tested = 0
    for field in material.fields:
        for band in field.bands:
            spreads = {int(n): _scatter(field, int(n), band) for n in band.members}
            for n, own in spreads.items():
                if not math.isfinite(own):
                    continue
                tested += 1
                others = [value for m, value in spreads.items() if m != n and math.isfinite(value)]
                verdict = _other_filter(field, n, band, own, others)
                if verdict is not None:
                    found.append(verdict)
    if not tested:
        yield untested("filter", "no frame can be compared with another of its field and filter")
    elif not found:
        meaning = f"the colours of the stars in {counted(tested, 'frame')} are those of the filters in the headers"
        yield Verdict(test="filter", status="good", meaning=meaning)
    yield from found


def _scatter(field: Field, index: int, band: Band) -> float:
    """Scatter of the stars of a frame against the other frames of a band, beyond their noise; NaN if too few."""
    if not any(n != index for n in band.members):
        return math.nan
    away, error = field.residuals(index, band)
    good = error < 0.05
    if good.sum() < _STARS:
        return math.nan
    noise = float(np.median(error[good])) * math.sqrt(1 + 1 / max(len(band.members) - 1, 1))
    return math.sqrt(max(mad_sigma(away[good]) ** 2 - noise**2, 0.0))


def _other_filter(field: Field, index: int, band: Band, own: float, others: Sequence[float]) -> Verdict | None:
    if own < _COLOURS:
        return None
    frame = field.frames[index]
    rivals = [(_scatter(field, index, other), other) for other in field.bands if other is not band]
    rivals = [pair for pair in rivals if math.isfinite(pair[0])]
    best = min(rivals, key=lambda pair: pair[0], default=None)
    said = f"the header says {band.filter!r}, but the stars scatter by {_MAG * own:.2f} mag against those frames"
    fits = best is not None and best[0] < _CLEARER * own
    usual = float(np.median(others)) if others else math.nan
    if not fits and not (own > _ODDER * usual and _as_sharp(field, frame, band)):
        return None
    more = f", and by {_MAG * best[0]:.2f} mag against {best[1].filter!r}: it is that filter" if fits and best else ""
    if not fits:
        more = f", the other frames by {_MAG * usual:.2f} mag among themselves: another filter, or another flat"
    return Verdict(
        test="filter",
        status="bad" if fits else "doubtful",
        where=frame.name,
        meaning=said + more,
        value=_MAG * own,
        expected=_MAG * usual if math.isfinite(usual) else None,
        unit="mag",
        fix=f"correct the filter in the header of {frame.name}",
        evidence=_colours(field, index, band, best[1] if fits and best else None),
    )


def _as_sharp(field: Field, frame: FrameFacts, band: Band) -> bool:
    """Whether the stars are as wide as in the other frames: where they are not, neighbours fall into apertures."""
    usual = float(np.median([field.frames[n].fwhm for n in band.members]))
    return abs(frame.fwhm / usual - 1) < _WIDER and not frame.hollow > _WIDER


def _colours(field: Field, index: int, band: Band, right: Band | None) -> Evidence:
    """Magnitudes of the frame less those of a band, against the magnitude."""
    series = []
    for other in filter(None, (band, right)):
        others = other.members[other.members != index]
        if len(others) == 0:
            continue
        away = field.rates[:, index] - other.stars
        good = np.isfinite(away)
        magnitude = -_MAG * field.rates[good, index]
        series.append(Series(f"against {other.filter}", magnitude, -_MAG * (away[good] - np.median(away[good]))))
    return Evidence(
        x_label="instrumental magnitude", y_label="magnitude less that of the same star (mag)", series=series
    )


def pointing(material: Material) -> Iterator[Verdict]:
    """Whether the stars of a frame are those of the field that its header names, where it says they are."""
    found: list[Verdict] = []
    tested = 0
    for field in material.fields:
        others = [n for n in range(len(field.frames)) if n != field.reference and field.enough(n)]
        tested += len(others)
        found += [_elsewhere(field, n, material.fields) for n in others if field.offsets[n] is None]
        found += _misplaced(field)
    if found:
        yield from found
    elif tested:
        turned = [field.frames[n].name for field in material.fields for n, turn in enumerate(field.turned) if turn]
        more = f"; turned by 180° (a meridian flip): {listed(turned)}" if turned else ""
        meaning = f"the stars of {counted(tested, 'frame')} match those of the field that the headers name{more}"
        yield Verdict(test="pointing", status="good", meaning=meaning)
    else:
        yield untested("pointing", "no field was observed twice with enough stars to match")


def _elsewhere(field: Field, index: int, fields: Sequence[Field]) -> Verdict:
    frame, base = field.frames[index], field.frames[field.reference]
    there = [other.name for other in fields if other is not field and _shows(frame, other.frames[other.reference])]
    hint = f"; they match {there[0]}" if there else ""
    return Verdict(
        test="pointing",
        status="bad",
        where=frame.name,
        meaning=(
            f"its {len(frame.stars.x)} stars do not match the {len(base.stars.x)} of {base.name}, "
            f"though both claim to show {field.name}{hint}"
        ),
        fix=f"correct OBJECT, RA and DEC of {frame.name}, or leave it out",
        evidence=_places(frame, base),
    )


def _shows(frame: FrameFacts, base: FrameFacts) -> bool:
    return vote_offset(base.stars.x, base.stars.y, frame.stars.x, frame.stars.y) is not None


def _misplaced(field: Field) -> Iterator[Verdict]:
    """Frames whose WCS is off against their stars; if most are, it is the reference whose WCS is wrong."""
    base = field.frames[field.reference]
    away: dict[int, tuple[float, float]] = {}
    for n, (frame, offset) in enumerate(zip(field.frames, field.offsets, strict=True)):
        if n == field.reference or offset is None or field.turned[n]:
            continue
        if frame.center is None or base.center is None or not frame.scale or not base.scale:
            continue
        by_stars = math.hypot(offset.dx, offset.dy) * base.scale
        away[n] = (_separation(frame.center, base.center), by_stars)
    limit = max(_APART, _PART * max(base.shape) * (base.scale or 0.0))
    wrong = {n: pair for n, pair in away.items() if abs(pair[0] - pair[1]) > limit}
    if len(wrong) > 1 and len(wrong) > len(away) / 2:
        pair = next(iter(wrong.values()))
        wrong = {field.reference: pair}
    for n, (said, told) in wrong.items():
        frame = field.frames[n]
        yield Verdict(
            test="pointing",
            status="bad",
            where=frame.name,
            meaning=(
                f"its header puts it {_angle(said)} from the other frames of {field.name}, its stars are "
                f"{_angle(told)} from theirs"
            ),
            value=said,
            expected=told,
            unit="arcsec",
            fix=f"correct the WCS, or RA and DEC, of {frame.name}",
        )


def _angle(arcseconds: float) -> str:
    return f'{arcseconds:.0f}"' if arcseconds < 120 else f"{arcseconds / 60:.1f}'"


def _separation(one: tuple[float, float], two: tuple[float, float]) -> float:
    """Arcseconds between two places in degrees."""
    (ra1, dec1), (ra2, dec2) = np.radians(one), np.radians(two)
    half = math.sin((dec1 - dec2) / 2) ** 2 + math.cos(dec1) * math.cos(dec2) * math.sin((ra1 - ra2) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(half)))) * 3600


def _places(frame: FrameFacts, base: FrameFacts) -> Evidence:
    series = [Series(one.name, one.stars.x[:200], one.stars.y[:200]) for one in (base, frame)]
    return Evidence(x_label="x (pixels)", y_label="y (pixels)", series=series)
