"""What a user is likely to get wrong is refused, in words, and defaults do no harm."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

import larun
from larun import flags as fl
from larun.errors import CatalogError, FileError, HeaderError, NoMatchingMaster, OptionError, UnitMismatch
from larun.simulate import render

NOTHING = ("bias", "dark", "flat")


def raw_field(seed: int = 1, shape: tuple[int, int] = (160, 180)) -> larun.Frame:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(12, shape[1] - 12, 25), rng.uniform(12, shape[0] - 12, 25)
    light = render(shape, x, y, rng.uniform(2e3, 2e4, 25), fwhm=3.0)
    counts = (rng.poisson(light + 200) + rng.normal(0, 5, shape)) / 2 + 0
    return larun.Frame.from_arrays(counts, gain=2.0, read_noise=5.0)


@pytest.fixture(scope="module")
def frame() -> larun.Frame:
    return raw_field().calibrate(without=NOTHING)


def test_the_default_annulus_lies_beyond_any_aperture(frame: larun.Frame) -> None:
    """Radii in pixels must not leave the annulus where it would be in FWHM."""
    found = frame.detect(threshold=20)
    small = found.photometer(radii=(4.0,), unit="pixel").table
    fwhm = found.photometer(radii=(4.0 / found.meta["fwhm"],)).table
    assert np.allclose(small["sky"].value, fwhm["sky"].value, equal_nan=True)
    wide = found.photometer(radii=(4.0, 30.0), unit="pixel").table
    assert not np.allclose(wide["sky"].value, small["sky"].value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"annulus": (3.0, 5.0), "radii": (4.0,)},
        {"annulus": (5.0,)},
        {"radii": (3.0, 3.0)},
        {"radii": "3,4"},
        {"radii": (-1.0,)},
        {"radii": ()},
        {"sky": "blue"},
        {"unit": "arcsec"},
    ],
)
def test_photometry_refuses_what_makes_no_sense(frame: larun.Frame, wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        frame.detect(threshold=20).photometer(**wrong)


def test_a_crowd_is_corrected_to_the_largest_aperture_in_which_stars_are_alone() -> None:
    rng = np.random.default_rng(5)
    shape = (400, 400)
    x, y = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(15, 390, 17), np.arange(15, 390, 17)))
    x, y = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size)
    light = render(shape, x, y, np.full(x.size, 3e4), fwhm=3.0)
    counts = rng.poisson(light + 200) + rng.normal(0, 5, shape)
    crowd = larun.Frame.from_arrays(counts, gain=1.0, read_noise=5.0).calibrate(without=NOTHING)
    meta = crowd.detect(fwhm=3.0).photometer((1.0, 1.5, 2.5, 5.0)).meta
    assert meta["aperture_correction_stars"] > 100
    assert meta["aperture_correction_radius"] < meta["aperture_radii"][-1]


def test_known_bad_pixels_reach_the_science_frame_without_any_master() -> None:
    raw = raw_field()
    mask = np.zeros(raw.shape)
    mask[10, 20] = 1
    made = raw.calibrate(without=NOTHING, bad_pixels=mask)
    assert np.argwhere(made.flags & fl.BAD).tolist() == [[10, 20]]
    assert made.provenance.parent("bad_pixels") is not None
    assert made.provenance.id != raw.calibrate(without=NOTHING).provenance.id
    with pytest.raises(OptionError, match="shape"):
        raw.calibrate(without=NOTHING, bad_pixels=mask[:-1])


def test_folders_of_masters_that_are_not_there_are_errors(tmp_path) -> None:
    with pytest.raises(FileError, match="no such folder"):
        larun.Masters.read(tmp_path / "nowhere")
    with pytest.raises(OptionError, match="no masters"):
        larun.Masters.read(tmp_path)


def test_a_word_for_the_overscan_is_refused_with_the_right_type() -> None:
    with pytest.raises(OptionError, match="OverscanOptions"):
        raw_field().calibrate(without=NOTHING, overscan="mean")


def test_a_misspelt_requirement_is_noticed_when_the_class_is_made() -> None:
    with pytest.raises(OptionError, match="darks"):
        type("Typo", (larun.Frame,), {"required": frozenset({"darks"})})
    with pytest.raises(OptionError, match="tuple"):
        type("Text", (larun.Frame,), {"keywords": {"exposure": "EXPTIME"}})


def test_a_camera_that_fails_to_match_is_named(tmp_path, monkeypatch) -> None:
    from larun.model import registry

    class Careless(larun.Frame):
        @classmethod
        def matches(cls, header):
            return header["NOPE"] == 1

    path = tmp_path / "raw.fits"
    fits.PrimaryHDU(np.ones((8, 8), np.int16)).writeto(path)
    try:
        with pytest.raises(HeaderError, match=r"Careless.matches failed.*header.get"):
            larun.Frame.read(path)
    finally:
        registry._CLASSES.pop(registry.name_of(Careless))


def test_a_catalogue_accepts_only_the_image_it_was_measured_on(frame: larun.Frame) -> None:
    catalog = frame.detect()
    assert catalog.attach(frame).image is frame
    cleaned = frame.clean()
    with pytest.raises(CatalogError):
        cleaned.detect().attach(frame)
    for wrong in (catalog, "frame.fits", raw_field(2)):
        with pytest.raises(CatalogError):
            catalog.attach(wrong)


def test_numpy_sees_the_data_and_never_an_array_of_images(frame: larun.Frame) -> None:
    assert np.median(frame) == np.median(frame.data)
    assert np.asarray(frame).shape == frame.shape
    assert type(np.float32(2) * frame) is type(frame)
    assert np.array_equal((5 - frame).data, 5 - frame.data)
    assert np.array_equal((-frame).data, -frame.data)
    with pytest.raises(OptionError, match="from_arrays"):
        np.ones(frame.shape) * frame
    with pytest.raises(UnitMismatch, match="electron"):
        frame + 5 * u.adu
    with pytest.raises(UnitMismatch, match="plain numbers"):
        frame / (60 * u.s)


def test_a_catalogue_is_not_read_as_a_frame(frame: larun.Frame, tmp_path) -> None:
    frame.detect().write(tmp_path / "sources.fits")
    with pytest.raises(FileError, match=r"SourceCatalog.read"):
        larun.Frame.read(tmp_path / "sources.fits")


def test_other_programs_do_not_apply_the_gain_again(tmp_path) -> None:
    header = {"GAIN": 2.0, "RDNOISE": 5.0}
    raw = larun.Frame.from_arrays(raw_field().data, header=header, gain=2.0, read_noise=5.0)
    made = raw.calibrate(without=NOTHING)
    made.write(tmp_path / "frame.fits")
    assert fits.getheader(tmp_path / "frame.fits")["GAIN"] == 1.0
    assert larun.Frame.read(tmp_path / "frame.fits").header["GAIN"] == 2.0


def test_nothing_is_calibrated_with_masters_that_are_missing() -> None:
    with pytest.raises(NoMatchingMaster, match="there is none at all"):
        raw_field().calibrate()


@pytest.mark.parametrize("wrong", [{"exposure": -60}, {"EXPTIME": "long"}, {"gain": 0}, {"brightness": 3}])
def test_what_is_given_for_a_header_must_make_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        larun.Frame.from_arrays(np.ones((4, 4)), **wrong)
