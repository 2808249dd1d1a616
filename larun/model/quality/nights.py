"""The science frames of a night graded, and those left out that a condition does not hold for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from larun.errors import LarunError, LarunWarning, OptionError
from larun.expression import parse
from larun.model.frame import Frame
from larun.model.quality.grading import grade
from larun.model.quality.measured import Quality

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.jobs import Task
    from larun.model.night import Night
    from larun.model.raw.opening import RawPart
    from larun.model.recipe import Recipe

__all__ = ["night_quality", "parts_without"]


def night_quality(night: Night, out: str | Path | None, recipe: Recipe) -> QTable:
    """See :meth:`larun.Night.quality`."""
    return _graded(night, out, recipe)[1]


def parts_without(night: Night, condition: str, out: str | Path | None, recipe: Recipe) -> frozenset[RawPart]:
    """The science frames for which a condition does not hold; see :meth:`larun.Night.select`."""
    wanted = parse(condition)
    tasks, table = _graded(night, out, recipe)
    kept = wanted.of(table)
    if not kept.any():
        raise OptionError(f"{condition!r} holds for none of {len(table)} frames: larun quality shows their numbers")
    lost = [(task, row) for task, row, good in zip(tasks, table, kept, strict=True) if not good]
    for task, row in lost:
        said = ", ".join(f"{name} = {_number(row[name])}" for name in wanted.names if name in table.colnames)
        reason = f" ({row['reason']})" if row["reason"] else ""
        warnings.warn(f"{task.name} is left out: {said}{reason}", LarunWarning, stacklevel=4)
    return frozenset(task.item.part for task, _ in lost)


def _graded(night: Night, out: str | Path | None, recipe: Recipe) -> tuple[list[Task], QTable]:
    from astropy.table import QTable, vstack

    found = list(_qualities(night, out, recipe))
    if not found:
        raise OptionError(f"{night.folder}: there is no science frame")
    measured = [(task, one) for task, one in found if isinstance(one, Quality)]
    failed = [(task, one) for task, one in found if isinstance(one, str)]
    parts = []
    if measured:
        parts.append(grade([one for _, one in measured], groups=[(t.item.object, t.item.filter) for t, _ in measured]))
    if failed:
        parts.append(QTable({"name": [task.name for task, _ in failed], "reason": [reason for _, reason in failed]}))
    table = vstack(parts)
    if measured and failed:
        table = table.filled(np.nan)
    tasks = [task for task, _ in (*measured, *failed)]
    table.remove_column("name")
    table.add_column([task.name for task in tasks], name="frame", index=0)
    table["object"], table["filter"] = [[getattr(t.item, name) or "" for t in tasks] for name in ("object", "filter")]
    table["airmass"] = [np.nan if task.item.airmass is None else task.item.airmass for task in tasks]
    table["mid_time"] = [task.item.mid_time or "" for task in tasks]
    order = np.argsort([task.name for task in tasks], kind="stable")
    return [tasks[n] for n in order], table[order]


def _qualities(night: Night, out: str | Path | None, recipe: Recipe) -> Iterator[tuple[Task, Quality | str]]:
    """What each science frame is like, or why that is not known."""
    if out is not None:
        failed = {row.name: row.message for row in night.reduce(out, recipe=recipe).failed}
        for task in night.tasks(Path(out), recipe):
            yield task, failed.get(task.name) or _tried(partial(Frame.read, task.frame_path))
        return
    measured, told = night.measured(recipe)
    masters = measured.masters(recipe=told)
    for task in measured.tasks(Path(), told):
        yield task, _tried(partial(_prepared, task, told, masters))


def _prepared(task: Task, recipe: Recipe, masters: Any) -> Frame:
    raw = task.camera.read(task.raw, ext=task.item.part.ext, channel=task.item.part.channel, **recipe.keywords)
    return recipe.prepare(raw, masters)


def _tried(frame: Callable[[], Frame]) -> Quality | str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LarunWarning)  # too few stars is said in the reason
            return frame().quality()
    except LarunError as error:
        return str(error)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
