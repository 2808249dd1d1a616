"""What all frames have in common, on skies and flats whose truth is known."""

from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from larun.model.checks.illumination import dust, fringes, shutter
from larun.model.checks.rawfacts import CELLS, RawFacts
from larun.simulate.faults import fringes as fringe_pattern
from larun.simulate.faults import shutter_delay
from tests.model.checks.frames_of_night import faults
from tests.model.checks.made import clean, material


def _with_structure(night, pattern):
    """The frames, their sky multiplied by a pattern."""
    made = []
    for frame in night:
        cells = (frame.sky.cells * pattern.astype(np.float32)).astype(np.float32)
        made.append(attrs.evolve(frame, sky=frame.sky._replace(cells=cells)))
    return made


def test_clean_skies_share_nothing(rng):
    """30 nights of two filters, each with a gradient."""
    y, x = np.mgrid[:128, :128] / 127.0
    alarms = 0
    for _ in range(30):
        night = _with_structure(clean(rng, frames=4, count=20), 1 + 0.2 * x - 0.1 * y * y)
        alarms += bool(faults(fringes(material(night))))
    assert alarms == 0


@pytest.mark.parametrize("amplitude", [0.01, 0.04])
def test_fringes_are_named_and_measured(rng, amplitude):
    pattern = amplitude * fringe_pattern((128, 128), rng=rng, count=12)
    found = list(fringes(material(_with_structure(clean(rng, frames=4, count=20), 1 + pattern))))
    assert [v.where for v in found] == ["V", "R"]
    assert all(v.status == ("bad" if amplitude > 0.02 else "doubtful") for v in found)
    for verdict in found:
        assert 0.6 * pattern.std() < verdict.value < 1.1 * pattern.std()
        assert verdict.value > 5 * verdict.error
        assert verdict.evidence.image.shape == (128, 128)


@pytest.mark.parametrize(("told", "alarm"), [(1.0, False), (0.0, True)])
def test_the_noise_of_masters_is_no_fringe(rng, told, alarm):
    """Frames with one bias, noisy by 24 electrons in a pixel: each cell of 8 × 8 is off by 3, in all of them alike."""
    one_filter = [frame for frame in clean(rng, frames=4, count=20) if frame.filter == "V"]
    night = _with_structure(one_filter, 1 + rng.normal(0, 3.0, (128, 128)) / 240.0)
    noise = SimpleNamespace(sample=SimpleNamespace(shared=told * 24.0**2))
    found = faults(fringes(material([attrs.evolve(frame, noise=noise) for frame in night])))
    assert bool(found) == alarm


def test_without_a_sky_or_a_flat_nothing_is_said(rng):
    assert [v.status for v in fringes(material([]))] == ["untested"]
    assert {v.status for v in dust(material(clean(rng, frames=3, count=20)))} == {"untested"}
    assert [v.status for v in shutter(material([]))] == ["untested"]


class _Item:
    """What an exposure says of itself, as far as the shutter asks."""

    kind, filter, criteria = "flat", "V", {}

    def __init__(self, exposure):
        self.exposure = exposure


def _flats(rng, *, delay=0.0, seconds=(1.0, 2.0, 4.0, 8.0)):
    """Facts about twilight flats: vignetted, with a gradient of their own each, exposed longer in the middle."""
    y, x = np.mgrid[:CELLS, :CELLS] / (CELLS - 1) - 0.5
    light = 1 - 0.3 * (x**2 + y**2)
    made = []
    for time in seconds:
        tilt = rng.normal(0, 0.01, 2)
        cells = 20000 * light * (1 + tilt[0] * x + tilt[1] * y) * (1 + shutter_delay(light.shape, seconds=delay) / time)
        cells += rng.normal(0, 4.0, cells.shape)  # medians of thousands of pixels
        values = dict.fromkeys(RawFacts._fields)
        values |= {"item": _Item(time), "level": 20000.0, "cells": cells.astype(np.float32)}
        made.append(RawFacts(**values))
    return made


class _Raw:
    """A night of flats."""

    facts = ()

    def __init__(self, flats):
        self.raw = flats


def test_flats_of_several_times_measure_the_shutter(rng):
    (verdict,) = shutter(_Raw(_flats(rng, delay=0.05)))
    assert verdict.status == "bad"
    assert verdict.value == pytest.approx(0.05, rel=0.2)
    assert "exposed" in verdict.meaning


def test_a_fast_shutter_is_good(rng):
    found = [v for _ in range(50) for v in shutter(_Raw(_flats(rng)))]
    assert {v.status for v in found} == {"good"}
    pulls = np.array([v.value / v.error for v in found])
    assert pulls.std() < 1.5
