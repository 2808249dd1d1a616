"""A part of a real night: made again bit for bit, whatever the threads, the bands and the packing of the raw files.

``python -m tests.model.replay.test_nickel`` does the same with the whole night.
"""

import gzip
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from astropy.io import fits

import larun
from larun.algorithms import jit
from larun.errors import LarunWarning
from larun.model import building
from larun.model.replay.recompute import Replayer, products_in
from tests.conftest import DATA, real_data

pytestmark = pytest.mark.filterwarnings("ignore::larun.errors.LarunWarning")

SOME = ("d1001", "d1002", "d1003", "d1035", "d1036", "d1037", "d1048", "d1059")
KINDS = (("frames", "fits"), ("catalogs", "ecsv"))
BAND = 300_000.0  # bytes: a dozen rows of these frames at a time


def reduced(folder, files):
    """Raw files of the night in a folder of their own, and what larun makes of them."""
    (folder / "raw").mkdir(parents=True)
    for path in files:
        shutil.copy(path, folder / "raw")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        larun.Night(folder / "raw").reduce(folder / "out")
    return folder


def unequal(out, raw):
    """How many products there are, and what is said of those that are not made again bit for bit."""
    replayer = Replayer(raw)
    found = {path.name: replayer.replay(path) for path in products_in(out)}
    return len(found), {name: str(made) for name, made in found.items() if not made.equal or made.notes}


def repacked(raw, folder):
    """The raw files in other folders, under other names, compressed by gzip, as they are, or not at all."""
    for number, path in enumerate(sorted(raw.glob("*.fz"))):
        place = folder / f"box{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        if number % 3 == 0:
            shutil.copy(path, place / f"{number:03}.fits.fz")
            continue
        with fits.open(path) as file:
            plain = place / f"{number:03}.fits"
            fits.PrimaryHDU(file[1].data, file[1].header).writeto(plain)
        if number % 3 == 2:
            plain.with_suffix(".fits.gz").write_bytes(gzip.compress(plain.read_bytes(), 1))
            plain.unlink()
    return folder


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = real_data("nickel")
    return reduced(tmp_path_factory.mktemp("nickel"), [folder / f"{name}.fits.fz" for name in SOME])


def test_it_is_the_same_with_one_thread_and_other_bands(night, monkeypatch):
    monkeypatch.setattr(building, "_BAND_MEMORY", BAND)
    before = jit.threads()
    try:
        larun.set_threads(1)
        assert unequal(night / "out", night / "raw") == (6, {})
    finally:
        larun.set_threads(before)


def test_it_is_the_same_from_raw_files_that_were_moved_renamed_and_packed_again(night, tmp_path):
    moved = repacked(night / "raw", tmp_path / "moved")
    assert Counter("".join(path.suffixes) for path in moved.rglob("*.f*")) == {".fits.fz": 3, ".fits": 3, ".fits.gz": 2}
    assert unequal(night / "out", moved) == (6, {})


def test_another_limit_of_memory_gives_the_same_masters(night):
    recipe = larun.Recipe(masters={"max_memory": 8e6})
    for master in larun.Night(night / "raw").masters(recipe=recipe):
        (kept,) = (night / "out" / "masters").glob(f"{master.kind}*.fits")
        assert master.identical(type(master).read(kept))


def test_the_story_of_a_bad_column_names_the_camera(night):
    frame = larun.Frame.read(night / "out" / "frames" / "d1059.fits")
    story = larun.why(frame, 256, 500, raw=night / "raw")
    assert {(reason.flag, reason.step, reason.cause) for reason in story.flags} == {
        ("BAD", "raw", "camera"),
        ("BAD", "master_bias", "camera"),
        ("FLAT_INVALID", "master_flat", "bad in a master"),
    }
    assert "Nickel, the class of the camera" in str(story)
    assert story.notes == ()


def test_a_what_if_makes_just_what_was_predicted(night):
    other = larun.Night(night / "raw").replay(night / "out", clean={"sigma": 5})
    names = [f"{folder}/{name}.{ending}" for name in ("d1048", "d1059") for folder, ending in KINDS]
    assert sorted(other.changed) == sorted(names)
    assert all(name.startswith("masters/") for name in other.kept)
    assert Counter(one.how for one in other.differences()) == {"made": 4}
    assert {name for name, how in other.done.items() if how == "made"} == set(names)
    summary = other.write(night / "other")
    assert not summary.failed
    assert larun.replay(night / "other" / "catalogs" / "d1059.ecsv", raw=night / "raw").equal


def main():
    warnings.simplefilter("ignore", LarunWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        night = reduced(folder / "night", sorted((DATA / "nickel").glob("*.fz")))
        print(f"reduced in {time.perf_counter() - start:.1f} s")
        moved = repacked(night / "raw", folder / "moved")
        for threads, band, raw in (
            (2, building._BAND_MEMORY, night / "raw"),
            (1, BAND, night / "raw"),
            (2, BAND, moved),
        ):
            larun.set_threads(threads)
            building._BAND_MEMORY = band
            start = time.perf_counter()
            count, wrong = unequal(night / "out", raw)
            spent = time.perf_counter() - start
            how = f"{threads} threads, bands of {band:g} bytes, {raw.name}"
            print(f"{how}: {count - len(wrong)} of {count} the same, {spent:.1f} s")
            for product, said in wrong.items():
                print("  ", product, said)


if __name__ == "__main__":
    sys.exit(main())
