"""``larun align``: what is told and written, frames that do not fit, and words that make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import larun as package
from tests.cli.conftest import Ended, Larun


@pytest.fixture
def frames(reduced: tuple[Path, Ended]) -> list[Path]:
    return sorted((reduced[0] / "frames").glob("*.fits"))[:2]


def test_frames_are_laid_upon_one_and_told(larun: Larun, frames: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = larun("align", *frames, "--to", frames[0], "-o", out, "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert [Path(row["file"]).name for row in told["frames"]] == [path.name for path in frames]
    moved = told["frames"][1]
    assert moved["stars"] >= 4
    assert moved["rms_bright"] < 0.3
    assert (moved["parity"], moved["scale"]) == (1, pytest.approx(1, abs=2e-3))
    product, reference = package.Frame.read(out / frames[1].name), package.Frame.read(frames[0])
    step = product.provenance.step
    assert step is not None
    assert (step.operation, step.parameters["method"]) == ("align", "stars")
    middle = (np.array(product.shape[::-1]) - 1) / 2
    there = np.array(step.fitted["matrix"]) @ middle + step.fitted["offset"]
    assert moved["shift"] == pytest.approx(there - middle, abs=1e-3)
    itself = told["frames"][0]
    assert itself["shift"] == pytest.approx([0, 0], abs=1e-6)
    assert product.identical(package.Frame.read(frames[1]).align_to(reference))
    assert "exists" in larun("align", frames[1], "--to", frames[0], "-o", out).out
    assert larun("align", out.parent / "out", "--to", frames[0], "-o", out).code == 2  # would replace what it reads
    ended = larun("align", frames[1], "--to", frames[0], "-o", out, "--overwrite", "--method", "phase")
    assert (ended.code, "rms" in ended.out) == (0, False)
    assert "1 of 1 frames aligned" in ended.out


def test_a_frame_of_another_field_is_told_with_the_reason_and_the_rest_is_done(
    larun: Larun, frames: list[Path], tmp_path: Path
) -> None:
    reference = package.Frame.read(frames[0])
    empty = np.random.default_rng(1).normal(200, 10, reference.shape).astype(np.float32)
    other = reference.with_planes(data=empty)
    path = other.write(tmp_path / "other.fits")
    out = tmp_path / "out"
    ended = larun("align", path, tmp_path / "none.fits", frames[1], "--to", frames[0], "--out", out)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert "not aligned" in lines[0]
    assert "stars" in ended.out
    assert "none.fits" in ended.out
    assert "1 of 3 frames aligned" in ended.out
    assert [item.name for item in out.iterdir()] == [frames[1].name]


def test_words_that_make_no_sense_are_refused(larun: Larun, frames: list[Path], tmp_path: Path) -> None:
    assert larun("align", frames[1], "--to", tmp_path / "none.fits", "-o", tmp_path).code == 3
    assert larun("align", frames[1], "--to", frames[0]).code == 2
    assert larun("align", frames[1], "--to", frames[0], "-o", tmp_path, "--method", "eye").code == 2
    twins = tmp_path / "twins"
    twins.mkdir()
    (twins / frames[1].name).write_bytes(frames[1].read_bytes())
    ended = larun("align", frames[1], twins, "--to", frames[0], "-o", tmp_path / "out")
    assert (ended.code, "both become" in ended.err) == (2, True)
    ended = larun("align", frames[1], "--to", frames[0], "-o", frames[0].parent)
    assert (ended.code, "would be replaced" in ended.err) == (2, True)
