"""Which star of one frame is which of another, without a WCS; and what their repeated fluxes say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.offsets import vote_offset
from larun.algorithms.repeats import Repeats, circles_overlap, repeated_fluxes
from larun.algorithms.robust import Estimate, mad_sigma
from larun.errors import OptionError
from larun.model.checks.common import combined
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material, once
from larun.model.measure.matching import nearest_pairs

__all__ = ["Field", "RepeatedStars", "fields", "isolated", "repeated_stars"]

_RADIUS = 2.0  # px: farthest pair, once the frames are aligned
_FEWEST = 6  # stars that two frames must share
_SHARE = 0.25  # of the stars of the poorer frame
_LEAST_SNR = 10.0
_FOREIGN = 0.01  # of a star's flux that may be light of others
_CLEANEST = 40
_BETA = 2.5  # Moffat exponent: rather too much light in the wings
_CHUNK = 256
_SAME_SCALE = 0.03  # by which stars and empty apertures may differ
_SPOILT = 2.0  # scatter of a frame over that of the others


class Field(NamedTuple):
    """Frames of one filter and exposure that show the same stars.

    Attributes
    ----------
    frames : tuple of FrameFacts
        The first is that the others were aligned to.
    rows : ndarray of int64, (stars, frames)
        Rows of each frame's stars; -1 where a star was not found.
    shift : ndarray, (frames, 2)
        Pixels by which each frame is shifted against the first.
    """

    frames: tuple[FrameFacts, ...]
    rows: NDArray[np.int64]
    shift: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Filter, exposure and, where there is one, the object."""
        first = self.frames[0]
        parts = (first.filter, first.exposure and f"{round(first.exposure, 2):g} s", first.object)
        return ", ".join(str(part) for part in parts if part)

    @property
    def moved(self) -> float:
        """How far the stars move over the chip: the largest distance of two frames, pixels."""
        return float(np.max(np.linalg.norm(self.shift[:, None] - self.shift[None], axis=-1)))


class RepeatedStars(NamedTuple):
    """The repeated fluxes of one field.

    Attributes
    ----------
    field : Field
        Its frames, without those that were left out.
    repeats : Repeats
        What the fluxes say; (stars, frames) as in ``rows`` of isolated stars with S/N above 10.
    spoilt : tuple of (FrameFacts, float)
        Frames that were left out: their residuals are so many times larger than those of the others.
    """

    field: Field
    repeats: Repeats
    spoilt: tuple[tuple[FrameFacts, float], ...]


@once
def repeated_stars(material: Material) -> tuple[tuple[RepeatedStars, ...], tuple[str, ...]]:
    """The fields of a night that were taken more than once; and why others cannot be used."""
    made, reasons = [], []
    for group in _alike(material.facts):
        for field in fields(group):
            try:
                made.append(_measured(field))
            except OptionError as error:
                reasons.append(f"{field.name}: {error}")
    return tuple(made), tuple(reasons)


def _alike(facts: Iterable[FrameFacts]) -> list[list[FrameFacts]]:
    """Frames of one filter, exposure and shape."""
    groups: dict[tuple[object, ...], list[FrameFacts]] = {}
    for item in facts:
        exposure = None if item.exposure is None else round(item.exposure, 2)
        groups.setdefault((item.filter, exposure, item.shape), []).append(item)
    return list(groups.values())


def fields(frames: Sequence[FrameFacts]) -> list[Field]:
    """Frames that show the same stars, found by their pattern: shifts, then small rotations and scales.

    The frame with the most stars that has no field yet begins one; each other joins the first it fits. Fields of one
    frame are left out.
    """
    left = sorted(frames, key=lambda item: (-len(item.stars.x), item.mid_jd or 0.0, item.name))
    made = []
    while len(left) > 1:
        first, rest = left[0], left[1:]
        joined: list[tuple[FrameFacts, NDArray[np.int64], NDArray[np.float64]]] = []
        left = []
        for other in rest:
            found = _aligned(first, other)
            if found is None:
                left.append(other)
            else:
                joined.append((other, *found))
        if not joined:
            continue
        joined.sort(key=lambda item: (item[0].mid_jd or 0.0, item[0].name))
        rows = np.column_stack([np.arange(len(first.stars.x)), *(item[1] for item in joined)])
        shift = np.array([[0.0, 0.0], *(item[2] for item in joined)])
        made.append(Field((first, *(item[0] for item in joined)), rows, shift))
    return made


def _aligned(first: FrameFacts, other: FrameFacts) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """For each star of the first frame its row in the other (-1: none) and the shift; None for another field."""
    here, there = (np.column_stack([item.stars.x, item.stars.y]) for item in (first, other))
    width = np.nanmax([first.fwhm, other.fwhm, 2.0])
    shift = vote_offset(*here.T, *there.T, tolerance=max(2.0, 0.5 * float(width)), most=80)
    if shift is None:
        return None
    moved = here + np.array([shift.dx, shift.dy])
    pairs = nearest_pairs(moved, there, 2 * _RADIUS)
    for _ in range(3):
        if len(pairs.first) < _FEWEST:
            return None
        moved = _transformed(here, here[pairs.first], there[pairs.second])
        pairs = nearest_pairs(moved, there, _RADIUS)
    ny, nx = other.shape
    shared = int(np.sum((moved[:, 0] > 0) & (moved[:, 0] < nx) & (moved[:, 1] > 0) & (moved[:, 1] < ny)))
    if len(pairs.first) < max(_FEWEST, _SHARE * min(shared, len(there))):
        return None
    rows = np.full(len(here), -1, np.int64)
    rows[pairs.first] = pairs.second
    return rows, np.median(there[pairs.second] - here[pairs.first], axis=0)


def _transformed(
    points: NDArray[np.float64], here: NDArray[np.float64], there: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points moved by the shift, rotation and scale that take some pairs into each other, outliers apart."""
    one, two = here[:, 0] + 1j * here[:, 1], there[:, 0] + 1j * there[:, 1]
    kept = np.ones(len(one), bool)
    factor, start, end = 1.0 + 0j, one.mean(), two.mean()
    for _ in range(4):
        start, end = one[kept].mean(), two[kept].mean()
        away = one[kept] - start
        spread = float(np.sum(np.abs(away) ** 2))
        turned = complex(np.sum(np.conj(away) * (two[kept] - end)) / spread) if spread > 0 else 1.0 + 0j
        factor = turned if abs(turned - 1) < 0.05 else 1.0 + 0j  # more than 3 degrees is a wrong match
        size = np.abs(two - end - factor * (one - start))
        kept = size <= max(3 * mad_sigma(size, 0.0), 0.1)
    made = end + factor * (points[:, 0] + 1j * points[:, 1] - start)
    return np.column_stack([made.real, made.imag])


def _measured(field: Field) -> RepeatedStars:
    """The fluxes of isolated stars against each other; frames that are unlike the others left out."""
    lonely = isolated(field.frames[0])
    field = field._replace(rows=field.rows[lonely])
    spoilt: list[tuple[FrameFacts, float]] = []
    for _ in range(max(1, len(field.frames) // 6)):
        repeats = _repeats(field)
        worst, factor = _worst_frame(repeats)
        if len(field.frames) < 4 or factor < _SPOILT:
            break
        spoilt.append((field.frames[worst], factor))
        field = _without(field, worst)
    else:
        repeats = _repeats(field)
    return RepeatedStars(field, repeats, tuple(spoilt))


def _repeats(field: Field) -> Repeats:
    """The fit; empty apertures tell how faint stars scatter, which leaves the bright ones to tell the rest."""
    empty = [
        Estimate(item.noise.scatter[1], item.noise.scatter_error[1])
        for item in field.frames
        if len(item.noise.scatter) > 1
    ]
    known = combined(empty)
    flux, error = _fluxes(field)
    if not math.isfinite(known.value):
        return repeated_fluxes(flux, error)
    return repeated_fluxes(flux, error, known_scale=(known.value, math.hypot(known.error, _SAME_SCALE)))


def isolated(frame: FrameFacts) -> NDArray[np.bool_]:
    """Stars into whose aperture next to no light of others falls: it would change with the seeing.

    The others are Moffat profiles of exponent 2.5, whose light in an aperture of 1.5 FWHM is that of its middle times
    its area. In a crowded field the cleanest 40 stars are taken as they are.
    """
    stars = frame.stars
    fwhm = frame.fwhm if math.isfinite(frame.fwhm) else 3.0
    points = np.column_stack([stars.x, stars.y])
    others = np.vstack([np.column_stack([points, stars.flux]), frame.noise.flagged])
    core = (fwhm / (2 * math.sqrt(2 ** (1 / _BETA) - 1))) ** 2
    area = (1.5 * fwhm) ** 2 * (_BETA - 1) / core
    foreign = np.empty(len(points))
    for start in range(0, len(points), _CHUNK):
        own = points[start : start + _CHUNK]
        square = (own[:, :1] - others[:, 0]) ** 2 + (own[:, 1:] - others[:, 1]) ** 2
        light = np.minimum(area * (1 + square / core) ** -_BETA, 1.0) * others[:, 2]
        light[np.arange(len(own)), start + np.arange(len(own))] = 0.0
        foreign[start : start + _CHUNK] = light.sum(axis=1)
    share = foreign / stars.flux
    limit = max(_FOREIGN, float(np.sort(share)[min(_CLEANEST, len(share)) - 1]))
    return np.asarray(share <= limit)


def _in_common(field: Field) -> float:
    """How much of the pixels of an aperture two frames have in common that share their masters: mean of all pairs."""
    radius = 1.5 * float(np.nanmedian([item.fwhm for item in field.frames]))
    shares = [
        circles_overlap(float(np.linalg.norm(a - b)), radius) if one.noise.sample.masters == two.noise.sample.masters
        else 0.0
        for (one, a), (two, b) in itertools.combinations(zip(field.frames, field.shift, strict=True), 2)
    ]  # fmt: skip
    return float(np.mean(shares))


def _fluxes(field: Field) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fluxes, and the errors by which they differ: what masters add is no difference while stars stay on their pixels.

    The mean square of the differences of two sums is twice their own variance, and as much of the masters' as lies
    on pixels that they do not have in common.
    """
    common = _in_common(field)
    flux, error = np.full(field.rows.shape, np.nan), np.full(field.rows.shape, np.nan)
    for number, item in enumerate(field.frames):
        found = field.rows[:, number] >= 0
        rows = field.rows[found, number]
        flux[found, number], error[found, number] = item.stars.flux[rows], item.stars.flux_error[rows]
        error[found, number] = np.sqrt(error[found, number] ** 2 - common * item.stars.masters_error[rows] ** 2)
    # by the mean S/N of a star: a cut on each value would prefer those that noise made bright
    with np.errstate(invalid="ignore"):
        known = np.isfinite(flux)
        count = np.maximum(known.sum(axis=1), 1)
        snr = np.where(known, flux / error, 0.0).sum(axis=1) / count
    most = known.sum(axis=1) >= max(2, 0.5 * len(field.frames))
    faint = ~((snr >= _LEAST_SNR) & most)
    flux[faint], error[faint] = np.nan, np.nan
    return flux, error


def _worst_frame(repeats: Repeats) -> tuple[int, float]:
    """The frame with the largest residuals, and how much larger they are than those of the others."""
    total = np.sqrt(repeats.scale**2 * repeats.error**2 + max(repeats.term, 0.0))
    scaled = np.abs(repeats.relative) / total
    with np.errstate(all="ignore"):
        size = np.array([np.nanmedian(column) if np.isfinite(column).sum() >= 5 else 0.0 for column in scaled.T])
    others = np.median(size[size > 0]) if (size > 0).any() else 1.0
    worst = int(np.argmax(size))
    return worst, float(size[worst] / others)


def _without(field: Field, number: int) -> Field:
    kept = [k for k in range(len(field.frames)) if k != number]
    return Field(tuple(field.frames[k] for k in kept), field.rows[:, kept], field.shift[kept])
