"""Processes that reduce frames at the same time, ready when the masters are.

A new process spends a second or two on imports and on loading kernels. Where the system can fork safely, one server
does that once, while the masters are being made, and every worker is a fork of it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import TypeVar

import larun
from larun.algorithms import kernel_cache
from larun.algorithms.jit import end_with_parent, set_threads, threads
from larun.errors import LarunError, OptionError

__all__ = ["affordable", "how_many", "prepare", "run"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_PRELOADED = "larun.model.preloaded"
#: What a process takes at most, found on frames of 1 to 17 million pixels: bytes, and bytes a pixel.
_BASE, _PER_PIXEL = 400e6, 120


def _context() -> BaseContext:
    """Forks of a server that has no threads, where there is such a thing; else new processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    if kernel_cache.folder() is not None and kernel_cache.is_ready("night"):  # else it would compile, unseen
        context.set_forkserver_preload([_PRELOADED])
    return context


def prepare() -> None:
    """Let the server begin with its imports, beside whatever this process does next."""
    if _context().get_start_method() != "forkserver":
        return
    # The server begins with the working folder on its path: what lies there must not be taken for a library.
    own = {"PYTHONSAFEPATH": "1", "LARUN_PRELOADED": larun.__path__[0]}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def affordable(pixels: int) -> int:
    """How many frames of so many pixels fit into the threads and the free memory of this machine; at least 1."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return threads()
    return max(1, min(threads(), int(free / (_BASE + _PER_PIXEL * pixels))))


def how_many(wanted: int | None, pixels: Callable[[], int]) -> int:
    """The number of processes that is asked for, or for None as many as frames of so many pixels allow.

    Raises
    ------
    OptionError
        If it is less than one.
    """
    if wanted is None:
        return affordable(pixels())
    if wanted < 1:
        raise OptionError(f"processes={wanted}: must be at least 1")
    return wanted


def run(
    work: Callable[[_Task], _Result],
    tasks: list[_Task],
    processes: int,
    begin: Callable[[], object],
) -> Iterator[_Result]:
    """The results of all tasks, in their order, from so many processes; each calls ``begin`` first.

    Raises
    ------
    LarunError
        If a process is killed.
    """
    prepare()
    count = min(processes, len(tasks))
    pool = ProcessPoolExecutor(count, _context(), _start, (max(1, threads() // count), begin))
    try:
        yield from pool.map(work, tasks)
    except BrokenProcessPool as error:
        raise LarunError(
            "a process that reduced a frame was killed (out of memory?): run again with fewer processes; "
            "what is done is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(share: int, begin: Callable[[], object]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which lets the running frames end
    end_with_parent()
    set_threads(share)
    begin()
