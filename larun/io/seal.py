"""One head hash for all files of a folder, kept apart from them: what was added, removed or changed since shows.

Digests inside a file tell of damage. They cannot tell of somebody who changes a file and its digests, or replaces it:
that takes a number that is kept elsewhere, and signed. The head is the Merkle tree hash of RFC 6962 (section 2.1) over
the files in the order of their names, a leaf being the canonical JSON text of name, size and SHA-256. So one file can
be proven to belong to a head without the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import attrs

from larun.errors import CorruptProduct, FileError, OptionError
from larun.io.atomic import atomic_path
from larun.provenance.canonical import text_of

__all__ = ["Seal", "Sealed", "Sealing", "merkle_head"]

FORMAT = 1
_HEX = re.compile(r"[0-9a-f]{64}")


class Sealed(NamedTuple):
    """A file under a seal."""

    name: str
    """within the folder, with forward slashes"""
    size: int
    """bytes"""
    sha256: str


def merkle_head(leaves: Sequence[bytes]) -> str:
    """The Merkle tree hash (hex) of RFC 6962, section 2.1.

    Examples
    --------
    >>> merkle_head([])[:12], merkle_head([b""])[:12]
    ('e3b0c44298fc', '6e340b9cffb3')
    """
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(level) > 1:  # pairs from the left, an odd one goes up as it is: the same tree as the standard's
        pairs = [hashlib.sha256(b"\1" + level[n] + level[n + 1]).digest() for n in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) - len(level) % 2 :]
    return (level[0] if level else hashlib.sha256().digest()).hex()


@attrs.frozen(kw_only=True)
class Sealing:
    """What a folder looks like under a seal.

    Parameters
    ----------
    head : str
        Head of the seal: compare it with the one that was kept elsewhere.
    count : int
        Files under the seal.
    added, removed, changed : tuple of str
        Files that were not there then, are not there now, or have other bytes.

    Examples
    --------
    >>> print(Sealing(head="ab" * 32, count=3, removed=("notes.txt",)))
    3 files under the seal: 1 removed
    """

    head: str
    count: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the folder is what was sealed."""
        return not (self.added or self.removed or self.changed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**attrs.asdict(self), "good": self.good}

    def __str__(self) -> str:
        found = {"added": self.added, "removed": self.removed, "changed": self.changed}
        differs = ", ".join(f"{len(names)} {word}" for word, names in found.items() if names)
        return f"{self.count} {'file' if self.count == 1 else 'files'} under the seal: {differs or 'all as they were'}"


def _sorted(files: Any) -> tuple[Sealed, ...]:
    return tuple(sorted(files))


@attrs.frozen(kw_only=True)
class Seal:
    """The digests of all files of a folder, and one head for all of them.

    Nothing in it depends on the clock, the place of the folder, or the order in which a disk lists its files.

    Parameters
    ----------
    files : tuple of Sealed
        In order of name.
    folder : Path, optional
        What was sealed; not kept.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "notes.txt").write_text("clouds after midnight")
    >>> seal = Seal.of(folder)
    >>> seal.head[:12]
    '79cad6f1aa76'
    >>> _ = (folder / "notes.txt").write_text("clear all night")
    >>> seal.compare(folder).changed
    ('notes.txt',)
    """

    files: tuple[Sealed, ...] = attrs.field(converter=_sorted)
    folder: Path | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def head(self) -> str:
        """SHA-256 (hex) over names, sizes and digests of all files."""
        return merkle_head([text_of(list(file)).encode("ascii") for file in self.files])

    @classmethod
    def of(cls, folder: str | Path) -> Self:
        """The seal of a folder as it is now.

        All files count, of whatever kind; hidden ones (their name or a folder's begins with a dot), folders behind
        links, and what is no regular file are left out.

        Raises
        ------
        FileError
            If there is no such folder, or a file cannot be read.
        """
        folder = Path(folder)
        return cls(files=(_digested(folder, name) for name in cls.names(folder)), folder=folder)

    @staticmethod
    def names(folder: Path) -> tuple[str, ...]:
        """The names of the files of a folder that a seal covers, in order.

        Raises
        ------
        FileError
            If there is no such folder, or one in it cannot be listed.
        """
        if not folder.is_dir():
            raise FileError(f"{folder}: no such folder")

        def refuse(error: OSError) -> None:
            raise FileError(f"{error.filename} cannot be listed: {error.strerror or error}") from error

        found = []
        for place, inner, names in os.walk(folder, onerror=refuse):
            inner[:] = [name for name in inner if not name.startswith(".")]
            files = (Path(place, name) for name in names if not name.startswith("."))
            found += [file.relative_to(folder).as_posix() for file in files if file.is_file()]
        return tuple(sorted(found))

    def compare(self, folder: str | Path) -> Sealing:
        """What was added, removed and changed in a folder since it was sealed.

        Raises
        ------
        FileError
            As :meth:`of`.
        """
        now = {file.name: file for file in type(self).of(folder).files}
        then = {file.name: file for file in self.files}
        return Sealing(
            head=self.head,
            count=len(then),
            added=tuple(name for name in now if name not in then),
            removed=tuple(name for name in then if name not in now),
            changed=tuple(name for name, file in then.items() if name in now and now[name] != file),
        )

    @staticmethod
    def check_place(path: Path, folder: Path | None) -> None:
        """Refuse a place where no seal of a folder may be written; see :meth:`write`."""
        if path.suffix.lower() != ".json":
            raise OptionError(f"{path}: a seal is JSON, end its name in .json")
        if folder is not None and path.resolve().is_relative_to(folder.resolve()):
            raise OptionError(f"{path}: lies in {folder}, which it seals: give it a place outside")
        if path.exists():
            raise FileError(f"{path} exists, and a seal is never replaced: choose another name")

    def write(self, path: str | Path) -> Path:
        """Write the seal as JSON, whole or not at all; equal folders give equal bytes.

        Raises
        ------
        OptionError
            If the name does not end in ``.json``, or lies in the folder that is sealed.
        FileError
            If the file exists: a seal is never replaced.
        """
        path = Path(path)
        self.check_place(path, self.folder)
        rows = {file.name: {"bytes": file.size, "sha256": file.sha256} for file in self.files}
        content = {"made_by": "larun", "format": FORMAT, "head": self.head, "files": rows}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", encoding="ascii")
        return path

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """A seal that was written.

        Raises
        ------
        FileError
            If it cannot be read, is no seal, or one of a newer larun.
        CorruptProduct
            If its head does not follow from its files.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise FileError(f"{path} is no seal of larun: it is not JSON ({error})") from error
        try:
            if content["format"] > FORMAT:
                raise FileError(
                    f"{path} has format {content['format']}, this larun reads {FORMAT}: install a newer one"
                )
            made = cls(files=[Sealed(name, row["bytes"], row["sha256"]) for name, row in content["files"].items()])
            head = content["head"]
        except (KeyError, TypeError, AttributeError) as error:
            raise FileError(f"{path} is no seal of larun ({error!r})") from error
        if not all(type(file.size) is int and _HEX.fullmatch(str(file.sha256)) for file in made.files):
            raise FileError(f"{path} is no seal of larun: its files have no sizes and digests")
        if made.head != head:
            raise CorruptProduct(
                f"{path}: its head does not follow from its files: it was changed; take it from a copy"
            )
        return made


def _digested(folder: Path, name: str) -> Sealed:
    path = folder / name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Sealed(name, file.tell(), digest)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
