"""Catalogues as ECSV text: the record and the digest stand in the metadata of the file, under ``larun``."""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError
from larun.io.flat import settled
from larun.io.sealed import UNSEALED, Sealed

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["ECSV", "SUMMARY_SEAL"]

#: The digest of a table of text that has no record: the summary of a reduction.
SUMMARY_SEAL = re.compile(rb"summary_sha256: '([0-9a-f]{64})'")

#: Text that stands in one line of YAML, between single quotes, as it is.
_PLAIN_TEXT = re.compile(r"[ -~]+")
_RECORD = re.compile(rb"^# - larun: \{larun_sha256: '[0-9a-f]{64}', record: '((?:[^'\n]|'')*)'[,}]", re.M)


def _encode(table: QTable, record: str) -> bytes:
    copy = settled(table)
    if not len(copy) and any(len(getattr(copy[name], "shape", ())) > 1 for name in copy.colnames):
        raise OptionError("ECSV cannot hold a column of arrays without a row: write a .parquet or .vot")
    full = [name for name in copy.colnames if _is_text(copy[name]) and getattr(copy[name], "mask", None) is None]
    for name in filter(lambda name: _is_text(copy[name]), copy.colnames):
        if any("\r" in text for text in np.asarray(copy[name]).reshape(-1).tolist()):
            raise OptionError(f"column {name!r} holds carriage returns, which ECSV loses: write a .parquet or .vot")
    quick = _PLAIN_TEXT.fullmatch(record) is not None  # a YAML writer looks at it letter by letter, in Python
    # no text that a table may hold can name the digest of the record that tells of it
    stand_in = f"record_{hashlib.sha256(record.encode()).hexdigest()}"
    notes = {"larun_sha256": UNSEALED, "record": stand_in if quick else record} | ({"text": full} if full else {})
    copy.meta = {**table.meta, "larun": notes}
    plain = all(_is_number(copy[name]) for name in copy.colnames)
    buffer = io.StringIO()
    (copy[:0] if plain else copy).write(buffer, format="ascii.ecsv")
    if quick:
        header = buffer.getvalue().replace(stand_in, "'" + record.replace("'", "''") + "'")
        buffer = io.StringIO()
        buffer.write(header)
    if plain:
        buffer.write(_rows([np.asarray(copy[name]) for name in copy.colnames]))
    return buffer.getvalue().encode("utf-8")


def _is_number(column: Any) -> bool:
    """Whether a column is one of numbers or truth values, none of them masked."""
    return (
        getattr(getattr(column, "dtype", None), "kind", "") in "biuf"
        and getattr(column, "shape", ())[1:] == ()
        and getattr(column, "mask", None) is None
        and type(getattr(column, "info", None)).__name__ in ("ColumnInfo", "QuantityInfo")
    )


def _rows(columns: list[NDArray[Any]]) -> str:
    """Numbers as astropy writes them, the shortest text that gives the same bits, ten times as fast."""
    texts = [
        map(repr, values.tolist()) if values.dtype.kind != "f" or values.dtype.itemsize == 8 else map(str, values)
        for values in columns
    ]
    return "".join(f"{' '.join(row)}\n" for row in zip(*texts, strict=True))


def _decode(content: bytes) -> tuple[QTable, dict[str, Any]]:
    from astropy.table import QTable

    table = QTable.read(content.decode("utf-8"), format="ascii.ecsv")
    notes = table.meta.pop("larun")
    for name in notes.get("text", ()):  # astropy takes an empty text for a missing one
        if hasattr(table[name], "filled"):
            table.replace_column(name, table[name].filled(""))
    return table, json.loads(notes["record"])


def _record(content: bytes) -> dict[str, Any]:
    """The record, where it stands in one line; YAML is asked where it does not."""
    found = _RECORD.findall(content)
    record: dict[str, Any] = json.loads(found[0].replace(b"''", b"'")) if len(found) == 1 else _decode(content)[1]
    return record


def _is_text(column: Any) -> bool:
    return getattr(getattr(column, "dtype", None), "kind", "") == "U"


ECSV = Sealed(
    name="ECSV",
    suffixes=(".ecsv",),
    starts=lambda start: start.startswith(b"# %ECSV"),
    seal=re.compile(rb"larun_sha256: '([0-9a-f]{64})'"),  # quoted, so that no YAML reader takes it for a number
    encode=_encode,
    decode=_decode,
    record=_record,
    text=True,
)
