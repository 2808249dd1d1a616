"""Completeness curves of stars that are found by a noisy threshold, and the limit of a filter."""

import numpy as np
import pytest

from larun.algorithms.completeness import completeness, filtered_limit
from larun.algorithms.emptystars import add_stars, moffat_stamp, star_stamp
from larun.errors import OptionError

NOISE, LIMIT = 40.0, 200.0


def search(seed, count=300, blind=0.0):
    rng = np.random.default_rng(seed)
    flux = LIMIT * 10 ** (0.4 * rng.uniform(-1.3, 1.0, count))
    found = flux + NOISE * rng.standard_normal(count) > LIMIT
    return flux, found & (rng.random(count) >= blind)


def test_half_and_width_are_right_and_scatter_by_their_errors():
    made = np.array([completeness(*search(seed), noise=NOISE)[:4] for seed in range(60)])
    half, half_error, width, _ = made.T
    assert half.mean() == pytest.approx(LIMIT, rel=0.01)
    assert width.mean() == pytest.approx(NOISE, rel=0.1)
    assert 0.75 < half.std(ddof=1) / half_error.mean() < 1.25


def test_stars_that_are_missed_for_other_reasons_do_not_move_the_limit():
    made = completeness(*search(1, 2000, blind=0.15), noise=NOISE)
    assert made.top == pytest.approx(0.85, abs=0.05)
    assert made.half == pytest.approx(LIMIT, rel=0.05)
    assert made.ninety > made.half


def test_all_or_none_found_is_refused():
    flux = np.linspace(1, 2, 50)
    for found in (np.ones(50, bool), np.zeros(50, bool)):
        with pytest.raises(OptionError, match="some found and some not"):
            completeness(flux, found, noise=1.0)


def test_a_filter_of_another_width_loses():
    star = moffat_stamp(4.0, 15, beta=30.0)
    best = filtered_limit(star, star, sigma=10.0, threshold=5.0)
    assert best == pytest.approx(50 / np.sqrt(np.sum(star**2)))
    assert filtered_limit(star, moffat_stamp(7.0, 15, beta=30.0), sigma=10.0, threshold=5.0) > 1.05 * best


def test_a_stamp_is_what_the_stars_are():
    rng = np.random.default_rng(2)
    truth = moffat_stamp(3.5, 14)
    light = np.zeros((400, 400))
    x, y = (np.arange(40, 380, 40)[None, :] + rng.uniform(-0.5, 0.5, (9, 9)) for _ in range(2))
    y = y.T
    add_stars(light, truth, x.ravel(), y.ravel(), rng.uniform(2e4, 1e5, 81))
    image = (light + rng.normal(0, 5, light.shape)).astype(np.float32)
    made = star_stamp(image, np.ones(image.shape, bool), x.ravel(), y.ravel(), 14)
    assert made.sum() == pytest.approx(1)
    assert np.sum(made**2) == pytest.approx(np.sum(truth**2), rel=0.04)
    assert star_stamp(image, np.zeros(image.shape, bool), x.ravel(), y.ravel(), 14) is None


def test_stars_that_are_added_have_their_flux_and_place():
    light = np.zeros((60, 60))
    add_stars(light, moffat_stamp(3.0, 10), np.array([20.3, 59.0]), np.array([31.8, 59.0]), np.array([1000.0, 400.0]))
    rows, columns = np.mgrid[:60, :60]
    inside = light[:50, :45]
    assert inside.sum() == pytest.approx(1000, rel=1e-3)
    assert (inside * columns[:50, :45]).sum() / inside.sum() == pytest.approx(20.3, abs=0.03)
    assert (inside * rows[:50, :45]).sum() / inside.sum() == pytest.approx(31.8, abs=0.03)
    assert 0 < light[50:, 45:].sum() < 200
