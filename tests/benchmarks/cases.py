"""What a benchmark is: inputs on disk, the same work by larun and by a peer, and how the results are compared.

A case imports nothing heavy before it is run: larun and its peers are imported inside the functions that use them, each
in a process of its own.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Case", "Different", "Digest", "Side", "Size", "cases_of", "find_case", "require"]

#: What is kept of a result for the comparison: arrays by name.
Digest = Mapping[str, Any]


class Different(Exception):
    """The two sides did not do the same work."""


def require(condition: object, message: str) -> None:
    """Raise :class:`Different` with a message unless the condition holds."""
    if not condition:
        raise Different(message)


@dataclasses.dataclass(frozen=True)
class Size:
    """How much work: a square image of ``side`` pixels, or ``frames`` of them, with ``stars`` and cosmic-ray tracks."""

    side: int
    frames: int = 1
    stars: int = 0
    tracks: int = 0

    @property
    def pixels(self) -> int:
        """Pixels of all frames together."""
        return self.side**2 * self.frames

    def at(self, fraction: float) -> Size:
        """The same sky on a chip whose side is a fraction as long: stars and tracks for each pixel stay."""
        side = int(self.side * fraction)
        share = (side / self.side) ** 2
        stars, tracks = (round(n * share) for n in (self.stars, self.tracks))
        return dataclasses.replace(self, side=side, stars=stars, tracks=tracks)

    @property
    def text(self) -> str:
        """For people and as the name of a folder's content."""
        parts = [f"{self.frames} × {self.side}²" if self.frames > 1 else f"{self.side}²"]
        parts += [f"{self.stars} stars"] if self.stars else []
        parts += [f"{self.tracks} tracks"] if self.tracks else []
        return ", ".join(parts)

    @property
    def slug(self) -> str:
        """For file names."""
        return f"{self.side}-{self.frames}-{self.stars}-{self.tracks}"


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two that do the work.

    Parameters
    ----------
    name : str
        Of the package or program.
    setup : callable
        ``setup(folder) -> state``: reads the inputs; called afresh before every call of ``work``, and not timed.
    work : callable
        ``work(state) -> result``: what is timed; makes fresh outputs.
    digest : callable
        ``digest(result) -> arrays``: what the comparison needs; not timed.
    program : tuple of str
        Names of a program, of which one must be on the PATH; empty for packages.
    children : bool
        The work is a process of its own: its memory counts, not that of the process that waits for it; and one warm-up
        call is enough for all, since it can only fill caches on disk.
    """

    name: str
    setup: Callable[[Path], Any]
    work: Callable[[Any], Any]
    digest: Callable[[Any], Digest]
    program: tuple[str, ...] = ()
    children: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    """The same work by larun and by a peer.

    Parameters
    ----------
    topic, name : str
        What it is called; the peer's name follows it.
    make : callable
        ``make(folder, size)`` writes the inputs. Cases with the same function and size share them.
    larun, peer : Side
        The two sides.
    check : callable
        ``check(folder, larun_digest, peer_digest) -> str`` says what was compared and how well it agreed; raises
        :class:`Different`.
    full, quick : Size
        How much work.
    bar : float or None
        How many times faster larun is to be at the full size; None where nothing is asked.
    unit : str
        What growth is counted in: ``"pixel"`` or ``"star"``.
    slow : bool
        The peer takes more than 10 s a call at full size: it warms up on a small input, and three pairs are enough.
    grows : bool
        Growth is measured, at a quarter and half of the side.
    """

    topic: str
    name: str
    make: Callable[[Path, Size], None]
    larun: Side
    peer: Side
    check: Callable[[Path, Digest, Digest], str]
    full: Size
    quick: Size
    bar: float | None
    unit: str = "pixel"
    slow: bool = False
    grows: bool = True

    def size(self, name: str) -> Size:
        """The size called ``"full"`` or ``"quick"``."""
        return self.full if name == "full" else self.quick

    def units(self, size: Size) -> int:
        """Pixels or stars of a size."""
        return size.stars if self.unit == "star" else size.pixels


def cases_of(topic: str) -> tuple[Case, ...]:
    """The cases of a topic: a module of ``tests.benchmarks.topics``, or any other by its full name.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module.
    """
    found: tuple[Case, ...] = importlib.import_module(_module(topic)).CASES
    return found


def find_case(topic: str, name: str, peer: str) -> Case:
    """One case of a topic by its name and that of its peer."""
    return next(case for case in cases_of(topic) if (case.name, case.peer.name) == (name, peer))


def _module(topic: str) -> str:
    return topic if "." in topic else f"tests.benchmarks.topics.{topic}"
