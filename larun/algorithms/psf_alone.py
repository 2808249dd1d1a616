"""Stars of a field that have no neighbours: each is fitted by itself, until it is at rest."""

from __future__ import annotations

from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_fit import FitOptions, PsfFits, fit_stars

__all__ = ["AloneFits", "fit_alone"]

#: Below this signal to noise a position is not looked for: it is the one that was given.
_SEEN = 2.0
#: Flux, x and y among the unknowns of a star that is fitted by itself.
_ORDER = (2, 0, 1)


class AloneFits(NamedTuple):
    """What :func:`fit_alone` returns.

    Attributes
    ----------
    stars : (n, 3) float64
        Flux, x, y; a flux of 0 where nothing is known of it.
    sky : (n,) float64
        The fitted constant; 0 where it is not free.
    held : (n,) bool
        Whether the position is the one that was given.
    covariance : (n, 3, 3) float64
        Of flux, x and y, for white noise; NaN where there is no flux.
    chi2, share : (n,) float64
        As in :class:`larun.algorithms.psf_fit.PsfFits`.
    """

    stars: NDArray[np.float64]
    sky: NDArray[np.float64]
    held: NDArray[np.bool_]
    covariance: NDArray[np.float64]
    chi2: NDArray[np.float64]
    share: NDArray[np.float64]


def fit_alone(
    planes: Planes,
    psf: PSF,
    stars: NDArray[np.float64],
    bounds: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]],
    options: FitOptions,
) -> AloneFits:
    """Fit stars that stand alone from where they are.

    Parameters
    ----------
    planes, psf, options
        As for :func:`larun.algorithms.psf_fit.fit_stars`; whether positions are free is in ``bounds``.
    stars : (n, 3) float64
        Flux, x and y to start from.
    bounds : tuple
        The places that were given (n, 2), how far from them a star may be (n), and which are held (n).

    Returns
    -------
    AloneFits
    """
    (begin, limit, held), count = bounds, len(stars)
    made = AloneFits(
        stars.copy(), np.zeros(count), held.copy(), np.empty((count, 3, 3)), np.empty(count), np.empty(count)
    )
    free = np.flatnonzero(~held)
    if free.size:
        wide = attrs.evolve(options, limit=float(np.max(limit[free])))
        found = fit_stars(planes, psf, *stars[free, 1:].T, flux=stars[free, 0], options=wide)
        with np.errstate(invalid="ignore"):
            good = found.converged & (found.flux > _SEEN * found.flux_error)
            good &= np.hypot(found.x - begin[free, 0], found.y - begin[free, 1]) <= limit[free]
        made.held[free[~good]] = True
        made.stars[free[~good], 1:] = begin[free[~good]]
        _put(found, free, made)
    rest = np.flatnonzero(made.held)
    if rest.size:
        found = fit_stars(planes, psf, *made.stars[rest, 1:].T, options=attrs.evolve(options, free_position=False))
        _put(found, rest, made)
    lost = np.isnan(made.stars[:, 0])
    made.stars[lost, 0], made.sky[lost] = 0.0, 0.0
    return made


def _put(found: PsfFits, rows: NDArray[np.int64], made: AloneFits) -> None:
    moved = ~made.held[rows]
    made.stars[rows, 0], made.sky[rows], made.chi2[rows] = found.flux, found.sky, found.chi2
    made.stars[rows[moved], 1], made.stars[rows[moved], 2] = found.x[moved], found.y[moved]
    made.covariance[rows], made.share[rows] = found.covariance[:, _ORDER][:, :, _ORDER], found.share
