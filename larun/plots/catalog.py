"""What a catalogue is worth: errors, sizes and shapes of its sources against their magnitudes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError
from larun.plots.canvas import FLAGGED, SOURCE, figure_in
from larun.plots.overlay import flagged_sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from larun.model.catalog import SourceCatalog

__all__ = ["Magnitudes", "magnitudes_of", "show_catalog"]

_MANY = 5_000  # points beyond which a PDF holds them as an image


class Magnitudes(NamedTuple):
    """Magnitudes of sources with their errors, and the name of what they are."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    name: str


def magnitudes_of(catalog: SourceCatalog) -> Magnitudes:
    """The best magnitudes a catalogue has: total, else of the smallest aperture, else from the detection's flux.

    Raises
    ------
    CatalogError
        If it has none of these.
    """
    for name, error, text in (
        ("mag_total", "mag_total_error", "total magnitude"),
        ("mag_1", "mag_error_1", "magnitude in the smallest aperture"),
    ):
        if {name, error} <= set(catalog.columns) and np.isfinite(value := _plain(catalog[name])).any():
            return Magnitudes(value, _plain(catalog[error]), f"instrumental {text}")
    if not {"flux", "flux_error"} <= set(catalog.columns):
        raise CatalogError(f"{catalog!r} has neither magnitudes nor fluxes")
    flux, noise = _plain(catalog["flux"]), _plain(catalog["flux_error"])
    positive = np.where(flux > 0, flux, np.nan)
    return Magnitudes(-2.5 * np.log10(positive), 2.5 / np.log(10) * noise / positive, "instrumental magnitude (filter)")


def show_catalog(catalog: SourceCatalog, figure: Figure | SubFigure | None = None) -> Figure | SubFigure:
    """A page about a catalogue: number, error, FWHM and ellipticity against magnitude; flagged sources apart.

    Parameters
    ----------
    catalog : SourceCatalog
        Panels whose columns it lacks (forced photometry has no shapes) are left out.
    figure : Figure or SubFigure, optional
        Where to draw; default a new figure.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    CatalogError
        If it has neither magnitudes nor fluxes.
    """
    found = magnitudes_of(catalog)
    flagged = flagged_sources(catalog)
    columns = set(catalog.columns)
    panels: list[tuple[str, NDArray[np.float64]]] = [("error (mag)", found.error)]
    panels += [
        (label, _plain(catalog[name]))
        for name, label in (("fwhm", "FWHM (pixel)"), ("ellipticity", "ellipticity"))
        if name in columns and np.isfinite(_plain(catalog[name])).any()
    ]
    rows = (len(panels) + 2) // 2
    figure = figure_in(figure, (9, 3.4 * rows))
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    for ax in axes[len(panels) + 1 :]:
        ax.remove()
    _counts(axes[0], found.value, flagged)
    for ax, (label, values) in zip(axes[1:], panels, strict=False):
        _points(ax, found.value, values, flagged)
        ax.set_ylabel(label)
        if label.startswith("error"):
            ax.set_yscale("log" if (values > 0).any() else "linear")
        elif label.startswith("FWHM"):
            _size_axis(ax, values, catalog.meta.get("fwhm"))
        else:
            ax.set_ylim(-0.02, 1.0)
    limits = _range(found.value)
    for ax in axes[: len(panels) + 1]:
        ax.set_xlim(limits)
    figure.supxlabel(f"{found.name} (mag)", fontsize="medium")
    axes[0].legend(loc="upper left", fontsize="small")
    return figure


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of the magnitude axis: faint to the right."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = float(finite.min()), float(np.quantile(finite, 0.999))
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _counts(ax: Any, values: NDArray[np.float64], flagged: NDArray[np.bool_]) -> None:
    finite = values[np.isfinite(values)]
    low, high = _range(values)
    edges = np.linspace(low, high, max(8, min(40, int(np.sqrt(finite.size)) + 1)))
    for chosen, colour, fill, name in (
        (~flagged, SOURCE, True, "sources"),
        (flagged, FLAGGED, False, "flagged sources"),
    ):
        shown = values[chosen & np.isfinite(values)]
        if shown.size or not flagged.any():
            counts, _ = np.histogram(shown, edges)
            ax.stairs(counts, edges, fill=fill, color=colour, label=f"{name} {int(chosen.sum())}", lw=1.2)
    ax.set(ylabel="sources")
    ax.set_ylim(0, None)


def _points(ax: Any, x: NDArray[np.float64], y: NDArray[np.float64], flagged: NDArray[np.bool_]) -> None:
    size = 10.0 if len(x) < 500 else 3.0
    for chosen, colour, marker in ((~flagged, SOURCE, "o"), (flagged, FLAGGED, "x")):
        shape = {"facecolors": colour, "edgecolors": "none"} if marker == "o" else {"color": colour, "linewidths": 0.8}
        ax.scatter(
            x[chosen],
            y[chosen],
            s=size * (1 if marker == "o" else 2),
            marker=marker,
            rasterized=len(x) > _MANY,
            **shape,
        )


def _size_axis(ax: Any, values: NDArray[np.float64], fwhm: Any) -> None:
    finite = values[np.isfinite(values)]
    ax.set_ylim(0, 1.1 * float(np.quantile(finite, 0.98)))
    if fwhm:
        ax.axhline(float(fwhm), color="black", lw=0.8, ls="--", label=f"of a star {float(fwhm):.2f}")
        ax.legend(loc="upper left", fontsize="small")


def _plain(values: Any) -> NDArray[np.float64]:
    return np.asarray(getattr(values, "value", values), dtype=np.float64)
