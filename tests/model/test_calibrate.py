"""Calibration: the noise model, gain once, saturation on raw counts, bad flats, overscan and two amplifiers."""

import attrs
import numpy as np
import pytest
from astropy.io import fits
from scipy.stats import norm

import larun
from larun import flags as fl
from larun.detector import Detector, Section
from larun.errors import AlreadyApplied, HeaderError, UnitMismatch
from tests.model.cameras import TwoAmplifiers
from tests.model.conftest import memory_frames
from tests.model.test_masters import bias_of, flat_frames, frame_of

WITHOUT = ("bias", "dark", "flat")


# -- gain and units ----------------------------------------------------------------------------------------------------


def test_acceptance_12_pixel_variance_saturation_and_unit_change_together():
    raw = larun.Frame.from_arrays(np.full((8, 8), 1200.0), gain=2.0, read_noise=6.0, saturation=60000, linear_limit=5e4)
    made = raw.calibrate(without=WITHOUT)
    assert made.unit == "electron"
    assert (made.data == 2400).all()
    assert (made.variance == 2436).all()
    amplifier = made.detector.amplifiers[0]
    assert (amplifier.gain, amplifier.read_noise) == (1.0, 6.0)
    assert (amplifier.saturation, amplifier.linear_limit) == (120000, 100000)
    original = made.raw_detector.amplifiers[0]
    assert (original.gain, original.saturation) == (2.0, 60000)
    assert raw.raw_detector is raw.detector


def test_acceptance_12_the_gain_is_applied_once():
    made = frame_of().calibrate(without=WITHOUT)
    for again in (made, made + 0.0, made.crop((0, 9), (0, 9)), made.bin(2)):
        with pytest.raises(AlreadyApplied, match="calibrate"):
            again.calibrate(without=WITHOUT)
    with pytest.raises(UnitMismatch, match="electron"):
        larun.Frame.from_arrays(np.ones((3, 3)), unit="electron", gain=2.0, read_noise=5.0).calibrate(without=WITHOUT)
    with pytest.raises(UnitMismatch):
        made + frame_of()


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({}, "GAIN, EGAIN"),
        ({"GAIN": 0.0}, r"GAIN = 0.0: must be positive"),
        ({"GAIN": -1.5}, r"GAIN = -1.5: must be positive"),
        ({"GAIN": "unknown"}, "gain"),
        ({"GAIN": "[2.0, 1.9]"}, "2 values for one amplifier"),
    ],
)
def test_acceptance_12_an_impossible_gain_raises_naming_keyword_and_file(tmp_path, cards, message):
    path = tmp_path / "light.fits"
    fits.PrimaryHDU(np.ones((9, 9), np.uint16), fits.Header({"RDNOISE": 5.0, **cards})).writeto(path)
    frame = larun.Frame.read(path)  # looking at it is allowed
    with pytest.raises(HeaderError, match=message) as caught:
        frame.calibrate(without=WITHOUT)
    text = str(caught.value)
    assert "light.fits" in text
    assert "gain" in text
    assert "--keyword gain=" in text
    assert larun.Frame.read(path, gain=1.5).calibrate(without=WITHOUT).data[0, 0] == 1.5


def test_a_missing_read_noise_raises_and_zero_is_allowed():
    with pytest.raises(HeaderError, match="read_noise"):
        larun.Frame.from_arrays(np.ones((3, 3)), gain=2.0).calibrate(without=WITHOUT)
    made = larun.Frame.from_arrays(np.ones((3, 3)), gain=2.0, read_noise=0).calibrate(without=WITHOUT)
    assert (made.variance == 2).all()


# -- the noise model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [0.0, 3.0, 100.0, 5000.0])
def test_acceptance_13_the_noise_model_over_many_frames(signal):
    """A million pixels of one level stand for as many frames of one pixel: own error of the ratio 0.07 %."""
    rng = np.random.default_rng(13)
    gain, read_noise = 1.7, 5.0
    electrons = rng.poisson(signal, (1000, 1000)) + read_noise * rng.standard_normal((1000, 1000))
    raw = larun.Frame.from_arrays(electrons / gain, gain=gain, read_noise=read_noise)
    made = raw.calibrate(without=WITHOUT)
    assert np.isfinite(made.variance).all()
    spread = np.hypot(read_noise, np.sqrt(signal))
    # documented: negative noise is cut off, so that the mean of the rectified signal is too high near zero
    rectified = signal * norm.cdf(signal / spread) + spread * norm.pdf(signal / spread)
    expected = rectified + read_noise**2
    assert float(made.variance.mean(dtype=float)) == pytest.approx(expected, rel=0.03)
    assert float(np.var(made.data, dtype=float)) == pytest.approx(signal + read_noise**2, rel=0.01)
    negative = made.data < 0
    if negative.any():
        assert (made.variance[negative] == read_noise**2).all()


def test_acceptance_13_the_adu_route_equals_the_electron_route():
    """The formula of the design, in ADU, against what larun does in electrons."""
    rng = np.random.default_rng(3)
    gain, read_noise = 1.79, 10.4
    counts = rng.normal(300, 200, (50, 50)).astype(np.float32)
    made = larun.Frame.from_arrays(counts, gain=gain, read_noise=read_noise).calibrate(without=WITHOUT)
    adu = np.maximum(counts.astype(float), 0) / gain + (read_noise / gain) ** 2
    np.testing.assert_allclose(made.variance, adu * gain**2, rtol=1e-6)
    np.testing.assert_allclose(made.data, counts.astype(float) * gain, rtol=1e-6)


def test_acceptance_13_the_chain_on_simulated_frames(sample):
    """Reported noise against the scatter of the difference of two calibrated flats: masters cancel, noise stays."""
    one, two = (larun.Frame.read(path) for path in sample.paths("flat", "V")[1:3])
    a, b = (frame.calibrate(sample.masters, without="dark") for frame in (one, two))
    good = ~(a.unusable | b.unusable)
    a, b = a / float(np.median(a.data[good])), b / float(np.median(b.data[good]))
    difference = a - b
    pull = difference.data[good] / difference.uncertainty[good]
    assert float(np.std(pull)) == pytest.approx(1, abs=0.02)
    assert abs(float(np.mean(pull))) < 0.05


# -- flags -------------------------------------------------------------------------------------------------------------


def test_acceptance_14_saturation_is_judged_on_raw_counts_and_survives():
    counts = np.full((40, 40), 1500.0)
    counts[10:13, 10:13] = 60000.0
    counts[30, 30] = 59000.0  # below: but bias subtraction and flat could lift it over a converted limit
    flat = np.ones((40, 40))
    raw = larun.Frame.from_arrays(counts, gain=1.5, read_noise=6.0, saturation=60000.0, header={"FILTER": "V"})
    bias = bias_of(shape=(40, 40))
    frame = raw.calibrate([bias._replace(criteria={})], without=("dark", "flat"))
    expected = counts >= 60000

    def saturated(image):
        return (image.flags & fl.SATURATED) != 0

    assert (saturated(frame) == expected).all()
    for made in (
        frame + 1.0,
        frame - frame,
        frame * 2,
        frame / larun.Image.from_arrays(flat, variance=flat),
        frame.clean(fwhm=3.0),
        frame.pipe(lambda image: image * 0.5),
    ):
        assert (saturated(made) & expected == expected).all()
    assert (saturated(frame.crop((8, 20), (9, 25))) == expected[9:25, 8:20]).all()
    assert (saturated(frame.bin(2)) == expected.reshape(20, 2, 20, 2).any((1, 3))).all()


def test_acceptance_14_saturation_survives_the_disk(sample, tmp_path):
    assert ((sample.clean.flags & fl.SATURATED) != 0).any()
    raw = sample.raw.data[:, : sample.frame.shape[1]]
    expected = (raw >= 60000) & ((sample.frame.flags & fl.BAD) == 0)
    back = larun.Frame.read(sample.clean.write(tmp_path / "a.fits"))
    assert (((back.flags & fl.SATURATED) != 0) == expected).all()


def test_acceptance_9_a_bad_flat_spoils_its_own_pixels_only():
    bias = bias_of()
    flat = larun.MasterFlat.combine(flat_frames(), bias=bias)
    light = frame_of(level=5000.0, noise=30.0)
    good = light.calibrate([bias, flat], without="dark")
    values, flags = np.array(flat.data), np.array(flat.flags)
    places = {(3, 3): 0.0, (5, 9): -0.4, (11, 2): np.nan, (20, 30): np.inf}
    for place, value in places.items():
        values[place] = value
    flags[40, 40] |= fl.BAD  # a masked hot pixel of ordinary value
    hurt = flat._replace(data=values, flags=flags)
    made = light.calibrate([bias, hurt], without="dark")
    spoiled = np.zeros(made.shape, bool)
    for place in (*places, (40, 40)):
        spoiled[place] = True
        assert made.flags[place] & (fl.FLAT_INVALID | fl.BAD), place
        assert made.unusable[place]
    for place in places:
        assert made.flags[place] & fl.FLAT_INVALID
    for one, two in ((made.data, good.data), (made.variance, good.variance), (made.flags, good.flags)):
        assert one[~spoiled].tobytes() == two[~spoiled].tobytes()
    assert np.isfinite(made.data).all()
    assert np.isfinite(made.variance).all()
    assert np.isfinite(made.uncertainty).all()


def test_no_data_stays_no_data():
    data = np.array(frame_of().data)
    data[4, 4] = np.nan
    made = larun.Frame.from_arrays(data, gain=1.5, read_noise=6.0).calibrate(without=WITHOUT)
    assert made.flags[4, 4] & fl.NO_DATA
    assert np.isfinite(np.delete(made.data.ravel(), 4 * made.shape[1] + 4)).all()


# -- overscan and amplifiers -------------------------------------------------------------------------------------------


def with_overscan(counts, *, gain=1.5):
    ny, nx = counts.shape
    detector = Detector.single(
        counts.shape, data=Section(0, ny, 0, nx - 16), overscan=Section(0, ny, nx - 16, nx), gain=gain, read_noise=6.0
    )
    return larun.Frame.from_arrays(counts, detector=detector)


def test_acceptance_15_a_cosmic_ray_in_the_overscan_does_not_move_the_level():
    rng = np.random.default_rng(15)
    counts = 1000 + 4 * rng.standard_normal((64, 80))
    quiet = with_overscan(counts).calibrate(without=WITHOUT)
    hit = counts.copy()
    hit[30:34, 70:76] += 20000
    hit[50, 64:] += 3000  # a track along a whole row
    made = with_overscan(hit).calibrate(without=WITHOUT)
    assert quiet.shape == (64, 64)
    level = [m.provenance.step.fitted["overscan"][0]["level"] for m in (quiet, made)]
    assert abs(level[0] - 1000) < 0.3
    assert abs(level[1] - level[0]) < 0.1
    assert abs(float(made.data.mean() - quiet.data.mean())) < 0.2


def test_overscan_follows_the_drift_from_frame_to_frame():
    rng = np.random.default_rng(16)
    for level in (950.0, 1001.0, 1040.0):
        counts = level + 4 * rng.standard_normal((64, 80))
        counts[:, :64] += 200
        made = with_overscan(counts).calibrate(without=WITHOUT)
        assert float(np.median(made.data)) == pytest.approx(300, abs=1)
        assert "BIASSEC" not in made.header


def two_amplifier_counts(rng, kind, shape=(120, 168), level=0.0):
    """Raw counts of the camera with two amplifiers: different gains, bias levels and read noise."""
    ny, nx = shape
    wide, middle = TwoAmplifiers.overscan_columns, nx // 2
    base = np.where(np.arange(nx) < middle, 1000.0, 1300.0)
    gain = np.where(np.arange(nx) < middle, *TwoAmplifiers.gains)
    noise = np.where(np.arange(nx) < middle, 5.0, 6.0)
    electrons = np.zeros(shape)
    electrons[:, wide : nx - wide] = rng.poisson(level, (ny, nx - 2 * wide))
    electrons += noise * rng.standard_normal(shape)
    header = {"INSTRUME": "two amplifiers", "FILTER": "V", "IMAGETYP": kind, "EXPTIME": 10.0 if level else 0.0}
    return TwoAmplifiers.from_arrays(
        base + electrons / gain, header=header, detector=TwoAmplifiers.detector_for(fits.Header(), shape)
    )


def test_acceptance_10_two_amplifiers_leave_no_step_in_the_sky():
    rng = np.random.default_rng(10)
    bias = larun.MasterBias.combine([two_amplifier_counts(rng, "bias") for _ in range(5)])
    flat = larun.MasterFlat.combine([two_amplifier_counts(rng, "flat", level=40000) for _ in range(8)], bias=bias)
    assert bias.shape == (120, 128)
    light = two_amplifier_counts(rng, "object", level=20000)
    frame = light.calibrate([bias, flat])
    assert type(frame) is TwoAmplifiers
    assert frame.shape == (120, 128)
    left, right = frame.data[:, :64], frame.data[:, 64:]
    step = float(left.mean(dtype=float) / right.mean(dtype=float) - 1)
    assert abs(step) < 1e-3  # own error: 20 electrons / √(7680 · …) is 1.2e-4
    raw_step = light.data[:, 20:84].mean() - 1000, light.data[:, 84:148].mean() - 1300
    assert raw_step[0] / raw_step[1] == pytest.approx(1.1, rel=0.01)  # the trap was there
    # one normalisation for the mosaic: the flat itself has no step, since the gain was undone first
    assert abs(float(flat.data[:, :64].mean() / flat.data[:, 64:].mean()) - 1) < 1e-3
    pull = (frame.data - frame.data.mean()) / frame.uncertainty
    for half in (pull[:, :64], pull[:, 64:]):
        assert float(half.std()) == pytest.approx(1, abs=0.03)
    edges = [(a.data, a.gain) for a in frame.detector.amplifiers]
    assert edges == [((0, 120, 0, 64), 1.0), ((0, 120, 64, 128), 1.0)]
    assert [a.gain for a in frame.raw_detector.amplifiers] == list(TwoAmplifiers.gains)
    assert len(frame.provenance.step.fitted["overscan"]) == 2


def test_a_crop_before_calibration_keeps_the_amplifiers_apart():
    rng = np.random.default_rng(12)
    light = two_amplifier_counts(rng, "object", level=20000)
    whole = light.calibrate(without=("bias", "flat"))
    cut = light.crop((0, 168), (10, 110)).calibrate(without=("bias", "flat"))
    assert cut.shape == (100, 128)
    assert float(np.median(cut.data - whole.data[10:110])) == pytest.approx(0, abs=1)


def test_a_frame_reads_the_same_by_class_and_by_header(tmp_path):
    rng = np.random.default_rng(12)
    light = two_amplifier_counts(rng, "object", level=2000)
    path = tmp_path / "two.fits"
    fits.PrimaryHDU(np.rint(light.data).astype(np.uint16), light.header).writeto(path)
    by_header, by_class = larun.Frame.read(path), TwoAmplifiers.read(path)
    assert type(by_header) is type(by_class) is TwoAmplifiers
    assert by_header.identical(by_class)
    assert attrs.asdict(by_header.detector)["amplifiers"][1]["gain"] == 1.65


def test_frames_in_memory_and_on_disk_make_the_same_masters(sample, bias):
    frames = [larun.Frame.read(path) for path in sample.paths("bias")]
    made = larun.MasterBias.combine(frames)
    assert made.data.tobytes() == bias.data.tobytes()
    assert made.variance.tobytes() == bias.variance.tobytes()
    assert made.provenance.id == bias.provenance.id


def test_memory_frames_are_different_frames():
    ids = {frame.provenance.id for frame in memory_frames(larun.Frame, 4, (8, 8))}
    assert len(ids) == 4


@pytest.mark.parametrize("second", ["[6:10,1:9]", "[5:10,1:10]", "[1:5,1:10]"])
def test_amplifiers_that_do_not_lie_side_by_side_raise(tmp_path, second):
    cards = {"GAIN": 1.0, "RDNOISE": 5.0, "DATASECA": "[1:5,1:10]", "DATASECB": second}
    path = tmp_path / "light.fits"
    fits.PrimaryHDU(np.full((10, 10), 900, np.uint16), fits.Header(cards)).writeto(path)
    with pytest.raises(HeaderError, match=r"light\.fits.*side by side.*A \[1:5,1:10\], B"):
        larun.Frame.read(path).calibrate(without=WITHOUT)
    with pytest.raises(HeaderError, match="side by side"):
        larun.MasterBias.combine([path])


@pytest.mark.parametrize("kinds", [("bias", "dark", "flat"), ("bias", "flat"), ("bias", "dark"), ("bias",)])
def test_the_uncertainty_is_that_of_all_planes_whoever_looked_at_them_before(sample, kinds):
    masters = larun.Masters(tuple(master for kind in kinds for master in sample.masters.of(kind)))
    frame = sample.raw.calibrate(masters, without={"bias", "dark", "flat"} - set(kinds))
    at_once = frame.uncertainty
    total = frame.variance.copy()
    for item in frame.shared:
        assert item.variance.max() > 0
        total += item.variance
    np.testing.assert_array_equal(at_once, np.sqrt(total))
    np.testing.assert_array_equal(frame.uncertainty, at_once)
