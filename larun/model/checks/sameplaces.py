"""Empty apertures at the same places in two frames: what the chip or the sky has there is the same in both, noise not.

Sums scatter by their noise and by whatever structure lies under them. In the difference of two frames at the same
places of the chip a wrong flat is gone, in proportion to the sky; at the same places of the sky it is the light of
stars that are too faint to be detected, in proportion to what the frames let through. What is left is noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import Estimate, clipped_scatter
from larun.model.checks.common import combined
from larun.model.checks.emptyplaces import empty_places
from larun.model.checks.facts import FrameFacts
from larun.model.checks.material import Material
from larun.model.checks.noisefacts import free_pixels, sums_in_apertures
from larun.model.checks.repeating import Field, repeated_stars

if TYPE_CHECKING:
    from larun.model.catalog import SourceCatalog
    from larun.model.frame import Frame

__all__ = ["SamePlaces", "same_places"]

_MOST_PAIRS = 3
_PLACES = 400
_LEAST_PLACES = 40
_APART = 1.5  # radii of the aperture by which a field must have moved for the chip and the sky to be told apart
_UNLIKE = math.log(2)
_SURE = 3.0


class SamePlaces(NamedTuple):
    """Sums in empty apertures at the same places in pairs of frames.

    Attributes
    ----------
    of : {"chip", "sky", "both"}
        What has the same places; both, where the stars stay on their pixels.
    pairs : int
        Of frames.
    radius : float
        Of the apertures, pixels: the median over the pairs.
    each : Estimate
        Scatter of the sums over their reported errors, both frames with the weights that they have in the difference.
    difference : Estimate
        Scatter of their differences over the errors of these.
    share : float
        Standard deviation of what is the same in both, per pixel of the aperture, over the level of the sky.
    """

    of: str
    pairs: int
    radius: float
    each: Estimate
    difference: Estimate
    share: float

    @property
    def left(self) -> float:
        """Part of the excess of variance that the difference still has: 0 where all is the same in both frames."""
        excess = self.each.value**2 - 1
        return max(self.difference.value**2 - 1, 0.0) / excess if excess > 0 else 1.0

    @property
    def explains(self) -> bool:
        """Whether more than half of the excess is gone, beyond doubt."""
        gone = self.each.value - self.difference.value
        return self.left < 0.5 and gone > _SURE * math.hypot(self.each.error, self.difference.error)


class _Pair(NamedTuple):
    one: FrameFacts
    two: FrameFacts
    of: str
    shift: NDArray[np.float64]  # of the second against the first at the same places, pixels
    apart: float  # by how much the stars moved over the chip, pixels; 0 where they are other stars
    ratio: float  # of what is the same: second over first


def same_places(material: Material, frames: Sequence[FrameFacts], radius: int) -> tuple[SamePlaces, ...]:
    """What pairs of some frames tell of apertures of one radius (its number); nothing where there are no pairs.

    Only a few pairs are looked at, those with the frames that scatter most among them.
    """
    known = [item for item in frames if item.name in material.products and len(item.noise.scatter) > radius]
    known = [item for item in known if math.isfinite(item.noise.scatter[radius])]
    smooth = [item for item in known if not item.noise.structured]
    known = smooth if len(smooth) > 1 else known  # one crowded field would hide what the others share
    known.sort(key=lambda item: (-item.noise.scatter[radius], item.name))
    found = tuple(item.field for item in repeated_stars(material)[0]) if len(known) > 1 else ()
    made = []
    for of in ("chip", "sky", "both"):
        measured = []
        for pair in _pairs(known, found, radius, of):
            one = _measured(material, pair, radius)
            if one is not None:
                measured.append(one)
        if measured:
            each, difference, share, sizes = zip(*measured, strict=True)
            made.append(
                SamePlaces(
                    of,
                    len(measured),
                    float(np.median(sizes)),
                    combined(each),
                    combined(difference),
                    float(np.median(share)),
                )
            )
    return tuple(made)


def _pairs(frames: Sequence[FrameFacts], found: Sequence[Field], radius: int, of: str) -> Iterator[_Pair]:
    """Some pairs with the same places of one kind, the frames that scatter most first."""
    count = 0
    for number, one in enumerate(frames):
        pairs = [pair for two in frames[number + 1 :] if (pair := _pair(one, two, found, radius, of)) is not None]
        if not pairs:
            continue
        yield min(pairs, key=_badness)
        count += 1
        if count == _MOST_PAIRS:
            return


def _badness(pair: _Pair) -> tuple[bool, float, float]:
    """Frames that are alike weigh the same in the difference; where stars moved far, chip and sky are told apart."""
    unlike = abs(math.log(pair.ratio))
    return unlike > _UNLIKE, -pair.apart, unlike


def _pair(one: FrameFacts, two: FrameFacts, found: Sequence[Field], radius: int, of: str) -> _Pair | None:
    """Two frames with the same places of this kind, and of this kind alone."""
    if one.shape != two.shape:
        return None
    shift, ratio = np.zeros(2), math.nan
    for field in found:
        names = [item.name for item in field.frames]
        if one.name in names and two.name in names:
            first, second = names.index(one.name), names.index(two.name)
            shift, ratio = field.shift[second] - field.shift[first], _throughput(field, first, second)
    distance = float(np.hypot(*shift))
    same_field, moved = ratio > 0, distance > _APART * one.noise.radii[radius]
    if of != "chip":
        return _Pair(one, two, of, shift, distance, ratio) if same_field and moved == (of == "sky") else None
    if (same_field and not moved) or one.noise.sample.masters != two.noise.sample.masters:
        return None
    levels = two.sky.level / one.sky.level if one.sky.level > 0 else math.nan
    return _Pair(one, two, of, np.zeros(2), distance, levels) if levels > 0 else None


def _throughput(field: Field, first: int, second: int) -> float:
    """Flux of the stars in the second frame over that in the first."""
    rows = field.rows[:, [first, second]]
    rows = rows[(rows >= 0).all(axis=1)]
    if not len(rows):
        return math.nan
    one, two = (field.frames[n].stars.flux[rows[:, k]] for k, n in enumerate((first, second)))
    return float(np.median(two / one))


def _measured(material: Material, pair: _Pair, radius: int) -> tuple[Estimate, Estimate, float, float] | None:
    """Scatter of the sums of both frames, of their differences, the part of the sky that is in both, and the radius."""
    one, two = material.products[pair.one.name](), material.products[pair.two.name]()
    free = _free(*one) & _moved(_free(*two), pair.shift)
    # the smaller of both: the ring of the sky of the other frame may begin within the larger
    size = float(min(pair.one.noise.radii[radius], pair.two.noise.radii[radius]))
    rng = np.random.default_rng(int(one[0].provenance.id[:15], 16))
    x, y = empty_places(free, size, _PLACES, rng).T
    if len(x) < _LEAST_PLACES:
        return None
    first, first_error = sums_in_apertures(*one, x, y, size)
    second, second_error = (
        value / pair.ratio for value in sums_in_apertures(*two, x + pair.shift[0], y + pair.shift[1], size)
    )
    good = np.isfinite(first) & np.isfinite(second) & (first_error > 0) & (second_error > 0)
    if good.sum() < _LEAST_PLACES:
        return None
    first, second, first_error, second_error = (v[good] for v in (first, second, first_error, second_error))
    weight = float(np.median(first_error)) ** 2, float(np.median(second_error)) ** 2
    each = [clipped_scatter(_centred(v / e)) for v, e in ((first, first_error), (second, second_error))]
    # what the difference would scatter by if the frames had nothing in common
    value = math.sqrt(sum(w * e.value**2 for w, e in zip(weight, each, strict=True)) / sum(weight))
    error = math.sqrt(sum((w * e.value * e.error) ** 2 for w, e in zip(weight, each, strict=True)))
    both = Estimate(value, error / (sum(weight) * value))
    difference = clipped_scatter(_centred((first - second) / np.hypot(first_error, second_error)))
    same = (both.value**2 - difference.value**2) * sum(weight) / 2
    share = math.sqrt(max(same, 0.0)) / (math.pi * size**2) / max(pair.one.sky.level, 1e-9)
    return both, difference, share, size


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values - np.median(values)


def _free(frame: Frame, catalog: SourceCatalog) -> NDArray[np.bool_]:
    return free_pixels(frame, catalog, frame.background())


def _moved(free: NDArray[np.bool_], shift: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The pixels of a frame where those of another see the same; what lies outside is not free."""
    dx, dy = (round(float(value)) for value in shift)
    ny, nx = free.shape
    made = np.zeros_like(free)
    rows, columns = slice(max(0, -dy), min(ny, ny - dy)), slice(max(0, -dx), min(nx, nx - dx))
    if rows.start < rows.stop and columns.start < columns.stop:
        made[rows, columns] = free[rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx]
    return made
