"""The noise of pixels, measured where no source is, against what a noise model says.

Half the variance of the differences of pixels that lie k apart is the variance of one of them, less their covariance:
D(k) = σ² − cov(k) (von Neumann 1941, Annals of Mathematical Statistics 12, 367). Pixels that touch share the smooth
sky, so that D(1) needs no background; where neighbours are correlated, because an image was resampled or smoothed,
D(1) is lower than D of pixels that lie far apart. Where faint stars or clouds structure the sky, D of far pixels is
higher than the noise.

The image is taken block by block: the scatter of the blocks gives the errors, whatever the noise is made of, and a
block that holds a galaxy or a trail is an outlier among them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import Estimate, mad_sigma
from larun.errors import OptionError

__all__ = [
    "BlockNoise",
    "NoiseTerms",
    "Remedies",
    "block_noise",
    "clipped_variance",
    "correlation",
    "mean_of_blocks",
    "noise_terms",
]

_KEEP = 3.0  # differences beyond this many σ do not enter
_KEPT_VARIANCE = 0.9733369246625415  # what is left of the variance of normal differences
_FAR = 6  # px: farther than kernels of resampling and smoothing reach
_LEAST_USED = 0.3  # share of a block
_LEAST_PAIRS = 60
_CLIP_BLOCKS = 4.0  # robust σ


class BlockNoise(NamedTuple):
    """What was measured in each block; every field has shape (blocks,).

    Attributes
    ----------
    y, x : ndarray of int64
        First row and column.
    level : ndarray of float64
        Median of the data.
    variance : ndarray of float64
        Median of the modelled variance.
    near_x, near_y, far : ndarray of float64
        Variance of a pixel over the modelled one, from differences with its neighbour along x, along y, and with
        pixels 6 apart along both axes. NaN where too few pixels are usable.
    pairs : ndarray of float64
        Differences between neighbours, along both axes.
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    level: NDArray[np.float64]
    variance: NDArray[np.float64]
    near_x: NDArray[np.float64]
    near_y: NDArray[np.float64]
    far: NDArray[np.float64]
    pairs: NDArray[np.float64]

    @property
    def near(self) -> NDArray[np.float64]:
        """Variance over the modelled one from neighbours along both axes."""
        return (self.near_x + self.near_y) / 2


class NoiseTerms(NamedTuple):
    """Measured variances, and the parts of what the model says they are; every field has shape (bins,), electrons².

    Attributes
    ----------
    measured, error : ndarray of float64
        Variance of a pixel and its 1 σ.
    read, poisson, other : ndarray of float64
        Modelled variance of the readout, of the charge, and of the masters.
    level : ndarray of float64
        Signal, electrons.
    """

    measured: NDArray[np.float64]
    error: NDArray[np.float64]
    read: NDArray[np.float64]
    poisson: NDArray[np.float64]
    other: NDArray[np.float64]
    level: NDArray[np.float64]


class Remedies(NamedTuple):
    """What would make a noise model agree with what was measured, each alone.

    Attributes
    ----------
    gain : Estimate
        Factor on the gain; the read noise stays what it is in electrons.
    read_noise : Estimate
        Factor on the read noise; NaN where no read noise explains it.
    multiplicative : Estimate
        A further noise in proportion to the signal, relative; NaN where there is too little noise, not too much.
    unexplained : dict of str to float
        χ² that each of the three leaves, and ``"none"``: that of the model as it is.
    """

    gain: Estimate
    read_noise: Estimate
    multiplicative: Estimate
    unexplained: dict[str, float]


def block_noise(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_],
    *,
    size: int = 32,
    most: int = 1500,
) -> BlockNoise:
    """Measure the noise of pixels in blocks of an image.

    Parameters
    ----------
    data, variance : ndarray of float32, (ny, nx)
        The image and the modelled variance of its pixels.
    usable : ndarray of bool, (ny, nx)
        Pixels without sources and flags.
    size : int
        Of a block, pixels, at least 12; an image that is smaller is one block.
    most : int
        So many blocks are taken, evenly spread.

    Raises
    ------
    OptionError
        If shapes differ or the size is too small.

    Notes
    -----
    Differences beyond 3 σ are left out (cosmic rays, what is left of stars), and what that takes from the variance of
    normal noise is put back. The median of the modelled variance of a block stands for all its pixels: a variance that
    was made of a pixel's own counts is high in the mean where counts are few.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(100, 5, (128, 128)).astype(np.float32)
    >>> made = block_noise(noise, np.full_like(noise, 25), np.ones(noise.shape, bool))
    >>> len(made.level), round(mean_of_blocks(made.near, made.pairs).value, 1)
    (16, 1.0)
    """
    if data.ndim != 2 or variance.shape != data.shape or usable.shape != data.shape:
        raise OptionError(f"shapes {data.shape}, {variance.shape}, {usable.shape}: must be one and (ny, nx)")
    if size < 2 * _FAR:
        raise OptionError(f"size = {size}: must be at least {2 * _FAR} pixels")
    height, width = min(size, data.shape[0]), min(size, data.shape[1])
    rows, columns = data.shape[0] // height, data.shape[1] // width
    chosen = np.unique(np.linspace(0, rows * columns - 1, min(most, rows * columns)).round().astype(int))
    y, x = chosen // columns, chosen % columns

    def cut(plane: NDArray[np.generic]) -> NDArray[np.float64]:
        whole = plane[: rows * height, : columns * width].reshape(rows, height, columns, width)
        return whole[y, :, x, :].astype(np.float64)

    values, model = cut(data), cut(variance)
    good = (cut(usable) > 0) & np.isfinite(values) & (model > 0) & np.isfinite(model)
    enough = good.mean(axis=(1, 2)) >= _LEAST_USED
    y, x, values, model, good = y[enough], x[enough], values[enough], model[enough], good[enough]
    values = np.where(good, values, np.nan)
    typical = _medians(np.where(good, model, np.nan))
    near_x, pairs_x = _differences(values, typical, 1, axes=(2,))
    near_y, pairs_y = _differences(values, typical, 1, axes=(1,))
    far, _ = _differences(values, typical, _FAR, axes=(1, 2))
    return BlockNoise(
        y * height, x * width, _medians(values), typical, near_x, near_y, far, (pairs_x + pairs_y).astype(np.float64)
    )


def _medians(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of each block but NaN, of which there must be less than all."""
    flat = np.sort(blocks.reshape(len(blocks), math.prod(blocks.shape[1:])), axis=1)  # NaN last
    count, block = np.isfinite(flat).sum(axis=1), np.arange(len(flat))
    middle: NDArray[np.float64] = (flat[block, (count - 1) // 2] + flat[block, count // 2]) / 2
    return middle


def _differences(
    values: NDArray[np.float64], variance: NDArray[np.float64], lag: int, axes: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Half the clipped variance of differences over the modelled variance, by block; and how many there are."""
    scaled = []
    for axis in axes:
        length = values.shape[axis]
        first, second = (np.take(values, range(a, length - lag + a), axis=axis) for a in (lag, 0))
        made = (first - second).reshape(len(values), -1)
        scaled.append(made / np.sqrt(2 * variance)[:, None])
    together = np.concatenate(scaled, axis=1)
    known = np.isfinite(together)
    count = known.sum(axis=1)
    square = np.where(known, together, 0.0) ** 2
    limit = _KEEP**2 * clipped_variance(together[known])
    kept = known & (square <= limit)
    number = kept.sum(axis=1)
    mean = np.where(kept, square, 0.0).sum(axis=1) / np.maximum(number, 1) / _KEPT_VARIANCE
    return np.where(count >= _LEAST_PAIRS, mean, np.nan), count


def clipped_variance(values: NDArray[np.float64]) -> float:
    """Variance about zero of what lies within 3 σ, corrected for the cut; NaN where there is nothing.

    Examples
    --------
    >>> values = np.append(np.random.default_rng(1).standard_normal(100_000), [50.0, 900.0])
    >>> round(clipped_variance(values), 1)
    1.0
    """
    square = values[np.isfinite(values)] ** 2
    if not square.size:
        return math.nan
    variance = float(np.median(square)) / 0.6744897501960817**2
    for _ in range(30):
        kept = square[square <= _KEEP**2 * variance]
        previous, variance = variance, float(np.mean(kept)) / _KEPT_VARIANCE if kept.size else 0.0
        if abs(variance - previous) <= 1e-6 * previous:
            break
    return variance


def mean_of_blocks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Estimate:
    """The weighted mean of blocks that agree, and its error from their scatter.

    Blocks farther than 4 robust σ from the median are left out. With fewer than three blocks there is no error: NaN.

    Parameters
    ----------
    values : ndarray, (blocks,)
        NaN does not count.
    weights : ndarray, (blocks,)
        In proportion to the inverse variance of the values.
    """
    known = np.isfinite(values) & (weights > 0)
    value, weight = values[known], weights[known]
    if not value.size:
        return Estimate(math.nan, math.nan)
    middle = np.median(value)
    scatter = mad_sigma(value, middle)
    kept = np.abs(value - middle) <= _CLIP_BLOCKS * scatter if scatter > 0 else np.ones(len(value), bool)
    value, weight = value[kept], weight[kept]
    share = weight / weight.sum()
    mean = float(np.sum(share * value))
    if len(value) < 3:
        return Estimate(mean, math.nan)
    spread = float(np.sum(share**2 * (value - mean) ** 2)) / max(1 - float(np.sum(share**2)), 1e-9)
    return Estimate(mean, math.sqrt(spread))


def correlation(near: NDArray[np.float64], far: NDArray[np.float64], weights: NDArray[np.float64]) -> Estimate:
    """The correlation of neighbours, 1 − D(1) / D(far), from blocks.

    Parameters
    ----------
    near, far : ndarray, (blocks,)
        As in :class:`BlockNoise`.
    weights : ndarray, (blocks,)
        Differences of each block.
    """
    known = np.isfinite(near) & np.isfinite(far)
    near, far, weights = near[known], far[known], weights[known]
    if len(near) < 3:
        return Estimate(math.nan, math.nan)
    whole = mean_of_blocks(far, weights).value
    # ratio of means with what the blocks depart from it, so that no block's own far value is divided by
    ratio = mean_of_blocks(near, weights).value / whole
    found = mean_of_blocks(near - ratio * far, weights)
    return Estimate(1 - ratio - found.value / whole, found.error / whole)


def noise_terms(terms: NoiseTerms) -> Remedies:
    """What would make the model agree with the measurement: another gain, another read noise, or a further term.

    The counts are what is certain. With b times the assumed gain, electrons are b times as many, and the Poisson part
    of the variance, in the electrons that were assumed, is 1/b of the modelled one; the readout's 1/b² (the read noise
    in electrons is as stated). With the read noise a times the stated one, the readout's part is a² of the modelled.
    What masters add is taken to be readout, as it is for all but very bright skies.
    A multiplicative term (pixels that the flat does not correct) adds c² level².

    Parameters
    ----------
    terms : NoiseTerms
        At least one bin.

    Returns
    -------
    Remedies
        Least squares for each alone. Where signals of several levels were measured, χ² tells them apart; a single
        level can be explained by each.

    Examples
    --------
    >>> one = np.ones(1)
    >>> found = noise_terms(NoiseTerms(660 * one, 3 * one, 100 * one, 1000 * one, 0 * one, 1000 * one))
    >>> round(found.gain.value, 1), found.read_noise.value
    (1.6, nan)
    """
    weight = 1 / terms.error**2
    read, poisson, square = terms.read + terms.other, terms.poisson, terms.level**2
    readout = read if terms.read.any() else np.zeros_like(read)  # without a read noise there is none to be changed

    def unexplained(model: NDArray[np.float64]) -> float:
        return float(np.sum(weight * (terms.measured - model) ** 2))

    b = _inverse_gain(read, poisson, terms.measured, weight)
    a = _scale(readout, terms.measured - poisson - read + readout, weight)
    c = _scale(square, terms.measured - poisson - read, weight)
    left = {
        "none": unexplained(read + poisson),
        "gain": unexplained(b.value**2 * read + b.value * poisson),
        "read_noise": unexplained(read + (a.value - 1) * readout + poisson),
        "multiplicative": unexplained(read + poisson + c.value * square),
    }
    gain = Estimate(1 / b.value, b.error / b.value**2)
    return Remedies(gain, _root(a), _root(c), left)


def _scale(part: NDArray[np.float64], excess: NDArray[np.float64], weight: NDArray[np.float64]) -> Estimate:
    """The factor on one part that leaves the least."""
    norm = float(np.sum(weight * part**2))
    if not norm > 0:
        return Estimate(math.nan, math.nan)
    return Estimate(float(np.sum(weight * part * excess)) / norm, 1 / math.sqrt(norm))


def _root(square: Estimate) -> Estimate:
    """The root of an estimate; NaN where it is not positive."""
    if not square.value > 0:
        return Estimate(math.nan, math.nan)
    root = math.sqrt(square.value)
    return Estimate(root, square.error / (2 * root))


def _inverse_gain(
    read: NDArray[np.float64], poisson: NDArray[np.float64], measured: NDArray[np.float64], weight: NDArray[np.float64]
) -> Estimate:
    """The b > 0 for which b² read + b poisson is nearest to the measured: Gauss-Newton from a common factor."""
    norm = float(np.sum(weight * (read + poisson) ** 2))
    if not norm > 0:
        return Estimate(math.nan, math.nan)
    b = max(float(np.sum(weight * (read + poisson) * measured)) / norm, 1e-3)
    for _ in range(50):
        slope = 2 * b * read + poisson
        norm = float(np.sum(weight * slope**2))
        b, before = max(b + float(np.sum(weight * slope * (measured - b * b * read - b * poisson))) / norm, b / 4), b
        if abs(b - before) < 1e-9 * b:
            break
    return Estimate(b, 1 / math.sqrt(norm))
