"""A camera's class to fill in: it runs as it is, and says what was found in a header.

Header text enters only as escaped Python literals and as keywords of legal form, so that no card can become code.
"""

from __future__ import annotations

import keyword as python
import re
from collections.abc import Iterator, Mapping
from typing import Any

from larun.errors import HeaderError, OptionError
from larun.instruments.candidates import Comments, candidates
from larun.io.sections import parse_section
from larun.model.families import section_families
from larun.model.frame import Frame
from larun.model.headers import DETECTOR_QUANTITIES
from larun.model.understood.plausible import RULES

__all__ = ["check_name", "literal", "template"]

_LINE = 116
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")
_KEYWORD = re.compile(r"(?=.{1,40}\Z)[A-Z0-9_-]+( [A-Z0-9_-]+)*")
#: Names the template itself uses.
_TAKEN = {"Frame", "Amplifier", "Detector", "Section", "Classified", "ClassVar", "Header", "Mapping", "NDArray"}
_TAKEN |= {"np", "larun", "flags", "str", "int", "float", "bool", "tuple", "dict", "list", "super", "classmethod"}
#: Shown as sections, not as candidates.
_SECTIONS = ("trim", "overscan")
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def check_name(name: str) -> str:
    """The name, if a class can have it.

    Raises
    ------
    OptionError
        If it is no plain Python identifier, or one the template uses itself.

    Examples
    --------
    >>> check_name("RoofCamera")
    'RoofCamera'
    """
    if not _NAME.fullmatch(name) or python.iskeyword(name) or name in _TAKEN:
        raise OptionError(
            f"{name!r} cannot be the name of a class: use letters, digits and _, beginning with a letter, "
            "for example RoofCamera"
        )
    return name


def literal(value: Any) -> str:
    """Any header value as one line of ASCII that is a Python literal of the same value.

    Examples
    --------
    >>> print(literal('a "quoted" name'), literal("it's"), literal(1.5))
    'a "quoted" name' "it's" 1.5
    """
    if isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return repr(value)
    text = str(value)
    quote = "'" if text.count('"') > text.count("'") else '"'
    made = []
    for character in text:
        code = ord(character)
        if character == quote:
            made.append("\\" + quote)
        elif character in _ESCAPES:
            made.append(_ESCAPES[character])
        elif " " <= character <= "~":
            made.append(character)
        else:
            made.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return quote + "".join(made) + quote


def template(name: str, header: Mapping[str, Any] | None = None, *, module: str | None = None) -> str:
    """The text of a Python file with a camera's class, commented, that works as it is.

    Parameters
    ----------
    name : str
        Of the class.
    header : Header or mapping, optional
        Of a raw file: tells by what the camera is recognised, and where its quantities may be.
    module : str, optional
        Name of the file, for the commands it mentions.

    Raises
    ------
    OptionError
        If no class can have that name.

    Examples
    --------
    >>> text = template("RoofCamera", {"INSTRUME": "roof", "EXPTIME": 60.0})
    >>> 'return str(header.get("INSTRUME", "")).strip() == "roof"' in text
    True
    """
    check_name(name)
    cards = dict(_cards(header))
    file = module if module is not None and re.fullmatch(r"[\w.-]+", module, re.A) else f"{name.lower()}.py"
    found, value = _recognised(cards)
    lines = "\n".join(_wrapped(f'return str(header.get({literal(found)}, "")).strip() == ', value))
    comments = Comments(getattr(header, "comments", {}))
    rows = "\n".join(f"        {line}".rstrip() for line in _rows(cards, comments))
    numbers = "\n".join(f"    {line}".rstrip() for line in _numbers(cards, comments))
    places = "\n".join(f"        {line}".rstrip() for line in _places(cards))
    return _TEXT.format(
        name=name,
        file=file,
        matches=lines,
        rows=rows,
        numbers=numbers,
        sections=f"{places}\n" if places else "",
        quantities=", ".join(f'"{name}"' for name in DETECTOR_QUANTITIES),
    )


def _cards(header: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """Keyword and value, where both can be shown."""
    seen = set()
    for key in header or ():
        if isinstance(key, str) and _KEYWORD.fullmatch(key) and key not in seen:
            seen.add(key)
            value = header[key] if header is not None else None
            if isinstance(value, str | int | float) and str(value).strip():
                yield key, value


def _recognised(cards: Mapping[str, Any]) -> tuple[str, str]:
    """Keyword and text by which the camera is known."""
    for key in (*Frame.all_keywords()["instrument"], "TELESCOP"):
        if key in cards:
            return key, str(cards[key]).strip()
    return "INSTRUME", "what INSTRUME says"


def _wrapped(start: str, text: str) -> Iterator[str]:
    """A line of code that ends with a text; a long text goes on in more lines."""
    indent = " " * 8
    whole = f"{indent}{start}{literal(text)}"
    if len(whole) <= _LINE:
        yield whole
        return
    yield f"{indent}{start}("
    for begin in range(0, len(text), 24):  # the longest escape has 10 characters
        yield f"{indent}    {literal(text[begin : begin + 24])}"
    yield f"{indent})"


def _shown(key: str, value: Any) -> str:
    """``KEY = value`` for a comment."""
    text = literal(value)
    room = 40
    while len(text) > 60:
        text, room = literal(f"{str(value)[:room]}..."), room - 4
    return f"{key} = {text}"


def _rows(cards: Mapping[str, Any], comments: Comments) -> Iterator[str]:
    """One comment a quantity: what larun finds by itself, and what else it may be."""
    if not cards:
        yield '# "exposure": ("ITIME",),'
        yield from _CHIP
        yield '# "chip": ("CCDNAME",),'
        return
    yield from _amplifiers(cards)
    for quantity in Frame.all_keywords():
        if quantity in DETECTOR_QUANTITIES or quantity in _SECTIONS:
            continue
        known, others = candidates(quantity, cards, comments)
        if quantity == "chip":
            yield from _CHIP
            others = others or ([] if known else ["CCDNAME"])
        if known:
            yield f"# {quantity}: {_shown(known[0], cards[known[0]])}"
        elif quantity not in RULES:
            continue
        else:
            yield f"# {quantity}: not found by larun"
        for key in others:
            shown = _shown(key, cards[key]) if key in cards else "not in this header"
            yield f'#   "{quantity}": ("{key}",),  # {shown}'


_CHIP = ("# chip: which detector of a mosaic; masters of different ones are not shared",)


def _amplifiers(cards: Mapping[str, Any]) -> Iterator[str]:
    """Rows that make an amplifier of each card of a family."""
    families = [family for family in section_families(cards) if family.row is not None]
    known = Frame.all_keywords()
    rows = [family for family in families if family.base not in known[str(family.row)]]
    if rows:
        yield "# Several amplifiers: these rows give one for each card; GAIN, RDNOISE with its ending are its values"
        for family in rows:
            key = family.cards[0]
            yield f'#   "{family.row}": ("{family.base}",),  # {_shown(key, cards[key])}, {", ".join(family.cards[1:])}'


_MEANINGS = {
    "gain": "electrons per ADU",
    "read_noise": "electrons",
    "saturation": "ADU",
    "linear_limit": "ADU",
}


def _numbers(cards: Mapping[str, Any], comments: Comments) -> Iterator[str]:
    """The constants of the detector, with what the header says."""
    for quantity in DETECTOR_QUANTITIES:
        known, others = candidates(quantity, cards, comments)
        yield f"{quantity}: ClassVar[float | None] = None  # {_MEANINGS.get(quantity, '')}".rstrip(" #")
        yield from (f"#   {_shown(key, cards[key])}" for key in [*known, *others])


def _places(cards: Mapping[str, Any]) -> Iterator[str]:
    """Every section of the header, as FITS writes it and as Python does."""
    found = []
    for key, value in cards.items():
        if isinstance(value, str) and ":" in value and "," in value:
            try:
                section = parse_section(value, key)
            except HeaderError:
                continue
            if section is not None:
                found.append(f"#   {_shown(key, value)}  is  Section{tuple(section)}")
    if found:
        yield "# Sections of the header:"
        yield from found[:24]


_TEXT = '''\
"""{name}: what its headers do not say, or get wrong.

What is understood of a file:  larun instrument check FILE --instrument {file}
A night:                       larun reduce RAW/ OUT/ --instrument {file}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

import larun
from larun import Classified, Detector, flags


class {name}(larun.Frame):
    """A frame of {name}."""

    #: Kinds of masters a frame must have. A cold camera needs no dark, one without overscan needs a bias.
    required: ClassVar[frozenset[str]] = frozenset({{"bias", "dark", "flat"}})

    #: Where each quantity is found; the first keyword that is there counts. Only rows that differ from larun's own.
    keywords: ClassVar[Mapping[str, tuple[str, ...]]] = {{
{rows}
    }}

    #: Measured values, of every amplifier; None takes what the header says.
{numbers}

    #: Where the telescope stands: degrees east and north, metres. For barycentric times and the air mass.
    # site: ClassVar[larun.Site | None] = larun.Site(-121.64, 37.34, 1283)

    #: Columns of the raw array that are dead or hot, counted from 0.
    bad_columns: ClassVar[tuple[int, ...]] = ()

    @classmethod
    def matches(cls, header: Header) -> bool:
        """Whether a header is this camera's. Every file is asked, so a keyword may be missing."""
{matches}

    @classmethod
    def detector_for(cls, header: Header, shape: tuple[int, int]) -> Detector:
        """The amplifiers: sections from the header, and the values above."""
        # Several amplifiers whose cards end in a letter or a number need no code, only rows of keywords, above.
        # Sections that the header does not have: return them.
        # Sections are Section(y0, y1, x0, x1), rows first, counted from 0, the end not included.
        #     left = larun.Amplifier(
        #         name="A",
        #         data=larun.Section(0, 1024, 0, 512),
        #         overscan=larun.Section(0, 1024, 1024, 1056),
        #         gain=1.5,
        #         read_noise=5.0,
        #         saturation=65535,
        #     )
        #     return Detector(amplifiers=(left, right), sources={{"gain": "measured 2024-05-13"}})
{sections}        detector = super().detector_for(header, shape)
        values = {{name: getattr(cls, name) for name in ({quantities})}}
        return detector.with_values(**{{name: value for name, value in values.items() if value is not None}})

    @classmethod
    def flag_raw(cls, data: NDArray[np.float32], header: Header, first_row: int) -> NDArray[np.uint32]:
        """Flags of some rows of the raw array, beginning with ``first_row``."""
        flagged = np.zeros(data.shape, np.uint32)
        flagged[:, list(cls.bad_columns)] = flags.BAD
        return flagged

    @classmethod
    def classify(cls, header: Header) -> Classified:
        """Bias, dark, flat or science, and the evidence; by image type, exposure time and object name."""
        return super().classify(header)
'''
