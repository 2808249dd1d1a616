"""A small simulated night with two amplifiers and a steady lamp, and the ways in which its files can be spoilt."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from larun.detector import Section
from larun.io.sections import format_section
from larun.simulate import (
    Camera,
    Donut,
    Faults,
    Moffat,
    NightOptions,
    Scene,
    Trailed,
    raw_flat,
    raw_science,
    simulate_night,
    trails_light,
)
from larun.simulate.damage import Damage
from larun.simulate.truth import FrameTruth, NightTruth

__all__ = ["CAMERA", "OPTIONS", "Raw", "make"]

#: Small, so that a night is cheap; all faults can still be told.
CAMERA = Camera(shape=(256, 256), overscan=32)

#: A ramp of flats, dithers that overlap, stars enough for statistics; nothing wrong.
OPTIONS = NightOptions(
    camera=CAMERA,
    biases=7,
    darks=3,
    dark_exposures=(20.0, 60.0),
    flats=6,
    flat_levels=(40000.0, 4000.0),
    frames=5,
    star_density=2500.0,
    dither=20.0,
    new_source=None,
)

_LAMP = 6.0  # seconds for the brightest flat; the others are shorter by as much as they are fainter

Pixels = NDArray[np.float64]


@attrs.frozen
class Raw:
    """The raw files of a night, for spoiling. Patterns are those of ``Path.glob``, without the suffix.

    Parameters
    ----------
    folder : Path
        Where the files are.
    truth : NightTruth
        What they are made of; it stays as it was.
    """

    folder: Path
    truth: NightTruth

    def files(self, *patterns: str) -> list[Path]:
        """The files whose names fit a pattern, in order of name."""
        found = sorted({path for pattern in patterns for path in self.folder.glob(f"{pattern}.fits")})
        assert found, f"no file fits {patterns}: a fault that changes nothing"
        return found

    def copied(self, folder: Path, *, science: str = "science-*") -> Raw:
        """The same files elsewhere, of the science frames those that fit a pattern."""
        folder.mkdir(parents=True)
        for path in self.files("*"):
            shutil.copyfile(path, folder / path.name)
        made = attrs.evolve(self, folder=folder)
        made.keep(science)
        return made

    def keep(self, science: str) -> None:
        """Lose the science frames that do not fit a pattern."""
        for path in self.folder.glob("science-*.fits"):
            if not path.match(f"{science}.fits"):
                path.unlink()

    def remove(self, *patterns: str) -> None:
        """Lose files."""
        for path in self.files(*patterns):
            path.unlink()

    def cards(self, *patterns: str, **values: Any) -> None:
        """Write cards into headers; ``_`` in a name stands for ``-``."""
        for path in self.files(*patterns):
            data, header = _read(path)
            header.update({keyword.replace("_", "-"): value for keyword, value in values.items()})
            _write(path, data, header)

    def pixels(self, *patterns: str, change: Callable[[Pixels, np.random.Generator], Pixels], part: str) -> None:
        """Change the counts of the ``data``, of the ``overscan``, or of ``all`` pixels of each file."""
        for number, path in enumerate(self.files(*patterns)):
            data, header = _read(path)
            counts = data.astype(np.float64)
            at = self._slices(part)
            counts[at] = change(counts[at], np.random.default_rng([self.truth.seed, 77, number]))
            top = self.truth.camera.saturation
            _write(path, np.clip(np.rint(counts), 0, top).astype(np.uint16), header)

    def _slices(self, part: str) -> tuple[slice, slice]:
        ny, nx = self.truth.camera.shape
        columns = {"data": slice(0, nx), "overscan": slice(nx, None), "all": slice(None), "B": slice(nx // 2, nx)}
        return slice(0, ny), columns[part]

    def frame(self, stem: str) -> FrameTruth:
        """The truth about the file of this name."""
        return next(frame for frame in self.truth.frames if frame.path.stem == stem)

    def retake_flats(self, faults: Faults) -> None:
        """The flats in the light of a steady lamp: fainter ones are shorter."""
        damage = Damage.of(self.truth.camera, faults, self.truth.seed)
        brightest = max(frame.level or 0.0 for frame in self.truth.select("flat"))
        for frame in self.truth.select("flat"):
            number = self.truth.frames.index(frame)
            assert frame.level
            assert frame.band
            exposure = round(_LAMP * frame.level / brightest, 3)
            raw = raw_flat(
                self.truth.camera,
                damage.chip_for("flat", frame.band, exposure, number),
                band=frame.band,
                level=frame.level,
                exposure=exposure,
                date_obs=frame.date_obs,
                rng=np.random.default_rng([self.truth.seed, 71, number]),
            )
            self._replace(frame.path.name, raw.data, raw.header)

    def retake(
        self, *stems: str, other_field: bool = False, donut: float = 0.0, center: tuple[float, float] | None = None,
        faults: Faults | None = None, **changes: Any,
    ) -> None:  # fmt: skip
        """Take science frames again, with something about them changed: fields of ``FrameTruth``, or what is named."""
        truth = self.truth
        damage = Damage.of(truth.camera, faults or truth.options.faults, truth.seed)
        for stem in stems:
            number, frame = truth.frames.index(self.frame(stem)), attrs.evolve(self.frame(stem), **changes)
            assert frame.band
            assert frame.seeing
            x, y = truth.positions(frame)
            if other_field:
                x, y = y[::-1], x
            blur = Moffat(frame.seeing, truth.options.beta or 3.0)
            profile = Donut(donut, 0.4, blur) if donut else blur
            scene = Scene(
                band=frame.band,
                exposure=frame.exposure,
                x=x,
                y=y,
                rate=truth.rates(frame),
                fwhm=frame.seeing,
                sky=float(frame.sky or 0.0),
                cosmics=frame.cosmic_count,
                center=center or truth.options.center,
                pointing=truth.pointing(frame),
                date_obs=frame.date_obs,
                profile=Trailed(profile, dx=frame.trail[0], dy=frame.trail[1]) if any(frame.trail) else profile,
                sky_pattern=damage.sky_pattern(frame.band, frame.gradient),
                light=trails_light(truth.camera.shape, frame.satellites)[0] if frame.satellites else None,
                airmass=frame.airmass,
            )
            chip = damage.chip_for("object", frame.band, frame.exposure, number)
            raw = raw_science(truth.camera, chip, scene, rng=np.random.default_rng([truth.seed, 72, number]))
            self._replace(f"{stem}.fits", raw.data, raw.header)

    def _replace(self, name: str, data: NDArray[Any], header: fits.Header) -> None:
        header.update(dict(_two_amplifiers(self.truth.camera)))
        _write(self.folder / name, data, header)


def make(folder: Path, *, seed: int, options: NightOptions = OPTIONS) -> Raw:
    """Take a night into a new folder."""
    raw = Raw(folder, simulate_night(folder, seed=seed, options=options))
    raw.cards("*", **dict(_two_amplifiers(raw.truth.camera)))
    if raw.truth.select("flat"):
        raw.retake_flats(options.faults)
    return raw


def _two_amplifiers(camera: Camera) -> Iterator[tuple[str, str]]:
    """Cards that give each half of the chip an amplifier of its own, and half of the overscan."""
    ny, nx = camera.shape
    wide = camera.overscan // 2
    for number, name in enumerate("AB"):
        data = Section(0, ny, number * nx // 2, (number + 1) * nx // 2)
        overscan = Section(0, ny, nx + number * wide, nx + (number + 1) * wide)
        yield f"DATASEC{name}", format_section(data)
        yield f"TRIMSEC{name}", format_section(data)
        yield f"BIASSEC{name}", format_section(overscan)


def _read(path: Path) -> tuple[NDArray[Any], fits.Header]:
    with fits.open(path, memmap=False) as hdus:
        return np.array(hdus[0].data), hdus[0].header.copy()


def _write(path: Path, data: NDArray[Any], header: fits.Header) -> None:
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
