"""How sharp and round the stars of a frame are, over the field and against their signal to noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from larun.errors import OptionError
from larun.plots.canvas import FLAGGED, SOURCE, figure_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from larun.model.quality.measured import Quality

__all__ = ["show_quality"]

_CELLS = 6
_WHISKER = 1.6  # cells: of an ellipticity of 0.5


def show_quality(quality: Quality, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Width and shape of the stars of a frame.

    On the left each star is a dot, coloured by its FWHM, and lines show the median ellipticity of cells and its
    direction; on the right are FWHM by three methods against S/N, and the components of the ellipticity.

    Parameters
    ----------
    quality : Quality
        What :meth:`larun.SkyImage.quality` found.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.

    Raises
    ------
    OptionError
        If the frame has no stars.
    """
    if not quality.stars:
        raise OptionError(f"{quality.name}: there are no stars to draw")
    figure = figure_in(figure, (11, 5))
    parts: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    left, right = parts
    stars, ax = quality.table, left.subplots()
    low, high = np.nanpercentile(stars["fwhm"], (5, 95))
    dots = ax.scatter(stars["x"], stars["y"], c=stars["fwhm"], s=14, vmin=low, vmax=high, cmap="viridis")
    cells = quality.map(_CELLS)
    size = np.hypot(cells["e1"], cells["e2"]) * _WHISKER * 2 * max(quality.shape) / _CELLS
    angle = np.arctan2(cells["e2"], cells["e1"]) / 2
    ax.quiver(
        cells["x"],
        cells["y"],
        size * np.cos(angle),
        size * np.sin(angle),
        color=FLAGGED,
        angles="xy",
        scale_units="xy",
        scale=1,
        pivot="middle",
        headaxislength=0,
        headlength=0,
        headwidth=1,
        width=0.004,
    )
    ny, nx = quality.shape
    ax.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5), xlabel="x (pixel)", ylabel="y (pixel)", aspect="equal")
    left.colorbar(dots, ax=ax, label="FWHM (pixel)", shrink=0.8)
    top, bottom = right.subplots(2, 1)
    for name, label, mark, colour in (
        ("fwhm_gaussian", "Gaussian", "x", FLAGGED),
        ("fwhm_moments", "moments", "+", "0.6"),
        ("fwhm", "Moffat", ".", SOURCE),
    ):
        top.semilogx(stars["snr"], stars[name], mark, ms=4, color=colour, label=label)
    top.axhline(quality.fwhm, color="black", lw=0.8)
    middle = np.nanmedian(stars["fwhm_gaussian"])
    top.set(xlabel="S/N", ylabel="FWHM (pixel)", ylim=(min(0.7 * quality.fwhm, low), max(1.4 * middle, high)))
    top.legend(fontsize="small")
    bottom.axhline(0, color="0.7", lw=0.8)
    bottom.axvline(0, color="0.7", lw=0.8)
    bottom.plot(stars["e1"], stars["e2"], ".", ms=4, color=SOURCE)
    bottom.plot(quality.e1, quality.e2, "+", ms=14, mew=2, color=FLAGGED)
    reach = 1.1 * float(np.nanpercentile(np.hypot(stars["e1"], stars["e2"]), 97))
    bottom.set(xlabel="e1", ylabel="e2", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    scale = "" if quality.scale is None else f" = {quality.fwhm * quality.scale:.2f} arcsec"
    figure.suptitle(f"FWHM {quality.fwhm:.2f} px{scale}, ellipticity {quality.ellipticity:.2f}", fontsize="medium")
    return figure
