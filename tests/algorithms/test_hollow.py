"""Stars in focus and out of it."""

import numpy as np
import pytest

from larun.algorithms.hollow import hollowness
from larun.simulate.drawing import render_profile
from larun.simulate.profiles import Donut, Gaussian
from larun.simulate.stars import render

SHAPE = (400, 400)


def _stars(rng):
    places = np.array([(x, y) for x in range(40, 370, 50) for y in range(40, 370, 50)]) + rng.uniform(-3, 3, (49, 2))
    return places.T


@pytest.mark.parametrize("fwhm", [1.8, 3.0, 7.0])
def test_stars_in_focus_are_not_hollow(rng, fwhm):
    x, y = _stars(rng)
    image = render(SHAPE, x, y, np.full(49, 3e4), fwhm=fwhm, beta=3.0) + rng.normal(0, 8.0, SHAPE)
    assert hollowness(image.astype(np.float32), x, y, fwhm) < 0.05


def test_rings_are(rng):
    x, y = _stars(rng)
    image = render_profile(SHAPE, x, y, np.full(49, 2e5), profile=Donut(8.0, 0.4, Gaussian(3.0)))
    image = (image + rng.normal(0, 8.0, SHAPE)).astype(np.float32)
    assert hollowness(image, x, y, 8.0) > 0.4
    pieces = rng.uniform(0, 2 * np.pi, 49)  # a detection takes parts of the rings for stars
    assert hollowness(image, x + 6 * np.cos(pieces), y + 6 * np.sin(pieces), 4.0) > 0.4


def test_a_crowd_of_stars_is_not_hollow(rng):
    x, y = rng.uniform(0, 400, (2, 2500))
    flux = 10 ** rng.uniform(3.5, 5, 2500)
    image = (render(SHAPE, x, y, flux, fwhm=3.0, beta=3.0) + rng.normal(0, 8.0, SHAPE)).astype(np.float32)
    order = np.argsort(-flux)
    assert hollowness(image, x[order], y[order], 3.0) < 0.1


def test_without_stars_nothing_is_said(rng):
    image = rng.normal(0, 8.0, SHAPE).astype(np.float32)
    assert np.isnan(hollowness(image, [], [], 3.0))
    assert np.isnan(hollowness(image, [2.0, 398.0], [200.0, 200.0], 3.0))
    assert np.isnan(hollowness(image, [200.0], [200.0], np.nan))
