"""Tables of other programs, whole or in pieces: FITS, ECSV, CSV, Parquet, VOTable; told by their content.

Compressed files (gzip, bzip2, xz) are read as what they hold. Missing values are masked, or NaN.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from larun.errors import FileError, LarunError, MissingExtra
from larun.io.cards import quiet
from larun.io.dumps import Dump, dump_of, in_units
from larun.io.streams import open_plain, opener_of, read_start

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["pieces", "read_any_table"]

_HEAD = 1 << 20  # bytes by which the types of columns are told
_BLOCK = 1 << 22
_IDENTIFIER = re.compile(r"id|source|name|designation|star|2mass", re.I)
_NULLS = ("", "null", "NULL", "NaN", "nan", "\\N")


def kind_of(path: Path) -> str:
    """What a file is by its first bytes: fits, parquet, ecsv, votable, or text."""
    start = read_start(path, 4096)
    if start.startswith(b"SIMPLE  ="):
        return "fits"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"# %ECSV"):
        return "ecsv"
    if b"<VOTABLE" in start[:2048].upper():
        return "votable"
    if b"\x00" in start:
        raise FileError(
            f"{path} is no table that is known: give FITS, ECSV, CSV, Parquet or VOTable, or read it and hand over the "
            "table"
        )
    return "text"


def read_any_table(path: str | Path) -> Table:
    """The table in a file, with units and descriptions where it has them.

    Raises
    ------
    FileError
        If the file is missing, damaged, or no table.
    MissingExtra
        If it is Parquet and pyarrow is not installed.
    """
    path = Path(path)
    kind = kind_of(path)
    try:
        with quiet():
            if kind == "parquet":
                arrow = _arrow()
                with open_plain(path) as file:
                    return _from_arrow(arrow.parquet.ParquetFile(file), None)
            return _read(path, kind)
    except FileError as error:
        raise FileError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except LarunError:
        raise
    except Exception as error:  # astropy, yaml, arrow, expat and zlib raise many kinds
        raise FileError(f"{path} cannot be read as a table ({kind}): {' '.join(str(error).split())[:300]}") from error


def _read(path: Path, kind: str) -> Table:
    from astropy.table import Table

    if kind == "fits":
        from astropy.io import fits

        with open_plain(path) as file, fits.open(file, mode="readonly", memmap=False) as hdus:
            return Table.read(_first_table(hdus))
    if kind == "votable":
        with open_plain(path) as file:
            return Table.read(io.BytesIO(file.read()), format="votable")
    with open_plain(path) as file:
        text = file.read().decode("utf-8", "replace")
    fill = [(word, "0") for word in ("", "null", "NULL")]
    if kind == "ecsv":
        return Table.read(text, format="ascii.ecsv", fill_values=fill)
    dump = dump_of(path.name, text[:65536].partition("\n")[0])
    if dump is not None:
        missing = [*fill, ("\\N", "0")]
        return in_units(
            Table.read(
                text,
                format="ascii.no_header",
                delimiter=dump.delimiter,
                names=dump.columns,
                guess=False,
                fill_values=missing,
            ),
            dump,
        )
    delimiter = _delimiter(text[:65536])
    name = "ascii.basic" if delimiter == " " else "ascii.csv"
    return Table.read(text, format=name, delimiter=delimiter, comment="#", guess=False, fill_values=fill)


def _first_table(hdus: Any) -> Any:
    from astropy.io import fits

    tables = (hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU))
    found = next((hdu for hdu in tables if not isinstance(hdu, fits.CompImageHDU)), None)
    if found is None:
        raise FileError("there is no table in it, only images")
    return found


def _delimiter(text: str) -> str:
    """Of the first line that is no comment."""
    line = next((item for item in text.splitlines() if item.strip() and not item.startswith("#")), "")
    counts = {mark: line.count(mark) for mark in (",", "\t", ";", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else " "


def pieces(path: str | Path, rows: int) -> Iterator[Table]:
    """The table in a file piece by piece, in order: a file larger than the memory will do.

    Parameters
    ----------
    path : path
        FITS, Parquet, CSV and ECSV are read in pieces; compressed FITS and Parquet are unpacked to the disk first;
        VOTable and text with blanks are read whole.
    rows : int
        At most so many rows a piece, about.

    Raises
    ------
    FileError, MissingExtra
        As :func:`read_any_table`; CSV needs pyarrow too.
    """
    path = Path(path)
    kind = kind_of(path)
    try:
        with quiet():
            if kind == "fits":
                yield from _fits_pieces(path, rows)
            elif kind == "parquet":
                arrow = _arrow()
                with open_plain(path) as file:
                    stored = arrow.parquet.ParquetFile(file)
                    for batch in stored.iter_batches(batch_size=rows):
                        yield _from_arrow(batch, stored.schema_arrow)
            elif kind in ("ecsv", "text"):
                yield from _text_pieces(path, kind, rows)
            else:
                yield _read(path, kind)
    except FileError as error:
        raise FileError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except LarunError:
        raise
    except Exception as error:  # astropy, yaml, arrow, expat and zlib raise many kinds
        raise FileError(f"{path} cannot be read as a table ({kind}): {' '.join(str(error).split())[:300]}") from error


def _fits_pieces(path: Path, rows: int) -> Iterator[Table]:
    from astropy.io import fits
    from astropy.table import Table

    with open_plain(path) as file, fits.open(file, mode="readonly", memmap=True) as hdus:
        hdu = _first_table(hdus)
        for start in range(0, max(len(hdu.data), 1), rows):
            yield Table.read(fits.BinTableHDU(data=hdu.data[start : start + rows], header=hdu.header))


def _text_pieces(path: Path, kind: str, rows: int) -> Iterator[Table]:
    arrow = _arrow()
    from pyarrow import csv

    with (opener_of(path) or open)(path, "rb") as file:
        stream, comments = io.BufferedReader(file, _HEAD), []
        while stream.peek(1)[:1] == b"#":
            comments.append(stream.readline().decode("utf-8", "replace")[1:].strip("\r\n"))
        start = stream.peek(_HEAD)
        text = start[:65536].decode("utf-8", "replace")
        dump = dump_of(path.name, text.partition("\n")[0])
        about = _ecsv_head(comments) if kind == "ecsv" else _Head(_delimiter(text), {}, {})
        delimiter = about.delimiter if dump is None else dump.delimiter
        if delimiter == " ":
            yield _read(path, kind)
            return
        parsing = csv.ParseOptions(delimiter=delimiter)
        names = None if dump is None else list(dump.columns)
        wanted = None if dump is None else list(dump.divisors)
        # small blocks: arrow reads many of them ahead
        reading = csv.ReadOptions(
            block_size=min(_BLOCK, max(1 << 20, rows * 50)), use_threads=False, column_names=names
        )
        converting = csv.ConvertOptions(null_values=list(_NULLS), strings_can_be_null=True, include_columns=wanted)
        converting.column_types = about.types or _types(start, reading, parsing, converting)
        batches, count = [], 0
        for batch in csv.open_csv(arrow.PythonFile(stream, mode="r"), reading, parsing, converting):
            batches.append(batch)
            count += batch.num_rows
            if count >= rows:
                yield _text_table(batches, about.units, dump)
                batches, count = [], 0
        if batches:
            yield _text_table(batches, about.units, dump)


def _text_table(batches: list[Any], units: dict[str, str], dump: Dump | None) -> Table:
    made = _from_arrow(_arrow().Table.from_batches(batches), None)
    for name, unit in units.items():
        if name in made.colnames and unit:
            made[name].unit = unit
    return made if dump is None else in_units(made, dump)


def _types(start: bytes, reading: Any, parsing: Any, converting: Any) -> dict[str, Any]:
    """Types of the columns by the first lines, with room for what may come: arrow keeps to those of its first block.

    Columns that are empty or whole numbers there may hold any number, but for identifiers, whose last digits count.
    """
    arrow = _arrow()
    from pyarrow import csv

    whole = start[: start.rfind(b"\n") + 1] or start
    schema = csv.read_csv(io.BytesIO(whole), reading, parsing, converting).schema
    return {
        field.name: arrow.float64()
        if arrow.types.is_null(field.type)
        or (arrow.types.is_integer(field.type) and not _IDENTIFIER.search(field.name))
        else field.type
        for field in schema
    }


class _Head(NamedTuple):
    """What stands above the rows of a text."""

    delimiter: str
    units: dict[str, str]
    types: dict[str, Any]


def _ecsv_head(lines: list[str]) -> _Head:
    from astropy.table.meta import get_header_from_yaml

    arrow = _arrow()
    header = get_header_from_yaml([line[1:] if line.startswith(" ") else line for line in lines if "%ECSV" not in line])
    kinds = {"int": arrow.int64(), "uint": arrow.uint64(), "float": arrow.float64(), "bool": arrow.bool_()}
    types = {
        item["name"]: kinds.get(item["datatype"].rstrip("0123456789"), arrow.string()) for item in header["datatype"]
    }
    return _Head(
        header.get("delimiter", " "), {item["name"]: item.get("unit", "") for item in header["datatype"]}, types
    )


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "tables") from error
    return pyarrow


def _from_arrow(source: Any, schema: Any) -> Table:
    from astropy.table import Table

    if hasattr(source, "schema_arrow"):  # a whole file
        schema = source.schema_arrow
        source = source.read()
    made = Table()
    about = schema or source.schema
    units = _units(about)
    for number, name in enumerate(source.schema.names):
        column = source.column(number)
        if hasattr(column, "combine_chunks"):
            column = column.combine_chunks()
        values = _values(column)
        if values is None:
            continue
        made[name] = values
        if units.get(name):
            made[name].unit = units[name]
    return made


def _values(column: Any) -> Any:
    """An array of a column of numbers, truth values or text; None for anything else."""
    arrow = _arrow()
    kind = column.type
    if arrow.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
        return np.array(["" if item is None else item for item in column.to_pylist()], dtype=str)
    if arrow.types.is_boolean(kind):
        return np.array([bool(item) for item in column.to_pylist()], dtype=bool)
    if arrow.types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (arrow.types.is_integer(kind) or arrow.types.is_floating(kind)):
        return None
    if column.null_count and arrow.types.is_integer(kind):
        mask = np.asarray(column.is_null())
        return np.ma.MaskedArray(np.asarray(column.fill_null(0)), mask=mask)
    return np.array(column.to_numpy(zero_copy_only=False))


def _units(schema: Any) -> dict[str, str]:
    """Of the fields, as larun writes them, or from astropy's header."""
    made = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
    text = (schema.metadata or {}).get(b"table_meta_yaml")
    if text and not any(made.values()):
        from astropy.table.meta import get_header_from_yaml

        header = get_header_from_yaml(text.decode("utf-8").split("\n"))
        made |= {item["name"]: str(item.get("unit") or "") for item in header["datatype"]}
    return made
