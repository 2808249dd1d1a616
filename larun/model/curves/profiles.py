"""Forced photometry of the same stars in every frame of a series, with the point-spread function of each frame."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms import psf as functions
from larun.algorithms.annulus import Annulus, Neighbours, annulus_sky, mask_radius
from larun.algorithms.arrays import read_only
from larun.algorithms.peaks import Planes
from larun.algorithms.planefit import fit_plane
from larun.algorithms.psf_crowd import SearchOptions, solve_crowd
from larun.algorithms.psf_field import FieldFits, FieldOptions, solve_field
from larun.algorithms.psf_fit import fit_reach
from larun.errors import CatalogError, LarunError, LarunWarning, NotAligned, OptionError
from larun.model.aligning.transforms import Alignment
from larun.model.curves.epochs import Epoch
from larun.model.curves.measuring import (
    ANNULUS,
    BAD,
    DOUBT,
    MOST_HIDDEN,
    STATIC,
    Aperture,
    Series,
    Stars,
    flagged,
    measure_series,
)
from larun.model.curves.options import LightCurveOptions
from larun.model.measure.ellipses import values_of
from larun.model.planes import correlation_around
from larun.model.pointspread.making import photon_gain, sky_planes
from larun.model.pointspread.photometry import elsewhere
from larun.provenance import unrecorded

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.psf import PSF
    from larun.model.sky import SkyImage

__all__ = ["Profile", "Work", "asked", "fit_series", "profiles_of", "resolved"]

Floats = NDArray[np.float64]

_STRAY = 2.0  # FWHM that a star found beneath another may go: two that were taken for one are divided
_SAME = 0.7  # FWHM: a source of the reference that is nearer to a star is that star
_NEAR = 8.0  # FWHM around a star, within which others are fitted with it
_ANCHOR_SNR = 20.0  # of a comparison star, by which places are corrected
_FOR_PLANE, _FOR_SHIFT = 8, 3  # stars that a correction by a plane, or by a shift, needs
#: In place of a radius: the light of the whole star.
_WHOLE = (Aperture(float("nan"), "psf"),)


class Profile(NamedTuple):
    """The point-spread function of a frame, and what is told of it."""

    function: functions.PSF
    facts: dict[str, Any]

    @classmethod
    def of(cls, psf: PSF) -> Profile:
        """Of a PSF, without its stars."""
        facts = {"model": psf.model, "fwhm": float(psf.fwhm), "order": int(psf.order), "chi2": float(psf.chi2)}
        return cls(psf.function, facts)


class Work(NamedTuple):
    """How the frames of a series are measured: in apertures, or by the PSF of each.

    Attributes
    ----------
    laid : list of (Epoch, Alignment)
        Frames that can be.
    sources : QTable
        Of the reference.
    lost : dict
        Frames that cannot, with the reason.
    profiles : dict, optional
        PSFs by the id of a frame's record.
    """

    laid: list[tuple[Epoch, Alignment]]
    sources: QTable
    lost: dict[str, str]
    profiles: dict[str, Profile] | None

    @classmethod
    def by_apertures(cls, laid: list[tuple[Epoch, Alignment]], image: SkyImage) -> Work:
        """With the detections of the reference."""
        with unrecorded():
            return cls(laid, image.detect()._table, {}, None)

    @classmethod
    def by_psf(
        cls, laid: list[tuple[Epoch, Alignment]], base: Epoch, given: list[PSF] | None, options: LightCurveOptions
    ) -> Work:
        """With the PSFs of all frames, and the sources of the reference as its PSF sees them.

        Raises
        ------
        CatalogError
            If the reference gives none.
        NotAligned
            If no frame does.
        """
        profiles, lost = profiles_of(laid, base, given, options)
        sources = resolved(flagged(base.image(), options), profiles[base.provenance.id])
        return cls([one for one in laid if one[0].provenance.id in profiles], sources, lost, profiles)

    def measured(self, stars: Stars, options: LightCurveOptions) -> Series:
        """What is measured of the stars."""
        if self.profiles is None:
            return measure_series(self.laid, stars, self.sources, options)
        return fit_series(self.laid, stars, self.sources, self.profiles, options)

    def used(self, given: list[PSF] | None) -> list[PSF]:
        """Of the PSFs that were handed over those that were used, in order of time."""
        if given is None or len(given) == 1:
            return given or []
        return [given[epoch.number] for epoch, _ in self.laid if epoch.number is not None]


def asked(method: Any, frames: int) -> list[PSF] | None:
    """The PSFs that were handed over as a method: one for all frames, or one for each.

    Raises
    ------
    OptionError
        If there are as many as neither.
    """
    from larun.model.psf import PSF

    if isinstance(method, str):
        return None
    given = [method] if isinstance(method, PSF) else list(method)
    if not given or not all(isinstance(one, PSF) for one in given):
        raise OptionError("method: must be 'aperture', 'psf', a PSF, or a PSF for each frame, in their order")
    if len(given) not in (1, frames):
        raise OptionError(f"method: {len(given)} PSFs for {frames} frames: give one for all, or one for each")
    return given


def profiles_of(
    laid: Sequence[tuple[Epoch, Alignment]], base: Epoch, given: list[PSF] | None, options: LightCurveOptions
) -> tuple[dict[str, Profile], dict[str, str]]:
    """The PSF of each frame by the id of its record; and the frames that give none, with the reason.

    Raises
    ------
    CatalogError
        If the reference gives none.
    NotAligned
        If no frame does.
    """
    found, lost = {}, {}
    for epoch in [base, *(epoch for epoch, _ in laid if epoch is not base)]:
        try:
            made = _own(epoch, given, options)
        except LarunError as error:
            if epoch is base:
                raise CatalogError(
                    f"{epoch.name}: gives no PSF, and is the reference: name another with reference=, or use "
                    f"method='aperture' ({error})"
                ) from error
            lost[epoch.name] = f"no PSF: {error}"
            warnings.warn(f"not in the light curve: {epoch.name} gives no PSF: {error}", LarunWarning, stacklevel=5)
            continue
        found[epoch.provenance.id] = Profile.of(made)
    if not any(epoch.provenance.id in found for epoch, _ in laid):
        raise NotAligned("no frame gives a PSF: " + "; ".join(f"{name}: {why}" for name, why in lost.items()))
    return found, lost


def _own(epoch: Epoch, given: list[PSF] | None, options: LightCurveOptions) -> PSF:
    if given is not None and (len(given) == 1 or epoch.number is not None):
        return given[0] if len(given) == 1 else given[epoch.number or 0]
    with unrecorded():
        return flagged(epoch.image(), options).psf()


def resolved(image: SkyImage, profile: Profile) -> QTable:
    """The sources of the reference where PSF photometry sees them, those beneath others too.

    Columns are those of a detection, ``x``, ``y`` and ``flux`` by the PSF.
    """
    with unrecorded():
        table = image.detect()._table
        fits, count, _ = solve_crowd(
            sky_planes(image),
            profile.function,
            np.column_stack([values_of(table, "x"), values_of(table, "y")]),
            options=FieldOptions(gain=photon_gain(image)),
            search=SearchOptions(stray=_STRAY),
            sky=lambda model: sky_planes(image, model)[1:3],
        )
    return _listed(table, fits, count)


def _listed(table: QTable, fits: FieldFits, count: int) -> QTable:
    """A detection's table with places and fluxes by the PSF; of what was found beneath, nothing else is known."""
    from astropy.table import QTable

    known = np.isfinite(fits.flux[:count]) & fits.converged[:count]
    made = QTable(meta=dict(table.meta))
    for name, values in (("x", fits.x), ("y", fits.y), ("flux", fits.flux)):
        made[name] = np.concatenate([np.where(known, values[:count], values_of(table, name)), values[count:]])
    beneath = fits.flux.size - count
    made["snr"] = np.concatenate([values_of(table, "snr"), np.full(beneath, np.nan)])
    made["flags"] = np.concatenate([np.asarray(table["flags"], np.uint32), fits.flags[count:]])
    made.meta["beneath"] = beneath
    return made


def fit_series(
    laid: Sequence[tuple[Epoch, Alignment]],
    stars: Stars,
    table: QTable,
    profiles: Mapping[str, Profile],
    options: LightCurveOptions,
) -> Series:
    """Fluxes of stars in every frame by its PSF, neighbours fitted with them.

    Places are those of the reference, carried to each frame by its stars and corrected by how the comparison stars lie
    there when their places are fitted: a place that is off costs light, the more the better the seeing. The sky is that
    of an annulus around each star, from which the stars are subtracted.

    Parameters
    ----------
    laid : sequence of (Epoch, Alignment)
        In order of time.
    stars : Stars
    table : QTable
        Sources of the reference, see :func:`resolved`.
    profiles : mapping
        By the id of the record of a frame.
    options : LightCurveOptions

    Returns
    -------
    Series
        With one "aperture" for the whole light, and what is told of the PSF of each frame.
    """
    typical = float(np.median([epoch.fwhm for epoch, _ in laid]))
    x, y = _together(stars, table, typical)
    rows, told = [], []
    for epoch, alignment in laid:
        profile = profiles[epoch.provenance.id]
        image = flagged(epoch.image(), options)
        spoils = *alignment.mapping.at(values_of(table, "x"), values_of(table, "y")), values_of(table, "flux")
        frame = _Frame(image, profile.function, epoch.fwhm, typical, spoils)
        row, moved = frame.measured(alignment.mapping.at(x, y), stars, options)
        rows.append(row)
        facts = {
            **profile.facts,
            "neighbours": len(x) - len(stars.x),
            "correction": [round(float(part), 4) for part in moved],
        }
        told.append({"frame": epoch.provenance.id, **alignment.fitted, "psf": facts})
    px, py, sky, flux, error, bits = (np.stack([row[k] for row in rows]) for k in range(6))
    whole = flux[:, :, None], error[:, :, None], bits[:, :, None]
    return Series([epoch for epoch, _ in laid], _WHOLE, px, py, sky, *whole, told)


def _together(stars: Stars, table: QTable, fwhm: float) -> tuple[Floats, Floats]:
    """Places on the reference of the stars, and of the sources around them."""
    from scipy.spatial import cKDTree

    more = elsewhere((stars.x, stars.y), (values_of(table, "x"), values_of(table, "y")), _SAME * fwhm)
    if more[0].size:
        away, _ = cKDTree(np.column_stack([stars.x, stars.y])).query(np.column_stack(more))
        near = away < _NEAR * fwhm
        more = more[0][near], more[1][near]
    return np.concatenate([stars.x, more[0]]), np.concatenate([stars.y, more[1]])


class _Frame(NamedTuple):
    """A frame while its stars are fitted: ``spoils`` are places and fluxes of all sources, as the annulus sees them."""

    image: SkyImage
    psf: functions.PSF
    fwhm: float
    typical: float
    spoils: tuple[Floats, Floats, Floats]

    def measured(
        self, places: tuple[Floats, Floats], stars: Stars, options: LightCurveOptions
    ) -> tuple[tuple[NDArray[Any], ...], Floats]:
        """Columns x, y, sky, flux, error and flags of the stars; and by how much places were corrected, pixels."""
        count = len(stars.x)
        planes, gain = sky_planes(self.image), photon_gain(self.image)
        anchors = np.zeros(len(places[0]), bool)
        anchors[stars.targets : count] = True
        first = self._solved(planes, places, None, FieldOptions(gain=gain, free_position=anchors))
        x, y = corrected(places, first, anchors)
        moved = np.array([np.median(x[:count] - places[0][:count]), np.median(y[:count] - places[1][:count])])
        free = np.zeros(len(x), bool)
        free[:count] = options.recentre == "each"
        sky = self._sky(planes, first.model, x[:count], y[:count])
        planes = _levelled(planes, x[:count], y[:count], sky.level, fit_reach(self.psf.fwhm) + 1)
        fits = self._solved(planes, (x, y), first.flux, FieldOptions(gain=gain, free_position=free))
        flux = np.where(fits.converged, fits.flux, np.nan)[:count]
        area = self._area(fits, gain, count)
        error = np.hypot(fits.flux_error[:count], area * sky.error)
        columns = _doubted(flux, error, fits.share[:count], fits.flags[:count])
        return (fits.x[:count], fits.y[:count], sky.level, *columns), moved

    def _solved(
        self, planes: Planes, places: tuple[Floats, Floats], flux: Floats | None, wanted: FieldOptions
    ) -> FieldFits:
        lags = correlation_around(self.image, *places, [self.psf.fwhm])
        lags = lags if lags is None or lags.ndim == 2 else lags[:, 0]
        return solve_field(planes, self.psf, *places, flux=flux, options=wanted, acf=lags)

    def _sky(self, planes: Planes, model: Floats, x: Floats, y: Floats) -> Any:
        """Around each star, in what remains without the stars; of the mesh where too little of the annulus is left."""
        inner = ANNULUS[0] * self.typical
        annulus = Annulus(inner=inner, outer=inner + (ANNULUS[1] - ANNULUS[0]) * self.typical)
        noise = float(np.median(self.image.background().mesh_rms))
        light = self.spoils[2]
        radius = mask_radius(light, self.fwhm, noise) if noise > 0 else np.zeros(len(light))
        masked = Neighbours(self.spoils[0], self.spoils[1], radius)
        rest = read_only(planes[0] - model, np.float32)
        local = annulus_sky(rest, planes[3], x, y, annulus, neighbours=masked, acf=self.image.noise_acf)
        ny, nx = rest.shape
        column, row = (np.clip(np.nan_to_num(v).round().astype(int), 0, n - 1) for v, n in ((x, nx), (y, ny)))
        return local.filled(planes[1][row, column].astype(float), np.sqrt(planes[2][row, column]) / 64.0)

    def _area(self, fits: FieldFits, gain: float, count: int) -> Floats:
        """By how much a flux falls when the sky rises by one: the pixels a fit weighs as a whole."""
        reach = fit_reach(self.psf.fwhm)
        ny, nx = fits.noise.shape
        made = np.zeros(count)
        for n in range(count):
            x, y, flux = fits.x[n], fits.y[n], fits.flux[n]
            if not (np.isfinite(flux) and -0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5):
                continue
            offsets = np.arange(-reach, reach + 1)
            column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
            share = self.psf.values((column + offsets - x)[None, :], (row + offsets - y)[:, None], x, y)[0]
            weight = 1 / (float(fits.noise[row, column]) + np.maximum(share * max(flux, 0.0), 0) / gain)
            made[n] = np.sum(weight * share) / np.sum(weight * share**2)
        return made


def corrected(places: tuple[Floats, Floats], fits: FieldFits, anchors: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Places moved as fitted stars are: by a plane where these are many, by a shift where they are few."""
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = anchors & fits.converged & ~fits.held & (fits.flux > _ANCHOR_SNR * fits.flux_error)
    seen &= (fits.flags & np.uint32(BAD)) == 0
    before, after = np.column_stack(places), np.column_stack([fits.x, fits.y])
    if seen.sum() >= _FOR_PLANE:
        moved = fit_plane(before[seen], after[seen], 1).transform(before)
        return moved[:, 0], moved[:, 1]
    shift = np.median((after - before)[seen], axis=0) if seen.sum() >= _FOR_SHIFT else np.zeros(2)
    return places[0] + shift[0], places[1] + shift[1]


def _levelled(planes: Planes, x: Floats, y: Floats, level: Floats, reach: int) -> Planes:
    """Planes with the sky around each star, the targets', which come first, above those of others."""
    sky = planes[1].copy()
    ny, nx = sky.shape
    for n in range(len(x) - 1, -1, -1):
        if np.isfinite(level[n]) and -0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5:
            column, row = round(x[n]), round(y[n])
            left, low = max(column - reach, 0), max(row - reach, 0)
            sky[low : row + reach + 1, left : column + reach + 1] = level[n]
    return planes[0], read_only(sky, np.float32), planes[2], planes[3]


def _doubted(
    flux: Floats, error: Floats, share: Floats, flags: NDArray[np.uint32]
) -> tuple[Floats, Floats, NDArray[np.uint32]]:
    """Fluxes, errors and flags: what pixels that are bad in all frames hide, the PSF fills in, as for an aperture."""
    static, other = np.uint32(STATIC), np.uint32(BAD & ~STATIC)
    lacking = ((flags & static) != 0) & ((flags & other) == 0) & (share > 1 - MOST_HIDDEN)
    wider = np.where(lacking, np.hypot(error, DOUBT * (1 - share) * flux), error)
    return flux, wider, np.where(lacking, flags | np.uint32(fl.INTERPOLATED), flags)
