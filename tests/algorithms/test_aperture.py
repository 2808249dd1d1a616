"""Circular apertures: exact areas, calibrated errors, edges and flags."""

import math
import warnings

import numpy as np
import pytest
from photutils.aperture import CircularAperture
from scipy.special import erf

from larun.algorithms.annulus import Annulus, AnnulusSky, annulus_sky
from larun.algorithms.aperture import aperture_sums, photometry
from larun.algorithms.jit import set_threads
from larun.errors import OptionError
from larun.flags import BAD, COSMIC, EDGE, FLAT_INVALID, INTERPOLATED, NO_DATA, SATURATED

RADII = [1.5, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.fixture
def two_threads():
    set_threads(2)
    yield
    set_threads(None)


def noise_image(shape=(60, 70), seed=1):
    rng = np.random.default_rng(seed)
    data = rng.normal(200, 16, shape).astype(np.float32)
    variance = rng.uniform(100, 400, shape).astype(np.float32)
    return data, variance, np.zeros(shape, np.uint32)


def gaussian_stars(flux, fwhm, cells, side, seed):
    """A noise-free image with one pixel-integrated star near the centre of each cell, and the positions."""
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-0.5, 0.5, (2, cells, cells))
    edges = np.arange(side + 1) - 0.5 - side // 2
    cut = np.sqrt(4 * np.log(2)) / fwhm
    profile = [0.5 * np.diff(erf((edges - s[..., None]) * cut), axis=-1) for s in shift]  # dy, dx: (cells, cells, side)
    image = flux * np.einsum("ijk,ijl->ikjl", *profile).reshape(cells * side, cells * side)
    centre = np.arange(cells) * side + side // 2
    return image, (shift[1] + centre).ravel(), (shift[0] + centre[:, None]).ravel()


def test_sums_and_variances_equal_photutils_for_any_radius():
    data, variance, flags = noise_image()
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-4, 74, 400), rng.uniform(-4, 64, 400)
    radii = [0.2, 0.5, 0.7, 1.0, 2.5, 7.0, 12.3]
    sums = aperture_sums(data, variance, flags, x, y, radii)
    inside = np.isfinite(sums.sum)
    assert inside.mean() > 0.8
    for k, r in enumerate(radii):
        aperture = CircularAperture(np.column_stack([x, y]), r)
        expected = aperture.do_photometry(data.astype(float), method="exact")[0]
        np.testing.assert_allclose(sums.sum[inside[:, k], k], expected[inside[:, k]], rtol=1e-11)
        assert not np.any(np.isfinite(expected[~inside[:, k]]) & (expected[~inside[:, k]] != 0))
        for mask, found in zip(aperture.to_mask(method="exact"), sums.variance[:, k], strict=True):
            pixels, part = mask.get_overlap_slices(data.shape)
            if pixels is not None and np.isfinite(found):
                assert found == pytest.approx(np.sum(mask.data[part] ** 2 * variance[pixels].astype(float)), rel=1e-11)


def test_positions_on_pixel_corners_centres_and_edges_have_exact_areas():
    data, variance, flags = noise_image()
    x = np.array([20.0, 20.5, 20.0, 20.5, 20.25])
    y = np.array([20.0, 20.5, 20.5, 20.0, 20.75])
    radii = np.array([0.5, math.sqrt(0.5), 1.0, 1.5, 2.0, 5.0, 5.5])
    sums = aperture_sums(data, variance, flags, x, y, radii)
    np.testing.assert_allclose(sums.area, np.broadcast_to(np.pi * radii**2, sums.area.shape), rtol=1e-13)
    assert np.all(sums.fraction == 1)
    assert not sums.flags.any()


@pytest.mark.parametrize("flux", [500, 5_000, 100_000])
def test_acceptance_23_aperture_errors_are_the_scatter(flux):
    """Poisson star and sky, read noise, sub-pixel positions; the variance plane is made from the noisy pixels."""
    sky, read_noise, cells, side = 200.0, 8.0, 66, 39
    rng = np.random.default_rng(flux)
    truth, x, y = gaussian_stars(flux, 3.0, cells, side, seed=flux + 1)
    data = (rng.poisson(truth + sky) + rng.normal(0, read_noise, truth.shape)).astype(np.float32)
    variance = np.maximum(data, 0) + np.float32(read_noise**2)
    flags = np.zeros(data.shape, np.uint32)
    found = annulus_sky(data, flags, x, y, Annulus(inner=12, outer=18))
    measured = photometry(data, variance, flags, x, y, RADII, sky=found)
    # what the same apertures hold without noise: light on the pixel grid depends on where the star lies in its pixel
    expected = photometry((truth + sky).astype(np.float32), None, flags, x, y, RADII).flux - sky * measured.area
    assert len(x) >= 4000
    residual = measured.flux - expected
    ratio = np.sqrt(np.mean(measured.flux_error**2, axis=0)) / residual.std(axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.05)
    np.testing.assert_allclose((residual / measured.flux_error).std(axis=0), 1, atol=0.05)
    # the median of a Poisson sky lies up to 1/6 e- below its mean
    bias = residual.mean(axis=0) / measured.area.mean(axis=0)
    assert np.all(bias < 1 / 6 + 3 * residual.std(axis=0) / measured.area.mean(axis=0) / math.sqrt(len(x)))
    if flux < 50_000:  # without the sky term the error of a wide aperture is too small by more than the tolerance
        pixels = measured.flux_error[:, -1] ** 2 - (measured.area[:, -1] * found.error) ** 2
        assert np.sqrt(pixels.mean()) < 0.95 * residual[:, -1].std()


def test_correlated_noise_gives_calibrated_errors():
    rng = np.random.default_rng(5)
    side, cells = 20, 60
    smooth = np.outer([0.3, 1, 0.5], [0.4, 1, 0.2])
    white = rng.normal(0, 1, (side * cells, side * cells))
    spectrum = np.abs(np.fft.fft2(smooth, (5, 5))) ** 2
    acf = np.fft.fftshift(np.fft.ifft2(spectrum).real)
    from scipy.ndimage import convolve

    data = convolve(white, smooth, mode="wrap").astype(np.float32)
    variance = np.full(data.shape, np.sum(smooth**2), np.float32)
    grid = np.arange(cells) * side + side / 2
    x, y = (c.ravel() + rng.uniform(-0.5, 0.5, cells**2) for c in np.meshgrid(grid, grid))
    sums = aperture_sums(data, variance, np.zeros(data.shape, np.uint32), x, y, RADII, acf=acf / acf.max())
    ratio = np.sqrt(sums.variance.mean(axis=0)) / sums.sum.std(axis=0)
    np.testing.assert_allclose(ratio, 1, atol=0.05)
    plain = aperture_sums(data, variance, np.zeros(data.shape, np.uint32), x, y, RADII)
    assert np.all(np.sqrt(plain.variance.mean(axis=0)) < 0.8 * sums.sum.std(axis=0))


def test_one_autocorrelation_per_star_equals_one_call_per_star():
    data, variance, flags = noise_image()
    x, y = np.array([20.3, 40.1, -1.0]), np.array([30.2, 10.9, 5.0])
    acf = np.array([np.outer([a, 1, a], [a, 1, a]) for a in (0.0, 0.2, 0.4)])
    together = aperture_sums(data, variance, flags, x, y, RADII, acf=acf)
    for i in range(3):
        alone = aperture_sums(data, variance, flags, x[i : i + 1], y[i : i + 1], RADII, acf=acf[i])
        assert np.array_equal(together.variance[i], alone.variance[0])
    white = aperture_sums(data, variance, flags, x, y, RADII)
    np.testing.assert_allclose(together.variance[0], white.variance[0], rtol=1e-12)
    # the full double sum, for the star that hangs over the edge
    weights = CircularAperture((-1.0, 5.0), 3.0).to_mask(method="exact").to_image(data.shape)
    noise = (weights * np.sqrt(variance.astype(float)))[:12, :6]
    rows, columns = (c.ravel() for c in np.indices(noise.shape))
    near = (abs(rows[:, None] - rows) < 2) & (abs(columns[:, None] - columns) < 2)
    rho = np.where(near, 0.4 ** (abs(rows[:, None] - rows) + abs(columns[:, None] - columns)), 0)
    assert together.variance[2, 2] == pytest.approx(noise.ravel() @ rho @ noise.ravel(), rel=1e-12)


def test_acceptance_24_aperture_over_the_edge_has_its_area_fraction_and_a_flag():
    data, variance, flags = noise_image()
    x, y, r = np.array([0.3, 68.8, 30.0, -0.5, 30.0]), np.array([20.0, 58.9, -2.0, -0.5, 30.0]), 5.0
    sums = aperture_sums(data, variance, flags, x, y, [r])
    expected = CircularAperture(np.column_stack([x, y]), r).area_overlap(data)
    np.testing.assert_allclose(sums.area[:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(sums.fraction[:, 0], expected / (np.pi * r**2), rtol=1e-12)
    assert sums.fraction[3, 0] == pytest.approx(0.25)
    assert sums.flags[:, 0].tolist() == [EDGE, EDGE, EDGE, EDGE, 0]
    # the limit is the outer side of the pixel, and each radius is judged alone
    near = aperture_sums(data, variance, flags, [4.5, 4.49], [30, 30], [5.0, 4.0])
    assert near.flags.tolist() == [[0, 0], [EDGE, 0]]


def test_acceptance_24_outside_the_image_is_nan():
    data, variance, flags = noise_image()
    x = np.array([-10.0, 1e300, np.nan, np.inf, 30, 30])
    y = np.array([20.0, 20, 20, 20, -np.inf, 1e9])
    measured = photometry(data, variance, flags, x, y, [3.0, 4.0])
    assert np.isnan(measured.flux).all()
    assert np.isnan(measured.flux_error).all()
    assert np.isnan(measured.magnitude).all()
    assert np.all(measured.flags == EDGE | NO_DATA)
    assert np.all(measured.fraction == 0)
    # outside for the small circle only
    partly = aperture_sums(data, variance, flags, [-4.0], [20.0], [3.0, 6.0])
    assert np.isnan(partly.sum[0, 0])
    assert np.isfinite(partly.sum[0, 1])
    assert partly.flags[0].tolist() == [EDGE | NO_DATA, EDGE]


@pytest.mark.parametrize(
    ("bits", "counts"),
    [
        (BAD, False),
        (FLAT_INVALID, False),
        (NO_DATA, False),
        (COSMIC, False),
        (COSMIC | INTERPOLATED, True),
        (BAD | INTERPOLATED, True),
        (SATURATED, True),
    ],
)
def test_flagged_pixels_are_left_out_or_counted_and_always_reported(bits, counts):
    data, variance, flags = noise_image()
    data[30, 40] = 5e4
    flags[30, 40] = bits
    sums = aperture_sums(data, variance, flags, [40.2, 60.0], [29.7, 30.0], [3.0])
    weights = CircularAperture((40.2, 29.7), 3.0).to_mask(method="exact").to_image(data.shape)
    if not counts:
        weights[30, 40] = 0
    assert sums.sum[0, 0] == pytest.approx(float(np.sum(weights * data)), rel=1e-12)
    assert sums.variance[0, 0] == pytest.approx(float(np.sum(weights**2 * variance)), rel=1e-12)
    assert sums.area[0, 0] == pytest.approx(weights.sum(), rel=1e-12)
    assert sums.fraction[0, 0] == pytest.approx(weights.sum() / (9 * np.pi), rel=1e-12)
    assert sums.flags[:, 0].tolist() == [bits, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["data", "variance"])
def test_a_pixel_that_is_not_finite_does_not_spread(value, where):
    data, variance, flags = noise_image()
    clean = aperture_sums(data, variance, flags, [40.2, 20], [29.7, 20], [2.0, 3.0])
    (data if where == "data" else variance)[30, 40] = value
    sums = aperture_sums(data, variance, flags, [40.2, 20], [29.7, 20], [2.0, 3.0])
    assert np.isfinite(sums.sum).all()
    assert np.isfinite(sums.variance).all()
    np.testing.assert_allclose(sums.area[0], clean.area[0] - 1, rtol=1e-12)
    assert sums.flags.tolist() == [[NO_DATA, NO_DATA], [0, 0]]
    assert np.array_equal(sums.sum[1], clean.sum[1])


def test_an_aperture_with_no_usable_pixel_is_nan_and_says_so():
    data, variance, flags = noise_image()
    flags[25:35, 35:45] = BAD
    measured = photometry(data, variance, flags, [40.0], [30.0], [2.0, 8.0])
    assert np.isnan(measured.flux[0, 0])
    assert np.isfinite(measured.flux[0, 1])
    assert measured.flags[0].tolist() == [BAD | NO_DATA, BAD]
    assert measured.fraction[0, 0] == 0


def test_photometry_subtracts_level_times_area_and_adds_the_sky_error():
    data, variance, flags = noise_image()
    x, y = np.array([20.3, 0.0, 45.0]), np.array([20.8, 30.0, 44.0])
    sky = AnnulusSky(np.array([150.0, 190.0, np.nan]), np.array([0.7, 0.3, np.nan]), np.full(3, 16.0), np.full(3, 500))
    sums = aperture_sums(data, variance, flags, x, y, RADII)
    measured = photometry(data, variance, flags, x, y, RADII, sky=sky)
    flux = sums.sum - sky.level[:, None] * sums.area
    error = np.sqrt(sums.variance + sums.area**2 * sky.error[:, None] ** 2)
    np.testing.assert_allclose(measured.flux, flux, rtol=1e-14)
    np.testing.assert_allclose(measured.flux_error, error, rtol=1e-14)
    np.testing.assert_allclose(measured.magnitude[:2], -2.5 * np.log10(flux[:2]), rtol=1e-14)
    np.testing.assert_allclose(measured.magnitude_error[:2], 1.0857362 * error[:2] / flux[:2], rtol=1e-7)
    np.testing.assert_allclose(measured.snr, flux / error, rtol=1e-14)
    # no level: NaN, and a flag that says so; another level fills it
    assert np.all(measured.flags[2] == NO_DATA)
    filled = photometry(data, variance, flags, x, y, RADII, sky=sky.filled(180.0, 0.5))
    np.testing.assert_allclose(filled.flux[2], sums.sum[2] - 180 * sums.area[2], rtol=1e-13)
    assert np.array_equal(filled.flux[:2], measured.flux[:2])
    assert not filled.flags[2].any()


def test_a_background_map_is_subtracted_pixel_by_pixel():
    data, variance, flags = noise_image()
    rows, columns = np.indices(data.shape)
    sky = (180 + 0.3 * rows - 0.2 * columns).astype(np.float32)
    measured = photometry(data, variance, flags, [20.3, 66.0], [20.8, 30.0], RADII, sky=sky)
    expected = aperture_sums(data - sky, variance, flags, [20.3, 66.0], [20.8, 30.0], RADII)
    assert np.array_equal(measured.flux, expected.sum)
    assert np.array_equal(measured.flux_error, np.sqrt(expected.variance))
    assert np.array_equal(photometry(data - sky, variance, flags, [20.3, 66.0], [20.8, 30.0], RADII).flux, expected.sum)


def test_a_map_that_is_not_finite_costs_its_pixel_only():
    data, variance, flags = noise_image()
    sky = np.full(data.shape, 200, np.float32)
    data[30, 40], sky[30, 40], sky[31, 40] = np.inf, np.inf, np.nan
    measured = photometry(data, variance, flags, [40.0], [30.0], [3.0], sky=sky)
    assert np.isfinite(measured.flux[0, 0])
    assert measured.area[0, 0] == pytest.approx(9 * np.pi - 2)
    assert measured.flags[0, 0] == NO_DATA


def test_fluxes_that_are_not_positive_have_no_magnitude_and_no_warning():
    data, variance, flags = np.zeros((30, 30), np.float32), np.ones((30, 30), np.float32), np.zeros((30, 30), np.uint32)
    data[15:] = -5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = photometry(data, variance, flags, [8, 8], [5, 25], [3.0])
        noiseless = photometry(data, variance * 0, flags, [8, 8], [5, 25], [3.0])
    assert np.isnan(measured.magnitude).all()
    assert np.isnan(measured.magnitude_error).all()
    assert measured.flux[0, 0] == 0
    assert measured.flux[1, 0] < 0
    assert measured.snr[1, 0] < 0
    assert np.isnan(noiseless.flux_error).all()
    without = photometry(data, None, flags, [8], [5], [3.0])
    assert (without.flux_error, without.magnitude_error, without.snr) == (None, None, None)


def test_acceptance_34_threads_neighbours_in_the_list_and_memory_layout_change_no_bit(two_threads):
    data, variance, flags = noise_image((300, 300))
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-5, 305, (2, 1500))
    both = aperture_sums(data, variance, flags, x, y, RADII)
    set_threads(1)
    one = aperture_sums(data, variance, flags, x, y, RADII)
    order = rng.permutation(1500)
    shuffled = aperture_sums(np.asfortranarray(data), variance.astype(">f4"), flags, x[order], y[order], RADII[::-1])
    for a, b, c in zip(one, both, shuffled, strict=True):
        assert np.array_equal(a, b, equal_nan=True)
        assert np.array_equal(a[order][:, ::-1], c, equal_nan=True)


def test_empty_lists_give_empty_results():
    data, variance, flags = noise_image()
    measured = photometry(data, variance, flags, [], [], RADII)
    assert measured.flux.shape == (0, 6)
    assert measured.flags.dtype == np.uint32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": [3, 0]}, "radii"),
        ({"radii": [np.nan]}, "radii"),
        ({"radii": []}, "radii"),
        ({"radii": 3.0}, "radii"),
        ({"x": [1.0]}, "x and y"),
        ({"flags": np.zeros((3, 3), np.uint32)}, "flags has shape"),
        ({"variance": np.zeros((3, 3), np.float32)}, "variance has shape"),
        ({"data": np.zeros(9, np.float32)}, "data has shape"),
        ({"acf": np.ones((2, 2))}, "acf has shape"),
        ({"acf": np.full((3, 3), 0.5)}, "1 at its centre"),
        ({"acf": np.array([[0, 0, 0.5], [0, 1, 0], [0, 0, 0]])}, "opposite lags"),
        ({"acf": np.ones((5, 3, 3))}, "acf has shape"),
    ],
)
def test_options_that_make_no_sense_are_named(change, message):
    data, variance, flags = noise_image()
    given = {"data": data, "variance": variance, "flags": flags, "x": [5, 6], "y": [5, 6], "radii": [3.0], **change}
    with pytest.raises(OptionError, match=message):
        aperture_sums(**given)


def test_a_sky_measured_elsewhere_is_refused():
    data, variance, flags = noise_image()
    sky = AnnulusSky(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3, np.int64))
    with pytest.raises(OptionError, match="3 levels for 2 positions"):
        photometry(data, variance, flags, [5, 6], [5, 6], [3.0], sky=sky)
    with pytest.raises(OptionError, match="sky has shape"):
        photometry(data, variance, flags, [5, 6], [5, 6], [3.0], sky=data[1:])
