"""Means of dithered frames: the light of stars under changing seeing, errors, and what a single frame saw."""

import math

import numpy as np
import pytest

from larun import flags as fl
from larun.algorithms import jit
from larun.algorithms.aperture import aperture_sums
from larun.algorithms.mapping import affine
from larun.algorithms.resampled_noise import acf_at, term_of
from larun.algorithms.stacking import Layer, MeanOptions, Rows, stack
from larun.errors import OptionError

SIZE = 420
SHAPE = (SIZE, SIZE)
SKY, READ = 200.0, 8.0
SEEING = np.linspace(2.5, 4.0, 10)


def moffat(square, fwhm, beta=3.0):
    alpha = fwhm / 2 / math.sqrt(2 ** (1 / beta) - 1)
    return (beta - 1) / math.pi / alpha**2 * (1 + square / alpha**2) ** -beta


def field(seed=1):
    """Stars over eight magnitudes, on a loose grid."""
    rng = np.random.default_rng(seed)
    x, y = (item.ravel() for item in np.meshgrid(np.arange(30, SIZE - 30, 40.0), np.arange(30, SIZE - 30, 40.0)))
    x, y = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, x.size)
    return x, y, 10 ** rng.permutation(np.linspace(2.6, 5.8, x.size))


def light(stars, dx, dy, fwhm):
    image = np.full(SHAPE, SKY)
    for x, y, flux in zip(stars[0] + dx, stars[1] + dy, stars[2], strict=True):
        part = tuple(slice(max(0, int(at) - 18), min(SIZE, int(at) + 19)) for at in (y, x))
        rows, columns = np.mgrid[part]
        third = (-1 / 3, 0.0, 1 / 3)
        profile = sum(moffat((columns + a - x) ** 2 + (rows + b - y) ** 2, fwhm) for a in third for b in third) / 9
        image[part] += flux * profile
    return image


def layer(data, variance, flags=None, *, shift=(0.0, 0.0), fwhm=3.0, weight=1.0, shared=None, **more):
    flags = np.zeros(data.shape, np.uint32) if flags is None else flags
    data, variance = data.astype(np.float32), variance.astype(np.float32)

    def read(start, stop):
        return Rows(
            data[start:stop],
            variance[start:stop],
            flags[start:stop],
            {n: p[start:stop] for n, p in (shared or {}).items()},
        )

    mapping = affine(np.eye(2), shift, SHAPE)
    more.setdefault("noise", float(np.median(variance)))
    return Layer(read, data.shape, mapping, weight=weight, fwhm=fwhm, sky=SKY, **more)


@pytest.fixture(scope="module")
def sky():
    """What ten dithered frames under changing seeing show, before noise."""
    stars, images = field(), []
    for k, fwhm in enumerate(SEEING):
        shift = (0.0, 0.0) if k == 0 else tuple(np.random.default_rng(50 + k).uniform(-8, 8, 2))
        images.append((shift, fwhm, light(stars, *shift, fwhm)))
    return stars, images


def exposed(images, seed):
    """The frames without and with cosmic rays, of which 98 of 100 are flagged."""
    clean, hit = [], []
    for k, (shift, fwhm, image) in enumerate(images):
        rng = np.random.default_rng([seed, k])
        variance = image + READ**2
        data = image + rng.normal(0, 1, SHAPE) * np.sqrt(variance)
        more = {"shift": shift, "fwhm": fwhm, "weight": 1 / fwhm**2}
        clean.append(layer(data, np.maximum(data, 0) + READ**2, **more))
        rays = (rng.random(SHAPE) < 0.01) * rng.exponential(800, SHAPE)
        flags = np.where((rays > 5 * np.sqrt(variance)) & (rng.random(SHAPE) < 0.98), fl.COSMIC, 0).astype(np.uint32)
        data = data + rays
        hit.append(layer(data, np.maximum(data, 0) + READ**2, flags, **more))
    return clean, hit


@pytest.fixture(scope="module")
def series(sky):
    return (sky[0], *exposed(sky[1], 1))


def magnitudes(stars, made, radius=8.0):
    """Within an aperture above the sky around each star, in units of its flux."""
    x, y, flux = stars
    nothing = np.zeros(SHAPE, np.uint32)
    inner, outer, whole = (aperture_sums(made.data, None, nothing, x, y, [r]) for r in (12.0, 16.0, radius))
    sky = (outer.sum - inner.sum) / (outer.area - inner.area)
    return -2.5 * np.log10((whole.sum - sky * whole.area)[:, 0] / flux)


def test_acceptance_27_stars_keep_their_light_under_cosmic_rays_and_seeing(sky):
    stars, images = sky
    away: dict[str, list] = {"clean": [], "hit": [], "median": []}
    for seed in range(6):
        clean, hit = exposed(images, seed)
        wanted = magnitudes(stars, stack(clean, SHAPE, options=MeanOptions(method="mean")))
        away["clean"].append(magnitudes(stars, stack(clean, SHAPE)) - wanted)
        away["hit"].append(magnitudes(stars, stack(hit, SHAPE)) - wanted)
        away["median"].append(magnitudes(stars, stack(clean, SHAPE, options=MeanOptions(method="median"))) - wanted)
    steps = np.log10(stars[2])
    bright = steps > 4.2  # fainter ones: the noise of what rays left is above a millimagnitude
    for name in ("clean", "hit"):
        values = np.array(away[name])[:, bright]
        error = np.std(values) / math.sqrt(values.size)
        assert error < 0.35e-3
        assert abs(np.mean(values)) < 1e-3, name
    # the slope over the eight magnitudes, each star by its own scatter
    values = np.array(away["hit"])
    weight = 1 / np.maximum(np.std(values, axis=0), 2e-3)
    (slope, _), covariance = np.polyfit(steps * 2.5, np.mean(values, axis=0), 1, w=weight, cov=True)
    assert abs(slope) * 8 < 1e-3 + 2.5 * 8 * math.sqrt(covariance[0, 0])
    assert abs(np.mean(np.array(away["median"])[:, bright])) > 2e-3  # what a median does to stars


def test_what_only_one_frame_saw_is_gone(series):
    _, _, hit = series
    made = stack(hit, SHAPE)
    best = stack(series[1], SHAPE, options=MeanOptions(method="mean"))
    rest = (made.data - best.data)[12:-12, 12:-12]
    rest[best.data[12:-12, 12:-12] > SKY + 60] = 0
    assert np.nanmax(rest) < 60  # rays have 800 electrons in the mean, a tenth of which would be left
    assert np.mean(made.rejected > 0) < 0.08
    assert np.all(made.contributors + made.rejected <= len(hit))
    clean = stack(series[1], SHAPE)
    assert np.mean(clean.rejected) / len(hit) < 5e-4  # nothing to reject, and nothing is


def test_a_hot_pixel_that_the_dither_moves_leaves_nothing():
    rng = np.random.default_rng(4)
    hot = rng.integers(30, SIZE - 30, (2, 40))
    layers = []
    for k in range(6):
        data = rng.normal(SKY, math.sqrt(SKY + READ**2), SHAPE)
        data[hot[0], hot[1]] += 5000
        layers.append(layer(data, np.full(SHAPE, SKY + READ**2), shift=(3.3 * k, -2.7 * k)))
    made = stack(layers, SHAPE)
    good = made.contributors >= 5
    pull = (made.data - SKY)[good] / np.sqrt(made.variance[good])
    assert np.max(pull) < 6
    plain = stack(layers, SHAPE, options=MeanOptions(method="mean"))
    assert np.nanmax(plain.data) > SKY + 500


def test_of_two_frames_the_ray_is_known_too():
    rng = np.random.default_rng(5)
    layers = []
    for k in range(2):
        data = rng.normal(SKY, math.sqrt(SKY + READ**2), SHAPE)
        data[100 + 7 * k, 50:200:10] += 900
        layers.append(layer(data, np.full(SHAPE, SKY + READ**2)))
    made = stack(layers, SHAPE)
    assert np.max(made.data) < SKY + 6 * math.sqrt(SKY + READ**2)
    assert made.rejected[100, 50] == made.rejected[107, 60] == 1


def test_errors_are_those_of_many_stacks():
    x, y = (item.ravel() for item in np.meshgrid(np.arange(20, 80, 9.3), np.arange(20, 80, 9.7)))
    shape = (100, 100)
    radii = (2.0, 4.0)
    shifts = [(0.0, 0.0), (0.4, 0.3), (-1.7, 2.2), (5.5, -3.1), (-4.2, 0.9)]
    weights = (1.0, 0.7, 1.3, 0.5, 0.9)
    rng = np.random.default_rng(6)
    mappings = [affine(np.eye(2), shift, shape) for shift in shifts]
    noise = (5.0, 6.0, 4.5, 7.0, 5.5)
    sums = []
    for _ in range(1000):
        layers = []
        for mapping, weight, sigma in zip(mappings, weights, noise, strict=True):
            data = rng.normal(0, sigma, shape).astype(np.float32)
            variance = np.full(shape, sigma**2, np.float32)

            def read(start, stop, d=data, v=variance):
                return Rows(d[start:stop], v[start:stop], np.zeros(d[start:stop].shape, np.uint32), {})

            layers.append(Layer(read, shape, mapping, weight=weight, fwhm=3.0, noise=sigma**2))
        made = stack(layers, shape)
        sums.append(aperture_sums(made.data, None, np.zeros(shape, np.uint32), x, y, radii).sum)
    terms = tuple(
        term_of(mapping, "lanczos3", (weight * sigma) ** 2)
        for mapping, weight, sigma in zip(mappings, weights, noise, strict=True)
    )
    acf = acf_at(terms, x, y, radii)
    reported = aperture_sums(made.data, made.variance, np.zeros(shape, np.uint32), x, y, radii, acf=acf).variance
    ratio = np.sqrt(reported) / np.std(sums, axis=0)
    own = 1 / math.sqrt(2 * 1000)
    assert np.max(np.abs(np.mean(ratio, axis=0) - 1)) < 0.015
    assert np.percentile(np.abs(ratio - 1), 90) < 0.05
    assert np.max(np.std(ratio, axis=0)) < 1.6 * own


def test_common_noise_does_not_average_down():
    rng = np.random.default_rng(7)
    master = np.full(SHAPE, 16.0, np.float32)
    own = np.full(SHAPE, 25.0)
    common = rng.normal(0, 4, SHAPE)
    layers = [layer(SKY + common + rng.normal(0, 5, SHAPE), own, shared={"m": master}) for _ in range(25)]
    plain = MeanOptions(method="mean")
    made = stack(layers, SHAPE, common=("m",), options=plain)
    np.testing.assert_allclose(made.shared["m"], 16.0, rtol=1e-5)
    np.testing.assert_allclose(made.variance, 1.0, rtol=1e-5)
    assert np.std(made.data) == pytest.approx(math.sqrt(17.0), rel=0.01)
    apart = stack(layers, SHAPE, options=plain)
    np.testing.assert_allclose(apart.variance, 41 / 25, rtol=1e-5)
    assert not apart.shared


def test_scale_plane_and_weight_are_what_they_say():
    y, x = np.mgrid[:SIZE, :SIZE]
    flat = np.full(SHAPE, 100.0)
    one = layer(flat, flat, weight=3.0)
    two = layer((flat + 7 + 0.01 * x - 0.02 * y) / 2, flat, scale=2.0, plane=(7.0, 0.01, -0.02), weight=1.0)
    made = stack([one, two], SHAPE, options=MeanOptions(method="mean"))
    np.testing.assert_allclose(made.data, 100, rtol=1e-5)
    np.testing.assert_allclose(made.variance, (9 * 100 + 4 * 100) / 16, rtol=1e-5)


def test_coverage_and_flags_where_frames_end():
    flat = np.full(SHAPE, 100.0)
    flags = np.zeros(SHAPE, np.uint32)
    flags[50, 60] = fl.SATURATED
    flags[200, 100] = fl.NONLINEAR
    layers = [layer(flat, flat, flags, weight=2.0), layer(flat, flat, flags, shift=(300.0, 0.0), weight=1.0)]
    made = stack(layers, SHAPE)
    assert np.mean(made.contributors[:, :115] == 2) > 0.995
    assert np.all(made.contributors[:, 121:] <= 1)
    assert made.coverage[10, 300] == pytest.approx(2 / 3)
    assert made.contributors[50, 60] == 1
    assert made.flags[50, 60] & fl.SATURATED == 0  # the other frame saw the star
    assert made.flags[200, 100] & fl.NONLINEAR
    alone = stack(layers[:1], SHAPE)
    assert np.isnan(alone.data[50, 60])
    assert alone.flags[50, 60] & fl.SATURATED
    assert alone.flags[50, 60] & fl.NO_DATA


def test_memory_and_threads_change_no_bit(series):
    _, _, hit = series
    results = []
    for count, memory in ((1, 1e9), (2, 1.0), (3, 3e7)):
        jit.set_threads(count)
        try:
            results.append(stack(hit, SHAPE, options=MeanOptions(max_memory=memory)))
        finally:
            jit.set_threads(None)
    for other in results[1:]:
        for one, two in zip(results[0][:-1], other[:-1], strict=True):
            assert one.tobytes() == two.tobytes()


def test_senseless_options_are_refused():
    for wrong in ({"method": "best"}, {"sigma": 1.0}, {"light": -0.1}, {"max_memory": 0}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            MeanOptions(**wrong)
    with pytest.raises(OptionError, match="no frames"):
        stack([], SHAPE)
    flat = np.ones(SHAPE)
    with pytest.raises(OptionError, match="must be positive"):
        stack([layer(flat, flat, weight=0.0)], SHAPE)


def test_what_many_frames_see_differently_is_no_artefact():
    rng = np.random.default_rng(8)
    layers = []
    for k in range(9):
        data = rng.normal(SKY, math.sqrt(SKY + READ**2), SHAPE)
        data[100, 100] += 4000 * (k % 2)  # a star that flickers
        if k == 3:
            data[200, 100] += 4000
        layers.append(layer(data, np.full(SHAPE, SKY + READ**2)))
    made = stack(layers, SHAPE)
    assert made.contributors[100, 100] == 9
    assert made.contributors[200, 100] == 8


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 33])
def test_the_median_is_that_of_numpy_whatever_is_missing(count):
    rng = np.random.default_rng(count)
    layers, planes = [], []
    for _ in range(count):
        data = rng.normal(0, 5, SHAPE).astype(np.float32)
        flags = np.where(rng.random(SHAPE) < 0.3, fl.BAD | fl.INTERPOLATED, 0).astype(np.uint32)
        layers.append(layer(data, np.full(SHAPE, 25.0), flags))
        planes.append(np.where(flags > 0, np.nan, data.astype(np.float64)))
    made = stack(layers, SHAPE, options=MeanOptions(method="median"))
    stacked = np.array(planes)
    number = np.sum(np.isfinite(stacked), axis=0)
    wanted = np.full(SHAPE, np.nan)
    some = number > 0
    wanted[some] = np.nanmedian(stacked[:, some], axis=0)
    wanted[number == 2] = np.nanmin(stacked[:, number == 2], axis=0)
    assert np.array_equal(made.data, wanted.astype(np.float32), equal_nan=True)
    assert np.array_equal(made.contributors, number)
