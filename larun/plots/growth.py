"""The curve of growth of a catalogue's stars, with the apertures that were chosen and what they miss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from larun.algorithms.growth import CurveOfGrowth, curve_of_growth, growth_stars
from larun.errors import CatalogError, OptionError
from larun.model.catalog import SourceCatalog
from larun.plots.canvas import APERTURE, SOURCE, axes_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["growth_of", "show_growth"]

_POINTS = 14


def growth_of(catalog: SourceCatalog) -> CurveOfGrowth:
    """The curve of growth of a catalogue's stars: bright, without flags, and as lonely as its aperture correction asks.

    With its image, at 14 radii up to the one its magnitudes are corrected to (without photometry 4 FWHM); without, at
    the apertures it was measured in.

    Raises
    ------
    CatalogError
        If it has neither an image nor two apertures, or fewer than three stars are fit for it.
    """
    meta = catalog.meta
    if catalog.image is not None and meta.get("fwhm"):
        fwhm = float(meta["fwhm"])
        largest = float(meta.get("aperture_correction_radius") or 4 * fwhm)
        radii = np.linspace(0.5 * fwhm, largest, _POINTS)
        return _from_columns(catalog.photometer(tuple(radii), unit="pixel"), largest)
    if len(_apertures(meta)) < 2:
        raise CatalogError(f"{catalog!r} has no image and fewer than two apertures: attach its image")
    return _from_columns(catalog, float(meta.get("aperture_correction_radius") or np.inf))


def _apertures(meta: dict[str, Any]) -> list[float]:
    return [float(radius) for radius in meta.get("aperture_radii") or ()]


def _from_columns(catalog: SourceCatalog, largest: float) -> CurveOfGrowth:
    """The curve at the apertures of a catalogue up to a radius; the stars are those of its aperture correction."""
    meta = catalog.meta
    radii = np.array([radius for radius in _apertures(meta) if radius <= largest * (1 + 1e-9)])
    flux, error, flags = (
        np.column_stack([_plain(catalog[f"{name}_{k + 1}"]) for k in range(len(radii))])
        for name in ("aperture_flux", "aperture_flux_error", "aperture_flags")
    )
    x, y = _plain(catalog["x"]), _plain(catalog["y"])
    separation = radii[-1] + float(meta.get("fwhm") or radii[0])
    usable = growth_stars(flux, error, flags.astype(np.uint32), x, y, separation=separation)
    return curve_of_growth(flux, error, radii, usable=usable)


def show_growth(
    source: CurveOfGrowth | SourceCatalog,
    ax: Axes | Figure | SubFigure | None = None,
    *,
    catalog: SourceCatalog | None = None,
) -> Axes:
    """Draw a curve of growth with its scatter from star to star.

    Parameters
    ----------
    source : CurveOfGrowth or SourceCatalog
        The curve, or the catalogue to take it from (see :func:`growth_of`).
    ax : Axes, Figure or SubFigure, optional
        Where to draw; default a new figure.
    catalog : SourceCatalog, optional
        Whose apertures and aperture correction to draw; by default that of ``source``.

    Returns
    -------
    Axes
        Radius in pixels below and in units of the FWHM above.

    Raises
    ------
    CatalogError
        If the catalogue gives no curve.
    OptionError
        If ``source`` is something else.
    """
    if isinstance(source, SourceCatalog):
        catalog = catalog or source
        source = growth_of(source)
    elif not isinstance(source, CurveOfGrowth):
        raise OptionError(f"{type(source).__name__} is no curve of growth: give one, or a catalogue")
    axes = axes_in(ax, (6, 4.2))
    order = np.argsort(source.radii)
    radii, share, scatter = (values[order] for values in source[:3])
    axes.fill_between(
        radii, share - scatter, share + scatter, color=SOURCE, alpha=0.35, lw=0, label="scatter of the stars"
    )
    axes.plot(radii, share, color="black", marker="o", ms=3.5, lw=1, label=f"median of {source.stars} stars")
    axes.axhline(1.0, color="0.6", lw=0.6)
    axes.set(xlabel="radius (pixel)", ylabel="share of the light", xlim=(0, 1.05 * radii[-1]), ylim=(0, 1.12))
    if catalog is not None:
        _draw_choice(axes, catalog.meta)
    axes.legend(loc="lower right", fontsize="small")
    return axes  # type: ignore[no-any-return]  # matplotlib is untyped here


def _draw_choice(ax: Any, meta: dict[str, Any]) -> None:
    """The apertures, the correction of the smallest, and an axis in units of the FWHM."""
    fwhm = meta.get("fwhm")
    if fwhm:
        above = ax.secondary_xaxis("top", functions=(lambda r: r / fwhm, lambda r: r * fwhm))
        above.set_xlabel("radius (FWHM)")
    apertures = [radius for radius in _apertures(meta) if radius <= ax.get_xlim()[1]]
    for index, radius in enumerate(apertures):
        ax.axvline(radius, color=APERTURE, ls="--", lw=1, label="apertures" if index == 0 else None)
    correction, error = meta.get("aperture_correction"), meta.get("aperture_correction_error")
    if apertures and correction and error:
        ax.set_title(
            f"correction from {apertures[0]:.2f} to {meta['aperture_correction_radius']:.2f} pixel: "
            f"{correction[0]:+.3f} ± {error[0]:.3f} mag, from {meta['aperture_correction_stars']} stars",
            fontsize="small",
        )


def _plain(values: Any) -> Any:
    return np.asarray(getattr(values, "value", values))
