"""Catalogues on disk: one function to write, one to read, one to verify; the suffix chooses the format.

A format is an object with a ``name``, its ``suffixes``, and how to tell, write, read and verify its files. All keep
units, descriptions, metadata, the record and every bit of the numbers, and all their files carry their digests.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from larun.errors import FileError, OptionError
from larun.io.atomic import atomic_path, check_target
from larun.io.cards import quiet
from larun.io.container import Problem
from larun.io.ecsv import ECSV
from larun.io.fits_table import FITS
from larun.io.parquet import PARQUET
from larun.io.streams import opener_of
from larun.io.votable import VOTABLE

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = [
    "FORMATS",
    "TableFormat",
    "format_of",
    "is_table_suffix",
    "read_plain",
    "read_table",
    "verify_table",
    "write_table",
]


class TableFormat(Protocol):
    """What a format of tables offers."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of file names, the usual one first."""

    @property
    def starts(self) -> Any:
        """Whether the first bytes of a file are this format's."""

    def write(self, path: Path, table: QTable, record: dict[str, Any]) -> None:
        """Write to a path that does not exist yet."""

    def read(self, path: Path, *, verify: bool) -> tuple[QTable, dict[str, Any]]:
        """The table and its record."""

    def verify(self, path: Path) -> list[Problem]:
        """What is wrong with a file."""


#: Every format; a new one is a module beside this and a place in this list.
FORMATS: tuple[TableFormat, ...] = (ECSV, FITS, PARQUET, VOTABLE)
_BY_SUFFIX = {suffix: known for known in FORMATS for suffix in known.suffixes}


def is_table_suffix(path: str | Path) -> bool:
    """Whether a name ends as only a table's does (``.fits`` may be an image)."""
    suffix = Path(path).suffix.lower()
    return suffix in _BY_SUFFIX and suffix not in FITS.suffixes


def format_of(path: str | Path) -> TableFormat:
    """The format that a suffix stands for.

    Raises
    ------
    OptionError
        If it stands for none.

    Examples
    --------
    >>> format_of("stars.vot").name
    'VOTable'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _BY_SUFFIX:
        ways = ", ".join(f"{known.suffixes[0]} ({known.name})" for known in FORMATS)
        raise OptionError(f"{path}: a catalogue is written as {ways}, not {suffix!r}")
    return _BY_SUFFIX[suffix]


def read_plain(path: str | Path) -> QTable | None:
    """A table that carries no record of larun, as astropy reads it; None where the file does carry one.

    Raises
    ------
    FileError
        If the file is missing, or astropy cannot read it.
    """
    path = Path(path)
    chosen = _checked(path)
    if opener_of(path) is None and b"larun_sha256" in path.read_bytes():
        return None
    from astropy.table import QTable

    formats = {ECSV.name: "ascii.ecsv", PARQUET.name: "parquet", VOTABLE.name: "votable", FITS.name: "fits"}
    try:
        with quiet():
            return QTable.read(path, format=formats[chosen.name])
    except Exception as error:  # astropy, yaml, arrow and expat raise many kinds
        raise FileError(f"{path} cannot be read as {chosen.name} ({error})") from error


def write_table(path: str | Path, table: QTable, record: dict[str, Any], *, overwrite: bool = False) -> None:
    """Write a catalogue with its record; the suffix chooses the format.

    Parameters
    ----------
    path : path
        Where to; appears whole or not at all.
    table : QTable
        Columns of numbers, truth values and text, also quantities, times and sky coordinates; for ``.fits`` its
        ``meta`` must be JSON-able.
    record : dict
        JSON-able; no NaN. Its ``class`` is shown in ``LARUNCLS`` of a FITS file.
    overwrite : bool
        Replace a file of larun; any other file is never replaced.

    Raises
    ------
    FileError
        If the path may not be written.
    OptionError
        If the suffix is another, the record is not JSON, or the format cannot hold a column.
    MissingExtra
        If the format needs a package that is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from astropy.table import QTable
    >>> path = Path(tempfile.mkdtemp()) / "stars.ecsv"
    >>> write_table(path, QTable({"flux": [1.5, 2.5]}), {"class": "SourceCatalog"})
    >>> table, record = read_table(path)
    >>> table["flux"].tolist(), record
    ([1.5, 2.5], {'class': 'SourceCatalog'})
    """
    path = Path(path)
    chosen = format_of(path)
    check_target(path, overwrite=overwrite)
    with atomic_path(path, overwrite=overwrite) as temporary:
        try:
            chosen.write(temporary, table, record)
        except OptionError as error:
            raise OptionError(f"{path}: {error}") from error


def read_table(path: str | Path, *, verify: bool = True) -> tuple[QTable, dict[str, Any]]:
    """Read a catalogue and its record.

    Parameters
    ----------
    path : path
        Written by :func:`write_table`.
    verify : bool
        Compare the file with its digests first.

    Raises
    ------
    FileError
        If the file is missing or no catalogue of larun.
    CorruptProduct
        If it was changed since it was written.
    """
    path = Path(path)
    return _checked(path).read(path, verify=verify)


def verify_table(path: str | Path) -> list[Problem]:
    """Compare every byte of a catalogue with its digests: empty when all is as it was written.

    Raises
    ------
    FileError
        If the file is missing, or no catalogue.
    """
    path = Path(path)
    return format_of(path).verify(path)


def _checked(path: Path) -> TableFormat:
    """The format of the suffix, unless the content is plainly another one's."""
    chosen = format_of(path)
    if opener_of(path) is not None:  # a compressed file is the format's concern
        return chosen
    with path.open("rb") as file:
        start = file.read(2880)
    if not chosen.starts(start):
        other = next((known for known in FORMATS if known.starts(start)), None)
        if other is not None:
            raise FileError(f"{path} is {other.name} by its content: rename it to end in {other.suffixes[0]}")
    return chosen
