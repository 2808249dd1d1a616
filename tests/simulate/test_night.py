"""A simulated night: the same bytes for the same seed, valid FITS, and a truth that is true."""

import hashlib
import shutil
import subprocess
import sys

import attrs
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import larun.simulate
from larun.algorithms.jit import set_threads
from larun.errors import FileError, OptionError
from larun.simulate import NightOptions, read_truth, simulate_night

SMALL = NightOptions(biases=2, darks=1, flats=2, frames=4)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulate_night(tmp_path_factory.mktemp("night"), seed=7, shape=(256, 272), options=SMALL)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(night, tmp_path):
    try:
        for count in (1, 4):
            set_threads(count)
            again = simulate_night(tmp_path / str(count), seed=7, shape=(256, 272), options=SMALL)
            assert digests(again.folder) == digests(night.folder)
    finally:
        set_threads(None)
    other = simulate_night(tmp_path / "other", seed=8, shape=(256, 272), options=SMALL)
    mine, theirs = digests(night.folder), digests(other.folder)
    assert mine.keys() == theirs.keys()
    assert all(mine[name] != theirs[name] for name in mine)


def test_noise_is_independent_from_frame_to_frame_and_from_seed_to_seed(night, tmp_path):
    other = simulate_night(tmp_path / "other", seed=8, shape=(256, 272), options=SMALL)
    paths = [frame.path for truth in (night, other) for frame in truth.frames]
    overscan = np.array([fits.getdata(path)[:, 272:].ravel() for path in paths], dtype=float)
    pairs = np.corrcoef(overscan)[np.triu_indices(len(paths), 1)]
    assert len(pairs) == 32 * 31 // 2
    assert np.abs(pairs).max() < 0.06  # 8192 pixels: 0.011 rms


def test_the_night_holds_what_was_asked_for(night):
    names = sorted(path.name for path in night.folder.glob("*.fits"))
    assert names == sorted(
        ["bias-001.fits", "bias-002.fits", "dark-003s-001.fits", "dark-060s-001.fits"]
        + [f"flat-{band}-00{n}.fits" for band in "VR" for n in (1, 2)]
        + [f"science-{band}-00{n}.fits" for band in "VR" for n in (1, 2, 3, 4)]
    )
    assert [frame.path.name for frame in night.frames] == [
        path.name for path in sorted(night.folder.glob("*.fits"), key=lambda p: fits.getheader(p)["DATE-OBS"])
    ]


def test_files_are_valid_fits(night):
    for frame in night.frames:
        with fits.open(frame.path) as hdus:
            hdus.verify("exception")
            assert len(hdus) == 1
            assert hdus[0].header["BITPIX"] == 16
            assert hdus[0].header["BZERO"] == 32768
            assert hdus[0].data.dtype == np.uint16
            assert hdus[0].header["IMAGETYP"] == frame.kind
            assert hdus[0].header["EXPTIME"] == frame.exposure
            assert hdus[0].header.get("FILTER") == frame.band
            assert hdus[0].header["DATE-OBS"] == frame.date_obs


def test_fitsverify_finds_nothing(night):
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed")
    for frame in night.frames:
        done = subprocess.run([program, "-q", frame.path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert "verification OK" in done.stdout


def test_truth_survives_the_disk(night):
    again = read_truth(night.folder)
    assert again.frames == night.frames
    assert again.options == night.options
    assert again.camera == night.camera
    assert (again.seed, again.new_source) == (7, night.new_source)
    assert again.stars.colnames == night.stars.colnames
    for name in again.stars.colnames:
        np.testing.assert_array_equal(again.stars[name], night.stars[name])
        assert again.stars[name].dtype == night.stars[name].dtype
        assert getattr(again.stars[name], "unit", None) == getattr(night.stars[name], "unit", None)
    frame = night.select("object", "V")[0]
    np.testing.assert_array_equal(again.cosmics(frame), night.cosmics(frame))
    np.testing.assert_array_equal(again.chip().dark, night.chip().dark)


def calibrated(night, frame):
    """Sky-subtracted electrons, with all that the truth knows taken off."""
    camera, chip = night.camera, night.chip()
    raw = fits.getdata(frame.path)[camera.data_section.slices].astype(float)
    electrons = (raw - frame.bias_level - chip.bias) * camera.gain - chip.dark * frame.exposure
    return electrons - night.cosmics(frame) - frame.sky * frame.exposure * chip.response[frame.band]


def test_the_truth_of_every_science_frame_explains_its_pixels(night):
    for frame in night.select("object"):
        x, y = night.positions(frame)
        rate = np.asarray(night.stars[f"rate_{frame.band}"]) * frame.transparency * frame.exposure
        if frame.new_source:
            new = night.new_source
            x, y = np.append(x, new.x + frame.offset[0]), np.append(y, new.y + frame.offset[1])
            rate = np.append(rate, new.rate * frame.transparency * frame.exposure)
        chip = night.chip()
        stars = larun.simulate.render(night.camera.shape, x, y, rate, fwhm=frame.seeing, beta=night.options.beta)
        stars *= chip.response[frame.band]
        variance = stars + frame.sky * frame.exposure + chip.dark * frame.exposure + night.camera.read_noise**2
        raw = fits.getdata(frame.path)[night.camera.data_section.slices]
        good = (raw < night.camera.saturation) & (chip.response[frame.band] > 0)
        pull = ((calibrated(night, frame) - stars) / np.sqrt(variance))[good]
        assert pull.mean() == pytest.approx(0, abs=0.015)  # own error 0.004
        assert pull.std() == pytest.approx(1, abs=0.025)


def test_star_table_agrees_with_the_header_wcs(night):
    inside = (night.stars["x"].value > 0) & (night.stars["y"].value > 0)
    assert inside.sum() > 20
    for frame in night.select("object"):
        wcs = WCS(fits.getheader(frame.path))
        found = wcs.world_to_pixel_values(night.stars["ra"].value, night.stars["dec"].value)
        np.testing.assert_allclose(found, night.positions(frame), atol=1e-6)
    for band, zero_point in zip(night.camera.filters, night.options.zero_points, strict=True):
        magnitude = zero_point - 2.5 * np.log10(night.stars[f"rate_{band}"].value)
        np.testing.assert_allclose(magnitude, night.stars[f"mag_{band}"].value, atol=1e-9)


def test_the_new_source_is_in_the_last_frames_of_the_first_filter_only(night):
    new = night.new_source
    assert new.band == "V"
    assert [frame.path.name for frame in night.frames if frame.new_source] == [
        "science-V-003.fits",
        "science-V-004.fits",
    ]
    for frame in night.select("object"):
        x, y = round(new.x + frame.offset[0]), round(new.y + frame.offset[1])
        flux = calibrated(night, frame)[y - 6 : y + 7, x - 6 : x + 7].sum()
        expected = new.rate * frame.exposure
        assert (flux > 0.7 * expected) == frame.new_source


def test_one_star_is_saturated(night):
    for band in night.camera.filters:
        saturated = np.flatnonzero(night.stars[f"saturated_{band}"])
        assert len(night.stars) - 1 in saturated
        assert len(saturated) <= 3
    assert (fits.getdata(night.select("object", "V")[0].path) == night.camera.saturation).any()


def test_dithers_differ_and_the_first_frame_of_each_filter_has_none(night):
    for band in night.camera.filters:
        offsets = [frame.offset for frame in night.select("object", band)]
        assert offsets[0] == (0.0, 0.0)
        assert len(set(offsets)) == 4
        assert np.abs(offsets).max() <= night.options.dither


def test_cosmic_rays_are_where_the_truth_says(night):
    frame = night.select("dark")[1]
    assert frame.cosmic_count > 0
    struck = night.cosmics(frame)
    raw = fits.getdata(frame.path)[night.camera.data_section.slices].astype(float)
    bright = (struck > 200) & ~night.chip().hot
    assert bright.any()
    signal = (raw - frame.bias_level - night.chip().bias) * night.camera.gain
    assert (np.abs(signal - struck)[bright] < 8 * np.sqrt(struck[bright] + 100)).all()
    assert not night.cosmics(night.select("bias")[0]).any()


def test_a_folder_that_holds_something_is_refused(night, tmp_path):
    with pytest.raises(FileError, match="not empty"):
        simulate_night(night.folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="cannot hold"):
        simulate_night(tmp_path / "file" / "night")


def test_a_folder_without_truth_says_so(tmp_path):
    with pytest.raises(FileError, match=r"night\.json"):
        read_truth(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"frames": -1},
        {"flats": 1.5},
        {"zero_points": (23.0,)},
        {"dark_exposures": (60.0, 60.0)},
        {"dark_exposures": (0.0,)},
        {"transparency_loss": 1.0},
        {"magnitudes": (20.0, 14.0)},
        {"seeing": 0.1},
        {"start": "tonight"},
    ],
)
def test_impossible_nights_raise(values):
    with pytest.raises(OptionError, match=next(iter(values))):
        NightOptions(**values)


def test_negative_seed_raises_before_anything_is_written(tmp_path):
    with pytest.raises(OptionError, match="seed"):
        simulate_night(tmp_path / "night", seed=-1)
    assert not (tmp_path / "night").exists()


def test_a_single_frame_has_no_new_source(tmp_path):
    options = attrs.evolve(SMALL, frames=1, biases=0, flats=0)
    truth = simulate_night(tmp_path / "night", shape=(64, 64), options=options)
    assert truth.new_source is None
    assert not any(frame.new_source for frame in truth.frames)


def test_importing_is_light_and_names_are_the_documented_ones():
    heavy = ("astropy", "numba", "photutils", "scipy.stats")
    code = f"import sys, larun.simulate; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert all(hasattr(larun.simulate, name) for name in larun.simulate.__all__)
    assert larun.simulate.__all__ == sorted(larun.simulate.__all__)
