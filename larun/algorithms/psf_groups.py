"""Which stars lie so close that they are solved for jointly, which groups can be at the same time, what each sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.psf import PSF

__all__ = ["colours", "groups_of", "pairs_within", "wings_of"]


def pairs_within(places: NDArray[np.float64], length: float) -> NDArray[np.int64]:
    """Stars (n, 2: x, y) that lie nearer to each other than a length: pairs (m, 2) of their numbers, in order.

    Examples
    --------
    >>> pairs_within(np.array([[0.0, 0.0], [9.0, 0.0], [1.0, 0.0]]), 2.0).tolist()
    [[0, 2]]
    """
    from scipy.spatial import cKDTree

    if len(places) < 2:
        return np.empty((0, 2), np.int64)
    found = cKDTree(places).query_pairs(length, output_type="ndarray").reshape(-1, 2)
    return np.asarray(found[np.lexsort((found[:, 1], found[:, 0]))], np.int64)


def colours(links: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """A number for each of ``count`` groups, so that those of a link (m, 2; the lower first) have different ones.

    Examples
    --------
    >>> colours(np.array([[0, 1], [1, 2], [0, 2], [2, 3]]), 4).tolist()
    [0, 1, 2, 0]
    """
    colour = np.zeros(count, np.int64)
    different = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    order = np.argsort(different[:, 1], kind="stable")  # of each group those before it
    starts = np.searchsorted(different[order, 1], np.arange(count + 1))
    before = different[order, 0]
    for number in np.flatnonzero(np.diff(starts)):
        taken = set(colour[before[starts[number] : starts[number + 1]]].tolist())
        colour[number] = next(free for free in range(len(taken) + 1) if free not in taken)
    return colour


def groups_of(
    x: NDArray[np.float64], y: NDArray[np.float64], link: float, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stars that are linked by distances below ``link``, divided where they are more than ``most``.

    Returns
    -------
    first, members : ndarray of int64
        Group g holds ``members[first[g] : first[g + 1]]``, in rising order, and so do the groups by their first star.

    Examples
    --------
    >>> first, members = groups_of(np.array([0.0, 9.0, 1.0]), np.zeros(3), 2.0, 10)
    >>> first.tolist(), members.tolist()
    ([0, 2, 3], [0, 2, 1])
    """
    label = np.empty(x.size, np.int64)
    waiting, number = [(np.arange(x.size), link)], 0
    while waiting:
        inside, length = waiting.pop()
        own = _linked(x[inside], y[inside], length)
        label[inside] = number + own
        count = np.bincount(own)
        number += count.size
        waiting += [(inside[own == large], 0.8 * length) for large in np.flatnonzero(count > most)]
    leader = np.full(number, x.size, np.int64)
    np.minimum.at(leader, label, np.arange(x.size))
    members = np.lexsort((np.arange(x.size), leader[label]))
    starts = np.flatnonzero(np.diff(leader[label][members], prepend=-1))
    return np.append(starts, x.size).astype(np.int64), members.astype(np.int64)


def _linked(x: NDArray[np.float64], y: NDArray[np.float64], length: float) -> NDArray[np.int64]:
    """A number for each star, the same for those that are linked."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(np.column_stack([x, y])).query_pairs(length, output_type="ndarray").reshape(-1, 2)
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(x.size, x.size))
    _, label = connected_components(links, directed=False)
    return np.asarray(label, np.int64)


def wings_of(psf: PSF, noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of a star of light 1 the most value and slope beyond 0, 1, 2, … rows or columns, in the noise of a pixel."""
    nodes = np.sum(np.abs(psf.nodes), axis=0)  # splines are weights: no value is above that of the nodes around it
    steps = np.zeros_like(nodes)
    for n in range(len(psf.nodes)):
        for axis in (0, 1):
            change = np.abs(np.diff(psf.nodes[n], axis=axis))
            steps += np.pad(change, [(1, 0) if k == axis else (0, 0) for k in (0, 1)])
    middle = len(nodes) // 2
    number = np.abs(np.arange(len(nodes)) - middle)
    ring = np.maximum(number[:, None], number[None, :]) // psf.oversampling + 2  # half a pixel and a spline aside
    found = np.zeros((2, int(ring.max()) + 1))
    np.maximum.at(found[0], ring, nodes)
    np.maximum.at(found[1], ring, steps * psf.oversampling)
    found = np.maximum.accumulate(found[:, ::-1], axis=1)[:, ::-1] / noise
    return found[0, : psf.radius], found[1, : psf.radius]
