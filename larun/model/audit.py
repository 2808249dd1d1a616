"""Whether products are what they were when they were written, and whether what they were made from is still there.

Bytes are compared with digests, records with themselves and with the pixels they tell of, and the files that a record
names are looked for by what is in them. Nothing is computed again but the windows that are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from larun.errors import FileError
from larun.io.examined import is_auditable
from larun.io.seal import Seal, Sealing
from larun.model.auditing.inputs import Around, inputs
from larun.model.auditing.looking import Finding, Looked, look, look_at_bytes
from larun.model.auditing.spots import spots
from larun.model.auditing.versions import versions

__all__ = ["STATUSES", "Audit", "FileAudit", "audit", "audit_bytes"]

#: Verdicts, the worst first. A file gets one.
STATUSES = ("changed", "missing", "stale", "unverifiable", "padding only", "intact")
_GOOD = ("padding only", "intact")


@attrs.frozen(kw_only=True)
class FileAudit:
    """The verdict on one file.

    Parameters
    ----------
    name : str
        The file, within the folder that was audited.
    kind : str
        ``image``, ``table``, ``summary``, ``regions``; empty where that cannot be told.
    status : str
        ``intact``: every byte is as it was written, the record follows from itself and fits, and what it names is
        there as far as it was looked for. ``padding only``: bytes that nothing reads were changed. ``changed``: the
        file is not what was written. ``missing``: a raw file or a product that it was made from is not found.
        ``stale``: made from a product that was made again since. ``unverifiable``: nothing can be said.
    reasons : tuple of str
        What was found, for every verdict but ``intact``.
    notes : tuple of str
        Worth knowing, and no fault of the file: other versions, another machine.
    id : str
        Id of its provenance; empty where it has none that can be believed.

    Examples
    --------
    >>> print(FileAudit(name="frames/a.fits", kind="image", status="changed", reasons=("SCI: the data were changed",)))
    frames/a.fits: changed: SCI: the data were changed
    """

    name: str
    kind: str = ""
    status: str = "intact"
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    id: str = ""

    @property
    def good(self) -> bool:
        """Whether everything that a reader looks at is as it was written."""
        return self.status in _GOOD

    def __str__(self) -> str:
        return ": ".join(part for part in (self.name, self.status, "; ".join(self.reasons)) if part)


@attrs.frozen(kw_only=True)
class Audit:
    """The verdicts on the products of a folder, or on one.

    Parameters
    ----------
    path : Path
        What was audited.
    files : tuple of FileAudit
        One for each product, in order of name.
    others : tuple of str
        Files that cannot carry digests: only a seal vouches for them.
    seal : Sealing or None
        What a comparison with a seal has found.
    """

    path: Path
    files: tuple[FileAudit, ...]
    others: tuple[str, ...] = ()
    seal: Sealing | None = None

    @property
    def faults(self) -> tuple[FileAudit, ...]:
        """The files that are not intact, the worst first."""
        return tuple(sorted((file for file in self.files if not file.good), key=lambda f: STATUSES.index(f.status)))

    @property
    def good(self) -> bool:
        """Whether every file is, and the seal, if one was given, fits."""
        return all(file.good for file in self.files) and (self.seal is None or self.seal.good)

    @property
    def counts(self) -> dict[str, int]:
        """How many files there are of each verdict, the worst first."""
        found = Counter(file.status for file in self.files)
        return {status: found[status] for status in STATUSES if found[status]}

    @property
    def notes(self) -> dict[str, int]:
        """Every note once, and the number of files it concerns."""
        return dict(Counter(note for file in self.files for note in file.notes))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "path": str(self.path),
            "good": self.good,
            "counts": self.counts,
            "files": [attrs.asdict(file) for file in self.files],
            "others": list(self.others),
            "seal": None if self.seal is None else self.seal.to_dict(),
        }

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[FileAudit]:
        return iter(self.files)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        return f"{len(self.files)} {'file' if len(self.files) == 1 else 'files'}: {counts or 'none'}"


def audit(
    path: str | Path,
    *,
    raw: str | Path | Iterable[str | Path] = (),
    seal: str | Path | None = None,
    spot: int = 0,
    seed: int | None = None,
) -> Audit:
    """Verify a product, or all products of a folder.

    Every byte is compared with its digests; every id of the record is computed again; class, unit, shape and shared
    noise must fit the record; masters and frames that a record names are looked for, by their ids, in the folder and
    beside the file, raw files by the digests of their pixels and headers in the folders of ``raw``.

    Parameters
    ----------
    path : path
        A product (image, catalogue, region file, summary) or a folder; hidden files are left out.
    raw : path or paths
        Folders that hold the raw files, under whatever names, and products of other nights that were used.
    seal : path, optional
        A seal of the folder (:meth:`larun.Seal.write`) to compare it with.
    spot : int
        How many windows of images are computed again from the raw files, at random places: it shows what digests
        cannot, a file that was changed and sealed anew.
    seed : int, optional
        Decides the places; by default nobody knows them beforehand.

    Returns
    -------
    Audit
        Whatever is wrong with a file becomes its verdict, never an error.

    Raises
    ------
    FileError
        If the file or folder does not exist, or holds no product; if the seal cannot be read.

    Examples
    --------
    >>> import larun
    >>> print(larun.audit("out/"))  # doctest: +SKIP
    38 files: 38 intact
    """
    path = Path(path)
    sealing = None if seal is None else Seal.read(seal).compare(path)
    files, others = _files(path)
    base = path if path.is_dir() else path.parent
    looked = [look(file, file.relative_to(base).as_posix()) for file in files]
    folders = [Path(raw)] if isinstance(raw, str | Path) else [Path(folder) for folder in raw]
    around = Around(looked, folders)
    spotted = spots(looked, spot, folders, seed)
    verdicts = (
        _verdict(item, (*inputs(item, around), *versions(item), *spotted.get(item.path, ()))) for item in looked
    )
    return Audit(path=path, files=tuple(verdicts), others=others, seal=sealing)


def audit_bytes(name: str, content: bytes) -> FileAudit:
    """The verdict on the bytes of one file, by themselves; its name tells the format.

    Examples
    --------
    >>> print(audit_bytes("stars.reg", b"circle(1,2,3)"))
    stars.reg: unverifiable: was not written by larun: carries no digest
    """
    return _verdict(look_at_bytes(name, content), ())


def _files(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """What there is to audit, and what beside it cannot be."""
    if path.is_file():
        return [path], ()
    if not path.is_dir():
        raise FileError(f"{path} does not exist: give a product or a folder of products")
    found = [(name, path / name) for name in Seal.names(path)]
    products = [file for name, file in found if is_auditable(name)]
    if not products:
        raise FileError(f"{path}: holds no product of larun: give the folder that larun reduce wrote to")
    return products, tuple(name for name, _ in found if not is_auditable(name))


def _verdict(item: Looked, more: Iterable[Finding]) -> FileAudit:
    findings = (*item.findings, *more)
    faults = sorted((f for f in findings if f.status != "note"), key=lambda f: STATUSES.index(f.status))
    return FileAudit(
        name=item.name,
        kind=item.kind,
        status=faults[0].status if faults else "intact",
        reasons=tuple(finding.what for finding in faults),
        notes=tuple(dict.fromkeys(finding.what for finding in findings if finding.status == "note")),
        id=item.provenance.id if item.provenance is not None else "",
    )
