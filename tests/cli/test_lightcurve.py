"""``larun lightcurve``: from a folder to a table, a picture and a report, and words that make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import larun as package
from larun.cli.lightcurve import parse_target
from larun.errors import OptionError
from larun.simulate import Camera, NightOptions, Pulsation, simulate_night
from tests.cli.conftest import Larun
from tests.model.curves import nights


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[nights.Night, Path]:
    folder = tmp_path_factory.mktemp("frames")
    made = nights.night(4, frames=12)
    for number, frame in enumerate(made.frames):
        frame.write(folder / f"light-{number:03d}.fits")
    return made, folder


def test_frames_become_a_light_curve(larun: Larun, frames: tuple[nights.Night, Path], tmp_path: Path) -> None:
    night, folder = frames
    x, y = night.targets[5]
    out = tmp_path / "out"
    words = ("lightcurve", folder, "--target", f"{x:.1f},{y:.1f}", "--out", out)
    more = ("--coordinates", "19:04:09.8,+36:37:57", "--format", "aavso,exoclock,aij", "--radius", "5", "--json")
    ended = larun(*words, *more)
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["points"] == 12
    assert "coordinates of the target" in told["time"]
    assert told["aperture"] == {"radius": 5.0, "unit": "pixel"}
    assert told["target"]["x"] == pytest.approx(x, abs=0.5)
    assert all(Path(name).is_file() for name in told["files"])
    assert {Path(name).name for name in told["files"]} >= {
        "lightcurve.ecsv",
        "lightcurve.png",
        "scatter.png",
        "lightcurve.txt",
        "lightcurve_aavso.txt",
        "lightcurve_exoclock.txt",
        "lightcurve.tbl",
    }
    curve = package.LightCurve.read(out / "lightcurve.ecsv")
    flux, error = np.asarray(curve.curve()["flux"]), np.asarray(curve.curve()["flux_error"])
    ratio = flux / night.relative[:, 5]
    assert np.std((ratio / np.mean(ratio) - 1) / error) < 1.6
    again = larun(*words, "--transit", "3.03,10.45,0.18,0.1", "--radius", "5")
    assert again.code == 0, again.err
    assert "mid-transit: JD (UTC)" in again.out
    assert "comparison stars" in (out / "lightcurve.txt").read_text()
    shown = larun("info", out / "lightcurve.ecsv")
    assert shown.code == 0, shown.err
    assert "light_curve" in larun("provenance", out / "lightcurve.ecsv").out
    drawn = larun("plot", out / "lightcurve.ecsv", "-o", tmp_path / "again.png")
    assert drawn.code == 0, drawn.err
    assert (tmp_path / "again.png").read_bytes().startswith(b"\x89PNG")
    assert larun("plot", out / "lightcurve.ecsv", "--kind", "growth", "-o", tmp_path / "no.png").code == 2


@pytest.mark.slow
def test_a_raw_night_is_reduced_first(larun: Larun, tmp_path: Path) -> None:
    options = NightOptions(
        camera=Camera(shape=(200, 200), filters=("V",)),
        zero_points=(23.5,),
        sky=(4.0,),
        biases=4,
        darks=3,
        flats=3,
        frames=6,
        dither=3.0,
        star_density=3000,
        new_source=None,
        variable=Pulsation(magnitude=15.0),
    )
    truth = simulate_night(tmp_path / "raw", seed=5, options=options)
    science = truth.select("object", "V")
    star = np.asarray(truth.stars["id"]) == truth.variable_star
    x, y = (float(values[star][0]) for values in truth.positions(science[0]))
    ended = larun("lightcurve", tmp_path / "raw", "-t", f"{x:.1f},{y:.1f}", "-o", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    frame = package.Frame.read(next((tmp_path / "out" / "reduced" / "frames").glob("*.fits")))
    flux = np.asarray(package.LightCurve.read(tmp_path / "out" / "lightcurve.ecsv").curve()["flux"])
    wanted = np.array([about.variable for about in science])
    assert flux / np.median(flux) == pytest.approx(wanted / np.median(wanted), abs=0.02)
    clean = next(node.step for node in frame.provenance.line() if node.step and node.step.operation == "clean")
    assert clean.parameters["replace"] is False


def test_words_that_make_no_sense(larun: Larun, frames: tuple[nights.Night, Path], tmp_path: Path) -> None:
    _, folder = frames
    out = tmp_path / "out"
    for words, said in (
        (("-t", "5"), "RA,DEC"),
        (("-t", "5,5", "--format", "magic"), "magic"),
        (("-t", "5,5", "--transit", "3"), "period"),
        (("-t", "5,5", "--radius-unit", "mile"), "unit"),
        (("-t", "5,5", "--reference", "none"), "must name one"),
        (("-t", "5,5", "--filter", "B"), "no frames are left"),
        (("-t", "5,5", "--coordinates", "north"), "sky"),
    ):
        ended = larun("lightcurve", folder, *words, "-o", out)
        assert ended.code == 2, (words, ended.err)
        assert said in " ".join(ended.err.split()), words
    assert larun("lightcurve", tmp_path / "none", "-t", "5,5", "-o", out).code == 3


def test_targets_in_pixels_and_on_the_sky() -> None:
    assert parse_target("12.5, 7") == [[12.5, 7.0]]
    there = parse_target("19:04:09.85,+36:37:57.5")
    assert there.ra.deg[0] == pytest.approx(286.04104, abs=1e-4)
    assert there.dec.deg[0] == pytest.approx(36.63264, abs=1e-4)
    with pytest.raises(OptionError):
        parse_target("nan,5x")


def test_light_by_a_psf_is_told(larun: Larun, frames: tuple[nights.Night, Path], tmp_path: Path) -> None:
    night, folder = frames
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(folder.glob("*.fits"))[:5]:
        (few / path.name).symlink_to(path)
    x, y = night.targets[5]
    words = ("lightcurve", few, "--target", f"{x:.1f},{y:.1f}", "--out", tmp_path / "out", "--method", "psf")
    ended = larun(*words, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert told["points"] == 5
    assert told["psf"]["models"] == ["empirical"]
    assert "aperture" not in told
    for more, text in ((("--radius", "5"), "belongs to apertures"), (("--method", "magic"), "--method magic")):
        refused = larun(*words, *more)
        assert refused.code == 2
        assert text in refused.err
