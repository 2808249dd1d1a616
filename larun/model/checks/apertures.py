"""Apertures where nothing is: do their sums scatter by the reported errors? Test ``empty apertures``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from larun.algorithms.robust import Estimate
from larun.model.checks.common import by_filter, combined
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material
from larun.model.checks.sameplaces import SamePlaces, same_places
from larun.model.checks.verdict import STATUSES, Evidence, Series, Verdict, judge, untested

__all__ = ["empty_apertures"]

_TEST = "empty apertures"
_TOLERANCE = 0.10  # of an error
_LOPSIDED = 1.15  # scatter above over that below the median
_GROWS = 0.05
_PART = 0.3  # of the excess: less is no explanation
_LIKELY = 3.0  # σ


def empty_apertures(material: Material) -> Iterator[Verdict]:
    """Scatter of sums in random empty apertures over their reported 1 σ, for every radius of the catalogue."""
    if not material.facts:
        yield untested(_TEST, "there is no calibrated science frame")
    for name, frames in by_filter(material.facts).items():
        known = [item for item in frames if np.isfinite(item.noise.scatter).any()]
        if not known:
            yield untested(_TEST, "no aperture of the catalogues fits between the sources: a crowded field", name)
            continue
        whole = _verdict(material, name, known)
        yield whole
        odd = [item for item in known if _unlike(item, whole)]
        if len(known) > 2 and len(odd) <= len(known) / 3:  # else none is usual
            yield from (_verdict(material, item.name, [item]) for item in odd)


def _unlike(item: FrameFacts, whole: Verdict) -> bool:
    """Whether the sums of one frame scatter far from those of all."""
    found = _of_radii([item])
    usual = whole.value or 1.0
    return any(judge(value, error, usual, tolerance=4 * _TOLERANCE) == "bad" for value, error in found)


def _of_radii(frames: Sequence[FrameFacts]) -> list[Estimate]:
    """The scatter for each radius, over all frames that have as many."""
    count = max(len(item.noise.radii) for item in frames)
    alike = [item.noise.empty for item in frames if len(item.noise.radii) == count]
    return [combined([Estimate(e.scatter[k], e.error[k]) for e in alike]) for k in range(count)]


def _verdict(material: Material, where: str, frames: Sequence[FrameFacts]) -> Verdict:
    found = _of_radii(frames)
    known = [k for k, item in enumerate(found) if math.isfinite(item.value) and math.isfinite(item.error)]
    states = {k: judge(found[k].value, found[k].error, 1.0, tolerance=_TOLERANCE) for k in known}
    # what stands for all: the worst radius, or the second where all are good (that of magnitudes of stars)
    status = max(states.values(), key=STATUSES.index)
    worst = max(known, key=lambda k: (STATUSES.index(states[k]), abs(found[k].value - 1) if status != "good" else -k))
    empties = [item.noise.empty for item in frames]
    radii = [float(np.median([e.radii[k] for e in empties if len(e.radii) > k])) for k in known]
    told = ", ".join(
        f"{found[k].value:.2f} ± {found[k].error:.2f} (r = {r:.1f})" for k, r in zip(known, radii, strict=True)
    )
    places = int(sum(e.places[known[0]] for e in empties if len(e.places) > known[0]))
    meaning = f"{places} empty apertures scatter by {told} times their reported errors"
    missing = len(found) - len(known)
    if missing:
        meaning += (
            f"; for the {missing} widest there is no room between the sources"
            if missing > 1
            else ("; for the widest there is no room between the sources")
        )
    fix = ""
    if status in ("bad", "doubtful"):
        same = same_places(material, frames, worst)
        if not any(item.explains for item in same):  # where there is more room
            surest = max(known, key=lambda k: abs(found[k].value - 1) / found[k].error)
            same = (same_places(material, frames, surest) if surest != worst else ()) or same
        why, fix = _why(frames, found, known, worst, same)
        meaning += f": {why}"
    else:
        meaning += _not_sure(material, frames, found, known)
    return Verdict(
        test=_TEST,
        status=status,
        meaning=meaning,
        where=where,
        value=found[worst].value,
        error=found[worst].error,
        expected=1.0,
        fix=fix,
        evidence=_evidence(frames, found, known, radii),
    )


def _not_sure(material: Material, frames: Sequence[FrameFacts], found: list[Estimate], known: list[int]) -> str:
    """What to say where a scatter is beyond the tolerance, and too uncertain for a verdict."""
    size, number = max((abs(found[k].value - 1) / found[k].error, k) for k in known)
    beyond = [k for k in known if abs(found[k].value - 1) > _TOLERANCE]
    if not beyond:
        return ""
    said = f"; the largest departure from 1 is {size:.1f} σ, a fault begins at 5"
    same = [item for item in same_places(material, frames, number) if item.explains] if size > _LIKELY else []
    return f"{said}: {_of_same(same[0])[0]}" if same else said


def _why(
    frames: Sequence[FrameFacts], found: list[Estimate], known: list[int], worst: int, same: Sequence[SamePlaces]
) -> tuple[str, str]:
    """What the scatter comes from, as far as other numbers tell."""
    pixels = math.sqrt(combined([item.noise.near for item in frames]).value)
    excess = found[worst].value - 1
    said, fix = [], ""
    crowded = [item for item in frames if item.noise.structured]
    if len(crowded) > len(frames) / 2:
        far = math.sqrt(combined([item.noise.far for item in crowded]).value)
        said.append(
            f"pixels 6 apart scatter by {far:.1f} times the model, neighbours by {pixels:.2f}: light of undetected and "
            "of masked stars lies between the sources (a crowded field, or nebulae)"
        )
        fix = "fit point spread functions, or subtract images"
    if same:
        best = min(same, key=lambda item: (not item.explains, item.of == "both", item.left))
        shared, its = _of_same(best) if best.explains else (_of_neither(same), "")
        rivals = [item for item in same if item.explains and item.of != best.of and "both" not in (item.of, best.of)]
        for item in rivals:  # structure that is wider than what the stars moved by
            shared += (
                f" (at the same places of the {item.of} differences scatter by {item.difference.value:.2f} ± "
                f"{item.difference.error:.2f}: the two are not told apart with certainty)"
            )
        said.append(shared)
        fix = fix or its
    if not crowded and not (same and any(item.explains for item in same)):
        words, its = _of_one_frame(frames, found, known, worst)
        said += words
        fix = fix or its
    if abs(pixels - 1) > _TOLERANCE / 2 and abs(pixels - 1) > _PART * abs(excess) and not crowded:
        said.append(f"single pixels scatter by {pixels:.2f} times the model, see pixel noise")
        fix = fix or "as for pixel noise"
    if not said:
        said.append("pixels scatter as they should: it is wider than a pixel, and no other frame tells what it is")
    return "; ".join(said), fix


def _of_same(same: SamePlaces) -> tuple[str, str]:
    """What apertures at the same places say, where it is the same in both frames that they sum."""
    where = {"chip": "of the chip", "sky": "of the sky", "both": "(the stars stay on their pixels)"}[same.of]
    said = (
        f"at the same places {where} in two frames sums scatter by {same.each.value:.2f} (r = {same.radius:.1f}), "
        f"their differences by {same.difference.value:.2f} ± {same.difference.error:.2f}: "
    )
    if same.of == "chip":
        said += f"{100 * same.share:.2g} % of the sky per pixel is the chip's own, which no master takes away"
        return said, "better flats (twilight, of the same night), or smaller apertures"
    said += f"{100 * same.share:.2g} % of the sky per pixel is the same in both, "
    said += "light of sources too faint to be detected" + ("" if same.of == "sky" else ", or the chip's own")
    return said, "smaller apertures, or subtract images"


def _of_neither(same: Sequence[SamePlaces]) -> str:
    """That no second frame has what is summed."""
    names = {"chip": "of the chip", "sky": "of the sky", "both": "of chip and sky"}
    told = " and ".join(
        f"{item.difference.value:.2f} ± {item.difference.error:.2f} where those {names[item.of]} are the same"
        for item in same
    )
    return f"differences of two frames scatter by {told} (r = {same[0].radius:.1f}): each frame has its own"


def _of_one_frame(
    frames: Sequence[FrameFacts], found: list[Estimate], known: list[int], worst: int
) -> tuple[list[str], str]:
    """What the sums themselves say."""
    pixels = math.sqrt(combined([item.noise.near for item in frames]).value)
    correlation = combined([item.noise.along_x for item in frames]).value
    correlation += combined([item.noise.along_y for item in frames]).value
    first, last = found[known[0]], found[known[-1]]
    grows = last.value - first.value > max(_GROWS, 3 * math.hypot(first.error, last.error))
    upper = float(np.nanmedian([item.noise.empty.upper[worst] for item in frames if len(item.noise.radii) > worst]))
    if not grows or pixels > last.value - _GROWS:
        return [], ""
    if upper > _LOPSIDED:
        said = "the sums are skewed upwards: stars below the limit of detection (a crowded field)"
        return [said], "fit point spread functions, or smaller apertures"
    if abs(correlation) > 0.05:
        return ["neighbouring pixels are correlated, see pixel correlation"], ""
    said = "the wider the aperture the more: the sky has structure on that scale that no error knows of"
    return [said], "smaller apertures"


def _evidence(frames: Sequence[FrameFacts], found: list[Estimate], known: list[int], radii: list[float]) -> Evidence:
    each = [item.noise.empty for item in frames]
    x = np.concatenate([e.radii for e in each])
    y = np.concatenate([e.scatter for e in each])
    error = np.concatenate([e.error for e in each])
    shown = np.isfinite(y)
    series = [
        Series("frames", x[shown], y[shown], error[shown]),
        Series("together", radii, [found[k].value for k in known], [found[k].error for k in known]),
        Series("as it should be", [min(radii), max(radii)], [1.0, 1.0], line=True),
    ]
    return Evidence(x_label="radius of the aperture (pixels)", y_label="scatter over reported error", series=series)
