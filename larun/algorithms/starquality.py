"""How good the stars of an image are: their width and shape by fits, and how both change over the field."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.aperture import aperture_sums
from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.fwhm import AlikeStars
from larun.algorithms.growth import curve_of_growth, growth_stars
from larun.algorithms.peaks import Planes
from larun.algorithms.profilefit import ProfileOptions, fit_profiles
from larun.algorithms.robust import SIGMA_PER_MAD
from larun.errors import CatalogError, OptionError

__all__ = ["FieldFit", "StarShapes", "core_fluxes", "fit_field", "light_radii", "star_shapes"]

#: Pixels to each side that are fitted, in FWHM.
_REACH = 1.5
#: Stars whose own exponents give that of the frame; the fits of all others keep it, which halves the error of a width.
_EXPONENTS = 100
#: Radii of the curve of growth, in FWHM as the pixel has blurred them.
_GROWTH = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)
_GROWTH_STARS = 200
_CORE, _WHOLE = 2.0, 0.999
#: FWHM of a Gaussian as wide as a pixel.
_PIXEL = 2.3548 / np.sqrt(12)
_CLIP = 4.0
_ROUNDS = 10
#: Stars that a plane with a curvature needs.
_FIELD_STARS = 20


class StarShapes(NamedTuple):
    """What :func:`star_shapes` returns; one element a star (float64) but for ``beta``.

    Attributes
    ----------
    fwhm, fwhm_error : (n,)
        Of the Moffat profile, geometric mean of the axes, pixels, before the pixel blurred it; its standard error.
    fwhm_gaussian : (n,)
        Of a Gaussian fitted to the same pixels: too wide by up to a third where stars have wings.
    e1, e2 : (n,)
        Components of the ellipticity, (a - b) / (a + b) times cos 2 theta and sin 2 theta, theta from +x towards +y.
    chi2 : (n,)
        Of the Moffat profile, by the degrees of freedom.
    beta : float
        Exponent of the Moffat profile of all stars: the median of the brightest.
    """

    fwhm: NDArray[np.float64]
    fwhm_error: NDArray[np.float64]
    fwhm_gaussian: NDArray[np.float64]
    e1: NDArray[np.float64]
    e2: NDArray[np.float64]
    chi2: NDArray[np.float64]
    beta: float


def star_shapes(planes: Planes, stars: AlikeStars, *, gain: float) -> StarShapes:
    """Fit profiles to stars: Moffat's with one exponent for all, and a Gaussian.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance of the sky (float32) and flags (uint32).
    stars : AlikeStars
        By falling S/N.
    gain : float
        Electrons per unit of the data.

    Returns
    -------
    StarShapes
        NaN where no fit converged; ``beta`` is NaN where no fit of the brightest did.
    """
    width = float(np.median(stars.fwhm))
    first, reach = slice(0, _EXPONENTS), max(4, math.ceil(_REACH * width))
    exponents = fit_profiles(
        planes,
        stars.x[first],
        stars.y[first],
        fwhm=width,
        options=ProfileOptions(gain=gain, reach=reach, free_sky=True),
    ).beta
    known = exponents[np.isfinite(exponents)]
    if not known.size:
        nothing = np.full(stars.x.size, np.nan)
        return StarShapes(*(nothing,) * 6, float("nan"))
    beta = float(np.median(known))
    moffat, gaussian = (
        fit_profiles(
            planes, stars.x, stars.y, fwhm=width, options=ProfileOptions(gain=gain, reach=reach, free_sky=True, **how)
        )
        for how in ({"beta": beta}, {"profile": "gaussian"})
    )
    return StarShapes(moffat.fwhm, moffat.fwhm_error, gaussian.fwhm, moffat.e1, moffat.e2, moffat.chi2, beta)


def core_fluxes(planes: Planes, stars: AlikeStars, width: float) -> NDArray[np.float64]:
    """Light of each star within twice the FWHM as the pixel has blurred it: about the same share in any seeing.

    NaN where the circle holds a pixel that is not usable.

    Parameters
    ----------
    planes, stars
        As for :func:`star_shapes`.
    width : float
        FWHM before the pixel blurred it.
    """
    data, level, variance, flags = planes
    sums = aperture_sums(data - level, variance, flags, stars.x, stars.y, [_CORE * float(np.hypot(width, _PIXEL))])
    whole = (sums.fraction[:, 0] > _WHOLE) & (sums.sum[:, 0] > 0)
    return np.asarray(np.where(whole, sums.sum[:, 0], np.nan), np.float64)


def light_radii(planes: Planes, stars: AlikeStars, shares: tuple[float, ...]) -> tuple[tuple[float, ...], int]:
    """Radii in pixels that hold some shares of a star's light within 4 FWHM, as the pixel has blurred it.

    From the median curve of growth of the bright stars that are alone; no profile is assumed.

    Parameters
    ----------
    planes, stars
        As for :func:`star_shapes`.
    shares : tuple of float
        Between 0 and 1.

    Returns
    -------
    radii : tuple of float
        NaN where there are fewer than 3 stars.
    stars : int
        How many stars they rest on.
    """
    data, level, variance, flags = planes
    size = float(np.hypot(np.median(stars.fwhm), _PIXEL))
    radii = np.array(_GROWTH) * size
    best = slice(0, _GROWTH_STARS)
    x, y = stars.x[best], stars.y[best]
    sums = aperture_sums(data - level, variance, flags, x, y, radii)
    assert sums.variance is not None
    flux, error = sums.sum, np.sqrt(sums.variance)
    try:
        alone = growth_stars(flux, error, sums.flags, x, y, separation=6 * size, snr=20.0)
        grown = curve_of_growth(flux, error, radii, usable=alone)
    except CatalogError:
        return (float("nan"),) * len(shares), 0
    share = np.concatenate([[0.0], np.maximum.accumulate(grown.fraction)])
    # inside a core the light grows with the square of the radius
    squares = np.interp(shares, share, np.concatenate([[0.0], radii**2]))
    return tuple(float(value) for value in np.sqrt(squares)), grown.stars


class FieldFit(NamedTuple):
    """How a number changes over the field: a plane and a bowl about its middle.

    Attributes
    ----------
    middle : float
        At the middle of the field.
    tilt, tilt_error : float
        From one side of the field to the other, along the direction in which it grows most.
    angle : float
        That direction, degrees from +x towards +y.
    curvature, curvature_error : float
        In the corners, over the middle.
    coefficients : ndarray of float64, (4,)
        Of 1, u, v, (u^2 + v^2) / 2, with u and v from -1 to 1 over the field.
    stars : int
        That were kept.
    """

    middle: float
    tilt: float
    tilt_error: float
    angle: float
    curvature: float
    curvature_error: float
    coefficients: NDArray[np.float64]
    stars: int

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
        """The fitted number at positions in an image of this shape."""
        return np.asarray(np.sum(_terms(x, y, shape) * self.coefficients, axis=-1), np.float64)


def fit_field(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    shape: tuple[int, int],
) -> FieldFit | None:
    """Fit a plane and a bowl to a number of the stars; outliers beyond 4 sigma are clipped.

    Errors are those that the residuals show, where these are larger than the ones given.

    Parameters
    ----------
    x, y : (n,)
        Positions, pixels.
    value, error : (n,)
        With standard errors; what is not finite is left out.
    shape : tuple of int
        Of the image.

    Returns
    -------
    FieldFit or None
        None where fewer than 20 stars are left or they lie on a line.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x, y = rng.uniform(0, 99, (2, 400))
    >>> found = fit_field(x, y, 3 + 0.01 * (x - 49.5), np.full(400, 0.1), (100, 100))
    >>> round(found.tilt, 3), round(found.angle), round(abs(found.curvature), 3)
    (1.0, 0, 0.0)
    """
    good = np.isfinite(value) & np.isfinite(error) & (error > 0)
    terms, number, sigma = _terms(x[good], y[good], shape), value[good], error[good]
    kept = np.ones(number.size, bool)
    for _ in range(_ROUNDS):
        if kept.sum() < _FIELD_STARS:
            return None
        # bright stars differ by more than their noise: what they all scatter by is a floor of the error
        weight = 1 / (sigma**2 + float(np.median(sigma[kept])) ** 2)
        try:
            inverse = inverse_of_positive(np.einsum("ni,n,nj->ij", terms[kept], weight[kept], terms[kept]))
        except OptionError:
            return None
        found = np.einsum("ij,nj,n->i", inverse, terms[kept], (weight * number)[kept])
        pull = (number - np.einsum("ni,i->n", terms, found)) * np.sqrt(weight)
        scale = SIGMA_PER_MAD * float(np.median(np.abs(pull[kept])))
        now = np.abs(pull) <= _CLIP * scale + 1e-9
        if np.array_equal(now, kept):
            break
        kept = now
    covariance = inverse * max(scale, 1e-12) ** 2
    slope = float(np.hypot(found[1], found[2]))
    along = found[1:3] / slope if slope > 0 else np.array([1.0, 0.0])
    tilt_error = 2 * float(np.sqrt(np.einsum("i,ij,j->", along, covariance[1:3, 1:3], along)))
    return FieldFit(
        middle=float(found[0]),
        tilt=2 * slope,
        tilt_error=tilt_error,
        angle=float(np.degrees(np.arctan2(found[2], found[1]))),
        curvature=float(found[3]),
        curvature_error=float(np.sqrt(covariance[3, 3])),
        coefficients=np.asarray(found, np.float64),
        stars=int(kept.sum()),
    )


def _terms(x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    u, v = ((at + 0.5) / size * 2 - 1 for at, size in ((x, shape[1]), (y, shape[0])))
    return np.stack([np.ones_like(u), u, v, (u**2 + v**2) / 2], axis=-1)
