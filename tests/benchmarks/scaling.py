"""How time and memory of larun grow with frames, pixels and stars.

``python -m tests.benchmarks.scaling FILE.json [--size quick|full] [SERIES …]``; ``docs/make_performance.py`` draws it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.cases import Case, Size, find_case
from tests.benchmarks.harness import inputs_of, machine, run_worker

__all__ = ["SERIES", "Series", "main", "measure"]

_DENSITY = 20000 / 4096**2  # stars a pixel
_TRACKS = 3000 / 4096**2


@dataclasses.dataclass(frozen=True)
class Series:
    """One thing that grows, and the cases it is measured with: topic, case, and a peer to find it by."""

    name: str
    cases: tuple[tuple[str, str, str], ...]
    full: tuple[int, ...]
    quick: tuple[int, ...]

    def size(self, value: int) -> Size:
        """How much work one point is."""
        if self.name == "frames":
            return Size(2048, frames=value)
        if self.name == "stars":
            return Size(4096, stars=value)
        return Size(value, stars=round(_DENSITY * value**2), tracks=round(_TRACKS * value**2))


SERIES = (
    Series(
        "frames",
        (("combine", "median", "ccdproc"), ("combine", "clipped-mad", "ccdproc")),
        full=(10, 20, 50, 100, 200),
        quick=(5, 10),
    ),
    Series(
        "pixels",
        (
            ("calibrate", "uncertainty and flags", "ccdproc"),
            ("clean", "3000 tracks", "astroscrappy"),
            ("background", "mesh-64", "sep"),
            ("detect", "20k", "sep"),
        ),
        full=(1024, 2048, 4096, 8192),
        quick=(512, 1024),
    ),
    Series(
        "stars",
        (("detect", "20k", "sep"), ("photometer", "5 apertures, annulus", "photutils")),
        full=(2000, 6000, 20000, 60000, 200000),
        quick=(2000, 4000),
    ),
)


def measure(series: Series, value: int, folder: Path) -> list[dict[str, Any]]:
    """One point of a series: seconds and peak memory of every case."""
    rows, made = [], set()
    size = series.size(value)
    for case in (find_case(*names) for names in series.cases):
        inputs = inputs_of(case, size, folder)
        made.add(inputs)
        rows.append(_row(series, value, case, run_worker(case, "larun", inputs)))
    for inputs in made:
        shutil.rmtree(inputs)
    return rows


def _row(series: Series, value: int, case: Case, found: dict[str, Any]) -> dict[str, Any]:
    work = {"topic": case.topic, "case": case.name if case.topic == "combine" else ""}
    return {
        "series": series.name,
        "value": value,
        **work,
        "larun_s": found["seconds"],
        "larun_peak_mb": found["peak_mb"],
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument("file", type=Path, help="JSON to write")
    parser.add_argument("series", nargs="*", help=f"by default all: {', '.join(one.name for one in SERIES)}")
    parser.add_argument("--size", choices=["quick", "full"], default="full")
    given = parser.parse_args(arguments)
    chosen = [one for one in SERIES if not given.series or one.name in given.series]
    if given.series and len(chosen) != len(set(given.series)):
        parser.error(f"series: {', '.join(one.name for one in SERIES)}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="larun-scaling-") as folder:
        for series in chosen:
            for value in series.full if given.size == "full" else series.quick:
                fresh = measure(series, value, Path(folder))
                rows += fresh
                for row in fresh:
                    work = f"{row['topic']} {row['case']}".strip()
                    print(
                        f"{value} {series.name}: {work} {row['larun_s']:.4g} s, {row['larun_peak_mb']:.0f} MB",
                        flush=True,
                    )
    text = json.dumps({"machine": machine(), "rows": rows}, indent=1)
    given.file.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
