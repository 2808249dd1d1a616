"""The columns of a catalogue: names, units and meanings, frozen under a version number.

A column never changes its meaning; a new meaning gets a new name and raises :data:`VERSION`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = [
    "APERTURE",
    "DETECTED",
    "ELLIPSE",
    "ELLIPTICAL",
    "GROUPS",
    "KRON",
    "MORPHOLOGY",
    "PLACES",
    "PSF",
    "PSF_STARS",
    "SKY",
    "TOTAL",
    "VERSION",
    "Column",
    "readable",
    "table",
]

VERSION = 1


class Column(NamedTuple):
    """One column; ``unit`` ``"image"`` stands for the unit of the image that was measured."""

    name: str
    dtype: type[np.generic]
    unit: str
    description: str


#: Where a source is, in every catalogue.
PLACES: tuple[Column, ...] = (
    Column("x", np.float64, "pix", "column of the centre; the centre of the first pixel is 0"),
    Column("y", np.float64, "pix", "row of the centre; the centre of the first pixel is 0"),
    Column("x_error", np.float64, "pix", "1 sigma of x"),
    Column("y_error", np.float64, "pix", "1 sigma of y"),
    Column("ra", np.float64, "deg", "right ascension, where the image has a WCS"),
    Column("dec", np.float64, "deg", "declination, where the image has a WCS"),
)

DETECTED: tuple[Column, ...] = (
    Column("id", np.int32, "", "number of the source, from 1, by falling S/N"),
    *PLACES,
    Column("peak", np.float64, "image", "highest pixel above the background"),
    Column(
        "flux",
        np.float64,
        "image",
        "flux as the method of detection sums it up; of the filter, total for a star of its shape",
    ),
    Column("flux_error", np.float64, "image", "1 sigma of flux from the noise of the sky"),
    Column("snr", np.float64, "", "signal to noise of the detection"),
    Column("fwhm", np.float64, "pix", "full width at half maximum from weighted moments; NaN where not measurable"),
    Column("ellipticity", np.float64, "", "1 - b/a from weighted moments; NaN where not measurable"),
    Column("theta", np.float64, "deg", "position angle of the major axis, from +x towards +y"),
    Column("flags", np.uint32, "", "OR of the pixel flags in the core"),
)

SKY: tuple[Column, ...] = (
    Column("sky", np.float64, "image", "local sky per pixel"),
    Column("sky_error", np.float64, "image", "1 sigma of sky"),
)

#: For aperture number k (from 1), the name gets the suffix _k.
APERTURE: tuple[Column, ...] = (
    Column("aperture_flux", np.float64, "image", "flux above the local sky within {radius:.3f} pix"),
    Column("aperture_flux_error", np.float64, "image", "1 sigma of the flux within {radius:.3f} pix"),
    Column("mag", np.float64, "mag", "instrumental magnitude -2.5 log10(flux) within {radius:.3f} pix"),
    Column("mag_error", np.float64, "mag", "1 sigma of the magnitude within {radius:.3f} pix"),
    Column("area_fraction", np.float64, "", "part of the circle of {radius:.3f} pix that was measured"),
    Column("aperture_flags", np.uint32, "", "OR of the pixel flags within {radius:.3f} pix"),
)

TOTAL: tuple[Column, ...] = (
    Column(
        "mag_total", np.float64, "mag", "magnitude in the smallest aperture, corrected to the meta's correction radius"
    ),
    Column("mag_total_error", np.float64, "mag", "1 sigma, without the correction's own error, common to all stars"),
)


#: The ellipse that elliptical and Kron apertures follow.
ELLIPSE: tuple[Column, ...] = (
    Column("semi_major", np.float64, "pix", "1 sigma along the major axis, the pixel's blur included"),
    Column("semi_minor", np.float64, "pix", "1 sigma along the minor axis, the pixel's blur included"),
    Column("ellipse_theta", np.float64, "deg", "direction of the major axis, from +x towards +y"),
)

#: For ellipse number k (from 1), the name gets the suffix _k.
ELLIPTICAL: tuple[Column, ...] = (
    Column("ellipse_flux", np.float64, "image", "flux above the sky within an ellipse of {size}"),
    Column("ellipse_flux_error", np.float64, "image", "1 sigma of the flux within an ellipse of {size}"),
    Column("ellipse_mag", np.float64, "mag", "instrumental magnitude within an ellipse of {size}"),
    Column("ellipse_mag_error", np.float64, "mag", "1 sigma of the magnitude within an ellipse of {size}"),
    Column("ellipse_area_fraction", np.float64, "", "part of the ellipse of {size} that was measured"),
    Column("ellipse_flags", np.uint32, "", "OR of the pixel flags within an ellipse of {size}"),
)

KRON: tuple[Column, ...] = (
    Column("kron_radius", np.float64, "", "Kron's first moment radius, in units of the 1 sigma ellipse"),
    Column("kron_flux", np.float64, "image", "flux above the sky within the Kron aperture"),
    Column("kron_flux_error", np.float64, "image", "1 sigma of kron_flux"),
    Column("kron_mag", np.float64, "mag", "instrumental magnitude -2.5 log10(kron_flux)"),
    Column("kron_mag_error", np.float64, "mag", "1 sigma of kron_mag"),
    Column("kron_area_fraction", np.float64, "", "part of the Kron aperture that was measured"),
    Column("kron_flags", np.uint32, "", "OR of the pixel flags within the Kron aperture"),
)


MORPHOLOGY: tuple[Column, ...] = (
    Column("x_win", np.float64, "pix", "column of the windowed centroid; NaN where there is none"),
    Column("y_win", np.float64, "pix", "row of the windowed centroid; NaN where there is none"),
    Column("x_win_error", np.float64, "pix", "1 sigma of x_win"),
    Column("y_win_error", np.float64, "pix", "1 sigma of y_win"),
    Column(
        "size_excess", np.float64, "", "how much more extended than the stars of the image, in units of its own error"
    ),
    Column(
        "star_p_value", np.float64, "", "chance that noise makes a star look as extended as this; near 0: not a star"
    ),
)


#: Of the sources a point-spread function is made from.
PSF_STARS: tuple[Column, ...] = (
    Column("x", np.float64, "pix", "column of the centre"),
    Column("y", np.float64, "pix", "row of the centre"),
    Column("flux_psf", np.float64, "image", "flux by the function, of the stars that were tried"),
    Column("flux_psf_error", np.float64, "image", "1 sigma of flux_psf"),
    Column("psf_chi2", np.float64, "", "chi^2 of the fit by the degrees of freedom"),
    Column("used", np.bool_, "", "whether the function rests on it"),
    Column("reason", np.str_, "", "why it does not"),
)

#: What is measured with a point-spread function.
PSF: tuple[Column, ...] = (
    Column("x_psf", np.float64, "pix", "column of the centre by the fit; where it is held, the one that was given"),
    Column("y_psf", np.float64, "pix", "row of the centre by the fit; where it is held, the one that was given"),
    Column("x_psf_error", np.float64, "pix", "1 sigma of x_psf; 0 where it is held"),
    Column("y_psf_error", np.float64, "pix", "1 sigma of y_psf; 0 where it is held"),
    Column("flux_psf", np.float64, "image", "flux by the point-spread function, neighbours taken into account"),
    Column("flux_psf_error", np.float64, "image", "1 sigma of flux_psf, without that of the function"),
    Column("mag_psf", np.float64, "mag", "instrumental magnitude -2.5 log10(flux_psf)"),
    Column("mag_psf_error", np.float64, "mag", "1 sigma of mag_psf"),
    Column("psf_sky", np.float64, "image", "sky per pixel below the star"),
    Column("psf_chi2", np.float64, "", "chi^2 of the fit by the degrees of freedom: 1 where the model is right"),
    Column("psf_share", np.float64, "", "share of the light in the stamp that fell on usable pixels"),
    Column("psf_flags", np.uint32, "", "OR of the pixel flags within one FWHM"),
    Column("psf_group", np.int64, "", "sources of one number were solved for jointly; -1: not measured"),
    Column(
        "psf_status", np.str_, "", "ok; position held; not converged; beneath another (found in the remains); no pixels"
    ),
)


#: All columns a catalogue of larun may have, with the suffix that numbers those of several apertures.
GROUPS: tuple[tuple[str, tuple[Column, ...]], ...] = (
    ("", DETECTED),
    ("", SKY),
    ("_k", APERTURE),
    ("", TOTAL),
    ("", ELLIPSE),
    ("_k", ELLIPTICAL),
    ("", KRON),
    ("", MORPHOLOGY),
    ("", PSF),
)


def table(columns: tuple[Column, ...], values: dict[str, Any], unit: str) -> QTable:
    """A table of the columns that have values, with units and descriptions.

    Parameters
    ----------
    columns : tuple of Column
        In their order.
    values : dict
        By column name.
    unit : str
        What ``"image"`` stands for.
    """
    from astropy.table import Column as TableColumn
    from astropy.table import QTable
    from astropy.units import Quantity, Unit

    made = QTable()
    for column in columns:
        if column.name not in values:
            continue
        data = np.asarray(values[column.name], dtype=column.dtype)
        name = unit if column.unit == "image" else column.unit
        if name:
            made[column.name] = Quantity(data, Unit(name))
            made[column.name].info.description = column.description
        else:
            made[column.name] = TableColumn(data, description=column.description)
    return made


#: Digits that mean something, by unit: a thousandth of a pixel, a few milliarcseconds, a millimagnitude.
_FORMATS = {"pix": ".3f", "deg": ".6f", "mag": ".3f"}


def readable(table: QTable) -> QTable:
    """The table as people read it: floats with the digits that mean something, nothing else changed."""
    shown = table.copy(copy_data=False)
    for column in shown.itercols():
        if getattr(getattr(column, "dtype", None), "kind", "") == "f" and column.info.format is None:
            column.info.format = _FORMATS.get(str(column.info.unit), ".6g")
    return shown
