"""What a verdict proposes must be possible with the frames at hand."""

from __future__ import annotations

from collections import Counter

import attrs

from larun.model.checks.material import Material
from larun.model.checks.verdict import Verdict

__all__ = ["possible"]

_MEASURED = "=measured"


def possible(verdict: Verdict, material: Material) -> Verdict:
    """A verdict whose fix is to measure gain or read noise, with another where no two flats of one filter tell it."""
    if _MEASURED not in verdict.fix:
        return verdict
    if material.exposures and not _flats_tell(material):
        fix = "give --keyword gain=… and read_noise=…: without two flats of one filter the night cannot measure them"
        return attrs.evolve(verdict, fix=fix)
    return verdict


def _flats_tell(material: Material) -> bool:
    return max(Counter(str(item.filter) for item in material.of("flat")).values(), default=0) > 1
