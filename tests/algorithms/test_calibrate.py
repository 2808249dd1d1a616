"""The arithmetic of the calibration against a plain numpy version, simulations, and propagation by hand."""

import math

import numpy as np
import pytest

from larun.algorithms import jit
from larun.algorithms.calibrate import AmplifierValues, calibrate_block
from larun.algorithms.masternoise import bias_noise, dark_noise, flat_noise, shared_variance, total_variance
from larun.errors import OptionError
from larun.flags import BAD, COSMIC, FLAT_INVALID, NO_DATA, NONLINEAR, SATURATED, resolve_bad

SHAPE = (40, 50)
AMPLIFIER = AmplifierValues(gain=1.8, read_noise=7.0, saturation=60000, linear_limit=50000)


def masters(rng, shape=SHAPE):
    return {
        "bias": rng.normal(3, 2, shape).astype(np.float32),
        "dark": rng.exponential(0.2, shape).astype(np.float32),
        "exposure": 120.0,
        "flat": rng.normal(1, 0.1, shape).astype(np.float32),
    }


def reference(raw, flags, overscan, amplifier, bias, dark, exposure, flat):
    """The same in plain numpy."""
    raw = raw.astype(float)
    present = np.isfinite(raw) & ((flags & NO_DATA) == 0)
    flags = np.where(present, flags, flags | NO_DATA)
    flags = np.where(raw >= amplifier.saturation, flags | SATURATED, flags)
    flags = np.where(raw > amplifier.linear_limit, flags | NONLINEAR, flags)
    flags = np.where(np.isfinite(bias) & np.isfinite(dark), flags, flags | BAD)
    valid = np.isfinite(flat) & (flat >= 1e-3)
    flags = resolve_bad(np.where(valid, flags, flags | FLAT_INVALID).astype(np.uint32))
    s = raw - overscan[:, None] - np.where(np.isfinite(bias), bias, 0)
    correction = np.polynomial.Polynomial([0, 1, *amplifier.linearity])
    slope, s = correction.deriv()(s), correction(s)
    variance = np.maximum(s * amplifier.gain, 0) + (amplifier.read_noise * slope) ** 2
    data = s * amplifier.gain - amplifier.gain * exposure * np.where(np.isfinite(dark), dark, 0)
    divisor = np.where(valid, flat, 1)
    return np.where(present, data / divisor, np.nan), np.where(present, variance / divisor**2, np.nan), flags


@pytest.mark.parametrize("linearity", [(), (1e-6,), (2e-7, -3e-12, 1e-17)])
def test_agrees_with_plain_numpy(rng, linearity):
    amplifier = AmplifierValues(gain=1.8, read_noise=7, saturation=60000, linear_limit=50000, linearity=linearity)
    raw = rng.uniform(900, 65535, SHAPE).astype(np.float32)
    raw[rng.random(SHAPE) < 0.3] = 1001
    given = masters(rng)
    for plane, values in (("bias", [np.nan]), ("dark", [np.inf]), ("flat", [0, -1, np.nan, np.inf, 1e-30])):
        for value in values:
            given[plane][rng.random(SHAPE) < 0.02] = value
    raw[rng.random(SHAPE) < 0.03] = np.nan
    flags = rng.choice(np.array([0, 0, 0, BAD, COSMIC, NO_DATA], np.uint32), SHAPE)
    overscan = rng.normal(1000, 1, SHAPE[0])
    made = calibrate_block(raw, flags, overscan, amplifier=amplifier, **given)
    data, variance, bits = reference(raw, flags, overscan, amplifier, **given)
    np.testing.assert_allclose(made.data, data, rtol=3e-7, atol=1e-4)
    np.testing.assert_allclose(made.variance, variance, rtol=3e-7)
    np.testing.assert_array_equal(made.flags, bits)
    assert [plane.dtype.name for plane in made] == ["float32", "float32", "uint32"]
    np.testing.assert_array_equal(np.isnan(made.data), (made.flags & NO_DATA) != 0)
    np.testing.assert_array_equal(np.isnan(made.variance), np.isnan(made.data))


def test_acceptance_9_invalid_flat_is_flagged_and_stays_alone(rng):
    raw = rng.normal(3000, 40, SHAPE).astype(np.float32)
    flags, overscan, given = np.zeros(SHAPE, np.uint32), np.full(SHAPE[0], 1000.0), masters(rng)
    clean = calibrate_block(raw, flags, overscan, amplifier=AMPLIFIER, **given)
    at = [(3, 4), (5, 6), (7, 8), (9, 10)]
    flat = given["flat"].copy()
    for place, value in zip(at, [0, -0.5, np.nan, np.inf], strict=True):
        flat[place] = value
    made = calibrate_block(raw, flags, overscan, amplifier=AMPLIFIER, **{**given, "flat": flat})
    invalid = np.zeros(SHAPE, bool)
    invalid[tuple(np.transpose(at))] = True
    np.testing.assert_array_equal((made.flags & FLAT_INVALID) != 0, invalid)
    assert np.isfinite(made.data).all()
    for before, after in zip(clean, made, strict=True):
        np.testing.assert_array_equal(before[~invalid], after[~invalid])
    undivided = calibrate_block(raw, flags, overscan, amplifier=AMPLIFIER, **{**given, "flat": None})
    np.testing.assert_array_equal(made.data[invalid], undivided.data[invalid])


def test_acceptance_10_amplifiers_with_other_gains_see_one_sky(rng):
    sky, halves = 2000.0, []
    for gain, level in ((1.8, 1000.0), (1.98, 1200.0)):
        electrons = rng.poisson(sky, (300, 300)) + rng.normal(0, 5, (300, 300))
        raw = np.rint(electrons / gain + level)
        amplifier = AmplifierValues(gain=gain, read_noise=5)
        made = calibrate_block(raw, np.zeros(raw.shape, np.uint32), np.full(300, level), amplifier=amplifier)
        halves.append(np.mean(made.data, dtype=float))
    assert abs(halves[1] / halves[0] - 1) < 0.001


@pytest.mark.parametrize("electrons", [0.0, 5.0, 50.0, 1000.0, 30000.0])
@pytest.mark.parametrize("read_noise", [1.5, 8.0])
def test_acceptance_13_variance_matches_simulated_frames(rng, electrons, read_noise):
    """10⁴ frames of 40 pixels: light and dark are Poisson; the rectified read noise is part of the expectation."""
    gain, flat, dark_rate, seconds = 1.6, 0.8, 0.02, 100.0
    dark = dark_rate * seconds * gain
    collected = rng.poisson(electrons * flat + dark, (10_000, 40)) + rng.normal(0, read_noise, (10_000, 40))
    raw = collected / gain + 1000
    made = calibrate_block(
        raw,
        np.zeros(raw.shape, np.uint32),
        np.full(len(raw), 1000.0),
        amplifier=AmplifierValues(gain=gain, read_noise=read_noise),
        dark=np.full(raw.shape, dark_rate, np.float32),
        exposure=seconds,
        flat=np.full(raw.shape, flat, np.float32),
    )
    measured = np.var(made.data, dtype=float)
    assert np.mean(made.data, dtype=float) == pytest.approx(electrons, abs=5 * math.sqrt(measured / raw.size))
    # what max(s, 0) adds on average over the true signal, from the simulated electrons themselves
    rectified = np.mean(np.maximum(-collected, 0)) / flat**2
    expected = (electrons * flat + dark + read_noise**2) / flat**2
    assert measured == pytest.approx(expected, rel=0.03)
    assert np.mean(made.variance, dtype=float) - rectified == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("read_noise", [1.5, 8.0])
def test_acceptance_13_zero_signal_is_high_by_the_rectified_noise(rng, read_noise):
    raw = rng.normal(0, read_noise, (1000, 400))
    made = calibrate_block(
        raw, np.zeros(raw.shape, np.uint32), np.zeros(1000), amplifier=AmplifierValues(gain=1, read_noise=read_noise)
    )
    expected = read_noise**2 + read_noise / math.sqrt(2 * math.pi)
    assert np.mean(made.variance, dtype=float) == pytest.approx(expected, rel=0.003)


def test_acceptance_13_adu_route_equals_electron_route(rng):
    given, gain = masters(rng), AMPLIFIER.gain
    raw = rng.uniform(1000, 50000, SHAPE).astype(np.float32)
    flags, overscan = np.zeros(SHAPE, np.uint32), np.full(SHAPE[0], 990.0)
    first = calibrate_block(raw, flags, overscan, amplifier=AMPLIFIER, **given)
    adu = (raw - overscan[:, None] - given["bias"]).astype(float)
    variance_adu = np.maximum(adu, 0) / gain + (AMPLIFIER.read_noise / gain) ** 2
    adu = (adu - given["dark"] * given["exposure"]) / given["flat"]
    np.testing.assert_allclose(first.data, adu * gain, rtol=1e-6, atol=1e-6 * 5e4)
    np.testing.assert_allclose(first.variance, variance_adu / given["flat"].astype(float) ** 2 * gain**2, rtol=1e-6)


def test_acceptance_13_negative_pixel_has_the_read_noise_variance(rng):
    raw = np.array([[990.0, 1000.0, 900.0]])
    made = calibrate_block(raw, np.zeros((1, 3), np.uint32), [1000.0], amplifier=AMPLIFIER)
    assert np.all(made.variance == np.float32(49.0))
    assert made.data[0, 0] == np.float32(-18.0)


def test_acceptance_14_saturation_is_judged_on_raw_counts(rng):
    raw = np.full(SHAPE, 2000.0, np.float32)
    raw[4, 5], raw[6, 7], raw[8, 9], raw[10, 11] = 60000, 59999, 65535, 50000
    flags = np.zeros(SHAPE, np.uint32)
    flags[8, 9] = BAD
    given = masters(rng)
    given["bias"] += 5000  # what is left after subtraction is far below the limit
    made = calibrate_block(raw, flags, np.full(SHAPE[0], 1000.0), amplifier=AMPLIFIER, **given)
    saturated = (made.flags & SATURATED) != 0
    assert np.argwhere(saturated).tolist() == [[4, 5]]  # BAD wins over SATURATED
    assert np.argwhere((made.flags & NONLINEAR) != 0).tolist() == [[4, 5], [6, 7], [8, 9]]
    assert np.all(flags[saturated] == 0)  # the input is as it was


def test_linearity_is_undone_and_its_slope_enters_the_noise(rng):
    c1, gain, read_noise = 4e-6, 2.0, 6.0
    amplifier = AmplifierValues(gain=gain, read_noise=read_noise, linearity=(c1,))
    electrons = rng.poisson(60000, (200, 500)).astype(float)
    true = electrons / gain
    seen = (np.sqrt(1 + 4 * c1 * true) - 1) / (2 * c1)  # solves true = s (1 + c1 s)
    raw = seen + rng.normal(0, read_noise / gain, seen.shape)
    made = calibrate_block(raw, np.zeros(raw.shape, np.uint32), np.zeros(200), amplifier=amplifier)
    assert np.mean(made.data, dtype=float) == pytest.approx(60000, rel=2e-4)
    assert np.mean(made.variance, dtype=float) == pytest.approx(np.var(made.data, dtype=float), rel=0.02)
    quiet = calibrate_block(seen[:1], np.zeros((1, 500)), [0.0], amplifier=amplifier)
    slope = 1 + 2 * c1 * seen[0]
    np.testing.assert_allclose(quiet.variance[0], electrons[0] + (read_noise * slope) ** 2, rtol=1e-6)


def test_views_and_threads_do_not_change_a_bit(rng):
    wide = rng.uniform(900, 65535, (70, 120)).astype(np.uint16)
    given = masters(rng, (70, 120))
    flags = np.zeros(wide.shape, np.uint32)
    part = np.s_[3:63, 10:90]
    results = []
    for count, copy in ((1, True), (1, False), (3, False)):
        jit.set_threads(count)
        try:
            planes = {k: v if k == "exposure" else (v[part].copy() if copy else v[part]) for k, v in given.items()}
            results.append(calibrate_block(wide[part], flags[part], np.zeros(60), amplifier=AMPLIFIER, **planes))
        finally:
            jit.set_threads(None)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("common", [True, False])
def test_shared_variance_is_what_the_masters_add(rng, common):
    """Perturb the masters many times and calibrate the same raw pixels: the scatter is the shared variance."""
    n, shape = 3000, (1, 30)
    gain, seconds, dark_seconds = 1.7, 300.0, 900.0
    sigma_bias, sigma_dark, sigma_flat = 1.5, 0.004, 0.003
    flat = np.linspace(0.7, 1.3, 30)[None, :]
    bias, dark = np.full(shape, 4.0), np.full(shape, 0.1)
    raw = np.full((n, 30), 5000.0)
    noise_bias = rng.normal(0, sigma_bias, (n, 30))
    in_dark = -noise_bias / dark_seconds if common else 0.0
    given = {
        "bias": (bias + noise_bias).astype(np.float32),
        "dark": (dark + in_dark + rng.normal(0, sigma_dark, (n, 30))).astype(np.float32),
        "flat": (flat + rng.normal(0, sigma_flat, (n, 30))).astype(np.float32),
    }
    amplifier = AmplifierValues(gain=gain, read_noise=5)
    made = calibrate_block(raw, np.zeros(raw.shape), np.full(n, 1000.0), amplifier=amplifier, exposure=seconds, **given)

    def plane(value):
        return np.full(shape, value, np.float32)

    data, divisor = np.mean(made.data, axis=0, keepdims=True), flat.astype(np.float32)
    in_dark = plane((sigma_bias / dark_seconds) ** 2) if common else None
    terms = (
        bias_noise(plane(sigma_bias**2), gain=gain, exposure=seconds, in_dark=in_dark),
        dark_noise(plane(sigma_dark**2), gain=gain, exposure=seconds),
        flat_noise(plane(sigma_flat**2)),
    )
    shared = [shared_variance(data, divisor, term) for term in terms]
    total = sum(part.astype(float) for part in shared)
    assert np.mean(np.var(made.data, axis=0, dtype=float) / total[0]) == pytest.approx(1, abs=0.03)
    assert all(part.dtype == np.float32 for part in shared)
    own = plane(7.0)
    assert total_variance(data, own, divisor, terms).tobytes() == sum(shared, own).tobytes()


def test_shared_variance_cancels_at_the_exposure_of_the_dark_and_never_spreads_nan(rng):
    data = np.array([[100.0, np.nan, 100.0, 100.0]], np.float32)
    flat = np.array([[0.5, 1.0, 0.0, np.nan]], np.float32)
    four, at_dark = np.full((1, 4), 4.0, np.float32), np.full((1, 4), 4.0 / 60**2, np.float32)
    found = shared_variance(data, flat, bias_noise(four, gain=2.0, exposure=60.0, in_dark=at_dark))
    np.testing.assert_allclose(found, 0, atol=1e-9)
    variance = np.array([[4.0, 4.0, 4.0, np.nan]], np.float32)
    found = shared_variance(data, flat, bias_noise(variance, gain=2.0))
    np.testing.assert_allclose(found, [[64.0, 0.0, 16.0, 0.0]])
    found = shared_variance(data, flat, flat_noise(variance))
    np.testing.assert_allclose(found, [[(100 / 0.5) ** 2 * 4, 0.0, 0.0, 0.0]])


def test_bad_values_are_named():
    for bad in ({"gain": 0}, {"gain": math.nan}, {"read_noise": -1}, {"saturation": math.nan}, {"linearity": [np.inf]}):
        with pytest.raises(OptionError, match=next(iter(bad))):
            AmplifierValues(**{"gain": 1, "read_noise": 1, **bad})
    raw, flags, level = np.ones((3, 4)), np.zeros((3, 4), np.uint32), np.zeros(3)
    plane = np.ones((3, 5), np.float32)
    for name in ("bias", "dark", "flat"):
        with pytest.raises(OptionError, match=f"{name} has shape"):
            calibrate_block(raw, flags, level, amplifier=AMPLIFIER, **{name: plane})
    with pytest.raises(OptionError, match="flags has shape"):
        calibrate_block(raw, flags[:2], level, amplifier=AMPLIFIER)
    with pytest.raises(OptionError, match="overscan has shape"):
        calibrate_block(raw, flags, level[:2], amplifier=AMPLIFIER)
    with pytest.raises(OptionError, match="rows and columns"):
        calibrate_block(level, level, level, amplifier=AMPLIFIER)
    with pytest.raises(OptionError, match="exposure = nan"):
        calibrate_block(raw, flags, level, amplifier=AMPLIFIER, dark=plane[:, :4], exposure=math.nan)
    with pytest.raises(OptionError, match="without the flat"):
        shared_variance(plane, None, flat_noise(plane))
    with pytest.raises(OptionError, match="in_dark has shape"):
        shared_variance(plane, None, bias_noise(plane, gain=1.0, in_dark=plane[:2]))
