"""Calibration frames that belong together, and the master that they make: predicted, found on disk, or combined."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from larun.algorithms.overscan import OverscanOptions
from larun.errors import FileError, LarunError, LarunWarning
from larun.model.frame import Frame
from larun.model.masters import Master, MasterBias, MasterDark, MasterFlat, Masters
from larun.model.raw.exposures import Exposure, slug
from larun.model.raw.opening import RawPart
from larun.model.raw.reduction import measure, open_raw
from larun.provenance import Parent, Provenance, predict

if TYPE_CHECKING:
    from larun.model.building import BuildOptions
    from larun.model.recipe import Recipe

__all__ = ["Group", "choice", "combined", "expected_master", "group", "master_class", "roots", "still_right"]

_M = TypeVar("_M", bound=Master)


@attrs.frozen(kw_only=True)
class Group:
    """Calibration frames that make one master."""

    kind: str
    name: str
    exposures: tuple[Exposure, ...]

    @property
    def criteria(self) -> Mapping[str, Any]:
        """Of the first frame: what other masters are matched on."""
        return self.exposures[0].criteria

    @property
    def parts(self) -> list[RawPart]:
        """The frames, where they are."""
        return [item.part for item in self.exposures]


_GROUPED_BY = {
    "bias": ("instrument", "chip", "mode", "size", "binning", "gain"),
    "dark": ("instrument", "chip", "mode", "size", "binning", "gain", "exposure"),
    "flat": ("instrument", "chip", "mode", "size", "binning", "gain", "filter"),
}


def group(kind: str, frames: Iterable[Exposure]) -> tuple[Group, ...]:
    """Calibration frames of one kind, sorted into those that belong together; names come from what they are."""
    found: dict[str, list[Exposure]] = {}
    for frame in frames:
        key = repr([frame.criteria.get(name) for name in _GROUPED_BY[kind]])
        found.setdefault(key, []).append(frame)
    groups: list[Group] = []
    for _, members in sorted(found.items()):
        criteria = members[0].criteria
        parts = [kind]
        if kind == "flat":
            parts.append(str(criteria.get("filter") or "nofilter"))
        if kind == "dark":
            seconds = criteria.get("exposure")
            parts.append("unknown-exposure" if seconds is None else f"{seconds:g}s")
        if criteria.get("chip"):
            parts.append(str(criteria["chip"]))
        nx, ny = criteria["size"]
        name = slug("-".join([*parts, f"{nx}x{ny}"]))
        used = [g.name for g in groups]
        unique = name if name not in used else f"{name}-{sum(n.startswith(name) for n in used) + 1}"
        groups.append(Group(kind=kind, name=unique, exposures=tuple(members)))
    return tuple(groups)


def master_class(kind: str) -> Any:
    """The class of a kind of master."""
    return {"bias": MasterBias, "dark": MasterDark, "flat": MasterFlat}[kind]


def choice(group: Group, before: Masters, recipe: Recipe, build: BuildOptions) -> dict[str, Any]:
    """The arguments of ``combine`` for a group: its options, and those of the masters made before it that it needs."""
    made: dict[str, Any] = {**getattr(recipe, group.kind), "options": build}
    if group.kind in ("dark", "flat"):
        made["bias"] = before.best("bias", group.criteria, group.name)
    if group.kind == "flat":
        # no dark is scaled up: the longest of the flats decides which one can serve them all
        longest = max((item.exposure or 0.0 for item in group.exposures), default=0.0)
        wanted = {**group.criteria, "exposure": longest} if longest else group.criteria
        made["dark"] = before.best("dark", wanted, group.name)
        if made["dark"] is not None and not made["dark"].bias_removed:
            made["bias"] = None
    return made


def combined(group: Group, arguments: Mapping[str, Any]) -> tuple[Master, str]:
    """The master of a group, and what was left out of it because its pixels cannot be read.

    Raises
    ------
    LarunError
        What the combination has to say.
    """
    cls, parts = master_class(group.kind), group.parts
    try:
        return cls.combine(parts, **arguments), ""
    except FileError as error:
        bad = _unreadable(parts)
        good = [item for item in parts if item not in bad]
        if not bad or not good:
            raise
        message = f"left out {', '.join(item.path.name for item in bad)}: {error}"
        warnings.warn(f"master {group.name}: {message}", LarunWarning, stacklevel=4)
        return cls.combine(good, **arguments), message


def _unreadable(parts: Iterable[RawPart]) -> tuple[RawPart, ...]:
    """The parts whose pixels cannot be read."""
    bad = []
    for part in parts:
        try:
            open_raw(part, Frame, given={}, in_memory=True)
        except FileError:
            bad.append(part)
    return tuple(bad)


def roots(raws: Iterable[RawPart], build: BuildOptions) -> dict[str, Provenance]:
    """The records of raw frames by id, as they go into a master: a copy of a file counts once."""
    found: dict[str, Provenance] = {}
    for raw in raws:
        with contextlib.suppress(LarunError):  # what cannot be read was left out then, too
            opened = open_raw(raw, build.camera or Frame, given=build.given, in_memory=False)
            provenance = measure(opened, OverscanOptions(method="none")).source.provenance
            assert provenance is not None
            found[provenance.id] = provenance
    return found


def expected_master(
    cls: type[Any], raws: Sequence[RawPart], arguments: Mapping[str, Any], known: Mapping[str, Provenance] | None = None
) -> Provenance:
    """The record that ``cls.combine`` would give, without computing anything.

    Parameters
    ----------
    cls : type of Master
    raws : sequence of RawPart
        The frames it would be made from.
    arguments : mapping
        Those of ``combine``.
    known : mapping, optional
        Records of the frames, by id, where they are known: :func:`roots`.
    """
    build = arguments["options"]
    found = roots(raws, build) if known is None else known
    parents = [Parent("frame", found[key]) for key in sorted(found)]
    used = {"bad_pixels": build.bad_pixels, "bias": arguments.get("bias"), "dark": arguments.get("dark")}
    parents += [Parent(role, image.provenance) for role, image in used.items() if image is not None]
    return Provenance(step=predict(f"master_{cls.kind}", cls, raws, **arguments), parents=tuple(parents))


def still_right(cls: type[_M], path: Path, raws: list[RawPart], arguments: Mapping[str, Any]) -> _M | None:
    """The master in a file, if it was made from just these raws in just this way and is intact; else None."""
    try:
        kept = cls.read(path)
    except LarunError:
        return None
    return kept if kept.provenance.id == expected_master(cls, raws, arguments).id else None
