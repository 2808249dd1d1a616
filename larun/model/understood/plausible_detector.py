"""Whether gain, read noise, levels and sections of a detector can be true, alone and against its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator

from larun.detector import Amplifier
from larun.model.understood.known import AmplifierPixels, Finding, Known

__all__ = ["GAIN", "NOISE", "gain", "linear_limit", "read_noise", "saturation", "sections"]

#: Electrons per ADU of a detector, least and most; most electrons of read noise.
GAIN = (0.005, 200)
NOISE = 100


def _missing(known: Known, quantity: str) -> Iterator[Finding]:
    lacking = [a for a in known.amplifiers if getattr(a, quantity) is None]
    if lacking and known.values.get("unit") == "adu":
        said = known.detector.sources.get(quantity, "nothing says it") if known.detector else ""
        which = "" if len(lacking) == len(known.amplifiers) else f" of amplifier {', '.join(a.name for a in lacking)}"
        word = quantity.replace("_", " ")
        yield Finding(
            quantity,
            "error",
            f"no {word}{which} ({said}): calibration refuses",
            f"measure it, and return it from detector_for, or give it: --keyword {quantity}=…",
        )


def gain(known: Known) -> Iterator[Finding]:
    """Missing, impossible, or a mode rather than a measurement."""
    yield from _missing(known, "gain")
    values = [(a, a.gain) for a in known.amplifiers if a.gain is not None]
    for amplifier, value in values:
        where = known.named(amplifier)
        if not 0 < value < math.inf:
            yield Finding(
                "gain",
                "error",
                f"gain{where} is {value:g}: must be positive, in electrons per ADU",
                "measure it from pairs of flats, and return it from detector_for",
            )
        elif not GAIN[0] <= value <= GAIN[1]:
            yield Finding(
                "gain",
                "warning",
                f"gain{where} is {value:g} electrons per ADU",
                "is it a setting of the camera (ISO, or tenths of a decibel)? measure it from pairs of flats",
            )
        elif value == 1 and known.whole_numbers is not False and known.values.get("unit") == "adu":
            yield Finding(
                "gain",
                "warning",
                f"gain{where} is exactly 1 and pixels are whole numbers: often a mode, not a measurement",
                "measure it from pairs of flats: the variance of their difference, over twice the signal, is 1/gain",
            )
    spread = [value for _, value in values if value > 0]
    if spread and max(spread) > 2 * min(spread):
        yield Finding(
            "gain",
            "warning",
            f"gains of the amplifiers differ by a factor of {max(spread) / min(spread):.1f}",
            "amplifiers of one detector rarely differ by more than a few per cent: is one of them a mode?",
        )


def read_noise(known: Known) -> Iterator[Finding]:
    """Missing, impossible, or not what the overscan shows."""
    yield from _missing(known, "read_noise")
    for index, amplifier in enumerate(known.amplifiers):
        noise, where = amplifier.read_noise, known.named(amplifier)
        if noise is None:
            continue
        if noise < 0 or not math.isfinite(noise):
            yield Finding(
                "read_noise",
                "error",
                f"read noise{where} is {noise:g}",
                "measure it from pairs of bias frames, in electrons, and return it from detector_for",
            )
        elif noise == 0 or noise > NOISE:
            yield Finding(
                "read_noise",
                "warning",
                f"read noise{where} is {noise:g} electrons",
                "measure it from pairs of bias frames: the scatter of their difference, over √2, times the gain",
            )
        elif index < len(known.pixels):
            yield from _against_overscan(known, amplifier, known.pixels[index])


def _against_overscan(known: Known, amplifier: Amplifier, pixels: AmplifierPixels) -> Iterator[Finding]:
    measured, gain, stated = pixels.overscan_noise, amplifier.gain, amplifier.read_noise
    if measured is None or not gain or gain <= 0 or not stated:
        return
    ratio = measured * gain / stated
    if not 0.6 < ratio < 1.7:
        yield Finding(
            "read_noise",
            "warning",
            f"neighbouring overscan pixels{known.named(amplifier)} scatter by {measured:.3g} ADU = "
            f"{measured * gain:.3g} electrons, but the read noise is {stated:g}",
            "measure gain and read noise; or the overscan section is not where it should be",
        )


def saturation(known: Known) -> Iterator[Finding]:
    """Missing, beyond what pixels can hold, or among the values of ordinary pixels."""
    for index, amplifier in enumerate(known.amplifiers):
        level, where = amplifier.saturation, known.named(amplifier)
        pixels = known.pixels[index] if index < len(known.pixels) else None
        if not math.isfinite(level):
            piled = f"; {pixels.at_highest} pixels share the highest value, {pixels.high:g}" if pixels else ""
            yield Finding(
                "saturation",
                "note",
                f"no saturation level{where}: no pixel is flagged SATURATED"
                + (piled if pixels and pixels.at_highest > 10 else ""),
                "return it from detector_for (65535 where the converter of 16 bit stops first)",
            )
        elif known.whole_numbers and level > 65535 and (pixels is None or pixels.high <= 65535):
            yield Finding(
                "saturation",
                "warning",
                f"saturation{where} is {level:g}, above 65535, where pixels of 16 bit end: none is ever flagged",
                "give it in ADU, not in electrons; 65535 if the converter stops before the pixels are full",
            )
        elif pixels is not None and level < pixels.median:
            yield Finding(
                "saturation",
                "warning",
                f"saturation{where} is {level:g}, below the median of the pixels ({pixels.median:g})",
                "most pixels would be SATURATED: give the level in ADU, before bias subtraction",
            )
        elif pixels is not None and pixels.above_saturation > 0.02:
            yield Finding(
                "saturation",
                "warning",
                f"{100 * pixels.above_saturation:.1f} % of the pixels{where} are above saturation ({level:g})",
                "overexposed, or the level is too low",
            )


def linear_limit(known: Known) -> Iterator[Finding]:
    """Beyond saturation."""
    for amplifier in known.amplifiers:
        if math.isfinite(amplifier.linear_limit) and amplifier.linear_limit > amplifier.saturation:
            yield Finding(
                "linear_limit",
                "warning",
                f"linear limit{known.named(amplifier)} {amplifier.linear_limit:g} is above saturation "
                f"{amplifier.saturation:g}",
                "one of them is not in ADU",
            )


def _geometry(known: Known) -> Iterator[Finding]:
    if known.detector is None or known.shape is None:
        return
    ny, nx = known.shape
    size = f"{nx} × {ny} array"
    for amplifier in known.amplifiers:
        for what, section in (("data", amplifier.data), ("overscan", amplifier.overscan)):
            if section is not None and not section.within(known.shape):
                yield Finding(
                    "sections",
                    "error",
                    f"{what} section{known.named(amplifier)} {tuple(section)} is not inside the {size}",
                    "sections are 0-based and half open, (y0, y1, x0, x1), in the raw array",
                )
        if amplifier.overscan is not None and amplifier.overscan.intersect(amplifier.data):
            yield Finding(
                "sections",
                "error",
                f"overscan{known.named(amplifier)} {tuple(amplifier.overscan)} overlaps its data section",
                "the overscan sees no light: check the columns",
            )
    for index, first in enumerate(known.amplifiers):
        for second in known.amplifiers[index + 1 :]:
            if first.data.intersect(second.data):
                yield Finding(
                    "sections",
                    "error",
                    f"data sections of amplifiers {first.name} and {second.name} overlap",
                    "every pixel belongs to one amplifier",
                )
            other = second.overscan and second.overscan.intersect(first.data)
            if other or (first.overscan and first.overscan.intersect(second.data)):
                yield Finding(
                    "sections",
                    "error",
                    f"overscan and data of amplifiers {first.name} and {second.name} overlap",
                    "the overscan sees no light: check the columns",
                )
    used = sum(a.data.shape[0] * a.data.shape[1] for a in known.amplifiers)
    tiled = known.detector.trimmed_shape
    if used < tiled[0] * tiled[1]:
        yield Finding(
            "sections",
            "error",
            f"data sections do not fill the trimmed {tiled[1]} × {tiled[0]} array: "
            f"{tiled[0] * tiled[1] - used} pixels belong to no amplifier",
            "give every block of the rectangle to one amplifier",
        )
    elif used < 0.5 * nx * ny:
        yield Finding(
            "sections",
            "warning",
            f"data sections hold only {100 * used / (nx * ny):.0f} % of the {size}",
            "is a section missing, or in unbinned pixels?",
        )
    told = known.detector.sources.get("sections", "")
    if "already trimmed" in told:
        yield Finding(
            "sections",
            "note",
            f"{told}: sections of the header are ignored",
            "right for trimmed files; otherwise return the sections from detector_for",
        )


def _overscan_level(known: Known) -> Iterator[Finding]:
    for amplifier, pixels in zip(known.amplifiers, known.pixels, strict=False):
        level, scatter = pixels.overscan, pixels.overscan_noise
        if level is None or scatter is None:
            continue
        where, wide = known.named(amplifier), max(scatter, 1.0)
        if known.kind == "bias" and abs(level - pixels.median) > max(20 * wide, 0.1 * abs(level)):
            problem = f"overscan{where} at {level:g} ADU, the bias frame itself at {pixels.median:g}"
            advice = "they should agree: is the section in the overscan, and is this a bias frame?"
        elif level > pixels.median + 5 * wide:
            problem = f"overscan{where} at {level:g} ADU is brighter than the image ({pixels.median:g})"
            advice = "the overscan sees no light: check the section"
        elif known.kind == "flat" and pixels.median - level < 20 * wide:
            problem = f"overscan{where} at {level:g} ADU is as bright as the flat ({pixels.median:g})"
            advice = "the section lies in the light, or the lamp was off"
        else:
            continue
        yield Finding("sections", "warning", problem, advice)


def sections(known: Known) -> Iterator[Finding]:
    """Outside the array, overlapping, with holes; an overscan that does not look like one."""
    yield from _geometry(known)
    yield from _overscan_level(known)
