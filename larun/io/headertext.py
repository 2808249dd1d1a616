"""Headers without pixels: FITS cards as plain text, ``KEY: value`` in YAML, or the first header of a FITS file.

Such texts are what observatories and archives hand out. They are hostile as any header: nothing in them is run, no tag
is followed, and what comes out is printable ASCII in cards that every reader accepts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from astropy.io import fits

from larun.errors import FileError, HeaderError
from larun.io.cards import COMMENTARY, quiet, readable
from larun.io.headers import exposure_header
from larun.io.sections import parse_section

__all__ = ["HeaderText", "is_header_text", "read_header_text"]

_MOST = 4_000_000  # bytes of text; the longest header of a mosaic camera has a tenth of it
_FITS_NAME = re.compile(r"\.(fits?|fts)(\.(fz|gz|bz2|xz))?$", re.I)
_CARD = re.compile(r"\s*(HIERARCH .+?|[A-Za-z0-9_-]{1,8}) *= ?(.*)")
_NOTE = re.compile(r"(COMMENT|HISTORY|CONTINUE)\b")
_PAIR = re.compile(r"[\"']?[A-Za-z0-9_-][A-Za-z0-9_ -]*[\"']?\s*:(\s|$)")
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_LONG_KEYWORD = re.compile(r"[A-Z0-9_-]+( [A-Z0-9_-]+)*")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_TYPES = {"String", "Int", "Double", "Bool", "Float", "Long", "LongLong", "Short", "Undef"}


class HeaderText(NamedTuple):
    """A header, and what its storage cards said of the array before they were left out."""

    header: fits.Header
    shape: tuple[int, int] | None
    """Rows and columns; None where the text does not say."""
    shape_from: str
    """The cards that say so."""
    whole_numbers: bool | None
    """Whether pixels are stored as integers; None where the text does not say."""


def is_header_text(path: str | Path) -> bool:
    """Whether a file is text rather than FITS with pixels.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    path = Path(path)
    if _FITS_NAME.search(path.name):
        return False
    try:
        with path.open("rb") as file:
            start = file.read(2880)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    fits_file = start.startswith(b"SIMPLE  =") and b"\n" not in start[:81] and len(start) == 2880
    packed = start[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7")
    return not (fits_file or packed)


def read_header_text(path: str | Path) -> HeaderText:
    """The header in a text file, or the first header of a FITS file.

    Parameters
    ----------
    path : path
        FITS cards as text (80 characters each, or a line each, as ``fitsheader`` and ``Header.totextfile`` write
        them), YAML with ``KEY: value`` or ``[KEY, type, value, comment]``, or FITS.

    Raises
    ------
    FileError
        If it cannot be read, or holds no header.
    """
    path = Path(path)
    cards = _from_text(path) if is_header_text(path) else _from_fits(path)
    header = fits.Header(cards)
    if not any(card.keyword not in COMMENTARY for card in header.cards):
        raise FileError(f"{path}: holds no header: give FITS, FITS cards as text, or YAML with KEY: value")
    shape, said = _shape(header)
    bits = _whole(header, "ZBITPIX") or _whole(header, "BITPIX")
    scaled = header.get("BSCALE", 1) not in (1, 1.0)
    whole = None if bits is None else bits > 0 and not scaled
    return HeaderText(exposure_header(header, None), shape, said, whole if "NAXIS1" in said else None)


def _from_fits(path: Path) -> list[fits.Card]:
    from larun.io.streams import open_plain

    try:
        with open_plain(path) as file, quiet():
            return list(readable(fits.Header.fromfile(file).cards).cards)
    except FileError:
        raise
    except Exception as error:  # astropy raises many kinds
        raise FileError(f"{path}: not a FITS file that can be read ({error})") from error


def _from_text(path: Path) -> list[fits.Card]:
    with path.open("rb") as file:
        raw = file.read(_MOST + 1)
    if len(raw) > _MOST:
        raise FileError(f"{path}: more than {_MOST // 1_000_000} MB: is it a header?")
    text = raw.decode("utf-8", "replace").replace("\r\n", "\n").lstrip("\ufeff")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) == 1 and len(lines[0]) > 240:  # cards of 80 characters without line ends
        lines = [lines[0][start : start + 80] for start in range(0, len(lines[0]), 80)]
    as_cards = sum(bool(_CARD.match(line) or _NOTE.match(line)) for line in lines)
    if path.suffix.lower() not in (".yaml", ".yml") and 2 * as_cards >= len(lines) > 0:
        return _from_lines(lines)
    if path.suffix.lower() in (".yaml", ".yml") or 2 * sum(bool(_PAIR.match(line)) for line in lines) >= len(lines):
        return list(_from_yaml(path, text))
    return []


def _from_lines(lines: list[str]) -> list[fits.Card]:
    made = []
    for line in lines:
        line = _ascii(line.rstrip())
        match = _CARD.match(line)
        if match is not None and line[8:10] != "= " and not match[1].startswith("HIERARCH"):
            line = f"{match[1].upper():<8}= {match[2].strip()}"
        if line.strip() == "END":
            break
        made += [fits.Card.fromstring(line[start : start + 80].ljust(80)) for start in range(0, len(line), 80)][:1]
    return list(readable(made).cards)


def _from_yaml(path: Path, text: str) -> Iterator[fits.Card]:
    """The pairs at the top of a document; tags are ignored, so that none can ask for anything."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where is not None else ""
        raise FileError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    pairs: list[tuple[Any, ...]] = []
    if isinstance(root, yaml.MappingNode):
        pairs = list(root.value)
    elif isinstance(root, yaml.SequenceNode):
        pairs = [pair for node in root.value if (pair := _listed(node, yaml)) is not None]
    with quiet():
        for key, node, *comment in pairs:
            if isinstance(node, yaml.SequenceNode) and node.value:
                node = node.value[0]  # a keyword that is there several times: the first counts
            if isinstance(key, yaml.ScalarNode) and isinstance(node, yaml.ScalarNode):
                card = _card(key.value, _scalar(node), str(comment[0].value) if comment else "")
                if card is not None:
                    yield card


def _listed(node: Any, yaml: Any) -> tuple[Any, ...] | None:
    """Keyword, value and comment (where it is there) of ``[KEY, type, value, comment]`` or ``[KEY, value]``."""
    if not isinstance(node, yaml.SequenceNode) or len(node.value) < 2:
        return None
    key, second = node.value[:2]
    typed = len(node.value) > 2 and getattr(second, "value", None) in _TYPES
    value = node.value[2] if typed else second
    if typed and second.value == "String" and isinstance(value, yaml.ScalarNode):
        value.style = "'"
    return key, value, *(node for node in node.value[3:4] if typed and isinstance(node, yaml.ScalarNode))


def _scalar(node: Any) -> Any:
    """The value a FITS card would have: quoted is text, and times and dates stay text."""
    text = str(node.value)
    if node.style is not None:
        return text
    if text.lower() in ("true", "t"):
        return True
    if text.lower() in ("false", "f"):
        return False
    if text.lower() in ("", "null", "~"):
        return fits.card.Undefined()
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _card(keyword: str, value: Any, comment: str = "") -> fits.Card | None:
    """A card that every reader accepts, with as much of the comment as it holds; None for a keyword that is none."""
    name = _ascii(str(keyword)).strip().upper().removeprefix("HIERARCH ")
    if isinstance(value, str):
        value = _ascii(value)
    if name in COMMENTARY:
        return fits.Card(name, str(value)[:72])
    if not _LONG_KEYWORD.fullmatch(name) or name in ("END", "CONTINUE"):
        return None
    if not _KEYWORD.fullmatch(name):
        room = 80 - len(f"HIERARCH {name} = ''")
        if room < 20:
            return None
        name, value = f"HIERARCH {name}", value[: room // 2] if isinstance(value, str) else value
        return fits.Card(name, value)
    taken = max(30, 12 + len(repr(value).replace("'", "''"))) + 3  # of 80, for keyword, value and slash
    return fits.Card(name, value, _ascii(comment).strip()[: max(0, 80 - taken)])


def _ascii(text: str) -> str:
    """Printable ASCII, as cards must be; a tab is a blank, anything else a question mark."""
    return "".join(c if " " <= c <= "~" else " " if c == "\t" else "?" for c in text)


def _whole(header: fits.Header, keyword: str) -> int | None:
    value = header.get(keyword)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _shape(header: fits.Header) -> tuple[tuple[int, int] | None, str]:
    """Rows and columns from the storage cards, else from the farthest corner of any section."""
    z = "Z" if "ZNAXIS" in header else ""
    table = str(header.get("XTENSION", "")).strip() in ("BINTABLE", "TABLE") and not z
    sides = [_whole(header, f"{z}NAXIS{axis}") for axis in (2, 1)]
    if not table and None not in sides and min(side or 0 for side in sides) > 0:
        return (int(sides[0] or 0), int(sides[1] or 0)), f"{z}NAXIS1, {z}NAXIS2"
    found: dict[str, tuple[int, int]] = {}
    for card in header.cards:
        if isinstance(card.value, str) and ":" in card.value and card.keyword.upper().startswith(_SECTIONS):
            try:
                section = parse_section(card.value, card.keyword)
            except HeaderError:
                continue
            if section is not None:
                found[card.keyword] = (section.y1, section.x1)
    if not found:
        return None, "neither NAXIS1, NAXIS2 nor a section"
    shape = max(y for y, _ in found.values()), max(x for _, x in found.values())
    return shape, "the sections " + ", ".join(sorted(found)[:4])


_SECTIONS = ("BIASSEC", "TRIMSEC", "DATASEC", "AMPSEC")
