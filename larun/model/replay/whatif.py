"""What a night would be with other options: only what depends on them is made again, when somebody asks for it."""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from larun.errors import FileError, LarunError, LarunWarning, OptionError
from larun.model import grouping
from larun.model.catalog import SourceCatalog
from larun.model.frame import Frame
from larun.model.masters import Master, Masters
from larun.model.planes import Shared
from larun.model.replay.compare import differences
from larun.model.replay.outcome import Change, Cost, change
from larun.model.replay.planning import Plan, Planned, masters_in, on_disk
from larun.provenance import Parent, Provenance

if TYPE_CHECKING:
    from larun.model.recipe import Difference
    from larun.model.summary import Summary

__all__ = ["WhatIf"]

_HELD = 8  # frames that are kept once they were made


@attrs.frozen
class _Result:
    """A product, how it came about, and whether its values are those of the product in the folder."""

    product: Any
    how: str
    same: bool


class WhatIf:
    """A night that was reduced, with other options: see :meth:`larun.Night.replay`.

    Parameters
    ----------
    out : path
        Folder of the reduction; it is never written to.
    before, after : Plan
        What its own recipe and the other one make.

    Examples
    --------
    >>> import larun
    >>> other = larun.Night("raw/").replay("out/", clean={"sigma": 5})  # doctest: +SKIP
    >>> print(other.cost())  # doctest: +SKIP
    >>> other.frame("d1059"), other.catalog("d1059")  # doctest: +SKIP
    """

    def __init__(self, out: Path, before: Plan, after: Plan) -> None:
        self.out, self._before, self._after = out, before, after
        self._records = on_disk(out, after.products)
        self._known: dict[str, _Result] = {}
        self._seconds: dict[str, list[float]] = {}
        if not any(self._is_old(name) for name in after.products):
            raise OptionError(
                f"{out}: holds no product that these raw files and its recipe make: give the raw files it was made "
                "from, under the names they had, and the folders of other masters it used (others=…)"
            )

    def __repr__(self) -> str:
        said = ", ".join(f"{one.option} = {one.two!r}" for one in self.changes)
        return f"<{type(self).__name__} {self.out}: {said or 'nothing changed'}>"

    @property
    def changes(self) -> tuple[Difference, ...]:
        """The options that differ from those of the folder."""
        return self._before.recipe.diff(self._after.recipe)

    @property
    def changed(self) -> tuple[str, ...]:
        """Products whose ids change, and which therefore are made again; in the order in which they need each other."""
        return tuple(name for name in self._after.products if not self._is_kept(name))

    @property
    def kept(self) -> tuple[str, ...]:
        """Products that stay as they are."""
        return tuple(name for name in self._after.products if self._is_kept(name))

    @property
    def done(self) -> Mapping[str, str]:
        """How the products that were asked for came about: ``kept``, ``made``, or ``same values``.

        The last is a product with a new record and the values of the one in the folder: what it is made from turned
        out to have the same values as before.
        """
        return {name: found.how for name, found in self._known.items()}

    def cost(self, *, measure: bool = True) -> Cost:
        """What changes, and how long it takes to make it.

        Parameters
        ----------
        measure : bool
            Make up to two products of each kind that changes, and judge the others by the quicker one, of masters by
            the number of their frames; what was made is kept for later. Without it no seconds are told.
        """
        if measure:
            tried: dict[str, int] = {}
            for name in self.changed:
                kind = self._after.products[name].kind
                if tried.setdefault(kind, 0) < 2:
                    tried[kind] += 1
                    self._result(name)
        left = [item for name, item in self._after.products.items() if name in self.changed and name not in self._known]
        seconds = sum(self._estimate(item) for item in left) if measure else None
        return Cost(
            options=self.changes,
            changed=self.changed,
            kept=self.kept,
            unmade=tuple(item.name for item in left),
            stale=tuple(name for name in self._after.products if not self._is_old(name)),
            problems=self._after.problems,
            seconds=seconds,
            each={kind: min(found) for kind, found in self._seconds.items()},
        )

    def frame(self, name: str) -> Frame:
        """The calibrated frame of a raw file (``"d1059"``), made now if it changes.

        Raises
        ------
        OptionError
            If there is none of this name.
        """
        product: Frame = self._result(self._named(name, "frame")).product
        return product

    def catalog(self, name: str) -> SourceCatalog:
        """The catalogue of a raw file, made now if it changes.

        Raises
        ------
        OptionError
            If there is none of this name.
        """
        product: SourceCatalog = self._result(self._named(name, "catalog")).product
        return product

    def master(self, name: str) -> Master:
        """A master (``"bias-1024x1024"``), made now if it changes.

        Raises
        ------
        OptionError
            If there is none of this name.
        """
        product: Master = self._result(self._named(name, "master")).product
        return product

    def differences(self) -> tuple[Change, ...]:
        """What becomes of every product that changes, in words; makes all of them.

        Returns
        -------
        tuple of Change
            In the order in which the products need each other.
        """
        found = []
        for name in self.changed:
            result = self._result(name)
            old = self._old(name)
            renamed = self._renamed(self._after.products[name])
            found.append(change(name, result.how, old, result.product, renamed))
        return tuple(found)

    def write(self, folder: str | Path) -> Summary:
        """The whole night with the other options, in a folder of its own.

        What does not change is copied, byte for byte; the rest is made. The result is that of a reduction by the other
        recipe, which at the end looks at all of it and writes the summary: there every product counts as found.

        Parameters
        ----------
        folder : path
            New, or empty.

        Raises
        ------
        OptionError
            If it is the folder of the reduction itself, or holds something.
        """
        from larun.model.checks.driver import check_cheaply

        place = Path(folder)
        if place.resolve() == self.out.resolve() or (place.exists() and any(place.iterdir())):
            raise OptionError(f"{place}: is not empty: give a new folder, the other reduction is kept as it is")
        night, recipe = self._after.night, self._after.recipe
        verdicts = check_cheaply(night, recipe)
        for name in self._after.products:
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if self._is_kept(name):
                shutil.copyfile(self.out / name, target)
                continue
            try:
                product = self._result(name).product
            except LarunError:  # the reduction below meets it again, and tells
                continue
            product.write(target, recipe=recipe, verdicts=verdicts)
        return night.reduce(place, recipe=recipe, masters=self._after.others)

    # -- making ----------------------------------------------------------------------------------------------------

    def _named(self, name: str, kind: str) -> str:
        kinds = ("bias", "dark", "flat") if kind == "master" else (kind,)
        there = {Path(key).stem: key for key, item in self._after.products.items() if item.kind in kinds}
        if name in there:
            return there[name]
        if name in there.values():
            return name
        raise OptionError(f"{name!r}: there is no such {kind}; there are {', '.join(there) or 'none'}")

    def _is_old(self, name: str) -> bool:
        """Whether the product in the folder is what its recipe makes of these raw files."""
        old = self._before.products.get(name)
        there = self._records.get(name)
        return old is not None and there is not None and there.id == old.id

    def _is_kept(self, name: str) -> bool:
        there = self._records.get(name)
        return there is not None and there.id == self._after.products[name].id

    def _old(self, name: str) -> Any:
        """The product in the folder; None where it is not what its recipe makes."""
        return self._read(name) if self._is_old(name) else None

    def _read(self, name: str) -> Any:
        item = self._after.products[name]
        if item.kind == "catalog":
            return SourceCatalog.read(self.out / name)
        return (Frame if item.kind == "frame" else Master).read(self.out / name)

    def _result(self, name: str) -> _Result:
        if name in self._known and self._known[name].product is not None:
            return self._known[name]
        item = self._after.products[name]
        if self._is_kept(name):
            found = _Result(self._read(name), "kept", True)
        else:
            for one in self._needed(name):
                self._result(one)  # its time is its own
            began = time.perf_counter()
            found = self._taken_over(item) or self._made(item)
            self._seconds.setdefault(item.kind, []).append((time.perf_counter() - began) / item.frames)
        if found.product.provenance.id != item.id:
            raise FileError(f"{name}: its raw files or masters have changed while it was made: begin again")
        self._known[name] = found
        self._drop_frames(name)
        return found

    def _drop_frames(self, latest: str) -> None:
        """Of the frames the latest are held; of the others it stays known how they came about."""
        held = [
            name
            for name, found in self._known.items()
            if found.product is not None and name != latest and self._after.products[name].kind == "frame"
        ]
        for name in held[: max(0, len(held) + 1 - _HELD)]:
            self._known[name] = attrs.evolve(self._known[name], product=None)

    def _needed(self, name: str) -> tuple[str, ...]:
        item = self._after.products[name]
        return (self._frame_of(item),) if item.kind == "catalog" else item.masters

    def _frame_of(self, item: Planned) -> str:
        assert item.task is not None
        return str(item.task.frame_path.relative_to(item.task.out))

    def _taken_over(self, item: Planned) -> _Result | None:
        """The product in the folder with a new record, if all it is made from has the same values and the same is done.

        The sums over the noise of masters go in the order of their ids: that must not change either.
        """
        names = self._needed(item.name)
        if not self._is_old(item.name) or not all(self._is_old(one) and self._result(one).same for one in names):
            return None
        known = self._after.masters_of(item.name)
        if any(not self._is_old(one) for one in known) or not self._same_order(known):
            return None
        renamed = {self._before.products[one].id: self._result(one).product.provenance for one in (*known, *names)}
        record = _rebuilt(self._records[item.name], renamed, {})
        if record.id != item.id:  # something else is done to them
            return None
        old = self._read(item.name)
        return _Result(_with_record(old, record, renamed), "same values", True)

    def _same_order(self, names: Iterable[str]) -> bool:
        before = sorted(names, key=lambda name: self._before.products[name].id)
        return before == sorted(names, key=lambda name: self._after.products[name].id)

    def _made(self, item: Planned) -> _Result:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LarunWarning)  # they were told when the night was reduced
            product = self._compute(item)
        old = self._old(item.name)
        return _Result(product, "made", old is not None and not differences(old, product, renamed=self._renamed(item)))

    def _renamed(self, item: Planned) -> dict[str, str]:
        """Ids of the masters of a product in the folder, and of those with the other options."""
        return {
            self._before.products[one].id: self._after.products[one].id
            for one in self._after.masters_of(item.name)
            if one in self._before.products
        }

    def _compute(self, item: Planned) -> Any:
        recipe = self._after.recipe
        if item.kind == "catalog":
            return recipe.measure(self._result(self._frame_of(item)).product)
        masters = {self._after.products[name].id: self._result(name).product for name in item.masters}
        if item.group is not None:
            used = {
                role: None if one is None else masters[one.provenance.id]
                for role, one in item.arguments.items()
                if role in ("bias", "dark")
            }
            return grouping.combined(item.group, {**item.arguments, **used})[0]
        assert item.task is not None
        part, task = item.task.item.part, item.task
        raw = task.camera.read(task.raw, ext=part.ext, channel=part.channel, **recipe.keywords)
        return recipe.prepare(raw, Masters((*masters.values(), *masters_in(self._after.others))))

    def _estimate(self, item: Planned) -> float:
        known = self._seconds.get(item.kind)
        return math.nan if not known else min(known) * item.frames


def _rebuilt(old: Provenance, renamed: Mapping[str, Provenance], done: dict[str, Provenance]) -> Provenance:
    """A record with other inputs, and all else as it was: what was fitted to the same values is the same."""
    if old.id in renamed:
        return renamed[old.id]
    if old.id not in done:
        parents = tuple(Parent(one.role, _rebuilt(one.provenance, renamed, done)) for one in old.parents)
        done[old.id] = attrs.evolve(old, parents=parents) if parents else old
    return done[old.id]


def _with_record(old: Any, record: Provenance, renamed: Mapping[str, Provenance]) -> Any:
    if isinstance(old, SourceCatalog):
        return old._replace(provenance=record)
    shared = tuple(
        Shared(renamed[one.master].id if one.master in renamed else one.master, one.variance) for one in old.shared
    )
    return old._replace(provenance=record, shared=shared)
