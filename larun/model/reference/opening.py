"""The one door to reference catalogues: files, tables, stores, services; and the stars of a field from any of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from larun.errors import OptionError
from larun.model.reference.online import is_service, service
from larun.model.reference.reading import stars_of_table
from larun.model.reference.stars import ReferenceCatalog, ReferenceStars

__all__ = ["opened", "reference_stars"]

_MARGIN = 0.1  # degrees: no star moves so far within a century from the epoch of a catalogue


def opened(what: Any, given: Mapping[str, Any], options: Mapping[str, Any]) -> ReferenceCatalog:
    """See :meth:`larun.ReferenceCatalog.open`; ``given`` holds what was said of the columns."""
    if isinstance(what, ReferenceCatalog):
        if given or options:
            said = ", ".join([*given, *options])
            raise OptionError(f"{what!r} is open already: {said} can be given only when a file or table is opened")
        return what
    if isinstance(what, str) and is_service(what) and not Path(what).exists():
        return service(what, given, options)
    if options:
        raise OptionError(f"no option {', '.join(options)}: there are columns, name, systems and epoch")
    if isinstance(what, str | os.PathLike):
        path = Path(what)
        if path.is_dir():
            return _from_folder(path, given)
        return _from_file(path, {"name": path.name, **given})
    return stars_of_table(what, given, "table")


def _from_folder(path: Path, given: Mapping[str, Any]) -> ReferenceCatalog:
    from larun.model.reference.store import ReferenceStore

    if given:
        raise OptionError(f"{path} is a store: {', '.join(given)} can be given only when it is built")
    return ReferenceStore.read(path)


def _from_file(path: Path, given: Mapping[str, Any]) -> ReferenceStars:
    from larun.io.anytable import read_any_table

    return stars_of_table(read_any_table(path), given, str(path))


def reference_stars(reference: Any, ra: float, dec: float, radius: float, year: float | None) -> ReferenceStars:
    """The stars of a reference within a circle, where they are at a time, in an order that no file decides.

    Parameters
    ----------
    reference : object
        Whatever :meth:`larun.ReferenceCatalog.open` takes.
    ra, dec, radius : float
        Degrees.
    year : float or None
        Julian year of the middle of the exposure; None leaves the stars where they are listed.

    Raises
    ------
    OptionError, FileError, MissingExtra
        As :meth:`larun.ReferenceCatalog.open`.
    CatalogError
        If stars move and their epoch is not known.
    """
    catalog = ReferenceCatalog.open(reference)
    wide = catalog.cone(ra, dec, radius + _MARGIN)
    if not isinstance(wide, ReferenceStars):
        raise OptionError(
            f"{catalog!r}: cone gave a {type(wide).__name__}: must be ReferenceStars, which ReferenceCatalog.open "
            "makes of a table"
        )
    moved = wide if year is None else wide.at(year)
    return moved.cone(ra, dec, radius).ordered()
