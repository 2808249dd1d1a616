"""A step of a record as the call that carries it out again.

A record holds names and numbers, never code. An operation is looked up among the registered ones, a class of options
among those named here, a function of the user's own among the modules that are loaded already: nothing is imported or
run because a file says so.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import attrs

from larun.errors import NotReplayable, OptionError
from larun.model.building import BuildOptions
from larun.model.differencecurve import DifferenceCurve
from larun.model.lightcurve import LightCurve
from larun.model.masters import MasterBias, MasterDark, MasterFlat
from larun.model.measure.matching import Match
from larun.model.options import Source
from larun.model.photometry import many  # noqa: F401  # its operation is found by name
from larun.model.photometry.zero_point import ZeroPoint
from larun.model.raw.opening import RawPart
from larun.model.stack import Stack
from larun.model.tracklets import Tracklets
from larun.provenance import OPERATIONS, Step, array_from_canonical, canonical

__all__ = ["MASTERS", "Functions", "Input", "OnDisk", "carry_out", "catalog_of", "restored"]

#: Classes of options that parameters may hold, and where they live.
_OPTIONS = {
    "BuildOptions": "larun.model.building",
    "DaoOptions": "larun.algorithms.engine_dao",
    "KronOptions": "larun.model.measure.ellipses",
    "LightCurveOptions": "larun.model.curves.options",
    "OverscanOptions": "larun.algorithms.overscan",
    "LinkOptions": "larun.algorithms.tracks",
    "ProperOptions": "larun.algorithms.zogy",
    "PsfFitOptions": "larun.model.pointspread.options",
    "PsfOptions": "larun.model.pointspread.options",
    "SegmentationOptions": "larun.algorithms.engine_segmentation",
    "SepOptions": "larun.algorithms.engine_sep",
    "StackOptions": "larun.model.stacking.options",
    "SolveOptions": "larun.model.astrometry.options",
    "SubtractOptions": "larun.algorithms.subtraction",
    "ZeroPointOptions": "larun.model.photometry.options",
}
MASTERS: dict[str, type[Any]] = {"master_bias": MasterBias, "master_dark": MasterDark, "master_flat": MasterFlat}


class Input(NamedTuple):
    """What a step worked on: its role, the id of its record, and the object (of a raw file, where it is)."""

    role: str
    id: str
    value: Any


class OnDisk(NamedTuple):
    """A raw file that is read when it is needed, and streamed where that is enough."""

    part: RawPart
    camera: type[Any]
    given: Mapping[str, Any]

    @property
    def read_as(self) -> tuple[Any, ...]:
        """What must be equal for files to be opened together."""
        return self.camera, self.given

    def read(self) -> Any:
        """The frame."""
        return self.camera.read(self.part.path, ext=self.part.ext, channel=self.part.channel, **self.given)


class Functions:
    """Functions of the user's own, by the name that a record gives them.

    Parameters
    ----------
    given : iterable of callable
        Functions that no module holds under their name (defined in a function, or at a prompt).
    """

    def __init__(self, given: Iterable[Callable[..., Any]] = ()) -> None:
        self._given = {canonical(function)["function"]: function for function in given}
        self._alike = {_what(canonical(function)): function for function in self._given.values()}
        #: What is not as it was, in words.
        self.notes: list[str] = []

    def find(self, described: Mapping[str, Any]) -> Callable[..., Any]:
        """The function that a record describes.

        Raises
        ------
        NotReplayable
            If no module that is loaded has it.
        """
        function = self._known(described)
        text = _changed(function, described)
        self.notes += [text] if text else []
        return function

    def _known(self, described: Mapping[str, Any]) -> Callable[..., Any]:
        name = str(described["function"])
        # a function of a script is __main__'s there and has another module where the script is imported
        found: Any = self._given.get(name) or _loaded(name) or self._alike.get(_what(described))
        if not callable(found):
            how = "import its module first, or " if name.partition(":")[0] != "__main__" and "<" not in name else ""
            raise NotReplayable(f"the function {name} is not known here: {how}hand it over (functions=[…])")
        return cast("Callable[..., Any]", found)

    def changed(self, described: Mapping[str, Any]) -> str:
        """How a function that is known here is not what a record describes; empty where it is.

        Raises
        ------
        NotReplayable
            As :meth:`find`.
        """
        return _changed(self._known(described), described)


def _what(described: Mapping[str, Any]) -> tuple[str, Any]:
    """A function without the name of its module: its own name, and the digest of its source."""
    return str(described["function"]).rpartition(":")[2], described.get("source")


def _changed(function: Callable[..., Any], described: Mapping[str, Any]) -> str:
    """How a function is not what a record describes, in words; empty where it is."""
    now, name = canonical(function), described["function"]
    if now.get("source") != described.get("source"):
        return f"the function {name} has another source than it had"
    if now.get("closure") != described.get("closure"):
        return f"the function {name} takes other values from around its definition than it did"
    return ""


def _loaded(name: str) -> Any:
    """What a module that is loaded holds under ``module:qualified.name``; None where there is no such function."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = None if found is None else getattr(found, part, None)
    return found if callable(found) else None


def restored(value: Any, inputs: Sequence[Input], functions: Functions) -> Any:
    """A canonical value as it was handed over: arrays, quantities, options, functions, objects."""
    if isinstance(value, list):
        return [restored(item, inputs, functions) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "base64" in value:
        return array_from_canonical(value)
    if set(value) == {"float"}:
        return float(value["float"])
    if set(value) == {"value", "unit"}:
        from astropy.units import Quantity

        return Quantity(restored(value["value"], inputs, functions), value["unit"])
    if "function" in value and "source" in value:
        return functions.find(value)
    if set(value) == {"provenance"}:
        return _by_id(value["provenance"], inputs)
    plain = {key: restored(item, inputs, functions) for key, item in value.items() if key != "type"}
    return _options(str(value["type"]), plain) if "type" in value else plain


def _by_id(identity: str, inputs: Sequence[Input]) -> Any:
    for item in inputs:
        if item.id == identity:
            return item.value
    raise NotReplayable(f"an argument with the record {identity[:12]} is not among the inputs of its step")


def _options(name: str, values: dict[str, Any]) -> Any:
    if name not in _OPTIONS:
        raise NotReplayable(f"options of the class {name} are not known to this larun")
    cls = getattr(importlib.import_module(_OPTIONS[name]), name)
    unknown = set(values) - {field.name for field in attrs.fields(cls)}
    if unknown:
        raise NotReplayable(f"{name} has no option {', '.join(sorted(unknown))} in this larun")
    return cls(**_conforming(Source(cls), values))


def _conforming(source: Source, values: dict[str, Any]) -> dict[str, Any]:
    """Values of the types that a step wants: a record writes 5.0 as 5, and a tuple as a list."""
    made = dict(values)
    for name, option in source.options.items():
        if name in made:
            with contextlib.suppress(OptionError):  # an array, an object: as it is
                made[name] = option.conform(made[name])
    return made


def carry_out(step: Step, inputs: Sequence[Input], functions: Functions) -> Any:
    """The result of a step, made again from what it worked on.

    Raises
    ------
    NotReplayable
        If this larun has no such operation or option, or the record does not hold all that decided the result.
    LarunError
        What the operation itself has to say.
    """
    known = OPERATIONS.get(step.operation)
    if known is None:
        raise NotReplayable(f"this larun knows no operation {step.operation!r}")
    source = _source(known.function)
    values = {key: restored(value, inputs, functions) for key, value in step.parameters.items()}
    arguments = _conforming(source, values) if source is not None else values
    unknown = set(arguments) - set(inspect.signature(known.function).parameters)
    if unknown:
        raise NotReplayable(
            f"{step.operation} version {step.version} had the parameter {', '.join(sorted(unknown))}, which version "
            f"{known.version} of this larun has not"
        )
    rule: Callable[..., Any] = _RULES.get(step.operation, _method)
    if step.fitted.get("first") == 1 and rule is _symmetric:
        inputs = inputs[::-1]  # the second by id was the first operand: the result has its class and its header
    return rule(known.function, arguments, tuple(inputs))


def _source(function: Callable[..., Any]) -> Source | None:
    """The options of an operation, by its class; None of one that is no method."""
    owner, _, method = function.__qualname__.rpartition(".")
    cls = getattr(sys.modules[function.__module__], owner, None)
    return Source(cls, method) if isinstance(cls, type) else None


def _one(inputs: Iterable[Input], role: str) -> Any:
    return next((item.value for item in inputs if item.role == role), None)


def _method(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    """A method of what it worked on; other objects go to the parameter of their role."""
    subject, *names = inspect.signature(function).parameters
    worked_on = _one(inputs, subject)
    if worked_on is None:
        raise NotReplayable(f"{function.__qualname__}: what it worked on is not in the record")
    more = {item.role: catalog_of(item.value) for item in inputs if item.role in names and item.role not in arguments}
    owner = function.__qualname__.partition(".")[0]
    return function(worked_on if type(worked_on).__name__ == owner else catalog_of(worked_on), **more, **arguments)


def catalog_of(value: Any) -> Any:
    """The catalogue in a result that holds more than that (a match, a zero point); anything else as it is."""
    return value.catalog if isinstance(value, Match | ZeroPoint) else value


def _calibrate(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    masters = tuple(item.value for item in inputs if item.role in ("bias", "dark", "flat"))
    return function(_one(inputs, "self"), masters, bad_pixels=_one(inputs, "bad_pixels"), **arguments)


def _combined(cls: type[Any]) -> Callable[..., Any]:
    def combine(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
        frames = [item.value for item in inputs if item.role == "frame"]
        used = {item.role: item.value for item in inputs if item.role in ("bias", "dark")}
        options: BuildOptions = arguments.pop("options")
        first = frames[0]
        if all(isinstance(frame, OnDisk) and frame.read_as == first.read_as for frame in frames):
            options = attrs.evolve(options, given=first.given, camera=first.camera)
            frames = [frame.part for frame in frames]
        else:
            frames = [frame.read() if isinstance(frame, OnDisk) else frame for frame in frames]
        return function(cls, frames, options=options, **used, **arguments)

    return combine


def _symmetric(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    first, *others = [item.value for item in inputs]
    return function(first, others[0] if others else arguments["other"])


def _piped(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    return catalog_of(_one(inputs, "self")).pipe(arguments["function"], *arguments["args"], **arguments["kwargs"])


def _of_many(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    others = [catalog_of(item.value) for item in inputs if item.role == "others"]
    return function(catalog_of(_one(inputs, "catalog")), others, **arguments)


def _gone(what: str) -> Callable[..., Any]:
    def refuse(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
        raise NotReplayable(f"{what}, of which a record keeps the digest only")

    return refuse


def _stacked(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    """The frames that were used, on the reference that was chosen: which others there were does not matter any more."""
    known = {item.id: item.value.read() if isinstance(item.value, OnDisk) else item.value for item in inputs}
    reference = known.get(arguments.pop("reference"))
    if reference is None:
        raise NotReplayable("the reference of a stack is not among the inputs of its step")
    return function(
        Stack, [known[item.id] for item in inputs if item.role == "frame"], reference=reference, **arguments
    )


def _light_curve(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    """The frames that were used, with places in the pixels of the reference that was chosen."""
    known = {item.id: item.value.read() if isinstance(item.value, OnDisk) else item.value for item in inputs}
    reference = known.get(arguments.pop("reference"))
    if reference is None:
        raise NotReplayable("the reference of a light curve is not among the inputs of its step")
    frames = [known[item.id] for item in inputs if item.role == "frame"]
    psfs = [item.value for item in inputs if item.role == "psf"]  # one for all, or one for each
    if psfs:
        arguments["method"] = psfs
    return function(LightCurve, frames, arguments.pop("positions"), reference=reference, **arguments)


def _cutouts(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    """The sources, and the image of each plane under the name it had."""
    images = {name: _one(inputs, name) for name in arguments.pop("planes")}
    return function(catalog_of(_one(inputs, "self")), planes=images, **arguments)


def _subtracted(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    """Both images, and the point-spread functions of both where they were given."""
    psfs = [item.value for item in inputs if item.role == "psfs"]
    more = {"psfs": psfs if len(psfs) > 1 else psfs * 2} if psfs else {}
    return _method(function, arguments | more, inputs)


def _difference_curve(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    """The differences that were used."""
    differences = [item.value for item in inputs if item.role == "difference"]
    return function(DifferenceCurve, differences, arguments.pop("positions"), **arguments)


def _tracklets(function: Callable[..., Any], arguments: dict[str, Any], inputs: tuple[Input, ...]) -> Any:
    """The candidates that were linked."""
    return function(Tracklets, [catalog_of(item.value) for item in inputs if item.role == "candidates"], **arguments)


#: How an operation is called that is not simply a method of what it worked on.
_RULES: dict[str, Callable[..., Any]] = {
    "add": _symmetric,
    "calibrate": _calibrate,
    "cutouts": _cutouts,
    "difference_curve": _difference_curve,
    "drizzle": _stacked,
    "from_table": _gone("it begins with a table that was handed over in memory"),
    "light_curve": _light_curve,
    "multiply": _symmetric,
    "pipe": _piped,
    "stack": _stacked,
    "subtract": _subtracted,
    "zero_points": _of_many,
    "tracklets": _tracklets,
    "with_planes": _gone("its pixels were handed over in memory (with_planes)"),
    **{name: _combined(cls) for name, cls in MASTERS.items()},
}
