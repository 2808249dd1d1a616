"""What a product was made from, and whether that is still there: raw files, masters, the frame of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from larun.errors import FileError, LarunError
from larun.model.auditing.looking import MASTER, Finding, Looked, look
from larun.model.raw.exposures import SUFFIXES
from larun.provenance import Provenance

__all__ = ["Around", "inputs"]

#: Folders that a reduction lays out beside each other.
_LAID_OUT = ("masters", "frames", "catalogs")
_MEASURE = ("detect", "forced_photometry")
_FEW = 3


class Around:
    """What lies around audited files: products by the ids of their provenance, raw files by their digests.

    Parameters
    ----------
    looked : iterable of Looked
        The files that are audited.
    raw : sequence of Path
        Folders of raw files, and of products of other nights.

    Raises
    ------
    FileError
        If a folder does not exist.
    """

    def __init__(self, looked: Iterable[Looked], raw: Sequence[Path]) -> None:
        for folder in raw:
            if not folder.is_dir():
                raise FileError(f"{folder}: no such folder: name where the raw files are")
        self.raw = tuple(raw)
        self._products = {item.path: item for item in looked}
        self._ids = {item.provenance.id for item in self.products if item.provenance is not None}
        self._inside: set[Path] = set()
        self._lost: dict[str, str] = {}
        self._find: Callable[[Provenance], object] | None = None

    @property
    def products(self) -> tuple[Looked, ...]:
        """All that are known so far."""
        return tuple(self._products.values())

    def has(self, identity: str, beside: Path | None) -> bool:
        """Whether an intact product of this id is known, or lies in a folder, or among the raw files."""
        for folder in (beside, *self.raw):
            if identity not in self._ids and folder is not None:
                self._look_into(folder)
        return identity in self._ids

    def _look_into(self, folder: Path) -> None:
        if folder in self._inside:
            return
        self._inside.add(folder)
        from larun.io.product import is_product

        for path in sorted(path for path in folder.rglob("*") if path.name.lower().endswith(SUFFIXES)):
            if path not in self._products and path.is_file() and is_product(path):
                item = look(path, path.name)
                self._products[path] = item
                self._ids |= set() if item.provenance is None else {item.provenance.id}

    def lost(self, node: Provenance) -> str:
        """Why the raw file of a root is not found; empty where it is."""
        if node.id not in self._lost:
            from larun.model.replay.raws import RawFiles

            if self._find is None:
                self._find = RawFiles(self.raw).find
            try:
                self._find(node)
            except LarunError as error:
                self._lost[node.id] = str(error)
            except Exception as error:  # a forged record may say anything of a raw file
                self._lost[node.id] = f"raw file {node.root and node.root.name}: cannot be looked for ({error!r})"
            else:
                self._lost[node.id] = ""
        return self._lost[node.id]


def inputs(item: Looked, around: Around) -> Iterator[Finding]:
    """Raw files, masters and frames that the record of a file names and that are not there, or no longer the same."""
    if item.provenance is None:
        return
    yield from _raw_files(item.provenance, around)
    for node in item.provenance.walk():
        if node is not item.provenance and node.step is not None and node.step.operation.startswith(MASTER):
            yield from _master(item, node, around)
    if item.kind == "table":
        yield from _frame(item, around)


def _raw_files(provenance: Provenance, around: Around) -> Iterator[Finding]:
    if not around.raw:
        return
    why = {}
    for node in provenance.walk():
        if node.root is not None and node.root.kind == "memory":
            yield Finding("note", "it begins with arrays in memory, which no file holds")
        elif node.root is not None and (told := around.lost(node)):
            why[node.root.name] = told
    if not why:
        return
    first, *others = sorted(why)
    count = f"{len(others)} {'other' if len(others) == 1 else 'others'}"
    more = f"; nor are {count}: {', '.join(others[:_FEW])}{' …' if len(others) > _FEW else ''}"
    yield Finding("missing", why[first] + (more if others else ""))


def _beside(item: Looked, name: str) -> Path | None:
    """A folder of the layout that a file belongs to; None where it belongs to none."""
    parent = item.path.parent if item.path.parent.name else item.path.absolute().parent
    folder = parent.parent / name
    return folder if parent.name in _LAID_OUT and folder.is_dir() else None


def _master(item: Looked, node: Provenance, around: Around) -> Iterator[Finding]:
    assert node.step is not None
    folder = _beside(item, "masters")
    if around.has(node.id, folder):
        return
    what = f"{node.step.operation.removeprefix(MASTER)} master {node.id[:12]}"
    raws = _exposures(node)
    for other in around.products:
        record = other.provenance
        step = None if record is None else record.step
        if (
            record is not None
            and step is not None
            and step.operation == node.step.operation
            and raws & _exposures(record)
        ):
            yield Finding("stale", f"{what} was made again since, as {other.name}: larun reduce makes this one anew")
            return
    if folder is not None or around.raw:
        places = ", ".join(str(place) for place in (folder, *around.raw) if place is not None)
        yield Finding("missing", f"{what} is not in {places}{_damaged(folder, around)}")


def _frame(item: Looked, around: Around) -> Iterator[Finding]:
    """The image that a catalogue was measured on."""
    assert item.provenance is not None
    line = list(item.provenance.line())
    begun = [n for n, node in enumerate(line) if node.step is not None and node.step.operation in _MEASURE]
    folder = _beside(item, "frames")
    if not begun or folder is None or begun[-1] + 1 == len(line):
        return
    frame, own = line[begun[-1] + 1], _raw_keys(line[-1])
    if around.has(frame.id, folder):
        return
    for other in around.products:
        record = other.provenance
        if record is None or other.kind != "image" or other.path.parent != folder:
            continue
        if own & _raw_keys(list(record.line())[-1]):
            yield Finding(
                "stale", f"frame {frame.id[:12]} was made again since, as {other.name}: larun reduce measures it anew"
            )
            return
    yield Finding("missing", f"frame {frame.id[:12]} is not in {folder}{_damaged(folder, around)}")


def _damaged(folder: Path | None, around: Around) -> str:
    """What may have been the product that is not found."""
    names = [item.path.name for item in around.products if item.path.parent == folder and item.provenance is None]
    return f", where {', '.join(names[:_FEW])} cannot be verified" if names else ""


def _exposures(master: Provenance) -> frozenset[tuple[str, str]]:
    """The raw files that a master combines, without those of the masters it used."""
    return frozenset().union(*(_raw_keys(p.provenance) for p in master.parents if p.role == "frame"))


def _raw_keys(provenance: Provenance) -> frozenset[tuple[str, str]]:
    """The files that a record ends in: digests of their pixels and headers, whatever was said of them."""
    return frozenset((str(root.pixels), root.header) for root in provenance.roots())
