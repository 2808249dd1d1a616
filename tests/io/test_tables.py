"""Catalogues in both formats keep every bit and tell of changes; DS9 regions go there and back."""

import subprocess

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table

from larun.errors import CorruptProduct, FileError, OptionError
from larun.io.product import ProductParts, read_product, write_product
from larun.io.tables import read_regions, read_table, verify_table, write_regions, write_table
from tests.io.test_product import CLEAN, fitsverify

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


@pytest.mark.parametrize("suffix", [".ecsv", ".fits"])
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


@pytest.mark.parametrize("suffix", [".ecsv", ".fits"])
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
    for suffix in (".ecsv", ".fits"):
        write_table(tmp_path / f"a{suffix}", table, {})
        again, _ = read_table(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(again["sky"].ra.deg, table["sky"].ra.deg)
        np.testing.assert_array_equal(again["box"], table["box"])
        np.testing.assert_array_equal(again["time"].jd, table["time"].jd)


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


@pytest.mark.parametrize("suffix", [".ecsv", ".fits"])
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
            assert suffix == ".fits"
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


def test_acceptance_19_array_region_side_a_star_goes_there_and_back(tmp_path, rng):
    """Image, FITS, DS9 region and back: the same place to 1e-6 px, for stars all over and at the corners."""
    y, x = np.mgrid[0:61, 0:83].astype(np.float64)
    for x0, y0 in [(40.123456789, 30.987654321), (20.5, 10.25), *rng.uniform(15, 45, (8, 2)).tolist()]:
        star = np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.7**2)).astype(np.float32)
        bare = ProductParts(
            "Frame", fits.Header(), star, None, np.zeros(star.shape, np.uint32), (), None, "adu", None, {}
        )
        write_product(tmp_path / "star.fits", bare, overwrite=True)
        image = read_product(tmp_path / "star.fits").data.astype(np.float64)
        weights = image / image.sum()
        place = (weights * x).sum(), (weights * y).sum()
        write_regions(tmp_path / "star.reg", *place, 5.0, overwrite=True)
        back_x, back_y, radius = read_regions(tmp_path / "star.reg")
        assert abs(back_x[0] - x0) < 1e-6
        assert abs(back_y[0] - y0) < 1e-6
        assert radius[0] == 5.0


def test_regions_are_counted_from_one(tmp_path):
    write_regions(tmp_path / "a.reg", [0.0, 9.25], [0.0, 99.5], 3.0)
    lines = (tmp_path / "a.reg").read_text().splitlines()
    assert lines[2:] == ["image", "circle(1.0,1.0,3.0)", "circle(10.25,100.5,3.0)"]


def test_regions_as_ds9_saves_them(tmp_path):
    (tmp_path / "a.reg").write_text(
        "# Region file format: DS9 version 4.1\n"
        'global color=green dashlist=8 3 width=1 font="helvetica 10 normal" image=1 fk5=no\n'
        "image\ncircle(341.5,204.25,20) # text={a fk5 star}\npoint(10,20) # point=x\n"
        "-CIRCLE(3, 4, 5)\nimage;circle 7 8 9\n"
    )
    x, y, radius = read_regions(tmp_path / "a.reg")
    assert x.tolist() == [340.5, 9.0, 2.0, 6.0]
    assert y.tolist() == [203.25, 19.0, 3.0, 7.0]
    np.testing.assert_array_equal(radius, [20, np.nan, 5, 9])


def test_regions_that_are_not_in_pixels_are_refused(tmp_path):
    for text in ('fk5\ncircle(250.4,36.4,5")\n', "icrs;circle(1,2,3)\n", 'image\ncircle(16:41:41,36:27:37,20")\n'):
        (tmp_path / "a.reg").write_text(text)
        with pytest.raises(FileError, match="line"):
            read_regions(tmp_path / "a.reg")
    with pytest.raises(FileError, match="does not exist"):
        read_regions(tmp_path / "no.reg")
    with pytest.raises(OptionError, match="finite"):
        write_regions(tmp_path / "b.reg", [np.nan], [1.0], 3.0)
    (tmp_path / "mine.reg").write_text("image\ncircle(1,2,3)\n")
    with pytest.raises(FileError, match="never replaced"):
        write_regions(tmp_path / "mine.reg", [1.0], [1.0], 3.0, overwrite=True)


def test_importing_io_is_light():
    code = "import sys; import larun.io.raw, larun.io.product, larun.io.tables; print(sorted(sys.modules))"
    import sys

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("astropy.table", "astropy.wcs", "astropy.nddata", "numba", "photutils", "ccdproc"):
        assert f"'{heavy}'" not in loaded, heavy
