"""The point-spread function of an image as a frozen value.

It is the *effective* function of Anderson & King (2000, PASP 112, 1360): the share of a star's light that a pixel gets,
by the pixel's distance from the star, so the pixel is in it and nothing is integrated any more. It is kept as cubic
B-splines on a grid of a whole number of nodes a pixel, smooth to the second derivative. Over the image its nodes are
polynomials of order 0, 1 or 2.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import over_rows
from larun.algorithms.psf_kernels import draw_range, point_range
from larun.errors import OptionError

__all__ = ["PSF", "aperture_shares", "gaussian_psf", "moffat_psf", "psf_from_nodes", "psf_from_samples", "terms_of"]

#: Polynomial terms over the image, by order.
_TERMS = (1, 3, 6)
#: Points of a Gauss-Legendre rule in each direction of a pixel.
_POINTS = 8
#: Nodes beyond the last that is kept, so that the ends of the spline are not felt: 0.268 to this power is 1e-7.
_MARGIN = 12
_FWHM_OF_SIGMA = 2 * math.sqrt(2 * math.log(2))


def _frozen(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    return read_only(nodes, np.float64)


@attrs.frozen(kw_only=True, eq=False)
class PSF:
    """A point-spread function with the pixel in it, possibly different over the image.

    Made by :func:`gaussian_psf`, :func:`moffat_psf`, :func:`psf_from_samples`, or from stars.

    Parameters
    ----------
    nodes : ndarray of float64, shape (terms, m, m)
        Coefficients of the B-splines, the star in the middle; 1, 3 or 6 terms of a polynomial over the image.
    oversampling : int
        Nodes a pixel.
    radius : int
        It is 0 beyond this distance from the star along either axis, pixels.
    fwhm : float
        Full width at half maximum before the pixel blurred it, pixels.
    kind : str
        What it was made from: ``gaussian``, ``moffat`` or ``empirical``.
    aperture : float or None
        Radius in pixels of the circle that holds a light of 1: fluxes are those of such an aperture. None: all the
        light there is, also beyond ``radius``.
    domain : tuple of float
        Middle and half width of the image along x, and along y, pixels: there the polynomial's u and v are -1 and 1.
    """

    nodes: NDArray[np.float64] = attrs.field(repr=False, converter=_frozen)
    oversampling: int
    radius: int
    fwhm: float
    kind: str
    aperture: float | None = None
    domain: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that unpickled nodes are frozen again.
        state = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return functools.partial(type(self), **state), ()

    @property
    def model(self) -> tuple[NDArray[np.float64], int, tuple[float, float, float, float]]:
        """What kernels take: nodes, oversampling and domain."""
        return self.nodes, self.oversampling, self.domain

    @property
    def order(self) -> int:
        """Order of the polynomial over the image."""
        return _TERMS.index(len(self.nodes))

    def values(self, dx: ArrayLike, dy: ArrayLike, x: ArrayLike = 0.0, y: ArrayLike = 0.0) -> NDArray[np.float64]:
        """The share of light at pixels that lie (dx, dy) from a star.

        Parameters
        ----------
        dx, dy : array_like
            Pixel minus star, pixels; they broadcast.
        x, y : array_like
            Where on the image the star is, for each; matters where the function varies.

        Returns
        -------
        ndarray of float64, shape (3, ...)
            The value, and its derivatives by the star's x and y, a pixel.

        Examples
        --------
        >>> gaussian_psf(3.0).values([0.0, 1.5], 0.0)[0].round(4).tolist()
        [0.0932, 0.0482]
        """
        parts = np.broadcast_arrays(*(np.asarray(part, np.float64) for part in (dx, dy, x, y)))
        places = np.stack([part.ravel() for part in parts], axis=1)
        out = np.empty((len(places), 3))
        for_kernel = self.model, read_only(places, np.float64), float(self.radius), out

        def work(start: int, stop: int) -> None:
            point_range(*for_kernel, start, stop)

        over_rows(len(places), work, band=4096)
        return np.ascontiguousarray(out.T).reshape(3, *parts[0].shape)

    def draw(self, shape: tuple[int, int], x: ArrayLike, y: ArrayLike, flux: ArrayLike) -> NDArray[np.float64]:
        """An image of stars, without sky and noise.

        Parameters
        ----------
        shape : tuple of int
            (ny, nx) of the image.
        x, y, flux : array_like, shape (n,)
            Positions in pixels and fluxes; what is not finite is left out.

        Returns
        -------
        ndarray of float64, shape (ny, nx)

        Examples
        --------
        >>> float(gaussian_psf(2.5).draw((31, 31), [14.3], [15.2], [1000.0]).sum().round(1))
        1000.0
        """
        places = [np.asarray(part, np.float64) for part in (x, y, flux)]
        stars = np.column_stack([*places, np.full(len(places[0]), float(self.radius))])
        given = read_only(stars[np.isfinite(stars).all(axis=1)], np.float64)
        image = np.zeros(shape)

        def work(start: int, stop: int) -> None:
            draw_range(self.model, given, self.radius - 1, image, start, stop)

        over_rows(shape[0], work)
        return image


def gaussian_psf(
    fwhm: float, *, ratio: float = 1.0, theta: float = 0.0, oversampling: int = 4, radius: int | None = None
) -> PSF:
    """An elliptical Gaussian, integrated over pixels.

    Parameters
    ----------
    fwhm : float
        FWHM, geometric mean of the axes, pixels.
    ratio : float
        Minor over major axis, above 0, at most 1.
    theta : float
        Direction of the major axis, degrees from +x towards +y.
    oversampling : int
        Nodes a pixel, 2 to 8.
    radius : int, optional
        How far it is kept, pixels; by default 4 FWHM, at least 8.

    Returns
    -------
    PSF
        All its light is 1.

    Raises
    ------
    OptionError
        If a number is out of range.

    Examples
    --------
    >>> gaussian_psf(3.0).kind
    'gaussian'
    """
    sigma = fwhm / _FWHM_OF_SIGMA

    def profile(r2: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(-0.5 * r2 / sigma**2) / (2 * np.pi * sigma**2))

    return _analytic("gaussian", profile, fwhm, (ratio, theta), oversampling, radius)


def moffat_psf(
    fwhm: float,
    beta: float = 3.0,
    *,
    ratio: float = 1.0,
    theta: float = 0.0,
    oversampling: int = 4,
    radius: int | None = None,
) -> PSF:
    """An elliptical Moffat profile (1969, A&A 3, 455), integrated over pixels.

    Parameters
    ----------
    fwhm, ratio, theta, oversampling, radius
        As for :func:`gaussian_psf`.
    beta : float
        Exponent, above 1: light falls off as r to the power of -2 beta.

    Returns
    -------
    PSF
        All its light is 1, also what lies beyond ``radius``.

    Raises
    ------
    OptionError
        If a number is out of range.

    Examples
    --------
    >>> moffat_psf(3.0, 2.5).oversampling
    4
    """
    if not 1 < beta < np.inf:
        raise OptionError(f"beta = {beta}: must be above 1, else a star has no finite light")
    scale2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)

    def profile(r2: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((beta - 1) / (np.pi * scale2) * (1 + r2 / scale2) ** -beta)

    return _analytic("moffat", profile, fwhm, (ratio, theta), oversampling, radius)


@functools.cache
def _gauss_legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.polynomial.legendre.leggauss(_POINTS)


def _analytic(
    kind: str, profile: Any, fwhm: float, shape: tuple[float, float], oversampling: int, radius: int | None
) -> PSF:
    ratio, theta = shape
    if not 0.5 <= fwhm <= 200:
        raise OptionError(f"fwhm = {fwhm}: must be 0.5 to 200 pixels")
    if not 0.05 <= ratio <= 1:
        raise OptionError(f"ratio = {ratio}: minor over major axis is 0.05 to 1")
    _check_oversampling(oversampling)
    wide = max(8, math.ceil(4 * fwhm / math.sqrt(ratio))) if radius is None else int(radius)
    if wide < 3:
        raise OptionError(f"radius = {radius}: must be at least 3 pixels")
    half = wide * oversampling + 2 + _MARGIN
    nodes, weights = _gauss_legendre()
    first = 0 if ratio == 1 else -half  # a quarter of a round one is enough
    at = (np.arange(first, half + 1) / oversampling)[:, None] + nodes / 2
    cos, sin = math.cos(math.radians(theta)), math.sin(math.radians(theta))
    samples = np.zeros((len(at), len(at)))
    for n in range(_POINTS):
        dy = at[:, n][:, None]
        for m in range(_POINTS):
            dx = at[:, m][None, :]
            r2 = ratio * (cos * dx + sin * dy) ** 2 + (cos * dy - sin * dx) ** 2 / ratio
            samples += weights[n] * weights[m] / 4 * profile(r2)
    if ratio == 1:
        number = np.abs(np.arange(-half, half + 1))
        samples = samples[np.ix_(number, number)]
    return psf_from_samples(samples[None], oversampling, fwhm=fwhm, kind=kind, radius=wide)


def psf_from_samples(
    samples: ArrayLike,
    oversampling: int,
    *,
    fwhm: float,
    kind: str = "empirical",
    radius: int | None = None,
    aperture: float | None = None,
    domain: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0),
) -> PSF:
    """The function that goes through samples of an effective PSF.

    Parameters
    ----------
    samples : array_like, shape (terms, n, n) or (n, n)
        Shares of light of a pixel at distances of ``1 / oversampling`` pixel; n is odd and the star in the middle.
        1, 3 or 6 terms of the polynomial over the image.
    oversampling : int
        Samples a pixel, 2 to 8.
    fwhm : float
        FWHM, pixels.
    kind : str
        What it is.
    radius : int, optional
        How far it is kept, pixels; by default as far as the samples allow.
    aperture : float, optional
        Radius of the circle that holds a light of 1. The samples are scaled by this function.
    domain : tuple of float
        As in :class:`PSF`.

    Returns
    -------
    PSF

    Raises
    ------
    OptionError
        If the samples do not have such a shape or are not finite.

    Examples
    --------
    >>> psf_from_samples(np.ones((41, 41)), 2, fwhm=3.0).radius
    9
    """
    from scipy.ndimage import spline_filter

    _check_oversampling(oversampling)
    values = np.asarray(samples, np.float64)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or len(values) not in _TERMS or values.shape[1] != values.shape[2] or values.shape[1] % 2 == 0:
        raise OptionError(f"samples have shape {values.shape}: must be (1, 3 or 6, n, n) with n odd")
    if not np.all(np.isfinite(values)):
        raise OptionError("samples of a PSF must be finite")
    coefficients = np.stack([spline_filter(plane, 3, mode="mirror") for plane in values])
    return psf_from_nodes(
        coefficients, oversampling, fwhm=fwhm, kind=kind, radius=radius, aperture=aperture, domain=domain
    )


def psf_from_nodes(
    coefficients: NDArray[np.float64],
    oversampling: int,
    *,
    fwhm: float,
    kind: str = "empirical",
    radius: int | None = None,
    aperture: float | None = None,
    domain: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0),
) -> PSF:
    """As :func:`psf_from_samples`, from the coefficients of the B-splines themselves."""
    half = coefficients.shape[1] // 2
    most = (half - 2) // oversampling
    wide = most if radius is None else radius
    if not 3 <= wide <= most:
        raise OptionError(f"radius = {wide}: must be 3 to {most} pixels, which is how far the samples go")
    middle = oversampling * (wide + 2)
    grid = np.zeros((len(coefficients), 2 * middle + 1, 2 * middle + 1))
    keep = min(half, middle)
    kept = coefficients[:, half - keep : half + keep + 1, half - keep : half + keep + 1]
    grid[:, middle - keep : middle + keep + 1, middle - keep : middle + keep + 1] = kept
    made = PSF(
        nodes=read_only(grid, np.float64),
        oversampling=oversampling,
        radius=wide,
        fwhm=float(fwhm),
        kind=kind,
        aperture=aperture,
        domain=(float(domain[0]), float(domain[1]), float(domain[2]), float(domain[3])),
    )
    return made if aperture is None else _normalised(made, aperture)


def _normalised(psf: PSF, aperture: float) -> PSF:
    """The light in the circle is 1 everywhere on the image: 1 for the constant term, 0 for the others."""
    if not 0.5 <= aperture <= psf.radius:
        raise OptionError(f"aperture = {aperture}: must be 0.5 to {psf.radius} pixels, as far as the PSF is known")
    light = aperture_shares(psf, aperture)
    if not light[0] > 0:
        raise OptionError(f"the light within {aperture} pixels is {light[0]:.3g}: a PSF has a positive one")
    nodes = psf.nodes / light[0]
    for n in range(1, len(nodes)):
        nodes[n] -= light[n] / light[0] * nodes[0]
    return attrs.evolve(psf, nodes=read_only(nodes, np.float64))


def aperture_shares(psf: PSF, radius: float) -> NDArray[np.float64]:
    """The light in a circle around the star, mean over its places within a pixel, of each polynomial term.

    It is what exact aperture sums (:func:`larun.algorithms.aperture.aperture_sums`) find on stars of flux 1.

    Examples
    --------
    >>> aperture_shares(gaussian_psf(3.0), 1.5).round(2).tolist()
    [0.47]
    """
    from larun.algorithms.aperture import aperture_sums

    steps, pixels = max(4, psf.oversampling), np.arange(-psf.radius, psf.radius + 1)
    dx = ((np.arange(steps**2) % steps + 0.5) / steps - 0.5)[:, None, None]  # a star at each place, one above the other
    dy = ((np.arange(steps**2) // steps + 0.5) / steps - 0.5)[:, None, None]
    at = psf.radius + dx.ravel(), psf.radius + dy.ravel() + pixels.size * np.arange(steps**2)
    none = np.zeros((pixels.size * steps**2, pixels.size), np.uint32)
    total = np.zeros(len(psf.nodes))
    for n in range(len(psf.nodes)):
        single = attrs.evolve(psf, nodes=read_only(psf.nodes[n : n + 1], np.float64))
        values = single.values(pixels[None, None, :] - dx, pixels[None, :, None] - dy)[0].reshape(none.shape)
        # sums are of single precision images: the largest value keeps all its digits as a share of 1
        scale = float(np.max(np.abs(values))) or 1.0
        sums = aperture_sums((values / scale).astype(np.float32), None, none, *at, [radius]).sum
        total[n] = scale * float(np.mean(sums, dtype=np.float64))
    return total


def terms_of(psf_order: int) -> int:
    """How many terms a polynomial of order 0, 1 or 2 in two variables has.

    Raises
    ------
    OptionError
        If the order is another.
    """
    if psf_order not in (0, 1, 2):
        raise OptionError(f"order = {psf_order}: must be 0, 1 or 2")
    return _TERMS[psf_order]


def _check_oversampling(oversampling: int) -> None:
    if oversampling not in range(2, 9):
        raise OptionError(f"oversampling = {oversampling}: must be a whole number from 2 to 8")
