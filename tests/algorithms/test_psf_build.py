"""A point-spread function from stars, against the one they were drawn with."""

import warnings

import numpy as np
import pytest
from scipy.special import erf

import larun
from larun import flags as fl
from larun.algorithms.aperture import aperture_sums
from larun.algorithms.jit import set_threads
from larun.algorithms.psf import aperture_shares, moffat_psf, psf_from_samples
from larun.algorithms.psf_build import BuildPsfOptions, build_psf
from larun.algorithms.psf_fit import fit_stars
from larun.algorithms.psf_stars import choose_stars
from larun.errors import CatalogError, OptionError
from tests.algorithms.star_fields import grid
from tests.conftest import real_data

SIDE, SKY, READ_NOISE = 600, 100.0, 5.0


def blob(grid_, sigma, x0=0.0, y0=0.0):
    def part(d):
        return 0.5 * (erf((d + 0.5) / sigma / 2**0.5) - erf((d - 0.5) / sigma / 2**0.5))

    return part(grid_ - y0)[:, None] * part(grid_ - x0)[None, :]


def lopsided(order=0):
    """No Moffat and not symmetric; of order 1 it gets wider along x."""
    at = np.arange(-6 * 24, 6 * 24 + 1) / 6
    samples = [0.6 * blob(at, 1.1) + 0.3 * blob(at, 2.0, 0.5, 0.2) + 0.1 * blob(at, 3.5, -0.6, 0.3)]
    if order:
        samples += [0.2 * (blob(at, 1.7) - blob(at, 1.1)), 0 * samples[0]]
    middle, half = (SIDE - 1) / 2, SIDE / 2
    return psf_from_samples(np.stack(samples), 6, fwhm=3.0, radius=20, domain=(middle, half, middle, half))


def stars(psf, seed, count, flux, step=30):
    rng = np.random.default_rng(seed)
    x, y = grid(rng, SIDE, step)
    chosen = rng.permutation(x.size)[:count]
    x, y, light = x[chosen], y[chosen], np.full(count, flux)
    image = np.maximum(psf.draw((SIDE, SIDE), x, y, light), 0)
    data = (rng.poisson(image + SKY) + rng.normal(0, READ_NOISE, image.shape)).astype(np.float32)
    flat = np.full_like(data, SKY)
    return (data, flat, flat + np.float32(READ_NOISE**2), np.zeros(data.shape, np.uint32)), x, y


def begun(seed, truth):
    return truth + np.random.default_rng(seed).normal(0, 0.2, truth.shape)


def error(x, true):
    return np.sqrt(np.mean((x - true) ** 2))


@pytest.mark.parametrize(("fwhm", "beta", "guess"), [(2.0, 3.5, 1.0), (3.0, 2.5, 1.2), (4.5, 4.0, 0.85)])
def test_positions_and_fluxes_are_as_good_as_with_the_true_function(fwhm, beta, guess):
    true = moffat_psf(fwhm, beta, oversampling=8, radius=22)
    planes, x, y = stars(true, 1, 51, 1e5, step=50)
    built = build_psf(planes, begun(1, x), begun(2, y), fwhm=fwhm * guess)
    assert built.converged
    assert built.used.all()
    assert "51 of 51 stars" in built.says
    planes, x, y = stars(true, 2, 144, 1e5, step=50)
    ideal, found = fit_stars(planes, true, x, y), fit_stars(planes, built.psf, x, y)
    best = error(np.append(ideal.x, ideal.y), np.append(x, y))
    assert error(np.append(found.x, found.y), np.append(x, y)) < 1.05 * best
    ratio = found.flux / ideal.flux / aperture_shares(true, built.psf.aperture)[0]
    assert np.mean(ratio) == pytest.approx(1, abs=1.5e-3)
    assert np.std(ratio) < 0.3 * np.median(ideal.flux_error / ideal.flux)
    assert np.median(found.chi2) == pytest.approx(np.median(ideal.chi2), abs=0.03)


def test_a_function_that_is_no_moffat_is_found():
    true = lopsided()
    planes, x, y = stars(true, 3, 60, 3e5)
    built = build_psf(planes, x, y, fwhm=3.0)
    assert built.converged
    planes, x, y = stars(true, 4, 150, 3e5)
    ideal, found = fit_stars(planes, true, x, y), fit_stars(planes, built.psf, x, y)
    # its centre is the centroid: the same shift for every star
    assert np.std(found.x - ideal.x) < 0.4 * np.median(ideal.x_error)
    assert np.std(found.y - ideal.y) < 0.4 * np.median(ideal.y_error)
    assert np.std(found.flux / ideal.flux) < 5e-4
    assert np.median(found.chi2) < 1.05
    round_one = fit_stars(planes, moffat_psf(built.psf.fwhm, 3.0), x, y)
    assert np.median(round_one.chi2) > 3


def test_the_aperture_holds_a_light_of_one():
    planes, x, y = stars(lopsided(), 5, 60, 3e5)
    built = build_psf(planes, x, y, fwhm=3.0, options=BuildPsfOptions(aperture=6.0))
    assert aperture_shares(built.psf, 6.0)[0] == pytest.approx(1, abs=1e-5)
    data, level, noise, flags = planes
    sums = aperture_sums(data - level, noise, flags, built.stars.x, built.stars.y, [6.0])
    assert np.mean(sums.sum[:, 0] / built.stars.flux) == pytest.approx(1, abs=6e-4)


def test_a_function_that_varies_over_the_image():
    true = lopsided(1)
    planes, x, y = stars(true, 6, 150, 3e5)
    constant = build_psf(planes, x, y, fwhm=3.2)
    linear = build_psf(planes, x, y, fwhm=3.2, options=BuildPsfOptions(order=1))
    assert np.median(linear.stars.chi2) < 1.1
    assert np.median(constant.stars.chi2) > 1.5
    planes, x, y = stars(true, 7, 150, 3e5)
    ideal, found = fit_stars(planes, true, x, y), fit_stars(planes, linear.psf, x, y)
    middle, half = (SIDE - 1) / 2, SIDE / 2
    light = aperture_shares(true, linear.psf.aperture)
    ratio = found.flux / ideal.flux / (light[0] + light[1] * (x - middle) / half)
    assert np.mean(ratio) == pytest.approx(1, abs=1e-3)
    assert np.std(ratio) < 1e-3


def test_odd_stars_and_bad_pixels_do_not_matter():
    true = moffat_psf(3.0, 3.0, oversampling=8, radius=22)
    planes, x, y = stars(true, 8, 60, 1e5, step=50)
    data, level, noise, flags = (plane.copy() for plane in planes)
    for at_x, at_y in zip(x[:6], y[:6], strict=True):  # double
        data += true.draw(data.shape, [at_x + 2.2], [at_y - 1.1], [4e4]).astype(np.float32)
    rng = np.random.default_rng(1)
    struck = rng.random(data.shape) < 1e-3
    data[struck] += 3000
    bad = rng.random(data.shape) < 1e-3
    data[bad], flags[bad] = np.nan, fl.BAD
    clean, built = build_psf(planes, x[6:], y[6:], fwhm=3.0), build_psf((data, level, noise, flags), x, y, fwhm=3.0)
    assert built.odd[:6].all()
    assert 6 < built.odd.sum() < 20  # some are hit
    assert "not like the others" in built.says
    at = np.linspace(-6, 6, 25)
    gap = built.psf.values(at[:, None], at) - clean.psf.values(at[:, None], at)
    assert np.abs(gap[0]).max() < 0.01 * clean.psf.values(0, 0)[0]


def test_neither_threads_nor_a_second_run_change_a_bit():
    planes, x, y = stars(lopsided(), 9, 40, 1e5)
    found = []
    for count in (1, 2):
        set_threads(count)
        try:
            found.append(build_psf(planes, x, y, fwhm=3.0))
        finally:
            set_threads(None)
    assert np.array_equal(found[0].psf.nodes, found[1].psf.nodes)
    assert np.array_equal(found[0].stars.flux, found[1].stars.flux)


def test_what_the_data_cannot_give_is_refused():
    planes, x, y = stars(lopsided(), 10, 60, 1e5)
    with pytest.raises(CatalogError, match=r"5 stars for a PSF of order 0: it needs 6"):
        build_psf(planes, x[:5], y[:5], fwhm=3.0)
    with pytest.raises(CatalogError, match=r"30 stars for a PSF of order 2: it needs 36.*lower order"):
        build_psf(planes, x[:30], y[:30], fwhm=3.0, options=BuildPsfOptions(order=2))
    with pytest.raises(OptionError, match=r"fwhm = 1.20 pixels: below 1.5"):
        build_psf(planes, x, y, fwhm=1.2)
    many, across, up = stars(lopsided(), 12, 400, 1e5)
    line = np.argsort(up)[:20]  # the lowest row only
    with pytest.raises(CatalogError, match="too near each other"):
        build_psf(many, across[line], up[line], fwhm=3.0, options=BuildPsfOptions(order=1))
    flags = planes[3].copy()
    flags[:, :] = fl.BAD
    flags[:120] = 0
    with pytest.raises(CatalogError, match=r"stars can be used"):
        build_psf((*planes[:3], flags), x[y > 100], y[y > 100], fwhm=3.0)
    faint, x, y = stars(lopsided(), 11, 12, 1e3)
    with pytest.raises(CatalogError, match=r"150 are needed"):
        build_psf(faint, x, y, fwhm=3.0)


@pytest.mark.slow
def test_stars_of_m13_are_told_far_better_than_by_a_moffat():
    folder = real_data("nickel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", larun.errors.LarunWarning)
        masters = larun.Night(folder).masters()
        frame = larun.Frame.read(folder / "d1059.fits.fz").calibrate(masters, without=("dark",)).clean()
        sources, sky, fwhm = frame.detect(), frame.background(), float(frame.star_size().fwhm)
    x, y, flux, error = (np.asarray(sources[name].value) for name in ("x", "y", "flux", "flux_error"))
    chosen = choose_stars(frame.flags, x, y, flux, error, fwhm=fwhm)
    planes = frame.data, sky.level, sky.variance, frame.flags
    built = build_psf(planes, x[chosen.chosen], y[chosen.chosen], fwhm=fwhm)
    assert built.converged
    assert built.used.sum() > 15
    moffat = fit_stars(planes, moffat_psf(built.psf.fwhm, 3.0), built.stars.x, built.stars.y)
    # the cluster is full of fainter stars: no function of one star gets to 1
    assert np.median(built.stars.chi2[built.used]) < 0.5 * np.median(moffat.chi2[built.used])
