"""A point-spread function against error functions, independent drawings and GalSim."""

import numpy as np
import pytest
from scipy.special import erf

from larun.algorithms.aperture import aperture_sums
from larun.algorithms.jit import set_threads
from larun.algorithms.psf import aperture_shares, gaussian_psf, moffat_psf, psf_from_samples, terms_of
from larun.errors import OptionError
from tests.algorithms.star_fields import draw


def pixel_gaussian(dx, dy, sigma):
    def part(d):
        return 0.5 * (erf((d + 0.5) / sigma / 2**0.5) - erf((d - 0.5) / sigma / 2**0.5))

    return part(dx) * part(dy)


@pytest.mark.parametrize(
    ("fwhm", "oversampling", "within"), [(2.0, 4, 1e-4), (2.0, 5, 4e-5), (3.0, 4, 2e-5), (5.0, 2, 5e-5)]
)
def test_a_gaussian_is_integrated_over_pixels(fwhm, oversampling, within):
    psf = gaussian_psf(fwhm, oversampling=oversampling)
    dx, dy = np.random.default_rng(1).uniform(-2 * fwhm, 2 * fwhm, (2, 2000))
    sigma = fwhm / np.sqrt(8 * np.log(2))
    assert np.abs(psf.values(dx, dy)[0] - pixel_gaussian(dx, dy, sigma)).max() < within * pixel_gaussian(0, 0, sigma)


@pytest.mark.parametrize("beta", [2.5, 4.0])
def test_a_moffat_is_what_an_independent_drawing_gives(beta):
    x, y, flux = np.array([30.2, 75.45]), np.array([31.4, 40.0]), np.array([1e4, 3e4])
    image = moffat_psf(3.0, beta, radius=40).draw((80, 110), x, y, flux)
    truth = draw((80, 110), x, y, flux, 3.0, beta, reach=39)
    assert np.abs(image - truth).max() < 5e-5 * truth.max()
    assert truth.sum() > 3e4


def test_elliptical_profiles_are_those_of_galsim():
    import galsim

    psf = moffat_psf(3.2, 3.5, ratio=0.7, theta=30.0, radius=20)
    star = galsim.Moffat(beta=3.5, fwhm=3.2).shear(q=0.7, beta=30 * galsim.degrees).shift(0.3, -0.2)
    truth = star.drawImage(nx=31, ny=31, scale=1.0, dtype=float).array
    image = psf.draw((31, 31), [15.3], [14.8], [1.0])
    assert np.abs(image - truth).max() < 2e-4 * truth.max()  # GalSim's own accuracy is 1e-4 or so
    # turned the other way it is not
    assert np.abs(moffat_psf(3.2, 3.5, ratio=0.7, theta=-30.0).draw((31, 31), [15.3], [14.8], [1.0]) - truth).max() > (
        0.01 * truth.max()
    )


def test_derivatives_are_those_of_the_values():
    psf = moffat_psf(2.5, 3.0, ratio=0.8, theta=20)
    dx, dy = np.random.default_rng(2).uniform(-6, 6, (2, 500))
    step = 1e-5
    _, by_x, by_y = psf.values(dx, dy)
    # the star moves towards +x: the pixel is as much further to its left
    assert by_x == pytest.approx((psf.values(dx - step, dy)[0] - psf.values(dx + step, dy)[0]) / (2 * step), abs=1e-8)
    assert by_y == pytest.approx((psf.values(dx, dy - step)[0] - psf.values(dx, dy + step)[0]) / (2 * step), abs=1e-8)
    assert np.abs(by_x).max() > 0.01


def test_all_light_is_one_wherever_a_star_lies_on_its_pixel():
    psf = gaussian_psf(2.0)
    pixels = np.arange(-8, 9)
    for dx, dy in np.random.default_rng(3).uniform(-0.5, 0.5, (20, 2)):
        assert psf.values(pixels[None, :] - dx, pixels[:, None] - dy)[0].sum() == pytest.approx(1, abs=3e-5)


def test_what_an_aperture_holds_is_what_aperture_photometry_finds():
    psf = moffat_psf(3.0, 2.5)
    rng = np.random.default_rng(4)
    x, y = rng.uniform(20, 21, (2, 60))
    found = []
    for at_x, at_y in zip(x, y, strict=True):
        image = psf.draw((41, 41), [at_x], [at_y], [1.0]).astype(np.float32)
        found.append(aperture_sums(image, None, np.zeros(image.shape, np.uint32), [at_x], [at_y], [4.0]).sum[0, 0])
    assert aperture_shares(psf, 4.0)[0] == pytest.approx(np.mean(found), abs=3e-4)


def varying(aperture=None):
    """A Gaussian that gets wider along x and moves its light to one side along y."""
    grid = np.arange(-30, 31) / 3
    narrow = pixel_gaussian(grid[None, :], grid[:, None], 1.2)
    wide = pixel_gaussian(grid[None, :], grid[:, None], 1.6)
    side = pixel_gaussian(grid[None, :] - 1, grid[:, None], 1.4)
    samples = np.stack([3 * narrow, 0.4 * wide, 0.2 * side])
    return psf_from_samples(samples, 3, fwhm=3.0, aperture=aperture, domain=(500, 500, 400, 400))


def test_nodes_are_polynomials_over_the_image():
    psf, dx = varying(), np.linspace(-3, 3, 7)
    middle, right = psf.values(dx, 0.2, 500, 400)[0], psf.values(dx, 0.2, 750, 400)[0]
    assert right - middle == pytest.approx(0.5 * 0.4 * pixel_gaussian(dx, 0.2, 1.6), abs=2e-4)
    # it is held where the domain ends
    assert np.array_equal(psf.values(dx, 0.2, 5000, 400), psf.values(dx, 0.2, 1000, 400))
    assert psf.order == 1


def test_light_in_the_aperture_is_one_everywhere():
    psf = varying(aperture=5.0)
    assert aperture_shares(psf, 5.0) == pytest.approx([1, 0, 0], abs=1e-6)
    assert psf.aperture == 5.0


def test_drawing_does_not_depend_on_threads():
    x, y, flux = np.random.default_rng(5).uniform(-5, 205, (3, 300))
    images = []
    for count in (1, 2):
        set_threads(count)
        try:
            images.append(varying().draw((200, 200), x, y, flux))
        finally:
            set_threads(None)
    assert np.array_equal(*images)
    assert images[0].max() > 10


def test_a_star_without_a_position_is_not_drawn():
    assert gaussian_psf(3.0).draw((20, 20), [np.nan, 10], [5, 10], [1e3, np.inf]).max() == 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: gaussian_psf(0.1), "fwhm = 0.1"),
        (lambda: gaussian_psf(3, ratio=1.5), "ratio = 1.5"),
        (lambda: gaussian_psf(3, oversampling=1), "oversampling = 1"),
        (lambda: gaussian_psf(3, radius=2), "radius = 2"),
        (lambda: moffat_psf(3, 1.0), "beta = 1"),
        (lambda: psf_from_samples(np.ones((40, 40)), 2, fwhm=3), "n odd"),
        (lambda: psf_from_samples(np.full((41, 41), np.nan), 2, fwhm=3), "finite"),
        (lambda: psf_from_samples(np.ones((41, 41)), 2, fwhm=3, radius=30), "3 to 9"),
        (lambda: psf_from_samples(-np.ones((41, 41)), 2, fwhm=3, aperture=3), "positive"),
        (lambda: psf_from_samples(np.ones((41, 41)), 2, fwhm=3, aperture=30), "aperture = 30"),
        (lambda: terms_of(3), "order = 3"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(OptionError, match=says):
        make()
