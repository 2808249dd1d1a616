"""Where the sky falls on the chip: distortion, pointing, rotation, and how they change from frame to frame.

Three planes are told apart, all in pixels: the undistorted focal plane of the undithered frame, the same plane of the
frame at hand (turned about the reference position and shifted), and the chip. Everything that moves moves in the focal
plane; the distortion belongs to the optics and stays where it is on the chip. The header of a frame is made from the
same numbers, exactly: WCS and star positions agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = ["Distortion", "Pointing", "dithers", "drift", "place", "wcs_matrix"]

Array = NDArray[np.float64]
Terms = tuple[tuple[int, int, float], ...]

PATTERNS = ("random", "grid", "spiral")
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def _terms(values: Iterable[Iterable[float]]) -> Terms:
    return tuple((int(p), int(q), float(c)) for p, q, c in values)


class Recentred(NamedTuple):
    """A distortion about another pixel: the linear part, and what is left to be applied before it."""

    matrix: Array
    a: Terms
    b: Terms


@attrs.frozen(kw_only=True)
class Distortion:
    """A polynomial distortion about the middle of the chip, as SIP writes it.

    A pixel at (u, v) from the middle sees the undistorted place ``u + Σ A_pq uᵖ v^q``, ``v + Σ B_pq uᵖ v^q`` (Shupe et
    al. 2005, ADASS XIV, ASP Conf. Ser. 347, 491).

    Parameters
    ----------
    a, b : iterable of (p, q, coefficient)
        Terms with 2 ≤ p + q ≤ 9; u and v in pixels.

    Raises
    ------
    OptionError
        If a term has other powers, or is not finite.

    Examples
    --------
    >>> barrel = Distortion.radial((1000, 1000), corner=5.0)
    >>> u, v = barrel.undistorted(np.array([500.0]), np.array([500.0]))
    >>> round(float(np.hypot(u - 500.0, v - 500.0)[0]), 6)
    5.0
    """

    a: Terms = attrs.field(default=(), converter=_terms)
    b: Terms = attrs.field(default=(), converter=_terms)

    def __attrs_post_init__(self) -> None:
        for p, q, c in (*self.a, *self.b):
            if p < 0 or q < 0 or not 2 <= p + q <= 9 or not math.isfinite(c):
                raise OptionError(f"distortion term ({p}, {q}, {c}): give powers with 2 <= p + q <= 9, a finite number")

    @classmethod
    def radial(cls, shape: tuple[int, int], *, corner: float) -> Self:
        """A third-order radial distortion of ``corner`` pixels in the corners; above 0 they see farther out: barrel."""
        k = corner / (math.hypot(*shape) / 2) ** 3
        return cls(a=((3, 0, k), (1, 2, k)), b=((0, 3, k), (2, 1, k)))

    @property
    def order(self) -> int:
        """The highest power; 0 where there is no distortion."""
        return max((p + q for p, q, _ in (*self.a, *self.b)), default=0)

    def undistorted(self, u: Array, v: Array) -> tuple[Array, Array]:
        """From offsets on the chip to the focal plane."""
        return u + _sum(self.a, u, v), v + _sum(self.b, u, v)

    def distorted(self, u: Array, v: Array) -> tuple[Array, Array]:
        """From offsets in the focal plane to the chip: the inverse of :meth:`undistorted`, to 1e-10 pixel.

        Raises
        ------
        OptionError
            If the distortion folds the field, so that there is no inverse.
        """
        x, y = np.array(u, dtype=np.float64), np.array(v, dtype=np.float64)
        for _ in range(50):  # Newton
            du, dv = x + _sum(self.a, x, y) - u, y + _sum(self.b, x, y) - v
            if not (np.isfinite(du).all() and np.isfinite(dv).all()):
                break
            if max(np.abs(du).max(initial=0.0), np.abs(dv).max(initial=0.0)) < 1e-10:
                return x, y
            j11, j12, j21, j22 = self._slopes(x, y)
            determinant = j11 * j22 - j12 * j21
            determinant = np.where(np.abs(determinant) < 1e-3, np.nan, determinant)
            x, y = x - (j22 * du - j12 * dv) / determinant, y - (j11 * dv - j21 * du) / determinant
        raise OptionError("the distortion folds the field: places on the sky have no pixel; make its terms smaller")

    def about(self, u: float, v: float) -> Recentred:
        """The same distortion about (u, v): ``matrix · (d + a'(d), d + b'(d))`` for offsets d from there."""
        j11, j12, j21, j22 = (float(value) for value in self._slopes(np.array(u), np.array(v)))
        matrix = np.array([[j11, j12], [j21, j22]])
        inverse = np.array([[j22, -j12], [-j21, j11]]) / (j11 * j22 - j12 * j21)
        a, b = (_recentred(terms, u, v) for terms in (self.a, self.b))
        powers = sorted(set(a) | set(b))
        made = [
            tuple((p, q, float(row[0] * a.get((p, q), 0.0) + row[1] * b.get((p, q), 0.0))) for p, q in powers)
            for row in inverse
        ]
        return Recentred(matrix, made[0], made[1])

    def _slopes(self, u: Array, v: Array) -> tuple[Array, Array, Array, Array]:
        au, av = (_slope(self.a, axis, u, v) for axis in (0, 1))
        bu, bv = (_slope(self.b, axis, u, v) for axis in (0, 1))
        return 1 + au, av, bu, 1 + bv

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From the plain containers of ``attrs.asdict``."""
        return cls(a=values["a"], b=values["b"])


def _sum(terms: Terms, u: Array, v: Array) -> Array:
    total = np.zeros(np.broadcast_shapes(np.shape(u), np.shape(v)))
    for p, q, c in terms:
        total += c * u**p * v**q
    return total


def _slope(terms: Terms, axis: int, u: Array, v: Array) -> Array:
    lowered = tuple((p - (axis == 0), q - (axis == 1), c * (p, q)[axis]) for p, q, c in terms if (p, q)[axis] > 0)
    return _sum(lowered, u, v)


def _recentred(terms: Terms, u: float, v: float) -> dict[tuple[int, int], float]:
    """The coefficients of second and higher order about (u, v), by the binomial theorem."""
    made: dict[tuple[int, int], float] = {}
    for p, q, c in terms:
        for i in range(p + 1):
            for j in range(q + 1):
                if i + j >= 2:
                    part = c * math.comb(p, i) * u ** (p - i) * math.comb(q, j) * v ** (q - j)
                    made[i, j] = made.get((i, j), 0.0) + part
    return made


@attrs.frozen(kw_only=True)
class Pointing:
    """How the sky of the undithered frame lies in another one.

    Parameters
    ----------
    offset : tuple of float
        (dx, dy) of the reference position from the middle of the chip, pixels of the focal plane.
    rotation : float
        Degrees by which the sky turns about the reference position, from +x towards +y.
    distortion : Distortion
        Of the optics.
    """

    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    distortion: Distortion = attrs.field(factory=Distortion)

    def __attrs_post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (*self.offset, self.rotation)):
            raise OptionError(f"offset = {self.offset}, rotation = {self.rotation}: must be finite")


def place(pointing: Pointing, shape: tuple[int, int], x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Where places of the undithered frame lie on the chip in another frame.

    Parameters
    ----------
    pointing : Pointing
        Of the other frame.
    shape : tuple of int
        (ny, nx) of the chip.
    x, y : array_like
        Pixels of the undithered frame.

    Returns
    -------
    tuple of ndarray
        Pixels of the other frame. Without rotation and distortion exactly ``x + dx`` and ``y + dy``.

    Raises
    ------
    OptionError
        If the distortion folds the field.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    dx, dy = pointing.offset
    if not pointing.rotation and not pointing.distortion.order:
        return xs + dx, ys + dy
    middle = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    u, v = pointing.distortion.undistorted(xs - middle[0], ys - middle[1])
    cosine, sine = math.cos(math.radians(pointing.rotation)), math.sin(math.radians(pointing.rotation))
    u, v = pointing.distortion.distorted(cosine * u - sine * v + dx, sine * u + cosine * v + dy)
    return u + middle[0], v + middle[1]


def wcs_matrix(pointing: Pointing, cd: ArrayLike) -> tuple[tuple[float, float], Array, dict[str, Any]]:
    """What a frame's WCS is made of.

    Parameters
    ----------
    pointing : Pointing
        Of the frame.
    cd : array_like, (2, 2)
        CD matrix of the undithered frame without distortion, degrees per pixel.

    Returns
    -------
    pixel : tuple of float
        Offset of the reference pixel from the middle of the chip.
    matrix : ndarray (2, 2)
        CD matrix of the frame.
    sip : dict
        Cards A_ORDER, A_p_q, B_ORDER, B_p_q; empty without distortion.

    Notes
    -----
    The reference pixel is where the reference position falls, distortion included; about that pixel the polynomial has
    a linear part, which goes into the matrix, so that the SIP terms begin with the second order as they should.
    """
    dx, dy = pointing.offset
    matrix = np.array(cd, dtype=np.float64)
    if pointing.rotation:
        cosine, sine = math.cos(math.radians(pointing.rotation)), math.sin(math.radians(pointing.rotation))
        matrix = _product(matrix, np.array([[cosine, sine], [-sine, cosine]]))
    if not pointing.distortion.order:
        return (dx, dy), matrix, {}
    u, v = (float(value) for value in pointing.distortion.distorted(np.array(dx), np.array(dy)))
    recentred = pointing.distortion.about(u, v)
    order = max(2, pointing.distortion.order)
    sip: dict[str, Any] = {}
    for name, terms in (("A", recentred.a), ("B", recentred.b)):
        sip[f"{name}_ORDER"] = order
        sip |= {f"{name}_{p}_{q}": c for p, q, c in terms if c}
    return (u, v), _product(matrix, recentred.matrix), sip


def _product(one: Array, two: Array) -> Array:
    """Of two 2 × 2 matrices, without a BLAS: its bits are the same everywhere."""
    return np.asarray((one[:, :, None] * two[None, :, :]).sum(axis=1))


def dithers(count: int, *, size: float, pattern: str = "random", rng: np.random.Generator | None = None) -> Array:
    """Offsets of dithered frames; the first is zero.

    Parameters
    ----------
    count : int
        Number of frames.
    size : float
        Largest offset along each axis (of the spiral: its radius), pixels.
    pattern : {"random", "grid", "spiral"}
        Uniform at random (needs ``rng``); a square grid walked row by row from its middle; a spiral of even density
        (Vogel 1979, Mathematical Biosciences 44, 179).

    Returns
    -------
    ndarray (count, 2)
        (dx, dy), pixels.

    Raises
    ------
    OptionError
        If count or size is negative, or the pattern is unknown.

    Examples
    --------
    >>> dithers(3, size=10.0, pattern="grid").tolist()
    [[0.0, 0.0], [-10.0, -10.0], [10.0, -10.0]]
    """
    if count < 0 or not 0 <= size < math.inf or pattern not in PATTERNS:
        raise OptionError(
            f"count = {count}, size = {size}, pattern = {pattern!r}: give at least 0, and one of {', '.join(PATTERNS)}"
        )
    made = np.zeros((count, 2))
    rest = max(count - 1, 0)
    if pattern == "random":
        if rng is None:
            raise OptionError("random dithers need rng, the source of random numbers")
        made[1:] = rng.uniform(-size, size, (rest, 2))
    elif pattern == "grid":
        side = max(2, math.ceil(math.sqrt(rest)))
        steps = np.linspace(-size, size, side)
        made[1:] = np.array([(x, y) for y in steps for x in steps])[:rest]
    else:
        n = np.arange(1, count)
        radius = size * np.sqrt(n / max(rest, 1))
        made[1:] = np.column_stack([radius * np.cos(n * _GOLDEN_ANGLE), radius * np.sin(n * _GOLDEN_ANGLE)])
    return made


def drift(
    hours: ArrayLike,
    *,
    rate: tuple[float, float] = (0.0, 0.0),
    walk: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Array:
    """Offsets of frames that nobody guides: a steady drift and a random walk.

    Parameters
    ----------
    hours : array_like (n,)
        Times of the frames, ascending.
    rate : tuple of float
        Pixels per hour along x and y.
    walk : float
        Rms of the random walk along each axis after one hour, pixels; it needs ``rng``.
    rng : numpy.random.Generator, optional
        Source of the random numbers.

    Returns
    -------
    ndarray (n, 2)
        (dx, dy) from the first frame, pixels.

    Raises
    ------
    OptionError
        If times do not ascend, or a value is impossible.

    Examples
    --------
    >>> drift([0.0, 0.5, 2.0], rate=(4.0, 1.0)).tolist()
    [[0.0, 0.0], [2.0, 0.5], [8.0, 2.0]]
    """
    times = np.asarray(hours, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise OptionError("hours: give a list of times that ascend")
    if not 0 <= walk < math.inf or not all(math.isfinite(value) for value in rate):
        raise OptionError(f"rate = {rate}, walk = {walk}: must be finite, and walk at least 0")
    made = (times - times[:1])[:, None] * np.asarray(rate)
    if walk and len(times):
        if rng is None:
            raise OptionError("a random walk needs rng, the source of random numbers")
        steps = walk * np.sqrt(np.diff(times))[:, None] * rng.standard_normal((len(times) - 1, 2))
        made[1:] += np.cumsum(steps, axis=0)
    return np.asarray(made)
