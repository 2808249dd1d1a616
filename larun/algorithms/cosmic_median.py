"""The simple search for cosmic rays: pixels that stand out of the local median.

A fallback to compare with, in plain scipy. It knows two rules: far above the local median, and higher over its four
nearest pixels than a star of that FWHM can be. Its limits: whole planes are filtered in every iteration, which takes
many times as long as L.A.Cosmic; an average over four neighbours sees half of a track as light of a star, so where
stars are sharp (FWHM below 2 pixels) most rays pass (a quarter to a third are found at 1.5 pixels, where
:func:`larun.algorithms.cosmic.lacosmic` finds nine in ten); rays in stars and galaxies are compared with a sky that is
too low, and often missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cosmic_common import (
    CosmicOptions,
    CosmicRays,
    protected_stars,
    replace_pixels,
    sharpness_limit,
    usable_planes,
)

__all__ = ["clip_against_median"]

_DEFAULT_FWHM = 2.5
_SKY_REACH = 10


def clip_against_median(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    *,
    options: CosmicOptions | None = None,
) -> CosmicRays:
    """Find and replace pixels far above the median of the 5 × 5 pixels around them.

    Parameters
    ----------
    data, variance, unusable, saturated
        As for :func:`larun.algorithms.cosmic.lacosmic`.
    options : CosmicOptions
        ``sigma``: least height above the median, in noise; ``sigma_fraction``: the same for neighbours of pixels
        found; ``contrast``: least ratio of the height to the mean height of the four nearest pixels (None: what a star
        of ``fwhm``, or of 2.5 pixels, can reach); ``iterations``.

    Returns
    -------
    CosmicRays
        Mask, cleaned data and its variance, iterations run.

    Raises
    ------
    OptionError
        If the planes differ in shape or are not images.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> data = rng.normal(200, 16, (40, 40)).astype(np.float32)
    >>> data[20, 10] += 2000
    >>> none = np.zeros(data.shape, bool)
    >>> rays = clip_against_median(data, np.full_like(data, 256), none, none)
    >>> bool(rays.mask[20, 10]), int(rays.mask.sum()) < 5
    (True, True)
    """
    from scipy.ndimage import binary_dilation, correlate, median_filter, minimum_filter

    options = options or CosmicOptions()
    contrast = options.contrast or sharpness_limit(options.fwhm or _DEFAULT_FWHM)
    image, noise = usable_planes(data, variance, unusable, saturated)
    usable = ~np.isnan(image)
    protected = protected_stars(data, unusable, saturated)
    mask = np.zeros(image.shape, bool)
    if not usable.any():
        return CosmicRays(mask, *replace_pixels(data, variance, mask, unusable | saturated), 0)
    # What is missing takes the level of the whole frame: a median of 25 hardly notices.
    image[~usable], noise[~usable] = np.median(image[usable]), np.median(noise[usable])
    scale = np.sqrt(median_filter(noise, 5, mode="mirror"))
    cross = np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])
    done = 0
    for _ in range(options.iterations):
        done += 1
        median = median_filter(image, 5, mode="mirror")
        height = image - median
        # Stars are judged above a low sky, which flatters them: the local median of a star is no sky.
        above = image - minimum_filter(median, 2 * _SKY_REACH + 1, mode="mirror")
        allowed = usable & ~protected & ~mask
        sharp = above > contrast * (correlate(above, cross, mode="mirror") + scale) + 2 * scale
        found = allowed & sharp & (height > options.sigma * scale)
        if not found.any():
            break
        around = binary_dilation(found, np.ones((3, 3), bool)) & allowed
        found |= around & (height > options.sigma_fraction * options.sigma * scale)
        mask |= found
        image[found] = median[found]
    return CosmicRays(mask, *replace_pixels(data, variance, mask, unusable | saturated), done)
