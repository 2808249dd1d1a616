"""Stars of known flux put into an image one at a time, and looked for as its own stars were: which are found.

A star is drawn with the point-spread function, with photon noise of its own, and a window around it is searched and
solved again (:mod:`larun.algorithms.psf_crowd`); beyond the window all stars stay as they were measured. One star in a
window does not change how crowded the field is (Stetson & Harris 1988, AJ 96, 909, put in a few at a time). It is
found when there is a source so near and of so similar a flux, and there was none before: what agrees with the star by
chance is no recovery.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.detect import DetectOptions, detect_matched
from larun.algorithms.peaks import FWHM_OF_SIGMA, Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_crowd import SearchOptions, solve_crowd
from larun.algorithms.psf_field import FieldOptions, solve_field

__all__ = ["InjectOptions", "Injected", "binomial", "flux_of_snr", "inject", "places_in_ring"]

#: Half a side of the window, in FWHM, beyond the reach of a star's light on another's fit.
_HALF = 4.5
#: Rounds of trying places before too few of them are usable.
_TRIES = 50


@attrs.frozen(kw_only=True)
class InjectOptions:
    """How stars that were put in are looked for, and when one counts as found.

    Parameters
    ----------
    detect : DetectOptions
        How a window is searched at first.
    fit : FieldOptions
        How its stars are fitted.
    search : SearchOptions, optional
        How what remains is searched; None for a single pass.
    radius : float
        A source so near, in FWHM, may be the star.
    agree : float
        And it is, if its flux differs by no more magnitudes.
    seed : int
        Of the photon noise.
    """

    detect: DetectOptions
    fit: FieldOptions
    search: SearchOptions | None
    radius: float = 0.75
    agree: float = 0.75
    seed: int = 0


class Injected(NamedTuple):
    """What became of the stars that were put in, one element a star.

    Attributes
    ----------
    found : (n,) bool
        Whether there is a source like it, and was none before.
    before : (n,) bool
        Whether there was one before.
    flux : (n,) float64
        Of the source; NaN where none is found.
    """

    found: NDArray[np.bool_]
    before: NDArray[np.bool_]
    flux: NDArray[np.float64]


def inject(
    planes: Planes, psf: PSF, known: NDArray[np.float64], stars: NDArray[np.float64], *, options: InjectOptions
) -> Injected:
    """Put stars into an image, each by itself, and look for them.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, level of the sky without stars, its smooth variance (float32) and flags (uint32).
    psf : PSF
        The function.
    known : ndarray, shape (m, 3)
        x, y, flux of the stars of the image, as they were measured.
    stars : ndarray, shape (n, 3)
        x, y, flux of those to put in.
    options : InjectOptions
        How.

    Returns
    -------
    Injected

    Examples
    --------
    >>> from larun.algorithms.psf import gaussian_psf
    >>> psf, flat = gaussian_psf(3.0), np.full((60, 60), 100, np.float32)
    >>> how = InjectOptions(detect=DetectOptions(fwhm=3.0), fit=FieldOptions(), search=None)
    >>> planes = flat, flat, flat, np.zeros((60, 60), np.uint32)
    >>> stars = np.array([[20.3, 30.1, 9000.0], [40.0, 30.0, 9.0]])
    >>> inject(planes, psf, np.empty((0, 3)), stars, options=how).found.tolist()
    [True, False]
    """
    seen = known[np.isfinite(known).all(axis=1) & (known[:, 2] > 0)]
    found, before = np.zeros(len(stars), bool), np.zeros(len(stars), bool)
    flux = np.full(len(stars), np.nan)
    for number, star in enumerate(stars):
        before[number] = bool(np.isfinite(_like(seen, star, psf.fwhm, options)))
        noise = np.random.default_rng([options.seed, number])
        flux[number] = _like(_measured(planes, psf, seen, star, options, noise), star, psf.fwhm, options)
        found[number] = bool(np.isfinite(flux[number])) and not before[number]
    flux[~found] = np.nan
    return Injected(found, before, flux)


def _like(sources: NDArray[np.float64], star: NDArray[np.float64], fwhm: float, options: InjectOptions) -> float:
    """The flux of the nearest source that may be the star; NaN if there is none."""
    distance = np.hypot(sources[:, 0] - star[0], sources[:, 1] - star[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        same = np.abs(2.5 * np.log10(sources[:, 2] / star[2])) <= options.agree
    distance = np.where(same & (distance <= options.radius * fwhm), distance, np.inf)
    if not np.isfinite(distance).any():
        return math.nan
    return float(sources[int(np.argmin(distance)), 2])


def _measured(
    planes: Planes,
    psf: PSF,
    known: NDArray[np.float64],
    star: NDArray[np.float64],
    options: InjectOptions,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Places and fluxes (k, 3) of what a window shows with the star in it."""
    ny, nx = planes[0].shape
    half = math.ceil(_HALF * psf.fwhm)
    left, top = max(0, round(star[0]) - half), max(0, round(star[1]) - half)
    right, bottom = min(nx, round(star[0]) + half + 1), min(ny, round(star[1]) + half + 1)
    shape = bottom - top, right - left
    corner = np.array([left, top, 0.0])
    near = attrs.evolve(psf, domain=_shifted(psf.domain, left, top))
    own = known - corner
    inside = (own[:, 0] >= -0.5) & (own[:, 1] >= -0.5) & (own[:, 0] < shape[1] - 0.5) & (own[:, 1] < shape[0] - 0.5)
    # what shines in from outside is known, and stays as it is
    reached = (np.abs(own[:, 0] - shape[1] / 2) < shape[1] / 2 + psf.radius) & (
        np.abs(own[:, 1] - shape[0] / 2) < shape[0] / 2 + psf.radius
    )
    light = near.draw(shape, *(star - corner)[:, None])
    photons = random.poisson(np.maximum(light, 0) * options.fit.gain) / options.fit.gain
    window = slice(top, bottom), slice(left, right)
    data = planes[0][window] + (photons - near.draw(shape, *own[~inside & reached].T))
    level, noise = (read_only(plane[window], np.float32) for plane in planes[1:3])
    cut: Planes = (read_only(data, np.float32), level, noise, read_only(planes[3][window], np.uint32))
    sources = detect_matched(*cut, options=options.detect)
    if options.search is None:
        fits = solve_field(cut, near, sources.x, sources.y, options=options.fit)
    else:
        fits = solve_crowd(
            cut, near, np.column_stack([sources.x, sources.y]), options=options.fit, search=options.search
        ).fits
    return np.asarray(np.column_stack([fits.x, fits.y, fits.flux]) + corner, np.float64)


def _shifted(domain: tuple[float, float, float, float], left: int, top: int) -> tuple[float, float, float, float]:
    return domain[0] - left, domain[1], domain[2] - top, domain[3]


def places_in_ring(
    usable: NDArray[np.bool_],
    centre: tuple[float, float],
    ring: tuple[float, float],
    count: int,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Places (n, 2: x, y) anywhere in a ring, on usable pixels; fewer where there is hardly a usable one.

    Examples
    --------
    >>> found = places_in_ring(np.ones((50, 80), bool), (20.0, 20.0), (5.0, 9.0), 100, np.random.default_rng(1))
    >>> distance = np.hypot(*(found - 20).T)
    >>> len(found), bool(distance.min() >= 5), bool(distance.max() < 9)
    (100, True, True)
    """
    ny, nx = usable.shape
    reach = min(ring[1], math.hypot(max(centre[0], nx - centre[0]), max(centre[1], ny - centre[1])) + 1)
    low = np.maximum(np.array(centre) - reach, -0.5)
    high = np.minimum(np.array(centre) + reach, np.array([nx, ny]) - 0.5)
    made = np.empty((0, 2))
    for _ in range(_TRIES):
        if len(made) >= count or not np.all(high > low):
            break
        tried = random.uniform(low, high, (4 * count, 2))
        distance = np.hypot(*(tried - np.array(centre)).T)
        column, row = np.rint(tried).astype(int).T
        good = usable[np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)]
        made = np.concatenate([made, tried[good & (distance >= ring[0]) & (distance < ring[1])]])
    return made[:count]


def flux_of_snr(snr: float, variance: float, gain: float, fwhm: float) -> float:
    """Flux of a star alone of this signal to noise, with its own photons; about, as if its profile were a Gaussian.

    Examples
    --------
    >>> round(flux_of_snr(10.0, 100.0, 1.0, 3.0))
    504
    """
    sky = variance * 4 * math.pi * (fwhm / FWHM_OF_SIGMA) ** 2
    half = snr * snr / gain / 2
    return half + math.sqrt(half * half + snr * snr * sky)


def binomial(found: int, of: int) -> tuple[float, float]:
    """Limits of a share by its 68 % interval (Wilson 1927, JASA 22, 209): none is 0 wide when all or none are found.

    Examples
    --------
    >>> [round(limit, 3) for limit in binomial(5, 10)]
    [0.349, 0.651]
    >>> [round(limit, 3) for limit in binomial(10, 10)]
    [0.909, 1.0]
    """
    if of == 0:
        return 0.0, 1.0
    share = found / of
    middle = (share + 0.5 / of) / (1 + 1 / of)
    half = math.sqrt(share * (1 - share) / of + 0.25 / of**2) / (1 + 1 / of)
    return max(0.0, middle - half), min(1.0, middle + half)
