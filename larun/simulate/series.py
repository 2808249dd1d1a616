"""What changes from frame to frame: seeing, transparency, airmass, the sky, and stars that vary.

Times are in hours unless a docstring says otherwise. Every function is pure; what is random takes its generator.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError

__all__ = ["airmass", "altitude", "extinction", "red_noise", "sinusoid", "sky_plane", "transit"]

Array = NDArray[np.float64]


def red_noise(hours: ArrayLike, *, rms: float, timescale: float, rng: np.random.Generator) -> Array:
    """A stationary random series with a memory: a damped random walk (Ornstein-Uhlenbeck process).

    Parameters
    ----------
    hours : array_like (n,)
        Ascending times; any spacing.
    rms : float
        Of each value.
    timescale : float
        Hours after which the correlation has fallen to 1/e; 0 is white noise.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    ndarray (n,)
        Mean 0, variance ``rms²``, covariance ``rms² exp(-|Δt| / timescale)``: exact for any spacing (Kelly, Bechtold &
        Siemiginowska 2009, ApJ 698, 895).

    Raises
    ------
    OptionError
        If times do not ascend, or rms or timescale is negative.

    Examples
    --------
    >>> series = red_noise(np.linspace(0, 1, 5), rms=0.1, timescale=1e9, rng=np.random.default_rng(1))
    >>> bool(np.ptp(series) < 1e-3)
    True
    """
    times = _hours(hours)
    if not 0 <= rms < math.inf or not 0 <= timescale < math.inf:
        raise OptionError(f"rms = {rms}, timescale = {timescale}: must be at least 0 and finite")
    white = rng.standard_normal(len(times))
    gaps = np.diff(times)
    memory = np.exp(-gaps / timescale) if timescale else np.zeros(len(gaps))
    made = np.array(white)
    for n, kept in enumerate(memory, start=1):
        made[n] = kept * made[n - 1] + math.sqrt(1 - kept**2) * white[n]
    return np.asarray(rms * made)


def altitude(hour_angle: ArrayLike, *, declination: float, latitude: float) -> Array:
    """Altitude above the horizon, degrees, at hour angles in hours; declination and latitude in degrees.

    Examples
    --------
    >>> altitude([0.0, 6.0], declination=20.0, latitude=40.0).round(2).tolist()
    [70.0, 12.7]
    """
    if not -90 <= declination <= 90 or not -90 <= latitude <= 90:
        raise OptionError(f"declination = {declination}, latitude = {latitude}: must lie between -90 and 90 degrees")
    angle = np.radians(15.0 * np.asarray(hour_angle, dtype=np.float64))
    d, b = math.radians(declination), math.radians(latitude)
    sine = math.sin(b) * math.sin(d) + math.cos(b) * math.cos(d) * np.cos(angle)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0))))


def airmass(degrees: ArrayLike) -> Array:
    """Airmass at an altitude above the horizon (Kasten & Young 1989, Applied Optics 28, 4735).

    Raises
    ------
    OptionError
        If an altitude lies below the horizon.

    Examples
    --------
    >>> airmass([90.0, 30.0, 0.0]).round(3).tolist()
    [1.0, 1.994, 37.92]
    """
    h = np.asarray(degrees, dtype=np.float64)
    if not (np.isfinite(h).all() and (h >= 0).all() and (h <= 90).all()):
        raise OptionError("altitude: the field must be above the horizon, 0 to 90 degrees, in every frame")
    return np.asarray(1 / (np.sin(np.radians(h)) + 0.50572 * (h + 6.07995) ** -1.6364))


def extinction(air: ArrayLike, *, coefficient: float) -> Array:
    """The fraction of the light that arrives through an airmass, at ``coefficient`` magnitudes per airmass.

    Examples
    --------
    >>> extinction([0.0, 2.0], coefficient=0.5).round(4).tolist()
    [1.0, 0.3981]
    """
    if not 0 <= coefficient < math.inf:
        raise OptionError(f"coefficient = {coefficient}: must be at least 0 magnitudes per airmass")
    return np.asarray(10 ** (-0.4 * coefficient * np.asarray(air, dtype=np.float64)))


def transit(
    hours: ArrayLike, *, middle: float, period: float, depth: float, duration: float, impact: float = 0.0
) -> Array:
    """The relative flux of an evenly bright star with a dark planet that passes in front of it.

    Parameters
    ----------
    hours : array_like
        Times; they should be those of mid-exposure.
    middle : float
        Time of the middle of one transit, hours.
    period : float
        Hours between transits.
    depth : float
        Of a full transit: the ratio of the areas, 0 to 0.25.
    duration : float
        From first to last contact, hours, shorter than half the period.
    impact : float
        Distance of the planet's path from the middle of the star, stellar radii; below 1 + √depth.

    Returns
    -------
    ndarray
        1 outside of transit. The planet moves on a straight line at constant speed; the area that it covers is that of
        two circles (Mandel & Agol 2002, ApJ 580, L171, eq. 1).

    Raises
    ------
    OptionError
        If a value is impossible.

    Examples
    --------
    >>> transit([-2.0, 1.0, 5.0], middle=1.0, period=48.0, depth=0.01, duration=3.0).round(4).tolist()
    [1.0, 0.99, 1.0]
    """
    ratio = math.sqrt(depth) if 0 < depth <= 0.25 else math.nan
    if not (0 < duration < period / 2 < math.inf and 0 <= impact < 1 + ratio and math.isfinite(middle)):
        raise OptionError(
            f"transit of depth {depth}, duration {duration}, period {period}, impact {impact}: give 0 < depth <= 0.25, "
            "0 < duration < period / 2, and 0 <= impact < 1 + sqrt(depth)"
        )
    phase = np.asarray(hours, dtype=np.float64) - middle
    phase = phase - period * np.rint(phase / period)
    speed = 2 * math.sqrt((1 + ratio) ** 2 - impact**2) / duration
    return np.asarray(1 - _covered(np.hypot(speed * phase, impact), ratio) / math.pi)


def _covered(distance: Array, ratio: float) -> Array:
    """The area that a circle of radius ``ratio`` at this distance shares with the unit circle."""
    safe = np.clip(distance, abs(1 - ratio) + 1e-15, 1 + ratio - 1e-15)
    planet = np.arccos(np.clip((ratio**2 + safe**2 - 1) / (2 * safe * ratio), -1, 1))
    star = np.arccos(np.clip((1 + safe**2 - ratio**2) / (2 * safe), -1, 1))
    kite = 0.5 * np.sqrt(np.maximum(4 * safe**2 - (1 + safe**2 - ratio**2) ** 2, 0))
    partly = ratio**2 * planet + star - kite
    inside = np.where(distance <= 1 - ratio, math.pi * ratio**2, partly)
    return np.asarray(np.where(distance >= 1 + ratio, 0.0, inside))


def sinusoid(hours: ArrayLike, *, period: float, amplitude: float, phase: float = 0.0) -> Array:
    """The relative flux of a star that varies by ``amplitude`` magnitudes about its mean magnitude, as a sine.

    Examples
    --------
    >>> sinusoid([0.0, 0.25], period=1.0, amplitude=0.1).round(4).tolist()
    [1.0, 0.912]
    """
    if not 0 < period < math.inf or not math.isfinite(amplitude) or not math.isfinite(phase):
        raise OptionError(
            f"period = {period}, amplitude = {amplitude}, phase = {phase}: give a positive period, finite"
        )
    turns = np.asarray(hours, dtype=np.float64) / period + phase
    return np.asarray(10 ** (-0.4 * amplitude * np.sin(2 * math.pi * turns)))


def sky_plane(shape: tuple[int, int], *, gradient: tuple[float, float]) -> Array:
    """The sky over the field relative to its middle: a plane that changes by ``gradient`` from edge to edge.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    gradient : tuple of float
        Relative change along x and y; their absolute values together below 2, so that no sky is negative.

    Examples
    --------
    >>> sky_plane((3, 3), gradient=(0.2, 0.0))[0].tolist()
    [0.9, 1.0, 1.1]
    """
    if not abs(gradient[0]) + abs(gradient[1]) < 2:
        raise OptionError(f"gradient = {gradient}: the sky would be negative in a corner; give less than 2 in all")
    v, u = np.linspace(-0.5, 0.5, shape[0])[:, None], np.linspace(-0.5, 0.5, shape[1])[None, :]
    return np.asarray(1 + gradient[0] * u + gradient[1] * v)


def _hours(hours: ArrayLike) -> Array:
    times = np.asarray(hours, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise OptionError("hours: give a list of times that ascend")
    return times
