"""How much more light the stars of one image give than on another of the same field.

Stars that stand alone on both are fitted with the PSF of each, and their fluxes are compared: with the errors of both,
and a part of the light by which a PSF may be wrong, so that the brightest do not decide alone. Stars that vary are left
out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_fit import FitOptions, fit_stars
from larun.errors import NotAligned

__all__ = ["FLOOR", "FluxRatio", "flux_ratio", "weighted_middle"]

#: Part of a star's light by which a PSF may be wrong.
FLOOR = 0.005
_CLIP, _TURNS = 4.0, 8
_NEAR = 1.0  # pixel between the places of a star on both images
_FEWEST = 3


class FluxRatio(NamedTuple):
    """What :func:`flux_ratio` returns.

    Attributes
    ----------
    ratio, error : float
        Flux on the first image over that on the second, and its error.
    used : ndarray of bool, (n,)
        Stars that it rests on.
    """

    ratio: float
    error: float
    used: NDArray[np.bool_]


def flux_ratio(
    images: tuple[Planes, Planes],
    psfs: tuple[PSF, PSF],
    gains: tuple[float, float],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> FluxRatio:
    """The ratio of the fluxes of stars on two images on the same pixels.

    Parameters
    ----------
    images : tuple of planes
        Data, level, smooth variance and flags of each.
    psfs : tuple of PSF
        Of each; fluxes are in what they are normalised to.
    gains : tuple of float
        Electrons per unit of each.
    x, y : ndarray of float64, (n,)
        Stars that stand alone.

    Raises
    ------
    NotAligned
        If fewer than three of them can be measured on both.
    """
    fits = [
        fit_stars(planes, psf, x, y, options=FitOptions(gain=gain))
        for planes, psf, gain in zip(images, psfs, gains, strict=True)
    ]
    one, two = fits
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = one.flux / two.flux
        variance = (one.flux_error / one.flux) ** 2 + (two.flux_error / two.flux) ** 2 + 2 * FLOOR**2
        good = (one.flux > 0) & (two.flux > 0) & np.isfinite(ratio + variance)
        good &= one.converged & two.converged & (one.share > 0.99) & (two.share > 0.99)
        good &= np.hypot(one.x - two.x, one.y - two.y) < _NEAR
    # of logarithms: which of the images is the first must not matter
    value, error = np.log(np.where(good, ratio, 1.0)), np.sqrt(np.where(good, variance, 1.0))
    centre, spread, used = weighted_middle(value, error, good)
    return FluxRatio(float(np.exp(centre)), float(np.exp(centre)) * spread, used)


def weighted_middle(
    value: NDArray[np.float64], error: NDArray[np.float64], good: NDArray[np.bool_]
) -> tuple[float, float, NDArray[np.bool_]]:
    """The weighted mean of what stars say, odd ones left out; its error; and which were used.

    Parameters
    ----------
    value, error : ndarray of float64, (n,)
        Of each star.
    good : ndarray of bool, (n,)
        Stars that say something.

    Raises
    ------
    NotAligned
        If fewer than three are left.
    """
    used = good.copy()
    _enough(used)
    centre = float(np.median(value[used]))
    for _ in range(_TURNS):
        scatter = max(1.0, 1.4826 * float(np.median(np.abs(value[used] - centre) / error[used])))
        kept = good & (np.abs(value - centre) <= _CLIP * scatter * error)
        _enough(kept)
        weight = 1 / error[kept] ** 2
        centre = float(np.sum(weight * value[kept]) / np.sum(weight))
        if np.array_equal(kept, used):
            break
        used = kept
    # where stars scatter more than they say, so does their mean
    pulls = (value[used] - centre) / error[used]
    spread = max(1.0, float(np.sqrt(np.mean(pulls**2))))
    return centre, spread * float(1 / np.sqrt(np.sum(1 / error[used] ** 2))), used


def _enough(used: NDArray[np.bool_]) -> None:
    if used.sum() < _FEWEST:
        raise NotAligned(f"{int(used.sum())} stars to be measured on both images: the ratio of their fluxes needs 3")
