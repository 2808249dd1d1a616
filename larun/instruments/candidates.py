"""Cards of a header that may hold a quantity: of the right kind, of a plausible size, the likeliest first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from larun.model.frame import Frame
from larun.model.understood.plausible import RULES

__all__ = ["Comments", "candidates"]

_MOST = 6  # shown for a quantity
#: What a header counts and numbers is no measurement.
_NUMBERED = re.compile(r"(NUM|TYPE|ID)$")
#: Words of what is no detector: the gains of control loops, the temperatures of the dome.
_ELSEWHERE = re.compile(
    r"\b(air|ambient|building|control|dome|floor|focus|guid(er?|ing)|mirror|outside|servo|stabili[sz]ation|surface|tcs|"
    r"telescope|tower|truss|weather)\b",
    re.I,
)
_DETECTOR = re.compile(r"CCD|DET|CHIP|SENSOR|\b(dewar|cold (plate|finger)|array)\b", re.I)
_OF_DETECTOR = ("temperature", "gain", "read_noise", "saturation", "linear_limit")


class Comments:
    """Comments of a header by keyword; empty where there are none."""

    def __init__(self, comments: Any) -> None:
        self._comments = comments

    def get(self, key: str) -> str:
        """The comment of a card."""
        try:
            return str(self._comments[key])
        except (KeyError, IndexError, TypeError):
            return ""


def candidates(quantity: str, cards: Mapping[str, Any], comments: Comments) -> tuple[list[str], list[str]]:
    """Keywords larun knows for a quantity and finds, and others that sound like it, or whose comment does.

    Examples
    --------
    >>> cards = {"EXPNUM": 1038843, "EXPTYPE": "OBJECT", "EXPREQ": 615.0, "EXPTIME": 615.037}
    >>> candidates("exposure", cards, Comments({}))
    (['EXPTIME'], ['EXPREQ'])
    """
    table = Frame.all_keywords()
    known = [key for key in table[quantity] if key in cards]
    rule = RULES.get(quantity)
    if rule is None or not rule.like:
        return known, []
    like = re.compile(rule.like, re.I)
    settled = {key for names in table.values() for key in names}
    numbered = quantity not in ("kind", "chip")
    ranked = []
    for place, key in enumerate(cards):
        named, comment = like.search(key) is not None, comments.get(key)
        if key in settled or not (named or (not known and like.search(comment))):
            continue
        if (numbered and _NUMBERED.search(key)) or (rule.fits is not None and not rule.fits(cards[key])):
            continue
        if quantity in _OF_DETECTOR and _ELSEWHERE.search(comment):
            continue
        detector = quantity in _OF_DETECTOR and _DETECTOR.search(f"{key} {comment}") is not None
        near = max(difflib.SequenceMatcher(None, key, name).ratio() for name in table[quantity])
        ranked.append((not detector, not named, -near, place, key))
    if quantity == "temperature" and any(not elsewhere for elsewhere, *_ in ranked):
        ranked = [row for row in ranked if not row[0]]  # others are those of the weather
    return known, [key for *_, key in sorted(ranked)[:_MOST]]
