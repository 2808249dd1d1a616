"""``larun provenance``: the record of a file as a tree, a drawing or W3C PROV; what differs; who used a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from larun.cli.running import OK
from larun.errors import OptionError
from larun.provenance.show import printable
from larun.report.inspect import open_file
from larun.report.terminal import Column, console, heading, pairs, table, write_json

if TYPE_CHECKING:
    from larun.model.lineage import Using
    from larun.provenance import Provenance

__all__ = ["ProvenanceOptions", "show"]


@attrs.frozen(kw_only=True)
class ProvenanceOptions:
    """What is wanted of ``larun provenance``.

    Parameters
    ----------
    other : path or None
        Second file of a comparison.
    diff : bool
        Compare two records.
    uses : str or None
        Raw file or master that is looked for in the products of a folder: its path or its name.
    svg, prov : path or None
        Files to write.
    """

    other: Path | None = None
    diff: bool = False
    uses: str | None = None
    svg: Path | None = None
    prov: Path | None = None

    def check(self, path: Path) -> None:
        """Refuse what cannot be done together.

        Raises
        ------
        OptionError
            It says what to leave out or to add.
        """
        written = [name for name, value in (("--svg", self.svg), ("--prov", self.prov)) if value is not None]
        if self.diff and self.uses is not None:
            raise OptionError("--diff compares two files, --uses searches a folder: ask for one of them")
        if written and (self.diff or self.uses is not None):
            asked = "--diff" if self.diff else "--uses"
            raise OptionError(f"{' and '.join(written)} write the record of one file: leave {asked} out")
        if self.diff and self.other is None:
            raise OptionError(f"--diff compares two files: name another beside {path}")
        if self.other is not None and not self.diff:
            raise OptionError(f"{path} and {self.other}: two files are compared, with --diff")
        for name, target, suffix in (("--svg", self.svg, ".svg"), ("--prov", self.prov, ".json")):
            if target is not None and target.suffix.lower() != suffix:
                raise OptionError(f"{name} {target}: end its name in {suffix}")


def show(path: Path, wishes: ProvenanceOptions, as_json: bool) -> int:
    """Print or write what is wanted of a record."""
    wishes.check(path)
    if wishes.uses is not None:
        return _uses(path, wishes.uses, as_json)
    if wishes.diff:
        assert wishes.other is not None
        return _diff(path, wishes.other, as_json)
    record = open_file(path).provenance
    if wishes.svg is not None or wishes.prov is not None:
        return _write(record, wishes, as_json)
    if as_json:
        write_json(record.to_dict())
    else:
        sys.stdout.write(f"{record}\n")
    return OK


def _diff(one: Path, other: Path, as_json: bool) -> int:
    found = open_file(one).provenance.diff(open_file(other).provenance)
    if as_json:
        write_json({"files": [str(one), str(other)], **found.to_dict()})
        return OK
    head = ((name, f"{path}  [{key[:8]}]") for name, path, key in (("A", one, found.one), ("B", other, found.other)))
    console().print(pairs(head), soft_wrap=True)
    sys.stdout.write(f"\n{found}\n")
    return OK


def _uses(folder: Path, what: str, as_json: bool) -> int:
    from larun.model.lineage import near_misses, products, used_by, wanted

    known = tuple(products(folder))
    goal = wanted(what, known)
    found = used_by(known, goal)
    nearly = near_misses(known, goal)
    if as_json:
        rows = [_plain(item) for item in found]
        write_json({"file": goal.name, "searched": len(known), "products": rows, "nearly": nearly})
        return OK
    screen = console()
    count = f"{len(found)} of {len(known)} product{'s' * (len(known) != 1)}"
    screen.print(heading(f"{count} in {folder} used {goal.name}"), soft_wrap=True)
    if found:
        names = ("product", "class", "as", "at", "by way of")
        screen.print(table([Column(name, whole=True) for name in names], _rows(folder, found)))
    for line in nearly:
        screen.print(printable(line), soft_wrap=True)
    return OK


def _rows(folder: Path, found: Iterable[Using]) -> Iterator[tuple[str, ...]]:
    """One line a use; what repeats itself is said once."""
    for item in found:
        product = str(item.product.path.relative_to(folder)), item.product.class_name
        for use in item.uses:
            yield *product, use.role, use.step, " ← ".join(step for step, _ in use.through)
            product = " ", " "


def _plain(item: Using) -> dict[str, Any]:
    ways = [{"role": use.role, "step": use.step, "through": list(map(list, use.through))} for use in item.uses]
    product = item.product
    return {"path": str(product.path), "class": product.class_name, "id": product.provenance.id, "uses": ways}


def _write(record: Provenance, wishes: ProvenanceOptions, as_json: bool) -> int:
    """Write the files that are wanted; each takes the place of one that larun made, never of another."""
    from larun.provenance.drawing import DRAWN_BY
    from larun.provenance.prov_export import LARUN, prov_json

    written = {}
    if wishes.svg is not None:
        _put(wishes.svg, record.to_svg(), lambda start: DRAWN_BY.encode() in start[:400])
        written["svg"] = str(wishes.svg)
    if wishes.prov is not None:
        _put(wishes.prov, prov_json(record), lambda whole: LARUN.encode() in whole)
        written["prov"] = str(wishes.prov)
    if as_json:
        write_json(written)
    else:
        sys.stdout.writelines(f"{printable(name)}\n" for name in written.values())
    return OK


def _put(path: Path, text: str, ours: Callable[[bytes], bool]) -> None:
    from larun.io.atomic import atomic_path

    with atomic_path(path, overwrite=True, replaceable=lambda old: ours(old.read_bytes())) as temporary:
        temporary.write_text(text, encoding="utf-8")
