"""DS9 region files: places on an image or on the sky, there and back.

What is kept of a region is its place, size, angle and label. The first pixel's centre is (0, 0) here and (1, 1) in
DS9's image coordinates. Numbers are written with all their digits, and a comment carries the digest of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from larun.errors import FileError, OptionError
from larun.io.atomic import atomic_path
from larun.io.sealed import UNSEALED, sealed
from larun.io.streams import opener_of

__all__ = ["FRAMES", "REGIONS_SEAL", "Region", "read_regions", "write_regions"]

#: The digest in a comment at the top.
REGIONS_SEAL = re.compile(rb"larun_sha256 ([0-9a-f]{64})")

#: Coordinate systems of DS9, and what astropy calls them.
FRAMES = {"image": "image", "icrs": "icrs", "fk5": "fk5", "j2000": "fk5", "fk4": "fk4", "b1950": "fk4"}
FRAMES["galactic"] = "galactic"

_OTHER_FRAMES = re.compile(r"(physical|ecliptic|detector|amplifier|linear|wcs[a-z]?|wcs0|tile)\b", re.I)
_PLACES = ("circle", "ellipse", "box", "point", "annulus", "panda", "epanda", "bpanda", "cross")
_SHAPE = re.compile(r"[+-]?\s*(?:[a-z]+\s+(?=point))?([a-z]+)\s*[(\s]([^)]*)\)?", re.I)
_TEXT = re.compile(r"text\s*=\s*(?:\{([^}]*)\}|\"([^\"]*)\"|'([^']*)')")
_PART = r"(\d+(?:\.\d*)?)"
_SEXAGESIMAL = re.compile(rf"([+-]?){_PART}[:hd]{_PART}(?:[:m']{_PART}[s\"]?)?[m']?")
_SIZES = {'"': 1 / 3600, "'": 1 / 60, "d": 1.0, "r": math.degrees(1.0)}


class Region(NamedTuple):
    """A place, and how it is drawn.

    Coordinates and sizes are pixels in ``"image"``, degrees in every other frame.
    """

    x: float
    y: float
    """column and row (0-based), or longitude and latitude"""
    radius: float = math.nan
    """of the circle, or half of the ellipse's major axis; NaN for a point"""
    minor: float | None = None
    """half of the minor axis; None for a circle"""
    angle: float = 0.0
    """of the major axis, degrees from +x towards +y (on the sky from west towards north)"""
    label: str = ""
    frame: str = "image"
    """``"image"``, ``"icrs"``, ``"fk5"``, ``"fk4"`` or ``"galactic"``"""


def write_regions(path: str | Path, regions: Iterable[Region], *, overwrite: bool = False) -> None:
    """Write a DS9 region file.

    Parameters
    ----------
    path : path
        Usually ends in ``.reg``.
    regions : iterable of Region
        In the order in which they are drawn.
    overwrite : bool
        Replace a region file of larun; any other file is never replaced.

    Raises
    ------
    OptionError
        If a number is not finite, or a frame is unknown.
    FileError
        If the path may not be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "stars.reg"
    >>> write_regions(path, [Region(0.0, 9.25, 3.0, label="first")])
    >>> path.read_text().splitlines()[-1]
    'circle(1.0,10.25,3.0) # text={first}'
    >>> read_regions(path)[0].y
    9.25
    """
    lines = ["# Region file format: DS9 version 4.1", f"# written by larun, larun_sha256 {UNSEALED}"]
    frame = ""
    for region in regions:
        if region.frame not in FRAMES.values():
            raise OptionError(f"frame {region.frame!r}: must be one of {', '.join(sorted(set(FRAMES.values())))}")
        if region.frame != frame:
            frame = region.frame
            lines.append(frame)
        lines.append(_line(region))
    if not frame:
        lines.append("image")
    with atomic_path(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(sealed(("\n".join(lines) + "\n").encode("utf-8"), REGIONS_SEAL))


def _line(region: Region) -> str:
    pixels = region.frame == "image"
    numbers = (region.x, region.y, region.minor or 0.0, region.angle, 0.0 if region.radius is None else region.radius)
    point = math.isnan(region.radius)
    if not all(math.isfinite(number) for number in numbers[: 4 if point else 5]):
        raise OptionError(
            f"x, y, radius = {region.x}, {region.y}, {region.radius}: a region needs finite numbers; "
            "select the sources with a position first"
        )
    shift, unit = (1.0, "") if pixels else (0.0, '"')
    sizes = [region.radius] if region.minor is None else [region.radius, region.minor]
    written = [f"{(size if pixels else size * 3600.0)!r}{unit}" for size in map(float, sizes)]
    place = [repr(float(region.x) + shift), repr(float(region.y) + shift)]
    shape, values = "circle", [*place, *written]
    if point:
        shape, values = "point", place
    elif region.minor is not None:
        shape, values = "ellipse", [*place, *written, repr(float(region.angle))]
    label = _label(region.label)
    return f"{shape}({','.join(values)}){label}"


def _label(text: str) -> str:
    """A label as a property: one line, with nothing in it that DS9 takes for an end or a command."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text).replace(";", ",").strip()
    if not plain:
        return ""
    return f" # text={{{plain.translate({ord('{'): '(', ord('}'): ')'})}}}"


def read_regions(path: str | Path) -> tuple[Region, ...]:
    """The places of a DS9 region file: circles, ellipses, boxes, annuli, pandas and points, by their centres.

    Global properties, comments and everything about looks is left aside. Where no coordinate system is named, it is
    the image.

    Raises
    ------
    FileError
        If the file is missing, is in coordinates that depend on more than the image and the sky (physical, …), holds
        shapes that are no place (polygons, lines), or a number cannot be read.
    """
    if opener_of(path) is not None:
        raise FileError(f"{path} is compressed: unpack it first")
    found: list[Region] = []
    frame = "image"
    for number, line in enumerate(Path(path).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        commands, _, properties = line.partition("#")
        label = _TEXT.search(properties)
        text = next((group for group in label.groups() if group is not None), "") if label else ""
        for command in commands.split(";"):
            words = command.strip()
            if not words or words.lower().startswith("global"):
                continue
            if words.lower() in FRAMES:
                frame = FRAMES[words.lower()]
                continue
            found.append(_region(words, frame, text, f"{path}, line {number}: {words[:80]!r}"))
    return tuple(found)


def _region(words: str, frame: str, label: str, where: str) -> Region:
    if _OTHER_FRAMES.match(words):
        raise FileError(f"{where}: save the regions in image coordinates, fk5 or icrs")
    shape = _SHAPE.match(words)
    if shape is None or shape[1].lower() not in _PLACES:
        raise FileError(f"{where}: is no place to measure at: use circles, ellipses, boxes or points")
    kind, values = shape[1].lower(), [value for value in re.split(r"[,\s]+", shape[2].strip()) if value]
    try:
        x, y = _place(values[0], values[1], frame)
        angle = _angle(values) if kind == "ellipse" else 0.0
        sizes = [_size(value, frame) for value in values[2:]]
    except (ValueError, IndexError) as error:
        kind = "pixels" if frame == "image" else frame
        raise FileError(f"{where} is not in {kind} ({error}): save the regions again") from error
    if not all(map(math.isfinite, (x, y, angle))):
        raise FileError(f"{where}: the numbers must be finite")
    if kind == "ellipse" and len(sizes) >= 2:
        return Region(x, y, sizes[0], sizes[1], angle, label, frame)
    radius = sizes[0] if kind == "circle" and sizes else math.nan
    return Region(x, y, radius, label=label, frame=frame)


def _place(first: str, second: str, frame: str) -> tuple[float, float]:
    if frame == "image":
        x, y = (float(text[:-1] if text[-1:] in "ip" and len(text) > 1 else text) - 1.0 for text in (first, second))
        return x, y
    hours = frame != "galactic" and (":" in first or "h" in first.lower())
    return _degrees(first) * (15.0 if hours else 1.0), _degrees(second)


def _angle(values: list[str]) -> float:
    """The angle of an ellipse: what stands behind its pairs of axes, of which an elliptical annulus has several."""
    return _degrees(values[-1]) if len(values) > 4 and len(values) % 2 else 0.0


def _degrees(text: str) -> float:
    """An angle in degrees, or in hours where it is written in hours."""
    plain = text.lower()
    if plain.endswith("r"):
        return math.degrees(float(plain[:-1]))
    match = _SEXAGESIMAL.fullmatch(plain)
    if match is None:
        return float(plain.removesuffix("d"))
    value = math.fsum(float(part or 0) / 60.0**power for power, part in enumerate(match.groups()[1:]))
    return -value if match[1] == "-" else value


def _size(text: str, frame: str) -> float:
    """A size in the unit of the frame; NaN where that would need the image's scale."""
    unit = text[-1:]
    if unit in _SIZES:
        return math.nan if frame == "image" else float(text[:-1]) * _SIZES[unit]
    if unit in ("p", "i"):
        return float(text[:-1]) if frame == "image" else math.nan
    return float(text)
