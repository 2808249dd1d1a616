"""Widths, shapes and light radii of whole fields of stars, and how they change over the field."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from larun.algorithms.fwhm import stars_of_one_size
from larun.algorithms.jit import set_threads
from larun.algorithms.starquality import core_fluxes, fit_field, light_radii, star_shapes
from tests.algorithms.star_fields import draw
from tests.algorithms.test_profilefit import elliptical_stars, round_stars


@pytest.mark.parametrize(("fwhm", "beta"), [(1.8, 3.0), (3.0, 2.5), (3.0, 4.5), (6.0, 3.0)])
def test_the_width_of_a_frame_is_that_of_its_stars(fwhm, beta):
    """Acceptance: within 2 % for Moffat stars, what the pixel adds included; so are the radii of the light."""
    planes, x, _, _ = round_stars(225, fwhm, beta, 60)
    stars = stars_of_one_size(planes)
    assert stars.x.size > 0.9 * x.size
    found = star_shapes(planes, stars, gain=1.0)
    assert np.nanmedian(found.fwhm) == pytest.approx(fwhm, rel=0.02)
    assert np.nanmedian(found.fwhm_gaussian) > 1.04 * fwhm
    assert found.beta == pytest.approx(beta, rel=0.1)
    fine = 9  # parts of a pixel, which spreads the light twice: where it falls, and over its area within a circle
    side = 2 * int(5 * fine * fwhm) + 1
    star = draw((side, side), [side // 2], [side // 2], [1.0], fine * fwhm, beta, side // 2)
    star = uniform_filter(uniform_filter(star, fine), fine)
    away = np.hypot(*(np.indices(star.shape) - side // 2)).ravel() / fine
    order = np.argsort(away)
    inside = np.cumsum(star.ravel()[order])
    inside /= inside[np.searchsorted(away[order], 4 * np.hypot(fwhm, 0.68))]
    planes, _, _, _ = round_stars(64, fwhm, beta, 400)
    radii, count = light_radii(planes, stars_of_one_size(planes), (0.5, 0.8))
    assert count > 40
    for share, radius in zip((0.5, 0.8), radii, strict=True):
        assert radius == pytest.approx(away[order][np.searchsorted(inside, share)], rel=0.04)


@pytest.mark.parametrize(("ratio", "theta"), [(1.0, 0.0), (0.85, 30.0), (0.8, 100.0)])
def test_the_ellipticity_of_a_frame_is_that_of_its_stars(ratio, theta):
    """Acceptance: mean components within 0.01 over at least 200 stars at S/N 50."""
    planes, _, _, _ = elliptical_stars(225, 3.0, 3.0, 50, ratio, theta)
    stars = stars_of_one_size(planes)
    assert stars.x.size >= 200
    found = star_shapes(planes, stars, gain=1.0)
    size, angle = (1 - ratio) / (1 + ratio), np.radians(2 * theta)
    assert np.nanmean(found.e1) == pytest.approx(size * np.cos(angle), abs=0.01)
    assert np.nanmean(found.e2) == pytest.approx(size * np.sin(angle), abs=0.01)
    assert np.nanmedian(found.fwhm) == pytest.approx(3.0, rel=0.02)


def test_light_within_a_circle_that_grows_with_the_seeing_is_comparable():
    shares = []
    for fwhm in (2.5, 5.0):
        planes, _, _, flux = round_stars(100, fwhm, 3.0, 80)
        stars = stars_of_one_size(planes)
        shares.append(np.nanmedian(core_fluxes(planes, stars, fwhm)) / flux)
    assert shares[0] == pytest.approx(shares[1], rel=0.02)


def test_tilt_and_curvature_have_right_values_and_errors():
    rng, shape = np.random.default_rng(4), (400, 600)
    pulls = []
    for _ in range(300):
        x, y = rng.uniform(0, 599, 150), rng.uniform(0, 399, 150)
        u, v = (x + 0.5) / 300 - 1, (y + 0.5) / 200 - 1
        error = rng.uniform(0.02, 0.1, 150)
        value = 3 + 0.12 * u - 0.16 * v + 0.3 * (u**2 + v**2) / 2 + rng.normal(0, np.hypot(error, 0.05))
        value[:4] += 2.0
        found = fit_field(x, y, value, error, shape)
        pulls.append([(found.tilt - 0.4) / found.tilt_error, (found.curvature - 0.3) / found.curvature_error])
        assert found.stars <= 147
    assert np.degrees(np.arctan2(-0.16, 0.12)) == pytest.approx(found.angle, abs=8)
    assert np.abs(np.mean(pulls, axis=0)).max() < 0.2
    assert np.std(pulls, axis=0) == pytest.approx([1.0, 1.0], abs=0.15)
    assert found.at(np.array([599.5]), np.array([399.5]), shape)[0] == pytest.approx(3 - 0.04 + 0.3, abs=0.1)


def test_too_few_stars_or_stars_on_a_line_tell_nothing_of_the_field():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 99, 100)
    known = np.full(100, 0.1)
    assert fit_field(x[:19], x[:19][::-1], 3 + x[:19], known[:19], (100, 100)) is None
    assert fit_field(x, np.full(100, 50.0), rng.normal(3, 0.1, 100), known, (100, 100)) is None
    assert fit_field(x, x[::-1], np.full(100, np.nan), known, (100, 100)) is None


def test_threads_change_nothing():
    planes, _, _, _ = round_stars(100, 3.0, 3.0, 50)
    stars = stars_of_one_size(planes)
    before = star_shapes(planes, stars, gain=1.0)
    set_threads(1)
    try:
        again = star_shapes(planes, stars, gain=1.0)
    finally:
        set_threads(None)
    for one, two in zip(before, again, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_field_where_nothing_fits_says_so():
    planes, _, _, _ = round_stars(25, 3.0, 3.0, 50)
    stars = stars_of_one_size(planes)
    flagged = (*planes[:3], np.full_like(planes[3], 1))
    found = star_shapes(flagged, stars, gain=1.0)
    assert np.isnan(found.beta)
    assert np.isnan(found.fwhm).all()
    assert light_radii(flagged, stars, (0.5,))[1] == 0
