"""Gain and read noise of every amplifier against what the header, the camera's class or the user says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from larun.algorithms.photontransfer import PhotonTransfer
from larun.algorithms.robust import Estimate
from larun.detector import Amplifier
from larun.io.headers import get_numbers
from larun.model.checks.kits import Kit, kits, transfers
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, judge, untested
from larun.model.raw.reduction import Leveled
from larun.model.transfer import AmplifierTransfer

__all__ = ["gain", "read_noise"]

_GAIN_TOLERANCE = 0.10  # reported errors wrong by 5 %
_NOISE_TOLERANCE = 0.20  # the noise of an empty pixel
_FEWEST = 2
_UNIT = "electron/adu"


def gain(material: Material) -> Iterator[Verdict]:
    """The gain by photon transfer: pairs of flats at one level differ by photon noise, which tells it."""
    for kit in kits(material):
        found = transfers(material, kit) if kit.flats else ()
        if not found or all(one.photons is None for one in found):
            why = (
                "there are no two flats of one filter" if not kit.flats else "the flats do not tell: no pair with light"
            )
            if kit.flats and not (kit.biases or kit.darks):
                why = "the flats have no overscan and there are no biases: nothing tells the level without light"
            yield untested("gain", why, kit.where())
            continue
        leveled = material.leveled(kit.flats[0])
        for number, one in enumerate(found):
            where = kit.amplifier(leveled.source.detector, number)
            if one.photons is None or not math.isfinite(one.photons.gain):
                yield untested("gain", "no pair of flats with light", where)
            else:
                yield _gain(leveled, number, one.photons, where, len(kit.flats))


def _gain(leveled: Leveled, number: int, found: PhotonTransfer, where: str, count: int) -> Verdict:
    used = leveled.source.detector.amplifiers[number].gain
    card, keyword = _card(leveled, number)
    said = f"{found.gain:.4g} ± {found.gain_error:.2g}"
    lines = {"measured": found.gain}
    if used is not None:
        lines["in use"] = used
    if card is not None and card != used:
        lines[f"header, {keyword}"] = card
    common: dict[str, Any] = {
        "test": "gain",
        "where": where,
        "value": found.gain,
        "error": found.gain_error,
        "unit": _UNIT,
        "evidence": _ramp(found, lines),
    }
    how = ""
    if found.method == "curve" and abs(found.curvature) > 3 * found.curvature_error:
        how = f", with a curvature of {found.curvature:.2g} per electron"
    elif found.method == "neighbours":
        how = f", {100 * found.shared:.1f} % of the variance shared by neighbours"
    photons = f"photons of {count} flats say {said} {_UNIT}{how}"
    fix = "--set detector.gain=measured"
    if used is None:
        return Verdict(status="bad", meaning=f"no gain is known; {photons}", fix=fix, **common)
    source = leveled.source.detector.sources.get("gain", "")
    status = judge(found.gain, found.gain_error, used, tolerance=_GAIN_TOLERANCE)
    if status in ("bad", "doubtful"):
        effect = 100 * (math.sqrt(found.gain / used) - 1)
        name = f"{keyword} = {card:g}" if card == used else f"gain = {used:g} ({source})"
        size = f"{abs(effect):.0f} % too {'large' if effect > 0 else 'small'}"
        meaning = f"{name}, but {photons}: reported errors are {size}"
        return Verdict(status=status, meaning=meaning, expected=used, fix=fix, **common)
    meaning = f"{photons}; {used:.4g} is used ({source})"
    overruled = not source.startswith(("given", "measured: "))
    if card is not None and overruled and _false(found, card):
        meaning = f"{keyword} = {card:g} in the headers is false: {meaning}, which is right"
        return Verdict(status="doubtful", meaning=meaning, expected=card, **common)
    return Verdict(status="good", meaning=meaning, expected=used, **common)


def _false(found: PhotonTransfer, card: float) -> bool:
    return judge(found.gain, found.gain_error, card, tolerance=_GAIN_TOLERANCE) == "bad"


def _card(leveled: Leveled, number: int) -> tuple[float | None, str]:
    """What the header itself says, whatever is used."""
    values, keyword = get_numbers(leveled.source.header, leveled.source.camera.all_keywords()["gain"])
    if keyword is None or not values:
        return None, ""
    return float(values[number] if number < len(values) else values[0]), keyword


def _ramp(found: PhotonTransfer, gains: dict[str, float]) -> Evidence:
    top = float(found.level[-1])
    x = np.linspace(0, top, 50)
    series = [Series("pairs of flats", found.level, found.variance, found.variance_error)]
    for label, value in gains.items():
        y = x / value
        if label == "measured" and found.method == "curve":
            y = y + found.curvature * x**2
        series.append(Series(f"{label}: {value:.4g} {_UNIT}", x, y, line=True))
    return Evidence(x_label="level above bias (adu)", y_label="photon variance (adu²)", series=series)


def read_noise(material: Material) -> Iterator[Verdict]:
    """The read noise by pairs of biases, and by the overscan of exposed frames."""
    for kit in kits(material):
        found = transfers(material, kit)
        if not found or not any(math.isfinite(one.read_noise.value) for one in found):
            yield untested("read noise", "there are no two biases or darks, and no overscan", kit.where())
            continue
        item = next(iter([*kit.biases, *kit.flats, *kit.science, *kit.darks]))
        detector = material.leveled(item).source.detector
        for number, one in enumerate(found):
            yield _read_noise(
                kit, one, detector.amplifiers[number], dict(detector.sources), kit.amplifier(detector, number)
            )


def _read_noise(kit: Kit, one: AmplifierTransfer, amplifier: Amplifier, sources: dict[str, str], where: str) -> Verdict:
    noise, gain_used = one.read_noise, amplifier.gain
    gain_known = one.gain.value if math.isfinite(one.gain.value) else gain_used
    parts = []
    darks_only = not kit.biases and math.isfinite(one.bias_noise.value)
    if math.isfinite(one.bias_noise.value):
        parts.append(f"pairs of {'darks' if darks_only else 'biases'} scatter by {_said(one.bias_noise)} adu")
        if one.row_noise > 0.2 * one.bias_noise.value:
            parts.append(f"whole rows by {one.row_noise:.2g} adu")
    if math.isfinite(one.overscan_noise.value):
        parts.append(f"the overscan of exposed frames by {_said(one.overscan_noise)} adu")
    meaning = ", ".join(parts)
    said = amplifier.read_noise
    expected = None if said is None or not gain_known else said / gain_known
    common: dict[str, Any] = {
        "test": "read noise",
        "where": where,
        "value": noise.value,
        "error": noise.error,
        "unit": "adu",
        "evidence": _noises(one, expected),
    }
    fix = "--set detector.read_noise=measured"
    if said is None or expected is None:
        what = "read noise" if said is None else "gain"
        return Verdict(status="bad", meaning=f"no {what} is known; {meaning}", fix=fix, **common)
    source = sources.get("read_noise", "")
    named = f"{said:g} electron ({source})" if source else f"{said:g} electron"
    if darks_only and not math.isfinite(one.overscan_noise.value) and noise.value > expected:
        meaning = f"{meaning}, the noise of the dark current included; {named} are {expected:.3g} adu"
        return Verdict(status="untested", meaning=meaning, expected=expected, **common)
    status = judge(noise.value, noise.error, expected, tolerance=_NOISE_TOLERANCE)
    if not math.isfinite(one.gain.value) and sources.get("gain", "").startswith("none"):
        status = "doubtful"
    meaning = f"{meaning}; {named} are {expected:.3g} adu"
    if status in ("bad", "doubtful"):
        effect = 100 * (expected / noise.value - 1)
        meaning += f": errors of faint sources are up to {abs(effect):.0f} % too {'large' if effect > 0 else 'small'}"
        return Verdict(status=status, meaning=meaning, expected=expected, fix=fix, **common)
    return Verdict(status=status, meaning=meaning, expected=expected, **common)


def _said(one: Estimate) -> str:
    return f"{one.value:.3g}" if one.error < 0.05 * one.value else f"{one.value:.2g}"


def _noises(one: AmplifierTransfer, expected: float | None) -> Evidence:
    known = [
        (name, value)
        for name, value in (("pairs of frames", one.bias_noise), ("overscan", one.overscan_noise))
        if math.isfinite(value.value)
    ]
    series = [
        Series("measured", range(len(known)), [v.value for _, v in known], [v.error for _, v in known]),
    ]
    if expected is not None:
        series.append(Series("in use", [-0.5, len(known) - 0.5], [expected, expected], line=True))
    return Evidence(x_label="", y_label="read noise (adu)", series=series, names=[name for name, _ in known])
