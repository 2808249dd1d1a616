"""Raw exposures, wherever their pixels are, calibrated a few rows at a time.

``Frame.calibrate`` and the masters share this: a :class:`RawSource` hands out rows (from memory, or from disk by
bands), :func:`measure` takes what a whole exposure must tell first (overscan level, digest), and
:meth:`Leveled.blocks` pairs every amplifier's raw block with its place in the trimmed image.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun import units
from larun.algorithms.calibrate import AmplifierValues
from larun.algorithms.jit import over_rows
from larun.algorithms.overscan import OverscanOptions, overscan_level
from larun.detector import Amplifier, Detector, Section
from larun.errors import OptionError
from larun.model import registry
from larun.model.raw.opening import RawPart, as_part, open_part
from larun.provenance import Provenance

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.io.raw import RowReader
    from larun.model.image import Image

__all__ = [
    "Block",
    "Leveled",
    "RawSource",
    "amplifier_values",
    "leveled_reader",
    "measure",
    "of_image",
    "open_raw",
    "sample_rows",
]

Rows = tuple[NDArray[np.float32], NDArray[np.uint32]]

#: Rows read at a time while a file is measured; results do not depend on it.
_BAND = 256
_KEPT = 12  # exposures that a reader keeps: those of one group are compared with each other


@attrs.frozen(kw_only=True, eq=False)
class RawSource:
    """One raw exposure.

    Parameters
    ----------
    name : str
        For messages.
    camera : type
        The class whose hooks describe it.
    header : astropy.io.fits.Header
        With what was given.
    detector : Detector
        Of the raw array.
    shape : tuple of int
        Of the raw array.
    rows : callable
        ``rows(y0, y1)`` returns data and flags of raw rows.
    provenance : Provenance or None
        None until :func:`measure` has seen all pixels of a file.
    root : callable
        Makes the provenance of a file from its pixel digest.
    stored : RowReader or None
        The file, where all it holds are 16-bit integers, and no camera flags any of them.
    """

    name: str
    camera: type[Any]
    header: Header
    detector: Detector
    shape: tuple[int, int]
    rows: Callable[[int, int], Rows]
    provenance: Provenance | None = None
    root: Callable[[str], Provenance] | None = None
    stored: RowReader | None = None

    @property
    def stored_zero(self) -> float:
        """What is added to the integers that are stored."""
        zero = None if self.stored is None else self.stored.zero_of_short
        return 0.0 if zero is None else zero

    def quantity(self, name: str) -> Any:
        """A header quantity, read by the camera's keywords."""
        return self.camera.quantity_of(self.header, name)


def of_image(image: Image) -> RawSource:
    """The source of a raw image in memory."""
    return RawSource(
        name=repr(image),
        camera=type(image),
        header=image._header,
        detector=image.detector,
        shape=image.shape,
        rows=lambda y0, y1: (image.data[y0:y1], image.flags[y0:y1]),
        provenance=image.provenance,
    )


def open_raw(
    item: str | Path | RawPart, base: type[Any], *, given: Mapping[str, Any], in_memory: bool, keep_open: bool = False
) -> RawSource:
    """The source of a raw file; pixels are read by bands when they are asked for, or once into memory.

    With ``keep_open`` what lies in the file as it is is read as often as it is needed, and never kept in memory.
    """
    from larun.io.raw import RowReader

    found = open_part(as_part(item), base, given)
    if found.camera.raw_unit(found.header) != units.ADU:
        found.reader.close()
        unit = found.header.get("BUNIT")
        raise OptionError(f"{found.part} is in {unit}, not raw: masters are combined from raw frames")
    fetch, shape = found.reader.rows, found.reader.shape
    direct = found.reader if isinstance(found.reader, RowReader) and not found.reader.compressed else None
    if in_memory and not (keep_open and direct):
        fetch = _from_memory(*found.reader.all())
        found.reader.close()

    plain = direct is not None and (keep_open or not in_memory) and _plain(found.camera, direct)

    def rows(y0: int, y1: int) -> Rows:
        data, no_data = fetch(y0, y1)
        if plain:
            return data, _no_flags(*data.shape) if y1 - y0 <= _BAND else np.zeros(data.shape, np.uint32)
        flags = np.zeros(data.shape, np.uint32)
        if no_data is not None:
            flags[no_data] = fl.NO_DATA
        more = registry.ask(found.camera, "flag_raw", str(found.part), data, found.header, y0)
        return data, fl.resolve_bad(flags if more is None else flags | more)

    return RawSource(
        name=str(found.part),
        camera=found.camera,
        header=found.header,
        detector=found.detector,
        shape=shape,
        rows=rows,
        root=found.root,
        stored=direct if plain else None,
    )


@functools.lru_cache(maxsize=8)
def _no_flags(rows: int, columns: int) -> NDArray[np.uint32]:
    """Flags of which none is set, the same array for all who ask for a band of this size."""
    none = np.zeros((rows, columns), np.uint32)
    none.flags.writeable = False
    return none


def _plain(camera: Any, reader: Any) -> bool:
    """Whether the integers in the file are all there is to know of the pixels."""
    frame: Any = registry.by_name("larun.model.frame:Frame")
    hook = getattr(camera.flag_raw, "__func__", None)
    return reader.zero_of_short is not None and hook is frame.flag_raw.__func__


def _from_memory(data: NDArray[np.float32], blank: NDArray[np.bool_] | None) -> Any:
    return lambda y0, y1: (data[y0:y1], None if blank is None else blank[y0:y1])


class Block(NamedTuple):
    """One amplifier's part of some rows of the trimmed image; its number is that in the detector."""

    amplifier: Amplifier
    number: int
    place: Section
    data: NDArray[np.float32]
    flags: NDArray[np.uint32]
    level: NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False)
class Leveled:
    """A raw exposure whose overscan has been measured.

    Parameters
    ----------
    source : RawSource
        The exposure, its provenance known.
    levels : tuple of array (rows,), float64
        Level to subtract from each row of each amplifier's data section.
    noise : tuple of float or None
        Read noise in ADU measured in each amplifier's overscan.
    """

    source: RawSource
    levels: tuple[NDArray[np.float64], ...]
    noise: tuple[float | None, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the trimmed image."""
        return self.source.detector.trimmed_shape

    def blocks(self, y0: int, y1: int) -> Iterator[Block]:
        """The amplifiers' blocks for rows ``y0 … y1 − 1`` of the trimmed image."""
        placed = self.source.detector.trimmed().amplifiers
        amplifiers = zip(self.source.detector.amplifiers, placed, self.levels, strict=True)
        for number, (amplifier, at, levels) in enumerate(amplifiers):
            top, bottom = max(y0, at.data.y0), min(y1, at.data.y1)
            if top >= bottom:
                continue
            first, last = top - at.data.y0, bottom - at.data.y0
            data, flags = self.source.rows(amplifier.data.y0 + first, amplifier.data.y0 + last)
            columns = slice(amplifier.data.x0, amplifier.data.x1)
            place = Section(top, bottom, at.data.x0, at.data.x1)
            part, bits = data[:, columns], flags[:, columns]
            if self.source.stored is not None and part.shape[0] <= _BAND:  # contiguous: nobody has to copy it
                bits = _no_flags(*part.shape)
            yield Block(amplifier, number, place, part, bits, levels[first:last])

    def window(self, section: Section) -> Leveled:
        """The exposure as if there were no more of it than a section of the trimmed image."""
        detector = self.source.detector
        kept, levels, noise = [], [], []
        placed = detector.trimmed().amplifiers
        for amplifier, at, level, scatter in zip(detector.amplifiers, placed, self.levels, self.noise, strict=True):
            part = at.data.intersect(section)
            if part is None:
                continue
            dy, dx = amplifier.data.y0 - at.data.y0, amplifier.data.x0 - at.data.x0
            data = Section(part.y0 + dy, part.y1 + dy, part.x0 + dx, part.x1 + dx)
            kept.append(attrs.evolve(amplifier, data=data, overscan=None))
            levels.append(level[part.y0 - at.data.y0 : part.y1 - at.data.y0])
            noise.append(scatter)
        cut = attrs.evolve(self.source, detector=attrs.evolve(detector, amplifiers=tuple(kept)))
        return Leveled(source=cut, levels=tuple(levels), noise=tuple(noise))

    def fitted(self) -> dict[str, Any]:
        """What the record keeps of the overscan, per amplifier: the noise, and the level (each row's, if they differ).

        It is all that a window of the exposure needs of the rest of it.
        """
        rows = zip(self.levels, self.noise, strict=True)
        return {"overscan": [{"level": _constant_or_all(level), "noise": noise} for level, noise in rows]}


def _constant_or_all(level: NDArray[np.float64]) -> Any:
    return float(level[0]) if level.size and (level == level[0]).all() else level


def measure(source: RawSource, overscan: OverscanOptions) -> Leveled:
    """Read an exposure once: overscan levels, and the pixel digest where it is not known yet.

    Raises
    ------
    HeaderError
        If the data sections of the amplifiers overlap or leave holes.
    """
    source.detector.require_grid(source.name)
    amplifiers = source.detector.amplifiers
    pixels: list[list[Rows]] = [[] for _ in amplifiers]
    wanted = overscan.method != "none"
    if source.provenance is None:
        assert source.root is not None
        digest = _digested(source, pixels if wanted else None)
        source = attrs.evolve(source, provenance=source.root(digest))
    elif wanted:
        data, flags = source.rows(0, source.shape[0])
        _collect(amplifiers, pixels, data, flags, 0)
    measured = [_level(a, rows, overscan, source.name) for a, rows in zip(amplifiers, pixels, strict=True)]
    return Leveled(source=source, levels=tuple(m[0] for m in measured), noise=tuple(m[1] for m in measured))


def leveled_reader(
    base: type[Any], *, given: Mapping[str, Any], overscan: OverscanOptions
) -> Callable[[RawPart], Leveled]:
    """What reads raw exposures into memory and measures their overscan; the last dozen are kept."""

    @functools.lru_cache(maxsize=_KEPT)
    def read(part: RawPart) -> Leveled:
        return measure(open_raw(part, base, given=given, in_memory=True), overscan)

    return read


def _digested(source: RawSource, pixels: list[list[Rows]] | None) -> str:
    """The digest of all pixels; on the way the overscan pixels of each amplifier, where they are wanted."""
    from larun.io import pixeldigest

    amplifiers = source.detector.amplifiers
    reader, zero = source.stored, np.float32(source.stored_zero)
    if reader is None:
        digest = pixeldigest.PixelDigest()
        for y0 in range(0, source.shape[0], _BAND):
            data, flags = source.rows(y0, min(y0 + _BAND, source.shape[0]))
            digest.update(data, (flags & fl.NO_DATA) != 0, flags & ~fl.NO_DATA)
            if pixels is not None:
                _collect(amplifiers, pixels, data, flags, y0)
        return digest.hexdigest()
    size = pixeldigest.PixelDigest.CHUNK
    digests = [b""] * -(-source.shape[0] // size)
    found: list[list[list[Rows]]] = [[] for _ in digests]
    own = threading.local()
    sections = [amplifier.overscan for amplifier in amplifiers if amplifier.overscan is not None]

    def digest_chunk(chunk: int) -> None:
        if not hasattr(own, "buffer"):
            own.buffer = np.empty((size, source.shape[1]), ">i2")
        y0 = chunk * size
        stored = own.buffer[: min(size, source.shape[0] - y0)]
        reader.read_stored(y0, stored)
        offset = zero == 32768
        digests[chunk] = (
            pixeldigest.stored_digest(stored) if offset else pixeldigest.chunk_digest(stored.astype(np.float32) + zero)
        )
        if pixels is not None and any(s.y0 < y0 + size and s.y1 > y0 for s in sections):
            data = stored.astype(np.float32) + zero
            found[chunk] = [[] for _ in amplifiers]
            _collect(amplifiers, found[chunk], data, np.zeros(data.shape, np.uint32), y0)

    def work(start: int, stop: int) -> None:
        for chunk in range(start, stop):
            digest_chunk(chunk)

    over_rows(len(digests), work, band=1)
    for parts in found:
        for kept, part in zip(pixels or (), parts, strict=False):
            kept += part
    return pixeldigest.joined_digest(digests, source.shape)


def _collect(
    amplifiers: tuple[Amplifier, ...],
    pixels: list[list[Rows]],
    data: NDArray[np.float32],
    flags: NDArray[np.uint32],
    y0: int,
) -> None:
    """Keep copies of the overscan pixels that lie in these rows."""
    for amplifier, kept in zip(amplifiers, pixels, strict=True):
        if amplifier.overscan is None:
            continue
        part = amplifier.overscan.intersect(Section(y0, y0 + data.shape[0], 0, data.shape[1]))
        if part is not None:
            cut = (slice(part.y0 - y0, part.y1 - y0), slice(part.x0, part.x1))
            kept.append((data[cut].copy(), flags[cut].copy()))


def _level(
    amplifier: Amplifier, rows: list[Rows], options: OverscanOptions, name: str
) -> tuple[NDArray[np.float64], float | None]:
    """The level of each row of the data section; where there is no overscan, the pedestal."""
    count = amplifier.data.shape[0]
    if not rows:
        return np.full(count, amplifier.pedestal), None
    data = np.concatenate([part[0] for part in rows])
    unusable = np.concatenate([(part[1] & fl.UNUSABLE) != 0 for part in rows])
    section = amplifier.overscan
    assert section is not None
    beside = section.x1 <= amplifier.data.x0 or section.x0 >= amplifier.data.x1
    if beside:
        if section.x1 <= amplifier.data.x0:  # the columns that touch the data come first, wherever the strip lies
            data, unusable = data[:, ::-1], unusable[:, ::-1]
        found = overscan_level(np.ascontiguousarray(data), np.ascontiguousarray(unusable), options=options)
        return found.level, found.noise
    if options.method != "median":
        raise OptionError(f"{name}: overscan={options.method!r} needs overscan columns beside the data; use 'median'")
    if section.y1 <= amplifier.data.y0:
        data, unusable = data[::-1], unusable[::-1]
    found = overscan_level(np.ascontiguousarray(data.T), np.ascontiguousarray(unusable.T), options=options)
    return np.full(count, found.level.mean()), found.noise


def sample_rows(rows: int, most: int = 256) -> NDArray[np.intp]:
    """Row numbers spread evenly over an image: the fixed sample on which levels and noise are judged."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.intp))


def amplifier_values(leveled: Leveled, amplifier: Amplifier) -> AmplifierValues:
    """What the calibration arithmetic needs of an amplifier.

    Raises
    ------
    HeaderError
        If gain or read noise is missing, naming the keyword and the file.
    """
    detector, where = leveled.source.detector, leveled.source.name
    index = detector.amplifiers.index(amplifier)
    return AmplifierValues(
        gain=detector.require("gain", where)[index],
        read_noise=detector.require("read_noise", where)[index],
        saturation=amplifier.saturation,
        linear_limit=amplifier.linear_limit,
        linearity=amplifier.linearity,
    )
