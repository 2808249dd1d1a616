"""What verdicts propose can be done with the frames of the night."""

import attrs
import pytest

from larun import Frame, Recipe
from larun.model.checks.fixes import possible
from larun.model.checks.material import Material
from larun.model.checks.verdict import Verdict
from tests.model.checks.rawnights import material_of, night

MEASURED = "--set detector.gain=measured"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return material_of(night(tmp_path_factory.mktemp("night") / "raw", flats=2, biases=3, darks=3), masters=True)


def verdict(value, **changes):
    options = {"test": "pixel noise", "status": "bad", "meaning": "", "fix": MEASURED, "expected": 1.0}
    return Verdict(value=value, **(options | changes))


def without(material, kind):
    left = tuple(item for item in material.exposures if item.kind != kind)
    return attrs.evolve(material, exposures=left)


@pytest.mark.parametrize("value", [0.6, 1.4])
def test_two_flats_tell_the_gain(whole, value):
    assert possible(verdict(value), whole).fix == MEASURED


def test_without_two_flats_numbers_must_be_given(whole):
    assert "--keyword gain=" in possible(verdict(0.6), without(whole, "flat")).fix
    flats = whole.of("flat")
    one = attrs.evolve(whole, exposures=(*without(whole, "flat").exposures, flats[0]))
    assert "--keyword gain=" in possible(verdict(1.4), one).fix
    other = verdict(0.6, fix="--without dark")
    assert possible(other, without(whole, "flat")) is other


def test_products_alone_do_not_tell_what_the_raw_night_had(whole):
    alone = Material(exposures=(), recipe=Recipe(), camera=Frame, masters=whole.masters, facts=())
    assert possible(verdict(1.4), alone).fix == MEASURED
