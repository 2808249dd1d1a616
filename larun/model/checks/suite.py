"""The tests of a night, in the order in which they are told, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from larun.errors import LarunError
from larun.model.checks import (
    apertures,
    biases,
    darks,
    defects,
    depth,
    exposuretimes,
    flats,
    fluxes,
    illumination,
    jackknife,
    kinds,
    noise,
    oddframes,
    pairs,
    pixels,
    response,
    shapes,
    skies,
    stars,
    times,
    unsteady,
)
from larun.model.checks.fixes import possible
from larun.model.checks.material import Material
from larun.model.checks.verdict import Report, Verdict, untested

__all__ = ["TESTS", "NightTest", "run"]


class NightTest(NamedTuple):
    """A test.

    Attributes
    ----------
    name : str
        As in its verdicts.
    run : callable
        Gives the verdicts; none where there are no raw frames to look at.
    single : bool
        Whether it says something about one calibrated frame alone, too.
    cheap : bool
        Whether a few biases and flats tell enough, so that every reduction runs it on those.
    """

    name: str
    run: Callable[[Material], Iterable[Verdict]]
    single: bool = False
    cheap: bool = False


TESTS: tuple[NightTest, ...] = (
    NightTest("gain", noise.gain, cheap=True),
    NightTest("read noise", noise.read_noise, cheap=True),
    NightTest("linearity", response.linearity),
    NightTest("saturation", response.saturation),
    NightTest("overscan drift", biases.overscan_drift),
    NightTest("bias structure", biases.bias_structure),
    NightTest("bias level", biases.bias_level),
    NightTest("bad columns", defects.bad_columns),
    NightTest("dead amplifier", defects.dead_amplifier, cheap=True),
    NightTest("missing masters", defects.missing_masters),
    NightTest("dark current", darks.dark_current),
    NightTest("amplifier glow", darks.amplifier_glow),
    NightTest("hot pixels", defects.hot_pixels),
    NightTest("telegraph pixels", unsteady.telegraph_pixels),
    NightTest("light leak", darks.light_leak),
    NightTest("flat level", flats.flat_level, cheap=True),
    NightTest("flat gradient", flats.flat_gradient),
    NightTest("master noise", jackknife.master_noise),
    NightTest("pickup", unsteady.pickup),
    NightTest("pixel noise", pixels.pixel_noise, single=True),
    NightTest("pixel correlation", pixels.pixel_correlation, single=True),
    NightTest("empty apertures", apertures.empty_apertures, single=True),
    NightTest("repeated stars", stars.stars_repeat),
    NightTest("flat error", stars.flat_error),
    NightTest("frame pairs", pairs.frame_pairs),
    NightTest("completeness", depth.completeness_of_sources, single=True),
    NightTest("limiting magnitude", depth.limiting_magnitude, single=True),
    NightTest("focus", shapes.focus),
    NightTest("trailing", shapes.trailing, single=True),
    NightTest("sky", skies.sky, single=True),
    NightTest("clouds", fluxes.clouds),
    NightTest("satellite trails", skies.satellite_trails, single=True),
    NightTest("cosmic rays", skies.cosmic_rays, single=True),
    NightTest("shutter", illumination.shutter),
    NightTest("fringes", illumination.fringes),
    NightTest("dust", illumination.dust),
    NightTest("time stamps", times.time_stamps),
    NightTest("exposure time", exposuretimes.exposure_time),
    NightTest("filter", fluxes.filters),
    NightTest("kind", kinds.kind),
    NightTest("duplicates", kinds.duplicates),
    NightTest("pointing", fluxes.pointing),
    NightTest("odd frame", oddframes.odd_frame),
)


def run(material: Material, subject: str, tests: Iterable[NightTest] | None = None) -> Report:
    """Run tests on a night, all by default; one that cannot be run, or has nothing to say, is a verdict too."""
    start = time.perf_counter()
    verdicts: list[Verdict] = []
    for test in TESTS if tests is None else tests:
        try:
            found = [possible(verdict, material) for verdict in test.run(material)]
        except LarunError as error:
            found = [untested(test.name, str(error))]
        verdicts += found or [untested(test.name, "there are no raw frames to tell it by")]
    return Report(subject, tuple(verdicts), time.perf_counter() - start)
