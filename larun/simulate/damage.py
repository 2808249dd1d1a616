"""The faults of a camera put together: the chip as it was in each frame, and the sky as it saw it."""

from __future__ import annotations

from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.simulate import faults as kinds
from larun.simulate.camera import Camera, Chip, shadow
from larun.simulate.options import Faults
from larun.simulate.series import sky_plane

__all__ = ["Damage"]

_MADE, _SEEN = 4, 5  # random streams: of the faults, and of what changes from frame to frame
_PICKUP_ROWS = 1.94  # of the raw array: the period of the interference
_GLOW = 0.06  # of the diagonal: how far the glow of an amplifier reaches
_COLORS = {"R": 0.6, "G": 1.0, "B": 0.7}


@attrs.frozen(eq=False)
class Damage:
    """The faults of one camera: everything about them that stays the same through a night.

    Parameters
    ----------
    camera : Camera
        The camera.
    faults : Faults
        What is wrong.
    seed : int
        Of the night.
    chip : Chip
        Without faults.
    factor : ndarray (ny, nx)
        On the response: bad columns and colour filters.
    current : ndarray (ny, nx)
        Electrons per second besides the dark current: glow and leaks.
    flat_errors, fringe_patterns : dict
        For each filter, (ny, nx).
    telegraph : Telegraph
        Pixels that switch.
    """

    camera: Camera
    faults: Faults
    seed: int
    chip: Chip
    factor: NDArray[np.float64]
    current: NDArray[np.float64]
    flat_errors: dict[str, NDArray[np.float64]]
    fringe_patterns: dict[str, NDArray[np.float64]]
    telegraph: kinds.Telegraph

    @classmethod
    def of(cls, camera: Camera, faults: Faults, seed: int) -> Self:
        """The faults that a night of this seed has; each has a random stream of its own."""
        shape = camera.shape
        columns, telegraph, fringes, flats = (np.random.default_rng([seed, _MADE, n]) for n in range(4))
        factor = kinds.bad_columns(shape, count=int(faults.bad_columns), rng=columns)[0]
        if faults.bayer:
            factor = factor * kinds.bayer(shape, faults.bayer, _COLORS)
        current = np.zeros(shape)
        if faults.glow:
            current += faults.glow * kinds.amplifier_glow(shape, scale=_GLOW * float(np.hypot(*shape)))
        if faults.light_leak:
            current += faults.light_leak * kinds.light_leak(shape)
        errors = {}
        if faults.flat_error:
            errors = {band: 1 + faults.flat_error * kinds.smooth_field(shape, rng=flats) for band in camera.filters}
        count = min(12.0, 0.2 * max(shape))
        patterns = {
            band: strength * kinds.fringes(shape, rng=fringes, count=count)
            for band, strength in zip(camera.filters, faults.fringes, strict=False)
        }
        switching = kinds.telegraph_pixels(shape, fraction=faults.telegraph, step=faults.telegraph_step, rng=telegraph)
        return cls(camera, faults, seed, camera.chip(seed), factor, current, errors, patterns, switching)

    def chip_for(self, kind: str, band: str | None, exposure: float, number: int) -> Chip:
        """The chip as it was in a frame.

        Parameters
        ----------
        kind : {'bias', 'dark', 'flat', 'object'}
            Of the frame.
        band : str or None
            Filter.
        exposure : float
            Seconds.
        number : int
            Of the frame in the night: decides which pixels are up, and the phase of the interference.
        """
        if self.faults == Faults():
            return self.chip
        rng = np.random.default_rng([self.seed, _SEEN, number])
        bias = self.chip.bias.astype(np.float64)
        if len(self.telegraph.pixels):
            bias = bias + self.telegraph.electrons(self.camera.shape, rng) / self.camera.gain
        if self.faults.pickup:
            ny, nx = self.camera.raw_shape
            hum = kinds.pickup(
                (ny, nx), amplitude=self.faults.pickup, period=_PICKUP_ROWS * nx, phase=float(rng.random())
            )
            hum[self.camera.data_section.slices] += bias
            bias = hum
        response = self.chip.response
        if band is not None:
            response = {**response, band: self._response(kind, band, exposure)}
        dark = (self.chip.dark + self.current).astype(np.float32)
        return self.chip._replace(bias=bias.astype(np.float32), dark=dark, response=response)

    def _response(self, kind: str, band: str, exposure: float) -> NDArray[np.float32]:
        shape = self.camera.shape
        made = self.chip.response[band] * self.factor
        if kind == "flat":
            made *= self.flat_errors.get(band, 1.0)
        elif self.faults.dust_shift:
            for grain in self.chip.dust[band]:
                made *= shadow(shape, grain._replace(x=grain.x + self.faults.dust_shift)) / shadow(shape, grain)
        if self.faults.shutter and exposure > 0:
            made *= 1 + kinds.shutter_delay(shape, seconds=self.faults.shutter) / exposure
        return made.astype(np.float32)

    def sky_pattern(self, band: str, gradient: tuple[float, float]) -> NDArray[np.float64]:
        """(ny, nx) the sky relative to its brightness in the middle of the field."""
        pattern = sky_plane(self.camera.shape, gradient=gradient)
        return pattern * (1 + self.fringe_patterns[band]) if band in self.fringe_patterns else pattern
