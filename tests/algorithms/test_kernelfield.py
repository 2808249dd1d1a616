import numpy as np
import pytest
from scipy.ndimage import convolve as plain

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.kernelfield import KernelField, convolve, terms_at, tile_size
from larun.algorithms.matchbasis import delta_basis, gauss_basis
from larun.errors import OptionError


def field(shape, *, change=0.05, half=7):
    images = gauss_basis((0.7, 1.5, 3.0), (4, 2, 2), half).images()
    coefficients = np.random.default_rng(3).normal(0, change, (len(images), 6))
    coefficients[0] = (1, 0, 0, 0, 0, 0)
    ny, nx = shape
    return KernelField(images=images, coefficients=coefficients, domain=((nx - 1) / 2, nx / 2, (ny - 1) / 2, ny / 2))


def constant(kernel):
    return KernelField(images=np.asarray(kernel)[None], coefficients=np.ones((1, 1)), domain=(0, 1, 0, 1))


def noise(shape, seed=1):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def none(shape):
    return np.zeros(shape, np.uint32)


def test_a_constant_kernel_is_a_plain_convolution():
    shape = (61, 83)
    kernel = np.random.default_rng(2).normal(0, 1, (9, 9))  # no symmetry: a turned kernel would be seen
    data = noise(shape)
    made = convolve(constant(kernel), data, data**2, none(shape))
    assert np.allclose(made.data, plain(data.astype(float), kernel, mode="constant"), atol=3e-5)
    assert np.allclose(made.variance, plain(data.astype(float) ** 2, kernel**2, mode="constant"), atol=1e-4)


def test_a_kernel_that_changes_is_that_of_the_middle_of_the_tile():
    shape = (160, 200)
    own, data = field(shape), noise(shape)
    made = convolve(own, data, None, none(shape))
    size = tile_size(shape)
    for y, x in ((0, 0), (87, 103), (159, 199)):
        middle = (x // size * size + (size - 1) / 2, y // size * size + (size - 1) / 2)
        want = plain(data.astype(float), own.at(*middle), mode="constant")[y, x]
        assert made.data[y, x] == pytest.approx(want, abs=3e-5)


def test_terms_and_sums():
    own = field((100, 120))
    x, y = np.array([0.0, 60.0, 119.0]), np.array([99.0, 3.0, 50.0])
    assert np.allclose(own.sums(x, y), [own.at(*place).sum() for place in zip(x, y, strict=True)])
    assert terms_at(np.array([119.5]), np.array([99.5]), 2, own.domain)[0].tolist() == pytest.approx([1] * 6)


def test_pixels_without_a_value_spoil_only_what_sees_them():
    shape = (64, 64)
    data, flags = noise(shape) + 50, none(shape)
    hit = data.copy()
    hit[30, 31], flags[30, 31] = 1e6, fl.COSMIC
    hit[10, 50], flags[10, 50] = np.nan, 0
    kernel = np.full((5, 5), 0.04)
    clean = convolve(constant(kernel), data, None, none(shape), level=50.0)
    made = convolve(constant(kernel), hit, data, flags, level=50.0, spared=0.01)
    near = np.zeros(shape, bool)
    near[28:33, 29:34] = near[8:13, 48:53] = True
    edge = np.ones(shape, bool)
    edge[2:-2, 2:-2] = False
    assert np.all(made.flags[edge] & fl.NO_DATA)
    assert np.all(made.flags[edge] & fl.EDGE)
    assert np.array_equal((made.flags != 0) & ~edge, near)
    assert made.flags[30, 31] == fl.COSMIC
    assert made.flags[10, 50] == fl.NO_DATA
    assert np.array_equal(made.data[~near], clean.data[~near])
    assert np.isfinite(made.data).all()
    assert np.abs(made.data - clean.data).max() < 1


def test_a_tail_of_the_kernel_on_a_bad_pixel_is_no_loss():
    shape = (40, 40)
    flags = none(shape)
    flags[20, 20] = fl.BAD
    kernel = np.zeros((9, 9))
    kernel[4, 4], kernel[4, 0] = 0.999, 0.001
    made = convolve(constant(kernel), noise(shape), None, flags)
    assert made.flags[20, 20] == fl.BAD
    assert made.flags[20, 16] == made.flags[20, 24] == 0


def test_threads_change_no_bit():
    shape = (150, 170)
    own, data, flags = field(shape), noise(shape), none(shape)
    flags[40:43, 50] = fl.SATURATED
    made = []
    for count in (1, 3):
        jit.set_threads(count)
        try:
            made.append(convolve(own, data, data**2, flags))
        finally:
            jit.set_threads(None)
    assert all(one.tobytes() == two.tobytes() for one, two in zip(*made, strict=True))


def test_bases_have_one_sum():
    for basis in (gauss_basis((1.0, 2.5), (3, 1), 6), delta_basis(3)):
        images = basis.images()
        assert images[0].sum() == pytest.approx(1)
        assert np.abs(images[1:].sum(axis=(1, 2))).max() < 1e-12
        flat = images.reshape(len(images), -1)
        assert np.linalg.matrix_rank(flat) == len(images)


def test_options_are_checked():
    with pytest.raises(OptionError, match="as many of both"):
        gauss_basis((1.0, 2.0), (1,), 5)
    with pytest.raises(OptionError, match="must be positive"):
        gauss_basis((0.0,), (1,), 5)
    with pytest.raises(OptionError, match="flags has shape"):
        convolve(constant(np.ones((1, 1))), noise((4, 4)), None, none((4, 5)))


def test_of_pixels_without_a_value_those_on_the_sky_are_spared_and_those_on_stars_are_not():
    """Neighbours stand in for a pixel of the sky within its noise: a hot pixel need not cost all that a kernel sees."""
    shape = (96, 96)
    y, x = np.mgrid[:96, :96]
    star = 4e4 * np.exp(-((x - 60) ** 2 + (y - 60) ** 2) / 8)
    variance = (25 + star).astype(np.float32)
    data = (star + 100 + noise(shape) * np.sqrt(variance)).astype(np.float32)
    flags = none(shape)
    for row, column in ((20, 20), (61, 61), (20, 70)):
        flags[row, column] = fl.BAD
    flags[20, 70] = fl.SATURATED
    kernel = np.full((7, 7), 0.02)
    kernel[3, 3] = 0.04
    made = convolve(constant(kernel / kernel.sum()), data, variance, flags, level=100.0)
    assert made.flags[20, 20] == 0
    assert np.all(made.flags[58:65, 58:65] == fl.BAD)
    assert np.all(made.flags[17:24, 67:74] == fl.SATURATED)
    sharp = np.zeros((7, 7))
    sharp[3, 3] = 1.0
    there = convolve(constant(sharp), data, variance, flags, level=100.0).flags
    assert [int(there[place]) for place in ((20, 20), (61, 61), (20, 70))] == [fl.BAD, fl.BAD, fl.SATURATED]
