"""The sections of a recipe: which step each belongs to, and what is wrong with what somebody says of them."""

from __future__ import annotations

import numbers
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from larun.algorithms.overscan import OverscanOptions
from larun.errors import OptionError, RecipeError
from larun.io.tables import FORMATS
from larun.io.toml import LARGEST, Entry, entries, shown
from larun.model import registry
from larun.model.astrometry.step import SolveStep
from larun.model.building import BuildOptions
from larun.model.catalog import SourceCatalog
from larun.model.frame import Frame
from larun.model.headers import split_given
from larun.model.masters import MasterBias, MasterDark, MasterFlat
from larun.model.options import Option, Source, nearest
from larun.model.sky import SkyImage
from larun.model.transfer import DetectorOptions

__all__ = ["ENABLED", "KEYWORDS", "SECTIONS", "OutputOptions", "Section", "file_entries", "switch", "understood"]

KEYWORDS = "keywords"
#: Option of a section that may be left out: whether its step is done.
ENABLED = "enabled"

_LINE = re.compile(r"(?!--)\S.*?:(\d+): ")


@attrs.frozen(kw_only=True)
class OutputOptions:
    """What is written of a reduction, besides masters and frames in FITS.

    Parameters
    ----------
    catalog : {"ecsv", "fits", "parquet", "vot"}
        Format of the catalogues: text that any editor shows; a binary table; for pandas and databases; a VOTable.
    """

    catalog: str = attrs.field(default="ecsv", metadata={"recorded": False})

    def __attrs_post_init__(self) -> None:
        names = [known.suffixes[0].removeprefix(".") for known in FORMATS]
        if self.catalog not in names:
            raise OptionError(f"catalog = {self.catalog!r}: use {', '.join(names)}")


@attrs.frozen
class Section:
    """One section of a recipe.

    Parameters
    ----------
    source : Source or None
        Where its options come from; None where any keyword is one.
    title : str
        What it is for, where the documentation of the source is about something larger.
    may_be_left_out : bool
        Whether the step can be left out.
    """

    source: Source | None
    _title: str = ""
    may_be_left_out: bool = attrs.field(default=False, kw_only=True)

    @property
    def options(self) -> Mapping[str, Option]:
        """Its options by name."""
        return {} if self.source is None else self.source.options

    @property
    def title(self) -> str:
        """What the section is for, in a line."""
        return self._title or (self.source.title if self.source else "")


_BIAS = (MasterBias,)

#: In the order of the chain: what a section says decides nothing that comes before it.
SECTIONS: Mapping[str, Section] = {
    KEYWORDS: Section(
        None,
        "What headers do not say or get wrong, for every file: by keyword (GAIN = 1.8, EXPTIME = 60) or by quantity "
        '(gain = 1.8, filter = "V").',
    ),
    "detector": Section(Source(DetectorOptions)),
    "masters": Section(Source(BuildOptions, but=("overscan", "given", "camera"))),
    "overscan": Section(Source(OverscanOptions), "How the level of the overscan is found, in every raw frame."),
    "bias": Section(Source(MasterBias, "combine", but=("options",))),
    "dark": Section(Source(MasterDark, "combine", but=("bias", "options"), documented=_BIAS)),
    "flat": Section(Source(MasterFlat, "combine", but=("bias", "dark", "options"), documented=_BIAS)),
    "calibrate": Section(Source(Frame, "calibrate", but=("masters", "overscan", "bad_pixels"))),
    "clean": Section(Source(Frame, "clean"), may_be_left_out=True),
    "solve": Section(Source(SolveStep)),
    "detect": Section(Source(SkyImage, "detect")),
    "photometer": Section(Source(SourceCatalog, "photometer")),
    "output": Section(Source(OutputOptions)),
}


def switch(name: str, values: Any) -> Iterable[tuple[str, bool]]:
    """The entry that says whether a step is done, of a step that may be left out."""
    return ((ENABLED, values is not None),) if SECTIONS[name].may_be_left_out else ()


def understood(said: Iterable[Entry], problems: Iterable[str] = ()) -> dict[str, Any]:
    """The sections that some entries make, complete; later entries go over earlier ones.

    Raises
    ------
    RecipeError
        With all that is wrong, and the problems there were already.
    """
    wrong = list(problems)
    last: dict[tuple[str, str], Entry] = {}
    unknown: set[str] = set()
    for entry in said:
        head, _, inner = entry.section.partition(".")
        if head in SECTIONS and inner in SECTIONS[head].options and dict in SECTIONS[head].options[inner].kinds:
            before = last[head, inner].value if (head, inner) in last else {}
            if entry.option is not None:  # one value of an option that is a table
                table = {**(before if isinstance(before, dict) else {}), entry.option: entry.value}
                last[head, inner] = Entry(head, inner, table, entry.where)
        elif entry.section not in SECTIONS:
            if entry.section not in unknown:
                unknown.add(entry.section)
                hint = nearest(entry.section, SECTIONS)
                wrong.append(f"{entry.where}: [{shown(entry.section)}]: there is no such section; {hint}")
        elif entry.option is not None:
            last[entry.section, entry.option] = entry
    made: dict[str, Any] = {}
    for name in SECTIONS:
        mine = [entry for (section, _), entry in last.items() if section == name]
        made[name], faults = _keywords(mine) if name == KEYWORDS else _options(name, mine)
        wrong += [_problem(entry, fault) for entry, fault in faults]
    if wrong:
        raise RecipeError(sorted(wrong, key=_by_line))
    return made


def _by_line(problem: str) -> int:
    """The line a problem is in; what was not said in a file comes last."""
    place = _LINE.match(problem)
    return int(place[1]) if place else sys.maxsize


def _problem(entry: Entry, fault: str) -> str:
    given = f"{entry.section}.{shown(str(entry.option))}"
    if entry.where.startswith("--") and not entry.where.startswith("--set "):
        return f"{entry.where}: {fault}"  # an option of its own says what it sets
    return f"{entry.where}: {given} = {shown(entry.value, 40, quoted=True)}: {fault}"


def _keywords(said: Iterable[Entry]) -> tuple[Mapping[str, Any], list[tuple[Entry, str]]]:
    made, faults = {}, []
    for entry in said:
        value, key = entry.value, str(entry.option)
        fault = ""
        if not isinstance(value, str | numbers.Real):
            fault = "must be a number, a text, true or false"
        elif isinstance(value, str) and not (value.isprintable() and value.isascii()):
            fault = "a header holds printable ASCII only"
        elif not isinstance(value, str) and not abs(float(value)) < 2**63:
            fault = "must be a finite number below 2^63"
        else:
            try:
                split_given({key: value}, _all_keywords())
            except OptionError as error:
                fault = str(error).removeprefix(f"{key} = {value!r}: ")
        made[key] = value
        if fault:
            faults.append((entry, fault))
    return MappingProxyType(made), faults


def _all_keywords() -> dict[str, tuple[str, ...]]:
    """The quantities of any camera that is known."""
    known: dict[str, tuple[str, ...]] = {}
    cameras: tuple[type[Any], ...] = (*registry.cameras(), Frame)
    for camera in cameras:
        known |= camera.all_keywords()
    return known


def _options(name: str, said: list[Entry]) -> tuple[Mapping[str, Any] | None, list[tuple[Entry, str]]]:
    """One section from its entries: complete, and what is wrong with which entry."""
    faults: list[tuple[Entry, str]] = []
    source, known = SECTIONS[name].source, SECTIONS[name].options
    assert source is not None
    values: dict[str, Any] = {}
    by_option = {str(entry.option): entry for entry in said}
    enabled = True
    for key, entry in by_option.items():
        if key == ENABLED and SECTIONS[name].may_be_left_out:
            enabled = entry.value
            if not isinstance(enabled, bool):
                faults.append((entry, "must be true or false"))
        elif key not in known:
            faults.append((entry, f"there is no such option; {_elsewhere(key, name, known)}"))
        else:
            try:
                values[key] = known[key].conform(entry.value)
            except OptionError as error:
                faults.append((entry, str(error)))
    if enabled is False:
        off = by_option[ENABLED]
        late = [entry for key, entry in by_option.items() if key != ENABLED and entry.where.startswith("--")]
        faults += [(entry, f"{name} is left out ({off.where}), so this would do nothing") for entry in late]
    for key, fault in source.problems(values).items():
        entry = by_option.get(key) or next(iter(by_option.values()))
        option = known.get(key)
        if option and option.choices and isinstance(entry.value, str) and entry.value not in option.choices:
            hint = nearest(entry.value, option.choices)
            fault += f"; {hint}" if hint.startswith("did") else ""
        faults.append((entry, fault))
    if enabled is False:
        return None, faults
    return MappingProxyType({key: values.get(key, option.default) for key, option in known.items()}), faults


def _elsewhere(key: str, name: str, known: Iterable[str]) -> str:
    homes = [other for other in SECTIONS if other != name and key in SECTIONS[other].options]
    return f"it belongs to [{homes[0]}]" if homes else nearest(key, known)


# -- files -------------------------------------------------------------------------------------------------------------


def file_entries(path: Path) -> tuple[list[Entry], list[str]]:
    """The entries of a TOML file, its paths relative to its folder, and what is wrong with its text.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(4 * LARGEST)  # of a larger file the text is too long, whatever else it says
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return [], [f"{path}:{line}: byte {content[error.start]:#04x} is no UTF-8 text: save the file as UTF-8"]
    said, problems = entries(text, str(path))
    return [_beside(entry, path.parent) for entry in said], problems


def _beside(entry: Entry, folder: Path) -> Entry:
    """An entry whose path, if it is one, begins at a folder."""
    if entry.section not in SECTIONS or not isinstance(entry.value, str):
        return entry
    option = SECTIONS[entry.section].options.get(str(entry.option))
    if option is None or Path not in option.kinds or entry.value == "none":
        return entry
    return entry._replace(value=str(folder / entry.value))
