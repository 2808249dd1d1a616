"""Noise of stacks and of aligned frames, in brief; ``acceptance.py`` has the same at length."""

import numpy as np
import pytest

from tests.model.stacking.acceptance import common_noise, departures, depth, noise_of, pulls


@pytest.mark.slow
@pytest.mark.parametrize("frames", [(1,), (0, 1, 2, 3)])
def test_acceptance_22_five_sigma_is_five_sigma_on_resampled_noise(frames):
    """Of one frame turned by 0.7°, and of a stack of four; 100 Mpix of each by ``acceptance.py``."""
    made = noise_of(frames, 1024, 3, threshold=3.5)
    tails, maxima = departures(made)
    assert made["scatter"] == pytest.approx(1, abs=0.006)
    assert max(tails.values()) < 4.5, made
    assert made["brute"] > 100
    assert maxima < 3, made


def test_acceptance_32_the_limiting_magnitude_of_a_stack_is_where_half_of_the_stars_are_found():
    """Four frames of other seeing, turned and shifted: own error of either magnitude 0.03."""
    limits, half, single = depth()
    assert limits == pytest.approx([half, half], abs=0.1)  # of the checks, and of quality()
    assert limits[0] - single == pytest.approx(2.5 * np.log10(2), abs=0.1)  # as deep as the noise of four


@pytest.mark.parametrize("flux", [0.0, 8000.0])
def test_acceptance_23_errors_of_apertures_on_a_stack_are_the_scatter(flux):
    """3072 places, r = 1.5 to 6 px; own error of the ratio 1.3 %."""
    found = pulls(flux)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.std(axis=1), 1, atol=0.05)
    assert (np.abs(found.mean(axis=1)) < 0.15).all()


@pytest.mark.parametrize("dithered", [False, True])
def test_acceptance_11_noise_in_common_averages_down_only_where_frames_lie_apart(dithered):
    ratio, sigma = common_noise(dithered, rounds=12)
    assert ratio == pytest.approx(1, abs=0.05)
    alone = (5.0**2 / 25 + 3.0**2) ** 0.5  # the master's counts once: not its 25th part
    assert (sigma == pytest.approx(alone, rel=0.01)) is not dithered
    if dithered:
        assert 1.1 < sigma < 1.4
