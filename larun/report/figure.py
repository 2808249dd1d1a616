"""One picture: a calibrated frame with what was detected on it. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from larun.plots import save, show
from larun.plots.canvas import add_legend

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
    """Write a PNG of an image with a mark at every source, broken where pixels are flagged; ``mark`` (x, y) a cross."""
    from matplotlib.figure import Figure  # without a window and without global state

    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = show(image, figure, catalog=catalog, coordinates="pixel")
    if mark is not None:
        cross = axes.scatter(*mark, s=160, marker="+", color="#F0E442", linewidths=1.4, label="new source (truth)")
        add_legend(axes, [cross])
    axes.set_title(title, parse_math=False)
    save(axes, path, overwrite=True, dpi=120)
