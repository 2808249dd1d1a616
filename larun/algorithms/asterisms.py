"""Small figures of stars that look the same however a field is shifted, turned, scaled or mirrored.

A triangle of neighbouring stars is described by where its third corner lies when its longest side is laid from (0, 0)
to (1, 0): two numbers, its code (after the quads of Lang et al. 2010, AJ 139, 1782, and the triangles of Groth 1986, AJ
91, 1244). Triangles need three stars that are in both lists where quads need four: with half of the stars missing that
is twice as many right ones, and wrong ones are told apart by :mod:`larun.algorithms.odds`.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Alike", "Asterisms", "alike", "asterisms", "brightest", "joined"]

_PER_CELL = 12  # stars a cell has when all cells have as many
_SHEAR = 0.003  # what a code may be off by without any noise: distortion
_SPREAD = 3.0  # of a code, in errors of a position over the longest side
_WIDEST = 0.04  # largest difference of two codes that may belong together
_TOGETHER = 2_000_000  # pairs of codes looked at at a time


class Asterisms(NamedTuple):
    """Triangles of stars.

    Attributes
    ----------
    corners : ndarray of int64, (n, 3)
        Indices of the stars: both ends of the longest side, first the one nearer to the third corner, which is last.
    code : ndarray of float64, (n, 2)
        The third corner along and across the longest side, from 0 to 0.5 and above 0, mirrored if need be.
    size : ndarray of float64, (n,)
        Length of the longest side.
    parity : ndarray of int64, (n,)
        1, or -1 where the code was mirrored.
    """

    corners: NDArray[np.int64]
    code: NDArray[np.float64]
    size: NDArray[np.float64]
    parity: NDArray[np.int64]

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Asterisms:
        """Some of them."""
        return Asterisms(self.corners[chosen], self.code[chosen], self.size[chosen], self.parity[chosen])


class Alike(NamedTuple):
    """Triangles of two lists that may be the same; arrays (n,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]


def brightest(xy: NDArray[np.float64], count: int, cell: float | None = None) -> NDArray[np.int64]:
    """Indices of about ``count`` stars: the brightest, taken from each cell in turn, so that none is left empty.

    Parameters
    ----------
    xy : ndarray of float64, (n, 2)
        Positions, the brightest first.
    count : int
        How many; fewer where there are not so many.
    cell : float, optional
        Size of a cell; by default such that a dozen of the chosen stars fall into one.

    Examples
    --------
    >>> brightest(np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]]), 2, cell=5.0).tolist()
    [0, 2]
    """
    n = len(xy)
    if n <= count:
        return np.arange(n)
    low, extent = xy.min(axis=0), np.ptp(xy, axis=0)
    if cell is None:
        cell = math.sqrt(max(float(extent[0] * extent[1]), 1e-300) * _PER_CELL / count)
    steps = np.maximum(np.rint(extent / cell), 1)
    place = np.minimum(np.floor((xy - low) / np.where(extent > 0, extent, 1) * steps), steps - 1).astype(np.int64)
    key = place[:, 0] * int(steps[1]) + place[:, 1]
    order = np.argsort(key, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(key[order]) > 0])
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - np.repeat(start, np.diff(np.r_[start, n]))
    return np.sort(np.argsort(rank, kind="stable")[:count])


def asterisms(xy: NDArray[np.float64], chosen: NDArray[np.int64], *, neighbours: int = 6) -> Asterisms:
    """The triangles that each star makes with pairs of its nearest neighbours, each once.

    Parameters
    ----------
    xy : ndarray of float64, (n, 2)
        Positions.
    chosen : ndarray of int64, (m,)
        The stars that are used; corners are indices into ``xy``.
    neighbours : int
        How many of the nearest.

    Examples
    --------
    >>> made = asterisms(np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 2.0]]), np.arange(3))
    >>> made.corners.tolist(), made.code.tolist(), made.size.tolist(), made.parity.tolist()
    ([[0, 1, 2]], [[0.25, 0.5]], [4.0], [1])
    """
    from scipy.spatial import KDTree

    points, m = xy[chosen], len(chosen)
    if m < 3:
        return Asterisms(np.empty((0, 3), np.int64), np.empty((0, 2)), np.empty(0), np.empty(0, np.int64))
    near = KDTree(points).query(points, k=min(neighbours + 1, m))[1].astype(np.int64)
    pairs = np.array(list(combinations(range(1, near.shape[1]), 2)))
    three = np.empty((m, len(pairs), 3), np.int64)
    three[..., 0], three[..., 1], three[..., 2] = near[:, :1], near[:, pairs[:, 0]], near[:, pairs[:, 1]]
    three = np.sort(three.reshape(-1, 3), axis=1)
    first = np.unique((three[:, 0] * m + three[:, 1]) * m + three[:, 2], return_index=True)[1]
    three = three[first]
    return _coded(points, three, chosen)


def _coded(points: NDArray[np.float64], three: NDArray[np.int64], chosen: NDArray[np.int64]) -> Asterisms:
    z = points[:, 0] + 1j * points[:, 1]
    corners = z[three]
    opposite = np.abs(corners[:, [1, 2, 0]] - corners[:, [2, 0, 1]])  # of each corner
    last = np.argmax(opposite, axis=1)
    rows = np.arange(len(three))
    made = np.stack([three[rows, (last + 1) % 3], three[rows, (last + 2) % 3], three[rows, last]], axis=1)
    size = opposite[rows, last]
    with np.errstate(divide="ignore", invalid="ignore"):
        code = (z[made[:, 2]] - z[made[:, 0]]) / (z[made[:, 1]] - z[made[:, 0]])
    good = np.isfinite(code) & (size > 0)
    made, size, code = made[good], size[good], code[good]
    turned = code.real > 0.5
    made[turned] = made[turned][:, [1, 0, 2]]
    code = np.where(turned, 1 - code, code)
    parity = np.where(code.imag < 0, -1, 1)
    return Asterisms(chosen[made], np.stack([code.real, np.abs(code.imag)], axis=1), size, parity)


def joined(parts: list[Asterisms], count: int) -> Asterisms:
    """Several sets as one, each triangle once.

    Parameters
    ----------
    parts : list of Asterisms
        Of the same positions.
    count : int
        Number of positions.
    """
    every = Asterisms(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    three = np.sort(every.corners, axis=1)
    first = np.unique((three[:, 0] * count + three[:, 1]) * count + three[:, 2], return_index=True)[1]
    return every.select(np.sort(first))


def alike(
    one: Asterisms, two: Asterisms, *, noise: tuple[float, float], scale: tuple[float, float] = (0.0, math.inf)
) -> Alike:
    """Pairs of triangles whose codes agree within their errors, the largest of the first list first.

    Parameters
    ----------
    one, two : Asterisms
        Those of the first and the second list.
    noise : (float, float)
        Error of a position along an axis in each list, in its own unit.
    scale : (float, float)
        Least and largest size of the same triangle in the second list over that in the first.
    """
    from scipy.spatial import KDTree

    none = Alike(np.empty(0, np.int64), np.empty(0, np.int64))
    if not len(one.size) or not len(two.size):
        return none
    share = noise[0] / one.size, noise[1] / two.size
    reach = tuple(np.minimum(_SHEAR + _SPREAD * part, _WIDEST) for part in share)
    widest = min(float(np.hypot(reach[0].max(), reach[1].max())), _WIDEST)
    tree = KDTree(two.code)
    # codes fill about a third of a unit square: so many rows at a time that their pairs fit into memory
    rows = max(1, int(_TOGETHER / max(len(two.size) * math.pi * widest**2 / 0.3, 1.0)))
    parts = []
    for start in range(0, len(one.size), rows):
        found = KDTree(one.code[start : start + rows]).sparse_distance_matrix(tree, widest, output_type="ndarray")
        first, second = found["i"].astype(np.int64) + start, found["j"].astype(np.int64)
        allowed = np.minimum(np.hypot(reach[0][first], reach[1][second]), _WIDEST)
        ratio = two.size[second] / one.size[first]
        good = (found["v"] <= allowed) & (ratio >= scale[0]) & (ratio <= scale[1])
        parts.append((first[good], second[good], allowed[good]))
    first, second, allowed = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((second, first, allowed))
    return Alike(first[order], second[order])
