"""What is new, and what is gone, on a difference: extremes of its score, fitted, and reasons to doubt them.

A star that is not where it was leaves two lobes of opposite sign, a dipole. Whether a pair of lobes is likelier one
dipole than one source and noise is decided by what each explains of the score: the squares of ``s`` for a source, half
of those of ``s + s'`` for lobes of ``s`` and ``-s'``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.arrays import read_only
from larun.algorithms.peaks import Planes, local_maxima, prominent
from larun.algorithms.psf import PSF
from larun.algorithms.psf_fit import FitOptions, fit_reach, fit_stars
from larun.algorithms.secondimages import second_images, with_saturated

__all__ = ["Changes", "find_changes"]

#: A maximum must rise by so much above the pass to a higher one, and by such a part of itself.
_PROMINENCE, _CONTRAST = 3.0, 0.2
#: Opposite lobes of this part of the score make a dipole: there half of the squares of both is more than one's.
_OPPOSITE = math.sqrt(2) - 1
#: FWHM within which lobes and flags are looked for.
_AROUND = 1.5
_SHARP = 2.5  # times the light of a PSF in the highest pixel
_BRIGHT = 3.0  # times the noise of the sky, as a variance
#: Ring in FWHM in which the score is seen to scatter, from which scatter on it counts, and with which power: what the
#: noise does not explain is no Gaussian, its tails are heavier.
_RING, _RESTLESS, _HEAVY = (2.0, 6.0), 1.25, 1.25
#: Chi^2 that a source may have by itself, and the part of its S/N by which a PSF that is a little wrong adds to it.
_CHI2, _CHI2_SHARE = 2.0, 0.05
_MASKED = 0.1  # share of the pixels around
_ONE_SIGMA, _FEWEST = 0.6827, 20
#: A line through a source, in as many directions, whose score on both sides is such a part of its own, and this much.
_DIRECTIONS, _LINE_SHARE, _LINE = 16, 0.3, 1.5


class Changes(NamedTuple):
    """What :func:`find_changes` returns, one element a source, by falling size of the score.

    Attributes
    ----------
    x, y, x_error, y_error : (n,) float64
        Position and its error, pixels; the pixel of the extreme where no position can be fitted.
    flux, flux_error : (n,) float64
        Of the PSF; negative for what is gone.
    score : (n,) float64
        In units of the noise, with the sign.
    chi2 : (n,) float64
        Of the fit, by its degrees of freedom.
    opposite : (n,) float64
        Highest score of the opposite sign within one and a half FWHM, over its own.
    moment : (n,) float64
        Of both lobes, flux times pixels, where they are a dipole; else 0.
    sharpness : (n,) float64
        Light of the highest pixel over that of a star of this flux.
    light : (n,) float64
        Noise variance there over that of the sky: light of stars.
    scatter : (n,) float64
        Of the score in a ring around it: 1 where the noise is what it is said to be.
    line : (n,) float64
        Mean score, of its own sign, along the line through it where that is highest, on the side where it is lower.
    masked : (n,) float64
        Share of the pixels within one and a half FWHM that are not usable.
    flags : (n,) uint32
        OR within one and a half FWHM.
    reasons : dict of (n,) bool
        Reasons to doubt, by name: ``dipole``, ``near_bright``, ``near_saturated``, ``near_edge``, ``one_pixel``,
        ``misshapen``, ``streak``, ``restless``, ``hidden`` and ``second_image``.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    score: NDArray[np.float64]
    chi2: NDArray[np.float64]
    opposite: NDArray[np.float64]
    moment: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    light: NDArray[np.float64]
    scatter: NDArray[np.float64]
    line: NDArray[np.float64]
    masked: NDArray[np.float64]
    flags: NDArray[np.uint32]
    reasons: dict[str, NDArray[np.bool_]]

    @property
    def doubt(self) -> NDArray[np.bool_]:
        """Whether any reason holds."""
        return np.asarray(np.logical_or.reduce(list(self.reasons.values())))


def find_changes(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    flags: NDArray[np.uint32],
    score: NDArray[np.float32],
    psf: PSF,
    *,
    threshold: float = 5.0,
    gain: float = 1.0,
) -> Changes:
    """Find sources of both signs.

    Parameters
    ----------
    data, variance, flags : ndarray, (ny, nx)
        The difference, all of its noise, its flags.
    score : ndarray of float32, (ny, nx)
        Its score.
    psf : PSF
        Its PSF.
    threshold : float
        Least score.
    gain : float
        Electrons per unit.

    Returns
    -------
    Changes
    """
    clean = np.where(np.isfinite(data), data, np.float32(0))
    noise = np.where(np.isfinite(variance) & (variance > 0), variance, np.float32(0))
    bits = flags | np.where(np.isfinite(data), np.uint32(0), fl.NO_DATA)
    options = FitOptions(gain=gain, reach=min(fit_reach(psf.fwhm), psf.radius - 2))
    radius = max(2, math.ceil(_AROUND * psf.fwhm))
    sky = float(np.median(noise[(noise > 0)])) if np.any(noise > 0) else 1.0
    bright = with_saturated(np.asarray(noise / np.float32(sky), np.float32), (bits & fl.SATURATED) != 0)
    parts = []
    for sign in (1, -1):
        image = read_only(np.float32(sign) * score, np.float32)
        peaks = local_maxima(image, threshold)
        value = image.ravel()[peaks].astype(np.float64)
        required = np.maximum(_PROMINENCE, _CONTRAST * value)
        peaks = peaks[prominent(image, peaks, required, max(8, math.ceil(4 * psf.fwhm)))]
        y, x = np.divmod(peaks, score.shape[1])
        planes = np.asarray(np.float32(sign) * clean, np.float32), np.zeros_like(clean), noise, bits
        found = fit_stars(planes, psf, x.astype(np.float64), y.astype(np.float64), options=options)
        fixed = fit_stars(
            planes,
            psf,
            x.astype(np.float64),
            y.astype(np.float64),
            options=FitOptions(gain=gain, reach=options.reach, free_position=False),
        )
        near = np.hypot(found.x - x, found.y - y) < psf.fwhm
        free = found.converged & near & np.isfinite(found.flux)
        columns = {
            "x": np.where(free, found.x, x),
            "y": np.where(free, found.y, y),
            "x_error": np.where(free, found.x_error, 0.5),
            "y_error": np.where(free, found.y_error, 0.5),
            "flux": sign * np.where(free, found.flux, fixed.flux),
            "flux_error": np.where(free, found.flux_error, fixed.flux_error),
            "score": sign * image.ravel()[peaks].astype(np.float64),
            "chi2": np.where(free, found.chi2, fixed.chi2),
        }
        around = image, planes[0], np.asarray(noise / np.float32(sky), np.float32), bits
        rings = _farther(np.where((bits & fl.UNUSABLE) == 0, score, np.float32(0)), columns, psf.fwhm)
        again = {"again": second_images(bright, columns["x"], columns["y"], psf.fwhm)}
        parts.append(columns | _around(around, columns, psf, radius) | rings | again)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((joined["x"], joined["y"], -np.abs(joined["score"])))
    return _judged({name: column[order] for name, column in joined.items()}, threshold)


def _around(planes: Planes, columns: dict[str, Any], psf: PSF, radius: int) -> dict[str, Any]:
    """What is seen around each source: in the score, in the data of this sign, the light, and the flags."""
    image, data, light, flags = planes
    count = len(columns["x"])
    made = {name: np.zeros(count) for name in ("opposite", "moment", "sharpness", "light", "masked")}
    seen = np.zeros(count, np.uint32)
    ny, nx = image.shape
    for n in range(count):
        x, y = columns["x"][n], columns["y"][n]
        column, row = min(max(round(x), 0), nx - 1), min(max(round(y), 0), ny - 1)
        y0, x0 = max(row - radius, 0), max(column - radius, 0)
        window = slice(y0, row + radius + 1), slice(x0, column + radius + 1)
        rows, cells = np.mgrid[window[0].start : min(window[0].stop, ny), window[1].start : min(window[1].stop, nx)]
        away = np.hypot(rows - y, cells - x)
        circle = away <= max(radius, 1.0)
        part = np.where(circle, image[window], np.float32(np.inf))
        low = float(part.min())
        at = np.unravel_index(int(np.argmin(part)), part.shape)
        own = abs(columns["score"][n])
        made["opposite"][n] = max(-low, 0.0) / own
        if made["opposite"][n] > _OPPOSITE:
            made["moment"][n] = abs(columns["flux"][n]) * 0.5 * (1 + made["opposite"][n]) * float(away[at])
        top = float(psf.values(column - x, row - y, x, y)[0])
        light_here = abs(columns["flux"][n]) * top
        made["sharpness"][n] = data[row, column] / light_here if light_here > 0 else np.nan
        made["light"][n] = light[row, column]
        unusable = (flags[window] & fl.UNUSABLE) != 0
        inside = float(np.count_nonzero(circle))
        whole = max(math.pi * radius**2, inside)
        made["masked"][n] = (np.count_nonzero(unusable & circle) + whole - inside) / whole
        seen[n] = np.bitwise_or.reduce(flags[window][circle]) if circle.any() else 0
    return {**made, "flags": seen}


def _farther(score: NDArray[np.float32], columns: dict[str, Any], fwhm: float) -> dict[str, Any]:
    """What the score does in a ring around each source: scatter, and lines through it.

    A spike of a bright star, a trail, a bad row, or a star that the kernel does not fit reach farther than a source.
    """
    far = math.ceil(_RING[1] * fwhm)
    rows, cells = np.mgrid[-far : far + 1, -far : far + 1]
    away = np.hypot(rows, cells)
    ring = (away >= _RING[0] * fwhm) & (away <= _RING[1] * fwhm)
    around = rows[ring], cells[ring]
    along = np.arange(math.ceil(_RING[0] * fwhm), far + 1)
    angles = np.arange(2 * _DIRECTIONS)[:, None] * (math.pi / _DIRECTIONS)
    lines = np.rint(along * np.sin(angles)).astype(np.int64), np.rint(along * np.cos(angles)).astype(np.int64)
    made = {"scatter": np.ones(len(columns["x"])), "line": np.zeros(len(columns["x"]))}
    for n, (x, y) in enumerate(zip(columns["x"], columns["y"], strict=True)):
        seen = _seen(score, round(y) + around[0], round(x) + around[1])
        seen = seen[seen != 0]
        if seen.size >= _FEWEST:
            made["scatter"][n] = np.quantile(np.abs(seen), _ONE_SIGMA)
        values = _seen(score, round(y) + lines[0], round(x) + lines[1]) * np.sign(columns["score"][n])
        known = np.count_nonzero(values, axis=1)
        mean = np.where(2 * known > len(along), values.sum(axis=1) / np.maximum(known, 1), -np.inf)
        made["line"][n] = max(float(np.minimum(mean[:_DIRECTIONS], mean[_DIRECTIONS:]).max()), 0.0)
    return made


def _seen(score: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """The score at places; 0, as where it is not known, beyond the image."""
    ny, nx = score.shape
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    return np.where(inside, score[np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)], 0.0).astype(np.float64)


def _judged(columns: dict[str, Any], threshold: float) -> Changes:
    seen, again = np.asarray(columns["flags"], np.uint32), columns.pop("again")
    snr, scatter = np.abs(columns["score"]), columns["scatter"]
    needed = threshold * np.where(scatter > _RESTLESS, scatter**_HEAVY, 1.0)
    with np.errstate(invalid="ignore"):
        reasons = {
            "dipole": columns["opposite"] > _OPPOSITE,
            # a star that varies is on light, its own: it stands out by more than stars around do
            "near_bright": (columns["light"] > _BRIGHT) & (snr < 2 * needed),
            "near_saturated": (seen & fl.SATURATED) != 0,
            "near_edge": (seen & (fl.EDGE | fl.NO_DATA)) != 0,
            "one_pixel": ~(columns["sharpness"] < _SHARP),
            "misshapen": ~(columns["chi2"] < _CHI2 + (_CHI2_SHARE * snr) ** 2),
            "streak": (columns["line"] > _LINE_SHARE * snr) & (columns["line"] > _LINE * np.maximum(scatter, 1.0)),
            "restless": snr < needed,
            "hidden": columns["masked"] > _MASKED,
            "second_image": again,
        }
    return Changes(**columns, reasons=reasons)
