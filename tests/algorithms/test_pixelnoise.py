"""Noise of pixels from differences: right values, right errors, and what would explain a wrong one."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from larun.algorithms.pixelnoise import (
    NoiseTerms,
    block_noise,
    clipped_variance,
    correlation,
    mean_of_blocks,
    noise_terms,
)
from larun.errors import OptionError

SIGMA = 12.0


def noise(seed, shape=(256, 256), sigma=SIGMA):
    return np.random.default_rng(seed).normal(300, sigma, shape).astype(np.float32)


def measured(image, sigma=SIGMA, usable=None):
    usable = np.ones(image.shape, bool) if usable is None else usable
    return block_noise(image, np.full_like(image, sigma**2), usable)


def test_values_are_right_and_scatter_by_their_errors():
    near, far, along = [], [], []
    for seed in range(60):
        blocks = measured(noise(seed))
        near.append(mean_of_blocks(blocks.near, blocks.pairs))
        far.append(mean_of_blocks(blocks.far, blocks.pairs))
        along.append(correlation(blocks.near_x, blocks.far, blocks.pairs))
    for found, truth in ((near, 1.0), (far, 1.0), (along, 0.0)):
        values, errors = np.array(found).T
        assert abs(values.mean() - truth) < 0.005
        assert 0.8 < values.std(ddof=1) / np.sqrt(np.mean(errors**2)) < 1.2


def test_stars_cosmic_rays_gradients_and_holes_change_little():
    rng = np.random.default_rng(3)
    image = noise(3, (320, 320)) + np.linspace(0, 150, 320, dtype=np.float32)
    spoilt = rng.random(image.shape) < 0.003
    image[spoilt] += rng.exponential(2000, spoilt.sum()).astype(np.float32)
    image[96:160, 96:160] += rng.normal(0, 100, (64, 64)).astype(np.float32)  # a galaxy nobody masked
    usable = rng.random(image.shape) > 0.2
    image[~usable] = np.nan
    blocks = measured(image, usable=usable)
    for part in (blocks.near, blocks.far):
        found = mean_of_blocks(part, blocks.pairs)
        assert found.value == pytest.approx(1, abs=0.02)


def test_a_smoothed_image_has_correlated_neighbours_and_too_little_noise():
    image = uniform_filter(noise(5), size=(1, 3))
    blocks = measured(image)
    assert correlation(blocks.near_x, blocks.far, blocks.pairs).value == pytest.approx(2 / 3, abs=0.02)
    assert correlation(blocks.near_y, blocks.far, blocks.pairs).value == pytest.approx(0, abs=0.02)
    assert mean_of_blocks(blocks.far, blocks.pairs).value == pytest.approx(1 / 3, abs=0.02)


def test_an_image_smaller_than_a_block_is_one_block():
    assert len(measured(noise(1, (20, 300))).level) == 9
    assert len(measured(noise(1, (20, 20))).level) == 1
    assert np.isnan(mean_of_blocks(np.ones(1), np.ones(1)).error)


def test_impossible_inputs_are_refused():
    with pytest.raises(OptionError, match="must be one and"):
        block_noise(noise(1), noise(1)[:5], np.ones((256, 256), bool))
    with pytest.raises(OptionError, match="size = 5"):
        block_noise(noise(1), noise(1), np.ones((256, 256), bool), size=5)


def test_a_clip_on_normal_noise_takes_nothing():
    values = np.random.default_rng(2).normal(0, 3, 200_000)
    assert clipped_variance(values) == pytest.approx(9, rel=0.01)
    assert np.isnan(clipped_variance(np.empty(0)))


def bins(level, *, gain=1.0, read=6.0, pixel=0.0, seed=0):
    """Bins whose true noise has another gain, read noise or pixel response than the model of gain 1 and 6 electrons.

    ``gain`` times the assumed gain: true electrons are ``gain`` times as many.
    """
    level = np.asarray(level, float)
    truth = (gain * level + read**2 + (pixel * gain * level) ** 2) / gain**2
    error = 0.005 * truth
    seen = truth + error * np.random.default_rng(seed).standard_normal(len(level))
    return NoiseTerms(seen, error, np.full(len(level), 36.0), level, np.zeros(len(level)), level)


SKIES = [20.0, 60.0, 200.0, 700.0, 2000.0]


@pytest.mark.parametrize(
    ("wrong", "named", "value"),
    [
        ({"gain": 1.3}, "gain", 1.3),
        ({"gain": 0.56}, "gain", 0.56),
        ({"read": 9.0}, "read_noise", 1.5),
        ({"pixel": 0.02}, "multiplicative", 0.02),
    ],
)
def test_levels_tell_what_is_wrong(wrong, named, value):
    found = noise_terms(bins(SKIES, **wrong))
    left = {key: chi for key, chi in found.unexplained.items() if key != "none"}
    assert min(left, key=left.get) == named
    assert left[named] < 20 < found.unexplained["none"]
    estimate = getattr(found, named)
    assert estimate.value == pytest.approx(value, abs=5 * estimate.error)
    assert estimate.error < 0.05 * value


def test_one_level_is_explained_by_each_and_what_cannot_be_is_nan():
    many = noise_terms(bins([300.0], gain=0.7))
    assert max(many.unexplained[key] for key in ("gain", "read_noise", "multiplicative")) < 1e-6
    few = noise_terms(bins([3000.0], gain=1.5))
    assert np.isnan(few.read_noise.value)
    assert np.isnan(few.multiplicative.value)


@pytest.mark.parametrize(("name", "wrong"), [("gain", {"gain": 1.3}), ("read_noise", {"read": 9.0})])
def test_factors_scatter_by_their_errors(name, wrong):
    found = np.array([getattr(noise_terms(bins(SKIES, **wrong, seed=seed)), name) for seed in range(200)])
    assert 0.85 < found[:, 0].std(ddof=1) / found[:, 1].mean() < 1.15
