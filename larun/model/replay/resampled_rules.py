"""How a window is computed where pixels become others: aligned frames, stacks, bins of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms import arithmetic
from larun.algorithms.mapping import Mapping
from larun.algorithms.resample import ResampleOptions, chosen_kernel
from larun.algorithms.resampled_noise import mean_acf, term_of
from larun.algorithms.stacking import HALO, MARGIN, Layer, Rows, Seen, seen_in, stack
from larun.detector import Section
from larun.model.aligning.regridding import shared_on
from larun.model.aligning.transforms import Alignment, recalled
from larun.model.aligning.windowed import regridded_window, seen_by
from larun.model.planes import Shared
from larun.model.replay.calls import MASTERS, Functions, restored
from larun.model.replay.window_rules import (
    ARITHMETIC,
    Pixels,
    WholeImage,
    fitted,
    grown,
    name_of,
    one_of,
    parameters_of,
    to_pixels,
    to_planes,
)
from larun.model.stacking.laying import Grid, noise_term, on_grid
from larun.model.stacking.options import BY_PSF, StackOptions
from larun.model.store import binned_plane
from larun.provenance import Provenance

if TYPE_CHECKING:
    from larun.model.replay.windows import Windows

__all__ = ["RESAMPLED", "Told", "alignment_of", "seen_by_frames", "told_frames"]


def alignment_of(windows: Windows, node: Provenance) -> Alignment:
    """The transform of an aligned image, by its record alone.

    Raises
    ------
    WholeImage
        If the record does not hold all of it.
    """
    found = recalled(parameters_of(node)["method"], fitted(node), windows.shape(one_of(node, "reference")))
    if found is None:
        raise WholeImage("its record does not hold all of its transform")
    return found


def _align(windows: Windows, node: Provenance, section: Section) -> Pixels:
    parameters, alignment, source = parameters_of(node), alignment_of(windows, node), one_of(node, "self")
    options = ResampleOptions(kernel=parameters["kernel"], conserve=parameters["conserve"])
    seen = seen_by(alignment.mapping, section, windows.shape(source))
    made, shared = regridded_window(windows.pixels(source, seen)[:4], seen, alignment, options, section)
    return Pixels(*made, shared)


def _bin(windows: Windows, node: Provenance, section: Section) -> Pixels:
    factor, source = int(parameters_of(node)["factor"]), one_of(node, "self")
    _, noise = arithmetic.bin_acf(acf_of(windows, source), factor)
    planes = windows.pixels(source, Section(*(edge * factor for edge in section)))
    own = {name: binned_plane(plane, factor) for name, plane in planes.own.items()}
    return to_pixels(arithmetic.bin_planes(to_planes(planes), factor, noise), own)


def acf_of(windows: Windows, node: Provenance) -> NDArray[np.float32] | None:
    """How the noise of an image is correlated, by its record; None where it is white.

    Raises
    ------
    WholeImage
        If the record does not tell.
    """
    operation = name_of(node)
    if node.root is not None or operation == "calibrate" or operation in MASTERS:
        return None
    if operation in ("clean", "crop", "solve"):
        return acf_of(windows, one_of(node, "self"))
    if operation == "bin":
        return arithmetic.bin_acf(acf_of(windows, one_of(node, "self")), int(parameters_of(node)["factor"]))[0]
    if operation == "align":
        mapping = alignment_of(windows, node).mapping
        return mean_acf((term_of(mapping, chosen_kernel(mapping, parameters_of(node)["kernel"])),), mapping.shape)
    if operation == "stack":
        _means_alone(node)
        kernel = _options_of(node).kernel
        terms = tuple(noise_term(one.mapping, kernel, one.note) for one in told_frames(windows, node))
        return mean_acf(terms, windows.shape(node))
    if operation in ARITHMETIC:
        known = [acf_of(windows, parent.provenance) for parent in node.parents]
        if len(known) == 1 or all(one is None for one in known):
            return known[0]
    raise WholeImage("the noise of its pixels may hang together")


class Told(NamedTuple):
    """A frame of a stack as its record tells of it.

    Attributes
    ----------
    node : Provenance
        Of the frame.
    note : mapping
        What it is worth.
    alignment : Alignment
        From the pixels of the reference.
    mapping : Mapping
        From the pixels of the stack.
    """

    node: Provenance
    note: Any
    alignment: Alignment
    mapping: Mapping


def told_frames(windows: Windows, node: Provenance) -> list[Told]:
    """The frames of a stack, by its record alone.

    Raises
    ------
    WholeImage
        If the record does not hold all of it.
    """
    known, method = fitted(node), parameters_of(node)["align"]
    if known.get("shape") is None:
        raise WholeImage("its record does not hold its shape")
    parents = {parent.provenance.id: parent.provenance for parent in node.parents}
    shape = windows.shape(parents[known["reference"]])
    (ny, nx), (x0, y0) = known["shape"], known["origin"]
    grid = Grid((int(ny), int(nx)), (int(x0), int(y0)))
    found = []
    for note in known["frames"]:
        alignment = recalled(method, {**note, "reference_wcs": known.get("reference_wcs")}, shape)
        if alignment is None:
            raise WholeImage("its record does not hold all of its transforms")
        found.append(Told(parents[note["frame"]], note, alignment, on_grid(alignment, grid)))
    return found


def _options_of(node: Provenance) -> StackOptions:
    made = restored(parameters_of(node)["options"], (), Functions())
    if not isinstance(made, StackOptions):
        raise WholeImage("its record does not hold its options")
    return made


def _means_alone(node: Provenance) -> None:
    if parameters_of(node)["method"] in BY_PSF:
        raise WholeImage("a pixel of it was filtered by the stars of whole frames")


def _stack(windows: Windows, node: Provenance, section: Section) -> Pixels:
    """What frames see, of the parts of them that lie there."""
    _means_alone(node)
    known = fitted(node)
    shape = windows.shape(node)
    outer = grown(section, HALO, shape)
    layers = [_layer(windows, one, outer, float(known["sky"])) for one in told_frames(windows, node)]
    how = _options_of(node).mean(parameters_of(node)["method"])
    made = stack(layers, shape, options=how, common=known["common"], section=section)
    shared = tuple(Shared(name, made.shared[name]) for name in known["common"])
    own = {name: getattr(made, name) for name in ("coverage", "contributors", "rejected")}
    return Pixels(made.data, made.variance, made.flags, shared, own)


def seen_by_frames(windows: Windows, node: Provenance, section: Section) -> Seen:
    """What every frame of a stack sees in a window, and whether it counts.

    Raises
    ------
    WholeImage
        If the record does not hold all of it.
    """
    _means_alone(node)
    shape = windows.shape(node)
    outer = grown(section, HALO, shape)
    layers = [_layer(windows, one, outer, float(fitted(node)["sky"])) for one in told_frames(windows, node)]
    return seen_in(layers, shape, section, _options_of(node).mean(parameters_of(node)["method"]))


def _layer(windows: Windows, one: Told, section: Section, sky: float) -> Layer:
    """A frame of a stack of which only the part is there that a section sees."""
    note = one.note
    seen = one.mapping.sees(section, windows.shape(one.node), MARGIN)

    @functools.cache
    def pixels() -> Pixels:
        return windows.pixels(one.node, seen)  # not before it is known that it is needed

    def read(start: int, stop: int) -> Rows:
        planes, part = pixels(), slice(start, stop)
        if planes.variance is None:
            raise WholeImage("a frame of it has no variance")
        shared = {shared_on(item.master, one.alignment): item.variance[part] for item in planes.shared}
        return Rows(planes.data[part], planes.variance[part], planes.flags[part], shared)

    return Layer(
        read,
        seen.shape,
        one.mapping.on_part(seen.x0, seen.y0),
        note["flux_scale"],
        tuple(note["plane"]),
        note["weight"],
        note["fwhm"],
        sky,
        (note["flux_scale"] * note["noise"]) ** 2,
    )


RESAMPLED: dict[str, Callable[[Windows, Provenance, Section], Pixels]] = {
    "align": _align,
    "bin": _bin,
    "stack": _stack,
}
