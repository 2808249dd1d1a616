"""Interrupted, killed and damaged: a reduction goes on where it stopped and says what it left out."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import larun as package
from larun.provenance import pixel_digest
from larun.simulate import NightTruth
from tests.cli.conftest import Ended, Larun

COMMAND = [sys.executable, "-c", "from larun.cli import main; main()"]


def _stopped(night: NightTruth, out: Path, number: signal.Signals) -> tuple[int, str]:
    """Start a reduction, send it a signal when its first frame is there, and wait for its end."""
    process = subprocess.Popen(
        [*COMMAND, "reduce", str(night.folder), str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background lets its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    frames = out / "frames"
    limit = time.monotonic() + 240  # kernels may have to be compiled first
    while process.poll() is None and time.monotonic() < limit:
        if frames.is_dir() and any(frames.glob("*.fits")):
            process.send_signal(number)
            break
        time.sleep(0.005)
    message = process.communicate(timeout=60)[1]
    return process.returncode, message


def _contents(out: Path) -> dict[str, tuple[str, str]]:
    """Provenance id and digest of the content of every product."""
    found = {}
    for path in sorted(out.glob("*/*.fits")):
        image = package.Image.read(path)
        planes = (image.data, image.variance, image.flags, *(item.variance for item in image.shared))
        found[f"{path.parent.name}/{path.name}"] = image.provenance.id, pixel_digest(*planes)
    for path in sorted(out.glob("*/*.ecsv")):
        catalog = package.SourceCatalog.read(path)
        columns = (getattr(catalog[name], "value", catalog[name]) for name in catalog.columns)
        found[f"{path.parent.name}/{path.name}"] = catalog.provenance.id, pixel_digest(*columns)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_reduction_is_completed_by_the_next(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    code, message = _stopped(night, out, number)
    if number == signal.SIGINT:
        assert code == 130
        assert message.startswith("error: interrupted")
        assert "Traceback" not in message
    else:
        assert code == -signal.SIGKILL
    left = _contents(out)  # whatever is there is whole
    # After Ctrl-C frames that are under way are finished: where few are left, that may be all of them.
    assert 0 < len(left) < (14 if number == signal.SIGINT else 13)
    ended = larun("reduce", night.folder, out)
    assert ended.code == 0
    assert "up to date" in ended.out
    assert ("products written" in ended.out) == (len(left) < 13)
    assert _contents(out) == _contents(reduced[0])


def test_any_number_of_jobs_gives_the_same_products(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path
) -> None:
    """Through a process of its own: workers are spawned."""
    command = [*COMMAND, "reduce", str(night.folder), str(tmp_path / "out"), "--jobs", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert _contents(tmp_path / "out") == _contents(reduced[0])


def test_a_damaged_raw_file_is_named_and_the_rest_is_reduced(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for frame in night.frames:
        if frame.band in (None, "V"):
            (raw / frame.path.name).symlink_to(frame.path)
    damaged = raw / "science-V-001.fits"
    whole = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(whole[:20000])
    ended = larun("reduce", raw, tmp_path / "out")
    assert ended.code == 1
    line = next(line for line in ended.err.splitlines() if line.startswith("error: "))
    assert "science-V-001.fits" in line
    assert [path.name for path in (tmp_path / "out" / "frames").iterdir()] == ["science-V-002.fits"]
    assert "1 failed" in ended.out


def test_a_product_that_was_damaged_is_made_again(
    larun: Larun, night: NightTruth, reduced: tuple[Path, Ended], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(reduced[0], out)
    path = out / "frames" / "science-R-002.fits"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    ended = larun("reduce", night.folder, out)
    assert ended.code == 0
    assert "1 product written, 12 up to date" in ended.out
    assert _contents(out) == _contents(reduced[0])


def test_warnings_are_told_once(larun: Larun, night: NightTruth, tmp_path: Path) -> None:
    """Two V flats and the dark that has to be scaled far down for them: one line, on standard error."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for frame in night.frames:
        if frame.band in (None, "V") and not (frame.kind == "dark" and frame.exposure < 10):
            (raw / frame.path.name).symlink_to(frame.path)
    ended = larun("masters", raw, tmp_path / "m", "--json")
    assert ended.code == 0
    lines = ended.err.splitlines()
    assert len(lines) == len(set(lines)) == 1
    assert lines[0].startswith("warning: flat-V-192x192: ")
    assert "scaled down to 3 s" in lines[0]


def test_other_options_make_the_products_again(
    larun: Larun, reduced: tuple[Path, Ended], night: NightTruth, tmp_path: Path
) -> None:
    """The same folder with another threshold: catalogues are written anew with it, and again without it."""
    out = tmp_path / "out"
    shutil.copytree(reduced[0], out)
    ended = larun("reduce", night.folder, out, "--threshold", "30")
    assert ended.code == 0, ended.err
    assert "4 products written, 9 up to date" in ended.out  # masters and frames stay
    catalog = package.SourceCatalog.read(out / "catalogs" / "science-R-001.ecsv")
    assert catalog["snr"].min() >= 30
    assert larun("reduce", night.folder, out).code == 0
    assert _contents(out) == _contents(reduced[0])
