"""``larun replay --set``: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun


def test_a_dry_run_tells_what_changes_and_writes_nothing(larun: Larun, reduced: tuple[Path, Ended]) -> None:
    before = {path: path.stat().st_mtime_ns for path in reduced[0].rglob("*")}
    ended = larun("replay", reduced[0], "--set", "detect.threshold=9", "--dry-run")
    assert ended.code == 0
    assert "detect.threshold: 5.0 -> 9.0" in ended.out
    assert "4 products change, 9 kept" in ended.out
    assert "not made yet (measured: a catalogue" in ended.out
    assert {path: path.stat().st_mtime_ns for path in reduced[0].rglob("*")} == before
    told = json.loads(larun("replay", reduced[0], "--set", "detect.threshold=9", "--dry-run", "--json").out)
    assert len(told["changed"]) == 4
    assert told["seconds"] >= 0


def test_what_differs_is_told_and_written(
    larun: Larun, reduced: tuple[Path, Ended], night: NightTruth, tmp_path: Path
) -> None:
    new = tmp_path / "other"
    ended = larun("replay", reduced[0], "--raw", night.folder, "--set", "detect.threshold=30", "--out", new)
    assert ended.code == 0
    assert ended.out.count("sources were") == 4
    assert f"of 4 products 4 get other values, 0 keep theirs; in {new}" in " ".join(ended.out.split())
    assert larun("audit", new).code == 0
    again = larun("replay", new, "--set", "detect.threshold=5", "--json")
    told = json.loads(again.out)
    assert len(told["differences"]) == 4
    assert set(told["how"].values()) == {"made", "kept"}


def test_options_that_do_not_go_together_are_refused(
    larun: Larun, reduced: tuple[Path, Ended], night: NightTruth, tmp_path: Path
) -> None:
    out = reduced[0]
    setting = ("--set", "clean.sigma=5")
    for words, said in (
        ((out, "--dry-run"), "without --set"),
        ((out, "--out", tmp_path / "o"), "without --set"),
        ((out, "--masters", tmp_path), "without --set"),
        ((out, *setting, "--dry-run", "--out", tmp_path / "o"), "--dry-run writes nothing"),
        ((out, *setting, "--raw", night.folder, "--raw", tmp_path), "give one folder"),
        ((next((out / "frames").iterdir()), *setting), "give its folder"),
        ((out, "--set", "clean.sigma=4.5"), "nothing differs"),
        ((out, "--set", "clean.sgima=4.5"), "there is no such option"),
        ((out, *setting, "--out", out), "is not empty"),
    ):
        ended = larun("replay", *words)
        assert ended.code == 2, words
        assert said in " ".join(ended.err.split()), words
    assert not (tmp_path / "o").exists()


def test_raw_files_that_are_gone_are_asked_for(larun: Larun, reduced: tuple[Path, Ended], night: NightTruth) -> None:
    moved = night.folder.rename(night.folder.parent / "elsewhere")
    try:
        ended = larun("replay", reduced[0], "--set", "clean.sigma=5", "--dry-run")
        assert ended.code == 3
        assert "name their folder with --raw" in " ".join(ended.err.split())
        assert larun("replay", reduced[0], "--set", "clean.sigma=5", "--dry-run", "--raw", moved).code == 0
    finally:
        moved.rename(night.folder)


def test_raw_files_are_found_where_a_relative_path_led(
    larun: Larun, night: NightTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(night.folder.parent)
    assert larun("reduce", night.folder.name, tmp_path / "out").code == 0
    again = ("replay", tmp_path / "out", "--set", "detect.threshold=9", "--dry-run")
    assert larun(*again).code == 0
    monkeypatch.chdir(tmp_path)
    ended = larun(*again)
    assert ended.code == 3
    assert "name their folder with --raw DIR" in ended.err
