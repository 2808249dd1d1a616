"""Planes, smooth parts, and what maps have in common."""

import numpy as np
import pytest

from larun.algorithms.structure import cell_means, common, fit_patterns, smoothed
from larun.errors import OptionError


def test_means_of_cells_leave_out_what_is_not_usable(rng):
    image = rng.normal(500.0, 1.0, (40, 60)).astype(np.float32)
    usable = rng.random((40, 60)) > 0.2
    usable[:8, :8] = False
    image[~usable] = 1e6
    found = cell_means(image, usable, 8)
    assert found.shape == (5, 7)
    assert np.isnan(found[0, 0])
    assert np.isfinite(found).sum() == 34
    assert found[2, 3] == pytest.approx(image[16:24, 24:32][usable[16:24, 24:32]].mean(), rel=1e-6)
    with pytest.raises(OptionError, match="size = 50"):
        cell_means(image, usable, 50)


def test_the_error_of_what_maps_share_is_right(rng):
    """Independent noise shares nothing: over many trials the variance has mean 0 and the error that is said."""
    found = [common(rng.normal(0, 0.01, (4, 32, 32))) for _ in range(300)]
    pulls = np.array([one.variance / one.error for one in found])
    assert abs(pulls.mean()) < 0.2
    assert 0.85 < pulls.std() < 1.15


@pytest.mark.parametrize("amplitude", [0.002, 0.01])
def test_structure_far_below_the_noise_is_measured(rng, amplitude):
    y, x = np.mgrid[:64, :64]
    shared = amplitude * np.sqrt(2) * np.sin(x / 3.0 + y / 7.0)
    found = common([shared + rng.normal(0, 0.01, (64, 64)) for _ in range(5)])
    assert found.rms == pytest.approx(amplitude, rel=0.25)
    assert found.sigma > 5
    with pytest.raises(OptionError, match="two at least"):
        common([shared])


def test_patterns_are_fitted_beside_cells_that_are_far_off(rng):
    y, x = np.mgrid[:16, :16] / 15.0
    values = 3 + 2 * x - y + rng.normal(0, 0.01, (16, 16))
    values[3, 3], values[5, 6:9] = 100.0, -50.0
    values[0, 0] = np.nan
    fits = [fit_patterns(values + rng.normal(0, 0.05, (16, 16)), [np.ones((16, 16)), x, y]) for _ in range(200)]
    slopes = np.array([fit.values[1] for fit in fits])
    assert slopes.mean() == pytest.approx(2.0, abs=0.01)
    assert np.median([fit.errors[1] for fit in fits]) == pytest.approx(slopes.std(), rel=0.2)
    with pytest.raises(OptionError, match="too few"):
        fit_patterns(np.full((4, 4), np.nan), [np.ones((4, 4))])


def test_a_smooth_map_ignores_holes(rng):
    values = np.full((20, 20), 2.0)
    values[5:8, 5:8] = np.nan
    assert smoothed(values, 5)[6, 6] == pytest.approx(2.0)
    assert np.isnan(smoothed(np.full((9, 9), np.nan), 3)).all()
