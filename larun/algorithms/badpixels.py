"""Defects of the detector, as the masters show them, and the normalisation of a flat.

A pixel is compared with the median of its neighbourhood, taken along the row and then along the column: gradients and
smooth structure stay, single pixels, columns, rows and blocks up to half the window wide stand out.

Medians are costly, and few pixels are bad: they are worked out only in those blocks of the image in which a pixel may
be bad, and, for the scatter, in a fixed sample of blocks. The verdict is that of the exact medians everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import middle
from larun.algorithms.localmedian import BLOCK, block_medians, pixel_medians, spread_blocks, undecided
from larun.algorithms.robust import SIGMA_PER_MAD
from larun.errors import OptionError

__all__ = [
    "HALF_WINDOW",
    "NormalisedFlat",
    "bad_from_bias",
    "bad_from_dark",
    "bad_from_flat",
    "local_median",
    "normalise_flat",
    "normalised",
    "scatter_around",
]

#: How far the neighbourhood of a pixel reaches, in rows and columns.
HALF_WINDOW = 15

_GATHER = 256  # blocks judged at a time
_NEAR, _FAR = 0.3, 0.69  # of a limit: how far medians, and pixels, may lie from a centre without a doubt

#: How far a pixel of a bias or dark must lie from its neighbourhood, in units of the scatter, to be bad.
SIGMA = 10.0
#: And of a bias, in its own units.
BIAS_MINIMUM = 50.0
#: Sensitivity of a flat beside that of its neighbourhood that is still valid.
FLAT_RANGE = (0.5, 1.5)

Judge = Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None], NDArray[np.bool_]]


class NormalisedFlat(NamedTuple):
    """A flat with a typical value of 1.

    Attributes
    ----------
    data, variance : ndarray of float32, (rows, nx)
        The flat over ``constant`` and its variance over ``constant²``.
    constant : float
        Median of the usable pixels.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    constant: float


def normalise_flat(
    data: NDArray[np.float32], variance: NDArray[np.float32], unusable: NDArray[np.bool_]
) -> NormalisedFlat:
    """Divide a flat by one number, the median of the usable pixels of the whole mosaic.

    One number for all amplifiers, so that their relative sensitivity stays in the flat.

    Parameters
    ----------
    data, variance : ndarray, (rows, nx)
        The combined flat.
    unusable : ndarray of bool, (rows, nx)
        Pixels that do not count.

    Returns
    -------
    NormalisedFlat

    Raises
    ------
    OptionError
        If no pixel is usable, or their median is not positive.

    Examples
    --------
    >>> flat = np.array([[2.0, 4.0, 6.0]], np.float32)
    >>> normalise_flat(flat, flat, np.zeros((1, 3), bool)).data.tolist()
    [[0.5, 1.0, 1.5]]
    """
    usable = data[~unusable & np.isfinite(data)]
    constant = float(middle(usable)) if usable.size else math.nan
    if not constant > 0:
        raise OptionError(f"the median of {usable.size} usable flat pixels is {constant}: a flat needs light")
    return normalised(data, variance, constant)


def normalised(data: NDArray[np.float32], variance: NDArray[np.float32], constant: float) -> NormalisedFlat:
    """Any part of a flat, by the constant that is known of the whole."""
    return NormalisedFlat(data / np.float32(constant), variance / np.float32(constant) ** 2, constant)


def bad_from_bias(
    level: NDArray[np.float32],
    variance: NDArray[np.float32] | None = None,
    *,
    sigma: float = SIGMA,
    minimum: float = BIAS_MINIMUM,
    scatter: float | None = None,
) -> NDArray[np.bool_]:
    """Pixels that are dead, stuck or run away without any light or time.

    A constant offset of a pixel leaves with the bias. So only offsets far beyond the structure of ordinary biases
    count: more than ``sigma`` times the scatter *and* more than ``minimum``.

    Parameters
    ----------
    level : ndarray, (rows, nx)
        Master bias, ADU.
    variance : ndarray, optional
        Its variance: the scatter of a pixel is at least its root.
    sigma, minimum : float
        Least offset from the neighbourhood, in units of the scatter and in those of ``level``.
    scatter : float, optional
        Of the whole master, where it is known already (:func:`scatter_around`): a part of it cannot tell.

    Returns
    -------
    ndarray of bool, (rows, nx)
        True where bad; pixels without a finite level are bad.

    Raises
    ------
    OptionError
        If a shape differs or an option is not positive.

    Examples
    --------
    >>> level = np.zeros((40, 40), np.float32)
    >>> level[:, 20] = 64000
    >>> np.flatnonzero(bad_from_bias(level).all(axis=0)).tolist()
    [20]
    """
    _check(level, variance, sigma=sigma, minimum=minimum)
    least = max(sigma * (scatter_around(level) if scatter is None else scatter), minimum)

    def ordinary(
        values: NDArray[np.float32], around: NDArray[np.float32], noise: NDArray[np.float32] | None
    ) -> NDArray[np.bool_]:
        near: NDArray[np.bool_] = np.abs(values - around) <= np.maximum(least, sigma * _sigma(noise))
        return near  # false for NaN

    return _bad(level, variance, ordinary, near=_NEAR * least, far=_FAR * least)


def bad_from_dark(
    rate: NDArray[np.float32],
    variance: NDArray[np.float32] | None = None,
    *,
    sigma: float = SIGMA,
    fraction: float = 1.0,
    scatter: float | None = None,
) -> NDArray[np.bool_]:
    """Hot pixels.

    Parameters
    ----------
    rate : ndarray, (rows, nx)
        Master dark, per second or for its exposure.
    variance : ndarray, optional
        Its variance: the scatter of a pixel is at least its root.
    sigma : float
        Least excess over the neighbourhood, in units of the scatter.
    fraction : float
        Least excess as a fraction of the neighbourhood's rate: 1 means twice as hot.
    scatter : float, optional
        As for :func:`bad_from_bias`.

    Returns
    -------
    ndarray of bool, (rows, nx)
        True where hot; pixels without a finite rate are bad.

    Raises
    ------
    OptionError
        If a shape differs or an option is not positive.

    Examples
    --------
    >>> rate = np.full((40, 40), 0.1, np.float32)
    >>> rate[7, 9] = 30.0
    >>> np.argwhere(bad_from_dark(rate)).tolist()
    [[7, 9]]
    """
    _check(rate, variance, sigma=sigma, fraction=fraction)
    least = sigma * (scatter_around(rate) if scatter is None else scatter)

    def ordinary(
        values: NDArray[np.float32], around: NDArray[np.float32], noise: NDArray[np.float32] | None
    ) -> NDArray[np.bool_]:
        limit = np.maximum(np.maximum(least, sigma * _sigma(noise)), fraction * np.maximum(around, 0))
        cool: NDArray[np.bool_] = values - around <= limit
        return cool & np.isfinite(values)

    return _bad(rate, variance, ordinary, near=_NEAR * least, far=_FAR * least)


def bad_from_flat(
    flat: NDArray[np.float32], *, low: float = FLAT_RANGE[0], high: float = FLAT_RANGE[1]
) -> NDArray[np.bool_]:
    """Pixels whose sensitivity differs too much from that of their neighbourhood.

    Parameters
    ----------
    flat : ndarray, (rows, nx)
        Master flat.
    low, high : float
        Least and greatest sensitivity relative to the neighbourhood.

    Returns
    -------
    ndarray of bool, (rows, nx)
        True where invalid: outside the range, not finite, zero or negative.

    Raises
    ------
    OptionError
        If not 0 < low < 1 < high.

    Examples
    --------
    >>> flat = np.ones((40, 40), np.float32)
    >>> flat[3, 4], flat[5, 6] = 0.3, 0.8
    >>> np.argwhere(bad_from_flat(flat)).tolist()
    [[3, 4]]
    """
    _check(flat, None)
    if not 0 < low < 1 < high:
        raise OptionError(f"low = {low}, high = {high}: must be 0 < low < 1 < high")
    near = 0.2 * min(1 - low, high - 1)
    far = 0.99 * min(high * (1 - near) - 1, 1 - low * (1 + near))

    def valid(
        values: NDArray[np.float32], around: NDArray[np.float32], noise: NDArray[np.float32] | None
    ) -> NDArray[np.bool_]:
        return (values > 0) & (values >= low * around) & (values <= high * around) & np.isfinite(values)

    positive = np.where(flat > 0, flat, np.float32(np.nan))
    return _bad(positive, None, valid, near=near, far=far, relative=True)


def local_median(plane: NDArray[np.float32], window: int = 31) -> NDArray[np.float32]:
    """Median along the row, then of those along the column; values that are not finite do not count.

    At the edge the window is what is left of it.

    Parameters
    ----------
    plane : ndarray, (rows, nx)
        Any image.
    window : int
        Pixels in a window, odd.

    Returns
    -------
    ndarray of float32, (rows, nx)
        The medians; the median of the whole plane where a window holds no finite value.

    Raises
    ------
    OptionError
        If the window is even or below 3.
    """
    if window < 3 or window % 2 == 0:
        raise OptionError(f"window = {window}: must be odd and at least 3")
    blocks = np.argwhere(np.ones([-(-size // BLOCK) for size in plane.shape], np.bool_))
    medians = block_medians(plane, blocks, window)
    out = np.empty(plane.shape, np.float32)
    for (by, bx), part in zip(blocks, medians, strict=True):
        place = out[by * BLOCK : (by + 1) * BLOCK, bx * BLOCK : (bx + 1) * BLOCK]
        place[...] = part[: place.shape[0], : place.shape[1]]
    missing = np.isnan(out)
    if missing.any():
        out[missing] = _middle(plane)
    return out


def _middle(plane: NDArray[np.float32]) -> np.float32:
    """Median of the finite values of a whole plane; 0 where there is none."""
    finite = plane[np.isfinite(plane)]
    return np.float32(middle(finite)) if finite.size else np.float32(0)


def _bad(
    plane: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    ordinary: Judge,
    *,
    near: float,
    far: float,
    relative: bool = False,
) -> NDArray[np.bool_]:
    """Where a pixel is not ordinary beside its neighbourhood; certainly ordinary ones are not looked at closely."""
    blocks, pixels = undecided(plane, near, far, relative)
    bad = np.zeros(plane.shape, np.bool_)
    whole: list[np.float32] = []
    if len(pixels):
        at = pixels[:, 0], pixels[:, 1]  # their neighbourhood has finite values: there is a median
        bad[at] = ~ordinary(plane[at], pixel_medians(plane, pixels), None if variance is None else variance[at])
    for start in range(0, len(blocks), _GATHER):
        some = blocks[start : start + _GATHER]
        around = block_medians(plane, some)
        values, noise = _gathered(plane, some), None if variance is None else _gathered(variance, some)
        missing = np.isnan(around)
        if missing.any():
            whole = whole or [_middle(plane)]
            around[missing] = whole[0]
        found = ~ordinary(values, around, noise)
        for (by, bx), part in zip(some, found, strict=True):
            place = bad[by * BLOCK : (by + 1) * BLOCK, bx * BLOCK : (bx + 1) * BLOCK]
            place[...] = part[: place.shape[0], : place.shape[1]]
    return bad


def _gathered(plane: NDArray[np.float32], blocks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The pixels of some blocks, (n, BLOCK, BLOCK); NaN beyond the edge of the image."""
    out = np.full((len(blocks), BLOCK, BLOCK), np.nan, np.float32)
    for (by, bx), part in zip(blocks, out, strict=True):
        place = plane[by * BLOCK : (by + 1) * BLOCK, bx * BLOCK : (bx + 1) * BLOCK]
        part[: place.shape[0], : place.shape[1]] = place
    return out


def scatter_around(plane: NDArray[np.float32]) -> float:
    """1.4826 MAD of the offsets of pixels from their neighbourhood, in a fixed sample of blocks of a whole master.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(0, 2, (64, 64)).astype(np.float32)
    >>> round(scatter_around(noise))
    2
    """
    blocks = spread_blocks((plane.shape[0], plane.shape[1]))
    offset = np.abs(_gathered(plane, blocks) - block_medians(plane, blocks))
    finite = offset[np.isfinite(offset)]
    return float(SIGMA_PER_MAD * middle(finite)) if finite.size else 0.0


def _sigma(variance: NDArray[np.float32] | None) -> NDArray[np.float64] | float:
    """Root of a variance; 0 where it is unknown."""
    return 0.0 if variance is None else np.sqrt(np.where(variance > 0, variance, 0.0), dtype=np.float64)


def _check(plane: NDArray[np.float32], variance: NDArray[np.float32] | None, **options: float) -> None:
    if plane.ndim != 2 or (variance is not None and variance.shape != plane.shape):
        found = None if variance is None else variance.shape
        raise OptionError(f"a master of shape {plane.shape} with a variance of {found}: must be equal, (rows, nx)")
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise OptionError(f"{name} = {value}: must be a finite number above 0")
