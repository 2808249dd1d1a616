"""``larun warmup``, and the first run of a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from larun.algorithms import jit, kernel_cache, warm
from larun.cli.warmup import compile_first
from larun.simulate import NightTruth
from tests.cli.conftest import Larun

_SCRIPT = """
import sys
from pathlib import Path
import larun
from larun.algorithms import jit, kernel_cache
from larun.algorithms.warm import compile_all

def signatures():
    return {kernel.__module__ + "." + kernel.__name__: set(kernel._compiled.signatures)
            for kernel in jit.kernels() if kernel._compiled}

if __name__ == "__main__" and not kernel_cache.is_ready():
    compile_all(jit.threads())  # sooner done than here
compile_all(1)
known, before = len(jit.kernels()), signatures()
out = Path(sys.argv[2])
summary = larun.Night(sys.argv[1]).reduce(out)
assert not summary.failed, summary.failed
frame = larun.Frame.read(next((out / "frames").glob("*.fits")))
frame.detect().morphology().photometer(aperture="kron")
frame.photometer([(20.0, 30.0), (90.5, 80.5)])
larun.MasterBias.combine(sorted(Path(sys.argv[1]).glob("bias*")), clip="mad")
larun.Stack.combine(sorted((out / "frames").glob("*.fits"))[:2])
after = signatures()
assert len(before) > 10, before
more = {name: own ^ before.get(name, set()) for name, own in after.items() if own != before.get(name)}
assert not more, more
assert all(len(own) == 1 for own in after.values()), "a kernel with two signatures: processes may disturb each other"
assert len(jit.kernels()) == known, "a module with kernels that larun.algorithms.warm does not know"
"""


def test_after_warmup_the_chain_compiles_nothing(night: NightTruth, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(night.folder), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_warmup_says_how_many_kernels(larun: Larun) -> None:
    made = json.loads(larun("warmup", "--json").out)
    assert made["kernels"] > 10
    assert made["seconds"] > 0
    assert made["folder"] == str(kernel_cache.folder())
    again = larun("warmup")
    assert (again.code, again.err) == (0, "")
    assert f"{made['kernels']} kernels ready" in again.out
    assert "all there before" in again.out
    assert kernel_cache.is_ready()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """As on a new installation, but nothing takes long."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "base"))
    monkeypatch.setattr(kernel_cache, "_told", False)
    monkeypatch.setattr("larun.cli.warmup.jit.threads", lambda: 1)
    monkeypatch.setattr(warm, "compile_all", lambda *_: (calls.append(1), kernel_cache.set_ready(), 0)[2])
    calls: list[int] = []
    kernel_cache.folder.cache_clear()
    yield calls
    kernel_cache.folder.cache_clear()


def test_the_first_run_says_so_once(fresh: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    compile_first("night")
    compile_first("night")
    kernel_cache._told = False  # as another process
    compile_first("night")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"note: {jit.compiling(1, 'night')}\n"
    assert fresh == [1]


def test_reduce_compiles_first(fresh: list[int], larun: Larun, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    ended = larun("reduce", tmp_path / "raw", tmp_path / "out", "--json")
    assert fresh == [1]
    assert "compiling" not in ended.out


def test_warmup_without_a_folder_is_an_error(fresh: list[int], larun: Larun, tmp_path: Path) -> None:
    (tmp_path / "base").touch()
    ended = larun("warmup")
    assert ended.code == 3
    assert "set NUMBA_CACHE_DIR" in ended.err
    assert fresh == []
