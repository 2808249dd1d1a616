"""Many frames become one: median, mean and clipped mean, with masks, weights and propagated variance.

Every pixel is worked out from its own column of values (and, for ``clip="mad"``, its own row), in the order the frames
are given, in float64. So the result does not depend on how the rows are cut or on how many threads work. It depends on
the order of the frames in the last bit: give them in an order of their own (sorted by digest) to be free of the order
in which files were listed.

The median comes from a sorting network that compares whole lanes of pixels at a time. Masked values are replaced in
turn by +inf and -inf, which keeps the middle of the sorted column where it is; a column that is masked in some frames
gives exactly what it would give without those frames.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.combine_kernels import MAD, MEAN, MEDIAN, NOISE, Combined, Inputs, Plan, combine_rows
from larun.algorithms.inflation import Inflation
from larun.algorithms.jit import over_rows
from larun.algorithms.order import median_network
from larun.algorithms.stored_kernels import Complete, Stored, complete_row, stored_rows
from larun.errors import OptionError

__all__ = ["CombineOptions", "Combined", "Combiner", "combine", "median_efficiency"]

METHODS = ("median", "mean", "clipped")
CLIPS = ("noise", "mad")

# N Var(median of N) / σ² for Gaussian values, N = 0 … 30 (the mean of the two middle values for even N), from the
# density of the order statistics (David & Nagaraja 2003, Order Statistics, eq. 2.1.6 and 2.3.2) by quadrature
_MEDIAN_FACTOR = (
    math.nan, 1.0, 1.0, 1.3460133, 1.1927985, 1.4341683, 1.2884560, 1.4731280, 1.3454468, 1.4949115, 1.3832644,
    1.5087868, 1.4101942, 1.5183869, 1.4303497, 1.5254198, 1.4460034, 1.5307919, 1.4585132, 1.5350285, 1.4687406,
    1.5384549, 1.4772584, 1.5412828, 1.4844626, 1.5436564, 1.4906355, 1.5456770, 1.4959838, 1.5474177, 1.5006627,
)  # fmt: skip

# makes the median of 1.4826 MAD of N Gaussian values equal to σ, N = 0 … 30; deviations are from the lower median.
# Simulated with 3e7 columns (own error 2e-4); fewer than three values have no spread worth the name
_MAD_FACTOR = (
    0.0, 0.0, 0.0, 1.8682, 1.2816, 1.3396, 1.1920, 1.2088, 1.1433, 1.1505, 1.1137, 1.1177, 1.0935, 1.0964, 1.0799,
    1.0818, 1.0694, 1.0710, 1.0618, 1.0627, 1.0553, 1.0559, 1.0502, 1.0510, 1.0458, 1.0466, 1.0422, 1.0427, 1.0390,
    1.0397, 1.0366,
)  # fmt: skip


@attrs.frozen(kw_only=True)
class CombineOptions:
    """How frames are combined.

    Parameters
    ----------
    method : {"clipped", "median", "mean"}
        ``"clipped"``: the mean of the values that are not too far from their median.
    clip : {"noise", "mad"}
        What "far" is measured by: the noise model of the frames, or the spread of the values themselves.
    sigma : float
        How many standard deviations are too far; from 3 to 100. At 3 the clip costs 3 to 8 % of the efficiency and the
        reported σ is 1.5 to 3.5 % low; from 4 on neither shows.

    Raises
    ------
    OptionError
        If an option has a value that is not listed here.

    Examples
    --------
    >>> CombineOptions(method="median").sigma
    5.0
    """

    method: str = attrs.field(default="clipped")
    clip: str = attrs.field(default="noise")
    sigma: float = attrs.field(default=5.0, converter=float)

    @method.validator
    def _method_is_known(self, attribute: object, value: str) -> None:
        if value not in METHODS:
            raise OptionError(f"method = {value!r}: use one of {', '.join(METHODS)}")

    @clip.validator
    def _clip_is_known(self, attribute: object, value: str) -> None:
        if value not in CLIPS:
            raise OptionError(f"clip = {value!r}: use one of {', '.join(CLIPS)}")

    @sigma.validator
    def _sigma_makes_sense(self, attribute: object, value: float) -> None:
        if not 3 <= value <= 100:
            raise OptionError(f"sigma = {value}: must be from 3 to 100 (a lower clip throws away good pixels)")

    @property
    def code(self) -> int:
        """The number the kernels know the method by."""
        if self.method == "clipped":
            return NOISE if self.clip == "noise" else MAD
        return MEDIAN if self.method == "median" else MEAN


def combine(
    data: ArrayLike,
    variance: ArrayLike | None,
    flags: ArrayLike,
    *,
    options: CombineOptions,
    weights: ArrayLike | None = None,
    inflation: float | Inflation = 1.0,
) -> Combined:
    """Combine the same rows of many frames.

    - ``"mean"``: the weighted mean, Σ w x / Σ w, variance Σ w² v / (Σ w)². Weights are one number a frame: a weight
      made from a pixel's own variance would favour the pixels that happened to be low.
    - ``"median"``: the median. Its variance is that of the median of N Gaussian values with the given variances,
      f(N) N / (Σ 1/σ)², with the exact f(N) (1.346 for N = 3, π/2 for many), never the scatter of the values.
    - ``"clipped"``: values too far from the reference are rejected and the rest averaged as in ``"mean"``. The
      reference is the median, of an even number of values the lower of the middle two: it is one of the values, so at
      least one is always kept, and since cosmic rays only add it is the safer one. With ``clip="noise"`` a value is
      rejected when it is more than ``sigma`` standard deviations of the noise model away. The model's variance is the
      median over the frames, scaled to each frame and multiplied by the inflation: never the value's own, which an
      outlier raises. With ``clip="mad"`` the standard deviation is 1.4826 MAD of the values, and at least what is
      typical of the row (the median over the row, corrected for the number of values): the MAD of few values can be
      zero by chance. It says little for less than five values; use the noise model there.
    - One value is taken as it is. Of two values that differ by more than ``sigma √2`` standard deviations the lower is
      kept (``clip="noise"``); the MAD says nothing about two values and rejects none.

    A value is masked where its flags have a bit of ``UNUSABLE``, its data or variance is not finite, its variance is
    negative, or the weight of its frame is zero; it then counts exactly as if that frame were absent.

    Parameters
    ----------
    data : array_like, (n, rows, nx)
        The frames, in the order of the summation; taken as float32.
    variance : array_like or None, (n, rows, nx)
        Their variances. Without them the variance of the result comes from the scatter of the values in each pixel:
        noisy, with a relative error of √(2/(N-1)). Pixels with a single value take the median of their row; NaN if no
        pixel of the row has more.
    flags : array_like, (n, rows, nx)
        Their flags, uint32.
    options : CombineOptions
        What to do.
    weights : array_like, (n,), optional
        One weight a frame, at least 0; not for the median.
    inflation : float or Inflation
        Factor on the noise model's variance, for the clip alone: a number, or what
        :func:`larun.algorithms.inflation.fit_inflation` found (then also the relative noise of the frames is known).

    Returns
    -------
    Combined
        (rows, nx) planes.

    Raises
    ------
    OptionError
        If the shapes differ, there is no frame or too many, ``clip="noise"`` lacks variances, the median was given
        weights, or a weight or the inflation is negative or not finite.

    Examples
    --------
    >>> frames = np.full((9, 1, 2), 7.0)
    >>> frames[4, 0, 0] = 1e4
    >>> result = combine(frames, np.full_like(frames, 9.0), np.zeros(frames.shape, int), options=CombineOptions())
    >>> result.data.tolist(), result.count.tolist(), result.variance.tolist()
    ([[7.0, 7.0]], [[8, 9]], [[1.125, 1.0]])
    """
    inputs = _checked_inputs(data, variance, flags, weights, options)
    frames, rows, nx = inputs.data.shape
    out = Combined(
        np.empty((rows, nx), np.float32),
        np.empty((rows, nx), np.float32),
        np.empty((rows, nx), np.uint32),
        np.empty((rows, nx), np.uint16),
        np.empty((rows, nx), np.uint16),
    )
    plan = _plan(frames, nx, options, inflation)
    over_rows(rows, lambda start, stop: combine_rows(start, stop, inputs, plan, out), band=8)
    if variance is None:
        _fill_single(out, plan.factor if options.code == MEDIAN else np.ones(frames + 1))
    return out


class Combiner:
    """A combination that is given the stored integers of its frames a few rows at a time, by any number of threads.

    For frames whose variance is the same in all rows of an amplifier, and rows of which no pixel is flagged; the result
    has the bits :func:`combine` would give for the whole.

    Parameters
    ----------
    frames, nx : int
        How many frames, and columns in a row.
    options, weights, inflation
        As for :func:`combine`.
    """

    def __init__(
        self,
        frames: int,
        nx: int,
        *,
        options: CombineOptions,
        weights: ArrayLike | None = None,
        inflation: float | Inflation = 1.0,
    ) -> None:
        self._plan = _plan(frames, nx, options, inflation)
        self.weights = _checked_weights(weights, frames, options)

    def complete(self, variance: ArrayLike) -> Complete | None:
        """What is known of pixels that all frames contribute to, from their variance (n, nx); None if they cannot."""
        noise = read_only(variance, np.float32)
        if not (np.all(noise >= 0) and np.all(np.isfinite(noise)) and np.all(self.weights > 0)):
            return None
        result, floor = np.empty(noise.shape[1], np.float32), np.empty(noise.shape[1], np.float64)
        complete_row(noise, self.weights, self._plan, (result, floor))
        return Complete(noise, read_only(result, np.float32), read_only(floor, np.float64))

    def rows(
        self, first: int, stored: Stored, complete: Complete, data: NDArray[np.float32], variance: NDArray[np.float32]
    ) -> bool:
        """Combine the rows from ``first`` on into data and variance, in this thread; false if one is saturated."""
        return stored_rows(len(data), first, stored, complete, self._plan, (data, variance)) == 0


def median_efficiency(count: int) -> float:
    """N Var(median) / σ² of N Gaussian values: 1 for one or two, π/2 for very many.

    Exact up to 30, beyond that an expansion in 1/N that is good to 1e-4.

    Examples
    --------
    >>> median_efficiency(3), round(median_efficiency(1001), 4)
    (1.3460133, 1.5701)
    """
    if count < len(_MEDIAN_FACTOR):
        return _MEDIAN_FACTOR[count]
    fall = 0.4300 if count % 2 else 1.4295 - 2.8 / count
    return math.pi / 2 * (1 - fall / count)


def _checked_inputs(
    data: ArrayLike, variance: ArrayLike | None, flags: ArrayLike, weights: ArrayLike | None, options: CombineOptions
) -> Inputs:
    """The arrays as the kernels want them, or an error."""
    values = read_only(data, np.float32)
    bits = read_only(flags, np.uint32)
    if values.ndim != 3 or not 1 <= values.shape[0] <= 65535:
        raise OptionError(f"data has shape {values.shape}: must be (frames, rows, columns) with 1 to 65535 frames")
    if variance is None and options.code == NOISE:
        raise OptionError("clip = 'noise' needs the variance of every frame: give it, or use clip='mad'")
    noise = read_only(np.empty((0, 0, 0)) if variance is None else variance, np.float32)
    for name, plane in (("flags", bits), ("variance", noise)):
        if plane.shape != values.shape and not (name == "variance" and variance is None):
            raise OptionError(f"{name} has shape {plane.shape}, data {values.shape}: must be equal")
    return Inputs(values, noise, bits, _checked_weights(weights, len(values), options))


def _checked_weights(weights: ArrayLike | None, frames: int, options: CombineOptions) -> NDArray[Any]:
    if weights is not None and options.code == MEDIAN:
        raise OptionError("a weighted median is not offered: leave out the weights, or use method 'mean' or 'clipped'")
    scalars = read_only(np.ones(frames) if weights is None else weights, np.float64)
    if scalars.shape != (frames,) or not np.all(np.isfinite(scalars) & (scalars >= 0)):
        raise OptionError(f"weights = {scalars}: must be {frames} finite numbers of at least 0, one for each frame")
    return scalars


def _plan(frames: int, nx: int, options: CombineOptions, inflation: float | Inflation) -> Plan:
    """The settings for the kernels."""
    if isinstance(inflation, Inflation):
        relative, signal, ratio = inflation.frames, inflation.signal, inflation.clip_ratio
    else:
        if not 0 < inflation < math.inf:
            raise OptionError(f"inflation = {inflation}: must be a finite factor above 0")
        relative, signal, ratio = np.ones(frames), np.zeros(1), np.array([float(inflation)])
    if len(relative) != frames:
        raise OptionError(f"the inflation was fitted to {len(relative)} frames, here are {frames}: fit it to the same")
    if options.code == MAD:
        factor = [_MAD_FACTOR[n] if n < len(_MAD_FACTOR) else 1 + 1.1 / n for n in range(frames + 1)]
    else:
        factor = [median_efficiency(n) for n in range(frames + 1)]
    lanes = min(256, max(32, 32768 // frames), max(nx, 1))  # the scratch stays in the cache of the core
    return Plan(
        method=options.code,
        sigma=options.sigma,
        easiest=options.sigma**2 * float(np.min(ratio)) * float(np.min(relative)),
        lanes=lanes,
        network=median_network(frames),
        factor=read_only(factor, np.float64),
        relative=read_only(relative, np.float64),
        signal=read_only(signal, np.float64),
        ratio=read_only(ratio, np.float64),
    )


def _fill_single(out: Combined, factor: NDArray[np.float64]) -> None:
    """Give pixels with a single value the typical variance of a value in their row (scatter knows nothing of one)."""
    for y in np.flatnonzero((out.count == 1).any(axis=1)):
        known = out.count[y] > 1
        if known.any():
            count = out.count[y][known]
            out.variance[y][out.count[y] == 1] = np.median(out.variance[y][known] * count / factor[count])
