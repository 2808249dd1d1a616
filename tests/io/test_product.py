"""Products keep every bit, tell of every flipped bit, and satisfy strict readers."""

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from larun import flags
from larun.errors import CorruptProduct, FileError, LarunWarning, OptionError
from larun.io import container
from larun.io.cards import header_from_text, header_text, readable
from larun.io.headers import wcs_from_header, wcs_to_header
from larun.io.product import ProductParts, is_product, read_product, verify_product, write_product
from larun.io.raw import read_raw
from tests.conftest import real_data
from tests.io.test_headers import SLOPPY, raw_header, simple_wcs

REAL = [
    ("nickel", "d1059.fits.fz"),
    ("tres1", "tres1-020.fit.fz"),
    ("kb13475", "AKB13475I0001.fits.fz"),
    ("lco", "coj1m011-fl08-20151216-0049-b00.fits.fz"),
    ("ste3", "a8280271.fits.gz"),
    ("hst", "pluto1.fits.gz"),
    ("sdss", "fpC-004192-g4-0300.fit.gz"),
]


def awkward_header() -> fits.Header:
    header = fits.Header()
    header["OBJECT"] = "M13"
    header["EXPTIME"] = (60.0, "seconds")
    header["LONG"] = ("x" * 150, "continued over cards")
    header["HIERARCH ESO DET OUT1 GAIN"] = (1.79, "long keyword")
    header["EPOCH"] = 2000.0
    header["TFORM1"], header["NAXIS1"], header["BZERO"], header["EXTNAME"] = "J", 1056, 32768, "SCI"
    header["COMMENT"] = "words"
    header["HISTORY"] = "more words"
    header[""] = "no name"
    text = header_text(header) + header_text(readable(raw_header(*SLOPPY, "OBJECT  = 'twice'").cards))
    return header_from_text(text)


def parts(shape: tuple[int, int] = (7, 5), **changes) -> ProductParts:
    rng = np.random.default_rng(5)
    data = rng.normal(100, 5, shape).astype(np.float32)
    data.view(np.uint32)[0, :5] = [0x7FC00000, 0xFFC12345, 0x7F800001, 0x80000000, 0x7F800000]  # NaNs, −0, ∞
    full = ProductParts(
        class_name="larun.instruments.nickel:Nickel",
        header=awkward_header(),
        data=data,
        variance=rng.random(shape).astype(np.float32),
        flags=rng.integers(0, 2**32, shape, dtype=np.uint32),
        shared=(("ab" * 32, rng.random(shape).astype(np.float32)), ("cd" * 32, np.zeros(shape, np.float32))),
        noise_acf=rng.random((3, 3)).astype(np.float32),
        unit="electron",
        wcs_header=wcs_to_header(wcs_from_header(simple_wcs())),
        record={"provenance": {"id": "1", "name": "μ é"}, "numbers": [1, 2.5, None, True, 1e-300]},
        planes=(("COVERAGE", rng.integers(0, 9, shape).astype(np.uint16)), ("KERNEL", rng.random((2, 3, 4)))),
    )
    return full._replace(**changes)


def same(one: ProductParts, other: ProductParts) -> None:
    for name, a, b in zip(ProductParts._fields, one, other, strict=True):
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name
            assert b.dtype.isnative
            assert b.flags.c_contiguous
        elif isinstance(a, fits.Header):
            assert header_text(a) == header_text(b), name
        elif name in ("shared", "planes"):
            assert [key for key, _ in a] == [key for key, _ in b]
            for (_, plane), (_, again) in zip(a, b, strict=True):
                assert (plane.dtype, plane.tobytes()) == (again.dtype, again.tobytes())
        else:
            assert a == b, name


def fitsverify(path: Path) -> str:
    """The verdict of a strict reader that larun's authors did not write."""
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed")
    out = subprocess.run([program, str(path)], capture_output=True, text=True, check=False).stdout
    complaints = [line for line in out.splitlines() if line.startswith("***") and "Verification found" not in line]
    return "\n".join(complaints) or out.splitlines()[-1].strip("* .")


CLEAN = "Verification found 0 warning(s) and 0 error(s)"


@pytest.fixture
def product(tmp_path) -> Path:
    write_product(tmp_path / "p.fits", parts())
    return tmp_path / "p.fits"


def test_acceptance_36_file_side_every_bit_comes_back(product):
    same(parts(), read_product(product))
    same(parts(), read_product(product, verify=False))
    assert verify_product(product) == []
    assert is_product(product)


def test_acceptance_36_optional_parts_may_be_absent(tmp_path):
    bare = parts(variance=None, shared=(), noise_acf=None, wcs_header=None, planes=(), header=fits.Header(), unit="")
    write_product(tmp_path / "p.fits", bare)
    same(bare, read_product(tmp_path / "p.fits"))
    assert fitsverify(tmp_path / "p.fits") == CLEAN


def test_acceptance_36_planes_larger_than_one_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "_CHUNK", 1 << 10)
    big = parts((67, 53))
    write_product(tmp_path / "p.fits", big)
    monkeypatch.undo()
    assert verify_product(tmp_path / "p.fits") == []
    same(big, read_product(tmp_path / "p.fits"))
    write_product(tmp_path / "q.fits", big)
    assert (tmp_path / "q.fits").read_bytes() == (tmp_path / "p.fits").read_bytes()  # no clock, no path, no chunk


def test_acceptance_34_threads_change_no_byte(tmp_path, product, monkeypatch):
    parts = read_product(product)
    for count in (1, 2, 5):
        monkeypatch.setenv("LARUN_THREADS", str(count))
        write_product(tmp_path / f"{count}.fits", parts)
        assert (tmp_path / f"{count}.fits").read_bytes() == product.read_bytes()
        assert verify_product(tmp_path / f"{count}.fits") == []


def test_other_programs_read_the_product(product):
    expected = parts()
    with fits.open(product, checksum=True) as hdus:  # a wrong checksum would warn, and warnings are errors
        assert [hdu.name for hdu in hdus] == [
            *("PRIMARY", "SCI", "VAR", "DQ", "SHARED", "SHARED", "ACF", "COVERAGE", "KERNEL"),
            *("HEADER", "PROVENANCE", "DIGESTS"),
        ]
        np.testing.assert_array_equal(hdus["SCI"].data, expected.data)
        np.testing.assert_array_equal(hdus["DQ"].data, expected.flags)
        assert hdus["DQ"].data.dtype == np.uint32
        assert hdus["SCI"].header["BUNIT"] == "electron"
        assert hdus["SHARED", 2].header["MASTERID"] == "cd" * 32
        primary = hdus[0].header
        assert (primary["LARUNFMT"], primary["LARUNCLS"]) == (1, expected.class_name)
        assert (primary["EXPTIME"], primary["EQUINOX"], primary["ESO DET OUT1 GAIN"]) == (60.0, 2000.0, 1.79)
        assert primary["LONG"] == "x" * 150
        assert "EXTNAME" not in primary
        dq = hdus["DQ"].header
        assert {dq[f"DQNAME{n}"]: dq[f"DQBIT{n}"] for n in range(1, 1 + len(flags.TABLE))} == {
            flag.name: flag.bit for flag in flags.TABLE
        }
        np.testing.assert_allclose(
            wcs_from_header(hdus["SCI"].header).all_pix2world(3, 4, 0),
            wcs_from_header(expected.wcs_header).all_pix2world(3, 4, 0),
            rtol=0,
            atol=0,
        )
    np.testing.assert_array_equal(read_raw(product).data[1:], expected.data[1:])  # also as a plain image


def test_strict_readers_accept_awkward_headers(product):
    assert fitsverify(product) == CLEAN


@pytest.mark.parametrize("where", REAL, ids=lambda where: where[0])
def test_strict_readers_accept_real_headers(where, tmp_path):
    raw = read_raw(real_data(*where))
    wcs = wcs_from_header(raw.header)
    real = parts(header=raw.header, wcs_header=None if wcs is None else wcs_to_header(wcs))
    write_product(tmp_path / "p.fits", real)
    assert fitsverify(tmp_path / "p.fits") == CLEAN
    same(real, read_product(tmp_path / "p.fits"))


def test_strict_readers_accept_random_headers(tmp_path):
    rng = np.random.default_rng(11)
    keywords = ["DATE-OBS", "OBJECT", "EQUINOX", "EPOCH", "MJD-OBS", "EXPTIME", "TELESCOP", "A", "B_1", "CRVAL1", "END"]
    letters = list("0123456789.'/ -+EDedTF()aZ&=:")
    lines = []
    for number in range(1500):
        keyword = keywords[number % len(keywords)] if number % 3 else f"K{number}"
        lines.append(f"{keyword:<8}= " + "".join(rng.choice(letters, rng.integers(0, 70))))
    for first in range(0, len(lines), 150):
        header = readable(raw_header(*lines[first : first + 150]).cards)
        path = tmp_path / f"{first}.fits"
        odd = parts(header=header)
        write_product(path, odd)
        assert fitsverify(path) == CLEAN
        same(odd, read_product(path))


def spans(path: Path) -> list[tuple[str, str, int, int]]:
    """(HDU, kind, start, stop) for every byte of a product, from its layout."""
    with path.open("rb") as file:
        entries, problems = container.layout(file)
    assert problems == ()
    found = []
    for entry in entries:
        header, data = entry.start + entry.header_bytes, entry.data_start + entry.data_bytes
        found += [(entry.name, "header", entry.start, header), (entry.name, "padding", header, entry.data_start)]
        found += [(entry.name, "data", entry.data_start, data), (entry.name, "padding", data, entry.end)]
    return found


def flip(path: Path, content: bytes, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(bytes([content[position] ^ (1 << bit)]))


def restore(path: Path, content: bytes, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(content[position : position + 1])


def test_acceptance_37_random_flips_are_found_and_placed(product):
    content = product.read_bytes()
    rng = np.random.default_rng(37)
    places = [span for span in spans(product) if span[2] < span[3]]
    assert places[-1][3] < len(content)  # what is left is DIGESTS
    verdicts = set()
    for number in range(600):
        name, kind, start, stop = places[number % len(places)]
        position, bit = int(rng.integers(start, stop)), int(rng.integers(8))
        flip(product, content, position, bit)
        problems = verify_product(product)
        assert [(problem.hdu, problem.kind) for problem in problems] == [(name, kind)], (position, bit)
        assert is_product(product)
        verdicts.add(kind)
        if number % 10 == 0 and kind != "padding":
            with pytest.raises(CorruptProduct, match=name) as caught:
                read_product(product)
            assert str(product) in str(caught.value)
        restore(product, content, position)
    assert verdicts == {"header", "data", "padding"}
    assert verify_product(product) == []


def test_acceptance_37_every_byte_of_the_seal(tmp_path):
    """One bit of every byte of DIGESTS (of each 16th of its padding) and of every second byte of PRIMARY."""
    product = tmp_path / "p.fits"
    write_product(product, parts(variance=None, shared=(), noise_acf=None, planes=(), header=fits.Header()))
    content, entries = product.read_bytes(), spans(product)
    seal = entries[-1][3]
    cards, text = seal + 10 * 80, seal + 2880
    end = text + len(content[text:].rstrip(b"\0"))
    expected = dict.fromkeys([*range(seal, cards), *range(text, end)], ("DIGESTS", "digests"))
    expected |= dict.fromkeys([*range(cards, text, 16), *range(end, len(content), 16)], ("DIGESTS", "padding"))
    for name, kind, start, stop in entries[:2]:
        expected |= dict.fromkeys(range(start, stop, 2 if kind == "header" else 16), (name, kind))
    for position, verdict in expected.items():
        flip(product, content, position, position % 8)
        assert [(problem.hdu, problem.kind) for problem in verify_product(product)] == [verdict], position
        restore(product, content, position)
    assert verify_product(product) == []
    assert len(expected) > 2000


def test_acceptance_37_damaged_padding_is_read_with_a_warning(product):
    content = product.read_bytes()
    start = next(
        start for name, kind, start, stop in spans(product) if (name, kind) == ("DQ", "padding") and stop > start
    )
    flip(product, content, start, 3)
    with pytest.warns(LarunWarning, match="DQ: the padding"):
        same(parts(), read_product(product))


def test_acceptance_37_bytes_too_many_or_too_few(product):
    content = product.read_bytes()
    for changed in (content + b"x", content + bytes(2880), content[:-1], content[:-2880], content[: len(content) // 2]):
        product.write_bytes(changed)
        assert {problem.kind for problem in verify_product(product)} <= {"count", "digests"}
        assert verify_product(product) != []
        with pytest.raises(FileError):
            read_product(product)
    name, _, start, _ = next(span for span in spans_of(content, product) if span[0] == "VAR")
    stop = next(span[2] for span in spans_of(content, product) if span[0] == "DQ")
    product.write_bytes(content[:start] + content[stop:])  # a whole HDU taken out
    assert [problem.kind for problem in verify_product(product)] == ["count"], name


def spans_of(content: bytes, path: Path) -> list[tuple[str, str, int, int]]:
    path.write_bytes(content)
    return spans(path)


def test_a_product_changed_by_another_program_is_found(product):
    with fits.open(product, mode="update") as hdus:
        hdus["SCI"].data[2, 2] += 1
    assert ("SCI", "data") in {(problem.hdu, problem.kind) for problem in verify_product(product)}


def test_raw_files_are_no_products(tmp_path):
    fits.PrimaryHDU(np.ones((3, 4), np.float32)).writeto(tmp_path / "raw.fits")
    (tmp_path / "raw.fits.gz").write_bytes(gzip.compress((tmp_path / "raw.fits").read_bytes()))
    for name in ("raw.fits", "raw.fits.gz"):
        assert not is_product(tmp_path / name)
        with pytest.raises(FileError, match="not a product"):
            read_product(tmp_path / name)
    assert [problem.kind for problem in verify_product(tmp_path / "raw.fits")] == ["digests"]
    (tmp_path / "empty.fits").touch()
    (tmp_path / "cut.fits.gz").write_bytes((tmp_path / "raw.fits.gz").read_bytes()[:30])
    for name in ("empty.fits", "cut.fits.gz", ""):  # a listing of a folder goes on
        assert not is_product(tmp_path / name)
    with pytest.raises(FileError, match="does not exist"):
        is_product(tmp_path / "no.fits")


def test_a_gzipped_product_is_read(product, tmp_path):
    (tmp_path / "p.fits.gz").write_bytes(gzip.compress(product.read_bytes()))
    same(parts(), read_product(tmp_path / "p.fits.gz"))


def test_a_newer_format_asks_for_a_newer_larun(tmp_path, monkeypatch):
    from larun.io import product as module

    monkeypatch.setattr(module, "FORMAT", 2)
    write_product(tmp_path / "p.fits", parts())
    monkeypatch.undo()
    with pytest.raises(FileError, match="newer larun"):
        read_product(tmp_path / "p.fits")


def test_parts_that_do_not_fit_are_refused_before_writing(tmp_path):
    path = tmp_path / "p.fits"
    for changes, message in [
        ({"variance": np.ones((7, 6), np.float32)}, "variance"),
        ({"flags": np.zeros((7, 5), np.int64)}, "flags"),
        ({"data": np.zeros((7, 5))}, "data"),
        ({"planes": (("SCI", np.ones(3)),)}, "SCI"),
        ({"planes": (("A", np.ones(3)), ("A", np.ones(3)))}, "different"),
        ({"planes": (("A", np.array([True])),)}, "bool"),
        ({"record": {"x": float("nan")}}, "record"),
        ({"record": {"x": object()}}, "record"),
    ]:
        with pytest.raises(OptionError, match=message):
            write_product(path, parts(**changes))
    with pytest.raises(OptionError, match=r"\.fits"):
        write_product(tmp_path / "p.fits.gz", parts())
    assert list(tmp_path.iterdir()) == []


def test_only_products_are_replaced(product, tmp_path):
    with pytest.raises(FileError, match="overwrite=True"):
        write_product(product, parts())
    write_product(product, parts(unit="adu"), overwrite=True)
    assert read_product(product).unit == "adu"
    raw = tmp_path / "raw.fits"
    fits.PrimaryHDU(np.ones((3, 4), np.float32)).writeto(raw)
    with pytest.raises(FileError, match="never replaced"):
        write_product(raw, parts(), overwrite=True)
