"""Sums in lanes: their order is the one that is written down, whatever compiles them."""

from typing import Any

import numpy as np
import pytest

from larun.algorithms.jit import kernel
from larun.algorithms.lanes import LANES, lane_sum


@kernel
def total(array: Any, row: int, size: int) -> float:
    return np.float64(lane_sum(array, row, size))


def in_lanes(values):
    """The same sum, lane by lane, in single precision."""
    lanes = np.zeros(LANES, np.float32)
    for part in values.reshape(-1, LANES):
        lanes = lanes + part
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return float(lanes[0])


@pytest.mark.parametrize("size", [16, 32, 48, 240, 976])
def test_the_order_of_a_sum_is_the_one_that_is_written_down(size):
    rng = np.random.default_rng(size)
    array = (rng.normal(size=(3, 1000)) * 10.0 ** rng.integers(-3, 4, (3, 1000))).astype(np.float32)
    for row in range(3):
        assert total(array, row, size) == in_lanes(array[row, :size])  # bit for bit
    assert total(array, 1, size) != float(array[1, :size].sum(dtype=np.float64))  # so the order does matter


def test_no_number_has_no_sum():
    assert total(np.ones((1, 16), np.float32), 0, 0) == 0


def test_only_kernels_call_it():
    with pytest.raises(TypeError, match="by kernels alone"):
        lane_sum(np.ones((1, 16), np.float32), 0, 16)
