"""A folder of frames by object and filter: one stack for each."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from larun.errors import LarunError, LarunWarning, OptionError
from larun.model.frame import Frame
from larun.model.stack import Stack
from larun.model.stacking.options import StackOptions

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
        ``"done"``, ``"skipped"`` (it was there already) or ``"failed"``.
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
    """

    name: str
    status: str
    message: str = ""
    path: str = ""
    frames: int = 0
    used: int = 0
    rejected: tuple[str, ...] = ()


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
    from larun.model.image import Image

    image = Image.read(path, verify=False)
    if not isinstance(image, Frame) or isinstance(image, Stack):
        return None
    values = {
        "object": str(image.header.get("OBJECT", "")).strip() or "unnamed",
        "filter": image.filter or "",
        "exposure": "" if image.exposure is None else f"{image.exposure:g}s",
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
    rows = []
    folder = Path(out)
    for number, (key, paths) in enumerate(groups.items(), 1):
        name = _name(key)
        rows.append(_stacked(name, paths, folder / f"{name}.fits", options, how))
        if progress is not None:
            progress(name, number, len(groups))
    return tuple(rows)


def _stacked(name: str, paths: list[Path], product: Path, options: StackOptions, how: dict[str, Any]) -> StackRow:
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
    fitted = made.provenance.step.fitted if made.provenance.step is not None else {}
    rejected = tuple(f"{item['name']}: {item['reason']}" for item in fitted["rejected"])
    used = len(fitted["frames"])
    return StackRow(name=name, status="done", path=str(product), frames=len(paths), used=used, rejected=rejected)


def _name(key: tuple[str, ...]) -> str:
    """A file name that header text cannot lead anywhere."""
    parts = [re.sub(r"[^A-Za-z0-9+-]+", "_", part).strip("_")[:40] for part in key]
    return "-".join(part for part in parts if part) or "stack"
