"""What a raw header means: quantities by keyword, the kind of exposure by evidence, the detector.

Cameras override the tables and hooks; nothing here knows a camera.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import numpy as np

from larun.detector import Amplifier, Detector, Section
from larun.errors import HeaderError, LarunWarning, OptionError
from larun.io.dates import why_no_time
from larun.io.headers import Found, get_number, get_numbers, get_text
from larun.io.mosaic import AMPLIFIER_NAMES, bayer_channels, suffixed
from larun.io.sections import parse_section

if TYPE_CHECKING:
    from astropy.io.fits import Header

__all__ = [
    "DETECTOR_QUANTITIES",
    "KEYWORDS",
    "KINDS",
    "Classified",
    "channels_from_header",
    "classify",
    "detector_from_header",
    "exposure_seconds",
    "measured_text",
    "source_of",
    "sources_of",
    "split_given",
]

#: Where each quantity is looked for, first hit wins; cameras override single rows.
KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "kind": ("IMAGETYP", "OBSTYPE", "IMGTYPE", "FRAME"),
    "object": ("OBJECT", "OBJNAME", "TARGNAME"),
    "exposure": ("EXPTIME", "EXPOSURE", "EXP_TIME"),
    "filter": ("FILTER", "FILTNAM", "FILTERS", "FILTER1", "INSFLNAM"),
    "instrument": ("INSTRUME", "CAMERA", "DETECTOR"),
    "date": ("DATE-OBS", "DATE-BEG", "DATE_OBS", "DATEOBS", "UT-DATE"),
    "temperature": ("CCD-TEMP", "CCDTEMP", "DET-TEMP", "CCDATEMP", "TEMPDET"),
    "binning_x": ("XBINNING", "CCDXBIN", "BINX", "COLBIN"),
    "binning_y": ("YBINNING", "CCDYBIN", "BINY", "ROWBIN"),
    "gain": ("GAIN", "EGAIN"),
    "read_noise": ("RDNOISE", "READNOIS", "ENOISE", "RON"),
    "saturation": ("SATURATE", "SATLEVEL", "SATLVL"),
    "linear_limit": ("MAXLIN", "LINLIMIT", "NONLIN"),
    "trim": ("TRIMSEC", "DATASEC"),
    "overscan": ("BIASSEC",),
    # when: a date (or a date and the time of day of another card), a Julian date or a modified one, middle, end
    "clock": (
        "TIME-OBS",
        "TIME-BEG",
        "UTC-OBS",
        "UTSTART",
        "UT-STR",
        "UTSHUT",
        "UTIME",
        "UT",
        "UT-TIME",
        "UTC",
        "TAIHMS",
    ),
    "julian_date": ("MJD-OBS", "MJD-BEG", "MJD-STR", "MJDATE", "MJD_OBS", "OBSMJD", "EXPSTART", "JD"),
    "mid_time": ("DATE-AVG", "MJD-AVG", "DATE-MID", "TIME-MID", "MIDTIME", "UT-MID", "MJD-MID", "JD-MID", "JD_UTC"),
    "end_time": ("DATE-END", "TIME-END", "UTC-END", "UT-END", "UTSTOP", "UTCEND", "MJD-END", "MJDEND", "EXPEND"),
    "time_scale": ("TIMESYS",),
    # where to, in pairs of the two rows, and where from: degrees east and north, metres
    "ra": ("RA", "OBJCTRA", "TELRA", "RA_TARG", "RA_OBS", "RA_DEG"),
    "dec": ("DEC", "OBJCTDEC", "TELDEC", "DEC_TARG", "DEC_OBS", "DEC_DEG"),
    "equinox": ("EQUINOX", "EPOCH"),
    "sky_frame": ("RADESYS", "RADECSYS"),
    "airmass": ("AIRMASS", "SECZ", "ESO TEL AIRM START"),
    "geocentric": ("OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z"),
    "longitude": (
        "OBSGEO-L",
        "SITELONG",
        "LONG-OBS",
        "LON-OBS",
        "OBS-LONG",
        "LONGITUD",
        "GEOLON",
        "OBSLON",
        "ESO TEL GEOLON",
    ),
    "latitude": ("OBSGEO-B", "SITELAT", "LAT-OBS", "OBS-LAT", "LATITUDE", "GEOLAT", "OBSLAT", "ESO TEL GEOLAT"),
    "height": (
        "OBSGEO-H",
        "SITEELEV",
        "ALT-OBS",
        "OBS-ELEV",
        "HEIGHT",
        "GEOELEV",
        "OBSALT",
        "OBSELEV",
        "ESO TEL GEOELEV",
    ),
    "chip": ("CHANNEL", "CCDNUM", "CCDCHIP"),
    "mode": ("READOUTM", "READMODE"),
    "bayer": ("BAYERPAT", "COLORTYP"),
}

_TIMES = ("date", "mid_time", "end_time")
DETECTOR_QUANTITIES = ("gain", "read_noise", "saturation", "linear_limit")

KINDS = ("bias", "dark", "flat", "science")

_PATTERNS = (
    ("bias", re.compile(r"\b(bias|zero)", re.I)),
    ("dark", re.compile(r"\bdark", re.I)),
    ("flat", re.compile(r"flat\b|\bflat|\bskyflat|\bdomeflat", re.I)),
)

# Names of targets are free text: only whole words count (the Flatiron is no flat).
_NAMES = (
    ("bias", re.compile(r"(?<![a-z])(bias(es)?|zero)(?![a-z])", re.I)),
    ("dark", re.compile(r"(?<![a-z])darks?(?![a-z])", re.I)),
    ("flat", re.compile(r"(?<![a-z])(sky|dome|twi|twilight|lamp|screen)?flats?(field)?s?(?![a-z])", re.I)),
)


_MEASURED = re.compile(r"\s*(\S.*?)\s+measured\s*")
_MILLISECONDS = re.compile(r"^[\d.]+\s*(ms|msecs?)\b|[\[(]\s*(ms|msecs?)\s*[\])]|\bin (ms|msecs?)\b|\bmillisec", re.I)


def exposure_seconds(header: Header, keywords: tuple[str, ...]) -> Found:
    """The exposure time in seconds: a card whose value or comment speaks of milliseconds is taken at its word.

    Examples
    --------
    >>> from astropy.io.fits import Header
    >>> exposure_seconds(Header([("EXPTIME", 1500, "[ms] exposure time")]), ("EXPTIME",))
    Found(value=1.5, keyword='EXPTIME')
    """
    number, keyword = get_number(header, keywords)
    if number is None or keyword is None:
        return Found(None, None)
    said = f"{header[keyword]} {getattr(header, 'comments', {keyword: ''})[keyword]}"
    return Found(number / 1000.0 if _MILLISECONDS.search(said) else number, keyword)


class Classified(NamedTuple):
    """What kind of exposure a file is, and why: what the hook ``classify`` of a camera returns.

    Examples
    --------
    >>> Classified("flat", "LAMP = 'on'").kind
    'flat'
    """

    kind: str
    """``"bias"``, ``"dark"``, ``"flat"`` or ``"science"``."""
    evidence: str
    """The cards that decided, with their values."""


def classify(header: Header, keywords: Mapping[str, tuple[str, ...]]) -> Classified:
    """The kind of exposure, from the header's image type, exposure time and object name, in that order of trust.

    A dark of zero seconds is a bias; an "object" whose name says flat or bias is one. The evidence names the
    keywords and values that decided.
    """
    kind, kind_key = get_text(header, keywords["kind"])
    name, name_key = get_text(header, keywords["object"])
    exposure, exposure_key = get_number(header, keywords["exposure"])
    said = f"{kind_key}={kind!r}" if kind_key else "no image type"
    by_kind = next((k for k, pattern in _PATTERNS if kind and pattern.search(kind)), None)
    by_name = next((k for k, pattern in _NAMES if name and pattern.search(name)), None)
    if by_kind == "dark" and exposure == 0:
        return Classified("bias", f"{said} with {exposure_key}=0")
    if by_kind:
        return Classified(by_kind, said)
    if by_name == "bias" and exposure:
        return Classified("science", f"{said}; {name_key}={name!r} but {exposure_key}={exposure:g}")
    if by_name:
        return Classified(by_name, f"{said}, but {name_key}={name!r}")
    if exposure == 0:
        return Classified("bias", f"{said} with {exposure_key}=0")
    return Classified("science", said if kind_key else f"{said}; nothing says calibration")


def detector_from_header(header: Header, shape: tuple[int, int], keywords: Mapping[str, tuple[str, ...]]) -> Detector:
    """The detector of a camera as its header states it.

    Where the keywords of the data section carry a letter or a number at their end (``DATASECA``, ``TRIMSEC1``, …; for
    quadrants 11, 12, 21 and 22) there is one amplifier for each, and ``GAINA`` … are its values; else there is one
    amplifier. What is missing or impossible is kept as such, with the reason in ``sources``: it becomes an error only
    when a step needs it. Sections that reach beyond the array belong to an untrimmed parent and are ignored.
    """
    names = _amplifier_names(header, keywords["trim"])
    if not names:
        return _one_amplifier(header, shape, keywords)
    amplifiers: list[Amplifier] = []
    sources: dict[str, str] = {}
    for name in names:
        own = {
            quantity: tuple(suffixed(key, name) for key in keywords[quantity]) + keywords[quantity]
            for quantity in DETECTOR_QUANTITIES
        }
        own |= {part: tuple(suffixed(key, name) for key in keywords[part]) for part in ("trim", "overscan")}
        found = _one_amplifier(header, shape, {**keywords, **own})
        if found.sources.get("sections", "").endswith("already trimmed"):
            return _one_amplifier(header, shape, {**keywords, "trim": (), "overscan": ()})
        amplifiers.append(attrs.evolve(found.amplifiers[0], name=name))
        for quantity, text in found.sources.items():
            sources[quantity] = f"{sources[quantity]}; {text}" if quantity in sources else text
    return Detector(amplifiers=amplifiers, sources=sources)


def _amplifier_names(header: Header, keywords: Iterable[str]) -> tuple[str, ...]:
    """The endings that tell the amplifiers apart, where there are several."""
    for endings in (AMPLIFIER_NAMES, "123456789", ("11", "12", "21", "22")):
        found = tuple(name for name in endings if any(suffixed(key, name) in header for key in keywords))
        if len(found) > 1:
            return found
    return ()


def _one_amplifier(header: Header, shape: tuple[int, int], keywords: Mapping[str, tuple[str, ...]]) -> Detector:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for quantity in DETECTOR_QUANTITIES:
        numbers, key = get_numbers(header, keywords[quantity])
        if key is None:
            sources[quantity] = f"none of {', '.join(keywords[quantity])} found"
        elif len(numbers) != 1:
            sources[quantity] = f"{key} = {header[key]!r}: {len(numbers)} values for one amplifier"
        elif quantity != "read_noise" and not numbers[0] > 0:
            sources[quantity] = f"{key} = {header[key]!r}: must be positive"
        else:
            values[quantity] = numbers[0]
            sources[quantity] = f"{key} = {header[key]!r}"
    full = Section(0, shape[0], 0, shape[1])
    data, trim_key = _first_section(header, keywords["trim"])
    overscan, bias_key = _first_section(header, keywords["overscan"])
    beyond = [s for s in (data, overscan) if s is not None and not s.within(shape)]
    if beyond:
        sources["sections"] = (
            f"{trim_key or bias_key} reaches beyond the {shape[1]} × {shape[0]} array: already trimmed"
        )
        data = overscan = None
    elif trim_key or bias_key:
        sources["sections"] = ", ".join(f"{key} = {header[key]!r}" for key in (trim_key, bias_key) if key)
    data = data or full
    if overscan is not None:
        # Only the overscan beside the data tells the level of the data's own rows (or columns).
        beside = overscan.x1 <= data.x0 or overscan.x0 >= data.x1
        rows = Section(data.y0, data.y1, overscan.x0, overscan.x1) if beside else overscan
        overscan = overscan.intersect(rows)
    return Detector(amplifiers=(Amplifier(data=data, overscan=overscan, **values),), sources=sources)


def channels_from_header(
    header: Header, shape: tuple[int, int], keywords: Mapping[str, tuple[str, ...]]
) -> Mapping[str, tuple[int, int]]:
    """The colour channels of a Bayer sensor as its header states them; empty where it names no pattern.

    Raises
    ------
    HeaderError
        If the pattern is none.
    """
    pattern, keyword = get_text(header, keywords["bayer"])
    if pattern is None or pattern.upper() in ("MONO", "MONOCHROME"):
        return {}
    first = [int(get_number(header, (key,)).value or 0) for key in ("YBAYROFF", "XBAYROFF")]
    bottom_up = (get_text(header, ("ROWORDER",)).value or "").upper() == "BOTTOM-UP"
    try:
        return bayer_channels(pattern, (first[0], first[1]), bottom_up=bottom_up, rows=shape[0])
    except OptionError as error:
        raise HeaderError(f"{keyword} = {pattern!r}: {error}") from error


def _first_section(header: Header, keywords: tuple[str, ...]) -> tuple[Section | None, str | None]:
    for keyword in keywords:
        if keyword in header:
            section = parse_section(str(header[keyword]), keyword)
            if section is not None:
                return section, keyword
    return None, None


def _is_time(value: Any) -> bool:
    try:
        return 0 <= float(value) < math.inf
    except (TypeError, ValueError):
        return False


def split_given(
    given: Mapping[str, Any], keywords: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, float | tuple[float, ...]], dict[str, Any]]:
    """Split what a caller gave into detector values and header cards.

    Parameters
    ----------
    given : mapping
        By quantity (``gain=1.8``, ``exposure=60``) or by keyword in capitals (``EXPTIME=60``). A quantity of the
        detector is one number, or one for each amplifier (``gain=(2.01, 1.99)``); one that was measured is a text
        with the error (``gain="1.79 +- 0.01 measured"``).
    keywords : mapping
        The camera's table of keywords.

    Returns
    -------
    values : dict
        For :meth:`larun.detector.Detector.with_values`.
    cards : dict
        Header keywords to set.

    Raises
    ------
    OptionError
        If a name is neither a quantity nor a keyword, or a value is not of the right kind.
    """
    values: dict[str, float | tuple[float, ...]] = {}
    cards: dict[str, Any] = {}
    for name, value in given.items():
        quantity = name if name in keywords else next((q for q, keys in keywords.items() if name in keys), None)
        if quantity in DETECTOR_QUANTITIES:
            values[str(quantity)] = _detector_value(name, str(quantity), value)
        elif quantity == "exposure" and not _is_time(value):
            raise OptionError(f"{name} = {value!r}: must be a number of seconds, at least 0")
        elif quantity in _TIMES and name in keywords and (wrong := why_no_time(value)):
            raise OptionError(f"{name} = {value!r} {wrong}")
        elif name in keywords:
            if not keywords[name]:
                raise OptionError(f"{name} = {value!r}: this camera looks for it in no keyword; it cannot be given")
            cards[keywords[name][0]] = value
        elif re.fullmatch(r"[A-Z0-9_-]{1,8}", name):
            cards[name] = value
            meant = next((q for q in DETECTOR_QUANTITIES if name in KEYWORDS[q]), None)
            if meant is not None:  # elsewhere it says just that
                cards_read = " or ".join(keywords[meant])
                read = f"reads {meant} from {cards_read}" if cards_read else f"knows {meant} itself"
                warnings.warn(
                    f"{name} = {value!r} changes nothing: this camera {read}; give {meant}={value}",
                    LarunWarning,
                    stacklevel=4,
                )
        else:
            known = ", ".join(sorted(keywords))
            raise OptionError(f"{name!r} is neither a quantity ({known}) nor a FITS keyword in capitals")
    return values, cards


def measured_text(estimates: Iterable[tuple[float, float]]) -> str:
    """Numbers with their errors, one for each amplifier, as :func:`split_given` reads them.

    Examples
    --------
    >>> measured_text([(1.79341, 0.00312), (1.8, 0.02)])
    '1.79341 +- 0.0031, 1.8 +- 0.02'
    """
    return ", ".join(f"{value:.6g} +- {error:.2g}" for value, error in estimates)


def source_of(value: Any) -> str:
    """Where a value of the detector comes from that somebody gave: ``given``, or that it was measured and how well.

    Examples
    --------
    >>> source_of(1.8), source_of("1.79341 +- 0.0031 measured")
    ('given', 'measured: 1.79341 +- 0.0031')
    """
    measured = _MEASURED.fullmatch(value) if isinstance(value, str) else None
    return f"measured: {measured[1]}" if measured else "given"


def sources_of(given: Mapping[str, Any], keywords: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """:func:`source_of` each quantity of the detector that somebody gave."""
    return {
        quantity: source_of(given[name])
        for quantity in DETECTOR_QUANTITIES
        for name in (quantity, *keywords[quantity])
        if name in given
    }


def _detector_value(name: str, quantity: str, value: Any) -> float | tuple[float, ...]:
    """One number, or one for each amplifier."""
    try:
        if isinstance(value, str) and (measured := _MEASURED.fullmatch(value)):
            words: Iterable[Any] = [one.partition("+-")[0] for one in measured[1].split(",")]
        else:
            words = re.split(r"[,;\s]+", value.strip(" []()")) if isinstance(value, str) else np.atleast_1d(value)
        numbers = tuple(float(word) for word in words)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} = {value!r}: must be a number, or one for each amplifier") from error
    if not numbers or not all(0 < n < math.inf or (n == 0 and quantity == "read_noise") for n in numbers):
        raise OptionError(f"{name} = {value!r}: must be positive")
    return numbers[0] if len(numbers) == 1 else numbers
