"""Flats: their level, their light over the chip, and what the response does at high levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.corners import cell_means
from larun.algorithms.robust import mad_sigma
from larun.detector import Section
from larun.model.checks.kits import Kit, gain_of, kits, mean_frame, steady_level
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.raw.exposures import Exposure
from larun.model.transfer import planes, spread

__all__ = ["flat_gradient", "flat_level"]

_MASTER_ERROR = (0.005, 0.01)  # of a pixel of the master
_SATURATED = 0.005  # of the pixels
_NEARLY_FULL = 0.85  # of the saturation
_DARK = 0.05  # of the brightest flat
_GRADIENT = (0.005, 0.02)  # from edge to edge
_SIGMAS = 5.0
_MOST = 12
_CELLS = 16  # along the shorter axis


def _image(material: Material, kit: Kit, item: Exposure, *, flagged: bool = False) -> NDArray[np.float32]:
    """The trimmed image above bias, ADU."""
    leveled = material.leveled(item)
    made = np.full(leveled.shape, np.nan, np.float32)
    zero = None
    if kit.biases:
        zero = mean_frame(material, spread(kit.biases, 3))
    places: list[Section] = [amplifier.data for amplifier in leveled.source.detector.trimmed().amplifiers]
    for number, (at, plane) in enumerate(zip(places, planes(leveled, flagged=flagged), strict=True)):
        made[at.slices] = plane if zero is None else plane - zero[number].data
    return made


def flat_level(material: Material) -> Iterator[Verdict]:
    """Whether flats have light enough, and not too much."""
    if not any(kit.flats for kit in kits(material)):
        yield untested("flat level", "there are no flats")
    for kit in kits(material):
        for name, items in kit.by_filter.items():
            yield from _levels(material, kit, name, items)


def _levels(material: Material, kit: Kit, name: str, items: Sequence[Exposure]) -> Iterator[Verdict]:
    gain = gain_of(material, kit, 0)
    levels, full, raw = [], [], []
    for item in items:
        leveled = material.leveled(item)
        image = _image(material, kit, item, flagged=True)[::2, ::2]
        levels.append(steady_level(image))
        tops = [amplifier.saturation for amplifier in leveled.source.detector.amplifiers]
        base = float(np.mean([level.mean() for level in leveled.levels]))
        raw.append((levels[-1] + base) / min(tops))
        full.append(float(np.mean(image + base >= min(tops))))
    light = np.array(levels) * gain
    where = kit.where(name)
    picture = Evidence(
        x_label="flats",
        y_label="level above bias (adu)",
        series=[Series(name, range(len(levels)), levels)],
        names=[item.path.name for item in items] if len(items) <= 25 else (),
    )
    bad = 0
    for item, level, part, top, electrons in zip(items, levels, full, raw, light, strict=True):
        common: dict[str, Any] = {
            "test": "flat level",
            "where": kit.where(name, item.path.name),
            "value": level,
            "unit": "adu",
            "evidence": picture,
            "fix": f"leave out {item.path.name}",
        }
        if part > _SATURATED or top > _NEARLY_FULL:
            bad += 1
            meaning = (
                f"{level:.0f} adu, {100 * top:.0f} % of the saturation; {100 * part:.2g} % of the pixels saturated"
            )
            yield Verdict(status="bad" if part > _SATURATED or top > 0.95 else "doubtful", meaning=meaning, **common)
        elif electrons < _DARK * light.max() or not level > 0:
            bad += 1
            meaning = f"{level:.0f} adu: hardly any light, the brightest flat of the filter has {max(levels):.0f}"
            yield Verdict(status="doubtful" if level > 0.01 * max(levels) else "bad", meaning=meaning, **common)
    total = float(np.sum(np.maximum(light, 0.0)))
    error = 1 / math.sqrt(total) if total > 0 else math.inf
    status = "bad" if error > _MASTER_ERROR[1] else "doubtful" if error > _MASTER_ERROR[0] else "good"
    meaning = (
        f"{len(items)} flats of {min(levels):.0f} to {max(levels):.0f} adu: a pixel of the master is good to "
        f"{100 * error:.2g} %, which every star inherits from its pixels"
    )
    if status != "good" or not bad:
        yield Verdict(
            test="flat level",
            status=status,
            where=where,
            meaning=meaning,
            value=error,
            fix="take more or brighter flats" if status != "good" else "",
            evidence=picture,
        )


def flat_gradient(material: Material) -> Iterator[Verdict]:
    """Flats of one filter against each other: what differs between them over the chip is in the master, too."""
    found = False
    for kit in kits(material):
        for name, items in kit.by_filter.items():
            if len(items) > 1:
                found = True
                yield from _gradients(material, kit, name, spread(items, _MOST))
    if not found:
        yield untested("flat gradient", "there are no two flats of one filter")


def _gradients(material: Material, kit: Kit, name: str, items: Sequence[Exposure]) -> Iterator[Verdict]:
    gain = gain_of(material, kit, 0)
    maps, levels = [], []
    for item in items:
        image = _image(material, kit, item)
        cell = max(4, min(image.shape) // _CELLS)
        level = steady_level(image[::2, ::2])
        if not level > 0:
            continue
        levels.append(level)
        maps.append(cell_means(image, cell) / level)
    if len(maps) < 2:
        yield untested("flat gradient", "there are no two flats with light", kit.where(name))
        return
    slopes, errors, ratios = [], [], []
    for number, (one, level) in enumerate(zip(maps, levels, strict=True)):
        others = np.median(maps[:number] + maps[number + 1 :], axis=0)
        ratio = one / np.where(others > 0.05, others, np.nan) - 1  # without amplifiers that see nothing
        slope, error, _ = _plane(ratio, 1 / math.sqrt(level * gain) / cell)
        slopes.append(slope)
        errors.append(error)
        ratios.append(ratio)
    worst = int(np.argmax(slopes))
    status = "good"
    if slopes[worst] > _SIGMAS * errors[worst] and slopes[worst] > _GRADIENT[0]:
        status = "bad" if slopes[worst] > _GRADIENT[1] else "doubtful"
    said = (
        f"flats differ by gradients of up to {100 * slopes[worst]:.2g} % from edge to edge ({items[worst].path.name})"
    )
    yield Verdict(
        test="flat gradient",
        status=status,
        where=kit.where(name),
        meaning=f"{said}; the master has a part of it" if status != "good" else said,
        value=slopes[worst],
        error=errors[worst],
        fix="flats of one place of the sky, or of a screen" if status != "good" else "",
        evidence=Evidence(x_label="cells along x", y_label="cells along y", image=ratios[worst].astype(np.float32)),
    )


def _plane(image: NDArray[np.float64], sigma: float) -> tuple[float, float, NDArray[np.float64]]:
    """Rise of a map from edge to edge along its steepest direction, its error, and what is left."""
    v, u = (np.linspace(-0.5, 0.5, length) for length in image.shape)
    good = np.isfinite(image)
    columns = np.stack(np.broadcast_arrays(np.ones(image.shape), u[None, :], v[:, None]))[:, good]
    values = image[good]
    kept = np.ones(values.size, bool)
    for _ in range(3):
        fit = np.linalg.lstsq(columns[:, kept].T, values[kept], rcond=None)[0]
        left = values - fit @ columns
        scatter = max(mad_sigma(left[kept], 0.0), sigma)
        kept = np.abs(left) <= 4 * scatter
    error = scatter / math.sqrt(max(int(kept.sum()), 1) / 12)
    rest = np.full(image.shape, np.nan)
    rest[good] = left
    return float(math.hypot(fit[1], fit[2])), error, rest
