"""Second images of bright stars among candidates, with known truth."""

import numpy as np
import pytest

from larun.algorithms.secondimages import second_images, with_saturated

SIDE, FWHM = 500, 4.0


def field(seed, *, stars=80, images=40, others=30, shift=(28.4, 0.6)):
    """Noise with the light of stars, candidates in random order, and which of them are second images."""
    rng = np.random.default_rng(seed)
    light = np.ones((SIDE, SIDE), np.float32)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    where = rng.uniform(20, SIDE - 60, (stars, 2))
    for (x, y), height in zip(where, np.geomspace(60, 1.5, stars), strict=True):
        near = np.s_[int(y) - 12 : int(y) + 13, int(x) - 12 : int(x) + 13]
        light[near] += height * np.exp(-((columns[near] - x) ** 2 + (rows[near] - y) ** 2) / (2 * (FWHM / 2.35) ** 2))
    seen = np.concatenate([where[:images] + shift, rng.uniform(0, SIDE, (others, 2))])
    seen = seen + rng.normal(0, 0.3, seen.shape)
    order = rng.permutation(len(seen))
    return light, *seen[order].T, order < images


@pytest.mark.parametrize("seed", range(5))
def test_second_images_are_told_and_others_are_not(seed):
    light, x, y, true = field(seed)
    told = second_images(light, x, y, FWHM)
    assert np.count_nonzero(told & true) >= 38
    assert np.count_nonzero(told & ~true) <= 2


def test_two_shifts_are_both_found():
    light, x, y, _ = field(1)
    other = field(1, shift=(-20.0, 33.0), others=0)
    told = second_images(light, np.append(x, other[1]), np.append(y, other[2]), FWHM)
    assert told.sum() >= 76


@pytest.mark.parametrize("kind", [{"images": 0, "others": 150}, {"images": 5}, {"images": 0, "others": 3}])
def test_of_chance_and_of_few_nothing_is_said(kind):
    for seed in range(10):
        light, x, y, _ = field(seed, **kind)
        assert not second_images(light, x, y, FWHM).any()


def test_what_is_left_of_the_stars_themselves_is_no_second_image():
    light, x, y, _ = field(3, shift=(1.0, -2.0))
    assert not second_images(light, x, y, FWHM).any()


def test_without_stars_or_candidates():
    flat = np.ones((60, 60), np.float32)
    nothing = np.zeros(0)
    assert not second_images(flat, np.linspace(5, 50, 20), np.linspace(5, 50, 20), FWHM).any()
    assert second_images(flat, nothing, nothing, FWHM).shape == (0,)


def test_saturated_stars_have_second_images_too():
    light, x, y, true = field(2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    rng = np.random.default_rng(2)
    where = rng.uniform(20, SIDE - 60, (80, 2))[:6]  # the brightest
    saturated = np.zeros(light.shape, bool)
    for cx, cy in where:
        saturated |= np.hypot(columns - cx, rows - cy) < 7
    light[saturated] = 0
    blind, told = (second_images(plane, x, y, FWHM) for plane in (light, with_saturated(light, saturated)))
    assert np.count_nonzero(told & true) >= 37
    assert np.count_nonzero(told & true) > np.count_nonzero(blind & true)
    assert np.count_nonzero(told & ~true) <= 2
    assert with_saturated(light, np.zeros_like(saturated)) is light
