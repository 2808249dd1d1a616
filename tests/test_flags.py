"""The flag table: bits that never move, constants that keep uint32."""

import numpy as np
import pytest

from larun import flags as fl


def test_the_table_is_frozen():
    """These numbers are in files: a change here breaks every product that was ever written."""
    assert [(flag.name, flag.bit) for flag in fl.TABLE] == [
        ("BAD", 0),
        ("SATURATED", 1),
        ("NONLINEAR", 2),
        ("COSMIC", 3),
        ("FLAT_INVALID", 4),
        ("EDGE", 5),
        ("NO_DATA", 6),
        ("INTERPOLATED", 7),
    ]
    assert int(fl.UNUSABLE) == 1 + 2 + 8 + 16 + 64
    assert all(flag.bit < 24 and flag.meaning for flag in fl.TABLE)
    assert all(getattr(fl, flag.name) == flag.value for flag in fl.TABLE)


def test_flags_stay_uint32():
    plane = np.zeros(3, np.uint32)
    for flag in fl.TABLE:
        assert (plane | flag.value).dtype == np.uint32
        assert (plane & ~flag.value).dtype == np.uint32
    assert (plane & fl.UNUSABLE).dtype == np.uint32
    assert fl.bits_of().dtype == fl.bits_of("BAD", "EDGE").dtype == np.uint32


def test_names_and_bits_are_inverse():
    names = tuple(flag.name for flag in fl.TABLE)
    assert fl.names_of(fl.bits_of(*names)) == names
    assert fl.names_of(0) == ()
    assert fl.names_of(2**24 + 2**31) == ("bit24", "bit31")
    own = (fl.Flag("GHOST", 24, "a reflection"),)
    assert fl.names_of(2**24 + 1, own) == ("BAD", "GHOST")
    with pytest.raises(KeyError):
        fl.bits_of("NONSENSE")


def test_bad_wins_over_saturated():
    flags = np.array([fl.BAD | fl.SATURATED, fl.SATURATED, fl.BAD | fl.COSMIC, 0], np.uint32)
    made = fl.resolve_bad(flags)
    assert made.tolist() == [int(fl.BAD), int(fl.SATURATED), int(fl.BAD | fl.COSMIC), 0]
    assert made.dtype == np.uint32
    assert flags[0] == fl.BAD | fl.SATURATED
