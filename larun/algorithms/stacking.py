"""A mean of frames that lie anywhere, without what only one of them has seen; in bands of rows, however many."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import read_only
from larun.algorithms.jit import over_rows
from larun.algorithms.mapping import Mapping as PixelMapping
from larun.algorithms.order import median_network
from larun.algorithms.resample import ResampleOptions, chosen_kernel, resample_into, resample_variance
from larun.algorithms.stack_kernels import level_rows, mark_rows, mean_rows, middle_rows, spread_rows
from larun.detector import Section
from larun.errors import OptionError

__all__ = ["HALO", "MARGIN", "Layer", "MeanOptions", "Rows", "Seen", "Stacked", "seen_in", "stack", "taken_from"]

_STEP = 64  # rows that bands are multiples of: nodes of every mapping lie so
MARGIN = 9  # pixels of the input beyond those that are met: neighbours, and neighbours of what is filled
_FWHM = 2.3548200450309493
_WIDEST = 6  # pixels: half the width of what frames are blurred by, at most
HALO = 8  # pixels of the output that rejection sees beyond a band or a section
_CHUNK = 8
_MOST = 0.34  # of the frames may see something else in a pixel; if more do, it is a star that varies
#: Flags of a frame's pixel that keep it out of the mean; a saturated pixel too, where others saw the star.
_OUT = fl.UNUSABLE
_METHODS = ("artefacts", "mean", "median")


@attrs.frozen(kw_only=True)
class MeanOptions:
    """How frames are put on one another.

    Parameters
    ----------
    method : {"artefacts", "mean", "median"}
        A weighted mean without what no change of seeing explains; of everything; or the median, whose stars have no one
        shape.
    sigma : float
        Limit of a rejection.
    light, slope : float
        Part of a star's light, and of the step to the next pixel, by which a frame may differ from the median after
        both have been made as blurred as the blurrier: what is left of other shapes and of small displacements.
    resample : ResampleOptions
        Kernel and what it keeps.
    max_memory : float
        Bytes; it decides no pixel.
    """

    method: str = attrs.field(default="artefacts")
    sigma: float = 4.0
    light: float = 0.15
    slope: float = 0.5
    resample: ResampleOptions = attrs.field(factory=ResampleOptions)
    max_memory: float = attrs.field(default=1e9)

    def __attrs_post_init__(self) -> None:
        if self.method not in _METHODS:
            raise OptionError(f"method={self.method!r}: must be one of {', '.join(_METHODS)}")
        if not self.sigma >= 2:
            raise OptionError(f"sigma={self.sigma!r}: must be at least 2")
        if not (self.light >= 0 and self.slope >= 0):
            raise OptionError(f"light={self.light!r}, slope={self.slope!r}: must not be negative")
        if not self.max_memory > 0:
            raise OptionError(f"max_memory={self.max_memory!r}: must be above 0 bytes")


class Rows(NamedTuple):
    """Some rows of a frame: data and variance float32, flags uint32, and what masters add by name, (rows, nx)."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    shared: Mapping[str, NDArray[np.float32]]


class Layer(NamedTuple):
    """One frame of a stack.

    Attributes
    ----------
    read : callable
        ``read(start, stop)`` gives :class:`Rows` of the frame.
    shape : tuple of int
        Of the frame.
    mapping : Mapping
        From pixels of the stack to those of the frame.
    scale : float
        By which the frame is multiplied.
    plane : tuple of float
        ``a + b x + c y`` in pixels of the stack that is taken off then.
    weight : float
        In the mean.
    fwhm : float
        Of its stars, in pixels of the stack.
    sky : float
        Level of its sky after scale and plane.
    noise : float
        Variance of its sky after scale: no pixel is trusted beyond it, whatever its own value says.
    """

    read: Callable[[int, int], Rows]
    shape: tuple[int, int]
    mapping: PixelMapping
    scale: float = 1.0
    plane: tuple[float, float, float] = (0.0, 0.0, 0.0)
    weight: float = 1.0
    fwhm: float = 3.0
    sky: float = 0.0
    noise: float = 0.0


class Stacked(NamedTuple):
    """A stack; all (ny, nx).

    Attributes
    ----------
    data, variance : ndarray of float32
        NaN where no frame has anything.
    flags : ndarray of uint32
        Of the frames that count; NO_DATA, and those of all frames, where none does.
    coverage : ndarray of float32
        Part of the weight of all frames that a pixel has.
    contributors, rejected : ndarray of uint16
        Frames that count; frames that saw something else there.
    shared : dict
        Variance of the noise that several frames have in common, by master.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    coverage: NDArray[np.float32]
    contributors: NDArray[np.uint16]
    rejected: NDArray[np.uint16]
    shared: dict[str, NDArray[np.float32]]

    def rows(self, part: slice) -> Stacked:
        """Views of some rows."""
        data, variance, flags, coverage, contributors, rejected, shared = self
        own = {name: plane[part] for name, plane in shared.items()}
        return Stacked(data[part], variance[part], flags[part], coverage[part], contributors[part], rejected[part], own)


def stack(
    layers: Sequence[Layer],
    shape: tuple[int, int],
    *,
    options: MeanOptions = MeanOptions(),
    common: Sequence[str] = (),
    section: Section | None = None,
) -> Stacked:
    """The mean of frames on one grid.

    Weights are one number a frame: a weight from a pixel's own value would make faint stars too faint. Before a frame
    is compared with the median of all, the sharper of the two is blurred by a Gaussian to the width of the other, so
    that stars survive changes of the seeing; what still differs by more than ``sigma`` and the tolerances (a cosmic
    ray, a hot pixel that the dither moved, a satellite) is left out with its surroundings.

    Parameters
    ----------
    layers : sequence of Layer
        In an order that does not depend on names of files: sums are made in it.
    shape : tuple of int
        Of the stack.
    options : MeanOptions
        Rejection, kernel, memory.
    common : sequence of str
        Masters whose noise is kept apart; that of others counts as each frame's own.
    section : Section, optional
        A part of the stack that is wanted alone.

    Returns
    -------
    Stacked
        The same bits whatever the memory, the threads and the section.

    Raises
    ------
    OptionError
        If there are no layers, or a weight or scale is not positive.
    """
    if not layers:
        raise OptionError("there are no frames to stack")
    for layer in layers:
        if not (0 < layer.weight < math.inf and 0 < layer.scale < math.inf):
            raise OptionError(f"weight {layer.weight}, scale {layer.scale}: must be positive")
    wanted = section or Section(0, shape[0], 0, shape[1])
    ny, nx = wanted.shape
    made = Stacked(
        np.empty((ny, nx), np.float32),
        np.empty((ny, nx), np.float32),
        np.empty((ny, nx), np.uint32),
        np.empty((ny, nx), np.float32),
        np.empty((ny, nx), np.uint16),
        np.empty((ny, nx), np.uint16),
        {name: np.zeros((ny, nx), np.float32) for name in common},
    )
    per_row = len(layers) * nx * 16 + nx * 64  # bytes
    band = int(np.clip(options.max_memory / 3 / per_row // _STEP * _STEP, _STEP, 256))
    size = len(layers) * (min(band, ny) + 2 * HALO) * (nx + 2 * HALO)
    room = np.empty((3, size), np.uint32)  # of one band after the other
    for start in range(0, ny, band):
        stop = min(start + band, ny)
        part = slice(start, stop)
        own = wanted._replace(y0=wanted.y0 + start, y1=wanted.y0 + stop)
        _band(layers, options, made.rows(part), room, own, shape)
    return made


class Seen(NamedTuple):
    """What frames see in a part of a stack; all but the last are (n, ny, nx).

    Attributes
    ----------
    values, variance : ndarray of float32
        Of every frame, in the light and on the sky of the reference; NaN where it has nothing.
    flags : ndarray of uint32
        Of every frame, on the pixels of the stack.
    used : ndarray of bool
        Whether it counts there.
    middle : ndarray of float32, (ny, nx)
        The median that it was compared with; NaN where nothing was compared.
    """

    values: NDArray[np.float32]
    variance: NDArray[np.float32]
    flags: NDArray[np.uint32]
    used: NDArray[np.bool_]
    middle: NDArray[np.float32]


def seen_in(layers: Sequence[Layer], shape: tuple[int, int], section: Section, options: MeanOptions) -> Seen:
    """What every frame sees in a part of a stack, and whether it counts: the story behind :func:`stack`.

    Parameters
    ----------
    layers, shape, section, options
        As for :func:`stack`.
    """
    outer = _around(section, shape)
    part = Section(section.y0 - outer.y0, section.y1 - outer.y0, section.x0 - outer.x0, section.x1 - outer.x0).slices
    room = np.empty((3, len(layers) * math.prod(outer.shape)), np.uint32)
    values, variance, flags, _ = _brought(layers, options, room, outer, {})
    before = values[:, *part].copy()
    middle, _ = _compared(layers, options, values, variance)
    known = middle[0, *part] if options.method != "mean" else np.full(section.shape, np.nan, np.float32)
    used = np.isfinite(values[:, *part])
    return Seen(before, variance[:, *part].copy(), flags[:, *part].copy(), used, known.copy())


def taken_from(
    layer: Layer, one: Stacked, known: tuple[NDArray[np.float32], NDArray[np.uint16]], fwhm: float, options: MeanOptions
) -> NDArray[np.bool_]:
    """What only a new frame has seen, beside a mean of others that is there already.

    Parameters
    ----------
    layer : Layer
        The frame.
    one : Stacked
        The stack of it alone.
    known : tuple of ndarray, (ny, nx)
        The mean of the others, and how many there are: of less than two nothing is told.
    fwhm : float
        Of the stars in the mean.
    options : MeanOptions
        Limits.
    """
    values = one.data[None].copy()
    taken = np.zeros(one.data.shape, np.uint16)
    marks = np.zeros(values.shape, np.uint8)
    seen = read_only(np.stack([known[0], known[1].astype(np.float32)]), np.float32)
    limits = (options.sigma, options.light, options.slope, layer.sky, layer.scale, layer.noise)
    lines = _line(layer.fwhm, fwhm), _line(fwhm, layer.fwhm)
    own = read_only(one.data, np.float32), read_only(one.variance, np.float32)
    over_rows(len(taken), functools.partial(_mark, own, seen, limits, lines, marks[0]), _CHUNK)
    found = read_only(marks, np.uint8)
    over_rows(len(taken), lambda a, b: spread_rows(found, _MOST, a, b, values, taken), _CHUNK)
    return taken > 0


def _around(section: Section, shape: tuple[int, int]) -> Section:
    """A section with as much around it as its pixels are compared with."""
    (ny, nx), (y0, y1, x0, x1) = shape, section
    return Section(max(0, y0 - HALO), min(ny, y1 + HALO), max(0, x0 - HALO), min(nx, x1 + HALO))


def _brought(
    layers: Sequence[Layer],
    options: MeanOptions,
    room: NDArray[np.uint32],
    section: Section,
    common: Mapping[str, NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32], list[dict[str, NDArray[np.float32]]]]:
    """All frames on a part of the stack: values, variance, flags, and amplitudes of what masters add."""
    size = len(layers), *section.shape
    words = [plane[: math.prod(size)].reshape(size) for plane in room]
    values, variance, flags = words[0].view(np.float32), words[1].view(np.float32), words[2]
    amplitudes: list[dict[str, NDArray[np.float32]]] = [{} for _ in layers]

    def lay(start: int, stop: int) -> None:
        for k in range(start, stop):
            amplitudes[k] = _laid(layers[k], options, section, common, (values[k], variance[k], flags[k]))

    over_rows(len(layers), lay, band=1)
    return values, variance, flags, amplitudes


def _compared(
    layers: Sequence[Layer], options: MeanOptions, values: NDArray[np.float32], variance: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """The median with its number of frames, and how many were taken out: NaN in their ``values``."""
    rows = values.shape[1]
    middle = np.empty((2, *values.shape[1:]), np.float32)
    if options.method != "mean":
        over_rows(
            rows, functools.partial(_middle, read_only(values, np.float32), median_network(len(layers)), middle), _CHUNK
        )
    taken = np.zeros(values.shape[1:], np.uint16)
    if options.method == "artefacts" and len(layers) > 1:
        _reject(layers, options, values, variance, middle, taken)
    return middle, taken


def _band(
    layers: Sequence[Layer],
    options: MeanOptions,
    made: Stacked,
    room: NDArray[np.uint32],
    section: Section,
    shape: tuple[int, int],
) -> None:
    """A part of a stack of some shape."""
    y0, y1, x0, x1 = section
    outer = _around(section, shape)
    values, variance, flags, amplitudes = _brought(layers, options, room, outer, made.shared)
    middle, taken = _compared(layers, options, values, variance)
    first = y0 - outer.y0
    inner = slice(first, first + y1 - y0), slice(x0 - outer.x0, x1 - outer.x0)
    weights = np.array([layer.weight for layer in layers])
    across = (slice(None), slice(None), inner[1])
    stacked = (
        read_only(values[across], np.float32),
        read_only(variance[across], np.float32),
        read_only(flags[across], np.uint32),
    )
    out = (made.data, made.variance, made.coverage, made.contributors, made.flags)
    over_rows(y1 - y0, lambda a, b: mean_rows(stacked, weights, first, a, b, out), _CHUNK)
    made.rejected[:] = taken[inner]
    if options.method == "median":
        _as_median(made, middle[:, *inner])
    if made.shared:
        _add_shared(made, amplitudes, np.isfinite(values[:, *inner]), weights, inner)


def _add_shared(
    made: Stacked,
    amplitudes: list[dict[str, NDArray[np.float32]]],
    used: NDArray[np.bool_],
    weights: NDArray[np.float64],
    inner: tuple[slice, slice],
) -> None:
    """Noise that frames have in common: amplitudes add up, not variances."""
    total = np.zeros(made.data.shape)
    for weight, good in zip(weights, used, strict=True):  # in one order, whatever the size
        total += np.where(good, weight, 0.0)
    for name, plane in made.shared.items():
        for k, own in enumerate(amplitudes):
            if name in own:
                good = used[k]
                plane[good] += (weights[k] * own[name][inner][good]).astype(np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            amplitude = np.where(total > 0, plane / total, 0.0)
        plane[:] = amplitude * np.abs(amplitude)


def _middle(values: Any, network: Any, out: NDArray[np.float32], start: int, stop: int) -> None:
    middle_rows(values, network, start, stop, out)


def _as_median(made: Stacked, middle: NDArray[np.float32]) -> None:
    """The median in place of the mean; its variance is π/2 times that of the mean for many frames, less for few."""
    count = middle[1]
    made.data[:] = middle[0]
    # of n normal values (Kenney & Keeping 1962): exact for 1 and 2, π/2 from above for many
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(count <= 2, 1.0, math.pi / 2 * count / (count + math.pi / 2 - 1))
    made.variance[:] *= factor.astype(np.float32)


def _laid(
    layer: Layer,
    options: MeanOptions,
    section: Section,
    common: Mapping[str, NDArray[np.float32]],
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]],
) -> dict[str, NDArray[np.float32]]:
    """A frame on a part of the stack, scaled and levelled, NaN where it is unusable; amplitudes of shared noise."""
    mapping, before = layer.mapping.part(section)
    reach = mapping.reach()
    ny = layer.shape[0]
    begin, end = (
        (0, 0) if reach is None else (max(0, math.floor(reach[0]) - MARGIN), min(ny, math.ceil(reach[1]) + MARGIN))
    )
    if end <= begin:
        out[0][:], out[1][:], out[2][:] = np.nan, np.nan, fl.NO_DATA
        return {}
    given = layer.read(begin, end)
    chosen = attrs.evolve(options.resample, kernel=chosen_kernel(layer.mapping, options.resample.kernel))
    moved = mapping.on_part(0, begin)
    noise = given.variance
    for name, plane in given.shared.items():
        if name not in common:
            noise = noise + np.abs(plane)
    made = out
    if before:
        made = np.empty(moved.shape, np.float32), np.empty(moved.shape, np.float32), np.empty(moved.shape, np.uint32)
    scale, sky, unusable = float(layer.scale), tuple(float(value) for value in layer.plane), np.uint32(_OUT)
    first = section.y0, section.x0 - before

    def level(start: int, stop: int) -> None:
        level_rows(scale, sky, first, unusable, start, stop, made)

    resample_into(given.data, noise, given.flags, moved, made, options=chosen, after=level)
    if before:
        out[0][:], out[1][:], out[2][:] = (item[:, before:] for item in made)
    return {
        name: (np.sqrt(np.abs(warped)) * np.sign(warped) * np.float32(layer.scale)).astype(np.float32)
        for name, plane in given.shared.items()
        if name in common
        for warped in (resample_variance(plane, moved, options=chosen)[:, before:],)
    }


def _reject(
    layers: Sequence[Layer],
    options: MeanOptions,
    values: NDArray[np.float32],
    variance: NDArray[np.float32],
    middle: NDArray[np.float32],
    taken: NDArray[np.uint16],
) -> None:
    """NaN in place of what only one frame sees."""
    typical = float(np.median([layer.fwhm for layer in layers]))
    marks = np.zeros(values.shape, np.uint8)
    rows = values.shape[1]
    seen = read_only(middle, np.float32)
    for k, layer in enumerate(layers):
        lines = _line(layer.fwhm, typical), _line(typical, layer.fwhm)
        limits = (options.sigma, options.light, options.slope, layer.sky, layer.scale, layer.noise)
        own = read_only(values[k], np.float32), read_only(variance[k], np.float32)
        over_rows(rows, functools.partial(_mark, own, seen, limits, lines, marks[k]), _CHUNK)
    known = read_only(marks, np.uint8)
    over_rows(rows, lambda a, b: spread_rows(known, _MOST, a, b, values, taken), _CHUNK)


def _mark(own: Any, seen: Any, limits: Any, lines: Any, marks: NDArray[np.uint8], start: int, stop: int) -> None:
    mark_rows(own, seen, limits, lines, start, stop, marks)


def _line(sharp: float, blurred: float) -> NDArray[np.float64]:
    """Weights along one axis of the Gaussian that makes stars of one FWHM those of another; one weight for none."""
    square = (blurred**2 - sharp**2) / _FWHM**2
    if not square > 0.01:
        return np.ones(1)
    sigma = math.sqrt(square)
    reach = min(_WIDEST, max(1, math.ceil(3 * sigma)))
    made = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(made / made.sum())
