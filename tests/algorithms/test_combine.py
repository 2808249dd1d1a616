"""Combining frames: statistics, masks, weights and the clip against simulated frames and a slow reference."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from larun.algorithms import jit
from larun.algorithms.combine import CombineOptions, combine, median_efficiency
from larun.algorithms.inflation import Inflation, check_inflation, fit_inflation
from larun.errors import NoiseModelError, OptionError
from larun.flags import BAD, COSMIC, EDGE, NO_DATA, NONLINEAR, SATURATED, UNUSABLE

CHOICES = [("median", "noise"), ("mean", "noise"), ("clipped", "noise"), ("clipped", "mad")]


def run(data, variance, flags=None, *, method="clipped", clip="noise", sigma=5.0, **more):
    flags = np.zeros(np.shape(data), np.uint32) if flags is None else flags
    return combine(data, variance, flags, options=CombineOptions(method=method, clip=clip, sigma=sigma), **more)


def normal(rng, shape, mean=1000.0, sigma=10.0):
    data = rng.standard_normal(shape, np.float32) * np.float32(sigma) + np.float32(mean)
    return data, np.full(shape, sigma**2, np.float32)


def reference(data, variance, flags, weights, method, sigma=5.0):
    """One pixel at a time, straight from the definitions (clip="noise")."""
    _, rows, nx = data.shape
    out = {name: np.zeros((rows, nx)) for name in ("data", "variance", "flags", "count", "rejected")}
    for y, x in np.ndindex(rows, nx):
        d, v, f = data[:, y, x].astype(float), variance[:, y, x].astype(float), flags[:, y, x]
        ok = ((f & UNUSABLE) == 0) & np.isfinite(d) & np.isfinite(v) & (v >= 0) & (weights > 0)
        if not ok.any():
            value = (np.nan, np.nan, np.bitwise_or.reduce(f) | NO_DATA, 0, 0)
        else:
            keep, rejected = ok.copy(), 0
            if method == "clipped":
                centre = np.sort(d[ok])[(ok.sum() - 1) // 2]
                limit = sigma**2 * np.median(v[ok]) * (2 if ok.sum() == 2 else 1)
                keep &= (d - centre) ** 2 <= limit
                rejected = ok.sum() - keep.sum()
            w, k = weights[keep], keep.sum()
            if method == "median" and k > 2:
                spread = median_efficiency(k) * k / np.sum(1 / np.sqrt(v[keep])) ** 2
                value = (np.median(d[keep]), spread, np.bitwise_or.reduce(f[keep]), k, 0)
            else:
                mean, spread = np.sum(w * d[keep]) / w.sum(), np.sum(w**2 * v[keep]) / w.sum() ** 2
                value = (mean, spread, np.bitwise_or.reduce(f[keep]), k, rejected)
        for plane, number in zip(out.values(), value, strict=True):
            plane[y, x] = number
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12, 33])
@pytest.mark.parametrize("method", ["median", "mean", "clipped"])
def test_agrees_with_the_definitions(rng, n, method):
    data, variance = normal(rng, (n, 3, 70))
    variance *= rng.uniform(0.5, 2.0, variance.shape).astype(np.float32)
    data[rng.random(data.shape) < 0.1] += 3000
    data[rng.random(data.shape) < 0.1] = np.nan
    variance[rng.random(data.shape) < 0.05] = -1
    flags = rng.choice(np.array([0, 0, 0, BAD, COSMIC, EDGE, NONLINEAR], np.uint32), data.shape)
    weights = np.ones(n) if method == "median" else rng.uniform(0.5, 2.0, n)
    made = run(data, variance, flags, method=method, weights=None if method == "median" else weights)
    expected = reference(data, variance, flags, weights, method)
    for name, plane in expected.items():
        np.testing.assert_allclose(getattr(made, name), plane, rtol=3e-7, err_msg=name)
    dtypes = [plane.dtype.name for plane in made]
    assert dtypes == ["float32", "float32", "uint32", "uint16", "uint16"]


@pytest.mark.parametrize("n", [3, 5, 10, 25])
@pytest.mark.parametrize(("method", "clip"), CHOICES)
def test_acceptance_3_reported_noise_is_the_noise(rng, n, method, clip):
    data, variance = normal(rng, (n, 100, 400))
    made = run(data, variance, method=method, clip=clip)
    true = np.std(made.data, dtype=np.float64)  # own error 0.35 %
    reported = math.sqrt(np.mean(made.variance, dtype=np.float64))
    assert reported / true == pytest.approx(1, abs=0.03)
    scatter = run(data, None, method=method, clip="mad")  # without variances, from the scatter
    assert math.sqrt(np.mean(scatter.variance, dtype=np.float64)) / np.std(scatter.data) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("method", "clip"), CHOICES)
def test_acceptance_4_variance_is_propagated_not_measured(method, clip):
    data, variance = np.full((9, 2, 3), 100.0), np.full((9, 2, 3), 9.0)
    made = run(data, variance, method=method, clip=clip)
    expected = median_efficiency(9) if method == "median" else 1.0
    assert np.all(made.data == 100)
    np.testing.assert_allclose(made.variance, expected, rtol=1e-7)
    assert np.all(made.count == 9)


@pytest.mark.parametrize(("method", "clip"), CHOICES)
@pytest.mark.parametrize("bit", [BAD, SATURATED, COSMIC, NO_DATA])
def test_acceptance_5_masked_is_absent_bit_for_bit(rng, method, clip, bit):
    data, variance = normal(rng, (6, 4, 600))
    data[2, :, ::5] += 2000
    flags = np.zeros(data.shape, np.uint32)
    flags[3] = bit
    weights = None if method == "median" else np.array([1, 2, 0.5, 7, 1.5, 1])
    masked = run(data, variance, flags, method=method, clip=clip, weights=weights)
    others = [0, 1, 2, 4, 5]
    absent = run(
        data[others],
        variance[others],
        flags[others],
        method=method,
        clip=clip,
        weights=None if weights is None else weights[others],
    )
    for with_mask, without in zip(masked, absent, strict=True):
        np.testing.assert_array_equal(with_mask, without)


def test_acceptance_5_zero_weight_is_absent(rng):
    data, variance = normal(rng, (4, 2, 50))
    made = run(data, variance, method="mean", weights=[1, 1, 0, 1])
    np.testing.assert_array_equal(made.data, run(data[[0, 1, 3]], variance[[0, 1, 3]], method="mean").data)
    assert np.all(made.count == 3)


@pytest.mark.parametrize(
    ("method", "clip", "with_variance"),
    [(*choice, True) for choice in CHOICES]
    + [(*choice, False) for choice in CHOICES if choice != ("clipped", "noise")],
)
def test_acceptance_5_all_masked(rng, method, clip, with_variance):
    data, variance = normal(rng, (5, 3, 8))
    flags = np.zeros(data.shape, np.uint32)
    flags[:, 1, 4] = [BAD, COSMIC, BAD | EDGE, SATURATED, BAD]
    made = run(data, variance if with_variance else None, flags, method=method, clip=clip)
    assert np.isnan(made.data[1, 4])
    assert np.isnan(made.variance[1, 4])
    assert made.flags[1, 4] == NO_DATA | BAD | COSMIC | EDGE | SATURATED
    assert made.count[1, 4] == 0
    made.data[1, 4] = made.variance[1, 4] = made.flags[1, 4] = made.count[1, 4] = 0
    assert np.isfinite(made.data).all()
    assert np.isfinite(made.variance).all()
    assert not made.flags.any()


@pytest.mark.parametrize(("method", "clip"), CHOICES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_acceptance_6_one_nan_stays_alone(rng, method, clip, value):
    data, variance = normal(rng, (5, 6, 40))
    clean = run(data, variance, method=method, clip=clip)
    data[1, 3, 17] = value
    made = run(data, variance, method=method, clip=clip)
    others = np.ones(made.data.shape, bool)
    others[3, 17] = False
    for before, after in zip(clean, made, strict=True):
        np.testing.assert_array_equal(before[others], after[others])
    assert made.count[3, 17] == 4
    assert np.isfinite(made.data[3, 17])


@pytest.mark.parametrize("n", range(3, 11))
def test_acceptance_7_lone_outlier_is_rejected(rng, n):
    gain, read_noise = 1.0, 5.0
    electrons = rng.poisson(200, (n, 40, 100)) + rng.normal(0, read_noise, (n, 40, 100))
    hit = rng.integers(0, n, (1, 40, 100))
    sigma = math.sqrt(200 + read_noise**2)
    np.put_along_axis(electrons, hit, np.take_along_axis(electrons, hit, 0) + 50 * sigma, 0)
    variance = np.maximum(electrons, 0) / gain + read_noise**2  # the outlier's own variance is raised too
    made = run(electrons, variance)
    assert made.rejected.min() >= 1
    assert np.mean(made.count == n - 1) > 0.997
    assert np.abs(made.data - 200).max() < 6 * sigma / math.sqrt(n - 2)


@pytest.mark.parametrize("n", range(3, 11))
def test_acceptance_7_lone_outlier_and_the_spread_of_the_values(rng, n):
    data, _ = normal(rng, (n, 100, 400))
    data[0, :, ::10] += 500
    made = run(data, None, clip="mad")
    assert made.rejected[:, ::10].min() == 1
    assert np.delete(made.rejected, np.s_[::10], axis=1).mean() < 1e-3


@pytest.mark.parametrize("n", [5, 7, 10, 25])
@pytest.mark.parametrize("clip", ["noise", "mad"])
def test_acceptance_7_efficiency_with_the_right_model(rng, n, clip):
    data, variance = normal(rng, (n, 60, 500))
    clipped, mean = run(data, variance, clip=clip), run(data, variance, method="mean")
    assert np.var(mean.data, dtype=float) / np.var(clipped.data, dtype=float) >= 0.99


@pytest.mark.parametrize("wrong", [0.5, 2.0])
@pytest.mark.parametrize("n", [5, 10])
def test_acceptance_7_wrong_gain_is_found_and_allowed_for(rng, n, wrong):
    signal = np.exp(rng.uniform(math.log(300), math.log(30000), (200, 200)))
    electrons = rng.poisson(signal, (n, 200, 200)) + rng.normal(0, 5, (n, 200, 200))
    struck = rng.random(electrons.shape) < 0.005
    electrons[struck] += 20000
    variance = np.maximum(electrons, 0) * wrong + 25
    flags = np.zeros(electrons.shape, np.uint32)
    found = fit_inflation(electrons, variance, flags)
    assert found.factor == pytest.approx(1 / wrong, rel=0.1)  # the read noise part is right
    assert found.ratio[found.pixels >= 4000][-1] == pytest.approx(1 / wrong, rel=0.05)
    check_inflation(found)  # √2 in σ: corrected, not refused
    made = run(electrons, variance, inflation=found)
    assert np.all(made.rejected >= np.where(signal < 20000, struck.sum(axis=0), 0) - (struck.sum(axis=0) > n // 2) * n)
    clean = ~struck.any(axis=0)
    mean = run(electrons, variance, method="mean").data
    scaled = [(plane[clean] - signal[clean]) / np.sqrt(signal[clean] + 25) for plane in (mean, made.data)]
    assert np.var(scaled[0]) / np.var(scaled[1]) >= 0.95


def test_acceptance_7_far_too_optimistic_model_is_refused(rng):
    data, variance = normal(rng, (5, 50, 100))
    found = fit_inflation(data, variance / 4, np.zeros(data.shape, np.uint32))
    assert found.factor == pytest.approx(4, rel=0.05)
    with pytest.raises(NoiseModelError, match=r"2\.0\d times .* limit is 1\.5.*gain.*clip='mad'"):
        check_inflation(found)
    check_inflation(found, limit=2.5)
    pessimistic = fit_inflation(data, variance * 4, np.zeros(data.shape, np.uint32))
    assert pessimistic.factor == pytest.approx(0.25, rel=0.05)
    check_inflation(pessimistic)
    assert pessimistic.clip_ratio.min() == pytest.approx(1 / 2.25)


def test_inflation_of_a_right_model_is_one_with_cosmics_and_unlike_frames(rng):
    relative = np.array([1.0, 4.0, 1.0, 0.25, 1.0])
    data = rng.normal(0, 10 * np.sqrt(relative)[:, None, None], (5, 200, 300)) + np.linspace(0, 1000, 300)
    data[rng.random(data.shape) < 0.01] += 5000
    variance = np.broadcast_to(100 * relative[:, None, None], data.shape)
    found = fit_inflation(data, variance, np.zeros(data.shape, np.uint32))
    assert found.factor == pytest.approx(1, abs=0.03)
    assert np.all(np.abs(found.ratio - 1) < 0.1)
    np.testing.assert_allclose(found.frames, relative, rtol=1e-6)
    assert np.all(np.diff(found.signal) > 0)
    assert found.pixels.sum() > 40_000
    made = run(data, variance, inflation=found)
    flat = np.broadcast_to(np.linspace(0, 1000, 300), made.data.shape)
    assert np.abs(made.data - flat).max() < 6 * 15  # no cosmic ray is left, and noisy frames were not clipped away
    assert np.mean(made.rejected) / 5 == pytest.approx(0.01, abs=0.002)


def test_inflation_with_nothing_to_compare():
    alone = fit_inflation(np.ones((1, 10, 10)), np.ones((1, 10, 10)), np.zeros((1, 10, 10), np.uint32))
    assert (alone.factor, alone.pixels.sum()) == (1.0, 0)
    masked = fit_inflation(np.ones((3, 10, 10)), np.ones((3, 10, 10)), np.full((3, 10, 10), BAD))
    assert (masked.factor, masked.pixels.sum(), masked.frames.tolist()) == (1.0, 0, [1, 1, 1])
    equal = fit_inflation(np.ones((3, 40, 40)), np.ones((3, 40, 40)), np.zeros((3, 40, 40), np.uint32))
    assert equal.factor == 0
    assert run(np.ones((3, 4, 4)), np.ones((3, 4, 4)), inflation=equal).rejected.sum() == 0


def test_two_frames_keep_the_lower_when_they_disagree():
    data = np.array([100.0, 100.0 + 6.9 * 10, 100.0, 100.0 + 7.3 * 10]).reshape(2, 2, 1, order="F")
    made = run(data, np.full(data.shape, 100.0))
    assert made.data.ravel().tolist() == [134.5, 100.0]  # 5 √2 = 7.07
    assert made.rejected.ravel().tolist() == [0, 1]
    assert made.variance.ravel().tolist() == [50.0, 100.0]
    assert run(data, None, clip="mad").rejected.sum() == 0
    single = run(data[:1], np.full((1, 2, 1), 100.0))
    np.testing.assert_array_equal(single.data, data[0].astype(np.float32))


def test_two_outliers_of_four_leave_something():
    data = np.array([10.0, 11.0, 900.0, 905.0]).reshape(4, 1, 1)
    made = run(data, np.ones(data.shape))
    assert (made.data.item(), made.count.item(), made.rejected.item()) == (10.5, 2, 2)


@pytest.mark.parametrize("count", [3, 4, 5, 10, 25, 30, 31, 40])
def test_median_efficiency_is_exact(count):
    """Against the density of the sample median, by another quadrature; the mean of the middle two if even."""
    if count % 2:
        m = count // 2
        beta = stats.beta(m + 1, m + 1)  # the median is the normal quantile of a beta variate
        exact, _ = integrate.quad(lambda p: beta.pdf(p) * stats.norm.ppf(p) ** 2, 0, 1, epsabs=1e-12)
    else:
        m = count // 2
        log_norm = math.lgamma(count + 1) - 2 * math.lgamma(m)

        def density(t, y):
            parts = stats.norm.logpdf(y - t) + stats.norm.logpdf(y + t)
            tails = (m - 1) * (stats.norm.logcdf(y - t) + stats.norm.logsf(y + t))
            return 2 * np.exp(log_norm + parts + tails) * y**2

        y, t = np.linspace(-5, 5, 801)[:, None], np.linspace(0, 5, 801)[None, :]
        exact = integrate.simpson(integrate.simpson(density(t, y), x=t[0], axis=1), x=y[:, 0])
    assert median_efficiency(count) == pytest.approx(count * exact, rel=2e-4)


def test_flags_come_from_contributors_only():
    data = np.array([1.0, 2.0, 3.0, 1e5]).reshape(4, 1, 1)
    flags = np.array([EDGE, BAD, NONLINEAR, np.uint32(1 << 25)], np.uint32).reshape(4, 1, 1)
    made = run(data, np.ones((4, 1, 1)), flags)
    assert made.flags.item() == EDGE | NONLINEAR  # neither the masked nor the rejected frame
    assert made.count.item() == 2


def test_acceptance_34_bands_and_threads_do_not_change_a_bit(rng):
    data, variance = normal(rng, (7, 37, 700))
    data[rng.random(data.shape) < 0.02] += 500
    flags = np.where(rng.random(data.shape) < 0.05, BAD, np.uint32(0))
    for method, clip in CHOICES:
        results = []
        for count in (1, 3):
            jit.set_threads(count)
            try:
                whole = run(data, variance, flags, method=method, clip=clip)
                cuts = [
                    run(data[:, a:b], variance[:, a:b], flags[:, a:b], method=method, clip=clip)
                    for a, b in ((0, 5), (5, 6), (6, 30), (30, 37))
                ]
            finally:
                jit.set_threads(None)
            results += [whole, [np.concatenate(planes) for planes in zip(*cuts, strict=True)]]
        for other in results[1:]:
            for first, second in zip(results[0], other, strict=True):
                assert first.tobytes() == second.tobytes()


def test_a_pixel_with_one_value_and_no_variance_takes_the_typical_one_of_its_row(rng):
    data, _ = normal(rng, (6, 2, 300))
    flags = np.zeros(data.shape, np.uint32)
    flags[1:, 0, 7] = BAD
    for method in ("mean", "median"):
        made = run(data, None, flags, method=method, clip="mad")
        assert made.variance[0, 7] == pytest.approx(100, rel=0.3)
    assert np.isnan(run(data[:1], None, method="mean").variance).all()


def test_bad_options_are_named():
    ones, bits = np.ones((3, 2, 2)), np.zeros((3, 2, 2), np.uint32)
    for options in ({"method": "average"}, {"clip": "std"}, {"sigma": 2.0}, {"sigma": math.nan}):
        with pytest.raises(OptionError, match=rf"{next(iter(options))} = .*(use one of|must be from)"):
            CombineOptions(**options)
    with pytest.raises(OptionError, match="clip='mad'"):
        combine(ones, None, bits, options=CombineOptions())
    with pytest.raises(OptionError, match="weighted median"):
        combine(ones, ones, bits, options=CombineOptions(method="median"), weights=[1, 1, 1])
    for weights in ([1, 1], [1, -1, 1], [1, np.nan, 1]):
        with pytest.raises(OptionError, match="weights"):
            combine(ones, ones, bits, options=CombineOptions(), weights=weights)
    for planes in ((ones[0], ones[0], bits[0]), (ones[:0], ones[:0], bits[:0])):
        with pytest.raises(OptionError, match="data has shape"):
            combine(*planes, options=CombineOptions())
    with pytest.raises(OptionError, match="flags has shape"):
        combine(ones, ones, bits[:2], options=CombineOptions())
    with pytest.raises(OptionError, match="variance has shape"):
        combine(ones, ones[:2], bits, options=CombineOptions())
    for inflation in (0.0, -1.0, math.nan):
        with pytest.raises(OptionError, match="inflation"):
            combine(ones, ones, bits, options=CombineOptions(), inflation=inflation)
    other = Inflation(1.0, np.zeros(1), np.ones(1), np.ones(1, np.int64), np.ones(2))
    with pytest.raises(OptionError, match="2 frames"):
        combine(ones, ones, bits, options=CombineOptions(), inflation=other)
    with pytest.raises(OptionError, match="sample"):
        fit_inflation(ones, ones, bits, sample=5)
    with pytest.raises(OptionError, match="shapes"):
        fit_inflation(ones, ones[:2], bits)
