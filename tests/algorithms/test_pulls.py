"""The width of pulls."""

import math

import numpy as np
import pytest

from larun.algorithms.pulls import pulls_of


def test_the_width_is_right_and_scatters_as_its_error_says():
    pulls = []
    for seed in range(40):
        found = pulls_of(np.random.default_rng(seed).normal(0.1, 1.2, (100, 100)))
        pulls.append(((found.width - 1.2) / found.width_error, (found.mean - 0.1) / found.mean_error))
    assert (np.abs(np.mean(pulls, axis=0)) < 0.5).all()
    assert (np.std(pulls, axis=0) > 0.75).all()
    assert (np.std(pulls, axis=0) < 1.25).all()


def test_outliers_do_not_widen_it():
    values = np.random.default_rng(1).normal(0, 1, 100_000)
    values[:500] = 50
    found = pulls_of(values)
    assert found.width == pytest.approx(1.0, abs=0.01)
    assert found.outside == pytest.approx(0.005, rel=0.05)
    assert np.trapezoid(found.density, found.centres) == pytest.approx(0.995, abs=0.01)


def test_few_values_say_nothing():
    assert math.isnan(pulls_of(np.zeros(5)).width)
