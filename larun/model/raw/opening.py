"""Raw files and their parts: which class reads one, what it describes, and where its rows come from.

A file holds one exposure, several detectors (each an image of its own), one detector whose amplifiers are images of
their own, or a Bayer sensor with its colour channels. A :class:`RawPart` names one of them; :func:`open_part` opens it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from larun.detector import Detector
from larun.errors import FileError, HeaderError, OptionError
from larun.model import registry
from larun.model.headers import sources_of, split_given
from larun.model.time.card_notes import GIVEN
from larun.provenance import Provenance, Root
from larun.provenance.canonical import canonical, digest_of

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from larun.io.mosaic import Reader

__all__ = ["Interpreted", "Opened", "RawPart", "as_part", "interpret", "open_all", "open_part", "parts_of"]


def _path(value: str | Path) -> Path:
    return Path(value)


@attrs.frozen
class RawPart:
    """One exposure of one detector in a raw file.

    Parameters
    ----------
    path : path
        The file.
    ext : int, str, (str, int) or None
        Image of the file; None takes the only one, or the amplifiers of one detector together.
    channel : str or None
        Colour channel of a Bayer sensor.
    """

    path: Path = attrs.field(converter=_path)
    ext: int | str | tuple[str, int] | None = None
    channel: str | None = None

    @property
    def label(self) -> str:
        """What tells this part from the others of its file; empty where the file is one part."""
        name = ",".join(map(str, self.ext)) if isinstance(self.ext, tuple) else self.ext
        return "-".join(str(word) for word in (name, self.channel) if word is not None)

    def __str__(self) -> str:
        return f"{self.path}[{self.label}]" if self.label else str(self.path)


def as_part(item: str | Path | RawPart) -> RawPart:
    """A path as the part it names."""
    return item if isinstance(item, RawPart) else RawPart(item)


class Interpreted(NamedTuple):
    """What a raw header means: the camera's class, the header with what was given, the detector."""

    camera: type[Any]
    header: Header
    detector: Detector


class Opened(NamedTuple):
    """A raw part that is open for reading.

    Attributes
    ----------
    part : RawPart
        What was asked for.
    camera, header, detector
        See :class:`Interpreted`.
    reader : Reader
        Its rows; close it.
    given : dict
        What was given, the channel included: part of the record.
    original : astropy.io.fits.Header
        As it is in the file.
    """

    part: RawPart
    camera: type[Any]
    header: Header
    detector: Detector
    reader: Reader
    given: dict[str, Any]
    original: Header

    def root(self, digest: Any) -> Provenance:
        """The root of a line that begins with this part, from the digest of its pixels or a function that makes it."""
        from larun.io.headers import header_digest

        return Provenance(
            root=Root(
                kind="file",
                pixels=digest,
                header=header_digest(self.original),
                name=self.part.path.name,
                location=f"{self.part.path}[{self.reader.place}]",
                given=self.given,
                instrument=registry.identity_of(self.camera),
                detector=digest_of(canonical(self.detector.to_dict()["amplifiers"])),
            )
        )


def interpret(
    base: type[Any], header: Header, shape: tuple[int, int], given: Mapping[str, Any], where: str
) -> Interpreted:
    """Choose the camera for a raw header and let it describe the detector.

    Raises
    ------
    FileError
        If ``base`` is a class of products, which raw files cannot become.
    """
    camera = registry.choose(header, base, where)
    if not hasattr(camera, "detector_for"):
        raise FileError(f"{where}: is a raw frame, not a {camera.__name__}: read it with larun.Frame.read(path)")
    values, cards = split_given(given, camera.all_keywords())
    if cards:
        header = header.copy()
        for keyword, value in cards.items():
            try:
                header[keyword] = (value, GIVEN)
            except (ValueError, TypeError) as error:
                raise OptionError(f"{keyword} = {value!r}: {error}; give a number or a word") from error
    detector = registry.ask(camera, "detector_for", where, header, shape)
    sources = sources_of(given, camera.all_keywords())
    for quantity, value in values.items():
        detector = detector.with_values(sources.get(quantity, "given"), **{quantity: value})
    return Interpreted(camera, header, detector)


def open_part(part: RawPart, base: type[Any], given: Mapping[str, Any]) -> Opened:
    """Open one part of a raw file; its rows are read when they are asked for.

    Raises
    ------
    FileError
        If it cannot be read.
    SeveralImages
        If the file holds several detectors and the part names none.
    OptionError
        If there is no such channel.
    """
    reader = _reader(part, base)
    try:
        found = interpret(base, reader.header, reader.shape, given, str(part))
        if part.channel is None:
            return Opened(part, *found, reader, dict(given), reader.header)
        return _channel(part, found, reader, given)
    except BaseException:
        reader.close()
        raise


def _reader(part: RawPart, base: type[Any]) -> Reader:
    from larun.io.mosaic import MosaicReader
    from larun.io.raw import RowReader, SeveralImages

    try:
        return RowReader(part.path, part.ext)
    except SeveralImages as several:
        camera = registry.choose(several.headers[0], base, str(part))
        cube = len(several.images) == 1
        count = several.images[0].shape[0] if cube else len(several.images)
        headers = several.headers * count if cube else several.headers
        ny, nx = several.images[0].shape[-2:]
        hook = "amplifier_readouts"
        readouts = registry.ask(camera, hook, str(part), headers, (ny, nx)) if hasattr(camera, hook) else None
        if readouts is None:
            raise
        if len(readouts) != count:
            raise HeaderError(
                f"{part}: {camera.__name__} describes {len(readouts)} amplifiers, the file holds {count} images"
            ) from several
        images = [several.images[0 if cube else n].hdu for n in range(count)]
        parts = [(hdu, n if cube else None) for n, hdu in enumerate(images)]
        return MosaicReader(part.path, parts, readouts, several.headers[0] if cube else several.header)


def _channel(part: RawPart, found: Interpreted, reader: Reader, given: Mapping[str, Any]) -> Opened:
    """The part with its colour channel alone."""
    from larun.io.mosaic import ChannelReader
    from larun.model.planes import sampled_wcs

    channels = registry.ask(found.camera, "channels", str(part), found.header, reader.shape)
    assert part.channel is not None
    if part.channel not in channels:
        known = f"it has {', '.join(channels)}" if channels else "its header names no Bayer pattern (BAYERPAT)"
        raise OptionError(f"{part}: no channel {part.channel!r}: {known}")
    offset = channels[part.channel]
    header = sampled_wcs(found.header, 2, (offset[0], offset[1]))
    for keyword in ("BAYERPAT", "COLORTYP", "XBAYROFF", "YBAYROFF"):
        header.remove(keyword, ignore_missing=True)
    (filter_keyword, *_) = found.camera.all_keywords()["filter"] or ("FILTER",)
    header[filter_keyword] = (part.channel, "colour channel of a Bayer sensor")
    header["CHANNEL"] = (part.channel, "colour channel of a Bayer sensor")
    detector = found.detector.sampled(2, offset)
    cut = ChannelReader(reader, part.channel, offset, header)
    return Opened(part, found.camera, header, detector, cut, {**given, "channel": part.channel}, reader.header)


def open_all(path: str | Path, base: type[Any], given: Mapping[str, Any]) -> Iterator[Opened]:
    """Every exposure in a raw file, one after the other: one, or one for each detector or colour channel.

    Each is closed when the next one is asked for.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    from larun.io.raw import SeveralImages

    try:
        whole = open_part(RawPart(path), base, given)
    except SeveralImages as several:
        if len(several.images) == 1:
            raise
        names = [image.name for image in several.images]
        exts = [image.ext for image in several.images]
        parts = [
            RawPart(path, i.name if i.name and names.count(i.name) == 1 else i.ext if exts.count(i.ext) == 1 else i.hdu)
            for i in several.images
        ]
    else:
        with contextlib.closing(whole.reader):
            channels = registry.ask(whole.camera, "channels", str(path), whole.header, whole.reader.shape)
            if not channels:
                yield whole
        parts = [RawPart(path, None, name) for name in channels]
    for part in parts:
        found = open_part(part, base, given)
        with contextlib.closing(found.reader):
            yield found


def parts_of(path: str | Path, base: type[Any], given: Mapping[str, Any]) -> tuple[RawPart, ...]:
    """The names of what :func:`open_all` opens."""
    return tuple(found.part for found in open_all(path, base, given))
