"""A point-spread function from the stars of an image.

The nodes of the B-splines are unknowns of a linear problem: with positions and fluxes known, all pixels of all stars
are fitted together, weighted by the model (as Anderson & King 2000, PASP 112, 1360, but as one least-squares problem
and not by averages of residuals). Positions and fluxes are then fitted anew, and both are repeated until neither
moves. What the data leave open, far out and between few stars, is held by a smooth difference from a Moffat profile.

Two things no image tells, and they are set: the light within ``aperture`` is 1, and the centre is the centroid through
the Gaussian window that positions of detected sources are measured with, everywhere on the image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.peaks import FWHM_OF_SIGMA, Planes
from larun.algorithms.profilefit import ProfileOptions, fit_profiles
from larun.algorithms.psf import PSF, moffat_psf, psf_from_nodes, terms_of
from larun.algorithms.psf_fit import FitOptions, PsfFits, fit_reach, fit_stars
from larun.algorithms.psf_solve import NodeProblem, solve_nodes
from larun.errors import CatalogError, OptionError
from larun.flags import UNUSABLE

__all__ = ["BuildPsfOptions", "BuiltPsf", "build_psf"]

#: Stars for each term of the polynomial, and signal to noise of all of them together.
_STARS_PER_TERM = 6
_LEAST_SNR = 150.0
#: Below this a pixel hides what the function is; stars at many places within a pixel would have to tell.
_NARROWEST = 1.5
#: The last change of the function, of its peak, and of positions, in standard errors.
_SETTLED = (3e-4, 0.05)
#: A star whose chi^2 is this many times the median is no single star, or not like the others.
_ODD = 3.0
#: So many stars tell which Moffat profile to begin with.
_MOFFATS = 150
#: A star with less of its light on usable pixels is not used.
_WHOLE = 0.97


@attrs.frozen(kw_only=True)
class BuildPsfOptions:
    """How a point-spread function is made from stars.

    Parameters
    ----------
    oversampling : int, optional
        Nodes a pixel, 2 to 8; by default as many as give six in a FWHM, at least 2.
    order : int
        Of the polynomial over the image: 0, 1 or 2.
    radius : int, optional
        How far it is made, pixels; by default 4 FWHM, at least 8.
    aperture : float, optional
        Radius in pixels of the circle that holds a light of 1; by default 3 FWHM.
    gain : float
        Electrons per unit of the data.
    mask : int
        Bits of flags that make a pixel unusable.
    turns : int
        Positions and function are fitted in turn no more often than this.
    """

    oversampling: int | None = None
    order: int = 0
    radius: int | None = None
    aperture: float | None = None
    gain: float = 1.0
    mask: int = int(UNUSABLE)
    turns: int = 25


class BuiltPsf(NamedTuple):
    """What :func:`build_psf` returns.

    Attributes
    ----------
    psf : PSF
        The function.
    stars : PsfFits
        All stars, fitted with it.
    used : (n,) bool
        Those it rests on.
    odd : (n,) bool
        Those left out because they are not like the others: double, on a galaxy, or hit.
    iterations : int
        How often positions and function were fitted in turn.
    converged : bool
        Whether neither moved any more.
    change : float
        The last change of the function, of its peak.
    chi2 : float
        Median over the used stars; above 1 where the function does not describe them to their noise.
    says : str
        All this in a sentence.
    """

    psf: PSF
    stars: PsfFits
    used: NDArray[np.bool_]
    odd: NDArray[np.bool_]
    iterations: int
    converged: bool
    change: float
    chi2: float
    says: str


def build_psf(
    planes: Planes, x: ArrayLike, y: ArrayLike, *, fwhm: float, options: BuildPsfOptions | None = None
) -> BuiltPsf:
    """Make the point-spread function of an image from some of its stars.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance of the sky (float32) and flags (uint32).
    x, y : array_like, shape (n,)
        Stars that stand alone and are not saturated (:func:`larun.algorithms.psf_stars.choose_stars`), pixels.
    fwhm : float
        FWHM of a star, pixels, to within a third.
    options : BuildPsfOptions, optional
        How.

    Returns
    -------
    BuiltPsf

    Raises
    ------
    CatalogError
        If the stars cannot give it: too few, too faint, or not spread over the image as the order needs.
    OptionError
        If the image is undersampled, or an option is out of range.
    """
    chosen = BuildPsfOptions() if options is None else options
    terms = terms_of(chosen.order)
    if not fwhm >= _NARROWEST:
        raise OptionError(
            f"fwhm = {fwhm:.2f} pixels: below {_NARROWEST} a star does not fill its pixels, and their shape cannot be "
            "told from it; use an analytic PSF"
        )
    xs, ys = (np.atleast_1d(np.asarray(part, np.float64)) for part in (x, y))
    _enough(int(np.isfinite(xs + ys).sum()), terms, chosen.order)
    ny, nx = planes[0].shape
    domain = ((nx - 1) / 2, max(nx / 2, 1.0), (ny - 1) / 2, max(ny / 2, 1.0))
    oversampling = max(2, math.ceil(6 / fwhm)) if chosen.oversampling is None else chosen.oversampling
    radius = max(8, math.ceil(4 * fwhm)) if chosen.radius is None else int(chosen.radius)
    aperture = min(3 * fwhm, float(radius)) if chosen.aperture is None else float(chosen.aperture)
    fixed: Planes = (*(read_only(plane, np.float32) for plane in planes[:3]), read_only(planes[3], np.uint32))  # type: ignore[assignment]
    wide = FitOptions(reach=radius - 2, gain=chosen.gain, mask=chosen.mask)
    begin = _nearest_moffat(fixed, xs, ys, float(fwhm), (oversampling, radius), wide)
    first = np.zeros((terms, *begin.nodes.shape[1:]))
    first[0] = begin.nodes[0]
    shape = _Shape(oversampling, radius, aperture, begin.fwhm, domain)
    psf = shape.psf(first)
    fit = FitOptions(reach=min(fit_reach(fwhm), radius - 2), gain=chosen.gain, mask=chosen.mask)
    stars = fit_stars(fixed, psf, xs, ys, options=fit)
    odd = np.zeros(xs.size, bool)
    converged, change, turn = False, math.inf, 0
    for turn in range(1, chosen.turns + 1):
        used = stars.converged & (stars.flux > 0) & (stars.share > _WHOLE) & ~odd
        _good_enough(stars, used, terms, chosen.order, domain)
        problem = NodeProblem(fixed, stars.x[used], stars.y[used], stars.flux[used], chosen.gain, chosen.mask)
        made = shape.centred(shape.psf(solve_nodes(problem, psf, begin)))
        change = _change(psf, made)
        before, psf = stars, made
        stars = fit_stars(fixed, psf, xs, ys, options=fit)
        both = used & stars.converged
        moved = np.hypot(stars.x - before.x, stars.y - before.y)[both] / np.hypot(stars.x_error, stars.y_error)[both]
        converged = bool(change < _SETTLED[0] and moved.size and np.max(moved) < _SETTLED[1])
        if converged:
            break
        if 3 <= turn <= 6:
            odd = _odd(stars)
    used = stars.converged & (stars.flux > 0) & (stars.share > _WHOLE) & ~odd
    chi2 = float(np.median(stars.chi2[used]))
    says = _says(psf, used, odd, turn, converged, change, chi2)
    return BuiltPsf(psf, stars, used, odd & stars.converged, turn, converged, change, chi2, says)


class _Shape(NamedTuple):
    """What all functions of one build have in common."""

    oversampling: int
    radius: int
    aperture: float
    fwhm: float
    domain: tuple[float, float, float, float]

    def psf(self, nodes: NDArray[np.float64]) -> PSF:
        return psf_from_nodes(
            nodes,
            self.oversampling,
            fwhm=self.fwhm,
            radius=self.radius,
            aperture=self.aperture,
            domain=self.domain,
        )

    def centred(self, psf: PSF) -> PSF:
        """Every term moved by a derivative of the first, so that the centroid is 0 everywhere; to first order."""
        from scipy.ndimage import spline_filter

        sigma = math.hypot(self.fwhm / FWHM_OF_SIGMA, math.sqrt(1 / 12))
        half = psf.nodes.shape[1] // 2
        at = np.arange(-half, half + 1) / self.oversampling
        window = np.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * sigma**2))
        constant = attrs.evolve(psf, nodes=read_only(psf.nodes[:1], np.float64))
        values, by_x, by_y = constant.values(at[None, :], at[:, None])
        slopes = [spline_filter(slope, 3, mode="mirror") for slope in (by_x, by_y)]
        # how the centroid of the first term answers when it is moved
        answers = np.sum(window * by_x * at[None, :]), np.sum(window * by_y * at[:, None])
        nodes = psf.nodes.copy()
        for n in range(len(nodes)):
            own = values
            if n:
                own = attrs.evolve(psf, nodes=read_only(psf.nodes[n : n + 1], np.float64)).values(
                    at[None, :], at[:, None]
                )[0]
            nodes[n] -= np.sum(window * own * at[None, :]) / answers[0] * slopes[0]
            nodes[n] -= np.sum(window * own * at[:, None]) / answers[1] * slopes[1]
        return self.psf(nodes)


def _nearest_moffat(
    planes: Planes, x: NDArray[np.float64], y: NDArray[np.float64], fwhm: float, grid: tuple[int, int], fit: FitOptions
) -> PSF:
    """The round Moffat profile of the median width and exponent of stars, each of which is fitted by itself."""
    some = slice(None, None, -(-x.size // _MOFFATS))
    options = ProfileOptions(gain=fit.gain, mask=fit.mask)
    found = fit_profiles(planes, x[some], y[some], fwhm=fwhm, options=options)
    good = found.converged & (found.flux > 0)
    width, beta = (float(np.median(part[good])) for part in (found.fwhm, found.beta)) if good.any() else (fwhm, 3.0)
    width, beta = min(max(width, 0.6 * fwhm), 1.65 * fwhm), min(max(beta, 1.6), 25.0)
    return moffat_psf(width, beta, oversampling=grid[0], radius=grid[1])


def _change(one: PSF, other: PSF) -> float:
    """The largest difference of the nodes, of the peak."""
    return float(np.max(np.abs(one.nodes - other.nodes)) / np.max(one.nodes[0]))


def _odd(stars: PsfFits) -> NDArray[np.bool_]:
    """Stars whose chi^2 is far above the others', also when what the function lacks grows with their light."""
    good = stars.converged & (stars.flux > 0) & np.isfinite(stars.chi2)
    snr2, chi2 = (stars.flux[good] / stars.flux_error[good]) ** 2, stars.chi2[good]
    lacks = np.median(np.maximum(chi2 - 1, 0) / snr2)
    odd = np.zeros(good.size, bool)
    odd[good] = (chi2 > _ODD * max(float(np.median(chi2)), 1.0)) & (chi2 - 1 > 3 * _ODD * lacks * snr2)
    return odd


def _enough(count: int, terms: int, order: int) -> None:
    if count < _STARS_PER_TERM * terms:
        lower = " or a lower order" if order else "; an analytic PSF needs none"
        raise CatalogError(
            f"{count} stars for a PSF of order {order}: it needs {_STARS_PER_TERM * terms}; choose fainter stars "
            f"(a lower snr){lower}"
        )


def _good_enough(
    stars: PsfFits, used: NDArray[np.bool_], terms: int, order: int, domain: tuple[float, float, float, float]
) -> None:
    if int(used.sum()) < _STARS_PER_TERM * terms:
        raise CatalogError(
            f"{int(used.sum())} of {used.size} stars can be used for a PSF of order {order}: it needs "
            f"{_STARS_PER_TERM * terms}; the others have masked pixels, are not like most, or no fit converged"
        )
    snr = stars.flux[used] / stars.flux_error[used]
    total = float(np.sqrt(np.sum(snr**2)))
    if total < _LEAST_SNR * math.sqrt(terms):
        raise CatalogError(
            f"{int(used.sum())} stars of S/N {float(np.median(snr)):.0f} give a PSF of S/N {total:.0f} in all: "
            f"{_LEAST_SNR * math.sqrt(terms):.0f} are needed; use more or brighter stars, or an analytic PSF"
        )
    if terms > 1:
        u = np.clip((stars.x[used] - domain[0]) / domain[1], -1, 1)
        v = np.clip((stars.y[used] - domain[2]) / domain[3], -1, 1)
        rows = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v][:terms])
        # the smallest share of a term that stars tell apart from the others; 0.1 and more where they fill the image
        least = float(np.linalg.eigvalsh(rows @ rows.T / u.size)[0])
        if least < 0.005:
            raise CatalogError(
                f"{u.size} stars lie too near each other for a PSF of order {order}: they must be spread over the "
                "image; use a lower order"
            )


def _says(
    psf: PSF, used: NDArray[np.bool_], odd: NDArray[np.bool_], turns: int, converged: bool, change: float, chi2: float
) -> str:
    text = (
        f"PSF of order {psf.order} from {int(used.sum())} of {used.size} stars, {psf.oversampling} nodes a pixel; "
        f"{'converged' if converged else 'NOT converged'} after {turns} turns (last change {change:.1e} of the peak); "
        f"median chi^2 {chi2:.2f}"
    )
    return text + (f"; {int(odd.sum())} stars are not like the others" if odd.any() else "")
