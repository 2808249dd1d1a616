"""Where compiled kernels are kept.

The folder is named by a digest of every file in ``larun/algorithms``: numba's own cache does not notice an edited
callee in another file. It lies in ``NUMBA_CACHE_DIR`` where that is set, else beside the package, else, where the
installation cannot be written, in the user's cache. A folder that ``larun warmup`` has filled is used wherever it lies,
written or not: so an administrator or a container image can bring it along.

Several processes may fill a folder at the same time. numba writes every file under another name and renames it, and
each kept kernel has one signature, so whoever comes last replaces a file by the same one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from larun.errors import LarunWarning

__all__ = ["bases", "cache_for", "first_time", "folder", "is_ready", "set_ready"]

#: A folder of another digest is removed when nobody has used it for so long.
KEEP_DAYS = 14.0

_SOURCE = Path(__file__).parent
_told = False


def bases() -> tuple[Path, ...]:
    """Where the folder may lie, best first."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return (Path(chosen),)
    user = os.environ.get("XDG_CACHE_HOME")
    return _SOURCE / "__pycache__", (Path(user) if user else Path("~/.cache").expanduser()) / "larun"


@functools.cache
def folder() -> Path | None:
    """The folder of this version's kernels; None, with a warning once, if there is none and none can be made."""
    choices = [base / f"kernels-{_digest()}" for base in bases()]
    for choice in choices:
        if (choice / _ready("everything")).is_file():
            return choice
    for choice in choices:
        try:
            fresh = not choice.exists()
            choice.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=choice):
                pass
            os.utime(choice)  # in use: see _remove_old
        except OSError:
            continue
        if fresh:
            _remove_old(choice)
        return choice
    if multiprocessing.parent_process() is None:  # who started this process has said it
        warnings.warn(
            f"no folder for compiled kernels can be written ({', '.join(map(str, bases()))}): every run compiles "
            "anew; set NUMBA_CACHE_DIR to a writable folder",
            LarunWarning,
            stacklevel=2,
        )
    return None


def is_ready(purpose: str = "everything") -> bool:
    """Whether the kernels of a purpose, or all, were compiled before, for this Python, numba and kind of processor."""
    kept = folder()
    return kept is not None and any((kept / _ready(name)).is_file() for name in ("everything", purpose))


def set_ready(purpose: str = "everything") -> None:
    """Note that the kernels of a purpose are there."""
    _mark(_ready(purpose))


def first_time() -> bool:
    """Whether nobody was told yet that kernels of this version are compiled: true once, and never in a worker."""
    global _told
    if _told or multiprocessing.parent_process() is not None:
        return False
    _told = True
    kept = folder()
    if kept is None:  # the warning says it all
        return False
    told = f"told-{_machine()}"
    if (kept / told).exists() or is_ready():
        return False
    _mark(told)
    return True


def cache_for(function: Callable[..., Any]) -> Any:
    """Numba's cache of one function of ``larun.algorithms``; None for any other, and where nothing can be kept."""
    from numba.core import caching

    found = folder() if Path(function.__code__.co_filename).parent == _SOURCE else None
    if found is None:
        return None
    kept: Path = found

    class Locator(caching._CacheLocator):  # type: ignore[misc]  # numba is not typed
        """Always this folder: its name says of which source the kernels are."""

        def get_cache_path(self) -> str:
            return str(kept)

        def get_source_stamp(self) -> str:
            return kept.name

        def get_disambiguator(self) -> str:
            return str(function.__code__.co_firstlineno)

        def ensure_cache_path(self) -> None:
            pass

        @classmethod
        def from_function(cls, *_: Any) -> Locator:
            return cls()

    class Files(caching.CompileResultCacheImpl):  # type: ignore[misc]
        _locator_classes = (Locator,)

    class Cache(caching.FunctionCache):  # type: ignore[misc]
        _impl_class = Files

        def save_overload(self, sig: Any, data: Any) -> None:
            with contextlib.suppress(OSError):  # not to be written, or the disk is full: compiled it is nevertheless
                super().save_overload(sig, data)

    return Cache(function)


@functools.cache
def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(_SOURCE.rglob("*.py")):
        digest.update(path.relative_to(_SOURCE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _machine() -> str:
    """What compiled code depends on besides its source, as numba sees it."""
    from llvmlite import binding

    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else binding.get_host_cpu_features().flatten()
    about = sys.version, importlib.metadata.version("numba"), binding.get_process_triple()
    return hashlib.sha256(repr((*about, name or binding.get_host_cpu_name(), features)).encode()).hexdigest()[:12]


def _ready(purpose: str) -> str:
    return f"{purpose}-{_machine()}"


def _mark(name: str) -> None:
    kept = folder()
    with contextlib.suppress(OSError):  # then the next run looks again
        if kept is not None:
            (kept / name).touch()


def _remove_old(new: Path) -> None:
    """Folders of other digests beside a new one, if nobody has used them for days."""
    oldest = time.time() - KEEP_DAYS * 86400
    for other in new.parent.glob("kernels-*"):
        try:
            if other != new and not other.is_symlink() and other.is_dir() and other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)
        except OSError:  # gone meanwhile
            continue
