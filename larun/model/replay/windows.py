"""Any window of any image, from the raw files alone: bands of rows are read, and no more is computed than it needs.

What a step learnt of whole frames (overscan levels, the noise model, the level of a flat, the scatter of a master, the
star size) stands in its record. With that, a window is computed by the same functions as the whole, of exposures and
masters that are cut to the window and to what the step sees around it. A step that has no such rule is carried out for
the whole image, of which the window is cut; so is one whose record lacks what is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun import units
from larun.detector import Section
from larun.errors import NotReplayable, OptionError
from larun.model.building import Job
from larun.model.image import Image
from larun.model.masters import MasterBias, MasterDark, MasterFlat
from larun.model.planes import Shared
from larun.model.raw.reduction import Leveled, RawSource, open_raw
from larun.model.replay.calls import MASTERS
from larun.model.replay.own_steps import changes, obstacle, obstacle_of
from larun.model.replay.recompute import Replayer, read_any
from larun.model.replay.resampled_rules import RESAMPLED
from larun.model.replay.window_rules import (
    RULES,
    Pixels,
    WholeImage,
    copied,
    fitted,
    name_of,
    no_levels,
    one_of,
    parameters_of,
    pedestals_of,
    root_window,
)
from larun.model.store import pixel_planes
from larun.provenance import Provenance

__all__ = ["Pixels", "Windows", "window"]

_RULES = {**RULES, **RESAMPLED}
_OPEN = 64  # raw files that are kept open
_WHOLE = 4  # images that are kept of those that had to be made as a whole
_WINDOWS, _SMALL = 64, 1 << 14  # windows that are kept for a while, and their pixels at most
_DEEP = 200  # steps of a line that are followed


def window(
    product: Image | str | Path,
    x: tuple[int, int],
    y: tuple[int, int],
    *,
    raw: Iterable[str | Path] | str | Path = (),
    functions: Iterable[Callable[..., Any]] = (),
) -> Image:
    """A window of an image, computed again from the raw files by its record.

    Parameters
    ----------
    product : Image or path
        The image.
    x, y : (int, int)
        Columns and rows, first and last but one, as in :meth:`larun.Image.crop`.
    raw, functions
        As for :func:`larun.replay`.

    Returns
    -------
    Image
        Bit for bit ``product.crop(x, y)``, if the product is what its record says.

    Raises
    ------
    NotReplayable
        As :func:`larun.replay`.
    OptionError
        If the window leaves the image, or the product is a catalogue.

    Examples
    --------
    >>> import larun
    >>> larun.window("out/frames/d1059.fits", (100, 164), (200, 264), raw="raw/")  # doctest: +SKIP
    <Nickel 64 × 64 electron>
    """
    there = read_any(product) if isinstance(product, str | Path) else product
    if not isinstance(there, Image):
        raise OptionError(f"{there!r} has no pixels: give an image")
    cut = there.crop(x, y)
    section = Section(int(y[0]), int(y[1]), int(x[0]), int(x[1]))
    made = Windows(raw, functions=functions).pixels(there.provenance, section)
    return cut._replace(**made.fields())


class Windows:
    """Computes windows; raw files stay open, and what had to be made as a whole is kept for the next one.

    Parameters
    ----------
    raw, functions
        As for :func:`larun.replay`.
    """

    def __init__(
        self, raw: Iterable[str | Path] | str | Path = (), *, functions: Iterable[Callable[..., Any]] = ()
    ) -> None:
        self._replayer = Replayer(raw, functions=functions)
        self._sources: dict[str, RawSource] = {}
        self._images: dict[str, Image] = {}
        self._made: dict[tuple[str, Section], Pixels] = {}
        self._obstacles: dict[str, str] = {}
        self._depth = 0
        #: Steps that were carried out for the whole image, and why.
        self.whole: dict[str, str] = {}

    def pixels(self, node: Provenance, section: Section) -> Pixels:
        """The planes of a window of the image that a record describes.

        Raises
        ------
        NotReplayable
            If a raw file, a camera or a function is missing.
        OptionError
            If the window leaves the image.
        """
        if not section.within(self.shape(node)):
            ny, nx = self.shape(node)
            raise OptionError(f"the window {tuple(section)} leaves the image of {nx} × {ny} pixels")
        key = (node.id, section)
        if key in self._made:
            return copied(self._made[key])
        if node.id not in self._images:
            self._depth += 1
            try:
                return copied(self._kept(key, self._rule(node)(self, node, section)))
            except WholeImage as reason:
                self.whole[name_of(node)] = str(reason)
            except (KeyError, TypeError, ValueError, StopIteration):  # what a record holds may be anything
                self.whole[name_of(node)] = "its record does not hold what is needed"
            finally:
                self._depth -= 1
        made, cut = self.image(node), section.slices
        variance = None if made.variance is None else made.variance[cut]
        shared = tuple(Shared(item.master, item.variance[cut].copy()) for item in made.shared)
        own = {name: getattr(made, name)[cut] for name in pixel_planes(type(made))}
        return Pixels(made.data[cut], variance, made.flags[cut], shared, own)

    def _kept(self, key: tuple[str, Section], made: Pixels) -> Pixels:
        """Keep a small window: what lies below is asked for several times in one story."""
        if made.data.size <= _SMALL:
            while len(self._made) >= _WINDOWS:
                self._made.pop(next(iter(self._made)))
            self._made[key] = made
        return made

    def obstacle(self, node: Provenance, *, alone: bool = False) -> str:
        """Why the image of a record, or its last step alone, cannot be made here, raw files aside; empty if it can."""
        if alone:
            return obstacle_of(node, self._replayer.functions)
        if node.id not in self._obstacles:
            self._obstacles[node.id] = obstacle(node, self._replayer.functions)
        return self._obstacles[node.id]

    def changes(self, node: Provenance) -> list[str]:
        """How the functions of a step are not what they were, in words."""
        return changes(node, self._replayer.functions)

    def shape(self, node: Provenance) -> tuple[int, int]:
        """Rows and columns of the image of a record, without its pixels where the record tells."""
        while node.id not in self._images:
            operation = "" if node.step is None else node.step.operation
            try:
                if node.root is not None:
                    return self.source(node).shape
                first = node.parents[0].provenance
                if operation == "calibrate" or operation in MASTERS:
                    return self.source(one_of(node, "self", "frame")).detector.trimmed_shape
                if operation == "crop":
                    (x0, x1), (y0, y1) = (parameters_of(node)[axis] for axis in ("x", "y"))
                    return int(y1) - int(y0), int(x1) - int(x0)
                if operation == "align":
                    node = one_of(node, "reference")
                    continue
                if operation == "bin":
                    ny, nx = self.shape(first)
                    factor = int(parameters_of(node)["factor"])
                    return ny // factor, nx // factor
                if operation == "stack":
                    ny, nx = fitted(node)["shape"]
                    return int(ny), int(nx)
                if operation not in _RULES:
                    break
                node = first
            except (WholeImage, KeyError, TypeError, ValueError):
                break
        return self.image(node).shape

    def _rule(self, node: Provenance) -> Callable[[Windows, Provenance, Section], Pixels]:
        if self._depth > _DEEP:
            raise WholeImage("the record has too many steps")
        if node.root is not None:
            return root_window
        assert node.step is not None
        if node.step.operation not in _RULES:
            raise WholeImage(f"there is no rule for {node.step.operation}")
        return _RULES[node.step.operation]

    def image(self, node: Provenance) -> Image:
        """The whole image of a record."""
        if node.id not in self._images:
            made = self._replayer.make(node)
            if not isinstance(made, Image):
                raise NotReplayable(f"{made!r} has no pixels: no window of it can be made")
            while len(self._images) >= _WHOLE:
                self._images.pop(next(iter(self._images)))
            self._images[node.id] = made
        return self._images[node.id]

    def source(self, node: Provenance) -> RawSource:
        """The raw exposure of a root, open for reading."""
        if node.root is None:
            raise WholeImage("it was made from images that are no raw files")
        if node.id not in self._sources:
            part, camera = self._replayer.raws.locate(node)
            if getattr(camera, "companions", None) is not None:
                raise WholeImage("errors or flags come with the raw image")
            given = {name: value for name, value in node.root.given.items() if name != "channel"}
            try:
                found = open_raw(part, camera, given=given, in_memory=False)
            except OptionError as error:
                raise WholeImage(str(error)) from error
            while len(self._sources) >= _OPEN:
                self._sources.pop(next(iter(self._sources)))
            self._sources[node.id] = attrs.evolve(found, provenance=node)
        return self._sources[node.id]

    def leveled(self, node: Provenance, overscan: Any) -> Leveled:
        """A raw exposure with the overscan levels that a step has recorded."""
        source = self.source(node)
        amplifiers = source.detector.amplifiers
        if not isinstance(overscan, list) or len(overscan) != len(amplifiers):
            raise WholeImage("its record does not hold the overscan levels")
        levels = []
        for amplifier, item in zip(amplifiers, overscan, strict=True):
            level = item["level"]
            levels.append(np.broadcast_to(np.asarray(level, np.float64), amplifier.data.shape[:1]))
        return Leveled(source=source, levels=tuple(levels), noise=tuple(item["noise"] for item in overscan))

    def master(self, node: Provenance, section: Section) -> Any:
        """The same window of a master, as a master."""
        operation = "" if node.step is None else node.step.operation
        if operation not in MASTERS:
            raise WholeImage("its master is no combination of raw frames")
        planes = self.pixels(node, section)
        frames = [parent.provenance for parent in node.parents if parent.role == "frame"]
        first = self.source(frames[0])
        cut = Leveled(source=first, levels=no_levels(first), noise=(None,) * len(first.detector.amplifiers))
        detector = cut.window(section).source.detector.trimmed()
        fields: dict[str, Any] = {
            **planes.fields(),
            "unit": units.ADU,
            "detector": detector,
            "provenance": node,
            "criteria": {},
            "count": len(frames),
        }
        if operation == "master_bias":
            return MasterBias(**fields)
        if operation == "master_flat":
            return MasterFlat(**fields)
        removed = any(parent.role == "bias" for parent in node.parents)
        levels = () if removed else tuple(0.0 if p is None else p.level for p in pedestals_of(node, first, section))
        exposure = self.job(frames).common_exposure()
        return MasterDark(**fields, exposure=exposure, bias_removed=removed, bias_level=levels)

    def job(self, frames: list[Provenance]) -> Job:
        """Raw exposures without their levels, for what their headers say."""
        plain = [self.source(frame) for frame in frames]
        return Job(sources=tuple(Leveled(source=s, levels=no_levels(s), noise=()) for s in plain), max_memory=1e9)

    def mask(self, node: Provenance, section: Section) -> NDArray[np.bool_]:
        """The window of a mask of bad pixels that was given."""
        for parent in node.parents:
            if parent.role == "bad_pixels":
                planes = self.pixels(parent.provenance, section)
                return np.asarray((planes.data != 0) | ((planes.flags & fl.UNUSABLE) != 0))
        return np.zeros(section.shape, bool)
