"""A planet in front of a star, fitted to a light curve: model by batman (Kreidberg 2015, PASP 127, 1161)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.cholesky import inverse_of_positive
from larun.algorithms.rednoise import point_to_point, time_averaging
from larun.errors import CatalogError, MissingExtra, OptionError

if TYPE_CHECKING:
    from larun.model.lightcurve import LightCurve

__all__ = ["TRENDS", "TransitFit", "TransitOptions", "fit_transit"]

Floats = NDArray[np.float64]

#: What a trend may depend on linearly.
TRENDS = ("time", "time2", "airmass", "x", "y", "fwhm", "sky")
FREE = ("t_mid", "radius_ratio", "semi_major_axis", "impact")

_STEPS = {"t_mid": 1e-5, "radius_ratio": 1e-4, "semi_major_axis": 1e-3, "impact": 1e-3}
_ITERATIONS = 60
_SETTLED = 1e-3  # standard errors
_TRIES = 121  # mid-times that are tried before the fit


def _trend(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _pair(value: Any) -> tuple[float, float]:
    first, second = (float(item) for item in value)
    return first, second


@attrs.frozen(kw_only=True)
class TransitOptions:
    """The orbit and the star, and what of them is fitted.

    Parameters
    ----------
    period : float
        Days.
    semi_major_axis : float
        In radii of the star.
    impact : float
        Least distance from the middle of the star, in its radii; the orbit is round.
    radius_ratio : float
        Of the planet and the star, where the fit begins.
    limb_darkening : (float, float)
        Quadratic law, of the star in the filter.
    t_mid : float, optional
        Where the fit begins; by default the best of many over the series.
    free : tuple of str
        Of ``t_mid``, ``radius_ratio``, ``semi_major_axis``, ``impact``.
    trend : tuple of str
        What multiplies the transit besides a constant: a line in each of ``time``, ``time2`` (its square), ``airmass``,
        ``x``, ``y``, ``fwhm``, ``sky``.
    """

    period: float = attrs.field(converter=float)
    semi_major_axis: float = attrs.field(converter=float)
    impact: float = attrs.field(default=0.0, converter=float)
    radius_ratio: float = attrs.field(default=0.1, converter=float)
    limb_darkening: tuple[float, float] = attrs.field(default=(0.4, 0.25), converter=_pair)
    t_mid: float | None = attrs.field(default=None, converter=attrs.converters.optional(float))
    free: tuple[str, ...] = attrs.field(default=("t_mid", "radius_ratio"), converter=_trend)
    trend: tuple[str, ...] = attrs.field(default=("time",), converter=_trend)

    def __attrs_post_init__(self) -> None:
        if not (self.period > 0 and self.semi_major_axis > 1 and 0 < self.radius_ratio < 1):
            raise OptionError(
                f"period={self.period}, semi_major_axis={self.semi_major_axis}, radius_ratio={self.radius_ratio}: must "
                "be positive, above 1, and between 0 and 1"
            )
        if not 0 <= self.impact < 1 + self.radius_ratio:
            raise OptionError(f"impact={self.impact}: must be from 0 to {1 + self.radius_ratio:g}: nothing is hidden")
        for name, known in (("free", FREE), ("trend", TRENDS)):
            wrong = set(getattr(self, name)) - set(known)
            if wrong:
                raise OptionError(f"{name}={', '.join(sorted(wrong))}: must be of {', '.join(known)}")
        if not {"t_mid", "radius_ratio"} <= set(self.free):
            raise OptionError("free: t_mid and radius_ratio are always fitted")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TransitFit:
    """A transit as it was fitted.

    Parameters
    ----------
    values, errors : mapping
        Of what was free, by name; errors grow with the scatter that is left, and with its red part.
    depth, depth_error : float
        Part of the light that is gone at mid-transit, limb darkening included.
    duration : float
        From first to last contact, days.
    beta : float
        By which errors grew for red noise (:func:`larun.algorithms.rednoise.time_averaging`).
    chi2 : float
        Reduced.
    scatter, point_to_point, predicted : float
        Of what is left, relative: rms; from each point to the next; and the median of the errors.
    trend : mapping
        Coefficients by name, the constant first; each variable is taken about its mean, over its half range.
    time, flux, error, model, systematics : ndarray of float64, (n,)
        Of the points that count: days, relative flux, its error, the whole model, the trend alone.
    used : int
        Points.
    options : TransitOptions
    barycentric : bool
        Whether times are BJD_TDB.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float]
    depth: float
    depth_error: float
    duration: float
    beta: float
    chi2: float
    scatter: float
    point_to_point: float
    predicted: float
    trend: Mapping[str, float]
    time: Floats
    flux: Floats
    error: Floats
    model: Floats
    systematics: Floats
    used: int
    options: TransitOptions
    barycentric: bool

    @property
    def t_mid(self) -> float:
        """Mid-transit: BJD_TDB where times are, else JD in UTC."""
        return self.values["t_mid"]

    @property
    def t_mid_error(self) -> float:
        """1 sigma of it, days."""
        return self.errors["t_mid"]

    @property
    def residual(self) -> Floats:
        """What is left of each point."""
        return np.asarray(self.flux - self.model)

    def against(self, t_zero: float, period: float) -> tuple[int, float]:
        """Epoch of an ephemeris, and minutes by which the transit came later than it says.

        Parameters
        ----------
        t_zero : float
            Of epoch 0, in the same time scale.
        period : float
            Days.
        """
        epoch = round((self.t_mid - t_zero) / period)
        return epoch, (self.t_mid - t_zero - epoch * period) * 1440.0

    def __repr__(self) -> str:
        scale = "BJD_TDB" if self.barycentric else "JD (UTC)"
        return (
            f"<{type(self).__name__} {scale} {self.t_mid:.5f} ± {self.t_mid_error:.5f}, depth {100 * self.depth:.2f} ± "
            f"{100 * self.depth_error:.2f} %, {self.used} points>"
        )


def _batman() -> Any:
    try:
        import batman
    except ImportError as error:
        raise MissingExtra("batman", "transit") from error
    return batman


class _Model:
    """Light of the star, by the names of what is free."""

    def __init__(self, time: Floats, exposure: float, options: TransitOptions) -> None:
        self.batman, self.options = _batman(), options
        self.time, self.exposure = np.ascontiguousarray(time, np.float64), exposure
        self.steps = max(1, min(11, round(exposure / 30.0)))  # an exposure sees the mean of its light

    def __call__(self, values: Mapping[str, float], time: Floats | None = None) -> Floats:
        own = self.batman.TransitParams()
        axis, impact = values["semi_major_axis"], abs(values["impact"])
        own.t0, own.per, own.rp, own.a = values["t_mid"], self.options.period, abs(values["radius_ratio"]), axis
        own.inc = math.degrees(math.acos(min(impact / axis, 1.0)))
        own.ecc, own.w, own.limb_dark, own.u = 0.0, 90.0, "quadratic", list(self.options.limb_darkening)
        moments = self.time if time is None else np.ascontiguousarray(time, np.float64)
        smeared = {} if time is not None else {"supersample_factor": self.steps, "exp_time": self.exposure / 86400}
        model = self.batman.TransitModel(own, moments, nthreads=1, **smeared)
        return np.asarray(model.light_curve(own), np.float64)


def fit_transit(curve: LightCurve, options: TransitOptions, star: int) -> TransitFit:
    """See :meth:`larun.LightCurve.fit_transit`."""
    table = curve.curve(star)
    good = curve.good(star)
    time, flux, error = curve.time(star)[good], *(np.asarray(table[n])[good] for n in ("flux", "flux_error"))
    count = 1 + len(options.trend) + len(options.free)
    if len(time) <= count + 2:
        raise CatalogError(f"{len(time)} points for {count} unknowns: a transit cannot be fitted")
    exposure = float(np.nan_to_num(np.nanmedian(table["exposure"].value))) if len(table) else 0.0
    columns = {name: _plain(table, name)[good] for name in options.trend if name not in ("time", "time2")}
    design = _design(options.trend, columns, time)
    model = _Model(time, exposure, options)
    start = {name: float(getattr(options, name) or 0.0) for name in FREE}
    start["t_mid"] = _first_guess(model, start, (time, flux, error), design) if options.t_mid is None else options.t_mid
    values, coefficients, inverse = _fitted(model, start, (time, flux, error), design)
    shape = model(values)
    systematics = coefficients @ design
    whole = shape * systematics
    rest = flux - whole
    chi2 = float(np.sum((rest / error) ** 2) / (len(time) - count))
    red = time_averaging(time, rest / systematics, error)
    growth = math.sqrt(max(chi2, 1.0)) * red.beta
    spread = growth * np.sqrt(np.diag(inverse))
    errors = {name: float(value) for name, value in zip(options.free, spread, strict=False)}
    depth, slope = _depth(model, values)
    return TransitFit(
        values={name: values[name] for name in options.free},
        errors=errors,
        depth=depth,
        depth_error=abs(slope) * errors["radius_ratio"],
        duration=_duration(values, options.period),
        beta=red.beta,
        chi2=chi2,
        scatter=float(np.std(rest)),
        point_to_point=point_to_point(rest),
        predicted=float(np.median(error)),
        trend=dict(zip(("constant", *options.trend), coefficients.tolist(), strict=True)),
        time=time,
        flux=flux,
        error=error,
        model=whole,
        systematics=systematics,
        used=len(time),
        options=options,
        barycentric=curve.barycentric,
    )


def _plain(table: Any, name: str) -> Floats:
    return np.asarray(getattr(table[name], "value", table[name]), np.float64)


def _design(names: tuple[str, ...], columns: dict[str, Floats], time: Floats) -> Floats:
    """Rows of the trend: the constant, and each variable about its mean, over its half range."""
    rows = [np.ones(len(time))]
    for name in names:
        values = columns.get(name, time)
        if not np.isfinite(values).all():
            raise OptionError(f"trend={name!r}: is not known for all points; choose another")
        half = (values.max() - values.min()) / 2
        if not half > 0:
            raise OptionError(f"trend={name!r}: is the same for all points; leave it out")
        scaled = (values - (values.max() + values.min()) / 2) / half
        rows.append(scaled**2 if name == "time2" else scaled)
    return np.array(rows)


def _linear(shape: Floats, flux: Floats, error: Floats, design: Floats) -> tuple[Floats, float]:
    """The best trend for a given transit, and its chi-squared."""
    rows = design * shape / error
    normal = np.array([[np.sum(a * b) for b in rows] for a in rows])
    right = np.array([np.sum(a * flux / error) for a in rows])
    found = np.sum(inverse_of_positive(normal) * right, axis=1)
    return found, float(np.sum((flux / error - found @ rows) ** 2))


def _first_guess(
    model: _Model, start: dict[str, float], points: tuple[Floats, Floats, Floats], design: Floats
) -> float:
    time, flux, error = points
    tries = np.linspace(time[0], time[-1], _TRIES)
    quality = [_linear(model(start | {"t_mid": float(t)}), flux, error, design)[1] for t in tries]
    return float(tries[int(np.argmin(quality))])


def _fitted(
    model: _Model, start: dict[str, float], points: tuple[Floats, Floats, Floats], design: Floats
) -> tuple[dict[str, float], Floats, Floats]:
    """Values, trend and covariance by Levenberg's and Marquardt's steps."""
    _, flux, error = points
    free, values, damping = model.options.free, dict(start), 1e-3
    shape = model(values)
    trend, quality = _linear(shape, flux, error, design)
    inverse = np.eye(len(free) + len(design))
    for _ in range(_ITERATIONS):
        rows = np.array([_slope(model, values, name) * (trend @ design) / error for name in free])
        rows = np.concatenate([rows, design * shape / error])
        rest = (flux - shape * (trend @ design)) / error
        normal = np.array([[np.sum(a * b) for b in rows] for a in rows])
        try:
            inverse = inverse_of_positive(normal)
            damped = inverse_of_positive(normal + damping * np.diag(np.diag(normal)))
        except OptionError as problem:
            raise CatalogError(
                f"the transit cannot be fitted with free={free}, trend={model.options.trend}: {problem}"
            ) from problem
        step = np.sum(damped * np.array([np.sum(a * rest) for a in rows]), axis=1)
        tried = values | {name: values[name] + float(step[k]) for k, name in enumerate(free)}
        tried["semi_major_axis"] = max(tried["semi_major_axis"], 1.01)
        new_shape = model(tried)
        new_trend, new_quality = _linear(new_shape, flux, error, design)
        moved = float(np.max(np.abs(step[: len(free)]) / np.sqrt(np.diag(inverse)[: len(free)])))
        if new_quality <= quality:
            values, shape, trend, quality, damping = tried, new_shape, new_trend, new_quality, damping / 5
            if moved < _SETTLED:
                break
        else:
            damping *= 8
            if damping > 1e8:
                break
    return values, trend, inverse


def _slope(model: _Model, values: dict[str, float], name: str) -> Floats:
    step = _STEPS[name]
    above, below = (model(values | {name: values[name] + sign * step}) for sign in (1, -1))
    return np.asarray((above - below) / (2 * step))


def _depth(model: _Model, values: dict[str, float]) -> tuple[float, float]:
    """Light that is gone at mid-transit, and how it grows with the ratio of radii."""
    middle = np.array([values["t_mid"]])
    ratio, step = values["radius_ratio"], _STEPS["radius_ratio"]
    gone = [1 - float(model(values | {"radius_ratio": k}, middle)[0]) for k in (ratio - step, ratio, ratio + step)]
    return gone[1], (gone[2] - gone[0]) / (2 * step)


def _duration(values: dict[str, float], period: float) -> float:
    """From first to last contact, days (Seager & Mallén-Ornelas 2003, ApJ 585, 1038, equation 3)."""
    axis, impact = values["semi_major_axis"], values["impact"]
    half = math.sqrt(max((1 + abs(values["radius_ratio"])) ** 2 - impact**2, 0.0))
    inclined = math.sqrt(max(axis**2 - impact**2, 1e-12))
    return period / math.pi * math.asin(min(half / inclined, 1.0))
