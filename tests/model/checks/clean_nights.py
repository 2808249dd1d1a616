"""Nights with nothing wrong, under all sorts of conditions: what ``larun check`` complains of is a false alarm.

``python -m tests.model.checks.clean_nights [number of nights [first]]`` prints how often each test says what.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import numpy as np

import larun
from larun.model.checks.verdict import STATUSES, Report
from larun.simulate import Camera, Conditions, NightOptions, Tracking
from tests.model.checks.night import CAMERA, OPTIONS, make

__all__ = ["checked", "false_alarms", "options_of", "table"]


_CROWDED = 0.08  # stars within one FWHM: beyond it no sky is empty, and a check is right to say so


def options_of(number: int) -> NightOptions:
    """The night of this number: another camera, another sky, another way to work; nothing that is a fault."""
    rng = np.random.default_rng([4, number])
    camera = _camera(rng)
    exposure = float(rng.choice([20.0, 60.0, 120.0]))
    frames = int(rng.integers(3, 7))
    top = float(rng.uniform(25000, 45000))
    sky = float(10 ** rng.uniform(0.0, 1.2))
    conditions = Conditions(
        seeing_noise=(0.05, 0.5),
        extinction=float(rng.uniform(0.05, 0.3)),
        hour_angle=float(rng.uniform(-3, 3)),
        sky_gradient=tuple(rng.uniform(-0.06, 0.06, 2)),
        gradient_change=tuple(rng.uniform(-0.05, 0.05, 2)),
        sky_change=float(rng.uniform(-0.3, 0.3)),
    )
    seeing = float(rng.uniform(2.3, 5.0))
    crowded = _CROWDED / (math.pi * seeing**2 * 1e-6)
    return attrs.evolve(
        OPTIONS,
        camera=camera,
        biases=int(rng.integers(9, 14)),  # enough that the noise of the masters does not count
        darks=int(rng.integers(7, 11)),
        dark_exposures=(exposure / 3, exposure),
        flats=int(rng.integers(4, 8)),
        flat_levels=(top, top * float(rng.choice([0.1, 0.5, 0.98]))),
        frames=frames,
        exposure=exposure,
        star_density=min(float(10 ** rng.uniform(2.8, 3.6)), crowded),
        sky=(sky, 1.5 * sky),
        seeing=seeing,
        beta=float(rng.uniform(2.5, 4.5)),
        dither=float(rng.choice([0.0, 5.0, 25.0])),
        tracking=Tracking(pattern=str(rng.choice(["random", "grid", "spiral"])), walk=float(rng.uniform(0, 3))),
        cosmic_rate=float(rng.uniform(0.1, 1.0)),
        conditions=conditions,
    )


def _camera(rng: np.random.Generator) -> Camera:
    return attrs.evolve(
        CAMERA,
        shape=tuple(rng.choice([[256, 256], [256, 320], [320, 256]])),
        gain=float(rng.uniform(0.8, 3.0)),
        read_noise=float(rng.uniform(3.0, 12.0)),
        bias_level=float(rng.uniform(300, 2000)),
        bias_drift=float(rng.uniform(0.0, 4.0)),
        dark_rate=float(10 ** rng.uniform(-2.5, -0.7)),
        hot_fraction=float(rng.uniform(2e-4, 2e-3)),
        pixel_scale=float(rng.uniform(0.3, 1.0)),
        temperature=float(rng.uniform(-110, -20)),
    )


def checked(number: int) -> Report:
    """What the check of the night of this number says."""
    with TemporaryDirectory() as folder:
        raw = make(Path(folder) / "raw", seed=1000 + number, options=options_of(number))
        return larun.Night(raw.folder).check()


def false_alarms(reports: Iterable[Report]) -> Counter[str]:
    """In how many nights each test complains."""
    return Counter(test for report in reports for test in {verdict.test for verdict in report.faults})


def table(reports: Iterable[Report]) -> str:
    """One line a test: in how many nights its worst verdict was what."""
    worst: dict[str, Counter[str]] = {}
    for report in reports:
        for test in dict.fromkeys(verdict.test for verdict in report):
            status = max((verdict.status for verdict in report.of(test)), key=STATUSES.index)
            worst.setdefault(test, Counter())[status] += 1
    lines = [f"{'test':22}" + "".join(f"{status:>10}" for status in STATUSES)]
    lines += [f"{test:22}" + "".join(f"{found[status]:>10}" for status in STATUSES) for test, found in worst.items()]
    return "\n".join(lines)


def _main(count: int = 50, first: int = 0) -> None:
    start, reports = time.perf_counter(), []
    for number in range(first, first + count):
        reports.append(checked(number))
        print(f"night {number}", *(f"    {verdict}" for verdict in reports[-1].faults), sep="\n", flush=True)
    alarms = false_alarms(reports)
    asked = sum(len({verdict.test for verdict in report}) for report in reports)
    print(table(reports))
    print(f"{alarms.total()} false alarms in {asked} tests of {count} nights, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    _main(*(int(text) for text in sys.argv[1:]))
