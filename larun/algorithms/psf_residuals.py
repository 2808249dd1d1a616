"""What a point-spread function leaves of the stars it was made from, in the star and on the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_fit import PsfFits
from larun.flags import UNUSABLE

__all__ = ["CELLS", "Remains", "remains_of"]

#: The image is looked at in so many cells along each axis.
CELLS = 3
#: What is left below this share of the peak is not worth telling.
_SMALL = 0.005


class Remains(NamedTuple):
    """What :func:`remains_of` returns.

    Attributes
    ----------
    mean, error : (n, n) float64
        Mean of what is left of the stars, in shares of their light a pixel, by the distance in whole pixels, the star
        in the middle; and its standard error.
    chi2 : (3, 3) float64
        Median chi^2 of the stars in each ninth of the image, the first row below; NaN where there is none.
    largest : float
        The largest mean that is more than 4 errors from 0, of the peak of the function; 0 where there is none.
    """

    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    chi2: NDArray[np.float64]
    largest: float

    @property
    def says(self) -> str:
        """All this in a sentence."""
        text = f"less than {_SMALL:.1%} of the peak is left of the stars"
        if abs(self.largest) > _SMALL:
            text = f"up to {abs(self.largest):.1%} of the peak is left of the stars"
        worst, middle = np.nanmax(self.chi2), np.nanmedian(self.chi2)
        if worst > 1.5 * middle:
            row, column = np.unravel_index(int(np.nanargmax(self.chi2)), self.chi2.shape)
            where = f"{('lower', 'middle', 'upper')[row]} {('left', 'middle', 'right')[column]}"
            text += f", most in the {where} of the image (chi^2 {worst:.2f})"
        return text


def remains_of(planes: Planes, psf: PSF, stars: PsfFits, used: NDArray[np.bool_], gain: float) -> Remains:
    """Look at what is left of stars when the function is subtracted.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance of the sky and flags.
    psf : PSF
        The function.
    stars : PsfFits
        Its fits.
    used : (n,) bool
        Which of them count; at least one.
    gain : float
        Electrons per unit of the data.

    Returns
    -------
    Remains

    Examples
    --------
    >>> from larun.algorithms.psf import gaussian_psf
    >>> from larun.algorithms.psf_fit import fit_stars
    >>> psf = gaussian_psf(3.0)
    >>> star = psf.draw((41, 41), [20.2], [19.9], [5000.0]).astype(np.float32)
    >>> flat, none = np.full(star.shape, 100, np.float32), np.zeros(star.shape, np.uint32)
    >>> planes = star + flat, flat, flat, none
    >>> remains_of(planes, psf, fit_stars(planes, psf, [20.0], [20.0]), np.array([True]), 1.0).says
    'less than 0.5% of the peak is left of the stars'
    """
    data, level, noise, flags = planes
    reach = psf.radius - 1
    ny, nx = data.shape
    x, y, flux = (part[used][:, None, None] for part in (stars.x, stars.y, stars.flux))
    offsets = np.arange(-reach, reach + 1)
    rows, columns = np.rint(y).astype(int) + offsets[:, None], np.rint(x).astype(int) + offsets
    cut = np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)
    model = flux * psf.values(columns - x, rows - y, x, y)[0]
    value = data[cut].astype(np.float64) - level[cut] - model
    good = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    good = good & ((flags[cut] & UNUSABLE) == 0) & np.isfinite(value) & (noise[cut] > 0)
    rest = np.sum(value, axis=0, where=good)
    spread = np.sum(noise[cut] + np.maximum(model, 0.0) / gain, axis=0, where=good)
    light = np.sum(np.broadcast_to(flux, good.shape), axis=0, where=good)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, error = rest / light, np.sqrt(spread) / light
    sure = np.isfinite(mean) & (np.abs(mean) > 4 * error)
    peak = float(np.max(psf.values(0.0, 0.0, nx / 2, ny / 2)[0]))
    largest = float(mean[sure][np.argmax(np.abs(mean[sure]))]) / peak if sure.any() else 0.0
    chi2 = np.full((CELLS, CELLS), np.nan)
    row = np.clip((stars.y / ny * CELLS).astype(int), 0, CELLS - 1)
    column = np.clip((stars.x / nx * CELLS).astype(int), 0, CELLS - 1)
    for j in range(CELLS):
        for i in range(CELLS):
            own = used & (row == j) & (column == i) & np.isfinite(stars.chi2)
            if own.any():
                chi2[j, i] = np.median(stars.chi2[own])
    return Remains(np.nan_to_num(mean), np.nan_to_num(error), chi2, largest)
