"""Fits of single stars against the Cramér-Rao bound, on stars drawn independently and by GalSim."""

import functools
from typing import NamedTuple

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.jit import set_threads
from larun.algorithms.psf import gaussian_psf, moffat_psf, psf_from_samples
from larun.algorithms.psf_fit import FitOptions, fit_stars
from larun.errors import OptionError
from tests.algorithms.star_fields import draw, grid

SKY, READ_NOISE = 100.0, 5.0


class Stars(NamedTuple):
    planes: tuple
    x: np.ndarray
    y: np.ndarray
    flux: float
    bound: tuple


@functools.cache
def shares(fwhm, beta):
    """What pixels get of a star of flux 1, and its derivative by x, at several places within a pixel."""
    reach, step, found = int(8 * fwhm), 1e-3, []
    shape = (2 * reach + 1, 2 * reach + 1)
    for phase in ((0.0, 0.0), (0.25, 0.1), (0.45, 0.3), (0.2, 0.4)):
        x, y = reach + phase[0], reach + phase[1]
        p, right, left = (draw(shape, [x + d], [y], [1.0], fwhm, beta, reach) for d in (0, step, -step))
        found.append((p, (right - left) / (2 * step)))
    return found


def bounds(fwhm, beta, flux):
    """Cramér-Rao bounds of flux and position, root mean square over places within a pixel; sky known."""
    found = []
    for p, slope in shares(fwhm, beta):
        weight = 1 / (SKY + READ_NOISE**2 + flux * p)
        found.append((1 / (p**2 * weight).sum(), 1 / ((flux * slope) ** 2 * weight).sum()))
    return tuple(np.sqrt(np.mean(found, axis=0)))


def flux_of(snr, fwhm, beta):
    low, high = 1.0, 1e9
    for _ in range(40):
        middle = np.sqrt(low * high)
        low, high = (low, middle) if middle / bounds(fwhm, beta, middle)[0] > snr else (middle, high)
    return middle


def noisy(rng, image):
    data = (rng.poisson(image + SKY) + rng.normal(0, READ_NOISE, image.shape)).astype(np.float32)
    flat = np.full_like(data, SKY)
    return data, flat, np.full_like(data, SKY + READ_NOISE**2), np.zeros(data.shape, np.uint32)


def stars(seed, count, fwhm, snr, beta=3.0):
    rng = np.random.default_rng(seed)
    flux = flux_of(snr, fwhm, beta)
    step = int((8 if snr > 100 else 5) * fwhm) + 6  # what is farther out is far below the noise
    side = int(np.ceil(np.sqrt(count))) * step
    x, y = grid(rng, side, step)
    image = draw((side, side), x, y, np.full(x.size, flux), fwhm, beta, reach=step)
    return Stars(noisy(rng, image), x, y, flux, bounds(fwhm, beta, flux))


def begun(seed, truth, scatter=0.2):
    return truth + np.random.default_rng(seed).normal(0, scatter, truth.shape)


def width(values):
    """Half the range that holds 68 %."""
    return (np.quantile(values, 0.8413) - np.quantile(values, 0.1587)) / 2


@pytest.mark.slow
@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
@pytest.mark.parametrize("snr", [8, 30, 1000])
def test_errors_are_at_the_bound_and_fluxes_without_bias(fwhm, snr):
    made = stars(int(10 * fwhm) + snr, 8000 if snr < 10 else 3000, fwhm, snr)
    found = fit_stars(made.planes, moffat_psf(fwhm, 3.0), begun(1, made.x), begun(2, made.y))
    assert found.converged.mean() > 0.999
    on = found.converged
    assert np.std(found.flux[on]) < 1.05 * made.bound[0]
    off = np.concatenate([(found.x - made.x)[on], (found.y - made.y)[on]])
    assert np.std(off) < 1.05 * made.bound[1]
    assert abs(found.flux[on].mean() / made.flux - 1) < 0.005 + 1 / snr**2
    pulls = [
        (found.flux - found.flux[on].mean())[on] / found.flux_error[on],
        (found.x - made.x)[on] / found.x_error[on],
        (found.y - made.y)[on] / found.y_error[on],
    ]
    assert 0.97 < width(np.concatenate(pulls)) < 1.03
    assert found.chi2.mean() == pytest.approx(1, abs=0.02)


def test_covariance_with_a_free_sky_is_the_scatter():
    made = stars(3, 1500, 3.0, 60)
    data, level, noise, none = made.planes
    found = fit_stars(
        (data, level - 7, noise, none),
        moffat_psf(3.0, 3.0),
        begun(1, made.x),
        begun(2, made.y),
        options=FitOptions(free_sky=True),
    )
    assert np.median(found.sky) == pytest.approx(7, abs=0.1)
    scatter = np.cov(np.stack([found.x - made.x, found.y - made.y, found.flux, found.sky]))
    stated = found.covariance.mean(axis=0)
    scale = np.sqrt(np.diag(stated))
    assert scatter / scale / scale[:, None] == pytest.approx(stated / scale / scale[:, None], abs=0.12)
    assert stated[2, 3] / scale[2] / scale[3] < -0.2  # more sky, less star
    fixed = fit_stars(made.planes, moffat_psf(3.0, 3.0), made.x, made.y)
    assert np.all(fixed.flux_error < found.flux_error)
    assert not fixed.sky.any()
    assert not fixed.covariance[:, 3].any()


def test_forced_fluxes_have_no_bias_however_faint():
    made = stars(4, 3000, 2.5, 8)
    options = FitOptions(free_position=False)
    found = fit_stars(made.planes, moffat_psf(2.5, 3.0), made.x, made.y, options=options)
    assert np.array_equal(found.x, made.x)
    assert found.flux.mean() == pytest.approx(made.flux, abs=3.5 * made.bound[0] / np.sqrt(made.x.size))
    assert width(found.flux - made.flux) / np.median(found.flux_error) == pytest.approx(1, abs=0.05)
    empty = fit_stars(made.planes, moffat_psf(2.5, 3.0), made.x + 12, made.y + 12, options=options)
    assert np.mean(empty.flux < 0) > 0.3
    inside = np.isfinite(empty.flux)  # some of these places lie beyond the image
    assert inside.mean() > 0.9
    assert empty.converged[inside].all()
    assert not empty.converged[~inside].any()


@pytest.mark.parametrize("fwhm", [2.0, 3.5, 5.0])
def test_flux_does_not_depend_on_oversampling_or_the_size_of_the_fit(fwhm):
    rng = np.random.default_rng(5)
    x, y = grid(rng, 360, 60)
    flux = 10 ** rng.uniform(3, 5, x.size)
    image = draw((360, 360), x, y, flux, fwhm, 3.0, reach=40).astype(np.float32)
    flat, none = np.full_like(image, SKY), np.zeros(image.shape, np.uint32)
    for oversampling in (2, 3, 4, 5):
        psf = moffat_psf(fwhm, 3.0, oversampling=oversampling, radius=20)
        for reach in (4, 6, 10):
            found = fit_stars((image + flat, flat, flat, none), psf, x, y, options=FitOptions(reach=reach))
            assert np.abs(found.flux / flux - 1).max() < 1e-3, (oversampling, reach)
            assert np.abs(found.x - x).max() < 2e-3


def test_stars_of_galsim_with_their_noise():
    import galsim

    count, step, flux = 400, 40, 8000.0
    rng = np.random.default_rng(6)
    side = 20 * step
    x, y = grid(rng, side, step)
    profile = galsim.Moffat(beta=2.8, fwhm=2.7, flux=flux).shear(q=0.85, beta=20 * galsim.degrees)
    image = galsim.ImageD(side, side, xmin=0, ymin=0)
    for at_x, at_y in zip(x, y, strict=True):
        px, py = round(at_x), round(at_y)
        stamp = galsim.ImageD(galsim.BoundsI(px - 19, px + 19, py - 19, py + 19) & image.bounds)
        profile.drawImage(image=stamp, center=galsim.PositionD(at_x, at_y), scale=1.0)
        image[stamp.bounds] += stamp
    image += SKY
    noise = galsim.CCDNoise(galsim.BaseDeviate(7), gain=1.0, read_noise=READ_NOISE)
    image.addNoise(noise)
    data = image.array.astype(np.float32)
    flat, none = np.full_like(data, SKY), np.zeros(data.shape, np.uint32)
    psf = moffat_psf(2.7, 2.8, ratio=0.85, theta=20.0)
    found = fit_stars((data, flat, flat + 25, none), psf, begun(1, x), begun(2, y))
    assert found.converged.sum() == count
    assert found.flux.mean() == pytest.approx(flux, rel=0.004)
    assert width((found.flux - flux) / found.flux_error) == pytest.approx(1, abs=0.1)
    pulls = np.concatenate([(found.x - x) / found.x_error, (found.y - y) / found.y_error])
    assert width(pulls) == pytest.approx(1, abs=0.08)


def test_the_gain_counts():
    made = stars(7, 900, 3.0, 300)
    data, level, noise, none = made.planes
    psf, gain = moffat_psf(3.0, 3.0), 2.5
    planes = (data / np.float32(gain), level / np.float32(gain), noise / np.float32(gain**2), none)
    electrons = fit_stars(made.planes, psf, made.x, made.y)
    counts = fit_stars(planes, psf, made.x, made.y, options=FitOptions(gain=gain))
    assert counts.flux * gain == pytest.approx(electrons.flux, rel=1e-6)
    assert counts.flux_error * gain == pytest.approx(electrons.flux_error, rel=1e-5)


def test_a_saturated_core_is_left_out_and_the_wings_give_the_flux():
    made = stars(8, 400, 3.0, 1000)
    data, level, noise, none = (plane.copy() for plane in made.planes)
    peak = np.quantile(data, 0.999)
    none[data > peak * 0.7] |= fl.SATURATED
    data[data > peak * 0.7] = peak * 0.7
    found = fit_stars((data, level, noise, none), moffat_psf(3.0, 3.0), begun(1, made.x), begun(2, made.y))
    touched = found.share < 1
    assert touched.mean() > 0.5
    assert np.all(found.flags[touched] & fl.SATURATED)
    assert np.median(found.flux[touched]) == pytest.approx(made.flux, rel=0.002)
    pulls = (found.flux - made.flux)[touched] / found.flux_error[touched]
    assert width(pulls) == pytest.approx(1, abs=0.15)
    clean = fit_stars(made.planes, moffat_psf(3.0, 3.0), made.x, made.y)
    assert np.all(found.flux_error[touched] > clean.flux_error[touched])


def test_bad_pixels_are_left_out_whatever_they_hold():
    made = stars(9, 100, 3.0, 200)
    data, level, noise, none = (plane.copy() for plane in made.planes)
    rng = np.random.default_rng(1)
    bad = rng.random(data.shape) < 0.05
    none[bad] |= fl.BAD
    clean = fit_stars((data, level, noise, none), moffat_psf(3.0, 3.0), made.x, made.y)
    data[bad] = rng.choice([np.nan, np.inf, -1e30, 1e30, 0], bad.sum())
    noise[bad] = rng.choice([np.nan, 0, -1, np.inf], bad.sum())
    found = fit_stars((data, level, noise, none), moffat_psf(3.0, 3.0), made.x, made.y)
    for name in ("flux", "x", "chi2", "share", "covariance"):
        assert np.array_equal(getattr(found, name), getattr(clean, name)), name
    assert np.abs(found.flux / made.flux - 1).max() < 0.05


def test_positions_outside_and_where_nothing_is_usable():
    made = stars(10, 16, 3.0, 100)
    data, level, noise, none = (plane.copy() for plane in made.planes)
    none[:40, :40] |= fl.NO_DATA
    x, y = [np.nan, -3.0, 1e9, 12.0, 70.0], [5.0, 5.0, 5.0, 12.0, -0.2]
    found = fit_stars((data, level, noise, none), moffat_psf(3.0, 3.0), x, y)
    assert np.isnan(found.flux[:4]).all()
    assert np.isnan(found.covariance[:4]).all()
    assert np.all(found.flags[:4] & fl.NO_DATA)
    assert np.all(found.flags[[0, 1, 2, 4]] & fl.EDGE)
    assert np.isfinite(found.flux[4])
    assert not found.converged[:4].any()


def test_a_fit_that_runs_away_stays_and_says_so():
    made = stars(11, 25, 3.0, 300)
    off = fit_stars(made.planes, moffat_psf(3.0, 3.0), made.x + 3.4, made.y)
    assert not off.converged.any()
    assert np.array_equal(off.x, made.x + 3.4)
    forced = fit_stars(made.planes, moffat_psf(3.0, 3.0), made.x + 3.4, made.y, options=FitOptions(free_position=False))
    assert np.array_equal(off.flux, forced.flux)
    assert np.array_equal(off.covariance, forced.covariance)


def test_a_psf_that_varies_is_taken_at_each_star():
    samples = np.arange(-45, 46) / 3
    r2 = samples[:, None] ** 2 + samples**2
    one, other = (np.exp(-r2 / 2 / s**2) / (2 * np.pi * s**2) for s in (1.4, 1.9))
    planes = np.stack([(one + other) / 2, (other - one) / 2, 0 * one])
    psf = psf_from_samples(planes, 3, fwhm=4.0, domain=(200, 200, 200, 200))
    rng = np.random.default_rng(12)
    x, y = grid(rng, 400, 40)
    flux = 10 ** rng.uniform(4, 5, x.size)
    image = psf.draw((400, 400), x, y, flux).astype(np.float32)
    flat, none = np.full_like(image, SKY), np.zeros(image.shape, np.uint32)
    found = fit_stars((image + flat, flat, flat, none), psf, begun(1, x), begun(2, y))
    assert found.flux == pytest.approx(flux, rel=1e-3)
    constant = psf_from_samples(planes[0], 3, fwhm=4.0)
    wrong = fit_stars((image + flat, flat, flat, none), constant, x, y).flux / flux
    assert np.std(wrong) > 0.03


def test_neither_threads_nor_order_change_a_bit():
    made = stars(13, 600, 2.5, 20)
    psf = moffat_psf(2.5, 3.0)
    found = []
    turn = np.random.default_rng(1).permutation(made.x.size)
    for count, order in ((1, np.arange(made.x.size)), (2, turn)):
        set_threads(count)
        try:
            result = fit_stars(made.planes, psf, made.x[order], made.y[order])
        finally:
            set_threads(None)
        back = np.argsort(order)
        found.append([getattr(result, name)[back] for name in result._fields])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (FitOptions(reach=1), "reach = 1"),
        (FitOptions(reach=40), "known to 12 pixels"),
        (FitOptions(limit=-1.0), "limit = -1"),
        (FitOptions(gain=0.0), "gain = 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, says):
    flat = np.ones((30, 30), np.float32)
    planes = (flat, flat, flat, np.zeros(flat.shape, np.uint32))
    with pytest.raises(OptionError, match=says):
        fit_stars(planes, gaussian_psf(3.0), [15], [15], options=options)


def test_planes_and_positions_must_agree():
    flat = np.ones((30, 30), np.float32)
    none = np.zeros((30, 30), np.uint32)
    with pytest.raises(OptionError, match="must be one"):
        fit_stars((flat, flat, flat[:20], none), gaussian_psf(3.0), [15], [15])
    with pytest.raises(OptionError, match=r"must be \(n,\)"):
        fit_stars((flat, flat, flat, none), gaussian_psf(3.0), [15, 3], [15])
