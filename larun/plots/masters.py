"""One page about a master: its image, how its values are distributed, its rows and columns, and what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun import flags as fl
from larun.algorithms.robust import mad_sigma
from larun.plots.canvas import FLAGGED, SOURCE, figure_in
from larun.plots.image import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from larun.model.masters import Master

__all__ = ["Robust", "profile", "robust", "show_master"]

_CLIP = 5.0
_SAMPLED = 512  # rows or columns that a profile's median is taken over
_BINS = 120


class Robust(NamedTuple):
    """Clipped mean and robust scatter of values, and how many of them lie beyond the clip."""

    mean: float
    sigma: float
    outliers: int


def robust(values: ArrayLike) -> Robust:
    """Mean of what lies within 5 σ of the median; σ from the median absolute deviation.

    Examples
    --------
    >>> robust([1.0, 2.0, 3.0, 1000.0])._replace(sigma=0)
    Robust(mean=2.0, sigma=0, outliers=1)
    """
    array = np.asarray(values, dtype=np.float64)
    good = array[np.isfinite(array)]
    if good.size == 0:
        return Robust(np.nan, np.nan, 0)
    middle = np.median(good)
    sigma = mad_sigma(good, middle)
    near = np.abs(good - middle) <= (_CLIP * sigma if sigma > 0 else np.inf)
    return Robust(float(good[near].mean()), sigma, int(good.size - near.sum()))


def profile(data: NDArray[Any], good: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """The median of the good pixels along an axis, of at most 512 evenly spaced ones; NaN where there are none."""
    step = max(1, data.shape[axis] // _SAMPLED)
    cut = (slice(None, None, step), slice(None)) if axis == 0 else (slice(None), slice(None, None, step))
    values = np.sort(np.where(good[cut], data[cut].astype(np.float64), np.nan), axis=axis)  # NaN comes last
    counts = np.isfinite(values).sum(axis=axis, keepdims=True)
    middle = [
        np.take_along_axis(values, np.clip((counts + shift) // 2, 0, values.shape[axis] - 1), axis=axis)
        for shift in (-1, 0)
    ]
    made = np.where(counts > 0, (middle[0] + middle[1]) / 2, np.nan)
    return np.asarray(made.squeeze(axis=axis), dtype=np.float64)


def show_master(
    master: Master, figure: Figure | SubFigure | None = None, *, stretch: str = "asinh", flags: bool = False
) -> Figure | SubFigure:
    """A page about a master.

    Its image; the histogram of its usable pixels with robust mean and σ and the normal distribution these would make;
    the median of every column and row; number of frames, criteria and flagged pixels.

    Parameters
    ----------
    master : Master
        Bias, dark or flat.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.
    stretch : {"asinh", "linear", "log", "zscale"}
        Of the image.
    flags : bool
        Paint flagged pixels.

    Returns
    -------
    Figure or SubFigure
        With the axes ``image``, ``histogram``, ``columns``, ``rows`` and ``about``, so labelled.
    """
    page = figure_in(figure, (11, 7.5))
    made: dict[str, Any] = page.subplot_mosaic(
        [["image", "histogram"], ["image", "columns"], ["about", "rows"]],
        width_ratios=(1.25, 1),
        gridspec_kw={"hspace": 0.08},
    )
    good = ~master.unusable & np.isfinite(master.data)
    found = robust(master.data[good])
    show(master, made["image"], stretch=stretch, flags=flags, coordinates="pixel", colorbar=True)
    unit = master.unit or "relative"
    _histogram(made["histogram"], master.data[good], found, unit)
    for name, axis, label in (("columns", 0, "x (pixel)"), ("rows", 1, "y (pixel)")):
        line = profile(master.data, good, axis)
        made[name].plot(line, color="black", lw=0.7)
        made[name].set(xlabel=label, ylabel=f"median ({unit})", xlim=(0, max(len(line) - 1, 1)))
        _limit(made[name], line)
    made["about"].axis("off")
    made["about"].text(
        0.0, 0.95, _text(master, found), va="top", fontsize="small", linespacing=1.5, parse_math=False, wrap=False
    )
    return page  # type: ignore[no-any-return]


def _histogram(ax: Any, values: NDArray[Any], found: Robust, unit: str) -> None:
    width = found.sigma if found.sigma > 0 else max(abs(found.mean), 1.0) * 1e-3
    if not np.isfinite(found.mean):
        ax.text(0.5, 0.5, "no usable pixel", ha="center", transform=ax.transAxes)
        return
    low, high = found.mean - 8 * width, found.mean + 8 * width
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    ax.stairs(counts, edges, fill=True, color=SOURCE)
    centres = (edges[1:] + edges[:-1]) / 2
    normal = np.exp(-0.5 * ((centres - found.mean) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    ax.plot(centres, normal * len(values) * (edges[1] - edges[0]), color="black", lw=1, label="normal")
    ax.axvline(found.mean, color=FLAGGED, lw=1)
    ax.set(yscale="log", ylim=(0.5, 2 * max(counts.max(), 1)), xlim=(low, high))
    ax.set(xlabel=f"value ({unit})", ylabel="pixels", title=f"{found.mean:.6g} ± {found.sigma:.3g} {unit}")
    ax.title.set_fontsize("medium")


def _limit(ax: Any, line: NDArray[np.float64]) -> None:
    """Leave out what a few bad rows would stretch the axis to."""
    finite = line[np.isfinite(line)]
    if finite.size == 0:
        return
    low, high = np.quantile(finite, (0.005, 0.995))
    room = 0.3 * (high - low) or max(abs(high), 1.0) * 1e-3
    ax.set_ylim(low - room, high + room)


def _text(master: Master, found: Robust) -> str:
    ny, nx = master.shape
    rows = [(type(master).__name__, f"{nx} × {ny}, {master.unit or 'relative'}"), ("frames", str(master.count))]
    for name, value in master.criteria.items():
        if value is not None:
            rows.append((name.replace("_", " "), _plain(value, ", " if name == "gain" else " × ")))
    counts = fl.counts_of(master.flags, master.instrument_flags)
    rows += [
        ("mean, σ", f"{found.mean:.6g}, {found.sigma:.4g}; {found.outliers} pixels beyond {_CLIP:g} σ"),
        ("flagged", ", ".join(f"{name} {count}" for name, count in counts.items()) or "no pixel"),
    ]
    return "\n".join(f"{name}: {text}" for name, text in rows)


def _plain(value: Any, between: str = " × ") -> str:
    from larun.markup import printable

    if isinstance(value, list | tuple):
        return between.join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else printable(str(value))[:60]
