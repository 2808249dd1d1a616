"""The simulated camera: its constants, its honest header, and one chip with all its faults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.detector import Detector, Section
from larun.errors import OptionError
from larun.simulate.geometry import Pointing, wcs_matrix

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Camera", "Chip", "Grain", "shadow"]

KINDS = ("bias", "dark", "flat", "object")
INSTRUMENT = "larun simulated camera"

_VIGNETTING = 0.12  # of the light is lost in the corners
_PIXEL_RESPONSE = 0.01  # rms
_DUST = 4  # shadows per filter
_BIAS_GRADIENT = 6.0  # ADU from the first row to the last
_BIAS_COLUMNS = 1.5  # ADU, rms
_DARK_SCATTER = 0.1  # of the dark rate, rms
_HOT_RATES = (5.0, 200.0)  # electrons per second, uniform in the logarithm


def _positive(instance: Any, attribute: Any, value: float) -> None:
    if not 0 < value < math.inf:
        raise OptionError(f"{attribute.name} = {value}: must be positive and finite")


def _not_negative(instance: Any, attribute: Any, value: float) -> None:
    if not 0 <= value < math.inf:
        raise OptionError(f"{attribute.name} = {value}: must be at least 0 and finite")


def _shape(value: Sequence[int]) -> tuple[int, int]:
    ny, nx = (int(length) for length in value)
    return ny, nx


def _columns(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(column) for column in value)


class Grain(NamedTuple):
    """A grain of dust on a window or filter, out of focus: a ring shadow of this radius and depth, in pixels."""

    x: float
    y: float
    radius: float
    depth: float


class Chip(NamedTuple):
    """What one detector does to the light: the truth that calibration has to find.

    Attributes
    ----------
    bias : ndarray of float32
        (ny, nx) structure of the bias on top of the camera's level, ADU, which the overscan does not show; or of the
        raw shape, what every raw pixel shows.
    dark : ndarray of float32
        (ny, nx) dark current, electrons per second, hot pixels included.
    hot : ndarray of bool
        (ny, nx) the hot pixels.
    response : dict of str to ndarray of float32
        For each filter the (ny, nx) sensitivity, of mean 1 over the live pixels; 0 in dead columns.
    dust : dict of str to tuple of Grain
        For each filter the grains whose shadows are in the response.
    """

    bias: NDArray[np.float32]
    dark: NDArray[np.float32]
    hot: NDArray[np.bool_]
    response: dict[str, NDArray[np.float32]]
    dust: dict[str, tuple[Grain, ...]]


def _texts(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class Camera:
    """A CCD camera with one amplifier and its overscan columns at the right of the image.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx) of the light-sensitive pixels.
    overscan : int
        Overscan columns.
    gain : float
        Electrons per ADU.
    read_noise : float
        Electrons, rms.
    saturation : float
        ADU at which the converter stops, at most 65535; a saturated pixel reads exactly this.
    bias_level : float
        ADU.
    bias_drift : float
        Scatter of the bias level from frame to frame, ADU rms.
    dark_rate : float
        Mean dark current of good pixels, electrons per second.
    hot_fraction : float
        Fraction of the pixels that are hot: 5 … 200 electrons per second.
    dead_columns : tuple of int
        0-based columns that see no light.
    pixel_scale : float
        Arcseconds per pixel.
    filters : tuple of str
        Names of the filters.
    temperature : float
        Of the detector, degrees Celsius.
    name : str
        Written as INSTRUME.
    linearity : tuple of float
        As in :class:`larun.Amplifier`: what calibration has to apply. No card of the header says it: give
        ``camera.detector``.

    Raises
    ------
    OptionError
        If a value is impossible.

    Examples
    --------
    >>> camera = Camera(shape=(100, 200), overscan=16)
    >>> camera.raw_shape
    (100, 216)
    >>> camera.header("bias")["BIASSEC"]
    '[201:216,1:100]'
    """

    shape: tuple[int, int] = attrs.field(default=(1024, 1024), converter=_shape)
    overscan: int = 32
    gain: float = attrs.field(default=1.6, validator=_positive)
    read_noise: float = attrs.field(default=6.0, validator=_not_negative)
    saturation: float = attrs.field(default=60000.0, validator=_positive)
    bias_level: float = attrs.field(default=1000.0, validator=_not_negative)
    bias_drift: float = attrs.field(default=3.0, validator=_not_negative)
    dark_rate: float = attrs.field(default=0.05, validator=_not_negative)
    hot_fraction: float = attrs.field(default=1e-3, validator=_not_negative)
    dead_columns: tuple[int, ...] = attrs.field(default=(), converter=_columns)
    pixel_scale: float = attrs.field(default=0.6, validator=_positive)
    filters: tuple[str, ...] = attrs.field(default=("V", "R"), converter=_texts)
    temperature: float = -100.0
    name: str = INSTRUMENT
    linearity: tuple[float, ...] = attrs.field(default=(), converter=tuple)

    def __attrs_post_init__(self) -> None:
        ny, nx = self.shape
        if ny < 16 or nx < 16:
            raise OptionError(f"shape = {self.shape}: a camera has at least 16 × 16 pixels")
        if self.overscan < 0:
            raise OptionError(f"overscan = {self.overscan}: must be at least 0 columns")
        if not self.bias_level < self.saturation <= 65535 or self.saturation != round(self.saturation):
            raise OptionError(
                f"saturation = {self.saturation}: must be a whole number above the bias level, {self.bias_level}, "
                "and at most 65535 (uint16)"
            )
        if not self.hot_fraction < 1:
            raise OptionError(f"hot_fraction = {self.hot_fraction}: must be below 1")
        if any(not 0 <= column < nx for column in self.dead_columns) or len(set(self.dead_columns)) >= nx:
            raise OptionError(
                f"dead_columns = {self.dead_columns}: give columns from 0 to {nx - 1}, and leave some alive"
            )
        if not self.filters or len(set(self.filters)) < len(self.filters) or not all(f.isalnum() for f in self.filters):
            raise OptionError(
                f"filters = {self.filters}: give one name or more, letters and digits only, all different"
            )

    @property
    def raw_shape(self) -> tuple[int, int]:
        """(ny, nx) of a raw frame, overscan included."""
        return self.shape[0], self.shape[1] + self.overscan

    @property
    def data_section(self) -> Section:
        """The light-sensitive pixels of a raw frame."""
        return Section(0, self.shape[0], 0, self.shape[1])

    @property
    def overscan_section(self) -> Section | None:
        """The overscan of a raw frame; None where the camera has none."""
        return Section(0, self.shape[0], self.shape[1], self.raw_shape[1]) if self.overscan else None

    @property
    def detector(self) -> Detector:
        """The detector of a raw frame: what calibration has to know."""
        return Detector.single(
            self.raw_shape,
            data=self.data_section,
            overscan=self.overscan_section,
            gain=self.gain,
            read_noise=self.read_noise,
            saturation=self.saturation,
            linearity=self.linearity,
        )

    def resized(self, shape: tuple[int, int]) -> Self:
        """The same camera with another imaging area; dead columns keep their relative place."""
        columns = {column * shape[1] // self.shape[1] for column in self.dead_columns}
        return attrs.evolve(self, shape=shape, dead_columns=sorted(columns))

    def _check_filter(self, band: str) -> str:
        """The filter's name, or an error that lists those there are."""
        if band not in self.filters:
            raise OptionError(f"filter {band!r}: this camera has {', '.join(self.filters)}")
        return band

    def header(
        self, kind: str, *, exposure: float = 0.0, band: str | None = None, date_obs: str = "2026-03-14T18:00:00.000"
    ) -> Header:
        """The header of a raw frame; every value is true.

        Parameters
        ----------
        kind : {'bias', 'dark', 'flat', 'object'}
            Written as IMAGETYP.
        exposure : float
            Seconds.
        band : str or None
            Filter; frames without light name none.
        date_obs : str
            Start of the exposure, UTC.

        Raises
        ------
        OptionError
            If the kind, the exposure, the filter or the date is impossible.
        """
        from astropy.io import fits

        try:
            start = datetime.fromisoformat(date_obs)
        except ValueError as error:
            raise OptionError(f"date_obs = {date_obs!r}: give it as 2026-03-14T18:00:00.000, UTC") from error
        if kind not in KINDS:
            raise OptionError(f"kind = {kind!r}: use one of {', '.join(KINDS)}")
        if not 0 <= exposure < math.inf:
            raise OptionError(f"exposure = {exposure}: must be at least 0 s and finite")
        header = fits.Header()
        header["INSTRUME"] = (self.name, "no such camera exists")
        header["IMAGETYP"] = (kind, "kind of frame")
        header["DATE-OBS"] = (date_obs, "start of the exposure, UTC")
        header["TIMESYS"] = "UTC"
        header["MJD-OBS"] = ((start - datetime(1858, 11, 17)) / timedelta(days=1), "DATE-OBS as a modified Julian date")
        header["EXPTIME"] = (float(exposure), "[s]")
        if band is not None:
            header["FILTER"] = self._check_filter(band)
        header["GAIN"] = (self.gain, "[electron/adu]")
        header["RDNOISE"] = (self.read_noise, "[electron] rms")
        header["SATURATE"] = (self.saturation, "[adu] raw")
        header["CCD-TEMP"] = (self.temperature, "[deg C]")
        header["XBINNING"] = 1
        header["YBINNING"] = 1
        header["PIXSCALE"] = (self.pixel_scale, "[arcsec/pixel]")
        data = _fits_section(self.data_section)
        header["DATASEC"] = (data, "light-sensitive pixels")
        header["TRIMSEC"] = (data, "pixels to keep")
        if self.overscan_section is not None:
            header["BIASSEC"] = (_fits_section(self.overscan_section), "overscan")
        return header

    def wcs_cards(self, center: tuple[float, float], pointing: Pointing | None = None) -> dict[str, Any]:
        """The cards of a TAN WCS (TAN-SIP with distortion) for the raw array; north is up and east left if not turned.

        Parameters
        ----------
        center : tuple of float
            Right ascension and declination of the reference position, degrees: the middle of an undithered frame.
        pointing : Pointing or None
            Dither, rotation and distortion of the frame; None is the undithered one.
        """
        scale = self.pixel_scale / 3600
        pixel, matrix, sip = wcs_matrix(pointing or Pointing(), [[-scale, 0.0], [0.0, scale]])
        form = "-SIP" if sip else ""
        return {
            "CTYPE1": f"RA---TAN{form}",
            "CTYPE2": f"DEC--TAN{form}",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRPIX1": (self.shape[1] + 1) / 2 + pixel[0],
            "CRPIX2": (self.shape[0] + 1) / 2 + pixel[1],
            "CRVAL1": float(center[0]),
            "CRVAL2": float(center[1]),
            "CD1_1": float(matrix[0, 0]),
            "CD1_2": float(matrix[0, 1]),
            "CD2_1": float(matrix[1, 0]),
            "CD2_2": float(matrix[1, 1]),
            "RADESYS": "ICRS",
            **sip,
        }

    def chip(self, seed: int) -> Chip:
        """One chip of this kind: the same seed gives the same faults.

        Examples
        --------
        >>> chip = Camera(shape=(64, 64)).chip(seed=1)
        >>> round(float(chip.response["V"].mean()), 4)
        1.0
        """
        rng = np.random.default_rng([seed, 0])
        ny, nx = self.shape
        v, u = np.linspace(-1, 1, ny)[:, None], np.linspace(-1, 1, nx)[None, :]
        columns = rng.normal(0, _BIAS_COLUMNS, nx)
        bias = _BIAS_GRADIENT * (0.5 * v) + (columns - columns.mean())[None, :]

        dark = self.dark_rate * np.maximum(1 + _DARK_SCATTER * rng.standard_normal(self.shape), 0)
        hot = rng.random(self.shape) < self.hot_fraction
        dark[hot] += np.exp(rng.uniform(math.log(_HOT_RATES[0]), math.log(_HOT_RATES[1]), int(hot.sum())))

        pixels = 1 + _PIXEL_RESPONSE * rng.standard_normal(self.shape)
        live = np.ones(self.shape, dtype=bool)
        live[:, list(self.dead_columns)] = False
        response, dust = {}, {}
        for band in self.filters:
            light = (1 - _VIGNETTING * (u**2 + v**2) / 2) * pixels * live
            dust[band] = tuple(_grain(self.shape, rng) for _ in range(_DUST))
            for grain in dust[band]:
                light *= shadow(self.shape, grain)
            response[band] = (light / light[live].mean()).astype(np.float32)
        return Chip(bias.astype(np.float32), dark.astype(np.float32), hot, response, dust)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        return cls(**values)


def _grain(shape: tuple[int, int], rng: np.random.Generator) -> Grain:
    ny, nx = shape
    y0, x0 = rng.uniform(0, ny), rng.uniform(0, nx)
    radius, depth = rng.uniform(0.015, 0.03) * min(ny, nx), rng.uniform(0.02, 0.04)
    return Grain(x0, y0, radius, depth)


def shadow(shape: tuple[int, int], grain: Grain) -> NDArray[np.float64]:
    """(ny, nx) the light that a grain of dust lets through."""
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    distance = np.hypot(y - grain.y, x - grain.x)
    return np.asarray(1 - grain.depth * np.exp(-0.5 * ((distance - grain.radius) / (0.3 * grain.radius)) ** 2))


def _fits_section(section: Section) -> str:
    """The section as FITS writes it: 1-based, closed, x first."""
    return f"[{section.x0 + 1}:{section.x1},{section.y0 + 1}:{section.y1}]"
