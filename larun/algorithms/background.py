"""The sky under the stars: a mesh of clipped mode estimates, interpolated to every pixel.

The image is cut into nearly equal cells of about ``mesh`` pixels. In each cell the usable pixels are first averaged in
small bins: noise shrinks, star wings do not, so that the skew of the histogram shows the crowding that a pixel
histogram hides under its noise. The bins are clipped about their median with the scale of their median absolute
deviation, and the mode is Pearson's ``2.5 median - 1.5 mean`` of what is left (Bertin & Arnouts 1996, A&AS 117, 393,
section 3). The mesh is median filtered and interpolated by cubic convolution.

The smooth noise comes from the *variance plane*, not from the scatter of the pixels: its median in a cell is neither
raised by stars nor by the rectified Poisson term near zero signal.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.order import median_of
from larun.errors import OptionError

__all__ = ["Background", "BackgroundOptions", "background"]

#: Bins along one side of a cell.
_BINS = 16
#: A cell with a smaller share of usable pixels than this is filled from its neighbours.
_MIN_FRACTION = 0.15
#: Largest (mean - median) / sigma that Pearson's relation is trusted with (Bertin & Arnouts 1996).
_MAX_SKEW = 0.3


@attrs.frozen(kw_only=True)
class BackgroundOptions:
    """How the background mesh is made.

    Parameters
    ----------
    mesh : int
        Size of a cell in pixels, at least 8: large against a star, small against the gradients of the sky.
    filter_size : int
        Size of the median filter of the mesh, in cells; odd, 1 for none.
    sigma : float
        Clipping limit in units of the robust scale, above 1.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    mesh: int = attrs.field(default=64)
    filter_size: int = attrs.field(default=3)
    sigma: float = attrs.field(default=3.0)

    def __attrs_post_init__(self) -> None:
        if self.mesh != int(self.mesh) or self.mesh < 8:
            raise OptionError(f"mesh = {self.mesh}: must be a whole number of at least 8 pixels")
        if self.filter_size != int(self.filter_size) or self.filter_size < 1 or self.filter_size % 2 == 0:
            raise OptionError(f"filter_size = {self.filter_size}: must be an odd number of cells, 1 for no filter")
        if not 1 < self.sigma < np.inf:
            raise OptionError(f"sigma = {self.sigma}: must be above 1")


class Background(NamedTuple):
    """The background of an image and its smooth noise.

    Attributes
    ----------
    level : (ny, nx) float32
        Level of the sky, in the unit of the data.
    rms : (ny, nx) float32
        Clipped scatter of the pixels about the level.
    variance : (ny, nx) float32
        Smooth noise variance of the sky: the median of the variance plane; ``rms**2`` where there was none.
    mesh_level, mesh_rms : (my, mx) float32
        The filtered meshes.
    fraction_used : (my, mx) float32
        Share of the pixels of each cell that were averaged; 0 where the cell was filled from its neighbours.
    """

    level: NDArray[np.float32]
    rms: NDArray[np.float32]
    variance: NDArray[np.float32]
    mesh_level: NDArray[np.float32]
    mesh_rms: NDArray[np.float32]
    fraction_used: NDArray[np.float32]


def background(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    unusable: NDArray[np.bool_],
    *,
    options: BackgroundOptions | None = None,
) -> Background:
    """Estimate the level and the noise of the sky in every pixel.

    Cells are ``round(n / mesh)`` equal shares of an axis (at least one), so an image smaller than a cell is one cell.
    The interpolation is the cubic convolution of Keys (1981, IEEE ASSP 29, 1153; a = -1/2), continued linearly
    beyond the outer cell centres: a sloping sky is followed exactly to the edge.

    Parameters
    ----------
    data : (ny, nx) float32
        Image. Values that are not finite count as unusable.
    variance : (ny, nx) float32 or None
        Variance of each pixel, in the unit of the data squared.
    unusable : (ny, nx) bool
        True where a pixel must not be used.
    options : BackgroundOptions
        Mesh, filter and clipping.

    Returns
    -------
    Background
        Finite in every pixel.

    Raises
    ------
    OptionError
        If the shapes differ, or no cell has enough usable pixels.

    Examples
    --------
    >>> sky = np.full((100, 120), 7.0, np.float32)
    >>> made = background(sky, None, np.zeros(sky.shape, bool))
    >>> made.level.shape, float(made.level.min()), float(made.level.max())
    ((100, 120), 7.0, 7.0)
    """
    options = options or BackgroundOptions()
    data = np.ascontiguousarray(data, np.float32)
    unusable = np.ascontiguousarray(unusable, np.bool_)
    plane = data if variance is None else np.ascontiguousarray(variance, np.float32)
    if data.ndim != 2 or data.size == 0 or data.shape != unusable.shape or data.shape != plane.shape:
        raise OptionError(
            f"data {data.shape}, variance {plane.shape} and unusable {unusable.shape} must be planes of the same shape"
        )
    rows, columns = (max(1, round(n / options.mesh)) for n in data.shape)
    cells = np.empty((4, rows, columns))
    size = max(1, options.mesh // _BINS)
    has_variance = variance is not None

    def work(start: int, stop: int) -> None:
        _cell_rows((data, plane, unusable), (has_variance, size, float(options.sigma)), cells, start, stop)

    over_rows(rows, work, band=1)
    if not np.isfinite(cells[0]).any():
        raise OptionError(
            f"no cell of the background mesh ({options.mesh} px) has {_MIN_FRACTION:.0%} usable pixels: check the flags"
        )
    if has_variance and not np.isfinite(cells[2]).any():
        raise OptionError("variance: no usable pixel has a finite value; pass None to take the noise from the scatter")
    cells[2] = cells[2] if has_variance else cells[1]
    level, rms, noise = (_filtered(_filled(mesh), options.filter_size) for mesh in cells[:3])
    rms_plane = _interpolated(rms, data.shape, positive=True)
    return Background(
        level=_interpolated(level, data.shape, positive=False),
        rms=rms_plane,
        variance=_interpolated(noise, data.shape, positive=True) if has_variance else rms_plane**2,
        mesh_level=level.astype(np.float32),
        mesh_rms=rms.astype(np.float32),
        fraction_used=cells[3].astype(np.float32),
    )


def _filled(mesh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill cells without a value with the mean of their known neighbours, ring after ring."""
    mesh = mesh.copy()
    while not np.isfinite(mesh).all():
        padded = np.pad(mesh, 1, constant_values=np.nan)
        near = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*mesh.shape, 9)
        known = np.isfinite(near)
        count = known.sum(axis=-1)
        fill = ~np.isfinite(mesh) & (count > 0)
        mesh[fill] = np.where(known, near, 0).sum(axis=-1)[fill] / count[fill]
    return mesh


def _padded(mesh: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Continue a mesh linearly beyond its edges; a mesh of one cell is continued as a constant."""
    for axis in (0, 1):
        pads = [(0, 0), (0, 0)]
        pads[axis] = (width, width)
        if mesh.shape[axis] == 1:
            mesh = np.pad(mesh, pads, mode="edge")
        else:
            mesh = np.pad(mesh, pads, mode="reflect", reflect_type="odd")
    return mesh


def _filtered(mesh: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Median filter; the linear continuation keeps a sloping sky unchanged at the edges."""
    windows = np.lib.stride_tricks.sliding_window_view(_padded(mesh, size // 2), (size, size))
    return np.median(windows.reshape(*mesh.shape, size * size), axis=-1)


def _interpolated(mesh: NDArray[np.float64], shape: tuple[int, ...], *, positive: bool) -> NDArray[np.float32]:
    """Cubic convolution of a mesh to full resolution; a positive quantity stays above the least of its cells."""
    out = np.empty(shape, np.float32)
    floor = float(mesh.min()) if positive else -np.inf
    along_y, along_x = _cubic(shape[0], mesh.shape[0]), _cubic(shape[1], mesh.shape[1])
    padded = _padded(mesh, 2)

    def work(start: int, stop: int) -> None:
        _interpolate_rows(padded, along_y, along_x, floor, out, start, stop)

    over_rows(shape[0], work, band=256)
    return out


def _cubic(pixels: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First of the four cells of the padded mesh that a pixel sees, and their weights (Keys 1981, equation 4)."""
    position = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    base = np.floor(position)
    t = position - base
    weights = np.stack(
        [
            ((2 - t) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        ],
        axis=-1,
    )
    return base.astype(np.int64) + 1, np.ascontiguousarray(weights)


@kernel
def _interpolate_rows(mesh: Any, along_y: Any, along_x: Any, floor: float, out: Any, start: int, stop: int) -> None:
    taps_y, weights_y = along_y
    taps_x, weights_x = along_x
    columns = mesh.shape[1]
    line = np.empty(columns)
    for y in range(start, stop):
        for c in range(columns):
            total = 0.0
            for j in range(4):
                total += weights_y[y, j] * mesh[taps_y[y] + j, c]
            line[c] = total
        for x in range(out.shape[1]):
            c = taps_x[x]
            value = 0.0
            for j in range(4):
                value += weights_x[x, j] * line[c + j]
            out[y, x] = max(value, floor)


@kernel
def _cell_rows(planes: Any, rules: Any, cells: Any, start: int, stop: int) -> None:
    """Statistics of whole rows of cells: level, rms, median variance and share of pixels used."""
    data, variance, unusable = planes
    has_variance, size, sigma = rules
    ny, nx = data.shape
    rows, columns = cells.shape[1], cells.shape[2]
    for row in range(start, stop):
        y0, y1 = row * ny // rows, (row + 1) * ny // rows
        for column in range(columns):
            x0, x1 = column * nx // columns, (column + 1) * nx // columns
            cell, masked = data[y0:y1, x0:x1], unusable[y0:y1, x0:x1]
            cells[:, row, column] = np.nan
            cells[3, row, column] = 0.0
            means = np.full((max(1, (y1 - y0) // size), max(1, (x1 - x0) // size)), np.nan)
            values = np.empty(means.size)
            count = _bin_means(cell, masked, means, values)
            if count < 1 or count < _MIN_FRACTION * means.size:
                continue
            level, low, high, scale = _clipped_mode(values[:count], sigma)
            pixels, noises = np.empty(cell.size), np.empty(cell.size)
            used, noisy = 0, 0
            for y in range(y1 - y0):
                bin_y = ((y + 1) * means.shape[0] - 1) // (y1 - y0)
                for x in range(x1 - x0):
                    mean = means[bin_y, ((x + 1) * means.shape[1] - 1) // (x1 - x0)]
                    if masked[y, x] or not np.isfinite(cell[y, x]) or not (low <= mean <= high):
                        continue
                    pixels[used] = cell[y, x]
                    used += 1
                    if has_variance and np.isfinite(variance[y0 + y, x0 + x]):
                        noises[noisy] = variance[y0 + y, x0 + x]
                        noisy += 1
            cells[0, row, column] = level
            cells[1, row, column] = _clipped_rms(pixels[:used], level, scale * size)
            if noisy > 0:
                cells[2, row, column] = median_of(noises, noisy)
            cells[3, row, column] = used / cell.size


@kernel
def _bin_means(cell: Any, masked: Any, means: Any, values: Any) -> int:
    """Mean of the usable pixels of each bin where they are at least half; the same as a list, and its length."""
    height, width = cell.shape
    count = 0
    for by in range(means.shape[0]):
        for bx in range(means.shape[1]):
            total, good, area = 0.0, 0, 0
            for y in range(by * height // means.shape[0], (by + 1) * height // means.shape[0]):
                for x in range(bx * width // means.shape[1], (bx + 1) * width // means.shape[1]):
                    area += 1
                    if not masked[y, x] and np.isfinite(cell[y, x]):
                        total += cell[y, x]
                        good += 1
            if good > 0 and 2 * good >= area:
                means[by, bx] = total / good
                values[count] = means[by, bx]
                count += 1
    return count


@kernel
def _clipped_mode(values: Any, sigma: float) -> tuple[float, float, float, float]:
    """Pearson's mode after clipping about the median, the limits of the clip and the robust scale."""
    count = values.size
    deviations = np.empty(count)
    median, scale, total = 0.0, 0.0, 0.0
    for _ in range(50):
        median = median_of(values, count)
        for n in range(count):
            deviations[n] = abs(values[n] - median)
        scale = 1.482602 * median_of(deviations, count)
        kept, total = 0, 0.0
        for n in range(count):
            if abs(values[n] - median) <= sigma * scale:
                values[kept] = values[n]
                total += values[n]
                kept += 1
        if kept == count:
            break
        count = kept
    skew = min(max(total / count - median, -_MAX_SKEW * scale), _MAX_SKEW * scale)
    return median - 1.5 * skew, median - sigma * scale, median + sigma * scale, scale


@kernel
def _clipped_rms(values: Any, level: float, scale: float) -> float:
    """Scatter about the level within 3 sigma, with the loss of a cut Gaussian (variance × 0.97334) made up."""
    limit = 3.0 * scale if scale > 0.0 else np.inf
    rms = scale
    for _ in range(20):
        total, count = 0.0, 0
        for value in values:
            step = value - level
            if abs(step) <= limit:
                total += step * step
                count += 1
        if count == 0:
            break
        previous, rms = rms, math.sqrt(total / count / (0.97334 if limit < np.inf else 1.0))
        if abs(rms - previous) <= 1e-4 * rms:
            break
        limit = 3.0 * rms
    return rms
