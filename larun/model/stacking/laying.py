"""From measured frames to the layers of a stack: transforms, scales, skies, weights, and the grid that holds them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping as Mapping_
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.mapping import Mapping, affine, mapped
from larun.algorithms.resample import chosen_kernel
from larun.algorithms.resampled_noise import Term, term_of
from larun.algorithms.stacking import Layer
from larun.errors import NotAligned, OptionError
from larun.model.aligning.transforms import TOLERANCE, TRANSFORMS, Alignment, align_by, by_star_lists, is_sharp
from larun.model.stacking.members import Member
from larun.model.stacking.options import WEIGHTS, StackOptions
from larun.provenance import unrecorded

__all__ = ["Grid", "Laid", "aligned", "best", "grid_of", "laid", "noise_term", "on_grid"]

_NEAR = 1.5  # pixels between a star and where it should be
_SNR = 20.0
_FEWEST = 5  # stars for a scale
_CLIP = 3.0
_CELLS = 24  # along each axis, at which skies are compared
_LARGEST = 4.0  # times the area of the reference
_ALONG = 17  # places along each side of a frame
_BEYOND = 0.15  # of the reference's side, as far as a polynomial is followed beyond it
_NEWTON = 30


class Grid(NamedTuple):
    """The pixels of a stack: its shape, and the pixel of the reference that is its first one."""

    shape: tuple[int, int]
    origin: tuple[int, int]


class Laid(NamedTuple):
    """A frame on the grid.

    Attributes
    ----------
    member : Member
    alignment : Alignment
        From the pixels of the reference.
    scale, scale_error : float
        By which the frame's light is multiplied to be that of the reference.
    plane : tuple of float
        What is taken off then, ``a + b x + c y`` in pixels of the grid.
    weight : float
    """

    member: Member
    alignment: Alignment
    mapping: Mapping
    scale: float
    scale_error: float
    plane: tuple[float, float, float]
    weight: float

    @property
    def fwhm(self) -> float:
        """Of its stars in pixels of the stack."""
        size = self.mapping.scale()
        return self.member.fwhm / size if size > 0 else self.member.fwhm

    def layer(self, sky: float) -> Layer:
        """What :func:`larun.algorithms.stacking.stack` takes; ``sky`` is that of the reference."""
        noise = (self.scale * self.member.noise) ** 2
        return Layer(
            self.member.rows,
            self.member.shape,
            self.mapping,
            self.scale,
            self.plane,
            self.weight,
            self.fwhm,
            sky,
            noise,
        )

    def note(self) -> dict[str, Any]:
        """What a record keeps of it."""
        return {
            "name": self.member.name,
            "frame": self.member.provenance.id,
            "flux_scale": self.scale,
            "flux_scale_error": self.scale_error,
            "plane": list(self.plane),
            "weight": self.weight,
            "fwhm": self.fwhm,
            "noise": self.member.noise,
            **{name: value for name, value in self.alignment.fitted.items() if name != "reference_wcs"},
        }


def best(members: Sequence[Member]) -> Member:
    """The frame that shows most stars: the reference where none is named."""
    return max(members, key=lambda member: (len(member.stars), 1 / member.fwhm, member.provenance.id))


def aligned(member: Member, reference: Member, method: str, transform: str) -> Alignment:
    """The transform from the reference to a frame.

    Raises
    ------
    NotAligned
        If there is none.
    """
    if member is reference:
        there = affine(np.eye(2), [0.0, 0.0], reference.shape)
        return Alignment(there, method, {"matrix": [[1.0, 0.0], [0.0, 1.0]], "offset": [0.0, 0.0]})
    if method == "stars" and transform in TRANSFORMS:
        names = reference.name, member.name
        with contextlib.suppress(NotAligned):  # a full search finds more, and fainter, stars
            found = by_star_lists(reference.stars, member.stars, reference.shape, TRANSFORMS[transform], names)
            if is_sharp(found):
                return found
    with unrecorded():  # what it searches is no step of the stack
        return align_by(method, member.image(), reference.image(), transform)


def grid_of(alignments: Sequence[tuple[Member, Alignment]], reference: Member, footprint: str) -> Grid:
    """The pixels that hold all frames, or those of the reference.

    Raises
    ------
    OptionError
        If the union is far larger than a frame, or a polynomial would be followed far beyond the stars it rests on.
    """
    ny, nx = reference.shape
    if footprint == "reference":
        return Grid((ny, nx), (0, 0))
    low, high = np.array([0.0, 0.0]), np.array([nx - 1.0, ny - 1.0])
    for member, alignment in alignments:
        there = _outline(member, alignment, reference)
        low, high = np.minimum(low, there.min(axis=0)), np.maximum(high, there.max(axis=0))
    x0, y0 = (math.floor(value + 1e-3) for value in low)
    x1, y1 = (math.ceil(value - 1e-3) for value in high)
    shape = (y1 - y0 + 1, x1 - x0 + 1)
    if shape[0] * shape[1] > _LARGEST * nx * ny:
        raise OptionError(
            f"the frames together cover {shape[1]} × {shape[0]} pixels, {_LARGEST:g} times a frame and more: "
            "stack them by fields, or use footprint='reference'"
        )
    return Grid(shape, (x0, y0))


def _outline(member: Member, alignment: Alignment, reference: Member) -> NDArray[np.float64]:
    """Where the outermost pixels of a frame lie on the reference, (n, 2)."""
    rows, columns = member.shape
    if alignment.function is None:
        matrix, offset = _linear(alignment)
        corners = np.array([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]], np.float64)
        return _solved(matrix, corners - offset)
    side = np.linspace(0, 1, _ALONG)
    none, whole = np.zeros(_ALONG), np.ones(_ALONG)
    sides = (side, none), (side, whole), (none, side), (whole, side)
    edge = np.concatenate([np.stack(pair, axis=1) for pair in sides])
    found = _led_back(alignment, edge * (columns - 1, rows - 1), reference.shape)
    ny, nx = reference.shape
    beyond = np.maximum(-found, found - (nx - 1, ny - 1)) / (nx, ny)
    if not np.isfinite(found).all() or (alignment.method == "stars" and beyond.max() > _BEYOND):
        raise OptionError(
            f"{member.name}: a polynomial says nothing so far beyond the reference: use footprint='reference', or a "
            "linear transform"
        )
    return found


def _led_back(alignment: Alignment, wanted: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Positions on the reference of positions (n, 2) on a frame, by a bent transform; NaN where there are none."""
    function = alignment.function
    assert function is not None
    middle, step = (np.array(shape[::-1]) - 1) / 2, np.array(shape[::-1]) / 4
    at = middle + np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]) * step
    there = np.stack(function(at[:, 0], at[:, 1]), axis=1)
    matrix = np.stack([(there[1] - there[2]) / (2 * step[0]), (there[3] - there[4]) / (2 * step[1])], axis=1)
    made = middle + _solved(matrix, wanted - there[0])
    for _ in range(_NEWTON):
        away = _solved(matrix, wanted - np.stack(function(made[:, 0], made[:, 1]), axis=1))
        made = made + away
        if np.all(np.abs(away) < 1e-3):
            return made
    return np.where(np.all(np.abs(away) < 0.1, axis=1)[:, None], made, np.nan)


def _linear(alignment: Alignment) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    matrix = np.array(alignment.fitted.get("matrix", [[1.0, 0.0], [0.0, 1.0]]), np.float64)
    return matrix, np.array(alignment.fitted["offset"], np.float64)


def _solved(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions that a matrix takes to given ones, (n, 2)."""
    (a, b), (c, d) = matrix
    determinant = a * d - b * c
    x, y = right[:, 0], right[:, 1]
    return np.column_stack([(d * x - b * y) / determinant, (a * y - c * x) / determinant])


def on_grid(alignment: Alignment, grid: Grid) -> Mapping:
    """The mapping from the pixels of the grid."""
    if grid.origin == (0, 0) and grid.shape == alignment.mapping.shape:
        return alignment.mapping
    x0, y0 = grid.origin
    bent = alignment.function
    if bent is not None:
        return mapped(lambda x, y: bent(x + x0, y + y0), grid.shape, tolerance=TOLERANCE)
    matrix, offset = _linear(alignment)
    moved = [matrix[k, 0] * x0 + matrix[k, 1] * y0 + offset[k] for k in (0, 1)]
    return affine(matrix, moved, grid.shape)


def noise_term(mapping: Mapping, kernel: str, note: Mapping_[str, Any]) -> Term:
    """What a frame gives to the correlation of the noise, by what a record keeps of it (:meth:`Laid.note`)."""
    weight = (note["weight"] * note["flux_scale"] * note["noise"]) ** 2
    return term_of(mapping, chosen_kernel(mapping, kernel), weight)


def laid(
    member: Member, alignment: Alignment, reference: Member, grid: Grid, options: StackOptions, weights: str
) -> Laid:
    """A frame with its scale, sky and weight.

    Raises
    ------
    NotAligned
        If there are too few stars to compare its light with that of the reference.
    OptionError
        If an option is not known, or a weight cannot be told.
    """
    if weights not in WEIGHTS:
        raise OptionError(f"weights={weights!r}: must be one of {', '.join(WEIGHTS)}")
    mapping = on_grid(alignment, grid)
    factor, error = (
        (1.0, 0.0)
        if member is reference or options.scale == "none"
        else _scale(member, alignment, reference, options.scale)
    )
    plane = (0.0, 0.0, 0.0)
    if options.background == "match" and member is not reference:
        plane = _plane(member, alignment, reference, factor, grid)
    made = Laid(member, alignment, mapping, factor, error, plane, 1.0)
    if weights == "equal":
        return made
    noise = factor * member.noise * (made.fwhm if weights == "point" else 1.0)
    if not noise > 0:
        raise OptionError(f"{member.name}: no noise is known, so no weight: use weights='equal'")
    return made._replace(weight=1.0 / noise**2)


def _scale(member: Member, alignment: Alignment, reference: Member, how: str) -> tuple[float, float]:
    if how == "exposure":
        if member.exposure is None or reference.exposure is None:
            raise OptionError(f"{member.name}: no exposure time is known: use scale='stars' or 'none'")
        return reference.exposure / member.exposure, 0.0
    from scipy.spatial import cKDTree

    x, y = alignment.mapping.at(reference.stars[:, 0], reference.stars[:, 1])
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(member.stars) or not len(known):
        raise NotAligned(f"{member.name}: no star in common with {reference.name} to compare their light")
    away, index = cKDTree(member.stars).query(np.column_stack([x[known], y[known]]), distance_upper_bound=_NEAR)
    pairs = np.flatnonzero(np.isfinite(away))
    one, two = known[pairs], index[pairs]
    good = (reference.flux[one] > _SNR * reference.flux_error[one]) & (member.flux[two] > _SNR * member.flux_error[two])
    one, two = one[good], two[good]
    if len(one) < _FEWEST:
        raise NotAligned(
            f"{member.name}: {len(one)} stars above S/N {_SNR:g} in common with {reference.name}, {_FEWEST} are needed "
            "to compare their light: use scale='exposure' or 'none'"
        )
    ratio = np.log(reference.flux[one] / member.flux[two])
    middle = float(np.median(ratio))
    scatter = 1.4826 * float(np.median(np.abs(ratio - middle)))
    kept = ratio[np.abs(ratio - middle) <= _CLIP * scatter + 1e-9]
    value = math.exp(float(np.median(kept)))
    return value, value * 1.2533 * scatter / math.sqrt(len(kept))


def _plane(
    member: Member, alignment: Alignment, reference: Member, scale: float, grid: Grid
) -> tuple[float, float, float]:
    """The plane between the sky of a frame and that of the reference, where both have one."""
    ny, nx = reference.shape
    x, y = (item.ravel() for item in np.meshgrid(*((np.arange(_CELLS) + 0.5) / _CELLS * size for size in (nx, ny))))
    there = alignment.mapping.at(x, y)
    away = scale * member.sky_at(*there) - reference.sky_at(x, y)
    good = np.isfinite(away)
    if good.sum() < 9:  # they hardly overlap: only the levels can be compared
        return scale * member.sky - reference.sky, 0.0, 0.0
    x, y, away = x[good], y[good], away[good]
    middle = float(np.mean(x)), float(np.mean(y))
    columns = np.stack([np.ones(len(x)), (x - middle[0]) / nx, (y - middle[1]) / ny])
    kept = np.ones(len(x), bool)
    found = np.zeros(3)
    for _ in range(5):
        own = columns[:, kept]
        normal = np.array([[np.sum(a * b) for b in own] for a in own])
        try:
            inverse = inverse_of_positive(normal)
        except OptionError:  # along a line
            return float(np.median(away)), 0.0, 0.0
        found = np.sum(inverse * np.array([np.sum(a * away[kept]) for a in own]), axis=1)
        rest = np.abs(away - np.sum(columns * found[:, None], axis=0))
        limit = _CLIP * 1.4826 * float(np.median(rest[kept])) + 1e-9
        if np.array_equal(rest <= limit, kept):
            break
        kept = rest <= limit
    b, c = float(found[1]) / nx, float(found[2]) / ny
    a = float(found[0]) - b * middle[0] - c * middle[1]
    return a + b * grid.origin[0] + c * grid.origin[1], b, c
