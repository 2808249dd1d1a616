"""Stamps for other programs: arrays for numpy, and C for microcontrollers."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["replaceable", "write_c", "write_npz"]

_FIRST = "/* int8 stamps, written by larun */"
_RECORD = "larun_record.npy"


def replaceable(path: Path) -> bool:
    """Whether larun wrote the file: whoever names it again may want another one there."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _RECORD in archive.namelist()
    with path.open("rb") as file:
        start = file.read(len(_FIRST))
    return not start or start == _FIRST.encode("ascii")


def write_npz(
    path: Path, pixels: NDArray[np.int8], table: QTable, meaning: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Write a compressed ``.npz``: ``pixels``, ``scale``, ``zero_point``, ``planes``, and each column as ``column_…``.

    Parameters
    ----------
    path : Path
        Where nothing is yet.
    pixels : array (n, size, size, planes), int8
        The stamps.
    table : QTable
        Of the sources.
    meaning : mapping
        ``scale``, ``zero_point`` and ``planes``.
    record : mapping
        Written as JSON under ``larun_record``.
    """
    columns = {f"column_{name}": np.asarray(getattr(table[name], "value", table[name])) for name in table.colnames}
    columns = {name: values for name, values in columns.items() if values.dtype.kind in "biufU"}
    text = np.frombuffer(json.dumps(record, sort_keys=True).encode("utf-8"), np.uint8)
    with path.open("xb") as file:
        np.savez_compressed(
            file,
            pixels=pixels,
            scale=np.float64(meaning["scale"]),
            zero_point=np.int64(meaning["zero_point"]),
            planes=np.array(meaning["planes"]),
            larun_record=text,
            **columns,  # type: ignore[arg-type]  # names of arrays, not options
        )


def write_c(path: Path, name: str, pixels: NDArray[np.int8], meaning: Mapping[str, Any]) -> None:
    """Write a C header with the stamps as a constant array and what they mean as macros.

    Parameters
    ----------
    path : Path
        Where nothing is yet.
    name : str
        From which names in C are made: what they cannot hold becomes an underscore.
    pixels : array (n, size, size, planes), int8
        The stamps.
    meaning : mapping
        ``scale``, ``zero_point`` and ``planes``.
    """
    word = re.sub(r"[^0-9a-z_]", "_", name.lower())
    word = word if word[:1].isalpha() else f"stamps_{word}"
    big = word.upper()
    count, size, _, planes = pixels.shape
    lines = [
        _FIRST,
        f"/* real = scale * (q - zero_point); planes: {', '.join(meaning['planes'])}; rows from below, planes last */",
        f"#ifndef {big}_H",
        f"#define {big}_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define {big}_COUNT {count}",
        f"#define {big}_SIZE {size}",
        f"#define {big}_PLANES {planes}",
        f"#define {big}_SCALE {meaning['scale']:.9g}f",
        f"#define {big}_ZERO_POINT {meaning['zero_point']}",
        "",
        f"static const int8_t {word}[{count}][{size}][{size}][{planes}] = {{",
        *(f"  {{{_rows(stamp)}}}," for stamp in pixels),
        "};",
        "",
        "#endif",
        "",
    ]
    with path.open("x", encoding="ascii") as file:
        file.write("\n".join(lines))


def _rows(stamp: NDArray[np.int8]) -> str:
    rows = ("{" + ",".join("{" + ",".join(map(str, pixel)) + "}" for pixel in row) + "}" for row in stamp.tolist())
    return ",\n   ".join(rows)
