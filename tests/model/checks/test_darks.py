"""Dark current, glow and leaks."""

import numpy as np
import pytest
from astropy.io import fits

from larun.model.checks.darks import amplifier_glow, dark_current, light_leak
from larun.simulate import Faults
from tests.conftest import real_data
from tests.model.checks.rawnights import material_of, night


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return night(tmp_path_factory.mktemp("clean"), dark_exposures=(20.0, 60.0))


@pytest.mark.parametrize("test", [dark_current, amplifier_glow, light_leak])
def test_a_clean_night_is_good(clean, test):
    (found,) = test(material_of(clean))
    assert found.status == "good", found


def test_the_dark_current_is_right_within_its_error(clean):
    (found,) = dark_current(material_of(clean))
    assert abs(found.value - 0.05) < 4 * found.error
    assert found.error < 0.01


def test_the_pull_of_the_dark_current(tmp_path):
    pulls = []
    for seed in range(30):
        folder = night(tmp_path / str(seed), seed=seed, flats=2, frames=0, biases=4, camera={"dark_rate": 0.5})
        (found,) = dark_current(material_of(folder))
        pulls.append((found.value - 0.5) / found.error)
    assert 0.6 < np.std(pulls) < 1.3
    assert abs(np.mean(pulls)) < 0.7


def test_a_warm_detector(tmp_path):
    (found,) = dark_current(material_of(night(tmp_path / "n", camera={"dark_rate": 3.0})))
    assert found.status == "doubtful"
    assert found.fix == "cool the detector"


def test_a_dark_that_is_none(clean, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for path in clean.glob("*.fits"):
        (folder / path.name).write_bytes(path.read_bytes())
    with fits.open(folder / "dark-060s-002.fits", mode="update") as file:
        file[0].data[:, :128] += 25
    (found,) = dark_current(material_of(folder))
    assert found.status == "bad"
    assert "dark-060s-002.fits" in found.meaning


def test_darks_that_do_not_grow_with_the_time(clean, tmp_path):
    folder = tmp_path / "late"
    folder.mkdir()
    for path in clean.glob("*.fits"):
        (folder / path.name).write_bytes(path.read_bytes())
    for path in folder.glob("dark-*.fits"):
        with fits.open(path, mode="update") as file:
            file[0].data[:, :128] += 12
    (found,) = dark_current(material_of(folder))
    assert found.status == "doubtful"
    assert "does not grow with the time" in found.meaning


def test_the_glow_of_an_amplifier_is_not_a_leak(tmp_path):
    material = material_of(night(tmp_path / "n", faults=Faults(glow=3.0)))
    (glow,), (leak,) = amplifier_glow(material), light_leak(material)
    assert glow.status == "bad"
    assert "lower left" in glow.meaning
    assert glow.value == pytest.approx(3.0, rel=0.25)
    assert leak.status == "good"


def test_a_leak_is_not_the_glow_of_an_amplifier(tmp_path):
    material = material_of(night(tmp_path / "n", faults=Faults(light_leak=1.0)))
    (glow,), (leak,) = amplifier_glow(material), light_leak(material)
    assert leak.status == "bad"
    assert "upper right" in leak.meaning
    assert leak.value == pytest.approx(1.0, rel=0.25)
    assert glow.status == "good"


def test_without_darks_or_biases_nothing_is_said(tmp_path):
    material = material_of(night(tmp_path / "n", darks=0))
    assert {next(iter(test(material))).status for test in (dark_current, amplifier_glow, light_leak)} == {"untested"}
    material = material_of(real_data("tres1"))
    for test in (dark_current, amplifier_glow, light_leak):
        (found,) = test(material)
        assert found.status == "untested"
        assert "biases" in found.meaning


def test_darks_of_two_exposures_do_without_biases(tmp_path):
    options = {"biases": 0, "dark_exposures": (10.0, 60.0), "faults": Faults(glow=3.0)}
    (glow,) = amplifier_glow(material_of(night(tmp_path / "n", **options)))
    assert glow.status == "bad"
    assert glow.value == pytest.approx(3.0, rel=0.25)
