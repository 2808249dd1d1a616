"""Whether a detector is all that its header describes: amplifiers, overscan, and which chip of a mosaic it is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from larun.io.headers import get_number
from larun.io.sections import parse_section
from larun.model.families import Family, section_families, value_families
from larun.model.headers import DETECTOR_QUANTITIES
from larun.model.understood.known import Finding, Known

__all__ = ["LIKE", "amplifiers", "chip"]

#: Keywords that tell the chips of a mosaic apart.
LIKE = r"^(EXTVER|EXTNAME|IMAGEID|CCD_?(NUM|NAME|ID|NO|NR|CHIP)|CHIP_?(NUM|NAME|ID|NO)?|DET_?(ID|NUM|NO|NAME|SER)|CCD)$"
_COUNTS = ("EXTVER", "NEXTEND", "NCCDS", "NCCD", "NDETS", "NCHIPS")
_NAMES = ("CCDNUM", "CCDNAME", "CCDID", "CCDCHIP", "CHIPID", "CHIPNUM", "DETID", "IMAGEID")
_NUMBERED = re.compile(r"(ccd|chip|det|sci|im)[ _-]?\d+", re.I)
_SOURCES = (*DETECTOR_QUANTITIES, "sections")
#: What a detector says where the header of an untrimmed parent came with a trimmed file.
_TRIMMED = "already trimmed"


def amplifiers(known: Known) -> Iterator[Finding]:
    """Several in the header and one in the detector, an overscan nobody uses, a source of no quantity."""
    if known.detector is None:
        return
    yield from _odd_sources(known)
    told = known.detector.sources.get("sections", "")
    if known.values.get("unit") != "adu" or _TRIMMED in told:
        return
    if len(known.amplifiers) == 1:
        yield from _several(known)
    yield from _no_overscan(known)


def _odd_sources(known: Known) -> Iterator[Finding]:
    assert known.detector is not None
    for name in known.detector.sources:
        if name not in _SOURCES:
            close = difflib.get_close_matches(name, _SOURCES, 1)
            yield Finding(
                "sources",
                "warning",
                f"the detector's sources[{name!r}] is of no quantity: nothing shows it",
                f"did you mean {close[0]!r}?" if close else f"larun uses {', '.join(_SOURCES)}",
            )


def _several(known: Known) -> Iterator[Finding]:
    table = known.camera.all_keywords()
    sections = [family for family in section_families(known.header) if family.row is not None]
    trims = [family for family in sections if family.row == "trim"]
    if trims and known.shape is not None and not any(_inside(family, known) for family in trims):
        return  # a trimmed file with the cards of its parent
    values = value_families(known.header, {name: table[name] for name in DETECTOR_QUANTITIES})
    if not sections and not values:
        return
    shown = "; ".join(str(family) for family in (*sections, *values))
    rows = _rows(sections)
    yield Finding(
        "amplifiers",
        "warning" if sections else "note",  # values alone may be those of the parent of a trimmed file
        f"the header describes several amplifiers ({shown}), the detector has one",
        (f"keywords = {{{rows}}} gives one for each, with its own values; or " if rows else "")
        + "write detector_for; one amplifier has the mean gain and noise, and the bias level of no half",
    )


def _inside(family: Family, known: Known) -> bool:
    sections = (parse_section(str(known.header[card]), card) for card in family.cards)
    return known.shape is None or all(section is not None and section.within(known.shape) for section in sections)


def _rows(sections: list[Family]) -> str:
    """Rows of ``keywords`` that use them: the first of each kind."""
    first: dict[str, Family] = {}
    for family in sections:
        first.setdefault(str(family.row), family)
    return ", ".join(f'"{row}": ("{family.base}",)' for row, family in first.items()) if "trim" in first else ""


def _no_overscan(known: Known) -> Iterator[Finding]:
    if known.shape is None or known.detector is None or any(a.overscan is not None for a in known.amplifiers):
        return
    ny, nx = known.detector.trimmed_shape
    beside = (known.shape[1] - nx, known.shape[0] - ny)
    empty = [key for key in known.camera.all_keywords()["overscan"] if key in known.header]
    said = f"{empty[0]} = {known.header[empty[0]]!r}" if empty else ""
    if beside[0] > 0 or beside[1] > 0:
        size = f"{known.shape[1]} × {known.shape[0]} frame, {nx} × {ny} of it data"
        problem = f"no overscan is known in a {size}" + (f" ({said})" if said else "")
    elif said:
        problem = f"{said}: is no section, and no overscan is known"
    else:
        return
    yield Finding(
        "sections",
        "note",
        f"{problem}: the bias level of each frame is not measured",
        "name its card in keywords['overscan'], or return it from detector_for, if some of it sees no light",
    )


def chip(known: Known) -> Iterator[Finding]:
    """One of many detectors, and nothing says which."""
    if known.values.get("chip") is not None:
        return
    header, said = known.header, []
    for key in _COUNTS:
        number = get_number(header, (key,)).value
        if number is not None and number > 1:
            said.append(key)
    said += [key for key in _NAMES if key in header and str(header[key]).strip()]
    if _NUMBERED.fullmatch(str(header.get("EXTNAME", "")).strip()):
        said.append("EXTNAME")
    if said:
        shown = ", ".join(f"{key} = {header[key]!r}" for key in said)
        best = next((key for key in said if not key.startswith("N")), None)
        yield Finding(
            "chip",
            "note",
            f"one of several detectors ({shown})? nothing says which: masters are shared between them",
            f"name the card that tells them apart in keywords['chip'], as (\"{best or 'CCDNAME'}\",)",
        )
