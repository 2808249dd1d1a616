"""Cameras of which only header text is at hand: simulated pixels under real headers, and what each header means."""

import numpy as np
import pytest

import larun
from larun import simulate
from larun.errors import HeaderError
from larun.instruments.decam import Decam
from larun.instruments.hsc import HyperSuprimeCam
from larun.instruments.sdss import SdssFpc
from larun.instruments.suprimecam import SuprimeCam
from larun.io.headertext import read_header_text
from larun.model.raw.opening import interpret
from tests.conftest import real_data

WITHOUT = ("bias", "dark", "flat")

# Read off the texts by eye: class, kind, filter, exposure, chip, and gain and read noise of each amplifier.
MEANING = {
    "decam": (
        Decam, "science", "z DECam SDSS c0004 9260.0 1520.0", 200.0, "25", [4.59347726229, 4.4014084507], [7.18, 7.02],
    ),
    "decam-0160496": (
        Decam, "bias", "Y DECam c0005 10095.0 1130.0", 0.0, "25", [4.59347726229, 4.4014084507], [7.18, 7.02],
    ),
    "decam-raw_dec050441_25": (
        Decam, "science", "g DECam SDSS c0001 4720.0 1520.0", 30.0, "25", [4.59347726229, 4.4014084507], [7.18, 7.02],
    ),
    "decam-instcal-c4d_190402_050618_ooi_VR_v1": (
        Decam, "science", "VR DECam c0007 6300.0 2600.0", 120.0, "1", [4.34], [6.13928],
    ),
    "decam-calexp-0412037_10": (Decam, "science", "g", 86.0, "1", [4.34], [6.13928]),
    "hsc": (HyperSuprimeCam, "science", "HSC-i", 30.0, "50", [3.53, 3.48, 3.67, 3.48], [4.5] * 4),
    "hsc-HSCA04090107": (HyperSuprimeCam, "science", "HSC-r", 150.0, "37", [3.18, 3.19, 3.35, 3.45], [4.5] * 4),
    "suprimecam-CORR40535770": (SuprimeCam, "science", "W-S-R+", 200.0, "0", [2.64075517654419], [10.0]),
    "sdss-fpC-006377-g4-0399": (SdssFpc, "science", "g", 53.907456, "4", [3.995], [5.593]),
}  # fmt: skip

RAW = ("decam", "decam-raw_dec050441_25", "hsc", "hsc-HSCA04090107")


def text_of(name):
    return read_header_text(real_data("headers", f"fitsheader-{name}.yaml"))


@pytest.mark.parametrize("name", MEANING)
def test_what_a_header_means(name):
    text = text_of(name)
    found = interpret(larun.Frame, text.header, text.shape, {}, name)
    camera, kind, band, exposure, chip, gains, noises = MEANING[name]
    assert found.camera is camera
    assert camera.classify(found.header).kind == kind
    assert camera.quantity_of(found.header, "filter") == band
    assert camera.quantity_of(found.header, "exposure") == exposure
    assert camera.criteria_from(found.header, found.detector)["chip"] == chip
    assert [a.gain for a in found.detector.amplifiers] == pytest.approx(gains)
    assert [a.read_noise for a in found.detector.amplifiers] == pytest.approx(noises, abs=0.005)


def small(name, rows=96):
    """The camera, a shorter detector and the header of a real frame: sections keep their columns."""
    text = text_of(name)
    found = interpret(larun.Frame, text.header, text.shape, {}, name)
    _, nx = text.shape
    first = found.detector.amplifiers[0].data.y0
    header = text.header.copy()
    for key in list(header):  # the same camera with fewer rows, so that a test takes no time
        if isinstance(header[key], str) and f":{first + 4096}]" in header[key]:
            header[key] = header[key].replace(f":{first + 4096}]", f":{first + rows}]")
        if key.startswith("T_EFMX") and key.endswith("2"):
            header[key] = first + rows
    shape = (first + rows, nx)
    return found.camera, found.camera.detector_for(header, shape), header, shape


@pytest.mark.parametrize("name", RAW)
def test_simulated_pixels_under_a_real_header_come_back(name, tmp_path, rng):
    camera, detector, header, shape = small(name)
    light = np.full(detector.trimmed_shape, 20000.0)
    light[40:44, 100:104] = 40000.0
    levels = [1000.0 + 300 * n for n in range(len(detector.amplifiers))]
    raw = simulate.raw_frame(
        header, detector, simulate.photons(light, rng=rng), rng=rng, shape=shape, bias_levels=levels
    )
    path = raw.write(tmp_path / "raw.fits")
    frame = larun.Frame.read(path).calibrate(without=WITHOUT)
    assert type(frame) is camera
    assert frame.shape == detector.trimmed_shape
    assert frame.data[41:43, 101:103].mean() == pytest.approx(40000, rel=0.02)
    columns = [slice(a.data.x0, a.data.x1) for a in frame.detector.amplifiers]
    means = [float(frame.data[50:, part].mean()) for part in columns]
    noise = np.sqrt(20000.0 / frame.data[50:, columns[0]].size)
    # the step from one amplifier to the next: gains differ by 5 to 9 per cent, levels by hundreds of ADU
    assert max(means) - min(means) < 0.001 * 20000
    assert np.std(means) < 6 * noise
    pull = (frame.data - light) / np.sqrt(frame.variance)
    assert pull[50:].std() == pytest.approx(1.0, abs=0.02)


def test_gains_ten_per_cent_apart_leave_no_step(tmp_path, rng):
    """Two amplifiers under a real header, the gain of one changed: the sky is flat to a thousandth."""
    _, _, header, shape = small("decam")
    header["GAINB"] = 1.1 * header["GAINA"]
    detector = Decam.detector_for(header, shape)
    light = simulate.photons(np.full(detector.trimmed_shape, 30000.0), rng=rng)
    path = simulate.raw_frame(header, detector, light, rng=rng, shape=shape, bias_levels=[900, 1400]).write(
        tmp_path / "raw.fits"
    )
    frame = larun.Frame.read(path).calibrate(without=WITHOUT)
    left, right = (frame.data[:, side].astype(float).mean() for side in (slice(0, 1024), slice(1024, 2048)))
    assert abs(left / right - 1) < 0.001


def test_saturation_is_each_amplifiers_own(tmp_path, rng):
    _, detector, header, shape = small("decam")
    levels = [a.saturation for a in detector.amplifiers]
    assert levels == [43266.0, 44935.0]
    # between the two levels: saturated in one amplifier only
    counts = 44000.0 - 1000.0
    light = np.full(detector.trimmed_shape, 10.0)
    for amplifier, placed in zip(detector.amplifiers, detector.trimmed().amplifiers, strict=True):
        light[50, placed.data.x0 + 10] = counts * amplifier.gain
    path = simulate.raw_frame(header, detector, light, rng=rng, shape=shape, bias_levels=1000.0).write(
        tmp_path / "raw.fits"
    )
    frame = larun.Frame.read(path).calibrate(without=WITHOUT)
    a, b = (frame.flags[50, placed.data.x0 + 10] & larun.flags.SATURATED for placed in frame.detector.amplifiers)
    assert a
    assert not b


def test_a_trimmed_frame_ignores_the_sections_of_its_parent():
    text = text_of("decam-calexp-0412037_10")
    detector = Decam.detector_for(text.header, text.shape)
    assert not detector.needs_trim
    assert len(detector.amplifiers) == 1


def test_one_channel_of_the_first_suprime_cam_has_its_overscan():
    header = text_of("suprimecam-CORR40535770").header
    raw = SuprimeCam.detector_for(header, (4100, 2080))
    assert tuple(raw.amplifiers[0].data) == (0, 4100, 32, 2080)
    assert tuple(raw.amplifiers[0].overscan) == (0, 4100, 0, 32)
    assert not SuprimeCam.detector_for(header, (4096, 2048)).needs_trim


def test_an_unknown_camera_column_is_refused_when_the_gain_is_needed(tmp_path):
    header = text_of("sdss-fpC-006377-g4-0399").header
    header["CAMCOL"] = 9
    path = tmp_path / "fpC.fits"
    simulate.raw_frame(header, larun.Detector.single((16, 16), gain=4.0, read_noise=5.0), np.full((16, 16), 400.0),
                       rng=np.random.default_rng(1), shape=(16, 16)).write(path)  # fmt: skip
    frame = larun.Frame.read(path)
    with pytest.raises(HeaderError, match="CAMCOL 9"):
        frame.calibrate()


def test_a_camera_is_a_small_class():
    import ast
    from pathlib import Path

    import larun.instruments

    for path in Path(larun.instruments.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert node.end_lineno - node.lineno < 60, path.name
