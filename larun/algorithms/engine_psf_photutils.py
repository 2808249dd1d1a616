"""photutils' PSF photometry with a point-spread function of larun's: a second opinion."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.flags import UNUSABLE

__all__ = ["PhotutilsFits", "PhotutilsOptions", "fit_photutils"]

_NEAREST = 0.5  # FWHM: what remains show nearer to a star than this is its own
_STRAY = 1.2  # FWHM that a fitted place may be from where it starts, where remains are searched


class PhotutilsFits(NamedTuple):
    """What :func:`fit_photutils` returns, one element a star (float64); NaN where there is no fit.

    Attributes
    ----------
    x, y, flux, x_error, y_error, flux_error : (n,)
        Pixels, and the unit of the image.
    chi2 : (n,)
        By the degrees of freedom.
    flags : (n,)
        photutils' own, int64.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    chi2: NDArray[np.float64]
    flags: NDArray[np.int64]


class PhotutilsOptions(NamedTuple):
    """How photutils fits.

    Attributes
    ----------
    reach : int
        Fits use the pixels within so many rows and columns.
    link : float
        Stars nearer than this are fitted together, pixels.
    free_position : bool
        Fit positions too.
    passes : int
        How often what is left is searched for others; 0: ``PSFPhotometry`` alone.
    threshold : float
        Least signal to noise of what is found in it.
    """

    reach: int
    link: float
    free_position: bool = True
    passes: int = 0
    threshold: float = 5.0


def fit_photutils(
    planes: Planes,
    variance: NDArray[np.float32],
    psf: PSF,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    options: PhotutilsOptions,
) -> PhotutilsFits:
    """Fit stars with photutils' ``PSFPhotometry``, or with its ``IterativePSFPhotometry``.

    The latter finds others in what is left and fits all again. Remains are searched by ``DAOStarFinder``; what it finds
    counts where it stands out of the noise of the pixels, the photon noise of the stars included, and not on a star
    that is known.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, noise variance of the sky and flags.
    variance : (ny, nx) float32
        Of each pixel, the photon noise of the stars included.
    psf : PSF
        The function; where it varies, as it is in the middle of the image.
    x, y : (n,)
        Where to start, pixels.
    options : PhotutilsOptions
        How.

    Returns
    -------
    PhotutilsFits
        Of the stars that were given, in their order, and of those that were found.
    """
    from photutils.psf import IterativePSFPhotometry, PSFPhotometry

    stage = _Stage.of(planes, variance, psf, options.free_position)
    shape, common = (2 * options.reach + 1, 2 * options.reach + 1), _common(psf, options.link)
    first = stage.fitted(PSFPhotometry(stage.model, shape, **common), x, y)
    if not options.passes:
        return first
    finder = _Finder(stage, psf.fwhm, options.threshold, float(np.sqrt(np.median(planes[2]))))
    bounds = max(_STRAY * psf.fwhm, 1.0)
    engine = IterativePSFPhotometry(
        stage.model, shape, finder, mode="all", maxiters=options.passes + 1, xy_bounds=bounds, **common
    )
    finder.engine = engine
    # photutils loses count of stars without a fit when it goes on: they wait aside
    fits = np.isfinite(first.flux)
    found = stage.fitted(engine, x[fits], y[fits])
    made, count = _empty(x.size + found.x.size - int(fits.sum())), int(fits.sum())
    for column, values in zip(made, found, strict=True):
        column[: x.size][fits] = values[:count]
        column[x.size :] = values[count:]
    return made


def _common(psf: PSF, link: float) -> dict[str, Any]:
    from photutils.psf import SourceGrouper

    return {"grouper": SourceGrouper(max(link, 0.1)), "aperture_radius": max(2.0, psf.fwhm)}


class _Stage(NamedTuple):
    """What photutils works on: signal above the sky, errors, unusable pixels, and its model of a star."""

    signal: NDArray[np.float64]
    error: NDArray[np.float64]
    bad: NDArray[np.bool_]
    model: Any

    @classmethod
    def of(cls, planes: Planes, variance: NDArray[np.float32], psf: PSF, free_position: bool) -> _Stage:
        """Of planes; a function that varies is taken as it is in the middle of the image."""
        from photutils.psf import ImagePSF

        data, level, _, flags = planes
        ny, nx = data.shape
        at = np.arange(-(psf.radius - 1) * psf.oversampling, (psf.radius - 1) * psf.oversampling + 1) / psf.oversampling
        model = ImagePSF(psf.values(at[None, :], at[:, None], nx / 2, ny / 2)[0], oversampling=psf.oversampling)
        model.x_0.fixed = model.y_0.fixed = not free_position
        bad = ((flags & UNUSABLE) != 0) | ~np.isfinite(data) | ~(variance > 0)
        signal = np.where(bad, 0.0, data - level).astype(np.float64)
        return cls(signal, np.sqrt(np.where(bad, 1.0, variance)).astype(np.float64), bad, model)

    def fitted(self, engine: Any, x: NDArray[np.float64], y: NDArray[np.float64]) -> PhotutilsFits:
        """What an engine makes of the stars; of those that it adds, in the order in which it found them."""
        from astropy.table import QTable

        ny, nx = self.signal.shape
        inside = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
        if not inside.any():
            return _empty(x.size)
        start = QTable({"x": x[inside], "y": y[inside]})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that fail: their flags say so
            found = engine(self.signal, error=self.error, mask=self.bad, init_params=start)
        found.sort("id")
        made = _empty(x.size + len(found) - int(inside.sum()))
        rows = np.concatenate([np.flatnonzero(inside), np.arange(x.size, len(made.x))])
        names = ("x_fit", "y_fit", "flux_fit", "x_err", "y_err", "flux_err", "reduced_chi2", "flags")
        for column, name in zip(made, names, strict=True):
            if name in found.colnames:
                values = found[name]
                column[rows] = np.asarray(values.filled(np.nan) if hasattr(values, "filled") else values)
        return made


def _empty(count: int) -> PhotutilsFits:
    columns = [np.full(count, np.nan) for _ in range(7)]
    return PhotutilsFits(*columns, np.full(count, -1, np.int64))  # type: ignore[call-arg]  # columns are in its order


class _Finder:
    """``DAOStarFinder`` on what is left, its threshold by the noise of each pixel."""

    def __init__(self, stage: _Stage, fwhm: float, threshold: float, noise: float) -> None:
        self.stage, self.fwhm, self.threshold, self.noise = stage, fwhm, threshold, noise
        self.engine: Any = None

    def __call__(self, data: NDArray[np.float64], mask: NDArray[np.bool_] | None = None) -> Any:
        """A table of x and y, or None."""
        from astropy.table import QTable
        from photutils.detection import DAOStarFinder
        from scipy.spatial import cKDTree

        found = DAOStarFinder(threshold=self.threshold * self.noise, fwhm=self.fwhm)(data, mask=mask)
        if found is None:
            return None
        x, y = (np.asarray(found[name], np.float64) for name in ("x_centroid", "y_centroid"))
        ny, nx = data.shape
        row, column = (np.clip(part.round().astype(int), 0, size - 1) for part, size in ((y, ny), (x, nx)))
        height = self.noise * 10 ** (-0.4 * np.asarray(found["daofind_mag"], np.float64))
        kept = height > self.stage.error[row, column]
        known = self.engine.fit_results[-1].results
        places = np.column_stack([np.asarray(known[name], np.float64) for name in ("x_fit", "y_fit")])
        away, _ = cKDTree(places[np.isfinite(places).all(axis=1)]).query(np.column_stack([x, y]))
        kept &= away > _NEAREST * self.fwhm
        return QTable({"x": x[kept], "y": y[kept]}) if kept.any() else None
