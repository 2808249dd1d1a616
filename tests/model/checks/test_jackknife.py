"""Masters of halves of the frames differ by what their variances say."""

import pytest

from larun.model.checks.jackknife import master_noise
from tests.conftest import real_data
from tests.model.checks.rawnights import material_of, night


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return night(tmp_path_factory.mktemp("clean"), biases=8, darks=6, flats=6)


def test_the_masters_of_an_honest_night_have_a_width_of_one(clean):
    found = list(master_noise(material_of(clean, masters=True)))
    assert len(found) == 3
    for verdict in found:
        assert verdict.status == "good", verdict
        assert verdict.value == pytest.approx(1.0, abs=0.05)
        assert verdict.evidence.series[0].y.max() == pytest.approx(0.4, abs=0.2)  # whole counts


def test_a_false_read_noise_shows_in_the_bias(clean):
    found = {v.where: v for v in master_noise(material_of(clean, masters=True, read_noise=9.0))}
    bias = next(verdict for where, verdict in found.items() if where.startswith("bias"))
    assert bias.status == "bad"
    assert "too large" in bias.meaning


def test_two_frames_have_no_halves(tmp_path):
    found = list(master_noise(material_of(night(tmp_path / "n", biases=2, darks=0, flats=0))))
    assert [verdict.status for verdict in found] == ["untested"]


def test_a_file_that_is_cut_off_is_left_out(clean, tmp_path):
    for path in clean.glob("*.fits"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cut = tmp_path / "bias-003.fits"
    cut.write_bytes(cut.read_bytes()[:20000])
    found = next(iter(master_noise(material_of(tmp_path))))
    assert "4 and 3 frames" in found.meaning


def test_the_nickel_masters():
    found = list(master_noise(material_of(real_data("nickel"), masters=True)))
    assert len(found) == 2
    for verdict in found:
        assert 0.7 < verdict.value < 1.3
