"""``larun solve`` and ``larun reduce --reference``: frames get the WCS of the sky, and those that do not are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import larun as package
from larun.simulate import NightTruth
from tests.cli.conftest import Larun

CENTRE, SCALE = (150.0, 20.0), 1.0


def to_sky(x: np.ndarray, y: np.ndarray, size: float = 192.0) -> tuple[np.ndarray, np.ndarray]:
    """A sky that is laid over the simulated stars."""
    from larun.algorithms.skyplane import from_tangent

    plane = np.stack([-(x - size / 2), y - size / 2], axis=1) * SCALE / 3600
    return from_tangent(plane, CENTRE)


@pytest.fixture(scope="module")
def sky(reduced: tuple[Path, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference of the stars of the first frame, and of others around."""
    folder, _ = reduced
    catalog = package.SourceCatalog.read(sorted((folder / "catalogs").glob("*.ecsv"))[0])
    x, y = catalog["x"].value, catalog["y"].value
    rng = np.random.default_rng(1)
    more = rng.uniform(-900, 1100, (800, 2))
    more = more[((more < -20) | (more > 212)).any(axis=1)]
    ra, dec = to_sky(np.append(x, more[:, 0]), np.append(y, more[:, 1]))
    magnitude = np.append(-2.5 * np.log10(catalog["flux"].value), rng.uniform(-12, -8, len(more))) + 25
    path = tmp_path_factory.mktemp("sky") / "stars.fits"
    Table({"ra": ra, "dec": dec, "mag_V": magnitude}).write(path)
    return path


def test_frames_are_solved_and_written(larun: Larun, reduced: tuple[Path, object], sky: Path, tmp_path: Path) -> None:
    frames = sorted((reduced[0] / "frames").glob("*.fits"))
    ended = larun(
        "solve",
        frames[0],
        "--reference",
        sky,
        "-o",
        tmp_path,
        "--pointing",
        "150.1,20.05",
        "--radius",
        "0.4",
        "--scale",
        "0.8,1.2",
        "--json",
    )
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out)
    assert row["status"] == "solved"
    assert row["scale"] == pytest.approx(SCALE, rel=1e-3)
    assert row["matches"] >= 10
    made = package.Frame.read(row["out"])
    assert made.solution.matches == row["matches"]
    ra, dec = made.wcs.all_pix2world(96.0, 96.0, 0)
    assert (float(ra), float(dec)) == pytest.approx(CENTRE, abs=0.3 / 3600)


def test_a_frame_that_is_not_solved_ends_with_1_and_says_why(
    larun: Larun, reduced: tuple[Path, object], sky: Path, tmp_path: Path
) -> None:
    frame = sorted((reduced[0] / "frames").glob("*.fits"))[0]
    ended = larun("solve", frame, "--reference", sky, "-o", tmp_path, "--pointing", "10,20", "--radius", "0.4")
    assert ended.code == 1
    assert "0 stars of stars.fits" in ended.err
    assert "0 of 1 frames solved" in ended.out
    assert not list(tmp_path.iterdir())


def test_wrong_words_end_with_2(larun: Larun, reduced: tuple[Path, object], sky: Path, tmp_path: Path) -> None:
    frame = sorted((reduced[0] / "frames").glob("*.fits"))[0]
    for words, said in (
        ([frame], "--reference"),
        ([frame, frame, "--reference", sky], "two files"),
        ([frame, "--reference", sky, "--scale", "wide"], "--scale"),
        ([frame, "--reference", sky, "--pointing", "here"], "pointing"),
        ([frame, "--reference", sky, "--engine", "magic"], "engine"),
    ):
        ended = larun("solve", *words, "-o", tmp_path)
        assert ended.code == 2, ended.err
        assert said in ended.err
    assert larun("solve", tmp_path / "none.fits", "--reference", sky, "-o", tmp_path).code in (1, 3)


def test_a_night_is_reduced_with_its_frames_solved(larun: Larun, night: NightTruth, sky: Path, tmp_path: Path) -> None:
    words = (
        "reduce",
        night.folder,
        tmp_path / "out",
        "--reference",
        sky,
        "--jobs",
        "1",
        "--set",
        "solve.scale=1.0",
        "--keyword",
        "RA=150.05",
        "--keyword",
        "DEC=20.02",
    )
    ended = larun(*words)
    assert ended.code == 0, ended.err
    summary = Table.read(tmp_path / "out" / "summary.ecsv")
    science = summary[summary["kind"] == "science"]
    assert all(science["solved"])
    for path in sorted((tmp_path / "out" / "catalogs").glob("*.ecsv")):
        table = package.SourceCatalog.read(path).table
        ra, dec = to_sky(table["x"].value, table["y"].value)
        if path == min((tmp_path / "out" / "catalogs").glob("*.ecsv")):
            assert np.abs(table["dec"].value - dec).max() * 3600 < 1.0
            assert np.abs(table["ra"].value - ra).max() * 3600 < 1.0
    replayed = larun("replay", tmp_path / "out", "--raw", night.folder)
    assert replayed.code == 0, replayed.err + replayed.out
    assert larun("audit", tmp_path / "out", "--raw", night.folder, "--spot", "3").code == 0
    frame = min((tmp_path / "out" / "frames").glob("*.fits"))
    told = larun("why", frame, "40", "50", "--raw", night.folder, "--json")
    assert [part["step"] for part in json.loads(told.out)["parts"]][-2:] == ["clean", "solve"]
    made = package.window(package.Frame.read(frame), (20, 60), (30, 70), raw=night.folder)
    assert np.array_equal(made.data, package.Frame.read(frame).data[30:70, 20:60], equal_nan=True)
    again = larun(*words, "--json")
    assert {row["status"] for row in json.loads(again.out)} == {"skipped"}
    assert all(row["solved"] for row in json.loads(again.out) if row["kind"] == "science")


def test_frames_of_a_night_that_are_not_solved_are_told_and_not_fatal(
    larun: Larun, night: NightTruth, sky: Path, tmp_path: Path
) -> None:
    ended = larun(
        "reduce",
        night.folder,
        tmp_path / "out",
        "--reference",
        sky,
        "--jobs",
        "1",
        "--keyword",
        "RA=10.0",
        "--keyword",
        "DEC=-20.0",
    )
    assert ended.code == 0, ended.err
    assert "not solved" in ended.err
    summary = Table.read(tmp_path / "out" / "summary.ecsv")
    science = summary[summary["kind"] == "science"]
    assert not any(science["solved"])
    assert all("not solved" in text for text in science["warnings"])
    assert len(list((tmp_path / "out" / "catalogs").glob("*.ecsv"))) == len(science)
