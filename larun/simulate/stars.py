"""Stars: where they are, how bright they are, and their light on every pixel."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = ["StarField", "add_stamp", "checked_stars", "draw_stars", "inverse_power", "render"]

_LEFT_OUT = 1e-4  # of a star's flux may lie outside its stamp
_FAINTEST = 0.02  # electrons per pixel: where a bright star's wing may be cut
_BATCH = 200_000  # values evaluated at once: few enough to stay in the cache


class StarField(NamedTuple):
    """Positions (pixels, the centre of the first pixel is 0) and fluxes, float64, one value a star."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]


def draw_stars(
    shape: tuple[int, int],
    *,
    count: int,
    rng: np.random.Generator,
    faintest: float,
    brightest: float,
    slope: float = 0.75,
    margin: float = 0.0,
) -> StarField:
    """Stars at random places with fluxes from a power law, ``N(> F) ∝ F**-slope`` between two limits.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the image.
    count : int
        Number of stars, those in the margin included.
    rng : numpy.random.Generator
        Source of the random numbers.
    faintest, brightest : float
        Limits of the flux.
    slope : float
        0.75 is the 0.3 per magnitude of counts in the disk of the Galaxy; 1.5 is uniform space.
    margin : float
        Stars are placed up to this many pixels outside the image, so that dithered frames find some there.

    Raises
    ------
    OptionError
        If the limits are not positive and ascending, or ``slope`` is not positive.

    Examples
    --------
    >>> field = draw_stars((64, 64), count=3, rng=np.random.default_rng(1), faintest=100, brightest=1e5)
    >>> len(field.x), bool(field.flux.min() >= 100)
    (3, True)
    """
    if count < 0 or not 0 < faintest < brightest < math.inf or not slope > 0:
        raise OptionError(
            f"count = {count}, faintest = {faintest}, brightest = {brightest}, slope = {slope}: "
            "give count >= 0, 0 < faintest < brightest and slope > 0"
        )
    x = rng.uniform(-0.5 - margin, shape[1] - 0.5 + margin, count)
    y = rng.uniform(-0.5 - margin, shape[0] - 0.5 + margin, count)
    low, high = faintest**-slope, brightest**-slope
    flux = (low - rng.random(count) * (low - high)) ** (-1.0 / slope)
    return StarField(x, y, np.clip(flux, faintest, brightest))


def render(
    shape: tuple[int, int], x: ArrayLike, y: ArrayLike, flux: ArrayLike, *, fwhm: float, beta: float | None = 3.0
) -> NDArray[np.float64]:
    """The light of stars on every pixel: round Moffat (or Gaussian) profiles integrated over the pixels.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the image.
    x, y : array_like
        Positions in pixels; stars outside the image are allowed and lend it their wings.
    flux : array_like
        Flux of each star over the infinite plane.
    fwhm : float
        Full width at half maximum of the profile before the pixel, pixels; at least 0.5.
    beta : float or None
        Exponent of the Moffat profile (1969, A&A 3, 455), above 1; None for a Gaussian.

    Returns
    -------
    ndarray of float64
        Image in the unit of ``flux`` per pixel.

    Raises
    ------
    OptionError
        If a value is not finite, ``fwhm`` is below 0.5 or ``beta`` is not above 1.

    Notes
    -----
    A star is drawn on a square stamp, and is not renormalised for what lies outside: the stamp reaches at least to
    the circle that holds all but 1e-4 of the flux, and to where the profile falls below 0.02 units per pixel. Within
    the stamp, pixel values are right to 1e-5 of the flux: Gauss-Legendre nodes in the core, the centre value and its
    Laplacian in the wings; the Gaussian is exact (differences of the error function).

    Examples
    --------
    >>> image = render((101, 101), [50.0], [50.0], [1000.0], fwhm=2.5, beta=None)
    >>> round(float(image.sum()), 1)
    1000.0
    """
    xs, ys, fluxes = checked_stars(x, y, flux)
    if not 0.5 <= fwhm < math.inf or (beta is not None and not 1 < beta < math.inf):
        raise OptionError(f"fwhm = {fwhm}, beta = {beta}: give fwhm >= 0.5 pixels and beta > 1 (None for a Gaussian)")
    image = np.zeros(shape, dtype=np.float64)
    half = _half_sizes(np.abs(fluxes), fwhm, beta, largest=max(shape))
    column, row = np.rint(xs).astype(np.int64), np.rint(ys).astype(np.int64)
    seen = (column + half >= 0) & (column - half < shape[1]) & (row + half >= 0) & (row - half < shape[0])
    for size in np.unique(half[seen]):
        members = np.flatnonzero(seen & (half == size))
        batch = max(1, _BATCH // (2 * int(size) + 1) ** 2)
        for start in range(0, len(members), batch):
            some = members[start : start + batch]
            dx, dy = xs[some] - column[some], ys[some] - row[some]
            stamps = _gaussian(dx, dy, int(size), fwhm) if beta is None else _moffat(dx, dy, int(size), fwhm, beta)
            stamps *= fluxes[some, None, None]
            for stamp, x0, y0 in zip(stamps, column[some] - size, row[some] - size, strict=True):
                add_stamp(image, stamp, int(x0), int(y0))
    return image


def checked_stars(x: ArrayLike, y: ArrayLike, flux: ArrayLike) -> StarField:
    """Positions and fluxes as arrays, or what is wrong with them."""
    xs, ys, fluxes = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (x, y, flux))
    if not (xs.shape == ys.shape == fluxes.shape and xs.ndim == 1):
        raise OptionError(
            f"x, y and flux have shapes {xs.shape}, {ys.shape} and {fluxes.shape}: give three equal lists"
        )
    if not (np.isfinite(xs).all() and np.isfinite(ys).all() and np.isfinite(fluxes).all()):
        raise OptionError("x, y and flux must be finite: remove the stars that are not")
    return StarField(xs, ys, fluxes)


def add_stamp(image: NDArray[np.float64], stamp: NDArray[np.float64], x0: int, y0: int) -> None:
    """Add the part of the stamp that lies on the image; its first pixel is at (x0, y0)."""
    top, left = max(y0, 0), max(x0, 0)
    bottom, right = min(y0 + stamp.shape[0], image.shape[0]), min(x0 + stamp.shape[1], image.shape[1])
    image[top:bottom, left:right] += stamp[top - y0 : bottom - y0, left - x0 : right - x0]


def _half_sizes(flux: NDArray[np.float64], fwhm: float, beta: float | None, *, largest: int) -> NDArray[np.int64]:
    """Half size of each star's stamp, on a ladder of few sizes; never more than it takes to cover the image."""
    if beta is None:
        sigma = _sigma(fwhm)
        peak = np.maximum(flux / (2 * math.pi * sigma**2) / _FAINTEST, 1.0)
        radius = sigma * np.sqrt(2 * np.maximum(np.log(peak), -math.log(_LEFT_OUT)))
    else:
        alpha = _alpha(fwhm, beta)
        peak = np.maximum(flux * (beta - 1) / (math.pi * alpha**2) / _FAINTEST, 1.0)
        # in logarithms: for beta near 1 the numbers themselves overflow
        log_u = np.maximum(np.log(peak) / beta, -math.log(_LEFT_OUT) / (beta - 1))
        radius = alpha * np.exp(np.minimum(0.5 * log_u, 30.0))
    steps = np.ceil(4 * np.log2(np.maximum(radius + 1, 8.0)))  # sizes grow by 19 %
    return np.asarray(np.minimum(np.ceil(2.0 ** (steps / 4)), 2 * largest), dtype=np.int64)


def _alpha(fwhm: float, beta: float) -> float:
    return fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))


def _sigma(fwhm: float) -> float:
    return fwhm / math.sqrt(8 * math.log(2))


def _gaussian(dx: NDArray[np.float64], dy: NDArray[np.float64], half: int, fwhm: float) -> NDArray[np.float64]:
    """Stamps (n, 2 half + 1, 2 half + 1) of unit flux."""
    from scipy.special import erf

    edges = np.arange(-half, half + 2) - 0.5
    scale = _sigma(fwhm) * math.sqrt(2)
    across, up = (0.5 * np.diff(erf((edges[None, :] - d[:, None]) / scale), axis=1) for d in (dx, dy))
    return np.asarray(up[:, :, None] * across[:, None, :])


def _moffat(
    dx: NDArray[np.float64], dy: NDArray[np.float64], half: int, fwhm: float, beta: float
) -> NDArray[np.float64]:
    """Stamps (n, 2 half + 1, 2 half + 1) of unit flux."""
    alpha = _alpha(fwhm, beta)
    offsets = np.arange(-half, half + 1, dtype=np.float64)
    across, up = (((offsets[None, :] - d[:, None]) / alpha) ** 2 for d in (dx, dy))
    u = 1.0 + up[:, :, None] + across[:, None, :]
    # the mean over a pixel is f + ∇²f / 24 + …; ∇² u^-β = (4 β / α²) u^(-β-2) (β u - (β + 1))
    stamps = inverse_power(u, beta) * (1.0 + beta / (6 * alpha**2) * (beta * u - (beta + 1)) / (u * u))

    core = min(half, math.ceil(2 * alpha) + 2)
    nodes, weights = np.polynomial.legendre.leggauss(3 if alpha >= 2.5 else 5 if alpha >= 1.2 else 11)
    fine = (np.arange(-core, core + 1)[:, None] + 0.5 * nodes[None, :]).ravel()
    across, up = (((fine[None, :] - d[:, None]) / alpha) ** 2 for d in (dx, dy))
    wide = 2 * core + 1
    inner = slice(half - core, half + core + 1)
    for n in range(len(dx)):  # star by star: the fine grid is an order larger than the stamp
        values = inverse_power(1.0 + up[n, :, None] + across[n, None, :], beta).reshape(
            wide, len(nodes), wide, len(nodes)
        )
        stamps[n, inner, inner] = np.einsum("iajb,a,b->ij", values, 0.5 * weights, 0.5 * weights)
    stamps *= (beta - 1) / (math.pi * alpha**2)
    return np.asarray(stamps)


def inverse_power(u: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """``u ** -beta``; multiples of a half by products and a root: faster, and the same on every processor."""
    if 2 * beta != int(2 * beta) or beta > 8:
        return np.asarray(u**-beta)
    whole = int(beta)
    product = u * np.sqrt(u) if beta != whole else u.copy()
    for _ in range(whole - 1):
        product *= u
    return np.asarray(1.0 / product)
