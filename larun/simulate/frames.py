"""Raw frames: what the sky, the optics and the chip make of the light, ending in whole numbers.

The chain is the inverse of calibration. Electrons are Poisson of ``(sky + stars) × response + dark × t``, plus cosmic
rays; ADU are electrons / gain plus the bias with its structure and this frame's drift plus read noise, rounded and cut
at the saturation level. Overscan columns hold the bias level and read noise only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from larun.errors import OptionError
from larun.simulate.camera import Camera, Chip
from larun.simulate.cosmics import cosmic_rays
from larun.simulate.drawing import render_profile
from larun.simulate.geometry import Pointing
from larun.simulate.profiles import Profile, Varying
from larun.simulate.readout import RawFrame, photons, read_out
from larun.simulate.stars import render

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = ["Scene", "noisy", "raw_bias", "raw_dark", "raw_flat", "raw_science"]

_START = "2026-03-14T18:00:00.000"


def _column(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


@attrs.frozen(kw_only=True, eq=False)
class Scene:
    """What a science frame looks at.

    Parameters
    ----------
    band : str
        Filter.
    exposure : float
        Seconds.
    x, y : array_like
        Positions of the stars in this frame, pixels.
    rate : array_like
        Electrons per second of each star over the infinite plane.
    fwhm : float
        Seeing, pixels.
    beta : float or None
        Moffat exponent, None for a Gaussian.
    sky : float
        Electrons per second and pixel.
    cosmics : int
        Cosmic rays.
    target : str
        Written as OBJECT.
    center : tuple of float
        Right ascension and declination, degrees, of the reference position (the middle of an undithered frame).
    pointing : Pointing
        How the sky of the undithered frame lies in this one: it decides the WCS.
    date_obs : str
        Start of the exposure, UTC.
    profile : Profile, Varying or None
        What the stars look like; None is a round Moffat or Gaussian by ``fwhm`` and ``beta``.
    sky_pattern : array_like (ny, nx) or None
        Of the sky, relative to ``sky``: a gradient, fringes.
    light : array_like (ny, nx) or None
        Expected electrons of anything else that shines, such as a satellite's trail.
    airmass : float or None
        Written as AIRMASS if given.
    """

    band: str
    exposure: float
    x: NDArray[np.float64] = attrs.field(converter=_column)
    y: NDArray[np.float64] = attrs.field(converter=_column)
    rate: NDArray[np.float64] = attrs.field(converter=_column)
    fwhm: float = 3.0
    beta: float | None = 3.0
    sky: float = 5.0
    cosmics: int = 0
    target: str = "simulated field"
    center: tuple[float, float] = (202.5, 18.0)
    pointing: Pointing = attrs.field(factory=Pointing)
    date_obs: str = _START
    profile: Profile | Varying | None = None
    sky_pattern: ArrayLike | None = None
    light: ArrayLike | None = None
    airmass: float | None = None

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.sky < math.inf or not 0 < self.exposure < math.inf:
            raise OptionError(f"sky = {self.sky}, exposure = {self.exposure}: give sky >= 0 and exposure > 0, finite")
        if not (np.isfinite(self.rate).all() and (self.rate >= 0).all()):
            raise OptionError("rate: every star's electrons per second must be finite and at least 0")
        if not -90 < self.center[1] < 90:
            raise OptionError(f"center = {self.center}: the declination must lie between -90 and 90 degrees")


def noisy(
    expected_electrons: ArrayLike, *, read_noise: float, rng: np.random.Generator, gain: float = 1.0
) -> NDArray[np.float32]:
    """Photon and read noise on an expected image, not rounded: what statistical tests of the algorithms need.

    Parameters
    ----------
    expected_electrons : array_like
        Expected electrons per pixel, none negative.
    read_noise : float
        Electrons, rms.
    rng : numpy.random.Generator
        Source of the random numbers.
    gain : float
        Electrons per ADU; 1 leaves the result in electrons.

    Returns
    -------
    ndarray of float32
        ``(Poisson(expected) + Normal(0, read_noise)) / gain``.

    Raises
    ------
    OptionError
        If an expected value is negative or not finite, or read noise or gain is impossible.

    Examples
    --------
    >>> image = noisy(np.full((200, 200), 100.0), read_noise=5.0, rng=np.random.default_rng(1))
    >>> round(float(image.var()) / 125, 1)
    1.0
    """
    if not 0 <= read_noise < math.inf or not 0 < gain < math.inf:
        raise OptionError(f"read_noise = {read_noise}, gain = {gain}: give read_noise >= 0 and gain > 0, finite")
    electrons = photons(expected_electrons, rng=rng)
    electrons += read_noise * rng.standard_normal(electrons.shape)
    return (electrons / gain).astype(np.float32)


def raw_bias(camera: Camera, chip: Chip, *, rng: np.random.Generator, date_obs: str = _START) -> RawFrame:
    """A bias frame: bias level with this frame's drift, its structure, read noise."""
    none = np.zeros(camera.shape, dtype=np.float32)
    return _read_out(camera, chip, none, none, camera.header("bias", date_obs=date_obs), rng)


def raw_dark(
    camera: Camera,
    chip: Chip,
    *,
    exposure: float,
    rng: np.random.Generator,
    cosmics: int = 0,
    date_obs: str = _START,
) -> RawFrame:
    """A dark frame of ``exposure`` seconds: a bias frame with dark current and cosmic rays."""
    header = camera.header("dark", exposure=exposure, date_obs=date_obs)
    electrons = photons(chip.dark * np.float64(exposure), rng=rng)
    return _read_out(camera, chip, electrons, cosmic_rays(camera.shape, count=cosmics, rng=rng), header, rng)


def raw_flat(
    camera: Camera,
    chip: Chip,
    *,
    band: str,
    level: float,
    rng: np.random.Generator,
    exposure: float = 3.0,
    date_obs: str = _START,
) -> RawFrame:
    """A flat field through filter ``band``, on average ``level`` ADU above the bias."""
    if not 0 < level < math.inf:
        raise OptionError(f"level = {level}: the mean of a flat must be positive, in ADU above the bias")
    header = camera.header("flat", exposure=exposure, band=band, date_obs=date_obs)
    expected = chip.response[band] * (level * camera.gain) + chip.dark * np.float64(exposure)
    none = np.zeros(camera.shape, dtype=np.float32)
    return _read_out(camera, chip, photons(expected, rng=rng), none, header, rng)


def raw_science(camera: Camera, chip: Chip, scene: Scene, *, rng: np.random.Generator) -> RawFrame:
    """A science frame of a scene, with a WCS (TAN, or TAN-SIP) that is exactly right for the raw array.

    Notes
    -----
    A dither moves the reference pixel and leaves the reference position, so that stars of an undithered frame shift by
    exactly its offset if nothing turns or distorts them. RA and DEC say where the middle of the chip looks.
    """
    header = camera.header("object", exposure=scene.exposure, band=scene.band, date_obs=scene.date_obs)
    _point(header, camera, scene)
    light = _light(camera, scene)
    expected = light * chip.response[scene.band] + chip.dark * np.float64(scene.exposure)
    cosmics = cosmic_rays(camera.shape, count=scene.cosmics, rng=rng)
    return _read_out(camera, chip, photons(expected, rng=rng), cosmics, header, rng)


def _light(camera: Camera, scene: Scene) -> NDArray[np.float64]:
    """Expected electrons of all that shines, where the response is 1."""
    stars = scene.x, scene.y, scene.rate * scene.exposure
    if scene.profile is None:
        light = render(camera.shape, *stars, fwhm=scene.fwhm, beta=scene.beta)
    else:
        light = render_profile(camera.shape, *stars, profile=scene.profile)
    if scene.sky_pattern is None:
        light += scene.sky * scene.exposure
    else:
        light += scene.sky * scene.exposure * _plane(scene.sky_pattern, camera, "sky_pattern")
    return light if scene.light is None else light + _plane(scene.light, camera, "light")


def _plane(values: ArrayLike, camera: Camera, name: str) -> NDArray[np.float64]:
    plane = np.asarray(values, dtype=np.float64)
    if plane.shape != camera.shape or not (np.isfinite(plane).all() and plane.min() >= 0):
        raise OptionError(f"{name}: give a plane of shape {camera.shape}, finite and at least 0 everywhere")
    return plane


def _read_out(
    camera: Camera,
    chip: Chip,
    electrons: NDArray[np.floating],
    cosmics: NDArray[np.float32],
    header: Header,
    rng: np.random.Generator,
) -> RawFrame:
    """A frame of the camera, its bias drifted to a level of its own."""
    level = camera.bias_level + camera.bias_drift * float(rng.standard_normal())
    data = read_out(
        camera.detector, electrons + cosmics, rng=rng, shape=camera.raw_shape, bias_levels=level, bias=chip.bias
    )
    return RawFrame(data, header, (level,), cosmics)


def _point(header: Header, camera: Camera, scene: Scene) -> None:
    """Write target, WCS, and where the middle of the chip looks."""
    from astropy.coordinates import Angle
    from astropy.io import fits
    from astropy.wcs import WCS

    cards = fits.Header(camera.wcs_cards(scene.center, scene.pointing))
    middle = (camera.shape[1] - 1) / 2, (camera.shape[0] - 1) / 2
    ra, dec = (float(value) for value in WCS(cards).pixel_to_world_values(*middle))
    hours = Angle(ra, "deg").to_string("hourangle", sep=":", precision=2, pad=True)
    degrees = Angle(dec, "deg").to_string("deg", sep=":", precision=1, pad=True, alwayssign=True)
    header["OBJECT"] = scene.target
    header["RA"] = (hours, "[h:m:s] ICRS, middle of the chip")
    header["DEC"] = (degrees, "[d:m:s] ICRS, middle of the chip")
    if scene.airmass is not None:
        header["AIRMASS"] = (scene.airmass, "in the middle of the exposure")
    header.update(cards)
