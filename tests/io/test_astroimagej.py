"""Measurement tables of AstroImageJ: as it writes them, and as it can read them."""

import numpy as np
import pytest
from astropy import units as u

from larun.errors import FileError, OptionError
from larun.io.astroimagej import read_columns, write_columns

#: Columns and layout of a table saved by AstroImageJ; the numbers are made up.
SAVED = (
    " \tLabel\tslice\tSaturated\tJ.D.-2400000\tJD_UTC\tBJD_TDB\tAIRMASS\tSource_Radius\tSky_Rad(min)\t"
    "X(IJ)_T1\tX(FITS)_T1\tRA_T1\tDEC_T1\tSource-Sky_T1\tSource_Error_T1\tSource_AMag_T1\trel_flux_T1\tSource-Sky_C2\n"
    "1\twasp_0001_out.fits\t1\t0.0\t57000.123456\t2457000.123456\t2457000.126789\t1.234567\t10.0\t15.0\t500.5\t501.0\t"
    "7.512345\t-10.25\t123456.75\t355.5\t\t0.512345\t240000.0\n"
    "2\twasp 0002 out.fits\t2\t0.0\t57000.124456\t2457000.124456\t2457000.127789\t1.230567\t10.0\t15.0\t501.5\t502.0\t"
    "7.512345\t-10.25\t123450.25\t355.25\t\tNaN\t240001.0\t\n"
)


def test_a_table_as_astroimagej_saves_it(tmp_path):
    (tmp_path / "a.tbl").write_text(SAVED)
    (tmp_path / "b.csv").write_text(SAVED.replace("\t", ","))
    (tmp_path / "c.xls").write_bytes(b"\xef\xbb\xbf" + SAVED.replace("\n", "\r\n").encode())
    for name in ("a.tbl", "b.csv", "c.xls"):
        table = read_columns(tmp_path / name)
        assert table.colnames[:3] == ["Label", "slice", "Saturated"]
        assert table["Label"].tolist() == ["wasp_0001_out.fits", "wasp 0002 out.fits"]
        assert table["BJD_TDB"].unit == u.d
        assert table["BJD_TDB"].value.tolist() == [2457000.126789, 2457000.127789]
        assert table["X(FITS)_T1"].unit == u.pix
        assert table["RA_T1"].to_value("deg")[0] == pytest.approx(7.512345 * 15)
        assert table["DEC_T1"].unit == u.deg
        assert table["Source-Sky_T1"].tolist() == [123456.75, 123450.25]
        np.testing.assert_array_equal(table["rel_flux_T1"], [0.512345, np.nan])
        assert np.isnan(table["Source_AMag_T1"].value).all()
        assert table["Source-Sky_C2"].tolist() == [240000.0, 240001.0]


def test_every_digit_goes_there_and_back(tmp_path):
    rng = np.random.default_rng(2)
    columns = {
        "Label": ["a\tb", "c\nd", "ü"],
        "larun_flagged": [0, 1, 2],
        "BJD_TDB": (2460000 + rng.random(3)).tolist(),
        "Source-Sky_T1": [np.nan, np.inf, np.nextafter(1e300, 2e300)],
    }
    write_columns(tmp_path / "a.tbl", columns)
    table = read_columns(tmp_path / "a.tbl")
    assert table["Label"].tolist() == ["a b", "c d", "ü"]
    assert table["BJD_TDB"].value.tolist() == columns["BJD_TDB"]
    np.testing.assert_array_equal(table["Source-Sky_T1"], columns["Source-Sky_T1"])
    lines = (tmp_path / "a.tbl").read_text(encoding="utf-8").split("\n")
    assert lines[0].split("\t") == [" ", *columns]
    assert [line.split("\t")[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert lines[4:] == [""]


def test_a_table_without_rows(tmp_path):
    write_columns(tmp_path / "a.tbl", {"Label": [], "larun_flagged": [], "X(FITS)_T1": []})
    table = read_columns(tmp_path / "a.tbl")
    assert (len(table), table.colnames) == (0, ["Label", "larun_flagged", "X(FITS)_T1"])


def test_short_rows_and_words_among_numbers(tmp_path):
    (tmp_path / "a.tbl").write_text("Label\tslice\tX(FITS)_T1\tnote\na\t1\t2.5\tgood\nb\t2\nc\tx\n")
    table = read_columns(tmp_path / "a.tbl")
    np.testing.assert_array_equal(table["X(FITS)_T1"].value, [2.5, np.nan, np.nan])
    assert table["slice"].tolist() == ["1", "2", "x"]
    assert table["note"].tolist() == ["good", "", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "no measurement table"),
        (b"a,b\n1,2\n", "no measurement table"),
        (bytes(range(256)), "no measurement table"),
        (b"Label\tslice\tslice\na\t1\t2\n", "several columns named slice"),
        (b"Label\tslice\na\t1\t2\n", r"line 2: has 3 cells for 2 columns"),
        (b"\x1f\x8b" + bytes(20), "compressed"),
    ],
)
def test_what_is_no_such_table_is_told_with_its_name(tmp_path, content, message):
    (tmp_path / "a.tbl").write_bytes(content)
    with pytest.raises(FileError, match=rf"a\.tbl.*{message}"):
        read_columns(tmp_path / "a.tbl")


def test_only_tables_of_larun_are_replaced(tmp_path):
    (tmp_path / "a.tbl").write_text(SAVED)
    columns = {"Label": ["a"], "larun_flagged": [0]}
    with pytest.raises(FileError, match="never replaced"):
        write_columns(tmp_path / "a.tbl", columns, overwrite=True)
    write_columns(tmp_path / "b.tbl", columns)
    with pytest.raises(FileError, match="exists"):
        write_columns(tmp_path / "b.tbl", columns)
    write_columns(tmp_path / "b.tbl", columns, overwrite=True)
    with pytest.raises(OptionError, match="different length"):
        write_columns(tmp_path / "c.tbl", {"a": [1], "b": [1, 2]})
    with pytest.raises(FileError, match="does not exist"):
        read_columns(tmp_path / "c.tbl")
