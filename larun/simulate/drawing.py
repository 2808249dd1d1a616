"""Profiles integrated over the pixels: the light of stars of any shape."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError
from larun.simulate.profiles import Gaussian, Moffat, Profile, Varying
from larun.simulate.stars import add_stamp, checked_stars, render

__all__ = ["render_profile"]

Array = NDArray[np.float64]

_LEFT_OUT = 1e-4  # of a star's flux may lie outside its stamp
_FAINTEST = 0.02  # electrons per pixel: where a bright star's wing may be cut
_NODES = (2, 3, 5, 8, 12, 18, 27)  # Gauss-Legendre nodes along each side of a pixel that are tried
_WIDEST = 40  # pixels from the centre: how far the trials look for structure inside pixels
_BATCH = 400_000  # values evaluated at once
_TRIALS = ((0.0, 0.5, 0.31), (0.0, 0.5, -0.17))  # dx and dy of the trial stars in their pixels


class _Plan(NamedTuple):
    """How a profile is integrated: ``nodes`` along each side of the pixels up to ``core`` from the centre, else one."""

    nodes: int
    core: int


def render_profile(
    shape: tuple[int, int],
    x: ArrayLike,
    y: ArrayLike,
    flux: ArrayLike,
    *,
    profile: Profile | Varying,
    accuracy: float = 1e-5,
) -> Array:
    """The light of stars of any profile on every pixel.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the image.
    x, y : array_like
        Positions in pixels; stars outside the image are allowed and lend it their wings.
    flux : array_like
        Flux of each star over the infinite plane.
    profile : Profile or Varying
        Of all stars, or as it varies over the field.
    accuracy : float
        Largest error of a pixel, in units of the star's flux: 1e-3 to 1e-8. (Round Moffat and Gaussian profiles go
        through :func:`render`, which is right to 1e-5.)

    Returns
    -------
    ndarray of float64
        Image in the unit of ``flux`` per pixel.

    Raises
    ------
    OptionError
        If a value is not finite, a density is negative or not finite, or 27 × 27 nodes in a pixel do not reach the
        accuracy.

    Notes
    -----
    Gauss-Legendre nodes within the pixel: their number is raised until the pixels of three trial stars change by less
    than half the accuracy, and they are used as far from the centre as they differ from the value in the middle of the
    pixel by more than a quarter of it. For a varying profile the most demanding of nine places decides. Stamps reach to
    the circle that holds all but 1e-4 of the flux and to where a star is fainter than 0.02 units per pixel, and are not
    renormalised for what lies outside.

    Examples
    --------
    >>> from larun.simulate import Donut, Gaussian
    >>> donut = Donut(6.0, obscuration=0.5, blur=Gaussian(1.5))
    >>> image = render_profile((41, 41), [20.0], [20.0], [1000.0], profile=donut)
    >>> round(float(image.sum())), bool(image[20, 20] < 0.1 * image[20, 24])
    (1000, True)
    """
    if isinstance(profile, Moffat | Gaussian) and accuracy >= 1e-5:
        beta = profile.beta if isinstance(profile, Moffat) else None
        return render(shape, x, y, flux, fwhm=profile.fwhm, beta=beta)
    if not 1e-8 <= accuracy <= 1e-3:
        raise OptionError(f"accuracy = {accuracy}: give 1e-8 to 1e-3 of a star's flux")
    xs, ys, fluxes = checked_stars(x, y, flux)
    image = np.zeros(shape, dtype=np.float64)
    if isinstance(profile, Varying):
        plan = _plan_of_field(profile, accuracy)
        for one, other, light in zip(xs, ys, fluxes, strict=True):
            _draw(image, np.array([[one, other, light]]), profile.at(float(one), float(other)), plan)
    else:
        _draw(image, np.column_stack([xs, ys, fluxes]), profile, _plan(profile, accuracy))
    return image


def _draw(image: Array, stars: Array, profile: Profile, plan: _Plan) -> None:
    """Add stars, rows of x, y and flux, to the image."""
    shape = image.shape
    half = _half_sizes(profile, np.abs(stars[:, 2]), largest=max(shape))
    column, row = np.rint(stars[:, 0]).astype(np.int64), np.rint(stars[:, 1]).astype(np.int64)
    seen = (column + half >= 0) & (column - half < shape[1]) & (row + half >= 0) & (row - half < shape[0])
    for size in np.unique(half[seen]):
        members = np.flatnonzero(seen & (half == size))
        wide = max(2 * int(size) + 1, (2 * plan.core + 1) * plan.nodes)
        batch = max(1, _BATCH // wide**2)
        for start in range(0, len(members), batch):
            some = members[start : start + batch]
            stamps = _stamps(profile, stars[some, 0] - column[some], stars[some, 1] - row[some], int(size), plan)
            stamps *= stars[some, 2, None, None]
            for stamp, x0, y0 in zip(stamps, column[some] - size, row[some] - size, strict=True):
                add_stamp(image, stamp, int(x0), int(y0))


def _stamps(profile: Profile, dx: Array, dy: Array, half: int, plan: _Plan) -> Array:
    """Stamps (n, 2 half + 1, 2 half + 1) of unit flux for stars at (dx, dy) from the middle pixel."""
    at = np.arange(-half, half + 1, dtype=np.float64)
    stamps = _density(profile, at[None, None, :] - dx[:, None, None], at[None, :, None] - dy[:, None, None])
    core = min(half, plan.core)
    if plan.nodes > 1 and core >= 0:
        inner = slice(half - core, half + core + 1)
        stamps[:, inner, inner] = _integrated(profile, dx, dy, core, plan.nodes)
    return stamps


def _integrated(profile: Profile, dx: Array, dy: Array, half: int, count: int) -> Array:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    fine = (np.arange(-half, half + 1)[:, None] + 0.5 * nodes[None, :]).ravel()
    wide = 2 * half + 1
    values = _density(profile, fine[None, None, :] - dx[:, None, None], fine[None, :, None] - dy[:, None, None])
    grid = values.reshape(len(dx), wide, count, wide, count)
    return np.asarray(np.einsum("niajb,a,b->nij", grid, 0.5 * weights, 0.5 * weights))


def _density(profile: Profile, dx: Array, dy: Array) -> Array:
    values = np.array(profile.density(dx, dy), dtype=np.float64)
    wanted = np.broadcast_shapes(dx.shape, dy.shape)
    if values.shape != wanted:
        raise OptionError(f"{profile}: density gave the shape {values.shape} for offsets that broadcast to {wanted}")
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise OptionError(f"{profile}: its density must be finite and at least 0 everywhere")
    return values


def _plan_of_field(profile: Varying, accuracy: float) -> _Plan:
    ny, nx = profile.shape
    places = [(u * (nx - 1), v * (ny - 1)) for u in (0.0, 0.5, 1.0) for v in (0.0, 0.5, 1.0)]
    plans = [_plan(profile.at(x, y), accuracy) for x, y in places]
    return _Plan(max(plan.nodes for plan in plans), max(plan.core for plan in plans))


def _plan(profile: Profile, accuracy: float) -> _Plan:
    """Nodes and core that a profile needs."""
    dx, dy = (np.array(values) for values in _TRIALS)
    half = min(math.ceil(profile.radius(accuracy)) + 1, _WIDEST)
    coarse, fine = (_integrated(profile, dx[-1:], dy[-1:], half, count) for count in (1, _NODES[1]))
    _, rows, columns = np.nonzero(np.abs(fine - coarse) > 0.25 * accuracy)
    if not len(rows):
        return _Plan(1, -1)
    core = min(half, 2 + int(max(np.abs(rows - half).max(), np.abs(columns - half).max())))  # any place in the pixel
    before = _integrated(profile, dx, dy, core, _NODES[0])
    for count, more in itertools.pairwise(_NODES):
        after = _integrated(profile, dx, dy, core, more)
        if np.abs(after - before).max() < 0.5 * accuracy:
            return _Plan(count, core)
        before = after
    raise OptionError(
        f"{profile}: not even {_NODES[-1]} × {_NODES[-1]} points in a pixel give it to {accuracy:g} of its flux: it "
        "has structure much finer than a pixel; blur it, or ask for less accuracy"
    )


def _half_sizes(profile: Profile, flux: Array, *, largest: int) -> NDArray[np.int64]:
    """Half size of each star's stamp, on a ladder that grows by 19 %; never more than it takes to cover the image."""
    least = max(profile.radius(_LEFT_OUT) + 1, 8.0)
    first = math.ceil(4 * math.log2(least)) if least < 2.0 * largest else math.ceil(4 * math.log2(2.0 * largest))
    last = max(first, math.ceil(4 * math.log2(2.0 * largest)))
    ladder = np.minimum(np.ceil(2.0 ** (np.arange(first, last + 1) / 4)), 2 * largest)
    angle = np.arange(16) * math.pi / 8
    edge = _density(profile, ladder[:, None] * np.cos(angle), ladder[:, None] * np.sin(angle)).max(axis=1)
    edge = np.maximum.accumulate(edge[::-1])[::-1]  # what is brightest at this size or any larger one
    enough = edge[None, :] * flux[:, None] <= _FAINTEST
    enough[:, -1] = True
    return np.asarray(ladder[enough.argmax(axis=1)], dtype=np.int64)
