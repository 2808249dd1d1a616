"""Darks of cameras without bias frames: what of their level is charge, and what errors follow from that."""

import attrs
import numpy as np
import pytest

import larun
from larun.algorithms.pulls import pulls_of
from larun.detector import Amplifier, Detector
from larun.errors import NoiseModelError

SIDE, GAIN, READ_NOISE, EXPOSURE = 320, 1.6, 6.0, 30.0
BIAS = (310.0, 455.0)  # ADU of the two amplifiers
HALF = SIDE // 2


def detector(gain=GAIN, read_noise=READ_NOISE, overscan=0):
    amplifiers = [
        Amplifier(
            data=(0, SIDE, n * HALF, (n + 1) * HALF),
            overscan=(0, SIDE, SIDE + n * overscan, SIDE + (n + 1) * overscan) if overscan else None,
            gain=gain,
            read_noise=read_noise,
            saturation=60000,
            name="AB"[n],
        )
        for n in range(2)
    ]
    return Detector(amplifiers=amplifiers)


def exposure_of(rng, electrons, *, drift=2.0, overscan=0, **stated):
    """A raw frame: its electrons, on bias levels that drift from frame to frame."""
    rate = np.zeros((SIDE, SIDE + 2 * overscan))
    rate[:, :SIDE] = electrons
    read = rng.poisson(rate) + rng.normal(0, READ_NOISE, rate.shape)
    base = np.where(np.arange(rate.shape[1]) < HALF, *BIAS)
    base[SIDE + overscan :] = BIAS[1]
    base[SIDE : SIDE + overscan] = BIAS[0]
    counts = np.rint(base + drift * rng.standard_normal() + read / GAIN)
    header = {"EXPTIME": EXPOSURE, "INSTRUME": "camera"}
    return larun.Frame.from_arrays(counts, header=header, detector=detector(overscan=overscan, **stated))


def current(rng, charge):
    """The dark current of each pixel, electrons in the exposure: a few hot ones among them."""
    made = np.full((SIDE, SIDE), float(charge))
    made.flat[rng.choice(made.size, made.size // 200)] += rng.exponential(400, made.size // 200)
    return made


def darks(seed, charge, count=8, **about):
    rng = np.random.default_rng(seed)
    made = current(rng, charge)
    return [exposure_of(rng, made, **about) for _ in range(count)]


@pytest.mark.parametrize("charge", [0.5, 25.0, 400.0])
def test_halves_of_darks_without_a_bias_differ_by_their_errors(charge):
    frames = darks(1, charge)
    one, two = larun.MasterDark.combine(frames[::2]), larun.MasterDark.combine(frames[1::2])
    difference = one.data - two.data
    for half in np.hsplit(difference, 2):  # the mean levels of both drift apart: a constant is no noise
        half -= np.median(half)
    good = ~(one.unusable | two.unusable)
    pulls = pulls_of(np.where(good, difference / np.sqrt(one.variance + two.variance), np.nan))
    assert pulls.width == pytest.approx(1, abs=0.05)
    assert one.provenance.step.fitted["inflation"] == pytest.approx(1, abs=0.06)
    for fitted, level in zip(one.provenance.step.fitted["pedestal"], BIAS, strict=True):
        assert fitted["charge"] == pytest.approx(charge, abs=2 + 0.05 * charge)
        assert fitted["level"] == pytest.approx(level, abs=5 + 0.05 * charge)
    assert one.bias_level == tuple(fitted["level"] for fitted in one.provenance.step.fitted["pedestal"])


@pytest.mark.parametrize("charge", [0.5, 25.0, 400.0])
def test_a_sky_scatters_by_its_errors_when_the_dark_holds_its_bias(charge):
    rng = np.random.default_rng(2)
    made = current(rng, charge)
    made[:16] += 250.0  # the glow of an amplifier
    dark = larun.MasterDark.combine([exposure_of(rng, made) for _ in range(5)])
    light = exposure_of(rng, made + 30.0).calibrate([dark], without=("bias", "flat"))
    assert np.median(light.data) == pytest.approx(30, abs=5 * GAIN)
    good = ~light.unusable
    assert good.mean() > 0.98
    above = np.hstack([half - np.median(half) for half in np.hsplit(light.data, 2)])
    pulls = above / light.uncertainty
    assert pulls_of(pulls[good]).width == pytest.approx(1, abs=0.03)
    assert pulls_of(pulls[:16][good[:16]]).width == pytest.approx(1, abs=0.06)  # the charge of each pixel counts


def test_flats_with_a_dark_that_holds_its_bias_have_their_own_noise():
    rng = np.random.default_rng(3)
    made = current(rng, 50.0)
    dark = larun.MasterDark.combine([exposure_of(rng, made) for _ in range(5)])
    frames = [exposure_of(rng, made + 9000.0) for _ in range(6)]
    one, two = (larun.MasterFlat.combine(part, dark=dark) for part in (frames[::2], frames[1::2]))
    good = ~(one.unusable | two.unusable)
    pulls = ((one.data - two.data) / np.sqrt(one.variance + two.variance))[good]
    assert pulls_of(pulls - np.median(pulls)).width == pytest.approx(1, abs=0.03)


def test_an_overscan_tells_the_bias_level():
    frames = darks(4, 25.0, overscan=16)
    dark = larun.MasterDark.combine(frames)
    assert dark.bias_level == (0.0, 0.0)
    assert np.median(dark.data) == pytest.approx(25 / GAIN, rel=0.05)
    ignored = larun.MasterDark.combine(
        frames, options=larun.BuildOptions(overscan=larun.OverscanOptions(method="none"))
    )
    assert ignored.bias_level == pytest.approx(BIAS, abs=5)


def test_noise_beyond_what_any_charge_explains_is_refused():
    """A gain that is stated three times too large: what is 6 electrons looks like 18, on a level of next to none."""
    frames = [
        attrs.evolve(frame, data=frame.data - np.repeat(np.float32(BIAS), HALF))
        for frame in darks(5, 0.5, gain=3 * GAIN, drift=0.0)
    ]
    with pytest.raises(NoiseModelError, match="give the gain and the read noise"):
        larun.MasterDark.combine(frames)


def test_a_dark_keeps_its_bias_level_in_its_file(tmp_path):
    dark = larun.MasterDark.combine(darks(6, 25.0))
    assert larun.MasterDark.read(dark.write(tmp_path / "dark.fits")).identical(dark)
    assert larun.MasterDark.combine(darks(6, 25.0)[::-1]).identical(dark)
