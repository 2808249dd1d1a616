"""``Detector.measure`` and ``detector.gain=measured``: numbers from frames, kept in the products."""

import math

import numpy as np
import pytest

import larun
from larun.errors import OptionError
from larun.model.headers import source_of, split_given
from larun.model.night import Night
from larun.model.raw.reduction import measure, of_image
from larun.model.recipe import Recipe
from larun.model.transfer import transfer
from larun.simulate import photons, read_out
from tests.conftest import real_data
from tests.model.checks.rawnights import edit, night

HALVES = larun.Detector(
    amplifiers=(
        larun.Amplifier(data=(0, 128, 0, 128), overscan=(0, 128, 256, 272), gain=1.8, read_noise=6.0, name="L"),
        larun.Amplifier(data=(0, 128, 128, 256), overscan=(0, 128, 272, 288), gain=1.2, read_noise=9.0, name="R"),
    )
)


def frames_of(detector, levels, seed, says):
    rng = np.random.default_rng(seed)
    shape = detector.trimmed_shape
    raw = [read_out(detector, photons(np.full(shape, level), rng=rng), rng=rng) for level in levels]
    return [larun.Frame.from_arrays(pixels, detector=says) for pixels in raw]


def test_every_amplifier_is_measured_whatever_the_header_says():
    says = HALVES.with_values(gain=1.0, read_noise=1.0)
    flats = frames_of(HALVES, [30000.0, 25000.0, 20000.0], 1, says)
    biases = frames_of(HALVES, [0.0] * 4, 2, says)
    found = larun.Detector.measure(flats, biases)
    gains, noises = found.require("gain", ""), found.require("read_noise", "")
    assert gains == pytest.approx((1.8, 1.2), rel=0.05)
    assert noises == pytest.approx((6.0, 9.0), rel=0.05)
    assert found.sources["gain"].startswith("measured: ")
    assert "+-" in found.sources["gain"]
    assert "4 biases and 3 flats" in found.sources["read_noise"]
    assert found.amplifiers[0].data == HALVES.amplifiers[0].data


def test_biases_alone_tell_the_read_noise_of_every_amplifier():
    frames = [measure(of_image(frame), larun.OverscanOptions()) for frame in frames_of(HALVES, [0.0] * 4, 2, HALVES)]
    found = transfer([], frames, lambda leveled: leveled)
    assert [one.name for one in found] == ["L", "R"]
    assert [one.read_noise.value for one in found] == pytest.approx([6.0 / 1.8, 9.0 / 1.2], rel=0.05)
    assert all(math.isnan(one.overscan_noise.value) and math.isnan(one.gain.value) for one in found)


def test_the_errors_are_the_scatter():
    values = []
    for seed in range(30):
        one = larun.Detector.single(
            (128, 144), data=(0, 128, 0, 128), overscan=(0, 128, 128, 144), gain=2.0, read_noise=5.0
        )
        flats = frames_of(one, [9000.0, 12000.0], [seed, 0], one)
        biases = frames_of(one, [0.0, 0.0], [seed, 1], one)
        found = larun.Detector.measure(flats, biases)
        gain = (found.amplifiers[0].gain - 2.0) / float(found.sources["gain"].split()[3])
        noise = found.amplifiers[0].read_noise - math.hypot(5.0, 2.0 / math.sqrt(12))
        values.append((gain, noise / float(found.sources["read_noise"].split()[3])))
    width = np.std(values, axis=0)
    assert (width > 0.7).all()
    assert (width < 1.35).all()
    assert (np.abs(np.mean(values, axis=0)) < 0.7).all()


def test_what_cannot_be_measured_says_why():
    one = larun.Detector.single((64, 64), gain=2.0, read_noise=5.0)
    flats, biases = frames_of(one, [9000.0, 9000.0], 1, one), frames_of(one, [0.0, 0.0], 2, one)
    with pytest.raises(OptionError, match="two or more of one filter"):
        larun.Detector.measure(flats[:1], biases)
    with pytest.raises(OptionError, match="no biases, and a detector without overscan"):
        larun.Detector.measure(flats)
    with pytest.raises(OptionError, match="tell no gain of amplifier A"):
        larun.Detector.measure(biases, biases)
    with pytest.raises(OptionError, match="neither a raw frame nor the path"):
        larun.Detector.measure([np.zeros((4, 4))] * 2, biases)
    small = frames_of(larun.Detector.single((64, 96), gain=2.0, read_noise=5.0), [0.0], 3, None)
    with pytest.raises(OptionError, match="different size"):
        larun.Detector.measure(flats, small)


def test_the_nickel_camera():
    folder = real_data("nickel")
    biases = [folder / f"d{n}.fits.fz" for n in range(1001, 1011)]
    flats = [folder / f"d{n}.fits.fz" for n in range(1035, 1038)]
    found = larun.Detector.measure(flats, biases)
    assert found.amplifiers[0].gain == pytest.approx(1.79, rel=0.02)
    assert found.amplifiers[0].read_noise / found.amplifiers[0].gain == pytest.approx(5.8, rel=0.05)


def test_a_value_that_was_measured_is_a_text_with_its_error():
    keywords = larun.Frame.all_keywords()
    assert split_given({"gain": "1.7942 +- 0.0031 measured"}, keywords)[0] == {"gain": 1.7942}
    assert split_given({"gain": "2.01 +- 0.02, 1.9 +- 0.1 measured"}, keywords)[0] == {"gain": (2.01, 1.9)}
    assert source_of("1.7942 +- 0.0031 measured") == "measured: 1.7942 +- 0.0031"
    with pytest.raises(OptionError, match="must be a number"):
        split_given({"gain": "often measured"}, keywords)


@pytest.fixture(scope="module")
def liar(tmp_path_factory):
    """A night whose headers say half the gain and half the read noise."""
    folder = night(tmp_path_factory.mktemp("liar"), frames=1)
    edit(folder, GAIN=0.8, RDNOISE=3.0)
    return folder


@pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")
def test_a_recipe_measures_first_and_the_products_keep_the_number(liar, tmp_path):
    recipe = Recipe(detector={"gain": "measured", "read_noise": "measured"})
    summary = Night(liar).reduce(tmp_path / "out", recipe=recipe)
    assert not summary.failed
    path = next((tmp_path / "out" / "frames").glob("*.fits"))
    frame = larun.Frame.read(path)
    raw = frame.detector.raw
    assert raw.amplifiers[0].gain == pytest.approx(1.6, rel=0.03)
    assert raw.amplifiers[0].read_noise == pytest.approx(6.0, rel=0.03)
    assert raw.sources["gain"].startswith("measured: 1.")
    kept = Recipe.read(path)
    assert kept.keywords["gain"].endswith(" measured")
    assert kept.detector["gain"] == "header"
    again = Night(liar).reduce(tmp_path / "out", recipe=recipe)
    assert {row.status for row in again.rows} == {"skipped"}
    replayed = Night(liar).reduce(tmp_path / "out", recipe=kept)  # by the number alone
    assert {row.status for row in replayed.rows} == {"skipped"}


def test_one_frame_alone_is_not_measured(liar):
    raw = larun.Frame.read(liar / "science-V-001.fits")
    with pytest.raises(OptionError, match=r"one frame does not tell it; night, recipe = larun.Night"):
        Recipe(detector={"gain": "measured"}).prepare(raw)


def test_what_is_given_cannot_be_measured_as_well(liar):
    recipe = Recipe(detector={"gain": "measured"})
    with pytest.raises(OptionError, match="say one of the two"):
        Night(liar, given={"GAIN": 1.6}).masters(recipe=recipe)
    with pytest.raises(OptionError, match="use header or measured"):
        Recipe(detector={"gain": "guessed"})


def test_a_night_of_two_detectors_is_refused(tmp_path):
    folder = night(tmp_path / "two", frames=1)
    edit(folder, "flat*", INSTRUME="another")
    with pytest.raises(OptionError, match="2 detectors"):
        Night(folder).measured(Recipe(detector={"gain": "measured"}))


def test_a_night_without_flats_says_so(tmp_path):
    folder = night(tmp_path / "none", flats=1)
    with pytest.raises(OptionError, match="no two flats of one filter"):
        Night(folder).measured(Recipe(detector={"gain": "measured"}))
