"""What is true about a simulated night, in memory and on disk.

The truth is three files in ``truth/``: ``night.json`` (seed, options, camera, every frame, the new source),
``stars.ecsv`` and ``cosmics.npz``. The chip is not stored: camera and seed make it again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.errors import FileError, OptionError
from larun.simulate.camera import Camera, Chip

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["Deposits", "FrameTruth", "NewSource", "NightOptions", "NightTruth", "read_truth", "write_truth"]

_FORMAT = 1


def _pair(values: Sequence[float]) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    return first, second


class Deposits(NamedTuple):
    """Cosmic-ray charge of a frame: flat pixel indices of the (ny, nx) image and electrons there."""

    pixels: NDArray[np.int32]
    electrons: NDArray[np.float32]


def _numbers(value: Iterable[float]) -> tuple[float, ...]:
    return tuple(value)


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

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "camera": Camera.from_dict(values["camera"])})


@attrs.frozen(kw_only=True)
class FrameTruth:
    """The truth about one raw file.

    Parameters
    ----------
    path : Path
        The file.
    kind : {'bias', 'dark', 'flat', 'object'}
        As in IMAGETYP.
    band : str or None
        Filter.
    exposure : float
        Seconds.
    date_obs : str
        Start of the exposure, UTC.
    bias_level : float
        ADU, this frame's drift included.
    level : float or None
        Of a flat: mean ADU above bias.
    offset : tuple of float
        (dx, dy): a star at (x, y) of the catalogue lies at (x + dx, y + dy) in this frame.
    seeing : float or None
        FWHM, pixels.
    sky : float or None
        Electrons per second and pixel.
    transparency : float
        Fraction of the star light that arrives.
    cosmic_count : int
        Cosmic rays.
    new_source : bool
        Whether the new source shines in this frame.
    """

    path: Path
    kind: str
    band: str | None = None
    exposure: float = 0.0
    date_obs: str = ""
    bias_level: float = 0.0
    level: float | None = None
    offset: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    seeing: float | None = None
    sky: float | None = None
    transparency: float = 1.0
    cosmic_count: int = 0
    new_source: bool = False


@attrs.frozen(kw_only=True)
class NewSource:
    """A source that is absent from the first frames: place in the undithered frame, sky position, brightness.

    ``rate`` is in electrons per second through filter ``band``; ``ra`` and ``dec`` are in degrees.
    """

    x: float
    y: float
    ra: float
    dec: float
    band: str
    magnitude: float
    rate: float


@attrs.frozen(kw_only=True, eq=False)
class NightTruth:
    """All that is true about a simulated night.

    Parameters
    ----------
    folder : Path
        Where the raw files are.
    seed : int
        Seed of all random numbers.
    options : NightOptions
        What was asked for; the camera among it.
    stars : QTable
        ``id x y ra dec`` and for each filter ``mag_<filter>``, ``rate_<filter>`` (electron/s at transparency 1) and
        ``saturated_<filter>`` (in at least one frame); x and y in pixels of the undithered frame. The new source is
        not among them.
    frames : tuple of FrameTruth
        In the order they were taken.
    new_source : NewSource or None
        The source that appears.
    """

    folder: Path
    seed: int
    options: NightOptions
    stars: QTable
    frames: tuple[FrameTruth, ...]
    new_source: NewSource | None = None

    @property
    def camera(self) -> Camera:
        """The camera of the night."""
        return self.options.camera

    def chip(self) -> Chip:
        """The chip: bias structure, dark current, hot pixels and response."""
        return self.camera.chip(self.seed)

    def select(self, kind: str, band: str | None = None) -> tuple[FrameTruth, ...]:
        """The frames of one kind, in one filter if ``band`` is given."""
        return tuple(f for f in self.frames if f.kind == kind and (band is None or f.band == band))

    def positions(self, frame: FrameTruth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the catalogue's stars lie in a frame, (x, y) in pixels of the raw and of the trimmed array."""
        return np.asarray(self.stars["x"]) + frame.offset[0], np.asarray(self.stars["y"]) + frame.offset[1]

    def cosmics(self, frame: FrameTruth) -> NDArray[np.float32]:
        """(ny, nx) electrons that cosmic rays left in a frame, 0 elsewhere; deposits below 1 electron are left out."""
        image = np.zeros(self.camera.shape, dtype=np.float32)
        with np.load(self.folder / "truth" / "cosmics.npz") as stored:
            if f"{frame.path.stem}-pixels" in stored:
                image.flat[stored[f"{frame.path.stem}-pixels"]] = stored[f"{frame.path.stem}-electrons"]
        return image


def write_truth(truth: NightTruth, cosmics: Mapping[str, Deposits]) -> None:
    """Write the truth of a night into its folder ``truth/``, which must exist.

    Parameters
    ----------
    truth : NightTruth
        The truth.
    cosmics : mapping of str to Deposits
        For the stem of each file's name, the cosmic rays in it.
    """
    folder = truth.folder / "truth"
    values = {
        "format": _FORMAT,
        "seed": truth.seed,
        "options": truth.options.to_dict(),
        "frames": [{**attrs.asdict(frame), "path": frame.path.name} for frame in truth.frames],
        "new_source": attrs.asdict(truth.new_source) if truth.new_source else None,
    }
    (folder / "night.json").write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    truth.stars.write(folder / "stars.ecsv", format="ascii.ecsv")
    arrays: dict[str, Any] = {}
    for stem, deposits in cosmics.items():
        if len(deposits.pixels):
            arrays[f"{stem}-pixels"], arrays[f"{stem}-electrons"] = deposits
    np.savez_compressed(folder / "cosmics.npz", **arrays)


def read_truth(folder: str | Path) -> NightTruth:
    """The truth about a night that :func:`simulate_night` wrote.

    Raises
    ------
    FileError
        If the folder has no truth, or one of another format.
    """
    from astropy.table import QTable

    folder = Path(folder)
    source = folder / "truth" / "night.json"
    try:
        values = json.loads(source.read_text(encoding="utf-8"))
        stars = QTable.read(folder / "truth" / "stars.ecsv", format="ascii.ecsv")
    except (OSError, ValueError) as error:
        raise FileError(f"{source}: no truth of a simulated night can be read: {error}") from error
    if values.get("format") != _FORMAT:
        raise FileError(
            f"{source}: format {values.get('format')}, this larun reads {_FORMAT}: simulate the night again"
        )
    frames = tuple(FrameTruth(**{**row, "path": folder / row["path"]}) for row in values["frames"])
    new_source = NewSource(**values["new_source"]) if values["new_source"] else None
    return NightTruth(
        folder=folder,
        seed=values["seed"],
        options=NightOptions.from_dict(values["options"]),
        stars=stars,
        frames=frames,
        new_source=new_source,
    )
