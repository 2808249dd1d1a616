"""SExtractor's detection by sep (Barbary 2016, JOSS 1, 58; Bertin & Arnouts 1996), behind larun's own interface."""

from __future__ import annotations

import threading

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.detect import FINDING_MASK
from larun.algorithms.engines import (
    Found,
    Search,
    between,
    correlated_factor,
    footprint_error,
    nothing,
    one_of,
    searchable,
)
from larun.algorithms.peaks import gaussian_profile, signal_to_noise
from larun.errors import OptionError

__all__ = ["SepOptions", "find", "kernel_of"]

# SExtractor's default.conv
_DEFAULT = np.array([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]])
_KERNELS = ("default", "gaussian", "none")
_LOCK = threading.Lock()  # sep keeps the size of its pixel buffer in a global


@attrs.frozen(kw_only=True)
class SepOptions:
    """Options of ``sep.extract``.

    Parameters
    ----------
    min_area : int
        Least number of connected pixels above the threshold.
    kernel : {"default", "gaussian", "none"}
        What the image is filtered with: SExtractor's 3 × 3 pyramid, a Gaussian of the FWHM of the stars, or nothing.
    deblend_levels : int
        Thresholds of the deblending, spaced exponentially between the threshold and the peak.
    deblend_contrast : float
        Least share of the flux that makes a branch a source of its own; 1 for no deblending.
    clean : bool
        Remove what the wings of brighter neighbours would have made by themselves.
    clean_parameter : float
        How steep those wings are assumed to be; lower removes more.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    min_area: int = attrs.field(default=5, validator=between(1, 1e6, whole=True))
    kernel: str = attrs.field(default="default", validator=one_of(*_KERNELS))
    deblend_levels: int = attrs.field(default=32, validator=between(1, 1024, whole=True))
    deblend_contrast: float = attrs.field(default=0.005, validator=between(0, 1))
    clean: bool = attrs.field(default=True, validator=one_of(True, False))
    clean_parameter: float = attrs.field(default=1.0, validator=between(0.1, 10))


def kernel_of(options: SepOptions, fwhm: float) -> NDArray[np.float64] | None:
    """The filter of ``sep.extract`` that the options mean."""
    if options.kernel == "none":
        return None
    if options.kernel == "default":
        return _DEFAULT
    profile = gaussian_profile(fwhm)
    return np.ascontiguousarray(np.outer(profile, profile))


def find(search: Search, options: SepOptions | None = None) -> Found:
    """Find sources with ``sep.extract`` over a ``sep.Background``.

    *Threshold*: ``min_area`` connected pixels must lie above this S/N of the image filtered with the kernel (sep's
    matched filter, which knows the noise of every pixel); the noise is larun's smooth noise. ``snr`` is that of the
    highest filtered pixel: for the default area of 5 pixels it is well above the threshold for every source.

    *Flux*: the isophotal sum, of the unfiltered pixels above the threshold. *Position*: their barycentre, with the
    error that sep gives. Neither error knows that noise also decides which pixels lie above the threshold: near the
    threshold, positions scatter up to 1.6 times, fluxes up to 1.5 times as much as the errors say.

    sep wants writable arrays of native type and gets copies. Unusable pixels are masked: no signal and infinite noise.

    Parameters
    ----------
    search : Search
        The image and what to look for.
    options : SepOptions, optional
        Default: those of SExtractor.

    Returns
    -------
    Found
        ``x``, ``y`` and their errors, ``snr``, ``flux``, ``flux_error``, ``peak`` and ``level``.

    Raises
    ------
    OptionError
        If the image is smaller than 8 × 8 pixels, or sep gives up on a blend.
    """
    import sep

    options = options or SepOptions()
    if not searchable(search, "sep"):
        return nothing(search.level)
    mask = search.unusable.copy()
    data = np.where(mask, np.float32(0), search.data).astype(np.float32)
    ny, nx = data.shape
    level = sep.Background(data, mask=mask, bw=min(search.mesh, nx), bh=min(search.mesh, ny)).back()
    kernel = kernel_of(options, search.fwhm)
    weights = np.ones((1, 1)) if kernel is None else kernel
    factor = correlated_factor(weights, search.acf)
    noise = np.array(search.noise * np.float32(factor), np.float32)
    with _LOCK:
        before = sep.get_extract_pixstack()
        sep.set_extract_pixstack(max(before, data.size))
        try:
            objects = sep.extract(
                search.above(level),
                search.threshold,
                err=noise,
                gain=search.gain,
                mask=mask,
                minarea=int(options.min_area),
                filter_kernel=kernel,
                filter_type="matched",
                deblend_nthresh=int(options.deblend_levels),
                deblend_cont=options.deblend_contrast,
                clean=options.clean,
                clean_param=options.clean_parameter,
            )
        except Exception as error:  # sep raises plain Exception
            raise OptionError(
                f"sep gave up: {error} (threshold = {search.threshold:g}, {options}): raise the threshold, or "
                "set deblend_contrast to 1 for no deblending"
            ) from error
        finally:
            sep.set_extract_pixstack(before)
    x, y, flux, peak, pixels = (np.asarray(objects[n], np.float64) for n in ("x", "y", "flux", "peak", "npix"))
    # sep does not tell the S/N of the filtered peak; all its kernels are products of one profile along x and y
    profile = weights[len(weights) // 2] / weights[len(weights) // 2].sum()
    variance = np.where(mask, np.float32(np.nan), search.noise**2).astype(np.float32)
    level = np.asarray(level, np.float32)
    image = signal_to_noise((search.data, level, variance, search.flags), FINDING_MASK, profile, factor)
    snr = image[objects["ycpeak"].astype(int), objects["xcpeak"].astype(int)].astype(np.float64)
    return Found(
        x=x,
        y=y,
        snr=np.maximum(snr, search.threshold),  # it is above, even where so many pixels are missing that none can tell
        flux=flux,
        flux_error=footprint_error(search, pixels, flux, x, y),
        peak=peak,
        x_error=np.sqrt(np.asarray(objects["errx2"], np.float64)),
        y_error=np.sqrt(np.asarray(objects["erry2"], np.float64)),
        level=level,
    )
