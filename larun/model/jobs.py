"""The pieces of a reduction: one task per science frame, and what each one reports."""

from __future__ import annotations

import functools
import importlib
import io
import math
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np

from larun import flags as fl
from larun.errors import LarunError, LarunWarning, NotSolved, OptionError
from larun.model.astrometry.step import located, was_located
from larun.model.catalog import SourceCatalog
from larun.model.checks.verdict import Verdict
from larun.model.frame import Frame
from larun.model.masters import Master, Masters
from larun.model.raw.exposures import Exposure
from larun.model.recipe import Recipe
from larun.provenance import Parent, Provenance, predict

__all__ = [
    "Row",
    "Task",
    "candidates",
    "check_portable",
    "expect_summary",
    "expected_catalog",
    "expected_frame",
    "run",
    "write_summary",
]

_P = TypeVar("_P")


@attrs.frozen(kw_only=True)
class Row:
    """One line of the summary.

    ``status`` is ``done``, ``skipped`` (it was there already) or ``failed`` (``message`` says why); ``written`` is how
    many files were made now: of a science frame, the frame and its catalogue.
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
    solved: bool | None = None
    written: int = 0
    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Task:
    """One science frame to reduce: paths and options, no arrays."""

    item: Exposure
    name: str
    out: Path
    masters: tuple[Path, ...]
    recipe: Recipe
    camera: type[Frame]
    #: What is known of the night before its frames are made; kept in the products.
    verdicts: tuple[Verdict, ...] = ()

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
        return self.out / "catalogs" / f"{self.name}.{self.recipe.output['catalog']}"


def check_portable(recipe: Recipe) -> None:
    """Refuse functions of the user's own that another process could not find.

    Raises
    ------
    OptionError
        If one is a lambda, was defined inside another function, or was typed at a prompt.
    """
    given = {"engine": (recipe.clean or {}).get("engine"), "method": recipe.detect["method"]}
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


@functools.lru_cache(maxsize=2)
def _masters(places: tuple[Path, ...], stamps: tuple[float, ...]) -> Masters:
    """The masters in some files and folders; ``stamps`` notices when one has changed."""
    made = Masters(())
    for place in places:
        if place.is_file():
            made = made + Masters((Master.read(place),))
        elif place.is_dir() and any(place.rglob("*.fits")):
            made = made + Masters.read(place)
    return made


def candidates(places: tuple[Path, ...]) -> Masters:
    """The masters in some files and folders."""
    files = [place for place in places if place.is_file()]
    files += sorted(path for place in places if place.is_dir() for path in place.rglob("*.fits"))
    return _masters(places, tuple(path.stat().st_mtime for path in files))


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
    """What is there and still right is kept: the frame, its catalogue, or both."""
    recipe = task.recipe
    raw = task.camera.read(task.raw, ext=task.item.part.ext, channel=task.item.part.channel, **recipe.keywords)
    there = candidates(task.masters)
    expected = expected_frame(recipe, raw, there) if task.frame_path.exists() else None
    frame = kept = _kept(task.camera.read, task.frame_path, expected, recipe)
    catalog = None
    if frame is not None and task.catalog_path.exists():
        catalog = _kept(SourceCatalog.read, task.catalog_path, expected_catalog(recipe, raw, frame.provenance))
    written = 0
    with ThreadPoolExecutor(1) as disk:
        writing = None
        if frame is None:
            frame = recipe.prepare(raw, there)
        if recipe.solve["reference"] is not None and not _is_solved(frame):
            frame = _located(recipe, frame)  # one that is kept and was not solved is perhaps solved now
        if frame is not kept:
            catalog = None
            if task.catalog_path.exists():  # the frame alone was lost
                catalog = _kept(SourceCatalog.read, task.catalog_path, expected_catalog(recipe, raw, frame.provenance))
            writing = disk.submit(_write, frame, task.frame_path, task)  # while its sources are measured
        measured = recipe.measure(frame) if catalog is None else catalog
        if writing is not None:  # a catalogue never stands without its frame
            written += writing.result()
        if catalog is None:
            written += _write(measured, task.catalog_path, task)
    row = _row(task, raw, measured, written)
    return row if recipe.solve["reference"] is None else attrs.evolve(row, solved=_is_solved(frame))


def _is_solved(frame: Frame) -> bool:
    step = frame.provenance.step
    return step is not None and step.operation == "solve"


def _located(recipe: Recipe, frame: Frame) -> Frame:
    """A frame that nothing on the sky agrees with stays as it is, and its row says so."""
    try:
        return located(frame, recipe.solve)
    except NotSolved as error:
        warnings.warn(f"not solved: {error}", LarunWarning, stacklevel=2)
        return frame


def _write(product: Frame | SourceCatalog, path: Path, task: Task) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    product.write(path, overwrite=True, recipe=task.recipe, verdicts=task.verdicts)
    return 1


def _kept(
    read: Callable[[Path], _P], path: Path, expected: Provenance | None, recipe: Recipe | None = None
) -> _P | None:
    """What a file holds, if it is intact and was made in just this way (and solved as a recipe says); else None."""
    if expected is None:
        return None
    try:
        found = read(path)
    except LarunError:
        return None
    record: Provenance = found.provenance  # type: ignore[attr-defined]
    same = record.id == expected.id or (recipe is not None and was_located(record, expected, recipe.solve))
    return found if same else None


def expected_frame(recipe: Recipe, raw: Frame, masters: Masters) -> Provenance:
    """The record that :meth:`Recipe.prepare` would give this frame, without computing anything."""
    made = raw.provenance if raw.calibrated else _calibrated(recipe, raw, masters)
    if recipe.clean is None:
        return made
    return Provenance(step=predict("clean", raw, **recipe.clean), parents=(Parent("self", made),))


def _calibrated(recipe: Recipe, raw: Frame, masters: Masters) -> Provenance:
    """The record that ``raw.calibrate`` would make."""
    build = recipe.build
    selection = masters.select(raw, **recipe.calibrate)
    parents = [Parent("self", raw.provenance)]
    if build.bad_pixels is not None:
        parents.append(Parent("bad_pixels", build.bad_pixels.provenance))
    parents += [
        Parent(role, m.provenance) for role, m in zip(selection._fields, selection, strict=True) if m is not None
    ]
    step = predict("calibrate", raw, masters, overscan=build.overscan, **recipe.calibrate)
    return Provenance(step=step, parents=tuple(parents))


def expected_catalog(recipe: Recipe, raw: Frame, frame: Provenance) -> Provenance:
    """The record that :meth:`Recipe.measure` would give the catalogue of a frame with this record."""
    detected = Provenance(step=predict("detect", raw, **recipe.detect), parents=(Parent("self", frame),))
    return Provenance(step=predict("photometer", raw, **recipe.photometer), parents=(Parent("self", detected),))


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


def _row(task: Task, raw: Frame, catalog: SourceCatalog, written: int) -> Row:
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
        status="done" if written else "skipped",
        written=written,
        path=str(task.catalog_path),
        fwhm=round(meta["fwhm"], 3),
        sky=round(meta["sky_level"], 3),
        sky_rms=round(meta["sky_rms"], 3),
        sources=len(catalog),
        saturated=_saturated(raw, catalog),
        cosmic_pixels=cosmic,
    )


def expect_summary() -> None:
    """Import what the summary needs, beside whatever is waited for."""
    threading.Thread(target=importlib.import_module, args=("astropy.table",), daemon=True).start()


def write_summary(rows: tuple[Row, ...], path: Path, recipe: Recipe, verdicts: Iterable[Verdict] = ()) -> None:
    """The summary as an ECSV table; its metadata hold the recipe, its digest, and what the night was found to be.

    It carries the digest of its own bytes, as catalogues do, and no record: it is made of those of the products.
    """
    from astropy.table import MaskedColumn, Table

    from larun.io.atomic import atomic_path
    from larun.io.ecsv import SUMMARY_SEAL
    from larun.io.sealed import UNSEALED, sealed

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
        meta: dict[str, Any] = {"made_by": "larun", "recipe": recipe.record(), "recipe_digest": recipe.digest}
        meta |= {"checks": [verdict.note for verdict in verdicts], "summary_sha256": UNSEALED}
        text = io.StringIO()
        Table(made, meta=meta).write(text, format="ascii.ecsv")
        temporary.write_bytes(sealed(text.getvalue().encode("utf-8"), SUMMARY_SEAL))
