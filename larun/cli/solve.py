"""``larun solve``: frames with the WCS of the sky."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from larun.cli.running import FAILED, OK, say
from larun.errors import LarunError, NotSolved, OptionError
from larun.model.frame import Frame
from larun.model.reference.stars import ReferenceCatalog
from larun.report.terminal import cell, console, heading, write_json

__all__ = ["SolveWishes", "solve"]


@attrs.frozen(kw_only=True)
class SolveWishes:
    """What the command line says; see :meth:`larun.SkyImage.solve`."""

    reference: Path | None
    out: Path
    pointing: str | None
    radius: float | None
    scale: list[float] | None
    order: int | None
    engine: str


def solve(files: Sequence[Path], wishes: SolveWishes, as_json: bool) -> int:
    """Solve frames one after the other; one that fails is told, and the rest goes on.

    Raises
    ------
    OptionError
        If there is no reference, an option makes no sense, or two files would become one.
    """
    if wishes.reference is None and wishes.engine == "larun":
        raise OptionError("--reference: give a catalogue of stars (or --engine astrometry.net)")
    names = [_name(path) for path in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(f"{', '.join(twice)}: two files would be written there: solve them into different folders")
    reference = None if wishes.reference is None else ReferenceCatalog.open(wishes.reference)
    rows = []
    for path, name in zip(files, names, strict=True):
        try:
            rows.append(_solved(path, wishes.out / name, reference, wishes))
        except OptionError:
            raise
        except LarunError as error:
            status = "not solved" if isinstance(error, NotSolved) else "failed"
            rows.append({"file": str(path), "status": status, "message": str(error)})
            say("error", str(error) if path.name in str(error) else f"{path}: {error}")
    if as_json:
        write_json(rows)
    else:
        done = sum(row["status"] == "solved" for row in rows)
        console().print(heading(f"{done} of {len(rows)} frames solved"))
    return OK if all(row["status"] == "solved" for row in rows) else FAILED


def _name(path: Path) -> str:
    stem = path.name
    for suffix in (".gz", ".fz", ".fits", ".fit", ".fts"):
        stem = stem.removesuffix(suffix)
    return f"{stem}.fits"


def _solved(path: Path, out: Path, reference: Any, wishes: SolveWishes) -> dict[str, Any]:
    scale = wishes.scale
    frame = Frame.read(path).solve(
        reference,
        pointing=wishes.pointing,
        radius=wishes.radius,
        scale=scale[0] if scale is not None and len(scale) == 1 else scale,
        order=wishes.order,
        engine=wishes.engine,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    frame.write(out, overwrite=True)
    found = frame.solution
    assert found is not None
    console(stderr=True).print(cell(f"{path.name}: {found}"), soft_wrap=True)
    return {"file": str(path), "out": str(out), "status": "solved", "message": "", **found.to_dict()}
