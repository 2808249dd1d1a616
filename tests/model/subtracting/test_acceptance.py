"""Noise, depth and windows of differences in brief; ``acceptance.py`` has the first two at length."""

import math

import numpy as np
import pytest

import larun
from larun.algorithms import score as scores
from tests.algorithms.pair_fields import pair
from tests.model.subtracting.acceptance import METHODS, depth, difference, noise_of
from tests.model.subtracting.test_difference import raw


@pytest.mark.parametrize("method", METHODS)
def test_acceptance_32_the_limit_of_a_difference_is_where_half_of_the_new_stars_are_found(method):
    """Own error 0.04 mag."""
    half, limit = depth(method, 2)
    assert abs(2.5 * math.log10(half / limit)) < 0.1


@pytest.mark.parametrize("method", METHODS)
def test_acceptance_31_maxima_of_the_score_are_as_many_as_those_of_white_noise(method):
    made = noise_of(method, 600, 2, threshold=3.5)
    assert abs(made["mean"]) < 0.02
    assert made["scatter"] == pytest.approx(1, abs=0.02)
    assert made["white"] > 60
    assert abs(made["maxima"] - made["white"]) < 3 * math.sqrt(made["maxima"] + made["white"])


@pytest.mark.parametrize("method", METHODS)
def test_acceptance_39_any_window_of_a_difference_is_that_of_the_whole(tmp_path, method):
    field = pair((260, 280), seed=4, stars=300, change=0.0, brightest=4e5)
    science, reference = (
        raw(tmp_path / f"{name}.fits", data, name) for name, data in (("now", field.science), ("then", field.reference))
    )
    made = science.subtract(reference, method=method, align="none", options=None if method == "zogy" else _PLAIN)
    rng = np.random.default_rng(39)
    for _ in range(3):
        x, y = (sorted(rng.choice(260, 2, replace=False).tolist()) for _ in range(2))
        assert larun.window(made, x, y, raw=tmp_path).identical(made.crop(x, y))


_PLAIN = larun.SubtractOptions(order=0)


def test_acceptance_34_bands_of_rows_change_no_bit_of_the_score(monkeypatch):
    field = pair((330, 1100), seed=4, stars=500, change=0.0)
    whole = difference(field, "alard-lupton")
    monkeypatch.setattr(scores, "_BAND", 128)
    parts = difference(field, "alard-lupton")
    assert parts.score.tobytes() == whole.score.tobytes()
    assert parts.identical(whole)
