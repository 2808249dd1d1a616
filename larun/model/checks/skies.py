"""The sky of each frame: its brightness and gradient, cosmic rays, and what crosses it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from larun.algorithms.robust import mad_sigma
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.checks.words import counted, percent

__all__ = ["cosmic_rays", "satellite_trails", "sky"]

_FEWEST = 3
_TIMES = 2.2  # the median sky of the filter: the Moon and an hour of dusk do less
_SIGMAS = 5.0
_STEEP = 0.35  # of the level from edge to edge: moonlight is less
_SEEN = 20.0  # electrons: of a fainter sky no gradient is told
_STORM = 4.0  # times the other frames
_PIXELS = 4.0  # that a ray hits
_LEAST = 150  # pixels more than usual
_PLAUSIBLE = 60.0  # rays per cm² and minute: 1 to 5 at sea level, a few times that in thick chips and on mountains
_PIXEL_CM = 15e-4  # where no header says how large a pixel is


def sky(material: Material) -> Iterator[Verdict]:
    """The sky of each frame against the others of its filter, and its gradient."""
    groups: dict[str | None, list[FrameFacts]] = defaultdict(list)
    for one in material.facts:
        if one.exposure and math.isfinite(one.sky.level):
            groups[one.filter].append(one)
    if not groups:
        yield untested("sky", "there are no science frames with an exposure time")
        return
    evidence = _rates(groups)
    found = [verdict for those in groups.values() for verdict in (*_brightness(those, evidence), *_gradients(those))]
    if not found:
        frames = [one for those in groups.values() for one in those]
        steepest = max((_steep(one) for one in frames if math.isfinite(_steep(one))), default=0.0)
        levels = ", ".join(
            f"{np.median([one.sky.level / (one.exposure or math.nan) for one in those]):.2f} e-/s in {name}"
            for name, those in sorted(groups.items(), key=lambda item: str(item[0]))
        )
        meaning = f"{levels}; no frame stands out, no gradient above {percent(steepest)} of the sky"
        yield Verdict(test="sky", status="good", meaning=meaning, evidence=evidence)
    yield from found


def _brightness(frames: Sequence[FrameFacts], evidence: Evidence) -> Iterator[Verdict]:
    bright = [one for one in frames if one.sky.level > 0]
    if len(bright) < _FEWEST:
        return
    rate = np.array([math.log(one.sky.level / (one.exposure or math.nan)) for one in bright])
    usual = float(np.median(rate))
    limit = max(math.log(_TIMES), _SIGMAS * mad_sigma(rate))
    for one, value in zip(bright, rate, strict=True):
        if abs(value - usual) > limit:
            times = math.exp(value - usual)
            why = "the Moon, twilight, a lamp, or a wrong exposure time" if times > 1 else "a wrong exposure time?"
            yield Verdict(
                test="sky",
                status="doubtful",
                where=one.name,
                meaning=f"{math.exp(value):.2f} e-/s of sky, {times:.2g} times the other frames in {one.filter}: {why}",
                value=math.exp(value),
                expected=math.exp(usual),
                unit="electron/s",
                fix="look at the frame; its faint stars are noisier",
                evidence=evidence,
            )


def _gradients(frames: Sequence[FrameFacts]) -> Iterator[Verdict]:
    for one in frames:
        if one.sky.level > _SEEN and _steep(one) > _STEEP:
            angle = math.degrees(math.atan2(one.sky.gradient[1], one.sky.gradient[0]))
            yield Verdict(
                test="sky",
                status="doubtful",
                where=one.name,
                meaning=f"the sky changes by {percent(_steep(one))} from edge to edge, at {angle % 360:.0f}° from +x",
                value=_steep(one),
                expected=0.0,
                fix="a smaller mesh (--set detect.mesh=32), or look for stray light",
                evidence=Evidence(x_label="x (cells)", y_label="y (cells)", image=one.sky.cells),
            )


def _steep(one: FrameFacts) -> float:
    return math.hypot(*one.sky.gradient)


def _rates(groups: dict[str | None, list[FrameFacts]]) -> Evidence:
    frames = [one for those in groups.values() for one in those]
    place = {one.name: n for n, one in enumerate(frames)}
    series = [
        Series(
            str(name), [place[one.name] for one in those], [one.sky.level / (one.exposure or math.nan) for one in those]
        )
        for name, those in groups.items()
    ]
    names = [one.name for one in frames] if len(frames) <= 60 else []
    return Evidence(x_label="frame", y_label="sky (electrons per second)", series=series, names=names)


def cosmic_rays(material: Material) -> Iterator[Verdict]:
    """Pixels that cosmic rays hit, against the other frames and against what falls on Earth."""
    frames = [one for one in material.facts if one.exposure]
    if not frames or not any(one.cosmic_pixels for one in frames):
        yield untested("cosmic rays", "none were looked for, or there is no exposure time")
        return
    rates = np.array([_rays(one) for one in frames])
    usual = float(np.median(rates))
    pixels = float(np.median([one.cosmic_pixels for one in frames]))
    evidence = Evidence(
        x_label="frame",
        y_label="cosmic rays per cm² and minute, for pixels of 15 µm",
        series=[Series("frames", range(len(frames)), rates)],
        names=[one.name for one in frames] if len(frames) <= 60 else [],
    )
    storms = [n for n, one in enumerate(frames) if _stormy(one, float(rates[n]), usual, pixels, len(frames))]
    if not storms:
        meaning = f"about {usual:.1f} rays per cm² and minute, for pixels of 15 µm; no frame stands out"
        yield Verdict(
            test="cosmic rays", status="good", meaning=meaning, value=usual, unit="/cm²/min", evidence=evidence
        )
    for n in storms:
        one = frames[n]
        times = f", {rates[n] / usual:.1f} times the other frames" if len(frames) >= _FEWEST else ""
        yield Verdict(
            test="cosmic rays",
            status="doubtful",
            where=one.name,
            meaning=(
                f"{one.cosmic_pixels} pixels in {one.exposure:g} s, about {rates[n]:.0f} rays per cm² and minute{times}"
                ": a storm, or something else that is sharp (stars, bad pixels)"
            ),
            value=float(rates[n]),
            expected=usual,
            unit="/cm²/min",
            fix="look at the frame; --set clean.… if stars are eaten",
            evidence=evidence,
        )


def _rays(one: FrameFacts) -> float:
    area = one.shape[0] * one.shape[1] * _PIXEL_CM**2
    return one.cosmic_pixels / _PIXELS / area / ((one.exposure or math.nan) / 60)


def _stormy(one: FrameFacts, rate: float, usual: float, pixels: float, count: int) -> bool:
    """More than usual, whether false ones grow with the time or not; or more than there are."""
    expected = max(usual / max(rate, 1e-9) * one.cosmic_pixels, pixels)
    more = one.cosmic_pixels - expected
    if count >= _FEWEST and more > max(_LEAST, (_STORM - 1) * expected, _SIGMAS * math.sqrt(expected * _PIXELS)):
        return True
    return rate > _PLAUSIBLE and one.cosmic_pixels > 2 * _LEAST and (count < _FEWEST or rate > 2 * usual)


def satellite_trails(material: Material) -> Iterator[Verdict]:
    """Straight streaks across the frames."""
    if not material.facts:
        yield untested("satellite trails", "there are no science frames")
        return
    crossed = [one for one in material.facts if one.sky.streaks]
    if not crossed:
        meaning = f"no straight streak crosses {counted(len(material.facts), 'frame')}"
        yield Verdict(test="satellite trails", status="good", meaning=meaning, value=0.0)
    for one in crossed:
        best = one.sky.streaks[0]
        more = f", and {counted(len(one.sky.streaks) - 1, 'more')}" if len(one.sky.streaks) > 1 else ""
        yield Verdict(
            test="satellite trails",
            status="doubtful",
            where=one.name,
            meaning=(
                f"a streak from ({best.x1:.0f}, {best.y1:.0f}) to ({best.x2:.0f}, {best.y2:.0f}), at {best.angle:.0f}°"
                f", {best.sigma:.0f} σ, about {best.brightness:.0f} e- per pixel of its length{more}"
            ),
            value=best.sigma,
            unit="sigma",
            fix="leave out the stars on it",
            evidence=_streaks(one),
        )


def _streaks(one: FrameFacts) -> Evidence:
    series = [
        Series(f"{s.angle:.0f}°, {s.sigma:.0f} σ", [s.x1, s.x2], [s.y1, s.y2], line=True) for s in one.sky.streaks
    ]
    stars = Series("stars", one.stars.x, one.stars.y)
    return Evidence(x_label="x (pixels)", y_label="y (pixels)", series=[*series, stars])
