"""Header values from sloppy cards, digests that survive recompression, and world coordinates to the last bit."""

import io
import json

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from larun.errors import OptionError
from larun.io.cards import card_text, exact_card, header_from_text, header_text, quiet, readable
from larun.io.headers import (
    canonical_header,
    get_number,
    get_numbers,
    get_text,
    header_digest,
    wcs_from_header,
    wcs_to_header,
)
from larun.io.pixeldigest import PixelDigest, joined_digest, pixel_digest, stored_digest
from larun.io.raw import read_header, read_raw
from tests.conftest import real_data

SLOPPY = [
    "EXPTIME =              60.0.0 / two points",
    "GAIN    = 1.79 e-/ADU",
    "lower   =                    5",
    "BAD KEY =                    5",
    "NOQUOTE = 'open string",
    "NAMELESS= word",
    "OBJECT  = M13",
    "BOOL    = True",
    "EXPON   = 1.5d3",
    "DATE-OBS= 2024-05-13",
    "TAB     = 'a\tb'",
    "EMPTY   =",
    "NOSLASH =                    5 comment without slash",
    "COMMENT caf\x82",
    "AAAAAAAA= 'it''s'",
    "WHAT=5",
]


def raw_header(*lines: str) -> fits.Header:
    with quiet():
        return fits.Header.fromstring("".join(line[:80].ljust(80) for line in lines))


def test_sloppy_cards_become_readable_and_stay_so():
    header = readable(raw_header(*SLOPPY).cards)
    text = header_text(header)
    assert len(text) == 80 * len(SLOPPY)
    assert text.isascii()
    assert text.isprintable()
    assert header_text(header_from_text(text)) == text  # stable from here on
    for card in header.cards:
        assert card.verify("exception") is None
    assert get_number(header, ("EXPTIME",)).value is None
    assert header["EXPTIME"] == "60.0.0"
    assert get_number(header, ("GAIN",)).value == 1.79
    assert header["OBJECT"] == "M13"
    assert header["AAAAAAAA"] == "it's"


def test_legal_cards_keep_every_character():
    lines = [
        "EXPTIME = 6.000000000000E+01 / odd spacing",
        "CUNIT1  = 'deg               ' / blanks",
        "HIERARCH ESO DET OUT1 GAIN = 1.79 / long name",
        "HISTORY  anything / goes",
        "        a card without a name",
    ]
    assert header_text(readable(raw_header(*lines).cards)) == "".join(line.ljust(80) for line in lines)


ANYTHING = st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=126), max_size=80)
VALUES = st.text(alphabet="0123456789.'/ -+EDedTF()aZ&=", max_size=70).map(lambda text: f"KEYWORD = {text}")


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(ANYTHING | VALUES)
def test_any_80_characters_make_a_card_that_is_safe(line):
    text = card_text(fits.Card.fromstring(line.ljust(80)))
    assert len(text) % 80 == 0
    assert text.isascii()
    again = header_from_text(text)
    assert header_text(again) == text
    canonical_header(again)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("53.907456", 53.907456),
        (" 2.01 e-/ADU", 2.01),
        ("60s", 60.0),
        ("1.5D+02", 150.0),
        ("-.5", -0.5),
        (7, 7.0),
        ("UNKNOWN", None),
        ("N/A", None),
        ("", None),
        ("   ", None),
        ("nan", None),
        (float("nan"), None),
        (True, None),
        ("[2.01, 1.99]", None),
        ("2.01, 1.99", None),
        ("18:15:29", None),
        ("high", None),
        (None, None),
    ],
)
def test_numbers(value, number):
    assert get_number({"GAIN": value}, ("EGAIN", "GAIN")) == ((number, "GAIN") if number is not None else (None, None))


def test_the_first_keyword_that_says_something_wins():
    header = {"GAIN": "UNKNOWN", "EGAIN": 0.78, "CCDGAIN": 1.0}
    assert get_number(header, ("GAIN", "EGAIN", "CCDGAIN")) == (0.78, "EGAIN")
    assert get_text({"A": "N/A", "B": " Filter  2 "}, ("A", "B")) == ("Filter 2", "B")
    assert get_text({"B": "x\x1b[31mred\n"}, ("B",)).value == "x[31mred"  # no control characters get out
    assert get_text({}, ("B",)) == (None, None)


def test_lists_of_numbers():
    assert get_numbers({"GAIN": "[2.01, 1.99, 2.05, 2.02]"}, ("GAIN",)).value == (2.01, 1.99, 2.05, 2.02)
    assert get_numbers({"GAIN": "2.01 1.99"}, ("GAIN",)).value == (2.01, 1.99)
    assert get_numbers({"GAIN": "2.01 e-/ADU"}, ("GAIN",)).value == (2.01,)
    assert get_numbers({"GAIN": 3}, ("GAIN",)).value == (3.0,)
    assert get_numbers({"GAIN": "[2.01, high]"}, ("GAIN",)) == (None, None)


def test_numbers_of_real_headers():
    assert get_number(read_header(real_data("sdss", "fpC-004192-g4-0300.fit.gz")), ("EXPTIME",)).value == 53.907456
    lco = read_header(real_data("lco", "coj1m011-fl08-20151216-0083-d00.fits.fz"))
    assert get_numbers(lco, ("GAIN",)).value == (2.01, 1.99, 2.05, 2.02)


def test_header_digest_sees_meaning_and_nothing_else():
    base = raw_header("EXPTIME =                 60.0 / s", "OBJECT  = 'M13     '", "HISTORY one", "HISTORY two")
    moved = raw_header("OBJECT  = 'M13'", "HISTORY one", "EXPTIME = 6.0E1 / s", "HISTORY two", "BZERO   = 32768")
    moved["CHECKSUM"], moved["NAXIS1"] = "abc", 7
    assert header_digest(moved) == header_digest(base)
    for line in ("EXPTIME = 60.1 / s", "OBJECT  = 'M 13    '", "EXPTIME = 60.0 / min"):
        other = base.copy()
        card = fits.Card.fromstring(line.ljust(80))
        other[card.keyword] = (card.value, card.comment)
        assert header_digest(other) != header_digest(base), line
    swapped = raw_header("EXPTIME =                 60.0 / s", "OBJECT  = 'M13     '", "HISTORY two", "HISTORY one")
    assert header_digest(swapped) != header_digest(base)
    zenith = base.copy()
    zenith["ZD"] = 30.0  # not every keyword with a Z belongs to the compression
    assert header_digest(zenith) != header_digest(base)


def test_pixel_digest_by_bands(rng):
    image = rng.normal(size=(50, 31)).astype(np.float32)
    image[3, 4] = np.nan
    whole = pixel_digest(image)
    for step in (1, 7, 50):
        digest = PixelDigest()
        for y in range(0, 50, step):
            digest.update(image[y : y + step])
        assert digest.hexdigest() == whole
    other_nan = image.copy()
    other_nan.view(np.uint32)[3, 4] = 0xFFC12345
    assert pixel_digest(other_nan) == whole
    filled, missing = image.copy(), np.isnan(image)
    filled[3, 4] = 7.0
    assert pixel_digest(filled, missing) == whole
    assert pixel_digest(image.astype(">f4")) == whole
    assert pixel_digest(np.asfortranarray(image)) == whole
    assert pixel_digest(image.reshape(31, 50)) != whole
    changed = image.copy()
    changed.view(np.uint32)[0, 0] ^= 1
    assert pixel_digest(changed) != whole
    with pytest.raises(OptionError, match="announced"):
        PixelDigest((50, 31)).update(image[:49]).hexdigest()


def test_pixel_digest_of_whole_numbers_depends_on_values_alone(rng):
    image = rng.integers(0, 65536, (150, 31)).astype(np.float32)
    whole = pixel_digest(image)
    stored = (image.astype(np.int32) - 32768).astype(">i2")
    chunks = [stored_digest(stored[y : y + PixelDigest.CHUNK]) for y in range(0, 150, PixelDigest.CHUNK)]
    assert joined_digest(chunks, image.shape) == whole
    for step in (1, 7, 64, 100):
        digest = PixelDigest()
        for y in range(0, 150, step):
            digest.update(image[y : y + step])
        assert digest.hexdigest() == whole
    image[3, 4] = 0.0
    seen = {pixel_digest(image)}
    for value in (-0.0, 1.0, 65536.0, -1.0, 0.5, np.nan, np.inf):
        image[3, 4] = value
        seen.add(pixel_digest(image))
    flags = np.zeros(image.shape, np.uint32)
    for place in ((0, 0), (149, 30), (64, 5)):
        flags[...] = 0
        flags[place] = 16
        seen.add(pixel_digest(image, flags=flags))
    assert len(seen) == 11  # every one of them counts


def simple_wcs(**changes) -> fits.Header:
    values = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 250.42167663571234, "CRVAL2": 36.46004486084111,
        "CRPIX1": 512.3, "CRPIX2": 511.7, "CD1_1": -1.027239995892123e-4, "CD1_2": -3.946270226152e-6,
        "CD2_1": 3.946270226152e-6, "CD2_2": -1.027239995892987e-4, "RADECSYS": "FK5", "EQUINOX": 2000.0,
        "DATE-OBS": "13/05/24",
    }  # fmt: skip
    return fits.Header(list((values | changes).items()))


def test_wcs_round_trip_keeps_every_bit():
    header = simple_wcs()
    for text in ("CD1_1   = -1.0272399958921234E-04", "CRVAL1  = 250.421676635712345"):
        card = fits.Card.fromstring(text.ljust(80))
        header[card.keyword] = card.value
    sip = simple_wcs(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1.2345678901234567e-6,
                     A_1_1=0.0, B_0_2=-7.654321098765432e-7)  # fmt: skip
    for cards in (header, sip):
        wcs = wcs_from_header(cards)
        text = header_text(wcs_to_header(wcs))
        again = wcs_from_header(header_from_text(text))
        assert header_text(wcs_to_header(again)) == text
        np.testing.assert_array_equal(again.pixel_scale_matrix, wcs.pixel_scale_matrix)
        places = np.array([[0.0, 0.0], [1000.25, 37.5], [511.3, 510.7]])
        np.testing.assert_array_equal(again.all_pix2world(places, 0), wcs.all_pix2world(places, 0))
    assert np.array_equal(again.sip.a, wcs.sip.a)


def test_wcs_of_real_headers():
    wcs = wcs_from_header(read_header(real_data("nickel", "d1059.fits.fz")))
    np.testing.assert_allclose(wcs.all_pix2world(511, 511, 0), (250.4216766357, 36.46004486084), atol=1e-9)
    assert wcs_from_header(read_header(real_data("hst", "pluto1.fits.gz"))).sip is not None
    assert wcs_from_header(read_header(real_data("lco", "coj1m011-fl08-20151216-0083-d00.fits.fz"))).naxis == 2
    assert wcs_from_header(read_header(real_data("tres1", "tres1-020.fit.fz"))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"CD1_1": 0.0, "CD1_2": 0.0},
        {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"},
        {"CTYPE1": "RA---XYZ"},
        {"CRVAL1": "somewhere"},
        {"CTYPE2": "RA---TAN"},
        {"CD1_1": "x", "CD2_2": True},
        {"CTYPE1": 5},
        {"A_ORDER": 2},
        {"CRVAL2": 95.0},
        {"RADECSYS": "of the day"},
    ],
)
def test_wrong_wcs_cards_never_raise_nor_print(changes, capfd):
    wcs = wcs_from_header(simple_wcs(**changes))
    if wcs is not None:
        assert np.isfinite(wcs.all_pix2world(3, 4, 0)).all()
    assert capfd.readouterr() == ("", "")


def test_degenerate_axes_are_dropped():
    wcs = wcs_from_header(simple_wcs(CTYPE3="FREQ", CRVAL3=1.4e9, CRPIX3=1.0, CDELT3=1.0, CD3_3=1.0))
    assert wcs.naxis == 2
    np.testing.assert_allclose(wcs.all_pix2world(511.3, 510.7, 0), (250.42167663571234, 36.46004486084111))


def test_exact_cards_hold_any_float():
    for value in (0.1, -1.0272399958921234e-4, 1e-300, 123456789.12345679, 5.0, 1e22, -0.0, np.nextafter(1.0, 2.0)):
        card = exact_card("KEY", value, "comment")
        assert len(str(card)) == 80
        assert np.float64(card.value).tobytes() == np.float64(value).tobytes()


def test_headers_survive_a_file(tmp_path):
    header = fits.Header()
    header["OBJECT"] = "M13"
    header["LONG"] = ("x" * 150, "continued")
    header["HIERARCH ESO DET GAIN"] = 1.5
    header["COMMENT"] = "words"
    fits.PrimaryHDU(np.ones((2, 3), np.float32), header).writeto(tmp_path / "a.fits")
    again = read_raw(tmp_path / "a.fits").header
    assert again["LONG"] == "x" * 150
    assert again["ESO DET GAIN"] == 1.5
    assert header_text(readable(again.cards)) == header_text(again)
    assert json.loads(json.dumps(canonical_header(again))) == canonical_header(again)
    assert header_digest(again) == header_digest(header)
    buffer = io.BytesIO()
    fits.PrimaryHDU(header=again).writeto(buffer)  # astropy accepts every card


def test_floats_set_in_memory_keep_their_digits():
    header = fits.Header([("CRPIX1", 1234.5678901234567), ("CD1_1", -1.0272399958921234e-4), ("HALF", 0.5)])
    again = header_from_text(header_text(header))
    assert [again[key] for key in again] == [header[key] for key in header]
