"""Files of several detectors, detectors of several images, and Bayer sensors."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun import simulate
from larun.detector import Amplifier, Detector, Section
from larun.errors import FileError, HeaderError, OptionError
from larun.instruments.ascom import Ascom
from larun.instruments.decam import Decam
from larun.instruments.lco import Sinistro
from larun.io.mosaic import bayer_channels

WITHOUT = ("bias", "dark", "flat")


# -- many detectors a file -----------------------------------------------------------------------------------------


def decam_header(number, exposure, kind):
    """The cards of one detector of a smaller DECam: two amplifiers with their overscan at the outer edges."""
    cards = {
        "EXTNAME": f"S{number}", "CCDNUM": number, "BUNIT": "adu",
        "TRIMSECA": "[39:70,5:84]", "DATASECA": "[39:70,5:84]", "BIASSECA": "[71:80,5:84]",
        "TRIMSECB": "[7:38,5:84]", "DATASECB": "[7:38,5:84]", "BIASSECB": "[1:6,5:84]",
        "TRIMSEC": "[7:70,5:84]", "DATASEC": "[7:70,5:84]",
        "GAINA": 4.0 + 0.1 * number, "GAINB": 4.4 + 0.1 * number, "RDNOISEA": 7.0, "RDNOISEB": 7.2,
        "SATURATA": 43000.0, "SATURATB": 44000.0,
    }  # fmt: skip
    return fits.Header(list(cards.items()))


def decam_file(path, kind, exposure, light, rng, numbers=(1, 2), star=False):
    """A raw file of several detectors."""
    said = {"zero": "zero", "flat": "dome flat", "object": "object"}[kind]
    primary = fits.Header([("INSTRUME", "DECam"), ("OBSTYPE", said), ("EXPTIME", exposure), ("FILTER", "g DECam")])
    primary["DATE-OBS"] = "2013-02-13T09:01:40.966998"
    hdus = fits.HDUList([fits.PrimaryHDU(header=primary)])
    for number in numbers:
        header = decam_header(number, exposure, kind)
        detector = Decam.detector_for(header, (84, 80))
        image = np.full((80, 64), float(light) * number)
        if star:
            image += simulate.render((80, 64), [20.0 + 5 * number], [40.0], [60000.0], fwhm=3.0)
        raw = simulate.read_out(detector, simulate.photons(image, rng=rng), rng=rng, shape=(84, 80), bias_levels=1200.0)
        hdus.append(fits.ImageHDU(raw, header))
    hdus.writeto(path)
    return path


def test_each_detector_of_a_file_is_a_frame(tmp_path, rng):
    path = decam_file(tmp_path / "d.fits", "object", 60.0, 500, rng)
    with pytest.raises(FileError, match=r"holds 2 images: choose one with ext=…; it holds HDU 1 S1,1"):
        larun.Frame.read(path)
    one, two = larun.Frame.read_all(path)
    assert type(one) is type(two) is Decam
    assert (one.criteria["chip"], two.criteria["chip"]) == ("1", "2")
    assert one.detector.amplifiers[0].gain == pytest.approx(4.1)
    assert two.identical(larun.Frame.read(path, ext="S2"))
    assert two.identical(larun.Frame.read(path, ext=2))
    assert one.provenance.id != two.provenance.id
    assert two.exposure == 60.0
    means = [float(frame.calibrate(without=WITHOUT).data.mean()) for frame in (one, two)]
    assert means == pytest.approx([500, 1000], rel=0.01)


def test_a_night_of_many_detectors_keeps_them_apart(tmp_path, rng):
    raw = tmp_path / "raw"
    raw.mkdir()
    for n in range(3):
        decam_file(raw / f"zero{n}.fits", "zero", 0.0, 0, rng)
        decam_file(raw / f"flat{n}.fits", "flat", 5.0, 20000, rng)
    decam_file(raw / "sky.fits", "object", 60.0, 300, rng, star=True)
    night = larun.Night(raw)
    assert {kind: len(night.of(kind)) for kind in ("bias", "flat", "science")} == {"bias": 6, "flat": 6, "science": 2}
    summary = night.reduce(tmp_path / "out", recipe=larun.Recipe(detect={"fwhm": 3.0}))
    assert [row.message for row in summary.failed] == []
    assert sorted(path.name for path in (tmp_path / "out" / "masters").iterdir()) == [
        "bias-1-64x80.fits", "bias-2-64x80.fits", "flat-g_DECam-1-64x80.fits", "flat-g_DECam-2-64x80.fits",
    ]  # fmt: skip
    for number in (1, 2):
        frame = larun.Frame.read(tmp_path / "out" / "frames" / f"sky-S{number}.fits")
        assert float(np.median(frame.data)) == pytest.approx(300 * number, rel=0.02)
        catalog = larun.SourceCatalog.read(tmp_path / "out" / "catalogs" / f"sky-S{number}.ecsv")
        assert float(catalog["x"][0].value) == pytest.approx(20 + 5 * number, abs=0.1)
    again = night.reduce(tmp_path / "out", recipe=larun.Recipe(detect={"fwhm": 3.0}))
    assert {row.status for row in again.rows} == {"skipped"}
    two = larun.Frame.read(raw / "sky.fits", ext="S2")
    with pytest.raises(larun.errors.NoMatchingMaster, match="chip"):
        two.calibrate([m for m in larun.Masters.read(tmp_path / "out" / "masters") if m.criteria["chip"] == "1"])


# -- amplifiers in images of their own -----------------------------------------------------------------------------

PLACES = ("[1:2048,1:2048]", "[4096:2049,1:2048]", "[4096:2049,4096:2049]", "[1:2048,4096:2049]")
GAINS = (2.0, 2.2, 2.1, 1.9)
LCO = {"ORIGIN": "LCOGT", "INSTRUME": "fa12", "OBSTYPE": "EXPOSE", "EXPTIME": 10.0, "FILTER": "rp", "CCDSUM": "2 2"}


def quadrants(rng, light):
    """Raw images of four amplifiers (40 × 40 with 6 columns of overscan), each as it is read out."""
    images = []
    for n, gain in enumerate(GAINS):
        part = light[(slice(0, 40), slice(40, 80))[n in (2, 3)], (slice(0, 40), slice(40, 80))[n in (1, 2)]]
        turned = part[:: -1 if n in (2, 3) else 1, :: -1 if n in (1, 2) else 1]
        sections = {"data": Section(0, 40, 0, 40), "overscan": Section(0, 40, 40, 46)}
        detector = Detector(amplifiers=(Amplifier(**sections, gain=gain, read_noise=8.0),))
        images.append(
            simulate.read_out(detector, simulate.photons(turned, rng=rng), rng=rng, bias_levels=1000.0 + 200 * n)
        )
    return images


@pytest.fixture
def light():
    y, x = np.indices((80, 80))
    return 20000.0 + 40.0 * x + 90.0 * y  # another value at every place: a mirrored quadrant would show


def check(frame, light):
    assert type(frame) is Sinistro
    calibrated = frame.calibrate(without=WITHOUT)
    assert calibrated.shape == (80, 80)
    pull = (calibrated.data - light) / np.sqrt(calibrated.variance)
    assert abs(pull.mean()) < 0.05
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    quarter = [float((calibrated.data - light)[a.data.slices].mean()) for a in calibrated.detector.amplifiers]
    assert np.ptp(quarter) < 0.001 * 20000
    assert [a.name for a in calibrated.detector.amplifiers] == ["A", "B", "C", "D"]


def test_four_images_become_one_detector(tmp_path, rng, light):
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header(list(LCO.items())))])
    for image, place, gain in zip(quadrants(rng, light), PLACES, GAINS, strict=True):
        cards = {"EXTNAME": "SCI", "DETSEC": place, "DATASEC": "[1:40,1:40]", "BIASSEC": "[41:46,1:40]", "GAIN": gain,
                 "RDNOISE": 8.0, "SATURATE": 60000.0}  # fmt: skip
        hdus.append(fits.ImageHDU(image, fits.Header(list(cards.items()))))
    for version, hdu in enumerate(hdus[1:], 1):
        hdu.ver = version
    path = tmp_path / "mef.fits"
    hdus.writeto(path)
    frame = larun.Frame.read(path)
    assert frame.shape == (80, 92)
    # along the rows of the detector: A, B at the bottom, C, D at the top
    assert [a.gain for a in frame.detector.amplifiers] == [2.0, 2.2, 1.9, 2.1]
    assert frame.detector.amplifiers[0].saturation == 60000.0
    assert frame.criteria["binning"] == [2, 2]
    check(frame, light)
    assert larun.Frame.read(path, ext=1).shape == (40, 46)  # one amplifier alone is still to be had


def test_four_planes_of_a_cube_become_one_detector(tmp_path, rng, light):
    header = fits.Header(list(LCO.items()))
    header.update({"GAIN": str(list(GAINS)), "RDNOISE": 8.0, "SATURATE": 0.0})
    header.update({"BIASSEC": "UNKNOWN", "DETSEC": "UNKNOWN"})
    header["CCDSUM"] = "51 51"  # 2048 unbinned columns are 40 here
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.stack(quadrants(rng, light)), header).writeto(path)
    check(larun.Frame.read(path), light)
    packed = tmp_path / "cube.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.stack(quadrants(rng, light)), header)]).writeto(packed)
    check(larun.Frame.read(packed), light)


def test_amplifiers_stream_into_masters_as_they_are_read(tmp_path, rng, light):
    header = fits.Header([*LCO.items(), ("GAIN", str(list(GAINS))), ("RDNOISE", 8.0)])
    header.update({"OBSTYPE": "BIAS", "EXPTIME": 0.0, "CCDSUM": "51 51"})
    paths = []
    for n in range(3):
        paths.append(tmp_path / f"bias{n}.fits")
        fits.PrimaryHDU(np.stack(quadrants(rng, np.zeros((80, 80)))), header).writeto(paths[-1])
    whole = larun.MasterBias.combine(paths)
    streamed = larun.MasterBias.combine(paths, options=larun.BuildOptions(max_memory=80_000))
    by_hand = larun.MasterBias.combine([larun.Frame.read(path) for path in paths])
    assert whole.shape == (80, 80)
    assert whole.identical(streamed)
    assert np.array_equal(whole.data, by_hand.data)
    assert whole.provenance.id == by_hand.provenance.id


def test_two_amplifiers_in_one_place_are_refused(tmp_path):
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header(list(LCO.items())))])
    for place in (PLACES[0], PLACES[1], PLACES[2], PLACES[2].replace("4096:2049,", "4000:2049,")):
        cards = {"DETSEC": place, "DATASEC": "[1:4,1:4]", "BIASSEC": "[5:6,1:4]"}
        hdus.append(fits.ImageHDU(np.zeros((4, 6), np.uint16), fits.Header(list(cards.items()))))
    hdus.writeto(tmp_path / "x.fits")
    with pytest.raises(HeaderError, match="two amplifiers have the same place"):
        larun.Frame.read(tmp_path / "x.fits")


# -- Bayer sensors -------------------------------------------------------------------------------------------------

NINA = {
    "SWCREATE": "N.I.N.A. 3.1.2.9001", "INSTRUME": "ZWO ASI2600MC Pro", "IMAGETYP": "LIGHT", "EXPTIME": 120.0,
    "GAIN": 100, "OFFSET": 50, "EGAIN": 0.25, "RDNOISE": 1.5, "CCD-TEMP": -10.0, "BAYERPAT": "RGGB", "XBAYROFF": 0,
    "YBAYROFF": 0, "ROWORDER": "TOP-DOWN", "XBINNING": 1, "YBINNING": 1, "DATE-OBS": "2026-03-14T20:00:00.000",
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": 20.0, "CRPIX1": 41.0, "CRPIX2": 33.0,
    "CD1_1": -3e-4, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 3e-4,
}  # fmt: skip
LEVELS = {"R": 1000.0, "G1": 3000.0, "G2": 3100.0, "B": 600.0}


def bayer_file(path, rng, kind="LIGHT", exposure=120.0, scale=1.0, star=None, **cards):
    header = fits.Header([*NINA.items()])
    header.update({"IMAGETYP": kind, "EXPTIME": exposure, **cards})
    light = np.zeros((64, 80))
    for name, (y, x) in bayer_channels("RGGB").items():
        light[y::2, x::2] = LEVELS[name] * scale
    if star is not None:
        light += simulate.render((64, 80), [star[0]], [star[1]], [200_000.0], fwhm=6.0)
    detector = Detector.single((64, 80), gain=0.25, read_noise=1.5)
    electrons = simulate.photons(light, rng=rng)
    return simulate.raw_frame(header, detector, electrons, rng=rng, shape=(64, 80), bias_levels=500).write(path)


@pytest.mark.parametrize(
    ("pattern", "offset", "bottom_up", "expected"),
    [
        ("RGGB", (0, 0), False, {"R": (0, 0), "G1": (0, 1), "G2": (1, 0), "B": (1, 1)}),
        ("BGGR", (0, 0), False, {"R": (1, 1), "G1": (1, 0), "G2": (0, 1), "B": (0, 0)}),
        ("GBRG", (0, 0), False, {"R": (1, 0), "G1": (1, 1), "G2": (0, 0), "B": (0, 1)}),
        ("RGGB", (1, 0), False, {"R": (1, 0), "G1": (1, 1), "G2": (0, 0), "B": (0, 1)}),
        ("RGGB", (0, 1), False, {"R": (0, 1), "G1": (0, 0), "G2": (1, 1), "B": (1, 0)}),
        # an even number of rows, upside down: the last row is displayed first
        ("RGGB", (0, 0), True, {"R": (1, 0), "G1": (1, 1), "G2": (0, 0), "B": (0, 1)}),
    ],
)
def test_where_colours_begin(pattern, offset, bottom_up, expected):
    assert bayer_channels(pattern, offset, bottom_up=bottom_up, rows=64) == expected


@pytest.mark.parametrize("pattern", ["RGB", "RGGR", "RGBG", "", "CMYK"])
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(OptionError, match="RGGB"):
        bayer_channels(pattern)


def test_colours_are_read_one_by_one(tmp_path, rng):
    path = bayer_file(tmp_path / "light.fits", rng)
    frames = larun.Frame.read_all(path)
    assert [frame.filter for frame in frames] == ["R", "G1", "G2", "B"]
    for frame in frames:
        assert type(frame) is Ascom
        assert frame.shape == (32, 40)
        assert frame.detector.amplifiers[0].gain == 0.25  # EGAIN; GAIN is a setting
        calibrated = frame.calibrate(without="dark")  # no bias, no dark: the level stays in
        level = LEVELS[frame.filter] + 500 * 0.25
        assert float(calibrated.data.mean()) == pytest.approx(level, rel=0.01)
    assert frames[1].identical(larun.Frame.read(path, channel="G1"))
    assert len({frame.provenance.id for frame in frames}) == 4
    with pytest.raises(OptionError, match="no channel 'green': it has R, G1, G2, B"):
        larun.Frame.read(path, channel="green")


def test_the_channels_agree_on_the_sky(tmp_path, rng):
    """A star between the pixels has one place on the sky, whatever colour saw it."""
    path = bayer_file(tmp_path / "light.fits", rng, star=(37.3, 29.8))
    whole = larun.Frame.read(path)
    truth = np.array(whole.wcs.pixel_to_world_values(37.3, 29.8))
    for frame in larun.Frame.read_all(path):
        y, x = bayer_channels("RGGB")[frame.filter]
        there = np.array(frame.wcs.pixel_to_world_values((37.3 - x) / 2, (29.8 - y) / 2))
        assert np.abs(there - truth).max() * 3600e3 < 0.01  # mas
        found = frame.calibrate(without="dark").detect(fwhm=3.0)
        assert float(found["ra"][0].value) == pytest.approx(truth[0], abs=0.05 * 6e-4)


def test_a_mosaic_of_colours_is_not_searched(tmp_path, rng):
    frame = larun.Frame.read(bayer_file(tmp_path / "light.fits", rng)).calibrate(without="dark")
    for step in (frame.detect, frame.clean):
        with pytest.raises(OptionError, match="mosaic of colours"):
            step()


def test_a_night_in_colour(tmp_path, rng):
    raw = tmp_path / "raw"
    raw.mkdir()
    for n in range(3):
        bayer_file(raw / f"dark{n}.fits", rng, "DARK", scale=0.0)
        bayer_file(raw / f"flat{n}.fits", rng, "FLAT", exposure=2.0, scale=5.0)
        bayer_file(raw / f"flatdark{n}.fits", rng, "DARKFLAT", exposure=2.0, scale=0.0)
    bayer_file(raw / "light.fits", rng, star=(40.0, 30.0))
    night = larun.Night(raw)
    kinds = {kind: len(night.of(kind)) for kind in ("dark", "flat", "science")}
    assert kinds == {"dark": 24, "flat": 12, "science": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = night.reduce(tmp_path / "out", recipe=larun.Recipe(clean=None, detect={"fwhm": 3.0}))
    assert [row.message for row in summary.failed] == []
    for name, level in LEVELS.items():
        frame = larun.Frame.read(tmp_path / "out" / "frames" / f"light-{name}.fits")
        assert float(np.median(frame.data)) == pytest.approx(level, rel=0.02)
        masters = {p.role: p.provenance for node in frame.provenance.line() for p in node.parents}
        assert {"dark", "flat"} <= set(masters)
        flat_parents = {p.role for p in masters["flat"].parents}
        assert "dark" in flat_parents  # the flat-dark of 2 s served the flats
        dark = next(p.provenance for p in masters["flat"].parents if p.role == "dark")
        assert dark.id != masters["dark"].id


def test_masters_of_another_setting_do_not_fit(tmp_path, rng):
    darks = [bayer_file(tmp_path / f"d{n}.fits", rng, "DARK", scale=0.0, OFFSET=10) for n in range(2)]
    with pytest.raises(larun.errors.NoMatchingMaster, match="mode"):
        larun.Frame.read(bayer_file(tmp_path / "l.fits", rng)).calibrate(larun.MasterDark.combine(darks))


def test_a_monochrome_sensor_has_no_channels(tmp_path, rng):
    path = bayer_file(tmp_path / "mono.fits", rng, BAYERPAT="", INSTRUME="QHY600M")
    (only,) = larun.Frame.read_all(path)
    assert only.shape == (64, 80)
    assert type(only) is Ascom


# -- what decides pixels is in the record --------------------------------------------------------------------------


def test_a_changed_constant_of_a_camera_changes_the_id(tmp_path, rng, monkeypatch):
    path = tmp_path / "raw.fits"
    header = fits.Header([("INSTRUME", "Nickel Direct Camera"), ("COVER", 12), ("CDELT1U", -2), ("EXPTIME", 5.0)])
    fits.PrimaryHDU(rng.integers(900, 1100, (1024, 1036)).astype(np.uint16), header).writeto(path)
    first = larun.Frame.read(path).provenance.id
    assert larun.Frame.read(path).provenance.id == first
    with monkeypatch.context() as change:
        change.setattr("larun.instruments.nickel.Nickel.gain", 1.9)
        assert larun.Frame.read(path).provenance.id != first
    with monkeypatch.context() as change:
        change.setattr("larun.instruments.nickel.Nickel.bad_columns", (3,))
        assert larun.Frame.read(path).provenance.id != first
    streamed = larun.MasterBias.combine([path], options=larun.BuildOptions(max_memory=1e5))
    (parent,) = streamed.provenance.parents
    assert parent.provenance.id == first  # by bands as by the whole


def test_electrons_on_disk_are_no_raw_frames(tmp_path):
    path = tmp_path / "e.fits"
    fits.PrimaryHDU(np.zeros((8, 8), np.float32), fits.Header([("BUNIT", "electron"), ("GAIN", 1.0)])).writeto(path)
    with pytest.raises(OptionError, match="is in electron, not raw"):
        larun.MasterBias.combine([path])


def test_images_of_one_name_are_told_apart_by_number(tmp_path):
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for value in (1, 2):
        hdus.append(fits.ImageHDU(np.full((4, 4), value, np.uint16), fits.Header([("EXTNAME", "CCD")])))
    hdus.writeto(tmp_path / "x.fits")
    frames = larun.Frame.read_all(tmp_path / "x.fits")
    assert [float(frame.data[0, 0]) for frame in frames] == [1.0, 2.0]


def test_more_amplifiers_than_letters_are_refused(tmp_path):
    from larun.io.mosaic import MosaicReader, Readout

    fits.PrimaryHDU(np.zeros((17, 4, 4), np.uint16)).writeto(tmp_path / "x.fits")
    readouts = [Readout(f"[{4 * n + 1}:{4 * n + 4},1:4]") for n in range(17)]
    with pytest.raises(HeaderError, match="17 amplifiers of one detector; at most 16"):
        MosaicReader(tmp_path / "x.fits", [(0, n) for n in range(17)], readouts, fits.Header())


@pytest.mark.parametrize(
    ("given", "message"),
    [({"kind": "flat"}, "looks for it in no keyword"), ({"object": [1, 2]}, "OBJECT"), ({"object": "a\nb"}, "OBJECT")],
)
def test_what_cannot_be_given_is_said_in_words(tmp_path, given, message):
    header = fits.Header([("ORIGIN", "SDSS"), ("SOFTBIAS", 1000), ("FILTER", "r"), ("CAMCOL", 1)])
    fits.PrimaryHDU(np.zeros((4, 4), np.uint16), header).writeto(tmp_path / "x.fits")
    with pytest.raises(OptionError, match=message):
        larun.Frame.read(tmp_path / "x.fits", **given)


@pytest.mark.parametrize("cards", [{"DATASECA": "garbage", "DATASECB": "[1:2,1:4]"}, {"BAYERPAT": "RGGR"}])
def test_nonsense_in_a_header_names_the_file(tmp_path, cards):
    fits.PrimaryHDU(np.zeros((4, 4), np.uint16), fits.Header(list(cards.items()))).writeto(tmp_path / "odd.fits")
    with pytest.raises(HeaderError, match=r"odd\.fits"):
        larun.Frame.read_all(tmp_path / "odd.fits")
