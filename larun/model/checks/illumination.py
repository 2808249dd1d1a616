"""What all frames of a filter have in common though the sky has no structure: fringes, moved dust, the shutter."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.robust import mad_sigma
from larun.algorithms.structure import Common, cell_means, common, fit_patterns, smoothed
from larun.errors import OptionError
from larun.model.checks.facts import FrameFacts
from larun.model.checks.fields import Field
from larun.model.checks.material import Material
from larun.model.checks.rawfacts import CELLS, RawFacts
from larun.model.checks.skyfacts import plane
from larun.model.checks.verdict import Evidence, Verdict, untested
from larun.model.checks.words import counted, percent

__all__ = ["dust", "fringes", "shutter"]

Array = NDArray[np.float64]

_FEWEST = 3  # frames of a filter
_SEEN = 20.0  # electrons of sky: of a fainter one no structure is told
_SMOOTH = 6  # the part of the map that structure is small against
_DEGREE = 4  # of the polynomial
_EDGE = 0.05  # of the shorter axis, that is left out all around
_SIGMAS = 5.0
_FRINGES = 0.003, 0.01  # rms over the sky: doubtful, bad
_SHADOWS = 0.25, 0.6  # of the flat's dust that is missing in the sky: doubtful, bad
_DARK_SPOT = 0.004  # of a flat, from which it tells of dust
_BLOCKS = 16  # along each axis, to which maps are averaged for the shutter
_UNEVEN = 0.006, 0.015  # of the light, in the middle against the corners
_LONGEST = 2.0  # seconds: no shutter is slower
_RATIO = 1.4  # of exposure times of flats that are compared


class _Sky(NamedTuple):
    """The sky of a filter: relative maps of its frames, and of its master flat; those of a field, star on star."""

    filter: str | None
    frames: tuple[FrameFacts, ...]
    maps: tuple[Array, ...]
    flat: Array | None
    moved: tuple[tuple[Array, ...], ...]


def fringes(material: Material) -> Iterator[Verdict]:
    """Fine structure that the sky has in common in all frames of a filter."""
    yield from _each(material, "fringes", _fringes)


def dust(material: Material) -> Iterator[Verdict]:
    """The shadows of the master flat, missing in the sky."""
    yield from _each(material, "dust", _dust)


def _each(material: Material, test: str, told: Callable[[_Sky], Verdict]) -> Iterator[Verdict]:
    skies = _skies(material)
    if not skies:
        yield untested(test, f"no filter has {_FEWEST} frames with a sky above {_SEEN:.0f} electrons")
        return
    yield from map(told, skies)


def _skies(material: Material) -> list[_Sky]:
    groups: dict[tuple[object, ...], list[FrameFacts]] = defaultdict(list)
    for one in material.facts:
        if one.sky.level > _SEEN:
            groups[one.filter, one.sky.cells.shape].append(one)
    made = []
    for (name, _), frames in groups.items():
        if len(frames) >= _FEWEST:
            maps = tuple(_fine(one.sky.cells) for one in frames)
            flat = _flat_cells(material, frames[0])
            moved = _moved(material.fields, {one.name: map_ for one, map_ in zip(frames, maps, strict=True)}, frames)
            made.append(_Sky(None if name is None else str(name), tuple(frames), maps, flat, moved))
    return made


def _moved(
    fields: Sequence[Field], maps: Mapping[str, Array], frames: Sequence[FrameFacts]
) -> tuple[tuple[Array, ...], ...]:
    """For each field its maps, moved by whole cells to where the stars of its reference are."""
    size = frames[0].sky.size
    found = []
    for field in fields:
        those = []
        for frame, offset, turned in zip(field.frames, field.offsets, field.turned, strict=True):
            if frame.name in maps and offset is not None and not turned:
                those.append(_shifted(maps[frame.name], -round(offset.dy / size), -round(offset.dx / size)))
        if len(those) >= 2:
            found.append(tuple(those))
    return tuple(found)


def _shifted(map_: Array, rows: int, columns: int) -> Array:
    made = np.full(map_.shape, np.nan)
    ny, nx = map_.shape
    if abs(rows) < ny and abs(columns) < nx:
        to = slice(max(rows, 0), ny + min(rows, 0)), slice(max(columns, 0), nx + min(columns, 0))
        come = slice(max(-rows, 0), ny + min(-rows, 0)), slice(max(-columns, 0), nx + min(-columns, 0))
        made[to] = map_[come]
    return made


def _fine(cells: NDArray[np.float32]) -> Array:
    """Relative to the smooth part: a polynomial for the vignetting, then running means, which bend at the edges."""
    _, x, y = plane(cells.shape)
    powers = [(i, j) for i in range(_DEGREE + 1) for j in range(_DEGREE + 1 - i)]
    try:
        fit = fit_patterns(cells, [(2 * x) ** i * (2 * y) ** j for i, j in powers])
    except OptionError:
        return np.full(cells.shape, np.nan)
    cells = np.asarray(cells / (cells - fit.residual), np.float32)
    smooth = smoothed(cells, max(5, min(cells.shape) // _SMOOTH))
    with np.errstate(invalid="ignore", divide="ignore"):
        made = cells / smooth - 1
    if not np.isfinite(made).any():
        return np.full(cells.shape, np.nan)
    made -= np.nanmedian(made)
    limit = 6 * mad_sigma(made[np.isfinite(made)], 0.0)
    edge = max(1, round(_EDGE * min(made.shape)))  # the edges of chips are a matter of their own
    inner = np.zeros(made.shape, bool)
    inner[edge:-edge, edge:-edge] = True
    # a star or its wings that was not masked, a bad column: neither is what frames have in common
    return np.asarray(np.where(inner & (np.abs(made) <= max(limit, 0.05)), made, np.nan))


def _flat_cells(material: Material, frame: FrameFacts) -> Array | None:
    """The fine structure of the master flat that serves a frame."""
    for master in material.masters:
        if master.kind == "flat" and master.criteria.get("filter") == frame.filter and master.shape == frame.shape:
            usable = ((master.flags & fl.UNUSABLE) == 0) & np.isfinite(master.data) & (master.data > 0)
            return _fine(cell_means(master.data, usable, frame.sky.size))
    return None


def _fringes(sky: _Sky) -> Verdict:
    maps, shadows = list(sky.maps), 0.0
    if sky.flat is not None:
        shadows = _missing(common(maps).map, sky.flat)[0]
        known = np.where(np.isfinite(sky.flat), sky.flat, 0.0)
        maps = [one + max(shadows, 0.0) * known for one in maps]  # moved dust is told as such
    found = common(maps)
    rms = math.sqrt(max(found.variance - _masters_noise(sky.frames), 0.0))
    error = found.error / (2 * rms) if rms > 0 else math.nan
    starlight = [common(those).variance for those in sky.moved]
    faint = bool(starlight) and float(np.mean(starlight)) > found.variance
    real = found.sigma > _SIGMAS and rms > _FRINGES[0] and not faint
    amplitude = f"{percent(rms)} rms of the sky in {sky.filter}"
    return Verdict(
        test="fringes",
        status="good" if not real else "bad" if rms > _FRINGES[1] else "doubtful",
        where=str(sky.filter or ""),
        meaning=(
            f"{counted(len(sky.frames), 'frame')} share fine structure of {amplitude}: fringes, or an unfit flat"
            if real
            else f"what {counted(len(sky.frames), 'frame')} share, {amplitude}, moves with the stars: faint ones"
            if faint and found.sigma > _SIGMAS
            else f"{counted(len(sky.frames), 'frame')} share no fine structure above {amplitude}"
        ),
        value=rms,
        error=error,
        expected=0.0,
        fix="a sky flat of dithered frames, or a fringe frame" if real else "",
        evidence=_picture(found),
    )


def _masters_noise(frames: Sequence[FrameFacts]) -> float:
    """Variance of a cell, over the square of the sky, by the noise of the masters, which all frames share.

    Twice what a whole cell has: about half of its pixels are masked.
    """
    return float(np.median([2 * one.noise.sample.shared / (one.sky.size * one.sky.level) ** 2 for one in frames]))


def _picture(found: Common) -> Evidence:
    image = np.asarray(smoothed(found.map, 3), np.float32)
    return Evidence(x_label="x (cells)", y_label="y (cells)", image=image)


def _missing(map_: Array, flat: Array) -> tuple[float, float]:
    """The part of the flat's dark spots that the sky has the inverse of, and its 1 σ."""
    spots = np.isfinite(flat) & np.isfinite(map_) & (flat < -_DARK_SPOT)
    if spots.sum() < 8:
        return 0.0, math.inf
    noise = mad_sigma(map_[np.isfinite(map_)], 0.0)
    weight = float(np.sum(flat[spots] ** 2))
    return float(-np.sum(flat[spots] * map_[spots]) / weight), noise / math.sqrt(weight)


def _dust(sky: _Sky) -> Verdict:
    where = str(sky.filter or "")
    if sky.flat is None:
        return untested("dust", "there is no master flat of this filter and size", where)
    found = common(sky.maps)
    part, error = _missing(found.map, sky.flat)
    if not math.isfinite(error):
        return untested("dust", f"the flat has no shadows deeper than {percent(_DARK_SPOT)}", where)
    real = part > max(_SHADOWS[0], _SIGMAS * error)
    deepest = float(-np.nanmin(sky.flat))
    return Verdict(
        test="dust",
        status="good" if not real else "bad" if part > _SHADOWS[1] else "doubtful",
        where=where,
        meaning=(
            f"{percent(part)} of the shadows in the flat (up to {percent(deepest)} deep) are not in the sky of "
            f"{counted(len(sky.frames), 'frame')}: dust moved after the flats, which put rings as deep into the frames"
            if real
            else f"the shadows of the flat (up to {percent(deepest)} deep) lie where the sky has them"
        ),
        value=part,
        error=error,
        expected=0.0,
        fix="flats of the same night, taken before anything moved" if real else "",
        evidence=_picture(found),
    )


def shutter(material: Material) -> Iterator[Verdict]:
    """Whether the middle is exposed longer than the corners: flats of several times, or short flats against the sky."""
    direct = [told for those in _flat_groups(material.raw) if (told := _from_flats(those)) is not None]
    if direct:
        yield from direct
        return
    told = _from_skies(material)
    yield told or untested(
        "shutter", "no flats of several exposure times, and no sky well seen through flats of a few seconds"
    )


def _iris(shape: tuple[int, int]) -> Array:
    """1 in the middle, where a shutter of blades is open the longest, 0 in the corners; of mean 0."""
    v, u = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]
    made = 1 - np.hypot(u, v) / math.sqrt(2)
    return np.asarray(made - made.mean())


def _flat_groups(raw: Sequence[RawFacts]) -> list[list[RawFacts]]:
    groups: dict[tuple[object, ...], list[RawFacts]] = defaultdict(list)
    for one in raw:
        if one.item.kind == "flat" and one.item.exposure and one.level > 0:
            groups[one.format, one.item.filter].append(one)
    return [
        those
        for those in groups.values()
        if max(one.item.exposure or 0.0 for one in those) > _RATIO * min(one.item.exposure or 0.0 for one in those)
    ]


def _from_flats(flats: Sequence[RawFacts]) -> Verdict | None:
    """Seconds that the middle is exposed longer: how the shape of the flats goes with 1 / exposure time."""
    inverse = np.array([1 / (one.item.exposure or math.nan) for one in flats])
    shapes = np.array([one.cells / np.median(one.cells) for one in flats], np.float64)
    inverse_away, away = inverse - inverse.mean(), shapes / shapes.mean(axis=0) - 1
    slope = np.tensordot(inverse_away, away, axes=1) / np.sum(inverse_away**2)
    ones, x, y = plane((CELLS, CELLS))
    fit = fit_patterns(slope, [ones, x, y, _iris((CELLS, CELLS))])
    seconds, error = float(fit.values[3]), float(fit.errors[3])
    effect = abs(seconds) * float(inverse.max())
    names = f"flats of {1 / inverse.max():g} to {1 / inverse.min():g} s in {flats[0].item.filter}"
    return _verdict(seconds, error, effect, names, slope)


def _verdict(seconds: float, error: float, effect: float, names: str, image: Array) -> Verdict:
    real = abs(seconds) > _SIGMAS * error and effect > _UNEVEN[0]
    return Verdict(
        test="shutter",
        status="good" if not real else "bad" if effect > _UNEVEN[1] else "doubtful",
        meaning=(
            f"{names}: the middle is exposed {1000 * seconds:.0f} ± {1000 * error:.0f} ms longer than the corners, "
            f"{percent(effect)} of the shortest"
            if real
            else f"{names} leave {1000 * seconds:.0f} ± {1000 * error:.0f} ms between middle and corners"
        ),
        value=seconds,
        error=error,
        expected=0.0,
        unit="s",
        fix="longer flats, or a correction for the shutter" if real else "",
        evidence=Evidence(x_label="x (cells)", y_label="y (cells)", image=np.asarray(image, np.float32)),
    )


def _from_skies(material: Material) -> Verdict | None:
    """The same from the sky that short flats make too dark in the middle, in every filter alike."""
    flats: dict[str | None, list[float]] = defaultdict(list)
    for one in material.raw:
        if one.item.kind == "flat" and one.item.exposure:
            flats[one.item.filter].append(one.item.exposure)
    told: list[tuple[float, float, float, Array]] = []
    names: list[str] = []
    groups: dict[str | None, list[FrameFacts]] = defaultdict(list)
    for frame in material.facts:
        if frame.sky.level > _SEEN and frame.exposure and frame.filter in flats:
            groups[frame.filter].append(frame)
    for name, frames in groups.items():
        short = float(np.median(flats[name]))
        long = float(np.median([frame.exposure or math.nan for frame in frames]))
        if len(frames) < _FEWEST or not max(short, long) > 2 * min(short, long):
            continue
        found = _pattern(frames)
        if found is None:
            continue
        amplitude, error, image = found
        weight = 1 / long - 1 / short
        told.append((amplitude / weight, abs(error / weight), abs(weight), image))
        names.append(f"the sky in {name} through flats of {short:g} s")
    if not told:
        return None
    seconds, errors = np.array([one[0] for one in told]), np.array([one[1] for one in told])
    weights = 1 / errors**2
    mean, error = float(np.sum(weights * seconds) / weights.sum()), float(1 / math.sqrt(weights.sum()))
    if len(told) > 1:  # filters that differ differ in their light, not in the shutter
        error = max(error, float(np.std(seconds, ddof=1)) / math.sqrt(len(told)))
    if not -_LONGEST < mean < _LONGEST or mean < 0:
        mean_text = " and ".join(names)
        meaning = f"{mean_text} is not darker in the middle"
        return Verdict(test="shutter", status="good", meaning=meaning, value=mean, error=error, expected=0.0, unit="s")
    return _verdict(mean, error, mean * max(one[2] for one in told), " and ".join(names), told[0][3])


def _pattern(frames: Sequence[FrameFacts]) -> tuple[float, float, Array] | None:
    """Excess of the sky in the middle over the corners, over the level, and its 1 σ from frame to frame."""
    values, maps = [], []
    for frame in frames:
        blocks = _blocks(np.asarray(frame.sky.cells, np.float64) / frame.sky.level)
        ones, x, y = plane(blocks.shape)
        try:
            fit = fit_patterns(blocks, [ones, x, y, _iris(blocks.shape)])
        except OptionError:
            continue
        values.append(float(fit.values[3]))
        maps.append(fit.residual + fit.values[3] * _iris(blocks.shape))
    if len(values) < _FEWEST:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)), max(error, 2e-4), _mean(maps)


def _mean(maps: Sequence[Array]) -> Array:
    """Mean of the maps that have a value, in each block."""
    stack = np.array(maps)
    count = np.isfinite(stack).sum(axis=0)
    return np.where(count > 0, np.where(np.isfinite(stack), stack, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _blocks(cells: Array) -> Array:
    """Medians of 16 × 16 parts of a map."""
    rows = np.array_split(cells, min(_BLOCKS, cells.shape[0]), axis=0)
    made = [[_median(part) for part in np.array_split(row, min(_BLOCKS, cells.shape[1]), axis=1)] for row in rows]
    return np.array(made)


def _median(part: Array) -> float:
    known = part[np.isfinite(part)]
    return float(np.median(known)) if known.size else math.nan
