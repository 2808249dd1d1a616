"""The light of a star before the pixels: profiles that combine, and a protocol for a user's own.

A profile says how the flux of a star of unit flux is spread (:meth:`Profile.density`) and how far it goes
(:meth:`Profile.radius`). :class:`Moffat`, :class:`Gaussian` and :class:`Donut` are round; :class:`Stretched` makes any
profile larger and elliptical, :class:`Trailed` draws it out along a line, and :class:`Varying` lets size and
ellipticity change over the field. :func:`larun.simulate.render_profile` integrates them over the pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError
from larun.simulate.stars import inverse_power

__all__ = ["Donut", "Function", "Gaussian", "Moffat", "Profile", "Stretched", "Trailed", "Varying", "shear"]

Array = NDArray[np.float64]

_TRAIL_NODES = 8  # quadrature nodes per pixel of a trail: enough for stars of 0.5 pixel
_DONUT_NODES = 400
_DONUT_STEPS = 30  # of the table, per FWHM of the blur


class Profile(Protocol):
    """What a profile has to know; a user's own class needs these two methods and nothing else."""

    def density(self, dx: Array, dy: Array) -> Array:
        """Flux per square pixel at (dx, dy) pixels from the centre of a star of unit flux; arguments broadcast."""
        ...

    def radius(self, outside: float) -> float:
        """Radius of a circle outside of which at most this fraction of the flux lies, pixels."""
        ...


def _narrow(instance: Any, attribute: Any, value: float) -> None:
    if not 0.5 <= value < math.inf:
        raise OptionError(f"{attribute.name} = {value}: must be at least 0.5 pixels and finite")


def _finite(instance: Any, attribute: Any, value: float) -> None:
    if not math.isfinite(value):
        raise OptionError(f"{attribute.name} = {value}: must be finite")


def shear(axis_ratio: float, angle: float) -> tuple[float, float]:
    """The components (g1, g2) of an ellipse of this axis ratio.

    Parameters
    ----------
    axis_ratio : float
        Short over long axis, above 0 and at most 1.
    angle : float
        Of the long axis, degrees from +x towards +y.

    Returns
    -------
    tuple of float
        ``|g| = (1 - q) / (1 + q)``, ``g1 + i g2 = |g| exp(2 i angle)``: the reduced shear of Bartelmann & Schneider
        2001, Physics Reports 340, 291, as GalSim names it.

    Examples
    --------
    >>> tuple(round(g, 4) for g in shear(0.8, 90.0))
    (-0.1111, 0.0)
    """
    if not 0 < axis_ratio <= 1 or not math.isfinite(angle):
        raise OptionError(f"axis_ratio = {axis_ratio}, angle = {angle}: give a ratio above 0 and at most 1, degrees")
    g, phase = (1 - axis_ratio) / (1 + axis_ratio), 2 * math.radians(angle)
    return g * math.cos(phase), g * math.sin(phase)


@attrs.frozen
class Moffat:
    """A round Moffat profile (1969, A&A 3, 455).

    Parameters
    ----------
    fwhm : float
        Pixels, at least 0.5.
    beta : float
        Exponent, above 1.
    """

    fwhm: float = attrs.field(validator=_narrow)
    beta: float = attrs.field(default=3.0)

    @beta.validator
    def _converges(self, attribute: Any, value: float) -> None:
        if not 1 < value < math.inf:
            raise OptionError(f"beta = {value}: must be above 1, else the flux is infinite")

    @property
    def alpha(self) -> float:
        """The scale radius, pixels."""
        return self.fwhm / (2 * math.sqrt(2 ** (1 / self.beta) - 1))

    def density(self, dx: Array, dy: Array) -> Array:
        """As :meth:`Profile.density`."""
        peak = (self.beta - 1) / (math.pi * self.alpha**2)
        return peak * inverse_power(1 + (dx * dx + dy * dy) / self.alpha**2, self.beta)

    def radius(self, outside: float) -> float:
        """As :meth:`Profile.radius`."""
        grown = min(-math.log(outside) / (2 * (self.beta - 1)), 30.0)  # for beta near 1 the number overflows
        return self.alpha * math.exp(grown)

    def enclosed(self, radius: Array) -> Array:
        """The fraction of the flux within a radius."""
        return np.asarray(1 - (1 + (radius / self.alpha) ** 2) ** (1 - self.beta))


@attrs.frozen
class Gaussian:
    """A round Gaussian profile of this full width at half maximum, pixels (at least 0.5)."""

    fwhm: float = attrs.field(validator=_narrow)

    @property
    def sigma(self) -> float:
        """Standard deviation along each axis, pixels."""
        return self.fwhm / math.sqrt(8 * math.log(2))

    def density(self, dx: Array, dy: Array) -> Array:
        """As :meth:`Profile.density`."""
        return np.asarray(np.exp((dx * dx + dy * dy) / (-2 * self.sigma**2)) / (2 * math.pi * self.sigma**2))

    def radius(self, outside: float) -> float:
        """As :meth:`Profile.radius`."""
        return self.sigma * math.sqrt(-2 * math.log(outside))

    def enclosed(self, radius: Array) -> Array:
        """The fraction of the flux within a radius."""
        return np.asarray(-np.expm1((radius / self.sigma) ** 2 / -2))


@attrs.frozen
class Donut:
    """A star far out of focus: the image of the telescope's pupil, an annulus, blurred by the seeing.

    This is geometrical optics, right where the annulus is much larger than the diffraction pattern: the light fills the
    projected pupil evenly.

    Parameters
    ----------
    outer : float
        Outer radius of the annulus, pixels.
    obscuration : float
        Inner over outer radius, at least 0 and below 1.
    blur : Moffat or Gaussian
        What spreads each point of the annulus.

    Notes
    -----
    A disc of radius R blurred by k has at distance r from its centre the density ``∫ k(s) θ(s) s ds / (π R²)``, where
    θ is the angle that the circle of radius s about the point has inside the disc. The integral is tabled with a
    relative error below 1e-6 of the peak.
    """

    outer: float = attrs.field()
    obscuration: float = attrs.field(default=0.4)
    blur: Moffat | Gaussian = attrs.field(factory=lambda: Gaussian(2.0))

    def __attrs_post_init__(self) -> None:
        if not 0.1 <= self.outer < 1000 or not 0 <= self.obscuration < 1:
            raise OptionError(
                f"outer = {self.outer}, obscuration = {self.obscuration}: give a radius of 0.1 to 1000 pixels, and an "
                "obscuration of at least 0 and below 1"
            )

    def density(self, dx: Array, dy: Array) -> Array:
        """As :meth:`Profile.density`."""
        table = _donut(self)
        r = np.hypot(dx, dy)
        made = np.where(r < table.end, table.core(np.minimum(r, table.end)), 0.0)
        if isinstance(self.blur, Moffat):  # beyond the table the annulus is as good as a point
            far = r >= table.end
            made[far] = self.blur.density(r[far], np.zeros(1)) * table.ratio
        return np.asarray(np.maximum(made, 0.0))

    def radius(self, outside: float) -> float:
        """As :meth:`Profile.radius`."""
        return self.outer + self.blur.radius(outside)


class _DonutTable(NamedTuple):
    core: Callable[[Array], Array]
    end: float
    ratio: float


@functools.lru_cache(maxsize=64)
def _donut(donut: Donut) -> _DonutTable:
    from scipy.interpolate import CubicSpline

    fwhm = donut.blur.fwhm
    end = 2 * donut.outer + 12 * fwhm
    r = np.linspace(0.0, end, math.ceil(end / fwhm * _DONUT_STEPS) + 1)
    inner = donut.obscuration * donut.outer
    whole, hole = donut.outer**2, inner**2
    values = whole * _disc(r, donut.outer, donut.blur)
    if inner > 0:
        values -= hole * _disc(r, inner, donut.blur)
    values /= whole - hole
    last = float(donut.blur.density(np.array(end), np.array(0.0))) if isinstance(donut.blur, Moffat) else 1.0
    spline = CubicSpline(r, values, bc_type=((1, 0.0), "not-a-knot"))
    return _DonutTable(spline, end, float(values[-1]) / last)


def _disc(r: Array, size: float, blur: Moffat | Gaussian) -> Array:
    """The density of an evenly lit disc after the blur, at distances r from its centre."""
    nodes, weights = np.polynomial.legendre.leggauss(_DONUT_NODES)
    t, w = (nodes + 1) * math.pi / 2, weights * math.pi / 2
    low, high = np.abs(size - r)[:, None], (size + r)[:, None]
    s = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(t)  # takes the edges' square roots out of the angle
    cosine = (r[:, None] ** 2 + s**2 - size**2) / np.maximum(2 * r[:, None] * s, 1e-300)
    angle = 2 * np.arccos(np.clip(cosine, -1.0, 1.0))
    part = blur.density(s, np.zeros(1)) * angle * s * 0.5 * (high - low) * np.sin(t)
    whole = np.where(r < size, blur.enclosed(np.abs(size - r)), 0.0)  # circles that lie inside the disc altogether
    return np.asarray((whole + part @ w) / (math.pi * size**2))


@attrs.frozen
class Stretched:
    """A profile made larger and elliptical.

    Parameters
    ----------
    profile : Profile
        What is stretched.
    size : float
        Factor on the geometric mean of the two axes.
    g1, g2 : float
        Shear: ``(a - b) / (a + b)`` times cosine and sine of twice the angle of the long axis from +x (:func:`shear`).

    Examples
    --------
    >>> g1, g2 = shear(0.5, 0.0)
    >>> profile = Stretched(Gaussian(2.0), g1=g1, g2=g2)
    >>> along, across = profile.density(np.array([2**0.5, 0.0]), np.array([0.0, 2**-0.5]))
    >>> bool(np.isclose(along, across)), bool(np.isclose(along, profile.density(np.zeros(1), np.zeros(1))[0] / 2))
    (True, True)
    """

    profile: Profile
    size: float = attrs.field(default=1.0, kw_only=True)
    g1: float = attrs.field(default=0.0, kw_only=True)
    g2: float = attrs.field(default=0.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not 0 < self.size < math.inf or not math.hypot(self.g1, self.g2) < 0.99:
            raise OptionError(
                f"size = {self.size}, g1 = {self.g1}, g2 = {self.g2}: give a positive size and a shear below 0.99"
            )

    def density(self, dx: Array, dy: Array) -> Array:
        """As :meth:`Profile.density`."""
        scale = 1 / (self.size * math.sqrt(1 - self.g1**2 - self.g2**2))
        u = scale * ((1 - self.g1) * dx - self.g2 * dy)
        v = scale * ((1 + self.g1) * dy - self.g2 * dx)
        return np.asarray(self.profile.density(u, v) / self.size**2)

    def radius(self, outside: float) -> float:
        """As :meth:`Profile.radius`."""
        g = math.hypot(self.g1, self.g2)
        return self.profile.radius(outside) * self.size * math.sqrt((1 + g) / (1 - g))


@attrs.frozen
class Trailed:
    """A profile drawn out evenly along a line, from -(dx, dy)/2 to +(dx, dy)/2 pixels: the mount did not follow."""

    profile: Profile
    dx: float = attrs.field(default=0.0, validator=_finite, kw_only=True)
    dy: float = attrs.field(default=0.0, validator=_finite, kw_only=True)

    def density(self, dx: Array, dy: Array) -> Array:
        """As :meth:`Profile.density`."""
        count = max(8, math.ceil(_TRAIL_NODES * math.hypot(self.dx, self.dy)))
        total = np.zeros(np.broadcast_shapes(np.shape(dx), np.shape(dy)))
        for node, weight in zip(*np.polynomial.legendre.leggauss(count), strict=True):
            total += 0.5 * weight * self.profile.density(dx - 0.5 * node * self.dx, dy - 0.5 * node * self.dy)
        return total

    def radius(self, outside: float) -> float:
        """As :meth:`Profile.radius`."""
        return self.profile.radius(outside) + 0.5 * math.hypot(self.dx, self.dy)


@attrs.frozen
class Function:
    """A user's own function as a profile.

    Parameters
    ----------
    function : callable
        ``function(dx, dy)``, two arrays that broadcast: the flux per square pixel of a star of unit flux.
    reach : float
        Radius outside of which nothing matters, pixels.

    Raises
    ------
    OptionError
        If the function's values are not finite, or do not add up to 1 within 5 %.

    Examples
    --------
    >>> Function(lambda dx, dy: np.exp(-np.hypot(dx, dy)) / (2 * np.pi), reach=15.0).radius(1e-4)
    15.0
    """

    function: Callable[[Array, Array], Array]
    reach: float

    def __attrs_post_init__(self) -> None:
        if not 0.5 <= self.reach <= 1000:
            raise OptionError(f"reach = {self.reach}: must be 0.5 to 1000 pixels")
        steps = 4 * math.ceil(self.reach) + 2
        at = (np.arange(2 * steps) + 0.5 - steps) / 4
        values = np.asarray(self.function(at[None, :], at[:, None]))
        if values.shape != (2 * steps, 2 * steps) or not np.isfinite(values).all():
            raise OptionError("the function of a profile must give a finite value for each pair (dx, dy) of two arrays")
        if not abs(values.sum() / 16 - 1) < 0.05:
            raise OptionError(
                f"the function of a profile adds up to {values.sum() / 16:.3g}: divide it by its integral"
            )

    def density(self, dx: Array, dy: Array) -> Array:
        """As :meth:`Profile.density`."""
        return np.asarray(self.function(dx, dy))

    def radius(self, outside: float) -> float:
        """As :meth:`Profile.radius`."""
        return float(self.reach)


Terms = tuple[tuple[int, int, float], ...]


def _terms(values: Iterable[Iterable[float]]) -> Terms:
    return tuple((int(i), int(j), float(c)) for i, j, c in values)


@attrs.frozen
class Varying:
    """A profile whose size and shear change over the field, each as a polynomial of the position.

    Parameters
    ----------
    profile : Profile
        The profile where size is 1 and shear is 0.
    shape : tuple of int
        (ny, nx) of the field: u and v run from -1 to 1 between the centres of its outermost columns and rows.
    size, g1, g2 : iterable of (i, j, c)
        Terms ``c uⁱ vʲ`` that add up to the factor on the size, and to the components of the shear.
    trail : tuple of float
        (dx, dy) by which all stars are trailed besides.

    Examples
    --------
    >>> field = Varying(Moffat(3.0), shape=(101, 201), size=[(0, 0, 1.0), (2, 0, 0.2)], g1=[(1, 0, 0.1)])
    >>> here = field.at(200.0, 50.0)
    >>> round(here.size, 6), round(here.g1, 6)
    (1.2, 0.1)
    """

    profile: Profile
    shape: tuple[int, int] = attrs.field(kw_only=True)
    size: Terms = attrs.field(default=((0, 0, 1.0),), converter=_terms, kw_only=True)
    g1: Terms = attrs.field(default=(), converter=_terms, kw_only=True)
    g2: Terms = attrs.field(default=(), converter=_terms, kw_only=True)
    trail: tuple[float, float] = attrs.field(default=(0.0, 0.0), kw_only=True)

    def __attrs_post_init__(self) -> None:
        for terms in (self.size, self.g1, self.g2):
            if any(i < 0 or j < 0 or i + j > 10 or not math.isfinite(c) for i, j, c in terms):
                raise OptionError(f"terms {terms}: give (i, j, c), powers of at least 0 and together at most 10")
        for v in np.linspace(-1, 1, 9):  # an impossible place raises now, not at the star that lies there
            for u in np.linspace(-1, 1, 9):
                self._at(u, v)

    def at(self, x: float, y: float) -> Profile:
        """The profile at a place of the field; outside of it, that of the nearest place on the edge."""
        ny, nx = self.shape
        u, v = 2 * x / max(nx - 1, 1) - 1, 2 * y / max(ny - 1, 1) - 1
        profile = self._at(min(max(u, -1.0), 1.0), min(max(v, -1.0), 1.0))
        return Trailed(profile, dx=self.trail[0], dy=self.trail[1]) if any(self.trail) else profile

    def _at(self, u: float, v: float) -> Stretched:
        size, g1, g2 = (sum(c * u**i * v**j for i, j, c in terms) for terms in (self.size, self.g1, self.g2))
        return Stretched(self.profile, size=size, g1=g1, g2=g2)
