"""Raw files of every kind become the same float32 plane; what cannot be read is refused in plain words."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from larun.errors import FileError, LarunWarning
from larun.io.cards import header_text
from larun.io.headers import header_digest
from larun.io.pixeldigest import pixel_digest
from larun.io.raw import RowReader, list_images, read_header, read_raw
from tests.conftest import real_data

REAL = [
    ("nickel", "d1059.fits.fz"),
    ("tres1", "tres1-020.fit.fz"),
    ("kb13475", "AKB13475I0001.fits.fz"),
    ("lco", "coj1m011-fl08-20151216-0049-b00.fits.fz"),
    ("ste3", "a8280271.fits.gz"),
    ("hst", "pluto1.fits.gz"),
    ("sdss", "fpC-004192-g4-0300.fit.gz"),
]


def counts(rng: np.random.Generator) -> np.ndarray:
    """Whole numbers that every integer type below can hold."""
    return rng.integers(1, 32767, (37, 53)).astype(np.uint16)


def storages(folder: Path, image: np.ndarray) -> dict[str, Path]:
    """The same image in every way of storage."""
    paths = {}

    def put(name: str, hdu, hdus=None) -> None:
        paths[name] = folder / f"{name}.fits"
        (hdus or fits.HDUList([hdu])).writeto(paths[name])

    put("unsigned", fits.PrimaryHDU(image))
    put("big-endian float", fits.PrimaryHDU(image.astype(">f4")))
    put("double", fits.PrimaryHDU(image.astype(np.float64)))
    put("int32", fits.PrimaryHDU(image.astype(np.int32)))
    put("cube", fits.PrimaryHDU(image[np.newaxis]))
    put("trailing axis", fits.PrimaryHDU(image[:, :, np.newaxis].astype(np.float32)))
    put("extension", None, fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]))
    for name, pixels in (("rice", image), ("rice cube", image[np.newaxis]), ("rice int32", image.astype(np.int32))):
        put(name, None, fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels, compression_type="RICE_1")]))
    scaled = fits.PrimaryHDU((image.astype(np.int32) // 2 - 100).astype(np.int16))
    scaled.header["BSCALE"], scaled.header["BZERO"] = 2.0, 200.0
    put("scaled", scaled)
    paths["gz"] = folder / "unsigned.fits.gz"
    paths["gz"].write_bytes(gzip.compress(paths["unsigned"].read_bytes()))
    paths["rice gz"] = folder / "rice.fits.gz"
    paths["rice gz"].write_bytes(gzip.compress(paths["rice"].read_bytes()))
    return paths


def test_acceptance_1_unsigned_difference_is_negative(tmp_path):
    for name, value in (("a", 1000), ("b", 1010)):
        fits.PrimaryHDU(np.full((4, 5), value, np.uint16)).writeto(tmp_path / f"{name}.fits")
    difference = read_raw(tmp_path / "a.fits").data - read_raw(tmp_path / "b.fits").data
    assert (difference == -10.0).all()


def test_acceptance_2_every_storage_reads_to_the_same_plane(tmp_path, rng):
    image = counts(rng) // 2 * 2  # even, so that BSCALE = 2 can hold them
    image[3, 4] += 1  # and one odd number for the storages that are not scaled
    for name, path in storages(tmp_path, image).items():
        expected = (image // 2 * 2 if name == "scaled" else image).astype(np.float32)
        raw = read_raw(path)
        assert raw.data.dtype == np.float32, name
        assert raw.data.dtype.isnative, name
        assert raw.data.flags.c_contiguous, name
        assert raw.no_data is None, name
        assert raw.shape == (37, 53), name
        np.testing.assert_array_equal(raw.data, expected, err_msg=name)
        assert not {"BZERO", "BSCALE", "BITPIX", "NAXIS", "ZIMAGE", "CHECKSUM"} & set(raw.header), name


@pytest.mark.parametrize("compressed", [False, True])
def test_acceptance_2_blank_becomes_no_data(tmp_path, rng, compressed):
    stored = rng.integers(-3000, 3000, (20, 30)).astype(np.int16)
    blank = rng.random((20, 30)) < 0.1
    stored[blank] = -32768
    plain = fits.PrimaryHDU(stored)
    plain.header["BSCALE"], plain.header["BZERO"], plain.header["BLANK"] = 0.5, 100.0, -32768
    path = tmp_path / "blank.fits"
    if compressed:
        made = fits.CompImageHDU(stored, header=plain.header, compression_type="RICE_1")
        fits.HDUList([fits.PrimaryHDU(), made]).writeto(path)
        with fits.open(path, disable_image_compression=True, mode="update") as hdus:
            hdus[1].header["BSCALE"], hdus[1].header["BZERO"], hdus[1].header["BLANK"] = 0.5, 100.0, -32768
    else:
        plain.writeto(path)
    raw = read_raw(path)
    np.testing.assert_array_equal(raw.no_data, blank)
    assert np.isnan(raw.data[blank]).all()
    np.testing.assert_array_equal(raw.data[~blank], (stored[~blank] * 0.5 + 100.0).astype(np.float32))
    assert "BLANK" not in raw.header


def test_not_finite_becomes_no_data_and_nan(tmp_path):
    image = np.array([[1.0, np.nan, np.inf], [-np.inf, 1e300, 2.0]])
    fits.PrimaryHDU(image).writeto(tmp_path / "a.fits")
    raw = read_raw(tmp_path / "a.fits")
    assert raw.no_data.tolist() == [[False, True, True], [True, True, False]]
    assert np.isnan(raw.data[raw.no_data]).all()


def test_bands_have_the_bits_of_the_whole(tmp_path, rng):
    image = counts(rng)
    for name, path in storages(tmp_path, image).items():
        whole = read_raw(path)
        for step in (1, 5, 37):
            with RowReader(path) as reader:
                bands = [reader.rows(y, min(y + step, 37)) for y in range(0, 37, step)]
                assert reader.shape == (37, 53)
                assert header_text(reader.header) == header_text(whole.header)
            assert np.concatenate([data for data, _ in bands]).tobytes() == whole.data.tobytes(), (name, step)
            assert all(missing is None for _, missing in bands)


def test_bands_of_real_files_have_the_bits_of_the_whole():
    for parts in REAL:
        path = real_data(*parts)
        whole = read_raw(path)
        with RowReader(path) as reader:
            middle = whole.data[200:231]
            data, missing = reader.rows(200, 231)
        np.testing.assert_array_equal(data.view(np.uint32), middle.view(np.uint32))
        assert missing is None or np.array_equal(missing, whole.no_data[200:231])


@pytest.mark.parametrize("parts", REAL, ids=lambda parts: parts[0])
def test_real_files_read_in_silence(parts):
    path = real_data(*parts)
    raw = read_raw(path)  # warnings are errors here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = np.squeeze(fits.getdata(path, ext=raw.hdu))
    np.testing.assert_array_equal(raw.data, reference.astype(np.float32))
    header = read_header(path)
    assert header_text(header) == header_text(raw.header)
    for card in raw.header.cards:
        assert len(str(card)) % 80 == 0
        assert card.value is not None


def test_a_product_of_one_science_image_picks_it():
    path = real_data("hst", "pluto1.fits.gz")
    raw = read_raw(path)
    assert raw.hdu == 1
    assert raw.header["EXPTIME"] == 479.0  # from the primary header
    assert raw.header["BUNIT"] == "ELECTRONS"  # from the image's own
    assert [image.name for image in list_images(path)][:3] == ["SCI", "ERR", "DQ"]
    assert read_raw(path, ext=("ERR", 1)).hdu == 2
    assert read_raw(path, ext="DQ").hdu == 3


def test_the_image_header_wins_over_the_primary(tmp_path):
    primary, image = fits.PrimaryHDU(), fits.ImageHDU(np.ones((3, 4), np.float32), name="CCD1")
    primary.header["GAIN"], primary.header["EXPTIME"], image.header["GAIN"] = 1.0, 30.0, 2.5
    primary.header["HISTORY"], image.header["HISTORY"] = "first", "second"
    fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
    header = read_raw(tmp_path / "a.fits").header
    assert (header["GAIN"], header["EXPTIME"], header["EXTNAME"]) == (2.5, 30.0, "CCD1")
    assert list(header["HISTORY"]) == ["first", "second"]


def test_large_whole_numbers_warn(tmp_path):
    fits.PrimaryHDU(np.array([[2**24 + 1, 5]], np.int32)).writeto(tmp_path / "a.fits")
    with pytest.warns(LarunWarning, match="16777216"):
        read_raw(tmp_path / "a.fits")
    fits.PrimaryHDU(np.array([[2**24, -5]], np.int32)).writeto(tmp_path / "b.fits")
    assert read_raw(tmp_path / "b.fits").data[0, 0] == 2**24


def test_an_open_reader_does_not_silence_the_program(tmp_path):
    fits.PrimaryHDU(np.ones((3, 4), np.float32)).writeto(tmp_path / "a.fits")
    with RowReader(tmp_path / "a.fits"), pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_a_closed_reader_says_so(tmp_path):
    fits.PrimaryHDU(np.ones((3, 4), np.float32)).writeto(tmp_path / "a.fits")
    with RowReader(tmp_path / "a.fits") as reader, pytest.raises(FileError, match="rows 0 to 3"):
        reader.rows(2, 4)
    with pytest.raises(FileError, match="closed"):
        reader.rows(0, 1)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    good = folder / "good.fits"
    fits.PrimaryHDU(np.ones((100, 100), np.float32)).writeto(good)
    content = good.read_bytes()
    packed = folder / "packed.fits"
    noise = np.random.default_rng(1).integers(0, 60000, (100, 100)).astype(np.uint16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(noise)]).writeto(packed)
    made = {
        "empty": (b"", "empty"),
        "text": (b"not a FITS file\n" * 500, "not a FITS file"),
        "header only half": (content[:400], "FITS"),
        "pixels cut": (content[:20000], "ends early"),
        "tiles cut": (packed.read_bytes()[:9000], "ends early"),
        "gz cut": (gzip.compress(content)[:200], "damaged or ends early"),
        "gz flipped": (gzip.compress(content)[:60] + b"\xff" * 20 + gzip.compress(content)[80:], "damaged|not a FITS"),
    }
    paths = {}
    for name, (blob, message) in made.items():
        path = folder / f"{name}.fits"
        path.write_bytes(blob)
        paths[name] = path, message
    cube = folder / "cube.fits"
    fits.PrimaryHDU(np.ones((3, 5, 6), np.float32)).writeto(cube)
    line = folder / "line.fits"
    fits.PrimaryHDU(np.ones(6, np.float32)).writeto(line)
    table = folder / "table.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])])]).writeto(table)
    mosaic = folder / "mosaic.fits"
    chips = [fits.ImageHDU(np.ones((3, 4), np.float32), name=f"CCD{n}") for n in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(mosaic)
    zero = folder / "zero.fits"
    scaled = fits.PrimaryHDU(np.ones((3, 4), np.int16))
    scaled.writeto(zero)
    zero.write_bytes(zero.read_bytes().replace(b"EXTEND  =                    T", b"BSCALE  =                    0"))
    return paths | {
        "missing": (folder / "no-such.fits", "does not exist"),
        "folder": (folder, "is a folder"),
        "cube": (cube, r"\(3, 5, 6\).*each plane"),
        "line": (line, r"\(6,\)"),
        "table": (table, "holds no image"),
        "mosaic": (mosaic, r"2 images.*ext=.*CCD1.*CCD2"),
        "zero scale": (zero, "BSCALE = 0"),
    }


def test_bad_files_are_refused_in_plain_words(tmp_path):
    for name, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(FileError, match=message) as caught:
            read_raw(path)
        assert str(path) in str(caught.value), name
        with pytest.raises(FileError):
            RowReader(path).rows(0, 1)


def test_a_mosaic_is_read_by_name(tmp_path):
    path, _ = bad_files(tmp_path)["mosaic"]
    assert read_raw(path, ext="ccd2").hdu == 2
    assert read_raw(path, ext=1).hdu == 1
    with pytest.raises(FileError, match="names 0 images"):
        read_raw(path, ext="CCD9")


def test_missing_padding_alone_is_no_reason_to_refuse(tmp_path):
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    fits.PrimaryHDU(image).writeto(tmp_path / "a.fits")
    (tmp_path / "a.fits").write_bytes((tmp_path / "a.fits").read_bytes()[: 2880 + 48])
    np.testing.assert_array_equal(read_raw(tmp_path / "a.fits").data, image)


def test_recompressing_keeps_both_digests(tmp_path):
    """Unpacked, gzipped and tile-compressed again: the same exposure."""
    path = real_data("nickel", "d1059.fits.fz")
    raw = read_raw(path)
    digests = header_digest(raw.header), pixel_digest(raw.data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path) as hdus:
            pixels, header = hdus[1].data, hdus[1].header.copy()
    unpacked, zipped, packed = (tmp_path / name for name in ("a.fits", "a.fits.gz", "b.fits"))
    fits.PrimaryHDU(pixels, header).writeto(unpacked, checksum=True)
    zipped.write_bytes(gzip.compress(unpacked.read_bytes()))
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, compression_type="GZIP_1")]).writeto(packed)
    for other in (unpacked, zipped, packed):
        again = read_raw(other)
        assert (header_digest(again.header), pixel_digest(again.data)) == digests, other.name
    header["EXPTIME"] = 61
    assert header_digest(header) != digests[0]
