"""One field three years apart, in two bands (sdss): what moved is found, what is constant is not."""

import warnings

import numpy as np
import pytest
from astropy.table import Table

import larun
from tests.conftest import real_data

MOVING = (351.7038, 0.1975)  # of 2003, absent in 2006; degrees
#: Pixels: the largest distance at which a candidate belongs to a star.
_OF_A_STAR = 2.5


@pytest.fixture(scope="module", params=["g", "r"])
def band(request):
    return request.param


@pytest.fixture(scope="module")
def found(band):
    then, now = (
        larun.Frame.read(real_data(f"sdss/fpC-{run}-{band}4-{field}.fit.gz")).calibrate(
            without=("bias", "dark", "flat")
        )
        for run, field in (("004192", "0300"), ("006377", "0399"))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        difference = then.subtract(now)
        return difference, difference.detect().select("snr > 5").table


def test_the_moving_object_is_the_first_of_what_is_new(found):
    difference, table = found
    good = table[~table["doubt"]]
    new = good[good["flux"].value > 0][0]
    x, y = difference.wcs.world_to_pixel_values(*MOVING)
    assert new["snr"] > 25
    assert new["probability"] > 0.9
    # it moves by four pixels between the exposures in g and in r, of which the place is given
    assert np.hypot(new["x"].value - x, new["y"].value - y) < 6


def test_constant_stars_leave_no_candidate(found, band):
    """The catalogue's errors are the scatter of several epochs: what is small for its magnitude is constant."""
    difference, table = found
    stars = Table.read(real_data("sdss/reference-catalog.fits.gz"))
    constant = np.asarray(stars[band], float) < 21
    for name in "gr":
        magnitude = np.clip(np.asarray(stars[name], float), 10, 30)
        constant &= np.asarray(stars[f"{name}_err"], float) < 0.02 + 0.03 * 10 ** (0.3 * (magnitude - 20))
    right, up = (np.asarray(stars[name], float)[constant] for name in ("ra", "dec"))
    x, y = difference.wcs.world_to_pixel_values(right % 360, up)
    ny, nx = difference.shape
    inside = (x > 10) & (x < nx - 10) & (y > 10) & (y < ny - 10)
    assert inside.sum() > 40
    away = np.hypot(table["x"].value[:, None] - x[inside], table["y"].value[:, None] - y[inside]).min(axis=1)
    of_a_star = table[away < _OF_A_STAR]
    assert np.all(of_a_star["doubt"])
    assert np.all(of_a_star["probability"] < 0.5)


def test_what_is_left_is_new_or_gone_and_little_else(found):
    _, table = found
    good = table[~table["doubt"]]
    assert 3 < len(good) < 30
    assert np.count_nonzero(good["snr"] > 8) < 12
