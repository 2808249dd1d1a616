"""``larun recipe`` and ``--recipe``: write, check, compare, reduce, resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import larun as package
from larun.model.recipe import Recipe
from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun


def test_init_writes_a_complete_recipe_that_checks_and_changes_nothing(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path
) -> None:
    path = tmp_path / "night.toml"
    assert larun("recipe", "init", path) == Ended(0, "", "")
    assert path.read_text() == larun("recipe", "init").out == Recipe().to_toml()
    assert larun("recipe", "check", path) == Ended(0, f"{path}: good; 0 options other than the default\n", "")
    again = larun("recipe", "init", path)
    assert (again.code, again.out) == (3, "")
    assert "exists" in again.err
    out = tmp_path / "out"
    shutil.copytree(reduced[0], out)
    ended = larun("reduce", night.folder, out, "--recipe", path)
    assert ended.code == 0, ended.err
    assert "nothing to do: 13 products are up to date" in ended.out


def test_a_recipe_decides_and_the_command_line_goes_over_it(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path
) -> None:
    out, path = tmp_path / "out", tmp_path / "night.toml"
    shutil.copytree(reduced[0], out)
    path.write_text("[detect]\nthreshold = 40\n[photometer]\nradii = [2.0]\n")
    ended = larun("reduce", night.folder, out, "-r", path, "--set", "detect.threshold=30")
    assert ended.code == 0, ended.err
    assert "4 products written, 9 up to date" in ended.out
    catalog = out / "catalogs" / "science-R-001.ecsv"
    found = package.SourceCatalog.read(catalog)
    assert 30 <= found["snr"].min() < 40
    assert found.meta["aperture_radii"] == pytest.approx([2 * found.meta["fwhm"]])

    shown = larun("recipe", "diff", catalog).out
    assert [line.split()[:2] for line in shown.splitlines() if "." in line.split(" ")[0]] == [
        ["detect.threshold", "30"],
        ["photometer.radii", "[2]"],
    ]
    rows = json.loads(larun("recipe", "diff", catalog, path, "--json").out)
    assert rows == [{"option": "detect.threshold", "a": 30, "b": 40.0}]
    assert "say the same" in larun("recipe", "diff", out / "frames" / "science-R-001.fits", path).out
    about = json.loads(larun("info", catalog, "--json").out)["recipe"]
    assert about["changed"] == {"detect.threshold": 30, "photometer.radii": [2]}
    assert "detect.threshold = 30, photometer.radii = [2]" in " ".join(larun("info", catalog).out.split())
    frame = json.loads(larun("info", out / "frames" / "science-R-001.fits", "--json").out)["recipe"]
    assert (frame["changed"], list(frame["sections"])[-1]) == ({}, "overscan")
    assert json.loads(larun("info", night.frames[0].path, "--json").out)["recipe"] is None

    copy = tmp_path / "copy.toml"
    assert larun("recipe", "init", copy, "--from", catalog, "--short").code == 0
    assert copy.read_text().split("\n\n", 1)[1] == "[detect]\nthreshold = 30.0\n\n[photometer]\nradii = [2.0]\n"
    assert "nothing to do" in larun("reduce", night.folder, out, "--recipe", copy).out
    assert "nothing to do" in larun("reduce", night.folder, out, "--recipe", catalog).out


def test_masters_and_plan_follow_the_recipe(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text('[calibrate]\nwithout = ["flat", "dark"]\n[bias]\nmethod = "mean"\n[output]\ncatalog = "vot"\n')
    assert larun("masters", night.folder, tmp_path / "m", "--recipe", path).code == 0
    (bias,) = (tmp_path / "m").iterdir()
    assert package.MasterBias.read(bias).provenance.step.parameters["method"] == "mean"
    rows = json.loads(larun("reduce", night.folder, tmp_path / "out", "-r", path, "--dry-run", "--json").out)
    names = {Path(row["product"]).name for row in rows}
    assert "bias-192x192.fits" in names
    assert "science-V-001.vot" in names
    assert not any(name.startswith(("dark", "flat")) for name in names)


def test_check_tells_everything_in_lines_an_editor_can_follow(larun: Larun, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[detect]\ntreshold = 5\nmesh = "\\u001b[31m"\n[clean]\nsigma = = 3\nengine = "laurn"\n[[x]]\n')
    ended = larun("recipe", "check", path)
    assert (ended.code, ended.err) == (2, "")
    lines = ended.out.splitlines()
    assert [line.removeprefix(f"{path}:").split(":")[0] for line in lines[:-1]] == ["2", "3", "5", "6", "7"]
    assert lines[-1] == f"{path}: 5 problems"
    assert "\x1b" not in ended.out
    document = json.loads(larun("recipe", "check", path, "--json").out)
    assert document["problems"] == lines[:-1]
    ended = larun("reduce", tmp_path, tmp_path / "out", "--recipe", path, "--set", "detect.mesh=3", "--threshold", "0")
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 6  # the mesh is what --set says it is
    assert all(line.startswith("error: ") for line in ended.err.splitlines())
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read_end_with_3(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    for words in (
        ["recipe", "check", tmp_path / "absent.toml"],
        ["recipe", "check", tmp_path],
        ["recipe", "diff", night.frames[0].path],
        ["recipe", "init", tmp_path / "nowhere" / "x.toml"],
        ["reduce", night.folder, tmp_path / "out", "--recipe", tmp_path / "absent.toml"],
    ):
        ended = larun(*words)
        assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1), (words, ended)
    assert larun("recipe", "init", "--set", "detect=3").code == 2
