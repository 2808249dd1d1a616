"""What is told of a pixel: its way from the raw counts, step by step, and why each flag is set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from larun import flags as fl

__all__ = ["Part", "Reason", "Story", "reason_of"]


@attrs.frozen(kw_only=True)
class Reason:
    """Why a flag is set.

    Parameters
    ----------
    flag : str
        Its name.
    step : str
        The operation that found it: of a defect the master's.
    cause : str
        In a word or two: ``raw counts``, ``no value``, ``offset``, ``excess``, ``sensitivity``, ``given mask``,
        ``cosmic ray``, ``replaced``, or ``step`` where no more is known than which step set it.
    text : str
        In a sentence.
    values : mapping
        The numbers in it.
    """

    flag: str
    step: str
    cause: str
    text: str
    values: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Part:
    """What one step did to the pixel.

    Parameters
    ----------
    step : str
        The operation; ``raw`` for the raw file.
    text : str
        In words.
    values : mapping
        The numbers in it, and where there are several frames a list of them.
    """

    step: str
    text: str
    values: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Story:
    """The story of a pixel.

    Parameters
    ----------
    x, y : int
        Column and row, from 0.
    value, error : float or None
        What it holds, and 1 σ; None where there is none.
    unit : str
        Of both.
    parts : tuple of Part
        From the raw file to the product.
    flags : tuple of Reason
        Every flag and why it is set.
    notes : tuple of str
        What speaks against the story: a value that the record does not give, steps that have another version by now.
    """

    x: int
    y: int
    value: float | None
    error: float | None
    unit: str
    parts: tuple[Part, ...]
    flags: tuple[Reason, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON."""
        return attrs.asdict(self)

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.4g}"
        value = "no value" if self.value is None else f"{self.value:.6g}{error} {self.unit}".rstrip()
        names = ", ".join(dict.fromkeys(reason.flag for reason in self.flags)) or "no flag"
        lines = [f"x = {self.x}, y = {self.y}: {value}; {names}"]
        lines += [f"  {part.step}: {part.text}" for part in self.parts]
        lines += [f"  {reason.flag} ({reason.step}): {reason.text}" for reason in self.flags]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def reason_of(flag: Any, step: str, cause: str, text: str, **values: float) -> Reason:
    """A reason for a flag by its bit."""
    (name,) = fl.names_of(int(flag))
    return Reason(flag=name, step=step, cause=cause, text=text, values=values)
