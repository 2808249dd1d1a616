"""A large table on disk in parts, one Parquet file for each cell of the sky, with a page of contents beside them.

::

    STORE/
      refcat.json                       what is in it: columns, rows of each cell, digests
      Norder=5/Dir=0/Npix=1234.parquet  the rows of a cell, by right ascension

The names of folders and files are those of the IVOA's HATS. Cells are numbers that the caller gives; rows come in any
order and in pieces of any size, and the files are the same whatever they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import FileError, MissingExtra, OptionError

__all__ = ["DEPTH", "LEVELS", "Piece", "is_store", "read_cells", "read_contents", "write_store"]

FORMAT = 1
CONTENTS = "refcat.json"
#: Of the cells that pieces come with; they nest: a cell of the level above is the number without two bits.
DEPTH = 9
#: Levels that a store may have.
LEVELS = range(2, DEPTH + 1)
_BUCKETS = 2  # the level of the parts that are sorted at once
_FULL = 50_000  # rows of the fullest cell, above which more levels are taken

Columns = Mapping[str, NDArray[Any]]


class Piece(NamedTuple):
    """Some rows."""

    cells: NDArray[np.int64]
    """of level :data:`DEPTH`, (n,)"""
    columns: Columns
    """(n,) each; ``ra`` and ``dec`` among them"""


def is_store(folder: Path) -> bool:
    """Whether a folder has a page of contents."""
    return (folder / CONTENTS).is_file()


def read_contents(folder: Path) -> dict[str, Any]:
    """What a store holds.

    Raises
    ------
    FileError
        If it is no store, or one of a newer kind.
    """
    path = folder / CONTENTS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kind, cells, columns, level = found["format"], found["cells"], found["columns"], found["level"]
        made = {int(cell): int(rows) for cell, rows in cells.items()}
        whole = {"name": str, "digest": str, "systems": dict, "sources": list, "rows": int}
        wrong = [name for name, kind_of in whole.items() if not isinstance(found[name], kind_of)]
    except FileNotFoundError as error:
        raise FileError(
            f"{folder} has no {CONTENTS}: it is no store of reference stars; larun refcat build makes one"
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise FileError(f"{path} is damaged ({error}): build the store again") from error
    if kind != FORMAT:
        raise FileError(f"{folder} is of format {kind}, this larun reads {FORMAT}: update larun or build it again")
    if wrong or level not in LEVELS or not {"ra", "dec"} <= set(columns) or not all(map(_is_kind, columns.values())):
        raise FileError(f"{path} is damaged ({', '.join(wrong) or 'level or columns'}): build the store again")
    return {**found, "cells": made}


def _is_kind(text: Any) -> bool:
    """Whether it is a type of numbers, truth values or text."""
    return isinstance(text, str) and re.fullmatch(r"[<>|=]?[biufU]\d{1,2}", text) is not None


def read_cells(folder: Path, contents: Mapping[str, Any], cells: Iterable[int]) -> dict[str, NDArray[Any]]:
    """The rows of some cells, in the order given; cells that have none do not count.

    Raises
    ------
    FileError
        If a file is missing or damaged.
    """
    arrow = _arrow()
    tables = []
    for cell in cells:
        if int(cell) not in contents["cells"]:
            continue
        path = folder / _place(contents["level"], int(cell))
        try:
            table = arrow.parquet.read_table(
                path, columns=list(contents["columns"]), use_threads=False, partitioning=None
            )
        except Exception as error:  # arrow raises many kinds
            raise FileError(
                f"{path} cannot be read ({' '.join(str(error).split())[:200]}): build the store again"
            ) from error
        if table.num_rows != contents["cells"][int(cell)] or table.column_names != list(contents["columns"]):
            raise FileError(f"{path} has not the rows and columns that {CONTENTS} says: build the store again")
        tables.append(table)
    if not tables:
        kinds = contents["columns"]
        return {name: np.zeros(0, kind) for name, kind in kinds.items()}
    return _arrays(arrow.concat_tables(tables))


def _arrays(table: Any) -> dict[str, NDArray[Any]]:
    made = {}
    for name in table.column_names:
        column = table.column(name)
        text = str(column.type) in ("string", "large_string")
        made[name] = np.array(column.to_pylist(), dtype=str) if text else np.array(column.to_numpy())
    return made


def write_store(
    folder: Path, pieces: Iterable[Piece], about: Mapping[str, Any], *, level: int | None, overwrite: bool
) -> None:
    """Write a store; it appears whole or not at all.

    Parameters
    ----------
    folder : path
        Where to.
    pieces : iterable of Piece
        All with the same columns; one is held at a time, then a 192th of the sky.
    about : mapping
        ``name`` and ``systems`` for the page of contents; ``sources`` may be filled while pieces are made.
    level : int or None
        Of the cells; None for one at which the fullest cell has at most 50 000 rows.
    overwrite : bool
        Replace a store; anything else is never replaced.

    Raises
    ------
    FileError
        If the folder may not be written, or there are no rows.
    OptionError
        If the level is none, or pieces have different columns.
    MissingExtra
        If pyarrow is not installed.
    """
    _arrow()
    if level is not None and (isinstance(level, bool) or level not in LEVELS):
        raise OptionError(f"level={level!r}: must be a whole number from {LEVELS[0]} to {LEVELS[-1]}")
    _check_target(folder, overwrite)
    temporary = folder.with_name(f".{folder.name[:64]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        (temporary / "buckets").mkdir(parents=True)
        counts, kinds = _spill(temporary / "buckets", pieces)
        if not counts.any():
            raise FileError(f"{folder} is not made: there is not one star in {', '.join(about['sources']) or 'it'}")
        chosen = _level(counts) if level is None else int(level)
        cells, digest = _write_cells(temporary, kinds, chosen)
        contents = {
            "format": FORMAT,
            **about,
            "level": chosen,
            "rows": int(counts.sum()),
            "columns": kinds,
        }  # made after the pieces, which fill about
        contents |= {"digest": digest, "cells": {str(cell): rows for cell, rows in sorted(cells.items())}}
        text = json.dumps(contents, indent=1, ensure_ascii=True, allow_nan=False)
        (temporary / CONTENTS).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(temporary / "buckets")
        _check_target(folder, overwrite)  # another process may have been faster
        _take_place(temporary, folder)
    except OSError as error:
        raise FileError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_target(folder: Path, overwrite: bool) -> None:
    if not folder.parent.is_dir():
        raise FileError(f"{folder} cannot be written: the folder {folder.parent} does not exist; make it first")
    if not folder.exists() and not folder.is_symlink():
        return
    if not is_store(folder):
        raise FileError(
            f"{folder} exists and is no store of reference stars: it is never replaced; choose another name"
        )
    if not overwrite:
        raise FileError(f"{folder} exists: choose another name, or say overwrite")


def _take_place(temporary: Path, folder: Path) -> None:
    old = temporary.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _spill(folder: Path, pieces: Iterable[Piece]) -> tuple[NDArray[np.int64], dict[str, str]]:
    """Rows to files of the coarse cells, in the order they come; how many each fine cell has, and the columns."""
    arrow = _arrow()
    counts = np.zeros(12 << (2 * DEPTH), np.int64)
    kinds: dict[str, str] = {}
    with contextlib.ExitStack() as open_files:
        writers: dict[int, Any] = {}
        for piece in pieces:
            kinds = _same_kinds(kinds, piece.columns)
            np.add.at(counts, piece.cells, 1)
            bucket = piece.cells >> (2 * (DEPTH - _BUCKETS))
            table = _table({"cell": piece.cells, **piece.columns})
            for number in np.unique(bucket):
                rows = table.take(arrow.array(np.flatnonzero(bucket == number)))
                if number not in writers:
                    file = open_files.enter_context((folder / f"{number}.arrow").open("wb"))
                    writers[number] = open_files.enter_context(arrow.ipc.new_stream(file, table.schema))
                writers[number].write_table(rows)
    return counts, kinds


def _same_kinds(kinds: dict[str, str], columns: Columns) -> dict[str, str]:
    here = {name: "U1" if values.dtype.kind == "U" else values.dtype.str for name, values in columns.items()}
    if kinds and here != kinds:
        differ = sorted({*here, *kinds} - {name for name in here if here[name] == kinds.get(name)})
        raise OptionError(
            f"the sources do not have the same columns: {', '.join(differ)} differ; name the columns, or build a store "
            "of each"
        )
    return here


def _level(counts: NDArray[np.int64]) -> int:
    for level in LEVELS:
        if counts.reshape(12 << (2 * level), -1).sum(axis=1).max() <= _FULL:
            return level
    return LEVELS[-1]


def _write_cells(folder: Path, kinds: Mapping[str, str], level: int) -> tuple[dict[int, int], str]:
    """The files of all cells; their rows and a digest of what they hold."""
    found: dict[int, int] = {}
    head = json.dumps([level, list(kinds.items())])
    digest = hashlib.sha256(head.encode())
    buckets = sorted((int(path.stem), path) for path in (folder / "buckets").glob("*.arrow"))
    for _, path in buckets:
        columns = _arrays(_read_stream(path))
        cells = columns.pop("cell") >> (2 * (DEPTH - level))
        for cell, rows in _groups(cells, columns):
            mine = {name: values[rows] for name, values in columns.items()}
            target = folder / _place(level, cell)
            target.parent.mkdir(parents=True, exist_ok=True)
            table = _table(mine)
            _arrow().parquet.write_table(table, target, compression="snappy", use_dictionary=False, version="2.6")
            found[cell] = len(rows)
            digest.update(f"{cell} {len(rows)}\n".encode())
            for values in mine.values():
                digest.update(_bytes(values))
        path.unlink()
    return found, digest.hexdigest()


def _read_stream(path: Path) -> Any:
    arrow = _arrow()
    with path.open("rb") as file, arrow.ipc.open_stream(file) as stream:
        return stream.read_all()


def _groups(cells: NDArray[np.int64], columns: Columns) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Rows of each cell, by right ascension, then all other columns: an order that pieces do not decide."""
    keys = [columns["dec"], columns["ra"], cells]
    order = np.lexsort(keys)
    same = np.ones(len(order) - 1, bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    tied = np.zeros(len(order), bool)
    tied[1:] |= same
    tied[:-1] |= same
    if tied.any():
        rows = order[tied]
        others = [values[rows] for name, values in columns.items() if name not in ("ra", "dec")]
        order[tied] = rows[np.lexsort([*others[::-1], *(key[rows] for key in keys)])]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(cells[order]) != 0]))
    for rows in np.split(order, starts[1:]):
        yield int(cells[rows[0]]), rows


def _bytes(values: NDArray[Any]) -> bytes:
    if values.dtype.kind == "U":
        return "\n".join(values.tolist()).encode()
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _table(columns: Columns) -> Any:
    arrow = _arrow()
    arrays = {
        name: arrow.array(values.tolist(), arrow.string())
        if values.dtype.kind == "U"
        else arrow.array(np.ascontiguousarray(values))
        for name, values in columns.items()
    }
    return arrow.table(arrays)


def _place(level: int, cell: int) -> str:
    return f"Norder={level}/Dir={cell // 10000 * 10000}/Npix={cell}.parquet"


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "tables") from error
    return pyarrow
