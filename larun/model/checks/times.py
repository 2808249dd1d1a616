"""Time stamps against each other, against the order of the files, and against the Sun."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from larun.algorithms import ephemeris
from larun.model.checks.material import Material
from larun.model.checks.rawfacts import RawFacts, sun_altitude
from larun.model.checks.verdict import Evidence, Series, Verdict, untested
from larun.model.checks.words import counted, listed

__all__ = ["disordered", "time_stamps"]

_TEST = "time stamps"
_DAY = 86400.0
_ROUNDED = 1.5  # seconds: stamps to the second, at either end
_FIRST, _LAST = 2440587.5, 2488069.5  # 1970, before astronomical CCDs, and 2100
_NIGHTS = 400.0  # days from the median of the files: nobody keeps such frames in one folder by intention
_DAYLIGHT = 0.0  # degrees, altitude of the Sun
_TWILIGHT = -6.0
_NIGHT = -12.0
_MANY = 0.3  # of the exposures: then all stamps mean something else


def time_stamps(material: Material) -> Iterator[Verdict]:
    """Whether the exposures could have been taken when their headers say."""
    if not material.raw:
        yield untested(_TEST, "there are no raw frames")
        return
    dated = [one for one in material.raw if one.mid is not None]
    if not dated:
        yield Verdict(
            test=_TEST,
            status="doubtful",
            meaning=f"no header of {len(material.raw)} says when it was taken: no light curve, no air mass",
            fix="--keyword DATE-OBS=…, or a camera that knows the card",
        )
        return
    faults = [
        *_missing(material.raw),
        *_years(dated),
        *_same(dated),
        *_overlaps(dated),
        *_order(dated),
        *_daylight(dated),
        *_contradictions(dated),
    ]
    if not faults:
        sun = [one.sun for one in dated if one.sun is not None and one.item.kind == "science"]
        dark = f", the Sun below {max(sun):.0f}° in all science frames" if sun else ""
        meaning = f"{counted(len(dated), 'exposure')} follow each other without overlap, in the order of their names"
        yield Verdict(test=_TEST, status="good", meaning=meaning + dark, evidence=_evidence(dated))
    yield from faults


def disordered(values: Sequence[float]) -> NDArray[np.intp]:
    """Indices of the values that must be taken out so that the others rise: all that a longest rising row leaves.

    Equal values are in order. By patience sorting (Fredman 1975, Discrete Mathematics 11, 29).

    Examples
    --------
    >>> disordered([1.0, 2.0, 9.0, 3.0, 4.0]).tolist()
    [2]
    """
    tails: list[int] = []  # for each length the index of the row's last value, the smallest there is
    before = [-1] * len(values)
    for index, value in enumerate(values):
        low = int(np.searchsorted([values[tail] for tail in tails], value, side="right"))
        before[index] = tails[low - 1] if low else -1
        tails[low : low + 1] = [index]
    kept, index = set(), tails[-1] if tails else -1
    while index >= 0:
        kept.add(index)
        index = before[index]
    return np.array([index for index in range(len(values)) if index not in kept], dtype=np.intp)


def _bad(one: RawFacts, meaning: str, fix: str, dated: Sequence[RawFacts], status: str = "bad") -> Verdict:
    evidence = _evidence(dated)
    return Verdict(test=_TEST, status=status, where=one.name, meaning=meaning, fix=fix, evidence=evidence)


def _missing(raw: Sequence[RawFacts]) -> Iterator[Verdict]:
    lost = [one.name for one in raw if one.mid is None and one.item.kind == "science"]
    if lost:
        meaning = f"{counted(len(lost), 'science frame')} of unknown time: {listed(lost)}"
        yield Verdict(test=_TEST, status="doubtful", where=lost[0], meaning=meaning, fix="--keyword DATE-OBS=…")


def _years(dated: Sequence[RawFacts]) -> Iterator[Verdict]:
    """Before there were CCDs, after our time, or far from all the others: a clock that was reset."""
    usual = float(np.median([_mid(one) for one in dated]))
    far = sum(abs(_mid(one) - usual) > _NIGHTS for one in dated)
    several = far > _MANY * len(dated)  # a folder of several years: no clock was reset in so many
    for one in dated:
        apart = _mid(one) - usual
        if not _FIRST <= _mid(one) <= _LAST:
            meaning = f"{_text(one)}: no CCD took frames then, the clock was not set"
        elif abs(apart) > _NIGHTS and len(dated) > 2 and not several:
            years = abs(apart) / 365.25
            meaning = f"{_text(one)}: {years:.1f} years {'after' if apart > 0 else 'before'} the other files"
        else:
            continue
        yield _bad(one, meaning, "correct the date in the header", dated)


def _same(dated: Sequence[RawFacts]) -> Iterator[Verdict]:
    """Two exposures that began at the same moment though their pixels differ."""
    found: dict[tuple[object, ...], list[RawFacts]] = defaultdict(list)
    for one in dated:
        found[_camera(one), round(_start(one) * _DAY, 1), one.item.exposure].append(one)
    for same in found.values():
        names = [one.name for one in same]
        if len(same) > 1 and len({one.digest for one in same}) > 1:
            meaning = f"{listed(names)} all began at {_text(same[0], start=True)}: one camera takes one after the other"
            yield _bad(same[-1], meaning, "correct the time in the headers of all but one", dated)


def _overlaps(dated: Sequence[RawFacts]) -> Iterator[Verdict]:
    """Exposures that began before the one before them had ended."""
    cameras: dict[tuple[object, ...], list[RawFacts]] = defaultdict(list)
    for one in dated:
        cameras[_camera(one)].append(one)
    for those in cameras.values():
        ordered = sorted(those, key=lambda one: (_start(one), one.name))
        pairs = list(itertools.pairwise(ordered))
        seconds = [(_end(a) - _start(b)) * _DAY for a, b in pairs]
        same = [abs(_start(a) - _start(b)) * _DAY < 0.1 for a, b in pairs]
        found = [n for n, (size, twin) in enumerate(zip(seconds, same, strict=True)) if size > _ROUNDED and not twin]
        if len(found) > max(2, _MANY * len(pairs)):
            meaning = (
                f"{len(found)} of {len(pairs)} exposures begin before the one before has ended, by up to "
                f"{max(seconds[n] for n in found):.0f} s: {_as_ends(ordered)}"
            )
            first = pairs[found[0]][1]
            yield _bad(first, meaning, "a camera class that reads the right card, or --keyword EXPTIME=…", dated)
            continue
        for n in found:
            earlier, later = pairs[n]
            meaning = (
                f"begins {seconds[n]:.0f} s before {earlier.name} of {earlier.item.exposure:g} s has ended: a time "
                "or an exposure time is wrong"
            )
            yield _bad(later, meaning, "correct DATE-OBS or EXPTIME of one of the two", dated)


def _as_ends(ordered: Sequence[RawFacts]) -> str:
    """What the stamps are if not the beginnings."""
    stamps = [_start(one) * _DAY for one in ordered]
    lengths = [one.item.exposure or 0.0 for one in ordered]
    gaps = np.diff(stamps)
    if np.all(gaps + _ROUNDED >= lengths[1:]):
        return "they fit if the stamps are the ends of the exposures"
    if np.all(gaps + _ROUNDED >= (np.array(lengths[1:]) + lengths[:-1]) / 2):
        return "they fit if the stamps are the middles of the exposures"
    return "the times or the exposure times are wrong"


def _order(dated: Sequence[RawFacts]) -> Iterator[Verdict]:
    """Files whose names count on while their times go back."""
    runs: dict[tuple[object, ...], list[tuple[int, RawFacts]]] = defaultdict(list)
    for one in dated:
        match = re.search(r"^(.*?)(\d+)(\D*)$", one.name)
        if match and abs(_mid(one) - float(np.median([_mid(other) for other in dated]))) <= _NIGHTS:
            runs[_camera(one), str(one.item.path.parent), match[1], match[3]].append((int(match[2]), one))
    for run in runs.values():
        ordered = [one for _, one in sorted(run, key=lambda pair: pair[0])]
        if len(ordered) < 4:
            continue
        out = disordered([_start(one) for one in ordered])
        if not 0 < len(out) <= _MANY * len(ordered):
            continue  # the numbers are no counter
        kept = [n for n in range(len(ordered)) if n not in out]
        for n in out:
            one = ordered[n]
            before = max((k for k in kept if k < n), default=None)
            after = min((k for k in kept if k > n), default=None)
            near = [ordered[k] for k in (before, after) if k is not None]
            if any(one.digest == other.digest for other in dated if other is not one):
                continue  # a copy: told as such
            gaps = [(_start(one) - _start(other)) * 24 for other in near]
            jump = min(gaps, key=abs)
            meaning = (
                f"{_text(one, start=True)} lies {_span(jump)} {'after' if jump > 0 else 'before'} "
                f"{listed([other.name for other in near])}, its neighbours by name{_zone(jump)}"
            )
            yield _bad(one, meaning, "correct the time in the header", dated)


def _daylight(dated: Sequence[RawFacts]) -> Iterator[Verdict]:
    """Science frames taken while the Sun was up: a clock in local time, or a wrong date."""
    known = [one for one in dated if one.sun is not None and one.item.kind == "science"]
    day = [one for one in known if (one.sun or 0.0) > _DAYLIGHT]
    if not day:
        dusk = [one for one in known if (one.sun or -90.0) > _TWILIGHT]
        if dusk:
            names = listed([one.name for one in dusk])
            meaning = f"the Sun is only {-max(one.sun or 0.0 for one in dusk):.0f}° below the horizon in {names}"
            yield _bad(dusk[0], meaning, "check the clock; else nothing", dated, status="doubtful")
        return
    highest = max(one.sun or 0.0 for one in day)
    names = listed([one.name for one in day])
    zone, hours = _zone_of(day[0]), _dark_shift(known, day[0])
    hint = f"; all would be at night {abs(hours)} h {'later' if hours > 0 else 'earlier'}" if hours else ""
    if hours and zone is not None and abs(hours + zone) <= 1:
        hint += f", as if local time (UTC{zone:+d}) were written for UTC"
    meaning = (
        f"the Sun is up to {highest:.0f}° above the horizon in {counted(len(day), 'science frame')} ({names}){hint}"
    )
    yield _bad(day[0], meaning, "a camera class that shifts the clock (ExposureTime.shifted), or its site", dated)


def _zone_of(one: RawFacts) -> int | None:
    """Hours of the site's time zone, by its longitude; None where the site is not known."""
    return None if one.site is None else round(((one.site[0] + 180.0) % 360.0 - 180.0) / 15.0)


def _dark_shift(known: Sequence[RawFacts], one: RawFacts) -> int:
    """Whole hours that put all of them into the night, the time zone's first and else the fewest; 0 if none do."""
    zone = _zone_of(one)
    if one.site is None or zone is None:
        return 0
    for hours in [-zone, 1 - zone, -1 - zone, *sorted(range(-14, 15), key=abs)]:
        if max(sun_altitude(_mid(other) + hours / 24, one.site) for other in known) < _NIGHT:
            return hours
    return 0


def _contradictions(dated: Sequence[RawFacts]) -> Iterator[Verdict]:
    """What cards of one header say against each other, and targets below the horizon."""
    found: dict[str, list[RawFacts]] = defaultdict(list)
    for one in dated:
        if one.item.kind != "science":
            continue
        if one.altitude is not None and one.altitude < -1.0:
            found["the target stood below the horizon at that time"].append(one)
        elif one.doubts:
            found["cards of time and place contradict each other"].append(one)
    for what, those in found.items():
        detail = those[0].doubts[0] if those[0].doubts else f"at {those[0].altitude:.0f}° in {those[0].name}"
        names = listed([one.name for one in those])
        yield _bad(
            those[0],
            f"{what} in {counted(len(those), 'science frame')} ({names}): {detail}",
            "correct date, pointing or site",
            dated,
            status="doubtful",
        )


def _camera(one: RawFacts) -> tuple[object, ...]:
    return (one.item.instrument, one.item.part.label)


def _start(one: RawFacts) -> float:
    return math.nan if one.start is None else one.start


def _mid(one: RawFacts) -> float:
    return math.nan if one.mid is None else one.mid


def _end(one: RawFacts) -> float:
    return math.nan if one.end is None else one.end


def _text(one: RawFacts, *, start: bool = False) -> str:
    moment = ephemeris.from_julian_date(_start(one) if start else _mid(one), 0.0)
    return ephemeris.iso_text(moment)[:19]


def _span(hours: float) -> str:
    size = abs(hours)
    return f"{size * 3600:.0f} s" if size < 0.05 else f"{size:.1f} h" if size < 48 else f"{size / 24:.1f} days"


def _zone(hours: float) -> str:
    whole = round(hours)
    return f": about {abs(whole)} h, a time zone?" if whole and abs(hours - whole) < 0.1 and abs(whole) <= 14 else ""


def _evidence(dated: Sequence[RawFacts]) -> Evidence:
    """Hours from the first plausible exposure against the order of the names."""
    ordered = sorted(dated, key=lambda one: str(one.item.path))
    usual = float(np.median([_mid(one) for one in ordered]))
    hours = [(_mid(one) - usual) * 24 for one in ordered]
    series = []
    for name in ("bias", "dark", "flat", "science"):
        those = [n for n, one in enumerate(ordered) if one.item.kind == name]
        if those:
            series.append(Series(name, those, [hours[n] for n in those]))
    names = [one.name for one in ordered] if len(ordered) <= 60 else []
    return Evidence(
        x_label="file, in order of name", y_label="hours from the median of the stamps", series=series, names=names
    )
