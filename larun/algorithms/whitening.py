"""A difference whose noise is white again.

The noise of a convolved image is correlated with that of its neighbours, so that no simple sum of variances is right on
a difference. A kernel exists after whose convolution it is white (Reiss & Lupton 2016, DMTN-021). It depends on the
matching kernel and on the noise of both images, and so on the place: it is made at places of a grid, and its taps are
polynomials in between. Its sum is 1: fluxes stay, and the PSF gets sharper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.cholesky import solve_positive
from larun.algorithms.kernelfield import KernelField, polynomial_terms, terms_at

__all__ = ["Spectra", "Whitening", "cut", "field_through", "grid_of", "spectrum_of", "terms_through", "whitening"]

#: Places along each axis at which kernels are made.
_GRID = 5
#: Part of the largest noise power below which none is believed: frequencies that resampling has emptied.
_EMPTY = 0.02
#: And where a blur has emptied them, which is known better.
_BLURRED = 0.1
#: Correlation below which none is told.
_LAG = 0.01
#: Part of the squares of a kernel that may lie beyond the pixels that are kept.
_CUT = 1e-6
#: And of those after a blur, which reach far: beyond, the image loses its edges for less than a hundredth of the noise.
_CUT_BLURRED = 1e-4
_MOST = 20


class Spectra(NamedTuple):
    """The noise of a difference at one place.

    Attributes
    ----------
    kept, convolved : float
        Smooth noise variance of the image that is not convolved, and of the one that is.
    kept_acf, convolved_acf : ndarray or None
        Autocorrelation of each, 1 in the middle; None where it is white.
    blur : ndarray or None
        With what the image that is kept was convolved, where it was: ``kept`` and its autocorrelation are those before.
    """

    kept: float
    convolved: float
    kept_acf: NDArray[np.floating[Any]] | None = None
    convolved_acf: NDArray[np.floating[Any]] | None = None
    blur: NDArray[np.float64] | None = None


class Whitening(NamedTuple):
    """What makes the noise of a difference white.

    Attributes
    ----------
    field : KernelField
        With it the difference is convolved.
    own : KernelField
        What the noise of the image that is kept goes through: the same, or it and the blur that image has.
    through : KernelField
        It and the matching kernel in one: what the noise of the convolved image goes through.
    corrections : tuple of float
        By which ``Σ K² v`` of each image is too small, or too large, where its noise is correlated.
    acf : ndarray of float32 or None
        Autocorrelation of the noise that is left, in the middle of the image; None where it is white.
    """

    field: KernelField
    own: KernelField
    through: KernelField
    corrections: tuple[float, float]
    acf: NDArray[np.float32] | None


def grid_of(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (n,) all over an image, x and y, at which what changes slowly is computed."""
    y, x = np.mgrid[:_GRID, :_GRID] + 0.5
    return x.ravel() * shape[1] / _GRID - 0.5, y.ravel() * shape[0] / _GRID - 0.5


def whitening(field: KernelField, shape: tuple[int, int], noise: Callable[[float, float], Spectra]) -> Whitening:
    """The kernel that makes the noise of ``kept - field ⊗ convolved`` white.

    Parameters
    ----------
    field : KernelField
        The matching kernel.
    shape : tuple of int
        Rows and columns of the image.
    noise : callable
        The :class:`Spectra` at (x, y).

    Returns
    -------
    Whitening
    """
    size = 64 if field.half < 20 else 128
    x, y = grid_of(shape)
    kernels = np.empty((3, len(x), size, size))
    sums, left, blurred = np.zeros((2, 2)), np.zeros((size, size)), False
    for n, place in enumerate(zip(x, y, strict=True)):
        own = noise(*place)
        powers = [
            np.maximum(spectrum_of(np.ones((1, 1)) if acf is None else acf, size).real, 0.0)
            for acf in (own.kept_acf, own.convolved_acf)
        ]
        blur = np.ones((size, size)) if own.blur is None else spectrum_of(own.blur, size)
        blurred = own.blur is not None
        steps = blur, spectrum_of(field.at(*place), size)
        through = [np.abs(step) ** 2 for step in steps]
        total = own.kept * powers[0] * through[0] + own.convolved * powers[1] * through[1]
        believed = np.maximum(total, (_BLURRED if blurred else _EMPTY) * total.max())
        answer = np.sqrt(believed[0, 0] / believed)
        square = answer**2
        left += square * total / total[0, 0]
        for k, step in enumerate((np.ones((size, size)), *steps)):
            kernels[k, n] = _kernel(answer * step, size)
        sums += [
            [np.mean(square * part * power), np.mean(square * part)]
            for part, power in zip(through, powers, strict=True)
        ]
    lost = _CUT_BLURRED if blurred else _CUT
    parts = kernels if blurred else kernels[[0, 2]]
    made = [field_through(cut(part, lost=lost), x, y, 2, field.domain) for part in parts]
    ratios = float(sums[0, 0] / sums[0, 1]), float(sums[1, 0] / sums[1, 1])
    return Whitening(made[0], made[-2] if blurred else made[0], made[-1], ratios, _lags(left) if blurred else None)


def _lags(power: NDArray[np.float64]) -> NDArray[np.float32]:
    """The autocorrelation of noise of this power, as far as it is above a hundredth."""
    acf = _kernel(power / np.sum(power), len(power)) * power.size
    middle = len(acf) // 2
    acf /= acf[middle, middle]
    away = np.maximum(*np.abs(np.mgrid[: len(acf), : len(acf)] - middle))
    half = min(int(away[np.abs(acf) > _LAG].max()), _MOST)
    return np.asarray(acf[middle - half : middle + half + 1, middle - half : middle + half + 1], np.float32)


def field_through(
    samples: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    order: int,
    domain: tuple[float, float, float, float],
) -> KernelField:
    """The kernel whose taps are polynomials through those of samples at places (n,), by least squares.

    Parameters
    ----------
    samples : ndarray of float64, (n, k, k)
        Kernels.
    x, y : ndarray of float64, (n,)
        Where they hold.
    order : int
        Of the polynomials.
    domain : tuple of float
        As of :class:`larun.algorithms.kernelfield.KernelField`.
    """
    images = terms_through(samples, x, y, order, domain)
    return KernelField(
        images=images, coefficients=read_only(np.eye(polynomial_terms(order)), np.float64), domain=domain
    )


def terms_through(
    samples: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    order: int,
    domain: tuple[float, float, float, float],
) -> NDArray[np.float64]:
    """The polynomials through samples (n, k, k) at places (n,), by least squares: (terms, k, k)."""
    terms = terms_at(x, y, order, domain)
    matrix = np.zeros((terms.shape[1], terms.shape[1]))
    right = np.zeros((terms.shape[1], samples[0].size))
    for row, sample in zip(terms, samples, strict=True):
        matrix += row[:, None] * row[None, :]
        right += row[:, None] * sample.reshape(1, -1)
    solved = solve_positive(matrix, right)
    assert solved is not None
    return read_only(solved.reshape(-1, *samples.shape[1:]), np.float64)


def spectrum_of(kernel: NDArray[np.floating[Any]], size: int) -> NDArray[np.complex128]:
    """The Fourier transform of a kernel (k, k) around its middle pixel, (size, size)."""
    half = kernel.shape[0] // 2
    grid = np.zeros((size, size))
    grid[: 2 * half + 1, : 2 * half + 1] = kernel
    return np.fft.fft2(np.roll(grid, (-half, -half), axis=(0, 1)))


def _kernel(spectrum: NDArray[Any], size: int) -> NDArray[np.float64]:
    return np.roll(np.fft.ifft2(spectrum).real, (size // 2, size // 2), axis=(0, 1))


def cut(kernels: NDArray[np.float64], *, keep_sums: bool = True, lost: float = _CUT) -> NDArray[np.float64]:
    """The middle that holds nearly all of the squares of kernels (n, k, k), with the sums they had if that is asked."""
    middle = kernels.shape[1] // 2
    squares = (kernels**2).sum(axis=(1, 2))
    half, inner = 0, kernels
    for half in range(1, min(_MOST, middle - 1) + 1):
        inner = kernels[:, middle - half : middle + half + 1, middle - half : middle + half + 1]
        if np.all((inner**2).sum(axis=(1, 2)) > (1 - lost) * squares):
            break
    if not keep_sums:
        return inner
    # what is cut off is a faint halo: spread evenly, it stays at the low frequencies it belongs to
    missing = kernels.sum(axis=(1, 2)) - inner.sum(axis=(1, 2))
    return np.asarray(inner + (missing / inner[0].size)[:, None, None])
