"""The real night of the Nickel telescope, end to end, and against ccdproc and photutils."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import larun
from larun import flags as fl
from tests.conftest import real_data

NAMES = ("d1052", "d1059", "d1074")


@pytest.fixture(scope="module")
def night() -> larun.Night:
    return larun.Night(real_data("nickel"))


@pytest.fixture(scope="module")
def masters(night: larun.Night) -> larun.Masters:
    return night.masters()


@pytest.fixture(scope="module")
def m13(masters: larun.Masters) -> larun.Frame:
    return larun.Frame.read(real_data("nickel", "d1059.fits.fz")).calibrate(masters).clean()


def test_files_are_classified_although_the_headers_lie(night: larun.Night) -> None:
    assert [len(night.of(kind)) for kind in ("bias", "dark", "flat", "science")] == [10, 0, 3, 6]
    assert {item.filter for item in night.of("flat")} == {"V"}
    assert "EXPTIME=0" in night.of("bias")[0].evidence
    assert "sky flat" in night.of("flat")[0].evidence


def test_the_gain_of_the_header_is_not_believed() -> None:
    frame = larun.Frame.read(real_data("nickel", "d1059.fits.fz"))
    assert type(frame).__name__ == "Nickel"
    assert frame.detector.amplifiers[0].gain == pytest.approx(1.79)
    assert "mode" in frame.detector.sources["gain"]


def test_overscan_follows_the_drifting_level(masters: larun.Masters) -> None:
    """The biases drift from 1001 to 995 ADU; after overscan subtraction each agrees with the master."""
    levels = {}
    for row in next(iter(masters.of("bias"))).provenance.step.fitted["frames"]:
        levels[row["name"]] = row["overscan"][0]["level"]
    assert levels["d1001.fits.fz"] - levels["d1010.fits.fz"] > 4


@pytest.mark.parametrize("name", NAMES)
def test_calibrated_pixels_equal_ccdproc(name: str, masters: larun.Masters) -> None:
    import ccdproc
    from astropy import units as u
    from astropy.nddata import CCDData

    raw = larun.Frame.read(real_data("nickel", f"{name}.fits.fz"))
    ours = raw.calibrate(masters)
    bias, flat = masters.of("bias")[0], masters.of("flat")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ccdproc's own
        level = ours.provenance.step.fitted["overscan"][0]["level"]
        ccd = CCDData(raw.data.astype(float), unit="adu")
        ccd = ccdproc.trim_image(ccd[:, :1024]).subtract(level * u.adu)
        ccd = ccdproc.subtract_bias(ccd, CCDData(bias.data.astype(float), unit="adu"))
        ccd = ccdproc.gain_correct(ccd, 1.79 * u.electron / u.adu)
        ccd = ccdproc.flat_correct(ccd, CCDData(flat.data.astype(float), unit=""), norm_value=1.0)
    good = (ours.flags & (fl.BAD | fl.FLAT_INVALID | fl.NO_DATA)) == 0
    assert good.mean() > 0.99
    np.testing.assert_allclose(ours.data[good], ccd.data[good], rtol=1e-5, atol=1e-3)


def test_the_overscan_level_equals_a_plain_clipped_mean() -> None:
    from astropy.stats import sigma_clipped_stats

    raw = larun.Frame.read(real_data("nickel", "d1059.fits.fz"))
    frame = raw.calibrate(without=("bias", "flat"))
    plain = sigma_clipped_stats(raw.data[:, 1028:], sigma=4)[0]
    assert frame.provenance.step.fitted["overscan"][0]["level"] == pytest.approx(plain, abs=0.1)


def test_aperture_sums_equal_photutils(m13: larun.Frame) -> None:
    from photutils.aperture import CircularAperture, aperture_photometry

    found = m13.detect()
    table = found.photometer(radii=(3.0, 6.0), unit="pixel", sky="none").table
    clear = (table["area_fraction_2"] > 0.999999) & (np.asarray(table["aperture_flags_2"]) & fl.UNUSABLE == 0)
    clear = np.asarray(clear)
    assert clear.sum() > 800
    places = np.column_stack([found["x"].value, found["y"].value])[clear]
    for index, radius in ((1, 3.0), (2, 6.0)):
        peer = aperture_photometry(m13.data.astype(float), CircularAperture(places, radius), method="exact")
        ours = table[f"aperture_flux_{index}"].value[clear]
        np.testing.assert_allclose(ours, np.asarray(peer["aperture_sum"]), rtol=1e-6)


def test_m13_has_its_stars(m13: larun.Frame) -> None:
    sources = m13.detect().photometer()
    assert len(sources) >= 900
    assert 4.5 < sources.meta["fwhm"] < 7.5
    bright = sources["snr"] > 100
    assert np.isfinite(sources["mag_1"].value[bright]).mean() > 0.97


@pytest.mark.parametrize("name", NAMES)
def test_column_256_is_bad_and_gives_no_source(name: str, masters: larun.Masters) -> None:
    frame = larun.Frame.read(real_data("nickel", f"{name}.fits.fz")).calibrate(masters).clean()
    assert (frame.flags[:, 256] & fl.BAD).all()
    assert not (frame.flags[:, 256] & fl.SATURATED).any()
    on_it = np.abs(frame.detect()["x"].value - 256) < 0.5
    assert on_it.sum() <= 2


def test_the_long_exposure_is_cleaned_without_touching_stars(masters: larun.Masters) -> None:
    frame = larun.Frame.read(real_data("nickel", "d1074.fits.fz")).calibrate(masters)
    cleaned = frame.clean()
    cosmic = (cleaned.flags & fl.COSMIC) != 0
    assert 300 < cosmic.sum() < 5000
    stars = cleaned.detect(threshold=20)
    table = stars.table[(stars["fwhm"].value > 4) & (stars["fwhm"].value < 9)]
    assert len(table) >= 25
    touched = 0
    for x, y in zip(table["x"].value.round().astype(int), table["y"].value.round().astype(int), strict=True):
        touched += bool(cosmic[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any())
    assert touched <= 1


SCRIPT = """
import larun

class Mine({base}):
    gain = 1.8

    @classmethod
    def matches(cls, header):
        return str(header.get("INSTRUME", "")).startswith("Nickel")

if __name__ == "__main__":
    frame = larun.Frame.read({path!r})
    sources = frame.calibrate(larun.Night({folder!r}).masters()).clean().detect().photometer()
    print(type(frame).__name__, type(sources.image).__name__, len(sources))
"""


@pytest.mark.parametrize("base", ["larun.instruments.nickel.Nickel"])
def test_the_chain_works_in_a_script_that_defines_its_own_camera(base: str, tmp_path: Path) -> None:
    script = tmp_path / "night.py"
    path = real_data("nickel", "d1059.fits.fz")
    text = SCRIPT.format(base=base, path=str(path), folder=str(path.parent))
    script.write_text("import larun.instruments.nickel\n" + text)
    done = subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read, measured, count = done.stdout.split()
    assert (read, measured) == ("Mine", "Mine")
    assert int(count) >= 900
