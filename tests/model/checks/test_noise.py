"""Gain and read noise of a night against what its headers say."""

import numpy as np
import pytest

import larun
from larun.model.checks.noise import gain, read_noise
from tests.conftest import real_data
from tests.model.checks.rawnights import edit, material_of, night


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return night(tmp_path_factory.mktemp("clean"))


def test_an_honest_header_is_good(clean):
    material = material_of(clean)
    (one,), (noise,) = gain(material), read_noise(material)
    assert one.status == noise.status == "good"
    assert one.value == pytest.approx(1.6, rel=0.03)
    assert one.expected == 1.6
    assert noise.value == pytest.approx(6.0 / 1.6, rel=0.03)
    assert one.evidence.series[0].x.size > 3


def test_a_false_gain_is_bad_and_says_what_it_does(clean):
    (found,) = gain(material_of(clean, gain=0.8))
    assert found.status == "bad"
    assert found.value == pytest.approx(1.6, rel=0.03)
    assert "reported errors are 4" in found.meaning  # √2
    assert "% too large" in found.meaning
    assert found.fix == "--set detector.gain=measured"
    (doubtful,) = gain(material_of(clean, gain=1.72))
    assert doubtful.status == "doubtful"
    assert "too small" in doubtful.meaning


def test_a_false_read_noise_is_bad(clean):
    (found,) = read_noise(material_of(clean, read_noise=3.0))
    assert found.status == "bad"
    assert "50 % too small" in found.meaning
    assert found.fix == "--set detector.read_noise=measured"
    (fine,) = read_noise(material_of(clean, gain=0.8))  # it is the gain that is wrong
    assert fine.status == "good"


def test_what_is_measured_is_good(clean):
    recipe = larun.Recipe(detector={"gain": "measured", "read_noise": "measured"})
    raw, told = larun.Night(clean, given={"SATURATE": 60000}).measured(recipe)
    material = material_of(clean, **dict(raw.given))
    assert {verdict.status for verdict in (*gain(material), *read_noise(material))} == {"good"}
    assert told.keywords["gain"].endswith("measured")


def test_a_header_without_either_is_bad(tmp_path):
    from astropy.io import fits

    folder = night(tmp_path / "mute")
    for path in folder.glob("*.fits"):
        with fits.open(path, mode="update") as file:
            del file[0].header["GAIN"], file[0].header["RDNOISE"]
    material = material_of(folder)
    (one,), (noise,) = gain(material), read_noise(material)
    assert one.status == noise.status == "bad"
    assert one.meaning.startswith("no gain is known")
    assert noise.meaning.startswith("no read noise is known")


def test_without_frames_nothing_is_said(tmp_path):
    folder = night(tmp_path / "none", flats=1, biases=0, darks=0, camera={"overscan": 0})
    material = material_of(folder)
    (one,), (noise,) = gain(material), read_noise(material)
    assert one.status == noise.status == "untested"
    assert "overscan" in one.meaning
    assert "no two biases" in noise.meaning


def test_the_pull_of_both_is_that_of_a_normal_distribution(tmp_path):
    pulls = []
    for seed in range(30):
        folder = night(tmp_path / str(seed), seed=seed, biases=2, darks=0, flats=2, frames=0)
        material = material_of(folder)
        (one,), (noise,) = gain(material), read_noise(material)
        pulls.append(((one.value - 1.6) / one.error, (noise.value - np.hypot(3.75, 12**-0.5)) / noise.error))
    width = np.std(pulls, axis=0)
    assert (width > 0.75).all()
    assert (width < 1.3).all()
    assert (np.abs(np.mean(pulls, axis=0)) < 0.7).all()


def test_nickel():
    material = material_of(real_data("nickel"))
    (one,), (noise,) = gain(material), read_noise(material)
    assert one.value == pytest.approx(1.79, rel=0.02)
    assert one.status == "doubtful"
    assert "GAIN = 1 in the headers is false" in one.meaning
    assert noise.value == pytest.approx(5.8, rel=0.05)
    assert "pairs of biases scatter by 5.2" in noise.meaning
    wrong = next(gain(material_of(real_data("nickel"), gain=1.0)))
    assert wrong.status == "bad"
    assert "34 % too large" in wrong.meaning


def test_two_chips_are_told_apart(tmp_path):
    folder = night(tmp_path / "chips")
    edit(folder, "flat*", CCDNUM=1)
    edit(folder, "bias*", CCDNUM=2)
    found = {verdict.where: verdict.status for verdict in gain(material_of(folder))}
    assert set(found) == {"chip 1", "chip 2", "without chip"}
