"""All stars of an image fitted with a known point-spread function, so that each is measured free of its neighbours.

The model of all stars is one image. Stars that lie close together are a *group*, whose fluxes and positions are solved
for jointly, with their full covariance; what other groups send into its pixels is in the model. Groups that are no
neighbours make a step, the model is drawn again, then the next ones, and so on until nothing moves (a block iteration
of Gauss and Seidel's, which converges where that of Jacobi need not; after Stetson 1987, PASP 99, 191, who subtracts
neighbours in the same way). In between the sky may be measured where the stars were. Weights are those of the smooth
sky and of the model, never a pixel's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.algorithms.arrays import read_only
from larun.algorithms.jit import over_rows
from larun.algorithms.peaks import Planes
from larun.algorithms.psf import PSF
from larun.algorithms.psf_alone import fit_alone
from larun.algorithms.psf_field_kernels import step_range
from larun.algorithms.psf_fit import FitOptions, checked_planes_and_positions, fit_reach
from larun.algorithms.psf_flags import flags_around
from larun.algorithms.psf_groups import colours, groups_of, pairs_within, wings_of
from larun.algorithms.psf_kernels import draw_range
from larun.algorithms.psf_moves import move_range
from larun.errors import OptionError
from larun.flags import EDGE, NO_DATA, UNUSABLE

__all__ = ["FieldFits", "FieldOptions", "solve_field"]

#: A change smaller than this is the last one, in those of which neighbours need not know.
_SETTLED = 2.0
#: Rounds in which fluxes alone are fitted, at first.
_FLUX_ROUNDS = 2
_LEAST = 0.05  # share of a star's light on usable pixels
_SKIES = 12  # how often the sky may be measured again
_SKY_SETTLED = 0.05  # rms over the image, of the noise of a pixel
_EVERY = 4  # of the pixels along each axis, one tells how far the sky moved: it is smooth
_PIXELS = math.sqrt(math.pi / math.log(4))  # root of the number on which a flux is measured, in FWHM
#: Rounds before the sky is measured again: it need not wait until the last star is at rest.
_BETWEEN = 8
#: And while the sky moves, smaller changes of stars than this, in standard errors, are none.
_COARSE = 0.1
#: Where stars stand dense they take up most of what the sky gives away: its steps are made longer by no more than this.
_LONGER = 8.0
#: More light than that of the brightest pixel's star, by this factor, is none: saturated ones are brighter.
_RUNAWAY = 30.0
#: What is left out of a change of the model, of the noise of a pixel; now and then it is drawn anew.
_UNSEEN = 3e-4
_BAND = 32


@attrs.frozen(kw_only=True)
class FieldOptions:
    """How the stars of an image are fitted.

    Parameters
    ----------
    reach : int, optional
        A star is fitted on the pixels within so many rows and columns; by default two FWHM, at least 4.
    free_position : bool or (n,) bool
        Fit positions, all or some; else they stay, which is forced photometry.
    free_sky : bool
        Fit a constant with each group, on top of the given level.
    gain : float
        Electrons per unit of the data, for the photon noise of stars.
    limit : float or (n,) float, optional
        How far a position may go from where it starts, pixels; by default half the FWHM, at least 1.
    mask : int
        Bits of flags that make a pixel unusable; by default with SATURATED.
    link : float
        Stars nearer than this, in FWHM, are of one group.
    most : int
        Larger groups are divided where their stars are farther apart.
    iterations : int
        No more rounds than this once the sky is known.
    unnoticed : float
        A change so small, in standard errors, is none that neighbours need to know.
    changed : (n,) bool, optional
        Only these are fitted, and others when they notice: they are as an earlier fit left them. By default all.
    """

    reach: int | None = None
    free_position: bool | NDArray[np.bool_] = True
    free_sky: bool = False
    gain: float = 1.0
    limit: float | NDArray[np.float64] | None = None
    mask: int = int(UNUSABLE)
    link: float = 1.5
    most: int = 40
    iterations: int = 80
    unnoticed: float = 0.01
    changed: NDArray[np.bool_] | None = None


class FieldFits(NamedTuple):
    """What :func:`solve_field` returns, one element a star (float64 where nothing else is said).

    Attributes
    ----------
    x, y : (n,)
        Position, pixels.
    flux : (n,)
        Flux in the unit of the image, in what the PSF is normalised to; NaN where too few pixels are usable.
    sky : (n,)
        The fitted constant of its group; 0 where it is not free.
    covariance : (n, 3, 3)
        Of flux, x and y, neighbours of its group taken into account; 0 for a position that is held.
    chi2 : (n,)
        Sum of squared residuals over their variance, by the degrees of freedom.
    share : (n,)
        Share of the star's light in its stamp that fell on usable pixels.
    flags : (n,) uint32
        OR within one FWHM; EDGE where that circle leaves the image, NO_DATA where there is no flux.
    held : (n,) bool
        Whether the position is the one that was given.
    converged : (n,) bool
        Whether the last change was below a fiftieth of a standard error.
    group : (n,) int64
        Stars of one number were solved for jointly; -1 for those that were not fitted.
    iterations : int
        Rounds that were made.
    model : (ny, nx)
        All stars, without sky and noise.
    level, noise : (ny, nx) float32
        The sky and its variance as they were at last.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    sky: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi2: NDArray[np.float64]
    share: NDArray[np.float64]
    flags: NDArray[np.uint32]
    held: NDArray[np.bool_]
    converged: NDArray[np.bool_]
    group: NDArray[np.int64]
    iterations: int
    model: NDArray[np.float64]
    level: NDArray[np.float32]
    noise: NDArray[np.float32]

    @property
    def flux_error(self) -> NDArray[np.float64]:
        """Standard error of the flux."""
        return np.sqrt(self.covariance[:, 0, 0])

    @property
    def x_error(self) -> NDArray[np.float64]:
        """Standard error of x, pixels; 0 where it is held."""
        return np.sqrt(self.covariance[:, 1, 1])

    @property
    def y_error(self) -> NDArray[np.float64]:
        """Standard error of y, pixels; 0 where it is held."""
        return np.sqrt(self.covariance[:, 2, 2])


#: From the model of all stars to the level of the sky and its smooth variance.
Sky = Callable[[NDArray[np.float64]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def solve_field(
    planes: Planes,
    psf: PSF,
    x: ArrayLike,
    y: ArrayLike,
    *,
    flux: ArrayLike | None = None,
    options: FieldOptions | None = None,
    acf: NDArray[Any] | None = None,
    sky: Sky | None = None,
) -> FieldFits:
    """Fit all stars of an image.

    Parameters
    ----------
    planes : tuple of (ny, nx) arrays
        Data, background level, smooth noise variance of the sky (float32) and flags (uint32).
    psf : PSF
        The function.
    x, y : array_like, shape (n,)
        Where to start, pixels. What is not finite, or outside the image, is not fitted.
    flux : array_like, shape (n,), optional
        Fluxes to start from; what is not finite starts from 0, and its place is fitted when its flux is known.
    options : FieldOptions, optional
        How.
    acf : ndarray, shape (l, l) or (n, l, l), optional
        Correlation of the noise, l odd, of the image or around each star: it decides the covariances.
    sky : callable, optional
        Called with the model of all stars when they have settled; returns level and variance anew.

    Returns
    -------
    FieldFits

    Raises
    ------
    OptionError
        If planes or positions differ in shape or an option is out of range.

    Examples
    --------
    >>> from larun.algorithms.psf import gaussian_psf
    >>> psf = gaussian_psf(3.0)
    >>> pair = psf.draw((41, 41), [18.0, 21.2], [20.0, 20.5], [5000.0, 2000.0]).astype(np.float32)
    >>> flat, none = np.full(pair.shape, 100, np.float32), np.zeros(pair.shape, np.uint32)
    >>> found = solve_field((pair + flat, flat, flat, none), psf, [18.1, 21.0], [20.0, 20.4])
    >>> found.flux.round(0).tolist(), found.x.round(2).tolist(), found.group.tolist()
    ([5000.0, 2000.0], [18.0, 21.2], [0, 0])
    """
    wanted = FieldOptions() if options is None else options
    fixed, xs, ys = checked_planes_and_positions(planes, x, y)
    field = _Field(fixed, psf, xs, ys, flux, wanted, acf)
    rounds = 0
    if sky is not None:
        for _ in range(_SKIES):
            rounds += field.settle(min(_BETWEEN, wanted.iterations), max(_COARSE, wanted.unnoticed))
            if not field.renew(sky):
                break
        field.state[~field.alone, 2] = True
    rounds += field.settle(wanted.iterations, wanted.unnoticed)
    return field.finished(rounds)


class _Field:
    """Stars, their model and their sky while they are fitted."""

    def __init__(
        self,
        planes: Planes,
        psf: PSF,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        flux: ArrayLike | None,
        options: FieldOptions,
        acf: NDArray[Any] | None,
    ) -> None:
        self.planes, self.psf, self.options = planes, psf, options
        self.reach, limit = _checked(psf, options)
        self.given = np.column_stack([x, y])
        ny, nx = planes[0].shape
        with np.errstate(invalid="ignore"):
            inside = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
        self.index = np.flatnonzero(inside)
        self.bounds = self.given[self.index], np.broadcast_to(limit, x.shape)[self.index]
        start = np.zeros(x.size) if flux is None else np.asarray(flux, np.float64)
        if start.shape != x.shape:
            raise OptionError(f"flux has shape {start.shape}, x {x.shape}: they must agree")
        self.at = np.column_stack([np.where(np.isfinite(start), start, 0.0), x, y])[self.index]
        count, self.unknown = len(self.index), self.at[:, 0] == 0
        self.first, self.members = groups_of(self.at[:, 1], self.at[:, 2], options.link * psf.fwhm, options.most)
        self.group = np.zeros(count, np.int64)
        self.group[self.members] = np.repeat(np.arange(self.first.size - 1), np.diff(self.first))
        self.skies = np.zeros(self.first.size - 1)
        self.old, self.before, self.share = self.at.copy(), np.full((count, 2), np.nan), np.ones(count)
        self.rounds, self.unnoticed = 0, options.unnoticed
        self.state = np.zeros((count, 3), bool)  # held, settled, moved
        self.state[:, 2] = True if options.changed is None else options.changed[self.index]
        self.state[:, 1] = ~self.state[:, 2]
        self.state[:, 0] = ~np.broadcast_to(np.asarray(options.free_position, bool), x.shape)[self.index]
        self.fixed, cross = self.state[:, 0].copy(), np.zeros((count, 3, 3))
        self.found = np.zeros((count, 3)), np.zeros((count, 3)), self.skies.copy(), cross, np.zeros((count, 3))
        self.most = _brightest(planes, psf, options.mask)
        places = self.at[:, 1:]
        self.pairs = pairs_within(places, math.sqrt(2) * (self.reach + psf.radius / 2))
        self.alone = np.diff(self.first)[self.group] == 1
        self.alone[self.pairs.ravel()] = False
        self.done = np.full((count, 3, 3), np.nan), np.full(count, np.nan), np.zeros(count)  # covariance, chi^2, share
        links = np.sort(self.group[pairs_within(places, 2 * self.reach + 2.0)], axis=1)
        self.colour = colours(links, self.skies.size)
        self.acf = _lags(acf, self.index)
        self.sky_step, self.longer = np.zeros((1, 1)), 1.0
        self.model = np.zeros((ny, nx))
        self.wings = wings_of(psf, float(np.sqrt(np.median(planes[2][::_EVERY, ::_EVERY]))))
        self._drawn()

    def _drawn(self) -> None:
        """All stars, to where the function ends."""
        self.model[:] = 0.0
        self._draw(self.at, np.full(len(self.at), float(self.psf.radius)))

    def _draw(self, stars: NDArray[np.float64], reach: NDArray[np.float64]) -> None:
        shining = stars[:, 0] != 0
        given = read_only(np.column_stack([stars[:, [1, 2, 0]], reach])[shining], np.float64)

        def work(start: int, stop: int) -> None:
            draw_range(self.psf.model, given, self.psf.radius - 1, self.model, start, stop)

        if len(given):
            over_rows(self.model.shape[0], work)

    def _stepped(self, todo: NDArray[np.int64], last: bool) -> None:
        """A step of groups of which none is a neighbour of another; the last time none, but the errors of all."""
        options = self.options
        waiting = self.unknown if self.rounds <= _FLUX_ROUNDS and not last else np.zeros(len(self.at), bool)
        rules = (
            self.reach,
            1.0 / options.gain,
            np.uint32(options.mask),
            bool(options.free_sky),
            last,
            self.acf,
        )
        free = ~(self.state[:, 0] | waiting)
        stars = read_only(self.at, np.float64), read_only(self.skies, np.float64), free
        groups = read_only(todo, np.int64), read_only(self.first, np.int64), read_only(self.members, np.int64)
        planes, model = (*self.planes, read_only(self.model, np.float64)), self.psf.model
        state = self.at, self.old, self.before, self.share, self.state, self.skies
        limits = self.most, self.psf.fwhm, self.per_noise, _SETTLED * self.unnoticed, self.unnoticed
        bounds = (*self.bounds, waiting)
        self.found[2][todo] = 0.0

        def work(start: int, stop: int) -> None:
            step_range(planes, model, stars, groups, rules, self.found, start, stop)
            if not last:
                move_range(groups, self.found[:3], state, bounds, limits, start, stop)

        over_rows(todo.size, work, band=_BAND)

    def settle(self, most: int, unnoticed: float) -> int:
        """Rounds until nothing moves any more; how many there were."""
        self.unnoticed = unnoticed
        self._alone_settle()
        moved, (one, two) = self.state[:, 2], self.pairs.T
        self.per_noise = 1.0 / float(np.sqrt(np.median(self.planes[2]))) if self.options.free_sky else 0.0
        for turn in range(1, most + 1):
            near = moved.copy()
            near[one[moved[two]]] = True
            near[two[moved[one]]] = True
            todo = np.unique(self.group[near])
            if todo.size == 0:
                return turn - 1
            self.rounds += 1
            moved[:] = False
            for colour in range(int(self.colour.max()) + 1):
                part = todo[self.colour[todo] == colour]
                if part.size:
                    self._round(part)
        return most

    def _alone_settle(self) -> None:
        """Stars without neighbours, each until it is at rest: the model is not needed for it."""
        rows, options = np.flatnonzero(self.alone & self.state[:, 2]), self.options
        if not rows.size:
            return
        how = FitOptions(reach=self.reach, free_sky=options.free_sky, gain=options.gain, mask=options.mask)
        begin, limit = self.bounds
        found = fit_alone(self.planes, self.psf, self.at[rows], (begin[rows], limit[rows], self.fixed[rows]), how)
        self.at[rows], self.skies[self.group[rows]] = found.stars, found.sky
        self.state[rows, 0], self.state[rows, 1], self.state[rows, 2] = found.held, True, False
        self.done[0][rows], self.done[1][rows], self.done[2][rows] = found.covariance, found.chi2, found.share

    def _round(self, todo: NDArray[np.int64]) -> None:
        """One step of some groups, and the model as it is then."""
        self._stepped(todo, False)
        count = self.first[todo + 1] - self.first[todo]
        ahead = np.cumsum(count) - count
        rows = self.members[np.repeat(self.first[todo] - ahead, count) + np.arange(int(count.sum()))]
        rows = np.sort(rows[np.any(self.at[rows] != self.old[rows], axis=1)])
        undo, now = self.old[rows], self.at[rows]
        # as far as the change is seen: the same pixels lose the old light and get the new
        value, slope = self.wings
        away = np.abs(now[:, 0]) * np.hypot(*(now - undo)[:, 1:].T)
        unseen = np.abs(now[:, 0] - undo[:, 0])[:, None] * value + away[:, None] * slope
        reach = np.maximum(np.sum(unseen > _UNSEEN, axis=1), 2).astype(np.float64)
        undo[:, 0] *= -1
        self._draw(np.concatenate([undo, now]), np.concatenate([reach, reach]))

    def renew(self, sky: Sky) -> bool:
        """Measure the sky without the stars; whether it is another."""
        self._drawn()
        level, noise = (read_only(plane, np.float32) for plane in sky(self.model))
        old, few = self.planes[1:3], (slice(None, None, _EVERY),) * 2
        step, scatter = _moved(level[few], noise[few], old[0][few], old[1][few])
        known = float(np.sum(self.sky_step**2))
        if known > 0:  # a secant: how much of the last step the stars gave back
            left = float(np.sum(self.sky_step * step)) / known
            self.longer = min(max(self.longer / max(1 - left, 0.1), 1.0), _LONGER)
        self.sky_step = step
        at = tuple(np.clip(np.rint(self.at[:, k]).astype(int), 0, level.shape[2 - k] - 1) for k in (2, 1))
        own, its = _moved(level[at], noise[at], old[0][at], old[1][at])
        change = self.longer * np.abs(own / its) * _PIXELS * self.psf.fwhm  # of a flux, in its errors
        self.state[:, 2] |= change > np.where(self.alone, self.options.unnoticed, self.unnoticed)
        if self.longer > 1:
            whole, _ = _moved(level, noise, *old)
            level = read_only(level + (self.longer - 1.0) * whole, np.float32)
        self.planes = (self.planes[0], level, noise, self.planes[3])
        return bool(np.sqrt(np.mean((step / scatter) ** 2)) > _SKY_SETTLED)

    def finished(self, rounds: int) -> FieldFits:
        """The results, with covariances by the last model."""
        self._drawn()
        held, settled, _ = self.state.T
        # in correlated noise errors are those of a step; so they are of stars that were not fitted this time
        done = self.alone & (len(self.acf) == 0) & np.isfinite(self.done[0][:, 0, 0])
        self._stepped(np.unique(self.group[~done]), True)
        covariance, (squares, pixels, share) = self.found[3], np.ascontiguousarray(self.found[4].T)
        unknowns = np.where(held, 1, 3)
        with np.errstate(invalid="ignore", divide="ignore"):
            chi2 = np.where(pixels > unknowns, squares / (pixels - unknowns), np.nan)
        covariance[done], chi2[done], share[done] = (part[done] for part in self.done)
        usable = share > _LEAST
        total = len(self.given)

        def filled(values: NDArray[Any], empty: Any) -> Any:
            made = np.full((total, *values.shape[1:]), empty, values.dtype)
            made[self.index] = values
            return made

        at = self.at.copy()
        at[~usable, 0], covariance[~usable], chi2[~usable] = np.nan, np.nan, np.nan
        x, y = filled(at[:, 1], np.nan), filled(at[:, 2], np.nan)
        x[np.isnan(x)], y[np.isnan(y)] = self.given[np.isnan(x), 0], self.given[np.isnan(y), 1]
        flags = filled(flags_around(self.planes[3], at[:, 1:], max(1.0, self.psf.fwhm)), EDGE | NO_DATA)
        flux = filled(at[:, 0], np.nan)
        flags[np.isnan(flux)] |= NO_DATA
        return FieldFits(
            x=x,
            y=y,
            flux=flux,
            sky=filled(self.skies[self.group], np.nan),
            covariance=filled(covariance, np.nan),
            chi2=filled(chi2, np.nan),
            share=filled(share, 0.0),
            flags=flags,
            held=filled(held, True),
            converged=filled(settled & usable, False),
            group=filled(self.group, -1),
            iterations=rounds,
            model=self.model,
            level=self.planes[1],
            noise=self.planes[2],
        )


def _checked(psf: PSF, options: FieldOptions) -> tuple[int, NDArray[np.float64]]:
    """Reach and limit, checked."""
    reach = min(fit_reach(psf.fwhm), psf.radius - 2) if options.reach is None else int(options.reach)
    if not 2 <= reach <= psf.radius - 1:
        raise OptionError(f"reach = {reach}: must be 2 to {psf.radius - 1} pixels, which is how far the PSF is known")
    limit = np.asarray(max(1.0, psf.fwhm / 2) if options.limit is None else options.limit, np.float64)
    if not np.all((limit > 0) & (limit < np.inf)):
        raise OptionError(f"limit = {limit}: must be a positive number of pixels")
    if not 0 < options.gain < np.inf:
        raise OptionError(f"gain = {options.gain}: must be positive")
    if not 0 <= options.link <= 5 or not 1 <= options.most <= 200 or options.iterations < 5:
        raise OptionError(
            f"link = {options.link}, most = {options.most}, iterations = {options.iterations}: must be 0 to 5 FWHM, "
            "1 to 200 stars, and at least 5 rounds"
        )
    return reach, np.minimum(limit, psf.radius - reach + 0.4)


def _moved(
    level: NDArray[np.float32], noise: NDArray[np.float32], old: NDArray[np.float32], before: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """How far the sky is from what it was, and the noise of a pixel."""
    step = (level - old).astype(np.float64)
    step[~np.isfinite(step)] = 0.0
    return step, np.sqrt(np.maximum(np.minimum(noise, before), 1e-30))


def _brightest(planes: Planes, psf: PSF, mask: int) -> float:
    """No star can have more light: what runs beyond it rests on hardly any pixel."""
    data, level, _, flags = planes
    light = data - level
    light[((flags & np.uint32(mask)) != 0) | ~np.isfinite(data)] = 0.0
    value, (ny, nx) = max(float(np.max(light)), -float(np.min(light))), data.shape
    return _RUNAWAY * value / float(psf.values(0.0, 0.0, nx / 2, ny / 2)[0])


def _lags(acf: NDArray[Any] | None, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Correlations as the kernel takes them: none, one, or one for each star that is fitted."""
    if acf is None:
        return read_only(np.empty((0, 1, 1)), np.float64)
    given = np.asarray(acf, np.float64)
    return read_only(given[None] if given.ndim == 2 else given[index], np.float64)
