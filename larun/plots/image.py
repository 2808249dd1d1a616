"""One picture of one image: a stretch that shows the noise of the sky and the cores of stars at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from larun.algorithms.stretch import Stretch, stretch_of, thumbnail, thumbnail_steps
from larun.errors import OptionError
from larun.flags import UNUSABLE
from larun.model.image import Image
from larun.plots import sky
from larun.plots.canvas import axes_in, require
from larun.plots.overlay import Window, draw_catalog, draw_flags

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from larun.model.catalog import SourceCatalog

__all__ = ["COORDINATES", "show"]

COORDINATES = ("auto", "world", "pixel")

_STRIP = 12  # a strip longer than this many times its width is drawn with pixels that are not square
_LARGEST = 2400  # pixels of a side that are handed to matplotlib: of more it would draw none apart
_SAMPLE = 1_000_000  # values that a stretch is taken from
_NO_VALUE = "#0072B2"  # a blue that no grey level is taken for


def show(
    image: Image | ArrayLike,
    ax: Axes | Figure | SubFigure | None = None,
    *,
    catalog: SourceCatalog | None = None,
    flags: bool = False,
    stretch: str = "asinh",
    window: Window | None = None,
    coordinates: str = "auto",
    colorbar: bool = False,
) -> Axes:
    """Draw an image, its flagged pixels and a catalogue.

    Parameters
    ----------
    image : Image or array_like (ny, nx)
        What to draw. Unusable pixels of an image do not count for the stretch.
    ax : Axes, Figure or SubFigure, optional
        Where to draw; in a figure new axes are made, by default in a new figure.
    catalog : SourceCatalog, optional
        Marks at its positions, as :func:`larun.plots.draw_catalog` makes.
    flags : bool
        Paint flagged pixels and list the flags with their number of pixels below the picture. A pixel with several
        flags has the colour of the first in :data:`larun.flags.TABLE`.
    stretch : {"asinh", "linear", "log", "zscale"}
        See :func:`larun.algorithms.stretch.stretch_of`.
    window : ((x0, x1), (y0, y1)), optional
        Columns and rows to draw, half open, 0-based; the stretch is theirs.
    coordinates : {"auto", "world", "pixel"}
        ``"world"`` has right ascension and declination at the axes, a graticule, a compass and a scale bar;
        ``"auto"`` does so where the image has a WCS and the axes are made here, or are
        :class:`astropy.visualization.wcsaxes.WCSAxes`.
    colorbar : bool
        Values of the grey levels, with their unit.

    Returns
    -------
    Axes
        Where it was drawn; y upwards, data coordinates are pixels, (0, 0) the centre of the first.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    OptionError
        If the array is not 2-D, an option makes no sense, or the image has no flags or WCS where they are asked for.

    Examples
    --------
    >>> import larun
    >>> from larun import plots
    >>> frame = larun.Frame.read("raw/d1059.fits")  # doctest: +SKIP
    >>> plots.show(frame, flags=True)  # doctest: +SKIP
    """
    require()
    data = image.data if isinstance(image, Image) else np.asarray(image)
    if data.ndim != 2 or 0 in data.shape:
        raise OptionError(f"an array of shape {data.shape} is not an image: give (ny, nx)")
    if flags and not isinstance(image, Image):
        raise OptionError("flags=True: a plain array has no flags; give a larun image")
    (x0, x1), (y0, y1) = checked = _checked(window, data.shape)
    wcs = _world(image, ax, coordinates)
    cut = data[y0:y1, x0:x1]
    found = stretch_of(_usable(image, cut, checked), stretch)
    axes = axes_in(ax, projection=wcs)
    extent = (x0 - 0.5, x1 - 0.5, y0 - 0.5, y1 - 0.5)
    drawn = _draw(axes, cut, found, extent)
    if wcs is None:
        axes.set(xlabel="x (pixel)", ylabel="y (pixel)")
    else:
        sky.label_world(axes, wcs)
        if axes.get_aspect() != "auto":  # angles and lengths are true
            sky.draw_compass(axes, wcs, extent)
            sky.draw_scale_bar(axes, wcs, extent)
    if colorbar:
        unit = (image.unit or "relative") if isinstance(image, Image) else "value"
        # An inset is as tall as the image, whatever its shape.
        bar = axes.figure.colorbar(drawn, cax=axes.inset_axes((1.02, 0.0, 0.035, 1.0)), ticks=_ticks(found))
        bar.set_label(unit)
    if flags and isinstance(image, Image):
        draw_flags(image, axes, window=checked)
    if catalog is not None:
        draw_catalog(catalog, axes)
    return axes  # type: ignore[no-any-return]  # matplotlib is untyped here


def _checked(window: Window | None, shape: tuple[int, ...]) -> Window:
    ny, nx = shape
    if window is None:
        return (0, nx), (0, ny)
    try:
        (x0, x1), (y0, y1) = ((int(low), int(high)) for low, high in window)
    except (TypeError, ValueError) as error:
        raise OptionError(f"window {window!r}: must be ((x0, x1), (y0, y1))") from error
    if not (0 <= x0 < x1 <= nx and 0 <= y0 < y1 <= ny):
        raise OptionError(f"window {x0}:{x1}, {y0}:{y1} must lie within the image, 0:{nx}, 0:{ny}")
    return (x0, x1), (y0, y1)


def _world(image: Any, ax: Any, coordinates: str) -> Any:
    """The WCS to draw with; None for pixels."""
    if coordinates not in COORDINATES:
        raise OptionError(f"coordinates={coordinates!r}: must be one of {', '.join(COORDINATES)}")
    wcs = image.wcs if isinstance(image, Image) and coordinates != "pixel" else None
    plain = ax is not None and not hasattr(ax, "add_subplot") and not hasattr(ax, "coords")
    if coordinates == "world" and wcs is None:
        raise OptionError(f"{image!r} has no celestial WCS: draw it in pixels")
    if coordinates == "world" and plain:
        raise OptionError(
            "these axes are in pixels: give a figure, or axes made with add_subplot(projection=image.wcs)"
        )
    return None if plain else wcs


def _usable(image: Any, cut: Any, window: Window) -> Any:
    """Values for the stretch: of a large image every few rows and columns."""
    step = max(1, int(np.sqrt(cut.size / _SAMPLE)))
    sampled = slice(None, None, step), slice(None, None, step)
    if not isinstance(image, Image):
        return cut[sampled]
    (x0, x1), (y0, y1) = window
    good = (image.flags[y0:y1, x0:x1][sampled] & UNUSABLE) == 0
    return cut[sampled][good] if good.any() else cut[sampled]


def _draw(ax: Any, cut: Any, found: Stretch, extent: tuple[float, float, float, float]) -> Any:
    import matplotlib as mpl
    from matplotlib.colors import FuncNorm

    values, (left, right, low, high) = cut, extent
    if max(cut.shape) > _LARGEST:
        values = thumbnail(cut, size=_LARGEST)
        step, block = thumbnail_steps(cut.shape, _LARGEST)
        right = left + values.shape[1] * step * block
        high = low + values.shape[0] * step * block  # the last block may reach beyond the image
    drawn = ax.imshow(
        np.ma.masked_invalid(values),
        norm=FuncNorm((found.forward, found.inverse), vmin=found.low, vmax=found.high, clip=True),
        cmap=mpl.colormaps["gray"].with_extremes(bad=_NO_VALUE),
        origin="lower",
        interpolation="antialiased",  # every pixel counts where they are smaller than those of the screen
        extent=(left, right, low, high),
        aspect="auto" if max(cut.shape) > _STRIP * min(cut.shape) else "equal",
    )
    ax.set(xlim=extent[:2], ylim=extent[2:])
    return drawn


def _ticks(stretch: Stretch, count: int = 6) -> list[float] | None:
    """Round values whose grey levels are spread over the range; None where the scale is linear."""
    if stretch.kind in ("linear", "zscale"):
        return None
    first, last = stretch.forward([stretch.low, stretch.high])
    values = stretch.inverse(np.linspace(first, last, count))
    ticks: list[float] = []
    for index, value in enumerate(values):
        room = min(abs(value - values[other]) for other in (index - 1, index + 1) if 0 <= other < count)
        digits = -int(np.floor(np.log10(room))) if room > 0 else 0
        rounded = round(float(value), digits)
        if stretch.low <= rounded <= stretch.high and rounded not in ticks:
            ticks.append(rounded)
    return ticks
