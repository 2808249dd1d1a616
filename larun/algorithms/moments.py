"""Adaptive second moments of a source in a stamp: the kernels behind :mod:`larun.algorithms.shapes`.

A Gaussian weight is matched to the source (Bernstein & Jarvis 2002, AJ 123, 583, section 3) and taken off the moments
seen through it: for Gaussians, inverse covariances subtract.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from larun.algorithms.jit import kernel
from larun.algorithms.peaks import PIXEL_VARIANCE
from larun.algorithms.stamps import load, window_sums

__all__ = ["moments"]

_ITERATIONS = 60
#: A step is made at most so many times longer.
_FARTHEST = 4.0
#: Variance of the narrowest weight, px^2: products of a narrower one with a sharp star are not sampled by the pixels.
_NARROWEST = 1.0
#: A Gaussian weight of variance k times the deconvolved one makes a Moffat profile exp(c g(k)) too wide, where c tells
#: its wings and ln g is this polynomial of ln k without a constant (by integration of the profile; within 8 % of g for
#: beta 2.5 to infinity and k from 0.5 to 4). Two weights tell c.
_WINGS = (0.865, -0.298, 0.0603)


@kernel
def moments(stamp: Any, cx: float, cy: float, sigma: float, growth: float) -> tuple[float, float, float, float]:
    """Moments less the pixel, and the factor from the Gaussian's FWHM to the profile's."""
    failed = (np.nan, np.nan, np.nan, np.nan)
    xx, xy, yy, cx, cy, matched = _adapted(stamp, cx, cy, sigma, growth)
    if not matched:
        # a neighbour drew the weight away: the weight of a star, where it is
        xx, xy, yy, _, _, valid = _deconvolved(stamp, cx, cy, (sigma**2, 0.0, sigma**2))
        xx, yy = xx - PIXEL_VARIANCE, yy - PIXEL_VARIANCE
        if valid and xx > 0 and yy > 0 and xx * yy > xy * xy:
            return xx, xy, yy, np.nan
        return failed
    # a second weight, half as wide where the pixels sample that, tells the wings from the core
    first = max(math.sqrt(xx * yy - xy * xy), _NARROWEST)
    share = 0.5 if 0.5 * first >= _NARROWEST else 2.0
    second = (share * max(xx, _NARROWEST), share * xy, share * max(yy, _NARROWEST))
    oxx, oxy, oyy, _, _, valid = _deconvolved(stamp, cx, cy, second)
    size, other = math.sqrt(xx * yy - xy * xy), math.sqrt(max(oxx * oyy - oxy * oxy, 0.0))
    xx, yy, oxx, oyy = xx - PIXEL_VARIANCE, yy - PIXEL_VARIANCE, oxx - PIXEL_VARIANCE, oyy - PIXEL_VARIANCE
    if not (xx > 0 and yy > 0 and xx * yy > xy * xy):
        return failed
    if not (valid and oxx > 0 and oyy > 0 and oxx * oyy > oxy * oxy):
        return xx, xy, yy, np.nan
    ratio = math.sqrt((xx * yy - xy * xy) / (oxx * oyy - oxy * oxy))
    here, there = _wings(first / size), _wings(share * first / other)
    factor = math.sqrt(ratio) ** (-here / (here - there))
    return xx, xy, yy, factor if 0.4 < factor < 2.5 else np.nan


@kernel
def _wings(share: float) -> float:
    step = math.log(share)
    return math.exp(step * (_WINGS[0] + step * (_WINGS[1] + step * _WINGS[2])))


@kernel
def _adapted(
    stamp: Any, cx: float, cy: float, sigma: float, growth: float
) -> tuple[float, float, float, float, float, bool]:
    """Moments and centre under the weight that matches them; the starting centre and False where there is none.

    They are the fixed point of "moments under a weight of these moments". Each step goes on from the last two in the
    direction in which these differ, as far as the change of the change tells (Anderson 1965, J. ACM 12, 547, with a
    memory of one).
    """
    largest = (growth * sigma) ** 2
    now = (sigma**2, 0.0, sigma**2, cx, cy)
    before, before_step = now, (0.0, 0.0, 0.0, 0.0, 0.0)
    for n in range(_ITERATIONS):
        xx, xy, yy, x, y = now
        weight = (max(xx, _NARROWEST), xy, max(yy, _NARROWEST))
        mxx, mxy, myy, dx, dy, valid = _deconvolved(stamp, x, y, weight)
        made = (mxx, mxy, myy, x + dx, y + dy)
        if not valid or not _possible(made, cx, cy, sigma, largest):
            break
        step = (mxx - xx, mxy - xy, myy - yy, dx, dy)
        size = mxx + myy
        if max(abs(step[0]), abs(step[1]), abs(step[2])) < 1e-4 * size and dx * dx + dy * dy < 1e-6:
            return mxx, mxy, myy, made[3], made[4], True
        now = made
        if n > 0:
            share = _share(step, before_step, size)
            further = (
                made[0] - share * (made[0] - before[0]),
                made[1] - share * (made[1] - before[1]),
                made[2] - share * (made[2] - before[2]),
                made[3] - share * (made[3] - before[3]),
                made[4] - share * (made[4] - before[4]),
            )
            if _possible(further, cx, cy, sigma, largest):
                now = further
        before, before_step = made, step
    return sigma**2, 0.0, sigma**2, cx, cy, False


@kernel
def _possible(made: tuple[float, ...], cx: float, cy: float, sigma: float, largest: float) -> bool:
    """Whether moments and centre are those of an ellipse of the size of a source, near where it began."""
    xx, xy, yy, x, y = made
    near = (x - cx) ** 2 + (y - cy) ** 2 <= sigma**2
    return near and xx > 0 and yy > 0 and xx * yy > xy * xy and max(xx, yy) <= largest


@kernel
def _share(step: Any, before: Any, size: float) -> float:
    """How much of the way back from one result to the one before makes the step smallest; negative to go further."""
    scale = 100.0 / size**2  # the centre must settle within ten times as much
    d0, d1, d2, d3, d4 = (
        step[0] - before[0],
        step[1] - before[1],
        step[2] - before[2],
        step[3] - before[3],
        step[4] - before[4],
    )
    product = scale * (step[0] * d0 + step[1] * d1 + step[2] * d2) + step[3] * d3 + step[4] * d4
    squared = scale * (d0 * d0 + d1 * d1 + d2 * d2) + d3 * d3 + d4 * d4
    return min(max(product / squared, -_FARTHEST), 0.5) if squared > 0 else 0.0


@kernel
def _deconvolved(stamp: Any, cx: float, cy: float, weight: Any) -> tuple[float, float, float, float, float, bool]:
    """Moments under one Gaussian weight, with the weight taken off; the step of the centre; whether it worked."""
    failed = (0.0, 0.0, 0.0, 0.0, 0.0, False)
    wxx, wxy, wyy = weight
    det = wxx * wyy - wxy * wxy
    if not det > 0.01 * wxx * wyy:
        return failed
    a, b, c = wyy / det, -wxy / det, wxx / det
    half_y, half_x = int(np.ceil(3.5 * math.sqrt(wyy))), int(np.ceil(3.5 * math.sqrt(wxx)))
    load(stamp, max(abs(round(cy)) + half_y, abs(round(cx)) + half_x))
    total, sx, sy, sxx, sxy, syy = window_sums(stamp, (cx, cy), (a, b, c))
    if not total > 0:
        return failed
    sx, sy = sx / total, sy / total
    sxx, sxy, syy = sxx / total - sx * sx, sxy / total - sx * sy, syy / total - sy * sy
    seen = sxx * syy - sxy * sxy
    if not (sxx > 0 and syy > 0 and seen > 0):
        return failed
    ia, ib, ic = syy / seen - a, -sxy / seen - b, sxx / seen - c
    inverse = ia * ic - ib * ib
    if ia > 0 and ic > 0 and inverse > 0 and ic < 4 * inverse * wxx and ia < 4 * inverse * wyy:
        return ic / inverse, -ib / inverse, ia / inverse, 2 * sx, 2 * sy, True
    # much larger than the weight, or noise: the slower step that is always positive
    return 2 * sxx, 2 * sxy, 2 * syy, 2 * sx, 2 * sy, True
