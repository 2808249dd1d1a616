"""Stamps against sums pixel by pixel."""

import math

import numpy as np
import pytest

from larun.algorithms.jit import kernel
from larun.algorithms.stamps import gaussian_line, load, read_stamp, round_sums, square, stamp, window_sums

SIDE, MIDDLE, REACH = 61, 30, 12


@pytest.fixture(scope="module")
def planes():
    """A star near the middle of noise; some pixels flagged, some without a value or a variance."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE] - MIDDLE
    data = 900 * np.exp(-((x - 0.3) ** 2 + (y + 0.2) ** 2) / 6) + rng.normal(50, 10, (SIDE, SIDE))
    data, level, noise = (
        data.astype(np.float32),
        np.full_like(data, 50.0, np.float32),
        np.full_like(data, 100, np.float32),
    )
    flags = (rng.random((SIDE, SIDE)) < 0.03).astype(np.uint32)
    data[MIDDLE + 1, MIDDLE - 2], noise[MIDDLE, MIDDLE + 4] = np.nan, 0
    return data, level, noise, flags


@kernel
def all_sums(planes, place, wanted, centre, inverse):
    made = stamp((planes[0], planes[1], planes[2], planes[3], np.uint32(1)), 12)
    read_stamp(made, place[0], place[1], wanted)
    load(made, 12)
    sigma = 1 / math.sqrt(inverse[0])
    sums = window_sums(made, centre, inverse), round_sums(made, centre[0], centre[1], sigma)
    return sums[0], sums[1], square(made)[0].copy(), made[3]


@kernel
def line_of(low, high, centre, inverse):
    line = np.zeros(high + 3)
    gaussian_line(line, low, high, centre, inverse)
    return line


def expected(planes, place, centre, inverse):
    """The same sums by their definition, bad pixels filled with the model."""
    data, level, noise, flags = planes
    (cx, cy), (a, b, c) = centre, inverse
    cells = []
    for j in range(-REACH, REACH + 1):
        for i in range(-REACH, REACH + 1):
            y, x = place[0] + j, place[1] + i
            value = np.nan
            if 0 <= y < SIDE and 0 <= x < SIDE and not flags[y, x] and noise[y, x] > 0:
                value = data[y, x] - level[y, x]
            dx, dy = i - cx, j - cy
            cells.append((math.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy)), value, dx, dy))
    w, v, dx, dy = np.array(cells).T
    good = np.isfinite(v)
    assert not good.all()
    v[~good] = max((w * v)[good].sum() / (w**2)[good].sum(), 0) * w[~good]
    return [(w * v * term).sum() for term in (1, dx, dy, dx * dx, dx * dy, dy * dy)]


@pytest.mark.parametrize("place", [(MIDDLE, MIDDLE), (1, 58)])
@pytest.mark.parametrize(
    "inverse", [(0.5, 0.0, 0.5), (0.3, 0.2, 0.4), (0.6, -0.5, 0.5), (9.0, 8.95, 9.0), (1.0, -0.97, 1.0)]
)
def test_sums_are_those_of_the_definition(planes, place, inverse):
    centre = (0.37, -0.61)
    window, _, _, _ = all_sums(planes, place, 3, centre, inverse)
    reference = expected(planes, place, centre, inverse)
    np.testing.assert_allclose(window, reference, rtol=1e-5, atol=1e-5 * abs(reference[0]))
    inverse = (inverse[0], 0.0, inverse[0])
    _, quick, _, _ = all_sums(planes, place, 3, centre, inverse)
    reference = expected(planes, place, centre, inverse)
    np.testing.assert_allclose(quick, reference[:3], rtol=1e-5, atol=1e-5 * abs(reference[0]))


@pytest.mark.parametrize("wanted", [0, 1, 5, 40])
def test_a_stamp_filled_in_steps_is_the_stamp(planes, wanted):
    arguments = ((0.0, 0.0), (0.5, 0.0, 0.5))
    _, _, signal, state = all_sums(planes, (2, 20), wanted, *arguments)
    cut = np.full((25, 25), np.nan)
    cut[10:] = (planes[0] - planes[1])[:15, 8:33]
    bad = ~np.isfinite(cut)
    bad[10:] |= (planes[3][:15, 8:33] != 0) | (planes[2][:15, 8:33] <= 0)
    np.testing.assert_array_equal(signal, np.where(bad, 0, cut))
    assert (state[2], state[3]) == (12, bad.sum())


@pytest.mark.parametrize("centre", [-3.0, 4.4, 9.0, 30.0])
def test_a_line_is_a_gaussian(centre):
    line = line_of(2, 17, centre, 0.3)
    np.testing.assert_allclose(line[2:17], np.exp(-0.15 * (np.arange(2, 17) - centre) ** 2), rtol=1e-11)
    assert not line[:2].any()
    assert not line[17:].any()
