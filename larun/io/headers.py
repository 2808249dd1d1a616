"""Headers: one that describes the exposure, its digest, values from sloppy cards, and world coordinates.

Of world coordinates the polynomial distortions (SIP, TPV) are carried; the table corrections of some space telescopes
(``CPDIS``, ``D2IMDIS``) live in other HDUs and are not.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.io import fits

from larun.io.cards import COMMENTARY, exact_card, header_from_text, quiet, readable

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = [
    "Found",
    "canonical_header",
    "exposure_header",
    "get_number",
    "get_numbers",
    "get_text",
    "header_digest",
    "wcs_from_header",
    "wcs_to_header",
]

# How pixels are stored: layout, scaling, compression, checksums. None of it describes the exposure.
_STORAGE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|TFIELDS|BZERO|BSCALE|BLANK|CHECKSUM|DATASUM|LONGSTRN|END"
    r"|ZIMAGE|ZSIMPLE|ZTENSION|ZEXTEND|ZBLOCKED|ZPCOUNT|ZGCOUNT|ZHECKSUM|ZDATASUM|ZCMPTYPE|ZMASKCMP|ZQUANTIZ|ZDITHER0|ZBLANK"
    r"|ZBITPIX|ZNAXIS\d*|(ZTILE|ZNAME|ZVAL)\d+|FZ(ALGOR|TILE|QMETHD|QVALUE|DTHRSD|INT2F|HSCALE)"
)
_BOILERPLATE = (
    "FITS (Flexible Image Transport System) format is defined in 'Astronomy",
    "and Astrophysics', volume 376, page 359; bibcode: 2001A&A...376..359H",
)
_MISSING = {"", "UNKNOWN", "N/A", "NA", "NAN", "NONE", "NULL", "UNDEFINED", "INDEF", "TBD"}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?")


def _is_storage(card: fits.Card) -> bool:
    keyword = card.keyword.upper()
    if keyword in COMMENTARY:
        return str(card.value).strip() in _BOILERPLATE
    if keyword == "EXTNAME":
        return str(card.value).strip() == "COMPRESSED_IMAGE"
    return _STORAGE.fullmatch(keyword) is not None


def exposure_header(primary: fits.Header, extension: fits.Header | None) -> fits.Header:
    """Primary and image header in one, without the cards that describe the storage.

    Where both have a keyword the image's own card wins; comments and history are joined. Every card prints and parses
    without a complaint: what is legal stays as it is, a value that cannot be parsed is kept as text.
    """
    own = readable(extension.cards) if extension is not None else None
    first = readable(primary.cards)
    repeated = set() if own is None else {card.keyword for card in own.cards} - set(COMMENTARY)
    kept = [card for card in first.cards if card.keyword not in repeated]
    kept += [] if own is None else list(own.cards)
    return fits.Header([card for card in kept if not _is_storage(card)])


def canonical_header(header: fits.Header) -> str:
    """All that a header says about the exposure, in one form whatever the order, spacing and storage.

    Compressing a file or unpacking it, by gzip or by tiles, leaves this text as it is: storage cards are left out,
    values are compared as values, and the cards are sorted (comments and history keep their order).
    """
    lines, notes = [], []
    for card in readable(header.cards).cards:
        if _is_storage(card):
            continue
        if card.keyword in COMMENTARY:
            text = str(card.value).strip()
            notes.append(f"{card.keyword} {text}") if text else None
        else:
            value = card.value.rstrip() if isinstance(card.value, str) else card.value
            shown = "" if isinstance(value, fits.card.Undefined) else repr(value)
            lines.append(f"{card.keyword} = {shown} / {card.comment.strip()}")
    return "\n".join([*sorted(lines), *notes])


def header_digest(header: fits.Header) -> str:
    """SHA-256 (hex) of :func:`canonical_header`."""
    return hashlib.sha256(canonical_header(header).encode("utf-8")).hexdigest()


class Found(NamedTuple):
    """A header value and the keyword it came from; both None where nothing was found."""

    value: Any
    keyword: str | None


def _value(header: Mapping[str, Any], keyword: str) -> Any:
    """The value of a card; None if it is absent, empty, or a word that means "not known"."""
    try:
        if keyword not in header:
            return None
        value = header[keyword]
    except Exception:  # a card astropy cannot parse: read its characters
        cards = getattr(header, "cards", None)
        value = readable([cards[keyword]])[0] if cards is not None else None
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    if isinstance(value, str) and value.strip().upper() in _MISSING:
        return None
    return value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.number):
        return None
    if isinstance(value, str):
        match = _NUMBER.match(value.strip())
        rest = value.strip()[match.end() :] if match else "?"
        if match is None or not re.fullmatch(r"\s*([A-Za-z(\[%][^,;:]*)?", rest):  # only a unit may follow
            return None
        value = match[0].upper().replace("D", "E")
    number = float(value)
    return number if math.isfinite(number) else None


def get_number(header: Mapping[str, Any], keywords: Iterable[str]) -> Found:
    """The first of the keywords that holds one number.

    Numbers in strings count, also with a unit behind them; ``UNKNOWN``, ``N/A``, empty values, NaN, words and lists
    do not.

    Examples
    --------
    >>> get_number({"GAIN": "UNKNOWN", "EGAIN": "1.50 e-/ADU"}, ("GAIN", "EGAIN"))
    Found(value=1.5, keyword='EGAIN')
    """
    for keyword in keywords:
        number = _number(_value(header, keyword))
        if number is not None:
            return Found(number, keyword)
    return Found(None, None)


def get_numbers(header: Mapping[str, Any], keywords: Iterable[str]) -> Found:
    """The first of the keywords that holds a number or a list of numbers, as a tuple of floats.

    Examples
    --------
    >>> get_numbers({"GAIN": "[2.01, 1.99, 2.05, 2.02]"}, ("GAIN",)).value
    (2.01, 1.99, 2.05, 2.02)
    """
    for keyword in keywords:
        value = _value(header, keyword)
        parts = re.split(r"[,;\s]+", value.strip().strip("[](){}").strip()) if isinstance(value, str) else [value]
        numbers = [_number(part) for part in parts]
        if isinstance(value, str) and None in numbers:
            numbers = [_number(value)]
        if numbers and None not in numbers:
            return Found(tuple(number for number in numbers if number is not None), keyword)
    return Found(None, None)


def get_text(header: Mapping[str, Any], keywords: Iterable[str]) -> Found:
    """The first of the keywords that says something, as plain text.

    Examples
    --------
    >>> get_text({"FILTER": "  V ", "FILTNAM": "B"}, ("FILTER", "FILTNAM"))
    Found(value='V', keyword='FILTER')
    """
    for keyword in keywords:
        value = _value(header, keyword)
        if value is not None:
            text = " ".join(str(value).split())
            return Found("".join(c for c in text if c.isprintable()), keyword)
    return Found(None, None)


# The cards of the primary coordinate description: alternates (CTYPE1A) and table corrections are left out.
_WORLD = re.compile(
    r"WCSAXES|WCSNAME|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CNAME|CRDER|CSYER|CROTA)\d|(CD|PC)\d_\d|PV\d_\d+|PS\d_\d+"
    r"|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|(A|B|AP|BP)_(ORDER|DMAX|\d_\d)"
)
#: Those astropy knows. An apparent place (GAPPT) is taken for a mean one of its equinox, 20 arcsec off.
_FRAMES = {"ICRS", "FK5", "FK4", "FK4-NO-E"}


def wcs_from_header(header: fits.Header) -> WCS | None:
    """The celestial coordinates of an image, in two dimensions; None where the cards give none that work.

    Nothing is printed and nothing raised, however wrong the cards are.
    """
    cards = [
        card
        for card in readable(header.cards).cards
        if _WORLD.fullmatch(card.keyword)
        and (card.keyword not in ("RADESYS", "RADECSYS") or str(card.value).strip() in _FRAMES)
    ]
    if not any(card.keyword.startswith("CTYPE") for card in cards):
        return None
    from astropy import log
    from astropy.wcs import WCS

    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with quiet():
            wcs = WCS(fits.Header(cards, copy=True), relax=True)
            if not wcs.has_celestial:
                return None
            if wcs.naxis != 2:
                wcs = wcs.celestial
            return wcs if _works(wcs) else None
    except Exception:  # wcslib raises many kinds; no usable coordinates is the one answer
        return None
    finally:
        log.setLevel(level)


def _works(wcs: Any) -> bool:
    """Whether the reference pixel and its neighbours have finite, different places on the sky."""
    x, y = wcs.wcs.crpix - 1.0
    sky = np.asarray(wcs.all_pix2world([[x, y], [x + 1, y], [x, y + 1]], 0))
    step = np.linalg.det(wcs.pixel_scale_matrix)
    return bool(np.isfinite(sky).all() and np.isfinite(step) and step != 0.0)


def wcs_to_header(wcs: WCS) -> fits.Header:
    """The cards of a celestial WCS; reading them back gives every number with the same bits.

    (``WCS.to_header`` itself rounds to about 12 digits.)
    """
    with quiet():
        rounded = wcs.to_header(relax=True)
    exact: dict[str, float] = {}
    core = wcs.wcs
    matrix, steps = core.get_pc(), core.get_cdelt()
    for axis in range(core.naxis):
        number = axis + 1
        exact[f"CRPIX{number}"] = core.crpix[axis]
        exact[f"CRVAL{number}"] = core.crval[axis]
        exact[f"CDELT{number}"] = steps[axis]
        for other in range(core.naxis):
            exact[f"PC{number}_{other + 1}"] = matrix[axis, other]
    exact |= {"LONPOLE": core.lonpole, "LATPOLE": core.latpole}
    exact |= {f"PV{axis}_{index}": value for axis, index, value in core.get_pv()}
    if wcs.sip is not None:
        for name in ("a", "b", "ap", "bp"):
            coefficients = getattr(wcs.sip, name)
            if coefficients is None:
                continue
            for (i, j), value in np.ndenumerate(coefficients):
                if i + j < len(coefficients):
                    exact[f"{name.upper()}_{i}_{j}"] = value
    exact = {keyword: float(value) for keyword, value in exact.items() if np.isfinite(value)}
    cards = [
        exact_card(card.keyword, exact.pop(card.keyword), card.comment) if card.keyword in exact else card
        for card in rounded.cards
    ]
    cards += [exact_card(keyword, value) for keyword, value in exact.items() if value != 0.0 or keyword[:2] == "PC"]
    return header_from_text("".join(str(card) for card in cards))
