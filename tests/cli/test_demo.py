"""The demo, and the functions that compare a reduction with the truth."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import larun as package
from larun.cli import demo
from larun.cli.demo import DemoOptions, compare, run
from larun.report.recovery import Cosmics, compare_cosmics
from larun.report.verdict import Check, photon_transfer, robust_width, summarize
from larun.simulate import NightOptions, NightTruth
from tests.cli.conftest import Ended, Larun

SMALL = NightOptions(
    camera=NightOptions().camera.resized((320, 320)),
    dark_exposures=(3.0, 60.0),
    biases=5,
    darks=3,
    flats=4,
    frames=2,
    star_density=900.0,
    magnitudes=(13.5, 19.0),
    cosmic_rate=5.0,
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "night"


def test_demo_recovers_the_truth_and_ends_with_0(shown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(DemoOptions(folder=shown, seed=2, night=SMALL), as_json=True)
    made = json.loads(capsys.readouterr().out)
    assert code == 0, [check for check in made["checks"] if not check["passed"]]
    assert all(check["passed"] for check in made["checks"])
    assert {row["status"] for row in made["rows"]} == {"done"}
    assert set(made["seconds"]) == {
        "compile",
        "simulate",
        "reduce",
        "stack",
        "compare",
        "difference",
        "light curve",
        "total",
    }
    assert [frame["name"] for frame in made["frames"]] == [f"science-{f}-00{n}" for f in "VR" for n in (1, 2)]
    assert (shown / "demo.png").read_bytes().startswith(b"\x89PNG")
    by_name = {(check["name"], check["where"]): check for check in made["checks"]}
    assert by_name["gain, e⁻/ADU", "V"]["found"] == pytest.approx(1.6, rel=0.02)
    assert by_name["new source found before", "V"]["found"] == 0
    assert by_name["new source is a candidate", "V"]["found"] == 1
    assert by_name["its light on the difference", "V"]["found"] == pytest.approx(1, abs=0.1)
    assert "<img" in (shown / "out" / "sheets" / "index.html").read_text()
    assert package.DifferenceImage.read(shown / "out" / "differences" / "science-V-002.fits").convolved


def test_a_second_demo_has_nothing_to_do_and_shows_the_same(shown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DemoOptions(folder=shown, seed=2, night=SMALL), as_json=False) == 0
    text = capsys.readouterr().out
    assert "nothing to do: 13 products are up to date" in text
    assert "Recovered against true" in text
    assert "MISSED" not in text
    assert (
        max(len(line) for line in text.splitlines() if not line.startswith(("files:", "picture:", "what is new:")))
        <= 100
    )


def test_a_demo_of_another_seed_is_refused(shown: Path) -> None:
    with pytest.raises(package.errors.OptionError, match="seed 2"):
        run(DemoOptions(folder=shown, seed=5, night=SMALL), as_json=True)


def test_an_interrupted_simulation_is_made_again(
    shown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mark and half a night are there: the whole night is simulated anew, the same as any other."""
    folder = tmp_path / "half"
    (folder / "raw.partial").mkdir(parents=True)
    (folder / "raw.partial" / "bias-001.fits").write_text("half")
    (folder / "larun-demo.json").write_bytes((shown / "larun-demo.json").read_bytes())
    assert run(DemoOptions(folder=folder, seed=2, night=SMALL, keep=False), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["frames"]
    assert not folder.exists()  # keep=False


def test_a_folder_that_is_no_demo_is_left_alone(larun: Larun, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    ended = larun("demo", tmp_path, "--no-keep")
    assert ended.code == 2
    assert "not empty" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_keep_deletes_only_what_the_demo_made(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("raw", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "larun-demo.json").write_text("{}")
    demo._remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_broken_chain_fails_the_comparison(night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path) -> None:
    """Catalogues of other frames than they claim: stars are missed, and the verdict says so."""
    shutil.copytree(reduced[0], tmp_path / "out")
    catalogs = tmp_path / "out" / "catalogs"
    shutil.copy(catalogs / "science-V-002.ecsv", catalogs / "science-V-001.ecsv")
    missed = {check.name for check in compare(night, tmp_path / "out")[1] if not check.passed}
    assert {"stars above 5 σ found", "stars above 10 σ found", "sources that are no star"} <= missed


def test_wrong_errors_fail_the_comparison(night: NightTruth, reduced: tuple[Path, Ended]) -> None:
    scores, checks = compare(night, reduced[0])
    right = {(c.name, c.where): c for c in checks}
    scaled = []
    for score in scores:
        stars = score.stars._replace(ratio_error=score.stars.ratio_error / 3, x_error=score.stars.x_error * 3)
        scaled.append(score._replace(stars=stars))
    wrong = {(c.name, c.where): c for c in summarize(scaled, night)}
    name = ("flux − true / its error, 68 %", "V")
    assert right[name].passed
    assert not wrong[name].passed
    assert wrong[name].found == pytest.approx(3 * right[name].found, rel=1e-6)


def test_hidden_and_early_new_sources_are_told(night: NightTruth, reduced: tuple[Path, Ended]) -> None:
    scores, _ = compare(night, reduced[0])
    flipped = [s if s.new_source_there is None else s._replace(new_source_there=not s.new_source_there) for s in scores]
    checks = {check.name: check for check in summarize(flipped, night)}
    assert not checks["new source found once there"].passed
    assert not checks["new source found before"].passed


def test_cosmics_are_counted_on_pixels_that_can_be_judged() -> None:
    flags = np.zeros((4, 4), np.uint32)
    charge = np.zeros((4, 4), np.float32)
    charge[0] = [1000, 1000, 3, 1000]
    flags[0] = [package.flags.COSMIC, 0, package.flags.COSMIC, package.flags.COSMIC | package.flags.BAD]
    flags[3, 3] = package.flags.COSMIC
    frame = package.Frame.from_arrays(
        np.zeros((4, 4)), variance=np.full((4, 4), 100.0), flags=flags, unit="electron", gain=1.0
    )
    found = compare_cosmics(frame, charge)
    assert found == Cosmics(strong=2, found=1, flagged=3, right=2)
    assert (found.recall, found.precision) == (0.5, pytest.approx(2 / 3))
    assert math.isnan(Cosmics(0, 0, 0, 0).recall)


def test_photon_transfer_finds_gain_and_read_noise_despite_structure_and_hot_pixels() -> None:
    rng = np.random.default_rng(11)
    shape, gain, noise = (400, 400), 1.6, 6.0
    response = 1 + 0.05 * rng.standard_normal(shape)
    flats = [
        np.rint(rng.poisson(level * gain * response) / gain + rng.normal(0, noise / gain, shape))
        for level in (28000, 18000)
    ]
    biases = [np.rint(rng.normal(0, noise / gain, shape)) for _ in range(2)]
    flats[0][5, 5] += 30000
    biases[0][7, 7] += 5000
    found = photon_transfer([f.astype(np.float32) for f in flats], [b.astype(np.float32) for b in biases])
    # 160,000 pixels: 0.35 % in a variance, 0.18 % in a standard deviation
    assert found == (pytest.approx(gain, rel=0.012), pytest.approx(noise, rel=0.012))


def test_robust_width_is_sigma_and_needs_ten() -> None:
    values = np.random.default_rng(12).normal(5, 2, 20_000)
    values[:400] = 1e6
    assert robust_width(values) == pytest.approx(2, rel=0.05)
    assert math.isnan(robust_width(values[:9]))


def test_too_little_to_tell_is_a_failure() -> None:
    assert not Check("a", "", math.nan, 1.0, 0.0, 2.0, 0).passed
    assert Check("a", "", 2.0, 1.0, 0.0, 2.0, 1).passed


def test_without_matplotlib_there_is_no_picture(
    shown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown / "demo.png").unlink()
    monkeypatch.setattr("larun.report.figure.can_draw", lambda: False)
    assert run(DemoOptions(folder=shown, seed=2, night=SMALL), as_json=False) == 0
    ended = capsys.readouterr()
    assert not (shown / "demo.png").exists()
    assert "picture" not in ended.out
    assert ended.err == ""
