"""Light from a corner."""

import numpy as np
import pytest

from larun.algorithms.corners import CORNERS, cell_means, corner_light


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("scale", [0.06, 0.3])
def test_the_right_corner_amplitude_and_scale(corner, scale):
    pulls = []
    for seed in range(12):
        y, x = np.mgrid[:32, :40] + 0.5
        dy = 32 - y if corner.startswith("upper") else y
        dx = 40 - x if corner.endswith("right") else x
        light = 3 * np.exp(-np.hypot(dy, dx) / (scale * np.hypot(32, 40)))
        image = 7 + light + np.random.default_rng(seed).normal(0, 0.05, (32, 40))
        image[5, 6] = np.nan
        found = corner_light(image, 0.05)
        assert found.corner == corner
        assert found.scale == pytest.approx(scale, rel=0.25)
        pulls.append((found.amplitude - 3) / found.error)
        assert found.amplitude == pytest.approx(3, rel=0.15)
    assert np.isfinite(pulls).all()


def test_noise_alone_is_not_significant():
    pulls = []
    for seed in range(60):
        found = corner_light(np.random.default_rng(seed).normal(0, 1, (32, 32)), 1.0)
        pulls.append(found.amplitude / found.error)
    assert np.quantile(pulls, 0.9) < 3.5


def test_cells_do_without_what_stands_out():
    plane = np.random.default_rng(1).normal(10, 1, (64, 64))
    plane[3, 3] = 1e5
    plane[16:32, 16:32] = np.nan
    made = cell_means(plane, 16)
    assert made.shape == (4, 4)
    assert made[0, 0] == pytest.approx(10, abs=0.3)
    assert np.isnan(made[1, 1])
    assert np.isfinite(made).sum() == 15
