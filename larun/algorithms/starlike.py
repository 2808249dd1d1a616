"""Whether an image that nothing is known about holds stars: peaks as round as light is, not as sharp as charge."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import mad_sigma

__all__ = ["Starlike", "difference_noise", "starlike_peaks"]

_ROUNDS = 4
_CUT = 0.98658  # rms of a normal number within 3 σ
_CELL = 32  # pixels; the level is a median in each
_SHARE = 0.25  # of the peak, that each of the four pixels beside it must have: 0.28 and more at a FWHM of 2 pixels
_FAR = 9  # pixels
_RING = ((-_FAR, 0), (_FAR, 0), (0, -_FAR), (0, _FAR), (-6, -6), (-6, 6), (6, -6), (6, 6))
_RISE = 0.6  # of the peak, by which the pixels of the ring may differ: a star stands alone or in a crowd


class Starlike(NamedTuple):
    """Peaks that look like stars.

    Attributes
    ----------
    stars : int
        How many.
    noise : float
        Pixel-to-pixel noise of the image, in its unit.
    """

    stars: int
    noise: float


def difference_noise(image: NDArray[np.float32], rows: int = 256) -> float:
    """Pixel-to-pixel noise, from differences of neighbours along some rows: no gradient raises it, and no star.

    The rms of the differences that are not beyond 3 σ, over the root of 2; NaN where nothing is finite.

    Examples
    --------
    >>> image = np.random.default_rng(1).normal(0, 3, (300, 300)) + np.arange(300)
    >>> round(difference_noise(image.astype(np.float32)), 1)
    3.0
    """
    step = max(1, image.shape[0] // rows)
    steps = np.diff(image[::step].astype(np.float64), axis=1).ravel()
    steps = steps[np.isfinite(steps)]
    if steps.size == 0:
        return float("nan")
    steps -= np.median(steps)
    size = np.abs(steps)
    noise = mad_sigma(steps, 0.0)
    for _ in range(_ROUNDS):  # of whole numbers the median is a whole number: the mean of what is not far tells more
        kept = steps[size <= max(3.0 * noise, 1.5)]
        noise = math.sqrt(float(np.mean(kept**2))) / (_CUT if 3.0 * noise > 1.5 else 1.0)
    return noise / math.sqrt(2.0)


def starlike_peaks(image: NDArray[np.float32], *, sigma: float = 10.0) -> Starlike:
    """Count peaks that are as wide as stars and no wider.

    A hot pixel or the track of a cosmic ray has a neighbour without charge, a bad column too; what is smooth (dust,
    vignetting, a gradient) is as high some pixels away. Stars of a FWHM from 2 to about 9 pixels are counted, wide ones
    with noise more than once.

    Parameters
    ----------
    image : ndarray of float32, (ny, nx)
        Raw; NaN where there is no value.
    sigma : float
        Least height of a peak over the median of its surroundings, in units of the noise.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> image = rng.normal(1000.0, 5.0, (100, 100)).astype(np.float32)
    >>> image[30, 30] += 5000.0
    >>> y, x = np.mgrid[:100, :100]
    >>> starlike_peaks(image + 900 * np.exp(-((x - 60) ** 2 + (y - 70) ** 2) / 4.0, dtype=np.float32)).stars
    1
    """
    noise = difference_noise(image)
    ny, nx = image.shape
    if not noise > 0 or min(ny, nx) <= 2 * _FAR + 1:
        return Starlike(0, noise)
    high = _without_level(image)
    inner = high[_FAR : ny - _FAR, _FAR : nx - _FAR]
    y, x = (places + _FAR for places in np.nonzero(inner > 0.7 * sigma * noise))
    far = np.stack([high[y + dy, x + dx] for dy, dx in _RING])
    level = np.median(far, axis=0)  # what is smooth is as high there
    peak = high[y, x] - level
    around = np.stack([high[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]) - level
    beside = around[[1, 3, 4, 6]]
    # of equal pixels only the first is the peak
    good = (peak > sigma * noise) & (around[:4] < peak).all(axis=0) & (around[4:] <= peak).all(axis=0)
    good &= (beside.min(axis=0) > _SHARE * peak) & (np.ptp(far, axis=0) < _RISE * peak + 8 * noise)
    return Starlike(int(np.count_nonzero(good)), noise)


def _without_level(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image less the median of each cell; what has no value is 0."""
    finite = np.isfinite(image)
    filled = image if finite.all() else np.where(finite, image, np.float32(np.nanmedian(image)))
    ny, nx = (-(-n // _CELL) * _CELL for n in image.shape)
    whole = np.pad(filled, ((0, ny - image.shape[0]), (0, nx - image.shape[1])), mode="edge")
    cells = whole.reshape(ny // _CELL, _CELL, nx // _CELL, _CELL)
    level = np.median(cells.transpose(0, 2, 1, 3).reshape(ny // _CELL, nx // _CELL, -1), axis=2)
    made = (cells - level[:, None, :, None]).reshape(ny, nx)[: image.shape[0], : image.shape[1]]
    return np.asarray(np.where(finite, made, np.float32(0)), np.float32)
