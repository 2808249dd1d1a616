"""Columns, amplifiers, hot pixels, and masters that are not there."""

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.instruments.generic import Generic
from larun.model.checks import suite
from larun.model.checks.defects import bad_columns, dead_amplifier, hot_pixels, missing_masters
from larun.model.checks.material import Material
from larun.model.recipe import Recipe
from larun.simulate import Faults
from tests.conftest import real_data
from tests.model.checks.rawnights import material_of, night


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return night(tmp_path_factory.mktemp("clean"))


@pytest.mark.parametrize("test", [bad_columns, dead_amplifier, hot_pixels, missing_masters])
def test_a_clean_night_is_good(clean, test):
    (found,) = test(material_of(clean, masters=True))
    assert found.status == "good", found


def test_a_dead_column_is_found_and_known_to_the_masters(tmp_path):
    folder = night(tmp_path / "n", camera={"dead_columns": (41,)})
    (found,) = bad_columns(material_of(folder, masters=True))
    assert found.value == 1
    assert "41 (0 % of the light)" in found.meaning
    assert found.status == "doubtful"
    assert "are flagged, no value of theirs counts" in found.meaning
    (missed,) = bad_columns(material_of(folder))  # no masters, no flags
    assert missed.status == "bad"
    assert "not flagged: 41" in missed.meaning


def test_columns_that_are_bad_from_some_row_on(tmp_path):
    folder = night(tmp_path / "n", faults=Faults(bad_columns=3))
    (found,) = bad_columns(material_of(folder))
    assert found.status == "bad"
    assert found.value >= 2  # one may begin at the last rows
    assert "40 % of the light" in found.meaning


def test_hot_pixels_are_counted(tmp_path):
    folder = night(tmp_path / "n", camera={"hot_fraction": 0.04})
    (found,) = hot_pixels(material_of(folder))
    assert found.status == "bad"
    assert found.value == pytest.approx(0.04, rel=0.15)
    (none,) = hot_pixels(material_of(night(tmp_path / "none", darks=0)))
    assert none.status == "untested"


def halves(folder, dead, constant=False):
    """Two amplifiers in one file; one of them may see nothing, or not even have noise."""
    for path in folder.glob("*.fits"):
        with fits.open(path, mode="update") as file:
            header, data = file[0].header, file[0].data
            for key in ("DATASEC", "TRIMSEC", "BIASSEC"):
                del header[key]
            header["DATASECA"], header["DATASECB"] = "[1:64,1:128]", "[65:128,1:128]"
            header["BIASSECA"], header["BIASSECB"] = "[129:136,1:128]", "[137:144,1:128]"
            if dead:
                data[:, 64:128] = 1000 if constant else np.random.default_rng(1).normal(1000, 4, (128, 64))
    return folder


def test_an_amplifier_that_sees_nothing(tmp_path):
    (fine,) = dead_amplifier(material_of(halves(night(tmp_path / "fine"), False)))
    assert fine.status == "good"
    (found,) = dead_amplifier(material_of(halves(night(tmp_path / "dead"), True)))
    assert found.status == "bad"
    assert found.where == "amplifier B"
    assert "sees no light" in found.meaning


def test_an_amplifier_without_noise_stops_no_test(tmp_path):
    folder = halves(night(tmp_path / "n"), True, constant=True)
    material = material_of(folder)
    found = [verdict for test in suite.TESTS[:19] for verdict in test.run(material)]
    assert {verdict.test for verdict in found} == {test.name for test in suite.TESTS[:19]}
    (dead,) = [verdict for verdict in found if verdict.test == "dead amplifier"]
    assert dead.status == "bad"
    assert "has no noise" in dead.meaning


def test_masters_that_are_not_there(clean, tmp_path):
    material = material_of(clean)  # none was made
    found = {verdict.where: verdict for verdict in missing_masters(material)}
    assert set(found) == {"bias", "dark", "flat in V"}
    assert {verdict.status for verdict in found.values()} == {"bad"}
    told = Material(
        exposures=material.exposures,
        recipe=Recipe(calibrate={"without": ("dark",)}),
        camera=material.camera,
        masters=material.masters,
        facts=(),
    )
    assert {v.where: v.status for v in missing_masters(told)}["dark"] == "good"


def test_what_the_observatory_has_corrected_needs_no_masters():
    for folder in ("sdss", "hst"):
        (found,) = missing_masters(material_of(real_data(folder)))
        assert found.status == "good"
        assert "the observatory has corrected" in found.meaning


def test_a_file_that_is_cut_off_stops_no_test(clean, tmp_path):
    for path in clean.glob("*.fits"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "flat-V-002.fits").write_bytes((tmp_path / "flat-V-002.fits").read_bytes()[:20000])
    (found,) = bad_columns(material_of(tmp_path))
    assert found.status == "good"


def test_the_nickel_camera_has_no_darks_and_bad_columns():
    folder = real_data("nickel")
    material = material_of(folder, masters=True)
    found = {verdict.where: verdict for verdict in missing_masters(material)}
    assert set(found) == {"dark"}
    assert found["dark"].status == "doubtful"
    (columns,) = bad_columns(material)
    assert "256" in columns.meaning
    plain = Material(
        exposures=larun.Night(folder, camera=Generic).files,
        recipe=Recipe(keywords={"gain": 1.79, "read_noise": 10.4}),
        camera=Generic,
        masters=larun.Masters(()),
        facts=(),
    )
    (unknown,) = bad_columns(plain)
    assert unknown.status == "bad"
    assert "256" in unknown.meaning.partition("not flagged")[2]
