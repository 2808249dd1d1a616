"""``DifferenceCurve``: how much more light a place gives than in a reference, through a series of differences."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError, FileError, OptionError
from larun.flags import UNUSABLE
from larun.model.curves.coordinates import coordinates_of
from larun.model.curves.differential import in_time, places_on, table_of
from larun.model.tabular import Tabular
from larun.provenance import Parent, Provenance, operation, recording

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.difference import DifferenceImage

__all__ = ["DifferenceCurve"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class DifferenceCurve(Tabular):
    """Light of places through differences with one reference, in its unit and on its flux scale.

    ``table`` has a row for each place in each difference; :meth:`curve` gives one place. Make one with
    :meth:`extract`, which :meth:`larun.LightCurve.from_differences` calls.
    """

    @classmethod
    @operation("difference_curve", version=1, reach="global", leave_out=("differences", "positions", "coordinates"))
    def extract(
        cls,
        differences: Iterable[DifferenceImage | str | Path],
        positions: Any,
        *,
        coordinates: Any = None,
        limit: float = 3.0,
    ) -> Self:
        """Measure places in differences with one reference, by the PSF of each.

        Parameters
        ----------
        differences : iterable of DifferenceImage or path
            Of one reference, in any order.
        positions : array, table, SkyCoord, …
            In any form that :meth:`larun.SkyImage.photometer` takes: pixels of the first difference in time, or places
            on the sky. Differences on pixels of their own are met through their WCS.
        coordinates : SkyCoord or (ra, dec), optional
            Of the places, ICRS degrees, for times at the barycentre; by default what ``positions`` or the WCS say.
        limit : float
            Upper limits are so many standard deviations above what is seen, or above 0.

        Returns
        -------
        DifferenceCurve
            Fluxes on the scale of the reference, with the covariance of all epochs of a place.

        Raises
        ------
        OptionError
            If there are no differences, they have several references or no time, or nothing tells how they lie.
        CatalogError
            If sky coordinates come without a WCS.
        """
        if not 0 < limit < np.inf:
            raise OptionError(f"limit={limit!r}: must be a positive number of standard deviations")
        shots = in_time(differences)
        places = places_on(shots, positions)
        there = coordinates_of(coordinates, positions, shots[0].image, places[0])
        recording().resolve(
            positions=np.column_stack(places[0]),
            coordinates=None if there is None else [list(place) for place in there],
        )
        recording().parents.extend(Parent("difference", shot.image.provenance) for shot in shots)
        table = table_of(shots, places, there, float(limit))
        return cls(table=table, provenance=shots[0].image.provenance)  # the operation puts its own in its place

    @property
    def stars(self) -> int:
        """How many places there are."""
        return int(self._table.meta["stars"])

    def curve(self, star: int = 1) -> QTable:
        """The rows of one place, in order of time.

        Raises
        ------
        CatalogError
            If there is no such place.
        """
        chosen = np.asarray(self._table["star"]) == star
        if not chosen.any():
            raise CatalogError(f"star={star}: must be 1 … {self.stars}")
        return self._table[chosen]

    def time(self, star: int = 1) -> NDArray[np.float64]:
        """Times in days: BJD_TDB, or JD in UTC where no coordinates are known."""
        own = self.curve(star)
        name = "bjd_tdb" if np.isfinite(self._table["bjd_tdb"].value).all() else "jd_utc"
        return np.asarray(own[name].value)

    def good(self, star: int = 1) -> NDArray[np.bool_]:
        """Which points of one place have a flux, and no unusable pixel within a FWHM."""
        own = self.curve(star)
        flags = np.asarray(own["flags"], np.uint32)
        return np.asarray(np.isfinite(np.asarray(own["flux"].value)) & ((flags & UNUSABLE) == 0))

    def covariance(self, star: int = 1) -> NDArray[np.float64]:
        """The covariance of the fluxes of one place, (n, n), in order of time, in the unit of flux squared.

        The noise of the reference is common to all; where the frames are in the reference, their own noise is less.
        """
        return np.array(self.curve(star)["covariance"], np.float64)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._table) // max(self.stars, 1)} differences, {self.stars} place(s)>"

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a file that :meth:`read` turns back into an identical curve; the suffix chooses the format.

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
        """Read a curve written by :meth:`write`.

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
            raise FileError(f"{path}: holds no light curve of differences")
        return cls(table=table, provenance=Provenance.from_dict(record["provenance"], str(path)))
