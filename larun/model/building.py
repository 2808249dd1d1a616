"""How masters are built: frames levelled, calibrated row by row, combined by bands under a memory limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.calibrate import AmplifierValues, calibrate_block
from larun.algorithms.combine import Combined, CombineOptions, combine
from larun.algorithms.inflation import Inflation, check_inflation, fit_inflation
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import FileError, OptionError
from larun.model import registry
from larun.model.reduction import Leveled, RawSource, measure, of_image, open_raw, sample_rows
from larun.provenance import Parent, recording

if TYPE_CHECKING:
    from larun.model.image import Image
    from larun.model.masters import MasterBias, MasterDark

__all__ = ["MAX_MEMORY", "Job", "bias_rows", "criteria_of", "dark_rows", "fields", "flat_rows", "mask_from"]

#: Bytes a combination may use unless the caller says otherwise.
MAX_MEMORY = 1e9


class RowPlanes(NamedTuple):
    """Rows of one exposure, ready to be combined."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]


Process = Callable[[Leveled, int, int], RowPlanes]


@attrs.frozen(kw_only=True, eq=False)
class Job:
    """A set of levelled exposures of one size, sorted by provenance id so that file order never matters."""

    sources: tuple[Leveled, ...]
    max_memory: float

    @classmethod
    def prepare(
        cls,
        frames: Iterable[Image | str | Path],
        overscan: OverscanOptions,
        given: Mapping[str, Any] | None,
        max_memory: float,
    ) -> Self:
        """Open and measure every exposure; their records become parents of the operation that is running."""
        listed = [frames] if isinstance(frames, str | Path) else list(frames)
        if not listed:
            raise OptionError("there are no frames to combine")
        base = registry.by_name("larun.model.frame:Frame")
        assert base is not None
        paths = [item for item in listed if isinstance(item, str | Path)]
        in_memory = _bytes_of(paths) < max_memory / 2
        opened = [
            open_raw(item, base, given=given or {}, in_memory=in_memory)
            if isinstance(item, str | Path)
            else _raw_only(item)
            for item in listed
        ]
        sources = sorted((measure(item, overscan) for item in opened), key=lambda leveled: _provenance(leveled).id)
        for source in sources:
            recording().parents.append(Parent("frame", _provenance(source)))
        recording().fit(frames=[{"name": Path(s.source.name).name, **s.fitted()} for s in sources])
        shapes = {source.shape for source in sources}
        if len(shapes) > 1:
            sizes = ", ".join(f"{s.source.name}: {s.shape[1]} × {s.shape[0]}" for s in sources)
            raise OptionError(f"frames of different size cannot be combined ({sizes})")
        return cls(sources=tuple(sources), max_memory=max_memory)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the result."""
        return self.sources[0].shape

    def common_exposure(self) -> float:
        """The exposure time all frames share.

        Raises
        ------
        OptionError
            If it is missing, zero, or differs.
        """
        times = {s.source.name: s.source.quantity("exposure") for s in self.sources}
        for name, time in times.items():
            if not time:
                raise OptionError(f"{name}: exposure time is {time}: give it with given={{'exposure': …}} or --keyword EXPTIME=…")
        if max(times.values()) > 1.01 * min(times.values()):
            raise OptionError(f"darks of different exposure cannot be combined: {sorted(set(times.values()))} s")
        return float(np.mean(sorted(times.values())))

    def rows(self, process: Process, y0: int, y1: int) -> RowPlanes:
        """The same rows of every exposure, stacked."""
        parts = [process(source, y0, y1) for source in self.sources]
        return RowPlanes(*(np.stack(planes) for planes in zip(*parts, strict=True)))

    def combine(self, process: Process, options: CombineOptions, weights: NDArray[np.float64] | None = None) -> Combined:
        """Combine all exposures by bands of rows; the noise model is checked on a fixed sample of rows first."""
        ny, nx = self.shape
        inflation: Inflation | None = None
        if options.method == "clipped" and options.clip == "noise" and len(self.sources) > 1:
            sample = [self.rows(process, int(y), int(y) + 1) for y in sample_rows(ny, 64)]
            stacked = RowPlanes(*(np.concatenate(planes, axis=1) for planes in zip(*sample, strict=True)))
            inflation = fit_inflation(stacked.data, stacked.variance, stacked.flags)
            check_inflation(inflation)
            recording().fit(inflation=inflation.factor)
        per_row = len(self.sources) * nx * 4 * 8
        band = int(np.clip(self.max_memory / 2 / per_row, 1, ny))
        made = []
        for y0 in range(0, ny, band):
            planes = self.rows(process, y0, min(y0 + band, ny))
            factor = 1.0 if inflation is None else inflation.factor
            made.append(combine(*planes, options=options, weights=weights, inflation=factor))
        if len(made) == 1:
            return made[0]
        return Combined(*(np.concatenate(planes) for planes in zip(*made, strict=True)))


def _provenance(leveled: Leveled) -> Any:
    provenance = leveled.source.provenance
    assert provenance is not None
    return provenance


def _raw_only(image: Image) -> RawSource:
    if image.unit != "adu" or image.provenance.has("calibrate"):
        raise OptionError(f"{image!r} is not raw: masters are combined from raw frames")
    return of_image(image)


def _bytes_of(paths: list[str | Path]) -> float:
    """Memory the frames would take once read."""
    from larun.io.raw import RowReader

    if not paths:
        return 0.0
    if not Path(paths[0]).is_file():
        raise FileError(f"{paths[0]}: no such file")
    ny, nx = RowReader(paths[0]).shape
    return float(len(paths)) * ny * nx * 12


def _values(leveled: Leveled, index: int) -> AmplifierValues:
    detector, where = leveled.source.detector, leveled.source.name
    amplifier = detector.amplifiers[index]
    return AmplifierValues(
        gain=detector.require("gain", where)[index],
        read_noise=detector.require("read_noise", where)[index],
        saturation=amplifier.saturation,
        linear_limit=amplifier.linear_limit,
        linearity=amplifier.linearity,
    )


def _empty(rows: int, columns: int) -> RowPlanes:
    return RowPlanes(
        np.empty((rows, columns), np.float32), np.empty((rows, columns), np.float32), np.empty((rows, columns), np.uint32)
    )


def bias_rows(leveled: Leveled, y0: int, y1: int) -> RowPlanes:
    """Bias rows: overscan removed, ADU, read noise only (a bias has no Poisson term)."""
    made = _empty(y1 - y0, leveled.shape[1])
    for block in leveled.blocks(y0, y1):
        index = leveled.source.detector.amplifiers.index(block.amplifier)
        values = _values(leveled, index)
        cut = (slice(block.place.y0 - y0, block.place.y1 - y0), slice(block.place.x0, block.place.x1))
        made.data[cut] = block.data - block.level[:, None]
        made.variance[cut] = (values.read_noise / values.gain) ** 2
        # Full scale in a bias is a defect, not light.
        made.flags[cut] = np.where(block.data >= values.saturation, block.flags | fl.BAD, block.flags)
    return made


def _calibrated(
    leveled: Leveled, y0: int, y1: int, bias: MasterBias | None, dark: MasterDark | None, exposure: float
) -> tuple[RowPlanes, NDArray[np.float32]]:
    """Rows in electrons with bias and dark removed, and the gain of every pixel."""
    made = _empty(y1 - y0, leveled.shape[1])
    gains = np.empty(made.data.shape, np.float32)
    for block in leveled.blocks(y0, y1):
        index = leveled.source.detector.amplifiers.index(block.amplifier)
        place = block.place.slices
        cut = (slice(block.place.y0 - y0, block.place.y1 - y0), place[1])
        values = _values(leveled, index)
        planes = calibrate_block(
            block.data,
            block.flags,
            block.level,
            amplifier=values,
            bias=None if bias is None else bias.data[place],
            dark=None if dark is None else dark.data[place],
            exposure=0.0 if dark is None else dark.scaled(exposure),
        )
        flags = planes.flags
        for master in (bias, dark):
            if master is not None:
                flags = flags | master.flags[place]
        made.data[cut], made.variance[cut], made.flags[cut] = planes.data, planes.variance, fl.resolve_bad(flags)
        gains[cut] = values.gain
    return made, gains


def dark_rows(bias: MasterBias | None) -> Process:
    """Dark rows in ADU: overscan and bias removed, Poisson noise of the dark current included."""

    def process(leveled: Leveled, y0: int, y1: int) -> RowPlanes:
        made, gains = _calibrated(leveled, y0, y1, bias, None, 0.0)
        return RowPlanes(made.data / gains, made.variance / gains**2, made.flags)

    return process


class _FlatRows:
    """Flat rows: electrons, each exposure divided by its own level."""

    def __init__(self, job: Job, bias: MasterBias | None, dark: MasterDark | None) -> None:
        self.bias, self.dark = bias, dark
        self.levels: dict[str, float] = {}
        filters = {str(s.source.quantity("filter") or "") for s in job.sources}
        if len(filters) > 1:
            raise OptionError(f"flats of different filters cannot be combined: {', '.join(sorted(filters))}")
        for source in job.sources:
            self.levels[_provenance(source).id] = self._level(source)
        levels = np.array(list(self.levels.values()))
        recording().fit(levels=levels)
        #: Photon noise rules a flat: its weight is its level.
        self.weights = levels / levels.sum()

    def _level(self, leveled: Leveled) -> float:
        values = []
        for y in sample_rows(leveled.shape[0]):
            planes = self._electrons(leveled, int(y), int(y) + 1)
            values.append(planes.data[(planes.flags & fl.UNUSABLE) == 0])
        pixels = np.concatenate(values)
        level = float(np.median(pixels)) if pixels.size else 0.0
        if not level > 0:
            raise OptionError(f"{leveled.source.name}: this flat has no light (median {level:.3g} electrons above bias)")
        return level

    def _electrons(self, leveled: Leveled, y0: int, y1: int) -> RowPlanes:
        exposure = leveled.source.quantity("exposure") or 0.0
        return _calibrated(leveled, y0, y1, self.bias, self.dark, exposure)[0]

    def __call__(self, leveled: Leveled, y0: int, y1: int) -> RowPlanes:
        made = self._electrons(leveled, y0, y1)
        level = np.float32(self.levels[_provenance(leveled).id])
        return RowPlanes(made.data / level, made.variance / level**2, made.flags)


def flat_rows(job: Job, bias: MasterBias | None, dark: MasterDark | None) -> _FlatRows:
    """The process for flats, with each exposure's level found on a fixed sample of rows."""
    return _FlatRows(job, bias, dark)


def criteria_of(source: RawSource) -> dict[str, Any]:
    """What a master made from this exposure is matched on."""
    return dict(source.camera.criteria_from(source.header, source.detector))


def fields(
    job: Job,
    made: Combined,
    bad: NDArray[np.bool_],
    unit: str,
    bias: MasterBias | None = None,
    *,
    invalid: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """The fields of a master from what was combined."""
    from astropy.io import fits

    criteria = criteria_of(job.sources[0].source) | {"bias_removed": bias is not None}
    flags = np.where(bad, made.flags | fl.BAD, made.flags).astype(np.uint32)
    if invalid is not None:
        flags = np.where(invalid, flags | fl.FLAT_INVALID, flags).astype(np.uint32)
    temperatures = [s.source.quantity("temperature") for s in job.sources]
    known = sorted(float(t) for t in temperatures if t is not None)
    if known:
        criteria["temperature"] = float(np.median(known))
    header = fits.Header()
    header["INSTRUME"] = str(criteria.get("instrument") or "")
    header["NCOMBINE"] = (len(job.sources), "number of frames combined")
    for key in ("FILTER", "EXPTIME"):
        value = criteria.get({"FILTER": "filter", "EXPTIME": "exposure"}[key])
        if value is not None:
            header[key] = value
    detector: Detector = job.sources[0].source.detector
    return {
        "data": made.data,
        "variance": made.variance,
        "flags": fl.resolve_bad(flags),
        "unit": unit,
        "header": header,
        "detector": detector.trimmed(),
        "provenance": _provenance(job.sources[0]),
        "criteria": criteria,
        "count": len(job.sources),
    }


def mask_from(mask: str | Path | NDArray[np.bool_] | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A bad-pixel mask from an array or a FITS file (non-zero is bad); all good when None."""
    if mask is None:
        return np.zeros(shape, bool)
    if isinstance(mask, str | Path):
        from larun.io.raw import read_raw

        values = np.nan_to_num(read_raw(Path(mask)).data, nan=1.0)
        name = str(mask)
    else:
        values, name = np.asarray(mask), "bad_pixels"
    if values.shape != shape:
        raise OptionError(f"{name}: the mask has shape {values.shape}, the trimmed frames {shape}")
    return np.asarray(values != 0)
