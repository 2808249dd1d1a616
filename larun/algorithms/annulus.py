"""The sky around each star: a clipped median or mean in an annulus, with the neighbours masked.

Pixels belong to the annulus, and to the mask of a neighbour, by their centres.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.aperture import plane, positions
from larun.algorithms.arrays import walk
from larun.algorithms.jit import kernel, over_rows
from larun.errors import OptionError
from larun.flags import UNUSABLE

__all__ = ["Annulus", "AnnulusSky", "Neighbours", "annulus_sky", "mask_radius"]

_STARS_PER_BAND = 128
#: Values that tell where the median is, and how much farther to look than they say.
_SAMPLE = 31
_ROOM = 1.6
_SAME_STAR = 1.0  # px: a neighbour nearer than this is the star itself


@attrs.frozen(kw_only=True)
class Annulus:
    """How the sky around a star is measured.

    Parameters
    ----------
    inner, outer : float
        Radii in pixels; a pixel belongs where inner ≤ distance of its centre < outer.
    sigma : float
        Pixels farther than this many σ from the median are clipped, until none is.
    estimator : {"median", "mean"}
        What is taken of the pixels that are left. The median has an error of 1.25 σ/√n against 1.0 for the mean; stars
        nobody masked pull it 10 to 25 % less. It lies below the mean of a Poisson sky by up to 1/6 electron a pixel,
        whatever the level: for very faint stars in wide apertures, with the neighbours masked, the mean is better.
        Where counts are whole numbers, pixels of one value stand for all between the middles of the gaps to the next
        values: the plain median would be a whole count, too, with an error that grows with the area of the aperture.
        The mode 3 median − 2 mean is not offered: its error is 2.5 σ/√n.
    minimum : int
        With fewer pixels than this, before or after clipping, there is no level.
    """

    inner: float = attrs.field(converter=float)
    outer: float = attrs.field(converter=float)
    sigma: float = attrs.field(default=3.0, converter=float)
    estimator: Literal["median", "mean"] = "median"
    minimum: int = 20

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.inner < self.outer < math.inf:
            raise OptionError(f"annulus from {self.inner} to {self.outer} px: must be 0 ≤ inner < outer")
        if not 2 <= self.sigma < math.inf:
            raise OptionError(f"sigma = {self.sigma}: must be at least 2, or the clip eats the noise")
        if self.estimator not in ("median", "mean"):
            raise OptionError(f"estimator = {self.estimator!r}: must be 'median' or 'mean'")
        if self.minimum < 2:
            raise OptionError(f"minimum = {self.minimum}: must be at least 2 pixels")


class Neighbours(NamedTuple):
    """The stars of the image and how far each spoils the sky.

    Attributes
    ----------
    x, y : ndarray, shape (m,)
        Positions in pixels.
    radius : ndarray, shape (m,)
        Pixels whose centre is nearer than this are not sky; see :func:`mask_radius`.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    radius: NDArray[np.float64]


class AnnulusSky(NamedTuple):
    """The sky around each star; every field has shape (stars,).

    Attributes
    ----------
    level : ndarray of float64
        Sky in one pixel, in the unit of the image; NaN where fewer than ``minimum`` pixels are left.
    error : ndarray of float64
        Standard error of ``level``.
    scatter : ndarray of float64
        Standard deviation of one pixel of sky, the clip corrected for.
    pixels : ndarray of int64
        How many pixels the level rests on.
    """

    level: NDArray[np.float64]
    error: NDArray[np.float64]
    scatter: NDArray[np.float64]
    pixels: NDArray[np.int64]

    def filled(self, level: ArrayLike, error: ArrayLike = 0.0) -> AnnulusSky:
        """The same sky with another level, from a background map say, where the annulus gave none."""
        missing = np.isnan(self.level)
        return self._replace(level=np.where(missing, level, self.level), error=np.where(missing, error, self.error))


def mask_radius(
    flux: ArrayLike, fwhm: float, noise: float, *, fraction: float = 0.1, beta: float = 2.5
) -> NDArray[np.float64]:
    """How far from its centre a star stays brighter than a fraction of the sky noise.

    The star is a Moffat profile, F (β − 1) / (π α²) (1 + r²/α²)^−β with α = FWHM / (2 √(2^{1/β} − 1)) (Moffat 1969,
    A&A 3, 455). Its wings fall as r^−2β: β = 2.5 is at the shallow end of what seeing gives, so masks are rather too
    wide than too narrow.

    Parameters
    ----------
    flux : array_like, shape (n,)
        Total fluxes. One that is not positive or not finite needs no mask: radius 0.
    fwhm : float
        Full width at half maximum in pixels.
    noise : float
        σ of one pixel of sky, in the unit of the flux.
    fraction : float
        Brightness at the edge of the mask, in units of the noise.
    beta : float
        Moffat exponent, above 1.

    Returns
    -------
    ndarray of float64, shape (n,)
        Radii in pixels; 0 for a star whose peak is fainter than that.

    Raises
    ------
    OptionError
        If ``fwhm``, ``noise`` or ``fraction`` is not positive and finite, or ``beta`` not above 1.

    Examples
    --------
    >>> mask_radius([0, 1e3, 1e5], fwhm=3, noise=15).round(1).tolist()
    [0.0, 5.0, 14.0]
    """
    for name, value, low in (("fwhm", fwhm, 0), ("noise", noise, 0), ("fraction", fraction, 0), ("beta", beta, 1)):
        if not low < value < math.inf:
            raise OptionError(f"{name} = {value}: must be finite and above {low}")
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    fluxes = np.asarray(flux, np.float64)
    fluxes = np.where(np.isfinite(fluxes) & (fluxes > 0), fluxes, 0.0)
    contrast = fluxes * (beta - 1) / (math.pi * alpha**2) / (fraction * noise)
    return np.asarray(alpha * np.sqrt(np.maximum(contrast, 1.0) ** (1 / beta) - 1))


def annulus_sky(
    data: NDArray[np.float32],
    flags: NDArray[np.uint32],
    x: ArrayLike,
    y: ArrayLike,
    annulus: Annulus,
    *,
    neighbours: Neighbours | None = None,
    acf: NDArray[Any] | None = None,
) -> AnnulusSky:
    """The clipped median (or mean) of the sky in an annulus around each position.

    Pixels that are not finite, carry a flag of ``UNUSABLE`` or lie in the mask of another star are no sky. The entry
    of ``neighbours`` nearest to a position, if within 1 px, is the star itself: only the inner radius keeps its light
    out. The clip starts from the median and the *lower* 16 % quantile, which stars do not move, and goes on with the
    standard deviation of what it kept, corrected for the cut tails.

    The error comes from the scatter of the pixels, not from a noise model: it holds with whatever the sky is made of.
    For the median it is σ √(Σ arcsin ρ / n), with ρ over all lags of ``acf`` (the probability that two normal
    variables share their sign, Sheppard 1899, Phil. Trans. 192, 101); σ √(π / 2n) for white noise. For the mean it is
    σ √(Σ ρ / n). Pairs at lag k that the annulus cuts are allowed for, as the fraction 2 |k| / (π (outer − inner)), and
    so is the noise that the clip adds (1 % at 3 σ, 10 % at 2 σ).

    Parameters
    ----------
    data : ndarray of float32, shape (ny, nx)
        The image.
    flags : ndarray of uint32, shape (ny, nx)
        Pixel flags.
    x, y : array_like, shape (n,)
        Centres in pixels. One that is not finite, or far outside, has 0 pixels and a NaN level.
    annulus : Annulus
        Radii, clip and estimator.
    neighbours : Neighbours, optional
        All stars of the image, the measured ones included.
    acf : ndarray, shape (2k + 1, 2k + 1), optional
        Autocorrelation of the noise, 1 at its centre; None for white noise.

    Returns
    -------
    AnnulusSky

    Raises
    ------
    OptionError
        If shapes disagree.

    Examples
    --------
    >>> sky = np.random.default_rng(1).normal(200, 15, (64, 64)).astype(np.float32)
    >>> found = annulus_sky(sky, np.zeros((64, 64), np.uint32), [32], [32], Annulus(inner=10, outer=15))
    >>> bool(abs(found.level[0] - 200) < 3 * found.error[0]), found.pixels.tolist()
    (True, [391])
    """
    image = plane(data, np.float32, "data")
    bits = plane(flags, np.uint32, "flags", image.shape)
    xs, ys = positions(x, y)
    covered = np.zeros(image.shape, np.uint16)
    own = np.zeros((len(xs), 3))
    if neighbours is not None and len(neighbours.x):
        stars = _stars(neighbours)
        _cover(covered, stars)
        own = _own(stars, xs, ys)
    out = np.empty((len(xs), 3))
    used = np.empty(len(xs), np.int64)
    planes = (image, bits, covered)
    median = annulus.estimator == "median"
    rules = (annulus.inner, annulus.outer, annulus.sigma, median, annulus.minimum, _kept_deviation(annulus.sigma))

    order = walk(xs, ys)
    xs, ys, own = xs[order], ys[order], own[order]

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        _sky_stars(planes, xs[part], ys[part], own[part], rules, out[part], used[part])

    over_rows(len(xs), work, band=_STARS_PER_BAND)
    back = np.argsort(order)
    level, scatter, used = out[back, 0], out[back, 1], used[back]
    with np.errstate(divide="ignore"):
        error = scatter * np.sqrt(_inflation(annulus, acf) / used)
    return AnnulusSky(level, error, scatter, used)


def _stars(neighbours: Neighbours) -> NDArray[np.float64]:
    """Neighbours with a mask as (m, 3) of x, y, radius."""
    x, y = positions(neighbours.x, neighbours.y)
    radius = np.array(neighbours.radius, np.float64)
    if radius.shape != x.shape:
        raise OptionError(f"neighbours have {len(x)} positions and radii of shape {radius.shape}: must agree")
    stars = np.column_stack([x, y, radius])
    if np.isinf(radius).any():
        raise OptionError("a neighbour has an infinite mask radius: the whole image would be masked")
    return np.ascontiguousarray(stars[np.isfinite(stars).all(axis=1)])


def _own(stars: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entry of ``stars`` that is the measured star itself; radius 0 where there is none."""
    own = np.zeros((len(x), 3))
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(stars) or not len(finite):
        return own
    if len(stars) == len(x) and np.array_equal(stars[:, 0], x) and np.array_equal(stars[:, 1], y):
        return stars  # a catalogue that is measured itself
    from scipy.spatial import cKDTree

    distance, index = cKDTree(stars[:, :2]).query(np.column_stack([x, y])[finite], distance_upper_bound=_SAME_STAR)
    found = np.isfinite(distance)
    own[finite[found]] = stars[index[found]]
    return own


def _normal_inside(sigma: float) -> tuple[float, float]:
    """Probability that a unit normal lies within ± sigma, and its density there."""
    return math.erf(sigma / math.sqrt(2)), math.exp(-0.5 * sigma**2) / math.sqrt(2 * math.pi)


def _kept_deviation(sigma: float) -> float:
    """Standard deviation of a unit normal cut at ± sigma."""
    inside, density = _normal_inside(sigma)
    return math.sqrt(1 - 2 * sigma * density / inside)


def _inflation(annulus: Annulus, acf: NDArray[Any] | None) -> float:
    """Variance of the level times the pixels kept, over the variance of a pixel.

    A clip that follows its own centre adds noise: the factor is the variance of the influence function of the
    estimator, x or sign(x) inside ± sigma (Huber 1981, Robust Statistics, section 3.2), with the centre free.
    """
    inside, density = _normal_inside(annulus.sigma)
    slope = 2 * (1 / math.sqrt(2 * math.pi) - density)
    if annulus.estimator == "median":
        factor, white = (inside / slope) ** 2, math.pi / 2
    else:
        lever = 2 * annulus.sigma * density
        factor, white = 1 + lever / inside + (lever / slope) ** 2, 1.0
    if acf is None:
        return factor
    rho = np.array(acf, np.float64)
    if rho.ndim != 2 or rho.shape[0] != rho.shape[1] or rho.shape[0] % 2 == 0 or not np.isfinite(rho).all():
        raise OptionError(f"acf has shape {rho.shape}: must be one finite (2k + 1, 2k + 1) kernel")
    lag = np.arange(len(rho)) - len(rho) // 2
    both = 1 - 2 * np.hypot(lag[:, None], lag) / (math.pi * (annulus.outer - annulus.inner))
    pairs = np.arcsin(np.clip(rho, -1, 1)) if annulus.estimator == "median" else rho
    return factor / white * max(float(np.sum(pairs * np.maximum(both, 0))), 0.0)


@kernel
def _cover(covered: Any, stars: Any) -> None:
    """Count for each pixel how many masks hold its centre."""
    ny, nx = covered.shape
    for i in range(len(stars)):
        x, y, r = stars[i, 0], stars[i, 1], stars[i, 2]
        if not (x + r > 0 and x - r < nx - 1 and y + r > 0 and y - r < ny - 1):
            continue
        for row in range(int(max(y - r, 0.0)), int(min(y + r, ny - 1.0)) + 1):
            for column in range(int(max(x - r, 0.0)), int(min(x + r, nx - 1.0)) + 1):
                if (column - x) ** 2 + (row - y) ** 2 < r * r:
                    covered[row, column] += 1


@kernel
def _bin(value: float, bins: Any) -> int:
    """Where a value belongs: 0 below the bins, 1 to ``number`` in them, ``number + 1`` above."""
    low, scale, number = bins
    return int(min(max((value - low) * scale + 1.0, 0.0), number + 1.0))


@kernel
def _deal(values: Any, count: int, bins: Any, dealt: Any, ends: Any) -> None:
    """The values bin by bin, in any order within one, and where each bin ends; none is sorted yet (``ends[1]``)."""
    last = ends[0]
    number = bins[2] + 2
    last[:number] = 0
    ends[1][:number] = 0
    for k in range(count):
        last[_bin(values[k], bins)] += 1
    total = 0
    for n in range(number):
        total, last[n] = total + last[n], total
    for k in range(count):
        place = _bin(values[k], bins)
        dealt[last[place]] = values[k]
        last[place] += 1


@kernel
def _insertion(values: Any, start: int, stop: int) -> None:
    for k in range(start + 1, stop):
        value, place = values[k], k
        while place > start and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value


@kernel
def _ranked(dealt: Any, ends: Any, bins: Any, k: int) -> float:
    """The k-th smallest value, in a bin that is sorted now if it was not."""
    place = _bin(dealt[k], bins)
    if ends[1, place] == 0:
        _insertion(dealt, ends[0, place - 1] if place > 0 else 0, ends[0, place])
        ends[1, place] = 1
    return float(dealt[k])


@kernel
def _middle(dealt: Any, ends: Any, bins: Any, low: int, high: int) -> float:
    """The median of values ``low`` … ``high - 1`` of their order; equal ones fill the gap to their neighbours."""
    half = 0.5 * (low + high)
    k = (low + high) // 2
    value = _ranked(dealt, ends, bins, k)
    first, last = k, k
    while first > low and _ranked(dealt, ends, bins, first - 1) == value:
        first -= 1
    while last < high - 1 and _ranked(dealt, ends, bins, last + 1) == value:
        last += 1
    below = _ranked(dealt, ends, bins, first - 1) if first > low else value
    if first == last:
        return value if (high - low) % 2 else 0.5 * (below + value)
    above = _ranked(dealt, ends, bins, last + 1) if last < high - 1 else value
    start, stop = 0.5 * (below + value), 0.5 * (value + above)
    return start + (stop - start) * (half - first) / (last + 1 - first)


@kernel
def _look(values: Any, count: int, sigma: float, dealt: Any, ends: Any) -> tuple[Any, float, float]:
    """Deal the values into bins that reach sigma deviations from the median, at least.

    Returns the bins, the median, and its distance from the lower 16 % quantile.
    """
    # a few values tell where to look; where they mislead, the bins are spread wider
    few = min(count, _SAMPLE)
    for k in range(few):
        dealt[k] = values[k * count // few]
    _insertion(dealt, 0, few)
    guess = dealt[few // 2]
    half = _ROOM * (sigma + 2.0) * (guess - dealt[int(0.1587 * (few - 1) + 0.5)])
    number = count // 2 + 1
    quantile = int(0.1587 * (count - 1) + 0.5)
    while True:
        if not half > 0.0:
            for k in range(count):
                half = max(half, abs(values[k] - guess))
        bins = (guess - half, 0.5 * number / half if half > 0.0 else 0.0, number)
        _deal(values, count, bins, dealt, ends)
        first, last = ends[0, 0], ends[0, number]
        if first <= quantile and count // 2 < last:
            centre = 0.5 * (_ranked(dealt, ends, bins, (count - 1) // 2) + _ranked(dealt, ends, bins, count // 2))
            deviation = centre - _ranked(dealt, ends, bins, quantile)
            low, high = _bin(centre - sigma * deviation, bins), _bin(centre + sigma * deviation, bins)
            if (first == 0 or low > 0) and (last == count or high <= number):
                return bins, centre, deviation
        half *= 4.0


@kernel
def _clipped(
    values: Any, count: int, sigma: float, kept: float, dealt: Any, ends: Any
) -> tuple[float, float, float, int]:
    """Median, mean, deviation and count after clipping around the median."""
    bins, centre, deviation = _look(values, count, sigma, dealt, ends)
    low, high = ends[0, 0], ends[0, bins[2]]
    mean = centre
    for turn in range(20):
        # values are clipped at both ends of their order only
        while low < high and abs(_ranked(dealt, ends, bins, low) - centre) > sigma * deviation:
            low += 1
        while low < high and abs(_ranked(dealt, ends, bins, high - 1) - centre) > sigma * deviation:
            high -= 1
        left = high - low
        if left == 0 or (turn > 0 and left == count):
            count = left
            break
        total, square = 0.0, 0.0
        for k in range(low, high):
            offset = dealt[k] - centre
            total += offset
            square += offset * offset
        count, mean = left, total / left
        deviation = math.sqrt(max(square - left * mean * mean, 0.0) / max(left - 1, 1)) / kept
        mean += centre
        centre = 0.5 * (_ranked(dealt, ends, bins, low + left // 2) + _ranked(dealt, ends, bins, low + (left - 1) // 2))
    if count > 0:
        centre = _middle(dealt, ends, bins, low, high)
    return centre, mean, deviation, count


@kernel
def _sky_stars(planes: Any, x: Any, y: Any, own: Any, rules: Any, out: Any, used: Any) -> None:
    """Level and scatter of some stars; ``rules`` end with the deviation a clip at sigma keeps."""
    data, flags, covered = planes
    inner, outer, sigma, median, minimum, kept = rules
    ny, nx = data.shape
    side = 2 * int(np.ceil(outer)) + 1
    values, dealt, ends = np.empty(side * side), np.empty(side * side), np.empty((2, side * side), np.int32)
    for i in range(len(x)):
        count = 0
        if x[i] + outer > 0 and x[i] - outer < nx - 1 and y[i] + outer > 0 and y[i] - outer < ny - 1:
            own_x, own_y, own2 = own[i, 0], own[i, 1], own[i, 2] * own[i, 2]
            for row in range(int(max(np.ceil(y[i] - outer), 0.0)), int(min(np.floor(y[i] + outer), ny - 1.0)) + 1):
                dy2, own_dy2 = (row - y[i]) ** 2, (row - own_y) ** 2
                chord = np.sqrt(max(outer * outer - dy2, 0.0))
                first, last = int(max(np.ceil(x[i] - chord), 0.0)), int(min(np.floor(x[i] + chord), nx - 1.0))
                # the hole is passed over but for its rim, where the distance decides
                gap = np.sqrt(max(inner * inner - dy2, 0.0))
                near = min(max(int(np.ceil(x[i] - gap)) + 1, first), last + 1)
                far = min(max(int(np.floor(x[i] + gap)) - 1, near), last + 1)
                for start, stop in ((first, near), (far, last + 1)):
                    for column in range(start, stop):
                        distance2 = (column - x[i]) ** 2 + dy2
                        value, masks = data[row, column], covered[row, column]
                        # the one mask may be the star's own
                        inside = ((column - own_x) ** 2 + own_dy2 < own2) & (masks == 1)
                        taken = (inner * inner <= distance2) & (distance2 < outer * outer)
                        taken = taken & ((masks == 0) | inside)
                        taken = taken & ((flags[row, column] & UNUSABLE) == 0) & (abs(value) < np.inf)
                        values[count] = value
                        count += taken
        out[i, 0], out[i, 1], used[i] = np.nan, np.nan, count
        if count < minimum:
            continue
        middle, mean, deviation, left = _clipped(values, count, sigma, kept, dealt, ends)
        used[i] = left
        if left >= minimum:
            out[i, 0], out[i, 1] = middle if median else mean, deviation
