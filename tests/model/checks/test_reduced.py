"""Simulated nights, reduced: what is wrong with their frames is named, and clean ones raise no alarm."""

import pytest

from larun.model.checks import fluxes, illumination, shapes, skies, suite
from larun.simulate.night import simulate_night
from larun.simulate.options import Conditions, Faults, Optics, Tracking
from tests.model.checks.frames_of_night import SHAPE, faults, options, reduced, simulated

OWN = ("focus", "trailing", "sky", "clouds", "satellite trails", "cosmic rays", "shutter", "fringes", "dust")
OWN += ("time stamps", "exposure time", "filter", "kind", "duplicates", "pointing", "odd frame")


def _material(tmp_path, **changes):
    return reduced(simulated(tmp_path / "night", **changes), tmp_path / "out")


def test_a_clean_night_raises_no_alarm(tmp_path):
    conditions = Conditions(extinction=0.2, sky_gradient=(0.1, -0.05), gradient_change=(0.2, 0.0), sky_change=0.3)
    material = _material(tmp_path, seed=2, conditions=conditions)
    tests = tuple(test for test in suite.TESTS if test.name in OWN)
    assert len(tests) == len(OWN)
    assert faults(suite.run(material, "night", tests)) == {}


def test_streaks_are_found_where_they_are_and_nowhere_else(tmp_path):
    truth = simulate_night(
        tmp_path / "night", seed=3, shape=SHAPE, options=options(frames=6, faults=Faults(satellites=0.4))
    )
    crossed = {one.path.stem for one in truth.frames if one.satellites}
    found = faults(skies.satellite_trails(reduced(tmp_path / "night", tmp_path / "out")))
    assert 1 <= len(crossed) < 12
    assert {where for _, where in found} == crossed


def test_a_frame_out_of_focus_and_one_under_clouds_are_named(tmp_path):
    seeing = [3.0, 3.1, 2.9, 3.0, 3.2, 3.0, 6.5, 2.9]
    light = [1.0, 0.4, 1.0, 0.98, 1.0, 0.97, 1.0, 1.0]
    material = _material(tmp_path, conditions=Conditions(seeing=seeing, transparency=light))
    assert [where for _, where in faults(shapes.focus(material))] == ["science-R-003"]
    cloudy = faults(fluxes.clouds(material))
    assert list(cloudy) == [("bad", "science-V-002")]
    assert "1.0" in cloudy["bad", "science-V-002"]  # magnitudes


def test_a_night_out_of_focus_is_named_though_all_frames_are_alike(tmp_path):
    found = faults(shapes.focus(_material(tmp_path, frames=2, optics=Optics(donut=7.0), magnitudes=(12.0, 18.0))))
    assert len(found) == 4
    assert all("rings" in text for text in found.values())


def test_a_telescope_that_drifts_is_named(tmp_path):
    material = _material(tmp_path, tracking=Tracking(drift=(240.0, 0.0)))
    found = faults(shapes.trailing(material))
    assert [where for _, where in found] == [""]
    assert "8 of 8 frames" in next(iter(found.values()))


@pytest.mark.parametrize(
    ("changes", "test", "told"),
    [
        ({"fringes": (0.04, 0.04)}, illumination.fringes, "share fine structure"),
        ({"dust_shift": 30.0}, illumination.dust, "dust moved"),
        ({"shutter": 0.15}, illumination.shutter, "exposed"),
    ],
)
def test_what_all_frames_have_in_common_is_named(tmp_path, changes, test, told):
    material = _material(tmp_path, shape=(512, 512), star_density=600.0, faults=Faults(**changes))
    found = faults(test(material))
    assert found
    assert all(told in text for text in found.values())
