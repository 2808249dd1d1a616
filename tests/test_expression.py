"""Conditions written as text: what they mean, and that nothing in them is ever run."""

import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from astropy.units import Quantity

from larun.errors import OptionError
from larun.expression import parse

COLUMNS = {
    "snr": np.array([3.0, 12.0, 50.0, np.nan]),
    "fwhm": np.array([2.5, 3.5, 5.0, 3.0]),
    "flags": np.array([0, 2, 5, 0], np.uint32),
    "filter": np.array(["V", "R", "V", ""]),
    "ok": np.array([True, False, True, False]),
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("snr > 10", [0, 1, 1, 0]),
        ("snr>10 and fwhm<4 and flags==0", [0, 0, 0, 0]),
        ("snr > 10 or not fwhm > 2.7", [1, 1, 1, 0]),
        ("3 <= fwhm < 5", [0, 1, 0, 1]),
        ("flags & 2 == 0", [1, 0, 1, 1]),
        ("flags & 1 | flags & 4 != 0", [0, 0, 1, 0]),
        ("(flags & (1 | 4)) != 0", [0, 0, 1, 0]),
        ("filter == 'V'", [1, 0, 1, 0]),
        ("filter in ('R', \"B\")", [0, 1, 0, 0]),
        ("flags not in [0, 2]", [0, 0, 1, 0]),
        ("isnan(snr)", [0, 0, 0, 1]),
        ("isfinite(snr) and abs(fwhm - 3) <= 0.5", [1, 1, 0, 0]),
        ("ok", [1, 0, 1, 0]),
        ("not ok", [0, 1, 0, 1]),
        ("~ok & (snr > 1)", [0, 1, 0, 0]),
        ("log10(snr) > 1.5", [0, 0, 1, 0]),
        ("-fwhm < -3", [0, 1, 1, 0]),
        ("snr / fwhm ** 2 > 1", [0, 0, 1, 0]),
        ("hypot(fwhm, 2) // 1 == 3", [1, 0, 0, 1]),
        ("snr != snr", [0, 0, 0, 1]),
        ("maximum(snr, 20) == 20", [1, 1, 0, 0]),
        ("flags == LIMIT", [0, 0, 1, 0]),
        ("  snr < 4  ", [1, 0, 0, 0]),
    ],
)
def test_what_conditions_mean(text, wanted):
    np.testing.assert_array_equal(parse(text).of(COLUMNS, constants={"LIMIT": 5}), np.array(wanted, bool))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "snr.__class__",
        "snr[0] > 1",
        "(lambda: 1)()",
        "[x for x in (1, 2)]",
        "open('x')",
        "eval('1')",
        "snr > 1 if ok else 2",
        "(y := snr) > 1",
        "f'{snr}' == 'a'",
        "snr @ snr > 1",
        "snr is None",
        "snr == None",
        "snr > 1j",
        "b'a' == filter",
        "sqrt(x=snr) > 1",
        "sqrt(*snr) > 1",
        "filter in 'VR'",
        "filter in (snr,)",
        "flags << 3 > 1",
        "{1: 2}",
        "snr > ...",
        "await snr",
        "yield",
    ],
)
def test_nothing_else_is_allowed(text):
    with pytest.raises(OptionError, match=r"is not allowed|cannot be read"):
        parse(text)


@pytest.mark.parametrize("text", ["", "  ", "snr >", "snr > 1; ok", "snr = 1", "a\0b", "snr > 1\nimport os", "(" * 500])
def test_what_cannot_be_read(text):
    with pytest.raises(OptionError):
        parse(text)
    with pytest.raises(OptionError):
        parse(None)


@pytest.mark.parametrize(
    "text", ["-" * 100 + "1 > snr", "snr" + " + 1" * 400 + " > 1", "1 + " * 600 + "snr > 1", "not " * 200 + "ok"]
)
def test_depth_and_length_have_limits(text):
    with pytest.raises(OptionError, match=r"not allowed|at most|cannot be read"):
        parse(text)


def test_numbers_do_not_grow_without_end():
    np.testing.assert_array_equal(parse("snr < 9 ** 9 ** 9").of(COLUMNS), [True, True, True, False])
    with pytest.raises(OptionError, match="cannot be computed"):
        parse("flags & 99999999999999999999 == 0").of(COLUMNS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("snrr > 1", r"no column 'snrr' \(did you mean snr\?\): there are snr, fwhm"),
        ("unheard > 1", r"no column 'unheard': there are"),
        ("snr > 'a'", "text with a number"),
        ("filter > 3", "text with a number"),
        ("filter in (1, 2)", "text with a number"),
        ("filter + 'a' == 'Va'", "only be compared"),
        ("snr + 1", "true or false for each row"),
        ("1 < 2", "true or false for each row"),
        ("snr and ok", "'snr' is neither true nor false"),
        ("not flags", "'flags' is neither"),
        ("sqrt() > 1", "cannot be computed"),
        ("snr & 1 == 0", "cannot be computed"),
        ("1 % 0 > snr", "cannot be computed"),
    ],
)
def test_errors_say_what_is_wrong(text, says):
    with pytest.raises(OptionError, match=says):
        parse(text).of(COLUMNS)


def test_units_are_left_out_and_masked_values_meet_nothing():
    table = QTable({"x": Quantity([1.0, 20.0], "pix"), "flags": [0, 1]})
    np.testing.assert_array_equal(parse("x > 10 and flags == 1").of(table), [False, True])
    summary = Table({"seeing": MaskedColumn([3.0, 9.0, 2.0], mask=[False, True, False]), "good": [True, True, True]})
    np.testing.assert_array_equal(parse("seeing > 1").of(summary), [True, False, True])
    np.testing.assert_array_equal(parse("not seeing > 2.5 and good").of(summary), [False, False, True])
    assert parse("b > 1 and a < 2 and isnan(c)").names == ("a", "b", "c")


def test_columns_of_no_rows():
    assert parse("snr > 1").of({"snr": np.empty(0)}).shape == (0,)
