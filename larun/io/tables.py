"""Catalogues and region files.

``.ecsv`` is text: the record and a digest of the whole file stand in its metadata under ``larun``. ``.fits`` is a
binary table in the same sealed container as images (:mod:`larun.io.container`). Both keep units, descriptions and
every bit of the numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

from larun.errors import CorruptProduct, FileError, OptionError
from larun.io import container
from larun.io.atomic import atomic_path, check_target
from larun.io.cards import quiet
from larun.io.container import Hdu, Problem
from larun.io.product import open_entries, primary_hdu, read_record, record_hdu
from larun.io.streams import open_plain, opener_of
from larun.provenance.canonical import text_of

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["read_regions", "read_table", "verify_table", "write_regions", "write_table"]

_UNSEALED = "0" * 64
_SEAL = re.compile(rb"larun_sha256: '([0-9a-f]{64})'")  # quoted, so that no YAML reader takes it for a number
_CIRCLE = re.compile(r"(?:circle|point)\s*\(?\s*([^,\s]+)[,\s]+([^,)\s]+)(?:[,\s]+([^,)\s]+))?\s*\)?", re.IGNORECASE)
_NOT_IMAGE = re.compile(r"\b(fk4|fk5|icrs|galactic|ecliptic|physical|wcs\w?|detector|amplifier|linear)\b", re.I)


def write_table(path: str | Path, table: QTable, record: dict[str, Any], *, overwrite: bool = False) -> None:
    """Write a catalogue with its record; the suffix, ``.ecsv`` or ``.fits``, chooses the format.

    Parameters
    ----------
    path : path
        Where to; appears whole or not at all.
    table : QTable
        Any columns that astropy can write in that format; for ``.fits`` its ``meta`` must be JSON-able.
    record : dict
        JSON-able; no NaN. Its ``class`` is shown in ``LARUNCLS``.
    overwrite : bool
        Replace a file of larun; any other file is never replaced.

    Raises
    ------
    FileError
        If the path may not be written.
    OptionError
        If the suffix is another, or the record is not JSON.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.table import QTable
    >>> path = Path(tempfile.mkdtemp()) / "stars.ecsv"
    >>> write_table(path, QTable({"flux": [1.5, 2.5]}), {"class": "SourceCatalog"})
    >>> table, record = read_table(path)
    >>> table["flux"].tolist(), record
    ([1.5, 2.5], {'class': 'SourceCatalog'})
    """
    path = Path(path)
    suffix = _suffix(path)
    check_target(path, overwrite=overwrite)
    if suffix == ".fits":
        notes = {"record": record, "meta": dict(table.meta)}  # FITS keywords would turn meta into upper case
        hdus = [primary_hdu(str(record.get("class", "SourceCatalog"))), _table_hdu(table), record_hdu(notes)]
        with atomic_path(path, overwrite=overwrite) as temporary:
            container.write_hdus(temporary, hdus)
        return
    text = _ecsv_text(table, record)
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(text)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".ecsv", ".fits"):
        raise OptionError(f"{path}: a catalogue is written as .ecsv (text) or .fits (binary), not {suffix!r}")
    return suffix


def _table_hdu(table: QTable) -> Hdu:
    """The binary table as astropy writes it, taken apart into cards and bytes."""
    buffer = io.BytesIO()
    plain = table.copy(copy_data=False)
    plain.meta.clear()
    try:
        with quiet():  # a unit FITS has no word for is kept in astropy's own metadata
            plain.write(buffer, format="fits")
    except UnicodeEncodeError as error:
        raise OptionError(f"FITS tables hold ASCII text only, here is {error.object!r}: write an .ecsv") from error
    content = buffer.getvalue()
    with quiet(), fits.open(io.BytesIO(content)) as hdus:
        place, header = hdus[1].fileinfo(), hdus[1].header
        header["EXTNAME"] = "TABLE"
        size = hdus[1].size
    cards = header.tostring(endcard=False, padding=False)
    data = np.frombuffer(content, np.uint8, size, place["datLoc"])
    return Hdu("TABLE", cards, data if size else None)


def _ecsv_text(table: QTable, record: dict[str, Any]) -> bytes:
    """The ECSV text with its own digest in it: computed with zeros in the place of the digest."""
    try:
        plain = text_of(record)
    except (TypeError, ValueError) as error:
        raise OptionError(f"the record cannot be written as JSON: {error}") from error
    copy = table.copy(copy_data=False)
    copy.meta = {**table.meta, "larun": {"larun_sha256": _UNSEALED, "record": plain}}
    buffer = io.StringIO()
    copy.write(buffer, format="ascii.ecsv")
    text = buffer.getvalue().encode("utf-8")
    return _SEAL.sub(f"larun_sha256: '{hashlib.sha256(text).hexdigest()}'".encode(), text, count=1)


def read_table(path: str | Path, *, verify: bool = True) -> tuple[QTable, dict[str, Any]]:
    """Read a catalogue and its record.

    Parameters
    ----------
    path : path
        ``.ecsv`` or ``.fits``, written by :func:`write_table`.
    verify : bool
        Compare the file with its digests first.

    Raises
    ------
    FileError
        If the file is missing or no catalogue of larun.
    CorruptProduct
        If it was changed since it was written.
    """
    path = Path(path)
    if _suffix(path) == ".ecsv":
        return _read_ecsv(path, verify=verify)
    from astropy.table import QTable

    with open_plain(path) as file:
        entries = open_entries(path, file, verify=verify)
        if "TABLE" not in entries:
            raise FileError(f"{path} holds no catalogue but {', '.join(entries)}: read it as an image, with Frame.read")
        notes = read_record(file, entries)
        file.seek(0)
        with quiet():
            table = QTable.read(file, format="fits", hdu=1, character_as_bytes=False, astropy_native=True)
    table.meta = notes["meta"]
    return table, notes["record"]


def verify_table(path: str | Path) -> list[Problem]:
    """Compare every byte of a catalogue with its digests: empty when all is as it was written.

    Raises
    ------
    FileError
        If the file is missing, or no catalogue.
    """
    path = Path(path)
    if _suffix(path) == ".fits":
        return list(container.verify(path))
    text = _ecsv_bytes(path)
    found = _SEAL.search(text)
    if found is None:
        return [Problem("ECSV", "digests", "carries no digest of larun: it was not written by larun, or was changed")]
    blank = text[: found.start(1)] + _UNSEALED.encode() + text[found.end(1) :]
    if hashlib.sha256(blank).hexdigest().encode() != found[1]:
        return [Problem("ECSV", "data", "the text was changed after it was written")]
    return []


def _ecsv_bytes(path: Path) -> bytes:
    """The text with plain line ends: what a version control system does to them is no damage."""
    if opener_of(path) is not None:
        raise FileError(f"{path} is compressed: unpack it first")
    return path.read_bytes().replace(b"\r\n", b"\n")


def _read_ecsv(path: Path, *, verify: bool) -> tuple[QTable, dict[str, Any]]:
    from astropy.table import QTable

    text = _ecsv_bytes(path)
    if b"larun" not in text:
        raise FileError(f"{path} was not written by larun: read it with astropy.table")
    if verify and (problems := verify_table(path)):
        raise CorruptProduct(
            f"{path} does not agree with its own digest ({problems[0].detail}): take it from a copy, or make it again; "
            "verify=False reads it as it is"
        )
    try:
        table = QTable.read(text.decode("utf-8"), format="ascii.ecsv")
        record = json.loads(table.meta.pop("larun")["record"])
    except Exception as error:  # astropy and yaml raise many kinds
        raise FileError(f"{path} is not a catalogue of larun that can be read ({error})") from error
    return table, record


def write_regions(path: str | Path, x: ArrayLike, y: ArrayLike, radius: ArrayLike, *, overwrite: bool = False) -> None:
    """Write circles as a DS9 region file, in image coordinates.

    Parameters
    ----------
    path : path
        Usually ends in ``.reg``.
    x, y : array_like
        Centres; the first pixel's centre is (0, 0) here and (1, 1) in DS9.
    radius : array_like
        Pixels; one for all or one each.
    overwrite : bool
        Replace a region file of larun; any other file is never replaced.

    Raises
    ------
    OptionError
        If the lengths differ, or a number is not finite.
    FileError
        If the path may not be written.
    """
    columns = np.broadcast_arrays(*(np.asarray(values, np.float64).reshape(-1) for values in (x, y, radius)))
    if not all(np.isfinite(column).all() for column in columns):
        raise OptionError("x, y, radius: a region needs finite numbers; select the sources with a position first")
    lines = ["# Region file format: DS9 version 4.1", "# written by larun", "image"]
    lines += [f"circle({a + 1.0!r},{b + 1.0!r},{r!r})" for a, b, r in zip(*(c.tolist() for c in columns), strict=True)]
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def read_regions(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centres (first pixel's centre at (0, 0)) and radii (NaN for points) of a DS9 region file in image coordinates.

    Raises
    ------
    FileError
        If the file is missing, is in sky coordinates, or a circle or point cannot be read.
    """
    if opener_of(path) is not None:
        raise FileError(f"{path} is compressed: unpack it first")
    rows: list[tuple[float, float, float]] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.split("#")[0]
        if text.strip().lower().startswith("global"):
            continue
        if _NOT_IMAGE.search(text):
            raise FileError(f"{path}, line {number}: {text.strip()!r}: save the regions in image coordinates")
        for match in _CIRCLE.finditer(text):
            try:
                x, y = float(match[1]) - 1.0, float(match[2]) - 1.0
                rows.append((x, y, float(match[3]) if match[3] else float("nan")))
            except ValueError as error:
                raise FileError(f"{path}, line {number}: {text.strip()!r} is not in pixels") from error
    columns = np.array(rows, np.float64).reshape(-1, 3).T.copy()
    return columns[0], columns[1], columns[2]
