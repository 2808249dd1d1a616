"""Catalogues as ECSV text: the record and the digest stand in the metadata of the file, under ``larun``."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

from larun.errors import OptionError
from larun.io.flat import settled
from larun.io.sealed import UNSEALED, Sealed

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["ECSV"]


def _encode(table: QTable, record: str) -> bytes:
    copy = settled(table)
    if not len(copy) and any(len(getattr(copy[name], "shape", ())) > 1 for name in copy.colnames):
        raise OptionError("ECSV cannot hold a column of arrays without a row: write a .parquet or .vot")
    copy.meta = {**table.meta, "larun": {"larun_sha256": UNSEALED, "record": record}}
    buffer = io.StringIO()
    copy.write(buffer, format="ascii.ecsv")
    return buffer.getvalue().encode("utf-8")


def _decode(content: bytes) -> tuple[QTable, dict[str, Any]]:
    from astropy.table import QTable

    table = QTable.read(content.decode("utf-8"), format="ascii.ecsv")
    return table, json.loads(table.meta.pop("larun")["record"])


ECSV = Sealed(
    name="ECSV",
    suffixes=(".ecsv",),
    starts=lambda start: start.startswith(b"# %ECSV"),
    seal=re.compile(rb"larun_sha256: '([0-9a-f]{64})'"),  # quoted, so that no YAML reader takes it for a number
    encode=_encode,
    decode=_decode,
    text=True,
)
