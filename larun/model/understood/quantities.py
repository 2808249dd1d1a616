"""Every quantity that is derived from a header, one row each, with where it comes from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from larun.detector import Amplifier
from larun.io.sections import format_section
from larun.model.frame import Frame
from larun.model.headers import DETECTOR_QUANTITIES
from larun.model.understood.known import Known
from larun.model.understood.plausible import RULES

__all__ = ["Quantity", "quantities"]

#: Rows of the table of keywords that the amplifiers show better.
_SHOWN_BY_AMPLIFIERS = (*DETECTOR_QUANTITIES, "trim", "overscan")


@attrs.frozen(kw_only=True)
class Quantity:
    """One value that larun derives from a header.

    Parameters
    ----------
    name : str
        The quantity, as in ``keywords``.
    value : object
        A number, a text, or None when it is missing.
    unit : str
        Its unit.
    source : str
        Where it comes from: keyword and raw value, a constant or hook of the camera, ``given``, or where it was
        looked for in vain.
    keyword : str or None
        The keyword that decided.
    raw : object
        What the header has under that keyword.
    amplifier : str
        Name of the amplifier; empty for what holds for the whole frame.
    """

    name: str
    value: Any
    unit: str = ""
    source: str = ""
    keyword: str | None = None
    raw: Any = None
    amplifier: str = ""


def quantities(known: Known, given: Mapping[str, Any], shape_from: str = "") -> tuple[Quantity, ...]:
    """Every quantity that is known or looked for, with where it comes from."""
    return tuple(_rows(known, given, shape_from))


def _rows(known: Known, given: Mapping[str, Any], shape_from: str) -> Iterator[Quantity]:
    names = known.camera.all_keywords()
    yield Quantity(name="kind", value=known.kind, source=known.evidence, **_card(known, "kind"))
    ordered = [name for name in RULES if name in names] + [name for name in names if name not in RULES]
    for name in ordered:
        if name not in _SHOWN_BY_AMPLIFIERS and name != "kind":
            yield _from_keywords(known, name, given)
    yield from _when_and_where(known)
    if known.shape is not None:
        yield Quantity(name="size", value=[known.shape[1], known.shape[0]], unit="pixel", source=shape_from)
    if known.detector is not None and known.shape is not None:
        ny, nx = known.detector.trimmed_shape
        yield Quantity(name="trimmed_size", value=[nx, ny], unit="pixel", source="the data sections side by side")
    yield Quantity(name="unit", value=known.values["unit"], source="BUNIT" if "BUNIT" in known.header else "")
    if known.wcs is not None:
        yield Quantity(name="wcs", value=_projection(known.wcs), source="CTYPE1, CTYPE2")
    for amplifier in known.amplifiers:
        for name in DETECTOR_QUANTITIES:
            yield _of_amplifier(known, amplifier, name, given)
        if known.shape is not None:
            yield from _placed(known, amplifier)


def _card(known: Known, name: str) -> dict[str, Any]:
    keyword = known.keywords.get(name)
    return {"keyword": keyword, "raw": known.header[keyword] if keyword else None}


def _is_given(known: Known, name: str, given: Mapping[str, Any]) -> bool:
    return name in given or any(keyword in given for keyword in known.camera.all_keywords()[name])


def _when_and_where(known: Known) -> Iterator[Quantity]:
    """What the camera makes of all cards of time and place."""
    time = known.time
    place = None if time.pointing is None else "{:.5f} {:+.5f}".format(*time.pointing)
    stand = time.site
    site = None if stand is None else f"{stand.longitude:+.5f} {stand.latitude:+.5f} {stand.height:g}"
    values = (
        ("mid", "middle", time.mid_text, "UTC"),
        ("pointing", "pointing", place, "°"),
        ("site", "site", site, "°, m"),
    )
    for quantity, name, value, unit in values:
        yield Quantity(name=name, value=value, unit=unit, source=time.sources.get(quantity, ""))


def _from_keywords(known: Known, name: str, given: Mapping[str, Any]) -> Quantity:
    value, card = known.values[name], _card(known, name)
    hook = _defined_by(known.camera, "quantity_of")
    if _is_given(known, name, given):
        source = "given"
    elif value is None:
        looked = f"none of {known.looked_for(name)}" if known.looked_for(name) else ""
        source = f"{known.say(name)}: cannot be used" if card["keyword"] else looked
    elif card["keyword"] is None:
        source = f"{hook or known.camera.__name__}.quantity_of"
    else:
        source = known.say(name)
    rule = RULES.get(name)
    return Quantity(name=name, value=value, unit=rule.unit if rule else "", source=source, **card)


def _of_amplifier(known: Known, amplifier: Amplifier, name: str, given: Mapping[str, Any]) -> Quantity:
    value = getattr(amplifier, name)
    value = None if value is not None and not math.isfinite(value) else value
    camera, source = known.camera, _said(known, amplifier, name)
    hook = _defined_by(camera, "detector_for")
    constant = next((base for base in camera.__mro__ if name in vars(base)), None)
    if _is_given(known, name, given):
        source = "given"
    elif value is not None and constant is not None and getattr(constant, name) == value:
        told = f": {source}" if source not in ("", "given") else ""
        source = f"constant {constant.__name__}.{name}{told}"
    elif hook and source in ("", "given"):  # what a hook puts in looks like what a caller gives
        source = f"{hook}.detector_for"
    card = _card(known, name)
    if (match := re.match(r"([A-Z0-9_-]+) = ", source)) and match[1] in known.header:
        card = {"keyword": match[1], "raw": known.header[match[1]]}
    return Quantity(name=name, value=value, unit=RULES[name].unit, source=source, amplifier=amplifier.name, **card)


def _said(known: Known, amplifier: Amplifier, name: str) -> str:
    """Where a detector says a quantity comes from; of several amplifiers the part that is about this one."""
    source = known.detector.sources.get(name, "") if known.detector is not None else ""
    parts = source.split("; ")
    names = [other.name for other in known.amplifiers]
    return parts[names.index(amplifier.name)] if len(parts) == len(names) > 1 else source


def _placed(known: Known, amplifier: Amplifier) -> Iterator[Quantity]:
    said = _said(known, amplifier, "sections")
    hook = _defined_by(known.camera, "detector_for")
    for name, section in (("data", amplifier.data), ("overscan", amplifier.overscan)):
        whole = name == "data" and section is not None and section.shape == known.shape
        yield Quantity(
            name=name,
            value=None if section is None else format_section(section),
            source=said or (f"{hook}.detector_for" if hook else "the whole array" if whole else ""),
            amplifier=amplifier.name,
        )


def _defined_by(camera: type[Frame], hook: str) -> str:
    """The class below ``Frame`` that has a hook of its own; empty where none has."""
    for base in camera.__mro__[: camera.__mro__.index(Frame)]:
        if hook in vars(base):
            return base.__name__
    return ""


def _projection(wcs: Any) -> str:
    matrix = np.asarray(wcs.pixel_scale_matrix)
    scale = 3600.0 * math.sqrt(abs(float(np.linalg.det(matrix))))
    return f"{str(wcs.wcs.ctype[0])[-3:]}, {scale:.4g} arcsec per pixel"
