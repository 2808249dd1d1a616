"""Defects in simulated and real masters; the normalisation of flats."""

import numpy as np
import pytest

from larun.algorithms.badpixels import bad_from_bias, bad_from_dark, bad_from_flat, local_median, normalise_flat
from larun.algorithms.combine import CombineOptions, combine
from larun.errors import OptionError
from tests.conftest import real_data

SHAPE = (600, 700)


def smooth(shape=SHAPE):
    """A gradient of 20, a bump and a ramp at the left edge."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 20 * x / shape[1] + 8 * np.hypot(y - 200, x - 300) / 300 - 12 * np.exp(-x / 4)


@pytest.mark.parametrize("tails", [False, True])
def test_clean_masters_have_no_bad_pixels(rng, tails):
    noise = rng.standard_t(5, SHAPE) if tails else rng.standard_normal(SHAPE)
    level = (smooth() + 1.6 * noise).astype(np.float32)
    variance = np.full(SHAPE, 1.6**2, np.float32)
    assert bad_from_bias(level, variance).mean() < 1e-5
    assert bad_from_bias(level).mean() < 1e-5
    rate = (0.05 + 0.02 * np.hypot(*np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j])).astype(np.float32)
    dark = rate + 0.004 * rng.standard_normal(SHAPE, np.float32)
    assert bad_from_dark(dark, np.full(SHAPE, 0.004**2, np.float32)).mean() < 1e-5
    flat = (1 - 0.3 * rate / rate.max()) * (1 + 0.01 * noise)
    assert bad_from_flat(flat.astype(np.float32)).mean() < 1e-5


def test_defects_of_a_bias_are_found(rng):
    level = (smooth() + 1.6 * rng.standard_normal(SHAPE)).astype(np.float32)
    truth = np.zeros(SHAPE, bool)
    truth[:, 256] = truth[333] = truth[100:110, 400:412] = truth[0, 0] = truth[:, -1] = truth[20, 21] = True
    level[truth] += rng.choice([-90, 70, 64000], truth.sum()).astype(np.float32)
    level[50, 60] = np.nan
    truth[50, 60] = True
    np.testing.assert_array_equal(bad_from_bias(level), truth)


def test_hot_pixels_of_a_dark_are_found(rng):
    rate = (0.05 + 0.004 * rng.standard_normal(SHAPE)).astype(np.float32)
    rate[10, 10], rate[20, 20], rate[30, 30], rate[40, 40] = 1.0, 0.08, -1.0, -np.inf
    rate[50, 50] = np.nan
    found = bad_from_dark(rate, np.full(SHAPE, 0.004**2, np.float32))
    assert np.argwhere(found).tolist() == [[10, 10], [40, 40], [50, 50]]  # 0.08 is 7 σ and less than twice as hot
    assert bad_from_dark(rate, sigma=5, fraction=0.3)[20, 20]
    noisy = np.full(SHAPE, 0.004**2, np.float32)
    noisy[10, 10] = 1.0
    assert not bad_from_dark(rate, noisy)[10, 10]  # known to be uncertain


def test_invalid_pixels_of_a_flat_are_found(rng):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flat = (1.2 - np.hypot(y - 300, x - 350) / 600) * (1 + 0.01 * rng.standard_normal(SHAPE))  # vignetted to a half
    flat = flat.astype(np.float32)
    truth = np.zeros(SHAPE, bool)
    for k, factor in enumerate([0.0, -1.0, np.nan, np.inf, 0.4, 1.6]):
        flat[100, 100 + 20 * k] *= factor
        truth[100, 100 + 20 * k] = True
    flat[:, 500] *= 0.3
    truth[:, 500] = True
    flat[200, 200] *= 0.7
    flat[210, 200] *= 1.3
    np.testing.assert_array_equal(bad_from_flat(flat), truth)


def test_local_median_is_the_median_of_medians(rng):
    plane = rng.normal(size=(45, 37)).astype(np.float32)
    plane[rng.random(plane.shape) < 0.1] = np.nan
    half = 3
    rows = np.array([[np.nanmedian(r[max(i - half, 0) : i + half + 1]) for i in range(37)] for r in plane])
    both = np.array([[np.nanmedian(c[max(i - half, 0) : i + half + 1]) for i in range(45)] for c in rows.T]).T
    np.testing.assert_allclose(local_median(plane, 7), both, rtol=1e-6)
    np.testing.assert_array_equal(local_median(np.full((20, 20), np.nan, np.float32)), 0)
    for window in (2, 4, 1):
        with pytest.raises(OptionError, match="window"):
            local_median(plane, window)


def test_the_verdict_is_that_of_exact_medians_everywhere(rng):
    """The blocks that are passed over hold nothing: steps, edges, missing rows, narrow images and hard limits."""
    for shape in ((97, 133), (10, 200), (7, 3), (70, 40)):
        level = rng.normal(size=shape).astype(np.float32)
        level[:, shape[1] // 2 :] += 60  # two amplifiers
        hit = rng.random(shape) < 0.004
        level[hit] += rng.choice([-1, 1], hit.sum()) * rng.uniform(3, 90, hit.sum())
        level[: shape[0] // 3, : shape[1] // 4] = np.nan
        around = local_median(level)
        for sigma, minimum in ((10, 50), (6, 1e-3), (4, 7)):
            with np.errstate(invalid="ignore"):
                offset = level - around
                scatter = 1.4826 * np.median(np.abs(offset[np.isfinite(offset)]))
                expected = ~(np.abs(offset) <= max(sigma * scatter, minimum))
                np.testing.assert_array_equal(bad_from_bias(level, sigma=sigma, minimum=minimum), expected)
                expected = ~(offset <= np.maximum(sigma * scatter, 0.5 * np.maximum(around, 0)))
            np.testing.assert_array_equal(bad_from_dark(level, sigma=sigma, fraction=0.5), expected)
        flat = np.exp(level / 40)
        around = local_median(flat)
        for low, high in ((0.5, 1.5), (0.9, 1.02), (0.01, 9.0)):
            expected = ~((flat >= low * around) & (flat <= high * around))
            np.testing.assert_array_equal(bad_from_flat(flat, low=low, high=high), expected)


def test_normalised_flat_has_median_one_and_scaled_variance(rng):
    flat = rng.normal(30000, 300, SHAPE).astype(np.float32)
    variance = np.full(SHAPE, 90000, np.float32)
    unusable = rng.random(SHAPE) < 0.1
    flat[unusable] = 1e9
    flat[0, 0] = np.nan
    found = normalise_flat(flat, variance, unusable)
    assert found.constant == pytest.approx(30000, abs=5)
    assert np.nanmedian(found.data[~unusable]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.variance, 90000 / found.constant**2, rtol=1e-6)
    assert found.data.dtype == found.variance.dtype == np.float32
    for value, unusable in ((1.0, True), (0.0, False), (-5.0, False), (np.nan, False)):
        with pytest.raises(OptionError, match="a flat needs light"):
            normalise_flat(np.full((3, 3), value, np.float32), np.ones((3, 3), np.float32), np.full((3, 3), unusable))


def test_bad_options_are_named():
    plane = np.ones((4, 4), np.float32)
    with pytest.raises(OptionError, match="sigma = -1"):
        bad_from_bias(plane, sigma=-1)
    with pytest.raises(OptionError, match="minimum = nan"):
        bad_from_bias(plane, minimum=np.nan)
    with pytest.raises(OptionError, match="fraction = 0"):
        bad_from_dark(plane, fraction=0)
    with pytest.raises(OptionError, match=r"low = 1\.2"):
        bad_from_flat(plane, low=1.2)
    with pytest.raises(OptionError, match="must be equal"):
        bad_from_bias(plane, plane[:2])


def test_the_dead_column_of_the_nickel_camera():
    from astropy.io import fits

    frames = []
    for number in range(1001, 1011):
        with fits.open(real_data("nickel", f"d{number}.fits.fz")) as hdus:
            raw = hdus[1].data.astype(np.float32)
        frames.append(raw[:, :1024] - raw[:, 1030:].mean())
    stack = np.array(frames)
    made = combine(stack, None, np.zeros(stack.shape, np.uint32), options=CombineOptions(clip="mad"))
    bad = bad_from_bias(made.data, made.variance)
    assert bad[:, 256].all()
    columns = np.flatnonzero(bad.mean(axis=0) > 0.5)
    assert set(columns) <= {256, 669, 1002, 1022, 1023}  # far off their neighbours in every bias; 1023 is the edge
    assert np.delete(bad, columns, axis=1).mean() < 1e-4
