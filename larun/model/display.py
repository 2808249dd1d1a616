"""What notebooks show of an object: a thumbnail, a table of what it is, the first rows.

The classes take these functions as their ``_repr_html_``. Nothing here needs matplotlib or computes much: of a large
image every few rows and columns are looked at. Every text that comes from a header or a file name is escaped.
"""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.stretch import stretch_of, thumbnail
from larun.errors import LarunError
from larun.io import png
from larun.markup import Markup, cell, joined, pairs, table
from larun.model.criteria import describe

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.image import Image
    from larun.model.masters import Masters
    from larun.model.night import Night

__all__ = ["catalog_html", "image_html", "masters_html", "night_html", "picture_html"]

_SIDE, _SMALL = 240, 64  # pixels of a thumbnail's longer side: alone, and in a table
_PICTURES, _ROWS, _SOURCES = 12, 200, 5  # the most that is shown
_GREYS = 48  # noise does not compress: more levels cost bytes and show nothing more
_QUANTITIES = ("object", "filter", "exposure", "date", "instrument", "temperature")
#: Blocks of a thumbnail without a usable pixel have the first colour: a blue that no grey level is taken for.
_PALETTE = np.vstack([[[0, 114, 178]], np.repeat(np.linspace(0, 255, _GREYS).round(), 3).reshape(-1, 3)]).astype(
    np.uint8
)


def image_html(image: Image) -> str:
    """A thumbnail (asinh stretch, y upwards) beside a table of what the image is."""
    side = Markup("vertical-align:top;padding:0 12px 0 0")
    return (
        f'<table><tr><td style="{side}">{picture_html(image)}</td>'
        f'<td style="{side}">{pairs(_about(image))}</td></tr></table>'
    )


def picture_html(image: Image, size: int = _SIDE) -> Markup:
    """A thumbnail as an ``img`` element, the PNG inside it; blue where no pixel is usable."""
    levels = _levels(image, size)
    data = base64.b64encode(png.encode(levels, _PALETTE)).decode("ascii")
    ny, nx = levels.shape
    scale = size / max(nx, ny)
    text = f"{type(image).__name__}, {image.shape[1]} × {image.shape[0]} pixels"
    return Markup(
        f'<img alt="{cell(text)}" width="{max(1, round(nx * scale))}" height="{max(1, round(ny * scale))}" '
        f'style="image-rendering:pixelated" src="data:image/png;base64,{data}">'
    )


def _levels(image: Image, size: int) -> NDArray[np.uint8]:
    """Palette indices of a thumbnail, the upper row first."""
    small = thumbnail(image.data, image.flags, size=size)
    grey = stretch_of(small).scaled(small)
    good = np.isfinite(grey)
    levels = np.where(good, 1 + np.rint(np.where(good, grey, 0) * (_GREYS - 1)), 0)
    return np.asarray(levels[::-1].astype(np.uint8))


def _about(image: Image) -> Iterator[tuple[str, Any]]:
    """What an image is, as names and values."""
    ny, nx = image.shape
    yield "class", Markup(f"<b>{cell(type(image).__name__)}</b>")
    yield "size", f"{nx} × {ny}"
    yield "unit", image.unit or "dimensionless"
    yield from _said(image)
    if image.variance is None:
        yield "noise", "none yet"
    else:
        yield "noise", f"variance, and what {len(image.shared)} masters share" if image.shared else "variance"
    yield "celestial WCS", "yes" if image.wcs is not None else "no"
    counts = fl.counts_of(image.flags, image.instrument_flags)
    yield "flagged pixels", ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
    yield "steps", _steps(image)


def _said(image: Image) -> Iterator[tuple[str, Any]]:
    """What the header (of a frame) or the criteria (of a master) say; a broken header says less."""
    criteria = getattr(image, "criteria", {}) if hasattr(image, "count") else {}
    if criteria:
        yield "frames", getattr(image, "count", None)
    header = image.header
    for name in _QUANTITIES:
        value = criteria.get(name)
        if hasattr(image, "quantity_of"):
            with contextlib.suppress(LarunError, ValueError):
                value = image.quantity_of(header, name)
        if isinstance(value, int | float):
            value = f"{value:g} s" if name == "exposure" else f"{value:g}"
        yield name, value


def _steps(thing: Image | SourceCatalog) -> str:
    names = [node.step.operation for node in thing.provenance.line() if node.step is not None][::-1]
    return " → ".join(names) or "none"


def masters_html(masters: Masters) -> str:
    """A table of the masters, the first of them with their pictures."""
    rows = (
        (
            picture_html(item, _SMALL) if index < _PICTURES else None,
            type(item).__name__,
            f"{item.shape[1]} × {item.shape[0]}",
            item.unit or "dimensionless",
            item.count,
            describe(item.criteria),
            ", ".join(f"{name} {count}" for name, count in fl.counts_of(item.flags, item.instrument_flags).items()),
        )
        for index, item in enumerate(masters.items[:_ROWS])
    )
    head = ("picture", "class", "size", "unit", "frames", "criteria", "flagged pixels")
    return _listed(f"{len(masters)} masters", table(head, rows), len(masters) - _ROWS)


def night_html(night: Night) -> str:
    """A table of the files of a night; where they cannot be listed, why."""
    title = f"Night {night.folder}"
    try:
        files = night.files
    except LarunError as error:
        return _listed(title, cell(error), 0)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(item.kind for item in files).items()))
    rows = (
        (
            item.path.relative_to(night.folder),
            item.kind,
            item.filter,
            None if item.exposure is None else f"{item.exposure:g}",
            item.object,
            item.date,
            item.evidence,
        )
        for item in files[:_ROWS]
    )
    head = ("file", "kind", "filter", "exposure (s)", "object", "date", "evidence")
    return _listed(f"{title}: {len(files)} files ({kinds})", table(head, rows), len(files) - _ROWS)


def catalog_html(catalog: SourceCatalog) -> str:
    """What holds for all sources, and the first rows with their units."""
    lines = catalog._table[:_SOURCES]
    units = [getattr(lines[name], "unit", None) for name in lines.colnames]
    head = [f"{name} ({unit})" if unit else name for name, unit in zip(lines.colnames, units, strict=True)]
    columns = [(name, np.asarray(lines[name])) for name in lines.colnames]
    rows = ([_value(name, values[index]) for name, values in columns] for index in range(len(lines)))
    known = [(key.replace("_", " "), _short(value)) for key, value in catalog.meta.items() if value is not None]
    title = f"{type(catalog).__name__}: {len(catalog)} sources, {len(columns)} columns"
    body = joined([pairs([*known, ("steps", _steps(catalog))]), table(head, rows)])
    return _listed(title, body, len(catalog) - _SOURCES)


def _value(name: str, value: Any) -> str:
    if "flags" in name and isinstance(value, np.integer):
        return ", ".join(fl.names_of(int(value))) or "–"
    return f"{value:.7g}" if isinstance(value, float | np.floating) else str(value)


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(title: str, body: Markup, left_out: int) -> str:
    more = f"<p>… and {left_out} more</p>" if left_out > 0 else ""
    return f"<div><p><b>{cell(title)}</b></p>{body}{more}</div>"
