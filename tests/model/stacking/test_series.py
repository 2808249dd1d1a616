"""Nights and folders of frames: one stack for each object and filter."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import attrs
import pytest

import larun
from larun.errors import LarunWarning, OptionError
from larun.model.stacking.series import groups_of, stack_groups
from larun.simulate import simulate_night
from tests.model.conftest import NIGHT


@pytest.fixture(scope="module")
def reduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    options = attrs.evolve(NIGHT, frames=4, star_density=2600.0, dither=6.0)
    truth = simulate_night(folder / "raw", seed=5, options=options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        rows = larun.Night(truth.folder).stack(folder / "out")
    return folder, rows


def test_a_night_becomes_one_stack_for_each_object_and_filter(reduced):
    folder, rows = reduced
    assert rows
    assert all(row.status == "done" for row in rows), [row.message for row in rows]
    assert all(row.used == row.frames == 4 for row in rows)
    for row in rows:
        stack = larun.Stack.read(row.path)
        assert stack.contributors.max() == 4
        single = larun.Frame.read(sorted((folder / "out" / "frames").glob("*.fits"))[0])
        assert stack.data.shape[0] >= single.shape[0]


def test_the_command_says_what_it_did(reduced, tmp_path):
    folder, rows = reduced
    command = [
        sys.executable,
        "-c",
        "from larun.cli import main; main()",
        "stack",
        str(folder / "out" / "frames"),
        "-o",
        str(tmp_path / "s"),
    ]
    made = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert [item["name"] for item in found] == [row.name for row in rows]
    for item, row in zip(found, rows, strict=True):
        assert larun.Stack.read(item["path"]).identical(larun.Stack.read(row.path))
    wrong = subprocess.run([*command, "--method", "best"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "method='best'" in wrong.stderr


def test_what_is_there_is_left_as_it_is(reduced, tmp_path, monkeypatch):
    folder, rows = reduced
    paths = sorted((folder / "out" / "frames").glob("*.fits"))
    groups = groups_of(paths)
    first = stack_groups(groups, tmp_path)
    assert [row.status for row in first] == ["done"] * len(rows)
    assert all(row.exposure > 0 and row.mid_time for row in first)
    times = {row.path: Path(row.path).stat().st_mtime_ns for row in first}
    made = []
    combine = larun.Stack.combine
    monkeypatch.setattr(larun.Stack, "combine", lambda paths, **how: made.append(paths) or combine(paths, **how))
    again = stack_groups(groups, tmp_path)
    assert [row.status for row in again] == ["skipped"] * len(rows)
    assert [attrs.evolve(row, status="done") for row in again] == list(first)
    assert not made
    assert {path: Path(path).stat().st_mtime_ns for path in times} == times
    key = next(iter(groups))
    few = {key: groups[key]}
    assert stack_groups(few, tmp_path, options=larun.StackOptions(max_memory=1e8))[0].status == "skipped"
    for how in ({"method": "mean"}, {"options": larun.StackOptions(sigma=5)}, {"reject": "fwhm > 99"}, {}):
        assert stack_groups(few, tmp_path, **how)[0].status == "done", how  # each differs from the one before
    assert stack_groups({key: groups[key][1:]}, tmp_path)[0].status == "done"
    assert stack_groups(few, tmp_path, reference=groups[key][0])[0].status == "done"
    assert stack_groups(few, tmp_path, reference=groups[key][0])[0].status == "skipped"
    assert stack_groups(few, tmp_path, reference=groups[key][1])[0].status == "done"
    product = Path(first[0].path)
    with product.open("r+b") as file:
        file.seek(20_000)
        file.write(b"damage")
    assert stack_groups(few, tmp_path, reference=groups[key][1])[0].status == "done"


def test_frames_are_sorted_without_their_pixels(reduced, monkeypatch):
    folder, _ = reduced

    def refuse(*args, **kwargs):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(larun.Image, "read", refuse)
    monkeypatch.setattr("larun.io.product.read_product", refuse)
    assert groups_of([folder / "out" / "frames"])


def test_names_that_become_one_are_kept_apart(reduced, tmp_path):
    folder, _ = reduced
    paths = sorted((folder / "out" / "frames").glob("*.fits"))
    rows = stack_groups({("M 13",): paths[:1], ("M_13",): paths[1:2], ("../..",): paths[2:3]}, tmp_path)
    assert [row.name for row in rows] == ["M_13", "M_13-2", "stack"]


def test_frames_are_sorted_by_what_is_known_of_them(reduced, tmp_path):
    folder, rows = reduced
    groups = groups_of([folder / "out" / "frames"], ("filter",))
    assert sum(len(paths) for paths in groups.values()) == 4 * len(rows)
    with pytest.raises(OptionError, match="sorted by"):
        groups_of([folder / "out" / "frames"], ("colour",))
    with pytest.raises(OptionError, match="no calibrated frames"):
        groups_of([tmp_path])
