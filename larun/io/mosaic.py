"""Raw images made of parts: amplifiers in images of their own, and the colour channels of a Bayer sensor.

Both read rows on demand like :class:`larun.io.raw.RowReader`, so that everything above sees one raw array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from larun.detector import Section
from larun.errors import HeaderError, OptionError
from larun.io.headers import get_numbers
from larun.io.raw import RowReader
from larun.io.sections import format_section, parse_section

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["AMPLIFIER_NAMES", "ChannelReader", "MosaicReader", "Reader", "Readout", "bayer_channels", "suffixed"]

AMPLIFIER_NAMES = "ABCDEFGHIJKLMNOP"

#: What belongs to one amplifier: in the header of the whole it carries the amplifier's letter.
_OF_AMPLIFIER = ("GAIN", "RDNOISE", "SATURATE", "MAXLIN", "DATASEC", "BIASSEC", "DETSEC")
_WORLD = re.compile(r"(CRPIX|CRVAL|CTYPE|CUNIT|CDELT)\d|(CD|PC|PV)\d_\d+|(A|B|AP|BP)_(ORDER|\d_\d)")

Rows = tuple[NDArray[np.float32], NDArray[np.bool_] | None]


class Reader(Protocol):
    """Rows of a raw array, wherever they come from."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def header(self) -> Header:
        """The header that describes the exposure."""
        ...

    @property
    def place(self) -> str:
        """Which part of the file was read, for the record."""
        ...

    def rows(self, y0: int, y1: int) -> Rows:
        """Rows ``y0`` to ``y1`` (half open), and where nothing was recorded."""
        ...

    def all(self) -> Rows:
        """Every row."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


class Readout(NamedTuple):
    """How one amplifier's image lies on the detector, in FITS section text.

    Attributes
    ----------
    detector : str
        Place on the detector; a reversed range means that the image is mirrored, ``'[4096:2049,1:2048]'``.
    data, overscan : str
        Light-sensitive and overscan pixels of the image; ``''`` for all of it, and for none.
    """

    detector: str
    data: str = ""
    overscan: str = ""


class _Tile(NamedTuple):
    reader: RowReader
    section: Section  # in the raw array of the whole
    mirrored: tuple[bool, bool]  # in y and x


def suffixed(keyword: str, name: str) -> str:
    """The keyword of one amplifier: its letter at the end, within eight characters.

    Examples
    --------
    >>> suffixed("GAIN", "A"), suffixed("SATURATE", "B")
    ('GAINA', 'SATURATB')
    """
    return keyword[: 8 - len(name)] + name


class MosaicReader:
    """The raw array of a detector whose amplifiers are images of their own, each with its overscan.

    The images are mirrored where they were read out in the other direction and laid side by side in the order of their
    places on the detector. The header is the primary one, with the cards of each amplifier under its letter: ``GAINA``,
    ``DATASECA`` (in the array of the whole), …; letters run along the rows of the detector, from the bottom.

    Parameters
    ----------
    path : path
        The file.
    parts : sequence of (ext, plane)
        Image and plane of each amplifier, as for :class:`larun.io.raw.RowReader`.
    readouts : sequence of Readout
        For each of the parts.
    header : astropy.io.fits.Header
        Cards of the whole exposure.

    Raises
    ------
    HeaderError
        If two amplifiers have one place, or a section cannot be read.
    FileError
        If the file cannot be read.
    """

    def __init__(
        self, path: str | Path, parts: Sequence[tuple[Any, int | None]], readouts: Sequence[Readout], header: Header
    ) -> None:
        self.path = Path(path)
        if len(parts) > len(AMPLIFIER_NAMES):
            raise HeaderError(
                f"{self.path}: {len(parts)} amplifiers of one detector; at most {len(AMPLIFIER_NAMES)} are understood"
            )
        places = [_place(self.path, readout.detector) for readout in readouts]
        if len({(y, x) for y, x, _ in places}) < len(places):
            said = ", ".join(readout.detector for readout in readouts)
            raise HeaderError(f"{self.path}: two amplifiers have the same place on the detector ({said})")
        order = sorted(range(len(parts)), key=lambda n: places[n][:2])
        readers = [RowReader(path, ext, plane=plane) for ext, plane in parts]
        rows, columns = (sorted({place[axis] for place in places}) for axis in (0, 1))
        heights = [max(readers[n].shape[0] for n in order if places[n][0] == y) for y in rows]
        widths = [max(readers[n].shape[1] for n in order if places[n][1] == x) for x in columns]
        self.shape = (sum(heights), sum(widths))
        self.header = header.copy()
        _forget_amplifiers(self.header, [readers[n].header for n in order])
        self._tiles = []
        for name, n in zip(AMPLIFIER_NAMES, order, strict=False):
            y0, x0 = sum(heights[: rows.index(places[n][0])]), sum(widths[: columns.index(places[n][1])])
            ny, nx = readers[n].shape
            tile = _Tile(readers[n], Section(y0, y0 + ny, x0, x0 + nx), places[n][2])
            self._tiles.append(tile)
            for keyword in _OF_AMPLIFIER:
                if keyword in tile.reader.header:
                    several = get_numbers(tile.reader.header, (keyword,)).value
                    listed = several is not None and len(several) == len(parts) > 1  # one list for all amplifiers
                    self.header[suffixed(keyword, name)] = several[n] if listed else tile.reader.header[keyword]
            self._describe(name, tile, readouts[n])

    def _describe(self, name: str, tile: _Tile, readout: Readout) -> None:
        """Write the sections of one amplifier under its letter."""
        ny, nx = tile.reader.shape
        sections = {"DATASEC": readout.data or f"[1:{nx},1:{ny}]", "BIASSEC": readout.overscan}
        for keyword, text in sections.items():
            section = parse_section(text, keyword, shape=(ny, nx))
            self.header.remove(suffixed(keyword, name), ignore_missing=True)
            if section is None:
                continue
            if not section.within((ny, nx)):
                raise HeaderError(
                    f"{self.path}: {keyword} = {text!r} of {tile.reader.image} reaches beyond its {nx} × {ny} pixels"
                )
            self.header[suffixed(keyword, name)] = format_section(_moved(section, tile))

    @property
    def place(self) -> str:
        """The HDUs that were read."""
        return ",".join(tile.reader.place for tile in self._tiles)

    def rows(self, y0: int, y1: int) -> Rows:
        """As :meth:`larun.io.raw.RowReader.rows`; what no amplifier covers counts as not recorded."""
        data = np.full((y1 - y0, self.shape[1]), np.nan, np.float32)
        missing = np.ones(data.shape, np.bool_)
        for tile in self._tiles:
            top, bottom = max(y0, tile.section.y0), min(y1, tile.section.y1)
            if top >= bottom:
                continue
            first, last = top - tile.section.y0, bottom - tile.section.y0
            if tile.mirrored[0]:
                first, last = tile.reader.shape[0] - last, tile.reader.shape[0] - first
            found, blank = tile.reader.rows(first, last)
            turn = tuple(slice(None, None, -1) if mirrored else slice(None) for mirrored in tile.mirrored)
            at = (slice(top - y0, bottom - y0), slice(tile.section.x0, tile.section.x1))
            data[at] = found[turn]
            missing[at] = False if blank is None else blank[turn]
        return data, missing if missing.any() else None

    def all(self) -> Rows:
        """Every row."""
        return self.rows(0, self.shape[0])

    def close(self) -> None:
        """Give the files back."""
        for tile in self._tiles:
            tile.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(path: Path, text: str) -> tuple[int, int, tuple[bool, bool]]:
    """First row and column on the detector, and whether the image is mirrored in y and x."""
    section = parse_section(text, "DETSEC")
    spans = re.findall(r"([+-]?\d+)\s*:\s*([+-]?\d+)", text)
    if section is None or len(spans) != 2:
        raise HeaderError(
            f"{path}: DETSEC = {text!r} does not say where an amplifier lies: read one image with ext=…, "
            "or let the camera's class say it (amplifier_readouts)"
        )
    x, y = (int(low) > int(high) for low, high in spans)
    return section.y0, section.x0, (y, x)


def _moved(section: Section, tile: _Tile) -> Section:
    """A section of one amplifier's image in the array of the whole."""
    ny, nx = tile.reader.shape
    y0, y1, x0, x1 = section
    if tile.mirrored[0]:
        y0, y1 = ny - y1, ny - y0
    if tile.mirrored[1]:
        x0, x1 = nx - x1, nx - x0
    return Section(y0 + tile.section.y0, y1 + tile.section.y0, x0 + tile.section.x0, x1 + tile.section.x0)


def _forget_amplifiers(header: Header, parts: Sequence[Header]) -> None:
    """Drop cards that hold for one amplifier only from the header of the whole, in place; keep what all agree on."""
    for keyword in _OF_AMPLIFIER:
        header.remove(keyword, ignore_missing=True, remove_all=True)
    first = parts[0]
    for card in first.cards:
        keyword = card.keyword
        if keyword in header or keyword in _OF_AMPLIFIER or keyword in ("EXTNAME", "EXTVER", "", "COMMENT", "HISTORY"):
            continue
        if all(keyword in part and part[keyword] == first[keyword] for part in parts) and not _WORLD.fullmatch(keyword):
            header.append(card, end=True)


class ChannelReader:
    """One colour channel of a Bayer sensor: every second pixel of every second row.

    Parameters
    ----------
    reader : RowReader or MosaicReader
        The whole sensor.
    name : str
        Of the channel.
    offset : (int, int)
        Row and column of the channel's first pixel, 0 or 1.
    header : astropy.io.fits.Header
        The sensor's header, with what holds for the channel.
    """

    def __init__(self, reader: Reader, name: str, offset: tuple[int, int], header: Header) -> None:
        self._reader = reader
        self._offset = offset
        self._name = name
        self.header = header
        ny, nx = reader.shape
        self.shape = ((ny - offset[0] + 1) // 2, (nx - offset[1] + 1) // 2)

    @property
    def place(self) -> str:
        """The sensor's HDU and the channel."""
        return f"{self._reader.place}:{self._name}"

    def rows(self, y0: int, y1: int) -> Rows:
        """As :meth:`larun.io.raw.RowReader.rows`."""
        dy, dx = self._offset
        data, missing = self._reader.rows(2 * y0 + dy, 2 * (y1 - 1) + dy + 1)
        cut = (slice(None, None, 2), slice(dx, None, 2))
        return np.ascontiguousarray(data[cut]), None if missing is None else np.ascontiguousarray(missing[cut])

    def all(self) -> Rows:
        """Every row."""
        return self.rows(0, self.shape[0])

    def close(self) -> None:
        """Give the file back."""
        self._reader.close()


def bayer_channels(
    pattern: str, offset: tuple[int, int] = (0, 0), *, bottom_up: bool = False, rows: int = 0
) -> Mapping[str, tuple[int, int]]:
    """Where the colour channels of a Bayer sensor begin: name → row and column of the first pixel.

    Parameters
    ----------
    pattern : str
        Colours of the first two rows as they are displayed, such as ``"RGGB"``.
    offset : (int, int)
        Row and column of the pattern's first pixel in the image (``YBAYROFF``, ``XBAYROFF``).
    bottom_up : bool
        The first row of the array is displayed at the bottom (``ROWORDER = 'BOTTOM-UP'``).
    rows : int
        Rows of the image; needed with ``bottom_up``.

    Returns
    -------
    dict
        ``R``, ``G1`` (green in the rows of red), ``G2`` (green in the rows of blue), ``B``.

    Raises
    ------
    OptionError
        If the pattern is not one red, two greens and one blue.

    Examples
    --------
    >>> bayer_channels("GRBG")
    {'R': (0, 1), 'G1': (0, 0), 'G2': (1, 1), 'B': (1, 0)}
    """
    colours = pattern.strip().upper()
    if colours not in ("RGGB", "BGGR", "GRBG", "GBRG"):
        raise OptionError(f"Bayer pattern {pattern!r}: must be one of RGGB, BGGR, GRBG, GBRG")
    found: dict[str, tuple[int, int]] = {}
    for index, colour in enumerate(colours):
        row, column = index // 2, index % 2
        name = colour if colour != "G" else ("G1" if "R" in colours[2 * row : 2 * row + 2] else "G2")
        y = (row + offset[0]) % 2
        found[name] = ((rows - 1 - y) % 2 if bottom_up else y, (column + offset[1]) % 2)
    return {name: found[name] for name in ("R", "G1", "G2", "B")}
