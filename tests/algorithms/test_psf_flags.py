"""Flags in circles around stars."""

import numpy as np

from larun import flags as fl
from larun.algorithms.psf_flags import flags_around


def test_every_pixel_of_the_circle_counts_and_no_other():
    rng = np.random.default_rng(2)
    flags = np.where(rng.random((60, 70)) < 0.05, np.uint32(1) << rng.integers(0, 5, (60, 70)), 0).astype(np.uint32)
    places = rng.uniform(6, 53, (40, 2))
    rows, columns = np.mgrid[:60, :70]
    found = flags_around(flags, places, 4.3)
    assert np.any(found)
    for (x, y), bits in zip(places, found, strict=True):
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= 4.3**2
        assert bits == np.bitwise_or.reduce(flags[inside])


def test_beyond_the_image_is_an_edge():
    none = np.zeros((20, 30), np.uint32)
    assert flags_around(none, np.array([[2.6, 10.0], [1.9, 10.0], [28.0, 18.0]]), 3.0).tolist() == [0, fl.EDGE, fl.EDGE]
