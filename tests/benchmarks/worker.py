"""One side of one case in a process of its own: makes inputs, or does the work and says how long it took.

The last line of what it prints is JSON. The peak of memory is the high-water mark of the resident set of this process
(``ru_maxrss``; read as VmHWM where Linux has it, because ``ru_maxrss`` begins with what the parent held): interpreter,
packages, inputs and outputs, but not what it took to make the inputs. Where the work is a process of its own, it is
that process's ``ru_maxrss``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.cases import Side, Size, find_case

__all__ = ["THREADS", "main", "measure", "peak_megabytes"]

#: Everybody who has threads gets two.
THREADS = 2
_ENOUGH = 0.7  # seconds of timed calls in one process; at least one call, at most _CALLS
_CALLS = 7


def peak_megabytes(*, children: bool = False) -> float:
    """Highest resident memory so far, in MB (10⁶ bytes): of this process, or of the largest it has waited for."""
    if children:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def processor_seconds() -> float:
    """Processor time so far, user and system: of this process, its threads, and all processes it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


class Measured(NamedTuple):
    """Seconds of each timed call, and of processor time; peak memory, MB; the last result."""

    seconds: list[float]
    processor: list[float]
    peak: float
    result: Any


def measure(side: Side, folder: Path, warm: Path | None) -> Measured:
    """Time calls, after one that is not timed (warm = None: without one)."""
    if warm is not None:
        side.work(side.setup(warm))
    seconds: list[float] = []
    processor: list[float] = []
    while True:
        state = side.setup(folder)
        gc.collect()
        start, used = time.perf_counter(), processor_seconds()
        result = side.work(state)
        seconds.append(time.perf_counter() - start)
        processor.append(processor_seconds() - used)
        if sum(seconds) >= _ENOUGH or len(seconds) >= _CALLS:
            return Measured(seconds, processor, peak_megabytes(children=side.children), result)
        del state, result


def main(arguments: list[str] | None = None) -> None:
    """Do what the parent asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.worker")
    for name in ("topic", "case", "peer"):
        parser.add_argument(name)
    parser.add_argument("what", choices=["make", "larun", "peer"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", help="for make: side,frames,stars,tracks")
    parser.add_argument("--warm", type=Path, help="inputs of the warm-up call; by default the same")
    parser.add_argument("--no-warm", action="store_true", help="no warm-up call")
    parser.add_argument("--save", type=Path, help="keep the digest of the result here")
    given = parser.parse_args(arguments)
    case = find_case(given.topic, given.case, given.peer)
    warnings.simplefilter("ignore")
    if given.what == "make":
        case.make(given.folder, Size(*map(int, given.size.split(","))))
        print(json.dumps({}))
        return
    side = case.larun if given.what == "larun" else case.peer
    found = measure(side, given.folder, None if given.no_warm else given.warm or given.folder)
    if given.save is not None:
        import numpy as np

        np.savez(given.save, **side.digest(found.result))
    told = {
        "seconds": statistics.median(found.seconds),
        "processor_s": statistics.median(found.processor),
        "calls": len(found.seconds),
        "peak_mb": found.peak,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    assert os.environ.get("OMP_NUM_THREADS"), "started by tests.benchmarks.harness, which sets the threads"
    main()
