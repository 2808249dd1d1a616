"""Cards that come once for each amplifier: ``DSECA`` and ``DSECB``, ``GAIN1`` to ``GAIN4``, or ``BSEC11``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from larun.detector import Section
from larun.errors import HeaderError
from larun.io.headers import get_number
from larun.io.sections import parse_section

__all__ = ["Family", "section_families", "value_families"]

_ENDING = re.compile(r"(?P<base>[A-Z_-]+?)(?P<ending>[A-P]|[1-9]|[12][12])")
_OVERSCAN = re.compile(r"^(B|BIAS_?|OV(ER)?(SC(AN)?|SC?N)?_?|OSC?N?_?)SE?C", re.I)
_DATA = re.compile(r"^(T|D|TRIM_?|DATA_?|IM(AGE)?_?|SCI_?)SE?C", re.I)


class Family(NamedTuple):
    """Cards that differ in a letter or a number at their end."""

    base: str
    """What they have in common: a row of ``keywords`` names it."""
    cards: tuple[str, ...]
    """Their keywords."""
    row: str | None
    """``"trim"`` or ``"overscan"``, or the quantity; None where it is not clear."""

    def __str__(self) -> str:
        return ", ".join(self.cards) if len(self.cards) < 4 else f"{self.cards[0]} … {self.cards[-1]}"


def section_families(header: Mapping[str, Any]) -> tuple[Family, ...]:
    """Families whose values are sections that do not overlap; those for ``trim`` and ``overscan`` by their names.

    Examples
    --------
    >>> cards = {"DSECA": "[33:64,1:9]", "DSECB": "[65:96,1:9]", "BSECA": "[1:32,1:9]", "BSECB": "[97:128,1:9]"}
    >>> [(family.base, family.row) for family in section_families(cards)]
    [('DSEC', 'trim'), ('BSEC', 'overscan')]
    """
    found = []
    for base, cards in _grouped(header).items():
        sections = [_section(header[card], card) for card in cards]
        known = [section for section in sections if section is not None]
        if len(known) < len(cards) or any(a.intersect(b) for a, b in itertools.combinations(known, 2)):
            continue
        row = "overscan" if _OVERSCAN.match(base) else "trim" if _DATA.match(base) else None
        found.append(Family(base, cards, row))
    return tuple(found)


def value_families(header: Mapping[str, Any], keywords: Mapping[str, tuple[str, ...]]) -> tuple[Family, ...]:
    """Families of numbers under the keywords of a quantity: ``GAINA`` and ``GAINB`` where ``GAIN`` is looked for.

    Examples
    --------
    >>> value_families({"GAINA": 1.5, "GAINB": 1.6, "MAXLINA": 1}, {"gain": ("GAIN",)})
    (Family(base='GAIN', cards=('GAINA', 'GAINB'), row='gain'),)
    """
    rows = {keyword[:7]: quantity for quantity, names in keywords.items() for keyword in names}
    whole = {keyword for names in keywords.values() for keyword in names}  # SATURATE is no amplifier E
    found = []
    for base, all_cards in _grouped(header).items():
        cards = tuple(card for card in all_cards if card not in whole)
        if base in rows and len(cards) > 1 and all(get_number(header, (card,)).value is not None for card in cards):
            found.append(Family(base, cards, rows[base]))
    return tuple(found)


def _grouped(header: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Keywords of two cards and more by what they have in common; letters and numbers are families of their own."""
    found: dict[tuple[str, str], list[str]] = {}
    for key in header:
        if (match := _ENDING.fullmatch(str(key))) is not None:
            ending = match["ending"]
            kind = "letter" if ending.isalpha() else f"{len(ending)} digits"
            cards = found.setdefault((match["base"], kind), [])
            if key not in cards:
                cards.append(str(key))
    return {base: tuple(cards) for (base, _), cards in found.items() if len(cards) > 1}


def _section(value: Any, card: str) -> Section | None:
    if not isinstance(value, str) or ":" not in value:
        return None
    try:
        return parse_section(value, card)
    except HeaderError:
        return None
