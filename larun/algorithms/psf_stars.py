"""Which stars a point-spread function is made from: alone, whole, bright, and from all over the image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.psf_fit import fit_reach
from larun.algorithms.psf_flags import flags_around
from larun.errors import OptionError
from larun.flags import UNUSABLE

__all__ = ["ChooseOptions", "ChosenStars", "choose_stars"]

#: The image is cut into so many cells along each axis, and each gives its brightest star in turn.
_CELLS = 4


@attrs.frozen(kw_only=True)
class ChooseOptions:
    """Which stars are good enough.

    Parameters
    ----------
    snr : float
        Least signal to noise.
    separation : float, optional
        No other source may be nearer, pixels; by default 4 FWHM.
    contrast : float
        Sources below this share of a star's flux do not count as neighbours.
    most : int
        No more stars than this.
    mask : int
        Bits of flags that no pixel within one and a half FWHM may have.
    """

    snr: float = 50.0
    separation: float | None = None
    contrast: float = 0.01
    most: int = 200
    mask: int = int(UNUSABLE)


class ChosenStars(NamedTuple):
    """What :func:`choose_stars` returns.

    Attributes
    ----------
    chosen : (m,) int64
        The stars, in the order of the list they are from.
    refused : mapping of str to int
        How many were left out, by the first reason that held.
    reason : (n,) str
        For each of the list: why it was left out; empty for the chosen.
    """

    chosen: NDArray[np.int64]
    refused: Mapping[str, int]
    reason: NDArray[np.str_]

    @property
    def says(self) -> str:
        """Both in a sentence."""
        left = ", ".join(f"{count} {reason}" for reason, count in self.refused.items() if count)
        return f"{self.chosen.size} stars chosen" + (f"; left out: {left}" if left else "")


def choose_stars(
    flags: NDArray[np.uint32],
    x: ArrayLike,
    y: ArrayLike,
    flux: ArrayLike,
    flux_error: ArrayLike,
    *,
    fwhm: float,
    options: ChooseOptions | None = None,
) -> ChosenStars:
    """Choose stars for a point-spread function from all sources of an image.

    Parameters
    ----------
    flags : ndarray of uint32, shape (ny, nx)
        Pixel flags.
    x, y, flux, flux_error : array_like, shape (n,)
        All sources, faint ones too: they are the neighbours.
    fwhm : float
        FWHM of a star, pixels.
    options : ChooseOptions, optional
        How.

    Returns
    -------
    ChosenStars
        Whether they are enough is for :func:`larun.algorithms.psf_build.build_psf` to say.

    Raises
    ------
    OptionError
        If shapes differ or ``fwhm`` is not positive.

    Examples
    --------
    >>> none = np.zeros((100, 100), np.uint32)
    >>> found = choose_stars(none, [30, 50, 55], [30, 50, 50], [1e4, 1e4, 1e3], [30, 30, 30], fwhm=3.0)
    >>> found.chosen.tolist(), found.says
    ([0], '1 stars chosen; left out: 1 too faint, 1 with a neighbour')
    """
    from scipy.spatial import cKDTree

    chosen = ChooseOptions() if options is None else options
    if not 0 < fwhm < np.inf:
        raise OptionError(f"fwhm = {fwhm}: must be a positive number of pixels")
    columns = [np.asarray(part, np.float64) for part in (x, y, flux, flux_error)]
    if len({column.shape for column in columns}) != 1 or columns[0].ndim != 1:
        raise OptionError(f"x, y, flux and flux_error have shapes {[c.shape for c in columns]}: must be (n,) all")
    xs, ys, light, noise = columns
    refused: dict[str, int] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(xs + ys + light) & (noise > 0)
        good = known & (light / noise >= chosen.snr)
    refused["too faint"] = int(np.sum(~good))
    reason = np.where(good, "", "too faint").astype("<U24")
    reach, (ny, nx) = fit_reach(fwhm), flags.shape
    inside = (xs >= reach) & (xs <= nx - 1 - reach) & (ys >= reach) & (ys <= ny - 1 - reach)
    refused["at the edge"] = int(np.sum(good & ~inside))
    reason[good & ~inside] = "at the edge"
    good &= inside
    masked = good.copy()
    masked[good] = flags_around(flags, np.column_stack([xs, ys])[good], 1.5 * fwhm) & np.uint32(chosen.mask) != 0
    refused["saturated or masked"] = int(np.sum(masked))
    reason[masked] = "saturated or masked"
    good &= ~masked
    separation = 4 * fwhm if chosen.separation is None else chosen.separation
    everything = np.flatnonzero(np.isfinite(xs + ys + light))
    pairs = everything[
        cKDTree(np.column_stack([xs, ys])[everything]).query_pairs(separation, output_type="ndarray").reshape(-1, 2)
    ]
    alone = np.ones(xs.size, bool)
    for one, other in (pairs.T, pairs.T[::-1]):
        alone[one[light[other] > chosen.contrast * light[one]]] = False
    refused["with a neighbour"] = int(np.sum(good & ~alone))
    reason[good & ~alone] = "with a neighbour"
    good &= alone
    index = np.flatnonzero(good)
    if index.size > chosen.most:
        index = np.sort(index[_spread(xs[index] / nx, ys[index] / ny, light[index])[: chosen.most]])
    refused["more than are needed"] = int(np.sum(good)) - index.size
    reason[good] = "more than are needed"
    reason[index] = ""
    return ChosenStars(index.astype(np.int64), refused, reason)


def _spread(u: NDArray[np.float64], v: NDArray[np.float64], light: NDArray[np.float64]) -> NDArray[np.intp]:
    """An order in which every cell of the image gives its brightest star, then its second, and so on."""
    cell = np.clip((u * _CELLS).astype(int), 0, _CELLS - 1) + _CELLS * np.clip((v * _CELLS).astype(int), 0, _CELLS - 1)
    rank = np.empty(light.size, int)
    for one in np.unique(cell):
        own = np.flatnonzero(cell == one)
        rank[own[np.argsort(-light[own], kind="stable")]] = np.arange(own.size)
    return np.lexsort((-light, rank))
