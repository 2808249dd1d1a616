"""Overscan and biases that drift, jump or change their structure."""

import numpy as np
import pytest
from astropy.io import fits

from larun.model.checks.biases import bias_level, bias_structure, overscan_drift
from larun.model.recipe import Recipe
from tests.conftest import real_data
from tests.model.checks.rawnights import material_of, night


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return night(tmp_path_factory.mktemp("clean"), biases=8)


@pytest.fixture
def broken(clean, tmp_path):
    """Copies the night with pixels changed: ``change(path, data, number)`` gives new ones."""

    def make(pattern, change):
        folder = tmp_path / "broken"
        folder.mkdir()
        for path in sorted(clean.glob("*.fits")):
            (folder / path.name).write_bytes(path.read_bytes())
        for number, path in enumerate(sorted(folder.glob(pattern))):
            with fits.open(path, mode="update") as file:
                made = change(file[0].data.astype(float), number)
                file[0].data = np.clip(np.rint(made), 0, 65535).astype(np.uint16)
        return material_of(folder)

    return make


@pytest.mark.parametrize("test", [overscan_drift, bias_level, bias_structure])
def test_a_clean_night_is_good(clean, test):
    found = list(test(material_of(clean)))
    assert [verdict.status for verdict in found] == ["good"]


def test_a_level_that_drifts_through_the_night_is_told(broken):
    (found,) = overscan_drift(broken("*.fits", lambda data, number: data - 4.0 * number))
    assert found.status == "doubtful"
    assert "the overscan removes it" in found.meaning


def test_rows_that_drift_in_their_own_way_are_bad(broken):
    def ramp(data, number):
        return data + np.linspace(-8, 8, len(data))[:, None] * (-1) ** number

    (found,) = overscan_drift(broken("*.fits", ramp))
    assert found.status == "bad"
    assert found.fix == "--set overscan.method=spline"


def test_the_fix_mends_rows_that_drift(broken):
    def ramp(data, number):
        return data + np.linspace(-8, 8, len(data))[:, None] * (-1) ** number

    made = broken("*.fits", ramp)
    mended = material_of(made.exposures[0].path.parent, Recipe(overscan={"method": "spline", "pieces": 4}))
    (found,) = overscan_drift(mended)
    assert found.status == "good"


def test_an_overscan_that_is_not_subtracted_is_bad(clean):
    (found,) = overscan_drift(material_of(clean, Recipe(overscan={"method": "none"})))
    assert found.status == "bad"
    assert found.fix == "--set overscan.method=median"


def test_a_bias_that_jumps_is_named(broken):
    def jump(data, number):
        data[:, :128] += 9.0 * (number == 2)
        return data

    found = list(bias_level(broken("bias*", jump)))
    assert [verdict.status for verdict in found] == ["bad"]
    assert "bias-003.fits" in found[0].meaning
    assert found[0].value == pytest.approx(9.0, abs=0.5)


def test_an_overscan_that_does_not_follow_is_bad(broken):
    rng = np.random.default_rng(2)

    def wander(data, number):
        data[:, 128:] += rng.normal(0, 6)
        return data

    material = broken("*.fits", wander)
    (drift,), (level,) = overscan_drift(material), bias_level(material)
    assert drift.status == level.status == "bad"
    assert "does not follow" in drift.meaning


def test_levels_without_an_overscan_are_bad(tmp_path):
    folder = night(tmp_path / "bare", biases=8, camera={"overscan": 0, "bias_drift": 4.0})
    found = list(bias_level(material_of(folder)))
    assert found[0].status == "bad"
    assert "no overscan tells it" in found[0].meaning
    (drift,) = overscan_drift(material_of(folder))
    assert drift.status == "untested"


def test_structure_that_changes_is_found(broken):
    wave = 4.0 * np.sin(np.arange(128) / 9.0)

    def change(data, number):
        data[:, :128] += wave * (number > 3)
        return data

    (found,) = bias_structure(broken("bias*", change))
    assert found.status == "bad"
    assert "columns of the first half" in found.meaning


def test_too_few_biases_tell_nothing(tmp_path):
    material = material_of(night(tmp_path / "few", biases=2))
    assert next(iter(bias_level(material))).status == "untested"
    assert next(iter(bias_structure(material))).status == "untested"


def test_the_level_of_the_nickel_camera_drifts():
    material = material_of(real_data("nickel"))
    (found,) = overscan_drift(material)
    assert found.status == "doubtful"
    assert "biases 1001" in found.meaning
    assert "to 994" in found.meaning or "to 995" in found.meaning
