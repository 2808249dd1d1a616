"""Light curves: points with their errors, a transit over them, what the frames were like; scatter against magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun.plots.canvas import COLOURS, FLAGGED, SOURCE, axes_in, figure_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from larun.model.curves.transit import TransitFit
    from larun.model.lightcurve import LightCurve

__all__ = ["show_light_curve", "show_scatter"]

_COVARIATES = (
    ("zero_point", "zero point (mag)"),
    ("fwhm", "FWHM (pixel)"),
    ("sky", "sky (e⁻)"),
    ("airmass", "air mass"),
)
_ROOM = 1.25


def show_light_curve(
    curve: LightCurve,
    figure: Figure | SubFigure | None = None,
    *,
    star: int = 1,
    fit: TransitFit | None = None,
) -> Figure | SubFigure:
    """The light of a star over time, what is left of a fit, and what the frames were like.

    Flagged points are crosses; those beyond the axis are drawn at its edge.

    Parameters
    ----------
    curve : LightCurve
        What :meth:`larun.LightCurve.extract` made.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.
    star : int
        Number of the star.
    fit : TransitFit, optional
        What :meth:`larun.LightCurve.fit_transit` found.
    """
    table, good, time = curve.curve(star), curve.good(star), curve.time(star)
    start = np.floor(np.nanmin(time))
    shown = [(name, label) for name, label in _COVARIATES if np.isfinite(_plain(table[name])).any()]
    heights = [3.0, *([1.2] if fit is not None else []), *([0.8] * len(shown))]
    figure = figure_in(figure, (7.5, 1.05 * sum(heights) + 0.6))
    axes = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    _draw_points(axes[0], (time - start, *(_plain(table[name]) for name in ("flux", "flux_error"))), good)
    axes[0].set_ylabel("relative flux")
    if fit is not None:
        _draw_fit(axes[0], axes[1], fit, start)
    for ax, (name, label) in zip(axes[-len(shown) :], shown, strict=True):
        ax.plot(time - start, _plain(table[name]), ".-", ms=3, lw=0.6, color=COLOURS[6])
        ax.set_ylabel(label, fontsize="x-small")
        ax.tick_params(labelsize="x-small")
    axes[-1].set_xlabel(f"{'BJD_TDB' if curve.barycentric else 'JD (UTC)'} - {start:.0f}")
    about = table.meta["about"]
    axes[0].set_title(
        f"star {star}: {int(good.sum())} of {len(good)} points, from point to point "
        f"{_thousandths(about['point_to_point'])}, noise {_thousandths(about['predicted'])}",
        fontsize="small",
    )
    return figure


def _thousandths(value: float | None) -> str:
    return "not known" if value is None else f"{1e3 * value:.2f} ‰"


def _draw_points(ax: Any, points: tuple[Any, Any, Any], good: NDArray[np.bool_]) -> None:
    time, flux, error = points
    ax.errorbar(time[good], flux[good], error[good], fmt="o", ms=3.5, lw=0.8, color=SOURCE, label="used")
    if good.any():
        low, high = np.min(flux[good] - error[good]), np.max(flux[good] + error[good])
        middle, half = (low + high) / 2, _ROOM * (high - low) / 2
        ax.set_ylim(middle - half, middle + half)
    if (~good & np.isfinite(flux)).any():
        lost = ~good & np.isfinite(flux)
        low, high = ax.get_ylim()
        edge = 0.02 * (high - low)
        ax.plot(time[lost], np.clip(flux[lost], low + edge, high - edge), "x", ms=5, color=FLAGGED, label="flagged")
        ax.legend(loc="best", fontsize="small")


def _draw_fit(upper: Any, lower: Any, fit: TransitFit, start: float) -> None:
    upper.plot(fit.time - start, fit.model, "-", color="black", lw=1.2, label="transit and trend")
    upper.plot(fit.time - start, fit.systematics, "--", color="0.5", lw=0.9, label="trend")
    upper.axvline(fit.t_mid - start, color="0.6", lw=0.6)
    upper.legend(loc="best", fontsize="small")
    lower.axhline(0.0, color="black", lw=0.8)
    lower.errorbar(fit.time - start, 1e3 * fit.residual, 1e3 * fit.error, fmt="o", ms=3, lw=0.7, color=SOURCE)
    lower.set_ylabel("left (‰)", fontsize="small")
    scale = "BJD_TDB" if fit.barycentric else "JD (UTC)"
    lower.set_title(
        f"{scale} {fit.t_mid:.5f} ± {fit.t_mid_error:.5f}, "
        f"depth {100 * fit.depth:.2f} ± {100 * fit.depth_error:.2f} %, "
        f"beta {fit.beta:.2f}, trend: {', '.join(fit.trend)}",
        fontsize="small",
    )


def show_scatter(curve: LightCurve, ax: Axes | Figure | SubFigure | None = None) -> Axes:
    """Scatter of every star from point to point against its magnitude, and what its noise predicts.

    Parameters
    ----------
    curve : LightCurve
        What :meth:`larun.LightCurve.extract` made.
    ax : Axes, Figure or SubFigure, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
    """
    axes = axes_in(ax, (6.5, 4.5))
    stars = curve.stars
    magnitude, scatter, predicted = (_plain(stars[n]) for n in ("magnitude", "point_to_point", "predicted"))
    used = np.asarray(stars["used"], bool)
    target = np.arange(len(stars)) < curve.targets
    groups = (
        (used, "o", SOURCE, "comparison stars"),
        (~used & ~target, "x", FLAGGED, "rejected"),
        (target, "*", COLOURS[5], "target"),
    )
    for chosen, marker, colour, label in groups:
        if chosen.any():
            size = 11 if marker == "*" else 5
            axes.plot(magnitude[chosen], 1e3 * scatter[chosen], marker, ms=size, color=colour, label=label)
    order = np.argsort(magnitude)
    axes.plot(magnitude[order], 1e3 * predicted[order], "-", lw=1, color="black", label="noise")
    axes.set(xlabel="instrumental magnitude", ylabel="scatter from point to point (‰)", yscale="log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize="x-small")
    axes.legend(loc="lower right", fontsize="small")
    return axes  # type: ignore[no-any-return]  # matplotlib is untyped here


def _plain(values: Any) -> NDArray[np.float64]:
    return np.asarray(getattr(values, "value", values), dtype=np.float64)
