"""What tests of science frames share: grouping by filter, means of what frames say, words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from larun.algorithms.robust import Estimate, mad_sigma
from larun.model.checks.facts import FrameFacts

__all__ = ["by_filter", "combined", "grade", "listed"]


def by_filter(facts: Iterable[FrameFacts]) -> dict[str, list[FrameFacts]]:
    """Frames by their filter; ``""`` for those without."""
    made: dict[str, list[FrameFacts]] = {}
    for item in facts:
        made.setdefault(item.filter or "", []).append(item)
    return made


def combined(estimates: Sequence[Estimate]) -> Estimate:
    """The weighted mean of independent estimates, one that disagrees with the rest apart; NaN for none.

    Its error is that of the weights or that of the scatter, whichever is larger.
    """
    known = np.array([e for e in estimates if math.isfinite(e.value) and e.error > 0], np.float64).reshape(-1, 2)
    if not len(known):
        return Estimate(math.nan, math.nan)
    value, error = known.T
    middle = float(np.median(value))
    spread = mad_sigma(value, middle)
    kept = np.abs(value - middle) <= 5 * np.maximum(error, spread)
    value, weight = value[kept], 1 / error[kept] ** 2
    mean = float(np.sum(weight * value) / weight.sum())
    formal = 1 / math.sqrt(float(weight.sum()))
    if len(value) < 3:
        return Estimate(mean, formal)
    share = weight / weight.sum()
    seen = math.sqrt(float(np.sum(share**2 * (value - mean) ** 2)) / max(1 - float(np.sum(share**2)), 1e-9))
    return Estimate(mean, max(formal, seen))


def grade(gap: float, error: float, *, doubtful: float, bad: float, sigmas: float = 5.0) -> str:
    """Status of a departure: it must be significant, and larger than what may be."""
    if not (math.isfinite(gap) and math.isfinite(error)):
        return "untested"
    size = abs(gap)
    if size <= sigmas * error or size <= doubtful:
        return "good"
    return "bad" if size > bad else "doubtful"


def listed(words: Sequence[str], last: str = "or") -> str:
    """``a, b or c``.

    Examples
    --------
    >>> listed(["gain", "read noise", "flat"])
    'gain, read noise or flat'
    """
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
