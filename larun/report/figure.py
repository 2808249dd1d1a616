"""One picture: a calibrated frame with what was detected on it. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from larun import flags as fl

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
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    defects = (image.flags & (fl.BAD | fl.FLAT_INVALID | fl.NO_DATA)) != 0
    gray = colormaps["gray"].with_extremes(bad="midnightblue")
    good = image.data[~image.unusable]
    low, high = np.quantile(good, [0.02, 0.995]) if good.size else (0.0, 1.0)
    figure = Figure(figsize=(8, 8), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.where(defects, np.nan, image.data), origin="lower", cmap=gray, vmin=low, vmax=high)
    x, y = (np.asarray(catalog[name].value) for name in ("x", "y"))
    full = (np.asarray(catalog["flags"]) & fl.SATURATED) != 0
    for chosen, color, label in ((~full, "tab:cyan", "source"), (full, "tab:red", "saturated")):
        axes.scatter(x[chosen], y[chosen], s=40, facecolors="none", edgecolors=color, linewidths=0.7, label=label)
    if mark is not None:
        axes.scatter(*mark, s=160, marker="+", color="tab:orange", linewidths=1.2, label="new source (truth)")
    ny, nx = image.shape
    axes.set(title=title, xlabel="x [pixel]", ylabel="y [pixel]", xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5))
    axes.legend(loc="upper right", fontsize="small")
    figure.savefig(path, dpi=120)
