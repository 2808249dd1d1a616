"""Exposure times of darks against the charge of their hot pixels."""

import pytest

from larun.model.checks.exposuretimes import exposure_time
from tests.conftest import real_data
from tests.model.checks.frames_of_night import edited, faults, raw_material, simulated


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("darks") / "night"
    return simulated(folder, flats=0, frames=0, dark_exposures=(3.0, 20.0, 60.0))


def test_right_exposure_times_are_good(night):
    (verdict,) = exposure_time(raw_material(night))
    assert verdict.status == "good"
    assert "9 darks" in verdict.meaning


@pytest.mark.parametrize(("name", "said", "true"), [("dark-060s-002", 20.0, 60.0), ("dark-003s-001", 60.0, 3.0)])
def test_a_dark_of_another_exposure_time_is_named_with_the_time_it_holds(night, tmp_path, name, said, true):
    found = list(exposure_time(raw_material(edited(night, tmp_path / "n", {name: {"EXPTIME": said}}))))
    assert [(v.status, v.where) for v in found] == [("bad", name)]
    assert found[0].expected == said
    assert abs(found[0].value - true) < 5 * found[0].error
    assert found[0].error < 0.05 * true


def test_groups_that_are_swapped_are_told_as_such(night, tmp_path):
    cards = {f"dark-003s-{n:03d}": {"EXPTIME": 60.0} for n in (1, 2, 3)}
    cards |= {f"dark-060s-{n:03d}": {"EXPTIME": 3.0} for n in (1, 2, 3)}
    found = faults(exposure_time(raw_material(edited(night, tmp_path / "n", cards))))
    assert len(found) >= 1
    assert all("swapped" in text for text in found.values())


def test_a_dark_without_a_time_is_told(night, tmp_path):
    from astropy.io import fits

    folder = edited(night, tmp_path / "n", {})
    fits.delval(folder / "dark-020s-001.fits", "EXPTIME")
    found = faults(exposure_time(raw_material(folder)))
    assert list(found) == [("doubtful", "dark-020s-001")]


def test_the_darks_of_a_real_camera_are_right():
    (verdict,) = exposure_time(raw_material(real_data("tres1")))
    assert verdict.status == "good"
    assert "10 darks" in verdict.meaning
