"""Which class reads a header, and which class a name in a file means.

A class becomes a camera by defining ``matches`` in its own body. The most derived match wins; two equal ones raise.
Cameras that are installed (larun's own included) come in through the entry-point group ``larun.instruments`` on
first use; a file that the user names is run by :mod:`larun.model.loading`. A name in a product is looked up among the
registered classes: nothing is ever imported because a file says so.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import traceback
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from larun.errors import HeaderError, LarunError, LarunWarning, OptionError

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = [
    "GENERIC",
    "GROUP",
    "SOURCES",
    "Source",
    "ask",
    "by_name",
    "cameras",
    "choose",
    "forget",
    "identity_of",
    "load_plugins",
    "name_of",
    "register",
]

#: Modules with classes that files name and no camera brings along.
_OWN = ("larun.model.matchedstack", "larun.model.stack")

GROUP = "larun.instruments"
#: The camera of last resort.
GENERIC = "larun.instruments.generic:Generic"
_CLASSES: dict[str, type[Any]] = {}


class Source(NamedTuple):
    """A file of cameras that the user named, and the bytes that were run."""

    path: Path
    code: bytes


#: By name of the module that the file became.
SOURCES: dict[str, Source] = {}


def name_of(cls: type[Any]) -> str:
    """The name under which a class is registered and written to files.

    A worker process knows the script that started it as ``__mp_main__``: a class of the script keeps one name in both.
    """
    module = "__main__" if cls.__module__ == "__mp_main__" else cls.__module__
    return f"{module}:{cls.__qualname__}"


def identity_of(cls: type[Any]) -> str:
    """The name of a class as a record holds it; of a class from a file that the user named also what the file says.

    Its constants and hooks decide pixels, so an edited file makes other products.
    """
    modules = dict.fromkeys(base.__module__ for base in cls.__mro__)
    digests = [hashlib.sha256(SOURCES[name].code).hexdigest()[:16] for name in modules if name in SOURCES]
    return " ".join([name_of(cls), *digests])


def forget(module: str) -> None:
    """Drop every class of a module, as before it was loaded."""
    for name in [name for name, cls in _CLASSES.items() if cls.__module__ == module]:
        del _CLASSES[name]


def register(cls: type[Any]) -> None:
    """Make a class known; a second definition under the same name (slotted classes are made twice) replaces it."""
    _CLASSES[name_of(cls)] = cls


@functools.cache
def load_plugins() -> None:
    """Import every camera of the entry-point group; one that fails is a warning that names it."""
    for own in _OWN:
        importlib.import_module(own)
    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # whatever a plugin does wrong must not stop the others
            warnings.warn(f"camera {entry.name} ({entry.value}) cannot be loaded: {error}", LarunWarning, stacklevel=2)


def cameras() -> tuple[type[Any], ...]:
    """Every registered class that defines ``matches`` in its own body, in order of name."""
    load_plugins()
    # The class that introduces the hook is no camera; those that override it are.
    return tuple(
        cls
        for _, cls in sorted(_CLASSES.items())
        if "matches" in vars(cls) and any(hasattr(base, "matches") for base in cls.__mro__[1:])
    )


def choose(header: Header, base: type[Any], where: str) -> type[Any]:
    """The class for a header: the most derived camera that matches, else ``Generic``.

    Parameters
    ----------
    header : astropy.io.fits.Header
        The header that decides.
    base : type
        What the caller asked for. A class that is a camera itself, or derives from one, is taken at its word.
    where : str
        File name for messages.

    Raises
    ------
    HeaderError
        If two unrelated cameras claim the header.
    """
    found = cameras()
    if any(issubclass(base, camera) for camera in found) or not any(issubclass(camera, base) for camera in found):
        return base
    matching = [camera for camera in found if issubclass(camera, base) and _matches(camera, header, where)]
    best = [c for c in matching if not any(other is not c and issubclass(other, c) for other in matching)]
    if len(best) > 1:
        names = ", ".join(name_of(camera) for camera in best)
        raise HeaderError(
            f"{where}: claimed by {names}; read it with the one you mean, as {best[0].__name__}.read(path), "
            "or derive one from the other: the most derived wins"
        )
    return best[0] if best else by_name(GENERIC) or base


def _matches(camera: type[Any], header: Header, where: str) -> bool:
    return bool(ask(camera, "matches", where, header))


def ask(camera: type[Any], hook: str, where: str, *arguments: Any) -> Any:
    """What a camera's hook answers; whatever goes wrong in it becomes an error that names file, hook and line.

    Raises
    ------
    HeaderError
        If the hook fails.
    """
    function = getattr(camera, hook)
    try:
        return function(*arguments)
    except (HeaderError, OptionError) as error:
        raise type(error)(str(error) if where in str(error) else f"{where}: {error}") from error
    except LarunError:
        raise
    except Exception as error:  # whatever a user's hook does
        calls = traceback.extract_tb(error.__traceback__)
        written_in = inspect.getsourcefile(function) if callable(function) else None
        place = next((call for call in reversed(calls) if call.filename == written_in), calls[-1])
        raise HeaderError(
            f"{where}: {name_of(camera)}.{hook} failed ({Path(place.filename).name}, line {place.lineno}): {error!r}; "
            "a keyword may be missing: use header.get(keyword)"
        ) from error


def unclaimed(camera: type[Any]) -> str:
    """What to say of a frame that no camera's class claims; empty for the others."""
    if name_of(camera) != "larun.instruments.generic:Generic":
        return ""
    return "; no camera class claims its header: one of your own is named with --instrument FILE.py"


def by_name(name: str) -> type[Any] | None:
    """The registered class of that name, or the only one whose last part fits (scripts change their module's name)."""
    load_plugins()
    if name in _CLASSES:
        return _CLASSES[name]
    last = name.rpartition(":")[2]
    fitting = [cls for key, cls in _CLASSES.items() if key.rpartition(":")[2] == last]
    return fitting[0] if len(fitting) == 1 else None
