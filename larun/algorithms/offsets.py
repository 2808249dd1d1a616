"""By how much one list of positions is shifted against another: every pair of positions has a vote."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = ["Offset", "mutual_pairs", "vote_offset"]

_ROUNDS = 4  # of the refined offset


class Offset(NamedTuple):
    """The shift between two lists of positions, and the pairs that it makes.

    Attributes
    ----------
    dx, dy : float
        What to add to the first list to come to the second.
    first, second : ndarray of intp, (pairs,)
        Indices of the positions that belong together, each used once; in the order of the first list.
    votes : int
        Pairs among the positions that voted.
    chance : float
        Expected number of offsets with as many votes if the lists had nothing to do with each other.
    """

    dx: float
    dy: float
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    votes: int
    chance: float


def vote_offset(
    x1: ArrayLike,
    y1: ArrayLike,
    x2: ArrayLike,
    y2: ArrayLike,
    *,
    tolerance: float = 2.0,
    reach: float = math.inf,
    most: int = 150,
    chance: float = 1e-4,
) -> Offset | None:
    """The shift that brings the most positions of one list to some of another; None where chance would do as well.

    Each pair of one position of either list votes for the difference of the two. Wrong pairs scatter over the plane,
    right ones fall together (as in the histogram of differences of FOCAS: Valdes et al. 1995, PASP 107, 1119, without
    turning or stretching). The median of the votes around the fullest place is the offset; no position far from any
    other moves it.

    Parameters
    ----------
    x1, y1, x2, y2 : array_like, (n1,) and (n2,)
        Positions, the brightest first; those that are not finite have no vote and no partner.
    tolerance : float
        Largest distance of two positions that belong together; a small turn of the field must fit into it.
    reach : float
        Largest offset along each axis.
    most : int
        So many of the first positions of each list vote; all are paired.
    chance : float
        None is returned where as many votes are expected by chance at more than this number of offsets.

    Raises
    ------
    OptionError
        If an option is impossible, or x and y differ in length.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x, y = rng.uniform(0, 1000, (2, 40))
    >>> found = vote_offset(x, y, x[5:] + 12.0, y[5:] - 3.5)
    >>> round(found.dx, 6), round(found.dy, 6), len(found.first), found.votes
    (12.0, -3.5, 35, 35)
    >>> vote_offset(x, y, *rng.uniform(0, 1000, (2, 40))) is None
    True
    """
    if not 0 < tolerance < math.inf or not reach > 0 or most < 1 or not chance > 0:
        raise OptionError(
            f"tolerance = {tolerance}, reach = {reach}, most = {most}, chance = {chance}: must be positive"
        )
    one, two = _places(x1, y1), _places(x2, y2)
    kept1, kept2 = (np.flatnonzero(np.isfinite(places).all(axis=1)) for places in (one, two))
    one, two = one[kept1], two[kept2]
    voters = one[:most], two[:most]
    shifts = (voters[1][None, :, :] - voters[0][:, None, :]).reshape(-1, 2)
    shifts = shifts[(np.abs(shifts) <= reach).all(axis=1)]
    if len(shifts) == 0:
        return None
    shift = _fullest(shifts, tolerance)
    for _ in range(_ROUNDS):
        near = np.hypot(*(shifts - shift).T) <= tolerance
        shift = np.median(shifts[near], axis=0) if near.any() else shift
    votes = len(mutual_pairs(voters[0] + shift, voters[1], tolerance)[0])
    expected = _expected(voters, votes, tolerance, reach)
    if expected > chance:
        return None
    first, second = mutual_pairs(one + shift, two, tolerance)
    if len(first):  # all pairs tell the offset better than those that voted
        shift = np.median(two[second] - one[first], axis=0)
        first, second = mutual_pairs(one + shift, two, tolerance)
    return Offset(float(shift[0]), float(shift[1]), kept1[first], kept2[second], votes, expected)


def _places(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    columns = [np.asarray(values, np.float64).ravel() for values in (x, y)]
    if len(columns[0]) != len(columns[1]):
        raise OptionError(f"{len(columns[0])} values of x and {len(columns[1])} of y: give as many")
    return np.column_stack(columns)


def _fullest(shifts: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """The middle of the fullest cell of four grids, each half a cell apart, so that none cuts all crowds in two."""
    best, where = 0, shifts[0]
    for start in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
        cells = np.floor(shifts / (2 * tolerance) + start).astype(np.int64)
        cells -= cells.min(axis=0)
        keys = cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]
        values, counts = np.unique(keys, return_counts=True)
        top = int(counts.argmax())
        if counts[top] > best:
            best, where = int(counts[top]), np.median(shifts[keys == values[top]], axis=0)
    return np.asarray(where)


def mutual_pairs(
    one: NDArray[np.float64], two: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions that are each other's nearest, within the tolerance: an index into each list, rising in the first."""
    from scipy.spatial import cKDTree

    distance, towards = cKDTree(two).query(one, distance_upper_bound=tolerance)
    _, back = cKDTree(one).query(two, distance_upper_bound=tolerance)
    first = np.flatnonzero(np.isfinite(distance))
    first = first[back[towards[first]] == first]
    return first.astype(np.intp), towards[first].astype(np.intp)


def _expected(
    voters: tuple[NDArray[np.float64], NDArray[np.float64]], votes: int, tolerance: float, reach: float
) -> float:
    """Offsets expected to get so many votes by chance: Poisson, at the density of votes near zero, the highest."""
    from scipy.special import pdtrc

    both = np.concatenate(voters)
    width, height = (max(float(np.ptp(both[:, axis])), 2 * tolerance) for axis in (0, 1))
    density = len(voters[0]) * len(voters[1]) * math.pi * tolerance**2 / (width * height)
    tried = min(2 * width, 2 * reach) * min(2 * height, 2 * reach) / tolerance**2
    return float(max(tried, 1.0) * pdtrc(votes - 1, density)) if votes else math.inf
