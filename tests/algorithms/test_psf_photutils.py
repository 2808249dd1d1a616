"""Fits of stars beside those of photutils with the same function."""

import numpy as np
import pytest
from astropy.table import QTable

from larun.algorithms.psf import gaussian_psf, moffat_psf
from larun.algorithms.psf_fit import FitOptions, fit_stars
from tests.algorithms.star_fields import draw, grid

SKY, READ_NOISE = 100.0, 5.0


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(21)
    side = 500
    x, y = grid(rng, side, 25)
    flux = 10 ** rng.uniform(3.3, 5, x.size)
    image = draw((side, side), x, y, flux, 3.0, np.inf, reach=20)
    data = (rng.poisson(image + SKY) + rng.normal(0, READ_NOISE, image.shape)).astype(np.float32)
    flat = np.full_like(data, SKY)
    planes = data, flat, flat + np.float32(READ_NOISE**2), np.zeros(data.shape, np.uint32)
    return planes, image, x, y, flux


def by_photutils(scene, sigma, count):
    from photutils.psf import CircularGaussianPRF, PSFPhotometry

    (data, level, _, _), _, x, y, _ = scene
    model = CircularGaussianPRF(fwhm=3.0)
    start = QTable({"x": x[:count], "y": y[:count]})
    fitted = PSFPhotometry(model, (13, 13), aperture_radius=4)(
        (data - level).astype(float), error=sigma, init_params=start
    )
    return tuple(np.asarray(fitted[name], float) for name in ("x_fit", "y_fit", "flux_fit", "flux_err", "x_err"))


def test_with_the_same_weights_it_is_the_same_star(scene):
    # with the true noise as the weight both solve one problem
    planes, image, x, y, _ = scene
    theirs = by_photutils(scene, np.sqrt(image + planes[2]), 150)
    ours = fit_stars(planes, gaussian_psf(3.0, oversampling=6), x[:150], y[:150])
    assert np.abs((ours.flux - theirs[2]) / ours.flux_error).max() < 0.1
    assert np.abs((ours.x - theirs[0]) / ours.x_error).max() < 0.1
    assert np.abs((ours.y - theirs[1]) / ours.y_error).max() < 0.1
    assert ours.flux_error == pytest.approx(theirs[3], rel=0.03)
    assert ours.x_error == pytest.approx(theirs[4], rel=0.06)


def test_weights_of_pixels_themselves_make_stars_too_faint(scene):
    (data, _, _, _), _, x, y, flux = scene
    planes = scene[0]
    theirs = by_photutils(scene, np.sqrt(np.maximum(data, 0) + READ_NOISE**2).astype(float), 150)
    ours = fit_stars(planes, gaussian_psf(3.0), x[:150], y[:150])
    faint = flux[:150] < 6000
    error = np.std((ours.flux / flux[:150])[faint]) / np.sqrt(faint.sum())
    assert np.mean((ours.flux / flux[:150])[faint]) == pytest.approx(1, abs=3 * error)
    assert np.mean((theirs[2] / flux[:150])[faint]) < 0.99


def test_a_function_of_the_wrong_shape_gives_other_fluxes(scene):
    planes, _, x, y, flux = scene
    found = fit_stars(planes, moffat_psf(3.0, 3.0), x, y, options=FitOptions(reach=4))
    assert np.median(found.flux / flux) > 1.05
    assert np.median(found.chi2) > np.median(fit_stars(planes, gaussian_psf(3.0), x, y).chi2)
