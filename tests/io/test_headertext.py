"""Headers as text: whatever observatories hand out becomes the same cards; nothing in it is followed or run."""

import numpy as np
import pytest
from astropy.io import fits

from larun.errors import FileError
from larun.io.headertext import is_header_text, read_header_text
from tests.conftest import real_data

HEADER = fits.Header(
    {
        "SIMPLE": True,
        "BITPIX": 16,
        "NAXIS": 2,
        "NAXIS1": 1056,
        "NAXIS2": 1024,
        "BZERO": 32768,
        "INSTRUME": "O'Hara's camera",
        "EXPTIME": 60.5,
        "DATE-OBS": "2024-05-13",
        "GAIN": 1,
        "COOLED": True,
    }
)
HEADER.add_comment("taken by hand")


def check(text):
    header = text.header
    assert header["INSTRUME"] == "O'Hara's camera"
    assert (header["EXPTIME"], header["GAIN"], header["DATE-OBS"], header["COOLED"]) == (60.5, 1, "2024-05-13", True)
    assert "NAXIS1" not in header
    assert (text.shape, text.whole_numbers) == ((1024, 1056), True)


@pytest.mark.parametrize("sep", ["\n", "\r\n", ""])
def test_cards_with_and_without_line_ends(tmp_path, sep):
    path = tmp_path / "header.txt"
    path.write_bytes(HEADER.tostring(sep=sep or "", endcard=True, padding=False).encode())
    assert is_header_text(path)
    check(read_header_text(path))


def test_loose_lines_and_what_fitsheader_prints(tmp_path):
    path = tmp_path / "header.hdr"
    path.write_text(
        "# HDU 0 in a.fits:\nNAXIS1 = 1056\nNAXIS2=1024\nBITPIX = 16\nINSTRUME= 'O''Hara''s camera' / who\n"
        "EXPTIME=60.5\nDATE-OBS = '2024-05-13'\nGAIN    =1\nCOOLED=T\nfilter  = V\n"
        "COMMENT taken by hand\nEND\nGAIN = 7\n"
    )
    text = read_header_text(path)
    check(text)
    assert text.header["FILTER"] == "V"


def test_yaml_pairs_and_lists_with_types(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "BITPIX: 16\nNAXIS1: 1056\nNAXIS2: 1024\nINSTRUME: O'Hara's camera\nEXPTIME: 60.5\nDATE-OBS: 2024-05-13\n"
        "GAIN: 1\n"
        "COOLED: true\nUT: 12:30:45\nFILTER: '2'\nTELESCOP:\nCOMMENT: [one, two]\nHIERARCH ESO DET ID: long\n"
    )
    text = read_header_text(tmp_path / "a.yaml")
    check(text)
    assert text.header["UT"] == "12:30:45"  # YAML would make it 45045
    assert text.header["FILTER"] == "2"
    assert text.header["ESO DET ID"] == "long"
    (tmp_path / "b.yaml").write_text(
        "!<lsst.daf.base.PropertyList>\n- [BITPIX, Int, 16, '']\n- [NAXIS1, Int, 1056, '']\n- [NAXIS2, Int, 1024, '']\n"
        "- [INSTRUME, String, O'Hara's camera, who]\n- [EXPTIME, Double, 60.5, '']\n- [GAIN, Int, 1, '']\n"
        "- [DATE-OBS, String, 2024-05-13, '']\n- - COOLED\n  - Bool\n  - true\n  - ''\n- [FILTER, String, 2, '']\n"
    )
    text = read_header_text(tmp_path / "b.yaml")
    check(text)
    assert text.header["FILTER"] == "2"


def test_the_first_header_of_a_fits_file(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((6, 5), np.uint16), fits.Header({"INSTRUME": "x"})).writeto(path)
    assert not is_header_text(path)
    text = read_header_text(path)
    assert (text.shape, text.header["INSTRUME"]) == ((6, 5), "x")


def test_hostile_yaml_is_only_text(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text('!!python/object/apply:os.system ["touch /tmp/larun-evil"]\n')
    with pytest.raises(FileError, match=r"evil\.yaml: holds no header"):
        read_header_text(path)
    path.write_text(
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b]\n"
        'OBJECT: !!python/name:os.system x\nINSTRUME: "one\\ntwo\\0 \\u2028 \\"\\"\\" \'é"\n../KEY: 1\n'
        "END: 1\nFOO BAR BAZ: 3\n"
    )
    header = read_header_text(path).header
    assert header["INSTRUME"] == 'one?two? ? """ \'?'
    assert header["OBJECT"] == "x"
    assert header["FOO BAR BAZ"] == 3
    assert not any("/" in keyword for keyword in header)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a letter to my aunt\nabout the weather\n", "holds no header"),
        ("a.txt", "", "holds no header"),
        ("a.yaml", "a: [1, 2\nb: 3\n", r"a\.yaml, line 2: not YAML"),
        ("a.yaml", "a: \x01", r"not YAML"),
        ("a.yaml", "[" * 5000, r"not YAML|holds no header"),
        ("a.fits", "no FITS at all", r"a\.fits: not a FITS file"),
    ],
)
def test_what_is_no_header_says_so(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FileError, match=message):
        read_header_text(path)
    with pytest.raises(FileError, match=r"absent"):
        read_header_text(tmp_path / "absent.txt")


def test_the_size_comes_from_the_sections_where_nothing_else_says_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("TRIMSEC = '[1:1024,1:1000]'\nBIASSEC = '[1025:1056,1:1000]'\nINSTRUME= 'x'\nDATASEC = 'bad'\n")
    text = read_header_text(path)
    assert text.shape == (1000, 1056)
    assert text.shape_from == "the sections BIASSEC, TRIMSEC"
    path.write_text("INSTRUME= 'x'\n")
    assert read_header_text(path).shape is None


def test_real_headers_all_say_who_took_them():
    for path in sorted(real_data("headers").glob("*.yaml")):
        text = read_header_text(path)
        assert text.shape is not None, path
        assert min(text.shape) > 1000
        assert len(text.header) > 60


def test_info_of_a_text_says_in_plain_words_what_it_is(tmp_path):
    from larun.report.inspect import open_file

    header, page = tmp_path / "header.yaml", tmp_path / "README.md"
    header.write_text("INSTRUME: roof\nEXPTIME: 60\n")
    page.write_text("# Notes\n\nNothing here is a header.\n")
    with pytest.raises(FileError, match=r"text of a header.*larun instrument check .*header\.yaml"):
        open_file(header)
    with pytest.raises(FileError, match=r"README\.md: is not FITS"):
        open_file(page)
