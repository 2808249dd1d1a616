"""Kernel of :mod:`larun.algorithms.psf_field`: stars take the steps that were found for them, as far as they may."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.jit import kernel

__all__ = ["move_range"]

#: Below this signal to noise a position is not looked for: it is the one that was given.
_SEEN = 2.0
#: Longest step of a position, in FWHM.
_STRIDE = 0.4


@kernel
def move_range(groups: Any, found: Any, stars: Any, given: Any, rules: Any, start: int, stop: int) -> None:
    """Take the steps of the groups ``start`` to ``stop`` of those in ``todo``; each changes what is its own.

    ``found`` are steps, variances and steps of the skies, of ``step_range``. ``stars`` is what changes: flux, x, y
    (n, 3), what they were before (n, 3), the last step of the place (n, 2), the share of it that is taken (n), whether
    they are held, have settled, have moved (n, 3), and the groups' skies (g). ``given`` are the places where they began
    (n, 2), how far from them they may be (n), and whether they wait for a flux before their place is fitted (n).
    ``rules`` are the most light of a star, the FWHM, 1 / noise of a pixel, or 0 where the sky is none of the unknowns,
    and changes, in standard errors: the last, and one that nobody notices.
    """
    (todo, first, members), (steps, variances, sky_steps), (begin, limit, waiting) = groups, found, given
    (at, old, last, share, state, skies), (most, fwhm, per_noise, settled, unnoticed) = stars, rules
    for number in range(start, stop):
        group = todo[number]
        skies[group] += sky_steps[group]
        for star in members[first[group] : first[group + 1]]:
            for part in range(3):
                old[star, part] = at[star, part]
            lost = not abs(at[star, 0] + steps[star, 0]) <= most
            if lost:  # nothing is known of it: it leaves the model
                steps[star, 0], steps[star, 1], steps[star, 2] = -at[star, 0], 0.0, 0.0
            at[star, 0] += steps[star, 0]
            free, leave = not (waiting[star] or state[star, 0]), False
            taken = _tamed(steps[star], last[star], share[star : star + 1], free, _STRIDE * fwhm)
            if free:
                x, y = at[star, 1] + taken * steps[star, 1], at[star, 2] + taken * steps[star, 2]
                seen = at[star, 0] > _SEEN * math.sqrt(variances[star, 0]) and old[star, 0] > 0
                leave = not (seen and math.hypot(x - begin[star, 0], y - begin[star, 1]) <= limit[star])
                at[star, 1], at[star, 2] = (begin[star, 0], begin[star, 1]) if leave else (x, y)
            largest = abs(sky_steps[group]) * per_noise
            for part in range(3):
                if variances[star, part] > 0:
                    change = abs(at[star, part] - old[star, part]) / math.sqrt(variances[star, part])
                    largest = max(largest, change)
            if waiting[star] or leave:
                largest = np.inf  # what comes next has other unknowns
            elif largest <= unnoticed:
                for part in range(3):
                    at[star, part] = old[star, part]
            state[star, 0] = state[star, 0] or leave or lost
            state[star, 1] = largest <= settled
            state[star, 2] = largest > unnoticed and not lost


@kernel
def _tamed(step: Any, last: Any, share: Any, free: bool, longest: float) -> Any:
    """The share of the step of a place that is taken: not too far, and ever less where steps turn to and fro."""
    length = math.hypot(step[1], step[2])
    turned = step[1] * last[0] + step[2] * last[1] < 0 and length > 0.3 * math.hypot(last[0], last[1])
    share[0] = 0.5 * share[0] if turned else min(1.2 * share[0], 1.0)
    if free:
        last[0], last[1] = step[1], step[2]
    return min(share[0], longest / length) if length > 0 else share[0]
