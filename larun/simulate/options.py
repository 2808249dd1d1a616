"""What a simulated night can be asked for, in groups: optics, tracking, conditions, a star that varies, and faults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError
from larun.simulate.camera import Camera
from larun.simulate.geometry import PATTERNS, Distortion
from larun.simulate.profiles import Donut, Gaussian, Moffat, Profile, Trailed, Varying
from larun.simulate.series import sinusoid, transit

__all__ = ["Conditions", "Faults", "NightOptions", "Optics", "Pulsation", "Tracking", "Transit"]

Terms = tuple[tuple[int, int, float], ...]

_BAYER = ("RGGB", "BGGR", "GRBG", "GBRG")


def _pair(values: Sequence[float]) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    return first, second


def _numbers(value: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(number) for number in value)


def _terms(values: Iterable[Iterable[float]]) -> Terms:
    return tuple((int(i), int(j), float(c)) for i, j, c in values)


def _check(group: Any, **limits: tuple[float, float]) -> None:
    """Each named value, or each of a tuple, must be finite and within its limits."""
    for name, (low, high) in limits.items():
        values = np.atleast_1d(np.asarray(getattr(group, name), dtype=np.float64))
        if not all(low <= value <= high and math.isfinite(value) for value in values):
            raise OptionError(f"{name} = {getattr(group, name)}: must be finite, from {low:g} to {high:g}")


@attrs.frozen(kw_only=True)
class Optics:
    """What the telescope makes of a star.

    Parameters
    ----------
    donut : float
        Outer radius of the annulus of a defocused star, pixels; 0 in focus.
    obscuration : float
        Inner over outer radius of the annulus.
    size, g1, g2 : iterable of (i, j, c)
        How size and ellipticity of the stars change over the field (:class:`Varying`).
    distortion : Distortion
        Of the field: in the WCS of the headers and in the places of the stars.
    """

    donut: float = 0.0
    obscuration: float = 0.4
    size: Terms = attrs.field(default=((0, 0, 1.0),), converter=_terms)
    g1: Terms = attrs.field(default=(), converter=_terms)
    g2: Terms = attrs.field(default=(), converter=_terms)
    distortion: Distortion = attrs.field(factory=Distortion)

    def __attrs_post_init__(self) -> None:
        _check(self, donut=(0.0, 500.0), obscuration=(0.0, 0.99))
        self.profile((100, 100), fwhm=3.0, beta=3.0)  # impossible terms raise now

    def profile(
        self, shape: tuple[int, int], *, fwhm: float, beta: float | None, trail: tuple[float, float] = (0.0, 0.0)
    ) -> Profile | Varying:
        """The stars of a frame of this seeing, that trail by (dx, dy) pixels."""
        blur = Gaussian(fwhm) if beta is None else Moffat(fwhm, beta)
        profile: Profile = Donut(self.donut, self.obscuration, blur) if self.donut else blur
        if (self.size, self.g1, self.g2) != (((0, 0, 1.0),), (), ()):
            return Varying(profile, shape=shape, size=self.size, g1=self.g1, g2=self.g2, trail=trail)
        return Trailed(profile, dx=trail[0], dy=trail[1]) if any(trail) else profile

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``attrs.asdict``."""
        return cls(**{**values, "distortion": Distortion.from_dict(values["distortion"])})


@attrs.frozen(kw_only=True)
class Tracking:
    """How the telescope follows the sky.

    Parameters
    ----------
    pattern : {"random", "grid", "spiral"}
        Of the dithers in each filter (:func:`dithers`).
    drift : tuple of float
        Steady drift along x and y, pixels per hour; stars trail by it during an exposure.
    walk : float
        Random walk along each axis, pixels rms after an hour.
    rotation : float
        Field rotation, degrees per hour.
    """

    pattern: str = "random"
    drift: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    walk: float = 0.0
    rotation: float = 0.0

    def __attrs_post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise OptionError(f"pattern = {self.pattern!r}: use one of {', '.join(PATTERNS)}")
        _check(self, drift=(-1e4, 1e4), walk=(0.0, 1e4), rotation=(-360.0, 360.0))


@attrs.frozen(kw_only=True)
class Conditions:
    """How the air and the sky change through the night. The science frames are counted in the order they are taken.

    Parameters
    ----------
    seeing : tuple of float or None
        FWHM of each science frame, pixels; None: the night's seeing and its scatter.
    seeing_noise : tuple of float
        (rms of ln FWHM, hours of memory) of a red noise that multiplies it.
    transparency : tuple of float or None
        Of each science frame; None: 1 less the night's random losses.
    transparency_noise : tuple of float
        (magnitudes rms, hours of memory) of a red noise.
    extinction : float
        Magnitudes per airmass; 0 is none, and then no airmass is computed.
    latitude, hour_angle : float
        Of the telescope, degrees; of the field in the middle of the first science exposure, hours.
    sky_gradient : tuple of float
        Relative change of the sky from edge to edge along x and y, at the first science frame.
    gradient_change : tuple of float
        Of the gradient, per hour.
    sky_change : float
        Relative change of the sky's brightness per hour.
    """

    seeing: tuple[float, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(_numbers))
    seeing_noise: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    transparency: tuple[float, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(_numbers))
    transparency_noise: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    extinction: float = 0.0
    latitude: float = 37.3
    hour_angle: float = 0.0
    sky_gradient: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    gradient_change: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    sky_change: float = 0.0

    def __attrs_post_init__(self) -> None:
        _check(self, seeing_noise=(0.0, 100.0), transparency_noise=(0.0, 100.0), extinction=(0.0, 5.0))
        _check(self, latitude=(-90.0, 90.0), hour_angle=(-12.0, 12.0), sky_gradient=(-2.0, 2.0))
        _check(self, gradient_change=(-10.0, 10.0), sky_change=(-10.0, 10.0))
        if self.seeing is not None:
            _check(self, seeing=(0.5, 100.0))
        if self.transparency is not None:
            _check(self, transparency=(0.0, 10.0))


@attrs.frozen(kw_only=True)
class Transit:
    """A star of this magnitude in the first filter has a planet in front of it: :func:`transit`.

    ``middle`` and the rest are in hours, from the middle of the first science exposure.
    """

    kind: ClassVar[str] = "transit"

    magnitude: float = 16.0
    middle: float = 0.1
    period: float = 48.0
    depth: float = 0.01
    duration: float = 0.1
    impact: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.flux(0.0)  # impossible values raise now

    def flux(self, hours: ArrayLike) -> NDArray[np.float64]:
        """Relative flux at times after the middle of the first science exposure."""
        values = attrs.asdict(self)
        values.pop("magnitude")
        return transit(hours, **values)


@attrs.frozen(kw_only=True)
class Pulsation:
    """A star of this magnitude in the first filter varies as a sine: :func:`sinusoid`."""

    kind: ClassVar[str] = "pulsation"

    magnitude: float = 16.0
    period: float = 0.2
    amplitude: float = 0.2
    phase: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.flux(0.0)

    def flux(self, hours: ArrayLike) -> NDArray[np.float64]:
        """Relative flux at times after the middle of the first science exposure."""
        return sinusoid(hours, period=self.period, amplitude=self.amplitude, phase=self.phase)


@attrs.frozen(kw_only=True)
class Faults:
    """What is wrong with the camera, besides what every camera has; nothing by default.

    Parameters
    ----------
    fringes : tuple of float
        For each filter the amplitude of fringes relative to the sky; none when empty.
    satellites : float
        Expected number of trails in a science frame.
    satellite_width, satellite_brightness : tuple of float
        Limits of their FWHM (pixels) and of their light (electrons per pixel of length), uniform in the logarithm.
    flat_error : float
        Rms of a smooth error that all flats of a filter have in common.
    dust_shift : float
        Pixels by which the dust moved, along x, between flats and science frames.
    telegraph : float
        Fraction of pixels that switch between two levels.
    telegraph_step : tuple of float
        Limits of the step, electrons.
    bad_columns : int
        Columns that lose 60 % of the light from some row on.
    light_leak, glow : float
        Electrons per second in the brightest corner: stray light, and the glow of an amplifier.
    pickup : float
        Amplitude of electric interference, ADU, in every raw pixel.
    shutter : float
        Seconds by which the middle is exposed longer than the corners.
    bayer : str or None
        Colour filter array, such as ``RGGB``, whose pixels pass 60 % (R), all (G) and 70 % (B) of the light.
    """

    fringes: tuple[float, ...] = attrs.field(default=(), converter=_numbers)
    satellites: float = 0.0
    satellite_width: tuple[float, float] = attrs.field(default=(2.5, 5.0), converter=_pair)
    satellite_brightness: tuple[float, float] = attrs.field(default=(300.0, 5000.0), converter=_pair)
    flat_error: float = 0.0
    dust_shift: float = 0.0
    telegraph: float = 0.0
    telegraph_step: tuple[float, float] = attrs.field(default=(50.0, 500.0), converter=_pair)
    bad_columns: int = 0
    light_leak: float = 0.0
    glow: float = 0.0
    pickup: float = 0.0
    shutter: float = 0.0
    bayer: str | None = None

    def __attrs_post_init__(self) -> None:
        _check(self, fringes=(0.0, 0.5), satellites=(0.0, 100.0), satellite_width=(1.0, 1e3))
        _check(self, satellite_brightness=(1e-3, 1e9), flat_error=(0.0, 0.1), dust_shift=(-1e4, 1e4))
        _check(self, telegraph=(0.0, 0.5), telegraph_step=(1e-3, 1e6), bad_columns=(0, 1e5), light_leak=(0.0, 1e6))
        _check(self, glow=(0.0, 1e6), pickup=(0.0, 1e4), shutter=(0.0, 10.0))
        for name in ("satellite_width", "satellite_brightness", "telegraph_step"):
            if getattr(self, name)[0] > getattr(self, name)[1]:
                raise OptionError(f"{name} = {getattr(self, name)}: give the lower limit first")
        if self.bad_columns != int(self.bad_columns):
            raise OptionError(f"bad_columns = {self.bad_columns}: must be a whole number")
        if self.bayer is not None and self.bayer not in _BAYER:
            raise OptionError(f"bayer = {self.bayer!r}: use one of {', '.join(_BAYER)}")


@attrs.frozen(kw_only=True)
class NightOptions:
    """What a simulated night holds; the defaults are the demo.

    Parameters
    ----------
    camera : Camera
        The camera.
    biases, flats, frames : int
        Bias frames; flats per filter; science frames per filter.
    darks : int
        Dark frames per exposure time.
    dark_exposures : tuple of float
        Seconds; one of them at least as long as the science exposures, since darks never scale up.
    exposure : float
        Seconds of each science frame.
    flat_levels : tuple of float
        Mean levels of the first and the last flat, ADU above bias.
    star_density : float
        Stars per million pixels.
    magnitudes : tuple of float
        Brightest and faintest star in the first filter.
    zero_points : tuple of float
        For each filter the magnitude of a star that gives 1 electron per second.
    sky : tuple of float
        For each filter electrons per second and pixel.
    seeing : float
        Median FWHM, pixels; frames scatter by 8 %.
    beta : float or None
        Moffat exponent, None for Gaussian stars.
    dither : float
        Largest offset along each axis, pixels; the first frame of each filter has none.
    transparency_loss : float
        Largest fraction of the star light that thin cloud takes from a frame.
    cosmic_rate : float
        Cosmic rays per second and million pixels.
    new_source : float or None
        Magnitude of a source that appears in the last half of the first filter's frames; None for none.
    center : tuple of float
        Right ascension and declination of the field, degrees.
    start : str
        Start of the first exposure, UTC.
    optics, tracking, conditions, faults
        Stars that are not round, a telescope that does not follow, a sky that changes, a camera with faults; each of
        its own class, and quiet by default.
    variable : Transit, Pulsation or None
        A star that varies.

    Raises
    ------
    OptionError
        If a value is impossible.
    """

    camera: Camera = attrs.field(factory=lambda: Camera(dead_columns=(217,)))
    biases: int = 10
    darks: int = 5
    dark_exposures: tuple[float, ...] = attrs.field(default=(3.0, 60.0), converter=_numbers)
    flats: int = 5
    frames: int = 4
    exposure: float = 60.0
    flat_levels: tuple[float, float] = attrs.field(default=(28000.0, 18000.0), converter=_pair)
    star_density: float = 600.0
    magnitudes: tuple[float, float] = attrs.field(default=(14.0, 20.5), converter=_pair)
    zero_points: tuple[float, ...] = attrs.field(default=(23.5, 23.7), converter=_numbers)
    sky: tuple[float, ...] = attrs.field(default=(4.0, 6.0), converter=_numbers)
    seeing: float = 3.0
    beta: float | None = 3.0
    dither: float = 12.0
    transparency_loss: float = 0.05
    cosmic_rate: float = 0.5
    new_source: float | None = 17.5
    center: tuple[float, float] = attrs.field(default=(202.5, 18.0), converter=_pair)
    start: str = "2026-03-14T18:00:00.000"
    optics: Optics = attrs.field(factory=Optics)
    tracking: Tracking = attrs.field(factory=Tracking)
    conditions: Conditions = attrs.field(factory=Conditions)
    variable: Transit | Pulsation | None = None
    faults: Faults = attrs.field(factory=Faults)

    def __attrs_post_init__(self) -> None:
        for name in ("biases", "darks", "flats", "frames", "star_density", "dither", "cosmic_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise OptionError(f"{name} = {getattr(self, name)}: must be at least 0 and finite")
        for name in ("biases", "darks", "flats", "frames"):
            if getattr(self, name) != int(getattr(self, name)):
                raise OptionError(f"{name} = {getattr(self, name)}: must be a whole number")
        try:
            datetime.fromisoformat(self.start)
        except ValueError as error:
            raise OptionError(f"start = {self.start!r}: give it as 2026-03-14T18:00:00.000, UTC") from error
        count = int(self.frames) * len(self.camera.filters)
        for name in ("seeing", "transparency"):
            series = getattr(self.conditions, name)
            if series is not None and len(series) != count:
                raise OptionError(f"{name}: {len(series)} values are given for {count} science frames")
        if self.faults.fringes and len(self.faults.fringes) != len(self.camera.filters):
            raise OptionError(f"fringes = {self.faults.fringes}: give one for each filter of {self.camera.filters}")
        for name in ("zero_points", "sky"):
            if len(getattr(self, name)) != len(self.camera.filters):
                raise OptionError(f"{name} = {getattr(self, name)}: give one for each filter of {self.camera.filters}")
        if any(not 0 < t < math.inf for t in self.dark_exposures) or len(set(self.dark_exposures)) < len(
            self.dark_exposures
        ):
            raise OptionError(f"dark_exposures = {self.dark_exposures}: positive seconds, all different")
        if not 0 <= self.transparency_loss < 1:
            raise OptionError(f"transparency_loss = {self.transparency_loss}: must be at least 0 and below 1")
        if not self.magnitudes[0] < self.magnitudes[1]:
            raise OptionError(f"magnitudes = {self.magnitudes}: give the brightest first")
        if not 0.5 <= self.seeing < math.inf:
            raise OptionError(f"seeing = {self.seeing}: must be at least 0.5 pixels")


def plain_options(options: NightOptions) -> dict[str, Any]:
    """Plain containers for JSON."""
    values = attrs.asdict(options)
    if options.variable is not None:
        values["variable"]["kind"] = options.variable.kind
    return values


def options_from(values: Mapping[str, Any]) -> NightOptions:
    """The inverse of :func:`plain_options`."""
    kinds = {star.kind: star for star in (Transit, Pulsation)}
    variable = dict(values["variable"] or {})
    groups = {
        "camera": Camera.from_dict(values["camera"]),
        "optics": Optics.from_dict(values["optics"]),
        "tracking": Tracking(**values["tracking"]),
        "conditions": Conditions(**values["conditions"]),
        "variable": kinds[variable.pop("kind")](**variable) if variable else None,
        "faults": Faults(**values["faults"]),
    }
    return NightOptions(**{**values, **groups})
