"""Noise of real frames: the survey's gains are right, and a crowded field is called crowded."""

import warnings

import pytest

from larun import Frame, Recipe
from larun.errors import LarunWarning
from larun.model.checks import apertures, pairs, pixels, stars
from larun.model.checks.facts import frame_facts
from larun.model.checks.material import Material
from larun.model.masters import Masters
from tests.conftest import real_data


def material(paths):
    recipe = Recipe(calibrate={"without": ("bias", "dark", "flat")})
    facts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        for path in paths:
            frame = recipe.prepare(Frame.read(path))
            facts.append(frame_facts(path.name.partition(".")[0], frame, recipe.measure(frame)))
    return Material(exposures=(), recipe=recipe, camera=Frame, masters=Masters(()), facts=tuple(facts))


def test_pixels_of_a_survey_scatter_as_its_gains_say():
    night = material([real_data("sdss", f"fpC-{name}.fit.gz") for name in ("004192-r4-0300", "006377-r4-0399")])
    (noise,) = pixels.pixel_noise(night)
    assert noise.status == "good"
    assert noise.value == pytest.approx(1, abs=0.03)
    (difference,) = pairs.frame_pairs(night)
    assert difference.value == pytest.approx(1, abs=0.03)
    (repeated,) = stars.stars_repeat(night)
    assert repeated.where.startswith("r, 53.9")
    assert 0.8 < repeated.value < 1.3


def test_a_crowded_field_is_no_fault_of_the_gain():
    night = material([real_data("kb13475", f"AKB13475I{number}.fits.fz") for number in ("0100", "0124")])
    assert all(item.noise.structured for item in night.facts)
    (noise,) = pixels.pixel_noise(night)
    assert noise.status == "good", str(noise)
    (empty,) = apertures.empty_apertures(night)
    assert "crowded" in empty.meaning
    (difference,) = pairs.frame_pairs(night)
    assert difference.status == "untested"
