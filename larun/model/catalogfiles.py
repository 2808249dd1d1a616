"""Catalogues and files: what a :class:`larun.SourceCatalog` writes, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from larun.model.tabular import Tabular
from larun.provenance import Provenance

if TYPE_CHECKING:
    from larun.model.checks.verdict import Verdict
    from larun.model.recipe import Recipe

__all__ = ["CatalogFiles"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CatalogFiles(Tabular):
    """A catalogue that can be written and read."""

    def write(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        recipe: Recipe | None = None,
        verdicts: Sequence[Verdict] = (),
    ) -> Path:
        """Write a file that :meth:`read` turns back into an identical catalogue; the suffix chooses the format.

        ``.ecsv`` is text, ``.fits`` a binary table, ``.parquet`` for pandas and databases, ``.vot`` or ``.xml`` a
        VOTable for TOPCAT and Aladin.

        A ``recipe`` is kept in the record, beside the provenance, as that by which the catalogue was made; so are
        ``verdicts`` of a check.

        Raises
        ------
        FileError
            If the file exists and ``overwrite`` is not set.
        OptionError
            If the suffix is unknown.
        MissingExtra
            If ``.parquet`` is asked for and pyarrow is not installed.
        """
        from larun.io.tables import write_table

        record = self._record()
        if recipe is not None:
            record["recipe"] = recipe._note(self)  # type: ignore[arg-type]  # the one catalogue there is
        if verdicts:
            record["checks"] = [verdict.note for verdict in verdicts]
        write_table(Path(path), self._table, record, overwrite=overwrite)
        return Path(path)

    def write_regions(
        self,
        path: str | Path,
        *,
        radius: float | str = 5.0,
        shape: str = "circle",
        coordinates: str = "image",
        label: str | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the sources as a DS9 region file; ``image.photometer("stars.reg")`` measures at its places.

        Parameters
        ----------
        path : path
            Usually ends in ``.reg``.
        radius : float or str
            Pixels, or the name of a column of pixels; where that is NaN, a point is drawn.
        shape : {"circle", "ellipse"}
            Ellipses have ``radius`` as half their major axis, and the ``ellipticity`` and ``theta`` of the source;
            one without a shape becomes a circle.
        coordinates : {"image", "icrs", "fk5", "galactic"}
            Pixels, or the sky through the WCS of the image.
        label : str, optional
            Column whose values are written beside the sources.
        overwrite : bool
            Replace a region file of larun; any other file is never replaced.

        Raises
        ------
        CatalogError
            If a column is missing, or sky coordinates are asked for and there is no image with a WCS.
        FileError
            If the file exists and ``overwrite`` is not set.
        """
        from larun.io.regions import write_regions
        from larun.model.measure.marking import regions_of

        options = {"radius": radius, "shape": shape, "coordinates": coordinates, "label": label}
        marks = regions_of(self, **options)  # type: ignore[arg-type]  # the one catalogue there is
        write_regions(Path(path), marks, overwrite=overwrite)
        return Path(path)

    @classmethod
    def read(cls, path: str | Path, *, verify: bool = True) -> Self:
        """Read a catalogue written by :meth:`write`; it comes without its image.

        Raises
        ------
        FileError
            If the file cannot be read.
        CorruptProduct
            If it does not match its digests, or its record does not follow from its own content.
        """
        from larun.io.tables import read_table

        table, record = read_table(Path(path), verify=verify)
        return cls(table=table, provenance=Provenance.from_dict(record["provenance"], str(path)))
