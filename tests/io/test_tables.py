"""Catalogues in every format keep every bit and tell of changes."""

import subprocess

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

from larun.errors import CorruptProduct, FileError, OptionError
from larun.io.flat import same_table
from larun.io.product import ProductParts, write_product
from larun.io.tables import FORMATS, read_table, verify_table, write_table
from tests.io.test_product import CLEAN, fitsverify

SUFFIXES = [known.suffixes[0] for known in FORMATS]
RECORD = {
    "class": "larun.model.catalog:SourceCatalog",
    "provenance": {"id": "ab" * 32, "steps": ["detect"]},
    "note": "μ: 'quoted' \"twice\" # hash",
    "x": [1, 0.1, None],
}


def catalogue(rows: int = 40) -> QTable:
    rng = np.random.default_rng(8)
    table = QTable()
    table["id"] = np.arange(rows)
    table["x"] = rng.normal(500, 300, rows)
    table["flux"] = rng.normal(1e4, 1e3, rows) * u.electron
    table["flux_error"] = rng.random(rows).astype(np.float32) * u.electron
    table["ra"] = rng.random(rows) * 360 * u.deg
    table["flags"] = rng.integers(0, 2**32, rows, dtype=np.uint32)
    table["star"] = rng.random(rows) < 0.5
    table["name"] = [f"star {n}, 'a'" if n % 2 else "plain" for n in range(rows)]
    table["x"][0], table["flux"][0] = np.nan, np.nan * u.electron
    table["x"][1] = np.nextafter(1.0, 2.0)
    table["x"].info.description = "column of the centre, 0-based"
    table["flux"].info.description = "sum within the aperture"
    table.meta["radius"] = 5.0
    return table


def same(one: QTable, other: QTable) -> None:
    assert one.colnames == other.colnames
    for name in one.colnames:
        a, b = one[name], other[name]
        assert getattr(a, "unit", None) == getattr(b, "unit", None), name
        assert a.info.description == b.info.description, name
        plain, again = (np.asarray(getattr(column, "value", column)) for column in (a, b))
        if plain.dtype.kind == "U":
            assert plain.tolist() == again.tolist()
            continue
        assert again.dtype.newbyteorder("=") == plain.dtype, name
        assert np.array_equal(plain, again, equal_nan=plain.dtype.kind == "f"), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_acceptance_36_catalogues_come_back(tmp_path, suffix):
    path = tmp_path / f"stars{suffix}"
    table = catalogue()
    write_table(path, table, RECORD)
    assert table.meta == {"radius": 5.0}
    assert verify_table(path) == []
    again, record = read_table(path)
    assert isinstance(again, QTable)
    same(table, again)
    assert record == RECORD
    assert again["flags"].dtype.kind == "u"
    assert again.meta["radius"] == 5.0
    assert set(again.meta) == {"radius"}
    same(table, read_table(path, verify=False)[0])
    write_table(tmp_path / f"twice{suffix}", table, RECORD)
    assert (tmp_path / f"twice{suffix}").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("table", [catalogue()[:0], QTable({"a": np.zeros(0)})], ids=["no rows", "one column"])
def test_empty_catalogues(tmp_path, suffix, table):
    path = tmp_path / f"stars{suffix}"
    write_table(path, table, RECORD)
    again, record = read_table(path)
    assert (len(again), again.colnames, record) == (0, table.colnames, RECORD)


def test_positions_and_arrays_in_columns(tmp_path):
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    table = QTable({"sky": SkyCoord([1.5, 2.5], [3.0, -4.0], unit="deg"), "box": np.arange(8.0).reshape(2, 2, 2)})
    table["time"] = Time([2460000.5, 2460001.25], format="jd", scale="tdb")
    for suffix in SUFFIXES:
        write_table(tmp_path / f"a{suffix}", table, {})
        again, _ = read_table(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(again["sky"].ra.deg, table["sky"].ra.deg)
        np.testing.assert_array_equal(again["box"], table["box"])
        np.testing.assert_array_equal(again["time"].jd, table["time"].jd)
        assert same_table(again, table)


def test_metadata_stand_in_the_header_of_a_fits_table(tmp_path):
    table = every_type()
    table.meta |= {
        "TFORM1": "hostile",
        "theap": 7,
        "COMMENT": "c",
        "END": 1,
        "a = b": 1,
        "long" * 20: 2,
        "big": 2**70,
        "nan": "not in JSON",
    }
    write_table(tmp_path / "a.fits", table, RECORD)
    assert same_table(read_table(tmp_path / "a.fits")[0], table)
    header = fits.getheader(tmp_path / "a.fits", "TABLE")
    assert header["fwhm"] == 3.1
    assert header["radii"] == "1.0, 2.5"
    assert header["yes"] is True
    assert fits.getdata(tmp_path / "a.fits", "TABLE")["k_f8"].dtype == ">f8"
    assert "a = b" not in header
    assert header["TFORM1"] != "hostile"
    assert "THEAP" not in header


def test_other_programs_read_the_catalogue(tmp_path):
    write_table(tmp_path / "a.fits", catalogue(), RECORD)
    assert fitsverify(tmp_path / "a.fits") == CLEAN
    assert fits.getval(tmp_path / "a.fits", "LARUNCLS") == "larun.model.catalog:SourceCatalog"
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "TABLE", "PROVENANCE", "DIGESTS"]
        assert hdus["TABLE"].data["flags"].dtype == np.uint32
        np.testing.assert_array_equal(hdus["TABLE"].data["flags"], catalogue()["flags"])
    write_table(tmp_path / "a.ecsv", catalogue(), RECORD)
    assert len(Table.read(tmp_path / "a.ecsv")) == 40


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_acceptance_37_flips_in_catalogues_are_found(tmp_path, suffix):
    path = tmp_path / f"stars{suffix}"
    write_table(path, catalogue(12), RECORD)
    content = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(300):
        position, bit = int(rng.integers(len(content))), int(rng.integers(8))
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        path.write_bytes(bytes(changed))
        kinds = {problem.kind for problem in verify_table(path)}
        assert len(kinds) == 1
        if kinds == {"padding"}:
            assert suffix == ".fits"  # what no reader looks at
            continue
        with pytest.raises(CorruptProduct) as caught:
            read_table(path)
        assert str(path) in str(caught.value), (position, bit)
    path.write_bytes(content)
    read_table(path)


def test_text_beyond_ascii_needs_ecsv(tmp_path):
    table = QTable({"name": ["α Ori", "plain"]})
    write_table(tmp_path / "a.ecsv", table, {})
    assert read_table(tmp_path / "a.ecsv")[0]["name"].tolist() == ["α Ori", "plain"]
    with pytest.raises(OptionError, match=r"α Ori.*ecsv"):
        write_table(tmp_path / "a.fits", table, {})


def test_other_line_endings_are_no_damage(tmp_path):
    path = tmp_path / "a.ecsv"
    write_table(path, catalogue(), RECORD)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    same(catalogue(), read_table(path)[0])


def test_changed_by_hand(tmp_path):
    path = tmp_path / "a.ecsv"
    write_table(path, catalogue(), RECORD)
    path.write_text(path.read_text().replace("plain", "PLAIN", 1))
    with pytest.raises(CorruptProduct, match="changed after"):
        read_table(path)
    assert read_table(path, verify=False)[0]["name"][0] == "PLAIN"


def test_what_is_no_catalogue_of_larun(tmp_path):
    catalogue().write(tmp_path / "a.ecsv")
    with pytest.raises(FileError, match="not written by larun"):
        read_table(tmp_path / "a.ecsv")
    (tmp_path / "b.ecsv").write_text("nonsense")
    for verify in (True, False):
        with pytest.raises(FileError):
            read_table(tmp_path / "b.ecsv", verify=verify)
    plane = np.ones((3, 4), np.float32)
    parts = ProductParts("Frame", fits.Header(), plane, None, plane.astype(np.uint32), (), None, "adu", None, {})
    write_product(tmp_path / "image.fits", parts)
    with pytest.raises(FileError, match="holds no catalogue"):
        read_table(tmp_path / "image.fits")
    for name in ("a.fits.gz", "a.csv", "a"):
        with pytest.raises(OptionError, match=r"\.ecsv"):
            write_table(tmp_path / name, catalogue(), {})
    with pytest.raises(OptionError, match="record"):
        write_table(tmp_path / "c.ecsv", catalogue(), {"x": float("inf")})
    with pytest.raises(FileError, match="does not exist"):
        read_table(tmp_path / "no.ecsv")


def test_a_foreign_table_is_never_replaced(tmp_path):
    QTable({"a": [1.0]}).write(tmp_path / "a.fits")
    with pytest.raises(FileError, match="never replaced"):
        write_table(tmp_path / "a.fits", catalogue(), {}, overwrite=True)
    write_table(tmp_path / "b.ecsv", catalogue(3), {})
    write_table(tmp_path / "b.ecsv", catalogue(4), {}, overwrite=True)
    assert len(read_table(tmp_path / "b.ecsv")[0]) == 4


def every_type(rows: int = 30) -> QTable:
    """What users bring: all widths of numbers, masks, text beyond ASCII, names that clash but for their case."""
    count = np.arange(rows)
    table = QTable()
    for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f2", "f4", "f8", "?"):
        table[f"k_{kind}"] = (count - 3 * (kind[0] in "if")).astype(kind)
    table["k_u8"] = count.astype(np.uint64) + np.uint64(2**63)
    table["k_u8_small"] = count.astype(np.uint64)
    third = count % 3 == 0
    table["masked int"] = MaskedColumn(count + 7, mask=third, description="some are missing")
    table["masked_float"] = MaskedColumn(count * 0.1, mask=third)
    table["masked_text"] = MaskedColumn([f"s{n}" for n in count], mask=third)
    table["masked_bool"] = MaskedColumn(count % 2 == 0, mask=third)
    table["masked_flux"] = Masked(count * 1.5 * u.electron, mask=third)
    table["X"], table["x"] = count * 1.0, -count * 1.0
    table["rate/second 1"] = count * 0.5 * u.electron / u.s
    table["rate/second 1"].info.description = "a < b & 'c' \"d\""
    table["pair"] = count[:, None] * np.array([[1.0, -1.0]])
    table["infinite"] = np.where(third, np.inf, -np.inf)
    table["not_a_number"] = -np.full(rows, np.nan)
    table["tiny"] = np.nextafter(0.0, count * 1.0)
    table.meta = {"fwhm": 3.1, "radii": [1.0, 2.5], "none": None, "many": 3, "yes": True, "name": 'it\'s "so" <&> é'}
    return table


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rows", [30, 1, 0])
def test_every_type_of_column_comes_back(tmp_path, suffix, rows):
    table = every_type(rows)
    if rows == 0 and suffix == ".ecsv":
        table.remove_column("pair")
    write_table(tmp_path / f"a{suffix}", table, RECORD)
    again, record = read_table(tmp_path / f"a{suffix}")
    assert record == RECORD
    assert same_table(again, table)
    for name in table.colnames:
        assert np.asarray(again[name]).dtype == np.asarray(table[name]).dtype or "text" in name
    if rows:
        assert again["masked int"].mask.sum() == table["masked int"].mask.sum() > 0
        again["x"][0] = np.nextafter(again["x"][0], 1)
        assert not same_table(again, table)


def test_a_mask_and_a_unit_count(tmp_path):
    table = every_type()
    for change in ("mask", "unit", "description", "order", "meta", "name", "text"):
        other = table.copy()
        if change == "mask":
            other["masked int"].mask[1] = True
        elif change == "unit":
            other["rate/second 1"] = other["rate/second 1"].value * u.electron / u.min
        elif change == "description":
            other["masked int"].info.description = "none is missing"
        elif change == "order":
            other = other[other.colnames[::-1]]
        elif change == "meta":
            other.meta["fwhm"] = 3.2
        elif change == "name":
            other.rename_column("x", "x2")
        else:
            other["masked_text"][1] = "t"
        assert not same_table(other, table), change
    assert same_table(table.copy(), table)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_no_format_can_hold_is_refused_by_name(tmp_path, suffix):
    table = QTable({"a": [1.0], "things": np.array([{}], dtype=object)})
    with pytest.raises(OptionError, match=r"a\.\w+: column 'things' holds object"):
        write_table(tmp_path / f"a{suffix}", table, {})
    table = QTable({"bytes": np.array([b"\xff\xfe"])})
    with pytest.raises(OptionError, match="'bytes' holds bytes that are no text"):
        write_table(tmp_path / f"a{suffix}", table, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_of_any_kind_names_the_file(tmp_path, suffix):
    path = tmp_path / f"damaged{suffix}"
    write_table(path, catalogue(), RECORD)
    content = path.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], content[:100], b"", content + b"\n", b"\0" * 5000):
        path.write_bytes(damaged)
        with pytest.raises(FileError, match=r"damaged\."):
            read_table(path)
    half = len(content) // 2
    path.write_bytes(content[: content.rindex(b"\n", 0, half) if suffix == ".ecsv" else half])
    if suffix == ".ecsv":  # text that ends early, with a line, is still a table
        assert len(read_table(path, verify=False)[0]) < len(catalogue())
        return
    with pytest.raises(FileError, match=r"damaged\."):
        read_table(path, verify=False)


def test_a_wrong_suffix_is_told(tmp_path):
    for wrong in SUFFIXES:
        for suffix in SUFFIXES:
            if suffix == wrong:
                continue
            path = tmp_path / f"a{suffix}"
            write_table(path, catalogue(3), RECORD)
            moved = path.rename(tmp_path / f"b{wrong}")
            with pytest.raises(FileError, match=rf"by its content: rename it to end in \{suffix}"):
                read_table(moved)
            moved.unlink()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_files_of_larun_are_replaced(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    formats = {".ecsv": "ascii.ecsv", ".fits": "fits", ".parquet": "parquet", ".vot": "votable"}
    Table({"a": [1.0]}).write(path, format=formats[suffix])
    with pytest.raises(FileError, match="never replaced"):
        write_table(path, catalogue(), {}, overwrite=True)
    with pytest.raises(FileError, match=r"not written by larun|not a product of larun"):
        read_table(path)
    path.unlink()
    write_table(path, catalogue(3), {})
    with pytest.raises(FileError, match="exists"):
        write_table(path, catalogue(4), {})
    write_table(path, catalogue(4), {}, overwrite=True)
    assert len(read_table(path)[0]) == 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_text_that_looks_like_the_digest_does_no_harm(tmp_path, suffix):
    table = catalogue(3)
    fake = "larun_sha256: '" + "0" * 64 + '\' <INFO name="larun_sha256" value="' + "0" * 64 + '"/>'
    table["x"].info.description = fake
    table.meta["note"] = fake
    path = tmp_path / f"a{suffix}"
    write_table(path, table, {"note": fake})
    assert verify_table(path) == []
    again, record = read_table(path)
    assert record == {"note": fake}
    assert same_table(again, table)


def test_importing_io_is_light():
    code = "import sys; import larun.io.raw, larun.io.product, larun.io.tables; print(sorted(sys.modules))"
    import sys

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("astropy.table", "astropy.wcs", "astropy.nddata", "numba", "photutils", "ccdproc"):
        assert f"'{heavy}'" not in loaded, heavy


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("words", [["", "a"], ["", ""]])
def test_an_empty_text_is_no_missing_one(tmp_path, suffix, words):
    table = QTable({"n": [1, 2], "note": words})
    table["note"].info.description = "what was seen"
    write_table(tmp_path / f"a{suffix}", table, {})
    assert same_table(read_table(tmp_path / f"a{suffix}")[0], table)


def test_ecsv_refuses_the_carriage_returns_it_would_lose(tmp_path):
    with pytest.raises(OptionError, match=r"'note' holds carriage returns.*\.vot"):
        write_table(tmp_path / "a.ecsv", QTable({"note": ["a\r\nb"]}), {})
    assert not (tmp_path / "a.ecsv").exists()


def test_numbers_are_written_as_astropy_writes_them(tmp_path):
    rng = np.random.default_rng(3)
    wide = np.concatenate([10.0 ** rng.uniform(-320, 308, 500) * rng.choice([-1, 1], 500), [np.nan, np.inf, -np.inf]])
    wide = np.concatenate([wide, [0.0, -0.0, 1e16, 1e15, 1e-4, 1e-5, 5e-324, 123456789.0]])
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    table = QTable({"d": wide, "f": narrow * u.electron, "n": np.arange(wide.size, dtype=np.uint32), "t": wide > 0})
    table.write(tmp_path / "astropy.ecsv")
    write_table(tmp_path / "larun.ecsv", table, {})
    lines = [(tmp_path / name).read_text().splitlines() for name in ("larun.ecsv", "astropy.ecsv")]
    assert lines[0][-wide.size - 1 :] == lines[1][-wide.size - 1 :]
