"""What a reduction by a recipe would make, as records: every product's id before any of it is computed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from larun.errors import FileError, LarunError, LarunWarning, OptionError
from larun.io.toml import Entry
from larun.model import grouping, jobs, lineage
from larun.model.image import Image
from larun.model.masters import Master, Masters
from larun.model.recipe import Recipe
from larun.model.sections import ENABLED, KEYWORDS, SECTIONS
from larun.provenance import Provenance

if TYPE_CHECKING:
    from larun.model.grouping import Group
    from larun.model.jobs import Task
    from larun.model.night import Night

__all__ = ["Plan", "Planned", "masters_in", "on_disk", "plans", "recipe_of"]


@attrs.frozen(kw_only=True, eq=False)
class Planned:
    """A product that a reduction would make.

    Parameters
    ----------
    name : str
        Its path in the folder.
    kind : str
        ``bias``, ``dark``, ``flat``, ``frame`` or ``catalog``.
    record : Provenance
        The record that it would have; of what is fitted to data it knows nothing yet.
    masters : tuple of str
        Names of the masters that go into it, without those that go into these.
    frames : int
        Raw frames that it is made from.
    """

    name: str
    kind: str
    record: Provenance
    masters: tuple[str, ...] = ()
    frames: int = 1
    group: Group | None = None
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    task: Task | None = None

    @property
    def id(self) -> str:
        """Of the record."""
        return self.record.id


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """All products of a night by a recipe, masters first.

    Parameters
    ----------
    night : Night
        With all that the recipe says of its headers.
    recipe : Recipe
        What they are made by.
    products : mapping
        By name.
    others : tuple of path
        Folders with masters of other nights.
    problems : tuple of str
        What cannot be made, and why.
    """

    night: Night
    recipe: Recipe
    products: Mapping[str, Planned]
    others: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def of(cls, night: Night, recipe: Recipe, out: Path, others: tuple[Path, ...] = ()) -> Plan:
        """Predict every product of a night that follows its recipe; reads each raw file once, for its digest."""
        build = attrs.evolve(recipe.build, camera=night.camera)
        made: list[Master] = []
        found: dict[str, Planned] = {}
        problems: list[str] = []
        names: dict[str, str] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LarunWarning)  # they are told when something is made
            for group in night._groups(recipe):
                arguments = grouping.choice(group, Masters(made), recipe, build)
                known = grouping.roots(group.parts, build)
                if not known:
                    problems.append(f"master {group.name}: none of its frames can be read")
                    continue
                record = grouping.expected_master(grouping.master_class(group.kind), group.parts, arguments, known)
                name = f"masters/{group.name}.fits"
                used = [names[arguments[role].provenance.id] for role in ("bias", "dark") if arguments.get(role)]
                found[name] = Planned(
                    name=name,
                    kind=group.kind,
                    record=record,
                    masters=tuple(used),
                    frames=len(known),
                    group=group,
                    arguments=arguments,
                )
                names[record.id] = name
                made.append(_stand_in(group, arguments, record))
            candidates = Masters((*made, *masters_in(others)))
            for task in night.tasks(out, recipe):
                try:
                    found |= {item.name: item for item in _science(task, candidates, names)}
                except LarunError as error:
                    problems.append(f"{task.name}: {error}")
        problems += [f"{item.path.name}: {item.evidence}" for item in night.of("unreadable")]
        return cls(night=night, recipe=recipe, products=found, others=others, problems=tuple(problems))

    def masters_of(self, name: str) -> tuple[str, ...]:
        """Names of all masters that go into a product, those that go into these included."""
        found: dict[str, None] = {}
        waiting = list(self.products[name].masters)
        while waiting:
            one = waiting.pop()
            found[one] = None
            waiting.extend(self.products[one].masters)
        return tuple(found)


def masters_in(folders: Iterable[Path]) -> tuple[Master, ...]:
    """All masters in some folders."""
    return tuple(master for folder in folders for master in Masters.read(folder))


def plans(
    night: Night, out: Path, changes: Mapping[str, Mapping[str, Any] | None] | Iterable[Entry], others: tuple[Path, ...]
) -> tuple[Plan, Plan]:
    """What the recipe of a folder makes of a night, and what it makes with other options.

    Raises
    ------
    FileError, OptionError
        As :func:`recipe_of`; or if there is no such section or option, a value makes no sense, or the summary keeps
        only the digest of a value and no other is given.
    """
    said = recipe_of(out)
    changed = list(_entries(changes)) if isinstance(changes, Mapping) else list(changes)
    by_name = {(entry.section, entry.option) for entry in said if _is_name(entry.value)}
    again = [entry for entry in changed if (entry.section, entry.option) in by_name]
    for section, option in sorted(by_name - {(entry.section, entry.option) for entry in again}):
        raise OptionError(
            f"{section}.{option}: what it was the summary does not hold, only its digest: say it again, "
            f"{section}={{{option!r}: …}} (--set {section}.{option}=…)"
        )
    kept = [entry for entry in said if not _is_name(entry.value)]
    first = Recipe.from_entries([*kept, *again])
    second = Recipe.from_entries([*kept, *changed])
    told = {str(entry.option): entry.value for entry in changed if entry.section == KEYWORDS}
    before = attrs.evolve(night, given=dict(first.keywords))
    after, second = attrs.evolve(night, given={**first.keywords, **night.given, **told}).measured(second)
    return (
        Plan.of(before, first, out, others),
        Plan.of(after, second.evolve(keywords=after.given), out, others),
    )


def _is_name(value: Any) -> bool:
    """Whether of a value only a name and a digest are kept: an image, a function."""
    return isinstance(value, Mapping) and bool({"provenance", "function"} & set(value))


def _science(task: Task, candidates: Masters, names: Mapping[str, str]) -> tuple[Planned, Planned]:
    """The frame of a raw file and its catalogue."""
    recipe = task.recipe
    if recipe.solve["reference"] is not None:
        raise OptionError("solve.reference: what solving a frame gives is not known beforehand: reduce the night again")
    raw = task.camera.read(task.raw, ext=task.item.part.ext, channel=task.item.part.channel, **recipe.keywords)
    record = jobs.expected_frame(recipe, raw, candidates)
    used: tuple[str, ...] = ()
    if not raw.calibrated:
        selection = candidates.select(raw, **recipe.calibrate)
        used = tuple(names[one.provenance.id] for one in selection if one is not None and one.provenance.id in names)
    after = jobs.expected_catalog(recipe, raw, record)
    frame, catalog = (str(path.relative_to(task.out)) for path in (task.frame_path, task.catalog_path))
    return (
        Planned(name=frame, kind="frame", record=record, masters=used, task=task),
        Planned(name=catalog, kind="catalog", record=after, masters=used, task=task),
    )


def _stand_in(group: Group, arguments: Mapping[str, Any], record: Provenance) -> Master:
    """A master without pixels: what selection asks of it is known before it is made."""
    cls = grouping.master_class(group.kind)
    criteria = {name: value for name, value in group.criteria.items() if name in cls.criteria_names()}
    criteria["bias_removed"] = arguments.get("bias") is not None
    told = [item.criteria.get("temperature") for item in group.exposures]
    known = sorted(float(value) for value in told if value is not None)
    if known:
        criteria["temperature"] = float(np.median(known))
    fields: dict[str, Any] = {"criteria": criteria, "count": len(group.exposures), "provenance": record}
    if group.kind == "dark":
        seconds = group.criteria.get("exposure")
        fields |= {"exposure": float(seconds or 0.0), "bias_removed": criteria["bias_removed"]}
    blank = Image.from_arrays(np.zeros((1, 1), np.float32))
    plain = {name: getattr(blank, name) for name in ("data", "flags", "unit", "detector")}
    made: Master = cls(**plain, header=blank._header, wcs_header=blank._wcs_header, **fields)
    return made


def on_disk(out: Path, names: Iterable[str]) -> dict[str, Provenance]:
    """Records of the products in a folder, of those that are there and whose records are sound."""
    found = {}
    for name in names:
        path = out / name
        if not path.is_file():
            continue
        try:
            product = lineage.record_of(path)
        except LarunError:  # it is made again
            continue
        if product is not None:
            found[name] = product.provenance
    return found


def recipe_of(out: Path) -> list[Entry]:
    """The recipe that a reduction left in its summary, entry by entry.

    Raises
    ------
    FileError
        If the summary is missing or was changed, or the folder holds no catalogue.
    """
    from astropy.table import Table

    from larun.io.ecsv import SUMMARY_SEAL
    from larun.io.sealed import seal_problems
    from larun.io.tables import FORMATS

    path = out / "summary.ecsv"
    if not path.is_file():
        raise FileError(
            f"{out}: holds no summary.ecsv, which says by which recipe it was made: give the folder of a reduction"
        )
    content = path.read_bytes().replace(b"\r\n", b"\n")
    if problems := seal_problems(content, SUMMARY_SEAL, "summary"):
        raise FileError(f"{path}: {problems[0].detail}: reduce the night again into this folder")
    sections = Table.read(content.decode("utf-8"), format="ascii.ecsv").meta["recipe"]
    said = [Entry(name, key, value, str(path)) for name, values in sections.items() for key, value in values.items()]
    for known in FORMATS:  # the format of catalogues decides no values: it is not in the recipe that is kept
        if any((out / "catalogs").glob(f"*{known.suffixes[0]}")):
            return [*said, Entry("output", "catalog", known.suffixes[0].removeprefix("."), str(path))]
    return said


def _entries(changes: Mapping[str, Mapping[str, Any] | None]) -> Iterable[Entry]:
    for name, values in changes.items():
        if values is None and name in SECTIONS and SECTIONS[name].may_be_left_out:
            yield Entry(name, ENABLED, False, "replay")
        elif not isinstance(values, Mapping):
            raise OptionError(f"replay: {name}={values!r}: give a mapping of options, as {name}={{…}}")
        else:
            if name in SECTIONS and SECTIONS[name].may_be_left_out:
                yield Entry(name, ENABLED, True, "replay")
            for key, value in values.items():
                yield Entry(name, str(key), value, "replay")
