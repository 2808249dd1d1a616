"""The kernels of :mod:`larun.algorithms.combine`: a stretch of one row in every frame at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel
from larun.algorithms.order import median_of, sort_lanes
from larun.flags import NO_DATA, UNUSABLE

__all__ = [
    "MAD",
    "MAD_TO_SIGMA",
    "MEAN",
    "MEDIAN",
    "NOISE",
    "ROUNDING",
    "Combined",
    "Inputs",
    "Plan",
    "combine_rows",
    "mad_limit",
    "reject_mad",
    "reject_noise",
]

# what the kernels are told: the method, with the way to clip
MEDIAN, MEAN, NOISE, MAD = 0, 1, 2, 3

MAD_TO_SIGMA = 1.4826022185056018
ROUNDING = 4.0 * float(np.finfo(np.float32).eps)  # values this close (relative) are equal


class Combined(NamedTuple):
    """What a combination gives, (rows, nx) each.

    Attributes
    ----------
    data : ndarray of float32
        The combined value; NaN where every frame is masked.
    variance : ndarray of float32
        Its variance; NaN where the data are NaN.
    flags : ndarray of uint32
        OR of the flags of the frames that contribute (none of which is UNUSABLE). Where every frame is masked:
        ``NO_DATA`` and the OR of all their flags, which says what masked them.
    count : ndarray of uint16
        Frames that contribute.
    rejected : ndarray of uint16
        Frames rejected by the clip.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    count: NDArray[np.uint16]  # type: ignore[assignment]  # hides tuple.count
    rejected: NDArray[np.uint16]


class Inputs(NamedTuple):
    """The frames as the kernels see them; ``variance`` is empty where there is none."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    weights: NDArray[np.float64]


class Plan(NamedTuple):
    """The settings as the kernels see them."""

    method: int
    sigma: float
    easiest: float  # the least factor on a variance that a limit can have
    lanes: int
    network: NDArray[np.int64]  # (comparators, 2)
    factor: NDArray[np.float64]  # by count: of the median's variance, or of the MAD
    relative: NDArray[np.float64]  # (n,) variance of each frame relative to the typical one
    signal: NDArray[np.float64]  # the inflation of the variance, a table in signal
    ratio: NDArray[np.float64]


class Lanes(NamedTuple):
    """Scratch of one thread: a stretch of one row in every frame."""

    values: NDArray[np.float32]  # (n, lanes) in frame order, NaN where masked or rejected
    order: NDArray[np.float32]  # (n, lanes) for sorting
    low: NDArray[np.float32]  # the lower and upper median
    high: NDArray[np.float32]
    number: NDArray[np.int64]  # usable values
    rejected: NDArray[np.int64]
    sums: NDArray[np.float64]  # (4, lanes)
    column: NDArray[np.float64]  # (n,) one pixel
    centres: NDArray[np.float32]  # of a whole row, for clip="mad": the lower median
    spreads: NDArray[np.float64]  # and what the clip measures by
    ranks: NDArray[np.float64]  # to find the median of the spreads


@kernel
def _scratch(frames: int, lanes: int, nx: int) -> Lanes:
    return Lanes(
        np.empty((frames, lanes), np.float32),
        np.empty((frames, lanes), np.float32),
        np.empty(lanes, np.float32),
        np.empty(lanes, np.float32),
        np.empty(lanes, np.int64),
        np.empty(lanes, np.int64),
        np.empty((4, lanes), np.float64),
        np.empty(frames, np.float64),
        np.empty(nx, np.float32),
        np.empty(nx, np.float64),
        np.empty(nx, np.float64),
    )


@kernel
def combine_rows(start: int, stop: int, inputs: Inputs, plan: Plan, out: Combined) -> None:
    """Combine some rows; writes every plane of ``out``."""
    nx = inputs.data.shape[2]
    lanes = _scratch(inputs.data.shape[0], plan.lanes, nx)
    for y in range(start, stop):
        typical = _row_spread(y, inputs, plan, lanes) if plan.method == MAD else 0.0
        for x0 in range(0, nx, plan.lanes):
            width = min(plan.lanes, nx - x0)
            _load(y, x0, width, inputs, lanes)
            if plan.method == MEDIAN or plan.method == NOISE:
                _middle(width, plan.network, lanes)
            if plan.method == NOISE:
                _clip_noise(y, x0, width, inputs, plan, lanes)
            elif plan.method == MAD:
                _clip_mad(x0, width, plan, typical, lanes)
            _finish(y, x0, width, inputs, lanes, out)
            if plan.method == MEDIAN:
                _median_out(y, x0, width, inputs, plan, lanes, out)


@kernel
def _load(y: int, x0: int, width: int, inputs: Inputs, lanes: Lanes) -> None:
    """Fill ``values``, and ``order`` with masked values put alternately at both ends."""
    infinity = np.float32(np.inf)
    nan = np.float32(np.nan)
    frames = inputs.data.shape[0]
    for j in range(width):
        lanes.number[j] = 0
        lanes.rejected[j] = 0
        lanes.low[j] = infinity  # the end that the next masked value of this pixel goes to
    for k in range(frames):
        data = inputs.data[k, y, x0 : x0 + width]
        flags = inputs.flags[k, y, x0 : x0 + width]
        values = lanes.values[k]
        if inputs.weights[k] == 0.0:
            for j in range(width):
                values[j] = nan
        elif inputs.variance.size:
            variance = inputs.variance[k, y, x0 : x0 + width]
            for j in range(width):
                good = (flags[j] & UNUSABLE) == 0 and abs(data[j]) < infinity and 0 <= variance[j] < infinity
                values[j] = data[j] if good else nan
        else:
            for j in range(width):
                good = (flags[j] & UNUSABLE) == 0 and abs(data[j]) < infinity
                values[j] = data[j] if good else nan
        order = lanes.order[k]
        for j in range(width):
            good = values[j] == values[j]
            order[j] = values[j] if good else lanes.low[j]
            lanes.low[j] = lanes.low[j] if good else -lanes.low[j]
            lanes.number[j] += 1 if good else 0


@kernel
def _middle(width: int, network: NDArray[np.int64], lanes: Lanes) -> None:
    """Sort ``order`` as far as needed; ``low`` and ``high`` become the lower and the upper median."""
    frames = lanes.order.shape[0]
    sort_lanes(width, network, lanes.order)
    below, above = lanes.order[max(frames // 2 - 1, 0)], lanes.order[frames // 2]
    odd = frames % 2 == 1
    for j in range(width):
        even_count = lanes.number[j] % 2 == 0
        a, b = below[j], above[j]
        lanes.low[j] = b if odd and not even_count else a
        lanes.high[j] = b if odd or even_count else a


@kernel
def _clip_noise(y: int, x0: int, width: int, inputs: Inputs, plan: Plan, lanes: Lanes) -> None:
    """Reject what is too far from the lower median for the noise model."""
    frames = inputs.data.shape[0]
    distance, smallest = lanes.sums[0], lanes.sums[1]
    for j in range(width):
        distance[j] = 0.0
        smallest[j] = np.inf
    for k in range(frames):
        variance = inputs.variance[k, y, x0 : x0 + width]
        scale = 1.0 / plan.relative[k]
        values = lanes.values[k]
        for j in range(width):
            d = abs(np.float64(values[j]) - lanes.low[j])
            v = variance[j] * scale if values[j] == values[j] else np.inf
            distance[j] = d if d > distance[j] else distance[j]
            smallest[j] = v if v < smallest[j] else smallest[j]
    # only pixels where the smallest variance says "too far" need the median variance
    for j in range(width):
        if distance[j] ** 2 > plan.easiest * smallest[j]:
            reference = np.float64(lanes.low[j])
            lanes.rejected[j] = reject_noise(
                lanes.values[:, j], inputs.variance[:, y, x0 + j], reference, plan, lanes.column
            )


@kernel
def reject_noise(values: Any, variance: Any, reference: float, plan: Plan, column: NDArray[np.float64]) -> int:
    """Put NaN in place of the values of one pixel that are too far from the reference; how many those are."""
    usable, rejected = 0, 0
    for k in range(len(values)):
        usable += 1 if values[k] == values[k] else 0
    limit = plan.sigma**2 * _ratio_at(reference, plan)
    limit *= _median_variance(values, variance, plan, column)
    if usable == 2:
        limit *= 2.0  # the difference of two values, not of one and the truth
    least = (ROUNDING * reference) ** 2
    for k in range(len(values)):
        # a masked value is NaN and compares false
        if (values[k] - reference) ** 2 > max(limit * plan.relative[k], least):
            values[k] = np.nan
            rejected += 1
    return rejected


@kernel
def reject_mad(values: Any, reference: float, limit: float) -> int:
    """Put NaN in place of the values of one pixel that are beyond the limit; how many those are."""
    rejected = 0
    for k in range(len(values)):
        if abs(values[k] - reference) > limit:
            values[k] = np.nan
            rejected += 1
    return rejected


@kernel
def _median_variance(values: Any, variance: Any, plan: Plan, column: NDArray[np.float64]) -> float:
    """Median over the unmasked frames of the variance of one pixel, each relative to what its frame has."""
    used = 0
    for k in range(len(values)):
        if values[k] == values[k]:
            column[used] = variance[k] / plan.relative[k]
            used += 1
    for k in range(1, used):  # few values: insertion sort
        value, i = column[k], k
        while i > 0 and column[i - 1] > value:
            column[i] = column[i - 1]
            i -= 1
        column[i] = value
    return (column[(used - 1) // 2] + column[used // 2]) / 2.0  # type: ignore[no-any-return]


@kernel
def _ratio_at(signal: float, plan: Plan) -> float:
    """The inflation at one signal: linear between the bins, constant outside."""
    last = len(plan.signal) - 1
    if last == 0 or signal <= plan.signal[0]:
        return plan.ratio[0]  # type: ignore[no-any-return]
    for i in range(1, last + 1):
        if signal < plan.signal[i]:
            part = (signal - plan.signal[i - 1]) / (plan.signal[i] - plan.signal[i - 1])
            return plan.ratio[i - 1] + part * (plan.ratio[i] - plan.ratio[i - 1])  # type: ignore[no-any-return]
    return plan.ratio[last]  # type: ignore[no-any-return]


@kernel
def _row_spread(y: int, inputs: Inputs, plan: Plan, lanes: Lanes) -> float:
    """Fill ``centres`` and ``spreads`` of a row from the MAD of every pixel; the median of the spreads, 0 without any.

    A pixel of fewer than three values has no spread: NaN.
    """
    infinity = np.float32(np.inf)
    frames, _, nx = inputs.data.shape
    for x0 in range(0, nx, plan.lanes):
        width = min(plan.lanes, nx - x0)
        _load(y, x0, width, inputs, lanes)
        _middle(width, plan.network, lanes)
        reference = lanes.centres[x0 : x0 + width]
        for j in range(width):
            reference[j] = lanes.low[j]
            lanes.low[j] = infinity
        for k in range(frames):
            values, order = lanes.values[k], lanes.order[k]
            for j in range(width):
                good = values[j] == values[j]
                order[j] = abs(values[j] - reference[j]) if good else lanes.low[j]
                lanes.low[j] = lanes.low[j] if good else -lanes.low[j]
        _middle(width, plan.network, lanes)
        for j in range(width):
            mad = (np.float64(lanes.low[j]) + lanes.high[j]) / 2.0
            count = lanes.number[j]
            lanes.spreads[x0 + j] = MAD_TO_SIGMA * plan.factor[count] * mad if count > 2 else np.nan
    known = 0
    for x in range(nx):
        if lanes.spreads[x] == lanes.spreads[x]:
            lanes.ranks[known] = lanes.spreads[x]
            known += 1
    return median_of(lanes.ranks, known) if known else 0.0


@kernel
def mad_limit(reference: float, own: float, plan: Plan, typical: float) -> float:
    """How far a value may lie from the reference; the spread as found is too small rather than too large."""
    return max(plan.sigma * max(own, typical), ROUNDING * abs(reference))


@kernel
def _clip_mad(x0: int, width: int, plan: Plan, typical: float, lanes: Lanes) -> None:
    """Reject what is too far from the lower median for the spread of the values."""
    for j in range(width):
        if lanes.number[j] > 2:
            reference = np.float64(lanes.centres[x0 + j])
            limit = mad_limit(reference, lanes.spreads[x0 + j] / plan.factor[lanes.number[j]], plan, typical)
            lanes.rejected[j] = reject_mad(lanes.values[:, j], reference, limit)


@kernel
def _finish(y: int, x0: int, width: int, inputs: Inputs, lanes: Lanes, out: Combined) -> None:
    """Average what is left in ``values`` and write every plane."""
    frames = inputs.data.shape[0]
    weight, total, noise, squares = lanes.sums[0], lanes.sums[1], lanes.sums[2], lanes.sums[3]
    flags = out.flags[y, x0 : x0 + width]
    for j in range(width):
        weight[j] = 0.0
        squares[j] = 0.0
        total[j] = 0.0
        noise[j] = 0.0
        lanes.number[j] = 0
        flags[j] = 0
    for k in range(frames):
        w = inputs.weights[k]
        values = lanes.values[k]
        bits = inputs.flags[k, y, x0 : x0 + width]
        for j in range(width):
            good = values[j] == values[j]
            weight[j] += w if good else 0.0
            total[j] += w * values[j] if good else 0.0
            lanes.number[j] += 1 if good else 0
            flags[j] |= bits[j] if good else np.uint32(0)
    for k in range(frames):
        w2 = inputs.weights[k] ** 2
        values = lanes.values[k]
        if inputs.variance.size:
            variance = inputs.variance[k, y, x0 : x0 + width]
            for j in range(width):
                noise[j] += w2 * variance[j] if values[j] == values[j] else 0.0
        else:
            for j in range(width):
                d = values[j] - total[j] / weight[j]
                noise[j] += d * d if values[j] == values[j] else 0.0
                squares[j] += w2 if values[j] == values[j] else 0.0
    for j in range(width):
        count = lanes.number[j]
        out.data[y, x0 + j] = total[j] / weight[j]  # 0/0 is the NaN of a pixel without values
        if not inputs.variance.size:  # the scatter of one value is the same for all of them
            noise[j] *= squares[j] / (count - 1)
        out.variance[y, x0 + j] = noise[j] / weight[j] ** 2
        out.count[y, x0 + j] = count
        out.rejected[y, x0 + j] = lanes.rejected[j]
        if count == 0:
            for k in range(frames):
                flags[j] |= inputs.flags[k, y, x0 + j]
            flags[j] |= NO_DATA


@kernel
def _median_out(y: int, x0: int, width: int, inputs: Inputs, plan: Plan, lanes: Lanes, out: Combined) -> None:
    """Put the median and its variance in place of the mean's."""
    inverse = lanes.sums[0]
    for j in range(width):
        inverse[j] = 0.0
    if inputs.variance.size:
        for k in range(inputs.data.shape[0]):
            values = lanes.values[k]
            variance = inputs.variance[k, y, x0 : x0 + width]
            for j in range(width):
                inverse[j] += 1.0 / np.sqrt(np.float64(variance[j])) if values[j] == values[j] else 0.0
    for j in range(width):
        count = lanes.number[j]
        if count > 2:  # one or two values: the median is the mean
            out.data[y, x0 + j] = (np.float64(lanes.low[j]) + lanes.high[j]) / 2.0
            factor = plan.factor[count]
            if inputs.variance.size:
                out.variance[y, x0 + j] = factor * count / inverse[j] ** 2
            else:
                out.variance[y, x0 + j] *= factor
