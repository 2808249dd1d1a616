import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.changes import find_changes
from larun.algorithms.kernelfield import KernelField, convolve
from larun.algorithms.psf import moffat_psf

SHAPE = (512, 512)
NOISE = 15.0
PSF = moffat_psf(3.2, 3.5, oversampling=3)


def grid(step=32, seed=1):
    rng = np.random.default_rng(seed)
    y, x = (part.ravel() for part in np.mgrid[24 : SHAPE[0] - 20 : step, 24 : SHAPE[1] - 20 : step])
    return x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size), rng


def score_of(data):
    """The matched filter of white noise."""
    at = np.arange(-8.0, 9.0)
    taps = PSF.values(-at[None, :], -at[:, None])[0]
    taps /= NOISE * np.sqrt(np.sum(taps**2))
    own = KernelField(images=taps[None], coefficients=np.ones((1, 1)), domain=(0, 1, 0, 1))
    return convolve(own, data, None, np.zeros(SHAPE, np.uint32)).data


def found_on(light, *, seed=2, flags=None, variance=None):
    data = (light + np.random.default_rng(seed).normal(0, NOISE, SHAPE)).astype(np.float32)
    noise = np.full(SHAPE, NOISE**2, np.float32) if variance is None else variance
    bits = np.zeros(SHAPE, np.uint32) if flags is None else flags
    return find_changes(data, noise, bits, score_of(data), PSF, threshold=5.0)


def test_sources_of_both_signs_have_their_flux_place_and_errors():
    x, y, rng = grid()
    flux = rng.choice([-1, 1], x.size) * 10 ** rng.uniform(2.8, 4.0, x.size)
    found = found_on(PSF.draw(SHAPE, x, y, flux))
    own = np.argmin(np.hypot(found.x[:, None] - x, found.y[:, None] - y), axis=1)
    true = np.hypot(found.x - x[own], found.y - y[own]) < 2
    assert true.mean() > 0.99
    assert np.all(np.sign(found.flux[true]) == np.sign(flux[own][true]))
    bright = true & (np.abs(found.score) > 8)
    pulls = [
        ((found.x - x[own]) / found.x_error)[bright],
        ((found.y - y[own]) / found.y_error)[bright],
        ((found.flux - flux[own]) / found.flux_error)[bright],
    ]
    for pull in pulls:
        assert pull.std() == pytest.approx(1, abs=0.15)
    assert np.all(np.diff(np.abs(found.score)) <= 0)


def test_acceptance_31_dipoles_are_doubted_and_sources_are_not():
    """Stars that moved by 0.05 to 0.2 pixels, and real sources as faint as can be found."""
    caught, kept = [], []
    for seed in range(4):
        x, y, rng = grid(seed=seed)
        away, turn = rng.uniform(0.05, 0.2, x.size), rng.uniform(0, 2 * np.pi, x.size)
        star = 10 ** rng.uniform(4.3, 5.3, x.size)
        light = PSF.draw(SHAPE, x + away * np.cos(turn), y + away * np.sin(turn), star) - PSF.draw(SHAPE, x, y, star)
        caught.append(found_on(light, seed=10 + seed).reasons["dipole"])
        flux = rng.choice([-1, 1], x.size) * 10 ** rng.uniform(2.75, 3.8, x.size)
        kept.append(found_on(PSF.draw(SHAPE, x, y, flux), seed=20 + seed).doubt)
    dipoles, sources = np.concatenate(caught), np.concatenate(kept)
    assert dipoles.size > 600
    assert sources.size > 700
    assert dipoles.mean() >= 0.95
    assert sources.mean() <= 0.01


def test_hot_pixels_and_what_is_near_trouble():
    light = np.zeros(SHAPE)
    light[100, 100], light[200, 300] = 600.0, -700.0
    light += PSF.draw(SHAPE, [60.0, 150.2, 250.1, 350.3, 450.2], [60.0] * 5, [3000.0, 3000.0, 550.0, 3000.0, 3000.0])
    flags = np.zeros(SHAPE, np.uint32)
    flags[58:63, 64] = fl.SATURATED
    flags[57:64, 147:150] = fl.BAD
    variance = np.full(SHAPE, NOISE**2, np.float32)
    variance[50:70, 240:260] *= 5
    variance[50:70, 440:460] *= 5
    found = found_on(light, flags=flags, variance=variance)

    def at(x, y):
        return int(np.argmin(np.hypot(found.x - x, found.y - y)))

    assert found.reasons["one_pixel"][at(100, 100)]
    assert found.reasons["one_pixel"][at(300, 200)]
    assert found.reasons["near_saturated"][at(60, 60)]
    assert found.reasons["hidden"][at(150, 60)]
    assert found.reasons["near_bright"][at(250, 60)]
    assert not found.reasons["near_bright"][at(450, 60)]  # a star that varies by much stands on its own light
    assert not found.doubt[at(350, 60)]


def test_what_is_no_star_is_told_by_its_shape_and_by_what_is_around():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = np.zeros(SHAPE)
    light[100] += 60.0  # a bad row
    along, across = (x - 300 + y - 300) / np.sqrt(2), (x - 300 - y + 300) / np.sqrt(2)
    light += 150 * np.exp(-((across / 1.5) ** 2) / 2) * (np.abs(along) < 60)  # a spike
    light += 400 * np.exp(-((x - 100) ** 2 + (y - 400) ** 2) / (2 * 6.0**2))  # something extended
    ring = np.hypot(x - 400, y - 150) < 40
    light += np.where(ring, np.random.default_rng(5).normal(0, 3 * NOISE, SHAPE), 0)  # more noise than is told
    light += PSF.draw(SHAPE, [400.0, 60.0], [150.0, 250.0], [700.0, 700.0])
    found = found_on(light)

    def doubts(x, y, within):
        there = np.hypot(found.x - x, found.y - y) < within
        assert there.any()
        return found.doubt[there]

    row = np.abs(found.y - 100) < 3
    assert row.sum() > 3
    assert found.reasons["streak"][row].mean() > 0.8
    assert found.doubt[row].mean() > 0.9
    assert doubts(300, 300, 50).mean() > 0.8
    assert doubts(100, 400, 4).all()
    assert np.any(found.reasons["misshapen"][np.hypot(found.x - 100, found.y - 400) < 4])
    assert doubts(400, 150, 25).all()
    assert found.reasons["restless"][np.hypot(found.x - 400, found.y - 150) < 25].mean() > 0.9
    assert not doubts(60, 250, 2).any()


def test_a_strong_source_may_be_fitted_less_well_than_a_weak_one():
    """The PSF of a difference is known to some percent: that shows in chi^2 of bright sources alone."""
    wider = moffat_psf(3.4, 3.5, oversampling=3)
    found = found_on(wider.draw(SHAPE, [100.2, 300.4], [100.3, 300.1], [1.6e5, 2e3]))
    assert found.chi2[0] > 2.5
    assert not found.reasons["misshapen"].any()


def test_nothing_is_found_on_nothing():
    found = find_changes(
        np.zeros((40, 40), np.float32),
        np.ones((40, 40), np.float32),
        np.zeros((40, 40), np.uint32),
        np.zeros((40, 40), np.float32),
        PSF,
    )
    assert found.x.size == 0
    assert found.doubt.size == 0
