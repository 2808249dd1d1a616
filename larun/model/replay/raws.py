"""Raw files found by what is in them, wherever they lie and whatever they are called.

A record names a raw file by the digests of its pixels and of its header; its name and place are only where to look
first. So a file that was moved, renamed or compressed again is found, and one that was changed is not taken for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from larun.errors import FileError, LarunError, NotReplayable, RawNotFound
from larun.model import registry
from larun.model.raw import exposures
from larun.model.raw.opening import RawPart, parts_of
from larun.provenance import Provenance, Root
from larun.provenance.canonical import text_of

__all__ = ["Found", "RawFiles"]

_COMPRESSION = re.compile(r"\.(fz|gz|z|bz2)$", re.I)
_HELD = 2  # frames that are kept: the one asked for last is often asked for again


class Found(NamedTuple):
    """A raw file that a record names: where it is, and the frame it holds."""

    part: RawPart
    frame: Any


class _Content(NamedTuple):
    """What a part of a file is, as a camera reads it."""

    id: str
    root: Root


#: Digests of files that were read, by path, time of change, size and what was told of them.
_CONTENTS: dict[tuple[Any, ...], tuple[tuple[RawPart, _Content], ...]] = {}
_REMEMBERED = 10_000


class RawFiles:
    """The raw files of some folders, by digest.

    Parameters
    ----------
    folders : iterable of path
        Where to look, subfolders included; single files count too. Without any, each file is looked for where the
        record says that it was, and nowhere else.

    Raises
    ------
    FileError
        If one does not exist.
    """

    def __init__(self, folders: Iterable[str | Path] = ()) -> None:
        self.folders = tuple(Path(folder) for folder in folders)
        for folder in self.folders:
            if not folder.exists():
                raise FileError(f"{folder}: no such file or folder: name where the raw files are")
        self._paths: list[Path] | None = None
        self._held: dict[str, Found] = {}

    def find(self, record: Provenance) -> Found:
        """The raw frame of a root of a record, read as it was read then.

        Raises
        ------
        RawNotFound
            If it is in none of the folders, or was changed.
        NotReplayable
            If its camera is not known, or now understands it differently.
        """
        root = record.root
        assert root is not None
        if record.id in self._held:
            return self._held[record.id]
        part, camera = self.locate(record)
        return self._hold(record.id, Found(part, _read(part, root, camera)))

    def locate(self, record: Provenance) -> tuple[RawPart, type[Any]]:
        """Where the raw frame of a root of a record lies, and the camera that reads it.

        A file is read once for its digests, and again only when its size or its time of change differs.

        Raises
        ------
        RawNotFound, NotReplayable
            As :meth:`find`.
        """
        root = record.root
        assert root is not None
        camera = _camera(root)
        alike: Root | None = None
        for path in self._candidates(root):
            for part, content in _content(path, root, camera):
                if content.id == record.id:
                    return part, camera
                if _key(content.root) == _key(root):
                    alike = content.root
        if alike is not None:
            raise NotReplayable(f"{root.name}: {_understood_differently(alike, root)}")
        where = f"in {', '.join(map(str, self.folders))}" if self.folders else f"where it was ({_old_place(root)})"
        raise RawNotFound(
            f"raw file {root.name} (pixels {_key(root)[0][:12]}) is not {where}{self._in_its_place(root, camera)}: "
            "name the folder that holds it with raw=… (--raw DIR)"
        )

    def _in_its_place(self, root: Root, camera: type[Any]) -> str:
        """What is wrong with a file of the same name, where there is one."""
        wanted = _plain_name(root.name)
        for path in self._candidates(root):
            if _plain_name(path.name) != wanted:
                continue
            try:
                now = [_key(_read(part, root, camera).provenance.root) for part in parts_of(path, camera, _given(root))]
            except (LarunError, OSError) as error:
                return f" ({error})"
            pixels, header = _key(root)
            other = "another header" if any(key[0] == pixels for key in now) else "other pixels"
            if (pixels, header) not in now:
                return f" ({path} has {other})"
        return ""

    def _hold(self, identity: str, found: Found) -> Found:
        while len(self._held) >= _HELD:
            self._held.pop(next(iter(self._held)))
        self._held[identity] = found
        return found

    def _candidates(self, root: Root) -> Iterator[Path]:
        """Files that may be the one: those of its name first, then all others."""
        if not self.folders:
            old = _old_place(root)
            yield from (old,) if old.is_file() else ()
            return
        if self._paths is None:
            found = (path for place in self.folders for path in ([place] if place.is_file() else _fits_files(place)))
            self._paths = list(dict.fromkeys(found))
        wanted = _plain_name(root.name)
        yield from (path for path in self._paths if _plain_name(path.name) == wanted)
        yield from (path for path in self._paths if _plain_name(path.name) != wanted)


def _content(path: Path, root: Root, camera: type[Any]) -> tuple[tuple[RawPart, _Content], ...]:
    """What the parts of a file are to a camera that is told the same; worked out once for the file as it is."""
    state = path.stat()
    told = text_of([root.instrument, registry.identity_of(camera), root.given])
    key = (path.absolute(), state.st_mtime_ns, state.st_size, camera, told)
    if key not in _CONTENTS:
        found = []
        try:
            parts = parts_of(path, camera, _given(root))
        except LarunError:  # what cannot be read is not the file that was
            parts = ()
        for part in parts:
            if part.channel != root.given.get("channel"):
                continue
            try:
                record = _read(part, root, camera).provenance
            except LarunError:
                continue
            digests = attrs.evolve(record.root, pixels=_key(record.root)[0])  # not the pixels themselves
            found.append((part, _Content(record.id, digests)))
        while len(_CONTENTS) >= _REMEMBERED:
            _CONTENTS.pop(next(iter(_CONTENTS)))
        _CONTENTS[key] = tuple(found)
    return _CONTENTS[key]


def _fits_files(folder: Path) -> tuple[Path, ...]:
    try:
        return exposures.find(folder)
    except FileError:
        return ()


def _camera(root: Root) -> type[Any]:
    if root.kind != "file":
        raise NotReplayable("it begins with arrays that were handed over in memory: no file holds them")
    name = root.instrument.partition(" ")[0]
    camera = registry.by_name(name)
    if camera is None:
        raise NotReplayable(
            f"{root.name}: its camera {name!r} is not known here: import the module that defines it first, or name "
            "its file (larun.instruments.load, --instrument)"
        )
    return camera


def _given(root: Root) -> dict[str, Any]:
    return {name: value for name, value in root.given.items() if name != "channel"}


def _read(part: RawPart, root: Root, camera: type[Any]) -> Any:
    return camera.read(part.path, ext=part.ext, channel=part.channel, verify=False, **_given(root))


def _key(root: Root) -> tuple[str, str]:
    """What the file itself decides: digests of pixels and header."""
    return root.pixels if isinstance(root.pixels, str) else root.pixels(), root.header


def _old_place(root: Root) -> Path:
    return Path(root.location.rpartition("[")[0])


def _plain_name(name: str) -> str:
    """A file name without what a compression adds to it."""
    return _COMPRESSION.sub("", name).lower()


def _understood_differently(now: Root, then: Root) -> str:
    if now.instrument != then.instrument:
        return (
            f"it was read by {then.instrument}, which reads it as {now.instrument} now: its camera's code has changed"
        )
    return (
        f"the file is there, but {now.instrument} now understands its detector differently (gain, noise, levels or "
        "sections): its constants have changed since"
    )
