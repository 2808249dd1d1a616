"""One picture: a calibrated frame with what was detected on it. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from larun import flags as fl
from larun.plots import show

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.sky import SkyImage

__all__ = ["can_draw", "draw_detections"]


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_detections(
    image: SkyImage, catalog: SourceCatalog, path: Path, *, title: str = "", mark: tuple[float, float] | None = None
) -> None:
    """Write a PNG of an image with a circle at every source; saturated ones in red, ``mark`` (x, y) as a cross."""
    from matplotlib.figure import Figure  # without a window and without global state

    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = show(image, figure.add_subplot(), catalog=catalog)
    full = (np.asarray(catalog["flags"]) & fl.SATURATED) != 0
    x, y = (np.asarray(catalog[name].value)[full] for name in ("x", "y"))
    axes.scatter(x, y, s=40, facecolors="none", edgecolors="tab:red", linewidths=0.9, label="saturated")
    if mark is not None:
        axes.scatter(*mark, s=160, marker="+", color="tab:cyan", linewidths=1.2, label="new source (truth)")
    axes.set(title=title)
    axes.legend(loc="upper right", fontsize="small")
    figure.savefig(path, dpi=120)
