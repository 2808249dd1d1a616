"""What changed: a candidate on all images side by side, and the light of a place through differences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError
from larun.markup import printable
from larun.plots.canvas import COLOURS, FLAGGED, SOURCE, axes_in, figure_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from larun.model.difference import DifferenceImage
    from larun.model.differencecurve import DifferenceCurve
    from larun.model.sky import SkyImage

__all__ = ["show_candidate", "show_difference_curve"]

#: Half a side of the stamps: so many FWHM, within these limits in pixels.
_HALF, _LEAST, _MOST = 5.0, 12, 40
#: The brightest grey stands for so many times the noise at least, and the score's range is so much at least.
_TOP, _SCORE = 20.0, 8.0
_NO_VALUE = "#0072B2"


def show_candidate(
    difference: DifferenceImage,
    x: float,
    y: float,
    figure: Figure | SubFigure | None = None,
    *,
    says: list[str] | None = None,
    curve: DifferenceCurve | None = None,
    star: int = 1,
    images: tuple[SkyImage, SkyImage] | None = None,
) -> Figure | SubFigure:
    """The new image, the reference, the difference and its score around a place, side by side.

    All have the orientation of the pixels. The first three have one stretch: grey is the sky, white is light, black is
    light that is missing; the reference is brought to the flux scale of the new image.

    Parameters
    ----------
    difference : DifferenceImage
        Of one that was read from a file the new image and the reference are not at hand, and not drawn.
    x, y : float
        The place, pixels; it is marked.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.
    says : list of str, optional
        Lines of text below.
    curve : DifferenceCurve, optional
        Its place number ``star`` is drawn below.
    star : int
        Number of the place in ``curve``.
    images : (SkyImage, SkyImage), optional
        The new image and the reference on the pixels of the difference, where it does not have them itself.

    Raises
    ------
    OptionError
        If the place is not on the image.
    """
    ny, nx = difference.shape
    if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        raise OptionError(f"x = {x}, y = {y}: must lie on the image, {nx} × {ny} pixels")
    figure = figure_in(figure, (11.0, 5.6))
    grid = figure.add_gridspec(2, 4, height_ratios=(1.25, 1.0))
    panels = [figure.add_subplot(grid[0, n]) for n in range(4)]
    half = int(np.clip(math.ceil(_HALF * difference.point_spread.fwhm), _LEAST, _MOST))
    pair = (difference.science, difference.reference) if images is None else images
    for image in pair:
        if image is not None and image.shape != difference.shape:
            raise OptionError(f"images: {image!r} does not lie on the pixels of {difference!r}")
    _draw_stamps(panels, difference, pair, (round(x), round(y), half))
    for ax in panels:
        _mark(ax, x, y, half)
        ax.tick_params(labelsize="x-small")
        if ax is not panels[0]:
            ax.set_yticklabels([])
    if difference.wcs is not None:
        _compass(panels[0], difference.wcs, (x, y), half)
    text = figure.add_subplot(grid[1, 2:] if curve is not None else grid[1, :])
    text.set_axis_off()
    text.text(
        0.0, 1.0, printable_lines(says or []), va="top", transform=text.transAxes, fontsize="small", parse_math=False
    )
    if curve is not None:
        show_difference_curve(curve, figure.add_subplot(grid[1, :2]), star=star)
    return figure


def printable_lines(lines: list[str]) -> str:
    """Lines without control characters, one below the other."""
    return "\n".join(printable(line) for line in lines)


def _draw_stamps(
    panels: list[Any], difference: DifferenceImage, pair: tuple[Any, Any], window: tuple[int, int, int]
) -> None:
    column, row, half = window
    score = _stamp(difference.score, window)
    images = [_light(pair[0], window, 1.0), _light(pair[1], window, difference.scale)]
    images.append(_stamp(difference.data, window))
    noise = _noise(difference, window)
    # of the candidate and the light around it, not of the brightest star at the edge of the stamp
    near = [part[half // 2 : -(half // 2), half // 2 : -(half // 2)] for part in images if part is not None]
    top = max([_TOP * noise, *(float(np.nanmax(np.abs(part), initial=0.0)) for part in near)])
    extent = (column - half - 0.5, column + half + 0.5, row - half - 0.5, row + half + 0.5)
    titles = ("new", "reference", "difference")
    for ax, image, title in zip(panels, images, titles, strict=False):
        ax.set_title(title, fontsize="small")
        if image is None:
            ax.text(0.5, 0.5, "not at hand", ha="center", va="center", transform=ax.transAxes, fontsize="small")
            ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        else:
            _grey(ax, np.arcsinh(image / noise), float(np.arcsinh(top / noise)), extent)
    reach = max(_SCORE, abs(float(score[half, half])) if np.isfinite(score[half, half]) else 0.0)
    _grey(panels[3], score, reach, extent)
    panels[3].set_title(f"score, ± {reach:.0f} σ", fontsize="small")


def _stamp(plane: NDArray[Any], window: tuple[int, int, int]) -> NDArray[np.float64]:
    """The pixels around a place, NaN beyond the image."""
    column, row, half = window
    made = np.full((2 * half + 1, 2 * half + 1), np.nan)
    ny, nx = plane.shape
    y0, y1, x0, x1 = max(row - half, 0), min(row + half + 1, ny), max(column - half, 0), min(column + half + 1, nx)
    made[y0 - row + half : y1 - row + half, x0 - column + half : x1 - column + half] = plane[y0:y1, x0:x1]
    return made


def _light(image: Any, window: tuple[int, int, int], scale: float) -> NDArray[np.float64] | None:
    """A stamp above its sky: what most of its pixels have."""
    if image is None:
        return None
    stamp = _stamp(image.data, window)
    known = stamp[np.isfinite(stamp)]
    return scale * (stamp - (np.quantile(known, 0.25) if known.size else 0.0))


def _noise(difference: DifferenceImage, window: tuple[int, int, int]) -> float:
    noise = difference.uncertainty
    stamp = _stamp(difference.data if noise is None else noise, window)
    known = stamp[np.isfinite(stamp) & (stamp > 0)]
    return float(np.median(known)) if known.size else 1.0


def _grey(ax: Any, values: NDArray[np.float64], top: float, extent: tuple[float, float, float, float]) -> None:
    import matplotlib as mpl

    ax.imshow(
        np.ma.masked_invalid(values),
        cmap=mpl.colormaps["gray"].with_extremes(bad=_NO_VALUE),
        vmin=-top,
        vmax=top,
        origin="lower",
        interpolation="nearest",
        extent=extent,
    )


def _mark(ax: Any, x: float, y: float, half: int) -> None:
    """Two strokes that point at the place and hide nothing of it."""
    near, far = 0.25 * half, 0.5 * half
    ax.plot([x + near, x + far], [y, y], "-", lw=1.4, color=SOURCE)
    ax.plot([x, x], [y + near, y + far], "-", lw=1.4, color=SOURCE)


def _compass(ax: Any, wcs: Any, place: tuple[float, float], half: int) -> None:
    """North and east, in the lower left corner of a stamp."""
    there = wcs.pixel_to_world(*place)
    corner = place[0] - 0.55 * half, place[1] - 0.7 * half
    for name, angle in (("N", 0.0), ("E", 90.0)):
        moved = there.directional_offset_by(_degrees(angle), _degrees(1 / 3600))
        dx, dy = (float(end - start) for end, start in zip(wcs.world_to_pixel(moved), place, strict=True))
        length = math.hypot(dx, dy)
        if not length > 0:
            return
        tip = corner[0] + 0.3 * half * dx / length, corner[1] + 0.3 * half * dy / length
        ax.annotate(
            name,
            xytext=tip,
            xy=corner,
            color=COLOURS[2],
            fontsize="x-small",
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": COLOURS[2], "shrinkA": 4, "shrinkB": 0},
        )


def _degrees(value: float) -> Any:
    from astropy.coordinates import Angle

    return Angle(value, unit="deg")


def show_difference_curve(
    curve: DifferenceCurve, ax: Axes | Figure | SubFigure | None = None, *, star: int = 1
) -> Axes:
    """The light of a place over time, above and below what the reference has of it.

    Points that cannot be trusted are crosses; where nothing is seen at 3 sigma an arrow begins at the upper limit.

    Parameters
    ----------
    curve : DifferenceCurve
        What :meth:`larun.LightCurve.from_differences` made.
    ax : Axes, Figure or SubFigure, optional
        Where to draw; default a new figure.
    star : int
        Number of the place.

    Returns
    -------
    Axes
    """
    axes = axes_in(ax, (7.0, 4.0))
    table, good, time = curve.curve(star), curve.good(star), curve.time(star)
    flux, error, limit = (np.asarray(table[name].value, float) for name in ("flux", "flux_error", "flux_limit"))
    start = float(np.floor(np.nanmin(time)))
    shown = np.isfinite(flux + error)
    lost = shown & ~good
    faint = good & (np.abs(flux) < curve.meta["limit"] * error)
    axes.axhline(0.0, color="0.6", lw=0.8)
    axes.errorbar(
        time[good] - start, flux[good], error[good], fmt="o", ms=3.5, lw=0.8, color=SOURCE, label="difference"
    )
    if faint.any():
        axes.plot(time[faint] - start, limit[faint], "v", ms=4, mfc="none", color=COLOURS[6], label="upper limit")
    if lost.any():
        axes.plot(time[lost] - start, flux[lost], "x", ms=5, color=FLAGGED, label="flagged")
    barycentric = "bjd_tdb" in table.colnames and np.isfinite(curve["bjd_tdb"].value).all()
    axes.set_xlabel(f"{'BJD_TDB' if barycentric else 'JD (UTC)'} - {start:.0f}", fontsize="small")
    axes.set_ylabel(f"flux less that of the reference ({table['flux'].unit or 'image unit'})", fontsize="small")
    axes.tick_params(labelsize="small")
    if faint.any() or lost.any():
        axes.legend(loc="best", fontsize="x-small")
    return axes  # type: ignore[no-any-return]  # matplotlib is untyped here
