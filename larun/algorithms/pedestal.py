"""Which part of the level of dark frames is charge, where neither an overscan nor bias frames say so."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.pixelnoise import clipped_variance
from larun.algorithms.robust import mad_sigma
from larun.errors import OptionError

__all__ = ["Pedestal", "pedestal"]

_KEEP = 3.0  # σ
_NEAR = 2.0  # σ of the means of pixels over all frames
_ROUNDING = 0.5  # ADU: less is no scatter


class Pedestal(NamedTuple):
    """What the level of a typical pixel is made of.

    Attributes
    ----------
    level : float
        ADU that are no charge: the bias level.
    charge : float
        Electrons of the dark current.
    read_noise : float
        Electrons: as stated, or the scatter, where that is less.
    scatter : float
        Electrons: 1 σ of a pixel from frame to frame.
    drift : tuple of float
        ADU by which the level of each frame differs from the others.
    """

    level: float
    charge: float
    read_noise: float
    scatter: float
    drift: tuple[float, ...]


def pedestal(frames: ArrayLike, *, gain: float, read_noise: float) -> Pedestal:
    """Tell bias level from charge by the scatter of a typical pixel: what it has beyond read noise is Poisson noise.

    ``scatter² = read_noise² + charge`` (Janesick 2001, Scientific Charge-Coupled Devices, chapter 2): half the variance
    of the differences of frames that follow each other, without the drift of the level. The charge is
    at least nothing, and at most the whole level; beyond that neither explains the scatter. A single frame is compared
    with itself one column on, so that what differs from pixel to pixel counts as charge, too.

    A gain or a read noise that is wrong hides in the charge: that is the price of having no bias.

    Parameters
    ----------
    frames : array_like, (n, rows, nx)
        Dark frames of one exposure time, or some of their rows, ADU; NaN where a pixel has no value.
    gain : float
        Electrons per ADU.
    read_noise : float
        Electrons, as it is stated.

    Returns
    -------
    Pedestal

    Raises
    ------
    OptionError
        If the shape is another, or no two values can be compared.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> counts = 300 + rng.poisson(60, (5, 100, 100)) + rng.normal(0, 5, (5, 100, 100))
    >>> found = pedestal(counts, gain=1.0, read_noise=5.0)
    >>> abs(found.level - 300) < 3, abs(found.charge - 60) < 3
    (True, True)
    """
    values = np.asarray(frames, np.float64)
    if values.ndim != 3:
        raise OptionError(f"frames have shape {values.shape}: must be (frames, rows, columns)")
    if not (np.isfinite(values).sum(axis=0) >= min(len(values), 2)).any():
        raise OptionError("no two pixels of the dark frames can be compared: too few have a value")
    drift = _drift(values)
    levelled = values - drift[:, None, None]
    if len(values) > 1:
        # a mean knows nothing of the differences, so that typical pixels can be chosen by it
        levelled = levelled[:, _typical(levelled)]
        difference = np.diff(levelled, axis=0)
    else:
        difference = np.diff(levelled, axis=2)
    variance = gain**2 * clipped_variance(difference.ravel()) / 2
    level = float(np.nanmedian(levelled))
    charge = min(max(variance - read_noise**2, 0.0), max(gain * level, 0.0))
    scatter = float(np.sqrt(variance))
    # as float32 has it: planes are in single precision, and the level comes off twice
    base = float(np.float32(level - charge / gain))
    return Pedestal(base, charge, min(read_noise, scatter), scatter, tuple(drift.tolist()))


def _typical(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels with the level of most others: neither hot nor in the glow of an amplifier."""
    count = np.isfinite(values).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.maximum(count, 1)
    known = mean[count == len(values)] if (count == len(values)).any() else mean[count > 0]
    away = np.abs(mean - np.median(known))
    typical: NDArray[np.bool_] = (count > 1) & (away <= _NEAR * max(mad_sigma(known), _ROUNDING))
    return typical


def _drift(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each frame above the median of all, outliers apart; medians of whole numbers would be too coarse."""
    found = np.zeros(len(values))
    some = np.isfinite(values).any(axis=0)
    above = values[:, some] - np.nanmedian(values[:, some], axis=0)
    for number, row in enumerate(above):
        known = row[np.isfinite(row)]
        if known.size:
            away = np.abs(known - np.median(known))
            found[number] = known[away <= _KEEP * max(mad_sigma(known), _ROUNDING)].mean()
    found -= found.mean()
    return found
