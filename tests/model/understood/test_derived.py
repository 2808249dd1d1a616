"""What larun understands of a file: every value with its source, and every kind of nonsense found and explained."""

import json

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.detector import Amplifier, Detector
from larun.errors import FileError, HeaderError, OptionError
from larun.instruments.generic import Generic
from larun.instruments.nickel import Nickel
from larun.model import headers, registry
from larun.model.understood.derived import explain
from larun.model.understood.known import LEVELS
from larun.report.terminal import plain_values
from tests.conftest import real_data

GOOD = {
    "INSTRUME": "bench camera",
    "IMAGETYP": "object",
    "OBJECT": "M 13",
    "EXPTIME": 60.0,
    "FILTER": "V",
    "DATE-OBS": "2024-05-13T05:34:13",
    "CCD-TEMP": -20.0,
    "GAIN": 1.6,
    "RDNOISE": 6.4,
    "SATURATE": 60000.0,
    "TRIMSEC": "[1:80,1:64]",
    "BIASSEC": "[81:96,1:64]",
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 250.0,
    "CRVAL2": 36.0,
    "CRPIX1": 40.0,
    "CRPIX2": 32.0,
    "SITELONG": -121.64,
    "SITELAT": 37.34,
    "SITEELEV": 1283.0,
    "CD1_1": -1e-4,
    "CD2_2": 1e-4,
}


class Bench(larun.Frame):
    required = frozenset({"bias", "flat"})

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "bench camera"


@pytest.fixture(autouse=True)
def only_these_cameras(monkeypatch):
    registry.load_plugins()
    monkeypatch.setattr(registry, "_CLASSES", {**registry._CLASSES, registry.name_of(Bench): Bench})
    yield
    registry._CLASSES.pop(registry.name_of(Bench), None)


def raw(folder, *, sky=1400.0, overscan=1000.0, noise=4.0, drop=(), **cards):
    """A frame of 64 × 96 pixels with overscan at the right."""
    rng = np.random.default_rng(4)
    data = np.full((64, 96), sky)
    data[:, 80:] = overscan
    data = np.clip(np.rint(data + noise * rng.standard_normal(data.shape)), 0, 65535).astype(np.uint16)
    header = fits.Header({key: value for key, value in (GOOD | cards).items() if key not in drop and value is not None})
    path = folder / "a.fits"
    fits.PrimaryHDU(data, header).writeto(path)
    return path


def said(found, quantity=None):
    """Levels and problems about one quantity."""
    return [(f.level, f.problem) for f in found.findings if quantity in (None, f.quantity)]


# -- values ------------------------------------------------------------------------------------------------------------


def test_a_good_frame_has_no_findings_and_every_value_its_source(tmp_path):
    found = explain(raw(tmp_path))
    assert found.ok
    assert not found.findings
    assert not found.header_only
    assert found.camera.endswith(":Bench")
    assert found.why == "Bench.matches claims INSTRUME = 'bench camera'"
    by_name = {quantity.name: quantity for quantity in found.quantities}
    assert (found["gain"], found["read_noise"], found["saturation"]) == ((1.6,), (6.4,), (60000.0,))
    assert (by_name["gain"].source, by_name["gain"].keyword, by_name["gain"].raw) == ("GAIN = 1.6", "GAIN", 1.6)
    assert (found["exposure"], found["filter"], found["kind"]) == (60.0, "V", "science")
    assert (found["size"], found["trimmed_size"]) == ([96, 64], [80, 64])
    assert (found["data"], found["overscan"]) == (("[1:80,1:64]",), ("[81:96,1:64]",))
    assert by_name["wcs"].value == "TAN, 0.36 arcsec per pixel"
    with pytest.raises(KeyError, match=r"'colour': known are kind, object"):
        found["colour"]
    assert json.loads(json.dumps(plain_values(found.to_dict())))["ok"] is True


def test_new_rows_of_the_table_of_keywords_appear_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(larun.Frame, "keywords", {**headers.KEYWORDS, "focus": ("FOCUS", "TELFOCUS")})
    found = explain(raw(tmp_path, TELFOCUS=3.5))
    (focus,) = [quantity for quantity in found.quantities if quantity.name == "focus"]
    assert (focus.value, focus.keyword, focus.source) == ("3.5", "TELFOCUS", "TELFOCUS = 3.5")


def test_constants_hooks_and_what_is_given_say_so(tmp_path):
    class Tower(Bench):
        gain = 1.9

        @classmethod
        def matches(cls, header):
            return super().matches(header) and header.get("TOWER") is True

        @classmethod
        def detector_for(cls, header, shape):
            return super().detector_for(header, shape).with_values(gain=cls.gain, saturation=50_000.0)

    found = explain(raw(tmp_path, TOWER=True), read_noise=7.7, EXPTIME=30)
    source = {quantity.name: quantity.source for quantity in found.quantities}
    assert source["gain"] == "constant Tower.gain"
    assert source["saturation"] == "Tower.detector_for"
    assert (source["read_noise"], source["exposure"]) == ("given", "given")
    gain = next(quantity for quantity in found.quantities if quantity.name == "gain")
    assert (gain.value, gain.keyword, gain.raw) == (1.9, "GAIN", 1.6)  # what the header says stays in sight


def test_the_nickel_camera_is_ready_and_its_lies_are_told():
    found = explain(real_data("nickel", "d1059.fits.fz"))
    assert found.ok
    assert found["gain"] == (1.79,)
    gain = next(quantity for quantity in found.quantities if quantity.name == "gain")
    assert "constant Nickel.gain" in gain.source
    assert "GAIN = 1 is a mode" in gain.source
    assert {finding.quantity for finding in found.findings} <= {"site"}
    assert not said(explain(real_data("nickel", "d1001.fits.fz")))  # a bias
    assert not said(explain(real_data("nickel", "d1035.fits.fz")))  # a flat


def test_the_nickel_header_taken_at_its_word_is_not_believed():
    class Believer(larun.Frame):
        pass

    found = explain(real_data("nickel", "d1059.fits.fz"), camera=Believer)
    assert not found.ok
    assert any("exactly 1" in problem for _, problem in said(found, "gain"))
    assert ("error", "no read noise") in [(level, problem[:13]) for level, problem in said(found, "read_noise")]


def test_several_amplifiers_each_have_their_own_source():
    found = explain(real_data("headers", "fitsheader-decam.yaml"), camera=Generic)
    assert found["middle"] == "2013-09-01T06:04:35.754"
    gains = [quantity for quantity in found.quantities if quantity.name == "gain"]
    assert [(q.amplifier, q.keyword, q.raw) for q in gains] == [
        ("A", "GAINA", gains[0].value),
        ("B", "GAINB", gains[1].value),
    ]
    assert gains[1].source == f"GAINB = {gains[1].value!r}"
    assert [q.source[:8] for q in found.quantities if q.name == "data"] == ["TRIMSECA", "TRIMSECB"]


def test_pixels_in_electrons_need_no_gain(tmp_path):
    found = explain(raw(tmp_path, BUNIT="electron", GAIN=None, RDNOISE=None))
    assert found.ok
    assert found["unit"] == "electron"


# -- nonsense ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "quantity", "level", "words"),
    [
        ({"GAIN": 1}, "gain", "warning", "exactly 1 and pixels are whole numbers"),
        ({"GAIN": 0}, "gain", "error", "GAIN = 0: must be positive"),
        ({"GAIN": -2.0}, "gain", "error", "no gain"),
        ({"GAIN": None}, "gain", "error", "none of GAIN, EGAIN found"),
        ({"GAIN": 400, "RDNOISE": None}, "gain", "warning", "gain is 400"),
        ({"RDNOISE": 0}, "read_noise", "warning", "read noise is 0"),
        ({"RDNOISE": 640.0}, "read_noise", "warning", "read noise is 640"),
        ({"RDNOISE": -1}, "read_noise", "error", "read noise is -1"),
        ({"RDNOISE": 20.0}, "read_noise", "warning", "but the read noise is 20"),
        ({"SATURATE": 200_000}, "saturation", "warning", "above 65535"),
        ({"SATURATE": 900}, "saturation", "warning", "below the median"),
        ({"SATURATE": 1408}, "saturation", "warning", "% of the pixels are above saturation"),
        ({"SATURATE": None}, "saturation", "note", "no saturation level"),
        ({"MAXLIN": 61_000}, "linear_limit", "warning", "above saturation"),
        ({"EXPTIME": None}, "exposure", "warning", "no exposure time"),
        ({"EXPTIME": None, "IMAGETYP": "dark"}, "exposure", "error", "darks cannot be matched"),
        ({"EXPTIME": -3}, "exposure", "error", "negative"),
        ({"EXPTIME": 600_000}, "exposure", "warning", "longer than a day"),
        ({"FILTER": None}, "filter", "warning", "no filter"),
        ({"FILTER": None, "IMAGETYP": "flat"}, "filter", "warning", "no filter"),
        ({"CCD-TEMP": 60.0}, "temperature", "warning", "no detector works at 60"),
        ({"XBINNING": 0}, "binning_x", "warning", "no binning factor"),
        ({"YBINNING": 1.5}, "binning_y", "warning", "no binning factor"),
        ({"DATE-OBS": "2090-01-01T00:00:00"}, "middle", "warning", "in the future"),
        ({"DATE-OBS": "1970-01-01T12:00:00"}, "middle", "warning", "before 1980"),
        ({"DATE-OBS": "yesterday"}, "middle", "warning", "nobody knows when"),
        ({"DATE-OBS": None}, "middle", "warning", "nobody knows when it was exposed: none of DATE-OBS"),
        ({"DATE-END": "2024-05-13T05:40:13"}, "middle", "warning", "off begin and exposure"),
        ({"CTYPE1": None}, "pointing", "note", "nobody knows where it points"),
        ({"SITELAT": None}, "site", "note", "nobody knows where the telescope stands"),
        ({"DATE-OBS": "2020-01-01"}, "middle", "warning", "has a date only"),
        ({"DATE-OBS": "2020-01-01T01:00:00", "MJD-OBS": 58849.0}, "middle", "warning", "has no time of day"),
        ({"IMAGETYP": None}, "kind", "warning", "no image type"),
        ({"OBJECT": None}, "object", "note", "no target name"),
        ({"INSTRUME": None}, "instrument", "warning", "nothing names the camera"),
        ({"INSTRUME": "another"}, "class", "note", "no camera class claims"),
        ({"CD1_1": None, "CD2_2": None, "RA": "16:41:41"}, "wcs", "note", "pointing only (RA, CRVAL1)"),
        ({"CTYPE1": None, "CRVAL1": None}, "wcs", "note", "none"),
        ({"TRIMSEC": "[1:512,1:512]"}, "sections", "note", "already trimmed"),
        ({"TRIMSEC": "[1:20,1:64]"}, "sections", "warning", "hold only 21 %"),
        ({"TRIMSEC": "[1:88,1:64]"}, "sections", "error", "overlaps its data section"),
        ({"BIASSEC": "the right", "GAIN": 1.6}, "file", "error", "is not a section"),
    ],
)
def test_nonsense_in_a_header_is_found(tmp_path, cards, quantity, level, words):
    found = explain(raw(tmp_path, **cards))
    about = said(found, quantity)
    assert [one for one, problem in about if words in problem] == [level], found.findings
    assert found.ok == ("error" not in {one for one, _ in said(found)})
    order = [LEVELS.index(finding.level) for finding in found.findings]
    assert order == sorted(order)
    assert all(finding.advice for finding in found.findings if finding.level != "note")


def test_a_gain_of_1_is_believed_of_pixels_that_are_no_whole_numbers(tmp_path):
    path = tmp_path / "a.fits"
    data = np.random.default_rng(1).normal(1000, 6.4, (64, 80)).astype(np.float32)
    cards = {key: value for key, value in GOOD.items() if "SEC" not in key}
    fits.PrimaryHDU(data, fits.Header(cards | {"GAIN": 1.0})).writeto(path)
    assert not said(explain(path), "gain")


@pytest.mark.parametrize(
    ("pixels", "cards", "words"),
    [
        ({"sky": 1000.0}, {"IMAGETYP": "bias", "EXPTIME": 0.0}, None),
        ({"sky": 1003.0}, {"IMAGETYP": "bias", "EXPTIME": 0.0}, None),
        (
            {"sky": 1000.0, "overscan": 600.0},
            {"IMAGETYP": "bias", "EXPTIME": 0.0},
            "they should agree|bias frame itself",
        ),
        ({"sky": 20000.0}, {"IMAGETYP": "flat"}, None),
        ({"sky": 20000.0, "overscan": 20010.0}, {"IMAGETYP": "flat"}, "as bright as the flat"),
        ({"sky": 1000.0, "overscan": 1000.0}, {}, None),
        ({"sky": 1000.0, "overscan": 1400.0}, {}, "brighter than the image"),
    ],
)
def test_an_overscan_that_does_not_look_like_one_is_found(tmp_path, pixels, cards, words):
    about = [problem for _, problem in said(explain(raw(tmp_path, **pixels, **cards)), "sections")]
    if words is None:
        assert not about
    else:
        assert len(about) == 1
        assert any(part in about[0] for part in words.split("|"))


def sections(*pairs):
    """A camera with these (data, overscan) sections."""

    class Blocks(Bench):
        @classmethod
        def detector_for(cls, header, shape):
            return Detector(
                amplifiers=[
                    Amplifier(name=name, data=data, overscan=overscan, gain=1.6, read_noise=6.4, saturation=6e4)
                    for name, (data, overscan) in zip("ABCD", pairs, strict=False)
                ]
            )

    return Blocks


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([((0, 64, 0, 40), (0, 64, 80, 88)), ((0, 64, 40, 80), (0, 64, 88, 96))], None),
        (
            [((0, 64, 0, 40), None), ((0, 64, 40, 100), None)],
            "data section of amplifier B (0, 64, 40, 100) is not inside",
        ),
        ([((0, 64, 0, 40), (0, 64, 80, 99)), ((0, 64, 40, 80), None)], "overscan section of amplifier A"),
        ([((0, 64, 0, 48), None), ((0, 64, 40, 80), None)], "data sections of amplifiers A and B overlap"),
        (
            [((0, 64, 0, 40), (0, 64, 50, 60)), ((0, 64, 40, 80), None)],
            "overscan and data of amplifiers A and B overlap",
        ),
        ([((0, 32, 0, 40), None), ((32, 64, 40, 80), None)], "2560 pixels belong to no amplifier"),
    ],
)
def test_sections_of_several_amplifiers(tmp_path, pairs, words):
    found = explain(raw(tmp_path), camera=sections(*pairs))
    about = said(found, "sections")
    if words is None:
        assert not about
        assert found["gain"] == (1.6, 1.6)
    else:
        assert any(level == "error" and words in problem for level, problem in about), about


def test_a_hook_that_fails_is_a_finding_with_its_line(tmp_path):
    class Careless(Bench):
        @classmethod
        def detector_for(cls, header, shape):
            return Detector.single(shape, gain=header["EGAIN"])

    found = explain(raw(tmp_path), camera=Careless)
    assert not found.ok
    ((level, problem),) = said(found, "file")
    assert level == "error"
    assert "Careless.detector_for failed (test_derived.py, line " in problem
    assert "EGAIN" in problem
    assert found["exposure"] == 60.0
    with pytest.raises(HeaderError, match=r"a\.fits: .*Careless\.detector_for failed"):
        Careless.read(tmp_path / "a.fits")


def test_rows_nothing_looks_at_are_told(tmp_path):
    class Typo(Bench):
        keywords = {"exposre": ("ITIME",)}

    (finding,) = [f for f in explain(raw(tmp_path), camera=Typo).findings if f.quantity == "keywords"]
    assert "keywords['exposre']" in finding.problem
    assert finding.advice == "did you mean 'exposure'?"


def test_two_cameras_that_claim_it_raise(tmp_path):
    class Rival(larun.Frame):
        @classmethod
        def matches(cls, header):
            return header.get("INSTRUME") == "bench camera"

    with pytest.raises(HeaderError, match="claimed by"):
        explain(raw(tmp_path))


# -- other files -------------------------------------------------------------------------------------------------------


def test_several_images_are_listed_and_the_header_is_still_read(tmp_path):
    images = [fits.ImageHDU(np.ones((8, 9), np.int16), name=name) for name in ("ONE", "TWO")]
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(GOOD)), *images]).writeto(path)
    found = explain(path)
    assert not found.ok
    assert "holds 2 images" in said(found, "file")[0][1]
    assert (found["filter"], found.header_only) == ("V", True)
    assert explain(path, ext="TWO")["size"] == [9, 8]


def test_a_header_alone_is_checked_without_pixels(tmp_path):
    path = tmp_path / "a.txt"
    header = fits.Header({"BITPIX": 16, "NAXIS": 2, "NAXIS1": 96, "NAXIS2": 64} | GOOD | {"GAIN": 1, "SATURATE": 70000})
    path.write_text(header.tostring(sep="\n"))
    found = explain(path)
    assert found.header_only
    assert found.ok
    assert [finding.quantity for finding in found.findings] == ["gain", "saturation"]
    assert found["middle"] == "2024-05-13T05:34:43.000"
    assert found["trimmed_size"] == [80, 64]
    path.write_text("INSTRUME= 'bench camera'\nGAIN    = 1.6\nRDNOISE = 5\n")
    found = explain(path)
    assert found["gain"] == (1.6,)
    assert "size" not in {quantity.name for quantity in found.quantities}
    assert "the size of the array is not known" in said(found, "size")[0][1]


def test_real_headers_without_pixels():
    for path in sorted(real_data("headers").glob("*.yaml")):
        found = explain(path)
        assert found.header_only
        assert found["kind"] in ("science", "flat", "bias", "dark")
        assert found["date"] is not None


def test_what_cannot_be_examined_raises(tmp_path):
    path = raw(tmp_path)
    Nickel.read(path).write(tmp_path / "product.fits")
    with pytest.raises(FileError, match="is a product of larun, not a raw file: see larun info"):
        explain(tmp_path / "product.fits")
    with pytest.raises(FileError, match=r"absent\.fits"):
        explain(tmp_path / "absent.fits")
    with pytest.raises(OptionError, match="gain = 'high'"):
        explain(path, gain="high")
    (tmp_path / "junk.fits").write_bytes(b"junk")
    with pytest.raises(FileError, match=r"junk\.fits"):
        explain(tmp_path / "junk.fits")
