"""Widths and shapes of fitted profiles, on stars drawn independently and by GalSim."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.jit import set_threads
from larun.algorithms.profilefit import ProfileOptions, fit_profiles
from larun.errors import OptionError
from tests.algorithms.star_fields import draw, grid

SKY, READ_NOISE = 100.0, 5.0


def noisy(image, seed=1):
    rng = np.random.default_rng(seed)
    data = (rng.poisson(np.maximum(image, 0) + SKY) + rng.normal(0, READ_NOISE, image.shape)).astype(np.float32)
    flat = np.full_like(data, SKY)
    return data, flat, flat + np.float32(READ_NOISE**2), np.zeros(data.shape, np.uint32)


def flux_of(snr, profile):
    """The flux of a star of this S/N whose light lies on pixels as in ``profile``."""
    low, high = 10.0, 1e8
    for _ in range(50):
        flux = np.sqrt(low * high)
        reached = flux * np.sqrt((profile**2 / (SKY + READ_NOISE**2 + flux * profile)).sum())
        low, high = (low, flux) if reached > snr else (flux, high)
    return flux


def places(count, fwhm, seed=2):
    step = int(7 * fwhm) + 6
    side = int(np.sqrt(count)) * step
    return side, *grid(np.random.default_rng(seed), side, step)


def round_stars(count, fwhm, beta, snr):
    side, x, y = places(count, fwhm)
    flux = flux_of(snr, draw((61, 61), [30.2], [30.1], [1.0], fwhm, beta, 30))
    return noisy(draw((side, side), x, y, np.full(x.size, flux), fwhm, beta, int(6 * fwhm))), x, y, flux


def elliptical_stars(count, fwhm, beta, snr, ratio, theta):
    import galsim

    side, x, y = places(count, fwhm)
    star = galsim.Moffat(beta=beta, fwhm=fwhm).shear(q=ratio, beta=theta * galsim.degrees)
    flux = flux_of(snr, star.drawImage(nx=61, ny=61, scale=1.0, dtype=float).array)
    image = galsim.ImageD(side, side, xmin=0, ymin=0)
    reach = int(5 * fwhm)
    for at_x, at_y in zip(x, y, strict=True):
        px, py = round(at_x), round(at_y)
        near = galsim.BoundsI(px - reach, px + reach, py - reach, py + reach) & image.bounds
        stamp = galsim.ImageD(near)
        (flux * star).drawImage(image=stamp, center=galsim.PositionD(at_x, at_y), scale=1.0)
        image[near] += stamp
    return noisy(image.array), x, y, flux


def width(values):
    return (np.quantile(values, 0.8413) - np.quantile(values, 0.1587)) / 2


@pytest.mark.parametrize(("fwhm", "beta"), [(2.0, 3.0), (3.0, 2.5), (3.0, 4.5), (5.0, 3.0)])
def test_the_median_width_is_that_of_the_profile(fwhm, beta):
    planes, x, y, flux = round_stars(225, fwhm, beta, 50)
    found = fit_profiles(planes, x + 0.3, y - 0.2, fwhm=1.3 * fwhm)
    assert found.converged.mean() > 0.99
    assert np.nanmedian(found.fwhm) == pytest.approx(fwhm, rel=0.02)
    assert np.nanmean(found.e1) == pytest.approx(0, abs=0.01)
    assert np.nanmean(found.e2) == pytest.approx(0, abs=0.01)
    assert np.nanmedian(found.flux) == pytest.approx(flux, rel=0.03)
    assert np.nanmedian(found.beta) == pytest.approx(beta, rel=0.15)
    on = found.converged
    assert width((found.fwhm - fwhm)[on] / found.fwhm_error[on]) == pytest.approx(1, abs=0.15)
    assert np.nanmean(found.chi2) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("fwhm", "ratio", "theta"), [(2.2, 0.85, 30.0), (3.0, 0.7, -65.0), (4.5, 0.8, 90.0)])
def test_mean_ellipticities_are_those_of_galsim(fwhm, ratio, theta):
    planes, x, y, _ = elliptical_stars(225, fwhm, 3.0, 50, ratio, theta)
    found = fit_profiles(planes, x, y, fwhm=fwhm)
    size, angle = (1 - ratio) / (1 + ratio), np.radians(2 * theta)
    assert np.nanmean(found.e1) == pytest.approx(size * np.cos(angle), abs=0.01)
    assert np.nanmean(found.e2) == pytest.approx(size * np.sin(angle), abs=0.01)
    assert np.nanmedian(found.fwhm) == pytest.approx(fwhm, rel=0.02)


def test_a_gaussian_is_found_as_one():
    planes, x, y, flux = round_stars(225, 3.0, np.inf, 50)
    found = fit_profiles(planes, x, y, fwhm=2.5, options=ProfileOptions(profile="gaussian"))
    assert found.converged.all()
    assert np.median(found.fwhm) == pytest.approx(3.0, rel=0.01)
    assert np.median(found.flux) == pytest.approx(flux, rel=0.01)
    assert np.isinf(found.beta).all()
    assert width((found.fwhm - 3.0) / found.fwhm_error) == pytest.approx(1, abs=0.15)
    # on stars with wings it is not the same number, which is why it has a name of its own
    winged, x, y, _ = round_stars(225, 3.0, 2.5, 100)
    other = fit_profiles(winged, x, y, fwhm=3.0, options=ProfileOptions(profile="gaussian"))
    assert abs(np.median(other.fwhm) / 3.0 - 1) > 0.02
    assert np.median(other.chi2) > 1.2


def test_a_known_exponent_makes_widths_surer():
    planes, x, y, _ = round_stars(225, 3.0, 3.0, 50)
    free, held = (fit_profiles(planes, x, y, fwhm=3.0, options=ProfileOptions(beta=beta)) for beta in (None, 3.0))
    assert np.median(held.fwhm) == pytest.approx(3.0, rel=0.01)
    assert np.std(held.fwhm) < 0.75 * np.nanstd(free.fwhm)
    assert np.all(held.beta == pytest.approx(3.0))


def test_a_sky_that_is_off_is_fitted():
    planes, x, y, flux = round_stars(100, 3.0, 3.0, 300)
    data, level, noise, flags = planes
    options = ProfileOptions(free_sky=True, beta=3.0)
    found = fit_profiles((data, level - 12, noise, flags), x, y, fwhm=3.0, options=options)
    assert np.median(found.sky) == pytest.approx(12, abs=0.6)
    assert np.median(found.fwhm) == pytest.approx(3.0, rel=0.01)
    assert np.median(found.flux) == pytest.approx(flux, rel=0.01)


def test_saturated_cores_and_bad_pixels_are_left_out():
    planes, x, y, _ = round_stars(100, 3.0, 3.0, 500)
    data, level, noise, flags = (plane.copy() for plane in planes)
    core = data > 0.7 * np.quantile(data, 0.9995)
    data[core], flags[core] = 1e6, fl.SATURATED
    bad = np.random.default_rng(1).random(data.shape) < 0.02
    data[bad], flags[bad] = np.nan, fl.BAD
    found = fit_profiles((data, level, noise, flags), x, y, fwhm=3.0)
    assert core.sum() > 50
    assert found.converged.mean() > 0.95
    assert np.nanmedian(found.fwhm) == pytest.approx(3.0, rel=0.01)


def test_where_there_is_no_star_there_is_no_width():
    planes, x, y, _ = round_stars(25, 3.0, 3.0, 100)
    found = fit_profiles(planes, [np.nan, -5.0, 1e7], [5.0, 5.0, 5.0], fwhm=3.0)
    assert not found.converged.any()
    assert np.isnan(found.fwhm).all()
    flags = np.full(planes[3].shape, fl.BAD)
    assert np.isnan(fit_profiles((*planes[:3], flags), x, y, fwhm=3.0).fwhm).all()


def test_neither_threads_nor_order_change_a_bit():
    planes, x, y, _ = round_stars(100, 2.5, 3.0, 30)
    turn, found = np.random.default_rng(1).permutation(x.size), []
    for count, order in ((1, np.arange(x.size)), (2, turn)):
        set_threads(count)
        try:
            result = fit_profiles(planes, x[order], y[order], fwhm=2.5)
        finally:
            set_threads(None)
        found.append([part[np.argsort(order)] for part in result])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize(
    ("fwhm", "options", "says"),
    [
        (3.0, ProfileOptions(profile="airy"), "profile = 'airy'"),
        (0.1, ProfileOptions(), "fwhm = 0.1"),
        (3.0, ProfileOptions(beta=1.0), "beta = 1"),
        (3.0, ProfileOptions(reach=1), "reach = 1"),
        (3.0, ProfileOptions(gain=0.0), "gain = 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(fwhm, options, says):
    flat = np.ones((30, 30), np.float32)
    with pytest.raises(OptionError, match=says):
        fit_profiles((flat, flat, flat, np.zeros(flat.shape, np.uint32)), [15], [15], fwhm=fwhm, options=options)
