"""The verdict on a simulated night: each recovered value beside the true one, with limits.

The limits are generous: they tell a broken chain from a working one, the test suite holds the tight ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.report.recovery import DETECTABLE, Cosmics, FrameScore, Stars
from larun.simulate import NightTruth

__all__ = ["Check", "photon_transfer", "robust_width", "summarize"]


class Check(NamedTuple):
    """One line of the comparison.

    Attributes
    ----------
    name, where : str
        What was compared, and in which filter (empty: everywhere).
    found : float
        What the reduction gives; NaN where there is too little to tell, which fails.
    expected : float
        What is true.
    low, high : float
        Limits between which ``found`` must lie.
    samples : int
        From how many stars, pixels or frames.
    """

    name: str
    where: str
    found: float
    expected: float
    low: float
    high: float
    samples: int

    @property
    def passed(self) -> bool:
        """Whether the value lies within its limits."""
        return self.low <= self.found <= self.high


def robust_width(values: NDArray[np.float64]) -> float:
    """Half the range of the central 68.3 %: σ of a Gaussian, whatever the outliers; NaN of fewer than 10 values.

    Examples
    --------
    >>> round(robust_width(np.random.default_rng(1).normal(0, 2, 100_000)), 1)
    2.0
    """
    finite = values[np.isfinite(values)]
    if finite.size < 10:
        return math.nan
    low, high = np.quantile(finite, [0.15865, 0.84135])
    return float(high - low) / 2


def photon_transfer(flats: Sequence[NDArray[np.float32]], biases: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Gain (electron/ADU) and read noise (electron) from two flats and two biases.

    The variance of the difference of two flats, brought to one level, is shot noise and read noise and nothing else
    (Howell 2006, Handbook of CCD Astronomy, sect. 4.3).

    Parameters
    ----------
    flats, biases : two arrays (ny, nx) each
        ADU above the bias level; the same pixels.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> flats = [rng.poisson(40000, (300, 300)) / 2 + rng.normal(0, 3, (300, 300)) for _ in range(2)]
    >>> biases = [rng.normal(0, 3, (300, 300)) for _ in range(2)]
    >>> gain, noise = photon_transfer(flats, biases)
    >>> round(gain, 1), round(noise, 1)
    (2.0, 6.0)
    """
    (one, two), (dark_one, dark_two) = flats, biases
    read = _clipped_variance(dark_one - dark_two) / 2
    first, second = float(np.mean(one, dtype=np.float64)), float(np.mean(two, dtype=np.float64))
    scale = first / second
    shot = _clipped_variance(one - np.float32(scale) * two) - read * (1 + scale**2)
    gain = first * (1 + scale) / shot
    return gain, gain * math.sqrt(max(read - 1 / 12, 0.0))  # 1/12: the rounding to whole counts


def _clipped_variance(values: NDArray[np.floating]) -> float:
    """Variance without what lies beyond 4.5 σ (7e-6 of a Gaussian): hot pixels."""
    kept = values.astype(np.float64).ravel()
    kept = kept - np.median(kept)
    for _ in range(5):
        kept = kept[np.abs(kept) < 4.5 * kept.std()]
    return float(kept.var())


def summarize(
    scores: Iterable[FrameScore], truth: NightTruth, gains: Iterable[tuple[str, float, float]] = ()
) -> tuple[Check, ...]:
    """The lines of the comparison, and the limits within which a working chain lies.

    Parameters
    ----------
    scores : iterable of FrameScore
        Every science frame.
    truth : NightTruth
        The night.
    gains : iterable of (filter, gain, read noise)
        From :func:`photon_transfer`.
    """
    scores = tuple(scores)
    lines: list[Check] = []
    for band in dict.fromkeys(score.band for score in scores):
        lines += _of_filter(band, [score for score in scores if score.band == band])
    lines += _of_night(scores)
    for band, gain, noise in gains:
        true = truth.camera
        lines.append(Check("gain, e⁻/ADU", band, gain, true.gain, 0.97 * true.gain, 1.03 * true.gain, 2))
        low, high = 0.95 * true.read_noise, 1.05 * true.read_noise
        lines.append(Check("read noise, e⁻", band, noise, true.read_noise, low, high, 2))
    return tuple(lines)


def _of_filter(band: str, scores: Sequence[FrameScore]) -> list[Check]:
    stars = Stars(*(np.concatenate(columns) for columns in zip(*(score.stars for score in scores), strict=True)))
    usable, expected = stars.usable, stars.expected
    bright = expected & (stars.snr >= 2 * DETECTABLE)
    # Aperture and flat normalisation are common to all stars of a frame: only what differs from star to star counts.
    common = np.concatenate([np.full(len(s.stars.ratio), _median(s.stars.ratio[s.stars.usable])) for s in scores])
    excess = (stars.ratio / common - 1)[usable]
    claimed = (stars.ratio_error / common)[usable]
    clear = claimed < 0.01
    sources = sum(int(score.stars.found.sum()) + score.false for score in scores)
    false = sum(score.false for score in scores)
    count = int(usable.sum())
    scatter, error = robust_width(excess[clear]), _median(claimed[clear])
    return [
        Check("stars above 5 σ found", band, _part(stars.found, expected), 1.0, 0.85, 1.0, int(expected.sum())),
        Check("stars above 10 σ found", band, _part(stars.found, bright), 1.0, 0.95, 1.0, int(bright.sum())),
        Check("sources that are no star", band, false / sources if sources else math.nan, 0.0, 0.0, 0.05, sources),
        Check("median offset in x, px", band, _median(stars.dx[usable]), 0.0, -0.02, 0.02, count),
        Check("median offset in y, px", band, _median(stars.dy[usable]), 0.0, -0.02, 0.02, count),
        Check("offset / its error, 68 %", band, _pull(stars, usable), 1.0, 0.8, 1.3, 2 * count),
        Check("flux / true, 68 % (errors < 1 %)", band, scatter, error, 0.0, 1.4 * error, int(clear.sum())),
        Check("flux − true / its error, 68 %", band, robust_width(excess / claimed), 1.0, 0.8, 1.3, count),
    ]


def _of_night(scores: Sequence[FrameScore]) -> list[Check]:
    frames = len(scores)
    width = [score.fwhm / score.seeing for score in scores]
    worst = max(width, key=lambda ratio: abs(ratio - 1), default=math.nan)
    total = Cosmics(*(sum(column) for column in zip(*(score.cosmics for score in scores), strict=True)))
    lines = [
        Check("FWHM / true, worst frame", "", worst, 1.0, 0.93, 1.07, frames),
        Check("cosmic-ray pixels > 5 σ found", "", total.recall, 1.0, 0.9, 1.0, total.strong),
        Check("flagged pixels that were hit", "", total.precision, 1.0, 0.8, 1.0, total.flagged),
        Check("hot pixels flagged", "", min(score.hot for score in scores), 1.0, 0.9, 1.0, frames),
        Check("dead column flagged", "", min(score.dead for score in scores), 1.0, 0.99, 1.0, frames),
        Check("good pixels called bad", "", max(score.wrongly_bad for score in scores), 0.0, 0.0, 1e-3, frames),
        Check("saturated star flagged", "", sum(s.saturated for s in scores) / frames, 1.0, 1.0, 1.0, frames),
    ]
    there = [score for score in scores if score.new_source_there is True]
    before = [score for score in scores if score.new_source_there is False]
    if there:
        seen = sum(math.isfinite(score.new_source) for score in there)
        pull = max((score.new_source_pull for score in there), key=abs)
        lines.append(Check("new source found once there", there[0].band, seen / len(there), 1.0, 1.0, 1.0, len(there)))
        lines.append(Check("its flux − true / error, worst", there[0].band, pull, 0.0, -5.0, 5.0, len(there)))
    if before:
        seen = sum(math.isfinite(score.new_source) for score in before)
        lines.append(Check("new source found before", before[0].band, seen / len(before), 0.0, 0.0, 0.0, len(before)))
    return lines


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if values.size else math.nan


def _part(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return float(of[among].mean()) if among.any() else math.nan


def _pull(stars: Stars, usable: NDArray[np.bool_]) -> float:
    both = np.concatenate([(stars.dx / stars.x_error)[usable], (stars.dy / stars.y_error)[usable]])
    return robust_width(both)
