"""Errors of fluxes by a PSF that is not quite that of the stars, and among stars that nobody can tell apart."""

import numpy as np
import pytest

from larun.algorithms.psf import gaussian_psf, moffat_psf
from larun.algorithms.psf_excess import excess_of
from larun.algorithms.psf_field import FieldOptions, solve_field

SIDE, SKY = 260, 400.0
PSF = moffat_psf(3.6, 3.0)
OPTIONS = FieldOptions()


def width(pulls):
    low, high = np.nanquantile(pulls, (0.1587, 0.8413))
    return (high - low) / 2


def stars(rng, density=0.01, faintest=2e3):
    """Anywhere, N(> flux) falling as 1 / flux."""
    count = int(density * SIDE**2)
    x, y = rng.uniform(0, SIDE - 1, (2, count))
    return x, y, 1 / (1 / faintest + rng.random(count) * (1 / 2e5 - 1 / faintest))


def measured(rng, light, x, y, acf=None):
    """Fits and excess on a frame with noise."""
    data = (light + SKY + rng.normal(size=light.shape) * np.sqrt(light + SKY)).astype(np.float32)
    flat, none = np.full(light.shape, SKY, np.float32), np.zeros(light.shape, np.uint32)
    fits = solve_field((data, flat, flat, none), PSF, x, y, options=OPTIONS)
    return fits, excess_of(data, none, PSF, fits, gain=1.0, acf=acf)


def inside(x, y):
    return (np.minimum(x, y) > 8) & (np.maximum(x, y) < SIDE - 9)


@pytest.mark.parametrize("density", [0.002, 0.01])
def test_nothing_is_added_where_the_psf_is_known_and_every_star(density):
    rng = np.random.default_rng(5)
    x, y, flux = stars(rng, density)
    fits, beyond = measured(rng, PSF.draw((SIDE, SIDE), x, y, flux), x, y)
    assert np.mean(beyond.factor) < 1.01
    assert beyond.variance == beyond.flux_variance == 0
    assert 0.9 < width(((fits.flux - flux) / fits.flux_error)[inside(x, y)]) < 1.1


def patched(rng, x, y, flux):
    """Stars whose widths and shapes vary over the image faster than any PSF here could follow; beta varies too."""
    shapes = [
        moffat_psf(3.6 * (1 + 0.015 * a), 3.0 - 0.3 * b, ratio=0.9, theta=45.0 * (2 * b + a))
        for a in (-1, 0, 1)
        for b in (0, 1)
    ]
    one, two, three, four = rng.uniform(0, 2 * np.pi, 4)
    width_of = np.sin(x / 9 + one) + np.sin(y / 11 + two)
    kind = 2 * np.digitize(width_of, (-0.6, 0.6)) + (np.sin(x / 12 + y / 10 + three) * np.sin(y / 13 + four) > 0)
    return sum(shape.draw((SIDE, SIDE), *(part[kind == n] for part in (x, y, flux))) for n, shape in enumerate(shapes))


@pytest.mark.parametrize(("density", "most"), [(0.003, 1.2), (0.01, 1.25)])
def test_errors_hold_with_a_psf_that_is_not_that_of_the_stars(density, most):
    rng = np.random.default_rng(8)
    x, y, flux = stars(rng, density)
    before, pulls, told = [], [], []
    for _ in range(6):
        fits, beyond = measured(rng, patched(rng, x, y, flux), x, y)
        scale = np.median((fits.flux / flux)[flux > 2e4])
        pull = (fits.flux / scale - flux) / fits.flux_error
        before.append(pull)
        pulls.append(pull / np.sqrt(beyond.factor))
        told.append(fits.flux / fits.flux_error)
        assert 0.01 < beyond.share < 0.04
    before, pulls, told, good = np.array(before), np.array(pulls), np.array(told), np.tile(inside(x, y), (6, 1))
    for low, high in ((10, 20), (20, 50), (50, 100), (100, np.inf)):
        assert 0.9 < width(pulls[good & (told > low) & (told < high)]) < most
    assert width(before[good & (told > 100)]) > 3  # what it would be by noise alone


def test_a_share_is_found_only_where_bright_stars_show_one():
    rng = np.random.default_rng(3)
    x, y, flux = stars(rng, 0.004)
    light = moffat_psf(3.6 * 1.04, 3.0).draw((SIDE, SIDE), x, y, flux)
    fits, beyond = measured(rng, light, x, y)
    bright = fits.flux > 100 * fits.flux_error
    assert beyond.share > 0.01
    assert np.median(beyond.factor[bright]) > 5 > 1.2 > np.median(beyond.factor[fits.flux < 20 * fits.flux_error])


def test_of_correlated_noise_only_what_is_beyond_it_counts():
    from scipy.ndimage import correlate

    rng = np.random.default_rng(4)
    kernel = np.array([[0.1, 0.3, 0.1], [0.3, 0.8, 0.3], [0.1, 0.3, 0.1]])
    kernel /= np.sqrt(np.sum(kernel**2))
    x, y, _ = stars(rng, 0.004)
    noise = 2 * correlate(rng.normal(size=(SIDE, SIDE)), kernel) * np.sqrt(SKY)
    data = (gaussian_psf(3.6).draw((SIDE, SIDE), x, y, np.full(x.size, 2e3)) + SKY + noise).astype(np.float32)
    flat, none = np.full(data.shape, SKY, np.float32), np.zeros(data.shape, np.uint32)
    psf, options = gaussian_psf(3.6), FieldOptions(gain=1e6)
    fits = solve_field((data, flat, flat, none), psf, x, y, options=options)
    padded = np.pad(kernel, 2)
    acf = np.array([[np.sum(padded[j : j + 3, i : i + 3] * kernel) for i in range(5)] for j in range(5)])
    white = excess_of(data, none, psf, fits, gain=1e6)
    known = excess_of(data, none, psf, fits, gain=1e6, acf=acf)
    assert 0.5 < known.variance == white.variance < 3  # of 4: the fit takes some of it
    assert 1 < known.flux_variance < 0.75 * white.flux_variance


def test_too_few_pixels_tell_nothing():
    flat, none = np.full((20, 20), SKY, np.float32), np.zeros((20, 20), np.uint32)
    fits = solve_field((flat + 5, flat, flat, none), gaussian_psf(3.0), [10.0, np.nan], [10.0, 3.0])
    beyond = excess_of(flat + 5, none, gaussian_psf(3.0), fits, gain=1.0)
    assert beyond.factor.tolist() == [1.0, 1.0]
    assert beyond.share == 0
