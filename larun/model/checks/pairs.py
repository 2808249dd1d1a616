"""Differences of two frames, in which all that they share is gone: test ``frame pairs``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from larun.algorithms.pixelnoise import clipped_variance
from larun.algorithms.robust import Estimate, mad_sigma
from larun.model.checks.common import combined
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, judge, untested

__all__ = ["frame_pairs"]

_TEST = "frame pairs"
_TOLERANCE = 0.05  # of σ
_LEAST = 500  # pixels
_KEEP = 3.0
_CORRELATED = 1e-6
_PATTERN = 0.2  # of the frame's own variance


class _Pair(NamedTuple):
    names: tuple[str, str]
    scatter: Estimate  # of differences over their σ
    pattern: Estimate  # variance that is the same in both, electrons²
    shared: float  # what the masters' noise says of it
    own: float  # variance of one frame


def frame_pairs(material: Material) -> Iterator[Verdict]:
    """Differences of frames that follow each other, pixel by pixel outside stars, over the noise they do not share.

    Bias, dark and flat are the same in both, so that their noise goes as the fixed pattern does; it is tested against
    each frame's own variance alone.
    """
    if not material.facts:
        yield untested(_TEST, "there is no calibrated science frame")
        return
    made = False
    for name, frames in _alike(material.facts).items():
        if len(frames) < 2:
            continue
        made = True
        if any(abs(item.noise.expected_correlation) > _CORRELATED for item in frames):
            yield untested(_TEST, "the frames were resampled: their pixels are not those of the chip", name)
            continue
        smooth = [item for item in frames if not item.noise.structured]
        if len(smooth) < 2:
            yield untested(_TEST, "the sky between the sources is not smooth: it changes with the seeing", name)
            continue
        pairs = [pair for one, two in _couples(smooth) if (pair := _pair(one, two)) is not None]
        if not pairs:
            yield untested(_TEST, "too few pixels are free of sources in two frames", name)
            continue
        yield from _verdicts(name, pairs)
    if not made:
        yield untested(_TEST, "no two frames have the same filter, exposure and masters")


def _alike(facts: Iterable[FrameFacts]) -> dict[str, list[FrameFacts]]:
    """Frames of one filter, exposure, shape and the same masters; of several sets of masters the largest."""
    groups: dict[tuple[object, ...], list[FrameFacts]] = {}
    for item in facts:
        groups.setdefault((_name(item), item.shape, item.noise.sample.masters), []).append(item)
    named: dict[str, list[FrameFacts]] = {}
    for frames in groups.values():
        name = _name(frames[0])
        if len(frames) > len(named.get(name, ())):
            named[name] = frames
    return named


def _name(item: FrameFacts) -> str:
    exposure = None if item.exposure is None else f"{round(item.exposure, 2):g} s"
    return ", ".join(part for part in (item.filter, exposure) if part)


def _couples(frames: list[FrameFacts]) -> Iterator[tuple[FrameFacts, FrameFacts]]:
    """Each frame with the next, none twice; the last of an odd number with the first."""
    for k in range(0, len(frames) - 1, 2):
        yield frames[k], frames[k + 1]
    if len(frames) % 2 and len(frames) > 1:
        yield frames[-1], frames[0]


def _pair(one: FrameFacts, two: FrameFacts) -> _Pair | None:
    a, b = one.noise.sample, two.noise.sample
    own = a.variance.astype(np.float64), b.variance.astype(np.float64)
    first, second = a.residual.astype(np.float64), b.residual.astype(np.float64)
    known = np.isfinite(first) & np.isfinite(second) & (own[0] > 0) & (own[1] > 0)
    if known.sum() < _LEAST:
        return None
    first, second = first[known], second[known]
    one_v, two_v = own[0][known], own[1][known]
    difference = (first - second) / np.sqrt(one_v + two_v)
    difference = difference - np.median(difference)
    variance = clipped_variance(difference)
    number = len(difference)
    scatter = math.sqrt(variance)
    # the clip throws a few per cent of the information away
    error = 1.06 * scatter / math.sqrt(2 * number)
    inside = np.abs(difference) <= _KEEP * scatter
    for part, v in ((first, one_v), (second, two_v)):
        size = np.abs(part - np.median(part)) / np.sqrt(v)
        inside &= size <= 4 * max(mad_sigma(size, 0.0), 1e-9)
    product = (first[inside] - np.mean(first[inside])) * (second[inside] - np.mean(second[inside]))
    pattern = Estimate(float(np.mean(product)), float(np.std(product)) / math.sqrt(max(len(product), 1)))
    shared = math.sqrt(a.shared * b.shared)
    return _Pair((one.name, two.name), Estimate(scatter, error), pattern, shared, float(np.median((one_v + two_v) / 2)))


def _verdicts(name: str, pairs: list[_Pair]) -> Iterator[Verdict]:
    scatter = combined([pair.scatter for pair in pairs])
    pattern = combined([pair.pattern for pair in pairs])
    shared, own = (float(np.median([getattr(pair, key) for pair in pairs])) for key in ("shared", "own"))
    status = judge(scatter.value, scatter.error, 1.0, tolerance=_TOLERANCE)
    count = f"{len(pairs)} pairs of frames" if len(pairs) > 1 else "one pair of frames"
    meaning = (
        f"differences of {count} scatter by {scatter.value:.3f} ± {scatter.error:.3f} times the noise they do not share"
    )
    fix = ""
    if status in ("bad", "doubtful"):
        meaning += ": the frames' own noise is not as modelled, whatever the masters are"
        fix = "--set detector.gain=measured --set detector.read_noise=measured"
    both = math.sqrt(max(pattern.value, 0.0))
    meaning += f"; what is the same in both is {both:.1f} electrons rms, the masters' noise {math.sqrt(shared):.1f}"
    excess = pattern.value - shared
    if excess > 5 * pattern.error and excess > _PATTERN * own:
        status = "doubtful" if status == "good" else status
        meaning += ": a pattern that no master takes away"
        fix = fix or "calibrate with bias, dark and flat of this camera"
    yield Verdict(
        test=_TEST,
        status=status,
        meaning=meaning,
        where=name,
        value=scatter.value,
        error=scatter.error,
        expected=1.0,
        fix=fix,
        evidence=_evidence(pairs),
    )
    if len(pairs) < 3:
        return
    for pair in pairs:
        if judge(pair.scatter.value, pair.scatter.error, scatter.value, tolerance=4 * _TOLERANCE) == "bad":
            yield Verdict(
                test=_TEST,
                status="doubtful",
                where=f"{pair.names[0]} - {pair.names[1]}",
                meaning=(
                    f"their difference scatters by {pair.scatter.value:.2f} times the noise, "
                    f"that of others by {scatter.value:.2f}"
                ),
                value=pair.scatter.value,
                error=pair.scatter.error,
                expected=scatter.value,
                fix="look at both frames",
            )


def _evidence(pairs: list[_Pair]) -> Evidence:
    place = np.arange(len(pairs))
    measured = Series("pairs", place, [p.scatter.value for p in pairs], [p.scatter.error for p in pairs])
    line = Series("as it should be", [0, max(len(pairs) - 1, 1)], [1.0, 1.0], line=True)
    few = len(pairs) <= 40
    return Evidence(
        x_label="" if few else "pairs in the order of time",
        y_label="scatter of the difference over its σ",
        series=(measured, line),
        names=[" - ".join(pair.names) for pair in pairs] if few else (),
    )
