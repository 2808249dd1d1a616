"""``larun quality``: tables, conditions, files, and what makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import larun as package
from tests.cli.conftest import Ended, Larun


@pytest.fixture
def folder(reduced: tuple[Path, Ended]) -> Path:
    return reduced[0] / "frames"


def test_frames_are_graded_and_selected(larun: Larun, folder: Path, tmp_path: Path) -> None:
    ended = larun("quality", folder, "--json", "--select", "worth >= 1", "--out", tmp_path / "q.ecsv")
    assert ended.code == 0, ended.err
    rows = json.loads(ended.out)
    files = sorted(folder.glob("*.fits"))
    assert len(rows) == len(files)
    for row, path in zip(rows, files, strict=True):
        found = package.Frame.read(path).quality()
        assert row["fwhm"] == found.fwhm
        assert row["selected"] == (row["worth"] == 1)
    bands = {package.Frame.read(path).filter for path in files}
    assert sum(row["selected"] for row in rows) == len(bands)
    assert (tmp_path / "q.ecsv").exists()
    shown = larun("quality", folder, "--select", "fwhm > 0")
    assert shown.code == 0
    assert f"{len(files)} of {len(files)} frames satisfy" in shown.out
    assert "ellipticity" in shown.out


def test_one_frame_is_told_in_words_and_drawn(larun: Larun, folder: Path, tmp_path: Path) -> None:
    path = sorted(folder.glob("*.fits"))[0]
    ended = larun("quality", path, "--plot", tmp_path / "stars.png")
    assert ended.code == 0, ended.err
    assert "FWHM" in ended.out
    assert "Moffat" in ended.out
    assert (tmp_path / "stars.png").read_bytes()[:4] == b"\x89PNG"


def test_what_makes_no_sense_is_refused(larun: Larun, folder: Path, tmp_path: Path) -> None:
    assert "draws the stars of one frame" in larun("quality", folder, "--plot", tmp_path / "a.png").err
    wrong = larun("quality", folder, "--select", "fwmh < 3")
    assert (wrong.code, "did you mean fwhm" in wrong.err) == (2, True)
    (tmp_path / "none").mkdir()
    assert "no FITS file" in larun("quality", tmp_path / "none").err
    master = sorted((folder.parent / "masters").glob("*.fits"))[0]
    assert "give frames of the sky" in larun("quality", master).err
