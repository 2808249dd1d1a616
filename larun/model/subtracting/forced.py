"""Fluxes at given places of a difference, as a table, and with the noise that its epochs have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.forced import Forced, Noise, covariance, forced_flux, noise_of
from larun.errors import OptionError
from larun.model.measure import schema
from larun.model.measure.measuring import with_sky_coordinates
from larun.model.measure.schema import PLACES, Column
from larun.model.planes import total_variance
from larun.model.subtracting.common import part_of
from larun.provenance import Provenance

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.difference import DifferenceImage

__all__ = ["FORCED", "Measured", "forced_table", "measured", "subtraction_of"]

#: The columns of fluxes at given places of a difference.
FORCED: tuple[Column, ...] = (
    Column("id", np.int32, "", "number of the place, from 1"),
    *(column for column in PLACES if not column.name.endswith("_error")),
    Column("flux", np.float64, "image", "light more than in the reference, by the PSF of the difference"),
    Column("flux_error", np.float64, "image", "1 sigma of flux; the reference's noise is in it"),
    Column("snr", np.float64, "", "flux over its error"),
    Column("flux_limit", np.float64, "image", "upper limit: what is more than this would have been seen"),
    Column("chi2", np.float64, "", "chi^2 of what the PSF leaves, by its degrees of freedom"),
    Column("psf_share", np.float64, "", "share of the squares of the PSF on usable pixels"),
    Column("flags", np.uint32, "", "OR of the pixel flags within one FWHM"),
)


class Measured(NamedTuple):
    """Places of one difference: each flux with its noise, and the part that the science image has of the reference."""

    fluxes: list[Forced]
    noise: list[Noise]
    part: float


def subtraction_of(image: DifferenceImage) -> Provenance:
    """The node of its record that subtracted.

    Raises
    ------
    OptionError
        If there is none.
    """
    for node in image.provenance.line():
        if node.step is not None and node.step.operation == "subtract":
            return node
    raise OptionError(f"{image!r}: its record has no subtraction")


def measured(image: DifferenceImage, x: NDArray[np.float64], y: NDArray[np.float64]) -> Measured:
    """The fluxes at places (n,)."""
    node = subtraction_of(image)
    science, reference = (
        next(parent.provenance for parent in node.parents if parent.role == role) for role in ("self", "reference")
    )
    total = total_variance(image)
    assert total is not None
    psf, how = image.point_spread, (image.convolved, image.noise_acf is None)
    planes = image.data, total, image.shared[-1].variance, image.flags
    places = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    fluxes = [forced_flux(planes, psf, *place) for place in places]
    noise = [noise_of(one, psf, image.kernel_at(*place), place, how) for one, place in zip(fluxes, places, strict=True)]
    return Measured(fluxes, noise, part_of(science, reference))


def forced_table(image: DifferenceImage, x: NDArray[np.float64], y: NDArray[np.float64], sigma: float) -> QTable:
    """The table of fluxes at places (n,), with upper limits of so many standard deviations."""
    found = measured(image, x, y)
    error = np.array([np.sqrt(covariance([one], [found.part])[0, 0]) for one in found.noise])
    flux = np.array([one.flux for one in found.fluxes])
    values: dict[str, Any] = {
        "id": np.arange(1, len(x) + 1),
        "x": x,
        "y": y,
        "flux": flux,
        "flux_error": error,
        "snr": flux / error,
        "flux_limit": np.maximum(flux, 0) + sigma * error,
        "chi2": [one.chi2 for one in found.fluxes],
        "psf_share": [one.share for one in found.fluxes],
        "flags": [one.flags for one in found.fluxes],
        **with_sky_coordinates(image, x, y),
    }
    table = schema.table(FORCED, values, image.unit)
    about = {"fwhm": float(image.point_spread.fwhm), "limit": sigma, "part_of_reference": found.part}
    table.meta = {"schema": schema.VERSION, **about}
    return table
