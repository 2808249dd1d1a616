"""A night of everything: optics, tracking, conditions and faults; its truth explains every pixel."""

import hashlib

import attrs
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import larun
from larun.algorithms.jit import set_threads
from larun.errors import OptionError
from larun.simulate import (
    Camera,
    Conditions,
    Distortion,
    Faults,
    NightOptions,
    Optics,
    Pulsation,
    Tracking,
    Transit,
    read_truth,
    render_profile,
    shutter_delay,
    simulate_night,
)

SHAPE = (160, 180)
RICH = NightOptions(
    camera=Camera(shape=SHAPE, dead_columns=(57,), linearity=(8e-7,)),
    biases=3,
    darks=2,
    dark_exposures=(60.0,),
    flats=3,
    frames=4,
    star_density=900,
    optics=Optics(
        size=[(0, 0, 1.0), (2, 0, 0.15), (0, 2, 0.15)],
        g1=[(1, 0, 0.08)],
        g2=[(0, 1, -0.05)],
        distortion=Distortion.radial(SHAPE, corner=2.0),
    ),
    tracking=Tracking(pattern="spiral", drift=(60.0, -30.0), walk=2.0, rotation=20.0),
    conditions=Conditions(
        seeing_noise=(0.1, 0.05),
        transparency_noise=(0.05, 0.1),
        extinction=0.2,
        hour_angle=1.0,
        sky_gradient=(0.2, 0.1),
        gradient_change=(1.0, 0.0),
        sky_change=0.5,
    ),
    variable=Pulsation(magnitude=16.5, period=0.1, amplitude=0.5),
    faults=Faults(
        fringes=(0.0, 0.05),
        satellites=1.0,
        flat_error=0.01,
        dust_shift=8.0,
        telegraph=2e-3,
        bad_columns=2,
        light_leak=2.0,
        glow=5.0,
        pickup=4.0,
        shutter=0.05,
        bayer="RGGB",
    ),
)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulate_night(tmp_path_factory.mktemp("night"), seed=5, options=RICH)


def electrons(night, frame):
    """The electrons in the data section of a raw file, by the truth about its bias and the camera's linearity."""
    raw = fits.getdata(frame.path).astype(float)
    bias = night.chip(frame).bias.astype(float)
    s = (raw - frame.bias_level - bias)[night.camera.data_section.slices]
    return s * (1 + night.camera.linearity[0] * s) * night.camera.gain


def expected_light(night, frame):
    """All light of a science frame before the response."""
    x, y = night.positions(frame)
    rate = night.rates(frame)
    if frame.new_source:
        at = night.place(frame, night.new_source.x, night.new_source.y)
        x, y, rate = (
            np.append(x, at[0]),
            np.append(y, at[1]),
            np.append(rate, night.new_source.rate * frame.transparency),
        )
    profile = night.options.optics.profile(SHAPE, fwhm=frame.seeing, beta=night.options.beta, trail=frame.trail)
    light = render_profile(SHAPE, x, y, rate * frame.exposure, profile=profile)
    return light + night.sky(frame) * frame.exposure + night.satellites(frame)[0]


def pulls(night, frame, expected):
    found = electrons(night, frame) - night.cosmics(frame)
    dark = night.chip(frame).dark * frame.exposure
    slope = 1 + 2 * night.camera.linearity[0] * found / night.camera.gain
    noise = (night.camera.read_noise**2 + night.camera.gain**2 / 12) * slope**2
    ordinary = fits.getdata(frame.path)[night.camera.data_section.slices] < night.camera.saturation
    return ((found - expected - dark) / np.sqrt(expected + dark + noise))[ordinary & (night.cosmics(frame) < 1e3)]


def test_the_truth_explains_every_science_frame(night):
    assert sum(len(frame.satellites) for frame in night.frames) > 2
    for frame in night.select("object"):
        pull = pulls(night, frame, expected_light(night, frame) * night.chip(frame).response[frame.band])
        assert pull.mean() == pytest.approx(0, abs=0.025)  # own error 0.005
        assert pull.std() == pytest.approx(1, abs=0.03)


def test_the_truth_explains_flats_darks_and_biases(night):
    for frame in (*night.select("flat")[::2], *night.select("dark"), *night.select("bias")):
        light = np.zeros(SHAPE)
        if frame.level is not None:
            light = frame.level * night.camera.gain * night.chip(frame).response[frame.band]
        pull = pulls(night, frame, light)
        assert pull.mean() == pytest.approx(0, abs=0.025)
        assert pull.std() == pytest.approx(1, abs=0.03)


def test_every_fault_shows(night):
    base, flat = night.chip(), night.select("flat", "R")[0]
    science = night.select("object", "R")[0]
    first, second = (night.chip(frame) for frame in night.select("bias")[:2])
    assert first.bias.shape == night.camera.raw_shape  # the overscan shows the interference too
    assert first.bias[:, 180:].std() == pytest.approx(4 / np.sqrt(2), rel=0.1)
    assert (first.bias != second.bias).any()
    dark = night.chip(night.select("dark")[0]).dark - base.dark
    assert (dark[0, 0], dark[-1, -1]) == pytest.approx((5.0, 2.0), abs=0.1)
    in_flat, in_science = night.chip(flat).response["R"], night.chip(science).response["R"]
    open_longer = shutter_delay(SHAPE, seconds=0.05)
    ratio = in_flat / (1 + open_longer / 3) / np.where(in_science > 0, in_science / (1 + open_longer / 60), np.nan)
    assert np.nanmedian(ratio) == pytest.approx(1, abs=0.01)
    assert 0.008 < np.nanstd(ratio) < 0.013  # the error of the flats, and dust that moved
    assert np.nanmax(np.abs(np.diff(ratio, axis=1))) > 0.004  # the dust: the error is smooth
    red = in_science[::2, ::2][:, 40:] / base.response["R"][::2, ::2][:, 40:]
    assert np.median(red) == pytest.approx(0.6, abs=0.01)
    sky = night.sky(science)
    assert sky[80, 179] - sky[80, 0] == pytest.approx(science.gradient[0] * science.sky, rel=0.4)
    assert np.std(sky / night.sky(attrs.evolve(science, band="V"))) == pytest.approx(0.035, rel=0.3)


def test_the_header_wcs_finds_the_stars(night):
    for frame in night.select("object"):
        wcs = WCS(fits.getheader(frame.path))
        assert wcs.sip is not None
        at = night.positions(frame)
        near = (np.abs(at[0] - 90) < 100) & (np.abs(at[1] - 80) < 90)
        found = wcs.world_to_pixel_values(night.stars["ra"].value, night.stars["dec"].value)
        np.testing.assert_allclose(np.array(found)[:, near], np.array(at)[:, near], atol=1e-6)
    last = night.select("object")[-1]
    assert last.rotation == pytest.approx(20 * 7 * 80 / 3600, rel=1e-6)
    assert last.trail == pytest.approx((1.0, -0.5))


def test_airmass_and_extinction_are_in_header_and_truth(night):
    frames = night.select("object")
    masses = [fits.getheader(frame.path)["AIRMASS"] for frame in frames]
    assert masses == [frame.airmass for frame in frames]
    assert masses == sorted(masses)
    assert 1.05 < masses[0] < masses[-1] < 1.3


def test_the_variable_star_varies_by_what_the_truth_says(night):
    frames = night.select("object", "V")
    assert np.ptp([frame.variable for frame in frames]) > 0.2
    row = int(np.flatnonzero(night.stars["id"] == night.variable_star)[0])
    assert night.stars["mag_V"][row].value == pytest.approx(16.5)
    for frame in frames:
        still = expected_light(night, attrs.evolve(frame, variable=1.0))
        x, y = (round(float(v[row])) for v in night.positions(frame))
        box = (slice(y - 3, y + 4), slice(x - 3, x + 4))
        response = night.chip(frame).response["V"]
        varied = (expected_light(night, frame) * response)[box].sum()
        found = (electrons(night, frame) - night.cosmics(frame) - night.chip(frame).dark * 60)[box].sum()
        assert found == pytest.approx(varied, abs=5 * np.sqrt(varied + 49 * 36))
        if abs(frame.variable - 1) > 0.2:
            assert abs(found - (still * response)[box].sum()) > 10 * np.sqrt(varied)


def test_calibration_undoes_the_nonlinearity_of_the_camera(night):
    frame = night.select("flat", "V")[0]
    raw = larun.Frame.from_arrays(fits.getdata(frame.path), detector=night.camera.detector)
    found = raw.calibrate(without=("bias", "dark", "flat")).data
    truth = frame.level * night.camera.gain * night.chip(frame).response["V"]
    assert found.mean() == pytest.approx(truth.mean(), rel=2e-3)
    linear = attrs.evolve(night.camera, linearity=()).detector
    wrong = larun.Frame.from_arrays(fits.getdata(frame.path), detector=linear)
    assert wrong.calibrate(without=("bias", "dark", "flat")).data.mean() < 0.99 * truth.mean()


def test_colour_channels_see_their_share_of_the_light(tmp_path):
    camera = Camera(shape=(80, 80), filters=("V",), hot_fraction=0.0)
    options = NightOptions(camera=camera, zero_points=(23.5,), sky=(50.0,), frames=1, faults=Faults(bayer="GBRG"))
    options = attrs.evolve(options, biases=0, flats=0, darks=0, star_density=0.0, cosmic_rate=0.0, new_source=None)
    frame = simulate_night(tmp_path / "night", seed=6, options=options).frames[0]
    for channel, share in {"R": 0.6, "G1": 1.0, "G2": 1.0, "B": 0.7}.items():
        found = larun.Frame.read(frame.path, channel=channel).calibrate(without=("bias", "dark", "flat"))
        assert np.median(found.data) == pytest.approx(share * frame.sky * frame.exposure, rel=0.05)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_the_same_bytes_with_one_thread_and_the_same_truth_read_again(night, tmp_path):
    try:
        set_threads(1)
        simulate_night(tmp_path / "again", seed=5, options=RICH)
    finally:
        set_threads(None)
    assert digests(tmp_path / "again") == digests(night.folder)
    again = read_truth(night.folder)
    assert again.options == RICH
    assert again.frames == night.frames
    assert (again.variable_star, again.new_source) == (night.variable_star, night.new_source)
    frame = night.select("object")[2]
    np.testing.assert_array_equal(again.chip(frame).bias, night.chip(frame).bias)


def test_given_series_are_taken_as_they_are(tmp_path):
    seeing, clear = (2.0, 2.5, 3.5, 3.0), (1.0, 0.5, 0.8, 0.9)
    options = attrs.evolve(
        RICH,
        frames=2,
        biases=0,
        flats=0,
        darks=0,
        conditions=Conditions(seeing=seeing, transparency=clear),
        variable=Transit(magnitude=16.0, middle=0.02, duration=0.05, depth=0.2),
        optics=Optics(donut=5.0),
        tracking=Tracking(),
        faults=Faults(),
    )
    truth = simulate_night(tmp_path / "night", seed=2, options=options)
    assert tuple(frame.seeing for frame in truth.frames) == seeing
    assert tuple(frame.transparency for frame in truth.frames) == clear
    assert min(frame.variable for frame in truth.frames) == pytest.approx(0.8)
    assert read_truth(truth.folder).options == options


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Optics(donut=-1.0), "donut"),
        (lambda: Optics(g1=[(0, 0, 1.5)]), "g1"),
        (lambda: Tracking(pattern="star"), "pattern"),
        (lambda: Tracking(drift=(np.inf, 0.0)), "drift"),
        (lambda: Conditions(seeing=(3.0, 0.1)), "seeing"),
        (lambda: Conditions(transparency=(-1.0,)), "transparency"),
        (lambda: Conditions(extinction=-1.0), "extinction"),
        (lambda: Transit(depth=2.0), "depth"),
        (lambda: Pulsation(period=0.0), "period"),
        (lambda: Faults(fringes=(0.9,)), "fringes"),
        (lambda: Faults(satellite_width=(5.0, 2.0)), "satellite_width"),
        (lambda: Faults(bad_columns=1.5), "bad_columns"),
        (lambda: Faults(bayer="CMYK"), "bayer"),
        (lambda: Faults(shutter=np.nan), "shutter"),
        (lambda: NightOptions(conditions=Conditions(seeing=(3.0,))), "seeing"),
        (lambda: NightOptions(faults=Faults(fringes=(0.1,))), "fringes"),
    ],
)
def test_impossible_options_raise_by_name(make, name):
    with pytest.raises(OptionError, match=name):
        make()


@pytest.mark.parametrize(
    ("conditions", "name"),
    [
        (Conditions(extinction=0.1, hour_angle=11.0), "hour_angle"),
        (Conditions(sky_change=-10.0), "sky_change"),
        (Conditions(sky_gradient=(1.9, 0.0), gradient_change=(5.0, 0.0)), "sky_gradient"),
    ],
)
def test_a_night_that_becomes_impossible_raises_before_anything_is_written(conditions, name, tmp_path):
    options = NightOptions(camera=Camera(shape=(64, 64)), conditions=conditions)
    with pytest.raises(OptionError, match=name):
        simulate_night(tmp_path / "night", options=options)
    assert not (tmp_path / "night").exists()
