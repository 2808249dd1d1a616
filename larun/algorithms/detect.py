"""Finding sources: a matched filter in true S/N, and the plain local maxima of the textbook.

Both return the same columns, measured the same way (:mod:`larun.algorithms.shapes`), brightest first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as flagtable
from larun.algorithms.arrays import read_only
from larun.algorithms.peaks import (
    FWHM_OF_SIGMA,
    PIXEL_VARIANCE,
    Planes,
    flagged,
    gaussian_profile,
    local_maxima,
    noise_factor,
    prominent,
    signal_to_noise,
)
from larun.algorithms.shapes import full_width, measure, position_angle
from larun.errors import OptionError

__all__ = [
    "FINDING_MASK",
    "DetectOptions",
    "Detections",
    "checked_planes",
    "described",
    "detect_matched",
    "detect_peaks",
]

#: Saturated pixels hide their value, not the star: they take part in finding, and the source is flagged.
FINDING_MASK = int(flagtable.UNUSABLE & ~flagtable.SATURATED)


@attrs.frozen(kw_only=True)
class DetectOptions:
    """How sources are found.

    Parameters
    ----------
    fwhm : float
        FWHM of a star in pixels, before the pixel blurs it (:func:`larun.algorithms.fwhm.estimate_fwhm`); 0.5 to 50.
    threshold : float
        Least S/N of a source, in standard deviations of the noise.
    prominence : float
        A maximum must rise this many standard deviations (photon noise of the source included) above the pass to a
        higher one, else it is a ripple on its slope. 0 keeps every maximum.
    contrast : float
        It must also rise by this fraction of its own S/N: the lumps of a real star image are not noise.
    gain : float
        Electrons per unit of the data, for photon noise: 1 for an image in electrons, N for a mean of N of them.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    fwhm: float = attrs.field()
    threshold: float = attrs.field(default=5.0)
    prominence: float = attrs.field(default=2.0)
    contrast: float = attrs.field(default=0.02)
    gain: float = attrs.field(default=1.0)

    def __attrs_post_init__(self) -> None:
        if not 0.5 <= self.fwhm <= 50:
            raise OptionError(f"fwhm = {self.fwhm}: must be between 0.5 and 50 pixels")
        if not 1 <= self.threshold < math.inf:
            raise OptionError(f"threshold = {self.threshold}: must be at least 1 standard deviation")
        if not 0 <= self.prominence < math.inf:
            raise OptionError(f"prominence = {self.prominence}: must be at least 0")
        if not 0 <= self.contrast < 1:
            raise OptionError(f"contrast = {self.contrast}: must be between 0 and 1")
        if not 0 < self.gain < math.inf:
            raise OptionError(f"gain = {self.gain}: must be above 0 electrons per unit of the data")


class Detections(NamedTuple):
    """Sources, in falling order of S/N (equal ones by y, then x).

    Attributes
    ----------
    x, y : (n,) float64
        Position, pixels; (0, 0) is the centre of the first pixel. Always inside the image, -0.5 to nx - 0.5: where the
        centroid leaves it, or runs away to a neighbour, it is the centre of the highest pixel.
    x_error, y_error : (n,) float64
        Standard error of the position, photon noise of the source included; at least half the FWHM of the filter where
        the position is only that of the highest pixel.
    peak : (n,) float64
        Value of the brightest pixel above the background.
    flux, flux_error : (n,) float64
        Flux of the pixel-integrated Gaussian of the filter that fits best, and its standard error, photon noise
        included. A star with other wings than the Gaussian has all its fluxes wrong by one factor.
    snr : (n,) float64
        S/N over the noise of the sky: what the threshold was applied to.
    fwhm : (n,) float64
        FWHM in pixels before the pixel blurred it, geometric mean of the axes. NaN where it cannot be measured:
        sharper than a pixel, larger than 3 times the filter, or too faint.
    ellipticity : (n,) float64
        ``1 - b / a``; NaN as ``fwhm``.
    theta : (n,) float64
        Direction of the major axis, degrees from +x towards +y, in (-90, 90]; NaN as ``fwhm``.
    flags : (n,) uint32
        OR of the flags within one FWHM; EDGE where that circle leaves the image.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]
    peak: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    snr: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    ellipticity: NDArray[np.float64]
    theta: NDArray[np.float64]
    flags: NDArray[np.uint32]


def detect_matched(
    data: NDArray[np.float32],
    background_level: NDArray[np.float32],
    noise_variance: NDArray[np.float32],
    flags: NDArray[np.uint32],
    *,
    options: DetectOptions,
    acf: NDArray[np.float64] | None = None,
) -> Detections:
    """Find sources as maxima of the image filtered with a star, in units of the filtered noise.

    The filter is a pixel-integrated Gaussian. Against the true profile it loses 0.4 % of the S/N for a Moffat
    profile of beta 4.8, 0.7 % for 3.5 and 1.5 % for 2.5. With a noise model that is right, S/N 5 is
    5 sigma: the noise is propagated through the filter pixel by pixel, masked pixels dropped. Every connected group of
    saturated pixels gives one source.

    Parameters
    ----------
    data : (ny, nx) float32
        Image. Pixels that are not finite count as masked.
    background_level, noise_variance : (ny, nx) float32
        Level and smooth noise variance of the sky (:func:`larun.algorithms.background.background`).
    flags : (ny, nx) uint32
        Flags; pixels with a bit of UNUSABLE other than SATURATED are not used.
    options : DetectOptions
        FWHM, threshold and so on.
    acf : (2 m + 1, 2 m + 1) float64 or None
        Autocorrelation of the noise, centre 1, where resampling correlated it; None for white noise.

    Returns
    -------
    Detections

    Raises
    ------
    OptionError
        If the shapes differ or ``acf`` is not an autocorrelation.

    Examples
    --------
    >>> y, x = np.mgrid[:64, :64]
    >>> star = 500 * np.exp(-((x - 30.2) ** 2 + (y - 20.7) ** 2) / 4).astype(np.float32)
    >>> flat = np.zeros_like(star)
    >>> found = detect_matched(star, flat, flat + 100, flat.astype(np.uint32), options=DetectOptions(fwhm=3.3))
    >>> found.x.round(2), found.y.round(2), found.fwhm.round(1)
    (array([30.2]), array([20.7]), array([3.3]))
    """
    planes = checked_planes(data, background_level, noise_variance, flags)
    star = gaussian_profile(options.fwhm)
    peaks, snr = candidates(planes, options, noise_factor(star, star, acf))
    return described(planes, peaks, snr, options, acf)


def detect_peaks(
    data: NDArray[np.float32],
    background_level: NDArray[np.float32],
    noise_variance: NDArray[np.float32],
    flags: NDArray[np.uint32],
    *,
    options: DetectOptions,
) -> Detections:
    """Find sources as local maxima of the unfiltered image: the simple method of the textbooks.

    A source is a pixel above the threshold that is the highest of the square that reaches one FWHM to each side. It
    is compared with its own noise only, so a faint star needs more photons than :func:`detect_matched` asks for, and
    a single hot pixel or cosmic ray is found like a star. ``snr`` is that of the brightest pixel. ``prominence`` and
    ``contrast`` belong to the matched filter and play no part.

    Parameters and errors are those of :func:`detect_matched`; the noise of single pixels needs no autocorrelation.

    Examples
    --------
    >>> image = np.zeros((32, 32), np.float32)
    >>> image[10, 20] = 100
    >>> flat = np.zeros_like(image)
    >>> found = detect_peaks(image, flat, flat + 25, flat.astype(np.uint32), options=DetectOptions(fwhm=2.0))
    >>> found.x, found.y, found.snr
    (array([20.]), array([10.]), array([20.]))
    """
    planes = checked_planes(data, background_level, noise_variance, flags)
    image = signal_to_noise(planes, FINDING_MASK, gaussian_profile(0), 1.0)
    peaks = local_maxima(image, options.threshold)
    value = image.ravel()[peaks].astype(np.float64)
    highest = prominent(image, peaks, np.full(peaks.size, np.inf), max(1, round(options.fwhm)))
    peaks, snr = _ordered(peaks, value, _one_each(peaks, value, highest, planes[3], options.fwhm))
    return described(planes, peaks, snr, options, None)


def checked_planes(
    data: NDArray[np.float32],
    background_level: NDArray[np.float32],
    noise_variance: NDArray[np.float32],
    flags: NDArray[np.uint32],
) -> Planes:
    """The four planes as contiguous arrays of the types the kernels want.

    Raises
    ------
    OptionError
        If they are not planes of one shape.
    """
    planes = (
        read_only(data, np.float32),
        read_only(background_level, np.float32),
        read_only(noise_variance, np.float32),
        read_only(flags, np.uint32),
    )
    shapes = [plane.shape for plane in planes]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise OptionError(f"data, background, noise variance and flags must be planes of one shape, not {shapes}")
    return planes


def candidates(planes: Planes, options: DetectOptions, factor: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Flat indices of the pixels where the matched filter sees sources, and their S/N, brightest first.

    ``factor`` is that of :func:`larun.algorithms.peaks.noise_factor` for the filter.
    """
    profile = gaussian_profile(options.fwhm)
    snr = signal_to_noise(planes, FINDING_MASK, profile, factor)
    peaks = local_maxima(snr, options.threshold)
    peaks = peaks[planes[2].ravel()[peaks] > 0]  # without noise there is no ratio to it
    value, noise = snr.ravel()[peaks].astype(np.float64), planes[2].ravel()[peaks]
    # photon noise of a star of this S/N in the filtered image, in units of the filtered sky noise
    squares, cubes = (profile**2).sum() ** 2, (profile**3).sum() ** 2
    flux = value * factor * np.sqrt(noise / squares)
    local_noise = np.sqrt(1 + flux * cubes / (options.gain * noise * squares))
    required = np.maximum(options.prominence * local_noise, options.contrast * value)
    kept = prominent(snr, peaks, required, max(8, math.ceil(4 * options.fwhm)))
    return _ordered(peaks, value, _one_each(peaks, value, kept, planes[3], options.fwhm))


def _ordered(
    peaks: NDArray[np.int64], value: NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.lexsort((peaks[kept], -value[kept]))
    return peaks[kept][order], value[kept][order]


def _one_each(
    peaks: NDArray[np.int64],
    value: NDArray[np.float64],
    kept: NDArray[np.bool_],
    flags: NDArray[np.uint32],
    fwhm: float,
) -> NDArray[np.bool_]:
    """Of the maxima near a group of saturated pixels, keep the highest, whatever its prominence."""
    if peaks.size == 0:
        return kept
    saturated = flagged(flags, int(flagtable.SATURATED), int(flagtable.BAD))
    if saturated.size == 0:
        return kept
    from scipy.spatial import KDTree

    columns = flags.shape[1]
    distance, nearest = KDTree(np.column_stack(np.divmod(saturated, columns))).query(
        np.column_stack(np.divmod(peaks, columns)), distance_upper_bound=max(1.5, fwhm)
    )
    near = np.flatnonzero(np.isfinite(distance))
    group = _groups(saturated, columns)[nearest[near]]
    order = np.lexsort((peaks[near], -value[near], group))
    first = np.ones(order.size, np.bool_)
    first[1:] = group[order][1:] != group[order][:-1]
    kept = kept.copy()
    kept[near] = False
    kept[near[order[first]]] = True
    return kept


def _groups(pixels: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    """The number of the connected group (8 neighbours) of each pixel; flat indices, ascending."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones, others = [], []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        inside = (pixels % columns + right >= 0) & (pixels % columns + right < columns)
        wanted = pixels + down * columns + right
        place = np.minimum(np.searchsorted(pixels, wanted), pixels.size - 1)
        one = np.flatnonzero(inside & (pixels[place] == wanted))
        ones.append(one)
        others.append(place[one])
    one, other = np.concatenate(ones), np.concatenate(others)
    graph = coo_array((np.ones(one.size, np.bool_), (one, other)), shape=(pixels.size, pixels.size))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def described(
    planes: Planes,
    peaks: NDArray[np.int64],
    snr: NDArray[np.float64],
    options: DetectOptions,
    acf: NDArray[np.float64] | None,
) -> Detections:
    """Measure the sources at the given pixels (flat indices): everything but the S/N comes from the image."""
    data, level = planes[0].ravel()[peaks], planes[1].ravel()[peaks]
    found = measure(planes, peaks, mask=FINDING_MASK, fwhm=options.fwhm, gain=options.gain)

    sigma = math.sqrt((options.fwhm / FWHM_OF_SIGMA) ** 2 + PIXEL_VARIANCE)
    offsets = np.arange(-math.ceil(3.5 * sigma), math.ceil(3.5 * sigma) + 1, dtype=np.float64)
    window = np.exp(-0.5 * (offsets / sigma) ** 2)
    factors = noise_factor(offsets * window, window, acf), noise_factor(window, offsets * window, acf)
    # without a usable centroid: the bound for a Gaussian star in the noise of the sky, sqrt(2) sigma / SNR
    errors = [
        np.where(np.isfinite(error), error * factor, math.sqrt(2.0) * sigma / snr)
        for error, factor in zip((found.x_error, found.y_error), factors, strict=True)
    ]
    star = gaussian_profile(options.fwhm)
    flux_factor = noise_factor(star, star, acf)
    with np.errstate(invalid="ignore"):  # NaN in the data or the moments is carried on purpose
        peak = np.where(np.isfinite(data), data - level, found.flux * star.max() ** 2).astype(np.float64)
        size, ellipticity, theta = position_angle(found.xx, found.xy, found.yy)
    return Detections(
        x=found.x,
        y=found.y,
        x_error=errors[0],
        y_error=errors[1],
        peak=peak,
        flux=found.flux,
        flux_error=found.flux_error * flux_factor,
        snr=snr,
        fwhm=full_width(size, _common_profile(found.profile, snr)),
        ellipticity=ellipticity,
        theta=theta,
        flags=found.flags | np.where(found.inside, np.uint32(0), flagtable.EDGE),
    )


def _common_profile(profile: NDArray[np.float64], snr: NDArray[np.float64]) -> float:
    """The stars of an image share their profile: the median above S/N 50, or 20 if those are few; 1 without any."""
    # not the n brightest: of equal stars those centred on a pixel are, and theirs look sharper
    for least, fewest in ((50, 20), (20, 1)):
        usable = profile[np.isfinite(profile) & (snr > least)]
        if usable.size >= fewest:
            return float(np.median(usable))
    return 1.0
