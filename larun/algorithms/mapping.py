"""Where the pixels of one image lie on another: positions on a coarse grid of nodes, linear in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.detector import Section
from larun.errors import OptionError

__all__ = ["Mapping", "Positions", "affine", "mapped"]

#: Function of positions (x, y), arrays of one shape, to positions.
Positions = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]

_AFFINE_STEP = 64  # any does: a plane is linear
_STEPS = (64, 32, 16, 8, 4, 2, 1)
#: Nodes are multiples of 1 / _FINE pixels and steps powers of two, so that every position in between is exact in double
#: precision: an image that is cut anywhere, or read in bands, gives the same bits.
_FINE = 2.0**24


class Mapping(NamedTuple):
    """Positions of output pixels on the input, by nodes at every ``step``-th pixel, the first at pixel (-1, -1).

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the output.
    step : int
        Pixels between nodes.
    x, y : ndarray of float64, (rows, columns)
        Position of each node on the input, in 0-based pixels. NaN where it has none.
    error : float
        The largest distance in input pixels between the true position and the linear one, where it was measured.
    first : int
        Row of the output, counted from the row after the first nodes, that is the first one of ``shape``.
    """

    shape: tuple[int, int]
    step: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    error: float
    first: int = 0

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions on the input of positions on the output, as the kernels interpolate them.

        Parameters
        ----------
        x, y : array_like
            0-based pixels of the output; beyond it the outermost cells are continued.
        """
        column = (np.asarray(x, np.float64) + 1) / self.step
        row = (np.asarray(y, np.float64) + (1 + self.first)) / self.step
        i = np.clip(np.floor(column), 0, self.x.shape[1] - 2).astype(np.intp)
        j = np.clip(np.floor(row), 0, self.x.shape[0] - 2).astype(np.intp)
        u, v = column - i, row - j
        found = []
        for nodes in (self.x, self.y):
            low, high = (nodes[j, i + k] * (1 - v) + nodes[j + 1, i + k] * v for k in (0, 1))
            found.append(np.asarray(low + (high - low) * u))
        return found[0], found[1]

    def rows(self, start: int, stop: int) -> Mapping:
        """The mapping of some rows of the output alone: every position is the same to the last bit.

        Raises
        ------
        OptionError
            If there are no such rows.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise OptionError(f"rows {start} to {stop}: must lie within 0 … {self.shape[0]}")
        skipped, first = divmod(start + self.first, self.step)
        count = -(-(first + stop - start + 1) // self.step) + 1
        part = slice(skipped, skipped + count)
        return self._replace(shape=(stop - start, self.shape[1]), x=self.x[part], y=self.y[part], first=first)

    def part(self, section: Section) -> tuple[Mapping, int]:
        """The mapping of a part of the output; it begins some columns before, where nodes lie.

        Parameters
        ----------
        section : Section
            Of the output.

        Returns
        -------
        Mapping
            Every position is the same to the last bit.
        int
            Columns that it has before the section.

        Raises
        ------
        OptionError
            If there is no such part.
        """
        y0, y1, x0, x1 = section
        if not 0 <= x0 < x1 <= self.shape[1]:
            raise OptionError(f"columns {x0} to {x1}: must lie within 0 … {self.shape[1]}")
        made = self.rows(y0, y1)
        skipped = x0 // self.step
        width = x1 - skipped * self.step
        nodes = slice(skipped, skipped + -(-(width + 1) // self.step) + 1)
        return made._replace(shape=(y1 - y0, width), x=made.x[:, nodes], y=made.y[:, nodes]), x0 - skipped * self.step

    def on_part(self, x0: int, y0: int) -> Mapping:
        """The mapping to a part of the input that begins at column ``x0`` and row ``y0``."""
        return self._replace(x=self.x - x0, y=self.y - y0)

    def sees(self, section: Section, shape: tuple[int, int], reach: int) -> Section:
        """The part of an input that some pixels of the output see; one pixel where they see none.

        Parameters
        ----------
        section : Section
            Of the output.
        shape : tuple of int
            Rows and columns of the input.
        reach : int
            Pixels around a position that it sees.
        """
        y0, y1, x0, x1 = section
        # between nodes nothing lies beyond the corners of what a cell and the section have in common
        x, y = self.at(*np.meshgrid(self._stops(x0 - 1, x1), self._stops(y0 - 1, y1)))
        if not np.isfinite(x + y).all():
            inner, _ = self.part(section)
            x, y = inner.x, inner.y
        ends = []
        for values, size in ((y, shape[0]), (x, shape[1])):
            good = values[np.isfinite(x + y)]
            low, high = (good.min() - reach, good.max() + reach + 1) if good.size else (0.0, 1.0)
            low, high = (min(max(value, 0.0), float(size)) for value in (low, high))
            start = min(math.floor(low), size - 1)
            ends += [start, max(math.ceil(high), start + 1)]
        return Section(*ends)

    def _stops(self, low: int, high: int) -> NDArray[np.float64]:
        """A range of pixels with the nodes within it."""
        first = -(-(low + 1) // self.step) * self.step - 1
        return np.unique(np.array([low, *range(first, high, self.step), high], np.float64))

    def reach(self) -> tuple[float, float] | None:
        """The lowest and the highest row of the input that is met; None where nothing is."""
        good = self.y[np.isfinite(self.y)]
        return (float(good.min()), float(good.max())) if good.size else None

    def scale(self) -> float:
        """Linear size of an output pixel in pixels of the input: the root of its mean area; NaN where there is none."""
        areas = self.areas()
        good = areas[np.isfinite(areas)]
        return float(np.sqrt(np.mean(good))) if good.size else float("nan")

    def areas(self) -> NDArray[np.float64]:
        """Area in input pixels of an output pixel in each cell of nodes, (rows - 1, columns - 1)."""
        ax, ay = self.x[1:, 1:] - self.x[:-1, :-1], self.y[1:, 1:] - self.y[:-1, :-1]
        bx, by = self.x[1:, :-1] - self.x[:-1, 1:], self.y[1:, :-1] - self.y[:-1, 1:]
        return np.asarray(np.abs(ax * by - ay * bx) / 2 / self.step**2)


def affine(matrix: ArrayLike, offset: ArrayLike, shape: tuple[int, int]) -> Mapping:
    """Output pixel (x, y) lies at ``matrix @ (x, y) + offset`` on the input.

    Parameters
    ----------
    matrix : array_like (2, 2)
        Without a unit.
    offset : array_like (2,)
        In pixels.
    shape : tuple of int
        Rows and columns of the output.

    Raises
    ------
    OptionError
        If the matrix cannot be inverted or something is not finite.

    Examples
    --------
    >>> shifted = affine([[1, 0], [0, 1]], [0.25, -3], (10, 20))
    >>> [float(item) for item in shifted.at(7, 5)]
    [7.25, 2.0]
    """
    a, b = np.asarray(matrix, np.float64), np.asarray(offset, np.float64)
    if a.shape != (2, 2) or b.shape != (2,) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise OptionError(f"matrix {a.tolist()}, offset {b.tolist()}: must be finite, of shape (2, 2) and (2,)")
    if abs(a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]) < 1e-12:
        raise OptionError(f"matrix {a.tolist()} cannot be inverted")
    x, y = _nodes(_shape(shape), _AFFINE_STEP)
    at_x, at_y = (_exact(a[k, 0] * x + a[k, 1] * y + b[k]) for k in (0, 1))
    return Mapping(_shape(shape), _AFFINE_STEP, at_x, at_y, 0.0)


def mapped(function: Positions, shape: tuple[int, int], *, tolerance: float = 1e-3) -> Mapping:
    """Output pixel (x, y) lies at ``function(x, y)`` on the input: any two WCS, say.

    Nodes are put closer until the middles of all cells and of their sides, where a linear interpolation errs most,
    are right to the tolerance.

    Parameters
    ----------
    function : callable
        Takes two arrays of one shape and returns two; NaN where a position has no counterpart.
    shape : tuple of int
        Rows and columns of the output.
    tolerance : float
        Largest error of a position in pixels of the input.

    Returns
    -------
    Mapping
        ``error`` is the largest that was found. Nodes at every pixel have none.

    Raises
    ------
    OptionError
        If the tolerance is not positive.

    Examples
    --------
    >>> bent = mapped(lambda x, y: (x + 1e-5 * x**2, y), (100, 100))
    >>> bent.error < 1e-3
    True
    """
    if not tolerance > 0:
        raise OptionError(f"tolerance={tolerance!r}: must be above 0 pixels")
    for step in _STEPS:
        x, y = _nodes(_shape(shape), step)
        found = function(x, y)
        at_x, at_y = (_exact(np.ascontiguousarray(item, np.float64)) for item in found)
        made = Mapping(_shape(shape), step, at_x, at_y, 0.0)
        if step == 1:
            break
        error = _error(made, function, x, y)
        if error <= tolerance:
            return made._replace(error=error)
    return made


def _exact(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.rint(values * _FINE) / _FINE)


def _error(made: Mapping, function: Positions, x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The largest distance at the middles of cells and sides; infinite where some corners of a cell have no place."""
    lost = ~np.isfinite(made.x + made.y)
    corners = (lost[:-1, :-1], lost[1:, :-1], lost[:-1, 1:], lost[1:, 1:])
    if (np.logical_or.reduce(corners) & ~np.logical_and.reduce(corners)).any():
        return float("inf")
    half, worst = made.step / 2, 0.0
    for across, along in ((half, 0.0), (0.0, half), (half, half)):
        at = x[:-1, :-1] + across, y[:-1, :-1] + along
        true, here = function(*at), made.at(*at)
        away = np.hypot(true[0] - here[0], true[1] - here[1])
        if np.isfinite(away).any():
            worst = max(worst, float(np.nanmax(away)))
    return worst


def _nodes(shape: tuple[int, int], step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes that reach from pixel -1 to at least one pixel beyond the last: corners of pixels lie among them too."""
    rows, columns = (-(-(size + 1) // step) + 1 for size in shape)
    y, x = np.mgrid[0:rows, 0:columns] * float(step) - 1.0
    return x, y


def _shape(shape: tuple[int, int]) -> tuple[int, int]:
    ny, nx = (int(size) for size in shape)
    if ny < 1 or nx < 1:
        raise OptionError(f"shape {shape}: must be at least one pixel")
    return ny, nx
