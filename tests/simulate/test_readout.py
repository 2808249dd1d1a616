"""Any detector reads out electrons so that calibration finds them again."""

import attrs
import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import Amplifier, Detector, Section
from larun.errors import FileError, OptionError
from larun.simulate import Camera, photons, raw_frame, read_out
from tests.conftest import real_data

NY, NX = 120, 160
NO_MASTERS = {"without": ("bias", "dark", "flat")}


def one(side: str) -> Detector:
    """One amplifier, its overscan on one side."""
    data, overscan = {
        "right": (Section(0, NY, 0, NX), Section(0, NY, NX, NX + 24)),
        "left": (Section(0, NY, 24, NX + 24), Section(0, NY, 0, 24)),
        "top": (Section(0, NY, 0, NX), Section(NY, NY + 24, 0, NX)),
        "below": (Section(24, NY + 24, 0, NX), Section(0, 24, 0, NX)),
    }[side]
    amplifier = Amplifier(data=data, overscan=overscan, gain=1.6, read_noise=5.0, saturation=65535)
    return Detector(amplifiers=(amplifier,))


def two() -> Detector:
    """Both overscans at the right, side by side, a gap between them; gains 10 % apart."""
    common = {"saturation": 65535}
    left = Amplifier(
        data=Section(0, NY, 0, 70), overscan=Section(0, NY, NX, NX + 20), gain=1.5, read_noise=4, name="L", **common
    )
    right = Amplifier(
        data=Section(0, NY, 70, NX), overscan=Section(0, NY, NX + 30, NX + 50), gain=1.65, read_noise=7, **common
    )
    return Detector(amplifiers=(left, right))


def four() -> Detector:
    """Quadrants with overscans left, right and in a band through the middle rows; 12 dead columns at each side."""
    amplifiers = []
    for number, (top, right) in enumerate([(False, False), (False, True), (True, False), (True, True)]):
        y0, x0 = (70, 92) if top else (0, 92), 0
        y0 = 84 if top else 0
        x0 = 104 if right else 24
        data = Section(y0, y0 + 60, x0, x0 + 80)
        beside = Section(y0, y0 + 60, 184, 208) if right else Section(y0, y0 + 60, 0, 24)
        amplifiers.append(
            Amplifier(
                data=data,
                overscan=beside,
                gain=1.5 * 1.1 ** (number / 3),
                read_noise=3.0 + number,
                saturation=60000 - 1000 * number,
                name=f"Q{number}",
            )
        )
    return Detector(amplifiers=tuple(amplifiers))


DETECTORS = {
    "right": one("right"),
    "left": one("left"),
    "top": one("top"),
    "below": one("below"),
    "2": two(),
    "4": four(),
}


def places(detector):
    return [amplifier.data.slices for amplifier in detector.trimmed().amplifiers]


def levels_of(detector):
    return tuple(800.0 + 150.0 * number for number in range(len(detector.amplifiers)))


@pytest.mark.parametrize("name", DETECTORS)
def test_calibration_recovers_the_electrons_with_the_noise_of_each_amplifier(name, rng):
    detector = DETECTORS[name]
    assert detector.trimmed_shape == (NY, NX)
    y, x = np.indices((NY, NX))
    sky = 2000.0 + 10.0 * x + 5.0 * y
    electrons = photons(sky, rng=rng)
    raw = read_out(detector, electrons, rng=rng, bias_levels=levels_of(detector))
    assert raw.dtype == np.uint16
    frame = larun.Frame.from_arrays(raw, detector=detector).calibrate(**NO_MASTERS)
    for amplifier, at in zip(detector.amplifiers, places(detector), strict=True):
        variance = amplifier.read_noise**2 + amplifier.gain**2 / 12
        residual = (frame.data[at] - electrons[at]).astype(float)
        # the level itself comes from some 2000 overscan pixels
        assert residual.mean() == pytest.approx(0, abs=4.5 * np.sqrt(variance / 1900))
        assert residual.var() == pytest.approx(variance, rel=4.5 * np.sqrt(2 / residual.size))
        pull = (frame.data[at] - sky[at]) / np.sqrt(frame.variance[at])
        assert pull.std() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("name", ["2", "4"])
def test_ten_per_cent_of_gain_leave_no_step_in_the_sky(name):
    rng, detector = np.random.default_rng(8), DETECTORS[name]
    gains = [a.gain for a in detector.amplifiers]
    assert max(gains) / min(gains) == pytest.approx(1.1, abs=0.01)
    sums = np.zeros((NY, NX))
    for _ in range(12):
        electrons = photons(np.full((NY, NX), 20000.0), rng=rng)
        raw = read_out(detector, electrons, rng=rng, bias_levels=levels_of(detector))
        sums += larun.Frame.from_arrays(raw, detector=detector).calibrate(**NO_MASTERS).data
    means = [sums[at].mean() / 12 for at in places(detector)]
    assert max(means) / min(means) - 1 < 5e-4  # its own error is 4e-5


def test_overscan_shows_level_and_read_noise_of_its_amplifier_and_gaps_those_of_the_nearest(rng):
    detector = two()
    raw = read_out(detector, np.full((NY, NX), 3e4), rng=rng, shape=(NY + 40, NX + 60), bias_levels=(500, 900))
    for amplifier, level in zip(detector.amplifiers, (500, 900), strict=True):
        overscan = raw[amplifier.overscan.slices].astype(float)
        noise = np.hypot(amplifier.read_noise / amplifier.gain, np.sqrt(1 / 12))
        assert overscan.mean() == pytest.approx(level, abs=5 * noise / np.sqrt(overscan.size))
        assert overscan.std() == pytest.approx(noise, rel=0.06)
    assert raw[NY:, :70].mean() == pytest.approx(500, abs=1)  # above the left amplifier
    assert raw[:, NX + 20 : NX + 30].mean() == pytest.approx(900, abs=1)  # nearest is the right one's data


def test_saturation_is_each_amplifiers_own_and_exact(rng):
    detector = four()
    raw = read_out(detector, np.full((NY, NX), 1e6), rng=rng)
    for amplifier in detector.amplifiers:
        assert (raw[amplifier.data.slices] == amplifier.saturation).all()
        assert raw[amplifier.overscan.slices].max() < 1100
    broken = attrs.evolve(one("right").amplifiers[0], saturation=58982.4)
    raw = read_out(Detector(amplifiers=(broken,)), np.full((NY, NX), 1e6), rng=rng)
    assert raw[0, 0] == 58983  # a count that is not below the level
    frame = larun.Frame.from_arrays(raw, detector=Detector(amplifiers=(broken,)))
    assert (frame.calibrate(**NO_MASTERS).flags & larun.flags.SATURATED).all()


@pytest.mark.parametrize("linearity", [(2e-6,), (-1.5e-6,), (1e-6, 2e-11), (8e-6, -3e-11)])
def test_calibration_undoes_the_nonlinearity(linearity, rng):
    base = attrs.evolve(one("right").amplifiers[0], linearity=linearity, read_noise=0.0, gain=0.8)
    detector = Detector(amplifiers=(base,))
    electrons = np.linspace(0, 40000, NY * NX).reshape(NY, NX)
    raw = read_out(detector, electrons, rng=rng, dtype=np.float64)
    shift = (raw[:, :NX] - 1000) * 0.8 - electrons
    assert np.abs(shift).max() > 1000  # of 40000 electrons: far from linear
    frame = larun.Frame.from_arrays(raw, detector=detector).calibrate(**NO_MASTERS)
    np.testing.assert_allclose(frame.data, electrons, atol=0.02)  # float32 counts


def test_nonlinear_pixels_saturate_all_the_same(rng):
    base = attrs.evolve(one("right").amplifiers[0], linearity=(4e-6,), saturation=60000)
    raw = read_out(Detector(amplifiers=(base,)), np.full((NY, NX), 1e7), rng=rng)
    assert (raw[:, :NX] == 60000).all()


def test_bias_of_the_trimmed_shape_is_hidden_from_the_overscan_and_of_the_raw_shape_is_not(rng):
    detector = one("left")
    structure = np.tile(np.linspace(0, 50, NX), (NY, 1))
    options = {"dtype": np.float32, "bias_levels": 100.0}
    raw = read_out(detector, np.zeros((NY, NX)), rng=np.random.default_rng(4), bias=structure, **options)
    still = read_out(detector, np.zeros((NY, NX)), rng=np.random.default_rng(4), **options)
    np.testing.assert_allclose((raw - still)[:, 24:], structure, atol=1e-4)
    assert not (raw - still)[:, :24].any()
    pickup = np.tile(np.sin(np.arange(NY))[:, None], (1, NX + 24))
    raw = read_out(detector, np.zeros((NY, NX)), rng=np.random.default_rng(4), bias=pickup, **options)
    np.testing.assert_allclose(raw - still, pickup, atol=1e-4)


@pytest.mark.parametrize(("dtype", "low", "high"), [("u2", 0, 65535), ("i2", -32768, 32767), ("u1", 0, 255)])
def test_integers_end_where_their_type_ends(dtype, low, high, rng):
    amplifier = attrs.evolve(one("right").amplifiers[0], saturation=np.inf)
    electrons = np.zeros((NY, NX))
    electrons[0] = 1e9
    raw = read_out(Detector(amplifiers=(amplifier,)), electrons, rng=rng, bias_levels=-40000.0, dtype=dtype)
    assert raw.dtype == dtype
    assert (raw[0, :NX] == high).all()
    assert (raw[1:] == low).all()


def test_the_level_is_by_default_the_pedestal_that_calibration_takes_away(rng):
    plain = attrs.evolve(one("right").amplifiers[0], data=Section(0, NY, 0, NX), overscan=None, read_noise=0.0)
    for pedestal, level in ((0.0, 1000), (512.0, 512)):
        detector = Detector(amplifiers=(attrs.evolve(plain, pedestal=pedestal),))
        raw = read_out(detector, np.full((NY, NX), 160.0), rng=rng)
        assert (raw == level + 100).all()
    frame = larun.Frame.from_arrays(raw, detector=detector).calibrate(**NO_MASTERS)
    np.testing.assert_allclose(frame.data, 160.0, rtol=1e-6)


def test_the_same_generator_gives_the_same_counts():
    first, again, other = (read_out(four(), np.ones((NY, NX)), rng=np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def changed(**values):
    detector = two()
    return Detector(amplifiers=(attrs.evolve(detector.amplifiers[0], **values), detector.amplifiers[1]))


@pytest.mark.parametrize(
    ("detector", "options", "message"),
    [
        (changed(gain=None), {}, "amplifier L: gain = None"),
        (changed(gain=-1.0), {}, "amplifier L: gain = -1"),
        (changed(read_noise=None), {}, "amplifier L: read_noise"),
        (changed(data=Section(0, NY, 0, 80)), {}, "overlap"),
        (changed(overscan=Section(0, 500, 170, 180)), {"shape": (NY, NX + 50)}, "overscan section"),
        (two(), {"shape": (NY, NX)}, "outside the raw array"),
        (two(), {"bias_levels": (1.0, 2.0, 3.0)}, "bias_levels"),
        (two(), {"bias_levels": np.nan}, "bias_levels"),
        (two(), {"bias": np.zeros((3, 3))}, "bias has shape"),
        (two(), {"bias": np.full((NY, NX), np.inf)}, "finite"),
        (two(), {"dtype": complex}, "dtype"),
        (changed(linearity=(-2e-5,)), {}, "amplifier L: linearity"),
        (changed(linearity=(float("nan"),)), {}, "amplifier L: linearity"),
    ],
)
def test_what_cannot_be_read_out_raises_by_name(detector, options, message, rng):
    with pytest.raises(OptionError, match=message):
        read_out(detector, np.full((NY, NX), 60000.0), rng=rng, **options)


@pytest.mark.parametrize("electrons", [np.zeros((NY, NX + 1)), np.full((NY, NX), np.nan), 1.0])
def test_electrons_must_fit_and_be_finite(electrons, rng):
    with pytest.raises(OptionError, match="electrons"):
        read_out(two(), electrons, rng=rng)
    with pytest.raises(OptionError, match="expected electrons"):
        photons([-1.0], rng=rng)
    with pytest.raises(OptionError, match="expected electrons"):
        photons([1e300], rng=rng)


def test_raw_frame_keeps_the_header_without_the_cards_of_storage(rng, tmp_path):
    cards = {"NAXIS1": NX + 24, "NAXIS2": NY, "BITPIX": -32, "BZERO": 7.0, "BSCALE": 2.0, "BLANK": 3, "CHECKSUM": "x"}
    header = fits.Header({**cards, "GAIN": 1.6, "NAXIS": 3, "NAXIS3": 1, "ZCMPTYPE": "RICE_1", "TFORM1": "1PB"})
    header.add_history("kept")
    before = header.copy()
    raw = raw_frame(header, one("right"), np.full((NY, NX), 100.0), rng=rng)
    assert header == before
    assert raw.data.shape == (NY, NX + 24)
    assert set(raw.header) == {"GAIN", "HISTORY"}
    assert raw.bias_levels == (1000.0,)
    path = raw.write(tmp_path / "raw.fits")
    frame = larun.Frame.read(path, read_noise=5.0)
    np.testing.assert_array_equal(frame.data, raw.data.astype(np.float32))
    assert frame.header["GAIN"] == 1.6
    with pytest.raises(FileError, match=r"raw\.fits"):
        raw.write(path)


def test_the_shape_is_that_of_the_header_where_all_sections_fit(rng):
    electrons = np.zeros((NY, NX))
    for cards, shape in [
        ({"NAXIS1": NX + 40, "NAXIS2": NY + 2}, (NY + 2, NX + 40)),
        ({"NAXIS1": 8, "NAXIS2": 50, "ZNAXIS1": NX + 40, "ZNAXIS2": NY}, (NY, NX + 40)),
        ({"NAXIS1": 10, "NAXIS2": 10}, (NY, NX + 24)),
        ({}, (NY, NX + 24)),
    ]:
        assert raw_frame(fits.Header(cards), one("right"), electrons, rng=rng).data.shape == shape


def test_simulated_pixels_under_a_real_header(rng, tmp_path):
    path = real_data("nickel", "d1059.fits.fz")
    header = fits.getheader(path, 1)
    camera = type(larun.Frame.read(path))
    detector = camera.detector_for(header, (header["NAXIS2"], header["NAXIS1"]))
    sky = np.full(detector.trimmed_shape, 900.0)
    raw = raw_frame(header, detector, photons(sky, rng=rng), rng=rng)
    frame = larun.Frame.read(raw.write(tmp_path / "made.fits"))
    assert type(frame) is camera
    calibrated = frame.calibrate(**NO_MASTERS)
    good = ~calibrated.unusable
    assert calibrated.data[good].mean() == pytest.approx(900, rel=1e-3)
    assert calibrated.data[good].var() == pytest.approx(calibrated.variance[good].mean(), rel=0.01)


def test_the_simulated_cameras_detector_is_what_its_header_says():
    camera = Camera(shape=(100, 200), overscan=16)
    header = camera.header("bias")
    found = larun.Frame.detector_for(header, camera.raw_shape)
    assert found.amplifiers[0] == attrs.evolve(camera.detector.amplifiers[0], gain=camera.gain)
