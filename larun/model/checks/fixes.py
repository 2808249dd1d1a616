"""What a verdict proposes must be possible with the frames at hand."""

from __future__ import annotations

from collections import Counter

import attrs

from larun.model.checks.material import Material
from larun.model.checks.verdict import Verdict

__all__ = ["possible"]

_MEASURED = "=measured"


def possible(verdict: Verdict, material: Material) -> Verdict:
    """A verdict whose fix is to measure gain or read noise, with another where that cannot be or would not help.

    Errors that are too large because the darks hold their bias, whose level counts as charge, are no matter of the
    gain; and without two flats of one filter the night cannot measure it.
    """
    if _MEASURED not in verdict.fix:
        return verdict
    too_large = verdict.expected == 1.0 and verdict.value is not None and verdict.value < 1.0
    if too_large and _darks_hold_bias(material):
        return attrs.evolve(verdict, fix="take biases: the darks hold theirs, whose level counts as if it were charge")
    if material.exposures and not _flats_tell(material):
        fix = "give --keyword gain=… and read_noise=…: without two flats of one filter the night cannot measure them"
        return attrs.evolve(verdict, fix=fix)
    return verdict


def _darks_hold_bias(material: Material) -> bool:
    darks = material.masters.of("dark")
    return not material.masters.of("bias") and any(not dark.criteria.get("bias_removed") for dark in darks)


def _flats_tell(material: Material) -> bool:
    return max(Counter(str(item.filter) for item in material.of("flat")).values(), default=0) > 1
