"""Tests of the frames of a night against each other, on facts whose truth is known."""

import re

import attrs
import numpy as np
import pytest

from larun.algorithms.streaks import Streak
from larun.model.checks import exposuretimes, fluxes, oddframes, shapes, skies
from tests.model.checks.frames_of_night import faults
from tests.model.checks.made import Sky, clean, material

TESTS = {
    "focus": shapes.focus,
    "trailing": shapes.trailing,
    "sky": skies.sky,
    "clouds": fluxes.clouds,
    "cosmic rays": skies.cosmic_rays,
    "satellite trails": skies.satellite_trails,
    "exposure time": exposuretimes.exposure_time,
    "filter": fluxes.filters,
    "pointing": fluxes.pointing,
    "odd frame": oddframes.odd_frame,
}
ODD = "science-V-003"


def _of(test, night):
    return list(TESTS[test](material(night)))


def _broken(rng, **changes):
    return clean(rng, **{ODD: changes})


def test_clean_nights_give_no_alarm(rng):
    """20 nights, 200 frames: 10 tests."""
    alarms = dict.fromkeys(TESTS, 0)
    for _ in range(20):
        night = material(clean(rng))
        for name, test in TESTS.items():
            verdicts = list(test(night))
            assert {v.test for v in verdicts} == {name}
            alarms[name] += bool(faults(verdicts))
    assert alarms == dict.fromkeys(TESTS, 0)


@pytest.mark.parametrize(
    ("test", "changes", "told"),
    [
        ("focus", {"fwhm": 6.0}, "6.0 pixels wide"),
        ("focus", {"hollow": 0.6, "fwhm": 6.0}, "rings: 60 %"),
        ("trailing", {"shear": 0.25}, "drawn out at (0|1|179)°"),
        ("trailing", {"shear": 0.25j}, "drawn out at 4[456]°"),
        ("sky", {"sky": 14.0}, "times the other frames in V"),
        ("sky", {"gradient": (0.5, 0.0)}, "50 % from edge to edge"),
        ("clouds", {"light": 0.4}, "% of the light is lost"),
        ("cosmic rays", {"cosmic": 2000}, "2000 pixels in 60 s"),
        ("satellite trails", {"streaks": (Streak(0, 10, 1023, 400, 21.0, 30.0, 250.0),)}, "at 21°, 30 σ"),
        ("exposure time", {"truly": 30.0}, "the header says 60 s, but stars"),
        ("exposure time", {"truly": 120.0}, "have the light of 1"),
        ("filter", {"seen": "R", "sky": 6.0}, "against 'R': it is that filter"),
        ("odd frame", {"fwhm": 7.0, "sky": 30.0}, "star size"),
    ],
)
def test_one_frame_that_is_wrong_is_named_and_no_other(rng, test, changes, told):
    for _ in range(2):
        found = faults(_of(test, _broken(rng, **changes)))
        assert [where for _, where in found] == [ODD]
        assert re.search(told, next(iter(found.values())))


def test_the_exposure_time_that_the_light_tells_is_right(rng):
    for _ in range(4):
        (verdict,) = _of("exposure time", _broken(rng, truly=120.0))
        assert abs(verdict.value - 120.0) < 5 * verdict.error
        assert verdict.error < 8.0
        assert not any("exposure" in v.meaning for v in _of("clouds", _broken(rng, light=0.4)))


def test_a_frame_that_was_read_in_half_is_odd(rng):
    night = clean(rng)
    cells = night[2].sky.cells.copy()
    cells[64:] = 0.0
    night[2] = attrs.evolve(night[2], sky=night[2].sky._replace(cells=cells))
    found = faults(_of("odd frame", night))
    assert [where for _, where in found] == [ODD]
    assert "50 % of the frame have no sky like the rest" in next(iter(found.values()))


def test_poor_seeing_is_no_other_filter_and_a_long_exposure_no_clear_sky(rng):
    night = _broken(rng, fwhm=6.0)
    flux = night[2].stars.flux * np.exp(rng.normal(0, 0.2, len(night[2].stars.flux)))  # neighbours in apertures
    night[2] = attrs.evolve(night[2], stars=night[2].stars._replace(flux=flux))
    assert not faults(_of("filter", night))
    assert not faults(_of("clouds", _broken(rng, exposure=6.0, truly=60.0)))


def test_clouds_are_not_taken_for_a_wrong_exposure_time_nor_the_reverse(rng):
    assert not faults(_of("exposure time", _broken(rng, light=0.4)))
    assert not faults(_of("clouds", _broken(rng, truly=20.0)))


def test_a_frame_of_another_field_is_named_with_the_field_it_shows(rng):
    other = Sky(rng, name="NGC 4147", center=(182.5, 18.5))
    night = _broken(rng, shown=other)
    ((_, where), text) = next(iter(faults(_of("pointing", night)).items()))
    assert where == ODD
    assert "do not match" in text
    night += [other.frame("there")]
    assert "they match NGC 4147" in next(iter(faults(_of("pointing", night)).values()))


def test_a_pointing_that_is_off_is_named(rng):
    found = faults(_of("pointing", _broken(rng, center=(202.5, 18.2))))
    assert [where for _, where in found] == [ODD]
    assert "12.0'" in next(iter(found.values()))


def test_fields_without_enough_to_compare_are_not_tested(rng):
    night = [Sky(rng, name=f"field {n}", center=(10.0 * n, 0.0)).frame(f"f{n}") for n in range(4)]
    for test in ("clouds", "exposure time", "filter", "pointing", "odd frame"):
        assert [v.status for v in _of(test, night)] == ["untested"], test
    for test in TESTS:
        assert {v.status for v in _of(test, [])} == {"untested"}


def test_a_whole_night_that_trails_is_the_optics_or_the_axis(rng):
    night = clean(
        rng, **{name: {"shear": 0.25} for name in [f"science-{b}-{n:03d}" for b in "VR" for n in range(1, 6)]}
    )
    found = faults(_of("trailing", night))
    assert list(found) == [("bad", "")]
    assert "the stars of 10 of 10 frames" in found["bad", ""]


def test_a_meridian_flip_is_no_other_field(rng):
    night = clean(rng)
    turned = night[7]
    stars = turned.stars._replace(x=1023 - turned.stars.x, y=1023 - turned.stars.y)

    night[7] = attrs.evolve(turned, stars=stars)
    (verdict,) = _of("pointing", night)
    assert verdict.status == "good"
    assert "turned by 180°" in verdict.meaning
    assert np.isfinite([band.zero for band in material(night).fields[0].bands]).all()
