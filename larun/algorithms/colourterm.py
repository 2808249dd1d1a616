"""Extinction that depends on the colour of a star: one coefficient of colour times air mass for a series of frames.

Blue light is lost more than red: within a filter, a star fades faster towards the horizon the bluer it is (extinction
of second order; Young & Irvine 1967, AJ 72, 945; Howell 2006, Handbook of CCD Astronomy, section 6). Zero points by
comparison stars take out what is common; a target of another colour keeps a trend with air mass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.errors import CatalogError

__all__ = ["ColourTerm", "fit_colour_term"]

_SWEEPS = 500
_SETTLED = 1e-10
_FEWEST = 3  # stars of different colours

Floats = NDArray[np.float64]


class ColourTerm(NamedTuple):
    """What :func:`fit_colour_term` found.

    Attributes
    ----------
    value, error : float
        Magnitudes for each magnitude of colour and each unit of air mass, by the noise that was given.
    colour, airmass : float
        Weighted means, about which it is taken.
    """

    value: float
    error: float
    colour: float
    airmass: float

    def at(self, colour: float, airmass: Floats) -> tuple[Floats, Floats]:
        """What a star of a colour loses beside one of the mean colour, magnitudes, and its error, (T,)."""
        lever = (colour - self.colour) * (airmass - self.airmass)
        return self.value * lever, self.error * np.abs(lever)


def fit_colour_term(
    magnitude: Floats, error: Floats, colour: Floats, airmass: Floats, design: Floats | None = None
) -> ColourTerm:
    """The coefficient of colour times air mass, beside a mean of each star and a zero point of each frame.

    Parameters
    ----------
    magnitude, error : ndarray of float64, (T, N)
        Of comparison stars in frames; NaN where one does not count.
    colour : ndarray of float64, (N,)
        Of the stars, magnitudes.
    airmass : ndarray of float64, (T,)
        Of the frames.
    design : ndarray of float64, (N, K), optional
        What the zero point of a frame depends on, a one first; by default it is a level.

    Returns
    -------
    ColourTerm

    Raises
    ------
    CatalogError
        If the stars are of one colour, or the frames of one air mass.

    Notes
    -----
    Weighted least squares: what star means and zero points can follow is taken out of the product of colour and air
    mass, and magnitudes are held against what is left (Frisch & Waugh 1933, Econometrica 1, 387).

    Examples
    --------
    >>> airmass, colour = np.linspace(1.0, 2.0, 40), np.array([0.2, 0.5, 0.9, 1.4])
    >>> made = 0.3 * airmass[:, None] - 0.02 * airmass[:, None] * colour + np.array([10.0, 11.0, 11.5, 12.0])
    >>> round(fit_colour_term(made, np.full((40, 4), 0.01), colour, airmass).value, 6)
    -0.02
    """
    good = np.isfinite(magnitude) & np.isfinite(error) & (error > 0)
    weight = np.where(good, 1.0 / np.where(good, error, 1.0) ** 2, 0.0)
    count = int(np.sum(weight.sum(axis=0) > 0))
    if count < _FEWEST:
        raise CatalogError(f"{count} comparison stars with a colour are measured: {_FEWEST} are needed")
    middle = float(np.sum(weight.sum(axis=0) * colour) / weight.sum())
    air = float(np.sum(weight.sum(axis=1) * airmass) / weight.sum())
    lever = (airmass - air)[:, None] * (colour - middle)[None, :]
    terms = np.ones((len(colour), 1)) if design is None else design
    rest = _without(lever, weight, terms)
    size = float(np.sum(weight * rest**2))
    if not size > 1e-9 * float(weight.sum()):
        raise CatalogError(
            "comparison stars of one colour, or frames of one air mass: what colour does to extinction cannot be told"
        )
    value = float(np.sum(weight * np.where(good, magnitude, 0.0) * rest)) / size
    return ColourTerm(value, size**-0.5, middle, air)


def _without(values: Floats, weight: Floats, design: Floats) -> Floats:
    """What is left of values (T, N) when a mean of each star and the terms of each frame are fitted to them."""
    from larun.algorithms.ensemble import inverses

    total = weight.sum(axis=0)
    normal = np.sum(weight[:, :, None, None] * (design[:, :, None] * design[:, None, :]), axis=1)
    solving = inverses(normal)
    solving = np.where(np.all(np.isfinite(solving), axis=(1, 2))[:, None, None], solving, 0.0)
    rest = values.copy()
    for _ in range(_SWEEPS):
        before = rest
        with np.errstate(invalid="ignore", divide="ignore"):
            rest = rest - np.where(total > 0, np.sum(weight * rest, axis=0) / total, 0.0)
        right = np.sum((weight * rest)[:, :, None] * design, axis=1)
        fitted = np.sum(solving * right[:, None, :], axis=2)
        rest = rest - np.sum(fitted[:, None, :] * design, axis=2)
        if np.max(np.abs(rest - before), initial=0.0) < _SETTLED:
            break
    return rest
