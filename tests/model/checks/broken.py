"""Ways to break a night, one at a time, and the tests of ``larun check`` that must name each.

``python -m tests.model.checks.broken [name …]`` breaks a night in each way and prints what every test says of it.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest import mock

import attrs
import numpy as np
from astropy.io import fits

import larun
from larun.model.checks import driver, suite
from larun.model.checks.facts import FrameFacts
from larun.model.checks.verdict import Report
from larun.simulate import Faults, NightOptions, Trail
from tests.model.checks.night import CAMERA, OPTIONS, Pixels, Raw, make

__all__ = ["FAULTS", "Broken", "Clean", "clean_night", "named", "outcome", "report_of"]

SEED = 11

Edit = Callable[[Raw], None]


class Broken(NamedTuple):
    """A way to break a night.

    Attributes
    ----------
    name : str
        What is wrong, in words.
    tests : tuple of str
        The tests of which one must find it.
    edit : callable or None
        Spoils the files of the clean night.
    options : NightOptions or None
        Another night in the place of the clean one.
    science : str
        The science frames that it takes to find it; none where it is empty.
    """

    name: str
    tests: tuple[str, ...]
    edit: Edit | None = None
    options: NightOptions | None = None
    science: str = "science-*"


# -- how files are spoilt ----------------------------------------------------------------------------------------------


def _cards(pattern: str, **values: Any) -> Edit:
    return lambda raw: raw.cards(pattern, **values)


def _pixels(
    *patterns: str, change: Callable[[Pixels, np.random.Generator], Pixels], part: str = "data"
) -> Edit:  # fmt: skip
    return lambda raw: raw.pixels(*patterns, change=change, part=part)


def _retake(*stems: str, **changes: Any) -> Edit:
    return lambda raw: raw.retake(*stems, **changes)


def _faulty(**faults: Any) -> Edit:
    """All science frames taken again with a camera that has a fault its calibration frames do not know."""
    return lambda raw: raw.retake(*(path.stem for path in raw.files("science-*")), faults=Faults(**faults))


def _options(**changes: Any) -> NightOptions:
    return attrs.evolve(OPTIONS, **changes)


def _camera(**changes: Any) -> NightOptions:
    return _options(camera=attrs.evolve(CAMERA, **changes))


def _add(offset: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    return lambda counts, rng: counts + offset


def _drift(scatter: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    return lambda counts, rng: counts + rng.normal(0, scatter)


def _rows(scatter: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    """Each row is displaced as a whole: the reference voltage is noisy."""
    return lambda counts, rng: counts + rng.normal(0, scatter, (counts.shape[0], 1))


def _light(electrons: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    return lambda counts, rng: counts + rng.poisson(electrons, counts.shape) / CAMERA.gain


def _ramp(amplitude: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    """Something is added that rises along the rows."""
    return lambda counts, rng: counts + amplitude * np.linspace(-0.5, 0.5, counts.shape[1])


def _tilt(slope: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    """The light, which stands on about the bias level, changes along the rows by this fraction."""

    def change(counts: Pixels, rng: np.random.Generator) -> Pixels:
        factor = 1 + slope * np.linspace(-0.5, 0.5, counts.shape[1])
        return (counts - CAMERA.bias_level) * factor + CAMERA.bias_level

    return change


def _ghost(counts: Pixels, rng: np.random.Generator) -> Pixels:
    """Light that was reflected between filter and detector: a disc with 6 % more of it in every flat."""
    y, x = np.indices(counts.shape)
    disc = 1 / (1 + np.exp((np.hypot(y - 120, x - 100) - 45) / 4))
    return np.asarray((counts - CAMERA.bias_level) * (1 + 0.06 * disc) + CAMERA.bias_level)


def _smooth(counts: Pixels, rng: np.random.Generator) -> Pixels:
    """A pixel gives a tenth to each of four neighbours: electronics or software that interpolates."""
    around = sum(np.roll(counts, step, axis) for step in (-1, 1) for axis in (0, 1))
    return np.asarray(0.6 * counts + 0.1 * around)


def _half_read(counts: Pixels, rng: np.random.Generator) -> Pixels:
    """The transfer stopped half-way; the rest of the file is filled up."""
    made = counts.copy()
    made[counts.shape[0] // 2 :] = 0
    return made


def _constant(counts: Pixels, rng: np.random.Generator) -> Pixels:
    return np.full_like(counts, CAMERA.bias_level)


def _swapped_darks(raw: Raw) -> None:
    short, long = OPTIONS.dark_exposures
    raw.cards("dark-020s-002", EXPTIME=long)
    raw.cards("dark-060s-002", EXPTIME=short)


def _unlit_flat(raw: Raw) -> None:
    """The lamp stayed off: pixels of a bias frame under the header of a flat."""
    (bias,), (flat,) = raw.files("bias-002"), raw.files("flat-V-003")
    rng = np.random.default_rng(5)
    noise = rng.normal(0, CAMERA.read_noise / CAMERA.gain, CAMERA.raw_shape)
    level = float(np.median(fits.getdata(bias)))
    fits.PrimaryHDU(np.rint(level + noise).astype(np.uint16), fits.getheader(flat)).writeto(flat, overwrite=True)


def _copy(source: str, to: str, *, later: float = 0.0) -> Edit:
    """A file under another name, with another time if asked for (minutes)."""

    def edit(raw: Raw) -> None:
        (path,) = raw.files(source)
        shutil.copyfile(path, raw.folder / f"{to}.fits")
        if later:
            _shift(raw, to, minutes=later)

    return edit


def _shift(raw: Raw, stem: str, *, minutes: float, date: bool = True) -> None:
    """Move the time in a header."""
    header = fits.getheader(*raw.files(stem))
    moved = datetime.fromisoformat(header["DATE-OBS"]) + timedelta(minutes=minutes)
    if date:
        raw.cards(stem, DATE_OBS=moved.isoformat(timespec="milliseconds"))
    raw.cards(stem, MJD_OBS=header["MJD-OBS"] + minutes / 1440)


def _shifted(stem: str, *, minutes: float, date: bool = True) -> Edit:
    return lambda raw: _shift(raw, stem, minutes=minutes, date=date)


_TRAIL = Trail(x=120.0, y=130.0, angle=31.0, width=3.0, brightness=3000.0)

#: Every fault with the tests that may name it. Names of files are those of the clean night.
FAULTS: tuple[Broken, ...] = (
    # the header against the pixels of calibration frames
    Broken("gain 1.5 × too large", ("gain",), _cards("*", GAIN=1.5 * CAMERA.gain), science=""),
    Broken("gain of one amplifier", ("gain",), _cards("*", GAINB=0.75 * CAMERA.gain), science=""),
    Broken("read noise too small", ("read noise",), _cards("*", RDNOISE=0.6 * CAMERA.read_noise), science=""),
    Broken(
        "saturation too high",
        ("saturation",),
        _cards("*", SATURATE=60000.0),
        options=attrs.evolve(_camera(saturation=30000.0), flat_levels=(24000.0, 4000.0)),
        science="science-V-*",
    ),
    Broken("nonlinear", ("linearity",), options=_camera(linearity=(1.5e-6,)), science=""),
    # bias and overscan
    Broken("overscan wanders", ("overscan drift",), _pixels("*", change=_drift(6.0), part="overscan"), science=""),
    Broken("level of one bias", ("bias level",), _pixels("bias-004", change=_add(30.0)), science=""),
    Broken(
        "structure changes",
        ("bias structure",),
        _pixels("bias-005", "bias-006", "bias-007", change=_ramp(12.0)),
        science="",
    ),
    Broken(
        "noise of rows in biases",
        ("bias structure", "master noise"),
        _pixels("bias-*", change=_rows(4.0)),
        science="",
    ),
    Broken("bias with light", ("kind", "bias level"), _pixels("bias-003", change=_light(200.0)), science=""),
    Broken("pickup", ("pickup",), options=_options(faults=Faults(pickup=5.0)), science=""),
    # the chip
    Broken("bad columns", ("bad columns",), options=_options(faults=Faults(bad_columns=4)), science=""),
    Broken("dead column", ("bad columns",), options=_camera(dead_columns=(90,)), science=""),
    Broken("dead amplifier", ("dead amplifier",), _pixels("*", change=_constant, part="B"), science=""),
    Broken("hot pixels", ("hot pixels",), options=_camera(hot_fraction=0.03), science=""),
    Broken("telegraph pixels", ("telegraph pixels",), options=_options(faults=Faults(telegraph=0.01)), science=""),
    Broken("glow", ("amplifier glow",), options=_options(faults=Faults(glow=2.0)), science=""),
    Broken("warm detector", ("dark current",), options=_camera(dark_rate=3.0), science=""),
    Broken("one warm dark", ("dark current",), _pixels("dark-060s-002", change=_light(40.0)), science=""),
    Broken("light leak", ("light leak",), options=_options(faults=Faults(light_leak=1.0)), science=""),
    # calibration frames that are missing, or are not what they are called
    Broken("no darks", ("missing masters",), lambda raw: raw.remove("dark-*"), science="science-R-00[12]"),
    Broken(
        "no flats of a filter", ("missing masters",), lambda raw: raw.remove("flat-R-*"), science="science-R-00[12]"
    ),
    Broken("no biases", ("missing masters",), lambda raw: raw.remove("bias-*"), science="science-R-00[12]"),
    Broken(
        "bias called dark",
        ("kind", "exposure time"),
        _cards("bias-002", IMAGETYP="dark", EXPTIME=60.0),
        science="",
    ),
    Broken("darks swapped", ("exposure time", "dark current"), _swapped_darks, science=""),
    Broken("bias copied", ("duplicates",), _copy("bias-002", "bias-008"), science=""),
    # flats
    Broken("flats too faint", ("flat level",), options=_options(flat_levels=(150.0, 100.0)), science=""),
    Broken("flats saturated", ("flat level",), options=_options(flat_levels=(63000.0, 58000.0)), science=""),
    Broken("flat without light", ("kind", "flat level"), _unlit_flat, science=""),
    Broken("flat with a gradient", ("flat gradient",), _pixels("flat-V-002", change=_tilt(0.05)), science=""),
    Broken(
        "science called flat",
        ("kind", "flat level"),
        _cards("science-R-002", IMAGETYP="flat"),
        science="science-R-00[12]",
    ),
    Broken("shutter", ("shutter",), options=_options(faults=Faults(shutter=0.05)), science=""),
    Broken("dust moved", ("dust",), _faulty(dust_shift=14.0), science="science-V-*"),
    Broken(
        "flat error",
        ("flat error", "repeated stars"),
        options=_options(faults=Faults(flat_error=0.08)),
        science="science-R-*",
    ),
    Broken("ghost in flats", ("flat error", "repeated stars"), _pixels("flat-*", change=_ghost), science="science-V-*"),
    # noise of science frames
    Broken(
        "smoothed pixels",
        ("pixel correlation", "pixel noise"),
        _pixels("science-V-*", change=_smooth),
        science="science-V-*",
    ),
    Broken(
        "noise of rows",
        ("frame pairs", "pixel correlation", "pixel noise", "empty apertures"),
        _pixels("science-V-*", change=_rows(6.0)),
        science="science-V-*",
    ),
    # one science frame
    Broken("clouds", ("clouds",), _retake("science-V-003", transparency=0.5), science="science-V-*"),
    Broken("poor seeing", ("focus",), _retake("science-V-003", seeing=6.0), science="science-V-*"),
    Broken("defocus", ("focus",), _retake("science-R-002", donut=7.0), science="science-R-*"),
    Broken("tracking", ("trailing",), _retake("science-V-004", trail=(7.0, 2.0)), science="science-V-*"),
    Broken("cosmic storm", ("cosmic rays",), _retake("science-R-003", cosmic_count=150), science="science-R-*"),
    Broken("satellite", ("satellite trails",), _retake("science-V-002", satellites=(_TRAIL,)), science="science-V-*"),
    Broken("moonlight from one side", ("sky",), _retake("science-R-004", gradient=(0.5, 0.3)), science="science-R-*"),
    Broken("twilight", ("sky",), _retake("science-R-005", sky=80.0), science="science-R-*"),
    Broken("fringes", ("fringes",), _faulty(fringes=(0.0, 0.05)), science="science-R-*"),
    Broken(
        "transfer stopped",
        ("odd frame", "dead amplifier", "sky"),
        _pixels("science-V-003", change=_half_read),
        science="science-V-*",
    ),
    Broken(
        "another field",
        ("pointing",),
        _retake("science-V-003", other_field=True, center=(203.5, 18.0)),
        science="science-V-*",
    ),
    Broken(
        "another field unsaid",
        ("pointing", "odd frame"),
        _retake("science-V-003", other_field=True),
        science="science-V-*",
    ),
    # headers of science frames
    Broken("wrong filter", ("filter",), _cards("science-V-003", FILTER="R")),
    Broken("day not counted on", ("time stamps",), _shifted("science-V-003", minutes=-1440.0), science="science-V-*"),
    Broken(
        "clocks disagree", ("time stamps",), _shifted("science-V-003", minutes=50.0, date=False), science="science-V-*"
    ),
    Broken("exposure time / 10", ("exposure time",), _cards("science-V-003", EXPTIME=6.0), science="science-V-*"),
    Broken(
        "science copied", ("duplicates",), _copy("science-V-003", "science-V-006", later=20.0), science="science-V-*"
    ),
)


# -- how they are tried ------------------------------------------------------------------------------------------------


@attrs.frozen
class Clean:
    """A night with nothing wrong, its products, and what its check says."""

    raw: Raw
    out: Path
    report: Report


def clean_night(folder: Path, seed: int = SEED, options: NightOptions = OPTIONS) -> Clean:
    """Take, reduce and check a night."""
    raw = make(folder / "raw", seed=seed, options=options)
    return Clean(raw, folder / "out", _check(raw, folder / "out", None))


def report_of(fault: Broken, clean: Clean, folder: Path, *, every: bool = False) -> Report:
    """Break the night in a new folder, and run the tests that must find it, or every one.

    What the fault does not touch is neither reduced nor measured again.
    """
    if fault.options is not None:
        options = fault.options if fault.science else attrs.evolve(fault.options, frames=0)
        raw = make(folder / "raw", seed=clean.raw.truth.seed, options=options)
        raw.keep(fault.science)
    else:
        raw = clean.raw.copied(folder / "raw", science=fault.science)
        shutil.copytree(clean.out, folder / "out")
    if fault.edit is not None:
        fault.edit(raw)
    if every:
        return _check(raw, folder / "out", None)
    return _check(raw, folder / "out", fault.tests, _RECIPE if fault.science else _RAW)


def _check(raw: Raw, out: Path, names: Iterable[str] | None, recipe: larun.Recipe | None = None) -> Report:
    """``Night.check``, with tests of these names; facts about frames that were seen before are remembered."""
    chosen = suite.TESTS if names is None else tuple(test for test in suite.TESTS if test.name in names)
    with (
        mock.patch.object(driver, "_facts", partial(_remembered, driver._facts)),
        mock.patch.object(suite, "TESTS", chosen),
    ):
        return larun.Night(raw.folder).check(out=out, recipe=recipe or _RECIPE)


_RECIPE = larun.Recipe(output={"catalog": "fits"})  # quickly read
_RAW = _RECIPE.evolve(calibrate={"without": ("bias", "dark", "flat")})  # raw frames tell it: no masters are made
_SEEN: dict[tuple[str, ...], FrameFacts] = {}


def _remembered(measure: Callable[[Any], FrameFacts], product: Any) -> FrameFacts:
    """Facts depend on the files of a frame and its catalogue alone."""
    files = (product.frame, product.catalog)
    key = (product.name, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files))
    if key not in _SEEN:
        _SEEN[key] = measure(product)
    return _SEEN[key]


def named(fault: Broken, report: Report) -> bool:
    """Whether one of the tests that should finds it."""
    return any(verdict.test in fault.tests for verdict in report.faults)


def outcome(fault: Broken, report: Report) -> str:
    """One line of the table."""
    about = [verdict for verdict in report.faults if verdict.test in fault.tests]
    others = sorted({verdict.test for verdict in report.faults} - set(fault.tests))
    said = f"{about[0].test}: {about[0].meaning}" if about else f"wanted {' or '.join(fault.tests)}"
    line = f"{'found ' if about else 'MISSED'} {fault.name:24} {said}"
    return f"{line} | also {', '.join(others)}" if others else line


def _main(names: Iterable[str]) -> None:
    wanted = set(names)
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        clean = clean_night(Path(folder) / "clean")
        print(f"{clean.report}\n  in {time.perf_counter() - start:.1f} s", flush=True)
        chosen = [fault for fault in FAULTS if not wanted or fault.name in wanted]
        found = 0
        for number, fault in enumerate(chosen):
            start = time.perf_counter()
            try:
                report = report_of(fault, clean, Path(folder) / f"{number:02d}", every=True)
            except Exception:  # a test that breaks is told, and the others are tried
                print(f"BROKE  {fault.name}\n{traceback.format_exc(limit=-3)}", flush=True)
                continue
            shutil.rmtree(Path(folder) / f"{number:02d}")
            found += named(fault, report)
            print(f"{outcome(fault, report)} ({time.perf_counter() - start:.1f} s)", flush=True)
            if wanted:
                print("\n".join(f"    {verdict}" for verdict in report), flush=True)
        print(f"{found} of {len(chosen)} found")


if __name__ == "__main__":
    _main(sys.argv[1:])
