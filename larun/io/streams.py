"""Files as plain bytes: a compressed file is unpacked once, into a temporary file that vanishes when it is closed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

from larun.errors import FileError

__all__ = ["allow_open_files", "open_plain", "opener_of", "read_at", "read_start"]

_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}

_POSITION = threading.Lock()

#: What the compression modules raise for damaged input.
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)


def opener_of(path: str | Path) -> Callable[..., Any] | None:
    """The function that opens a compressed file (gzip, bzip2, xz: told by its first bytes); None for any other file.

    Raises
    ------
    FileError
        If the file is missing, is a folder, is empty or cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path} is a folder: give a file")
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist: check the name and the folder") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start:
        raise FileError(f"{path} is empty (0 bytes): copy it again from its source")
    return next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)


def allow_open_files(count: int) -> None:
    """Raise the limit of open files of this process, as far as the system lets it, so that so many fit beside the rest.

    Raises
    ------
    FileError
        If the system does not let it.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system: its limit is its own
        return
    needed = count + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise FileError(
            f"{count} files must be open at once and the system allows {hard}: combine fewer frames at a time, raise "
            "the limit (ulimit -n), or give more memory (max_memory), so that files need not stay open"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def read_at(file: IO[bytes], buffer: memoryview, offset: int) -> int:
    """Fill a buffer with the bytes from ``offset`` on, whoever else reads the file meanwhile; how many there were."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], offset)
    with _POSITION:  # a system without positioned reads
        file.seek(offset)
        part = file.read(len(buffer))
    buffer[: len(part)] = part
    return len(part)


def open_plain(path: str | Path) -> IO[bytes]:
    """The uncompressed bytes of a file, seekable; compressed input costs disk (in the temporary folder), not memory.

    Raises
    ------
    FileError
        If the file is missing, empty, not readable, or its compressed stream is damaged.
    """
    opener = opener_of(path)
    if opener is None:
        return Path(path).open("rb")
    try:
        with tempfile.TemporaryFile() as plain, opener(path, "rb") as packed:
            shutil.copyfileobj(packed, plain, 1 << 20)
            plain.seek(0)
            return os.fdopen(os.dup(plain.fileno()), "rb")  # read-only, and gone when closed
    except BROKEN as error:
        raise FileError(f"{path}: the compressed stream is damaged or ends early ({error}): copy it again") from error


def read_start(path: str | Path, count: int) -> bytes:
    """The first ``count`` uncompressed bytes of a file (fewer if it is shorter).

    Raises
    ------
    FileError
        As :func:`open_plain`.
    """
    opener = opener_of(path) or open
    try:
        stream: BinaryIO
        with opener(path, "rb") as stream:
            return stream.read(count)
    except BROKEN as error:
        raise FileError(f"{path} cannot be read: {error}") from error
