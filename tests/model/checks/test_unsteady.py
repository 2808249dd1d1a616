"""Interference and pixels that switch."""

import pytest

from larun.model.checks.unsteady import pickup, telegraph_pixels
from larun.simulate import Faults
from tests.conftest import real_data
from tests.model.checks.rawnights import material_of, night


@pytest.mark.parametrize("test", [pickup, telegraph_pixels])
def test_a_clean_night_is_good(tmp_path, test):
    (found,) = test(material_of(night(tmp_path / "n", biases=6)))
    assert found.status == "good"


@pytest.mark.parametrize(("amplitude", "status"), [(1.2, "doubtful"), (4.0, "bad")])
def test_interference_is_found_with_its_amplitude(tmp_path, amplitude, status):
    (found,) = pickup(material_of(night(tmp_path / "n", faults=Faults(pickup=amplitude))))
    assert found.status == status
    assert found.value == pytest.approx(amplitude, rel=0.2)
    assert abs(found.value - amplitude) < 5 * found.error + 0.1 * amplitude
    assert found.evidence.image is not None


def test_pixels_that_switch_are_counted(tmp_path):
    (found,) = telegraph_pixels(material_of(night(tmp_path / "n", biases=8, faults=Faults(telegraph=0.01))))
    assert found.status == "bad"
    assert 0.006 < found.value < 0.0105
    (few,) = telegraph_pixels(material_of(night(tmp_path / "few", biases=3)))
    assert few.status == "untested"


def test_the_nickel_camera():
    material = material_of(real_data("nickel"))
    assert next(iter(telegraph_pixels(material))).value < 1e-3
    assert next(iter(pickup(material))).value < 3.0
