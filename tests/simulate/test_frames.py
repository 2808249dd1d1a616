"""Raw frames have the noise, the levels and the light they say they have."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from larun.errors import OptionError
from larun.simulate import Camera, Pointing, Scene, noisy, raw_bias, raw_dark, raw_flat, raw_science, render

CAMERA = Camera(shape=(256, 300), overscan=24, dead_columns=(57,), gain=1.6, read_noise=6.0)
CHIP = CAMERA.chip(seed=11)
LIVE = np.arange(300) != 57


def image_of(raw):
    return raw.data[CAMERA.data_section.slices].astype(float)


def overscan_of(raw):
    return raw.data[CAMERA.overscan_section.slices].astype(float)


def test_photon_transfer_gives_the_gain(rng):
    means, variances = [], []
    for level in np.linspace(2000, 40000, 10):
        one, two = (raw_flat(CAMERA, CHIP, band="V", level=level, rng=rng) for _ in range(2))
        first, second = image_of(one)[:, LIVE] - one.bias_level, image_of(two)[:, LIVE] - two.bias_level
        means.append((first + second).mean() / 2)
        variances.append((first - second).var() / 2)
    weights = 1 / np.asarray(means)  # the variance of a variance goes with its square
    slope, intercept = np.polyfit(means, variances, 1, w=weights)
    assert slope == pytest.approx(1 / CAMERA.gain, rel=0.02)  # its own error is 0.3 %
    assert abs(intercept) < 60


def test_bias_frames_have_the_read_noise_and_the_structure_of_the_chip(rng):
    frames = [raw_bias(CAMERA, CHIP, rng=rng) for _ in range(30)]
    stack = np.array([image_of(raw) - raw.bias_level for raw in frames])
    noise = CAMERA.read_noise / CAMERA.gain
    rounding = 1 / 12
    assert np.sqrt(stack.var(axis=0, ddof=1).mean() - rounding) == pytest.approx(noise, rel=0.005)
    residual = stack.mean(axis=0) - CHIP.bias
    assert residual.std() == pytest.approx(np.hypot(noise, np.sqrt(rounding)) / np.sqrt(30), rel=0.02)
    assert np.std([raw.bias_level for raw in frames]) == pytest.approx(CAMERA.bias_drift, rel=0.4)


def test_overscan_holds_the_level_of_its_frame_and_read_noise_only(rng):
    scene = Scene(band="R", exposure=60, x=[299.4], y=[100.0], rate=[1e6], cosmics=200)
    frames = [
        raw_bias(CAMERA, CHIP, rng=rng),
        raw_dark(CAMERA, CHIP, exposure=600, cosmics=200, rng=rng),
        raw_flat(CAMERA, CHIP, band="V", level=40000, rng=rng),
        raw_science(CAMERA, CHIP, scene, rng=rng),
    ]
    levels = set()
    for raw in frames:
        overscan = overscan_of(raw)
        assert raw.data.shape == (256, 324)
        assert raw.data.dtype == np.uint16
        noise = np.hypot(CAMERA.read_noise / CAMERA.gain, np.sqrt(1 / 12))
        assert overscan.mean() == pytest.approx(raw.bias_level, abs=5 * noise / np.sqrt(overscan.size))
        assert overscan.std() == pytest.approx(noise, rel=0.04)
        levels.add(raw.bias_level)
    assert len(levels) == 4


def test_dark_frames_hold_the_dark_current_of_every_pixel(rng):
    frames = [raw_dark(CAMERA, CHIP, exposure=300, rng=rng) for _ in range(20)]
    electrons = np.mean([(image_of(raw) - raw.bias_level - CHIP.bias) * CAMERA.gain for raw in frames], axis=0)
    expected = CHIP.dark.astype(float) * 300
    variance = (expected + CAMERA.read_noise**2 + CAMERA.gain**2 / 12) / 20
    linear = expected < 0.5 * (CAMERA.saturation - CAMERA.bias_level) * CAMERA.gain
    assert linear[CHIP.hot].sum() > 20
    pull = ((electrons - expected) / np.sqrt(variance))[linear]
    assert pull.mean() == pytest.approx(0, abs=0.02)
    assert pull.std() == pytest.approx(1, abs=0.02)
    hot = ((electrons - expected) / np.sqrt(variance))[linear & CHIP.hot]
    assert abs(hot.mean()) < 0.6


def test_a_science_frame_undone_is_the_scene(rng):
    x, y = rng.uniform(-10, 310, 60), rng.uniform(-10, 266, 60)
    scene = Scene(band="V", exposure=100, x=x, y=y, rate=10 ** rng.uniform(0.5, 2.5, 60), sky=3.0, cosmics=30)
    light = render(CAMERA.shape, x, y, scene.rate * 100, fwhm=scene.fwhm) + 300
    dark = CHIP.dark.astype(float) * 100
    pulls = []
    for _ in range(5):
        raw = raw_science(CAMERA, CHIP, scene, rng=rng)
        electrons = (image_of(raw) - raw.bias_level - CHIP.bias) * CAMERA.gain - dark - raw.cosmics
        expected = light * CHIP.response["V"]
        variance = expected + dark + CAMERA.read_noise**2 + CAMERA.gain**2 / 12
        unsaturated = image_of(raw) < CAMERA.saturation
        pulls.append(((electrons - expected) / np.sqrt(variance))[:, LIVE][unsaturated[:, LIVE]])
        assert np.count_nonzero(raw.cosmics) > 50
    pull = np.concatenate(pulls)
    assert pull.mean() == pytest.approx(0, abs=0.01)  # own error 0.0016
    assert pull.std() == pytest.approx(1, abs=0.01)


def test_a_dead_column_sees_no_light_but_dark_current_and_cosmic_rays(rng):
    scene = Scene(band="V", exposure=1000, x=[57.0], y=[100.0], rate=[1e4], sky=5.0, cosmics=6000)
    raw = raw_science(CAMERA, CHIP, scene, rng=rng)
    dead = (slice(None), 57)
    dark = CHIP.dark.astype(float)[dead] * 1000
    signal = (image_of(raw)[dead] - raw.bias_level - CHIP.bias[dead]) * CAMERA.gain
    expected = dark + raw.cosmics[dead]
    ordinary = image_of(raw)[dead] < CAMERA.saturation
    assert (raw.cosmics[dead][ordinary] > 500).sum() > 10
    pull = (signal - expected)[ordinary] / np.sqrt(dark + CAMERA.read_noise**2 + CAMERA.gain**2 / 12)[ordinary]
    assert pull.mean() == pytest.approx(0, abs=0.2)  # own error 0.06
    assert pull.std() == pytest.approx(1, abs=0.15)


def test_saturated_pixels_read_exactly_the_saturation_level(rng):
    scene = Scene(band="V", exposure=60, x=[150.0], y=[100.0], rate=[1e5])
    raw = raw_science(CAMERA, CHIP, scene, rng=rng)
    assert raw.data.max() == CAMERA.saturation
    assert (raw.data[99:102, 149:152] == CAMERA.saturation).all()
    assert raw.data[100, 150] == 60000


def test_the_header_wcs_finds_the_stars_of_a_dithered_frame(rng):
    scene = Scene(
        band="V",
        exposure=60,
        x=[161.25],
        y=[93.5],
        rate=[2000.0],
        center=(10.0, 60.0),
        pointing=Pointing(offset=(5.25, -3.5)),
    )
    raw = raw_science(CAMERA, CHIP, scene, rng=rng)
    still = WCS(fits.Header(CAMERA.wcs_cards((10.0, 60.0))))
    sky = still.pixel_to_world_values(156.0, 97.0)
    assert WCS(raw.header).world_to_pixel_values(*sky) == pytest.approx((161.25, 93.5), abs=1e-6)
    # sexagesimal RA and DEC: the middle of the chip, to the digits they have
    from astropy.coordinates import SkyCoord

    middle = WCS(raw.header).pixel_to_world_values(149.5, 127.5)
    written = SkyCoord(raw.header["RA"], raw.header["DEC"], unit=("hourangle", "deg"))
    assert (written.ra.deg, written.dec.deg) == pytest.approx(tuple(float(v) for v in middle), abs=1e-4)
    window = image_of(raw)[84:104, 151:172]
    row, column = np.unravel_index(window.argmax(), window.shape)
    assert abs(row + 84 - 93.5) <= 1
    assert abs(column + 151 - 161.25) <= 1


def test_noisy_has_the_variance_of_its_noise_model(rng):
    for expected, noise, gain in [(0.0, 5.0, 1.0), (3.0, 0.0, 1.0), (100.0, 6.0, 1.6), (5e4, 6.0, 2.5)]:
        image = noisy(np.full((400, 400), expected), read_noise=noise, gain=gain, rng=rng)
        variance = (expected + noise**2) / gain**2
        assert image.dtype == np.float32
        assert image.astype(float).var() == pytest.approx(variance, rel=0.02)  # own error 0.35 %, 0.4 % for 3 e-
        assert image.astype(float).mean() == pytest.approx(expected / gain, abs=5 * np.sqrt(variance) / 400)


@pytest.mark.parametrize(
    ("expected", "options"),
    [(-1.0, {}), (np.nan, {}), (1.0, {"gain": 0.0}), (1.0, {"read_noise": -1.0})],
)
def test_impossible_noise_raises(expected, options):
    with pytest.raises(OptionError):
        noisy(np.full((3, 3), expected), **{"read_noise": 1.0, "rng": np.random.default_rng(1), **options})


@pytest.mark.parametrize("values", [{"sky": -1.0}, {"exposure": 0.0}, {"rate": [-1.0]}, {"center": (0.0, 90.0)}])
def test_impossible_scenes_raise(values):
    with pytest.raises(OptionError):
        Scene(**{"band": "V", "exposure": 1.0, "x": [1.0], "y": [1.0], "rate": [1.0], **values})


def test_unknown_filter_and_level_raise(rng):
    with pytest.raises(OptionError, match="V, R"):
        raw_flat(CAMERA, CHIP, band="U", level=1000, rng=rng)
    with pytest.raises(OptionError, match="level"):
        raw_flat(CAMERA, CHIP, band="V", level=0, rng=rng)
