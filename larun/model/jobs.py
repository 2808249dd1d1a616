"""The pieces of a reduction: groups of calibration frames, one task per science frame, and what each one reports."""

from __future__ import annotations

import contextlib
import functools
import math
import pickle
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np

from larun import flags as fl
from larun.algorithms.overscan import OverscanOptions
from larun.errors import FileError, LarunError, LarunWarning, OptionError
from larun.model.building import BuildOptions
from larun.model.catalog import SourceCatalog
from larun.model.exposures import Exposure, slug
from larun.model.frame import Frame
from larun.model.masters import Master, Masters
from larun.model.opening import RawPart
from larun.model.reduction import measure, open_raw
from larun.provenance import Parent, Provenance, predict

__all__ = [
    "ChainOptions",
    "Group",
    "Row",
    "Task",
    "check_portable",
    "group",
    "run",
    "still_right",
    "unreadable",
    "write_summary",
]

_M = TypeVar("_M", bound=Master)


def _sorted(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted([value] if isinstance(value, str) else value))


@attrs.frozen(kw_only=True)
class ChainOptions:
    """Arguments of the steps of the chain.

    Parameters
    ----------
    without : tuple of str
        Kinds of masters to do without.
    build : BuildOptions
        How masters are built; its overscan serves the science frames too.
    clean, detect, photometer : mapping
        Keyword arguments of the methods of these names; ``clean=None`` leaves that step out.
    """

    without: tuple[str, ...] = attrs.field(default=(), converter=_sorted)
    build: BuildOptions = BuildOptions()
    clean: Mapping[str, Any] | None = attrs.field(factory=dict)
    detect: Mapping[str, Any] = attrs.field(factory=dict)
    photometer: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Row:
    """One line of the summary.

    ``status`` is ``done``, ``skipped`` (it was there already) or ``failed`` (``message`` says why).
    """

    name: str
    kind: str
    status: str
    message: str = ""
    path: str = ""
    frames: int = 1
    object: str | None = None
    filter: str | None = None
    exposure: float | None = None
    mid_time: str | None = None
    airmass: float | None = None
    fwhm: float | None = None
    sky: float | None = None
    sky_rms: float | None = None
    sources: int | None = None
    saturated: int | None = None
    cosmic_pixels: int | None = None
    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Task:
    """One science frame to reduce: paths and options, no arrays."""

    item: Exposure
    name: str
    out: Path
    masters: tuple[Path, ...]
    options: ChainOptions
    camera: type[Frame]
    given: Mapping[str, Any]

    @property
    def raw(self) -> Path:
        """The raw file."""
        return self.item.path

    @property
    def frame_path(self) -> Path:
        """Where the calibrated frame goes."""
        return self.out / "frames" / f"{self.name}.fits"

    @property
    def catalog_path(self) -> Path:
        """Where the catalogue goes."""
        return self.out / "catalogs" / f"{self.name}.ecsv"


@attrs.frozen(kw_only=True)
class Group:
    """Calibration frames that make one master."""

    kind: str
    name: str
    exposures: tuple[Exposure, ...]

    @property
    def criteria(self) -> Mapping[str, Any]:
        """Of the first frame: what other masters are matched on."""
        return self.exposures[0].criteria


_GROUPED_BY = {
    "bias": ("instrument", "chip", "mode", "size", "binning", "gain"),
    "dark": ("instrument", "chip", "mode", "size", "binning", "gain", "exposure"),
    "flat": ("instrument", "chip", "size", "binning", "filter"),
}


def check_portable(options: ChainOptions) -> None:
    """Refuse functions of the user's own that another process could not find.

    Raises
    ------
    OptionError
        If one is a lambda, was defined inside another function, or was typed at a prompt.
    """
    given = {"engine": (options.clean or {}).get("engine"), "method": options.detect.get("method")}
    for name, function in given.items():
        if not callable(function):
            continue
        typed = getattr(function, "__module__", "") == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
        try:
            pickle.dumps(function)
        except (pickle.PicklingError, AttributeError, TypeError):
            typed = True
        if typed:
            raise OptionError(
                f"{name}={function!r}: other processes cannot find it: define it at the top level of a module or "
                "script, or use processes=1"
            )


def group(kind: str, frames: Iterable[Exposure]) -> tuple[Group, ...]:
    """Calibration frames of one kind, sorted into those that belong together; names come from what they are."""
    found: dict[str, list[Exposure]] = {}
    for frame in frames:
        key = repr([frame.criteria.get(name) for name in _GROUPED_BY[kind]])
        found.setdefault(key, []).append(frame)
    groups: list[Group] = []
    for _, members in sorted(found.items()):
        criteria = members[0].criteria
        parts = [kind]
        if kind == "flat":
            parts.append(str(criteria.get("filter") or "nofilter"))
        if kind == "dark":
            seconds = criteria.get("exposure")
            parts.append("unknown-exposure" if seconds is None else f"{seconds:g}s")
        if criteria.get("chip"):
            parts.append(str(criteria["chip"]))
        nx, ny = criteria["size"]
        name = slug("-".join([*parts, f"{nx}x{ny}"]))
        used = [g.name for g in groups]
        unique = name if name not in used else f"{name}-{sum(n.startswith(name) for n in used) + 1}"
        groups.append(Group(kind=kind, name=unique, exposures=tuple(members)))
    return tuple(groups)


def still_right(cls: type[_M], path: Path, raws: list[RawPart], arguments: Mapping[str, Any]) -> _M | None:
    """The master in a file, if it was made from just these raws in just this way and is intact; else None."""
    build: BuildOptions = arguments["options"]
    try:
        kept = cls.read(path)
    except LarunError:
        return None
    roots: dict[str, Provenance] = {}  # a copy of a file counts once
    for raw in raws:
        with contextlib.suppress(LarunError):  # what cannot be read was left out then, too
            opened = open_raw(raw, build.camera or Frame, given=build.given, in_memory=False)
            provenance = measure(opened, OverscanOptions(method="none")).source.provenance
            assert provenance is not None
            roots[provenance.id] = provenance
    name = f"master_{cls.kind}"
    parents = [Parent("frame", roots[key]) for key in sorted(roots)]
    used = {"bad_pixels": build.bad_pixels, "bias": arguments.get("bias"), "dark": arguments.get("dark")}
    parents += [Parent(role, image.provenance) for role, image in used.items() if image is not None]
    expected = Provenance(step=predict(name, cls, raws, **arguments), parents=tuple(parents))
    return kept if kept.provenance.id == expected.id else None


def unreadable(parts: Iterable[RawPart]) -> tuple[RawPart, ...]:
    """The parts whose pixels cannot be read."""
    bad = []
    for part in parts:
        try:
            open_raw(part, Frame, given={}, in_memory=True)
        except FileError:
            bad.append(part)
    return tuple(bad)


@functools.lru_cache(maxsize=2)
def _masters(folders: tuple[Path, ...], stamps: tuple[float, ...]) -> Masters:
    """The masters in some folders; ``stamps`` notices when one has changed."""
    made = Masters(())
    for folder in folders:
        if folder.is_dir() and any(folder.rglob("*.fits")):
            made = made + Masters.read(folder)
    return made


def _candidates(folders: tuple[Path, ...]) -> Masters:
    files = sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*.fits"))
    return _masters(folders, tuple(path.stat().st_mtime for path in files))


def run(task: Task) -> Row:
    """Reduce one science frame; whatever goes wrong becomes a row that says so."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            row = _reduce(task)
        except LarunError as error:
            row = attrs.evolve(_about(task), status="failed", message=str(error))
    told = tuple(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, LarunWarning)))
    return attrs.evolve(row, warnings=told)


def _reduce(task: Task) -> Row:
    options = task.options
    raw = task.camera.read(task.raw, ext=task.item.part.ext, channel=task.item.part.channel, **task.given)
    candidates = _candidates(task.masters)
    done = _done(task, raw, candidates)
    if done is not None:
        return _row(task, raw, done, "skipped")
    frame = raw
    if not raw.calibrated:
        frame = raw.calibrate(
            candidates, without=options.without, overscan=options.build.overscan, bad_pixels=options.build.bad_pixels
        )
    if options.clean is not None:
        frame = frame.clean(**options.clean)
    catalog = frame.detect(**options.detect).photometer(**options.photometer)
    for path in (task.frame_path, task.catalog_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    frame.write(task.frame_path, overwrite=True)
    catalog.write(task.catalog_path, overwrite=True)
    return _row(task, raw, catalog, "done")


def _done(task: Task, raw: Frame, masters: Masters) -> SourceCatalog | None:
    """The catalogue of an earlier run, if frame and catalogue are intact and made in just this way."""
    if not (task.frame_path.exists() and task.catalog_path.exists()):
        return None
    options = task.options
    frame = raw.provenance if raw.calibrated else _calibrated(raw, masters, options)
    if options.clean is not None:
        frame = Provenance(step=predict("clean", raw, **options.clean), parents=(Parent("self", frame),))
    detected = Provenance(step=predict("detect", raw, **options.detect), parents=(Parent("self", frame),))
    measured = predict("photometer", raw, **options.photometer)
    expected = Provenance(step=measured, parents=(Parent("self", detected),))
    try:
        catalog = SourceCatalog.read(task.catalog_path)
        kept = task.camera.read(task.frame_path)
    except LarunError:
        return None
    return catalog if catalog.provenance.id == expected.id and kept.provenance.id == frame.id else None


def _calibrated(raw: Frame, masters: Masters, options: ChainOptions) -> Provenance:
    """The record that ``raw.calibrate`` would make."""
    selection = masters.select(raw, without=options.without)
    parents = [Parent("self", raw.provenance)]
    if options.build.bad_pixels is not None:
        parents.append(Parent("bad_pixels", options.build.bad_pixels.provenance))
    parents += [
        Parent(role, m.provenance) for role, m in zip(selection._fields, selection, strict=True) if m is not None
    ]
    step = predict("calibrate", raw, masters, without=options.without, overscan=options.build.overscan)
    return Provenance(step=step, parents=tuple(parents))


def _about(task: Task) -> Row:
    """What the header says of a task's frame."""
    item = task.item
    return Row(
        name=task.name,
        kind="science",
        status="",
        object=item.object,
        filter=item.filter,
        exposure=item.exposure,
        mid_time=item.mid_time,
        airmass=item.airmass,
    )


def _saturated(raw: Frame, catalog: SourceCatalog) -> int | None:
    """How many sources are saturated; None where nobody knows the level."""
    if not any(math.isfinite(amplifier.saturation) for amplifier in raw.detector.amplifiers):
        return None
    return int(np.count_nonzero(np.asarray(catalog["flags"]) & fl.SATURATED))


def _row(task: Task, raw: Frame, catalog: SourceCatalog, status: str) -> Row:
    meta = catalog.meta
    cosmic = next(
        (
            n.step.fitted.get("cosmic_pixels")
            for n in catalog.provenance.line()
            if n.step and n.step.operation == "clean"
        ),
        None,
    )
    return attrs.evolve(
        _about(task),
        status=status,
        path=str(task.catalog_path),
        fwhm=round(meta["fwhm"], 3),
        sky=round(meta["sky_level"], 3),
        sky_rms=round(meta["sky_rms"], 3),
        sources=len(catalog),
        saturated=_saturated(raw, catalog),
        cosmic_pixels=cosmic,
    )


def write_summary(rows: tuple[Row, ...], path: Path) -> None:
    """The summary as an ECSV table."""
    from astropy.table import MaskedColumn, Table

    from larun.io.atomic import atomic_path

    made: dict[str, Any] = {}
    for field in attrs.fields(Row):
        values = [getattr(row, field.name) for row in rows]
        if field.name == "warnings":
            values = ["; ".join(value) for value in values]
        known = [value for value in values if value is not None]
        blank = type(known[0])() if known else ""
        made[field.name] = MaskedColumn(
            [blank if value is None else value for value in values], mask=[value is None for value in values]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=True) as temporary:
        Table(made, meta={"made_by": "larun"}).write(temporary, format="ascii.ecsv", overwrite=True)
