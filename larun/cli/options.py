"""From the words of a command line to the frozen options of the model; impossible words are errors at once."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from larun.errors import OptionError

if TYPE_CHECKING:
    from larun.model.building import BuildOptions
    from larun.model.jobs import ChainOptions

__all__ = [
    "Engine",
    "Method",
    "Overscan",
    "Picture",
    "RadiusUnit",
    "Stretch",
    "Wishes",
    "check_given",
    "load_instruments",
    "parse_keywords",
    "parse_kinds",
    "parse_radii",
    "parse_region",
    "parse_size",
]

_SIZE = re.compile(r"(\d+(?:\.\d*)?(?:e\d+)?|\.\d+)\s*(?:([kmgt])(i?)b?|b)?", re.I)
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)
_REGION = re.compile(r"\s*(\d{0,9})\s*:\s*(\d{0,9})\s*,\s*(\d{0,9})\s*:\s*(\d{0,9})\s*")
_KINDS = ("bias", "dark", "flat")


class Overscan(enum.StrEnum):
    """How the overscan level is found."""

    median = "median"
    polynomial = "polynomial"
    spline = "spline"
    none = "none"


class Engine(enum.StrEnum):
    """What finds cosmic rays."""

    larun = "larun"
    astroscrappy = "astroscrappy"
    median = "median"


class Method(enum.StrEnum):
    """What finds sources."""

    matched = "matched"
    peaks = "peaks"
    dao = "dao"
    sep = "sep"
    segmentation = "segmentation"


class RadiusUnit(enum.StrEnum):
    """Unit of aperture radii."""

    fwhm = "fwhm"
    pixel = "pixel"


class Picture(enum.StrEnum):
    """What is drawn of a file."""

    auto = "auto"
    image = "image"
    master = "master"
    sources = "sources"
    growth = "growth"


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


def check_given(given: dict[str, Any]) -> dict[str, Any]:
    """The same, if any camera could understand it.

    Raises
    ------
    OptionError
        If a key is neither a quantity nor a keyword, or a number is impossible.
    """
    if given:
        from larun.model.frame import Frame
        from larun.model.headers import split_given

        split_given(given, Frame.all_keywords())
    return given


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


def parse_kinds(texts: Iterable[str]) -> tuple[str, ...]:
    """Kinds of masters to do without, from words such as ``dark`` or ``bias,dark``.

    Raises
    ------
    OptionError
        If there is no such kind.

    Examples
    --------
    >>> parse_kinds(["flat,dark", "dark"])
    ('dark', 'flat')
    """
    kinds = {kind.strip() for text in texts for kind in text.split(",") if kind.strip()}
    if not kinds <= set(_KINDS):
        raise OptionError(f"--without {','.join(sorted(kinds - set(_KINDS)))}: use {', '.join(_KINDS)}")
    return tuple(sorted(kinds))


def parse_radii(text: str | None, option: str = "--radii") -> tuple[float, ...] | None:
    """Aperture radii from ``1,1.5,2.5``; None stays None.

    Raises
    ------
    OptionError
        If they are not positive numbers.
    """
    if text is None:
        return None
    try:
        radii = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"{option} {text!r}: give numbers with commas, for example 1,1.5,2.5") from error
    if not all(0 < radius < math.inf for radius in radii):
        raise OptionError(f"{option} {text!r}: every radius must be positive")
    return radii


@attrs.frozen(kw_only=True)
class Wishes:
    """What a user asked of ``larun masters`` and ``larun reduce``, parsed; None means the chain's own default.

    Raises
    ------
    OptionError
        If two wishes contradict each other.
    """

    given: dict[str, Any] = attrs.field(factory=dict)
    without: tuple[str, ...] = ()
    overscan: Overscan = Overscan.median
    bad_pixels: Path | None = None
    max_memory: float | None = None
    clean: bool = True
    engine: Engine | None = None
    flag_only: bool = False
    method: Method | None = None
    threshold: float | None = None
    radii: tuple[float, ...] | None = None
    radius_unit: RadiusUnit | None = None
    annulus: tuple[float, ...] | None = None

    def __attrs_post_init__(self) -> None:
        if not self.clean and (self.engine is not None or self.flag_only):
            raise OptionError("--no-clean contradicts --clean-engine and --flag-only: leave one out")
        if self.radius_unit is not None and self.radii is None:
            raise OptionError(f"--radius-unit {self.radius_unit}: say which radii, for example --radii 3,5,8")

    def build(self) -> BuildOptions:
        """How masters are built."""
        from larun.algorithms.overscan import OverscanOptions
        from larun.model.building import BuildOptions

        memory: dict[str, Any] = {} if self.max_memory is None else {"max_memory": self.max_memory}
        overscan = OverscanOptions(method=str(self.overscan))
        return BuildOptions(overscan=overscan, bad_pixels=self.bad_pixels, **memory)

    def chain(self) -> ChainOptions:
        """The whole chain; options that make no sense are errors here, before any frame is touched."""
        from larun.algorithms.detect import DetectOptions
        from larun.model.jobs import ChainOptions

        clean: dict[str, Any] = {} if self.engine is None else {"engine": str(self.engine)}
        if self.flag_only:
            clean["replace"] = False
        detect: dict[str, Any] = {} if self.threshold is None else {"threshold": self.threshold}
        DetectOptions(fwhm=3.0, **detect)
        if self.method is not None:
            detect["method"] = str(self.method)
        photometer: dict[str, Any] = {} if self.radii is None else {"radii": self.radii}
        if self.radius_unit is not None:
            photometer["unit"] = str(self.radius_unit)
        if self.annulus is not None:
            photometer["annulus"] = self.annulus
        return ChainOptions(
            without=self.without,
            build=self.build(),
            clean=clean if self.clean else None,
            detect=detect,
            photometer=photometer,
        )


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
