"""Catalogues as Apache Parquet, for pandas, polars, databases and everything that reads Arrow tables.

The columns are those of the table. Units and descriptions stand in the metadata of each field and, in the form that
astropy reads, in ``table_meta_yaml``; the record and the digest in the keys ``larun`` and ``larun_sha256`` of the
footer.
"""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.errors import MissingExtra, OptionError
from larun.io.flat import flatten, restore
from larun.io.sealed import UNSEALED, Sealed

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["PARQUET"]


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "tables") from error
    return pyarrow


def _encode(table: QTable, record: str) -> bytes:
    arrow = _pyarrow()
    flat = flatten(table)
    arrays = {name: _array(arrow, name, values) for name, values in flat.columns.items()}
    fields = []
    metadata = {"table_meta_yaml": flat.yaml}
    for name, array in arrays.items():
        about = {"unit": flat.units.get(name, ""), "description": flat.descriptions.get(name, "")}
        fields.append(arrow.field(name, array.type, metadata={key: value for key, value in about.items() if value}))
        if flat.columns[name].dtype.kind == "U":
            metadata[f"table::len::{name}"] = str(flat.columns[name].dtype.itemsize // 4)
    schema = arrow.schema(fields, metadata=metadata)
    layout = [[name, values.dtype.str, list(values.shape[1:])] for name, values in flat.columns.items()]
    notes = json.dumps({"record": record, "layout": layout}, sort_keys=True, separators=(",", ":"))
    sink = io.BytesIO()
    # a dictionary holds one NaN for all: without it every bit is kept
    with arrow.parquet.ParquetWriter(sink, schema, use_dictionary=False, compression="snappy") as writer:
        writer.write_table(arrow.Table.from_arrays(list(arrays.values()), schema=schema))
        writer.add_key_value_metadata({"larun": notes, "larun_sha256": UNSEALED})
    return sink.getvalue()


def _array(arrow: Any, name: str, values: NDArray[Any]) -> Any:
    if values.dtype.kind == "c":
        raise OptionError(f"column {name!r} holds complex numbers, which Parquet has not: write an .ecsv or .vot")
    native = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("="), copy=False)
    flat = arrow.array(native.reshape(-1).tolist(), arrow.string()) if native.dtype.kind == "U" else None
    if flat is None:
        flat = arrow.array(native.reshape(-1))
    width = int(np.prod(values.shape[1:], dtype=int))
    if values.ndim == 1:
        return flat
    return arrow.FixedSizeListArray.from_arrays(flat, width)


def _decode(content: bytes) -> tuple[QTable, dict[str, Any]]:
    arrow = _pyarrow()
    file = arrow.parquet.ParquetFile(arrow.BufferReader(content))
    footer = file.metadata.metadata
    notes = json.loads(footer[b"larun"])
    table = file.read().combine_chunks()
    columns = {}
    for name, dtype, shape in notes["layout"]:
        column = table.column(name)
        for _ in shape[:1]:  # rows of several numbers
            column = column.combine_chunks().flatten()
        values = np.array(column.to_pylist(), dtype) if np.dtype(dtype).kind == "U" else column.to_numpy()
        columns[name] = values.astype(dtype, copy=False).reshape(table.num_rows, *shape)
    return restore(columns, footer[b"table_meta_yaml"].decode("utf-8")), json.loads(notes["record"])


def _record(content: bytes) -> dict[str, Any]:
    arrow = _pyarrow()
    footer = arrow.parquet.read_metadata(arrow.BufferReader(content)).metadata
    record: dict[str, Any] = json.loads(json.loads(footer[b"larun"])["record"])
    return record


PARQUET = Sealed(
    name="Parquet",
    suffixes=(".parquet", ".pq"),
    starts=lambda start: start.startswith(b"PAR1"),
    seal=re.compile(rb"larun_sha256\x18\x40([0-9a-f]{64})"),  # Thrift: a field of 0x40 bytes follows the key
    encode=_encode,
    decode=_decode,
    record=_record,
)
