"""FITS section text against larun's sections, and against ccdproc."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larun.detector import Section
from larun.errors import HeaderError
from larun.io.sections import format_section, parse_section

EDGES = st.tuples(st.integers(1, 4000), st.integers(0, 4000)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(deadline=None, derandomize=True, database=None)
@given(EDGES, EDGES)
def test_sections_agree_with_ccdproc(x, y):
    from ccdproc.utils.slices import slice_from_string

    text = f"[{x[0]}:{x[1]},{y[0]}:{y[1]}]"
    section = parse_section(text)
    assert section.slices == slice_from_string(text, fits_convention=True)
    assert format_section(section) == text


def test_the_pixels_of_a_section():
    image = np.arange(20).reshape(4, 5)
    assert image[parse_section("[2:3,1:4]").slices].tolist() == [[1, 2], [6, 7], [11, 12], [16, 17]]


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ("[1:1024,1:1024]", Section(0, 1024, 0, 1024)),
        ("[   4:  13,   1: 520]", Section(0, 520, 3, 13)),
        ("[13:4,520:1]", Section(0, 520, 3, 13)),
        ("1:10,2:20", Section(1, 20, 0, 10)),
        ("UNKNOWN", None),
        (" n/a ", None),
        ("", None),
        (None, None),
        ("[0:0,0:0]", None),
    ],
)
def test_section_text_of_real_headers(text, section):
    assert parse_section(text, "BIASSEC") == section


def test_stars_take_the_whole_axis():
    assert parse_section("[*,3:4]", shape=(10, 20)) == Section(2, 4, 0, 20)
    with pytest.raises(HeaderError, match="size of the array"):
        parse_section("[*,3:4]")


@pytest.mark.parametrize("text", ["[1:10]", "[a:b,c:d]", "[1:10:2,1:5]", "[0:9,0:9]", "[-3:9,1:9]", "[1.5:2,1:2]", 17])
def test_bad_sections_name_keyword_and_value(text):
    with pytest.raises(HeaderError, match="TRIMSEC") as caught:
        parse_section(text, "TRIMSEC")
    assert str(text) in str(caught.value)


def test_a_lost_bracket_leaves_no_doubt():
    assert parse_section("[1:10,2:20") == Section(1, 20, 0, 10)
