"""What tests of science frames share: grouping by filter, means of what frames say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from larun.algorithms.robust import Estimate, mad_sigma
from larun.model.checks.facts import FrameFacts

__all__ = ["by_filter", "combined"]


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
