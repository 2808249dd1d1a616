"""What a kernel that makes one image as blurred as another is a sum of: small images, separable each.

The first of them has a sum of 1, all others of 0, so that the kernel's sum, which is the ratio of the fluxes of both
images, is the coefficient of the first (Alard 2000, A&AS 144, 363).
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.errors import OptionError

__all__ = ["Basis", "delta_basis", "gauss_basis"]


@attrs.frozen(kw_only=True, eq=False)
class Basis:
    """Images of which a kernel is a sum.

    Parameters
    ----------
    lines : ndarray of float64, shape (m, 2 half + 1)
        Profiles along an axis.
    pairs : ndarray of int64, shape (n, 2)
        Which profile along y and which along x each image is the product of.
    less : ndarray of float64, shape (n,)
        How much of the first image is taken off each product: its sum; 0 for the first, whose sum is 1.
    penalty : ndarray of float64, shape (n, n), or None
        Curvature of a kernel as a quadratic form of its coefficients, for images that are not smooth by themselves.
    """

    lines: NDArray[np.float64]
    pairs: NDArray[np.int64]
    less: NDArray[np.float64]
    penalty: NDArray[np.float64] | None = None

    @property
    def half(self) -> int:
        """Pixels to each side of the middle."""
        return int(self.lines.shape[1] // 2)

    def images(self) -> NDArray[np.float64]:
        """The images, (n, 2 half + 1, 2 half + 1)."""
        made = self.lines[self.pairs[:, 0], :, None] * self.lines[self.pairs[:, 1], None, :]
        first = made[0].copy()
        return np.asarray(made - self.less[:, None, None] * first)


def gauss_basis(widths: Sequence[float], degrees: Sequence[int], half: int) -> Basis:
    """Gaussians times polynomials (Alard & Lupton 1998, ApJ 503, 325, eq. 3).

    Parameters
    ----------
    widths : sequence of float
        Standard deviations of the Gaussians, pixels.
    degrees : sequence of int
        Of the polynomial of each: ``x**i y**j`` with ``i + j`` up to it.
    half : int
        Pixels to each side of the middle.

    Returns
    -------
    Basis

    Raises
    ------
    OptionError
        If a width is not positive, a degree is negative, or there are not as many of both.

    Examples
    --------
    >>> images = gauss_basis((1.0, 2.0), (2, 0), 7).images()
    >>> images.shape, np.abs(images.sum(axis=(1, 2))).round(12).tolist()
    ((7, 15, 15), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    """
    if len(widths) != len(degrees) or not widths:
        raise OptionError(f"widths={widths}, degrees={degrees}: there must be as many of both, at least one")
    if not all(0 < width < np.inf for width in widths) or not all(degree >= 0 for degree in degrees):
        raise OptionError(f"widths={widths}, degrees={degrees}: widths must be positive, degrees not negative")
    at = np.arange(-half, half + 1, dtype=np.float64)
    lines: list[NDArray[np.float64]] = []
    pairs: list[tuple[int, int]] = []
    for width, degree in zip(widths, degrees, strict=True):
        first = len(lines)
        profile = np.exp(-0.5 * (at / width) ** 2)
        profile /= profile.sum()
        # polynomials that are orthogonal on this Gaussian: the normal equations are solved in finite precision
        polynomials = [np.polynomial.hermite_e.HermiteE.basis(d)(at / width) for d in range(degree + 1)]
        lines += [profile * polynomial for polynomial in polynomials]
        pairs += [(first + j, first + d - j) for d in range(degree + 1) for j in range(d + 1)]
    return _basis(np.array(lines), np.array(pairs))


def delta_basis(half: int) -> Basis:
    """Single pixels (Bramich 2008, MNRAS 386, L77), with the curvature of the kernel as the penalty.

    Parameters
    ----------
    half : int
        Pixels to each side of the middle.

    Returns
    -------
    Basis
        The middle pixel comes first; all others less the middle.

    Examples
    --------
    >>> delta_basis(1).images().shape
    (9, 3, 3)
    """
    side = 2 * half + 1
    middle = half * side + half
    order = [middle, *(n for n in range(side * side) if n != middle)]
    made = _basis(np.eye(side), np.array([divmod(n, side) for n in order]))
    images = made.images()
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    inner = padded[:, 1:-1, 1:-1]
    curved = 4 * inner - padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1] - padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    rows = curved.reshape(len(images), -1)
    penalty = np.zeros((len(rows), len(rows)))
    for pixel in rows.T:  # one after another: a library's product has an order that depends on its threads
        penalty += pixel[:, None] * pixel[None, :]
    return attrs.evolve(made, penalty=read_only(penalty, np.float64))


def _basis(lines: NDArray[np.float64], pairs: NDArray[np.int64]) -> Basis:
    sums = lines.sum(axis=1)
    less = sums[pairs[:, 0]] * sums[pairs[:, 1]]
    less[0] = 0.0
    return Basis(lines=read_only(lines, np.float64), pairs=read_only(pairs, np.int64), less=read_only(less, np.float64))
