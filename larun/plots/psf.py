"""A point-spread function, what it leaves of the stars, and which stars it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from larun.model.psf import PSF
from larun.plots.canvas import FLAGGED, SOURCE, figure_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

__all__ = ["show_psf"]

_DECADES = 4  # of the peak that are shown


def show_psf(psf: PSF, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """Draw a point-spread function in the middle of the image, what is left of its stars, and where they are.

    Parameters
    ----------
    psf : PSF
        From :meth:`larun.SkyImage.psf`.
    figure : Figure or SubFigure, optional
        Where to draw; by default a new figure.

    Returns
    -------
    Figure or SubFigure
        Left the function in shares of its peak; in the middle what is left on average, in per cent of the peak; right
        the stars, coloured by chi^2, and those that were left out.
    """
    from matplotlib.colors import LogNorm

    made: Any = figure_in(figure, (11, 3.6))
    left, middle, right = made.subplots(1, 3)
    x0, _, y0, _ = psf.function.domain
    fine = np.linspace(1 - psf.radius, psf.radius - 1, 4 * psf.radius)
    values = psf.function.values(fine[None, :], fine[:, None], x0, y0)[0]
    peak = float(values.max())
    edge = psf.radius - 1
    sides = (-edge, edge, -edge, edge)
    shown = np.maximum(values / peak, 0.1 ** (_DECADES + 1))
    picture = left.imshow(shown, origin="lower", extent=sides, norm=LogNorm(0.1**_DECADES, 1), cmap="viridis")
    left.set(title=f"{psf.model}, FWHM {psf.fwhm:.2f} pixels", xlabel="pixels from the star", ylabel="pixels")
    made.colorbar(picture, ax=left, label="of the peak")
    rest = 100 * psf.residual / peak
    size = max(float(np.quantile(np.abs(rest), 0.999)), 1e-3)
    picture = middle.imshow(rest, origin="lower", cmap="RdBu_r", vmin=-size, vmax=size, extent=sides)
    middle.set(title="left of the stars", xlabel="pixels from the star")
    made.colorbar(picture, ax=middle, label="% of the peak")
    table = psf.table
    used, tried = np.asarray(table["used"]), np.isfinite(np.asarray(table["psf_chi2"], float))
    x, y = (np.asarray(table[name].value) for name in ("x", "y"))
    out = tried & ~used
    right.scatter(x[out], y[out], marker="x", s=25, color=FLAGGED, label="left out")
    chi2 = np.asarray(table["psf_chi2"], float)[used]
    dots = right.scatter(x[used], y[used], c=chi2, s=25, cmap="viridis", edgecolor=SOURCE, lw=0.3, label="used")
    right.set(title=f"{int(used.sum())} stars", xlabel="x (pixel)", ylabel="y (pixel)", aspect="equal")
    if x0:
        right.set(xlim=(-0.5, 2 * x0 + 0.5), ylim=(-0.5, 2 * y0 + 0.5))
    made.colorbar(dots, ax=right, label="chi²")
    if out.any():
        right.legend(fontsize="small", loc="upper right")
    return made  # type: ignore[no-any-return]
