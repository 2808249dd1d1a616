"""How each step computes a window: by the functions that compute the whole, of inputs that are cut to what it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms import arithmetic
from larun.algorithms.badpixels import HALF_WINDOW, bad_from_bias, bad_from_dark, bad_from_flat, normalised
from larun.algorithms.calibrate import Planes
from larun.algorithms.combine import CombineOptions, combine
from larun.algorithms.combine_kernels import Combined
from larun.algorithms.cosmic_common import CosmicOptions
from larun.algorithms.inflation import Inflation
from larun.algorithms.pedestal import Pedestal
from larun.detector import Section
from larun.model import cleaning
from larun.model.building import Job
from larun.model.calibration import calibrated
from larun.model.masters import Master, Selection
from larun.model.planes import Shared
from larun.model.processing import DarkRows, FlatRows, Process, bias_rows
from larun.model.raw.reduction import RawSource
from larun.model.replay.calls import MASTERS, Functions, restored
from larun.provenance import Provenance

if TYPE_CHECKING:
    from larun.model.replay.windows import Windows

__all__ = [
    "ARITHMETIC",
    "RULES",
    "Pixels",
    "Stack",
    "WholeImage",
    "copied",
    "fitted",
    "grown",
    "name_of",
    "no_levels",
    "one_of",
    "parameters_of",
    "pedestals_of",
    "root_window",
    "search_of",
    "stacked",
    "to_pixels",
    "to_planes",
]

_LONELY = 256  # a neighbourhood without a finite value has at least so many pixels that are not


class Pixels(NamedTuple):
    """The planes of a window; ``own`` are those that its class adds, by name."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    flags: NDArray[np.uint32]
    shared: tuple[Shared, ...] = ()
    own: Mapping[str, NDArray[Any]] = {}

    def fields(self) -> dict[str, Any]:
        """As an image has them."""
        return {"data": self.data, "variance": self.variance, "flags": self.flags, "shared": self.shared, **self.own}


class WholeImage(Exception):
    """A window cannot be computed alone; why."""


def name_of(node: Provenance) -> str:
    """The operation of a record, or the name of its file."""
    return node.root.name if node.root is not None else node.step.operation if node.step is not None else ""


def no_levels(source: RawSource) -> tuple[NDArray[np.float64], ...]:
    """Overscan levels that subtract nothing."""
    return tuple(np.zeros(amplifier.data.shape[0]) for amplifier in source.detector.amplifiers)


def one_of(node: Provenance, *roles: str) -> Provenance:
    """The first input in one of these roles."""
    return next(parent.provenance for parent in node.parents if parent.role in roles)


def parameters_of(node: Provenance) -> Any:
    """The parameters of a step."""
    assert node.step is not None
    return node.step.parameters


def fitted(node: Provenance) -> Any:
    """What a step learnt of whole images, arrays and numbers as they were."""
    assert node.step is not None
    return restored(node.step.fitted, (), Functions())


def _needed(known: Any, name: str) -> Any:
    if known.get(name) is None:
        raise WholeImage(f"its record does not hold {name}")
    return known[name]


def grown(section: Section, halo: int, shape: tuple[int, int]) -> Section:
    """A section with its surroundings, as far as there are any."""
    y0, y1, x0, x1 = section
    return Section(max(y0 - halo, 0), min(y1 + halo, shape[0]), max(x0 - halo, 0), min(x1 + halo, shape[1]))


def _within(section: Section, outer: Section) -> tuple[slice, slice]:
    """A section as an index of the planes of an outer one."""
    y0, y1, x0, x1 = section
    return slice(y0 - outer.y0, y1 - outer.y0), slice(x0 - outer.x0, x1 - outer.x0)


def _cut(planes: Pixels, at: tuple[slice, slice]) -> Pixels:
    variance = None if planes.variance is None else planes.variance[at].copy()
    shared = tuple(Shared(item.master, item.variance[at].copy()) for item in planes.shared)
    own = {name: plane[at].copy() for name, plane in planes.own.items()}
    return Pixels(planes.data[at].copy(), variance, planes.flags[at].copy(), shared, own)


def copied(planes: Pixels) -> Pixels:
    """Planes of their own."""
    return _cut(planes, (slice(None), slice(None)))


def root_window(windows: Windows, node: Provenance, section: Section) -> Pixels:
    """The window of a raw frame, from the rows of its file."""
    data, flags = windows.source(node).rows(section.y0, section.y1)
    columns = slice(section.x0, section.x1)
    return Pixels(data[:, columns].copy(), None, flags[:, columns].copy())


def _calibrate(windows: Windows, node: Provenance, section: Section) -> Pixels:
    whole = windows.leveled(one_of(node, "self"), fitted(node).get("overscan"))
    roles = {parent.role: parent.provenance for parent in node.parents}
    masters = [windows.master(roles[kind], section) if kind in roles else None for kind in Selection._fields]
    made = calibrated(whole.window(section), Selection(*masters))
    flags = made.flags
    if "bad_pixels" in roles:
        flags = fl.resolve_bad(np.where(windows.mask(node, section), flags | fl.BAD, flags))
    return Pixels(made.data, made.variance, flags, made.shared)


def pedestals_of(node: Provenance, source: RawSource, section: Section) -> list[Pedestal | None]:
    """What a record holds of the level of darks, for the amplifiers that the window meets."""
    placed = source.detector.trimmed().amplifiers
    known = _needed(fitted(node), "pedestal")
    if len(known) != len(placed):
        raise WholeImage("its record does not hold the level of each amplifier")
    return [
        None if item is None else Pedestal(**item)
        for item, at in zip(known, placed, strict=True)
        if at.data.intersect(section) is not None
    ]


class Stack(NamedTuple):
    """The frames of a master in a window, as they are combined.

    Attributes
    ----------
    planes : Planes
        (n, rows, nx) in ADU, of flats over their levels.
    frames : list of Provenance
        The records of their raw files.
    outer : Section
        The window with its surroundings.
    masters : Selection
        Bias and dark that were removed, in the same window.
    how, weights, inflation
        What the combination is told.
    """

    planes: Planes
    frames: list[Provenance]
    outer: Section
    masters: Selection
    how: CombineOptions
    weights: NDArray[np.float64] | None
    inflation: Inflation | float

    def combine(self) -> Combined:
        """The frames combined."""
        return combine(*self.planes, options=self.how, weights=self.weights, inflation=self.inflation)


def stacked(windows: Windows, node: Provenance, section: Section) -> Stack:
    """The frames of a master in a window and as far around it as its pixels are compared."""
    known, parameters, operation = fitted(node), parameters_of(node), name_of(node)
    frames = [parent.provenance for parent in node.parents if parent.role == "frame"]
    described = _needed(known, "frames")
    how = CombineOptions(method=parameters["method"], clip=parameters["clip"], sigma=float(parameters["sigma"]))
    if how.method == "clipped" and how.clip == "mad":
        raise WholeImage("clip='mad' looks at whole rows")
    if len(described) != len(frames):
        raise WholeImage("its record does not hold the levels of all frames")
    outer = grown(section, HALF_WINDOW, windows.shape(node))
    sources = tuple(
        windows.leveled(frame, item.get("overscan")).window(outer)
        for frame, item in zip(frames, described, strict=True)
    )
    roles = {parent.role: parent.provenance for parent in node.parents}
    bias, dark = (windows.master(roles[kind], outer) if kind in roles else None for kind in ("bias", "dark"))
    masters = Selection(bias, dark, None)
    process: Process = bias_rows
    weights = None
    if operation == "master_dark":
        pedestals = None if masters.bias is not None else pedestals_of(node, windows.source(frames[0]), outer)
        process = DarkRows(sources, masters, levelled=False, known=pedestals)
    elif operation == "master_flat":
        flats = FlatRows(sources, masters, concurrent=False, known=np.array(_needed(known, "levels")))
        process, weights = flats, None if how.method == "median" else flats.weights
    inflation: Inflation | float = 1.0
    if how.method == "clipped" and len(frames) > 1:
        inflation = Inflation(**_needed(known, "noise_model"))
    stack = Job(sources=sources, max_memory=1e9).rows(process, 0, outer.shape[0])
    return Stack(stack, frames, outer, masters, how, weights, inflation)


def _master(windows: Windows, node: Provenance, section: Section) -> Pixels:
    stack = stacked(windows, node, section)
    made, outer, masters = Planes(*stack.combine()[:3]), stack.outer, stack.masters
    known, operation = fitted(node), name_of(node)
    bad = windows.mask(node, outer)
    shared: tuple[Shared, ...] = ()
    if operation == "master_bias":
        _refuse_holes(made.data)
        bad |= bad_from_bias(made.data, made.variance, scatter=_needed(known, "scatter"))
    elif operation == "master_dark":
        above = made.data - np.float32(_needed(known, "typical"))
        _refuse_holes(above)
        bad |= bad_from_dark(above, made.variance, scatter=_needed(known, "scatter"))
        bias: Master | None = masters.bias
        if bias is not None and bias.variance is not None:
            frames = [parent.provenance for parent in node.parents if parent.role == "frame"]
            scale = np.float32(1 / windows.job(frames).common_exposure())
            made = made._replace(data=made.data * scale, variance=made.variance * scale**2)
            shared = (Shared(bias.provenance.id, bias.variance * scale**2),)
    else:
        normal = normalised(made.data, made.variance, float(_needed(known, "normalisation")))
        made = made._replace(data=normal.data, variance=normal.variance)
        _refuse_holes(np.where(made.data > 0, made.data, np.float32(np.nan)))
        made.flags[bad_from_flat(made.data)] |= fl.FLAT_INVALID
    made.flags[bad] |= fl.BAD
    planes = Pixels(made.data, made.variance, fl.resolve_bad(made.flags), shared)
    return _cut(planes, _within(section, outer))


def _refuse_holes(plane: NDArray[np.float32]) -> None:
    """Where a whole neighbourhood may be without a value the median of the whole image stands in: that is not here."""
    if np.count_nonzero(~np.isfinite(plane)) >= _LONELY:
        raise WholeImage("too many pixels around it have no value")


#: How far an iteration of the search for rays sees: a pixel beside one whose test looks ten pixels far, and its own
#: test, which looks at pixels that such ones decide.
_SIGHT = 13
_FILL = 8  # how far the pixels may lie that replace one
_MORE = 3  # times that the surroundings may be widened


def search_of(node: Provenance, iterations: int | None = None) -> tuple[CosmicOptions, int]:
    """The search for rays as a record tells it, or with other iterations; and how far a pixel of its result sees.

    Raises
    ------
    WholeImage
        If the record lacks what is needed, or another engine searched.
    """
    parameters = parameters_of(node)
    if parameters["engine"] != "larun":
        raise WholeImage(f"the engine {parameters['engine']!r} has no rule")
    chosen: CosmicOptions = cleaning.options(
        "larun",
        sigma=float(parameters["sigma"]),
        contrast=parameters["contrast"],
        fwhm=float(_needed(fitted(node), "fwhm")),
        iterations=int(parameters["iterations"]) if iterations is None else iterations,
    )
    return chosen, _SIGHT * chosen.iterations + _FILL


def _clean(windows: Windows, node: Provenance, section: Section) -> Pixels:
    known, (chosen, sight) = fitted(node), search_of(node)
    source, shape = one_of(node, "self"), windows.shape(node)
    for wider in range(_MORE + 1):
        outer = grown(section, sight + 2 + 40 * wider, shape)
        planes: Any = windows.pixels(source, outer)
        saturated = (planes.flags & fl.SATURATED) != 0
        if not _cut_through(saturated, _within(grown(section, sight + 2, shape), outer), outer, shape):
            break
    else:
        raise WholeImage("a saturated star reaches too far")
    sky = float(_needed(known, "sky")) if saturated.any() else None
    made = cleaning.clean(planes, "larun", chosen, sky=sky)
    inner = _within(section, outer)
    _check_filled(planes, made.mask, inner)
    flags = planes.flags.copy()
    replace = bool(parameters_of(node)["replace"])
    flags[made.mask] |= fl.COSMIC | fl.INTERPOLATED if replace else fl.COSMIC
    if not replace:
        return _cut(planes._replace(flags=flags), inner)
    return _cut(planes._replace(data=made.data, variance=made.variance, flags=flags), inner)


def _cut_through(
    saturated: NDArray[np.bool_], near: tuple[slice, slice], outer: Section, shape: tuple[int, int]
) -> bool:
    """Whether saturated pixels that hang together, some of them near the window, go on beyond what is seen."""
    if not saturated.any():
        return False
    from scipy.ndimage import label

    groups, _ = label(saturated, np.ones((3, 3)))
    edges = []
    # two pixels wide: whether a pixel is a star's is judged by so many around it
    if outer.y0 > 0:
        edges.append(groups[:2])
    if outer.y1 < shape[0]:
        edges.append(groups[-2:])
    if outer.x0 > 0:
        edges.append(groups[:, :2])
    if outer.x1 < shape[1]:
        edges.append(groups[:, -2:])
    at_edge = np.unique(np.concatenate([edge.ravel() for edge in edges])) if edges else np.zeros(0)
    return bool(np.isin(groups[near], at_edge[at_edge > 0]).any())


def _check_filled(planes: Pixels, mask: NDArray[np.bool_], inner: tuple[slice, slice]) -> None:
    """Refuse a ray in the window that has too few good pixels near: those that replace it may lie outside."""
    from scipy.ndimage import uniform_filter

    if not mask[inner].any():
        return
    usable = (planes.flags & (fl.BAD | fl.FLAT_INVALID | fl.NO_DATA | fl.SATURATED)) == 0
    good = usable & ~mask & np.isfinite(planes.data)
    around = uniform_filter(good.astype(np.float64), 2 * _FILL + 1, mode="constant") * (2 * _FILL + 1) ** 2
    if (around[inner][mask[inner]] < 3.5).any():
        raise WholeImage("a cosmic ray has no good pixels around it")


def _crop(windows: Windows, node: Provenance, section: Section) -> Pixels:
    x0, y0 = (int(parameters_of(node)[axis][0]) for axis in ("x", "y"))
    moved = Section(section.y0 + y0, section.y1 + y0, section.x0 + x0, section.x1 + x0)
    return windows.pixels(one_of(node, "self"), moved)


def _solve(windows: Windows, node: Provenance, section: Section) -> Pixels:
    return windows.pixels(one_of(node, "self"), section)  # it changes the WCS alone


def _arithmetic(windows: Windows, node: Provenance, section: Section) -> Pixels:
    windowed = [windows.pixels(parent.provenance, section) for parent in node.parents]
    first, *others = [to_planes(pixels) for pixels in windowed]
    own = windowed[-1 if fitted(node).get("first") == 1 else 0].own
    if others:
        second = others[0]
    else:
        other = restored(parameters_of(node)["other"], (), Functions())
        if isinstance(other, bool) or not isinstance(other, int | float):
            raise WholeImage("it was combined with a value that has a unit")
        zeros = np.zeros(section.shape, np.uint32)
        constant = np.broadcast_to(np.float32(other), section.shape)
        second = arithmetic.Planes(constant, np.zeros(section.shape, np.float32), zeros, {})
    return to_pixels(ARITHMETIC[name_of(node)](first, second), own)


def to_planes(pixels: Pixels) -> arithmetic.Planes:
    """As arithmetic takes them."""
    shared = {item.master: item.variance for item in pixels.shared}
    return arithmetic.Planes(pixels.data, pixels.variance, pixels.flags, shared)


def to_pixels(planes: arithmetic.Planes, own: Mapping[str, NDArray[Any]]) -> Pixels:
    """As arithmetic gives them."""
    shared = tuple(Shared(master, plane) for master, plane in sorted(planes.shared.items()))
    return Pixels(planes.data, planes.variance, planes.flags, shared, own)


ARITHMETIC: dict[str, Callable[[arithmetic.Planes, arithmetic.Planes], arithmetic.Planes]] = {
    "add": lambda one, two: arithmetic.linear(one, two, 1.0),
    "subtract_plain": lambda one, two: arithmetic.linear(one, two, -1.0),
    "multiply": arithmetic.product,
    "divide": arithmetic.quotient,
}
#: Of steps after which pixels are independent; others are in :mod:`larun.model.replay.resampled_rules`.
RULES: dict[str, Callable[[Windows, Provenance, Section], Pixels]] = {
    "calibrate": _calibrate,
    "clean": _clean,
    "crop": _crop,
    "solve": _solve,
    **dict.fromkeys(MASTERS, _master),
    **dict.fromkeys(ARITHMETIC, _arithmetic),
}
