"""The products of a folder, and which of them used a file.

Only records are read, no pixels; of the file in question the pixels are, since a raw file is known by their digest.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from larun.errors import FileError, LarunError, LarunWarning, OptionError
from larun.model import registry
from larun.model.frame import Frame
from larun.model.raw.exposures import SUFFIXES, stem_of
from larun.model.raw.opening import parts_of
from larun.provenance import Provenance, Root
from larun.provenance.lineage import Use, uses

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Head", "Product", "Using", "Wanted", "head_of", "near_misses", "products", "record_of", "used_by", "wanted"]


class Product(NamedTuple):
    """A file with a record."""

    path: Path
    class_name: str
    """As ``MasterBias``: of the class that reads it, without its module."""
    provenance: Provenance


class Head(NamedTuple):
    """What a file of an image says without its pixels."""

    camera: type[Any]
    """The class that reads it."""
    header: Header
    provenance: Provenance


class Wanted(NamedTuple):
    """What a raw file, a master or another product is known by."""

    name: str
    digests: frozenset[tuple[str, str]] = frozenset()
    """(pixels, header) of each part of a raw file"""
    ids: frozenset[str] = frozenset()
    """of products"""
    names: frozenset[str] = frozenset()
    """of raw files, where only a name was given"""

    def matches(self, node: Provenance) -> bool:
        """Whether a node of a record is it."""
        if node.id in self.ids:
            return True
        if node.root is None:
            return False
        return bool(self.digests and _digests(node.root) in self.digests) or node.root.name in self.names


class Using(NamedTuple):
    """A product that used what was wanted, and how."""

    product: Product
    uses: tuple[Use, ...]


def record_of(path: str | Path) -> Product | None:
    """The record of a file, without its pixels; None where it is no product of larun.

    Raises
    ------
    FileError
        If it is a product that cannot be read.
    CorruptProduct
        If its record does not follow from its own content.
    """
    from larun.io import container
    from larun.io.product import is_product, open_entries, read_record
    from larun.io.streams import open_plain
    from larun.io.tables import is_table_suffix, read_plain, read_table

    path = Path(path)
    if is_table_suffix(path):
        if read_plain(path) is not None:
            return None
        record = read_table(path)[1]
        name = str(record.get("class", "SourceCatalog"))
    elif path.name.lower().endswith(SUFFIXES) and is_product(path):
        with open_plain(path) as file:
            entries = open_entries(path, file, verify=False)
            primary, _ = container.read_entry(file, entries["PRIMARY"])
            record = read_record(file, entries)
        name = str(primary["LARUNCLS"])
        record = record.get("record", record)  # of a table the metadata stand beside it
    else:
        return None
    if not isinstance(record.get("provenance"), dict):
        return None
    return Product(path, name.rpartition(":")[2], Provenance.from_dict(record["provenance"], str(path)))


def head_of(path: str | Path) -> Head | None:
    """The class, the header and the record of an image, without its pixels; None of any other file.

    Raises
    ------
    FileError
        If it is a product that cannot be read.
    CorruptProduct
        If its record does not follow from its own content.
    """
    from larun.io import container
    from larun.io.product import is_product, open_entries
    from larun.io.streams import open_plain

    path = Path(path)
    if not path.is_file() or not is_product(path):
        return None
    with open_plain(path) as file:
        entries = open_entries(path, file, verify=False)
        header, _ = container.read_entry(file, entries["PRIMARY"])
    found = record_of(path) if "SCI" in entries else None
    camera = registry.by_name(str(header["LARUNCLS"])) or registry.by_name("larun.instruments.generic:Generic")
    return None if found is None or camera is None else Head(camera, header, found.provenance)


def products(folder: str | Path) -> Iterator[Product]:
    """The products under a folder, in order of path; one that cannot be read is named in a warning.

    Raises
    ------
    FileError
        If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"{folder}: {'is no folder' if folder.exists() else 'no such folder'}: give one with products")
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        try:
            found = record_of(path)
        except LarunError as error:
            warnings.warn(f"{error}; left out", LarunWarning, stacklevel=2)
            continue
        if found is not None:
            yield found


def wanted(what: str | Path, known: tuple[Product, ...] = ()) -> Wanted:
    """What is looked for: a raw file or product by its path, or either by its name.

    Parameters
    ----------
    what : str or path
        A file that exists is known by its content, wherever it lies and whatever it is called. Anything else is a
        name: of a raw file (with or without its ending) or else of one of the products.
    known : tuple of Product
        Among which a name is looked for.

    Raises
    ------
    FileError
        If the file cannot be read.
    OptionError
        If it is a path and there is no such file.
    """
    path = Path(what)
    if path.is_dir():
        raise OptionError(f"{path} is a folder: name a raw file, a master or another product")
    if path.is_file():
        found = record_of(path)
        if found is not None:
            return Wanted(path.name, ids=frozenset({found.provenance.id}))
        roots: list[Root] = []
        for part in parts_of(path, Frame, {}):
            roots += Frame.read(part.path, ext=part.ext, channel=part.channel).provenance.roots()
        return Wanted(path.name, digests=frozenset(map(_digests, roots)))
    if path.name != str(what):
        raise OptionError(f"{path}: no such file; a name without folders finds what was called so")
    names = {root.name for product in known for root in product.provenance.roots() if root.name}
    if said := {name for name in names if path.name in (name, stem_of(Path(name)))}:
        return Wanted(path.name, names=frozenset(said))
    ids = {product.provenance.id for product in known if path.name in (product.path.name, product.path.stem)}
    return Wanted(path.name, ids=frozenset(ids))


def used_by(known: tuple[Product, ...], what: Wanted) -> tuple[Using, ...]:
    """The products that used something, with every way in which they did."""
    found = (Using(product, uses(product.provenance, what.matches)) for product in known)
    return tuple(item for item in found if item.uses)


def near_misses(known: tuple[Product, ...], what: Wanted) -> tuple[str, ...]:
    """Raw files in the records that are nearly the one that was looked for, in words."""
    told: dict[str, int] = {}
    pixels = {one for one, _ in what.digests}
    for product in known:
        lines = set()
        for root in product.provenance.roots():
            if not what.digests or _digests(root) in what.digests:
                continue
            if root.to_dict()["pixels"] in pixels:
                lines.add(f"a file {root.name} with the same pixels and another header")
            elif root.name == what.name:
                lines.add(f"a file {root.name} with other pixels")
        for line in lines:
            told[line] = told.get(line, 0) + 1
    return tuple(f"{count} product{'s' * (count != 1)} used {line}" for line, count in sorted(told.items()))


def _digests(root: Root) -> tuple[str, str]:
    facts: dict[str, Any] = root.to_dict()
    return facts["pixels"], facts["header"]
