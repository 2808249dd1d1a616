"""What reading cards leaves behind beside values: sources, problems, doubts; and what a card's comment says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["GIVEN", "Keywords", "Notes", "comment_of", "is_given"]

Keywords = Mapping[str, tuple[str, ...]]

#: Comment of a card that the caller gave: it goes before what the camera wrote.
GIVEN = "given to larun"


@attrs.define
class Notes:
    """What is learned on the way: where each quantity came from, what was impossible, what is doubtful."""

    sources: dict[str, str] = attrs.field(factory=dict)
    problems: dict[str, list[str]] = attrs.field(factory=dict)
    doubts: list[str] = attrs.field(factory=list)

    def problem(self, quantity: str, text: str) -> None:
        """Note what is wrong with a card."""
        self.problems.setdefault(quantity, []).append(text)

    def missing(self, quantity: str, keywords: Iterable[str]) -> None:
        """Say why there is no value: the impossible cards, or that there are none."""
        wrong = self.problems.get(quantity, [])
        self.sources[quantity] = "; ".join(wrong) or f"none of {', '.join(keywords)} found"


def is_given(header: Header, keyword: str | None) -> bool:
    """Whether a card was given by the caller."""
    return comment_of(header, keyword) == GIVEN


def comment_of(header: Any, keyword: str | None) -> str:
    """The comment of a card; empty where there is no card, or a mapping without comments."""
    comments = getattr(header, "comments", None)
    if keyword is None or comments is None:
        return ""
    try:
        return str(comments[keyword])
    except Exception:  # a card astropy cannot parse has no comment either
        return ""
