"""What goes wrong in cameras, each fault a pure function that gives a plane.

Light (fringes, satellites) and leaks are in electrons, or relative to the sky; what the chip does is in electrons per
second or a factor; what the electronics do is in ADU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.detector import Detector
from larun.errors import OptionError

__all__ = [
    "Telegraph",
    "Trail",
    "amplifier_glow",
    "bad_columns",
    "bayer",
    "crosstalk",
    "fringes",
    "light_leak",
    "pickup",
    "shutter_delay",
    "smooth_field",
    "telegraph_pixels",
    "trail_light",
    "trails_light",
]

Array = NDArray[np.float64]

CORNERS = ("lower left", "lower right", "upper left", "upper right")


def _shaped(shape: tuple[int, int]) -> tuple[Array, Array]:
    """Coordinates (v, u), each from -1 to 1."""
    return np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]


def smooth_field(shape: tuple[int, int], *, rng: np.random.Generator, waves: int = 3) -> Array:
    """A smooth random pattern of mean 0 and rms 1: cosines of up to ``waves`` half periods across the field.

    Examples
    --------
    >>> field = smooth_field((40, 50), rng=np.random.default_rng(1))
    >>> round(float(field.mean()), 6) + 0.0, round(float(field.std()), 6)
    (0.0, 1.0)
    """
    if waves < 1:
        raise OptionError(f"waves = {waves}: must be at least 1")
    v, u = _shaped(shape)
    made = np.zeros(shape)
    for i in range(waves + 1):
        for j in range(waves + 1):
            if 0 < i + j <= waves:
                strength, phases = rng.standard_normal() / (i + j), rng.uniform(0, 2 * math.pi, 2)
                made += strength * np.cos(0.5 * math.pi * j * u + phases[0]) * np.cos(0.5 * math.pi * i * v + phases[1])
    made -= made.mean()
    return np.asarray(made / made.std())


def fringes(shape: tuple[int, int], *, rng: np.random.Generator, count: float = 12.0) -> Array:
    """The interference pattern of night-sky lines in a thin chip: of mean 0, from -1 to 1 or nearly so.

    The phase is that of light which crosses a film of smoothly varying thickness twice, so that fringes are its contour
    lines (Howell 2006, Handbook of CCD Astronomy, chapter 4, shows real ones).

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    rng : numpy.random.Generator
        Source of the chip's thickness.
    count : float
        About how many fringes cross the chip.

    Examples
    --------
    >>> pattern = fringes((64, 64), rng=np.random.default_rng(1))
    >>> abs(round(float(pattern.mean()), 6)), bool(0.5 < pattern.std() < 0.9)
    (0.0, True)
    """
    if not 0 < count < max(shape) / 4:
        raise OptionError(f"count = {count}: give more than 0 and fewer than {max(shape) / 4:.0f} fringes")
    thickness = smooth_field(shape, rng=rng)
    pattern = np.cos(2 * math.pi * count * thickness / np.ptp(thickness) + rng.uniform(0, 2 * math.pi))
    return np.asarray(pattern - pattern.mean())


@attrs.frozen(kw_only=True)
class Trail:
    """The trail of a satellite or meteor that crosses a frame on a straight line.

    Parameters
    ----------
    x, y : float
        A place it goes through, pixels.
    angle : float
        Degrees from +x towards +y.
    width : float
        Full width at half maximum of its Gaussian profile, pixels, at least 1.
    brightness : float
        Electrons per pixel of its length.
    """

    x: float
    y: float
    angle: float
    width: float = 3.0
    brightness: float = 1000.0

    def __attrs_post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.x, self.y, self.angle)):
            raise OptionError(f"x = {self.x}, y = {self.y}, angle = {self.angle}: must be finite")
        if not 1 <= self.width < math.inf or not 0 <= self.brightness < math.inf:
            raise OptionError(f"width = {self.width}, brightness = {self.brightness}: give width >= 1, brightness >= 0")


def trail_light(shape: tuple[int, int], trail: Trail) -> tuple[Array, NDArray[np.bool_]]:
    """The light of a trail, and the pixels it lies on.

    Returns
    -------
    light : ndarray (ny, nx)
        Expected electrons. The pixel widens the profile by 1/12 square pixel, whatever the angle; values are right to a
        few 1e-3 of the peak.
    mask : ndarray of bool (ny, nx)
        Where the light is more than 1 % of the peak.

    Examples
    --------
    >>> light, mask = trail_light((41, 61), Trail(x=30.0, y=20.0, angle=0.0, width=3.0, brightness=500.0))
    >>> round(float(light[:, 10].sum()), 3), int(mask[:, 10].sum())
    (500.0, 7)
    """
    angle = math.radians(trail.angle)
    y, x = np.arange(shape[0])[:, None] - trail.y, np.arange(shape[1])[None, :] - trail.x
    away = y * math.cos(angle) - x * math.sin(angle)
    variance = (trail.width / math.sqrt(8 * math.log(2))) ** 2 + 1 / 12
    profile = np.exp(away**2 / (-2 * variance))
    return np.asarray(trail.brightness * profile / math.sqrt(2 * math.pi * variance)), np.asarray(profile > 0.01)


def trails_light(shape: tuple[int, int], trails: Iterable[Trail]) -> tuple[Array, NDArray[np.bool_]]:
    """The light of several trails together, and the pixels they lie on: as :func:`trail_light`."""
    light, mask = np.zeros(shape), np.zeros(shape, dtype=bool)
    for trail in trails:
        more, where = trail_light(shape, trail)
        light += more
        mask |= where
    return light, mask


def crosstalk(
    detector: Detector, electrons: ArrayLike, *, leak: ArrayLike, corners: Sequence[str] | None = None
) -> Array:
    """What amplifiers pick up from each other: ghosts, at the pixels that are read at the same moment.

    Parameters
    ----------
    detector : Detector
        Of the raw array.
    electrons : array_like, shape ``detector.trimmed_shape``
        Electrons in each light-sensitive pixel.
    leak : array_like (n, n)
        ``leak[i][j]``: the fraction of the electrons under amplifier j that appears under amplifier i; the diagonal is
        zero. (Ratios of counts are these times gain j over gain i.)
    corners : sequence of str, optional
        For each amplifier the corner of its data section that is read first: "lower left", and so on; by default the
        corner of its half or quadrant, as cameras have it.

    Returns
    -------
    ndarray
        The electrons with all ghosts added, to be read out (Freyhammer et al. 2001, Experimental Astronomy 12, 147,
        measure and remove it).

    Raises
    ------
    OptionError
        If the matrix does not fit the amplifiers, or a corner is unknown.

    Examples
    --------
    >>> from larun import Amplifier, Detector, Section
    >>> halves = [Amplifier(data=Section(0, 1, 0, 3), name="L"), Amplifier(data=Section(0, 1, 3, 6), name="R")]
    >>> detector = Detector(amplifiers=halves)
    >>> crosstalk(detector, [[1000.0, 0, 0, 0, 0, 0]], leak=[[0, 0], [0.01, 0]]).tolist()
    [[1000.0, 0.0, 0.0, 0.0, 0.0, 10.0]]
    """
    values = np.array(electrons, dtype=np.float64)
    matrix = np.asarray(leak, dtype=np.float64)
    placed = [amplifier.data for amplifier in detector.trimmed().amplifiers]
    count = len(placed)
    ny, nx = detector.trimmed_shape
    if values.shape != (ny, nx) or matrix.shape != (count, count) or not np.isfinite(matrix).all() or matrix.trace():
        raise OptionError(
            f"electrons {values.shape}, leak {matrix.shape}: give electrons of shape {(ny, nx)} and a finite matrix "
            f"of {count} × {count} whose diagonal is zero"
        )
    if corners is None:
        corners = [
            f"{'upper' if at.y0 + at.y1 > ny and at.y0 > 0 else 'lower'} {'right' if at.x0 + at.x1 > nx else 'left'}"
            for at in placed
        ]
    if len(corners) != count or not set(corners) <= set(CORNERS):
        raise OptionError(f"corners = {corners}: give one of {', '.join(CORNERS)} for each of {count} amplifiers")
    read = [_as_read(values[at.slices], corner).copy() for at, corner in zip(placed, corners, strict=True)]
    for i, (at, corner) in enumerate(zip(placed, corners, strict=True)):
        mine = _as_read(values[at.slices], corner)  # a view: what is added to it appears in the mosaic
        for j, other in enumerate(read):
            rows, columns = min(len(mine), len(other)), min(mine.shape[1], other.shape[1])
            mine[:rows, :columns] += matrix[i, j] * other[:rows, :columns]
    return values


def _as_read(block: Array, corner: str) -> Array:
    """The block in the order in which it is read."""
    block = block[::-1] if corner.startswith("upper") else block
    return block[:, ::-1] if corner.endswith("right") else block


class Telegraph(NamedTuple):
    """Pixels that switch between two levels: where they are, and the upper level above the lower, electrons."""

    pixels: NDArray[np.intp]
    step: Array

    def electrons(self, shape: tuple[int, int], rng: np.random.Generator) -> Array:
        """(ny, nx) the levels in one frame; each pixel is up in half of the frames."""
        made = np.zeros(shape)
        made.flat[self.pixels] = self.step * (rng.random(len(self.pixels)) < 0.5)
        return made


def telegraph_pixels(
    shape: tuple[int, int], *, fraction: float, step: tuple[float, float], rng: np.random.Generator
) -> Telegraph:
    """Random telegraph pixels: their steps are uniform in the logarithm between two limits, electrons.

    Examples
    --------
    >>> found = telegraph_pixels((100, 100), fraction=0.01, step=(50.0, 500.0), rng=np.random.default_rng(1))
    >>> len(found.pixels), bool(50 <= found.step.min() <= found.step.max() <= 500)
    (100, True)
    """
    if not 0 <= fraction < 1 or not 0 < step[0] <= step[1] < math.inf:
        raise OptionError(f"fraction = {fraction}, step = {step}: give 0 <= fraction < 1 and 0 < low <= high")
    count = round(fraction * shape[0] * shape[1])
    pixels = np.sort(rng.choice(shape[0] * shape[1], count, replace=False)).astype(np.intp)
    return Telegraph(pixels, np.exp(rng.uniform(math.log(step[0]), math.log(step[1]), count)))


def bad_columns(
    shape: tuple[int, int], *, count: int, rng: np.random.Generator, response: float = 0.4
) -> tuple[Array, NDArray[np.bool_]]:
    """Columns with a trap: from some row to the top their pixels give only part of the light.

    Returns
    -------
    factor : ndarray (ny, nx)
        On the response: ``response`` in the bad parts, 1 elsewhere.
    mask : ndarray of bool (ny, nx)
        The bad parts.
    """
    if not 0 <= count <= shape[1] or not 0 <= response <= 1:
        raise OptionError(f"count = {count}, response = {response}: give 0 to {shape[1]} columns, 0 <= response <= 1")
    mask = np.zeros(shape, dtype=bool)
    for column, row in zip(rng.choice(shape[1], count, replace=False), rng.integers(0, shape[0], count), strict=True):
        mask[row:, column] = True
    return np.where(mask, response, 1.0), mask


def light_leak(shape: tuple[int, int], *, corner: str = "upper right", reach: float = 0.3) -> Array:
    """Stray light from one corner, 1 there and falling to 1/e at ``reach`` of the diagonal."""
    return _from_corner(shape, corner, reach * math.hypot(*shape))


def amplifier_glow(shape: tuple[int, int], *, corner: str = "lower left", scale: float = 40.0) -> Array:
    """The glow of an amplifier in the pixels near it: 1 in the corner, falling to 1/e within ``scale`` pixels."""
    return _from_corner(shape, corner, scale)


def _from_corner(shape: tuple[int, int], corner: str, scale: float) -> Array:
    if corner not in CORNERS or not 0 < scale < math.inf:
        raise OptionError(f"corner = {corner!r}, scale = {scale} pixels: use one of {', '.join(CORNERS)}, above 0")
    y, x = np.arange(shape[0], dtype=np.float64)[:, None], np.arange(shape[1], dtype=np.float64)[None, :]
    dy = y[::-1] if corner.startswith("upper") else y
    dx = x[:, ::-1] if corner.endswith("right") else x
    return np.asarray(np.exp(-np.hypot(dx, dy) / scale))


def pickup(shape: tuple[int, int], *, amplitude: float, period: float, phase: float) -> Array:
    """Interference from the mains or a clock: a sine in the order in which pixels are read, row by row.

    Parameters
    ----------
    shape : tuple of int
        Of the raw array: the overscan shows it too.
    amplitude : float
        ADU.
    period : float
        In pixels read; twice the length of a row and a bit gives slanting bands.
    phase : float
        Turns; another in each frame.

    Examples
    --------
    >>> pickup((1, 4), amplitude=2.0, period=4.0, phase=0.0).round(6).tolist()
    [[0.0, 2.0, 0.0, -2.0]]
    """
    if not 0 <= amplitude < math.inf or not 2 <= period < math.inf or not math.isfinite(phase):
        raise OptionError(f"amplitude = {amplitude}, period = {period}: give amplitude >= 0, period >= 2 pixels")
    order = np.arange(shape[0] * shape[1], dtype=np.float64).reshape(shape)
    return np.asarray(amplitude * np.sin(2 * math.pi * (order / period + phase)))


def shutter_delay(shape: tuple[int, int], *, seconds: float, blades: int = 6) -> Array:
    """By how much longer each pixel is exposed than the corners: an iris opens from the middle and closes to it.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    seconds : float
        In the middle, where the shutter is open the longest.
    blades : int
        The opening is a star of so many points, at least 3.

    Returns
    -------
    ndarray (ny, nx)
        Seconds, 0 in the corners.
    """
    if not 0 <= seconds < math.inf or blades < 3:
        raise OptionError(f"seconds = {seconds}, blades = {blades}: give seconds >= 0 and at least 3 blades")
    v, u = _shaped(shape)
    radius = np.hypot(u, v) / math.sqrt(2)
    wobble = 1 - 0.08 * radius * (1 + np.cos(blades * np.arctan2(v, u)))
    return np.asarray(seconds * np.clip(1 - radius * wobble, 0.0, 1.0))


def bayer(shape: tuple[int, int], pattern: str, transmissions: dict[str, float]) -> Array:
    """The transmission of a colour filter array over each pixel, its first pixel at (0, 0).

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    pattern : str
        Colours of the first row's first two pixels and the second row's, such as ``RGGB`` or ``GBRG``.
    transmissions : dict
        For each colour of the pattern, 0 to 1.

    Examples
    --------
    >>> bayer((2, 4), "RGGB", {"R": 0.5, "G": 1.0, "B": 0.7}).tolist()
    [[0.5, 1.0, 0.5, 1.0], [1.0, 0.7, 1.0, 0.7]]
    """
    if len(pattern) != 4 or not set(pattern) <= set(transmissions):
        raise OptionError(
            f"pattern = {pattern!r}: give four letters such as RGGB, and a transmission for each; there are "
            f"{', '.join(sorted(transmissions)) or 'none'}"
        )
    if not all(0 <= value <= 1 for value in transmissions.values()):
        raise OptionError(f"transmissions = {transmissions}: each must lie between 0 and 1")
    made = np.empty(shape)
    for n, color in enumerate(pattern):
        made[n // 2 :: 2, n % 2 :: 2] = transmissions[color]
    return made
