"""Frames drizzled onto finer pixels: without what only one of them has seen, by bands of rows, however many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import read_only
from larun.algorithms.drizzle import ARTEFACT, MISSING, USED, drizzle_rows
from larun.algorithms.jit import over_rows
from larun.algorithms.mapping import Mapping, mapped
from larun.algorithms.resample import ResampleOptions, resample
from larun.algorithms.stacking import Layer, MeanOptions, Rows, stack
from larun.errors import OptionError

__all__ = ["DrizzleOptions", "Drizzled", "artefacts", "drizzle"]

#: Pixels of the output along a drop, at most: the correlation of its noise is kept that far.
_WIDEST = 2.5
_CHUNK = 16
#: Of the step to the next pixel: what a frame may differ by, for undersampled stars change with their place in a pixel.
_STEP, _STEP_NEAR = 1.2, 0.7
#: Part of the limit, beside a pixel that is beyond it.
_NEAR = 0.7


@attrs.frozen(kw_only=True)
class DrizzleOptions:
    """How frames are drizzled.

    Parameters
    ----------
    scale : float
        Pixel of the output in pixels of the reference.
    pixfrac : float
        Side of a drop in pixels of its frame: 1 keeps pixels whole, less is sharper and needs more frames.
    sigma : float
        Limit beyond which a frame saw something that the others did not; infinite keeps everything.
    max_memory : float
        Bytes; it decides no pixel.
    """

    scale: float = 0.5
    pixfrac: float = 0.7
    sigma: float = 4.0
    max_memory: float = 1e9

    def __attrs_post_init__(self) -> None:
        if not 0.1 <= self.scale <= 1:
            raise OptionError(f"scale={self.scale!r}: must be between 0.1 and 1 pixels of the reference")
        if not 0.01 <= self.pixfrac <= 1:
            raise OptionError(f"pixfrac={self.pixfrac!r}: must be between 0.01 and 1")
        if self.pixfrac > _WIDEST * self.scale:
            raise OptionError(
                f"pixfrac={self.pixfrac:g}, scale={self.scale:g}: a drop would cover {self.pixfrac / self.scale:.1f} "
                f"pixels of the output along its side, {_WIDEST:g} are the most: use larger pixels or smaller drops"
            )
        if not self.sigma >= 2:
            raise OptionError(f"sigma={self.sigma!r}: must be at least 2")


class Drizzled(NamedTuple):
    """What comes out; all (ny, nx).

    Attributes
    ----------
    data, variance : ndarray of float32
        Light that falls on a pixel, in that of the reference; NaN where no drop has fallen.
    flags : ndarray of uint32
        Of the pixels that count; NO_DATA, and those of all, where none does.
    coverage : ndarray of float32
        Weight of a pixel, in the mean where all frames lie.
    contributors, rejected : ndarray of uint16
        Frames that count; frames that saw something else there.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    coverage: NDArray[np.float32]
    contributors: NDArray[np.uint16]
    rejected: NDArray[np.uint16]

    def rows(self, part: slice) -> Drizzled:
        """Views of some rows."""
        data, variance, flags, coverage, contributors, rejected = self
        return Drizzled(data[part], variance[part], flags[part], coverage[part], contributors[part], rejected[part])


def drizzle(
    layers: Sequence[Layer],
    fine: Sequence[Mapping],
    shape: tuple[int, int],
    *,
    options: DrizzleOptions = DrizzleOptions(),
) -> Drizzled:
    """Drizzle frames.

    Parameters
    ----------
    layers : sequence of Layer
        On the pixels of the reference, in an order that does not depend on names of files.
    fine : sequence of Mapping
        From pixels of the output to each frame; the first pixels of both grids begin at the same place.
    shape : tuple of int
        Of the grid that layers are on.
    options : DrizzleOptions

    Returns
    -------
    Drizzled
        The same bits whatever the memory and the threads.

    Raises
    ------
    OptionError
        If there are no layers.
    """
    if not layers:
        raise OptionError("there are no frames to drizzle")
    strange = _strange(layers, shape, options)
    ny, nx = fine[0].shape
    made = Drizzled(
        np.empty((ny, nx), np.float32),
        np.empty((ny, nx), np.float32),
        np.empty((ny, nx), np.uint32),
        np.empty((ny, nx), np.float32),
        np.empty((ny, nx), np.uint16),
        np.empty((ny, nx), np.uint16),
    )
    band = int(np.clip(options.max_memory / 4 / (60 * nx) // 64 * 64, 64, max(64, ny)))
    for start in range(0, ny, band):
        stop = min(start + band, ny)
        _band(layers, fine, strange, options, (start, stop), made.rows(slice(start, stop)))
    return made


def _band(
    layers: Sequence[Layer],
    fine: Sequence[Mapping],
    strange: Sequence[NDArray[np.uint8] | None],
    options: DrizzleOptions,
    rows: tuple[int, int],
    made: Drizzled,
) -> None:
    shape = made.data.shape
    sums, weights, noises = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    made.flags[:], made.contributors[:], made.rejected[:] = 0, 0, 0
    lost = np.zeros(shape, np.uint32)
    out = sums, weights, noises, made.flags, lost, made.contributors, made.rejected
    for layer, mapping, packed in zip(layers, fine, strange, strict=True):
        _fall(layer, mapping.rows(*rows), packed, options, rows[0], out)
    empty = weights == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        made.data[:] = sums / weights
        made.variance[:] = noises / weights**2
    made.data[empty], made.variance[empty] = np.nan, np.nan
    made.flags[empty] = lost[empty] | fl.NO_DATA
    made.coverage[:] = weights / (sum(layer.weight for layer in layers) * options.pixfrac**2)


def _fall(
    layer: Layer,
    mapping: Mapping,
    packed: NDArray[np.uint8] | None,
    options: DrizzleOptions,
    row: int,
    out: tuple[NDArray[np.generic], ...],
) -> None:
    """Add one frame to rows of the output, the first of which is ``row``."""
    reach, (ny, nx) = mapping.reach(), layer.shape
    begin, end = (0, 0) if reach is None else (max(0, math.floor(reach[0]) - 2), min(ny, math.ceil(reach[1]) + 3))
    if end <= begin:
        return
    given = layer.read(begin, end)
    use = np.where(_good(given), np.uint8(USED), np.uint8(MISSING))
    if packed is not None:
        hit = np.unpackbits(packed[begin:end], axis=1, count=nx).view(np.bool_)
        use[hit & (use == USED)] = ARTEFACT
    planes = read_only(given.data, np.float32), read_only(_noise(given), np.float32)
    flags, use = read_only(given.flags, np.uint32), read_only(use, np.uint8)
    moved = mapping.on_part(0, begin)
    nodes = read_only(moved.x, np.float64), read_only(moved.y, np.float64)
    a, b, c = layer.plane
    size = options.scale
    first = 0.5 * size - 0.5  # the middle of the first pixel of the output, on the reference
    slope_x, slope_y = b * size**3, c * size**3

    def work(start: int, stop: int) -> None:
        level = (a + b * first + c * first) * size**2 + slope_y * (row + start)
        how = (options.pixfrac, float(layer.scale), float(layer.weight), float(level), float(slope_x), float(slope_y))
        drizzle_rows(
            planes,
            flags,
            use,
            (nodes[0], nodes[1], start + moved.first),
            moved.step,
            how,
            tuple(plane[start:stop] for plane in out),
        )

    over_rows(len(out[0]), work, _CHUNK)


def _good(given: Rows) -> NDArray[np.bool_]:
    return np.asarray(((given.flags & fl.UNUSABLE) == 0) & np.isfinite(given.data) & np.isfinite(given.variance))


def _noise(given: Rows) -> NDArray[np.float32]:
    """Variance with what masters add: a dither moves it, as that of the frame itself."""
    total = given.variance
    for plane in given.shared.values():
        total = total + np.abs(plane)
    return total


# -- what only one frame has seen --------------------------------------------------------------------------------------


def _strange(
    layers: Sequence[Layer], shape: tuple[int, int], options: DrizzleOptions
) -> list[NDArray[np.uint8] | None]:
    """Artefacts of each frame, eight pixels a byte; None where nothing can be told."""
    if len(layers) < 3 or not math.isfinite(options.sigma):
        return [None] * len(layers)
    how = MeanOptions(method="median", resample=ResampleOptions(kernel="lanczos3"), max_memory=options.max_memory)
    middle = stack([layer._replace(weight=1.0) for layer in layers], shape, options=how).data
    return [np.packbits(artefacts(layer, middle, options.sigma), axis=1) for layer in layers]


def artefacts(layer: Layer, middle: NDArray[np.float32], sigma: float) -> NDArray[np.bool_]:
    """Pixels of a frame that differ from what most frames see there.

    As in drizzled images of HST (Koekemoer et al. 2002): the median is put back on the pixels of the frame, and a pixel
    may differ from it by noise and by a part of the step to its neighbours, for stars change with their place in a
    pixel. Beside a pixel that is beyond the limit, less is enough.

    Parameters
    ----------
    layer : Layer
        A frame on the pixels of the median.
    middle : ndarray of float32, (ny, nx)
        The median of all frames.
    sigma : float
        Limit.

    Returns
    -------
    ndarray of bool
        Of the shape of the frame.
    """
    from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter

    y, x = np.mgrid[: middle.shape[0], : middle.shape[1]]
    a, b, c = layer.plane
    level = (layer.sky + a + b * x + c * y).astype(np.float32)
    back = _back(layer)
    light, sky = (_put_back(plane, back) / np.float32(layer.scale) for plane in (middle - np.float32(layer.sky), level))
    given = layer.read(0, layer.shape[0])
    away = np.abs(given.data - light - sky)
    noise = np.sqrt(layer.noise / layer.scale**2 + np.maximum(light, 0))
    smooth = np.nan_to_num(light)
    step = np.maximum(maximum_filter(smooth, 3) - smooth, smooth - minimum_filter(smooth, 3))
    with np.errstate(invalid="ignore"):
        hit = away > sigma * noise + _STEP * step
        less = away > _NEAR * sigma * noise + _STEP_NEAR * step
    return np.asarray(hit | (less & binary_dilation(hit, np.ones((3, 3), bool))))


def _put_back(plane: NDArray[np.float32], back: Mapping) -> NDArray[np.float32]:
    lost = np.where(np.isfinite(plane), np.uint32(0), fl.NO_DATA)
    return resample(plane, None, lost, back, options=ResampleOptions(kernel="lanczos3")).data


def _back(layer: Layer) -> Mapping:
    """From the pixels of a frame to those of the grid."""
    there = layer.mapping
    middle = there.shape[1] / 2, there.shape[0] / 2
    at = [float(value) for value in there.at(*middle)]
    along, across = there.at(middle[0] + 1, middle[1]), there.at(middle[0], middle[1] + 1)
    (a, c), (b, d) = ([float(value) - at[k] for k, value in enumerate(end)] for end in (along, across))
    determinant = a * d - b * c

    def function(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        found_x, found_y = np.full(x.shape, middle[0]), np.full(x.shape, middle[1])
        for _ in range(8):
            now_x, now_y = there.at(found_x, found_y)
            rest_x, rest_y = x - now_x, y - now_y
            found_x = found_x + (d * rest_x - b * rest_y) / determinant
            found_y = found_y + (a * rest_y - c * rest_x) / determinant
            if np.nanmax(np.abs(rest_x) + np.abs(rest_y)) < 1e-6:
                break
        return found_x, found_y

    return mapped(function, layer.shape, tolerance=0.01)
