"""How faint stars are found: tests ``completeness`` and ``limiting magnitude``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.completeness import Completeness, completeness, flux_limit
from larun.algorithms.emptystars import add_stars
from larun.algorithms.robust import Estimate
from larun.errors import OptionError
from larun.model.checks.common import by_filter, combined
from larun.model.checks.emptyplaces import empty_places
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material
from larun.model.checks.noisefacts import free_pixels
from larun.model.checks.starshape import star_shape
from larun.model.checks.verdict import Evidence, Series, Verdict, grade, untested
from larun.model.measure.detecting import filtered_noise
from larun.model.recipe import Recipe

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["Injected", "completeness_of_sources", "injected_stars", "limiting_magnitude"]

_COMPLETENESS, _LIMIT = "completeness", "limiting magnitude"
_SIDE = 1024  # px: the window that is searched
_STARS = 350
_ROUNDS = 3
_LEAST_STARS = 60
_LADDER = (-1.0, 1.3)  # magnitudes by which they are brighter than the predicted limit
_SLIGHT, _LARGE = 0.1, 0.2  # magnitudes
_MISSED = 0.9  # of bright stars that must be found
_MAG = 2.5 / math.log(10)


class Injected(NamedTuple):
    """Stars that were put into a frame.

    Attributes
    ----------
    flux : ndarray of float64, (n,)
        Total, electrons.
    found : ndarray of bool, (n,)
        Whether the detection of the recipe has a source there.
    predicted : float
        Flux at which half should be found, by the noise model; NaN for engines whose threshold is no S/N.
    noise : float
        Noise of a flux behind the detection's filter.
    empirical : bool
        Whether stars look like those of the frame, or like a Moffat profile of their size.
    """

    flux: NDArray[np.float64]
    found: NDArray[np.bool_]
    predicted: float
    noise: float
    empirical: bool


def completeness_of_sources(material: Material) -> Iterator[Verdict]:
    """Stars of known flux, put into a typical frame of each filter where nothing is: how many of them are found."""
    if not material.facts:
        yield untested(_COMPLETENESS, "there is no calibrated science frame")
    for name, frames in by_filter(material.facts).items():
        typical = _typical(frames, material)
        if typical is None:
            yield untested(_COMPLETENESS, "no frame is at hand", name)
            continue
        frame, catalog = material.products[typical.name]()
        try:
            made = injected_stars(frame, catalog, material.recipe)
            fit = completeness(made.flux, made.found, noise=made.noise)
        except OptionError as error:
            yield untested(_COMPLETENESS, str(error), name)
            continue
        yield _completeness_verdict(name, typical, made, fit)


def _typical(frames: Sequence[FrameFacts], material: Material) -> FrameFacts | None:
    """The frame whose limit lies in the middle."""
    known = [item for item in frames if item.name in material.products and math.isfinite(item.noise.limit)]
    return sorted(known, key=lambda item: (item.noise.limit, item.name))[len(known) // 2] if known else None


def injected_stars(frame: Frame, catalog: SourceCatalog, recipe: Recipe) -> Injected:
    """Put stars into a frame at random empty places, with their photon noise, and search it as the recipe does.

    Raises
    ------
    OptionError
        If there is no room for them.
    """
    detect = dict(recipe.detect)
    fwhm = float(catalog.table.meta["fwhm"])
    sky = frame.background()
    free = free_pixels(frame, catalog, sky)
    star, empirical = star_shape(frame, catalog, sky.level)
    window, x0, y0 = _window(frame)
    threshold = float(detect.get("threshold", 5.0))
    width = fwhm if detect.get("fwhm") is None else float(detect["fwhm"])
    sigma = float(np.sqrt(np.median(sky.variance[y0 : y0 + window.shape[0] : 8, x0 : x0 + window.shape[1] : 8])))
    limit = flux_limit(star, width, sigma=sigma * filtered_noise(frame, width), threshold=threshold)
    rng = np.random.default_rng(int(frame.provenance.id[15:30], 16))
    open_here = free[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]]
    fluxes, found = [], []
    for _ in range(_ROUNDS):
        places = empty_places(open_here, 1.5 * fwhm, _STARS, rng, apart=8 * fwhm)
        if not len(places):
            break
        flux = limit * 10 ** (0.4 * rng.uniform(*_LADDER, len(places)))
        fluxes.append(flux)
        found.append(_search(window, star, places, flux, rng, detect, fwhm))
        if sum(map(len, fluxes)) >= _STARS:
            break
    if sum(map(len, fluxes)) < _LEAST_STARS:
        raise OptionError("there is no room between the sources for artificial stars")
    matched = detect.get("method", "matched") == "matched"
    return Injected(
        np.concatenate(fluxes), np.concatenate(found), limit if matched else math.nan, limit / threshold, empirical
    )


def _window(frame: Frame) -> tuple[Frame, int, int]:
    """The middle of a large frame, and its first column and row."""
    ny, nx = frame.shape
    height, width = min(ny, _SIDE), min(nx, _SIDE)
    y0, x0 = (ny - height) // 2, (nx - width) // 2
    if (height, width) == (ny, nx):
        return frame, 0, 0
    return frame.crop((x0, x0 + width), (y0, y0 + height)), x0, y0


def _search(
    window: Frame,
    star: NDArray[np.float64],
    places: NDArray[np.float64],
    flux: NDArray[np.float64],
    rng: np.random.Generator,
    detect: dict[str, Any],
    fwhm: float,
) -> NDArray[np.bool_]:
    """Which of some stars are found once they are in the window."""
    from scipy.spatial import cKDTree

    light = np.zeros(window.shape)
    add_stars(light, star, places[:, 0], places[:, 1], flux)
    electrons = rng.poisson(light)
    variance = None if window.variance is None else window.variance + light.astype(np.float32)
    made = window.with_planes(data=window.data + electrons.astype(np.float32), variance=variance)
    table = made.detect(**detect).table
    if not len(table):
        return np.zeros(len(places), bool)
    seen = np.column_stack([np.asarray(table[name].value, np.float64) for name in "xy"])
    distance, _ = cKDTree(seen).query(places)
    return np.asarray(distance <= max(1.5, 0.8 * fwhm))


def _completeness_verdict(name: str, item: FrameFacts, made: Injected, fit: Completeness) -> Verdict:
    half, error = -2.5 * math.log10(fit.half), _MAG * fit.half_error / fit.half
    ninety = -2.5 * math.log10(fit.ninety)
    predicted = -2.5 * math.log10(made.predicted) if made.predicted > 0 else math.nan
    gap = half - predicted
    status = "good" if math.isnan(gap) else grade(gap, error, doubtful=_SLIGHT, bad=_LARGE)
    meaning = (
        f"of {len(made.flux)} stars put into {item.name} half are found at magnitude {half:.2f} ± {error:.2f} "
        f"({fit.half:.0f} electrons), 90 % at {ninety:.2f}; the noise model says {predicted:.2f} for half"
    )
    fix = ""
    if status in ("bad", "doubtful"):
        meaning += f": {abs(gap):.2f} mag {'fainter' if gap > 0 else 'brighter'} than it should be"
        fix = "give detect.fwhm; a finer detect.mesh where the sky is not smooth"
        if item.noise.structured and gap < 0:
            meaning += ", since the sky between the sources is full of faint stars"
            fix = "fit point spread functions, or subtract images"
    bright = max(len(made.flux) // 5, 5)
    if fit.top + 5 * math.sqrt(max(fit.top * (1 - fit.top), 0.25 / bright) / bright) < _MISSED:
        status = "bad" if status == "bad" else "doubtful"
        meaning += f"; of the brightest fifth {100 * (1 - fit.top):.0f} % are missed"
    return Verdict(
        test=_COMPLETENESS,
        status=status,
        meaning=meaning,
        where=name,
        value=half,
        error=error,
        expected=None if math.isnan(predicted) else predicted,
        unit="mag",
        fix=fix,
        evidence=_curve(made, fit),
    )


def _curve(made: Injected, fit: Completeness) -> Evidence:
    from scipy.special import ndtr

    magnitude = -2.5 * np.log10(made.flux)
    edges = np.quantile(magnitude, np.linspace(0, 1, 11))
    middle, share, error = [], [], []
    for low, high in itertools.pairwise(edges):
        inside = (magnitude >= low) & (magnitude <= high)
        p, n = float(made.found[inside].mean()), int(inside.sum())
        middle.append(float(magnitude[inside].mean()))
        share.append(p)
        error.append(math.sqrt(max(p * (1 - p), 0.25 / n) / n))
    line = np.linspace(edges[0], edges[-1], 200)
    curve = fit.top * ndtr((10 ** (-0.4 * line) - fit.half) / fit.width)
    series = [Series("stars put in", middle, share, error), Series("fit", line, curve, line=True)]
    if made.predicted > 0:
        at = -2.5 * math.log10(made.predicted)
        series.append(Series("half, by the noise model", [at, at], [0.0, 1.0], line=True))
    return Evidence(x_label="instrumental magnitude", y_label="share that is found", series=series)


def limiting_magnitude(material: Material) -> Iterator[Verdict]:
    """The magnitude of a 5 σ star by the noise model, and by the scatter that empty apertures really have."""
    if not material.facts:
        yield untested(_LIMIT, "there is no calibrated science frame")
    for name, frames in by_filter(material.facts).items():
        known = [item for item in frames if item.noise.limit > 0 and len(item.noise.scatter)]
        scatter = combined([Estimate(item.noise.scatter[0], item.noise.scatter_error[0]) for item in known])
        if not known or not math.isfinite(scatter.value):
            yield untested(_LIMIT, "no empty aperture fits between the sources: their scatter is not known", name)
            continue
        yield _limit_verdict(name, known, scatter)


def _limit_verdict(name: str, frames: Sequence[FrameFacts], scatter: Estimate) -> Verdict:
    limits = np.array([-2.5 * math.log10(item.noise.limit) for item in frames])
    modelled = float(np.median(limits))
    gap, error = -2.5 * math.log10(scatter.value), _MAG * scatter.error / scatter.value
    status = grade(gap, error, doubtful=_SLIGHT, bad=_LARGE)
    measured = modelled + gap
    exposures = [f"{t:g} s" for t in sorted({round(item.exposure, 2) for item in frames if item.exposure is not None})]
    meaning = f"a star of 5 σ has magnitude {measured:.2f} ± {error:.2f}"
    meaning += f" in {', '.join(exposures)}" if 0 < len(exposures) <= 3 else ""
    meaning += f", {modelled:.2f} by the noise model"
    if len(frames) > 1:
        deep, poor = frames[int(np.argmax(limits))], frames[int(np.argmin(limits))]
        meaning += f"; frames reach from {limits.min():.2f} ({poor.name}) to {limits.max():.2f} ({deep.name})"
    fix = ""
    if status in ("bad", "doubtful"):
        meaning += f": the model is {abs(gap):.2f} mag too {'hopeful' if gap < 0 else 'cautious'}, see empty apertures"
        fix = "as for empty apertures"
    return Verdict(
        test=_LIMIT,
        status=status,
        meaning=meaning + " (instrumental magnitudes of electrons)",
        where=name,
        value=measured,
        error=error,
        expected=modelled,
        unit="mag",
        fix=fix,
        evidence=Evidence(
            x_label="" if len(frames) <= 40 else "frames in the order of time",
            y_label="instrumental magnitude of 5 σ",
            series=(Series("by the noise model", np.arange(len(frames)), limits),),
            names=[item.name for item in frames] if len(frames) <= 40 else (),
        ),
    )
