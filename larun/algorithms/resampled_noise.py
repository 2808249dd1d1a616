"""How the noise of resampled pixels is correlated with that of their neighbours: from the mapping, at any place.

The covariance of two output pixels is ``Σ w_p w_q v`` over the input pixels that both of them see. Where an image is
turned or stretched it changes from pixel to pixel, with the position between input pixels: so the mappings themselves
are kept, as *terms*, and the correlation around a star is computed where the star is.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms import taps
from larun.algorithms.arrays import read_only
from larun.algorithms.drizzle import drop_area
from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.mapping import Mapping, affine
from larun.algorithms.overlap import outline
from larun.errors import OptionError

__all__ = ["LAGS", "Term", "acf_at", "mean_acf", "mixed", "moved", "packed", "term_of", "unpacked"]

#: Pixels to each side over which correlation is kept.
LAGS = 3

_SIDE = 2 * LAGS + 1
_KERNELS = (*taps.KERNELS, "area", "drizzle")
_HEAD = 7  # numbers before the nodes of a term

#: Part of an aperture's radius within which the correlation is averaged, measured against the scatter of sums of noise.
_WITHIN = 0.7
#: Samples along each axis: for one term, for each of many.
_SAMPLES, _FEWER = 5, 3
#: Samples over a whole image: of all terms together, and of each at least and at most.
_OVERALL, _LEAST, _MOST = 16384, 512, 4096
#: Steps of a sequence that fills a square evenly and meets no period (Roberts 2018): the position between pixels, on
#: which all depends, is periodic over an image that is turned a little.
_STEPS = (0.7548776662466927, 0.5698402909980532)
_MANY = 4
_MOST_PHASES = 4
_PLACES = 256  # at a time, where every sample needs sums of its own


class Term(NamedTuple):
    """One image that went into the pixels of another.

    Attributes
    ----------
    mapping : Mapping
        From the pixels of the new image, counted from ``origin``, to those of the old one.
    kernel : str
        ``"lanczos3"``, ``"bilinear"``, ``"nearest"``, ``"area"`` or ``"drizzle"``.
    weight : float
        On the variance, relative to other terms.
    origin : tuple of float
        Column and row of the mapping's output at which the image begins: it may have been cropped.
    drop : float
        Side of the drops that are drizzled, in pixels of the old image.
    """

    mapping: Mapping
    kernel: str
    weight: float = 1.0
    origin: tuple[float, float] = (0.0, 0.0)
    drop: float = 1.0


def term_of(mapping: Mapping, kernel: str, weight: float = 1.0) -> Term:
    """A term; nodes of a linear mapping are thinned to its corners.

    Raises
    ------
    OptionError
        If there is no such kernel.
    """
    if kernel not in _KERNELS:
        raise OptionError(f"kernel={kernel!r}: must be one of {', '.join(_KERNELS)}")
    rows, columns = mapping.x.shape
    corners = mapping._replace(
        step=mapping.step * max(rows - 1, columns - 1), x=_corners(mapping.x), y=_corners(mapping.y)
    )
    j, i = np.mgrid[0:rows, 0:columns] * float(mapping.step) - 1
    with np.errstate(invalid="ignore"):
        x, y = corners.at(i, j)
        linear = np.all(np.abs(x - mapping.x) < 1e-4) and np.all(np.abs(y - mapping.y) < 1e-4)
    return Term(corners if linear else mapping, kernel, float(weight))


def _corners(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four nodes of a square that would have the longer side of the grid, if the grid is linear."""
    rows, columns = nodes.shape
    side = max(rows - 1, columns - 1)
    first = nodes[0, 0]
    along, across = (nodes[0, -1] - first) / (columns - 1) * side, (nodes[-1, 0] - first) / (rows - 1) * side
    return np.array([[first, first + along], [first + across, first + along + across]])


def packed(terms: tuple[Term, ...]) -> NDArray[np.float64]:
    """The terms as one row of numbers, as an image carries them and a file holds them.

    Examples
    --------
    >>> from larun.algorithms.mapping import affine
    >>> row = packed((term_of(affine([[1, 0], [0, 1]], [0.5, 0], (64, 64)), "lanczos3"),))
    >>> unpacked(row)[0].kernel
    'lanczos3'
    """
    parts: list[NDArray[np.float64]] = []
    for mapping, name, weight, origin, drop in terms:
        rows, columns = mapping.x.shape
        # smaller drops are a part of the number: images without them stay as they were
        head = [_KERNELS.index(name) + (1.0 - drop), weight, *origin, mapping.step, rows, columns]
        parts += [np.array(head, np.float64), mapping.x.ravel(), mapping.y.ravel()]
    return np.concatenate(parts)


def unpacked(row: NDArray[np.float64]) -> tuple[Term, ...]:
    """The terms of a row of numbers.

    Raises
    ------
    OptionError
        If it is no such row.
    """
    terms, at = [], 0
    while at < len(row):
        head = row[at : at + _HEAD]
        if len(head) < _HEAD or not np.isfinite(head).all() or not 0 <= head[0] < len(_KERNELS) or head[4] < 1:
            raise OptionError("these numbers do not say how an image was resampled")
        rows, columns = int(head[5]), int(head[6])
        nodes = row[at + _HEAD : at + _HEAD + 2 * rows * columns]
        if min(rows, columns) < 2 or len(nodes) < 2 * rows * columns:
            raise OptionError("these numbers do not say how an image was resampled")
        x, y = nodes.reshape(2, rows, columns)
        step = int(head[4])
        shape = ((rows - 1) * step, (columns - 1) * step)
        terms.append(
            Term(
                Mapping(shape, step, x, y, 0.0),
                _KERNELS[int(head[0])],
                float(head[1]),
                (float(head[2]), float(head[3])),
                1.0 - float(head[0] % 1.0),
            )
        )
        at += _HEAD + 2 * rows * columns
    return tuple(terms)


def moved(row: NDArray[np.float64], x0: float, y0: float) -> NDArray[np.float64]:
    """The terms of a window whose first pixel is (x0, y0)."""
    return packed(tuple(term._replace(origin=(term.origin[0] + x0, term.origin[1] + y0)) for term in unpacked(row)))


def mixed(
    rows: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None],
    weights: tuple[float, float],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """The terms of a sum of two images of one shape; None stands for an image whose noise is white.

    Parameters
    ----------
    rows : tuple of two arrays or None
        From :func:`packed`.
    weights : tuple of float
        Variances of the two images.
    shape : tuple of int
        Of the images.
    """
    terms: list[Term] = []
    for row, weight in zip(rows, weights, strict=True):
        own = (Term(affine(np.eye(2), [0, 0], shape), "nearest"),) if row is None else unpacked(row)
        # a weight is that of white noise before it is resampled: the total of an image's terms stands for its variance
        total = sum(term.weight for term in own)
        terms += [term._replace(weight=term.weight * weight / total) for term in own]
    return packed(tuple(terms))


def mean_acf(terms: tuple[Term, ...], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Autocorrelation of white noise after resampling, the mean over an image.

    Parameters
    ----------
    terms : tuple of Term
        What went into it.
    shape : tuple of int
        Of the image.

    Returns
    -------
    ndarray of float32, (2 k + 1, 2 k + 1)
        ``⟨cov(p, p + lag)⟩ / ⟨v⟩``, 1 at lag 0: for sums of pixels whose variance is taken as smooth.
    """
    count = np.arange(min(max(_OVERALL // len(terms), _LEAST), _MOST))
    columns, rows = (
        np.floor((0.5 + count * step) % 1 * size)[None] for step, size in zip(_STEPS, shape[::-1], strict=True)
    )
    return np.asarray(_correlation(terms, columns, rows, smooth=True)[0], np.float32)


def acf_at(terms: tuple[Term, ...], x: ArrayLike, y: ArrayLike, radii: ArrayLike) -> NDArray[np.float64]:
    """Autocorrelation of the noise around given positions, as apertures of given radii see it.

    Parameters
    ----------
    terms : tuple of Term
        What went into the image.
    x, y : array_like (n,)
        Positions in pixels.
    radii : array_like (r,)
        Of the apertures, in pixels.

    Returns
    -------
    ndarray of float64, (n, r, 2 k + 1, 2 k + 1)
        Averaged over the inner part of each aperture. White where nothing was mapped.
    """
    xs, ys, circles = (np.asarray(item, np.float64) for item in (x, y, radii))
    across = _SAMPLES if len(terms) < _MANY else _FEWER
    away_x, away_y = (item.ravel() for item in np.meshgrid(*[np.linspace(-1, 1, across)] * 2))
    beside_x, beside_y = np.zeros(1), np.zeros(1)
    if any(term.kernel == "drizzle" for term in terms):  # all phases of finer pixels, at fewer places
        away_x, away_y = np.array([-0.5, 0.5, -0.5, 0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
        side = np.arange(_phases(terms), dtype=np.float64) - (_phases(terms) - 1) // 2
        beside_x, beside_y = (item.ravel() for item in np.meshgrid(side, side))
    made = np.empty((len(xs), len(circles), _SIDE, _SIDE))
    known = np.isfinite(xs) & np.isfinite(ys)
    place_x, place_y = np.where(known, xs, 0.0)[:, None], np.where(known, ys, 0.0)[:, None]
    for k, radius in enumerate(circles):
        at = (np.rint(place + _WITHIN * radius * away) for place, away in ((place_x, away_x), (place_y, away_y)))
        there = [
            (own[:, :, None] + beside).reshape(len(xs), -1)
            for own, beside in zip(at, (beside_x, beside_y), strict=True)
        ]
        made[:, k] = _correlation(terms, there[0], there[1])
    return made


def _phases(terms: tuple[Term, ...]) -> int:
    """Pixels of the output along one of the old images."""
    finest = min((term.mapping.scale() for term in terms if term.kernel == "drizzle"), default=1.0)
    return int(min(max(round(1 / finest), 1), _MOST_PHASES)) if finest > 0 else 1


def _correlation(
    terms: tuple[Term, ...], x: NDArray[Any], y: NDArray[Any], *, smooth: bool = False
) -> NDArray[np.float64]:
    """Mean correlation (n, k, k) over samples (n, s) of each place: over the variance of each pixel, or of all."""
    total, scale = np.zeros((len(x), _SIDE, _SIDE)), np.zeros((len(x), _SIDE, _SIDE))
    for term in terms:
        if term.kernel != "drizzle":
            _add(term, x, y, (total, scale))
    drizzled = [term for term in terms if term.kernel == "drizzle"]
    for start in range(0, len(x) if drizzled else 0, _PLACES):
        part = slice(start, start + _PLACES)
        _add_drizzled(drizzled, x[part], y[part], (total[part], scale[part]))
    lost = scale[:, LAGS, LAGS] <= 0
    scale[lost] = 1.0
    total[lost] = 0.0
    total[lost, LAGS, LAGS] = 1.0
    if smooth:
        scale[:] = scale[:, LAGS, LAGS][:, None, None]
    made = np.divide(total, scale, out=np.zeros_like(total), where=scale > 0)
    flat = made.reshape(len(x), -1)  # noise correlates a with b as b with a: one half of the lags is enough
    flat[:, : flat.shape[1] // 2] = flat[:, : flat.shape[1] // 2 : -1]
    return made


def _add(term: Term, x: NDArray[Any], y: NDArray[Any], out: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    mapping, name, weight, origin, drop = term
    nodes = read_only(mapping.x, np.float64), read_only(mapping.y, np.float64)
    table = taps.weights("nearest" if name in ("area", "drizzle") else name)
    tables = table, read_only((table.astype(np.float64) ** 2).sum(axis=1), np.float64)
    places = read_only(x + origin[0], np.float64), read_only(y + origin[1], np.float64)
    how = name in ("area", "drizzle"), name == "drizzle", drop
    over_rows(len(x), functools.partial(_band, (nodes, mapping.step, tables, how, weight, places, out)), 64)


def _add_drizzled(
    terms: list[Term], x: NDArray[Any], y: NDArray[Any], out: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    """A frame may give much to a pixel or nothing: variances are summed over frames before they are compared."""
    count, samples = x.shape
    sums = np.zeros((count * samples, _SIDE, _SIDE)), np.zeros((count * samples, _SIDE, _SIDE))
    for term in terms:
        _add(term, x.reshape(-1, 1), y.reshape(-1, 1), sums)
    products, squares = sums
    roots = np.sqrt(squares[:, LAGS, LAGS, None, None] * squares)
    for made, own in zip(out, (products, roots), strict=True):
        made += own.reshape(count, samples, _SIDE, _SIDE).sum(axis=1)


def _band(given: tuple[Any, ...], start: int, stop: int) -> None:
    nodes, step, tables, how, weight, places, out = given
    part = slice(start, stop)
    _places(nodes, step, tables, how, weight, (places[0][part], places[1][part]), (out[0][part], out[1][part]))


@kernel
def _at(nodes: Any, step: Any, x: Any, y: Any) -> Any:
    """A coordinate of a position by the nodes around it."""
    i = min(max(math.floor((x + 1.0) / step), 0), nodes.shape[1] - 2)
    j = min(max(math.floor((y + 1.0) / step), 0), nodes.shape[0] - 2)
    u, v = (x + 1.0) / step - i, (y + 1.0) / step - j
    low = nodes[j, i] * (1.0 - v) + nodes[j + 1, i] * v
    high = nodes[j, i + 1] * (1.0 - v) + nodes[j + 1, i + 1] * v
    return low + (high - low) * u


@kernel
def _places(nodes: Any, step: Any, tables: Any, how: Any, weight: Any, places: Any, out: Any) -> None:
    """Add the covariances around each place and the roots of the variances of both pixels, summed over its samples.

    ``how``: whether areas count, whether of drops (then variances are added, not roots), and how large these are.
    """
    x, y = places
    areas, drops, drop = how
    total, scale = out
    reach = total.shape[1] // 2
    size = 2 * reach + 2 if areas else 2 * reach + 1  # corners of pixels, or their centres
    first = -reach - 0.5 if areas else float(-reach)
    shift = 0.5 if areas else 0.0  # areas count pixel (0, 0) from 0 to 1
    at_x, at_y = np.empty((size, size)), np.empty((size, size))
    for n in range(x.shape[0]):
        for k in range(x.shape[1]):
            known = 0.0
            for b in range(size):
                for a in range(size):
                    column, row = x[n, k] + first + a, y[n, k] + first + b
                    at_x[b, a] = _at(nodes[0], step, column, row) + shift
                    at_y[b, a] = _at(nodes[1], step, column, row) + shift
                    known += at_x[b, a] + at_y[b, a]
            if not math.isfinite(known):
                continue
            if areas:
                _area_products(at_x, at_y, (drops, drop), weight, total[n], scale[n])
            else:
                _products(at_x, at_y, tables, weight, total[n], scale[n])


@kernel
def _products(at_x: Any, at_y: Any, tables: Any, weight: Any, total: Any, scale: Any) -> None:
    """Add the covariance of a pixel with each of those around it, and the root of the product of their variances."""
    table, square = tables
    size = at_x.shape[0]
    first_x, first_y = np.empty((size, size), np.int64), np.empty((size, size), np.int64)
    phase_x, phase_y = np.empty((size, size), np.int64), np.empty((size, size), np.int64)
    for b in range(size):
        for a in range(size):
            left, low = math.floor(at_x[b, a]), math.floor(at_y[b, a])
            first_x[b, a], first_y[b, a] = int(left), int(low)
            phase_x[b, a] = int((at_x[b, a] - left) * 2048 + 0.5)
            phase_y[b, a] = int((at_y[b, a] - low) * 2048 + 0.5)
    m = size // 2
    own = square[phase_x[m, m]] * square[phase_y[m, m]]
    for b in range(m, size):  # the other half is made of this one
        for a in range(m if b == m else 0, size):
            along = _common(table, phase_x[m, m], phase_x[b, a], first_x[b, a] - first_x[m, m])
            across = _common(table, phase_y[m, m], phase_y[b, a], first_y[b, a] - first_y[m, m])
            there = square[phase_x[b, a]] * square[phase_y[b, a]]
            total[b, a] += weight * along * across
            scale[b, a] += weight * math.sqrt(own * there)


@kernel
def _common(table: Any, one: Any, two: Any, away: Any) -> Any:
    """Σ of the products of two sets of weights, the second ``away`` pixels further."""
    total = 0.0
    for k in range(max(0, away), min(6, 6 + away)):
        total += float(table[one, k]) * float(table[two, k - away])
    return total


@kernel
def _area_products(corner_x: Any, corner_y: Any, how: Any, weight: Any, total: Any, scale: Any) -> None:
    """As :func:`_products`, for parts of areas; corners (size + 1, size + 1)."""
    drops, drop = how
    size = total.shape[0]
    wide, tall, low_x, low_y = 0, 0, np.empty((size, size), np.int64), np.empty((size, size), np.int64)
    for b in range(size):
        for a in range(size):
            x4 = (corner_x[b, a], corner_x[b, a + 1], corner_x[b + 1, a + 1], corner_x[b + 1, a])
            y4 = (corner_y[b, a], corner_y[b, a + 1], corner_y[b + 1, a + 1], corner_y[b + 1, a])
            low_x[b, a] = math.floor(min(x4[0], x4[1], x4[2], x4[3]))
            low_y[b, a] = math.floor(min(y4[0], y4[1], y4[2], y4[3]))
            wide = max(wide, math.floor(max(x4[0], x4[1], x4[2], x4[3])) - low_x[b, a] + 1)
            tall = max(tall, math.floor(max(y4[0], y4[1], y4[2], y4[3])) - low_y[b, a] + 1)
    parts, squares = np.zeros((size, size, tall, wide)), np.zeros((size, size))
    cover = np.zeros((tall, wide))
    for b in range(size):
        for a in range(size):
            x4 = (corner_x[b, a], corner_x[b, a + 1], corner_x[b + 1, a + 1], corner_x[b + 1, a])
            y4 = (corner_y[b, a], corner_y[b, a + 1], corner_y[b + 1, a + 1], corner_y[b + 1, a])
            if drops:
                for v in range(tall):
                    for u in range(wide):
                        parts[b, a, v, u] = drop_area(x4, y4, low_x[b, a] + u, low_y[b, a] + v, drop)
            else:
                outline(x4, y4, low_x[b, a], low_y[b, a], cover, parts[b, a])
            for v in range(tall):
                for u in range(wide):
                    squares[b, a] += parts[b, a, v, u] * parts[b, a, v, u]
    m = size // 2
    own = squares[m, m]
    for b in range(m, size):
        for a in range(m if b == m else 0, size):
            dx, dy = low_x[b, a] - low_x[m, m], low_y[b, a] - low_y[m, m]
            product = 0.0
            for v in range(max(0, dy), min(tall, tall + dy)):
                for u in range(max(0, dx), min(wide, wide + dx)):
                    product += parts[m, m, v, u] * parts[b, a, v - dy, u - dx]
            total[b, a] += weight * product
            scale[b, a] += weight * (squares[b, a] if drops else math.sqrt(own * squares[b, a]))
