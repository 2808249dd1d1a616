"""Gain and read noise from pairs of frames that see the same: what differs between them is noise.

Two flats are brought to one level in small cells, so that neither the lamp nor the sensitivity of a pixel matters. The
variance of what is left is photon noise, which grows with the level by one over the gain, and read noise (Janesick
2001, Scientific Charge-Coupled Devices, sect. 2.2). Charge that is collected repels what comes after it, so bright
pixels share noise with their neighbours: the variance falls below the line by ``a µ²``, and the covariances with the
neighbours take up what is missing (Astier et al. 2019, A&A 629, A36, eq. 20, to second order).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import Estimate, mad_sigma
from larun.errors import OptionError

__all__ = [
    "PairCells",
    "PhotonTransfer",
    "cells_of",
    "fit_gain",
    "mean_of_cells",
    "pair_cells",
    "pair_noise",
]

Floats = NDArray[np.float64]

CELL = 32  # pixels along a side
_CLIP = 4.0  # σ: differences beyond it are cosmic rays, stars, defects
_KEPT = 1 - 2 * _CLIP * math.exp(-(_CLIP**2) / 2) / math.sqrt(2 * math.pi) / math.erf(_CLIP / math.sqrt(2))
_ROUNDING = 0.3  # no scatter of whole counts is smaller
_MOST = 2048  # cells that are looked at: two million pixels say a gain to 0.1 %
_LEAST_FULL = 0.5  # of its pixels a cell must have
_UNLIKE = math.log(4.0)  # of the ratio: the dark one of a pair of such flats tells little, and its stars much
_OUTLIER = 5.0  # σ: cells beyond it do not count
_BLOCKS = 64  # of the jackknife
_RAMP = 1.5  # highest over lowest level, from which on a curve can be told from a line
_GOOD_RAMP = 0.02  # relative error of the gain up to which the curve is better than the line
_SIGNIFICANT = 5.0
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # and those opposite


class PairCells(NamedTuple):
    """The differences of two frames in small cells; (cells,) each, NaN where a cell has too few pixels.

    Attributes
    ----------
    level : ndarray of float64
        Mean of the first frame, ADU.
    ratio : ndarray of float64
        First over second: what the second was multiplied by.
    variance : ndarray of float64
        Of first less scaled second, ADU².
    neighbours : ndarray of float64
        Sum of the covariances with the eight neighbours, ADU².
    pixels : ndarray of float64
        How many counted.
    """

    level: Floats
    ratio: Floats
    variance: Floats
    neighbours: Floats
    pixels: Floats


class PhotonTransfer(NamedTuple):
    """What the noise of flats says of an amplifier.

    Attributes
    ----------
    gain, gain_error : float
        Electrons per ADU and its 1 σ.
    curvature, curvature_error : float
        The coefficient ``a`` of ``variance = level / gain + a level²``, per electron; NaN where no ramp tells.
    bend, bend_error : float
        The same coefficient over the slope, per ADU, of the variance with what the neighbours share: zero where counts
        are linear; NaN where no ramp tells.
    shared, shared_error : float
        Sum of the covariances with the eight neighbours over the photon variance.
    method : {"line", "curve", "neighbours"}
        A line; a line with the quadratic term, where there is a ramp; a line through variances to which what the
        neighbours share was added.
    level, variance, variance_error : ndarray of float64, (points,)
        Photon variance of one frame, in ADU², at rising levels, in ADU: what was fitted.
    """

    gain: float
    gain_error: float
    curvature: float
    curvature_error: float
    bend: float
    bend_error: float
    shared: float
    shared_error: float
    method: str
    level: Floats
    variance: Floats
    variance_error: Floats


def cells_of(plane: NDArray[np.floating], cell: int = CELL, most: int = _MOST) -> Floats:
    """Square cells of a plane, (cells, cell, cell): all of them, or every n-th along both axes if they are too many.

    Raises
    ------
    OptionError
        If the plane is smaller than one cell.
    """
    ny, nx = plane.shape[0] // cell, plane.shape[1] // cell
    if not ny or not nx:
        raise OptionError(f"{plane.shape[1]} × {plane.shape[0]} pixels are less than one cell of {cell} × {cell}")
    step = math.ceil(math.sqrt(ny * nx / most))
    made = plane[: ny * cell, : nx * cell].reshape(ny, cell, nx, cell)[::step, :, ::step]
    return made.transpose(0, 2, 1, 3).reshape(-1, cell, cell).astype(np.float64)


def pair_cells(
    one: NDArray[np.floating], two: NDArray[np.floating], *, scaled: bool, cell: int = CELL, most: int = _MOST
) -> PairCells:
    """Level, ratio and variance of the difference of two frames, cell by cell.

    Parameters
    ----------
    one, two : ndarray, (ny, nx)
        ADU above bias; NaN where a pixel means nothing.
    scaled : bool
        Whether the second is brought to the level of the first (flats); else only the mean difference is taken away.
    cell : int
        Pixels along a side of a cell.
    most : int
        Cells to look at.

    Returns
    -------
    PairCells

    Raises
    ------
    OptionError
        If the frames differ in shape or are smaller than a cell.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> one, two = rng.normal(0, 5, (2, 256, 256))
    >>> round(float(np.sqrt(pair_cells(one, two, scaled=False).variance.mean() / 2)), 1)
    5.0
    """
    if one.shape != two.shape:
        raise OptionError(f"frames of {one.shape} and {two.shape} pixels are no pair")
    a, b = cells_of(one, cell, most), cells_of(two, cell, most)
    good = np.isfinite(a) & np.isfinite(b)
    enough = good.sum(axis=(1, 2)) >= _LEAST_FULL * cell**2
    a, b = np.where(good, a, np.nan), np.where(good, b, np.nan)
    a[~enough], b[~enough] = 0.0, 0.0  # medians of nothing
    flat = (len(a), cell * cell)
    ratio = np.ones(len(a))
    if scaled:
        below = np.nanmedian(b.reshape(flat), axis=1)
        enough &= below > 0
        ratio = np.where(enough, np.nanmedian(a.reshape(flat), axis=1) / np.where(enough, below, 1.0), 1.0)
    a, b = np.where(good, a, 0.0), np.where(good, b, 0.0)
    difference = a - ratio[:, None, None] * b
    centre = np.nanmedian(np.where(good, difference, np.nan)[enough].reshape(-1, cell * cell), axis=1)
    smooth = np.zeros((len(a), 1, 1))
    smooth[enough, 0, 0] = centre
    spread = np.abs(difference - smooth)
    scale = np.full(len(a), _ROUNDING)
    scale[enough] = np.nanmedian(np.where(good, spread, np.nan)[enough].reshape(-1, cell * cell), axis=1) / 0.6745
    for _ in range(4):
        kept = good & (np.abs(difference - smooth) <= _CLIP * np.maximum(scale, _ROUNDING)[:, None, None])
        count = np.maximum(kept.sum(axis=(1, 2)), 4)
        if scaled:
            total = np.where(kept, b, 0.0).sum(axis=(1, 2))
            ratio = np.where(enough, np.where(kept, a, 0.0).sum(axis=(1, 2)) / np.where(enough, total, 1.0), 1.0)
            difference = a - ratio[:, None, None] * b
        smooth = _plane(difference, kept, count)
        residual = np.where(kept, difference - smooth, 0.0)
        variance = np.sum(residual**2, axis=(1, 2)) / (count - 3) / _KEPT
        scale = np.sqrt(variance)
    level = np.where(kept, a, 0.0).sum(axis=(1, 2)) / count
    blank = np.where(enough, 1.0, np.nan)
    shared = _shared(residual, kept, 3 * variance / count)
    return PairCells(level * blank, ratio * blank, variance * blank, shared * blank, count * blank)


def _plane(difference: Floats, kept: NDArray[np.bool_], count: NDArray[np.intp]) -> Floats:
    """Mean and slopes of each cell: the light of two flats may fall off in different ways."""
    cell = difference.shape[1]
    u = np.linspace(-1, 1, cell)
    made: Floats = (np.where(kept, difference, 0.0).sum(axis=(1, 2)) / count)[:, None, None]
    for slope in (u[None, None, :], u[None, :, None]):
        left = np.where(kept, difference - made, 0.0)
        norm = np.maximum(np.where(kept, slope**2, 0.0).sum(axis=(1, 2)), 1e-9)
        made = made + ((left * slope).sum(axis=(1, 2)) / norm)[:, None, None] * slope
    return made


def _shared(residual: Floats, kept: NDArray[np.bool_], lost: Floats) -> Floats:
    """Sum of the covariances with the eight neighbours; ``lost`` is what each loses with the plane that was removed."""
    cell = residual.shape[1]
    total = np.zeros(len(residual))
    for dy, dx in _NEIGHBOURS:
        here = np.s_[:, : cell - dy, max(-dx, 0) : cell - max(dx, 0)]
        there = np.s_[:, dy:, max(dx, 0) : cell - max(-dx, 0)]
        pairs = np.maximum((kept[here] & kept[there]).sum(axis=(1, 2)), 1)
        total += 2 * ((residual[here] * residual[there]).sum(axis=(1, 2)) / pairs + lost)
    return total


def mean_of_cells(values: Floats) -> Estimate:
    """Mean of what cells say, without those that stand out, and its error from their scatter; NaN for fewer than 3."""
    finite = values[np.isfinite(values)]
    if finite.size < 3:
        return Estimate(math.nan, math.nan)
    centre = float(np.median(finite))
    scatter = mad_sigma(finite, centre)
    kept = finite[np.abs(finite - centre) <= _OUTLIER * scatter] if scatter > 0 else finite
    return Estimate(float(kept.mean()), float(kept.std(ddof=1) / math.sqrt(kept.size)))


def pair_noise(pairs: Sequence[PairCells]) -> Estimate:
    """Noise of one frame, rms, from pairs of frames that were not scaled: of all pairs, the error from the cells.

    Pairs may share frames: cells are independent of each other, and their scatter is that of the mean of all pairs
    (of five or more the median: one odd frame spoils two of them).
    """
    variances = [pair.variance / 2 for pair in pairs]
    variance = mean_of_cells(np.mean(variances, axis=0) if len(pairs) < 5 else np.median(variances, axis=0))
    if not variance.value > 0:
        return Estimate(math.nan, math.nan)
    noise = math.sqrt(variance.value)
    return Estimate(noise, variance.error / (2 * noise))


def fit_gain(pairs: Sequence[PairCells], read_noise: Estimate) -> PhotonTransfer:
    """The gain from pairs of flats.

    Parameters
    ----------
    pairs : sequence of PairCells
        Scaled, of one amplifier. Pairs may share frames: the error comes from leaving out cells (jackknife).
    read_noise : Estimate
        Of one frame, ADU.

    Returns
    -------
    PhotonTransfer
        With NaN for the gain if fewer than 3 cells have light.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> one, two = (rng.poisson(20000.0, (2, 256, 256)) + rng.normal(0, 6, (2, 256, 256))) / 2.0
    >>> found = fit_gain([pair_cells(one, two, scaled=True)], Estimate(3.0, 0.01))
    >>> bool(abs(found.gain - 2.0) < 4 * found.gain_error), found.method
    (True, 'line')
    """
    points = _Points.of(pairs, read_noise)
    straight = _fitted(points, 1) if points.line.size >= 3 else None
    if straight is None or not straight.slope.value > 0:
        nan = math.nan
        return PhotonTransfer(*(nan,) * 8, "line", *(np.empty(0),) * 3)
    shared = _fitted(points._replace(photons=points.shared), 1)
    part = Estimate(shared.slope.value / straight.slope.value, shared.slope.error / straight.slope.value)
    chosen, method, curvature, bend = straight, "line", Estimate(math.nan, math.nan), Estimate(math.nan, math.nan)
    low, high = np.quantile(points.level, [0.05, 0.95])
    if high >= _RAMP * low:
        curve = _fitted(points, 2)
        curvature = curve.curvature
        whole = _fitted(points._replace(photons=points.photons + points.shared), 2)
        if whole.slope.value > 0:
            bend = Estimate(*(one / whole.slope.value for one in whole.curvature))
        significant = abs(curvature.value) > _SIGNIFICANT * curvature.error
        if curve.slope.value > 0 and (significant or curve.slope.error < _GOOD_RAMP * curve.slope.value):
            chosen, method = curve, "curve"
    if method == "line" and abs(part.value) > _SIGNIFICANT * part.error:
        chosen, method = _fitted(points._replace(photons=points.photons + points.shared), 1), "neighbours"
    slope = chosen.slope.value
    error = math.hypot(chosen.slope.error, points.read_effect())
    if not slope > 0:
        slope = error = math.nan
    level, variance, variance_error = _curve(points)
    return PhotonTransfer(
        1 / slope, error / slope**2, *curvature, *bend, *part, method, level, variance, variance_error
    )


class _Points(NamedTuple):
    """Every cell of every pair that counts."""

    line: Floats  # what 1/gain is multiplied by
    curve: Floats  # what the curvature is multiplied by
    photons: Floats  # variance without read noise
    shared: Floats
    weight: Floats
    level: Floats
    read: Floats  # how often the read variance was taken away
    block: NDArray[np.intp]
    read_error: float  # of the read variance

    @classmethod
    def of(cls, pairs: Sequence[PairCells], read_noise: Estimate) -> _Points:
        parts = []
        for pair in pairs:
            line = pair.level * (1 + pair.ratio)
            read = 1 + pair.ratio**2
            photons = pair.variance - read * read_noise.value**2
            good = np.isfinite(photons) & (pair.level > 0) & (np.abs(np.log(np.maximum(pair.ratio, 1e-9))) < _UNLIKE)
            if good.sum() < 3:
                continue
            slope = float(np.median(photons[good] / line[good]))
            model = np.maximum(slope, 1e-9) * line + read * read_noise.value**2
            pull = (pair.variance / model - 1) * np.sqrt(pair.pixels / 2)
            centre = np.median(pull[good])
            scatter = mad_sigma(pull[good], centre)
            good &= np.abs(pull - centre) <= _OUTLIER * max(scatter, 0.5)
            block = np.arange(len(line)) * min(_BLOCKS, len(line)) // len(line)
            columns = (
                line,
                2 * pair.level**2,
                photons,
                pair.neighbours,
                pair.pixels / model**2,
                pair.level,
                read,
                block,
            )
            parts.append([column[good] for column in columns])
        if not parts:
            return cls(*(np.empty(0),) * 7, np.empty(0, np.intp), 0.0)
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        line, curve, photons, shared, weight, level, read, block = joined
        unsure = 2 * read_noise.value * max(read_noise.error, 0.0)
        return cls(line, curve, photons, shared, weight, level, read, block.astype(np.intp), unsure)

    def read_effect(self) -> float:
        """Error of the slope that the error of the read noise makes."""
        return self.read_error * float(np.sum(self.weight * self.line * self.read) / np.sum(self.weight * self.line**2))


class _Fit(NamedTuple):
    slope: Estimate
    curvature: Estimate


def _fitted(points: _Points, terms: int) -> _Fit:
    """Weighted least squares through the origin, of one term or two; errors by leaving out one block at a time."""
    w, x, q, y = points.weight, points.line, points.curve, points.photons
    unit = float(np.median(q) / np.median(x))  # both terms of one size
    q = q / unit
    columns = np.stack([w * x * x, w * x * q, w * q * q, w * x * y, w * q * y])
    blocks = np.unique(points.block)
    sums = np.stack([columns[:, points.block == block].sum(axis=1) for block in blocks])
    left = sums.sum(axis=0) - sums
    whole = _solved(sums.sum(axis=0)[None], terms)[0]
    each = _solved(left, terms)
    count = len(blocks)
    error = (
        np.sqrt((count - 1) / count * np.sum((each - each.mean(axis=0)) ** 2, axis=0)) if count > 1 else whole * np.nan
    )
    return _Fit(Estimate(float(whole[0]), float(error[0])), Estimate(float(whole[1]) / unit, float(error[1]) / unit))


def _solved(sums: Floats, terms: int) -> Floats:
    """(n, 2): slope and curvature of normal equations."""
    xx, xq, qq, xy, qy = sums.T
    if terms == 1:
        return np.stack([xy / xx, np.zeros(len(sums))], axis=1)
    determinant = xx * qq - xq * xq
    return np.stack([(qq * xy - xq * qy) / determinant, (xx * qy - xq * xy) / determinant], axis=1)


def _curve(points: _Points, most: int = 24) -> tuple[Floats, Floats, Floats]:
    """Photon variance of one frame at rising levels."""
    order = np.argsort(points.level, kind="stable")
    found = []
    for inside in np.array_split(order, min(most, max(1, order.size // 8))):
        w, x, y = points.weight[inside], points.line[inside], points.photons[inside]
        norm = float(np.sum(w * x * x))
        level = float(points.level[inside].mean())
        found.append((level, level * float(np.sum(w * x * y)) / norm, level * math.sqrt(2 / norm)))
    level_, variance, error = np.array(found).T
    return level_, variance, error
