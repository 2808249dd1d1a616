"""Frames of a field against each other: worth, and the reasons for less of it."""

import numpy as np
import pytest

import larun
from larun.errors import OptionError
from tests.model.quality.scenes import READ_NOISE, frame


@pytest.fixture(scope="module")
def qualities():
    return [
        frame(seed=1).quality(),
        frame(seed=2, fwhm=4.5, shift=(12.3, -7.8)).quality(),
        frame(seed=3, light=0.5).quality(),
        frame(seed=4, sky=800.0).quality(),
        frame(seed=5, light=2.0, sky=400.0, exposure=120.0).quality(),
        frame(seed=6, field=2).quality(),
    ]


def test_worth_is_that_of_seeing_light_and_sky(qualities):
    table = larun.grade(qualities)

    def worth(light, sky, fwhm):
        return light**2 / (sky + READ_NOISE**2) / (fwhm**2 + 0.462)

    truth = np.array([worth(1, 200, 3), worth(1, 200, 4.5), worth(0.5, 200, 3), worth(1, 800, 3), worth(2, 400, 3)])
    assert np.asarray(table["worth"])[:5] == pytest.approx(truth / truth.max(), rel=0.07)
    light = np.asarray(table["light"])
    assert light[:5] / light[0] == pytest.approx([1, 1, 0.5, 1, 2], rel=0.02)
    clear = np.asarray(table["transparency"])
    assert clear[4] / clear[0] == pytest.approx(1.0, rel=0.02)


def test_reasons_name_what_costs_most(qualities):
    reasons = list(larun.grade(qualities)["reason"])
    assert "FWHM 4.5" in reasons[1]
    assert "% of its light" in reasons[2]
    assert reasons[3].index("noise 28") > reasons[3].index("worth")
    assert reasons[4] == ""
    assert "shares no stars" in reasons[5]
    assert np.isnan(larun.grade(qualities)["worth"][5])


def test_the_order_of_frames_changes_nothing(qualities):
    one, two = larun.grade(qualities), larun.grade(qualities[::-1])[::-1]
    for name in one.colnames:
        assert [str(value) for value in one[name]] == [str(value) for value in two[name]], name


def test_frames_and_paths_are_measured(qualities, tmp_path):
    made = frame(seed=1)
    made.write(tmp_path / "one.fits")
    table = larun.grade([made, tmp_path / "one.fits", qualities[1]])
    assert table["fwhm"][0] == table["fwhm"][1] == qualities[0].fwhm
    with pytest.raises(OptionError, match="no frames"):
        larun.grade([])
