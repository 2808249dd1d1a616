"""Frames made as blurred as one: stars of one shape, light, and noise that hangs together as told."""

import numpy as np
import pytest
from scipy.signal import fftconvolve

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.homogenised import homogenised, matching, star_noise
from larun.algorithms.psf import moffat_psf
from larun.algorithms.stacking import MeanOptions
from larun.errors import OptionError
from tests.algorithms.coadd_fields import SIDE, layers, matched_fluxes, neighbours, optimum, pixels, stars

SHAPE = (SIDE, SIDE)
FLUX = 20000.0


@pytest.fixture(scope="module")
def made():
    x, y = stars()
    given, psfs = layers(x, y, FLUX)
    target = psfs[3]
    kernels = [matching(one, psf, target, SHAPE) for one, psf in zip(given, psfs, strict=True)]
    weights = [one.weight / star_noise(own, target, SHAPE) for one, own in zip(given, kernels, strict=True)]
    return x, y, given, target, kernels, weights, homogenised(given, kernels, weights, SHAPE)


def test_all_stars_have_the_shape_of_the_target_and_their_light(made):
    x, y, _, target, kernels, _, (one, _) = made
    assert max(own.residual for own in kernels) < 0.005
    for own in kernels:
        assert own.field.sums(np.array([200.0]), np.array([200.0]))[0] == pytest.approx(1, abs=1e-9)
    rest = one.data - target.draw(SHAPE, x, y, np.full(x.size, FLUX))
    places = [(round(b), round(a)) for a, b in zip(x, y, strict=True)]
    mean = np.mean([rest[j - 16 : j + 17, i - 16 : i + 17] for j, i in places], axis=0)
    assert np.max(np.abs(mean)) < 0.01 * FLUX * pixels(target).max()
    found = matched_fluxes(one.data, target, x, y) / FLUX
    assert np.mean(found) == pytest.approx(1, abs=0.004)


def test_noise_hangs_together_as_told(made):
    x, y, _, target, kernels, weights, (one, _) = made
    good = (one.flags == 0) & (one.contributors == 5)
    pulls = (one.data - target.draw(SHAPE, x, y, np.full(x.size, FLUX))) / np.sqrt(one.variance)
    assert np.std(pulls[good]) == pytest.approx(1, abs=0.02)
    # beside bright stars the frames have other shares of the noise: where there are none
    empty, psfs = layers(x, y, 0.0, seed=11)
    again, acf = homogenised(empty, kernels, weights, SHAPE)
    half, good = acf.shape[0] // 2, (again.flags == 0) & (again.contributors == 5)
    pulls = again.data / np.sqrt(again.variance)
    assert np.std(pulls[good]) == pytest.approx(1, abs=0.02)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 3), (3, 0), (2, 4)):
        assert neighbours(pulls, good, dy, dx) == pytest.approx(acf[half + dy, half + dx], abs=0.015)
    # the noise of a flux by the target as a filter: all lags of the autocorrelation together
    star = pixels(target)
    own = fftconvolve(star, star[::-1, ::-1])
    lags = slice(own.shape[0] // 2 - half, own.shape[0] // 2 + half + 1)
    told = np.median(again.variance) * np.sum(own[lags, lags] * acf)
    filtered = fftconvolve(again.data.astype(float), star, mode="same")[40:-40, 40:-40]
    assert np.std(filtered) == pytest.approx(np.sqrt(told), rel=0.06)
    # no deeper than theory allows
    assert np.sum(star**2) / np.sqrt(told) < 1.01 * optimum(1.0, psfs)


def test_threads_and_memory_decide_nothing(made):
    _, _, given, _, kernels, weights, (one, _) = made
    before = jit.threads()
    try:
        jit.set_threads(1)
        other, _ = homogenised(given, kernels, weights, SHAPE, options=MeanOptions(max_memory=1e6))
    finally:
        jit.set_threads(before)
    for plane, again in zip(one[:6], other[:6], strict=True):
        assert plane.tobytes() == again.tobytes()


def test_a_profile_may_be_the_target_and_rays_are_gone():
    x, y = stars()

    def spoil(k, data, flags):
        data[60 + 50 * k, 60:90:3] += 2e4
        data[70 + 50 * k, 60:90:3], flags[70 + 50 * k, 60:90:3] = 1e5, fl.COSMIC

    given, psfs = layers(x, y, FLUX, spoil=spoil, turned=0.0)
    target = moffat_psf(5.6, 3.5, oversampling=3)
    kernels = [matching(one, psf, target, SHAPE) for one, psf in zip(given, psfs, strict=True)]
    made, _ = homogenised(given, kernels, [one.weight for one in given], SHAPE)
    rest = (made.data - target.draw(SHAPE, x, y, np.full(x.size, FLUX))) / np.sqrt(made.variance)
    good = (made.flags & (fl.UNUSABLE | fl.EDGE)) == 0
    assert np.max(np.abs(rest[good])) < 6.5
    assert made.rejected.sum() >= 40
    with pytest.raises(OptionError, match="as many"):
        homogenised(given, kernels[:2], [1.0, 1.0], SHAPE)
