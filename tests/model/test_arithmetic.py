"""Arithmetic carries the noise: independent parts add, what masters share is counted once."""

import pickle

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.algorithms.masternoise import bias_noise, dark_noise, flat_noise
from larun.detector import Detector
from larun.model import calibration
from tests.model.conftest import memory_frames

SHAPE = (12, 14)
REALISATIONS = 2400


def plane(value):
    return np.full(SHAPE, value, np.float32)


def image(value, variance, *, shared=None, flags=None):
    made = larun.Image.from_arrays(plane(value), variance=plane(variance), unit="electron", flags=flags)
    return made._replace(shared=tuple(larun.Shared(key, plane(v)) for key, v in (shared or {}).items()))


def test_acceptance_1_uint16_1000_minus_uint16_1010_is_minus_10():
    one = larun.Frame.from_arrays(np.full((2, 2), 1000, np.uint16))
    two = larun.Frame.from_arrays(np.full((2, 2), 1010, np.uint16))
    for difference in (one - two, one - 1010, one - np.uint16(1010)):
        assert (difference.data == -10.0).all()
        assert difference.data.dtype == np.float32
    assert ((two + two).data == 2020.0).all()
    assert ((two * two).data == 1010.0**2).all()  # would wrap in uint16


def test_uncertainties_propagate_to_first_order():
    a, b = image(100, 9), image(50, 16)
    assert np.allclose((a + b).variance, 25)
    assert np.allclose((a - b).variance, 25)
    assert np.allclose((a * b).variance, 9 * 50**2 + 16 * 100**2)
    assert np.allclose((a / b).variance, 9 / 50**2 + 16 * 100**2 / 50**4)
    assert np.allclose((a * 3).variance, 81)
    assert np.allclose((a + 3).variance, 9)
    assert np.allclose((a / 2).uncertainty, 1.5)


def test_flags_are_ored_and_a_zero_divisor_is_no_data():
    bad, hit = np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, np.uint32)
    bad[0, 0], hit[0, 0], hit[1, 1] = fl.BAD, fl.COSMIC, fl.COSMIC
    for result in (
        image(1, 1, flags=bad) + image(2, 1, flags=hit),
        image(1, 1, flags=bad) * image(2, 1, flags=hit),
    ):
        assert result.flags[0, 0] == fl.BAD | fl.COSMIC
        assert result.flags[1, 1] == fl.COSMIC
        assert result.flags.sum(dtype=int) == int(fl.BAD | fl.COSMIC) + int(fl.COSMIC)
    divisor = np.array(plane(2.0))
    divisor[3, 3], divisor[4, 4] = 0, np.nan
    result = image(1, 1) / larun.Image.from_arrays(divisor, variance=plane(1))
    lost = (result.flags & fl.NO_DATA) != 0
    assert np.argwhere(lost).tolist() == [[3, 3], [4, 4]]
    assert np.isfinite(result.data[~lost]).all()
    assert np.isnan(result.data[lost]).all()


def test_acceptance_11_shared_noise_by_hand():
    a = image(100, 9, shared={"bias": 4, "flat": 1})
    b = image(80, 16, shared={"bias": 4})
    total = a + b
    shared = {item.master: float(item.variance[0, 0]) for item in total.shared}
    assert shared == {"bias": 16.0, "flat": 1.0}  # (2 + 2)², not 4 + 4
    assert np.allclose(total.uncertainty**2, 25 + 17)
    mean = total / 2
    assert np.allclose(mean.variance, 25 / 4)
    assert {item.master: float(item.variance[0, 0]) for item in mean.shared} == {"bias": 4.0, "flat": 0.25}
    difference = a - b
    assert {item.master: float(item.variance[0, 0]) for item in difference.shared} == {"bias": 0.0, "flat": 1.0}


def test_noise_that_is_shared_cancels_however_the_difference_is_written():
    a, b = image(100, 9, shared={"bias": 4}), image(80, 16, shared={"bias": 4})
    for difference in (a - b, (a - b) / -2, (a + a) - (b + b), a / 2 - b / 2):
        assert np.allclose(difference.shared[0].variance, 0)
    for total in (a + b, (a * -1) - b, b - (a * -1)):  # the sign is kept until the end
        assert np.allclose(np.abs(total.shared[0].variance), (2 + 2) ** 2)
        assert np.allclose(total.uncertainty, np.sqrt(9 + 16 + 16))


def camera_frames(rng, signal, exposure, masters, response):
    """Two raw frames of a scene on the same detector, as arrays."""
    gain, read_noise = 2.0, 6.0
    dark = masters["dark_rate"] * exposure
    electrons = rng.poisson(np.broadcast_to((signal * response + dark), SHAPE)) + read_noise * rng.standard_normal(
        SHAPE
    )
    return larun.Frame.from_arrays(
        electrons / gain + masters["bias"],
        gain=gain,
        read_noise=read_noise,
        header={"EXPTIME": exposure},
    )


def real_masters(rng, truth, dark_exposure):
    """One realisation of noisy masters, as larun builds them: the dark is made with the noisy bias."""
    detector = Detector.single(SHAPE, gain=2.0, read_noise=6.0)
    bias_noise, dark_noise, flat_noise = 3.0, 2.5, 0.01
    bias_error = bias_noise * rng.standard_normal(SHAPE)
    criteria = {"exposure": dark_exposure}
    common = {"detector": detector, "flags": np.zeros(SHAPE, np.uint32), "count": 5, "criteria": criteria}

    def master(cls, data, variance, **more):
        root = larun.Frame.from_arrays(data).provenance
        return cls(data=np.asarray(data, np.float32), variance=plane(variance), provenance=root, **(common | more))

    bias = master(larun.MasterBias, truth["bias"] + bias_error, bias_noise**2)
    scale = 1 / dark_exposure
    dark = master(
        larun.MasterDark,
        truth["dark_rate"] / 2.0 + (dark_noise * rng.standard_normal(SHAPE) - bias_error) * scale,
        (dark_noise * scale) ** 2,
        exposure=dark_exposure,
        bias_removed=True,
        criteria=criteria | {"bias_removed": True},
        unit="adu / s",
        shared=(larun.Shared(bias.provenance.id, plane((bias_noise * scale) ** 2)),),
    )
    flat = master(larun.MasterFlat, truth["response"] + flat_noise * rng.standard_normal(SHAPE), flat_noise**2, unit="")
    return larun.Masters((bias, dark, flat))


@pytest.mark.parametrize("dark_exposure", [30.0, 90.0])
def test_acceptance_11_shared_noise_of_two_frames_by_monte_carlo(dark_exposure):
    """Own error of each ratio: 1 / √(2 · 2400 · 168) = 0.1 %."""
    rng = np.random.default_rng(11)
    truth = {"bias": 500.0, "dark_rate": 4.0, "response": 0.9}
    exposure, first, second = 30.0, 2000.0, 1500.0
    kinds = {
        "sum": lambda a, b: a + b,
        "mean": lambda a, b: (a + b) / 2,
        "difference": lambda a, b: a - b,
        "one": lambda a, b: a,
    }
    expected = {"sum": first + second, "mean": (first + second) / 2, "difference": first - second, "one": first}
    squares = dict.fromkeys(kinds, 0.0)
    reported = dict.fromkeys(kinds, 0.0)
    without_covariance = dict.fromkeys(kinds, 0.0)
    for _ in range(REALISATIONS):
        masters = real_masters(rng, truth, dark_exposure)
        a, b = (
            camera_frames(rng, signal, exposure, truth, truth["response"]).calibrate(masters)
            for signal in (first, second)
        )
        for name, act in kinds.items():
            made = act(a, b)
            squares[name] += float(np.mean((made.data.astype(float) - expected[name]) ** 2)) / REALISATIONS
            reported[name] += float(np.mean(made.uncertainty.astype(float) ** 2)) / REALISATIONS
            without_covariance[name] += float(np.mean(made.variance)) / REALISATIONS
    for name in kinds:
        ratio = np.sqrt(reported[name] / squares[name])
        assert ratio == pytest.approx(1, abs=0.01), (name, ratio)
    # the shared part is what makes the difference: without it the sum would be far too sure of itself
    assert np.sqrt(without_covariance["sum"] / squares["sum"]) < 0.9


def test_a_dark_of_the_frames_own_exposure_that_shares_the_bias_cancels_its_noise():
    rng = np.random.default_rng(3)
    truth = {"bias": 500.0, "dark_rate": 4.0, "response": 1.0}
    masters = real_masters(rng, truth, 30.0)
    frame = camera_frames(rng, 100.0, 30.0, truth, 1.0).calibrate(masters)
    shared = {item.master: item.variance for item in frame.shared}
    bias, dark, _ = masters
    assert (shared[bias.provenance.id] < 1e-10).all()
    flat = masters.of("flat")[0].data
    assert np.allclose(shared[dark.provenance.id], (2.0 * 2.5 / flat) ** 2, rtol=1e-5)


def test_the_noise_of_a_bias_that_only_the_dark_used_is_not_lost():
    """A dark made with another bias brings that one's noise along."""
    rng = np.random.default_rng(3)
    truth = {"bias": 500.0, "dark_rate": 4.0, "response": 1.0}
    one, two = real_masters(rng, truth, 60.0), real_masters(rng, truth, 60.0)
    mixed = larun.Masters((one.items[0], two.items[1]))
    frame = camera_frames(rng, 100.0, 30.0, truth, 1.0).calibrate(mixed, without="flat")
    shared = {item.master: float(item.variance[0, 0]) for item in frame.shared}
    assert shared[one.items[0].provenance.id] == pytest.approx((2 * 3.0) ** 2)
    assert shared[two.items[0].provenance.id] == pytest.approx((2 * 3.0 * 30 / 60) ** 2, rel=1e-5)
    assert shared[two.items[1].provenance.id] == pytest.approx((2 * 2.5 * 30 / 60) ** 2, rel=1e-5)


def test_noise_of_masters_is_computed_when_it_is_looked_at(monkeypatch):
    """Few look at it; whoever does sees what would have been there from the start, and so does another process."""
    rng = np.random.default_rng(3)
    truth = {"bias": 500.0, "dark_rate": 4.0, "response": 1.0}
    bias, dark, flat = masters = real_masters(rng, truth, 60.0)
    raw, calls = camera_frames(rng, 100.0, 30.0, truth, 1.0), []
    real = calibration.shared_variance
    monkeypatch.setattr(calibration, "shared_variance", lambda *a, **k: calls.append(1) or real(*a, **k))
    frame = raw.calibrate(masters)
    assert (len(frame.shared), calls) == (3, [])
    assert [item.shape for item in frame.shared] == 3 * [frame.shape]
    assert calls == []
    again = pickle.loads(pickle.dumps(frame))
    assert calls == 3 * [1]
    assert again.identical(frame)
    assert calls == 3 * [1]  # and kept
    by_hand = {
        bias: bias_noise(bias.variance, gain=2.0, exposure=30.0, in_dark=dark.shared[0].variance),
        dark: dark_noise(dark.variance, gain=2.0, exposure=30.0),
        flat: flat_noise(flat.variance),
    }
    shared = {item.master: item.variance for item in frame.shared}
    for master, term in by_hand.items():
        plane = shared[master.provenance.id]
        assert plane.tobytes() == real(frame.data, flat.data, term).tobytes()
        with pytest.raises(ValueError, match="read-only"):
            plane[0, 0] = 1


def test_flags_of_masters_are_not_remembered_for_other_masters():
    rng = np.random.default_rng(3)
    truth = {"bias": 500.0, "dark_rate": 4.0, "response": 1.0}
    bias, dark, flat = real_masters(rng, truth, 60.0)
    raw, flags = camera_frames(rng, 100.0, 30.0, truth, 1.0), np.array(bias.flags)
    flags[0, 1] |= fl.COSMIC
    hurt = bias._replace(flags=flags)
    for _ in range(2):
        assert not raw.calibrate([bias, dark, flat]).flags.any()
        assert raw.calibrate([hurt, dark, flat]).flags[0, 1] == fl.BAD
        assert raw.calibrate([hurt, flat], without="dark").flags[0, 1] == fl.BAD


def test_bin_sums_noise_as_it_is():
    rng = np.random.default_rng(2)
    variance = rng.uniform(1, 4, (6, 7)).astype(np.float32)
    sky = larun.Image.from_arrays(np.ones((6, 7)), variance=variance)
    sky = sky._replace(shared=(larun.Shared("m", np.full((6, 7), 0.25, np.float32)),))
    binned = sky.bin(2)
    assert binned.shape == (3, 3)
    assert np.allclose(binned.data, 4)
    assert np.allclose(binned.variance[0, 0], variance[:2, :2].sum())
    assert np.allclose(binned.shared[0].variance, 4 * 0.25)  # each pixel of the master has noise of its own


def test_bin_knows_correlated_noise():
    """The noise of binned pixels against a simulation of smoothed noise; own error 0.4 %."""
    from scipy import ndimage

    rng = np.random.default_rng(8)
    weights = np.array([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]])
    noise = ndimage.convolve(rng.standard_normal((400, 400)), weights, mode="wrap")
    acf = np.array(
        [
            [np.sum(weights * ndimage.shift(weights, (i, j), order=0)) for j in (-2, -1, 0, 1, 2)]
            for i in (-2, -1, 0, 1, 2)
        ]
    )
    acf /= acf[2, 2]
    sky = larun.Image.from_arrays(noise, variance=np.full(noise.shape, np.sum(weights**2)))
    sky = sky._replace(noise_acf=acf.astype(np.float32))
    binned = sky.bin(2)
    assert float(binned.variance.mean()) == pytest.approx(float(binned.data.var()), rel=0.02)
    shifted = np.mean(binned.data[:, 1:] * binned.data[:, :-1]) / binned.data.var()
    centre = binned.noise_acf.shape[0] // 2
    assert binned.noise_acf[centre, centre] == 1
    assert float(binned.noise_acf[centre, centre + 1]) == pytest.approx(shifted, abs=0.015)
    assert float(sky.bin(4).variance.mean()) == pytest.approx(float(sky.bin(4).data.var()), rel=0.04)


def test_arithmetic_of_images_with_correlated_noise():
    """The correlation of a sum lies between those of its operands; white noise added to it dilutes it."""
    acf = np.array([[0, 0.2, 0], [0.2, 1, 0.2], [0, 0.2, 0]], np.float32)
    white = image(10, 4)
    correlated = image(10, 4)._replace(noise_acf=acf)
    for made in (correlated + white, white + correlated, correlated - white):
        assert made.noise_acf is not None
        assert made.noise_acf[1, 1] == 1
        assert made.noise_acf[1, 2] == pytest.approx(0.1)
    same = (correlated + correlated).noise_acf
    assert np.allclose(same, acf)
    assert np.array_equal((correlated * 3.0).noise_acf, acf)
    assert (white + white).noise_acf is None


def test_acceptance_4_the_mean_of_nine_equal_inputs_of_sigma_3_has_sigma_1():
    frames = memory_frames(larun.Frame, 9, (40, 40), level=1000.0, noise=0.0, gain=1.0, read_noise=3.0)
    assert all((frame.data == 1000).all() for frame in frames)  # values agree exactly: no scatter to learn from
    for method in ("mean", "clipped"):
        bias = larun.MasterBias.combine(frames, method=method, clip="noise")
        np.testing.assert_allclose(bias.uncertainty, 1.0, rtol=1e-6)
        assert (bias.data == 1000).all()
