"""Polynomials from one plane to another, fitted to pairs of positions of which some are wrong.

Products of Legendre polynomials over the extent of the data keep the normal equations well conditioned, so that they
can be solved by :mod:`larun.algorithms.cholesky` in an order that is written down. Weights of bisquare form (Beaton &
Tukey 1974, Technometrics 16, 147) find which pairs are wrong; the rest is fitted by least squares, which wastes
nothing. The degree is chosen by leaving out each pair in turn (PRESS: Allen 1974, Technometrics 16, 125), which for a
linear fit takes no second fit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.robust import SIGMA_PER_MAD
from larun.errors import OptionError

__all__ = ["PlaneFit", "PlanePolynomial", "best_degree", "fit_plane", "fit_similarity", "stars_for"]

_ROUNDS = 12
_BISQUARE = 6.0  # σ beyond which a pair has no weight
_CLIP = 4.0  # σ
_RAYLEIGH = 1.1774  # median of the length of a vector whose components have σ 1
_BETTER = 2.0  # standard errors by which a higher degree must predict better
_PER_TERM = 3  # pairs for each coefficient of an axis
_NEWTON = 50


def _powers(degree: int) -> list[tuple[int, int]]:
    return [(total - j, j) for total in range(degree + 1) for j in range(total + 1)]


def _basis(u: NDArray[np.float64], v: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    one, two = (np.polynomial.legendre.legvander(values, degree) for values in (u, v))
    return np.asarray(np.stack([one[..., i] * two[..., j] for i, j in _powers(degree)], axis=-1), np.float64)


@attrs.frozen(kw_only=True, eq=False)
class PlanePolynomial:
    """A polynomial from a plane to a plane; call it with positions (n, 2).

    Parameters
    ----------
    degree : int
        Highest total degree.
    centre, half : ndarray of float64, (2,)
        Middle and half extent of the positions it was fitted to: Legendre polynomials run from -1 to 1 over these.
    coefficients : ndarray of float64, (2, k)
        For each axis, by rising degree: 1, x, y, xx, xy, yy …

    Examples
    --------
    >>> xy = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> fit_plane(xy, 2 * xy + 5, 1).transform(np.array([[3.0, 4.0]])).round(6).tolist()
    [[11.0, 13.0]]
    """

    degree: int
    centre: NDArray[np.float64]
    half: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    def __call__(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where positions (n, 2) come to lie."""
        u = (np.asarray(xy, np.float64) - self.centre) / self.half
        terms = _basis(u[..., 0], u[..., 1], self.degree)
        return np.asarray(np.einsum("...k,ak->...a", terms, self.coefficients), np.float64)

    def slope(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """The matrix of derivatives at one position (2,): rows are the axes that it leads to."""
        step = self.half * 1e-5
        columns = []
        for axis in (0, 1):
            away = np.zeros(2)
            away[axis] = step[axis]
            ends = self(np.array([xy + away, xy - away]))
            columns.append((ends[0] - ends[1]) / (2 * step[axis]))
        return np.stack(columns, axis=1)

    def monomials(self, about: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients (2, degree + 1, degree + 1) of x^i y^j of positions about a point: ``[axis, i, j]``."""
        size = self.degree + 1
        tables = []
        for axis in (0, 1):
            shift = (about[axis] - self.centre[axis]) / self.half[axis]
            rows = np.zeros((size, size))
            for n in range(size):
                made = np.zeros(1)
                for c in np.polynomial.legendre.leg2poly([0.0] * n + [1.0])[::-1]:  # Horner, in x / half + shift
                    made = np.polynomial.polynomial.polymul(made, [shift, 1 / self.half[axis]])
                    made[0] += c
                rows[n, : min(len(made), size)] = made[:size]
            tables.append(rows)
        out = np.zeros((2, size, size))
        for k, (i, j) in enumerate(_powers(self.degree)):
            out += self.coefficients[:, k, None, None] * (tables[0][i][:, None] * tables[1][j][None, :])
        return out

    def inverse(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """The positions (n, 2) that lead to these, by Newton's method.

        Raises
        ------
        OptionError
            If the polynomial cannot be inverted there.
        """
        wanted = np.asarray(xy, np.float64)
        turn = _inverse2(self.slope(self.centre))
        made = self.centre + np.einsum("...k,ak->...a", wanted - self(self.centre[None]), turn)
        for _ in range(_NEWTON):
            step = np.einsum("...k,ak->...a", wanted - self(made), turn)
            made = made + step
            if np.all(np.abs(step) <= 1e-13 * (self.half + np.abs(made))):
                return np.asarray(made, np.float64)
        if np.all(np.abs(step) <= 1e-9 * (self.half + np.abs(made))):
            return np.asarray(made, np.float64)
        raise OptionError("the polynomial cannot be inverted over the whole field: use a lower degree")


class PlaneFit(NamedTuple):
    """A fitted polynomial.

    Attributes
    ----------
    transform : PlanePolynomial
        From the first plane to the second.
    kept : ndarray of bool, (n,)
        Pairs that were not rejected.
    residual : ndarray of float64, (n, 2)
        Second position minus where the first is led.
    rms : ndarray of float64, (2,)
        Of the kept residuals, along each axis of the second plane.
    leverage : ndarray of float64, (n,)
        Share of its own residual that a pair took away.
    """

    transform: PlanePolynomial
    kept: NDArray[np.bool_]
    residual: NDArray[np.float64]
    rms: NDArray[np.float64]
    leverage: NDArray[np.float64]


def stars_for(degree: int) -> int:
    """Pairs a polynomial of some degree should rest on; for degree 1 four are enough to see a wrong one."""
    terms = (degree + 1) * (degree + 2) // 2
    return terms + 1 if degree <= 1 else _PER_TERM * terms


def _inverse2(m: NDArray[np.float64]) -> NDArray[np.float64]:
    determinant = m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
    if not math.isfinite(determinant) or determinant == 0:
        raise OptionError("a transform maps the plane to a line: too few different positions")
    return np.asarray(np.array([[m[1, 1], -m[0, 1]], [-m[1, 0], m[0, 0]]]) / determinant, np.float64)


def _frame(xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = xy.min(axis=0), xy.max(axis=0)
    half = (high - low) / 2
    return (low + high) / 2, np.where(half > 0, half, 1.0)


def _solve(
    terms: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (2, k) and the leverage of each pair; sums in numpy's own order, which no thread changes."""
    across = np.ascontiguousarray(terms.T)
    heavy = across * weight
    inverse = inverse_of_positive(np.einsum("in,jn->ij", heavy, across))
    right = np.einsum("in,an->ai", heavy, np.ascontiguousarray(target.T))
    made = np.einsum("ij,aj->ai", inverse, right)
    return made, np.einsum("in,in->n", np.einsum("ij,jn->in", inverse, across), heavy)


def _sizes(residual: NDArray[np.float64], root: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Lengths of residuals in units of their errors, and the σ along an axis that they show."""
    length = np.hypot(residual[:, 0], residual[:, 1]) * root
    return length, float(np.median(length)) / _RAYLEIGH


def fit_plane(
    one: NDArray[np.float64],
    two: NDArray[np.float64],
    degree: int,
    *,
    weight: NDArray[np.float64] | None = None,
    clip: float = _CLIP,
) -> PlaneFit:
    """Fit a polynomial to pairs of positions, of which some may be wrong.

    Parameters
    ----------
    one, two : ndarray of float64, (n, 2)
        Positions in either plane.
    degree : int
        1 and above.
    weight : ndarray of float64, (n,), optional
        Relative weights: of inverse variances.
    clip : float
        Pairs whose residual is longer than this many σ (of one axis, times √2) are rejected; σ is measured.

    Raises
    ------
    OptionError
        If there are too few pairs for the degree, or they lie on a line.
    """
    centre, half = _frame(one)
    u = (one - centre) / half
    terms = _basis(u[:, 0], u[:, 1], degree)
    n, k = terms.shape
    if n < k:
        raise OptionError(f"{n} pairs for a polynomial of degree {degree}: at least {k} are needed")
    given = np.ones(n) if weight is None else np.asarray(weight, np.float64) / np.mean(weight)
    root = np.sqrt(given)
    made, _ = _solve(terms, two, given)
    kept = np.ones(n, bool)
    if n > k + 1:
        for _ in range(_ROUNDS):
            residual = two - np.einsum("nk,ak->na", terms, made)
            length, sigma = _sizes(residual, root)
            if sigma == 0:
                break
            tame = np.clip(1 - (length / (_BISQUARE * sigma)) ** 2, 0, None) ** 2
            if np.count_nonzero(tame) < k + 1:
                break
            before = made
            made, _ = _solve(terms, two, given * np.maximum(tame, 1e-12))
            if np.abs(before - made).max() <= 1e-3 * sigma / math.sqrt(n):
                break
        made, kept = _clipped(terms, two, given, made, clip)
    residual = two - np.einsum("nk,ak->na", terms, made)
    _, leverage = _solve(terms[kept], two[kept], given[kept])
    every = np.zeros(n)
    every[kept] = leverage
    transform = PlanePolynomial(degree=degree, centre=centre, half=half, coefficients=made)
    return PlaneFit(transform, kept, residual, np.sqrt(np.mean(residual[kept] ** 2, axis=0)), every)


def _clipped(
    terms: NDArray[np.float64],
    two: NDArray[np.float64],
    given: NDArray[np.float64],
    made: NDArray[np.float64],
    clip: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Least squares of what is left after clipping, until nothing changes."""
    n, k = terms.shape
    root, kept = np.sqrt(given), np.ones(n, bool)
    for turn in range(_ROUNDS):
        residual = two - np.einsum("nk,ak->na", terms, made)
        length = np.hypot(residual[:, 0], residual[:, 1]) * root
        sigma = float(np.median(length[kept])) / _RAYLEIGH * math.sqrt(n / max(n - k, 1))
        now = length <= clip * sigma + 1e-12 * float(np.max(np.abs(two)))
        if np.count_nonzero(now) <= k or (turn and np.array_equal(now, kept)):
            break
        kept = now
        made, _ = _solve(terms[kept], two[kept], given[kept])
    return made, kept


def fit_similarity(one: NDArray[np.float64], two: NDArray[np.float64], *, clip: float = _CLIP) -> PlaneFit:
    """Fit a turn, a scale, a shift and, if need be, a mirror: a polynomial of degree 1 with four free numbers.

    Raises
    ------
    OptionError
        If there are fewer than two pairs.
    """
    if len(one) < 2:
        raise OptionError(f"{len(one)} pairs: a similarity needs at least 2")
    centre, half = _frame(one)
    half = np.full(2, half.max())
    n, kept = len(one), np.ones(len(one), bool)
    z, w = one[:, 0] + 1j * one[:, 1], two[:, 0] + 1j * two[:, 1]
    sides = []
    for flip in (False, True):
        away = np.conj(z) if flip else z
        factor = _turn(away, w, np.ones(n))
        sides.append((float(np.median(np.abs(w - factor[0] * away - factor[1]))), flip))
    flip = min(sides)[1] if n > 2 else False
    away = np.conj(z) if flip else z
    weight = np.ones(n)
    for turn in range(2 * _ROUNDS):
        a, b = _turn(away, w, weight)
        length = np.abs(w - a * away - b)
        sigma = float(np.median(length[weight > 0])) / _RAYLEIGH
        if n <= 3 or sigma <= 1e-13 * float(np.abs(w).max()):
            break
        if turn < _ROUNDS:
            weight = np.clip(1 - (length / (_BISQUARE * sigma)) ** 2, 0, None) ** 2
        else:
            weight = (length <= clip * sigma).astype(float)
    kept = weight > 0
    middle = complex(*centre)
    ends = a * (middle.conjugate() if flip else middle) + b
    y = -1j * a if flip else 1j * a
    made = np.array([[ends.real, a.real * half[0], y.real * half[1]], [ends.imag, a.imag * half[0], y.imag * half[1]]])
    transform = PlanePolynomial(degree=1, centre=centre, half=half, coefficients=made)
    residual = two - transform(one)
    every = np.where(kept, 2 / max(int(kept.sum()), 1), 0.0)
    return PlaneFit(transform, kept, residual, np.sqrt(np.mean(residual[kept] ** 2, axis=0)), every)


def _turn(z: NDArray[np.complex128], w: NDArray[np.complex128], weight: NDArray[np.float64]) -> tuple[complex, complex]:
    total = float(np.sum(weight))
    mz, mw = complex(np.sum(weight * z)) / total, complex(np.sum(weight * w)) / total
    spread = float(np.sum(weight * np.abs(z - mz) ** 2))
    a = complex(np.sum(weight * (w - mw) * np.conj(z - mz))) / max(spread, 1e-300)
    return a, mw - a * mz


def best_degree(
    one: NDArray[np.float64],
    two: NDArray[np.float64],
    highest: int,
    *,
    weight: NDArray[np.float64] | None = None,
) -> int:
    """The lowest degree that predicts positions it was not fitted to about as well as any higher one.

    A higher degree is taken if its squared errors of prediction are smaller by twice the standard error of the
    difference, pair by pair; one that has too few pairs is not tried.

    Parameters
    ----------
    one, two, weight
        As for :func:`fit_plane`.
    highest : int
        Highest degree to try.
    """
    given = np.ones(len(one)) if weight is None else np.asarray(weight, np.float64) / np.mean(weight)
    best, before = 1, None
    kept = np.ones(len(one), bool)
    tried = [degree for degree in range(1, highest + 1) if degree == 1 or len(one) >= stars_for(degree)]
    fits = {degree: fit_plane(one, two, degree, weight=weight) for degree in tried}
    kept = fits[tried[-1]].kept
    for degree in tried:
        if kept.sum() < max(stars_for(degree), 4):
            break
        again = fit_plane(one[kept], two[kept], degree, weight=given[kept], clip=math.inf)
        left = again.residual / np.maximum(1 - again.leverage, 1e-3)[:, None]
        errors = given[kept] * np.sum(left**2, axis=1)
        if before is None:
            before = errors
            continue
        gain = before - errors
        deviation = np.abs(gain - np.median(gain))
        spread = min(float(np.std(gain)), SIGMA_PER_MAD * float(np.median(deviation)) * 3)
        if float(np.mean(gain)) > _BETTER * spread / math.sqrt(len(gain)):
            best, before = degree, errors
    return best
