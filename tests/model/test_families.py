"""Cards that come once for each amplifier, and what is said of a detector that does not use them."""

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.detector import Section
from larun.model import registry
from larun.model.families import section_families, value_families
from larun.model.headers import KEYWORDS, detector_from_header
from tests.conftest import real_data

#: A chip with two amplifiers, the overscan at either edge and longer than the data, as MegaPrime writes it.
CARDS = {
    "INSTRUME": "two halves",
    "IMAGETYP": "object",
    "EXPTIME": 60.0,
    "DATASEC": "[9:40,1:20]",
    "BIASSEC": "[0:0,0:0]",
    "DSECA": "[9:24,1:20]",
    "DSECB": "[25:40,1:20]",
    "BSECA": "[1:8,1:24]",
    "BSECB": "[41:48,1:24]",
    "GAIN": 1.6,
    "GAINA": 1.5,
    "GAINB": 1.7,
    "RDNOISE": 4.0,
    "RDNOISEA": 3.0,
    "RDNOISEB": 5.0,
    "MAXLINA": 60000,
    "MAXLINB": 61000,
}
ROWS = {**KEYWORDS, "trim": ("DSEC",), "overscan": ("BSEC",)}


def findings(tmp_path, cards, quantity, shape=(24, 48), **options):
    path = tmp_path / "raw.fits"
    fits.PrimaryHDU(np.full(shape, 1000, np.uint16), fits.Header(cards)).writeto(path, overwrite=True)
    return [item for item in larun.instruments.check(path, **options).findings if item.quantity == quantity]


def test_rows_alone_give_one_amplifier_for_each_letter():
    detector = detector_from_header(fits.Header(CARDS), (24, 48), ROWS)
    first, second = detector.amplifiers
    assert (first.name, first.data, first.overscan) == ("A", Section(0, 20, 8, 24), Section(0, 20, 0, 8))
    assert (second.name, second.data, second.overscan) == ("B", Section(0, 20, 24, 40), Section(0, 20, 40, 48))
    assert [(a.gain, a.read_noise, a.linear_limit) for a in detector.amplifiers] == [(1.5, 3, 60000), (1.7, 5, 61000)]


def test_quadrants_are_named_by_two_digits():
    halves = {"1": "1:10", "2": "11:20"}
    cards = {f"DSEC{y}{x}": f"[{halves[x]},{halves[y]}]" for y in "12" for x in "12"}
    cards |= {f"GTGAIN{name}": 1.0 + number / 10 for number, name in enumerate(("11", "12", "21", "22"))}
    (family,) = section_families(cards)
    assert (family.base, family.row, len(family.cards)) == ("DSEC", "trim", 4)
    detector = detector_from_header(fits.Header(cards), (20, 20), {**ROWS, "gain": ("GTGAIN",)})
    assert [a.name for a in detector.amplifiers] == ["11", "12", "21", "22"]
    assert [a.gain for a in detector.amplifiers] == [1.0, 1.1, 1.2, 1.3]
    assert detector.amplifiers[2].data == Section(10, 20, 0, 10)


def test_cards_that_only_look_alike_are_no_family():
    assert not section_families({"TRIMSECA": "[1:5,1:9]", "TRIMSECB": "[4:9,1:9]"})  # they overlap
    assert not section_families({"FILTER1": "V", "FILTER2": "none", "DSECA": "[1:5,1:9]"})
    assert not value_families({"SATURATE": 1, "SATURATA": 1}, KEYWORDS)  # the plain card is no amplifier E
    assert not value_families({"GAINA": "low", "GAINB": "high"}, KEYWORDS)


def test_megaprime_needs_rows_and_no_code(tmp_path):
    path = real_data("headers", "fitsheader-megaprime.yaml")
    camera = tmp_path / "mega.py"
    camera.write_text(
        "import larun\n\n\nclass Mega(larun.Frame):\n"
        "    keywords = {'trim': ('DSEC',), 'overscan': ('BSEC',), 'chip': ('EXTVER',), 'end_time': ()}\n\n"
        "    @classmethod\n    def matches(cls, header):\n        return header.get('INSTRUME') == 'MegaPrime'\n"
    )
    (known,) = larun.instruments.load(camera)
    found = larun.instruments.check(path)
    assert found.camera == registry.name_of(known)
    assert found["gain"] == (1.57, 1.67)
    assert found["read_noise"] == (3, 5)
    assert found["overscan"] == ("[1:32,1:4612]", "[2081:2112,1:4612]")
    assert found["chip"] == "2"
    assert not found.findings


def test_one_amplifier_where_the_header_has_two_is_told_with_the_rows_that_help(tmp_path):
    (said,) = findings(tmp_path, CARDS, "amplifiers")
    assert said.level == "warning"
    for cards in ("DSECA, DSECB", "BSECA, BSECB", "GAINA, GAINB"):
        assert cards in said.problem
    assert '{"trim": ("DSEC",), "overscan": ("BSEC",)}' in said.advice
    values = {key: value for key, value in CARDS.items() if "SEC" not in key}
    (said,) = findings(tmp_path, values, "amplifiers")
    assert (said.level, "keywords" in said.advice) == ("note", False)
    assert not findings(tmp_path, {k: v for k, v in values.items() if k[-1] not in "AB"}, "amplifiers")
    assert not findings(tmp_path, CARDS, "amplifiers", shape=(20, 32))  # trimmed: the sections are its parent's
    whole = {key.replace("DSEC", "DATASEC").replace("BSEC", "BIASSEC"): value for key, value in CARDS.items()}
    assert not findings(tmp_path, whole, "amplifiers")


def test_an_overscan_that_nobody_uses_is_told(tmp_path):
    (said,) = findings(tmp_path, CARDS, "sections")
    assert said.level == "note"
    assert "BIASSEC = '[0:0,0:0]'" in said.problem
    (said,) = findings(tmp_path, {**CARDS, "DATASEC": "[1:48,1:24]"}, "sections")
    assert "is no section" in said.problem
    assert not findings(tmp_path, {**CARDS, "BIASSEC": "[1:8,1:24]"}, "sections")


@pytest.mark.parametrize(
    ("card", "value"), [("EXTVER", 3), ("NEXTEND", 36), ("CCDNAME", "8352-15-3"), ("IMAGEID", 4), ("EXTNAME", "ccd02")]
)
def test_one_of_several_detectors_without_a_name_is_told(tmp_path, card, value):
    (said,) = findings(tmp_path, {**CARDS, card: value}, "chip")
    assert said.level == "note"
    assert f"{card} = {value!r}" in said.problem
    assert "keywords['chip']" in said.advice


def test_a_detector_alone_or_one_with_a_name_is_not(tmp_path):
    assert not findings(tmp_path, {**CARDS, "EXTVER": 1, "NEXTEND": 1}, "chip")
    assert not findings(tmp_path, {**CARDS, "CCDNUM": 3, "NEXTEND": 36}, "chip")


@pytest.fixture(autouse=True)
def forget_new_cameras(monkeypatch):
    registry.load_plugins()
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))


def test_a_source_of_no_quantity_is_told(tmp_path):
    path = tmp_path / "typo.py"
    path.write_text(
        "import larun\n\n\nclass Typo(larun.Frame):\n    @classmethod\n    def matches(cls, header):\n"
        "        return header.get('INSTRUME') == 'two halves'\n\n    @classmethod\n"
        "    def detector_for(cls, header, shape):\n        return larun.Detector.single(\n"
        "            shape, gain=1.5, read_noise=3.0, sources={'readnoise': 'measured'}\n        )\n"
    )
    larun.instruments.load(path)
    (said,) = findings(tmp_path, {"INSTRUME": "two halves"}, "sources")
    assert "'readnoise'" in said.problem
    assert said.advice == "did you mean 'read_noise'?"
