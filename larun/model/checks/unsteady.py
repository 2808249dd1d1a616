"""What changes from one bias to the next besides read noise: waves of interference, pixels that switch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.interference import LARGEST, strongest_wave
from larun.errors import OptionError
from larun.model.checks.kits import kits, noise_of
from larun.model.checks.material import Material
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.transfer import planes, spread

__all__ = ["pickup", "telegraph_pixels"]

_WAVE = (0.15, 0.5)  # of the read noise
_SWITCHING = (1e-4, 1e-3)  # of the pixels
_STEP = 8.0  # read noises
_PIXELS = 4_000_000  # that are looked at one by one


def pickup(material: Material) -> Iterator[Verdict]:
    """Waves in what biases do not have in common: interference."""
    for kit in kits(material):
        items = spread(kit.biases or max(kit.by_exposure.values(), key=len, default=[]), 6)
        if len(items) < 2:
            yield untested("pickup", "there are no two biases or darks", kit.where())
            continue
        detector = material.leveled(items[0]).source.detector
        frames = [[_middle(plane) for plane in planes(material.leveled(item))] for item in items]
        for number in range(len(detector.amplifiers)):
            where = kit.amplifier(detector, number)
            noise = noise_of(material, kit, where)
            try:
                wave = strongest_wave([frame[number] for frame in frames])
            except OptionError as error:
                yield untested("pickup", str(error), where)
                continue
            image = np.log10(np.maximum(np.fft.fftshift(wave.spectrum, axes=0), 0.1))
            common: dict[str, Any] = {
                "test": "pickup",
                "where": where,
                "value": wave.amplitude,
                "error": wave.error,
                "unit": "adu",
                "evidence": Evidence(
                    x_label="cycles along a row",
                    y_label="cycles along a column",
                    image=_peaks(image.astype(np.float32)),
                ),
            }
            said = (
                f"strongest wave: {wave.amplitude:.2g} adu, {wave.along_row:.4f} cycles per pixel along rows, "
                f"{wave.along_column:.4f} per row"
            )
            if wave.chance < 1e-6 and wave.amplitude > _WAVE[0] * noise:
                status = "bad" if wave.amplitude > _WAVE[1] * noise else "doubtful"
                meaning = f"{said} (read noise {noise:.2g} adu): electric interference, another phase in each frame"
                yield Verdict(status=status, meaning=meaning, fix="find its source; frames keep it", **common)
            else:
                yield Verdict(status="good", meaning=f"{said}: no interference that counts", **common)


def _middle(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """The middle of a large plane."""
    at = [slice((n - m) // 2, (n + m) // 2) for n in plane.shape for m in [min(n, LARGEST)]]
    return plane[at[0], at[1]].copy()


def _peaks(image: NDArray[np.float32], most: int = 512) -> NDArray[np.float32]:
    """The image made smaller, peaks kept."""
    step = [max(1, math.ceil(length / most)) for length in image.shape]
    ny, nx = (length // s * s for length, s in zip(image.shape, step, strict=True))
    return np.asarray(image[:ny, :nx].reshape(ny // step[0], step[0], nx // step[1], step[1]).max(axis=(1, 3)))


def telegraph_pixels(material: Material) -> Iterator[Verdict]:
    """Pixels that are up in some biases and down in others: two and more frames each, so no cosmic ray does it."""
    for kit in kits(material):
        items = spread(kit.biases, 10)
        if len(items) < 5:
            yield untested("telegraph pixels", "there are no five biases", kit.where())
            continue
        detector = material.leveled(items[0]).source.detector
        rows = max(1, math.ceil(detector.trimmed_shape[0] * detector.trimmed_shape[1] / _PIXELS))
        frames = [[plane[::rows] for plane in planes(material.leveled(item))] for item in items]
        for number in range(len(detector.amplifiers)):
            where = kit.amplifier(detector, number)
            yield _telegraph(np.stack([frame[number] for frame in frames]), noise_of(material, kit, where), where)


def _telegraph(stack: NDArray[np.float32], noise: float, where: str) -> Verdict:
    stack -= np.nanmedian(stack, axis=(1, 2), keepdims=True)
    ordered = np.sort(stack, axis=0)  # NaN comes last
    step = ordered[-2] - ordered[1]
    good = np.isfinite(ordered[-1])
    found = good & (step > _STEP * noise)
    count, total = int(found.sum()), max(int(good.sum()), 1)
    fraction = count / total
    steps = np.sort(step[found])[::-1]
    common: dict[str, Any] = {
        "test": "telegraph pixels",
        "where": where,
        "value": fraction,
        "error": math.sqrt(max(count, 1)) / total,
        "evidence": Evidence(
            x_label="pixels, by falling step",
            y_label="step between two levels (adu)",
            series=[Series("steps", np.arange(1, steps.size + 1)[:2000], steps[:2000])],
            log="xy" if steps.size else "",
        ),
    }
    apart = f"{_STEP:g} read noises ({_STEP * noise:.3g} adu)"
    said = f"{count} of {total} pixels switch between levels more than {apart} apart"
    if fraction > _SWITCHING[0] and count > 5:
        status = "bad" if fraction > _SWITCHING[1] else "doubtful"
        return Verdict(status=status, meaning=f"{said}: no master removes them", fix="--bad-pixels MASK.fits", **common)
    return Verdict(status="good", meaning=said, **common)
