"""The story of a pixel, told from the product back to the raw files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from larun import flags as fl
from larun.detector import Section
from larun.errors import OptionError
from larun.model import cleaning
from larun.model.frame import Frame
from larun.model.image import Image
from larun.model.raw.reduction import amplifier_values
from larun.model.replay.aligned import origin_of
from larun.model.replay.calls import MASTERS
from larun.model.replay.defects import contributions, defects, inherited
from larun.model.replay.own_steps import own_function
from larun.model.replay.recompute import of_other_versions, read_any
from larun.model.replay.stackstory import contributed
from larun.model.replay.story import Part, Reason, Story, reason_of
from larun.model.replay.window_rules import (
    Pixels,
    WholeImage,
    fitted,
    grown,
    name_of,
    one_of,
    parameters_of,
    search_of,
    stacked,
)
from larun.model.replay.windows import Windows
from larun.provenance import Provenance

__all__ = ["tell", "why"]

#: Steps whose result has its pixels where they were; of a function of the user's own it is taken so.
_IN_PLACE = {"add", "clean", "divide", "multiply", "pipe", "solve", "subtract_plain", "with_planes"}
_LINES = 8  # images that are followed where several went into one


def why(
    product: Image | str | Path,
    x: int,
    y: int,
    *,
    raw: Iterable[str | Path] | str | Path = (),
    functions: Iterable[Callable[..., Any]] = (),
) -> Story:
    """Why a pixel of an image has its value and its flags.

    Parameters
    ----------
    product : Image or path
        A raw frame, a master, or what was made of them.
    x, y : int
        Column and row, from 0.
    raw, functions
        As for :func:`larun.replay`.

    Returns
    -------
    Story
        Computed from a few pixels of the raw files; ``str`` tells it.

    Raises
    ------
    NotReplayable
        As :func:`larun.replay`.
    OptionError
        If the pixel lies outside the image, or the product is a catalogue.

    Examples
    --------
    >>> import larun
    >>> print(larun.why("out/frames/d1059.fits", 256, 783, raw="raw/"))  # doctest: +SKIP
    x = 256, y = 783: 412 ± 22 electron; BAD
    """
    there = _read(Path(product)) if isinstance(product, str | Path) else product
    if not isinstance(there, Image):
        raise OptionError(f"{there!r} has no pixels: give an image")
    ny, nx = there.shape
    if not (0 <= x < nx and 0 <= y < ny):
        raise OptionError(f"x = {x}, y = {y}: must lie within 0 … {nx - 1}, 0 … {ny - 1}")
    return tell(there, x, y, Windows(raw, functions=functions))


def _read(path: Path) -> Image:
    from larun.io.product import is_product
    from larun.io.tables import is_table_suffix

    if is_table_suffix(path):
        raise OptionError(f"{path}: is a table and has no pixels: give an image")
    if path.is_file() and not is_product(path):
        return Frame.read(path)  # a raw frame
    found = read_any(path)
    if not isinstance(found, Image):
        raise OptionError(f"{path}: holds no pixels: give an image")
    return found


def tell(there: Image, x: int, y: int, windows: Windows) -> Story:
    """:func:`why` with raw files that are open already."""
    teller = _Teller(windows, there.instrument_flags)
    teller.follow(there.provenance, x, y, there.shape)
    value, flags = float(there.data[y, x]), int(there.flags[y, x])
    variance = None
    if there.variance is not None:
        variance = float(there.variance[y, x]) + sum(abs(float(item.variance[y, x])) for item in there.shared)
    names = fl.names_of(flags, there.instrument_flags)
    reasons = [reason for name in names for reason in teller.reasons if reason.flag == name]
    for name in names:
        if all(reason.flag != name for reason in reasons):
            reasons += [reason for reason in teller.came if reason.flag == name][:1]
    unknown = [name for name in names if all(reason.flag != name for reason in reasons)]
    reasons += [Reason(flag=name, step="", cause="step", text="the record does not tell why") for name in unknown]
    return Story(
        x=x,
        y=y,
        value=value if np.isfinite(value) else None,
        error=None if variance is None or not variance >= 0 else float(np.sqrt(variance)),
        unit=there.unit,
        parts=tuple(reversed(teller.parts)),
        flags=tuple(reasons),
        notes=_notes(there, x, y, windows),
    )


def _notes(there: Image, x: int, y: int, windows: Windows) -> tuple[str, ...]:
    """What speaks against a story that is told by the record."""
    found = of_other_versions(there.provenance)
    if not windows.obstacle(there.provenance):
        made = windows.pixels(there.provenance, _pixel(x, y))
        value, again = there.data[y, x], made.data[0, 0]
        if value.tobytes() != again.tobytes() and not (np.isnan(value) and np.isnan(again)):
            found.insert(0, f"it holds {value:.9g}, its record gives {again:.9g}: larun replay compares all of it")
        before, now = (
            " ".join(fl.names_of(int(b), there.instrument_flags)) for b in (there.flags[y, x], made.flags[0, 0])
        )
        if before != now:
            found.insert(0, f"its flags are {before or 'none'}, its record gives {now or 'none'}")
    return tuple(found)


def _pixel(x: int, y: int) -> Section:
    return Section(y, y + 1, x, x + 1)


def _number(plane: Any) -> float:
    return float(plane[0, 0])


class Place(NamedTuple):
    """A pixel of the image of a record, and rows and columns of that image where they are known."""

    node: Provenance
    x: int
    y: int
    shape: tuple[int, int] | None


class _Teller:
    """Follows a pixel from the product to the raw files."""

    def __init__(self, windows: Windows, extra: tuple[fl.Flag, ...] = ()) -> None:
        self.windows = windows
        self.extra = extra  # flags of the camera
        self.parts: list[Part] = []  # the last step first
        self.reasons: list[Reason] = []
        self.came: list[Reason] = []  # what is said of a flag that has no reason

    def follow(self, record: Provenance, x: int, y: int, shape: tuple[int, int]) -> None:
        """Tell every step back to the raw files, or to the frames of a master."""
        waiting: list[Place] = [Place(record, x, y, shape)]
        seen, lines = set(), 1
        while waiting:
            here = waiting.pop()
            if (here.node.id, here.x, here.y) in seen:
                continue
            seen.add((here.node.id, here.x, here.y))
            below = self._step(here)
            lines += max(len(below) - 1, 0)
            if lines > _LINES:
                text = f"what lies below is not told: more than {_LINES} images went in"
                self.parts.append(Part(step=name_of(here.node), text=text))
                return
            waiting += below

    def _step(self, here: Place) -> list[Place]:
        """Tell one step; where the pixel lies in the images it worked on."""
        node, x, y, _ = here
        operation = name_of(node)
        if node.root is not None and not self.windows.obstacle(node):
            self._raw(node, x, y)
            return []
        if operation == "crop":
            source = one_of(node, "self")
            x, y = (at + int(parameters_of(node)[axis][0]) for axis, at in (("x", x), ("y", y)))
            self.parts.append(Part(step="crop", text=f"x = {x}, y = {y} before", values={"x": x, "y": y}))
            return [Place(source, x, y, self._shape(source))]
        if self.windows.obstacle(node):
            return self._beyond(here)
        if operation in MASTERS:
            self._master(node, x, y)
            return []
        if operation == "solve":
            self.parts.append(Part(step="solve", text="the image got its WCS; pixels are what they were"))
            return [here._replace(node=one_of(node, "self"))]
        if operation == "clean":
            self._clean(node, x, y)
            return [here._replace(node=one_of(node, "self"))]
        if operation == "align":
            return self._align(node, x, y)
        if operation == "stack":
            return self._stack(here)
        if operation == "calibrate":
            source = one_of(node, "self")
            return [Place(source, *self._calibrate(node, x, y), self._shape(source))]
        return self._other(here)

    def _align(self, node: Provenance, x: int, y: int) -> list[Place]:
        """A pixel of other pixels: where they lie."""
        found, source = origin_of(self.windows, node, x, y, self.extra), one_of(node, "self")
        self.parts.append(found.part)
        self._add(*found.reasons)
        self.came += found.came
        return [Place(source, u, v, self._shape(source)) for u, v in reversed(found.places)]

    def _stack(self, here: Place) -> list[Place]:
        """A pixel of a stack: what each frame gave, and on with some of them."""
        try:
            found = contributed(self.windows, here.node, here.x, here.y, self.extra)
        except WholeImage as reason:
            self.parts.append(Part(step="stack", text=f"its frames cannot be told: {reason}"))
            return []
        self.parts.append(found.part)
        self._add(*found.reasons)
        self.came += found.came
        return [Place(node, u, v, self._shape(node)) for node, u, v in reversed(found.places)]

    def _shape(self, node: Provenance) -> tuple[int, int] | None:
        """Rows and columns, where they can be known here."""
        return None if self.windows.obstacle(node) else self.windows.shape(node)

    def _raw(self, node: Provenance, x: int, y: int) -> None:
        assert node.root is not None
        planes = self.windows.pixels(node, _pixel(x, y))
        value, bits = _number(planes.data), int(planes.flags[0, 0])
        text = f"{value:g} adu in {node.root.name}, x = {x}, y = {y}"
        self.parts.append(Part(step="raw", text=text, values={"value": value, "x": x, "y": y}))
        if bits & int(fl.NO_DATA):
            self._add(reason_of(fl.NO_DATA, "raw", "no value", "the file has no value here"))
        camera = node.root.instrument.rpartition(":")[2]
        self._plain(
            bits & ~int(fl.NO_DATA), "raw", f"{camera}, the class of the camera, flags it in what it reads", "camera"
        )

    def _plain(self, bits: int, step: str, text: str, cause: str = "step") -> None:
        self._add(*(Reason(flag=name, step=step, cause=cause, text=text) for name in fl.names_of(bits, self.extra)))

    def _other(self, here: Place) -> list[Place]:
        """A step whose pixels are told by their inputs: arithmetic, bins, steps of the user's own."""
        node, x, y, shape = here
        operation, at = name_of(node), _pixel(x, y)
        after = self.windows.pixels(node, at)
        text = f"{operation} gives {_number(after.data):.6g}"
        if operation == "bin":
            factor = int(parameters_of(node)["factor"])
            at = Section(*(edge * factor for edge in at))
            text = f"the sum of x = {at.x0} … {at.x1 - 1}, y = {at.y0} … {at.y1 - 1}"
        values: dict[str, Any] = {}
        below, before = [], 0
        for number, parent in enumerate(node.parents, 1):
            source = parent.provenance
            if operation != "bin" and self.windows.shape(source) != shape:
                continue  # another geometry
            planes = self.windows.pixels(source, at)
            role = f"{parent.role} {number}" if parent.role in values else parent.role
            values[role] = float(np.nansum(planes.data))
            bits = int(np.bitwise_or.reduce(planes.flags, axis=None))
            before |= bits
            names = fl.names_of(bits, self.extra)
            self.came += [Reason(flag=name, step=operation, cause="step", text=f"came with {role}") for name in names]
            below.append(here._replace(node=source))
        own = operation == "pipe"
        if own:
            text = f"{own_function(node)}, a function of your own, gives {_number(after.data):.6g}"
            text += "".join(f" where {value:.6g} was" for value in values.values())
            text += "".join(f"; {change}" for change in self.windows.changes(node))
        self.parts.append(Part(step=operation, text=text, values=values))
        self._plain(int(after.flags[0, 0]) & ~before, operation, "set by this step", "own function" if own else "step")
        if node.parents and not values:
            text = "its input has other rows and columns: where the pixel was there cannot be told"
            self.parts.append(Part(step=operation, text=text))
        return [] if operation == "bin" else below

    def _beyond(self, here: Place) -> list[Place]:
        """What cannot be made here; the story goes on below where the pixels lie at the same places."""
        node, x, y, shape = here
        operation = name_of(node)
        below = []
        for parent in node.parents if operation in _IN_PLACE else ():
            there = self._shape(parent.provenance)
            if (there is None or shape in (None, there)) and (there is None or (y < there[0] and x < there[1])):
                below.append(Place(parent.provenance, x, y, there))
        why = self.windows.obstacle(node, alone=True)
        why = why or ("what it worked on cannot be made here" if below else self.windows.obstacle(node))
        text = f"cannot be told: {why}"
        if operation == "pipe":
            text = f"{own_function(node)}, a function of your own, stands between; {text}"
        self.parts.append(Part(step=operation if node.root is None else "raw", text=text))
        return below

    # -- a calibrated frame ----------------------------------------------------------------------------------------

    def _calibrate(self, node: Provenance, x: int, y: int) -> tuple[int, int]:
        """What calibration did; where the pixel lies in the raw frame."""
        windows, at = self.windows, _pixel(x, y)
        source = one_of(node, "self")
        made = windows.pixels(node, at)
        whole = windows.leveled(source, fitted(node).get("overscan"))
        placed = whole.source.detector.trimmed().amplifiers
        number = next(n for n, a in enumerate(placed) if a.data.intersect(at) is not None)
        (block,) = whole.window(at).blocks(0, 1)
        amplifier = whole.source.detector.amplifiers[number]
        numbers = amplifier_values(whole, amplifier)
        raw, level = _number(block.data), float(block.level[0])
        values: dict[str, Any] = {"raw": raw, "overscan": level, "gain": numbers.gain, "read_noise": numbers.read_noise}
        words = [f"raw {raw:g} − level {level:.2f}"]
        masters = {p.role: p.provenance for p in node.parents if p.role in ("bias", "dark", "flat")}
        planes: dict[str, Pixels] = {}
        for kind, record in masters.items():
            planes[kind] = windows.pixels(record, at)
            noise_of = planes[kind].variance
            values[kind] = _number(planes[kind].data)
            values[f"{kind}_error"] = None if noise_of is None else float(np.sqrt(_number(noise_of)))
            words.append(f"{kind} {values[kind]:.5g} ± {values[f'{kind}_error'] or 0:.2g}")
        value, variance = _number(made.data), _number(made.variance)
        values |= {"electrons": value, "variance": variance}
        shared = {self._kind(item.master, masters): _number(item.variance) for item in made.shared}
        values["shared"] = shared
        words.append(f"gain {numbers.gain:g} electron/adu: {value:.6g} electrons")
        parts = ", ".join(f"{added:.3g} of the {kind}" for kind, added in shared.items())
        noise = f"variance {variance:.4g} (read noise {numbers.read_noise:g})" + (f" + {parts}" if parts else "")
        self.parts.append(Part(step="calibrate", text="; ".join([*words, noise]), values=values))
        new = int(made.flags[0, 0]) & ~int(block.flags[0, 0])
        self._raw_levels(new, raw, numbers)
        self._from_masters(new, masters, planes, node, at)
        return x + amplifier.data.x0 - placed[number].data.x0, y + amplifier.data.y0 - placed[number].data.y0

    def _kind(self, identity: str, masters: Mapping[str, Provenance]) -> str:
        return next((kind for kind, record in masters.items() if record.id == identity), "another bias")

    def _raw_levels(self, new: int, raw: float, numbers: Any) -> None:
        for flag, level, name in (
            (fl.SATURATED, numbers.saturation, "saturation level"),
            (fl.NONLINEAR, numbers.linear_limit, "limit of linearity"),
        ):
            if new & int(flag):
                text = f"raw {raw:g} adu reaches the {name} of {level:g} adu"
                self._add(reason_of(flag, "calibrate", "raw counts", text, raw=raw, level=level))
        if new & int(fl.NO_DATA):
            self._add(reason_of(fl.NO_DATA, "calibrate", "no value", "the raw frame has no finite value here"))

    def _from_masters(
        self, new: int, masters: Mapping[str, Provenance], planes: Mapping[str, Pixels], node: Provenance, at: Section
    ) -> None:
        for flag in (fl.BAD, fl.FLAT_INVALID):
            if not new & int(flag):
                continue
            told = len(self.reasons)
            for kind, record in masters.items():
                if int(planes[kind].flags[0, 0]) & int(flag):
                    self._add(*defects(self.windows, record, at, flag))
            if flag == fl.BAD and self.windows.mask(node, at).any():
                self._add(reason_of(flag, "calibrate", "given mask", "the mask of bad pixels that was given has it"))
            if len(self.reasons) == told:
                text = "a master has no usable value here"
                if flag == fl.FLAT_INVALID and "flat" in planes:
                    text = f"the flat is {_number(planes['flat'].data):.3g}: nothing can be divided by that"
                self._add(reason_of(flag, "calibrate", "sensitivity" if flag == fl.FLAT_INVALID else "no value", text))

    def _add(self, *made: Reason) -> None:
        for one in made:
            if one not in self.reasons:
                self.reasons.append(one)

    # -- a cleaned frame -------------------------------------------------------------------------------------------

    def _clean(self, node: Provenance, x: int, y: int) -> None:
        at = _pixel(x, y)
        before, after = (self.windows.pixels(one, at) for one in (one_of(node, "self"), node))
        new = int(after.flags[0, 0]) & ~int(before.flags[0, 0])
        old, now = _number(before.data), _number(after.data)
        if not new & int(fl.COSMIC):
            self.parts.append(Part(step="clean", text="no cosmic ray was found here", values={"value": now}))
            return
        values: dict[str, Any] = {"before": old, "after": now}
        text = "a cosmic ray was found"
        iteration = self._iteration(node, x, y)
        if iteration:
            text += f" in iteration {iteration}"
            values["iteration"] = iteration
        self.parts.append(Part(step="clean", text=text, values=values))
        self._add(reason_of(fl.COSMIC, "clean", "cosmic ray", text, **values))
        if new & int(fl.INTERPOLATED):
            replaced = f"the median of the good pixels around it, {now:.6g}, stands for {old:.6g}"
            self._add(reason_of(fl.INTERPOLATED, "clean", "replaced", replaced, before=old, after=now))

    def _iteration(self, node: Provenance, x: int, y: int) -> int:
        """In which iteration the pixel was found; 0 where that cannot be told."""
        try:
            chosen, reach = search_of(node)
        except WholeImage:
            return 0
        outer = grown(_pixel(x, y), reach, self.windows.shape(node))
        planes: Any = self.windows.pixels(one_of(node, "self"), outer)
        sky = fitted(node).get("sky")
        for iteration in range(1, chosen.iterations + 1):
            found = cleaning.clean(planes, "larun", search_of(node, iteration)[0], sky=sky)
            if found.mask[y - outer.y0, x - outer.x0]:
                return iteration
        return 0

    # -- a master --------------------------------------------------------------------------------------------------

    def _master(self, node: Provenance, x: int, y: int) -> None:
        at, operation = _pixel(x, y), name_of(node)
        made = self.windows.pixels(node, at)
        value, variance = _number(made.data), made.variance
        values: dict[str, Any] = {"value": value}
        if variance is not None:
            values["error"] = float(np.sqrt(_number(variance)))
        text = f"{value:.6g} ± {values.get('error', 0):.3g}"
        try:
            stack = stacked(self.windows, node, at)
        except WholeImage as reason:
            self.parts.append(Part(step=operation, text=f"{text}; its frames cannot be told: {reason}", values=values))
        else:
            frames = contributions(stack, at)
            values["frames"] = frames
            out = [frame for frame in frames if not frame["used"]]
            text += f" from {len(frames) - len(out)} of {len(frames)} frames"
            for frame in out:
                away = "masked" if frame["sigma"] is None else f"{frame['value']:.6g}, {frame['sigma']:+.1f} σ"
                text += f"; {frame['name']} left out ({away})"
            self.parts.append(Part(step=operation, text=text, values=values))
        for flag in (fl.BAD, fl.FLAT_INVALID):
            if int(made.flags[0, 0]) & int(flag):
                self._add(*defects(self.windows, node, at, flag))
        rest = int(made.flags[0, 0]) & ~int(fl.BAD | fl.FLAT_INVALID)
        self._add(*inherited(self.windows, node, at, rest, self.extra))
