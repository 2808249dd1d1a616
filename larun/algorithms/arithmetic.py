"""Sums, differences, products and quotients of planes with their noise, and binning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl

__all__ = ["Planes", "bin_acf", "bin_planes", "linear", "product", "quotient"]

Float32 = NDArray[np.float32]


class Planes(NamedTuple):
    """Data, independent variance, flags, and what each shared master adds to the variance.

    A shared plane that is negative has the same size of noise with the opposite sign.
    """

    data: Float32
    variance: Float32 | None
    flags: NDArray[np.uint32]
    shared: Mapping[str, Float32]


def linear(a: Planes, b: Planes, sign: float) -> Planes:
    """``a + sign · b``; independent variances add, what one master adds to both is summed as an amplitude.

    A pixel without variance on either side has none in the result; flags are OR-ed.
    """
    data = a.data + np.float32(sign) * b.data
    variance = None if a.variance is None or b.variance is None else a.variance + b.variance
    shared = dict(a.shared)
    for master, plane in b.shared.items():
        if master in shared:
            shared[master] = _squared(_amplitude(shared[master]) + np.float32(sign) * _amplitude(plane))
        else:
            shared[master] = np.float32(sign) * plane
    return Planes(data, variance, a.flags | b.flags, shared)


def product(a: Planes, b: Planes) -> Planes:
    """``a · b`` with first-order propagation."""
    return _scaled(a, b, a.data * b.data, b.data, a.data)


def quotient(a: Planes, b: Planes) -> Planes:
    """``a / b`` with first-order propagation; where b is zero or not finite the result is NaN and NO_DATA."""
    good = np.isfinite(b.data) & (b.data != 0)
    inverse = np.divide(np.float32(1), b.data, out=np.full_like(b.data, np.nan), where=good)
    made = _scaled(a, b, a.data * inverse, inverse, a.data * inverse * inverse)
    return made._replace(flags=np.where(good, made.flags, made.flags | fl.NO_DATA).astype(np.uint32))


def _scaled(a: Planes, b: Planes, data: Float32, by_a: Float32, by_b: Float32) -> Planes:
    """A result with derivatives ``by_a`` and ``by_b`` with respect to its operands."""
    variance = None
    if a.variance is not None and b.variance is not None:
        variance = a.variance * by_a**2 + b.variance * by_b**2
    amplitudes = {master: _amplitude(plane) * by_a for master, plane in a.shared.items()}
    for master, plane in b.shared.items():
        amplitudes[master] = amplitudes.get(master, np.float32(0)) + _amplitude(plane) * by_b
    shared = {master: _squared(amplitude) for master, amplitude in amplitudes.items()}
    return Planes(data, variance, a.flags | b.flags, shared)


def _amplitude(plane: Float32) -> Float32:
    """The signed amplitude of a shared variance: two frames that used a master with opposite sign cancel its noise."""
    root: Float32 = np.copysign(np.sqrt(np.abs(plane)), plane)
    return root


def _squared(amplitude: Float32) -> Float32:
    square: Float32 = amplitude * np.abs(amplitude)
    return square


def bin_planes(planes: Planes, factor: int, noise_factor: float = 1.0) -> Planes:
    """Sums over blocks of ``factor`` × ``factor`` pixels; rows and columns that fill no block are left out.

    Parameters
    ----------
    planes : Planes
        What to bin.
    factor : int
        Pixels along each side of a block.
    noise_factor : float
        Variance of the block's sum over the sum of its variances (1 for white noise, see :func:`bin_acf`).
    """
    blocks = _blocks(planes.data, factor)
    variance = None
    if planes.variance is not None:
        variance = (_blocks(planes.variance, factor).sum((1, 3), dtype=np.float64) * noise_factor).astype(np.float32)
    # A master's noise is common to frames, not to pixels: each of its pixels has noise of its own.
    shared = {
        master: _blocks(plane, factor).sum((1, 3), dtype=np.float64).astype(np.float32)
        for master, plane in planes.shared.items()
    }
    flags = np.bitwise_or.reduce(np.bitwise_or.reduce(_blocks(planes.flags, factor), 3), 1)
    return Planes(blocks.sum((1, 3), dtype=np.float64).astype(np.float32), variance, flags, shared)


def bin_acf(acf: Float32 | None, factor: int) -> tuple[Float32 | None, float]:
    """The noise autocorrelation of binned pixels, and the factor their summed variance needs.

    Parameters
    ----------
    acf : array (2n+1, 2n+1), float32, or None
        Autocorrelation of the pixels' noise, 1 at the centre; None is white.
    factor : int
        Pixels along each side of a block.

    Returns
    -------
    acf : array or None
        Of the blocks, 1 at the centre.
    noise_factor : float
        Variance of a block's sum over the sum of the pixels' variances.
    """
    if acf is None:
        return None, 1.0
    reach = acf.shape[0] // 2
    overlap = np.convolve(np.ones(factor), np.ones(factor))  # pairs of pixels at each offset between two blocks
    lags = -(-(reach + factor - 1) // factor)
    made = np.zeros((2 * lags + 1, 2 * lags + 1))
    for i in range(-lags, lags + 1):
        for j in range(-lags, lags + 1):
            for di in range(-(factor - 1), factor):
                for dj in range(-(factor - 1), factor):
                    y, x = i * factor + di + reach, j * factor + dj + reach
                    if 0 <= y < acf.shape[0] and 0 <= x < acf.shape[1]:
                        made[i + lags, j + lags] += overlap[di + factor - 1] * overlap[dj + factor - 1] * acf[y, x]
    centre = made[lags, lags]
    return (made / centre).astype(np.float32), float(centre / factor**2)


def _blocks(plane: NDArray[np.float32] | NDArray[np.uint32], factor: int) -> NDArray[np.float32]:
    rows, columns = plane.shape[0] // factor, plane.shape[1] // factor
    trimmed = plane[: rows * factor, : columns * factor]
    return trimmed.reshape(rows, factor, columns, factor)  # type: ignore[return-value]  # same dtype as it came
