"""Cameras that other people's packages bring: installed for real, seen by another process through the entry point.

The wheel is zipped here, from the ``pyproject.toml`` a plugin has, because a build backend may not be installed; pip
then installs it as it would any other.
"""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import larun

ROOT = Path(larun.__file__).parents[1]
PYPROJECT = """
[project]
name = "{name}"
version = "1.2"

[project.entry-points."larun.instruments"]
{module} = "{module}:{cls}"
"""
CAMERA = '''
import larun


class {cls}(larun.Frame):
    """The camera of {name}."""

    required = frozenset()

    @classmethod
    def matches(cls, header):
        return header.get("INSTRUME") == "{instrument}"
'''
RUN = "from larun.cli import main; main()"


def install(folder, name, cls, *, instrument="mountain", code=CAMERA):
    """Make a wheel from a pyproject.toml and a module, and let pip install it into a folder."""
    module = name.replace("-", "_")
    project = tomllib.loads(PYPROJECT.format(name=name, module=module, cls=cls))["project"]
    info = f"{module}-{project['version']}.dist-info"
    groups = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in project["entry-points"].items()
    )
    files = {
        f"{module}.py": code.format(name=name, cls=cls, instrument=instrument),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": groups,
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    wheel = folder / f"{module}-{project['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    command += ["--disable-pip-version-check", "--no-compile", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


def in_a_process(site, code, *words):
    """Run Python with the plugins of a folder installed."""
    paths = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw" / "a.fits"
    path.parent.mkdir()
    header = fits.Header({"INSTRUME": "mountain", "GAIN": 1.5, "RDNOISE": 5.0, "EXPTIME": 30.0})
    fits.PrimaryHDU(np.full((12, 10), 1000, np.uint16), header).writeto(path)
    return path


def test_an_installed_camera_is_chosen_by_every_face(tmp_path, raw):
    site = install(tmp_path, "mountain-camera", "Mountain")
    done = in_a_process(site, f"import larun; print(type(larun.Frame.read({str(raw)!r})))")
    assert done.stdout == "<class 'mountain_camera.Mountain'>\n", done.stderr
    (row,) = json.loads(in_a_process(site, RUN, "ls", raw.parent, "--json").stdout)
    assert row["camera"] == "Mountain"
    done = in_a_process(site, RUN, "instrument", "list", "--json")
    (mine,) = [item for item in json.loads(done.stdout) if item["name"] == "Mountain"]
    assert mine == {
        "name": "Mountain",
        "module": "mountain_camera",
        "origin": "mountain-camera 1.2",
        "about": "The camera of mountain-camera.",
    }
    (nickel,) = [item for item in json.loads(done.stdout) if item["name"] == "Nickel"]
    assert nickel["origin"].startswith("larun ")
    assert done.stderr == ""


def test_a_broken_plugin_is_a_warning_and_stops_nothing(tmp_path, raw):
    install(tmp_path, "broken-camera", "Broken", code="import larun\nraise ZeroDivisionError('plugin {name}')\n")
    site = install(tmp_path, "mountain-camera", "Mountain")
    done = in_a_process(site, RUN, "ls", raw.parent, "--json")
    assert done.returncode == 0
    assert [row["camera"] for row in json.loads(done.stdout)] == ["Mountain"]
    assert done.stderr == (
        "warning: camera broken_camera (broken_camera:Broken) cannot be loaded: plugin broken-camera\n"
    )


def test_two_plugins_that_claim_a_file_raise_and_name_both(tmp_path, raw):
    install(tmp_path, "mountain-camera", "Mountain")
    site = install(tmp_path, "other-camera", "Other")
    done = in_a_process(site, RUN, "info", raw)
    assert done.returncode == 4
    assert "a.fits: claimed by mountain_camera:Mountain, other_camera:Other" in done.stderr
    (row,) = json.loads(in_a_process(site, RUN, "ls", raw.parent, "--json").stdout)
    assert row["kind"] == "unreadable"
    assert "claimed by" in row["evidence"]


def test_a_file_may_not_take_the_name_of_an_installed_camera(tmp_path, raw):
    site = install(tmp_path, "mountain-camera", "Mountain")
    file = tmp_path / "mountain_camera.py"
    file.write_text(CAMERA.format(name="x", cls="Mountain", instrument="mountain"))
    done = in_a_process(site, RUN, "info", raw, "--instrument", file)
    assert done.returncode == 3
    assert "the name 'mountain_camera' belongs to" in done.stderr
