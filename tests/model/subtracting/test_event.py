"""A microlensing event in a crowded field, found blindly on real frames (kb13475)."""

import warnings

import numpy as np
import pytest

import larun
from tests.conftest import real_data

EVENT = (288.0, 215.0)


def frame(number):
    read = larun.Frame.read(real_data(f"kb13475/AKB13475I{number}.fits.fz"))
    return read.calibrate(without=("bias", "dark", "flat")).clean()


@pytest.fixture(scope="module")
def reference():
    return frame("0100")


@pytest.fixture(scope="module")
def difference(reference):
    """Less the reference, by the number of a frame; each is made once."""
    made = {}

    def subtracted(number):
        if number not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", larun.errors.LarunWarning)
                aligned = frame(number).align_to(reference)
                made[number] = aligned.subtract(reference, options=larun.SubtractOptions(order=1))
        return made[number]

    return subtracted


@pytest.mark.parametrize("number", ["0021", "0072", "0121", "0153"])
def test_the_event_is_the_first_candidate_without_doubt_and_there_are_few_others(difference, number):
    made = difference(number)
    assert made.provenance.step.fitted["aligned"] is None
    table = made.detect().table
    good = table[~table["doubt"]]
    away = np.hypot(good["x"].value - EVENT[0], good["y"].value - EVENT[1])
    assert away[0] < 1.0
    assert good["snr"][0] > 50
    assert good["flux"][0] < 0  # it was brighter on the reference
    assert np.count_nonzero((away > 2.0) & (good["snr"] > 8)) <= 3


def test_second_images_of_a_frame_on_which_the_telescope_moved_are_doubted(difference):
    """Every bright star of frame 0098 has another image 28 pixels to the right."""
    table = difference("0098").detect().table
    others = [name for name in table.colnames if table[name].dtype == bool and name not in ("doubt", "second_image")]
    looks_real = ~np.any([table[name] for name in others], axis=0)
    assert looks_real.sum() > 50
    assert np.count_nonzero(~table["doubt"]) <= 5


def test_the_light_curve_of_the_event_has_its_shape_and_a_constant_star_has_none(reference, difference):
    """It changes little in the night of JD 2456507, and falls across 2456508."""
    stars = reference.detect().photometer((1.0,)).select("snr > 100 and x > 60 and x < 450 and y > 60 and y < 450")
    bright = stars.table[np.argsort(-stars["aperture_flux_1"].value)[8]]
    places = [EVENT, (bright["x"].value, bright["y"].value)]
    numbers = ("0072", "0082", "0098", "0121", "0153")
    curve = larun.LightCurve.from_differences([difference(number) for number in numbers], places)
    time, flux = curve.curve(1)["jd_utc"].value, curve.curve(1)["flux"].value
    assert np.all(curve.good(1))
    assert np.all(np.diff(time) > 0)
    assert np.count_nonzero(time < 2456507.9) == 2
    fall = flux[2] - flux[4]
    assert abs(flux[1] - flux[0]) < 0.05 * fall  # of one night: flat
    assert flux[2] > flux[3] > flux[4]
    assert fall > 100 * curve.curve(1)["flux_error"].value.max()
    light = bright["aperture_flux_1"].value
    assert np.abs(curve.curve(2)["flux"].value).max() < 0.03 * light
