"""What a what-if costs, and what comes of it, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from larun import flags as fl
from larun.model.catalog import SourceCatalog
from larun.model.image import Image
from larun.model.replay.compare import Difference, differences

if TYPE_CHECKING:
    from larun.model.recipe import Difference as OptionDifference

__all__ = ["Change", "Cost", "change"]

_PIXELS = 1.5  # farther than that no two centroids are one source's


@attrs.frozen(kw_only=True)
class Cost:
    """What other options change, before it is made.

    Parameters
    ----------
    options : tuple of Difference
        The options that differ.
    changed, kept : tuple of str
        Products with new records, and those that stay. Of the first, those may keep their values that are made from
        what turns out to have the same values as before; that is known only once this was made.
    unmade : tuple of str
        Those that were not made yet.
    stale : tuple of str
        Products that are missing in the folder or are not what its recipe makes of these raw files.
    problems : tuple of str
        What cannot be made.
    seconds : float or None
        For those that were not made yet, without writing them: by the time that the quicker of up to two products of
        each kind took here and now; None where nothing was measured.
    each : mapping
        Seconds by kind, of masters per frame.
    """

    options: tuple[OptionDifference, ...]
    changed: tuple[str, ...]
    kept: tuple[str, ...]
    unmade: tuple[str, ...]
    stale: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    seconds: float | None = None
    each: Mapping[str, float] = attrs.field(factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: list(getattr(self, name)) for name in ("changed", "kept", "unmade", "stale", "problems")}
        options = [{"option": one.option, "was": _plain(one.one), "is": _plain(one.two)} for one in self.options]
        return {"options": options, **plain, "seconds": self.seconds, "each": dict(self.each)}

    def __str__(self) -> str:
        said = [f"{one.option}: {one.one!r} -> {one.two!r}" for one in self.options] or ["no option differs"]
        change = "1 product changes" if len(self.changed) == 1 else f"{len(self.changed)} products change"
        lines = [*said, f"{change}, {len(self.kept)} kept"]
        if self.changed:
            lines.append("  " + ", ".join(self.changed))
        if self.stale:
            lines.append(f"not in the folder as its recipe makes them: {', '.join(self.stale)}")
        lines += [f"cannot be made: {text}" for text in self.problems]
        if self.seconds is not None:
            times = ", ".join(f"{_ITS_UNIT.get(kind, kind)} {value:.3g} s" for kind, value in self.each.items())
            about = f" (measured: {times})" if times else ""
            lines.append(f"about {self.seconds:.2g} s for the {len(self.unmade)} that are not made yet{about}")
        return "\n".join(lines)


_ITS_UNIT = {"bias": "a bias frame", "dark": "a dark frame", "flat": "a flat frame", "catalog": "a catalogue"}
_ITS_UNIT["frame"] = "a frame"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)


@attrs.frozen(kw_only=True)
class Change:
    """What other options make of one product.

    Parameters
    ----------
    name : str
        Path of the product in the folder.
    how : str
        ``made`` or ``same values``.
    text : str
        What differs, in words.
    differences : tuple of Difference
        Plane by plane or column by column: the product of the folder, and what was made with the other options.
    """

    name: str
    how: str
    text: str
    differences: tuple[Difference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "how": self.how,
            "text": self.text,
            "differences": [one._asdict() for one in self.differences],
        }

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def change(name: str, how: str, old: Any, new: Any, renamed: Mapping[str, str]) -> Change:
    """What became of a product; ``old`` is None where the folder does not hold it.

    ``renamed`` has the ids of the masters that it used, and of those that stand for them.
    """
    if old is None:
        return Change(name=name, how=how, text="is not in the folder, or not as its recipe makes it")
    found = differences(old, new, renamed=renamed)
    if not found:
        return Change(name=name, how=how, text="the same values, with a new record")
    text = _sources(old, new) if isinstance(old, SourceCatalog) else _pixels(old, new)
    return Change(name=name, how=how, text=text or "; ".join(map(str, found)), differences=found)


def _pixels(old: Image, new: Image) -> str:
    if old.shape != new.shape:
        return ""
    before, after = old.flags, new.flags
    said = []
    for flag in (*fl.TABLE, *old.instrument_flags):
        one, two = (before & flag.value) != 0, (after & flag.value) != 0
        more, fewer = int(np.count_nonzero(two & ~one)), int(np.count_nonzero(one & ~two))
        if more or fewer:
            said.append(f"{flag.name}: {int(one.sum())} pixels were, {int(two.sum())} are (+{more} −{fewer})")
    unequal = (old.data != new.data) & ~(np.isnan(old.data) & np.isnan(new.data))
    if unequal.any():
        distance = np.abs(old.data[unequal].astype(np.float64) - new.data[unequal])
        largest = float(np.nanmax(distance)) if np.isfinite(distance).any() else float("inf")
        unit = f" {old.unit}" if old.unit else ""
        said.append(f"{int(unequal.sum())} pixels have another value, by at most {largest:.3g}{unit}")
    return "; ".join(said)


def _sources(old: SourceCatalog, new: SourceCatalog) -> str:
    from larun.model.measure.matching import nearest_pairs

    here, there = (
        np.column_stack([np.asarray(getattr(one[axis], "value", one[axis]), dtype=np.float64) for axis in "xy"])
        for one in (old, new)
    )
    pairs = nearest_pairs(here, there, _PIXELS)
    gained, lost = len(new) - len(pairs.first), len(old) - len(pairs.first)
    said = f"{len(old)} sources were, {len(new)} are (+{gained} −{lost})"
    moved = [name for name in old.columns if name in new.columns and _unequal(old[name], new[name], pairs)]
    gone = [name for name in old.columns if name not in new.columns]
    come = [name for name in new.columns if name not in old.columns]
    parts = [said]
    for names, words in ((moved, "other values in"), (come, "new columns"), (gone, "no more columns")):
        if names:
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            parts.append(f"{words} {shown}")
    return "; ".join(parts)


def _unequal(one: Any, two: Any, pairs: Any) -> bool:
    a = np.asarray(getattr(one, "value", one))[pairs.first]
    b = np.asarray(getattr(two, "value", two))[pairs.second]
    return bool(a.shape != b.shape or a.tobytes() != b.tobytes())
