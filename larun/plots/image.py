"""One picture of one image: a stretch that shows the noise of the sky and the cores of stars at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from larun import flags as fl
from larun.algorithms.stretch import stretch_of
from larun.errors import MissingExtra, OptionError
from larun.model.image import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from larun.model.catalog import SourceCatalog

__all__ = ["show"]

# Colours that are told apart with the common forms of colour blindness (Okabe & Ito 2008); flags beyond them repeat.
_COLOURS = ("#D55E00", "#CC79A7", "#F0E442", "#56B4E9", "#E69F00", "#009E73", "#0072B2", "#999999")
_CIRCLES = "#E69F00"
_SCATTERED = 100_000  # flagged pixels that are also drawn as dots; more of them are seen anyway


def show(
    image: Image | ArrayLike,
    ax: Axes | None = None,
    *,
    catalog: SourceCatalog | None = None,
    flags: bool = False,
) -> Axes:
    """Draw an image, its flagged pixels and a catalogue.

    Parameters
    ----------
    image : Image or array_like (ny, nx)
        What to draw. Unusable pixels of an image do not count for the stretch.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default a new figure.
    catalog : SourceCatalog, optional
        Circles at its positions, of 1.5 FWHM radius (5 pixels where the catalogue knows no FWHM).
    flags : bool
        Paint flagged pixels and list the flags with their number of pixels. A pixel with several flags has the colour
        of the first in :data:`larun.flags.TABLE`.

    Returns
    -------
    matplotlib.axes.Axes
        Where it was drawn; y upwards, (0, 0) the centre of the first pixel.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    OptionError
        If the array is not 2-D, or flags are asked for and it has none.

    Examples
    --------
    >>> import larun
    >>> from larun import plots
    >>> frame = larun.Frame.read("raw/d1059.fits")  # doctest: +SKIP
    >>> plots.show(frame, flags=True)  # doctest: +SKIP
    """
    data = image.data if isinstance(image, Image) else np.asarray(image)
    if data.ndim != 2:
        raise OptionError(f"an array of shape {data.shape} is not an image: give (ny, nx)")
    if flags and not isinstance(image, Image):
        raise OptionError("flags=True: a plain array has no flags; give a larun image")
    try:
        from matplotlib import pyplot as plt
        from matplotlib.colors import FuncNorm
    except ImportError as error:
        raise MissingExtra("matplotlib", "plots") from error

    usable = data
    if isinstance(image, Image) and not image.unusable.all():
        usable = data[~image.unusable]
    found = stretch_of(usable)

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 6), layout="constrained")
    norm = FuncNorm((found.forward, found.inverse), vmin=found.low, vmax=found.high, clip=True)
    ax.imshow(np.ma.masked_invalid(data), norm=norm, cmap="gray", origin="lower", interpolation="nearest")
    ax.set_xlabel("x (pixel)")
    ax.set_ylabel("y (pixel)")
    if flags and isinstance(image, Image):
        _paint_flags(ax, image)
    if catalog is not None:
        _draw_circles(ax, catalog)
    ny, nx = data.shape
    ax.set_xlim(-0.5, nx - 0.5)
    ax.set_ylim(-0.5, ny - 0.5)
    return ax


def _paint_flags(ax: Axes, image: Image) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    paint = np.zeros((*image.shape, 4), dtype=np.float32)
    entries: list[Patch] = []
    for index, flag in reversed(list(enumerate((*fl.TABLE, *image.instrument_flags)))):  # the first wins: painted last
        hit = (image.flags & flag.value) != 0
        if hit.any():
            colour = _COLOURS[index % len(_COLOURS)]
            paint[hit] = to_rgba(colour)
            if hit.sum() < _SCATTERED:  # lone pixels of a large image would fall between those of the screen
                y, x = np.nonzero(hit)
                ax.plot(x, y, linestyle="none", marker="s", markersize=1.2, color=colour, markeredgewidth=0)
            entries.insert(0, Patch(color=colour, label=f"{flag.name} {int(hit.sum())}"))
    ax.imshow(paint, origin="lower", interpolation="nearest")
    if entries:
        ax.legend(handles=entries, loc="upper right", fontsize="small", framealpha=0.85)


def _draw_circles(ax: Axes, catalog: SourceCatalog) -> None:
    from matplotlib.collections import EllipseCollection

    columns: list[Any] = [catalog[name] for name in "xy"]
    centres = np.column_stack([getattr(column, "value", column) for column in columns])
    centres = centres[np.isfinite(centres).all(axis=1)]
    size = 3.0 * float(catalog.meta.get("fwhm", 10 / 3))
    sizes = np.full(len(centres), size)
    circles = EllipseCollection(
        sizes,
        sizes,
        np.zeros(len(centres)),
        units="xy",
        offsets=centres,
        offset_transform=ax.transData,
        facecolors="none",
        edgecolors=_CIRCLES,
        linewidths=0.8,
    )
    ax.add_collection(circles)
