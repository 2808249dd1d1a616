"""From nights, folders and frames to reports; what a reduction keeps of the cheap tests."""

import attrs
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import larun
from larun import simulate
from larun.errors import FileError, OptionError
from larun.model.checks import suite
from larun.model.checks.driver import check_products
from larun.model.checks.suite import NightTest
from larun.model.checks.verdict import Verdict


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    options = simulate.NightOptions(biases=3, darks=2, flats=3, frames=2)
    options = attrs.evolve(
        options, camera=attrs.evolve(options.camera, filters=("V",)), zero_points=(23.5,), sky=(4.0,)
    )
    folder = tmp_path_factory.mktemp("checks") / "raw"
    simulate.simulate_night(folder, shape=(160, 176), options=options)
    return folder


def wrong_gain(material):
    count = len(material.of("flat"))
    return [
        Verdict(
            test="gain", status="bad", meaning=f"GAIN = 1, {count} flats say 1.79 ± 0.01", fix="--keyword GAIN=1.79"
        )
    ]


def all_frames(material):
    return [Verdict(test="frames", status="good", meaning=", ".join(facts.name for facts in material.facts))]


@pytest.fixture
def tests(monkeypatch):
    monkeypatch.setattr(
        suite, "TESTS", (NightTest("gain", wrong_gain, cheap=True), NightTest("frames", all_frames, single=True))
    )


def test_a_reduction_keeps_what_the_cheap_tests_found(night, tests, tmp_path):
    summary = larun.Night(night).reduce(tmp_path)
    assert [(v.test, v.status) for v in summary.verdicts] == [("gain", "bad")]
    for path in [*(tmp_path / "frames").glob("*.fits"), *(tmp_path / "masters").glob("*.fits")]:
        header = fits.getheader(path)
        assert header["CHECK1"] == "bad: gain: GAIN = 1, 2 flats say 1.79 +- 0.01 [--keyword GAIN=1.79]"
    frame = larun.Frame.read(tmp_path / "frames" / "science-V-001.fits")
    assert "CHECK1" not in frame.header  # it says something of the night, the frame is what it is
    meta = Table.read(tmp_path / "summary.ecsv").meta
    assert meta["checks"][0]["test"] == "gain"
    again = larun.Night(night).reduce(tmp_path)
    assert {row.status for row in again.rows} == {"skipped"}


def test_a_night_its_products_and_a_frame_are_tested_alike(night, tests, tmp_path):
    larun.Night(night).reduce(tmp_path)
    report = larun.Night(night).check(out=tmp_path)
    assert [v.test for v in report] == ["gain", "frames"]
    assert report.of("frames")[0].meaning == "science-V-001, science-V-002"
    assert larun.Night(night).check().of("frames")[0].meaning == "science-V-001, science-V-002"
    assert check_products(tmp_path).of("frames")[0].meaning == "science-V-001, science-V-002"
    frame = larun.Frame.read(tmp_path / "frames" / "science-V-001.fits")
    assert [(v.test, v.meaning) for v in frame.check()] == [("frames", "science-V-001.fits")]


def test_products_are_searched_as_they_were_and_by_as_many_processes_as_are_told(night, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(
        suite, "TESTS", (NightTest("frames", lambda material: seen.append(material) or all_frames(material)),)
    )
    recipe = larun.Recipe(detect={"threshold": 8.0}, overscan={"method": "spline"})
    larun.Night(night).reduce(tmp_path, recipe=recipe)
    one, two = (check_products(tmp_path, processes=count) for count in (1, 2))
    assert one == two
    check_products(tmp_path, recipe=larun.Recipe(detect={"threshold": 6.0}))
    assert [material.recipe.detect["threshold"] for material in seen] == [8.0, 8.0, 6.0]
    first, second = ({facts.name: facts for facts in material.facts} for material in seen[:2])
    for name, facts in first.items():
        np.testing.assert_array_equal(facts.stars.flux, second[name].stars.flux)
        assert (facts.fwhm, facts.noise.limit) == (second[name].fwhm, second[name].noise.limit)


def test_options_that_change_nothing_in_products_are_refused(night, tmp_path):
    recipe = larun.Recipe(keywords={"GAIN": 1.79}, calibrate={"without": ("dark",)}, detect={"threshold": 6.0})
    with pytest.raises(OptionError, match=r"keywords.GAIN, calibrate.without: changes nothing in the products"):
        check_products(tmp_path, recipe=recipe)
    with pytest.raises(OptionError, match="is the folder of the raw files"):
        larun.Night(night).check(out=night)


def test_a_function_that_other_processes_cannot_find_is_refused_before_anything_is_done(night, tmp_path):
    recipe = larun.Recipe(detect={"method": lambda search: []})
    with pytest.raises(OptionError, match="method"):
        larun.Night(night).check(out=tmp_path / "out", recipe=recipe, processes=2)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_tested_says_why(night, tmp_path):
    with pytest.raises(FileError, match="holds no frames with catalogues"):
        check_products(tmp_path)
    raw = larun.Frame.read(night / "science-V-001.fits")
    with pytest.raises(OptionError, match="calibrate it first"):
        raw.check()
    with pytest.raises(OptionError, match="processes=0"):
        larun.Night(night).check(processes=0)
