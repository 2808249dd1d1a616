"""Nights and folders of frames: one stack for each object and filter."""

import json
import subprocess
import sys
import warnings

import attrs
import pytest

import larun
from larun.errors import LarunWarning, OptionError
from larun.model.stacking.series import groups_of
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


def test_frames_are_sorted_by_what_is_known_of_them(reduced, tmp_path):
    folder, rows = reduced
    groups = groups_of([folder / "out" / "frames"], ("filter",))
    assert sum(len(paths) for paths in groups.values()) == 4 * len(rows)
    with pytest.raises(OptionError, match="sorted by"):
        groups_of([folder / "out" / "frames"], ("colour",))
    with pytest.raises(OptionError, match="no calibrated frames"):
        groups_of([tmp_path])
