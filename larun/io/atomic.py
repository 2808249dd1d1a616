"""Files appear whole or not at all, and nothing that larun did not make is ever replaced."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from larun.errors import FileError

__all__ = ["atomic_path", "check_target", "made_by_larun"]


def made_by_larun(path: str | Path) -> bool:
    """Whether a file says that larun wrote it.

    That is ``LARUNFMT`` in a FITS header, the word larun near the top of a text or in the footer of a Parquet file. An
    empty file holds nothing to lose and counts as ours.
    """
    with Path(path).open("rb") as file:
        start = file.read(4096)
        if start.startswith(b"PAR1"):
            return b"larun_sha256" in _parquet_footer(file)
        if start.startswith(b"# %ECSV"):  # column descriptions come before the metadata that names us
            start += file.read()
    if start.startswith(b"SIMPLE  ="):
        return b"LARUNFMT=" in start[:2880]
    return not start or b"larun" in start


def _parquet_footer(file: IO[bytes]) -> bytes:
    """The metadata at the end of a Parquet file; empty when the end is damaged."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little") + 8
    if file.read(4) != b"PAR1" or length > size:
        return b""
    file.seek(size - length)
    return file.read()


def check_target(
    path: str | Path, *, overwrite: bool = False, replaceable: Callable[[Path], bool] = made_by_larun
) -> Path:
    """The path, if it may be written; ``replaceable`` judges what may be overwritten at all.

    Raises
    ------
    FileError
        If its folder is missing, if it exists and ``overwrite`` is False, or if it exists and larun did not make it.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileError(f"{path} cannot be written: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise FileError(f"{path} cannot be written: it is a folder")
    if path.exists():
        if not overwrite:
            raise FileError(f"{path} exists: choose another name, or say overwrite=True")
        if not replaceable(path):
            raise FileError(f"{path} exists and is not a product of larun: it is never replaced; choose another name")
    return path


@contextlib.contextmanager
def atomic_path(
    path: str | Path, *, overwrite: bool = False, replaceable: Callable[[Path], bool] = made_by_larun
) -> Iterator[Path]:
    """A temporary name to write to; it takes the place of ``path`` once the block ends without an error.

    The temporary file lies in the same folder, and file and folder are synced to disk: after a power cut there is the
    old file or the new one, never a part. If the block raises, the temporary file is removed.

    Raises
    ------
    FileError
        As :func:`check_target`, and if the disk refuses.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("made by larun")
    >>> target.read_text()
    'made by larun'
    """
    path = check_target(path, overwrite=overwrite, replaceable=replaceable)
    _sweep(path)
    temporary = path.with_name(f".{path.name[:64]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        check_target(path, overwrite=overwrite, replaceable=replaceable)  # another process may have been faster
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what a killed process left of this file; a process that lives is still at work on its own."""
    for left in path.parent.glob(f".{glob.escape(path.name[:64])}.*.tmp"):
        owner = left.name.rsplit(".", 2)[-2].partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # no harmless signal there: leave the file
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot sync folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
