"""``larun demo``: a night with known truth, reduced, and compared with that truth."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from larun.cli.progress import progress_bar
from larun.cli.running import FAILED, OK, say
from larun.cli.warmup import compile_first
from larun.errors import FileError, OptionError
from larun.model.catalog import SourceCatalog
from larun.model.frame import Frame
from larun.model.night import Night
from larun.model.stacking.series import groups_of, stack_groups
from larun.model.summary import Summary
from larun.report import demo as tables
from larun.report import figure
from larun.report import night as night_tables
from larun.report.changed import compare_difference
from larun.report.lightcurve import compare_light_curve
from larun.report.recovery import FrameScore, compare_frame
from larun.report.stacked import compare_stack
from larun.report.terminal import cell, console, heading, write_json
from larun.report.verdict import Check, photon_transfer, summarize
from larun.simulate import NightOptions, NightTruth, Pulsation, read_truth, simulate_night
from larun.simulate.options import plain_options

__all__ = ["DemoOptions", "compare", "run"]

_MARK = "larun-demo.json"


@attrs.frozen(kw_only=True)
class DemoOptions:
    """What the demo does.

    Parameters
    ----------
    folder : Path
        New, empty, or of an earlier demo.
    seed : int
        Of the simulated night.
    jobs : int or None
        Frames reduced at the same time; None: as cores and memory allow.
    keep : bool
        Whether the files stay.
    night : NightOptions
        What the night holds.
    """

    folder: Path
    seed: int = 1
    jobs: int | None = None
    keep: bool = True
    night: NightOptions = attrs.field(factory=lambda: NightOptions(variable=Pulsation()))


class _Clock:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start


def run(options: DemoOptions, as_json: bool) -> int:
    """Simulate, reduce, compare, print.

    Raises
    ------
    OptionError
        If the folder holds something else, or a demo of another seed.
    """
    folder = options.folder
    _claim(options)
    clock = _Clock()
    with progress_bar() as progress:
        progress("compiling kernels", 0, 3)
        with clock("compile"):
            compile_first("differences")
        progress("simulating the night", 1, 3)
        with clock("simulate"):
            truth = _simulated(options)
        with clock("reduce"):
            summary = Night(truth.folder).reduce(folder / "out", processes=options.jobs, progress=progress)
        with clock("stack"):
            stacks = stack_groups(groups_of([folder / "out" / "frames"]), folder / "out" / "stacks")
        progress("comparing with the truth", 2, 3)
        with clock("compare"):
            scores, checks = compare(truth, folder / "out")
            made = [Path(row.path) for row in stacks if row.status == "done"]
            checks += tuple(check for path in made for check in compare_stack(path, folder / "out" / "frames"))
            picture = _draw(truth, folder)
        with clock("difference"):
            checks += compare_difference(truth, scores, folder / "out")
        with clock("light curve"):
            checks += compare_light_curve(truth, folder / "out" / "frames", folder / "out" / "lightcurve.ecsv")
    _print(options, summary, scores, checks, clock.seconds, picture, as_json)
    missed = [check for check in checks if not check.passed]
    lost = [row for row in stacks if row.status == "failed"]
    for name, message in [(row.name, row.message) for row in summary.failed] + [(s.name, s.message) for s in lost]:
        say("error", f"{name}: {message}")
    for check in missed:
        where = f" ({check.where})" if check.where else ""
        say("error", f"{check.name}{where} = {check.found:.4g}: must lie between {check.low:.4g} and {check.high:.4g}")
    if not options.keep:
        _remove(folder)
    return FAILED if missed or summary.failed or lost else OK


def _claim(options: DemoOptions) -> None:
    """Make the folder ours, if it is new, empty, or an earlier demo of the same night."""
    folder, mark = options.folder, options.folder / _MARK
    if options.seed < 0 or (options.jobs is not None and options.jobs < 1):
        raise OptionError(f"--seed {options.seed} --jobs {options.jobs}: the seed is at least 0, the jobs at least 1")
    wanted = {
        "made_by": "larun demo",
        "seed": options.seed,
        "night": json.loads(json.dumps(plain_options(options.night))),
    }
    if mark.is_file():
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FileError(f"{mark} is damaged: delete {folder}, or give another folder") from error
        if found != wanted:
            raise OptionError(
                f"{folder} holds a demo of another night (seed {found.get('seed')}): give another folder, or delete it"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder} is not empty and no earlier demo: give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _simulated(options: DemoOptions) -> NightTruth:
    """The raw night, made now or by an earlier demo; it appears whole or not at all."""
    raw, partial = options.folder / "raw", options.folder / "raw.partial"
    if not raw.exists():
        if partial.exists():  # an earlier demo was interrupted; the mark says that the folder is ours
            shutil.rmtree(partial)
        simulate_night(partial, seed=options.seed, options=options.night)
        partial.rename(raw)
    return read_truth(raw)


def compare(truth: NightTruth, out: Path) -> tuple[tuple[FrameScore, ...], tuple[Check, ...]]:
    """Every science frame that was reduced against its truth, and the verdict on the night."""
    scores = []
    for about in truth.select("object"):
        frame, catalog = (out / kind / f"{about.path.stem}{end}" for kind, end in _PRODUCTS)
        if frame.exists() and catalog.exists():
            scores.append(compare_frame(truth, about, Frame.read(frame), SourceCatalog.read(catalog)))
    return tuple(scores), summarize(scores, truth, _gains(truth)) if scores else ()


_PRODUCTS = (("frames", ".fits"), ("catalogs", ".ecsv"))


def _gains(truth: NightTruth) -> list[tuple[str, float, float]]:
    """Gain and read noise of each filter's first two flats, measured without trusting the header."""
    biases = [_above_overscan(truth, frame.path) for frame in truth.select("bias")[:2]]
    bands = [(band, truth.select("flat", band)[:2]) for band in truth.camera.filters]
    return [
        (band, *photon_transfer([_above_overscan(truth, flat.path) for flat in flats], biases))
        for band, flats in bands
        if len(flats) == 2 and len(biases) == 2
    ]


def _above_overscan(truth: NightTruth, path: Path) -> Any:
    frame, camera = Frame.read(path), truth.camera
    data = frame.data[camera.data_section.slices]
    live = np.setdiff1d(np.arange(data.shape[1]), camera.dead_columns)
    overscan = camera.overscan_section
    level = camera.bias_level if overscan is None else float(frame.data[overscan.slices].mean())
    return data[:, live] - np.float32(level)


def _draw(truth: NightTruth, folder: Path) -> Path | None:
    """A picture of the last frame of the first filter, where the new source shines; None without matplotlib."""
    about = truth.select("object", truth.camera.filters[0])[-1]
    frame, catalog = (folder / "out" / kind / f"{about.path.stem}{end}" for kind, end in _PRODUCTS)
    if not figure.can_draw() or not frame.exists() or not catalog.exists():
        return None
    new = truth.new_source if about.new_source else None
    mark = None
    if new is not None:
        x, y = truth.place(about, new.x, new.y)
        mark = float(x), float(y)
    path = folder / "demo.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a font cache that is built for the first time, say
        figure.draw_detections(Frame.read(frame), SourceCatalog.read(catalog), path, title=about.path.stem, mark=mark)
    return path


def _print(
    options: DemoOptions,
    summary: Summary,
    scores: tuple[FrameScore, ...],
    checks: tuple[Check, ...],
    seconds: dict[str, float],
    picture: Path | None,
    as_json: bool,
) -> None:
    total = sum(seconds.values())
    if as_json:
        write_json(
            {
                "folder": str(options.folder),
                "seed": options.seed,
                "seconds": seconds | {"total": total},
                "rows": summary.to_dicts(),
                "frames": [tables.frame_dict(score) for score in scores],
                "checks": [check._asdict() | {"passed": check.passed} for check in checks],
            }
        )
        return
    screen = console()
    screen.print(night_tables.science_table(row for row in summary.rows if row.kind == "science"))
    screen.print()
    screen.print(night_tables.outcome(summary.rows))
    screen.print()
    screen.print(heading("Frame by frame"))
    screen.print(tables.frame_table(scores))
    screen.print()
    screen.print(heading("Recovered against true"))
    screen.print(tables.check_table(checks))
    screen.print()
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    screen.print(cell(f"{total:.1f} s: {parts}"))
    if options.keep:
        screen.print(cell(f"files: {options.folder}/raw, {options.folder}/out"), soft_wrap=True)
        if picture is not None:
            screen.print(cell(f"picture: {picture}"), soft_wrap=True)
            sheets = options.folder / "out" / "sheets" / "index.html"
            if sheets.exists():
                screen.print(cell(f"what is new: {sheets}"), soft_wrap=True)


def _remove(folder: Path) -> None:
    """Delete what the demo made; anything else in the folder stays, and then so does the folder."""
    for name in ("raw", "raw.partial", "out"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("demo.png", _MARK):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
