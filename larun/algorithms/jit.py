"""One way to compile a kernel, and one way to spread rows over threads.

Kernels are written in numba's Python and marked with :func:`kernel`. numba itself is imported on the first call, so
a program that only reads headers never pays for it. Compiled code is kept on disk: see ``kernel_cache``.

Threads come from :func:`over_rows`: kernels release the GIL, rows are cut into fixed bands, and every band is computed
by the same code whoever computes it, so the number of threads never changes a bit of the result.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from larun.algorithms import kernel_cache
from larun.algorithms.linked import linked_compiler
from larun.errors import OptionError

__all__ = [
    "Builtin",
    "Kernel",
    "announcing",
    "compiling",
    "end_with_parent",
    "kernel",
    "kernels",
    "optimized_kernel",
    "over_rows",
    "set_threads",
    "threads",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_LOCK = threading.RLock()
_KERNELS: list[Kernel] = []
_threads: int | None = None

#: Seconds on one core that kernels of a purpose take together.
_SECONDS = {"night": 20.0, "stacks": 30.0, "differences": 40.0, "everything": 55.0}


class Kernel:
    """A function that is compiled by numba when it is first called.

    Other kernels it calls are found among its globals and compiled with it.
    """

    def __init__(self, function: Callable[..., Any], optimized: bool = False) -> None:
        self._function = function
        self._optimized = optimized
        self._compiled: Any = None
        self._inner: Any = None
        functools.update_wrapper(self, function)
        _KERNELS.append(self)

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function."""
        return (self._compiled or self.compiled())(*args)

    def compiled(self) -> Any:
        """The numba dispatcher that Python calls, made on first use and kept on disk."""
        with _LOCK:
            if self._compiled is None:
                dispatcher = self._dispatcher(no_cfunc_wrapper=True)
                cache = kernel_cache.cache_for(dispatcher.py_func)
                if cache is not None:
                    dispatcher._cache = cache
                self._compiled = dispatcher
        return self._compiled

    def inner(self) -> Any:
        """The dispatcher that other kernels call.

        Without the wrappers that Python needs and without machine code, it compiles faster. It is not kept: the kernel
        that calls it is, whole.
        """
        with _LOCK:
            if self._inner is None:
                how = linked_compiler(self._optimized)
                self._inner = self._dispatcher(no_cfunc_wrapper=True, no_cpython_wrapper=True, pipeline_class=how)
        return self._inner

    def misses(self) -> int:
        """How many signatures were compiled in this process because none was kept."""
        found = (self._compiled, self._inner)
        return sum(sum(made.stats.cache_misses.values()) for made in found if made is not None)

    def _dispatcher(self, **options: Any) -> Any:
        import numba

        _listen()
        own = self._function
        scope = dict(own.__globals__)
        for name in own.__code__.co_names:
            if isinstance(scope.get(name), Kernel | Builtin):
                scope[name] = scope[name].inner()
        clone = types.FunctionType(own.__code__, scope, own.__name__, own.__defaults__, own.__closure__)
        clone.__qualname__, clone.__module__ = own.__qualname__, own.__module__
        return numba.njit(nogil=True, error_model="numpy", **options)(clone)


class Builtin:
    """Something that kernels may call and numba's Python cannot say, made when the first of them is compiled.

    Parameters
    ----------
    make : callable
        Returns what numba compiles: an intrinsic.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self.inner = functools.cache(make)

    def __call__(self, *args: Any) -> Any:
        """Only kernels can call it."""
        raise TypeError("this is called by kernels alone")


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


def optimized_kernel(function: _Function) -> _Function:
    """A kernel that is optimised before it is linked into those that call it: where that makes them faster."""
    return Kernel(function, optimized=True)  # type: ignore[return-value]


def kernels() -> tuple[Kernel, ...]:
    """The kernels this process knows; modules register theirs when they are imported."""
    return tuple(_KERNELS)


# -- said once ---------------------------------------------------------------------------------------------------------


def compiling(processes: int = 1, purpose: str = "everything") -> str:
    """What is said when kernels are compiled for the first time."""
    seconds = 5 * max(1, round(_SECONDS[purpose] / processes / 5))
    return f"compiling kernels, once per installation: about {seconds} s; `larun warmup` does it beforehand"


def _tell(text: str) -> None:
    """To the logger ``larun``; and to a person who waits and has set up no logging, on standard error."""
    log = logging.getLogger("larun")
    if log.isEnabledFor(logging.INFO):
        log.info(text)
    elif sys.stderr is not None and (hasattr(sys, "ps1") or sys.stderr.isatty()):  # ps1: a prompt or a notebook
        logging.StreamHandler(sys.stderr).handle(logging.makeLogRecord({"name": "larun", "msg": text}))


_announce: Callable[[str], None] = _tell


@contextlib.contextmanager
def announcing(say: Callable[[str], None]) -> Iterator[None]:
    """Within this, ``say`` gets the line that kernels are being compiled."""
    global _announce
    previous, _announce = _announce, say
    try:
        yield
    finally:
        _announce = previous


@functools.cache
def _listen() -> None:
    """Let numba tell when it compiles one of ours: it did not find it on disk."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]  # numba is not typed
        def on_start(self, event: Any) -> None:
            if event.data["dispatcher"].py_func.__module__.startswith(__package__) and kernel_cache.first_time():
                _announce(compiling())

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Listener())


# -- threads -----------------------------------------------------------------------------------------------------------


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


def end_with_parent() -> None:
    """In a worker process: end when the process that started it is gone, killed perhaps; nobody waits for this one."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def over_rows(rows: int, work: Callable[[int, int], None], band: int = 64) -> None:
    """Call ``work(start, stop)`` for bands of rows, on as many threads as :func:`threads` says.

    The caller works too, beside the threads of one pool that is kept. It waits for nothing that has not begun, so
    ``work`` may call this itself. The error of the first band that fails is raised when no band is under way any more.

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
    helpers = min(threads(), len(starts)) - 1
    if helpers < 1:
        for start in starts:
            work(start, min(start + band, rows))
        return
    todo, failed = iter(starts), {}
    held = [work]  # what is cancelled stays in the queue of a busy pool: it must not hold on to the arrays of the work

    def some() -> None:
        for start in todo:  # each band goes to one thread: next() of a range is one step under the GIL
            try:
                held[0](start, min(start + band, rows))
            except BaseException as error:
                failed[start] = error
                for _ in todo:
                    pass

    begun = _submit(some, helpers)
    try:
        some()
    finally:
        wait([done for done in begun if not done.cancel()])
        held.clear()
    if failed:
        raise failed[min(failed)]


_pool: tuple[int, ThreadPoolExecutor] | None = None


def _submit(work: Callable[[], None], times: int) -> list[Future[None]]:
    """Hand work to the pool, made anew when the number of threads has changed."""
    global _pool
    with _LOCK:
        size = threads() - 1
        if _pool is None or _pool[0] != size:
            if _pool is not None:
                _pool[1].shutdown(wait=False)
            _pool = size, ThreadPoolExecutor(size, "larun")
        return [_pool[1].submit(work) for _ in range(times)]


def _forget_pool() -> None:
    global _pool, _LOCK
    _pool, _LOCK = None, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # its threads are not in the child
