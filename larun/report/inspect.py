"""What one file holds, as plain values: the same for the terminal and for JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from larun import flags as fl
from larun.algorithms.robust import mad_sigma
from larun.errors import FileError
from larun.model.frame import Frame
from larun.model.image import Image
from larun.model.lightcurve import read_tabular
from larun.model.masters import Master
from larun.model.recipe import compare, recipe_note
from larun.model.registry import name_of
from larun.model.tabular import Tabular

if TYPE_CHECKING:
    from astropy.table import Table

    from larun.detector import Detector
    from larun.model.time.timing import ExposureTime
    from larun.provenance import Provenance

__all__ = ["describe", "describe_catalog", "describe_image", "describe_table", "is_catalog", "open_file"]

_ROWS = 50


def is_catalog(path: Path) -> bool:
    """Whether a file is a catalogue: a table by its suffix, or a product of larun without an image."""
    from larun.io.product import is_product
    from larun.io.raw import list_images
    from larun.io.tables import is_table_suffix

    if is_table_suffix(path):
        return True
    return is_product(path) and not any(image.name == "SCI" for image in list_images(path))


def open_file(path: Path, ext: int | str | None = None, channel: str | None = None) -> Image | Tabular:
    """A raw frame, a product or a catalogue, as the class it is.

    Raises
    ------
    FileError
        If it is none of these.
    """
    from larun.io.tables import is_table_suffix, read_plain

    if path.is_dir():
        raise FileError(f"{path} is a folder: give a file, or see larun ls {path}")
    if is_catalog(path):
        if is_table_suffix(path) and read_plain(path) is not None:
            raise FileError(f"{path} is a table without a record of larun: larun info {path} shows it")
        return read_tabular(path)
    _refuse_text(path)
    return Frame.read(path, ext=ext, channel=channel) if not _is_product(path) else Image.read(path)


def _refuse_text(path: Path) -> None:
    """A text is no FITS file; one of a header can be checked."""
    from larun.io.headertext import is_header_text, read_header_text

    if not is_header_text(path):
        return
    try:
        read_header_text(path)
    except FileError as error:
        raise FileError(f"{path}: is not FITS: give a raw file, a product or a catalogue") from error
    raise FileError(f"{path}: is the text of a header, without pixels: see larun instrument check {path}")


def _is_product(path: Path) -> bool:
    from larun.io.product import is_product

    return is_product(path)


def describe(path: Path, ext: int | str | None = None, channel: str | None = None) -> dict[str, Any]:
    """All that is worth knowing about a file.

    Returns
    -------
    dict
        ``path``, ``class``, ``hdus``, ``provenance``, ``recipe`` (None without one), and what :func:`describe_image`
        or :func:`describe_catalog` add.
        A table without a record, as ``summary.ecsv`` is, has no ``provenance`` and ``class`` "table".
    """
    from larun.io.tables import is_table_suffix, read_plain

    if path.is_file() and is_table_suffix(path) and (plain := read_plain(path)) is not None:
        return {"path": str(path), "class": "table", **describe_table(plain), "hdus": []}
    found = open_file(path, ext, channel)
    about = describe_catalog(found) if isinstance(found, Tabular) else describe_image(found)
    return {
        "path": str(path),
        "class": name_of(type(found)),
        **about,
        "provenance": _record(found.provenance),
        "recipe": _recipe(path),
        "hdus": _hdus(path),
    }


def describe_image(image: Image) -> dict[str, Any]:
    """Size, unit, noise, flags and detector of an image; of a frame also what its header says."""
    made: dict[str, Any] = {"size": [image.shape[1], image.shape[0]], "unit": image.unit or "dimensionless"}
    if isinstance(image, Frame):
        header = image.header
        kind, evidence = type(image).classify(header)
        made |= {"kind": kind, "evidence": evidence}
        names = ("object", "filter", "exposure", "instrument", "date", "temperature")
        made |= {name: image.quantity_of(header, name) for name in names}
        made["time"] = _time(image.time)
    if isinstance(image, Master):
        made |= {"kind": image.kind, "frames": image.count, "criteria": dict(image.criteria)}
    made["wcs"] = image.wcs is not None
    made["pixels"] = _pixels(image)
    made["flags"] = flag_counts(image)
    made["detector"] = _detector(image.detector)
    return made


def _time(time: ExposureTime) -> dict[str, Any]:
    """Middle, Julian dates, air mass and pointing; where they come from, and what is doubtful."""
    site = None if time.site is None else [time.site.longitude, time.site.latitude, time.site.height]
    return {**time.to_dict(), "site": site, "sources": dict(time.sources), "doubts": list(time.doubts)}


def _pixels(image: Image) -> dict[str, float | None]:
    """Median, robust scatter and median error of the usable pixels."""
    good = ~image.unusable & np.isfinite(image.data)
    if not good.any():
        return {"median": None, "scatter": None, "uncertainty": None}
    values = image.data[good].astype(np.float64)
    middle = float(np.median(values))
    noise = image.uncertainty
    return {
        "median": middle,
        "scatter": mad_sigma(values, middle),
        "uncertainty": None if noise is None else float(np.median(noise[good])),
    }


def flag_counts(image: Image) -> dict[str, int]:
    """How many pixels carry each flag, by name, in order of the bits."""
    return fl.counts_of(image.flags, image.instrument_flags)


def _detector(detector: Detector) -> dict[str, Any]:
    """Each amplifier, and where its values came from; levels are in the unit of the image."""
    amplifiers = detector.to_dict()["amplifiers"]
    return {"amplifiers": amplifiers, "sources": dict(detector.sources)}


def describe_catalog(catalog: Tabular) -> dict[str, Any]:
    """Number of rows, columns with units and descriptions, and what holds for all of them."""
    return {"sources": len(catalog), "columns": _columns(catalog.table), "meta": catalog.meta}


def describe_table(table: Table) -> dict[str, Any]:
    """Number of rows, columns, metadata, and the first rows."""
    shown = table[:_ROWS]
    cells = [{name: _cell(row[name]) for name in table.colnames} for row in shown]
    meta = {str(key): _cell(value) for key, value in table.meta.items()}
    return {"rows": len(table), "columns": _columns(table), "meta": meta, "first_rows": cells}


def _cell(value: Any) -> Any:
    """A value of a table as JSON has it."""
    value = value.item() if isinstance(value, np.generic) else getattr(value, "value", value)
    if value is np.ma.masked:
        return None
    return value if isinstance(value, bool | int | float | str | dict | list) or value is None else str(value)


def _columns(table: Table) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "unit": str(getattr(table[name], "unit", None) or ""),
            "dtype": str(np.asarray(table[name]).dtype),
            "description": table[name].info.description or "",
        }
        for name in table.colnames
    ]


def _record(provenance: Provenance) -> dict[str, Any]:
    steps = [node.step.operation for node in provenance.line() if node.step is not None]
    raws = sorted(root.name or "arrays in memory" for root in provenance.roots())
    return {"id": provenance.id, "steps": steps[::-1], "raw_files": raws}


def _recipe(path: Path) -> dict[str, Any] | None:
    """The recipe a product was made by: its digest, and what differs from the defaults."""
    note = recipe_note(path)
    if note is None:
        return None
    return {**note, "changed": {item.option: item.one for item in compare(path)}}


def _hdus(path: Path) -> list[dict[str, Any]]:
    """The HDUs of a FITS file; none of any other table."""
    from larun.io.tables import is_table_suffix

    if is_table_suffix(path):
        return []
    from astropy.io import fits

    from larun.io.cards import quiet
    from larun.io.streams import open_plain

    with open_plain(path) as file, quiet(), fits.open(file, memmap=False) as hdus:
        names = [hdu.name for hdu in hdus]
        return [
            {
                "index": index,
                "name": f"{hdu.name},{hdu.ver}" if names.count(hdu.name) > 1 else hdu.name,
                "type": type(hdu).__name__,
                "shape": list(getattr(hdu, "shape", ()) or ()) if hdu.is_image else [len(hdu.data)],
                "bitpix": hdu.header.get("BITPIX") if hdu.is_image else None,
                "unit": str(hdu.header.get("BUNIT", "")),
            }
            for index, hdu in enumerate(hdus)
        ]
