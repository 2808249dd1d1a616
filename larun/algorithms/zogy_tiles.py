"""Square parts of two images of which the proper difference is made, with what they see around."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun import flags as fl
from larun.algorithms.kernelfield import LOST, polynomial_terms, stood_in
from larun.algorithms.zogy_filters import ProperPair, back, filters_of, there

__all__ = ["Given", "Tile", "given_for"]

#: Sides of tiles and of what they see around, where PSFs are the same everywhere, and where they vary.
_WHOLE, _SMALL = (224, 48), (64, 32)
#: How much of a filter's weight may fall on pixels of the sky that have no value.
_SPARED = 0.1


class Given(NamedTuple):
    """Both images without holes: values, variances, how much counts as lost; sides of a tile and of its margin."""

    pair: ProperPair
    values: tuple[NDArray[np.float32], NDArray[np.float32]]
    variances: tuple[NDArray[np.float32], NDArray[np.float32]]
    lost: tuple[NDArray[np.float32], NDArray[np.float32]]
    layout: tuple[int, int]


def given_for(pair: ProperPair) -> Given:
    """The images of a pair, prepared."""
    layout = _WHOLE if pair.psfs[0].order == pair.psfs[1].order == 0 else _SMALL
    parts = [stood_in(image.data, image.variance, image.flags, image.level, _SPARED) for image in pair.images]
    values, variances, lost = zip(*parts, strict=True)
    for image in pair.images:
        _ = image.sky.variance  # made once, not by every thread
    return Given(pair, values, variances, lost, layout)


class Tile:
    """A tile with what it sees around, 0 beyond the image."""

    def __init__(self, given: Given, place: tuple[int, int]) -> None:
        core, margin = given.layout
        ny, nx = given.pair.shape
        self.given, self.size = given, core + 2 * margin
        self.y0, self.x0 = place[0] * core, place[1] * core
        y1, x1 = min(self.y0 + core, ny), min(self.x0 + core, nx)
        self.out = slice(self.y0, y1), slice(self.x0, x1)
        self.core = slice(margin, margin + y1 - self.y0), slice(margin, margin + x1 - self.x0)
        self.corner = self.y0 - margin, self.x0 - margin
        (top, left), size = self.corner, self.size
        self.rows, self.columns = slice(max(top, 0), min(top + size, ny)), slice(max(left, 0), min(left + size, nx))
        self.here = (
            slice(self.rows.start - top, self.rows.stop - top),
            slice(self.columns.start - left, self.columns.stop - left),
        )
        self.filters = filters_of(given.pair, (self.x0 + x1 - 1) / 2, (self.y0 + y1 - 1) / 2, size)

    def of(self, plane: NDArray[Any], dtype: Any = np.float64) -> NDArray[Any]:
        """A part of a plane."""
        made = np.zeros((self.size, self.size), dtype)
        made[self.here] = plane[self.rows, self.columns]
        return made

    def values(self) -> list[NDArray[np.float64]]:
        """Both images without their sky, in the light of the science image."""
        pair, made = self.given.pair, []
        for plane, image, sky, factor in zip(
            self.given.values, pair.images, pair.skies, (1.0, pair.ratio), strict=True
        ):
            part = np.zeros((self.size, self.size))
            own = plane[self.rows, self.columns].astype(np.float64) - image.level
            part[self.here] = (own - self._polynomial(sky)) * factor
            made.append(part)
        return made

    def _polynomial(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        order = next(n for n in range(4) if polynomial_terms(n) == len(terms))
        middle_x, wide_x, middle_y, wide_y = self.given.pair.domain
        u = ((np.arange(self.columns.start, self.columns.stop) - middle_x) / wide_x)[None, :]
        v = ((np.arange(self.rows.start, self.rows.stop) - middle_y) / wide_y)[:, None]
        powers = [u ** (d - j) * v**j for d in range(order + 1) for j in range(d + 1)]
        made = np.zeros((v.size, u.size))
        for term, power in zip(terms, powers, strict=True):
            made += term * power
        return made

    def lost(self) -> NDArray[np.uint32]:
        """Flags of what filters bring of pixels without a value."""
        made = np.zeros((self.size, self.size), np.uint32)
        for risk, image, answer in zip(self.given.lost, self.given.pair.images, self.filters.images, strict=True):
            share = self.of(risk)
            if not share.any():
                continue
            weight = np.abs(back(answer))
            least = LOST * weight.sum()
            spectrum, bits = there(weight), self.of(image.flags, np.uint32)
            hit = back(spectrum * there(share)) > least
            seen = [flag.value for flag in fl.TABLE if flag.value & fl.UNUSABLE and np.any(bits & flag.value)]
            for bit in seen:
                part = back(spectrum * there(np.where((bits & bit) != 0, share, 0.0)))
                made[hit & (part > least / (1 + len(seen)))] |= bit
            made[hit & ((made & fl.UNUSABLE) == 0)] |= fl.NO_DATA
        return made
