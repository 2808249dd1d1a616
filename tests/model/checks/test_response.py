"""Linearity and saturation."""

import pytest

from larun.model.checks.response import linearity, saturation
from tests.conftest import real_data
from tests.model.checks.rawnights import edit, material_of, night

RAMP = {"camera": {"shape": (256, 256)}, "flats": 8, "flat_levels": (50000.0, 5000.0), "frames": 1, "darks": 0}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return night(tmp_path_factory.mktemp("clean"), **RAMP)


@pytest.mark.parametrize("test", [linearity, saturation])
def test_a_clean_night_is_good(clean, test):
    (found,) = test(material_of(clean))
    assert found.status == "good", found


def test_counts_that_are_not_linear(tmp_path):
    camera = {**RAMP["camera"], "linearity": (2e-6,)}
    (found,) = linearity(material_of(night(tmp_path / "n", **{**RAMP, "camera": camera})))
    assert found.status == "bad"
    assert "too small" in found.meaning
    assert found.value == pytest.approx(0.09, rel=0.35)


def test_one_level_tells_nothing(tmp_path):
    (found,) = linearity(material_of(night(tmp_path / "n", flat_levels=(20000.0, 20000.0))))
    assert found.status == "untested"
    assert "ramp" in found.meaning


def test_pixels_that_pile_up_below_the_saturation(clean, tmp_path):
    folder = tmp_path / "said"
    folder.mkdir()
    for path in clean.glob("*.fits"):
        (folder / path.name).write_bytes(path.read_bytes())
    edit(folder, SATURATE=65535.0)
    (found,) = saturation(material_of(folder))
    assert found.status == "bad"
    assert "pile up at 60000" in found.meaning
    assert found.fix.startswith("--keyword SATURATE=59")
    edit(folder, SATURATE=40000.0)
    (low,) = saturation(material_of(folder))
    assert low.status == "doubtful"
    assert "it is higher" in low.meaning


def test_a_full_well_below_the_end_of_the_converter(tmp_path):
    import numpy as np
    from astropy.io import fits

    folder = night(tmp_path / "n", **{**RAMP, "flats": 10})
    rng = np.random.default_rng(1)
    for path in folder.glob("flat*"):
        with fits.open(path, mode="update") as file:
            data = file[0].data[:, :256].astype(float)
            full = data > 39000
            data[full] = 39000 + rng.normal(0, 30, full.sum())
            file[0].data[:, :256] = data
    (found,) = saturation(material_of(folder))
    assert found.status == "bad"
    assert "full well" in found.meaning
    assert 33000 < found.value < 40000


def test_the_nickel_camera():
    (found,) = saturation(material_of(real_data("nickel")))
    assert found.status == "good"
    assert found.value == pytest.approx(65535, abs=1)
