"""Biases and overscan: whether the level drifts and the structure stays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.photontransfer import CELL, cells_of
from larun.algorithms.robust import mad_sigma
from larun.model.checks.kits import Kit, kits, levels, mean_frame, noise_of, sampled, steady_level
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.raw.exposures import Exposure
from larun.model.transfer import planes, spread

__all__ = ["bias_level", "bias_structure", "overscan_drift"]

_MOST = 40  # frames whose overscan is looked at
_BINS = 16  # of rows
_SIGMAS = 5.0
_TREND = 3.0  # σ of von Neumann's ratio: few values have no larger ones
_FEWEST_FOR_TREND = 8
_RESIDUE = (0.2, 0.5)  # of the read noise: what rows keep is doubtful, bad
_LEVEL = (0.3, 1.0)  # of the read noise
_STRUCTURE = (0.1, 0.3)  # of the read noise


class _Overscan(NamedTuple):
    """The overscan of one frame, one amplifier."""

    level: float
    rows: NDArray[np.float64]  # (bins,) mean of the rows less what is subtracted from them
    error: float  # of one bin


def overscan_drift(material: Material) -> Iterator[Verdict]:
    """The overscan level from frame to frame, and along the rows of each frame."""
    for kit in kits(material):
        frames = spread(kit.all, _MOST)
        detector = material.leveled(frames[0]).source.detector
        bare = all(amplifier.overscan is None for amplifier in detector.amplifiers)
        if bare or len(frames) < 2:
            yield untested("overscan drift", "there is no overscan" if bare else "there is one frame only", kit.where())
            continue
        for number, amplifier in enumerate(detector.amplifiers):
            if amplifier.overscan is None:
                continue
            found = [_overscan(material, item, number) for item in frames]
            yield _drift(material, kit, frames, found, kit.amplifier(detector, number))


def _overscan(material: Material, item: Exposure, number: int) -> _Overscan:
    leveled = material.leveled(item)
    amplifier, levels = leveled.source.detector.amplifiers[number], leveled.levels[number]
    section = amplifier.overscan
    assert section is not None
    data = np.asarray(leveled.source.rows(section.y0, section.y1)[0][:, section.x0 : section.x1], np.float64)
    skip = min(material.overscan.skip, data.shape[1] - 1)
    data = data[:, : data.shape[1] - skip] if section.x1 <= amplifier.data.x0 else data[:, skip:]
    middle = np.median(data)
    noise = leveled.noise[number] or 1.0
    kept = np.abs(data - middle) <= 6 * noise + 5
    beside = len(levels) == len(data)
    counts = np.maximum(kept.sum(axis=1), 1)
    rows = np.where(kept, data, 0.0).sum(axis=1) / counts
    level = float(data[kept].mean()) if kept.any() else float(middle)
    residual = rows - (levels if beside and material.overscan.method != "none" else level)
    bins = np.array([part.mean() for part in np.array_split(residual, min(_BINS, len(residual)))])
    return _Overscan(level, bins - bins.mean(), noise / math.sqrt(data.size / len(bins)))


def _drift(material: Material, kit: Kit, frames: Sequence[Exposure], found: list[_Overscan], where: str) -> Verdict:
    levels = np.array([one.level for one in found])
    noise = noise_of(material, kit, where)
    rows = np.stack([one.rows for one in found])
    residue = rows - np.median(rows, axis=0)
    error = np.array([one.error for one in found])
    excess = np.sqrt(np.maximum(np.mean(residue**2, axis=1) - error**2, 0.0))
    bins = rows.shape[1]
    sure = np.sum(residue**2, axis=1) / error**2 > bins + _SIGMAS * math.sqrt(2 * bins)
    worst = int(np.argmax(np.where(sure, excess, 0.0)))
    low, high = float(levels.min()), float(levels.max())
    said = (
        f"the level goes from {levels[0]:.1f} to {levels[-1]:.1f} adu through the night, {low:.1f} to {high:.1f} in all"
    )
    still = [level for item, level in zip(frames, levels, strict=True) if item.kind == "bias"]
    if len(still) > 2:
        said += f" (biases {still[0]:.1f} to {still[-1]:.1f})"
    apart = _apart(material, kit, where)
    common: dict[str, Any] = {
        "test": "overscan drift",
        "where": where,
        "value": high - low,
        "error": float(np.median(error)) / math.sqrt(bins) * math.sqrt(2),
        "unit": "adu",
        "evidence": Evidence(
            x_label="frames in the order of time",
            y_label="overscan level (adu)",
            series=[Series("frames", range(len(levels)), levels)],
            names=[item.path.name for item in frames] if len(frames) <= 25 else (),
        ),
    }
    if material.overscan.method == "none" and high - low > _LEVEL[0] * noise:
        return Verdict(
            status="bad",
            meaning=f"{said}, and the overscan is not subtracted",
            fix="--set overscan.method=median",
            **common,
        )
    if apart > max(_LEVEL[0] * noise, 0.5):
        meaning = f"the overscan does not follow the level: biases scatter by {apart:.2g} adu above it; {said}"
        return Verdict(status="bad", meaning=meaning, fix="--set overscan.method=none", **common)
    if sure[worst] and excess[worst] > _RESIDUE[0] * noise:
        status = "bad" if excess[worst] > _RESIDUE[1] * noise else "doubtful"
        count = int(np.sum(sure & (excess > _RESIDUE[0] * noise)))
        meaning = (
            f"rows of {count} frames keep a drift of their own of up to {excess[worst]:.2g} adu rms "
            f"({frames[worst].path.name}; read noise {noise:.2g} adu); {said}"
        )
        picture = Evidence(
            x_label="rows (bins)",
            y_label="overscan less what is subtracted (adu)",
            series=[Series(frames[worst].path.name, range(bins), residue[worst], [error[worst]] * bins)],
        )
        common["evidence"] = picture
        return Verdict(status=status, meaning=meaning, fix="--set overscan.method=spline", **common)
    if _trend(levels) > _TREND and high - low > max(_LEVEL[0] * noise, 1.0):
        meaning = f"{said}: the overscan removes it; a bias frame alone would leave up to {high - low:.1f} adu"
        return Verdict(status="doubtful", meaning=meaning, fix="leave the overscan subtraction on", **common)
    return Verdict(status="good", meaning=f"{said}: the overscan removes it", **common)


def _apart(material: Material, kit: Kit, where: str) -> float:
    """Scatter of the levels of biases above the overscan, ADU; one that is odd is another fault."""
    if len(kit.biases) < 4:
        return 0.0
    frames = [planes(material.leveled(item)) for item in spread(kit.biases, 12)]
    detector = material.leveled(kit.biases[0]).source.detector
    number = next((n for n in range(len(frames[0])) if kit.amplifier(detector, n) == where), 0)
    levels = np.array([steady_level(frame[number][::4, ::4]) for frame in frames])
    return mad_sigma(levels)


def _trend(values: NDArray[np.float64]) -> float:
    """By how many σ values follow those before them: 1 less von Neumann's ratio (1941, Ann. Math. Stat. 12, 367)."""
    count = len(values)
    variance = float(np.var(values))
    if count < _FEWEST_FOR_TREND or variance == 0:
        return 0.0
    ratio = float(np.mean(np.diff(values) ** 2)) / (2 * variance * count / (count - 1))
    return (1 - ratio) / math.sqrt((count - 2) / (count**2 - 1))


def bias_level(material: Material) -> Iterator[Verdict]:
    """The level that is left in each bias after the overscan; of darks too, where there is no overscan."""
    for kit in kits(material):
        groups = {"": list(kit.biases)}
        some = [*kit.biases, *kit.darks]
        if some and any(a.overscan is None for a in material.leveled(some[0]).source.detector.amplifiers):
            groups |= {f"darks of {seconds:g} s": items for seconds, items in kit.by_exposure.items()}
        groups = {name: items for name, items in groups.items() if len(items) > 2}
        if not groups:
            yield untested("bias level", "there are no three biases", kit.where())
        for name, items in groups.items():
            yield from _levels(material, kit, name, items[:_MOST])


def _levels(material: Material, kit: Kit, name: str, items: list[Exposure]) -> Iterator[Verdict]:
    detector = material.leveled(items[0]).source.detector
    step = sampled(detector.trimmed_shape)
    values = np.array([levels(material, item) for item in items])
    for number, amplifier in enumerate(detector.amplifiers):
        where = kit.where(*filter(None, [name, kit._replace(name="").amplifier(detector, number)]))
        noise = noise_of(material, kit, where)
        away = values[:, number] - np.median(values[:, number])
        counted = amplifier.data.shape[0] * amplifier.data.shape[1] / step**2
        error = noise / math.sqrt(counted)
        if amplifier.overscan is not None:
            error = math.hypot(error, noise / math.sqrt(amplifier.overscan.shape[0] * amplifier.overscan.shape[1]))
        scatter = max(error, mad_sigma(away, 0.0))
        worst = int(np.argmax(np.abs(away)))
        rms = float(np.std(away, ddof=1))
        common: dict[str, Any] = {
            "test": "bias level",
            "where": where,
            "value": float(away[worst]),
            "error": error,
            "unit": "adu",
            "evidence": Evidence(
                x_label="frames",
                y_label="level less the median (adu)",
                series=[Series("frames", range(len(items)), away, [error] * len(items))],
                names=[item.path.name for item in items] if len(items) <= 25 else (),
            ),
        }
        least = max(_LEVEL[0] * noise, 0.5)
        removed = "above the overscan" if amplifier.overscan is not None else "and no overscan tells it"
        spread_out = rms if amplifier.overscan is None else scatter
        if spread_out > _SIGMAS * error and spread_out > least:
            status = "bad" if rms > _LEVEL[1] * noise or np.ptp(away) > 2 * _LEVEL[1] * noise else "doubtful"
            meaning = (
                f"the level scatters by {rms:.2g} adu from frame to frame ({np.ptp(away):.3g} adu in all), {removed}: "
                "what is subtracted from a frame may be wrong by as much"
            )
            yield Verdict(status=status, meaning=meaning, fix="judge the sky in each frame itself", **common)
            continue
        odd = np.flatnonzero((np.abs(away) > _SIGMAS * scatter) & (np.abs(away) > least))
        if odd.size:
            status = "bad" if np.abs(away[worst]) > _LEVEL[1] * noise else "doubtful"
            names = ", ".join(f"{items[k].path.name} {away[k]:+.3g} adu" for k in odd[:5])
            meaning = f"{odd.size} of {len(items)} stand off the others {removed}: {names}"
            yield Verdict(status=status, meaning=meaning, fix=f"leave out {items[worst].path.name}", **common)
            continue
        yield Verdict(status="good", meaning=f"levels agree to {rms:.2g} adu rms, {removed}", **common)


def bias_structure(material: Material) -> Iterator[Verdict]:
    """What the first half of the biases shows against the second: structure that changes cannot be subtracted."""
    for kit in kits(material):
        if len(kit.biases) < 4:
            yield untested("bias structure", "there are no four biases", kit.where())
            continue
        items = spread(kit.biases, 12)
        half = len(items) // 2
        detector = material.leveled(items[0]).source.detector
        first, second = mean_frame(material, items[:half]), mean_frame(material, items[-half:])
        for number, (one, two) in enumerate(zip(first, second, strict=True)):
            where = kit.amplifier(detector, number)
            change = np.where(one.bad, np.nan, one.data - two.data)
            yield _structure(change, one.data, noise_of(material, kit, where), where)


def _structure(change: NDArray[np.float32], level: NDArray[np.float32], noise: float, where: str) -> Verdict:
    change = change - np.float32(np.nanmedian(change))
    pixel = mad_sigma(change[np.isfinite(change)], 0.0)
    if not pixel > 0:
        return untested("bias structure", "the biases have no noise", where)
    change = np.where(np.abs(change) <= 5 * max(pixel, 0.3), change, np.nan)
    side = min(CELL, *change.shape)
    parts = {
        "cells": np.nanmean(np.where(_empty(cells_of(change, side)), 0.0, cells_of(change, side)), axis=(1, 2)),
        "rows": _means(change, 1),
        "columns": _means(change, 0),
    }
    counts = {"cells": side**2, "rows": change.shape[1], "columns": change.shape[0]}
    excess, sure = {}, {}
    for name, values in parts.items():
        known = values[np.isfinite(values)]
        scatter = mad_sigma(known)
        white = pixel / math.sqrt(counts[name])
        excess[name] = math.sqrt(max(scatter**2 - white**2, 0.0))
        # the median deviation of n values scatters by 1.17 / √n of itself
        sure[name] = (scatter / white) ** 2 - 1 > _SIGMAS * 2.33 / math.sqrt(max(known.size, 4))
    worst = max(excess, key=lambda name: excess[name] if sure[name] else 0.0)
    amplitude = float(np.subtract(*np.nanquantile(level, [0.99, 0.01])))
    common: dict[str, Any] = {
        "test": "bias structure",
        "where": where,
        "value": excess[worst],
        "error": pixel / math.sqrt(counts[worst] * len(parts[worst])),
        "unit": "adu",
        "evidence": Evidence(
            x_label=worst,
            y_label="first half less second (adu)",
            series=[Series(worst, range(len(parts[worst])), parts[worst])],
        ),
    }
    if sure[worst] and excess[worst] > _STRUCTURE[0] * noise:
        status = "bad" if excess[worst] > _STRUCTURE[1] * noise else "doubtful"
        meaning = (
            f"the structure of the bias changes through the night: {worst} of the first half differ from the second "
            f"by {excess[worst]:.2g} adu rms (read noise {noise:.2g} adu)"
        )
        return Verdict(status=status, meaning=meaning, fix="take biases next to the frames they serve", **common)
    meaning = (
        f"the structure stays: halves differ by {excess[worst]:.2g} adu rms; 98 % of pixels span {amplitude:.3g} adu"
    )
    return Verdict(status="good", meaning=meaning, **common)


def _empty(cells: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Cells without a value, whose mean would be none."""
    return ~np.isfinite(cells) & ~np.isfinite(cells).any(axis=(1, 2), keepdims=True)


def _means(plane: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
    counts = np.isfinite(plane).sum(axis=axis)
    made = np.nansum(plane, axis=axis, dtype=np.float64) / np.maximum(counts, 1)
    made[counts < plane.shape[axis] // 4] = np.nan
    return np.asarray(made)
