"""Does the noise model of a set of frames agree with how the frames differ? Asked before a clip trusts the model.

Two frames of the same thing differ by noise alone, so the differences of frame pairs, divided by what the noise model
says, have a variance of one if the model is right. The comparison is made in bins of signal: a wrong gain shows at
high signal, a wrong read noise at low. Outliers (cosmic rays, defects) are clipped before the variance is taken, and
what a clip takes from Gaussian noise is put back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import middle
from larun.errors import NoiseModelError, OptionError
from larun.flags import UNUSABLE

__all__ = ["LIMIT", "Inflation", "check_inflation", "fit_inflation"]

#: Measured noise over modelled noise (in σ) that a clip still accepts.
LIMIT = 1.5

_KEEP = 3.0  # differences beyond this many σ do not enter
_KEPT_VARIANCE = 0.9733369246625415  # their variance, in σ²
_LEAST_IN_BIN = 300  # differences in a bin: 8 % of the variance
_BIN_WIDTH = 10.0  # in σ of the mean: what the noise alone scatters over falls into one bin
_QUANTILES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0.95, 0.99, 1.0)


class Inflation(NamedTuple):
    """Measured over modelled variance of a set of frames.

    Attributes
    ----------
    factor : float
        Of all pixels together: 1 for a right model, above 1 if the frames are noisier than it says.
    signal : ndarray of float64, (bins,)
        Median signal of each bin, rising.
    ratio : ndarray of float64, (bins,)
        Measured over modelled variance in each bin.
    pixels : ndarray of int64, (bins,)
        Pixels in each bin.
    frames : ndarray of float64, (n,)
        Modelled variance of each frame over the median of all frames: other exposures and skies have other noise.
    """

    factor: float
    signal: NDArray[np.float64]
    ratio: NDArray[np.float64]
    pixels: NDArray[np.int64]
    frames: NDArray[np.float64]

    @property
    def clip_ratio(self) -> NDArray[np.float64]:
        """The ratio as a clip applies it: what was measured, but not below 1/1.5².

        Frames that agree better than their noise (copies of one frame, say) must not make a clip reject everything.
        """
        return np.maximum(self.ratio, 1 / LIMIT**2)


def fit_inflation(data: ArrayLike, variance: ArrayLike, flags: ArrayLike, *, sample: int = 50_000) -> Inflation:
    """Compare how frames differ with what their noise model says.

    Differences of frames that follow each other (the last with the first) are divided by the model's σ, which is the
    median over frames of the pixel's variance, scaled to each frame; never the value's own. Their variance within 3 σ,
    found by repetition and corrected for the cut, is the ratio.

    Parameters
    ----------
    data, variance, flags : array_like, (n, rows, nx)
        The frames, at one level (flats normalised), or some of their rows; flags are uint32.
    sample : int
        About how many pixels to use, evenly spread over those given.

    Returns
    -------
    Inflation
        With ``factor`` 1 and an empty comparison (no pixels) where there is only one frame or nothing to compare.

    Raises
    ------
    OptionError
        If the shapes differ or ``sample`` is below 1000.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> frames = rng.normal(100, 10, (5, 100, 100)).astype(np.float32)
    >>> found = fit_inflation(frames, np.full_like(frames, 50.0), np.zeros(frames.shape, np.uint32))
    >>> round(found.factor, 1)
    2.0
    """
    if sample < 1000:
        raise OptionError(f"sample = {sample}: at least 1000 pixels are needed to measure a variance")
    planes = [np.asarray(plane) for plane in (data, variance, flags)]
    if planes[0].ndim != 3 or len({plane.shape for plane in planes}) != 1:
        raise OptionError(f"shapes {[plane.shape for plane in planes]}: must be equal and (frames, rows, columns)")
    values, noise, bits = (_sampled(plane, sample) for plane in planes)
    good = ((bits.astype(np.uint32) & UNUSABLE) == 0) & np.isfinite(values) & np.isfinite(noise) & (noise >= 0)
    values = np.where(good, values, np.nan).astype(np.float64)
    noise = np.where(good, noise, np.nan).astype(np.float64)
    enough = good.sum(axis=0) >= 2
    values, noise = values[:, enough], noise[:, enough]
    relative = _relative(noise)
    if len(values) < 2 or not enough.any():
        return Inflation(1.0, np.zeros(1), np.ones(1), np.zeros(1, np.int64), relative)

    signal = _median_of_frames(values)
    typical = _median_of_frames(noise / relative[:, None])
    pairs = [(k, (k + 1) % len(values)) for k in range(len(values) if len(values) > 2 else 1)]
    scaled = np.stack([_scaled(values[a] - values[b], typical * (relative[a] + relative[b])) for a, b in pairs])
    width = _BIN_WIDTH * float(np.sqrt(np.median(typical) / len(values)))
    bins = _bins(signal, np.isfinite(scaled).sum(axis=0), width)
    rows = [(float(np.median(signal[inside])), _clipped_variance(scaled[:, inside]), inside.sum()) for inside in bins]
    table = np.array(rows, np.float64)
    return Inflation(_clipped_variance(scaled), table[:, 0], table[:, 1], table[:, 2].astype(np.int64), relative)


def check_inflation(inflation: Inflation, limit: float = LIMIT) -> None:
    """Refuse to clip by a noise model that is too optimistic.

    A model that is too pessimistic rejects too little, not too much: it is recorded, not refused.

    Parameters
    ----------
    inflation : Inflation
        What :func:`fit_inflation` found.
    limit : float
        Largest measured over modelled noise, in σ.

    Raises
    ------
    NoiseModelError
        If the frames are noisier than ``limit`` times the model.
    """
    found = float(np.sqrt(inflation.factor))
    if found > limit:
        raise NoiseModelError(
            f"the frames differ by {found:.2f} times the noise that gain and read noise imply, the limit is {limit:g}: "
            "give the gain and the read noise if the header is wrong, or use clip='mad', which does not need them "
            "(frames at different levels look noisy too: normalise flats and subtract overscans first)"
        )


def _sampled(plane: NDArray[np.generic], sample: int) -> NDArray[Any]:
    """Every so manieth pixel, (n, pixels); an odd step visits all columns of any format in the end."""
    flat = plane.reshape(len(plane), -1)
    return flat[:, :: max(1, flat.shape[1] // sample) | 1]


def _median_of_frames(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each pixel over its frames (n, pixels) but NaN, which sorts behind all others."""
    ordered = np.sort(values.T, axis=1)
    number = np.isfinite(ordered).sum(axis=1)
    pixel = np.arange(len(ordered))
    below, above = (
        ordered[pixel, np.maximum(number - 1, 0) // 2],
        ordered[pixel, np.minimum(number // 2, len(values) - 1)],
    )
    middle: NDArray[np.float64] = (below + above) / 2
    return middle


def _relative(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Typical variance of each frame over the median of the frames."""
    if not noise.size:
        return np.ones(len(noise))
    middle = _median_of_frames(noise)
    ratios = np.where(np.isfinite(noise) & (middle > 0), noise / np.where(middle > 0, middle, 1.0), np.nan)
    usable = np.isfinite(ratios).any(axis=1)
    relative = np.ones(len(noise))
    relative[usable] = np.nanmedian(ratios[usable], axis=1)
    return np.where(relative > 0, relative, 1.0)


def _scaled(difference: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences over σ; NaN where either is unknown or the model says there is no noise."""
    known = np.isfinite(difference) & (variance > 0)
    return np.where(known, difference / np.sqrt(np.where(known, variance, 1.0)), np.nan)


def _bins(signal: NDArray[np.float64], differences: NDArray[np.int64], width: float) -> list[NDArray[np.bool_]]:
    """Bins of rising signal, with enough differences in each and wider than the noise of the signal."""
    edges = np.unique(np.quantile(signal, _QUANTILES))
    bins: list[NDArray[np.bool_]] = []
    start = -np.inf
    for high in edges[1:]:
        inside = (signal >= start) & (signal < (high if high < edges[-1] else np.inf))
        low = max(start, edges[0])
        if differences[inside].sum() >= _LEAST_IN_BIN and high - low >= width:
            bins.append(inside)
            start = high
    if not bins:
        return [np.ones(signal.shape, bool)]
    bins[-1] = bins[-1] | (signal >= start)
    return bins


def _clipped_variance(scaled: NDArray[np.float64]) -> float:
    """Variance about zero of what lies within 3 σ, corrected for the cut; 1 where there is nothing."""
    size = np.abs(scaled[np.isfinite(scaled)])
    if not size.size:
        return 1.0
    variance = float((middle(size) / 0.6744897501960817) ** 2)
    for _ in range(30):
        kept = size[size <= _KEEP * np.sqrt(variance)]
        previous, variance = variance, float(np.mean(kept**2)) / _KEPT_VARIANCE if kept.size else 0.0
        if abs(variance - previous) <= 1e-6 * previous:
            break
    return variance
