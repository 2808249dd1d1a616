"""``larun why``: what it prints, its JSON, its errors."""

from __future__ import annotations

import json
from pathlib import Path

from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun


def test_the_story_of_a_pixel(larun: Larun, reduced: tuple[Path, Ended], night: NightTruth) -> None:
    frame = sorted((reduced[0] / "frames").glob("*.fits"))[0]
    ended = larun("why", frame, 20, 30, "--raw", night.folder)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("x = 20, y = 30: ")
    assert [line.split("  ")[0] for line in lines if line.startswith(("raw ", "calibrate ", "clean "))] == [
        "raw",
        "calibrate",
        "clean",
    ]
    about = json.loads(larun("why", frame, 20, 30, "--raw", night.folder, "--json").out)
    assert (about["x"], about["y"], about["unit"]) == (20, 30, "electron")
    assert f"{about['value']:.6g}" in lines[0]


def test_what_cannot_be_told(larun: Larun, reduced: tuple[Path, Ended], tmp_path: Path) -> None:
    frame = sorted((reduced[0] / "frames").glob("*.fits"))[0]
    outside = larun("why", frame, 5000, 30)
    assert outside.code == 2
    assert "must lie within" in outside.err
    gone = larun("why", frame, 20, 30, "--raw", tmp_path)
    assert gone.code != 0
    assert "--raw" in gone.err


def test_what_is_given_in_place_of_a_product_is_named(
    larun: Larun, reduced: tuple[Path, Ended], night: NightTruth, tmp_path: Path
) -> None:
    out = reduced[0]
    table = sorted((out / "catalogs").iterdir())[0]
    for path, code, words in (
        (table, 2, "is a table and has no pixels"),
        (out / "summary.ecsv", 2, "is a table and has no pixels"),
        (out, 3, "is a folder"),
        (tmp_path / "none.fits", 3, "no such file"),
    ):
        ended = larun("why", path, 20, 30)
        assert ended.code == code
        assert f"{path}: {words}" in ended.err
    gone = larun("why", sorted((out / "frames").glob("*.fits"))[0], 20, 30, "--raw", tmp_path)
    assert gone.code == 3
    assert f"is not in {tmp_path}" in gone.err
    said = larun("replay", out / "summary.ecsv")
    assert said.code == 3
    assert "is the summary of a reduction" in said.out


def test_a_raw_frame_has_a_story_too(larun: Larun, night: NightTruth) -> None:
    raw = night.select("object")[0].path
    ended = larun("why", raw, 20, 30)
    assert ended.code == 0
    assert f"adu in {raw.name}, x = 20, y = 30" in ended.out
