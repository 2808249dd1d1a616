"""``larun replay OUT --set …``: what a reduction would be with other options."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import attrs
from rich.padding import Padding
from rich.text import Text

from larun.cli.running import FAILED, OK
from larun.errors import FileError, LarunError, OptionError
from larun.io.toml import Entry
from larun.model import lineage
from larun.model.night import Night
from larun.model.replay.planning import plans
from larun.model.replay.whatif import WhatIf
from larun.provenance.show import printable
from larun.report.terminal import cell, console, heading, write_json

__all__ = ["WhatIfOptions", "show"]


@attrs.frozen
class WhatIfOptions:
    """How ``larun replay --set`` goes about it: where raw files and other masters are, and what is written."""

    raw: tuple[Path, ...] = ()
    masters: tuple[Path, ...] = ()
    out: Path | None = None
    dry_run: bool = False


def show(path: Path, changes: Iterable[Entry], options: WhatIfOptions, as_json: bool) -> int:
    """Tell what other options cost; without ``dry_run`` also what they change, and with ``out`` write it.

    Raises
    ------
    OptionError
        If options do not go together.
    FileError
        If the folder is not that of a reduction.
    """
    if not path.is_dir():
        raise OptionError(f"{path}: --set tries other options on a whole reduction: give its folder")
    if options.dry_run and options.out is not None:
        raise OptionError(f"--dry-run writes nothing: leave it or --out {options.out} out")
    if len(options.raw) > 1:
        raise OptionError("--raw: with --set give one folder, that of the night")
    raw = options.raw[0] if options.raw else _raw_folder(path)
    other = WhatIf(path, *plans(Night(raw), path, changes, options.masters))
    if not other.changes:
        raise OptionError(f"--set: {path} was made with just these options: nothing differs")
    cost = other.cost()
    screen = console()
    if not as_json:
        for line in str(cost).splitlines():
            screen.print(cell(line))
    if options.dry_run:
        if as_json:
            write_json(cost.to_dict())
        return FAILED if cost.problems else OK
    found = other.differences()
    if options.out is not None:
        other.write(options.out)
    if as_json:
        write_json({"cost": cost.to_dict(), "differences": [one.to_dict() for one in found], "how": dict(other.done)})
        return FAILED if cost.problems else OK
    screen.print()
    for one in found:
        screen.print(Text(printable(one.name), style="bold"))
        screen.print(Padding(cell(one.text), (0, 0, 0, 4), expand=False))
    same = sum(not one.differences for one in found)
    where = "nothing was written" if options.out is None else f"in {options.out}"
    screen.print(heading(f"of {len(found)} products {len(found) - same} get other values, {same} keep theirs; {where}"))
    return FAILED if cost.problems else OK


def _raw_folder(out: Path) -> Path:
    """The folder that holds the raw files of a reduction, by its records."""
    places: set[str] = set()
    for product in (out / "frames").glob("*.fits"):
        try:
            found = lineage.record_of(product)
        except LarunError:
            continue
        if found is not None:
            places |= {
                str(Path(node.root.location.rpartition("[")[0]).parent.absolute())
                for node in found.provenance.walk()
                if node.root is not None and node.root.kind == "file"
            }
    folder = Path(os.path.commonpath(places)) if places else None
    if folder is None or not folder.is_dir():
        raise FileError(f"{out}: its raw files are not where they were: name their folder with --raw DIR")
    return folder
