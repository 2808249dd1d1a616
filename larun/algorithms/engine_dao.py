"""DAOFIND by photutils (Stetson 1987, PASP 99, 191), behind larun's own interface."""

from __future__ import annotations

import warnings
from typing import Any

import attrs
import numpy as np

from larun.algorithms.engines import (
    Found,
    Search,
    between,
    correlated_factor,
    footprint_error,
    nothing,
    one_of,
    photutils_background,
    searchable,
)
from larun.errors import OptionError

__all__ = ["DaoOptions", "find"]

#: How DAOFIND's positions scatter against the best ones (factor; pixels, from where in its pixel a star lies): by
#: simulation of Gaussian and Moffat stars of FWHM 2 to 5 px and S/N 20 to 1000.
_SPREAD = (1.3, 0.012)


def _limits(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _range(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value)):
        raise OptionError(f"DaoOptions: {attribute.name} = {value!r}: must be (lowest, highest), or None for no limit")
    if not value[0] < value[1]:
        raise OptionError(f"DaoOptions: {attribute.name} = {value}: the lowest must be below the highest")


@attrs.frozen(kw_only=True)
class DaoOptions:
    """Options of ``photutils.detection.DAOStarFinder``.

    Parameters
    ----------
    sharpness, roundness : (float, float) or None
        What is kept; both measures of roundness must lie within. None for no limit.
    sigma_radius : float
        Radius of the kernel, in standard deviations of its Gaussian.
    ratio, theta : float
        Minor over major axis of the kernel, and the angle of the major axis in degrees from +x towards +y.
    separation : float
        Least distance of two sources, in FWHM; 0 for DAOFIND's own rule, the reach of the kernel.
    exclude_border : bool
        Leave out what lies nearer to the border than half the kernel.

    Raises
    ------
    OptionError
        If a value is out of range.
    """

    sharpness: tuple[float, float] | None = attrs.field(default=(0.2, 1.0), converter=_limits, validator=_range)
    roundness: tuple[float, float] | None = attrs.field(default=(-1.0, 1.0), converter=_limits, validator=_range)
    sigma_radius: float = attrs.field(default=1.5, validator=between(0.5, 10))
    ratio: float = attrs.field(default=1.0, validator=between(0.01, 1))
    theta: float = attrs.field(default=0.0, validator=between(-360, 360))
    separation: float = attrs.field(default=1.0, validator=between(0, 100))
    exclude_border: bool = attrs.field(default=False, validator=one_of(True, False))


def find(search: Search, options: DaoOptions | None = None) -> Found:
    """Find stars with ``DAOStarFinder`` over a ``Background2D``.

    *Threshold*: least S/N of the image convolved with DAOFIND's lowered Gaussian (its sum is zero), at the pixel of the
    maximum; the noise is larun's smooth noise at that pixel, carried through the kernel. ``snr`` is that ratio.

    *Flux*: the sum of the pixels in the kernel's square, above the background. *Position*: DAOFIND's fit of the
    marginal distributions; its error is that of larun's own centroid, made larger by what was simulated.

    A pixel that is unusable counts as sky, and no star is found in it.

    Parameters
    ----------
    search : Search
        The image and what to look for.
    options : DaoOptions, optional
        Default: photutils' own, but for ``separation``.

    Returns
    -------
    Found
        ``x``, ``y``, ``snr``, ``flux``, ``flux_error``, ``peak`` and ``level``.

    Raises
    ------
    OptionError
        If the image is smaller than 8 × 8 pixels.
    """
    from photutils.detection import DAOStarFinder
    from photutils.utils.exceptions import NoDetectionsWarning

    options = options or DaoOptions()
    if not searchable(search, "dao"):
        return nothing(search.level)
    level = photutils_background(search)
    values: dict[str, Any] = {
        "fwhm": search.fwhm,
        "ratio": options.ratio,
        "theta": options.theta,
        "sigma_radius": options.sigma_radius,
        "sharpness_range": options.sharpness,
        "roundness_range": options.roundness,
        "exclude_border": options.exclude_border,
        "min_separation": options.separation * search.fwhm,
    }
    kernel = np.asarray(DAOStarFinder(1.0, **values).kernel.data, np.float64)
    limit = search.threshold * correlated_factor(kernel, search.acf) * search.noise
    finder = DAOStarFinder(limit, **values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        table = finder.find_stars(search.above(level), mask=search.unusable)
    if table is None:
        return nothing(level)
    x, y, flux, peak, magnitude, pixels = (
        np.asarray(table[name], np.float64)
        for name in ("x_centroid", "y_centroid", "flux", "peak", "daofind_mag", "n_pixels")
    )
    return Found(
        x=x,
        y=y,
        snr=search.threshold * 10 ** (-0.4 * magnitude),
        flux=flux,
        flux_error=footprint_error(search, pixels, flux, x, y),
        peak=peak,
        level=level,
        spread=_SPREAD,
    )
