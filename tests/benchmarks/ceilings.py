"""What the machine can do at best: the time in which the bytes of each task can move at all.

``python -m tests.benchmarks.ceilings [--json FILE]``. A kernel that is near its limit cannot be made faster on this
machine, whatever its bar says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.benchmarks.harness import machine
from tests.benchmarks.worker import THREADS

__all__ = ["TRAFFIC", "limits", "main", "measure"]

_PIXELS = 4096**2
#: Bytes a pixel that each task at full size has to read, to write into new memory, and to digest (SHA-256).
TRAFFIC: dict[str, tuple[float, float, float]] = {
    "combine median": (2 * 20 * 2, 4 + 4 + 4, 20 * 2),  # 20 uint16, twice; data, variance, flags
    # raw, flags, masters, their flags; data, variance, flat, noise of bias, of it in the dark, of dark, of flat;
    # flags that masters add, data, variance, flags, uncertainty
    "calibrate": (4 + 4 + 3 * 4 + 3 * 4 + 7 * 4, 1 + 3 * 4 + 4, 2),
    "background": (4 + 4 + 4, 4 + 4, 0),  # data, variance, flags; level and noise
    "detect": (5 * 4, 3 * 4, 0),  # data, variance, flags, level, noise of the sky; these two and the S/N
    "read": (2, 4, 0),  # uint16; float32 (the flags are zeros that nothing touches)
}


def _best(work: Callable[[], Any], times: int = 15) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(pixels: int = _PIXELS) -> dict[str, float]:
    """Bandwidths in GB/s: copies into memory that is there, on one thread and two, and into new memory; arithmetic."""
    import numpy as np

    source, target = np.ones(pixels, np.float32), np.ones(pixels, np.float32)
    halves = [slice(n * pixels // THREADS, (n + 1) * pixels // THREADS) for n in range(THREADS)]

    def fresh() -> None:
        made = np.empty(pixels, np.float32)
        list(pool.map(lambda part: np.copyto(made[part], source[part]), halves))

    with ThreadPoolExecutor(THREADS) as pool:
        copy = _best(lambda: np.copyto(target, source))
        both = _best(lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), halves)))
        new = _best(fresh)
    read = _best(lambda: source.sum())
    digest = _best(lambda: hashlib.sha256(source.data), 3)
    moved = 8 * pixels / 1e9  # read and written
    return {
        "copy_gb_s": moved / copy,
        "copy_threads_gb_s": moved / both,
        "fresh_gb_s": moved / new,
        "sum_gb_s": moved / 2 / read,
        "sha256_gb_s": moved / 2 / digest,
        "page_ns": 1e9 * max(new - both, 0) / (4 * pixels / 4096),
    }


def limits(found: dict[str, float], pixels: int = _PIXELS) -> dict[str, float]:
    """Seconds below which no task can come: bytes at the bandwidth of a copy, new pages, digests by all threads."""
    bandwidth, digest = found["copy_threads_gb_s"] * 1e9, found["sha256_gb_s"] * 1e9 * THREADS
    page = found["page_ns"] * 1e-9 / 4096
    return {task: pixels * ((i + o) / bandwidth + o * page + d / digest) for task, (i, o, d) in TRAFFIC.items()}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ceilings", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    given = parser.parse_args(arguments)
    found = measure()
    bounds = limits(found)
    print(f"copy {found['copy_gb_s']:.1f} GB/s on one thread, {found['copy_threads_gb_s']:.1f} on {THREADS}; into new ")
    print(f"memory {found['fresh_gb_s']:.1f} GB/s ({found['page_ns']:.0f} ns a page); sum {found['sum_gb_s']:.1f} GB/s")
    print(f"SHA-256 {found['sha256_gb_s']:.2f} GB/s on one thread")
    for task, seconds in bounds.items():
        print(f"{task}: at least {1e3 * seconds:.1f} ms at 4096²")
    if given.json:
        text = json.dumps({"machine": machine(), "measured": found, "limits_s": bounds}, indent=1)
        given.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
