"""Shifts of images without stars."""

import numpy as np
import pytest

from larun.algorithms.phasecorrelation import phase_shift
from larun.errors import OptionError


def nebula(shape, shift, noise, seed=1):
    """Smooth structure on many scales, evaluated where a shifted image sees it: the shift is exact."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    x, y = x + shift[0], y + shift[1]
    image = np.zeros(shape)
    for _ in range(160):
        cx, cy = rng.uniform(-150, shape[1] + 150), rng.uniform(-150, shape[0] + 150)
        size, height = rng.uniform(2.5, 25), rng.normal(0, 100)
        image += height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / size**2)
    return (1000 + image + np.random.default_rng(seed).normal(0, noise, shape)).astype(np.float32)


@pytest.mark.parametrize("shift", [(0, 0), (0.37, -0.81), (12.25, 7.5), (-95.4, 60.3), (110.2, -3.3)])
@pytest.mark.parametrize("shape", [(200, 256), (201, 243)])
def test_shifts_are_found_to_a_hundredth_of_a_pixel(shift, shape):
    # what lies at (x, y) in the first lies at (x + dx, y + dy) in the second
    one, two = nebula(shape, (0, 0), 1.0), nebula(shape, (-shift[0], -shift[1]), 1.0, seed=2)
    found = phase_shift(one, two)
    assert found is not None
    far = max(abs(shift[0]), abs(shift[1])) > 50  # half of the structure is gone
    assert np.hypot(found.dx - shift[0], found.dy - shift[1]) < (0.03 if far else 0.012)
    assert found.error < 0.02


def test_holes_and_bad_pixels_do_not_decide():
    one, two = nebula((200, 200), (0, 0), 1.0), nebula((200, 200), (-3.2, -1.4), 1.0, seed=2)
    masks = np.zeros((2, 200, 200), bool)
    rng = np.random.default_rng(3)
    for image, mask in zip((one, two), masks, strict=True):
        y, x = rng.integers(0, 200, (2, 60))
        image[y, x], mask[y, x] = 60000, True
        image[:, 77], mask[:, 77] = np.nan, False
    found = phase_shift(one, two, (masks[0], masks[1]))
    assert np.hypot(found.dx - 3.2, found.dy - 1.4) < 0.03


def test_nothing_in_common_is_refused():
    rng = np.random.default_rng(4)
    for _ in range(20):
        assert phase_shift(*rng.normal(0, 1, (2, 128, 128)).astype(np.float32)) is None
    flat = np.ones((64, 64), np.float32)
    assert phase_shift(flat, flat) is None


def test_shapes_must_agree():
    with pytest.raises(OptionError, match="one shape"):
        phase_shift(np.ones((20, 20), np.float32), np.ones((20, 21), np.float32))
