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


@pytest.mark.parametrize("number", ["0021", "0072", "0121", "0153"])
def test_the_event_is_the_first_candidate_without_doubt_and_there_are_few_others(reference, number):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        made = frame(number).align_to(reference).subtract(reference, options=larun.SubtractOptions(order=1))
    assert made.provenance.step.fitted["aligned"] is None
    table = made.detect().table
    good = table[~table["doubt"]]
    away = np.hypot(good["x"].value - EVENT[0], good["y"].value - EVENT[1])
    assert away[0] < 1.0
    assert good["snr"][0] > 50
    assert good["flux"][0] < 0  # it was brighter on the reference
    assert np.count_nonzero((away > 2.0) & (good["snr"] > 8)) <= 3


def test_second_images_of_a_frame_on_which_the_telescope_moved_are_doubted(reference):
    """Every bright star of frame 0098 has another image 28 pixels to the right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        made = frame("0098").align_to(reference).subtract(reference, options=larun.SubtractOptions(order=1))
    table = made.detect().table
    others = [name for name in table.colnames if table[name].dtype == bool and name not in ("doubt", "second_image")]
    looks_real = ~np.any([table[name] for name in others], axis=0)
    assert looks_real.sum() > 50
    assert np.count_nonzero(~table["doubt"]) <= 5
