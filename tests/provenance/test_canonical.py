"""Equal work is written alike, different work is not, and nothing is recorded that cannot be."""

import enum
import functools
import json

import attrs
import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

import larun
from larun.errors import OptionError
from larun.provenance import array_from_canonical, canonical, digest_of, text_of


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Options:
    sigma: float = 5.0
    memory: float = attrs.field(default=1e9, metadata={"recorded": False})


def a_function(x):
    return x + 1


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (5, 5.0),
        (np.float32(0.5), 0.5),
        (np.int16(3), 3),
        (np.bool_(True), True),
        ((1, 2), [1.0, 2.0]),
        ({"b": 1, "a": 2}, {"a": 2.0, "b": 1}),
        ({"x", "y"}, ["x", "y"]),
        (Colour.RED, "red"),
        (Options(memory=1.0), Options(memory=2.0)),
        (np.arange(3, dtype=">i4"), np.arange(3, dtype="<i4")),
        (np.arange(12.0).reshape(3, 4).T.copy(), np.arange(12.0).reshape(3, 4).T),
    ],
)
def test_equal_work_is_written_alike(one, two):
    assert canonical(one) == canonical(two)
    assert digest_of(canonical(one)) == digest_of(canonical(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (True, "True"),
        (None, ""),
        ("5", 5),
        (Options(), Options(sigma=4.0)),
        (np.arange(3), np.arange(3.0)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (3 * u.s, 3 * u.min),
        (float("nan"), float("inf")),
        (a_function, test_equal_work_is_written_alike),
        (0.1, 0.1 + 1e-17 + 2e-17),
    ],
)
def test_different_work_is_not(one, two):
    assert digest_of(canonical(one)) != digest_of(canonical(two))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_what_is_canonical_stays_as_it_is_through_json(value):
    once = canonical(value)
    assert canonical(once) == once
    text = text_of(once)
    assert text.isascii()
    assert json.loads(text) == once
    assert text_of(json.loads(text)) == text


@pytest.mark.parametrize("dtype", ["f4", "f8", "u4", "i2", "?"])
def test_arrays_come_back_bit_for_bit(dtype):
    values = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    back = array_from_canonical(json.loads(text_of(canonical(values))))
    assert back.dtype == values.dtype
    assert back.tobytes() == values.tobytes()
    assert back.shape == values.shape


def test_functions_are_known_by_their_text_and_what_they_enclose():
    def scaled_by(factor):
        return lambda image: image * factor

    assert canonical(scaled_by(2)) == canonical(scaled_by(2.0)) != canonical(scaled_by(3))
    assert canonical(functools.partial(a_function, 1)) != canonical(functools.partial(a_function, 2))
    assert canonical(functools.partial(a_function, 1)) != canonical(functools.partial(max, 1))
    assert canonical(max)["source"] is None
    two = (lambda image: image * 2, lambda image: image * 3)
    assert canonical(two[0]) != canonical(two[1])
    typed = [eval(text) for text in ("lambda x: x * 2", "lambda x: x * 3", "lambda x: x * 2")]  # as at a prompt
    assert canonical(typed[0]) == canonical(typed[2]) != canonical(typed[1])

    def itself(x):
        return itself(x)

    assert set(canonical(itself)["closure"]["itself"]) == {"function", "source"}


def test_what_cannot_be_recorded_raises():
    with pytest.raises(OptionError, match="generator cannot be recorded"):
        canonical(x for x in "ab")
    with pytest.raises(OptionError, match="object cannot be recorded"):
        canonical(object())


def test_an_image_among_parameters_is_its_id_alone():
    frame = larun.Frame.from_arrays(np.ones((3, 3)))
    assert canonical({"mask": frame}) == {"mask": {"provenance": frame.provenance.id}}


def test_a_function_of_the_script_has_one_name_in_all_processes():
    """A process that was started calls the script of the one that started it __mp_main__."""

    def own(image):
        return image

    own.__module__ = "__main__"
    here = canonical(own)
    own.__module__ = "__mp_main__"
    assert canonical(own) == here
    assert here["function"].startswith("__main__:")
