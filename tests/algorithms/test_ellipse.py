"""Sums in ellipses against photutils' exact overlap; Kron's radius against sep."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.aperture import aperture_sums
from larun.algorithms.ellipse import ellipse_sums, kron_radius
from larun.errors import OptionError
from tests.algorithms.star_fields import draw


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(3)
    data = rng.normal(100, 20, (90, 110)).astype(np.float32)
    return data, rng.uniform(1, 5, data.shape).astype(np.float32), np.zeros(data.shape, np.uint32)


def random_ellipses(count, rng):
    major = 10 ** rng.uniform(-0.7, 1.3, count)
    return major, major * rng.uniform(0.08, 1, count), rng.uniform(-90, 90, count)


def test_sums_are_those_of_photutils_exact(image):
    from photutils.aperture import EllipticalAperture

    data, variance, flags = image
    rng = np.random.default_rng(5)
    count = 400
    x, y = rng.uniform(-3, 113, count), rng.uniform(-3, 93, count)
    x[:4], y[:4] = [20, 20.5, 30.5, 40], [20, 20, 30.5, 30]  # centres and corners of pixels
    major, minor, theta = random_ellipses(count, rng)
    theta[:8] = [0, 90, -90, 45, 0, 90, 0, -45]
    made = ellipse_sums(data, variance, flags, x, y, (major[:, None], minor[:, None], theta))
    compared = 0
    for i in range(count):
        aperture = EllipticalAperture((x[i], y[i]), major[i], minor[i], theta=np.radians(theta[i]))
        mask = aperture.to_mask(method="exact")
        weights = mask.to_image(data.shape)
        if weights is None or weights.sum() == 0:
            assert np.isnan(made.sum[i, 0])
            assert made.flags[i, 0] == fl.EDGE | fl.NO_DATA
            continue
        compared += 1
        assert made.sum[i, 0] == pytest.approx((weights * data.astype(float)).sum(), rel=1e-9)
        assert made.variance[i, 0] == pytest.approx((weights**2 * variance.astype(float)).sum(), rel=1e-9)
        assert made.area[i, 0] == pytest.approx(weights.sum(), rel=1e-9)
    assert compared > 350


def test_an_ellipse_that_is_a_circle_is_the_circle(image):
    data, variance, flags = image
    rng = np.random.default_rng(6)
    flags = np.where(rng.random(flags.shape) < 0.02, fl.BAD, flags).astype(np.uint32)
    x, y = rng.uniform(0, 109, 60), rng.uniform(0, 89, 60)
    radii = np.array([1.3, 4.0, 7.7])
    circles = aperture_sums(data, variance, flags, x, y, radii)
    axes = np.tile(radii, (60, 1))
    ellipses = ellipse_sums(data, variance, flags, x, y, (axes, axes, rng.uniform(-90, 90, 60)))
    for name in ("sum", "variance", "area", "fraction"):
        np.testing.assert_allclose(getattr(ellipses, name), getattr(circles, name), rtol=1e-9)
    np.testing.assert_array_equal(ellipses.flags, circles.flags)


def test_weights_add_up_to_the_area_of_the_ellipse():
    rng = np.random.default_rng(7)
    flat, flags = np.ones((101, 101), np.float32), np.zeros((101, 101), np.uint32)
    major, minor, theta = random_ellipses(300, rng)
    x, y = rng.uniform(35, 65, (2, 300))
    made = ellipse_sums(flat, None, flags, x, y, (major[:, None], minor[:, None], theta))
    np.testing.assert_allclose(made.sum[:, 0], np.pi * major * minor, rtol=1e-11)
    assert made.variance is None
    assert (made.flags == 0).all()


def test_correlated_noise_is_that_of_drawn_noise():
    """Noise of two neighbouring pixels that share half their variance; 1600 ellipses, own error 2 %."""
    rng = np.random.default_rng(8)
    white = rng.normal(size=(811, 810))
    noise = ((white[1:] + white[:-1]) / np.sqrt(2)).astype(np.float32)
    acf = np.zeros((3, 3))
    acf[:, 1] = (0.5, 1, 0.5)
    x, y = (axis.ravel() + 10 for axis in np.mgrid[:800:20, :800:20])
    shape = (np.full((1600, 1), 5.0), np.full((1600, 1), 2.0), np.full(1600, 60.0))
    made = ellipse_sums(noise, np.ones_like(noise), np.zeros(noise.shape, np.uint32), x, y, shape, acf=acf)
    assert np.std(made.sum) == pytest.approx(np.sqrt(made.variance.mean()), rel=0.05)
    plain = ellipse_sums(noise, np.ones_like(noise), np.zeros(noise.shape, np.uint32), x, y, shape)
    assert made.variance.mean() > 1.5 * plain.variance.mean()


def test_pixels_without_a_value_are_left_out_and_told(image):
    data, variance, flags = (np.array(plane) for plane in image)
    data[40, 40], flags[42, 40], flags[40, 42], flags[38, 40] = (
        np.nan,
        fl.BAD,
        fl.COSMIC | fl.INTERPOLATED,
        fl.SATURATED,
    )
    made = ellipse_sums(data, variance, flags, [40.0], [40.0], ([[6.0]], [[4.0]], [20.0]))
    assert made.area[0, 0] == pytest.approx(np.pi * 24 - 2)
    assert made.flags[0, 0] == fl.NO_DATA | fl.BAD | fl.COSMIC | fl.INTERPOLATED | fl.SATURATED
    for place in ([np.nan, 5.0], [1e300, 5.0], [5.0, -1e300]):
        lost = ellipse_sums(data, variance, flags, [place[0]], [place[1]], ([[6.0]], [[4.0]], [20.0]))
        assert np.isnan(lost.sum[0, 0])
    unknown = ellipse_sums(data, variance, flags, [40.0], [40.0], ([[np.nan]], [[4.0]], [20.0]))
    assert np.isnan(unknown.sum[0, 0])


def test_what_makes_no_sense_is_told(image):
    for shape in (([[0.0]], [[1.0]], [0.0]), ([1.0], [1.0], [0.0]), ([[1.0]], [[1.0]], [0.0, 1.0])):
        with pytest.raises(OptionError, match="ellipses"):
            ellipse_sums(*image, [5.0], [5.0], shape)


def test_kron_radii_are_those_of_sep():
    """Elongated Gaussians, each alone, with noise: the same pixels, the same sums."""
    import sep

    rng = np.random.default_rng(9)
    y, x = np.mgrid[:400, :400]
    image = rng.normal(0, 1, (400, 400))
    cx, cy = (
        axis.ravel() + rng.uniform(-0.5, 0.5, 16) for axis in np.meshgrid([50, 150, 250, 350], [50, 150, 250, 350])
    )
    major, minor, theta = rng.uniform(2, 5, 16), rng.uniform(1.2, 2, 16), rng.uniform(-89, 89, 16)
    for a, b, t, x0, y0 in zip(major, minor, np.radians(theta), cx, cy, strict=True):
        u = (x - x0) * np.cos(t) + (y - y0) * np.sin(t)
        v = (y - y0) * np.cos(t) - (x - x0) * np.sin(t)
        image += 300 * np.exp(-((u / a) ** 2 + (v / b) ** 2) / 2)
    image = image.astype(np.float32)
    wanted, _ = sep.kron_radius(image, cx, cy, major, minor, np.radians(theta), 6.0)
    made = kron_radius(image, np.zeros(image.shape, np.uint32), cx, cy, (major, minor, theta), level=0.0)
    np.testing.assert_allclose(made, wanted, rtol=1e-6)
    np.testing.assert_allclose(made, np.sqrt(np.pi / 2), rtol=0.05)
    radius = 2.5 * made
    flux, _, _ = sep.sum_ellipse(image, cx, cy, major, minor, np.radians(theta), radius, subpix=0)
    axes = ((radius * major)[:, None], (radius * minor)[:, None], theta)
    ours = ellipse_sums(image, None, np.zeros(image.shape, np.uint32), cx, cy, axes)
    np.testing.assert_allclose(ours.sum[:, 0], flux, rtol=1e-6)
    raised = kron_radius(image + 50, np.zeros(image.shape, np.uint32), cx, cy, (major, minor, theta), level=50.0)
    np.testing.assert_allclose(raised, made, rtol=1e-3)


def test_a_neighbour_does_not_widen_the_kron_radius():
    sources = np.array([[50.0, 50.0, 1e5], [57.0, 54.0, 3e5]])
    alone = draw((101, 101), *sources[:1].T, 3.0, np.inf).astype(np.float32)
    both = draw((101, 101), *sources.T, 3.0, np.inf).astype(np.float32)
    flags = np.zeros(alone.shape, np.uint32)
    shape = (np.full(2, 1.3), np.full(2, 1.3), np.zeros(2))
    single = kron_radius(alone, flags, [50.0], [50.0], tuple(axis[:1] for axis in shape), level=0.0)
    pair = kron_radius(both, flags, *sources[:, :2].T, shape, level=0.0)
    blind = kron_radius(both, flags, [50.0], [50.0], tuple(axis[:1] for axis in shape), level=0.0)
    np.testing.assert_allclose(pair, single[0], rtol=0.03)
    assert blind[0] > 2 * single[0]


def test_kron_radii_that_are_not_there():
    flat, flags = np.zeros((30, 30), np.float32), np.zeros((30, 30), np.uint32)
    shape = ([2.0, np.nan, 2.0], [2.0, 1.0, 2.0], [0.0, 0.0, 0.0])
    assert np.isnan(kron_radius(flat, flags, [10, 10, 90], [10, 10, 10], shape, level=0.0)).all()
    assert kron_radius(flat, flags, [], [], ([], [], []), level=0.0).shape == (0,)
