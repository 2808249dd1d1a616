"""Images on other pixels: values, flux, noise, flags and the footprint, against what is known."""

import math

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.mapping import affine, mapped
from larun.algorithms.resample import ResampleOptions, resample, resample_variance
from larun.errors import OptionError

KERNELS = ("lanczos3", "bilinear", "nearest", "area")


def turned(angle, scale, shape, out=None):
    """A mapping that turns about the middle; ``scale`` input pixels to an output pixel."""
    out = out or shape
    c, s = math.cos(math.radians(angle)) * scale, math.sin(math.radians(angle)) * scale
    matrix = np.array([[c, -s], [s, c]])
    middle_in, middle_out = (np.array([(size[1] - 1) / 2, (size[0] - 1) / 2]) for size in (shape, out))
    return affine(matrix, middle_in - matrix @ middle_out, out)


def shift(dx, dy, shape):
    return affine(np.eye(2), [dx, dy], shape)


def clean(shape):
    return np.zeros(shape, np.uint32)


def stars(shape, places, fwhm, flux):
    """Gaussian stars integrated over pixels, so that their flux is known."""
    edges = [np.arange(size + 1) - 0.5 for size in shape]
    sigma = fwhm / 2.3548
    image = np.zeros(shape)
    for x, y in places:
        parts = []
        for at, edge in ((y, edges[0]), (x, edges[1])):
            cumulated = np.array([0.5 * math.erf((e - at) / sigma / math.sqrt(2)) for e in edge])
            parts.append(np.diff(cumulated))
        image += flux * np.outer(*parts)
    return image.astype(np.float32)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_shift_by_whole_pixels_keeps_every_bit(kernel):
    data = np.random.default_rng(1).normal(200, 5, (70, 90)).astype(np.float32)
    variance = np.random.default_rng(2).uniform(20, 30, (70, 90)).astype(np.float32)
    made = resample(data, variance, clean(data.shape), shift(3, -2, data.shape), options=ResampleOptions(kernel=kernel))
    assert np.array_equal(made.data[2:, :-3], data[:-2, 3:])
    assert np.array_equal(made.variance[2:, :-3], variance[:-2, 3:])
    outside = (made.flags & fl.NO_DATA) != 0
    assert outside[:2].all()
    assert outside[:, -3:].all()
    assert not outside[2:, :-3].any()
    assert np.array_equal(np.isnan(made.data), outside)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_flat_image_stays_flat(kernel):
    data = np.full((80, 80), 1000, np.float32)
    made = resample(data, None, clean(data.shape), turned(17, 1.0, data.shape), options=ResampleOptions(kernel=kernel))
    inside = made.flags == 0
    assert inside.sum() > 3000
    np.testing.assert_allclose(made.data[inside], 1000, rtol=3e-6)
    assert made.variance is None


@pytest.mark.parametrize("kernel", ["lanczos3", "bilinear"])
def test_a_gradient_stays_what_it_is(kernel):
    y, x = np.mgrid[:60, :60]
    data = (3 * x - 2 * y).astype(np.float32)
    mapping = turned(7, 1.0, data.shape)
    made = resample(data, None, clean(data.shape), mapping, options=ResampleOptions(kernel=kernel))
    there = mapping.at(x, y)
    good = made.flags == 0
    assert np.max(np.abs(made.data - (3 * there[0] - 2 * there[1]))[good]) < 2e-3


@pytest.mark.parametrize(("angle", "dx"), [(0, 0.5), (0, 0.13), (5, 0.0), (33, 0.3)])
def test_a_star_is_where_it_should_be_and_keeps_its_flux(angle, dx):
    shape = (81, 81)
    mapping = turned(angle, 1.0, shape)
    mapping = mapping._replace(x=mapping.x + dx)
    data = stars(shape, [(43.3, 38.8)], 3.0, 1e5)
    made = resample(data, None, clean(shape), mapping)
    image = np.nan_to_num(made.data, nan=0.0).astype(float)
    y, x = np.mgrid[: shape[0], : shape[1]]
    assert image.sum() == pytest.approx(1e5, rel=2e-4)
    found = (image * x).sum() / image.sum(), (image * y).sum() / image.sum()
    there = mapping.at(*found)
    assert np.hypot(there[0] - 43.3, there[1] - 38.8) < 2e-3
    # and it is the star that would have been seen there
    c = math.radians(angle)
    middle = 40.0
    at = np.array([43.3 - middle - dx, 38.8 - middle])
    seen = np.array([math.cos(c) * at[0] + math.sin(c) * at[1], -math.sin(c) * at[0] + math.cos(c) * at[1]]) + middle
    wanted = stars(shape, [seen], 3.0, 1e5)
    assert np.max(np.abs(image - wanted)) < 0.008 * wanted.max()  # six neighbours of a star this sharp know no more


@pytest.mark.parametrize("scale", [0.31, 0.5, 0.9, 0.97, 1.0, 1.01, 1.3, 2.0, 3.7])
@pytest.mark.parametrize("angle", [0.0, 12.0])
def test_flux_is_kept_at_any_scale(scale, angle):
    shape = (120, 120)
    size = int(150 / scale) + 8
    data = stars(shape, [(60.2, 59.7), (40.4, 71.1)], 3.0, 1e4) + np.float32(10)
    made = resample(data, None, clean(shape), turned(angle, scale, shape, (size, size)))
    kernel = "lanczos3" if abs(scale - 1) < 0.02 else "area"
    same = resample(
        data, None, clean(shape), turned(angle, scale, shape, (size, size)), options=ResampleOptions(kernel=kernel)
    )
    assert np.array_equal(made.data, same.data, equal_nan=True)
    y, x = np.mgrid[:size, :size]
    near = np.hypot(x - (size - 1) / 2, y - (size - 1) / 2) * scale < 45
    flux = np.sum((made.data[near] - 10 * scale**2).astype(float))
    assert flux == pytest.approx(2e4, rel=1e-3)


def test_brightness_is_kept_where_that_is_asked_for():
    data = np.full((60, 60), 100, np.float32)
    for kernel in KERNELS:
        for scale in (0.8, 1.9):
            options = ResampleOptions(kernel=kernel, conserve="brightness")
            made = resample(data, data, clean(data.shape), turned(9, scale, data.shape), options=options)
            np.testing.assert_allclose(made.data[made.flags == 0], 100, rtol=1e-5)


def test_areas_are_those_of_a_fine_grid():
    rng = np.random.default_rng(3)
    data = rng.uniform(0, 100, (20, 20)).astype(np.float32)
    mapping = turned(28, 1.7, data.shape, (10, 10))
    made = resample(data, None, clean(data.shape), mapping, options=ResampleOptions(kernel="area"))
    fine = 200
    grid = (np.arange(fine) + 0.5) / fine - 0.5
    area = float(mapping.areas().mean())
    for row, column in ((4, 5), (3, 3), (5, 6)):
        x, y = mapping.at(*np.meshgrid(column + grid, row + grid))
        wanted = data[np.rint(y).astype(int), np.rint(x).astype(int)].mean() * area
        assert made.data[row, column] == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize("mirror", [1, -1])
def test_areas_share_all_flux_out_mirrored_too(mirror):
    data = np.random.default_rng(4).uniform(10, 20, (37, 53)).astype(np.float32)
    matrix = np.array([[0.71, -0.4], [0.35, 0.66 * 1]]) @ np.diag([1, mirror])
    mapping = affine(matrix, np.array([26, 18]) - matrix @ np.array([75, 75]), (151, 151))
    made = resample(data, data, clean(data.shape), mapping, options=ResampleOptions(kernel="area"))
    assert np.nansum(made.data.astype(float)) == pytest.approx(data.sum(dtype=float), rel=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (5, 1.0), (20, 1.4)])
def test_the_variance_is_that_of_many_noise_images(kernel, angle, scale):
    rng = np.random.default_rng(5)
    shape = (48, 48)
    level = rng.uniform(4, 9, shape).astype(np.float32) ** 2
    mapping = turned(angle, scale, shape)
    mapping = mapping._replace(x=mapping.x + 0.37, y=mapping.y - 0.21)
    options = ResampleOptions(kernel=kernel)
    squares, count = 0.0, 1200
    for _ in range(count):
        noise = (rng.standard_normal(shape) * np.sqrt(level)).astype(np.float32)
        made = resample(noise, level, clean(shape), mapping, options=options)
        squares = squares + made.data.astype(float) ** 2
    good = made.flags == 0
    ratio = squares[good] / count / made.variance[good]
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.std() < 1.5 * math.sqrt(2 / count)
    assert np.array_equal(resample_variance(level, mapping, options=options)[good], made.variance[good])


def test_a_bad_pixel_rings_into_nothing_and_its_flag_goes_along():
    data = np.full((40, 40), 50, np.float32)
    flags = clean(data.shape)
    for y, x, bit, value in ((10, 10, fl.BAD, 1e9), (20, 30, fl.NO_DATA, np.nan), (31, 12, fl.COSMIC, -4e8)):
        data[y, x], flags[y, x] = value, bit
    for kernel in KERNELS:
        options = ResampleOptions(kernel=kernel)
        made = resample(data, np.ones_like(data), flags, shift(0.4, 0.3, data.shape), options=options)
        rest = np.isfinite(made.data)
        whole = rest & ((made.flags & fl.EDGE) == 0)  # areas at the edge are parts of a pixel
        assert np.allclose(made.data[whole], 50, rtol=1e-5), kernel
        for y, x, bit in ((10, 10, fl.BAD), (20, 30, fl.NO_DATA), (31, 12, fl.COSMIC)):
            seen = np.argwhere(made.flags[:38, :38] & bit)
            assert 1 <= len(seen) <= 16
            assert np.all(np.abs(seen - [y, x]) <= 3)
        assert np.array_equal(~rest, (made.flags & fl.NO_DATA) != 0)


def test_what_a_step_has_filled_is_taken_as_it_is():
    data = np.full((30, 30), 50, np.float32)
    data[14:17, 14:17] = 80
    flags = clean(data.shape)
    flags[14:17, 14:17] = fl.COSMIC | fl.INTERPOLATED
    made = resample(data, None, flags, shift(0, 0, data.shape))
    assert np.array_equal(made.data, data)
    assert np.array_equal(made.flags & ~fl.EDGE, flags)


def test_a_saturated_star_keeps_its_peak():
    data = stars((41, 41), [(20, 20)], 4, 1e6)
    flags = clean(data.shape)
    flags[data > 3e4] = fl.SATURATED
    made = resample(data, None, flags, shift(0.5, 0.5, data.shape))
    assert made.data[np.isfinite(made.data)].max() > 0.8 * data.max()
    assert (made.flags & fl.SATURATED).any()


def test_the_footprint_is_exact():
    shape = (50, 60)
    data = np.ones(shape, np.float32)
    mapping = turned(30, 1.0, shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    there = mapping.at(x, y)
    inside = (np.abs(there[0] - 29.5) <= 30) & (np.abs(there[1] - 24.5) <= 25)
    made = resample(data, None, clean(shape), mapping)
    assert np.array_equal((made.flags & fl.NO_DATA) == 0, inside)
    far = resample(data, None, clean(shape), shift(1000, 0, shape))
    assert np.isnan(far.data).all()
    assert np.all(far.flags == fl.NO_DATA)
    assert np.isnan(
        resample(data, None, clean(shape), shift(1000, 0, shape), options=ResampleOptions(kernel="area")).data
    ).all()


def test_threads_change_no_bit():
    rng = np.random.default_rng(6)
    data = rng.normal(100, 10, (300, 200)).astype(np.float32)
    flags = (rng.random(data.shape) < 0.01).astype(np.uint32)
    bent = mapped(lambda x, y: (x + 1e-5 * y**2, y * 0.999 + 0.2), data.shape)
    results = []
    for count in (1, 2, 5):
        jit.set_threads(count)
        try:
            results.append([resample(data, data, flags, bent, options=ResampleOptions(kernel=k)) for k in KERNELS])
        finally:
            jit.set_threads(None)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True))


def test_senseless_options_are_refused():
    with pytest.raises(OptionError, match="kernel='cubic'"):
        ResampleOptions(kernel="cubic")
    with pytest.raises(OptionError, match="conserve='mass'"):
        ResampleOptions(conserve="mass")
    data = np.ones((5, 5), np.float32)
    with pytest.raises(OptionError, match="flags has shape"):
        resample(data, None, clean((4, 5)), shift(0, 0, (5, 5)))
