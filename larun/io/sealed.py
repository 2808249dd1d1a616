"""Files that carry a digest of themselves: the SHA-256 of all their bytes, with zeros in the place of the digest.

Any flipped bit shows, wherever it is, and nothing else has to be written beside the file. What the bytes mean is the
concern of a format (:mod:`larun.io.ecsv`, :mod:`larun.io.parquet`, :mod:`larun.io.votable`); here is what they share.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from larun.errors import CorruptProduct, FileError, LarunError, OptionError
from larun.io.container import Problem
from larun.io.streams import opener_of
from larun.provenance.canonical import text_of

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["UNSEALED", "Sealed", "record_text", "seal_problems", "sealed"]

#: What stands where the digest will be, and what it is computed with.
UNSEALED = "0" * 64


def record_text(record: dict[str, Any]) -> str:
    """A record as canonical JSON.

    Raises
    ------
    OptionError
        If it holds something that is not JSON.
    """
    try:
        return text_of(record)
    except (TypeError, ValueError) as error:
        raise OptionError(f"the record cannot be written as JSON: {error}") from error


def sealed(content: bytes, seal: re.Pattern[bytes]) -> bytes:
    """The content with its digest in the first place of the pattern that holds :data:`UNSEALED`."""
    place = next(found for found in seal.finditer(content) if found[1] == UNSEALED.encode())
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[: place.start(1)] + digest + content[place.end(1) :]


def seal_problems(content: bytes, seal: re.Pattern[bytes], name: str) -> list[Problem]:
    """What is wrong with the bytes of a file that carries a digest of itself: nothing, or that it was changed."""
    places = list(seal.finditer(content))
    if not places:
        detail = "carries no digest of larun: it was not written by larun, or was changed"
        return [Problem(name, "digests", detail)]
    for place in places:  # a description may quote what looks like a digest
        blank = content[: place.start(1)] + UNSEALED.encode() + content[place.end(1) :]
        if hashlib.sha256(blank).hexdigest().encode() == place[1]:
            return []
    return [Problem(name, "data", "the file was changed after it was written")]


class Sealed(NamedTuple):
    """A format whose files carry a digest of themselves."""

    name: str
    """What people call it."""
    suffixes: tuple[str, ...]
    starts: Callable[[bytes], bool]
    """Whether the first bytes of a file are this format's."""
    seal: re.Pattern[bytes]
    """Where the digest stands; its one group is the digest."""
    encode: Callable[[QTable, str], bytes]
    """Table and text of the record to bytes, with :data:`UNSEALED` in the digest's place."""
    decode: Callable[[bytes], tuple[QTable, dict[str, Any]]]
    record: Callable[[bytes], dict[str, Any]]
    """The record alone, without the table."""
    text: bool = False
    """Whether line ends may be changed by a version control system."""

    def write(self, path: Path, table: QTable, record: dict[str, Any]) -> None:
        """Write to a path that does not exist yet."""
        path.write_bytes(sealed(self.encode(table, record_text(record)), self.seal))

    def verify(self, path: Path) -> list[Problem]:
        """What is wrong with a file: nothing, or that it was changed."""
        return self._problems(self._bytes(path))

    def read(self, path: Path, *, verify: bool) -> tuple[QTable, dict[str, Any]]:
        """The table and its record.

        Raises
        ------
        FileError
            If larun did not write the file, or it cannot be understood.
        CorruptProduct
            If it was changed since it was written.
        """
        content = self._bytes(path)
        if b"larun" not in content:
            raise FileError(
                f"{path} was not written by larun: read it with astropy.table and bring it in with "
                "larun.SourceCatalog.from_table(table)"
            )
        if verify and (problems := self._problems(content)):
            raise CorruptProduct(
                f"{path} does not agree with its own digest ({problems[0].detail}): take it from a copy, or make it "
                "again; verify=False reads it as it is"
            )
        try:
            return self.decode(content)
        except LarunError:
            raise
        except Exception as error:  # astropy, yaml, arrow and expat raise many kinds
            raise FileError(f"{path} is not a catalogue of larun that can be read ({error})") from error

    def _bytes(self, path: Path) -> bytes:
        if opener_of(path) is not None:
            raise FileError(f"{path} is compressed: unpack it first")
        content = path.read_bytes()
        return content.replace(b"\r\n", b"\n") if self.text else content

    def _problems(self, content: bytes) -> list[Problem]:
        return seal_problems(content, self.seal, self.name)

    def examine(self, content: bytes) -> tuple[list[Problem], dict[str, Any] | None]:
        """What is wrong with the bytes of a file, and its record, without the table, if nothing is.

        Raises
        ------
        FileError
            If the record cannot be understood.
        MissingExtra
            If a package is needed to find the record and is not installed.
        """
        plain = content.replace(b"\r\n", b"\n") if self.text else content
        if problems := self._problems(plain):
            return problems, None
        try:
            return [], self.record(plain)
        except LarunError:
            raise
        except Exception as error:  # astropy, yaml, arrow and expat raise many kinds
            raise FileError(f"its record cannot be read ({error})") from error
