"""``larun audit``: whether products are what was written, in words and as JSON; seals of whole folders."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from larun.cli.running import CANNOT_READ, FAILED, OK
from larun.errors import OptionError
from larun.io.seal import Seal
from larun.model.audit import Audit, audit
from larun.report.audit import listed, noted, unsealed
from larun.report.terminal import cell, console, heading, write_json

__all__ = ["AuditOptions", "show"]


class AuditOptions(NamedTuple):
    """What was asked for."""

    raw: tuple[Path, ...] = ()
    seal: Path | None = None
    sealed: Path | None = None
    everything: bool = False
    spot: int = 0


def show(path: Path, options: AuditOptions, as_json: bool) -> int:
    """Audit a product or a folder, tell what was found, and seal the folder if that was asked for.

    Returns
    -------
    int
        1 if anything is wrong with a file or a seal, 3 if all that is wrong is that a file cannot be verified, else 0.
    """
    if options.seal is not None and options.sealed is not None:
        raise OptionError("--seal writes a seal and --sealed compares with one: say one of the two")
    if (options.seal or options.sealed) and path.is_file():
        raise OptionError(f"{path}: is a file, and a seal is that of a folder: give the folder")
    if options.seal is not None:
        Seal.check_place(options.seal, path)  # before the work, not after it
    found = audit(path, raw=options.raw, seal=options.sealed, spot=options.spot)
    code = _code(found)
    seal = None
    if options.seal is not None and not any(file.status == "changed" for file in found):
        seal = Seal.of(path)
        seal.write(options.seal)
    if as_json:
        head = None if seal is None else {"path": str(options.seal), "head": seal.head, "count": len(seal.files)}
        write_json({**found.to_dict(), "written": head, "code": code})
    else:
        _print(found, options, seal)
    return code


def _code(found: Audit) -> int:
    statuses = {file.status for file in found.faults}
    if statuses - {"unverifiable"} or (found.seal is not None and not found.seal.good):
        return FAILED
    return CANNOT_READ if statuses else OK


def _print(found: Audit, options: AuditOptions, seal: Seal | None) -> None:
    screen = console()
    for part in listed(found, everything=options.everything):
        screen.print(part)
    if found.seal is not None:
        for part in unsealed(found.seal):
            screen.print(part)
    for part in noted(found):
        screen.print(part)
    screen.print(heading(str(found)))
    if found.others:
        many = len(found.others) != 1
        others = f"{len(found.others)} other {'files carry' if many else 'file carries'} no digests"
        screen.print(f"{others}: a seal covers {'them' if many else 'it'} (--seal)")
    if not options.raw:
        screen.print("raw files were not looked for: name their folders with --raw")
    if found.seal is not None:
        screen.print(heading(str(found.seal)))
        screen.print(f"head {found.seal.head}", soft_wrap=True)
    if seal is not None:
        screen.print(cell(f"{len(seal.files)} files sealed in {options.seal}"), soft_wrap=True)
        screen.print(f"head {seal.head}", soft_wrap=True)
    elif options.seal is not None:
        screen.print(heading("not sealed: a seal would vouch for files that were changed"))
