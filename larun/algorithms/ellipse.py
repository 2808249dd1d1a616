"""Elliptical apertures: exact sums, and Kron's radius.

An affine map turns the ellipse into the unit circle and a pixel into a parallelogram; the area both share is the sum of
what circle and triangle share over the four triangles between the centre and an edge, which is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.aperture import ApertureSums, autocorrelation, correlated, plane, positions
from larun.algorithms.jit import kernel, over_rows
from larun.errors import OptionError
from larun.flags import BAD, COSMIC, EDGE, FLAT_INVALID, INTERPOLATED, NO_DATA

__all__ = ["ellipse_sums", "kron_radius"]

#: A pixel with one of these and without INTERPOLATED has no value to add.
_LEFT_OUT = np.uint32(BAD | COSMIC | FLAT_INVALID | NO_DATA)

_SOURCES_PER_BAND = 64


def ellipse_sums(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    flags: NDArray[np.uint32],
    x: ArrayLike,
    y: ArrayLike,
    ellipses: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    acf: NDArray[Any] | None = None,
) -> ApertureSums:
    """Sum the pixels in ellipses around each position, by the exact area ellipse and pixel share.

    What counts, and what flags and errors mean, is as for circles: :func:`larun.algorithms.aperture.aperture_sums`.

    Parameters
    ----------
    data, variance, flags, x, y, acf
        As for :func:`larun.algorithms.aperture.aperture_sums`.
    ellipses : tuple of array_like
        Semi-major and semi-minor axes in pixels, (n, k) for k apertures a source, and the angle of the major axis in
        degrees from +x towards +y, (n,).

    Returns
    -------
    ApertureSums
        Every field (n, k). An ellipse that is not finite, or lies outside the image, sums to NaN.

    Raises
    ------
    OptionError
        If shapes disagree, or an axis is not positive.

    Examples
    --------
    >>> flat = np.ones((21, 21), np.float32)
    >>> sums = ellipse_sums(flat, flat, np.zeros((21, 21), np.uint32), [10.3], [9.8], ([[6.0]], [[3.0]], [30.0]))
    >>> bool(np.isclose(sums.sum[0, 0], np.pi * 6 * 3, rtol=1e-13)), int(sums.flags[0, 0])
    (True, 0)
    """
    image = plane(data, np.float32, "data")
    noise = image if variance is None else plane(variance, np.float32, "variance", image.shape)
    bits = plane(flags, np.uint32, "flags", image.shape)
    xs, ys = positions(x, y)
    major, minor, theta = _ellipses(ellipses, len(xs))
    correlation = np.ones((1, 1, 1)) if variance is None else autocorrelation(acf, len(xs))[:, 0]
    total, noise2, area = np.empty(major.shape), np.empty(major.shape), np.empty(major.shape)
    seen = np.empty(major.shape, np.uint32)

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        own = correlation if len(correlation) == 1 else correlation[part]
        shape = (major[part], minor[part], theta[part])
        out = (total[part], noise2[part], area[part], seen[part])
        _sum_sources((image, noise, bits), own, xs[part], ys[part], shape, out)

    over_rows(len(xs), work, band=_SOURCES_PER_BAND)
    with np.errstate(invalid="ignore"):
        fraction = area / (np.pi * major * minor)
    fraction[np.abs(fraction - 1) < 1e-12] = 1.0
    return ApertureSums(total, None if variance is None else noise2, area, fraction, seen)


def kron_radius(
    data: NDArray[np.float32],
    flags: NDArray[np.uint32],
    x: ArrayLike,
    y: ArrayLike,
    ellipses: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    level: ArrayLike,
    reach: float = 6.0,
) -> NDArray[np.float64]:
    """Kron's radius of each source: the first moment of its light, in units of its ellipse.

    ``Σ r I / Σ I`` over the pixels whose centre lies within ``reach`` times the ellipse; r is the radius of the similar
    ellipse through the pixel (Kron 1980, ApJS 43, 305; Bertin & Arnouts 1996, A&AS 117, 393, section 7.4). A pixel
    that is nearer to another source of the list, in units of that one's ellipse, is left out.

    Parameters
    ----------
    data, flags : (ny, nx)
        Image and flags; the pixels that :func:`ellipse_sums` leaves out are left out.
    x, y : (n,)
        Positions, pixels.
    ellipses : tuple of (n,) arrays
        Semi-axes in pixels (of the second moments, say), and the angle of the major axis in degrees.
    level : (n,)
        The sky to subtract.
    reach : float
        How far the sums go, in units of the ellipse.

    Returns
    -------
    (n,) float64
        NaN where the light sums to nothing positive, or the ellipse is not finite.

    Raises
    ------
    OptionError
        If shapes disagree, or an axis is not positive.

    Examples
    --------
    >>> y, x = np.mgrid[:61, :61]
    >>> star = np.exp(-((x - 30) ** 2 / 8 + (y - 30) ** 2 / 4.5)).astype(np.float32)
    >>> radius = kron_radius(star, np.zeros(star.shape, np.uint32), [30], [30], ([2.0], [1.5], [0.0]), level=[0.0])
    >>> radius.round(2)  # sqrt(pi / 2) for a Gaussian
    array([1.25])
    """
    image = plane(data, np.float32, "data")
    bits = plane(flags, np.uint32, "flags", image.shape)
    xs, ys = positions(x, y)
    levels = np.array(np.broadcast_to(np.asarray(level, np.float64), xs.shape))
    axes = [np.asarray(axis, np.float64)[:, None] for axis in ellipses[:2]]
    major, minor, theta = _ellipses((axes[0], axes[1], ellipses[2]), len(xs))
    first, near = _neighbours(xs, ys, reach * major[:, 0])
    out = np.empty(len(xs))
    cxx, cxy, cyy = _coefficients(major[:, 0], minor[:, 0], theta)
    forms = np.ascontiguousarray(np.column_stack([xs, ys, cxx, cxy, cyy, major[:, 0]]))

    def work(start: int, stop: int) -> None:
        _kron_sources((image, bits), forms, levels, (first, near), float(reach), out, start, stop)

    over_rows(len(xs), work, band=_SOURCES_PER_BAND)
    return out


def _ellipses(
    ellipses: tuple[ArrayLike, ArrayLike, ArrayLike], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Both axes as (n, k), the angle in radians as (n,)."""
    major, minor, theta = (np.array(values, np.float64, order="C") for values in ellipses)
    if major.ndim != 2 or major.shape != minor.shape or theta.shape != (count,) or len(major) != count:
        raise OptionError(
            f"ellipses of shapes {major.shape}, {minor.shape} and {theta.shape} for {count} positions: "
            "must be (n, k), (n, k) and (n,)"
        )
    if (major <= 0).any() or (minor <= 0).any():
        raise OptionError("ellipses: axes must be positive, in pixels")
    return major, minor, np.radians(theta)


def _coefficients(
    major: NDArray[np.float64], minor: NDArray[np.float64], theta: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """``r² = cxx dx² + cxy dx dy + cyy dy²``, 1 on the ellipse."""
    cos, sin = np.cos(theta), np.sin(theta)
    along, across = 1 / major**2, 1 / minor**2
    return along * cos**2 + across * sin**2, 2 * cos * sin * (along - across), along * sin**2 + across * cos**2


def _neighbours(
    x: NDArray[np.float64], y: NDArray[np.float64], radius: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Who lies within ``radius`` of each source: where its list begins, and all lists in a row."""
    from scipy.spatial import KDTree

    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & np.isfinite(radius))
    first, near = np.zeros(len(x) + 1, np.int64), [np.empty(0, np.int64)]
    if good.size:
        places = np.column_stack([x[good], y[good]])
        found = KDTree(places).query_ball_point(places, 2 * radius[good], return_sorted=True)
        for index, members in zip(good, found, strict=True):
            others = good[np.asarray(members, np.int64)]
            others = others[others != index]
            near.append(others)
            first[index + 1] = len(others)
    return np.cumsum(first), np.concatenate(near).astype(np.int64)


@kernel
def _sector(ax: float, ay: float, bx: float, by: float) -> float:
    return 0.5 * math.atan2(ax * by - ay * bx, ax * bx + ay * by)


@kernel
def _edge(px: float, py: float, qx: float, qy: float) -> float:
    """Signed area that the unit circle and the triangle of the origin, p and q share."""
    dx, dy = qx - px, qy - py
    a, b, c = dx * dx + dy * dy, px * dx + py * dy, px * px + py * py - 1.0
    root = b * b - a * c
    if root <= 0.0:
        return _sector(px, py, qx, qy)
    root = math.sqrt(root)
    enter, leave = (-b - root) / a, (-b + root) / a
    if leave <= 0.0 or enter >= 1.0:
        return _sector(px, py, qx, qy)
    ix, iy, ox, oy = px, py, qx, qy
    area = 0.0
    if enter > 0.0:
        ix, iy = px + enter * dx, py + enter * dy
        area += _sector(px, py, ix, iy)
    if leave < 1.0:
        ox, oy = px + leave * dx, py + leave * dy
        area += _sector(ox, oy, qx, qy)
    return area + 0.5 * (ix * oy - iy * ox)


@kernel
def _shared(dx: float, dy: float, a: float, b: float, cos: float, sin: float) -> float:
    """Area the pixel at offset (dx, dy) from the centre of the ellipse shares with it."""
    u, v = (dx * cos + dy * sin) / a, (dy * cos - dx * sin) / b
    half = 0.5 * (math.hypot(cos / a, sin / b) + math.hypot(sin / a, cos / b))  # no corner is farther from (u, v)
    distance = math.hypot(u, v)
    if distance >= 1.0 + half:
        return 0.0
    if distance + half <= 1.0:
        return 1.0
    ex, ey, fx, fy = 0.5 * cos / a, -0.5 * sin / b, 0.5 * sin / a, 0.5 * cos / b  # half a pixel along x and along y
    ax, ay, bx, by = u - ex - fx, v - ey - fy, u + ex - fx, v + ey - fy
    cx, cy, gx, gy = u + ex + fx, v + ey + fy, u - ex + fx, v - ey + fy
    area = _edge(ax, ay, bx, by) + _edge(bx, by, cx, cy) + _edge(cx, cy, gx, gy) + _edge(gx, gy, ax, ay)
    area *= a * b
    return min(area, 1.0) if area > 1e-13 else 0.0  # less is the rounding of a pixel outside


@kernel
def _within(place: float, size: int) -> int:
    """The pixel a place lies in, or the outermost one."""
    return min(int(np.floor(min(max(place, 0.0), size - 1.0) + 0.5)), size - 1)


@kernel
def _sum_sources(planes: Any, acf: Any, x: Any, y: Any, shapes: Any, out: Any) -> None:
    """All ellipses of some sources."""
    data, variance, flags = planes
    major, minor, theta = shapes
    total, noise2, area, seen = out
    ny, nx = data.shape
    white = acf.shape[1] == 1
    for i in range(len(x)):
        cos, sin = math.cos(theta[i]), math.sin(theta[i])
        for k in range(major.shape[1]):
            a, b = major[i, k], minor[i, k]
            total[i, k], noise2[i, k], area[i, k], seen[i, k] = 0.0, 0.0, 0.0, np.uint32(0)
            half_x, half_y = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
            left, right, low, high = x[i] - half_x, x[i] + half_x, y[i] - half_y, y[i] + half_y
            # compared as floats first: NaN and 1e300 have no integer
            if right > -0.5 and left < nx - 0.5 and high > -0.5 and low < ny - 0.5:
                x0, x1 = _within(left, nx), _within(right, nx)
                y0, y1 = _within(low, ny), _within(high, ny)
                noise = np.zeros((1, 1)) if white else np.zeros((y1 - y0 + 1, x1 - x0 + 1))
                for row in range(y0, y1 + 1):
                    for column in range(x0, x1 + 1):
                        weight = _shared(column - x[i], row - y[i], a, b, cos, sin)
                        if weight == 0.0:
                            continue
                        value, own, bits = (
                            np.float64(data[row, column]),
                            np.float64(variance[row, column]),
                            flags[row, column],
                        )
                        finite = np.isfinite(value) and np.isfinite(own)
                        seen[i, k] |= bits if finite else bits | NO_DATA
                        if not finite or ((bits & _LEFT_OUT) != 0 and (bits & INTERPOLATED) == 0):
                            continue
                        area[i, k] += weight
                        total[i, k] += weight * value
                        if white:
                            noise2[i, k] += weight * weight * own
                        else:
                            noise[row - y0, column - x0] = weight * np.sqrt(max(own, 0.0))
                if not white:
                    noise2[i, k] = correlated(noise, acf[i if len(acf) > 1 else 0])
            if not (left >= -0.5 and right <= nx - 0.5 and low >= -0.5 and high <= ny - 0.5):
                seen[i, k] |= EDGE
            if area[i, k] == 0.0:
                seen[i, k] |= NO_DATA
                total[i, k], noise2[i, k] = np.nan, np.nan


@kernel
def _kron_sources(
    planes: Any, forms: Any, levels: Any, lists: Any, reach: float, out: Any, start: int, stop: int
) -> None:
    data, flags = planes
    first, near = lists
    ny, nx = data.shape
    for i in range(start, stop):
        x, y, cxx, cxy, cyy, major = forms[i]
        out[i] = np.nan
        half = reach * major
        # compared as floats first: NaN has no integer
        if not (x + half > -0.5 and x - half < nx - 0.5 and y + half > -0.5 and y - half < ny - 0.5):
            continue
        top, bottom = 0.0, 0.0
        for row in range(int(max(np.ceil(y - half), 0.0)), int(min(np.floor(y + half), ny - 1.0)) + 1):
            for column in range(int(max(np.ceil(x - half), 0.0)), int(min(np.floor(x + half), nx - 1.0)) + 1):
                dx, dy = column - x, row - y
                r2 = cxx * dx * dx + cxy * dx * dy + cyy * dy * dy
                if r2 > reach * reach:
                    continue
                value, bits = np.float64(data[row, column]), flags[row, column]
                if not np.isfinite(value) or ((bits & _LEFT_OUT) != 0 and (bits & INTERPOLATED) == 0):
                    continue
                mine = True
                for n in range(first[i], first[i + 1]):
                    other = forms[near[n]]
                    ox, oy = column - other[0], row - other[1]
                    if other[2] * ox * ox + other[3] * ox * oy + other[4] * oy * oy < r2:
                        mine = False
                        break
                if mine:
                    top += math.sqrt(r2) * (value - levels[i])
                    bottom += value - levels[i]
        if top > 0.0 and bottom > 0.0:
            out[i] = top / bottom
