"""Cleaning flags what it touches, keeps data and noise together, and happens once; detection may be repeated."""

import numpy as np
import pytest

import larun
from larun import flags as fl
from larun.errors import AlreadyApplied, OptionError
from larun.simulate import cosmic_rays

WITHOUT = ("bias", "dark", "flat")


@pytest.fixture(scope="module")
def hit():
    """A calibrated frame of stars with FWHM 3.5, and where cosmic rays are."""
    rng = np.random.default_rng(18)
    y, x = np.indices((128, 128))
    light = np.full((128, 128), 200.0)
    for _ in range(25):
        x0, y0 = rng.uniform(5, 123, 2)
        light += rng.uniform(300, 4000) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.49**2))
    rays = cosmic_rays((128, 128), count=40, rng=rng)
    electrons = rng.poisson(light) + rays + 5.0 * rng.standard_normal(light.shape)
    electrons[100, 100] = 1e5
    raw = larun.Frame.from_arrays(electrons / 1.5, gain=1.5, read_noise=5.0, saturation=6e4)
    return raw.calibrate(without=WITHOUT), rays


STAR_SIZE = {"larun": {"fwhm": 3.5}, "astroscrappy": {}, "median": {"fwhm": 3.5}}
ENGINES = tuple(STAR_SIZE)


@pytest.mark.parametrize("engine", ENGINES)
def test_acceptance_18_unit_and_noise_stay_consistent(hit, engine):
    frame, rays = hit
    clean = frame.clean(engine=engine, **STAR_SIZE[engine])
    assert clean.unit == frame.unit == "electron"
    assert clean.detector == frame.detector
    touched = clean.data != frame.data
    cosmic = (clean.flags & fl.COSMIC) != 0
    assert cosmic.any()
    assert (cosmic[touched]).all()
    assert ((clean.flags[cosmic] & fl.INTERPOLATED) != 0).all()
    assert ((clean.flags[~cosmic] & fl.INTERPOLATED) == 0).all()
    assert (clean.flags[~cosmic] == frame.flags[~cosmic]).all()
    assert (clean.variance[~cosmic] == frame.variance[~cosmic]).all()
    assert np.isfinite(clean.variance).all()
    assert (clean.variance > 0).all()
    found = cosmic[rays > 100].mean()
    assert found > 0.8
    # a pixel that was replaced lies on the sky or the star again, within its own noise
    pull = (clean.data - (frame.data - rays))[cosmic & (rays > 0)] / np.sqrt(clean.variance[cosmic & (rays > 0)])
    assert np.median(np.abs(pull)) < 3
    assert clean.provenance.step.parameters["engine"] == engine
    assert clean.provenance.step.fitted["cosmic_pixels"] == cosmic.sum()


@pytest.mark.parametrize("engine", ENGINES)
def test_acceptance_18_without_replacing_it_only_flags(hit, engine):
    frame, _ = hit
    size = STAR_SIZE[engine]
    flagged, clean = frame.clean(engine=engine, **size, replace=False), frame.clean(engine=engine, **size)
    assert flagged.data.tobytes() == frame.data.tobytes()
    assert flagged.variance.tobytes() == frame.variance.tobytes()
    assert (((flagged.flags ^ clean.flags) & ~fl.INTERPOLATED) == 0).all()
    assert not (flagged.flags & fl.INTERPOLATED).any()
    assert ((flagged.flags & fl.COSMIC) != 0).any()


def test_acceptance_35_cleaning_and_calibrating_happen_once(hit):
    frame, _ = hit
    clean = frame.clean(fwhm=3.5)
    for again in (clean, frame.clean(fwhm=3.5, replace=False), clean.bin(2)):
        with pytest.raises(AlreadyApplied, match="clean"):
            again.clean()
    with pytest.raises(AlreadyApplied, match="calibrate"):
        clean.calibrate(without=WITHOUT)


def test_acceptance_35_detecting_and_measuring_again_is_fine(hit):
    frame, _ = hit
    one, two = frame.detect(fwhm=3.5), frame.detect(fwhm=3.5)
    assert one.identical(two)
    once = one.photometer((3.0, 5.0), unit="pixel")
    again = once.photometer((3.0, 5.0), unit="pixel")
    assert once.columns == again.columns
    for name in once.columns:
        np.testing.assert_array_equal(np.asarray(once[name]), np.asarray(again[name]))
    fewer = once.photometer((4.0,), unit="pixel")  # no stale columns of the apertures before
    assert "aperture_flux_2" not in fewer.columns
    assert fewer.meta["aperture_radii"] == [4.0]


def test_clean_needs_the_noise(hit):
    raw = larun.Frame.from_arrays(np.ones((30, 30)), gain=1.0, read_noise=3.0)
    with pytest.raises(OptionError, match="calibrate it first"):
        raw.clean()
    with pytest.raises(OptionError, match="engine='magic'"):
        hit[0].clean(engine="magic", fwhm=3.0)
    with pytest.raises(OptionError, match="sigma"):
        hit[0].clean(sigma=-1, fwhm=3.0)


def test_the_star_size_that_was_assumed_is_recorded(hit):
    frame, _ = hit
    measured = frame.clean()
    assert measured.provenance.step.parameters["fwhm"] is None
    assert measured.provenance.step.fitted["fwhm"] == pytest.approx(3.5, rel=0.1)
    assert frame.clean(fwhm=3.5).provenance.step.parameters["fwhm"] == 3.5


def test_options_of_detection_and_photometry_that_make_no_sense_raise(hit):
    frame, _ = hit
    for wrong in (
        lambda: frame.detect(method="luck"),
        lambda: frame.detect(threshold=-1),
        lambda: frame.detect(fwhm=0),
        lambda: frame.detect(mesh=0),
        lambda: frame.detect(fwhm=3.5).photometer(()),
        lambda: frame.detect(fwhm=3.5).photometer((-1.0,)),
        lambda: frame.detect(fwhm=3.5).photometer(unit="furlong"),
        lambda: frame.detect(fwhm=3.5).photometer(sky="blue"),
        lambda: frame.detect(fwhm=3.5).photometer(annulus=(5.0,)),
        lambda: frame.detect(fwhm=3.5).photometer(annulus=(8.0, 5.0)),
        lambda: frame.detect(fwhm=3.5).select(np.array([1, 2])),
        lambda: frame.photometer([[1.0, 2.0, 3.0]]),
    ):
        with pytest.raises(OptionError):
            wrong()


def test_acceptance_24_forced_photometry_at_the_edge_and_outside(hit):
    frame, _ = hit
    found = frame.photometer([[0.0, 60.0], [64.0, 64.0], [-40.0, 10.0], [np.nan, 3.0]], (3.0,), unit="pixel")
    assert len(found) == 4
    fraction, flux = found["area_fraction_1"], found["aperture_flux_1"].value
    assert 0.4 < fraction[0] < 0.65
    assert found["aperture_flags_1"][0] & fl.EDGE
    assert fraction[1] == pytest.approx(1)
    assert np.isfinite(flux[:2]).all()
    assert np.isnan(flux[2:]).all()


def test_select_keeps_what_is_chosen(hit):
    catalog = hit[0].detect(fwhm=3.5)
    bright = catalog.select(catalog["snr"] > 30)
    assert 0 < len(bright) < len(catalog)
    assert (bright["snr"] > 30).all()
    assert bright.image is catalog.image
    assert bright.provenance.step.operation == "select"
    said = catalog.select("snr > 30")
    np.testing.assert_array_equal(said["id"], bright["id"])
    assert said.provenance.step.parameters == {"mask": "snr > 30"}
    clear = catalog.select("flags & (SATURATED | COSMIC) == 0 and x < 64")
    assert (clear["x"].value < 64).all()
    assert not (clear["flags"] & (fl.SATURATED | fl.COSMIC)).any()
    with pytest.raises(OptionError, match=r"no column 'snrs' \(did you mean snr\?\)"):
        catalog.select("snrs > 3")


@pytest.mark.filterwarnings("ignore:.*too few stars to measure their size")
def test_nothing_to_find_is_an_empty_catalogue(tmp_path):
    rng = np.random.default_rng(4)
    frame = larun.Frame.from_arrays(rng.normal(100, 5, (64, 64)), variance=np.full((64, 64), 25.0), unit="electron")
    empty = frame.detect(threshold=8.0, fwhm=3.0).photometer()
    assert len(empty) == 0
    for suffix in ("ecsv", "fits"):
        back = larun.SourceCatalog.read(empty.write(tmp_path / f"none.{suffix}"))
        assert back.identical(empty)
    assert len(frame.detect(threshold=8.0)) == 0  # no star to take a FWHM from either
