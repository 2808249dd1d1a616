"""Darks: how much current, whether it grows with time, and whether light falls on a closed detector."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.corners import CornerLight, cell_means, corner_light
from larun.algorithms.robust import mad_sigma
from larun.model.checks.kits import SAMPLE, Kit, gain_error, gain_of, kits, levels, mean_frame, noise_of
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.transfer import spread

__all__ = ["amplifier_glow", "dark_current", "light_leak"]

_SIGMAS = 5.0
_UNSTEADY = 0.25  # of the rate: darks that differ so much are not the same
_NOTICED = 0.3  # of the read noise
_MUCH = 1.0  # of the variance of the read noise: noise of the dark current
_CORNER = (0.5, 2.0)  # of the read noise, in the longest science exposure
_GLOW = 0.13  # of the diagonal: what falls off faster is the glow of an amplifier, not a leak
_CELLS = 32  # along an axis
_SECOND = 0.25  # of the light of the first corner: less is what the fit left of it


class _Rate(NamedTuple):
    """Dark current of one amplifier in darks of one exposure time, electrons per second."""

    seconds: float
    value: float
    error: float
    frames: NDArray[np.float64]  # of each frame
    names: list[str]


def _longest(kit: Kit) -> float:
    """The longest science exposure, or else the longest dark."""
    science = [item.exposure for item in kit.science if item.exposure]
    return float(max(science or [*kit.by_exposure, 0.0]))


def dark_current(material: Material) -> Iterator[Verdict]:
    """The dark current: its noise against the read noise, the same in all darks, in proportion to the time."""
    for kit in kits(material):
        groups = {seconds: items for seconds, items in kit.by_exposure.items() if seconds > 0}
        if not groups:
            yield untested("dark current", "there are no darks", kit.where())
            continue
        if not kit.biases:
            yield untested(
                "dark current", "there are no biases: nothing tells the darks' level without time", kit.where()
            )
            continue
        zeros = [levels(material, item) for item in spread(kit.biases, 12)]
        detector = material.leveled(kit.darks[0]).source.detector
        found = {seconds: [levels(material, item) for item in spread(items, 12)] for seconds, items in groups.items()}
        for number, amplifier in enumerate(detector.amplifiers):
            where, gain = kit.amplifier(detector, number), gain_of(material, kit, number)
            noise, scale = noise_of(material, kit, where), gain_error(material, kit, number)
            pixels = amplifier.data.shape[0] * amplifier.data.shape[1]
            strip = amplifier.overscan.shape[0] * amplifier.overscan.shape[1] if amplifier.overscan else pixels
            single = noise * math.sqrt(1 / strip + 1 / min(pixels, SAMPLE))
            zero = np.array([each[number] for each in zeros])
            rates = []
            for seconds, each in found.items():
                values = np.array([level[number] for level in each])
                unsure = single * math.sqrt(1 / len(values) + 1.5 / len(zero)) * gain / seconds
                unsure = math.hypot(1.25 * unsure, float(np.median(values) - np.median(zero)) * gain / seconds * scale)
                away = (values - np.median(zero)) * gain / seconds
                names = [item.path.name for item in spread(groups[seconds], 12)]
                rates.append(_Rate(seconds, float(np.median(away)), unsure, away, names))
            yield _dark(rates, noise * gain, single * gain, _longest(kit), where)


def _dark(rates: list[_Rate], noise: float, single: float, longest: float, where: str) -> Verdict:
    last = rates[-1]
    common: dict[str, Any] = {
        "test": "dark current",
        "where": where,
        "value": last.value,
        "error": last.error,
        "unit": "electron/s",
        "evidence": Evidence(
            x_label="exposure (s)",
            y_label="dark signal (electron)",
            series=[
                Series(
                    "darks",
                    np.concatenate([[rate.seconds] * len(rate.frames) for rate in rates]),
                    np.concatenate([rate.frames * rate.seconds for rate in rates]),
                    np.concatenate([[single] * len(rate.frames) for rate in rates]),
                ),
                Series("in proportion", [0, last.seconds], [0, last.value * last.seconds], line=True),
            ],
        ),
    }
    said = f"{last.value:.3g} ± {last.error:.1g} electron/s in darks of {last.seconds:g} s"
    for rate in rates:
        away = np.abs(rate.frames - rate.value) * rate.seconds
        odd = away > max(_SIGMAS * 1.2 * single, _NOTICED * noise, _UNSTEADY * abs(rate.value) * rate.seconds)
        if odd.any():
            worst = int(np.argmax(away))
            meaning = (
                f"{int(odd.sum())} of {len(odd)} darks of {rate.seconds:g} s stand off: {rate.names[worst]} has "
                f"{rate.frames[worst]:.3g} electron/s, the others {rate.value:.3g}: temperature, light, or not a dark"
            )
            return Verdict(status="bad", meaning=meaning, fix=f"leave out {rate.names[worst]}", **common)
    for rate in rates[:-1]:
        gap = abs(rate.value - last.value)
        error = math.hypot(rate.error, last.error)
        missed = gap * min(rate.seconds, longest or rate.seconds)
        if gap > _SIGMAS * error and gap > _UNSTEADY * abs(last.value) and missed > _NOTICED * noise:
            meaning = f"{said}, but {rate.value:.3g} in those of {rate.seconds:g} s: it does not grow with the time"
            return Verdict(status="doubtful", meaning=meaning, fix="darks of the exposures they serve", **common)
    electrons = last.value * longest
    if electrons > _MUCH * noise**2 and last.value > _SIGMAS * last.error:
        meaning = (
            f"{said}: {electrons:.3g} electrons in {longest:g} s, whose noise ({math.sqrt(electrons):.2g}) is above "
            f"the read noise ({noise:.2g})"
        )
        return Verdict(status="doubtful", meaning=meaning, fix="cool the detector", **common)
    return Verdict(status="good", meaning=f"{said}: {max(electrons, 0.0):.2g} electrons in {longest:g} s", **common)


class _Corner(NamedTuple):
    light: CornerLight
    image: NDArray[np.float64]
    electrons: float  # in the longest science exposure


def _corners(material: Material, kit: Kit, number: int) -> list[_Corner]:
    """The light from up to two corners in the mean dark of an amplifier, electrons per second."""
    longest, shortest = max(kit.by_exposure), min(kit.by_exposure)
    seconds = longest if kit.biases else longest - shortest
    gain = gain_of(material, kit, number)
    dark = mean_frame(material, kit.by_exposure[longest])[number]
    zero = mean_frame(material, kit.biases or kit.by_exposure[shortest])[number]
    data = np.where(dark.bad, np.nan, dark.data - zero.data) * np.float32(gain / seconds)
    image = cell_means(data, max(2, min(data.shape) // _CELLS))
    made: list[_Corner] = []
    for _ in range(2):
        # differences of neighbours know nothing of what is smooth
        steps = np.diff(image, axis=1)
        sigma = mad_sigma(steps[np.isfinite(steps)]) / math.sqrt(2)
        light = corner_light(image, max(sigma, 1e-9))
        if made and light.amplitude < _SECOND * made[0].light.amplitude:
            break
        made.append(_Corner(light, image, light.amplitude * _longest(kit)))
        image = image - light.model
    return made


def amplifier_glow(material: Material) -> Iterator[Verdict]:
    """Light of an amplifier in the corner where it sits: falls off within a tenth of the diagonal."""
    yield from _from_corners(material, "amplifier glow", glow=True)


def light_leak(material: Material) -> Iterator[Verdict]:
    """Light that reaches a closed detector: falls off from a corner or an edge over much of the chip."""
    yield from _from_corners(material, "light leak", glow=False)


def _from_corners(material: Material, test: str, *, glow: bool) -> Iterator[Verdict]:
    for kit in kits(material):
        if not kit.darks or not max(kit.by_exposure) > 0:
            yield untested(test, "there are no darks", kit.where())
            continue
        if not kit.biases and len(kit.by_exposure) < 2:
            why = (
                "the darks hold the bias, and there are neither biases nor darks of another exposure to tell them apart"
            )
            yield untested(test, why, kit.where())
            continue
        detector = material.leveled(kit.darks[0]).source.detector
        for number in range(len(detector.amplifiers)):
            where = kit.amplifier(detector, number)
            noise = noise_of(material, kit, where) * gain_of(material, kit, number)
            corners = _corners(material, kit, number)
            mine = [one for one in corners if (one.light.scale < _GLOW) == glow]
            yield _corner(test, where, max(mine, key=lambda one: one.electrons, default=None), noise, _longest(kit))


def _corner(test: str, where: str, found: _Corner | None, noise: float, longest: float) -> Verdict:
    if found is None:
        return Verdict(
            test=test, status="good", where=where, meaning="no corner of the darks is brighter than the rest"
        )
    light = found.light
    common: dict[str, Any] = {
        "test": test,
        "where": where,
        "value": light.amplitude,
        "error": light.error,
        "unit": "electron/s",
        "evidence": Evidence(x_label="cells along x", y_label="cells along y", image=found.image.astype(np.float32)),
    }
    said = f"the {light.corner} corner of the darks is brighter by {light.amplitude:.2g} ± {light.error:.1g} electron/s"
    if light.amplitude > _SIGMAS * light.error and found.electrons > _CORNER[0] * noise:
        status = "bad" if found.electrons > _CORNER[1] * noise else "doubtful"
        meaning = (
            f"{said}, falling to 1/e over {100 * light.scale:.0f} % of the diagonal: {found.electrons:.3g} electrons "
            f"in {longest:g} s (read noise {noise:.2g})"
        )
        fix = "darks of the same exposure as the frames" if test == "amplifier glow" else "close the housing"
        return Verdict(status=status, meaning=meaning, fix=fix, **common)
    return Verdict(status="good", meaning=f"{said}: nothing that counts", **common)
