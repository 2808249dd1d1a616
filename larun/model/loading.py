"""Cameras from a file that the user names: run it, check what it defines, keep nothing of one that fails.

The file becomes a module under its own name. Worker processes run the same bytes again, so that they know the same
classes even if the file has changed in the meantime.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from larun.errors import FileError
from larun.model import registry
from larun.model.frame import Frame
from larun.model.registry import SOURCES, Source

__all__ = ["Source", "check_class", "load", "restore", "sources"]


def load(path: str | Path) -> tuple[type[Frame], ...]:
    """Run a Python file and make the cameras it defines known, as if they were installed.

    Parameters
    ----------
    path : path
        The file. It is run as Python code: name only files you trust.

    Returns
    -------
    tuple of type
        The cameras, in order of name. Loading an unchanged file again gives the same classes; an edited file replaces
        them.

    Raises
    ------
    FileError
        If the file cannot be read or run, defines no camera, or one that cannot work. The message names the line.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "roof_camera.py"
    >>> _ = path.write_text('''
    ... import larun
    ...
    ... class RoofCamera(larun.Frame):
    ...     required = frozenset({"bias", "flat"})
    ...
    ...     @classmethod
    ...     def matches(cls, header):
    ...         return header.get("INSTRUME") == "roof"
    ... ''')
    >>> [camera.__name__ for camera in load(path)]
    ['RoofCamera']
    """
    path = Path(path)
    try:
        code = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}: cannot be read as a camera file") from error
    return _load(Source(path, code))


def sources() -> tuple[Source, ...]:
    """What was loaded so far, for other processes."""
    return tuple(SOURCES.values())


def restore(known: Iterable[Source]) -> None:
    """Load in this process what :func:`sources` named in another."""
    for source in known:
        _load(source)


def _load(source: Source) -> tuple[type[Frame], ...]:
    name = _module_name(source.path)
    before = SOURCES.get(name)
    if before is not None and before.code == source.code and _same_file(before.path, source.path):
        return _cameras_of(name)
    if before is None and name in sys.modules:  # a script imported it by itself
        found = _cameras_of(name)
        _check(found, sys.modules[name], source.path)
        return found
    run = _compiled(source)
    module = types.ModuleType(name)
    module.__file__ = str(source.path)
    kept = sys.modules.get(name), dict(registry._CLASSES)
    registry.forget(name)
    sys.modules[name] = module
    try:
        _run(run, module, source.path)
        found = _cameras_of(name)
        _check(found, module, source.path)
    except BaseException:
        registry._CLASSES.clear()
        registry._CLASSES.update(kept[1])
        if kept[0] is None:
            del sys.modules[name]
        else:
            sys.modules[name] = kept[0]
        raise
    SOURCES[name] = source
    return found


def _module_name(path: Path) -> str:
    """The file's own name as a module, if no other module has it."""
    name = re.sub(r"\W", "_", path.stem)
    name = name if name.isidentifier() else f"_{name}"
    before = SOURCES.get(name)
    module = sys.modules.get(name)
    if before is not None:
        taken: Any = before.path
    elif module is not None:
        taken = getattr(module, "__file__", None) or "a module of Python"
    else:
        spec = importlib.util.find_spec(name)
        taken = path if spec is None else spec.origin or "an installed package"
    if not _same_file(Path(str(taken)), path):
        raise FileError(f"{path}: the name {name!r} belongs to {taken} already: rename the file")
    return name


def _same_file(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()


def _compiled(source: Source) -> types.CodeType:
    path = source.path
    try:
        text = importlib.util.decode_source(source.code)
        return compile(text, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = " ".join((error.text or "").split())
        shown = f" in {line!r}" if line else ""
        raise FileError(f"{path}, line {error.lineno or 1}: not Python: {error.msg}{shown}") from error
    except ValueError as error:  # bytes that are no text
        raise FileError(f"{path}: not Python: {error}") from error


def _run(code: types.CodeType, module: types.ModuleType, path: Path) -> None:
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the user's code does
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        raise FileError(f"{place}: {type(error).__name__}: {error}") from error


def _cameras_of(module: str) -> tuple[type[Frame], ...]:
    return tuple(cls for cls in registry.cameras() if cls.__module__ == module and issubclass(cls, Frame))


def _check(found: tuple[type[Frame], ...], module: types.ModuleType, path: Path) -> None:
    if not found:
        frames = [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Frame) and value.__module__ == module.__name__
        ]
        seen = f" ({', '.join(frames)} has no matches of its own)" if frames else ""
        raise FileError(
            f"{path}: defines no camera{seen}: a camera is a subclass of larun.Frame whose own body defines "
            "matches(cls, header); larun instrument new NAME writes one"
        )
    for cls in found:
        wrong = check_class(cls)
        if wrong:
            raise FileError(f"{path}, line {_line_of(cls)}: {cls.__name__}: {'; '.join(wrong)}")


def _line_of(cls: type[Any]) -> int:
    hook = inspect.getattr_static(cls, "matches")
    code = getattr(getattr(hook, "__func__", hook), "__code__", None)
    return code.co_firstlineno if code is not None else 1


def check_class(cls: type[Frame]) -> tuple[str, ...]:
    """What keeps a class from being a camera, in words; empty when nothing does.

    A camera adds constants and hooks, never fields; every hook is a class method, and ``matches`` can be asked about
    any header.
    """
    wrong = []
    more = {field.name for field in attrs.fields(cls)} - {field.name for field in attrs.fields(Frame)}
    if more:
        wrong.append(f"adds the fields {', '.join(sorted(more))}: a camera has constants (ClassVar) and hooks only")
    for base in cls.__mro__[: cls.__mro__.index(Frame)]:
        wrong += [text for name, value in vars(base).items() if (text := _misfit(name, value))]
    if not wrong:
        from astropy.io.fits import Header

        try:
            cls.matches(Header())
        except Exception as error:  # whatever a user's hook does
            wrong.append(f"matches fails for an empty header ({error!r}): use header.get(keyword)")
    return tuple(dict.fromkeys(wrong))


def _misfit(name: str, value: Any) -> str:
    """What is wrong with one name of a camera's body; empty if nothing is."""
    if name.startswith("__") or not hasattr(Frame, name):
        return ""
    ours = inspect.getattr_static(Frame, name)
    if isinstance(ours, classmethod) and not isinstance(value, classmethod | staticmethod):
        return f"{name} must be a class method: write @classmethod above it"
    if (callable(ours) or isinstance(ours, property) or inspect.isdatadescriptor(ours)) and not (
        callable(value) or hasattr(value, "__get__")
    ):
        return f"{name} = {value!r} hides what every frame has under that name: call the constant something else"
    return ""
