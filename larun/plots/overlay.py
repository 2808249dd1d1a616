"""What is drawn over an image: flagged pixels, and the sources of a catalogue with their apertures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.errors import CatalogError
from larun.model.measure.measuring import ApertureOptions
from larun.plots.canvas import ANNULUS, APERTURE, COLOURS, FLAGGED, SOURCE, add_legend, require

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from larun.model.catalog import SourceCatalog
    from larun.model.image import Image

__all__ = ["Apertures", "apertures_of", "draw_catalog", "draw_flags", "flagged_sources"]

Window = tuple[tuple[int, int], tuple[int, int]]

_SCATTERED = 100_000  # flagged pixels that are also drawn as dots; more of them are seen anyway
_RADIUS = 1.5  # of the mark of a source, in units of its FWHM
_SIZES = (0.5, 4.0)  # least and largest size of a mark: the shape of a faint source is not known well
_LABELLED = 300  # labels in the view; more of them could not be read


def draw_flags(image: Image, ax: Axes, *, window: Window | None = None) -> Axes:
    """Paint flagged pixels over a picture of the image, with a legend of the flags and their numbers below.

    Parameters
    ----------
    image : Image
        Whose flags.
    ax : Axes
        A picture of it, as :func:`larun.plots.show` makes.
    window : ((int, int), (int, int)), optional
        Columns and rows, half open; only these are painted and counted.

    Returns
    -------
    Axes
        The same. A pixel with several flags has the colour of the first in :data:`larun.flags.TABLE`.
    """
    require()
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    (x0, x1), (y0, y1) = window or ((0, image.shape[1]), (0, image.shape[0]))
    plane = image.flags[y0:y1, x0:x1]
    paint = np.zeros((*plane.shape, 4), dtype=np.uint8)
    entries: list[Artist] = []
    counts = fl.counts_of(plane, image.instrument_flags)
    known = {name: index for index, name in enumerate(f.name for f in (*fl.TABLE, *image.instrument_flags))}
    bits = {fl.names_of(1 << bit, image.instrument_flags)[0]: np.uint32(1 << bit) for bit in range(32)}
    for index, (name, count) in reversed(list(enumerate(counts.items()))):  # the first wins: painted last
        colour = COLOURS[known.get(name, index) % len(COLOURS)]
        hit = (plane & bits[name]) != 0
        paint[hit] = np.rint(255 * np.array(to_rgba(colour)))
        if count < _SCATTERED:  # lone pixels of a large image would fall between those of the screen
            y, x = np.nonzero(hit)
            ax.plot(
                x + x0,
                y + y0,
                linestyle="none",
                marker="s",
                markersize=1.2,
                color=colour,
                markeredgewidth=0,
                rasterized=True,
            )
        entries.insert(0, Patch(color=colour, label=f"{name} {count}"))
    limits = ax.get_xlim(), ax.get_ylim()
    extent = (x0 - 0.5, x1 - 0.5, y0 - 0.5, y1 - 0.5)
    ax.imshow(paint, origin="lower", interpolation="nearest", extent=extent, aspect=ax.get_aspect())
    ax.set(xlim=limits[0], ylim=limits[1])
    add_legend(ax, entries)
    return ax


class Apertures(NamedTuple):
    """Where a catalogue was measured, in pixels: the radii, and the sky annulus where there was one."""

    radii: tuple[float, ...]
    annulus: tuple[float, float] | None


def apertures_of(catalog: SourceCatalog) -> Apertures:
    """The apertures of a catalogue, from its metadata and its record.

    Raises
    ------
    CatalogError
        If it has no aperture photometry.
    """
    radii = tuple(float(radius) for radius in catalog.meta.get("aperture_radii", ()))
    if not radii:
        raise CatalogError(f"{catalog!r} has no aperture photometry: catalog.photometer() makes it")
    for node in catalog.provenance.line():
        if node.step is None or node.step.operation not in ("photometer", "forced_photometry"):
            continue
        asked = node.step.parameters
        if asked.get("sky") != "annulus":
            break
        names = ("radii", "unit", "sky", "annulus")
        options = ApertureOptions(**{name: asked[name] for name in names if name in asked})
        return Apertures(radii, options.scaled(float(catalog.meta["fwhm"]))[1])
    return Apertures(radii, None)


def draw_catalog(
    catalog: SourceCatalog, ax: Axes, *, labels: str | None = None, apertures: bool = False, shapes: bool = True
) -> Axes:
    """Mark the sources of a catalogue on a picture of its image; sources with flagged pixels have broken lines.

    Parameters
    ----------
    catalog : SourceCatalog
        Positions are pixels of the picture; those outside the view are not drawn.
    ax : Axes
        A picture, as :func:`larun.plots.show` makes.
    labels : str, optional
        A column whose values are written beside the sources, the first 300 in the view.
    apertures : bool
        Draw the apertures and the sky annulus of the photometry.
    shapes : bool
        Ellipses of 1.5 times the FWHM that was measured for each source; else, and where none was, circles of the
        size of a star.

    Returns
    -------
    Axes
        The same, with a legend below.

    Raises
    ------
    CatalogError
        If there is no such column, or no aperture photometry.
    """
    require()
    from matplotlib.lines import Line2D

    x, y = (np.asarray(catalog[name], dtype=float) for name in "xy")
    seen = np.flatnonzero(_in_view(ax, x, y))
    centres = np.column_stack([x, y])[seen]
    width, height, angle = (values[seen] for values in _ellipses(catalog, shapes))
    flagged = flagged_sources(catalog)[seen]
    entries: list[Artist] = []
    for chosen, colour, line, name in ((~flagged, SOURCE, "-", "sources"), (flagged, FLAGGED, "--", "flagged sources")):
        if chosen.any():
            made = _marks(ax, centres[chosen], (width[chosen], height[chosen], angle[chosen]))
            made.set(edgecolor=colour, linestyle=line, linewidth=1.0, label=name)
            entries.append(Line2D([], [], color=colour, linestyle=line, label=f"{name} {int(chosen.sum())}"))
    if apertures:
        entries += _draw_apertures(ax, centres, apertures_of(catalog))
    if labels is not None:
        places = centres + 0.36 * width[:, None]  # at the upper right of a mark
        shown = np.flatnonzero(_in_view(ax, places[:, 0], places[:, 1]))[:_LABELLED]
        for place, value in zip(places[shown], catalog[labels][seen][shown], strict=True):
            _label(ax, (float(place[0]), float(place[1])), value)
    add_legend(ax, entries)
    return ax


def _in_view(ax: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    return np.asarray((x >= left) & (x <= right) & (y >= low) & (y <= high))


def flagged_sources(catalog: SourceCatalog) -> NDArray[np.bool_]:
    """Sources with a flag in the core, or in the smallest aperture where no detection has looked."""
    name = next((name for name in ("flags", "aperture_flags_1") if name in catalog.columns), None)
    return np.zeros(len(catalog), bool) if name is None else np.asarray(catalog[name] != 0)


def _ellipses(catalog: SourceCatalog, shapes: bool) -> tuple[NDArray[np.float64], ...]:
    """Full axes in pixels, and position angles in degrees."""
    star = float(catalog.meta.get("fwhm") or 10 / 3)
    size, ratio, angle = (np.full(len(catalog), value) for value in (star, 1.0, 0.0))
    if shapes and {"fwhm", "ellipticity", "theta"} <= set(catalog.columns):
        own, flat, theta = (np.asarray(catalog[name], dtype=float) for name in ("fwhm", "ellipticity", "theta"))
        known = np.isfinite(own) & (own > 0) & (flat >= 0) & (flat < 1)
        size[known], ratio[known], angle[known] = own[known], 1 - flat[known], np.nan_to_num(theta[known])
    size = 2 * _RADIUS * np.clip(size, _SIZES[0] * star, _SIZES[1] * star)
    return size / np.sqrt(ratio), size * np.sqrt(ratio), angle


def _marks(ax: Axes, centres: NDArray[np.float64], axes: tuple[Any, Any, Any]) -> Any:
    from matplotlib.collections import EllipseCollection

    made = EllipseCollection(*axes, units="xy", offsets=centres, offset_transform=ax.transData, facecolors="none")
    ax.add_collection(made, autolim=False)
    return made


def _draw_apertures(ax: Axes, centres: NDArray[np.float64], found: Apertures) -> list[Artist]:
    from matplotlib.lines import Line2D

    entries: list[Artist] = []
    groups = [(found.radii, APERTURE, "-", "apertures"), (found.annulus or (), ANNULUS, "--", "sky annulus")]
    for radii, colour, line, name in groups:
        for radius in radii:
            size = np.full(len(centres), 2 * radius)
            made = _marks(ax, centres, (size, size, np.zeros(len(centres))))
            made.set(edgecolor=colour, linestyle=line, linewidth=0.8, label=name)
        if radii:
            sizes = ", ".join(f"{radius:.1f}" for radius in radii)
            entries.append(Line2D([], [], color=colour, linestyle=line, label=f"{name} {sizes} pixel"))
    return entries


def _label(ax: Axes, where: tuple[float, float], value: Any) -> None:
    value = getattr(value, "value", value)
    text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
    # A dollar sign would begin mathematics: the values of a column are text.
    ax.text(*where, text, color=SOURCE, fontsize="x-small", clip_on=True, parse_math=False)
