"""The FWHM of the stars of an image, from the image alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as flagtable
from larun.algorithms.detect import DetectOptions, candidates, checked_planes
from larun.algorithms.shapes import full_width, measure, position_angle

__all__ = ["DEFAULT_FWHM", "FwhmEstimate", "estimate_fwhm"]

#: Returned, with ``stars=0``, where no star can be measured.
DEFAULT_FWHM = 3.0

_SEARCH_FWHM = 3.0
_SEARCH_SNR = 15.0
_MOST_STARS = 3000
#: Sharper than any star that can be told from a cosmic ray.
_SHARPEST = 1.2
_MAX_ELLIPTICITY = 0.4
_FEWEST = 5


class FwhmEstimate(NamedTuple):
    """The FWHM of the stars of an image.

    Attributes
    ----------
    fwhm : float
        Pixels, before the pixel blurred it; ``DEFAULT_FWHM`` (3) where ``stars`` is 0.
    stars : int
        Stars it is the median of; 0 where fewer than 5 could be measured.
    """

    fwhm: float
    stars: int


def estimate_fwhm(
    data: NDArray[np.float32],
    background_level: NDArray[np.float32],
    noise_variance: NDArray[np.float32],
    flags: NDArray[np.uint32],
) -> FwhmEstimate:
    """Median FWHM of bright, unsaturated, isolated, round stars, 1.5 to 12 pixels, with no prior.

    Maxima above 15 sigma are measured with adaptive moments. Stars all have one size, so the most crowded 25 % wide
    range of sizes is theirs; cosmic rays are sharper (most have no measurable size at all) and galaxies are spread.

    Parameters
    ----------
    data, background_level, noise_variance : (ny, nx) float32
        Image, level and smooth noise variance of the sky.
    flags : (ny, nx) uint32
        Flags; sources that touch a pixel with a bit of UNUSABLE, or the edge, are not used.

    Returns
    -------
    FwhmEstimate

    Raises
    ------
    OptionError
        If the planes differ in shape.

    Examples
    --------
    >>> empty = np.zeros((50, 50), np.float32)
    >>> estimate_fwhm(empty, empty, empty + 1, empty.astype(np.uint32))
    FwhmEstimate(fwhm=3.0, stars=0)
    """
    planes = checked_planes(data, background_level, noise_variance, flags)
    options = DetectOptions(fwhm=_SEARCH_FWHM, threshold=_SEARCH_SNR)
    peaks, snr = candidates(planes, options, 1.0)
    peaks, snr = peaks[:_MOST_STARS], snr[:_MOST_STARS]
    found = measure(planes, peaks, mask=int(flagtable.UNUSABLE), fwhm=_SEARCH_FWHM, gain=1.0, growth=6.0)
    with np.errstate(invalid="ignore"):
        size, ellipticity, _ = position_angle(found.xx, found.xy, found.yy)
        width = full_width(size, found.profile)
        star = (width > _SHARPEST) & (ellipticity < _MAX_ELLIPTICITY)
    star &= (found.flags & flagtable.UNUSABLE == 0) & found.inside
    if star.sum() < _FEWEST:
        return FwhmEstimate(DEFAULT_FWHM, 0)
    isolated = star & _isolated(found.x, found.y, snr, 3 * _mode(width[star]))
    chosen = width[isolated if isolated.sum() >= _FEWEST else star]
    centre = _mode(chosen)
    chosen = chosen[np.abs(np.log(chosen / centre)) < 0.2]
    return FwhmEstimate(float(np.median(chosen)), chosen.size)


def _mode(values: NDArray[np.float64]) -> float:
    """Median of the most values that lie within a factor 1.25 of each other."""
    values = np.sort(values)
    counts = np.searchsorted(values, 1.25 * values, side="right") - np.arange(values.size)
    first = int(np.argmax(counts))
    return float(np.median(values[first : first + counts[first]]))


def _isolated(
    x: NDArray[np.float64], y: NDArray[np.float64], snr: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """Which sources have no neighbour of more than a tenth of their S/N within ``radius``."""
    from scipy.spatial import KDTree

    pairs = KDTree(np.column_stack([x, y])).query_pairs(radius, output_type="ndarray")
    alone = np.ones(x.size, np.bool_)
    for one, other in (pairs.T, pairs.T[::-1]):
        alone[one[snr[other] > 0.1 * snr[one]]] = False
    return alone
