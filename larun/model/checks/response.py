"""The response at high levels: linearity by the photons' own noise, saturation and full well."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.model.checks.kits import kits, transfers
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.raw.exposures import Exposure
from larun.model.transfer import spread

__all__ = ["linearity", "saturation"]

_SIGMAS = 5.0
_NONLINEAR = (0.02, 0.05)  # at the brightest flat
_USEFUL = 0.05  # error of that, beyond which nothing can be said
_PILE = 20  # pixels
_STEEP = 3.0  # times as many pixels at the top as in five stretches of its width below
_TURNED = 0.7  # of the variance a line would have
_MOST = 16


def linearity(material: Material) -> Iterator[Verdict]:
    """Whether variance (with what neighbours share of it) grows in proportion to the level: it does if counts do."""
    for kit in kits(material):
        found = transfers(material, kit) if kit.flats else ()
        if not any(one.photons is not None for one in found):
            yield untested("linearity", "there are no two flats of one filter with light", kit.where())
            continue
        detector = material.leveled(kit.flats[0]).source.detector
        for number, one in enumerate(found):
            where = kit.amplifier(detector, number)
            photons = one.photons
            if photons is None or not math.isfinite(photons.bend):
                yield untested("linearity", "flats of one filter have one level only: it needs a ramp", where)
                continue
            # true = s (1 + c s) makes the variance s/g (1 - 3 c s)
            top = float(photons.level[-1])
            value, error = -photons.bend / 3 * top, photons.bend_error / 3 * top
            slope = 1 / photons.gain
            x = np.linspace(photons.level[0], top, 50)
            series = [
                Series("flats", photons.level, photons.variance / photons.level / slope,
                       photons.variance_error / photons.level / slope),
                Series("linear", x, np.ones(50), line=True),
            ]  # fmt: skip
            common: dict[str, Any] = {
                "test": "linearity",
                "where": where,
                "value": value,
                "error": error,
                "evidence": Evidence(
                    x_label="level above bias (adu)", y_label="variance × gain / level", series=series
                ),
            }
            said = f"counts of {top:.0f} adu are {100 * abs(value):.2g} ± {100 * error:.1g} % too {{}}"
            said = said.format("small" if value > 0 else "large")
            if error > _USEFUL:
                yield untested("linearity", f"flats tell it to {100 * error:.2g} % only: more levels are needed", where)
            elif abs(value) > _SIGMAS * error and abs(value) > _NONLINEAR[0]:
                status = "bad" if abs(value) > _NONLINEAR[1] else "doubtful"
                c1 = value / top
                fix = f"linearity = ({c1:.3g},) in the amplifier of the camera's class"
                yield Verdict(status=status, meaning=f"{said}, by the noise of flats", fix=fix, **common)
            else:
                yield Verdict(status="good", meaning=f"{said}, by the noise of flats: linear", **common)


class _Top(NamedTuple):
    """The highest counts of some frames."""

    values: NDArray[np.float64]  # of pixels in the upper tenth
    highest: float


def saturation(material: Material) -> Iterator[Verdict]:
    """Where counts end: pixels that pile up at one value, and a variance that falls at high levels."""
    for kit in kits(material):
        items = spread([*kit.science, *kit.flats], _MOST)
        if not items:
            yield untested("saturation", "there are neither flats nor science frames", kit.where())
            continue
        detector = material.leveled(items[0]).source.detector
        measured = transfers(material, kit)
        for number, amplifier in enumerate(detector.amplifiers):
            where = kit.amplifier(detector, number)
            photons = measured[number].photons if measured else None
            well = None if photons is None else _full_well(photons.level, photons.variance)
            if well is not None and photons is not None:
                yield Verdict(
                    test="saturation",
                    status="bad",
                    where=where,
                    value=well,
                    unit="adu",
                    meaning=f"above {well:.0f} adu over bias the noise of flats falls off: the full well is reached",
                    fix=f"--keyword SATURATE={well + float(material.leveled(items[0]).levels[number].mean()):.0f}",
                    evidence=Evidence(
                        x_label="level above bias (adu)",
                        y_label="photon variance (adu²)",
                        series=[Series("flats", photons.level, photons.variance, photons.variance_error)],
                    ),
                )
                continue
            yield _plateau(_top(material, items, number), amplifier.saturation, where)


def _full_well(level: NDArray[np.float64], variance: NDArray[np.float64]) -> float | None:
    """The level above which the variance is far below the line through what lies below; None where it never is."""
    if len(level) < 6:
        return None
    slope = float(np.median((variance / level)[: max(3, len(level) // 2)]))
    low = variance < _TURNED * slope * level
    return float(level[np.argmax(low)]) if low[-1] and low.sum() > 1 else None


def _top(material: Material, items: list[Exposure], number: int) -> _Top:
    parts = []
    for item in items:
        leveled = material.leveled(item)
        block = list(leveled.blocks(0, leveled.shape[0]))[number]
        values = np.asarray(block.data)[(block.flags & (fl.BAD | fl.NO_DATA)) == 0]
        if values.size and values.max() > values.min():
            parts.append(values[values > 0.9 * values.max()][:200_000].astype(np.float64))
    values = np.concatenate(parts) if parts else np.zeros(1)
    highest = float(values.max())
    return _Top(values[values > 0.9 * highest], highest)


def _plateau(top: _Top, said: float, where: str) -> Verdict:
    width = max(2.0, 0.002 * top.highest)
    at_top = int(np.sum(top.values >= top.highest - width))
    below = int(np.sum((top.values < top.highest - width) & (top.values >= top.highest - 6 * width)))
    edges = np.linspace(0.9 * top.highest, top.highest * 1.0001, 61)
    counts, _ = np.histogram(top.values, edges)
    common: dict[str, Any] = {
        "test": "saturation",
        "where": where,
        "value": top.highest,
        "expected": said if math.isfinite(said) else None,
        "unit": "adu",
        "evidence": Evidence(
            x_label="raw counts (adu)",
            y_label="pixels",
            series=[Series("science frames and flats", (edges[1:] + edges[:-1]) / 2, counts)],
        ),
    }
    piled = at_top >= _PILE and at_top > _STEEP * below
    over = int(np.sum(top.values > 1.01 * said))
    if piled and top.highest < 0.99 * said:
        known = f"saturation is said to be {said:.0f}" if math.isfinite(said) else "no saturation is known"
        meaning = f"{at_top} pixels pile up at {top.highest:.0f} adu, and {known}: saturated stars count as good"
        return Verdict(
            status="bad", meaning=meaning, fix=f"--keyword SATURATE={math.floor(top.highest - width)}", **common
        )
    if over >= _PILE:
        meaning = f"{over} pixels lie above the saturation, {said:.0f} adu, up to {top.highest:.0f}: it is higher"
        return Verdict(status="doubtful", meaning=meaning, fix=f"--keyword SATURATE={top.highest:.0f}", **common)
    if piled:
        return Verdict(status="good", meaning=f"{at_top} pixels pile up at {top.highest:.0f} adu, as said", **common)
    if not math.isfinite(said):
        meaning = f"no saturation is known, and no pixels pile up below {top.highest:.0f} adu"
        return Verdict(status="untested", meaning=meaning, **common)
    meaning = f"nothing piles up below {said:.0f} adu; the brightest pixel has {top.highest:.0f}"
    return Verdict(status="good", meaning=meaning, **common)
