"""What is kept of a science frame for the tests of a night: numbers and its brightest stars, no planes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.aperture import aperture_sums
from larun.algorithms.hollow import hollowness
from larun.model.checks.noisefacts import NoiseFacts, noise_facts
from larun.model.checks.skyfacts import SkyFacts, sky_facts
from larun.model.measure.ellipses import values_of
from larun.model.planes import pixel_scale, total_variance

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["FrameFacts", "StarFacts", "frame_facts"]

_MOST_STARS = 3000
_FEWEST = 5  # stars that a median needs


class StarFacts(NamedTuple):
    """The brightest stars of a frame that are neither saturated nor cut off, by falling flux; (n,) each, float64.

    Attributes
    ----------
    x, y : ndarray
        Centres, pixels.
    flux, flux_error : ndarray
        In the aperture the catalogue calls its second (about 1.5 FWHM), sky subtracted, electrons; the error is all
        that the noise model says.
    snr, fwhm, ellipticity, theta : ndarray
        Of the detection.
    masters_error : ndarray
        The part of ``flux_error`` that the masters bring: the same in every frame that has them, as long as a star
        stays on its pixels.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    snr: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    ellipticity: NDArray[np.float64]
    theta: NDArray[np.float64]
    masters_error: NDArray[np.float64]


@attrs.frozen(kw_only=True, eq=False)
class FrameFacts:
    """Facts about one science frame and its catalogue.

    Parameters
    ----------
    name : str
        Of the raw file.
    shape : (int, int)
        Rows and columns.
    filter, object : str or None
        From the header.
    exposure : float or None
        Seconds.
    mid_jd : float or None
        Middle of the exposure, Julian date (UTC).
    airmass : float or None
        As stated or computed.
    center : (float, float) or None
        Right ascension and declination of the middle of the array, degrees, where there is a WCS.
    scale : float or None
        Arcseconds per pixel, where there is a WCS.
    sources, saturated, cosmic_pixels : int
        Sources; saturated pixels; pixels that cosmic rays hit.
    fwhm, ellipticity, theta : float
        Medians of the brighter stars: pixels; 1 - b/a; degrees. NaN where there are too few.
    alignment : float
        Length of the mean of ``ellipticity exp(2 i theta)``: as large as the ellipticity if all are drawn out alike.
    hollow : float
        Part of the light of their brightest ring that is missing in the middle of the stars: 0 in focus.
    stars : StarFacts
        The brightest stars.
    sky : SkyFacts
        Level, gradients and structure of the sky.
    noise : NoiseFacts
        Pixels and empty apertures against the noise model.
    """

    name: str
    shape: tuple[int, int]
    filter: str | None
    object: str | None
    exposure: float | None
    mid_jd: float | None
    airmass: float | None
    center: tuple[float, float] | None
    scale: float | None
    sources: int
    saturated: int
    cosmic_pixels: int
    fwhm: float
    ellipticity: float
    theta: float
    alignment: float
    hollow: float
    stars: StarFacts
    sky: SkyFacts
    noise: NoiseFacts


def frame_facts(name: str, frame: Frame, catalog: SourceCatalog) -> FrameFacts:
    """The facts about a calibrated frame and the catalogue that was measured on it.

    Parameters
    ----------
    name : str
        Of the raw file.
    frame : Frame
        Calibrated, in electrons.
    catalog : SourceCatalog
        Of its sources, with aperture photometry.
    """
    stars = _stars(frame, catalog)
    bright = slice(0, max(_FEWEST, len(stars.x) // 2))
    shapes = stars.ellipticity[bright] * np.exp(2j * np.deg2rad(stars.theta[bright]))
    shapes = shapes[np.isfinite(shapes)]
    mean = complex(np.mean(shapes)) if shapes.size >= _FEWEST else complex(math.nan, math.nan)
    time = frame.time
    return FrameFacts(
        name=name,
        shape=frame.shape,
        filter=frame.filter,
        object=frame.quantity_of(frame.header, "object"),
        exposure=frame.exposure,
        mid_jd=None if time.mid_text is None else time.jd_utc,
        airmass=time.airmass,
        center=_center(frame),
        scale=pixel_scale(frame),
        sources=len(catalog.table),
        saturated=int(np.count_nonzero(frame.flags & fl.SATURATED)),
        cosmic_pixels=int(np.count_nonzero(frame.flags & fl.COSMIC)),
        fwhm=_median(stars.fwhm[bright]),
        ellipticity=_median(stars.ellipticity[bright]),
        theta=float(np.rad2deg(np.angle(mean)) / 2),
        alignment=abs(mean),
        hollow=hollowness(frame.data, stars.x, stars.y, _median(stars.fwhm[bright])),
        stars=stars,
        sky=sky_facts(frame, catalog),
        noise=noise_facts(frame, catalog),
    )


def _stars(frame: Frame, catalog: SourceCatalog) -> StarFacts:
    table = catalog.table
    number = 2 if "aperture_flux_2" in table.colnames else 1
    names = (
        "x",
        "y",
        f"aperture_flux_{number}",
        f"aperture_flux_error_{number}",
        "snr",
        "fwhm",
        "ellipticity",
        "theta",
    )
    columns = [values_of(table, name) for name in names]
    spoilt = fl.UNUSABLE | fl.SATURATED
    flags = np.asarray(table["flags"]) | np.asarray(table[f"aperture_flags_{number}"])
    whole = np.asarray(table[f"area_fraction_{number}"]) > 0.999
    good = np.flatnonzero(((flags & spoilt) == 0) & whole & np.isfinite(columns[2]) & (columns[3] > 0))
    good = good[np.argsort(-columns[2][good], kind="stable")][:_MOST_STARS]
    chosen = [column[good] for column in columns]
    radius = catalog.table.meta["aperture_radii"][number - 1]
    chosen.append(_masters_error(frame, chosen[0], chosen[1], radius))
    return StarFacts(*chosen)


def _masters_error(frame: Frame, x: NDArray[np.float64], y: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """1 σ that the noise of the masters gives to sums in apertures."""
    total = total_variance(frame)
    if frame.variance is None or total is None or total is frame.variance or not len(x):
        return np.zeros(len(x))
    found = aperture_sums(frame.data, total - frame.variance, frame.flags, x, y, [radius]).variance
    assert found is not None
    return np.sqrt(np.maximum(found[:, 0], 0.0))


def _median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size >= _FEWEST else math.nan


def _center(frame: Frame) -> tuple[float, float] | None:
    wcs = frame.wcs
    if wcs is None:
        return None
    ny, nx = frame.shape
    ra, dec = wcs.wcs_pix2world([[(nx - 1) / 2, (ny - 1) / 2]], 0)[0]
    return (float(ra), float(dec)) if math.isfinite(ra) and math.isfinite(dec) else None
