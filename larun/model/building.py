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
from larun.algorithms.calibrate import Planes
from larun.algorithms.combine import CombineOptions, Combiner, combine
from larun.algorithms.inflation import Inflation, check_inflation, fit_inflation
from larun.algorithms.jit import over_rows, threads
from larun.algorithms.overscan import OverscanOptions
from larun.detector import Detector
from larun.errors import FileError, LarunWarning, OptionError
from larun.io.streams import allow_open_files
from larun.model import interop, registry
from larun.model.processing import Process, bias_rows, empty_planes
from larun.model.raw.opening import RawPart, as_part, open_part
from larun.model.raw.reduction import Leveled, RawSource, measure, of_image, open_raw, sample_rows
from larun.model.raw.stored import StoredBias
from larun.provenance import Parent, recording

if TYPE_CHECKING:
    from larun.model.image import Image
    from larun.model.masters import MasterBias

__all__ = ["BuildOptions", "Job", "criteria_of", "fields", "mask_from"]


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
        sources = _each_once(sorted(_measured(opened, options.overscan), key=lambda leveled: _provenance(leveled).id))
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

    def rows(self, process: Process, y0: int, y1: int, into: Planes | None = None) -> Planes:
        """The same rows of every exposure, stacked; into planes (n, rows, nx) that are there already, if they fit."""
        shape = (len(self.sources), y1 - y0, self.shape[1])
        made = into if into is not None and into.data.shape == shape else empty_planes(shape)
        for number, source in enumerate(self.sources):
            process(source, y0, y1, Planes(*(plane[number] for plane in made)))
        return made

    @property
    def concurrent(self) -> bool:
        """Whether several threads may ask for rows at once: of files of plain integers, and of images in memory."""
        return all(leveled.source.stored is not None or leveled.source.root is None for leveled in self.sources)

    def combine(self, process: Process, options: CombineOptions, weights: NDArray[np.float64] | None = None) -> Planes:
        """Combine all exposures by bands of rows; the noise model is checked on a fixed sample of rows first."""
        ny, nx = self.shape
        inflation: Inflation | None = None
        if options.method == "clipped" and options.clip == "noise" and len(self.sources) > 1:
            # Enough differences for the fit; of many frames fewer pixels, so that memory does not grow with them.
            share = min(1.0, 20 / len(self.sources))
            rows = int(np.clip(np.ceil(60_000 * share / nx), np.ceil(16 * share), 64))
            places, sample = sample_rows(ny, rows), {}

            def take(start: int, stop: int) -> None:
                for number in range(start, stop):
                    sample[number] = self.rows(process, int(places[number]), int(places[number]) + 1)

            over_rows(len(places), take, band=4 if self.concurrent else len(places))
            stacked = Planes(
                *(np.concatenate(planes, axis=1) for planes in zip(*(sample[n] for n in sorted(sample)), strict=True))
            )
            inflation = fit_inflation(*stacked, sample=max(int(50_000 * share), 2000))
            check_inflation(inflation)
            recording().fit(inflation=inflation.factor, noise_model=inflation._asdict())
        # flags that stay zero take no memory before somebody sets one
        out = Planes(np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32), np.zeros((ny, nx), np.uint32))
        factor: Any = 1.0 if inflation is None else inflation
        weighted = None if options.method == "median" else weights

        own = threading.local()

        def general(y0: int, y1: int) -> None:
            own.stack = self.rows(process, y0, y1, getattr(own, "stack", None))
            made = combine(*own.stack, options=options, weights=weighted, inflation=factor)
            for whole, plane in zip(out, made[:3], strict=True):
                whole[y0:y1] = plane

        stored = StoredBias.of(self.sources) if process is bias_rows else None
        if stored is not None:
            combiner = Combiner(len(self.sources), nx, options=options, weights=weighted, inflation=factor)
            self._combine_stored(stored, combiner, general, out)
            return out
        per_row = len(self.sources) * nx * 4 * 8
        workers = threads() if self.concurrent else 1
        band = int(np.clip(min(self.max_memory / 2 / workers, _BAND_MEMORY) / per_row, 1, ny))
        if workers > 1:
            over_rows(ny, general, band=band)
        else:
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
        for top, bottom in sorted(left):
            general(top, bottom)


def _measured(opened: list[RawSource], overscan: OverscanOptions) -> list[Leveled]:
    """Every exposure measured; several at a time where all of them are plain files."""
    if not all(source.stored is not None for source in opened):
        return [measure(source, overscan) for source in opened]
    found: dict[int, Leveled] = {}

    def work(start: int, stop: int) -> None:
        for number in range(start, stop):
            found[number] = measure(opened[number], overscan)

    over_rows(len(opened), work, band=1)
    return [found[number] for number in range(len(opened))]


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
