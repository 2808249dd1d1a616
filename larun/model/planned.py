"""What a reduction would do, from the headers alone."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from larun.errors import LarunWarning
from larun.model import registry
from larun.model.masters import Masters
from larun.model.raw.exposures import Exposure

if TYPE_CHECKING:
    from larun.model.night import Night
    from larun.model.recipe import Recipe

__all__ = ["planned"]


def planned(night: Night, out: Path, recipe: Recipe, others: Iterable[Path]) -> tuple[dict[str, str], ...]:
    """One row a product; see :meth:`larun.Night.plan`."""
    groups = night._groups(recipe)
    there = {group.kind for group in groups}
    there |= {master.kind for folder in others for master in Masters.read(folder)}
    if "dark" in there:
        there.add("bias")  # a dark that holds its bias serves for it
    _warn_of_missing(night.of("science"), there | set(recipe.calibrate["without"]))
    rows = [
        {
            "product": str(out / "masters" / f"{group.name}.fits"),
            "from": f"{len(group.exposures)} {group.kind} frames",
        }
        for group in groups
    ]
    for task in night.tasks(out, recipe):
        rows.append({"product": str(task.frame_path), "from": task.raw.name})
        rows.append({"product": str(task.catalog_path), "from": task.frame_path.name})
    return tuple(rows)


def _warn_of_missing(science: Iterable[Exposure], there: set[str]) -> None:
    """Tell which masters the science frames require and will not find."""
    cameras = Counter(item.camera for item in science if item.camera is not None)
    for camera, count in cameras.items():
        for kind in sorted(camera.required - there):
            warnings.warn(
                f"{count} science frames of {camera.__name__} require a {kind} master and there is none: give a "
                f"folder that holds one (--masters DIR), or say without=('{kind}',) (--without {kind})"
                f"{registry.unclaimed(camera)}",
                LarunWarning,
                stacklevel=4,
            )
