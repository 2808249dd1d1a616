"""Where nested values differ, and how it is said."""

import numpy as np
import pytest

from larun.provenance import canonical
from larun.provenance.leaves import ABSENT, changed, told


def test_mappings_by_key_lists_by_name_or_place_the_rest_as_a_whole():
    one = {"a": 1, "b": {"c": [1, 2]}, "frames": [{"name": "x", "level": 1}, {"name": "y", "level": 2}], "gone": 0}
    other = {"a": 1, "b": {"c": [1, 3]}, "frames": [{"name": "y", "level": 3}, {"name": "x", "level": 1}]}
    assert [tuple(leaf) for leaf in changed(one, other)] == [
        ("b.c", [1, 2], [1, 3]),
        ("frames[y].level", 2, 3),
        ("gone", 0, ABSENT),
    ]
    assert [leaf.path for leaf in changed([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}], "rows")] == ["rows[1].a"]
    assert [leaf.path for leaf in changed([{"a": 1}], [{"a": 1}, {"a": 3}], "rows")] == ["rows"]
    assert not list(changed({"x": [True, None]}, {"x": [True, None]}))
    assert len(list(changed(1, True))) == 1


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (4.5, 5, "4.5 → 5"),
        (None, "dao", "none → 'dao'"),
        (ABSENT, [1], "not given → [1]"),
        (0.1234567, 0.1234568, "0.123457 → 0.123457"),
        ("ab" * 32, "cd" * 32, "abababab → cdcdcdcd"),
        (canonical(np.zeros(3)), canonical(np.ones(3)), "differs (<array 3>)"),
    ],
)
def test_two_values_in_words(one, other, text):
    if isinstance(one, float) and isinstance(other, float):
        text = f"{one!r} → {other!r}"
    assert told(one, other) == text
