"""Stars of known magnitude around a catalogue's sources: from a reference catalogue, a table, or a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.sphere import enclosing_circle
from larun.errors import CatalogError, OptionError
from larun.model.reference.opening import reference_stars

if TYPE_CHECKING:
    from larun.model.reference.stars import ReferenceStars

__all__ = ["KnownStars", "known_stars", "split_color"]

_MARGIN = 1.02  # of the radius that holds all sources


class KnownStars(NamedTuple):
    """Stars of a reference; arrays (n,).

    Attributes
    ----------
    ra, dec : ndarray of float64
        Degrees, at the time of the exposure.
    magnitudes, errors : dict of ndarray
        By band; errors are 0 where the reference gives none.
    variable, extended : ndarray of bool
        What the reference says of them.
    about : dict
        ``name``, ``digest`` and ``systems`` of the reference, as plain values.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    magnitudes: dict[str, NDArray[np.float64]]
    errors: dict[str, NDArray[np.float64]]
    variable: NDArray[np.bool_]
    extended: NDArray[np.bool_]
    about: dict[str, Any]

    def select(self, chosen: NDArray[Any]) -> KnownStars:
        """Some of them."""
        return KnownStars(
            self.ra[chosen],
            self.dec[chosen],
            {band: values[chosen] for band, values in self.magnitudes.items()},
            {band: values[chosen] for band, values in self.errors.items()},
            self.variable[chosen],
            self.extended[chosen],
            self.about,
        )

    def to_record(self) -> dict[str, Any]:
        """Plain containers and arrays; :func:`known_stars` takes them back."""
        return self._asdict()


def split_color(color: str | None) -> tuple[str, str] | None:
    """The two bands of a colour.

    Raises
    ------
    OptionError
        If it is not two names with a minus between them.

    Examples
    --------
    >>> split_color("g-r")
    ('g', 'r')
    """
    if color is None:
        return None
    parts = [part.strip() for part in color.split("-")] if isinstance(color, str) else []
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise OptionError(f"color={color!r}: must be two bands of the reference, such as 'g-r'")
    return parts[0], parts[1]


def known_stars(
    reference: Any, bands: tuple[str, ...], ra: NDArray[np.float64], dec: NDArray[np.float64], year: float | None
) -> KnownStars:
    """The stars of a reference around some positions.

    Parameters
    ----------
    reference : object
        Stars from a record, or whatever :meth:`larun.ReferenceCatalog.open` takes.
    bands : tuple of str
        Those that are needed.
    ra, dec : ndarray of float64
        Sources in degrees.
    year : float or None
        Julian year of the exposure: stars move.

    Raises
    ------
    OptionError
        If it is none of these, or lacks a band.
    CatalogError
        If no source has sky coordinates, or stars move from an epoch that is not known.
    """
    if isinstance(reference, Mapping) and "about" in reference:
        return KnownStars(**reference)
    if not np.isfinite(ra + dec).any():
        raise CatalogError("no source has sky coordinates: the image needs a WCS")
    circle = enclosing_circle(ra, dec)
    stars = reference_stars(reference, circle.ra, circle.dec, circle.radius * _MARGIN + 1 / 3600, year)
    missing = [band for band in bands if band not in stars.bands]
    if missing:
        raise OptionError(
            f"reference {stars.name}: no magnitudes in {', '.join(missing)}; its bands are "
            f"{', '.join(stars.bands) or 'none'}: name the column, as ReferenceCatalog.open(…, "
            f"columns={{'mag_{missing[0]}': '…'}})"
        )
    errors = {band: _plain(stars, f"mag_{band}_error", 0.0) for band in bands}
    # an error that nobody knows says that the star is worth nothing
    magnitudes = {
        band: np.where(np.isfinite(errors[band]), _plain(stars, f"mag_{band}", np.nan), np.nan) for band in bands
    }
    about = {
        "name": stars.name,
        "digest": stars.digest,
        "systems": {band: stars.systems[band] for band in bands},
    }
    ra, dec = _plain(stars, "ra", 0.0), _plain(stars, "dec", 0.0)
    variable, extended = _plain(stars, "variable", 0.0) != 0, _plain(stars, "extended", 0.0) != 0
    return KnownStars(ra, dec, magnitudes, errors, variable, extended, about)


def _plain(stars: ReferenceStars, name: str, otherwise: float) -> NDArray[np.float64]:
    if name not in stars.columns:
        return np.full(len(stars), otherwise)
    column = stars[name]
    return np.asarray(getattr(column, "value", column), np.float64)
