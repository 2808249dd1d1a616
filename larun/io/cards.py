"""Header cards: made readable at the door, exact when written, and fit for strict readers.

Real headers hold cards that break the FITS standard. :func:`readable` keeps every one of them in a form that astropy
can print and parse without a complaint; :func:`standard_cards` gives the part of a header that a strict reader
accepts in the primary HDU of a product.
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from astropy.io import fits

__all__ = [
    "card_text",
    "exact_card",
    "header_from_text",
    "header_text",
    "new_card",
    "quiet",
    "readable",
    "standard_cards",
]

COMMENTARY = ("COMMENT", "HISTORY", "")

_LEGAL = re.compile(r"[A-Z0-9_-]{1,8}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([ED][+-]?\d+)?")
_STRICT = re.compile(
    r"(?!END )(?=[A-Z0-9_-]+ *= )[A-Z0-9_ -]{8}= +"
    r"('(?:[ -&(-~]|'')*'|[TF]|[+-]?(\d+\.?\d*|\.\d+)([ED][+-]?\d+)?)\s*(/[ -~]*)?"
)
_EMPTY = re.compile(r"[A-Z0-9_ -]{8}= *(/[ -~]*)?|(COMMENT |HISTORY | {8})[ -~]*")
_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d*)?)?")
_TEXT_KEYWORDS = {"ORIGIN", "AUTHOR", "CREATOR", "REFERENC", "TELESCOP", "INSTRUME", "OBSERVER", "OBJECT"}
_NUMBER_KEYWORDS = {"EQUINOX", "MJD-OBS", "MJD-AVG", "OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z"}

# Cards that say how an array or a table is laid out. They describe the HDU they came from, not the exposure.
_LAYOUT = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BLOCKED|END|CHECKSUM|DATASUM|LONGSTRN|BZERO|BSCALE|BLANK"
    r"|EXTNAME|EXTVER|EXTLEVEL|INHERIT|BUNIT|DATAMAX|DATAMIN|LARUN\w*"
    r"|TFIELDS|THEAP|(TBCOL|TFORM|TSCAL|TZERO|TNULL|TTYPE|TUNIT|TDISP|TDIM|TCTYP|TCUNI|TCRVL|TCDLT|TCRPX|TCROT)\d+"
    r"|(PTYPE|PSCAL|PZERO)\d+"
)
# World coordinates belong to the array they map; a product carries the current ones beside its data.
_WORLD = re.compile(
    r"(WCSAXES|WCSNAME|RADESYS|RADECSYS|RESTFRQ|RESTFREQ|RESTWAV|VELOSYS|ZSOURCE|VELANGL|SPECSYS|SSYSOBS|SSYSSRC)[A-Z]?"
    r"|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CNAME|CRDER|CSYER|CROTA)\d[A-Z]?|(CD|PC|PV|PS)\d_\d+[A-Z]?"
    r"|LONPOLE[A-Z]?|LATPOLE[A-Z]?|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)|(D2IM|DP|DQ|CPDIS|CQDIS|D2IMDIS|D2IMERR)\d.*|D2IMEXT"
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what astropy says about sloppy headers; the cards are judged here instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def exact_card(keyword: str, value: float, comment: str = "") -> fits.Card:
    """A card that holds a finite float to its last bit (astropy cuts numbers at 20 characters).

    Examples
    --------
    >>> exact_card("CD1_1", -0.00010272399958921235).value
    -0.00010272399958921235
    """
    number = repr(float(value)).replace("e", "E")
    number = number if "." in number or "E" not in number else number.replace("E", ".0E")
    text = f"{keyword:<8}= {number:>20}" + (f" / {comment}" if comment else "")
    return fits.Card.fromstring(text[:80].ljust(80))


def new_card(keyword: str, value: Any, comment: str = "") -> str:
    """The text of a new card; a comment that does not fit is cut, a long string is continued."""
    with quiet():
        return str(fits.Card(keyword, value, comment))


def card_text(card: fits.Card) -> str:
    """The card as it stands in a file: one or more records of 80 characters; unreadable values become text."""
    raw = None if getattr(card, "_modified", True) else getattr(card, "_image", None)
    if raw is not None and len(raw) == 80 and _STRICT.fullmatch(raw):
        return str(raw)  # nine cards of ten: astropy's own check costs 0.1 ms each
    with quiet():
        try:
            text = str(card)
            card.value, card.comment  # noqa: B018  # parsing may raise
            fresh = fits.Card.fromstring(text)
            fresh.verify("exception")
            if len(text) == 80 and text[8:10] == "= " and not (_STRICT.fullmatch(text) or _EMPTY.fullmatch(text)):
                return _rebuilt(card)  # astropy forgives what other readers do not
            if isinstance(card.value, float) and fresh.value != card.value and _LEGAL.fullmatch(card.keyword):
                return str(exact_card(card.keyword, card.value, card.comment))  # astropy cut its digits
        except Exception:  # astropy raises many kinds; the card is rebuilt from its raw characters
            return _rebuilt(card)
    return text


def _rebuilt(card: fits.Card) -> str:
    """A legal card with what can be saved of an illegal one."""
    raw = "".join(c if " " <= c <= "~" else "?" for c in (getattr(card, "_image", None) or ""))
    keyword = re.sub(r"[^A-Z0-9_-]", "_", raw[:8].partition("=")[0].strip().upper())
    _, marker, rest = raw.partition("=")
    if not marker or keyword in (*COMMENTARY, "END", "CONTINUE", "HIERARCH"):
        return new_card("COMMENT", raw.strip()[:72])
    value, _, comment = rest.partition(" /")
    room = 67 - value.count("'")
    return new_card(keyword, value.strip().strip("'").strip()[:room], comment.strip())


def readable(cards: Iterable[fits.Card]) -> fits.Header:
    """A header whose cards all print and parse without warning; what is legal stays character for character."""
    return header_from_text("".join(card_text(card) for card in cards))


def header_text(header: fits.Header) -> str:
    """All cards, 80 characters a record, without END and padding."""
    return "".join(card_text(card) for card in header.cards)


def header_from_text(text: str) -> fits.Header:
    """The inverse of :func:`header_text`."""
    with quiet():
        return fits.Header.fromstring(text)


def standard_cards(header: fits.Header) -> str:
    """The cards of an exposure's header that a strict reader accepts in a primary HDU without data.

    Left out: the layout and the world coordinates of the raw array, repeated keywords after their first, dates no
    reader can parse, and keywords without a value. ``EPOCH`` becomes ``EQUINOX`` where that is missing.
    """
    return "".join(_standard(header))


def _standard(header: fits.Header) -> Iterator[str]:
    seen: set[str] = set()
    with quiet():
        for card in header.cards:
            keyword = card.keyword.upper()
            raw_keyword = card_text(card)[:8].rstrip()
            if raw_keyword == "" or keyword in COMMENTARY:
                yield card_text(card)
                continue
            if keyword == "EPOCH" and "EQUINOX" not in header and isinstance(card.value, int | float):
                keyword, card = "EQUINOX", fits.Card("EQUINOX", card.value, card.comment)
            wanted = raw_keyword == "HIERARCH" or (_LEGAL.fullmatch(keyword) and keyword != "EPOCH")
            if keyword in seen or not wanted or _LAYOUT.fullmatch(keyword) or _WORLD.fullmatch(keyword):
                continue
            text = _strict(keyword, card)
            if text:
                seen.add(keyword)
                yield text


def _strict(keyword: str, card: fits.Card) -> str:
    """The card with a value of the type its keyword is reserved for; empty if that cannot be had."""
    value: Any = card.value
    if isinstance(value, fits.card.Undefined):
        return ""
    if keyword.startswith("DATE"):
        return card_text(card) if isinstance(value, str) and _DATE.fullmatch(value.strip()) else ""
    if keyword in _TEXT_KEYWORDS and not isinstance(value, str):
        return new_card(keyword, str(value), card.comment)
    if keyword in _NUMBER_KEYWORDS and (isinstance(value, bool) or not isinstance(value, int | float)):
        found = _NUMBER.match(value.strip().upper()) if isinstance(value, str) else None
        number = float(found[0].replace("D", "E")) if found else math.inf
        return new_card(keyword, number, card.comment) if math.isfinite(number) else ""
    text = card_text(card)
    if isinstance(value, float) and re.search(r"=[^/]*\d[ed][+-]?\d", text):  # lower-case exponents are illegal
        text = str(exact_card(keyword, value, card.comment)) if _LEGAL.fullmatch(keyword) else ""
    return text
