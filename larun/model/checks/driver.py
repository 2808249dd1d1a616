"""From a night, a folder of products or one frame to the report of all tests."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from larun.errors import FileError, LarunError, LarunWarning, OptionError
from larun.model import jobs, loading, workers
from larun.model.catalog import SourceCatalog
from larun.model.checks import suite
from larun.model.checks.facts import FrameFacts, frame_facts
from larun.model.checks.material import Material
from larun.model.checks.verdict import Report, Verdict
from larun.model.frame import Frame
from larun.model.grouping import Group, group
from larun.model.jobs import Row
from larun.model.masters import Masters, Selection
from larun.model.raw.exposures import Exposure
from larun.model.recipe import Recipe, said_in

if TYPE_CHECKING:
    from larun.model.night import Night

__all__ = ["check_cheaply", "check_frame", "check_night", "check_products"]

Progress = Callable[[str, int, int], None]


def check_night(
    night: Night,
    recipe: Recipe,
    out: Path | None,
    masters: Sequence[Path],
    processes: int,
    progress: Progress | None,
) -> Report:
    """Reduce a night, into a folder that is kept or not, and test everything it tells about its own errors."""
    start = time.perf_counter()
    night, recipe = night.measured(recipe)
    told = recipe.evolve(keywords={**recipe.keywords, **night.given})
    if not masters:
        recipe = _bearable(night, recipe)
    with _folder(out) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)  # what they say, the verdicts say better
        rows: list[Row] = []
        products: list[_Product] = []
        if night.of("science"):
            summary = night.reduce(folder, recipe=recipe, masters=masters, processes=processes, progress=progress)
            rows += summary.rows
            lost = {row.name for row in summary.failed}
            tasks = (task for task in night.tasks(folder, recipe) if task.name not in lost)
            products = [_Product(task.name, task.frame_path, task.catalog_path) for task in tasks]
        else:
            night.masters(folder / "masters", recipe=recipe, report=rows.append)
        # of the folder's masters those of this run: an older one may come from files that are there no more
        made_now = (Path(row.path) for row in rows if row.kind in Selection._fields and row.path)
        facts = tuple(_all_facts(products, processes, progress))
        material = Material(
            exposures=night.files,
            recipe=told,
            camera=night.camera,
            masters=jobs.candidates((*made_now, *masters)),
            facts=tuple(sorted(facts, key=_by_time)),
            products={product.name: product.read for product in products},
        )
        report = suite.run(material, str(night.folder))
    failed = tuple(_failed(row) for row in rows if row.status == "failed")
    return attrs.evolve(report, verdicts=failed + report.verdicts, seconds=time.perf_counter() - start)


def _bearable(night: Night, recipe: Recipe) -> Recipe:
    """The recipe without kinds of masters of which the night has no frame: their lack is a verdict, and no end."""
    there = {kind for kind in Selection._fields if night.of(kind)}
    there |= {"bias"} if "dark" in there else set()  # a dark that holds its bias serves for it
    without = {*recipe.calibrate["without"], *(kind for kind in Selection._fields if kind not in there)}
    return recipe.evolve(calibrate={**recipe.calibrate, "without": tuple(sorted(without))})


def check_cheaply(night: Night, recipe: Recipe) -> tuple[Verdict, ...]:
    """What the cheap tests say of a pair of each group of biases and flats, before anything is made of them."""
    few = [item for kind in ("bias", "flat") for alike in group(kind, night.of(kind)) for item in _few(alike)]
    material = Material(
        exposures=tuple(few),
        recipe=recipe.evolve(keywords={**recipe.keywords, **night.given}),
        camera=night.camera,
        masters=Masters(()),
        facts=(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        return suite.run(material, str(night.folder), tuple(test for test in suite.TESTS if test.cheap)).verdicts


def _few(group: Group) -> tuple[Exposure, ...]:
    """A pair from the middle of a group: its first exposures may not have settled."""
    middle = max(0, len(group.exposures) // 2 - 1)
    return group.exposures[middle : middle + 2]


def check_products(
    folder: Path, *, recipe: Recipe | None = None, processes: int | None = 1, progress: Progress | None = None
) -> Report:
    """Test what a reduction left in a folder; what only raw frames can tell is untested.

    Parameters
    ----------
    folder : path
        With ``frames/`` and ``catalogs/``.
    recipe : Recipe, optional
        How artificial stars are searched (its ``detect``); by default as the products say that sources were.
    processes : int or None
        Frames that are looked at at the same time, each in a process of its own; None takes as many as there are
        threads and memory for.
    progress : callable, optional
        Called with a name, a number and a total.

    Raises
    ------
    FileError
        If the folder holds no frames with catalogues.
    OptionError
        If the recipe has other options, which change nothing in products.
    """
    start = time.perf_counter()
    if recipe is not None:
        _check_applies(recipe, folder)
    catalogs = {path.stem: path for path in sorted((folder / "catalogs").glob("*")) if path.is_file()}
    products = [
        _Product(path.stem, path, catalogs[path.stem])
        for path in sorted((folder / "frames").glob("*.fits"))
        if path.stem in catalogs
    ]
    if not products:
        raise FileError(f"{folder}: holds no frames with catalogues: give the folder of a reduction, or of raw frames")
    count = workers.how_many(processes, lambda: math.prod(Frame.read(products[0].frame).shape))
    facts = tuple(_all_facts(products, count, progress))
    made = Masters.read(folder / "masters") if any((folder / "masters").glob("*.fits")) else Masters(())
    material = Material(
        exposures=(),
        recipe=recipe or _recipe_of(products[0].catalog),
        camera=Frame,
        masters=made,
        facts=tuple(sorted(facts, key=_by_time)),
        products={product.name: product.read for product in products},
    )
    report = suite.run(material, str(folder))
    return attrs.evolve(report, seconds=time.perf_counter() - start)


def _check_applies(recipe: Recipe, folder: Path) -> None:
    said = [one.option for one in recipe.diff(Recipe()) if not one.option.startswith("detect.")]
    if said:
        raise OptionError(
            f"{', '.join(said)}: changes nothing in the products in {folder}, of which only detect.… says how "
            f"artificial stars are searched: check the raw frames (larun check RAW --out {folder})"
        )


def _recipe_of(catalog: Path) -> Recipe:
    """How a catalogue was detected; the default recipe where it was made without one, or by what has no name."""
    try:
        return Recipe.from_entries(entry for entry in said_in(catalog)[0] if entry.section == "detect")
    except LarunError:
        return Recipe()


def check_frame(frame: Frame, recipe: Recipe | None = None) -> Report:
    """Test one calibrated frame.

    Raises
    ------
    OptionError
        If it is not calibrated.
    """
    if not frame.calibrated:
        raise OptionError(f"{frame!r} is raw: calibrate it first, or check the night (larun.Night(folder).check())")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        catalog = (recipe or Recipe()).measure(frame)
    name = frame.provenance.name or repr(frame)
    material = Material(
        exposures=(),
        recipe=recipe or Recipe(),
        camera=type(frame),
        masters=Masters(()),
        facts=(frame_facts(name, frame, catalog),),
        products={name: lambda: (frame, catalog)},
    )
    report = suite.run(material, name, tuple(test for test in suite.TESTS if test.single))
    return attrs.evolve(report, seconds=time.perf_counter() - start)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """A folder for the products: the one that is given, or one that is gone at the end."""
    if out is not None:
        yield out
        return
    made = Path(tempfile.mkdtemp(prefix="larun-check-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _failed(row: Row) -> Verdict:
    return Verdict(test="reduction", status="bad", where=row.name, meaning=f"could not be reduced: {row.message}")


class _Product(NamedTuple):
    """A calibrated frame and its catalogue, on disk."""

    name: str
    frame: Path
    catalog: Path

    def read(self) -> tuple[Frame, SourceCatalog]:
        frame = Frame.read(self.frame)
        try:
            return frame, SourceCatalog.read(self.catalog)
        except LarunError as error:
            raise FileError(f"{self.catalog}: its frame cannot be tested without it: {error}") from error


def _all_facts(products: list[_Product], processes: int, progress: Progress | None) -> Iterator[FrameFacts]:
    made = (
        map(_facts, products)
        if processes == 1 or not products
        else workers.run(_facts, products, processes, partial(loading.restore, loading.sources()))
    )
    for index, facts in enumerate(made):
        if progress:
            progress(f"testing {facts.name}", index + 1, len(products))
        yield facts


def _facts(product: _Product) -> FrameFacts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LarunWarning)
        return frame_facts(product.name, *product.read())


def _by_time(facts: FrameFacts) -> tuple[float, str]:
    return facts.mid_jd or 0.0, facts.name
