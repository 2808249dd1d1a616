"""Zero points and colour terms from stars of known magnitude, in one frame or in many together.

The magnitude of a star in a catalogue, m, is that measured in frame f by instrument k, up to errors::

    m - m_instrumental = Z_f + c_k (colour - pivot) + terms_k

Three things are not as in a textbook's least squares. The errors of measurement do not explain all of the scatter, so
the rest is a parameter too, found by maximum likelihood. Some stars are plainly wrong (variable, blended, mistaken for
another): the likelihood is a mixture of two normal distributions, one of them wide, as in Hogg, Bovy & Lang 2010
(arXiv:1008.4686, section 3). And the colour of a star has errors, which the error of its magnitude is part of: a plain
fit would be wrong by sigma^2 / var(colour). The normal equations are corrected for that (Fuller 1987, Measurement Error
Models, section 2.2 and 3.1), which needs no assumption of how colours are distributed.

In many frames each star returns with the same error of its catalogue magnitude. It is common to the rows of the star
and enters as such (a random effect), so that zero points of frames against each other are known far better than their
common level, and errors do not shrink with the number of frames where they must not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.robust import SIGMA_PER_MAD, excess_scatter
from larun.errors import OptionError

__all__ = ["Observations", "ZeroPointFit", "fit_zero_points", "legendre"]

_ROUNDS = 300
_CONVERGED = 1e-7  # of the standard error, in one round
_WIDE = 10.0  # least width of the distribution of what is wrong, in typical errors
_FEW_WRONG = (1.0, 9.0)  # what is assumed before: one in ten may be wrong, worth ten stars
_RELIABLE = 0.3  # of the variance of colours that their errors may make


@attrs.frozen(kw_only=True, eq=False)
class Observations:
    """Stars of known magnitude as they were measured; each array has one entry a measurement (n,).

    Parameters
    ----------
    difference : ndarray of float64
        Magnitude of the catalogue minus the instrumental one.
    variance : ndarray of float64
        Of the measurement alone.
    star_variance : ndarray of float64
        Of the magnitude in the catalogue: common to all measurements of the star.
    star, frame, instrument : ndarray of int
        Which star (any numbers), frame (from 0) and instrument (from 0) it is.
    color : ndarray of float64, optional
        Colour minus pivot; None for no colour term.
    color_variance, color_covariance : ndarray of float64, optional
        Of the colour, and with the magnitude in the catalogue.
    terms : ndarray of float64, (n, k)
        More columns of which each instrument has its own coefficients.
    """

    difference: NDArray[np.float64]
    variance: NDArray[np.float64]
    star_variance: NDArray[np.float64]
    star: NDArray[np.int64]
    frame: NDArray[np.int64]
    instrument: NDArray[np.int64]
    color: NDArray[np.float64] | None = None
    color_variance: NDArray[np.float64] | None = None
    color_covariance: NDArray[np.float64] | None = None
    terms: NDArray[np.float64] | None = None


class ZeroPointFit(NamedTuple):
    """Zero points of frames, and coefficients of instruments.

    Attributes
    ----------
    zero_point : ndarray of float64, (frames,)
        At the pivot colour and where all terms are 0.
    coefficients : ndarray of float64, (instruments, k)
        The colour term first, where there is one.
    covariance : ndarray of float64
        Of the zero points and then the coefficients, instrument by instrument.
    scatter, scatter_error : float
        Of the measurements, beyond their errors; mag.
    star_scatter : float
        Of the stars that appear more than once, common to their measurements, beyond the catalogue's errors.
    residual : ndarray of float64, (n,)
        Difference minus model.
    sigma : ndarray of float64, (n,)
        What residuals should scatter by: all errors and both scatters.
    weight : ndarray of float64, (n,)
        Probability that the measurement is none of those that are plainly wrong.
    wrong : float
        Share of measurements that are plainly wrong.
    """

    zero_point: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scatter: float
    scatter_error: float
    star_scatter: float
    residual: NDArray[np.float64]
    sigma: NDArray[np.float64]
    weight: NDArray[np.float64]
    wrong: float


class _Problem(NamedTuple):
    """Measurements with stars numbered, and what is constant through the rounds."""

    y: NDArray[np.float64]
    own: NDArray[np.float64]
    shared: NDArray[np.float64]
    star: NDArray[np.int64]
    repeated: NDArray[np.bool_]
    frames: int
    frame: NDArray[np.int64]
    columns: NDArray[np.float64]  # (n, k): coefficients of instruments, each in its own columns
    colors: NDArray[np.bool_]  # (k,): which of them are colour terms
    color_variance: NDArray[np.float64]
    color_covariance: NDArray[np.float64]


def legendre(x: NDArray[np.float64], y: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Products of Legendre polynomials of total degree 1 to ``degree`` of coordinates from -1 to 1, (n, k).

    Each of them has mean 0 over the square, so that a zero point beside them is its mean over the frame.

    Examples
    --------
    >>> legendre(np.array([0.5]), np.array([1.0]), 2).tolist()
    [[1.0, 0.5, 1.0, 0.5, -0.125]]
    """
    one, two = (np.polynomial.legendre.legvander(values, degree) for values in (x, y))
    pairs = [(i, total - i) for total in range(1, degree + 1) for i in range(total + 1)]
    return np.stack([one[:, i] * two[:, j] for i, j in pairs], axis=1) if pairs else np.empty((len(x), 0))


def fit_zero_points(given: Observations) -> ZeroPointFit:
    """Fit zero points, colour terms and further terms; see the top of this module.

    Raises
    ------
    OptionError
        If there are fewer measurements than unknowns and one, a frame has none, or errors of the colours make so much
        of their variance that no colour term can be told.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> color, n = rng.normal(0, 0.4, 500), np.arange(500)
    >>> made = 25.0 + 0.05 * color + rng.normal(0, 0.01, 500)
    >>> made[:20] += 0.5
    >>> none, same = np.zeros(500), np.zeros(500, int)
    >>> fit = fit_zero_points(
    ...     Observations(difference=made, variance=none + 1e-4, star_variance=none, star=n, frame=same,
    ...                  instrument=same, color=color, color_variance=none, color_covariance=none))
    >>> round(float(fit.zero_point[0]), 2), round(float(fit.coefficients[0, 0]), 2), round(fit.wrong, 2)
    (25.0, 0.05, 0.04)
    """
    problem = _problem(given)
    n, unknowns = len(problem.y), problem.frames + problem.columns.shape[1]
    if n < unknowns + 1:
        raise OptionError(f"{n} measurements for {unknowns} unknowns: at least {unknowns + 1} are needed")
    residual, weight, scatter, wide, wrong = _start(problem)
    star_scatter = 0.0
    solution = covariance = np.zeros(0)
    slope = np.zeros(n)
    for _ in range(_ROUNDS):
        own, shared = _split(problem, slope, scatter, star_scatter)
        before = solution
        solution, inverse = _solved(problem, weight, own, shared)
        covariance = inverse
        residual = problem.y - _model(problem, solution)
        slope = _slope(problem, solution)
        scatter, star_scatter = _scatters(problem, residual, weight, slope, unknowns)
        own, shared = _split(problem, slope, scatter, star_scatter)
        weight, wide, wrong = _judged(residual, own + shared, wide, wrong)
        weight = weight * _alike(problem, residual, weight, own, wide, wrong)
        errors = np.sqrt(np.diag(covariance))
        if before.size and np.all(np.abs(solution - before) <= _CONVERGED * errors):
            break
    own, shared = _split(problem, slope, scatter, star_scatter)
    variance = own + shared
    covariance = _covariance(problem, weight, residual, (own, shared), (wide, solution))
    score = np.sum(weight * (scatter / variance) ** 2) * 2
    instruments = int(given.instrument.max()) + 1
    return ZeroPointFit(
        zero_point=solution[: problem.frames],
        coefficients=solution[problem.frames :].reshape(instruments, problem.columns.shape[1] // instruments),
        covariance=covariance,
        scatter=scatter,
        scatter_error=1 / math.sqrt(score) if score > 0 else math.nan,
        star_scatter=star_scatter,
        residual=residual,
        sigma=np.sqrt(variance),
        weight=weight,
        wrong=wrong,
    )


def _problem(given: Observations) -> _Problem:
    n = len(given.difference)
    if n == 0:
        raise OptionError("there are no stars to fit a zero point to")
    frames, instruments = int(given.frame.max()) + 1, int(given.instrument.max()) + 1
    if len(np.unique(given.frame)) != frames:
        raise OptionError(f"{frames - len(np.unique(given.frame))} of {frames} frames have no star")
    _, star, count = np.unique(given.star, return_inverse=True, return_counts=True)
    parts = [] if given.color is None else [given.color[:, None]]
    parts += [] if given.terms is None else [given.terms]
    kinds = np.concatenate(parts, axis=1) if parts else np.empty((n, 0))
    mine = given.instrument[:, None] == np.arange(instruments)[None, :]
    columns = (mine[:, :, None] * kinds[:, None, :]).reshape(n, -1)
    is_color = np.zeros(kinds.shape[1], bool)
    is_color[: 0 if given.color is None else 1] = True
    none = np.zeros(n)
    return _Problem(
        given.difference.astype(np.float64),
        given.variance.astype(np.float64),
        given.star_variance.astype(np.float64),
        star,
        count[star] > 1,
        frames,
        given.frame,
        columns,
        np.tile(is_color, instruments),
        none if given.color_variance is None else given.color_variance,
        none if given.color_covariance is None else given.color_covariance,
    )


def _start(
    problem: _Problem,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float, float]:
    """Residuals from medians, weights of a Cauchy distribution, and scatters to begin with."""
    middle = np.array([np.median(problem.y[problem.frame == frame]) for frame in range(problem.frames)])
    residual = problem.y - middle[problem.frame]
    unit = np.ones(len(problem.y))
    scale = 1.0
    for _ in range(15):  # with a colour term
        scale = max(SIGMA_PER_MAD * float(np.median(np.abs(residual))), 1e-4)
        weight = 1 / (1 + (residual / (1.5 * scale)) ** 2)
        solution, _ = _solved(problem, weight, unit, 0 * unit, corrected=False)
        residual = problem.y - _model(problem, solution)
    explained = float(np.median(problem.own + problem.shared))
    scatter = math.sqrt(max(scale**2 - explained, (0.1 * scale) ** 2))
    wide = max(_WIDE * scale, float(np.max(np.abs(residual))) / 2)
    return residual, np.exp(-0.5 * (residual / (3 * scale)) ** 2), scatter, wide, 0.05


def _model(problem: _Problem, solution: NDArray[np.float64]) -> NDArray[np.float64]:
    made = solution[problem.frame]
    for column, value in zip(problem.columns.T, solution[problem.frames :], strict=True):
        made = made + column * value
    return made


def _slope(problem: _Problem, solution: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colour term that holds for each measurement."""
    made = np.zeros(len(problem.y))
    for column, value, is_color in zip(problem.columns.T, solution[problem.frames :], problem.colors, strict=True):
        made += np.where(column != 0, value, 0.0) if is_color else 0.0
    return made


def _split(
    problem: _Problem, slope: NDArray[np.float64], scatter: float, star_scatter: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of each measurement's own, and that common to all of its star (0 where there is one only)."""
    shared = problem.shared - 2 * slope * problem.color_covariance + slope**2 * problem.color_variance
    own = problem.own + scatter**2
    again = problem.repeated
    return own + np.where(again, 0.0, shared), np.where(again, shared + star_scatter**2, 0.0)


def _sums(problem: _Problem, of: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums by star, in the order of the measurements."""
    made = np.bincount(problem.star, weights=of, minlength=int(problem.star.max()) + 1)
    return np.asarray(made, np.float64)


def _frames_and_columns(problem: _Problem, of: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums by star of a weight times the design, (stars, unknowns)."""
    stars = int(problem.star.max()) + 1
    flat = np.bincount(problem.star * problem.frames + problem.frame, weights=of, minlength=stars * problem.frames)
    return np.column_stack([flat.reshape(stars, -1), *(_sums(problem, of * column) for column in problem.columns.T)])


def _products(problem: _Problem, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted design times itself, (unknowns, unknowns)."""
    frames, size = problem.frames, problem.frames + problem.columns.shape[1]
    made = np.zeros((size, size))
    made[np.arange(frames), np.arange(frames)] = np.bincount(problem.frame, weights=weight, minlength=frames)
    for i, one in enumerate(problem.columns.T):
        across = np.bincount(problem.frame, weights=weight * one, minlength=frames)
        made[frames + i, :frames] = made[:frames, frames + i] = across
        for j, two in enumerate(problem.columns.T[: i + 1]):
            made[frames + i, frames + j] = made[frames + j, frames + i] = np.sum(weight * one * two)
    return made


def _normal(
    problem: _Problem, weight: NDArray[np.float64], shared: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Normal matrix and right side; and each star's factor and weighted design, with which its error is common."""
    matrix = _products(problem, weight)
    frames = np.bincount(problem.frame, weights=weight * problem.y, minlength=problem.frames)
    right = np.concatenate([frames, [np.sum(weight * problem.y * column) for column in problem.columns.T]])
    if not shared.any():
        return matrix, right, np.zeros(0), np.zeros((0, len(right)))
    total, design = _sums(problem, weight), _frames_and_columns(problem, weight)
    common = np.zeros(len(total))
    common[problem.star] = shared
    factor = common / (1 + common * total)
    matrix -= np.einsum("s,si,sj->ij", factor, design, design, optimize=False)
    right -= np.einsum("s,si,s->i", factor, design, _sums(problem, weight * problem.y), optimize=False)
    return matrix, right, factor, design


def _color_errors(
    problem: _Problem, weight: NDArray[np.float64], factor: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What errors of colours add to the normal matrix (k, k) and to the right side (k,)."""
    size = problem.columns.shape[1]
    matrix, right = np.zeros((size, size)), np.zeros(size)
    if not problem.color_variance.any():
        return matrix, right
    own = [(column != 0) & is_color for column, is_color in zip(problem.columns.T, problem.colors, strict=True)]
    variance, covariance = (_of_star(problem, values) for values in (problem.color_variance, problem.color_covariance))
    total, sums = _sums(problem, weight), [_sums(problem, weight * mine) for mine in own]
    lost = factor if factor.size else np.zeros(len(total))
    for i in range(size):
        right[i] = np.sum(covariance * (sums[i] - lost * sums[i] * total))
        for j in range(size):
            both = sums[i] if i == j else 0.0
            matrix[i, j] = np.sum(variance * (both - lost * sums[i] * sums[j]))
    return matrix, right


def _of_star(problem: _Problem, values: NDArray[np.float64]) -> NDArray[np.float64]:
    made = np.zeros(int(problem.star.max()) + 1)
    made[problem.star] = values
    return made


def _solved(
    problem: _Problem,
    membership: NDArray[np.float64],
    own: NDArray[np.float64],
    shared: NDArray[np.float64],
    *,
    corrected: bool = True,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The solution, and the inverse of its matrix."""
    weight = membership / own
    matrix, right, factor, _ = _normal(problem, weight, shared)
    if corrected and problem.color_variance.any():
        more, beside = _color_errors(problem, weight, factor)
        frames = problem.frames
        _refuse_unreliable(matrix, more, frames, problem.colors)
        matrix[frames:, frames:] -= more
        right[frames:] -= beside
    inverse = inverse_of_positive(matrix)
    return np.sum(inverse * right[None, :], axis=1), inverse


def _refuse_unreliable(
    matrix: NDArray[np.float64], more: NDArray[np.float64], frames: int, colors: NDArray[np.bool_]
) -> None:
    spread = 1 / np.diag(inverse_of_positive(matrix))[frames:]
    share = np.where(colors, np.diag(more) / spread, 0.0)
    if np.any(share > _RELIABLE):
        raise OptionError(
            f"errors of the colours make {100 * float(share.max()):.0f} % of their variance: no colour term can be "
            "told from these stars; use brighter stars or more of them, or no colour"
        )


def _judged(
    residual: NDArray[np.float64], variance: NDArray[np.float64], wide: float, wrong: float
) -> tuple[NDArray[np.float64], float, float]:
    """The probability that each is right, the width of what is wrong, and its share."""
    broad = variance + wide**2
    good = (1 - wrong) * np.exp(-0.5 * residual**2 / variance) / np.sqrt(variance)
    bad = wrong * np.exp(-0.5 * residual**2 / broad) / np.sqrt(broad)
    weight = good / np.maximum(good + bad, 1e-300)
    amiss = 1 - weight
    share = (float(np.sum(amiss)) + _FEW_WRONG[0]) / (len(residual) + sum(_FEW_WRONG))
    spread = math.sqrt((float(np.sum(amiss * residual**2)) + wide**2) / (float(np.sum(amiss)) + 1))
    return weight, max(spread, _WIDE * math.sqrt(float(np.median(variance)))), min(share, 0.5)


def _alike(
    problem: _Problem,
    residual: NDArray[np.float64],
    weight: NDArray[np.float64],
    own: NDArray[np.float64],
    wide: float,
    wrong: float,
) -> NDArray[np.float64]:
    """The probability that a measurement is right beside the others of its star, which share the catalogue's error."""
    if not problem.repeated.any():
        return np.ones(len(residual))
    precision = weight / own
    total = _sums(problem, precision)
    mean = _sums(problem, precision * residual) / np.maximum(total, 1e-300)
    others = np.maximum(total[problem.star] - precision, 0.0)
    known = problem.repeated & (others > 1e-3 / own)
    # against the mean of the others, which has an error too
    away = (
        residual
        - (mean * total)[problem.star] / np.maximum(others, 1e-300)
        + precision * residual / np.maximum(others, 1e-300)
    )
    variance = own + 1 / np.maximum(others, 1e-300)
    judged, _, _ = _judged(np.where(known, away, 0.0), np.where(known, variance, own), wide, wrong)
    return np.where(known, judged, 1.0)


def _scatters(
    problem: _Problem,
    residual: NDArray[np.float64],
    weight: NDArray[np.float64],
    slope: NDArray[np.float64],
    unknowns: int,
) -> tuple[float, float]:
    """Scatter of the measurements, and of stars that appear more than once, beyond what is known of their errors."""
    errors, common = _split(problem, slope, 0.0, 0.0)
    used = weight > 0.01
    again = problem.repeated & used
    lost = unknowns / max(float(np.sum(weight)), unknowns + 1.0)
    if np.count_nonzero(again) < 5:
        return excess_scatter(residual[used], errors[used], weight[used], np.full(int(used.sum()), 1 - lost)), 0.0
    precision = weight / (errors + 1e-12)
    total = _sums(problem, precision * again)
    mean = _sums(problem, precision * again * residual) / np.maximum(total, 1e-300)
    inside = np.where(again, residual - mean[problem.star], residual)
    free = np.where(again, 1 - precision / np.maximum(total[problem.star], 1e-300), 1.0) * (1 - lost)
    kept = used & (free > 1e-3)
    scatter = excess_scatter(inside[kept], errors[kept], weight[kept], free[kept])
    precision = weight / (errors + scatter**2) * again
    total = _sums(problem, precision)
    stars = total > 0
    mean = (_sums(problem, precision * residual) / np.maximum(total, 1e-300))[stars]
    known = _of_star(problem, common)[stars] + 1 / total[stars]
    trust = _sums(problem, weight * again)[stars] / _sums(problem, again.astype(float))[stars]
    few = problem.columns.shape[1] + 1
    free = np.full(len(mean), max(1 - few / max(len(mean), 1), 0.1))
    return scatter, excess_scatter(mean, known, trust, free)


def _covariance(
    problem: _Problem,
    membership: NDArray[np.float64],
    residual: NDArray[np.float64],
    variances: tuple[NDArray[np.float64], NDArray[np.float64]],
    state: tuple[float, NDArray[np.float64]],
) -> NDArray[np.float64]:
    """The covariance of the solution: B between two matrices of slopes A, A^-1 B A^-1.

    A has the information of the mixture, which is less than the sum of the weights where it is not sure which stars are
    wrong; B what noise does to the equations, the errors of the colours included.
    """
    own, shared = variances
    wide, solution = state
    weight = membership / own
    matrix, _, factor, _ = _normal(problem, weight, shared)
    noise = matrix.copy()
    frames = problem.frames
    broad = own + shared + wide**2
    sure = membership * (1 - membership) * residual**2 * (1 / (own + shared) - 1 / broad) ** 2
    information = matrix - _products(problem, np.minimum(sure, 0.9 * weight))
    if problem.color_variance.any():
        more, _ = _color_errors(problem, weight, factor)
        information[frames:, frames:] -= more
        # the corrections themselves are known, what varies is the product of two errors
        lost = factor if factor.size else 0.0
        total = _sums(problem, weight)
        effective = total - lost * total**2
        beside = _of_star(problem, problem.color_covariance - _slope(problem, solution) * problem.color_variance)
        for index, is_color in enumerate(problem.colors):
            if is_color:
                noise[frames + index, frames + index] += np.sum((effective * beside) ** 2)
    inverse = inverse_of_positive(information)
    made: NDArray[np.float64] = np.einsum("ij,jk,kl->il", inverse, noise, inverse, optimize=False)
    return made
