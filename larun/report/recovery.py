"""Recovered against true: what a reduction found in a simulated night, compared with what was put in.

Every function takes the truth and larun's own products and returns numbers; nothing is printed here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.model.catalog import SourceCatalog
from larun.model.frame import Frame
from larun.simulate import FrameTruth, NightTruth, render

__all__ = ["DETECTABLE", "Cosmics", "FrameScore", "Stars", "compare_cosmics", "compare_frame", "match_stars"]

#: S/N of the ideal filter above which a star should be found.
DETECTABLE = 5.0
_BRIGHT = 20.0  # S/N above which positions and fluxes are judged
_CROWDED = 0.003  # most of a star's flux that neighbours may add
_LOST = fl.UNUSABLE | fl.INTERPOLATED


class Stars(NamedTuple):
    """The true stars of one frame and what was found of them; arrays of one element a star.

    Attributes
    ----------
    snr : ndarray of float64
        S/N of an ideal filter that knows the star's shape and the sky.
    expected : ndarray of bool
        Whether it should be found: above 5 σ, off edges, dead columns and brighter neighbours.
    found : ndarray of bool
        Whether the catalogue has it.
    dx, dy, x_error, y_error : ndarray of float64
        Measured minus true position, and its claimed error, pixels; NaN where not found.
    ratio, ratio_error : ndarray of float64
        Flux in the smallest aperture over the true flux, and its claimed error.
    usable : ndarray of bool
        Found, alone, bright, and without a flagged pixel: positions and fluxes are judged on these.
    """

    snr: NDArray[np.float64]
    expected: NDArray[np.bool_]
    found: NDArray[np.bool_]
    dx: NDArray[np.float64]
    dy: NDArray[np.float64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]
    ratio: NDArray[np.float64]
    ratio_error: NDArray[np.float64]
    usable: NDArray[np.bool_]


class Cosmics(NamedTuple):
    """Pixels hit by cosmic rays: deposits above 5 σ, how many of them are flagged; flagged pixels, how many are hit."""

    strong: int
    found: int
    flagged: int
    right: int

    @property
    def recall(self) -> float:
        """Flagged part of the strong deposits; NaN if there are none."""
        return self.found / self.strong if self.strong else math.nan

    @property
    def precision(self) -> float:
        """Part of the flagged pixels that a ray did hit; NaN if none is flagged."""
        return self.right / self.flagged if self.flagged else math.nan


class FrameScore(NamedTuple):
    """One science frame compared with its truth.

    Attributes
    ----------
    name, band : str
        File stem and filter.
    stars : Stars
        Star by star.
    false : int
        Catalogue entries where there is no star and no new source.
    fwhm, seeing : float
        Measured and true FWHM, pixels.
    cosmics : Cosmics
        Cosmic rays.
    saturated : bool
        Whether the star that saturates is flagged so.
    hot, dead : float
        Part of the hot pixels and of the dead columns' pixels that are flagged.
    wrongly_bad : float
        Part of the good pixels that are flagged BAD.
    new_source : float
        S/N of what lies at the place of the new source; NaN where the catalogue has nothing.
    new_source_there : bool or None
        Whether it really shines in this frame; None for other filters, or when there is no such source.
    new_source_pull : float
        Its flux minus the true one over its error.
    """

    name: str
    band: str
    stars: Stars
    false: int
    fwhm: float
    seeing: float
    cosmics: Cosmics
    saturated: bool
    hot: float
    dead: float
    wrongly_bad: float
    new_source: float
    new_source_there: bool | None
    new_source_pull: float


def match_stars(truth: NightTruth, about: FrameTruth, catalog: SourceCatalog, response: NDArray[np.float32]) -> Stars:
    """Find the true stars of a frame in its catalogue.

    Parameters
    ----------
    truth, about : NightTruth, FrameTruth
        The night and the frame.
    catalog : SourceCatalog
        Of that frame, with aperture photometry.
    response : ndarray of float32 (ny, nx)
        True sensitivity in the frame's filter.
    """
    from scipy.spatial import KDTree

    assert about.seeing is not None
    x, y = truth.positions(about)
    flux = truth.rates(about) * about.exposure
    snr = flux / _noise_of_filter(truth, about, _at(response, x, y))
    places = KDTree(np.column_stack([_plain(catalog, "x"), _plain(catalog, "y")]))
    distance, index = places.query(np.column_stack([x, y]), distance_upper_bound=0.75 * about.seeing)
    found = np.isfinite(distance)
    index = np.where(found, index, 0)

    def measured(name: str) -> NDArray[np.float64]:
        return np.asarray(np.where(found, _plain(catalog, name)[index], np.nan))

    free, crowding = _surroundings(truth, about, x, y, flux)
    flagged = (_plain(catalog, "aperture_flags_1").astype(np.uint32)[index] & _LOST) != 0
    return Stars(
        snr=snr,
        expected=free & (snr >= DETECTABLE),
        found=found,
        dx=measured("x") - x,
        dy=measured("y") - y,
        x_error=measured("x_error"),
        y_error=measured("y_error"),
        ratio=measured("aperture_flux_1") / flux,
        ratio_error=measured("aperture_flux_error_1") / flux,
        usable=found & free & ~flagged & (snr >= _BRIGHT) & (crowding < _CROWDED),
    )


def _plain(catalog: SourceCatalog, name: str) -> NDArray[np.float64]:
    values = catalog[name]
    return np.asarray(getattr(values, "value", values))


def _at(plane: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of the nearest pixel; of the nearest edge pixel outside, and never 0 (dead columns)."""
    ny, nx = plane.shape
    column, row = np.clip(np.rint(x), 0, nx - 1).astype(int), np.clip(np.rint(y), 0, ny - 1).astype(int)
    return np.asarray(np.maximum(plane[row, column].astype(np.float64), 0.1))


def _noise_of_filter(truth: NightTruth, about: FrameTruth, response: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 σ in electrons of the flux an ideal filter measures at the faint limit."""
    assert about.seeing is not None
    assert about.sky is not None
    camera, half = truth.camera, math.ceil(4 * about.seeing)
    size = 2 * half + 1
    stamp = render((size, size), [half], [half], [1.0], fwhm=about.seeing, beta=truth.options.beta)
    dark = camera.dark_rate * about.exposure + camera.read_noise**2
    variance = about.sky * about.exposure / response + dark / response**2
    return np.asarray(np.sqrt(variance / float((stamp.astype(np.float64) ** 2).sum())))


def _surroundings(
    truth: NightTruth, about: FrameTruth, x: NDArray[np.float64], y: NDArray[np.float64], flux: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether a star stands free (of edges, dead columns, brighter neighbours), and what neighbours add to its flux."""
    seeing = about.seeing or 1.0
    ny, nx = truth.camera.shape
    free = (x > seeing) & (x < nx - 1 - seeing) & (y > seeing) & (y < ny - 1 - seeing)
    for column in truth.camera.dead_columns:
        free &= np.abs(x - column) > 1.5 * seeing
    beta = truth.options.beta or 6.0
    alpha = seeing / (2 * math.sqrt(2 ** (1 / beta) - 1))
    squared = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    np.fill_diagonal(squared, np.inf)
    # light of star j, per pixel, at the place of star i, over an aperture of one FWHM
    light = flux * (1 + squared / alpha**2) ** -beta * (beta - 1) / (math.pi * alpha**2) * math.pi * seeing**2
    crowding = light.sum(axis=1) / flux
    brighter = (squared < (2 * seeing) ** 2) & (flux[None, :] > 0.3 * flux[:, None])
    return free & ~brighter.any(axis=1) & (crowding < 0.3), crowding


def compare_cosmics(frame: Frame, charge: NDArray[np.float32]) -> Cosmics:
    """Flags against the true cosmic-ray charge (ny, nx) in electrons; other defects do not count."""
    noise = frame.uncertainty
    assert noise is not None
    lost = (frame.flags & (fl.BAD | fl.SATURATED | fl.FLAT_INVALID | fl.NO_DATA)) != 0
    flagged = ((frame.flags & fl.COSMIC) != 0) & ~lost
    strong = (charge > 5 * np.where(np.isfinite(noise), noise, 0)) & ~lost
    return Cosmics(
        strong=int(strong.sum()),
        found=int((strong & flagged).sum()),
        flagged=int(flagged.sum()),
        right=int((flagged & (charge > 0)).sum()),
    )


def compare_frame(truth: NightTruth, about: FrameTruth, frame: Frame, catalog: SourceCatalog) -> FrameScore:
    """All that is compared in one science frame.

    Parameters
    ----------
    truth, about : NightTruth, FrameTruth
        The night and the frame.
    frame : Frame
        Calibrated and cleaned.
    catalog : SourceCatalog
        Detected on it, with aperture photometry.
    """
    assert about.band is not None
    assert about.seeing is not None
    chip = truth.chip()
    stars = match_stars(truth, about, catalog, chip.response[about.band])
    dead = np.zeros(truth.camera.shape, bool)
    dead[:, list(truth.camera.dead_columns)] = True
    bad = (frame.flags & fl.BAD) != 0
    useless = bad | ((frame.flags & fl.FLAT_INVALID) != 0)
    hot = chip.hot & ~dead
    snr, there, pull = _new_source(truth, about, catalog, stars)
    return FrameScore(
        name=about.path.stem,
        band=about.band,
        stars=stars,
        false=_false(truth, about, catalog),
        fwhm=float(catalog.meta["fwhm"]),
        seeing=about.seeing,
        cosmics=compare_cosmics(frame, truth.cosmics(about)),
        saturated=_saturated(truth, about, catalog),
        hot=float(useless[hot].mean()) if hot.any() else math.nan,
        dead=float(useless[dead].mean()) if dead.any() else math.nan,
        wrongly_bad=float(bad[~hot & ~dead].mean()),
        new_source=snr,
        new_source_there=there,
        new_source_pull=pull,
    )


def _nearest(catalog: SourceCatalog, x: float, y: float, radius: float) -> int | None:
    if not len(catalog):
        return None
    distance = np.hypot(_plain(catalog, "x") - x, _plain(catalog, "y") - y)
    best = int(distance.argmin())
    return best if distance[best] <= radius else None


def _false(truth: NightTruth, about: FrameTruth, catalog: SourceCatalog) -> int:
    from scipy.spatial import KDTree

    assert about.seeing is not None
    x, y = truth.positions(about)
    if truth.new_source is not None and about.new_source:
        new_x, new_y = truth.place(about, truth.new_source.x, truth.new_source.y)
        x, y = np.append(x, new_x), np.append(y, new_y)
    found = np.column_stack([_plain(catalog, "x"), _plain(catalog, "y")])
    distance, _ = KDTree(np.column_stack([x, y])).query(found)
    return int(np.count_nonzero(distance > 1.5 * about.seeing))


def _saturated(truth: NightTruth, about: FrameTruth, catalog: SourceCatalog) -> bool:
    """Whether the brightest star's catalogue entry says SATURATED; its centre is uncertain."""
    assert about.seeing is not None
    x, y = truth.positions(about)
    brightest = int(np.argmax(truth.stars[f"rate_{about.band}"].value))
    found = _nearest(catalog, x[brightest], y[brightest], 2 * about.seeing)
    return found is not None and bool(int(_plain(catalog, "flags")[found]) & fl.SATURATED)


def _new_source(
    truth: NightTruth, about: FrameTruth, catalog: SourceCatalog, stars: Stars
) -> tuple[float, bool | None, float]:
    new = truth.new_source
    if new is None or new.band != about.band:
        return math.nan, None, math.nan
    assert about.seeing is not None
    x, y = truth.place(about, new.x, new.y)
    found = _nearest(catalog, float(x), float(y), about.seeing)
    if found is None:
        return math.nan, about.new_source, math.nan
    snr = float(_plain(catalog, "snr")[found])
    flux, error = (float(_plain(catalog, f"aperture_flux{name}_1")[found]) for name in ("", "_error"))
    expected = new.rate * about.transparency * about.exposure * float(np.median(stars.ratio[stars.usable]))
    return snr, about.new_source, (flux - expected) / error
