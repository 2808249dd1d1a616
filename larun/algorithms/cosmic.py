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

The Gaussian is the narrowest that any axis of the stars shows: of elongated stars, give the FWHM along the minor axis.
The dark rings of a diffraction-limited image are not washed out by any Gaussian, and no field has one FWHM throughout,
so a fine-structure contrast of 2 is asked beside the bound. The two together keep more stars than either.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cosmic_common import (
    CosmicOptions,
    CosmicRays,
    fill_pixels,
    lower_quantile,
    protected_stars,
    sharpness_limit,
    sky_level,
    usable_planes,
)
from larun.algorithms.jit import kernel, over_rows

__all__ = ["CosmicOptions", "CosmicRays", "lacosmic"]

_Plane = NDArray[np.float32]
_Floats = NDArray[np.float64]

_CONTRAST = 5.0  # fine-structure limit where no FWHM is known
_CONTRAST_BESIDE_FWHM = 2.0  # 0.7 % of the pixels of cosmic rays, for stars the FWHM does not describe
_MARGIN = 2.0  # standard deviations of each pixel in favour of the star
_TILE = 64
_SKY_REACH = 10  # half the side of the square on whose border the sky beside a star is read
_SURROUNDINGS = 16  # side of the tiles that tell what is near; at least the reach of every test


def lacosmic(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    unusable: NDArray[np.bool_],
    saturated: NDArray[np.bool_],
    *,
    options: CosmicOptions | None = None,
    sky: float | None = None,
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
    sky : float, optional
        Level above which saturated pixels are judged, where it is known: of a window of an exposure that of the whole.

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
    if sky is None and saturated.any():
        sky = sky_level(data, unusable, saturated)
    protected = protected_stars(data, unusable, saturated, sky=sky)
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
        # Only beside a pixel that was just left out can a Laplacian have changed, and no test looks beyond its reach:
        # what failed elsewhere would fail again.
        changed = np.concatenate([seeds, grown])
        pool &= _within_reach(changed, image.shape)
        pool.ravel()[_neighbours(changed, image, protected)] = True
        pool &= ~mask
    # What was found is NaN in the planes by now.
    cleaned, cleaned_variance = fill_pixels(image, noise, data, variance, mask)
    return CosmicRays(mask, cleaned, cleaned_variance, done, sky)


def _limits(options: CosmicOptions) -> tuple[float, float]:
    """The FWHM's sharpness limit, NaN without one, and the fine-structure contrast."""
    if options.fwhm is None:
        return math.nan, options.contrast or _CONTRAST
    return sharpness_limit(options.fwhm), options.contrast or _CONTRAST_BESIDE_FWHM


def _candidates(image: NDArray[np.float32], noise: NDArray[np.float32], sigma: float) -> NDArray[np.bool_]:
    """Pixels whose Laplacian could be significant: compared with the least variance anywhere near, a strict bound."""
    from scipy.ndimage import minimum_filter

    least = np.empty([-(-size // _TILE) for size in image.shape])
    over_rows(len(least), lambda start, stop: _least(noise, start, stop, least), band=1)
    least = minimum_filter(least, 3, mode="nearest")
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


def _within_reach(where: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels whose tests may look at the given ones (flat indices): those of the same tile and of its neighbours."""
    y, x = np.divmod(where, shape[1])
    tiles = np.zeros([-(-size // _SURROUNDINGS) + 2 for size in shape], bool)
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            tiles[y // _SURROUNDINGS + dy, x // _SURROUNDINGS + dx] = True
    whole = tiles[1:-1, 1:-1].repeat(_SURROUNDINGS, axis=0).repeat(_SURROUNDINGS, axis=1)
    return whole[: shape[0], : shape[1]]


@kernel
def _value(image: _Plane, y: int, x: int) -> float:
    if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
        return float(image[y, x])
    return np.nan


@kernel
def _laplacian(image: _Plane, y: int, x: int) -> float:
    """Positive Laplacian of the twice subsampled image, averaged over the pixel: 2E for an isolated excess E.

    The subpixel in corner (h, v) has itself as a neighbour twice, so its Laplacian is 2 I - I_h - I_v.
    """
    centre = float(image[y, x])
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
def _least(noise: _Plane, start: int, stop: int, out: _Floats) -> None:
    """The least value of every tile, NaN left out, for whole rows of tiles."""
    height, width = noise.shape
    for tile_y in range(start, stop):
        for tile_x in range(out.shape[1]):
            least = np.float32(np.inf)
            for y in range(tile_y * _TILE, min((tile_y + 1) * _TILE, height)):
                row = noise[y, tile_x * _TILE : min((tile_x + 1) * _TILE, width)]
                for x in range(row.size):
                    least = row[x] if row[x] < least else least
            out[tile_y, tile_x] = least


@kernel
def _dense(image: _Plane, limit: _Floats, start: int, stop: int, pool: NDArray[np.bool_]) -> None:
    """:func:`_laplacian` above the limit of its tile, for whole rows: no branches, so that it becomes SIMD."""
    height, width = image.shape
    for y in range(start, stop):
        # Beyond the edge the opposite row stands in.
        below = image[y - 1 if y > 0 else min(y + 1, height - 1)]
        above = image[y + 1 if y + 1 < height else max(y - 1, 0)]
        for tile in range(limit.shape[1]):
            first, last = max(tile * _TILE, 1), min((tile + 1) * _TILE, width - 1)
            least = limit[y // _TILE, tile]
            if first < last:
                row, lefts, rights = (
                    image[y, first:last],
                    image[y, first - 1 : last - 1],
                    image[y, first + 1 : last + 1],
                )
                downs, ups, found = below[first:last], above[first:last], pool[y, first:last]
                for x in range(row.size):
                    centre, left, right, down, up = row[x], lefts[x], rights[x], downs[x], ups[x]
                    left = left if left == left else right
                    left = left if left == left else centre
                    right = right if right == right else left
                    down = down if down == down else up
                    down = down if down == down else centre
                    up = up if up == up else down
                    twice = 2 * np.float64(centre)
                    one, two = twice - left - down, twice - left - up
                    three, four = twice - right - down, twice - right - up
                    total = (one if one > 0 else 0.0) + (two if two > 0 else 0.0)
                    total = total + (three if three > 0 else 0.0) + (four if four > 0 else 0.0)
                    found[x] = total / 4 > least
        for x in (0, width - 1):
            if not np.isnan(image[y, x]):
                pool[y, x] = _laplacian(image, y, x) > limit[y // _TILE, x // _TILE]


@kernel
def _median(image: _Plane, y: int, x: int, reach: int, values: _Floats) -> float:
    count = 0
    for i in range(max(y - reach, 0), min(y + reach + 1, image.shape[0])):
        for j in range(max(x - reach, 0), min(x + reach + 1, image.shape[1])):
            if not np.isnan(image[i, j]):
                values[count] = image[i, j]
                count += 1
    return lower_quantile(values, count, 0.5)


@kernel
def _sharper_than_stars(image: _Plane, noise: _Plane, y: int, x: int, limit: float, values: _Floats) -> bool:
    """Whether the pixel breaks I(p)² ≤ limit^(2 d²) I(p + d) I(p - d) in any direction by more than the noise."""
    reach = _SKY_REACH
    count = 0
    for k in range(-reach, reach):
        for value in (
            _value(image, y - reach, x + k),
            _value(image, y + k, x + reach),
            _value(image, y + reach, x - k),
            _value(image, y - k, x - reach),
        ):
            if not np.isnan(value):
                values[count] = value
                count += 1
    # A low estimate of the sky flatters the star: in crowded fields and nebulae it errs on the safe side.
    sky = lower_quantile(values, count, 0.25) if count else 0.0
    height = image[y, x] - sky - _MARGIN * math.sqrt(noise[y, x])
    if height <= 0:
        return False
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first, second = _value(image, y + dy, x + dx), _value(image, y - dy, x - dx)
        if np.isnan(first) or np.isnan(second):
            continue
        first = max(first - sky, 0.0) + _MARGIN * math.sqrt(noise[y + dy, x + dx])
        second = max(second - sky, 0.0) + _MARGIN * math.sqrt(noise[y - dy, x - dx])
        if height > limit ** (dy * dy + dx * dx) * math.sqrt(first * second):
            return True
    return False


@kernel
def _fine_structure(image: _Plane, y: int, x: int, values: _Floats, smooth: _Floats) -> float:
    """The 3 × 3 median less its own 7 × 7 median: what is larger than a cosmic ray, smaller than the sky."""
    count = 0
    for i in range(max(y - 3, 0), min(y + 4, image.shape[0])):
        for j in range(max(x - 3, 0), min(x + 4, image.shape[1])):
            value = _median(image, i, j, 1, values)
            if not np.isnan(value):
                smooth[count] = value
                count += 1
    return _median(image, y, x, 1, values) - lower_quantile(smooth, count, 0.5)


@kernel
def _test(
    image: _Plane,
    noise: _Plane,
    where: NDArray[np.int64],
    sigma: float,
    sharpness: float,
    contrast: float,
    verdict: NDArray[np.bool_],
) -> None:
    """Significance, then sharpness and fine structure unless their limits are NaN, for each flat index."""
    values, smooth = np.empty(8 * _SKY_REACH), np.empty(49)
    for k in range(where.size):
        y, x = where[k] // image.shape[1], where[k] % image.shape[1]
        # A scale free of what the pixel itself adds; 2 because an isolated excess E has a Laplacian of 2 E.
        scale = math.sqrt(_median(noise, y, x, 2, values))
        laplacian = _laplacian(image, y, x) / (2 * scale)
        if not laplacian > sigma:
            continue
        if not np.isnan(sharpness) and not _sharper_than_stars(image, noise, y, x, sharpness, values):
            continue
        count = 0
        for i in range(max(y - 2, 0), min(y + 3, image.shape[0])):
            for j in range(max(x - 2, 0), min(x + 3, image.shape[1])):
                if not np.isnan(image[i, j]):
                    values[count] = _laplacian(image, i, j)
                    count += 1
        significance = laplacian - lower_quantile(values, count, 0.5) / (2 * scale)
        if not significance > sigma:
            continue
        if not np.isnan(contrast):
            structure = _fine_structure(image, y, x, values, smooth) / scale
            if not significance > contrast * max(structure, 0.01):
                continue
        verdict[k] = True
