"""Medians of many values, and many medians of few."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from larun.algorithms.arrays import middle
from larun.algorithms.localmedian import BLOCK, block_medians, pixel_medians
from larun.algorithms.order import median_network, sort_lanes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 999, 20_001, 100_000])
def test_the_middle_has_the_bits_of_the_median(rng: np.random.Generator, size: int, dtype: type) -> None:
    for values in (rng.normal(100, 3, size), rng.integers(0, 5, size), np.arange(size) % 50, np.sort(rng.random(size))):
        given = values.astype(dtype)
        kept = given.copy()
        assert middle(given).tobytes() == np.median(given).tobytes()
        np.testing.assert_array_equal(given, kept)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 10])
def test_a_network_puts_the_middle_in_its_place_for_all_of_zeros_and_ones(count: int) -> None:
    """What a network does to all of zeros and ones it does to anything (Knuth 1998, TAOCP 3, 5.3.4)."""
    order = np.array(list(itertools.product((0, 1), repeat=count)), np.float32).T.copy()
    expected = np.sort(order, axis=0)
    sort_lanes(order.shape[1], median_network(count), order)
    for place in {max(count // 2 - 1, 0), count // 2}:
        np.testing.assert_array_equal(order[place], expected[place])


def test_medians_of_pixels_are_those_of_their_blocks(rng: np.random.Generator) -> None:
    plane = rng.normal(100, 10, (150, 170)).astype(np.float32)
    plane[rng.integers(0, 150, 40), rng.integers(0, 60, 40)] = np.nan
    plane[60:100, 40:80] = np.nan
    pixels = np.argwhere(np.ones(plane.shape, bool))[::7]
    blocks = pixels // BLOCK
    found, inverse = np.unique(blocks, axis=0, return_inverse=True)
    y, x = (pixels % BLOCK).T
    np.testing.assert_array_equal(pixel_medians(plane, pixels), block_medians(plane, found)[inverse.ravel(), y, x])
