"""``ZeroPoint``: what turns instrumental magnitudes into those of a system, with the stars it rests on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.zeropoint import legendre
from larun.errors import CatalogError, OptionError
from larun.provenance import Provenance, operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog

__all__ = ["ZeroPoint", "calibrated", "flux_unit"]

_MAG = 2.5 / math.log(10)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ZeroPoint:
    """The zero point of a frame in one band; :meth:`larun.SourceCatalog.zero_point` finds it.

    The magnitude of a star is ``m + 2.5 log10(exposure) + value + color_term (colour - pivot) - extinction airmass``,
    with m the instrumental magnitude and without the terms that are None.

    Parameters
    ----------
    band : str
        As the reference calls it.
    system : str or None
        ``"AB"`` or ``"Vega"``; None where the reference does not say.
    value, error : float
        Magnitude of a star of the pivot colour that gives one count of ``unit``, and its 1 sigma: common to all stars
        of the frame, and free of the error of the aperture correction.
    unit : str
        ``"electron / s"`` where the exposure time is known, else ``"electron"`` (or adu): of the exposure as it is.
    scatter, scatter_error : float
        Of single stars around the fit, beyond the errors of their measurement and of the reference.
    color : str or None
        Such as ``"g-r"``.
    pivot, color_term, color_term_error, covariance : float or None
        Colour at which the value holds; change of the zero point with colour, its 1 sigma, and its covariance with
        the value.
    terms : tuple of float
        Coefficients of Legendre polynomials over the ``extent``, which leave the mean of the frame alone.
    exposure, airmass, extinction : float or None
        What was taken into account.
    aperture_correction_error : float or None
        1 sigma of the correction to the total aperture, common to all stars. It was the same for the stars that the
        zero point rests on, so that it is part of ``value`` and counts only against another aperture.
    basis : mapping
        ``magnitude``, the column that was calibrated; ``aperture_radius``, the pixels that ``mag_total`` counts as all
        the light; ``extent`` (x0, x1, y0, y1); ``reference``, its name; ``radius`` of the match in arcseconds.
    stars : QTable
        All matched stars: ``used``, the ``reason`` where not, ``residual`` and what it should scatter by.
    catalog : SourceCatalog
        With ``mag_<band>`` and ``mag_<band>_error`` (each star's own error).
    """

    band: str
    system: str | None
    value: float
    error: float
    unit: str
    scatter: float
    scatter_error: float
    color: str | None = None
    pivot: float | None = None
    color_term: float | None = None
    color_term_error: float | None = None
    covariance: float | None = None
    terms: tuple[float, ...] = ()
    exposure: float | None = None
    airmass: float | None = None
    extinction: float | None = None
    aperture_correction_error: float | None = None
    basis: Mapping[str, Any]
    _stars: QTable
    catalog: SourceCatalog

    @property
    def stars(self) -> QTable:
        """A copy of the table of matched stars."""
        return self._stars.copy()

    @property
    def provenance(self) -> Provenance:
        """The record of the calibrated catalogue."""
        return self.catalog.provenance

    def _replace(self, *, provenance: Provenance) -> Self:
        return attrs.evolve(self, catalog=self.catalog._replace(provenance=provenance))

    def _calibrated(self, catalog: SourceCatalog) -> Self:
        return attrs.evolve(self, catalog=catalog)

    def __repr__(self) -> str:
        used = int(np.count_nonzero(self._stars["used"]))
        return f"<{type(self).__name__} {self.band} {self.value:.4f} ± {self.error:.4f} mag, {used} stars>"

    def __str__(self) -> str:
        said = f"{self.band} ({self.system or 'system unknown'}): {self.value:.4f} ± {self.error:.4f} for 1 {self.unit}"
        if self.color is not None and self.color_term is not None:
            said += (
                f" at {self.color} = {self.pivot:.2f}, colour term {self.color_term:+.4f} ± {self.color_term_error:.4f}"
            )
        said += f"; scatter {self.scatter:.4f} of {int(np.count_nonzero(self._stars['used']))} stars"
        refused = [str(reason) for reason in self._stars["reason"] if reason]
        counts = ", ".join(f"{name} {refused.count(name)}" for name in dict.fromkeys(refused))
        return said + (f"; not used: {counts}" if counts else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: all but the stars and the catalogue."""
        left_out = ("_stars", "catalog", "basis")
        found = {f.name: getattr(self, f.name) for f in attrs.fields(type(self)) if f.name not in left_out}
        found |= self.basis
        made = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in made.items()
        } | {"stars": int(np.count_nonzero(self._stars["used"]))}

    def at(self, color: float) -> tuple[float, float]:
        """The zero point and its 1 sigma for stars of a colour.

        Raises
        ------
        OptionError
            If there is no colour term.
        """
        if self.color_term is None or self.pivot is None:
            raise OptionError("this zero point has no colour term: zero_point(…, color='g-r')")
        away = color - self.pivot
        variance = self.error**2 + 2 * away * (self.covariance or 0.0) + (away * (self.color_term_error or 0.0)) ** 2
        return self.value + away * self.color_term, math.sqrt(max(variance, 0.0))

    @operation("apply_zero_point", reach="global")
    def apply(self, catalog: SourceCatalog, *, colors: ArrayLike | None = None) -> SourceCatalog:
        """Another catalogue of the same frame, or the same with colours, calibrated.

        Parameters
        ----------
        catalog : SourceCatalog
            With the column that was calibrated, measured with the same apertures.
        colors : array_like, (n,), optional
            Colour of each source; NaN where it is not known, which gives no magnitude. By default all sources are
            taken to have the pivot colour.

        Returns
        -------
        SourceCatalog
            With ``mag_<band>`` and ``mag_<band>_error``.

        Raises
        ------
        CatalogError
            If it lacks the magnitudes.
        OptionError
            If there is not one colour a source, or no colour term.
        """
        if self.basis["magnitude"] not in catalog.columns:
            raise CatalogError(f"{catalog!r} has no column {self.basis['magnitude']}: catalog.photometer() comes first")
        given = None if colors is None else np.asarray(getattr(colors, "value", colors), np.float64)
        if given is not None and given.shape != (len(catalog),):
            raise OptionError(f"colors of shape {given.shape}: must be one for each of {len(catalog)} sources")
        if given is not None and self.color_term is None:
            raise OptionError("this zero point has no colour term: zero_point(…, color='g-r')")
        return catalog._replace(table=calibrated(catalog.table, self.to_dict(), given))

    def limiting_magnitude(self, snr: float = 5.0) -> float:
        """The magnitude of a star that the smallest aperture measures with so much signal to noise.

        The noise without a star is that of the faintest sources: their flux errors less their own photons. Holds for
        what the frame is like where they are; a star must also be found (see the check "completeness").

        Parameters
        ----------
        snr : float
            Signal to noise.

        Raises
        ------
        OptionError
            If ``snr`` is not above 0.
        CatalogError
            If the catalogue has no fluxes with errors, or no aperture correction.
        """
        if isinstance(snr, bool) or not 0 < snr < math.inf:
            raise OptionError(f"snr={snr!r}: must be above 0")
        table = self.catalog.table
        if "aperture_flux_1" not in table.colnames or self.basis["magnitude"] != "mag_total":
            raise CatalogError("the limit needs aperture fluxes and mag_total: catalog.photometer() measures them")
        flux, error = (np.asarray(table[name].value) for name in ("aperture_flux_1", "aperture_flux_error_1"))
        photons = 1.0 if str(table["aperture_flux_1"].unit) == "electron" else 0.0
        empty = error**2 - photons * np.maximum(flux, 0)
        good = np.isfinite(empty) & (empty > 0) & np.isfinite(np.asarray(table["mag_total"].value))
        if not good.any():
            raise CatalogError("no source has a flux with an error and a total magnitude: there is no limit to tell")
        faint = good & (flux <= np.median(flux[good]))
        variance = float(np.median(empty[faint]))
        limit = 0.5 * (snr**2 * photons + math.sqrt((snr**2 * photons) ** 2 + 4 * snr**2 * variance))
        correction = table.meta["aperture_correction"][0]
        return -2.5 * math.log10(limit) + float(correction) + _level(self.to_dict(), table.meta)


def flux_unit(table: QTable) -> str:
    """The unit of the fluxes of a catalogue."""
    for name in ("aperture_flux_1", "kron_flux", "flux"):
        if name in table.colnames and table[name].unit is not None:
            return str(table[name].unit)
    return "count"


def _level(about: dict[str, Any], meta: Any) -> float:
    """What is added to the instrumental magnitudes of a frame, of stars of the pivot colour."""
    added = float(about["value"])
    if about["unit"].endswith("/ s"):
        exposure = meta.get("exposure") or about["exposure"]
        added += 2.5 * math.log10(exposure)
    if about["extinction"] is not None:
        airmass = meta.get("airmass") or about["airmass"]
        added -= float(about["extinction"]) * float(airmass)
    return added


def calibrated(table: QTable, about: dict[str, Any], colors: NDArray[np.float64] | None) -> QTable:
    """The table with calibrated magnitudes, and what they rest on in its metadata.

    Parameters
    ----------
    table : QTable
        Of a catalogue.
    about : dict
        :meth:`ZeroPoint.to_dict`.
    colors : ndarray of float64 or None
        Of the sources.
    """
    from astropy.units import Quantity

    from larun.model.photometry.choosing import error_of

    band, system = about["band"], about["system"]
    magnitude = np.asarray(table[about["magnitude"]].value, np.float64) + _level(about, table.meta)
    if about["terms"]:
        magnitude = magnitude + surface(about["terms"], about["extent"], table)
    if colors is not None:
        magnitude = magnitude + about["color_term"] * (colors - about["pivot"])
    error = np.asarray(table[error_of(about["magnitude"])].value, np.float64)
    named = f"{band} magnitude" + (f", {system} system" if system else "")
    at = f", of a star with {about['color']} = {about['pivot']:g}" if about["color"] and colors is None else ""
    for name, values, text in (
        (f"mag_{band}", magnitude, named + at),
        (f"mag_{band}_error", error, "1 sigma, without the errors of zero point and aperture correction (see meta)"),
    ):
        table[name] = Quantity(values, "mag")
        table[name].info.description = text
        table[name].info.meta = {"photometric_system": system, "band": band}
    table.meta["zero_points"] = {**table.meta.get("zero_points", {}), band: about}
    return table


def surface(terms: Any, extent: Any, table: QTable) -> NDArray[np.float64]:
    """The polynomial over the frame at the sources of a table."""
    basis = legendre(*unit_square(table, extent), _degree(len(terms)))
    made = np.zeros(len(table))
    for column, value in zip(basis.T, terms, strict=True):
        made += column * value
    return made


def _degree(count: int) -> int:
    return next(degree for degree in range(10) if (degree + 1) * (degree + 2) // 2 - 1 == count)


def unit_square(table: QTable, extent: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions from -1 to 1 over the extent."""
    x0, x1, y0, y1 = extent
    x, y = (np.asarray(table[name].value, np.float64) for name in "xy")
    return 2 * (x - x0) / (x1 - x0) - 1, 2 * (y - y0) / (y1 - y0) - 1
