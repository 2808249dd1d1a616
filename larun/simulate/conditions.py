"""The science frames of a night in their order: what the air, the sky and the telescope were like in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import OptionError
from larun.simulate.faults import Trail
from larun.simulate.geometry import dithers, drift
from larun.simulate.options import NightOptions
from larun.simulate.series import airmass, altitude, extinction, red_noise
from larun.simulate.truth import FrameTruth

__all__ = ["middle_hours", "reach", "with_conditions"]

_AIR, _TRACKING, _SATELLITES = 6, 7, 8  # random streams
_SIDEREAL = 1.0027379  # hours of hour angle per hour


def middle_hours(frames: Sequence[FrameTruth]) -> NDArray[np.float64]:
    """Hours from the middle of the first of these exposures to the middle of each."""
    starts = [datetime.fromisoformat(frame.date_obs) for frame in frames]
    middles = [
        (start - starts[0]).total_seconds() + frame.exposure / 2 for start, frame in zip(starts, frames, strict=True)
    ]
    return (np.asarray(middles) - middles[0]) / 3600 if middles else np.zeros(0)


def with_conditions(plans: list[FrameTruth], options: NightOptions, seed: int) -> list[FrameTruth]:
    """The same frames, the science frames with all that the options' groups change about them.

    Raises
    ------
    OptionError
        If the field sets, or the sky or its gradient becomes impossible during the night.
    """
    science = [plan for plan in plans if plan.kind == "object"]
    if not science:
        return plans
    hours = middle_hours(science)
    made = _tracked(science, hours, options, seed)
    made = _seen_through_air(made, hours, options, seed)
    made = _under_the_sky(made, hours, options)
    if options.variable is not None:
        flux = options.variable.flux(hours)
        made = [attrs.evolve(frame, variable=float(value)) for frame, value in zip(made, flux, strict=True)]
    if options.faults.satellites:
        made = _crossed(made, options, seed)
    changed = iter(made)
    return [next(changed) if plan.kind == "object" else plan for plan in plans]


def reach(frames: Sequence[FrameTruth], options: NightOptions) -> float:
    """How far stars outside of the undithered frame come into some frame, pixels."""
    ny, nx = options.camera.shape
    half = math.hypot(nx, ny) / 2
    offsets = [max(abs(value) for value in frame.offset) for frame in frames if frame.kind == "object"]
    turns = [abs(frame.rotation) for frame in frames if frame.kind == "object"]
    turned = half * 2 * math.sin(math.radians(min(max(turns, default=0.0), 180.0)) / 2)
    u, v = options.optics.distortion.undistorted(np.array([nx / 2, -nx / 2]), np.array([ny / 2, ny / 2]))
    bent = float(np.abs(np.hypot(u, v) - half).max()) if options.optics.distortion.order else 0.0
    return max([options.dither, *offsets]) + turned + bent


def _tracked(
    frames: list[FrameTruth], hours: NDArray[np.float64], options: NightOptions, seed: int
) -> list[FrameTruth]:
    tracking = options.tracking
    rng = np.random.default_rng([seed, _TRACKING])
    moved = drift(hours, rate=tracking.drift, walk=tracking.walk, rng=rng)
    offsets = np.array([frame.offset for frame in frames])
    if tracking.pattern != "random":
        offsets = np.concatenate(
            [
                dithers(int(options.frames), size=options.dither, pattern=tracking.pattern)
                for _ in options.camera.filters
            ]
        )
    offsets = offsets + moved
    made = []
    for frame, (dx, dy), hour in zip(frames, offsets, hours, strict=True):
        trail = tuple(rate * frame.exposure / 3600 for rate in tracking.drift)
        made.append(
            attrs.evolve(frame, offset=(float(dx), float(dy)), rotation=float(tracking.rotation * hour), trail=trail)
        )
    return made


def _seen_through_air(
    frames: list[FrameTruth], hours: NDArray[np.float64], options: NightOptions, seed: int
) -> list[FrameTruth]:
    conditions, rng = options.conditions, np.random.default_rng([seed, _AIR])
    seeing = np.array([frame.seeing for frame in frames], dtype=np.float64)
    clear = np.array([frame.transparency for frame in frames])
    if conditions.seeing is not None:
        seeing = np.array(conditions.seeing)
    if conditions.transparency is not None:
        clear = np.array(conditions.transparency)
    (rms, memory), (magnitudes, cloud_memory) = conditions.seeing_noise, conditions.transparency_noise
    seeing = np.maximum(seeing * np.exp(red_noise(hours, rms=rms, timescale=memory, rng=rng)), 0.5)
    clear = clear * 10 ** (-0.4 * red_noise(hours, rms=magnitudes, timescale=cloud_memory, rng=rng))
    air: list[float | None] = [None] * len(frames)
    if conditions.extinction:
        angles = conditions.hour_angle + _SIDEREAL * hours
        heights = altitude(angles, declination=options.center[1], latitude=conditions.latitude)
        if heights.min() < 5:
            raise OptionError(
                f"hour_angle = {conditions.hour_angle}, latitude = {conditions.latitude}: the field is only "
                f"{heights.min():.1f} degrees above the horizon in a frame; it must be 5"
            )
        air = airmass(heights).tolist()
        clear = clear * extinction(airmass(heights), coefficient=conditions.extinction)
    return [
        attrs.evolve(frame, seeing=float(fwhm), transparency=float(arrives), airmass=mass)
        for frame, fwhm, arrives, mass in zip(frames, seeing, clear, air, strict=True)
    ]


def _under_the_sky(frames: list[FrameTruth], hours: NDArray[np.float64], options: NightOptions) -> list[FrameTruth]:
    conditions = options.conditions
    made = []
    for frame, hour in zip(frames, hours, strict=True):
        start, change = conditions.sky_gradient, conditions.gradient_change
        gradient = tuple(a + b * float(hour) for a, b in zip(start, change, strict=True))
        level = float(frame.sky or 0.0) * (1 + conditions.sky_change * float(hour))
        if level < 0 or not abs(gradient[0]) + abs(gradient[1]) < 2:
            raise OptionError(
                f"{frame.path.name}, {hour:.2f} hours after the first: sky_change makes the sky {level:.3g} electrons "
                f"per second, sky_gradient and gradient_change its gradient {gradient}; no pixel may be negative"
            )
        made.append(attrs.evolve(frame, sky=level, gradient=gradient))
    return made


def _crossed(frames: list[FrameTruth], options: NightOptions, seed: int) -> list[FrameTruth]:
    """Satellites at random places and angles."""
    faults, rng = options.faults, np.random.default_rng([seed, _SATELLITES])
    ny, nx = options.camera.shape
    limits = [np.log(faults.satellite_width), np.log(faults.satellite_brightness)]
    made = []
    for frame in frames:
        trails = [
            Trail(
                x=float(rng.uniform(0, nx)),
                y=float(rng.uniform(0, ny)),
                angle=float(rng.uniform(0, 180)),
                width=float(np.exp(rng.uniform(*limits[0]))),
                brightness=float(np.exp(rng.uniform(*limits[1]))),
            )
            for _ in range(int(rng.poisson(faults.satellites)))
        ]
        made.append(attrs.evolve(frame, satellites=tuple(trails)))
    return made
