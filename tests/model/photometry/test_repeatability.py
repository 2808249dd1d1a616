import numpy as np
import pytest
from astropy import units

import larun
from larun.errors import CatalogError, OptionError
from tests.model.photometry.conftest import catalog_of, make_field


def repeats(frames, *, noise=0.008, n=400):
    made = []
    for number in range(frames):
        table, _ = make_field(seed=number + 5, n=n, noise=noise)
        made.append(catalog_of(table))
    return made


@pytest.mark.parametrize("frames", [2, 8])
def test_metrics_are_those_of_the_noise_that_was_put_in(frames):
    """Positions scatter by 0.05 px of 0.4 arcsec in each coordinate: separations by 20 sqrt 2 = 28 mas."""
    found = larun.repeatability(repeats(frames))
    assert found["PA1"].value == pytest.approx(8.0, rel=0.12)
    assert found["PA2"].value == pytest.approx(8.0 * 1.645, rel=0.12)
    assert found["PF1"].value == pytest.approx(6.1, abs=2.5)  # beyond 15 / 8 = 1.875 sigma
    assert found.normalized == pytest.approx(1.0, rel=0.1)
    assert found["AM1"].value == pytest.approx(28.3, rel=0.05)
    assert found["AD1"].value == pytest.approx(28.3 * 1.645, rel=0.05)
    assert found["AF1"].value == pytest.approx(48.0, abs=3)  # beyond 20 / 28.3 sigma
    assert np.isnan(found["AM3"].value)
    assert found["AM3"].number == 0


def test_a_shift_of_a_frame_is_told():
    one, two = repeats(2)
    table = two.table
    table["mag_total"] += 0.05 * units.mag
    assert larun.repeatability([one, catalog_of(table)]).normalized > 3
    assert "PA1" in str(larun.repeatability([one, two]))


def test_what_makes_no_sense_is_told():
    one, two = repeats(2, n=30)
    with pytest.raises(OptionError, match="two or more"):
        larun.repeatability([one])
    with pytest.raises(CatalogError, match="no column mag_x"):
        larun.repeatability([one, two], magnitude="mag_x")
    far = two.table
    far["ra"] += 1 * units.deg
    with pytest.raises(CatalogError, match="no star"):
        larun.repeatability([one, catalog_of(far)])
