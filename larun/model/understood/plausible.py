"""Whether a quantity of an exposure can be true: one row a quantity, with its unit, where else it may hide, and a rule.

A quantity without a row is shown as it is found. A rule sees everything that is known
(:class:`~larun.model.understood.known.Known`) and yields what a careful observer would say, with what to do about it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from larun.io.headers import get_number
from larun.model import registry
from larun.model.understood import plausible_chip as chip
from larun.model.understood import plausible_detector as detector
from larun.model.understood.known import Finding, Judge, Known, Rule

__all__ = ["RULES"]

_EARLIEST = 1980
_DAY = 86400.0
_CELSIUS = (-200, 50)


def _number(known: Known, quantity: str) -> float | None:
    value = known.values.get(quantity)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _kind(known: Known) -> Iterator[Finding]:
    if known.keywords.get("kind") is None and known.kind == "science":
        problem = f"no image type ({known.looked_for('kind')}): taken for {known.kind} ({known.evidence})"
        yield Finding(
            "kind",
            "warning",
            problem,
            "name its keyword in keywords['kind'], or write classify(header)",
        )


def _object(known: Known) -> Iterator[Finding]:
    if known.kind == "science" and known.values.get("object") is None:
        yield Finding(
            "object",
            "note",
            f"no target name ({known.looked_for('object')})",
            "nothing needs it; summaries are easier to read with it",
        )


def _exposure(known: Known) -> Iterator[Finding]:
    seconds = _number(known, "exposure")
    if seconds is None:
        if known.kind != "bias":
            needed = known.kind == "dark" or "dark" in known.camera.required
            yield Finding(
                "exposure",
                "error" if needed else "warning",
                f"no exposure time ({known.looked_for('exposure')})"
                + (": darks cannot be matched or scaled" if needed else ""),
                "name its keyword in keywords['exposure'], or give it: --keyword exposure=60",
            )
    elif seconds < 0:
        yield Finding(
            "exposure",
            "error",
            f"{known.say('exposure')}: time cannot be negative",
            "name another keyword in keywords['exposure']",
        )
    elif seconds > _DAY:
        yield Finding(
            "exposure",
            "warning",
            f"{known.say('exposure')}: longer than a day",
            "is it in milliseconds? larun counts seconds: name another keyword in keywords['exposure']",
        )


def _filter(known: Known) -> Iterator[Finding]:
    if known.values.get("filter") is None and known.kind in ("flat", "science"):
        yield Finding(
            "filter",
            "warning",
            f"no filter ({known.looked_for('filter')}): flats are matched as if there were none",
            "name its keyword in keywords['filter']; leave it if the camera has no filter",
        )


def _instrument(known: Known) -> Iterator[Finding]:
    if known.values.get("instrument") is None:
        yield Finding(
            "instrument",
            "warning",
            f"nothing names the camera ({known.looked_for('instrument')}): masters of two cameras look alike",
            "let matches(header) ask for other cards, and name one of them in keywords['instrument']",
        )


def _time(known: Known) -> Iterator[Finding]:
    for doubt in known.time.doubts:
        advice = "change the rows of keywords, declare the camera's site, or write time_for(header)"
        if "off begin and exposure" in doubt:
            advice = (
                'where the end counts the read-out, leave it out: keywords = {"end_time": ()}; otherwise the begin or '
                "the exposure time is wrong"
            )
        yield Finding("middle", "warning", doubt, advice)
    moment = known.middle
    if moment is None:
        yield Finding(
            "middle",
            "warning",
            f"nobody knows when it was exposed: {known.time.sources.get('mid', 'nothing says it')}",
            "name the cards that tell it in keywords['date'], ['clock'] or ['julian_date'], or write time_for(header)",
        )
    elif moment > known.now + datetime.timedelta(days=1) or moment.year < _EARLIEST:
        lies = f"before {_EARLIEST}, when there were no CCD cameras" if moment.year < _EARLIEST else "in the future"
        yield Finding(
            "middle",
            "warning",
            f"exposed {known.time.mid_text} ({known.time.sources['mid']}): lies {lies}",
            "the clock of the camera was wrong, or it is another date: name another keyword in keywords['date']",
        )


def _pointing(known: Known) -> Iterator[Finding]:
    if known.kind == "science" and known.time.pointing is None and known.wcs is None:
        yield Finding(
            "pointing",
            "note",
            f"nobody knows where it points ({known.time.sources.get('pointing', 'nothing says it')})",
            "name the cards in keywords['ra'] and keywords['dec']; barycentric times need it, or a position",
        )


def _site(known: Known) -> Iterator[Finding]:
    if known.kind == "science" and known.time.site is None:
        yield Finding(
            "site",
            "note",
            "nobody knows where the telescope stands: no air mass is computed, barycentric times are 21 ms uncertain",
            "site = larun.Site(longitude, latitude, height) in the camera's class",
        )


def _temperature(known: Known) -> Iterator[Finding]:
    value = _number(known, "temperature")
    if value is None or _CELSIUS[0] <= value <= _CELSIUS[1]:
        return
    yield Finding(
        "temperature",
        "warning",
        f"{known.say('temperature')}: no detector works at {value:g} °C",
        "is it in kelvin, or not of the detector? name another keyword in keywords['temperature']",
    )


def _binning(quantity: str) -> Judge:
    def judge(known: Known) -> Iterator[Finding]:
        value = _number(known, quantity)
        if value is not None and (not 1 <= abs(value) <= 32 or value != round(value)):
            yield Finding(
                quantity,
                "warning",
                f"{known.say(quantity)}: is no binning factor",
                f"name another keyword in keywords[{quantity!r}]",
            )

    return judge


def _wcs(known: Known) -> Iterator[Finding]:
    header = known.header
    scale = any(keyword in header for keyword in ("CD1_1", "CD1_2", "CDELT1", "PC1_1"))
    if known.kind != "science" or (known.wcs is not None and scale):
        return
    pointing = [name for name in ("RA", "OBJCTRA", "CRVAL1") if name in header]
    problem = f"pointing only ({', '.join(pointing)})" if pointing else "none"
    yield Finding(
        "wcs",
        "note",
        f"celestial coordinates: {problem}",
        "positions are in pixels; nothing of the reduction needs more",
    )


def _camera(known: Known) -> Iterator[Finding]:
    if known.camera is registry.by_name(registry.GENERIC):
        yield Finding(
            "class",
            "note",
            "no camera class claims this header: it is taken at its word",
            "larun instrument new NAME --from FILE writes one to fill in",
        )


def _between(low: float, high: float, *, whole: bool = False) -> Callable[[Any], bool]:
    """Whether a card holds a number of that size, both ends included."""

    def fits(value: Any) -> bool:
        number = None if isinstance(value, bool) else get_number({"": value}, ("",)).value
        return number is not None and low <= number <= high and (not whole or number == round(number))

    return fits


def _celsius_or_kelvin(value: Any) -> bool:
    return _between(*_CELSIUS)(value) or _between(100, 323)(value)


def _degrees(value: Any) -> bool:
    return _between(-180, 360)(value) or (
        isinstance(value, str) and re.match(r"\s*[EWNS+-]?\s*\d+[: d]", value) is not None
    )


def _date(value: Any) -> bool:
    return _between(40_000, 2_500_000)(value) or (
        isinstance(value, str) and re.search(r"\d[-/]\d\d?[-/]\d|\d:\d", value) is not None
    )


def _text(value: Any) -> bool:
    return isinstance(value, str) and get_number({"": value}, ("",)).value is None


#: By quantity; the order is that of the report.
RULES: Mapping[str, Rule] = {
    "class": Rule(judge=_camera),
    "kind": Rule(judge=_kind, like=r"IMAGE?TYP|OBSTYPE|FRAMETYP|\bimage type", fits=_text),
    "object": Rule(judge=_object, like=r"^(OBJECT|OBJNAME|TARG)|\btarget name", fits=_text),
    "filter": Rule(judge=_filter, like=r"FILT|\bfilter"),
    "exposure": Rule("s", _exposure, r"^EXP|EXPTIME|^ITIME|\bexposure", _between(0, _DAY)),
    "date": Rule(like=r"^DATE.+(?<!END)$|^MJD(?!-?END)|^UTC?-(?!END)|\bstart of (the )?exposure", fits=_date),
    "middle": Rule("UTC", _time),
    "pointing": Rule("°", _pointing),
    "site": Rule("°, m", _site),
    "airmass": Rule(like=r"AIRM|SECZ|\bair ?mass", fits=_between(1, 40)),
    "longitude": Rule("°", like=r"LONG|\blongitude", fits=_degrees),
    "latitude": Rule("°", like=r"LATI|\blatitude", fits=_degrees),
    "height": Rule(
        "m",
        like=r"ELEV|\bheight of the (site|telescope)|\baltitude of (the )?(site|telescope)",
        fits=_between(-500, 9000),
    ),
    "temperature": Rule("°C", _temperature, r"TEMP?$|TEMP|\btemp(erature\b|\.|\b)", _celsius_or_kelvin),
    "instrument": Rule(judge=_instrument, like=r"INSTR|CAMERA|DETECTOR|TELESCOP", fits=_text),
    "binning_x": Rule(judge=_binning("binning_x"), like=r"BIN", fits=_between(1, 32, whole=True)),
    "binning_y": Rule(judge=_binning("binning_y"), like=r"BIN", fits=_between(1, 32, whole=True)),
    "gain": Rule("e⁻/ADU", detector.gain, r"GAIN|\bgain\b|e-/ADU", _between(*detector.GAIN)),
    "read_noise": Rule("e⁻", detector.read_noise, r"NOIS|^RON|\bread.?(out)? ?noise", _between(0.1, detector.NOISE)),
    "saturation": Rule("ADU", detector.saturation, r"SATUR|SATLEV|FULLWELL|\bsaturat", _between(100, 1e7)),
    "linear_limit": Rule("ADU", detector.linear_limit, r"LIN(LIM|EAR)|MAXLIN|\blinear", _between(100, 1e7)),
    "sections": Rule(judge=detector.sections),
    "amplifiers": Rule(judge=chip.amplifiers),
    "chip": Rule(judge=chip.chip, like=chip.LIKE),
    "mode": Rule(like=r"READ(OUT)?_?(MODE|MD|SP)|ROSPEED|CCDMODE|AMPMODE|\bread-?out (mode|speed)"),
    "wcs": Rule(judge=_wcs),
}
