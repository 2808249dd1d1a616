"""Kernels: spread over threads, kept on disk, announced once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from larun.algorithms import jit, kernel_cache, moments, order, warm
from larun.algorithms.jit import over_rows
from larun.errors import LarunWarning


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Any:
    jit.set_threads(request.param)
    yield request.param
    jit.set_threads(None)


@pytest.fixture
def four_threads() -> Any:
    jit.set_threads(4)
    yield
    jit.set_threads(None)


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "band"), [(0, 4), (1, 4), (7, 3), (8, 4), (1000, 1)])
def test_every_row_is_worked_on_once(threads: int, rows: int, band: int) -> None:
    seen = np.zeros(rows, int)
    bands = []

    def work(start: int, stop: int) -> None:
        seen[start:stop] += 1
        bands.append((start, stop))

    over_rows(rows, work, band)
    assert (seen == 1).all()
    assert sorted(bands) == [(start, min(start + band, rows)) for start in range(0, rows, band)]


def test_work_may_spread_its_own_work(threads: int) -> None:
    """Deep and wide: were the pool to wait for its own threads, this would never end."""
    seen = np.zeros((6, 5, 4), int)

    def plane(i: int) -> None:
        over_rows(5, lambda j, _: row(i, j), 1)

    def row(i: int, j: int) -> None:
        def cell(k: int, _: int) -> None:
            seen[i, j, k] += 1

        over_rows(4, cell, 1)

    done = threading.Thread(target=lambda: over_rows(6, lambda i, _: plane(i), 1), daemon=True)
    done.start()
    done.join(20)
    assert not done.is_alive()
    assert (seen == 1).all()


def test_work_inside_other_work_is_let_go_when_it_is_done() -> None:
    """While the pool is busy, its queue holds shares that were cancelled: not the arrays of their work."""
    before: dict[int, list[weakref.ref[Any]]] = {}
    alive: list[int] = []

    def outer(start: int, stop: int) -> None:
        mine = before.setdefault(threading.get_ident(), [])
        alive.append(sum(array() is not None for array in mine))
        array = np.zeros(10)
        mine.append(weakref.ref(array))
        over_rows(4, lambda first, last: array.fill(first), 1)
        time.sleep(0.01)  # both threads get some

    jit.set_threads(2)
    try:
        over_rows(12, outer, 1)
    finally:
        jit.set_threads(None)
    assert alive == [0] * 12


@pytest.mark.usefixtures("four_threads")
def test_threads_really_work_at_the_same_time() -> None:
    meet = threading.Barrier(4)
    over_rows(4, lambda *_: meet.wait(20) and None, 1)


def test_the_error_of_the_first_band_comes_out_when_nothing_runs_any_more(threads: int) -> None:
    running = set()

    def work(start: int, _: int) -> None:
        running.add(start)
        time.sleep(0.002)
        running.remove(start)
        if start in (3, 4, 5):
            raise ValueError(f"row {start}")

    for _ in range(5):
        with pytest.raises(ValueError, match="row 3"):
            over_rows(40, work, 1)
        assert not running
    over_rows(4, lambda *_: None, 1)  # and the pool is fit for more


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own(tmp_path: Path) -> None:
    script = (
        "import os\nfrom larun.algorithms.jit import over_rows, set_threads\nset_threads(3)\n"
        "seen = []\nover_rows(9, lambda a, b: seen.append(a), 1)\n"
        "child = os.fork()\nover_rows(9, lambda a, b: seen.append(a), 1)\n"
        "assert len(seen) == 18\n"
        "if child: assert os.waitpid(child, 0)[1] == 0\nelse: os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


# -- where kernels are kept --------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A base for folders of its own, and nothing known of others; afterwards all is as before."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "base"))
    monkeypatch.setattr(kernel_cache, "_told", False)
    monkeypatch.setattr(jit, "_KERNELS", [])
    kernel_cache.folder.cache_clear()
    yield tmp_path / "base"
    kernel_cache.folder.cache_clear()


def small_kernel() -> jit.Kernel:
    """One of larun's own, as a new process sees it."""
    return jit.Kernel(moments._wings.__wrapped__)  # type: ignore[attr-defined]


def test_a_kernel_is_found_again(fresh: Path) -> None:
    first, second = small_kernel(), small_kernel()
    assert first(1.0) == 1.0
    assert first.misses() == 1
    assert second(1.0) == 1.0
    assert second.misses() == 0
    assert kernel_cache.folder().parent == fresh  # type: ignore[union-attr]


def test_the_folder_is_beside_the_package_or_the_users(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert kernel_cache.bases() == (Path(jit.__file__).parent / "__pycache__", tmp_path / "user" / "larun")
    (tmp_path / "file").touch()
    monkeypatch.setattr(kernel_cache, "_SOURCE", tmp_path / "file")  # nothing can be made below a file
    assert kernel_cache.folder().parent == tmp_path / "user" / "larun"  # type: ignore[union-attr]


def test_where_nothing_can_be_written_one_warning_and_all_works(fresh: Path) -> None:
    fresh.touch()
    with pytest.warns(LarunWarning, match="every run compiles anew; set NUMBA_CACHE_DIR"):
        assert small_kernel()(1.0) > 0
    assert small_kernel()(1.0) > 0  # a second warning would be an error


def test_a_worker_warns_of_nothing_and_announces_nothing(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(kernel_cache.multiprocessing, "parent_process", lambda: object())
    with jit.announcing(said.append):
        small_kernel()(1.0)
        kernel_cache.folder.cache_clear()
        kernel_cache.shutil.rmtree(fresh)
        fresh.touch()
        small_kernel()(1.0)
    assert said == []


def test_a_whole_folder_is_used_where_it_cannot_be_written(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator has filled it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("read-only")

    made = kernel_cache.folder()
    small_kernel()(1.0)
    kernel_cache.set_ready()
    kernel_cache.folder.cache_clear()
    for module, name in ((kernel_cache.tempfile, "TemporaryFile"), (kernel_cache.os, "utime"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, refuse)
    assert kernel_cache.folder() == made
    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._open_for_write", refuse)
    again = small_kernel()
    assert again(1.0) > 0
    assert again.misses() == 0
    assert again(1) > 0  # another signature is compiled, though not kept
    assert again.misses() == 1


def test_a_full_disk_stops_nothing(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.caching import IndexDataCacheFile

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", full)
    for _ in range(2):  # the index names a file that is not there
        own = small_kernel()
        assert own(1.0) > 0
        assert own.misses() == 1


def test_folders_of_other_versions_go_when_nobody_uses_them(fresh: Path) -> None:
    long_ago = time.time() - (kernel_cache.KEEP_DAYS + 1) * 86400
    for name in ("kernels-old", "kernels-used", "kernels.txt", "others"):
        (fresh / name).mkdir(parents=True)
        (fresh / name / "file").touch()
        if name != "kernels-used":
            os.utime(fresh / name, (long_ago, long_ago))
    elsewhere = fresh.parent / "elsewhere"
    elsewhere.mkdir()
    os.utime(elsewhere, (long_ago, long_ago))
    (fresh / "kernels-link").symlink_to(elsewhere)
    made = kernel_cache.folder()
    assert made is not None
    assert {path.name for path in fresh.iterdir()} == {
        made.name,
        "kernels-used",
        "kernels.txt",
        "others",
        "kernels-link",
    }
    assert elsewhere.exists()
    os.utime(made, (long_ago, long_ago))
    kernel_cache.folder.cache_clear()
    kernel_cache.folder()
    assert made.stat().st_mtime > time.time() - 100  # used today


# -- said once ---------------------------------------------------------------------------------------------------------


def test_compiling_is_announced_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with jit.announcing(said.append):
        for _ in range(2):
            small_kernel()(1.0)
            small_kernel()(1)  # another signature
        monkeypatch.setattr(kernel_cache, "_told", False)  # as another process
        small_kernel()(np.float32(1))
    assert said == [jit.compiling()]
    assert "once per installation" in said[0]


def test_a_program_hears_of_it_through_logging_and_a_person_on_standard_error(
    fresh: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jit._tell("one")  # nobody there
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    jit._tell("two")
    with caplog.at_level("INFO", "larun"):
        jit._tell("three")
    assert [(record.name, record.message) for record in caplog.records] == [("larun", "three")]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "two\n")


# -- processes ---------------------------------------------------------------------------------------------------------

_ANNULUS = """
import json, sys
from larun.algorithms import jit, warm
said = []
with jit.announcing(said.append):
    warm.PARTS["annulus"]()
print(json.dumps([sum(own.misses() for own in jit.kernels()), len(said)]))
"""


def test_two_processes_that_compile_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.Popen(
            [sys.executable, "-c", _ANNULUS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )

    def ended(process: subprocess.Popen[str]) -> tuple[int, int]:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        misses, said = json.loads(out)
        return misses, said

    both = [ended(process) for process in (start(), start())]
    assert all(misses > 0 for misses, _ in both)
    assert sum(said for _, said in both) in (1, 2)  # both may be the first
    assert ended(start()) == (0, 0)
    assert not list(tmp_path.rglob("*.tmp.*"))


def test_parts_are_compiled_in_processes(fresh: Path) -> None:
    parts = ("annulus", "aperture")
    assert warm.compile_all(2, parts) > 4
    assert {path.name.partition(".")[0] for path in fresh.rglob("*.nbc")} == set(parts)
    assert not kernel_cache.is_ready()  # there are other parts


def test_what_a_purpose_needs_is_noted_apart(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "PARTS", dict.fromkeys(warm.PARTS, lambda: None))
    warm.compile_all(1, warm.PURPOSES["night"])
    assert [name for name in warm.PURPOSES if kernel_cache.is_ready(name)] == ["night"]
    warm.compile_all(1, warm.PURPOSES["stacks"])
    assert [name for name in warm.PURPOSES if kernel_cache.is_ready(name)] == ["night", "stacks"]
    kernel_cache.set_ready()
    assert all(map(kernel_cache.is_ready, warm.PURPOSES))


def test_kernels_that_only_kernels_call_have_no_machine_code(fresh: Path) -> None:
    outer = jit.Kernel(order.median_of.__wrapped__)  # type: ignore[attr-defined]
    assert outer(np.array([3.0, 1.0, 2.0]), 3) == 2.0
    inner = [own for own in outer._compiled.py_func.__globals__.values() if hasattr(own, "overloads")]
    libraries = [made.library for own in inner for made in own.overloads.values()]
    assert libraries
    assert {library.get_pointer_to_function(library.name) for library in libraries} == {0}
