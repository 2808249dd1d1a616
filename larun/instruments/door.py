"""A file for a new camera, and the list of the cameras that are known."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from larun.errors import FileError, LarunWarning
from larun.instruments.template import check_name, template
from larun.io.atomic import atomic_path
from larun.model import registry
from larun.model.frame import Frame
from larun.model.understood.derived import header_of

__all__ = ["KnownCamera", "known", "new"]


def new(
    name: str,
    *,
    from_file: str | Path | None = None,
    out: str | Path | None = None,
    ext: int | str | None = None,
) -> Path:
    """Write a camera's class to fill in.

    Parameters
    ----------
    name : str
        Of the class, as ``RoofCamera``.
    from_file : path, optional
        A raw FITS file, or the text of a header: tells by what the camera is recognised, and lists what may be its
        quantities. Its text enters the file only as escaped literals.
    out : path, optional
        The file, or a folder for it; by default the name in lower case, in the current folder.
    ext : int or str, optional
        HDU of a file with several images.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    OptionError
        If no class can have that name.
    FileError
        If the file exists, or ``from_file`` holds no header.
    """
    check_name(name)
    path = _place(name, None if out is None else Path(out))
    header = None if from_file is None else header_of(from_file, ext).header
    if header is not None:
        already = registry.choose(header, Frame, str(from_file))
        if already is not registry.by_name(registry.GENERIC):
            warnings.warn(
                f"{from_file}: {registry.name_of(already)} reads this file; two classes that claim it are refused: "
                f"derive {name} from {already.__name__} to change what it says",
                LarunWarning,
                stacklevel=2,
            )
    if path.exists():
        raise FileError(f"{path} exists: choose another name with -o; what you wrote is never replaced")
    text = template(name, header, module=path.name)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="ascii")
    return path


def _place(name: str, out: Path | None) -> Path:
    """Where the file goes; by default under a name that no installed module has."""
    file = f"{name.lower()}.py"
    if importlib.util.find_spec(name.lower()) is not None or name.lower() in sys.stdlib_module_names:
        file = f"{name.lower()}_camera.py"
    if out is None:
        return Path(file)
    if out.is_dir():
        return out / file
    if out.suffix != ".py":
        raise FileError(f"{out}: must end in .py, or be a folder that exists")
    return out


class KnownCamera(NamedTuple):
    """A camera that larun knows."""

    name: str
    """Of the class."""
    module: str
    """Where it is defined."""
    origin: str
    """The distribution that brought it and its version, or the file it was loaded from."""
    about: str
    """The first line of its docstring."""
    cls: type[Frame]
    """The class."""


def known() -> tuple[KnownCamera, ...]:
    """Every camera that can read a file, in order of name: installed ones, and those from files."""
    brought = {
        entry.value.partition(":")[0]: _distribution(entry) for entry in metadata.entry_points(group=registry.GROUP)
    }
    found = []
    generic = registry.by_name(registry.GENERIC)
    for cls in (*registry.cameras(), *([generic] if generic is not None else [])):
        if not issubclass(cls, Frame):
            continue
        source = registry.SOURCES.get(cls.__module__)
        origin = str(source.path) if source is not None else brought.get(cls.__module__, "")
        about = (cls.__doc__ or "").strip().partition("\n")[0]
        found.append(KnownCamera(cls.__name__, cls.__module__, origin, about, cls))
    return tuple(found)


def _distribution(entry: metadata.EntryPoint) -> str:
    dist = entry.dist
    return "" if dist is None else f"{dist.name} {dist.version}"
