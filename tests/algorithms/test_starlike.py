"""Peaks of stars, told from hot pixels, cosmic rays, bad columns and what is smooth."""

import numpy as np
import pytest

from larun.algorithms.starlike import difference_noise, starlike_peaks
from larun.simulate.cosmics import cosmic_rays
from larun.simulate.stars import render


def _sky(rng, level=300.0, shape=(400, 400)):
    return (level + rng.normal(0, 12.0, shape)).astype(np.float32)


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 7.0])
@pytest.mark.parametrize("beta", [None, 3.0])
def test_stars_are_counted(rng, fwhm, beta):
    x, y = rng.uniform(20, 380, (2, 30))
    apart = [n for n in range(30) if np.sort(np.hypot(x - x[n], y - y[n]))[1] > 4 * fwhm]
    flux = np.full(30, 40 * 12.0 * fwhm**2)
    found = starlike_peaks(_sky(rng) + render((400, 400), x, y, flux, fwhm=fwhm, beta=beta).astype(np.float32))
    assert 0.7 * len(apart) <= found.stars <= 60
    assert found.noise == pytest.approx(12.0, rel=0.05)


def test_nothing_else_is_counted(rng):
    image = _sky(rng)
    y, x = np.mgrid[:400, :400]
    image[rng.integers(0, 400, 200), rng.integers(0, 400, 200)] += 3000.0  # hot pixels
    image[:, 77] += 500.0
    image[200, :] -= 300.0
    image += np.float32(0.4) * x  # a gradient
    image += 800 * np.exp(-((x - 200) ** 2 + (y - 100) ** 2) / 2 / 60**2).astype(np.float32)  # a smooth bump
    image[300:, 10] = np.nan
    image += cosmic_rays((400, 400), count=40, rng=rng)
    assert starlike_peaks(image).stars <= 3


def test_a_flat_has_no_stars_however_deep_its_vignetting(rng):
    y, x = np.mgrid[:512, :512] / 256.0 - 1
    light = 30000 * (1 - 0.4 * (x**2 + y**2) / 2)
    image = rng.normal(light, np.sqrt(light / 1.6)).astype(np.float32)
    assert starlike_peaks(image).stars == 0


@pytest.mark.parametrize("sigma", [0.6, 1.2, 5.0, 100.0])
def test_the_noise_of_whole_numbers_is_right(rng, sigma):
    counts = np.rint(rng.normal(1000.0, sigma, (300, 300))).astype(np.float32)
    assert difference_noise(counts) == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.05)


def test_an_image_without_values_has_no_noise():
    found = starlike_peaks(np.full((50, 50), np.nan, np.float32))
    assert found.stars == 0
    assert np.isnan(found.noise)
