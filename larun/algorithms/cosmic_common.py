"""What every search for cosmic rays shares: options, result, protected stars, and how pixels are replaced."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import kernel, over_rows
from larun.algorithms.order import select
from larun.errors import OptionError

__all__ = [
    "CosmicOptions",
    "CosmicRays",
    "fill_pixels",
    "lower_quantile",
    "protected_stars",
    "replace_pixels",
    "sharpness_limit",
    "sky_level",
    "usable_planes",
]

SMALLEST_FWHM = 1.2  # pixels; a cosmic ray with 0.25 pixel of diffusion, integrated over pixels, looks like 0.9
LARGEST_FWHM = 4.0  # beyond this the bound is held at 1.3 per pixel, or errors of the flat would break it
SHARPER = 0.85  # stars may be this much sharper than the FWHM says: Moffat cores, elongation, change over the field


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
    sky : float or None
        The level above which saturated pixels were judged to be stars or rays; None where it was not asked.
    """

    mask: NDArray[np.bool_]
    cleaned: NDArray[np.float32]
    variance: NDArray[np.float32]
    iterations: int
    sky: float | None = None


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
        Least ratio of the Laplacian to the fine structure (van Dokkum's f_lim). None: 2 where ``fwhm`` is given, which
        keeps elongated stars and the rings of diffraction for 0.7 % of the pixels of cosmic rays, and 5 otherwise
        (``clip_against_median`` and astroscrappy document their own). Beside an ``fwhm`` both conditions must hold; a
        value near 0 leaves the bound from the FWHM alone.
    iterations : int
        At most so many; the search ends when one finds nothing.
    fwhm : float or None
        Full width at half maximum of the stars along their minor axis, in pixels (``minor`` of
        :func:`larun.algorithms.fwhm.estimate_fwhm`). None: the textbook's contrast alone protects the stars, which is
        not enough below about 2.5 pixels.

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
    image, noise = np.empty(data.shape, np.float32), np.empty(data.shape, np.float32)

    def work(start: int, stop: int) -> None:
        rows = slice(start, stop)
        one, two = image[rows], noise[rows]
        one[...], two[...] = data[rows], variance[rows]
        missing = unusable[rows] | saturated[rows] | ~np.isfinite(one) | ~np.isfinite(two) | ~(two > 0)
        one[missing] = np.nan
        two[missing] = np.nan

    over_rows(data.shape[0], work, band=64)
    return image, noise


def sky_level(data: NDArray[np.float32], unusable: NDArray[np.bool_], saturated: NDArray[np.bool_]) -> float:
    """Median of every fourth pixel of every fourth row, of those that are usable; 0 where none is."""
    valid = ~((unusable & ~saturated)[::4, ::4] | saturated[::4, ::4]) & np.isfinite(data[::4, ::4])
    sample = data[::4, ::4][valid]
    return float(np.median(sample)) if sample.size else 0.0


def protected_stars(
    data: NDArray[np.float32], unusable: NDArray[np.bool_], saturated: NDArray[np.bool_], *, sky: float | None = None
) -> NDArray[np.bool_]:
    """Saturated stars and two pixels around them.

    A group of touching saturated pixels belongs to a star if the 5 × 5 median around one of them stands at a tenth of
    its own height above the sky: a saturated cosmic ray does not lift its surroundings, and gets no protection.

    Parameters
    ----------
    data : ndarray of float32
        The exposure, saturated values included.
    unusable, saturated : ndarray of bool
        Masks; pixels in both count as saturated.
    sky : float, optional
        Of the whole exposure; by default :func:`sky_level`.

    Returns
    -------
    ndarray of bool
        True where cosmic rays cannot be told from the star.
    """
    y, x = np.nonzero(saturated)
    protected = np.zeros(data.shape, bool)
    if not y.size:
        return protected
    level = np.float32(sky_level(data, unusable, saturated) if sky is None else sky)
    offsets = np.arange(-2, 3)
    rows, columns = (y[:, None, None] + offsets[:, None]), (x[:, None, None] + offsets)
    inside = (rows >= 0) & (rows < data.shape[0]) & (columns >= 0) & (columns < data.shape[1])
    at = np.clip(rows, 0, data.shape[0] - 1), np.clip(columns, 0, data.shape[1] - 1)
    around = data[at].reshape(y.size, 25)
    finite = (inside & ~(unusable[at] & ~saturated[at])).reshape(y.size, 25) & np.isfinite(around)
    # A star unless most of its neighbours are faint; pixels that read NaN when saturated count as bright.
    peak = np.where(np.isfinite(data[y, x]), data[y, x], np.inf)
    with np.errstate(invalid="ignore"):
        faint = (finite & (around - level <= 0.1 * (peak - level)[:, None])).sum(axis=1)
    bright = (2 * faint < finite.sum(axis=1)) | ~np.isfinite(peak)
    # A bleed trail is thin, but hangs on its star.
    groups = _groups(y, x)
    star = (np.bincount(groups, bright) > 0)[groups]
    for dy in offsets:
        for dx in offsets:
            to_y, to_x = y[star] + dy, x[star] + dx
            inside = (to_y >= 0) & (to_y < data.shape[0]) & (to_x >= 0) & (to_x < data.shape[1])
            protected[to_y[inside], to_x[inside]] = True
    return protected


def _groups(y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.int32]:
    """A number for each pixel, the same for those that hang together by sides or corners."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    pairs = KDTree(np.column_stack([y, x])).query_pairs(1.5, output_type="ndarray")
    touching = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (y.size, y.size))
    groups: NDArray[np.int32] = connected_components(touching, directed=False)[1]
    return groups


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
    return fill_pixels(*usable_planes(data, variance, unusable, mask), data, variance, mask)


def fill_pixels(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """:func:`replace_pixels` where the planes with NaN in every pixel that does not count are there already."""
    cleaned, cleaned_variance = data.astype(np.float32, order="C"), variance.astype(np.float32, order="C")
    where = np.flatnonzero(mask)
    over_rows(
        where.size,
        lambda start, stop: _fill(image, noise, where[start:stop], cleaned, cleaned_variance),
        band=4096,
    )
    return cleaned, cleaned_variance


@kernel
def lower_quantile(values: NDArray[np.float64], count: int, fraction: float) -> float:
    """The middle (fraction 0.5) or a lower quantile of the first ``count`` values, which are moved; NaN of none."""
    if count == 0:
        return np.nan
    position = fraction * (count - 1)
    low = int(position)
    below = select(values, low, count)
    above = below
    if low + 1 < count:
        above = values[low + 1]
        for i in range(low + 2, count):
            above = min(above, values[i])
    return float(below + (position - low) * (above - below))


@kernel
def _fill(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    where: NDArray[np.int64],
    cleaned: NDArray[np.float32],
    cleaned_variance: NDArray[np.float32],
) -> None:
    """Median and scatter of the good pixels around each flat index."""
    height, width = image.shape
    values, found = np.empty(64), 0
    for index in where:
        y, x = index // width, index % width
        found, reach, total, noise_total, square = 0, 1, 0.0, 0.0, 0.0
        while found < 3 and reach < max(height, width):
            reach += 1
            found, total, noise_total, square = 0, 0.0, 0.0, 0.0
            for i in range(max(y - reach, 0), min(y + reach + 1, height)):
                for j in range(max(x - reach, 0), min(x + reach + 1, width)):
                    if found < values.size and not np.isnan(image[i, j]):
                        values[found] = image[i, j]
                        total += image[i, j]
                        noise_total += noise[i, j]
                        found += 1
        if found:
            for k in range(found):
                square += (values[k] - total / found) ** 2
            scatter = square / (found - 1) if found > 1 else 0.0
            cleaned[y, x] = lower_quantile(values, found, 0.5)
            cleaned_variance[y, x] = max(scatter, noise_total / found)
