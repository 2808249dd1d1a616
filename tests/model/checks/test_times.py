"""Time stamps that cannot be, and those that can."""

import numpy as np
import pytest
from astropy.io import fits

from larun.model.checks.times import disordered, time_stamps
from tests.conftest import real_data
from tests.model.checks.frames_of_night import edited, faults, raw_material, simulated


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("times") / "night", shape=(64, 64), frames=6, dither=2.0)


def _date(night, name):
    return fits.getval(night / f"{name}.fits", "DATE-OBS")


def _moved(night, name, seconds):
    """Cards of a file so many seconds later."""
    moved = np.datetime64(_date(night, name)) + np.timedelta64(round(seconds * 1000), "ms")
    mjd = (moved - np.datetime64("1858-11-17")) / np.timedelta64(1, "D")
    return {"DATE-OBS": str(moved), "MJD-OBS": float(mjd)}


def test_a_clean_night_is_in_order(night):
    (verdict,) = time_stamps(raw_material(night))
    assert verdict.status == "good"
    assert "28 exposures" in verdict.meaning


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-60.0, "before"),
        (3600.0, "about 1 h, a time zone"),
        (-8 * 3600.0, "about 8 h, a time zone"),
        (40 * 365.25 * 86400, "years after"),
        (-60 * 365.25 * 86400, "the clock was not set"),
    ],
)
def test_one_clock_that_jumped_is_named(night, tmp_path, seconds, told):
    name = "science-V-003"
    found = faults(time_stamps(raw_material(edited(night, tmp_path / "n", {name: _moved(night, name, seconds)}))))
    assert ("bad", name) in found
    assert told in found["bad", name]
    # the frame it runs into may be named too, and no other
    assert {where for _, where in found} <= {name, "science-V-002", "science-V-004"}


def test_a_folder_of_several_years_is_no_clock_that_was_reset(night, tmp_path):
    names = sorted(path.stem for path in night.glob("science*.fits"))
    later = {name: _moved(night, name, 1096 * 86400.0) for name in names}
    assert len(later) > 8
    assert not faults(time_stamps(raw_material(edited(night, tmp_path / "n", later))))


def test_two_exposures_that_began_together_are_named(night, tmp_path):
    cards = _moved(night, "bias-002", 0.0)
    found = faults(time_stamps(raw_material(edited(night, tmp_path / "n", {"bias-003": cards}))))
    assert any("began at" in text and "bias-002" in text for text in found.values())


def test_an_exposure_that_runs_into_the_next_is_named(night, tmp_path):
    found = faults(time_stamps(raw_material(edited(night, tmp_path / "n", {"science-V-002": {"EXPTIME": 100.0}}))))
    assert list(found) == [("bad", "science-V-003")]
    assert "20 s before science-V-002 of 100 s has ended" in found["bad", "science-V-003"]


def test_stamps_that_are_ends_are_told_as_such(tmp_path):
    night = simulated(tmp_path / "a", shape=(64, 64), frames=4, biases=0, flats=0, darks=4, dark_exposures=(3.0, 60.0))
    cards = {}
    for path in sorted(night.glob("*.fits")):
        cards[path.stem] = _moved(night, path.stem, fits.getval(path, "EXPTIME"))
    found = faults(time_stamps(raw_material(edited(night, tmp_path / "n", cards))))
    # the readout of 20 s hides all but the first short exposure after a long one: none overlaps
    assert found == {} or "ends of the exposures" in "".join(found.values())


def test_frames_without_a_time_are_told(night, tmp_path):
    folder = edited(night, tmp_path / "n", {})
    for keyword in ("DATE-OBS", "MJD-OBS"):
        fits.delval(folder / "science-R-001.fits", keyword)
    found = faults(time_stamps(raw_material(folder)))
    assert list(found) == [("doubtful", "science-R-001")]


def test_science_frames_in_daylight_are_named(night, tmp_path):
    """Local time of a telescope in California, written as if it were UTC."""
    site = {"SITELAT": 37.34, "SITELONG": -121.64}
    cards = {path.stem: dict(site) for path in night.glob("*.fits")}
    for path in night.glob("*.fits"):  # from 18 h UTC, noon there, to 18 h local time and later at night
        cards[path.stem] |= _moved(night, path.stem, 10 * 3600.0)
    dark = faults(time_stamps(raw_material(edited(night, tmp_path / "dark", cards))))
    assert dark == {}
    for path in night.glob("*.fits"):
        cards[path.stem] |= _moved(night, path.stem, 2 * 3600.0)
    found = faults(time_stamps(raw_material(edited(night, tmp_path / "day", cards))))
    ((status, _), text) = next(iter(found.items()))
    assert status == "bad"
    assert "12 science frames" in text
    assert "as if local time (UTC-8)" in text


@pytest.mark.parametrize("name", ["nickel", "tres1", "kb13475"])
def test_real_nights_are_in_order(name):
    found = faults(time_stamps(raw_material(real_data(name))))
    assert found == {}


def test_what_must_be_taken_out_for_the_rest_to_rise():
    rng = np.random.default_rng(1)
    values = np.arange(200.0)
    assert disordered(values).size == 0
    assert disordered(np.zeros(5)).size == 0
    moved = rng.choice(200, 5, replace=False)
    values[moved] += rng.choice([-1, 1], 5) * rng.uniform(20, 60, 5)
    assert set(disordered(values)) == set(moved)
