"""What a verdict rests on, as a picture."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from larun.plots.canvas import COLOURS, axes_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from larun.model.checks.verdict import Verdict

__all__ = ["show_evidence"]

_SIZE = (7.0, 4.6)
_MANY = 60  # points with error bars beyond this number are drawn small


def show_evidence(verdict: Verdict, *, ax: Axes | Figure | SubFigure | None = None) -> Axes:
    """Draw the evidence of a verdict, its sentence above it.

    Parameters
    ----------
    verdict : Verdict
        One that has evidence.
    ax : Axes or Figure, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Axes
        For :func:`larun.plots.save`, or to change.
    """
    axes: Axes = axes_in(ax, _SIZE)
    evidence = verdict.evidence
    about = f" ({verdict.where})" if verdict.where else ""
    title = textwrap.fill(f"{verdict.test}{about}: {verdict.meaning}", 90)
    axes.set_title(title, fontsize="small", loc="left", parse_math=False)
    if evidence is None:
        return axes
    axes.set_xlabel(evidence.x_label)
    axes.set_ylabel(evidence.y_label)
    if evidence.image is not None:
        low, high = np.nanquantile(evidence.image, [0.01, 0.99])
        shown = axes.imshow(evidence.image, origin="lower", vmin=low, vmax=high, cmap="viridis", aspect="equal")
        axes.figure.colorbar(shown, ax=axes, shrink=0.85)
        return axes
    for number, series in enumerate(evidence.series):
        colour = COLOURS[(6 + number) % len(COLOURS)]
        if series.line:
            axes.plot(series.x, series.y, color=colour, label=series.label, lw=1.5)
        else:
            size = 5 if len(series.x) <= _MANY else 2
            axes.errorbar(
                series.x, series.y, series.error, fmt="o", ms=size, color=colour, label=series.label, lw=1, capsize=0
            )
    if "x" in evidence.log:
        axes.set_xscale("log")
    if "y" in evidence.log:
        axes.set_yscale("log")
    if evidence.names:
        axes.set_xticks(range(len(evidence.names)), evidence.names, rotation=75, fontsize="x-small", parse_math=False)
    if len(evidence.series) > 1:
        axes.legend(fontsize="small", frameon=False)
    axes.grid(alpha=0.25)
    return axes
