"""Parquet catalogues are ordinary tables to pandas, pyarrow and astropy."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from larun.errors import CorruptProduct, MissingExtra, OptionError
from larun.io.parquet import PARQUET
from larun.io.tables import read_table, verify_table, write_table
from tests.io.test_tables import RECORD, catalogue, every_type

pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture
def path(tmp_path):
    write_table(tmp_path / "stars.parquet", catalogue(), RECORD)
    return tmp_path / "stars.parquet"


def test_pandas_opens_it(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == catalogue().colnames
    assert frame["flags"].dtype == np.uint32
    np.testing.assert_array_equal(frame["flux"].to_numpy(), catalogue()["flux"].value)
    assert frame["name"].tolist() == catalogue()["name"].tolist()


def test_pyarrow_opens_it_with_units_and_descriptions(path):
    from pyarrow import parquet

    table = parquet.read_table(path)
    assert table.num_rows == 40
    assert table.schema.field("flux").metadata == {b"unit": b"electron", b"description": b"sum within the aperture"}
    assert table.schema.field("id").metadata is None
    some = parquet.read_table(path, columns=["x", "flux"], filters=[("x", ">", 500.0)])
    assert some.column_names == ["x", "flux"]
    assert 0 < some.num_rows < 40


def test_astropy_opens_it_with_units_and_metadata(path):
    pytest.importorskip("pandas")
    table = QTable.read(path, format="parquet")
    assert table["ra"].unit == u.deg
    assert table["flux"].info.description == "sum within the aperture"
    assert table.meta["radius"] == 5.0
    np.testing.assert_array_equal(table["flux"].value, catalogue()["flux"].value)


def test_every_bit_of_a_number_is_kept(tmp_path):
    bits = np.array([0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8DEADBEEF0001, 1, 0x8000000000000000], np.uint64)
    write_table(tmp_path / "a.parquet", QTable({"value": bits.view(float)}), {})
    again, _ = read_table(tmp_path / "a.parquet")
    assert np.asarray(again["value"]).view(np.uint64).tolist() == bits.tolist()


def test_a_flip_in_any_byte_of_the_footer_is_found(path):
    """Where lengths, types and metadata stand, with a flip in every fifth byte."""
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little") + 8
    for position in range(len(content) - length, len(content), 5):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(changed))
        assert verify_table(path), position
        with pytest.raises(CorruptProduct, match=r"stars\.parquet"):
            read_table(path)


def test_columns_that_parquet_lacks(tmp_path):
    with pytest.raises(OptionError, match=r"z\.parquet: column 'z' holds complex numbers"):
        write_table(tmp_path / "z.parquet", QTable({"z": [1j]}), {})


def test_text_beyond_ascii_and_names_beyond_words(tmp_path):
    table = QTable({"α, β": ["ω Cen", "🌟"], "": [1, 2], "a\nb": [3, 4]})
    write_table(tmp_path / "a.parquet", table, {})
    again, _ = read_table(tmp_path / "a.parquet")
    assert again.colnames == table.colnames
    assert again["α, β"].tolist() == ["ω Cen", "🌟"]


def test_a_large_table_is_quick_and_the_same_twice(tmp_path):
    table = every_type(20_000)
    for name in "ab":
        write_table(tmp_path / f"{name}.parquet", table, RECORD)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_without_pyarrow_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"larun\[tables\]"):
        write_table(path.with_name("b.parquet"), catalogue(), {})
    with pytest.raises(MissingExtra, match=r"larun\[tables\]"):
        read_table(path)
    assert verify_table(path) == []  # the digest needs no pyarrow
    assert sorted(item.name for item in path.parent.iterdir()) == ["stars.parquet"]


def test_pyarrow_is_loaded_only_when_needed():
    code = "import sys, larun.io.tables; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_format_is_told_by_its_first_bytes(path):
    assert PARQUET.starts(path.read_bytes()[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not PARQUET.starts(b"# %ECSV 1.0")
