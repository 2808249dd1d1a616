"""Where on the sky an image is: its stars against those of a catalogue, and the projection that fits them.

Stars of the image and of the catalogue are taken to the same depth: so many in the frame, and for each scale that it
may have as many in a piece of sky of its size. Their triangles are guesses, judged as in
:mod:`larun.algorithms.listmatch`; the catalogue lies in a plane in which figures keep their shape over the whole
search. A guess that is accepted grows outwards and becomes a TAN projection with as much distortion as the stars can
tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.asterisms import Asterisms
from larun.algorithms.listmatch import figures, grown, guesses
from larun.algorithms.odds import Judged, Tolerance, judge
from larun.algorithms.offsets import mutual_pairs
from larun.algorithms.planefit import PlanePolynomial, best_degree, fit_plane, stars_for
from larun.algorithms.skyplane import from_stereographic, from_tangent, to_stereographic, to_tangent
from larun.errors import OptionError

__all__ = ["FieldOptions", "FieldSolution", "FieldStart", "Searched", "find_field", "refine_field", "rough", "started"]

_LEVELS = (20, 40, 80, 160)  # stars in the frame whose triangles are tried
_LOOKED = 3  # times as many stars of the image are looked for
_DEEPER = 2.0  # as many of the catalogue in the same piece of sky, over those looked for
_STEP = 1.6  # of the scale, within which one depth of the catalogue will do
_FIGURES = 120_000  # stars of the catalogue that are worth triangles
_ROUNDS = 20
_PAIRED = 10  # rounds in which pairs are sought again
_CHOSEN = 3  # rounds in which the order is chosen
_THERE = 1e-11  # degrees
_NEAR = 5.0  # rms within which pairs are sought
_FEWEST = 5  # pairs of a solution
_GRID = 25  # points along an axis


@attrs.frozen(kw_only=True)
class FieldOptions:
    """How an image is searched for, and how it is fitted.

    Parameters
    ----------
    noise : float
        Rough error of a position in the image along an axis, in pixels.
    distortion : float
        By how much the image may depart from a projection without distortion, as a share of its half width.
    log_odds : float
        Least natural logarithm of the odds against a chance.
    highest_order : int
        Of the polynomial, where it is chosen by cross-validation.
    clip : float
        Pairs farther from the model than this many σ are left out.
    """

    noise: float = 0.4
    distortion: float = 0.004
    log_odds: float = 18.0
    highest_order: int = 5
    clip: float = 4.0

    def __attrs_post_init__(self) -> None:
        if not self.noise > 0 or not 0 <= self.distortion < 0.2 or not self.clip > 1:
            raise OptionError(f"{self}: noise must be above 0, distortion from 0 to 0.2, clip above 1")
        if not 1 <= self.highest_order <= 8:
            raise OptionError(f"highest_order = {self.highest_order}: must be from 1 to 8")
        if not self.log_odds >= 5:
            raise OptionError(f"log_odds = {self.log_odds}: must be at least 5, or chance decides")


class Searched(NamedTuple):
    """What a search came to.

    Attributes
    ----------
    found : Judged or None
        The accepted guess, from pixels to the plane.
    best : float
        Highest log-odds there were, accepted or not.
    tried : int
        Guesses that were made.
    centre : (float, float)
        Where the plane touches the sky.
    """

    found: Judged | None
    best: float
    tried: int
    centre: tuple[float, float]


class FieldStart(NamedTuple):
    """A rough projection.

    Attributes
    ----------
    plane : PlanePolynomial
        From pixels to the tangent plane in degrees.
    centre : (float, float)
        Right ascension and declination where that touches the sky.
    reach : float
        Degrees by which stars may be off.
    """

    plane: PlanePolynomial
    centre: tuple[float, float]
    reach: float


class FieldSolution(NamedTuple):
    """The projection of an image.

    Attributes
    ----------
    plane : PlanePolynomial
        From pixels to the tangent plane in degrees.
    centre : (float, float)
        Right ascension and declination where the plane touches the sky.
    about : (float, float)
        The pixel that is there.
    first, second : ndarray of int64, (pairs,)
        Stars of the image and of the catalogue that belong together, rejected ones included.
    kept : ndarray of bool, (pairs,)
        Those that were fitted.
    residual : ndarray of float64, (pairs, 2)
        Measured pixel minus that of the catalogue's star by this solution.
    """

    plane: PlanePolynomial
    centre: tuple[float, float]
    about: tuple[float, float]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    kept: NDArray[np.bool_]
    residual: NDArray[np.float64]

    @property
    def rms(self) -> NDArray[np.float64]:
        """Of the residuals of the kept stars along x and y, in pixels (2,)."""
        return np.asarray(np.sqrt(np.mean(self.residual[self.kept] ** 2, axis=0)), np.float64)

    @property
    def scale(self) -> float:
        """Arcseconds a pixel at the middle: the square root of its area."""
        return 3600 * math.sqrt(abs(self._determinant(self._slope)))

    @property
    def parity(self) -> int:
        """1 as the sky is seen (east to the left of north), -1 if mirrored."""
        return -1 if self._determinant(self._slope) > 0 else 1

    @property
    def rotation(self) -> float:
        """Degrees from the y axis of the image to north, counterclockwise as pixels are drawn."""
        slope = self._slope
        north = np.array([-slope[0, 1], slope[0, 0]]) / self._determinant(slope)
        return math.degrees(math.atan2(-north[0], north[1]))

    @property
    def _slope(self) -> NDArray[np.float64]:
        return self.plane.slope(np.asarray(self.about, np.float64))

    @staticmethod
    def _determinant(m: NDArray[np.float64]) -> float:
        return float(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])


def find_field(
    xy: NDArray[np.float64],
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    *,
    shape: tuple[int, int],
    centre: tuple[float, float],
    scale: tuple[float, float],
    options: FieldOptions | None = None,
) -> Searched:
    """Find an image among the stars of a catalogue.

    Parameters
    ----------
    xy : ndarray of float64, (n, 2)
        Stars of the image in pixels, the brightest first.
    ra, dec : ndarray of float64, (m,)
        Stars of the catalogue in degrees, the brightest first: those of a piece of sky in which the image may be.
    shape : (int, int)
        Rows and columns of the image.
    centre : (float, float)
        The middle of that piece, in degrees.
    scale : (float, float)
        Least and largest scale in arcseconds a pixel.
    options : FieldOptions, optional
        What may be wrong with the positions.
    """
    wanted = options or FieldOptions()
    sky = to_stereographic(ra, dec, centre) * 3600
    tried, best = 0, -math.inf
    if min(len(xy), len(sky)) < _FEWEST:
        return Searched(None, best, tried, centre)
    for level, low, high, count in _plan(len(xy), sky, shape, scale):
        looked = xy[: _LOOKED * level]
        among = sky[: math.ceil(_LOOKED * _DEEPER * count)]
        tolerance = Tolerance(
            noise=(wanted.noise, 0.1 * wanted.noise * low),
            shear=max(0.01, wanted.distortion),
            bend=wanted.distortion,
            scale=(low, high),
        )
        shapes = figures(looked, [level]), _sky_figures(among, count)
        made = guesses(*shapes, tolerance)
        tried += len(made.parity)
        found = judge(
            looked,
            among,
            made,
            tolerance=tolerance,
            enough=wanted.log_odds,
            made_before=tried - len(made.parity),
        )
        best = max(best, found.log_odds)
        if found.log_odds >= wanted.log_odds:
            return Searched(found, found.log_odds, tried, centre)
    return Searched(None, best, tried, centre)


def _plan(
    stars: int, sky: NDArray[np.float64], shape: tuple[int, int], scale: tuple[float, float]
) -> Iterator[tuple[int, float, float, int]]:
    """Stars in the frame, the range of scales, and as many stars of the catalogue as that makes in its piece of sky."""
    from scipy.spatial import ConvexHull

    area = float(ConvexHull(sky).volume)
    steps = max(1, math.ceil(math.log(scale[1] / scale[0]) / math.log(_STEP) - 1e-9))
    edges = scale[0] * (scale[1] / scale[0]) ** (np.arange(steps + 1) / steps)
    done: set[tuple[int, int, int]] = set()
    for level in _LEVELS:
        for k in range(steps - 1, -1, -1):  # coarse scales are of bright stars alone
            low, high = float(edges[k]), float(edges[k + 1])
            frame = shape[0] * shape[1] * low * high
            count = max(int(level * area / frame), 6)
            if count > 2 * len(sky) and level > _LEVELS[0]:
                continue  # the catalogue does not go so deep
            count = min(count, len(sky), _FIGURES)
            key = (min(level, stars), k, count)
            if key not in done:
                done.add(key)
                yield level, low, high, count


def _sky_figures(among: NDArray[np.float64], count: int) -> Asterisms:
    return figures(among, [count, count * 3 // 2])


def started(
    xy: NDArray[np.float64],
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    searched: Searched,
    *,
    shape: tuple[int, int],
    options: FieldOptions | None = None,
) -> FieldStart | None:
    """From an accepted guess to a rough projection; None where the stars around it do not hold together.

    Parameters
    ----------
    xy, ra, dec, shape, options
        As for :func:`find_field`.
    searched : Searched
        What that returned, with something found.
    """
    wanted = options or FieldOptions()
    if searched.found is None:
        return None
    sky = to_stereographic(ra, dec, searched.centre) * 3600
    scale = math.hypot(searched.found.state[0], searched.found.state[1])
    grow = grown(xy, sky, searched.found, 2, noise=(wanted.noise, 0.1 * wanted.noise * scale))
    if grow is None:
        return None
    flat = grow[0].transform
    reach = _NEAR * float(np.hypot(*grow[0].rms)) / math.sqrt(2) / 3600
    return rough(lambda pixels: from_stereographic(flat(pixels) / 3600, searched.centre), shape, 2, reach)


def rough(
    to_sky: Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]],
    shape: tuple[int, int],
    degree: int,
    reach: float,
) -> FieldStart:
    """A start from anything that leads from pixels (n, 2) to right ascensions and declinations.

    Parameters
    ----------
    to_sky : callable
        Such as a header's projection.
    shape : (int, int)
        Rows and columns of the image.
    degree : int
        Of the polynomial that is to follow it.
    reach : float
        Degrees by which stars may be off.
    """
    across = (np.linspace(-0.5, size - 0.5, _GRID) for size in shape[::-1])
    grid = np.stack([part.ravel() for part in np.meshgrid(*across)], axis=1)
    (at_ra,), (at_dec,) = to_sky(np.array([_middle(shape)]))
    centre = float(at_ra), float(at_dec)
    fit = fit_plane(grid, to_tangent(*to_sky(grid), centre), degree, clip=math.inf)
    return FieldStart(fit.transform, centre, reach)


def _middle(shape: tuple[int, int]) -> tuple[float, float]:
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2


def refine_field(
    xy: NDArray[np.float64],
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    start: FieldStart,
    *,
    shape: tuple[int, int],
    order: int | None = None,
    weight: NDArray[np.float64] | None = None,
    options: FieldOptions | None = None,
) -> FieldSolution | None:
    """From a rough projection to one that is fitted to all stars.

    Parameters
    ----------
    xy, ra, dec, shape
        As for :func:`find_field`, in any order.
    start : FieldStart
        What is known.
    order : int, optional
        Of the polynomial: 1 is TAN, 2 and above TAN-SIP. By default chosen by cross-validation, not above what the
        number of stars can bear.
    weight : ndarray of float64, (n,), optional
        Of the stars of the image: inverse variances of their positions.
    options : FieldOptions, optional
        The highest order and the clip.

    Returns
    -------
    FieldSolution or None
        None where the stars do not hold together.
    """
    wanted = options or FieldOptions()
    about = _middle(shape)
    predicted, centre, reach = start.plane(xy), start.centre, start.reach
    slope = start.plane.slope(np.asarray(about))
    least = 0.1 * wanted.noise * math.sqrt(abs(slope[0, 0] * slope[1, 1] - slope[0, 1] * slope[1, 0]))
    heavy = np.ones(len(xy)) if weight is None else weight
    degree, pairs = 1, (np.empty(0, np.int64), np.empty(0, np.int64))
    for turn in range(_ROUNDS):
        there = to_tangent(ra, dec, centre)
        before = pairs
        if turn < _PAIRED:
            pairs = _pairs(predicted, there, reach)
        first, second = pairs
        if len(first) < _FEWEST:
            return None
        if turn < _CHOSEN:
            highest = _bearable(len(first), wanted.highest_order if order is None else order)
            chosen = order is not None or turn == 0
            degree = highest if chosen else best_degree(xy[first], there[second], highest, weight=heavy[first])
            degree = degree if turn else min(degree, 2)
        fit = fit_plane(xy[first], there[second], degree, weight=heavy[first], clip=wanted.clip)
        shift = fit.transform(np.array([about]))
        settled = turn >= _CHOSEN and all(np.array_equal(*both) for both in zip(pairs, before, strict=True))
        if settled and np.abs(shift).max() < _THERE:
            break
        reach = max(_NEAR * float(np.hypot(*fit.rms)) / math.sqrt(2), least)
        (at_ra,), (at_dec,) = from_tangent(shift, centre)
        centre = float(at_ra), float(at_dec)
        predicted = fit.transform(xy) - shift
    else:
        return None
    if np.count_nonzero(fit.kept) < _FEWEST:
        return None
    residual = xy[first] - fit.transform.inverse(there[second])
    return FieldSolution(fit.transform, centre, about, first, second, fit.kept, residual)


def _pairs(
    predicted: NDArray[np.float64], there: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    seen = np.flatnonzero(np.isfinite(there).all(axis=1))
    first, near = mutual_pairs(predicted, there[seen], reach)
    return first.astype(np.int64), seen[near].astype(np.int64)


def _bearable(pairs: int, highest: int) -> int:
    return max(degree for degree in range(1, highest + 1) if degree == 1 or pairs >= stars_for(degree))
