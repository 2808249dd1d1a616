"""Stamps as 8-bit numbers: what is known exactly, at the edges and where nothing is known."""

from fractions import Fraction

import numpy as np
import pytest

from larun.algorithms.quantized import Quantizer, cut, levels, resampled
from larun.errors import OptionError


@pytest.mark.parametrize("clip", [(-8.0, 8.0), (-3.0, 8.0), (-0.1, 5.0), (-7.3, 0.2)])
def test_acceptance_38_what_is_not_clipped_comes_back_within_half_a_step(clip: tuple[float, float]) -> None:
    made = Quantizer(*clip)
    real = np.linspace(*clip, 100_003)
    back = made.inverse(made.forward(real))
    assert np.abs(back - real).max() <= made.scale / 2 * (1 + 1e-9)
    assert made.inverse(np.array([made.zero_point], np.int8))[0] == 0.0
    assert -128 <= made.zero_point <= 127
    assert len(np.unique(made.forward(real))) == 256 if clip != (-8.0, 8.0) else 255


def test_beyond_the_limits_is_the_limit_and_nothing_is_zero() -> None:
    made = Quantizer(-4.0, 8.0)
    q = made.forward(np.array([-99.0, 99.0, -np.inf, np.inf, np.nan]))
    assert q.dtype == np.int8
    assert q.tolist() == [-128, 127, -128, 127, made.zero_point]


@pytest.mark.parametrize("clip", [(0.0, 8.0), (-1.0, 0.0), (1.0, 2.0), (-np.inf, 1.0), (np.nan, 1.0)])
def test_zero_must_lie_between_the_limits(clip: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match="0 must lie between"):
        Quantizer(*clip)


def test_a_cut_is_the_pixels_themselves_and_nan_beyond_the_image() -> None:
    data = np.arange(30, dtype=np.float32).reshape(5, 6)
    unusable = np.zeros((5, 6), bool)
    unusable[2, 3] = True
    made = cut(data, unusable, np.array([3, 0]), np.array([2, 4]), 3)
    assert np.array_equal(made[0], [[8, 9, 10], [14, np.nan, 16], [20, 21, 22]], equal_nan=True)
    assert np.array_equal(made[1], [[np.nan, 18, 19], [np.nan, 24, 25], [np.nan] * 3], equal_nan=True)
    assert cut(data, unusable, np.array([3]), np.array([2]), 2)[0, 0, 0] == 8  # the middle of two is the upper one


def _area(one: float, width: float, pixel: int) -> Fraction:
    low, high = max(Fraction(one), Fraction(pixel)), min(Fraction(one) + Fraction(width), Fraction(pixel + 1))
    return max(Fraction(0), high - low)


@pytest.mark.parametrize(("size", "extent"), [(5, 5.0), (4, 10.0), (9, 6.0), (3, 7.25)])
def test_areas_are_exact(size: int, extent: float) -> None:
    rng = np.random.default_rng(1)
    data = rng.normal(100, 30, (24, 26)).astype(np.float32)
    x, y = 12.625, 11.1875
    made = resampled(data, np.zeros(data.shape, bool), np.array([x]), np.array([y]), (size, extent))[0]
    pitch = extent / size
    for row, column in np.ndindex(size, size):
        left, low = x + 0.5 - extent / 2 + column * pitch, y + 0.5 - extent / 2 + row * pitch
        wide = np.array([float(_area(left, pitch, i)) for i in range(26)])
        high = np.array([float(_area(low, pitch, j)) for j in range(24)])
        assert made[row, column] == pytest.approx(high @ data @ wide / pitch**2, rel=1e-12)


def test_light_is_kept_and_the_source_lies_in_the_middle() -> None:
    y, x = np.mgrid[:60, :60]
    centre = (30.3, 28.8)
    star = 1e4 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 8) / (8 * np.pi)
    none = np.zeros(star.shape, bool)
    made = resampled(star.astype(np.float32), none, *(np.array([c]) for c in centre), (15, 40.0))[0]
    assert made.sum() * (40 / 15) ** 2 == pytest.approx(1e4, rel=1e-5)
    assert (made * np.arange(15)[None, :]).sum() / made.sum() == pytest.approx(7.0, abs=0.005)
    assert (made * np.arange(15)[:, None]).sum() / made.sum() == pytest.approx(7.0, abs=0.005)


def test_bad_pixels_count_only_where_half_of_a_new_pixel_is_known() -> None:
    data = np.full((20, 20), 7.0, np.float32)
    unusable = np.zeros(data.shape, bool)
    unusable[10, 10] = True
    unusable[4:8, 4:8] = True
    data[unusable] = 1e9
    made = resampled(data, unusable, np.array([9.5]), np.array([9.5]), (5, 20.0))[0]
    assert np.isnan(made[1, 1])
    assert np.isfinite(made).sum() == 24
    assert np.nanmax(np.abs(made - 7.0)) < 1e-12
    outside = resampled(data, unusable, np.array([500.0]), np.array([-40.0]), (5, 20.0))[0]
    assert np.isnan(outside).all()


def test_one_hot_pixel_moves_neither_median_nor_scatter() -> None:
    rng = np.random.default_rng(2)
    stamps = rng.normal(100, 5, (3, 31, 31))
    before = levels(stamps)
    stamps[:, 3, 3] = 1e8
    after = levels(stamps)
    assert np.allclose(before.median, after.median, atol=0.05)
    assert np.allclose(before.sigma, after.sigma, rtol=0.01)
    assert np.allclose(before.sigma, 5, rtol=0.1)
    assert np.allclose(after.inverse(after.forward(stamps)), stamps, rtol=1e-9)


def test_stamps_without_pixels_or_without_scatter_are_defined() -> None:
    stamps = np.full((3, 5, 5), np.nan)
    stamps[1] = 42.0
    stamps[2] = 1.0
    stamps[2, 0, 0] = 26.0
    found = levels(stamps)
    assert found.median.tolist() == [0.0, 42.0, 1.0]
    assert found.sigma.tolist() == [1.0, 1.0, pytest.approx(np.std(stamps[2]))]
    assert found.known.tolist() == [0.0, 1.0, 1.0]
