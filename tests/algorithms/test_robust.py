"""Scatters that outliers do not move."""

import math

import numpy as np
import pytest

from larun.algorithms.robust import ERROR_OF_MEDIAN, SIGMA_PER_MAD, mad_sigma, median_error


def test_the_constants_are_those_of_a_normal_distribution():
    from scipy import stats

    assert pytest.approx(1 / stats.norm.ppf(0.75), rel=1e-5) == SIGMA_PER_MAD
    assert pytest.approx(math.sqrt(math.pi / 2), rel=1e-4) == ERROR_OF_MEDIAN


def test_it_is_the_scatter_of_an_independent_implementation(rng):
    from astropy.stats import mad_std

    values = rng.standard_cauchy((40, 50)).astype(np.float32)
    assert mad_sigma(values) == pytest.approx(mad_std(values), rel=1e-5)


def test_outliers_move_it_little_and_a_given_centre_counts(rng):
    values = rng.normal(100.0, 3.0, 20_000)
    values[:400] = 1e9
    assert mad_sigma(values) == pytest.approx(3.0, rel=0.05)
    assert mad_sigma(values, 0.0) == pytest.approx(148.26, rel=0.01)


def test_few_values():
    assert math.isnan(mad_sigma(np.empty(0)))
    assert mad_sigma(np.array([3.0])) == 0
    assert math.isnan(median_error(np.array([3.0])))


def test_the_error_of_a_median_is_the_scatter_of_medians(rng):
    values = rng.normal(0.0, 2.0, (2000, 101))
    said = np.mean([median_error(row) for row in values])
    assert said == pytest.approx(np.median(values, axis=1).std(), rel=0.06)
