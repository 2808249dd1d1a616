"""The sky in an annulus: level, calibrated error, neighbours masked."""

import math

import numpy as np
import pytest
from astropy.stats import SigmaClip
from photutils.aperture import ApertureStats, CircularAnnulus

from larun.algorithms.annulus import Annulus, Neighbours, annulus_sky, mask_radius
from larun.algorithms.jit import set_threads
from larun.errors import OptionError
from larun.flags import BAD, INTERPOLATED, NO_DATA, SATURATED

RING = Annulus(inner=12, outer=18)
SKY, READ_NOISE = 200.0, 8.0
NOISE = math.sqrt(SKY + READ_NOISE**2)


def grid(cells, side, seed):
    rng = np.random.default_rng(seed)
    centre = np.arange(cells) * side + side // 2
    x, y = np.meshgrid(centre, centre)
    return (x + rng.uniform(-0.5, 0.5, x.shape)).ravel(), (y + rng.uniform(-0.5, 0.5, y.shape)).ravel()


def moffat(shape, x, y, flux, fwhm, beta, reach=48):
    """Moffat stars, integrated over each pixel by 4 × 4 Gauss–Legendre nodes, out to ``reach`` pixels."""
    image = np.zeros(shape)
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    nodes, weights = np.polynomial.legendre.leggauss(4)
    for x0, y0, f in zip(x, y, np.broadcast_to(flux, np.shape(x)), strict=True):
        rows = np.arange(max(int(y0) - reach, 0), min(int(y0) + reach + 1, shape[0]))
        columns = np.arange(max(int(x0) - reach, 0), min(int(x0) + reach + 1, shape[1]))
        fine_y = (rows[:, None] + nodes / 2).ravel() - y0
        fine_x = (columns[:, None] + nodes / 2).ravel() - x0
        light = (1 + (fine_y[:, None] ** 2 + fine_x**2) / alpha**2) ** -beta
        light = light.reshape(len(rows), 4, len(columns), 4)
        binned = np.einsum("iajb,a,b->ij", light, weights / 2, weights / 2)
        image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += f * (beta - 1) / (math.pi * alpha**2) * binned
    return image


def members(shape, x, y, ring):
    rows, columns = np.indices(shape)
    distance = np.hypot(columns - x, rows - y)
    return (distance >= ring.inner) & (distance < ring.outer)


def median_of_counts(values):
    """The median where equal values stand for all between the middles of the gaps to their neighbours."""
    distinct, counts = np.unique(values, return_counts=True)
    edges = np.concatenate([distinct[:1], (distinct[1:] + distinct[:-1]) / 2, distinct[-1:]])
    k = int(np.searchsorted(np.cumsum(counts), len(values) // 2, side="right"))
    if counts[k] == 1:
        return np.median(values)
    return edges[k] + (edges[k + 1] - edges[k]) * (len(values) / 2 - counts[:k].sum()) / counts[k]


@pytest.mark.parametrize("estimator", ["median", "mean"])
def test_pixels_belong_by_their_centres_and_the_level_is_their_median_or_mean(estimator):
    rng = np.random.default_rng(1)
    data = np.round(rng.normal(200, 3, (80, 90))).astype(np.float32)  # many ties
    ring = Annulus(inner=3, outer=7.5, sigma=50, estimator=estimator)
    x, y = rng.uniform(-3, 93, 60), rng.uniform(-3, 83, 60)
    x[:2], y[:2] = 40, [30, 50]
    found = annulus_sky(data, np.zeros(data.shape, np.uint32), x, y, ring)
    for i in range(60):
        pixels = data[members(data.shape, x[i], y[i], ring)].astype(float)
        assert found.pixels[i] == len(pixels)
        level = median_of_counts(pixels) if estimator == "median" else pixels.mean()
        assert found.level[i] == pytest.approx(level, rel=1e-13)
        assert found.scatter[i] == pytest.approx(pixels.std(ddof=1), rel=1e-10)


@pytest.mark.parametrize(("estimator", "sigma"), [("median", 3.0), ("mean", 3.0), ("median", 2.0), ("mean", 2.0)])
def test_the_error_of_the_level_is_calibrated(estimator, sigma):
    x, y = grid(50, 39, seed=2)
    ring = Annulus(inner=12, outer=18, sigma=sigma, estimator=estimator)
    pull = []
    for seed in (3, 4, 5):
        data = np.random.default_rng(seed).normal(SKY, NOISE, (1950, 1950)).astype(np.float32)
        found = annulus_sky(data, np.zeros(data.shape, np.uint32), x, y, ring)
        pull.append((found.level - SKY) / found.error)
        assert np.mean(found.scatter) == pytest.approx(NOISE, rel=0.015)
    assert np.std(pull) == pytest.approx(1, abs=0.035)  # 7500 stars: own error 0.8 %
    assert abs(np.mean(pull)) < 4 / math.sqrt(7500)


@pytest.mark.parametrize("step", [0.25, 0.5])
def test_the_median_of_whole_counts_is_no_whole_count(step):
    x, y = grid(40, 39, seed=2)
    rng = np.random.default_rng(6)
    sky = SKY + rng.uniform(-NOISE, NOISE)
    counts = np.round(rng.normal(sky, NOISE, (1560, 1560)) / (step * NOISE)) * (step * NOISE)
    found = annulus_sky(counts.astype(np.float32), np.zeros(counts.shape, np.uint32), x, y, RING)
    pull = (found.level - sky) / found.error
    assert np.std(pull) == pytest.approx(1, abs=0.06)  # 1600 stars; the plain median has 2.3 for the finer step
    assert abs(np.mean(pull)) < 4 / math.sqrt(1600)


@pytest.mark.parametrize("estimator", ["median", "mean"])
def test_the_error_of_the_level_is_calibrated_for_correlated_noise(estimator):
    from scipy.ndimage import convolve

    x, y = grid(50, 39, seed=4)
    smooth = np.outer([0.3, 1, 0.5], [0.4, 1, 0.2])
    acf = np.fft.fftshift(np.fft.ifft2(np.abs(np.fft.fft2(smooth, (5, 5))) ** 2).real)
    ring = Annulus(inner=12, outer=18, estimator=estimator)
    pull, plain = [], []
    for seed in (5, 6, 7):
        data = convolve(np.random.default_rng(seed).normal(0, 1, (1950, 1950)), smooth, mode="wrap").astype(np.float32)
        flags = np.zeros(data.shape, np.uint32)
        found = annulus_sky(data, flags, x, y, ring, acf=acf / acf.max())
        pull.append(found.level / found.error)
        plain.append(found.level / annulus_sky(data, flags, x, y, ring).error)
    assert np.std(pull) == pytest.approx(1, abs=0.05)
    assert np.std(plain) > 1.5


@pytest.mark.parametrize("distance", [11.0, 15.0, 19.0])
@pytest.mark.parametrize("flux", [1e3, 1e4, 1e5])
def test_acceptance_24_a_neighbour_ten_times_brighter_moves_the_sky_by_less_than_one_percent(flux, distance):
    """Moffat wings steeper than the mask assumes and as shallow; without noise, and over noisy realisations."""
    cells, side = 6, 101
    shape = (cells * side, cells * side)
    x, y = grid(cells, side, seed=6)
    angle = np.random.default_rng(7).uniform(0, 2 * np.pi, len(x))
    near_x, near_y = x + distance * np.cos(angle), y + distance * np.sin(angle)
    for beta in (3.0, 2.5):
        own = moffat(shape, x, y, flux, 3.0, beta)
        both = own + moffat(shape, near_x, near_y, 10 * flux, 3.0, beta)
        radius = mask_radius(np.repeat([flux, 10 * flux], len(x)), 3.0, NOISE)
        stars = Neighbours(np.append(x, near_x), np.append(y, near_y), radius)
        flags = np.zeros(shape, np.uint32)
        exact = annulus_sky((SKY + both).astype(np.float32), flags, x, y, RING, neighbours=stars)
        alone = annulus_sky((SKY + own).astype(np.float32), flags, x, y, RING)
        assert np.all(np.abs(exact.level - alone.level) < 0.01 * SKY)
        bias, unmasked = [], []
        rng = np.random.default_rng(int(flux))
        for _ in range(6):
            noise = rng.normal(0, READ_NOISE, shape)
            clean = (rng.poisson(SKY + own) + noise).astype(np.float32)
            dirty = clean + rng.poisson(both - own)
            with_star = annulus_sky(dirty.astype(np.float32), flags, x, y, RING, neighbours=stars)
            without = annulus_sky(clean, flags, x, y, RING, neighbours=stars)
            assert np.isfinite(with_star.level).all()
            bias.append(with_star.level - without.level)
            unmasked.append(annulus_sky(dirty.astype(np.float32), flags, x, y, RING).level - without.level)
        assert abs(np.mean(bias)) < 0.01 * SKY
        assert abs(np.mean(bias)) < 0.1 * NOISE
        if flux == 1e5 and distance < 18:
            assert np.mean(unmasked) > 0.01 * SKY


def test_unlisted_faint_stars_pull_the_median_less_than_the_mean():
    cells, side = 12, 60
    x, y = grid(cells, side, seed=8)
    rng = np.random.default_rng(9)
    near_x, near_y = (np.repeat(c, 3) for c in (x, y))  # three stars of 600 electrons in each annulus
    angle = rng.uniform(0, 2 * np.pi, len(near_x))
    crowd = moffat((720, 720), near_x + 15 * np.cos(angle), near_y + 15 * np.sin(angle), 600, 3.0, 3.0, reach=15)
    clean = rng.normal(SKY, NOISE, crowd.shape)
    data, flags = (clean + crowd).astype(np.float32), np.zeros(crowd.shape, np.uint32)
    shift = {}
    for estimator in ("median", "mean"):
        ring = Annulus(inner=12, outer=18, estimator=estimator)
        found = (
            annulus_sky(data, flags, x, y, ring).level - annulus_sky(clean.astype(np.float32), flags, x, y, ring).level
        )
        shift[estimator] = found.mean()
    assert 0 < shift["median"] < 0.95 * shift["mean"]
    assert shift["median"] < 0.02 * SKY


def test_the_star_itself_is_not_its_own_neighbour():
    data = np.random.default_rng(10).normal(SKY, NOISE, (100, 100)).astype(np.float32)
    flags = np.zeros(data.shape, np.uint32)
    alone = annulus_sky(data, flags, [50.0], [50.0], RING)
    itself = annulus_sky(data, flags, [50.0], [50.0], RING, neighbours=Neighbours([50.4], [49.8], [30.0]))
    assert itself.level[0] == alone.level[0]
    assert itself.pixels[0] == alone.pixels[0]
    # a companion two pixels off is another star, and its mask counts under the star's own too
    stars = Neighbours([50.4, 52.0, 64.0], [49.8, 50.0, 50.0], [30.0, 14.0, 4.0])
    found = annulus_sky(data, flags, [50.0], [50.0], Annulus(inner=12, outer=18, sigma=50), neighbours=stars)
    rows, columns = np.indices(data.shape)
    sky = members(data.shape, 50, 50, RING)
    for x, y, r in ((52, 50, 14), (64, 50, 4)):
        sky &= np.hypot(columns - x, rows - y) >= r
    assert found.pixels[0] == sky.sum()
    assert found.level[0] == pytest.approx(np.median(data[sky].astype(float)), rel=1e-13)


def test_masks_that_leave_the_image_or_have_no_radius_do_no_harm():
    data = np.full((60, 60), SKY, np.float32)
    flags = np.zeros(data.shape, np.uint32)
    stars = Neighbours([-3.0, 1e300, np.nan, 30.0, 62.0], [10.0, 5.0, 5.0, 20.0, 62.0], [5.0, 4.0, 4.0, 0.0, 3.0])
    found = annulus_sky(data, flags, [5.0, 30.0], [10.0, 30.0], Annulus(inner=3, outer=12), neighbours=stars)
    rows, columns = np.indices(data.shape)
    sky = members(data.shape, 5, 10, Annulus(inner=3, outer=12)) & (np.hypot(columns + 3, rows - 10) >= 5)
    assert found.pixels[0] == sky.sum()
    assert found.pixels[1] == members(data.shape, 30, 30, Annulus(inner=3, outer=12)).sum()
    assert found.level.tolist() == [SKY, SKY]
    assert found.scatter.tolist() == [0, 0]
    assert found.error.tolist() == [0, 0]


def test_too_few_pixels_give_no_level_and_another_can_be_filled_in():
    data = np.random.default_rng(11).normal(SKY, NOISE, (80, 80)).astype(np.float32)
    flags = np.zeros(data.shape, np.uint32)
    flags[:, :40] = BAD
    x, y = [20.0, 50.0, np.nan, 1e300, -40.0], [40.0, 40.0, 5.0, 5.0, 40.0]
    found = annulus_sky(data, flags, x, y, RING)
    assert np.isnan(found.level).tolist() == [True, False, True, True, True]
    assert np.isnan(found.error).tolist() == [True, False, True, True, True]
    assert found.pixels[[0, 2, 3, 4]].tolist() == [0, 0, 0, 0]
    filled = found.filled(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.5)
    assert filled.level.tolist() == [1.0, found.level[1], 3.0, 4.0, 5.0]
    assert filled.error.tolist() == [0.5, found.error[1], 0.5, 0.5, 0.5]
    data, flags = data[:, 40:], np.full((80, 40), BAD)
    flags[30, 22:34] = 0
    few = annulus_sky(data, flags, [10.0], [30.0], RING)
    assert np.isnan(few.level[0])
    assert few.pixels[0] == 6
    assert np.isfinite(
        annulus_sky(data, flags, [10.0], [30.0], Annulus(inner=12, outer=18, sigma=50, minimum=6)).level[0]
    )


def test_unusable_pixels_and_outliers_are_no_sky():
    rng = np.random.default_rng(12)
    data = rng.normal(SKY, NOISE, (100, 100)).astype(np.float32)
    flags = np.zeros(data.shape, np.uint32)
    chosen = rng.permutation(np.argwhere(members(data.shape, 50, 50, RING)))
    for pixels, bits, value in zip(
        np.split(chosen[:100], 5),
        (BAD, SATURATED, NO_DATA, INTERPOLATED, 0),
        (9e4, 9e4, np.nan, SKY, np.inf),
        strict=True,
    ):
        flags[tuple(pixels.T)] = bits
        data[tuple(pixels.T)] = value
    left = len(chosen) - 80
    assert annulus_sky(data, flags, [50], [50], Annulus(inner=12, outer=18, sigma=50)).pixels[0] == left
    data[tuple(chosen[100:140].T)] = 3000  # a trail nobody flagged: 7 % of the pixels
    found = annulus_sky(data, flags, [50], [50], RING)
    assert abs(found.level[0] - SKY) < 3 * found.error[0]
    assert found.scatter[0] == pytest.approx(NOISE, rel=0.12)


def test_agrees_with_photutils_to_a_fraction_of_the_error():
    data = np.random.default_rng(13).normal(SKY, NOISE, (400, 400)).astype(np.float32)
    x, y = grid(10, 40, seed=14)
    found = annulus_sky(data, np.zeros(data.shape, np.uint32), x, y, RING)
    ring = CircularAnnulus(np.column_stack([x, y]), 12, 18)
    other = ApertureStats(data, ring, sigma_clip=SigmaClip(3.0), sum_method="center")
    assert np.std(found.level - other.median) < 0.1 * found.error.mean()
    np.testing.assert_allclose(found.scatter / other.std, 1, atol=0.06)
    np.testing.assert_allclose(found.pixels, other.center_aper_area.value, atol=12)


def test_acceptance_34_threads_and_order_change_no_bit():
    rng = np.random.default_rng(15)
    data = rng.normal(SKY, NOISE, (300, 300)).astype(np.float32)
    flags = np.where(rng.random(data.shape) < 0.01, BAD, 0).astype(np.uint32)
    x, y = rng.uniform(-20, 320, (2, 900))
    stars = Neighbours(x, y, rng.uniform(0, 8, 900))
    results = []
    try:
        for count in (1, 2):
            set_threads(count)
            results.append(annulus_sky(data, flags, x, y, RING, neighbours=stars))
    finally:
        set_threads(None)
    order = rng.permutation(900)
    shuffled = annulus_sky(data, flags, x[order], y[order], RING, neighbours=Neighbours(*(c[order] for c in stars)))
    for one, two, three in zip(*results, shuffled, strict=True):
        assert np.array_equal(one, two, equal_nan=True)
        assert np.array_equal(one[order], three, equal_nan=True)


def plainly_clipped(values, sigma, median):
    """The clip by sorting anew in every turn."""
    kept = np.sort(values)
    centre = np.median(kept)
    deviation = centre - kept[int(0.1587 * (len(kept) - 1) + 0.5)]
    inside = math.erf(sigma / math.sqrt(2))
    shrunk = math.sqrt(1 - 2 * sigma * math.exp(-0.5 * sigma**2) / math.sqrt(2 * math.pi) / inside)
    for turn in range(20):
        before, kept = len(kept), kept[np.abs(kept - centre) <= sigma * deviation]
        deviation = np.std(kept, ddof=1) / shrunk if len(kept) > 1 else 0.0
        if len(kept) == before and turn > 0:
            break
        centre = np.median(kept)
    return (median_of_counts(kept) if median else kept.mean()), deviation, len(kept)


@pytest.mark.parametrize("kind", ["normal", "stars", "digits", "two values", "constant", "one star", "spread", "steps"])
@pytest.mark.parametrize("sigma", [2.0, 3.0, 8.0])
@pytest.mark.parametrize("outer", [3.0, 12.0])
def test_the_clip_is_that_of_sorted_pixels(kind, sigma, outer):
    rng = np.random.default_rng(16)
    data = rng.normal(SKY, NOISE, (120, 120))
    if kind == "stars":
        data += np.where(rng.random(data.shape) < 0.3, rng.exponential(5000, data.shape), 0)
    elif kind == "digits":
        data = data.round(-1)
    elif kind == "two values":
        data = np.where(rng.random(data.shape) < 0.5, 1.0, 2.0)
    elif kind in ("constant", "one star"):
        data[:] = 7
        data[::9, ::7] = 1e6 if kind == "one star" else 7
    elif kind == "spread":
        data = 10.0 ** rng.uniform(-20, 20, data.shape)
    elif kind == "steps":
        data = np.where(rng.random(data.shape) < 0.1, data, 100.0)
    data = data.astype(np.float32)
    x, y = rng.uniform(20, 100, (2, 20))
    for estimator in ("median", "mean"):
        ring = Annulus(inner=2, outer=outer, sigma=sigma, estimator=estimator, minimum=5)
        found = annulus_sky(data, np.zeros(data.shape, np.uint32), x, y, ring)
        for n in range(len(x)):
            j, i = np.mgrid[:120, :120]
            distance = np.hypot(j - y[n], i - x[n])
            pixels = data[(distance >= 2) & (distance < outer)].astype(float)
            level, scatter, count = plainly_clipped(pixels, sigma, estimator == "median")
            assert found.pixels[n] == count
            if count >= 5:
                np.testing.assert_allclose([found.level[n], found.scatter[n]], [level, scatter], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("beta", [2.0, 2.5, 4.765])
def test_at_the_mask_radius_a_star_is_that_fraction_of_the_noise(beta):
    flux, fwhm, noise = 40_000.0, 3.3, 12.0
    radius = float(mask_radius(flux, fwhm, noise, fraction=0.2, beta=beta))
    image = moffat((81, 81), [40.0 - radius], [40.0], flux, fwhm, beta, reach=80)
    assert image[40, 40] == pytest.approx(0.2 * noise, rel=0.05)  # one pixel wide, against the bare profile
    assert mask_radius([-5, 0, np.nan, np.inf, 1.0], fwhm, noise, beta=beta).tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Annulus(inner=12, outer=12), "inner < outer"),
        (lambda: Annulus(inner=-1, outer=12), "inner < outer"),
        (lambda: Annulus(inner=1, outer=math.inf), "inner < outer"),
        (lambda: Annulus(inner=1, outer=2, sigma=1.9), "sigma = 1.9"),
        (lambda: Annulus(inner=1, outer=2, estimator="mode"), "estimator = 'mode'"),
        (lambda: Annulus(inner=1, outer=2, minimum=1), "minimum = 1"),
        (lambda: mask_radius(1, 0, 1), "fwhm = 0"),
        (lambda: mask_radius(1, 3, math.nan), "noise = nan"),
        (lambda: mask_radius(1, 3, 1, fraction=-1), "fraction = -1"),
        (lambda: mask_radius(1, 3, 1, beta=1), "beta = 1"),
    ],
)
def test_options_that_make_no_sense_are_named(call, message):
    with pytest.raises(OptionError, match=message):
        call()


def test_arrays_that_do_not_fit_are_named():
    data, flags = np.zeros((50, 50), np.float32), np.zeros((50, 50), np.uint32)
    with pytest.raises(OptionError, match="flags has shape"):
        annulus_sky(data, flags[1:], [5], [5], RING)
    with pytest.raises(OptionError, match="x and y"):
        annulus_sky(data, flags, [5], [5, 6], RING)
    with pytest.raises(OptionError, match="must agree"):
        annulus_sky(data, flags, [5], [5], RING, neighbours=Neighbours([1, 2], [1, 2], [3]))
    with pytest.raises(OptionError, match="infinite"):
        annulus_sky(data, flags, [5], [5], RING, neighbours=Neighbours([1], [1], [np.inf]))
    with pytest.raises(OptionError, match="acf has shape"):
        annulus_sky(data, flags, [5], [5], RING, acf=np.ones((2, 2)))
