"""What is kept of a raw exposure for the tests of a night: numbers, its digest, and when it was taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms import ephemeris
from larun.algorithms.jit import threads
from larun.algorithms.starlike import starlike_peaks
from larun.errors import LarunError
from larun.model import registry
from larun.model.raw.exposures import Exposure, stem_of
from larun.model.raw.reduction import Leveled
from larun.model.time.timing import ExposureTime

__all__ = ["CELLS", "RawFacts", "above_overscan", "raw_facts", "sun_altitude"]

#: Cells along each axis.
CELLS = 16
_MOST = 1024  # rows and columns of the window in which stars are looked for
_SAMPLE = 512  # rows and columns that are sampled for the level


class RawFacts(NamedTuple):
    """Facts about one raw exposure; levels in ADU.

    Attributes
    ----------
    name : str
        Of the file, without suffixes, and of the part.
    item : Exposure
        The exposure.
    digest : str
        Of its pixels.
    level : float
        Median of the light-sensitive pixels, above the overscan where there is one.
    zeroed : bool
        Whether an overscan was subtracted.
    noise : float
        Pixel-to-pixel noise.
    overscan_noise : float or None
        Read noise in the overscan.
    stars : int
        Peaks that look like stars, in the middle of the array.
    cells : ndarray of float32, (16, 16)
        Medians over the array.
    start, mid, end : float or None
        Julian dates (UTC).
    sun, altitude : float or None
        Altitudes of the Sun and of the pointing in the middle of the exposure, degrees; None where not known.
    site : (longitude, latitude, height) or None
        Degrees east and north, metres.
    doubts : tuple of str
        What its cards of time and place contradict each other in.
    """

    name: str
    item: Exposure
    digest: str
    level: float
    zeroed: bool
    noise: float
    overscan_noise: float | None
    stars: int
    cells: NDArray[np.float32]
    start: float | None
    mid: float | None
    end: float | None
    sun: float | None
    altitude: float | None
    site: tuple[float, float, float] | None
    doubts: tuple[str, ...]

    @property
    def format(self) -> tuple[str, ...]:
        """What exposures must have in common to be compared: camera, chip, mode, size, binning."""
        return tuple(repr(self.item.criteria.get(n)) for n in ("instrument", "chip", "mode", "size", "binning"))


def raw_facts(items: Iterable[Exposure], leveled: Callable[[Exposure], Leveled]) -> tuple[RawFacts, ...]:
    """The facts about the exposures whose pixels can be read, in their order."""
    with ThreadPoolExecutor(threads()) as pool:
        found = pool.map(lambda item: _facts(item, leveled), items)
        return tuple(facts for facts in found if facts is not None)


def _facts(item: Exposure, leveled: Callable[[Exposure], Leveled]) -> RawFacts | None:
    if item.kind in ("other", "unreadable"):
        return None
    try:
        found = leveled(item)
    except LarunError:
        return None  # the reduction says why it cannot be read
    source = found.source
    pixels = above_overscan(found)
    step = [max(1, n // _SAMPLE) for n in pixels.shape]
    sample = pixels[:: step[0], :: step[1]]
    sample = sample[np.isfinite(sample)]
    look = starlike_peaks(pixels[_middle(pixels.shape[0]), _middle(pixels.shape[1])])
    noise = [value for value in found.noise if value is not None and math.isfinite(value)]
    root = next(iter(source.provenance.roots()), None) if source.provenance is not None else None
    moment = _moment(registry.ask(source.camera, "time_for", source.name, source.header))
    label = item.part.label
    return RawFacts(
        name=stem_of(item.path) + (f"-{label}" if label else ""),
        item=item,
        digest="" if root is None else root.pixels if isinstance(root.pixels, str) else root.pixels(),
        level=float(np.median(sample)) if sample.size else math.nan,
        zeroed=all(value is not None for value in found.noise),
        noise=look.noise,
        overscan_noise=float(np.median(noise)) if noise else None,
        stars=look.stars,
        cells=_cells(pixels[:: step[0], :: step[1]]),
        **moment,
    )


def above_overscan(leveled: Leveled) -> NDArray[np.float32]:
    """The trimmed image above its overscan; NaN where a pixel has no value or is bad, but not where it is saturated."""
    made = np.empty(leveled.shape, np.float32)
    for block in leveled.blocks(0, leveled.shape[0]):
        data = np.asarray(block.data, np.float32) - block.level[:, None].astype(np.float32)
        data[(np.asarray(block.flags) & (fl.UNUSABLE & ~fl.SATURATED)) != 0] = np.nan
        made[block.place.slices] = data
    return made


def _cells(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Medians of 16 × 16 equal parts; what has no value counts as the median of all."""
    finite = np.isfinite(sample)
    filled = sample if finite.all() else np.where(finite, sample, np.float32(np.median(sample[finite])))
    rows = np.array_split(filled, CELLS, axis=0)
    return np.array([[np.median(part) for part in np.array_split(row, CELLS, axis=1)] for row in rows], np.float32)


def _middle(length: int) -> slice:
    size = min(length, _MOST)
    return slice((length - size) // 2, (length + size) // 2)


def _moment(time: ExposureTime) -> dict[str, Any]:
    """When it was taken, and where the Sun and the target stood."""
    made: dict[str, Any] = dict.fromkeys(("start", "mid", "end", "sun", "altitude", "site"))
    made["doubts"] = time.doubts
    if time.site is not None:
        made["site"] = (time.site.longitude, time.site.latitude, time.site.height)
    if time.mid_text is None:
        return made
    half = (time.exposure or 0.0) / 2 / 86400.0
    jd = time.jd_utc
    made |= {"start": jd - half, "mid": jd, "end": jd + half, "altitude": time.altitude}
    if made["site"] is not None:
        made["sun"] = sun_altitude(jd, made["site"])
    return made


def sun_altitude(jd: float, site: tuple[float, float, float]) -> float:
    """True altitude of the Sun in degrees at a Julian date (UTC), at a site (longitude, latitude, height)."""
    moment = ephemeris.from_julian_date(jd, 0.0)
    return float(ephemeris.altitude(moment, *ephemeris.sun(moment), site))
