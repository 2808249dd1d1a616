"""The nodes of a point-spread function from the pixels of stars whose positions and fluxes are known.

One linear least-squares problem, solved by conjugate gradients whose sums have a fixed order: a library for linear
algebra would give other bits for other numbers of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_kernels import combine_nodes, first_node, pixel, terms_at

__all__ = ["NodeProblem", "solve_nodes"]

_ITERATIONS = 150
#: Of the error, in the norm of the problem: each turn of a build begins where the last ended.
_TOLERANCE = 1e-4
#: What is expected of second differences of nodes between function and Moffat profile: of the node, of the peak.
_ROUGHNESS = (0.05, 2e-5)
#: And of the nodes themselves.
_FREEDOM = (1.0, 1e-4)
#: Residuals beyond so many sigma, or this share of the model where that is more, are not of the star.
_OUTLIER = (6.0, 0.2)


class NodeProblem(NamedTuple):
    """Stars with what is known of them: planes, positions and fluxes (n,), gain, bits of unusable pixels."""

    planes: Planes
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    gain: float
    mask: int


def solve_nodes(problem: NodeProblem, psf: PSF, begin: PSF) -> NDArray[np.float64]:
    """The nodes that fit best, the weights being those of ``psf``, and the difference from ``begin`` smooth.

    A pixel is a sum over sixteen nodes, so the matrix of the problem joins a node to those within three: for each pair
    of polynomial terms it is kept as 25 planes. Number 7 j + i joins a node to the one j rows and i columns further;
    those before it have the same numbers in theirs.

    Returns
    -------
    ndarray of float64
        As ``psf.nodes``.
    """
    (terms, size, _), count, width = psf.nodes.shape, problem.x.size, 2 * psf.radius - 1
    stamps = np.empty((2, count, width, width))
    stars = np.column_stack([problem.x, problem.y, problem.flux])
    rules = 1.0 / problem.gain, np.uint32(problem.mask), _OUTLIER

    def prepare(start: int, stop: int) -> None:
        _prepare(problem.planes, psf.model, stars, rules, stamps, start, stop)

    over_rows(count, prepare, band=8)
    matrix = np.zeros((terms * (terms + 1) // 2, 25, size, size))
    right = np.zeros((terms, size, size))

    def gather(start: int, stop: int) -> None:
        _gather(psf.model, stars, stamps, (matrix, right), start, stop)

    over_rows(size, gather, band=8)

    def times(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
        made = np.empty_like(nodes)

        def work(start: int, stop: int) -> None:
            _times(matrix, nodes, made, start, stop)

        over_rows(size, work)
        return made

    origin = np.zeros_like(psf.nodes)
    origin[0] = begin.nodes[0] * (psf.nodes[0].sum() / begin.nodes[0].sum())
    right -= times(origin)
    scale = np.max(begin.nodes[0])
    rough = 1 / (_ROUGHNESS[0] * np.abs(begin.nodes[0]) + _ROUGHNESS[1] * scale) ** 2
    held = 1 / (_FREEDOM[0] * np.abs(begin.nodes[0]) + _FREEDOM[1] * scale) ** 2
    for term in range(terms):
        _expect(matrix[_pair(term, term)], rough, held)
    return np.asarray(origin + _conjugate(times, matrix, right, psf.nodes - origin), np.float64)


def _expect(planes: NDArray[np.float64], rough: NDArray[np.float64], held: NDArray[np.float64]) -> None:
    """Add what is expected of the nodes of a term: second differences along both axes and the nodes are small."""
    planes[0] += held
    for axis, way in ((0, 7), (1, 1)):  # to the next row, and to the next column
        here, one, two, weight = (
            np.moveaxis(part, axis, 0) for part in (planes[0], planes[way], planes[2 * way], rough)
        )
        middle = weight[1:-1]
        here[:-2] += middle
        here[1:-1] += 4 * middle
        here[2:] += middle
        one[:-2] -= 2 * middle
        one[1:-1] -= 2 * middle
        two[:-2] += middle


def _conjugate(
    times: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    matrix: NDArray[np.float64],
    right: NDArray[np.float64],
    found: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Conjugate gradients (Hestenes & Stiefel 1952), with the diagonal as preconditioner."""
    diagonal = np.stack([matrix[_pair(term, term), 0] for term in range(len(right))])
    rest = right - times(found)
    step = rest / diagonal
    way, product = step.copy(), float(np.sum(rest * step))
    end = _TOLERANCE**2 * float(np.sum(found**2 * diagonal) + product)
    for _ in range(_ITERATIONS):
        if not product > end:
            break
        image = times(way)
        length = product / float(np.sum(way * image))
        found = found + length * way
        rest = rest - length * image
        step = rest / diagonal
        before, product = product, float(np.sum(rest * step))
        way = step + product / before * way
    return found


@kernel
def _pair(one: int, two: int) -> int:
    """The number of a pair of terms, the first not before the second."""
    return one * (one + 1) // 2 + two


@kernel
def _prepare(planes: Any, model: Any, stars: Any, rules: Any, stamps: Any, start: int, stop: int) -> None:
    """Of each pixel around each star the weight times the flux squared, and times flux and data."""
    (nodes, phases, domain), (data, level, noise, flags) = model, planes
    photons, bits, (sigmas, share) = rules
    ny, nx = data.shape
    width, size = stamps.shape[2], nodes.shape[1]
    reach, terms, made = width // 2, np.empty(nodes.shape[0]), np.empty((size, size))
    for n in range(start, stop):
        x, y, flux = stars[n, 0], stars[n, 1], stars[n, 2]
        px, py = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        terms_at(x, y, domain, terms)
        combine_nodes(nodes, terms, size, made)
        first_i, along = first_node(px - reach - x, phases, size)
        first_j, aside = first_node(py - reach - y, phases, size)
        for j in range(width):
            for i in range(width):
                stamps[0, n, j, i] = stamps[1, n, j, i] = 0.0
                at_y, at_x = py - reach + j, px - reach + i
                if not (0 <= at_y < ny and 0 <= at_x < nx) or (flags[at_y, at_x] & bits) != 0:
                    continue
                signal = np.float64(data[at_y, at_x]) - np.float64(level[at_y, at_x])
                spread = np.float64(noise[at_y, at_x])
                if not (abs(signal) < np.inf and 0.0 < spread < np.inf):
                    continue
                value, _, _ = pixel(made, first_j + j * phases, first_i + i * phases, along, aside)
                star = max(flux * value, 0.0)
                variance = spread + star * photons
                if abs(signal - star) > max(sigmas * np.sqrt(variance), share * star):
                    continue
                stamps[0, n, j, i] = flux * flux / variance
                stamps[1, n, j, i] = flux * signal / variance


@kernel
def _gather(model: Any, stars: Any, stamps: Any, sums: Any, start: int, stop: int) -> None:
    """Rows ``start`` to ``stop`` of matrix (pairs, 25, m, m) and right side (terms, m, m): what stars say of them.

    Of a row every so manieth node, as pixels are apart, lies side by side: pixels are added to it all at once.
    """
    (nodes, phases, domain), (matrix, right) = model, sums
    count, size, pairs, width = nodes.shape[0], nodes.shape[1], matrix.shape[0], stamps.shape[2]
    terms, factors, wide = np.empty(count), np.empty(pairs), -(-size // phases)
    total, said = np.empty((pairs, 25, phases, wide)), np.empty((count, phases, wide))
    for row in range(start, stop):
        total[:], said[:] = 0.0, 0.0
        for n in range(stars.shape[0]):
            x, y = stars[n, 0], stars[n, 1]
            first_i, (a, _) = first_node(int(np.floor(x + 0.5)) - width // 2 - x, phases, size)
            first_j, (b, _) = first_node(int(np.floor(y + 0.5)) - width // 2 - y, phases, size)
            terms_at(x, y, domain, terms)
            for one in range(count):
                for two in range(one + 1):
                    factors[_pair(one, two)] = terms[one] * terms[two]
            for k in range(4):
                j, beside = divmod(row - k - first_j, phases)
                if beside != 0 or not 0 <= j < width:
                    continue
                for m in range(4):
                    at, phase = divmod(first_i + m, phases)
                    for one in range(count):
                        _add(stamps[1, n, j], terms[one] * b[k] * a[m], said[one, phase, at : at + width])
                    for after in range(k, 4):
                        for other in range(m if after == k else 0, 4):
                            part, way = b[k] * b[after] * a[m] * a[other], 7 * (after - k) + other - m
                            for pair in range(pairs):
                                _add(stamps[0, n, j], part * factors[pair], total[pair, way, phase, at : at + width])
        for i in range(size):
            at, phase = divmod(i, phases)
            for one in range(count):
                right[one, row, i] = said[one, phase, at]
            for pair in range(pairs):
                for way in range(25):
                    matrix[pair, way, row, i] = total[pair, way, phase, at]


@kernel
def _times(matrix: Any, nodes: Any, made: Any, start: int, stop: int) -> None:
    """Rows ``start`` to ``stop`` of the matrix times nodes."""
    count, size = nodes.shape[0], nodes.shape[1]
    for row in range(start, stop):
        made[:, row] = 0.0
        for one in range(count):
            for two in range(count):
                planes, given = matrix[_pair(max(one, two), min(one, two))], nodes[two]
                for way in range(25):
                    down, right = (way + 3) // 7, (way + 3) % 7 - 3
                    left, end = max(0, -right), min(size, size - right)
                    if row + down < size:
                        after = given[row + down][left + right : end + right]
                        _add_products(planes[way, row][left:end], after, made[one, row][left:end])
                    if way > 0 and row >= down:
                        before = planes[way, row - down][left:end]
                        _add_products(before, given[row - down][left:end], made[one, row][left + right : end + right])


@kernel
def _add(values: Any, factor: float, total: Any) -> None:
    """Add numbers times a factor to others."""
    for i in range(total.size):
        total[i] += values[i] * factor


@kernel
def _add_products(weights: Any, values: Any, total: Any) -> None:
    """Add the products of numbers to others."""
    for i in range(total.size):
        total[i] += weights[i] * values[i]
