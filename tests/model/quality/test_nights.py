"""Nights whose frames are chosen by how good they are."""

import warnings

import attrs
import numpy as np
import pytest

import larun
from larun.errors import LarunWarning, OptionError
from larun.simulate import simulate_night
from tests.model.conftest import NIGHT

pytestmark = pytest.mark.filterwarnings("ignore:.*dark master")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    options = attrs.evolve(NIGHT, frames=4, star_density=2600.0, dither=6.0)
    simulate_night(folder / "raw", seed=5, options=options)
    return larun.Night(folder / "raw"), folder


@pytest.fixture(scope="module")
def table(night):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        return night[0].quality()


def test_every_science_frame_has_a_row(night, table):
    assert list(table["frame"]) == sorted(task.name for task in night[0].tasks(night[1], larun.Recipe()))
    assert np.isfinite(table["fwhm"]).all()
    for band in set(table["filter"]):
        assert np.max(table["worth"][table["filter"] == band]) == 1.0


def test_a_condition_leaves_frames_out_and_keeps_the_calibration(night, table):
    limit = float(np.sort(table["fwhm"])[-2]) + 1e-6
    widest = str(table["frame"][int(np.argmax(table["fwhm"]))])
    with pytest.warns(LarunWarning, match=f"{widest} is left out: fwhm = "):
        chosen = night[0].select(f"fwhm <= {limit}")
    assert len(chosen.of("science")) == len(table) - 1
    for kind in ("bias", "flat", "dark"):
        assert chosen.of(kind) == night[0].of(kind)
    assert widest not in [task.name for task in chosen.tasks(night[1], larun.Recipe())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        done = chosen.reduce(night[1] / "chosen")
    assert sum(row.kind == "science" for row in done.rows) == len(table) - 1


def test_products_of_a_reduction_serve(night, table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        reduced = night[0].quality(out=night[1] / "out")
    for name in ("frame", "fwhm", "worth", "sky"):
        assert list(reduced[name]) == list(table[name]), name


def test_conditions_that_hold_for_nothing_or_are_none_are_refused(night):
    with pytest.raises(OptionError, match="holds for none of"):
        night[0].select("fwhm < 0.5")
    with pytest.raises(OptionError, match=r"did you mean fwhm"):
        night[0].select("fwmh < 3")
    with pytest.raises(OptionError, match="not allowed"):
        night[0].select("__import__('os')")
