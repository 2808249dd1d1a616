"""How the pixels and the empty apertures of one calibrated frame scatter, against what the noise model says."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.annulus import mask_radius
from larun.algorithms.background import Background
from larun.algorithms.completeness import flux_limit
from larun.algorithms.pixelnoise import BlockNoise, block_noise, correlation, mean_of_blocks
from larun.algorithms.robust import Estimate, clipped_scatter
from larun.model.checks.emptyplaces import empty_places, open_pixels
from larun.model.checks.starshape import star_shape
from larun.model.measure.detecting import filtered_noise
from larun.model.measure.ellipses import values_of
from larun.model.measure.measuring import ApertureOptions, photometered, placed
from larun.model.planes import total_variance

if TYPE_CHECKING:
    from larun.detector import Amplifier
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["EmptyApertures", "NoiseFacts", "PixelSample", "free_pixels", "noise_facts", "sums_in_apertures"]

_LEAST_BLOCKS = 6  # in a bin of level
_LAG = 6  # px between the pixels of ``far``
_STRUCTURED = 0.1  # of the noise: variance of the sky itself between pixels 6 apart
_SMOOTHED = 0.9  # of the modelled variance between pixels that touch: less means that they know of each other
_WIDE = 0.2  # relative range of the sky that is worth bins
_SAMPLE = 12_000  # pixels kept of a frame
_PLACES = 250  # empty apertures of a radius
_LEAST_PLACES = 20
_ERROR = "aperture_flux_error"


class PixelSample(NamedTuple):
    """Some pixels of a frame at the same places in all frames of its shape; (n,) each.

    Attributes
    ----------
    residual : ndarray of float32
        Data above the smooth sky, electrons; NaN in sources and flagged pixels.
    variance : ndarray of float32
        Modelled variance of the frame's own noise, smooth.
    shared : float
        Median of the variance that the masters add.
    masters : tuple of str
        Whose noise that is.
    """

    residual: NDArray[np.float32]
    variance: NDArray[np.float32]
    shared: float
    masters: tuple[str, ...]


class EmptyApertures(NamedTuple):
    """Sums above the local sky in apertures where no source is, over their reported 1 σ; float64, (radii,) each.

    Attributes
    ----------
    radii : ndarray
        Pixels.
    scatter, error : ndarray
        Of the pulls, and its 1 σ.
    offset : ndarray
        Median of the pulls.
    upper : ndarray
        Scatter above the median over that below: above 1 where undetected sources are summed.
    sigma : ndarray
        Median reported 1 σ, electrons.
    places : ndarray
        How many.
    """

    radii: NDArray[np.float64]
    scatter: NDArray[np.float64]
    error: NDArray[np.float64]
    offset: NDArray[np.float64]
    upper: NDArray[np.float64]
    sigma: NDArray[np.float64]
    places: NDArray[np.float64]


class NoiseFacts(NamedTuple):
    """Measured noise over modelled noise; all ndarrays are float64.

    Attributes
    ----------
    level, ratio, ratio_error : ndarray, (bins,)
        Signal (electrons) of pixels outside sources, variance measured over modelled at that signal, and its 1 σ; what
        stars that are not detected add between pixels that touch is taken off.
    amplifier : ndarray, (bins,)
        Number of the amplifier.
    read, poisson, shared : ndarray, (bins,)
        Parts of the modelled variance: readout, charge, masters; electrons².
    names : tuple of str
        Of the amplifiers.
    gain, read_noise : tuple of float or None
        That the model assumes, electrons per ADU and electrons.
    along_x, along_y : Estimate
        Correlation of pixels that touch.
    near, far : Estimate
        Variance measured over modelled of all bins, from pixels that touch and from pixels that lie apart.
    expected_correlation : float
        That the frame states of its own noise.
    empty : EmptyApertures
        Empty apertures.
    sample : PixelSample
        For comparison with other frames.
    flagged : ndarray, (n, 3)
        x, y and flux of sources that carry a flag, such as saturated stars: they spoil those beside them.
    limit : float
        Flux of a star of the frame's shape that the modelled noise of the sky makes 5 σ behind the filter of the
        detection, electrons.
    """

    level: NDArray[np.float64]
    ratio: NDArray[np.float64]
    ratio_error: NDArray[np.float64]
    amplifier: NDArray[np.float64]
    read: NDArray[np.float64]
    poisson: NDArray[np.float64]
    shared: NDArray[np.float64]
    names: tuple[str, ...]
    gain: tuple[float | None, ...]
    read_noise: tuple[float | None, ...]
    along_x: Estimate
    along_y: Estimate
    near: Estimate
    far: Estimate
    expected_correlation: float
    empty: EmptyApertures
    sample: PixelSample
    flagged: NDArray[np.float64]
    limit: float

    @property
    def structured(self) -> bool:
        """Whether the sky between the sources is not smooth: undetected stars, nebulae, light of masked stars.

        Pixels 6 apart then differ by more than pixels that touch, and these by what the model says or more; in a
        smoothed image they differ by less.
        """
        excess = self.far.value - self.near.value
        return self.near.value > _SMOOTHED and excess > max(_STRUCTURED, 5 * self.far.error)

    @property
    def correlation(self) -> float:
        """Correlation of pixels that touch by a side."""
        return (self.along_x.value + self.along_y.value) / 2

    @property
    def radii(self) -> NDArray[np.float64]:
        """Of the empty apertures, pixels."""
        return self.empty.radii

    @property
    def scatter(self) -> NDArray[np.float64]:
        """Of the sums in empty apertures over their reported 1 σ."""
        return self.empty.scatter

    @property
    def scatter_error(self) -> NDArray[np.float64]:
        """1 σ of that."""
        return self.empty.error


def noise_facts(frame: Frame, catalog: SourceCatalog) -> NoiseFacts:
    """Measure them outside the sources of the catalogue."""
    sky = frame.background()
    free = free_pixels(frame, catalog, sky)
    total = total_variance(frame)
    own = frame.variance
    if total is None or own is None:
        total = own = sky.variance
    shared = total - own
    blocks = block_noise(frame.data, total, free)
    fwhm = float(catalog.table.meta["fwhm"])
    bins = _bins(frame, blocks, shared, fwhm)
    acf = frame.noise_acf
    middle = 0 if acf is None else acf.shape[0] // 2
    expected = 0.0 if acf is None or middle < 1 else float(acf[middle, middle + 1] + acf[middle + 1, middle]) / 2
    amplifiers, before = frame.detector.amplifiers, frame.raw_detector.amplifiers
    return NoiseFacts(
        **bins,
        names=tuple(a.name for a in amplifiers),
        gain=tuple(a.gain for a in before),
        read_noise=tuple(a.read_noise for a in amplifiers),
        along_x=correlation(blocks.near_x, blocks.far, blocks.pairs),
        along_y=correlation(blocks.near_y, blocks.far, blocks.pairs),
        near=mean_of_blocks(blocks.near, blocks.pairs),
        far=mean_of_blocks(blocks.far, blocks.pairs),
        expected_correlation=expected,
        empty=_empty_apertures(frame, catalog, free),
        sample=_sample(frame, free, sky, shared),
        flagged=_flagged(catalog),
        limit=flux_limit(
            star_shape(frame, catalog, sky.level)[0],
            fwhm,
            sigma=float(np.sqrt(np.median(sky.variance[::16, ::16]))) * filtered_noise(frame, fwhm),
            threshold=5.0,
        ),
    )


def free_pixels(frame: Frame, catalog: SourceCatalog, sky: Background) -> NDArray[np.bool_]:
    """Pixels that neither carry a flag nor are near enough to a source to see its light.

    Stars are masked as far as they are brighter than a tenth of the noise, as for the local sky; saturated ones, of
    which only a part was measured, one and a half times as far.
    """
    table = catalog.table
    x, y, flux = (values_of(table, name) for name in ("x", "y", "flux"))
    noise = float(np.median(sky.mesh_rms))
    fwhm = float(table.meta["fwhm"])
    radius = np.zeros(len(x))
    if noise > 0 and len(x):
        radius = np.maximum(mask_radius(flux, fwhm, noise), 1.5 * fwhm)
        radius[(np.asarray(table["flags"]) & fl.SATURATED) != 0] *= 1.5
    usable = ((frame.flags & (fl.UNUSABLE | fl.NONLINEAR | fl.EDGE | fl.INTERPOLATED)) == 0) & np.isfinite(frame.data)
    return open_pixels(usable, x, y, radius)


def _flagged(catalog: SourceCatalog) -> NDArray[np.float64]:
    """Place and flux of sources that are saturated or otherwise spoilt."""
    table = catalog.table
    chosen = (np.asarray(table["flags"]) & (fl.UNUSABLE | fl.SATURATED)) != 0
    columns = [values_of(table, name)[chosen] for name in ("x", "y", "flux")]
    made: NDArray[np.float64] = np.column_stack(columns)
    finite: NDArray[np.float64] = made[np.isfinite(made).all(axis=1)]
    return finite


def _bins(frame: Frame, blocks: BlockNoise, shared: NDArray[np.float32], fwhm: float) -> dict[str, NDArray[np.float64]]:
    """Ratio of variances and parts of the model in bins of level, amplifier by amplifier."""
    rows = []
    for number, amplifier in enumerate(frame.detector.amplifiers):
        inside = _inside(blocks, amplifier)
        for chosen in _by_level(blocks.level, inside):
            found = _without_structure(blocks, chosen, fwhm)
            if not (math.isfinite(found.value) and math.isfinite(found.error)):
                continue
            level, total = float(np.median(blocks.level[chosen])), float(np.median(blocks.variance[chosen]))
            added = _typical(shared, blocks, chosen)
            variance = max(total - added, 0.0)
            read = _read_part(variance, level, amplifier.read_noise)
            rows.append((level, found.value, found.error, number, read, variance - read, added))
    table = np.array(rows, np.float64).reshape(-1, 7)
    names = ("level", "ratio", "ratio_error", "amplifier", "read", "poisson", "shared")
    return dict(zip(names, table.T, strict=True))


def _without_structure(blocks: BlockNoise, chosen: NDArray[np.bool_], fwhm: float) -> Estimate:
    """Ratio of variances between pixels that touch, less what a sky full of faint stars adds to it.

    The covariance of such a sky is that of the stars' profile with itself, exp(-r²/4s²) for Gaussian stars of width s:
    what pixels 6 apart differ by tells what neighbours do. The correction is trusted to a half.
    """
    near, far = (mean_of_blocks(part[chosen], blocks.pairs[chosen]) for part in (blocks.near, blocks.far))
    square = (max(fwhm, 1.5) / 2.3548) ** 2
    touching, apart = math.exp(-1 / (4 * square)), math.exp(-(_LAG**2) / (4 * square))
    excess = max(far.value - near.value, 0.0) * (1 - touching) / (touching - apart)
    trust = 0.5 * excess if excess > _STRUCTURED * (1 - touching) else 0.0
    return Estimate(near.value - excess, math.hypot(near.error, trust))


def _inside(blocks: BlockNoise, amplifier: Amplifier) -> NDArray[np.bool_]:
    section = amplifier.data
    return (
        (blocks.y >= section.y0) & (blocks.y < section.y1) & (blocks.x >= section.x0) & (blocks.x < section.x1)
    ) & np.isfinite(blocks.near)


def _by_level(level: NDArray[np.float64], inside: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The blocks of an amplifier in up to four bins of their level, or in one where the sky is flat."""
    if not inside.any():
        return []
    low, middle, high = np.quantile(level[inside], [0.05, 0.5, 0.95])
    many = int(min(4, inside.sum() // _LEAST_BLOCKS))
    if high - low < _WIDE * max(abs(middle), 1e-9) or many < 2:
        return [inside]
    edges = np.quantile(level[inside], np.linspace(0, 1, many + 1))
    edges[-1] = np.inf
    return [inside & (level >= a) & (level < b) for a, b in itertools.pairwise(edges)]


def _typical(plane: NDArray[np.float32], blocks: BlockNoise, chosen: NDArray[np.bool_]) -> float:
    """Median of a plane at the middle of some blocks."""
    ny, nx = plane.shape
    y, x = np.minimum(blocks.y[chosen] + 16, ny - 1), np.minimum(blocks.x[chosen] + 16, nx - 1)
    return float(np.median(plane[y, x]))


def _read_part(variance: float, level: float, read_noise: float | None) -> float:
    """The readout's part of a variance (level / F + read noise²/F²), F the flat, which the variance itself tells."""
    if not read_noise:
        return 0.0
    signal = max(level, 0.0)
    flat = (signal + math.sqrt(signal**2 + 4 * variance * read_noise**2)) / (2 * variance) if variance > 0 else 1.0
    return min(read_noise**2 / flat**2, variance)


def _sample(frame: Frame, free: NDArray[np.bool_], sky: Background, shared: NDArray[np.float32]) -> PixelSample:
    """Pixels at places that depend on the shape alone."""
    ny, nx = frame.shape
    rng = np.random.default_rng([ny, nx])
    places = np.sort(rng.choice(ny * nx, size=min(_SAMPLE, ny * nx), replace=False))
    row, column = places // nx, places % nx
    residual = (frame.data[row, column] - sky.level[row, column]).astype(np.float32)
    residual[~free[row, column]] = np.nan
    added = shared[row, column]
    variance = sky.variance[row, column] - added  # smooth but for what the masters have: no weight by a pixel's value
    residual[~(variance > 0)] = np.nan
    masters = tuple(sorted(item.master for item in frame.shared))
    return PixelSample(residual, variance, float(np.median(added)), masters)


def _empty_apertures(frame: Frame, catalog: SourceCatalog, free: NDArray[np.bool_]) -> EmptyApertures:
    """What aperture photometry says where nothing is, measured as the sources of the catalogue were."""
    meta = catalog.table.meta
    radii = np.asarray(meta.get("aperture_radii", ()), np.float64)
    blank = np.full(len(radii), np.nan)
    nothing = EmptyApertures(radii, blank, blank, blank, blank, blank, np.zeros(len(radii)))
    if not len(radii) or frame.variance is None:
        return nothing
    rng = np.random.default_rng(int(frame.provenance.id[:15], 16))
    places = [empty_places(free, float(radius), _PLACES, rng) for radius in radii]
    x, y = np.concatenate(places).T
    if not len(x):
        return nothing
    sums = sums_in_apertures(frame, catalog, x, y, *radii)
    rows, start = [], 0
    for number, found in enumerate(places):
        own = slice(start, start + len(found))
        start += len(found)
        rows.append(_pulls(sums[2 * number][own], sums[2 * number + 1][own]))
    return EmptyApertures(radii, *np.array(rows).T)


def sums_in_apertures(
    frame: Frame, catalog: SourceCatalog, x: NDArray[np.float64], y: NDArray[np.float64], *radii: float
) -> tuple[NDArray[np.float64], ...]:
    """Sums above the local sky and their reported errors, measured as the sources of the catalogue were.

    Returns
    -------
    tuple of ndarray, (places,) each
        Flux and error in the smallest aperture, flux and error in the next …
    """
    meta, sources = catalog.table.meta, catalog.table
    sky, annulus = meta.get("sky", "annulus"), meta.get("annulus_radii")
    options = ApertureOptions(radii=radii, unit="pixel", sky=sky, annulus=annulus)
    table = photometered(placed(frame, x, y, sources), frame, options, neighbours=sources)
    numbers = range(1, len(radii) + 1)
    return tuple(np.asarray(table[f"{name}_{n}"].value) for n in numbers for name in ("aperture_flux", _ERROR))


def _pulls(flux: NDArray[np.float64], error: NDArray[np.float64]) -> tuple[float, ...]:
    """Scatter, its error, offset, asymmetry, typical error and number."""
    known = np.isfinite(flux) & (error > 0)
    pull = flux[known] / error[known]
    if len(pull) < _LEAST_PLACES:
        return math.nan, math.nan, math.nan, math.nan, math.nan, float(len(pull))
    offset = float(np.median(pull))
    above, below = pull[pull > offset] - offset, offset - pull[pull < offset]
    scatter = clipped_scatter(pull - offset)
    upper = float(np.median(above) / np.median(below))
    return scatter.value, scatter.error, offset, upper, float(np.median(error)), float(len(pull))
