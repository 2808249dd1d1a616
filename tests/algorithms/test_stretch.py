"""Limits and stretches that follow the noise; thumbnails."""

import time

import numpy as np
import pytest

from larun import errors, flags
from larun.algorithms.stretch import STRETCHES, stretch_of, thumbnail


@pytest.fixture
def sky(rng):
    made = rng.normal(100, 5, 20_000)
    made[:20], made[20:30] = 1e6, np.nan
    return made


def test_stars_and_values_that_are_not_finite_do_not_count(sky):
    found = stretch_of(sky)
    assert found.middle == pytest.approx(100, abs=0.2)
    assert found.width == pytest.approx(5, rel=0.03)
    assert found.low == pytest.approx(85, abs=1)
    assert found.high == pytest.approx(150, abs=2)


@pytest.mark.parametrize("kind", STRETCHES)
@pytest.mark.parametrize("values", [np.full(50, 3.0), np.full(50, 0.0), np.full(50, np.nan), np.array([])])
def test_nothing_much_is_still_a_range(values, kind):
    found = stretch_of(values, kind)
    assert found.low < found.high
    assert found.width > 0
    assert np.isfinite(found.scaled([found.low, found.middle, found.high])).all()


@pytest.mark.parametrize("kind", STRETCHES)
def test_grey_levels_rise_from_0_to_1_and_go_back(sky, kind):
    found = stretch_of(sky, kind)
    values = np.linspace(found.low, found.high, 50)
    grey = found.scaled(values)
    assert (grey[0], grey[-1]) == (0, pytest.approx(1))
    assert (np.diff(grey) > 0).all()
    np.testing.assert_allclose(found.inverse(found.forward(values)), values, rtol=1e-9)
    assert found.scaled([found.low - 1e9, found.high + 1e9]).tolist() == [0, pytest.approx(1)]
    assert np.isnan(found.scaled([np.nan])).all()


def test_the_stretches_differ_in_what_they_show(sky):
    at = {kind: float(stretch_of(sky, kind).scaled(120.0)) for kind in STRETCHES}  # a star of 4 sigma
    assert at["linear"] < at["log"] < 1
    assert at["linear"] < at["asinh"] < 1
    assert stretch_of(sky, "zscale").high < stretch_of(sky, "linear").high  # for the sky, not for the stars


def test_unknown_stretch_is_an_error_that_lists_them():
    with pytest.raises(errors.OptionError, match="asinh, linear, log, zscale"):
        stretch_of([1.0], "sqrt")


def test_a_thumbnail_is_the_mean_of_what_is_usable():
    data = np.arange(36, dtype=np.float32).reshape(6, 6)
    bits = np.zeros((6, 6), np.uint32)
    data[0, 0] = np.nan
    bits[0, 1] = flags.SATURATED
    bits[1, 0] = flags.INTERPOLATED  # usable
    bits[4:, 4:] = flags.NO_DATA
    small = thumbnail(data, bits, size=3)
    assert small.shape == (3, 3)
    assert small[0, 0] == pytest.approx((6 + 7) / 2)
    assert np.isnan(small[2, 2])
    assert small[1, 1] == pytest.approx(data[2:4, 2:4].mean())


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 5000), (5000, 1), (1000, 400), (4097, 4095)])
def test_thumbnails_fit_and_keep_the_shape(shape):
    small = thumbnail(np.ones(shape, np.float32), size=100)
    assert max(small.shape) <= 100
    assert (small == 1).all()
    if min(shape) > 100:
        assert small.shape[0] / small.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.05)


def test_a_large_image_takes_no_longer():
    data, bits = np.ones((4096, 4096), np.float32), np.zeros((4096, 4096), np.uint32)
    took = []
    for _ in range(3):
        start = time.process_time()
        thumbnail(data, bits)
        took.append(time.process_time() - start)
    assert min(took) < 0.1
