"""The FWHM of the stars of an image, from the image alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as flagtable
from larun.algorithms.arrays import read_only
from larun.algorithms.detect import DetectOptions, candidates, checked_planes
from larun.algorithms.jit import kernel
from larun.algorithms.peaks import Planes
from larun.algorithms.shapes import Measured, full_width, measure, position_angle

__all__ = ["DEFAULT_FWHM", "AlikeStars", "FwhmEstimate", "alike", "estimate_fwhm", "fwhm_of", "stars_of_one_size"]

#: Returned, with ``stars=0``, where no star can be measured.
DEFAULT_FWHM = 3.0

_SEARCH_FWHM = 3.0
_SEARCH_SNR = 15.0
_MOST_STARS = 3000
#: Sharper than any star that can be told from a cosmic ray.
_SHARPEST = 1.2
_FEWEST = 5
#: Stars of one image agree this well in ln FWHM and in each component of the ellipticity: (half the stars, all).
_ALIKE = ((0.11, 0.12), (0.2, 0.25))
#: S/N above which noise makes a round star's minor axis at most about 3 % too short.
_BRIGHT_SNR = 50.0


class FwhmEstimate(NamedTuple):
    """The FWHM of the stars of an image.

    Attributes
    ----------
    fwhm : float
        Pixels, before the pixel blurred it, geometric mean of the axes; ``DEFAULT_FWHM`` (3) where ``stars`` is 0.
    stars : int
        Stars it is the median of; 0 where fewer than 5 agree.
    minor : float
        FWHM along the minor axis, pixels: the median of those stars above S/N 50, or of the 5 brightest. Noise makes a
        star look elongated, so for round stars it is up to a few per cent below ``fwhm``.
    e1, e2 : float
        Median components of the ellipticity 1 - b/a of the same stars: times cos 2 theta and sin 2 theta.
    """

    fwhm: float
    stars: int
    minor: float
    e1: float = 0.0
    e2: float = 0.0


class AlikeStars(NamedTuple):
    """Stars that agree in size and shape, by falling S/N; one element a star (float64).

    Attributes
    ----------
    x, y : (n,)
        Position, pixels.
    snr : (n,)
        Of the matched filter by which they were found.
    fwhm, minor : (n,)
        By adaptive moments, before the pixel blurred it: geometric mean of the axes, and along the minor axis, pixels.
    e1, e2 : (n,)
        Components of the ellipticity 1 - b/a of these moments: times cos 2 theta and sin 2 theta.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    snr: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    minor: NDArray[np.float64]
    e1: NDArray[np.float64]
    e2: NDArray[np.float64]


_NONE = FwhmEstimate(DEFAULT_FWHM, 0, DEFAULT_FWHM)


def estimate_fwhm(
    data: NDArray[np.float32],
    background_level: NDArray[np.float32],
    noise_variance: NDArray[np.float32],
    flags: NDArray[np.uint32],
) -> FwhmEstimate:
    """Median FWHM of bright, unsaturated, isolated stars, 1.5 to 12 pixels, with no prior.

    Maxima above 15 sigma are measured with adaptive moments. Stars all have one size and, round or trailed, one
    ellipticity, so where sources crowd most in size and the two components of ellipticity are the stars; cosmic rays
    are sharper (most have no measurable size at all) or point anywhere, and galaxies are spread.

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
    FwhmEstimate(fwhm=3.0, stars=0, minor=3.0, e1=0.0, e2=0.0)
    """
    return _estimate(stars_of_one_size(checked_planes(data, background_level, noise_variance, flags)))


def fwhm_of(found: Measured, snr: NDArray[np.float64]) -> FwhmEstimate:
    """As :func:`estimate_fwhm`, of sources that have been measured.

    Parameters
    ----------
    found : Measured
        In falling order of S/N.
    snr : (n,) float64
        S/N of their maxima.
    """
    return _estimate(_of_one_size(found, snr))


def _estimate(found: AlikeStars | None) -> FwhmEstimate:
    if found is None:
        return _NONE
    bright = slice(0, max(_FEWEST, int((found.snr > _BRIGHT_SNR).sum())))
    minor, e1, e2 = (float(np.median(part[bright])) for part in (found.minor, found.e1, found.e2))
    return FwhmEstimate(float(np.median(found.fwhm)), found.x.size, minor, e1, e2)


def stars_of_one_size(planes: Planes) -> AlikeStars | None:
    """The bright, unsaturated sources of an image that have the size and shape most of them share: its stars.

    Isolated ones alone, where those are enough; None where fewer than 5 agree. How they are told is said in
    :func:`estimate_fwhm`.
    """
    options = DetectOptions(fwhm=_SEARCH_FWHM, threshold=_SEARCH_SNR)
    peaks, snr = candidates(planes, options, 1.0)
    peaks, snr = peaks[:_MOST_STARS], snr[:_MOST_STARS]
    found = measure(planes, peaks, mask=int(flagtable.UNUSABLE), fwhm=_SEARCH_FWHM, gain=1.0, growth=6.0)
    return _of_one_size(found, snr)


def _of_one_size(found: Measured, snr: NDArray[np.float64]) -> AlikeStars | None:
    with np.errstate(invalid="ignore"):
        size, ellipticity, theta = position_angle(found.xx, found.xy, found.yy)
        width = full_width(size, found.profile)
        minor = full_width(size * np.sqrt(1 - ellipticity), found.profile)
        star = width > _SHARPEST
    star &= (found.flags & flagtable.UNUSABLE == 0) & found.inside
    if star.sum() < _FEWEST:
        return None
    angle = np.radians(2 * theta)
    traits = np.column_stack([np.log(width), ellipticity * np.cos(angle), ellipticity * np.sin(angle)])
    radius = 3 * math.exp(_mode(traits[star])[0])
    isolated = star & _isolated(found.x, found.y, snr, radius)
    for kind in (isolated, star):
        chosen = np.flatnonzero(kind)
        if chosen.size:
            chosen = chosen[_agree(traits[chosen], _mode(traits[chosen]), *_ALIKE[1])]
        if chosen.size >= _FEWEST:
            parts = (found.x, found.y, snr, width, minor, traits[:, 1], traits[:, 2])
            return AlikeStars(*(np.asarray(part[chosen], np.float64) for part in parts))
    return None


def _agree(
    traits: NDArray[np.float64], centre: NDArray[np.float64], size: float, ellipticity: float
) -> NDArray[np.bool_]:
    return np.asarray((np.abs(traits - centre) < (size, ellipticity, ellipticity)).all(axis=1), np.bool_)


def alike(traits: NDArray[np.float64]) -> NDArray[np.int64]:
    """With how many rows each row of three numbers agrees within 1, itself included.

    Examples
    --------
    >>> alike(np.array([[0.0, 0, 0], [0, 0.9, -0.9], [0, 1.8, 0]]))
    array([2, 3, 2])
    """
    counts = np.empty(len(traits), np.int64)
    _count_alike(read_only(traits.T, np.float64), counts)
    return counts


def _mode(traits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of the traits of the sources that agree with the one that most agree with."""
    size, ellipticity = _ALIKE[0]
    counts = alike(traits / (size, ellipticity, ellipticity))
    return np.asarray(np.median(traits[_agree(traits, traits[int(np.argmax(counts))], size, ellipticity)], axis=0))


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


@kernel
def _count_alike(traits: Any, counts: Any) -> None:
    """With how many sources each source agrees, itself included: all traits within 1."""
    first, second, third = traits[0], traits[1], traits[2]
    for n in range(counts.size):
        a, b, c, alike = first[n], second[n], third[n], np.int32(0)
        for m in range(counts.size):
            same = (abs(first[m] - a) <= 1.0) & (abs(second[m] - b) <= 1.0) & (abs(third[m] - c) <= 1.0)
            alike += np.int32(same)
        counts[n] = alike
