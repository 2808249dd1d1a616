"""Gain and read noise of every amplifier, measured on raw flats and biases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.overscan import OverscanOptions
from larun.algorithms.photontransfer import PairCells, PhotonTransfer, fit_gain, pair_cells, pair_noise
from larun.algorithms.robust import ERROR_OF_MEDIAN, Estimate, mad_sigma
from larun.errors import OptionError
from larun.model import registry
from larun.model.headers import measured_text
from larun.model.raw.opening import RawPart
from larun.model.raw.reduction import Leveled, measure, of_image, open_raw

if TYPE_CHECKING:
    from larun.detector import Amplifier, Detector
    from larun.model.raw.exposures import Exposure

__all__ = [
    "AmplifierTransfer",
    "DetectorOptions",
    "detector_key",
    "measure_detector",
    "measured_values",
    "planes",
    "spread",
    "transfer",
]

_T = TypeVar("_T")

_MOST_BIASES = 6  # that are compared
_MOST_FLATS = 8  # of a filter
_FULL = 0.9  # of the saturation: above it the noise is cut
_DARKEST = 3.0  # read noises: flats below have no light
_NOISIER = 1.05  # overscan of exposed frames over bias pairs, from which on it is what counts
_SURE = 5.0  # σ
_UNKNOWN = Estimate(math.nan, math.nan)
_WORDS = ("header", "measured")


def _word(instance: Any, attribute: Any, value: str) -> None:
    if value not in _WORDS:
        raise OptionError(f"{attribute.name} = {value!r}: use {' or '.join(_WORDS)}; a number is a keyword of its own")


@attrs.frozen(kw_only=True)
class DetectorOptions:
    """Where gain and read noise come from.

    Parameters
    ----------
    gain : {"header", "measured"}
        What headers, the camera's class or the keywords say; or the photon transfer of the night's own flats and
        biases. What was measured is kept in the keywords of the products, with its error.
    read_noise : {"header", "measured"}
        The same of the read noise: pairs of biases, and the overscan of flats where that is noisier.
    """

    gain: str = attrs.field(default="header", validator=_word)
    read_noise: str = attrs.field(default="header", validator=_word)


class AmplifierTransfer(NamedTuple):
    """What flats and biases say of one amplifier.

    Attributes
    ----------
    name : str
        Of the amplifier.
    bias_noise : Estimate
        Rms of a pixel in pairs of biases, ADU, what its row has in common taken away; NaN without a pair.
    row_noise : float
        Rms that all pixels of a row have in common, ADU.
    overscan_noise : Estimate
        Rms in the overscan of exposed frames, ADU, about row and column; NaN without overscan.
    photons : PhotonTransfer or None
        From pairs of flats; None without a pair.
    """

    name: str
    bias_noise: Estimate
    row_noise: float
    overscan_noise: Estimate
    photons: PhotonTransfer | None

    @property
    def read_noise(self) -> Estimate:
        """Rms of a pixel, ADU: of pairs of biases, or of the overscan of exposed frames where that is noisier."""
        pairs, overscan = self.bias_noise, self.overscan_noise
        if not math.isfinite(pairs.value):
            return overscan
        gap = overscan.value - pairs.value
        noisier = overscan.value > _NOISIER * pairs.value and gap > _SURE * math.hypot(pairs.error, overscan.error)
        return overscan if noisier else pairs

    @property
    def gain(self) -> Estimate:
        """Electrons per ADU; NaN where no flats tell."""
        return _UNKNOWN if self.photons is None else Estimate(self.photons.gain, self.photons.gain_error)

    @property
    def electrons(self) -> Estimate:
        """The read noise in electrons by the measured gain."""
        noise, gain = self.read_noise, self.gain
        value = noise.value * gain.value
        return Estimate(value, math.hypot(noise.error * gain.value, noise.value * gain.error))


def transfer(
    flats: Sequence[Sequence[_T]],
    biases: Sequence[_T],
    load: Callable[[_T], Leveled],
    exposed: Sequence[_T] = (),
) -> tuple[AmplifierTransfer, ...]:
    """Noise and gain of every amplifier.

    Parameters
    ----------
    flats : sequence of sequences
        Those of one filter together. There must be overscan, or biases, or their level means nothing.
    biases : sequence
        Of the same size.
    load : callable
        Reads one and measures its overscan.
    exposed : sequence
        Frames whose overscan tells the read noise; by default the flats.

    Returns
    -------
    tuple of AmplifierTransfer
        In the order of the detector's amplifiers.
    """
    some = spread(biases, _MOST_BIASES)
    chosen = [spread(group, _MOST_FLATS) for group in flats]
    first = load(next(iter([*some, *(item for group in chosen for item in group), *exposed])))
    amplifiers = first.source.detector.amplifiers
    dark = [planes(load(item)) for item in some]
    noises = [_bias_noise([frame[n] for frame in dark]) for n in range(len(amplifiers))]
    zero = [np.float32(0)] * len(amplifiers) if not dark else _mean(dark[:2])
    del dark
    shown = exposed or [item for group in chosen for item in group]
    overscans = _overscan_noise(amplifiers, [load(item) for item in shown])
    found: list[list[PairCells]] = [[] for _ in amplifiers]
    for group in chosen:
        for n, cells in _flat_pairs(group, load, zero):
            found[n].append(cells)
    made = []
    for n, amplifier in enumerate(amplifiers):
        pairs, rows = noises[n]
        partial = AmplifierTransfer(amplifier.name, pairs, rows, overscans[n], None)
        noise = partial.read_noise
        if not math.isfinite(noise.value):
            said = amplifier.read_noise / amplifier.gain if amplifier.read_noise and amplifier.gain else 0.0
            noise = Estimate(said, 0.1 * said)
        light = [cells for cells in found[n] if np.nanmedian(np.append(cells.level, 0.0)) > _DARKEST * noise.value]
        made.append(partial._replace(photons=fit_gain(light, noise) if light else None))
    return tuple(made)


def planes(leveled: Leveled, *, flagged: bool = False) -> list[NDArray[np.float32]]:
    """The pixels of each amplifier above the overscan level, ADU, their response made linear by what the detector says.

    NaN where they mean nothing or are saturated.

    With ``flagged`` pixels that are bad or saturated have their values all the same.
    """
    made = []
    for block in leveled.blocks(0, leveled.shape[0]):
        data = np.asarray(block.data, np.float32)
        spoilt = (block.flags & (fl.NO_DATA if flagged else fl.UNUSABLE)) != 0
        if not flagged:
            spoilt |= data >= block.amplifier.saturation
        values = data - block.level[:, None].astype(np.float32)
        if block.amplifier.linearity:
            terms = np.polynomial.polynomial.polyval(values, (1.0, *block.amplifier.linearity))
            values = np.asarray(values * terms, np.float32)
        made.append(np.where(spoilt, np.float32(np.nan), values))
    return made


def spread(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many, evenly from first to last."""
    if len(items) <= most:
        return list(items)
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]


def _pairs(count: int) -> list[tuple[int, int]]:
    """Those that follow each other, and the last with the first."""
    return [(n, (n + 1) % count) for n in range(count if count > 2 else count - 1)]


def _flat_pairs(
    group: Sequence[_T], load: Callable[[_T], Leveled], zero: Sequence[Any]
) -> Iterator[tuple[int, PairCells]]:
    """The cells of each pair of flats and each amplifier; no more than three frames are held at a time."""
    held: dict[int, list[NDArray[np.float32]]] = {}
    for pair in _pairs(len(group)):
        held = {k: frame for k, frame in held.items() if k in (0, *pair)}
        for k in pair:
            if k not in held:
                held[k] = [plane - level for plane, level in zip(planes(load(group[k])), zero, strict=True)]
        leveled = load(group[pair[0]])
        for n, amplifier in enumerate(leveled.source.detector.amplifiers):
            cells = pair_cells(held[pair[0]][n], held[pair[1]][n], scaled=True)
            top = _FULL * (amplifier.saturation - float(leveled.levels[n].mean()))
            yield n, cells._replace(variance=np.where(cells.level < top, cells.variance, np.nan))


def _mean(stacks: list[list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
    return [np.mean(parts, axis=0, dtype=np.float32) for parts in zip(*stacks, strict=True)]


def _bias_noise(frames: list[NDArray[np.float32]]) -> tuple[Estimate, float]:
    """Noise of a pixel, and that of whole rows, from pairs of biases."""
    cells, rows = [], []
    for one, two in ((frames[a], frames[b]) for a, b in _pairs(len(frames))):
        difference = one - two
        difference -= np.float32(np.nanmedian(difference))
        scale = mad_sigma(difference[np.isfinite(difference)], 0.0)
        difference[np.abs(difference) > 5 * max(scale, 0.5)] = np.nan
        counts = np.isfinite(difference).sum(axis=1)
        level = np.nansum(difference, axis=1) / np.maximum(counts, 1)
        used = counts > difference.shape[1] // 2
        if used.sum() < 8:
            continue
        middle = level[used] - np.median(level[used])
        scatter = mad_sigma(middle, 0.0)
        white = float(np.nanvar(difference - level[:, None])) / float(np.median(counts[used]))
        rows.append(max(scatter**2 - white, 0.0) / 2)
        cells.append(pair_cells(one - level[:, None].astype(np.float32), two, scaled=False))
    if not cells:
        return _UNKNOWN, math.nan
    columns = frames[0].shape[1]
    noise = pair_noise(cells)
    grown = math.sqrt(columns / (columns - 1))  # for the mean of each row that was taken away
    return Estimate(noise.value * grown, noise.error * grown), math.sqrt(float(np.mean(rows)))


def _overscan_noise(amplifiers: Sequence[Amplifier], frames: Sequence[Leveled]) -> list[Estimate]:
    """Read noise of each amplifier by the overscan of some frames: their median; NaN without frames or overscan."""
    made = []
    for n, amplifier in enumerate(amplifiers):
        values = [frame.noise[n] for frame in frames]
        known = np.array([value for value in values if value is not None and math.isfinite(value) and value > 0])
        if not known.size or amplifier.overscan is None:
            made.append(_UNKNOWN)
            continue
        value = float(np.median(known))
        pixels = amplifier.overscan.shape[0] * amplifier.overscan.shape[1]
        error = value / math.sqrt(2 * pixels)
        scatter = mad_sigma(known, value)
        made.append(Estimate(value, ERROR_OF_MEDIAN * max(error, scatter) / math.sqrt(known.size)))
    return made


# -- a detector --------------------------------------------------------------------------------------------------------


def measure_detector(
    flats: Iterable[Any],
    biases: Iterable[Any],
    *,
    overscan: OverscanOptions | None = None,
    camera: type[Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Detector:
    """What :meth:`larun.Detector.measure` returns.

    Raises
    ------
    OptionError
        If there are fewer than two flats of a filter, they have no light, or nothing tells the level without light.
    """
    load = _Loader(camera or registry.by_name("larun.model.frame:Frame"), overscan or OverscanOptions(), given or {})
    opened = [[load(item) for item in _listed(items)] for items in (flats, biases)]
    groups: dict[str, list[Leveled]] = {}
    for leveled in opened[0]:
        groups.setdefault(str(leveled.source.quantity("filter") or ""), []).append(leveled)
    pairs = [group for group in groups.values() if len(group) > 1]
    if not pairs:
        raise OptionError(f"{len(opened[0])} flats: the gain needs two or more of one filter")
    detector = pairs[0][0].source.detector
    _check_alike([*opened[0], *opened[1]])
    if not opened[1] and any(amplifier.overscan is None for amplifier in detector.amplifiers):
        raise OptionError("no biases, and a detector without overscan: nothing tells the level without light")
    found = transfer(pairs, opened[1], lambda leveled: leveled)
    dark = [one.name for one in found if not math.isfinite(one.gain.value)]
    if dark:
        raise OptionError(
            f"the flats tell no gain of amplifier {', '.join(dark)}: their noise does not grow with light"
        )
    count = f"{sum(map(len, pairs))} flats"
    made = detector.with_values(
        f"measured: {measured_text([one.gain for one in found])} electron/adu, photon transfer of {count}",
        gain=tuple(one.gain.value for one in found),
    )
    if not all(math.isfinite(one.read_noise.value) for one in found):
        return made
    return made.with_values(
        f"measured: {measured_text([one.electrons for one in found])} electron, {len(opened[1])} biases and {count}",
        read_noise=tuple(one.electrons.value for one in found),
    )


class _Loader(NamedTuple):
    camera: Any
    overscan: OverscanOptions
    given: Mapping[str, Any]

    def __call__(self, item: Any) -> Leveled:
        if isinstance(item, str | Path | RawPart):
            return measure(open_raw(item, self.camera, given=self.given, in_memory=True), self.overscan)
        if getattr(item, "unit", None) != "adu" or not hasattr(item, "detector"):
            raise OptionError(f"{item!r}: is neither a raw frame nor the path of one")
        return measure(of_image(item), self.overscan)


def _listed(items: Any) -> list[Any]:
    return [items] if isinstance(items, str | Path | RawPart) or hasattr(items, "detector") else list(items)


def _check_alike(frames: Sequence[Leveled]) -> None:
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        said = ", ".join(f"{frame.source.name}: {frame.shape[1]} × {frame.shape[0]}" for frame in frames)
        raise OptionError(f"frames of different size tell nothing of each other ({said})")


# -- a night -----------------------------------------------------------------------------------------------------------


def detector_key(item: Exposure) -> tuple[str, ...]:
    """What tells the detector of an exposure, and how it was read, from another."""
    return tuple(str(item.criteria.get(name)) for name in ("instrument", "chip", "mode", "binning", "gain"))


def measured_values(
    exposures: Sequence[Exposure], wanted: Sequence[str], loader: Callable[[Exposure], Leveled]
) -> dict[str, str]:
    """Gain and read noise of the one detector of a night, as texts that stand for keywords.

    Parameters
    ----------
    exposures : sequence of Exposure
        The night.
    wanted : sequence of {"gain", "read_noise"}
        What to measure.
    loader : callable
        Reads an exposure and measures its overscan.

    Raises
    ------
    OptionError
        If there are several detectors, or what is wanted cannot be measured.
    """
    used = [item for item in exposures if item.kind in ("bias", "flat", "science")]
    keys = {detector_key(item) for item in used}
    said = " and ".join(f"detector.{name}=measured" for name in wanted)
    if len(keys) > 1:
        raise OptionError(
            f"{said}: the night holds frames of {len(keys)} detectors or ways to read them: measure each with "
            "Detector.measure(flats, biases) and give the numbers"
        )
    size = next((item.criteria.get("size") for item in used if item.kind == "flat"), None)
    flats: dict[str, list[Exposure]] = {}
    for item in used:
        if item.kind == "flat" and item.criteria.get("size") == size:
            flats.setdefault(str(item.filter), []).append(item)
    biases = [item for item in used if item.kind == "bias" and item.criteria.get("size") in (size, None)]
    pairs = [group for group in flats.values() if len(group) > 1]
    if not pairs:
        raise OptionError(f"{said}: the night has no two flats of one filter: give numbers with --keyword")
    found = transfer(pairs, biases, loader)
    estimates = {"gain": [one.gain for one in found], "read_noise": [one.electrons for one in found]}
    for name in wanted:
        if not all(math.isfinite(one.value) for one in estimates[name]):
            raise OptionError(f"{said}: the flats and biases of the night do not tell it: give it with --keyword")
    return {name: f"{measured_text(estimates[name])} measured" for name in wanted}
