"""Catalogues as a FITS binary table, in the same sealed container as images (:mod:`larun.io.container`)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from larun.errors import FileError, OptionError
from larun.io import container
from larun.io.cards import quiet
from larun.io.container import Hdu, Problem
from larun.io.flat import settled
from larun.io.product import open_entries, primary_hdu, read_record, record_hdu
from larun.io.streams import open_plain

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["FITS", "FitsTable"]

_META_NAME = re.compile(r"HIERARCH [A-Za-z0-9_][A-Za-z0-9_ -]{0,25}")
# What says how the table is laid out, and must not be said twice.
_LAYOUT = re.compile(
    r"[A-Z]{4,7}\d+|SIMPLE|BITPIX|NAXIS|PCOUNT|GCOUNT|TFIELDS|THEAP|END|EXTNAME|XTENSION|CHECKSUM|DATASUM|CONTINUE|COMMENT"
    r"|HISTORY|BLANK"
)
_LACKING = {"i1": "i2", "f2": "f4"}


class FitsTable:
    """The format as the others are: a name, suffixes, and how to write, read and verify."""

    name = "FITS"
    suffixes = (".fits",)

    def starts(self, start: bytes) -> bool:
        """Whether the first bytes of a file are those of a FITS file."""
        return start.startswith(b"SIMPLE  =")

    def write(
        self, path: Path, table: QTable, record: dict[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Write to a path that does not exist yet; ``arrays`` go into HDUs of their own, by name."""
        table, notes = _wider(table, {"record": record, "meta": dict(table.meta)})
        class_name = str(record.get("class", "SourceCatalog"))
        more = [container.image_hdu(name, array) for name, array in (arrays or {}).items()]
        container.write_hdus(path, [primary_hdu(class_name), _table_hdu(table), *more, record_hdu(notes)])

    def arrays(self, path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
        """The arrays beside the table.

        Raises
        ------
        KeyError
            If one is not there.
        """
        with open_plain(path) as file:
            entries = open_entries(path, file, verify=False)
            found = [container.read_entry(file, entries[name])[1] for name in names]
        return [array for array in found if array is not None]

    def read(self, path: Path, *, verify: bool) -> tuple[QTable, dict[str, Any]]:
        """The table and its record.

        Raises
        ------
        FileError
            If the file is no catalogue of larun.
        CorruptProduct
            If it was changed since it was written.
        """
        from astropy.table import QTable

        with open_plain(path) as file:
            entries = open_entries(path, file, verify=verify)
            if "TABLE" not in entries:
                raise FileError(
                    f"{path} holds no catalogue but {', '.join(entries)}: read it as an image, with Frame.read"
                )
            notes = read_record(file, entries)
            file.seek(0)
            with quiet():
                table = QTable.read(
                    file, format="fits", hdu=1, character_as_bytes=False, astropy_native=True, mask_invalid=False
                )
        for name in table.colnames:
            if hasattr(table[name], "dtype"):
                own = table[name].dtype.newbyteorder("=")  # FITS has the other one
                wanted = np.dtype(notes.get("dtypes", {}).get(name, own))
                if wanted != table[name].dtype or not table[name].dtype.isnative:
                    _change(table, name, wanted)
        table.meta = notes["meta"]  # keywords are in upper case, and only of some types
        return table, notes["record"]

    def verify(self, path: Path) -> list[Problem]:
        """What is wrong with a file, HDU by HDU."""
        return list(container.verify(path))


def _meta_cards(meta: Mapping[str, Any]) -> Iterator[fits.Card]:
    """Numbers and short texts of the metadata as cards, for other programs; the notes hold all of it, exactly."""
    for key, value in meta.items():
        name = f"HIERARCH {key}"
        text = ", ".join(map(repr, value)) if isinstance(value, list) else value
        number = isinstance(text, bool | int) or (isinstance(text, float) and np.isfinite(text))
        words = isinstance(text, str) and text.isascii() and text.isprintable() and len(text) < 40 and "'" not in text
        if _META_NAME.fullmatch(name) and not _LAYOUT.fullmatch(str(key).upper()) and (number or words):
            with quiet():
                yield fits.Card(name, text)


def _wider(table: QTable, notes: dict[str, Any]) -> tuple[QTable, dict[str, Any]]:
    """The table with the types that FITS tables lack as wider ones; the notes then say what they were."""
    lacking = {name: table[name].dtype.str[1:] for name in table.colnames if hasattr(table[name], "dtype")}
    lacking = {name: code for name, code in lacking.items() if code in _LACKING}
    if not lacking:
        return table, notes
    made = table.copy(copy_data=False)
    for name, code in lacking.items():
        _change(made, name, _LACKING[code])
    return made, {**notes, "dtypes": lacking}


def _change(table: QTable, name: str, dtype: Any) -> None:
    turned = table[name].astype(dtype)
    turned.info.description = table[name].info.description
    table.replace_column(name, turned)


def _table_hdu(table: QTable) -> Hdu:
    """The binary table as astropy writes it, taken apart into cards and bytes."""
    buffer = io.BytesIO()
    plain = settled(table)
    plain.meta.clear()
    for column in plain.itercols():
        method = getattr(column.info, "serialize_method", None)
        if method is not None and "fits" in method and hasattr(column, "dtype") and hasattr(column, "mask"):
            column.info.serialize_method = {**method, "fits": "data_mask"}
    try:
        with quiet():  # a unit FITS has no word for is kept in astropy's own metadata
            plain.write(buffer, format="fits")
    except UnicodeEncodeError as error:
        raise OptionError(f"FITS tables hold ASCII text only, here is {error.object!r}: write an .ecsv") from error
    except ValueError as error:  # of names and units, astropy checks the letters itself
        raise OptionError(
            f"FITS tables hold ASCII text only, and names of one line ({error}): write an .ecsv"
        ) from error
    content = buffer.getvalue()
    with quiet(), fits.open(io.BytesIO(content)) as hdus:
        place, header = hdus[1].fileinfo(), hdus[1].header
        header["EXTNAME"] = "TABLE"
        header.extend(_meta_cards(table.meta))
        size = hdus[1].size
    cards = header.tostring(endcard=False, padding=False)
    data = np.frombuffer(content, np.uint8, size, place["datLoc"])
    return Hdu("TABLE", cards, data if size else None)


FITS = FitsTable()
