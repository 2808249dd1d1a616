"""The cameras on their own real frames."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import flags as fl
from larun.errors import AlreadyApplied
from larun.instruments.hst import Wfc3
from larun.instruments.lco import Sinistro
from larun.instruments.saao import Ste3
from larun.instruments.sbig import Sbig
from larun.instruments.sdss import SdssFpc
from tests.conftest import real_data

WITHOUT = ("bias", "dark", "flat")


def scatter(values):
    """Standard deviation of what a clip at 3 σ leaves, made good for the clip (whole numbers upset a median)."""
    for _ in range(10):
        values = values[np.abs(values - values.mean()) < 3 * values.std()]
    return float(values.std()) / 0.9866


# -- HST -----------------------------------------------------------------------------------------------------------


def test_hst_errors_and_flags_come_along():
    path = real_data("hst", "pluto1-dq-with-cosmics.fits.gz")
    frame = larun.Frame.read(path)
    with fits.open(path) as hdus:
        error, said = hdus["ERR"].data.astype(np.float32), hdus["DQ"].data
    assert type(frame) is Wfc3
    assert (frame.unit, frame.filter, frame.exposure, frame.kind) == ("electron", "F606W", 479.0, "science")
    assert np.array_equal(frame.variance, error**2)
    assert int((frame.flags & fl.COSMIC != 0).sum()) == int((said & 4096 != 0).sum()) == 540
    assert int((frame.flags & fl.BAD != 0).sum()) == int((said & (1 | 2 | 4 | 8 | 16 | 128) != 0).sum())
    names = {flag.name: flag.value for flag in frame.instrument_flags}
    for name, bit in {"UNSTABLE": 32, "WARM": 64, "TRAP": 1024, "GHOST": 16384}.items():
        assert int((frame.flags & names[name] != 0).sum()) == int((said & bit != 0).sum())
    assert frame.wcs is not None
    assert frame.wcs.sip is not None


def test_hst_frames_are_calibrated_already(tmp_path):
    frame = larun.Frame.read(real_data("hst", "pluto1.fits.gz"))
    assert frame.calibrated
    with pytest.raises(AlreadyApplied, match="calibrated already by its observatory"):
        frame.calibrate()
    assert larun.Frame.read(frame.write(tmp_path / "x.fits")).identical(frame)


def test_a_cosmic_ray_filter_spares_the_undersampled_stars_of_hst():
    raw = larun.Frame.read(real_data("hst", "pluto1.fits.gz"))
    clean = raw.clean()
    hit = int((clean.flags & fl.COSMIC != 0).sum())
    assert 100 < hit < 0.03 * raw.data.size
    sources = clean.detect(threshold=10)
    assert len(sources) > 5


def test_a_night_of_calibrated_frames_goes_on_from_there(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "pluto.fits.gz").symlink_to(real_data("hst", "pluto1.fits.gz"))
    night = larun.Night(tmp_path / "raw")
    summary = night.reduce(tmp_path / "out")
    assert [row.status for row in summary.rows] == ["done"]
    steps = [n.step.operation for n in larun.Frame.read(tmp_path / "out/frames/pluto.fits").provenance.line() if n.step]
    assert "calibrate" not in steps
    assert [row.status for row in night.reduce(tmp_path / "out").rows] == ["skipped"]


# -- SDSS ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["004192-g4-0300", "004192-r4-0300", "006377-g4-0399", "006377-r4-0399"])
def test_sdss_soft_bias_goes_and_the_noise_is_right(name):
    frame = larun.Frame.read(real_data("sdss", f"fpC-{name}.fit.gz"))
    assert type(frame) is SdssFpc
    assert frame.exposure == 53.907456
    made = frame.calibrate()
    sky = made.background()
    level = {"004192-g4-0300": 95.4, "004192-r4-0300": 145.2, "006377-g4-0399": 75.4, "006377-r4-0399": 119.8}[name]
    gain = frame.detector.amplifiers[0].gain
    assert float(np.median(made.data)) / gain == pytest.approx(level, rel=0.02)
    pull = ((made.data - sky.level) / np.sqrt(made.variance))[~made.unusable]
    assert scatter(pull) == pytest.approx(1.0, abs=0.06)  # sources that are not seen add a little


# -- SBIG ----------------------------------------------------------------------------------------------------------


def test_sbig_lights_need_their_darks_only(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    folder = real_data("tres1")
    for name in ("001d", "003d", "005d", "007d", "009d", "020", "025"):
        (raw / f"tres1-{name}.fit.fz").symlink_to(folder / f"tres1-{name}.fit.fz")
    night = larun.Night(raw)
    assert (len(night.of("dark")), len(night.of("science"))) == (5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = night.reduce(tmp_path / "out")
    assert [row.message for row in summary.failed] == []
    row = next(row for row in summary.rows if row.name == "tres1-020")
    assert row.sources > 200
    frame = larun.Frame.read(tmp_path / "out" / "frames" / "tres1-020.fits")
    assert type(frame) is Sbig
    light = fits.getdata(folder / "tres1-020.fit.fz").astype(float)
    dark = np.median([fits.getdata(folder / f"tres1-{n}d.fit.fz") for n in ("001", "003", "005", "007", "009")], axis=0)
    assert float(np.median(frame.data)) == pytest.approx(0.78 * float(np.median(light - dark)), rel=0.01)


# -- SAAO ----------------------------------------------------------------------------------------------------------


def test_ste3_raw_and_trimmed_frames_share_their_header():
    raw = larun.Frame.read(real_data("ste3", "a8280271.fits.gz"))
    trimmed = larun.Frame.read(real_data("kb13475", "AKB13475I0100.fits.fz"))
    assert type(raw) is type(trimmed) is Ste3
    assert tuple(raw.detector.amplifiers[0].data) == (0, 520, 16, 528)
    assert tuple(raw.detector.amplifiers[0].overscan) == (0, 520, 3, 13)
    assert not trimmed.detector.needs_trim
    assert "already trimmed" in trimmed.detector.sources["sections"]
    assert raw.criteria["temperature"] == pytest.approx(180.2 - 273.15)
    level = float(np.median(raw.data[:, 3:13]))
    made = raw.calibrate(without=WITHOUT)
    assert made.shape == (520, 512)
    assert float(np.median(made.data)) == pytest.approx(1.9 * (float(np.median(raw.data[:, 16:528])) - level), rel=0.02)


# -- LCO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "gain", "exposure", "saturation"),
    [
        ("coj1m011-fl08-20151216-0049-b00", "bias", 2.01, 0.0, np.inf),
        ("coj1m011-fl08-20151216-0083-d00", "dark", 2.01, 900.0, np.inf),
        ("cpt1m012-fl10-20151216-0073-e00", "science", 3.3, 15.0, 47500.0),
    ],
)
def test_single_planes_of_a_sinistro(name, kind, gain, exposure, saturation):
    frame = larun.Frame.read(real_data("lco", f"{name}.fits.fz"))
    assert type(frame) is Sinistro
    assert (frame.kind, frame.exposure, frame.shape) == (kind, exposure, (1024, 1040))
    (amplifier,) = frame.detector.amplifiers
    assert (amplifier.gain, amplifier.saturation) == (gain, saturation)
    assert frame.criteria["binning"] == [2, 2]
    # light ends where the overscan begins: the columns beyond 1024 of the exposure hold the bias level
    assert tuple(amplifier.overscan) == (0, 1024, 1024, 1040)
    level = float(np.median(frame.data[:, 1024:]))
    made = frame.calibrate(without=WITHOUT)
    assert made.shape == (1024, 1024)
    assert float(np.median(made.data)) == pytest.approx(gain * (float(np.median(frame.data[:, :1024])) - level), abs=6)
