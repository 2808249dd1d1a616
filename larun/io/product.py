"""Products: an image with its variance, flags, shared noise and record in one FITS file.

=============  ==================================================================================================
HDU            holds
=============  ==================================================================================================
PRIMARY        no data; the exposure's header as far as strict readers accept it, ``LARUNFMT`` (format version) and
               ``LARUNCLS`` (class)
SCI            float32 image; ``BUNIT`` and the world coordinates
VAR            float32 variance (absent: none)
DQ             uint32 flags; the flag table in its header (``DQNAMEn``, ``DQBITn``)
SHARED,i       float32 variance common to every frame that used a master; its id in ``MASTERID``
ACF            autocorrelation of the noise, 1 at the centre (absent: white)
others         further planes by name (coverage, kernel, …)
HEADER         the exposure's header, every card of it, character for character
PROVENANCE     the record: canonical JSON in UTF-8
DIGESTS        SHA-256 of header and data of every HDU above (:mod:`larun.io.container`)
=============  ==================================================================================================
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from larun import flags as flag_table
from larun.errors import CorruptProduct, FileError, LarunWarning, OptionError
from larun.io import container
from larun.io.atomic import atomic_path, check_target
from larun.io.cards import header_from_text, header_text, new_card, standard_cards
from larun.io.container import FORMAT, Entry, Hdu, Problem, image_hdu, json_hdu
from larun.io.streams import open_plain, opener_of, read_start
from larun.provenance.canonical import text_of

__all__ = ["ProductParts", "is_product", "read_product", "verify_product", "write_product"]

_MOST_REMARKS = 99
_OWN = ("PRIMARY", "SCI", "VAR", "DQ", "SHARED", "ACF", "RESAMPLE", "HEADER", "PROVENANCE", "DIGESTS")


class ProductParts(NamedTuple):
    """What a product file holds, as plain values."""

    class_name: str
    header: fits.Header
    data: NDArray[np.float32]
    """(ny, nx)"""
    variance: NDArray[np.float32] | None
    """(ny, nx), unit squared"""
    flags: NDArray[np.uint32]
    """(ny, nx), see :mod:`larun.flags`"""
    shared: tuple[tuple[str, NDArray[np.float32]], ...]
    """(master id, variance plane) of noise common to all frames that used the master"""
    noise_acf: NDArray[Any] | None
    unit: str
    wcs_header: fits.Header | None
    record: dict[str, Any]
    """JSON-able; no NaN"""
    planes: tuple[tuple[str, NDArray[Any]], ...] = ()
    """further arrays by (upper-case) HDU name"""
    resampling: NDArray[Any] | None = None
    """(n,) float64: where pixels come from, if they were put on others"""
    remarks: tuple[str, ...] = ()
    """for people who look at the first header: cards ``CHECKn``"""


def write_product(path: str | Path, parts: ProductParts, *, overwrite: bool = False) -> None:
    """Write a product, whole or not at all; equal parts give equal bytes.

    Parameters
    ----------
    path : path
        Ends in ``.fits`` or ``.fit``.
    parts : ProductParts
        Planes keep every bit, NaN payloads and signed zeros included.
    overwrite : bool
        Replace a product of larun; any other file is never replaced.

    Raises
    ------
    FileError
        If the path may not be written.
    OptionError
        If planes differ in shape or type, a name is taken, or the record is not JSON.
    """
    path = Path(path)
    if path.suffix.lower() not in (".fits", ".fit"):
        raise OptionError(f"{path}: a product is a FITS file, end its name in .fits")
    check_target(path, overwrite=overwrite)
    hdus = _hdus(parts)
    with atomic_path(path, overwrite=overwrite) as temporary:
        container.write_hdus(temporary, hdus)


def primary_hdu(class_name: str, header: fits.Header | None = None, remarks: Sequence[str] = ()) -> Hdu:
    """The first HDU of every file of larun."""
    own = [
        new_card("SIMPLE", True, "conforms to the FITS standard"),
        new_card("BITPIX", 8, "no data here: see the extensions"),
        new_card("NAXIS", 0),
        new_card("EXTEND", True),
        new_card("LARUNFMT", FORMAT, "version of the product format of larun"),
        new_card("LARUNCLS", class_name, "class that reads this file"),
    ]
    cards = "".join(own)
    body = "" if header is None else standard_cards(header)
    body = "".join(_remark(n, text) for n, text in enumerate(remarks[:_MOST_REMARKS], 1)) + body
    if "CONTINUE  '" in body or len(class_name) > 60:
        cards += new_card("LONGSTRN", "OGIP 1.0", "strings may be continued")
    return Hdu("PRIMARY", cards + body)


def _remark(number: int, text: str) -> str:
    """A card ``CHECKn``, continued where it is long, with the characters that FITS knows."""
    plain = text.replace("±", "+-").encode("ascii", "replace").decode("ascii")
    return str(fits.Card(f"CHECK{number}", plain))


def _in_electrons(header: fits.Header) -> fits.Header:
    """The header for other programs: the gain is in the pixels and must not be applied again (HEADER keeps the old)."""
    if "GAIN" not in header:
        return header
    made = header.copy()
    made["GAIN"] = (1.0, "pixels are electrons; the detector's is in HEADER")
    return made


def record_hdu(record: dict[str, Any]) -> Hdu:
    """The record of a file as canonical JSON."""
    try:
        return json_hdu("PROVENANCE", text_of(record))
    except (TypeError, ValueError) as error:
        raise OptionError(f"the record cannot be written as JSON: {error}") from error


def _hdus(parts: ProductParts) -> list[Hdu]:
    science = new_card("BUNIT", parts.unit, "unit of the image")
    if parts.wcs_header is not None:
        science += header_text(parts.wcs_header)
    hdus = [
        primary_hdu(
            parts.class_name,
            _in_electrons(parts.header) if parts.unit == "electron" else parts.header,
            parts.remarks,
        ),
        image_hdu("SCI", _plane("data", parts.data, np.float32, parts.data.shape), cards=science),
    ]
    shape = parts.data.shape
    squared = new_card("BUNIT", f"({parts.unit})**2" if parts.unit else "", "unit of the variance")
    if parts.variance is not None:
        hdus.append(image_hdu("VAR", _plane("variance", parts.variance, np.float32, shape), cards=squared))
    hdus.append(image_hdu("DQ", _plane("flags", parts.flags, np.uint32, shape), cards=_flag_cards()))
    for number, (master, variance) in enumerate(parts.shared, 1):
        cards = squared + new_card("MASTERID", master, "the master this noise comes from")
        plane = _plane(f"shared variance of {master}", variance, np.float32, shape)
        hdus.append(image_hdu("SHARED", plane, version=number, cards=cards))
    if parts.noise_acf is not None:
        hdus.append(image_hdu("ACF", parts.noise_acf))
    if parts.resampling is not None:
        hdus.append(image_hdu("RESAMPLE", parts.resampling))
    names = [name for name, _ in parts.planes]
    good = all(name not in _OWN and name == name.upper() and name.isidentifier() for name in names)
    if not good or len(set(names)) < len(names):
        raise OptionError(f"planes {names}: names are different, upper case, and none of {', '.join(_OWN)}")
    hdus += [image_hdu(name, array) for name, array in parts.planes]
    hdus += [json_hdu("HEADER", header_text(parts.header) + "END".ljust(80)), record_hdu(parts.record)]
    return hdus


def _plane(name: str, array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    if array.dtype != dtype or array.ndim != 2 or array.shape != shape:
        raise OptionError(
            f"{name}: {array.dtype} {array.shape} where {np.dtype(dtype).name} {shape} is stored: convert it first"
        )
    return array


def _flag_cards() -> str:
    cards = []
    for number, flag in enumerate(flag_table.TABLE, 1):
        cards.append(new_card(f"DQNAME{number}", flag.name))
        cards.append(new_card(f"DQBIT{number}", flag.bit, flag.meaning))
    return "".join(cards)


def is_product(path: str | Path) -> bool:
    """Whether a file is a product of larun: it says so at its beginning or at its end.

    Two marks, so that one damaged byte cannot make a product look like a raw file. A file that cannot be read at all,
    empty or with a damaged compressed stream, is none.

    Raises
    ------
    FileError
        If the file is missing.
    """
    try:
        start = read_start(path, container.BLOCK)
    except FileError:
        if Path(path).exists():
            return False
        raise
    if b"LARUNFMT=" in start:
        return True
    if opener_of(path) is not None:  # a compressed file carries its own check sum
        return False
    with open_plain(path) as file:
        return container.find_digests(file) >= 0


def verify_product(path: str | Path) -> list[Problem]:
    """Compare every byte of a product with its digests.

    Returns
    -------
    list of Problem
        Empty when all is as it was written. A problem names the HDU and its kind: ``header``, ``data``, ``count``,
        ``digests``, or ``padding`` (bytes that no reader looks at).

    Raises
    ------
    FileError
        If the file is missing, empty, or cannot be unpacked.
    """
    return list(container.verify(Path(path)))


def open_entries(path: Path, file: IO[bytes], *, verify: bool) -> dict[str, Entry]:
    """The HDUs of a product by name, after the checks.

    Raises
    ------
    FileError
        If it is no product, or of a newer format.
    CorruptProduct
        If it does not agree with its digests.
    """
    if not is_product(path):
        raise FileError(f"{path} is not a product of larun: read it as a raw image, with Frame.read")
    problems = container.verify(path) if verify else container.layout(file)[1]
    broken = [problem for problem in problems if problem.kind != "padding"]
    if any(problem.kind == "format" for problem in problems):
        raise FileError(f"{path}: {'; '.join(map(str, problems))}")
    if broken:
        raise CorruptProduct(
            f"{path} does not agree with its own digests ({'; '.join(map(str, broken))}): "
            "take it from a copy, or make it again from the raw files"
        )
    if problems:
        warnings.warn(f"{path}: {'; '.join(map(str, problems))}", LarunWarning, stacklevel=4)
    entries, _ = container.layout(file)
    by_name = {entry.name: entry for entry in entries}
    primary, _ = container.read_entry(file, by_name["PRIMARY"])
    version = primary["LARUNFMT"]
    if version > FORMAT:
        raise FileError(f"{path} has format {version}, this larun reads up to {FORMAT}: install a newer larun")
    return by_name


def read_product(path: str | Path, *, verify: bool = True) -> ProductParts:
    """Read a product: planes, header and record as they were written, bit for bit.

    Parameters
    ----------
    path : path
        A product; it may be gzipped as a whole.
    verify : bool
        Compare every byte with the digests first (about 0.3 s for 4096² with variance and flags).

    Raises
    ------
    FileError
        If the file is missing, no product of larun, or of a newer format.
    CorruptProduct
        If header, data, record or digests were changed; the message names the HDU.

    Warns
    -----
    LarunWarning
        If only padding was changed.
    """
    path = Path(path)
    with open_plain(path) as file:
        entries = open_entries(path, file, verify=verify)
        if "SCI" not in entries:
            raise FileError(f"{path}: holds no image but a catalogue: read it with larun.SourceCatalog.read(path)")
        primary, _ = container.read_entry(file, entries["PRIMARY"])
        header_hdu, data = container.read_entry(file, entries["SCI"])
        assert data is not None  # image_hdu refuses empty arrays
        shared: list[tuple[str, NDArray[np.float32]]] = []
        while (name := f"SHARED,{len(shared) + 1}") in entries:
            head, variance = container.read_entry(file, entries[name])
            assert variance is not None
            shared.append((str(head["MASTERID"]), variance))
        rest = [name for name in entries if name.split(",")[0] not in _OWN]
        return ProductParts(
            class_name=str(primary["LARUNCLS"]),
            header=header_from_text(_bytes(file, entries["HEADER"])[:-80].decode("ascii")),
            data=data,
            variance=_array(file, entries.get("VAR")),
            flags=_array(file, entries["DQ"]),
            shared=tuple(shared),
            noise_acf=_array(file, entries.get("ACF")),
            resampling=_array(file, entries.get("RESAMPLE")),
            unit=str(header_hdu["BUNIT"]),
            wcs_header=_wcs_cards(header_hdu),
            record=read_record(file, entries),
            planes=tuple((name, _array(file, entries[name])) for name in rest),
        )


def read_record(file: IO[bytes], entries: dict[str, Entry]) -> dict[str, Any]:
    """The record of a file."""
    record: dict[str, Any] = json.loads(_bytes(file, entries["PROVENANCE"]))
    return record


def _bytes(file: IO[bytes], entry: Entry) -> bytes:
    file.seek(entry.data_start)
    return file.read(entry.data_bytes)


def _array(file: IO[bytes], entry: Entry | None) -> Any:
    return None if entry is None else container.read_entry(file, entry)[1]


def _wcs_cards(header: fits.Header) -> fits.Header | None:
    """All that follows the unit in SCI, but for the checksums at the end."""
    cards = list(header.cards)
    start = next(i for i, card in enumerate(cards) if card.keyword == "BUNIT") + 1
    kept = [card for card in cards[start:] if card.keyword not in ("DATASUM", "CHECKSUM")]
    return fits.Header(kept) if kept else None
