"""The bytes of a product: HDUs whose every bit is accounted for.

A container is a plain FITS file that ends with an HDU named ``DIGESTS``: a canonical JSON text with, for every HDU
before it, its name, the lengths of header and data, and the SHA-256 of either. The text carries its own digest, and
the header of ``DIGESTS`` follows from it byte for byte. What is left, the padding to blocks of 2880 bytes, has only one
legal content. So every flipped bit shows, and shows where. The usual ``CHECKSUM`` and ``DATASUM`` are there for other
programs. Nothing depends on the clock: equal content gives equal files.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from larun.algorithms.jit import over_rows
from larun.errors import OptionError
from larun.io.cards import header_from_text, new_card
from larun.io.streams import open_plain

__all__ = [
    "BLOCK",
    "FORMAT",
    "Entry",
    "Hdu",
    "Problem",
    "find_digests",
    "image_hdu",
    "json_hdu",
    "layout",
    "read_entry",
    "read_header",
    "verify",
    "verify_file",
    "write_hdus",
]

#: Version of the format, in the keyword ``LARUNFMT``.
FORMAT = 1
BLOCK = 2880

_CHUNK = 1 << 23
_LOOK = 1 << 18  # bytes that are read at a time: they are still at hand when they are looked at
_TAIL = 64  # blocks at the end of a file in which DIGESTS is looked for: enough for some 600 HDUs
_BITPIX = {"i1": 8, "u1": 8, "i2": 16, "u2": 16, "i4": 32, "u4": 32, "i8": 64, "f4": -32, "f8": -64}
_DTYPE = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
# unsigned numbers are stored as signed ones, moved by this, and those of 8 bits the other way round
_ZERO = {"i1": -(1 << 7), "u2": 1 << 15, "u4": 1 << 31}


class Hdu(NamedTuple):
    """One HDU to be written: its cards (records of 80, without END and checksums) and its data."""

    name: str
    cards: str
    data: NDArray[Any] | None = None


class Entry(NamedTuple):
    """What ``DIGESTS`` says of one HDU, and where it lies."""

    name: str
    start: int
    header_bytes: int
    data_bytes: int
    header: str
    data: str

    @property
    def data_start(self) -> int:
        """Offset of the data in the file."""
        return self.start + _padded(self.header_bytes)

    @property
    def end(self) -> int:
        """Offset behind the padding of the data."""
        return self.data_start + _padded(self.data_bytes)


class Problem(NamedTuple):
    """A disagreement between a product and its record."""

    hdu: str
    kind: str
    """``header``, ``data``, ``padding`` (nothing that is read), ``count`` (bytes too many or too few), ``digests``,
    ``format`` (newer than this larun: nothing can be said)."""
    detail: str

    def __str__(self) -> str:
        return f"{self.hdu}: {self.detail}"


def image_hdu(name: str, data: NDArray[Any], *, version: int | None = None, cards: str = "") -> Hdu:
    """An image HDU with its layout cards; unsigned numbers, and signed ones of 8 bits, get the usual ``BZERO``.

    Raises
    ------
    OptionError
        If the array is empty, or of a type that FITS images cannot hold bit for bit.
    """
    kind = data.dtype.str[1:]
    if kind not in _BITPIX or data.size == 0 or data.ndim == 0:
        raise OptionError(f"{name}: an array of {data.dtype} and shape {data.shape} cannot be stored as a FITS image")
    layout_cards = [
        ("XTENSION", "IMAGE   ", "image extension"),
        ("BITPIX", _BITPIX[kind], "bits of a stored number"),
        ("NAXIS", data.ndim, "number of axes"),
        *((f"NAXIS{axis + 1}", length, "") for axis, length in enumerate(reversed(data.shape))),
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("EXTNAME", name, "what this HDU holds"),
    ]
    if version is not None:
        layout_cards.append(("EXTVER", version, "which of several of that name"))
    if kind in _ZERO:
        layout_cards += [
            ("BSCALE", 1, ""),
            ("BZERO", _ZERO[kind], "signed numbers" if kind == "i1" else "unsigned numbers"),
        ]
    label = name if version is None else f"{name},{version}"
    return Hdu(label, "".join(new_card(*card) for card in layout_cards) + cards, data)


def json_hdu(name: str, text: str) -> Hdu:
    """An HDU that holds a text as UTF-8 bytes."""
    return image_hdu(name, np.frombuffer(text.encode("utf-8"), np.uint8))


def write_hdus(path: Path, hdus: Sequence[Hdu]) -> None:
    """Write the HDUs and the ``DIGESTS`` that seals them. The path must not exist."""
    starts = [0]
    for hdu in hdus:
        size = 0 if hdu.data is None else hdu.data.nbytes
        starts.append(starts[-1] + _padded(len(_header(hdu.cards, 0, 0))) + _padded(size))
    entries: dict[int, Entry] = {}
    with path.open("xb") as file:
        turn = threading.Lock()

        def put(at: int, content: Any) -> None:
            with turn:
                file.seek(at)
                file.write(content)

        def work(start: int, stop: int) -> None:
            for number in range(start, stop):
                entries[number] = _write(put, starts[number], hdus[number])

        over_rows(len(hdus), work, band=1)
        ordered = [entries[number] for number in range(len(hdus))]
        seal = _digests(ordered)
        if len(seal) > (_TAIL - 1) * BLOCK:
            raise OptionError(f"{len(hdus)} HDUs are too many for one product: split it")
        put(starts[-1], seal)


def _write(put: Callable[[int, Any], None], start: int, hdu: Hdu) -> Entry:
    """Write an HDU to its place; several are under way at a time."""
    length = len(_header(hdu.cards, 0, 0))
    digest, total, size = hashlib.sha256(), 0, 0
    for chunk in _chunks(hdu.data):
        put(start + _padded(length) + size, chunk)
        digest.update(chunk.data)
        total = _add(total, chunk)
        size += chunk.nbytes
    header = _header(hdu.cards, total, size)
    put(start + _padded(length) + size, bytes(_padded(size) - size))
    put(start, header.ljust(_padded(length), b" "))
    return Entry(hdu.name, start, length, size, hashlib.sha256(header).hexdigest(), digest.hexdigest())


def _chunks(data: NDArray[Any] | None) -> Iterable[NDArray[np.uint8]]:
    """The numbers as they stand in a FITS file: big-endian, unsigned ones moved to signed."""
    if data is None:
        return
    kind, width = data.dtype.str[1:], data.dtype.itemsize
    flat = np.ascontiguousarray(data).reshape(-1).view(f"u{width}")  # bits, so that no NaN is touched
    if not data.dtype.isnative:
        flat = flat.byteswap()
    step = _CHUNK // width
    for first in range(0, flat.size, step):
        part = flat[first : first + step]
        if kind in _ZERO:
            part = part ^ np.array(abs(_ZERO[kind]), part.dtype)
        yield part.astype(f">u{width}").view(np.uint8)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _header(cards: str, total: int, size: int) -> bytes:
    """The header through END, with the checksums of the FITS standard (appendix J)."""
    datasum = new_card("DATASUM", str(total), "sum of the data")

    def text(checksum: str) -> bytes:
        card = new_card("CHECKSUM", checksum, "sum of the HDU")
        return (cards + datasum + card + "END".ljust(80)).encode("ascii")

    plain = text("0" * 16)
    return text(_encoded(_add(total, np.frombuffer(plain.ljust(_padded(len(plain)), b" "), np.uint8))))


def _add(total: int, chunk: NDArray[np.uint8]) -> int:
    """The ones' complement sum of 32-bit words, continued; a last word that is not whole ends in zeros."""
    whole = chunk.size - chunk.size % 4
    total += int(chunk[:whole].view(">u4").astype(np.uint32).sum(dtype=np.uint64))
    total += int.from_bytes(chunk[whole:].tobytes().ljust(4, b"\0"), "big")
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encoded(total: int) -> str:
    """The complement of a sum as 16 letters and digits, each byte spread over four of them."""
    out = [""] * 16
    for position, byte in enumerate((~total & 0xFFFFFFFF).to_bytes(4, "big")):
        quarter, rest = divmod(byte, 4)
        four = [quarter + 48 + rest, quarter + 48, quarter + 48, quarter + 48]
        while any(not chr(value).isalnum() for value in four):
            for pair in (0, 2):
                if any(not chr(value).isalnum() for value in four[pair : pair + 2]):
                    four[pair] += 1
                    four[pair + 1] -= 1
        for column, value in enumerate(four):
            out[4 * column + position] = chr(value)
    return "".join(out[-1:] + out[:-1])


def _digests(entries: Sequence[Entry]) -> bytes:
    """The bytes of the ``DIGESTS`` HDU, padding included."""
    rows = [
        {"name": e.name, "header_bytes": e.header_bytes, "data_bytes": e.data_bytes, "header": e.header, "data": e.data}
        for e in entries
    ]
    content = {"format": FORMAT, "hdus": rows}
    data = _text({**content, "self": hashlib.sha256(_text(content)).hexdigest()})
    hdu = json_hdu("DIGESTS", data.decode("ascii"))
    header = _header(hdu.cards, _add(0, np.frombuffer(data, np.uint8)), len(data))
    return header.ljust(_padded(len(header)), b" ") + data.ljust(_padded(len(data)), b"\0")


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _find_digests(file: IO[bytes]) -> tuple[int, bytes]:
    """Offset and bytes of the ``DIGESTS`` HDU: the last block that begins like its header; (-1, b"") if none does."""
    size = file.seek(0, 2)
    begin = max(0, (size // BLOCK - _TAIL) * BLOCK)
    file.seek(begin)
    tail = file.read()
    start = json_hdu("DIGESTS", "{}").cards.encode("ascii")
    name = start[6 * 80 : 6 * 80 + 20]
    for offset in range((len(tail) // BLOCK) * BLOCK, -1, -BLOCK):
        if tail[offset : offset + 80] == start[:80] and tail[offset + 480 : offset + 500] == name:
            return begin + offset, tail[offset:]
    return -1, b""


def find_digests(file: IO[bytes]) -> int:
    """Offset of the ``DIGESTS`` HDU; -1 where there is none."""
    return _find_digests(file)[0]


def layout(file: IO[bytes]) -> tuple[tuple[Entry, ...], tuple[Problem, ...]]:
    """Where the HDUs lie according to ``DIGESTS``, and what is wrong with ``DIGESTS`` itself."""
    offset, found = _find_digests(file)
    if offset < 0:
        return (), (Problem("DIGESTS", "digests", "missing or damaged: the file ends early, or was changed there"),)
    try:
        length = int(found[3 * 80 + 10 : 3 * 80 + 30])
        content = json.loads(found[BLOCK : BLOCK + length])
        own = content.pop("self")
        sealed = own == hashlib.sha256(_text(content)).hexdigest()
        if sealed and content["format"] > FORMAT:
            newer = f"has format {content['format']:d}, this larun reads up to {FORMAT}: install a newer larun"
            return (), (Problem("DIGESTS", "format", newer),)
        entries = _entries(content["hdus"]) if sealed else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sealed = False
    if not sealed:
        return (), (Problem("DIGESTS", "digests", "its text does not agree with its own digest"),)
    start = entries[-1].end if entries else 0
    right = _digests(entries)
    problems = []
    if found[: BLOCK + length] != right[: BLOCK + length]:
        cards = json_hdu("DIGESTS", " " * length).cards
        used = len(_header(cards, 0, 0))
        only_padding = found[:used] == right[:used] and found[BLOCK : BLOCK + length] == right[BLOCK : BLOCK + length]
        changed = Problem("DIGESTS", "digests", "its header was changed")
        problems.append(_padding("DIGESTS") if only_padding else changed)
    elif found[: len(right)] != right and len(found) >= len(right):
        problems.append(_padding("DIGESTS"))
    if len(found) != len(right):
        problems.append(Problem("DIGESTS", "count", f"{len(found) - len(right):+d} bytes at the end of the file"))
    if start != offset:
        problems.append(Problem("DIGESTS", "count", f"{offset - start:+d} bytes before it: HDUs were added or removed"))
        entries = []
    return tuple(entries), tuple(problems)


def _entries(rows: Iterable[dict[str, Any]]) -> list[Entry]:
    """The rows of ``DIGESTS``, one HDU behind the other.

    Raises
    ------
    ValueError, TypeError
        If they are no such rows, whoever sealed them.
    """
    entries: list[Entry] = []
    for row in rows:
        entry = Entry(start=entries[-1].end if entries else 0, **row)
        sizes, texts = (entry.header_bytes, entry.data_bytes), (entry.name, entry.header, entry.data)
        if not all(type(size) is int and size >= 0 for size in sizes) or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"no entry of an HDU: {row}")
        entries.append(entry)
    return entries


def _padding(name: str) -> Problem:
    return Problem(name, "padding", "the padding to a whole block was changed; header and data are intact")


def verify(path: Path) -> tuple[Problem, ...]:
    """All disagreements between a container and its ``DIGESTS``; empty when every bit is as it was written."""
    with open_plain(path) as file:
        return verify_file(file)


def verify_file(file: IO[bytes]) -> tuple[Problem, ...]:
    """As :func:`verify`, of an open file or of bytes in memory."""
    entries, problems = layout(file)
    found: list[list[Problem]] = [[] for _ in entries]
    turn = threading.Lock()

    def get(at: int, size: int) -> bytes:
        with turn:
            file.seek(at)
            return file.read(size)

    def work(start: int, stop: int) -> None:
        for number in range(start, stop):
            found[number] = _compared(get, entries[number])

    over_rows(len(entries), work, band=1)
    return problems + tuple(problem for several in found for problem in several)


def _compared(get: Callable[[int, int], bytes], entry: Entry) -> list[Problem]:
    """What is wrong with one HDU; several are under way at a time."""
    found = []
    if hashlib.sha256(get(entry.start, entry.header_bytes)).hexdigest() != entry.header:
        found.append(Problem(entry.name, "header", "the header was changed after it was written"))
    digest, at, end = hashlib.sha256(), entry.data_start, entry.data_start + entry.data_bytes
    while at < end and (chunk := get(at, min(end - at, _LOOK))):
        digest.update(chunk)
        at += len(chunk)
    if digest.hexdigest() != entry.data:
        found.append(Problem(entry.name, "data", "the data were changed after they were written"))
    after_header = entry.start + entry.header_bytes
    fill = get(after_header, entry.data_start - after_header)
    if fill.strip(b" ") or get(end, entry.end - end).strip(b"\0"):
        found.append(_padding(entry.name))
    return found


def read_header(file: IO[bytes], entry: Entry) -> fits.Header:
    """The header of an HDU."""
    file.seek(entry.start)
    return header_from_text(file.read(entry.header_bytes - 80).decode("ascii"))


def read_entry(file: IO[bytes], entry: Entry) -> tuple[fits.Header, NDArray[Any] | None]:
    """Header and native array of an HDU, bit for bit as it was handed to :func:`write_hdus`."""
    header = read_header(file, entry)
    if entry.data_bytes == 0:
        return header, None
    kind = _DTYPE[header["BITPIX"]]
    shape = tuple(header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1))
    zero = int(header.get("BZERO", 0))
    kind = next((name for name, moved in _ZERO.items() if moved == zero), kind)
    made = np.empty(shape, kind)  # an owner, which nobody need copy
    words = made.view(f"u{kind[1]}")
    file.seek(entry.data_start)
    flat = words.reshape(-1)
    for start in range(0, flat.size, _LOOK // words.itemsize):
        part = flat[start : start + _LOOK // words.itemsize]
        file.readinto(part)  # type: ignore[attr-defined]  # open_plain gives buffered binary files
        if np.little_endian:
            part.byteswap(inplace=True)
        if zero:
            part ^= np.array(abs(zero), words.dtype)
    return header, made
