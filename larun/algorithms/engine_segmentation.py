"""Image segmentation with deblending by photutils, behind larun's own interface."""

from __future__ import annotations

import warnings
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.detect import FINDING_MASK
from larun.algorithms.engines import (
    Found,
    Search,
    between,
    correlated_factor,
    nothing,
    one_of,
    photutils_background,
    searchable,
)
from larun.algorithms.peaks import gaussian_profile, noise_factor, signal_to_noise

__all__ = ["SegmentationOptions", "find"]

_MODES = ("exponential", "linear", "sinh")


@attrs.frozen(kw_only=True)
class SegmentationOptions:
    """Options of ``photutils.segmentation``.

    Parameters
    ----------
    min_area : int
        Least number of connected pixels above the threshold.
    connectivity : {8, 4}
        Whether pixels that touch at a corner are connected.
    deblend : bool
        Separate sources that overlap.
    levels : int
        Levels between the threshold and the peak of a source at which the deblending looks for branches.
    contrast : float
        Least share of the source's flux that makes a branch a source of its own, from 0 (every local maximum) to 1.
    mode : {"exponential", "linear", "sinh"}
        Spacing of the levels.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    min_area: int = attrs.field(default=5, validator=between(1, 1e6, whole=True))
    connectivity: int = attrs.field(default=8, validator=one_of(8, 4))
    deblend: bool = attrs.field(default=True, validator=one_of(True, False))
    levels: int = attrs.field(default=32, validator=between(1, 1024, whole=True))
    contrast: float = attrs.field(default=0.001, validator=between(0, 1))
    mode: str = attrs.field(default="exponential", validator=one_of(*_MODES))


def find(search: Search, options: SegmentationOptions | None = None) -> Found:
    """Find sources as connected pixels of the S/N image, and separate those that overlap.

    *Threshold*: ``min_area`` connected pixels must lie above this S/N in the image filtered with a Gaussian of the
    FWHM of the stars, less a ``Background2D``, in units of its noise: the image whose maxima ``method="matched"``
    takes. ``snr`` is the highest of the source's pixels.

    *Flux*: the sum of the unfiltered pixels of the segment. *Position*: their barycentre. Neither error knows that
    noise also decides which pixels belong to the segment: near the threshold, both scatter up to 1.3 times as much as
    the errors say.

    Unusable pixels belong to no source, and drop out of the filter.

    Parameters
    ----------
    search : Search
        The image and what to look for.
    options : SegmentationOptions, optional
        Default: those of photutils, and an area of 5 pixels.

    Returns
    -------
    Found
        ``x``, ``y`` and their errors, ``snr``, ``flux``, ``flux_error``, ``peak`` and ``level``.

    Raises
    ------
    OptionError
        If the image is smaller than 8 × 8 pixels.
    """
    from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources

    options = options or SegmentationOptions()
    if not searchable(search, "segmentation"):
        return nothing(search.level)
    level = photutils_background(search)
    variance = np.where(search.unusable, np.float32(np.nan), search.noise**2).astype(np.float32)
    star = gaussian_profile(search.fwhm)
    image = signal_to_noise(
        (search.data, level, variance, search.flags), FINDING_MASK, star, noise_factor(star, star, search.acf)
    )
    size, touching = int(options.min_area), int(options.connectivity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # photutils warns of nothing found, and of how it spaced levels
        segments = detect_sources(image, search.threshold, size, connectivity=touching, mask=search.unusable)
        if segments is not None and options.deblend:
            segments = deblend_sources(
                image,
                segments,
                size,
                n_levels=int(options.levels),
                contrast=options.contrast,
                mode=options.mode,
                connectivity=touching,
                progress_bar=False,
            )
        if segments is None:
            return nothing(level)
        signal = search.above(level)
        error = np.sqrt(search.noise.astype(np.float64) ** 2 + np.maximum(signal, 0) / search.gain)
        measured = SourceCatalog(signal.astype(np.float64), segments, error=error, mask=search.unusable)
        highest = SourceCatalog(image.astype(np.float64), segments, mask=search.unusable)
        x, y, flux, flux_error, peak = (
            np.atleast_1d(np.asarray(getattr(measured, name), np.float64))
            for name in ("x_centroid", "y_centroid", "segment_flux", "segment_flux_err", "max_value")
        )
        area = np.atleast_1d(np.asarray(measured.area.value, np.float64))
        snr = np.atleast_1d(np.asarray(highest.max_value, np.float64))
        top = np.atleast_2d(np.asarray(highest.max_value_index))
    # light that sums to nothing has no barycentre: the highest pixel is what there is
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, top[:, 1]), np.where(known, y, top[:, 0])
    labels = np.where(search.unusable, 0, segments.data)
    x_error, y_error = _centroid_errors(labels, np.asarray(segments.labels), x, y, error)
    with np.errstate(divide="ignore", invalid="ignore"):
        x_error, y_error = x_error / flux, y_error / flux
    if search.acf is not None:
        sides = np.maximum(1, np.rint(np.sqrt(area))).astype(int)
        factor = np.array([correlated_factor(np.ones((side, side)), search.acf) for side in sides])
        flux_error, x_error, y_error = flux_error * factor, x_error * factor, y_error * factor
    # without a barycentre, the error of a position that is only that of the highest pixel
    worst = np.where(known & (flux > 0), 0.0, search.fwhm / 2)
    return Found(
        x=x,
        y=y,
        snr=snr,
        flux=flux,
        flux_error=flux_error,
        peak=peak,
        x_error=np.where(worst > 0, worst, x_error),
        y_error=np.where(worst > 0, worst, y_error),
        level=level,
    )


def _centroid_errors(
    labels: NDArray[Any],
    wanted: NDArray[Any],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    error: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors of barycentres times the flux: the root of Σ (x − x̄)² σ² over each segment."""
    row, column = np.nonzero(labels)
    which = np.searchsorted(wanted, labels[row, column])
    variance = error[row, column] ** 2
    made = [
        np.sqrt(np.bincount(which, (place - centre[which]) ** 2 * variance, minlength=len(wanted)))
        for place, centre in ((column, x), (row, y))
    ]
    return made[0], made[1]
