"""Headers against pixels, and copies of files."""

import re
import shutil

import pytest

from larun.model.checks.kinds import duplicates, kind
from tests.conftest import real_data
from tests.model.checks.frames_of_night import edited, faults, raw_material, simulated


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("kinds") / "night")


def test_a_clean_night_is_what_its_headers_say(night):
    material = raw_material(night)
    (verdict,) = kind(material)
    assert verdict.status == "good"
    assert "4 bias, 6 dark, 6 flat, 8 science" in verdict.meaning
    assert [v.status for v in duplicates(material)] == ["good"]


@pytest.mark.parametrize(
    ("name", "said", "told"),
    [
        ("flat-V-001", "bias", r"taken for a bias frame, but it holds \d+ ADU of light"),
        ("science-V-001", "bias", r"holds \d+ stars"),
        ("science-R-002", "dark", r"holds \d+ stars"),
        ("flat-R-002", "dark", r"ADU more than the other darks"),
        ("bias-002", "flat", "no light"),
        ("dark-003s-001", "flat", "no light"),
        ("science-V-002", "flat", r"holds \d+ stars"),
        ("bias-001", "object", "neither sky nor stars"),
        ("dark-003s-002", "object", "neither sky nor stars"),
        ("flat-V-002", "object", "a flat or daylight"),
    ],
)
def test_a_frame_that_is_not_what_its_header_says_is_named(night, tmp_path, name, said, told):
    cards = {"IMAGETYP": said}
    if said == "dark":
        cards["EXPTIME"] = 60.0
    if said == "object":
        cards["EXPTIME"] = 60.0
    if said == "flat":
        cards["FILTER"] = "V"
    found = faults(kind(raw_material(edited(night, tmp_path / "n", {name: cards}))))
    assert [where for _, where in found] == [name]
    ((status, _),) = found
    assert status == "bad"
    (meaning,) = found.values()
    assert re.search(told, meaning)


def test_words_of_the_header_that_its_other_cards_contradict_are_told(night, tmp_path):
    biases = {f"bias-{n:03d}": {"IMAGETYP": "dark"} for n in range(1, 5)}
    flats = {f"flat-V-{n:03d}": {"IMAGETYP": "object", "OBJECT": "sky flat"} for n in range(1, 4)}
    found = [v for v in kind(raw_material(edited(night, tmp_path / "n", biases | flats))) if not v.passed]
    assert [v.status for v in found] == ["doubtful", "doubtful"]
    assert [v.value for v in found] == [4, 3]
    assert "say IMAGETYP='dark', but are bias frames" in found[0].meaning
    assert "OBJECT='sky flat'" in found[1].meaning


def test_the_nickel_night_is_told_what_obstype_gets_wrong():
    material = raw_material(real_data("nickel"))
    found = list(kind(material))
    assert [v.status for v in found] == ["good", "doubtful", "doubtful"]
    assert "10 bias, 3 flat, 6 science" in found[0].meaning
    assert "10 files say OBSTYPE='DARK', but are bias frames" in found[1].meaning
    assert "3 files say OBSTYPE='OBJECT', but are flat frames" in found[2].meaning
    assert [v.status for v in duplicates(material)] == ["good"]


def test_copies_are_named_whatever_their_headers_say(night, tmp_path):
    folder = edited(night, tmp_path / "n", {})
    shutil.copy(folder / "bias-001.fits", folder / "bias-009.fits")
    shutil.copy(folder / "science-V-001.fits", folder / "other.fits")
    from astropy.io import fits

    fits.setval(folder / "other.fits", "IMAGETYP", value="flat")
    found = faults(duplicates(raw_material(folder)))
    assert {where for _, where in found} == {"bias-009", "science-V-001"}
    assert "headers differ in what they are" in found["bad", "science-V-001"]
