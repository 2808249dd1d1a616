"""Headers against pixels: whether a bias is dark, a flat bright, a science frame exposed; and copies of a file."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from larun.model.checks.material import Material
from larun.model.checks.rawfacts import RawFacts
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.checks.words import counted, listed

__all__ = ["duplicates", "kind"]

_STARS = 5  # in a frame that should have none: dust, warm pixels and cosmic rays that look like one are rarer
_RAYS = 0.3  # a second: cosmic rays in a thick chip spread their charge, and some look like stars
_MORE = 4.0  # times the other darks
_LIT = 10.0  # times the read noise
_DARK = 3.0  # times the read noise
_NOISIER = 1.25  # times the noise without light: photons of that level make more
_FAINT_FLAT = 0.2  # of the median flat of its filter
_BRIGHT_SKY = 5.0  # times the median science frame
_SAID = re.compile(r"^(\w[\w -]*='[^']*') with \w+=0$|^(\w[\w -]*='[^']*'), but ")


class _Zero(NamedTuple):
    """What frames of one format look like without light: level and noise, ADU; NaN where nothing tells."""

    level: float
    noise: float


def kind(material: Material) -> Iterator[Verdict]:
    """What each exposure is by its header, against its pixels; and what its header's own words get wrong."""
    if not material.raw:
        yield untested("kind", "there are no raw frames: only their headers and pixels together tell")
        return
    wrong: dict[str, Verdict] = {}
    for facts in _formats(material.raw):
        zero = _zero(facts)
        for one in facts:
            said = _fault(one, facts, zero)
            if said:
                wrong[one.name] = _misnamed(one, said, zero, facts)
    counts: dict[str, int] = defaultdict(int)
    for one in material.raw:
        counts[one.item.kind] += one.name not in wrong
    told = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()) if number)
    if told:
        meaning = f"{told} frames: their pixels are those of such frames"
        yield Verdict(test="kind", status="good", meaning=meaning, evidence=_evidence(material.raw))
    yield from wrong.values()
    yield from _words(material.raw, wrong)


def duplicates(material: Material) -> Iterator[Verdict]:
    """Exposures whose pixels are the same to the last bit."""
    if not material.raw:
        yield untested("duplicates", "there are no raw frames whose pixels could be compared")
        return
    found: dict[str, list[RawFacts]] = defaultdict(list)
    for one in material.raw:
        found[one.digest].append(one)
    copies = [same for digest, same in found.items() if digest and len(same) > 1]
    if not copies:
        meaning = f"no two of {len(material.raw)} exposures have the same pixels"
        yield Verdict(test="duplicates", status="good", meaning=meaning, value=0.0)
    for same in copies:
        names = [one.name for one in same]
        kinds = {one.item.kind for one in same}
        what = "their headers differ in what they are" if len(kinds) > 1 else "counted twice, noise seems smaller"
        yield Verdict(
            test="duplicates",
            status="bad",
            where=names[-1],
            meaning=f"{listed(names)} have the same pixels to the last bit: {what}",
            value=float(len(same)),
            fix=f"remove all but one of {listed(names)}",
        )


def _formats(raw: Iterable[RawFacts]) -> list[list[RawFacts]]:
    """Exposures that can be compared with each other."""
    made: dict[tuple[str, ...], list[RawFacts]] = defaultdict(list)
    for one in raw:
        made[one.format].append(one)
    return list(made.values())


def _zero(facts: Sequence[RawFacts]) -> _Zero:
    """Level and noise without light: of the bias frames, else the overscan's, else the darkest calibration frame's.

    Of several bias frames the lower half is trusted: one with light in it must not hide itself.
    """
    bias = [one for one in facts if one.item.kind == "bias"]
    if bias:
        half = max(1, (len(bias) + 1) // 2)
        noise = float(np.median(sorted(one.noise for one in bias)[:half]))
        overscan = [one.overscan_noise for one in bias if one.overscan_noise]
        if overscan and noise > 2 * float(np.median(overscan)):  # none of them is a bias
            return _Zero(0.0 if bias[0].zeroed else math.nan, float(np.median(overscan)))
        return _Zero(float(np.median(sorted(one.level for one in bias)[:half])), noise)
    overscan = [one.overscan_noise for one in facts if one.overscan_noise]
    if overscan and all(one.zeroed for one in facts):
        return _Zero(0.0, float(np.median(overscan)))
    dark = [one for one in facts if one.item.kind == "dark"]
    if dark:
        return _Zero(min(one.level for one in dark), min(one.noise for one in dark))
    return _Zero(math.nan, math.nan)


def _fault(one: RawFacts, facts: Sequence[RawFacts], zero: _Zero) -> str:
    """Why the pixels are not those of such a frame; empty if they may be."""
    light = one.level - zero.level
    peers = [other for other in facts if other.item.kind == one.item.kind and other is not one]
    if one.item.kind == "bias":
        return _lit(one, light, zero)
    if one.item.kind == "dark":
        same = [other for other in peers if other.item.exposure == one.item.exposure]
        return _not_dark(one, same, zero)
    if one.item.kind == "flat":
        same = [other for other in peers if other.item.filter == one.item.filter]
        return _no_flat(one, light, same, zero)
    return _no_sky(one, light, peers, [other for other in facts if other.item.kind == "flat"], zero)


def _lit(one: RawFacts, light: float, zero: _Zero) -> str:
    if one.stars >= _STARS:
        return f"holds {one.stars} stars"
    if light > _LIT * zero.noise and one.noise > _NOISIER * zero.noise:
        return f"holds {light:.0f} ADU of light, with a noise of {one.noise:.1f} ADU against {zero.noise:.1f} without"
    return ""


def _not_dark(one: RawFacts, peers: Sequence[RawFacts], zero: _Zero) -> str:
    usual = float(np.median([other.stars for other in peers])) if len(peers) > 1 else math.nan
    rays = _RAYS * (one.item.exposure or 0.0)
    if one.stars >= _STARS + (rays if math.isnan(usual) else _MORE * usual):
        return f"holds {one.stars} stars"
    if not peers:
        return ""
    level = float(np.median([other.level for other in peers]))
    noise = float(np.median([other.noise for other in peers]))
    quiet = zero.noise if math.isfinite(zero.noise) else noise
    if one.level - level > _LIT * quiet and one.noise > _NOISIER * noise:
        return f"has {one.level - level:.0f} ADU more than the other darks of {one.item.exposure:g} s: light"
    return ""


def _no_flat(one: RawFacts, light: float, peers: Sequence[RawFacts], zero: _Zero) -> str:
    if light < _DARK * zero.noise and one.noise < _NOISIER * zero.noise:
        return f"has no light: {light:.1f} ADU, and a noise of {one.noise:.1f} ADU as without light"
    if not peers:
        return ""
    usual = float(np.median([other.level for other in peers])) - (zero.level if math.isfinite(zero.level) else 0.0)
    if one.stars >= _STARS and light < _FAINT_FLAT * usual:
        return f"holds {one.stars} stars on {light:.0f} ADU where the other flats have {usual:.0f} ADU: a science frame"
    return ""


def _no_sky(one: RawFacts, light: float, peers: Sequence[RawFacts], flats: Sequence[RawFacts], zero: _Zero) -> str:
    if one.stars == 0 and light < _DARK * zero.noise and one.noise < _NOISIER * zero.noise:
        return f"has neither sky nor stars: {light:.1f} ADU, and a noise of {one.noise:.1f} ADU as without light"
    usual = float(np.median([other.level for other in peers])) - zero.level if len(peers) >= 2 else math.nan
    stars = float(np.median([other.stars for other in peers])) if peers else 0.0
    flat = float(np.median([other.level for other in flats])) - zero.level if flats else math.nan
    bright = light > _BRIGHT_SKY * usual or (math.isnan(usual) and light > 0.3 * flat)
    if bright and one.stars < _STARS and (stars >= 2 * _STARS or light > 0.3 * flat):
        against = f"where the others have {usual:.0f}" if math.isfinite(usual) else f"as the flats, {flat:.0f}"
        return f"has {light:.0f} ADU of light {against}, and no stars: a flat or daylight"
    return ""


def _misnamed(one: RawFacts, said: str, zero: _Zero, facts: Sequence[RawFacts]) -> Verdict:
    return Verdict(
        test="kind",
        status="bad",
        where=one.name,
        meaning=f"{one.item.evidence}: taken for a {one.item.kind} frame, but it {said}",
        value=one.level - zero.level if math.isfinite(zero.level) else one.level,
        unit="adu",
        fix=f"correct the image type of {one.item.path.name}, or leave it out",
        evidence=_evidence(facts),
    )


def _words(raw: Sequence[RawFacts], wrong: dict[str, Verdict]) -> Iterator[Verdict]:
    """Where the header names another kind than the frame is, by its own other cards and by its pixels."""
    found: dict[tuple[str, str, str], list[RawFacts]] = defaultdict(list)
    for one in raw:
        match = _SAID.match(one.item.evidence)
        if match and one.name not in wrong:
            found[match[1] or match[2], one.item.kind, one.item.evidence].append(one)
    for (said, name, evidence), those in found.items():
        light = float(np.median([one.level for one in those]))
        noise = float(np.median([one.noise for one in those]))
        above = " above the overscan" if all(one.zeroed for one in those) else ""
        card = said[: said.find("=")]
        yield Verdict(
            test="kind",
            status="doubtful",
            where=f"{name} frames that say {said}",
            meaning=(
                f"{counted(len(those), 'file')} say {said}, but are {name} frames ({evidence}); their pixels agree: "
                f"a level of {light:.0f} ADU{above}, and a noise of {noise:.1f} ADU from pixel to pixel"
            ),
            value=float(len(those)),
            fix=f"nothing: larun takes them for {name} frames; correct {card} for other programs",
        )


def _evidence(facts: Sequence[RawFacts]) -> Evidence:
    """Noise against level, each kind with its own marks."""
    series = []
    for name in ("bias", "dark", "flat", "science"):
        those = [one for one in facts if one.item.kind == name]
        if those:
            level = np.maximum([one.level for one in those], 1.0)
            series.append(Series(name, level, [max(one.noise, 0.1) for one in those]))
    return Evidence(x_label="level (ADU)", y_label="pixel-to-pixel noise (ADU)", series=series, log="xy")
