"""How faint a star may be to be found: from stars of known flux that were put into an image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError

__all__ = ["Completeness", "completeness", "filtered_limit", "flux_limit"]

_LEAST = 20
_Z90 = 1.2815515655446004  # of a normal distribution


class Completeness(NamedTuple):
    """The share of stars that are found, Φ((flux − half) / width).

    Attributes
    ----------
    half, half_error : float
        Flux of which half is found, and its 1 σ.
    width, width_error : float
        σ of the noise of the flux at the limit: 90 % are found at ``half + 1.28 width``.
    top : float
        Share that is found of the brightest stars: what is missing there has another reason than noise.
    """

    half: float
    half_error: float
    width: float
    width_error: float
    top: float

    @property
    def ninety(self) -> float:
        """Flux of which 90 % are found (of those that can be found at all)."""
        return self.half + _Z90 * self.width


def completeness(flux: NDArray[np.float64], found: NDArray[np.bool_], *, noise: float) -> Completeness:
    """Fit the share of stars that are found against their flux: maximum likelihood for binomial numbers.

    A star is found where its flux with the noise on it is above the threshold, so that the share is a cumulative
    normal distribution of the flux (not of the magnitude).

    Parameters
    ----------
    flux : ndarray of float64, (n,)
        Fluxes that were put in.
    found : ndarray of bool, (n,)
        Whether a source was found there.
    noise : float
        About how large the noise of a flux is: where the search begins.

    Raises
    ------
    OptionError
        If there are too few stars, or all or none of them are found.
    """
    if len(flux) < _LEAST or found.all() or not found.any():
        raise OptionError(
            f"{int(found.sum())} of {len(flux)} stars are found: at least {_LEAST} stars, some found and some not, "
            "are needed to fit a completeness"
        )
    order = np.argsort(flux)
    brightest = found[order][-max(len(flux) // 5, 5) :]
    top = float(brightest.mean())
    # With few exceptions bright stars are found; those that are not must not bend the curve.
    share = min(max(top, 0.5), 1 - 1 / (2 * len(flux)))
    half, width = float(np.median(flux)), float(noise)
    best = math.inf
    for start in np.quantile(flux, [0.1, 0.3, 0.5, 0.7]):
        value, made = _climb(flux, found, share, float(start), float(noise))
        if value < best:
            best, (half, width) = value, made
    information = _information(flux, share, half, width)
    try:
        covariance = np.linalg.inv(information)
    except np.linalg.LinAlgError:
        covariance = np.full((2, 2), math.nan)
    errors = np.sqrt(np.abs(np.diag(covariance)))
    return Completeness(half, float(errors[0]), width, float(errors[1]), top)


def _share(flux: NDArray[np.float64], top: float, half: float, width: float) -> NDArray[np.float64]:
    from scipy.special import ndtr

    share: NDArray[np.float64] = np.clip(top * ndtr((flux - half) / width), 1e-9, 1 - 1e-9)
    return share


def _climb(
    flux: NDArray[np.float64], found: NDArray[np.bool_], top: float, half: float, noise: float
) -> tuple[float, tuple[float, float]]:
    from scipy.optimize import minimize

    def cost(parameters: NDArray[np.float64]) -> float:
        share = _share(flux, top, parameters[0] * noise, noise * math.exp(parameters[1]))
        # a width far from the noise is unlikely: without it few stars near the limit would give a step
        unlikely = float(parameters[1]) ** 2 / 0.5
        return unlikely - float(np.sum(np.where(found, np.log(share), np.log1p(-share))))

    done = minimize(cost, [half / noise, 0.0], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-5})
    return float(done.fun), (float(done.x[0]) * noise, noise * math.exp(float(done.x[1])))


def _information(flux: NDArray[np.float64], top: float, half: float, width: float) -> NDArray[np.float64]:
    """Fisher's information of (half, width)."""
    z = (flux - half) / width
    share = _share(flux, top, half, width)
    slope = top * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) / width
    gradient = np.stack([-slope, -slope * z])
    information: NDArray[np.float64] = (gradient / (share * (1 - share))) @ gradient.T
    information[1, 1] += 4 / width**2  # of what is assumed of the width
    return information


def filtered_limit(star: NDArray[np.float64], shape: NDArray[np.float64], *, sigma: float, threshold: float) -> float:
    """The flux of a star whose signal to noise behind a filter is just the threshold.

    Behind a filter G the signal is F Σ P G and the noise σ √Σ G²; for G = P this is σ / √Σ P², the least there can be.

    Parameters
    ----------
    star : ndarray, (n, n)
        Light of a star on pixels, P; sums to 1.
    shape : ndarray, (n, n)
        The filter, G, centred on the star.
    sigma : float
        Noise of a pixel.
    threshold : float
        Least signal to noise of a detection.

    Examples
    --------
    >>> star = np.full((2, 2), 0.25)
    >>> filtered_limit(star, star, sigma=10.0, threshold=5.0)
    100.0
    """
    return threshold * sigma * math.sqrt(float(np.sum(shape**2))) / float(np.sum(star * shape))


def flux_limit(star: NDArray[np.float64], fwhm: float, *, sigma: float, threshold: float) -> float:
    """Total flux of a star that has the signal to noise ``threshold`` behind a Gaussian filter of this FWHM."""
    half = len(star) // 2
    line = np.arange(-half, half + 1)
    shape = np.exp(-0.5 * (line[:, None] ** 2 + line**2) / (fwhm / 2.3548) ** 2)
    return filtered_limit(star, shape, sigma=sigma, threshold=threshold)
