"""HTML in which nothing that a stranger wrote is more than text."""

import html

from larun.markup import Markup, cell, joined, pairs, table

EVIL = "<script>alert('1')</script>\x1b[31m\u202e\" onload=x"


def test_text_is_escaped_and_markup_stays():
    for made in (cell(EVIL), joined([EVIL]), pairs([(EVIL, EVIL)]), table([EVIL], [[EVIL]])):
        assert "<script" not in made
        assert "\x1b" not in made
        assert "\u202e" not in made
        assert '" onload' not in made
    assert html.unescape(cell(EVIL)).startswith("<script>alert('1')</script>")
    assert joined([Markup("<b>"), "a<b", Markup("</b>")]) == "<b>a&lt;b</b>"


def test_long_text_is_cut_before_it_is_escaped():
    made = cell("&" * 1000)
    assert html.unescape(made) == "&" * 199 + "…"


def test_missing_values():
    assert cell(None) == cell("") == "–"
    assert "name" not in pairs([("name", None), ("other", 0)])
    assert ">0<" in pairs([("name", None), ("other", 0)])
