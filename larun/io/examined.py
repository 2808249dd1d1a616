"""Any file of larun, as far as it vouches for itself: which kind it is, what is wrong with its bytes, what it records.

No pixel and no row is made of it, nothing in it is executed, imported or unpickled, and whatever its bytes are, the
answer is an :class:`Examined`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from larun.errors import FileError, MissingExtra
from larun.io import container
from larun.io.container import FORMAT, Problem
from larun.io.ecsv import ECSV, SUMMARY_SEAL
from larun.io.parquet import PARQUET
from larun.io.product import read_record
from larun.io.regions import REGIONS_SEAL
from larun.io.sealed import Sealed, seal_problems
from larun.io.streams import open_plain
from larun.io.votable import VOTABLE

__all__ = ["Examined", "examine", "examine_bytes", "is_auditable"]

_FITS = (".fits", ".fit", ".fts")
_TABLES: Mapping[str, Sealed] = {suffix: form for form in (ECSV, PARQUET, VOTABLE) for suffix in form.suffixes}
#: Words of larun's own in its files, several in each: no single damaged byte makes one look like another program's.
_MARKS = re.compile(
    rb"larun_sha256|summary_sha256|made_by: larun|written by larun|- larun: \{|larun\.model\."
    rb'|("|&quot;)larun("|&quot;)[:/]'
)
_PACKED = re.compile(r"\.(gz|bz2|xz|fz)$")


class Examined(NamedTuple):
    """What a file says of itself, and whether its bytes bear it out."""

    kind: str
    """``image``, ``table``, ``summary``, ``regions``; empty where it is not known"""
    problems: tuple[Problem, ...] = ()
    """where the bytes do not agree with their digests"""
    why: str = ""
    """what keeps it from being verified at all; empty where nothing does"""
    record: Mapping[str, Any] | None = None
    """of an image or table whose bytes are right"""
    class_name: str = ""
    unit: str = ""
    shape: tuple[int, ...] = ()
    """(ny, nx) of an image"""
    masters: tuple[str, ...] = ()
    """ids in the headers of the planes of shared noise"""
    notes: tuple[str, ...] = ()


def is_auditable(name: str) -> bool:
    """Whether a file of this name can be one that carries digests.

    Examples
    --------
    >>> is_auditable("d1059.fits"), is_auditable("stars.reg"), is_auditable("notes.txt")
    (True, True, False)
    """
    suffix = _suffix(name)
    return suffix in _FITS or suffix in _TABLES or suffix == ".reg"


def _suffix(name: str) -> str:
    return Path(_PACKED.sub("", name.lower())).suffix


def examine(path: Path) -> Examined:
    """What a file on disk says of itself; one that cannot be read says why."""
    try:
        with open_plain(path) as file:
            return _examined(path.name, file)
    except (FileError, OSError) as error:
        return Examined("", why=f"cannot be read: {error}")


def examine_bytes(name: str, content: bytes) -> Examined:
    """What the bytes of a file say; its name tells the format."""
    return _examined(name, io.BytesIO(content))


def _examined(name: str, file: IO[bytes]) -> Examined:
    suffix = _suffix(name)
    if suffix in _FITS:
        return _fits(file)
    content = file.read()
    if suffix == ".reg":
        return _text(content, "regions", REGIONS_SEAL)
    if suffix not in _TABLES:
        return Examined("", why=f"is no file that carries digests ({', '.join((*_FITS[:1], *_TABLES, '.reg'))} do)")
    form = _TABLES[suffix]
    if form is ECSV and (SUMMARY_SEAL.search(content) or not ECSV.seal.search(content)):
        summary = _text(content, "summary", SUMMARY_SEAL)
        if not summary.problems or not ECSV.seal.search(content):
            return summary
    return _table(content, form)


def _told(kind: str, problems: list[Problem], content: bytes) -> Examined:
    """What is wrong with a file of one digest: if it has none, whether larun wrote it, so that it must have one."""
    if problems and problems[0].kind == "digests":
        if _MARKS.search(content) is None:
            return Examined("", why="was not written by larun: carries no digest")
        detail = "carries no digest: it was changed, or written by an earlier larun"
        problems = [Problem(problems[0].hdu, "digests", detail)]
    return Examined(kind, tuple(problems))


def _text(content: bytes, kind: str, seal: re.Pattern[bytes]) -> Examined:
    return _told(kind, seal_problems(content.replace(b"\r\n", b"\n"), seal, kind), content)


def _table(content: bytes, form: Sealed) -> Examined:
    try:
        problems, record = form.examine(content)
    except MissingExtra as error:
        return Examined("table", notes=(f"its record was not looked at: {error}",))
    except FileError as error:
        return Examined("table", (Problem(form.name, "record", str(error)),))
    if not problems and not isinstance(record, dict):
        return Examined("table", (Problem(form.name, "record", "its record is no mapping"),))
    class_name = str(record.get("class", "")) if record else ""
    return _told("table", problems, content)._replace(record=record, class_name=class_name)


def _fits(file: IO[bytes]) -> Examined:
    file.seek(0)
    if b"LARUNFMT=" not in file.read(container.BLOCK) and container.find_digests(file) < 0:
        return Examined("", why="is no product of larun: carries no digests")
    problems = container.verify_file(file)
    if newer := [problem.detail for problem in problems if problem.kind == "format"]:
        return Examined("", why=newer[0])
    if any(problem.kind != "padding" for problem in problems):
        return Examined("", problems)
    try:
        return _product(file, problems)
    except Exception as error:  # its digests are right, so somebody made it so: there is no end of ways
        wrong = Problem(
            "PROVENANCE", "record", f"is no product that can be understood ({type(error).__name__}: {error})"
        )
        return Examined("", (*problems, wrong))


def _product(file: IO[bytes], problems: tuple[Problem, ...]) -> Examined:
    entries = {entry.name: entry for entry in container.layout(file)[0]}
    primary = container.read_header(file, entries["PRIMARY"])
    if primary["LARUNFMT"] > FORMAT:
        newer = f"has format {primary['LARUNFMT']:d}, this larun reads up to {FORMAT}: install a newer larun"
        return Examined("", why=newer)
    notes = read_record(file, entries)
    class_name = str(primary["LARUNCLS"])
    record = notes if "SCI" in entries else notes["record"]
    if not isinstance(record, dict):
        raise TypeError(f"its record is {type(record).__name__}, not a mapping")
    if "SCI" not in entries:
        return Examined("table", problems, record=record, class_name=class_name)
    science = container.read_header(file, entries["SCI"])
    shared = [entry for name, entry in entries.items() if name.startswith("SHARED,")]
    return Examined(
        "image",
        problems,
        record=record,
        class_name=class_name,
        unit=str(science["BUNIT"]),
        shape=tuple(science[f"NAXIS{axis}"] for axis in range(science["NAXIS"], 0, -1)),
        masters=tuple(str(container.read_header(file, entry)["MASTERID"]) for entry in shared),
    )
