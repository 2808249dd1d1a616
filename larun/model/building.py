"""How masters are built: frames levelled, calibrated row by row, combined by bands under a memory limit."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.calibrate import Planes, calibrate_block
from larun.algorithms.combine import CombineOptions, Combiner, combine
from larun.algorithms.inflation import Inflation, check_inflation, fit_inflation
from larun.algorithms.jit import over_rows, threads
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector, Section
from larun.errors import FileError, LarunWarning, OptionError
from larun.io.streams import allow_open_files
from larun.model import interop, registry
from larun.model.calibration import in_roles, known_flags, master_planes
from larun.model.raw.opening import RawPart, as_part, open_part
from larun.model.raw.reduction import (
    Block,
    Leveled,
    RawSource,
    amplifier_values,
    measure,
    of_image,
    open_raw,
    sample_rows,
)
from larun.model.raw.stored import StoredBias
from larun.provenance import Parent, recording

if TYPE_CHECKING:
    from larun.model.image import Image
    from larun.model.masters import MasterBias, Selection

__all__ = ["BuildOptions", "Job", "bias_rows", "criteria_of", "dark_rows", "fields", "flat_rows", "mask_from"]


def _mask_image(value: Any) -> Any:
    """A bad-pixel mask as an image with a record of its own, from an image, an array, a CCDData, or a FITS file."""
    if value is None or hasattr(value, "provenance"):
        return value
    image = registry.by_name("larun.model.frame:Frame")
    assert image is not None
    if isinstance(value, str | Path):
        return image.read(value)
    mask = interop.mask_of(value) if interop.is_nddata(value) else value
    return image.from_arrays(np.asarray(mask, dtype=np.float32))


def _overscan_options(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, OverscanOptions):
        raise OptionError(f"overscan={value!r}: give larun.OverscanOptions(method=…)")


def _positive(instance: Any, attribute: Any, value: float) -> None:
    if not value > 0:
        raise OptionError(f"{attribute.name}={value}: must be positive")


@attrs.frozen(kw_only=True)
class BuildOptions:
    """How the frames of a master are read and levelled.

    Parameters
    ----------
    overscan : OverscanOptions
        How the overscan level is found, where the detector has one.
    bad_pixels : Image, path, array (ny, nx) or CCDData, optional
        Known bad pixels of the trimmed image (not zero is bad), added to those found. Of a ``CCDData`` in adu or
        electrons the mask counts.
    max_memory : float
        Bytes a combination may use; files that do not fit are streamed by bands of rows, with the same result.
    given : mapping
        What the headers do not say, as in :meth:`larun.Frame.read`; for paths. It is part of each file's own record.
    camera : type, optional
        Class to read the files with; by default every header chooses its own.
    """

    overscan: OverscanOptions = attrs.field(factory=OverscanOptions, validator=_overscan_options)
    bad_pixels: Any = attrs.field(default=None, converter=_mask_image, metadata={"written_as": Path | None})
    max_memory: float = attrs.field(default=1e9, validator=_positive, metadata={"recorded": False})
    given: Mapping[str, Any] = attrs.field(factory=dict, metadata={"recorded": False})
    camera: type[Any] | None = attrs.field(default=None, metadata={"recorded": False})


Process = Callable[[Leveled, int, int], Planes]

#: Bytes of the rows of all frames that are combined at a time: more of them are not faster.
_BAND_MEMORY = 3e7

#: Open files that one streamed exposure may hold: a file and its map, for each of four amplifiers.
_HANDLES = 8


@attrs.frozen(kw_only=True, eq=False)
class Job:
    """A set of levelled exposures of one size, sorted by provenance id so that file order never matters."""

    sources: tuple[Leveled, ...]
    max_memory: float

    @classmethod
    def prepare(cls, frames: Iterable[Image | RawPart | str | Path], options: BuildOptions) -> Self:
        """Open and measure every exposure; their records become parents of the operation that is running."""
        single = isinstance(frames, str | Path | RawPart) or interop.is_nddata(frames)
        listed: list[Any] = [frames] if single else list(frames)
        if not listed:
            raise OptionError("there are no frames to combine")
        base = options.camera or registry.by_name("larun.model.frame:Frame")
        assert base is not None
        listed = [interop.raw_frame(base, item, options.given) if interop.is_nddata(item) else item for item in listed]
        files = [as_part(item) for item in listed if isinstance(item, str | Path | RawPart)]
        in_memory = _bytes_of(files, base, options.given) < options.max_memory / 2
        keep_open = True
        try:
            allow_open_files(_HANDLES * len(files))
        except FileError:
            if not in_memory:
                raise
            keep_open = False
        opened = [
            open_raw(item, base, given=options.given, in_memory=in_memory, keep_open=keep_open)
            if isinstance(item, str | Path | RawPart)
            else _raw_only(item)
            for item in listed
        ]
        sources = sorted(
            (measure(item, options.overscan) for item in opened), key=lambda leveled: _provenance(leveled).id
        )
        sources = _each_once(sources)
        for source in sources:
            recording().parents.append(Parent("frame", _provenance(source)))
        recording().fit(frames=[{"name": Path(s.source.name).name, **s.fitted()} for s in sources])
        shapes = {source.shape for source in sources}
        if len(shapes) > 1:
            sizes = ", ".join(f"{s.source.name}: {s.shape[1]} × {s.shape[0]}" for s in sources)
            raise OptionError(f"frames of different size cannot be combined ({sizes})")
        return cls(sources=tuple(sources), max_memory=options.max_memory)

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
                raise OptionError(
                    f"{name}: exposure time is {time}: give it with given={{'exposure': …}} or --keyword exposure=…"
                )
        if max(times.values()) > 1.01 * min(times.values()):
            raise OptionError(f"darks of different exposure cannot be combined: {sorted(set(times.values()))} s")
        return float(np.mean(sorted(times.values())))

    def rows(self, process: Process, y0: int, y1: int) -> Planes:
        """The same rows of every exposure, stacked."""
        made: Planes | None = None
        for number, source in enumerate(self.sources):
            part = process(source, y0, y1)
            if made is None:
                made = Planes(*(np.empty((len(self.sources), *plane.shape), plane.dtype) for plane in part))
            for whole, plane in zip(made, part, strict=True):
                whole[number] = plane
        assert made is not None
        return made

    def combine(self, process: Process, options: CombineOptions, weights: NDArray[np.float64] | None = None) -> Planes:
        """Combine all exposures by bands of rows; the noise model is checked on a fixed sample of rows first."""
        ny, nx = self.shape
        inflation: Inflation | None = None
        if options.method == "clipped" and options.clip == "noise" and len(self.sources) > 1:
            # Enough differences for the fit; of many frames fewer pixels, so that memory does not grow with them.
            share = min(1.0, 20 / len(self.sources))
            rows = int(np.clip(np.ceil(60_000 * share / nx), np.ceil(16 * share), 64))
            sample = [self.rows(process, int(y), int(y) + 1) for y in sample_rows(ny, rows)]
            stacked = Planes(*(np.concatenate(planes, axis=1) for planes in zip(*sample, strict=True)))
            inflation = fit_inflation(*stacked, sample=max(int(50_000 * share), 2000))
            check_inflation(inflation)
            recording().fit(inflation=inflation.factor, noise_model=inflation._asdict())
        out = Planes(np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32), np.empty((ny, nx), np.uint32))
        factor: Any = 1.0 if inflation is None else inflation
        weighted = None if options.method == "median" else weights

        def general(y0: int, y1: int) -> None:
            made = combine(*self.rows(process, y0, y1), options=options, weights=weighted, inflation=factor)
            for whole, plane in zip(out, made[:3], strict=True):
                whole[y0:y1] = plane

        stored = StoredBias.of(self.sources) if process is bias_rows else None
        if stored is not None:
            combiner = Combiner(len(self.sources), nx, options=options, weights=weighted, inflation=factor)
            self._combine_stored(stored, combiner, general, out)
            return out
        per_row = len(self.sources) * nx * 4 * 8
        band = int(np.clip(min(self.max_memory / 2, _BAND_MEMORY) / per_row, 1, ny))
        for y0 in range(0, ny, band):
            general(y0, min(y0 + band, ny))
        return out

    def _combine_stored(
        self, stored: StoredBias, combiner: Combiner, general: Callable[[int, int], None], out: Planes
    ) -> None:
        """Combine bias frames from their stored integers; bands with a saturated pixel go the general way."""
        memory = self.max_memory / 2 / threads()
        own = threading.local()
        bands = stored.stretches(stored.buffers(memory).rows)
        known = {y0: combiner.complete(stored.variance(y0)) for y0, _ in stored.stretches(self.shape[0])}
        left: list[tuple[int, int]] = []

        def work(start: int, stop: int) -> None:
            if not hasattr(own, "buffers"):
                own.buffers = stored.buffers(memory)
            sub = own.buffers.sub
            for y0, y1 in bands[start:stop]:
                rows = stored.fetch(y0, y1, combiner.weights, own.buffers)
                complete = known[max(top for top in known if top <= y0)]
                for top in range(y0, y1, sub):
                    data, variance = (plane[top : min(top + sub, y1)] for plane in out[:2])
                    if complete is None or not combiner.rows(top - y0, rows, complete, data, variance):
                        left.append((top, min(top + sub, y1)))

        over_rows(len(bands), work, band=1)
        out.flags[...] = 0
        for top, bottom in sorted(left):
            general(top, bottom)


def _each_once(sources: list[Leveled]) -> list[Leveled]:
    """The exposures without copies of the same file, whose noise would count as if it were new each time."""
    kept: list[Leveled] = []
    for source in sources:  # sorted by id: copies follow each other
        if source.source.root is None or not kept or _provenance(kept[-1]).id != _provenance(source).id:
            kept.append(source)
            continue
        first = kept[-1].source.name
        warnings.warn(f"{source.source.name} is a copy of {first}: it counts once", LarunWarning, stacklevel=5)
    return kept


def _provenance(leveled: Leveled) -> Any:
    provenance = leveled.source.provenance
    assert provenance is not None
    return provenance


def _raw_only(image: Image) -> RawSource:
    if image.unit != "adu" or image.provenance.has("calibrate"):
        raise OptionError(f"{image!r} is not raw: masters are combined from raw frames")
    return of_image(image)


def _bytes_of(parts: list[RawPart], base: type[Any], given: Mapping[str, Any]) -> float:
    """Memory the frames would take once read."""
    if not parts:
        return 0.0
    if not parts[0].path.is_file():
        raise FileError(f"{parts[0].path}: no such file")
    with contextlib.closing(open_part(parts[0], base, given).reader) as reader:
        ny, nx = reader.shape
    return float(len(parts)) * ny * nx * 12


def _empty(rows: int, columns: int) -> Planes:
    return Planes(
        np.empty((rows, columns), np.float32),
        np.empty((rows, columns), np.float32),
        np.empty((rows, columns), np.uint32),
    )


def bias_rows(leveled: Leveled, y0: int, y1: int) -> Planes:
    """Bias rows: overscan removed, ADU, read noise only (a bias has no Poisson term)."""
    made = _empty(y1 - y0, leveled.shape[1])
    for block in leveled.blocks(y0, y1):
        values = amplifier_values(leveled, block.amplifier)
        at = _rows(block.place, y0)
        made.data[at] = block.data - block.level[:, None]
        made.variance[at] = (values.read_noise / values.gain) ** 2
        # Full scale in a bias is a defect, not light.
        made.flags[at] = np.where(block.data >= values.saturation, block.flags | fl.BAD, block.flags)
    return made


def _electrons(leveled: Leveled, y0: int, y1: int, masters: Selection, exposure: float) -> tuple[Planes, Any]:
    """Rows in electrons with bias and dark removed, and the gain of every pixel."""
    made = _empty(y1 - y0, leveled.shape[1])
    gains = np.empty(made.data.shape, np.float32)
    known = known_flags(masters, leveled.shape)
    for block in leveled.blocks(y0, y1):
        values = amplifier_values(leveled, block.amplifier)
        at, place = _rows(block.place, y0), block.place.slices
        planes = calibrate_block(
            block.data,
            block.flags if known is None else block.flags | known[place],
            block.level,
            amplifier=values,
            exposure=exposure,
            **master_planes(in_roles(masters), place),
        )
        for whole, part in zip(made, planes, strict=True):
            whole[at] = part
        gains[at] = values.gain
    return made, gains


def _sampled_electrons(leveled: Leveled, masters: Selection, exposure: float) -> NDArray[np.float32]:
    """The usable pixels of the sample rows, as :func:`_electrons` has them; each amplifier's rows in one go."""
    found: dict[int, list[Block]] = {}
    known = known_flags(masters, leveled.shape)
    for y in sample_rows(leveled.shape[0]):
        for block in leveled.blocks(int(y), int(y) + 1):
            found.setdefault(leveled.source.detector.amplifiers.index(block.amplifier), []).append(block)
    pixels = []
    for blocks in found.values():
        first = blocks[0]
        at: Any = (np.array([block.place.y0 for block in blocks]), slice(first.place.x0, first.place.x1))
        flags = np.concatenate([block.flags for block in blocks])
        planes = calibrate_block(
            np.concatenate([block.data for block in blocks]),
            flags if known is None else flags | known[at],
            np.concatenate([block.level for block in blocks]),
            amplifier=amplifier_values(leveled, first.amplifier),
            exposure=exposure,
            **master_planes(in_roles(masters), at),
        )
        pixels.append(planes.data[(planes.flags & fl.UNUSABLE) == 0])
    return np.concatenate(pixels)


def _rows(place: Section, y0: int) -> tuple[slice, slice]:
    """A place in the trimmed image as an index of a band that begins at row ``y0``."""
    return slice(place.y0 - y0, place.y1 - y0), slice(place.x0, place.x1)


def dark_rows(masters: Selection) -> Process:
    """Dark rows in ADU: overscan and bias removed, Poisson noise of the dark current included."""

    def process(leveled: Leveled, y0: int, y1: int) -> Planes:
        made, gains = _electrons(leveled, y0, y1, masters, 0.0)
        return Planes(made.data / gains, made.variance / gains**2, made.flags)

    return process


class _FlatRows:
    """Flat rows: electrons, each exposure divided by its own level."""

    def __init__(self, job: Job, masters: Selection) -> None:
        self.masters = masters
        self.levels: dict[str, float] = {}
        filters = {str(s.source.quantity("filter") or "") for s in job.sources}
        if len(filters) > 1:
            raise OptionError(f"flats of different filters cannot be combined: {', '.join(sorted(filters))}")
        for source in job.sources:
            self.levels[_provenance(source).id] = self._level(source)
        levels = np.array([self.levels[_provenance(source).id] for source in job.sources])
        recording().fit(levels=levels)
        #: Photon noise rules a flat: its weight is its level.
        self.weights = levels / levels.sum()

    def _level(self, leveled: Leveled) -> float:
        pixels = _sampled_electrons(leveled, self.masters, self._exposure(leveled))
        level = float(np.median(pixels)) if pixels.size else 0.0
        if not level > 0:
            raise OptionError(
                f"{leveled.source.name}: this flat has no light (median {level:.3g} electrons above bias)"
            )
        return level

    def _rows(self, leveled: Leveled, y0: int, y1: int) -> Planes:
        return _electrons(leveled, y0, y1, self.masters, self._exposure(leveled))[0]

    def _exposure(self, leveled: Leveled) -> float:
        dark, exposure = self.masters.dark, leveled.source.quantity("exposure") or 0.0
        return 0.0 if dark is None else dark.scaled(exposure)

    def __call__(self, leveled: Leveled, y0: int, y1: int) -> Planes:
        made = self._rows(leveled, y0, y1)
        level = np.float32(self.levels[_provenance(leveled).id])
        return Planes(made.data / level, made.variance / level**2, made.flags)


def flat_rows(job: Job, masters: Selection) -> _FlatRows:
    """The process for flats, with each exposure's level found on a fixed sample of rows."""
    return _FlatRows(job, masters)


def criteria_of(source: RawSource) -> dict[str, Any]:
    """What a master made from this exposure is matched on."""
    return dict(source.camera.criteria_from(source.header, source.detector))


def fields(
    job: Job,
    made: Planes,
    bad: NDArray[np.bool_],
    unit: str,
    names: Iterable[str],
    *,
    bias: MasterBias | None = None,
    invalid: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """The fields of a master from what was combined; ``names`` are the criteria it keeps."""
    from astropy.io import fits

    criteria = {name: value for name, value in criteria_of(job.sources[0].source).items() if name in names}
    criteria["bias_removed"] = bias is not None
    flags = made.flags
    flags[bad] |= fl.BAD
    if invalid is not None:
        flags[invalid] |= fl.FLAT_INVALID
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


def mask_from(options: BuildOptions, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The given bad-pixel mask; all good where there is none."""
    if options.bad_pixels is None:
        return np.zeros(shape, bool)
    mask = options.bad_pixels
    recording().parent("bad_pixels", mask.provenance)
    if mask.shape != shape:
        raise OptionError(f"bad_pixels: {mask!r} has shape {mask.shape}, the trimmed frames {shape}")
    return np.asarray((mask.data != 0) | mask.unusable)
