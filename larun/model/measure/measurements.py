"""A series of catalogues of the same stars as a measurement table of AstroImageJ, and such a table back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.errors import CatalogError, OptionError
from larun.io.astroimagej import read_columns, write_columns

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.catalog import SourceCatalog

__all__ = ["read_measurements", "write_measurements"]

#: Columns of a frame that a catalogue's metadata know.
_FROM_META = {"JD_UTC": "jd_utc", "BJD_TDB": "bjd_tdb", "AIRMASS": "airmass", "EXPTIME": "exposure"}


def write_measurements(
    path: str | Path,
    catalogs: Iterable[SourceCatalog],
    *,
    aperture: int = 1,
    targets: int = 1,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[float]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the photometry of a series as a measurement table that AstroImageJ opens.

    Parameters
    ----------
    path : path
        Usually ends in ``.tbl``.
    catalogs : iterable of SourceCatalog
        One an image, in the order of the rows, all of the same positions in the same order, as
        :meth:`larun.SkyImage.photometer` gives them.
    aperture : int
        Which of the apertures, from 1.
    targets : int
        So many of the first sources are targets (``T1``, ``T2`` …); the others are comparison stars (``C3`` …).
    labels : sequence of str, optional
        Names of the images; by default those of the files they came from.
    columns : mapping, optional
        More columns of one number an image, or others in the place of those made here: ``{"BJD_TDB": […]}``.
    overwrite : bool
        Replace a table of larun; any other file is never replaced.

    Returns
    -------
    path
        Of the file.

    Raises
    ------
    OptionError
        If the catalogues do not measure the same sources, or an option makes no sense.
    CatalogError
        If a catalogue has no such aperture.
    FileError
        If the path may not be written.

    Notes
    -----
    Columns are AstroImageJ's (Collins et al. 2017, AJ 153, 77). ``X(FITS)`` counts pixels from 1; ``X(IJ)`` and
    ``Y(IJ)``, from the upper left corner, need the image. ``Source-Sky`` is in the unit of the images. Times are those
    of the catalogues' metadata, mid-exposure; ``BJD_TDB`` is for the first target where its coordinates and the image
    are at hand, else for the pointing. ``rel_flux`` is the flux over the sum of all comparison stars but the star
    itself. ``Saturated`` counts stars with a saturated pixel, ``larun_flagged`` those with any pixel that must not be
    measured.

    Examples
    --------
    >>> import tempfile, numpy as np, larun
    >>> sky = np.random.default_rng(1).normal(100, 10, (64, 64))
    >>> sky[20, 30] += 5000
    >>> sky[45, 40] += 3000
    >>> frame = larun.Frame.from_arrays(sky, variance=np.full((64, 64), 100.0), unit="electron")
    >>> stars = frame.detect(50.0, fwhm=2.0).photometer((4.0,), unit="pixel")
    >>> path = larun.write_measurements(tempfile.mkdtemp() + "/a.tbl", [stars], labels=["first"])
    >>> table = larun.read_measurements(path)
    >>> table["Label"][0], round(float(table["rel_flux_T1"][0]), 1)
    (np.str_('first'), 1.7)
    """
    series = list(catalogs)
    _check(series, aperture, targets)
    names = [f"T{n}" if n <= targets else f"C{n}" for n in range(1, len(series[0]) + 1)]
    shown = [_label(catalog, number) for number, catalog in enumerate(series, 1)] if labels is None else list(labels)
    made: dict[str, Any] = {"Label": shown, "slice": list(range(1, len(series) + 1))}
    made |= _flagged(series, aperture)
    made |= _of_frames(series, aperture)
    flux, error = (_stack(series, f"aperture_{what}_{aperture}") for what in ("flux", "flux_error"))
    made |= _relative(flux, error, names, targets)
    for index, name in enumerate(names):
        made |= {f"{key}_{name}": values for key, values in _of_star(series, index, aperture).items()}
    made |= {name: list(values) for name, values in (columns or {}).items()}
    wrong = [name for name, values in made.items() if len(values) != len(series)]
    if wrong:
        raise OptionError(f"{', '.join(wrong[:5])}: must have {len(series)} values, one a catalogue")
    write_columns(path, made, overwrite=overwrite)
    return Path(path)


def read_measurements(path: str | Path) -> QTable:
    """Read a measurement table of AstroImageJ, its own or one that :func:`write_measurements` wrote.

    Parameters
    ----------
    path : path
        ``.tbl``, ``.xls`` or ``.txt`` with tabs, or ``.csv``.

    Returns
    -------
    astropy.table.QTable
        One row an image, under AstroImageJ's own names and conventions: ``X(FITS)_T1`` counts from 1, ``RA_T1`` is in
        hours. Columns whose unit the name tells have it; a cell without a number is NaN.

    Raises
    ------
    FileError
        If it is missing, or is no such table.
    """
    return read_columns(path)


def _check(series: Sequence[SourceCatalog], aperture: int, targets: int) -> None:
    if not series:
        raise OptionError("there are no catalogues to write")
    first = series[0]
    for number, catalog in enumerate(series, 1):
        if not hasattr(catalog, "provenance") or not hasattr(catalog, "columns"):
            raise OptionError(f"catalogue {number} is a {type(catalog).__name__}: give larun.SourceCatalog")
        same = len(catalog) == len(first) and np.array_equal(np.asarray(catalog["id"]), np.asarray(first["id"]))
        if not same:
            raise OptionError(
                f"catalogue {number} ({_label(catalog, number)}) has other sources ({len(catalog)}) than the first "
                f"({len(first)}): measure all images at the same positions, with frame.photometer(positions)"
            )
        if f"aperture_flux_{aperture}" not in catalog.columns:
            held = sum(name.startswith("aperture_flux_error_") for name in catalog.columns)
            raise CatalogError(f"aperture={aperture}: catalogue {number} has {held} apertures: measure it first")
    if not len(first):
        raise OptionError("the catalogues have no sources")
    if not 1 <= targets <= len(first):
        raise OptionError(f"targets={targets}: must be 1 … {len(first)}, the number of sources")


def _label(catalog: SourceCatalog, number: int) -> str:
    """The name of the file the image came from."""
    nodes = [*catalog.provenance.line()]
    return next((node.root.name for node in nodes[::-1] if node.root is not None and node.root.name), f"image {number}")


def _plain(catalog: SourceCatalog, name: str) -> NDArray[np.float64]:
    if name not in catalog.columns:
        return np.full(len(catalog), np.nan)
    column = catalog[name]
    return np.asarray(getattr(column, "value", column), dtype=float)


def _stack(series: Sequence[SourceCatalog], name: str) -> NDArray[np.float64]:
    """A column of every catalogue, (images, sources)."""
    return np.stack([_plain(catalog, name) for catalog in series])


def _flagged(series: Sequence[SourceCatalog], aperture: int) -> dict[str, list[int]]:
    flags = [np.asarray(catalog[f"aperture_flags_{aperture}"]) for catalog in series]
    return {
        "larun_flagged": [int(np.count_nonzero(one & fl.UNUSABLE)) for one in flags],
        "Saturated": [int(np.count_nonzero(one & fl.SATURATED)) for one in flags],
    }


def _of_frames(series: Sequence[SourceCatalog], aperture: int) -> dict[str, list[float]]:
    """Times, air mass, apertures: what holds for a whole image."""
    metas = [catalog.meta for catalog in series]
    made = {name: [_number(meta.get(key)) for meta in metas] for name, key in _FROM_META.items()}
    made["BJD_TDB"] = [_barycentric(one, known) for one, known in zip(series, made["BJD_TDB"], strict=True)]
    made = {"J.D.-2400000": [value - 2400000.0 for value in made["JD_UTC"]], **made}
    made["Source_Radius"] = [_item(meta.get("aperture_radii"), aperture - 1) for meta in metas]
    for index, name in enumerate(("Sky_Rad(min)", "Sky_Rad(max)")):
        made[name] = [_item(meta.get("annulus_radii"), index) for meta in metas]
    return {name: values for name, values in made.items() if not all(map(math.isnan, values))}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _item(values: Any, index: int) -> float:
    return _number(values[index]) if isinstance(values, list | tuple) and len(values) > index else math.nan


def _barycentric(catalog: SourceCatalog, known: float) -> float:
    """BJD of the first target where the image says when it was taken; else what the catalogue knows."""
    time = getattr(catalog.image, "time", None)
    ra, dec = (_plain(catalog, name)[0] for name in ("ra", "dec"))
    if time is None or math.isnan(known) or not (math.isfinite(ra) and math.isfinite(dec)):
        return known
    return float(time.bjd_tdb((float(ra), float(dec))))


def _relative(
    flux: NDArray[np.float64], error: NDArray[np.float64], names: Sequence[str], targets: int
) -> dict[str, list[float]]:
    """Each star over all comparison stars but itself, with its error; nothing where there is none to compare with."""
    comparison = np.arange(len(names)) >= targets
    made: dict[str, list[float]] = {}
    for index, name in enumerate(names):
        others = comparison & (np.arange(len(names)) != index)
        if not others.any():
            continue
        total, variance = flux[:, others].sum(axis=1), (error[:, others] ** 2).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = flux[:, index] / total
            spread = np.abs(ratio) * np.sqrt((error[:, index] / flux[:, index]) ** 2 + variance / total**2)
            signal = ratio / spread
        made[f"rel_flux_{name}"], made[f"rel_flux_err_{name}"] = ratio.tolist(), spread.tolist()
        made[f"rel_flux_SNR_{name}"] = signal.tolist()
    if comparison.any():
        made["tot_C_cnts"] = flux[:, comparison].sum(axis=1).tolist()
        made["tot_C_err"] = np.sqrt((error[:, comparison] ** 2).sum(axis=1)).tolist()
    return made


def _of_star(series: Sequence[SourceCatalog], index: int, aperture: int) -> dict[str, list[float]]:
    """The columns of one star, in AstroImageJ's order; those that no catalogue knows are left out."""

    def values(name: str) -> NDArray[np.float64]:
        return _stack(series, name)[:, index]

    x, y = values("x"), values("y")
    flux, error = values(f"aperture_flux_{aperture}"), values(f"aperture_flux_error_{aperture}")
    heights = np.array([np.nan if one.image is None else one.image.shape[0] for one in series])
    radius = np.array([_item(catalog.meta.get("aperture_radii"), aperture - 1) for catalog in series])
    with np.errstate(divide="ignore", invalid="ignore"):
        made = {
            "X(IJ)": np.where(np.isfinite(heights), x + 0.5, np.nan),  # corners, not centres, are whole numbers there
            "Y(IJ)": heights - y - 0.5,
            "X(FITS)": x + 1.0,
            "Y(FITS)": y + 1.0,
            "RA": values("ra") / 15.0,
            "DEC": values("dec"),
            "Source-Sky": flux,
            "N_Src_Pixels": math.pi * radius**2 * values(f"area_fraction_{aperture}"),
            "Source_Error": error,
            "Source_SNR": flux / error,
            "Peak": values("peak") + np.nan_to_num(values("sky")),  # there with the sky
            "Sky/Pixel": values("sky"),
            "FWHM": values("fwhm"),
        }
    return {name: column.tolist() for name, column in made.items() if np.isfinite(column).any()}
