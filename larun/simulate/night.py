"""A whole raw night on disk, with its truth beside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from larun.algorithms.jit import threads
from larun.errors import FileError, OptionError
from larun.simulate.camera import Camera, Chip
from larun.simulate.conditions import reach, with_conditions
from larun.simulate.damage import Damage
from larun.simulate.faults import trails_light
from larun.simulate.frames import Scene, raw_bias, raw_dark, raw_flat, raw_science
from larun.simulate.geometry import Pointing, place
from larun.simulate.options import NightOptions
from larun.simulate.readout import RawFrame
from larun.simulate.stars import draw_stars, render
from larun.simulate.truth import Deposits, FrameTruth, NewSource, NightTruth, write_truth

if TYPE_CHECKING:
    from astropy.table import QTable

__all__ = ["simulate_night"]

_READ_OUT = 20.0  # seconds from the end of one exposure to the start of the next
_FLAT_EXPOSURE = 3.0  # seconds
_SEEING_SCATTER = 0.08
_COLOR = (0.5, 0.2)  # mean and scatter of the step in magnitude from one filter to the next
_OVEREXPOSED = 4.0  # the saturated star's expected peak over the saturation level
_COSMIC_FLOOR = 1.0  # electrons: the faintest cosmic charge the truth keeps
_SKY, _PLAN, _EXPOSURES = 1, 2, 3  # random streams; the chip has stream 0


class _Sky(NamedTuple):
    """The field: a table with one row a star, the source that appears, and the id of the star that varies."""

    stars: QTable
    new_source: NewSource | None
    variable_star: int | None


class _Seen(NamedTuple):
    """The camera as it was in one frame."""

    damage: Damage
    chip: Chip


class _Taken(NamedTuple):
    """What came of one exposure besides its file."""

    truth: FrameTruth
    cosmics: Deposits
    saturated: NDArray[np.bool_]


def simulate_night(
    folder: str | Path,
    *,
    seed: int = 1,
    shape: tuple[int, int] | None = None,
    options: NightOptions | None = None,
) -> NightTruth:
    """Write a raw night: bias, dark, flat and dithered science frames, and the truth about them in ``truth/``.

    The same seed and options give the same bytes, however many threads write them.

    Parameters
    ----------
    folder : str or Path
        A new or empty folder.
    seed : int
        Seed of all random numbers, at least 0.
    shape : tuple of int or None
        (ny, nx), in place of the camera's: the same night on a smaller chip.
    options : NightOptions or None
        What the night holds; None is the demo.

    Raises
    ------
    FileError
        If the folder holds anything already, or cannot be written.
    OptionError
        If the seed is negative.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     truth = simulate_night(folder, shape=(64, 64), options=NightOptions(biases=2, darks=1, flats=1, frames=1))
    >>> [frame.path.name for frame in truth.select("object")]
    ['science-V-001.fits', 'science-R-001.fits']
    """
    if seed < 0:
        raise OptionError(f"seed = {seed}: must be at least 0")
    options = options or NightOptions()
    if shape is not None:
        options = attrs.evolve(options, camera=options.camera.resized(shape))
    folder = Path(folder)
    plans = _plan_night(folder, options, seed)
    sky = _make_sky(options, seed, reach(plans, options))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileError(f"{folder} is not empty: give a new folder, so that no night is mixed with another")
        (folder / "truth").mkdir()
    except OSError as error:
        raise FileError(f"{folder} cannot hold a night: {error}") from error
    damage = Damage.of(options.camera, options.faults, seed)

    def take(n: int) -> _Taken:  # every frame has a random stream of its own: the order does not matter
        plan, rng = plans[n], np.random.default_rng([seed, _EXPOSURES, n])
        chip = damage.chip_for(plan.kind, plan.band, plan.exposure, n)
        return _take(plan, options, _Seen(damage, chip), sky, rng)

    with ThreadPoolExecutor(threads()) as pool:
        taken = list(pool.map(take, range(len(plans))))
    for band in options.camera.filters:
        hit = [one.saturated for one in taken if one.truth.band == band]
        sky.stars[f"saturated_{band}"] = np.any(hit, axis=0) if hit else np.zeros(len(sky.stars), dtype=bool)
    frames = tuple(one.truth for one in taken)
    truth = NightTruth(
        folder=folder,
        seed=seed,
        options=options,
        stars=sky.stars,
        frames=frames,
        new_source=sky.new_source,
        variable_star=sky.variable_star,
    )
    write_truth(truth, {one.truth.path.stem: one.cosmics for one in taken})
    return truth


def _make_sky(options: NightOptions, seed: int, reach: float) -> _Sky:
    """Stars from a power law around and on the undithered frame, one too bright, and a new source apart from all."""
    from astropy import units
    from astropy.io import fits
    from astropy.table import QTable
    from astropy.wcs import WCS

    camera, rng = options.camera, np.random.default_rng([seed, _SKY])
    ny, nx = camera.shape
    margin = reach + 8.0
    brightest, faintest = (10 ** (-0.4 * (m - options.zero_points[0])) for m in options.magnitudes)
    count = round(options.star_density * 1e-6 * (ny + 2 * margin) * (nx + 2 * margin))
    field = draw_stars(camera.shape, count=count, rng=rng, faintest=faintest, brightest=brightest, margin=margin)
    peak = float(render((1, 1), [0.0], [0.0], [1.0], fwhm=1.3 * options.seeing, beta=options.beta)[0, 0])
    too_bright = _OVEREXPOSED * camera.saturation * camera.gain / (peak * options.exposure)
    x = np.append(field.x, rng.uniform(0.3, 0.7) * nx)
    y = np.append(field.y, rng.uniform(0.3, 0.7) * ny)
    rate = np.append(field.flux, too_bright)
    index = _variable_star(field.x, field.y, rate[:-1], options)
    variable = None if index is None else index + 1

    wcs = WCS(fits.Header(camera.wcs_cards(options.center, Pointing(distortion=options.optics.distortion))))
    ra, dec = wcs.pixel_to_world_values(x, y)
    stars = QTable({"id": np.arange(1, len(x) + 1), "x": x * units.pix, "y": y * units.pix})
    stars["ra"], stars["dec"] = ra * units.deg, dec * units.deg
    magnitude = options.zero_points[0] - 2.5 * np.log10(rate)
    color = rng.normal(*_COLOR, len(x))
    for band, zero_point in zip(camera.filters, options.zero_points, strict=True):
        stars[f"mag_{band}"] = magnitude * units.mag
        stars[f"rate_{band}"] = 10 ** (-0.4 * (magnitude - zero_point)) * units.electron / units.s
        magnitude = magnitude - color
    if options.new_source is None or options.frames < 2:
        return _Sky(stars, None, variable)
    new_x, new_y = _lonely_place(camera, x, y, rng)
    new_ra, new_dec = (float(v) for v in wcs.pixel_to_world_values(new_x, new_y))
    new_rate = 10 ** (-0.4 * (options.new_source - options.zero_points[0]))
    band = camera.filters[0]
    new = NewSource(x=new_x, y=new_y, ra=new_ra, dec=new_dec, band=band, magnitude=options.new_source, rate=new_rate)
    return _Sky(stars, new, variable)


def _variable_star(
    x: NDArray[np.float64], y: NDArray[np.float64], rate: NDArray[np.float64], options: NightOptions
) -> int | None:
    """The index of the star that varies; of those in the middle of the chip the closest in flux becomes as bright."""
    if options.variable is None:
        return None
    ny, nx = options.camera.shape
    wanted = 10 ** (-0.4 * (options.variable.magnitude - options.zero_points[0]))
    far = (np.abs(x / nx - 0.5) > 0.35) | (np.abs(y / ny - 0.5) > 0.35)
    index = int(np.where(far, np.inf, np.abs(np.log(rate / wanted))).argmin())
    rate[index] = wanted
    return index


def _lonely_place(
    camera: Camera, x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float]:
    """Of 50 random places in the middle of the chip, the one farthest from stars and dead columns."""
    ny, nx = camera.shape
    places = np.column_stack([rng.uniform(0.25, 0.75, 50) * nx, rng.uniform(0.25, 0.75, 50) * ny])
    room = np.hypot(places[:, :1] - x, places[:, 1:] - y).min(axis=1)
    for column in camera.dead_columns:
        room = np.minimum(room, np.abs(places[:, 0] - column))
    best = int(room.argmax())
    return float(places[best, 0]), float(places[best, 1])


def _plan_night(folder: Path, options: NightOptions, seed: int) -> list[FrameTruth]:
    """Every frame to take, in order, with all of its truth but the bias level."""
    camera, rng = options.camera, np.random.default_rng([seed, _PLAN])
    rays = options.cosmic_rate * camera.shape[0] * camera.shape[1] * 1e-6
    plans = [FrameTruth(path=folder / f"bias-{n:03d}.fits", kind="bias") for n in range(1, options.biases + 1)]
    for exposure in options.dark_exposures:
        for n in range(1, options.darks + 1):
            path = folder / f"dark-{exposure:03g}s-{n:03d}.fits"
            count = int(rng.poisson(rays * exposure))
            plans.append(FrameTruth(path=path, kind="dark", exposure=exposure, cosmic_count=count))
    for band in camera.filters:
        for n, level in enumerate(np.linspace(*options.flat_levels, options.flats), start=1):
            path = folder / f"flat-{band}-{n:03d}.fits"
            plans.append(FrameTruth(path=path, kind="flat", band=band, exposure=_FLAT_EXPOSURE, level=float(level)))
    for band, sky in zip(camera.filters, options.sky, strict=True):
        for n in range(1, options.frames + 1):
            dx, dy = rng.uniform(-options.dither, options.dither, 2) if n > 1 else (0.0, 0.0)
            new = (
                options.new_source is not None
                and band == camera.filters[0]
                and n > options.frames - options.frames // 2
            )
            plans.append(
                FrameTruth(
                    path=folder / f"science-{band}-{n:03d}.fits",
                    kind="object",
                    band=band,
                    exposure=options.exposure,
                    offset=(float(dx), float(dy)),
                    seeing=max(0.5, float(options.seeing * np.exp(_SEEING_SCATTER * rng.standard_normal()))),
                    sky=float(sky * rng.uniform(0.9, 1.1)),
                    transparency=float(1 - options.transparency_loss * rng.random()),
                    cosmic_count=int(rng.poisson(rays * options.exposure)),
                    new_source=new,
                )
            )
    return with_conditions(_with_dates(plans, options.start), options, seed)


def _with_dates(plans: list[FrameTruth], start: str) -> list[FrameTruth]:
    time, dated = datetime.fromisoformat(start), []
    for plan in plans:
        dated.append(attrs.evolve(plan, date_obs=time.isoformat(timespec="milliseconds")))
        time += timedelta(seconds=plan.exposure + _READ_OUT)
    return dated


def _take(plan: FrameTruth, options: NightOptions, seen: _Seen, sky: _Sky, rng: np.random.Generator) -> _Taken:
    """Take one frame and write its file."""
    from astropy.io import fits

    raw, saturated = _expose(plan, options, seen, sky, rng)
    if options.faults.bayer:
        raw.header["BAYERPAT"] = (options.faults.bayer, "colours of the first two rows of the array")
        raw.header["ROWORDER"] = "TOP-DOWN"
    fits.PrimaryHDU(raw.data, raw.header).writeto(plan.path)
    pixels = np.flatnonzero(raw.cosmics >= _COSMIC_FLOOR).astype(np.int32)
    deposits = Deposits(pixels, raw.cosmics.ravel()[pixels])
    return _Taken(attrs.evolve(plan, bias_level=raw.bias_level), deposits, saturated)


def _expose(
    plan: FrameTruth, options: NightOptions, seen: _Seen, sky: _Sky, rng: np.random.Generator
) -> tuple[RawFrame, NDArray[np.bool_]]:
    """The raw frame, and which stars reach saturation in it."""
    camera, chip, when = options.camera, seen.chip, plan.date_obs
    none = np.zeros(len(sky.stars), dtype=bool)
    if plan.kind == "bias":
        return raw_bias(camera, chip, rng=rng, date_obs=when), none
    if plan.kind == "dark":
        raw = raw_dark(camera, chip, exposure=plan.exposure, cosmics=plan.cosmic_count, rng=rng, date_obs=when)
        return raw, none
    assert plan.band is not None
    if plan.kind == "flat":
        assert plan.level is not None
        raw = raw_flat(camera, chip, band=plan.band, level=plan.level, exposure=plan.exposure, rng=rng, date_obs=when)
        return raw, none
    scene = _scene(plan, options, seen.damage, sky)
    raw = raw_science(camera, chip, scene, rng=rng)
    count = len(sky.stars)
    return raw, _saturated(raw, camera, scene.x[:count], scene.y[:count])


def _scene(plan: FrameTruth, options: NightOptions, damage: Damage, sky: _Sky) -> Scene:
    """What a science frame looks at: the stars first, in the order of the table."""
    assert plan.band is not None
    assert plan.seeing is not None
    assert plan.sky is not None
    shape, optics = options.camera.shape, options.optics
    x, y = (np.asarray(sky.stars[axis].value) for axis in "xy")
    rate = np.asarray(sky.stars[f"rate_{plan.band}"].value)
    if sky.variable_star is not None:
        rate = np.where(sky.stars["id"] == sky.variable_star, rate * plan.variable, rate)
    if plan.new_source and sky.new_source is not None:
        new = sky.new_source
        x, y, rate = np.append(x, new.x), np.append(y, new.y), np.append(rate, new.rate)
    pointing = Pointing(offset=plan.offset, rotation=plan.rotation, distortion=optics.distortion)
    x, y = place(pointing, shape, x, y)
    plain = plan.gradient == (0.0, 0.0) and not options.faults.fringes
    return Scene(
        band=plan.band,
        exposure=plan.exposure,
        x=x,
        y=y,
        rate=rate * plan.transparency,
        fwhm=plan.seeing,
        beta=options.beta,
        sky=plan.sky,
        cosmics=plan.cosmic_count,
        center=options.center,
        pointing=pointing,
        date_obs=plan.date_obs,
        profile=optics.profile(shape, fwhm=plan.seeing, beta=options.beta, trail=plan.trail),
        sky_pattern=None if plain else damage.sky_pattern(plan.band, plan.gradient),
        light=trails_light(shape, plan.satellites)[0] if plan.satellites else None,
        airmass=plan.airmass,
    )


def _saturated(raw: RawFrame, camera: Camera, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which stars on the chip have their central pixel at the saturation level."""
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= 0) & (column < camera.shape[1]) & (row >= 0) & (row < camera.shape[0])
    result = np.zeros(len(x), dtype=bool)
    result[inside] = raw.data[row[inside], column[inside]] >= camera.saturation
    return result
