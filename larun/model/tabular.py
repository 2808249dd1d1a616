"""A table with a record of how it was made, as an immutable value."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np

from larun.errors import CatalogError
from larun.model import display, registry
from larun.model.measure import schema
from larun.provenance import Provenance, environment

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["Tabular"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Tabular:
    """An immutable value around an astropy ``QTable``; access gives copies."""

    _table: QTable
    provenance: Provenance

    @property
    def table(self) -> QTable:
        """A copy of the table."""
        return self._table.copy()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._table.colnames)

    @property
    def meta(self) -> dict[str, Any]:
        """What holds for the whole catalogue: schema version, FWHM, radii, aperture correction."""
        return copy.deepcopy(dict(self._table.meta))

    def __getitem__(self, name: str) -> Any:
        """One column, as a copy: a quantity where it has a unit, else an array.

        Raises
        ------
        CatalogError
            If there is no such column.
        """
        if name not in self._table.colnames:
            raise CatalogError(f"no column {name!r}: there are {', '.join(self._table.colnames)}")
        column = self._table[name]
        return column.copy() if hasattr(column, "unit") and column.unit is not None else np.array(column)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self)} sources, {len(self.columns)} columns>"

    def __str__(self) -> str:
        return f"{self!r}\n{schema.readable(self._table)}"

    _repr_html_ = display.catalog_html

    def identical(self, other: object) -> bool:
        """Whether columns (bit for bit, with units), metadata and provenance agree; the image does not count.

        NaN means "no value" and is one value; so is what lies below a mask.
        """
        from larun.io.flat import same_table

        return (
            isinstance(other, Tabular)
            and same_table(self._table, other._table)
            and self.provenance.to_dict() == other.provenance.to_dict()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that unpickled arrays are frozen again.
        state = {field.alias: getattr(self, field.name) for field in attrs.fields(type(self))}
        return functools.partial(type(self), **state), ()

    def _record(self) -> dict[str, Any]:
        """What every file says of it: its class, where it came from, and what it was made with."""
        return {
            "class": registry.name_of(type(self)),
            "provenance": self.provenance.to_dict(),
            "environment": dict(environment()),
        }

    def _replace(self, **changes: Any) -> Self:
        return attrs.evolve(self, **changes)
