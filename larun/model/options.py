"""The options of a step, from its own signature and documentation; nobody keeps a second list.

An option is a parameter with a default. What it may be is said by its annotation, what it means by the docstring, and
whether a value makes sense by the step itself, which checks its options before it looks at a pixel.
"""

from __future__ import annotations

import collections.abc
import difflib
import functools
import inspect
import numbers
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from larun.errors import LarunError, OptionError
from larun.io.toml import shown
from larun.provenance import OPERATIONS

__all__ = ["Option", "Source", "nearest"]

_CHOICES = re.compile(r"\{([^}]*)\}")
_ROLE = re.compile(r":[a-z:]+:`~?(?:[^`<]*<)?([^`>]+)>?`")
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    dict: "a table",
    type(None): '"none"',
}
_PLURALS: dict[Any, str] = {bool: "true or false", int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}
_LARGEST = 1e30  # beyond any quantity an option could mean, and safe in single precision


@attrs.frozen(kw_only=True)
class Option:
    """One option of a step.

    Parameters
    ----------
    name : str
        The parameter.
    kinds : tuple of types
        What a text file can say: ``bool``, ``int``, ``float``, ``str``, ``Path``, ``None``, tuples of them.
    open : bool
        Whether Python may give more than a text file can say: a function, an array.
    default : object
        Its default.
    type : str
        The type as documented.
    text : str
        What it means.
    recorded : bool
        Whether it decides pixels.
    """

    name: str
    kinds: tuple[Any, ...]
    open: bool
    default: Any
    type: str
    text: str
    recorded: bool

    @property
    def says(self) -> str:
        """What a text file may say, in words."""
        words = [f'"{word}"' for word in self.choices]
        made = []
        for kind in self.kinds:
            if kind is type(None) and "none" in self.choices:
                continue
            inner = [part for part in typing.get_args(kind) if part is not ...]
            if inner and typing.get_origin(kind) is tuple:
                of = f"of {', '.join(words)}" if words else f"of {_PLURALS.get(inner[0], 'values')}"
                made.append(f"a list {of}" if kind.__args__[-1] is ... else f"a list of {len(inner)} {of[3:]}")
            elif kind is str and words:
                made.append(words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}")
            else:
                made.append(_WORDS.get(kind, self.type))
        return " or ".join(dict.fromkeys(made))

    @property
    def written(self) -> bool:
        """Whether a text file can say anything but ``"none"``."""
        return any(kind is not type(None) for kind in self.kinds)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words among which to choose, as documented; empty when it is no choice."""
        found = _CHOICES.search(self.type)
        return tuple(word.strip().strip("\"'") for word in found[1].split(",")) if found else ()

    def conform(self, value: Any) -> Any:
        """The value in the form the step takes it; ``"none"`` stands for None, which TOML does not have.

        Raises
        ------
        OptionError
            If it is of another type; the message says of which it must be.
        """
        if value is None and type(None) in self.kinds:
            return None
        if isinstance(value, str) and value == "none" and type(None) in self.kinds and "none" not in self.choices:
            return None
        if self.open and not isinstance(value, str | bool | int | float | list | tuple | dict):
            return value
        for kind in self.kinds:
            try:
                return _converter().structure(value, kind)
            except _Refused as error:
                raise OptionError(f"{error}; must be {self.says}") from None
            except Exception:
                continue  # whatever cattrs says of one kind, the next may fit
        raise OptionError(f"must be {self.says}")


@attrs.frozen
class Source:
    """Where the options of a section come from: a method, or a class of options.

    Parameters
    ----------
    owner : type
        The class.
    method : str, optional
        Its method; without one the options are the fields of the class.
    but : tuple of str
        Parameters that are no options: what is worked on, and options that have a section of their own.
    documented : tuple of type
        Classes whose method of that name documents what this one's docstring leaves to it.
    """

    owner: type
    method: str = ""
    but: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    documented: tuple[type, ...] = attrs.field(default=(), kw_only=True)

    @property
    def function(self) -> Callable[..., Any]:
        """The method as it was written, without its recording, or the class."""
        if not self.method:
            return self.owner
        found = inspect.getattr_static(self.owner, self.method)
        function: Callable[..., Any] = inspect.unwrap(getattr(found, "__func__", found))
        return function

    @property
    def options(self) -> Mapping[str, Option]:
        """Every option by name, in the order of the signature."""
        return _options(self)

    @property
    def title(self) -> str:
        """What the step does, in a line."""
        return _plain(inspect.getdoc(self.function) or "").split("\n")[0]

    def check(self, values: Mapping[str, Any]) -> None:
        """Let the step itself check its options; nothing is computed.

        Raises
        ------
        LarunError
            What the step has to say against them.
        """
        if not self.method:
            self.owner(**values)
            return
        first, *others = inspect.signature(self.function).parameters.values()
        needed = {
            one.name: _NoPixels(self.owner)
            for one in others
            if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        }
        subject = self.owner if first.name == "cls" else _NoPixels(self.owner)
        for known in OPERATIONS.values():
            if known.resolve is not None and inspect.unwrap(known.function) is self.function:
                bound = inspect.signature(self.function).bind(subject, **needed, **values)
                bound.apply_defaults()
                known.resolve(dict(bound.arguments))
        try:
            self.function(subject, **needed, **values)
        except _Looked:
            return

    def problems(self, values: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with values of the right types, by option; by ``""`` what cannot be laid to one of them.

        A step stops at the first fault. So the option that is to blame goes back to its default, and the step is asked
        again.
        """
        left = dict(values)
        found: dict[str, str] = {}
        while said := self._said(left):
            guilty = self._guilty(left, said)
            found[guilty] = re.sub(rf"^[^:]*\b{re.escape(guilty)}\b[^:]*:\s*", "", said) if guilty else said
            if not guilty:
                break
            del left[guilty]
        return found

    def _guilty(self, values: Mapping[str, Any], said: str) -> str:
        """The option that a message is about: the first it names, or the one that is refused alone."""
        places = {name: re.search(rf"\b{re.escape(name)}\b", said) for name in values}
        named = sorted((place.start(), name) for name, place in places.items() if place)
        if named:
            return named[0][1]
        return next((name for name in values if self._said({name: values[name]})), "")

    def _said(self, values: Mapping[str, Any]) -> str | None:
        try:
            self.check(values)
        except LarunError as error:
            return str(error)
        except (TypeError, ValueError, OverflowError) as error:
            return f"is refused ({error})"
        return None


class _Looked(Exception):
    """A step has accepted its options and turned to the pixels."""


class _NoPixels:
    """Stands for what a step works on: its methods run, and a look at anything else ends the step."""

    def __init__(self, owner: type) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        member = inspect.getattr_static(self._owner, name, None)
        if inspect.isfunction(member):
            return functools.partial(inspect.unwrap(member), self)
        raise _Looked(name)

    def __iter__(self) -> Any:
        raise _Looked


class _Refused(Exception):
    """A value of the right type that no option may have."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean …?``, or the words there are.

    Examples
    --------
    >>> nearest("treshold", ["threshold", "mesh"]), nearest("x", ["threshold", "mesh"])
    ('did you mean threshold?', 'there are: threshold, mesh')
    """
    known = list(known)
    close = difflib.get_close_matches(word.lower(), known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"


@functools.cache
def _options(source: Source) -> dict[str, Option]:
    function = source.function
    documented = [_documented(inspect.getdoc(function) or "")]
    documented += [_documented(inspect.getdoc(getattr(other, source.method)) or "") for other in source.documented]
    fields = {field.name: field.metadata for field in attrs.fields(source.owner)} if not source.method else {}
    module = sys.modules[function.__module__]
    made = {}
    for name, parameter in inspect.signature(function).parameters.items():
        variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if variadic or parameter.default is parameter.empty or name in source.but:
            continue
        about = fields.get(name, {})
        annotation = about.get("written_as", parameter.annotation)
        kinds, rest = _kinds(annotation, vars(module))
        if parameter.default is None and type(None) not in kinds:
            kinds = (*kinds, type(None))
        kind, text = next((found[name] for found in documented if name in found), ("", ""))
        made[name] = Option(
            name=name,
            kinds=kinds,
            open=rest or "written_as" in about,
            default=parameter.default if parameter.default is not attrs.NOTHING else None,
            type=kind,
            text=text,
            recorded=about.get("recorded", True),
        )
    return made


def _kinds(annotation: Any, names: Mapping[str, Any]) -> tuple[tuple[Any, ...], bool]:
    """The types of an annotation that a text file can say, and whether there are others."""
    if isinstance(annotation, str):
        # What is imported for type checkers alone is no type a text file could say.
        parts = _split(annotation)
        if len(parts) > 1:
            several = [_kinds(part, names) for part in parts]
            return tuple(kind for found, _ in several for kind in found), any(rest for _, rest in several)
        try:
            annotation = eval(annotation, {**vars(collections.abc), **vars(typing), **names})
        except NameError:
            return (), True
    if annotation is None:
        return (type(None),), False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        several = [_kinds(part, names) for part in typing.get_args(annotation)]
        return tuple(kind for found, _ in several for kind in found), any(rest for _, rest in several)
    if annotation in _WORDS or typing.get_origin(annotation) is typing.Literal:
        return (annotation,), False
    origin: Any = typing.get_origin(annotation)
    arguments = [part for part in typing.get_args(annotation) if part is not ...]
    if isinstance(origin, type) and issubclass(dict, origin) and not issubclass(tuple, origin):  # Mapping
        return (dict,), False
    if arguments and not any(_kinds(part, names)[1] for part in arguments):
        if origin is tuple:
            return (annotation,), False
        if isinstance(origin, type) and issubclass(tuple, origin):  # Iterable, Sequence …
            several_of: Any = tuple.__class_getitem__((arguments[0], ...))
            return (several_of,), False
    return (), True


def _split(annotation: str) -> list[str]:
    """The members of a union, where ``|`` stands outside all brackets."""
    parts, depth = [""], 0
    for character in annotation:
        depth += (character in "[(") - (character in "])")
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _documented(text: str) -> dict[str, tuple[str, str]]:
    """Type and meaning of every parameter of a numpydoc docstring."""
    found: dict[str, tuple[str, str]] = {}
    for part in re.split(r"^Parameters\n-+\n", text, flags=re.M)[1:]:
        body = re.split(r"^\w[\w ]*\n-+$", part, flags=re.M)[0]
        for entry in re.split(r"^(?=\S)", body, flags=re.M):
            head, _, rest = entry.partition("\n")
            names, _, kind = head.partition(" : ")
            meaning = _plain(inspect.cleandoc(rest))
            found |= {name.strip().lstrip("*"): (_plain(kind.strip()), meaning) for name in names.split(",")}
    return found


def _plain(text: str) -> str:
    """Documentation without its markup."""
    text = _ROLE.sub(lambda match: match[1].rpartition(".")[2], text)
    return text.replace("``", "").replace("`", "")


@functools.cache
def _converter() -> Any:
    """cattrs, with nothing converted that is not meant: no text becomes a number, no number true."""
    from cattrs import Converter

    made = Converter(detailed_validation=False)

    def exact(allowed: type) -> Callable[[Any, Any], Any]:
        def take(value: Any, kind: Any) -> Any:
            if not isinstance(value, allowed) or isinstance(value, bool) != (kind is bool):
                raise TypeError(kind)
            if isinstance(value, numbers.Real) and not abs(float(value)) <= _LARGEST:
                raise _Refused("far too large" if value == value else "is not a number")
            if isinstance(value, str) and not value.isprintable():
                raise _Refused("holds control characters")
            return kind(value)

        return take

    kinds = ((bool, bool), (int, numbers.Integral), (float, numbers.Real), (str, str))
    for kind, allowed in kinds:
        made.register_structure_hook(kind, exact(allowed))
    made.register_structure_hook(Path, lambda value, kind: exact(str)(str(value), str) and Path(value))
    made.register_structure_hook(dict, lambda value, kind: {str(key): _plain_value(value[key]) for key in value})
    made.register_structure_hook_func(lambda kind: kind is type(None), _refuse)

    def sequence(value: Any, kind: Any) -> Any:
        arguments = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            raise TypeError(kind)
        if arguments[-1] is ...:
            return tuple(made.structure(item, arguments[0]) for item in value)
        if len(value) != len(arguments):
            raise _Refused(f"has {len(value)} values")
        return tuple(made.structure(item, argument) for item, argument in zip(value, arguments, strict=True))

    made.register_structure_hook_func(_is_tuple, sequence)
    return made


def _is_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _plain_value(value: Any) -> Any:
    """A value of a table, whose options only the step knows."""
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    kinds = [kind for kind in (bool, int, float, str) if type(value) is kind]
    return _converter().structure(value, kinds[0]) if kinds else _refuse(value, dict)


def _refuse(value: Any, kind: Any) -> Any:
    raise TypeError(f"{shown(value)} is no {kind}")
