import numpy as np
import pytest

from larun import flags as flagtable
from larun.algorithms.detect import DetectOptions, detect_matched
from larun.algorithms.jit import set_threads
from larun.algorithms.shapes import measure, position_angle
from tests.algorithms.star_fields import draw, grid

MASK = int(flagtable.UNUSABLE)


def measured(image, x, y, *, fwhm, noise=1.0, flags=None, gain=1.0):
    image = image.astype(np.float32)
    flags = np.zeros(image.shape, np.uint32) if flags is None else flags
    planes = (image, np.zeros_like(image), np.full_like(image, noise), flags)
    peaks = np.round(y).astype(np.int64) * image.shape[1] + np.round(x).astype(np.int64)
    return measure(planes, peaks, mask=MASK, fwhm=fwhm, gain=gain)


def stars(rng, size, fwhm, beta, flux=1e4):
    x, y = grid(rng, size, int(np.ceil(10 * fwhm)) + 4)
    return draw((size, size), x, y, np.full(x.size, flux), fwhm, beta), x, y


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.5, 7.0])
@pytest.mark.parametrize("beta", [2.5, 4.765, np.inf])
def test_positions_have_no_bias_with_the_fraction_of_a_pixel(rng, fwhm, beta):
    image, x, y = stars(rng, 400, fwhm, beta)
    found = measured(image, x, y, fwhm=fwhm)
    assert np.abs(found.x - x).max() < 0.01
    assert np.abs(found.y - y).max() < 0.01


def cramer_rao(fwhm, beta, flux, sky):
    """Least error of x with free flux, x and y, photon noise included, over a few positions in the pixel."""
    bounds = []
    for offset in (0.0, 0.25, 0.5):
        shape, step = (61, 61), 0.01

        def star(dx, dy, shape=shape, offset=offset):
            return draw(shape, [30 + offset + dx], [30 + dy], [flux], fwhm, beta, reach=30)

        model = star(0, 0)
        slopes = [
            model / flux,
            (star(step, 0) - star(-step, 0)) / (2 * step),
            (star(0, step) - star(0, -step)) / (2 * step),
        ]
        information = np.array([[(a * b / (sky + model)).sum() for a in slopes] for b in slopes])
        bounds.append(np.sqrt(np.linalg.inv(information)[1, 1]))
    return float(np.mean(bounds))


@pytest.mark.parametrize(("fwhm", "beta"), [(2.0, 3.5), (3.5, 3.0), (5.0, np.inf)])
@pytest.mark.parametrize("snr", [10, 30, 300])
def test_position_errors_are_those_of_the_scatter_and_near_the_bound(rng, fwhm, beta, snr):
    sky, size = 400.0, 1000
    unit = draw((61, 61), [30.0], [30.0], [1.0], fwhm, beta)
    squares = (unit**2).sum() / sky
    flux = snr / np.sqrt(squares) if snr < 100 else snr**2
    x, y = grid(rng, size, 25)
    clean = draw((size, size), x, y, np.full(x.size, flux), fwhm, beta, reach=int(4 * fwhm))
    data = rng.poisson(clean + sky) - sky
    found = measured(data, x, y, fwhm=fwhm, noise=sky)
    shift = np.concatenate([found.x - x, found.y - y])
    pulls = shift / np.concatenate([found.x_error, found.y_error])
    # 1600 stars, two axes: the scatter is known to 1.3 %
    robust = 0.5 * np.diff(np.percentile(pulls, [15.87, 84.13]))[0]
    assert robust == pytest.approx(1, abs=0.1)
    assert abs(shift.mean()) < 0.02
    scatter = 0.5 * np.diff(np.percentile(shift, [15.87, 84.13]))[0]
    # equal weights are not the best where photon noise rules; at FWHM 2 the pixels add a little
    assert scatter < (1.15 if snr < 100 else 1.35) * cramer_rao(fwhm, beta, flux, sky)


@pytest.mark.parametrize("fwhm", [2.0, 4.0])
def test_flux_and_its_error_for_gaussian_stars(rng, fwhm):
    sky, size, flux = 300.0, 800, 3000.0
    x, y = grid(rng, size, 20)
    clean = draw((size, size), x, y, np.full(x.size, flux), fwhm, np.inf, reach=int(4 * fwhm))
    found = measured(rng.poisson(clean + sky) - sky, x, y, fwhm=fwhm, noise=sky)
    pulls = (found.flux - flux) / found.flux_error
    assert found.flux.mean() == pytest.approx(flux, rel=0.01)
    assert pulls.std() == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize("beta", [2.5, 3.0, 3.5, 4.765, np.inf])
@pytest.mark.parametrize("fwhm", [1.6, 2.0, 3.0, 5.0, 8.0])
def test_acceptance_33_fwhm_of_moffat_stars(rng, fwhm, beta):
    image, x, _ = stars(rng, 600, fwhm, beta)
    flat = np.zeros_like(image, np.float32)
    found = detect_matched(
        image.astype(np.float32), flat, flat + 1, flat.astype(np.uint32), options=DetectOptions(fwhm=fwhm)
    )
    bright = found.snr > 100
    assert bright.sum() == x.size
    assert np.median(found.fwhm[bright]) == pytest.approx(fwhm, rel=0.02)


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
def test_acceptance_33_ellipticity_of_stars_that_galsim_drew(rng, fwhm):
    import galsim

    size, step, e1, e2 = 800, 40, 0.08, -0.05
    x, y = grid(rng, size, step)
    ratio = 1 - np.hypot(e1, e2)
    star = galsim.Moffat(beta=3.5, fwhm=fwhm, flux=1.0).shear(q=ratio, beta=0.5 * np.arctan2(e2, e1) * galsim.radians)
    image = galsim.ImageD(size, size, xmin=0, ymin=0, scale=1.0)
    for cx, cy in zip(x, y, strict=True):
        box = galsim.BoundsI(round(cx) - 20, round(cx) + 19, round(cy) - 20, round(cy) + 19) & image.bounds
        star.drawImage(image[box], center=galsim.PositionD(cx, cy), add_to_image=True, method="auto")
    sky = 100.0
    unit = draw((41, 41), [20.0], [20.0], [1.0], fwhm, 3.5)
    flux = 50 * np.sqrt(sky / (unit**2).sum())  # S/N 50
    data = (flux * image.array + rng.normal(0, np.sqrt(sky), image.array.shape)).astype(np.float32)
    level, noise = np.zeros_like(data), np.full_like(data, sky)
    found = detect_matched(data, level, noise, np.zeros(data.shape, np.uint32), options=DetectOptions(fwhm=fwhm))
    star_like = found.snr > 25
    assert star_like.sum() == x.size >= 200
    angle = np.radians(2 * found.theta[star_like])
    assert np.mean(found.ellipticity[star_like] * np.cos(angle)) == pytest.approx(e1, abs=0.01)
    assert np.mean(found.ellipticity[star_like] * np.sin(angle)) == pytest.approx(e2, abs=0.01)
    assert np.median(found.fwhm[star_like]) == pytest.approx(fwhm, rel=0.02)


@pytest.mark.parametrize("hole", [(0, 0), (1, 0), (1, -1), (2, 1)])
def test_a_masked_pixel_moves_neither_position_nor_flux(rng, hole):
    image, x, y = stars(rng, 300, 3.5, np.inf)
    row, column = np.round(y).astype(int) + hole[0], np.round(x).astype(int) + hole[1]
    flags = np.zeros(image.shape, np.uint32)
    flags[row, column] = flagtable.COSMIC
    image[row, column] = 1e6
    found = measured(image, x, y, fwhm=3.5, flags=flags)
    assert np.abs(np.hypot(found.x - x, found.y - y)).max() < 0.01
    assert np.abs(found.flux / 1e4 - 1).max() < 0.005
    assert (found.flags == flagtable.COSMIC).all()
    whole = measured(image, x, y, fwhm=3.5)
    again = measured(np.where(flags, np.nan, image), x, y, fwhm=3.5, flags=flags)
    np.testing.assert_array_equal(found.x, again.x)
    assert np.abs(whole.flux / 1e4 - 1).min() > 1  # the test sees the difference


def test_flags_within_one_fwhm_only(rng):
    flags = np.zeros((40, 40), np.uint32)
    flags[20, 23] = flagtable.NONLINEAR  # 3 px away
    flags[20, 25] = flagtable.INTERPOLATED  # 5 px away
    image = draw((40, 40), [20.0], [20.0], [1e4], 4.0)
    found = measured(image, np.array([20.0]), np.array([20.0]), fwhm=4.0, flags=flags)
    assert found.flags[0] == flagtable.NONLINEAR
    assert found.inside[0]
    edge = measured(image, np.array([20.0]), np.array([2.0]), fwhm=4.0)
    assert not edge.inside[0]


def test_what_is_no_star_gives_nan_shapes_and_nothing_worse(rng):
    spike = np.zeros((60, 60), np.float32)
    spike[30, 30] = 1000
    found = measured(spike, np.array([30.0]), np.array([30.0]), fwhm=3.0)
    assert np.isnan(found.xx[0])
    assert (found.x[0], found.y[0]) == pytest.approx((30, 30))
    noise = rng.normal(0, 1, (200, 200))
    x, y = grid(rng, 200, 20)
    found = measured(noise, x, y, fwhm=3.0)
    assert np.isfinite(found.x).all()
    assert np.isfinite(found.flux_error).all()
    shaped = np.isfinite(found.xx)
    assert (found.xx * found.yy > found.xy**2)[shaped].all()


def test_position_angle_and_axes():
    angle = np.radians([-60.0, 0.0, 30.0, 90.0])
    xx = 9 * np.cos(angle) ** 2 + 4 * np.sin(angle) ** 2
    yy = 9 * np.sin(angle) ** 2 + 4 * np.cos(angle) ** 2
    xy = 5 * np.sin(angle) * np.cos(angle)
    sigma, ellipticity, theta = position_angle(xx, xy, yy)
    np.testing.assert_allclose(sigma, np.sqrt(6))
    np.testing.assert_allclose(ellipticity, 1 / 3)
    np.testing.assert_allclose(theta, [-60, 0, 30, 90], atol=1e-9)


def test_acceptance_34_threads_do_not_change_a_bit_of_the_measurements(rng):
    image, x, y = stars(rng, 900, 2.0, 3.0)
    image += rng.normal(0, 20, image.shape)
    try:
        results = []
        for count in (1, 6):
            set_threads(count)
            results.append(measured(image, x, y, fwhm=2.0, noise=400.0))
    finally:
        set_threads(None)
    assert x.size > 256
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
