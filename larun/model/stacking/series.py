"""A folder of frames by object and filter: one stack for each."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from larun.errors import LarunError, LarunWarning, OptionError
from larun.model.frame import Frame
from larun.model.lineage import head_of
from larun.model.stack import Stack
from larun.model.stacking.options import StackOptions
from larun.provenance import predict

__all__ = ["BY", "StackRow", "groups_of", "stack_groups"]

#: What frames may be sorted by.
BY = ("object", "filter", "exposure")


@attrs.frozen(kw_only=True)
class StackRow:
    """One line of what was stacked.

    Parameters
    ----------
    name : str
        Of the stack.
    status : str
        ``"done"``, ``"skipped"`` (it was there, of the same frames by the same options) or ``"failed"``.
    message : str
        Why it failed.
    path : str
        Of the product.
    frames : int
        Files that were given.
    used : int
        Of them in the stack.
    rejected : tuple of str
        The others, with the reason.
    exposure : float or None
        Of all frames together, in seconds.
    mid_time : str or None
        The mean of their middles by weight, in UTC.
    """

    name: str
    status: str
    message: str = ""
    path: str = ""
    frames: int = 0
    used: int = 0
    rejected: tuple[str, ...] = ()
    exposure: float | None = None
    mid_time: str | None = None


def groups_of(
    paths: Iterable[str | Path], by: Sequence[str] = ("object", "filter")
) -> dict[tuple[str, ...], list[Path]]:
    """Products of frames, sorted by what their headers say.

    Parameters
    ----------
    paths : iterable of path
        Files, or folders whose products of frames are taken.
    by : sequence of str
        Of :data:`BY`.

    Returns
    -------
    dict
        From the values, as text, to the paths in order of name.

    Raises
    ------
    OptionError
        If frames cannot be sorted by that, or there are none.
    """
    unknown = [name for name in by if name not in BY]
    if unknown or not by:
        raise OptionError(f"by={','.join(by)!r}: frames are sorted by {', '.join(BY)}")
    listed: list[Path] = []
    for path in map(Path, paths):
        listed += sorted(path.glob("*.fits")) if path.is_dir() else [path]
    found: dict[tuple[str, ...], list[Path]] = {}
    for path in listed:
        key = _key(path, by)
        if key is not None:
            found.setdefault(key, []).append(path)
    if not found:
        raise OptionError("there are no calibrated frames to stack")
    return dict(sorted(found.items()))


def _key(path: Path, by: Sequence[str]) -> tuple[str, ...] | None:
    """The values that a frame is sorted by; None of a product that is no single frame."""
    head = head_of(path)
    if head is None or not issubclass(head.camera, Frame) or issubclass(head.camera, Stack):
        return None
    exposure = head.camera.quantity_of(head.header, "exposure")
    values = {
        "object": str(head.header.get("OBJECT", "")).strip() or "unnamed",
        "filter": str(head.camera.quantity_of(head.header, "filter") or ""),
        "exposure": "" if exposure is None else f"{float(exposure):g}s",
    }
    return tuple(values[name] for name in by)


def stack_groups(
    groups: dict[tuple[str, ...], list[Path]],
    out: str | Path,
    *,
    progress: Callable[[str, int, int], None] | None = None,
    options: StackOptions = StackOptions(),
    **how: Any,
) -> tuple[StackRow, ...]:
    """One stack a group, in the folder ``out``; a group that fails is told and the rest goes on.

    A stack that is there already, of the same frames by the same options, is left as it is.

    Parameters
    ----------
    groups : dict
        From :func:`groups_of`.
    out : path
        Folder of the products.
    progress : callable, optional
        Called with a name, a number and a total.
    options, **how
        As for :meth:`larun.Stack.combine`.
    """
    rows: list[StackRow] = []
    folder, taken = Path(out), set[str]()
    for number, (key, paths) in enumerate(groups.items(), 1):
        name = _name(key, taken)
        taken.add(name)
        rows.append(_stacked(name, paths, folder / f"{name}.fits", options, how))
        if progress is not None:
            progress(name, number, len(groups))
    return tuple(rows)


def _stacked(name: str, paths: list[Path], product: Path, options: StackOptions, how: dict[str, Any]) -> StackRow:
    made = _there(product, paths, options, how)
    if made is not None:
        return _row(name, "skipped", made, paths, product)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "not in the stack", LarunWarning)  # said in the row
            made = Stack.combine(paths, options=options, **how)
        product.parent.mkdir(parents=True, exist_ok=True)
        made.write(product, overwrite=True)
    except OptionError:
        raise
    except LarunError as error:
        return StackRow(name=name, status="failed", message=str(error), frames=len(paths))
    return _row(name, "done", made, paths, product)


def _there(product: Path, paths: list[Path], options: StackOptions, how: dict[str, Any]) -> Stack | None:
    """The stack in a file, where it is of these frames by these options; None where it must be made."""
    if not product.is_file():
        return None
    try:
        there = Stack.read(product)
        heads = [head_of(path) for path in paths]
    except LarunError:  # damaged, or something else
        return None
    step = there.provenance.step
    if step is None or step.operation != "stack":
        return None
    wanted = predict("stack", Stack, (), options=options, **how)
    chosen = {name: value for name, value in step.parameters.items() if name != "reference"}
    if (step.version, chosen) != (wanted.version, wanted.parameters):
        return None
    reference = how.get("reference")
    if reference is not None and step.parameters["reference"] != _id_of(reference):
        return None
    given = {head.provenance.id for head in heads if head is not None}
    seen = {item["frame"] for name in ("frames", "rejected") for item in step.fitted[name]}
    return there if given == seen else None


def _id_of(image: Any) -> str | None:
    if isinstance(image, str | Path):
        head = head_of(image)
        return None if head is None else head.provenance.id
    return str(image.provenance.id)


def _row(name: str, status: str, made: Stack, paths: list[Path], product: Path) -> StackRow:
    fitted = made.provenance.step.fitted if made.provenance.step is not None else {}
    total = made.header.get("TEXPTIME")
    return StackRow(
        name=name,
        status=status,
        path=str(product),
        frames=len(paths),
        used=len(fitted["frames"]),
        rejected=tuple(f"{item['name']}: {item['reason']}" for item in fitted["rejected"]),
        exposure=None if total is None else float(total),
        mid_time=made.time.mid_text,
    )


def _name(key: tuple[str, ...], taken: set[str]) -> str:
    """A file name that header text cannot lead anywhere, and that is no other's."""
    parts = [re.sub(r"[^A-Za-z0-9+-]+", "_", part).strip("_")[:40] for part in key]
    name = "-".join(part for part in parts if part) or "stack"
    return next(n for n in itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2))) if n not in taken)
