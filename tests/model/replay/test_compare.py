"""Differences of products: every one is found, and told apart from the others."""

import attrs
import numpy as np
import pytest

from larun.model.planes import Shared
from larun.model.replay.compare import differences


def with_shared(frame, *items):
    return attrs.evolve(frame, shared=items)


def test_the_same_has_no_differences(sample):
    assert differences(sample.frame, sample.frame) == ()
    assert differences(sample.catalog, sample.catalog) == ()


def test_shared_noise_that_differs_alone_is_found_with_place_and_size(sample):
    first, *others = sample.frame.shared
    plane = first.variance.copy()
    plane[12, 34] += 0.5
    other = with_shared(sample.frame, Shared(first.master, plane), *others)
    (found,) = differences(sample.frame, other)
    assert found.what == f"shared noise of {first.master[:8]}"
    assert found.values == 1
    assert found.largest == pytest.approx(0.5, rel=1e-5)
    assert "x = 34, y = 12" in found.detail
    assert not sample.frame.identical(other)


def test_a_bit_of_shared_noise_is_a_difference(sample):
    *others, last = sample.frame.shared
    plane = last.variance.copy()
    plane[3, 5] = np.nextafter(plane[3, 5], np.float32(np.inf))
    (found,) = differences(sample.frame, with_shared(sample.frame, *others, Shared(last.master, plane)))
    assert found.values == 1
    assert 0 < found.largest < 1e-3


def test_shared_noise_of_other_masters_is_found_unless_they_stand_for_each_other(sample):
    first, *others = sample.frame.shared
    other = with_shared(sample.frame, Shared("f" * 64, first.variance), *others)
    (found,) = differences(sample.frame, other)
    assert (found.what, found.values) == ("shared", 2)
    assert "other masters" in found.detail
    assert differences(sample.frame, other, renamed={first.master: "f" * 64}) == ()
    plane = first.variance * 2
    (found,) = differences(
        sample.frame, with_shared(sample.frame, Shared("f" * 64, plane), *others), renamed={first.master: "f" * 64}
    )
    assert found.what == "shared noise of ffffffff"
    (found,) = differences(sample.frame, with_shared(sample.frame, *others))
    assert found.values == 1


def test_shared_noise_in_another_order_is_found(sample):
    assert len(sample.frame.shared) >= 2
    (found,) = differences(sample.frame, with_shared(sample.frame, *sample.frame.shared[::-1]))
    assert "another order" in found.detail
