"""From the words of a command line to a recipe; impossible words are errors at once."""

from __future__ import annotations

import enum
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from larun.errors import OptionError
from larun.io.toml import Entry, value_of

if TYPE_CHECKING:
    from larun.model.recipe import Recipe

__all__ = [
    "Picture",
    "Stretch",
    "load_instruments",
    "parse_keywords",
    "parse_radii",
    "parse_region",
    "parse_setting",
    "parse_size",
    "recipe_from",
]

_SIZE = re.compile(r"(\d+(?:\.\d*)?(?:e\d+)?|\.\d+)\s*(?:([kmgt])(i?)b?|b)?", re.I)
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)
_REGION = re.compile(r"\s*(\d{0,9})\s*:\s*(\d{0,9})\s*,\s*(\d{0,9})\s*:\s*(\d{0,9})\s*")


class Picture(enum.StrEnum):
    """What is drawn of a file."""

    auto = "auto"
    image = "image"
    master = "master"
    sources = "sources"
    growth = "growth"
    curve = "curve"


class Stretch(enum.StrEnum):
    """How values become grey levels."""

    asinh = "asinh"
    linear = "linear"
    log = "log"
    zscale = "zscale"


def parse_size(text: str) -> float:
    """Bytes from ``500MB``, ``2GB``, ``1.5GiB`` or ``1e9``.

    Raises
    ------
    OptionError
        If it is not a positive size.

    Examples
    --------
    >>> parse_size("500MB"), parse_size("2 GiB"), parse_size("1e9")
    (500000000.0, 2147483648.0, 1000000000.0)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) < math.inf:
        raise OptionError(f"--max-memory {text!r}: give a size such as 500MB, 2GB, 1.5GiB or 1e9")
    base = 1024 if match[3] else 1000
    power = " kmgt".index((match[2] or " ").lower())
    return float(match[1]) * float(base**power)


def parse_keywords(texts: Iterable[str]) -> dict[str, Any]:
    """What headers do not say, from ``KEY=VALUE`` words: whole numbers, numbers, else text.

    Raises
    ------
    OptionError
        If a word has no ``=``, a key is empty or is given twice.

    Examples
    --------
    >>> parse_keywords(["GAIN=1.8", "EXPTIME=60", "FILTER=V", "OBJECT=a=b"])
    {'GAIN': 1.8, 'EXPTIME': 60, 'FILTER': 'V', 'OBJECT': 'a=b'}
    """
    given: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key:
            raise OptionError(f"--keyword {text!r}: give it as KEY=VALUE, for example GAIN=1.8")
        if key in given:
            raise OptionError(f"--keyword {key} is given twice: {given[key]!r} and {value!r}")
        given[key] = _value(value)
    return given


def _value(text: str) -> Any:
    if _WHOLE.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def load_instruments(paths: Iterable[Path] | None) -> None:
    """Make the cameras of some Python files known.

    Raises
    ------
    FileError
        If one cannot be run or defines no camera that works.
    """
    if paths:
        from larun.instruments import load

        for path in paths:
            load(path)


def parse_radii(text: str, option: str = "--radii") -> list[float]:
    """Aperture radii from ``1,1.5,2.5``.

    Raises
    ------
    OptionError
        If they are not numbers.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise OptionError(f"{option} {text!r}: give numbers with commas, for example 1,1.5,2.5") from error


def parse_setting(text: str) -> Entry:
    """``section.option=value``: the value as TOML writes it, a list also without brackets, a text without quotes.

    Raises
    ------
    OptionError
        If it has another form.

    Examples
    --------
    >>> parse_setting("photometer.radii=3, 5").value, parse_setting("clean.engine=median").value
    ([3, 5], 'median')
    """
    key, equals, value = text.partition("=")
    section, dot, option = (part.strip() for part in key.rpartition("."))
    if not (equals and dot and section and option):
        raise OptionError(f"--set {text!r}: give it as section.option=value, for example detect.threshold=7")
    tries = (value, f"[{value}]") if "," in value else (value,)
    for attempt in tries:
        try:
            return Entry(section, option, value_of(attempt), f"--set {text}")
        except OptionError:
            continue
    return Entry(section, option, value.strip(), f"--set {text}")


#: The options of the command line that are options of the recipe: what they set, and their values from words.
_FLAGS: Mapping[str, tuple[str, str, Callable[[Any], Any]]] = {
    "without": ("calibrate", "without", lambda words: [kind.strip() for word in words for kind in word.split(",")]),
    "overscan": ("overscan", "method", str),
    "bad_pixels": ("masters", "bad_pixels", str),
    "max_memory": ("masters", "max_memory", parse_size),
    "clean": ("clean", "enabled", bool),
    "clean_engine": ("clean", "engine", str),
    "flag_only": ("clean", "replace", operator.not_),
    "reference": ("solve", "reference", str),
    "detect_method": ("detect", "method", str),
    "threshold": ("detect", "threshold", float),
    "radii": ("photometer", "radii", parse_radii),
    "radius_unit": ("photometer", "unit", str),
    "annulus": ("photometer", "annulus", lambda text: parse_radii(text, "--annulus")),
}


def recipe_from(
    file: Path | None = None, settings: Iterable[str] | None = None, keywords: Iterable[str] | None = None, **flags: Any
) -> Recipe:
    """The recipe of a command: a file, over it ``--set``, over both the command's own options.

    Parameters
    ----------
    file : path, optional
        TOML, or a product whose recipe is used again.
    settings : iterable of str, optional
        Words of ``--set``.
    keywords : iterable of str, optional
        Words of ``--keyword``.
    **flags
        Values of the other options by name; None where one was not given.

    Raises
    ------
    FileError
        If the file cannot be read.
    RecipeError
        With all that is wrong in the file and on the command line.
    """
    from larun.model.recipe import Recipe, said_in

    said, problems = ([], []) if file is None else said_in(file)
    for text in settings or ():
        said.append(parse_setting(text))
    for key, value in parse_keywords(keywords or ()).items():
        said.append(Entry("keywords", key, value, f"--keyword {key}={value}"))
    for name, value in flags.items():
        if value is not None:
            section, option, parse = _FLAGS[name]
            said.append(Entry(section, option, parse(value), _words(name, value)))
    if flags.get("radius_unit") and not any(entry[:2] == ("photometer", "radii") for entry in said):
        raise OptionError(f"--radius-unit {flags['radius_unit']}: say which radii, for example --radii 3,5,8")
    return Recipe.from_entries(said, problems)


def parse_region(text: str) -> tuple[tuple[int | None, int | None], tuple[int | None, int | None]]:
    """Columns and rows from ``x0:x1,y0:y1``: 0-based, half open; an end that is left out is the image's.

    Raises
    ------
    OptionError
        If it is no region.

    Examples
    --------
    >>> parse_region("100:200,:50")
    ((100, 200), (None, 50))
    """
    match = _REGION.fullmatch(text)
    ends = [None if not part else int(part) for part in match.groups()] if match else []
    if not ends or any(a is not None and b is not None and a >= b for a, b in (ends[:2], ends[2:])):
        raise OptionError(f"--region {text!r}: give columns and rows as x0:x1,y0:y1, from 0, the last not included")
    return (ends[0], ends[1]), (ends[2], ends[3])


def _words(name: str, value: Any) -> str:
    """An option as it was typed."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return option if value else f"--no-{option[2:]}"
    return f"{option} {','.join(value) if isinstance(value, list) else value}"
