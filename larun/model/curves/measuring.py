"""Forced photometry of the same stars in every frame of a series, in several apertures at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.annulus import Annulus, Neighbours, annulus_sky, mask_radius
from larun.algorithms.aperture import Photometry, aperture_sums, photometry
from larun.algorithms.detect import checked_planes
from larun.algorithms.morphology import windowed
from larun.algorithms.psf import moffat_psf
from larun.errors import LarunWarning, NotAligned, OptionError
from larun.model.aligning.transforms import Alignment
from larun.model.curves.epochs import Epoch, aligned
from larun.model.curves.options import LightCurveOptions
from larun.model.measure.ellipses import values_of
from larun.model.planes import correlation_around, total_variance
from larun.provenance import unrecorded

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.sky import SkyImage

__all__ = [
    "Aperture",
    "Series",
    "Stars",
    "candidates",
    "check_inside",
    "flagged",
    "lay",
    "measure_series",
    "snapped",
    "trusted",
]

Floats = NDArray[np.float64]

_LADDER = (0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 2.9, 3.5)  # FWHM, of the apertures that are tried
ANNULUS = (5.0, 8.0)  # FWHM
_SNAP = 2.0  # FWHM between a place and the star that is meant
_APART = 4.0  # FWHM within which a neighbour spoils a comparison star
_SHARE = 0.02  # of its light, that a neighbour may have
_SNR = 30.0
_INSIDE = 0.9  # of the frames, that must show a comparison star
BAD = int(fl.UNUSABLE | fl.EDGE)
STATIC = int(fl.BAD | fl.FLAT_INVALID)  # bits of pixels that are bad in all frames
_BETA = 3.0
MOST_HIDDEN = 0.05  # of a star's light, that may be put back
DOUBT = 0.125  # of it


def trusted(flags: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether nothing in an aperture is wrong, or only static bad pixels whose light was put back."""
    bits = np.asarray(flags, np.uint32)
    mended = (bits & np.uint32(fl.INTERPOLATED)) != 0
    wrong = np.where(mended, bits & np.uint32(BAD & ~STATIC), bits & np.uint32(BAD))
    return np.asarray(wrong == 0)


class Aperture(NamedTuple):
    """A radius: in pixels, or as a multiple of the FWHM of each frame; of a PSF (unit ``"psf"``) there is none."""

    radius: float
    unit: str

    def pixels(self, fwhm: float) -> float:
        """In a frame with stars of this FWHM."""
        return self.radius * fwhm if self.unit == "fwhm" else self.radius

    def __str__(self) -> str:
        return f"{self.radius:.3g} {'FWHM of each frame' if self.unit == 'fwhm' else 'pixels'}"


class Stars(NamedTuple):
    """Stars to be measured, in pixels of the reference: the targets first.

    Attributes
    ----------
    x, y : (n,)
    targets : int
    colour : (n,), optional
        Magnitudes.
    """

    x: Floats
    y: Floats
    targets: int
    colour: Floats | None = None


class Series(NamedTuple):
    """What was measured of n stars in T frames and a apertures.

    Attributes
    ----------
    epochs : list of Epoch
    apertures : tuple of Aperture
    x, y, sky : (T, n)
        Pixels of each frame; sky per pixel.
    flux, error : (T, n, a)
    flags : (T, n, a) uint32
        Of the pixels in an aperture; a flux with one that is bad, or beyond the edge, is not to be trusted.
    told : list of dict
        What is kept of each frame in the record.
    """

    epochs: list[Epoch]
    apertures: tuple[Aperture, ...]
    x: Floats
    y: Floats
    sky: Floats
    flux: Floats
    error: Floats
    flags: NDArray[np.uint32]
    told: list[dict[str, Any]]

    def good(self, aperture: int) -> NDArray[np.bool_]:
        """Which fluxes of an aperture can be trusted, (T, n)."""
        flux = self.flux[:, :, aperture]
        return np.asarray(np.isfinite(flux) & (flux > 0) & trusted(self.flags[:, :, aperture]))


def lay(
    epochs: Sequence[Epoch], reference: Epoch, transform: str
) -> tuple[list[tuple[Epoch, Alignment]], dict[str, str]]:
    """The transform to each frame; frames that do not fit, with the reason.

    Raises
    ------
    NotAligned
        If none fits.
    """
    found, lost = [], {}
    for epoch in epochs:
        try:
            found.append((epoch, aligned(epoch, reference, transform)))
        except NotAligned as error:
            lost[epoch.name] = str(error)
            warnings.warn(f"not in the light curve: {error}", LarunWarning, stacklevel=5)
    if not found:
        raise NotAligned("no frame shows the field of the reference: " + "; ".join(lost.values()))
    return found, lost


def snapped(x: Floats, y: Floats, table: QTable, fwhm: float) -> tuple[Floats, Floats]:
    """Places moved onto the detection that is meant: the nearest within two FWHM, else they stay."""
    from scipy.spatial import cKDTree

    sx, sy = values_of(table, "x"), values_of(table, "y")
    if not len(sx):
        return x, y
    away, index = cKDTree(np.column_stack([sx, sy])).query(
        np.column_stack([x, y]), distance_upper_bound=max(_SNAP * fwhm, 3.0)
    )
    there = np.isfinite(away)
    picked = np.where(there, index, 0)
    return np.where(there, sx[picked], x), np.where(there, sy[picked], y)


def candidates(
    table: QTable, targets: tuple[Floats, Floats], laid: Sequence[tuple[Epoch, Alignment]], fwhm: float, most: int
) -> tuple[Floats, Floats]:
    """Stars of the reference that may serve for comparison, the brightest first.

    They are bright, not saturated, alone, no target, and inside nine of ten frames.
    """
    from scipy.spatial import cKDTree

    x, y, flux, snr = (values_of(table, name) for name in ("x", "y", "flux", "snr"))
    flags = np.asarray(table["flags"], np.uint32)
    good = np.isfinite(flux) & (flux > 0) & (snr > _SNR) & ((flags & np.uint32(BAD)) == 0)
    margin = max(_LADDER) * fwhm + 2
    inside = np.zeros(len(x))
    for epoch, alignment in laid:
        there = alignment.mapping.at(x, y)
        ny, nx = epoch.shape
        inside += (
            (there[0] > margin) & (there[0] < nx - 1 - margin) & (there[1] > margin) & (there[1] < ny - 1 - margin)
        )
    good &= inside >= _INSIDE * len(laid)
    tree = cKDTree(np.column_stack([x, y]))
    for n in np.flatnonzero(good):
        near = np.array([k for k in tree.query_ball_point((x[n], y[n]), _APART * fwhm) if k != n], np.intp)
        good[n] = not len(near) or float(np.sum(np.maximum(flux[near], 0))) < _SHARE * flux[n]
    for tx, ty in zip(*targets, strict=True):
        good &= np.hypot(x - tx, y - ty) > _APART * fwhm
    order = np.flatnonzero(good)
    order = order[np.argsort(-flux[order], kind="stable")][:most]
    return x[order], y[order]


def apertures_of(options: LightCurveOptions, fwhm: float) -> tuple[Aperture, ...]:
    """The apertures that are measured: the one that was asked for, or a ladder of both kinds."""
    if options.radius is not None:
        return (Aperture(options.radius, options.unit),)
    fixed = tuple(Aperture(round(step * fwhm, 3), "pixel") for step in _LADDER)
    return fixed + tuple(Aperture(step, "fwhm") for step in _LADDER)


def measure_series(
    laid: Sequence[tuple[Epoch, Alignment]], stars: Stars, table: QTable, options: LightCurveOptions
) -> Series:
    """Forced photometry of stars in every frame.

    Parameters
    ----------
    laid : sequence of (Epoch, Alignment)
        In order of time.
    stars : Stars
    table : QTable
        Detections of the reference: what may lie in a sky annulus.
    options : LightCurveOptions

    Returns
    -------
    Series
    """
    widths = np.array([epoch.fwhm for epoch, _ in laid])
    typical = float(np.median(widths))
    apertures = apertures_of(options, typical)
    rows = []
    for epoch, alignment in laid:
        radii = [aperture.pixels(epoch.fwhm) for aperture in apertures]
        largest = max(max(aperture.pixels(width) for width in widths) for aperture in apertures)
        inner = max(ANNULUS[0] * typical, largest + typical)
        annulus = Annulus(inner=inner, outer=inner + (ANNULUS[1] - ANNULUS[0]) * typical)
        image = flagged(epoch.image(), options)
        places = alignment.mapping.at(stars.x, stars.y)
        if options.recentre == "each":
            places = _recentred(image, *places, epoch.fwhm)
        rows.append((*places, *_photometered(image, epoch, places, _around(table, alignment), (radii, annulus))))
    x, y, sky, flux, error, bits = (np.stack([row[k] for row in rows]) for k in range(6))
    told = [{"frame": epoch.provenance.id, **alignment.fitted} for epoch, alignment in laid]
    return Series([epoch for epoch, _ in laid], apertures, x, y, sky, flux, error, bits, told)


def flagged(image: SkyImage, options: LightCurveOptions) -> SkyImage:
    """The frame with its cosmic rays flagged, and its pixels as they were."""
    from larun.model.frame import Frame

    if options.clean == "none" or image.provenance.has("clean") or not isinstance(image, Frame):
        return image
    with unrecorded():
        return image.clean(replace=False)


def _around(table: QTable, alignment: Alignment) -> tuple[Floats, Floats, Floats]:
    """Where the detections of the reference lie on a frame, and their light."""
    return *alignment.mapping.at(values_of(table, "x"), values_of(table, "y")), values_of(table, "flux")


def _photometered(
    image: SkyImage,
    epoch: Epoch,
    places: tuple[Floats, Floats],
    around: tuple[Floats, Floats, Floats],
    circles: tuple[list[float], Annulus],
) -> tuple[NDArray[Any], ...]:
    """Sky, fluxes, errors and flags at places of one frame."""
    (x, y), (radii, annulus) = places, circles
    sky = image.background()
    noise = float(np.median(sky.mesh_rms))
    spoils = mask_radius(around[2], epoch.fwhm, noise) if noise > 0 else np.zeros(len(around[2]))
    stars = Neighbours(around[0], around[1], spoils)
    local = annulus_sky(image.data, image.flags, x, y, annulus, neighbours=stars, acf=image.noise_acf)
    if np.isnan(local.level).any():  # where stars leave too little of the annulus, the mesh is what there is
        ny, nx = image.shape
        column, row = (np.clip(np.nan_to_num(v).round().astype(int), 0, n - 1) for v, n in ((x, nx), (y, ny)))
        local = local.filled(sky.level[row, column].astype(float), sky.rms[row, column] / 64.0)
    acf = correlation_around(image, x, y, radii)
    found = photometry(image.data, total_variance(image), image.flags, x, y, radii, sky=local, acf=acf)
    assert found.flux_error is not None
    return local.level, *_completed(image, epoch.fwhm, places, radii, found)


def _completed(
    image: SkyImage, fwhm: float, places: tuple[Floats, Floats], radii: list[float], found: Photometry
) -> tuple[Floats, Floats, NDArray[np.uint32]]:
    """Fluxes, errors and flags, the light on pixels that are bad in all frames put back by the shape of a star.

    Only up to a twentieth of the light, with an error of an eighth of what was put back: a shape is not known better.
    These fluxes get INTERPOLATED beside BAD. What a cosmic ray hit, or an edge cut off, is never put back.
    """
    assert found.flux_error is not None
    bits = found.flags
    static, other = np.uint32(STATIC), np.uint32(BAD & ~STATIC)
    lacking = ((bits & static) != 0) & ((bits & other) == 0) & (found.fraction < 1) & (found.fraction > 0)
    if not lacking.any():
        return found.flux, found.flux_error, bits
    x, y = places
    here = np.isfinite(x) & np.isfinite(y)
    shape = moffat_psf(fwhm, _BETA).draw(image.shape, x[here], y[here], np.ones(int(here.sum()))).astype(np.float32)
    clear = np.zeros(image.shape, np.uint32)
    whole, seen = (aperture_sums(shape, None, flags, x, y, radii).sum for flags in (clear, image.flags))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = seen / whole
        mended = lacking & (share > 1 - MOST_HIDDEN) & (share <= 1)
        flux = np.where(mended, found.flux / share, found.flux)
        error = np.where(mended, np.hypot(found.flux_error / share, DOUBT * (1 - share) * flux), found.flux_error)
    return flux, error, np.where(mended, bits | np.uint32(fl.INTERPOLATED), bits)


def _recentred(image: SkyImage, x: Floats, y: Floats, fwhm: float) -> tuple[Floats, Floats]:
    sky = image.background()
    planes = checked_planes(image.data, sky.level, sky.variance, image.flags)
    found = windowed(planes, x, y, size=np.full(len(x), fwhm), fwhm=fwhm, mask=int(fl.UNUSABLE & ~fl.SATURATED))
    near = np.hypot(found.x - x, found.y - y) < 0.5 * fwhm
    return np.where(near, found.x, x), np.where(near, found.y, y)


def check_inside(stars: Stars, reference: Epoch) -> None:
    """Refuse targets that are not on the reference.

    Raises
    ------
    OptionError
        If one is beyond it.
    """
    ny, nx = reference.shape
    for x, y in zip(stars.x[: stars.targets], stars.y[: stars.targets], strict=True):
        if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
            raise OptionError(f"target at ({x:.1f}, {y:.1f}): is not on {reference.name}, {nx} × {ny} pixels")
