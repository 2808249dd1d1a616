"""``ReferenceStore``: a large reference catalogue on disk, of which only the parts that are needed are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import attrs
import numpy as np

from larun.algorithms import sphere
from larun.errors import FileError, OptionError
from larun.io import partitions
from larun.io.partitions import Piece
from larun.model.reference.reading import Mapped, mapped
from larun.model.reference.stars import ReferenceCatalog, ReferenceStars, quantity

__all__ = ["ReferenceStore"]

_ROWS = 200_000  # of a piece


@attrs.frozen(eq=False, repr=False)
class ReferenceStore(ReferenceCatalog):
    """Stars of known position and magnitude in Parquet files, one for each HEALPix cell of the sky.

    :meth:`build` (``larun refcat build``) makes one of catalogues larger than the memory; :meth:`cone` reads the cells
    that a circle touches. Needs the extra ``tables``.

    Parameters
    ----------
    folder : Path
        Where it is.
    contents : dict
        What its page of contents says.
    """

    folder: Path
    _contents: dict[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The store in a folder.

        Raises
        ------
        FileError
            If there is none, or it is damaged.
        """
        path = Path(folder)
        return cls(path, partitions.read_contents(path))

    @classmethod
    def build(
        cls,
        sources: Iterable[Any],
        folder: str | Path,
        *,
        level: int | None = None,
        overwrite: bool = False,
        **mapping: Any,
    ) -> Self:
        """Make a store of files or tables.

        Files are read in pieces. The store is the same, bit for bit, whatever the order of the sources and their rows.

        Parameters
        ----------
        sources : iterable of paths or tables
            All with the same columns.
        folder : path
            Where to; it appears whole or not at all.
        level : int, optional
            Of the cells, 2 (192 cells of 15 degrees) to 9; by default such that no cell has more than 50 000 stars.
        overwrite : bool
            Replace a store that is there; anything else is never replaced.
        **mapping
            ``columns``, ``name``, ``systems`` and ``epoch``, as for :meth:`larun.ReferenceCatalog.open`.

        Raises
        ------
        FileError
            If a source cannot be read, holds no star, or the folder may not be written.
        OptionError
            If a column is missing, sources differ in their columns, or the level is none.
        MissingExtra
            If pyarrow is not installed.
        """
        unknown = set(mapping) - {"columns", "name", "systems", "epoch"}
        if unknown:
            raise OptionError(f"no option {', '.join(sorted(unknown))}: there are columns, name, systems and epoch")
        target = Path(folder)
        given = {key: value for key, value in mapping.items() if value is not None}
        about: dict[str, Any] = {"name": given.get("name") or target.name, "systems": {}, "sources": []}
        listed = [sources] if isinstance(sources, str | Path) else list(sources)
        partitions.write_store(target, _pieces(listed, given, about), about, level=level, overwrite=overwrite)
        return cls.read(target)

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self._contents["name"])

    @property
    def digest(self) -> str:
        """SHA-256 of what its cells hold."""
        return str(self._contents["digest"])

    @property
    def level(self) -> int:
        """Of its cells: 12 · 4^level of them cover the sky."""
        return int(self._contents["level"])

    @property
    def systems(self) -> dict[str, str | None]:
        """``"AB"``, ``"Vega"`` or None for each band."""
        return dict(self._contents["systems"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return tuple(self._contents["systems"])

    def __len__(self) -> int:
        return int(self._contents["rows"])

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name}: {len(self)} stars in {len(self._contents['cells'])} cells of level "
            f"{self.level}, bands {', '.join(self.bands) or 'none'}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        cells = self._contents["cells"]
        return {
            "name": self.name,
            "rows": len(self),
            "level": self.level,
            "cells": len(cells),
            "fullest_cell": max(cells.values()),
            "sky_share": len(cells) / (12 * 4**self.level),
            "columns": list(self._contents["columns"]),
            "systems": self.systems,
            "sources": list(self._contents["sources"]),
            "digest": self.digest,
        }

    def cone(self, ra: float, dec: float, radius: float) -> ReferenceStars:
        """The stars within a circle.

        Parameters
        ----------
        ra, dec, radius : float
            Degrees.

        Raises
        ------
        FileError
            If a part that is needed is missing or damaged.
        """
        from astropy.table import QTable

        wanted = sphere.cells_in_circle(self.level, ra, dec, radius)
        columns = partitions.read_cells(self.folder, self._contents, wanted.tolist())
        near = np.flatnonzero(np.abs(columns["dec"] - dec) <= radius * (1 + 1e-12) + 1e-12)
        inside = near[sphere.separation(columns["ra"][near], columns["dec"][near], ra, dec) <= radius]
        table = QTable({name: quantity(name, values[inside]) for name, values in columns.items()})
        table.meta = {"name": self.name, "digest": self.digest, "systems": self.systems}
        return ReferenceStars(table)


def _pieces(sources: list[Any], given: dict[str, Any], about: dict[str, Any]) -> Iterator[Piece]:
    names = []
    for source in sources:
        where = Path(source).name if isinstance(source, str | Path) else "table"
        for part in _parts(source, given):
            _same_systems(about, part.systems, where)
            cells = sphere.cells(partitions.DEPTH, part.columns["ra"], part.columns["dec"])
            yield Piece(cells, part.columns)
        names.append(where)
        about["sources"] = sorted(names)


def _parts(source: Any, given: dict[str, Any]) -> Iterator[Mapped]:
    if isinstance(source, str | Path):
        from larun.io.anytable import pieces

        path = Path(source)
        if path.is_dir():
            raise FileError(f"{path} is a folder: give its files")
        for table in pieces(path, _ROWS):
            yield mapped(table, given, str(path))
    elif isinstance(source, ReferenceStars):
        yield Mapped(source.to_record()["columns"], source.systems)
    else:
        yield mapped(source, given, "table")


def _same_systems(about: dict[str, Any], systems: dict[str, str | None], where: str) -> None:
    known = about["systems"]
    if known and known != systems:
        raise OptionError(
            f"{where}: bands and systems are {systems}, those of the sources before it {known}: give columns and "
            "systems"
        )
    about["systems"] = systems
