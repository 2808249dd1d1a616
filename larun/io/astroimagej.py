"""Measurement tables of AstroImageJ: text, tab between the columns, one row an image.

The first column has no name and counts the rows. Names with ``_T1``, ``_C2`` … belong to one star (Collins et al. 2017,
AJ 153, 77). Every number is written with all its digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from larun.errors import FileError, OptionError
from larun.io.atomic import atomic_path
from larun.io.streams import opener_of

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["TEXT_COLUMNS", "read_columns", "write_columns"]

#: Columns of words; all others hold numbers.
TEXT_COLUMNS = ("Label",)
_UNITS = (
    (re.compile(r"[XY]\((?:IJ|FITS)\)_|(?:X-|Y-)?Width_|FWHM_|FWHM_Mean|Source_Radius|Sky_Rad"), "pix"),
    (re.compile(r"RA_[TC]\d|RAOBJ"), "hourangle"),
    (re.compile(r"DEC_[TC]\d|DECOBJ|ALT_OBJ|AZ_OBJ|Angle_"), "deg"),
    (re.compile(r"JD_|J\.D\.|HJD_|BJD_"), "d"),
    (re.compile(r"EXPTIME|EXPOSURE"), "s"),
    (re.compile(r"Source_AMag"), "mag"),
)


def write_columns(path: str | Path, columns: Mapping[str, Sequence[Any]], *, overwrite: bool = False) -> None:
    """Write a measurement table.

    Parameters
    ----------
    path : path
        Usually ends in ``.tbl``.
    columns : mapping
        Name and values, one an image; NaN where there is none. One name must contain larun, which marks the file as
        ours.
    overwrite : bool
        Replace a table of larun; any other file is never replaced.

    Raises
    ------
    FileError
        If the path may not be written.
    OptionError
        If the columns differ in length.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise OptionError(f"columns of different length: {sorted(lengths)}")
    lines = ["\t".join([" ", *columns])]
    rows = zip(*columns.values(), strict=True)
    lines += ["\t".join([str(number), *map(_cell, row)]) for number, row in enumerate(rows, 1)]
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else " " for letter in value)
    if isinstance(value, int | np.integer):
        return str(int(value))
    number = float(value)
    return "NaN" if np.isnan(number) else repr(number)


def read_columns(path: str | Path) -> QTable:
    """Read a measurement table of AstroImageJ, as it saves them (``.tbl``, ``.xls`` and ``.txt`` with tabs, ``.csv``).

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    QTable
        Under AstroImageJ's own names: pixels in ``X(FITS)_T1`` count from 1. Columns whose unit the name tells have it;
        right ascensions are in hours. A cell without a number is NaN.

    Raises
    ------
    FileError
        If it is missing, is no such table, or a row has too many cells.
    """
    if opener_of(path) is not None:
        raise FileError(f"{path} is compressed: unpack it first")
    text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    separator = "\t" if lines and "\t" in lines[0] else ","
    names = [name.strip() for name in lines[0].split(separator)] if lines else []
    if "Label" not in names and not any(name.endswith("_T1") for name in names):
        raise FileError(
            f"{path} is no measurement table of AstroImageJ: its first line names no Label and nothing …_T1"
        )
    while names and not names[-1]:
        names.pop()
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise FileError(f"{path} has several columns named {', '.join(sorted(twice))}: rename them first")
    return _table(dict(zip(names, zip(*_rows(path, lines, separator, len(names)), strict=True), strict=False)), names)


def _rows(path: str | Path, lines: list[str], separator: str, width: int) -> Iterator[list[str]]:
    for number, line in enumerate(lines[1:], 2):
        cells = [cell.strip() for cell in line.split(separator)]
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if len(cells) > width:
            raise FileError(f"{path}, line {number}: has {len(cells)} cells for {width} columns")
        yield cells + [""] * (width - len(cells))


def _table(cells: Mapping[str, tuple[str, ...]], names: Sequence[str]) -> QTable:
    from astropy.table import Column, QTable
    from astropy.units import Quantity

    made = QTable()
    for name in filter(None, names):  # the column that counts rows has no name
        words = cells.get(name, ())
        numbers = None if name in TEXT_COLUMNS else _numbers(words)
        if numbers is None:
            made[name] = Column(np.array(words, dtype=str))
            continue
        unit = next((unit for pattern, unit in _UNITS if pattern.match(name)), "")
        made[name] = Quantity(numbers, unit) if unit else Column(numbers)
    return made


def _numbers(words: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The cells as numbers; None where one of them is none."""
    try:
        return np.array([float(word) if word else np.nan for word in words], dtype=float)
    except ValueError:
        return None
