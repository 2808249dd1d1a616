"""The calibration frames that belong together, and what several tests ask of them, worked out once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.robust import mad_sigma
from larun.detector import Amplifier, Detector
from larun.model.checks.material import Material, once
from larun.model.raw.exposures import Exposure
from larun.model.transfer import AmplifierTransfer, detector_key, planes, spread, transfer

__all__ = [
    "SAMPLE",
    "Kit",
    "Mean",
    "gain_error",
    "gain_of",
    "kits",
    "levels",
    "mean_frame",
    "noise_of",
    "sampled",
    "steady_level",
    "transfers",
]

SAMPLE = 250_000  # pixels by which the level of an amplifier is told
_MOST_FILTERS = 4
_MOST_FRAMES = 12
_KEPT = 4  # means
_KEY = ("instrument", "chip", "mode", "binning", "gain", "size")  # what tells detectors apart


class Kit(NamedTuple):
    """The frames of one detector, read in one way.

    Attributes
    ----------
    name : str
        What tells it from the others of the night, and nothing else; empty where it is the only one.
    biases, darks, flats, science : tuple of Exposure
        Its frames.
    """

    name: str
    biases: tuple[Exposure, ...]
    darks: tuple[Exposure, ...]
    flats: tuple[Exposure, ...]
    science: tuple[Exposure, ...]

    @property
    def all(self) -> tuple[Exposure, ...]:
        """All of them in the order of their times."""
        return tuple(sorted(self.biases + self.darks + self.flats + self.science, key=taken))

    @property
    def by_filter(self) -> dict[str, list[Exposure]]:
        """Flats of each filter."""
        found: dict[str, list[Exposure]] = {}
        for item in self.flats:
            found.setdefault(str(item.filter or "no filter"), []).append(item)
        return found

    @property
    def by_exposure(self) -> dict[float, list[Exposure]]:
        """Darks of each exposure time."""
        found: dict[float, list[Exposure]] = {}
        for item in self.darks:
            found.setdefault(float(item.exposure or 0.0), []).append(item)
        return dict(sorted(found.items()))

    def where(self, *more: str) -> str:
        """What a verdict is about."""
        return ", ".join(word for word in (self.name, *more) if word)

    def amplifier(self, detector: Detector, number: int) -> str:
        """An amplifier in words; empty where there is one only."""
        several = len(detector.amplifiers) > 1
        return self.where(f"amplifier {detector.amplifiers[number].name}" if several else "")


def taken(item: Exposure) -> tuple[str, str]:
    """For sorting by time."""
    return str(item.mid_time or item.date or ""), str(item.path)


@once
def kits(material: Material) -> tuple[Kit, ...]:
    """The detectors of a night, each with those of its frames whose pixels can be read and are raw."""
    found: dict[tuple[str, ...], dict[str, list[Exposure]]] = {}
    for item in (facts.item for facts in material.raw):
        if item.kind in ("bias", "dark", "flat", "science"):
            key = (*detector_key(item), str(item.criteria.get("size")))
            found.setdefault(key, {}).setdefault(item.kind, []).append(item)
    differ = [len(set(values)) > 1 for values in zip(*found, strict=True)]
    named: list[Kit] = []
    for key, kinds in sorted(found.items()):
        words = (_told(*pair) for pair, told in zip(zip(_KEY, key, strict=True), differ, strict=True) if told)
        frames = (tuple(kinds.get(kind, ())) for kind in ("bias", "dark", "flat", "science"))
        named.append(Kit(" ".join(words), *frames))
    return tuple(named)


def _told(name: str, value: str) -> str:
    """One of the things that tell detectors apart, in words."""
    if value == "None":
        return f"without {name}"
    value = value.strip("[]()")
    return value if name == "instrument" else f"{name} {value.replace(', ', ' × ')}"


@once
def _transfers(material: Material) -> dict[str, tuple[AmplifierTransfer, ...]]:
    return {}


def transfers(material: Material, kit: Kit) -> tuple[AmplifierTransfer, ...]:
    """Noise and gain of every amplifier of a detector; empty where there are neither flats nor biases nor darks."""
    known = _transfers(material)
    if kit.name not in known:
        known[kit.name] = _measured(material, kit)
    return known[kit.name]


def _measured(material: Material, kit: Kit) -> tuple[AmplifierTransfer, ...]:
    darks = max(kit.by_exposure.values(), key=len, default=[])
    still = list(kit.biases) or darks
    flats = sorted(kit.by_filter.values(), key=len, reverse=True)[:_MOST_FILTERS]
    exposed = spread([*kit.flats, *kit.science], _MOST_FRAMES)
    if not still and not exposed:
        return ()
    detector = material.leveled((still or exposed)[0]).source.detector
    level_known = bool(still) or all(amplifier.overscan is not None for amplifier in detector.amplifiers)
    return transfer(flats if level_known else [], still, material.leveled, exposed)


def noise_of(material: Material, kit: Kit, where: str = "") -> float:
    """The read noise of an amplifier (of the first, where none is named), ADU: measured, or 5 where nothing tells."""
    for one in transfers(material, kit):
        if math.isfinite(one.read_noise.value) and (f"amplifier {one.name}" in where or "amplifier" not in where):
            return one.read_noise.value
    return 5.0


def gain_error(material: Material, kit: Kit, number: int) -> float:
    """1 σ of the measured gain as a part of it; 0 where it was not measured."""
    found = transfers(material, kit)
    measured = found and math.isfinite(found[number].gain.value)
    return found[number].gain.error / found[number].gain.value if measured else 0.0


def gain_of(material: Material, kit: Kit, number: int) -> float:
    """Electrons per ADU: measured, or as it is used; 1 where nobody knows."""
    found = transfers(material, kit)
    if found and math.isfinite(found[number].gain.value):
        return found[number].gain.value
    items = kit.all
    used = material.leveled(items[0]).source.detector.amplifiers[number].gain if items else None
    return used or 1.0


def steady_level(values: NDArray[np.float32]) -> float:
    """Mean of what lies within 4 σ of the median."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.nan
    centre = float(np.median(finite))
    scale = max(mad_sigma(finite, centre), 0.5)
    return float(finite[np.abs(finite - centre) <= 4 * scale].mean(dtype=np.float64))


def sampled(shape: tuple[int, int]) -> int:
    """Every which row and column is looked at, so that a level is told by about as many pixels in every image."""
    return max(1, math.isqrt(shape[0] * shape[1] // SAMPLE))


def levels(material: Material, item: Exposure) -> list[float]:
    """The level of each amplifier of a raw exposure above its overscan, ADU."""
    leveled = material.leveled(item)
    step = sampled(leveled.shape)
    return [steady_level(plane[::step, ::step]) for plane in planes(leveled)]


class Mean(NamedTuple):
    """The mean of some frames of an amplifier, without outliers.

    Attributes
    ----------
    amplifier : Amplifier
        Whose pixels they are.
    data : ndarray of float32, (ny, nx)
        Above overscan, ADU; NaN where no frame has a value.
    flags : ndarray of bool, (ny, nx)
        Pixels that are known to be bad.
    """

    amplifier: Amplifier
    data: NDArray[np.float32]
    bad: NDArray[np.bool_]


@once
def _means(material: Material) -> dict[tuple[str, ...], list[Mean]]:
    return {}


def mean_frame(material: Material, items: Sequence[Exposure], most: int = _MOST_FRAMES) -> list[Mean]:
    """The mean of some raw exposures, amplifier by amplifier: of three or more without the lowest and the highest.

    The last few are kept.
    """
    some = spread(items, most)
    known, key = _means(material), tuple(str(item.part) for item in some)
    if key not in known:
        while len(known) >= _KEPT:
            del known[next(iter(known))]
        known[key] = _mean(material, some)
    return known[key]


def _mean(material: Material, items: Sequence[Exposure]) -> list[Mean]:
    totals: list[NDArray[np.float32]] = []
    for item in items:
        frames = planes(material.leveled(item), flagged=True)
        if not totals:
            totals, lows, highs = ([frame.copy() for frame in frames] for _ in range(3))
            continue
        for frame, total, low, high in zip(frames, totals, lows, highs, strict=True):
            total += frame
            np.minimum(low, frame, out=low)
            np.maximum(high, frame, out=high)
    if len(items) > 2:
        parts = zip(totals, lows, highs, strict=True)
        totals = [(total - low - high) / np.float32(len(items) - 2) for total, low, high in parts]
    else:
        totals = [total / np.float32(len(items)) for total in totals]
    amplifiers = material.leveled(items[0]).source.detector.amplifiers
    bad = _bad(material, items[0])
    return [Mean(*parts) for parts in zip(amplifiers, totals, bad, strict=True)]


def _bad(material: Material, item: Exposure) -> list[NDArray[np.bool_]]:
    """The pixels that the reader or the camera's class calls bad."""
    return [np.asarray((pixels.flags & fl.BAD) != 0) for pixels in material.amplifiers(item)]
