"""Two fields of standards by Landolt (1992, AJ 104, 340) on the Nickel telescope, with a table that a user would give.

The WCS of these frames is only where the telescope thought it pointed: the standards were found on the picture.
"""

import numpy as np
import pytest
from astropy.table import Table

import larun
from larun.algorithms.sphere import separation
from larun.errors import CatalogError
from tests.conftest import real_data

# Name, right ascension (to 1 s) and declination, V, its mean error, B-V; then x and y on the picture, where it is.
# PG1323-086A scattered by 0.0257 sqrt(20) = 0.11 mag, fifty times its neighbours: it varies, and is marked.
# The declination of PG1323-086B is that of Landolt (2009, AJ 137, 4186); in 1992 it was 1 arcmin off.
# PG1530+057 and its neighbours were observed once, without an error: 0.01 mag is assumed.
STANDARDS = {
    "d1047": [
        ("PG1323-086", "13:25:39", "-08:49:16", 13.481, 0.0019, -0.140, 543.8, 467.0),
        ("PG1323-086A", "13:25:49", "-08:50:22", 13.591, 0.0257, 0.393, 127.8, 624.1),
        ("PG1323-086B", "13:25:50.65", "-08:50:55", 13.406, 0.0019, 0.761, 86.6, 708.9),
        ("PG1323-086C", "13:25:50", "-08:48:37", 14.003, 0.0031, 0.707, 118.6, 342.1),
    ],
    "d1083": [
        ("PG1530+057", "15:33:11", "+05:32:27", 14.211, 0.01, 0.151, 568.7, 518.4),
        ("PG1530+057A", "15:33:10", "+05:33:45", 13.711, 0.01, 0.829, 595.9, 313.4),
        ("PG1530+057B", "15:33:18", "+05:33:48", 12.842, 0.01, 0.745, 306.4, 293.3),
    ],
}
EXTINCTION, ITS_ERROR = 0.15, 0.03  # V, mag per airmass: assumed for a clear night at Lick, 1280 m


@pytest.fixture(scope="module")
def catalogs():
    masters = larun.Night(real_data("nickel")).masters()
    return {
        name: larun.Frame.read(real_data("nickel", f"{name}.fits.fz")).calibrate(masters).clean().detect().photometer()
        for name in STANDARDS
    }


def listed(name):
    """The table as Landolt gives it."""
    columns = ("id", "RAJ2000", "DEJ2000", "Vmag", "e_Vmag", "B-V", "x", "y")
    made = Table(rows=STANDARDS[name], names=columns)
    made["variable"] = made["e_Vmag"] > 0.02
    return made


def found_by_hand(catalog, name):
    """The table with the positions that the frame's own WCS gives where the stars are on the picture."""
    made, sources = listed(name), catalog.table
    rows = [int(np.argmin(np.hypot(sources["x"].value - x, sources["y"].value - y))) for x, y in made["x", "y"]]
    away = np.hypot(sources["x"][rows].value - made["x"], sources["y"][rows].value - made["y"])
    assert away.max() < 1.0
    made["RAJ2000"], made["DEJ2000"] = sources["ra"][rows].value, sources["dec"][rows].value
    return made


@pytest.mark.parametrize("name", STANDARDS)
def test_what_was_found_by_hand_has_the_pattern_of_the_catalogue(catalogs, name):
    """The pointing is 5 to 25 arcsec off, for all stars alike; right ascensions are rounded to 15 arcsec."""
    there, here = (larun.ReferenceCatalog.open(table) for table in (listed(name), found_by_hand(catalogs[name], name)))
    north = (there["dec"] - here["dec"]).to_value("arcsec")
    east = (there["ra"] - here["ra"]).to_value("arcsec") * np.cos(there["dec"])
    assert np.ptp(north) < 4
    assert np.ptp(east) < 15
    assert 5 < np.median(separation(there["ra"], there["dec"], here["ra"], here["dec"])) * 3600 < 30
    assert there.bands == ("V", "B")


def test_without_a_wcs_that_can_be_trusted_nothing_is_made_up(catalogs):
    with pytest.raises(CatalogError, match="see whether the WCS is right"):
        catalogs["d1083"].zero_point(listed("d1083"), band="V")


def test_two_fields_agree_after_airmass(catalogs):
    made = {}
    for name, catalog in catalogs.items():
        reference = larun.ReferenceCatalog.open(found_by_hand(catalog, name), name="Landolt 1992", systems="Vega")
        made[name] = catalog.zero_point(reference, band="V", options={"extinction": EXTINCTION})
    one, two = made["d1047"], made["d1083"]
    assert list(one.stars["reason"]).count("variable") == 1
    assert np.count_nonzero(one.stars["used"]) == 3
    assert np.count_nonzero(two.stars["used"]) >= 2
    assert one.airmass == pytest.approx(1.594, abs=0.002)
    assert two.airmass == pytest.approx(1.218, abs=0.002)
    assert (one.unit, one.system) == ("electron / s", "Vega")
    error = np.sqrt(one.error**2 + two.error**2 + (ITS_ERROR * (one.airmass - two.airmass)) ** 2)
    assert error < 0.04
    assert abs(one.value - two.value) < 2 * error
    assert one.value == pytest.approx(23.7, abs=0.1)  # of a 1 m telescope


def test_the_star_that_varies_is_off_by_as_much_as_landolt_saw(catalogs):
    catalog = catalogs["d1047"]
    found = catalog.zero_point(found_by_hand(catalog, "d1047"), band="V")
    off = found.stars["residual"][found.stars["reason"] == "variable"].value
    assert abs(off[0]) == pytest.approx(0.18, abs=0.05)
