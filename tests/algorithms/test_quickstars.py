"""Bright stars found in a hurry: where they are, what is no star, and when it takes a full search."""

import numpy as np
import pytest

from larun import flags as fl
from larun import simulate
from larun.algorithms.background import background
from larun.algorithms.fwhm import estimate_fwhm
from larun.algorithms.jit import set_threads
from larun.algorithms.quickstars import quick_sources, quick_stars

SHAPE = (601, 640)


def scene(fwhm=3.0, count=150, seed=1, faintest=4e3):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(25, SHAPE[1] - 25, count), rng.uniform(25, SHAPE[0] - 25, count)
    flux = faintest * 10 ** rng.uniform(0, 1.5, count)
    light = simulate.render(SHAPE, x, y, flux, fwhm=fwhm, beta=3.5)
    data = simulate.noisy(light + 200 + 0.1 * np.arange(SHAPE[1]), read_noise=8.0, rng=rng)
    return data, np.zeros(SHAPE, np.uint32), (x, y, flux)


def away(found, truth):
    x, y, flux = truth
    near = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(near, 99)
    alone = near.min(axis=1) > 20
    distance = np.hypot(found[:, :1] - x[alone], found[:, 1:] - y[alone]).min(axis=0)
    return distance, flux[alone]


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 4.5])
def test_lone_stars_are_found_at_their_places(fwhm):
    data, flags, truth = scene(fwhm)
    found = quick_stars(data, flags)
    distance, flux = away(found, truth)
    assert np.max(distance) < 0.5
    # the bound of a Gaussian star in white noise is σ FWHM / (2.36 √(S/N)): a few hundredths of a pixel here
    bright = flux > 2e4
    assert np.sqrt(np.mean(distance[bright] ** 2) / 2) < 0.02 * fwhm / 3 + 0.01
    strays = np.hypot(found[:, :1] - truth[0], found[:, 1:] - truth[1]).min(axis=1)
    assert np.mean(strays < 1) > 0.97
    rank = np.argmin(np.hypot(found[:, :1] - truth[0], found[:, 1:] - truth[1]), axis=1)
    order = truth[2][rank][strays < 1]
    assert np.corrcoef(np.argsort(np.argsort(-order)), np.arange(len(order)))[0, 1] > 0.97  # the brightest first


def test_pixels_that_are_not_usable_are_no_stars():
    data, flags, truth = scene()
    clean = quick_stars(data, flags)
    rng = np.random.default_rng(5)
    y, x = rng.integers(0, SHAPE[0], 800), rng.integers(0, SHAPE[1], 800)
    data[y, x] += 5e4
    flags[y, x] = rng.choice([fl.BAD, fl.COSMIC], 800)
    data[300, :] = np.nan
    found = quick_stars(data, flags)
    strays = np.hypot(found[:, :1] - truth[0], found[:, 1:] - truth[1]).min(axis=1)
    assert np.mean(strays < 1) > 0.95
    assert abs(len(found) - len(clean)) < 0.1 * len(clean)


def test_saturated_stars_are_stars():
    data, flags, truth = scene()
    high = data > np.sort(data.ravel())[-60]
    flags[high] = fl.SATURATED
    assert np.max(away(quick_stars(data, flags), truth)[0]) < 0.6


def test_what_takes_a_full_search_is_left_to_it():
    data, flags, _ = scene(count=20)
    assert quick_stars(data, flags) is None  # few
    assert quick_stars(*scene(fwhm=9.0, faintest=4e4)[:2]) is None  # blurred
    assert quick_stars(np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32), flags) is None
    assert quick_stars(data[:50, :50], flags[:50, :50]) is None
    assert quick_stars(data, flags | fl.NO_DATA) is None


def test_threads_do_not_matter():
    data, flags, _ = scene()
    many = quick_stars(data, flags)
    set_threads(1)
    try:
        assert np.array_equal(many, quick_stars(data, flags))
    finally:
        set_threads(None)


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 4.5])
def test_the_size_of_the_stars_is_that_of_a_full_search(fwhm):
    data, flags, _ = scene(fwhm)
    flags[data > 6e4] = fl.SATURATED
    data[::97, ::101] += 3e4  # cosmic rays are no stars
    sky = background(data, None, flags)
    size = quick_sources(data, flags).size
    full = estimate_fwhm(data, sky.level, sky.variance, flags)
    assert size.stars > 30
    assert size.fwhm == pytest.approx(fwhm, rel=0.03)
    assert size.fwhm == pytest.approx(full.fwhm, rel=0.015)
    known = quick_sources(data, flags, sky)
    assert known.size.fwhm == pytest.approx(size.fwhm, rel=0.01)
    assert np.median(np.min(np.hypot(*(known.xy[:, None] - quick_stars(data, flags)).T), axis=0)) < 0.01
