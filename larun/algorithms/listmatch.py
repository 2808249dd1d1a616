"""The transform between two lists of positions of the same stars, whatever their turn, scale, mirror and shift.

Triangles of bright neighbours that look alike are guesses (:mod:`larun.algorithms.asterisms`); each is judged by the
stars it predicts (:mod:`larun.algorithms.odds`), first those of few bright stars, then of more. What is accepted grows
to all stars by robust fits (:mod:`larun.algorithms.planefit`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.asterisms import Asterisms, alike, asterisms, brightest, joined
from larun.algorithms.odds import Guesses, Judged, Tolerance, judge
from larun.algorithms.offsets import mutual_pairs
from larun.algorithms.planefit import PlaneFit, PlanePolynomial, fit_plane, fit_similarity, stars_for
from larun.errors import OptionError

__all__ = ["ListMatch", "figures", "grown", "guesses", "match_lists"]

_LEVELS = (30, 60, 120, 240, 480, 960)  # stars whose triangles are tried
_LOOKED = 3  # times as many stars are looked for
_AMONG = 2  # times as many, among these
_ROUNDS = 6
_NEAR = 5.0  # rms within which pairs are sought
_MOST = 2_000_000  # guesses at one level


class ListMatch(NamedTuple):
    """Two lists of the same stars.

    Attributes
    ----------
    transform : PlanePolynomial
        From the first list to the second: call it with positions (n, 2); ``transform.inverse`` leads back.
    first, second : ndarray of int64, (pairs,)
        Indices of the stars that belong together and agree with the transform, rising in the first.
    residual : ndarray of float64, (pairs, 2)
        Second position minus the transformed first.
    rms : ndarray of float64, (2,)
        Of the residuals along each axis of the second list.
    scale : float
        Unit of the first list in that of the second, at the middle of the stars.
    rotation : float
        Degrees from the first x axis to where it comes to lie, counterclockwise.
    parity : int
        -1 if one list is a mirror image of the other, else 1.
    log_odds : float
        Natural logarithm of the odds that the lists are of one field, against a chance; from stars that were
        predicted, not from the fit.
    tried : int
        Guesses that were made.
    """

    transform: PlanePolynomial
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    residual: NDArray[np.float64]
    rms: NDArray[np.float64]
    scale: float
    rotation: float
    parity: int
    log_odds: float
    tried: int


def match_lists(
    xy1: ArrayLike,
    xy2: ArrayLike,
    *,
    degree: int = 1,
    noise: float | tuple[float, float] = 0.3,
    scale: tuple[float, float] = (0.0, math.inf),
    distortion: float = 0.003,
    log_odds: float = 14.0,
) -> ListMatch | None:
    """The transform from one list of positions to another, and which stars are which.

    Turn, scale, shift and parity are free, and half of the stars in either list may be missing in the other.

    Parameters
    ----------
    xy1, xy2 : array_like, (n, 2) and (m, 2)
        Positions, **the brightest first**: triangles are made of bright stars. Lists in any other order are matched
        too, only slower. Positions that are not finite belong to no pair.
    degree : int
        0 for a similarity (turn, scale, shift, mirror), 1 for an affine transform, 2 and above for a polynomial. It is
        lowered where there are too few pairs (three for each coefficient of an axis).
    noise : float or (float, float)
        Rough error of a position along an axis, in pixels of each list; errors up to four times as large are no
        trouble.
    scale : (float, float)
        Least and largest unit of the first list in that of the second; ``(0.97, 1.03)`` for images of one camera makes
        it faster and surer.
    distortion : float
        By how much the lists may depart from an affine transform, as a share of the field.
    log_odds : float
        Least natural logarithm of the odds; 14 is a chance of one in a million for lists that are unrelated.

    Returns
    -------
    ListMatch or None
        None where nothing has such odds.

    Raises
    ------
    OptionError
        If an array has another shape, or an option makes no sense.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> one = rng.uniform(0, 1000, (60, 2))
    >>> two = 1.5 * one[:, ::-1] + 40
    >>> found = match_lists(one, np.concatenate([two[:40], rng.uniform(0, 1500, (20, 2))]))
    >>> len(found.first), round(found.scale, 6), found.parity
    (40, 1.5, -1)
    >>> match_lists(one, rng.uniform(0, 1000, (60, 2))) is None
    True
    """
    one, two = _positions(xy1, "xy1"), _positions(xy2, "xy2")
    errors = (float(noise), float(noise)) if isinstance(noise, int | float) else (float(noise[0]), float(noise[1]))
    if degree < 0 or degree != int(degree):
        raise OptionError(f"degree = {degree}: must be 0 (similarity), 1 (affine) or a higher whole number")
    if not min(errors) > 0 or not 0 <= scale[0] < scale[1] or not distortion >= 0:
        raise OptionError(f"noise = {noise}, scale = {scale}, distortion = {distortion}: impossible")
    kept1, kept2 = (np.flatnonzero(np.isfinite(xy).all(axis=1)) for xy in (one, two))
    one, two = one[kept1], two[kept2]
    tolerance = Tolerance(noise=errors, shear=max(0.01, distortion), bend=distortion, scale=scale)
    found, tried = _search(one, two, tolerance, log_odds)
    if found is None:
        return None
    grow = grown(one, two, found, degree, noise=errors)
    if grow is None:
        return None
    fit, first, second = grow
    slope = fit.transform.slope(fit.transform.centre)
    determinant = float(slope[0, 0] * slope[1, 1] - slope[0, 1] * slope[1, 0])
    kept = fit.kept
    return ListMatch(
        fit.transform,
        kept1[first[kept]].astype(np.int64),
        kept2[second[kept]].astype(np.int64),
        fit.residual[kept],
        fit.rms,
        math.sqrt(abs(determinant)),
        math.degrees(math.atan2(slope[1, 0], slope[0, 0])),
        1 if determinant > 0 else -1,
        found.log_odds,
        tried,
    )


def _positions(given: ArrayLike, name: str) -> NDArray[np.float64]:
    made = np.asarray(given, np.float64)
    if made.size == 0:
        return np.empty((0, 2))
    if made.ndim != 2 or made.shape[1] != 2:
        raise OptionError(f"{name} has shape {made.shape}: must be positions (n, 2)")
    return made


def figures(xy: NDArray[np.float64], counts: list[int], cell: float | None = None) -> Asterisms:
    """Triangles of several numbers of stars together: of few far apart, and of many close together."""
    sizes = sorted({min(count, len(xy)) for count in counts})
    return joined([asterisms(xy, brightest(xy, count, cell)) for count in sizes], len(xy))


def guesses(one: Asterisms, two: Asterisms, tolerance: Tolerance) -> Guesses:
    """Pairs of triangles that look alike, as guesses to judge."""
    pairs = alike(one, two, noise=tolerance.noise, scale=tolerance.scale)
    first, second = pairs.first[:_MOST], pairs.second[:_MOST]
    return Guesses(one.corners[first], two.corners[second], one.parity[first] * two.parity[second])


def _search(
    one: NDArray[np.float64], two: NDArray[np.float64], tolerance: Tolerance, enough: float
) -> tuple[Judged | None, int]:
    tried = 0
    for level in _LEVELS:
        if min(len(one), len(two)) < 4:
            break
        looked, among = one[: _LOOKED * level], two[: _LOOKED * _AMONG * level]
        shapes = figures(looked, [level]), figures(among, [level, level * 3 // 2])
        made = guesses(*shapes, tolerance)
        tried += len(made.parity)
        found = judge(
            looked,
            among,
            made,
            tolerance=tolerance,
            enough=enough,
            made_before=tried - len(made.parity),
        )
        if found.log_odds >= enough:
            return found, tried
        if level >= max(len(one), len(two)):
            break
    return None, tried


def grown(
    one: NDArray[np.float64], two: NDArray[np.float64], found: Judged, degree: int, *, noise: tuple[float, float]
) -> tuple[PlaneFit, NDArray[np.int64], NDArray[np.int64]] | None:
    """From an accepted guess to all stars: pairs that are each other's nearest, and the fit to them.

    Parameters
    ----------
    one, two : ndarray of float64
        Positions; those that the guess was judged by come first in the same order.
    found : Judged
        What was accepted.
    degree : int
        As for :func:`match_lists`.
    noise : (float, float)
        Errors of positions in each list.

    Returns
    -------
    PlaneFit, ndarray, ndarray, or None
        The fit with its pairs; None where the pairs do not hold together.
    """
    scale = math.hypot(found.state[0], found.state[1])
    least = math.hypot(noise[0] * scale, noise[1])
    reach, before = 6 * least, np.empty(0)
    predicted = found.predict(one)
    fit: PlaneFit | None = None
    first = second = np.empty(0, np.int64)
    for turn in range(_ROUNDS):
        made = mutual_pairs(predicted, two, reach)
        first, second = made[0].astype(np.int64), made[1].astype(np.int64)
        if len(first) < 4:
            return None
        now = np.concatenate([first, second])
        if fit is not None and turn > 2 and np.array_equal(now, before):
            break
        before = now
        fit = _fitted(one[first], two[second], degree if turn else min(degree, 2))
        predicted = fit.transform(one)
        reach = max(_NEAR * float(np.hypot(*fit.rms)) / math.sqrt(2), 1e-6 * least)
    return None if fit is None else (fit, first, second)


def _fitted(one: NDArray[np.float64], two: NDArray[np.float64], degree: int) -> PlaneFit:
    while degree > 1 and len(one) < stars_for(degree):
        degree -= 1
    return fit_similarity(one, two) if degree == 0 or len(one) < 4 else fit_plane(one, two, degree)
