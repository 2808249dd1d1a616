"""``larun warmup``, and the first run of a command that needs the kernels: compiled on all cores, and kept."""

from __future__ import annotations

import time
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from larun.algorithms import jit, kernel_cache
from larun.cli.running import OK, say
from larun.errors import FileError, LarunError
from larun.report.terminal import cell, console, write_json

__all__ = ["Warmth", "compile_first", "compile_kernels", "show"]


class Warmth(NamedTuple):
    """How many kernels there are, how many were not there before, and how long it took to have them all."""

    kernels: int
    compiled: int
    seconds: float


def compile_kernels(purpose: str = "everything") -> Warmth:
    """Compile what no earlier run has kept, in as many processes as there may be threads.

    Parameters
    ----------
    purpose : str
        A key of :data:`larun.algorithms.warm.PURPOSES`.

    Raises
    ------
    LarunError
        If a process that compiles is killed.
    """
    from larun.algorithms.warm import PURPOSES, compile_all

    start = time.perf_counter()
    try:
        compiled = compile_all(jit.threads(), PURPOSES[purpose])
    except BrokenProcessPool as error:
        raise LarunError(
            "a process that compiled kernels was killed (out of memory?): set LARUN_THREADS=1 and try again"
        ) from error
    return Warmth(len(jit.kernels()), compiled, time.perf_counter() - start)


def compile_first(purpose: str) -> None:
    """On the first run of an installation: say so once, and compile what the command needs; else do nothing."""
    if kernel_cache.folder() is None or kernel_cache.is_ready(purpose):
        return
    if kernel_cache.first_time():
        say("note", jit.compiling(jit.threads(), purpose))
    compile_kernels(purpose)


def show(as_json: bool) -> int:
    """Compile, and say how long it took.

    Raises
    ------
    FileError
        If there is no folder to keep them in.
    """
    kept = kernel_cache.folder()
    if kept is None:
        raise FileError("kernels cannot be kept: no folder can be written; set NUMBA_CACHE_DIR to one that can")
    kernel_cache.first_time()  # whoever asks for it need not be told
    made = compile_kernels()
    if as_json:
        write_json(made._asdict() | {"folder": str(kept)})
    else:
        new = f"{made.compiled} compiled" if made.compiled else "all there before"
        console().print(cell(f"{made.kernels} kernels ready in {made.seconds:.1f} s ({new})"))
        console().print(cell(f"kept in {kept}"), soft_wrap=True)
    return OK
