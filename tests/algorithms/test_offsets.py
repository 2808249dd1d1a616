"""The shift between two lists of positions, found by votes."""

import numpy as np
import pytest

from larun.algorithms.offsets import vote_offset
from larun.errors import OptionError


def _lists(rng, *, count=80, common=30, shift=(31.0, -47.0), noise=0.2, size=800.0):
    """Two lists that share some positions, each in an order of its own."""
    x, y = rng.uniform(0, size, (2, count))
    new = rng.uniform(0, size, (2, count - common))
    x2 = np.append(x[:common] + shift[0], new[0]) + rng.normal(0, noise, count)
    y2 = np.append(y[:common] + shift[1], new[1]) + rng.normal(0, noise, count)
    order = rng.permutation(count)
    return x, y, x2[order], y2[order], order


@pytest.mark.parametrize("shift", [(0.0, 0.0), (31.0, -47.0), (-119.3, 88.8)])
def test_the_offset_is_found_though_most_stars_have_no_partner(rng, shift):
    for _ in range(20):
        x, y, x2, y2, order = _lists(rng, shift=shift)
        found = vote_offset(x, y, x2, y2)
        assert found is not None
        assert abs(found.dx - shift[0]) < 0.2
        assert abs(found.dy - shift[1]) < 0.2
        right = order[found.second] == found.first
        assert right.sum() >= 28
        assert np.mean(right) > 0.9


def test_fields_that_have_nothing_in_common_have_no_offset(rng):
    found = [vote_offset(*rng.uniform(0, 600, (4, count))) for count in (5, 20, 60, 150) for _ in range(50)]
    assert not any(found)


def test_what_chance_does_is_what_is_said(rng):
    """With a generous limit, unrelated fields are matched no more often than the limit says."""
    found = [vote_offset(*rng.uniform(0, 600, (4, 40)), chance=0.1) for _ in range(200)]
    assert sum(one is not None for one in found) <= 30


def test_each_position_is_used_once_and_blanks_never(rng):
    x, y = rng.uniform(0, 500, (2, 60))
    x2, y2 = np.append(x, x + 0.3) + 5.0, np.append(y, y) + 5.0  # every star twice
    x[3] = np.nan
    found = vote_offset(x, y, x2, y2)
    assert found is not None
    assert len(set(found.first)) == len(found.first) == 59
    assert len(set(found.second)) == 59
    assert 3 not in found.first


def test_an_offset_beyond_reach_is_not_looked_for(rng):
    x, y, x2, y2, _ = _lists(rng, shift=(100.0, 0.0))
    assert vote_offset(x, y, x2, y2, reach=50.0) is None
    assert vote_offset([], [], x2, y2) is None
    assert vote_offset([1.0], [1.0], [5.0], [5.0]) is None


def test_impossible_options_are_refused():
    with pytest.raises(OptionError, match="tolerance = -1"):
        vote_offset([1.0], [1.0], [1.0], [1.0], tolerance=-1.0)
    with pytest.raises(OptionError, match="2 values of x and 1 of y"):
        vote_offset([1.0, 2.0], [1.0], [1.0], [1.0])
