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

__all__ = ["Spectra", "Whitening", "cut", "field_through", "grid_of", "terms_through", "whitening"]

#: Places along each axis at which kernels are made.
_GRID = 5
#: Part of the largest noise power below which none is believed: frequencies that resampling has emptied.
_EMPTY = 0.02
#: Part of the squares of a kernel that may lie beyond the pixels that are kept.
_CUT = 1e-6
_MOST = 20


class Spectra(NamedTuple):
    """The noise of a difference at one place.

    Attributes
    ----------
    kept, convolved : float
        Smooth noise variance of the image that is not convolved, and of the one that is.
    kept_acf, convolved_acf : ndarray or None
        Autocorrelation of each, 1 in the middle; None where it is white.
    """

    kept: float
    convolved: float
    kept_acf: NDArray[np.floating[Any]] | None = None
    convolved_acf: NDArray[np.floating[Any]] | None = None


class Whitening(NamedTuple):
    """What makes the noise of a difference white.

    Attributes
    ----------
    field : KernelField
        With it the difference is convolved.
    through : KernelField
        It and the matching kernel in one: what the noise of the convolved image goes through.
    corrections : tuple of float
        By which ``Σ K² v`` of each image is too small, or too large, where its noise is correlated.
    """

    field: KernelField
    through: KernelField
    corrections: tuple[float, float]


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
    white, joint = np.empty((len(x), size, size)), np.empty((len(x), size, size))
    sums = np.zeros((2, 2))
    for n, place in enumerate(zip(x, y, strict=True)):
        own = noise(*place)
        matching = _spectrum(field.at(*place), size)
        powers = [
            np.maximum(_spectrum(np.ones((1, 1)) if acf is None else acf, size).real, 0.0)
            for acf in (own.kept_acf, own.convolved_acf)
        ]
        through = np.abs(matching) ** 2
        total = own.kept * powers[0] + own.convolved * powers[1] * through
        total = np.maximum(total, _EMPTY * total.max())
        answer = np.sqrt(total[0, 0] / total)
        white[n], joint[n] = _kernel(answer, size), _kernel(answer * matching, size)
        square = answer**2
        sums += [
            [np.mean(square * powers[0]), np.mean(square)],
            [np.mean(square * through * powers[1]), np.mean(square * through)],
        ]
    order = 2
    made = [field_through(cut(part), x, y, order, field.domain) for part in (white, joint)]
    return Whitening(made[0], made[1], (float(sums[0, 0] / sums[0, 1]), float(sums[1, 0] / sums[1, 1])))


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


def _spectrum(kernel: NDArray[np.floating[Any]], size: int) -> NDArray[np.complex128]:
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
