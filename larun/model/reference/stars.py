"""``ReferenceStars``, of known position and magnitude; ``ReferenceCatalog``, which gives them for a part of the sky."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms import sphere
from larun.errors import CatalogError, OptionError

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["UNITS", "ReferenceCatalog", "ReferenceStars", "quantity", "stars_from"]

#: Columns other than magnitudes that have a unit.
UNITS: Mapping[str, str] = {
    "ra": "deg",
    "dec": "deg",
    "pmra": "mas/yr",
    "pmdec": "mas/yr",
    "parallax": "mas",
    "epoch": "yr",
}


class ReferenceCatalog(abc.ABC):
    """What gives the stars of known position and magnitude in a part of the sky.

    :meth:`open` makes one of a file, a table, a store, or the name of a service. A class of your own needs a ``name``
    and :meth:`cone`.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What it is called."""

    @abc.abstractmethod
    def cone(self, ra: float, dec: float, radius: float) -> ReferenceStars:
        """The stars within a circle.

        Parameters
        ----------
        ra, dec, radius : float
            Degrees.
        """

    @staticmethod
    def open(
        what: Any,
        *,
        columns: Mapping[str, str] | None = None,
        name: str | None = None,
        systems: Mapping[str, str] | str | None = None,
        epoch: float | None = None,
        **options: Any,
    ) -> ReferenceCatalog:
        """A reference catalogue from whatever holds its stars.

        Parameters
        ----------
        what : path, str, table or ReferenceCatalog
            A file (FITS, ECSV, CSV, Parquet, VOTable, also compressed); the folder of a store (``larun refcat
            build``); an astropy table or a pandas DataFrame; ``"gaia"``, ``"2mass"``, ``"ps1"``, ``"refcat2"``,
            ``"apass"`` or ``"vizier:II/246"``, which ask a service (extra ``online``) unless there is a file of that
            name; a catalogue, which is given back.
        columns : mapping, optional
            Where names cannot be guessed: ours (``ra``, ``dec``, ``mag_<band>``, ``mag_<band>_error``, ``pmra``,
            ``pmdec``, ``parallax``, ``epoch``, ``variable``, ``extended``, ``id``) and those of the table:
            ``{"ra": "RAJ2000", "mag_g": "gmag"}``. Bands named there are the only ones then.
        name : str, optional
            What to call it; by default the name of the file.
        systems : mapping or str, optional
            ``{"g": "AB"}``, or one for all bands: ``"AB"`` or ``"Vega"``.
        epoch : float, optional
            Julian year of the positions, where no column has it: 2016.0 for Gaia DR3.
        **options
            Of a service: ``cache``, a folder; ``timeout`` in seconds; ``faintest``, a magnitude (Gaia).

        Raises
        ------
        OptionError
            If it is nothing of this, a column is missing or has a unit that does not convert, or an option is unknown.
        FileError
            If a file cannot be read.
        MissingExtra
            If a package is not installed.

        Examples
        --------
        >>> from astropy.table import Table
        >>> stars = ReferenceCatalog.open(Table({"RAJ2000": [-1.0], "DEJ2000": [2.0], "Vmag": [11.5]}))
        >>> stars.bands, float(stars["ra"].value[0])
        (('V',), 359.0)
        """
        from larun.model.reference import opening

        given = {"columns": columns, "name": name, "systems": systems, "epoch": epoch}
        return opening.opened(what, {key: value for key, value in given.items() if value is not None}, options)


@attrs.frozen(eq=False, repr=False)
class ReferenceStars(ReferenceCatalog):
    """Stars of known position and magnitude, an immutable value; :meth:`ReferenceCatalog.open` reads them.

    Parameters
    ----------
    table : astropy.table.QTable
        ``ra`` and ``dec`` (ICRS, 0 to 360), ``mag_<band>`` and ``mag_<band>_error``, and where they are known ``id``,
        ``pmra`` (times the cosine of the declination), ``pmdec``, ``parallax``, ``epoch`` (Julian year of the
        position), ``variable``, ``extended``. NaN where a value is missing. ``meta`` has ``name``, ``digest`` and
        ``systems``. Access gives copies.
    """

    _table: QTable

    @property
    def name(self) -> str:
        """What the catalogue is called that they are from."""
        return str(self._table.meta["name"])

    @property
    def digest(self) -> str:
        """SHA-256 of the contents of the catalogue that they are from."""
        return str(self._table.meta["digest"])

    @property
    def systems(self) -> dict[str, str | None]:
        """``"AB"``, ``"Vega"`` or None, where nobody said, for each band."""
        return dict(self._table.meta["systems"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return tuple(self._table.meta["systems"])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._table.colnames)

    @property
    def table(self) -> QTable:
        """A copy of the table."""
        return self._table.copy()

    def __getitem__(self, name: str) -> Any:
        """One column, as a copy.

        Raises
        ------
        CatalogError
            If there is no such column.
        """
        if name not in self._table.colnames:
            raise CatalogError(f"{self.name}: no column {name!r}: there are {', '.join(self._table.colnames)}")
        return self._table[name].copy()

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self)} stars, bands {', '.join(self.bands) or 'none'}>"

    def _plain(self, name: str) -> NDArray[np.float64]:
        if name not in self._table.colnames:
            return np.full(len(self), np.nan)
        return np.asarray(self._table[name].value, np.float64)

    def cone(self, ra: float, dec: float, radius: float) -> ReferenceStars:
        """The stars within a circle, in the order they are in.

        Parameters
        ----------
        ra, dec, radius : float
            Degrees.
        """
        lat = self._plain("dec")
        near = np.flatnonzero(np.abs(lat - dec) <= radius * (1 + 1e-12) + 1e-12)
        away = sphere.separation(self._plain("ra")[near], lat[near], ra, dec)
        return ReferenceStars(self._table[near[away <= radius]])

    def at(self, year: float, *, parallax: bool = True) -> ReferenceStars:
        """The stars where they are seen from the Earth at another time.

        Rigorous, at the poles too (:func:`larun.algorithms.sphere.moved`). Stars whose motion is not known stay. What
        parallax moved is moved for good, and its column is gone. There and back again is the same to 1 mas for the
        fastest star in 34 years.

        Parameters
        ----------
        year : float
            Julian year, such as 2024.37.
        parallax : bool
            Move them by their parallax too.

        Raises
        ------
        CatalogError
            If motions are known and the epoch of the positions is not.
        """
        pmra, pmdec = self._plain("pmra"), self._plain("pmdec")
        distant = self._plain("parallax")
        moving = np.isfinite(pmra) & np.isfinite(pmdec)
        apart = parallax and np.isfinite(distant).any()
        if not (moving.any() or apart):
            return self
        epoch = self._plain("epoch")
        if not np.isfinite(epoch[moving]).all():
            raise CatalogError(
                f"{self.name}: stars have proper motions, and the epoch of their positions is not known: open it with "
                "epoch=… (a Julian year: 2016.0 for Gaia DR3, 2015.5 for DR2)"
            )
        observer = _earth(year) if apart else None
        found = sphere.moved(
            self._plain("ra"),
            self._plain("dec"),
            pmra,
            pmdec,
            np.where(moving, year - epoch, 0.0),
            parallax=distant if apart else None,
            observer=observer,
        )
        table = self._table.copy()
        for name, values in found._asdict().items():
            if name in table.colnames:
                table[name] = quantity(name, values)
        table["epoch"] = quantity("epoch", np.where(moving, year, epoch))
        if apart:
            table.remove_column("parallax")
        return ReferenceStars(table)

    def select(self, mask: NDArray[np.bool_] | str) -> Self:
        """The stars for which ``mask`` is true.

        Parameters
        ----------
        mask : (n,) bool or str
            One truth value a star; or a condition on the columns: ``"mag_g < 18 and mag_g_error < 0.02"``.

        Raises
        ------
        OptionError
            If the mask is not one boolean a star, or the text is not a condition on columns there are.
        """
        if isinstance(mask, str):
            from larun.expression import parse

            mask = parse(mask).of(self._table)
        chosen = np.asarray(mask)
        if chosen.dtype != bool or chosen.shape != (len(self),):
            raise OptionError(f"mask is {chosen.dtype} {chosen.shape}: must be {len(self)} booleans")
        return type(self)(self._table[chosen])

    def ordered(self) -> ReferenceStars:
        """The stars by right ascension, then declination, so that files in any order give the same."""
        return ReferenceStars(self._table[np.lexsort([self._plain("dec"), self._plain("ra")])])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what they are, not the stars."""
        circle = sphere.enclosing_circle(self._plain("ra"), self._plain("dec")) if len(self) else None
        return {
            "name": self.name,
            "rows": len(self),
            "columns": list(self.columns),
            "systems": self.systems,
            "circle": None if circle is None else list(circle),
            "digest": self.digest,
        }

    def to_record(self) -> dict[str, Any]:
        """Plain containers and arrays; :meth:`from_record` takes them back."""
        columns = {name: np.array(getattr(self._table[name], "value", self._table[name])) for name in self.columns}
        meta = {"name": self.name, "digest": self.digest, "systems": self.systems}
        return {"columns": columns, "meta": meta}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The stars that :meth:`to_record` wrote down."""
        from astropy.table import QTable

        table = QTable({name: quantity(name, np.asarray(values)) for name, values in record["columns"].items()})
        table.meta = {**record["meta"], "systems": dict(record["meta"]["systems"])}
        return cls(table)


def quantity(name: str, values: NDArray[Any]) -> Any:
    """A column of a name in its unit."""
    from astropy.units import Quantity

    unit = UNITS.get(name, "mag" if name.startswith("mag_") else None)
    return np.array(values) if unit is None else Quantity(values, unit)


def _earth(year: float) -> NDArray[np.float64]:
    """The Earth from the barycentre, in au."""
    from larun.algorithms.ephemeris import Instant, earth

    return earth(Instant(2451545.0, (year - 2000.0) * 365.25))


def stars_from(columns: Mapping[str, NDArray[Any]], name: str, systems: Mapping[str, str | None]) -> ReferenceStars:
    """Stars from plain arrays in the units of :data:`UNITS`, with the digest of what they hold.

    Parameters
    ----------
    columns : mapping of ndarray, (n,)
        By the names of :class:`ReferenceStars`, in the order in which they are shown.
    name : str
        Of the catalogue.
    systems : mapping
        Of each band.
    """
    import hashlib

    from astropy.table import QTable

    digest = hashlib.sha256(repr(sorted((band, system) for band, system in systems.items())).encode())
    order = np.lexsort([columns["dec"], columns["ra"]])  # the order of a file's rows says nothing
    for key in sorted(columns):
        values = columns[key][order]
        text = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values
        digest.update(f"{key} {text.dtype.kind} {len(values)}\n".encode())
        digest.update(np.ascontiguousarray(text).astype(text.dtype.newbyteorder("<"), copy=False).tobytes())
    table = QTable({key: quantity(key, values) for key, values in columns.items()})
    table.meta = {"name": name, "digest": digest.hexdigest(), "systems": dict(systems)}
    return ReferenceStars(table)
