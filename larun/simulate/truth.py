"""What is true about a simulated night, in memory and on disk.

The truth is three files in ``truth/``: ``night.json`` (seed, options, camera, every frame, the new source),
``stars.ecsv`` and ``cosmics.npz``. The chip is not stored: camera and seed make it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import FileError, OptionError
from larun.simulate.camera import Camera, Chip
from larun.simulate.damage import Damage
from larun.simulate.faults import Trail, trails_light
from larun.simulate.geometry import Pointing, place
from larun.simulate.options import NightOptions, options_from, plain_options

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["Deposits", "FrameTruth", "NewSource", "NightTruth", "read_truth", "write_truth"]

_FORMAT = 2


def _pair(values: Sequence[float]) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    return first, second


class Deposits(NamedTuple):
    """Cosmic-ray charge of a frame: flat pixel indices of the (ny, nx) image and electrons there."""

    pixels: NDArray[np.int32]
    electrons: NDArray[np.float32]


def _trails(values: Iterable[Trail | Mapping[str, float]]) -> tuple[Trail, ...]:
    return tuple(value if isinstance(value, Trail) else Trail(**value) for value in values)


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
        Electrons per second and pixel, in the middle of the field.
    transparency : float
        Fraction of the star light that arrives, extinction included.
    cosmic_count : int
        Cosmic rays.
    new_source : bool
        Whether the new source shines in this frame.
    rotation : float
        Degrees by which the sky is turned about the reference position.
    trail : tuple of float
        (dx, dy) by which the stars moved during the exposure, pixels.
    airmass : float or None
        Where extinction was asked for.
    gradient : tuple of float
        Of the sky, relative, from edge to edge along x and y.
    variable : float
        Flux of the variable star relative to its mean.
    satellites : tuple of Trail
        Trails across the frame.
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
    rotation: float = 0.0
    trail: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    airmass: float | None = None
    gradient: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_pair)
    variable: float = 1.0
    satellites: tuple[Trail, ...] = attrs.field(default=(), converter=_trails)


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
    variable_star : int or None
        ``id`` of the star that varies.
    """

    folder: Path
    seed: int
    options: NightOptions
    stars: QTable
    frames: tuple[FrameTruth, ...]
    new_source: NewSource | None = None
    variable_star: int | None = None

    @property
    def camera(self) -> Camera:
        """The camera of the night."""
        return self.options.camera

    def chip(self, frame: FrameTruth | None = None) -> Chip:
        """The chip: bias structure, dark current, hot pixels and response, as it was made; or as it was in a frame.

        In a frame it has the faults of the night: telegraph pixels and pickup are in its bias, glow and leaks in its
        dark current, shutter, filters and the errors of flats in its response.
        """
        damage = Damage.of(self.camera, self.options.faults, self.seed)
        if frame is None:
            return damage.chip
        return damage.chip_for(frame.kind, frame.band, frame.exposure, self.frames.index(frame))

    def select(self, kind: str, band: str | None = None) -> tuple[FrameTruth, ...]:
        """The frames of one kind, in one filter if ``band`` is given."""
        return tuple(f for f in self.frames if f.kind == kind and (band is None or f.band == band))

    def pointing(self, frame: FrameTruth) -> Pointing:
        """How the sky lies in a frame."""
        return Pointing(offset=frame.offset, rotation=frame.rotation, distortion=self.options.optics.distortion)

    def place(self, frame: FrameTruth, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where places of the undithered frame lie in a frame, pixels."""
        return place(self.pointing(frame), self.camera.shape, x, y)

    def positions(self, frame: FrameTruth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the catalogue's stars lie in a frame, (x, y) in pixels of the raw and of the trimmed array."""
        return self.place(frame, np.asarray(self.stars["x"]), np.asarray(self.stars["y"]))

    def rates(self, frame: FrameTruth) -> NDArray[np.float64]:
        """Electrons per second that arrive from each star of the catalogue: its rate, the air, and its own changes."""
        rate = np.array(self.stars[f"rate_{frame.band}"].value, dtype=np.float64)
        if self.variable_star is not None:
            rate[self.stars["id"] == self.variable_star] *= frame.variable
        return np.asarray(rate * frame.transparency)

    def sky(self, frame: FrameTruth) -> NDArray[np.float64]:
        """(ny, nx) electrons per second of the sky in a science frame, before the response: gradient and fringes."""
        if frame.sky is None or frame.band is None:
            raise OptionError(f"{frame.path.name} is a {frame.kind} frame: only science frames have a sky")
        damage = Damage.of(self.camera, self.options.faults, self.seed)
        return frame.sky * damage.sky_pattern(frame.band, frame.gradient)

    def satellites(self, frame: FrameTruth) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(ny, nx) electrons of satellite trails in a frame, before the response, and the pixels they lie on."""
        return trails_light(self.camera.shape, frame.satellites)

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
        "options": plain_options(truth.options),
        "frames": [{**attrs.asdict(frame), "path": frame.path.name} for frame in truth.frames],
        "new_source": attrs.asdict(truth.new_source) if truth.new_source else None,
        "variable_star": truth.variable_star,
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
        options=options_from(values["options"]),
        stars=stars,
        frames=frames,
        new_source=new_source,
        variable_star=values["variable_star"],
    )
