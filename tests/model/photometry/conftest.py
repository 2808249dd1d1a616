"""Catalogues of stars whose magnitudes are known, without pixels."""

import numpy as np
import pytest
from astropy.table import QTable
from astropy.units import Quantity

import larun

ZERO, TERM, EXPOSURE = 25.3, 0.05, 60.0


def make_field(seed=1, n=300, *, noise=0.01, reference_error=0.01, zero=ZERO):
    """A catalogue as photometry makes it, and the reference: the zero point is that of one electron a second."""
    rng = np.random.default_rng(seed)
    sky = np.random.default_rng(77)  # the same stars whatever the seed
    cell = 2000 / int(np.ceil(np.sqrt(n)))
    cells = np.arange(n)
    x = 50 + cell * (cells % (2000 // cell) + 0.2 + 0.6 * sky.random(n))
    y = 50 + cell * (cells // (2000 // cell) + 0.2 + 0.6 * sky.random(n))
    scale = 0.4 / 3600
    dec = 30 + y * scale
    ra = 150 + x * scale / np.cos(np.radians(dec))
    magnitude, color = sky.uniform(14, 19, n), sky.normal(0.7, 0.4, n)
    true = magnitude - zero - TERM * (color - 0.7)
    instrumental = true - 2.5 * np.log10(EXPOSURE) + rng.normal(0, noise, n)
    flux = 10 ** (-0.4 * instrumental)
    wobble = rng.normal(0, 0.05 * scale, (2, n))
    table = QTable()
    table["id"] = np.arange(1, n + 1)
    table["x"], table["y"] = Quantity(x, "pix"), Quantity(y, "pix")
    table["ra"] = Quantity(ra + wobble[0] / np.cos(np.radians(dec)), "deg")
    table["dec"] = Quantity(dec + wobble[1], "deg")
    table["flags"] = np.zeros(n, np.uint32)
    table["peak"] = Quantity(flux / 20, "electron")
    table["aperture_flux_1"] = Quantity(flux, "electron")
    table["aperture_flux_error_1"] = Quantity(np.sqrt(flux + 400), "electron")
    table["mag_total"] = Quantity(instrumental, "mag")
    table["mag_total_error"] = Quantity(np.full(n, noise), "mag")
    table.meta = {
        "fwhm": 3.0,
        "aperture_radii": [3.0],
        "exposure": EXPOSURE,
        "airmass": 1.3,
        "aperture_correction": [-0.2],
        "aperture_correction_error": [0.004],
        "aperture_correction_radius": 12.0,
        "jd_utc": 2460000.5,
    }
    known = QTable()
    known["ra"], known["dec"] = Quantity(ra, "deg"), Quantity(dec, "deg")
    # errors of a catalogue are the same whoever observes
    known["mag_g"] = Quantity(magnitude + sky.normal(0, reference_error, n), "mag")
    known["mag_g_error"] = Quantity(np.full(n, reference_error), "mag")
    known["mag_r"] = Quantity(magnitude - color + sky.normal(0, reference_error, n), "mag")
    known["mag_r_error"] = Quantity(np.full(n, reference_error), "mag")
    known["variable"] = np.zeros(n, bool)
    known.meta = {"name": "made up", "systems": {"g": "AB", "r": "AB"}}
    return table, known


def catalog_of(table):
    """The table as a catalogue."""
    made = larun.SourceCatalog.from_table(table)
    return made._replace(table=table.copy())


@pytest.fixture
def field():
    return make_field()
