"""Zero points: the stars they rest on and those that were refused; zero points over a night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.plots.canvas import FLAGGED, SOURCE, figure_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from larun.model.photometry.many import ZeroPoints
    from larun.model.photometry.zero_point import ZeroPoint

__all__ = ["show_zero_point", "show_zero_points"]

_LEAST_SPAN = 0.02  # mag: of the axis of residuals


def show_zero_point(zero_point: ZeroPoint, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Residuals of the stars of a zero point against magnitude, colour and position; refused stars as crosses.

    Residuals beyond the axis are drawn at its edge.

    Parameters
    ----------
    zero_point : ZeroPoint
        What :meth:`larun.SourceCatalog.zero_point` found.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.
    """
    figure = figure_in(figure, (9, 7))
    stars = zero_point.stars
    used, residual = np.asarray(stars["used"], bool), _plain(stars["residual"])
    span = max(4 * float(np.nanstd(residual[used])), _LEAST_SPAN)
    panels: list[tuple[str, NDArray[np.float64]]] = [(f"{zero_point.band} (mag)", _plain(stars["reference"]))]
    if "color" in stars.colnames:
        panels.append((f"{zero_point.color} (mag)", _plain(stars["color"])))
    panels += [("x (pixel)", _plain(stars["x"])), ("y (pixel)", _plain(stars["y"]))]
    axes = figure.subplots(2, 2, sharey=True).ravel()
    for ax in axes[len(panels) :]:
        ax.remove()
    error = _plain(stars["instrumental_error"])
    for ax, (label, values) in zip(axes, panels, strict=False):
        shown = np.clip(residual, -0.97 * span, 0.97 * span)
        ax.axhline(0.0, color="black", lw=0.8)
        ax.errorbar(values[used], shown[used], error[used], fmt="o", ms=3, lw=0.7, color=SOURCE, label="used")
        ax.plot(values[~used], shown[~used], "x", ms=4, mew=0.8, color=FLAGGED, label="not used")
        ax.set(xlabel=label, ylim=(-span, span))
    for ax in axes[: len(panels) : 2]:
        ax.set_ylabel("residual (mag)")
    axes[0].legend(loc="upper left", fontsize="small")
    title = f"{zero_point.value:.4f} ± {zero_point.error:.4f} mag for 1 {zero_point.unit}"
    figure.suptitle(f"{zero_point.band}: {title}, scatter {zero_point.scatter:.4f}", fontsize="medium")
    return figure


def show_zero_points(zero_points: ZeroPoints, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Zero points of frames over time and over airmass, with the extinction of each night as a line.

    Parameters
    ----------
    zero_points : ZeroPoints
        What :func:`larun.zero_points` found.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.
    """
    from larun.plots.canvas import COLOURS

    figure = figure_in(figure, (9, 3.6))
    table = zero_points.table
    value, error = _plain(table["zero_point"]), _plain(table["zero_point_error"])
    time, airmass, night = _plain(table["jd_utc"]), _plain(table["airmass"]), np.asarray(table["night"])
    start = np.floor(np.nanmin(time)) if np.isfinite(time).any() else 0.0
    left, right = figure.subplots(1, 2, sharey=True)
    for number in sorted(set(night.tolist())):
        mine, colour = night == number, COLOURS[(number + 6) % len(COLOURS)]
        name = "time not known" if number < 0 else f"night {number + 1}"
        for ax, x in ((left, time - start), (right, airmass)):
            ax.errorbar(x[mine], value[mine], error[mine], fmt="o", ms=4, lw=0.8, color=colour, label=name)
    for air in zero_points.extinctions:
        ends = np.array([np.nanmin(airmass[night == air.night]), np.nanmax(airmass[night == air.night])])
        colour = COLOURS[(air.night + 6) % len(COLOURS)]
        text = f"{air.coefficient:.3f} ± {air.error:.3f} mag/airmass"
        right.plot(ends, air.zero_point - air.coefficient * ends, "-", lw=1, color=colour, label=text)
    left.set(xlabel=f"JD (UTC) - {start:.0f}", ylabel=f"zero point {zero_points.frames[0].band} (mag)")
    right.set(xlabel="airmass")
    right.legend(loc="best", fontsize="small")
    return figure


def _plain(values: Any) -> NDArray[np.float64]:
    return np.asarray(getattr(values, "value", values), dtype=np.float64)
