"""What is found on a difference, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from larun import units
from larun.algorithms.changes import find_changes
from larun.algorithms.likelihood import probability
from larun.model.measure import schema
from larun.model.measure.measuring import with_sky_coordinates
from larun.model.measure.schema import PLACES, Column
from larun.model.planes import total_variance

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.difference import DifferenceImage

__all__ = ["COLUMNS", "found_on"]

#: The columns of what is found on a difference.
COLUMNS: tuple[Column, ...] = (
    Column("id", np.int32, "", "number of the source, from 1, by falling size of the score"),
    *PLACES,
    Column("flux", np.float64, "image", "flux of the PSF of the difference; negative for what is gone"),
    Column("flux_error", np.float64, "image", "1 sigma of flux"),
    Column("snr", np.float64, "", "score of the extreme, without its sign"),
    Column("chi2", np.float64, "", "chi^2 of the fit of the PSF, by its degrees of freedom"),
    Column("dipole_ratio", np.float64, "", "highest score of the opposite sign within 1.5 FWHM, over its own"),
    Column("dipole_moment", np.float64, "", "flux times pixels of both lobes, where they are a dipole; else 0"),
    Column("sharpness", np.float64, "", "light of the highest pixel over that of a star of this flux"),
    Column("light", np.float64, "", "noise variance here over that of the sky: light of stars"),
    Column("scatter", np.float64, "", "scatter of the score in a ring around: 1 where the noise is what it is told"),
    Column("line", np.float64, "", "mean score along the line through it where it is highest, on both sides"),
    Column("masked", np.float64, "", "share of the pixels within 1.5 FWHM that are not usable"),
    Column("flags", np.uint32, "", "OR of the pixel flags within 1.5 FWHM"),
    Column("dipole", np.bool_, "", "doubt: lobes of opposite sign, as of a star that is not where it was"),
    Column("near_bright", np.bool_, "", "doubt: on the light of a bright star, and it does not stand out there"),
    Column("near_saturated", np.bool_, "", "doubt: a saturated pixel is near"),
    Column("near_edge", np.bool_, "", "doubt: pixels without data are near"),
    Column("one_pixel", np.bool_, "", "doubt: sharper than a star, as a hot pixel or a cosmic ray is"),
    Column("misshapen", np.bool_, "", "doubt: the PSF does not fit"),
    Column("streak", np.bool_, "", "doubt: on a line of the same sign, as a spike, a trail or a bad row"),
    Column("restless", np.bool_, "", "doubt: the score scatters as much all around"),
    Column("hidden", np.bool_, "", "doubt: more than a tenth of the pixels around are not usable"),
    Column("second_image", np.bool_, "", "doubt: at the same shift from a bright star as many others from theirs"),
    Column("doubt", np.bool_, "", "whether any reason to doubt holds"),
    Column("probability", np.float64, "", "that something changed here, where half of the candidates are real"),
)

_NAMES = {"opposite": "dipole_ratio", "moment": "dipole_moment"}


def found_on(image: DifferenceImage, threshold: float) -> QTable:
    """The table of what is new and what is gone on a difference."""
    psf = image.point_spread
    variance = total_variance(image)
    assert variance is not None
    gain = 1.0 if image.unit == units.ELECTRON else (image.detector.amplifiers[0].gain or 1.0)
    found = find_changes(image.data, variance, image.flags, image.score, psf, threshold=threshold, gain=gain)
    values: dict[str, Any] = {
        _NAMES.get(name, name): column for name, column in found._asdict().items() if name != "reasons"
    }
    values |= found.reasons | {
        "id": np.arange(1, len(found.x) + 1),
        "snr": np.abs(values.pop("score")),
        "doubt": found.doubt,
        **with_sky_coordinates(image, found.x, found.y),
    }
    values["probability"] = probability(values)
    table = schema.table(COLUMNS, values, image.unit)
    table.meta = {"schema": schema.VERSION, "fwhm": float(psf.fwhm), "threshold": threshold}
    return table
