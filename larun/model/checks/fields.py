"""Frames of one field: their stars matched, and what became of the light of the same stars from frame to frame."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.offsets import Offset, vote_offset
from larun.algorithms.robust import median_error
from larun.model.checks.facts import FrameFacts

__all__ = ["Band", "Field", "fields_of"]

Array = NDArray[np.float64]

_FEWEST = 5  # stars that a median needs
_SNR = 15.0  # of a star that enters a ratio of fluxes
_CANDIDATES = 3  # frames that are tried as the one that all others are matched with
_MOST = 0.7  # of the frames: one that matches so many is taken
_ROUNDS = 5
_SOME = 8  # stars: of fewer nothing can be said to be missing


class Band(NamedTuple):
    """The frames of a field in one filter.

    Attributes
    ----------
    filter : str or None
        By the headers.
    members : ndarray of intp, (frames,)
        Of its frames in the field.
    zero, error : ndarray of float64, (frames,)
        ln of the flux per second of the same stars, against the median frame of the band, and its 1 σ; NaN where too
        few are matched.
    stars : ndarray of float64, (all stars of the field,)
        ln of the flux per second of each star, at zero 0; NaN where it is not measured.
    """

    filter: str | None
    members: NDArray[np.intp]
    zero: Array
    error: Array
    stars: Array


class Field(NamedTuple):
    """Frames that claim to show the same field.

    Attributes
    ----------
    name : str
        By the headers.
    frames : tuple of FrameFacts
        In the order of their times.
    reference : int
        The frame that all others are matched with.
    offsets : tuple of Offset or None
        From the reference to each frame; None where the stars do not match, or are too few.
    turned : tuple of bool
        Whether the frame matches when it is turned by 180°.
    rates, errors : ndarray of float64, (stars, frames)
        ln of the flux per second of each star of the reference in each frame, and its 1 σ; NaN where not measured.
    bands : tuple of Band
        The filters.
    """

    name: str
    frames: tuple[FrameFacts, ...]
    reference: int
    offsets: tuple[Offset | None, ...]
    turned: tuple[bool, ...]
    rates: Array
    errors: Array
    bands: tuple[Band, ...]

    def enough(self, index: int) -> bool:
        """Whether a frame and the reference have so many stars that they must match."""
        return min(len(self.frames[i].stars.x) for i in (index, self.reference)) >= _SOME

    def residuals(self, index: int, band: Band) -> tuple[Array, Array]:
        """Ln of the fluxes of a frame's stars against a band, without their median, and the 1 σ of each.

        The frame itself has no part in what it is compared with.
        """
        others = band.members[band.members != index]
        stars = _mean_stars(self.rates[:, others], band.zero[band.members != index])
        away, error = self.rates[:, index] - stars, self.errors[:, index]
        good = np.isfinite(away) & np.isfinite(error)
        away = away[good]
        return (away - np.median(away) if away.size else away), error[good]


def fields_of(facts: Iterable[FrameFacts]) -> tuple[Field, ...]:
    """Sort frames by the field that their headers name, and match their stars."""
    groups: dict[tuple[object, ...], list[FrameFacts]] = defaultdict(list)
    for one in facts:
        groups[_claim(one)].append(one)
    return tuple(_field(group) for group in groups.values())


def _claim(one: FrameFacts) -> tuple[object, ...]:
    """What a frame says it shows: a name, else a place to a third of a degree, else the one field of the night."""
    name = "".join(c for c in (one.object or "").casefold() if c.isalnum())
    if name:
        return (one.shape, name)
    if one.center is not None:
        return (one.shape, round(one.center[0] * 3), round(one.center[1] * 3))
    return (one.shape,)


def _field(frames: Sequence[FrameFacts]) -> Field:
    name = frames[0].object or "the field"
    richest = sorted(range(len(frames)), key=lambda n: (-len(frames[n].stars.x), n))[: 4 * _CANDIDATES]
    tried = richest[:: max(1, len(richest) // _CANDIDATES)][:_CANDIDATES]
    matched: dict[int, list[tuple[Offset | None, bool]]] = {}
    for n in tried:
        matched[n] = _matched(frames, n)
        if sum(offset is not None for offset, _ in matched[n]) > _MOST * len(frames):
            break
    reference = max(matched, key=lambda n: (sum(0 if o is None else len(o.first) for o, _ in matched[n]), -n))
    found = matched[reference]
    rates, errors = _table(frames, reference, found)
    filters: dict[str | None, list[int]] = defaultdict(list)
    for n, frame in enumerate(frames):
        filters[frame.filter].append(n)
    bands = tuple(_band(band, np.array(index, np.intp), rates) for band, index in filters.items())
    offsets, turned = tuple(o for o, _ in found), tuple(t for _, t in found)
    return Field(name, tuple(frames), reference, offsets, turned, rates, errors, bands)


def _matched(frames: Sequence[FrameFacts], reference: int) -> list[tuple[Offset | None, bool]]:
    """The offset of each frame to one of them; where there is none, that of the frame turned by 180°."""
    made: list[tuple[Offset | None, bool]] = []
    base = frames[reference]
    for frame in frames:
        size = np.nanmax([frame.fwhm, base.fwhm, 2.0])
        tolerance = float(max(1.5, 0.5 * size))
        offset = vote_offset(base.stars.x, base.stars.y, frame.stars.x, frame.stars.y, tolerance=tolerance)
        turned = False
        if offset is None and min(len(base.stars.x), len(frame.stars.x)) >= _SOME:
            ny, nx = frame.shape
            x, y = nx - 1 - frame.stars.x, ny - 1 - frame.stars.y
            offset = vote_offset(base.stars.x, base.stars.y, x, y, tolerance=tolerance)
            turned = offset is not None
        made.append((offset, turned))
    return made


def _table(
    frames: Sequence[FrameFacts], reference: int, matched: Sequence[tuple[Offset | None, bool]]
) -> tuple[Array, Array]:
    """Ln flux per second of the reference's stars in every frame."""
    shape = (len(frames[reference].stars.x), len(frames))
    rates, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    for n, (frame, (offset, _)) in enumerate(zip(frames, matched, strict=True)):
        if offset is None or not frame.exposure or frame.exposure <= 0:
            continue
        flux, error = frame.stars.flux[offset.second], frame.stars.flux_error[offset.second]
        good = (flux > 0) & (flux > _SNR * error)
        rates[offset.first[good], n] = np.log(flux[good] / frame.exposure)
        errors[offset.first[good], n] = error[good] / flux[good]
    return rates, errors


def _band(name: str | None, index: NDArray[np.intp], rates: Array) -> Band:
    """Zero points of the frames of one filter, by medians over stars and frames in turn."""
    own = rates[:, index]
    zero = np.zeros(len(index))
    for _ in range(_ROUNDS):
        stars = _mean_stars(own, zero)
        away = own - stars[:, None]
        zero = np.array([_median(column) for column in away.T])
        known = zero[np.isfinite(zero)]
        zero = zero - (np.median(known) if known.size else 0.0)
    error = np.array([median_error(column[np.isfinite(column)]) for column in away.T])
    return Band(name, index, zero, error, _mean_stars(own, zero))


def _mean_stars(rates: Array, zero: Array) -> Array:
    """The median over frames of each star, their zero points taken off."""
    levelled = rates - np.where(np.isfinite(zero), zero, np.nan)
    made = np.full(len(rates), np.nan)
    known = np.isfinite(levelled).any(axis=1)
    if levelled.shape[1]:
        made[known] = np.nanmedian(levelled[known], axis=1)
    return made


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size >= _FEWEST else math.nan
