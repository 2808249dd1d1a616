"""Photometry with a point-spread function: from an image and positions to columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.peaks import Planes
from larun.algorithms.psf_crowd import SearchOptions, solve_crowd
from larun.algorithms.psf_excess import excess_of, star_pixels
from larun.algorithms.psf_field import FieldFits, FieldOptions, solve_field
from larun.algorithms.psf_fit import fit_reach
from larun.errors import CatalogError, OptionError
from larun.model.measure import schema
from larun.model.planes import correlation_around, total_variance
from larun.model.pointspread.making import photon_gain, sky_planes
from larun.model.pointspread.options import SKIES, PsfFitOptions, fit_options
from larun.model.psf import PSF
from larun.provenance import unrecorded

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.algorithms.engine_psf_photutils import PhotutilsFits
    from larun.model.catalog import SourceCatalog
    from larun.model.sky import SkyImage

__all__ = ["Measured", "elsewhere", "is_psf", "measure", "of_catalog", "of_positions", "recorded", "remains"]

#: Of detected sources nearer than this to a given position, in FWHM, the position stands for the star.
_SAME = 0.7


class Measured(NamedTuple):
    """A table with what was measured, the function, and what belongs in the record."""

    table: QTable
    psf: PSF
    facts: dict[str, Any]


class _Fits(NamedTuple):
    """Columns of the given positions, of what was found beneath them, and facts."""

    columns: dict[str, NDArray[Any]]
    beneath: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def is_psf(method: Any) -> bool:
    """Whether photometry is asked for with a point-spread function.

    Raises
    ------
    OptionError
        If it is neither that nor with apertures.
    """
    if isinstance(method, PSF) or method == "psf":
        return True
    if method == "aperture":
        return False
    raise OptionError(f"method={method!r}: must be 'aperture', 'psf', or a PSF that image.psf() made")


def recorded(arguments: dict[str, Any], aperture_only: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``photometer`` with a point-spread function; ``aperture_only`` are those it has no use for.

    Raises
    ------
    OptionError
        If one of these differs from its default, or another makes no sense.
    """
    for name, default in aperture_only.items():
        if arguments.pop(name) != default:
            raise OptionError(f"{name}: belongs to apertures; method='psf' has none")
    sky = "background" if arguments["sky"] is None else arguments["sky"]
    if sky not in SKIES:
        raise OptionError(f"sky={sky!r}: must be {', '.join(map(repr, SKIES))} with method='psf'")
    return arguments | {"sky": sky, "options": fit_options(arguments["options"])}


def of_catalog(catalog: SourceCatalog, image: SkyImage, method: Any, sky: str, options: PsfFitOptions) -> Measured:
    """The table of a catalogue with the columns of PSF photometry added or renewed."""
    table = catalog._table
    psf = method if isinstance(method, PSF) else _own(image, catalog)
    x, y = (np.asarray(getattr(table[name], "value", table[name]), np.float64) for name in ("x", "y"))
    found = measure(image, (x, y), None, psf, sky, options if options.positions else _free(options))
    made = _with_columns(table.copy(), found.columns, image)
    if len(found.beneath["x_psf"]):
        made = _continued(made, found.beneath, image)
    made.meta |= _meta(psf, sky, found)
    return Measured(made, psf, found.facts)


def of_positions(
    image: SkyImage, table: QTable, found: QTable, method: Any, sky: str, options: PsfFitOptions
) -> Measured:
    """The table of given positions with the columns of PSF photometry; ``found`` are all sources of the image."""
    psf = method
    if not isinstance(psf, PSF):
        with unrecorded():
            psf = image.psf()
    x, y = (np.asarray(table[name].value, np.float64) for name in ("x", "y"))
    others = tuple(np.asarray(found[name].value, np.float64) for name in ("x", "y"))
    fits = measure(image, (x, y), others, psf, sky, options)
    made = _with_columns(table, fits.columns, image)
    made.meta |= _meta(psf, sky, fits)
    return Measured(made, psf, fits.facts)


def _free(options: PsfFitOptions) -> PsfFitOptions:
    import attrs

    return attrs.evolve(options, positions="free")


def _own(image: SkyImage, catalog: SourceCatalog) -> PSF:
    """The function of the image, from the sources of a detection, else from one of its own."""
    step = catalog.provenance.step
    whole = step is not None and step.operation == "detect"
    with unrecorded():
        return image.psf(catalog) if whole else image.psf()


def measure(
    image: SkyImage,
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    others: tuple[NDArray[np.float64], ...] | None,
    psf: PSF,
    sky: str,
    options: PsfFitOptions,
) -> _Fits:
    """Measure places on an image; ``others`` are sources that are fitted too, so that they spoil nothing."""
    planes = sky_planes(image)
    if sky == "none":
        planes = planes[0], np.zeros_like(planes[0]), planes[2], planes[3]
    free = options.positions == "free"
    if options.engine == "photutils":
        return _by_photutils(image, planes, places, psf, options, free)
    x, y = places
    given = x.size
    movable = np.full(given, free)
    if others is not None:
        more = elsewhere(places, others, _SAME * psf.fwhm)
        x, y = np.concatenate([x, more[0]]), np.concatenate([y, more[1]])
        movable = np.concatenate([movable, np.ones(more[0].size, bool)])
    gain = photon_gain(image)
    wanted = FieldOptions(
        reach=options.reach, link=options.link, gain=gain, free_position=movable, free_sky=sky == "fitted"
    )

    def acf(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[Any] | None:
        lags = correlation_around(image, xs, ys, [psf.fwhm])
        return lags if lags is None or lags.ndim == 2 else lags[:, 0]

    def again(model: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        _, level, noise, _ = sky_planes(image, model)
        return level, noise

    renewed = again if sky == "background" else None
    known, passes = x.size, 0
    if options.crowded:
        search = SearchOptions(passes=options.passes, threshold=options.threshold)
        stars = np.column_stack([x, y])
        fits, known, passes = solve_crowd(
            planes, psf.function, stars, options=wanted, search=search, acf=acf, sky=renewed
        )
    else:
        fits = solve_field(planes, psf.function, x, y, options=wanted, acf=acf(x, y), sky=renewed)
    lit = star_pixels(planes[0], planes[3], psf.fwhm, fits, gain)
    facts = {"stars": given, "rounds": fits.iterations, "noise_ratio": round(lit.scatter, 4)}
    if options.excess:
        beyond = excess_of(planes[0], planes[3], psf.function, fits, gain=gain, acf=acf(fits.x, fits.y), pixels=lit)
        fits = fits._replace(covariance=fits.covariance * beyond.factor[:, None, None])
        facts |= {"excess": round(beyond.variance, 4), "flux_excess": round(beyond.flux_variance, 4)}
        facts |= {"model_error": round(beyond.share, 6)}
    if options.crowded:
        facts |= {"beneath": fits.x.size - known, "passes": passes}
    own, beneath = np.arange(given), np.arange(known, fits.x.size)
    return _Fits(_columns(fits, own, free, "ok"), _columns(fits, beneath, True, "beneath another"), facts)


def elsewhere(
    places: tuple[NDArray[np.float64], ...], others: tuple[NDArray[np.float64], ...], radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Those of the others that are not at one of the places."""
    from scipy.spatial import cKDTree

    x, y = others
    known = np.isfinite(places[0]) & np.isfinite(places[1])
    if not known.any() or not x.size:
        return x, y
    distance, _ = cKDTree(np.column_stack([part[known] for part in places])).query(np.column_stack([x, y]))
    return x[distance > radius], y[distance > radius]


def _columns(fits: FieldFits, rows: NDArray[np.int64], free: bool, word: str) -> dict[str, NDArray[Any]]:
    flux, error = fits.flux[rows], fits.flux_error[rows]
    status = np.full(rows.size, word, dtype="<U16")
    if free:
        status[fits.held[rows]] = "position held"
    status[~fits.converged[rows]] = "not converged"
    status[np.isnan(flux)] = "no pixels"
    ny, nx = fits.level.shape
    with np.errstate(invalid="ignore"):
        row, column = (
            np.clip(np.nan_to_num(part[rows]).round().astype(int), 0, size - 1)
            for part, size in ((fits.y, ny), (fits.x, nx))
        )
    return _magnitudes(flux, error) | {
        "x_psf": fits.x[rows],
        "y_psf": fits.y[rows],
        "x_psf_error": fits.x_error[rows],
        "y_psf_error": fits.y_error[rows],
        "flux_psf": flux,
        "flux_psf_error": error,
        "psf_sky": np.where(np.isnan(flux), np.nan, fits.level[row, column] + fits.sky[rows]),
        "psf_chi2": fits.chi2[rows],
        "psf_share": fits.share[rows],
        "psf_flags": fits.flags[rows],
        "psf_group": fits.group[rows],
        "psf_status": status,
    }


def _magnitudes(flux: NDArray[np.float64], error: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    with np.errstate(invalid="ignore", divide="ignore"):
        positive = flux > 0
        mag = np.where(positive, -2.5 * np.log10(np.where(positive, flux, 1.0)), np.nan)
        return {"mag_psf": mag, "mag_psf_error": np.where(positive, 2.5 / np.log(10) * error / flux, np.nan)}


def _by_photutils(
    image: SkyImage,
    planes: Planes,
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    psf: PSF,
    options: PsfFitOptions,
    free: bool,
) -> _Fits:
    from larun.algorithms.engine_psf_photutils import PhotutilsOptions, fit_photutils

    variance = total_variance(image)
    if variance is None:
        raise CatalogError(f"{image!r} has no variance, by which photutils weighs pixels: calibrate it, or use larun's")
    reach = options.reach or min(fit_reach(psf.fwhm), psf.radius - 2)
    x, y = places
    passes = options.passes if options.crowded else 0
    wanted = PhotutilsOptions(reach, options.link * psf.fwhm, free, passes, options.threshold)
    found = fit_photutils(planes, variance, psf.function, x, y, wanted)
    facts = {"stars": x.size} | ({"beneath": found.x.size - x.size} if options.crowded else {})
    own, beneath = slice(0, x.size), slice(x.size, None)
    return _Fits(
        _theirs(found, own, places, "ok"),
        _theirs(found, beneath, None, "beneath another") | {"psf_flags": _bits(planes, found, beneath)},
        facts,
    )


def _theirs(
    found: PhotutilsFits, rows: slice, places: tuple[NDArray[np.float64], NDArray[np.float64]] | None, word: str
) -> dict[str, NDArray[Any]]:
    """Columns of photutils' fits; what has none stays where it was given."""
    flux, error, x, y = found.flux[rows], found.flux_error[rows], found.x[rows], found.y[rows]
    given = (x, y) if places is None else places
    return _magnitudes(flux, error) | {
        "x_psf": np.where(np.isnan(x), given[0], x),
        "y_psf": np.where(np.isnan(y), given[1], y),
        "x_psf_error": np.nan_to_num(found.x_error[rows]),
        "y_psf_error": np.nan_to_num(found.y_error[rows]),
        "flux_psf": flux,
        "flux_psf_error": error,
        "psf_chi2": found.chi2[rows],
        "psf_status": np.where(np.isnan(flux), "no pixels", word).astype("<U16"),
    }


def _bits(planes: Planes, found: PhotutilsFits, rows: slice) -> NDArray[np.uint32]:
    """Flags of the pixels on which stars lie."""
    ny, nx = planes[3].shape
    at = ((part[rows], size) for part, size in ((found.y, ny), (found.x, nx)))
    row, column = (np.clip(np.nan_to_num(part).round().astype(int), 0, size - 1) for part, size in at)
    return np.asarray(planes[3][row, column], np.uint32)


def _with_columns(table: QTable, columns: dict[str, NDArray[Any]], image: SkyImage) -> QTable:
    fresh = schema.table(schema.PSF, columns, image.unit)
    old = {column.name for column in schema.PSF}
    table.remove_columns([name for name in table.colnames if name in old])
    for name in fresh.colnames:
        table[name] = fresh[name]
    return table


def _continued(table: QTable, beneath: dict[str, NDArray[Any]], image: SkyImage) -> QTable:
    """The table with rows of what was found beneath others: what detection measures is not known of it."""
    from astropy.table import QTable
    from astropy.units import Quantity

    from larun.model.measure.measuring import with_sky_coordinates

    x, y = beneath["x_psf"], beneath["y_psf"]
    first = int(np.max(table["id"], initial=0)) + 1 if "id" in table.colnames else 1
    values: dict[str, Any] = beneath | {"x": x, "y": y, "id": np.arange(first, first + x.size)}
    values |= {"x_error": beneath["x_psf_error"], "y_error": beneath["y_psf_error"], "flags": beneath["psf_flags"]}
    values |= with_sky_coordinates(image, x, y)
    made = QTable(meta=table.meta)
    for name in table.colnames:
        column = table[name]
        if getattr(column, "ndim", 0) != 1 or not hasattr(column, "dtype") or column.dtype.kind not in "fiubU":
            raise OptionError(f"crowded=True adds rows, of which column {name!r} has no values: leave it out")
        empty = np.nan if column.dtype.kind == "f" else np.zeros(1, column.dtype)[0]
        more = np.asarray(values.get(name, np.full(x.size, empty)), column.dtype if column.dtype.kind != "U" else None)
        old = np.asarray(getattr(column, "value", column))
        both = np.concatenate([old, more])
        unit = getattr(column, "unit", None)
        made[name] = both if unit is None else Quantity(both, unit)
        made[name].info.description = column.info.description
    return made


def _meta(psf: PSF, sky: str, found: _Fits) -> dict[str, Any]:
    known = {"psf_model": psf.model, "psf_fwhm": psf.fwhm, "psf_order": psf.order, "psf_aperture": psf.aperture}
    return known | {"psf_sky": sky, **{f"psf_{name}": value for name, value in found.facts.items()}}


def remains(catalog: SourceCatalog, image: SkyImage, psf: PSF | None) -> NDArray[np.float32]:
    """The image without the stars of a catalogue.

    Raises
    ------
    CatalogError
        If their fluxes by a PSF, or the PSF, are not known.
    """
    table = catalog._table
    if psf is None or "flux_psf" not in table.colnames:
        raise CatalogError(
            "no stars to subtract: catalog.photometer(method='psf') measures them; after reading, give psf=… too"
        )
    x, y, flux = (np.asarray(table[name].value, np.float64) for name in ("x_psf", "y_psf", "flux_psf"))
    return (image.data - psf.draw(image.shape, x, y, flux)).astype(np.float32)
