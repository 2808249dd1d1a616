"""Do pixels scatter as the noise model says, and each for itself? Tests ``pixel noise`` and ``pixel correlation``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from larun.algorithms.pixelnoise import NoiseTerms, Remedies, noise_terms
from larun.algorithms.robust import Estimate
from larun.model.checks.common import by_filter, combined
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, grade, judge, untested
from larun.model.checks.words import alternatives

__all__ = ["pixel_correlation", "pixel_noise"]

_TOLERANCE = 0.10  # of the variance: 5 % of an error
_FLOOR = 0.005  # of the variance: better no model is known
_AS_GOOD = 25.0  # Δχ² that tells explanations apart
_CORRELATED, _SLIGHTLY = 0.05, 0.025  # 4 neighbours of 0.05 add 20 % to the variance of a wide aperture

_NOISE, _CORRELATION = "pixel noise", "pixel correlation"


def pixel_noise(material: Material) -> Iterator[Verdict]:
    """Variance between pixels that touch, outside sources, against the modelled one; per filter and amplifier."""
    if not material.facts:
        yield untested(_NOISE, "there is no calibrated science frame")
    for name, frames in by_filter(material.facts).items():
        known = [item for item in frames if len(item.noise.ratio)]
        if not known:
            yield untested(_NOISE, "too few pixels of the frames are free of sources", name)
            continue
        yield from _noise_of(name, known)


def _noise_of(name: str, frames: Sequence[FrameFacts]) -> Iterator[Verdict]:
    numbers = sorted({int(n) for item in frames for n in item.noise.amplifier})
    made = [_noise_verdict(name, frames, number) for number in numbers]
    if len(made) > 1 and all(verdict.passed for verdict in made):
        yield _noise_verdict(name, frames, None)
    elif len(made) > 1:
        yield from (verdict for verdict in made if not verdict.passed)
    else:
        yield from made
    yield from _odd_frames(name, frames)


def _ratios(frames: Iterable[FrameFacts], amplifier: int | None) -> list[Estimate]:
    """One estimate for each frame: the weighted mean of its bins."""
    found = []
    for item in frames:
        noise = item.noise
        own = np.ones(len(noise.ratio), bool) if amplifier is None else noise.amplifier == amplifier
        if own.any():
            weight = 1 / noise.ratio_error[own] ** 2
            found.append(
                Estimate(float(np.sum(weight * noise.ratio[own]) / weight.sum()), 1 / math.sqrt(float(weight.sum())))
            )
    return found


def _noise_verdict(name: str, frames: Sequence[FrameFacts], amplifier: int | None) -> Verdict:
    each = _ratios(frames, amplifier)
    ratio = combined(each)
    structured = sum(item.noise.structured for item in frames) > len(frames) / 2
    if structured:  # what was taken off for faint stars is wrong by the same share in all frames
        ratio = Estimate(ratio.value, math.hypot(ratio.error, float(np.median([item.error for item in each]))))
    status = judge(ratio.value, ratio.error, 1.0, tolerance=_TOLERANCE)
    first = frames[0].noise
    terms = _terms(frames, amplifier)
    level = float(np.median(terms.level))
    meaning = (
        f"variance of pixels is {ratio.value:.3f} ± {ratio.error:.3f} times the model at a sky of {level:.0f} electrons"
    )
    fix, remedies = "", noise_terms(terms)
    if status in ("bad", "doubtful"):
        words, fix = _explained(remedies, first.gain, first.read_noise, amplifier or 0)
        meaning += f": {words}" if words else ": neither gain nor read noise alone explains it"
        between = combined([item.noise.along_x for item in frames]), combined([item.noise.along_y for item in frames])
        if not structured and max(abs(part.value) for part in between) > _CORRELATED:
            meaning += f" (but see {_CORRELATION}: neighbours are not independent)"
    where = name
    if amplifier is not None and len(first.names) > 1:
        where = f"{name}, amplifier {first.names[amplifier]}".lstrip(", ")
    return Verdict(
        test=_NOISE,
        status=status,
        meaning=meaning,
        where=where,
        value=ratio.value,
        error=ratio.error,
        expected=1.0,
        fix=fix,
        evidence=_noise_evidence(frames, amplifier, terms, remedies if status in ("bad", "doubtful") else None),
    )


def _terms(frames: Iterable[FrameFacts], amplifier: int | None) -> NoiseTerms:
    rows = []
    for item in frames:
        noise = item.noise
        for k in range(len(noise.ratio)):
            if amplifier is not None and noise.amplifier[k] != amplifier:
                continue
            model = noise.read[k] + noise.poisson[k] + noise.shared[k]
            error = model * math.hypot(noise.ratio_error[k], _FLOOR)
            rows.append(
                (noise.ratio[k] * model, error, noise.read[k], noise.poisson[k], noise.shared[k], noise.level[k])
            )
    return NoiseTerms(*np.array(rows, np.float64).T)


def _explained(
    remedies: Remedies, gains: Sequence[float | None], read_noises: Sequence[float | None], amplifier: int
) -> tuple[str, str]:
    """What would explain a variance, best first, in words; and what to do."""
    estimates = {
        "gain": remedies.gain,
        "read_noise": remedies.read_noise,
        "multiplicative": remedies.multiplicative,
    }
    left = {
        key: remedies.unexplained[key]
        for key, found in estimates.items()
        if math.isfinite(found.value) and math.isfinite(remedies.unexplained[key])
    }
    best = min(left.values(), default=math.inf)
    if not best < 0.5 * remedies.unexplained["none"]:
        return "", "--set detector.gain=measured --set detector.read_noise=measured"
    words, fixes = [], []
    for key in sorted(left, key=lambda key: left[key]):
        if left[key] > best + _AS_GOOD:
            continue
        factor = estimates[key].value
        if key == "gain":
            words.append(f"gain {_instead(factor, gains[amplifier])}")
            fixes.append("--set detector.gain=measured")
        elif key == "read_noise":
            words.append(f"read noise {_instead(factor, read_noises[amplifier])}")
            fixes.append("--set detector.read_noise=measured")
        else:
            words.append(f"a sensitivity that differs by {100 * factor:.2g} % from pixel to pixel beyond the flat")
            fixes.append("calibrate with (more) flats")
    return f"{alternatives(words)} would explain it", "; ".join(fixes)


def _instead(factor: float, stated: float | None) -> str:
    if stated is None or not stated > 0:
        return f"{factor:.2f} times the assumed one"
    return f"{factor * stated:.3g} instead of {stated:.3g}"


def _noise_evidence(
    frames: Sequence[FrameFacts], amplifier: int | None, terms: NoiseTerms, remedies: Remedies | None
) -> Evidence:
    model = terms.read + terms.poisson + terms.other
    order = np.argsort(terms.level)
    level = terms.level[order]
    series = [
        Series("measured / modelled", level, (terms.measured / model)[order], (terms.error / model)[order]),
        Series("as it should be", level[[0, -1]], [1.0, 1.0], line=True),
    ]
    if remedies is not None:
        inverse = 1 / remedies.gain.value
        other_gain = inverse**2 * (terms.read + terms.other) + inverse * terms.poisson
        series.append(
            Series(f"with {remedies.gain.value:.2f} times the gain", level, (other_gain / model)[order], line=True)
        )
        if math.isfinite(remedies.read_noise.value):
            factor = remedies.read_noise.value
            other = factor**2 * (terms.read + terms.other) + terms.poisson
            series.append(Series(f"with {factor:.2f} times the read noise", level, (other / model)[order], line=True))
    return Evidence(x_label="sky (electrons)", y_label="variance of pixels over the model", series=series)


def _odd_frames(name: str, frames: Sequence[FrameFacts]) -> Iterator[Verdict]:
    """Frames whose pixels scatter unlike those of the others."""
    if len(frames) < 3:
        return
    usual = combined(_ratios(frames, None)).value
    for item in frames:
        own = _ratios([item], None)[0]
        if judge(own.value, own.error, usual, tolerance=2 * _TOLERANCE) == "bad":
            yield Verdict(
                test=_NOISE,
                status="doubtful",
                where=item.name,
                meaning=(
                    f"variance of pixels is {own.value:.2f} ± {own.error:.2f} times the model, of other frames "
                    f"{f'in {name} ' if name else ''}{usual:.2f}"
                ),
                value=own.value,
                error=own.error,
                expected=usual,
                fix="look at the frame; leave it out",
            )


def pixel_correlation(material: Material) -> Iterator[Verdict]:
    """Correlation of pixels that touch, along x and along y."""
    if not material.facts:
        yield untested(_CORRELATION, "there is no calibrated science frame")
    for name, frames in by_filter(material.facts).items():
        known = [item for item in frames if math.isfinite(item.noise.correlation)]
        if not known:
            yield untested(_CORRELATION, "too few pixels of the frames are free of sources", name)
            continue
        smooth = [item for item in known if not item.noise.structured]
        known = smooth if len(smooth) >= 0.5 * len(known) else known
        whole = _correlation_verdict(name, known)
        yield whole
        if len(known) < 3 or not whole.passed:
            continue
        usual = whole.value or 0.0
        for item in known:
            gap = item.noise.correlation - usual
            error = _both(item.noise.along_x, item.noise.along_y).error
            if grade(gap, error, doubtful=2 * _CORRELATED, bad=math.inf) == "doubtful":
                yield _correlation_verdict(item.name, [item])


def _both(x: Estimate, y: Estimate) -> Estimate:
    return Estimate((x.value + y.value) / 2, math.hypot(x.error, y.error) / 2)


def _correlation_verdict(where: str, frames: Sequence[FrameFacts]) -> Verdict:
    x, y = (combined([getattr(item.noise, axis) for item in frames]) for axis in ("along_x", "along_y"))
    expected = float(np.median([item.noise.expected_correlation for item in frames]))
    worst = max((x, y), key=lambda part: abs(part.value - expected))
    status = grade(worst.value - expected, worst.error, doubtful=_SLIGHTLY, bad=_CORRELATED)
    near, far = (combined([getattr(item.noise, key) for item in frames]).value for key in ("near", "far"))
    told = f"{x.value:.3f} ± {x.error:.3f} along x, {y.value:.3f} ± {y.error:.3f} along y"
    meaning = f"pixels that touch are correlated by {told}"
    fix = ""
    if status in ("bad", "doubtful"):
        if worst.value < expected:
            meaning += ": against each other, as in an image that was sharpened, or with interference"
        elif all(item.noise.structured for item in frames) or (abs(near - 1) < _TOLERANCE and far > near + _SLIGHTLY):
            # the noise is right, the sky is not smooth: no fault of the frame, though apertures feel it
            status = "doubtful"
            meaning += (
                f": variances are {near:.2f} times the model for neighbours, {far:.2f} for pixels 6 apart: the sky has "
                "structure (undetected stars, nebulae), which errors of apertures do not know of"
            )
        else:
            growth = math.sqrt(max(1 + 2 * (x.value + y.value), 0.0))
            meaning += (
                ": as in an image that was resampled, smoothed or read with poor charge transfer; "
                f"errors of wide apertures are {100 * (1 - 1 / growth):.0f} % too small for the noise of the pixels"
            )
            fix = "measure frames that were not resampled or smoothed"
    both = _both(x, y)
    names = [item.name for item in frames]
    axes = [
        Series(
            f"along {label}",
            np.arange(len(frames)),
            [getattr(item.noise, key).value for item in frames],
            [getattr(item.noise, key).error for item in frames],
        )
        for label, key in (("x", "along_x"), ("y", "along_y"))
    ]
    expected_line = Series("expected", [0, len(frames) - 1], [expected, expected], line=True)
    return Verdict(
        test=_CORRELATION,
        status=status,
        meaning=meaning,
        where=where,
        value=both.value,
        error=both.error,
        expected=expected,
        fix=fix,
        evidence=Evidence(
            x_label="" if len(names) <= 40 else "frames in the order of time",
            y_label="correlation of pixels that touch",
            series=[*axes, expected_line],
            names=names if len(names) <= 40 else (),
        ),
    )
