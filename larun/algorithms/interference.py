"""Waves in frames that should hold noise alone: pickup from the mains, from a clock, from a motor.

Pixels are read at a steady pace, so that a wave in time is a plane wave on the chip, wherever rows begin and however
long the pause between them: one peak in the two-dimensional power spectrum. Noise has a power that is distributed as
exp(-P) (Groth 1975, ApJS 29, 285); the mean of several spectra follows a gamma distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from larun.algorithms.robust import mad_sigma
from larun.errors import OptionError

__all__ = ["LARGEST", "Wave", "strongest_wave"]

LARGEST = 2048  # pixels along an axis that are looked at
_CLIP = 5.0  # σ
_REACH = 2  # bins around the peak whose power belongs to the wave


class Wave(NamedTuple):
    """The strongest wave in a set of frames.

    Attributes
    ----------
    amplitude, error : float
        Of one frame, and its 1 σ, in the unit of the pixels.
    along_row, along_column : float
        Cycles per pixel along x (0 to 0.5) and along y (-0.5 to 0.5).
    chance : float
        How often noise alone would have so strong a peak anywhere in the spectrum.
    spectrum : ndarray of float32, (ny, nx // 2 + 1)
        Mean power over what noise has there; frequencies as of ``numpy.fft.rfft2``.
    """

    amplitude: float
    error: float
    along_row: float
    along_column: float
    chance: float
    spectrum: NDArray[np.float32]


def strongest_wave(frames: Sequence[NDArray[np.floating]]) -> Wave:
    """Find the strongest wave whose phase is another in each frame; what all have in common is taken away first.

    Parameters
    ----------
    frames : sequence of ndarray, (ny, nx)
        Two or more of the same thing (biases), NaN where a pixel means nothing.

    Returns
    -------
    Wave

    Raises
    ------
    OptionError
        If there is one frame only, or it is smaller than 16 × 16.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> phase = 2 * np.pi * 0.11 * np.arange(128)[None, :] + 2 * np.pi * 0.32 * np.arange(128)[:, None]
    >>> frames = [rng.normal(0, 5, (128, 128)) + 1.5 * np.sin(phase + 6.28 * rng.random()) for _ in range(4)]
    >>> found = strongest_wave(frames)
    >>> round(found.amplitude, 1), round(found.along_row, 2), round(found.along_column, 2), bool(found.chance < 1e-9)
    (1.5, 0.11, 0.32, True)
    """
    from scipy import fft, special

    count = len(frames)
    shape = frames[0].shape
    if count < 2 or min(shape) < 16:
        raise OptionError(f"{count} frames of {shape[1]} × {shape[0]} pixels: give two or more, 16 × 16 or larger")
    cut = tuple(
        slice((length - size) // 2, (length + size) // 2) for length in shape for size in [min(length, LARGEST)]
    )
    stack = np.stack([frame[cut] for frame in frames]).astype(np.float32)
    stack -= stack.mean(axis=0)
    ny, nx = stack.shape[1:]
    pixels = ny * nx
    power = np.zeros((ny, nx // 2 + 1))
    variance = 0.0
    for frame in stack:
        frame -= np.nanmedian(frame)
        scale = mad_sigma(frame[np.isfinite(frame)], 0.0)
        good = np.abs(frame) <= _CLIP * scale
        frame[~good] = 0
        variance += float(np.sum(frame**2, dtype=np.float64)) / max(int(good.sum()), 1) / (1 - 1 / count) / count
        power += np.abs(fft.rfft2(frame)) ** 2
    if not variance > 0:
        raise OptionError("the frames are all alike: there is no noise to look for a wave in")
    power /= pixels * variance * (count - 1)
    power[0, 0] = 0
    floor = _floor(power, count - 1)
    relative = power / floor
    relative[0, 0] = 0
    y, x = np.unravel_index(int(np.argmax(relative)), relative.shape)
    rows, columns = (np.arange(at - _REACH, at + _REACH + 1) for at in (int(y), int(x)))
    # frequencies below zero are those of the opposite side
    places = [(row if column >= 0 else -row, abs(column)) for row in rows for column in columns if column <= nx // 2]
    near, base = (np.array([plane[row % ny, column] for row, column in places]) for plane in (power, floor))
    excess = max(float(np.sum(near - base)), 0.0)
    amplitude = 2 * math.sqrt(variance * excess / pixels)
    scatter = math.sqrt((float(np.sum(base**2)) + 2 * excess * float(base.max())) / (count - 1))
    error = amplitude * scatter / (2 * excess) if excess > 0 else math.sqrt(variance / pixels)
    error = math.hypot(error, amplitude / (2 * (count - 1)))  # what random phases have in common is taken away
    peak = float(relative[y, x])
    chance = min(1.0, relative.size * float(special.gammaincc(count - 1, peak * (count - 1))))
    along = float(y) / ny if y <= ny // 2 else float(y) / ny - 1
    return Wave(amplitude, error, float(x) / nx, along, chance, relative.astype(np.float32))


def _floor(power: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """What noise has at each frequency: rows and columns that differ as a whole have more along the axes."""
    from scipy import special

    middle = float(special.gammaincinv(count, 0.5)) / count  # median of a mean of so many spectra
    level = np.maximum(np.median(power, axis=0), 1e-12)
    floor = np.broadcast_to(level / middle, power.shape).copy()
    floor[0] = np.maximum(floor[0], np.median(power[0, 1:]) / middle)
    return floor
