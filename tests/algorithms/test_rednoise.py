"""Scintillation against Osborn's numbers, red noise against series of known noise."""

import numpy as np
import pytest

from larun.algorithms.rednoise import point_to_point, scintillation, time_averaging
from larun.errors import OptionError


def test_scintillation_follows_its_formula():
    assert scintillation(60, 1.0, 1.0, coefficient=1.0) == pytest.approx(np.sqrt(1e-5 / 60))
    assert scintillation(60, 8.0, 1.0) == pytest.approx(scintillation(60, 1.0, 1.0) / 4)
    assert scintillation(60, 1.0, 2.0) == pytest.approx(scintillation(60, 1.0, 1.0) * 2**1.5)
    assert scintillation(60, 1.0, 1.0, 8000) == pytest.approx(scintillation(60, 1.0, 1.0) / np.e)
    with pytest.raises(OptionError, match="diameter"):
        scintillation(60, 0, 1)


def test_white_noise_has_beta_one():
    time = np.arange(300) / 1440
    found = [time_averaging(time, np.random.default_rng(k).normal(0, 1, 300)).beta for k in range(40)]
    assert np.mean(found) == pytest.approx(1.03, abs=0.05)


def test_red_noise_of_known_size():
    rng, time = np.random.default_rng(3), np.arange(3000) / 1440
    slow = np.repeat(rng.normal(0, 0.5, 100), 30)
    made = time_averaging(time, rng.normal(0, 1, 3000) + slow)
    at = {int(size): k for k, size in enumerate(made.sizes)}[10]
    # of 21 ways to begin a bin of ten within thirty, most see one value of the slow part
    assert made.scatter[at] == pytest.approx(np.sqrt(1 / 10 + 0.25 * 0.8), rel=0.15)
    assert made.expected[at] == pytest.approx(np.sqrt(1.25 / 10), rel=0.1)
    assert made.beta > 1.5


def test_short_series_say_nothing():
    assert time_averaging(np.arange(5), np.arange(5.0)).beta == 1
    assert np.isnan(point_to_point([1.0, 2.0]))
    assert point_to_point([1, 2, 1, 2, 1, 2]) == pytest.approx(1 / np.sqrt(2))
