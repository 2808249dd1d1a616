"""One real night of the Nickel: headers that lie, masters, and the same numbers as ccdproc and photutils."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.errors import LarunWarning
from larun.instruments.nickel import Nickel
from tests.conftest import real_data


@pytest.fixture(scope="module")
def folder():
    return real_data("nickel")


@pytest.fixture(scope="module")
def night(folder):
    return larun.Night(folder)


@pytest.fixture(scope="module")
def masters(night):
    return night.masters()


@pytest.fixture(scope="module")
def science(night):
    return [item.path for item in night.of("science")]


def test_kinds_come_from_the_evidence(night):
    kinds = {item.path.name.split(".")[0]: item for item in night.files}
    assert len(kinds) == 19
    for number in range(1001, 1011):
        assert kinds[f"d{number}"].kind == "bias"
        assert kinds[f"d{number}"].evidence == "OBSTYPE='DARK' with EXPTIME=0"
    for number in range(1035, 1038):
        assert kinds[f"d{number}"].kind == "flat"
        assert "but OBJECT=" in kinds[f"d{number}"].evidence
    science = [item for item in kinds.values() if item.kind == "science"]
    assert len(science) == 6
    assert {item.filter for item in science} == {"V"}
    assert all(item.camera is Nickel for item in kinds.values())


def test_the_detector_is_the_measured_one_and_says_so(folder):
    frame = larun.Frame.read(folder / "d1059.fits.fz")
    assert type(frame) is Nickel
    amplifier = frame.detector.amplifiers[0]
    assert (amplifier.gain, amplifier.read_noise) == (1.79, 10.4)
    assert amplifier.data.shape == (1024, 1024)
    assert amplifier.overscan == (0, 1024, 1024, 1056)
    assert "GAIN = 1 is a mode" in frame.detector.sources["gain"]
    assert frame.required == {"bias", "flat"}
    assert larun.Frame.read(folder / "d1059.fits.fz", gain=1.7).detector.amplifiers[0].gain == 1.7


def test_the_measured_gain_agrees_with_the_flats(folder, masters):
    """Photon transfer on two flats: what the class says is within 5 % of what these pixels say."""
    one, two = (larun.Frame.read(folder / f"d{n}.fits.fz") for n in (1035, 1036))
    planes = []
    for frame in (one, two):
        level = np.median(frame.data[:, 1032:])
        planes.append(
            (frame.data[300:700, 300:700] - level - masters.of("bias")[0].data[300:700, 300:700]).astype(float)
        )
    ratio = np.median(planes[0] / planes[1])
    difference = planes[0] - ratio * planes[1]
    noise = (np.median(np.abs(difference - np.median(difference))) * 1.4826) ** 2
    read = 2 * (10.4 / 1.79) ** 2
    gain = (planes[0].mean() + ratio**2 * planes[1].mean()) / (noise - read)
    assert gain == pytest.approx(Nickel.gain, rel=0.05)


def test_dead_columns_are_bad_everywhere(folder, masters, science):
    for master in masters:
        for column in Nickel.bad_columns:
            assert ((master.flags[:, column] & fl.BAD) != 0).all()
    for path in [*science[:2], folder / "d1001.fits.fz", folder / "d1035.fits.fz"]:
        raw = larun.Frame.read(path)
        assert ((raw.flags[:, 256] & fl.BAD) != 0).all()
        assert ((raw.flags[:, 256] & fl.SATURATED) == 0).all()  # 65535 there is no star
    frame = larun.Frame.read(science[0]).calibrate(masters)
    assert ((frame.flags[:, 256] & fl.BAD) != 0).all()
    assert frame.unusable[:, 256].all()
    assert np.isfinite(frame.data).all()


def test_masters_are_as_good_as_their_frames_allow(masters):
    bias, flat = masters.of("bias")[0], masters.of("flat")[0]
    good = bias.flags == 0
    assert (bias.count, flat.count) == (10, 3)
    scatter = np.diff(bias.data, axis=1)[good[:, 1:] & good[:, :-1]]
    assert float(np.median(np.abs(scatter))) * 1.4826 < 1.6 * np.sqrt(2) * float(np.median(bias.uncertainty[good]))
    assert float(np.median(flat.data[~flat.unusable])) == pytest.approx(1, abs=1e-3)
    assert 0.8 < bias.provenance.step.fitted["inflation"] < 1.1
    assert 0.9 < flat.provenance.step.fitted["inflation"] < 1.1


def test_the_overscan_follows_the_drift(folder, masters):
    """The bias level of single frames differs by tens of ADU: without the overscan the sky would be off as much."""
    levels = {}
    for name in ("d1059", "d1074"):
        raw = larun.Frame.read(folder / f"{name}.fits.fz")
        frame = raw.calibrate(masters)
        levels[name] = frame.provenance.step.fitted["overscan"][0]["level"]
        assert levels[name] == pytest.approx(np.median(raw.data[:, 1032:]), abs=0.5)
    assert abs(levels["d1059"] - levels["d1074"]) > 20


def test_calibrated_pixels_equal_those_of_ccdproc(folder, masters, science):
    """Three frames, the same masters and the same overscan level through ccdproc, to 1e-5."""
    import ccdproc
    from astropy import units as u
    from astropy.nddata import CCDData

    bias, flat = masters.of("bias")[0], masters.of("flat")[0]
    master_bias = CCDData(bias.data.astype(float), unit="adu")
    master_flat = CCDData(np.where(flat.data > 0, flat.data, 1.0).astype(float), unit="")
    worst = 0.0
    for path in (folder / "d1059.fits.fz", folder / "d1074.fits.fz", science[0]):
        raw = larun.Frame.read(path)
        frame = raw.calibrate(masters)
        level = frame.provenance.step.fitted["overscan"][0]["level"]
        ccd = CCDData(raw.data.astype(float), unit="adu")
        overscan = CCDData(np.full((1024, 32), level), unit="adu")
        ccd = ccdproc.subtract_overscan(ccd, overscan=overscan, overscan_axis=1)
        ccd = ccdproc.trim_image(ccd, fits_section="[1:1024,1:1024]")
        ccd = ccdproc.subtract_bias(ccd, master_bias)
        ccd = ccdproc.gain_correct(ccd, Nickel.gain * u.electron / u.adu)
        ccd = ccdproc.flat_correct(ccd, master_flat, norm_value=1.0)
        usable = ~frame.unusable
        assert usable.mean() > 0.98
        ours, theirs = frame.data[usable].astype(float), ccd.data[usable]
        relative = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0)
        worst = max(worst, float(relative.max()))
        assert str(ccd.unit) == "electron"
    assert worst < 1e-5


def test_the_variance_equals_that_of_ccdproc(folder, masters):
    import ccdproc
    from astropy import units as u
    from astropy.nddata import CCDData, StdDevUncertainty

    bias, flat = masters.of("bias")[0], masters.of("flat")[0]
    raw = larun.Frame.read(folder / "d1059.fits.fz")
    frame = raw.calibrate(masters)
    level = frame.provenance.step.fitted["overscan"][0]["level"]
    signal = raw.data[:, :1024].astype(float) - level - bias.data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ccdproc tells of negative pixels
        ccd = ccdproc.create_deviation(
            CCDData(signal, unit="adu"), gain=1.79 * u.electron / u.adu, readnoise=10.4 * u.electron, disregard_nan=True
        )
    ccd = ccdproc.gain_correct(ccd, 1.79 * u.electron / u.adu)
    noise = np.hypot(ccd.uncertainty.array, 1.79 * bias.uncertainty) / flat.data
    ccd = CCDData(ccd.data / flat.data, unit="electron", uncertainty=StdDevUncertainty(noise))
    relative = flat.uncertainty / flat.data * ccd.data
    expected = np.hypot(ccd.uncertainty.array, relative)
    usable = ~frame.unusable
    np.testing.assert_allclose(frame.uncertainty[usable], expected[usable], rtol=1e-4)


@pytest.fixture(scope="module")
def m13(folder, masters):
    return larun.Frame.read(folder / "d1059.fits.fz").calibrate(masters).clean()


def test_aperture_sums_equal_those_of_photutils(m13):
    from photutils.aperture import CircularAperture, aperture_photometry

    catalog = m13.detect()
    radii = (3.0, 5.5, 9.0)
    measured = catalog.photometer(radii, unit="pixel", sky="none")
    positions = np.column_stack([measured["x"].value, measured["y"].value])
    theirs = aperture_photometry(
        m13.data.astype(float),
        [CircularAperture(positions, radius) for radius in radii],
        error=m13.uncertainty.astype(float),
        mask=None,
        method="exact",
    )
    assert len(catalog) > 500
    for index in range(3):
        # photutils knows no flags: compare the stars whose aperture is whole and untouched
        clean = (measured[f"aperture_flags_{index + 1}"] & fl.UNUSABLE) == 0
        clean &= measured[f"area_fraction_{index + 1}"] > 1 - 1e-9
        assert clean.sum() > 300
        ours = measured[f"aperture_flux_{index + 1}"].value[clean]
        sums = np.asarray(theirs[f"aperture_sum_{index}"])[clean]
        np.testing.assert_allclose(ours, sums, rtol=1e-6)
        errors = np.asarray(theirs[f"aperture_sum_err_{index}"])[clean]
        # photutils adds variances with weight once, larun with the square of the overlap: at most that much less
        ratio = measured[f"aperture_flux_error_{index + 1}"].value[clean] / errors
        assert (ratio <= 1 + 1e-6).all()
        assert (ratio > 0.9).all()


def test_m13_has_its_stars(m13):
    catalog = m13.detect().photometer()
    assert 700 < len(catalog) < 4000
    usable = (catalog["flags"] & fl.UNUSABLE) == 0
    assert np.isfinite(catalog["aperture_flux_2"].value[usable]).mean() > 0.95
    assert catalog.meta["fwhm"] == pytest.approx(6.0, abs=0.6)


def test_cleaning_d1074_leaves_the_stars_alone(folder, masters):
    """600 s of cosmic rays: many are found, and no core of an unsaturated star is touched."""
    frame = larun.Frame.read(folder / "d1074.fits.fz").calibrate(masters)
    clean = frame.clean()
    cosmic = (clean.flags & fl.COSMIC) != 0
    assert 500 < cosmic.sum() < 20000
    stars = clean.detect(threshold=8.0)
    fwhm = stars.meta["fwhm"]
    good = (
        ((stars["flags"] & (fl.UNUSABLE & ~fl.COSMIC)) == 0)
        & (np.abs(stars["fwhm"].value / fwhm - 1) < 0.3)
        & (stars["ellipticity"] < 0.3)
    )
    x, y = (np.rint(stars[axis].value[good]).astype(int) for axis in "xy")
    inside = (x > 1) & (x < 1022) & (y > 1) & (y < 1022)
    x, y = x[inside], y[inside]
    assert len(x) > 40
    touched = np.array([cosmic[b - 1 : b + 2, a - 1 : a + 2].any() for a, b in zip(x, y, strict=True)])
    assert touched.sum() <= 1  # a ray may well lie on one of them
    before, after = frame.data[y, x], clean.data[y, x]
    assert (before == after)[~touched].all()


CHAIN = """
import sys
import larun

folder = sys.argv[1]


class MyNickel(larun.instruments.nickel.Nickel):
    '''The same camera, with a mind of its own.'''

    read_noise = 10.5

    @classmethod
    def matches(cls, header):
        return super().matches(header)


if __name__ == "__main__":
    masters = larun.Night(folder).masters()
    sources = larun.Frame.read(folder + "/d1059.fits.fz").calibrate(masters).clean().detect().photometer()
    print(type(sources.image).__name__, len(sources), sources.image.raw_detector.amplifiers[0].read_noise)
    sources.write(sys.argv[2])
    print(sources.provenance)
"""


def run(script, *arguments):
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_chain_as_written_in_a_script(folder, tmp_path, m13):
    script = tmp_path / "chain.py"
    script.write_text(
        "import sys, larun\n"
        "folder = sys.argv[1]\n"
        "sources = larun.Frame.read(folder + '/d1059.fits.fz').calibrate("
        "larun.Night(folder).masters()).clean().detect().photometer()\n"
        "sources.write(sys.argv[2])\n"
        "print(sources.provenance)\n"
    )
    text = run(script, str(folder), str(tmp_path / "m13.ecsv"))
    assert text.startswith("photometer v")
    for word in ("detect v", "clean v", "calibrate v", "master_bias v", "master_flat v", "file d1059.fits.fz"):
        assert word in text
    catalog = larun.SourceCatalog.read(tmp_path / "m13.ecsv")
    assert catalog.identical(m13.detect().photometer())  # another process, the same bits and ids


def test_the_chain_in_a_subclass_defined_in_the_script(folder, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(CHAIN.replace("import larun\n", "import larun\nimport larun.instruments.nickel\n", 1))
    text = run(script, str(folder), str(tmp_path / "m13.fits"))
    name, count, noise = text.split("\n")[0].split()
    assert (name, noise) == ("MyNickel", "10.5")
    assert int(count) > 500
    assert len(larun.SourceCatalog.read(tmp_path / "m13.fits")) == int(count)


def test_nothing_in_the_chain_warns(folder, masters):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LarunWarning)
        larun.Frame.read(folder / "d1059.fits.fz").calibrate(masters)
