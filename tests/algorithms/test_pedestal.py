"""The level of dark frames, taken apart into bias level and charge."""

import numpy as np
import pytest

from larun.algorithms.pedestal import pedestal
from larun.errors import OptionError


def darks(seed, *, base=500.0, charge=0.0, read_noise=6.0, gain=1.0, frames=5, drift=0.0, side=120):
    rng = np.random.default_rng(seed)
    rate = np.full((side, side), charge)
    rate.flat[rng.choice(side * side, side)] += 2000.0  # hot pixels
    electrons = rng.poisson(rate, (frames, side, side)) + rng.normal(0, read_noise, (frames, side, side))
    return np.rint(base + drift * rng.standard_normal((frames, 1, 1)) + electrons / gain)


@pytest.mark.parametrize("gain", [0.7, 2.0])
@pytest.mark.parametrize("charge", [0.0, 20.0, 300.0])
@pytest.mark.parametrize("drift", [0.0, 15.0])
def test_the_charge_is_found_whatever_the_bias_level_does(gain, charge, drift):
    found = pedestal(darks(1, charge=charge, gain=gain, drift=drift), gain=gain, read_noise=6.0)
    # half an ADU of rounding is noise, too
    assert found.charge == pytest.approx(charge + gain**2 / 12, abs=0.03 * (charge + 36))
    assert found.read_noise == pytest.approx(6.0, rel=0.02)
    assert found.scatter**2 == pytest.approx(found.charge + found.read_noise**2, rel=0.02)
    assert found.level == pytest.approx(500, abs=(30 if drift else 3) + 0.02 * charge / gain)


def test_the_drift_is_found_to_less_than_a_count():
    values = darks(7, frames=6, base=500.3)
    drift = np.array([3.0, -2.0, 0.25, 0.0, -1.25, 0.0])
    found = pedestal(values + drift[:, None, None], gain=1.0, read_noise=6.0)
    np.testing.assert_allclose(found.drift, drift, atol=0.25)  # 6 electrons in 120 × 120 pixels: 0.05


def test_a_read_noise_that_is_too_large_gives_way_to_the_scatter():
    found = pedestal(darks(2), gain=1.0, read_noise=9.0)
    assert found.charge == 0
    assert found.level == pytest.approx(500, abs=1)
    assert found.read_noise == found.scatter == pytest.approx(6.0, rel=0.02)


def test_the_charge_is_no_more_than_the_whole_level():
    """A gain that is wrong by far: noise beyond it must not hide."""
    found = pedestal(darks(3, base=20.0), gain=4.0, read_noise=6.0)
    assert found.charge == pytest.approx(4 * 20, abs=1)
    assert found.level == 0
    assert found.scatter > 1.5 * np.hypot(found.read_noise, np.sqrt(found.charge))


def test_a_single_frame_is_compared_with_itself():
    found = pedestal(darks(4, charge=50.0, frames=1), gain=1.0, read_noise=6.0)
    assert found.charge == pytest.approx(50, abs=5)


def test_pixels_and_frames_without_a_value_do_not_count():
    values = darks(5, charge=50.0)
    expected = pedestal(values, gain=1.0, read_noise=6.0)
    values[1] = np.nan
    values[2, :40] = np.nan
    assert pedestal(values, gain=1.0, read_noise=6.0).charge == pytest.approx(expected.charge, abs=5)
    with pytest.raises(OptionError, match="too few have a value"):
        pedestal(np.full((3, 4, 4), np.nan), gain=1.0, read_noise=6.0)
    with pytest.raises(OptionError, match="frames, rows, columns"):
        pedestal(values[0], gain=1.0, read_noise=6.0)
