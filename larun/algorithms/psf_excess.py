"""What residuals of a PSF fit show beyond noise, and what it adds to the errors of stars.

Stars too faint to be told apart, and what a point-spread function lacks, leave residuals that are larger than noise and
alike in neighbouring pixels. A flux is a sum over pixels weighted by the PSF *P*, so residuals of correlation *R(d)* at
the lag *d*, in units of the noise of a pixel, make its variance larger by the factor ``sum_d R(d) A(d)``, where *A* is
the autocorrelation of *P*, 1 at lag 0. *R* is measured on the image where stars are. How much of it a star feels is
told by the residuals at its place, weighted by the PSF, and drawn towards what is usual for a star of its brightness as
far as noise alone would scatter them (as James and Stein do). Usual is the median of all stars, and on top of it what
the PSF lacks, a share of the flux that bright stars show. Without any excess, as with a PSF that is exactly known,
nothing is added.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.peaks import FWHM_OF_SIGMA
from larun.algorithms.psf import PSF
from larun.algorithms.psf_field import FieldFits
from larun.algorithms.robust import SIGMA_PER_MAD
from larun.flags import SATURATED, UNUSABLE

__all__ = ["Excess", "StarPixels", "excess_of", "star_pixels"]

#: Pixels count whose light of stars is so many times the noise of the sky: the first of these that shows an excess.
_BRIGHT = (1.0, 3.0, 10.0, 30.0, 100.0)
#: An excess of the variance below this is none; and so many pixels are needed to tell.
_LEAST, _PIXELS = 0.1, 500
#: Residuals are cut off at this many times their own scatter before they are correlated.
_CLIP = 3.0
#: Correlation is followed to this distance; beyond saturated stars it is looked at from this distance on. FWHM.
_FAR, _QUIET = 1.5, 3.0
#: An excess of a single star so many times what chance gives is its own.
_OWN = 2.0
#: What the PSF lacks is told by the brightest stars, of this S/N and no more than so many, if they are not too few and
#: show it at so many times its error.
_SEEN, _MOST, _FEW, _SURE = 50.0, 100, 8, 3.0


class Excess(NamedTuple):
    """What :func:`excess_of` returns.

    Attributes
    ----------
    factor : (n,) float64
        By how much the variance of each star's flux and position is larger than that of noise; at least 1.
    variance : float
        Of the residuals where stars are, beyond that of noise, in units of it; 0 where there is none.
    flux_variance : float
        What a star with this excess has in its flux, beyond that of noise, in units of it.
    share : float
        Standard error of a flux that the PSF makes, as a share of it; 0 where bright stars show none.
    """

    factor: NDArray[np.float64]
    variance: float
    flux_variance: float
    share: float


class StarPixels(NamedTuple):
    """What :func:`star_pixels` returns.

    Attributes
    ----------
    light : (m,) float64
        The model of the stars, over the noise of the sky.
    rest : (m,) float64
        What is left there, over the noise that is expected.
    pixel : (m,) int64
        Numbers of the pixels, row by row.
    """

    light: NDArray[np.float64]
    rest: NDArray[np.float64]
    pixel: NDArray[np.int64]

    @property
    def scatter(self) -> float:
        """Robust scatter of what is left: 1 where it is noise alone; 0 where there are too few pixels to tell."""
        if self.rest.size < 30:
            return 0.0
        return float(SIGMA_PER_MAD * np.median(np.abs(self.rest - np.median(self.rest))))


def star_pixels(
    data: NDArray[np.float32], flags: NDArray[np.uint32], fwhm: float, fits: FieldFits, gain: float
) -> StarPixels:
    """What is left where stars are brighter than the noise of the sky, on usable pixels away from saturated stars.

    Parameters
    ----------
    data : ndarray of float32, shape (ny, nx)
        The image.
    flags : ndarray of uint32, shape (ny, nx)
        Its flags.
    fwhm : float
        FWHM of a star, pixels.
    fits : FieldFits
        Stars, their model, the sky and its variance.
    gain : float
        Electrons per unit of the data.

    Returns
    -------
    StarPixels
    """
    where = fits.model > np.sqrt(np.maximum(fits.noise, 0))
    where &= _quiet(flags, fwhm)
    index = np.flatnonzero(where)
    values, level, noise = (np.ravel(plane)[index] for plane in (data, fits.level, fits.noise))
    model = fits.model.ravel()[index]
    with np.errstate(invalid="ignore", divide="ignore"):
        light = model / np.sqrt(np.maximum(noise, 0))
        rest = (values - level - model) / np.sqrt(noise + model / gain)
    good = np.isfinite(rest)
    return StarPixels(light[good], rest[good], index[good])


def excess_of(
    data: NDArray[np.float32],
    flags: NDArray[np.uint32],
    psf: PSF,
    fits: FieldFits,
    *,
    gain: float,
    acf: NDArray[Any] | None = None,
    pixels: StarPixels | None = None,
) -> Excess:
    """Measure what residuals have beyond noise.

    Parameters
    ----------
    data : ndarray of float32, shape (ny, nx)
        The image.
    flags : ndarray of uint32, shape (ny, nx)
        Its flags: what is not usable, and what is near saturated stars, is not looked at.
    psf : PSF
        The function that was fitted.
    fits : FieldFits
        Stars, their model, the sky and its variance.
    gain : float
        Electrons per unit of the data.
    acf : ndarray, shape (l, l) or (n, l, l), optional
        Correlation of the noise, l odd; by default it is white.
    pixels : StarPixels, optional
        What :func:`star_pixels` found, where it is known.

    Returns
    -------
    Excess

    Notes
    -----
    A star that is fitted takes some of the residuals at its place with it, so that the excess is rather too low, by the
    share of the pixels that the fit's unknowns take up.

    Examples
    --------
    >>> from larun.algorithms.psf import gaussian_psf
    >>> from larun.algorithms.psf_field import solve_field
    >>> rng, psf = np.random.default_rng(1), gaussian_psf(3.0)
    >>> y, x = (part.ravel() + rng.uniform(-0.5, 0.5, 100) for part in np.mgrid[12:212:20, 12:212:20])
    >>> none, flat = np.zeros((212, 212), np.uint32), np.full((212, 212), 100, np.float32)
    >>> def factor(truth):
    ...     light = truth.draw(none.shape, x, y, np.full(100, 2e4)) + 100
    ...     data = (light + rng.normal(size=light.shape) * np.sqrt(light)).astype(np.float32)
    ...     fits = solve_field((data, flat, flat, none), psf, x, y)
    ...     return float(np.median(excess_of(data, none, psf, fits, gain=1.0).factor))
    >>> factor(psf), factor(gaussian_psf(3.3)) > 2
    (1.0, True)
    """
    seen = star_pixels(data, flags, psf.fwhm, fits, gain) if pixels is None else pixels
    ones = np.ones(fits.x.size)
    reach = math.ceil(_FAR * psf.fwhm)
    white = _expected(acf, reach)
    for bright in _BRIGHT:
        own = seen.light > bright
        rest = seen.rest[own]
        if rest.size < _PIXELS:
            break
        if not float(np.mean(rest**2)) - white[reach, reach] > _LEAST:  # nor without outliers
            continue
        limit = _CLIP * float(SIGMA_PER_MAD * np.median(np.abs(rest)))
        rest = np.clip(rest, -limit, limit)
        if not float(np.mean(rest**2)) - white[reach, reach] > _LEAST:
            continue
        beyond = _correlation(rest, seen.pixel[own], data.shape, reach) - white
        # the fit takes what is like a star: it makes lags negative where none would be
        total = float(np.sum(np.maximum(beyond, 0.0) * _of_psf(psf, reach, data.shape)))
        if total > _LEAST:
            scale = total / float(beyond[reach, reach])
            alone, share = _of_stars(data, flags, psf.fwhm, fits, (gain, float(np.sum(white**2)), scale))
            return Excess(ones + scale * np.maximum(alone, 0.0), float(beyond[reach, reach]), total, share)
    return Excess(ones, 0.0, 0.0, 0.0)


def _quiet(flags: NDArray[np.uint32], fwhm: float) -> NDArray[np.bool_]:
    """Usable pixels that are not near saturated ones."""
    usable = (flags & np.uint32(int(UNUSABLE))) == 0
    saturated = (flags & SATURATED) != 0
    if saturated.any():
        from scipy.ndimage import distance_transform_edt

        usable &= distance_transform_edt(~saturated) > _QUIET * fwhm
    return np.asarray(usable)


def _expected(acf: NDArray[Any] | None, reach: int) -> NDArray[np.float64]:
    """The correlation of noise on lags up to ``reach``."""
    made = np.zeros((2 * reach + 1, 2 * reach + 1))
    if acf is None:
        made[reach, reach] = 1.0
        return made
    lags = np.asarray(acf, np.float64)
    lags = lags if lags.ndim == 2 else np.mean(lags, axis=0)
    own = lags.shape[0] // 2
    keep = min(own, reach)
    kept = lags[own - keep : own + keep + 1, own - keep : own + keep + 1]
    made[reach - keep : reach + keep + 1, reach - keep : reach + keep + 1] = kept
    return made


def _correlation(
    rest: NDArray[np.float64], index: NDArray[np.int64], shape: tuple[int, ...], reach: int
) -> NDArray[np.float64]:
    """Mean product of residuals by their distance."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    wide = tuple(next_fast_len(size + reach, real=True) for size in shape)
    lags = np.arange(-reach, reach + 1)

    def products(values: NDArray[np.float64] | float) -> NDArray[np.float64]:
        plane = np.zeros(shape)
        plane.ravel()[index] = values
        return np.asarray(irfft2(np.abs(rfft2(plane, wide)) ** 2, wide)[np.ix_(lags, lags)])

    return products(rest) / np.maximum(products(1.0), 1.0)


def _of_psf(psf: PSF, reach: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Autocorrelation of the PSF in the middle of the image, 1 at lag 0."""
    offsets = np.arange(-psf.radius, psf.radius + 1)
    values = psf.values(offsets[None, :], offsets[:, None], shape[1] / 2, shape[0] / 2)[0]
    wide, size = np.pad(values, reach), 2 * reach + 1
    made: NDArray[np.float64] = np.empty((size, size))
    for j in range(size):
        for i in range(size):
            made[j, i] = np.sum(values * wide[j : j + values.shape[0], i : i + values.shape[1]])
    return np.asarray(made / made[reach, reach], np.float64)


def _of_stars(
    data: NDArray[np.float32],
    flags: NDArray[np.uint32],
    fwhm: float,
    fits: FieldFits,
    scales: tuple[float, float, float],
) -> tuple[NDArray[np.float64], float]:
    """Excess of the variance at each star, weighted by a Gaussian of its width; and the share the PSF makes of a flux.

    ``scales``: the gain, by how much fewer pixels are independent, and the variance of a flux by that of pixels.
    """
    from scipy.ndimage import gaussian_filter

    gain, fewer, scale = scales
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = (data - fits.level - fits.model) / np.sqrt(fits.noise + np.maximum(fits.model, 0.0) / gain)
    usable = _quiet(flags, fwhm) & np.isfinite(rest)
    rest = np.where(usable, rest, 0.0)
    sigma = fwhm / FWHM_OF_SIGMA
    light = gaussian_filter(usable.astype(np.float64), sigma, mode="constant")
    squares = gaussian_filter(rest * rest, sigma, mode="constant")
    ny, nx = rest.shape
    row, column = (
        np.clip(np.nan_to_num(part).round().astype(int), 0, size - 1) for part, size in ((fits.y, ny), (fits.x, nx))
    )
    seen = light[row, column]
    known = np.isfinite(fits.flux) & (fits.flux_error > 0) & (seen > 0.2)
    if not known.any():
        return np.zeros(fits.x.size), 0.0
    seen, index = seen[known], np.flatnonzero(known)
    own = squares[row, column][known] / seen - 1.0
    # of a mean of squares over the pixels that the weight holds
    chance = np.sqrt(fewer / (2 * np.pi * sigma**2) / seen)
    middle = float(np.median(own))
    snr2 = (fits.flux[known] / fits.flux_error[known]) ** 2
    share2 = _share_squared(own - middle, chance, snr2) * scale
    usual = middle + share2 / scale * snr2
    apart = own - usual
    spread = float(SIGMA_PER_MAD * np.median(np.abs(apart)))
    common = max(0.0, 1 - float(np.median(chance)) ** 2 / spread**2) if spread > 0 else 0.0
    single = np.where(apart > 0, 1 - (_OWN * chance / np.where(apart > 0, apart, 1.0)) ** 2, 0.0)
    made = np.full(fits.x.size, max(middle, 0.0))
    made[index] = usual + np.maximum(common, single) * apart
    return made, math.sqrt(share2)


def _share_squared(apart: NDArray[np.float64], chance: NDArray[np.float64], snr2: NDArray[np.float64]) -> float:
    """What bright stars have beyond the usual, for a S/N of 1; 0 unless it is more than chance."""
    bright = np.flatnonzero(snr2 > _SEEN**2)
    bright = bright[np.argsort(-snr2[bright], kind="stable")][:_MOST]
    if bright.size < _FEW:
        return 0.0
    found = float(np.median(apart[bright] / snr2[bright]))
    error = 1.25 * float(np.median(chance[bright] / snr2[bright])) / math.sqrt(bright.size)
    return found if found > _SURE * error else 0.0
