"""Images on other pixels: interpolation or exact areas, with the noise and the flags that result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms import taps
from larun.algorithms.arrays import read_only
from larun.algorithms.jit import over_rows
from larun.algorithms.mapping import Mapping
from larun.algorithms.overlap import overlap_rows
from larun.algorithms.resample_kernels import count_rows, fill_masked, interpolate_rows, list_rows, mark_near
from larun.errors import OptionError

__all__ = ["KERNELS", "ResampleOptions", "Resampled", "chosen_kernel", "resample", "resample_into", "resample_variance"]

KERNELS = ("auto", *taps.KERNELS, "area")

_BAND = 64

#: Change of the linear scale above which areas are needed to keep flux.
_SCALE = 0.02
#: Part of a weight above which the flags of an input pixel count.
_LEAST = 0.03

#: Pixels whose value says nothing, so that neighbours stand in for it.
_WORTHLESS = fl.BAD | fl.COSMIC | fl.FLAT_INVALID | fl.NO_DATA


@attrs.frozen(kw_only=True)
class ResampleOptions:
    """How an image is put on other pixels.

    Parameters
    ----------
    kernel : {"auto", "lanczos3", "bilinear", "nearest", "area"}
        Interpolation, or exact areas of overlap. ``"auto"`` is Lanczos-3 where the scale stays within 2 %, else areas.
    conserve : {"flux", "brightness"}
        Whether the sum over a star stays, or the value of a pixel on a flat sky. They differ where the scale changes.
    """

    kernel: str = "auto"
    conserve: str = "flux"

    def __attrs_post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise OptionError(f"kernel={self.kernel!r}: must be one of {', '.join(KERNELS)}")
        if self.conserve not in ("flux", "brightness"):
            raise OptionError(f"conserve={self.conserve!r}: must be 'flux' or 'brightness'")


class Resampled(NamedTuple):
    """An image on other pixels.

    Attributes
    ----------
    data : ndarray of float32, (ny, nx)
        NaN where the flags say NO_DATA.
    variance : ndarray of float32, (ny, nx), or None
        Of each pixel; neighbours are correlated now.
    flags : ndarray of uint32, (ny, nx)
        Those of all input pixels that matter; EDGE where neighbours are missing, NO_DATA outside.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    flags: NDArray[np.uint32]


def chosen_kernel(mapping: Mapping, kernel: str) -> str:
    """The kernel that ``"auto"`` means for this mapping; any other is itself."""
    if kernel != "auto":
        return kernel
    areas = mapping.areas()
    good = areas[np.isfinite(areas)]
    if not good.size:
        return "lanczos3"
    return "lanczos3" if np.all(np.abs(np.sqrt(good) - 1) < _SCALE) else "area"


def resample(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    mapping: Mapping,
    *,
    options: ResampleOptions = ResampleOptions(),
) -> Resampled:
    """Put an image on the pixels of a mapping.

    Pixels whose value means nothing (BAD, COSMIC, FLAT_INVALID, NO_DATA, not finite) are replaced by their neighbours
    first, unless a step has done so already (INTERPOLATED): they ring into no star, and their flags go along.

    Parameters
    ----------
    data, variance, flags : ndarray, (ny, nx)
        The input; ``variance`` may be None.
    mapping : Mapping
        From output pixels to input pixels.
    options : ResampleOptions
        Kernel, and what is kept where the scale changes.

    Returns
    -------
    Resampled
        ``variance`` is ``Σ w² v`` with the weights of the data.

    Raises
    ------
    OptionError
        If shapes disagree.
    """
    for name, plane in (("variance", variance), ("flags", flags)):
        if plane is not None and plane.shape != data.shape:
            raise OptionError(f"{name} has shape {plane.shape}, data {data.shape}")
    # arrays of their own, which an image takes over without a copy
    values = np.empty(mapping.shape, np.float32)
    noise = None if variance is None else np.empty(mapping.shape, np.float32)
    made = Resampled(values, noise, np.empty(mapping.shape, np.uint32))
    resample_into(data, variance, flags, mapping, made, options=options)
    return made


def resample_into(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    mapping: Mapping,
    out: tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.uint32]],
    *,
    options: ResampleOptions = ResampleOptions(),
    after: Callable[[int, int], None] | None = None,
) -> None:
    """As :func:`resample`, into planes that are there.

    Parameters
    ----------
    data, variance, flags, mapping, options
        As for :func:`resample`.
    out : tuple of ndarray
        Data, variance and flags of the mapping's shape, to be filled; the variance may be None where there is none.
    after : callable, optional
        ``after(start, stop)`` is called, by several threads, when these rows have been filled.
    """
    bits = read_only(flags, np.uint32)
    given = [read_only(plane, np.float32) for plane in ([data] if variance is None else [data, variance])]
    marked, masked = _places(given, bits)
    planes = _filled(given, masked)
    kernel = chosen_kernel(mapping, options.kernel)
    into = out[0], out[0] if out[1] is None else out[1], out[2]
    if kernel == "area":
        work = _by_area(planes, bits, mapping, options.conserve, into)
    else:
        near = np.zeros(bits.shape if len(marked) else (0, 0), np.uint8)
        mark_near(marked, near)
        state = (bits, read_only(near, np.uint8), _LEAST)
        work = _interpolated(planes, state, mapping, (kernel, options.conserve), into)

    def rows(start: int, stop: int) -> None:
        work(start, stop)
        if after is not None:
            after(start, stop)

    over_rows(mapping.shape[0], rows, _BAND)


def resample_variance(
    variance: NDArray[np.float32], mapping: Mapping, *, options: ResampleOptions = ResampleOptions()
) -> NDArray[np.float32]:
    """A plane of variance on the pixels of a mapping, ``Σ w² v``; 0 outside.

    Parameters
    ----------
    variance : ndarray of float32, (ny, nx)
        Negative where noise is opposite; 0 takes the place of what is not finite.
    mapping, options
        As for :func:`resample`.
    """
    plane = np.where(np.isfinite(variance), variance, np.float32(0))
    nothing = np.zeros(variance.shape, np.uint32)
    made = resample(np.zeros_like(plane), plane, nothing, mapping, options=options).variance
    assert made is not None
    return np.nan_to_num(made, copy=False, nan=0.0)


_Out = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]


def _interpolated(
    planes: list[NDArray[np.float32]],
    flags: tuple[NDArray[np.uint32], NDArray[np.uint8], float],
    mapping: Mapping,
    how: tuple[str, str],
    out: _Out,
) -> Callable[[int, int], None]:
    kernel, conserve = how
    pair = planes[0], planes[-1]
    table = taps.weights(kernel)
    tables = read_only(np.stack([table, table * table])[: len(planes)], np.float32)
    area = read_only(mapping.areas() if conserve == "flux" else np.ones_like(mapping.x[1:, 1:]), np.float32)
    node_x, node_y = read_only(mapping.x, np.float64), read_only(mapping.y, np.float64)

    def work(start: int, stop: int) -> None:
        into = (out[0][start:stop], out[1][start:stop], out[2][start:stop])
        interpolate_rows(pair, tables, flags, (node_x, node_y, start + mapping.first), mapping.step, area, into)

    return work


def _by_area(
    planes: list[NDArray[np.float32]], flags: NDArray[np.uint32], mapping: Mapping, conserve: str, out: _Out
) -> Callable[[int, int], None]:
    pair = planes[0], planes[-1]
    node_x, node_y = read_only(mapping.x, np.float64), read_only(mapping.y, np.float64)

    def work(start: int, stop: int) -> None:
        into = (out[0][start:stop], out[1][start:stop], out[2][start:stop])
        nodes = (node_x, node_y, start + mapping.first)
        overlap_rows(pair, flags, nodes, mapping.step, _LEAST, into, (len(planes) > 1, conserve == "brightness"))

    return work


def _places(
    planes: list[NDArray[np.float32]], flags: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns (n, 2) of the pixels with a flag, and of those whose neighbours stand in for them."""
    pair = planes[0], planes[-1]
    bits = np.uint32(_WORTHLESS), np.uint32(fl.INTERPOLATED)
    counts = np.empty((len(flags), 2), np.int64)
    over_rows(len(flags), lambda start, stop: count_rows(pair, flags, bits, counts, start, stop), 256)
    ends = np.cumsum(counts, axis=0)
    found = np.empty((ends[-1, 0], 2), np.int64), np.empty((ends[-1, 1], 2), np.int64)
    if len(found[0]) or len(found[1]):
        spans = read_only(np.stack([ends - counts, ends], axis=-1), np.int64)
        over_rows(len(flags), lambda start, stop: list_rows(pair, flags, bits, spans, found, start, stop), 256)
    return read_only(found[0], np.int64), read_only(found[1], np.int64)


def _filled(planes: list[NDArray[np.float32]], masked: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """The planes with masked pixels replaced by their neighbours."""
    if not len(masked):
        return planes
    state = np.zeros(planes[0].shape, np.uint8)
    state[masked[:, 0], masked[:, 1]] = 1
    state = read_only(state, np.uint8)
    return [_mended(plane, state, masked) for plane in planes]


def _mended(plane: NDArray[np.float32], state: NDArray[np.uint8], masked: NDArray[np.int64]) -> NDArray[np.float32]:
    values = np.empty(len(masked), np.float32)
    over_rows(len(masked), lambda start, stop: fill_masked(plane, state, masked[start:stop], values[start:stop]), 1024)
    made = plane.copy()
    made[masked[:, 0], masked[:, 1]] = values
    return read_only(made, np.float32)
