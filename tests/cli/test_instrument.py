"""The door for new cameras: ``--instrument FILE.py`` and ``larun instrument``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from larun.model import loading, registry
from larun.simulate import NightTruth
from tests.cli.conftest import Larun

COMMAND = [sys.executable, "-W", "error", "-c", "from larun.cli import main; main()"]

CAMERA = '''
import larun


class TestCamera(larun.Frame):
    """The camera of the simulated nights."""

    required = frozenset({"bias", "flat"})
    read_noise = 6.5

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "larun simulated camera"

    @classmethod
    def detector_for(cls, header, shape):
        return super().detector_for(header, shape).with_values(read_noise=cls.read_noise)
'''


@pytest.fixture(autouse=True)
def forget_new_cameras(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test begins and ends with the installed cameras."""
    registry.load_plugins()
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))
    monkeypatch.setattr(registry, "SOURCES", {})
    monkeypatch.setattr(loading, "SOURCES", registry.SOURCES)
    yield
    for name in registry.SOURCES:
        del sys.modules[name]


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    path = tmp_path / "test_camera.py"
    path.write_text(CAMERA)
    return path


# -- --instrument ------------------------------------------------------------------------------------------------------


def test_ls_and_info_use_the_camera_that_is_named(larun: Larun, night: NightTruth, camera: Path) -> None:
    raw = night.folder / "science-V-001.fits"
    assert json.loads(larun("info", raw, "--json").out)["class"] == "larun.instruments.generic:Generic"
    about = json.loads(larun("info", raw, "--instrument", camera, "--json").out)
    assert about["class"] == "test_camera:TestCamera"
    assert about["detector"]["amplifiers"][0]["read_noise"] == 6.5
    rows = json.loads(larun("ls", night.folder, "--instrument", camera, "--json").out)
    assert {row["camera"] for row in rows} == {"TestCamera"}


@pytest.mark.parametrize("words", [("ls", "raw"), ("info", "raw"), ("masters", "raw", "o"), ("reduce", "raw", "o")])
def test_every_command_says_what_is_wrong_with_the_file(larun: Larun, tmp_path: Path, words: tuple[str, ...]) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import larun\n\nclass Camera(larun.Frame:\n")
    ended = larun(*words, "--instrument", path)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith(f"error: {path}, line 3: not Python: ")
    assert ended.err.count("\n") == 1


def test_a_second_class_that_claims_the_files_is_refused_with_a_way_out(
    larun: Larun, night: NightTruth, camera: Path, tmp_path: Path
) -> None:
    rival = tmp_path / "rival.py"
    rival.write_text(CAMERA.replace("TestCamera", "Rival"))
    ended = larun("info", night.folder / "bias-001.fits", "--instrument", camera, "--instrument", rival)
    assert ended.code == 4
    assert "claimed by rival:Rival, test_camera:TestCamera" in ended.err
    assert "derive one from the other" in ended.err


def test_workers_know_the_camera_and_products_come_back_with_it(
    larun: Larun, night: NightTruth, camera: Path, tmp_path: Path
) -> None:
    """Through a process of its own: workers are spawned."""
    out = tmp_path / "out"
    words = ["reduce", str(night.folder), str(out), "--jobs", "2", "--no-clean", "--without", "dark", "--json"]
    words += ["--instrument", str(camera)]
    run = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert {row["status"] for row in rows} == {"done"}
    product = out / "frames" / "science-V-001.fits"
    about = json.loads(larun("info", product, "--instrument", camera, "--json").out)
    assert about["class"] == "test_camera:TestCamera"
    assert about["detector"]["amplifiers"][0]["read_noise"] == 6.5
    again = larun(*words)
    assert {row["status"] for row in json.loads(again.out)} == {"skipped"}
    # An edited camera is another camera: nothing of before is taken for right.
    camera.write_text(CAMERA.replace("6.5", "7.5"))
    assert {
        row["status"]
        for row in json.loads(
            larun("masters", *words[1:2], out / "masters", *words[-2:], "--without", "dark", "--json").out
        )
    } == {"done"}


def test_without_the_file_products_are_generic_with_a_warning(
    larun: Larun, night: NightTruth, camera: Path, tmp_path: Path
) -> None:
    import larun as package

    (cls,) = package.instruments.load(camera)
    frame = package.Frame.read(night.folder / "bias-001.fits")
    assert type(frame) is cls
    frame.write(tmp_path / "product.fits")
    run = subprocess.run(
        [*COMMAND, "info", str(tmp_path / "product.fits"), "--json"], capture_output=True, text=True, check=False
    )
    assert json.loads(run.stdout)["class"] == "larun.instruments.generic:Generic"
    assert "'test_camera:TestCamera', which is not known here: read as Generic" in run.stderr


# -- check -------------------------------------------------------------------------------------------------------------


def test_check_prints_values_sources_and_advice(larun: Larun, night: NightTruth) -> None:
    ended = larun("instrument", "check", night.folder / "science-V-001.fits")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= 100
    text = " ".join(ended.out.split())
    assert "gain 1.6 e⁻/ADU GAIN = 1.6" in text
    assert "kind science – IMAGETYP='object'" in text
    assert "note: no camera class claims this header" in text
    assert "→ larun instrument new NAME --from FILE" in text
    assert lines[-1] == "ready; 2 notes"


def test_check_ends_with_1_when_something_required_is_missing(larun: Larun, tmp_path: Path) -> None:
    path = tmp_path / "header.yaml"
    path.write_text('INSTRUME: attic\nNAXIS1: 100\nNAXIS2: 90\nGAIN: 1.5\nEXPTIME: 30\nOBJECT: "[red]\\x1b[31m"\n')
    ended = larun("instrument", "check", path)
    assert ended.code == 1
    assert "error: no read noise (none of RDNOISE" in ended.out
    assert "only the header was checked" in ended.out
    assert "\x1b" not in ended.out
    assert ended.out.splitlines()[-1].startswith("not ready: 1 error")
    about = json.loads(larun("instrument", "check", path, "-k", "RDNOISE=5", "--json").out)
    assert about["ok"]
    assert {"quantity", "level", "problem", "advice"} == set(about["findings"][0])
    assert [row["source"] for row in about["quantities"] if row["name"] == "read_noise"] == ["given"]
    assert larun("instrument", "check", path, "-k", "RDNOISE=5").code == 0


def test_check_uses_the_camera_that_is_named(larun: Larun, night: NightTruth, camera: Path) -> None:
    ended = larun("instrument", "check", night.folder / "bias-001.fits", "--instrument", camera, "--json")
    about = json.loads(ended.out)
    assert (about["class"], about["why"].partition(" ")[0]) == ("test_camera:TestCamera", "TestCamera.matches")
    noise = next(row for row in about["quantities"] if row["name"] == "read_noise")
    assert (noise["value"], noise["source"]) == (6.5, "constant TestCamera.read_noise")
    assert larun("instrument", "check", night.folder / "absent.fits").code == 3


# -- new and list ------------------------------------------------------------------------------------------------------


def test_new_writes_a_camera_that_every_command_takes(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    raw = night.folder / "science-V-001.fits"
    ended = larun("instrument", "new", "RoofCamera", "--from", raw, "-o", tmp_path / "roof camera.py")
    assert (ended.code, ended.err) == (0, "")
    path = tmp_path / "roof camera.py"
    assert ended.out.splitlines()[0] == f"wrote {path}"
    assert f"larun instrument check {raw} --instrument '{path}'" in ended.out
    about = json.loads(larun("instrument", "check", raw, "--instrument", path, "--json").out)
    assert about["class"] == "roof_camera:RoofCamera"
    assert about["ok"]
    ended = larun("instrument", "new", "RoofCamera", "-o", path)
    assert (ended.code, ended.err.partition(":")[0]) == (3, "error")
    assert larun("instrument", "new", "../../evil").code == 2
    assert larun("instrument", "new", "Roof", "--from", tmp_path / "absent.fits", "-o", tmp_path).code == 3


def test_list_names_cameras_and_what_brought_them(larun: Larun, camera: Path) -> None:
    ended = larun("instrument", "list", "--instrument", camera)
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert "larun 0." in rows["Nickel"]
    assert "larun.instruments.nickel" in rows["Nickel"]
    assert "test_camera" in rows["TestCamera"]
    assert list(rows)[-1] != "TestCamera"
    found = {
        item["name"]: item for item in json.loads(larun("instrument", "list", "--json", "--instrument", camera).out)
    }
    assert found["TestCamera"]["origin"] == str(camera)
    assert {"Nickel", "Generic"} <= set(found)
