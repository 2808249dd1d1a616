"""A star that varies in front of light that does not: both fitted together on stamps of many epochs.

What does not vary is a grid of point sources, so it is as sharp as the sky and each epoch sees it through its own
point-spread function, at its own place, on its own pixels (Holtzman et al. 2008, AJ 136, 2306; Astier et al. 2013, A&A
557, A55): nothing is resampled or subtracted. The star has a flux in each epoch, the sky a level. All of it is one
linear least-squares problem, so fluxes come with their covariance: that of the static light is common to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.psf import PSF
from larun.errors import OptionError

__all__ = ["SceneFit", "SceneOptions", "fit_scene"]

Floats = NDArray[np.float64]

_LARGEST = 900  # unknowns: the time grows with their third power


@attrs.frozen(kw_only=True)
class SceneOptions:
    """How the static light is described.

    Parameters
    ----------
    reach : int
        Its sources lie up to so many pixels to each side of the star.
    step : float
        Pixels between them; much finer than a PSF they cannot be told apart.
    stiffness : float
        Of the prior that keeps neighbouring sources from growing against each other, relative to what the data say.
    """

    reach: int = 7
    step: float = 1.0
    stiffness: float = 1e-6

    def __attrs_post_init__(self) -> None:
        if not (1 <= self.reach <= 30 and 0.3 <= self.step <= self.reach and 0 < self.stiffness < 1):
            raise OptionError(
                f"reach={self.reach}, step={self.step}, stiffness={self.stiffness}: must be 1 … 30, 0.3 … reach, 0 … 1"
            )


class SceneFit(NamedTuple):
    """What :func:`fit_scene` found, of T epochs.

    Attributes
    ----------
    flux : (T,)
        Of the star; 0 where it is known to be absent, else about the mean of all epochs.
    covariance : (T, T)
        Of these.
    sky : (T,)
        Level of each epoch per pixel.
    scene : (m, m)
        Fluxes of the static sources, the star in the middle.
    chi2 : float
        Reduced.
    pixels : int
        That count.
    residual : (T, ny, nx)
        Data less the model; NaN where a pixel does not count.
    """

    flux: Floats
    covariance: Floats
    sky: Floats
    scene: Floats
    chi2: float
    pixels: int
    residual: Floats

    @property
    def error(self) -> Floats:
        """1 sigma of each flux."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def fit_scene(
    stamps: ArrayLike,
    variance: ArrayLike,
    psfs: Sequence[PSF],
    centres: ArrayLike,
    *,
    matrices: ArrayLike | None = None,
    absent: ArrayLike | None = None,
    options: SceneOptions = SceneOptions(),
) -> SceneFit:
    """Fit the light of a star in every epoch together with what lies around and behind it.

    Parameters
    ----------
    stamps : array_like, (T, ny, nx)
        Cuts of the frames as they are, brought to one flux scale; a pixel that is not finite does not count.
    variance : array_like, (T, ny, nx)
        Of the same pixels: from a smooth model, never from the pixel's own value.
    psfs : sequence of PSF
        One of each epoch.
    centres : array_like, (T, 2)
        x and y of the star in each stamp.
    matrices : array_like, (T, 2, 2), optional
        From offsets about the star in the first epoch to those of each; default none turns or is of another scale.
    absent : array_like of bool, (T,), optional
        Epochs in which the star is known to give no light: fluxes are then absolute. Without any, the mean flux cannot
        be told from static light in the same place, and fluxes are differences from their mean.
    options : SceneOptions

    Returns
    -------
    SceneFit

    Raises
    ------
    OptionError
        If shapes disagree, the problem is too large, or the data cannot tell.

    Examples
    --------
    >>> from larun.algorithms.psf import gaussian_psf
    >>> psf, rng = gaussian_psf(3.0), np.random.default_rng(1)
    >>> light = [1000.0, 0.0, 2000.0]
    >>> stamps = [psf.draw((25, 25), [12.0, 15.0], [12.0, 11.0], [f, 3000.0]) + 10 for f in light]
    >>> stamps = stamps + rng.normal(0, 1.0, (3, 25, 25))
    >>> found = fit_scene(stamps, np.ones((3, 25, 25)), [psf] * 3, [[12.0, 12.0]] * 3, absent=[False, True, False])
    >>> bool(np.all(np.abs(found.flux - light) < 4 * found.error + 1e-9))
    True
    """
    data, noise = (np.asarray(item, np.float64) for item in (stamps, variance))
    places = np.asarray(centres, np.float64)
    epochs = len(data)
    turns = np.tile(np.eye(2), (epochs, 1, 1)) if matrices is None else np.asarray(matrices, np.float64)
    gone = np.zeros(epochs, bool) if absent is None else np.asarray(absent, bool)
    if data.ndim != 3 or noise.shape != data.shape or places.shape != (epochs, 2) or len(psfs) != epochs:
        raise OptionError(
            f"stamps {data.shape}, variance {noise.shape}, centres {places.shape}, {len(psfs)} PSFs: must be "
            "(T, ny, nx) twice, (T, 2) and T"
        )
    if turns.shape != (epochs, 2, 2) or gone.shape != (epochs,):
        raise OptionError(f"matrices {turns.shape}, absent {gone.shape}: must be (T, 2, 2) and (T,)")
    if gone.all() or epochs < 2:
        raise OptionError(f"{epochs} epochs, {int(gone.sum())} without the star: there is nothing to compare")
    return _solved(data, noise, (psfs, places, turns), gone, options)


def _solved(
    data: Floats,
    noise: Floats,
    seen: tuple[Sequence[PSF], Floats, Floats],
    gone: NDArray[np.bool_],
    options: SceneOptions,
) -> SceneFit:
    psfs, places, turns = seen
    epochs, ny, nx = data.shape
    side = int(options.reach / options.step)
    line = np.arange(-side, side + 1) * options.step
    offsets = np.stack([part.ravel() for part in np.meshgrid(line, line)], axis=1)
    nodes = len(offsets)
    bright = np.flatnonzero(~gone)
    if not gone.any():
        bright = bright[1:]  # the first is 0 for now
    size = nodes + len(bright) + epochs
    if size > _LARGEST:
        raise OptionError(f"{size} unknowns, at most {_LARGEST}: give fewer epochs, a smaller reach or a larger step")
    normal, right = np.zeros((size, size)), np.zeros(size)
    rows = []
    good = np.isfinite(data) & np.isfinite(noise) & (noise > 0)
    y, x = np.mgrid[:ny, :nx]
    for t in range(epochs):
        there = places[t] + np.sum(turns[t][None] * offsets[:, None, :], axis=2)
        use = good[t]
        px, py = x[use].astype(float), y[use].astype(float)
        weight = 1 / np.sqrt(noise[t][use])
        shapes = psfs[t].values(px[:, None] - there[:, 0], py[:, None] - there[:, 1])[0]
        own = [psfs[t].values(px - places[t, 0], py - places[t, 1])[0][:, None]] if t in bright else []
        design = np.concatenate([shapes, *own, np.ones((len(px), 1))], axis=1) * weight[:, None]
        where = [*range(nodes), *([nodes + int(np.searchsorted(bright, t))] if own else []), nodes + len(bright) + t]
        normal[np.ix_(where, where)] += np.einsum("pi,pj->ij", design, design)
        right[where] += np.einsum("pi,p->i", design, data[t][use] * weight)
        rows.append((design, where, weight))
    inside = np.arange(nodes)
    normal[inside, inside] += options.stiffness * float(np.mean(np.diag(normal)[:nodes]))
    inverse = inverse_of_positive(normal)
    found = np.einsum("ij,j->i", inverse, right)
    chi2, residual = 0.0, np.full(data.shape, np.nan)
    for t, (design, where, weight) in enumerate(rows):
        rest = data[t][good[t]] - np.einsum("pi,i->p", design, found[where]) / weight
        residual[t][good[t]] = rest
        chi2 += float(np.sum((rest * weight) ** 2))
    count = int(good.sum())
    flux, covariance = np.zeros(epochs), np.zeros((epochs, epochs))
    own_part = slice(nodes, nodes + len(bright))
    flux[bright], covariance[np.ix_(bright, bright)] = found[own_part], inverse[own_part, own_part]
    if not gone.any():  # about their mean
        centred = np.eye(epochs) - 1 / epochs
        flux = flux - np.mean(flux)
        covariance = np.einsum("ij,jk,lk->il", centred, covariance, centred)
    scene = found[:nodes].reshape(len(line), len(line))
    return SceneFit(flux, covariance, found[nodes + len(bright) :], scene, chi2 / max(count - size, 1), count, residual)
