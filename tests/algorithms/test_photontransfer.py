"""Gain and read noise from pairs: right values, right errors, whatever falls on the frames."""

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from larun.algorithms.photontransfer import cells_of, fit_gain, mean_of_cells, pair_cells, pair_noise
from larun.algorithms.robust import Estimate
from larun.errors import OptionError

GAIN, NOISE = 1.8, 6.0  # electron/adu, electron


def flat(electrons, rng, shape=(256, 256)):
    """A flat that is vignetted, of pixels that differ."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    response = (1 - 0.15 * (x**2 + y**2)) * (1 + 0.01 * np.random.default_rng(5).standard_normal(shape))
    return (rng.poisson(electrons * response) + NOISE * rng.standard_normal(shape)) / GAIN


def pulls(estimates, truth):
    values = np.array([(one.value - truth) / one.error for one in estimates])
    return values.mean(), values.std()


READ = Estimate(NOISE / GAIN, 0.0)


def gain_of(frames, read=READ):
    pairs = [pair_cells(a, b, scaled=True) for a, b in itertools.pairwise(frames)]
    return fit_gain(pairs, read)


@pytest.mark.parametrize(("levels", "tolerance"), [((40000, 30000), 0.03), ((60, 50), 0.06)])
def test_the_gain_is_right_and_scatters_as_its_error_says(levels, tolerance):
    made = []
    for seed in range(36):
        rng = np.random.default_rng(seed)
        made.append(gain_of([flat(level, rng) for level in levels]))
    mean, width = pulls([Estimate(one.gain, one.gain_error) for one in made], GAIN)
    assert abs(mean) < 0.6
    assert 0.75 < width < 1.25
    assert all(one.gain_error < tolerance * GAIN for one in made)


def test_the_read_noise_is_right_and_scatters_as_its_error_says():
    made = []
    for seed in range(36):
        rng = np.random.default_rng(seed)
        frames = [rng.normal(1000, 4.0, (256, 256)) for _ in range(3)]
        pairs = [(0, 1), (1, 2), (2, 0)]
        made.append(pair_noise([pair_cells(frames[a], frames[b], scaled=False) for a, b in pairs]))
    mean, width = pulls(made, 4.0)
    assert abs(mean) < 0.6
    assert 0.75 < width < 1.25
    assert made[0].error < 0.02


def test_whole_counts_have_the_noise_of_rounding_too():
    rng = np.random.default_rng(3)
    one, two = np.rint(rng.normal(1000.3, 1.2, (2, 512, 512)))
    assert pair_noise([pair_cells(one, two, scaled=False)]).value == pytest.approx(math.sqrt(1.44 + 1 / 12), rel=0.01)


def test_stars_cosmic_rays_and_bad_pixels_do_not_count():
    rng = np.random.default_rng(4)
    one, two = flat(20000, rng), flat(26000, rng)
    clean = gain_of([one, two])
    hit = rng.random(one.shape) < 0.003
    one[hit] += rng.exponential(3000, hit.sum())
    one[:, 77] = np.nan
    two[40:90, 40:90] += ndimage.gaussian_filter(np.pad(np.array([[2e6]]), ((25, 24), (25, 24))), 5.0)
    assert gain_of([one, two]).gain == pytest.approx(clean.gain, rel=0.015)


def test_light_that_falls_off_in_another_way_does_not_count():
    rng = np.random.default_rng(11)
    one, two = flat(40000, rng), flat(40000, rng)
    tilted = two * (1 + 0.06 * np.linspace(-0.5, 0.5, 256))
    assert gain_of([one, tilted]).gain == pytest.approx(gain_of([one, two]).gain, rel=0.003)
    dark = rng.normal(100, 30, one.shape)  # a flat of another world
    assert gain_of([one, two, dark]).gain == pytest.approx(gain_of([one, two]).gain, rel=1e-6)


def shared_noise(level, share, rng, shape=(512, 512)):
    """Photon noise of which each pixel shares a part with its four neighbours; sums over many pixels keep theirs."""
    kernel = np.array([[0, share, 0], [share, 1 - 4 * share, share], [0, share, 0]])
    noise = ndimage.convolve(rng.standard_normal(shape), kernel, mode="wrap")
    return (level + math.sqrt(level) * noise + NOISE * rng.standard_normal(shape)) / GAIN


def test_a_ramp_tells_the_gain_where_bright_pixels_share_their_noise():
    rng = np.random.default_rng(6)
    share = 2e-7  # per electron: the variance falls by 8 times that
    frames = [shared_noise(level, share * level, rng) for level in np.repeat([5e3, 2e4, 4e4, 6e4], 2)]
    pairs = [pair_cells(a, b, scaled=True) for a, b in zip(frames[::2], frames[1::2], strict=True)]
    found = fit_gain(pairs, Estimate(NOISE / GAIN, 0.0))
    assert found.method == "curve"
    assert found.gain == pytest.approx(GAIN, rel=0.01)
    assert found.curvature == pytest.approx(-8 * share, rel=0.15)
    assert abs(found.curvature + 8 * share) < 5 * found.curvature_error


def test_without_a_ramp_what_neighbours_share_is_put_back():
    rng = np.random.default_rng(7)
    frames = [shared_noise(4e4, 0.0125, rng) for _ in range(4)]
    found = gain_of(frames)
    assert found.method == "neighbours"
    assert found.shared == pytest.approx(0.105, abs=0.02)
    assert found.gain == pytest.approx(GAIN, rel=0.02)
    assert abs(found.gain - GAIN) < 4 * found.gain_error


def test_the_error_of_the_read_noise_is_in_that_of_the_gain():
    rng = np.random.default_rng(8)
    frames = [flat(100, rng), flat(100, rng)]
    sure = gain_of(frames, Estimate(NOISE / GAIN, 0.0)).gain_error
    assert gain_of(frames, Estimate(NOISE / GAIN, 0.3)).gain_error > 3 * sure


def test_without_light_there_is_no_gain():
    rng = np.random.default_rng(9)
    frames = rng.normal(-0.1, 3.0, (2, 64, 64))
    assert not gain_of(list(frames)).gain > 0 or gain_of(list(frames)).gain_error > 0.5
    assert math.isnan(gain_of([np.full((64, 64), np.nan)] * 2).gain)


def test_cells_are_spread_over_a_large_chip():
    plane = np.arange(256 * 256, dtype=np.float32).reshape(256, 256)
    assert cells_of(plane).shape == (64, 32, 32)
    some = cells_of(plane, most=16)
    assert some.shape == (16, 32, 32)
    assert some[5, 0, 0] == plane[64, 64]
    with pytest.raises(OptionError, match="less than one cell"):
        cells_of(plane[:20])


def test_a_mean_of_cells_leaves_out_what_stands_out():
    rng = np.random.default_rng(10)
    values = rng.normal(5, 1, 400)
    values[7] = 1000
    found = mean_of_cells(values)
    assert found.value == pytest.approx(5, abs=0.2)
    assert found.error == pytest.approx(0.05, rel=0.2)
    assert math.isnan(mean_of_cells(np.array([1.0, np.nan])).value)


def test_frames_of_different_size_are_no_pair():
    with pytest.raises(OptionError, match="no pair"):
        pair_cells(np.zeros((64, 64)), np.zeros((64, 32)), scaled=False)
