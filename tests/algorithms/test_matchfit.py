import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.cholesky import solve_positive
from larun.algorithms.kernelfield import KernelField, convolve, terms_at
from larun.algorithms.matchbasis import delta_basis, gauss_basis
from larun.algorithms.matchfit import MatchOptions, Side, choose_stamps, fit_kernel
from larun.errors import NotAligned, OptionError
from tests.algorithms.pair_fields import pair, psf_of

SHAPE = (360, 400)
SKY, NOISE2 = 300.0, 400.0


def truth(order=1):
    """A kernel of known parts: what the basis of the fit is made of."""
    images = gauss_basis((0.8, 1.6), (2, 2), 7).images()
    coefficients = np.zeros((len(images), 3))
    coefficients[:, 0] = np.random.default_rng(7).normal(0, 0.1, len(images))
    coefficients[0] = (0.8, 0, 0)
    if order:
        coefficients[1:, 1:] = np.random.default_rng(8).normal(0, 0.03, (len(images) - 1, 2))
    ny, nx = SHAPE
    return KernelField(images=images, coefficients=coefficients, domain=((nx - 1) / 2, nx / 2, (ny - 1) / 2, ny / 2))


def stars(seed=1, count=250):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, SHAPE[1], count), rng.uniform(0, SHAPE[0], count), 400 * 200 ** rng.uniform(0, 1, count)


def sides(own, *, reference_noise=1.0, seed=1):
    """A reference, and the same convolved with a kernel; sky, background and noise added."""
    rng = np.random.default_rng(seed)
    x, y, flux = stars()
    light = psf_of(SHAPE, 2.6).draw(SHAPE, x, y, flux).astype(np.float32)
    flags = np.zeros(SHAPE, np.uint32)
    blurred = convolve(own, light, None, flags).data
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]] / 400
    science = blurred + SKY + 20 * u - 10 * u * v + rng.normal(0, 1, SHAPE) * np.sqrt(NOISE2 + blurred)
    noise = rng.normal(0, 1, SHAPE) * np.sqrt(NOISE2 + light) * reference_noise
    flat = np.full(SHAPE, NOISE2, np.float32)
    order = np.argsort(-flux)
    chosen = order[choose_stamps(x[order], y[order], SHAPE, margin=20, apart=12)]
    return (
        Side(science.astype(np.float32), flat, flags, SKY),
        Side((light + SKY + noise).astype(np.float32), flat * np.float32(reference_noise**2 + 1e-6), flags, SKY),
        x[chosen],
        y[chosen],
    )


def basis():
    return gauss_basis((0.8, 1.6), (2, 2), 7)


def test_a_known_kernel_is_found():
    own = truth()
    science, reference, x, y = sides(own, reference_noise=0.0)
    found = fit_kernel(science, reference, basis(), x, y, options=MatchOptions(order=1))
    assert 60 < found.used.sum() <= len(x)
    assert found.median_chi2 == pytest.approx(1, abs=0.05)
    assert abs(found.scale - 0.8) < 4 * found.scale_error < 0.01
    for place in ((40, 40), (200, 180), (360, 320)):
        want = own.at(*place)
        assert np.abs(found.field.at(*place) - want).max() < 0.04 * want.max()
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    behind = terms_at(u.ravel(), v.ravel(), 2, found.field.domain) @ found.background
    want = 20 * u / 400 - 10 * u * v / 400**2
    assert np.abs(behind.reshape(SHAPE) - want)[30:-30, 30:-30].max() < 1.5


def test_the_error_of_the_scale_is_its_scatter():
    own = truth(0)
    pulls = []
    for seed in range(24):
        science, reference, x, y = sides(own, seed=seed)
        found = fit_kernel(science, reference, basis(), x, y, options=MatchOptions(order=0, background=1))
        pulls.append((found.scale - 0.8) / found.scale_error)
    assert abs(np.mean(pulls)) < 0.7  # the reference's noise does not make it smaller
    assert 0.65 < np.std(pulls) < 1.4


def test_noise_of_the_reference_does_not_shrink_the_scale():
    own = truth(0)
    found = []
    for seed in range(6):
        science, reference, x, y = sides(own, reference_noise=5.0, seed=seed)
        found.append(fit_kernel(science, reference, basis(), x, y, options=MatchOptions(order=0)).scale)
    assert np.mean(found) == pytest.approx(0.8, abs=0.006)


def test_stars_that_changed_are_left_out():
    own = truth()
    science, reference, x, y = sides(own, reference_noise=0.0)
    data = science.data.copy()
    changed = np.arange(0, len(x), 6)
    data += psf_of(SHAPE, 3.4).draw(SHAPE, x[changed], y[changed], np.full(len(changed), 6000.0)).astype(np.float32)
    found = fit_kernel(science._replace(data=data), reference, basis(), x, y, options=MatchOptions(order=1))
    assert found.used[changed].mean() < 0.1
    others = np.setdiff1d(np.arange(len(x)), changed)
    assert found.used[others].mean() > 0.8
    assert abs(found.scale - 0.8) < 5 * found.scale_error


def test_masked_pixels_take_no_part():
    own = truth()
    science, reference, x, y = sides(own, reference_noise=0.0)
    spoilt, flags = [side.data.copy() for side in (science, reference)], [np.zeros(SHAPE, np.uint32) for _ in "12"]
    rng = np.random.default_rng(5)
    for data, bits in zip(spoilt, flags, strict=True):
        j, i = rng.integers(0, SHAPE[0], 60), rng.integers(0, SHAPE[1], 60)
        data[j, i], bits[j, i] = 1e6, fl.COSMIC
    data, _ = spoilt
    data[100:110, 100] = np.nan
    found = fit_kernel(
        science._replace(data=spoilt[0], flags=flags[0]),
        reference._replace(data=spoilt[1], flags=flags[1]),
        basis(),
        x,
        y,
        options=MatchOptions(order=1),
    )
    assert found.median_chi2 == pytest.approx(1, abs=0.05)
    assert abs(found.scale - 0.8) < 4 * found.scale_error


def test_the_delta_basis_finds_it_too():
    own = truth(0)
    science, reference, x, y = sides(own, reference_noise=0.0)
    want = own.at(200, 180)[1:-1, 1:-1]
    rough = {}
    for smooth in (0.0, 1e-4):
        options = MatchOptions(order=0, smooth=smooth)
        found = fit_kernel(science, reference, delta_basis(6), x, y, options=options)
        assert found.scale == pytest.approx(0.8, abs=0.005)
        assert found.median_chi2 == pytest.approx(1, abs=0.05)
        rough[smooth] = (found.field.at(200, 180) - want).std() / want.max()
    assert rough[1e-4] < 0.03 < rough[0.0] / 2  # single pixels are noise; a smooth kernel is not


def test_a_sum_that_changes_over_the_image():
    own = truth()
    tilted = own.coefficients.copy()
    tilted[0, 1] = 0.04
    own = KernelField(images=own.images, coefficients=tilted, domain=own.domain)
    science, reference, x, y = sides(own, reference_noise=0.0)
    found = fit_kernel(science, reference, basis(), x, y, options=MatchOptions(order=1, constant_sum=False))
    ends = found.field.sums(np.array([0.0, 399.0]), np.array([180.0, 180.0]))
    assert ends == pytest.approx([0.76, 0.84], abs=0.008)


def test_simulated_images_with_psfs_that_change():
    field = pair(seed=3)
    flags = np.zeros(field.science.shape, np.uint32)
    flat = np.full_like(field.science, 336.0)
    science, reference = (Side(data, flat, flags, float(np.median(data))) for data in (field.science, field.reference))
    order = np.argsort(-field.flux)[:200]
    chosen = order[choose_stamps(field.x[order], field.y[order], flags.shape, margin=20, apart=12)]
    found = fit_kernel(science, reference, gauss_basis((0.7, 1.5, 3.0), (4, 2, 2), 7), field.x[chosen], field.y[chosen])
    made = convolve(found.field, field.reference, field.reference_variance, flags, level=reference.level)
    v, u = np.mgrid[: flags.shape[0], : flags.shape[1]].astype(float)
    behind = terms_at(u.ravel(), v.ravel(), 2, found.field.domain) @ found.background
    good = made.flags == 0
    residual = field.science - science.level - made.data - behind.reshape(flags.shape)
    pull = (residual / np.sqrt(field.science_variance + made.variance))[good]
    bright = (field.science_variance > 2 * 336)[good]
    assert abs(pull.mean()) < 0.03
    assert pull.std() == pytest.approx(1, abs=0.02)
    assert pull[bright].std() < 1.12
    assert found.scale == pytest.approx(1, abs=0.01)  # some light of the wings lies beyond the kernel


def test_stamps_lie_apart_and_everywhere():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 600, 3000), rng.uniform(0, 500, 3000)
    chosen = choose_stamps(x, y, (500, 600), margin=20, apart=15, most=90)
    assert len(chosen) == 90
    px, py = x[chosen], y[chosen]
    assert px.min() >= 20
    assert px.max() < 580
    assert py.min() >= 20
    assert py.max() < 480
    away = np.maximum(np.abs(px[:, None] - px), np.abs(py[:, None] - py)) + 1000 * np.eye(90)
    assert away.min() > 14
    assert np.histogram2d(px, py, bins=3, range=((0, 600), (0, 500)))[0].min() >= 5


def test_threads_change_no_bit():
    science, reference, x, y = sides(truth())
    made = []
    for count in (1, 3):
        jit.set_threads(count)
        try:
            made.append(fit_kernel(science, reference, basis(), x, y).field.coefficients.tobytes())
        finally:
            jit.set_threads(None)
    assert made[0] == made[1]


def test_too_few_stars_are_refused():
    science, reference, x, y = sides(truth())
    with pytest.raises(NotAligned, match="5 stamps around stars for a kernel of order 2: it needs 18"):
        fit_kernel(science, reference, basis(), x[:5], y[:5])
    with pytest.raises(OptionError, match="order = 5"):
        MatchOptions(order=5)


def test_a_positive_system_is_solved():
    rng = np.random.default_rng(1)
    root = rng.normal(0, 1, (40, 40))
    matrix, right = root @ root.T + np.eye(40), rng.normal(0, 1, (40, 2))
    made = solve_positive(matrix, right)
    assert np.allclose(made, np.linalg.solve(matrix, right))
    matrix[3, 3] = -1
    assert solve_positive(matrix, right) is None
