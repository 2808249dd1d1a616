"""``Recipe``: every option of the chain in one value, which a TOML file can hold.

The options are those of the steps (:mod:`larun.model.options`): a step that gains an option gains it here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import attrs

from larun.algorithms.overscan import OverscanOptions
from larun.errors import FileError, OptionError
from larun.io.toml import Entry, entries, key_text, shown, value_text
from larun.model.astrometry.step import located, opened
from larun.model.building import BuildOptions
from larun.model.catalog import SourceCatalog
from larun.model.frame import Frame
from larun.model.masters import Master, Masters
from larun.model.options import nearest
from larun.model.sections import ENABLED, KEYWORDS, SECTIONS, file_entries, switch, understood
from larun.model.sky import SkyImage
from larun.provenance.canonical import canonical, digest_of

if TYPE_CHECKING:
    from larun.model.image import Image

__all__ = ["Difference", "Recipe", "compare", "recipe_note", "said_in"]

_WIDTH = 100


class Difference(NamedTuple):
    """An option in which two recipes differ; None where a recipe does not have it."""

    option: str
    one: Any
    two: Any


@attrs.frozen(kw_only=True, eq=False)
class _Sections:
    """One field a section, in the order of the chain."""

    keywords: Mapping[str, Any] = attrs.field(factory=dict)
    detector: Mapping[str, Any] = attrs.field(factory=dict)
    masters: Mapping[str, Any] = attrs.field(factory=dict)
    overscan: Mapping[str, Any] = attrs.field(factory=dict)
    bias: Mapping[str, Any] = attrs.field(factory=dict)
    dark: Mapping[str, Any] = attrs.field(factory=dict)
    flat: Mapping[str, Any] = attrs.field(factory=dict)
    calibrate: Mapping[str, Any] = attrs.field(factory=dict)
    clean: Mapping[str, Any] | None = attrs.field(factory=dict)
    solve: Mapping[str, Any] = attrs.field(factory=dict)
    detect: Mapping[str, Any] = attrs.field(factory=dict)
    photometer: Mapping[str, Any] = attrs.field(factory=dict)
    output: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class Recipe(_Sections):
    """Every option of the chain, from the raw files of a night to its catalogues.

    Parameters
    ----------
    keywords : mapping
        What the headers do not say or get wrong, for every file: ``{"GAIN": 1.8}``.
    detector : mapping
        Whether gain and read noise are measured on the flats and biases of the night.
    masters : mapping
        Known bad pixels, and the memory a combination may use.
    overscan : mapping
        How the overscan level is found: see :class:`larun.OverscanOptions`.
    bias, dark, flat : mapping
        How each kind of master is combined: see :meth:`larun.MasterBias.combine`.
    calibrate, clean, detect, photometer : mapping
        Options of :meth:`larun.Frame.calibrate`, :meth:`larun.Frame.clean`, :meth:`larun.SkyImage.detect` and
        :meth:`larun.SourceCatalog.photometer`. ``clean=None`` leaves that step out.
    solve : mapping
        The reference by which frames get their WCS, and options of :meth:`larun.SkyImage.solve`.
    output : mapping
        What is written.

    Each mapping may name only what differs from the defaults, and holds everything afterwards.

    Raises
    ------
    RecipeError
        If an option is unknown, or has a value that makes no sense; all that is wrong is told at once.

    Examples
    --------
    >>> import larun
    >>> recipe = larun.Recipe(detect={"threshold": 10})
    >>> recipe.detect["threshold"], recipe.detect["mesh"]
    (10.0, 64)
    >>> recipe.diff(larun.Recipe())
    (Difference(option='detect.threshold', one=10.0, two=5.0),)
    """

    def __attrs_post_init__(self) -> None:
        said = []
        for name, section in SECTIONS.items():
            values = getattr(self, name)
            if values is None and section.may_be_left_out:
                said.append(Entry(name, ENABLED, False, "Recipe"))
            elif not isinstance(values, Mapping):
                raise OptionError(f"Recipe: {name}={shown(values)}: give a mapping of options")
            else:
                said += [Entry(name, str(key), value, "Recipe") for key, value in values.items()]
        for name, complete in understood(said).items():
            object.__setattr__(self, name, complete)

    # -- text ------------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a recipe from a TOML file, or what a product or catalogue of larun says of how it was made.

        Paths in the file are relative to its folder.

        Raises
        ------
        FileError
            If the file cannot be read.
        RecipeError
            If anything in it makes no sense: all problems at once, each with its line.
        """
        return cls.from_entries(*said_in(Path(path)))

    @classmethod
    def from_text(cls, text: str, name: str = "recipe") -> Self:
        """A recipe from TOML text; ``name`` stands for the file in messages."""
        return cls.from_entries(*entries(text, name))

    @classmethod
    def from_entries(cls, said: Iterable[Entry], problems: Iterable[str] = ()) -> Self:
        """A recipe from single entries, later ones over earlier ones, each with the place where it was said.

        Raises
        ------
        RecipeError
            If there were problems already, or an entry makes no sense.
        """
        made = understood(said, problems)
        return cls(**made)

    def to_toml(self, *, short: bool = False) -> str:
        """The recipe as TOML: every option, with what it means; reading it gives the same recipe.

        Parameters
        ----------
        short : bool
            Only what differs from the defaults, without comments.

        Raises
        ------
        OptionError
            If an option holds what no text can say: a function, an array, an image.
        """
        usual, lines = type(self)()._all(), [_HEAD]
        for name, mine in self._all().items():
            if short:
                said = {key: value for key, value in mine.items() if _differ(value, usual[name].get(key))}
                lines += [f"[{name}]", *(_line(name, key, value) for key, value in said.items()), ""] if said else []
                continue
            lines.append(_comment(SECTIONS[name].title, f"[{name}]"))
            # A step that is left out has its options all the same: they hold once it is switched on.
            lines += [_documented(name, key, value) for key, value in (usual[name] | mine).items()]
            lines.append("")
        return "\n".join(lines).rstrip() + "\n"

    def write(self, path: str | Path, *, overwrite: bool = False, short: bool = False) -> Path:
        """Write :meth:`to_toml` to a file, whole or not at all; it replaces no file but a recipe of larun.

        Raises
        ------
        FileError
            If the file exists and ``overwrite`` is not set, or cannot be written.
        OptionError
            As :meth:`to_toml`.
        """
        from larun.io.atomic import atomic_path

        text = self.to_toml(short=short)
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return Path(path)

    # -- what it says ----------------------------------------------------------------------------------------------

    def record(self, until: str = "output") -> dict[str, dict[str, Any]]:
        """The canonical form of what decides pixels: plain values by section.

        Parameters
        ----------
        until : str
            The last section, in the order of the chain: what comes after it decides nothing before it.
        """
        made: dict[str, dict[str, Any]] = {}
        for name in list(SECTIONS)[: list(SECTIONS).index(until) + 1]:
            values = getattr(self, name)
            known = SECTIONS[name].options
            kept = {key: value for key, value in (values or {}).items() if key not in known or known[key].recorded}
            if name == "solve" and kept["reference"] is None:
                continue
            if name == "solve":  # what counts is the catalogue, wherever it lies
                kept["reference"] = {"provenance": getattr(opened(kept["reference"]), "digest", "")}
            if "bad_pixels" in kept:  # what counts is the mask, wherever it lies
                kept["bad_pixels"] = self.build.bad_pixels
            kept = dict(switch(name, values)) | kept
            if kept or name == KEYWORDS:
                made[name] = canonical(kept)
        return made

    def _note(self, product: Image | SourceCatalog) -> dict[str, Any]:
        """What the record of a product keeps: the sections that made it, and their digest."""
        until = "solve" if hasattr(product, "data") else "photometer"
        made = self.record(product.kind if isinstance(product, Master) else until)
        return {"sections": made, "digest": digest_of(made)}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical form: equal recipes have equal digests."""
        return digest_of(self.record())

    def diff(self, other: Recipe) -> tuple[Difference, ...]:
        """Where two recipes differ, option by option."""
        return differences(self._all(), other._all())

    def _all(self) -> dict[str, dict[str, Any]]:
        return {name: dict(switch(name, getattr(self, name))) | dict(getattr(self, name) or {}) for name in SECTIONS}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and not self.diff(other)

    def evolve(self, **sections: Mapping[str, Any] | None) -> Self:
        """A recipe with other options in some sections; what is not named stays.

        Examples
        --------
        >>> Recipe(detect={"threshold": 10}).evolve(detect={"mesh": 32}).detect["threshold"]
        10.0
        """
        made: dict[str, Any] = {name: getattr(self, name) for name in SECTIONS}
        for name, values in sections.items():
            if name not in made:
                raise OptionError(f"{name}: there is no such section; {nearest(name, made)}")
            made[name] = values if values is None else {**(made[name] or {}), **values}
        return type(self)(**made)

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {name: getattr(self, name) for name in SECTIONS}
        return _again, ({name: values if values is None else dict(values) for name, values in plain.items()},)

    # -- what it does ----------------------------------------------------------------------------------------------

    @property
    def build(self) -> BuildOptions:
        """How masters are read and levelled; reads the mask of bad pixels if that is a file."""
        return BuildOptions(**self.masters, overscan=OverscanOptions(**self.overscan), given=self.keywords)

    def apply(self, frame: Frame, masters: Masters | Master | Iterable[Master] | str | Path = ()) -> SourceCatalog:
        """The whole chain for one raw frame: :meth:`prepare`, its WCS where a reference is named, :meth:`measure`.

        Examples
        --------
        >>> import larun
        >>> recipe = larun.Recipe.read("night.toml")  # doctest: +SKIP
        >>> catalog = recipe.apply(larun.Frame.read("raw/d1059.fits", **recipe.keywords), masters)  # doctest: +SKIP
        """
        return self.measure(located(self.prepare(frame, masters), self.solve))

    def prepare(self, frame: Frame, masters: Masters | Master | Iterable[Master] | str | Path = ()) -> Frame:
        """A raw frame calibrated (unless it is already), and cleaned unless the recipe leaves that out.

        Raises
        ------
        OptionError
            If gain or read noise is still to be measured: :meth:`larun.Night.measured`.
        """
        made = frame
        if "measured" in self.detector.values():
            raise OptionError(
                "gain or read noise is to be measured ([detector]): one frame does not tell it; "
                "night, recipe = larun.Night(folder).measured(recipe) gives a recipe with numbers"
            )
        if not frame.calibrated:
            build = self.build
            made = frame.calibrate(masters, overscan=build.overscan, bad_pixels=build.bad_pixels, **self.calibrate)
        return made if self.clean is None else made.clean(**self.clean)

    def measure(self, frame: SkyImage) -> SourceCatalog:
        """The sources of a calibrated frame, with their photometry."""
        return frame.detect(**self.detect).photometer(**self.photometer)


def _again(plain: dict[str, Any]) -> Recipe:
    return Recipe(**plain)


def _differ(one: Any, two: Any) -> bool:
    return bool(canonical(_plain(one)) != canonical(_plain(two)))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def differences(one: Mapping[str, Mapping[str, Any]], two: Mapping[str, Mapping[str, Any]]) -> tuple[Difference, ...]:
    """Where two sets of sections differ; a section that only one of them has does not count."""
    found = []
    for section in (name for name in one if name in two):
        for key in dict.fromkeys([*one[section], *two[section]]):
            a, b = one[section].get(key), two[section].get(key)
            if _differ(a, b):
                found.append(Difference(f"{section}.{key}", a, b))
    return tuple(found)


def compare(one: Path, two: Path | None = None) -> tuple[Difference, ...]:
    """Where two recipes differ, each in a TOML file or in the record of a product; without the second, the defaults.

    Of what a product does not say (a frame knows nothing of photometry) nothing is compared.

    Raises
    ------
    FileError
        If a file cannot be read, or a product was made without a recipe.
    RecipeError
        If a recipe makes no sense.
    """
    paths = [path for path in (one, two) if path is not None]
    recipes = {path: Recipe.read(path) for path in paths if _is_toml(path)}
    if len(recipes) == len(set(paths)):
        return recipes[one].diff(Recipe() if two is None else recipes[two])
    first, *rest = [recipes[path].record() if path in recipes else _recorded(path) for path in paths]
    return differences(first, rest[0] if rest else Recipe().record())


def _is_toml(path: Path) -> bool:
    from larun.io.streams import read_start
    from larun.io.tables import is_table_suffix

    if not path.is_file():
        raise FileError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    return not is_table_suffix(path) and not read_start(path, 10).startswith(b"SIMPLE  =")


def recipe_note(path: Path) -> dict[str, Any] | None:
    """What the record of a product keeps of the recipe it was made by: ``sections`` and ``digest``; None without one.

    Raises
    ------
    FileError
        If the file is a product or catalogue that cannot be read.
    """
    from larun.io.product import is_product, open_entries, read_record
    from larun.io.streams import open_plain
    from larun.io.tables import is_table_suffix, read_table

    if is_table_suffix(path):
        record = read_table(path)[1]
    elif is_product(path):
        with open_plain(path) as file:
            notes = read_record(file, open_entries(path, file, verify=True))
        record = notes.get("record", notes)  # of a table the metadata stand beside it
    else:
        return None
    note: dict[str, Any] | None = record.get("recipe")
    return note


def _recorded(path: Path) -> dict[str, dict[str, Any]]:
    note = recipe_note(path)
    if note is None:
        raise FileError(f"{path}: was not made by a recipe (larun provenance tells how, if it is a product)")
    sections: dict[str, dict[str, Any]] = note["sections"]
    return sections


def said_in(path: Path) -> tuple[list[Entry], list[str]]:
    """The entries of a TOML file, or of the record of a product, and what is wrong with the text.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    if _is_toml(path):
        return file_entries(path)
    record = _recorded(path)
    return [Entry(name, key, value, str(path)) for name, values in record.items() for key, value in values.items()], []


_HEAD = """\
# larun recipe: the options of `larun reduce RAW OUT --recipe FILE`.
# What is left out has its default; "none" stands for no value.
"""


def _comment(text: str, follows: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()), _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*(f"# {line}" for line in lines), follows])


def _line(section: str, key: str, value: Any) -> str:
    option = SECTIONS[section].options.get(key)
    if value is None and option is not None and "none" in option.choices:  # the word means something else here
        if option.default is not None:
            raise OptionError(f"{section}.{key}: no value cannot be written, since none is a choice of its own")
        return f'# {key} = "{option.choices[0]}"'
    try:
        return f"{key_text(key)} = {value_text('none' if value is None else value)}"
    except OptionError as error:
        raise OptionError(f"{section}.{key}: {error}; a recipe names what is registered under a name") from error


def _documented(section: str, key: str, value: Any) -> str:
    line = _line(section, key, value)
    if section == KEYWORDS:
        return line
    if key == ENABLED:
        return _comment("(true or false) Whether this step is done.", line)
    option = SECTIONS[section].options[key]
    return _comment(f"({option.says}) {option.text}", line)
