"""Entries with their lines, every fault of a text, and values as TOML."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larun.errors import OptionError
from larun.io.toml import Entry, entries, key_text, shown, value_of, value_text

GOOD = '''# comment [not a section]
flat.sigma = 4

[detect]  # a comment with "quotes" and [brackets
threshold = 5   # five
method = "a # [b] \\" c"
radii = [1, # one ]
   2,

   3]
other = {a = 1, b = [2]}
text = """
[clean]
x = 1 \\""" "" """
raw = \'\'\'
[clean]\'\'\'
last = 'C:\\x#y'
["clean"]
"a.b" = true
'''


def test_entries_have_the_line_in_which_they_begin():
    found, problems = entries(GOOD, "f")
    assert problems == []
    lines = {(entry.section, entry.option): int(entry.where.split(":")[1]) for entry in found}
    assert (
        lines
        == {
            ("flat", "sigma"): 2,
            ("detect", None): 4,
            ("detect", "threshold"): 5,
            ("detect", "method"): 6,
            ("detect", "radii"): 7,
            ("detect", "other"): 11,
            ("detect", "text"): 12,
            ("detect", "raw"): 15,
            ("detect", "last"): 17,
            ("clean", None): 18,
            ("clean", "a.b"): 19,
        }
        or problems
    )


def test_values_are_those_of_tomllib():
    found, problems = entries(GOOD, "f")
    assert not problems
    made = {}
    for entry in found:
        if entry.option is not None:
            made.setdefault(entry.section, {})[entry.option] = entry.value
    assert made == tomllib.loads(GOOD)
    assert entries(GOOD.replace("\n", "\r\n"), "f")[0][1] == found[1]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[a]\nx = \ny = = 2\nz = 3", ["f:2: x =: Invalid value", "f:3: y = = 2: Invalid value"]),
        ("[a]\nx = 1\nx = 2", ["f:3: a.x: is there already, in line 2"]),
        ("[a]\n[b]\n[a]", ["f:3: [a]: is there already, in line 1"]),
        ("x = 1", ["f:1: x = 1: stands above every section: write [section] before it"]),
        ("[[a]]\n", ["f:1: [[a]]: a section is there once: write [a]"]),
        ('[a]\nx = "open\ny = 1', ['f:2: x = "open: Unterminated string']),
        ("[a]\n\nx = [1,\n 2", ["f:3: x = [1,: Unclosed array"]),
        ("[a]\nx = 1\n[a.x]\n", ["f:1: Cannot overwrite a value"]),
        ("[a]\nx = [1,\n 2 2]", ["f:3: x = [1,: Unclosed array"]),
        ("[a]\nx = \x00", ["f:2: x = \\x00: Invalid value"]),
    ],
)
def test_faults_have_their_line(text, problems):
    found = entries(text, "f")[1]
    assert [problem.partition(": ")[2] for problem in found] == [problem.partition(": ")[2] for problem in problems]
    if "Cannot overwrite" not in problems[0]:
        assert found == problems


def test_hostile_texts_are_problems_not_crashes():
    for text in (
        "x = " + "[" * 45_000,
        "[a]\nx = 1" + "0" * 9000,
        "a" * 50_001,
        "]]}}\x1b",
        "[a.b.c.d]\nx=1\n",
        '"',
        "[" + "a." * 20_000 + "a]",
        "a." * 20_000 + "a = 1",
        "[a]\nx = {" + "a." * 10_000 + "a = 1}",
    ):
        _, problems = entries(text, "f")
        assert all(problem.isprintable() and len(problem) < 200 for problem in problems)
        assert problems or "a.b" in text or "{" in text


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="[]{}=\"'#\\\n\r abx1.,\t", max_size=60))
def test_any_text_gives_what_tomllib_gives_or_a_problem(text):
    found, problems = entries(text, "f")
    try:
        whole = tomllib.loads(text)
    except ValueError:
        assert problems
        return
    if problems:  # two levels only, and no list of sections
        return
    for entry in found:
        value = whole
        for key in filter(None, [*entry.section.split("."), entry.option]):
            if not isinstance(value, dict) or key not in value:
                break  # a key with a dot in quotes
            value = value[key]
        else:
            assert entry.option is None or value == entry.value


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.-é \n", min_size=1), inner, max_size=3),
        max_leaves=6,
    )
)
def test_values_come_back_as_they_were(value):
    assert value_of(value_text(value)) == value
    assert tomllib.loads(f"{key_text('a b')} = {value_text(value)}") == {"a b": value}


def test_what_toml_cannot_say_is_an_error():
    for value in (len, None, {1, 2}, b"x"):
        with pytest.raises(OptionError, match="cannot be written in TOML"):
            value_text(value)
    with pytest.raises(OptionError, match="no value"):
        value_of("1\ny = 2")


def test_what_is_shown_is_short_and_printable():
    assert shown("\x1b[31m" * 100, 20).isprintable()
    assert len(shown("\x1b[31m" * 100, 20)) == 20
    assert shown([1, 2, "x"]) == '[1, 2, "x"]'
    assert shown(len) == "a builtin_function_or_method"
    assert shown(10**400)
    assert Entry("a", "b", 1, "f:1").where == "f:1"
