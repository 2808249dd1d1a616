"""The nodes of a point-spread function from the pixels of stars whose positions and fluxes are known.

One linear least-squares problem, solved by conjugate gradients whose sums have a fixed order: a library for linear
algebra would give other bits for other numbers of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_kernels import combine_nodes, first_node, pixel, terms_at

__all__ = ["NodeProblem", "solve_nodes"]

#: Parts in which stars are added up, whatever the number of threads.
_PARTS = 8
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

    Returns
    -------
    ndarray of float64
        As ``psf.nodes``.
    """
    count, width = problem.x.size, 2 * psf.radius - 1
    stamps = np.empty((2, count, width, width))
    stars = np.column_stack([problem.x, problem.y, problem.flux])
    rules = 1.0 / problem.gain, np.uint32(problem.mask), _OUTLIER

    def prepare(start: int, stop: int) -> None:
        _prepare(problem.planes, psf.model, stars, rules, stamps, start, stop)

    over_rows(count, prepare, band=8)
    band = -(-count // _PARTS)
    parts = np.zeros((-(-count // band), *psf.nodes.shape))
    scale = np.max(begin.nodes[0])
    rough = 1 / (_ROUGHNESS[0] * np.abs(begin.nodes[0]) + _ROUGHNESS[1] * scale) ** 2
    held = 1 / (_FREEDOM[0] * np.abs(begin.nodes[0]) + _FREEDOM[1] * scale) ** 2

    def sums(nodes: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """The matrix times nodes without the prior; the right side for None; the diagonal for an empty array."""
        parts[:] = 0.0
        kind = 0 if nodes is None else 2 if nodes.size == 0 else 1
        given = read_only(nodes if kind == 1 and nodes is not None else psf.nodes, np.float64)

        def work(start: int, stop: int) -> None:
            _add(given, psf.model, stars, (stamps, kind), parts[start // band], start, stop)

        over_rows(count, work, band=band)
        total: NDArray[np.float64] = parts[0].copy()
        for part in parts[1:]:
            total += part
        return total

    def times(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(sums(nodes) + held * nodes + _rough(nodes, rough), np.float64)

    origin = np.zeros_like(psf.nodes)
    origin[0] = begin.nodes[0] * (psf.nodes[0].sum() / begin.nodes[0].sum())
    diagonal = sums(np.empty(0)) + held + 12 * rough
    found = psf.nodes - origin
    rest = sums(None) - sums(origin) - times(found)
    return np.asarray(origin + _conjugate(times, rest, found, diagonal), np.float64)


def _conjugate(times: Any, rest: NDArray[np.float64], found: NDArray[np.float64], diagonal: NDArray[np.float64]) -> Any:
    """Conjugate gradients (Hestenes & Stiefel 1952), with the diagonal as preconditioner."""
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


def _rough(nodes: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transposed second differences, weighted, of the second differences along both axes."""
    out = np.zeros_like(nodes)
    second = (nodes[:, :-2] - 2 * nodes[:, 1:-1] + nodes[:, 2:]) * weight[1:-1]
    out[:, :-2] += second
    out[:, 1:-1] -= 2 * second
    out[:, 2:] += second
    second = (nodes[:, :, :-2] - 2 * nodes[:, :, 1:-1] + nodes[:, :, 2:]) * weight[:, 1:-1]
    out[:, :, :-2] += second
    out[:, :, 1:-1] -= 2 * second
    out[:, :, 2:] += second
    return out


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
def _add(given: Any, model: Any, stars: Any, what: Any, total: Any, start: int, stop: int) -> None:
    """Add to ``total`` what stars say: 0 the right side, 1 the matrix times ``given``, 2 the diagonal."""
    (_, phases, domain), (stamps, kind) = model, what
    count, size, width = given.shape[0], given.shape[1], stamps.shape[2]
    reach, terms = width // 2, np.empty(count)
    made, own = np.empty((size, size)), np.empty((size, size))
    for n in range(start, stop):
        x, y = stars[n, 0], stars[n, 1]
        px, py = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        terms_at(x, y, domain, terms)
        if kind == 1:
            combine_nodes(given, terms, size, made)
        own[:] = 0.0
        first_i, along = first_node(px - reach - x, phases, size)
        first_j, aside = first_node(py - reach - y, phases, size)
        a, b = along[0], aside[0]
        for j in range(width):
            for i in range(width):
                weight = stamps[0, n, j, i]
                if weight == 0:
                    continue
                j0, i0 = first_j + j * phases, first_i + i * phases
                if kind == 2:
                    for k in range(4):
                        for m in range(4):
                            own[j0 + k, i0 + m] += weight * (b[k] * a[m]) ** 2
                    continue
                if kind == 1:
                    value, _, _ = pixel(made, j0, i0, along, aside)
                    weight *= value
                else:
                    weight = stamps[1, n, j, i]
                for k in range(4):
                    part = weight * b[k]
                    for m in range(4):
                        own[j0 + k, i0 + m] += part * a[m]
        for t in range(count):
            factor = terms[t] * terms[t] if kind == 2 else terms[t]
            for j in range(size):
                for i in range(size):
                    total[t, j, i] += factor * own[j, i]
