"""One way to compile a kernel, and one way to spread rows over threads.

Kernels are written in numba's Python and marked with :func:`kernel`. numba itself is imported on the first call, so
a program that only reads headers never pays for it. Compiled code is kept in a folder named after a digest of every
file in ``larun/algorithms``: numba's own cache does not notice an edited callee in another file.

Threads come from :func:`over_rows`: kernels release the GIL, rows are cut into fixed bands, and every band is computed
by the same code whoever computes it, so the number of threads never changes a bit of the result.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import threading
import types
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from larun.errors import LarunWarning, OptionError

__all__ = ["Kernel", "kernel", "over_rows", "set_threads", "threads", "warmup"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_LOCK = threading.RLock()
_KERNELS: list[Kernel] = []
_threads: int | None = None


class Kernel:
    """A function that is compiled by numba when it is first called.

    Other kernels it calls are found among its globals and compiled with it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: Any = None
        functools.update_wrapper(self, function)
        _KERNELS.append(self)

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function."""
        return (self._compiled or self.compiled())(*args)

    def compiled(self) -> Any:
        """The numba dispatcher, made on first use."""
        with _LOCK:
            if self._compiled is None:
                import numba

                own = self._function
                scope = dict(own.__globals__)
                for name in own.__code__.co_names:
                    if isinstance(scope.get(name), Kernel):
                        scope[name] = scope[name].compiled()
                clone = types.FunctionType(own.__code__, scope, own.__name__, own.__defaults__, own.__closure__)
                clone.__qualname__, clone.__module__ = own.__qualname__, own.__module__
                dispatcher = numba.njit(nogil=True, error_model="numpy")(clone)
                folder = _cache_folder()
                if folder is not None:
                    previous, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
                    try:
                        dispatcher.enable_caching()
                    except RuntimeError:  # typed at a prompt: there is no file to cache it beside
                        pass
                    finally:
                        numba.config.CACHE_DIR = previous
                self._compiled = dispatcher
        return self._compiled


def kernel(function: _Function) -> _Function:
    """Mark a function as a kernel: compiled on first use, cached on disk, without the GIL, NaN respected.

    Examples
    --------
    >>> @kernel
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """
    return Kernel(function)  # type: ignore[return-value]  # a Kernel is called exactly like the function


@functools.cache
def _cache_folder() -> Path | None:
    """The first writable folder for compiled kernels: beside the package, else the user's cache; None if neither."""
    source = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        digest.update(path.relative_to(source).as_posix().encode())
        digest.update(path.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "larun"
    for base in (source / "__pycache__", user):
        folder = base / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    warnings.warn(
        f"no folder for compiled kernels can be written ({source / '__pycache__'}, {user}): "
        "every run compiles anew; set XDG_CACHE_HOME to a writable folder",
        LarunWarning,
        stacklevel=2,
    )
    return None


def threads() -> int:
    """How many threads kernels may use: :func:`set_threads`, else ``LARUN_THREADS``, else the cores of this process."""
    if _threads is not None:
        return _threads
    value = os.environ.get("LARUN_THREADS", "")
    if value:
        if not value.isdigit() or int(value) < 1:
            raise OptionError(f"LARUN_THREADS = {value!r}: must be a whole number of at least 1")
        return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int | None) -> None:
    """Set how many threads kernels may use in this process; None goes back to the default.

    Raises
    ------
    OptionError
        If ``count`` is below 1.
    """
    global _threads
    if count is not None and count < 1:
        raise OptionError(f"threads = {count}: must be at least 1")
    _threads = count


def over_rows(rows: int, work: Callable[[int, int], None], band: int = 64) -> None:
    """Call ``work(start, stop)`` for bands of rows, on as many threads as :func:`threads` says.

    Parameters
    ----------
    rows : int
        Number of rows (or of anything else that is cut into independent ranges).
    work : callable
        Writes its own part of an output it closes over; what it computes must not depend on the band.
    band : int
        Rows in one call.
    """
    starts = range(0, rows, band)
    if min(threads(), len(starts)) <= 1:
        for start in starts:
            work(start, min(start + band, rows))
        return
    with ThreadPoolExecutor(min(threads(), len(starts))) as pool:
        for done in [pool.submit(work, start, min(start + band, rows)) for start in starts]:
            done.result()


def warmup() -> int:
    """How many kernels are known to this process; modules register theirs when they are imported."""
    return len(_KERNELS)
