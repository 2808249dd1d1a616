"""Cosmic rays in one exposure: L.A.Cosmic, with a bound that no star can exceed.

The Laplacian of the twice subsampled image, the smooth noise, and the fine-structure ratio are those of van Dokkum
(2001, PASP 113, 1420). Three things differ, each to keep stars whole:

* The noise comes from the variance plane, through a 5 × 5 median: a cosmic ray's own Poisson variance does not hide it.
* Where the FWHM is known, it sets the contrast. Light that came through a Gaussian of rms σ, whatever its shape
  before, has a logarithm that curves nowhere more than 1/σ² (the convolution of any non-negative distribution with a
  Gaussian). So for pixels at p and p ± d, at any sub-pixel phase, and for stars, blends and galaxies alike::

      I(p)² ≤ exp(d²/σ²) · I(p + d) · I(p - d)

  A cosmic ray breaks the bound in at least one of the four directions of the pixel grid.
* Pixels found are left out of the next iterations instead of being replaced first: a filled hole in a star makes what
  is left of the star look sharp.

A neighbour that is missing (over the edge, masked, or found before) is stood in for by the opposite one in the
Laplacian, and its direction does not count for the bound. So the outermost rows are searched like all others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel, over_rows
from larun.errors import OptionError

__all__ = ["CosmicOptions", "CosmicRays", "lacosmic", "protected_stars", "replace_pixels", "sharpness_limit"]

SMALLEST_FWHM = 1.2  # pixels; a cosmic ray with 0.25 pixel of diffusion, integrated over pixels, looks like 0.9
LARGEST_FWHM = 4.0  # beyond this the bound is held at 1.3 per pixel, or errors of the flat would break it
SHARPER = 0.85  # stars may be this much sharper than the FWHM says: Moffat cores, elongation, change over the field
CONTRAST = 5.0  # fine-structure limit where no FWHM is known
_MARGIN = 2.0  # standard deviations of each pixel in favour of the star
_TILE = 64


class CosmicRays(NamedTuple):
    """What a search for cosmic rays found.

    Attributes
    ----------
    mask : ndarray of bool
        Pixels hit by a cosmic ray.
    cleaned : ndarray of float32
        The data with those pixels replaced; all other pixels are untouched. Same unit as the data.
    variance : ndarray of float32
        The variance of ``cleaned``; of replaced pixels it is the error of the interpolation.
    iterations : int
        Iterations that were run.
    """

    mask: NDArray[np.bool_]
    cleaned: NDArray[np.float32]
    variance: NDArray[np.float32]
    iterations: int


def _within(low: float, high: float, says: str) -> Any:
    def check(_instance: CosmicOptions, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not low <= value <= high:
            raise OptionError(f"{attribute.name} = {value}: {says}")

    return check


_TINY = math.ulp(0.0)


@attrs.frozen(kw_only=True)
class CosmicOptions:
    """How to search for cosmic rays.

    Parameters
    ----------
    sigma : float
        Least significance of the Laplacian of a pixel that starts a cosmic ray.
    sigma_fraction : float
        Neighbours of such pixels belong to the ray above this fraction of ``sigma``.
    contrast : float or None
        Least ratio of the Laplacian to the fine structure (van Dokkum's f_lim). None: 5 where no ``fwhm`` is given;
        otherwise the bound from the FWHM takes its place. Given together, both must hold.
    iterations : int
        At most so many; the search ends when one finds nothing.
    fwhm : float or None
        Full width at half maximum of the stars, in pixels. None: the textbook's contrast alone protects the stars,
        which is not enough below about 2.5 pixels.

    Raises
    ------
    OptionError
        If a value makes no sense, or ``fwhm`` is below 1.2 pixels: stars are then as sharp as cosmic rays.
    """

    sigma: float = attrs.field(default=4.5, validator=_within(_TINY, 1e30, "must be positive"))
    sigma_fraction: float = attrs.field(default=0.3, validator=_within(_TINY, 1.0, "must be above 0 and at most 1"))
    contrast: float | None = attrs.field(default=None, validator=_within(_TINY, 1e30, "must be positive, or None"))
    iterations: int = attrs.field(default=4, validator=_within(1, 1000, "must be at least 1"))
    fwhm: float | None = attrs.field(
        default=None,
        validator=_within(
            SMALLEST_FWHM,
            1e30,
            f"must be at least {SMALLEST_FWHM} pixels: stars below that cannot be told from cosmic rays in a single "
            "exposure; combine several exposures with clipping instead",
        ),
    )


def lacosmic(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    *,
    options: CosmicOptions | None = None,
) -> CosmicRays:
    """Find and replace cosmic rays in a single exposure.

    Parameters
    ----------
    data : ndarray of float32, (y, x)
        The exposure, sky included; any unit.
    variance : ndarray of float32
        Variance of each pixel in that unit squared.
    unusable : ndarray of bool
        Pixels whose value means nothing: they enter no median and are never reported. Pixels that are not finite, or
        whose variance is not positive, are treated alike.
    saturated : ndarray of bool
        Saturated pixels; stars among them, with their bleed trails and two pixels around, are left alone.
    options : CosmicOptions
        None: all defaults. Give the FWHM wherever it is known.

    Returns
    -------
    CosmicRays
        Mask, cleaned data and its variance, iterations run.

    Raises
    ------
    OptionError
        If the planes differ in shape or are not images.

    References
    ----------
    van Dokkum 2001, PASP 113, 1420.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> data = rng.normal(200, 16, (40, 40)).astype(np.float32)
    >>> data[20, 10:14] += 2000
    >>> none = np.zeros(data.shape, bool)
    >>> rays = lacosmic(data, np.full_like(data, 256), none, none, options=CosmicOptions(fwhm=3.0))
    >>> bool(rays.mask[20, 10:14].all()), int(rays.mask.sum()) < 20
    (True, True)
    """
    options = options or CosmicOptions()
    image, noise = usable_planes(data, variance, unusable, saturated)
    protected = protected_stars(data, unusable, saturated)
    mask = np.zeros(image.shape, bool)
    pool = _candidates(image, noise, options.sigma)
    done = 0
    for _ in range(options.iterations):
        done += 1
        seeds = np.flatnonzero(pool & ~protected)
        seeds = seeds[_judge(image, noise, seeds, options.sigma, *_limits(options))]
        if not seeds.size:
            break
        _leave_out(seeds, mask, image, noise)
        around = _neighbours(seeds, image, protected)
        grown = around[_judge(image, noise, around, options.sigma_fraction * options.sigma, math.nan, math.nan)]
        _leave_out(grown, mask, image, noise)
        # Only beside a pixel that was just left out can a Laplacian have changed.
        pool.ravel()[_neighbours(np.concatenate([seeds, grown]), image, protected)] = True
        pool &= ~mask
    cleaned, cleaned_variance = replace_pixels(data, variance, mask, unusable | saturated)
    return CosmicRays(mask, cleaned, cleaned_variance, done)


def sharpness_limit(fwhm: float) -> float:
    """The largest I(p) / √(I(p+1) I(p-1)) that a point source of this FWHM can show, at any sub-pixel phase.

    Examples
    --------
    >>> round(sharpness_limit(1.5), 2), round(sharpness_limit(3.0), 2)
    (5.5, 1.53)
    """
    sigma = SHARPER * min(fwhm, LARGEST_FWHM) / math.sqrt(8 * math.log(2))
    return math.exp(0.5 / sigma**2)


def usable_planes(
    data: NDArray[np.float32], variance: NDArray[np.float32], unusable: NDArray[np.bool_], saturated: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Copies of data and variance with NaN in every pixel that must not be looked at.

    Raises
    ------
    OptionError
        If the planes differ in shape or are not images.
    """
    shapes = {"data": data.shape, "variance": variance.shape, "unusable": unusable.shape, "saturated": saturated.shape}
    if data.ndim != 2 or len(set(shapes.values())) > 1:
        raise OptionError(f"the planes must be images of one shape, not {shapes}")
    image, noise = data.astype(np.float32, order="C"), variance.astype(np.float32, order="C")
    missing = unusable | saturated | ~np.isfinite(image) | ~np.isfinite(noise) | ~(noise > 0)
    image[missing] = np.nan
    noise[missing] = np.nan
    return image, noise


def protected_stars(
    data: NDArray[np.float32], unusable: NDArray[np.bool_], saturated: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Saturated stars and two pixels around them.

    A saturated pixel belongs to a star if the 5 × 5 median around it stands at a tenth of its own height above the sky:
    a saturated cosmic ray does not lift its surroundings, and gets no protection.

    Parameters
    ----------
    data : ndarray of float32
        The exposure, saturated values included.
    unusable, saturated : ndarray of bool
        Masks; pixels in both count as saturated.

    Returns
    -------
    ndarray of bool
        True where cosmic rays cannot be told from the star.
    """
    y, x = np.nonzero(saturated)
    protected = np.zeros(data.shape, bool)
    if not y.size:
        return protected
    image = np.where((unusable & ~saturated) | ~np.isfinite(data), np.nan, data)
    sample = image[::4, ::4][~saturated[::4, ::4]]
    sample = sample[np.isfinite(sample)]
    sky = np.median(sample) if sample.size else 0.0
    offsets = np.arange(-2, 3)
    padded = np.pad(image, 2, constant_values=np.nan)
    around = padded[(y + 2)[:, None, None] + offsets[:, None], (x + 2)[:, None, None] + offsets].reshape(y.size, 25)
    finite = np.isfinite(around)
    # A star unless most of its neighbours are faint; pixels that read NaN when saturated count as bright.
    peak = np.where(np.isfinite(image[y, x]), image[y, x], np.inf)
    faint = (finite & (around - sky <= 0.1 * (peak - sky)[:, None])).sum(axis=1)
    star = (2 * faint < finite.sum(axis=1)) | ~np.isfinite(peak)
    for dy in offsets:
        for dx in offsets:
            to_y, to_x = y[star] + dy, x[star] + dx
            inside = (to_y >= 0) & (to_y < data.shape[0]) & (to_x >= 0) & (to_x < data.shape[1])
            protected[to_y[inside], to_x[inside]] = True
    return protected


def replace_pixels(
    data: NDArray[np.float32], variance: NDArray[np.float32], mask: NDArray[np.bool_], unusable: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Replace masked pixels by the median of the good pixels around them.

    Parameters
    ----------
    data, variance : ndarray of float32
        The exposure and its variance.
    mask : ndarray of bool
        Pixels to replace.
    unusable : ndarray of bool
        Other pixels whose value means nothing.

    Returns
    -------
    cleaned, variance : ndarray of float32
        The median of the good pixels in 5 × 5, in a wider square where there are fewer than three. The variance is the
        scatter of those pixels (it holds the gradient of a star or galaxy as well as the noise), at least the mean of
        their variances.
    """
    image, noise = usable_planes(data, variance, unusable, mask)
    cleaned, cleaned_variance = data.astype(np.float32, order="C"), variance.astype(np.float32, order="C")
    where = np.flatnonzero(mask)
    over_rows(
        where.size,
        lambda start, stop: _fill(image, noise, where[start:stop], cleaned, cleaned_variance),
        band=4096,
    )
    return cleaned, cleaned_variance


def _limits(options: CosmicOptions) -> tuple[float, float]:
    """The FWHM's sharpness limit and the fine-structure contrast; NaN where a test is not wanted."""
    if options.fwhm is None:
        return math.nan, options.contrast or CONTRAST
    return sharpness_limit(options.fwhm), options.contrast or math.nan


def _candidates(image: NDArray[np.float32], noise: NDArray[np.float32], sigma: float) -> NDArray[np.bool_]:
    """Pixels whose Laplacian could be significant: compared with the least variance anywhere near, a strict bound."""
    from scipy.ndimage import minimum_filter

    tiles = [np.arange(0, size, _TILE) for size in image.shape]
    least = np.fmin.reduceat(np.fmin.reduceat(noise, tiles[0], axis=0), tiles[1], axis=1).astype(np.float64)
    least = minimum_filter(np.where(np.isnan(least), np.inf, least), 3, mode="nearest")
    limit = 2 * sigma * np.sqrt(least)
    pool = np.zeros(image.shape, bool)
    over_rows(image.shape[0], lambda start, stop: _dense(image, limit, start, stop, pool))
    return pool


def _judge(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    where: NDArray[np.int64],
    sigma: float,
    sharpness: float,
    contrast: float,
) -> NDArray[np.bool_]:
    """Whether each of the pixels (flat indices) passes the tests."""
    verdict = np.zeros(where.size, bool)
    over_rows(
        where.size,
        lambda start, stop: _test(image, noise, where[start:stop], sigma, sharpness, contrast, verdict[start:stop]),
        band=4096,
    )
    return verdict


def _leave_out(
    where: NDArray[np.int64], mask: NDArray[np.bool_], image: NDArray[np.float32], noise: NDArray[np.float32]
) -> None:
    mask.ravel()[where] = True
    image.ravel()[where] = np.nan
    noise.ravel()[where] = np.nan


def _neighbours(
    where: NDArray[np.int64], image: NDArray[np.float32], protected: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Flat indices of the pixels that touch the given ones, sorted; usable and not protected."""
    y, x = np.divmod(where, image.shape[1])
    near = np.zeros(image.shape, bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near[np.clip(y + dy, 0, image.shape[0] - 1), np.clip(x + dx, 0, image.shape[1] - 1)] = True
    return np.flatnonzero(near & ~protected & ~np.isnan(image))


@kernel
def _value(image, y, x):  # type: ignore[no-untyped-def]
    if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
        return np.float64(image[y, x])
    return np.nan


@kernel
def _laplacian(image, y, x):  # type: ignore[no-untyped-def]
    """Positive Laplacian of the twice subsampled image, averaged over the pixel: 2E for an isolated excess E.

    The subpixel in corner (h, v) has itself as a neighbour twice, so its Laplacian is 2 I - I_h - I_v.
    """
    centre = np.float64(image[y, x])
    left, right = _value(image, y, x - 1), _value(image, y, x + 1)
    down, up = _value(image, y - 1, x), _value(image, y + 1, x)
    if np.isnan(left):
        left = centre if np.isnan(right) else right
    if np.isnan(right):
        right = left
    if np.isnan(down):
        down = centre if np.isnan(up) else up
    if np.isnan(up):
        up = down
    total = max(2 * centre - left - down, 0.0) + max(2 * centre - left - up, 0.0)
    return (total + max(2 * centre - right - down, 0.0) + max(2 * centre - right - up, 0.0)) / 4


@kernel
def _dense(image, limit, start, stop, pool):  # type: ignore[no-untyped-def]
    for y in range(start, stop):
        for x in range(image.shape[1]):
            if not np.isnan(image[y, x]):
                pool[y, x] = _laplacian(image, y, x) > limit[y // 64, x // 64]


@kernel
def _quantile(values, count, fraction):  # type: ignore[no-untyped-def]
    """Sort the first ``count`` values in place; the middle (fraction 0.5) or a lower quantile; NaN of none."""
    for i in range(1, count):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value
    if count == 0:
        return np.nan
    position = fraction * (count - 1)
    low = int(position)
    high = min(low + 1, count - 1)
    return values[low] + (position - low) * (values[high] - values[low])


@kernel
def _median(image, y, x, reach, values):  # type: ignore[no-untyped-def]
    count = 0
    for i in range(max(y - reach, 0), min(y + reach + 1, image.shape[0])):
        for j in range(max(x - reach, 0), min(x + reach + 1, image.shape[1])):
            if not np.isnan(image[i, j]):
                values[count] = image[i, j]
                count += 1
    return _quantile(values, count, 0.5)
