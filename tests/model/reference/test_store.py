import time

import numpy as np
import pytest
from astropy.table import Table

import larun
from larun.errors import FileError, OptionError
from tests.conftest import real_data

pytest.importorskip("pyarrow")


def random_stars(n, seed=1, ids="integers"):
    rng = np.random.default_rng(seed)
    table = Table({"id": rng.permutation(n), "ra": rng.uniform(0, 360, n)})
    if ids == "text":
        table["id"] = np.char.mod("star %d", table["id"])
    table["dec"] = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    table["mag_g"], table["mag_g_error"] = rng.uniform(10, 20, n), rng.uniform(0.001, 0.1, n)
    table["variable"] = rng.random(n) < 0.01
    return table


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    table = random_stars(1_000_000)
    path = tmp_path_factory.mktemp("stores") / "million.fits"
    table.write(path)
    started = time.perf_counter()
    store = larun.ReferenceStore.build([path], path.with_name("million"), systems={"g": "AB"})
    return table, store, time.perf_counter() - started


def test_a_million_stars_and_circles_as_by_brute_force(million):
    table, store, seconds = million
    assert len(store) == 1_000_000
    assert seconds < 60
    stars = larun.ReferenceCatalog.open(table, systems={"g": "AB"})
    rng = np.random.default_rng(8)
    places = [*zip(rng.uniform(0, 360, 12), np.degrees(np.arcsin(rng.uniform(-1, 1, 12))), strict=True)]
    places += [(0, 0), (359.9, 30), (10, 90), (200, -89.9), (45, 41.8)]
    times, found = [], 0
    for ra, dec in places:
        for radius in (0.5, 3.0):
            started = time.perf_counter()
            near = store.cone(ra, dec, radius)
            times.append(time.perf_counter() - started)
            expected = stars.cone(ra, dec, radius).ordered()
            found += len(near)
            assert near.systems == {"g": "AB"}
            for name in expected.columns:
                assert np.array_equal(near.ordered()[name], expected[name])
    assert found > 5000
    assert np.median(times) < 0.2


def test_only_the_cells_that_are_needed_are_read(million, tmp_path):
    import shutil

    _, store, _ = million
    copied = tmp_path / "copy"
    shutil.copytree(store.folder, copied)
    again = larun.ReferenceCatalog.open(copied)
    expected = store.cone(100.0, 40.0, 0.5)
    from larun.algorithms.sphere import cells_in_circle

    needed = set(cells_in_circle(store.level, 100.0, 40.0, 0.5).tolist())
    assert len(needed) <= 9
    for path in copied.rglob("Npix=*.parquet"):
        if int(path.stem.removeprefix("Npix=")) not in needed:
            path.unlink()
    assert np.array_equal(again.cone(100.0, 40.0, 0.5)["id"], expected["id"])
    with pytest.raises(FileError, match=r"Npix=\d+.parquet cannot be read"):
        again.cone(250.0, -40.0, 0.5)


@pytest.mark.parametrize("ids", ["integers", "text"])
def test_the_order_of_files_and_rows_changes_no_byte(tmp_path, ids, monkeypatch):
    monkeypatch.setattr("larun.model.reference.store._ROWS", 700)
    table = random_stars(5000, ids=ids)
    table["ra"][:40], table["dec"][:40] = 12.5, 7.5  # many at one place
    table["mag_g"][:20] = np.nan
    one, two = tmp_path / "a.csv", tmp_path / "b.csv"
    table[:2000].write(one)
    table[2000:].write(two)
    first = larun.ReferenceStore.build([one, two], tmp_path / "first", level=3, name="mine", epoch=2000.0)
    mixed = table[np.random.default_rng(3).permutation(5000)]
    mixed[:1000].write(one, overwrite=True)
    mixed[1000:].write(two, overwrite=True)
    second = larun.ReferenceStore.build([two, one], tmp_path / "second", level=3, name="mine", epoch=2000.0)
    assert first.digest == second.digest
    names = sorted(path.relative_to(first.folder) for path in first.folder.rglob("*") if path.is_file())
    assert len(names) > 300
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    assert first.cone(12.5, 7.5, 0.1)["epoch"].value.tolist() == [2000.0] * 40


def test_a_store_of_the_stars_of_sdss(tmp_path):
    path = real_data("sdss", "reference-catalog.fits.gz")
    store = larun.ReferenceStore.build(path, tmp_path / "s82", systems="AB")
    assert (store.name, len(store), store.level) == ("s82", 28196, 2)
    there = larun.ReferenceCatalog.open(path, systems="AB").cone(351.5, 0.2, 0.3).ordered()
    here = larun.ReferenceCatalog.open(tmp_path / "s82").cone(-8.5, 0.2, 0.3).ordered()
    assert np.array_equal(here["id"], there["id"])
    assert np.array_equal(here["mag_r"], there["mag_r"])
    assert "28196 stars" in repr(store)
    assert store.to_dict()["sources"] == ["reference-catalog.fits.gz"]


def test_nothing_is_left_of_a_store_that_failed_and_nothing_else_replaced(tmp_path):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    random_stars(100).write(good)
    bad.write_text("ra,dec,V\n1,2,3\n")
    build, target = larun.ReferenceStore.build, tmp_path / "store"
    with pytest.raises(OptionError, match=r"bad.csv: bands and systems"):
        build([good, bad], target)
    bad.write_text("ra,dec,mag_g\n1,2,3\n")
    with pytest.raises(OptionError, match=r"same columns: id, mag_g_error, variable"):
        build([good, bad], target)
    with pytest.raises(FileError, match="does not exist"):
        build([good, tmp_path / "no.csv"], target)
    with pytest.raises(OptionError, match="level=1"):
        build([good], target, level=1)
    with pytest.raises(OptionError, match="no option colums"):
        build([good], target, colums={})
    bad.write_text("ra,dec,mag_g\n")
    with pytest.raises(FileError, match=r"not one star in bad.csv"):
        build([bad], target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "good.csv"]
    build([good], target)
    with pytest.raises(FileError, match="exists: choose another name"):
        build([good], target)
    before = larun.ReferenceStore.read(target).digest
    build([random_stars(50)], target, overwrite=True)
    assert larun.ReferenceStore.read(target).digest != before
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileError, match="never replaced"):
        build([good], tmp_path / "mine", overwrite=True)
    with pytest.raises(FileError, match="no store of reference stars"):
        larun.ReferenceCatalog.open(tmp_path / "mine")
    with pytest.raises(OptionError, match="only when it is built"):
        larun.ReferenceCatalog.open(target, epoch=2000.0)
    (target / "refcat.json").write_text("{}")
    with pytest.raises(FileError, match="damaged"):
        larun.ReferenceCatalog.open(target)
    hostile = (
        '{"format": 1, "name": "x", "digest": "", "systems": {}, "sources": [], "rows": 1, "level": 3, "cells": {}, '
    )
    (target / "refcat.json").write_text(hostile + '"columns": {"ra": "O", "dec": "<f8"}}')
    with pytest.raises(FileError, match="damaged"):
        larun.ReferenceCatalog.open(target)
