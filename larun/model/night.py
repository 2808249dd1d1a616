"""``Night``: a folder of raw files, its masters, and the whole chain for every science frame, resumable."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from larun.errors import LarunError, OptionError
from larun.model import display, grouping, jobs, loading, workers
from larun.model.frame import Frame
from larun.model.grouping import Group
from larun.model.jobs import Row, Task
from larun.model.masters import Master, Masters, Selection
from larun.model.raw import exposures
from larun.model.raw.exposures import Exposure
from larun.model.raw.opening import RawPart
from larun.model.raw.reduction import leveled_reader
from larun.model.recipe import Recipe
from larun.model.summary import Summary
from larun.model.transfer import measured_values

if TYPE_CHECKING:
    from astropy.table import QTable

    from larun.model.building import BuildOptions
    from larun.model.checks.verdict import Report, Verdict
    from larun.model.replay.whatif import WhatIf
    from larun.model.stacking.series import StackRow

__all__ = ["Night"]

Progress = Callable[[str, int, int], None]


def _path(value: str | Path) -> Path:
    return Path(value)


def _paths(values: str | Path | Iterable[str | Path]) -> list[Path]:
    return [Path(value) for value in ([values] if isinstance(values, str | Path) else values)]


@attrs.frozen
class Night:
    """A folder of raw files.

    Parameters
    ----------
    folder : path
        Searched with its subfolders; products of larun in it are left out.
    given : mapping
        What the headers do not say or get wrong, for every file: by quantity or by keyword.
    camera : type
        Class to read the files with; by default every header chooses its own.
    left_out : frozenset of RawPart
        Files, or parts of them, that are as if they were not there: see :meth:`select`.

    Examples
    --------
    >>> import larun
    >>> night = larun.Night("raw/")  # doctest: +SKIP
    >>> night.reduce("out/")  # doctest: +SKIP
    """

    folder: Path = attrs.field(converter=_path)
    given: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    camera: type[Frame] = attrs.field(default=Frame, kw_only=True)
    left_out: frozenset[RawPart] = attrs.field(default=frozenset(), kw_only=True)

    @functools.cached_property
    def files(self) -> tuple[Exposure, ...]:
        """Every raw file, classified, in order of path.

        Raises
        ------
        FileError
            If the folder does not exist or holds no FITS file.
        """
        found = (exposures.examine(path, self.camera, self.given) for path in exposures.find(self.folder))
        return tuple(item for items in found for item in items if item.part not in self.left_out)

    _repr_html_ = display.night_html

    def of(self, kind: str) -> tuple[Exposure, ...]:
        """The files of one kind."""
        return tuple(item for item in self.files if item.kind == kind)

    def masters(
        self,
        out: str | Path | None = None,
        *,
        recipe: Recipe | None = None,
        progress: Progress | None = None,
        report: Callable[[Row], None] | None = None,
    ) -> Masters:
        """Bias, darks and flats of the night, one master for each group of frames that belong together.

        Parameters
        ----------
        out : path, optional
            Folder to keep them in; what is there already and still right is read, not made again.
        recipe : Recipe, optional
            How they are made, and which kinds are left alone (``calibrate.without``).
        progress : callable, optional
            Called with a name, a number and a total.
        report : callable, optional
            Called with a :class:`Row` for every master; without it a master that fails raises.
        """
        chosen = recipe or Recipe()
        night, chosen = self.measured(chosen)
        return night._masters(out, chosen, progress, report)

    def _following(self, recipe: Recipe) -> Self:
        """This night with what the recipe says of the headers; what was given to the night itself comes first."""
        return attrs.evolve(self, given={**recipe.keywords, **self.given}) if recipe.keywords else self

    def measured(self, recipe: Recipe) -> tuple[Self, Recipe]:
        """This night and a recipe in which gain and read noise that are to be measured are numbers of its keywords.

        They come from the night's own flats and biases; what was given to the night itself is never measured.

        Raises
        ------
        OptionError
            If a quantity is to be measured that is given as well, or that the night does not tell.
        """
        night = self._following(recipe)
        wanted = [name for name, source in recipe.detector.items() if source == "measured"]
        if not wanted:
            return night, recipe
        keywords = night.camera.all_keywords()
        for name in wanted:
            said = [key for key in (name, *keywords[name]) if key in night.given]
            if said:
                raise OptionError(
                    f"detector.{name}=measured, but {said[0]} = {night.given[said[0]]!r} is given: say one of the two"
                )
        read = leveled_reader(night.camera, given=night.given, overscan=recipe.build.overscan)
        values = measured_values(night.files, wanted, lambda item: read(item.part))
        told = recipe.evolve(keywords={**recipe.keywords, **values}, detector=dict.fromkeys(wanted, "header"))
        return attrs.evolve(night, given={**night.given, **values}), told

    def _masters(
        self,
        out: str | Path | None,
        recipe: Recipe,
        progress: Progress | None,
        report: Callable[[Row], None] | None,
        verdicts: tuple[Verdict, ...] = (),
    ) -> Masters:
        groups = self._groups(recipe)
        recipe = recipe.evolve(keywords=self.given)
        build = attrs.evolve(recipe.build, camera=self.camera)
        made: tuple[Master, ...] = ()
        for index, group in enumerate(groups):
            if progress:
                progress(f"master {group.name}", index, len(groups))
            try:
                master, row = self._master(group, Masters(made), out, recipe, build, verdicts)
            except LarunError as error:
                if report is None:
                    raise
                report(Row(name=group.name, kind=group.kind, status="failed", message=str(error)))
                continue
            made = (*made, master)
            if report:
                report(row)
        return Masters(made)

    def _master(
        self,
        group: Group,
        before: Masters,
        out: str | Path | None,
        recipe: Recipe,
        build: BuildOptions,
        verdicts: tuple[Verdict, ...],
    ) -> tuple[Master, Row]:
        """One master, from disk if it is there and made of the same files in the same way."""
        choice = grouping.choice(group, before, recipe, build)
        cls = grouping.master_class(group.kind)
        path = None if out is None else Path(out) / f"{group.name}.fits"
        parts = [item.part for item in group.exposures]
        if path is not None and path.exists():
            kept = grouping.still_right(cls, path, parts, choice)
            if kept is not None:
                return kept, Row(name=group.name, kind=group.kind, status="skipped", path=str(path), frames=kept.count)
        master, message = grouping.combined(group, choice)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            master.write(path, overwrite=True, recipe=recipe, verdicts=verdicts)
        where = "" if path is None else str(path)
        return master, Row(
            name=group.name,
            kind=group.kind,
            status="done",
            written=int(path is not None),
            path=where,
            frames=master.count,
            message=message,
        )

    def _groups(self, recipe: Recipe) -> list[Group]:
        """The calibration frames that belong together, in the order in which their masters need each other."""
        kinds = [kind for kind in Selection._fields if kind not in recipe.calibrate["without"]]
        return [group for kind in kinds for group in grouping.group(kind, self.of(kind))]

    def plan(
        self, out: str | Path, *, recipe: Recipe | None = None, masters: str | Path | Iterable[str | Path] = ()
    ) -> tuple[dict[str, str], ...]:
        """What :meth:`reduce` would do, from the headers alone: one row per product; parameters are the same.

        Warns
        -----
        LarunWarning
            If science frames require a kind of master that will not be there.
        """
        from larun.model.planned import planned

        self._check_folder(out)
        chosen = recipe or Recipe()
        return planned(self._following(chosen), Path(out), chosen, _paths(masters))

    def _check_folder(self, out: str | Path) -> None:
        if Path(out).resolve() == self.folder.resolve():
            raise OptionError(f"{out}: is the folder of the raw files: give the products a folder of their own")

    def reduce(
        self,
        out: str | Path,
        *,
        recipe: Recipe | None = None,
        masters: str | Path | Iterable[str | Path] = (),
        processes: int | None = 1,
        progress: Progress | None = None,
    ) -> Summary:
        """Masters, then calibrate, clean, detect and photometer for every science frame.

        What is done already (by provenance id) is skipped; a frame that fails is reported and the rest goes on.

        Parameters
        ----------
        out : path
            Folder for ``masters/``, ``frames/``, ``catalogs/`` and ``summary.ecsv``.
        recipe : Recipe, optional
            Every option of the chain; its ``keywords`` give way to those of the night.
        masters : path or paths
            More folders with masters, from other nights.
        processes : int or None
            Frames reduced at the same time, each in a process of its own; None takes as many as there are threads and
            memory for. With 1 all is done in this process. (A script that asks for more must do so under
            ``if __name__ == "__main__":``, because the processes import it.)
        progress : callable, optional
            Called with a name, a number and a total.

        Returns
        -------
        Summary

        Raises
        ------
        OptionError
            If there is no science frame, or an option makes no sense.
        """
        chosen = recipe or Recipe()
        count = self._processes(chosen, processes)
        night, chosen = self.measured(chosen)
        return night._reduce(Path(out), chosen, masters, count, progress)

    def _reduce(
        self,
        out: Path,
        recipe: Recipe,
        masters: str | Path | Iterable[str | Path],
        processes: int,
        progress: Progress | None,
    ) -> Summary:
        recipe = recipe.evolve(keywords=self.given)
        self._check_folder(out)
        others = _paths(masters)
        for folder in others:
            Masters.read(folder)  # a folder without masters is an error now, not a frame without masters later
        rows = [
            Row(name=item.path.name, kind="unreadable", status="failed", message=item.evidence)
            for item in self.of("unreadable")
        ]
        from larun.model.checks.driver import check_cheaply  # it reduces nights itself

        verdicts = check_cheaply(self, recipe)
        self._masters(out / "masters", recipe, progress, rows.append, verdicts)
        # of the folder's masters those of this run: an older one may come from files that are there no more
        made_now = tuple(Path(row.path) for row in rows if row.kind in Selection._fields and row.path)
        tasks = [attrs.evolve(task, verdicts=verdicts) for task in self.tasks(out, recipe, (*made_now, *others))]
        if not tasks:
            raise OptionError(f"{self.folder}: holds no science frames ({len(self.files)} files; see larun ls)")
        if processes > 1:
            jobs.expect_summary()
        for index, row in enumerate(_run(tasks, processes)):
            rows.append(row)
            if progress:
                progress(row.name, index + 1, len(tasks))
        jobs.write_summary(tuple(rows), out / "summary.ecsv", recipe, verdicts)
        return Summary(tuple(rows), verdicts)

    def stack(
        self, out: str | Path, *, by: Iterable[str] = ("object", "filter"), recipe: Recipe | None = None, **how: Any
    ) -> tuple[StackRow, ...]:
        """Reduce the night, and put the frames of each object and filter on one another, in ``out/stacks``.

        ``how`` are options of :meth:`larun.Stack.combine`. A stack that fails and frames left out are told in its row.
        """
        from larun.model.stacking.series import groups_of, stack_groups

        done = [row for row in self.reduce(out, recipe=recipe).rows if row.kind == "science" and row.status != "failed"]
        groups = groups_of([Path(out) / "frames" / f"{Path(row.path).stem}.fits" for row in done], tuple(by))
        return stack_groups(groups, Path(out) / "stacks", **how)

    def quality(self, *, out: str | Path | None = None, recipe: Recipe | None = None) -> QTable:
        """How good each science frame is, and what it is worth among those of its object and filter.

        Parameters
        ----------
        out : path, optional
            Folder of a reduction, which is done or completed first; without it frames are calibrated in memory.
        recipe : Recipe, optional
            How they are calibrated.

        Returns
        -------
        QTable
            One row a frame: ``frame``, ``object``, ``filter``, ``airmass``, ``mid_time`` and what
            :func:`larun.grade` says. A frame that cannot be measured has NaN and the ``reason``.
        """
        from larun.model.quality.nights import night_quality

        return night_quality(self, out, recipe or Recipe())

    def select(self, condition: str, *, out: str | Path | None = None, recipe: Recipe | None = None) -> Self:
        """This night with only the science frames for which a condition on :meth:`quality` holds.

        Calibration frames stay. Frames that are left out are told with their numbers, in a warning.

        Parameters
        ----------
        condition : str
            ``"fwhm < 3 and ellipticity < 0.15"``, ``"worth > 0.5"``, ``"filter == 'V'"``; see
            :func:`larun.expression.parse`.
        out, recipe
            As for :meth:`quality`.

        Raises
        ------
        OptionError
            If it is no condition, or no frame satisfies it.
        """
        from larun.model.quality.nights import parts_without

        return attrs.evolve(self, left_out=self.left_out | parts_without(self, condition, out, recipe or Recipe()))

    def replay(
        self,
        out: str | Path,
        *,
        others: str | Path | Iterable[str | Path] = (),
        **changes: Mapping[str, Any] | None,
    ) -> WhatIf:
        """What a reduction of this night would be with other options; only what depends on them is made, when asked.

        Parameters
        ----------
        out : path
            Folder of the reduction; its summary holds the recipe.
        others : path or paths
            Folders with masters of other nights that it used.
        **changes : mapping or None
            Sections of the recipe with the options that change: ``clean={"sigma": 5}``; ``clean=None`` leaves it out.

        Returns
        -------
        WhatIf

        Raises
        ------
        FileError
            If the folder is not that of a reduction.
        OptionError
            If the raw files are not those it was made from, or an option makes no sense.

        Examples
        --------
        >>> import larun
        >>> other = larun.Night("raw/").replay("out/", clean={"sigma": 5})  # doctest: +SKIP
        >>> print(other.cost())  # doctest: +SKIP
        """
        from larun.model.replay.planning import plans
        from larun.model.replay.whatif import WhatIf

        return WhatIf(Path(out), *plans(self, Path(out), changes, tuple(_paths(others))))

    def check(
        self,
        *,
        out: str | Path | None = None,
        recipe: Recipe | None = None,
        masters: str | Path | Iterable[str | Path] = (),
        processes: int | None = 1,
        progress: Progress | None = None,
    ) -> Report:
        """Let the night prove its own errors: tests on its own frames that need no truth.

        Parameters
        ----------
        out : path, optional
            Folder of a reduction: what is there is used, what is missing is made and kept. Without it the night is
            reduced into a folder that is gone at the end.
        recipe : Recipe, optional
            How it is reduced.
        masters : path or paths
            More folders with masters, from other nights.
        processes : int or None
            As for :meth:`reduce`.
        progress : callable, optional
            Called with a name, a number and a total.

        Returns
        -------
        Report
            A verdict or more of each test; ``report.faults`` holds what is wrong.

        Raises
        ------
        OptionError
            If an option makes no sense, for this night or for several processes.
        """
        from larun.model.checks.driver import check_night

        chosen = recipe or Recipe()
        if out is not None:
            self._check_folder(out)
        count = self._processes(chosen, processes)
        return check_night(self, chosen, None if out is None else Path(out), _paths(masters), count, progress)

    def _processes(self, recipe: Recipe, wanted: int | None) -> int:
        """How many processes reduce frames; where there are several, they all can follow the recipe."""
        count = workers.how_many(wanted, self._pixels)
        if count > 1:
            jobs.check_portable(recipe)
            workers.prepare()
        return count

    def _pixels(self) -> int:
        """Of the largest science frame."""
        return max((math.prod(item.criteria.get("size") or (1,)) for item in self.of("science")), default=1)

    def tasks(self, out: Path, recipe: Recipe, masters: tuple[Path, ...] = ()) -> list[Task]:
        """What :meth:`reduce` does for the science frames: one task each, paths and options without arrays."""
        science = self.of("science")
        paths = [item.path.relative_to(self.folder) for item in science]
        names = exposures.names_for(paths, [item.part.label for item in science])
        return [
            Task(
                item=item,
                name=name,
                out=out,
                masters=masters,
                recipe=recipe,
                camera=self.camera,
            )
            for item, name in zip(science, names, strict=True)
        ]


def _run(tasks: list[Task], processes: int) -> Iterable[Row]:
    """The rows of all tasks, in their order; what computes them does not change them."""
    if processes == 1:
        return (jobs.run(task) for task in tasks)
    return workers.run(jobs.run, tasks, processes, partial(loading.restore, loading.sources()))
