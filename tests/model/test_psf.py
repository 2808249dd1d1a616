"""The point-spread function of an image: which stars, how it varies, what it refuses, and that it travels."""

import pickle

import numpy as np
import pytest

import larun
from larun.errors import CatalogError, FileError, OptionError

SIDE, SKY, READ_NOISE = 320, 150.0, 5.0


def field(seed=1, *, flux=4e4, step=28, fwhm=3.0, beta=3.0, faint=0, tilt=0.0):
    """Stars on a grid of which some are wider to the right where ``tilt`` is given, faint ones between them."""
    rng = np.random.default_rng(seed)
    y, x = (part.ravel() for part in np.mgrid[20 : SIDE - 12 : step, 20 : SIDE - 12 : step].astype(float))
    x, y = (part + rng.uniform(-0.5, 0.5, x.size) for part in (x, y))
    light = np.zeros((SIDE, SIDE))
    width = fwhm * (1 + tilt * (x / SIDE - 0.5))
    for one in np.unique(width):
        own = width == one
        light += larun.simulate.render((SIDE, SIDE), x[own], y[own], np.full(own.sum(), flux), fwhm=one, beta=beta)
    if faint:
        more = rng.uniform(5, SIDE - 5, (2, faint))
        light += larun.simulate.render((SIDE, SIDE), *more, rng.uniform(1000, 8000, faint), fwhm=fwhm, beta=beta)
    data = larun.simulate.noisy(light + SKY, read_noise=READ_NOISE, rng=rng)
    variance = np.maximum(data, 0) + READ_NOISE**2
    return larun.Frame.from_arrays(data, variance=variance, unit="electron"), x, y


@pytest.fixture(scope="module")
def frame():
    return field()[0]


@pytest.fixture(scope="module")
def psf(frame):
    return frame.psf()


def test_it_says_which_stars_it_used_and_what_it_is(psf):
    assert psf.converged
    assert psf.order == 0
    assert abs(psf.fwhm - 3.0) < 0.04
    assert 0.9 < psf.chi2 < 1.1
    table = psf.table
    assert np.array_equal(table["used"], table["reason"] == "")
    assert table["used"].sum() >= 100
    assert "converged" in psf.says
    assert "less than 0.5% of the peak is left" in psf.says


def test_a_stamp_holds_the_light_of_an_aperture(psf):
    stamp = psf.at(100.3, 80.8)
    assert stamp.shape == (2 * psf.radius - 1, 2 * psf.radius - 1)
    assert abs(stamp.sum() - 1) < 0.01
    middle = psf.radius - 1
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (middle, middle)
    assert stamp[middle, middle + 1] > stamp[middle, middle - 1]  # the star is right of the middle of its pixel
    with pytest.raises(OptionError, match="numbers of pixels"):
        psf.at(np.nan, 3)


def test_fluxes_are_those_of_the_aperture_magnitudes_are_corrected_to(frame, psf):
    measured = frame.detect().photometer(sky="background")
    same = psf["x"].value - measured["x"].value
    assert np.nanmax(np.abs(same)) < 1
    ratio = psf["flux_psf"].value / 10 ** (-0.4 * measured["mag_total"].value)
    assert abs(np.nanmedian(ratio) - 1) < 0.01


def test_analytic_profiles_are_integrated_over_pixels(frame):
    moffat = frame.psf(model="moffat")
    assert abs(moffat.fwhm - 3.0) < 0.03
    assert moffat.model == "moffat"
    assert 0.9 < moffat.chi2 < 1.1
    gaussian = frame.psf(model="gaussian")
    assert gaussian.chi2 > 2 * moffat.chi2
    assert "of the peak is left of the stars" in gaussian.says
    with pytest.raises(OptionError, match="the same everywhere"):
        frame.psf(model="moffat", order=1)
    with pytest.raises(OptionError, match="model='airy'"):
        frame.psf(model="airy")


def test_it_varies_where_the_stars_do():
    image, _, _ = field(2, tilt=0.25, flux=8e4)
    psf = image.psf()
    assert psf.order >= 1
    middle = psf.radius - 1
    left, right = psf.at(20.0, 160.0)[middle, middle], psf.at(300.0, 160.0)[middle, middle]
    true = ((1 + 0.25 * (300 / SIDE - 0.5)) / (1 + 0.25 * (20 / SIDE - 0.5))) ** 2
    assert 0.8 < np.log(left / right) / np.log(true) < 1.05
    flat = image.psf(order=0)
    assert flat.order == 0
    assert flat.chi2 > 1.3 * psf.chi2


def test_what_the_data_cannot_give_is_refused(frame):
    few = frame.detect()
    with pytest.raises(CatalogError, match="it needs 6; choose fainter stars"):
        frame.psf(few.select(np.arange(len(few)) < 3))
    with pytest.raises(CatalogError, match="order 2: it needs 36"):
        frame.psf(few.select(np.arange(len(few)) < 20), order=2)
    with pytest.raises(OptionError, match="oversampling"):
        frame.psf(options={"oversampling": 20})


def test_it_is_written_read_pickled_and_replayed_the_same(psf, tmp_path):
    path = psf.write(tmp_path / "m13.fits")
    again = larun.PSF.read(path)
    assert again.identical(psf)
    carried = pickle.loads(pickle.dumps(psf))
    assert carried.identical(psf)
    for one in (psf, again, carried):
        for array in (one.function.nodes, one.residual, one.chi2_map):
            assert not array.flags.writeable
    assert larun.audit(path).passed if hasattr(larun.Audit, "passed") else larun.audit(path)
    with pytest.raises(FileError, match="exists"):
        psf.write(path)
    with pytest.raises(OptionError, match=r"end its name in \.fits"):
        psf.write(tmp_path / "m13.ecsv")


def test_a_changed_file_is_found_out(psf, tmp_path):
    path = psf.write(tmp_path / "m13.fits")
    content = bytearray(path.read_bytes())
    at = content.index(b"EXTNAME = 'PSF") + 2880 * 3
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(larun.errors.CorruptProduct):
        larun.PSF.read(path)


def test_it_is_made_again_from_its_record(frame, tmp_path):
    from astropy.io import fits

    raw = tmp_path / "raw"
    raw.mkdir()
    header = fits.Header({"EXPTIME": 10.0, "GAIN": 1.0, "RDNOISE": 5.0, "OBJECT": "field", "IMAGETYP": "object"})
    fits.writeto(raw / "a.fits", np.round(frame.data).astype(np.int16), header)
    made = larun.Frame.read(raw / "a.fits")
    for psf in (made.psf(model="moffat"), made.psf(made.detect(threshold=8.0), options={"most": 60})):
        path = psf.write(tmp_path / "psf.fits", overwrite=True)
        found = larun.replay(path, raw)
        assert found.equal, found


def test_neighbours_are_subtracted_in_a_crowd():
    image, _, _ = field(3, faint=600)
    psf = image.psf()
    assert "neighbours were subtracted" in psf.says
    assert abs(psf.fwhm / 3.0 - 1) < 0.05


def test_its_picture(psf, tmp_path):
    from larun import plots

    assert plots.save(plots.show_psf(psf), tmp_path / "psf.png").stat().st_size > 10_000


def test_its_file_is_known_for_what_it_is_and_drawn(psf, tmp_path):
    from larun.report.inspect import describe
    from tests.cli.conftest import run_larun

    path = psf.write(tmp_path / "m13.fits")
    assert describe(path)["class"].endswith(":PSF")
    assert run_larun("plot", path, "-o", tmp_path / "psf.png").code == 0
    assert (tmp_path / "psf.png").read_bytes().startswith(b"\x89PNG")
    assert run_larun("plot", path, "--flags").code == 2
