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

import functools
from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.background_kernels import bin_means, cell_statistics, interpolate_rows
from larun.algorithms.jit import over_rows
from larun.errors import OptionError
from larun.flags import UNUSABLE

__all__ = ["Background", "BackgroundOptions", "background"]

#: Bins along one side of a cell.
_BINS = 16
#: A cell with a smaller share of usable pixels than this is filled from its neighbours.
_MIN_FRACTION = 0.15


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


class _Map:
    """A mesh that becomes a map of all pixels when somebody looks at it."""

    def __init__(self, mesh: NDArray[np.float64], shape: tuple[int, int], *, positive: bool) -> None:
        self.mesh = mesh
        self._shape = shape
        self._positive = positive

    def again(self) -> _Map:
        """The same, not yet looked at."""
        return _Map(self.mesh, self._shape, positive=self._positive)

    @functools.cached_property
    def plane(self) -> NDArray[np.float32]:
        return _interpolated(self.mesh, self._shape, positive=self._positive)


@attrs.frozen(slots=False, eq=False, repr=False)
class Background:
    """The background of an image and its smooth noise.

    The maps are made from the meshes when they are first looked at. Iterating gives the attributes in this order.

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

    _level: _Map
    _rms: _Map
    _variance: _Map | None
    fraction_used: NDArray[np.float32]

    @property
    def level(self) -> NDArray[np.float32]:
        """Level of the sky in every pixel."""
        return self._level.plane

    @property
    def rms(self) -> NDArray[np.float32]:
        """Clipped scatter about the level in every pixel."""
        return self._rms.plane

    @functools.cached_property
    def variance(self) -> NDArray[np.float32]:
        """Smooth noise variance in every pixel."""
        return self.rms**2 if self._variance is None else self._variance.plane

    @property
    def mesh_level(self) -> NDArray[np.float32]:
        """The filtered mesh of the level."""
        return self._level.mesh.astype(np.float32)

    @property
    def mesh_rms(self) -> NDArray[np.float32]:
        """The filtered mesh of the scatter."""
        return self._rms.mesh.astype(np.float32)

    def variance_of(self, rows: slice) -> NDArray[np.float32]:
        """Smooth noise variance of some rows, without making the map of all."""
        noise = self._rms if self._variance is None else self._variance
        part = _interpolated(noise.mesh, noise._shape, positive=noise._positive, rows=rows)
        return part**2 if self._variance is None else part

    def anew(self) -> Background:
        """The same without its maps, to be made again: for whoever keeps it and has looked at them."""
        level, rms, variance = (
            None if part is None else _Map(part.mesh, part._shape, positive=part._positive)
            for part in (self._level, self._rms, self._variance)
        )
        assert level is not None
        assert rms is not None
        return Background(level, rms, variance, self.fraction_used)

    def again(self) -> Background:
        """The same as it was when nobody had looked at its maps: what is kept of it is small."""
        variance = None if self._variance is None else self._variance.again()
        return Background(self._level.again(), self._rms.again(), variance, self.fraction_used)

    def halved(self) -> Background:
        """The background of the image binned by two: of means of four pixels, whose noise is half if independent."""
        ny, nx = self._level._shape
        shape = ny // 2, nx // 2
        level, rms = _Map(self._level.mesh, shape, positive=False), _Map(self._rms.mesh / 2, shape, positive=True)
        return Background(level, rms, None, self.fraction_used)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        yield from (self.level, self.rms, self.variance, self.mesh_level, self.mesh_rms, self.fraction_used)


def background(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    unusable: NDArray[np.bool_] | NDArray[np.uint32],
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
    unusable : (ny, nx) bool or uint32
        True where a pixel must not be used; or the flags, of which those of UNUSABLE count.
    options : BackgroundOptions
        Mesh, filter and clipping.

    Returns
    -------
    Background
        Finite in every pixel; its maps are made when they are looked at.

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
    data = read_only(data, np.float32)
    flags, mask = read_only(unusable, np.uint32), int(UNUSABLE if unusable.dtype == np.uint32 else 1)
    plane = data if variance is None else read_only(variance, np.float32)
    if data.ndim != 2 or data.size == 0 or data.shape != flags.shape or data.shape != plane.shape:
        raise OptionError(
            f"data {data.shape}, variance {plane.shape} and unusable {flags.shape} must be planes of the same shape"
        )
    cells = _cells((data, plane, flags), mask, variance is not None, options)
    if not np.isfinite(cells[0]).any():
        raise OptionError(
            f"no cell of the background mesh ({options.mesh} px) has {_MIN_FRACTION:.0%} usable pixels: check the flags"
        )
    if variance is not None and not np.isfinite(cells[2]).any():
        raise OptionError("variance: no usable pixel has a finite value; pass None to take the noise from the scatter")
    cells[2] = cells[1] if variance is None else cells[2]
    level, rms, noise = (_filtered(_filled(mesh), options.filter_size) for mesh in cells[:3])
    ny, nx = data.shape
    return Background(
        _Map(level, (ny, nx), positive=False),
        _Map(rms, (ny, nx), positive=True),
        None if variance is None else _Map(noise, (ny, nx), positive=True),
        cells[3].astype(np.float32),
    )


def _cells(
    planes: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]],
    mask: int,
    has_variance: bool,
    options: BackgroundOptions,
) -> NDArray[np.float64]:
    """Level, rms, median variance and share of pixels used of each cell: (4, my, mx)."""
    ny, nx = planes[0].shape
    rows, columns = (max(1, round(n / options.mesh)) for n in (ny, nx))
    cells = np.empty((4, rows, columns))
    size = max(1, int(options.mesh) // _BINS)
    most = max(1, -(-ny // rows) // size) * max(1, -(-nx // columns) // size)

    def work(start: int, stop: int) -> None:
        means = np.empty((columns, most))
        for row in range(start, stop):
            part = slice(row * ny // rows, (row + 1) * ny // rows)
            data, variance, flags = (plane[part] for plane in planes)
            bin_means(data, flags, mask, size, means)
            ordered = np.sort(means, axis=1)  # NaN last
            found = np.empty((4, columns))
            rules = (size, float(options.sigma), _MIN_FRACTION)
            cell_statistics((data, variance, flags), mask, rules, means, ordered, has_variance, found)
            cells[:, row] = found

    over_rows(rows, work, band=1)
    return cells


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


def _interpolated(
    mesh: NDArray[np.float64], shape: tuple[int, ...], *, positive: bool, rows: slice = slice(None)
) -> NDArray[np.float32]:
    """Cubic convolution of a mesh to full resolution; a positive quantity stays above the least of its cells."""
    first, last, _ = rows.indices(shape[0])
    out = np.empty((last - first, shape[1]), np.float32)
    floor = float(mesh.min()) if positive else -np.inf
    along_y, (taps, weights) = _cubic(shape[0], mesh.shape[0]), _cubic(shape[1], mesh.shape[1])
    firsts = np.searchsorted(taps, np.arange(mesh.shape[1] + 2))  # of the pixels that see the same four cells
    padded = _padded(mesh, 2)

    def work(start: int, stop: int) -> None:
        interpolate_rows(padded, along_y, (firsts, weights), floor, out[start:stop], first + start)

    over_rows(last - first, work, band=256)
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
        ]
    )
    return base.astype(np.int64) + 1, weights
