"""The shapes of the stars: focus and trailing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from larun.algorithms.robust import mad_sigma
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.checks.words import counted, percent

__all__ = ["focus", "trailing"]

_FEWEST = 3
_SEEING = 0.6  # power of the air mass that the seeing grows with (Kolmogorov)
_BLURRED, _UNFOCUSED = math.log(1.45), math.log(1.8)  # over the median of the night
_SIGMAS = 5.0  # of the scatter of the night
_HOLLOW = 0.25  # of the light, missing in the middle of the stars
_EVERYWHERE = 0.6  # of the frames: then it is the night that trails
_LONG, _TRAILED = 0.14, 0.2  # common ellipticity


def focus(material: Material) -> Iterator[Verdict]:
    """The size of the stars of each frame against the night's, at the same air mass."""
    rings = [one for one in material.facts if one.hollow > _HOLLOW]
    yield from map(_ring, rings)
    frames = [one for one in material.facts if one.fwhm > 0]
    if len(frames) < _FEWEST:
        if rings:
            return
        yield untested("focus", f"the stars were measured in {counted(len(frames), 'frame')}: three are needed")
        return
    size = np.array([math.log(one.fwhm) - _SEEING * math.log(one.airmass or 1.0) for one in frames])
    usual = float(np.median(size))
    scatter = mad_sigma(size)
    limit = min(max(_BLURRED, _SIGMAS * scatter), _UNFOCUSED)
    typical = float(np.median([one.fwhm for one in frames]))
    evidence = _evidence(frames, "FWHM of the stars (pixels)", [one.fwhm for one in frames])
    wide = [n for n in range(len(frames)) if size[n] - usual > limit]
    wide = [n for n in wide if frames[n] not in rings]
    if not wide and not rings:
        meaning = f"the stars of {counted(len(frames), 'frame')} are {typical:.2f} pixels wide, ± {100 * scatter:.0f} %"
        yield Verdict(
            test="focus",
            status="good",
            meaning=meaning,
            value=typical,
            error=typical * scatter,
            unit="pixels",
            evidence=evidence,
        )
    for n in wide:
        one, times = frames[n], math.exp(size[n] - usual)
        yield Verdict(
            test="focus",
            status="bad" if size[n] - usual > _UNFOCUSED else "doubtful",
            where=one.name,
            meaning=f"its stars are {one.fwhm:.1f} pixels wide, {times:.1f} times the night's: out of focus, or seeing",
            value=one.fwhm,
            expected=typical,
            unit="pixels",
            fix="leave it out, or out of a stack",
            evidence=evidence,
        )


def _ring(one: FrameFacts) -> Verdict:
    return Verdict(
        test="focus",
        status="bad",
        where=one.name,
        meaning=f"its stars are rings: {percent(one.hollow)} of the light is missing in their middle, out of focus",
        value=one.hollow,
        expected=0.0,
        fix="leave it out, or large apertures",
    )


def trailing(material: Material) -> Iterator[Verdict]:
    """Whether the stars of a frame are drawn out in one direction."""
    frames = [one for one in material.facts if math.isfinite(one.alignment)]
    if not frames:
        yield untested("trailing", "no frame has enough bright stars to tell their shape")
        return
    evidence = _evidence(frames, "ellipticity that the stars have in common", [one.alignment for one in frames])
    drawn = [one for one in frames if one.alignment > max(_LONG, _SIGMAS * _error(one))]
    if not drawn:
        worst = max(frames, key=lambda one: one.alignment)
        yield Verdict(
            test="trailing",
            status="good",
            meaning=f"the stars have an ellipticity in common of at most {worst.alignment:.3f} ({worst.name})",
            value=worst.alignment,
            error=_error(worst),
            expected=0.0,
            evidence=evidence,
        )
    if len(drawn) > _EVERYWHERE * len(frames) and len(frames) >= _FEWEST:
        yield _all_drawn(drawn, len(frames), evidence)
        common = np.array([one.alignment for one in drawn])
        limit = float(np.median(common)) + max(_LONG, _SIGMAS * mad_sigma(common))
        drawn = [one for one in drawn if one.alignment > limit]
    for one in drawn:
        yield Verdict(
            test="trailing",
            status="bad" if one.alignment > _TRAILED else "doubtful",
            where=one.name,
            meaning=(
                f"its stars are drawn out at {round(one.theta) % 180}° from +x, by a common ellipticity of "
                f"{one.alignment:.3f} ± {_error(one):.3f}: the telescope moved"
            ),
            value=one.alignment,
            error=_error(one),
            expected=0.0,
            fix="larger apertures, or leave it out",
            evidence=evidence,
        )


def _all_drawn(drawn: Sequence[FrameFacts], count: int, evidence: Evidence) -> Verdict:
    """A night that trails as a whole: where most frames are alike it is told once."""
    common = [one.alignment for one in drawn]
    angle = np.angle(np.mean([one.alignment * np.exp(2j * math.radians(one.theta)) for one in drawn]), deg=True) / 2
    typical = float(np.median(common))
    return Verdict(
        test="trailing",
        status="bad" if typical > _TRAILED else "doubtful",
        meaning=(
            f"the stars of {len(drawn)} of {count} frames are drawn out at about {round(angle) % 180}° from +x, by a "
            f"common ellipticity of {typical:.2f}, up to {max(common):.2f} ({drawn[int(np.argmax(common))].name}): "
            "tracking, the polar axis, or the optics"
        ),
        value=typical,
        error=mad_sigma(np.array(common)),
        expected=0.0,
        fix="larger apertures",
        evidence=evidence,
    )


def _error(one: FrameFacts) -> float:
    """Of the common ellipticity: what stars of random angles would have."""
    count = max(5, len(one.stars.x) // 2)
    shapes = one.stars.ellipticity[:count] * np.exp(2j * np.deg2rad(one.stars.theta[:count]))
    shapes = shapes[np.isfinite(shapes)]
    if shapes.size < 2:
        return math.inf
    scatter = math.hypot(mad_sigma(shapes.real), mad_sigma(shapes.imag)) / math.sqrt(2)
    return max(scatter, 0.01) / math.sqrt(shapes.size)


def _evidence(frames: Sequence[FrameFacts], label: str, values: Sequence[float]) -> Evidence:
    names = [one.name for one in frames] if len(frames) <= 60 else []
    return Evidence(x_label="frame", y_label=label, series=[Series("frames", range(len(values)), values)], names=names)
