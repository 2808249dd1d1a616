"""``larun warmup``: every kernel compiled and kept on disk, by running the chain once on a tiny night."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from larun.algorithms import jit
from larun.cli.running import OK
from larun.errors import LarunError
from larun.model.frame import Frame
from larun.model.masters import MasterBias
from larun.model.night import Night
from larun.report.terminal import cell, console, write_json
from larun.simulate import Camera, NightOptions, simulate_night

__all__ = ["Warmth", "compile_kernels", "show"]

_TINY = NightOptions(camera=Camera(shape=(96, 96)), biases=3, darks=2, flats=3, frames=1, star_density=3000.0)


class Warmth(NamedTuple):
    """How many kernels there are, and how long it took to have them all."""

    kernels: int
    seconds: float


def compile_kernels() -> Warmth:
    """Run the chain on a tiny night, and what only options of the masters and of the measurements call.

    Every kernel has one signature, so what runs here is what any frame of any size runs.

    Raises
    ------
    LarunError
        If the tiny night cannot be reduced: then some kernel may be missing.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="larun-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a night that nobody looks at
        truth = simulate_night(Path(folder) / "raw", options=_TINY)
        summary = Night(truth.folder).reduce(Path(folder) / "out")
        if summary.failed:
            raise LarunError(f"the trial reduction failed: {summary.failed[0].message}")
        frame = Frame.read(next((Path(folder) / "out" / "frames").glob("*.fits")))
        frame.detect().morphology().photometer(aperture="kron")
        MasterBias.combine([frame.path for frame in truth.select("bias")], clip="mad")
    return Warmth(jit.warmup(), time.perf_counter() - start)


def show(as_json: bool) -> int:
    """Compile, and say how long it took."""
    made = compile_kernels()
    if as_json:
        write_json(made._asdict())
    else:
        console().print(cell(f"{made.kernels} kernels ready in {made.seconds:.1f} s"))
    return OK
