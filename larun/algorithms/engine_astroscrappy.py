"""L.A.Cosmic by astroscrappy (McCully et al.), behind larun's own interface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cosmic_common import (
    CosmicOptions,
    CosmicRays,
    protected_stars,
    replace_pixels,
    usable_planes,
)
from larun.errors import OptionError

__all__ = ["detect"]

_SMALLEST = 7
_CONTRAST = 5.0  # astroscrappy's own default of objlim


def detect(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    *,
    options: CosmicOptions | None = None,
) -> CosmicRays:
    """Find cosmic rays with ``astroscrappy.detect_cosmics``; replace them as larun does.

    The variance goes in as it is and the gain is 1, so that the unit stays; the medians are full ones. Saturated stars
    are masked by larun (see :func:`~larun.algorithms.cosmic_common.protected_stars`), since astroscrappy knows a single
    saturation level only.

    Parameters
    ----------
    data, variance, unusable, saturated
        As for :func:`larun.algorithms.cosmic.lacosmic`.
    options : CosmicOptions
        ``contrast`` None means 5. The engine has no bound from the FWHM: with ``fwhm`` below about 2 pixels raise
        ``contrast``, or use larun's own engine.

    Returns
    -------
    CosmicRays
        Mask, cleaned data and its variance; ``iterations`` is how many were allowed, as the engine does not tell.

    Raises
    ------
    OptionError
        If the planes differ in shape, are not images, or are smaller than 7 × 7: the engine's largest median would
        reach beyond them (astroscrappy 1.3 then writes outside its arrays).

    References
    ----------
    van Dokkum 2001, PASP 113, 1420.
    """
    import astroscrappy

    options = options or CosmicOptions()
    image, noise = usable_planes(data, variance, unusable, saturated)
    if min(image.shape) < _SMALLEST:
        raise OptionError(
            f"astroscrappy needs at least {_SMALLEST} × {_SMALLEST} pixels, not {image.shape}: "
            "use larun's own engine for smaller frames"
        )
    missing = np.isnan(image)
    left_alone = missing | protected_stars(data, unusable, saturated)
    if missing.all():
        mask = np.zeros(image.shape, bool)
    else:
        # The engine has no notion of NaN: what is missing gets the level of the frame, and is masked.
        image[missing], noise[missing] = np.median(image[~missing]), np.median(noise[~missing])
        mask, _ = astroscrappy.detect_cosmics(
            image,
            inmask=left_alone,
            invar=noise,
            sigclip=options.sigma,
            sigfrac=options.sigma_fraction,
            objlim=options.contrast or _CONTRAST,
            gain=1.0,
            satlevel=np.finfo(np.float32).max,
            niter=options.iterations,
            sepmed=False,
            cleantype="medmask",
        )
        mask = np.asarray(mask, bool) & ~left_alone
    return CosmicRays(mask, *replace_pixels(data, variance, mask, unusable | saturated), options.iterations)
