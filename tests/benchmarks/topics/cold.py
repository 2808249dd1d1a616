"""One small frame from raw to catalogue in a new process: what imports and compiled kernels cost.

The kernels of larun are in their cache, as they are from the second process on.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import inputs
from tests.benchmarks.cases import Case, Size
from tests.benchmarks.topics.night import check, larun, peers

__all__ = ["CASES"]


def _one_frame(folder: Path, size: Size) -> None:
    inputs.night(folder, size, masters=3)


CASES = (
    Case(
        topic="cold",
        name="one frame",
        make=_one_frame,
        larun=larun(),
        peer=peers(),
        check=check,
        full=Size(1024, frames=1, stars=1250),
        quick=Size(512, frames=1, stars=310),
        bar=2,
        grows=False,
    ),
)
