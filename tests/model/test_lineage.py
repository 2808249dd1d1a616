"""Which products of a folder used a file."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

import larun
from larun.errors import FileError, LarunWarning, OptionError
from larun.model.lineage import near_misses, products, record_of, used_by, wanted
from larun.provenance.lineage import Use

WITHOUT = ("dark", "flat")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Four bias frames and a science frame, with a master, a frame and a catalogue made of them."""
    folder = tmp_path_factory.mktemp("lineage")
    (folder / "raw").mkdir()
    rng = np.random.default_rng(3)
    for n in range(5):
        cards = {
            "GAIN": 2.0,
            "RDNOISE": 4.0,
            "IMAGETYP": "bias" if n < 4 else "object",
            "EXPTIME": 0.0 if n < 4 else 9.0,
        }
        counts = rng.poisson(300, (48, 48)).astype(np.uint16)
        fits.PrimaryHDU(counts, fits.Header(cards)).writeto(folder / "raw" / f"d{n}.fits")
    bias = larun.MasterBias.combine([folder / "raw" / f"d{n}.fits" for n in range(4)], clip="mad")
    frame = larun.Frame.read(folder / "raw" / "d4.fits").calibrate(bias, without=WITHOUT)
    out = folder / "out"
    (out / "catalogs").mkdir(parents=True)
    bias.write(out / "bias.fits")
    frame.write(out / "d4.fits")
    frame.detect(fwhm=3.0).write(out / "catalogs" / "d4.ecsv")
    (out / "notes.txt").write_text("not a product")
    return folder


def told(folder, what):
    known = tuple(products(folder / "out"))
    return {item.product.path.name: item.uses for item in used_by(known, wanted(what, known))}


def test_records_are_read_without_pixels_and_other_files_passed_over(night):
    found = {product.path.name: product for product in products(night / "out")}
    assert sorted(found) == ["bias.fits", "d4.ecsv", "d4.fits"]
    assert [found[name].class_name for name in sorted(found)] == ["MasterBias", "SourceCatalog", "Generic"]
    assert found["bias.fits"].provenance.id == larun.MasterBias.read(night / "out/bias.fits").provenance.id
    assert record_of(night / "raw/d1.fits") is None


def test_a_raw_file_is_found_by_its_content_wherever_it_lies(night, tmp_path):
    through = (("master_bias", "frame"),)
    expected = {
        "bias.fits": (Use("frame", "master_bias"),),
        "d4.fits": (Use("bias", "calibrate", through),),
        "d4.ecsv": (Use("bias", "calibrate", through),),
    }
    assert told(night, night / "raw/d1.fits") == expected
    shutil.copyfile(night / "raw/d1.fits", tmp_path / "renamed.fits")
    assert told(night, tmp_path / "renamed.fits") == expected
    compressed = tmp_path / "packed.fits.gz"
    with fits.open(night / "raw/d1.fits") as hdus:
        hdus.writeto(compressed)
    assert told(night, compressed) == expected
    assert told(night, "d1.fits") == told(night, "d1") == expected
    assert told(night, "renamed.fits") == {}


def test_a_master_or_frame_is_found_by_its_id_or_name(night, tmp_path):
    shutil.copyfile(night / "out/bias.fits", tmp_path / "other.fits")
    for what in (tmp_path / "other.fits", "bias.fits", "bias"):
        found = told(night, what)
        assert found["bias.fits"] == (Use("itself", ""),)
        assert found["d4.fits"] == (Use("bias", "calibrate"),)
    found = told(night, night / "out/d4.fits")
    assert [use.role for use in found["d4.ecsv"]] == ["self"]
    assert "bias.fits" not in found


def test_what_was_given_changes_the_id_but_not_the_file(night, tmp_path):
    frame = larun.Frame.read(night / "raw/d4.fits", gain=3.0).calibrate(without=("bias", *WITHOUT))
    frame.write(tmp_path / "other.fits")
    (product,) = products(tmp_path)
    (item,) = used_by((product,), wanted(night / "raw/d4.fits"))
    assert item.uses == (Use("self", "calibrate"),)


def test_a_file_that_was_changed_is_no_longer_the_one_that_was_used(night, tmp_path):
    known = tuple(products(night / "out"))
    changed = tmp_path / "d1.fits"
    with fits.open(night / "raw/d1.fits") as hdus:
        hdus[0].data[3, 3] += 1
        hdus.writeto(changed)
    goal = wanted(changed)
    assert used_by(known, goal) == ()
    assert near_misses(known, goal) == ("3 products used a file d1.fits with other pixels",)
    edited = tmp_path / "edited.fits"
    with fits.open(night / "raw/d1.fits") as hdus:
        hdus[0].header["OBJECT"] = "another"
        hdus.writeto(edited)
    goal = wanted(edited)
    assert used_by(known, goal) == ()
    assert near_misses(known, goal) == ("3 products used a file d1.fits with the same pixels and another header",)


def test_damaged_products_are_named_and_left_out(night, tmp_path):
    shutil.copytree(night / "out", tmp_path / "out")
    whole = (tmp_path / "out/d4.fits").read_bytes()
    (tmp_path / "out/d4.fits").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(LarunWarning, match=r"d4\.fits.*left out"):
        assert len(list(products(tmp_path / "out"))) == 2


def test_what_cannot_be_looked_for_is_refused(night):
    with pytest.raises(FileError, match="no such folder"):
        list(products(night / "nowhere"))
    with pytest.raises(OptionError, match="is a folder"):
        wanted(night)
    with pytest.raises(OptionError, match="no such file"):
        wanted(night / "absent.fits")
    with pytest.raises(FileError):
        wanted(night / "out/notes.txt")
