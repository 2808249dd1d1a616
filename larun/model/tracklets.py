"""``Tracklets``: what moves over a series of differences."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs
import numpy as np

from larun.algorithms.tracks import LinkOptions
from larun.errors import CatalogError, FileError
from larun.model.subtracting.moving import linked, looked_at
from larun.model.tabular import Tabular
from larun.provenance import Parent, Provenance, operation, recording

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog

__all__ = ["Tracklets"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Tracklets(Tabular):
    """Detections of at least three exposures on a straight line at a constant rate: moving objects.

    ``table`` has a row for each, ``members`` says which candidates of which difference it holds.
    """

    @classmethod
    @operation("tracklets", version=1, reach="global", leave_out=("candidates",))
    def link(
        cls, candidates: Iterable[SourceCatalog], *, options: LinkOptions | None = None, doubted: bool = False
    ) -> Self:
        """Link what is new on several differences with one reference.

        What is at the same place on other differences too is no moving object but a variable star, and is never
        linked; doubted candidates count for that as well.

        Parameters
        ----------
        candidates : iterable of SourceCatalog
            What :meth:`larun.DifferenceImage.detect` found on each, in any order, with their images
            (:meth:`larun.SourceCatalog.attach` after reading). They are looked at one after the other: a generator
            holds one image at a time.
        options : LinkOptions, optional
            How many detections, how fast, how sure; see :class:`larun.algorithms.tracks.LinkOptions`.
        doubted : bool
            Whether candidates with a reason to doubt may belong to an object, as one that leaves a trail.

        Returns
        -------
        Tracklets
            By falling number of detections. The columns are those of :data:`larun.model.subtracting.moving.COLUMNS`.

        Raises
        ------
        CatalogError
            If a catalogue is none of a difference, or its image is not at hand.
        OptionError
            If differences have several references or no time, are given twice, or nothing tells how they lie.
        """
        how = LinkOptions() if options is None else options
        recording().resolve(options=how)
        shots = looked_at(candidates)
        recording().parents.extend(Parent("candidates", shot.record) for shot in shots)
        # the operation puts its own record in its place
        return cls(table=linked(shots, how, doubted), provenance=shots[0].record)

    def members(self, tracklet: int) -> QTable:
        """The detections of one object, in order of time: ``frame``, ``jd_utc``, and ``id`` among its candidates.

        Raises
        ------
        CatalogError
            If there is no such object.
        """
        from astropy.table import QTable

        rows = self._table[np.asarray(self._table["tracklet"]) == tracklet]
        if not len(rows):
            raise CatalogError(f"tracklet={tracklet}: must be 1 … {len(self)}")
        numbers = np.asarray(rows["members"][0])
        there = np.flatnonzero(numbers)
        frames, times = (self._table.meta[name] for name in ("frames", "jd_utc"))
        return QTable({"frame": [frames[n] for n in there], "jd_utc": [times[n] for n in there], "id": numbers[there]})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} objects on {len(self._table.meta['frames'])} differences>"

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a file that :meth:`read` turns back into identical tracklets; the suffix chooses the format.

        Raises
        ------
        FileError
            If the file exists and ``overwrite`` is not set.
        OptionError
            If the suffix is unknown.
        """
        from larun.io.tables import write_table

        write_table(Path(path), self._table, self._record(), overwrite=overwrite)
        return Path(path)

    @classmethod
    def read(cls, path: str | Path, *, verify: bool = True) -> Self:
        """Read what :meth:`write` wrote.

        Raises
        ------
        FileError
            If the file cannot be read, or holds something else.
        CorruptProduct
            If it does not match its digests.
        """
        from larun.io.tables import read_table

        table, record = read_table(Path(path), verify=verify)
        if str(record.get("class", "")).rpartition(":")[2] != cls.__name__:
            raise FileError(f"{path}: holds no tracklets")
        return cls(table=table, provenance=Provenance.from_dict(record["provenance"], str(path)))
