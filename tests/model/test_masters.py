"""Masters from frames in memory: noise, outliers, the rules of scaling, and which one serves a frame."""

import warnings

import attrs
import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.errors import LarunWarning, NoiseModelError, NoMatchingMaster, OptionError
from larun.model.building import BuildOptions
from tests.model.conftest import memory_frames

SHAPE = (60, 64)
BASE = {
    "INSTRUME": "test camera",
    "EXPTIME": 30.0,
    "FILTER": "V",
    "CCD-TEMP": -100.0,
    "XBINNING": 1,
    "YBINNING": 1,
}


def frame_of(level=1000.0, shape=SHAPE, noise=4.0, seed=5, gain=1.5, **cards):
    return memory_frames(larun.Frame, 1, shape, level=level, noise=noise, seed=seed, gain=gain, header=BASE | cards)[0]


def bias_of(count=5, **options):
    cards = options.pop("cards", {})
    frames = memory_frames(
        larun.Frame,
        count,
        options.pop("shape", SHAPE),
        header=BASE | {"EXPTIME": 0.0} | cards,
        gain=options.pop("gain", 1.5),
    )
    return larun.MasterBias.combine(frames, **options)


def dark_frames(count=5, exposure=30.0, rate=4.0, shape=SHAPE, gain=1.5, **cards):
    """Bias 1000 ADU plus a dark current in ADU per second, with Poisson noise."""
    rng = np.random.default_rng(21)
    made = []
    for _ in range(count):
        electrons = rng.poisson(rate * exposure * gain, shape) + 6.0 * rng.standard_normal(shape)
        header = BASE | {"EXPTIME": exposure} | cards
        made.append(larun.Frame.from_arrays(1000 + electrons / gain, gain=gain, read_noise=6.0, header=header))
    return made


def flat_frames(count=4, level=20000.0, response=None, shape=SHAPE, gain=1.5, **cards):
    rng = np.random.default_rng(31)
    made = []
    for index in range(count):
        light = level * (1 - 0.1 * index) * (np.ones(shape) if response is None else response)
        electrons = rng.poisson(np.maximum(light, 0) * gain) + 6.0 * rng.standard_normal(shape)
        header = BASE | {"EXPTIME": 2.0} | cards
        made.append(larun.Frame.from_arrays(1000 + electrons / gain, gain=gain, read_noise=6.0, header=header))
    return made


# -- combining ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["mean", "median", "clipped"])
@pytest.mark.parametrize("count", [3, 5, 10])
def test_acceptance_3_reported_noise_of_a_master_bias(method, count):
    """Own error of the ratio: 1 / √(2 · 40000) = 0.35 %."""
    frames = memory_frames(larun.Frame, count, (200, 200), seed=count)
    bias = larun.MasterBias.combine(frames, method=method, sigma=5.0)
    ratio = float(bias.uncertainty.mean()) / float(bias.data[bias.flags == 0].std())
    assert ratio == pytest.approx(1, abs=0.03)


def test_acceptance_6_one_nan_in_one_frame_changes_no_other_pixel():
    frames = memory_frames(larun.Frame, 5, SHAPE)
    whole = larun.MasterBias.combine(frames)
    data = np.array(frames[2].data)
    data[7, 9] = np.nan
    hurt = larun.Frame.from_arrays(data, gain=1.5, read_noise=6.0)
    made = larun.MasterBias.combine([*frames[:2], hurt, *frames[3:]])
    same = np.ones(SHAPE, bool)
    same[7, 9] = False
    # the sum is taken in the order of the ids, which the hurt frame changes: the last bit is free
    np.testing.assert_allclose(made.data[same], whole.data[same], rtol=3e-7)
    assert np.isfinite(made.data).all()
    others = np.array([frame.data[7, 9] for index, frame in enumerate(frames) if index != 2])
    assert made.data[7, 9] == pytest.approx(others.mean(), rel=1e-6)
    assert made.variance[7, 9] == pytest.approx(whole.variance[7, 9] * 5 / 4, rel=1e-5)


def test_acceptance_7_a_lone_outlier_is_rejected():
    frames = memory_frames(larun.Frame, 3, SHAPE, noise=4.0)
    data = np.array(frames[0].data)
    data[20, 20] += 50 * 4.0
    clean = larun.MasterBias.combine(frames)
    hit = larun.Frame.from_arrays(data, gain=1.5, read_noise=6.0)
    made = larun.MasterBias.combine([hit, *frames[1:]])
    others = np.mean([frame.data[20, 20] for frame in frames[1:]])
    assert made.data[20, 20] == pytest.approx(others, rel=1e-6)
    # no good pixel is lost: equal but for the order of summation
    same = np.arange(SHAPE[0] * SHAPE[1]) != 20 * SHAPE[1] + 20
    np.testing.assert_allclose(made.data.ravel()[same], clean.data.ravel()[same], rtol=3e-7)


def test_acceptance_7_a_wrong_gain_is_found_and_recorded():
    """Flats whose header claims twice the gain: photon noise in electrons looks √2 … too large for the model."""
    frames = flat_frames(5)
    right = larun.MasterFlat.combine(frames, bias=bias_of())
    assert right.provenance.step.fitted["inflation"] == pytest.approx(1, abs=0.05)
    wrong = [
        larun.Frame.from_arrays(f.data, gain=2.0, read_noise=6.0, header=f.header) for f in frames
    ]  # true gain 1.5: variance in electrons is (2/1.5) times what the model says
    made = larun.MasterFlat.combine(wrong, bias=bias_of(gain=2.0))
    assert made.provenance.step.fitted["inflation"] == pytest.approx(2.0 / 1.5, rel=0.05)
    efficiency = float(right.data.var() / made.data.var())
    assert efficiency > 0.95
    far = [larun.Frame.from_arrays(f.data, gain=6.0, read_noise=6.0, header=f.header) for f in frames]
    with pytest.raises(NoiseModelError):
        larun.MasterFlat.combine(far, bias=bias_of(gain=6.0))


def test_what_cannot_be_combined_raises():
    frames = memory_frames(larun.Frame, 2, SHAPE)
    with pytest.raises(OptionError, match="no frames"):
        larun.MasterBias.combine([])
    with pytest.raises(OptionError, match="different size"):
        larun.MasterBias.combine([*frames, frame_of(shape=(30, 30))])
    with pytest.raises(OptionError, match="not raw"):
        larun.MasterBias.combine([frames[0].calibrate(without=("bias", "dark", "flat"))])
    with pytest.raises(OptionError, match="different exposure"):
        larun.MasterDark.combine([frame_of(EXPTIME=10.0), frame_of(EXPTIME=20.0, seed=6)])
    with pytest.raises(OptionError, match="exposure time"):
        larun.MasterDark.combine([frame_of(EXPTIME=0.0)])
    with pytest.raises(OptionError, match="different filters"):
        larun.MasterFlat.combine([*flat_frames(1), *flat_frames(1, FILTER="R")])
    with pytest.raises(OptionError, match="no light"):
        larun.MasterFlat.combine(memory_frames(larun.Frame, 3, SHAPE, level=0.0, header=BASE))
    with pytest.raises(OptionError, match="method"):
        larun.MasterBias.combine(frames, method="mode")
    with pytest.raises(OptionError, match="max_memory"):
        BuildOptions(max_memory=0)


def test_bad_pixels_that_are_known_are_flagged_and_recorded(tmp_path):
    mask = np.zeros(SHAPE)
    mask[5, 6] = 1
    frames = memory_frames(larun.Frame, 4, SHAPE)
    made = larun.MasterBias.combine(frames, options=BuildOptions(bad_pixels=mask))
    assert made.flags[5, 6] & fl.BAD
    plain = larun.MasterBias.combine(frames)
    assert not plain.flags[5, 6] & fl.BAD
    assert made.provenance.id != plain.provenance.id
    from astropy.io import fits

    ids = set()
    for folder in ("a", "b"):  # where the mask lies does not matter, what it says does
        (tmp_path / folder).mkdir()
        fits.PrimaryHDU(mask).writeto(tmp_path / folder / "mask.fits")
        option = BuildOptions(bad_pixels=tmp_path / folder / "mask.fits")
        one = larun.MasterBias.combine(frames, options=option)
        ids.add(one.provenance.id)
        assert "mask.fits" in {root.name for root in one.provenance.roots()}
    assert len(ids) == 1
    with pytest.raises(OptionError, match="bad_pixels"):
        larun.MasterBias.combine(frames, options=BuildOptions(bad_pixels=np.zeros((3, 3))))


def test_copies_of_a_file_count_once(sample, tmp_path):
    import shutil

    paths = sample.paths("bias")[:3]
    shutil.copy(paths[0], tmp_path / "copy.fits")
    with pytest.warns(LarunWarning, match="copy of"):
        made = larun.MasterBias.combine([*paths, tmp_path / "copy.fits"])
    assert made.count == 3
    assert (
        made.identical(larun.MasterBias.combine(paths))
        or made.provenance.id == larun.MasterBias.combine(paths).provenance.id
    )


# -- darks -------------------------------------------------------------------------------------------------------------


def masters_with(dark):
    return larun.Masters((bias_of(), dark))


def test_acceptance_8_a_dark_that_holds_its_bias_serves_its_own_exposure_only():
    dark = larun.MasterDark.combine(dark_frames())
    assert not dark.bias_removed
    assert dark.unit == "adu"
    with pytest.raises(OptionError, match="still holds its bias"):
        dark.scaled(10.0)
    light = frame_of(level=1120.0, EXPTIME=10.0)
    with pytest.raises(NoMatchingMaster, match=r"30 s with bias, frame 10 s"):
        light.calibrate(masters_with(dark), without="flat")
    own = frame_of(level=1120.0, EXPTIME=30.0).calibrate(masters_with(dark), without="flat")
    assert float(np.median(own.data)) == pytest.approx(0, abs=1)
    assert {parent.role for parent in own.provenance.parents} == {"self", "dark"}


def test_acceptance_8_a_dark_is_never_scaled_up():
    dark = larun.MasterDark.combine(dark_frames(), bias=bias_of())
    assert dark.bias_removed
    assert dark.unit == "adu / s"
    assert float(np.median(dark.data)) == pytest.approx(4.0, rel=0.02)
    with pytest.raises(OptionError, match="scaled up"):
        dark.scaled(31.0)
    with pytest.raises(NoMatchingMaster, match="never scaled up"):
        frame_of(EXPTIME=60.0).calibrate(masters_with(dark), without="flat")
    made = frame_of(level=1040.0, EXPTIME=10.0).calibrate(masters_with(dark), without="flat")
    assert float(np.median(made.data)) == pytest.approx(0, abs=1)


@pytest.mark.parametrize(("degrees", "outcome"), [(-99.0, None), (-97.0, "warning"), (-80.0, "error")])
def test_acceptance_8_a_dark_of_another_temperature_warns_or_raises(degrees, outcome):
    dark = larun.MasterDark.combine(dark_frames(), bias=bias_of())
    light = frame_of(level=1120.0, **{"CCD-TEMP": degrees})
    if outcome == "error":
        with pytest.raises(NoMatchingMaster, match=r"temperature \(-100.0, frame -80.0"):
            light.calibrate(masters_with(dark), without="flat")
    elif outcome == "warning":
        with pytest.warns(LarunWarning, match="taken at -100.0 degrees"):
            light.calibrate(masters_with(dark), without="flat")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            light.calibrate(masters_with(dark), without="flat")


def test_a_dark_scaled_far_down_is_doubted():
    dark = larun.MasterDark.combine(dark_frames(), bias=bias_of())
    with pytest.warns(LarunWarning, match="amplifier glow"):
        frame_of(EXPTIME=3.0).calibrate(masters_with(dark), without="flat")


def test_the_nearest_dark_serves():
    bias = bias_of()
    short = larun.MasterDark.combine(dark_frames(exposure=40.0), bias=bias)
    long = larun.MasterDark.combine(dark_frames(exposure=100.0), bias=bias)
    chosen = larun.Masters((long, short, bias)).select(frame_of(EXPTIME=35.0), without="flat").dark
    assert chosen is short


# -- matching ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trio():
    bias = bias_of()
    dark = larun.MasterDark.combine(dark_frames(exposure=60.0), bias=bias)
    return larun.Masters((bias, dark, larun.MasterFlat.combine(flat_frames(), bias=bias)))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("flat", {"FILTER": "R"}, r"filter \(V, frame R\)"),
        ("bias", {"XBINNING": 2, "YBINNING": 2}, r"binning \(1×1, frame 2×2\)"),
        ("dark", {"CCD-TEMP": -50.0}, r"temperature \(-100.0, frame -50.0 degrees\)"),
        ("bias", {"shape": (50, 64)}, r"size \(64×60, frame 64×50\)"),
        ("bias", {"gain": 3.0}, r"gain \(1.5, frame 3\)"),
        ("dark", {"EXPTIME": 600.0}, r"exposure \(60 s, frame 600 s: never scaled up\)"),
        ("bias", {"INSTRUME": "another"}, r"instrument \(test camera, frame another\)"),
    ],
)
def test_acceptance_16_no_matching_master_says_what_differs(trio, kind, changes, message):
    frame = frame_of(**changes)
    assert frame.required == {"bias", "dark", "flat"}
    others = tuple({"bias", "dark", "flat"} - {kind})
    with pytest.raises(NoMatchingMaster, match=message) as caught:
        frame.calibrate(trio, without=others)
    text = str(caught.value)
    assert f"no {kind} master fits" in text
    assert "nearest" in text
    assert f"without=('{kind}',)" in text


def test_acceptance_16_several_differences_and_the_nearest_first(trio):
    far = trio.of("flat")[0]
    near = larun.MasterFlat.combine(flat_frames(FILTER="B"))
    both = larun.Masters((far._replace(criteria={**far.criteria, "filter": "U", "binning": [4, 4]}), near))
    with pytest.raises(NoMatchingMaster) as caught:
        frame_of(FILTER="R").calibrate(both, without=("bias", "dark"))
    text = str(caught.value)
    assert text.index("filter (B, frame R)") < text.index("binning (4×4, frame 1×1), filter (U, frame R)")


def test_acceptance_16_none_at_all(trio):
    with pytest.raises(NoMatchingMaster, match=r"no bias master fits.*there is none at all.*without=\('bias',\)"):
        frame_of().calibrate()
    with pytest.raises(OptionError, match="without"):
        frame_of().calibrate(trio, without="fringe")


def test_without_is_recorded_and_order_does_not_matter(trio):
    light = frame_of()
    made = light.calibrate(trio, without=("flat", "dark"))
    assert made.provenance.step.parameters["without"] == ["dark", "flat"]
    assert {parent.role for parent in made.provenance.parents} == {"self", "bias"}
    assert light.calibrate(trio.items[::-1], without=["dark", "flat"]).identical(made)


def test_masters_come_from_a_folder_one_master_or_a_list(trio, tmp_path):
    for number, master in enumerate(trio):
        master.write(tmp_path / f"{number}.fits")
    light = frame_of()
    expected = light.calibrate(trio)
    for given in (tmp_path, str(tmp_path), list(trio), larun.Masters.read(tmp_path)):
        assert light.calibrate(given).identical(expected)
    assert light.calibrate(trio.of("bias")[0], without=("dark", "flat")).unit == "electron"
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="holds no masters"):
        larun.Masters.read(tmp_path / "empty")


def test_a_master_that_is_not_required_and_does_not_fit_is_left_out_with_a_warning(trio):
    class Simple(larun.Frame):
        required = frozenset({"bias"})

    light = frame_of(FILTER="R")
    simple = Simple.from_arrays(light.data, gain=1.5, read_noise=6.0, header=light.header)
    with pytest.warns(LarunWarning, match=r"no flat master fits.*going on without"):
        made = simple.calibrate(trio)
    assert "flat" not in {parent.role for parent in made.provenance.parents}


def test_a_frame_without_exposure_time_says_so(trio):
    from larun.errors import HeaderError

    light = frame_of()
    header = light.header
    del header["EXPTIME"]
    lost = larun.Frame.from_arrays(light.data, gain=1.5, read_noise=6.0, header=header)
    with pytest.raises((HeaderError, NoMatchingMaster), match="exposure"):
        lost.calibrate(trio)


def test_masters_made_in_another_order_are_identical(trio):
    frames = flat_frames()
    bias = trio.of("bias")[0]
    one = larun.MasterFlat.combine(frames, bias=bias)
    two = larun.MasterFlat.combine(frames[::-1], bias=bias)
    assert one.identical(two)
    assert one.criteria["filter"] == "V"
    assert attrs.fields(type(one)).count.name == "count"
    assert one.count == len(frames)
