"""photutils' PSF photometry with a point-spread function of larun's: a second opinion."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.flags import UNUSABLE

__all__ = ["PhotutilsFits", "fit_photutils"]


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


def fit_photutils(
    planes: Planes,
    variance: NDArray[np.float32],
    psf: PSF,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    reach: int,
    link: float,
    free_position: bool = True,
) -> PhotutilsFits:
    """Fit stars with photutils' ``PSFPhotometry``, those nearer than ``link`` pixels together.

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
    reach : int
        Fits use the pixels within so many rows and columns.
    link : float
        Pixels.
    free_position : bool
        Fit positions too.
    """
    from astropy.table import QTable
    from photutils.psf import ImagePSF, PSFPhotometry, SourceGrouper

    data, level, _, flags = planes
    ny, nx = data.shape
    at = np.arange(-(psf.radius - 1) * psf.oversampling, (psf.radius - 1) * psf.oversampling + 1) / psf.oversampling
    model = ImagePSF(psf.values(at[None, :], at[:, None], nx / 2, ny / 2)[0], oversampling=psf.oversampling)
    model.x_0.fixed = model.y_0.fixed = not free_position
    bad = ((flags & UNUSABLE) != 0) | ~np.isfinite(data) | ~(variance > 0)
    inside = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
    empty = [np.full(x.size, np.nan) for _ in range(7)]
    made = PhotutilsFits(*empty, np.full(x.size, -1, np.int64))  # type: ignore[call-arg]
    if not inside.any():
        return made
    engine = PSFPhotometry(
        model,
        (2 * reach + 1, 2 * reach + 1),
        grouper=SourceGrouper(max(link, 0.1)),
        aperture_radius=max(2.0, psf.fwhm),
    )
    start = QTable({"x": x[inside], "y": y[inside]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that fail: their flags say so
        found = engine(
            np.where(bad, 0.0, data - level).astype(np.float64),
            error=np.sqrt(np.where(bad, 1.0, variance)).astype(np.float64),
            mask=bad,
            init_params=start,
        )
    found.sort("id")
    names = ("x_fit", "y_fit", "flux_fit", "x_err", "y_err", "flux_err", "reduced_chi2", "flags")
    for column, name in zip(made, names, strict=True):
        if name in found.colnames:
            values = found[name]
            column[inside] = np.asarray(values.filled(np.nan) if hasattr(values, "filled") else values)
    return made
