"""What lies in a folder: every raw file with its kind, and the evidence for it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from larun.errors import FileError, LarunError, OptionError
from larun.model import registry
from larun.model.raw.opening import Opened, RawPart, open_all

__all__ = ["SUFFIXES", "Exposure", "examine", "find", "names_for", "slug", "stem_of"]

SUFFIXES = tuple(base + packed for base in (".fits", ".fit", ".fts") for packed in ("", ".fz", ".gz"))


@attrs.frozen(kw_only=True)
class Exposure:
    """One raw exposure of a night: a file, or one detector or colour channel of it.

    Parameters
    ----------
    part : RawPart
        The file, and which part of it.
    kind : str
        ``bias``, ``dark``, ``flat``, ``science``, ``other`` (a table), or ``unreadable``.
    evidence : str
        Why it was taken for that, or why it cannot be read.
    camera : type or None
        The class that reads it.
    object, filter, exposure, instrument, date, temperature
        From the header; None when it does not say.
    mid_time : str or None
        The middle of the exposure in UTC, see :class:`larun.model.time.timing.ExposureTime`.
    airmass : float or None
        As stated, else as computed.
    criteria : mapping
        What masters are matched on.
    """

    part: RawPart
    kind: str
    evidence: str
    camera: type[Any] | None = None
    object: str | None = None
    filter: str | None = None
    exposure: float | None = None
    instrument: str | None = None
    date: str | None = None
    temperature: float | None = None
    mid_time: str | None = None
    airmass: float | None = None
    criteria: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.part.path

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "part": self.part.label,
            "kind": self.kind,
            "filter": self.filter,
            "exposure": self.exposure,
            "instrument": self.instrument,
            "object": self.object,
            "date": self.date,
            "mid_time": self.mid_time,
            "airmass": self.airmass,
            "temperature": self.temperature,
            "binning": self.criteria.get("binning"),
            "size": self.criteria.get("size"),
            "camera": self.camera.__name__ if self.camera else None,
            "evidence": self.evidence,
        }


def find(folder: Path) -> tuple[Path, ...]:
    """The FITS files under a folder that are not products of larun, in order of path; hidden folders are left out.

    Raises
    ------
    FileError
        If the folder does not exist or holds no FITS file.
    """
    from larun.io.product import is_product

    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(SUFFIXES)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and not is_product(path)
    )
    if not found:
        raise FileError(f"{folder}: holds no raw FITS files ({', '.join(SUFFIXES)})")
    return tuple(found)


def examine(path: Path, base: type[Any], given: Mapping[str, Any]) -> tuple[Exposure, ...]:
    """Classify what a file holds by its headers; a file that cannot be read says why and stops nothing."""
    from larun.io.raw import NoImage

    try:
        return tuple(_examine(found) for found in open_all(path, base, given))
    except OptionError:
        raise  # what was given makes no sense for any file
    except NoImage:
        return (Exposure(part=RawPart(path), kind="other", evidence="holds no image"),)
    except LarunError as error:
        return (Exposure(part=RawPart(path), kind="unreadable", evidence=str(error)),)


def _examine(found: Opened) -> Exposure:
    part, camera, header = found.part, found.camera, found.header
    kind, evidence = registry.ask(camera, "classify", str(part), header)
    values = {
        name: camera.quantity_of(header, name)
        for name in ("object", "filter", "exposure", "instrument", "date", "temperature")
    }
    time = registry.ask(camera, "time_for", str(part), header)
    return Exposure(
        part=part,
        kind=kind,
        evidence=evidence,
        camera=camera,
        mid_time=time.mid_text,
        airmass=time.airmass,
        criteria=camera.criteria_from(header, found.detector),
        **values,
    )


def stem_of(path: Path) -> str:
    """File name without FITS suffixes, safe as a name."""
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return slug(name[: -len(suffix)])
    return slug(name)


def names_for(paths: Sequence[Path], labels: Sequence[str] = ()) -> tuple[str, ...]:
    """A name of its own for each of some paths within a folder: the stem, with the subfolders where that is not enough.

    Parameters
    ----------
    paths : sequence of Path
        Within the folder.
    labels : sequence of str, optional
        For each of them what tells parts of one file apart.

    Examples
    --------
    >>> names_for([Path("a.fits"), Path("x/b.fits"), Path("y/b.fits"), Path("y-b.fits")])
    ('a', 'x-b', 'y-b', 'y-b-2')
    >>> names_for([Path("a.fits"), Path("a.fits")], ["S1", "S2"])
    ('a-S1', 'a-S2')
    """
    ends = [f"-{label}" if label else "" for label in labels] or [""] * len(paths)
    stems = [slug(f"{stem_of(path)}{end}") for path, end in zip(paths, ends, strict=True)]
    names: list[str] = []
    for path, stem in zip(paths, stems, strict=True):
        name = stem if stems.count(stem) == 1 else slug("-".join([*path.parent.parts, stem]))
        free = (f"{name}-{number}" for number in itertools.count(2))
        names.append(name if name not in names else next(other for other in free if other not in names))
    return tuple(names)


def slug(text: str) -> str:
    """Header text as part of a file name: letters, digits, dot, dash and underscore only, never a path or an option."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text.strip())
    return safe.lstrip(".-")[:80] or "unnamed"
