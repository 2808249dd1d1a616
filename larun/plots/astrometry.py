"""Astrometric solutions: where their stars are off, over the image and against magnitude, colour and position."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError
from larun.plots.canvas import FLAGGED, SOURCE, figure_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from larun.model.astrometry.solution import Solution

__all__ = ["show_solution"]

_LEAST_SPAN = 0.02  # pixels: of the axis of residuals
_ARROW = 0.06  # of the width of the image: of a residual of one rms


def show_solution(solution: Solution | None, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Residuals of the stars of a solution: as arrows over the image, and against magnitude, colour and position.

    Stars that were left out are crosses; residuals beyond an axis are drawn at its edge.

    Parameters
    ----------
    solution : Solution
        That of a solved image: ``frame.solution``.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.

    Raises
    ------
    CatalogError
        If the image was not solved.
    """
    if solution is None:
        raise CatalogError("the image was not solved: frame.solve(reference) does it")
    figure = figure_in(figure, (12, 6.5))
    stars = solution.stars
    x, y, dx, dy = (_plain(stars[name]) for name in ("x", "y", "dx", "dy"))
    used = np.asarray(stars["used"], bool)
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    left, right = parts
    rms = max(math.hypot(*solution.rms) / math.sqrt(2), 1e-6)
    _arrows(left.subplots(), (x, y, dx, dy), used, rms)
    span = max(5 * rms, _LEAST_SPAN)
    panels = [*_photometric(stars), ("x (pixel)", x), ("y (pixel)", y)]
    axes = right.subplots(len(panels), 2, sharey=True, squeeze=False)
    for row, (label, values) in zip(axes, panels, strict=True):
        for ax, residual in zip(row, (dx, dy), strict=True):
            shown = np.clip(residual, -0.97 * span, 0.97 * span)
            ax.axhline(0.0, color="black", lw=0.8)
            ax.plot(values[used], shown[used], "o", ms=2.5, color=SOURCE, label="used")
            ax.plot(values[~used], shown[~used], "x", ms=4, mew=0.8, color=FLAGGED, label="left out")
            ax.set(ylim=(-span, span))
            ax.set_xlabel(label, fontsize="small")
            ax.tick_params(labelsize="small")
        row[0].set_ylabel("pixels", fontsize="small")
    axes[0, 0].set_title("along x", fontsize="small")
    axes[0, 1].set_title("along y", fontsize="small")
    axes[0, 1].legend(loc="upper right", fontsize="x-small")
    figure.suptitle(
        f"{solution.matches} stars of {solution.reference}, rms {solution.rms[0]:.3f} and {solution.rms[1]:.3f} "
        f"pixels, {solution.scale:.5g} arcsec a pixel",
        fontsize="medium",
    )
    return figure


def _arrows(ax: Any, vectors: tuple[NDArray[np.float64], ...], used: NDArray[np.bool_], rms: float) -> None:
    x, y, dx, dy = vectors
    width = max(float(np.ptp(x)), float(np.ptp(y)), 1.0)
    size = rms / (_ARROW * width)  # pixels of residual for each pixel of the picture
    given = {"angles": "xy", "scale_units": "xy", "scale": size, "width": 0.003}
    drawn = ax.quiver(x[used], y[used], dx[used], dy[used], color=SOURCE, **given)
    ax.plot(x[~used], y[~used], "x", ms=5, mew=1, color=FLAGGED, label="left out")
    shown = float(f"{rms:.1g}")
    ax.quiverkey(drawn, 0.85, 1.03, shown, f"{shown:g} pixel", labelpos="E", coordinates="axes")
    ax.set(xlabel="x (pixel)", ylabel="y (pixel)", aspect="equal")
    ax.margins(0.06)


def _photometric(stars: Any) -> list[tuple[str, NDArray[np.float64]]]:
    """Magnitude and colour, where the reference has them."""
    bands = [name for name in stars.colnames if name.startswith("mag_") and not name.endswith("_error")]
    known = [name for name in bands if np.isfinite(_plain(stars[name])).any()]
    if not known:
        return []
    best = max(known, key=lambda name: int(np.isfinite(_plain(stars[name])).sum()))
    made = [(f"{best[4:]} (mag)", _plain(stars[best]))]
    place = known.index(best)
    if len(known) > 1:
        one, two = (known[place - 1], best) if place else (best, known[place + 1])
        made.append((f"{one[4:]}-{two[4:]} (mag)", _plain(stars[one]) - _plain(stars[two])))
    return made


def _plain(values: Any) -> NDArray[np.float64]:
    return np.asarray(getattr(values, "value", values), dtype=np.float64)
