"""``larun audit``: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Ended, Larun


@pytest.fixture
def out(reduced: tuple[Path, Ended], tmp_path: Path) -> Path:
    """A copy of a reduction, to damage."""
    return Path(shutil.copytree(reduced[0], tmp_path / "out"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_an_intact_night(larun: Larun, reduced: tuple[Path, Ended]) -> None:
    ended = larun("audit", reduced[0])
    assert ended.code == 0
    assert ended.err == ""
    count = sum(path.is_file() for path in reduced[0].rglob("*"))
    assert ended.out.splitlines() == [
        f"{count} files: {count} intact",
        "raw files were not looked for: name their folders with --raw",
    ]
    everything = larun("audit", reduced[0], "--all").out.splitlines()
    assert sum(line.startswith("intact  ") for line in everything) == count
    assert "intact  summary.ecsv" in everything
    about = json.loads(larun("audit", reduced[0], "--json").out)
    assert (about["good"], about["code"], about["seal"], len(about["files"])) == (True, 0, None, count)


def test_a_changed_night(larun: Larun, out: Path) -> None:
    path = next((out / "masters").glob("bias*"))
    damage(path)
    ended = larun("audit", out)
    assert ended.code == 1
    assert f"changed  masters/{path.name}" in ended.out
    assert "the data were changed after they were written" in ended.out
    assert "Traceback" not in ended.out + ended.err
    about = json.loads(larun("audit", out, "--json").out)
    assert (about["good"], about["code"]) == (False, 1)
    assert about["counts"]["changed"] == 1
    ended = larun("audit", path)
    assert ended.code == 1
    assert "1 file: 1 changed" in ended.out


def test_what_cannot_be_verified_ends_with_3(larun: Larun, night: object, tmp_path: Path) -> None:
    (tmp_path / "own.reg").write_text("image\ncircle(1,2,3)\n")
    ended = larun("audit", tmp_path / "own.reg")
    assert ended.code == 3
    assert "was not written by larun" in ended.out
    ended = larun("audit", tmp_path / "none.fits")
    assert (ended.code, ended.out) == (3, "")
    assert "does not exist" in ended.err


def test_a_seal_is_written_and_compared(larun: Larun, out: Path, tmp_path: Path) -> None:
    seal = tmp_path / "night.json"
    (out / "notes\x1b[31m.txt").write_text("clouds")
    ended = larun("audit", out, "--seal", seal)
    assert ended.code == 0
    head = json.loads(seal.read_text())["head"]
    assert f"head {head}" in ended.out
    assert "1 other file carries no digests" in ended.out
    ended = larun("audit", out, "--sealed", seal)
    assert ended.code == 0
    assert f"head {head}" in ended.out
    assert "all as they were" in ended.out
    (out / "notes\x1b[31m.txt").unlink()
    damage(out / "summary.ecsv")
    (out / "more.txt").write_text("x")
    ended = larun("audit", out, "--sealed", seal)
    assert ended.code == 1
    for line in ("changed since it was sealed  summary.ecsv", "added since it was sealed  more.txt"):
        assert line in ended.out
    assert "\x1b" not in ended.out
    about = json.loads(larun("audit", out, "--sealed", seal, "--json").out)
    assert about["seal"]["changed"] == ["summary.ecsv"]
    assert about["seal"]["head"] == head
    ended = larun("audit", out, "--seal", tmp_path / "other.json")  # nobody vouches for what was changed
    assert ended.code == 1
    assert "not sealed" in ended.out
    assert not (tmp_path / "other.json").exists()


def test_wrong_usage_ends_with_2(larun: Larun, out: Path, tmp_path: Path) -> None:
    for words in (
        ["audit"],
        ["audit", out, "--seal", out / "seal.json"],
        ["audit", out, "--seal", tmp_path / "seal.fits"],
        ["audit", out, "--seal", tmp_path / "a.json", "--sealed", tmp_path / "b.json"],
        ["audit", out / "summary.ecsv", "--seal", tmp_path / "a.json"],
    ):
        ended = larun(*words)
        assert (ended.code, ended.out) == (2, ""), words
        assert "Traceback" not in ended.err
    assert larun("audit", out, "--raw", tmp_path / "none").code == 3
    assert larun("audit", out, "--sealed", tmp_path / "none.json").code == 3
