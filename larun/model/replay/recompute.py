"""A product made again from the raw files, by its own record."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from larun.errors import FileError, LarunWarning
from larun.model.image import Image
from larun.model.lightcurve import read_tabular
from larun.model.replay.calls import MASTERS, Functions, Input, OnDisk, carry_out, catalog_of
from larun.model.replay.compare import Difference, differences
from larun.model.replay.raws import RawFiles
from larun.model.tabular import Tabular
from larun.provenance import OPERATIONS, Provenance, Step, environment

if TYPE_CHECKING:
    from larun.model.replay.raws import Found

__all__ = ["Replay", "Replayer", "of_other_versions", "products_in", "read_any", "replay"]

_KEPT = 12  # masters that are held at a time: those of a night


@attrs.frozen(kw_only=True)
class Replay:
    """A product beside the same product made again.

    Parameters
    ----------
    product, again : Image, SourceCatalog, LightCurve, PSF or Cutouts
        As it is in the file, and as it was made again.
    differences : tuple of Difference
        Where they differ; empty when all is the same, bit for bit.
    notes : tuple of str
        Why they may: versions of operations, packages and processor, functions of the user's own that changed.
    """

    product: Image | Tabular = attrs.field(repr=False)
    again: Any = attrs.field(repr=False)
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether all is the same, bit for bit."""
        return not self.differences

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        found = [item._asdict() for item in self.differences]
        return {"equal": self.equal, "differences": found, "notes": list(self.notes)}

    def __str__(self) -> str:
        if self.equal:
            return "made again, bit for bit the same" + "".join(f"; {note}" for note in self.notes)
        return "; ".join(["made again, it differs", *map(str, self.differences), *self.notes])


def replay(
    product: Image | Tabular | str | Path,
    raw: Iterable[str | Path] | str | Path = (),
    *,
    functions: Iterable[Callable[..., Any]] = (),
) -> Replay:
    """Make a product again from the raw files, as its record says, and compare.

    Parameters
    ----------
    product : Image, SourceCatalog, LightCurve, PSF, Cutouts or path
        What is made again.
    raw : path or iterable of path
        Folders or files to look for the raw files in, by what is in them; by default where the record says.
    functions : iterable of callable
        Functions of your own that the record names and no module that is loaded holds.

    Returns
    -------
    Replay
        For equal versions and processor the same bits are promised; otherwise ``notes`` say what is not the same.

    Raises
    ------
    NotReplayable
        If a raw file, a camera or a function is missing, or the record does not hold all that decided the product.
    FileError
        If the product cannot be read.

    Examples
    --------
    >>> import larun
    >>> print(larun.replay("out/frames/d1059.fits", raw="raw/"))  # doctest: +SKIP
    made again, bit for bit the same
    """
    return Replayer(raw, functions=functions).replay(product)


class Replayer:
    """Makes products again; what several of them share, their masters, once.

    Parameters
    ----------
    raw, functions
        As for :func:`replay`.
    """

    def __init__(
        self, raw: Iterable[str | Path] | str | Path = (), *, functions: Iterable[Callable[..., Any]] = ()
    ) -> None:
        self.raws = RawFiles([raw] if isinstance(raw, str | Path) else raw)
        self.functions = Functions(functions)
        self._masters: dict[str, Any] = {}

    def replay(self, product: Image | Tabular | str | Path) -> Replay:
        """See :func:`replay`."""
        there = read_any(product) if isinstance(product, str | Path) else product
        self.functions.notes.clear()
        again = self.make(there.provenance)
        notes = [*of_other_versions(there.provenance), *dict.fromkeys(self.functions.notes)]
        found = differences(there, again)
        notes += _surroundings(there) if found else []
        return Replay(product=there, again=again, differences=found, notes=tuple(notes))

    def make(self, record: Provenance) -> Any:
        """The object of a record, made from the raw files.

        Raises
        ------
        NotReplayable, FileError
            As :func:`replay`.
        """
        made: dict[str, Any] = {}
        for node in self._needed(record):
            made[node.id] = self._made(node, made)
            if node.step is not None and node.step.operation in MASTERS:
                self._keep(node.id, made[node.id])
        value = made[record.id]
        return value.read() if isinstance(value, OnDisk) else catalog_of(value)

    def _needed(self, record: Provenance) -> Iterator[Provenance]:
        """The nodes to be made, parents first; not by recursion, since a line may be thousands of steps."""
        waiting, seen = [(record, False)], set()
        while waiting:
            node, parents_done = waiting.pop()
            if parents_done:
                yield node
            elif node.id not in seen:
                seen.add(node.id)
                waiting.append((node, True))
                if node.id not in self._masters:
                    waiting.extend((parent.provenance, False) for parent in node.parents)

    def _made(self, node: Provenance, made: dict[str, Any]) -> Any:
        if node.id in self._masters:
            return self._masters[node.id]
        if node.root is not None:
            found = self.raws.find(node)
            return _on_disk(found)
        assert node.step is not None
        streams = node.step.operation in MASTERS
        inputs = [
            Input(
                parent.role,
                parent.provenance.id,
                _object(made[parent.provenance.id], streams and parent.role == "frame"),
            )
            for parent in node.parents
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LarunWarning)  # they were told when it was made first
            return carry_out(node.step, inputs, self.functions)

    def _keep(self, identity: str, master: Any) -> None:
        if identity not in self._masters:
            while len(self._masters) >= _KEPT:
                self._masters.pop(next(iter(self._masters)))
            self._masters[identity] = master


def _on_disk(found: Found) -> OnDisk:
    given = dict(found.frame.provenance.root.given)
    given.pop("channel", None)
    return OnDisk(found.part, type(found.frame), given)


def _object(value: Any, streams: bool) -> Any:
    return value.read() if isinstance(value, OnDisk) and not streams else value


def products_in(folder: str | Path) -> tuple[Path, ...]:
    """The images and catalogues of larun under a folder, in order of path.

    Raises
    ------
    FileError
        If the folder does not exist, or holds none.
    """
    from larun.io.product import is_product
    from larun.io.tables import is_table_suffix

    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = tuple(
        path
        for path in paths
        if is_product(path)
        or (is_table_suffix(path) and path.name != "summary.ecsv")
        or (path.suffix == ".fits" and not os.access(path, os.R_OK))  # told as what cannot be read
    )
    if not found:
        raise FileError(f"{folder}: holds no products of larun")
    return found


def read_any(path: str | Path) -> Image | Tabular:
    """The image or the table in a product: a catalogue, a light curve, tracklets, a PSF, stamps.

    Raises
    ------
    FileError
        If the file is no product of larun, or damaged.
    """
    from larun.io.product import is_product, open_entries
    from larun.io.streams import open_plain
    from larun.io.tables import is_table_suffix

    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: is a folder: give a file in it")
    if path.name == "summary.ecsv":
        raise FileError(f"{path}: is the summary of a reduction: there is no record of its own to go by")
    if is_table_suffix(path):
        return read_tabular(path)
    if not path.is_file():
        raise FileError(f"{path}: no such file")
    if not os.access(path, os.R_OK):
        raise FileError(f"{path}: cannot be read: permission denied")
    if not is_product(path):
        raise FileError(f"{path}: is no product of larun: there is no record to go by")
    with open_plain(path) as file:
        entries = open_entries(path, file, verify=False)
    return Image.read(path) if "SCI" in entries else read_tabular(path)


def of_other_versions(record: Provenance) -> list[str]:
    """Operations of the record that this larun has in another version."""
    found: dict[str, None] = {}
    for node in record.walk():
        for step in _steps(node.step):
            known = OPERATIONS.get(step.operation)
            if known is not None and known.version != step.version:
                found[f"{step.operation} was version {step.version}, is version {known.version} here"] = None
    return list(found)


def _steps(step: Step | None) -> Iterator[Step]:
    if step is not None:
        yield step
        for sub in step.substeps:
            yield from _steps(sub)


def _surroundings(
    product: Image | Tabular,
) -> list[str]:
    """How versions and processor differ from those under which a product was made."""
    here, then = environment(), product.provenance.environment
    names = [name for name in sorted({*here, *then}) if here.get(name) != then.get(name)]
    changed = [f"{name} {then.get(name, 'none')}, here {here.get(name, 'none')}" for name in names]
    return [f"made under other versions: {', '.join(changed)}"] if changed else []
