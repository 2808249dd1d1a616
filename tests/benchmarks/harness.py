"""Runs cases: inputs once, both sides in turn in processes of their own, results compared before times are told."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Different, Size, cases_of
from tests.benchmarks.worker import THREADS

__all__ = ["Failure", "Outcome", "inputs_of", "machine", "run_case", "run_worker", "runnable"]

ROOT = Path(__file__).parents[2]
_PACKAGES = (
    *("numpy", "scipy", "astropy", "numba", "ccdproc", "photutils", "astroscrappy", "sep", "bottleneck"),
    *("reproject", "astroalign"),
)
_GROWTH = (0.25, 0.5)


class Failure(Exception):
    """A side that failed, or did other work than its peer."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a case; the fields are those of the JSON."""

    topic: str
    case: str
    peer: str
    ratio: float
    larun_s: float
    peer_s: float
    processor_ratio: float
    larun_processor_s: float
    peer_processor_s: float
    larun_peak_mb: float
    peer_peak_mb: float
    check: str
    bar: float | None
    size: str
    pairs: int
    unit: str
    growth: list[dict[str, Any]]

    @property
    def lines(self) -> tuple[str, ...]:
        """For people."""
        bar = "no bar" if self.bar is None else f"bar {self.bar:g}"
        grown = ", ".join(f"{step['ns_per_unit']:.3g} ns at {step['size']}" for step in self.growth)
        return (
            f"{self.topic} {self.case} vs {self.peer} ({self.size}): {self.ratio:.3g} × ({bar}); "
            f"larun {self.larun_s:.4g} s, {self.larun_peak_mb:.0f} MB; "
            f"{self.peer} {self.peer_s:.4g} s, {self.peer_peak_mb:.0f} MB; {self.pairs} pairs",
            f"    processor time: {self.processor_ratio:.3g} ×; larun {self.larun_processor_s:.4g} s, "
            f"{self.peer} {self.peer_processor_s:.4g} s",
            f"    {self.check}",
            f"    larun per {self.unit}: {grown}",
        )


def machine() -> dict[str, Any]:
    """The machine and the versions of everything that is measured."""
    from importlib.metadata import PackageNotFoundError

    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": THREADS,
        "ram_gb": round(memory / 2**30, 1),
        "versions": versions,
    }


def runnable(case: Case) -> bool:
    """Whether the peer's program is here; packages always are."""
    return not case.peer.program or any(shutil.which(name) for name in case.peer.program)


def run_worker(case: Case, what: str, folder: Path, *more: str) -> dict[str, Any]:
    """One process of the worker; what it printed last.

    Raises
    ------
    Failure
        If it failed.
    """
    command = [sys.executable, "-m", "tests.benchmarks.worker", _topic(case), case.name, case.peer.name, what]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "LARUN_THREADS")
    environment = os.environ | dict.fromkeys(names, str(THREADS)) | {"PYTHONPATH": paths}
    done = subprocess.run(
        [*command, str(folder), *more], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failure(f"{case.topic} {case.name} vs {case.peer.name}: {what} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_case(case: Case, size_name: str, folder: Path, *, pairs: int | None = None, grow: bool = True) -> Outcome:
    """Measure one case.

    Parameters
    ----------
    case : Case
        What is measured.
    size_name : {"quick", "full"}
        How much work.
    folder : Path
        For inputs and digests; inputs that are there already are used again.
    pairs : int, optional
        Runs of both sides in turn; by default 5, and 3 where the peer is slow or the size is quick.
    grow : bool
        Also measure larun at a quarter and half of the side.

    Raises
    ------
    Failure
        If a side fails, or the results differ.
    """
    size = case.size(size_name)
    slow = case.slow and size_name == "full"
    wanted = pairs or (3 if slow or size_name == "quick" else 5)
    inputs = inputs_of(case, size, folder)
    warm = ("--warm", str(inputs_of(case, size.at(_GROWTH[0]), folder))) if slow else ()
    runs: dict[str, list[dict[str, Any]]] = {"larun": [], "peer": []}
    check = ""
    for number in range(wanted):
        for what, found in runs.items():
            save = () if number else ("--save", str(folder / f"{what}.npz"))
            again = ("--no-warm",) if number and (case.larun if what == "larun" else case.peer).children else warm
            found.append(run_worker(case, what, inputs, *again, *save))
        if not number:
            check = compare(case, inputs, folder)
    seconds = {what: [run["seconds"] for run in found] for what, found in runs.items()}
    used = {what: [run["processor_s"] for run in found] for what, found in runs.items()}
    peaks = {what: max(run["peak_mb"] for run in found) for what, found in runs.items()}
    ours = statistics.median(seconds["larun"])
    growth = [_step(case, size, ours)]
    if grow and case.grows:
        growth = [*(_smaller(case, size.at(fraction), folder) for fraction in _GROWTH), *growth]
    return Outcome(
        topic=case.topic,
        case=case.name,
        peer=case.peer.name,
        ratio=_ratio(seconds),
        larun_s=ours,
        peer_s=statistics.median(seconds["peer"]),
        processor_ratio=_ratio(used),
        larun_processor_s=statistics.median(used["larun"]),
        peer_processor_s=statistics.median(used["peer"]),
        larun_peak_mb=peaks["larun"],
        peer_peak_mb=peaks["peer"],
        check=check + ("; warmed up on a small input" if slow else ""),
        bar=case.bar,
        size=size.text,
        pairs=wanted,
        unit=case.unit,
        growth=growth,
    )


def _ratio(measured: dict[str, list[float]]) -> float:
    """The peer's over larun's: the median over runs in turn."""
    pairs = zip(measured["larun"], measured["peer"], strict=True)
    return statistics.median(theirs / max(ours, 1e-9) for ours, theirs in pairs)


def compare(case: Case, inputs: Path, folder: Path) -> str:
    """Compare the digests of both sides; what was found.

    Raises
    ------
    Failure
        If the results differ.
    """
    import numpy as np

    with np.load(folder / "larun.npz") as ours, np.load(folder / "peer.npz") as theirs:
        try:
            return case.check(inputs, dict(ours), dict(theirs))
        except Different as error:
            what = f"{case.topic} {case.name} vs {case.peer.name}"
            raise Failure(f"{what}: the results differ: {error}") from error


def run_all(
    topics: list[str], size: str, folder: Path, say: Callable[[str], None], *, pairs: int | None = None
) -> tuple[list[Outcome], list[str]]:
    """All cases of some topics, and what went wrong."""
    outcomes, failures = [], []
    for case in (case for topic in topics for case in cases_of(topic)):
        if not runnable(case):
            say(f"{case.topic} {case.name} vs {case.peer.name}: not here ({' or '.join(case.peer.program)})")
            continue
        try:
            outcomes.append(run_case(case, size, folder, pairs=pairs))
        except Failure as failure:
            failures.append(str(failure))
            say(f"ERROR {failure}")
            continue
        for line in outcomes[-1].lines:
            say(line)
    return outcomes, failures


def inputs_of(case: Case, size: Size, folder: Path) -> Path:
    """The folder of a case's inputs, made if it is not there yet."""
    inputs = folder / f"{case.make.__module__.rpartition('.')[2]}-{case.make.__name__}-{size.slug}"
    if not inputs.exists():
        partial = inputs.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        run_worker(case, "make", partial, "--size", size.slug.replace("-", ","))
        partial.rename(inputs)
    return inputs


_grown: dict[tuple[Any, ...], dict[str, Any]] = {}


def _smaller(case: Case, size: Size, folder: Path) -> dict[str, Any]:
    """Larun at a smaller size: measured once for all peers."""
    key = (folder, case.make, case.larun, size)
    if key not in _grown:
        _grown[key] = _step(case, size, run_worker(case, "larun", inputs_of(case, size, folder))["seconds"])
    return _grown[key]


def _step(case: Case, size: Size, seconds: float) -> dict[str, Any]:
    return {"size": size.text, "larun_s": seconds, "ns_per_unit": 1e9 * seconds / case.units(size)}


def _topic(case: Case) -> str:
    """The name by which a process finds the case: short, or of the module where it was written."""
    module = case.larun.work.__module__
    return case.topic if module.startswith("tests.benchmarks.topics.") else module
