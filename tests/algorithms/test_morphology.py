"""Windowed centroids against sep and the Cramér–Rao bound; the locus of stars against what was drawn."""

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms.morphology import Windowed, size_excess, star_locus, windowed
from tests.algorithms.star_fields import draw

SIGMA = 2.3548200450309493


def planes_of(data, sky, variance, flags=None):
    level, noise = (np.full(data.shape, value, np.float32) for value in (sky, variance))
    return data.astype(np.float32), level, noise, np.zeros(data.shape, np.uint32) if flags is None else flags


def grid_of_stars(rng, flux, fwhm, beta, side=20, step=32, sky=100.0, read_noise=5.0):
    """Noisy stars of one flux on a grid, their places, and the light of each pixel."""
    grid = np.arange(side) * float(step) + step / 2
    x, y = (axis.ravel() + rng.uniform(-0.5, 0.5, side**2) for axis in np.meshgrid(grid, grid))
    light = sky + draw((side * step, side * step), x, y, np.full(len(x), flux), fwhm, beta)
    return rng.poisson(light) + rng.normal(0, read_noise, light.shape), x, y, light


def test_centroids_are_those_of_sep(rng):
    """sep stops at 4 sigma with a circle of sampled pixels, larun with a square: 1e-3 px apart for bright stars."""
    import sep

    data, x, y, _ = grid_of_stars(rng, 3e4, 3.0, 3.5, side=10)
    sigma = np.sqrt((3.0 / SIGMA) ** 2 + 1 / 12)
    start = np.rint(x), np.rint(y)
    wanted = sep.winpos((data - 100).astype(np.float32), *start, np.full(len(x), sigma), subpix=11)
    made = windowed(planes_of(data, 100, 125), *start, size=np.full(len(x), 3.0), fwhm=3.0, mask=0)
    np.testing.assert_allclose(made.x, wanted[0], atol=2e-3)
    np.testing.assert_allclose(made.y, wanted[1], atol=2e-3)
    wide = sep.winpos((data - 100).astype(np.float32), *start, np.full(len(x), np.hypot(5 / SIGMA, 1 / 12**0.5)))
    made = windowed(planes_of(data, 100, 125), *start, size=np.full(len(x), 5.0), fwhm=3.0, mask=0)
    np.testing.assert_allclose(made.x, wide[0], atol=3e-3)


@pytest.mark.parametrize(
    ("fwhm", "beta", "flux", "limit"),
    # in the light of bright stars a plain barycentre would be as good: the window costs up to a fifth
    [
        (3.0, np.inf, 1500, 1.08),
        (3.0, np.inf, 3e4, 1.25),
        (3.0, 3.0, 1500, 1.14),
        (3.0, 3.0, 3e4, 1.23),
        (2.0, 3.5, 6000, 1.12),
    ],
)
def test_centroids_are_unbiased_and_near_the_cramer_rao_bound(fwhm, beta, flux, limit, record_property):
    """900 stars: own error of the rms 2.4 %, of the mean 0.033 of the rms."""
    rng = np.random.default_rng(41)
    data, x, y, _ = grid_of_stars(rng, flux, fwhm, beta, side=30)
    made = windowed(planes_of(data, 100, 125), np.rint(x), np.rint(y), size=np.full(len(x), fwhm), fwhm=fwhm, mask=0)
    off = np.concatenate([made.x - x, made.y - y])
    error = np.concatenate([made.x_error, made.y_error])
    # Fisher information of x with flux and sky known, averaged over the phases
    shifts = rng.uniform(-0.5, 0.5, (12, 2))
    bounds = []
    for dx, dy in shifts:
        here, there = (draw((33, 33), [16 + dx + h], [16 + dy], [flux], fwhm, beta) for h in (-1e-3, 1e-3))
        slope = (there - here) / 2e-3
        bounds.append(1 / np.sqrt((slope**2 / (125 + (here + there) / 2)).sum()))
    bound = np.sqrt(np.mean(np.square(bounds)))
    rms = 1.4826 * np.median(np.abs(off))
    record_property("rms over bound", float(rms / bound))
    print(f"FWHM {fwhm}, beta {beta}, flux {flux:g}: rms {rms:.4f} px, {rms / bound:.3f} of the bound")
    assert np.isfinite(off).all()
    assert rms / bound < limit
    assert abs(np.median(off)) < 4 * 1.25 * rms / np.sqrt(len(off))
    assert 1.4826 * np.median(np.abs(off / error)) == pytest.approx(1, abs=0.08)
    # no trace of where in its pixel a star lies
    phase = np.concatenate([x - np.rint(x), y - np.rint(y)])
    assert abs(np.corrcoef(off, np.sin(2 * np.pi * phase))[0, 1]) < 0.12


def test_a_wrong_start_does_not_matter(rng):
    data, x, y, _ = grid_of_stars(rng, 2e4, 3.0, 3.0, side=6)
    planes = planes_of(data, 100, 125)
    one, two = (
        windowed(planes, np.rint(x) + dx, np.rint(y) - dx, size=np.full(36, 3.0), fwhm=3.0, mask=0) for dx in (0.0, 0.4)
    )
    np.testing.assert_allclose(one.x, two.x, atol=1e-3)


def test_unusable_pixels_are_filled_and_many_are_told(rng):
    data, x, y, _ = grid_of_stars(rng, 5e4, 3.0, np.inf, side=6)
    flags = np.zeros(data.shape, np.uint32)
    clean = windowed(planes_of(data, 100, 125), np.rint(x), np.rint(y), size=np.full(36, 3.0), fwhm=3.0, mask=1)
    column, row = np.rint(x[0]).astype(int) + 1, np.rint(y[0]).astype(int)
    flags[row, column], data[row, column] = fl.BAD, 1e6
    flags[int(y[1]) - 5 : int(y[1]) + 1, int(x[1]) - 5 : int(x[1]) + 6] = fl.BAD
    made = windowed(planes_of(data, 100, 125, flags), np.rint(x), np.rint(y), size=np.full(36, 3.0), fwhm=3.0, mask=1)
    assert made.x[0] == pytest.approx(clean.x[0], abs=0.05)
    assert made.concentration[0] == pytest.approx(clean.concentration[0], abs=0.1)
    assert np.isnan(made.concentration[1])
    np.testing.assert_array_equal(made.x[6:], clean.x[6:])
    for place in ([np.nan, 5.0], [-30.0, 5.0], [5.0, 1e300]):
        lost = windowed(planes_of(data, 100, 125), place[:1], place[1:], size=[3.0], fwhm=3.0, mask=0)
        assert np.isnan(lost.x[0])
    assert windowed(planes_of(data, 100, 125), [], [], size=[], fwhm=3.0, mask=0).x.shape == (0,)


@pytest.mark.parametrize("flux", [1200, 6000])
def test_errors_of_the_concentration_are_its_scatter(flux):
    rng = np.random.default_rng(43)
    data, x, y, _ = grid_of_stars(rng, flux, 3.0, 3.0, side=25, step=44)
    made = windowed(planes_of(data, 100, 125), np.rint(x), np.rint(y), size=np.full(625, 3.0), fwhm=3.0, mask=0)
    off = made.concentration - np.median(made.concentration)
    assert 1.4826 * np.median(np.abs(off / made.concentration_error)) == pytest.approx(1, abs=0.1)


def drawn(rng, stars, galaxies, slope=0.0, scatter=0.01):
    count = stars + galaxies
    x, y = rng.uniform(0, 1000, (2, count))
    error = 10 ** rng.uniform(-2.5, -1.3, count)
    value = 0.6 + slope * (x - 500) / 1000 + rng.normal(0, np.hypot(error, scatter))
    value[stars:] += rng.uniform(0.1, 0.8, galaxies)
    none = np.full(count, 0.01)
    return Windowed(x, y, none, none, value, error)


def test_the_locus_is_that_of_the_stars_even_where_galaxies_are_many():
    scatters = []
    for seed in range(10):
        found = drawn(np.random.default_rng(seed), 60, 140)
        locus = star_locus(found, np.ones(200, bool))
        assert locus.value == pytest.approx(0.6, abs=0.012)
        scatters.append(locus.scatter)
        excess = size_excess(found, locus)
        assert (np.abs(excess[:60]) < 3.5).mean() > 0.95
        assert (excess[60:] > 3).mean() > 0.9
    assert np.median(scatters) == pytest.approx(0.01, rel=0.25)
    assert 0.004 < min(scatters) < max(scatters) < 0.02


def test_the_locus_follows_the_field():
    found = drawn(np.random.default_rng(7), 300, 100, slope=0.1)
    locus = star_locus(found, np.ones(400, bool))
    assert locus.slope_x == pytest.approx(0.1, abs=0.01)
    assert np.std(size_excess(found, locus)[:300]) == pytest.approx(1, abs=0.15)


def test_without_stars_there_is_no_locus():
    found = drawn(np.random.default_rng(7), 4, 0)
    assert star_locus(found, np.ones(4, bool)).stars == 0
    assert np.isnan(size_excess(found, star_locus(found, np.ones(4, bool)))).all()
    found = drawn(np.random.default_rng(7), 30, 0)
    assert star_locus(found, np.zeros(30, bool)).stars == 0
    faint = found._replace(concentration_error=found.concentration_error + 0.1)
    assert star_locus(faint, np.ones(30, bool)).stars == 0
