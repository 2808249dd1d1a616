"""TOML with the place of every entry, and all that is wrong with a text at once.

``tomllib`` stops at the first fault and forgets where a value stood. So a text is cut into statements (a heading, or a
key with its value), and ``tomllib`` reads each of them alone: whatever it refuses is a problem of that line, and the
rest of the text is read all the same.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from larun.errors import OptionError

__all__ = ["Entry", "entries", "key_text", "shown", "value_of", "value_text"]

#: Characters of a text, and of a name: more than any recipe needs. The time tomllib takes for a name with dots grows
#: with the square of its length.
LARGEST, LONGEST = 50_000, 200

_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?(?:"{3,5}|\Z) | \'\'\'.*?(?:'{3,5}|\Z) | "(?:\\[^\n]|[^"\\\n])*"? | '[^'\n]*'?
    | \#[^\n]* | [\[\]{}] | \n | [^"'\#\[\]{}\n]+''',
    re.X | re.S,
)
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Entry(NamedTuple):
    """One value, and where it was said; ``option`` is None for the heading of a section."""

    section: str
    option: str | None
    value: Any
    #: As a person finds it: ``night.toml:12``, or an option of the command line.
    where: str


def entries(text: str, name: str) -> tuple[list[Entry], list[str]]:
    r"""The entries of a TOML text of two levels (sections with options), and what is wrong with it, each with its line.

    Parameters
    ----------
    text : str
        The text.
    name : str
        Name of the file, for the messages.

    Examples
    --------
    >>> found, wrong = entries("[detect]\nthreshold = 7\nmesh = = 3\n", "night.toml")
    >>> found[1]
    Entry(section='detect', option='threshold', value=7, where='night.toml:2')
    >>> wrong
    ['night.toml:3: mesh = = 3: Invalid value']
    """
    text = text.replace("\r\n", "\n")
    if len(text) > LARGEST:
        return [], [f"{name}:1: {len(text)} characters are no recipe: at most {LARGEST}"]
    found: list[Entry] = []
    problems: list[str] = []
    first: dict[tuple[str, str | None], str] = {}
    section: tuple[str, ...] = ()
    for line, statement in _statements(text):
        where = f"{name}:{line}"
        if len(statement.partition("=")[0]) > LONGEST:
            problems.append(f"{where}: {shown(statement)}: no name is so long")
            continue
        try:
            parsed = tomllib.loads(statement)
        except (ValueError, RecursionError) as error:
            problems.append(_fault(name, line, statement, error))
            continue
        if statement.startswith("["):
            section = _path(parsed)
            new = [Entry(".".join(section), None, None, where)]
            if statement.startswith("[["):
                problems.append(f"{where}: {shown(statement)}: a section is there once: write [{'.'.join(section)}]")
                continue
        else:
            new = _values(section, parsed, where)
            if not new:
                problems.append(f"{where}: {shown(statement)}: stands above every section: write [section] before it")
        for entry in new:
            key = (entry.section, entry.option)
            if key in first:
                what = f"[{entry.section}]" if entry.option is None else f"{entry.section}.{entry.option}"
                problems.append(f"{where}: {what}: is there already, in line {first[key].rpartition(':')[2]}")
                continue
            first[key] = where
            found.append(entry)
    if not problems:  # statement by statement all is well: so it must be as a whole
        try:
            tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            problems.append(_fault(name, 1, "", error))
    return found, problems


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with the number of its first line; comments and empty lines are left out."""
    line, begin, depth = 1, 1, 0
    parts: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n" and depth == 0:
            if parts:
                yield begin, "".join(parts).strip()
            parts = []
        elif parts or not (token.isspace() or token.startswith("#")):
            begin = begin if parts else line
            parts.append(token)
            depth = max(0, depth + (token in "[{") - (token in "]}"))
        line += token.count("\n")
    if parts:
        yield begin, "".join(parts).strip()


def _path(parsed: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of a heading that was read alone."""
    keys: list[str] = []
    inner: Any = parsed
    while inner:
        ((key, inner),) = inner.items()
        keys.append(key)
        inner = inner[0] if isinstance(inner, list) else inner
    return tuple(keys)


def _values(section: tuple[str, ...], parsed: Mapping[str, Any], where: str) -> list[Entry]:
    """The entries of one statement: ``option = …`` in a section, ``section.option = …`` above all sections."""
    if section:
        return [Entry(".".join(section), option, value, where) for option, value in parsed.items()]
    ((name, values),) = parsed.items()
    if not isinstance(values, dict):
        return []
    return [Entry(name, option, value, where) for option, value in values.items()] or [Entry(name, None, None, where)]


def _fault(name: str, line: int, statement: str, error: Exception) -> str:
    place = _PLACE.search(str(error))
    at = line + (int(place[1]) - 1 if place and place[1] else 0)
    said = "nested too deep" if isinstance(error, RecursionError) else shown(_PLACE.sub("", str(error)), 100)
    return f"{name}:{at}: {shown(statement) + ': ' if statement else ''}{said}"


def shown(value: Any, length: int = 60, *, quoted: bool = False) -> str:
    r"""A value as TOML, or the first line of a text, short and without control characters; ``quoted`` keeps quotes.

    Examples
    --------
    >>> shown("a\x1b[31m = 1"), shown("x" * 100, 10), shown("a", quoted=True)
    ('a\\x1b[31m = 1', 'xxxxxxxxx…', '"a"')
    """
    try:
        text = value.split("\n")[0] if isinstance(value, str) and not quoted else value_text(value)
    except OptionError:
        text = f"a {type(value).__name__}"
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: 2 * length])
    return text if len(text) <= length else f"{text[: length - 1]}…"


def value_of(text: str) -> Any:
    """The value that a text writes in TOML.

    Raises
    ------
    OptionError
        If it is not one value.

    Examples
    --------
    >>> value_of("[1, 2.5]")
    [1, 2.5]
    """
    try:
        ((_, value),) = tomllib.loads(f"x = {text}").items()
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{shown(text)}: is no value of TOML") from error
    return value


def value_text(value: Any) -> str:
    r"""A value as TOML.

    Raises
    ------
    OptionError
        If TOML has no word for it.

    Examples
    --------
    >>> value_text((1.0, 2.5)), value_text(True), value_text('a "b"'), value_text(1e30)
    ('[1.0, 2.5]', 'true', '"a \\"b\\""', '1e+30')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 2**63 else f"{float(value) if abs(value) < 10**300 else math.inf}"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str | PurePath):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list | tuple):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key_text(key)} = {value_text(item)}" for key, item in value.items()) + "}"
    if hasattr(value, "isoformat"):  # dates and times
        return str(value.isoformat())
    raise OptionError(f"a {type(value).__name__} cannot be written in TOML: {value!r}")


def key_text(key: str) -> str:
    """A key as TOML, quoted where it must be."""
    return key if _BARE_KEY.fullmatch(key) else value_text(key)
